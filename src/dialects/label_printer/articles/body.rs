//! An article in the words of the pages, both ways. Pure.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    dialects::label_printer::{
        answer::Refusal,
        excel::TierBody,
        field::{self, bad, shown_tiers},
    },
    event::format_timestamp,
    product::article::{PriceType, short_description},
    store::Article,
};

/// Characters of an article number.
pub const MAX_NUMBER: usize = 100;
/// Characters of a product's name.
pub const MAX_NAME: usize = 500;
/// Characters of a category, a manufacturer.
pub const MAX_WORD: usize = 200;
/// Characters of the tier prices as text, and of a description before it is cut.
pub const MAX_TEXT: usize = 32_767;

/// An article as it is added or changed; what is absent stays as it is, null empties a field that may be empty.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes a body whose fields may be absent, null, numbers or texts")]
pub struct ArticleBody {
    #[schema(max_length = 100)]
    article_number: Option<String>,
    #[schema(max_length = 500)]
    product_name: Option<String>,
    /// Cut to 500 characters.
    #[schema(max_length = 32767)]
    description: Option<String>,
    #[schema(minimum = 0)]
    price: Option<f64>,
    price_type: Option<PriceType>,
    #[schema(max_items = 50)]
    tiered_prices: Option<Vec<TierBody>>,
    #[schema(max_length = 32767)]
    tiered_prices_text: Option<String>,
    #[schema(max_length = 3)]
    currency: Option<String>,
    /// A full address, or a path on this server.
    #[schema(max_length = 2048)]
    image_url: Option<String>,
    #[schema(max_length = 2048)]
    thumbnail_url: Option<String>,
    #[schema(max_length = 14)]
    ean: Option<String>,
    #[schema(max_length = 200)]
    category: Option<String>,
    #[schema(max_length = 200)]
    manufacturer: Option<String>,
    #[schema(max_length = 2048)]
    source_url: Option<String>,
    verified: Option<bool>,
    published: Option<bool>,
}

/// Where the picture of an article is: the address that a person entered, else the object of its job. A path, for pages
/// put the API's address in front.
fn image(entered: Option<&str>, key: Option<&str>, article: &Article) -> Option<String> {
    entered.map(str::to_owned).or_else(|| {
        // The objects of a job that was removed are gone.
        article.job_id.and(key).map(|key| format!("/cdn/{key}"))
    })
}

/// The address of an article's picture.
pub fn image_url(article: &Article) -> Option<String> {
    image(article.image_url.as_deref(), article.image_key.as_deref(), article)
}

fn thumbnail_url(article: &Article) -> Option<String> {
    image(article.thumbnail_url.as_deref(), article.thumbnail_key.as_deref(), article)
}

/// An article as the pages read it.
pub fn shown(article: &Article) -> Value {
    json!({
        "id": article.id,
        "articleNumber": article.article_number,
        "productName": article.product_name,
        "description": article.description,
        "price": article.price,
        "priceType": article.price_type,
        "tieredPrices": shown_tiers(&article.tiers),
        "tieredPricesText": article.tiered_prices_text,
        "currency": article.currency,
        "imageUrl": image_url(article),
        "thumbnailUrl": thumbnail_url(article),
        "ean": article.ean,
        "category": article.category,
        "manufacturer": article.manufacturer,
        "sourceUrl": article.source_url,
        "crawlJobId": article.job_id,
        "ocrConfidence": article.ocr_confidence,
        "verified": article.verified,
        "published": article.published,
        "createdAt": format_timestamp(article.created_at),
        "updatedAt": format_timestamp(article.updated_at),
    })
}

/// The article with the fields of a body.
pub fn applied(mut article: Article, fields: &Map<String, Value>) -> Result<Article, Refusal> {
    for (name, value) in fields {
        match name.as_str() {
            "articleNumber" => article.article_number = field::required(name, Some(value), MAX_NUMBER)?,
            "productName" => article.product_name = field::required(name, Some(value), MAX_NAME)?,
            "description" => {
                article.description =
                    field::text(name, value, MAX_TEXT)?.map(|text| short_description(&text));
            }
            "price" => article.price = field::price(name, value)?.unwrap_or(0.0),
            "tieredPrices" => article.tiers = field::tiers(name, value)?,
            "tieredPricesText" => article.tiered_prices_text = field::text(name, value, MAX_TEXT)?,
            "currency" => article.currency = field::currency(name, value)?.unwrap_or_else(|| "EUR".into()),
            // A page sends back what it was given: an object stays an object.
            "imageUrl" => {
                let address = field::address(name, value)?;
                if address != image_url(&article) {
                    article.image_url = address;
                }
            }
            "thumbnailUrl" => {
                let address = field::address(name, value)?;
                if address != thumbnail_url(&article) {
                    article.thumbnail_url = address;
                }
            }
            "ean" => article.ean = field::ean(name, value)?,
            "category" => article.category = field::text(name, value, MAX_WORD)?,
            "manufacturer" => article.manufacturer = field::text(name, value, MAX_WORD)?,
            "sourceUrl" => article.source_url = field::address(name, value)?.unwrap_or_default(),
            "verified" => article.verified = field::flag(name, value)?,
            "published" => article.published = field::flag(name, value)?,
            // The page sends back what it was given, and more.
            _ => {}
        }
    }
    let touched = ["price", "tieredPrices"].iter().any(|name| fields.contains_key(*name));
    article.price_type = match fields.get("priceType").filter(|kind| !kind.is_null()) {
        Some(kind) => kind
            .as_str()
            .and_then(PriceType::from_word)
            .ok_or_else(|| bad("priceType must be normal, tiered, auf_anfrage or unknown."))?,
        None if !touched => article.price_type,
        None if !article.tiers.is_empty() => PriceType::Tiered,
        None if article.price > 0.0 => PriceType::Normal,
        None if article.price_type == PriceType::AufAnfrage => PriceType::AufAnfrage,
        None => PriceType::Unknown,
    };
    Ok(article)
}
