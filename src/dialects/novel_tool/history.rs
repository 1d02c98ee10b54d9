//! The history: the caller's novels that have ended, looked at, tried again, done once more, removed.
//!
//! An entry has the number of its job.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use super::{
    KIND,
    answer::{Error, OwnEntry, Refusal},
    credits,
    jobs::{of, unpaid},
    results, shape, sheets,
};
use crate::{
    http::{Api, Caller, internal},
    job::{Code, Rejection, Status},
    store::{NewWork, Reserve, Retried, StoreError, WorkRecord},
};

const MAX_ENTRIES: i64 = 200;

#[derive(Deserialize, IntoParams)]
pub struct HistoryQuery {
    /// Entries at the most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
}

fn entry(novel: &WorkRecord, sheet: Option<String>) -> Value {
    let job = shape::job(novel, &Map::new());
    json!({
        "id": novel.number,
        "job_id": novel.number,
        "timestamp": job["completed_at"],
        "original_filename": job["original_filename"],
        "processed_sentences_count": shape::sentence_count(&novel.document),
        "spreadsheet_url": sheet,
        "error_message": job["error_message"],
        "failed_step": job["error_message"].is_string().then(|| failed_step(novel)),
        "error_code": job["error_code"],
        "error_details": null,
        "settings": job["processing_settings"],
        "exported_to_sheets": sheet.is_some(),
        "export_sheet_url": sheet,
    })
}

/// The page's word for where it went wrong.
fn failed_step(novel: &WorkRecord) -> &'static str {
    match novel.document.get("total_chunks") {
        Some(Value::Number(_)) => "normalize",
        _ if shape::is_given(&novel.document) => "extract",
        _ => "upload",
    }
}

/// The caller's jobs that have ended, newest first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "novel tool", params(HistoryQuery),
    responses((status = 200, body = Value), (status = 400, body = Error), (status = 503, body = Error)),
)]
pub async fn list(
    caller: Caller,
    State(api): State<Api>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let limit = query.limit.unwrap_or(MAX_ENTRIES);
    if !(1..=MAX_ENTRIES).contains(&limit) {
        return Err(Refusal::bad(format!("limit must be from 1 to {MAX_ENTRIES}")));
    }
    let ended = of(&api, &caller, vec![Status::Completed, Status::Failed], limit).await?;
    let sheets = sheets::addresses(&api, &ended).await?;
    let entries = ended.iter().map(|novel| entry(novel, sheets.get(&novel.record.job.id).cloned()));
    Ok(Json(entries.collect()))
}

/// An entry whole: its sentences, and what became of its chunks.
#[utoipa::path(
    get, path = "/api/v1/history/{id}", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses((status = 200, body = Value), (status = 404, body = Error), (status = 503, body = Error)),
)]
pub async fn show(State(api): State<Api>, OwnEntry(novel): OwnEntry) -> Result<Json<Value>, Refusal> {
    Ok(Json(whole(&api, &novel).await?))
}

async fn whole(api: &Api, novel: &WorkRecord) -> Result<Value, Refusal> {
    let sentences = sentences(api, novel).await?;
    let sheet = sheets::addresses(api, std::slice::from_ref(novel)).await?;
    let mut entry = entry(novel, sheet.into_values().next());
    let chunks = chunks(novel);
    entry["sentences"] = sentences.into();
    entry["chunk_ids"] = chunks.iter().map(|chunk| chunk["id"].clone()).collect();
    entry["chunks"] = chunks.into();
    entry["sentences_source"] = "snapshot".into();
    Ok(entry)
}

/// An entry as its chunks make it, which it always is here.
#[utoipa::path(
    post, path = "/api/v1/history/{id}/refresh", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses((status = 200, body = Value), (status = 404, body = Error), (status = 503, body = Error)),
)]
pub async fn refresh(State(api): State<Api>, OwnEntry(novel): OwnEntry) -> Result<Json<Value>, Refusal> {
    let entry = whole(&api, &novel).await?;
    Ok(Json(json!({
        "message": "The entry is as its chunks are.",
        "sentences_count": entry["processed_sentences_count"],
        "entry": entry,
    })))
}

/// What became of an entry's chunks.
#[utoipa::path(
    get, path = "/api/v1/history/{id}/chunks", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses((status = 200, body = Value), (status = 404, body = Error), (status = 503, body = Error)),
)]
pub async fn show_chunks(OwnEntry(novel): OwnEntry) -> Json<Value> {
    Json(json!({ "chunks": chunks(&novel) }))
}

