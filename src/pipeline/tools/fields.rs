//! Finds a product's values in the words of a picture, and checks them against what the page itself declares.
//!
//! Pure rules over words and boxes. A shop's page prints many numbers and only few are what they look like,
//! so each rule says what must stand around a number, and the words that make it something else (an old
//! price, a base price, postage) are lists at the end of this file.

use std::collections::BTreeMap;

use rapidfuzz::distance::levenshtein;
use rapidfuzz::fuzz;
use serde::{Deserialize, Serialize};

use super::ocr::{OcrText, Word};
use crate::product::{ProductFacts, Tier, is_ean13, parse_price};

/// No shop has more steps in its prices.
const MOST_TIERS: usize = 50;
/// A product's name is cut off after so many characters.
const LONGEST_NAME: usize = 200;
/// The same of the words of a part of a page as they were read.
const LONGEST_PART: usize = 500;
/// Words of a picture that are kept with their places; a product's page has some hundred.
const MOST_WORDS: usize = 1000;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reading {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub article_number: Option<String>,
    /// Two decimals; with tiers and no other price on the page, the price of the first tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Ascending by quantity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// The lines that `tiers` were read from, as they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiers_text: Option<String>,
    /// Thirteen digits with a valid check digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ean: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Only from the picture of that part of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// 0 to 100: the mean confidence of the fields that were read, times the share that was found of the
    /// three that every product has: article number, price, name.
    pub confidence: f32,
    /// Where the fields stand in the picture; the tiers have one box per line.
    pub boxes: Vec<FieldBox>,
    /// The fields that a picture of a part of the page told, not that of the product as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartRead>,
}

/// The values that a picture may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    ArticleNumber,
    Price,
    Tiers,
    Ean,
    ProductName,
    Description,
}

/// The words that a field was read from, in pixels of the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldBox {
    pub field: Field,
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
    /// 0 to 100: the mean of the words'.
    pub confidence: f32,
    /// The words as they were read, before any correction.
    pub text: String,
}

/// What the picture of one part of a page told of its field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartRead {
    pub field: Field,
    /// The words as they were read.
    pub text: String,
    /// 0 to 100: the mean of the words'.
    pub confidence: f32,
}

/// One word of a picture, in its pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WordBox {
    pub text: String,
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
    /// 0 to 100.
    pub confidence: f32,
    /// The field that was read from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Field>,
}

/// Reads the fields of one picture.
pub fn read_fields(picture: &OcrText) -> Reading {
    read_words(picture).0
}

/// The same, and the picture's words, each with the field that was read from it.
pub fn read_words(picture: &OcrText) -> (Reading, Vec<WordBox>) {
    let rows = rows(&picture.words);
    let mut reading = Reading::default();
    let mut fields: Vec<Option<Field>> = vec![None; picture.words.len()];

    let ean = find_ean(&rows);
    let article_number = find_article_number(&rows);
    let tiers = find_tiers(&rows, false);
    let price = find_price(&rows, &tiers);
    let name = find_name(picture);

    let mut mark = |field, words: &[usize]| {
        reading.boxes.extend(field_box(picture, field, words));
        words.iter().for_each(|&word| fields[word] = Some(field));
    };
    for (field, found) in
        [(Field::ArticleNumber, &article_number), (Field::Ean, &ean), (Field::ProductName, &name)]
    {
        if let Some(found) = found {
            mark(field, &found.words);
        }
    }
    if let Some(price) = &price {
        mark(Field::Price, &price.words);
    }
    for tier in &tiers {
        mark(Field::Tiers, &tier.words);
    }

    reading.article_number = article_number.map(|found| found.value);
    reading.ean = ean.map(|found| found.value);
    reading.product_name = name.map(|found| found.value);
    reading.price = price.map(|found| found.value).or(tiers.first().map(|first| first.value.price));
    if !tiers.is_empty() {
        let lines: Vec<_> = tiers.iter().map(|tier| text_of(picture, &tier.words)).collect();
        reading.tiers_text = Some(lines.join("\n"));
    }
    reading.tiers = tiers.into_iter().map(|tier| tier.value).collect();
    reading.confidence = confidence(&reading);
    let words = picture.words.iter().zip(fields).take(MOST_WORDS).map(|(word, field)| WordBox {
        text: word.text.clone(),
        left: word.left,
        top: word.top,
        width: word.width,
        height: word.height,
        confidence: (word.confidence * 10.0).round() / 10.0,
        field,
    });
    (reading, words.collect())
}

fn confidence(reading: &Reading) -> f32 {
    let everyone_has =
        [reading.article_number.is_some(), reading.price.is_some(), reading.product_name.is_some()];
    let share = everyone_has.iter().filter(|&&found| found).count() as f32 / everyone_has.len() as f32;
    let boxes = reading.boxes.iter().map(|one| one.confidence);
    let all: Vec<f32> = boxes.chain(reading.parts.iter().map(|one| one.confidence)).collect();
    share * all.iter().sum::<f32>() / all.len().max(1) as f32
}

// ---------------------------------------------------------------------------------------------------------------
// Parts of a page

/// The fields that the picture of a product lacks, or shows otherwise than the page declares: the pictures of those
/// parts of the page may tell more.
pub fn open_fields(reading: &Reading, page: &ProductFacts) -> Vec<Field> {
    let doubted = cross_check(reading, page).disagreements;
    let lacking = [
        (Field::ArticleNumber, reading.article_number.is_none()),
        (Field::ProductName, reading.product_name.is_none()),
        (Field::Price, reading.price.is_none()),
        (Field::Tiers, reading.tiers.is_empty()),
        // The page's own words are better than any reading of them.
        (Field::Description, reading.description.is_none() && page.description.is_none()),
    ];
    let open = |field| doubted.iter().any(|doubt| doubt.field == field);
    lacking.into_iter().filter(|(field, lacks)| *lacks || open(*field)).map(|(field, _)| field).collect()
}

/// Reads the picture of one part of a page into what was read of the whole. What was lacking is taken; what the page
/// doubts is only taken where the part says what the page says, for then two are against one.
pub fn read_part(reading: &mut Reading, page: &ProductFacts, field: Field, picture: &OcrText) {
    let rows = rows(&picture.words);
    let text = || picture.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_text = |text: &String| text.chars().filter(|c| c.is_alphabetic()).count() >= 3;
    let taken = match field {
        Field::ArticleNumber => {
            let first = || find_token(&rows, |text| text.chars().filter(char::is_ascii_digit).count() >= 3);
            let found = find_article_number(&rows).or_else(first).map(|found| found.value);
            take(&mut reading.article_number, found, page.article_number.as_ref(), |a, b| same_number(a, b))
        }
        Field::ProductName => {
            let found = Some(text().chars().take(LONGEST_NAME).collect()).filter(is_text);
            take(&mut reading.product_name, found, page.name.as_ref(), |a, b| same_name(a, b))
        }
        Field::Price => {
            let bare = || rows.iter().flatten().find_map(|token| decimal(&token.text));
            let found = find_price(&rows, &[]).map(|found| found.value).or_else(bare);
            take(&mut reading.price, found, page.price.as_ref(), |a, b| (a - b).abs() < 0.005)
        }
        Field::Tiers => {
            let found: Vec<Tier> = find_tiers(&rows, true).into_iter().map(|found| found.value).collect();
            let mut read = Some(std::mem::take(&mut reading.tiers)).filter(|tiers| !tiers.is_empty());
            let found = Some(found).filter(|tiers| !tiers.is_empty());
            let taken = take(&mut read, found, Some(&page.tiers), |a, b| a == b);
            reading.tiers = read.unwrap_or_default();
            if taken {
                reading.tiers_text = Some(picture.text.chars().take(LONGEST_PART).collect());
                // As in the picture of the whole.
                reading.price = reading.price.or(reading.tiers.first().map(|first| first.price));
            }
            taken
        }
        Field::Description => {
            let found = Some(text().chars().take(LONGEST_PART).collect()).filter(is_text);
            take(&mut reading.description, found, page.description.as_ref(), |_, _| false)
        }
        Field::Ean => false,
    };
    if taken {
        let text = picture.text.chars().take(LONGEST_PART).collect();
        reading.parts.push(PartRead { field, text, confidence: picture.confidence });
        reading.confidence = confidence(reading);
    }
}

