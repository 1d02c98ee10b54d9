//! What the pages ask for when they start a job. One option may stand in several places, and a form sends numbers as
//! text; here it becomes one request. Pure.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::answer::Refusal;
use crate::{
    event::{Timestamp, format_timestamp},
    job::{CrawlOptions, CustomSelectors, JobRequest, MatchOptions, Plan, Priority},
};

type Fields = Map<String, Value>;

/// A job to be started.
#[derive(Debug, PartialEq)]
pub struct Wish {
    pub request: JobRequest,
    /// A price list that came as JSON, one object a row.
    pub rows: Vec<Fields>,
}

impl Wish {
    /// Reads the fields of a JSON body or of a form. `now` names a job that has no name.
    pub fn read(fields: &Fields, now: Timestamp) -> Result<Wish, Refusal> {
        let fields = &unfolded(fields)?;
        let config = section(fields, "config");
        let both = || [Some(fields), config].into_iter().flatten();
        let below = |name: &'static str| both().filter_map(move |place| section(place, name));
        // What stands further out wins.
        let crawl: Vec<&Fields> = both().chain(below("crawlerConfig")).collect();
        let matching: Vec<&Fields> = below("matcherConfig").collect();
        let outer: Vec<&Fields> = both().collect();

        let (match_threshold, matching) = match_options(&matching)?;
        let required = |key, sentence| text(&outer, key)?.ok_or_else(|| bad(sentence));
        let request = JobRequest {
            plan: Plan::Labels,
            shop_url: required("shopUrl", "Shop URL is required")?,
            template_id: required("templateId", "Template ID is required")?,
            name: Some(
                text(&outer, "name")?.unwrap_or_else(|| format!("Automation {}", format_timestamp(now))),
            ),
            max_products: whole(&crawl, "maxProducts")?,
            follow_pagination: flag(&crawl, "followPagination")?,
            match_threshold,
            matching,
            import_id: None,
            crawl: crawl_options(&crawl)?,
            priority: match number(&outer, "priority")? {
                None => Priority::default(),
                Some(priority) if priority.fract() == 0.0 => Priority::new(priority as i64)?,
                Some(_) => return Err(bad("priority must be a whole number.")),
            },
        };
        Ok(Wish { request, rows: rows(&outer)? })
    }
}

/// A form sends its sections as JSON text.
fn unfolded(fields: &Fields) -> Result<Fields, Refusal> {
    let mut fields = fields.clone();
    for key in ["config", "crawlerConfig", "matcherConfig", "excelData"] {
        if let Some(Value::String(text)) = fields.get(key) {
            let value = match text.trim() {
                "" => Value::Null,
                text => serde_json::from_str(text).map_err(|_| bad(format!("Invalid {key} JSON")))?,
            };
            fields.insert(key.into(), value);
        }
    }
    Ok(fields)
}

fn section<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name).and_then(Value::as_object)
}

/// The first value that was filled in.
fn first<'a>(places: &[&'a Fields], key: &str) -> Option<&'a Value> {
    let filled =
        |value: &&Value| !value.is_null() && value.as_str().is_none_or(|text| !text.trim().is_empty());
    places.iter().find_map(|place| place.get(key).filter(filled))
}

fn text(places: &[&Fields], key: &str) -> Result<Option<String>, Refusal> {
    match first(places, key) {
        None => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => {
            Err(bad(format!("{key} must not hold the character U+0000.")))
        }
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
        Some(_) => Err(bad(format!("{key} must be a text."))),
    }
}

fn number(places: &[&Fields], key: &str) -> Result<Option<f64>, Refusal> {
    let read = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    first(places, key)
        .map(|value| read(value).ok_or_else(|| bad(format!("{key} must be a number."))))
        .transpose()
}

fn whole(places: &[&Fields], key: &str) -> Result<Option<u32>, Refusal> {
    let fits = |number: f64| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    match number(places, key)? {
        Some(number) if !fits(number) => Err(bad(format!("{key} must be a whole number."))),
        number => Ok(number.map(|number| number as u32)),
    }
}

/// A text beside a `config`, or in it.
pub fn own_text(fields: &Fields, key: &str) -> Result<Option<String>, Refusal> {
    let places: Vec<&Fields> = [Some(fields), section(fields, "config")].into_iter().flatten().collect();
    text(&places, key)
}

