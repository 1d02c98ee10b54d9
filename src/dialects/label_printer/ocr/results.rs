//! Readings as `/api/ocr` shows them: the values at the top and in `extractedData`, as the original's rows and services
//! had them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    dialects::label_printer::poll,
    http::Api,
    job::JobId,
    product::ProductFacts,
    store::{OcrRow, ScreenshotRow, StoreError, TaskState},
};

/// What there is of each picture of a job, in the order of the pictures.
pub async fn of_job(api: &Api, job: JobId) -> Result<Vec<Value>, StoreError> {
    let screenshots = api.store.screenshots(job).await?;
    let read = api.store.ocr_results(job).await?;
    let read: HashMap<Uuid, &OcrRow> = read.iter().map(|row| (row.screenshot_id, row)).collect();
    let mut results = Vec::with_capacity(screenshots.len());
    for screenshot in &screenshots {
        let result = job.derive("ocr", &screenshot.id.to_string());
        results.push(match read.get(&screenshot.id) {
            Some(row) => done(api, row, Some(screenshot))?,
            None => open(result, screenshot.id, "processing"),
        });
    }
    Ok(results)
}

/// What there is under the id of a result, of a screenshot or of a job.
pub async fn find(api: &Api, id: Uuid) -> Result<Option<Value>, StoreError> {
    if let Some(row) = api.store.ocr_result(id).await? {
        let screenshot = api.store.screenshot(row.screenshot_id).await?;
        return done(api, &row, screenshot.as_ref()).map(Some);
    }
    if let Some((state, screenshot)) = api.store.reading(id).await? {
        return Ok(Some(match state {
            TaskState::Open => open(id, screenshot, "pending"),
            TaskState::Running => open(id, screenshot, "processing"),
            TaskState::Over => {
                let mut result = open(id, screenshot, "failed");
                result["error"] = "The reading was stopped.".into();
                result
            }
        }));
    }
    if let Some(screenshot) = api.store.screenshot(id).await? {
        let row = api.store.reading_of(screenshot.id).await?;
        return row.map(|row| done(api, &row, Some(&screenshot))).transpose();
    }
    let job = JobId(id);
    match api.store.job(job).await {
        Ok(record) => {
            let results = of_job(api, job).await?;
            Ok(Some(json!({ "jobId": job, "status": poll::status(&record.job), "results": results })))
        }
        Err(StoreError::Rejected(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(result: Uuid, screenshot: Uuid, status: &str) -> Value {
    json!({
        "id": result, "resultId": result, "ocrResultId": result, "screenshotId": screenshot,
        "status": status, "success": false,
    })
}

/// Of a stored reading, what this API shows besides the values.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    tiers_text: Option<String>,
    boxes: Vec<ReadBox>,
}

#[derive(Deserialize)]
struct ReadBox {
    field: String,
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    confidence: f64,
    text: String,
}

fn done(api: &Api, row: &OcrRow, screenshot: Option<&ScreenshotRow>) -> Result<Value, StoreError> {
    let corrupt =
        |error: serde_json::Error| StoreError::Corrupt { table: "ocr_results", detail: error.to_string() };
    let facts = ProductFacts::deserialize(&row.facts).map_err(corrupt)?;
    let read = Read::deserialize(&row.reading).map_err(corrupt)?;
    let mut data = match poll::product(&facts) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Some(text) = &read.tiers_text {
        data.insert("tieredPricesText".into(), text.as_str().into());
    }
    let mut result = data.clone();
    // A field that stands in several lines is as sure as its least sure one.
    let mut sure: Map<String, Value> = Map::new();
    for found in &read.boxes {
        let share = (found.confidence * 10.0).round() / 1000.0;
        let least = sure.get(&found.field).and_then(Value::as_f64).map_or(share, |least| least.min(share));
        sure.insert(found.field.clone(), json!(least));
    }
    let boxes: Vec<Value> = read
        .boxes
        .iter()
        .map(|found| {
            json!({
                "field": found.field, "text": found.text, "confidence": (found.confidence * 10.0).round() / 10.0,
                "x": found.left, "y": found.top, "width": found.width, "height": found.height,
            })
        })
        .collect();
    let fields = json!({
        "id": row.id,
        "resultId": row.id,
        "ocrResultId": row.id,
        "screenshotId": row.screenshot_id,
        "status": if row.error.is_none() { "completed" } else { "failed" },
        "success": row.error.is_none(),
        "confidence": (row.confidence * 10.0).round() / 10.0,
        "confidences": sure,
        "fullText": row.full_text,
        "boundingBoxes": boxes,
        "extractedData": data,
        "disagreements": row.disagreements,
        "error": row.error,
        "fileName": screenshot.and_then(|screenshot| screenshot.product_name.as_deref()),
        "imageUrl": screenshot.map(|screenshot| api.blobs.address(&screenshot.image_key)),
        "thumbnailUrl": screenshot.map(|screenshot| api.blobs.address(&screenshot.thumbnail_key)),
    });
    if let Value::Object(fields) = fields {
        result.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Ok(result.into())
}
