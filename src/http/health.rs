//! Whether the process lives, and whether it should be sent work.

use std::sync::atomic::Ordering;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde_json::json;

use super::Api;

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = Value)))]
pub async fn live() -> impl IntoResponse {
    Json(json!({ "status": "alive" }))
}

/// The database answers and the server is not stopping.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, body = Value), (status = 503, body = Value, description = "Stopping, or no database")),
)]
pub async fn ready(State(api): State<Api>) -> impl IntoResponse {
    let (status, why) = if !api.ready.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if api.store.ping().await.is_err() {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer")
    } else {
        (StatusCode::OK, "ready")
    };
    (status, Json(json!({ "status": why })))
}
