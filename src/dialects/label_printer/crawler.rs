//! `/api/crawler/*`: crawls without labels, what they found, and a look at a shop before one.

use std::{collections::HashMap, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::Semaphore, time::timeout};
use url::Url;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    answer::{Id, Refusal, RefusalBody},
    ask::{Body, Params, bad},
    wish,
};
use crate::{
    event::{Timestamp, format_timestamp},
    http::{Api, Caller},
    job::{Code, CustomSelectors, Job, JobRequest, Plan, Rejection, Stage, Status},
    product::ProductFacts,
    store::{ElementRow, JobRecord, ScreenshotRow, StoreError},
};

/// Crawls of the list at the most, newest first.
const LISTED: i64 = 200;
/// Products of a crawl that does not say how many.
const DEFAULT_PRODUCTS: u32 = 100;
/// Shops that are looked at at once.
static LOOKS: Semaphore = Semaphore::const_new(2);
/// The longest look at a shop.
const LONGEST_LOOK: Duration = Duration::from_secs(45);
/// Hours after which ended crawls are removed where nothing is said.
const KEPT_HOURS: f64 = 24.0;
/// A hundred years.
const MOST_HOURS: f64 = 876_000.0;
/// Crawls that one call removes at the most.
const REMOVED: i64 = 500;
/// Characters of a description that are shown.
const DESCRIPTION: usize = 500;
/// Longest address of a shop, in bytes.
const MAX_ADDRESS: usize = 2048;

/// All routes below `/api/crawler`.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(start))
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(screenshots))
        .routes(routes!(stop))
        .routes(routes!(detect))
        .routes(routes!(cleanup))
}

/// A crawl to be started; what `config` says may also stand beside it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the body is read field by field, for forms send numbers as text")]
struct StartCrawl {
    /// The shop's start page.
    #[schema(max_length = 2048, example = "https://shop.example.com/")]
    shop_url: String,
    #[schema(max_length = 200)]
    name: Option<String>,
    config: Option<CrawlConfig>,
}

/// How the shop is crawled.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "see StartCrawl")]
struct CrawlConfig {
    /// 100 if left out.
    #[schema(minimum = 1)]
    max_products: Option<u32>,
    follow_pagination: Option<bool>,
    custom_selectors: Option<CustomSelectors>,
    #[schema(max_length = 256)]
    user_agent: Option<String>,
    full_shop_scan: Option<bool>,
    /// Milliseconds for one page.
    #[schema(minimum = 1000, maximum = 120_000)]
    timeout: Option<u32>,
    /// Kept and of no effect: pictures are PNG.
    #[schema(minimum = 1, maximum = 100)]
    screenshot_quality: Option<u32>,
    wait_for_images: Option<bool>,
    /// Kept and of no effect.
    headless: Option<bool>,
}

/// Starts a crawl: a shop's products as pictures, and no more.
#[utoipa::path(
    post, path = "/api/crawler/start", tag = "label printer", request_body = StartCrawl,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
async fn start(
    State(api): State<Api>,
    caller: Caller,
    Body(fields): Body<Map<String, Value>>,
) -> Result<Response, Refusal> {
    let (max_products, follow_pagination, crawl) = wish::crawl_config(&fields)?;
    let shop_url = shop(&fields)?;
    let most = api.limits.max_products;
    let usual = if crawl.is_full_scan() { most } else { DEFAULT_PRODUCTS.min(most) };
    let request = JobRequest {
        plan: Plan::Crawl,
        name: Some(
            wish::own_text(&fields, "name")?
                .unwrap_or_else(|| format!("Crawl of {}", shop_url.host_str().unwrap_or("a shop"))),
        ),
        shop_url: shop_url.into(),
        template_id: "standard-label".into(),
        max_products: Some(max_products.unwrap_or(usual)),
        follow_pagination,
        crawl,
        ..JobRequest::default()
    };
    let id = api.store.submit(request, caller.subject(), &api.limits).await?;
    let record = api.store.job(id).await?;
    let mut notes = Vec::new();
    if let Some(config) = &record.config {
        if config.crawl.screenshot_quality.is_some_and(|quality| quality < 100) {
            notes.push("screenshotQuality has no effect: pictures are PNG, which loses nothing.");
        }
        if config.crawl.headless == Some(false) {
            notes.push("headless has no effect: the server has no screen.");
        }
    }
    Ok(answer(json!({
        "jobId": id,
        "status": word(&record.job),
        "shopUrl": record.config.as_ref().map(|config| &config.shop_url),
        "config": record.config.as_ref().map(config),
        "notes": notes,
    })))
}

/// All crawls, newest first.
#[utoipa::path(
    get, path = "/api/crawler/jobs", tag = "label printer",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
async fn list(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    let records = api.store.crawl_jobs(caller.sees_only(), LISTED).await?;
    Ok(answer(records.iter().map(row).collect()))
}

/// One crawl with everything that it has found so far.
#[utoipa::path(
    get, path = "/api/crawler/jobs/{id}", tag = "label printer", params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
