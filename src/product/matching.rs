//! Finds the listed product that a crawled page shows: by article number, by EAN, by its name, and at last by an
//! article number that was misread. And the products that come closest, what is doubtful about a match, and the
//! report on many of them.
//!
//! A wrong label costs a shop more than a missing one. So two names that differ only in a number, `4 x 40` and
//! `4 x 50`, are two products however alike they look, and the same holds for two article numbers.

use std::collections::HashMap;

use rapidfuzz::distance::indel::{Args, BatchComparator};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::product::ProductFacts;

/// Shorter names and numbers (in letters) say too little to be compared fuzzily.
const MIN_FUZZY_CHARS: usize = 3;
/// Only this much of a name is compared, in letters.
const MAX_COMPARED_CHARS: usize = 200;
/// An article number that is the same only when letters are read as digits is not quite the same.
const MISREAD_SCORE: f64 = 0.95;
/// What arithmetic adds to a difference of prices: 4.6 - 4.5 is a little more than a tenth.
const ROUNDING: f64 = 1e-9;

/// A product that can be found.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedFacts {
    pub id: Uuid,
    pub facts: ProductFacts,
}

/// What counts as the same product, and what people are warned of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    /// How alike two names must be, 0 to 1, to be taken for the same product.
    pub product_name: f64,
    /// The same of article numbers.
    pub article_number: f64,
    /// Whether anything but the same article number or EAN is looked for at all.
    pub fuzzy: bool,
    /// A score below this gets a warning, 0 to 1.
    pub low_confidence: f64,
    /// Prices further apart than this, in the currency's unit, get a warning.
    pub price_tolerance: f64,
}

impl Default for Rules {
    fn default() -> Self {
        // Article numbers are short: two letters of seven make 0.71, and are another product.
        Self {
            product_name: 0.6,
            article_number: 0.8,
            fuzzy: true,
            low_confidence: 0.7,
            price_tolerance: 0.1,
        }
    }
}

/// What led to the product. `Fuzzy` is a similar article number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MatchedBy {
    ArticleNumber,
    Ean,
    ProductName,
    Fuzzy,
}

impl MatchedBy {
    /// Letter for letter, by article number or EAN.
    pub fn is_exact(self) -> bool {
        matches!(self, MatchedBy::ArticleNumber | MatchedBy::Ean)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Match<'a> {
    pub product: &'a ListedFacts,
    pub matched_by: MatchedBy,
    /// 1 for an exact match, else how alike the compared texts are, 0 to 1.
    pub score: f64,
    /// Sentences for people who check the labels.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NoMatch<'a> {
    /// One sentence for people.
    pub reason: String,
    /// The product whose name comes closest without being close enough, and how close.
    pub best: Option<(&'a ListedFacts, f64)>,
}

/// A product that resembles the wanted one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    pub product: &'a ListedFacts,
    /// `ArticleNumber` or `ProductName`: which of the two is more alike.
    pub alike_in: MatchedBy,
    /// Dice's coefficient of it, 0 to 1.
    pub score: f64,
}

/// Whether a match can be relied on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Whether the confidence reaches the threshold.
    pub is_valid: bool,
    pub confidence: f64,
    /// Sentences for people who check the labels.
    pub warnings: Vec<String>,
}

/// Many matches at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub total_matches: u32,
    pub exact_matches: u32,
    pub fuzzy_matches: u32,
    /// The mean of the matches' scores, 0 to 1 with three decimals; 0 for none.
    pub average_confidence: f64,
    pub low_confidence_matches: u32,
}

impl Report {
    /// Of matches that were found, each with whether it is exact and its score.
    pub fn of(matches: impl IntoIterator<Item = (bool, f64)>, rules: &Rules) -> Report {
        let mut report = Report::default();
        let mut sum = 0.0;
        for (exact, score) in matches {
            report.total_matches += 1;
            report.exact_matches += u32::from(exact);
            report.fuzzy_matches += u32::from(!exact);
            report.low_confidence_matches += u32::from(score < rules.low_confidence);
            sum += score;
        }
        if report.total_matches > 0 {
            report.average_confidence = (sum / f64::from(report.total_matches) * 1000.0).round() / 1000.0;
        }
        report
    }
}

