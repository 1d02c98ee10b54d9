//! What the consolidated article of a product is made of: its kind of price, and tier prices as people write them.

use serde::{Deserialize, Serialize};

use super::{ProductFacts, Tier};

/// Characters of a description that are kept.
pub const MAX_DESCRIPTION: usize = 500;

/// How an article is priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceType {
    Normal,
    Tiered,
    /// On request: the shop tells no price to everybody.
    AufAnfrage,
    #[default]
    Unknown,
}

impl PriceType {
    /// As it stands in the database and in the pages.
    pub fn word(self) -> &'static str {
        match self {
            PriceType::Normal => "normal",
            PriceType::Tiered => "tiered",
            PriceType::AufAnfrage => "auf_anfrage",
            PriceType::Unknown => "unknown",
        }
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<PriceType> {
        [PriceType::Normal, PriceType::Tiered, PriceType::AufAnfrage, PriceType::Unknown]
            .into_iter()
            .find(|kind| kind.word() == word)
    }

    /// What a page's values and its words say.
    pub fn of(facts: &ProductFacts, text: &str) -> PriceType {
        let priced = facts.price.is_some_and(|price| price > 0.0);
        match (facts.tiers.is_empty(), priced) {
            (false, _) => PriceType::Tiered,
            (true, true) => PriceType::Normal,
            (true, false) if text.to_lowercase().contains("auf anfrage") => PriceType::AufAnfrage,
            (true, false) => PriceType::Unknown,
        }
    }
}

/// Tier prices as a line of text, `ab 10 Stück 4,50 €, ab 100 Stück 3,95 €`; `None` for none.
pub fn tiered_prices_text(tiers: &[Tier], currency: &str) -> Option<String> {
    let sign = if currency == "EUR" { "€" } else { currency };
    let lines: Vec<String> = tiers
        .iter()
        .map(|tier| format!("ab {} Stück {} {sign}", tier.min_quantity, german(tier.price)))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// An amount with two decimals behind a comma.
pub fn german(amount: f64) -> String {
    format!("{amount:.2}").replace('.', ",")
}

/// A description of at most [`MAX_DESCRIPTION`] characters.
pub fn short_description(text: &str) -> String {
    text.trim().chars().take(MAX_DESCRIPTION).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_price_follows_from_what_is_known() {
        let tier = Tier { min_quantity: 10, price: 4.5 };
        let facts =
            |price, tiers: &[Tier]| ProductFacts { price, tiers: tiers.to_vec(), ..ProductFacts::default() };
        for (facts, text, kind) in [
            (facts(Some(1.0), &[]), "Preis auf Anfrage", PriceType::Normal),
            (facts(None, std::slice::from_ref(&tier)), "", PriceType::Tiered),
            (facts(Some(5.0), &[tier]), "", PriceType::Tiered),
            (facts(None, &[]), "Preis AUF ANFRAGE", PriceType::AufAnfrage),
            (facts(Some(0.0), &[]), "", PriceType::Unknown),
        ] {
            assert_eq!(PriceType::of(&facts, text), kind, "{facts:?}");
            assert_eq!(PriceType::from_word(kind.word()), Some(kind));
        }
    }

    #[test]
    fn tier_prices_are_written_as_germans_do() {
        let tiers = [Tier { min_quantity: 10, price: 4.5 }, Tier { min_quantity: 100, price: 3.955 }];
        assert_eq!(tiered_prices_text(&tiers[..1], "EUR").unwrap(), "ab 10 Stück 4,50 €");
        assert_eq!(tiered_prices_text(&tiers, "CHF").unwrap(), "ab 10 Stück 4,50 CHF, ab 100 Stück 3,96 CHF");
        assert_eq!(tiered_prices_text(&[], "EUR"), None);
        assert_eq!(short_description(&"ä".repeat(600)).chars().count(), MAX_DESCRIPTION);
    }
}