/// All sentences of a job, in order.
pub async fn sentences(api: &Api, novel: &WorkRecord) -> Result<Vec<Value>, Refusal> {
    let stored = results::sentences(&api.store, &api.blobs, novel).await?;
    let mut job = shape::job(novel, &stored);
    let chunks = job["chunk_results"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let of = |mut chunk: Value| chunk["sentences"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(chunks.into_iter().flat_map(of).collect())
}

fn chunks(novel: &WorkRecord) -> Vec<Value> {
    let record = &novel.record;
    let chunks = shape::in_a_row(&novel.document).unwrap_or_default();
    let shown = chunks.into_iter().map(|(id, chunk)| {
        let (first, last) = (chunk["start_page"].as_i64(), chunk["end_page"].as_i64());
        json!({
            "id": id,
            "job_id": novel.number,
            "chunk_id": id,
            "start_page": first,
            "end_page": last,
            "page_count": first.zip(last).map(|(first, last)| last.saturating_sub(first).saturating_add(1)),
            "has_overlap": id > 0,
            "status": chunk["status"],
            "attempts": novel.attempt,
            "max_retries": novel.max_attempts,
            "last_error": chunk["error"],
            "last_error_code": chunk["error"].is_string().then_some("PROCESSING_FAILED"),
            "processed_at": record.ended_at.map(shape::time),
            "created_at": shape::time(record.created_at),
            "updated_at": shape::time(record.updated_at),
        })
    });
    shown.collect()
}

/// Removes a job that has ended, and its PDF.
#[utoipa::path(
    delete, path = "/api/v1/history/{id}", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses(
        (status = 200, body = Value), (status = 404, body = Error),
        (status = 409, body = Error, description = "It has not ended"), (status = 503, body = Error),
    ),
)]
pub async fn forget(State(api): State<Api>, OwnEntry(novel): OwnEntry) -> Result<Json<Value>, Refusal> {
    api.remove(novel.record.job.id).await?;
    Ok(Json(json!({ "message": "History entry deleted" })))
}

/// What is asked of an entry's job whose PDF is not here.
fn without_pdf(novel: &WorkRecord) -> Option<Refusal> {
    let why = "No PDF was uploaded for this entry; upload one as a new job.";
    (!shape::is_given(&novel.document)).then(|| Refusal::bad(why))
}

/// Tries a job that failed or was cancelled again, with its PDF and its settings; it reserves anew what it costs.
#[utoipa::path(
    post, path = "/api/v1/history/{id}/retry", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 402, body = Value),
        (status = 404, body = Error), (status = 409, body = Error, description = "It is tried again already"),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn retry(State(api): State<Api>, OwnEntry(novel): OwnEntry) -> Result<Json<Value>, Refusal> {
    if !matches!(novel.record.job.status, Status::Failed | Status::Cancelled) {
        return Err(Refusal::bad("Entry did not fail - nothing to retry"));
    }
    if let Some(refusal) = without_pdf(&novel) {
        return Err(refusal);
    }
    let new = match api.store.retry(novel.record.job.id).await {
        Ok(Retried::New(new)) => new,
        Ok(Retried::Same(_)) => novel.record.job.id,
        Err(error) => return Err(again(error)),
    };
    let new = api.store.work(new).await?;
    Ok(Json(json!({
        "message": "The PDF is worked on again.",
        "entry_id": novel.number,
        "settings": shape::job(&new, &Map::new())["processing_settings"],
        "job_id": new.number,
        "status": shape::status(new.record.job.status),
    })))
}

/// A retry that somebody else was faster with is no failure of the server's.
fn again(error: StoreError) -> Refusal {
    match internal(error) {
        Rejection { code: Code::NothingToRetry, .. } => Refusal::bad("Entry did not fail - nothing to retry"),
        rejection => unpaid(rejection.into()),
    }
}

/// Works on an entry's PDF once more, with the same settings, as a job of its own.
#[utoipa::path(
    post, path = "/api/v1/history/{id}/duplicate", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 402, body = Value),
        (status = 404, body = Error), (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn duplicate(State(api): State<Api>, OwnEntry(novel): OwnEntry) -> Result<Json<Value>, Refusal> {
    if let Some(refusal) = without_pdf(&novel) {
        return Err(refusal);
    }
    if !novel.record.job.status.is_ended() {
        let status = shape::status(novel.record.job.status);
        return Err(Refusal::bad(format!("The entry's job is {status}; wait for its end.")));
    }
    let kept = ["uploaded", "original_filename", "settings"].into_iter();
    let kept = kept.filter_map(|key| Some((key.to_owned(), novel.document.get(key)?.clone())));
    let mut document: Map<String, Value> = kept.collect();
    document.insert("current_step".into(), "Queued".into());
    let input = novel.input.as_object().cloned().unwrap_or_default();
    let estimated = input.get("estimated_credits").and_then(Value::as_i64);
    let new = NewWork {
        owner: novel.record.owner.clone(),
        input,
        document,
        same_files_as: Some(novel.record.job.id),
        reserve: estimated.map(|credits| Reserve { credits, month: credits::month() }),
        ..NewWork::new(KIND, novel.record.job.name.clone())
    };
    let made = api.store.submit_work(new, None).await.map_err(unpaid)?;
    let made = api.store.work(made.job).await?;
    let job = shape::job(&made, &Map::new());
    Ok(Json(json!({
        "message": "The PDF is worked on once more, with the same settings.",
        "settings": job["processing_settings"],
        "original_filename": job["original_filename"],
        "job_id": made.number,
        "status": job["status"],
        "estimated_credits": job["estimated_credits"],
    })))
}
