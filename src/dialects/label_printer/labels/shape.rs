//! A label as the pages know it, and what they may send of one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use image::ImageFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    answer::Refusal,
    ask::{bad, text},
};
use crate::{
    event::format_timestamp,
    label::{self, QrWish},
    product::{Tier, is_ean13},
    store::{LabelSource, LibraryLabel, Picture, TemplateType},
};

/// Bytes of a picture that comes with a label.
pub const MAX_PICTURE: usize = 2_000_000;
const MAX_TIERS: usize = 100;
const MAX_TAGS: usize = 20;
const MAX_ADDRESS: usize = 2048;
/// Prices below this can be printed.
const TOO_DEAR: f64 = 1e9;

/// What a page may say of a label; what it leaves out stays as it is, or has a default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelBody {
    #[schema(min_length = 1, max_length = 100)]
    pub article_number: Option<String>,
    #[schema(min_length = 1, max_length = 500)]
    pub product_name: Option<String>,
    #[schema(max_length = 2000)]
    pub description: Option<String>,
    pub price_info: Option<PriceInfoBody>,
    /// A PNG or JPEG in base64, with or without `data:` before it, which is shown instead of a drawn one.
    #[schema(max_length = 2_700_000)]
    pub image_data: Option<String>,
    /// A picture of the product.
    #[schema(max_length = 2048)]
    pub image_url: Option<String>,
    #[schema(value_type = Option<String>, pattern = "^(minimal|standard|extended|custom)$")]
    pub template_type: Option<TemplateType>,
    /// The template that draws it, else one for the type.
    #[schema(max_length = 200)]
    pub template_id: Option<String>,
    #[schema(max_items = 20)]
    pub tags: Option<Vec<String>>,
    #[schema(max_length = 100)]
    pub category: Option<String>,
    #[schema(value_type = Option<String>, pattern = "^(screenshot|manual|import)$")]
    pub source: Option<LabelSource>,
    #[schema(max_length = 2048)]
    pub shop_url: Option<String>,
    #[schema(pattern = "^[0-9]{13}$")]
    pub ean: Option<String>,
    pub qr_code: Option<QrCodeBody>,
}

/// The price of a label.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceInfoBody {
    #[schema(minimum = 0, maximum = 999_999_999)]
    pub price: Option<f64>,
    #[schema(min_length = 1, max_length = 10)]
    pub currency: Option<String>,
    #[schema(max_length = 50)]
    pub unit: Option<String>,
    #[schema(max_items = 100)]
    pub staffelpreise: Option<Vec<StaffelpreisBody>>,
}

/// A price from a quantity on.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StaffelpreisBody {
    #[schema(minimum = 1)]
    pub quantity: u32,
    #[schema(minimum = 0, maximum = 999_999_999)]
    pub price: f64,
}

/// A page's wish for a QR code; lengths in millimetres. Without a place it stands where the template has one, else in the
/// lower right corner.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QrCodeBody {
    pub enabled: bool,
    pub position: Option<PointBody>,
    #[schema(minimum = 0, maximum = 1000)]
    pub size: Option<f64>,
    #[schema(value_type = Option<String>, pattern = "^[LMQH]$")]
    pub error_correction_level: Option<Level>,
}

/// A place in millimetres.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PointBody {
    #[schema(minimum = 0, maximum = 1000)]
    pub x: f64,
    #[schema(minimum = 0, maximum = 1000)]
    pub y: f64,
}

impl QrCodeBody {
    /// The wish of a stored label.
    pub fn wish(stored: &Value) -> Option<QrWish> {
        let body = QrCodeBody::deserialize(stored).ok()?;
        Some(QrWish {
            enabled: body.enabled,
            position: body.position.map(|point| (point.x as f32, point.y as f32)),
            size: body.size.map(|size| size as f32),
            level: body.error_correction_level.map(|level| format!("{level:?}")),
        })
    }
}

/// How much of a QR code may be lost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Level {
    L,
    M,
    Q,
    H,
}

