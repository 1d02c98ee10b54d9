//! `POST /api/test-websocket/run`: the product's acceptance conversation, spoken by a job that is really stored.
//!
//! Exactly six events: `job:created`, `screenshot:captured`, `job:updated` (running), `ocr:completed`, `job:updated`
//! (completed), `job:completed`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::Utc;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{self, fontdb},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Refusal, RefusalBody, objects_failed, status};
use crate::{
    event::{JobType, Kind, OcrCompleted, OcrData, ScreenshotCaptured, format_timestamp},
    http::{Api, Caller, internal},
    job::{Code, Command, Failure, JobId, Rejection},
    product::ProductFacts,
    store::{Change, Changed, JobRecord, NewJob, OcrRow, Row, ScreenshotRow},
};

const SHOP_URL: &str = "https://shop.example.com/";
const PRODUCT_URL: &str = "https://shop.example.com/test-product";
const ARTICLE_NUMBER: &str = "TEST-123";
const PRODUCT_NAME: &str = "Test Product";
const PRICE: f64 = 29.99;
const CONFIDENCE: f64 = 95.5;
/// Pixels of the picture; its thumbnail is half as wide and high.
const SIZE: (u32, u32) = (480, 320);
const FONT: &[u8] = include_bytes!("../../../config/labels/fonts/LiberationSans-Regular.ttf");

/// Runs the acceptance conversation to its end.
#[utoipa::path(
    post, path = "/api/test-websocket/run", tag = "label printer",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn run(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    // A task of its own: a client that hangs up must not leave a job without an end.
    let ran = tokio::spawn(async move {
        let job = JobId(Uuid::now_v7());
        let told = converse(&api, job, caller.subject()).await;
        if let Err(rejection) = &told {
            let failure = Failure { error: rejection.message.clone(), phase: None };
            let fail = Change { commands: vec![Command::Fail { failure }], ..Change::default() };
            let _ = api.store.change(job, None, fail).await;
        }
        told
    });
    let told = ran.await.unwrap_or_else(|_| {
        Err(Rejection::new(Code::Internal, "The conversation broke off; the server's log tells why."))
    });
    match told {
        Ok(answer) => Ok(Json(answer).into_response()),
        Err(Rejection { code, message }) => Err(Refusal::plain(status(code), message)),
    }
}

async fn converse(api: &Api, job: JobId, owner: &str) -> Result<Value, Rejection> {
    let mut told: Vec<Changed> = Vec::new();
    let new =
        NewJob { owner: owner.to_owned(), ..NewJob::unplanned(job, JobType::Crawl, "WebSocket Test Job") };
    told.push(api.store.create(new).await.map_err(internal)?);

    let screenshot_id = job.derive("screenshot", PRODUCT_URL);
    let captured = capture(api, job, screenshot_id).await?;
    told.push(api.store.change(job, None, captured).await.map_err(internal)?);
    told.push(command(api, job, Command::Run, None).await?);

    let ocr_result_id = job.derive("ocr", PRODUCT_URL);
    told.push(api.store.change(job, None, reading(screenshot_id, ocr_result_id)).await.map_err(internal)?);

    let record = api.store.job(job).await.map_err(internal)?;
    told.push(command(api, job, Command::Complete, Some(crawl_job_row(&record))).await?);

    let happened = |kind: Kind| {
        told.iter().flat_map(|change| &change.events).any(|event| event.kind == kind.wire_name())
    };
    Ok(json!({
        "success": true,
        "message": "The test conversation was told; see your socket's events",
        "results": {
            "jobCreated": happened(Kind::JobCreated),
            "screenshotCreated": happened(Kind::ScreenshotCaptured),
            "ocrCreated": happened(Kind::OcrCompleted),
            "jobUpdated": happened(Kind::JobUpdated),
            "jobCompleted": happened(Kind::JobCompleted),
        },
        "jobId": job,
        "screenshotId": screenshot_id,
        "ocrResultId": ocr_result_id,
    }))
}

async fn command(
    api: &Api,
    job: JobId,
    command: Command,
    results: Option<Value>,
) -> Result<Changed, Rejection> {
    let change = Change { commands: vec![command], results, ..Change::default() };
    api.store.change(job, None, change).await.map_err(internal)
}

