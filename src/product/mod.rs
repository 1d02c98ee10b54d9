//! What is known of one product: the values that a page declares, a picture shows, a spreadsheet holds and a
//! label prints.

pub mod article;
pub mod matching;
pub mod price_list;
pub mod spreadsheet;

use serde::{Deserialize, Serialize};

/// The price per piece from a quantity on: "ab 10 Stück 4,50 €".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tier {
    /// The smallest quantity that this price holds for, in pieces.
    pub min_quantity: u32,
    /// The price per piece in the product's currency.
    pub price: f64,
}

/// Values of one product, each absent when its source does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProductFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub article_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The single (or first) price in `currency`, two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// ISO 4217, `EUR` where a page names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Ascending by `min_quantity`; empty for a product with one price.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// Thirteen digits with a valid check digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ean: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Absolute address of the product's main picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
}

/// A price as people write it: `1.234,56`, `1,234.56`, `12,5`, `12.50`, with or without € or EUR around it.
/// `None` for anything that is not one non-negative amount below ten million.
pub fn parse_price(text: &str) -> Option<f64> {
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || matches!(c, '.' | ',')).collect();
    let trimmed = digits.trim_matches(|c| c == '.' || c == ',');
    if trimmed.is_empty() {
        return None;
    }
    let decimal_at = match (trimmed.rfind(','), trimmed.rfind('.')) {
        (Some(comma), Some(dot)) => Some(comma.max(dot)),
        // One kind of mark: it is the decimal mark when it stands once with one or two digits behind it.
        (Some(at), None) | (None, Some(at)) => {
            let mark = &trimmed[at..=at];
            (trimmed.matches(mark).count() == 1 && trimmed.len() - at - 1 <= 2).then_some(at)
        }
        (None, None) => None,
    };
    let (whole, fraction) = match decimal_at {
        Some(at) => (&trimmed[..at], &trimmed[at + 1..]),
        None => (trimmed, ""),
    };
    let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
    if fraction.contains(['.', ',']) || fraction.len() > 2 || whole.len() > 7 {
        return None;
    }
    format!("{whole}.{fraction:0<2}").parse().ok()
}

/// Whether `code` is thirteen digits whose last is the EAN-13 check digit of the others.
pub fn is_ean13(code: &str) -> bool {
    code.len() == 13
        && code.bytes().all(|b| b.is_ascii_digit())
        && code
            .bytes()
            .enumerate()
            .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 1 } else { 3 })
            .sum::<u32>()
            % 10
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_in_german_and_english_writing() {
        for (text, price) in [
            ("1.234,56 €", Some(1234.56)),
            ("EUR 1,234.56", Some(1234.56)),
            ("12,5", Some(12.5)),
            ("12.50", Some(12.5)),
            ("1.234", Some(1234.0)),
            ("7", Some(7.0)),
            ("€", None),
            ("123456789,00", None),
        ] {
            assert_eq!(parse_price(text), price, "{text}");
        }
    }

    #[test]
    fn an_ean_needs_thirteen_digits_and_the_right_last_one() {
        assert!(is_ean13("4006381333931"));
        assert!(!is_ean13("4006381333932"));
        assert!(!is_ean13("400638133393"));
        assert!(!is_ean13("40063813339a1"));
    }
}