impl LabelBody {
    /// A new label, and its picture if it came with one.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn create(self, owner: &str) -> Result<(LibraryLabel, Option<Picture>), Refusal> {
        for (field, there) in [
            ("articleNumber", self.article_number.is_some()),
            ("productName", self.product_name.is_some()),
            ("priceInfo", self.price_info.is_some()),
        ] {
            if !there {
                return Err(bad(format!("{field} is required.")));
            }
        }
        let price = self.price_info.as_ref().and_then(|info| info.price);
        let has_tiers = self
            .price_info
            .as_ref()
            .and_then(|info| info.staffelpreise.as_ref())
            .is_some_and(|tiers| !tiers.is_empty());
        if price.is_none() && !has_tiers {
            return Err(bad("priceInfo.price is required, or priceInfo.staffelpreise."));
        }
        let now = Utc::now();
        let mut label = LibraryLabel {
            id: Uuid::now_v7(),
            owner: owner.to_owned(),
            job_id: None,
            article_number: String::new(),
            product_name: String::new(),
            description: None,
            price: None,
            currency: "EUR".into(),
            unit: None,
            tiers: Vec::new(),
            ean: None,
            template_id: None,
            template_type: TemplateType::Standard,
            category: None,
            tags: Vec::new(),
            source: LabelSource::Manual,
            shop_url: None,
            image_url: None,
            qr_code: None,
            has_picture: false,
            created_at: now,
            updated_at: now,
        };
        let change = self.check()?;
        let picture = change.picture.clone();
        change.apply(&mut label);
        label.has_picture = picture.is_some();
        Ok((label, picture))
    }

    /// Looks at everything that was sent.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(self) -> Result<LabelChange, Refusal> {
        let required = |field: &str, value: Option<String>, most: usize| match value {
            None => Ok(None),
            Some(value) => match text(field, Some(value), most)? {
                None => Err(bad(format!("{field} must not be empty."))),
                some => Ok(some),
            },
        };
        // What is sent empty is taken away.
        let optional = |field: &str, value: Option<String>, most: usize| match value {
            None => Ok(None),
            some => text(field, some, most).map(Some),
        };
        let info = self.price_info.unwrap_or_default();
        let price = |field: &str, price: f64| {
            if (0.0..TOO_DEAR).contains(&price) {
                Ok(price)
            } else {
                Err(bad(format!("{field} must be from 0 to 999999999.")))
            }
        };
        let tiers = match info.staffelpreise {
            None => None,
            Some(tiers) if tiers.len() > MAX_TIERS => {
                return Err(bad(format!("priceInfo.staffelpreise has more than {MAX_TIERS} entries.")));
            }
            Some(tiers) => {
                let tier = |tier: StaffelpreisBody| {
                    if tier.quantity == 0 {
                        return Err(bad("priceInfo.staffelpreise.quantity must be 1 or more."));
                    }
                    let price = price("priceInfo.staffelpreise.price", tier.price)?;
                    Ok(Tier { min_quantity: tier.quantity, price })
                };
                let mut tiers = tiers.into_iter().map(tier).collect::<Result<Vec<_>, _>>()?;
                tiers.sort_by_key(|tier| tier.min_quantity);
                Some(tiers)
            }
        };
        let tags = match self.tags {
            None => None,
            Some(tags) if tags.len() > MAX_TAGS => {
                return Err(bad(format!("There are more than {MAX_TAGS} tags.")));
            }
            Some(tags) => {
                let tags = tags.into_iter().map(|tag| text("A tag", Some(tag), 50));
                Some(tags.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?)
            }
        };
        if let Some(ean) = &self.ean
            && !ean.trim().is_empty()
            && !is_ean13(ean.trim())
        {
            return Err(bad("ean must be thirteen digits with the right check digit."));
        }
        if let Some(qr) = &self.qr_code {
            let place = qr.position.as_ref().into_iter().flat_map(|point| [point.x, point.y]);
            if place.chain(qr.size).any(|length| !(0.0..=1000.0).contains(&length)) {
                return Err(bad("qrCode.position and qrCode.size must be from 0 to 1000 mm."));
            }
        }
        let qr_code = self.qr_code.map(|qr| present(json!(qr)));
        Ok(LabelChange {
            article_number: required("articleNumber", self.article_number, 100)?,
            product_name: required("productName", self.product_name, 500)?,
            description: optional("description", self.description, 2000)?,
            price: info.price.map(|given| price("priceInfo.price", given)).transpose()?,
            currency: required("priceInfo.currency", info.currency, 10)?,
            unit: optional("priceInfo.unit", info.unit, 50)?,
            tiers,
            ean: optional("ean", self.ean, 13)?,
            template_id: optional("templateId", self.template_id, 200)?,
            template_type: self.template_type,
            category: optional("category", self.category, 100)?,
            tags,
            source: self.source,
            shop_url: optional("shopUrl", address("shopUrl", self.shop_url, false)?, MAX_ADDRESS)?,
            image_url: optional("imageUrl", address("imageUrl", self.image_url, true)?, MAX_ADDRESS)?,
            qr_code,
            picture: self
                .image_data
                .filter(|data| !data.is_empty())
                .map(|data| picture(&data))
                .transpose()?,
        })
    }
}

