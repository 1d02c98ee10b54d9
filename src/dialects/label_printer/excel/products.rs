//! The known products one by one, all of them, and what they come to.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody, success},
        ask::Params,
        field::{self, bad, shown_tiers},
    },
    event::format_timestamp,
    http::Api,
    product::Tier,
    store::{ListedRow, Store, StoreError},
};

/// Characters of an article number.
const MAX_NUMBER: usize = 100;
/// Characters of a name and of a category.
const MAX_NAME: usize = 500;
/// Characters of a longer text: what fits into a cell.
const MAX_TEXT: usize = 32_767;
/// Columns of its own that a product may have, and characters of their names.
const MAX_CUSTOM: usize = 100;
const MAX_HEADING: usize = 200;
/// Products that are read at once.
const PAGE: i64 = 1000;

/// A known product, as it is added or changed; what is absent in a change stays as it is.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes a body whose fields may be absent, null, numbers or texts")]
pub struct ProductBody {
    /// Needed to add one; a change cannot change it.
    #[schema(max_length = 100)]
    article_number: Option<String>,
    /// Needed to add one.
    #[schema(max_length = 32767)]
    description: Option<String>,
    #[schema(max_length = 500)]
    product_name: Option<String>,
    #[schema(max_length = 32767)]
    additional_info: Option<String>,
    /// Other columns, by their headings.
    custom_fields: Option<BTreeMap<String, String>>,
    #[schema(minimum = 0)]
    price: Option<f64>,
    #[schema(max_length = 3)]
    currency: Option<String>,
    #[schema(max_length = 14)]
    ean: Option<String>,
    #[schema(max_length = 500)]
    category: Option<String>,
    #[schema(max_items = 50)]
    tiered_prices: Option<Vec<TierBody>>,
}

/// A price from a quantity on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body")]
pub struct TierBody {
    #[schema(minimum = 1)]
    quantity: u32,
    #[schema(minimum = 0)]
    price: f64,
}

/// Which part of the list is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Products of the answer; all when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// The article number behind which to begin.
    #[param(max_length = 100)]
    after: Option<String>,
}

