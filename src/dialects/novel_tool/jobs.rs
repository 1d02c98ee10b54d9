//! Novels: confirmed, listed, shown, cancelled, finalized.

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
    credits, results, shape,
};
use crate::{
    http::{Api, Caller, internal},
    job::{Code, Rejection, Status},
    store::{Final, NewWork, Reserve, StoreError, WorkFilter, WorkRecord, WorkSort},
};

/// Most that one job may reserve.
const MAX_CREDITS: i64 = 1_000_000;
const MAX_NAME: usize = 200;
/// Most tokens that a job can have cost.
const MAX_TOKENS: i64 = 100_000_000;
const MAX_WHY: usize = 500;

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

fn invalid(field: &str, why: &str) -> Refusal {
    let body = json!({ "error": "Invalid request data", "details": { field: [why] } });
    Refusal::with(StatusCode::BAD_REQUEST, body)
}

async fn confirmed(api: &Api, caller: &Caller, agreed: Agreed) -> Result<Response, Refusal> {
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
    let made = api.store.submit_work(new, None).await.map_err(unpaid)?;
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

/// Why a job was not made; a page shows of it that the credits do not suffice.
pub fn unpaid(error: StoreError) -> Refusal {
    match internal(error) {
        Rejection { code: Code::InsufficientCredits, message } => {
            let body = json!({ "error": message, "error_code": "INSUFFICIENT_CREDITS", "reserved": false });
            Refusal::with(StatusCode::PAYMENT_REQUIRED, body)
        }
        rejection => rejection.into(),
    }
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
    // Sentences that lie in files are for whoever looks at one job.
    Ok(Json(novels.iter().map(|novel| shape::job(novel, &Map::new())).collect()))
}

/// A caller's jobs, newest first.
pub async fn of(
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

async fn shown(api: &Api, novel: &WorkRecord) -> Result<Json<Value>, Refusal> {
    let sentences = results::sentences(&api.store, &api.blobs, novel).await?;
    let mut job = shape::job(novel, &sentences);
    if job["status"] == "processing" {
        let info = json!({ "status": job["current_step"], "progress": job["progress_percent"] });
        job["task_state"] = json!({ "state": "PROGRESS", "info": info });
    }
    Ok(Json(job))
}

/// One job of the caller, with how far it is.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "novel tool", params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 403, body = Error), (status = 404, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn show(State(api): State<Api>, OwnNovel(novel): OwnNovel) -> Result<Json<Value>, Refusal> {
    shown(&api, &novel).await
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
pub async fn show_later(State(api): State<Api>, OwnNovel(novel): OwnNovel) -> Result<Json<Value>, Refusal> {
    shown(&api, &novel).await
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

/// How a job ended, in its page's words.
#[derive(Deserialize, ToSchema)]
pub struct Ending {
    /// The number in the path, once more.
    job_id: Option<i64>,
    #[schema(minimum = 0, maximum = 100_000_000)]
    actual_tokens: i64,
    success: bool,
    error_message: Option<String>,
    error_code: Option<String>,
}

async fn finalized(api: &Api, novel: WorkRecord, ending: Ending) -> Result<Json<Value>, Refusal> {
    if !(0..=MAX_TOKENS).contains(&ending.actual_tokens) {
        return Err(invalid("actual_tokens", "Must be from 0 to 100000000."));
    }
    if ending.job_id.is_some() && ending.job_id != novel.number {
        return Err(invalid("job_id", "Must be the number in the path."));
    }
    let id = novel.record.job.id;
    let short = |text: Option<String>| {
        let text: String = text?.chars().filter(|c| !c.is_control()).take(MAX_WHY).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let outcome = match ending.success {
        true => {
            // What its worker counted counts.
            let tokens = novel.document.get("actual_tokens").and_then(Value::as_i64);
            let tokens = tokens.unwrap_or(ending.actual_tokens).clamp(0, MAX_TOKENS);
            let rate = novel.input.get("pricing_rate").and_then(Value::as_f64).unwrap_or(1.0);
            let credits = credits::cost(tokens, rate);
            let results = json!({ "actual_tokens": tokens, "actual_credits": credits });
            Final::Done { credits, results }
        }
        false => {
            if let (Some(code), false) = (short(ending.error_code), novel.record.job.status.is_ended()) {
                let patch = [("error_code".to_owned(), code.into())].into_iter().collect();
                api.store.patch_work(id, patch).await?;
            }
            Final::Failed { why: short(ending.error_message).unwrap_or_else(|| "Processing failed".into()) }
        }
    };
    let is_done = ending.success;
    let finalized = match api.store.finalize(id, outcome).await.map_err(internal) {
        Ok(finalized) => finalized,
        Err(Rejection { code: Code::JobEnded, .. }) => {
            let status = shape::status(api.store.work(id).await?.record.job.status);
            let error = format!("Cannot finalize job with status {status}");
            let body = json!({ "error": error, "error_code": "INVALID_JOB_STATUS" });
            return Err(Refusal::with(StatusCode::BAD_REQUEST, body));
        }
        Err(rejection) => return Err(rejection.into()),
    };
    let mut body = json!({
        "job_id": novel.number,
        "status": shape::status(finalized.status),
        "estimated_credits": finalized.reserved,
        "actual_credits": finalized.cost,
        "adjustment": finalized.adjustment,
        "refunded": !is_done,
        "message": if is_done { "The job is done and paid." } else { "The job failed; its credits are back." },
    });
    if !is_done {
        body["refund_amount"] = finalized.reserved.into();
    }
    Ok(Json(body))
}

/// Ends a job at its page's word, and settles what it cost; of one that was done already, what it cost.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/finalize", tag = "novel tool", request_body = Ending,
    params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 403, body = Error),
        (status = 404, body = Error), (status = 413, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn finalize(
    State(api): State<Api>,
    OwnNovel(novel): OwnNovel,
    Body(ending): Body<Ending>,
) -> Result<Json<Value>, Refusal> {
    finalized(&api, novel, ending).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    post, path = "/api/v1/credits/jobs/{id}/finalize", tag = "novel tool", request_body = Ending,
    params(("id" = i64, Path, description = "The job's number")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 403, body = Error),
        (status = 404, body = Error), (status = 413, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn finalize_later(
    State(api): State<Api>,
    OwnNovel(novel): OwnNovel,
    Body(ending): Body<Ending>,
) -> Result<Json<Value>, Refusal> {
    finalized(&api, novel, ending).await
}