/// What is doubtful about a match, and whether it still holds.
pub fn validate(
    matched_by: MatchedBy,
    confidence: f64,
    shown_price: Option<f64>,
    listed_price: Option<f64>,
    rules: &Rules,
) -> Validation {
    let mut warnings = Vec::new();
    if confidence < rules.low_confidence {
        warnings.push(format!("Low confidence: {:.0} %.", confidence * 100.0));
    }
    if let (Some(shown), Some(listed)) = (shown_price, listed_price)
        && (shown - listed).abs() > rules.price_tolerance + ROUNDING
    {
        warnings.push(format!("The prices differ: {shown:.2} in the shop, {listed:.2} in the list."));
    }
    match matched_by {
        MatchedBy::ArticleNumber => {}
        MatchedBy::Ean => warnings.push("Matched by EAN, not by article number.".into()),
        MatchedBy::ProductName => warnings.push("Matched by product name, not by article number.".into()),
        MatchedBy::Fuzzy => warnings.push("Matched by a similar article number, not by the same.".into()),
    }
    Validation { is_valid: confidence >= rules.product_name, confidence, warnings }
}

/// Dice's coefficient: the share of letter pairs that two texts have in common, 0 to 1, after umlauts and the like are
/// written out and spaces dropped.
pub fn dice(one: &str, other: &str) -> f64 {
    dice_of_pairs(&pairs(&normalize(one, ' ')), &pairs(&normalize(other, ' ')))
}

/// A product's texts, made comparable once.
struct Prepared {
    product: ListedFacts,
    name: Text,
    article: Text,
}

/// A list of products, ready to be searched many times.
pub struct Matcher {
    /// In the order in which ties are decided: by article number, then name, then id.
    listed: Vec<Prepared>,
    by_article: HashMap<String, usize>,
    by_ean: HashMap<String, usize>,
}

impl Matcher {
    pub fn new(mut products: Vec<ListedFacts>) -> Matcher {
        products.sort_by(|a, b| {
            let key = |p: &ListedFacts| (p.facts.article_number.clone(), p.facts.name.clone(), p.id);
            key(a).cmp(&key(b))
        });
        let (mut by_article, mut by_ean) = (HashMap::new(), HashMap::new());
        let mut listed = Vec::with_capacity(products.len());
        for (index, product) in products.into_iter().enumerate() {
            let article = Text::article_number(product.facts.article_number.as_deref());
            if !article.key.is_empty() {
                by_article.entry(article.key.clone()).or_insert(index);
            }
            if let Some(ean) = product.facts.ean.as_deref().map(digits).filter(|ean| !ean.is_empty()) {
                by_ean.entry(ean).or_insert(index);
            }
            listed.push(Prepared { name: Text::name(product.facts.name.as_deref()), article, product });
        }
        Matcher { listed, by_article, by_ean }
    }

    /// Whether there is nothing to match with.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The listed product that `wanted` is. The same list and question always give the same answer.
    pub fn find(&self, wanted: &ProductFacts, rules: &Rules) -> Result<Match<'_>, NoMatch<'_>> {
        let name = Text::name(wanted.name.as_deref());
        let article = Text::article_number(wanted.article_number.as_deref());

        if let Some(index) = self.by_article.get(&article.key) {
            return Ok(self.matched(*index, MatchedBy::ArticleNumber, 1.0, wanted, rules));
        }
        if let Some(index) = wanted.ean.as_deref().and_then(|ean| self.by_ean.get(&digits(ean))) {
            return Ok(self.matched(*index, MatchedBy::Ean, 1.0, wanted, rules));
        }
        if !rules.fuzzy {
            return Err(self.not_found(wanted, &Nearest::default(), rules));
        }
        let nearest = self.nearest(&name, |prepared| &prepared.name);
        if let Some((index, score)) = nearest.best.filter(|(_, score)| *score >= rules.product_name) {
            return Ok(self.matched(index, MatchedBy::ProductName, score, wanted, rules));
        }
        let misread = self.nearest(&article, |prepared| &prepared.article).best;
        if let Some((index, score)) = misread.filter(|(_, score)| *score >= rules.article_number) {
            return Ok(self.matched(index, MatchedBy::Fuzzy, score.min(MISREAD_SCORE), wanted, rules));
        }
        Err(self.not_found(wanted, &nearest, rules))
    }

