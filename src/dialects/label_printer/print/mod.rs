//! `/api/print…`: labels of the library on sheets of paper.

mod export;
mod layout;
mod saved;
mod wanted;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::Api;

/// The routes of printing.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(export::preview))
        .routes(routes!(export::export))
        .routes(routes!(layout::formats))
        .routes(routes!(layout::presets))
        .routes(routes!(layout::calculate_grid))
        .routes(routes!(layout::validate_layout))
        .routes(routes!(saved::list, saved::save))
        .routes(routes!(saved::show, saved::delete))
}
