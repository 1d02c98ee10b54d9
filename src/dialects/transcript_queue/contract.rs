//! What the sockets' contract says of `/api/ws/jobs`: the messages that [`socket`](super::socket) tells, and its ping. Pure.

use serde_json::{Value, json};

use super::PHASES;
use crate::event::contract::{Channel, Message, whole};

/// The socket.
pub fn channel() -> Channel {
    let job = job();
    let changed =
        |name, summary| Message::json(name, summary, whole(json!({ "type": { "const": name }, "job": job })));
    let count = json!({ "type": "integer", "minimum": 0 });
    let stats = whole(json!({
        "pending": count,
        "in_progress": count,
        "completed": count,
        "failed": count,
        "cancelled": count,
        "paused": count,
        "total": count,
    }));
    let stats = whole(json!({ "type": { "const": "stats_updated" }, "stats": stats }));
    Channel {
        name: "transcript_queue",
        address: "/api/ws/jobs",
        about: "All transcripts that the caller may see, each time one of them changes; nothing is said at first.",
        parameters: &[],
        told: vec![
            changed("job_created", "A transcript was added to the queue."),
            changed("job_started", "A job is at work, or something of a job at work has changed."),
            changed("job_completed", "A job is done."),
            changed("job_failed", "A job has failed."),
            changed("job_updated", "A job waits, was paused or resumed, or was cancelled."),
            Message::json(
                "stats_updated",
                "How many jobs there are of each status; behind what changed it.",
                stats,
            ),
        ],
        asks: vec![(
            Message::word("ping", "Asks whether the server is there; any other text means nothing."),
            Message::word("pong", "It is."),
        )],
    }
}

/// As [`shape::job`](super::shape::job) writes it; what the phases say is their worker's.
fn job() -> Value {
    let text = json!({ "type": "string" });
    let maybe_text = json!({ "type": ["string", "null"] });
    // Without a zone, so it is no `date-time`.
    let pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$";
    let about = "UTC, without a zone.";
    let (time, maybe_time) = (
        json!({ "type": "string", "pattern": pattern, "description": about }),
        json!({ "type": ["string", "null"], "pattern": pattern, "description": about }),
    );
    let (cost, count) = (json!({ "type": "number" }), json!({ "type": "integer", "minimum": 0 }));
    let phase = whole(json!({
        "name": { "type": "string", "description": "Which it is; those of every job stand in `agent_phases`." },
        "status": { "enum": ["pending", "in_progress", "completed", "failed", "skipped"] },
        "started_at": maybe_text,
        "completed_at": maybe_text,
        "cost": cost,
        "tokens": count,
        "error_message": maybe_text,
        "output_path": maybe_text,
        "metadata": { "type": ["object", "null"] },
        "model": maybe_text,
        "tier": { "type": ["integer", "null"] },
        "tier_label": maybe_text,
        "tier_reason": maybe_text,
        "attempts": { "type": ["integer", "null"] },
        "retry_count": count,
        "previous_runs": { "type": ["array", "null"] },
    }));
    let mut outputs = whole(json!({
        "analysis": maybe_text,
        "formatted_transcript": maybe_text,
        "seo_metadata": maybe_text,
        "copy_edited": maybe_text,
        "qa_review": maybe_text,
        "timestamp_report": maybe_text,
        "recovery_analysis": maybe_text,
    }));
    outputs["type"] = json!(["object", "null"]);
    whole(json!({
        "id": { "type": "integer", "minimum": 1 },
        "project_path": text,
        "transcript_file": text,
        "project_name": maybe_text,
        "status": {
            "enum": ["pending", "in_progress", "completed", "failed", "cancelled", "paused", "investigating"],
        },
        "priority": { "type": "integer", "description": "Higher ones are worked on first." },
        "queued_at": time,
        "started_at": maybe_time,
        "completed_at": maybe_time,
        "estimated_cost": cost,
        "actual_cost": cost,
        "agent_phases": { "type": "array", "items": { "enum": PHASES } },
        "current_phase": maybe_text,
        "phases": { "type": "array", "items": phase },
        "retry_count": count,
        "max_retries": count,
        "error_message": maybe_text,
        "error_timestamp": maybe_time,
        "manifest_path": maybe_text,
        "logs_path": maybe_text,
        "last_heartbeat": maybe_time,
        "airtable_record_id": maybe_text,
        "airtable_url": maybe_text,
        "media_id": maybe_text,
        "outputs": outputs,
        "duration_minutes": { "type": ["number", "null"] },
        "word_count": { "type": ["integer", "null"] },
    }))
}
