//! The matching routes: readings against rows of a list, all of it sent along and none of it kept.

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::bad;
use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody, success},
        ask::Body,
        poll,
        wish::match_options,
    },
    http::Api,
    product::{
        ProductFacts, Tier,
        matching::{ListedFacts, Match, MatchedBy, Matcher, Report, Rules, validate},
        parse_price,
        price_list::{self, Limits},
    },
    store::match_rules,
};

/// Readings of one request at the most.
const MOST_READINGS: usize = 500;
/// Rows of one request at the most.
const MOST_ROWS: usize = 20_000;
/// Candidates of one request, unless it says otherwise, and at the most.
const USUAL_CANDIDATES: u64 = 5;
const MOST_CANDIDATES: u64 = 50;
/// Characters of a text that are looked at.
const MAX_TEXT: usize = 500;
/// Tiers of a reading at the most.
const MOST_TIERS: usize = 50;

/// Requests that are worked on at once; each may take seconds of a processor.
static PLACES: Semaphore = Semaphore::const_new(2);

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(find))
        .routes(routes!(find_all))
        .routes(routes!(find_best))
        .routes(routes!(check))
}

/// What was read, as `/api/ocr/process` answers it: `articleNumber`, `productName`, `price`, `ean`, `tieredPrices`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MatchBody {
    /// A reading: an object with `articleNumber`, `productName`, `price`, `ean`.
    #[schema(value_type = Object)]
    ocr_data: Value,
    /// Rows of a list, objects whose keys are its headings.
    #[schema(value_type = Vec<Object>, max_items = 20000)]
    excel_data: Vec<Map<String, Value>>,
    /// `threshold` (0 to 1) and other rules of matching.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// Readings and the list that they are matched with.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BatchBody {
    /// Readings.
    #[serde(alias = "ocrData", alias = "ocrResults", alias = "ocrDataList")]
    #[schema(value_type = Vec<Object>, max_items = 500)]
    ocr_data_array: Vec<Value>,
    /// Rows of a list, objects whose keys are its headings.
    #[schema(value_type = Vec<Object>, max_items = 20000)]
    excel_data: Vec<Map<String, Value>>,
    /// `threshold` (0 to 1) and other rules of matching.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// A reading and the list in which what resembles it is sought.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BestBody {
    /// A reading.
    #[schema(value_type = Object)]
    ocr_data: Value,
    /// Rows of a list, objects whose keys are its headings.
    #[schema(value_type = Vec<Object>, max_items = 20000)]
    excel_data: Vec<Map<String, Value>>,
    /// How many are wanted.
    #[serde(alias = "limit")]
    #[schema(minimum = 1, maximum = 50, default = 5)]
    top_n: Option<u64>,
}

/// A match that is to be looked at once more.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CheckBody {
    /// As `/api/ocr/match` answers it: `matchedBy`, `matchScore` or `confidence`, `matchedData`, `ocrData`.
    #[serde(alias = "match", alias = "matchData")]
    #[schema(value_type = Object)]
    match_result: Map<String, Value>,
    /// `threshold` (0 to 1) and other rules of matching.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// Finds the row of a list that a reading speaks of.
