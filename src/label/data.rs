//! What one label shows: the product's values, and others by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    LabelError, format::PriceFormat, limits::MAX_VALUES, picture::Picture, read::Node, template::Field,
};
use crate::product::{ProductFacts, Tier, parse_price};

/// Characters of one value that are kept.
const MAX_VALUE: usize = 4_000;
/// A data: address may be longer.
const MAX_DATA_URL: usize = 6_000_000;
/// Tiers that are read.
const MAX_READ_TIERS: usize = 100;

/// What one label shows.
#[derive(Clone, Debug, Default)]
pub struct LabelData {
    pub facts: ProductFacts,
    /// What a QR code leads to, usually the product's page. Without one the QR code holds the article number.
    pub code_url: Option<String>,
    /// Other values by name, such as `category` and `manufacturer`.
    pub fields: BTreeMap<String, String>,
    /// Pictures by the address that names them; the caller fetches what [`super::LabelTemplate::wanted_pictures`]
    /// lists.
    pub pictures: BTreeMap<String, Picture>,
}

impl LabelData {
    /// Reads the values of a JSON object as the pages send them: the product's columns in any of their spellings,
    /// and whatever else a template may name.
    ///
    /// # Errors
    /// A sentence that names the value.
    pub fn from_json(value: &Value) -> Result<LabelData, LabelError> {
        let root = Node { value, place: "data".into() };
        let object = match value {
            Value::Null => &Map::new(),
            Value::Object(object) => object,
            _ => return Err(root.wrong("must be an object such as {\"articleNumber\": \"4711\"}")),
        };
        if object.len() > MAX_VALUES {
            return Err(root.wrong(format!("has {} values; {MAX_VALUES} are allowed", object.len())));
        }
        let mut data = LabelData::default();
        let info = root.get("priceInfo").map(Node::object).transpose()?;
        let places: Vec<&Node> = [Some(&root), info.as_ref()].into_iter().flatten().collect();
        let text = |keys: &[&str]| -> Result<Option<String>, LabelError> {
            let found = Node::first_of(&places, keys);
            let text = found.map(|node| node.text(MAX_VALUE)).transpose()?;
            Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
        };
        let facts = &mut data.facts;
        facts.article_number = text(&["articleNumber", "article_number", "sku"])?;
        facts.name = text(&["productName", "name", "title"])?;
        facts.ean = text(&["ean", "gtin"])?;
        facts.description = text(&["description"])?;
        facts.currency = text(&["currency"])?.filter(|currency| currency.chars().count() <= 3);
        facts.image_url = match root.first(&["imageUrl", "image", "image_url"]) {
            Some(node) => Some(node.text(MAX_DATA_URL)?).filter(|address| !address.is_empty()),
            None => None,
        };
        data.code_url = text(&["productUrl", "sourceUrl", "url", "shopUrl"])?;
        if let Some(node) = Node::first_of(&places, &["price"]) {
            match node.value {
                Value::Number(number) => {
                    facts.price = number.as_f64().filter(|price| (0.0..1e9).contains(price));
                    if facts.price.is_none() {
                        return Err(node.wrong("must be a price from 0 to 999999999"));
                    }
                }
                Value::Object(_) | Value::Array(_) | Value::Bool(_) => {
                    return Err(node.wrong("must be a number or a text such as \"12,50 €\""));
                }
                _ => {
                    let written = node.text(MAX_VALUE)?.trim().to_owned();
                    facts.price = parse_price(&written);
                    if facts.price.is_none() && !written.is_empty() {
                        // "Auf Anfrage" is printed as it stands.
                        data.fields.insert("price".into(), written);
                    }
                }
            }
        }
        let facts = &mut data.facts;
        let listed = ["tieredPrices", "tieredPrice", "tiers", "staffelpreise", "priceTable"];
        if let Some(node) = Node::first_of(&places, &listed) {
            facts.tiers = match node.value {
                Value::String(text) => tiers_in(text),
                _ => node.list(MAX_READ_TIERS)?.iter().map(tier).collect::<Result<_, _>>()?,
            };
        } else if let Some(text) = text(&["tieredPricesText"])? {
            facts.tiers = tiers_in(&text);
        }
        facts.tiers.sort_by_key(|tier| tier.min_quantity);
        for (key, value) in object {
            let known = Field::of_key(key).is_some() || data.fields.contains_key(key);
            let text = match value {
                Value::String(text) if text.starts_with("data:") && text.len() <= MAX_DATA_URL => {
                    text.clone()
                }
                Value::String(text) => text.chars().filter(|c| *c != '\0').take(MAX_VALUE).collect(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => continue,
            };
            if !known && !text.trim().is_empty() {
                data.fields.insert(key.clone(), text);
            }
        }
        // The pages' `customFields` are values like any other.
        if let Some(Value::Object(custom)) = object.get("customFields") {
            for (key, value) in custom.iter().take(MAX_VALUES) {
                if let Value::String(text) = value {
                    let text = text.chars().take(MAX_VALUE).collect();
                    data.fields.entry(key.clone()).or_insert(text);
                }
            }
        }
        Ok(data)
    }

    /// The value that a template names, written as it stands; a price in the German way.
    pub fn value(&self, key: &str) -> Option<String> {
        let facts = &self.facts;
        let known = match Field::of_key(key) {
            Some(Field::ArticleNumber) => facts.article_number.clone(),
            Some(Field::ProductName) => facts.name.clone(),
            Some(Field::Price) => facts
                .price
                .or(facts.tiers.first().map(|tier| tier.price))
                .and_then(|price| PriceFormat::default().money(price, facts.currency.as_deref())),
            Some(Field::Ean) => facts.ean.clone(),
            Some(Field::Description) => facts.description.clone(),
            Some(_) => None,
            None => match key {
                "currency" => Some(facts.currency.clone().unwrap_or_else(|| "EUR".into())),
                "imageUrl" | "image" | "image_url" => facts.image_url.clone(),
                "productUrl" | "sourceUrl" | "url" => self.code_url.clone(),
                "priceType" => Some(self.price_type().word().to_owned()),
                _ => None,
            },
        };
        known
            .or_else(|| self.fields.get(key).cloned())
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// How the product is priced.
    pub fn price_type(&self) -> PriceType {
        let told = self.fields.get("priceType").and_then(|word| PriceType::named(word));
        told.unwrap_or(if !self.facts.tiers.is_empty() {
            PriceType::Tiered
        } else if self.facts.price.is_some() {
            PriceType::Normal
        } else {
            PriceType::OnRequest
        })
    }
}

/// How a product is priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceType {
    Normal,
    Tiered,
    OnRequest,
}

impl PriceType {
    pub fn named(word: &str) -> Option<PriceType> {
        match word {
            "normal" | "single" => Some(PriceType::Normal),
            "tiered" => Some(PriceType::Tiered),
            "auf_anfrage" | "onRequest" | "on_request" => Some(PriceType::OnRequest),
            _ => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            PriceType::Normal => "normal",
            PriceType::Tiered => "tiered",
            PriceType::OnRequest => "auf_anfrage",
        }
    }
}

fn tier(node: &Node) -> Result<Tier, LabelError> {
    let quantity = node.first(&["minQuantity", "quantity", "min_quantity"]);
    let quantity = quantity.ok_or_else(|| node.wrong("needs a quantity and a price"))?;
    let price = node.need("price")?;
    let amount = match price.value {
        Value::String(text) => parse_price(text),
        other => other.as_f64(),
    };
    let amount = amount.filter(|amount| (0.0..1e9).contains(amount));
    Ok(Tier {
        min_quantity: quantity.whole(0..=16_777_216)?,
        price: amount.ok_or_else(|| price.wrong("must be a price from 0 to 999999999"))?,
    })
}

/// `ab 10 Stück 4,50 €`, one a line or joined with bars.
fn tiers_in(text: &str) -> Vec<Tier> {
    let lines = text.split(['\n', '|', ';']).take(MAX_READ_TIERS);
    lines
        .filter_map(|line| {
            let digits = line.find(|c: char| c.is_ascii_digit())?;
            let rest = &line[digits..];
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let price = parse_price(&rest[end..])?;
            Some(Tier { min_quantity: rest[..end].parse().ok()?, price })
        })
        .collect()
}
