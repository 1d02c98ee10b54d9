//! How these routes say no: `{"detail": …}`.

use axum::http::StatusCode;

use super::ProjectAgents;
pub use crate::dialects::detail::Detail;
use crate::{
    dialects::detail::{self, Frontend},
    http::{objects_failed, status},
    job::{Code, Rejection},
    store::BlobsError,
};

/// What its pages know of a project that is not there.
const NO_PROJECT: &str = "Project not found";

/// An answer that says no.
pub type Refusal = detail::Refusal<ProjectAgents>;

impl Frontend for ProjectAgents {
    const SAYS_WHEN: bool = true;

    fn words(Rejection { code, message }: Rejection) -> (StatusCode, String) {
        match code {
            Code::JobNotFound | Code::MalformedId => (StatusCode::NOT_FOUND, NO_PROJECT.into()),
            code => (status(code), message),
        }
    }
}

impl Refusal {
    pub fn no_project() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, NO_PROJECT)
    }
}

impl From<BlobsError> for Refusal {
    fn from(error: BlobsError) -> Refusal {
        match error {
            BlobsError::NotFound(_) => {
                Refusal::new(StatusCode::NOT_FOUND, "The project's files are gone; generate it again.")
            }
            error => objects_failed(&error).into(),
        }
    }
}
