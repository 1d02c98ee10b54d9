//! `/api/templates` and `/api/templates/{id}`: people's templates beside those that come with the server.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Body, Named, bad, document, failed, no_template};
use crate::{
    dialects::label_printer::answer::{Refusal, RefusalBody, success},
    http::Api,
    store::Template,
};

/// A template: layers in a unit, or an SVG with boxes (`svg`).
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateBody {
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_:-][A-Za-z0-9._:-]*$")]
    id: Option<String>,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(max_length = 2000)]
    description: Option<String>,
    dimensions: Dimensions,
    #[schema(max_items = 200)]
    layers: Option<Vec<Map<String, Value>>>,
    field_styles: Option<Vec<Map<String, Value>>>,
    formatting_options: Option<Map<String, Value>>,
    global_styles: Option<Map<String, Value>>,
    variables: Option<Vec<Map<String, Value>>>,
    settings: Option<Map<String, Value>>,
    auto_match_enabled: Option<bool>,
    is_default: Option<bool>,
    #[schema(max_items = 20)]
    rules: Option<Vec<Map<String, Value>>>,
}

/// The label's size.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Dimensions {
    #[schema(exclusive_minimum = 0)]
    width: f64,
    #[schema(exclusive_minimum = 0)]
    height: f64,
    /// `mm`, `cm`, `inch` or `px`.
    unit: Option<String>,
    #[schema(minimum = 72, maximum = 600)]
    dpi: Option<u32>,
}

/// All templates, those that come with the server first.
#[utoipa::path(
    get, path = "/api/templates", operation_id = "list_templates", tag = "templates",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn all(State(api): State<Api>) -> Result<Response, Refusal> {
    let templates = api.store.templates(None).await.map_err(failed)?;
    let templates: Vec<Value> = templates.iter().map(document::shown).collect();
    // Once only: the list may be long.
    let body = json!({ "success": true, "count": templates.len(), "templates": templates });
    Ok(axum::Json(body).into_response())
}

/// Stores a new template.
#[utoipa::path(
    post, path = "/api/templates", operation_id = "create_template", tag = "templates", request_body = TemplateBody,
    responses(
        (status = 201, body = Value),
        (status = 400, body = RefusalBody, description = "No sound template; the message names the place"),
        (status = 409, body = RefusalBody, description = "The id is taken"),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn create(State(api): State<Api>, Body(document): Body) -> Result<Response, Refusal> {
    let missing = |key: &str| document.get(key).is_none_or(|value| value.is_null() || value == "");
    let sized = ["dimensions", "widthMm", "svg"].iter().any(|key| !missing(key));
    if (missing("name") && missing("svg")) || !sized {
        return Err(bad("Name and dimensions are required"));
    }
    let template = read(document, None, &api).await?;
    let stored = api.store.create_template(&template).await.map_err(failed)?;
    let answer = success(json!({ "template": document::shown(&stored), "message": "Template created" }));
    Ok((StatusCode::CREATED, answer).into_response())
}

/// One template, by id, name or slug.
#[utoipa::path(
    get, path = "/api/templates/{id}", operation_id = "show_template", tag = "templates",
    params(("id" = String, Path, description = "Its id, its name, or its name as a slug")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn show(State(api): State<Api>, Named(name): Named) -> Result<Response, Refusal> {
    let template = find(&api, &name).await?;
    Ok(success(json!({ "template": document::shown(&template) })))
}

/// Changes a template; members that are left out stay as they are.
#[utoipa::path(
    put, path = "/api/templates/{id}", operation_id = "change_template", tag = "templates",
    params(("id" = String, Path, description = "Its id, its name, or its name as a slug")),
    request_body = Object,
    responses(
        (status = 200, body = Value),
        (status = 400, body = RefusalBody, description = "No sound template; the message names the place"),
        (status = 404, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "It comes with the server and cannot be changed"),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    Named(name): Named,
    Body(change): Body,
) -> Result<Response, Refusal> {
    let stored = change_stored(&api, &name, change).await?;
    Ok(success(json!({ "template": document::shown(&stored), "message": "Template updated" })))
}

/// Removes a template that no label and no waiting job uses.
#[utoipa::path(
    delete, path = "/api/templates/{id}", operation_id = "delete_template", tag = "templates",
    params(("id" = String, Path, description = "Its id, its name, or its name as a slug")),
    responses(
        (status = 200, body = Value), (status = 404, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "It is in use, or comes with the server"),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn delete(State(api): State<Api>, Named(name): Named) -> Result<Response, Refusal> {
    let template = find(&api, &name).await?;
    delete_stored(&api, &template).await?;
    Ok(success(json!({ "message": "Template deleted" })))
}

pub async fn find(api: &Api, name: &str) -> Result<Template, Refusal> {
    api.store.template(name.trim()).await.map_err(failed)?.ok_or_else(no_template)
}

/// Pictures in a document are looked at whole, which takes its time.
pub async fn read(document: Map<String, Value>, id: Option<String>, api: &Api) -> Result<Template, Refusal> {
    let _place = super::draw::place()?;
    let blobs = api.blobs.clone();
    let read = tokio::task::spawn_blocking(move || document::read(document, id.as_deref(), &blobs)).await;
    read.unwrap_or_else(|_| Err(bad("The template could not be read; the server's log tells why.")))
}

pub async fn change_stored(api: &Api, name: &str, change: Map<String, Value>) -> Result<Template, Refusal> {
    let template = find(api, name).await?;
    refuse_built_in(&template, "changed")?;
    let document = document::changed(&template, change);
    let template = read(document, Some(template.id), api).await?;
    api.store.update_template(&template).await.map_err(failed)?.ok_or_else(no_template)
}

pub async fn delete_stored(api: &Api, template: &Template) -> Result<(), Refusal> {
    refuse_built_in(template, "deleted")?;
    match api.store.delete_template(&template.id).await.map_err(failed)? {
        true => Ok(()),
        false => Err(no_template()),
    }
}

fn refuse_built_in(template: &Template, verb: &str) -> Result<(), Refusal> {
    if !template.built_in {
        return Ok(());
    }
    Err(Refusal::automation(
        StatusCode::CONFLICT,
        format!(
            "{} comes with the server and cannot be {verb}; store a copy under another id and use that.",
            template.name
        ),
    ))
}
