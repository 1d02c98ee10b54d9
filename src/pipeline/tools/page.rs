//! Reads one HTML page: which product it shows, and where it leads.
//!
//! Pages are a stranger's text. They are parsed in small portions so that one built to explode is cut where it
//! does, and every list taken from them has an end.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
    time::{Duration, Instant},
};

use html5ever::tendril::{StrTendril, TendrilSink};
use scraper::{ElementRef, Html, HtmlTreeSink, Selector};
use serde_json::{Map, Value};
use url::Url;

use super::preset::{PageRules, Preset};
use crate::product::{ProductFacts, Tier, is_ean13, parse_price};

/// Browsers flatten what is nested deeper.
const MAX_DEPTH: usize = 512;
/// A large shop page has some ten thousand nodes.
const MAX_NODES: usize = 300_000;
/// Small enough that no portion can grow the tree by much more than [`MAX_NODES`], whatever it holds.
const PORTION: usize = 1024;
/// The bound behind the others: a page takes milliseconds, unless it found a weakness of the parser (one tag with
/// a million attributes is one).
const MAX_PARSE_TIME: Duration = Duration::from_secs(2);
const MAX_LINKS: usize = 2_000;
const MAX_URL_LENGTH: usize = 2_048;
/// Of all scripts of a page together.
pub(super) const MAX_JSON_LD_BYTES: usize = 1_000_000;
/// How deep structured data is followed; real offers lie five levels down.
pub(super) const MAX_DATA_DEPTH: usize = 8;
const MAX_OFFERS: usize = 200;
/// Of all microdata items of a page together.
pub(super) const MAX_PROPERTIES: usize = 2_000;
/// Of one property.
const MAX_TEXT_BYTES: usize = 20_000;

/// What one page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The product that this page is about; `None` for every other kind of page.
    pub product: Option<ProductFacts>,
    /// The address that the page calls its own.
    pub canonical: Option<Url>,
    /// Where it leads by `<a href>`, each address once, in the page's order, without pagination and without what
    /// the page asks robots not to follow.
    pub links: Vec<Link>,
    /// Other pages of the same listing, on the same origin.
    pub next: Vec<Url>,
    /// A button promises more of the listing, and no link leads there.
    pub has_more: bool,
    /// Without its scripts it may be an empty frame.
    pub has_scripts: bool,
    /// The shop system that made it.
    pub preset: Option<Preset>,
    /// What the products of a listing were found by, if not by a guess at their links.
    pub container: Option<&'static str>,
}

/// One way out of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Absolute, http or https, without fragment.
    pub url: Url,
    pub same_origin: bool,
    /// A guess from the link's surroundings and path: good for deciding what to visit first, for nothing else.
    pub looks_like_product: bool,
}

impl Page {
    /// Reads the page that was found at `url`. What the rules say goes before what the shop's system suggests, and that
    /// before guesses.
    pub fn read(html: &str, url: &Url, rules: &PageRules) -> Page {
        Page::of(&parse(html), url, rules, Preset::of_page(html))
    }

    fn of(document: &Html, url: &Url, rules: &PageRules, preset: Option<Preset>) -> Page {
        let base = first_attr(document, &BASE, "href").and_then(|href| url.join(href).ok());
        let base = base.unwrap_or_else(|| url.clone());
        let sources: Vec<&PageRules> = std::iter::once(rules).chain(preset.map(Preset::rules)).collect();
        let next = pagination(document, &base, url, &sources);
        let listed = Listed::find(document, &base, rules, preset);
        let (links, container) = links(document, &base, url, &next, listed);
        Page {
            product: product(document, &base, url, rules, preset),
            canonical: first_attr(document, &CANONICAL, "href").and_then(|href| absolute(&base, href)),
            has_more: next.is_empty() && has_more(document),
            has_scripts: document.select(&SCRIPTS).next().is_some(),
            preset,
            container,
            links,
            next,
        }
    }

    /// Whether there is nothing on it that a crawl could use, and scripts that may change that.
    pub fn is_hollow(&self) -> bool {
        self.has_scripts && self.product.is_none() && !self.links.iter().any(|link| link.same_origin)
    }
}

/// Whether a path by itself looks like a product's: `/product/4711`, `/p/blue-shirt`.
pub fn path_looks_like_product(url: &Url) -> bool {
    let segments: Vec<&str> = url.path_segments().into_iter().flatten().filter(|s| !s.is_empty()).collect();
    segments.iter().rev().skip(1).any(|segment| {
        matches!(
            *segment,
            "product" | "products" | "produkt" | "produkte" | "p" | "item" | "artikel" | "article"
        )
    })
}

macro_rules! selectors {
    ($($name:ident = $css:expr;)*) => {
        $(static $name: LazyLock<Selector> =
            LazyLock::new(|| Selector::parse($css).expect("the selector is a constant, and every test uses it"));)*
    };
}

selectors! {
    BASE = "base[href]";
    CANONICAL = "link[rel~=canonical][href]";
    ROBOTS = "meta[name=robots i][content]";
    ANCHORS = "a[href]";
    PAGINATION = "link[rel~=next][href], a[rel~=next][href], .pagination a[href], .pager a[href], \
                  nav[aria-label*=pagi i] a[href], nav[aria-label*=seiten i] a[href], a.next[href]";
    JSON_LD = "script[type='application/ld+json' i]";
    MICRODATA = "[itemscope][itemtype*='schema.org/Product']";
    META = "meta[property][content]";
    SCRIPTS = "script:not([type]), script[type*=javascript i], script[type=module i]";
    MORE = "button, a[role=button], a.load-more, .load-more";
    PAGE_INPUTS = ".page-next input[name][value]:not([disabled])";
    MORE_ADDRESS = "[data-next-url], [data-next-page-url]";
    H1 = "h1";
    DETAIL = "body[class], main[class], body > [class], main > [class]";
    BUY = "form[action], button, input[type=submit], a[class]";
}

