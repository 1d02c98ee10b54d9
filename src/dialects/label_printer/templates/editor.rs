//! `/api/label-templates`: the visual editor's templates, with elements in the pixels of its canvas.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    Body, Named, bad, document, failed,
    list::{change_stored, delete_stored, find, read},
    no_template,
};
use crate::{
    dialects::label_printer::answer::{Refusal, RefusalBody, success},
    http::Api,
    label::Kind,
    store::Template,
};

/// A template of the visual editor.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditorBody {
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_:-][A-Za-z0-9._:-]*$")]
    id: Option<String>,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Pixels of the canvas.
    #[schema(minimum = 10, maximum = 20000)]
    width: f64,
    #[schema(minimum = 10, maximum = 20000)]
    height: f64,
    #[schema(minimum = 5, maximum = 420)]
    width_mm: f64,
    #[schema(minimum = 5, maximum = 420)]
    height_mm: f64,
    print_layout_id: Option<String>,
    #[schema(max_items = 200)]
    elements: Vec<Map<String, Value>>,
    #[schema(max_items = 20)]
    rules: Option<Vec<Map<String, Value>>>,
    auto_match_enabled: Option<bool>,
}

/// All templates of the visual editor.
#[utoipa::path(
    get, path = "/api/label-templates", operation_id = "list_label_templates", tag = "templates",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn all(State(api): State<Api>) -> Result<Response, Refusal> {
    let templates = api.store.templates(Some(Kind::Editor.word())).await.map_err(failed)?;
    let templates: Vec<Value> = templates.iter().map(shown).collect();
    Ok(success(json!({ "templates": templates })))
}

/// Stores a new template of the visual editor.
#[utoipa::path(
    post, path = "/api/label-templates", operation_id = "create_label_template", tag = "templates",
    request_body = EditorBody,
    responses(
        (status = 201, body = Value),
        (status = 400, body = RefusalBody, description = "No sound template; the message names the place"),
        (status = 409, body = RefusalBody, description = "The id is taken"),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn create(State(api): State<Api>, Body(mut document): Body) -> Result<Response, Refusal> {
    if document.get("name").and_then(Value::as_str).is_none_or(|name| name.trim().is_empty()) {
        return Err(bad("The template needs a name."));
    }
    as_editors(&mut document)?;
    let template = read(document, None, &api).await?;
    let stored = api.store.create_template(&template).await.map_err(failed)?;
    let answer = success(json!({ "template": shown(&stored) }));
    Ok((StatusCode::CREATED, answer).into_response())
}

/// One template of the visual editor.
#[utoipa::path(
    get, path = "/api/label-templates/{id}", operation_id = "show_label_template", tag = "templates",
    params(("id" = String, Path, description = "Its id or its name")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn show(State(api): State<Api>, Named(name): Named) -> Result<Response, Refusal> {
    let template = editors(&api, &name).await?;
    Ok(success(json!({ "template": shown(&template) })))
}

/// Changes a template of the visual editor; members that are left out stay as they are.
#[utoipa::path(
    put, path = "/api/label-templates/{id}", operation_id = "change_label_template", tag = "templates",
    params(("id" = String, Path, description = "Its id or its name")), request_body = Object,
    responses(
        (status = 200, body = Value),
        (status = 400, body = RefusalBody, description = "No sound template; the message names the place"),
        (status = 404, body = RefusalBody), (status = 409, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    Named(name): Named,
    Body(mut change): Body,
) -> Result<Response, Refusal> {
    let template = editors(&api, &name).await?;
    change.shift_remove("svg");
    let stored = change_stored(&api, &template.id, change).await?;
    Ok(success(json!({ "template": shown(&stored) })))
}

/// Removes a template of the visual editor that no label and no waiting job uses.
#[utoipa::path(
    delete, path = "/api/label-templates/{id}", operation_id = "delete_label_template", tag = "templates",
    params(("id" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, body = Value), (status = 404, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "It is in use"), (status = 503, body = RefusalBody),
    ),
)]
pub async fn delete(State(api): State<Api>, Named(name): Named) -> Result<Response, Refusal> {
    let template = editors(&api, &name).await?;
    delete_stored(&api, &template).await?;
    Ok(success(json!({ "message": "Template deleted" })))
}

async fn editors(api: &Api, name: &str) -> Result<Template, Refusal> {
    let template = find(api, name).await?;
    if template.kind == Kind::Editor.word() { Ok(template) } else { Err(no_template()) }
}

/// Whatever else the document may look like, here it is the editor's.
fn as_editors(document: &mut Map<String, Value>) -> Result<(), Refusal> {
    document.shift_remove("svg");
    if !document.contains_key("widthMm") {
        return Err(bad("The template needs widthMm and heightMm, its size on paper in millimetres."));
    }
    Ok(())
}

/// As the editor wrote it, with its id and times.
fn shown(template: &Template) -> Value {
    let mut shown = document::shown(template);
    if let Value::Object(shown) = &mut shown {
        for key in [
            "layers",
            "dimensions",
            "fieldStyles",
            "formattingOptions",
            "globalStyles",
            "settings",
            "version",
        ] {
            shown.shift_remove(key);
        }
    }
    shown
}
