//! What the sockets' contract says of `/ws/job/{id}`: the status object, as [`board`](super::board) writes it. Pure.

use serde_json::{Value, json};

use crate::event::contract::{Channel, Message, whole};

/// The socket. Its clients say nothing.
pub fn channel() -> Channel {
    let error = whole(json!({ "error": { "const": "Job not found" } }));
    Channel {
        name: "domain_scraper",
        address: "/ws/job/{jobId}",
        about: "The whole status object of a job: at once, on change, every half second, and a last time before 1000 \
                closes behind the job's end.",
        parameters: &[("jobId", "The job's id.")],
        told: vec![
            Message::json("status", "How the job stands.", status()),
            Message::json("error", "There is no such job; 1000 closes.", error),
        ],
        asks: Vec::new(),
    }
}

fn status() -> Value {
    let text = json!({ "type": "string" });
    let (maybe_text, maybe_number) =
        (json!({ "type": ["string", "null"] }), json!({ "type": ["number", "null"] }));
    let count = json!({ "type": "integer", "minimum": 0 });
    let percent = json!({ "type": "integer", "minimum": 0, "maximum": 100 });
    let time = json!({ "type": "string", "format": "date-time" });
    let maybe_time = json!({ "type": ["string", "null"], "format": "date-time" });
    let id = json!({ "type": "string", "format": "uuid" });
    let profiles = json!({
        "type": "object",
        "additionalProperties": { "type": "object" },
        "description": "What was found, by domains.",
    });
    let line = whole(json!({
        "timestamp": { "type": "string", "pattern": r"^\d\d:\d\d:\d\d$" },
        "level": { "enum": ["info", "success", "error"] },
        "message": {
            "type": "string",
            "description": "Pages read `✅ <domain> processed successfully` and `❌ <domain> failed: <reason>`.",
        },
    }));
    let worker = whole(json!({
        "worker_id": count,
        "job_id": id,
        "domain": maybe_text,
        "progress": percent,
        "status": { "enum": ["idle", "processing", "complete", "error"] },
        "updated_at": time,
    }));
    let metrics = whole(json!({
        "start_time": maybe_time,
        "end_time": maybe_time,
        "duration": maybe_number,
        "domain_timings": {
            "type": "object",
            "additionalProperties": { "type": "number" },
            "description": "Seconds, by domains.",
        },
        "sequential_duration": { "type": "number" },
        "speedup": maybe_number,
        "workers": count,
    }));
    whole(json!({
        "job_id": id,
        "status": { "enum": ["pending", "processing", "waiting_approval", "completed"] },
        "total": count,
        "completed": count,
        "failed": count,
        "progress_percentage": percent,
        "current_domain": maybe_text,
        "logs": { "type": "array", "items": line },
        "pending_approvals": profiles,
        "approved_data": profiles,
        "rejected_domains": { "type": "array", "items": text },
        "pending_count": count,
        "approved_count": count,
        "rejected_count": count,
        "mode": { "enum": ["redis_parallel", "sequential"] },
        "workers": { "type": "array", "items": worker },
        "metrics": metrics,
    }))
}
