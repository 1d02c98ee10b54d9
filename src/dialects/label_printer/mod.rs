//! The label printer's frontend: `/api/automation/*` and friends, in the shapes that its pages read.

mod answer;
mod ask;
mod crawler;
mod form;
mod health;
mod job_labels;
mod jobs;
mod labels;
mod poll;
mod start;
mod test_run;
mod wish;

use axum::{
    middleware::map_response,
    routing::{any, get, post},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::Api;

/// All routes of the frontend.
pub fn routes() -> OpenApiRouter<Api> {
    let (routes, document) = automation().merge(with_success()).split_for_parts();
    let routes = routes
        .route("/api", any(answer::no_route))
        .route("/api/", any(answer::no_route))
        .route("/api/{*rest}", any(answer::no_route))
        .method_not_allowed_fallback(answer::no_method);
    OpenApiRouter::with_openapi(document).merge(routes.into())
}

/// Routes that refuse with `{error, message?}`: automation, templates, OCR.
fn automation() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .route("/api/automation/start-simple", post(start::start))
        .route("/api/automation/start", post(start::start))
        .route("/api/automation/jobs", get(jobs::list))
        .route("/api/automation/jobs/{id}", get(jobs::show).delete(jobs::delete))
        .route("/api/automation/jobs/{id}/progress", get(jobs::progress))
        .route("/api/automation/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/automation/jobs/{id}/labels", get(job_labels::list))
        .route("/api/automation/jobs/{id}/labels/{index}", get(job_labels::picture))
        .route("/api/automation/stats", get(jobs::stats))
}

/// Routes that refuse with `{success: false, error, message?}`: all others.
fn with_success() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .route("/api/test-websocket/run", post(test_run::run))
        .routes(routes!(health::show))
        .merge(crawler::routes())
        .merge(labels::routes())
        .layer(map_response(answer::say_success))
}

#[cfg(test)]
mod tests;
