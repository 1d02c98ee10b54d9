//! `/api/automation/jobs…`: list, look, cancel, pause, resume, retry, remove.

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{
    answer::{Id, Refusal, RefusalBody, success},
    poll::{self, Made},
};
use crate::{
    http::{Api, Caller},
    job::{Code, Job, Rejection},
    store::{JobRecord, Of, Page, Retried, StoreError},
};

/// Jobs of the list at the most, newest first: its page knows no "next".
const LISTED: i64 = 200;

/// The newest jobs.
#[utoipa::path(
    get, path = "/api/automation/jobs", tag = "label printer",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    let (records, total) = api
        .store
        .jobs(caller.sees_only(), Page { limit: LISTED, offset: 0, status: None, of: Of::Shops })
        .await?;
    let jobs: Vec<&Job> = records.iter().map(|record| &record.job).collect();
    let summaries = api.store.summaries(&jobs).await?;
    let lines: Vec<Value> =
        records.iter().zip(summaries).map(|(record, summary)| poll::line(record, summary)).collect();
    Ok(success(json!({ "count": lines.len(), "total": total, "jobs": lines })))
}

/// One job with everything that it has made: what pages poll every two seconds.
#[utoipa::path(
    get, path = "/api/automation/jobs/{id}", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn show(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    // The job first: what is made in the meantime may be seen early, but nothing that it counts is missing.
    let record = api.store.job(id).await?;
    let made = Made {
        screenshots: api.store.screenshots(id).await?,
        readings: api.store.ocr_results(id).await?,
        matches: api.store.matches(id).await?,
        labels: api.store.labels(id).await?,
    };
    let summary = summary(&api, &record).await?;
    let job = poll::whole(&record, summary, &made, |key| api.blobs.address(key))?;
    Ok(success(json!({ "job": job })))
}

/// How far a job is.
#[utoipa::path(
    get, path = "/api/automation/jobs/{id}/progress", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn progress(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let record = api.store.job(id).await?;
    let summary = summary(&api, &record).await?;
    let mut line = poll::line(&record, summary);
    Ok(success(json!({
        "status": line["status"].take(),
        "progress": line["progress"].take(),
        "summary": line["summary"].take(),
    })))
}

async fn summary(api: &Api, record: &JobRecord) -> Result<Value, StoreError> {
    Ok(api.store.summaries(&[&record.job]).await?.pop().unwrap_or_default())
}

/// Cancels a job.
#[utoipa::path(
    post, path = "/api/automation/jobs/{id}/cancel", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn cancel(State(api): State<Api>, id: Result<Id, Refusal>) -> Result<Response, Refusal> {
    let none = || Refusal::automation(StatusCode::NOT_FOUND, "Job not found or already completed");
    let Id(id) = id.map_err(|_| none())?;
    match api.store.cancel(id).await {
        Ok(_) => Ok(success(json!({ "message": "Job cancelled" }))),
        Err(StoreError::Rejected(_)) => Err(none()),
        Err(error) => Err(error.into()),
    }
}

/// Pauses a job: items that run may end, no new ones begin.
#[utoipa::path(
    post, path = "/api/automation/jobs/{id}/pause", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 409, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn pause(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let status = api.store.pause(id).await?.status.word();
    Ok(success(json!({ "message": "Job paused", "status": status })))
}

/// Lets a paused job go on.
#[utoipa::path(
    post, path = "/api/automation/jobs/{id}/resume", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 409, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn resume(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let status = api.store.resume(id).await?.status.word();
    Ok(success(json!({ "message": "Job resumed", "status": status })))
}

/// Tries a job's failed items again, and only those: `jobId` is the job itself, or if it has ended a new one that takes
/// over what succeeded.
#[utoipa::path(
    post, path = "/api/automation/jobs/{id}/retry", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 409, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn retry(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let (job, message) = match api.store.retry(id).await? {
        Retried::Same(_) => (id, "Failed items are tried again"),
        Retried::New(job) => (job, "Failed items are tried again by a new job"),
    };
    let record = api.store.job(job).await?;
    let line = poll::started(&record.job);
    Ok(success(json!({ "jobId": job, "job": line, "message": message })))
}

/// Removes a job, everything that speaks of it, and its objects. One that is still at work is cancelled first, so that
/// its workers stop and its watchers hear of its end.
#[utoipa::path(
    delete, path = "/api/automation/jobs/{id}", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn delete(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    match api.store.cancel(id).await {
        Ok(_) | Err(StoreError::Rejected(Rejection { code: Code::JobEnded, .. })) => {}
        Err(error) => return Err(error.into()),
    }
    api.remove(id).await?;
    Ok(success(json!({ "message": "Job deleted" })))
}

/// Counts over all jobs.
#[utoipa::path(
    get, path = "/api/automation/stats", tag = "label printer",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn stats(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    Ok(success(json!({ "stats": api.store.stats(caller.sees_only()).await? })))
}