    /// The products that are most alike in name or article number, the best first, at most `count` of them.
    pub fn best_matches(&self, wanted: &ProductFacts, count: usize) -> Vec<Candidate<'_>> {
        let name = pairs(&Text::name(wanted.name.as_deref()).key);
        let article = pairs(&Text::article_number(wanted.article_number.as_deref()).key);
        let mut candidates: Vec<Candidate<'_>> = self
            .listed
            .iter()
            .filter_map(|prepared| {
                let by_name = dice_of_pairs(&name, &pairs(&prepared.name.key));
                let by_article = dice_of_pairs(&article, &pairs(&prepared.article.key));
                let (alike_in, score) = match by_article > by_name {
                    true => (MatchedBy::ArticleNumber, by_article),
                    false => (MatchedBy::ProductName, by_name),
                };
                (score > 0.0).then_some(Candidate { product: &prepared.product, alike_in, score })
            })
            .collect();
        // A stable order: ties stay as they are listed.
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(count);
        candidates
    }

    fn matched(
        &self,
        index: usize,
        matched_by: MatchedBy,
        score: f64,
        wanted: &ProductFacts,
        rules: &Rules,
    ) -> Match<'_> {
        let product = &self.listed[index].product;
        let Validation { warnings, .. } =
            validate(matched_by, score, wanted.price, product.facts.price, rules);
        Match { product, matched_by, score, warnings }
    }

    fn nearest(&self, wanted: &Text, text_of: impl Fn(&Prepared) -> &Text) -> Nearest {
        let mut nearest = Nearest::default();
        if wanted.key.len() < MIN_FUZZY_CHARS {
            return nearest;
        }
        // Not `fuzz::RatioBatchComparator`, which divides by the longer text instead of both (rapidfuzz 0.5).
        let as_written = BatchComparator::new(wanted.key.bytes());
        let variant = BatchComparator::new(wanted.variant.bytes());
        for (index, prepared) in self.listed.iter().enumerate() {
            let text = text_of(prepared);
            if text.key.len() < MIN_FUZZY_CHARS {
                continue;
            }
            let agree = text.numbers_agree_with(wanted);
            let kept = if agree { &mut nearest.best } else { &mut nearest.other_numbers };
            // Whatever cannot beat the best so far is given up early; a tie leaves the earlier one.
            let so_far = kept.map_or(0.0, |(_, score)| score);
            let cutoff = Args::default().score_cutoff(so_far);
            let as_written =
                as_written.normalized_similarity_with_args(text.key.bytes(), &cutoff).unwrap_or(0.0);
            let score = as_written
                .max(variant.normalized_similarity_with_args(text.variant.bytes(), &cutoff).unwrap_or(0.0));
            if score > so_far {
                *kept = Some((index, score));
            }
        }
        nearest
    }

    fn not_found(&self, wanted: &ProductFacts, nearest: &Nearest, rules: &Rules) -> NoMatch<'_> {
        let said: Vec<String> = [
            wanted.article_number.as_ref().map(|number| format!("the article number {number}")),
            wanted.ean.as_ref().map(|ean| format!("the EAN {ean}")),
            wanted.name.as_ref().map(|name| format!("a name like “{name}”")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let named = |index: usize| self.listed[index].product.facts.name.as_deref().unwrap_or_default();
        let best = nearest.best.map(|(index, score)| (&self.listed[index].product, score));
        let mut reason = match (self.listed.is_empty(), said.is_empty()) {
            (true, _) => "The product list is empty.".to_owned(),
            (_, true) => "Neither an article number nor an EAN nor a name was found on the page.".to_owned(),
            _ => format!("No listed product has {}.", said.join(" or ")),
        };
        let close_but_other = nearest.other_numbers.filter(|(_, score)| *score >= rules.product_name);
        if let Some((index, _)) = close_but_other {
            reason += &format!(" “{}” is alike, but its numbers are others.", named(index));
        } else if let Some((index, score)) = nearest.best {
            reason += &format!(" The nearest name is “{}” ({:.0} % alike).", named(index), score * 100.0);
        }
        NoMatch { reason, best }
    }
}

/// The most similar product, and the most similar among those whose numbers contradict.
#[derive(Default)]
struct Nearest {
    best: Option<(usize, f64)>,
    other_numbers: Option<(usize, f64)>,
}