/// Parses in portions and stops where the tree gets deeper or larger than any honest page: the HTML rules let a
/// few kilobytes of nested or unclosed tags cost quadratic time and memory.
pub(super) fn parse(html: &str) -> Html {
    let mut parser = html5ever::parse_document(HtmlTreeSink::new(Html::new_document()), Default::default());
    let start = Instant::now();
    let mut rest = html;
    while !rest.is_empty() {
        let (portion, after) = rest.split_at(rest.floor_char_boundary(PORTION.min(rest.len())));
        parser.process(StrTendril::from_slice(portion));
        rest = after;
        let document = parser.tokenizer.sink.sink.0.borrow();
        let depth =
            document.tree.nodes().next_back().map_or(0, |node| node.ancestors().take(MAX_DEPTH + 1).count());
        if depth > MAX_DEPTH || document.tree.nodes().len() > MAX_NODES || start.elapsed() > MAX_PARSE_TIME {
            break;
        }
    }
    parser.finish()
}

pub(super) fn first_attr<'a>(document: &'a Html, selector: &Selector, attr: &str) -> Option<&'a str> {
    document.select(selector).next()?.attr(attr)
}

pub(super) fn absolute(base: &Url, href: &str) -> Option<Url> {
    let mut url = base.join(href.trim()).ok()?;
    url.set_fragment(None);
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= MAX_URL_LENGTH)
        .then_some(url)
}

// ---------------------------------------------------------------------------------------------------- links

pub(super) fn is_nofollow(element: ElementRef) -> bool {
    element
        .attr("rel")
        .is_some_and(|rel| rel.split_ascii_whitespace().any(|t| t.eq_ignore_ascii_case("nofollow")))
}

fn page_forbids_following(document: &Html) -> bool {
    document.select(&ROBOTS).filter_map(|meta| meta.attr("content")).any(|content| {
        content
            .split(',')
            .any(|word| matches!(word.trim().to_ascii_lowercase().as_str(), "nofollow" | "none"))
    })
}

/// What a link to the next page says, and nothing else.
const NEXT_TEXTS: [&str; 10] =
    ["weiter", "nächste", "nächste seite", "next", "next page", "vor", "›", "»", "→", ">"];
/// What a button says that adds to a listing.
const MORE_TEXTS: [&str; 6] =
    ["mehr laden", "mehr anzeigen", "mehr produkte", "weitere produkte", "load more", "show more"];

fn pagination(document: &Html, base: &Url, page: &Url, sources: &[&PageRules]) -> Vec<Url> {
    if page_forbids_following(document) {
        return Vec::new();
    }
    let selectors = sources.iter().flat_map(|rules| [&rules.next_page_button, &rules.pagination_links]);
    let named = selectors.flatten().flat_map(|selector| document.select(selector));
    let said = document.select(&ANCHORS).filter(|anchor| {
        let text: String = anchor.text().flat_map(str::chars).take(30).collect::<String>().to_lowercase();
        NEXT_TEXTS.contains(&text.trim())
    });
    let links = document.select(&PAGINATION).chain(named).chain(said);
    let links = links.filter(|element| !is_nofollow(*element)).filter_map(|element| {
        // The named element may lie around the link, or inside of it.
        let inner = || element.select(&ANCHORS).next().and_then(|link| link.attr("href"));
        let outer =
            || element.ancestors().filter_map(ElementRef::wrap).find_map(|around| around.attr("href"));
        absolute(base, element.attr("href").or_else(inner).or_else(outer)?)
    });
    // Shopware's pages are the values of a form.
    let inputs = document.select(&PAGE_INPUTS).filter_map(|input| {
        let (name, value) = (input.attr("name")?, input.attr("value")?);
        value.parse::<u32>().ok()?;
        Some(with_page(page, name, value))
    });
    let addresses = document.select(&MORE_ADDRESS).filter_map(|element| {
        absolute(base, element.attr("data-next-url").or_else(|| element.attr("data-next-page-url"))?)
    });
    let mut seen = HashSet::new();
    links
        .chain(inputs)
        .chain(addresses)
        .filter(|url| url.origin() == page.origin() && seen.insert(url.clone()))
        .take(MAX_LINKS)
        .collect()
}

/// The same address with one parameter set.
pub fn with_page(url: &Url, name: &str, value: &str) -> Url {
    let others: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(other, _)| other != name).collect();
    let mut url = url.clone();
    url.set_fragment(None);
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    url
}

fn has_more(document: &Html) -> bool {
    document.select(&MORE).any(|button| {
        let text: String = button.text().flat_map(str::chars).take(60).collect::<String>().to_lowercase();
        MORE_TEXTS.iter().any(|more| text.trim().starts_with(more))
    })
}

/// What may be a box around a product where nothing better is known; the first that a page has three of.
const GENERIC: [&str; 8] = [
    ".product",
    ".product-item",
    ".product-card",
    "[class*=product]",
    "[data-product]",
    "article",
    ".item",
    ".card",
];
/// Fewer boxes of a kind are no listing.
const LEAST_BOXES: usize = 3;
/// Boxes of a listing that are looked into.
const MAX_BOXES: usize = 500;

/// The products of a listing, by their addresses.
struct Listed {
    addresses: HashSet<Url>,
    /// Said by the job, so that guesses do not count.
    is_certain: bool,
    /// Those of the first generic box, in case nothing else looks like a product.
    generic: HashSet<Url>,
    container: Option<&'static str>,
}

impl Listed {
    fn find(document: &Html, base: &Url, rules: &PageRules, preset: Option<Preset>) -> Listed {
        let own = linked(document, base, rules);
        if rules.product_container.is_some() || rules.product_link.is_some() {
            return Listed { addresses: own, is_certain: true, generic: HashSet::new(), container: None };
        }
        let addresses = preset.map(|preset| linked(document, base, preset.rules())).unwrap_or_default();
        let mut generic = HashSet::new();
        let mut container = preset.filter(|_| !addresses.is_empty()).map(|preset| preset.selectors()[0]);
        if addresses.is_empty() {
            for (css, selector) in GENERIC.iter().zip(GENERIC_SELECTORS.iter()) {
                let boxes: Vec<Url> = document
                    .select(selector)
                    .take(MAX_BOXES)
                    .filter_map(|element| first_link(element, base))
                    .filter(may_be_product)
                    .collect();
                if boxes.iter().collect::<HashSet<_>>().len() >= LEAST_BOXES {
                    generic.extend(boxes);
                    container = Some(css);
                    break;
                }
            }
        }
        Listed { addresses, is_certain: false, generic, container }
    }
}