/// An address that a page may load or follow: of the web, or, for pictures, a path of this server.
fn address(field: &str, given: Option<String>, or_path: bool) -> Result<Option<String>, Refusal> {
    let Some(given) = given else { return Ok(None) };
    let trimmed = given.trim();
    let path = or_path && trimmed.starts_with('/') && !trimmed.starts_with("//");
    let web = Url::parse(trimmed).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if trimmed.is_empty() || path || web {
        return Ok(Some(given));
    }
    Err(bad(format!("{field} must be a full address such as https://shop.example.com/.")))
}

/// The picture in a text of base64: a PNG or JPEG that can be read, and is not too large.
fn picture(data: &str) -> Result<Picture, Refusal> {
    let encoded = match data.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map(|(_, encoded)| encoded),
        None => Some(data),
    };
    let encoded = encoded.ok_or_else(|| bad("imageData must be base64."))?;
    let too_large = || bad(format!("imageData holds more than {MAX_PICTURE} bytes."));
    if encoded.len() > MAX_PICTURE / 3 * 4 + 8 {
        return Err(too_large());
    }
    let bytes = STANDARD.decode(encoded.trim()).map_err(|_| bad("imageData must be base64."))?;
    if bytes.len() > MAX_PICTURE {
        return Err(too_large());
    }
    label::Picture::read(bytes.clone()).map_err(|why| bad(format!("imageData {why}.")))?;
    let content_type = match image::guess_format(&bytes) {
        Ok(ImageFormat::Png) => "image/png",
        Ok(ImageFormat::Jpeg) => "image/jpeg",
        _ => return Err(bad("imageData must be a PNG or a JPEG.")),
    };
    Ok(Picture { bytes: bytes.into(), content_type: content_type.into() })
}

/// What is to become of a label; a field that is `None` stays as it is.
#[derive(Debug)]
pub struct LabelChange {
    article_number: Option<String>,
    product_name: Option<String>,
    description: Option<Option<String>>,
    price: Option<f64>,
    currency: Option<String>,
    unit: Option<Option<String>>,
    tiers: Option<Vec<Tier>>,
    ean: Option<Option<String>>,
    template_id: Option<Option<String>>,
    template_type: Option<TemplateType>,
    category: Option<Option<String>>,
    tags: Option<Vec<String>>,
    source: Option<LabelSource>,
    shop_url: Option<Option<String>>,
    image_url: Option<Option<String>>,
    qr_code: Option<Value>,
    pub picture: Option<Picture>,
}

impl LabelChange {
    pub fn apply(self, label: &mut LibraryLabel) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        set(&mut label.article_number, self.article_number);
        set(&mut label.product_name, self.product_name);
        set(&mut label.description, self.description);
        set(&mut label.price, self.price.map(Some));
        set(&mut label.currency, self.currency);
        set(&mut label.unit, self.unit);
        set(&mut label.tiers, self.tiers);
        set(&mut label.ean, self.ean);
        // A label of another type is drawn as its type is, unless it names a template.
        if self.template_type.is_some_and(|wanted| wanted != label.template_type) {
            label.template_id = None;
        }
        set(&mut label.template_id, self.template_id);
        set(&mut label.template_type, self.template_type);
        set(&mut label.category, self.category);
        set(&mut label.tags, self.tags);
        set(&mut label.source, self.source);
        set(&mut label.shop_url, self.shop_url);
        set(&mut label.image_url, self.image_url);
        set(&mut label.qr_code, self.qr_code.map(Some));
    }
}

