//! Existing frontends: one folder each with its REST shapes and its words, on top of the same jobs and journal.

pub mod domain_scraper;
pub mod label_printer;
pub mod novel_tool;
pub mod plain;
pub mod project_agents;
pub mod transcript_queue;

use axum::{
    Json,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use crate::{config, http::Api, job::Rejection, realtime::websocket::RawSockets, store::Addresses};

/// The routes of every dialect. To drop one, delete its folder and its line.
pub fn routes(
    sockets: &RawSockets,
    addresses: &Addresses,
    novel_tool: config::NovelTool,
) -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(plain::routes(sockets, addresses))
        .merge(transcript_queue::routes(sockets))
        .merge(domain_scraper::routes(sockets))
        .merge(project_agents::routes(sockets))
        .merge(novel_tool::routes(novel_tool))
        .merge(label_printer::routes())
}

/// What stands behind `/api/` in the label printer's paths.
const LABEL_PRINTER: [&str; 10] = [
    "labels",
    "excel",
    "print",
    "templates",
    "crawler",
    "ocr",
    "automation",
    "articles",
    "images",
    "test-websocket",
];

/// How a caller who may not come in hears it, in the words of the dialect that the path belongs to; `None` for the
/// server's own.
pub fn refuse(uri: &Uri, rejection: &Rejection) -> Option<Response> {
    let path = uri.path();
    let first = path.strip_prefix("/api/").and_then(|rest| rest.split('/').next());
    let detail = || {
        let status = StatusCode::from_u16(rejection.code.http_status()).unwrap_or(StatusCode::FORBIDDEN);
        (status, Json(json!({ "detail": rejection.message }))).into_response()
    };
    match first {
        Some(first) if LABEL_PRINTER.contains(&first) => Some(label_printer::refuse(uri, rejection)),
        Some("v1") => Some(novel_tool::refuse(rejection)),
        Some(_) => Some(detail()),
        None => path.starts_with("/ws/").then(detail),
    }
}
