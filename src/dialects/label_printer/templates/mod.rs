//! `/api/templates/*` and `/api/label-templates`: people's label templates, and labels drawn with them.

mod document;
mod draw;
mod editor;
mod list;
mod render;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, request::Parts},
};
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::answer::{Refusal, status};
use crate::{
    http::{Api, body_rejection, internal},
    label::LabelError,
    store::StoreError,
};

/// Routes that refuse with `{error, message?}`.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list::all, list::create))
        .routes(routes!(list::show, list::change, list::delete))
        .routes(routes!(render::picture))
        .routes(routes!(render::base64))
        .routes(routes!(render::export_pdf))
        .routes(routes!(render::batch))
        .routes(routes!(render::batch_later))
        .routes(routes!(render::preview))
        .routes(routes!(render::convert))
}

/// The visual editor's routes, which refuse with `{success: false, error}`.
pub fn editor_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(editor::all, editor::create)).routes(routes!(
        editor::show,
        editor::change,
        editor::delete
    ))
}

/// The template that a path names, by id, name or slug.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, Refusal> {
        let Path(name) = Path::from_request_parts(parts, state).await.map_err(|_| no_template())?;
        Ok(Named(name))
    }
}

/// A JSON object.
pub struct Body(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Body, Refusal> {
        match Json::<Value>::from_request(request, state).await {
            Ok(Json(Value::Object(body))) => Ok(Body(body)),
            Ok(_) => Err(bad("The body must be a JSON object.")),
            Err(rejection) => Err(body_rejection(&rejection).into()),
        }
    }
}

impl Body {
    /// One of its members, null when it is not there.
    fn take(&mut self, key: &str) -> Value {
        self.0.remove(key).unwrap_or_default()
    }
}

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}

fn no_template() -> Refusal {
    Refusal::automation(StatusCode::NOT_FOUND, "Template not found")
}

/// What stands in the way of a template or a label: the page shows the first part, the second tells what to do.
fn refused(what: &str, error: &LabelError) -> Refusal {
    if error.is_of_the_input() {
        return Refusal::because(StatusCode::BAD_REQUEST, what, error.to_string());
    }
    // What a person drew cannot be drawn; nothing here is broken.
    tracing::warn!(%error, "a label could not be drawn");
    Refusal::because(StatusCode::BAD_REQUEST, what, error.to_string())
}

fn failed(error: StoreError) -> Refusal {
    let rejection = internal(error);
    Refusal::automation(status(rejection.code), rejection.message)
}