/// A label as the pages read it. `base` is this server's public address, without a slash at its end.
pub fn price_label(label: &LibraryLabel, base: &str) -> Value {
    let tiers = label.tiers.iter().map(|tier| json!({ "quantity": tier.min_quantity, "price": tier.price }));
    let tiers: Vec<Value> = tiers.collect();
    // The cards print a number with two digits whatever is known.
    let price = label.price.or(label.tiers.first().map(|tier| tier.price)).unwrap_or(0.0);
    let drawn = || format!("{base}/api/labels/{}/image?v={}", label.id, label.updated_at.timestamp_millis());
    present(json!({
        "id": label.id,
        "articleNumber": label.article_number,
        "productName": label.product_name,
        "description": label.description,
        "priceInfo": present(json!({
            "price": price,
            "currency": label.currency,
            "unit": label.unit,
            "staffelpreise": (!tiers.is_empty()).then_some(tiers),
        })),
        "imageUrl": label.image_url.clone().unwrap_or_else(drawn),
        "templateType": label.template_type,
        "templateId": label.template_id,
        "tags": label.tags,
        "category": label.category,
        "source": label.source,
        "createdAt": format_timestamp(label.created_at),
        "updatedAt": format_timestamp(label.updated_at),
        "shopUrl": label.shop_url,
        "ean": label.ean,
        "jobId": label.job_id,
        "qrCode": label.qr_code,
    }))
}

/// Keys that have no value are not there at all.
fn present(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Bytes as a page puts them into an address of a picture, without its beginning.
pub fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> LabelBody {
        serde_json::from_value(value).unwrap()
    }

    fn small() -> Value {
        json!({ "articleNumber": "A-1", "productName": "Schraube", "priceInfo": { "price": 12.5 } })
    }

    #[test]
    fn a_label_needs_a_number_a_name_and_a_price() {
        for missing in ["articleNumber", "productName", "priceInfo"] {
            let mut value = small();
            value.as_object_mut().unwrap().remove(missing);
            let refusal = body(value).create("anonymous").unwrap_err().body();
            assert!(refusal["error"].as_str().unwrap().contains(missing), "{refusal}");
        }
        let tiers =
            json!({ "staffelpreise": [{ "quantity": 10, "price": 2.5 }, { "quantity": 1, "price": 3 }] });
        let mut value = small();
        value["priceInfo"] = tiers;
        let shown = price_label(&body(value).create("anonymous").unwrap().0, "http://here");
        assert_eq!(shown["priceInfo"]["price"], json!(3.0));
        assert_eq!(shown["priceInfo"]["staffelpreise"][1], json!({ "quantity": 10, "price": 2.5 }));
    }

    #[test]
    fn what_cannot_be_printed_or_kept_is_refused_with_the_field() {
        for (key, value, part) in [
            ("articleNumber", json!(" "), "articleNumber"),
            ("articleNumber", json!("x".repeat(101)), "100"),
            ("productName", json!("a\0b"), "zero"),
            ("priceInfo", json!({ "price": -1 }), "priceInfo.price"),
            (
                "priceInfo",
                json!({ "price": 1, "staffelpreise": [{ "quantity": 0, "price": 1 }] }),
                "quantity",
            ),
            ("imageData", json!("%%%"), "base64"),
            ("imageData", json!("aGVsbG8="), "PNG"),
            ("imageUrl", json!("javascript:alert(1)"), "imageUrl"),
            ("imageUrl", json!("//evil.example/x"), "imageUrl"),
            ("shopUrl", json!("/path"), "shopUrl"),
            ("ean", json!("4006381333932"), "ean"),
            ("tags", json!(vec!["t"; 21]), "tags"),
            ("qrCode", json!({ "enabled": true, "size": 1e9 }), "qrCode"),
        ] {
            let mut sent = small();
            sent[key] = value;
            let refusal = body(sent).create("anonymous").unwrap_err().body();
            assert!(refusal["error"].as_str().unwrap().contains(part), "{key}: {refusal}");
        }
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let (mut label, _) = body(json!({
            "articleNumber": "A-1", "productName": "Schraube", "priceInfo": { "price": 12.5, "unit": "Stück" },
            "category": "Eisen", "tags": ["neu"], "templateId": "my-template", "templateType": "custom",
        }))
        .create("anonymous")
        .unwrap();
        body(json!({ "priceInfo": { "price": 9.9 }, "category": "" })).check().unwrap().apply(&mut label);
        assert_eq!(
            (label.price, label.unit.as_deref(), label.category.as_deref()),
            (Some(9.9), Some("Stück"), None)
        );
        assert_eq!((label.tags.len(), label.template_id.as_deref()), (1, Some("my-template")));
        body(json!({ "templateType": "minimal" })).check().unwrap().apply(&mut label);
        assert_eq!(label.template_id, None);
    }
}
