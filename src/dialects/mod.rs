//! Existing frontends: one folder each with its REST shapes and its words, on top of the same jobs and journal.

pub mod domain_scraper;
pub mod label_printer;
pub mod plain;

use axum::{http::Uri, response::Response};
use utoipa_axum::router::OpenApiRouter;

use crate::{http::Api, job::Rejection, realtime::websocket::RawSockets, store::Addresses};

/// The routes of every dialect. To drop one, delete its folder and its line.
pub fn routes(sockets: &RawSockets, addresses: &Addresses) -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(plain::routes(sockets, addresses))
        .merge(domain_scraper::routes(sockets))
        .merge(label_printer::routes())
}

/// How a caller who may not come in hears it, in the words of the dialect that the path belongs to; `None` for the
/// server's own.
pub fn refuse(uri: &Uri, rejection: &Rejection) -> Option<Response> {
    uri.path().starts_with("/api/").then(|| label_printer::refuse(uri, rejection))
}
