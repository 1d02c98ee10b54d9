//! How these routes read what they are asked: queries and JSON bodies, refused in the pages' words.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::answer::Refusal;
use crate::http::{body_rejection, query_rejection};

/// A bad request, with a sentence that says what to change.
pub fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}

/// The query of an address.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Params(query)),
            Err(rejection) => Err(bad(query_rejection(&rejection).message)),
        }
    }
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

/// The UUID at the end of a path; `None` for what is none, which names nothing.
pub struct MaybeId(pub Option<Uuid>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        Ok(MaybeId(id.ok().and_then(|Path(id)| id.parse().ok())))
    }
}

/// A text of a body within its limit, without spaces around it; `None` when it is empty.
///
/// # Errors
/// When it is longer, or holds the character zero, which the database does not take.
pub fn text(field: &str, text: Option<String>, most: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    if text.chars().count() > most {
        return Err(bad(format!("{field} has more than {most} characters.")));
    }
    if text.contains('\0') {
        return Err(bad(format!("{field} must not hold the character zero.")));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
