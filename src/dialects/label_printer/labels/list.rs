//! Lists of labels: a page of the library, a search, and counts.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use super::{
    super::{
        answer::{Refusal, RefusalBody, pagination, success},
        ask::{Params, bad, text},
    },
    shape::price_label,
};
use crate::{
    http::{Api, Caller},
    store::{LabelOrder, LabelQuery, LabelSource},
};

/// Labels of one page at the most, and of one whose size is not said.
const MAX_LIMIT: u32 = 100;
const LIMIT: u32 = 20;
/// Tags that are looked for at once.
const MAX_TAGS: usize = 20;

/// Which labels are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// From 1.
    #[param(minimum = 1)]
    page: Option<u32>,
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// A part of the article number, the name, the description or the EAN.
    #[param(max_length = 200)]
    search: Option<String>,
    #[param(max_length = 100)]
    category: Option<String>,
    /// Separated by commas; labels with at least one of them.
    #[param(max_length = 500)]
    tags: Option<String>,
    #[param(value_type = Option<String>, pattern = "^(screenshot|manual|import)$")]
    source: Option<String>,
    #[param(pattern = "^(createdAt|updatedAt|articleNumber|productName|category|price)$")]
    sort_by: Option<String>,
    #[param(pattern = "^(asc|desc)$")]
    sort_order: Option<String>,
    /// `page`: `data` is an object with the labels, as later pages read it; else it is the labels.
    #[param(pattern = "^(array|page)$")]
    shape: Option<String>,
}

impl ListQuery {
    fn check(&self) -> Result<(LabelQuery, u32, u32), Refusal> {
        let (page, limit) = (self.page.unwrap_or(1), self.limit.unwrap_or(LIMIT));
        if page == 0 {
            return Err(bad("page must be 1 or more."));
        }
        let limit = checked_limit(limit)?;
        let tags: Vec<String> = match text("tags", self.tags.clone(), 500)? {
            None => Vec::new(),
            Some(tags) => {
                tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
            }
        };
        if tags.len() > MAX_TAGS {
            return Err(bad(format!("There are more than {MAX_TAGS} tags.")));
        }
        // A filter that is set to nothing filters nothing.
        let source = match self.source.as_deref().filter(|source| !source.is_empty()) {
            None => None,
            Some("screenshot") => Some(LabelSource::Screenshot),
            Some("manual") => Some(LabelSource::Manual),
            Some("import") => Some(LabelSource::Import),
            Some(_) => return Err(bad("source must be screenshot, manual or import.")),
        };
        let order = match self.sort_by.as_deref().filter(|order| !order.is_empty()) {
            None | Some("createdAt") => LabelOrder::CreatedAt,
            Some("updatedAt") => LabelOrder::UpdatedAt,
            Some("articleNumber") => LabelOrder::ArticleNumber,
            Some("productName") => LabelOrder::ProductName,
            Some("category") => LabelOrder::Category,
            Some("price") => LabelOrder::Price,
            Some(_) => {
                return Err(bad(
                    "sortBy must be createdAt, updatedAt, articleNumber, productName, category or price.",
                ));
            }
        };
        let ascending = match self.sort_order.as_deref().filter(|order| !order.is_empty()) {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(_) => return Err(bad("sortOrder must be asc or desc.")),
        };
        let query = LabelQuery {
            search: text("search", self.search.clone(), 200)?,
            category: text("category", self.category.clone(), 100)?,
            tags,
            source,
            order,
            ascending,
            limit: i64::from(limit),
            offset: i64::from(page - 1) * i64::from(limit),
        };
        Ok((query, page, limit))
    }
}

fn checked_limit(limit: u32) -> Result<u32, Refusal> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit must be from 1 to {MAX_LIMIT}.")));
    }
    Ok(limit)
}

/// A page of the library.
///
/// The first generation of pages, for which this API was made, maps over `data` and reads `pagination`; later ones read
/// `data.labels`, `data.total` and so on. An array in JSON has no keys, so one body cannot serve both, and nothing in
/// the requests of the two differs. `data` is the array; whoever serves a later page in front of this server has
/// `?shape=page` added, or sets `server.label_list`.
#[utoipa::path(
    get, path = "/api/labels", tag = "labels", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody)),
)]
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params<ListQuery>,
) -> Result<Response, Refusal> {
    let as_page = match query.shape.as_deref() {
        None => api.label_list == crate::config::LabelList::Page,
        Some("array") => false,
        Some("page") => true,
        Some(_) => return Err(bad("shape must be array or page.")),
    };
    let (wanted, page, limit) = query.check()?;
    let (labels, total) = api.store.library(caller.sees_only(), &wanted).await?;
    let labels: Vec<Value> = labels.iter().map(|label| price_label(label, &api.public_base)).collect();
    let pagination = pagination(page.into(), limit.into(), total);
    let pages = &pagination["totalPages"];
    let data = if as_page {
        json!({ "labels": labels, "total": total, "page": page, "limit": limit, "pages": pages })
    } else {
        labels.into()
    };
    Ok(Json(json!({
        "success": true, "data": data, "pagination": pagination,
        "total": total, "page": page, "limit": limit, "pages": pages,
    }))
    .into_response())
}

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// A part of the article number, the name, the description or the EAN.
    #[param(min_length = 1, max_length = 200)]
    q: Option<String>,
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The newest labels that hold a text.
#[utoipa::path(
    get, path = "/api/labels/search", tag = "labels", params(SearchQuery),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody)),
)]
pub async fn search(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params<SearchQuery>,
) -> Result<Response, Refusal> {
    let limit = checked_limit(query.limit.unwrap_or(LIMIT))?;
    let Some(wanted) = text("q", query.q, 200)? else { return Err(bad("q is required.")) };
    let wanted = LabelQuery { search: Some(wanted), limit: limit.into(), ..LabelQuery::default() };
    let (labels, total) = api.store.library(caller.sees_only(), &wanted).await?;
    let labels: Vec<Value> = labels.iter().map(|label| price_label(label, &api.public_base)).collect();
    Ok(Json(json!({ "success": true, "count": labels.len(), "total": total, "data": labels }))
        .into_response())
}

/// Counts over the library.
#[utoipa::path(
    get, path = "/api/labels/stats", tag = "labels", responses((status = 200, body = Value)),
)]
pub async fn stats(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    counts(&api, &caller).await
}

/// Counts over the library, at the address that the first backend had.
#[utoipa::path(
    get, path = "/api/labels/stats/summary", tag = "labels", responses((status = 200, body = Value)),
)]
pub async fn stats_summary(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    counts(&api, &caller).await
}

async fn counts(api: &Api, caller: &Caller) -> Result<Response, Refusal> {
    let stats = api.store.library_stats(caller.sees_only()).await?;
    let by = |counts: Vec<(String, i64)>| -> Map<String, Value> {
        counts.into_iter().map(|(word, count)| (word, count.into())).collect()
    };
    Ok(success(json!({
        "totalLabels": stats.total,
        "thisMonth": stats.this_month,
        "categories": by(stats.categories),
        "sources": by(stats.sources),
        "templateTypes": by(stats.template_types),
    })))
}