#[utoipa::path(
    post, path = "/api/ocr/match", tag = "label printer: ocr", request_body = MatchBody,
    responses(
        (status = 200, description = "The match, in `result`; `success` in it says whether there is one", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
async fn find(Body(body): Body<MatchBody>) -> Result<Response, Refusal> {
    let MatchBody { ocr_data, excel_data, config } = body;
    let (wanted, rules) = (facts(&ocr_data)?, rules(config)?);
    let result = work(excel_data, move |matcher| result(matcher, &wanted, &rules).0).await?;
    Ok(success(json!({ "result": result, "match": result })))
}

/// Finds the rows of a list that readings speak of, with a report on all of them.
#[utoipa::path(
    post, path = "/api/ocr/batch-match", tag = "label printer: ocr", request_body = BatchBody,
    responses(
        (status = 200, description = "A result for each reading, in their order, and a `report`", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
async fn find_all(Body(body): Body<BatchBody>) -> Result<Response, Refusal> {
    let BatchBody { ocr_data_array, excel_data, config } = body;
    if ocr_data_array.len() > MOST_READINGS {
        return Err(bad(format!("At most {MOST_READINGS} readings are matched at once.")));
    }
    let wanted = ocr_data_array.iter().map(facts).collect::<Result<Vec<_>, _>>()?;
    let rules = rules(config)?;
    let (results, report) = work(excel_data, move |matcher| {
        let found: Vec<_> = wanted.iter().map(|wanted| result(matcher, wanted, &rules)).collect();
        let report = Report::of(found.iter().filter_map(|(_, found)| *found), &rules);
        (found.into_iter().map(|(result, _)| result).collect::<Vec<_>>(), report)
    })
    .await?;
    Ok(success(json!({ "results": results, "count": results.len(), "report": report })))
}

/// Finds the rows of a list that resemble a reading most, the best first.
#[utoipa::path(
    post, path = "/api/ocr/find-best-matches", tag = "label printer: ocr", request_body = BestBody,
    responses(
        (status = 200, description = "Rows with their likeness, in `matches`", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
async fn find_best(Body(body): Body<BestBody>) -> Result<Response, Refusal> {
    let BestBody { ocr_data, excel_data, top_n } = body;
    let count = top_n.unwrap_or(USUAL_CANDIDATES);
    if !(1..=MOST_CANDIDATES).contains(&count) {
        return Err(bad(format!("topN must be from 1 to {MOST_CANDIDATES}.")));
    }
    let wanted = facts(&ocr_data)?;
    let matches = work(excel_data, move |matcher| {
        let best = matcher.best_matches(&wanted, count as usize).into_iter();
        let shown = best.map(|candidate| {
            json!({
                "matchedData": poll::product(&candidate.product.facts),
                "matchedBy": candidate.alike_in,
                "matchScore": rounded(candidate.score),
                "similarity": rounded(candidate.score),
            })
        });
        shown.collect::<Vec<Value>>()
    })
    .await?;
    Ok(success(json!({ "matches": matches, "count": matches.len() })))
}

/// Says whether a match can be relied on, and what is doubtful about it.
#[utoipa::path(
    post, path = "/api/ocr/validate-match", tag = "label printer: ocr", request_body = CheckBody,
    responses(
        (status = 200, description = "`isValid`, `confidence` and `warnings`, in `validation`", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
async fn check(Body(body): Body<CheckBody>) -> Result<Response, Refusal> {
    let CheckBody { match_result, config } = body;
    let rules = rules(config)?;
    let matched_by = match_result.get("matchedBy").unwrap_or(&Value::Null);
    let matched_by = MatchedBy::deserialize(matched_by)
        .map_err(|_| bad("matchedBy must be articleNumber, ean, productName or fuzzy."))?;
    let confidence =
        ["matchScore", "confidence", "score"].iter().find_map(|key| match_result.get(*key)?.as_f64());
    let confidence = confidence
        .filter(|confidence| (0.0..=1.0).contains(confidence))
        .ok_or_else(|| bad("matchScore must be a number from 0 to 1."))?;
    let price = |key: &str| match_result.get(key).and_then(|data| number(data.get("price")?));
    let validation = validate(matched_by, confidence, price("ocrData"), price("matchedData"), &rules);
    Ok(success(json!({
        "validation": validation,
        "isValid": validation.is_valid,
        "valid": validation.is_valid,
        "confidence": validation.confidence,
        "warnings": validation.warnings,
    })))
}

/// What was read, in whatever way its values are written.
fn facts(data: &Value) -> Result<ProductFacts, Refusal> {
    let Value::Object(data) = data else {
        return Err(bad("ocrData must be an object with articleNumber, productName, price, ean."));
    };
    // As the results of `/api/ocr` and of jobs have it.
    let data = data.get("extractedData").and_then(Value::as_object).unwrap_or(data);
    let text = |keys: &[&str]| {
        let text = keys.iter().find_map(|key| match data.get(*key)? {
            Value::String(text) => Some(text.trim().chars().take(MAX_TEXT).collect::<String>()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        text.filter(|text| !text.is_empty())
    };
    let tiers = data.get("tieredPrices").and_then(Value::as_array);
    let tiers = tiers.into_iter().flatten().take(MOST_TIERS).filter_map(|tier| {
        let quantity = number(tier.get("minQuantity").or_else(|| tier.get("quantity"))?)?;
        let price = number(tier.get("price")?)?;
        (1.0..=1e9).contains(&quantity).then_some(Tier { min_quantity: quantity as u32, price })
    });
    Ok(ProductFacts {
        article_number: text(&["articleNumber"]),
        name: text(&["productName", "name"]),
        price: data.get("price").and_then(number),
        ean: text(&["ean"]),
        description: text(&["description"]),
        tiers: tiers.collect(),
        ..ProductFacts::default()
    })
}

/// A number, or a price as people write it.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_price(text),
        _ => None,
    }
}

fn rules(config: Option<Value>) -> Result<Rules, Refusal> {
    let config = match config {
        None | Some(Value::Null) => return Ok(Rules::default()),
        Some(Value::Object(config)) => config,
        Some(_) => return Err(bad("config must be an object.")),
    };
    let (threshold, options) = match_options(&[&config])?;
    if threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        return Err(bad("threshold must be a number from 0 to 1."));
    }
    Ok(match_rules(threshold, &options.check()?))
}

/// Works with a list on a thread where that disturbs nobody.
async fn work<T: Send + 'static>(
    rows: Vec<Map<String, Value>>,
    work: impl FnOnce(&Matcher) -> T + Send + 'static,
) -> Result<T, Refusal> {
    if rows.is_empty() || rows.len() > MOST_ROWS {
        return Err(bad(format!("excelData must be a list of 1 to {MOST_ROWS} rows.")));
    }
    // Never closed, so a permit always comes.
    let _permit = PLACES.acquire().await;
    let worked = tokio::task::spawn_blocking(move || {
        let list =
            price_list::from_objects(&rows, Limits::default()).map_err(|error| bad(error.to_string()))?;
        let listed = list.products.into_iter().enumerate();
        let listed = listed
            .map(|(place, product)| ListedFacts { id: Uuid::from_u128(place as u128), facts: product.facts });
        let matcher = Matcher::new(listed.collect());
        if matcher.is_empty() {
            let first =
                list.summary.errors.first().map(|error| format!(" Row {}: {}.", error.row, error.message));
            return Err(bad(format!("excelData lists no product.{}", first.unwrap_or_default())));
        }
        Ok(work(&matcher))
    });
    worked.await.unwrap_or_else(|_| {
        let sentence = "The matching failed; the server's log tells why.";
        Err(Refusal::automation(StatusCode::INTERNAL_SERVER_ERROR, sentence))
    })
}

/// A match as pages know it, and what the report needs of it.
fn result(matcher: &Matcher, wanted: &ProductFacts, rules: &Rules) -> (Value, Option<(bool, f64)>) {
    match matcher.find(wanted, rules) {
        Ok(Match { product, matched_by, score, warnings }) => {
            let found = json!({
                "success": true,
                "matchedBy": matched_by,
                "matchType": if matched_by.is_exact() { "exact" } else { "fuzzy" },
                "matchScore": rounded(score),
                "confidence": rounded(score),
                "matchedData": poll::product(&product.facts),
                "ocrData": poll::product(wanted),
                "warnings": warnings,
            });
            (found, Some((matched_by.is_exact(), score)))
        }
        Err(none) => {
            let found = json!({
                "success": false,
                "matchedBy": "none",
                "matchScore": rounded(none.best.map_or(0.0, |(_, score)| score)),
                "confidence": 0,
                "ocrData": poll::product(wanted),
                "reason": none.reason,
                "warnings": [],
            });
            (found, None)
        }
    }
}

fn rounded(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Map<String, Value>> {
        let rows = json!([
            { "articleNumber": "A-1001", "productName": "Bürostuhl Größe L", "price": 129.9, "ean": "4006381333931" },
            { "Artikelnummer": "A-1002", "Bezeichnung": "Schreibtisch 160 cm", "Preis": "249,00 €" },
        ]);
        serde_json::from_value(rows).unwrap()
    }

    async fn body_of(response: Result<Response, Refusal>) -> Value {
        let response = response.unwrap_or_else(|refusal| panic!("{}", refusal.body()));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn posted<T: serde::de::DeserializeOwned>(body: Value) -> Body<T> {
        Body(serde_json::from_value(body).unwrap())
    }

    #[tokio::test]
    async fn a_reading_finds_its_row_and_is_told_what_is_doubtful() {
        let read = json!({ "articleNumber": "a-1001", "price": "99,00 €" });
        let body = json!({ "ocrData": read, "excelData": list() });
        let found = body_of(find(posted(body)).await).await;
        let result = &found["result"];
        assert_eq!((&result["success"], &result["matchedBy"]), (&json!(true), &json!("articleNumber")));
        assert_eq!(result["matchedData"]["productName"], "Bürostuhl Größe L");
        assert_eq!(result["warnings"].as_array().unwrap().len(), 1, "{result}");
        let checked = json!({ "matchResult": result });
        let checked = body_of(check(posted(checked)).await).await;
        assert_eq!((&checked["isValid"], &checked["warnings"]), (&json!(true), &result["warnings"]));
    }

    #[tokio::test]
    async fn many_readings_come_with_a_report_and_the_nearest_rows_with_their_likeness() {
        let readings = json!([{ "ean": "4006381333931" }, { "productName": "Schreibtisch 160cm" }, { "productName": "Lampe" }]);
        let body = json!({ "ocrResults": readings, "excelData": list(), "config": { "threshold": 0.7 } });
        let found = body_of(find_all(posted(body)).await).await;
        let matched: Vec<_> =
            found["results"].as_array().unwrap().iter().map(|one| &one["matchedBy"]).collect();
        assert_eq!(matched, ["ean", "productName", "none"]);
        assert_eq!(
            (&found["report"]["exactMatches"], &found["report"]["fuzzyMatches"]),
            (&json!(1), &json!(1))
        );
        let body = json!({ "ocrData": { "productName": "Schreibtisch" }, "excelData": list(), "topN": 1 });
        let best = body_of(find_best(posted(body)).await).await;
        assert_eq!(best["matches"][0]["matchedData"]["articleNumber"], "A-1002");
    }

    #[tokio::test]
    async fn what_cannot_be_matched_is_refused_with_a_sentence() {
        for (body, says) in [
            (json!({ "ocrData": [], "excelData": list() }), "ocrData must be"),
            (json!({ "ocrData": {}, "excelData": [] }), "1 to 20000 rows"),
            (json!({ "ocrData": {}, "excelData": [{ "a": 1 }] }), ""),
            (json!({ "ocrData": {}, "excelData": list(), "config": { "threshold": 2 } }), "from 0 to 1"),
            (json!({ "ocrData": {}, "excelData": list(), "config": [] }), "config must be"),
        ] {
            let refused = find(posted(body.clone())).await.unwrap_err().body();
            assert!(refused["error"].as_str().unwrap().contains(says), "{body}: {refused}");
        }
        for (body, says) in [
            (json!({ "match": { "matchedBy": "magic", "matchScore": 1 } }), "matchedBy must be"),
            (json!({ "match": { "matchedBy": "ean" } }), "matchScore must be"),
            (json!({ "match": { "matchedBy": "ean", "confidence": 7 } }), "matchScore must be"),
        ] {
            let refused = check(posted(body)).await.unwrap_err().body();
            assert!(refused["error"].as_str().unwrap().contains(says), "{refused}");
        }
    }
}
