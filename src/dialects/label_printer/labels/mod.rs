//! `/api/labels…`: the library of labels, as the pages show it.

mod change;
mod collect;
mod from_article;
mod list;
mod picture;
mod shape;

use axum::http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::answer::Refusal;
use crate::http::Api;

pub use collect::{ids, missing};
pub use picture::{DrawError, Drawer, off_the_async_threads};

/// The routes of the library.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list::list, change::create))
        .routes(routes!(list::search))
        .routes(routes!(list::stats))
        .routes(routes!(list::stats_summary))
        .routes(routes!(collect::batch))
        .routes(routes!(from_article::generate))
        .routes(routes!(from_article::extract))
        .routes(routes!(change::duplicate))
        .routes(routes!(change::show, change::update, change::delete))
        .routes(routes!(picture::image))
        .routes(routes!(picture::thumbnail))
}

/// For an id that no label has.
fn no_label() -> Refusal {
    Refusal::automation(StatusCode::NOT_FOUND, "Label not found")
}
