//! A small German hardware shop to crawl: real pages with real flaws, and the price list that belongs to it.
//!
//! Everything that it sells stands in `tests/fixtures/shop/products.json`, its pages and pictures are templates
//! beside that file. A product's `quirk` is what a crawler must cope with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, XlsxError};
use serde::Deserialize;
use serde_json::json;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::IntervalStream;

use crate::product::Tier;

/// Where the shop stands on its host: all its paths begin with this.
pub const BASE: &str = "/demo/shop";

/// Its price list, below the shop; no page leads to it.
pub const PRICE_LIST: &str = "preisliste.xlsx";

const PER_PAGE: usize = 8;
/// The picture that never ends gives up after this many drops, one each second.
const MAX_DROPS: usize = 120;

const PAGE: &str = include_str!("../../tests/fixtures/shop/page.html");
const PRODUCT: &str = include_str!("../../tests/fixtures/shop/product.html");
const PICTURE: &str = include_str!("../../tests/fixtures/shop/picture.svg");
const STYLE: &str = include_str!("../../tests/fixtures/shop/style.css");

/// What is wrong with a product, its page or its row in the price list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quirk {
    /// The page shows `shown_price`, its structured data says `price`.
    WrongPicturePrice,
    MissingInList,
    /// The price list has it under another article number, a slightly other name and without an EAN.
    NameOnlyInList,
    /// The page answers 500 the first time in a router's life.
    FailsOnce,
    /// The page is whole, but a picture on it drips for two minutes.
    NeverFinishesLoading,
    NoStructuredData,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StructuredData {
    JsonLd,
    Microdata,
    None,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DemoProduct {
    /// The category's slug.
    pub category: String,
    pub slug: String,
    pub article_number: String,
    pub name: String,
    pub manufacturer: String,
    pub ean: Option<String>,
    /// Euros for one piece.
    pub price: f64,
    #[serde(default)]
    pub tiers: Vec<Tier>,
    pub description: String,
    pub structured_data: StructuredData,
    pub quirk: Option<Quirk>,
    pub shown_price: Option<f64>,
    pub list_article_number: Option<String>,
    pub list_name: Option<String>,
    drawing: String,
    color: String,
}

impl DemoProduct {
    /// The page's path on the host.
    pub fn path(&self) -> String {
        format!("{BASE}/{}/{}", self.category, self.slug)
    }

    fn picture(&self) -> String {
        format!("{BASE}/bilder/{}.svg", self.article_number)
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Category {
    slug: String,
    name: String,
    description: String,
}

/// What a shop sells.
#[derive(Debug, Deserialize)]
pub struct Catalogue {
    categories: Vec<Category>,
    products: Vec<DemoProduct>,
}

impl Catalogue {
    /// A generated shop of this many products; the one that is drawn by hand for 0.
    pub fn of(products: u32) -> &'static Catalogue {
        if products == 0 { &CATALOGUE } else { Catalogue::generated(products as usize) }
    }

    /// A shop of any size for load: the demo shop's sound products over and over, each time with numbers, a name and a
    /// price of their own. It lives as long as the process.
    pub fn generated(products: usize) -> &'static Catalogue {
        let sound: Vec<&DemoProduct> =
            CATALOGUE.products.iter().filter(|product| product.quirk.is_none()).collect();
        let generated = (0..products).zip(sound.iter().cycle()).map(|(at, model)| {
            let series = at / sound.len() + 1;
            let price = model.price + series as f64;
            DemoProduct {
                slug: format!("{}-{series}", model.slug),
                article_number: format!("{}{series:03}", model.article_number),
                name: format!("{} Serie {series}", model.name),
                ean: Some(ean13(200_000_000_000 + at as u64)),
                price,
                // Cheaper than one piece, by as much as the model's.
                tiers: model
                    .tiers
                    .iter()
                    .map(|tier| Tier { price: tier.price + series as f64, ..tier.clone() })
                    .collect(),
                ..(*model).clone()
            }
        });
        let categories = CATALOGUE.categories.clone();
        Box::leak(Box::new(Catalogue { categories, products: generated.collect() }))
    }
}

/// Twelve digits with their check digit.
fn ean13(digits: u64) -> String {
    let text = format!("{digits:012}");
    let weigh = |(at, digit): (usize, u8)| u32::from(digit - b'0') * if at % 2 == 0 { 1 } else { 3 };
    let sum: u32 = text.bytes().enumerate().map(weigh).sum();
    format!("{text}{}", (10 - sum % 10) % 10)
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../tests/fixtures/shop/products.json"))
        .expect("a test parses the compiled-in products")
});

