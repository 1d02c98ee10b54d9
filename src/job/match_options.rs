//! How one job wants its readings to be matched, where it differs from what this server does by itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Code, Rejection};

/// Prices further apart are no difference that anybody would tolerate.
const MAX_TOLERANCE: f64 = 1e9;

/// Everything that a job may say about its matching, besides the threshold of names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MatchOptions {
    /// How alike two article numbers must be to be taken for one that was misread, 0 to 1; 0.8 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub article_number_threshold: Option<f64>,
    /// Whether anything but the same article number or EAN counts at all; true if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuzzy: Option<bool>,
    /// A match whose score is below gets a warning, 0 to 1; 0.7 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub low_confidence: Option<f64>,
    /// Prices further apart than this, in the currency's unit, get a warning; 0.1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub price_tolerance: Option<f64>,
}

impl MatchOptions {
    /// The options, if they make sense.
    ///
    /// # Errors
    /// A sentence that names the option and what it may be.
    pub fn check(self) -> Result<MatchOptions, Rejection> {
        let invalid = |message: String| Err(Rejection::new(Code::InvalidRequest, message));
        for (name, share) in [
            ("articleNumberThreshold", self.article_number_threshold),
            ("lowConfidence", self.low_confidence),
        ] {
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return invalid(format!("{name} must be a number from 0 to 1."));
            }
        }
        if self.price_tolerance.is_some_and(|tolerance| !(0.0..=MAX_TOLERANCE).contains(&tolerance)) {
            return invalid(format!("priceTolerance must be a number from 0 to {MAX_TOLERANCE}."));
        }
        Ok(self)
    }

    /// Whether nothing is said.
    pub fn is_silent(&self) -> bool {
        *self == MatchOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        let silent = MatchOptions::default();
        assert!(silent.is_silent() && silent.check().is_ok());
        for bad in [-0.1, 1.1, f64::NAN] {
            for (options, name) in [
                (
                    MatchOptions { article_number_threshold: Some(bad), ..MatchOptions::default() },
                    "articleNumberThreshold",
                ),
                (MatchOptions { low_confidence: Some(bad), ..MatchOptions::default() }, "lowConfidence"),
            ] {
                assert!(options.check().unwrap_err().message.starts_with(name));
            }
        }
        for bad in [-0.1, 1e10, f64::INFINITY] {
            assert!(MatchOptions { price_tolerance: Some(bad), ..MatchOptions::default() }.check().is_err());
        }
    }
}
