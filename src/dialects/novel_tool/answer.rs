//! How this API says no: `{error}`, and about tokens `{msg}`.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::KIND;
use crate::{
    http::{Api, Caller, body_rejection, internal, status},
    job::{Code, Rejection},
    store::{StoreError, WorkRecord},
};

/// What a refusal looks like, for the contract.
#[derive(Serialize, ToSchema)]
pub struct Error {
    /// A sentence.
    error: Option<String>,
    /// The same, about tokens.
    msg: Option<String>,
}

/// An answer that says no.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, body: json!({ "error": error.into() }) }
    }

    pub fn bad(error: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }

    pub fn with(status: StatusCode, body: Value) -> Refusal {
        Refusal { status, body }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        Refusal::new(status(rejection.code), rejection.message)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        internal(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// A route that does not take this method.
pub async fn no_method(method: Method, uri: Uri) -> Refusal {
    let error = format!("{} does not take {method}.", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error)
}

/// How who may not come in hears it: pages renew their token at a 401.
pub fn refuse(rejection: &Rejection) -> Response {
    let (status, msg) = match rejection.code {
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "Missing Authorization Header"),
        Code::TokenExpired => (StatusCode::UNAUTHORIZED, "Token has expired"),
        Code::InvalidToken => (StatusCode::UNPROCESSABLE_ENTITY, &*rejection.message),
        code => (status(code), &*rejection.message),
    };
    (status, Json(json!({ "msg": msg }))).into_response()
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(body_rejection(&rejection).into()),
        }
    }
}

/// The job whose number a path names, which is the caller's.
pub struct OwnNovel(pub WorkRecord);

impl FromRequestParts<Api> for OwnNovel {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<OwnNovel, Refusal> {
        match named(parts, api).await? {
            Some((novel, true)) => Ok(OwnNovel(novel)),
            // The frontend knows this answer; a number tells nothing.
            Some((_, false)) => Err(Refusal::new(StatusCode::FORBIDDEN, "Unauthorized")),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "Job not found")),
        }
    }
}

/// The entry of the history that a path names: a job of the caller's.
pub struct OwnEntry(pub WorkRecord);

impl FromRequestParts<Api> for OwnEntry {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<OwnEntry, Refusal> {
        match named(parts, api).await? {
            Some((novel, true)) => Ok(OwnEntry(novel)),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "History entry not found")),
        }
    }
}

/// The job whose number a path names, and whether it is the caller's.
async fn named(parts: &mut Parts, api: &Api) -> Result<Option<(WorkRecord, bool)>, Refusal> {
    let Ok(caller) = Caller::from_request_parts(parts, api).await else { return Ok(None) };
    let path = Path::<String>::from_request_parts(parts, api).await;
    let Some(number) = path.ok().and_then(|Path(id)| id.parse().ok()) else { return Ok(None) };
    match api.store.work_by_number(KIND, number).await {
        Ok(novel) => {
            let is_own = caller.sees(&novel.record.owner);
            Ok(Some((novel, is_own)))
        }
        Err(StoreError::Rejected(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