/// How many products, whether further pages of listings are visited, and everything else of a crawl alone.
pub fn crawl_config(fields: &Fields) -> Result<(Option<u32>, Option<bool>, CrawlOptions), Refusal> {
    let fields = &unfolded(fields)?;
    if fields.get("config").is_some_and(|config| !config.is_null() && !config.is_object()) {
        return Err(bad("config must be an object such as {\"maxProducts\": 20}."));
    }
    let places: Vec<&Fields> = [Some(fields), section(fields, "config"), section(fields, "crawlerConfig")]
        .into_iter()
        .flatten()
        .collect();
    Ok((whole(&places, "maxProducts")?, flag(&places, "followPagination")?, crawl_options(&places)?))
}

/// What a `crawlerConfig` says beside the number of products. Fields that this server does not know are the business of
/// the page that sent them.
pub fn crawl_options(places: &[&Fields]) -> Result<CrawlOptions, Refusal> {
    let custom: Vec<&Fields> = places.iter().filter_map(|place| section(place, "customSelectors")).collect();
    let selector = |key: &str| text(&custom, key);
    let selectors = CustomSelectors {
        product_container: selector("productContainer")?,
        product_link: selector("productLink")?,
        product_image: selector("productImage")?,
        price: selector("price")?,
        article_number: selector("articleNumber")?,
        product_name: selector("productName")?,
        description: selector("description")?,
        next_page_button: selector("nextPageButton")?,
        pagination_links: selector("paginationLinks")?,
    };
    Ok(CrawlOptions {
        custom_selectors: Some(selectors).filter(|selectors| *selectors != CustomSelectors::default()),
        user_agent: text(places, "userAgent")?,
        full_shop_scan: flag(places, "fullShopScan")?,
        timeout: whole(places, "timeout")?,
        screenshot_quality: whole(places, "screenshotQuality")?,
        wait_for_images: flag(places, "waitForImages")?,
        headless: flag(places, "headless")?,
    })
}

/// What a `matcherConfig` says: the threshold of names, and everything else of a matching.
pub fn match_options(places: &[&Fields]) -> Result<(Option<f64>, MatchOptions), Refusal> {
    let threshold = ["threshold", "fuzzyThreshold", "minConfidence"];
    let threshold = threshold.into_iter().find(|key| first(places, key).is_some()).unwrap_or("threshold");
    let fuzzy = if first(places, "fuzzy").is_some() { "fuzzy" } else { "enableFuzzy" };
    let options = MatchOptions {
        article_number_threshold: number(places, "articleNumberThreshold")?,
        fuzzy: flag(places, fuzzy)?,
        low_confidence: number(places, "lowConfidence")?,
        price_tolerance: number(places, "priceTolerance")?,
    };
    Ok((number(places, threshold)?, options))
}

fn flag(places: &[&Fields], key: &str) -> Result<Option<bool>, Refusal> {
    match first(places, key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(text)) if text == "true" => Ok(Some(true)),
        Some(Value::String(text)) if text == "false" => Ok(Some(false)),
        Some(_) => Err(bad(format!("{key} must be true or false."))),
    }
}

