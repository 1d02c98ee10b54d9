//! Refusals as the frontend reads them: `{detail}`.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{KIND, Transcripts};
pub use crate::dialects::detail::Detail;
use crate::{
    dialects::detail::{self, Frontend},
    http::{Api, Caller, status},
    job::{Code, Rejection},
    store::{StoreError, WorkRecord},
};

/// An answer that says no.
pub type Refusal = detail::Refusal<Transcripts>;

impl Frontend for Transcripts {
    fn words(Rejection { code, message }: Rejection) -> (StatusCode, String) {
        match code {
            Code::InvalidRequest => (StatusCode::UNPROCESSABLE_ENTITY, message),
            code => (status(code), message),
        }
    }
}

impl Refusal {
    /// What cannot be read.
    pub fn unreadable(detail: impl Into<Value>) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub fn no_job(number: i64) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, format!("Job {number} not found"))
    }
}

/// The number of a job in a path.
pub struct Number(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Number, Refusal> {
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let fields = path.map(|Path(fields)| fields).unwrap_or_default();
        let number = fields.iter().find(|(name, _)| name == "id").and_then(|(_, text)| text.parse().ok());
        number.map(Number).ok_or_else(|| Refusal::unreadable("A job's id is a whole number"))
    }
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Body(body)),
            Err(rejection) => Err(rejection.into()),
        }
    }
}

/// A query.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Asked(query)),
            Err(rejection) => {
                Err(Refusal::unreadable(format!("The query cannot be read: {}", rejection.body_text())))
            }
        }
    }
}

/// The job with this number, if the caller may know of it.
pub async fn find(api: &Api, caller: &Caller, number: i64) -> Result<WorkRecord, Refusal> {
    let found = match api.store.work_by_number(KIND, number).await {
        Ok(found) => found,
        Err(StoreError::Rejected(_)) => return Err(Refusal::no_job(number)),
        Err(error) => return Err(error.into()),
    };
    if caller.sees(&found.record.owner) { Ok(found) } else { Err(Refusal::no_job(number)) }
}
