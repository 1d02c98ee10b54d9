//! Novels: confirmed, listed, shown, cancelled; the history of those that have ended; and how they are to be worked on.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    KIND,
    answer::{Body, Error, OwnNovel, Refusal},
    credits, shape,
};
use crate::{
    http::{Api, Caller, internal},
    job::{Code, Rejection, Status},
    store::{NewWork, Reserve, WorkFilter, WorkRecord, WorkSort},
};

/// A setting of the page, and what it is if nobody has set it.
type Setting = (&'static str, fn() -> Value);

/// Most that one job may reserve.
const MAX_CREDITS: i64 = 1_000_000;
const MAX_NAME: usize = 200;
/// What is kept of a page's settings.
const SETTINGS: [Setting; 6] = [
    ("sentence_length_limit", || json!(8)),
    ("gemini_model", || json!("balanced")),
    ("ignore_dialogue", || json!(false)),
    ("preserve_formatting", || json!(true)),
    ("fix_hyphenation", || json!(true)),
    ("min_sentence_length", || json!(3)),
];

/// What a novel's user agrees to.
#[derive(Deserialize, ToSchema)]
pub struct Agreed {
    #[schema(minimum = 1, maximum = 1_000_000)]
    estimated_credits: i64,
    /// `balanced`, `quality` or `speed`.
    model_preference: Option<String>,
    /// `original_filename`, `estimated_tokens`, `sentence_length_limit` and the other settings.
    #[schema(value_type = Option<Object>)]
    processing_settings: Option<Map<String, Value>>,
}

async fn confirmed(api: &Api, caller: &Caller, agreed: Agreed) -> Result<Response, Refusal> {
    let invalid = |field: &str, why: &str| {
        let body = json!({ "error": "Validation error", "details": { field: [why] } });
        Refusal::with(StatusCode::BAD_REQUEST, body)
    };
    if !(1..=MAX_CREDITS).contains(&agreed.estimated_credits) {
        return Err(invalid("estimated_credits", "Must be from 1 to 1000000."));
    }
    let (_, model) = credits::model(agreed.model_preference.as_deref())?;
    let settings = agreed.processing_settings.unwrap_or_default();
    let name = settings.get("original_filename").and_then(Value::as_str).unwrap_or("novel.pdf");
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let name = if name.trim().is_empty() { "novel.pdf".to_owned() } else { name.trim().to_owned() };
    let tokens = settings.get("estimated_tokens").and_then(Value::as_i64);
    let input = json!({
        "original_filename": name,
        "model": model.name,
        "pricing_rate": model.rate,
        "estimated_tokens": tokens,
        "estimated_credits": agreed.estimated_credits,
        "processing_settings": settings,
    });
    let Value::Object(input) = input else { return Err(Refusal::bad("processing_settings is no object")) };
    let reserve = Reserve { credits: agreed.estimated_credits, month: credits::month() };
    // It waits for its PDF.
    let new = NewWork {
        owner: caller.subject().to_owned(),
        input,
        is_paused: true,
        reserve: Some(reserve),
        ..NewWork::new(KIND, name)
    };
    let made = api.store.submit_work(new, None).await.map_err(|error| match internal(error) {
        Rejection { code: Code::InsufficientCredits, message } => {
            let body = json!({ "error": message, "error_code": "INSUFFICIENT_CREDITS", "reserved": false });
            Refusal::with(StatusCode::PAYMENT_REQUIRED, body)
        }
        rejection => rejection.into(),
    })?;
    let novel = api.store.work(made.job).await?;
    let body = json!({
        "job_id": novel.number,
        "status": "pending",
        "estimated_credits": agreed.estimated_credits,
        "reserved": true,
        "message": "Credits reserved; upload the PDF to begin.",
    });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Makes a job, and reserves what it will cost.
#[utoipa::path(
    post, path = "/api/v1/jobs/confirm", tag = "novel tool", request_body = Agreed,
    responses(
        (status = 201, body = Value), (status = 400, body = Error), (status = 402, body = Value),
        (status = 413, body = Error), (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn confirm(
    caller: Caller,
    State(api): State<Api>,
    Body(agreed): Body<Agreed>,
) -> Result<Response, Refusal> {
    confirmed(&api, &caller, agreed).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    post, path = "/api/v1/credits/jobs/confirm", tag = "novel tool", request_body = Agreed,
    responses(
        (status = 201, body = Value), (status = 400, body = Error), (status = 402, body = Value),
        (status = 413, body = Error), (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn confirm_later(
    caller: Caller,
    State(api): State<Api>,
    Body(agreed): Body<Agreed>,
) -> Result<Response, Refusal> {
    confirmed(&api, &caller, agreed).await
}

#[derive(Deserialize, IntoParams)]
pub struct ListQuery {
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `pending`, `processing`, `completed`, `failed` or `cancelled`.
    status: Option<String>,
}

async fn listed(
    api: &Api,
    caller: &Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let limit = query.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Refusal::bad("limit must be from 1 to 200"));
    }
    let statuses = match query.status.as_deref() {
        None | Some("") => Vec::new(),
        Some("pending") => vec![Status::Pending, Status::Paused],
        Some("processing") => vec![Status::Running],
        Some("completed") => vec![Status::Completed],
        Some("failed") => vec![Status::Failed],
        Some("cancelled") => vec![Status::Cancelled],
        Some(other) => return Err(Refusal::bad(format!("There is no status {other:?}"))),
    };
    let novels = of(api, caller, statuses, limit).await?;
    Ok(Json(novels.iter().map(shape::job).collect()))
}

async fn of(
    api: &Api,
    caller: &Caller,
    statuses: Vec<Status>,
    limit: i64,
) -> Result<Vec<WorkRecord>, Refusal> {
    let owner = Some(caller.subject().to_owned());
    let filter = WorkFilter { owner, statuses, newest_only: true, ..WorkFilter::default() };
    Ok(api.store.work_list(KIND, &filter, WorkSort::Newest, limit, 0).await?.0)
}

/// The caller's jobs, newest first.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "novel tool", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = Error), (status = 503, body = Error)),
)]
pub async fn list(
    caller: Caller,
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    listed(&api, &caller, query).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    get, path = "/api/v1/credits/jobs", tag = "novel tool", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = Error), (status = 503, body = Error)),
)]
pub async fn list_later(
    caller: Caller,
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    listed(&api, &caller, query).await
}

