//! One label: made by hand, shown, changed, doubled, removed.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    super::{
        answer::{Refusal, RefusalBody},
        ask::{Body, MaybeId, Params},
    },
    no_label, picture,
    shape::{LabelBody, MAX_PICTURE, encoded, price_label},
};
use crate::{
    http::{Api, Caller},
    store::LibraryLabel,
};

/// Bytes of a body: a picture in base64 and room for the rest.
const MAX_BODY: usize = MAX_PICTURE / 3 * 4 + 100_000;

async fn read(mut request: Request) -> Result<LabelBody, Refusal> {
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    let Body(body) = Body::from_request(request, &()).await?;
    Ok(body)
}

/// Adds a label to the library.
#[utoipa::path(
    post, path = "/api/labels", tag = "labels", request_body = LabelBody,
    responses(
        (status = 201, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being read"),
    ),
)]
pub async fn create(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    let body = read(request).await?;
    let create = move || body.create(caller.subject());
    let (label, picture) = picture::off_the_async_threads(create).await??;
    api.store.add_to_library(&label, picture.as_ref()).await?;
    let label = price_label(&label, &api.public_base);
    let body = json!({ "success": true, "data": label, "message": "Label created" });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// How much of a label is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ShowQuery {
    /// `true` to have its picture as `imageData`, in base64.
    include_image: Option<String>,
}

/// One label of the library.
#[utoipa::path(
    get, path = "/api/labels/{id}", tag = "labels", params(("id" = Uuid, Path), ShowQuery),
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being drawn"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
    Params(query): Params<ShowQuery>,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    let label = api.store.library_label(id, caller.sees_only()).await?.ok_or_else(no_label)?;
    let mut shown = price_label(&label, &api.public_base);
    if matches!(query.include_image.as_deref(), Some("true" | "1")) {
        shown["imageData"] = encoded(&picture::of(&api, &label).await?.bytes).into();
    }
    Ok(Json(json!({ "success": true, "data": shown })).into_response())
}

/// Changes what is sent of a label; the rest stays.
#[utoipa::path(
    put, path = "/api/labels/{id}", tag = "labels", params(("id" = Uuid, Path)), request_body = LabelBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being read"),
    ),
)]
pub async fn update(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
    request: Request,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    let body = read(request).await?;
    let change = picture::off_the_async_threads(move || body.check()).await??;
    let picture = change.picture.clone();
    let apply = |label: &mut LibraryLabel| change.apply(label);
    let changed = api.store.change_in_library(id, caller.sees_only(), apply, picture.as_ref()).await?;
    let label = price_label(&changed.ok_or_else(no_label)?, &api.public_base);
    Ok(Json(json!({ "success": true, "data": label, "message": "Label updated" })).into_response())
}

/// Removes a label from the library; a job that made it keeps its result.
#[utoipa::path(
    delete, path = "/api/labels/{id}", tag = "labels", params(("id" = Uuid, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody)),
)]
pub async fn delete(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    if api.store.remove_from_library(&[id], caller.sees_only()).await?.is_empty() {
        return Err(no_label());
    }
    Ok(Json(json!({ "success": true, "message": "Label deleted" })).into_response())
}

/// Adds a copy of a label.
#[utoipa::path(
    post, path = "/api/labels/duplicate/{id}", tag = "labels", params(("id" = Uuid, Path)),
    responses((status = 201, body = Value), (status = 404, body = RefusalBody)),
)]
pub async fn duplicate(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    let copied = api.store.duplicate_in_library(id, caller.sees_only()).await?.ok_or_else(no_label)?;
    let body = json!({
        "success": true, "data": price_label(&copied, &api.public_base), "message": "Label duplicated",
    });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}