/// Whether the value that a part told is taken for that of the whole.
fn take<T>(read: &mut Option<T>, found: Option<T>, page: Option<&T>, same: impl Fn(&T, &T) -> bool) -> bool {
    let Some(found) = found else { return false };
    let agrees = |value: &T| page.is_some_and(|page| same(value, page));
    let taken = read.as_ref().is_none_or(|read| !agrees(read) && agrees(&found));
    if taken {
        *read = Some(found);
    }
    taken
}

// ---------------------------------------------------------------------------------------------------------------
// Words, tokens, rows

/// A value and the words that it was read from, by their place in the picture's list.
#[derive(Debug)]
struct Found<T> {
    value: T,
    words: Vec<usize>,
}

/// A word, or the part of it that has a meaning of its own.
struct Token {
    text: String,
    word: usize,
    left: u32,
    right: u32,
    height: u32,
}

/// What stands side by side, from left to right.
type Row = Vec<Token>;

/// Puts words back into rows by their boxes: Tesseract takes the columns of a table for blocks of their own,
/// and then a quantity and its price are far apart in its order.
fn rows(words: &[Word]) -> Vec<Row> {
    let middle = |word: &Word| word.top + word.height / 2;
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|&i| middle(&words[i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let beside = |first: &usize| {
            let (first, word) = (&words[*first], &words[i]);
            middle(first).abs_diff(middle(word)) * 2 <= first.height.min(word.height)
        };
        match rows.last_mut().filter(|row| row.last().is_some_and(beside)) {
            Some(row) => row.push(i),
            None => rows.push(vec![i]),
        }
    }
    rows.into_iter()
        .map(|mut row| {
            row.sort_by_key(|&i| words[i].left);
            row.into_iter().flat_map(|i| tokens(i, &words[i])).collect()
        })
        .collect()
}

/// Takes words apart that were written, or read, without the space between: "Art.-Nr.:A-17", "ab10",
/// "4,50€/kg".
fn tokens(index: usize, word: &Word) -> Vec<Token> {
    let mut pieces = vec![String::new()];
    let mut previous = ' ';
    for c in word.text.trim_matches('|').chars() {
        let piece = pieces.last().map_or("", String::as_str);
        let new = previous == ':'
            || (c.is_ascii_digit() && matches!(piece, "ab" | "Ab"))
            || (c == '/' && piece.starts_with(|c: char| c.is_ascii_digit()) && piece.contains([',', '.']));
        if new {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        previous = c;
    }
    let (left, right, height) = (word.left, word.left + word.width, word.height);
    let token = |text| Token { text, word: index, left, right, height };
    pieces.into_iter().filter(|text| !text.is_empty()).map(token).collect()
}

fn words_of(tokens: &[Token]) -> Vec<usize> {
    let mut words: Vec<usize> = tokens.iter().map(|token| token.word).collect();
    words.dedup();
    words
}

fn text_of(picture: &OcrText, words: &[usize]) -> String {
    words.iter().map(|&i| picture.words[i].text.as_str()).collect::<Vec<_>>().join(" ")
}

fn field_box(picture: &OcrText, field: Field, words: &[usize]) -> Option<FieldBox> {
    let boxes = || words.iter().map(|&i| &picture.words[i]);
    let (left, top) = (boxes().map(|w| w.left).min()?, boxes().map(|w| w.top).min()?);
    let (right, bottom) =
        (boxes().map(|w| w.left + w.width).max()?, boxes().map(|w| w.top + w.height).max()?);
    Some(FieldBox {
        field,
        left,
        top,
        width: right - left,
        height: bottom - top,
        confidence: boxes().map(|w| w.confidence).sum::<f32>() / words.len() as f32,
        text: text_of(picture, words),
    })
}

/// Lower-case letters only: what is left of "Art.-Nr.:" is "artnr".
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphabetic() || *c == '#').flat_map(char::to_lowercase).collect()
}

/// Digits for the letters that they are mistaken for, where the text is a number otherwise: "1O,5O", "l2".
fn digits(text: &str) -> String {
    if !text.chars().any(|c| c.is_ascii_digit()) {
        return text.to_owned();
    }
    text.chars().map(|c| if let Some(digit) = digit_for(c) { digit } else { c }).collect()
}

fn digit_for(c: char) -> Option<char> {
    match c {
        'O' | 'o' => Some('0'),
        'l' | 'I' | '|' | '!' => Some('1'),
        _ => None,
    }
}

