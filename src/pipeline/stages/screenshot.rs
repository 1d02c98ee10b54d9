//! Screenshot: a product page as a picture and a thumbnail.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Context, StageError, json, ocr, payload};
use crate::{
    event::{ScreenshotCaptured, ScreenshotUploaded},
    job::Stage,
    pipeline::tools::browser::CaptureRules,
    product::ProductFacts,
    store::{Change, Claimed, NewTask, Row, ScreenshotRow},
};

/// A product page that the crawl found.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub url: Url,
    /// What the page itself declares.
    pub facts: ProductFacts,
}

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let Item { url, facts } = payload(task)?;
    let job = task.lease.job;
    let capture = context.browser.capture(&url, &CaptureRules::default()).await.map_err(|error| {
        let why = format!("{url} could not be captured: {error}");
        if error.is_retryable() { StageError::Retry { why } } else { StageError::Fatal { why } }
    })?;
    let id = task.lease.task;
    let key = |folder: &str| format!("jobs/{job}/{folder}/{id}.png");
    let (file_size, png, thumbnail) = (capture.png.len() as i64, capture.png, capture.thumbnail_png);
    let image = context.blobs.put(key("screenshots"), png, "image/png").await?;
    let thumbnail = context.blobs.put(key("thumbnails"), thumbnail, "image/png").await?;
    let plain = |key: &str| context.blobs.addresses().plain(key);
    let captured = ScreenshotCaptured {
        screenshot_id: id,
        url: plain(&image.key),
        product_url: url.to_string(),
        thumbnail_url: Some(plain(&thumbnail.key)),
        product_name: facts.name.clone(),
    };
    // Both are in the store by now.
    let uploaded = ScreenshotUploaded {
        screenshot_id: id,
        image_url: captured.url.clone(),
        thumbnail_url: captured.thumbnail_url.clone(),
    };
    let row = ScreenshotRow {
        id,
        ordinal: task.ordinal,
        product_url: url.to_string(),
        product_name: facts.name.clone(),
        image_key: image.key.clone(),
        thumbnail_key: thumbnail.key.clone(),
        width: capture.width as i32,
        height: capture.height as i32,
        file_size,
        complete: capture.complete,
        page_facts: json(&facts)?,
    };
    let next = NewTask::new(
        Stage::Ocr,
        task.ordinal,
        job.derive("ocr", &id.to_string()),
        &ocr::Item { screenshot_id: id },
    )?;
    Ok(Change {
        rows: vec![Row::Artifact(image), Row::Artifact(thumbnail), Row::Screenshot(row)],
        tasks: vec![next],
        events: vec![captured.into(), uploaded.into()],
        ..Change::default()
    })
}

/// The catalogue has no event for it: the job's own update tells.
pub fn given_up(_: &Claimed, why: String) -> (Change, String) {
    (Change::default(), why)
}