/// One job of the caller, with how far it is.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "novel tool", params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 403, body = Error), (status = 404, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn show(OwnNovel(novel): OwnNovel) -> Json<Value> {
    Json(shape::job(&novel))
}

/// The same, where later pages ask for it.
#[utoipa::path(
    get, path = "/api/v1/credits/jobs/{id}", tag = "novel tool",
    params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 403, body = Error), (status = 404, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn show_later(OwnNovel(novel): OwnNovel) -> Json<Value> {
    Json(shape::job(&novel))
}

async fn cancelled(api: &Api, novel: WorkRecord) -> Result<Json<Value>, Refusal> {
    match api.store.cancel(novel.record.job.id).await.map_err(internal) {
        Ok(_) => {
            let body = json!({
                "message": "Job cancelled successfully", "job_id": novel.number, "status": "cancelled",
            });
            Ok(Json(body))
        }
        Err(Rejection { code: Code::JobEnded, .. }) => {
            let now = api.store.work(novel.record.job.id).await?;
            let status = shape::status(now.record.job.status);
            Err(Refusal::bad(format!("Cannot cancel job with status {status}")))
        }
        Err(rejection) => Err(rejection.into()),
    }
}

/// Cancels a job; what it reserved is given back.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "novel tool",
    params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 403, body = Error),
        (status = 404, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn cancel(State(api): State<Api>, OwnNovel(novel): OwnNovel) -> Result<Json<Value>, Refusal> {
    cancelled(&api, novel).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    post, path = "/api/v1/credits/jobs/{id}/cancel", tag = "novel tool",
    params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 403, body = Error),
        (status = 404, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn cancel_later(State(api): State<Api>, OwnNovel(novel): OwnNovel) -> Result<Json<Value>, Refusal> {
    cancelled(&api, novel).await
}

/// The caller's jobs that have ended, newest first.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Error)),
)]
pub async fn history(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    let ended = of(&api, &caller, vec![Status::Completed, Status::Failed], 200).await?;
    let entries = ended.iter().map(|novel| {
        let job = shape::job(novel);
        let chunks = job["chunk_results"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sentences: usize =
            chunks.iter().filter_map(|chunk| chunk["sentences"].as_array()).map(Vec::len).sum();
        json!({
            "id": novel.number,
            "job_id": novel.number,
            "timestamp": job["completed_at"],
            "original_filename": job["original_filename"],
            "processed_sentences_count": sentences,
            "spreadsheet_url": null,
            "error_message": job["error_message"],
            "failed_step": job["error_message"].is_string().then(|| job["current_step"].clone()),
            "error_code": job["error_code"],
            "error_details": null,
            "settings": job["processing_settings"],
            "exported_to_sheets": false,
            "export_sheet_url": null,
        })
    });
    Ok(Json(entries.collect()))
}

/// Removes a job that has ended, and its PDF.
#[utoipa::path(
    delete, path = "/api/v1/history/{id}", tag = "novel tool",
    params(("id" = i64, Path, description = "The entry's id")),
    responses(
        (status = 200, body = Value), (status = 403, body = Error), (status = 404, body = Error),
        (status = 409, body = Error, description = "It has not ended"), (status = 503, body = Error),
    ),
)]
pub async fn forget(State(api): State<Api>, OwnNovel(novel): OwnNovel) -> Result<Json<Value>, Refusal> {
    api.remove(novel.record.job.id).await?;
    Ok(Json(json!({ "message": "History entry deleted" })))
}

