//! Rules that choose a template for a product.
//!
//! A template with `autoMatchEnabled` is a candidate. Each of its rules is a set of conditions that must all hold; of
//! all rules that hold, the one with the highest `priority` wins, then the one with more conditions, then the
//! template whose id comes first. When none holds it is the template marked as `isDefault`, else the standard label.

use serde_json::Value;

use super::{
    LabelError,
    data::{LabelData, PriceType},
    read::Node,
    template::LabelTemplate,
};

/// Rules of one template.
const MAX_RULES: usize = 20;
/// Words of one condition.
const MAX_WORDS: usize = 50;
/// The word that a job says instead of a template's id.
pub const AUTOMATIC: &str = "auto";
/// What is taken when no rule holds and no template is marked as the default.
pub const FALLBACK: &str = "standard-label";

/// When a template is chosen by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoMatch {
    enabled: bool,
    is_default: bool,
    rules: Vec<Rule>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rule {
    priority: u32,
    price_types: Vec<PriceType>,
    categories: Vec<String>,
    manufacturers: Vec<String>,
    min_price: Option<f64>,
    max_price: Option<f64>,
    /// Names of values that must be there,
    has: Vec<String>,
    /// … and that must not.
    lacks: Vec<String>,
}

impl AutoMatch {
    /// Reads `autoMatchEnabled`, `isDefault` and `rules` of a document.
    pub(super) fn read(root: &Node) -> Result<AutoMatch, LabelError> {
        let settings = root.get("settings").filter(|node| node.value.is_object());
        let places: Vec<&Node> = [Some(root), settings.as_ref()].into_iter().flatten().collect();
        let flag = |key| Node::first_of(&places, &[key]).map(|node| node.flag()).transpose();
        let rules = match Node::first_of(&places, &["rules"]) {
            None => Vec::new(),
            Some(node) if node.value.is_object() => vec![Rule::read(&node)?],
            Some(node) => node.list(MAX_RULES)?.iter().map(Rule::read).collect::<Result<_, _>>()?,
        };
        Ok(AutoMatch {
            enabled: flag("autoMatchEnabled")?.unwrap_or(false),
            is_default: flag("isDefault")?.unwrap_or(false),
            rules,
        })
    }

    /// Whether it may be chosen at all.
    pub fn is_candidate(&self) -> bool {
        self.is_default || self.enabled && !self.rules.is_empty()
    }

    /// The best of its rules that hold: priority and number of conditions.
    fn best(&self, data: &LabelData) -> Option<(u32, usize)> {
        let held = self.rules.iter().filter(|rule| self.enabled && rule.holds(data));
        held.map(|rule| (rule.priority, rule.conditions())).max()
    }
}

impl Rule {
    fn read(node: &Node) -> Result<Rule, LabelError> {
        let node = &node.clone().object()?;
        let words = |keys: &[&str]| -> Result<Vec<(Node, String)>, LabelError> {
            let Some(found) = node.first(keys) else { return Ok(Vec::new()) };
            let entries = match found.value {
                Value::Array(_) => found.list(MAX_WORDS)?,
                _ => vec![found],
            };
            entries.into_iter().map(|entry| entry.text(200).map(|text| (entry, text))).collect()
        };
        let plain = |keys: &[&str]| -> Result<Vec<String>, LabelError> {
            Ok(words(keys)?.into_iter().map(|(_, word)| word).collect())
        };
        let price =
            |keys: &[&str]| node.first(keys).map(|found| found.number(0.0..=1e9).map(f64::from)).transpose();
        let price_types = words(&["priceType", "priceTypes"])?.into_iter().map(|(entry, word)| {
            PriceType::named(&word).ok_or_else(|| entry.wrong("must be normal, tiered or auf_anfrage"))
        });
        let rule = Rule {
            priority: node.get("priority").map_or(Ok(0), |found| found.whole(0..=1000))?,
            price_types: price_types.collect::<Result<_, _>>()?,
            categories: plain(&["category", "categories"])?,
            manufacturers: plain(&["manufacturer", "manufacturers"])?,
            min_price: price(&["minPrice", "priceMin"])?,
            max_price: price(&["maxPrice", "priceMax"])?,
            has: plain(&["has", "hasField", "hasFields"])?,
            lacks: plain(&["lacks", "lacksField", "lacksFields"])?,
        };
        if rule.min_price.zip(rule.max_price).is_some_and(|(min, max)| min > max) {
            return Err(node.wrong("holds for no price: minPrice is above maxPrice"));
        }
        Ok(rule)
    }

    fn conditions(&self) -> usize {
        let lists = [&self.categories, &self.manufacturers, &self.has, &self.lacks];
        lists.iter().filter(|list| !list.is_empty()).count()
            + usize::from(!self.price_types.is_empty())
            + usize::from(self.min_price.is_some())
            + usize::from(self.max_price.is_some())
    }

