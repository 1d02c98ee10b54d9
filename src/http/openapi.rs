//! The contract of every route, as OpenAPI: gathered from the handlers themselves, served as JSON and as a page.

use axum::Router;
use utoipa::openapi::{InfoBuilder, License, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::{Api, error};

/// Where the contract is.
const DOCUMENT: &str = "/openapi.json";
/// Where people read it.
const PAGE: &str = "/docs";

/// All routes of the server, with their contract at `/openapi.json` and its page at `/docs`, which needs nothing from elsewhere.
pub fn described(routes: OpenApiRouter<Api>) -> Router<Api> {
    let (routes, mut document) = routes.split_for_parts();
    about(&mut document);
    name_operations(&mut document);
    let routes = routes.fallback(error::no_route).method_not_allowed_fallback(error::no_method);
    routes.merge(SwaggerUi::new(PAGE).url(DOCUMENT, document))
}

fn about(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("Jobcast")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Automation jobs that web pages watch live. `/v1` is the native API; `/api` is what existing frontends \
             speak. Events are told over Socket.IO at `/socket.io/`, and at `/v1/jobs/{id}/events`.",
        ))
        .license(Some(License::new(env!("CARGO_PKG_LICENSE"))))
        .build();
}

/// Each operation's name is its method and path: handlers of several files may be called alike.
fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let name = path.replace(['{', '}', '*'], "").trim_matches('/').replace('/', "_");
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
            ("head", &mut item.head),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{name}"));
            }
        }
    }
}