/// Whether `word` is one of `list`, whose words have spaces between.
fn is_one_of(list: &str, word: &str) -> bool {
    list.split(' ').any(|one| one == word)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

// ---------------------------------------------------------------------------------------------------------------
// Amounts of money

/// An amount that stands somewhere in a row.
struct Amount {
    value: f64,
    /// Index of the first token after it.
    end: usize,
    /// Whether € or EUR, or what they are read as, stands with it.
    currency: bool,
    /// Whether it has two decimals.
    decimals: bool,
}

/// The amount that begins at `row[at]`, if one does.
fn amount(row: &[Token], at: usize) -> Option<Amount> {
    let mut end = at;
    let mut currency = false;
    if is_currency(&row[end].text, "£") {
        currency = true;
        end += 1;
    }
    let text = row.get(end)?.text.trim_start_matches('(');
    let (text, before) = strip_currency_before(text);
    let (text, after) = strip_currency_after(text);
    currency |= before || after;
    end += 1;

    let (value, decimals) = match decimal(text) {
        Some(value) => (value, true),
        // "12, 99" and "12 ,99": the mark and the cents were torn off.
        None => match row.get(end).and_then(|next| torn(text, &next.text)) {
            Some((value, with_currency)) => {
                end += 1;
                currency |= with_currency;
                (value, true)
            }
            None => (whole(text)?, false),
        },
    };
    // A lone letter is a currency only where cents stand before it.
    let misread = if decimals { "£ECe" } else { "" };
    if row.get(end).is_some_and(|next| !currency && is_currency(&next.text, misread)) {
        currency = true;
        end += 1;
    }
    (decimals || currency).then_some(Amount { value, end, currency, decimals })
}

fn is_currency(text: &str, misread: &str) -> bool {
    let bare = text.trim_end_matches(['*', '.', ',', ';', ')', '"', '\'']);
    matches!(bare, "€" | "EUR" | "Euro" | "EURO") || (bare.chars().count() == 1 && misread.contains(bare))
}

fn strip_currency_before(text: &str) -> (&str, bool) {
    let bare =
        ["€", "£", "EUR"].iter().find_map(|sign| text.strip_prefix(sign)).filter(|bare| !bare.is_empty());
    bare.map_or((text, false), |bare| (bare, true))
}

fn strip_currency_after(text: &str) -> (&str, bool) {
    let bare = text.trim_end_matches(['*', ';', ')', '"', '\'', '¹', '²']);
    for sign in ["EUR", "Euro", "€", "£", "E", "C"] {
        // A letter is the sign only after cents: "12,99E" but not "A12E".
        if let Some(number) = bare.strip_suffix(sign)
            && (sign == "€" || decimal(number).is_some() || (sign.len() > 2 && whole(number).is_some()))
        {
            return (number, true);
        }
    }
    (bare, false)
}

/// "12,99", "1.234,56", "1O,5O" and "12,-": a number with cents.
fn decimal(text: &str) -> Option<f64> {
    let text = digits(text);
    // The full stop of a sentence.
    let text = text.strip_suffix('.').filter(|text| text.contains([',', '.'])).unwrap_or(&text);
    let (before, cents) = text.rsplit_once([',', '.'])?;
    let cents = if !cents.is_empty() && cents.chars().all(|c| matches!(c, '-' | '–' | '—')) {
        "00"
    } else {
        cents
    };
    if cents.len() != 2 || !is_number(cents) {
        return None;
    }
    let mut groups = before.split(['.', ',']);
    let first = groups.next()?;
    let grouped = groups.all(|group| group.len() == 3 && is_number(group));
    (is_number(first) && grouped)
        .then(|| parse_price(&format!("{},{cents}", before.replace(['.', ','], ""))))
        .flatten()
}

fn whole(text: &str) -> Option<f64> {
    let text = digits(text);
    is_number(&text).then(|| parse_price(&text)).flatten()
}

/// The amount of two tokens that were one, and whether the second ends with a currency.
fn torn(first: &str, second: &str) -> Option<(f64, bool)> {
    let (cents, currency) = strip_currency_after(second);
    let joined = format!("{first}{cents}");
    let mark_between = first.ends_with([',', '.']) != cents.starts_with([',', '.']);
    (mark_between && is_number(&digits(first.trim_end_matches([',', '.']))))
        .then(|| decimal(&joined))
        .flatten()
        .map(|value| (value, currency))
}

// ---------------------------------------------------------------------------------------------------------------
// Tiers

/// A line of a price table.
struct Step {
    tier: Tier,
    words: Vec<usize>,
    /// Whether it says itself that it is one ("ab 10", "10+"); the others must come as a table.
    certain: bool,
}

/// The tiers of a picture: none, or at least one that is more than the single price. `table` where the picture shows
/// nothing but a table of them.
fn find_tiers(rows: &[Row], table: bool) -> Vec<Found<Tier>> {
    let heading =
        rows.iter().position(|row| row.iter().any(|token| is_one_of(TABLE_HEADINGS, &letters(&token.text))));
    let mut steps = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let below_heading = table || heading.is_some_and(|heading| number > heading);
        let mut at = 0;
        while at < row.len() {
            match step(row, at, below_heading) {
                Some((step, end)) => {
                    steps.entry(step.tier.min_quantity).or_insert(step);
                    at = end;
                }
                None => at += 1,
            }
        }
    }
    // A price that does not rise with the quantity tells a table of tiers from a choice of packs.
    let falling = steps.values().zip(steps.values().skip(1)).all(|(a, b)| b.tier.price <= a.tier.price);
    let graded = steps.len() > 1 && falling;
    let kept = steps.into_values().filter(|step| step.certain || graded).take(MOST_TIERS);
    let tiers: Vec<_> = kept.map(|step| Found { value: step.tier, words: step.words }).collect();
    let only_the_price = tiers.iter().all(|tier| tier.value.min_quantity == 1);
    if only_the_price { Vec::new() } else { tiers }
}

/// The tier that begins at `row[at]` and the token after it.
fn step(row: &[Token], at: usize, below_heading: bool) -> Option<(Step, usize)> {
    let word = letters(&row[at].text);
    let mut next = at;
    let (min_quantity, certain) = if is_one_of(TIER_WORDS, &word)
        && !row[at].text.contains(|c: char| c.is_ascii_digit())
    {
        next += 1;
        // "Staffel ab 10"
        next += usize::from(row.get(next).is_some_and(|token| letters(&token.text) == "ab"));
        (quantity(&row.get(next)?.text)?.0, true)
    } else if word == "bis" {
        next += 1;
        quantity(&row.get(next)?.text)?;
        (1, false)
    } else {
        let (quantity, kind) = quantity(&row[at].text)?;
        let plus = kind == QuantityKind::Plus || row.get(at + 1).is_some_and(|token| token.text == "+");
        // "10 - 49", "1 bis 9": the upper end says nothing that the next line does not.
        let range = row.get(at + 1).is_some_and(|token| matches!(&*token.text, "-" | "–" | "—" | "bis"))
            && row.get(at + 2).is_some_and(|token| self::quantity(&token.text).is_some());
        next += if range { 2 } else { 0 };
        let unit = kind == QuantityKind::Unit || row.get(next + 1).is_some_and(|token| is_unit(&token.text));
        if !(plus || range || unit || below_heading || kind == QuantityKind::Range) {
            return None;
        }
        (quantity, plus)
    };
    next += 1;
    // What may stand between a quantity and its price.
    let filler = |token: &Token| {
        let word = letters(&token.text);
        is_unit(&token.text)
            || is_one_of(TIER_FILLERS, &word)
            || token.text.ends_with('%')
            || !token.text.contains(char::is_alphanumeric)
    };
    let mut fillers = 0;
    loop {
        let token = row.get(next)?;
        // "ab 50 €" is a price, not a quantity.
        if fillers == 0
            && is_currency(&token.text, "£")
            && row.get(next + 1).is_none_or(|t| decimal(&t.text).is_none())
        {
            return None;
        }
        if let Some(amount) = amount(row, next) {
            let tier = Tier { min_quantity, price: amount.value };
            return Some((Step { tier, words: words_of(&row[at..amount.end]), certain }, amount.end));
        }
        if !filler(token) || fillers == 6 {
            return None;
        }
        fillers += 1;
        next += 1;
    }
}

#[derive(PartialEq)]
enum QuantityKind {
    Plain,
    /// "10+"
    Plus,
    /// "10Stk", "10x"
    Unit,
    /// "10-49"
    Range,
}

fn quantity(text: &str) -> Option<(u32, QuantityKind)> {
    let text = digits(text.trim_start_matches(['≥', '>', '(']).trim_end_matches([':', '.', ',', ')', '|']));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let kind = match rest {
        "" => QuantityKind::Plain,
        "+" => QuantityKind::Plus,
        _ if rest.strip_prefix(['-', '–']).is_some_and(is_number) => QuantityKind::Range,
        _ if is_unit(rest) => QuantityKind::Unit,
        _ => return None,
    };
    // "1.000" is a thousand, "1.5" is no quantity.
    if number.split('.').skip(1).any(|group| group.len() != 3) {
        return None;
    }
    let number: u32 = number.replace('.', "").parse().ok()?;
    (1..=1_000_000).contains(&number).then_some((number, kind))
}

fn is_unit(text: &str) -> bool {
    let word = letters(text);
    is_one_of(UNITS, &word) || (word.len() >= 5 && levenshtein::distance(word.chars(), "stück".chars()) <= 1)
}

// ---------------------------------------------------------------------------------------------------------------
// The price

/// The product's own price: of the amounts that nothing around them makes something else, the largest in
/// print.
fn find_price(rows: &[Row], tiers: &[Found<Tier>]) -> Option<Found<f64>> {
    struct Candidate {
        found: Found<f64>,
        height: u32,
        labelled: bool,
    }
    let in_a_tier = |token: &Token| tiers.iter().any(|tier| tier.words.contains(&token.word));
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut line_above: &[Token] = &[];
    for line in rows.iter().flat_map(|row| segments(row)) {
        let amounts = amounts(line);
        for (i, (start, found)) in amounts.iter().enumerate() {
            let from = if i == 0 { 0 } else { amounts[i - 1].1.end };
            let to = amounts.get(i + 1).map(|next| next.0);
            // A label may stand alone on the line above.
            let before = if *start == 0 && line_above.len() <= 3 { line_above } else { &line[from..*start] };
            let after = &line[found.end..to.unwrap_or(line.len())];
            let labelled = before.iter().any(|token| is_price_label(&letters(&token.text)));
            // With tiers "ab 4,20 €" is the last one's price, told again.
            let from_price =
                !tiers.is_empty() && before.last().is_some_and(|token| letters(&token.text) == "ab");
            let own = !from_price && !is_something_else(before, after, to.is_none());
            if own
                && (found.currency || (labelled && found.decimals))
                && !line[*start..found.end].iter().any(in_a_tier)
            {
                let tokens = &line[*start..found.end];
                let height = tokens.iter().map(|token| token.height).max().unwrap_or_default();
                candidates.push(Candidate {
                    found: Found { value: found.value, words: words_of(tokens) },
                    height,
                    labelled,
                });
            }
        }
        line_above = if amounts.is_empty() { line } else { &[] };
    }
    let tallest = candidates.iter().map(|candidate| candidate.height).max()?;
    candidates.retain(|candidate| candidate.height * 5 >= tallest * 4);
    let best = candidates.iter().position(|candidate| candidate.labelled).unwrap_or(0);
    Some(candidates.swap_remove(best).found)
}