    fn holds(&self, data: &LabelData) -> bool {
        let is_one_of = |key: &str, words: &[String]| {
            let value = data.value(key).unwrap_or_default().to_lowercase();
            words.is_empty() || words.iter().any(|word| word.trim().to_lowercase() == value)
        };
        let there = |key: &String| match super::template::Field::of_key(key) {
            Some(super::template::Field::TieredPrice) => !data.facts.tiers.is_empty(),
            _ => data.value(key).is_some(),
        };
        let price = data.facts.price.or(data.facts.tiers.first().map(|tier| tier.price));
        let in_range = |price: f64| {
            self.min_price.is_none_or(|min| price >= min) && self.max_price.is_none_or(|max| price <= max)
        };
        (self.price_types.is_empty() || self.price_types.contains(&data.price_type()))
            && is_one_of("category", &self.categories)
            && is_one_of("manufacturer", &self.manufacturers)
            && (self.min_price.is_none() && self.max_price.is_none() || price.is_some_and(in_range))
            && self.has.iter().all(there)
            && !self.lacks.iter().any(there)
    }
}

/// Which template a product gets.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    pub template: &'a LabelTemplate,
    /// Whether a rule held; else it is the default.
    pub by_rule: bool,
}

impl Chosen<'_> {
    /// What a label that was made with it tells people.
    pub fn note(&self) -> String {
        let name = self.template.name();
        match self.by_rule {
            true => format!("A rule chose the template {name}."),
            false => format!("No rule fits this product, so it has the template {name}."),
        }
    }
}

/// The template for a product. `None` only when there is neither a rule that holds nor a default.
pub fn choose<'a>(
    templates: impl Iterator<Item = &'a LabelTemplate> + Clone,
    data: &LabelData,
) -> Option<Chosen<'a>> {
    let held = templates.clone().filter_map(|template| Some((template.auto_match.best(data)?, template)));
    let best = held.max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.id.cmp(&one.id)));
    if let Some((_, template)) = best {
        return Some(Chosen { template, by_rule: true });
    }
    let marked = templates.clone().filter(|template| template.auto_match.is_default).min_by_key(|t| &t.id);
    let template = marked.or_else(|| templates.clone().find(|template| template.id == FALLBACK))?;
    Some(Chosen { template, by_rule: false })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::label::Kind;

    fn template(id: &str, more: Value) -> LabelTemplate {
        let mut document = json!({ "name": id, "dimensions": { "width": 50, "height": 30 }, "layers": [] });
        document.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        LabelTemplate::of(id, Kind::Layers, &document.to_string()).unwrap()
    }

    fn chosen(templates: &[LabelTemplate], data: Value) -> (String, bool) {
        let data = LabelData::from_json(&data).unwrap();
        let chosen = choose(templates.iter(), &data).unwrap();
        (chosen.template.id().to_owned(), chosen.by_rule)
    }

    #[test]
    fn the_rule_with_the_highest_priority_wins_then_the_narrower_one() {
        let auto = |rules: Value| json!({ "autoMatchEnabled": true, "rules": rules });
        let templates = [
            template("standard-label", json!({})),
            template("tiers", auto(json!([{ "priceType": "tiered" }]))),
            template("screws", auto(json!([{ "priceType": "tiered", "category": ["Schrauben", "Dübel"] }]))),
            template("dear", auto(json!({ "priority": 5, "minPrice": 1000 }))),
            template("ask", auto(json!([{ "priceType": "auf_anfrage", "lacks": "ean" }]))),
            template("off", json!({ "autoMatchEnabled": false, "rules": [{ "priority": 9 }] })),
        ];
        let tiers = json!([{ "quantity": 1, "price": 5 }, { "quantity": 10, "price": 4 }]);
        for (data, id, by_rule) in [
            (json!({ "price": 5 }), "standard-label", false),
            (json!({ "tieredPrices": tiers }), "tiers", true),
            (json!({ "tieredPrices": tiers, "category": "dübel" }), "screws", true),
            (json!({ "tieredPrices": tiers, "category": "dübel", "price": 2000 }), "dear", true),
            (json!({ "price": "auf Anfrage" }), "ask", true),
            (json!({ "price": "auf Anfrage", "ean": "4006381333931" }), "standard-label", false),
        ] {
            assert_eq!(chosen(&templates, data.clone()), (id.to_owned(), by_rule), "{data}");
        }
    }

    #[test]
    fn a_template_may_be_marked_as_the_default() {
        let templates =
            [template("standard-label", json!({})), template("mine", json!({ "isDefault": true }))];
        assert_eq!(chosen(&templates, json!({})), ("mine".to_owned(), false));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_place() {
        for (rules, says) in [
            (json!([{ "priceType": "cheap" }]), "rules[0].priceType must be normal, tiered or auf_anfrage"),
            (json!([{}, { "priority": -1 }]), "rules[1].priority must be a number from 0 to 1000"),
            (json!([{ "minPrice": 5, "maxPrice": 1 }]), "rules[0] holds for no price"),
            (json!("all"), "rules must be a list"),
            (json!(["all"]), "rules[0] must be an object"),
        ] {
            let document = json!({ "dimensions": { "width": 50, "height": 30 }, "rules": rules });
            let error = LabelTemplate::of("x", Kind::Layers, &document.to_string()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
