//! `/v1/kinds`: what workers outside of this server do.

use std::time::Duration;

use axum::{Json as Answer, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    event::format_timestamp,
    http::{
        Api, Caller,
        error::{Error, ErrorBody, Json, Named},
        jobs::bad,
    },
    job::Scope,
    store::{KindChange, WorkKind},
};

/// A lease in seconds.
const LEASE: std::ops::RangeInclusive<u64> = 3..=86_400;

/// What a kind of work is to be. What is left out is as the server's settings say.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KindBody {
    /// What stands before the names of its workers' own events (`prefix:name`); the kind's name if it is not said.
    #[schema(max_length = 32, pattern = "^[a-z][a-z0-9-]{0,31}$")]
    prefix: Option<String>,
    /// A sentence for people.
    #[schema(max_length = 500)]
    description: String,
    /// Seconds that a job belongs to a worker that gives no sign of life.
    #[schema(minimum = 3, maximum = 86_400)]
    lease: Option<u64>,
    /// Attempts at one job before it fails.
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<i32>,
    /// Jobs that may wait for a worker.
    #[schema(minimum = 1, maximum = 10_000_000)]
    max_waiting: Option<i64>,
}

/// Registers a kind of work, or changes it.
#[utoipa::path(
    put, path = "/v1/kinds/{kind}", tag = "work", request_body = KindBody,
    params(("kind" = String, Path, description = "Small letters, digits and -, a letter first", max_length = 32)),
    responses(
        (status = 200, body = Value, description = "The kind as it is now"),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "Another kind's events have the prefix"),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "There are as many kinds as there may be"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn put(
    caller: Caller,
    State(api): State<Api>,
    Named(kind): Named,
    Json(body): Json<KindBody>,
) -> Result<Answer<Value>, Error> {
    caller.require_work(&kind)?;
    if body.lease.is_some_and(|lease| !LEASE.contains(&lease)) {
        return Err(bad(format!("lease must be from {} to {} seconds.", LEASE.start(), LEASE.end())).into());
    }
    if body.max_attempts.is_some_and(|attempts| !(1..=100).contains(&attempts)) {
        return Err(bad("maxAttempts must be from 1 to 100.".into()).into());
    }
    if body.max_waiting.is_some_and(|waiting| !(1..=10_000_000).contains(&waiting)) {
        return Err(bad("maxWaiting must be from 1 to 10000000.".into()).into());
    }
    let change = KindChange {
        prefix: body.prefix,
        description: body.description,
        lease: body.lease.map(Duration::from_secs),
        max_attempts: body.max_attempts,
        max_waiting: body.max_waiting,
    };
    Ok(Answer(shown(&api.store.put_work_kind(&kind, change).await?)))
}

/// Lists the kinds of work, and how many jobs of each wait and run.
#[utoipa::path(
    get, path = "/v1/kinds", tag = "work",
    responses(
        (status = 200, body = Value),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn list(caller: Caller, State(api): State<Api>) -> Result<Answer<Value>, Error> {
    if let Err(refused) = caller.require(Scope::Read) {
        caller.require(Scope::Work).map_err(|_| refused)?;
    }
    let kinds: Vec<Value> = api.store.work_kinds().await?.iter().map(shown).collect();
    Ok(Answer(json!({ "kinds": kinds })))
}

fn shown(kind: &WorkKind) -> Value {
    json!({
        "kind": kind.name,
        "prefix": kind.prefix,
        "description": kind.description,
        "lease": kind.lease.map(|lease| lease.as_secs()),
        "maxAttempts": kind.max_attempts,
        "maxWaiting": kind.max_waiting,
        "waiting": kind.waiting,
        "running": kind.running,
        "createdAt": format_timestamp(kind.created_at),
        "updatedAt": format_timestamp(kind.updated_at),
    })
}