async fn show(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let record = api.store.job(id).await?;
    let screenshots = pictures(&api, &record).await?;
    let products = api.store.screenshots(id).await?;
    let elements = api.store.elements(id).await?;
    let folders = folders(&elements);
    let products: Result<Vec<Value>, StoreError> =
        products.iter().map(|row| product(&record, row, folders.get(&row.id))).collect();
    let mut whole = row(&record);
    let ended = record.ended_at.unwrap_or(record.updated_at);
    let duration = record.started_at.map(|started| (ended - started).num_milliseconds().max(0));
    whole["results"] = json!({
        "products": products?,
        "screenshots": screenshots,
        "errors": record.job.errors,
        "duration": duration,
    });
    Ok(answer(whole))
}

/// The pictures of a crawl, page by page, with those of each page's parts.
#[utoipa::path(
    get, path = "/api/crawler/screenshots/{id}", tag = "label printer",
    params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
async fn screenshots(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    let record = api.store.job(id).await?;
    Ok(answer(pictures(&api, &record).await?.into()))
}

/// Ends a crawl that is at work.
#[utoipa::path(
    post, path = "/api/crawler/stop/{id}", tag = "label printer", params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody, description = "It is not running"),
        (status = 404, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn stop(State(api): State<Api>, Id(id): Id) -> Result<Response, Refusal> {
    match api.store.cancel(id).await {
        Ok(_) => Ok(answer(json!({ "jobId": id, "status": "cancelled", "message": "Crawl stopped" }))),
        Err(StoreError::Rejected(Rejection { code: Code::JobEnded, .. })) => {
            Err(bad("The crawl is not running; it has already ended."))
        }
        Err(error) => Err(error.into()),
    }
}

/// A shop to be looked at.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "see StartCrawl")]
struct Look {
    /// The shop's start page, or one of its listings.
    #[schema(max_length = 2048, example = "https://shop.example.com/")]
    shop_url: String,
}

/// Looks at one page of a shop: what made it, where its products stand, and what a crawl would do there.
#[utoipa::path(
    post, path = "/api/crawler/detect", tag = "label printer", request_body = Look,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody, description = "The shop cannot be looked at"),
        (status = 413, body = RefusalBody), (status = 429, body = RefusalBody),
    ),
)]
async fn detect(State(api): State<Api>, Body(fields): Body<Map<String, Value>>) -> Result<Response, Refusal> {
    let url = shop(&fields)?;
    let look = api.look.clone().ok_or_else(|| {
        bad("This server does not work on jobs (pipeline.enabled = false); ask one that does.")
    })?;
    let _turn = LOOKS.try_acquire().map_err(|_| {
        let sentence = "Other shops are being looked at; try again in a few seconds.";
        Refusal::automation(StatusCode::TOO_MANY_REQUESTS, sentence)
    })?;
    let looked = timeout(LONGEST_LOOK, look(url)).await;
    let found = looked
        .unwrap_or_else(|_| Err("The shop takes too long; check the address in a browser.".into()))
        .map_err(bad)?;
    Ok(answer(found))
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Cleanup {
    /// Crawls that ended longer ago are removed; 24 if left out.
    #[param(minimum = 0, maximum = 876_000)]
    max_age_hours: Option<f64>,
}

/// Removes crawls that ended long ago, with their pictures.
#[utoipa::path(
    delete, path = "/api/crawler/cleanup", tag = "label printer", params(Cleanup),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
async fn cleanup(
    State(api): State<Api>,
    caller: Caller,
    Params(asked): Params<Cleanup>,
) -> Result<Response, Refusal> {
    let hours = asked.max_age_hours.unwrap_or(KEPT_HOURS);
    if !(0.0..=MOST_HOURS).contains(&hours) {
        return Err(bad(format!("maxAgeHours must be from 0 to {MOST_HOURS}.")));
    }
    let age = Duration::from_secs_f64(hours * 3600.0);
    let old = api.store.ended_crawl_jobs(caller.sees_only(), age, REMOVED).await?;
    let mut removed = Vec::new();
    for id in old {
        match api.remove(id).await {
            Ok(()) => removed.push(id),
            // Removed or taken up again meanwhile.
            Err(StoreError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answer(json!({ "deletedCount": removed.len(), "deleted": removed, "maxAgeHours": hours })))
}

/// `{success: true, data}`.
fn answer(data: Value) -> Response {
    axum::Json(json!({ "success": true, "data": data })).into_response()
}

fn shop(fields: &Map<String, Value>) -> Result<Url, Refusal> {
    let address = wish::own_text(fields, "shopUrl")?.ok_or_else(|| bad("Shop URL is required"))?;
    if address.len() > MAX_ADDRESS {
        return Err(bad(format!("Invalid shop URL: it has more than {MAX_ADDRESS} bytes.")));
    }
    Url::parse(&address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| bad("Invalid shop URL: write a full one such as https://shop.example.com/."))
}

/// The status in the words of the original's table.
fn word(job: &Job) -> &'static str {
    match job.status {
        Status::Pending | Status::Completed | Status::Failed | Status::Cancelled => job.status.word(),
        _ => "running",
    }
}

/// The accepted settings.
fn config(config: &crate::job::JobConfig) -> Value {
    let mut all = json!(config.crawl);
    all["maxProducts"] = config.max_products.into();
    all["followPagination"] = config.follow_pagination.into();
    all
}

/// A job as a row of the original's `crawl_jobs`.
fn row(record: &JobRecord) -> Value {
    let time = |at: Option<Timestamp>| at.map(format_timestamp);
    let tally = record.job.tally(Stage::Screenshot);
    let shop = record.config.as_ref().map(|config| &config.shop_url);
    json!({
        "id": record.job.id,
        "name": record.job.name,
        "status": word(&record.job),
        "targetUrl": shop,
        "shopUrl": shop,
        "config": record.config.as_ref().map(config),
        "maxProducts": record.job.max_products,
        "productsFound": tally.total,
        "productsScraped": tally.done,
        "currentPage": tally.settled().max(1),
        "progress": record.job.progress,
        "createdAt": format_timestamp(record.created_at),
        "updatedAt": format_timestamp(record.updated_at),
        "startedAt": time(record.started_at),
        "completedAt": time(record.ended_at),
        "error": record.error,
    })
}

/// Each page's folder.
fn folders(elements: &[ElementRow]) -> HashMap<Uuid, &str> {
    elements.iter().map(|element| (element.screenshot_id, &*element.folder)).collect()
}

/// The pictures of a job's pages.
async fn pictures(api: &Api, record: &JobRecord) -> Result<Vec<Value>, StoreError> {
    let id = record.job.id;
    let rows = api.store.screenshots(id).await?;
    let elements = api.store.elements(id).await?;
    let times = api.store.screenshot_times(id).await?;
    let mut of: HashMap<Uuid, Vec<&ElementRow>> = HashMap::new();
    for element in &elements {
        of.entry(element.screenshot_id).or_default().push(element);
    }
    let address = |key: &str| api.blobs.address(key);
    let picture = |row: &ScreenshotRow| {
        let parts = of.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let image = parts.iter().find(|part| part.kind == "product-image").map(|part| address(&part.key));
        let targeted: Vec<Value> = parts.iter().map(|part| targeted(part, address(&part.key))).collect();
        let (url, thumbnail) = (address(&row.image_key), address(&row.thumbnail_key));
        json!({
            "id": row.id,
            "crawlJobId": id,
            "url": url,
            "imageUrl": url,
            "thumbnailUrl": thumbnail,
            "productUrl": row.product_url,
            "productName": row.product_name,
            "imagePath": url,
            "thumbnailPath": image.unwrap_or(thumbnail),
            "width": row.width,
            "height": row.height,
            "fileSize": row.file_size,
            "format": "png",
            "layoutType": row.layout_type,
            "metadata": {
                "width": row.width,
                "height": row.height,
                "timestamp": times.get(&row.id).copied().map(format_timestamp),
                "pageTitle": row.page_title,
                "fileSize": row.file_size,
                "format": "png",
                "targetedScreenshots": targeted,
                "layoutType": row.layout_type,
                "complete": row.complete,
            },
            "extractedElements": row.page_facts,
        })
    };
    Ok(rows.iter().map(picture).collect())
}

/// The picture of one part of a page.
fn targeted(part: &ElementRow, url: String) -> Value {
    json!({
        "type": part.kind,
        "filename": format!("{}.png", part.kind),
        "folder": part.folder,
        "path": url,
        "url": url,
        "width": part.width,
        "height": part.height,
        "fileSize": part.file_size,
        "boundingBox": { "x": part.page_x, "y": part.page_y, "width": part.page_width, "height": part.page_height },
    })
}

/// A product as the crawl found it.
fn product(record: &JobRecord, row: &ScreenshotRow, folder: Option<&&str>) -> Result<Value, StoreError> {
    let facts: ProductFacts = serde_json::from_value(row.page_facts.clone())
        .map_err(|error| StoreError::Corrupt { table: "screenshots", detail: error.to_string() })?;
    let picture = |kind: &str| {
        folder.map(|folder| format!("/api/images/screenshots/{}/{folder}/{kind}.png", record.job.id))
    };
    let tiers: Vec<Value> = facts
        .tiers
        .iter()
        .map(|tier| json!({ "quantity": tier.min_quantity, "price": tier.price }))
        .collect();
    let description: Option<String> = facts.description.map(|text| text.chars().take(DESCRIPTION).collect());
    Ok(json!({
        "articleNumber": facts.article_number,
        "productName": facts.name,
        "price": facts.price,
        "currency": facts.currency,
        "tieredPrices": tiers,
        "ean": facts.ean,
        "description": description,
        "imageUrl": picture("product-image"),
        "thumbnailUrl": picture("article-number"),
        "sourceUrl": row.product_url,
        "screenshotId": row.id,
        "crawlJobId": record.job.id,
    }))
}