/// All known products, by article number; or a page of them.
#[utoipa::path(
    get, path = "/api/excel/products", tag = "label printer: spreadsheets", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn list(
    State(api): State<Api>,
    Params(ListQuery { limit, after }): Params<ListQuery>,
) -> Result<Response, Refusal> {
    if limit.is_some_and(|limit| !(1..=PAGE).contains(&limit)) {
        return Err(bad(format!("limit must be from 1 to {PAGE}.")));
    }
    let after = after.unwrap_or_default();
    if after.len() > 4 * MAX_NUMBER || after.contains('\0') {
        return Err(bad("after must be an article number."));
    }
    if let Some(limit) = limit {
        let products = api.store.products_after(&after, limit).await?;
        let next = (products.len() as i64 == limit).then(|| products.last().map(|last| &last.article_number));
        let body = json!({
            "success": true,
            "data": products.iter().map(shown).collect::<Vec<_>>(),
            "count": products.len(),
            "next": next,
        });
        return Ok(Json(body).into_response());
    }
    // The first page before the answer begins: a database that does not answer is still told of.
    let first = api.store.products_after(&after, PAGE).await?;
    let body = Body::from_stream(stream::try_unfold(Pages::new(api.store, first), Pages::next));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The list as it goes out, a page in memory at a time.
struct Pages {
    store: Store,
    page: Vec<ListedRow>,
    count: usize,
    begun: bool,
    over: bool,
}

impl Pages {
    fn new(store: Store, page: Vec<ListedRow>) -> Pages {
        Pages { store, page, count: 0, begun: false, over: false }
    }

    async fn next(mut self) -> Result<Option<(Bytes, Pages)>, StoreError> {
        if self.over {
            return Ok(None);
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text += "{\"success\":true,\"data\":[";
        }
        for product in &self.page {
            if self.count > 0 {
                text.push(',');
            }
            self.count += 1;
            text += &shown(product).to_string();
        }
        let last = self.page.last().map(|last| last.article_number.clone());
        match last.filter(|_| self.page.len() as i64 == PAGE) {
            Some(last) => self.page = self.store.products_after(&last, PAGE).await?,
            None => {
                self.over = true;
                text += &format!("],\"count\":{}}}", self.count);
            }
        }
        Ok(Some((text.into(), self)))
    }
}

/// Adds a known product.
#[utoipa::path(
    post, path = "/api/excel/product", tag = "label printer: spreadsheets", request_body = ProductBody,
    responses(
        (status = 201, body = Value), (status = 400, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "The article number is known already"),
        (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn add(
    State(api): State<Api>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let fields = field::object(body)?;
    let article_number = field::required("articleNumber", fields.get("articleNumber"), MAX_NUMBER)?;
    let description = field::required("description", fields.get("description"), MAX_TEXT)?;
    let name = description.chars().take(MAX_NAME).collect();
    let new = ListedRow { article_number, name, description: Some(description), ..ListedRow::default() };
    let product = changed(new, &fields)?;
    if !api.store.add_product(&product).await? {
        let sentence =
            format!("There is a product with the article number {} already.", product.article_number);
        return Err(Refusal::plain(StatusCode::CONFLICT, sentence));
    }
    let body = json!({ "success": true, "data": shown(&product), "message": "Product created" });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// One known product.
#[utoipa::path(
    get, path = "/api/excel/product/{articleNumber}", tag = "label printer: spreadsheets",
    params(("articleNumber" = String, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let product = api.store.product(&number(path)?).await?.ok_or_else(not_known)?;
    Ok(Json(json!({ "success": true, "data": shown(&product) })).into_response())
}

/// Changes a known product.
#[utoipa::path(
    put, path = "/api/excel/product/{articleNumber}", tag = "label printer: spreadsheets",
    params(("articleNumber" = String, Path)), request_body = ProductBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let article_number = number(path)?;
    let fields = field::object(body)?;
    // Refused before anything is locked.
    changed(ListedRow::default(), &fields)?;
    let product = api
        .store
        .change_product(&article_number, |known| changed(known.clone(), &fields).unwrap_or(known))
        .await?
        .ok_or_else(not_known)?;
    let body = json!({ "success": true, "data": shown(&product), "message": "Product updated" });
    Ok(Json(body).into_response())
}

/// Forgets a known product.
#[utoipa::path(
    delete, path = "/api/excel/product/{articleNumber}", tag = "label printer: spreadsheets",
    params(("articleNumber" = String, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn remove(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    if !api.store.remove_product(&number(path)?).await? {
        return Err(not_known());
    }
    Ok(success(json!({ "message": "Product deleted" })))
}

/// Forgets all known products.
#[utoipa::path(
    delete, path = "/api/excel/cache", tag = "label printer: spreadsheets",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn clear(State(api): State<Api>) -> Result<Response, Refusal> {
    let removed = api.store.clear_products().await?;
    Ok(success(json!({ "message": "Cache cleared", "deletedCount": removed })))
}

/// What the known products come to.
#[utoipa::path(
    get, path = "/api/excel/stats", tag = "label printer: spreadsheets",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn stats(State(api): State<Api>) -> Result<Response, Refusal> {
    let stats = api.store.product_stats().await?;
    let categories: Vec<Value> =
        stats.categories.iter().map(|(name, count)| json!({ "name": name, "count": count })).collect();
    let last = stats.last_import.as_ref();
    Ok(success(json!({
        "totalProducts": stats.total,
        "articleNumbers": stats.article_numbers,
        // Pages print these as they are.
        "cached": stats.total,
        "categories": categories.len(),
        "lastImport": last.map(|last| format_timestamp(last.at)),
        "categoryCounts": categories,
        "lastImportFile": last.map(|last| json!({
            "fileName": last.file_name, "rows": last.rows, "errors": last.errors,
        })),
    })))
}

/// The same under its older name.
#[utoipa::path(
    get, path = "/api/excel/stats/summary", tag = "label printer: spreadsheets",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn summary(state: State<Api>) -> Result<Response, Refusal> {
    stats(state).await
}

/// A product in the words of the page: what is not known is absent.
pub fn shown(product: &ListedRow) -> Value {
    let tiers: Vec<Tier> = serde_json::from_value(product.tiers.clone()).unwrap_or_default();
    let mut shown = json!({
        "articleNumber": product.article_number,
        "productName": product.name,
        "description": product.description,
        "additionalInfo": product.additional_info,
        "customFields": if product.custom_fields.is_object() { product.custom_fields.clone() } else { json!({}) },
        "price": product.price,
        "currency": product.currency,
        "ean": product.ean,
        "category": product.category,
        "tieredPrices": shown_tiers(&tiers),
    });
    if let Value::Object(fields) = &mut shown {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}

/// The product with the fields of a body.
fn changed(mut product: ListedRow, fields: &Map<String, Value>) -> Result<ListedRow, Refusal> {
    for (name, value) in fields {
        match name.as_str() {
            "productName" | "name" => {
                if let Some(name) = field::text(name, value, MAX_NAME)? {
                    product.name = name;
                }
            }
            "description" => {
                let description = field::text(name, value, MAX_TEXT)?;
                product.description = Some(description.ok_or_else(|| bad("description must not be empty."))?);
            }
            "additionalInfo" => product.additional_info = field::text(name, value, MAX_TEXT)?,
            "customFields" => product.custom_fields = custom_fields(value)?,
            "price" => product.price = field::price(name, value)?,
            "currency" => product.currency = field::currency(name, value)?,
            "ean" => product.ean = field::ean(name, value)?,
            "category" => product.category = field::text(name, value, MAX_NAME)?,
            "tieredPrices" | "tiers" => product.tiers = json!(field::tiers(name, value)?),
            // The page sends back what it was given, and more.
            _ => {}
        }
    }
    Ok(product)
}

fn custom_fields(value: &Value) -> Result<Value, Refusal> {
    let fields = match value {
        Value::Null => return Ok(json!({})),
        Value::Object(fields) if fields.len() <= MAX_CUSTOM => fields,
        Value::Object(_) => return Err(bad(format!("customFields has more than {MAX_CUSTOM} fields."))),
        _ => return Err(bad("customFields must be an object.")),
    };
    let mut kept = Map::new();
    for (heading, value) in fields {
        let named =
            field::required("the name of a custom field", Some(&heading.as_str().into()), MAX_HEADING)?;
        let text = match value {
            Value::Bool(flag) => Some(flag.to_string()),
            value => field::text(heading, value, MAX_TEXT)?,
        };
        kept.extend(text.map(|text| (named, text.into())));
    }
    Ok(kept.into())
}

fn number(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(number) = path.map_err(|_| not_known())?;
    // No number that is stored is longer, and the database takes the character zero for an error of its own.
    if number.len() > 4 * MAX_NUMBER || number.contains('\0') { Err(not_known()) } else { Ok(number) }
}

fn not_known() -> Refusal {
    Refusal::plain(StatusCode::NOT_FOUND, "Product not found")
}
