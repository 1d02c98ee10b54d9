//! The label printer's frontend: `/api/automation/*` and friends, in the shapes that its pages read.

mod answer;
mod articles;
mod ask;
mod crawler;
mod excel;
mod field;
mod form;
mod health;
mod images;
mod job_labels;
mod jobs;
mod labels;
mod ocr;
mod poll;
mod print;
mod start;
mod templates;
mod test_run;
mod wish;

pub use answer::refuse;
use axum::{middleware::map_response, routing::any};
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
        .routes(routes!(start::start_simple))
        .routes(routes!(start::start))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show, jobs::delete))
        .routes(routes!(jobs::progress))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(job_labels::list))
        .routes(routes!(job_labels::picture))
        .routes(routes!(jobs::stats))
        .merge(ocr::routes())
        .merge(templates::routes())
}

/// Routes that refuse with `{success: false, error, message?}`: all others.
fn with_success() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(test_run::run))
        .routes(routes!(health::show))
        .merge(crawler::routes())
        .merge(images::routes())
        .merge(articles::routes())
        .merge(excel::routes())
        .merge(labels::routes())
        .merge(print::routes())
        .merge(templates::editor_routes())
        .layer(map_response(answer::say_success))
}

#[cfg(test)]
mod tests;
