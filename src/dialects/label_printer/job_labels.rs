//! `/api/automation/jobs/{id}/labels…`: a job's labels, and one of them as a picture.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    answer::{Id, Refusal, RefusalBody, objects_failed, success},
    poll,
};
use crate::{
    http::{Api, Caller, internal},
    job::{Code, JobId, Rejection},
    store::BlobsError,
};

/// A job's labels.
#[utoipa::path(
    get, path = "/api/automation/jobs/{id}/labels", tag = "label printer", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn list(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    api.store.head(id).await?;
    let labels = api.store.labels(id).await?;
    let labels = labels.iter().map(|row| poll::label(row, |key| api.blobs.address(key)));
    let labels: Vec<Value> = labels.collect::<Result<_, _>>()?;
    Ok(success(json!({ "count": labels.len(), "labels": labels })))
}

/// A label's picture; the index is its place in the list, from 0.
#[utoipa::path(
    get, path = "/api/automation/jobs/{id}/labels/{index}", tag = "label printer",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("index" = String, Path, description = "The label's place, from 0"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/png"),
        (status = 404, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn picture(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Refusal> {
    let no_label = || Refusal::automation(StatusCode::NOT_FOUND, "Label not found");
    let Path((id, index)) = path.map_err(|_| no_label())?;
    let (Ok(id), Ok(index)) = (id.parse::<JobId>(), index.parse::<usize>()) else { return Err(no_label()) };
    api.admit(&caller, id).await.map_err(|error| match internal(error) {
        Rejection { code: Code::JobNotFound, .. } => no_label(),
        rejection => rejection.into(),
    })?;
    let labels = api.store.labels(id).await?;
    let label = labels.get(index).ok_or_else(no_label)?;
    let failed = || Refusal::automation(StatusCode::NOT_FOUND, "Label generation failed");
    let key = label.image_key.as_deref().ok_or_else(failed)?;
    let object = api.blobs.get(key, None).await.map_err(|error| match error {
        BlobsError::NotFound(_) => no_label(),
        error => objects_failed(&error).into(),
    })?;
    Ok(([(header::CONTENT_TYPE, "image/png")], object.bytes).into_response())
}
