//! `/v1/jobs`: submit, look, cancel, pause, resume, retry, prioritise, remove.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    caller::{Caller, OwnJob},
    error::{Error, ErrorBody, Json},
    once::{REPLAYED, once_key},
};
use crate::{
    event::format_timestamp,
    job::{
        Code, CrawlOptions, JobId, JobRequest, MatchOptions, Plan, Priority, Rejection, Stage, Status,
        work::check_kind,
    },
    store::{JobRecord, Of, Page, Retried, Slot},
};

/// Jobs and events of one answer at the most.
pub(super) const MAX_PAGE: i64 = 500;

/// The body of a submission.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submission {
    /// `labels` (the whole way, the default) or `crawl`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(labels|crawl)$")]
    plan: Plan,
    /// The shop's start page.
    #[schema(max_length = 2048, example = "https://shop.example.com/")]
    shop_url: String,
    /// The label template's id or name; `standard-label` if it is not said.
    #[schema(max_length = 200)]
    template_id: Option<String>,
    /// What people see; made of the shop's name if it is not said.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// How many products at the most.
    #[schema(minimum = 1)]
    max_products: Option<u32>,
    /// Whether the crawl follows "next page" links.
    follow_pagination: Option<bool>,
    /// Likeness below which a fuzzy match is none.
    #[schema(minimum = 0, maximum = 1)]
    match_threshold: Option<f64>,
    /// How readings are matched besides.
    #[serde(default)]
    matching: MatchOptions,
    /// How the shop is crawled.
    #[serde(default)]
    crawl: CrawlOptions,
    /// Higher ones are worked on first.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100, default = 0)]
    priority: i64,
}

impl Submission {
    /// The request in the words of the rules.
    pub(super) fn request(self) -> Result<JobRequest, Rejection> {
        Ok(JobRequest {
            plan: self.plan,
            shop_url: self.shop_url,
            template_id: self.template_id.unwrap_or_else(|| "standard-label".into()),
            name: self.name,
            max_products: self.max_products,
            follow_pagination: self.follow_pagination,
            match_threshold: self.match_threshold,
            matching: self.matching,
            import_id: None,
            crawl: self.crawl,
            priority: Priority::new(self.priority)?,
        })
    }
}

/// Starts a job.
///
/// With an `Idempotency-Key` (also `X-Idempotency-Key`) a request that is repeated is answered with the job that it made
/// before, and `Idempotency-Replayed: true`; another request under the same key is refused.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", request_body = Submission,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses(
        (status = 201, body = Value, description = "The job; its address is in `Location`"),
        (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The key was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn submit(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<Submission>,
) -> Result<Response, Error> {
    let once = once_key(&headers, &[&json!("POST /v1/jobs"), &json!(body)])?;
    let made = api.store.submit_once(body.request()?, caller.subject(), &api.limits, once.as_ref()).await?;
    let mut answer = created(&api, made.job).await?;
    if made.replayed {
        answer.headers_mut().insert(REPLAYED.0, REPLAYED.1);
    }
    Ok(answer)
}

/// 201 with a job and its `Location`.
pub(super) async fn created(api: &Api, id: JobId) -> Result<Response, Error> {
    let job = shown(api, id).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/jobs/{id}"))], job).into_response())
}

/// One job as it is now.
async fn shown(api: &Api, id: JobId) -> Result<Answer<Value>, Error> {
    let record = api.store.job(id).await?;
    let places = api.store.places(&[id]).await?;
    let mut shown = describe(&record, places.get(&id).copied());
    if record.kind.is_some() {
        let work = api.store.work(id).await?;
        shown["input"] = work.input;
        shown["document"] = work.document;
        shown["attempt"] = work.attempt.into();
        shown["maxAttempts"] = work.max_attempts.into();
        shown["worker"] = work.worker.into();
        shown["message"] = work.message.into();
    }
    Ok(Answer(shown))
}

#[derive(Deserialize, IntoParams)]
pub struct ListQuery {
    /// Jobs of the answer at the most; 50 if it is not said.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// Jobs that are left out from the newest on.
    #[param(minimum = 0)]
    offset: Option<i64>,
    /// Only jobs with this status, such as `paused`.
    status: Option<String>,
    /// Only jobs of this kind, which workers outside of this server do.
    #[param(max_length = 32)]
    kind: Option<String>,
}

/// Lists the caller's jobs, newest first; everybody's for an admin.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query?;
    let (limit, offset) = window(query.limit, query.offset)?;
    let status = match query.status.as_deref() {
        None | Some("") => None,
        Some(word) => {
            Some(Status::from_word(word).ok_or_else(|| bad(format!("There is no status {word:?}.")))?)
        }
    };
    let of = match query.kind.filter(|kind| !kind.is_empty()) {
        Some(kind) => {
            check_kind(&kind)?;
            Of::Kind(kind)
        }
        None => Of::All,
    };
    let (jobs, total) = api.store.jobs(caller.sees_only(), Page { limit, offset, status, of }).await?;
    let ids: Vec<JobId> = jobs.iter().map(|record| record.job.id).collect();
    let places = api.store.places(&ids).await?;
    let jobs: Vec<Value> =
        jobs.iter().map(|record| describe(record, places.get(&record.job.id).copied())).collect();
    Ok(Answer(json!({ "jobs": jobs, "total": total, "limit": limit, "offset": offset })).into_response())
}

