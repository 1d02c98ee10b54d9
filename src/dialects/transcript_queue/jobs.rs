//! `/api/jobs/{id}`: one job, what is done to it, and what came out.

use axum::{
    Json,
    body::Body as Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    answer::{Body, Detail, Number, Refusal, find},
    shape,
};
use crate::{
    http::{Api, Caller, Kept, serve_object},
    job::{Code, Priority, Scope},
    store::{StoreError, WorkRecord},
};

/// What may be fetched of a job's results.
const OUTPUTS: [&str; 7] = [
    "analyst_output.md",
    "formatter_output.md",
    "seo_output.md",
    "manager_output.md",
    "copy_editor_output.md",
    "recovery_analysis.md",
    "manifest.json",
];
const MAX_TEXT: usize = 500;

/// Shows a job.
#[utoipa::path(
    get, path = "/api/jobs/{id}", tag = "transcript queue", params(("id" = i64, Path)),
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn show(
    caller: Caller,
    State(api): State<Api>,
    Number(id): Number,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    Ok(Json(shape::job(&find(&api, &caller, id).await?)))
}

/// What may be changed about a job; other fields are passed over.
#[derive(Deserialize, ToSchema)]
pub struct Change {
    /// Higher ones are worked on first.
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i64>,
    #[schema(max_length = 500)]
    media_id: Option<String>,
    #[schema(max_length = 500)]
    airtable_record_id: Option<String>,
    #[schema(max_length = 500)]
    airtable_url: Option<String>,
    /// Not changed here.
    #[schema(value_type = Option<String>)]
    status: Option<Value>,
}

/// Changes a job.
#[utoipa::path(
    patch, path = "/api/jobs/{id}", tag = "transcript queue", params(("id" = i64, Path)), request_body = Change,
    responses(
        (status = 200, body = Value),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 413, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn change(
    caller: Caller,
    State(api): State<Api>,
    Number(id): Number,
    Body(change): Body<Change>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let work = find(&api, &caller, id).await?;
    if change.status.is_some() {
        return Err(Refusal::bad("Use pause, resume, retry or cancel to change a job's status"));
    }
    let mut patch = Map::new();
    for (name, text) in [
        ("media_id", change.media_id),
        ("airtable_record_id", change.airtable_record_id),
        ("airtable_url", change.airtable_url),
    ] {
        let Some(text) = text else { continue };
        if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(Refusal::unreadable(format!(
                "{name} has at most {MAX_TEXT} characters, none of them control ones"
            )));
        }
        patch.insert(name.into(), text.into());
    }
    let job = work.record.job.id;
    if let Some(priority) = change.priority {
        let priority = Priority::new(priority)?;
        api.store.prioritise(job, priority).await.map_err(|error| cannot(error, "change", &work))?;
    }
    if !patch.is_empty() {
        api.store.patch_work(job, patch).await.map_err(|error| cannot(error, "change", &work))?;
    }
    Ok(Json(shape::job(&api.store.work(job).await?)))
}

/// A command that the job's status does not allow, in the frontend's words.
fn cannot(error: StoreError, what: &str, work: &WorkRecord) -> Refusal {
    match error {
        StoreError::Rejected(rejection)
            if matches!(
                rejection.code,
                Code::JobEnded
                    | Code::JobPaused
                    | Code::JobNotPaused
                    | Code::NothingToRetry
                    | Code::AlreadyRetried
            ) =>
        {
            let status = shape::status_of(work.record.job.status, &work.document);
            Refusal::bad(format!("Cannot {what} job in status {status}"))
        }
        other => other.into(),
    }
}

/// Makes the handler of a command: `POST /api/jobs/{id}/…`, which answers with the job.
macro_rules! command {
    ($(#[doc = $doc:literal])+ $name:ident, $path:literal, from [$($status:literal),+]) => {
        $(#[doc = $doc])+
        #[utoipa::path(
            post, path = $path, tag = "transcript queue", params(("id" = i64, Path)),
            responses(
                (status = 200, body = Value),
                (status = 400, body = Detail, description = "Not in this status"),
                (status = 401, body = Detail),
                (status = 403, body = Detail),
                (status = 404, body = Detail),
                (status = 422, body = Detail),
                (status = 503, body = Detail),
            ),
        )]
        pub async fn $name(
            caller: Caller,
            State(api): State<Api>,
            Number(id): Number,
        ) -> Result<Json<Value>, Refusal> {
            caller.require(Scope::Write)?;
            let work = find(&api, &caller, id).await?;
            let status = shape::status_of(work.record.job.status, &work.document);
            if ![$($status),+].contains(&status) {
                let what = stringify!($name);
                return Err(Refusal::bad(format!("Cannot {what} job in status {status}")));
            }
            let done = api.store.$name(work.record.job.id).await;
            done.map_err(|error| cannot(error, stringify!($name), &work))?;
            // By its number: what is tried again is another job with the same one.
            Ok(Json(shape::job(&find(&api, &caller, id).await?)))
        }
    };
}

command!(
    /// Pauses a job that waits or is at work.
    pause, "/api/jobs/{id}/pause", from ["pending", "in_progress", "investigating"]
);
command!(
    /// Lets a paused job go on.
    resume, "/api/jobs/{id}/resume", from ["paused"]
);
command!(
    /// Tries a job that failed again, from its beginning.
    retry, "/api/jobs/{id}/retry", from ["failed"]
);
command!(
    /// Cancels a job that has not ended.
    cancel, "/api/jobs/{id}/cancel", from ["pending", "in_progress", "paused", "investigating"]
);

/// A file that came out of a job, as text.
#[utoipa::path(
    get, path = "/api/jobs/{id}/outputs/{file}", tag = "transcript queue",
    params(("id" = i64, Path), ("file" = String, Path, description = "Such as `analyst_output.md`")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 304, description = "As the client knows it"),
        (status = 206, body = String, content_type = "text/plain"),
        (status = 400, body = Detail, description = "No file of this name is given out"),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 416, description = "The range lies outside"),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn output(
    caller: Caller,
    State(api): State<Api>,
    Number(id): Number,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    headers: HeaderMap,
) -> Result<Response<Bytes>, Refusal> {
    caller.require(Scope::Read)?;
    let work = find(&api, &caller, id).await?;
    let file = path.map(|Path((_, file))| file).unwrap_or_default();
    if !OUTPUTS.contains(&file.as_str()) {
        return Err(Refusal::bad(format!("File not allowed; there are {}", OUTPUTS.join(", "))));
    }
    let stored = match api.store.artifact_of(work.record.job.id, &file).await {
        Ok(stored) => stored,
        Err(StoreError::Rejected(_)) => {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("Output file {file} not found")));
        }
        Err(error) => return Err(error.into()),
    };
    let mut response = serve_object(&api, &stored.artifact, &headers, Kept::Asked).await?;
    if response.status().is_success() {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(response)
}
