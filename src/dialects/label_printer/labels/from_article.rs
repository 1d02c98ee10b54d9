//! Labels out of what is known already, or out of a page of a shop.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    super::{
        answer::{Refusal, RefusalBody},
        ask::{Body, bad, text},
    },
    picture,
    shape::{encoded, price_label},
};
use crate::{
    http::{Api, Caller},
    job::{JobRequest, Plan},
    store::{LabelSource, LibraryLabel, TemplateType},
};

/// Which article, and which template draws it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerateBody {
    /// Its id or its article number.
    #[schema(min_length = 1, max_length = 200)]
    article_id: Option<String>,
    /// A template's id or name; `standard-label` if there is none.
    #[schema(max_length = 200)]
    template_id: Option<String>,
}

/// Draws a known article as a label and adds it to the library.
#[utoipa::path(
    post, path = "/api/labels/generate-from-article", tag = "labels", request_body = GenerateBody,
    responses(
        (status = 201, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 422, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being drawn"),
    ),
)]
pub async fn generate(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<GenerateBody>,
) -> Result<Response, Refusal> {
    let Some(article) = text("articleId", body.article_id, 200)? else {
        return Err(bad("Article ID is required"));
    };
    let template = text("templateId", body.template_id, 200)?;
    let not_found = |what: &str| Refusal::automation(StatusCode::NOT_FOUND, format!("{what} not found"));
    let article = api
        .store
        .article_to_label(&article, caller.sees_only())
        .await?
        .ok_or_else(|| not_found("Article"))?;
    let template_id = match template {
        None => None,
        Some(name) => Some(api.store.template(&name).await?.ok_or_else(|| not_found("Template"))?.id),
    };
    let now = Utc::now();
    let label = LibraryLabel {
        id: Uuid::now_v7(),
        owner: caller.subject().to_owned(),
        job_id: None,
        article_number: article.article_number,
        product_name: article.name,
        description: article.description,
        price: article.price,
        currency: article.currency,
        unit: None,
        tiers: article.tiers,
        ean: article.ean,
        template_type: type_of(template_id.as_deref()),
        template_id,
        tags: article.category.iter().cloned().collect(),
        category: article.category,
        source: LabelSource::Import,
        shop_url: article.source_url,
        image_url: None,
        qr_code: None,
        has_picture: false,
        created_at: now,
        updated_at: now,
    };
    // Drawn before it is stored: a label that cannot be drawn is of no use in the library.
    let drawn = picture::of(&api, &label).await?;
    api.store.add_to_library(&label, None).await?;
    let mut shown = price_label(&label, &api.public_base);
    shown["imageData"] = encoded(&drawn.bytes).into();
    let body = json!({ "success": true, "data": shown, "message": "Label generated from article" });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// How much a template shows; those that people made are `custom`.
fn type_of(template: Option<&str>) -> TemplateType {
    match template {
        None | Some("standard-label") => TemplateType::Standard,
        Some("compact-label") => TemplateType::Minimal,
        Some("detailed-label") => TemplateType::Extended,
        Some(_) => TemplateType::Custom,
    }
}

/// A page whose product is to become a label.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtractBody {
    /// The product's page.
    #[schema(min_length = 1, max_length = 2048)]
    url: Option<String>,
    /// Names the job; the article's number is read from the page.
    #[schema(max_length = 100)]
    article_number: Option<String>,
}

/// Starts a job that photographs and reads a product's page and makes its label, which is in the library when the job
/// is done. Its progress is told as any job's is.
#[utoipa::path(
    post, path = "/api/labels/extract", tag = "labels", request_body = ExtractBody,
    responses(
        (status = 202, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
pub async fn extract(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<ExtractBody>,
) -> Result<Response, Refusal> {
    let Some(url) = text("url", body.url, 2048)? else { return Err(bad("URL is required")) };
    let article = text("articleNumber", body.article_number, 100)?;
    let article = article.map(|number| number.chars().filter(|c| !c.is_control()).collect::<String>());
    let request = JobRequest {
        plan: Plan::Labels,
        shop_url: url,
        template_id: "standard-label".into(),
        name: Some(
            article.map_or_else(|| "Label of a page".to_owned(), |number| format!("Label of {number}")),
        ),
        max_products: Some(1),
        follow_pagination: Some(false),
        ..JobRequest::default()
    };
    let id = api.store.submit(request, caller.subject(), &api.limits).await?;
    let body = json!({
        "success": true, "jobId": id, "data": { "jobId": id, "status": "pending" },
        "message": "The page is being read; its label will be in the library when the job is done.",
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
