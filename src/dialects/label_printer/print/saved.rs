//! Layouts that people saved, as their pages sent them.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{
    answer::{Refusal, RefusalBody},
    ask::{Body, bad},
};
use crate::{event::format_timestamp, http::Api, store::PrintLayout};

/// Saved layouts at the most.
const MAX_LAYOUTS: i64 = 500;
/// Characters of an id and of a name, and bytes of a whole layout.
const MAX_ID: usize = 100;
const MAX_NAME: usize = 200;
const MAX_BODY: usize = 100_000;

/// A layout as its page sent it, with when it was saved.
fn shown(layout: PrintLayout) -> Value {
    let mut body = match layout.body {
        Value::Object(body) => body,
        _ => Map::new(),
    };
    body.insert("id".into(), layout.id.into());
    body.insert("name".into(), layout.name.into());
    body.insert("createdAt".into(), format_timestamp(layout.created_at).into());
    body.insert("updatedAt".into(), format_timestamp(layout.updated_at).into());
    body.into()
}

fn not_found() -> Refusal {
    Refusal::automation(StatusCode::NOT_FOUND, "Template not found")
}

/// All saved layouts.
#[utoipa::path(get, path = "/api/print/templates", tag = "print", responses((status = 200, body = Value)))]
pub async fn list(State(api): State<Api>) -> Result<Response, Refusal> {
    let layouts: Vec<Value> = api.store.print_layouts().await?.into_iter().map(shown).collect();
    Ok(Json(json!({ "success": true, "data": layouts })).into_response())
}

/// Saves a layout under its id, or a new one; with `deleted: true` removes it.
#[utoipa::path(
    post, path = "/api/print/templates", tag = "print", request_body = Value,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody),
    ),
)]
pub async fn save(State(api): State<Api>, Body(body): Body<Value>) -> Result<Response, Refusal> {
    let Value::Object(mut body) = body else { return Err(bad("The template must be an object.")) };
    if holds_zero(&Value::Object(body.clone())) {
        return Err(bad("The template must not hold the character zero."));
    }
    let id = match body.get("id") {
        None | Some(Value::Null) => Uuid::now_v7().to_string(),
        Some(Value::String(id)) if id.is_empty() => Uuid::now_v7().to_string(),
        Some(Value::String(id)) if id.chars().count() <= MAX_ID => id.clone(),
        Some(_) => return Err(bad(format!("id must be a text of {MAX_ID} characters at the most."))),
    };
    if body.get("deleted").and_then(Value::as_bool) == Some(true) {
        return removed(&api, &id).await;
    }
    let name = match body.get("name") {
        None | Some(Value::Null) => "Print template".to_owned(),
        Some(Value::String(name)) if name.chars().count() <= MAX_NAME => name.clone(),
        Some(_) => return Err(bad(format!("name must be a text of {MAX_NAME} characters at the most."))),
    };
    for own in ["id", "name", "createdAt", "updatedAt", "deleted"] {
        body.remove(own);
    }
    let body = Value::Object(body);
    if body.to_string().len() > MAX_BODY {
        return Err(bad(format!("The template has more than {MAX_BODY} bytes.")));
    }
    let saved = api.store.save_print_layout(&id, &name, &body, MAX_LAYOUTS).await?;
    let full = || bad(format!("There are {MAX_LAYOUTS} templates already; delete one first."));
    let saved = shown(saved.ok_or_else(full)?);
    Ok(Json(json!({ "success": true, "data": saved, "message": "Template saved successfully" }))
        .into_response())
}

async fn removed(api: &Api, id: &str) -> Result<Response, Refusal> {
    if !api.store.remove_print_layout(id).await? {
        return Err(not_found());
    }
    let data = json!({ "id": id, "deleted": true });
    Ok(Json(json!({ "success": true, "data": data, "message": "Template deleted successfully" }))
        .into_response())
}

/// The id in a path; what no layout can have is that of none.
fn named(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(id) = path.map_err(|_| not_found())?;
    if id.contains('\0') { Err(not_found()) } else { Ok(id) }
}

/// One saved layout.
#[utoipa::path(
    get, path = "/api/print/templates/{id}", tag = "print", params(("id" = String, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody)),
)]
pub async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let id = named(path)?;
    let layouts = api.store.print_layouts().await?;
    let found = layouts.into_iter().find(|layout| layout.id == id).ok_or_else(not_found)?;
    Ok(Json(json!({ "success": true, "data": shown(found) })).into_response())
}

/// Removes a saved layout.
#[utoipa::path(
    delete, path = "/api/print/templates/{id}", tag = "print", params(("id" = String, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody)),
)]
pub async fn delete(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    removed(&api, &named(path)?).await
}

/// Whether a text anywhere in it holds the character zero, which the database does not take.
fn holds_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(holds_zero),
        Value::Object(object) => object.iter().any(|(key, value)| key.contains('\0') || holds_zero(value)),
        _ => false,
    }
}