/// Shows one job.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn show(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<Answer<Value>, Error> {
    shown(&api, id).await
}

/// What may be changed about a job.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobChange {
    /// Higher ones are worked on first.
    #[schema(minimum = -100, maximum = 100)]
    priority: i64,
}

/// Changes a job's priority.
#[utoipa::path(
    patch, path = "/v1/jobs/{id}", tag = "jobs", request_body = JobChange,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The job has ended"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    OwnJob(id): OwnJob,
    Json(change): Json<JobChange>,
) -> Result<Answer<Value>, Error> {
    api.store.prioritise(id, Priority::new(change.priority)?).await?;
    shown(&api, id).await
}

/// Removes a job that has ended, with its results and objects.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The job has not ended"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn remove(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<StatusCode, Error> {
    api.remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancels a job: what runs is stopped at once, and nothing follows.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The job has ended"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn cancel(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<Answer<Value>, Error> {
    api.store.cancel(id).await?;
    shown(&api, id).await
}

/// Pauses a job: items that run may end, no new ones begin.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pause", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The job has ended, or is paused"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn pause(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<Answer<Value>, Error> {
    api.store.pause(id).await?;
    shown(&api, id).await
}

/// Lets a paused job go on.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The job has ended, or is not paused"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn resume(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<Answer<Value>, Error> {
    api.store.resume(id).await?;
    shown(&api, id).await
}

/// Tries a job's failed items again, and only those.
///
/// A job that goes on tries them itself. For one that has ended a new job (`retryOf`) takes over what succeeded.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/retry", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "The job itself tries them"),
        (status = 201, body = Value, description = "A new job does; its address is in `Location`"),
        (status = 400, body = ErrorBody),
        (status = 402, body = ErrorBody, description = "Its owner has too few credits left"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Nothing has failed, or another job tries it again already"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn retry(State(api): State<Api>, OwnJob(id): OwnJob) -> Result<Response, Error> {
    match api.store.retry(id).await? {
        Retried::Same(_) => Ok(shown(&api, id).await?.into_response()),
        Retried::New(job) => created(&api, job).await,
    }
}

/// How many entries of a list are wanted, 50 if it is not said, and how many are left out before them.
///
/// # Errors
/// When it is none, more than 500, or a number below 0.
pub fn window(limit: Option<i64>, offset: Option<i64>) -> Result<(i64, i64), Rejection> {
    let (limit, offset) = (limit.unwrap_or(50), offset.unwrap_or(0));
    if !(1..=MAX_PAGE).contains(&limit) || offset < 0 {
        return Err(bad(format!("limit must be from 1 to {MAX_PAGE}, offset from 0.")));
    }
    Ok((limit, offset))
}

pub(super) fn bad(message: String) -> Rejection {
    Rejection::new(Code::InvalidRequest, message)
}

/// A job as `/v1` shows it; `place` is its place in its owner's queue.
pub(super) fn describe(record: &JobRecord, place: Option<i64>) -> Value {
    let job = &record.job;
    let stages: serde_json::Map<String, Value> =
        Stage::ALL.iter().map(|stage| (stage.word().to_owned(), json!(job.tally(*stage)))).collect();
    let waiting_for = match (job.status, record.slot) {
        (Status::Paused, _) => Some("somebody to resume it"),
        (_, Slot::Waits) => {
            Some("its turn: as many jobs of its owner as may be worked on at once are at work")
        }
        _ => None,
    };
    json!({
        "id": job.id,
        "type": job.job_type,
        "kind": record.kind,
        "number": record.number,
        "name": job.name,
        "status": job.status.word(),
        "paused": job.status == Status::Paused,
        "progress": job.progress,
        "step": job.step,
        "priority": job.priority,
        "owner": record.owner,
        "waitingFor": waiting_for,
        "queuePosition": place,
        "stages": stages,
        "errors": job.errors,
        "error": record.error,
        "config": record.config,
        "results": record.results,
        "retryOf": record.retry_of,
        "scheduleId": record.schedule_id,
        "seq": record.last_seq,
        "createdAt": format_timestamp(record.created_at),
        "updatedAt": format_timestamp(record.updated_at),
        "startedAt": record.started_at.map(format_timestamp),
        "endedAt": record.ended_at.map(format_timestamp),
        "links": { "self": format!("/v1/jobs/{}", job.id), "events": format!("/v1/jobs/{}/events", job.id) },
    })
}
