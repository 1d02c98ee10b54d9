//! The rules of matching that a job was accepted with.

use crate::{
    job::{JobConfig, MatchOptions},
    product::matching::Rules,
};

/// The usual rules, but for what is said.
pub fn match_rules(threshold: Option<f64>, options: &MatchOptions) -> Rules {
    let usual = Rules::default();
    Rules {
        product_name: threshold.unwrap_or(usual.product_name),
        article_number: options.article_number_threshold.unwrap_or(usual.article_number),
        fuzzy: options.fuzzy.unwrap_or(usual.fuzzy),
        low_confidence: options.low_confidence.unwrap_or(usual.low_confidence),
        price_tolerance: options.price_tolerance.unwrap_or(usual.price_tolerance),
    }
}

/// Those of a job; a job without a configuration has the usual ones.
pub fn match_rules_of(config: Option<&JobConfig>) -> Rules {
    config.map_or_else(Rules::default, |config| match_rules(Some(config.match_threshold), &config.matching))
}
