//! `/v1/schedules`: jobs that begin by themselves, at times that a cron pattern names.

use axum::{
    Json as Answer,
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Api,
    caller::Caller,
    error::{Error, ErrorBody, Json, Named},
    jobs::{Submission, bad, created},
};
use crate::{
    event::format_timestamp,
    job::{Code, Overlap, Rejection},
    store::{NewSchedule, Schedule, ScheduleChange},
};

/// Longest name, in characters.
const MAX_NAME: usize = 200;
/// Coming runs that are shown.
const SHOWN_RUNS: usize = 5;

/// A schedule to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleBody {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Minute, hour, day of the month, month, day of the week; at least five minutes between two runs.
    #[schema(max_length = 100, example = "30 6 * * 1-5")]
    cron: String,
    /// Whose clock it goes by; `UTC` if it is not said.
    #[schema(max_length = 64, example = "Europe/Berlin")]
    timezone: Option<String>,
    /// What `POST /v1/jobs` takes.
    job: Submission,
    /// Whether it runs by itself; it does if nothing is said.
    enabled: Option<bool>,
    /// `skip` (the default) leaves a run out while an earlier one has not ended, with `queue` it waits for its end.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(skip|queue)$")]
    overlap: Overlap,
}

/// What is to be different about a schedule.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulePatch {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(max_length = 100)]
    cron: Option<String>,
    #[schema(max_length = 64)]
    timezone: Option<String>,
    job: Option<Submission>,
    enabled: Option<bool>,
    #[schema(value_type = Option<String>, pattern = "^(skip|queue)$")]
    overlap: Option<Overlap>,
}

/// Makes a schedule.
#[utoipa::path(
    post, path = "/v1/schedules", tag = "schedules", request_body = ScheduleBody,
    responses(
        (status = 201, body = Value, description = "The schedule; its address is in `Location`"),
        (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "There are too many already"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<ScheduleBody>,
) -> Result<Response, Error> {
    let new = NewSchedule {
        owner: caller.subject().to_owned(),
        name: name(body.name)?,
        cron: body.cron,
        timezone: body.timezone.unwrap_or_else(|| "UTC".into()),
        job: body.job.request()?,
        enabled: body.enabled.unwrap_or(true),
        overlap: body.overlap,
    };
    let made = api.store.create_schedule(new, &api.limits).await?;
    let location = format!("/v1/schedules/{}", made.id);
    let body = Answer(describe(&made));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// Lists the caller's schedules, oldest first; everybody's for an admin.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules",
    responses((status = 200, body = Value), (status = 503, body = ErrorBody)),
)]
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Answer<Value>, Error> {
    let schedules: Vec<Value> = api.store.schedules(caller.sees_only()).await?.iter().map(describe).collect();
    Ok(Answer(json!({ "total": schedules.len(), "schedules": schedules })))
}

/// Shows one schedule with its next runs.
#[utoipa::path(
    get, path = "/v1/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, body = Value), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn show(OwnSchedule(schedule): OwnSchedule) -> Result<Answer<Value>, Error> {
    Ok(Answer(describe(&schedule)))
}

/// Changes a schedule; what is not said stays as it is.
#[utoipa::path(
    patch, path = "/v1/schedules/{id}", tag = "schedules", request_body = SchedulePatch,
    params(("id" = String, Path, description = "The schedule's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    OwnSchedule(schedule): OwnSchedule,
    Json(patch): Json<SchedulePatch>,
) -> Result<Answer<Value>, Error> {
    let change = ScheduleChange {
        name: patch.name.map(name).transpose()?,
        cron: patch.cron,
        timezone: patch.timezone,
        job: patch.job.map(Submission::request).transpose()?,
        enabled: patch.enabled,
        overlap: patch.overlap,
    };
    Ok(Answer(describe(&api.store.change_schedule(schedule.id, change, &api.limits).await?)))
}

/// Removes a schedule; the jobs that it made stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn remove(State(api): State<Api>, OwnSchedule(schedule): OwnSchedule) -> Result<StatusCode, Error> {
    api.store.remove_schedule(schedule.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a schedule's job now; it waits for the end of an earlier run.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/run", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses(
        (status = 201, body = Value, description = "The job; its address is in `Location`"),
        (status = 400, body = ErrorBody, description = "The job is refused by now"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "Too many runs have not ended"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn run(State(api): State<Api>, OwnSchedule(schedule): OwnSchedule) -> Result<Response, Error> {
    let job = api.store.run_schedule(schedule.id, &api.limits).await?;
    created(&api, job).await
}

/// The schedule of a path's `{id}`, which is one that the caller may know of.
pub struct OwnSchedule(Schedule);

impl FromRequestParts<Api> for OwnSchedule {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<OwnSchedule, Error> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let Named(id) = Named::from_request_parts(parts, api).await?;
        let schedule = api.store.schedule(parse(&id)?).await?;
        match caller.sees(&schedule.owner) {
            true => Ok(OwnSchedule(schedule)),
            false => Err(Rejection::schedule_not_found(schedule.id).into()),
        }
    }
}

/// What is no id is no schedule's.
fn parse(id: &str) -> Result<Uuid, Rejection> {
    let unknown =
        || Rejection::new(Code::ScheduleNotFound, "There is no such schedule; GET /v1/schedules lists them.");
    Some(id).filter(|id| id.len() == 36).and_then(|id| id.parse().ok()).ok_or_else(unknown)
}

fn name(name: String) -> Result<String, Rejection> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(bad(format!(
            "name must be 1 to {MAX_NAME} characters, none of them a control character."
        )));
    }
    Ok(name.to_owned())
}

/// A schedule as `/v1` shows it.
fn describe(schedule: &Schedule) -> Value {
    let coming = match schedule.timing() {
        Ok(timing) if schedule.enabled => timing.after(Utc::now(), SHOWN_RUNS),
        _ => Vec::new(),
    };
    json!({
        "id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "job": schedule.job,
        "enabled": schedule.enabled,
        "overlap": schedule.overlap,
        "owner": schedule.owner,
        "nextRun": schedule.next_run.map(format_timestamp),
        "nextRuns": coming.into_iter().map(format_timestamp).collect::<Vec<_>>(),
        "lastRunAt": schedule.last_run_at.map(format_timestamp),
        "lastSkippedAt": schedule.last_skipped_at.map(format_timestamp),
        "lastError": schedule.last_error,
        "runs": schedule.runs,
        "createdAt": format_timestamp(schedule.created_at),
        "updatedAt": format_timestamp(schedule.updated_at),
        "links": { "self": format!("/v1/schedules/{}", schedule.id) },
    })
}
