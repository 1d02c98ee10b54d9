//! Fields of a JSON body: each is read within its limits, and a bad one is named in a sentence.

use axum::{Json, extract::rejection::JsonRejection, http::StatusCode};
use serde_json::{Map, Value, json};
use url::Url;

use super::answer::Refusal;
use crate::{
    http::body_rejection,
    product::{Tier, parse_price},
};

/// Bytes of an address.
const MAX_ADDRESS: usize = 2048;
/// Tier prices of one product.
const MAX_TIERS: usize = 50;
/// A price is less.
const MAX_PRICE: f64 = 1e9;

/// A JSON body that is an object.
pub fn object(body: Result<Json<Value>, JsonRejection>) -> Result<Map<String, Value>, Refusal> {
    match body {
        Ok(Json(Value::Object(fields))) => Ok(fields),
        Ok(_) => Err(bad("The body must be a JSON object.")),
        Err(rejection) => Err(body_rejection(&rejection).into()),
    }
}

/// A refused request.
pub fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::plain(StatusCode::BAD_REQUEST, sentence)
}

/// A text of some characters at the most; `None` for null and for one that is empty.
pub fn text(name: &str, value: &Value, longest: usize) -> Result<Option<String>, Refusal> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.trim().to_owned(),
        // Article numbers and EANs come as numbers too.
        Value::Number(number) => number.to_string(),
        _ => return Err(bad(format!("{name} must be a text."))),
    };
    if text.chars().count() > longest {
        return Err(bad(format!("{name} has more than {longest} characters.")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(bad(format!("{name} must not hold control characters.")));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A text that must not be empty.
pub fn required(name: &str, value: Option<&Value>, longest: usize) -> Result<String, Refusal> {
    text(name, value.unwrap_or(&Value::Null), longest)?.ok_or_else(|| bad(format!("{name} is required.")))
}

/// An amount that is not negative: a number, or a text as people write it; `None` for null.
pub fn price(name: &str, value: &Value) -> Result<Option<f64>, Refusal> {
    let amount = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim().parse::<f64>().ok().or_else(|| parse_price(text)),
        other => other.as_f64(),
    };
    amount
        .filter(|amount| (0.0..MAX_PRICE).contains(amount))
        .map(|amount| Some((amount * 100.0).round() / 100.0))
        .ok_or_else(|| bad(format!("{name} must be a price from 0 to less than {MAX_PRICE}.")))
}

/// True or false, or the same as a text.
pub fn flag(name: &str, value: &Value) -> Result<bool, Refusal> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(bad(format!("{name} must be true or false."))),
    }
}

/// Tier prices: `[{"quantity": 10, "price": 4.5}]`; the quantity may be called `minQuantity` too.
pub fn tiers(name: &str, value: &Value) -> Result<Vec<Tier>, Refusal> {
    let wrong = || bad(format!("{name} must be a list such as [{{\"quantity\": 10, \"price\": 4.5}}]."));
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err(wrong()),
    };
    if list.len() > MAX_TIERS {
        return Err(bad(format!("{name} has more than {MAX_TIERS} entries.")));
    }
    let mut tiers = Vec::with_capacity(list.len());
    for entry in list {
        let quantity = entry.get("minQuantity").or_else(|| entry.get("quantity")).ok_or_else(wrong)?;
        let quantity = match quantity {
            Value::String(text) => text.trim().parse::<u64>().ok(),
            // 10.0 is ten pieces too.
            other => other.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64),
        };
        let min_quantity = quantity
            .and_then(|quantity| u32::try_from(quantity).ok())
            .filter(|quantity| (1..=i32::MAX as u32).contains(quantity))
            .ok_or_else(wrong)?;
        let price = price(name, entry.get("price").unwrap_or(&Value::Null))?.ok_or_else(wrong)?;
        tiers.push(Tier { min_quantity, price });
    }
    tiers.sort_by_key(|tier| tier.min_quantity);
    tiers.dedup_by_key(|tier| tier.min_quantity);
    Ok(tiers)
}

/// Tier prices as every version of the pages reads them.
pub fn shown_tiers(tiers: &[Tier]) -> Value {
    tiers
        .iter()
        .map(|tier| {
            json!({ "quantity": tier.min_quantity, "minQuantity": tier.min_quantity, "price": tier.price })
        })
        .collect()
}

/// Eight to fourteen digits.
pub fn ean(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    let Some(text) = text(name, value, 50)? else { return Ok(None) };
    let code: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let fits = (8..=14).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(Some(code)) } else { Err(bad(format!("{name} must have 8 to 14 digits."))) }
}

/// Three letters, such as EUR.
pub fn currency(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    let Some(text) = text(name, value, 50)? else { return Ok(None) };
    let code = if text == "€" { "EUR".to_owned() } else { text.to_uppercase() };
    let fits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if fits { Ok(Some(code)) } else { Err(bad(format!("{name} must be three letters such as EUR."))) }
}

/// A full address, or a path on this server.
pub fn address(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    let Some(text) = text(name, value, MAX_ADDRESS)? else { return Ok(None) };
    let full = Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    let path = text.starts_with('/') && !text.starts_with("//");
    let fits = (full || path) && !text.contains(char::is_whitespace);
    if fits { Ok(Some(text)) } else { Err(bad(format!("{name} must be a full address or a path."))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_read_within_its_limits() {
        assert_eq!(text("name", &json!(" a "), 3).unwrap().as_deref(), Some("a"));
        assert_eq!(text("name", &json!(4711), 10).unwrap().as_deref(), Some("4711"));
        for wrong in [json!("abcd"), json!("a\u{0}"), json!([]), json!(true)] {
            assert!(text("name", &wrong, 3).is_err(), "{wrong}");
        }
        assert_eq!(price("price", &json!("1.234,50 €")).unwrap(), Some(1234.5));
        assert_eq!(price("price", &json!("1234.5")).unwrap(), Some(1234.5));
        for wrong in [json!(-1), json!(1e9), json!("gratis"), json!("NaN"), json!({})] {
            assert!(price("price", &wrong).is_err(), "{wrong}");
        }
        let read = tiers(
            "tiers",
            &json!([{ "quantity": 100.0, "price": "3,95" }, { "minQuantity": "10", "price": 4 }]),
        );
        let expected = [Tier { min_quantity: 10, price: 4.0 }, Tier { min_quantity: 100, price: 3.95 }];
        assert_eq!(read.unwrap(), expected);
        for wrong in [
            json!({}),
            json!([1]),
            json!([{ "quantity": 0, "price": 1 }]),
            json!([{ "quantity": 1.5, "price": 1 }]),
        ] {
            assert!(tiers("tiers", &wrong).is_err(), "{wrong}");
        }
        assert_eq!(ean("ean", &json!("4006381-333931")).unwrap().as_deref(), Some("4006381333931"));
        assert!(ean("ean", &json!("12")).is_err());
        assert_eq!(currency("currency", &json!("€")).unwrap().as_deref(), Some("EUR"));
        assert!(currency("currency", &json!("EURO")).is_err());
        for fine in ["https://cdn.example.com/a.png", "/cdn/a.png"] {
            assert!(address("imageUrl", &json!(fine)).is_ok());
        }
        for wrong in ["javascript:alert(1)", "//evil.example", "a.png", "/a b"] {
            assert!(address("imageUrl", &json!(wrong)).is_err(), "{wrong}");
        }
    }
}
