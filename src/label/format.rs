//! How prices, price tiers and numbers are written on a label.

use super::{LabelError, read::Node};

/// How one layer writes its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Formats {
    pub prefix: String,
    pub suffix: String,
    pub price: PriceFormat,
    pub tiers: TierFormat,
}

/// `1.234,56 €`, unless told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PriceFormat {
    decimals: u32,
    thousands: String,
    decimal: String,
    /// `None` is the sign of the product's currency.
    symbol: Option<String>,
    before: bool,
}

impl Default for PriceFormat {
    fn default() -> Self {
        PriceFormat { decimals: 2, thousands: ".".into(), decimal: ",".into(), symbol: None, before: false }
    }
}

/// How the tiers stand together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// One a line where there is room, else joined.
    AsFits,
    Vertical,
    Joined,
}

/// `ab 10 Stk: 1,23 €`, unless told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TierFormat {
    pub pattern: String,
    pub separator: String,
    pub layout: Layout,
}

impl Default for TierFormat {
    fn default() -> Self {
        TierFormat {
            pattern: "ab {quantity} Stk: {price}".into(),
            separator: " | ".into(),
            layout: Layout::AsFits,
        }
    }
}

impl TierFormat {
    pub(super) fn tier(&self, quantity: u32, price: &str) -> String {
        self.pattern.replace("{quantity}", &quantity.to_string()).replace("{price}", price)
    }
}

impl PriceFormat {
    /// `None` for what is no price.
    pub(super) fn money(&self, price: f64, currency: Option<&str>) -> Option<String> {
        if !(0.0..1e9).contains(&price) {
            return None;
        }
        let unit = 10u64.pow(self.decimals);
        let parts = (price * unit as f64).round() as u64;
        let whole = (parts / unit).to_string();
        let mut text = String::new();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                text.push_str(&self.thousands);
            }
            text.push(digit);
        }
        if self.decimals > 0 {
            text = format!("{text}{}{:0width$}", self.decimal, parts % unit, width = self.decimals as usize);
        }
        let sign = self.symbol.clone().unwrap_or_else(|| sign(currency));
        Some(match (sign.is_empty(), self.before) {
            (true, _) => text,
            (false, true) => format!("{sign} {text}"),
            (false, false) => format!("{text} {sign}"),
        })
    }
}

/// How a currency is written behind a price.
fn sign(currency: Option<&str>) -> String {
    match currency {
        None | Some("EUR") => "€".into(),
        Some(other) => other.chars().take(3).collect(),
    }
}

impl Formats {
    /// These, with what a document says of prices, tiers and the layer's own field (`of`).
    pub(super) fn with(mut self, options: &Node, of: &str) -> Result<Formats, LabelError> {
        let own = [options.clone()].into_iter().chain(options.get(of));
        for place in own {
            if let Some(node) = place.get("prefix") {
                self.prefix = node.text(40)?;
            }
            if let Some(node) = place.get("suffix") {
                self.suffix = node.text(40)?;
            }
        }
        let price = [Some(options.clone()).filter(|_| of == "price"), options.get("price")];
        for place in price.into_iter().flatten() {
            self.price.read(&place)?;
        }
        let tiers = [
            Some(options.clone()).filter(|_| of == "tieredPrice"),
            options.first(&["tieredPrice", "tieredPrices", "staffelpreise"]),
        ];
        for place in tiers.into_iter().flatten() {
            self.tiers.read(&place)?;
        }
        Ok(self)
    }
}

impl PriceFormat {
    fn read(&mut self, place: &Node) -> Result<(), LabelError> {
        if let Some(node) = place.first(&["decimals", "decimalPlaces"]) {
            self.decimals = node.whole(0..=4)?;
        }
        if let Some(node) = place.first(&["thousandsSeparator", "thousandSeparator"]) {
            self.thousands = node.text(3)?;
        }
        if let Some(node) = place.get("decimalSeparator") {
            self.decimal = node.text(3)?;
        }
        if let Some(node) = place.first(&["currencySymbol", "symbol", "currency"]) {
            let symbol = node.text(10)?;
            self.symbol = Some(if symbol == "EUR" { "€".into() } else { symbol });
        }
        if let Some(node) = place.get("showCurrency")
            && !node.flag()?
        {
            self.symbol = Some(String::new());
        }
        if let Some(node) = place.first(&["currencyPosition", "position"]) {
            let words = [
                ("before", true),
                ("prefix", true),
                ("left", true),
                ("after", false),
                ("suffix", false),
                ("right", false),
            ];
            self.before = node.word(&words)?;
        }
        Ok(())
    }
}

impl TierFormat {
    fn read(&mut self, place: &Node) -> Result<(), LabelError> {
        if let Some(node) = place.first(&["pattern", "template", "format"]) {
            let pattern = node.text(80)?;
            // One version of the pages sends the layout's word here.
            match pattern.as_str() {
                "vertical" => self.layout = Layout::Vertical,
                "horizontal" | "inline" => self.layout = Layout::Joined,
                text if text.contains("{quantity}") && text.contains("{price}") => self.pattern = pattern,
                _ => return Err(node.wrong("must hold {quantity} and {price}")),
            }
        }
        if let Some(node) = place.get("separator") {
            let separator = node.text(10)?;
            if separator.contains('\n') {
                self.layout = Layout::Vertical;
            } else {
                self.separator = separator;
            }
        }
        if let Some(node) = place.first(&["layout", "orientation", "direction"]) {
            let words = [
                ("vertical", Layout::Vertical),
                ("horizontal", Layout::Joined),
                ("inline", Layout::Joined),
                ("auto", Layout::AsFits),
                ("table", Layout::Vertical),
            ];
            self.layout = node.word(&words)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_written_the_german_way() {
        for (price, currency, text) in [
            (1234.56, None, Some("1.234,56 €")),
            (0.0, Some("EUR"), Some("0,00 €")),
            (1_234_567.0, Some("CHF"), Some("1.234.567,00 CHF")),
            (0.1 + 0.2, None, Some("0,30 €")),
            (999.999, None, Some("1.000,00 €")),
            (f64::NAN, None, None),
            (-1.0, None, None),
        ] {
            assert_eq!(PriceFormat::default().money(price, currency).as_deref(), text, "{price}");
        }
    }

    #[test]
    fn a_document_may_say_how_money_and_tiers_are_written() {
        let options = json!({
            "price": { "decimals": 0, "thousandsSeparator": "'", "currencySymbol": "CHF", "currencyPosition": "before" },
            "tieredPrices": { "pattern": "{quantity}+ {price}", "separator": " / ", "layout": "horizontal" },
            "articleNumber": { "prefix": "Nr. " },
        });
        let formats = Formats::default().with(&Node::root(&options), "articleNumber").unwrap();
        assert_eq!(formats.price.money(12345.6, None).unwrap(), "CHF 12'346");
        assert_eq!(formats.tiers.tier(10, "x"), "10+ x");
        assert_eq!((formats.tiers.layout, &*formats.tiers.separator), (Layout::Joined, " / "));
        assert_eq!(formats.prefix, "Nr. ");
        let bad = json!({ "price": { "decimals": 9 } });
        let error = Formats::default().with(&Node::root(&bad), "price").unwrap_err();
        assert_eq!(error.to_string(), "price.decimals must be a number from 0 to 4, not 9");
    }
}
