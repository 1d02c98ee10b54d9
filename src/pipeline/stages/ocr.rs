//! OCR: what a screenshot says, checked against what the page declares.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Context, StageError, column, json, match_products, payload};
use crate::{
    event::{OcrCompleted, OcrData, OcrFailed, OcrProgress, OcrStarted},
    job::Stage,
    pipeline::tools::fields::{cross_check, read_fields},
    product::{
        ProductFacts,
        article::{PriceType, short_description, tiered_prices_text},
    },
    store::{ArticleRow, Change, Claimed, NewTask, OcrRow, Row, ScreenshotRow},
};

/// A screenshot to be read.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub screenshot_id: Uuid,
}

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
    context.store.tell(task.lease.job, at(90));
    let page: ProductFacts = column(&screenshot.page_facts)?;
    let reading = read_fields(&text);
    let checked = cross_check(&reading, &page);
    if checked.values == ProductFacts::default() {
        return Err(StageError::Fatal {
            why: format!("nothing could be read on the picture of {}", screenshot.product_url),
        });
    }
    let id = task.lease.task;
    let confidence = f64::from(checked.confidence);
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
    let mut rows = vec![Row::Ocr(row)];
    rows.extend(article(&screenshot, &checked.values, &text.text, confidence).map(Row::Article));
    let item = match_products::Item { ocr_result_id: id };
    let next =
        NewTask::new(Stage::Match, task.ordinal, task.lease.job.derive("match", &id.to_string()), &item)?;
    Ok(Change { rows, tasks: vec![next], events: vec![completed.into()], ..Change::default() })
}

/// The article of a reading; none without an article number.
fn article(
    screenshot: &ScreenshotRow,
    facts: &ProductFacts,
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
        tiered_prices_text: tiered_prices_text(&facts.tiers, currency),
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
    (Change { rows: vec![Row::Ocr(row)], events: vec![failed.into()], ..Change::default() }, why)
}
