//! How frontends that read `{detail}` are told no: one shape, and the words of each for what the server refuses.

use std::{fmt::Debug, marker::PhantomData};

use axum::{
    Json,
    extract::rejection::JsonRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    http::{body_rejection, internal, status},
    job::Rejection,
    store::StoreError,
};

/// What a refusal looks like, for the contract.
#[derive(Serialize, ToSchema)]
pub struct Detail {
    /// A sentence, or an object that tells more.
    detail: Value,
}

/// A frontend that reads `{detail}`.
pub trait Frontend: Debug {
    /// Whether its 503 tells when to ask again.
    const SAYS_WHEN: bool = false;

    /// Its status and its sentence for what the server refuses.
    fn words(Rejection { code, message }: Rejection) -> (StatusCode, String) {
        (status(code), message)
    }
}

/// An answer that says no to the pages of a frontend.
#[derive(Debug)]
pub struct Refusal<F> {
    status: StatusCode,
    detail: Value,
    to: PhantomData<fn() -> F>,
}

impl<F> Refusal<F> {
    pub fn new(status: StatusCode, detail: impl Into<Value>) -> Refusal<F> {
        Refusal { status, detail: detail.into(), to: PhantomData }
    }

    pub fn bad(detail: impl Into<Value>) -> Refusal<F> {
        Refusal::new(StatusCode::BAD_REQUEST, detail)
    }
}

impl<F: Frontend> From<Rejection> for Refusal<F> {
    fn from(rejection: Rejection) -> Refusal<F> {
        let (status, sentence) = F::words(rejection);
        Refusal::new(status, sentence)
    }
}

impl<F: Frontend> From<StoreError> for Refusal<F> {
    fn from(error: StoreError) -> Refusal<F> {
        internal(error).into()
    }
}

impl<F: Frontend> From<JsonRejection> for Refusal<F> {
    fn from(rejection: JsonRejection) -> Refusal<F> {
        body_rejection(&rejection).into()
    }
}

/// The answer itself.
pub fn answer(status: StatusCode, detail: impl Into<Value>) -> Response {
    (status, Json(Detail { detail: detail.into() })).into_response()
}

impl<F: Frontend> IntoResponse for Refusal<F> {
    fn into_response(self) -> Response {
        let mut response = answer(self.status, self.detail);
        if F::SAYS_WHEN && self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
