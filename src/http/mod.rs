//! The live page at `/`, the native REST API under `/v1` with its live doors, objects, health: every route on one screen.

mod about;
mod cached;
mod caller;
mod contracts;
mod error;
mod events;
mod forwarded;
mod health;
mod jobs;
mod numbers;
mod objects;
mod once;
mod openapi;
mod page;
mod pictures;
mod reader;
mod results;
mod schedules;
mod server;
mod trace;
mod transform;
mod webhooks;
mod work;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::routing::get;
use futures_util::future::BoxFuture;
use serde_json::Value;
use url::Url;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use about::DemoShop;
pub use cached::is_known;
pub use caller::{Caller, Refuse};
pub use contracts::Contracts;
pub use error::{ErrorBody, Json, body_rejection, internal, objects_failed, query_rejection, status};
pub use jobs::window;
pub use numbers::{Look as NumbersLook, Numbers};
pub use objects::{Kept, serve_object};
pub use once::{REPLAYED, once_key};
pub use openapi::described;
pub use page::Page;
pub use pictures::{Pictures, Readable};
pub use reader::Live;
pub use server::{Shell, serve, serve_numbers};
pub use webhooks::{Pinged, Webhooks};

use crate::{
    config::{self, LabelList},
    identity::Identity,
    job::{JobId, Principal, Rejection, RequestLimits},
    store::{Blobs, Store, StoreError},
};

/// What every route may use.
#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub blobs: Blobs,
    /// Tells who calls.
    pub identity: Arc<Identity>,
    /// What tokens are signed with.
    pub auth: Arc<config::Auth>,
    /// In other sizes and formats.
    pub pictures: Pictures,
    /// Where clients reach this server, without a slash at its end.
    pub public_base: Arc<str>,
    /// How the library's list of labels is answered.
    pub label_list: LabelList,
    pub limits: RequestLimits,
    /// Companies that are looked up at once.
    pub company_workers: usize,
    /// Bytes of a spreadsheet.
    pub max_upload: usize,
    /// Bytes of a file that is stored with a job.
    pub max_artifact: usize,
    /// How long a request waits for pictures to be read.
    pub ocr_wait: Duration,
    /// How long clients may keep objects.
    pub max_age: Duration,
    /// False once the server is stopping.
    pub ready: Arc<AtomicBool>,
    pub live: Live,
    pub numbers: Numbers,
    /// How the live page is served.
    pub page: Page,
    /// Where there is one.
    pub demo_shop: Option<Arc<DemoShop>>,
    /// What is served as it is.
    pub contracts: Contracts,
    pub webhooks: Webhooks,
    /// Looks at a shop; `None` where jobs are not worked on.
    pub look: Option<Look>,
}

/// Looks at one page of a shop and says what was found, or in a sentence why it cannot be looked at. The crawler behind
/// it is the pipeline's, which routes do not know.
pub type Look = Arc<dyn Fn(Url) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// A key has slashes, which a path of the contract cannot say: so its route is not made of it.
#[derive(OpenApi)]
#[openapi(paths(objects::get))]
struct Cdn;

/// All native routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Cdn::openapi())
        .routes(routes!(health::live))
        .route("/healthz", get(health::live))
        .route("/health", get(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(numbers::show))
        .routes(routes!(page::index))
        .routes(routes!(page::file))
        .routes(routes!(about::about))
        .routes(routes!(about::templates))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show, jobs::change, jobs::remove))
        .routes(routes!(events::get))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(results::screenshot))
        .routes(routes!(results::labels))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::show, schedules::change, schedules::remove))
        .routes(routes!(schedules::run))
        .routes(routes!(objects::show))
        .routes(routes!(contracts::asyncapi))
        .routes(routes!(contracts::typescript))
        .routes(routes!(contracts::json_schema))
        .routes(routes!(contracts::client))
        .merge(webhooks::routes())
        .merge(work::routes())
        .route("/cdn/{*key}", get(objects::get))
}

impl Api {
    /// Makes sure that a caller may know of a job.
    ///
    /// # Errors
    /// [`Code::JobNotFound`](crate::job::Code::JobNotFound), for one of somebody else's too.
    pub async fn admit(&self, caller: &Principal, job: JobId) -> Result<(), StoreError> {
        match caller.sees(&self.store.owner(job).await?) {
            true => Ok(()),
            false => Err(Rejection::job_not_found(job).into()),
        }
    }

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
