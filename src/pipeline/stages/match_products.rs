//! Match: the known product that a reading speaks of.
//!
//! Labels are made of matched products. Where there is nothing to match against (no price list came with the job and
//! no product is known), they are made of what was read, for a job without any label would help nobody.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Context, StageError, column, json, payload, render_label};
use crate::{
    event::{Event, MatchFailed, MatchFound, MatchType},
    job::Stage,
    product::{ProductFacts, matching::Match},
    store::{Change, Claimed, MatchRow, NewTask, Row, match_rules_of},
};

/// A reading to be matched.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub ocr_result_id: Uuid,
}

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let Item { ocr_result_id } = payload(task)?;
    let job = task.lease.job;
    let record = context.store.job(job).await?;
    let config =
        record.config.ok_or_else(|| StageError::Fatal { why: "the job has no configuration".into() })?;
    let reading = context.store.ocr_result(ocr_result_id).await?;
    let reading = reading.ok_or_else(|| StageError::Fatal { why: "its reading is gone".into() })?;
    let screenshot = context.store.screenshot(reading.screenshot_id).await?;
    let product_url = screenshot.map(|screenshot| screenshot.product_url).unwrap_or_default();
    let read: ProductFacts = column(&reading.facts)?;
    let matcher = context.matcher(config.import_id).await?;

    let id = task.lease.task;
    let mut row = unmatched(task, ocr_result_id);
    let rules = match_rules_of(Some(&config));
    // A list of a hundred thousand names takes some milliseconds to be compared with one.
    let searched = {
        let (matcher, read) = (matcher.clone(), read.clone());
        tokio::task::spawn_blocking(move || match matcher.find(&read, &rules) {
            Ok(Match { product, matched_by, score, warnings }) => {
                Ok((product.facts.clone(), matched_by, score, warnings))
            }
            Err(none) => Err((none.reason, none.best.map_or(0.0, |(_, score)| score))),
        })
    };
    let found = searched.await.map_err(|error| StageError::Retry { why: error.to_string() })?;
    let (event, label): (Event, Option<ProductFacts>) = match found {
        Ok((listed, matched_by, score, warnings)) => {
            let match_type = if matched_by.is_exact() { MatchType::Exact } else { MatchType::Fuzzy };
            row.success = true;
            row.score = score;
            row.match_type = Some(word(&match_type)?);
            row.matched_by = Some(word(&matched_by)?);
            row.listed = Some(json(&listed)?);
            row.warnings = json(&warnings)?;
            let event = MatchFound {
                ocr_result_id,
                match_id: id,
                match_type,
                confidence: (score * 1000.0).round() / 1000.0,
                article_number: listed.article_number.clone().unwrap_or_default(),
            };
            (event.into(), Some(merged(&listed, &read)))
        }
        Err((reason, nearest)) => {
            let nothing_known = matcher.is_empty();
            let reason = match nothing_known {
                true => "No products are known to match with; the label shows what was read.".to_owned(),
                false => reason,
            };
            row.reason = Some(reason.clone());
            row.score = nearest;
            let event = MatchFailed { ocr_result_id, reason, article_number: read.article_number.clone() };
            (event.into(), nothing_known.then_some(read))
        }
    };
    let tasks = match label {
        Some(facts) => {
            let item = render_label::Item { match_id: id, facts, product_url };
            vec![NewTask::new(Stage::Render, task.ordinal, job.derive("label", &id.to_string()), &item)?]
        }
        None => Vec::new(),
    };
    Ok(Change { rows: vec![Row::Match(row)], tasks, events: vec![event], ..Change::default() })
}

/// The price list's values, and what was read where it says nothing.
fn merged(listed: &ProductFacts, read: &ProductFacts) -> ProductFacts {
    let ProductFacts { article_number, name, price, currency, tiers, ean, description, image_url } =
        listed.clone();
    let priced = price.is_some() || !tiers.is_empty();
    ProductFacts {
        article_number: article_number.or_else(|| read.article_number.clone()),
        name: name.or_else(|| read.name.clone()),
        price: if priced { price } else { read.price },
        currency: currency.or_else(|| read.currency.clone()),
        tiers: if priced { tiers } else { read.tiers.clone() },
        ean: ean.or_else(|| read.ean.clone()),
        description: description.or_else(|| read.description.clone()),
        image_url: image_url.or_else(|| read.image_url.clone()),
    }
}

fn word(value: &impl Serialize) -> Result<String, StageError> {
    match json(value)? {
        serde_json::Value::String(word) => Ok(word),
        other => Err(StageError::Fatal { why: format!("{other} is not a word") }),
    }
}

/// The row of a reading as it is before a product is found.
fn unmatched(task: &Claimed, ocr_result_id: Uuid) -> MatchRow {
    MatchRow {
        id: task.lease.task,
        ocr_result_id,
        ordinal: task.ordinal,
        success: false,
        match_type: None,
        matched_by: None,
        score: 0.0,
        listed: None,
        warnings: serde_json::json!([]),
        reason: None,
    }
}

pub fn given_up(task: &Claimed, why: String) -> (Change, String) {
    let Ok(Item { ocr_result_id }) = payload(task) else { return (Change::default(), why) };
    let row = MatchRow { reason: Some(why.clone()), ..unmatched(task, ocr_result_id) };
    let failed = MatchFailed { ocr_result_id, reason: why.clone(), article_number: None };
    (Change { rows: vec![Row::Match(row)], events: vec![failed.into()], ..Change::default() }, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_price_is_not_mixed_with_prices_that_were_read() {
        let tier = |price| crate::product::Tier { min_quantity: 10, price };
        let listed = ProductFacts { price: Some(2.0), ean: None, ..ProductFacts::default() };
        let read = ProductFacts { tiers: vec![tier(1.5)], ean: Some("x".into()), ..ProductFacts::default() };
        let label = merged(&listed, &read);
        assert_eq!((label.price, label.tiers.len(), label.ean.as_deref()), (Some(2.0), 0, Some("x")));
        assert_eq!(merged(&ProductFacts::default(), &read).tiers, [tier(1.5)]);
    }
}