/// A picture of the product, stored, and the event that tells of it.
async fn capture(api: &Api, job: JobId, id: Uuid) -> Result<Change, Rejection> {
    let drawn = tokio::task::spawn_blocking(|| Some((draw(1.0)?, draw(0.5)?))).await.ok().flatten();
    let (picture, thumbnail) =
        drawn.ok_or_else(|| Rejection::new(Code::Internal, "The test picture could not be drawn."))?;
    let file_size = picture.len() as i64;
    let key = |folder: &str| format!("jobs/{job}/{folder}/{id}.png");
    let put = async |key: String, png: Vec<u8>| {
        api.blobs.put(key, Bytes::from(png), "image/png").await.map_err(|error| objects_failed(&error))
    };
    let image = put(key("screenshots"), picture).await?;
    let thumbnail = put(key("thumbnails"), thumbnail).await?;
    let event = ScreenshotCaptured {
        screenshot_id: id,
        url: api.blobs.addresses().plain(&image.key),
        product_url: PRODUCT_URL.into(),
        thumbnail_url: Some(api.blobs.addresses().plain(&thumbnail.key)),
        product_name: Some(PRODUCT_NAME.into()),
    };
    let row = ScreenshotRow {
        id,
        ordinal: 0,
        product_url: PRODUCT_URL.into(),
        product_name: Some(PRODUCT_NAME.into()),
        image_key: image.key.clone(),
        thumbnail_key: thumbnail.key.clone(),
        width: SIZE.0 as i32,
        height: SIZE.1 as i32,
        file_size,
        complete: true,
        page_facts: json!({}),
        layout_type: "single_price".into(),
        page_title: PRODUCT_NAME.into(),
    };
    let rows = vec![Row::Artifact(image), Row::Artifact(thumbnail), Row::Screenshot(row)];
    Ok(Change { rows, events: vec![event.into()], ..Change::default() })
}

/// The values that the conversation prescribes.
fn reading(screenshot_id: Uuid, id: Uuid) -> Change {
    let facts = ProductFacts {
        article_number: Some(ARTICLE_NUMBER.into()),
        name: Some(PRODUCT_NAME.into()),
        price: Some(PRICE),
        currency: Some("EUR".into()),
        ..ProductFacts::default()
    };
    let event = OcrCompleted {
        screenshot_id,
        ocr_result_id: id,
        data: OcrData {
            article_number: facts.article_number.clone(),
            price: facts.price,
            product_name: facts.name.clone(),
            confidence: CONFIDENCE,
        },
    };
    let row = OcrRow {
        id,
        screenshot_id,
        ordinal: 0,
        confidence: CONFIDENCE,
        full_text: format!("{PRODUCT_NAME} {ARTICLE_NUMBER} {PRICE}"),
        reading: json!({}),
        facts: json!(facts),
        disagreements: json!([]),
        error: None,
    };
    Change { rows: vec![Row::Ocr(row, json!([]))], events: vec![event.into()], ..Change::default() }
}

/// The job as a row of the original's `crawl_jobs` table, completed now.
fn crawl_job_row(record: &JobRecord) -> Value {
    let now = format_timestamp(Utc::now());
    json!({
        "id": record.job.id,
        "name": record.job.name,
        "status": "completed",
        "targetUrl": SHOP_URL,
        "maxProducts": 1,
        "productsFound": 1,
        "productsScraped": 1,
        "currentPage": 1,
        "createdAt": format_timestamp(record.created_at),
        "updatedAt": now,
        "startedAt": record.started_at.map(format_timestamp),
        "completedAt": now,
        "error": null,
    })
}

/// The product page's picture as a PNG, `scale` times its size.
fn draw(scale: f32) -> Option<Vec<u8>> {
    let (width, height) = SIZE;
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="Liberation Sans">
            <rect width="{width}" height="{height}" fill="#fff"/>
            <rect width="{width}" height="48" fill="#1f4e79"/>
            <text x="24" y="110" font-size="36">{PRODUCT_NAME}</text>
            <text x="24" y="180" font-size="28">{ARTICLE_NUMBER}</text>
            <text x="24" y="260" font-size="44">{PRICE} EUR</text>
        </svg>"##
    );
    let mut fonts = fontdb::Database::new();
    fonts.load_font_source(fontdb::Source::Binary(Arc::new(FONT)));
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(&svg, &options).ok()?;
    let pixels = |length: u32| (length as f32 * scale).round() as u32;
    let mut picture = Pixmap::new(pixels(width), pixels(height))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut picture.as_mut());
    picture.encode_png().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_what_the_conversation_says_was_read() {
        let mut reader = leptess::LepTess::new(None, "eng").unwrap();
        reader.set_image_from_mem(&draw(2.0).unwrap()).unwrap();
        let text = reader.get_utf8_text().unwrap();
        for value in [ARTICLE_NUMBER, PRODUCT_NAME, "29.99"] {
            assert!(text.contains(value), "{value} in {text}");
        }
    }

    #[test]
    fn the_thumbnail_is_half_as_large() {
        let thumbnail = image::load_from_memory(&draw(0.5).unwrap()).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (240, 160));
    }
}
