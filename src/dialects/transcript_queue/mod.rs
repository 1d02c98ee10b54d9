//! The transcript queue's frontend: `/api/queue`, `/api/jobs` and friends, and its socket at `/api/ws/jobs`.
//!
//! A transcript is a job of the kind [`KIND`] that a worker outside does ([`examples/transcripts.py`] is one): four phases
//! whose state stands in the job's document, under the names that the pages read.

mod answer;
mod contract;
mod events;
mod jobs;
mod queue;
mod settings;
mod shape;
mod socket;
mod upload;

use axum::Extension;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    http::Api,
    realtime::websocket::{Door, RawSockets},
};

pub use socket::{Change, Changes, Transcripts};

/// What workers do with a transcript.
pub const KIND: &str = "transcript";
/// What its pages call the phases, in their order.
const PHASES: [&str; 4] = ["analyst", "formatter", "seo", "manager"];

/// All routes of the frontend.
pub fn routes(sockets: &RawSockets) -> OpenApiRouter<Api> {
    let door = Door::new(sockets, Transcripts);
    OpenApiRouter::new()
        .routes(routes!(queue::list, queue::add))
        .routes(routes!(queue::stats))
        .routes(routes!(queue::next))
        .routes(routes!(queue::remove_many))
        .routes(routes!(queue::remove))
        .routes(routes!(jobs::show, jobs::change))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::cancel))
        .routes(routes!(events::list))
        .routes(routes!(jobs::output))
        .routes(routes!(upload::upload))
        .routes(routes!(settings::health))
        .routes(routes!(settings::routing, settings::change_routing))
        .routes(routes!(settings::worker, settings::change_worker))
        .routes(routes!(settings::backends, settings::change_backends))
        .routes(routes!(socket::follow))
        .layer(Extension(door))
}
