//! A job as the pages read it. Pure.

use serde_json::{Map, Value, json};

use super::PHASES;
use crate::{
    event::Timestamp,
    job::Status,
    store::{WorkFilter, WorkRecord},
};

/// Attempts after the first, as pages show it.
const MAX_RETRIES: i32 = 3;

/// Every key is there, null when nothing is known. What the pipeline shows stands in the document under the same names.
pub fn job(work: &WorkRecord) -> Value {
    let (record, document) = (&work.record, &work.document);
    let text = |name: &str| document.get(name).filter(|value| value.is_string()).cloned().unwrap_or_default();
    let number = |name: &str| document.get(name).and_then(Value::as_f64);
    let asked = |name: &str| work.input.get(name).and_then(Value::as_str).unwrap_or_default();
    let status = status_of(record.job.status, document);
    let project_path = match asked("project_path") {
        "" => format!("OUTPUT/{}", record.job.name),
        path => path.to_owned(),
    };
    let project_name = project_path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
    let failed = record.error.as_deref().filter(|_| status != "cancelled").or(work.last_error.as_deref());
    json!({
        "id": work.number,
        "project_path": project_path,
        "transcript_file": asked("transcript_file"),
        "project_name": project_name,
        "status": status,
        "priority": record.job.priority.number(),
        "queued_at": naive(record.created_at),
        "started_at": record.started_at.map(naive),
        "completed_at": record.ended_at.map(naive),
        "estimated_cost": number("estimated_cost").unwrap_or(0.0),
        "actual_cost": number("actual_cost").unwrap_or(0.0),
        "agent_phases": PHASES,
        "current_phase": current_phase(work),
        "phases": phases(document),
        "retry_count": work.retries + (work.attempt - 1).max(0),
        "max_retries": MAX_RETRIES,
        "error_message": failed,
        "error_timestamp": failed.map(|_| naive(record.ended_at.unwrap_or(record.updated_at))),
        "manifest_path": text("manifest_path"),
        "logs_path": text("logs_path"),
        "last_heartbeat": work.heartbeat_at.map(naive),
        "airtable_record_id": text("airtable_record_id"),
        "airtable_url": text("airtable_url"),
        "media_id": text("media_id"),
        "outputs": outputs(document),
        "duration_minutes": number("duration_minutes"),
        "word_count": document.get("word_count").and_then(Value::as_i64),
    })
}

/// `2026-01-06T05:56:38.123456`: the pages add the Z themselves.
pub fn naive(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// A time of the document, without its zone.
fn without_zone(value: &Value) -> Value {
    match value.as_str().map(chrono::DateTime::parse_from_rfc3339) {
        Some(Ok(at)) => naive(at.to_utc()).into(),
        _ => value.clone(),
    }
}

/// The word of the frontend for a status.
pub fn status_of(status: Status, document: &Value) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Paused => "paused",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        _ if document.get("investigating") == Some(&Value::Bool(true)) => "investigating",
        _ => "in_progress",
    }
}

/// The statuses that a word of the frontend stands for; `None` for a word that it does not have.
pub fn statuses(word: &str) -> Option<Vec<Status>> {
    Some(match word {
        "pending" => vec![Status::Pending],
        "in_progress" | "investigating" => vec![Status::Running],
        "paused" => vec![Status::Paused],
        "completed" => vec![Status::Completed],
        "failed" => vec![Status::Failed],
        "cancelled" => vec![Status::Cancelled],
        _ => return None,
    })
}

/// The jobs that the pages know: of a job that was tried again the newest.
pub fn shown(owner: Option<&str>, statuses: Vec<Status>) -> WorkFilter {
    WorkFilter { owner: owner.map(str::to_owned), statuses, search: None, newest_only: true }
}

/// How a phase stands before anything is known of it.
pub fn pending_phases() -> Map<String, Value> {
    let phases = PHASES.into_iter().map(|name| (name.to_owned(), json!({ "status": "pending" })));
    phases.collect()
}

fn phases(document: &Value) -> Vec<Value> {
    let known = document.get("phases").and_then(Value::as_object);
    let more = known.into_iter().flat_map(|known| known.keys().map(String::as_str));
    let more: Vec<&str> = more.filter(|name| !PHASES.contains(name)).collect();
    PHASES.into_iter().chain(more).map(|name| phase(name, known.and_then(|known| known.get(name)))).collect()
}

fn phase(name: &str, told: Option<&Value>) -> Value {
    let mut phase = json!({
        "name": name,
        "status": "pending",
        "started_at": null,
        "completed_at": null,
        "cost": 0.0,
        "tokens": 0,
        "error_message": null,
        "output_path": null,
        "metadata": null,
        "model": null,
        "tier": null,
        "tier_label": null,
        "tier_reason": null,
        "attempts": null,
        "retry_count": 0,
        "previous_runs": null,
    });
    if let (Some(phase), Some(told)) = (phase.as_object_mut(), told.and_then(Value::as_object)) {
        for (key, value) in told {
            // Nothing that the pages do not know, and a name is what it stands under.
            if let Some(known) = phase.get_mut(key).filter(|_| key != "name") {
                *known = if key.ends_with("_at") { without_zone(value) } else { value.clone() };
            }
        }
    }
    phase
}

fn current_phase(work: &WorkRecord) -> Value {
    match work.document.get("current_phase") {
        Some(Value::String(phase)) if !work.record.job.status.is_ended() => phase.clone().into(),
        _ => Value::Null,
    }
}

fn outputs(document: &Value) -> Value {
    let Some(told) = document.get("outputs").and_then(Value::as_object) else { return Value::Null };
    let mut outputs = Map::new();
    for name in [
        "analysis",
        "formatted_transcript",
        "seo_metadata",
        "copy_edited",
        "qa_review",
        "timestamp_report",
        "recovery_analysis",
    ] {
        outputs.insert(name.into(), told.get(name).cloned().unwrap_or_default());
    }
    outputs.into()
}

/// The seven counters.
pub fn stats(counts: &std::collections::HashMap<Status, i64>) -> Value {
    let of = |status: Status| counts.get(&status).copied().unwrap_or(0);
    json!({
        "pending": of(Status::Pending),
        "in_progress": of(Status::Running),
        "completed": of(Status::Completed),
        "failed": of(Status::Failed),
        "cancelled": of(Status::Cancelled),
        "paused": of(Status::Paused),
        "total": counts.values().sum::<i64>(),
    })
}
