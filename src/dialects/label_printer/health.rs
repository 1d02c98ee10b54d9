//! `/api/health`: one body that holds what each of the known frontends looks for.

use std::sync::atomic::Ordering;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde_json::json;

use super::answer::{Refusal, RefusalBody};
use crate::{event::format_timestamp, http::Api};

/// Whether the server is up, for every frontend that asks here.
#[utoipa::path(
    get, path = "/api/health", tag = "label printer",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn show(State(api): State<Api>) -> Result<Response, Refusal> {
    let unavailable = |why: &str| Refusal::plain(StatusCode::SERVICE_UNAVAILABLE, why);
    if !api.ready.load(Ordering::Relaxed) {
        return Err(unavailable("The server is stopping; try again."));
    }
    let pending =
        api.store.pending_tasks().await.map_err(|_| unavailable("The server cannot reach its database."))?;
    let body = json!({
        "success": true,
        "status": "healthy",
        "message": "Server is running",
        "timestamp": format_timestamp(Utc::now()),
        "service": "jobcast",
        // The queue lives in the database; there is no Redis to be healthy.
        "redis": null,
        "parallel_processing_available": true,
        "pending_tasks": pending,
    });
    Ok(Json(body).into_response())
}
