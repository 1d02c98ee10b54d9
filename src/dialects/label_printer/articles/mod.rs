//! `/api/articles/*`: the articles that jobs and people put together.

mod body;
mod export;
mod sheet;

use std::collections::HashMap;

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::body::{ArticleBody, applied, shown};
use super::{
    answer::{Refusal, RefusalBody, pagination, success},
    ask::Params,
    field::{self, bad},
};
use crate::{
    http::{Api, Caller},
    product::article::PriceType,
    store::{Article, ArticleQuery, ArticleSort},
};

/// Articles of a page: the default, and the most.
const PAGE: i64 = 20;
const MAX_PAGE: i64 = 100;
/// The last page that anybody may ask for.
const LAST_PAGE: i64 = 1_000_000;
/// Characters that are searched for.
const MAX_SEARCH: usize = 200;
/// Articles that are changed or removed at once.
const MAX_BULK: usize = 1000;

/// Everything below `/api/articles`.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(stats))
        .routes(routes!(bulk_delete))
        .routes(routes!(bulk_update))
        .routes(routes!(export::export))
        .routes(routes!(sheet::preview))
        .routes(routes!(sheet::import))
        .routes(routes!(sheet::valid_fields))
        .routes(routes!(show, change, remove))
}

/// Which articles are wanted, and in which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes a query that is read by hand: pages send empty values")]
pub struct ListQuery {
    #[param(minimum = 1, maximum = 1000000)]
    page: Option<i64>,
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// In the number, the name, the description, the EAN or the manufacturer.
    #[param(max_length = 200)]
    search: Option<String>,
    #[param(max_length = 200)]
    category: Option<String>,
    verified: Option<bool>,
    published: Option<bool>,
    /// `createdAt` when absent.
    #[param(
        pattern = "^(createdAt|updatedAt|articleNumber|productName|price|category|manufacturer|ean|ocrConfidence|verified|published)$"
    )]
    sort_by: Option<String>,
    /// `desc` when absent.
    #[param(pattern = "^(asc|desc)$")]
    sort_order: Option<String>,
}

/// Articles by their ids.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body")]
pub struct Ids {
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<Uuid>,
}

/// Articles by their ids, and what is to be changed of all of them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body")]
pub struct BulkUpdate {
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<Uuid>,
    data: ArticleBody,
}

/// A page of the list of articles.
#[utoipa::path(
    get, path = "/api/articles", tag = "label printer: articles", params(ListQuery),
    responses((status = 200, body = Value), (status = 400, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn list(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    let (query, page) = read_query(&query)?;
    let (articles, total) = api.store.articles(caller.sees_only(), &query).await?;
    let body = json!({
        "success": true,
        "data": articles.iter().map(shown).collect::<Vec<_>>(),
        "pagination": pagination(page, query.limit, total),
    });
    Ok(Json(body).into_response())
}

fn read_query(given: &HashMap<String, String>) -> Result<(ArticleQuery, i64), Refusal> {
    let of = |name: &str| given.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let number = |name: &str, default: i64, most: i64| match of(name) {
        None => Ok(default),
        Some(value) => value
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| bad(format!("{name} must be a number from 1 to {most}."))),
    };
    let words = |name: &str| field::text(name, &of(name).into(), MAX_SEARCH);
    let flag = |name: &str| of(name).map(|value| field::flag(name, &value.into())).transpose();
    let (page, limit) = (number("page", 1, LAST_PAGE)?, number("limit", PAGE, MAX_PAGE)?);
    let names = ArticleSort::ALL.map(|(name, _)| name).join(", ");
    let sort = match of("sortBy").or_else(|| of("sort_by")) {
        None => ArticleSort::default(),
        Some(wanted) => {
            let known = ArticleSort::ALL.into_iter().find(|(name, _)| *name == wanted);
            known.map(|(_, sort)| sort).ok_or_else(|| bad(format!("sortBy must be one of {names}.")))?
        }
    };
    let ascending = match of("sortOrder").or_else(|| of("sort_order")) {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(bad("sortOrder must be asc or desc.")),
    };
    let query = ArticleQuery {
        search: words("search")?,
        category: words("category")?,
        verified: flag("verified")?,
        published: flag("published")?,
        sort,
        ascending,
        limit,
        offset: (page - 1) * limit,
    };
    Ok((query, page))
}

/// What the articles come to.
#[utoipa::path(
    get, path = "/api/articles/stats", tag = "label printer: articles",
    responses((status = 200, body = Value), (status = 503, body = RefusalBody)),
)]
pub async fn stats(State(api): State<Api>, caller: Caller) -> Result<Response, Refusal> {
    let stats = api.store.article_stats(caller.sees_only()).await?;
    let categories: Vec<Value> =
        stats.categories.iter().map(|(name, count)| json!({ "name": name, "count": count })).collect();
    Ok(success(json!({
        "total": stats.total,
        "withImages": stats.with_images,
        "verified": stats.verified,
        "published": stats.published,
        "categories": categories,
    })))
}

