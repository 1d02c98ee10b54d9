//! `/v1/work/{id}/artifacts`: files that come with a job, and files that its workers make.

use axum::{
    Json as Answer,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, header, request::Parts},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{visible, workable};
use crate::{
    event::format_timestamp,
    http::{
        Api, Caller, Kept,
        error::{Error, ErrorBody, Named},
        jobs::bad,
        objects_failed, serve_object,
    },
    job::{Code, Rejection, Scope, work::check_artifact_name},
    store::{BlobsError, StoredArtifact, WorkLease},
};

/// Bytes of a media type at the most.
const MAX_TYPE: usize = 100;
/// What is not said to be anything.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A file as answers show it; the address is good from now on.
pub(super) fn shown(api: &Api, stored: &StoredArtifact) -> Value {
    json!({
        "name": stored.name,
        "url": api.blobs.address(&stored.artifact.key),
        "contentType": stored.artifact.content_type,
        "size": stored.artifact.size,
        "sha256": stored.artifact.sha256,
        "storedAt": format_timestamp(stored.stored_at),
    })
}

/// The job and the file of a path.
pub struct Place {
    id: String,
    name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place, Error> {
        // What is no text at all names nothing.
        let named = Path::<(String, String)>::from_request_parts(parts, state).await;
        let (id, name) = named.map_or_else(|_| Default::default(), |Path(named)| named);
        Ok(Place { id, name })
    }
}

/// Lists the files of a job.
#[utoipa::path(
    get, path = "/v1/work/{id}/artifacts", tag = "work", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{artifacts: [{name, url, contentType, size, sha256, storedAt}]}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn list(caller: Caller, State(api): State<Api>, Named(id): Named) -> Result<Answer<Value>, Error> {
    let job = visible(&api, &caller, &id).await?;
    let stored = api.store.artifacts_of(job).await?;
    let artifacts: Vec<Value> = stored.iter().map(|stored| shown(&api, stored)).collect();
    Ok(Answer(json!({ "artifacts": artifacts })))
}

/// Fetches a file of a job: the newest of its name.
#[utoipa::path(
    get, path = "/v1/work/{id}/artifacts/{name}", tag = "work",
    params(("id" = String, Path, description = "The job's id"), ("name" = String, Path, description = "The file's name")),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "As the client knows it"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 416, description = "The range lies outside"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn get(
    caller: Caller,
    State(api): State<Api>,
    place: Place,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let job = visible(&api, &caller, &place.id).await?;
    check_artifact_name(&place.name)?;
    let stored = api.store.artifact_of(job, &place.name).await?;
    Ok(serve_object(&api, &stored.artifact, &headers, Kept::Asked).await?)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// As the claim gave it; left out by whoever submitted the job, who may store files until a worker has it.
    fence: Option<i64>,
}

/// Stores a file with a job: the request's body, of the type that `Content-Type` says.
///
/// A file that has the name already is replaced; its own address goes on to show it. `artifact:stored` tells of the file.
#[utoipa::path(
    put, path = "/v1/work/{id}/artifacts/{name}", tag = "work",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("name" = String, Path, description = "The file's name: letters, digits, -, _ and .", max_length = 150),
        PutQuery,
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Value, description = "`{name, url, contentType, size, sha256, storedAt}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Fenced, at work, or ended"),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "The job has as many files as it may"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn put(
    caller: Caller,
    State(api): State<Api>,
    place: Place,
    query: Result<Query<PutQuery>, QueryRejection>,
    request: Request,
) -> Result<Answer<Value>, Error> {
    let Query(query) = query?;
    let job = match query.fence {
        Some(_) => workable(&api, &caller, &place.id).await?,
        None => {
            caller.require(Scope::Write)?;
            visible(&api, &caller, &place.id).await?
        }
    };
    let lease = query.fence.map(|fence| WorkLease { job, fence });
    check_artifact_name(&place.name)?;
    let content_type = content_type(request.headers())?;
    api.store.may_store(job, lease.as_ref()).await?;
    let name = place.name;
    // A task of its own: a client that goes away leaves no half of an object.
    let stored = tokio::spawn({
        let (api, name) = (api.clone(), name.clone());
        let body = request.into_body().into_data_stream();
        async move {
            let key = StoredArtifact::key(job, &name);
            let put = api.blobs.put_stream(key, body, &content_type, api.max_artifact).await;
            let artifact = put.map_err(|error| Error::from(refused(&error)))?;
            let key = artifact.key.clone();
            let added = api.store.add_artifact(job, lease.as_ref(), &name, artifact, &api.blobs).await;
            if added.is_err()
                && let Err(error) = api.blobs.delete(&key).await
            {
                tracing::warn!(
                    error = error.cause(),
                    key,
                    "an object that is nobody's stays until its job is removed"
                );
            }
            Ok::<_, Error>(added?)
        }
    });
    match stored.await {
        Ok(stored) => stored?,
        Err(_) => {
            return Err(Rejection::new(
                Code::Internal,
                "The file could not be stored; the server's log tells why.",
            )
            .into());
        }
    }
    Ok(Answer(shown(&api, &api.store.artifact_of(job, &name).await?)))
}

fn refused(error: &BlobsError) -> Rejection {
    match error {
        BlobsError::TooLarge(most) => {
            Rejection::new(Code::TooLarge, format!("A file may have at most {most} bytes."))
        }
        BlobsError::Cut(_) => bad("The file did not arrive whole; send it again.".into()),
        other => objects_failed(other),
    }
}

/// The media type that a request says, without what a browser would not need.
fn content_type(headers: &HeaderMap) -> Result<String, Rejection> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(UNKNOWN_TYPE.to_owned()) };
    let given = given.to_str().ok().map(str::trim).filter(|given| given.len() <= MAX_TYPE);
    let sound = |given: &&str| {
        let essence = given.split(';').next().unwrap_or_default();
        let token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        essence.split_once('/').is_some_and(|(kind, of)| token(kind) && token(of.trim_end()))
    };
    match given.filter(sound) {
        Some(given) => Ok(given.to_owned()),
        None => Err(bad("Content-Type must be a media type such as text/plain.".into())),
    }
}
