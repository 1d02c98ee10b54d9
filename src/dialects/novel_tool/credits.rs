//! Credits: what a novel will cost, what is left, and the ledger.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use chrono::{Datelike as _, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    answer::{Body, Error, Refusal},
    shape,
};
use crate::{
    http::{Api, Caller},
    store::OVERDRAFT,
};

/// Longest text whose cost is estimated, in bytes; the body's own limit is smaller where it is set so.
const MAX_TEXT: usize = 5_000_000;

/// A model with its price.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub name: &'static str,
    /// Credits for a thousand tokens.
    pub rate: f64,
}

/// The model that a preference stands for.
pub fn model(preference: Option<&str>) -> Result<(&str, Model), Refusal> {
    let preference = preference.unwrap_or("balanced");
    let model = match preference {
        "balanced" => Model { name: "gemini-2.5-flash", rate: 1.0 },
        "speed" => Model { name: "gemini-2.5-flash-lite", rate: 1.0 },
        "quality" => Model { name: "gemini-2.5-pro", rate: 5.0 },
        _ => return Err(Refusal::bad("model_preference must be balanced, quality or speed")),
    };
    Ok((preference, model))
}

/// What so many tokens cost.
pub fn cost(tokens: i64, rate: f64) -> i64 {
    ((tokens as f64 / 1000.0 * rate).ceil() as i64).max(1)
}

/// The month whose credits are spent now.
pub fn month() -> String {
    Utc::now().format("%Y-%m").to_string()
}

async fn shown(api: &Api, caller: &Caller) -> Result<Json<Value>, Refusal> {
    let now = Utc::now();
    let (year, next) = if now.month() == 12 { (now.year() + 1, 1) } else { (now.year(), now.month() + 1) };
    let reset = NaiveDate::from_ymd_opt(year, next, 1).and_then(|day| day.and_hms_opt(0, 0, 0));
    let month = month();
    let credits = api.store.credits(caller.subject(), &month).await?;
    Ok(Json(json!({
        "balance": credits.balance,
        "granted": credits.granted,
        "used": credits.used,
        "refunded": credits.refunded,
        "adjusted": credits.adjusted,
        "month": month,
        "next_reset": reset.map(|time| shape::time(time.and_utc())),
    })))
}

/// The caller's credits of this month.
#[utoipa::path(
    get, path = "/api/v1/me/credits", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Error)),
)]
pub async fn mine(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    shown(&api, &caller).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    get, path = "/api/v1/credits/me", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Error)),
)]
pub async fn mine_later(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    shown(&api, &caller).await
}

#[derive(Deserialize, IntoParams)]
pub struct LedgerQuery {
    /// `YYYY-MM`.
    #[param(max_length = 7, example = "2026-01")]
    month: Option<String>,
    /// Lines at the most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// What the caller was granted and spent, newest first.
#[utoipa::path(
    get, path = "/api/v1/credits/ledger", tag = "novel tool", params(LedgerQuery),
    responses((status = 200, body = Value), (status = 400, body = Error), (status = 503, body = Error)),
)]
pub async fn ledger(
    caller: Caller,
    State(api): State<Api>,
    query: Result<Query<LedgerQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let limit = query.limit.unwrap_or(100);
    let month = query.month.as_deref();
    let is_month = |text: &str| text.len() == 7 && text.chars().all(|c| c.is_ascii_digit() || c == '-');
    if !(1..=500).contains(&limit) || month.is_some_and(|month| !is_month(month)) {
        return Err(Refusal::bad("month is YYYY-MM, and limit from 1 to 500"));
    }
    let lines = api.store.ledger(caller.subject(), month, limit).await?;
    let lines = lines.iter().map(|line| {
        json!({
            "id": line.id,
            "user_id": shape::user_id(caller.subject()),
            "month": line.month,
            "delta_credits": line.delta,
            "reason": if line.reason == "job_adjust" { "job_final" } else { &line.reason },
            "job_id": line.number,
            "pricing_version": "v1.0",
            "description": line.description,
            "timestamp": shape::time(line.created_at),
        })
    });
    Ok(Json(lines.collect()))
}

/// A text whose cost is asked for.
#[derive(Deserialize, ToSchema)]
pub struct Wanted {
    text: String,
    /// `balanced`, `quality` or `speed`.
    model_preference: Option<String>,
}

async fn estimated(api: &Api, caller: &Caller, wanted: Wanted) -> Result<Json<Value>, Refusal> {
    if wanted.text.trim().is_empty() || wanted.text.len() > MAX_TEXT {
        return Err(Refusal::bad(format!("text must have 1 to {MAX_TEXT} bytes")));
    }
    let (preference, model) = model(wanted.model_preference.as_deref())?;
    let characters = wanted.text.chars().count() as f64;
    let tokens = ((characters / 4.0).ceil() * 1.10).ceil() as i64;
    let credits = cost(tokens, model.rate);
    let balance = api.store.credits(caller.subject(), &month()).await?.balance;
    let allowed = balance - credits >= -OVERDRAFT;
    let mut body = json!({
        "model": model.name,
        "model_preference": preference,
        "estimated_tokens": tokens,
        "estimated_credits": credits,
        "pricing_rate": model.rate,
        "pricing_version": "v1.0",
        "estimation_method": "heuristic",
        "current_balance": balance,
        "allowed": allowed,
    });
    if !allowed {
        body["message"] =
            format!("Insufficient credits: {credits} are needed and {balance} are left.").into();
    }
    Ok(Json(body))
}

/// What a text would cost.
#[utoipa::path(
    post, path = "/api/v1/estimate", tag = "novel tool", request_body = Wanted,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn estimate(
    caller: Caller,
    State(api): State<Api>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Value>, Refusal> {
    estimated(&api, &caller, wanted).await
}

/// The same, where later pages ask for it.
#[utoipa::path(
    post, path = "/api/v1/credits/estimate", tag = "novel tool", request_body = Wanted,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn estimate_later(
    caller: Caller,
    State(api): State<Api>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Value>, Refusal> {
    estimated(&api, &caller, wanted).await
}
