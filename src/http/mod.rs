//! The native REST API under `/v1` with its live doors, objects, health: every route on one screen.

mod error;
mod events;
mod health;
mod jobs;
mod objects;
mod openapi;
mod reader;
mod server;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use serde_json::Value;
use url::Url;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use error::{Json, body_rejection, internal};
pub use openapi::described;
pub use reader::Live;
pub use server::{Shell, serve};

use crate::{
    config::LabelList,
    job::RequestLimits,
    store::{Blobs, Store},
};

/// What every route may use.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub blobs: Blobs,
    /// Where clients reach this server, without a slash at its end.
    pub public_base: Arc<str>,
    /// How the library's list of labels is answered.
    pub label_list: LabelList,
    pub limits: RequestLimits,
    /// Bytes of a spreadsheet.
    pub max_upload: usize,
    /// How long clients may keep objects.
    pub max_age: Duration,
    /// False once the server is stopping.
    pub ready: Arc<AtomicBool>,
    pub live: Live,
    /// Looks at a shop; `None` where jobs are not worked on.
    pub look: Option<Look>,
}

/// Looks at one page of a shop and says what was found, or in a sentence why it cannot be looked at. The crawler behind
/// it is the pipeline's, which routes do not know.
pub type Look = Arc<dyn Fn(Url) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// All native routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .route("/healthz", get(health::live))
        .route("/health", get(health::live))
        .routes(routes!(health::ready))
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/events", get(events::get))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/cdn/{*key}", get(objects::get))
}
