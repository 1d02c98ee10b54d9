//! The contract of every route, as OpenAPI: gathered from the handlers themselves, served as JSON and as a page.

use axum::Router;
use utoipa::openapi::{
    InfoBuilder, License, OpenApi, SecurityRequirement,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};
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
    secure(&mut document);
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

/// How callers say who they are ([`Credentials`](crate::identity::Credentials)). Where the server lets anybody in, they
/// need not, so none of it is one of the ways.
fn secure(document: &mut OpenApi) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A token (JWT) that names its subject in `sub`, or an API key."))
        .build();
    let key = ApiKeyValue::with_description("X-API-Key", "An API key (`jobcast key create`).");
    let query = ApiKeyValue::with_description(
        "token",
        "As the header's, for pages that cannot send headers; it may end up in logs on its way.",
    );
    let schemes = [
        ("bearer", SecurityScheme::Http(bearer)),
        ("api_key", SecurityScheme::ApiKey(ApiKey::Header(key))),
        ("token", SecurityScheme::ApiKey(ApiKey::Query(query))),
    ];
    let mut ways = vec![SecurityRequirement::default()];
    ways.extend(schemes.iter().map(|(name, _)| SecurityRequirement::new(*name, Vec::<String>::new())));
    document.components.get_or_insert_default().add_security_schemes_from_iter(schemes);
    document.security = Some(ways);
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
