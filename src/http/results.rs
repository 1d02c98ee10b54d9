//! What a job on a shop found: each screenshot with what was read from it and became of it, and the job's labels.

use axum::{
    Json as Answer,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::request::Parts,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    Api,
    caller::{Caller, OwnJob},
    error::{Error, ErrorBody},
    jobs::window,
};
use crate::{
    event::format_timestamp,
    job::{Code, JobId, Rejection},
    store::Finding,
};

/// The job and the screenshot of a path; the job is one that the caller may know of.
pub struct Place {
    job: JobId,
    screenshot: Uuid,
}

impl FromRequestParts<Api> for Place {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Place, Error> {
        let caller = Caller::from_request_parts(parts, api).await?;
        // What is no text at all names nothing.
        let named = Path::<(String, String)>::from_request_parts(parts, api).await;
        let (job, screenshot) = named.map_or_else(|_| Default::default(), |Path(named)| named);
        let job: JobId = job.parse()?;
        api.admit(&caller, job).await?;
        let screenshot = screenshot.parse().map_err(|_| no_screenshot())?;
        Ok(Place { job, screenshot })
    }
}

fn no_screenshot() -> Rejection {
    Rejection::new(
        Code::ArtifactNotFound,
        "The job has no such screenshot; its events name those that it has.",
    )
}

/// Shows a screenshot of a job: the values that its page declares, what was read from the picture with each word's place,
/// the known product that fits, and the label.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/screenshots/{screenshot}", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("screenshot" = String, Path, description = "The screenshot's id, as events name it"),
    ),
    responses(
        (status = 200, body = Value, description = "`{id, url, thumbnailUrl, width, height, productUrl, page, reading, match, label}`; \
         what there is not is null. `reading` has the `values` of the picture alone, the `result` after the cross-check with `page`, \
         `disagreements`, and `words` with `left`, `top`, `width` and `height` in pixels of the picture"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn screenshot(State(api): State<Api>, place: Place) -> Result<Answer<Value>, Error> {
    let found = api.store.finding(place.job, place.screenshot).await?.ok_or_else(no_screenshot)?;
    Ok(Answer(shown(&api, &found)))
}

fn shown(api: &Api, found: &Finding) -> Value {
    let Finding { screenshot, reading, matched, label } = found;
    let reading = reading.as_ref().map(|(row, words)| {
        json!({
            "id": row.id,
            "confidence": row.confidence,
            "values": row.reading,
            "result": row.facts,
            "disagreements": row.disagreements,
            "error": row.error,
            "words": words,
        })
    });
    let matched = matched.as_ref().map(|row| {
        json!({
            "id": row.id,
            "success": row.success,
            "matchType": row.match_type,
            "matchedBy": row.matched_by,
            "score": row.score,
            "listed": row.listed,
            "warnings": row.warnings,
            "reason": row.reason,
        })
    });
    let address = |key: &Option<String>| key.as_deref().map(|key| api.blobs.address(key));
    let label = label.as_ref().map(|row| {
        json!({
            "id": row.id,
            "articleNumber": row.article_number,
            "templateId": row.template_id,
            "imageUrl": address(&row.image_key),
            "pdfUrl": address(&row.pdf_key),
            "width": row.width,
            "height": row.height,
            "renderMs": row.render_ms,
            "warnings": row.warnings,
            "error": row.error,
        })
    });
    json!({
        "id": screenshot.id,
        "url": api.blobs.address(&screenshot.image_key),
        "thumbnailUrl": api.blobs.address(&screenshot.thumbnail_key),
        "width": screenshot.width,
        "height": screenshot.height,
        "complete": screenshot.complete,
        "layout": screenshot.layout_type,
        "productUrl": screenshot.product_url,
        "productName": screenshot.product_name,
        "pageTitle": screenshot.page_title,
        "page": screenshot.page_facts,
        "reading": reading,
        "match": matched,
        "label": label,
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LabelsQuery {
    /// Labels of the answer at the most; 50 if it is not said.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// Labels that are left out from the first on.
    #[param(minimum = 0)]
    offset: Option<i64>,
}

/// Lists a job's labels in the order of its products, with addresses of their pictures and PDFs.
///
/// `{labels: [{id, articleNumber, screenshotId, templateId, imageUrl, pdfUrl, error, createdAt}], total, limit, offset}`
#[utoipa::path(
    get, path = "/v1/jobs/{id}/labels", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), LabelsQuery),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn labels(
    State(api): State<Api>,
    OwnJob(id): OwnJob,
    query: Result<Query<LabelsQuery>, QueryRejection>,
) -> Result<Answer<Value>, Error> {
    let Query(query) = query?;
    let (limit, offset) = window(query.limit, query.offset)?;
    let (labels, total) = api.store.labels_page(id, limit, offset).await?;
    let labels: Vec<Value> = labels
        .iter()
        .map(|label| {
            json!({
                "id": label.id,
                "articleNumber": label.article_number,
                "screenshotId": label.screenshot_id,
                "templateId": label.template_id,
                "imageUrl": label.image_key.as_deref().map(|key| api.blobs.address(key)),
                "pdfUrl": label.pdf_key.as_deref().map(|key| api.blobs.address(key)),
                "error": label.error,
                "createdAt": format_timestamp(label.created_at),
            })
        })
        .collect();
    Ok(Answer(json!({ "labels": labels, "total": total, "limit": limit, "offset": offset })))
}