/// A text that can be compared: only `a–z`, digits and (in a name) single spaces.
struct Text {
    key: String,
    /// Another writing of the same. A name: its words in alphabetical order, “Wandfarbe weiß matt” is “Wandfarbe
    /// matt, weiß”. An article number: with digits where a camera may have read letters.
    variant: String,
    /// The numbers in it, in ascending order.
    numbers: Vec<String>,
}

impl Text {
    fn name(name: Option<&str>) -> Text {
        let name = name.unwrap_or_default();
        let key: String = normalize(name, ' ').chars().take(MAX_COMPARED_CHARS).collect();
        let mut words: Vec<&str> = key.split(' ').collect();
        words.sort_unstable();
        Text { variant: words.join(" "), numbers: numbers(name), key }
    }

    fn article_number(number: Option<&str>) -> Text {
        let words = normalize(number.unwrap_or_default(), '-');
        let key: String = words.chars().filter(|c| *c != '-').take(MAX_COMPARED_CHARS).collect();
        // A camera reads O for 0 and I for 1: where a part holds digits, its letters may be misread ones.
        let meant: Vec<String> = words
            .split('-')
            .map(|part| match part.contains(|c: char| c.is_ascii_digit()) {
                true => part.replace('o', "0").replace(['i', 'l'], "1").replace('s', "5").replace('b', "8"),
                false => part.to_owned(),
            })
            .collect();
        Text { variant: meant.concat(), numbers: numbers(&meant.join("-")), key }
    }

    /// Whether one text's numbers are all among the other's: a page may say “4 x 40” where the list adds
    /// “200 pieces”, but 4 x 40 is never 4 x 50.
    fn numbers_agree_with(&self, other: &Text) -> bool {
        let (few, many) = if self.numbers.len() <= other.numbers.len() {
            (&self.numbers, &other.numbers)
        } else {
            (&other.numbers, &self.numbers)
        };
        let mut rest = many.iter();
        few.iter().all(|number| rest.any(|candidate| candidate == number))
    }
}

/// Lower case, umlauts and ß written out, every run of anything but letters and digits one `separator`.
/// Umlauts come first: a filter for punctuation would take them for it.
fn normalize(text: &str, separator: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        let plain = match c {
            'ä' => "ae",
            'ö' => "oe",
            'ü' => "ue",
            'ß' => "ss",
            'á' | 'à' | 'â' => "a",
            'é' | 'è' | 'ê' => "e",
            '×' => "x",
            _ => "",
        };
        // An accented letter may also come as the letter with its marks behind it; two dots make an umlaut.
        if ('\u{300}'..='\u{36f}').contains(&c) {
            out.push_str(if c == '\u{308}' { "e" } else { "" });
        } else if !plain.is_empty() {
            out.push_str(plain);
        } else if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with(separator) {
            out.push(separator);
        }
    }
    out.trim_end_matches(separator).to_owned()
}

/// All numbers in a text, sorted: `2,50` is `2.5`, `007` is `7`.
fn numbers(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().take(MAX_COMPARED_CHARS).collect();
    let digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        let mut number = String::new();
        while digit(at)
            || (matches!(chars.get(at), Some('.' | ',')) && digit(at + 1) && !number.contains('.'))
        {
            number.push(if digit(at) { chars[at] } else { '.' });
            at += 1;
        }
        let number = number.trim_start_matches('0');
        found
            .push(if number.contains('.') { number.trim_end_matches(['0', '.']) } else { number }.to_owned());
    }
    found.sort_unstable();
    found
}

/// The pairs of neighbouring letters of a normalized text, sorted; a single letter is a pair with nothing.
fn pairs(normalized: &str) -> Vec<[u8; 2]> {
    let letters: Vec<u8> = normalized.bytes().filter(|c| *c != b' ').take(MAX_COMPARED_CHARS).collect();
    let mut pairs: Vec<[u8; 2]> = match letters.as_slice() {
        [only] => vec![[*only, 0]],
        letters => letters.windows(2).map(|pair| [pair[0], pair[1]]).collect(),
    };
    pairs.sort_unstable();
    pairs
}

