//! What webhooks are sent besides what happens: a ping to try one out, and what is to come once more; and what was given up.

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{OwnWebhook, Pinged};
use crate::{
    event::format_timestamp,
    http::{
        Api,
        error::{Error, ErrorBody, Json},
        jobs::bad,
    },
    job::{Code, JobId, Rejection},
    store::{Delivery, Resend, Webhook},
};

/// Given-up events that are listed at once.
const MAX_PAGE: i64 = 500;

/// What is to be sent again: a job's events between two seqs, everything between two positions, or what was given up.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResendBody {
    /// Whose events; a webhook of one job has its own.
    job_id: Option<String>,
    /// The first seq; 1 if it is not said.
    #[schema(minimum = 1)]
    from_seq: Option<i32>,
    /// The last seq; the job's last if it is not said.
    #[schema(minimum = 1)]
    to_seq: Option<i32>,
    /// The first position in the journal, instead of a job.
    #[schema(minimum = 1)]
    from_position: Option<i64>,
    /// The last position.
    #[schema(minimum = 1)]
    to_position: Option<i64>,
    /// What was given up, instead of a range.
    #[serde(default)]
    failed: bool,
}

#[derive(Deserialize, IntoParams)]
pub struct FailedQuery {
    /// The position of the last one that is known.
    #[param(minimum = 0)]
    after: Option<i64>,
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Sends a webhook a `webhook:ping` now, and tells what the receiver answered.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/ping", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 200, body = Value, description = "`{delivered, status, error}`"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "Too many are tried at once"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn ping(State(api): State<Api>, OwnWebhook(state): OwnWebhook) -> Result<Answer<Value>, Error> {
    let busy = || Rejection::new(Code::TooMany, "Many webhooks are being tried out; ask again in a moment.");
    let Pinged { status, error } = (api.webhooks.ping)(state.webhook).await.ok_or_else(busy)?;
    let error = Some(error).filter(|error| !error.is_empty());
    Ok(Answer(json!({ "delivered": error.is_none(), "status": status, "error": error })))
}

/// Lists what was given up, oldest first; ask again with `after=next`.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/failed", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id"), FailedQuery),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn failed(
    State(api): State<Api>,
    OwnWebhook(state): OwnWebhook,
    query: Result<Query<FailedQuery>, QueryRejection>,
) -> Result<Answer<Value>, Error> {
    let Query(query) = query?;
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(MAX_PAGE));
    if after < 0 || !(1..=MAX_PAGE).contains(&limit) {
        return Err(bad(format!("after must be from 0, limit from 1 to {MAX_PAGE}.")).into());
    }
    let failed = api.store.failed_deliveries(state.webhook.id, after, limit).await?;
    let next = failed.last().map_or(after, |last| last.position);
    let shown: Vec<Value> = failed
        .iter()
        .map(|delivery| {
            describe_failed((api.webhooks.message_id)(state.webhook.id, delivery.position), delivery)
        })
        .collect();
    Ok(Answer(json!({ "failed": shown, "next": next.to_string() })))
}

/// Sends a range of events again, or what was given up. Each keeps its message's id.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/resend", tag = "webhooks", request_body = ResendBody,
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 202, body = Value, description = "`{events, nextPosition}`: how many will be sent, and where to go on if there are more"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "As many events wait as may"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn resend(
    State(api): State<Api>,
    OwnWebhook(state): OwnWebhook,
    Json(body): Json<ResendBody>,
) -> Result<Response, Error> {
    let what = range(&state.webhook, &body)?;
    let resent = api.store.resend(state.webhook.id, what).await?;
    let next = resent.more_behind.map(|position| (position + 1).to_string());
    let body = Answer(json!({ "events": resent.events, "nextPosition": next }));
    Ok((StatusCode::ACCEPTED, body).into_response())
}

fn range(webhook: &Webhook, body: &ResendBody) -> Result<Resend, Rejection> {
    let of_job = body.job_id.is_some() || body.from_seq.is_some() || body.to_seq.is_some();
    let of_journal = body.from_position.is_some() || body.to_position.is_some();
    let job = match &body.job_id {
        Some(id) => Some(id.parse::<JobId>()?),
        None => webhook.job,
    };
    let positive =
        |at: i64| if at < 1 { Err(bad("Seqs and positions count from 1.".into())) } else { Ok(at) };
    match (body.failed, of_job, of_journal) {
        (true, false, false) => Ok(Resend::Failed),
        (false, false, true) => Ok(Resend::Positions {
            from: positive(body.from_position.unwrap_or(1))?,
            to: positive(body.to_position.unwrap_or(i64::MAX))?,
        }),
        (false, _, false) => {
            let job = job.ok_or_else(|| {
                bad("Say what is to be sent again: jobId (with fromSeq and toSeq), or fromPosition and toPosition, or failed: true.".into())
            })?;
            let (from, to) = (body.from_seq.unwrap_or(1), body.to_seq.unwrap_or(i32::MAX));
            positive(from.min(to).into())?;
            Ok(Resend::Job { job, from, to })
        }
        _ => Err(bad("Say one thing: a job with seqs, or positions, or failed: true.".into())),
    }
}

fn describe_failed(id: String, delivery: &Delivery) -> Value {
    json!({
        "id": id,
        "position": delivery.position.to_string(),
        "jobId": delivery.job,
        "seq": delivery.seq,
        "type": delivery.kind,
        "timestamp": format_timestamp(delivery.happened_at),
        "attempts": delivery.attempts,
        "firstAttemptAt": delivery.first_attempt_at.map(format_timestamp),
        "lastAttemptAt": delivery.last_attempt_at.map(format_timestamp),
        "lastStatus": delivery.last_status,
        "lastError": delivery.last_error,
    })
}