/// Everything that the shop sells, in the order of its pages.
pub fn products() -> &'static [DemoProduct] {
    &CATALOGUE.products
}

struct Shop {
    catalogue: &'static Catalogue,
    has_failed: AtomicBool,
}

/// The shop, to be put under [`BASE`] with `nest_service`: `nest` would leave out the home page's own slash. Each
/// router fails once anew.
pub fn router() -> Router {
    router_of(&CATALOGUE)
}

/// A shop that sells something else, at the same place.
pub fn router_of(catalogue: &'static Catalogue) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/style.css", get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }))
        .route("/robots.txt", get(robots))
        .route("/sitemap.xml", get(sitemap))
        .route("/impressum", get(imprint))
        .route("/warenkorb", get(cart))
        .route("/login", get(login))
        .route(&format!("/{PRICE_LIST}"), get(price_list))
        .route("/bilder/{file}", get(picture))
        .route("/{category}/", get(category))
        .route("/{category}/{slug}", get(product))
        .fallback(|| async { not_found() })
        .with_state(Arc::new(Shop { catalogue, has_failed: AtomicBool::new(false) }))
}

async fn index(State(shop): State<Arc<Shop>>) -> Html<String> {
    let mut cards = String::new();
    for category in &shop.catalogue.categories {
        let of = || shop.catalogue.products.iter().filter(|product| product.category == category.slug);
        let picture = of().next().map(DemoProduct::picture).unwrap_or_default();
        cards += &format!(
            r#"<li><a class="card" href="{BASE}/{}/"><img src="{picture}" alt="" width="800" height="600"><div class="text"><h2>{}</h2><p>{}</p><p class="number">{} Artikel</p></div></a></li>"#,
            category.slug,
            escape(&category.name),
            escape(&category.description),
            of().count(),
        );
    }
    let main = format!(
        r#"<section class="hero"><h1>Alles für Haus und Werkstatt</h1><p>Eisenwaren, Werkzeug und Farben – seit drei Generationen, jetzt auch im Netz. Ab der zehnten Packung wird vieles günstiger.</p></section><ul class="grid categories">{cards}</ul>"#
    );
    page("Eisenwaren, Werkzeug und Farben", "", None, &main)
}

#[derive(Deserialize)]
struct PageNumber {
    page: Option<usize>,
}

