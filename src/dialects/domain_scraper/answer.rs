//! How this API says no: `{"detail": …}`.

use axum::{
    Json,
    extract::rejection::{JsonRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::{body_rejection, internal},
    job::{Code, Rejection},
    store::StoreError,
};

/// An answer that says no.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    detail: String,
}

/// What it looks like.
#[derive(Serialize, ToSchema)]
pub struct Detail {
    /// What is wrong.
    detail: String,
}

impl Refusal {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Refusal {
        Refusal { status, detail: detail.into() }
    }

    pub fn bad(detail: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn no_job() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "Job not found")
    }
}

impl From<Rejection> for Refusal {
    fn from(Rejection { code, message }: Rejection) -> Refusal {
        match code {
            Code::JobNotFound | Code::MalformedId => Refusal::no_job(),
            code => {
                let status = StatusCode::from_u16(code.http_status());
                Refusal::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), message)
            }
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        internal(error).into()
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Refusal {
        body_rejection(&rejection).into()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Refusal {
        Refusal::bad(format!("The query cannot be read: {}.", rejection.body_text()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(Detail { detail: self.detail })).into_response()
    }
}

/// A route that does not take this method.
pub async fn no_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
