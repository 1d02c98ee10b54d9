//! Something done to many labels at once.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        answer::{Refusal, RefusalBody},
        ask::{Body, bad},
    },
    shape::price_label,
};
use crate::http::{Api, Caller};

/// Labels of one batch at the most.
const MAX_LABELS: usize = 1000;
/// Ids that a refusal names.
const NAMED: usize = 5;

/// What is to be done, to which labels. Pages of one generation say `operation`, those of another `action`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchBody {
    #[schema(pattern = "^(delete|export)$")]
    operation: Option<String>,
    #[schema(pattern = "^(delete|export)$")]
    action: Option<String>,
    #[schema(min_items = 1, max_items = 1000, value_type = Vec<Uuid>)]
    label_ids: Option<Vec<String>>,
}

/// Reads ids of labels.
///
/// # Errors
/// A sentence that names the first ones that are none.
pub fn ids(given: &[String]) -> Result<Vec<Uuid>, Refusal> {
    let wrong: Vec<&str> =
        given.iter().filter(|id| id.parse::<Uuid>().is_err()).map(String::as_str).take(NAMED).collect();
    if !wrong.is_empty() {
        let wrong: Vec<String> = wrong.iter().map(|id| id.chars().take(40).collect()).collect();
        return Err(bad(format!("These are no ids of labels: {}.", wrong.join(", "))));
    }
    Ok(given.iter().filter_map(|id| id.parse().ok()).collect())
}

/// The refusal of labels that are not there, which names the first ones.
pub fn missing(ids: &[Uuid]) -> Refusal {
    let named: Vec<String> = ids.iter().take(NAMED).map(Uuid::to_string).collect();
    let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
    Refusal::automation(
        StatusCode::NOT_FOUND,
        format!("These labels are not in the library: {}{more}.", named.join(", ")),
    )
}

/// Removes labels, or gives them all. Labels that are not there are told of, and hinder nothing.
#[utoipa::path(
    post, path = "/api/labels/batch", tag = "labels", request_body = BatchBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
pub async fn batch(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<BatchBody>,
) -> Result<Response, Refusal> {
    let operation = body.operation.or(body.action);
    let given = body.label_ids.unwrap_or_default();
    if !(1..=MAX_LABELS).contains(&given.len()) {
        return Err(bad(format!("labelIds must name 1 to {MAX_LABELS} labels.")));
    }
    let mut ids = ids(&given)?;
    ids.sort_unstable();
    ids.dedup();
    let (done, labels) = match operation.as_deref() {
        Some("delete") => (api.store.remove_from_library(&ids, caller.sees_only()).await?, None),
        Some("export") => {
            let labels = api.store.library_labels(&ids, caller.sees_only()).await?;
            let shown: Vec<Value> = labels.iter().map(|label| price_label(label, &api.public_base)).collect();
            (labels.iter().map(|label| label.id).collect(), Some(shown))
        }
        _ => return Err(bad("operation must be delete or export.")),
    };
    let not_found: Vec<Uuid> = ids.iter().filter(|id| !done.contains(id)).copied().collect();
    let mut data = json!({
        "operation": operation, "processed": done.len(), "successful": done.len(), "failed": not_found.len(),
        "notFound": not_found,
    });
    if operation.as_deref() == Some("delete") {
        data["deletedCount"] = done.len().into();
    }
    if let Some(labels) = labels {
        data["labels"] = labels.into();
    }
    let message = format!("{} of {} labels done", done.len(), ids.len());
    Ok(Json(json!({ "success": true, "data": data, "message": message })).into_response())
}
