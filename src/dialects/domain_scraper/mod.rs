//! The domain scraper's frontend: companies looked up by their domains, shown as one status object that is sent whole,
//! at once, on change and every half second.

mod answer;
pub mod board;
mod companies;
mod contract;
mod start;
mod status;

use axum::Extension;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::status::Scraper;
use crate::{
    http::Api,
    realtime::websocket::{Door, RawSockets},
};

/// All routes of the frontend.
pub fn routes(sockets: &RawSockets) -> OpenApiRouter<Api> {
    let door = Door::new(sockets, Scraper);
    let routes = OpenApiRouter::new()
        .routes(routes!(status::follow))
        .routes(routes!(status::show))
        .routes(routes!(status::accept))
        .routes(routes!(status::worker_stats))
        .routes(routes!(start::parallel))
        .routes(routes!(start::sequential))
        .routes(routes!(start::from_csv))
        .routes(routes!(start::from_final))
        .routes(routes!(companies::list))
        .routes(routes!(companies::export, companies::import))
        .routes(routes!(companies::stats))
        .routes(routes!(companies::graph))
        .layer(Extension(door));
    let (routes, document) = routes.split_for_parts();
    OpenApiRouter::with_openapi(document).merge(routes.method_not_allowed_fallback(answer::no_method).into())
}
