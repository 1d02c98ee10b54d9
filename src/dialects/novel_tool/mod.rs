//! The novel tool's frontend: `/api/v1/*` and its words on Socket.IO (`join_job`, `job_progress`, `leave_job`, `error`).
//!
//! A novel is a job of the kind [`KIND`] that a worker outside does ([`examples/novels.py`] is one). It is made when its
//! user confirms what it costs, and waits, paused, for the PDF. What pages show of it is one object, made of the job's row
//! and document ([`shape`]); sentences that are too many for a document lie in a file that it names ([`results`]).

mod answer;
mod credits;
mod history;
mod jobs;
mod limits;
mod pdf;
mod results;
mod rooms;
mod session;
mod settings;
mod shape;
mod sheets;
mod upload;

use axum::middleware::from_fn_with_state;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    answer::refuse,
    rooms::{Known, Novels, Rooms},
};
use crate::{config, http::Api};

/// What workers do with a novel.
pub const KIND: &str = "novel";

/// All routes of the frontend, under the paths of both generations of its pages.
pub fn routes(limits: config::NovelTool) -> OpenApiRouter<Api> {
    let routes = OpenApiRouter::new()
        .routes(routes!(session::health))
        .routes(routes!(session::google))
        .routes(routes!(session::refresh))
        .routes(routes!(session::me))
        .routes(routes!(session::logout))
        .routes(routes!(credits::mine))
        .routes(routes!(credits::mine_later))
        .routes(routes!(credits::ledger))
        .routes(routes!(credits::estimate))
        .routes(routes!(credits::estimate_later))
        .routes(routes!(upload::estimate_pdf))
        .routes(routes!(upload::extract))
        .routes(routes!(upload::process))
        .routes(routes!(jobs::confirm))
        .routes(routes!(jobs::confirm_later))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::list_later))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::show_later))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::cancel_later))
        .routes(routes!(jobs::finalize))
        .routes(routes!(jobs::finalize_later))
        .routes(routes!(history::list))
        .routes(routes!(history::show, history::forget))
        .routes(routes!(history::show_chunks))
        .routes(routes!(history::refresh))
        .routes(routes!(history::retry))
        .routes(routes!(history::duplicate))
        .routes(routes!(sheets::export))
        .routes(routes!(sheets::export_entry))
        .routes(routes!(settings::settings, settings::change_settings))
        .route_layer(from_fn_with_state(limits::Limits::new(limits), limits::limit));
    let (routes, document) = routes.split_for_parts();
    OpenApiRouter::with_openapi(document).merge(routes.method_not_allowed_fallback(answer::no_method).into())
}
