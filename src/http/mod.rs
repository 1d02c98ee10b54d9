//! The native REST API under `/v1`, objects, health: every route on one screen.

mod error;
mod health;
mod jobs;
mod objects;
mod server;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub use error::{Json, body_rejection, internal};
pub use server::{Shell, serve};

use crate::{
    job::RequestLimits,
    store::{Blobs, Store},
};

/// What every route may use.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub blobs: Blobs,
    pub limits: RequestLimits,
    /// Bytes of a spreadsheet.
    pub max_upload: usize,
    /// How long clients may keep objects.
    pub max_age: std::time::Duration,
    /// False once the server is stopping.
    pub ready: Arc<std::sync::atomic::AtomicBool>,
}

/// All native routes.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/health", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/events", get(jobs::events))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/cdn/{*key}", get(objects::get))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
}
