//! The native REST API under `/v1` with its live doors, objects, health: every route on one screen.

mod error;
mod events;
mod health;
mod jobs;
mod objects;
mod reader;
mod server;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    Router,
    routing::{get, post},
};

pub use error::{Json, body_rejection, internal};
pub use reader::Live;
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
    pub max_age: Duration,
    /// False once the server is stopping.
    pub ready: Arc<AtomicBool>,
    pub live: Live,
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
        .route("/v1/jobs/{id}/events", get(events::get))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/cdn/{*key}", get(objects::get))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
}
