//! `/api/automation/jobs…`: list, look, cancel, remove.

use axum::{extract::State, http::StatusCode, response::Response};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    answer::{Id, Refusal, success},
    poll::{self, Made},
};
use crate::{
    http::Api,
    job::{Code, Job, Rejection},
    store::{Blobs, JobRecord, Page, StoreError},
};

/// Jobs of the list at the most, newest first: its page knows no "next".
const LISTED: i64 = 200;
/// Objects that are removed at once.
const REMOVALS: usize = 8;

/// `GET /api/automation/jobs`
pub async fn list(State(api): State<Api>) -> Result<Response, Refusal> {
    let (records, total) = api.store.jobs(Page { limit: LISTED, offset: 0, status: None }).await?;
    let jobs: Vec<&Job> = records.iter().map(|record| &record.job).collect();
    let summaries = api.store.summaries(&jobs).await?;
    let lines: Vec<Value> =
        records.iter().zip(summaries).map(|(record, summary)| poll::line(record, summary)).collect();
    Ok(success(json!({ "count": lines.len(), "total": total, "jobs": lines })))
}

/// `GET /api/automation/jobs/{id}`: what pages poll every two seconds.
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

/// `GET /api/automation/jobs/{id}/progress`
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

/// `POST /api/automation/jobs/{id}/cancel`
pub async fn cancel(State(api): State<Api>, id: Result<Id, Refusal>) -> Result<Response, Refusal> {
    let none = || Refusal::automation(StatusCode::NOT_FOUND, "Job not found or already completed");
    let Id(id) = id.map_err(|_| none())?;
    match api.store.cancel(id).await {
        Ok(_) => Ok(success(json!({ "message": "Job cancelled" }))),
        Err(StoreError::Rejected(_)) => Err(none()),
        Err(error) => Err(error.into()),
    }
}

/// `DELETE /api/automation/jobs/{id}`: the job, everything that speaks of it, and its objects. One that is still at
/// work is cancelled first, so that its workers stop and its watchers hear of its end.
pub async fn delete(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    match api.store.cancel(id).await {
        Ok(_) | Err(StoreError::Rejected(Rejection { code: Code::JobEnded, .. })) => {}
        Err(error) => return Err(error.into()),
    }
    let keys = api.store.delete(id).await?;
    // A task of its own: nobody knows the keys any more should the client hang up now.
    let _ = tokio::spawn(remove(api.blobs, keys)).await;
    Ok(success(json!({ "message": "Job deleted" })))
}

/// Removes objects whose rows are gone.
pub async fn remove(blobs: Blobs, keys: Vec<String>) {
    let blobs = &blobs;
    stream::iter(keys)
        .for_each_concurrent(REMOVALS, |key| async move {
            if let Err(error) = blobs.delete(&key).await {
                tracing::warn!(key, %error, "an object of a removed job could not be removed");
            }
        })
        .await;
}

/// `GET /api/automation/stats`
pub async fn stats(State(api): State<Api>) -> Result<Response, Refusal> {
    Ok(success(json!({ "stats": api.store.stats().await? })))
}
