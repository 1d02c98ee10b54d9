//! The label printer's frontend: `/api/automation/*` and friends, in the shapes that its pages read.

mod answer;
mod form;
mod health;
mod jobs;
mod labels;
mod poll;
mod start;
mod test_run;
mod wish;

use axum::{
    Router,
    routing::{any, get, post},
};

use crate::http::Api;

/// All routes of the frontend.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/api/automation/start-simple", post(start::start))
        .route("/api/automation/start", post(start::start))
        .route("/api/automation/jobs", get(jobs::list))
        .route("/api/automation/jobs/{id}", get(jobs::show).delete(jobs::delete))
        .route("/api/automation/jobs/{id}/progress", get(jobs::progress))
        .route("/api/automation/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/automation/jobs/{id}/labels", get(labels::list))
        .route("/api/automation/jobs/{id}/labels/{index}", get(labels::picture))
        .route("/api/automation/stats", get(jobs::stats))
        .route("/api/test-websocket/run", post(test_run::run))
        .route("/api/health", get(health::show))
        .route("/api", any(answer::no_route))
        .route("/api/", any(answer::no_route))
        .route("/api/{*rest}", any(answer::no_route))
        .method_not_allowed_fallback(answer::no_method)
}

#[cfg(test)]
mod tests;
