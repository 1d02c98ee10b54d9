//! Refusals and failures as `/v1` words them: `{"error":{"code","message","retryable"}}`.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Path, Request,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    job::{Code, Rejection},
    store::{BlobsError, StoreError},
};

/// Seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// What a refusal looks like, for the contract.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What programs compare.
    code: String,
    /// A sentence that says what to do.
    message: String,
    /// Whether the same request may succeed later.
    retryable: bool,
}

/// An answer that says no.
#[derive(Debug)]
pub struct Error(Rejection);

impl Error {
    /// What was refused, for an API that words it in its own way.
    pub(super) fn rejection(self) -> Rejection {
        self.0
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Error(rejection)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error(internal(error))
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Error(query_rejection(&rejection))
    }
}

/// The status of a refusal.
pub fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// What a client may know of a failed call: its refusal, or for anything else an id that stands in the one log line
/// that tells the cause.
pub fn internal(error: StoreError) -> Rejection {
    match error {
        StoreError::Rejected(rejection) => rejection,
        StoreError::Unavailable(cause) => {
            let id = Uuid::new_v4();
            tracing::error!(%id, error = %cause, "the database did not answer");
            Rejection::new(
                Code::Unavailable,
                format!("The server cannot reach its database; try again. (id {id})"),
            )
        }
        other => {
            let id = Uuid::new_v4();
            tracing::error!(%id, error = %other, "a request failed");
            let message = format!("The server failed; its log tells why under the id {id}.");
            Rejection::new(Code::Internal, message)
        }
    }
}

/// What a client may know when the object store fails: an id that stands in the one log line that tells the cause.
pub fn objects_failed(error: &BlobsError) -> Rejection {
    let id = Uuid::new_v4();
    tracing::error!(%id, error = error.cause(), "the object store failed");
    Rejection::new(Code::Unavailable, format!("The object store does not answer; try again. (id {id})"))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Error(Rejection { code, message }) = self;
        let error = ErrorDetail { code: code.word().into(), message, retryable: code.is_retryable() };
        let mut response = (status(code), axum::Json(ErrorBody { error })).into_response();
        if code == Code::Unavailable {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        super::caller::challenge(code, response)
    }
}

/// A JSON body; a bad one is refused with a sentence that names the place.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Json(body)),
            Err(rejection) => Err(Error(body_rejection(&rejection))),
        }
    }
}

/// The `{id}` of a path, as a text that is read by whoever knows what it names.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Error> {
        // What is no text at all is no id either.
        let named = Path::<String>::from_request_parts(parts, state).await;
        Ok(Named(named.map_or_else(|_| String::new(), |Path(id)| id)))
    }
}

/// What is wrong with a JSON body.
pub fn body_rejection(rejection: &JsonRejection) -> Rejection {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => {
            Rejection::new(Code::InvalidRequest, "Send JSON with the header Content-Type: application/json.")
        }
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Rejection::new(Code::TooLarge, "The body is larger than this server takes.")
        }
        other => {
            Rejection::new(Code::InvalidRequest, format!("The body cannot be read: {}.", other.body_text()))
        }
    }
}

/// What is wrong with a query.
pub fn query_rejection(rejection: &QueryRejection) -> Rejection {
    Rejection::new(Code::InvalidRequest, format!("The query cannot be read: {}.", rejection.body_text()))
}

/// Any path that is no route.
pub async fn no_route(uri: Uri) -> Error {
    Error(Rejection::new(Code::RouteNotFound, format!("There is nothing at {}.", uri.path())))
}

/// A route that does not take this method.
pub async fn no_method(method: Method, uri: Uri) -> Error {
    Error(Rejection::new(Code::MethodNotAllowed, format!("{} does not take {method}.", uri.path())))
}