/// Of two sorted lists; a pair that stands twice in both counts twice.
fn dice_of_pairs(one: &[[u8; 2]], other: &[[u8; 2]]) -> f64 {
    let (mut at, mut common) = (0, 0);
    for pair in one {
        while other.get(at).is_some_and(|candidate| candidate < pair) {
            at += 1;
        }
        if other.get(at) == Some(pair) {
            at += 1;
            common += 1;
        }
    }
    match one.len() + other.len() {
        0 => 0.0,
        all => 2.0 * f64::from(common) / all as f64,
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(article: &str, ean: &str, name: &str, price: f64) -> ProductFacts {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ProductFacts {
            article_number: some(article),
            ean: some(ean),
            name: some(name),
            price: Some(price),
            ..ProductFacts::default()
        }
    }

    fn listed(number: u128, facts: ProductFacts) -> ListedFacts {
        ListedFacts { id: Uuid::from_u128(number), facts }
    }

    fn matcher() -> Matcher {
        Matcher::new(vec![
            listed(1, facts("SD-10023", "2000000100238", "Spanplattenschraube 4 x 40 mm", 4.5)),
            listed(2, facts("SD-10024", "2000000100245", "Spanplattenschraube 4 x 50 mm", 5.5)),
            listed(3, facts("FP-30001", "2000000300010", "Wandfarbe weiß matt, 2,5 l", 19.99)),
            listed(4, facts("FP-30002", "2000000300027", "Wandfarbe weiß matt, 5 l", 29.99)),
            listed(5, facts("WZ-20009", "", "Rührquirl für Mörtel", 8.0)),
        ])
    }

    fn find(wanted: ProductFacts) -> Result<(u128, MatchedBy, f64, Vec<String>), String> {
        let matcher = matcher();
        match matcher.find(&wanted, &Rules::default()) {
            Ok(m) => Ok((m.product.id.as_u128(), m.matched_by, m.score, m.warnings)),
            Err(none) => Err(none.reason),
        }
    }

    #[test]
    fn the_article_number_comes_first_however_it_is_written() {
        let found = find(facts("sd 10024", "2000000100238", "Wandfarbe weiß matt, 5 l", 5.5));
        assert_eq!(found, Ok((2, MatchedBy::ArticleNumber, 1.0, vec![])));
    }

    #[test]
    fn an_ean_comes_next_and_is_told() {
        let found = find(facts("ANDERS-1", "20000001 00238", "", 4.5));
        let warnings = vec!["Matched by EAN, not by article number.".to_owned()];
        assert_eq!(found, Ok((1, MatchedBy::Ean, 1.0, warnings)));
    }

    #[test]
    fn a_name_matches_with_its_umlauts_written_out_and_its_words_in_another_order() {
        for name in [
            "RUEHRQUIRL fuer Moertel",
            "Mo\u{308}rtel: Ru\u{308}hrquirl fu\u{308}r",
            "rührquirl  für – mörtel",
        ] {
            let (id, by, score, _) = find(facts("", "", name, 8.0)).unwrap();
            assert_eq!((id, by, by.is_exact()), (5, MatchedBy::ProductName, false), "{name}");
            assert!(score > 0.99, "{name} {score}");
        }
    }

    #[test]
    fn names_that_differ_in_a_number_are_different_products() {
        assert_eq!(find(facts("", "", "Spanplattenschraube 4x50", 5.5)).unwrap().0, 2);
        let none = find(facts("SD-99999", "", "Spanplattenschraube 4x60 mm", 5.5)).unwrap_err();
        assert!(none.contains("its numbers are others"), "{none}");
        // A decimal comma is part of its number: 2,5 litres are not 5 litres.
        assert_eq!(find(facts("", "", "Wandfarbe weiss matt 2.50 l", 19.99)).unwrap().0, 3);
        assert_eq!(find(facts("", "", "Wandfarbe weiss matt 5 l", 29.99)).unwrap().0, 4);
    }

    #[test]
    fn a_misread_article_number_matches_but_its_neighbour_does_not() {
        let (id, by, score, warnings) = find(facts("SD-1OO23", "", "", 4.5)).unwrap();
        assert_eq!((id, by), (1, MatchedBy::Fuzzy));
        assert!((0.0..1.0).contains(&score));
        assert_eq!(warnings.last().unwrap(), "Matched by a similar article number, not by the same.");
        assert!(find(facts("SD-10025", "", "", 4.5)).is_err());
    }

    #[test]
    fn people_are_warned_of_low_confidence_and_of_another_price() {
        let (_, _, score, warnings) = find(facts("", "", "Quirl für Mörtel und alle Farben", 8.11)).unwrap();
        assert!(score < Rules::default().low_confidence, "{score}");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("Low confidence"), "{warnings:?}");
        assert_eq!(warnings[1], "The prices differ: 8.11 in the shop, 8.00 in the list.");
        // A tenth is no difference yet, although 4.6 - 4.5 is a little more in floating point.
        assert_eq!(find(facts("SD-10023", "", "", 4.6)).unwrap().3, Vec::<String>::new());
    }

    #[test]
    fn a_product_that_is_not_listed_gets_a_reason_and_the_nearest_name() {
        let matcher = matcher();
        let wanted = facts("XY-1", "2999999999994", "Lasergestützter Entfernungsmesser", 99.0);
        let none = matcher.find(&wanted, &Rules::default()).unwrap_err();
        assert!(
            none.reason.starts_with("No listed product has the article number XY-1 or the EAN 2999"),
            "{none:?}"
        );
        assert!(none.best.is_some_and(|(_, score)| score > 0.0 && score < 0.6), "{none:?}");
        assert!(find(ProductFacts::default()).unwrap_err().starts_with("Neither"));
        let empty = Matcher::new(Vec::new());
        assert_eq!(empty.find(&wanted, &Rules::default()).unwrap_err().reason, "The product list is empty.");
    }

    #[test]
    fn a_job_may_set_the_rules() {
        let matcher = matcher();
        let wanted = facts("SD-1OO23", "", "Spanplattenschraube 4x40", 4.7);
        let strict = Rules { fuzzy: false, ..Rules::default() };
        assert!(matcher.find(&wanted, &strict).is_err());
        assert_eq!(matcher.find(&facts("SD-10023", "", "", 4.5), &strict).unwrap().score, 1.0);
        let high = Rules { product_name: 0.99, article_number: 0.99, ..Rules::default() };
        assert!(matcher.find(&facts("", "", "Spanplattenschraube 4x40", 4.7), &high).is_err());
        let patient = Rules { price_tolerance: 1.0, ..Rules::default() };
        let told = |rules| matcher.find(&facts("SD-10023", "", "", 5.0), &rules).unwrap().warnings.len();
        assert_eq!((told(patient), told(Rules::default())), (0, 1));
    }

    #[test]
    fn the_closest_products_come_best_first() {
        let matcher = matcher();
        let closest = matcher.best_matches(&facts("", "", "Wandfarbe matt weiss 5 Liter", 1.0), 2);
        let ids: Vec<u128> = closest.iter().map(|candidate| candidate.product.id.as_u128()).collect();
        assert_eq!(ids.len(), 2);
        assert!(ids.contains(&3) && ids.contains(&4), "{ids:?}");
        assert!(closest[0].score >= closest[1].score && closest[1].score > 0.5, "{closest:?}");
        let by_number = matcher.best_matches(&facts("sd10024", "", "", 1.0), 5);
        assert_eq!(
            (by_number[0].product.id.as_u128(), by_number[0].alike_in, by_number[0].score),
            (2, MatchedBy::ArticleNumber, 1.0)
        );
        assert!(matcher.best_matches(&ProductFacts::default(), 5).is_empty());
        assert!(matcher.best_matches(&facts("", "", "Wandfarbe", 1.0), 0).is_empty());
    }

    #[test]
    fn a_match_is_valid_from_the_threshold_on_and_tells_its_doubts() {
        let check = |by, confidence, price| {
            let done = validate(by, confidence, Some(1.0), Some(price), &Rules::default());
            (done.is_valid, done.warnings.len())
        };
        assert_eq!(check(MatchedBy::ArticleNumber, 1.0, 1.1), (true, 0));
        assert_eq!(check(MatchedBy::Ean, 1.0, 1.2), (true, 2));
        assert_eq!(check(MatchedBy::ProductName, 0.6, 1.0), (true, 2));
        assert_eq!(check(MatchedBy::Fuzzy, 0.59, 2.0), (false, 3));
    }

    #[test]
    fn a_report_counts_what_was_found() {
        let report = Report::of([(true, 1.0), (false, 0.65), (false, 0.8)], &Rules::default());
        let expected = Report {
            total_matches: 3,
            exact_matches: 1,
            fuzzy_matches: 2,
            average_confidence: 0.817,
            low_confidence_matches: 1,
        };
        assert_eq!(report, expected);
        assert_eq!(Report::of([], &Rules::default()), Report::default());
    }

    #[test]
    fn dice_counts_common_pairs_of_letters() {
        assert_eq!(dice("night", "nacht"), 0.25);
        assert_eq!(dice("Größe", "GROESSE"), 1.0);
        assert_eq!((dice("", ""), dice("a", "a"), dice("a", "b")), (0.0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn dice_is_symmetric_and_full_only_for_itself(one in "\\PC{0,40}", other in "\\PC{0,40}") {
            let score = dice(&one, &other);
            prop_assert!((0.0..=1.0).contains(&score));
            prop_assert_eq!(score, dice(&other, &one));
            let itself = dice(&one, &one);
            prop_assert!(itself == 1.0 || normalize(&one, ' ').is_empty());
        }

        #[test]
        fn the_same_question_gets_the_same_answer_whatever_the_order_of_the_list(
            names in proptest::collection::vec("[a-cä ]{0,12}", 1..12), asked in "[a-cä ]{0,12}", turn in 0..12usize,
        ) {
            let list: Vec<ListedFacts> =
                names.iter().enumerate().map(|(n, name)| listed(n as u128, facts(&format!("N-{n:02}"), "", name, 1.0))).collect();
            let mut turned = list.clone();
            turned.rotate_left(turn % list.len());
            let (one, other) = (Matcher::new(list), Matcher::new(turned));
            let wanted = facts("", "", &asked, 1.0);
            prop_assert_eq!(one.find(&wanted, &Rules::default()), other.find(&wanted, &Rules::default()));
            prop_assert_eq!(one.best_matches(&wanted, 3), other.best_matches(&wanted, 3));
        }
    }

    #[test]
    fn ties_go_to_the_first_article_number_whatever_the_order_of_the_list() {
        let twins = |order: [u128; 3]| {
            let named = |n: u128| listed(n, facts(&format!("T-{n}"), "", "Farbroller Größe XL", 1.0));
            let matcher = Matcher::new(order.map(named).to_vec());
            matcher.find(&facts("", "", "Farbroller Größe L", 1.0), &Rules::default()).unwrap().product.id
        };
        assert_eq!(twins([3, 1, 2]), Uuid::from_u128(1));
        assert_eq!(twins([2, 3, 1]), Uuid::from_u128(1));
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked_for(name in ".{0,80}", article in ".{0,30}", ean in ".{0,20}") {
            let wanted = facts(&article, &ean, &name, 1.0);
            if let Ok(found) = matcher().find(&wanted, &Rules::default()) {
                prop_assert!((0.6..=1.0).contains(&found.score));
            }
        }
    }

    proptest! {
        /// The library's fast way (prepared, with a cutoff) against its plain way.
        #[test]
        fn giving_up_early_changes_no_score(a in "[a-d ]{3,90}", b in "[a-d ]{3,90}", cutoff in 0.0..1.0f64) {
            let plain = rapidfuzz::fuzz::ratio(a.bytes(), b.bytes());
            let fast = BatchComparator::new(a.bytes())
                .normalized_similarity_with_args(b.bytes(), &Args::default().score_cutoff(cutoff));
            prop_assert_eq!(fast, (plain >= cutoff).then_some(plain));
        }
    }

    #[test]
    fn each_of_many_alike_names_finds_its_own_product() {
        let kinds =
            ["Spanplattenschraube Senkkopf verzinkt", "Wandfarbe seidenmatt weiß", "Bohrer für Metall"];
        let named = |n: usize| {
            facts(
                &format!("SD-{}", 10_000 + n),
                "",
                &format!("{} {} x {} mm", kinds[n % 3], n / 97, n % 97),
                1.0,
            )
        };
        let matcher = Matcher::new((0..2_000).map(|n| listed(n as u128, named(n))).collect());
        for n in (0..2_000).step_by(101) {
            let written = named(n).name.unwrap().replace("weiß", "weiss,").replace(" x ", "x");
            let found = matcher.find(&facts("", "", &written, 1.0), &Rules::default()).unwrap();
            assert_eq!(found.product.id.as_u128(), n as u128, "{written}");
        }
    }
}
