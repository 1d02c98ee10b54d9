//! The native REST API under `/v1` with its live doors, objects, health: every route on one screen.

mod error;
mod events;
mod health;
mod jobs;
mod objects;
mod once;
mod openapi;
mod reader;
mod schedules;
mod server;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::routing::get;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use error::{ErrorBody, Json, body_rejection, internal};
pub use once::{REPLAYED, once_key};
pub use openapi::described;
pub use reader::Live;
pub use server::{Shell, serve};

use crate::{
    config::LabelList,
    job::{JobId, RequestLimits},
    store::{Blobs, Store, StoreError},
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
}

/// All native routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .route("/healthz", get(health::live))
        .route("/health", get(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show, jobs::change, jobs::remove))
        .routes(routes!(events::get))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::show, schedules::change, schedules::remove))
        .routes(routes!(schedules::run))
        .route("/cdn/{*key}", get(objects::get))
}

impl Api {
    /// Removes a job that has ended, and its objects.
    ///
    /// # Errors
    /// As [`Store::remove`]; an object that cannot be removed now goes later.
    pub async fn remove(&self, job: JobId) -> Result<(), StoreError> {
        self.store.remove(job).await?;
        if let Err(error) = self.store.delete_objects(&self.blobs).await {
            tracing::warn!(%job, %error, "objects of a removed job are left for later");
        }
        Ok(())
    }
}
