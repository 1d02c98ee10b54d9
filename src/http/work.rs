//! `/v1/work`: how pipelines that run outside of this server, in any language, get jobs, report on them and end them.
//!
//! A worker claims a job, and with it a lease and a fence. It sends its fence with all that it reports, and a heartbeat
//! before the lease is over; the answers tell it when to pause or to stop. A worker whose lease was lost is told
//! `fenced`, and nothing of what it reports counts.

mod artifacts;
mod kinds;

use std::time::Duration;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Caller,
    error::{Error, ErrorBody, Json, Named},
    jobs::{bad, created, describe},
    once::{REPLAYED, fingerprint, once_key},
};
use crate::{
    job::{
        JobId, Priority, Rejection, Report, Scope,
        work::{MAX_DOCUMENT, MAX_REPORTS, check_error, check_object, check_request_id, check_text},
    },
    metrics::{Held, numbers},
    store::{Answered, ClaimedWork, NewWork, RequestKey, StoreError, StoredArtifact, WorkLease, WorkOutcome},
};

/// The longest wait that a claim may ask for, in seconds.
const MAX_WAIT: u64 = 30;
/// Kinds of one claim at the most.
const MAX_KINDS: usize = 50;
/// Characters of a worker's name.
const MAX_WORKER: usize = 100;

/// All routes for workers and for those who give them work.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(kinds::list))
        .routes(routes!(kinds::put))
        .routes(routes!(submit))
        .routes(routes!(claim))
        .routes(routes!(heartbeat))
        .routes(routes!(events))
        .routes(routes!(finish))
        .routes(routes!(fail))
        .routes(routes!(release))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::get, artifacts::put))
}

/// A job for workers.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkSubmission {
    /// Which workers do it; `GET /v1/kinds` lists the kinds.
    #[schema(max_length = 32, pattern = "^[a-z][a-z0-9-]{0,31}$", example = "transcript")]
    kind: String,
    /// What people see.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What is asked, as the kind's workers understand it; at most 256 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    input: Map<String, Value>,
    /// What its document holds before a worker has begun.
    #[serde(default)]
    #[schema(value_type = Object)]
    document: Map<String, Value>,
    /// Higher ones are worked on first.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100, default = 0)]
    priority: i64,
    /// Attempts before it fails; as many as its kind has if it is not said.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<i32>,
    /// Whether it waits until somebody resumes it, for files to be stored with it first.
    #[serde(default)]
    paused: bool,
}

