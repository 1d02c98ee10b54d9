//! The label printer's frontend: `/api/automation/*` and friends, in the shapes that its pages read.

use axum::Router;

use crate::http::Api;

/// All routes of the frontend.
pub fn routes() -> Router<Api> {
    Router::new()
}
