//! `/api/excel/*`: the known products that readings are matched against, and the spreadsheets that they come from.
//!
//! What the original keeps in memory, by article number, is in the database here.

mod import;
mod products;
mod sheets;

pub use import::line;
pub use products::TierBody;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::Api;

/// Everything below `/api/excel`.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(import::upload))
        .routes(routes!(import::validate))
        .routes(routes!(products::list))
        .routes(routes!(products::add))
        .routes(routes!(products::show, products::change, products::remove))
        .routes(routes!(products::clear))
        .routes(routes!(products::stats))
        .routes(routes!(products::summary))
        .routes(routes!(sheets::template))
        .routes(routes!(sheets::export))
}
