//! `/v1/about` and `/v1/templates`: what a page must know before it can offer anything.

use axum::{Json as Answer, extract::State};
use serde_json::{Value, json};

use super::{
    Api,
    caller::Caller,
    error::{Error, ErrorBody},
};

/// The demo shop, where this server has one.
#[derive(Clone, Debug)]
pub struct DemoShop {
    /// Its start page, as this server's crawler reaches it.
    pub url: String,
    /// Its price list, as a path on this server.
    pub price_list: String,
}

/// What this server is, and who asks: `{version, you: {subject, anonymous, scopes}, maxProducts, demoShop}`.
///
/// `demoShop` is `{url, priceList}`, or null where the server has none.
#[utoipa::path(
    get, path = "/v1/about", tag = "about",
    responses((status = 200, body = Value), (status = 401, body = ErrorBody)),
)]
pub async fn about(State(api): State<Api>, caller: Caller) -> Answer<Value> {
    let demo = api.demo_shop.as_deref();
    Answer(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "you": {
            "subject": caller.subject(),
            "anonymous": caller.is_anonymous(),
            "scopes": caller.scopes().words(),
        },
        "maxProducts": api.limits.max_products,
        "demoShop": demo.map(|demo| json!({ "url": demo.url, "priceList": demo.price_list })),
    }))
}

/// The label templates by name, those that come with the server first: `{templates: [{id, name, description, widthMm,
/// heightMm, builtIn}]}`.
#[utoipa::path(
    get, path = "/v1/templates", tag = "about",
    responses((status = 200, body = Value), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn templates(State(api): State<Api>) -> Result<Answer<Value>, Error> {
    let templates = api.store.template_names().await?;
    let templates: Vec<Value> = templates
        .into_iter()
        .map(|template| {
            json!({
                "id": template.id,
                "name": template.name,
                "description": template.description,
                "widthMm": template.width_mm,
                "heightMm": template.height_mm,
                "builtIn": template.built_in,
            })
        })
        .collect();
    Ok(Answer(json!({ "templates": templates })))
}