static GENERIC_SELECTORS: LazyLock<Vec<Selector>> =
    LazyLock::new(|| GENERIC.iter().filter_map(|css| Selector::parse(css).ok()).collect());

/// What the rules' links lead to.
fn linked(document: &Html, base: &Url, rules: &PageRules) -> HashSet<Url> {
    let mut addresses = HashSet::new();
    if let Some(selector) = &rules.product_container {
        for container in document.select(selector).take(MAX_BOXES) {
            let link = rules.product_link.as_ref().and_then(|link| container.select(link).next());
            addresses.extend(first_link(link.unwrap_or(container), base));
        }
    }
    if let (Some(selector), None) = (&rules.product_link, &rules.product_container) {
        addresses.extend(document.select(selector).take(MAX_BOXES).filter_map(|link| first_link(link, base)));
    }
    addresses
}

/// Where an element, the first link inside of it or the link around it leads to.
fn first_link(element: ElementRef, base: &Url) -> Option<Url> {
    let inside = || element.select(&ANCHORS).next().and_then(|link| link.attr("href"));
    let around =
        || element.ancestors().filter_map(ElementRef::wrap).take(3).find_map(|link| link.attr("href"));
    absolute(base, element.attr("href").or_else(inside).or_else(around)?)
}

/// Categories end with a slash and lie near the root; products do not.
fn may_be_product(url: &Url) -> bool {
    let segments = url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).count();
    segments >= 2 && !url.path().ends_with('/')
}

fn links(
    document: &Html,
    base: &Url,
    page: &Url,
    next: &[Url],
    listed: Listed,
) -> (Vec<Link>, Option<&'static str>) {
    if page_forbids_following(document) {
        return (Vec::new(), None);
    }
    let mut seen: HashSet<Url> = next.iter().cloned().collect();
    let mut own = page.clone();
    own.set_fragment(None);
    seen.insert(own);
    let guess = |anchor: ElementRef, url: &Url| {
        !listed.is_certain && (path_looks_like_product(url) || stands_in_product_card(anchor))
    };
    let mut links: Vec<Link> = document
        .select(&ANCHORS)
        .filter(|anchor| !is_nofollow(*anchor))
        .filter_map(|anchor| Some((anchor, absolute(base, anchor.attr("href")?)?)))
        .filter(|(_, url)| seen.insert(url.clone()))
        .map(|(anchor, url)| Link {
            same_origin: url.origin() == page.origin(),
            looks_like_product: listed.addresses.contains(&url) || guess(anchor, &url),
            url,
        })
        .take(MAX_LINKS)
        .collect();
    let mut container = listed.container;
    if !listed.generic.is_empty() {
        if links.iter().any(|link| link.looks_like_product) {
            container = None;
        } else {
            for link in &mut links {
                link.looks_like_product = listed.generic.contains(&link.url);
            }
        }
    }
    (links, container)
}

/// Shops wrap each product of a listing in a box that they call `product-…`.
fn stands_in_product_card(anchor: ElementRef) -> bool {
    let nearby = std::iter::once(anchor).chain(anchor.ancestors().filter_map(ElementRef::wrap)).take(6);
    for element in nearby {
        if matches!(element.value().name(), "nav" | "header" | "footer" | "main" | "body") {
            return false;
        }
        let is_card = element.value().classes().any(|class| {
            class == "product"
                || ["product-", "product_", "produkt-"].iter().any(|start| class.starts_with(start))
        });
        if is_card || element.attr("itemtype").is_some_and(|kind| kind.contains("schema.org/Product")) {
            return true;
        }
    }
    false
}

// -------------------------------------------------------------------------------------------------- product

fn product(
    document: &Html,
    base: &Url,
    page: &Url,
    rules: &PageRules,
    preset: Option<Preset>,
) -> Option<ProductFacts> {
    let custom = from_selectors(document, base, rules);
    let usual = preset.map(|preset| from_selectors(document, base, preset.rules()));
    let is_said = custom.name.is_some() && (custom.price.is_some() || custom.article_number.is_some());
    // A name and a price at their places; a listing has many of both.
    let is_usual = || {
        let lists = |rules: &PageRules| {
            rules.product_container.as_ref().is_some_and(|boxes| document.select(boxes).nth(20).is_some())
        };
        preset.is_some_and(|preset| !lists(preset.rules()))
            && path_looks_like_product(page)
            && usual.as_ref().is_some_and(|facts| facts.name.is_some() && facts.price.is_some())
    };
    let json_ld = Structured::from_json_ld(document);
    let microdata = Structured::from_microdata(document);
    let facts = if json_ld.is_listing {
        return None;
    } else if json_ld.products.is_empty() && microdata.products.is_empty() {
        (is_said || is_usual() || looks_like_product_page(document)).then(ProductFacts::default)?
    } else {
        let heading = heading(document);
        let main = [&json_ld, &microdata].map(|found| found.main_product(page, heading.as_deref()));
        main.into_iter().flatten().map(|product| facts(product, base)).reduce(or)?
    };
    // What the job says goes before what the page declares, and that before what is usual.
    let facts = or(or(custom, facts), usual.unwrap_or_default());
    let mut facts = or(facts, from_open_graph(document, base));
    if facts.price.is_some() && facts.currency.is_none() {
        facts.currency = Some("EUR".into());
    }
    Some(facts)
}

/// What stands at the places that are named.
fn from_selectors(document: &Html, base: &Url, rules: &PageRules) -> ProductFacts {
    let text = |selector: &Option<Selector>, limit: usize| {
        let mut found = document.select(selector.as_ref()?);
        found.find_map(|element| collapse(&own_value(element), limit))
    };
    let image = |element: ElementRef| {
        let source =
            ["src", "data-src", "data-lazy", "href", "content"].iter().find_map(|name| element.attr(name))?;
        absolute(base, source).map(String::from)
    };
    let price = text(&rules.price, 200).and_then(|text| first_price(&text));
    ProductFacts {
        article_number: text(&rules.article_number, 200).map(|text| bare_number(&text)),
        name: text(&rules.product_name, 500),
        price,
        currency: None,
        tiers: Vec::new(),
        ean: None,
        description: text(&rules.description, 5_000),
        image_url: rules.product_image.as_ref().and_then(|css| document.select(css).find_map(image)),
    }
}

