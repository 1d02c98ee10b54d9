//! OCR: what a screenshot says, checked against what the page declares.

use uuid::Uuid;

use super::{Context, StageError, column, json, match_products, payload};
use crate::{
    event::{OcrCompleted, OcrData, OcrFailed, OcrProgress, OcrStarted},
    job::{Plan, Stage},
    metrics::numbers,
    pipeline::tools::{
        browser::ElementKind,
        fields::{Field, Reading, cross_check, open_fields, read_part, read_words},
    },
    product::{
        ProductFacts,
        article::{PriceType, short_description, tiered_prices_text},
    },
    store::{ArticleRow, Change, Claimed, NewTask, OcrRow, ReadItem as Item, Row, ScreenshotRow},
};

/// Pixels of a part's picture beyond which it is not read.
const MOST_PART_PIXELS: i64 = 4_000_000;

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let Item { screenshot_id } = payload(task)?;
    context.store.announce_start(&task.lease, vec![OcrStarted { screenshot_id }.into()]).await?;
    let screenshot = context.store.screenshot(screenshot_id).await?;
    let screenshot = screenshot.ok_or_else(|| StageError::Fatal { why: "its screenshot is gone".into() })?;
    let picture = context.blobs.get(&screenshot.image_key, None).await?;
    let at = |progress| OcrProgress { screenshot_id, progress }.into();
    context.store.tell(task.lease.job, at(10));
    let text = context.ocr.read(picture.bytes).await.map_err(|error| {
        let why = error.to_string();
        if error.is_retryable() { StageError::Retry { why } } else { StageError::Fatal { why } }
    })?;
    context.store.tell(task.lease.job, at(80));
    let page: ProductFacts = column(&screenshot.page_facts)?;
    let (mut reading, words) = read_words(&text);
    read_parts(context, screenshot_id, &page, &mut reading).await?;
    context.store.tell(task.lease.job, at(90));
    let checked = cross_check(&reading, &page);
    if checked.values == ProductFacts::default() {
        return Err(StageError::Fatal {
            why: format!("nothing could be read on the picture of {}", screenshot.product_url),
        });
    }
    let id = task.lease.task;
    let confidence = f64::from(checked.confidence);
    numbers().ocr_confidence.observe(confidence);
    let completed = OcrCompleted {
        screenshot_id,
        ocr_result_id: id,
        data: OcrData {
            article_number: checked.values.article_number.clone(),
            price: checked.values.price,
            product_name: checked.values.name.clone(),
            confidence: (confidence * 10.0).round() / 10.0,
        },
    };
    let row = OcrRow {
        id,
        screenshot_id,
        ordinal: task.ordinal,
        confidence,
        full_text: text.text.clone(),
        reading: json(&reading)?,
        facts: json(&checked.values)?,
        disagreements: json(&checked.disagreements)?,
        error: None,
    };
    let mut rows = vec![Row::Ocr(row, json(&words)?)];
    // Who sends a picture to be read has not said that it shows a product of theirs.
    if context.store.job(task.lease.job).await?.job.plan != Plan::Read {
        rows.extend(
            article(&screenshot, &checked.values, &reading, &text.text, confidence).map(Row::Article),
        );
    }
    let item = match_products::Item { ocr_result_id: id };
    let next =
        NewTask::new(Stage::Match, task.ordinal, task.lease.job.derive("match", &id.to_string()), &item)?;
    Ok(Change { rows, tasks: vec![next], events: vec![completed.into()], ..Change::default() })
}

/// Reads the pictures of the parts of the page that the picture of the product says nothing of, or that the page doubts.
async fn read_parts(
    context: &Context,
    screenshot: Uuid,
    page: &ProductFacts,
    reading: &mut Reading,
) -> Result<(), StageError> {
    let open = open_fields(reading, page);
    if open.is_empty() {
        return Ok(());
    }
    let parts = context.store.elements_of(screenshot).await?;
    for field in open {
        let Some(part) = parts.iter().find(|part| kind(field).is_some_and(|kind| kind.word() == part.kind))
        else {
            continue;
        };
        if i64::from(part.width) * i64::from(part.height) > MOST_PART_PIXELS {
            continue;
        }
        let picture = context.blobs.get(&part.key, None).await?;
        // The picture of the product was read; what a part could have added is no reason to try it all again.
        match context.ocr.read_part(picture.bytes).await {
            Ok(text) => read_part(reading, page, field, &text),
            Err(error) => tracing::debug!(key = part.key, %error, "a part of a page could not be read"),
        }
    }
    Ok(())
}

/// The part of a page that shows a field.
fn kind(field: Field) -> Option<ElementKind> {
    match field {
        Field::ArticleNumber => Some(ElementKind::ArticleNumber),
        Field::Price => Some(ElementKind::Price),
        Field::Tiers => Some(ElementKind::PriceTable),
        Field::ProductName => Some(ElementKind::Title),
        Field::Description => Some(ElementKind::Description),
        Field::Ean => None,
    }
}

/// The article of a reading; none without an article number.
fn article(
    screenshot: &ScreenshotRow,
    facts: &ProductFacts,
    reading: &Reading,
    text: &str,
    confidence: f64,
) -> Option<ArticleRow> {
    /// Longer ones are misread lines.
    const MAX_NUMBER: usize = 100;
    let number = facts.article_number.as_deref().map(str::trim);
    let article_number = number.filter(|number| !number.is_empty() && number.len() <= MAX_NUMBER)?.to_owned();
    let currency = facts.currency.as_deref().unwrap_or("EUR");
    Some(ArticleRow {
        article_number,
        product_name: facts.name.clone().or_else(|| screenshot.product_name.clone()),
        description: facts.description.as_deref().map(short_description),
        price: facts.price,
        price_type: PriceType::of(facts, text),
        tiers: facts.tiers.clone(),
        // As it stands on the page, unless it was misread.
        tiered_prices_text: (reading.tiers == facts.tiers)
            .then(|| reading.tiers_text.clone())
            .flatten()
            .or_else(|| tiered_prices_text(&facts.tiers, currency)),
        currency: facts.currency.clone(),
        image_key: Some(screenshot.image_key.clone()),
        thumbnail_key: Some(screenshot.thumbnail_key.clone()),
        ean: facts.ean.clone(),
        source_url: screenshot.product_url.clone(),
        ocr_confidence: (confidence * 10.0).round() / 10.0,
    })
}

pub fn given_up(task: &Claimed, why: String) -> (Change, String) {
    let Ok(Item { screenshot_id }) = payload(task) else { return (Change::default(), why) };
    let row = OcrRow {
        id: task.lease.task,
        screenshot_id,
        ordinal: task.ordinal,
        confidence: 0.0,
        full_text: String::new(),
        reading: serde_json::json!({}),
        facts: serde_json::json!({}),
        disagreements: serde_json::json!([]),
        error: Some(why.clone()),
    };
    let failed = OcrFailed { screenshot_id, error: why.clone() };
    let rows = vec![Row::Ocr(row, serde_json::json!([]))];
    (Change { rows, events: vec![failed.into()], ..Change::default() }, why)
}