/// Gives workers a job.
///
/// It waits for a worker of its kind to claim it. `Idempotency-Key` works as for `POST /v1/jobs`.
#[utoipa::path(
    post, path = "/v1/work", tag = "work", request_body = WorkSubmission,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses(
        (status = 201, body = Value, description = "The job; its address is in `Location`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "The key was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "As many jobs of the kind wait as may"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn submit(
    caller: Caller,
    State(api): State<Api>,
    headers: HeaderMap,
    Json(body): Json<WorkSubmission>,
) -> Result<Response, Error> {
    caller.require(Scope::Write)?;
    let once = once_key(&headers, &[&json!("POST /v1/work"), &json!(body)])?;
    api.store.work_kind(&body.kind).await?;
    let new = NewWork {
        owner: caller.subject().to_owned(),
        input: body.input,
        document: body.document,
        priority: Priority::new(body.priority)?,
        max_attempts: body.max_attempts,
        is_paused: body.paused,
        ..NewWork::new(body.kind, body.name)
    };
    let made = api.store.submit_work(new, once.as_ref()).await?;
    let mut answer = created(&api, made.job).await?;
    if made.replayed {
        answer.headers_mut().insert(REPLAYED.0, REPLAYED.1);
    }
    Ok(answer)
}

/// What a worker can do.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The kinds that it does.
    #[schema(min_items = 1, max_items = 50)]
    kinds: Vec<String>,
    /// What it calls itself, for people.
    #[schema(min_length = 1, max_length = 100)]
    worker: String,
    /// Seconds that it waits for a job, if there is none.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 30, default = 0)]
    wait: u64,
}

/// Claims a job: the next by priority and turn of any of the kinds.
///
/// The answer holds the job, its `input` and `document`, `attempt`, the addresses of its files (`artifacts`), `lease`
/// (seconds until it is given to another worker unless this one is heard of) and `fence`, which goes with all that is
/// reported. Without a job the answer is 204; with `wait` it comes later.
#[utoipa::path(
    post, path = "/v1/work/claim", tag = "work", request_body = Claim,
    responses(
        (status = 200, body = Value),
        (status = 204, description = "There is no job"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn claim(
    caller: Caller,
    State(api): State<Api>,
    Json(body): Json<Claim>,
) -> Result<Response, Error> {
    if body.kinds.is_empty() || body.kinds.len() > MAX_KINDS {
        return Err(bad(format!("kinds must name 1 to {MAX_KINDS} kinds.")).into());
    }
    if body.wait > MAX_WAIT {
        return Err(bad(format!("wait must be from 0 to {MAX_WAIT} seconds.")).into());
    }
    check_text("worker", Some(&body.worker), MAX_WORKER)?;
    if body.worker.trim().is_empty() {
        return Err(bad("worker must be a name, such as that of its machine.".into()).into());
    }
    let mut kinds = body.kinds;
    kinds.sort_unstable();
    kinds.dedup();
    for kind in &kinds {
        crate::job::work::check_kind(kind)?;
        caller.require_work(kind)?;
    }
    let place = api.live.place()?;
    let wait = Duration::from_secs(body.wait).min(api.live.longest_wait);
    let (mut sender, receiver) = oneshot::channel();
    // A task of its own: a client that goes away does not cut a claim in two, and a job that it no longer takes is
    // handed back.
    let (store, stop, worker) = (api.store.clone(), api.live.stop.clone(), body.worker.trim().to_owned());
    tokio::spawn(async move {
        let _place = place;
        let _counted = Held::of(&numbers().open_requests.with_label_values(&["long_poll"]));
        let enough = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
                () = sender.closed() => {}
            }
        };
        let claimed = store.await_work(&kinds, &worker, enough).await;
        if let Err(Ok(Some(ClaimedWork { lease, .. }))) = sender.send(claimed) {
            let released = store.report(&lease, None, Vec::new(), Some(WorkOutcome::Released)).await;
            if let Err(error) = released {
                tracing::debug!(%error, job = %lease.job, "a claim that nobody waits for could not be handed back");
            }
        }
    });
    let Ok(claimed) = receiver.await else {
        return Err(Rejection::new(
            crate::job::Code::Internal,
            "The claim failed; the server's log tells why.",
        )
        .into());
    };
    let Some(claimed) = claimed? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let artifacts = api.store.artifacts_of(claimed.lease.job).await?;
    Ok(Answer(told(&api, &claimed, &artifacts)).into_response())
}

/// A claim as its worker is told it.
fn told(api: &Api, claimed: &ClaimedWork, artifacts: &[StoredArtifact]) -> Value {
    let ClaimedWork { work, lease, lease_for } = claimed;
    json!({
        "job": describe(&work.record, None),
        "input": work.input,
        "document": work.document,
        "attempt": work.attempt,
        "maxAttempts": work.max_attempts,
        "lease": lease_for.as_secs(),
        "fence": lease.fence,
        "artifacts": artifacts.iter().map(|stored| self::artifacts::shown(api, stored)).collect::<Vec<_>>(),
    })
}

/// The job of a path, if it is one that the caller may work on.
async fn workable(api: &Api, caller: &Caller, id: &str) -> Result<JobId, Error> {
    caller.require(Scope::Work)?;
    let id: JobId = id.parse()?;
    match api.store.job(id).await?.kind {
        // Who does other kinds is not told of this one's jobs.
        Some(kind) if caller.require_work(&kind).is_ok() => Ok(id),
        _ => Err(Rejection::job_not_found(id).into()),
    }
}

/// A worker's sign of life.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// As the claim gave it.
    fence: i64,
}