/// The first word of a text that is a price: shops write "statt 19,90 € nur 12,50 €" and "12,50 € inkl. 19 % MwSt.".
fn first_price(text: &str) -> Option<f64> {
    let has_cents = |word: &&str| {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.len() > 3 && matches!(digits.as_bytes()[digits.len() - 3], b',' | b'.')
    };
    let words = || text.split_whitespace();
    words().find(has_cents).and_then(parse_price).or_else(|| words().find_map(parse_price))
}

/// An article number without what stands before it: "Art.-Nr.: SW-10042" is "SW-10042".
fn bare_number(text: &str) -> String {
    let after = text.rsplit(':').next().map(str::trim).filter(|number| !number.is_empty());
    after.unwrap_or(text).chars().take(100).collect()
}

/// `first`, its gaps filled from `second`. A price and its tiers belong together and come from one source.
fn or(first: ProductFacts, second: ProductFacts) -> ProductFacts {
    let (price, currency, tiers) = match first.price {
        Some(_) => (first.price, first.currency.or(second.currency), first.tiers),
        None => (second.price, second.currency, second.tiers),
    };
    ProductFacts {
        article_number: first.article_number.or(second.article_number),
        name: first.name.or(second.name),
        price,
        currency,
        tiers,
        ean: first.ean.or(second.ean),
        description: first.description.or(second.description),
        image_url: first.image_url.or(second.image_url),
    }
}

/// The products that a page declares at its top, in the shape of JSON-LD whatever they were written in.
#[derive(Default)]
struct Structured {
    products: Vec<Value>,
    /// The page calls itself a listing, so a product on it is not what it is about.
    is_listing: bool,
}

impl Structured {
    fn from_json_ld(document: &Html) -> Structured {
        let mut found = Structured::default();
        let mut left = MAX_JSON_LD_BYTES;
        for script in document.select(&JSON_LD) {
            let text: String = script.text().collect();
            let Some(after) = left.checked_sub(text.len()) else { break };
            left = after;
            // Raw line breaks inside strings are the one common mistake; between tokens a space does as well.
            // The parser itself refuses to go deeper than 128 levels.
            if let Ok(value) = serde_json::from_str(&text.replace(|c: char| c.is_control(), " ")) {
                found.collect(value, MAX_DATA_DEPTH);
            }
        }
        found
    }

