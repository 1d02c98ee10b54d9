//! Readings as `/api/ocr` shows them: the values at the top and in `extractedData`, as the original's rows and services
//! had them.

use std::collections::HashMap;

use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    dialects::label_printer::poll,
    http::Api,
    job::JobId,
    product::ProductFacts,
    store::{OcrRow, ScreenshotRow, StoreError, TaskState},
};

/// Pictures of a job whose words are all shown; of more, the places of the fields must do in a list, and each one's
/// words are found under its id.
const MOST_WITH_WORDS: usize = 50;

/// What there is of each picture of a job, in the order of the pictures.
pub async fn of_job(api: &Api, job: JobId) -> Result<Vec<Value>, StoreError> {
    let screenshots = api.store.screenshots(job).await?;
    let read = api.store.ocr_results(job).await?;
    let shown: Vec<Uuid> =
        read.iter().map(|row| row.id).take_while(|_| read.len() <= MOST_WITH_WORDS).collect();
    let words = api.store.ocr_words(&shown).await?;
    let read: HashMap<Uuid, &OcrRow> = read.iter().map(|row| (row.screenshot_id, row)).collect();
    let mut results = Vec::with_capacity(screenshots.len());
    for screenshot in &screenshots {
        let result = job.derive("ocr", &screenshot.id.to_string());
        results.push(match read.get(&screenshot.id) {
            Some(row) => done(api, row, words.get(&row.id), Some(screenshot))?,
            None => open(result, screenshot.id, "processing"),
        });
    }
    Ok(results)
}

/// What there is under the id of a result, of a screenshot or of a job.
pub async fn find(api: &Api, id: Uuid) -> Result<Option<Value>, StoreError> {
    if let Some(row) = api.store.ocr_result(id).await? {
        let screenshot = api.store.screenshot(row.screenshot_id).await?;
        return alone(api, &row, screenshot.as_ref()).await.map(Some);
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
        return match row {
            Some(row) => alone(api, &row, Some(&screenshot)).await.map(Some),
            None => Ok(None),
        };
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

/// A reading with all its words.
async fn alone(api: &Api, row: &OcrRow, screenshot: Option<&ScreenshotRow>) -> Result<Value, StoreError> {
    let words = api.store.ocr_words(&[row.id]).await?;
    done(api, row, words.get(&row.id), screenshot)
}

fn done(
    api: &Api,
    row: &OcrRow,
    words: Option<&Value>,
    screenshot: Option<&ScreenshotRow>,
) -> Result<Value, StoreError> {
    let corrupt =
        |error: serde_json::Error| StoreError::Corrupt { table: "ocr_results", detail: error.to_string() };
    let facts = ProductFacts::deserialize(&row.facts).map_err(corrupt)?;
    let read = poll::Read::of(row)?;
    let data = read.extracted(&facts);
    let mut result = data.clone();
    // A field that stands in several lines is as sure as its least sure one.
    let mut sure: Map<String, Value> = Map::new();
    for (field, confidence) in read.confidences() {
        let share = (confidence * 10.0).round() / 1000.0;
        let least = sure.get(field).and_then(Value::as_f64).map_or(share, |least| least.min(share));
        sure.insert(field.to_owned(), json!(least));
    }
    let words: Option<Vec<poll::ReadBox>> = words.map(Vec::deserialize).transpose().map_err(corrupt)?;
    let boxes = |boxes: &[poll::ReadBox]| -> Vec<Value> { boxes.iter().map(poll::ReadBox::shown).collect() };
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
        "boundingBoxes": boxes(words.as_deref().unwrap_or(&read.boxes)),
        "fieldBoxes": boxes(&read.boxes),
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
