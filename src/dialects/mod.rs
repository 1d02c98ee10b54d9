//! Existing frontends: one folder each with its REST shapes and its words, on top of the same jobs and journal.

mod detail;
pub mod domain_scraper;
pub mod label_printer;
pub mod novel_tool;
pub mod plain;
pub mod project_agents;
pub mod transcript_queue;

use axum::{http::Uri, response::Response};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    config,
    event::contract::Channel,
    http::{Api, status},
    job::Rejection,
    realtime::websocket::{Dialect as _, RawSockets},
    store::Addresses,
};

/// What of the server dialects stand on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub sockets: &'a RawSockets,
    pub addresses: &'a Addresses,
    pub novel_tool: config::NovelTool,
}

/// What a dialect brings: its routes, and its raw WebSocket's contract if it has one.
type Brings = (fn(Ground) -> OpenApiRouter<Api>, Option<fn() -> Channel>);

/// Every dialect. To drop one, delete its folder and its line.
const DIALECTS: [Brings; 6] = [
    (|on| plain::routes(on.sockets, on.addresses), Some(plain::Plain::channel)),
    (|on| transcript_queue::routes(on.sockets), Some(transcript_queue::Transcripts::channel)),
    (|on| domain_scraper::routes(on.sockets), Some(domain_scraper::Scraper::channel)),
    (|on| project_agents::routes(on.sockets), Some(project_agents::socket::ProjectAgents::channel)),
    (|on| novel_tool::routes(on.novel_tool), None),
    (|_| label_printer::routes(), None),
];

/// The routes of every dialect.
pub fn routes(ground: Ground) -> OpenApiRouter<Api> {
    DIALECTS.iter().fold(OpenApiRouter::new(), |all, (routes, _)| all.merge(routes(ground)))
}

/// The raw WebSockets of every dialect that has one.
pub fn sockets() -> Vec<Channel> {
    DIALECTS.iter().filter_map(|(_, channel)| *channel).map(|channel| channel()).collect()
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
    let detail = || detail::answer(status(rejection.code), rejection.message.as_str());
    match first {
        Some(first) if LABEL_PRINTER.contains(&first) => Some(label_printer::refuse(uri, rejection)),
        Some("v1") => Some(novel_tool::refuse(rejection)),
        Some(_) => Some(detail()),
        None => path.starts_with("/ws/").then(detail),
    }
}
