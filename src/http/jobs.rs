//! `/v1/jobs`: submit, look, cancel.

use axum::{
    Json as Answer,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api,
    error::{Error, Json},
};
use crate::{
    event::format_timestamp,
    job::{Code, CrawlOptions, JobId, JobRequest, Plan, Priority, Rejection, Stage, Status},
    store::{JobRecord, Page},
};

/// Jobs and events of one answer at the most.
pub(super) const MAX_PAGE: i64 = 500;

/// The body of a submission.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submission {
    /// `labels` (the whole way, the default) or `crawl`.
    #[serde(default)]
    plan: Plan,
    shop_url: String,
    template_id: Option<String>,
    name: Option<String>,
    max_products: Option<u32>,
    follow_pagination: Option<bool>,
    match_threshold: Option<f64>,
    /// How the shop is crawled.
    #[serde(default)]
    crawl: CrawlOptions,
    /// From -100 to 100; higher ones are worked on first.
    #[serde(default)]
    priority: i64,
}

/// `POST /v1/jobs` → 201 with the job and its `Location`.
pub async fn submit(State(api): State<Api>, Json(body): Json<Submission>) -> Result<Response, Error> {
    let request = JobRequest {
        plan: body.plan,
        shop_url: body.shop_url,
        template_id: body.template_id.unwrap_or_else(|| "standard-label".into()),
        name: body.name,
        max_products: body.max_products,
        follow_pagination: body.follow_pagination,
        match_threshold: body.match_threshold,
        import_id: None,
        crawl: body.crawl,
        priority: Priority::new(body.priority)?,
    };
    let id = api.store.submit(request, &api.limits).await?;
    let job = Answer(describe(&api.store.job(id).await?));
    let location =
        HeaderValue::try_from(format!("/v1/jobs/{id}")).map_err(|_| Rejection::job_not_found(id))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], job).into_response())
}

#[derive(Deserialize)]
pub struct ListQuery {
    limit: Option<i64>,
    offset: Option<i64>,
    status: Option<String>,
}

/// `GET /v1/jobs?limit=50&offset=0&status=` → newest first.
pub async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) =
        query.map_err(|error| bad(format!("The query cannot be read: {}.", error.body_text())))?;
    let limit = query.limit.unwrap_or(50);
    let offset = query.offset.unwrap_or(0);
    if !(1..=MAX_PAGE).contains(&limit) || offset < 0 {
        return Err(bad(format!("limit must be from 1 to {MAX_PAGE}, offset from 0.")).into());
    }
    let status = match query.status.as_deref() {
        None | Some("") => None,
        Some(word) => {
            Some(Status::from_word(word).ok_or_else(|| bad(format!("There is no status {word:?}.")))?)
        }
    };
    let (jobs, total) = api.store.jobs(Page { limit, offset, status }).await?;
    let jobs: Vec<Value> = jobs.iter().map(describe).collect();
    Ok(Answer(json!({ "jobs": jobs, "total": total, "limit": limit, "offset": offset })).into_response())
}

/// `GET /v1/jobs/{id}`
pub async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Error> {
    let id: JobId = id.parse()?;
    Ok(Answer(describe(&api.store.job(id).await?)).into_response())
}

/// `POST /v1/jobs/{id}/cancel` → the job, cancelled.
pub async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Error> {
    let id: JobId = id.parse()?;
    api.store.cancel(id).await?;
    Ok(Answer(describe(&api.store.job(id).await?)).into_response())
}

pub(super) fn bad(message: String) -> Rejection {
    Rejection::new(Code::InvalidRequest, message)
}

/// A job as `/v1` shows it.
fn describe(record: &JobRecord) -> Value {
    let job = &record.job;
    let stages: serde_json::Map<String, Value> =
        Stage::ALL.iter().map(|stage| (stage.word().to_owned(), json!(job.tally(*stage)))).collect();
    json!({
        "id": job.id,
        "type": job.job_type,
        "name": job.name,
        "status": job.status.word(),
        "progress": job.progress,
        "stages": stages,
        "errors": job.errors,
        "error": record.error,
        "config": record.config,
        "results": record.results,
        "seq": record.last_seq,
        "createdAt": format_timestamp(record.created_at),
        "updatedAt": format_timestamp(record.updated_at),
        "startedAt": record.started_at.map(format_timestamp),
        "endedAt": record.ended_at.map(format_timestamp),
        "links": { "self": format!("/v1/jobs/{}", job.id), "events": format!("/v1/jobs/{}/events", job.id) },
    })
}
