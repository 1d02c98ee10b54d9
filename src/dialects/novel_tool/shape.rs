//! A job as the pages read it: one object, whole each time. Pure.

use serde_json::{Map, Value, json};

use crate::{event::Timestamp, job::Status, store::WorkRecord};

/// Longest error that pages show.
const MAX_ERROR: usize = 512;

/// Every key is there, null when nothing is known. `sentences` are those that the document does not hold itself.
pub fn job(novel: &WorkRecord, sentences: &Map<String, Value>) -> Value {
    let (record, input, document) = (&novel.record, &novel.input, &novel.document);
    let asked = |name: &str| input.get(name).cloned().unwrap_or_default();
    let shown = |name: &str| document.get(name).cloned().unwrap_or_default();
    // Of one that its owner ended, the results tell.
    let counted = |name: &str| {
        let told = record.results.as_ref().and_then(|results| results.get(name));
        document.get(name).or(told).cloned().unwrap_or_default()
    };
    let number = |name: &str| document.get(name).and_then(Value::as_i64).unwrap_or(0);
    let status = status(record.job.status);
    let (progress, step) = match status {
        "completed" => (100, "Completed".into()),
        "failed" => (100, "Failed".into()),
        _ => (i64::from(record.job.progress), shown("current_step")),
    };
    let error = record.error.as_ref().filter(|_| status == "failed");
    let seconds = record.started_at.zip(record.ended_at).map(|(from, to)| (to - from).num_seconds());
    let name = shown("original_filename");
    json!({
        "id": novel.number,
        "user_id": user_id(&record.owner),
        "history_id": has_entry(record.job.status).then_some(novel.number),
        "status": status,
        "original_filename": if name.is_null() { asked("original_filename") } else { name },
        "model": asked("model"),
        "estimated_tokens": asked("estimated_tokens"),
        "actual_tokens": counted("actual_tokens"),
        "estimated_credits": asked("estimated_credits"),
        "actual_credits": counted("actual_credits"),
        "pricing_version": "v1.0",
        "pricing_rate": asked("pricing_rate"),
        "processing_settings": asked("processing_settings"),
        "created_at": time(record.created_at),
        "started_at": record.started_at.map(time),
        "completed_at": record.ended_at.map(time),
        "error_message": error.map(|text| text.chars().take(MAX_ERROR).collect::<String>()),
        "error_code": error.map(|_| document.get("error_code").cloned().unwrap_or("PROCESSING_FAILED".into())),
        "celery_task_id": is_given(document).then_some(record.job.id),
        "progress_percent": progress,
        "current_step": step,
        "total_chunks": shown("total_chunks"),
        "processed_chunks": number("processed_chunks"),
        "chunk_results": chunks(document, sentences),
        "failed_chunks": failed(document),
        "retry_count": novel.retries,
        "max_retries": 3,
        "is_cancelled": status == "cancelled",
        "cancelled_at": record.ended_at.filter(|_| status == "cancelled").map(time),
        "cancelled_by": (status == "cancelled").then(|| user_id(&record.owner)),
        "processing_time_seconds": seconds,
        // No language model is asked.
        "gemini_api_calls": 0,
        "gemini_tokens_used": 0,
    })
}

/// Whether the history has an entry of a job.
pub fn has_entry(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Failed)
}

/// Whether its PDF has come.
pub fn is_given(document: &Value) -> bool {
    document.get("uploaded") == Some(&Value::Bool(true))
}

/// The frontend's word.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Pending | Status::Paused => "pending",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        _ => "processing",
    }
}

/// `2026-01-06T05:56:38.123456Z`.
pub fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A subject as the number that pages want: itself if it is one, else one that is made of it.
pub fn user_id(subject: &str) -> i64 {
    subject.parse().unwrap_or_else(|_| {
        let hash = subject.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (hash >> 33) as i64
    })
}

/// The chunks in a row, each with its sentences; null while those are not to be had.
fn chunks(document: &Value, sentences: &Map<String, Value>) -> Value {
    let Some(chunks) = in_a_row(document) else { return Value::Null };
    let mut all = Vec::with_capacity(chunks.len());
    for (id, chunk) in chunks {
        let mut chunk = chunk.clone();
        if chunk["status"] == "success" && !chunk["sentences"].is_array() {
            let Some(found) = sentences.get(&id.to_string()) else { return Value::Null };
            chunk["sentences"] = found.clone();
        }
        all.push(chunk);
    }
    Value::Array(all)
}

/// The document has chunks under their numbers, so that a patch can touch one; pages want them in a row.
pub fn in_a_row(document: &Value) -> Option<Vec<(i64, &Value)>> {
    let Some(Value::Object(chunks)) = document.get("chunk_results") else { return None };
    let mut sorted: Vec<(i64, &Value)> = chunks
        .iter()
        .filter(|(_, chunk)| chunk.is_object())
        .filter_map(|(id, chunk)| Some((id.parse().ok()?, chunk)))
        .collect();
    sorted.sort_unstable_by_key(|(id, _)| *id);
    Some(sorted)
}

/// How many sentences it came to.
pub fn sentence_count(document: &Value) -> i64 {
    let of = |chunk: &Value| match &chunk["sentences"] {
        Value::Array(sentences) => sentences.len() as i64,
        _ => chunk["sentence_count"].as_i64().unwrap_or(0),
    };
    in_a_row(document).unwrap_or_default().iter().map(|(_, chunk)| of(chunk)).sum()
}

fn failed(document: &Value) -> Value {
    let Some(chunks) = in_a_row(document) else { return Value::Null };
    let failed = chunks.iter().filter(|(_, chunk)| chunk["status"] == "failed");
    failed.map(|(id, _)| Value::from(*id)).collect()
}
