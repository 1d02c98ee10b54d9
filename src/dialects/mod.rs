//! Existing frontends: one folder each with its REST shapes and its words, on top of the same jobs and journal.

pub mod domain_scraper;
pub mod label_printer;
pub mod plain;

use utoipa_axum::router::OpenApiRouter;

use crate::{http::Api, realtime::websocket::RawSockets, store::Addresses};

/// The routes of every dialect. To drop one, delete its folder and its line.
pub fn routes(sockets: &RawSockets, addresses: &Addresses) -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(plain::routes(sockets, addresses))
        .merge(domain_scraper::routes(sockets))
        .merge(label_printer::routes())
}