/// Adds an article; it needs a number, a name, and a price, tier prices or the price type `auf_anfrage`.
#[utoipa::path(
    post, path = "/api/articles", tag = "label printer: articles", request_body = ArticleBody,
    responses(
        (status = 201, body = Value), (status = 400, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "The article number is taken"),
        (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn add(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let fields = field::object(body)?;
    let article = applied(empty(caller.subject()), &fields)?;
    if article.article_number.is_empty() {
        return Err(bad("articleNumber is required."));
    }
    if article.product_name.is_empty() {
        return Err(bad("productName is required."));
    }
    let on_request = article.price_type == PriceType::AufAnfrage;
    if article.price <= 0.0 && article.tiers.is_empty() && !on_request {
        return Err(bad("An article needs a price above 0, tieredPrices, or the priceType auf_anfrage."));
    }
    if !api.store.add_article(&article).await? {
        return Err(taken(&article.article_number));
    }
    let body = json!({ "success": true, "data": shown(&article), "message": "Article created" });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

fn empty(owner: &str) -> Article {
    let now = Utc::now();
    Article {
        id: Uuid::now_v7(),
        owner: owner.to_owned(),
        article_number: String::new(),
        product_name: String::new(),
        description: None,
        price: 0.0,
        price_type: PriceType::Unknown,
        tiers: Vec::new(),
        tiered_prices_text: None,
        currency: "EUR".into(),
        image_key: None,
        thumbnail_key: None,
        image_url: None,
        thumbnail_url: None,
        ean: None,
        category: None,
        manufacturer: None,
        source_url: String::new(),
        job_id: None,
        ocr_confidence: None,
        verified: false,
        published: true,
        created_at: now,
        updated_at: now,
    }
}

/// One article.
#[utoipa::path(
    get, path = "/api/articles/{id}", tag = "label printer: articles", params(("id" = Uuid, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn show(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let article = api.store.article(id(path)?, caller.sees_only()).await?.ok_or_else(not_found)?;
    Ok(Json(json!({ "success": true, "data": shown(&article) })).into_response())
}

/// Changes an article; what the body does not name stays as it is.
#[utoipa::path(
    put, path = "/api/articles/{id}", tag = "label printer: articles", params(("id" = Uuid, Path)),
    request_body = ArticleBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 409, body = RefusalBody, description = "Another article has that number"),
        (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let id = id(path)?;
    let fields = field::object(body)?;
    if fields.contains_key("articleNumber") {
        let number = field::required("articleNumber", fields.get("articleNumber"), body::MAX_NUMBER)?;
        if api.store.article_number_taken(&number, id).await? {
            return Err(taken(&number));
        }
    }
    let now = Utc::now();
    let changed = api
        .store
        .change_articles(&[id], caller.sees_only(), |article| {
            Ok::<_, Refusal>(Article { updated_at: now, ..applied(article, &fields)? })
        })
        .await?;
    let article = changed.first().ok_or_else(not_found)?;
    Ok(Json(json!({ "success": true, "data": shown(article), "message": "Article updated" })).into_response())
}

/// Removes an article.
#[utoipa::path(
    delete, path = "/api/articles/{id}", tag = "label printer: articles", params(("id" = Uuid, Path)),
    responses((status = 200, body = Value), (status = 404, body = RefusalBody), (status = 503, body = RefusalBody)),
)]
pub async fn remove(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    match api.store.remove_articles(&[id(path)?], caller.sees_only()).await? {
        0 => Err(not_found()),
        _ => Ok(success(json!({ "message": "Article deleted" }))),
    }
}

/// Removes articles.
#[utoipa::path(
    post, path = "/api/articles/bulk-delete", tag = "label printer: articles", request_body = Ids,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn bulk_delete(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let ids = ids(&field::object(body)?, MAX_BULK)?;
    let removed = api.store.remove_articles(&ids, caller.sees_only()).await?;
    Ok(success(json!({ "message": format!("{removed} articles deleted"), "deletedCount": removed })))
}

/// Changes articles together; a field that is wrong changes none of them.
#[utoipa::path(
    post, path = "/api/articles/bulk-update", tag = "label printer: articles", request_body = BulkUpdate,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn bulk_update(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let fields = field::object(body)?;
    let ids = ids(&fields, MAX_BULK)?;
    let data = fields.get("data").and_then(Value::as_object).filter(|data| !data.is_empty());
    let data = data.ok_or_else(|| bad("data must be an object with the fields to change."))?;
    if data.contains_key("articleNumber") {
        return Err(bad("articleNumber is another for each article; change it one by one."));
    }
    let now = Utc::now();
    let changed = api
        .store
        .change_articles(&ids, caller.sees_only(), |article| {
            Ok::<_, Refusal>(Article { updated_at: now, ..applied(article, data)? })
        })
        .await?;
    let count = changed.len();
    Ok(success(json!({ "message": format!("{count} articles updated"), "updatedCount": count })))
}

/// The ids of a body.
fn ids(fields: &Map<String, Value>, most: usize) -> Result<Vec<Uuid>, Refusal> {
    let wrong = || bad(format!("ids must be a list of 1 to {most} ids of articles."));
    let list = fields.get("ids").and_then(Value::as_array).ok_or_else(wrong)?;
    if list.is_empty() || list.len() > most {
        return Err(wrong());
    }
    list.iter().map(|id| id.as_str().and_then(|id| id.parse().ok()).ok_or_else(wrong)).collect()
}

/// The article that a path names. What is no id at all names no article either.
fn id(path: Result<Path<String>, PathRejection>) -> Result<Uuid, Refusal> {
    let Path(id) = path.map_err(|_| not_found())?;
    id.parse().map_err(|_| not_found())
}

fn not_found() -> Refusal {
    Refusal::plain(StatusCode::NOT_FOUND, "Article not found")
}

fn taken(number: &str) -> Refusal {
    Refusal::plain(StatusCode::CONFLICT, format!("There is an article with the number {number} already."))
}
