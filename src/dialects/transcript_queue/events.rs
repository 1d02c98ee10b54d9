//! `/api/jobs/{id}/events`: what happened to a job, in the frontend's words, made of the journal.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    answer::{Detail, Number, Refusal, find},
    shape::naive,
};
use crate::{
    http::{Api, Caller},
    job::Scope,
    store::Recorded,
};

/// Events of one answer at the most; the newest, for the page shows those.
const LISTED: i32 = 2000;

/// Lists what happened to a job, oldest first.
#[utoipa::path(
    get, path = "/api/jobs/{id}/events", tag = "transcript queue", params(("id" = i64, Path)),
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn list(
    caller: Caller,
    State(api): State<Api>,
    Number(id): Number,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let work = find(&api, &caller, id).await?;
    let record = &work.record;
    let after = (record.last_seq - LISTED).max(0);
    let events = api.store.events(record.job.id, after, i64::from(LISTED)).await?;
    let mut before = Value::Null;
    let mut listed = Vec::new();
    for event in &events {
        let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or_default();
        let status = payload["status"].as_str().unwrap_or_default().to_owned();
        for (word, data) in told(event, &payload, before.as_str().unwrap_or_default()) {
            listed.push(json!({
                "id": event.position,
                "job_id": id,
                "timestamp": naive(event.at),
                "event_type": word,
                "data": data,
            }));
        }
        if event.kind == "job:updated" {
            before = status.into();
        }
    }
    Ok(Json(listed.into()))
}

/// What an event is called; some say several things, others nothing that the page shows. `before` is the status that was
/// told last.
fn told(event: &Recorded, payload: &Value, before: &str) -> Vec<(&'static str, Value)> {
    match &*event.kind {
        "job:created" => vec![("job_queued", json!({ "project_name": payload["name"] }))],
        "job:completed" => vec![("job_completed", json!({ "duration_ms": payload["duration"] }))],
        "job:failed" if payload["cancelled"] == true => vec![("user_action", json!({ "action": "cancel" }))],
        "job:failed" => vec![("job_failed", json!({ "error": payload["error"] }))],
        "job:log" => match payload["level"].as_str() {
            Some("error") => vec![("system_error", json!({ "error": payload["message"] }))],
            _ => Vec::new(),
        },
        "job:updated" => match payload["status"].as_str().unwrap_or_default() {
            status if status == before => Vec::new(),
            "paused" => vec![("system_pause", json!({ "message": payload["message"] }))],
            _ if before == "paused" => vec![("system_resume", json!({ "message": payload["message"] }))],
            "running" => vec![("job_started", json!({}))],
            "pending" => vec![("system_error", json!({ "error": payload["message"] }))],
            _ => Vec::new(),
        },
        "job:patched" => patched(&payload["patch"]),
        _ => Vec::new(),
    }
}

/// What a change of the document says of its phases and costs.
fn patched(patch: &Value) -> Vec<(&'static str, Value)> {
    let mut told = Vec::new();
    for (name, phase) in patch["phases"].as_object().into_iter().flatten() {
        if let Some(model) = phase["model"].as_str() {
            let data = json!({ "phase": name, "model": model, "tier": phase["tier"], "reason": phase["tier_reason"] });
            told.push(("model_selected", data));
        }
        match phase["status"].as_str() {
            Some("in_progress") => told.push(("phase_started", json!({ "phase": name }))),
            Some("completed") => {
                let data = json!({ "phase": name, "cost": phase["cost"], "tokens": phase["tokens"] });
                told.push(("phase_completed", data));
            }
            Some("failed") => {
                told.push(("phase_failed", json!({ "phase": name, "error": phase["error_message"] })));
            }
            _ => {}
        }
    }
    if patch["actual_cost"].is_number() {
        told.push(("cost_update", json!({ "actual_cost": patch["actual_cost"] })));
    }
    told
}
