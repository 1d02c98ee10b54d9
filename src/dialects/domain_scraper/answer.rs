//! How this API says no: `{"detail": …}`.

use axum::{extract::rejection::QueryRejection, http::StatusCode};

use super::Scraper;
pub use crate::dialects::detail::Detail;
use crate::{
    dialects::detail::{self, Frontend},
    http::{query_rejection, status},
    job::{Code, Rejection},
};

/// What its pages know of a job that is not there.
const NO_JOB: &str = "Job not found";

/// An answer that says no.
pub type Refusal = detail::Refusal<Scraper>;

impl Frontend for Scraper {
    fn words(Rejection { code, message }: Rejection) -> (StatusCode, String) {
        match code {
            Code::JobNotFound | Code::MalformedId => (StatusCode::NOT_FOUND, NO_JOB.into()),
            code => (status(code), message),
        }
    }
}

impl Refusal {
    pub fn no_job() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, NO_JOB)
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        query_rejection(&rejection).into()
    }
}

/// A route that does not take this method.
pub async fn no_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