    fn collect(&mut self, value: Value, depth: usize) {
        match value {
            _ if depth == 0 => {}
            Value::Array(items) => items.into_iter().for_each(|item| self.collect(item, depth - 1)),
            Value::Object(mut item) => {
                if is_a(&item, &["Product", "ProductGroup", "ProductModel", "IndividualProduct"]) {
                    self.products.push(Value::Object(item));
                } else if is_a(&item, &["CollectionPage", "SearchResultsPage"]) {
                    self.is_listing = true;
                } else if !is_a(&item, &["ItemList", "OfferCatalog"]) {
                    for key in ["@graph", "mainEntity"] {
                        if let Some(inner) = item.remove(key) {
                            self.collect(inner, depth - 1);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Reads microdata into JSON-LD's shape, so that one set of rules reads both.
    fn from_microdata(document: &Html) -> Structured {
        let outermost = |scope: &ElementRef| {
            !scope.ancestors().filter_map(ElementRef::wrap).any(|around| {
                around
                    .attr("itemtype")
                    .is_some_and(|kind| kind.contains("/Product") || kind.contains("/ItemList"))
            })
        };
        let mut left = MAX_PROPERTIES;
        let scopes = document.select(&MICRODATA).filter(outermost);
        let products = scopes.take(MAX_OFFERS).map(|scope| item(scope, MAX_DATA_DEPTH, &mut left)).collect();
        Structured { products, is_listing: false }
    }

    /// The one product that the page is about: the only one, one of several variants of one name, or the only
    /// one that names this page as its own or is called as the page's heading.
    fn main_product(&self, page: &Url, heading: Option<&str>) -> Option<&Value> {
        let (first, others) = self.products.split_first()?;
        let name = string(first.get("name"));
        if others.is_empty()
            || (name.is_some() && others.iter().all(|other| string(other.get("name")) == name))
        {
            return Some(first);
        }
        let is_here = |product: &&Value| {
            ["url", "@id"].iter().any(|key| {
                string(product.get(*key)).and_then(|own| absolute(page, &own)).is_some_and(|own| {
                    own.path() == page.path() && own.host() == page.host() && own.query() == page.query()
                })
            })
        };
        let is_heading = |product: &&Value| {
            heading.is_some() && string(product.get("name")).as_deref().map(str::trim) == heading
        };
        only(self.products.iter().filter(is_here)).or_else(|| only(self.products.iter().filter(is_heading)))
    }
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    found.next().filter(|_| found.next().is_none())
}

fn is_a(item: &Map<String, Value>, wanted: &[&str]) -> bool {
    kinds(item).iter().any(|kind| wanted.contains(kind))
}

/// What kinds of thing an item is, without the vocabulary's address in front.
pub(super) fn kinds(item: &Map<String, Value>) -> Vec<&str> {
    let names: &[Value] = match item.get("@type") {
        Some(Value::Array(names)) => names,
        Some(name) => std::slice::from_ref(name),
        None => &[],
    };
    names.iter().filter_map(Value::as_str).filter_map(|name| name.rsplit(['/', '#', ':']).next()).collect()
}

/// One microdata item with its properties, nested items included, as long as there are any `left` to read.
pub(super) fn item(scope: ElementRef, depth: usize, left: &mut usize) -> Value {
    let mut properties = Map::new();
    properties.insert("@type".into(), scope.attr("itemtype").unwrap_or_default().into());
    // By hand instead of recursively: a page may be nested deeper than a stack.
    let mut open: Vec<ElementRef> = scope.child_elements().collect();
    open.reverse();
    while let Some(element) = open.pop() {
        let is_item = element.attr("itemscope").is_some();
        if depth > 0 {
            for name in element.attr("itemprop").unwrap_or_default().split_ascii_whitespace() {
                let Some(after) = left.checked_sub(1) else { return Value::Object(properties) };
                *left = after;
                let value = if is_item { item(element, depth - 1, left) } else { own_value(element).into() };
                match properties.entry(name).or_insert(Value::Null) {
                    entry @ Value::Null => *entry = value,
                    Value::Array(values) => values.push(value),
                    single => *single = Value::Array(vec![single.take(), value]),
                }
            }
        }
        if !is_item {
            let next = open.len();
            open.extend(element.child_elements());
            open[next..].reverse();
        }
    }
    Value::Object(properties)
}

fn own_value(element: ElementRef) -> String {
    let attr = match element.value().name() {
        "a" | "link" | "area" => "href",
        "img" | "source" | "embed" | "iframe" => "src",
        "data" | "meter" => "value",
        "time" => "datetime",
        _ => "content",
    };
    let declared = element.attr("content").or_else(|| element.attr(attr));
    match declared {
        Some(value) => cut(value).to_string(),
        None => element
            .text()
            .scan(MAX_TEXT_BYTES, |left, text| {
                *left = left.checked_sub(text.len())?;
                Some(text)
            })
            .collect(),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES.min(text.len()))]
}

fn facts(product: &Value, base: &Url) -> ProductFacts {
    // A group speaks through its first variant where it says nothing itself.
    let variant = product.get("hasVariant").map(first_of);
    let get = |keys: &[&str]| {
        [Some(product), variant]
            .into_iter()
            .flatten()
            .find_map(|item| keys.iter().find_map(|key| item.get(*key)).filter(|value| !value.is_null()))
    };
    let text = |keys: &[&str], limit| {
        let candidates = [Some(product), variant];
        candidates.into_iter().flatten().find_map(|item| {
            keys.iter().find_map(|key| string(item.get(*key)).and_then(|text| clean(&text, limit)))
        })
    };
    let mut prices = Prices::default();
    for item in [Some(product), variant].into_iter().flatten() {
        if prices.is_empty() {
            // Some write the price into the product itself, without an offer around it.
            prices.read(item, None, MAX_DATA_DEPTH);
        }
    }
    let (price, tiers) = prices.finish();
    ProductFacts {
        article_number: text(&["sku", "mpn", "productID", "productGroupID"], 100).map(|number| {
            // `productID` is often written as `sku:4711`.
            number.rsplit(':').next().map_or(number.clone(), |bare| bare.trim().to_string())
        }),
        name: text(&["name"], 500),
        price,
        currency: prices.currency,
        tiers,
        ean: ["gtin13", "gtin", "ean", "gtin14", "gtin12", "productID"]
            .iter()
            .find_map(|key| string(get(&[key])).and_then(|code| ean(&code))),
        description: text(&["description"], 5_000),
        image_url: get(&["image"]).and_then(|image| picture(image, base)),
    }
}

pub(super) fn first_of(value: &Value) -> &Value {
    value.as_array().and_then(|values| values.first()).unwrap_or(value)
}

/// A text property; the first where there are several.
pub(super) fn string(value: Option<&Value>) -> Option<String> {
    match first_of(value?) {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        // `{"@value": "…", "@language": "de"}`
        Value::Object(item) => item.get("@value")?.as_str().map(str::to_string),
        _ => None,
    }
}

pub(super) fn picture(image: &Value, base: &Url) -> Option<String> {
    let address = match first_of(image) {
        Value::Object(item) => string(item.get("url").or_else(|| item.get("contentUrl")))?,
        other => string(Some(other))?,
    };
    absolute(base, &address).map(String::from)
}

/// Thirteen digits with the right last one, also from the forms with a leading zero more or less.
fn ean(code: &str) -> Option<String> {
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.len() {
        14 => digits.strip_prefix('0')?.to_string(),
        12 => format!("0{digits}"),
        _ => digits,
    };
    is_ean13(&digits).then_some(digits)
}

/// A text as a person would read it: without markup, white space collapsed, at most `limit` characters.
pub(super) fn clean(text: &str, limit: usize) -> Option<String> {
    let text = cut(text);
    let plain = if text.contains(['<', '&']) {
        parse(text).root_element().text().collect::<Vec<_>>().join(" ")
    } else {
        text.to_string()
    };
    collapse(&plain, limit)
}

pub(super) fn collapse(text: &str, limit: usize) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    // Postgres takes no U+0000, and nobody wants to see the others.
    let text: String = words.join(" ").chars().filter(|c| !c.is_control()).take(limit).collect();
    (!text.is_empty()).then_some(text)
}

/// What the offers of one product say together.
#[derive(Default)]
struct Prices {
    single: Option<f64>,
    /// By the smallest quantity that the price holds for.
    by_quantity: BTreeMap<u32, f64>,
    /// "From …" over all variants: better than nothing.
    lowest: Option<f64>,
    currency: Option<String>,
    offers_read: usize,
}

impl Prices {
    fn is_empty(&self) -> bool {
        self.single.is_none() && self.by_quantity.is_empty() && self.lowest.is_none()
    }

    /// Reads an offer, a price specification or a list of either; `quantity` is what the offer around it says.
    fn read(&mut self, offer: &Value, quantity: Option<u32>, depth: usize) {
        let offer = match offer {
            _ if depth == 0 || self.offers_read >= MAX_OFFERS => return,
            Value::Array(offers) => {
                return offers.iter().for_each(|offer| self.read(offer, quantity, depth - 1));
            }
            Value::Object(offer) => offer,
            _ => return,
        };
        // The crossed-out price, and the price per litre that the law wants, are not what one pays.
        let kind = string(offer.get("priceType")).unwrap_or_default();
        let is_crossed_out = ["ListPrice", "Strikethrough", "SRP"].iter().any(|word| kind.contains(word));
        if is_crossed_out || offer.contains_key("referenceQuantity") {
            return;
        }
        self.offers_read += 1;
        let quantity = offer.get("eligibleQuantity").and_then(min_quantity).or(quantity);
        if let Some(price) = offer.get("price").and_then(amount) {
            match quantity {
                Some(quantity) => _ = self.by_quantity.entry(quantity).or_insert(price),
                None => _ = self.single.get_or_insert(price),
            }
        }
        if let Some(price) = offer.get("lowPrice").and_then(amount) {
            self.lowest.get_or_insert(price);
        }
        if self.currency.is_none() {
            self.currency = string(offer.get("priceCurrency")).and_then(|code| currency(&code));
        }
        for key in ["offers", "priceSpecification"] {
            if let Some(inner) = offer.get(key) {
                self.read(inner, quantity, depth - 1);
            }
        }
    }

    /// The price of one piece, and the tiers if there is more than that one price.
    fn finish(&mut self) -> (Option<f64>, Vec<Tier>) {
        let mut tiers = std::mem::take(&mut self.by_quantity);
        if let Some(price) = self.single
            && !tiers.is_empty()
        {
            tiers.entry(1).or_insert(price);
        }
        let price = tiers.values().next().copied().or(self.single).or(self.lowest);
        if tiers.keys().eq([&1]) {
            tiers.clear();
        }
        (price, tiers.into_iter().map(|(min_quantity, price)| Tier { min_quantity, price }).collect())
    }
}

fn min_quantity(quantity: &Value) -> Option<u32> {
    let quantity = first_of(quantity);
    let pieces = string(quantity.get("minValue"))?.trim().parse::<f64>().ok()?;
    (1.0..=1e9).contains(&pieces).then_some(pieces as u32)
}

/// A price as data writes it (`1234.5`, a dot before the decimals), else as people write it.
fn amount(price: &Value) -> Option<f64> {
    let text = string(Some(price))?;
    let is_plain = text.trim().chars().all(|c| c.is_ascii_digit() || c == '.');
    let price = if is_plain { text.trim().parse().ok() } else { parse_price(&text) };
    price.filter(|price: &f64| (0.0..1e7).contains(price)).map(|price| (price * 100.0).round() / 100.0)
}

fn currency(code: &str) -> Option<String> {
    let code = code.trim();
    match code {
        "€" => Some("EUR".into()),
        _ => (code.len() == 3 && code.chars().all(|c| c.is_ascii_alphabetic()))
            .then(|| code.to_ascii_uppercase()),
    }
}

/// What OpenGraph and the page's one heading tell; the last resort for each value.
fn from_open_graph(document: &Html, base: &Url) -> ProductFacts {
    let meta = |names: &[&str]| {
        names.iter().find_map(|name| {
            let mut tags = document.select(&META).filter(|tag| tag.attr("property") == Some(name));
            tags.find_map(|tag| tag.attr("content").filter(|content| !content.trim().is_empty()))
        })
    };
    ProductFacts {
        article_number: meta(&["product:retailer_item_id", "product:retailer_part_no"])
            .and_then(|number| clean(number, 100)),
        name: heading(document).or_else(|| meta(&["og:title"]).and_then(|title| clean(title, 500))),
        price: meta(&["product:price:amount", "og:price:amount"]).and_then(|price| amount(&price.into())),
        currency: meta(&["product:price:currency", "og:price:currency"]).and_then(currency),
        tiers: Vec::new(),
        ean: meta(&["product:ean", "product:gtin"]).and_then(ean),
        description: meta(&["og:description"]).and_then(|text| clean(text, 5_000)),
        image_url: meta(&["og:image"]).and_then(|image| absolute(base, image)).map(String::from),
    }
}

fn heading(document: &Html) -> Option<String> {
    let text: Vec<&str> = document.select(&H1).next()?.text().collect();
    collapse(&text.join(" "), 500)
}

/// Without structured data: does the page call itself a product's, or is there one heading and one way to buy?
fn looks_like_product_page(document: &Html) -> bool {
    let says_so = document.select(&META).any(|tag| {
        tag.attr("property") == Some("og:type")
            && matches!(tag.attr("content"), Some(kind) if is_og_product(kind))
    });
    let is_detail = document.select(&DETAIL).filter_map(|element| element.attr("class")).any(|class| {
        ["product-detail", "single-product", "is-ctl-product", "catalog-product-view", "template-product"]
            .iter()
            .any(|name| class.contains(name))
    });
    says_so || is_detail || (document.select(&H1).count() == 1 && ways_to_buy(document) == 1)
}

fn is_og_product(kind: &str) -> bool {
    matches!(kind.trim(), "product" | "og:product" | "product.item")
}

/// How many things can be put into the cart; a form and its own button count as one.
fn ways_to_buy(document: &Html) -> usize {
    let mut ways = HashSet::new();
    for element in document.select(&BUY) {
        let words =
            ["class", "id", "name", "action", "value"].map(|attr| element.attr(attr).unwrap_or_default());
        let words = words.join(" ").to_ascii_lowercase();
        let label = element.value().name() == "button";
        let label = if label { element.text().collect::<String>().to_lowercase() } else { String::new() };
        let adds = [
            "add-to-cart",
            "add_to_cart",
            "addtocart",
            "cart/add",
            "basket/add",
            "btn-buy",
            "in-den-warenkorb",
        ]
        .iter()
        .any(|name| words.contains(name))
            || ["in den warenkorb", "add to cart", "add to basket"]
                .iter()
                .any(|text| label.contains(text) || words.contains(text));
        if adds {
            let form = element
                .ancestors()
                .filter_map(ElementRef::wrap)
                .find(|around| around.value().name() == "form");
            ways.insert(form.unwrap_or(element).id());
        }
    }
    ways.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://shop.example/schrauben/m8";

    fn read(html: &str) -> Page {
        Page::read(html, &Url::parse(HERE).unwrap(), &PageRules::default())
    }

    fn product(html: &str) -> ProductFacts {
        read(html).product.unwrap_or_else(|| panic!("no product in {html}"))
    }

    fn with_json_ld(json: &str) -> String {
        format!(r#"<head><script type="application/ld+json">{json}</script></head><h1>Heading</h1>"#)
    }

    fn tiers(facts: &ProductFacts) -> Vec<(u32, f64)> {
        facts.tiers.iter().map(|tier| (tier.min_quantity, tier.price)).collect()
    }

    #[test]
    fn a_product_in_json_ld_is_read_whole() {
        let facts = product(&with_json_ld(
            r#"{"@context": "https://schema.org", "@type": "Product", "sku": " A-4711 ", "name": "Schraube  M8 &amp; Mutter",
                "gtin13": "4006381333931", "description": "<p>Aus <b>Stahl</b></p>",
                "image": ["/bilder/m8.png", "/bilder/zwei.png"],
                "offers": {"@type": "Offer", "price": "1299.5", "priceCurrency": "chf"}}"#,
        ));
        assert_eq!(
            facts,
            ProductFacts {
                article_number: Some("A-4711".into()),
                name: Some("Schraube M8 & Mutter".into()),
                price: Some(1299.5),
                currency: Some("CHF".into()),
                tiers: Vec::new(),
                ean: Some("4006381333931".into()),
                description: Some("Aus Stahl".into()),
                image_url: Some("https://shop.example/bilder/m8.png".into()),
            }
        );
    }

    #[test]
    fn tier_prices_are_read_from_every_place_where_shops_write_them() {
        for offers in [
            r#"[{"price": "5.00", "eligibleQuantity": {"minValue": 1}},
                {"price": 4.5, "eligibleQuantity": {"minValue": "10", "maxValue": 49}},
                {"price": "3,99 €", "eligibleQuantity": {"minValue": 50}}]"#,
            r#"{"@type": "AggregateOffer", "lowPrice": 3.99, "highPrice": 5, "offers": [
                {"price": 3.99, "eligibleQuantity": {"minValue": 50}},
                {"price": 5},
                {"price": 4.5, "eligibleQuantity": [{"minValue": 10}]}]}"#,
            r#"{"@type": "Offer", "price": 5, "priceSpecification": [
                {"price": 4.5, "eligibleQuantity": {"minValue": 10}},
                {"price": 9.99, "priceType": "https://schema.org/ListPrice"},
                {"price": 0.5, "referenceQuantity": {"value": 100, "unitCode": "GRM"}},
                {"price": 3.99, "eligibleQuantity": {"minValue": 50}}]}"#,
        ] {
            let facts = product(&with_json_ld(&format!(
                r#"{{"@type": "Product", "name": "x", "offers": {offers}}}"#
            )));
            assert_eq!(tiers(&facts), [(1, 5.0), (10, 4.5), (50, 3.99)], "{offers}");
            assert_eq!((facts.price, facts.currency.as_deref()), (Some(5.0), Some("EUR")), "{offers}");
        }
    }

    #[test]
    fn one_price_makes_no_tiers() {
        for (offers, price) in [
            (r#"{"price": 5, "eligibleQuantity": {"minValue": 1}}"#, Some(5.0)),
            (r#"{"@type": "AggregateOffer", "lowPrice": "9.99", "highPrice": "12"}"#, Some(9.99)),
            (r#"{"priceSpecification": {"price": 0.125}}"#, Some(0.13)),
            (r#"{"price": "auf Anfrage"}"#, None),
            (r#"[]"#, None),
        ] {
            let facts = product(&with_json_ld(&format!(
                r#"{{"@type": "Product", "name": "x", "offers": {offers}}}"#
            )));
            assert_eq!((facts.price, tiers(&facts)), (price, vec![]), "{offers}");
            assert_eq!(facts.currency.is_some(), price.is_some(), "{offers}");
        }
    }

    #[test]
    fn the_main_product_is_found_in_graphs_arrays_and_groups() {
        for json in [
            r#"[{"@type": "Organization"}, {"@type": ["Thing", "http://schema.org/Product"], "sku": "7"}]"#,
            r#"{"@graph": [{"@type": "BreadcrumbList"}, {"@type": "ItemPage", "mainEntity": {"@type": "Product", "sku": 7}}]}"#,
            r#"{"@type": "ProductGroup", "name": "Hemd", "hasVariant": [{"@type": "Product", "sku": "7"}, {"sku": "8"}]}"#,
            r#"[{"@type": "Product", "name": "Hemd", "sku": "7"}, {"@type": "Product", "name": "Hemd", "sku": "8"}]"#,
            r#"[{"@type": "Product", "name": "Hut", "sku": "8"}, {"@type": "Product", "name": "Hemd", "sku": "7", "url": "/schrauben/m8#top"}]"#,
            r#"[{"@type": "Product", "name": "Hut", "sku": "8"}, {"@type": "Product", "name": "Heading", "sku": "7"}]"#,
            "{\"@type\": \"Product\", \"description\": \"two\nlines\", \"productID\": \"sku:7\"}",
        ] {
            assert_eq!(product(&with_json_ld(json)).article_number.as_deref(), Some("7"), "{json}");
        }
    }

    #[test]
    fn a_listing_is_no_product() {
        let item = r#"{"@type": "Product", "name": "Hemd", "sku": "7"}"#;
        for json in [
            format!(
                r#"{{"@type": "ItemList", "itemListElement": [{{"@type": "ListItem", "item": {item}}}]}}"#
            ),
            format!(r#"[{{"@type": "CollectionPage"}}, {item}]"#),
            format!(r#"[{item}, {{"@type": "Product", "name": "Hut", "sku": "8"}}]"#),
            "{".into(),
        ] {
            assert_eq!(read(&with_json_ld(&json)).product, None, "{json}");
        }
        let card = "<li itemscope itemtype='https://schema.org/Product'><b itemprop=name>";
        assert_eq!(
            read(&format!("<h1>Hemden</h1><ul>{card}Eins</b></li>{card}Zwei</b></li></ul>")).product,
            None
        );
    }

    #[test]
    fn an_ean_needs_its_check_digit_and_may_carry_a_zero_more_or_less() {
        for (key, code, ean) in [
            ("gtin", "04006381333931", Some("4006381333931")),
            ("gtin12", "036000291452", Some("0036000291452")),
            ("productID", "ean:4006381333931", Some("4006381333931")),
            ("gtin13", "4006381333932", None),
        ] {
            let facts =
                product(&with_json_ld(&format!(r#"{{"@type": "Product", "name": "x", "{key}": "{code}"}}"#)));
            assert_eq!(facts.ean.as_deref(), ean, "{key} {code}");
        }
    }

    #[test]
    fn microdata_is_read_with_nested_offers() {
        let facts = product(
            "<div itemscope itemtype='https://schema.org/Product'>
               <h1 itemprop=name>Schraube <i>M8</i></h1><meta itemprop='sku mpn' content=4711>
               <img itemprop=image src=/m8.png>
               <div itemprop=offers itemscope itemtype=https://schema.org/Offer>
                 <meta itemprop=priceCurrency content=EUR><span itemprop=price>1.234,50 €</span></div>
               <div itemprop=offers itemscope itemtype=https://schema.org/Offer>
                 <data itemprop=price value=1100.00></data>
                 <p itemprop=eligibleQuantity itemscope><meta itemprop=minValue content=10></p></div>
               <ul><li itemprop=isRelatedTo itemscope itemtype=https://schema.org/Product><b itemprop=name>Mutter</b></ul>
             </div>",
        );
        assert_eq!(
            (facts.name.as_deref(), facts.article_number.as_deref()),
            (Some("Schraube M8"), Some("4711"))
        );
        assert_eq!((facts.price, tiers(&facts)), (Some(1234.5), vec![(1, 1234.5), (10, 1100.0)]));
        assert_eq!(facts.image_url.as_deref(), Some("https://shop.example/m8.png"));
    }

    #[test]
    fn json_ld_goes_before_microdata_and_both_before_open_graph() {
        let facts = product(
            "<meta property=product:price:amount content='3.00'><meta property=product:price:currency content=USD>
             <meta property=product:retailer_item_id content=OG><meta property=og:image content=/og.png>
             <script type=application/ld+json>{\"@type\": \"Product\", \"name\": \"JSON\"}</script>
             <div itemscope itemtype=https://schema.org/Product><b itemprop=name>Micro</b><i itemprop=sku>M1</i></div>",
        );
        assert_eq!((facts.name.as_deref(), facts.article_number.as_deref()), (Some("JSON"), Some("M1")));
        assert_eq!((facts.price, facts.currency.as_deref()), (Some(3.0), Some("USD")));
        assert_eq!(facts.image_url.as_deref(), Some("https://shop.example/og.png"));
    }

    #[test]
    fn without_structured_data_the_page_itself_tells_that_it_shows_a_product() {
        let buy = "<form action=/cart/add><button class=add-to-cart>In den Warenkorb</button></form>";
        for (html, is_product) in [
            ("<meta property=og:type content=product><h1>Hemd</h1>".to_string(), true),
            ("<body class='single-product theme'><h1>Hemd</h1>".into(), true),
            ("<main class=product-detail><h1>Hemd</h1></main>".into(), true),
            (format!("<h1>Hemd</h1>{buy}"), true),
            ("<h1>Hemd</h1><button>In den Warenkorb</button>".into(), true),
            (format!("<h1>Hemden</h1>{buy}{buy}"), false),
            (format!("<h1>Hemd</h1><h1>Hut</h1>{buy}"), false),
            ("<h1>Über uns</h1><form action=/search><button>Suchen</button></form>".into(), false),
            (String::new(), false),
        ] {
            let page = read(&html);
            assert_eq!(page.product.is_some(), is_product, "{html}");
            if let Some(facts) = page.product {
                assert_eq!(
                    facts,
                    ProductFacts { name: Some("Hemd".into()), ..ProductFacts::default() },
                    "{html}"
                );
            }
        }
    }

    #[test]
    fn links_are_absolute_once_each_and_only_the_ones_that_may_be_followed() {
        let page = read(
            "<base href=/neu/><link rel=canonical href=/kanonisch#x>
             <nav class=product-nav><a href=kategorie/>K</a></nav>
             <a href='#top'>x</a><a href='mailto:a@b'>x</a><a href='javascript:1'>x</a><a href='http://['>x</a>
             <a rel='nofollow noopener' href=/geheim>x</a><a href='https://anders.example/'>x</a>
             <div class='product-box card'><div><a href='/hemd#bild'>Hemd</a><a href='/hemd'>Hemd</a></div></div>
             <a href=/schrauben/m8>hier</a><a href=//shop.example/p/4711>x</a>",
        );
        let links: Vec<_> =
            page.links.iter().map(|l| (l.url.as_str(), l.same_origin, l.looks_like_product)).collect();
        assert_eq!(
            links,
            [
                ("https://shop.example/neu/kategorie/", true, false),
                ("https://shop.example/neu/", true, false),
                ("https://anders.example/", false, false),
                ("https://shop.example/hemd", true, true),
                ("https://shop.example/p/4711", true, true),
            ]
        );
        assert_eq!(page.canonical.unwrap().as_str(), "https://shop.example/kanonisch");
        assert_eq!(read("<meta name=ROBOTS content='index, NoFollow'><a href=/a>a</a>").links, []);
    }

    #[test]
    fn pagination_is_kept_apart_from_links() {
        let page = read(
            "<link rel='next prefetch' href='?p=2'><ul class=pagination><li><a href='?p=2'>2</a><a href='?p=3'>3</a></ul>
             <nav aria-label='Pagination'><a href='?p=4'>4</a></nav><a class='btn next' href='?p=5'>weiter</a>
             <ul class=pagination><a href=https://anders.example/?p=6>6</a></ul><a href='?p=3'>auch</a><a href=/b>b</a>",
        );
        let pages: Vec<_> = page.next.iter().map(|url| url.query().unwrap()).collect();
        assert_eq!(pages, ["p=2", "p=3", "p=4", "p=5"]);
        let own: Vec<_> = page.links.iter().filter(|l| l.same_origin).map(|l| l.url.path()).collect();
        assert_eq!(own, ["/b"]);
    }

    #[test]
    fn a_page_built_to_explode_is_cut() {
        let nested = "<div>".repeat(1_000_000);
        let formats: String =
            (0..2_000).map(|i| format!("<b a{i}>")).collect::<String>() + &"<p>x".repeat(500_000);
        let scripts = with_json_ld(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
        let items = "<div itemscope itemprop=a itemtype=https://schema.org/Product>".repeat(10_000);
        let copies = "<b itemprop=a>".repeat(500) + &"x".repeat(3_000_000);
        let copies = format!("<i itemscope itemtype=https://schema.org/Product>{copies}");
        let attributes = (0..400_000).map(|i| format!(" a{i}")).collect::<String>();
        let attributes = format!("<a{attributes}>");
        let letters = "<a href=/x".to_string() + &"é".repeat(5_000);
        for html in [nested, formats, scripts, items, copies, attributes, letters] {
            let document = parse(&html);
            assert!(document.tree.nodes().len() < 600_000);
            Page::of(&document, &Url::parse(HERE).unwrap(), &PageRules::default(), None);
        }
        let many: String = (0..5_000).map(|i| format!("<a href=/{i}>x</a>")).collect();
        assert_eq!(read(&many).links.len(), MAX_LINKS);
    }
}