/// Keeps a job for its worker, and tells the worker whether to go on.
///
/// `state` is `run`; `pause`: stop at the next good place and `release` the job; or `cancel`: the job has ended, drop it.
#[utoipa::path(
    post, path = "/v1/work/{id}/heartbeat", tag = "work", request_body = Heartbeat,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{state, lease}`; `lease` in seconds from now"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Another worker has the job, or none"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn heartbeat(
    caller: Caller,
    State(api): State<Api>,
    Named(id): Named,
    Json(body): Json<Heartbeat>,
) -> Result<Answer<Value>, Error> {
    let job = workable(&api, &caller, &id).await?;
    let (state, lease) = api.store.work_heartbeat(&WorkLease { job, fence: body.fence }).await?;
    Ok(Answer(json!({ "state": state, "lease": lease.as_secs() })))
}

/// What a worker reports.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Events {
    /// As the claim gave it.
    fence: i64,
    /// One that no other request of the job has; a request that is repeated is answered as before and does nothing.
    #[schema(min_length = 1, max_length = 100, pattern = "^[!-~]+$")]
    request_id: Option<String>,
    /// In order, all or none.
    #[schema(min_items = 1, max_items = 100, value_type = Vec<Object>)]
    events: Vec<Report>,
}

/// Writes what a worker reports of its job, in one transaction; it counts as a sign of life.
///
/// Each of `events` is one of
/// `{"type":"progress","progress":40,"step":"reading","message":"…"}` (with `step` it is kept, else only the newest
/// counts), `{"type":"log","level":"info","message":"…","source":"…"}`,
/// `{"type":"patch","patch":{…}}` (a merge patch of the job's document, RFC 7396) and
/// `{"type":"event","name":"prefix:name","data":{…}}` (an event of the worker's own, or `screenshot:`, `ocr:`, `match:` or
/// `label:` of the catalogue).
#[utoipa::path(
    post, path = "/v1/work/{id}/events", tag = "work", request_body = Events,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{ok, seq, status, state}`; `state` as a heartbeat tells it"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Fenced, ended, or the request's id was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn events(
    caller: Caller,
    State(api): State<Api>,
    Named(id): Named,
    Json(body): Json<Events>,
) -> Result<Response, Error> {
    let job = workable(&api, &caller, &id).await?;
    let request = request_key("events", body.request_id.as_deref(), &json!(body))?;
    report(&api, WorkLease { job, fence: body.fence }, request, body.events, None).await
}

/// A job's good end.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finish {
    /// As the claim gave it.
    fence: i64,
    /// As for `/events`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[!-~]+$")]
    request_id: Option<String>,
    /// What `job:completed` carries as `results`; at most 256 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    result: Map<String, Value>,
    /// Told before the end, in the same transaction; as for `/events`.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<Object>)]
    events: Vec<Report>,
}

/// Ends a job well.
#[utoipa::path(
    post, path = "/v1/work/{id}/finish", tag = "work", request_body = Finish,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{ok, seq, status, state}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Fenced, ended, or the request's id was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn finish(
    caller: Caller,
    State(api): State<Api>,
    Named(id): Named,
    Json(body): Json<Finish>,
) -> Result<Response, Error> {
    let job = workable(&api, &caller, &id).await?;
    check_object("result", &body.result, MAX_DOCUMENT)?;
    let request = request_key("finish", body.request_id.as_deref(), &json!(body))?;
    let outcome = WorkOutcome::Finished(body.result);
    report(&api, WorkLease { job, fence: body.fence }, request, body.events, Some(outcome)).await
}