fn rows(places: &[&Fields]) -> Result<Vec<Fields>, Refusal> {
    let rows = match first(places, "excelData") {
        None => return Ok(Vec::new()),
        Some(Value::Array(rows)) => rows.iter().map(|row| row.as_object().cloned()).collect(),
        Some(_) => None,
    };
    rows.ok_or_else(|| {
        bad("excelData must be a list of rows, each an object such as {\"articleNumber\": \"4711\"}.")
    })
}

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(fields: Value) -> Result<Wish, Refusal> {
        let now = chrono::DateTime::from_timestamp_millis(1_767_679_000_123).unwrap();
        Wish::read(fields.as_object().unwrap(), now)
    }

    /// Fields that are enough to start with, and more.
    fn wish(more: Value) -> JobRequest {
        let mut fields = json!({ "shopUrl": "https://shop.example.com/", "templateId": "standard-label" });
        fields.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        read(fields).unwrap().request
    }

    fn error(fields: Value) -> Value {
        read(fields).unwrap_err().body()["error"].take()
    }

    #[test]
    fn a_job_needs_a_shop_and_a_template() {
        for shop in [json!({}), json!({ "shopUrl": " " }), json!({ "shopUrl": null, "templateId": "x" })] {
            assert_eq!(error(shop), "Shop URL is required");
        }
        assert_eq!(error(json!({ "shopUrl": "https://shop.example.com/" })), "Template ID is required");
    }

    #[test]
    fn a_job_without_a_name_is_named_after_the_moment() {
        assert_eq!(wish(json!({ "name": "" })).name.unwrap(), "Automation 2026-01-06T05:56:40.123Z");
        assert_eq!(wish(json!({ "config": { "name": "Spring" } })).name.unwrap(), "Spring");
        assert_eq!(wish(json!({ "name": "Mine", "config": { "name": "Spring" } })).name.unwrap(), "Mine");
    }

    #[test]
    fn an_option_is_found_wherever_a_version_of_the_pages_puts_it() {
        for place in [
            json!({ "maxProducts": 3, "followPagination": false }),
            json!({ "crawlerConfig": { "maxProducts": 3, "followPagination": false } }),
            json!({ "config": { "maxProducts": 3, "followPagination": false } }),
            json!({ "config": { "crawlerConfig": { "maxProducts": 3, "followPagination": false } } }),
            json!({ "config": r#"{"crawlerConfig":{"maxProducts":3,"followPagination":false}}"# }),
            json!({ "maxProducts": "3", "followPagination": "false" }),
            json!({ "maxProducts": 3, "followPagination": false, "crawlerConfig": { "maxProducts": 9 } }),
        ] {
            let request = wish(place.clone());
            assert_eq!((request.max_products, request.follow_pagination), (Some(3), Some(false)), "{place}");
        }
        for place in [
            json!({ "matcherConfig": { "threshold": 0.8 } }),
            json!({ "config": { "matcherConfig": { "threshold": 0.8 } } }),
            json!({ "matcherConfig": r#"{"threshold":0.8}"# }),
        ] {
            assert_eq!(wish(place.clone()).match_threshold, Some(0.8), "{place}");
        }
        let said = json!({ "fuzzy": false, "articleNumberThreshold": "0.9", "lowConfidence": 0.5, "priceTolerance": 2 });
        for place in [
            json!({ "matcherConfig": said }),
            json!({ "config": json!({ "matcherConfig": said }).to_string() }),
        ] {
            let options = MatchOptions {
                article_number_threshold: Some(0.9),
                fuzzy: Some(false),
                low_confidence: Some(0.5),
                price_tolerance: Some(2.0),
            };
            assert_eq!(wish(place.clone()).matching, options, "{place}");
        }
        let silent = wish(json!({ "maxProducts": null, "config": "" }));
        assert_eq!(
            (silent.max_products, silent.follow_pagination, silent.match_threshold),
            (None, None, None)
        );
    }

    #[test]
    fn an_option_of_a_wrong_kind_is_named() {
        for (more, says) in [
            (json!({ "config": "{" }), "Invalid config JSON"),
            (json!({ "maxProducts": "many" }), "maxProducts must be a number."),
            (json!({ "maxProducts": 1.5 }), "maxProducts must be a whole number."),
            (json!({ "maxProducts": -1 }), "maxProducts must be a whole number."),
            (json!({ "followPagination": 1 }), "followPagination must be true or false."),
            (json!({ "name": 7 }), "name must be a text."),
            (json!({ "matcherConfig": { "threshold": [] } }), "threshold must be a number."),
            (json!({ "matcherConfig": { "fuzzy": 1 } }), "fuzzy must be true or false."),
        ] {
            let mut fields =
                json!({ "shopUrl": "https://shop.example.com/", "templateId": "standard-label" });
            fields.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
            assert_eq!(error(fields), says);
        }
    }

    #[test]
    fn a_price_list_may_come_as_rows() {
        let fields = |rows: Value| json!({ "shopUrl": "x", "templateId": "y", "excelData": rows });
        let row = json!({ "articleNumber": "4711", "price": 2.5 });
        assert_eq!(read(fields(json!([row]))).unwrap().rows, [row.as_object().unwrap().clone()]);
        assert_eq!(read(fields(json!(json!([row]).to_string()))).unwrap().rows.len(), 1);
        assert!(read(fields(json!([]))).unwrap().rows.is_empty());
        for bad in [json!("[1]"), json!([1]), json!({ "0": {} })] {
            assert!(error(fields(bad)).as_str().unwrap().contains("list of rows"));
        }
    }
}
