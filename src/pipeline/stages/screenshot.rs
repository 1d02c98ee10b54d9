//! Screenshot: a product page as a picture, a thumbnail, and pictures of its parts.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Context, StageError, json, payload};
use crate::{
    event::{ScreenshotCaptured, ScreenshotUploaded},
    job::CrawlOptions,
    pipeline::tools::browser::{CaptureError, CaptureRules, ElementKind, ElementRule},
    product::ProductFacts,
    store::{Change, Claimed, ElementRow, NewTask, Row, ScreenshotRow},
};

/// A product page that the crawl found.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub url: Url,
    /// What the page itself declares.
    pub facts: ProductFacts,
    /// Where the pictures of its parts go: no other page of the job has the same.
    pub folder: String,
}

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let Item { url, facts, folder } = payload(task)?;
    let job = task.lease.job;
    let record = context.store.job(job).await?;
    let rules = rules(&record.config.map(|config| config.crawl).unwrap_or_default());
    // Held until the page was photographed: captures are visits like any other.
    let turn = context.fetcher.hosts().turn(&url).await;
    let capture = context.browser.capture(&url, &rules).await.map_err(|error| {
        let why = format!("{url} could not be captured: {error}");
        // The next attempt, and every other visit to this shop, waits for its turn until then.
        if let CaptureError::Busy { retry_after, .. } = error {
            context.fetcher.leave_alone(&url, retry_after);
        }
        if error.is_retryable() { StageError::Retry { why } } else { StageError::Fatal { why } }
    })?;
    drop(turn);
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
        layout_type: capture.layout.word().into(),
        page_title: capture.title,
    };
    let mut rows = vec![Row::Artifact(image), Row::Artifact(thumbnail), Row::Screenshot(row)];
    for element in capture.elements {
        let kind = element.kind.word();
        let file_size = element.png.len() as i64;
        let key = format!("jobs/{job}/elements/{folder}/{kind}.png");
        rows.push(Row::Artifact(context.blobs.put(key.clone(), element.png, "image/png").await?));
        rows.push(Row::Element(ElementRow {
            screenshot_id: id,
            kind: kind.into(),
            folder: folder.clone(),
            key,
            page_x: element.place.x,
            page_y: element.place.y,
            page_width: element.place.width,
            page_height: element.place.height,
            width: element.width as i32,
            height: element.height as i32,
            file_size,
        }));
    }
    let next = NewTask::read(job, task.ordinal, id)?;
    Ok(Change {
        rows,
        tasks: vec![next],
        events: vec![captured.into(), uploaded.into()],
        ..Change::default()
    })
}

/// What the job's options make of a capture.
pub(super) fn rules(options: &CrawlOptions) -> CaptureRules {
    let selectors = options.custom_selectors.clone().unwrap_or_default();
    let element = |kind: ElementKind| {
        let own = match kind {
            ElementKind::ProductImage => selectors.product_image.clone(),
            ElementKind::Title => selectors.product_name.clone(),
            ElementKind::ArticleNumber => selectors.article_number.clone(),
            ElementKind::Description => selectors.description.clone(),
            ElementKind::Price => selectors.price.clone(),
            ElementKind::PriceTable => None,
        };
        let mut rule = ElementRule::usual(kind);
        rule.selectors.splice(0..0, own);
        rule
    };
    CaptureRules {
        elements: ElementKind::ALL.map(element).to_vec(),
        wait_for_images: options.wait_for_images.unwrap_or(true),
        user_agent: options.user_agent.clone(),
        timeout: options.timeout.map(|milliseconds| Duration::from_millis(milliseconds.into())),
        ..CaptureRules::default()
    }
}

/// The catalogue has no event for it: the job's own update tells.
pub fn given_up(_: &Claimed, why: String) -> (Change, String) {
    (Change::default(), why)
}
