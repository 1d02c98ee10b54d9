//! Render: a product's label as PNG and PDF.

use std::time::Instant;

use bytes::Bytes;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Context, StageError, json, payload};
use crate::{
    event::{LabelFailed, LabelGenerated},
    label::{LabelData, MAX_PICTURE_BYTES, Picture},
    product::ProductFacts,
    store::{Change, Claimed, LabelRow, ListedRow, Row},
};

/// Values of a known product besides its facts.
const MAX_MORE_VALUES: usize = 64;

/// A product to be labelled.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub match_id: Uuid,
    pub facts: ProductFacts,
    /// Where a QR code leads.
    pub product_url: String,
}

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let Item { match_id, facts, product_url } = payload(task)?;
    let job = task.lease.job;
    let record = context.store.job(job).await?;
    let config =
        record.config.ok_or_else(|| StageError::Fatal { why: "the job has no configuration".into() })?;
    let renderer = context.renderer.clone();
    let code_url = Some(product_url).filter(|url| !url.is_empty());
    let mut data = LabelData { facts: facts.clone(), code_url, ..LabelData::default() };
    if let Some(number) = &facts.article_number
        && let Some(known) = context.store.product(number).await?
    {
        more_values(&mut data, known);
    }
    let (template, note) = context.template(&config.template_id, &data).await?;
    let template_id = template.id().to_owned();
    let mut found = Vec::new();
    for address in template.wanted_pictures(&data) {
        // What lies elsewhere is left out, and the label says so.
        let bytes = context.blobs.own(&address, MAX_PICTURE_BYTES).await?;
        found.extend(bytes.map(|bytes| (address, bytes)));
    }
    let began = Instant::now();
    let rendered = tokio::task::spawn_blocking(move || {
        let pictures = found.into_iter();
        let pictures = pictures.filter_map(|(at, bytes)| Some((at, Picture::read(bytes.to_vec()).ok()?)));
        data.pictures.extend(pictures);
        renderer.render(&template, &data)
    })
    .await
    .map_err(|_| StageError::Retry { why: "the label's drawing failed; the server's log tells why".into() })?
    .map_err(|error| StageError::Fatal { why: error.to_string() })?;
    let render_ms = began.elapsed().as_millis() as i32;

    let mut warnings = rendered.warnings;
    warnings.extend(note);

    let id = task.lease.task;
    let file_size = rendered.png.len() as i64;
    let key = |ending: &str| format!("jobs/{job}/labels/{id}.{ending}");
    let image = context.blobs.put(key("png"), Bytes::from(rendered.png), "image/png").await?;
    let pdf = context.blobs.put(key("pdf"), Bytes::from(rendered.pdf), "application/pdf").await?;
    let article_number = facts.article_number.clone().unwrap_or_default();
    let generated = LabelGenerated {
        label_id: id,
        image_url: context.blobs.addresses().plain(&image.key),
        article_number: article_number.clone(),
    };
    let row = LabelRow {
        id,
        match_id,
        template_id,
        ordinal: task.ordinal,
        article_number,
        facts: json(&facts)?,
        image_key: Some(image.key.clone()),
        pdf_key: Some(pdf.key.clone()),
        width: Some(rendered.width_px as i32),
        height: Some(rendered.height_px as i32),
        file_size: Some(file_size),
        render_ms: Some(render_ms),
        warnings: json(&warnings)?,
        error: None,
        created_at: Utc::now(),
    };
    Ok(Change {
        rows: vec![Row::Artifact(image), Row::Artifact(pdf), Row::Label(row)],
        events: vec![generated.into()],
        ..Change::default()
    })
}

/// What the known product has besides its facts, for rules and for templates that name it: its category, its notes and
/// the other columns of its list.
fn more_values(data: &mut LabelData, known: ListedRow) {
    let custom = match known.custom_fields {
        Value::Object(custom) => custom,
        _ => Map::new(),
    };
    let maker = ["manufacturer", "Manufacturer", "Hersteller", "hersteller"];
    let maker = maker.iter().find_map(|heading| custom.get(*heading)).cloned();
    let named = [
        ("category", known.category.map(Value::from)),
        ("additionalInfo", known.additional_info.map(Value::from)),
        ("manufacturer", maker),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    for (name, value) in named.chain(custom).take(MAX_MORE_VALUES) {
        if let Value::String(value) = value {
            data.fields.entry(name).or_insert(value);
        }
    }
}

/// The label's row is not written: without a picture there is no label to list.
pub fn given_up(task: &Claimed, why: String) -> (Change, String) {
    let article_number = payload::<Item>(task).ok().and_then(|item| item.facts.article_number);
    let failed = LabelFailed { error: why.clone(), article_number };
    (Change { events: vec![failed.into()], ..Change::default() }, why)
}