async fn kept(api: &Api, caller: &Caller) -> Result<Value, Refusal> {
    let kept = api.store.page_settings(caller.subject(), KIND).await?.unwrap_or_default();
    let all = SETTINGS.iter().map(|(name, usual)| {
        let value = kept.get(*name).cloned().unwrap_or_else(usual);
        ((*name).to_owned(), value)
    });
    Ok(Value::Object(all.collect()))
}

/// How the caller's novels are to be worked on.
#[utoipa::path(
    get, path = "/api/v1/settings", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Error)),
)]
pub async fn settings(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    Ok(Json(kept(&api, &caller).await?))
}

async fn keep(api: &Api, caller: &Caller, changes: &Map<String, Value>) -> Result<Json<Value>, Refusal> {
    let mut all = kept(api, caller).await?;
    for (name, usual) in SETTINGS {
        let Some(value) = changes.get(name) else { continue };
        let fits = match (name, usual()) {
            ("sentence_length_limit", _) => value.as_i64().is_some_and(|words| (3..=50).contains(&words)),
            (_, Value::Number(_)) => value.as_i64().is_some_and(|words| (1..=50).contains(&words)),
            (_, Value::Bool(_)) => value.is_boolean(),
            _ => value.as_str().is_some_and(|text| text.len() <= 64 && !text.contains('\0')),
        };
        if !fits {
            return Err(Refusal::bad(format!("{name} cannot be {value}")));
        }
        all[name] = value.clone();
    }
    api.store.put_page_settings(caller.subject(), KIND, &all).await?;
    Ok(Json(json!({ "message": "Settings saved", "settings": all })))
}

/// Changes the settings.
#[utoipa::path(
    post, path = "/api/v1/settings", tag = "novel tool", request_body = Value,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn post_settings(
    caller: Caller,
    State(api): State<Api>,
    Body(changes): Body<Map<String, Value>>,
) -> Result<Json<Value>, Refusal> {
    keep(&api, &caller, &changes).await
}

/// The same, as pages of the first generation send it.
#[utoipa::path(
    put, path = "/api/v1/settings", tag = "novel tool", request_body = Value,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn put_settings(
    caller: Caller,
    State(api): State<Api>,
    Body(changes): Body<Map<String, Value>>,
) -> Result<Json<Value>, Refusal> {
    keep(&api, &caller, &changes).await
}
