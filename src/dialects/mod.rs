//! Existing frontends: one folder each with its REST shapes and its words, on top of the same jobs and journal.

pub mod label_printer;

use utoipa_axum::router::OpenApiRouter;

use crate::http::Api;

/// The routes of every dialect. To drop one, delete its folder and its line.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().merge(label_printer::routes())
}
