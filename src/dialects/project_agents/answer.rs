//! How these routes say no: `{"detail": …}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::{internal, objects_failed},
    job::{Code, Rejection},
    store::{BlobsError, StoreError},
};

/// An answer that says no.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    detail: String,
}

/// What a refusal looks like, for the contract.
#[derive(Serialize, ToSchema)]
pub struct DetailBody {
    /// What is wrong.
    detail: String,
}

impl Refusal {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Refusal {
        Refusal { status, detail: detail.into() }
    }

    pub fn no_project() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "Project not found")
    }
}

impl From<Rejection> for Refusal {
    fn from(Rejection { code, message }: Rejection) -> Refusal {
        match code {
            Code::JobNotFound | Code::MalformedId => Refusal::no_project(),
            code => {
                let status =
                    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Refusal::new(status, message)
            }
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        internal(error).into()
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

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(DetailBody { detail: self.detail })).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