/// A row's parts that belong together, because no wide gap is between their words.
fn segments(row: &[Token]) -> Vec<&[Token]> {
    row.chunk_by(|a, b| b.left.saturating_sub(a.right) <= 2 * a.height.max(b.height)).collect()
}

/// All amounts of a line and where they begin.
fn amounts(line: &[Token]) -> Vec<(usize, Amount)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < line.len() {
        match amount(line, at) {
            Some(amount) => {
                let end = amount.end;
                found.push((at, amount));
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

fn is_price_label(word: &str) -> bool {
    is_one_of(PRICE_LABELS, word) || (word.ends_with("preis") && !is_other_label(word))
}

fn is_other_label(word: &str) -> bool {
    OTHER_AMOUNTS
        .split(' ')
        .any(|other| if other.chars().count() > 4 { word.starts_with(other) } else { word == other })
}

/// Whether the words around an amount make it something other than the product's price. What stands behind it
/// belongs to the next amount if there is one, except for a unit: "12,00 €/kg".
fn is_something_else(before: &[Token], after: &[Token], last: bool) -> bool {
    let near = &before[before.len().saturating_sub(4)..];
    if near.iter().any(|token| is_other_label(&letters(&token.text))) {
        return true;
    }
    // "1 kg = 12,00 €"
    if near.last().is_some_and(|token| token.text == "=") {
        return true;
    }
    let word = |i: usize| after.get(i).map(|token| letters(&token.text)).unwrap_or_default();
    let per = after.first().is_some_and(|token| token.text.starts_with('/'))
        || matches!(&*word(0), "pro" | "je" | "per");
    if per {
        let unit = [word(0), word(1), word(2)]
            .into_iter()
            .find(|word| !matches!(&**word, "" | "pro" | "je" | "per"));
        return unit.is_some_and(|unit| is_one_of(MEASURES, &unit));
    }
    last && (0..3).map(word).take_while(|word| !word.is_empty()).enumerate().any(|(i, word)| {
        // "12,99 € zzgl. Versand" is a price, "4,90 € Versand" is not.
        (i == 0 && !is_one_of(BEFORE_POSTAGE, &word) && is_other_label(&word)) || is_one_of(FREE_FROM, &word)
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Article number and EAN

/// How many tokens from `row[at]` on are together one of `labels`, the longest reading first.
fn label(row: &[Token], at: usize, labels: &str) -> Option<usize> {
    (1..=3).rev().find(|&length| {
        let Some(tokens) = row.get(at..at + length) else { return false };
        // "EAN-13" may be a label; "Art. 17" is one and its value.
        let counts = tokens.iter().map(|token| token.text.chars().filter(char::is_ascii_digit).count());
        if counts.enumerate().any(|(i, digits)| digits > if i == 0 { 2 } else { 0 }) {
            return false;
        }
        let words: String = tokens.iter().map(|token| letters(&token.text)).collect();
        labels.split(' ').any(|label| {
            words == label
                // Long words are known with one letter misread.
                || (label.chars().count() >= 8 && levenshtein::distance(words.chars(), label.chars()) <= 1)
        }) && !letters(&tokens[0].text).is_empty()
    })
}

fn find_article_number(rows: &[Row]) -> Option<Found<String>> {
    let labelled = rows.iter().enumerate().find_map(|(number, row)| {
        (0..row.len()).find_map(|at| {
            let length = label(row, at, ARTICLE_LABELS)?;
            let beside = article_number_at(row, at + length);
            // The value may stand under its label, if nothing stands beside it.
            let below = || {
                let end = &row[at + length - 1];
                let beside = row
                    .get(at + length)
                    .is_some_and(|next| next.left.saturating_sub(end.right) <= 2 * end.height);
                let next = rows.get(number + 1).filter(|_| !beside)?;
                let under = next.iter().position(|token| {
                    token.left < row[at + length - 1].right && token.right > row[at].left
                })?;
                article_number_at(next, under)
            };
            beside.or_else(below)
        })
    });
    labelled
        .or_else(|| find_token(rows, looks_like_article_number))
        .or_else(|| find_token(rows, looks_like_long_number))
}

/// The article number among the first tokens from `row[at]` on.
fn article_number_at(row: &[Token], at: usize) -> Option<Found<String>> {
    let mut from = at;
    while row.get(from).is_some_and(|token| !token.text.contains(char::is_alphanumeric)) && from < at + 2 {
        from += 1;
    }
    let first = row.get(from)?;
    let value = clean_number(&first.text);
    let is_prefix = value.len() <= 5 && !value.is_empty() && value.chars().all(|c| c.is_ascii_uppercase());
    if is_prefix
        && let Some(rest) =
            row.get(from + 1).filter(|token| token.text.starts_with(|c: char| c.is_ascii_digit()))
    {
        let value = format!("{value} {}", clean_number(&rest.text));
        return Some(Found { value, words: words_of(&row[from..from + 2]) });
    }
    let plausible = value.chars().any(|c| c.is_ascii_digit())
        && (3..=40).contains(&value.len())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    plausible.then(|| Found { value, words: vec![first.word] })
}

fn find_token(rows: &[Row], fits: fn(&str) -> bool) -> Option<Found<String>> {
    rows.iter().find_map(|row| {
        let foreign = |token: &Token| is_one_of(NOT_ARTICLES, &letters(&token.text));
        if row.iter().any(foreign) {
            return None;
        }
        row.iter().find_map(|token| {
            let value = clean_number(&token.text);
            fits(&value).then(|| Found { value, words: vec![token.word] })
        })
    })
}

/// Two or more capitals and four or more digits: "SW10001", "AB-12345".
fn looks_like_article_number(text: &str) -> bool {
    let capitals = text.chars().take_while(char::is_ascii_uppercase).count();
    let rest = &text[capitals..];
    let rest = rest.strip_prefix(['-', '_']).unwrap_or(rest);
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    capitals >= 2
        && digits >= 4
        && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !is_one_of(STANDARDS, &text[..capitals])
}

fn looks_like_long_number(text: &str) -> bool {
    (6..=12).contains(&text.len()) && is_number(text)
}

/// Without the punctuation around it, and with digits where a letter stands between digits: "SW1OOO1".
fn clean_number(text: &str) -> String {
    let trimmed: Vec<char> = text.trim_matches(|c: char| !c.is_alphanumeric()).chars().collect();
    let mut cleaned = trimmed.clone();
    let could_be_digit = |c: char| c.is_ascii_digit() || digit_for(c).is_some();
    let mut start = 0;
    while start < trimmed.len() {
        let length = trimmed[start..].iter().take_while(|&&c| could_be_digit(c)).count();
        let run = &trimmed[start..start + length];
        let first = run.iter().position(char::is_ascii_digit);
        let last = run.iter().rposition(char::is_ascii_digit);
        if let (Some(first), Some(last)) = (first, last) {
            // A letter at the end of many digits is one of them too; one before them may be the number's own
            // prefix.
            let end = if run.iter().filter(|c| c.is_ascii_digit()).count() >= 3 { length } else { last + 1 };
            for i in start + first..start + end {
                cleaned[i] = digit_for(trimmed[i]).unwrap_or(trimmed[i]);
            }
        }
        start += length.max(1);
    }
    cleaned.into_iter().collect()
}

fn find_ean(rows: &[Row]) -> Option<Found<String>> {
    // Printed under a barcode it has gaps: "4 006381 333931".
    let from = |row: &Row, at: usize, corrected: bool| {
        let mut code = String::new();
        for (i, token) in row[at..].iter().enumerate().take(5) {
            let text = token.text.trim_matches(|c: char| !c.is_alphanumeric());
            let piece = if corrected { digits(text) } else { text.to_owned() };
            if !is_number(&piece) {
                // Between the label and the number may stand a colon, nothing else.
                if code.is_empty() && text.is_empty() {
                    continue;
                }
                return None;
            }
            code.push_str(&piece);
            if code.len() >= 13 {
                return is_ean13(&code)
                    .then(|| Found { value: code.clone(), words: words_of(&row[at..=at + i]) });
            }
        }
        None
    };
    let labelled = rows.iter().find_map(|row| {
        (0..row.len()).find_map(|at| {
            let length = label(row, at, EAN_LABELS)?;
            from(row, at + length, true)
        })
    });
    labelled.or_else(|| rows.iter().find_map(|row| (0..row.len()).find_map(|at| from(row, at, false))))
}

// ---------------------------------------------------------------------------------------------------------------
// The name

/// The largest print near the top, over as many lines as it takes; where nothing stands out, the longest line
/// that begins with a capital.
fn find_name(picture: &OcrText) -> Option<Found<String>> {
    struct Line {
        words: Vec<usize>,
        text: String,
        height: u32,
        top: u32,
    }
    // Short words have neither ascenders nor descenders to speak of.
    let height = |words: &[usize]| -> Option<u32> {
        let long = |word: &&Word| word.text.chars().filter(|c| c.is_alphanumeric()).count() >= 3;
        let mut heights: Vec<_> =
            words.iter().map(|&i| &picture.words[i]).filter(long).map(|word| word.height).collect();
        heights.sort_unstable();
        heights.get(heights.len() / 2).copied()
    };
    let all: Vec<usize> = (0..picture.words.len()).collect();
    let body = height(&all)?;
    let lines: Vec<Line> = all
        .chunk_by(|&a, &b| picture.words[a].line == picture.words[b].line)
        .filter_map(|words| {
            let top = words.iter().map(|&i| picture.words[i].top).min()?;
            Some(Line { words: words.to_vec(), text: text_of(picture, words), height: height(words)?, top })
        })
        .collect();
    let may_be_name = |line: &Line| {
        let row: Row = line.words.iter().flat_map(|&i| tokens(i, &picture.words[i])).collect();
        let readable = line.words.iter().map(|&i| picture.words[i].confidence).sum::<f32>()
            >= 40.0 * line.words.len() as f32;
        let letters = line.text.chars().filter(|c| c.is_alphabetic()).count();
        let visible = line.text.chars().filter(|c| !c.is_whitespace()).count();
        readable
            && letters >= 3
            && letters * 2 >= visible
            && line.top * 3 <= picture.height * 2
            && !amounts(&row).iter().any(|(_, amount)| amount.currency)
            && [ARTICLE_LABELS, EAN_LABELS].iter().all(|labels| label(&row, 0, labels).is_none())
    };
    let candidates: Vec<(usize, &Line)> =
        lines.iter().enumerate().filter(|(_, line)| may_be_name(line)).collect();
    let tallest = candidates.iter().map(|(_, line)| line.height).max()?;

    let mut name: Vec<usize> = Vec::new();
    if tallest * 4 >= body * 5 {
        let large = |line: &Line| line.height * 20 >= tallest * 17;
        let first = candidates.iter().position(|(_, line)| large(line))?;
        let (mut number, mut bottom) = (candidates[first].0, candidates[first].1.top);
        for (i, line) in &candidates[first..] {
            // The next line of the same heading: the next in order, as large, right below.
            if *i > number + 1 || !large(line) || line.top > bottom + 2 * line.height {
                break;
            }
            name.extend(&line.words);
            (number, bottom) = (*i, line.top + line.height);
        }
    } else {
        let capital = |line: &&Line| line.text.starts_with(char::is_uppercase);
        let lines = candidates.iter().map(|(_, line)| *line).filter(capital);
        // Of lines that are equally long the first.
        name.extend(&lines.rev().max_by_key(|line| line.text.chars().count())?.words);
    }
    let value = text_of(picture, &name).chars().take(LONGEST_NAME).collect();
    Some(Found { value, words: name })
}

// ---------------------------------------------------------------------------------------------------------------
// Against the page

/// How sure a value is, 0 to 100, by who says it.
const BOTH_SAY: f32 = 100.0;
const ONLY_PAGE_SAYS: f32 = 90.0;
const THEY_DISAGREE: f32 = 50.0;

/// The values to go on with, and how the picture and the page's own data agree on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The page's values; where it declares none, those that were read.
    pub values: ProductFacts,
    /// 0 to 100: the mean over article number, name, price, tiers and EAN, as far as someone tells them, of
    /// 100 where both agree, 90 where only the page tells, 50 where they disagree, and where only the picture
    /// tells, the confidence that the words were read with, but at most 90.
    pub confidence: f32,
    pub disagreements: Vec<Disagreement>,
}

/// One field that the picture shows otherwise than the page declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disagreement {
    pub field: Field,
    pub read: String,
    pub page: String,
}

/// Holds what was read against what the page declares. Numbers are compared without punctuation, prices to
/// the cent, names loosely.
pub fn cross_check(reading: &Reading, page: &ProductFacts) -> Checked {
    let mut checked = Checked { values: page.clone(), confidence: 0.0, disagreements: Vec::new() };
    let mut certainties = Vec::new();
    let mut compare = |field, read: Option<String>, declared: Option<String>, same: bool| {
        let boxes = reading.boxes.iter().filter(|one| one.field == field).map(|one| one.confidence);
        let parts = reading.parts.iter().filter(|one| one.field == field).map(|one| one.confidence);
        let words = boxes.chain(parts);
        certainties.push(match (read, declared) {
            (None, None) => return,
            (Some(_), Some(_)) if same => BOTH_SAY,
            (Some(read), Some(page)) => {
                checked.disagreements.push(Disagreement { field, read, page });
                THEY_DISAGREE
            }
            (None, Some(_)) => ONLY_PAGE_SAYS,
            (Some(_), None) => words.fold(ONLY_PAGE_SAYS, f32::min),
        });
    };
    let both = |a: &Option<String>, b: &Option<String>, same: fn(&str, &str) -> bool| {
        a.as_deref().zip(b.as_deref()).is_some_and(|(a, b)| same(a, b))
    };
    let money = |price: f64| format!("{price:.2}");
    let steps = |tiers: &[Tier]| {
        let step = |tier: &Tier| format!("{}: {:.2}", tier.min_quantity, tier.price);
        (!tiers.is_empty()).then(|| tiers.iter().map(step).collect::<Vec<_>>().join(", "))
    };

    let article = both(&reading.article_number, &page.article_number, same_number);
    compare(Field::ArticleNumber, reading.article_number.clone(), page.article_number.clone(), article);
    let name = both(&reading.product_name, &page.name, same_name);
    compare(Field::ProductName, reading.product_name.clone(), page.name.clone(), name);
    let (read, declared) = (reading.price.map(money), page.price.map(money));
    compare(Field::Price, read.clone(), declared.clone(), read == declared);
    let (read, declared) = (steps(&reading.tiers), steps(&page.tiers));
    compare(Field::Tiers, read.clone(), declared.clone(), read == declared);
    compare(Field::Ean, reading.ean.clone(), page.ean.clone(), reading.ean == page.ean);

    let values = &mut checked.values;
    values.article_number = values.article_number.take().or_else(|| reading.article_number.clone());
    values.name = values.name.take().or_else(|| reading.product_name.clone());
    values.ean = values.ean.take().or_else(|| reading.ean.clone());
    values.description = values.description.take().or_else(|| reading.description.clone());
    if values.price.is_none() && reading.price.is_some() {
        values.price = reading.price;
        values.currency.get_or_insert_with(|| "EUR".into());
    }
    if values.tiers.is_empty() {
        values.tiers.clone_from(&reading.tiers);
    }
    checked.confidence = certainties.iter().sum::<f32>() / certainties.len().max(1) as f32;
    checked
}

/// Equal but for punctuation, case, and the letters that look like digits.
fn same_number(a: &str, b: &str) -> bool {
    let plain = |text: &str| -> String {
        let chars = text.chars().filter(char::is_ascii_alphanumeric);
        chars.map(|c| digit_for(c).unwrap_or(c).to_ascii_uppercase()).collect()
    };
    plain(a) == plain(b)
}

/// Nearly equal, or one part of the other: pages add a brand or a size, pictures lose a line.
fn same_name(a: &str, b: &str) -> bool {
    let plain =
        |text: &str| -> Vec<char> { text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    let (a, b) = (plain(a), plain(b));
    let (short, long) = if a.len() < b.len() { (&a, &b) } else { (&b, &a) };
    let inside = short.len() >= 5 && long.windows(short.len()).any(|part| part == *short);
    inside || fuzz::ratio(a.iter().copied(), b.iter().copied()) >= 0.8
}

// ---------------------------------------------------------------------------------------------------------------
// Words, as `letters` leaves them, with spaces between

const ARTICLE_LABELS: &str = "\
    artikelnummer artikelnr artikelno artikel artikel# artnr artno artnummer art# produktnummer \
    produktnr prodnr bestellnummer bestellnr bestnr item# itemno itemnumber sku articleno articlenumber \
    productno";
const EAN_LABELS: &str = "ean gtin eancode eangtin gtinean barcode";
/// Rows with these hold long numbers that are no article numbers.
const NOT_ARTICLES: &str = "ean gtin tel telefon fon fax hotline ust ustidnr ustid iban hrb";
/// Capitals before digits that name a standard: "ISO9001".
const STANDARDS: &str = "ISO DIN EN IP IEC USB RAL DE";

const TIER_WORDS: &str = "ab from staffel staffelpreis";
const TIER_FILLERS: &str = "je nur à a á zu pro für per preis stückpreis mehr more or oder x";
const TABLE_HEADINGS: &str = "menge anzahl staffel staffelpreise stückzahl quantity qty mengenrabatt";
const UNITS: &str = "\
    stück stueck stuck stk stck st pcs pc pieces piece ve pack packung packungen paar rolle rollen \
    karton kartons set sets einheiten flasche flaschen x";
/// What a base price is per.
const MEASURES: &str = "kg g gramm kilogramm l liter ml m qm meter lfm cm mm";

const PRICE_LABELS: &str = "preis price nur jetzt now";
/// Amounts with these words before them are something else; words of five letters and more also as a
/// beginning.
const OTHER_AMOUNTS: &str = "\
    statt uvp war vorher bisher früher ehemals alter was rrp grundpreis zzgl versand liefer porto pfand \
    sparen spare gespart ersparnis rabatt gutschein rate raten monat mtl bestellwert mindest über \
    shipping save";
/// "12,99 € zzgl. Versand": these begin what comes on top of the price before them.
const BEFORE_POSTAGE: &str = "zzgl plus mwst ust statt war";
/// "ab 50 € versandkostenfrei"
const FREE_FROM: &str = "versandkostenfrei versandfrei portofrei bestellwert warenwert";

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of these lines. "# " before a line makes it twice as large; three spaces are a wide gap.
    fn picture(text: &str) -> OcrText {
        let (mut words, mut top) = (Vec::new(), 10);
        for (line, text) in text.lines().map(str::trim).enumerate() {
            let (text, height) = text.strip_prefix("# ").map_or((text, 20), |text| (text, 40));
            let mut left = 10;
            for word in text.split(' ') {
                let width = word.chars().count() as u32 * height / 2;
                if !word.is_empty() {
                    let (text, line) = (word.to_owned(), line as u32);
                    words.push(Word { text, left, top, width, height, confidence: 90.0, line });
                }
                left += width.max(2 * height) + height / 3
                    - if word.is_empty() { 0 } else { 2 * height.saturating_sub(width / 2) };
            }
            top += height * 3 / 2;
        }
        OcrText { text: text.into(), words, confidence: 90.0, width: 1000, height: top + 400 }
    }

    fn read(text: &str) -> Reading {
        read_fields(&picture(text))
    }

    fn tiers(text: &str) -> Vec<(u32, f64)> {
        read(text).tiers.iter().map(|tier| (tier.min_quantity, tier.price)).collect()
    }

    #[test]
    fn a_whole_product_is_read_with_the_places_of_its_fields() {
        let reading = read(
            "# Drehstuhl Zürich
             Artikelnummer: SW10042
             # 129,90 €
             inkl. MwSt. zzgl. Versand
             Menge   Stückpreis
             ab 10   119,50 €
             ab 50   99,00 €
             EAN: 4006381333931",
        );
        assert_eq!(reading.article_number.as_deref(), Some("SW10042"));
        assert_eq!(reading.product_name.as_deref(), Some("Drehstuhl Zürich"));
        assert_eq!(reading.price, Some(129.90));
        assert_eq!(
            reading.tiers,
            [Tier { min_quantity: 10, price: 119.5 }, Tier { min_quantity: 50, price: 99.0 }]
        );
        assert_eq!(reading.tiers_text.as_deref(), Some("ab 10 119,50 €\nab 50 99,00 €"));
        assert_eq!(reading.ean.as_deref(), Some("4006381333931"));
        assert_eq!(reading.confidence, 90.0);
        let fields: Vec<_> = reading.boxes.iter().map(|one| one.field).collect();
        assert_eq!(
            fields,
            [Field::ArticleNumber, Field::Ean, Field::ProductName, Field::Price, Field::Tiers, Field::Tiers]
        );
        let price = &reading.boxes[3];
        assert_eq!((price.text.as_str(), price.left, price.top, price.height), ("129,90 €", 10, 100, 40));
        let json = serde_json::to_value(&reading).unwrap();
        assert_eq!(json["boxes"][0]["field"], "articleNumber");
        assert_eq!(serde_json::from_value::<Reading>(json).unwrap(), reading);
    }

    #[test]
    fn nothing_is_read_from_nothing() {
        assert_eq!(read(""), Reading::default());
        assert_eq!(read("~ | - . ,"), Reading::default());
    }

    #[test]
    fn article_numbers_are_found_by_their_label_in_all_its_writings() {
        for (text, number) in [
            ("Art.Nr. 123456", "123456"),
            ("Art.-Nr.:A-1234", "A-1234"),
            ("Art. Nr.: 4711-B", "4711-B"),
            ("Artikelnummer SW10001", "SW10001"),
            ("Artikeinummer: SW10001", "SW10001"),
            ("Artikel-Nr. : 00815", "00815"),
            ("Produktnummer: SW10001.2", "SW10001.2"),
            ("Item # 55-12", "55-12"),
            ("SKU: ABC_99", "ABC_99"),
            ("Bestell-Nr.: AB 1234", "AB 1234"),
            ("Lieferbar Art.Nr.: X7741 2 Stück", "X7741"),
            ("Artikelnummer   SW10001", "SW10001"),
            ("Artikelnummer\nSW10001", "SW10001"),
            ("Art.Nr.: SW1OOO1", "SW10001"),
            ("Art.Nr.: 47l1O", "47110"),
            ("Art.Nr.: LO-4711", "LO-4711"),
        ] {
            assert_eq!(read(text).article_number.as_deref(), Some(number), "{text}");
        }
    }

    #[test]
    fn without_a_label_an_article_number_must_look_like_one() {
        for (text, number) in [
            ("Stuhl AB12345 blau", Some("AB12345")),
            ("Stuhl AB-12345-X blau", Some("AB-12345-X")),
            ("Stuhl 7712345 blau", Some("7712345")),
            ("7712345 und SW10001", Some("SW10001")),
            ("Stuhl 12345 blau", None),
            ("nach ISO9001 und DIN4102", None),
            ("Tel. 030123456", None),
            ("EAN 4006381333931", None),
            ("4006381333931", None),
            ("USt-IdNr. DE123456789", None),
            ("Artikel merken", None),
            ("Preis 12345,00 €", None),
        ] {
            assert_eq!(read(text).article_number.as_deref(), number, "{text}");
        }
    }

    #[test]
    fn prices_are_read_however_they_are_written_and_misread() {
        for (text, price) in [
            ("12,99 €", 12.99),
            ("12,99€*", 12.99),
            ("12.99 EUR", 12.99),
            ("EUR 12,99", 12.99),
            ("€ 12,99", 12.99),
            ("€12.99", 12.99),
            ("1.234,56 €", 1234.56),
            ("1,234.56 EUR", 1234.56),
            ("Preis: 12,99", 12.99),
            ("Ihr Preis 12,99", 12.99),
            ("129 €", 129.0),
            ("129,- €", 129.0),
            ("12,99 E", 12.99),
            ("12,99C", 12.99),
            ("12,99 £", 12.99),
            ("£ 12,99", 12.99),
            ("12, 99 €", 12.99),
            ("12 ,99€", 12.99),
            ("l2,99 €", 12.99),
            ("1O,5O €", 10.5),
            ("nur noch 12,99 €.", 12.99),
            ("12,99 € / Stück", 12.99),
            ("12,99€/Stk.", 12.99),
            ("12,99 € pro Stück", 12.99),
            ("1 Stück 12,99 €", 12.99),
            ("ab 12,99 €", 12.99),
        ] {
            let reading = read(text);
            assert_eq!(reading.price, Some(price), "{text}");
            assert_eq!(reading.tiers, [], "{text}");
        }
    }

    #[test]
    fn amounts_that_are_not_the_price_are_passed_over() {
        for (text, price) in [
            ("Grundpreis 12,00 €/kg", None),
            ("12,00 € / kg", None),
            ("12,00 € pro Liter", None),
            ("(12,00 €/100 g)", None),
            ("1 kg = 12,00 €", None),
            ("statt 19,99 €", None),
            ("UVP 19,99 €", None),
            ("19,99 € UVP", None),
            ("zzgl. 4,90 € Versand", None),
            ("Versandkosten: 4,90 €", None),
            ("4,90 € Versand", None),
            ("ab 50 € versandkostenfrei", None),
            ("Sie sparen 5,00 €", None),
            ("zzgl. 0,25 € Pfand", None),
            ("12 Raten zu je 9,99 €", None),
            ("Gewicht 12,50 kg", None),
            ("Version 2.10", None),
            ("am 12.05.2024", None),
            ("statt 19,99 € 14,99 €", Some(14.99)),
            ("14,99 € statt 19,99 €", Some(14.99)),
            ("14,99 € UVP 19,99 €", Some(14.99)),
            ("UVP 19,99 €\n14,99 €", Some(14.99)),
            ("14,99 € zzgl. 4,90 € Versand", Some(14.99)),
            ("14,99 € inkl. MwSt. zzgl. Versand", Some(14.99)),
            ("14,99 € (29,98 €/kg)", Some(14.99)),
            ("Zubehör 4,99 €\n# 14,99 €", Some(14.99)),
        ] {
            assert_eq!(read(text).price, price, "{text}");
        }
    }

    #[test]
    fn tiers_are_read_in_every_form() {
        for text in [
            "ab 10 Stück 4,50 €\nab 50 Stück 4,20 €",
            "ab 10 Stk. 4,50\nab 50 Stk. 4,20",
            "ab 10 Stück: 4,50 € ab 50 Stück: 4,20 €",
            "ab 10 | 4,50 €\nab 50 | 4,20 €",
            "ab 10   4,50 €*\nab 50   4,20 €*",
            "ab10 4,50€\nab50 4,20€",
            "ab 1O Stück 4,5O €\nab 5O Stück 4,2O €",
            "Ab 10 Stick je 4,50 €\nAb 50 Stick je 4,20 €",
            "ab 10 Stück nur 4,50 E\nab 50 Stück nur 4,20 C",
            "10+ 4,50 €\n50+ 4,20 €",
            "10 + 4,50 €\n50 + 4,20 €",
            "Staffel 10 - 4,50 €\nStaffel 50 - 4,20 €",
            "10 Stück 4,50 €\n50 Stück 4,20 €",
            "10-49 Stück 4,50 €\n50-99 Stück 4,20 €",
            "10 - 49   4,50 €\nab 50   4,20 €",
            "Menge   Preis\n10   4,50 €\n50   4,20 €",
            "Menge   Rabatt   Preis\nab 10   -10%   4,50 €\nab 50   -16%   4,20 €",
            "from 10 pcs 4.50 EUR\nfrom 50 pcs 4.20 EUR",
        ] {
            assert_eq!(tiers(text), [(10, 4.5), (50, 4.2)], "{text}");
        }
        assert_eq!(
            tiers("bis 9   5,00 €\nab 10   4,50 €\nab 1.000   4,20 €"),
            [(1, 5.0), (10, 4.5), (1000, 4.2)]
        );
    }

    #[test]
    fn tiers_are_read_across_columns_that_were_read_one_after_the_other() {
        let mut picture = picture("ab 10   4,50 €\nab 50   4,20 €");
        picture.words.sort_by_key(|word| (word.left > 100, word.top));
        let tiers: Vec<_> =
            read_fields(&picture).tiers.iter().map(|tier| (tier.min_quantity, tier.price)).collect();
        assert_eq!(tiers, [(10, 4.5), (50, 4.2)]);
    }

    #[test]
    fn what_only_resembles_tiers_is_none() {
        for text in [
            "1 Stück 12,99 €",
            "ab 1 Stück 12,99 €",
            "ab 50 € versandkostenfrei",
            "ab 12,99 €",
            "ab 18 Jahren 12,99 €",
            "10 Stück 12,99 €",
            "1 Stück 1,99 €\n10 Stück 17,99 €\n50 Stück 79,99 €",
            "Inhalt 10 kg 12,99 €",
            "Größe 10 - 12\n12,99 €",
        ] {
            assert_eq!(tiers(text), [], "{text}");
        }
    }

    #[test]
    fn with_tiers_the_price_is_the_single_one_or_the_first_step() {
        assert_eq!(read("# 5,00 €\nab 10 Stück 4,50 €").price, Some(5.0));
        assert_eq!(read("ab 10 Stück 4,50 €\nab 50 Stück 4,20 €").price, Some(4.5));
        assert_eq!(read("# ab 4,20 €\nbis 9   5,00 €\nab 10   4,50 €\nab 50   4,20 €").price, Some(5.0));
    }

    #[test]
    fn eans_are_read_labelled_or_bare_if_their_check_digit_is_right() {
        for (text, ean) in [
            ("EAN: 4006381333931", Some("4006381333931")),
            ("EAN-Code : 4006381333931", Some("4006381333931")),
            ("GTIN-13 4006381333931", Some("4006381333931")),
            ("EAN:40O638l333931", Some("4006381333931")),
            ("EAN 4 006381 333931", Some("4006381333931")),
            ("4 006381 333931", Some("4006381333931")),
            ("Stuhl 4006381333931", Some("4006381333931")),
            ("EAN: 4006381333932", None),
            ("EAN: 400638133393", None),
            ("4006381333932", None),
        ] {
            assert_eq!(read(text).ean.as_deref(), ean, "{text}");
        }
    }

    #[test]
    fn the_name_is_the_largest_print_or_else_the_longest_line_with_a_capital() {
        for (text, name) in [
            ("Startseite / Stühle\n# Drehstuhl Zürich\nblau", "Drehstuhl Zürich"),
            (
                "# Drehstuhl Zürich mit Armlehnen\n# und Rollen\n# 129,90 €\nblau\nund lieferbar in drei bis vier Tagen\nmit Armlehnen",
                "Drehstuhl Zürich mit Armlehnen und Rollen",
            ),
            ("# Art.-Nr.: SW10001\n# Drehstuhl\nblau\nlieferbar", "Drehstuhl"),
            (
                "sofort lieferbar und günstig\nDrehstuhl Zürich\nBlau\nArtikelnummer: 1234567890",
                "Drehstuhl Zürich",
            ),
        ] {
            assert_eq!(read(text).product_name.as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn each_word_has_its_place_and_the_field_that_was_read_from_it() {
        let (_, words) = read_words(&picture("# Drehstuhl Zürich\nArt.Nr.: SW10042 blau\n# 129,90 €"));
        let fields: Vec<_> = words.iter().map(|word| (&*word.text, word.field)).collect();
        let expected = [
            ("Drehstuhl", Some(Field::ProductName)),
            ("Zürich", Some(Field::ProductName)),
            ("Art.Nr.:", None),
            ("SW10042", Some(Field::ArticleNumber)),
            ("blau", None),
            ("129,90", Some(Field::Price)),
            ("€", Some(Field::Price)),
        ];
        assert_eq!(fields, expected);
        assert_eq!((words[3].left > words[2].left, words[3].top), (true, 70));
        let many = "wort ".repeat(MOST_WORDS + 5);
        assert_eq!(read_words(&picture(&many)).1.len(), MOST_WORDS);
    }

    /// What is read of a page that lacks everything but `page`, with the picture of one part.
    fn with_part(whole: &str, page: &ProductFacts, field: Field, part: &str) -> Reading {
        let mut reading = read(whole);
        assert!(open_fields(&reading, page).contains(&field), "{reading:?}");
        read_part(&mut reading, page, field, &picture(part));
        reading
    }

    #[test]
    fn a_part_of_the_page_tells_what_the_whole_lacks() {
        let none = ProductFacts::default();
        let part = |field, text| with_part("~", &none, field, text);
        assert_eq!(part(Field::ArticleNumber, "Art.Nr. A-17 99").article_number.as_deref(), Some("A-17"));
        assert_eq!(part(Field::ArticleNumber, "4711").article_number.as_deref(), Some("4711"));
        assert_eq!(part(Field::Price, "129,90 €").price, Some(129.9));
        assert_eq!(part(Field::Price, "129,90").price, Some(129.9));
        let name = part(Field::ProductName, "Drehstuhl Zürich\nmit Rollen");
        assert_eq!(name.product_name.as_deref(), Some("Drehstuhl Zürich mit Rollen"));
        let notes = part(Field::Description, "Sitzt gut und\nrollt leise.");
        assert_eq!(notes.description.as_deref(), Some("Sitzt gut und rollt leise."));
        let checked = cross_check(&notes, &none);
        assert_eq!(checked.values.description, notes.description);
        let tiers = part(Field::Tiers, "10   4,50 €\n50   4,20 €");
        assert_eq!((tiers.tiers.len(), tiers.price), (2, Some(4.5)));
        assert_eq!(tiers.tiers_text.as_deref(), Some("10   4,50 €\n50   4,20 €"));
        assert_eq!(tiers.parts.iter().map(|one| one.field).collect::<Vec<_>>(), [Field::Tiers]);
        for (field, text) in [
            (Field::ArticleNumber, "Nummer"),
            (Field::Price, "auf Anfrage"),
            (Field::ProductName, "–"),
            (Field::Tiers, "12,99 €"),
        ] {
            assert_eq!(part(field, text).parts, [], "{text}");
        }
    }

    #[test]
    fn a_part_of_the_page_outvotes_the_whole_only_together_with_the_page() {
        let page = facts();
        let misread = "# Drehstuhl Zürich\nArt.Nr.: SW10042\n# 129,80 €";
        let agreed = with_part(misread, &page, Field::Price, "129,90 €");
        assert_eq!((agreed.price, cross_check(&agreed, &page).disagreements), (Some(129.9), vec![]));
        for part in ["129,80 €", "192,90 €", ""] {
            let doubted = with_part(misread, &page, Field::Price, part);
            assert_eq!((doubted.price, doubted.parts), (Some(129.8), vec![]), "{part}");
        }
        let declared = ProductFacts { description: Some("Gut.".into()), ..facts() };
        assert_eq!(
            open_fields(&read("# Drehstuhl Zürich\nArt.Nr.: SW10042\n# 129,90 €"), &declared),
            [Field::Tiers]
        );
    }

    fn facts() -> ProductFacts {
        ProductFacts {
            article_number: Some("SW-10042".into()),
            name: Some("Drehstuhl Zürich, blau".into()),
            price: Some(129.9),
            currency: Some("EUR".into()),
            ..ProductFacts::default()
        }
    }

    #[test]
    fn page_and_picture_that_agree_raise_the_confidence() {
        let reading = read("# Drehstuhl Zürich\nArt.Nr.: SW1OO42\n# 129,90 €");
        let checked = cross_check(&reading, &facts());
        assert_eq!((checked.confidence, checked.disagreements), (100.0, vec![]));
        assert_eq!(checked.values, facts());
        assert_eq!(cross_check(&Reading::default(), &facts()).confidence, 90.0);
    }

    #[test]
    fn each_disagreement_lowers_the_confidence_and_the_page_wins() {
        let one = cross_check(&read("# Drehstuhl Zürich\nArt.Nr.: SW10042\n# 129,80 €"), &facts());
        let wrong = Disagreement { field: Field::Price, read: "129.80".into(), page: "129.90".into() };
        assert_eq!(one.disagreements, [wrong]);
        assert_eq!(one.values.price, Some(129.9));
        let two = cross_check(&read("# Bürolampe Köln\nArt.Nr.: SW10042\n# 129,80 €"), &facts());
        assert_eq!(two.disagreements.len(), 2);
        assert!(
            two.confidence < one.confidence && one.confidence < 90.0,
            "{} {}",
            two.confidence,
            one.confidence
        );
    }

    #[test]
    fn the_picture_fills_what_the_page_does_not_declare() {
        let reading =
            read("# Drehstuhl Zürich\nArt.Nr.: SW10042\nEAN 4006381333931\n5,00 €\nab 10 Stück 4,50 €");
        let page = ProductFacts { name: Some("Drehstuhl Zürich".into()), ..ProductFacts::default() };
        let checked = cross_check(&reading, &page);
        let ProductFacts { article_number, price, currency, tiers, ean, .. } = checked.values;
        assert_eq!(article_number.as_deref(), Some("SW10042"));
        assert_eq!((price, currency.as_deref()), (Some(5.0), Some("EUR")));
        assert_eq!(tiers, [Tier { min_quantity: 10, price: 4.5 }]);
        assert_eq!(ean.as_deref(), Some("4006381333931"));
        assert_eq!((checked.confidence, checked.disagreements), (92.0, vec![]));
    }
}