async fn category(
    State(shop): State<Arc<Shop>>,
    Path(slug): Path<String>,
    Query(PageNumber { page: asked }): Query<PageNumber>,
) -> Response {
    let Catalogue { categories, products } = shop.catalogue;
    let Some(category) = categories.iter().find(|category| category.slug == slug) else {
        return not_found();
    };
    let products: Vec<&DemoProduct> = products.iter().filter(|product| product.category == slug).collect();
    let pages: Vec<&[&DemoProduct]> = products.chunks(PER_PAGE).collect();
    let number = asked.unwrap_or(1);
    let Some(shown) = number.checked_sub(1).and_then(|at| pages.get(at)) else {
        return not_found();
    };
    let cards: String = shown.iter().map(|product| card(product)).collect();
    let address = |number: usize| match number {
        1 => format!("{BASE}/{slug}/"),
        _ => format!("{BASE}/{slug}/?page={number}"),
    };
    let (mut head, mut links) = (String::new(), String::new());
    if number > 1 {
        head += &format!("<link rel=\"prev\" href=\"{}\">\n", address(number - 1));
        links += &format!(r#"<a rel="prev" href="{}">‹ Zurück</a>"#, address(number - 1));
    }
    links += &format!("<span>Seite {number} von {}</span>", pages.len());
    if number < pages.len() {
        head += &format!("<link rel=\"next\" href=\"{}\">\n", address(number + 1));
        links += &format!(r#"<a rel="next" href="{}">Weiter ›</a>"#, address(number + 1));
    }
    let main = format!(
        r#"<h1>{}</h1><p class="lead">{}</p><ul class="grid">{cards}</ul><nav class="pages" aria-label="Seiten">{links}</nav>"#,
        escape(&category.name),
        escape(&category.description)
    );
    page(&category.name, &head, Some(&slug), &main).into_response()
}

fn card(product: &DemoProduct) -> String {
    let cheaper = product
        .tiers
        .first()
        .map(|tier| format!(r#"<p class="number">ab {} Stück {}</p>"#, tier.min_quantity, euros(tier.price)));
    format!(
        r#"<li><a class="card" href="{}"><img src="{}" alt="" width="800" height="600" loading="lazy"><div class="text"><h2>{}</h2><p class="number">{}</p><p class="price">{}</p>{}</div></a></li>"#,
        product.path(),
        product.picture(),
        escape(&product.name),
        escape(&product.article_number),
        euros(product.shown_price.unwrap_or(product.price)),
        cheaper.unwrap_or_default(),
    )
}

async fn product(
    State(shop): State<Arc<Shop>>,
    Path((category_slug, slug)): Path<(String, String)>,
) -> Response {
    let Some(product) =
        shop.catalogue.products.iter().find(|p| p.category == category_slug && p.slug == slug)
    else {
        return not_found();
    };
    if product.quirk == Some(Quirk::FailsOnce) && !shop.has_failed.swap(true, Ordering::Relaxed) {
        let main =
            r#"<div class="sheet"><h1>Kurz gestört</h1><p>Bitte laden Sie die Seite noch einmal.</p></div>"#;
        return (StatusCode::INTERNAL_SERVER_ERROR, page("Kurz gestört", "", None, main)).into_response();
    }
    let category = shop.catalogue.categories.iter().find(|category| category.slug == category_slug);
    let microdata = product.structured_data == StructuredData::Microdata;
    let prop = |name: &str| if microdata { format!(" itemprop=\"{name}\"") } else { String::new() };
    let ean = product.ean.as_ref().map(|ean| {
        format!("<div><dt>EAN:</dt><dd class=\"product-detail-ean\"{}>{ean}</dd></div>\n", prop("gtin13"))
    });
    let never_ends = product.quirk == Some(Quirk::NeverFinishesLoading);
    let extra = format!(
        r#"<p><img src="{BASE}/bilder/endlos.svg" alt="Anwendungsbild" width="240" height="180"></p>"#
    );
    let scope = if microdata { r#" itemscope itemtype="https://schema.org/Product""# } else { "" };
    let main = fill(
        PRODUCT,
        &[
            ("base", BASE),
            ("category_slug", &category_slug),
            ("category", &escape(category.map_or("", |category| &category.name))),
            ("scope", scope),
            ("picture", &product.picture()),
            ("image_prop", &prop("image")),
            ("maker", &escape(&product.manufacturer)),
            ("brand_prop", &prop("brand")),
            ("name", &escape(&product.name)),
            ("name_prop", &prop("name")),
            ("article", &escape(&product.article_number)),
            ("sku_prop", &prop("sku")),
            ("ean", &ean.unwrap_or_default()),
            ("price", &price(product, microdata)),
            ("description", &escape(&product.description)),
            ("description_prop", &prop("description")),
            ("extra", if never_ends { &extra } else { "" }),
        ],
    );
    let head = match product.structured_data {
        StructuredData::JsonLd => json_ld(product),
        StructuredData::Microdata | StructuredData::None => String::new(),
    };
    page(&product.name, &head, Some(&category_slug), &main).into_response()
}

fn price(product: &DemoProduct, microdata: bool) -> String {
    let shown = product.shown_price.unwrap_or(product.price);
    let offer = match microdata {
        true => format!(
            r#"<span itemprop="offers" itemscope itemtype="https://schema.org/Offer"><meta itemprop="priceCurrency" content="EUR"><span itemprop="price" content="{:.2}">{}</span></span>"#,
            product.price,
            euros(shown)
        ),
        false => euros(shown),
    };
    let mut html =
        format!("<p class=\"product-detail-price\">{offer}</p><p class=\"tax\">inkl. 19 % MwSt.</p>\n");
    if !product.tiers.is_empty() {
        html += "<table class=\"product-detail-tiers\"><thead><tr><th>Menge</th><th>Stückpreis</th></tr></thead><tbody>";
        for tier in &product.tiers {
            html +=
                &format!("<tr><th>ab {} Stück</th><td>{}</td></tr>", tier.min_quantity, euros(tier.price));
        }
        html += "</tbody></table>";
    }
    html
}

fn json_ld(product: &DemoProduct) -> String {
    let mut data = json!({
        "@context": "https://schema.org",
        "@type": "Product",
        "name": product.name,
        "sku": product.article_number,
        "brand": { "@type": "Brand", "name": product.manufacturer },
        "image": product.picture(),
        "description": product.description,
        "offers": {
            "@type": "Offer",
            "url": product.path(),
            "price": format!("{:.2}", product.price),
            "priceCurrency": "EUR",
            "availability": "https://schema.org/InStock",
        },
    });
    if let Some(ean) = &product.ean {
        data["gtin13"] = json!(ean);
    }
    // A "<" in a text must not end the script.
    format!("<script type=\"application/ld+json\">{}</script>\n", data.to_string().replace('<', "\\u003c"))
}

async fn picture(State(shop): State<Arc<Shop>>, Path(file): Path<String>) -> Response {
    if file == "endlos.svg" {
        return endless_picture();
    }
    let wanted = file.strip_suffix(".svg").unwrap_or_default();
    let Some(product) = shop.catalogue.products.iter().find(|product| product.article_number == wanted)
    else {
        return not_found();
    };
    let svg = fill(PICTURE, &[("drawing", &product.drawing), ("color", &product.color)]);
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=3600")], svg)
        .into_response()
}

/// A body that drips one space a second behind a picture's first tag. It is dropped when the client goes.
fn endless_picture() -> Response {
    let start = r#"<svg xmlns="http://www.w3.org/2000/svg" width="240" height="180">"#;
    let drops = IntervalStream::new(tokio::time::interval(Duration::from_secs(1))).take(MAX_DROPS);
    let body = tokio_stream::once(Bytes::from_static(start.as_bytes()))
        .chain(drops.map(|_| Bytes::from_static(b" ")))
        .map(Ok::<_, std::convert::Infallible>);
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")], Body::from_stream(body))
        .into_response()
}

/// The shop's rules for crawlers. A crawler asks for them at the host's root: route `/robots.txt` here as well.
pub async fn robots(headers: HeaderMap) -> Response {
    let rules =
        format!("User-agent: *\nDisallow: {BASE}/login\n\nSitemap: {}{BASE}/sitemap.xml\n", origin(&headers));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], rules).into_response()
}

async fn sitemap(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let Catalogue { categories, products } = shop.catalogue;
    let categories = categories.iter().map(|category| format!("{BASE}/{}/", category.slug));
    let paths =
        std::iter::once(format!("{BASE}/")).chain(categories).chain(products.iter().map(DemoProduct::path));
    let origin = escape(&origin(&headers));
    let urls: String = paths.map(|path| format!("<url><loc>{origin}{path}</loc></url>\n")).collect();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n{urls}</urlset>\n"
    );
    ([(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

/// How the client addressed us: a sitemap knows only absolute addresses.
fn origin(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    format!("{scheme}://{}", text("host").unwrap_or("localhost"))
}

async fn imprint() -> Html<String> {
    let main = r#"<div class="sheet"><h1>Impressum</h1><p>Nagel &amp; Söhne ist ein erfundener Laden zum Ausprobieren.</p><p>Schraubergasse 7<br>12345 Musterstadt</p><p>Hier kann man nichts kaufen.</p></div>"#;
    page("Impressum", "", None, main)
}

async fn cart() -> Html<String> {
    let main = format!(
        r#"<div class="sheet"><h1>Warenkorb</h1><p>Ihr Warenkorb ist leer.</p><p><a href="{BASE}/">Weiter einkaufen</a></p></div>"#
    );
    page("Warenkorb", "", None, &main)
}

async fn login() -> Html<String> {
    let main = r#"<div class="sheet"><h1>Anmelden</h1><form><label>E-Mail <input type="email" name="email"></label><label>Passwort <input type="password" name="passwort"></label><button type="button">Anmelden</button></form></div>"#;
    page("Anmelden", "", None, main)
}

fn not_found() -> Response {
    let main = format!(
        r#"<div class="sheet"><h1>Nicht gefunden</h1><p>Diese Seite gibt es nicht. <a href="{BASE}/">Zur Startseite</a></p></div>"#
    );
    (StatusCode::NOT_FOUND, page("Nicht gefunden", "", None, &main)).into_response()
}

fn page(title: &str, head: &str, current: Option<&str>, main: &str) -> Html<String> {
    let link = |category: &Category| {
        let here = if current == Some(&category.slug) { " aria-current=\"true\"" } else { "" };
        format!("<a href=\"{BASE}/{}/\"{here}>{}</a>", category.slug, escape(&category.name))
    };
    let nav: String = CATALOGUE.categories.iter().map(link).collect();
    Html(fill(
        PAGE,
        &[("base", BASE), ("title", &escape(title)), ("head", head), ("nav", &nav), ("main", main)],
    ))
}

/// Puts values into `{{places}}` in one pass, so that a value is never searched for places itself.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let values: HashMap<&str, &str> = values.iter().copied().collect();
    let mut out = String::with_capacity(template.len() * 2);
    let mut parts = template.split("{{");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once("}}").unwrap_or((part, ""));
        debug_assert!(values.contains_key(name), "the template asks for {name}");
        out.push_str(values.get(name).unwrap_or(&""));
        out.push_str(rest);
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `1.234,50 €`
fn euros(amount: f64) -> String {
    let text = format!("{amount:.2}").replace('.', ",");
    match text.len() {
        7.. => format!("{}.{} €", &text[..text.len() - 6], &text[text.len() - 6..]),
        _ => format!("{text} €"),
    }
}

async fn price_list(State(shop): State<Arc<Shop>>) -> Response {
    const SPREADSHEET: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    ([(header::CONTENT_TYPE, SPREADSHEET)], price_list_of(shop.catalogue)).into_response()
}

/// The shop's price list as its owner would keep it, with a gap and a row of older making.
pub fn price_list_xlsx() -> Vec<u8> {
    price_list_of(&CATALOGUE)
}

/// The price list of another shop.
pub fn price_list_of(catalogue: &Catalogue) -> Vec<u8> {
    write_price_list(catalogue).expect("a test writes the compiled-in products")
}

fn write_price_list(catalogue: &Catalogue) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    // A fixed day: the same list is the same bytes.
    workbook
        .set_properties(&DocProperties::new().set_creation_datetime(&ExcelDateTime::from_ymd(2025, 1, 1)?));
    let sheet = workbook.add_worksheet().set_name("Preisliste")?;
    let (bold, money) = (Format::new().set_bold(), Format::new().set_num_format("#,##0.00 \"€\""));
    let headings =
        ["Artikelnummer", "Beschreibung", "EAN", "Preis", "Kategorie", "ab 10", "ab 100", "Hersteller"];
    for (column, heading) in (0..).zip(headings) {
        sheet.write_with_format(0, column, heading, &bold)?;
    }
    let listed = catalogue.products.iter().filter(|product| product.quirk != Some(Quirk::MissingInList));
    for (row, product) in (1..).zip(listed) {
        sheet.write(row, 0, product.list_article_number.as_ref().unwrap_or(&product.article_number))?;
        sheet.write(row, 1, product.list_name.as_ref().unwrap_or(&product.name))?;
        if let Some(ean) = product.ean.as_ref().filter(|_| product.list_name.is_none()) {
            sheet.write(row, 2, ean)?;
        }
        sheet.write_with_format(row, 3, product.price, &money)?;
        let category = catalogue.categories.iter().find(|category| category.slug == product.category);
        sheet.write(row, 4, category.map_or("", |category| &category.name))?;
        for (column, quantity) in [(5, 10), (6, 100)] {
            if let Some(tier) = product.tiers.iter().find(|tier| tier.min_quantity == quantity) {
                sheet.write_with_format(row, column, tier.price, &money)?;
            }
        }
        sheet.write(row, 7, &product.manufacturer)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofit();
    workbook.save_to_buffer()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tower::ServiceExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::product::matching::{ListedFacts, MatchedBy, Matcher, Rules};
    use crate::product::price_list;
    use crate::product::{ProductFacts, is_ean13};

    fn app() -> Router {
        Router::new().nest_service(BASE, router())
    }

    async fn get(app: &Router, path: &str) -> (StatusCode, String) {
        let request =
            axum::http::Request::get(path).header("host", "shop.test:8080").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn with(quirk: Quirk) -> &'static DemoProduct {
        products().iter().find(|product| product.quirk == Some(quirk)).unwrap()
    }

    #[test]
    fn a_generated_shop_has_as_many_products_as_asked_for_and_each_is_its_own() {
        let shop = Catalogue::generated(230);
        let unique = |key: fn(&DemoProduct) -> String| {
            shop.products.iter().map(key).collect::<std::collections::HashSet<String>>().len()
        };
        assert_eq!(unique(DemoProduct::path), 230);
        assert_eq!(unique(|product| product.article_number.clone()), 230);
        assert_eq!(unique(|product| product.ean.clone().unwrap()), 230);
        assert!(shop.products.iter().all(|product| is_ean13(product.ean.as_ref().unwrap())));
        let list = price_list_of(shop);
        let list = price_list::parse(&list, "list.xlsx", price_list::Limits::default()).unwrap();
        assert_eq!((list.products.len(), list.summary.errors.len()), (230, 0));
    }

    #[test]
    fn the_catalogue_is_sound_and_has_each_quirk_once() {
        assert!(products().len() >= 32);
        assert_eq!(CATALOGUE.categories.len(), 3);
        let unique = |key: fn(&DemoProduct) -> String| {
            let keys: std::collections::HashSet<String> = products().iter().map(key).collect();
            assert_eq!(keys.len(), products().len());
        };
        unique(|p| p.article_number.clone());
        unique(|p| p.path());
        unique(|p| p.name.clone());
        for product in products() {
            assert!(
                product.ean.as_ref().is_none_or(|ean| is_ean13(ean) && ean.starts_with('2')),
                "{product:?}"
            );
            assert!(
                CATALOGUE.categories.iter().any(|category| category.slug == product.category),
                "{product:?}"
            );
            assert!(PICTURE.contains(&format!("<g id=\"{}\"", product.drawing)), "{product:?}");
            assert!(product.tiers.is_sorted_by(|a, b| a.min_quantity < b.min_quantity && a.price > b.price));
        }
        for quirk in [
            Quirk::WrongPicturePrice,
            Quirk::MissingInList,
            Quirk::NameOnlyInList,
            Quirk::FailsOnce,
            Quirk::NeverFinishesLoading,
            Quirk::NoStructuredData,
        ] {
            assert_eq!(
                products().iter().filter(|product| product.quirk == Some(quirk)).count(),
                1,
                "{quirk:?}"
            );
        }
    }

    #[tokio::test]
    async fn every_product_is_reached_from_the_start_page() {
        let app = app();
        let mut waiting = vec![format!("{BASE}/")];
        let mut seen = std::collections::HashSet::new();
        while let Some(path) = waiting.pop() {
            if !seen.insert(path.clone()) || path.ends_with("endlos.svg") {
                continue;
            }
            let (mut status, mut text) = get(&app, &path).await;
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                (status, text) = get(&app, &path).await;
            }
            assert_eq!(status, StatusCode::OK, "{path}");
            for attribute in ["href=\"", "src=\""] {
                let links = text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
                waiting.extend(links.filter(|link| link.starts_with(BASE)).map(str::to_owned));
            }
        }
        for product in products() {
            assert!(seen.contains(&product.path()), "{}", product.path());
        }
    }

    #[tokio::test]
    async fn a_category_has_eight_products_a_page_and_names_the_next() {
        let app = app();
        let (_, first) = get(&app, "/demo/shop/schrauben/").await;
        assert_eq!(first.matches("class=\"card\"").count(), 8);
        assert!(first.contains("<link rel=\"next\" href=\"/demo/shop/schrauben/?page=2\">"), "{first}");
        let (_, second) = get(&app, "/demo/shop/schrauben/?page=2").await;
        assert_eq!(second.matches("class=\"card\"").count(), 4);
        assert!(!second.contains("rel=\"next\"") && second.contains("rel=\"prev\""));
        for path in ["/demo/shop/schrauben/?page=3", "/demo/shop/schrauben/?page=0", "/demo/shop/holz/"] {
            assert_eq!(get(&app, path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn a_product_page_shows_and_declares_its_values() {
        let (status, html) = get(&app(), "/demo/shop/schrauben/spanplattenschraube-4x40").await;
        assert_eq!(status, StatusCode::OK);
        for part in [
            "<h1 class=\"product-detail-name\">Spanplattenschraube Senkkopf 4 × 40 mm, verzinkt</h1>",
            ">SD-10023<",
            ">2000000100234<",
            "<p class=\"product-detail-price\">4,99 €</p>",
            "<th>ab 10 Stück</th><td>4,50 €</td>",
            "\"sku\":\"SD-10023\"",
            "\"price\":\"4.99\"",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        let microdata = products().iter().find(|p| p.structured_data == StructuredData::Microdata).unwrap();
        let (_, html) = get(&app(), &microdata.path()).await;
        assert!(html.contains("itemtype=\"https://schema.org/Product\"") && !html.contains("ld+json"));
    }

    #[tokio::test]
    async fn the_quirks_are_there() {
        let app = app();
        let (_, html) = get(&app, &with(Quirk::NoStructuredData).path()).await;
        assert!(!html.contains("ld+json") && !html.contains("itemprop"), "{html}");

        let wrong = with(Quirk::WrongPicturePrice);
        let (_, html) = get(&app, &wrong.path()).await;
        assert!(html.contains(&euros(wrong.shown_price.unwrap())) && !html.contains(&euros(wrong.price)));
        assert!(html.contains(&format!("\"price\":\"{:.2}\"", wrong.price)));

        let fails = with(Quirk::FailsOnce).path();
        assert_eq!(get(&app, &fails).await.0, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(get(&app, &fails).await.0, StatusCode::OK);
        assert_eq!(get(&self::app(), &fails).await.0, StatusCode::INTERNAL_SERVER_ERROR);

        let (_, html) = get(&app, &with(Quirk::NeverFinishesLoading).path()).await;
        assert!(html.ends_with("</html>\n") && html.contains("endlos.svg"));
    }

    #[tokio::test]
    async fn the_endless_picture_begins_and_then_waits() {
        let mut drops = endless_picture().into_body().into_data_stream();
        assert!(drops.next().await.unwrap().unwrap().starts_with(b"<svg"));
        assert_eq!(drops.next().await.unwrap().unwrap(), " ");
        assert!(drops.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn crawlers_are_told_what_to_leave_and_where_everything_is() {
        for home in ["/demo/shop", "/demo/shop/"] {
            assert_eq!(get(&app(), home).await.0, StatusCode::OK, "{home}");
        }
        assert_eq!(get(&app(), "/demo/shop/werkzeug/bohrer").await.0, StatusCode::NOT_FOUND);
        let (_, rules) = get(&app(), "/demo/shop/robots.txt").await;
        let robot = texting_robots::Robot::new("jobcast", rules.as_bytes()).unwrap();
        assert!(!robot.allowed("http://shop.test:8080/demo/shop/login"));
        assert!(robot.allowed("http://shop.test:8080/demo/shop/werkzeug/"));
        assert_eq!(robot.sitemaps, ["http://shop.test:8080/demo/shop/sitemap.xml"]);
        let (_, xml) = get(&app(), "/demo/shop/sitemap.xml").await;
        for product in products() {
            assert!(xml.contains(&format!("<loc>http://shop.test:8080{}</loc>", product.path())));
        }
        assert!(!xml.contains("login") && !xml.contains("warenkorb"));
    }

    #[test]
    fn the_price_list_holds_the_same_products_but_for_its_quirks() {
        let bytes = price_list_xlsx();
        assert!(bytes == price_list_xlsx(), "the same list must be the same bytes");
        let list = price_list::parse(&bytes, "preisliste.xlsx", price_list::Limits::default()).unwrap();
        assert_eq!(list.summary.errors, []);
        assert_eq!(list.products.len(), products().len() - 1);
        for product in products() {
            let listed = list
                .products
                .iter()
                .find(|p| p.facts.article_number.as_ref() == Some(&product.article_number));
            match product.quirk {
                Some(Quirk::MissingInList | Quirk::NameOnlyInList) => {
                    assert!(listed.is_none(), "{product:?}")
                }
                _ => {
                    let facts = &listed.unwrap().facts;
                    assert_eq!(facts.name.as_ref(), Some(&product.name));
                    assert_eq!((facts.price, &facts.ean), (Some(product.price), &product.ean));
                }
            }
        }
        let other = with(Quirk::NameOnlyInList);
        let row = list.products.iter().find(|p| p.facts.article_number == other.list_article_number).unwrap();
        assert_eq!((row.facts.name.clone(), row.facts.ean.clone()), (other.list_name.clone(), None));
    }

    #[test]
    fn euros_are_written_the_german_way() {
        assert_eq!(euros(4.5), "4,50 €");
        assert_eq!(euros(1234.5), "1.234,50 €");
    }

    #[test]
    fn each_page_finds_its_row_in_the_price_list_and_the_missing_one_none() {
        let list =
            price_list::parse(&price_list_xlsx(), "preisliste.xlsx", price_list::Limits::default()).unwrap();
        let listed =
            (0..).zip(list.products).map(|(n, p)| ListedFacts { id: Uuid::from_u128(n), facts: p.facts });
        let matcher = Matcher::new(listed.collect());
        for product in products() {
            let shown = ProductFacts {
                article_number: Some(product.article_number.clone()),
                name: Some(product.name.clone()),
                ean: product.ean.clone(),
                price: Some(product.shown_price.unwrap_or(product.price)),
                ..ProductFacts::default()
            };
            let found =
                matcher.find(&shown, &Rules::default()).map(|found| (found.matched_by, found.warnings));
            let expected =
                |by, warnings: &[&str]| Ok((by, warnings.iter().map(ToString::to_string).collect()));
            match product.quirk {
                Some(Quirk::MissingInList) => assert!(found.is_err(), "{found:?}"),
                Some(Quirk::NameOnlyInList) => {
                    let warnings = ["Matched by product name, not by article number."];
                    assert_eq!(found, expected(MatchedBy::ProductName, &warnings));
                }
                Some(Quirk::WrongPicturePrice) => {
                    let warnings = ["The prices differ: 28.90 in the shop, 26.30 in the list."];
                    assert_eq!(found, expected(MatchedBy::ArticleNumber, &warnings));
                }
                _ => assert_eq!(found, expected(MatchedBy::ArticleNumber, &[])),
            }
        }
    }
}