/// Why an attempt came to nothing.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fail {
    /// As the claim gave it.
    fence: i64,
    /// As for `/events`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[!-~]+$")]
    request_id: Option<String>,
    /// A sentence for people.
    #[schema(min_length = 1, max_length = 2000)]
    error: String,
    /// Whether another attempt may help; one follows after a pause if the job has one left.
    #[serde(default = "yes")]
    #[schema(default = true)]
    retry: bool,
    /// Told before, in the same transaction; as for `/events`.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<Object>)]
    events: Vec<Report>,
}

fn yes() -> bool {
    true
}

/// Ends an attempt at a job without results, and the job if it was the last or no other can help.
#[utoipa::path(
    post, path = "/v1/work/{id}/fail", tag = "work", request_body = Fail,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{ok, seq, status, state}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Fenced, ended, or the request's id was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn fail(
    caller: Caller,
    State(api): State<Api>,
    Named(id): Named,
    Json(body): Json<Fail>,
) -> Result<Response, Error> {
    let job = workable(&api, &caller, &id).await?;
    check_error(&body.error)?;
    let request = request_key("fail", body.request_id.as_deref(), &json!(body))?;
    let outcome = WorkOutcome::Failed { error: body.error, retry: body.retry };
    report(&api, WorkLease { job, fence: body.fence }, request, body.events, Some(outcome)).await
}

/// A job that its worker hands back.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// As the claim gave it.
    fence: i64,
    /// As for `/events`.
    #[schema(min_length = 1, max_length = 100, pattern = "^[!-~]+$")]
    request_id: Option<String>,
    /// Told before, in the same transaction; as for `/events`.
    #[serde(default)]
    #[schema(max_items = 100, value_type = Vec<Object>)]
    events: Vec<Report>,
}

/// Hands a job back with its attempt unspent: at a pause, or when the worker stops.
#[utoipa::path(
    post, path = "/v1/work/{id}/release", tag = "work", request_body = Release,
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = Value, description = "`{ok, seq, status, state}`"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Fenced, ended, or the request's id was used for another request"),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn release(
    caller: Caller,
    State(api): State<Api>,
    Named(id): Named,
    Json(body): Json<Release>,
) -> Result<Response, Error> {
    let job = workable(&api, &caller, &id).await?;
    let request = request_key("release", body.request_id.as_deref(), &json!(body))?;
    report(&api, WorkLease { job, fence: body.fence }, request, body.events, Some(WorkOutcome::Released))
        .await
}

async fn report(
    api: &Api,
    lease: WorkLease,
    request: Option<RequestKey>,
    events: Vec<Report>,
    outcome: Option<WorkOutcome>,
) -> Result<Response, Error> {
    if events.len() > MAX_REPORTS || (events.is_empty() && outcome.is_none()) {
        return Err(bad(format!("events must be 1 to {MAX_REPORTS} reports.")).into());
    }
    let Answered { answer, replayed } = api.store.report(&lease, request.as_ref(), events, outcome).await?;
    let mut response = Answer(answer).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED.0, REPLAYED.1);
    }
    Ok(response)
}

/// The id of a request with the fingerprint of what it asks.
fn request_key(route: &str, id: Option<&str>, body: &Value) -> Result<Option<RequestKey>, Rejection> {
    let Some(id) = id else { return Ok(None) };
    check_request_id(id)?;
    Ok(Some(RequestKey { id: id.to_owned(), request: fingerprint(&[&json!(route), body]) }))
}

/// Whether the job of a path may be known to the caller: to its owner, and to who works on its kind.
async fn visible(api: &Api, caller: &Caller, id: &str) -> Result<JobId, Error> {
    let id: JobId = id.parse()?;
    let record = api.store.job(id).await?;
    let kind = record.kind.as_deref().ok_or_else(|| Rejection::job_not_found(id))?;
    let may_read = caller.require(Scope::Read).is_ok() && caller.sees(&record.owner);
    if may_read || caller.require_work(kind).is_ok() {
        return Ok(id);
    }
    Err(StoreError::from(Rejection::job_not_found(id)).into())
}
