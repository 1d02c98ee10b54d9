//! Walks a shop from its start page and hands out its products one by one, in an order that a second walk repeats.
//!
//! A page that is an empty frame without its scripts is read from the browser instead, and so are the first listings of
//! a shop that shows no product otherwise; of those there is a budget, for a browser is slow.
//!
//! Pages are fetched several at a time but read strictly in the order in which they were asked for, and new ones
//! are asked for only when one was read. So what is visited, and in which order, depends on the site alone and
//! not on which answer came first: a job that starts again after a crash finds the same products under the same
//! ordinals.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use quick_xml::{escape::resolve_xml_entity, events::Event};
use serde_json::{Map, Value, json};
use texting_robots::Robot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::{Origin, Url};

use super::{
    browser::{BrowserPool, CaptureError, CaptureRules},
    fetch::{FetchError, Fetcher},
    page::{Page, path_looks_like_product, with_page},
    preset::{PageRules, Preset},
};
use crate::product::ProductFacts;

/// The bounds of one crawl.
#[derive(Clone, Debug)]
pub struct CrawlLimits {
    pub max_products: usize,
    /// Pages of every kind, fetched or failed.
    pub max_pages: usize,
    /// For the whole crawl, the time that its caller takes between events included.
    pub max_time: Duration,
    /// Pages on their way at once.
    pub concurrency: usize,
    /// Between the starts of two requests.
    pub delay: Duration,
    /// The most that a robots.txt can raise `delay` to.
    pub max_crawl_delay: Duration,
    /// Whether a listing's second and further pages are visited.
    pub follow_pagination: bool,
    /// Whether only what lies below the start page's folder is visited: for `/demo/shop/`, nothing of `/demo/blog/`.
    pub stay_below_start: bool,
    /// Addresses remembered; what is found beyond them is forgotten.
    pub max_addresses: usize,
    /// Pages of one listing.
    pub max_listing_pages: usize,
    /// Pages that are read from the browser.
    pub max_rendered: usize,
}

impl Default for CrawlLimits {
    fn default() -> CrawlLimits {
        CrawlLimits {
            max_products: 50,
            max_pages: 1_000,
            max_time: Duration::from_secs(15 * 60),
            concurrency: 4,
            delay: Duration::from_millis(100),
            max_crawl_delay: Duration::from_secs(5),
            follow_pagination: true,
            stay_below_start: true,
            max_addresses: 20_000,
            max_listing_pages: 50,
            max_rendered: 20,
        }
    }
}

/// What a crawl reads pages with.
#[derive(Clone, Default)]
pub struct Reader {
    pub rules: Arc<PageRules>,
    /// For pages that are nothing without their scripts; without it they are read as they come.
    pub browser: Option<Arc<BrowserPool>>,
    /// How the browser opens them.
    pub opening: CaptureRules,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader(browser: {})", self.browser.is_some())
    }
}

/// What a crawl comes across.
#[derive(Clone, Debug)]
pub enum CrawlEvent {
    Product(ProductPage),
    /// A page that was wanted and not got.
    Skipped {
        url: Url,
        reason: SkipReason,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProductPage {
    /// Where it was found, after redirects.
    pub url: Url,
    pub facts: ProductFacts,
    /// 0 for the first product of the crawl.
    pub ordinal: usize,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum SkipReason {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the shop's robots.txt asks not to visit this page")]
    Robots,
    #[error("the page leads to {0}, outside of what is crawled")]
    Outside(Url),
    #[error("the page could not be read")]
    Unreadable,
    #[error("the page is empty without its scripts, and in the browser {0}")]
    Unrendered(String),
}

/// Why there is no crawl at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CrawlError {
    #[error("{start} cannot be crawled: {reason}")]
    Unreachable { start: Box<Url>, reason: FetchError },
    #[error(
        "{start} must not be crawled: the shop's robots.txt forbids it; ask the shop's owner to allow {robot}"
    )]
    Forbidden { start: Box<Url>, robot: String },
}

/// What ended a crawl before the site did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Products,
    Pages,
    Time,
}

/// How far a crawl came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrawlReport {
    pub pages: usize,
    pub products: usize,
    pub skipped: usize,
    /// `None` when everything that could be found was visited.
    pub stopped_by: Option<Budget>,
}

/// A crawl on its way: ask it for one event after the other. While nobody asks, no more than
/// [`CrawlLimits::concurrency`] pages are fetched ahead; dropping it ends every request.
#[derive(Debug)]
pub struct Crawl {
    fetcher: Fetcher,
    limits: CrawlLimits,
    site: Site,
    frontier: Frontier,
    in_flight: VecDeque<Visit>,
    reader: Reader,
    /// Fetched, but not read yet: it may have to be rendered first.
    arrived: Option<(Url, Arrival)>,
    /// The first listings, to be read from the browser if they show no product otherwise; `None` when they were.
    listings: Option<Vec<Url>>,
    rendered: usize,
    /// Pages seen of each listing.
    listing_pages: HashMap<String, usize>,
    /// Read, but not handed out yet.
    events: VecDeque<CrawlEvent>,
    /// What tells one product from another, so that one that is listed under two addresses comes once.
    products_seen: HashSet<String>,
    /// Taken when the links have run dry.
    sitemaps: Option<Vec<Url>>,
    report: CrawlReport,
    started_pages: usize,
    deadline: Instant,
    next_start: Instant,
}

/// A page with the address that it has after redirects, or why it was not got.
type Arrival = Result<(Url, Page), SkipReason>;

/// A page on its way.
#[derive(Debug)]
struct Visit {
    url: Url,
    lane: Lane,
    page: AbortOnDropHandle<Arrival>,
}

impl Crawl {
    /// Reads robots.txt and the start page. The start page's own product and links come with [`Crawl::next`].
    pub async fn start(
        fetcher: &Fetcher,
        start: &Url,
        limits: CrawlLimits,
        reader: Reader,
    ) -> Result<Crawl, CrawlError> {
        let deadline = Instant::now() + limits.max_time;
        let opening = open(fetcher, start, &reader.rules);
        let (site, url, page) = timeout_at(deadline, opening).await.unwrap_or_else(|_| {
            let reason = FetchError::Timeout(limits.max_time);
            Err(CrawlError::Unreachable { start: Box::new(start.clone()), reason })
        })?;
        let site = if limits.stay_below_start { site } else { Site { folder: "/".into(), ..site } };
        let limits =
            CrawlLimits { delay: limits.delay.max(site.asked_delay().min(limits.max_crawl_delay)), ..limits };
        fetcher.hosts().slow_down(&url, limits.delay);
        let mut crawl = Crawl {
            fetcher: fetcher.clone(),
            frontier: Frontier::new(limits.max_addresses),
            in_flight: VecDeque::new(),
            reader,
            arrived: None,
            listings: Some(Vec::new()),
            rendered: 0,
            listing_pages: HashMap::new(),
            events: VecDeque::new(),
            products_seen: HashSet::new(),
            sitemaps: Some(site.sitemaps(&url)),
            report: CrawlReport::default(),
            started_pages: 1,
            deadline,
            next_start: Instant::now(),
            site,
            limits,
        };
        crawl.frontier.remember(start);
        crawl.arrived = Some((start.clone(), Ok((url, page))));
        Ok(crawl)
    }

    /// The next product or skipped page; `None` when the crawl is over. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<CrawlEvent> {
        loop {
            if self.arrived.is_some() {
                self.render_what_is_hollow().await;
                if let Some((asked, outcome)) = self.arrived.take() {
                    self.read(asked, outcome);
                }
            }
            self.send_for_pages();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let Some(visit) = self.in_flight.front_mut() else {
                if self.report.stopped_by.is_none()
                    && (self.read_sitemaps().await || self.render_a_listing().await)
                {
                    continue;
                }
                return None;
            };
            let Ok(outcome) = timeout_at(self.deadline, &mut visit.page).await else {
                self.stop(Budget::Time);
                return None;
            };
            if let Some(visit) = self.in_flight.pop_front() {
                self.arrived = Some((visit.url, outcome.unwrap_or(Err(SkipReason::Unreadable))));
            }
        }
    }

    /// How far the crawl is; final once [`Crawl::next`] gave `None`.
    pub fn report(&self) -> &CrawlReport {
        &self.report
    }

    /// Reads the page that has arrived from the browser if it is nothing without its scripts.
    async fn render_what_is_hollow(&mut self) {
        let Some((_, Ok((url, page)))) = &self.arrived else { return };
        if !page.is_hollow() || !self.site.covers(url) {
            return;
        }
        let url = url.clone();
        let Some(rendered) = self.render(&url).await else { return };
        if let Some((_, outcome)) = &mut self.arrived {
            *outcome = rendered.map_err(|error| SkipReason::Unrendered(error.to_string()));
        }
    }

    /// A page from the browser, within the budget and the time; `None` when there is none left.
    async fn render(&mut self, url: &Url) -> Option<Result<(Url, Page), CaptureError>> {
        let browser = self.reader.browser.clone().filter(|_| self.rendered < self.limits.max_rendered)?;
        self.rendered += 1;
        let _turn = self.fetcher.hosts().turn(url).await;
        let rendered = timeout_at(self.deadline, browser.read(url, &self.reader.opening)).await.ok()?;
        let rules = self.reader.rules.clone();
        Some(match rendered {
            Ok(found) => {
                let read = move || (Page::read(&found.html, &found.final_url, &rules), found.final_url);
                match tokio::task::spawn_blocking(read).await {
                    Ok((page, url)) => Ok((url, page)),
                    Err(error) => Err(CaptureError::Crashed(error.to_string())),
                }
            }
            Err(error) => Err(error),
        })
    }

    /// Where no product was found, a script may show them: one of the first listings is read from the browser. Whether
    /// there was one left.
    async fn render_a_listing(&mut self) -> bool {
        if self.report.products > 0 || self.reader.browser.is_none() {
            self.listings = None;
        }
        let Some(listings) = self.listings.as_mut() else { return false };
        if listings.is_empty() {
            self.listings = None;
            return false;
        }
        let url = listings.remove(0);
        if let Some(Ok((found, page))) = self.render(&url).await
            && self.site.covers(&found)
        {
            self.take_in(&found, page);
        }
        true
    }

    fn stop(&mut self, budget: Budget) {
        self.report.stopped_by.get_or_insert(budget);
        self.in_flight.clear();
        self.frontier.close();
    }

    /// Fills the window of pages that are on their way.
    fn send_for_pages(&mut self) {
        while self.in_flight.len() < self.limits.concurrency.max(1) {
            // Once enough pages that look like products are on their way, wait for what they are.
            let missing = self.limits.max_products.saturating_sub(self.report.products);
            if self.in_flight.iter().filter(|visit| visit.lane == Lane::Product).count() >= missing {
                return;
            }
            let Some((url, lane)) = self.frontier.take() else { return };
            if !self.site.allows(&url) {
                self.skip(url, SkipReason::Robots);
                continue;
            }
            if self.started_pages >= self.limits.max_pages {
                self.report.stopped_by = Some(Budget::Pages);
                self.frontier.close();
                return;
            }
            self.started_pages += 1;
            let at = self.next_start.max(Instant::now());
            self.next_start = at + self.limits.delay;
            let (fetcher, target, rules) = (self.fetcher.clone(), url.clone(), self.reader.rules.clone());
            let page = AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(at).await;
                visit(&fetcher, &target, &rules).await
            }));
            self.in_flight.push_back(Visit { url, lane, page });
        }
    }

    fn skip(&mut self, url: Url, reason: SkipReason) {
        self.report.skipped += 1;
        self.events.push_back(CrawlEvent::Skipped { url, reason });
    }

    /// Takes in one page: its links, and its product if it is a new one.
    fn read(&mut self, asked: Url, outcome: Arrival) {
        self.report.pages += 1;
        let (url, page) = match outcome {
            Ok((url, _)) if !self.site.covers(&url) => return self.skip(asked, SkipReason::Outside(url)),
            Ok(found) => found,
            Err(reason) => return self.skip(asked, reason),
        };
        if canonical(&url) != canonical(&asked) && !self.frontier.remember(&url) {
            return;
        }
        self.take_in(&url, page);
    }

    /// What a page leads to, and its product if it is a new one.
    fn take_in(&mut self, url: &Url, page: Page) {
        let mut new_products = 0;
        for link in page.links.iter().filter(|link| link.same_origin && self.site.covers(&link.url)) {
            let lane = if link.looks_like_product { Lane::Product } else { Lane::of(&link.url) };
            new_products += usize::from(self.frontier.add(&link.url, lane) && lane == Lane::Product);
        }
        if page.product.is_none()
            && let Some(listings) =
                self.listings.as_mut().filter(|listings| listings.len() < RETRIED_LISTINGS)
            && !listings.contains(url)
        {
            listings.push(url.clone());
        }
        let seen = self.listing_pages.entry(listing(url)).or_default();
        *seen += 1;
        if self.limits.follow_pagination && *seen < self.limits.max_listing_pages {
            let guessed = (page.has_more && new_products > 0).then(|| next_by_number(url, page.preset));
            for next in page.next.iter().chain(&guessed).filter(|next| self.site.covers(next)) {
                self.frontier.add(next, Lane::Listing);
            }
        }
        let Some(facts) = page.product else { return };
        let own = page.canonical.filter(|own| self.site.covers(own)).unwrap_or_else(|| url.clone());
        if !self.products_seen.insert(identity(&facts, &own)) {
            return;
        }
        let ordinal = self.report.products;
        self.events.push_back(CrawlEvent::Product(ProductPage { url: url.clone(), facts, ordinal }));
        self.report.products += 1;
        if self.report.products >= self.limits.max_products {
            self.stop(Budget::Products);
        }
    }

    /// Looks for pages that no link led to. Whether there was anything to look into.
    async fn read_sitemaps(&mut self) -> bool {
        let Some(sitemaps) = self.sitemaps.as_ref() else { return false };
        let reading = read_sitemaps(&self.fetcher, &self.site, sitemaps, &self.limits, &mut self.next_start);
        let Ok(pages) = timeout_at(self.deadline, reading).await else {
            self.stop(Budget::Time);
            return false;
        };
        self.sitemaps = None;
        for page in pages {
            self.frontier.add(&page, Lane::of(&page));
        }
        true
    }
}

/// Listings that are read from the browser where no product was found otherwise.
const RETRIED_LISTINGS: usize = 6;

/// The listing that a page belongs to: its address without what counts pages.
fn listing(url: &Url) -> String {
    let is_number = |segment: &&str| segment.bytes().all(|byte| byte.is_ascii_digit());
    let mut segments: Vec<&str> =
        url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect();
    if let [.., word, number] = segments[..]
        && is_number(&number)
        && matches!(word, "page" | "seite" | "p")
    {
        segments.truncate(segments.len() - 2);
    }
    segments.join("/")
}

/// Where a listing goes on that only a button adds to: its address with the next number.
fn next_by_number(url: &Url, preset: Option<Preset>) -> Url {
    let usual =
        if preset == Some(Preset::Shopware) || preset == Some(Preset::Magento) { "p" } else { "page" };
    let counted = url.query_pairs().find(|(name, value)| {
        matches!(name.as_ref(), "page" | "p" | "seite") && value.parse::<u32>().is_ok()
    });
    let (name, number) = match counted {
        Some((name, value)) => (name.into_owned(), value.parse().unwrap_or(1)),
        None => (usual.to_owned(), 1_u32),
    };
    with_page(url, &name, &number.saturating_add(1).to_string())
}

/// What a look at one page finds out about its shop.
#[derive(Clone, Debug)]
pub struct Detected {
    /// Where redirects led to.
    pub url: Url,
    pub page: Page,
    /// Whether the page was read from the browser.
    pub is_rendered: bool,
}

impl Detected {
    /// Links that are shown of all that were found.
    const SHOWN: usize = 10;

    /// As routes tell it.
    pub fn told(&self) -> Value {
        let Page { product, links, next, has_more, preset, container, .. } = &self.page;
        let own = || links.iter().filter(|link| link.same_origin);
        let products: Vec<&str> =
            own().filter(|link| link.looks_like_product).map(|link| link.url.as_str()).collect();
        let categories: Vec<&str> = own()
            .filter(|link| !link.looks_like_product && link.url.path().ends_with('/'))
            .map(|link| link.url.as_str())
            .collect();
        let shown = |all: &[&str]| all.iter().take(Self::SHOWN).map(ToString::to_string).collect::<Vec<_>>();
        let names = [
            "productContainer",
            "productLink",
            "productImage",
            "price",
            "articleNumber",
            "productName",
            "description",
            "nextPageButton",
            "paginationLinks",
        ];
        let selectors: Map<String, Value> = match (preset, container) {
            (Some(preset), _) => {
                names.iter().zip(preset.selectors()).map(|(name, css)| ((*name).into(), css.into())).collect()
            }
            (None, Some(css)) => Map::from_iter([("productContainer".into(), (*css).into())]),
            (None, None) => Map::new(),
        };
        let kind = match (preset, container, products.is_empty() && product.is_none()) {
            (Some(preset), ..) => Some(preset.word()),
            (None, Some(_), _) | (None, None, false) => Some("generic"),
            (None, None, true) => None,
        };
        json!({
            "shopUrl": self.url,
            "detected": kind.is_some(),
            "shopType": kind,
            "selectors": selectors,
            "productContainer": container,
            "productLinks": shown(&products),
            "productLinkCount": products.len(),
            "categoryLinks": shown(&categories),
            "categoryLinkCount": categories.len(),
            "nextPages": next.iter().take(Self::SHOWN).collect::<Vec<_>>(),
            "hasMoreButton": has_more,
            "isProductPage": product.is_some(),
            "product": product,
            "renderedInBrowser": self.is_rendered,
        })
    }
}

/// Looks at a shop's start page as a crawl would, robots.txt included, and no further.
pub async fn detect(fetcher: &Fetcher, start: &Url, reader: &Reader) -> Result<Detected, CrawlError> {
    let (site, url, page) = open(fetcher, start, &reader.rules).await?;
    fetcher.hosts().slow_down(&url, site.asked_delay().min(CrawlLimits::default().max_crawl_delay));
    if let Some(browser) = reader.browser.as_ref().filter(|_| page.is_hollow()) {
        let _turn = fetcher.hosts().turn(&url).await;
        if let Ok(found) = browser.read(&url, &reader.opening).await {
            let rules = reader.rules.clone();
            let read = move || (Page::read(&found.html, &found.final_url, &rules), found.final_url);
            if let Ok((page, url)) = tokio::task::spawn_blocking(read).await {
                return Ok(Detected { url, page, is_rendered: true });
            }
        }
    }
    Ok(Detected { url, page, is_rendered: false })
}

async fn open(
    fetcher: &Fetcher,
    start: &Url,
    rules: &Arc<PageRules>,
) -> Result<(Site, Url, Page), CrawlError> {
    let unreachable = |reason| CrawlError::Unreachable { start: Box::new(start.clone()), reason };
    let check = |site: Site, url: &Url| match site.allows(url) {
        true => Ok(site),
        false => {
            Err(CrawlError::Forbidden { start: Box::new(url.clone()), robot: fetcher.robot_name().into() })
        }
    };
    let mut site = check(Site::at(fetcher, start).await.map_err(unreachable)?, start)?;
    let (url, page) = visit(fetcher, start, rules).await.map_err(|reason| match reason {
        SkipReason::Fetch(reason) => unreachable(reason),
        other => unreachable(FetchError::Network(other.to_string())),
    })?;
    if url.origin() != site.origin {
        // `shop.example` leads to `www.shop.example`, which has a robots.txt of its own.
        site = Site::at(fetcher, &url).await.map_err(unreachable)?;
    }
    site.folder = folder(&url);
    Ok((check(site, &url)?, url, page))
}

/// Fetches and reads one page. Reading takes milliseconds of pure computing, so not on the threads that wait.
async fn visit(fetcher: &Fetcher, url: &Url, rules: &Arc<PageRules>) -> Arrival {
    let fetched = fetcher.get(url).await?;
    let rules = rules.clone();
    let read = move || (Page::read(&fetched.body, &fetched.url, &rules), fetched.url);
    let (page, url) = tokio::task::spawn_blocking(read).await.map_err(|_| SkipReason::Unreadable)?;
    Ok((url, page))
}

/// Which part of the web is crawled.
#[derive(Debug)]
pub(super) struct Site {
    origin: Origin,
    /// The start page's folder, `/` for all of the site.
    folder: String,
    /// `None` for a site without rules.
    robots: Option<Robot>,
}

impl Site {
    pub(super) async fn at(fetcher: &Fetcher, url: &Url) -> Result<Site, FetchError> {
        let address = url.join("/robots.txt").map_err(|_| FetchError::BadRedirect)?;
        let robots = match fetcher.get(&address).await {
            Ok(found) => Robot::new(fetcher.robot_name(), found.body.as_bytes()).ok(),
            // No rules; RFC 9309 tells a site without a robots.txt from one that cannot be asked.
            Err(FetchError::Status(400..=428 | 430..=499)) => None,
            Err(FetchError::NotText(_) | FetchError::BadRedirect | FetchError::TooManyRedirects(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(Site { origin: url.origin(), folder: folder(url), robots })
    }

    pub(super) fn allows(&self, url: &Url) -> bool {
        self.robots.as_ref().is_none_or(|robots| robots.allowed(url.as_str()))
    }

    fn covers(&self, url: &Url) -> bool {
        url.origin() == self.origin && url.path().starts_with(&self.folder)
    }

    pub(super) fn asked_delay(&self) -> Duration {
        let seconds = self.robots.as_ref().and_then(|robots| robots.delay).unwrap_or(0.0);
        Duration::try_from_secs_f32(seconds).unwrap_or_default()
    }

    /// Those that robots.txt names, else where they usually are.
    fn sitemaps(&self, start: &Url) -> Vec<Url> {
        let named = self.robots.iter().flat_map(|robots| &robots.sitemaps);
        let mut sitemaps: Vec<Url> = named.filter_map(|sitemap| Url::parse(sitemap).ok()).collect();
        if sitemaps.is_empty() {
            sitemaps = ["sitemap.xml", "/sitemap.xml", "/sitemap_index.xml"]
                .iter()
                .filter_map(|path| start.join(path).ok())
                .collect();
            sitemaps.dedup();
        }
        sitemaps.retain(|sitemap| sitemap.origin() == self.origin);
        sitemaps
    }
}

fn folder(url: &Url) -> String {
    let path = url.path();
    path[..path.rfind('/').map_or(0, |slash| slash + 1)].to_string()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Listing,
    Product,
    Rest,
}

impl Lane {
    fn of(url: &Url) -> Lane {
        match url {
            _ if path_looks_like_product(url) => Lane::Product,
            // Filters and sort orders multiply without end; categories rarely have a query.
            _ if url.query().is_some() || is_side_page(url) => Lane::Rest,
            _ => Lane::Listing,
        }
    }
}

/// The addresses still to be visited, in three queues: listings and products take turns, so that the first
/// product comes early and the supply does not end; the rest waits for both to run dry.
#[derive(Debug)]
struct Frontier {
    listings: VecDeque<Url>,
    products: VecDeque<Url>,
    rest: VecDeque<Url>,
    seen: HashSet<String>,
    max_addresses: usize,
    product_is_next: bool,
}

impl Frontier {
    fn new(max_addresses: usize) -> Frontier {
        Frontier {
            listings: VecDeque::new(),
            products: VecDeque::new(),
            rest: VecDeque::new(),
            seen: HashSet::new(),
            max_addresses,
            product_is_next: false,
        }
    }

    /// Whether the address is new; from now on it is not.
    fn remember(&mut self, url: &Url) -> bool {
        self.seen.len() < self.max_addresses && self.seen.insert(canonical(url))
    }

    /// Whether the address is new and worth a visit.
    fn add(&mut self, url: &Url, lane: Lane) -> bool {
        if is_errand(url) || !self.remember(url) {
            return false;
        }
        match lane {
            Lane::Listing => self.listings.push_back(url.clone()),
            Lane::Product => self.products.push_back(url.clone()),
            Lane::Rest => self.rest.push_back(url.clone()),
        }
        true
    }

    fn take(&mut self) -> Option<(Url, Lane)> {
        let listing = |frontier: &mut Frontier| Some((frontier.listings.pop_front()?, Lane::Listing));
        let product = |frontier: &mut Frontier| Some((frontier.products.pop_front()?, Lane::Product));
        let taken = match self.product_is_next {
            true => product(self).or_else(|| listing(self)),
            false => listing(self).or_else(|| product(self)),
        };
        self.product_is_next = !self.product_is_next;
        taken.or_else(|| Some((self.rest.pop_front()?, Lane::Rest)))
    }

    fn close(&mut self) {
        self.listings.clear();
        self.products.clear();
        self.rest.clear();
    }
}

/// One spelling for all addresses of a page: without fragment and tracking, the query sorted.
fn canonical(url: &Url) -> String {
    let is_tracking = |name: &str| {
        name.starts_with("utm_")
            || matches!(
                name,
                "gclid" | "fbclid" | "msclkid" | "dclid" | "gbraid" | "wbraid" | "mc_cid" | "mc_eid" | "_gl"
            )
            || name.eq_ignore_ascii_case("phpsessid")
    };
    let mut query: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(name, _)| !is_tracking(name)).collect();
    query.sort();
    let mut canonical = url.clone();
    canonical.set_fragment(None);
    canonical.set_query(None);
    if !query.is_empty() {
        canonical.query_pairs_mut().extend_pairs(query);
    }
    canonical.into()
}

/// Addresses that show no product, or do something when visited: a shop's cart takes orders by GET, too.
fn is_errand(url: &Url) -> bool {
    let does_something = url.query_pairs().any(|(name, _)| {
        matches!(name.as_ref(), "add-to-cart" | "add_to_cart" | "add_to_wishlist" | "remove_item")
    });
    let is_elsewhere = url.path_segments().into_iter().flatten().any(|segment| {
        matches!(
            segment.to_ascii_lowercase().as_str(),
            "cart"
                | "basket"
                | "warenkorb"
                | "checkout"
                | "kasse"
                | "login"
                | "logout"
                | "register"
                | "account"
                | "my-account"
                | "konto"
                | "wishlist"
                | "merkzettel"
                | "compare"
                | "wp-admin"
                | "wp-login.php"
        )
    });
    let extension = url.path().rsplit('/').next().and_then(|name| name.rsplit_once('.'));
    let is_file = extension.is_some_and(|(_, extension)| {
        matches!(
            extension.to_ascii_lowercase().as_str(),
            "pdf"
                | "jpg"
                | "jpeg"
                | "png"
                | "gif"
                | "webp"
                | "svg"
                | "avif"
                | "zip"
                | "mp4"
                | "mp3"
                | "css"
                | "js"
                | "json"
                | "xml"
                | "csv"
                | "xlsx"
                | "docx"
                | "ics"
                | "rss"
                | "exe"
                | "dmg"
                | "apk"
        )
    });
    does_something || is_elsewhere || is_file
}

/// Pages that every shop has and that rarely lead to a product.
fn is_side_page(url: &Url) -> bool {
    url.path_segments().into_iter().flatten().any(|segment| {
        let segment = segment.to_ascii_lowercase();
        let segment = segment.strip_suffix(".html").or(segment.strip_suffix(".php")).unwrap_or(&segment);
        matches!(
            segment,
            "impressum"
                | "imprint"
                | "datenschutz"
                | "privacy"
                | "privacy-policy"
                | "agb"
                | "terms"
                | "legal"
                | "policies"
                | "widerruf"
                | "versand"
                | "shipping"
                | "kontakt"
                | "contact"
                | "ueber-uns"
                | "about"
                | "about-us"
                | "hilfe"
                | "help"
                | "faq"
                | "blog"
                | "blogs"
                | "news"
                | "magazin"
                | "jobs"
                | "karriere"
                | "newsletter"
                | "suche"
                | "search"
                | "widgets"
        )
    })
}

/// What stays the same when a product is listed twice: its number and name, else its own address.
fn identity(facts: &ProductFacts, own: &Url) -> String {
    match (&facts.article_number, &facts.name) {
        (Some(number), Some(name)) => format!("{number}\n{name}"),
        _ => canonical(own),
    }
}

/// Sitemaps read for one crawl, those that an index names included.
const MAX_SITEMAPS: usize = 50;

async fn read_sitemaps(
    fetcher: &Fetcher,
    site: &Site,
    sitemaps: &[Url],
    limits: &CrawlLimits,
    next_start: &mut Instant,
) -> Vec<Url> {
    let mut files: VecDeque<(Url, bool)> = sitemaps.iter().map(|url| (url.clone(), true)).collect();
    let mut read = HashSet::new();
    let mut pages = Vec::new();
    while let Some((file, may_be_index)) = files.pop_front() {
        if read.len() >= MAX_SITEMAPS || pages.len() >= limits.max_addresses || !read.insert(file.clone()) {
            continue;
        }
        sleep_until(*next_start).await;
        *next_start = Instant::now() + limits.delay;
        match fetcher.get_sitemap(&file).await {
            Ok(found) => {
                let sitemap = parse_sitemap(&found.body, limits.max_addresses - pages.len());
                pages.extend(sitemap.pages.into_iter().filter(|page| site.covers(page)));
                let parts =
                    sitemap.sitemaps.into_iter().filter(|part| may_be_index && part.origin() == site.origin);
                files.extend(parts.take(MAX_SITEMAPS).map(|part| (part, false)));
            }
            Err(error) => tracing::debug!(host = file.host_str(), %error, "a sitemap was not read"),
        }
    }
    pages
}

#[derive(Debug, Default, PartialEq)]
struct Sitemap {
    pages: Vec<Url>,
    /// Of an index.
    sitemaps: Vec<Url>,
}

/// Reads as far as the XML goes: a cut or broken sitemap still names pages.
fn parse_sitemap(xml: &str, max_addresses: usize) -> Sitemap {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut sitemap = Sitemap::default();
    let mut is_part = false;
    let mut address: Option<String> = None;
    let append = |address: &mut Option<String>, text: &str| {
        if let Some(address) = address {
            address.push_str(text);
        }
    };
    while sitemap.pages.len() + sitemap.sitemaps.len() < max_addresses {
        match reader.read_event() {
            Ok(Event::Start(tag)) => match tag.local_name().as_ref() {
                "sitemap" => is_part = true,
                "url" => is_part = false,
                "loc" => address = Some(String::new()),
                _ => {}
            },
            Ok(Event::Text(text)) => append(&mut address, &text.xml10_content()),
            Ok(Event::CData(text)) => append(&mut address, &text.xml10_content()),
            // `&amp;` between query parameters.
            Ok(Event::GeneralRef(entity)) => {
                append(&mut address, resolve_xml_entity(&entity.xml10_content()).unwrap_or_default());
            }
            Ok(Event::End(tag)) if tag.local_name().as_ref() == "loc" => {
                let url = address.take().and_then(|address| Url::parse(address.trim()).ok());
                let list = if is_part { &mut sitemap.sitemaps } else { &mut sitemap.pages };
                list.extend(url);
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    sitemap
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex},
    };

    use axum::{
        Router,
        extract::Request,
        http::{StatusCode, header},
        response::{Html, IntoResponse, Redirect, Response},
    };

    use super::*;
    use crate::{
        guard::{
            GuardProxy,
            tests::{serve, url},
        },
        pipeline::tools::fetch::tests::fetcher,
    };

    type Pages = HashMap<String, Answer>;

    #[derive(Clone)]
    enum Answer {
        Text(String),
        Redirect(String),
        Status(u16),
        Never,
    }

    /// A shop made of a table of pages, that remembers what it was asked for.
    struct Shop {
        start: Url,
        asked: Arc<Mutex<Vec<String>>>,
        fetcher: Fetcher,
        _proxy: GuardProxy,
    }

    impl Shop {
        async fn open(pages: Pages, slowness: fn() -> Duration) -> Shop {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (pages, log) = (Arc::new(pages), asked.clone());
            let site = Router::new().fallback(move |request: Request| {
                let (pages, log) = (pages.clone(), log.clone());
                async move {
                    let path = request.uri().path_and_query().unwrap().to_string();
                    let site = format!("http://{}/", request.headers()["host"].to_str().unwrap());
                    log.lock().unwrap().push(path.clone());
                    tokio::time::sleep(slowness()).await;
                    answer(pages.get(&path).cloned().unwrap_or(Answer::Status(404)), &site).await
                }
            });
            let start = serve(site).await;
            let (fetcher, _proxy) = fetcher(&[&start]).await;
            Shop { start, asked, fetcher, _proxy }
        }

        async fn crawl(&self, path: &str, limits: CrawlLimits) -> (Vec<CrawlEvent>, CrawlReport) {
            let mut crawl =
                Crawl::start(&self.fetcher, &self.at(path), limits, Reader::default()).await.unwrap();
            let mut events = Vec::new();
            while let Some(event) = crawl.next().await {
                events.push(event);
            }
            (events, crawl.report().clone())
        }

        fn at(&self, path: &str) -> Url {
            self.start.join(path).unwrap()
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    /// `{site}` in a text is the shop's own address.
    async fn answer(answer: Answer, site: &str) -> Response {
        match answer {
            Answer::Text(text) if text.starts_with("<?xml") => {
                ([(header::CONTENT_TYPE, "text/xml")], text.replace("{site}", site)).into_response()
            }
            Answer::Text(text) => Html(text.replace("{site}", site)).into_response(),
            Answer::Redirect(target) => Redirect::temporary(&target).into_response(),
            Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
            Answer::Never => std::future::pending().await,
        }
    }

    fn at_once() -> Duration {
        Duration::ZERO
    }

    fn at_random() -> Duration {
        Duration::from_millis(u64::from(uuid::Uuid::new_v4().as_bytes()[0]) % 12)
    }

    fn eager() -> CrawlLimits {
        CrawlLimits { delay: Duration::ZERO, max_products: 1_000, concurrency: 8, ..CrawlLimits::default() }
    }

    fn text(text: impl Into<String>) -> Answer {
        Answer::Text(text.into())
    }

    fn linking<'a>(paths: impl IntoIterator<Item = &'a str>) -> Answer {
        text(paths.into_iter().map(|path| format!("<a href='{path}'>{path}</a>")).collect::<String>())
    }

    fn product(sku: &str) -> Answer {
        text(format!(
            r#"<script type="application/ld+json">{{"@type":"Product","name":"N","sku":"{sku}"}}</script>"#
        ))
    }

    fn site<const N: usize>(pages: [(&str, Answer); N]) -> Pages {
        pages.into_iter().map(|(path, answer)| (path.to_string(), answer)).collect()
    }

    /// Four categories of three pages with five products each; every product also links to the next one.
    fn large_shop() -> Pages {
        let mut pages = site([("/", linking(["/c0/", "/c1/", "/c2/", "/c3/"]))]);
        for category in 0..4 {
            for page in 1..=3 {
                let own =
                    if page == 1 { format!("/c{category}/") } else { format!("/c{category}/?page={page}") };
                let products = (0..5).map(|n| format!("/product/{}", category * 15 + (page - 1) * 5 + n));
                let cards: String = products
                    .map(|path| format!("<div class=product-box><a href={path}>x</a></div>"))
                    .collect();
                let next = format!("<a rel=next href='/c{category}/?page={}'>next</a>", page + 1);
                pages.insert(own, text(format!("{cards}{}", if page < 3 { next } else { String::new() })));
            }
        }
        for n in 0..60 {
            let Answer::Text(own) = product(&format!("S{n}")) else { unreachable!() };
            pages.insert(
                format!("/product/{n}"),
                text(format!("{own}<a href=/product/{}>x</a>", (n + 1) % 60)),
            );
        }
        pages
    }

    fn products(events: &[CrawlEvent]) -> Vec<(usize, String)> {
        let numbered = events.iter().filter_map(|event| match event {
            CrawlEvent::Product(page) => Some((page.ordinal, page.facts.article_number.clone()?)),
            CrawlEvent::Skipped { .. } => None,
        });
        numbered.collect()
    }

    fn skus(events: &[CrawlEvent]) -> Vec<String> {
        let mut skus: Vec<String> = products(events).into_iter().map(|(_, sku)| sku).collect();
        skus.sort();
        skus
    }

    fn skipped(events: &[CrawlEvent]) -> Vec<(&str, &SkipReason)> {
        let skipped = events.iter().filter_map(|event| match event {
            CrawlEvent::Skipped { url, reason } => Some((url.path(), reason)),
            CrawlEvent::Product(_) => None,
        });
        skipped.collect()
    }

    #[tokio::test]
    async fn two_crawls_of_a_shop_with_random_delays_find_the_same_products_in_the_same_order() {
        let shop = Shop::open(large_shop(), at_random).await;
        let (first, report) = shop.crawl("/", eager()).await;
        assert_eq!(report, CrawlReport { pages: 73, products: 60, skipped: 0, stopped_by: None });
        let first = products(&first);
        assert!(first.iter().map(|(ordinal, _)| *ordinal).eq(0..60));
        for _ in 0..2 {
            assert_eq!(products(&shop.crawl("/", eager()).await.0), first);
        }
        let few = CrawlLimits { max_products: 20, ..eager() };
        let (again, _) = shop.crawl("/", few.clone()).await;
        assert_eq!(products(&again), products(&shop.crawl("/", few).await.0));
    }

    #[tokio::test]
    async fn the_first_product_comes_long_before_the_last_category() {
        let shop = Shop::open(large_shop(), at_once).await;
        let mut crawl = Crawl::start(
            &shop.fetcher,
            &shop.start,
            CrawlLimits { concurrency: 1, ..eager() },
            Reader::default(),
        )
        .await
        .unwrap();
        assert!(matches!(crawl.next().await, Some(CrawlEvent::Product(page)) if page.ordinal == 0));
        assert_eq!(shop.asked()[..4], ["/robots.txt", "/", "/c0/", "/product/0"].map(String::from));
        assert_eq!(crawl.report().pages, 3);
    }

    #[tokio::test]
    async fn nothing_more_is_fetched_once_there_are_enough_products() {
        let shop = Shop::open(large_shop(), at_once).await;
        let mut crawl = Crawl::start(
            &shop.fetcher,
            &shop.start,
            CrawlLimits { max_products: 3, ..eager() },
            Reader::default(),
        )
        .await
        .unwrap();
        let mut found = 0;
        while let Some(event) = crawl.next().await {
            found += usize::from(matches!(event, CrawlEvent::Product(_)));
        }
        assert_eq!((found, crawl.report().stopped_by), (3, Some(Budget::Products)));
        assert!(crawl.in_flight.is_empty() && crawl.next().await.is_none());
        let visited = shop.asked().iter().filter(|path| path.starts_with("/product/")).count();
        assert!(visited <= 3, "{:?}", shop.asked());
    }

    #[tokio::test]
    async fn pagination_is_followed_only_when_asked_for() {
        let shop = Shop::open(
            site([
                ("/", linking(["/c/"])),
                ("/c/", text("<a href=/product/1>1</a><a class=next href='?page=2'>next</a>")),
                ("/c/?page=2", linking(["/product/2"])),
                ("/product/1", product("1")),
                ("/product/2", product("2")),
            ]),
            at_once,
        )
        .await;
        let (events, _) = shop.crawl("/", CrawlLimits { follow_pagination: false, ..eager() }).await;
        assert_eq!(skus(&events), ["1"]);
        assert!(!shop.asked().contains(&"/c/?page=2".into()));
        assert_eq!(skus(&shop.crawl("/", eager()).await.0), ["1", "2"]);
    }

    #[tokio::test]
    async fn robots_txt_is_obeyed_and_what_it_forbids_is_told() {
        let rules =
            "User-agent: *\nDisallow: /\n\nUser-agent: JobcastBot\nDisallow: /product/2\nCrawl-delay: 0.01";
        let shop = Shop::open(
            site([
                ("/robots.txt", text(rules)),
                ("/", linking(["/product/1", "/product/2"])),
                ("/product/1", product("1")),
                ("/product/2", product("2")),
            ]),
            at_once,
        )
        .await;
        let mut crawl = Crawl::start(&shop.fetcher, &shop.start, eager(), Reader::default()).await.unwrap();
        assert_eq!(crawl.limits.delay, Duration::from_millis(10));
        let mut events = Vec::new();
        while let Some(event) = crawl.next().await {
            events.push(event);
        }
        assert_eq!(skus(&events), ["1"]);
        assert!(matches!(skipped(&events)[..], [("/product/2", SkipReason::Robots)]), "{events:?}");
        assert!(!shop.asked().contains(&"/product/2".into()));
    }

    #[tokio::test]
    async fn a_crawl_delay_is_taken_up_to_the_cap() {
        let rules = text("User-agent: *\nCrawl-delay: 86400");
        let shop = Shop::open(site([("/robots.txt", rules), ("/", linking([]))]), at_once).await;
        let limits = CrawlLimits { max_crawl_delay: Duration::from_millis(30), ..eager() };
        let crawl = Crawl::start(&shop.fetcher, &shop.start, limits, Reader::default()).await.unwrap();
        assert_eq!(crawl.limits.delay, Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_shop_that_forbids_or_cannot_say_is_not_crawled() {
        let pages = [("/robots.txt", text("User-agent: *\nDisallow: /"))];
        let shop = Shop::open(site(pages), at_once).await;
        let refused = Crawl::start(&shop.fetcher, &shop.start, eager(), Reader::default()).await;
        assert!(matches!(refused, Err(CrawlError::Forbidden { .. })), "{refused:?}");
        assert_eq!(shop.asked(), ["/robots.txt"]);

        let shop = Shop::open(site([("/robots.txt", Answer::Status(503))]), at_once).await;
        let refused = Crawl::start(&shop.fetcher, &shop.start, eager(), Reader::default()).await;
        assert!(
            matches!(refused, Err(CrawlError::Unreachable { reason: FetchError::Status(503), .. })),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_start_page_that_cannot_be_had_is_an_error_with_its_reason() {
        let shop = Shop::open(site([]), at_once).await;
        let missing = Crawl::start(&shop.fetcher, &shop.start, eager(), Reader::default()).await;
        assert!(
            matches!(missing, Err(CrawlError::Unreachable { reason: FetchError::Status(404), .. })),
            "{missing:?}"
        );
        let inner =
            Crawl::start(&shop.fetcher, &url("http://169.254.169.254/latest/"), eager(), Reader::default())
                .await;
        assert!(
            matches!(inner, Err(CrawlError::Unreachable { reason: FetchError::Refused(_), .. })),
            "{inner:?}"
        );
    }

    #[tokio::test]
    async fn a_site_without_products_gives_an_empty_report() {
        let shop = Shop::open(site([("/", linking(["/about"])), ("/about", linking([]))]), at_once).await;
        let (events, report) = shop.crawl("/", eager()).await;
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(report, CrawlReport { pages: 2, ..CrawlReport::default() });
    }

    #[tokio::test]
    async fn only_what_lies_below_the_start_page_on_its_origin_is_visited() {
        let shop = Shop::open(
            site([
                (
                    "/demo/shop/",
                    linking(["/demo/shop/p/1", "/demo/blog/", "p/2", "http://127.0.0.1:1/p/3", "../p/4"]),
                ),
                ("/demo/shop/p/1", product("1")),
                ("/demo/shop/p/2", Answer::Redirect("/demo/p/2".into())),
                ("/demo/p/2", product("2")),
                ("/demo/p/4", product("4")),
            ]),
            at_once,
        )
        .await;
        let (events, _) = shop.crawl("/demo/shop/", eager()).await;
        assert_eq!(skus(&events), ["1"]);
        assert!(matches!(skipped(&events)[..], [("/demo/shop/p/2", SkipReason::Outside(_))]), "{events:?}");
        assert!(!shop.asked().contains(&"/demo/blog/".into()));

        let (events, _) = shop.crawl("/demo/shop/", CrawlLimits { stay_below_start: false, ..eager() }).await;
        assert_eq!(skus(&events), ["1", "2", "4"]);
    }

    #[tokio::test]
    async fn pages_that_fail_or_lead_inwards_are_skipped_and_the_crawl_goes_on() {
        let shop = Shop::open(
            site([
                ("/", linking(["/p/gone", "/p/broken", "/p/inner", "/p/1"])),
                ("/p/broken", Answer::Status(500)),
                ("/p/inner", Answer::Redirect("http://169.254.169.254/".into())),
                ("/p/1", product("1")),
            ]),
            at_once,
        )
        .await;
        let (events, report) = shop.crawl("/", eager()).await;
        assert_eq!(skus(&events), ["1"]);
        assert!(
            matches!(
                skipped(&events)[..],
                [
                    ("/p/gone", SkipReason::Fetch(FetchError::Status(404))),
                    ("/p/broken", SkipReason::Fetch(FetchError::Status(500))),
                    ("/p/inner", SkipReason::Fetch(FetchError::Refused(_))),
                ]
            ),
            "{events:?}"
        );
        assert_eq!(report.skipped, 3);
    }

    #[tokio::test]
    async fn one_product_under_several_addresses_comes_once() {
        let Answer::Text(hat) = product("7") else { unreachable!() };
        let bare = |canonical: &str| {
            text(format!(
                "<link rel=canonical href={canonical}><meta property=og:type content=product><h1>Hemd</h1>"
            ))
        };
        let shop = Shop::open(
            site([
                (
                    "/",
                    linking([
                        "/p/a",
                        "/p/a?utm_source=mail#top",
                        "/new/a",
                        "/p/moved",
                        "/p/x?c=1",
                        "/p/x?c=2",
                        "/p/y",
                    ]),
                ),
                ("/p/a", text(hat.clone())),
                ("/new/a", text(hat)),
                ("/p/moved", Answer::Redirect("/p/a".into())),
                ("/p/x?c=1", bare("/p/x")),
                ("/p/x?c=2", bare("/p/x")),
                ("/p/y", bare("/p/y")),
            ]),
            at_once,
        )
        .await;
        let (events, report) = shop.crawl("/", eager()).await;
        let found: Vec<&str> = events
            .iter()
            .filter_map(|event| match event {
                CrawlEvent::Product(page) => Some(page.url.path()),
                CrawlEvent::Skipped { .. } => None,
            })
            .collect();
        assert_eq!((report.products, report.skipped), (3, 0), "{found:?}");
        assert_eq!(found.iter().filter(|path| **path == "/p/x").count(), 1);
        assert!(!shop.asked().iter().any(|path| path.contains("utm_")));
    }

    #[tokio::test]
    async fn carts_and_files_are_not_touched() {
        let shop = Shop::open(
            site([
                ("/", linking(["/cart", "/?add-to-cart=5", "/de/Warenkorb/x", "/katalog.PDF", "/p/1"])),
                ("/p/1", product("1")),
            ]),
            at_once,
        )
        .await;
        shop.crawl("/", eager()).await;
        assert_eq!(shop.asked(), ["/robots.txt", "/", "/p/1", "/sitemap.xml", "/sitemap_index.xml"]);
    }

    #[tokio::test]
    async fn products_that_only_a_sitemap_names_are_found() {
        let index = "<?xml version='1.0'?><sitemapindex><sitemap><loc>{site}demo/part.xml?a=1&amp;b=2</loc></sitemap>\
                     <sitemap><loc>http://127.0.0.1:1/</loc></sitemap></sitemapindex>";
        let part = "<?xml version='1.0'?><urlset><url><loc> {site}demo/p/1 </loc></url><url><loc>{site}other/p/2</loc></url>\
                    <url><loc><![CDATA[{site}demo/p/3]]></loc></url><url><loc>{site}demo/p/4</url>";
        let pages = site([
            ("/demo/", linking([])),
            ("/demo/sitemap.xml", text(index)),
            ("/demo/part.xml?a=1&b=2", text(part)),
            ("/demo/p/1", product("1")),
            ("/other/p/2", product("2")),
            ("/demo/p/3", product("3")),
            (
                "/named.xml",
                text("<?xml version='1.0'?><urlset><url><loc>{site}demo/p/1</loc></url></urlset>"),
            ),
        ]);
        let shop = Shop::open(pages.clone(), at_once).await;
        assert_eq!(skus(&shop.crawl("/demo/", eager()).await.0), ["1", "3"]);

        let robots = ("/robots.txt".to_string(), text("Sitemap: {site}named.xml"));
        let shop = Shop::open(pages.into_iter().chain([robots]).collect(), at_once).await;
        assert_eq!(skus(&shop.crawl("/demo/", eager()).await.0), ["1"]);
    }

    #[tokio::test]
    async fn budgets_of_pages_and_time_end_a_crawl() {
        let shop = Shop::open(large_shop(), at_once).await;
        let (_, report) = shop.crawl("/", CrawlLimits { max_pages: 10, ..eager() }).await;
        assert_eq!((report.pages, report.stopped_by), (10, Some(Budget::Pages)));

        let shop = Shop::open(site([("/", linking(["/p/1"])), ("/p/1", Answer::Never)]), at_once).await;
        let (events, report) =
            shop.crawl("/", CrawlLimits { max_time: Duration::from_millis(300), ..eager() }).await;
        assert!(events.is_empty() && report.stopped_by == Some(Budget::Time), "{report:?}");
    }

    #[tokio::test]
    async fn a_caller_that_takes_its_time_holds_the_crawl_back() {
        let shop = Shop::open(large_shop(), at_once).await;
        let mut crawl = Crawl::start(
            &shop.fetcher,
            &shop.start,
            CrawlLimits { concurrency: 2, ..eager() },
            Reader::default(),
        )
        .await
        .unwrap();
        crawl.next().await.unwrap();
        assert!(crawl.started_pages <= crawl.report.pages + 2, "{crawl:?}");
    }

    #[tokio::test]
    async fn selectors_of_the_job_go_before_every_guess() {
        let page = |name: &str, price: &str| {
            text(format!(
                "<b class=n>{name}</b><i class=z>Nr: {name}-7</i><p class=pr>{price}</p><img class=pic src=/i.png>"
            ))
        };
        let shop = Shop::open(
            site([
                (
                    "/",
                    text(
                        "<ul><li class=row><a href=/a/x>x</a><li class=row><a href=/a/y>y</a></ul>\
                         <div class=product-box><a href=/product/wrong>w</a></div><button class=fwd><a href='/?s=2'>w</a></button>",
                    ),
                ),
                ("/?s=2", text("<ul><li class=row><a href=/a/z>z</a></ul>")),
                ("/a/x", page("X", "9,50 € statt 12,00 €")),
                ("/a/y", page("Y", "1.234,50 € inkl. 19 % MwSt.")),
                ("/a/z", page("Z", "3,00")),
            ]),
            at_once,
        )
        .await;
        let css = |text: &str| scraper::Selector::parse(text).ok();
        let rules = PageRules {
            product_container: css("li.row"),
            price: css(".pr"),
            product_name: css(".n"),
            article_number: css(".z"),
            product_image: css(".pic"),
            next_page_button: css(".fwd"),
            ..PageRules::default()
        };
        let reader = Reader { rules: Arc::new(rules), ..Reader::default() };
        let mut crawl = Crawl::start(&shop.fetcher, &shop.start, eager(), reader).await.unwrap();
        let mut found = Vec::new();
        while let Some(event) = crawl.next().await {
            if let CrawlEvent::Product(page) = event {
                assert!(page.facts.image_url.unwrap().ends_with("/i.png"));
                found.push((page.facts.article_number.unwrap(), page.facts.price.unwrap()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, [("X-7".into(), 9.5), ("Y-7".into(), 1234.5), ("Z-7".into(), 3.0)]);
    }

    #[tokio::test]
    async fn a_listing_that_only_a_button_adds_to_is_asked_for_by_number_until_nothing_is_new() {
        let listing = |from: usize| {
            let cards: String = (from..from + 3)
                .map(|n| format!("<div class=product-box><a href=/product/{n}>x</a></div>"))
                .collect();
            text(format!("{cards}<button>Mehr laden</button>"))
        };
        let mut pages = site([("/", listing(0)), ("/?page=2", listing(3)), ("/?page=3", listing(3))]);
        for n in 0..6 {
            pages.insert(format!("/product/{n}"), product(&n.to_string()));
        }
        let shop = Shop::open(pages, at_once).await;
        assert_eq!(skus(&shop.crawl("/", eager()).await.0).len(), 6);
        let asked = shop.asked();
        assert!(asked.contains(&"/?page=3".into()) && !asked.contains(&"/?page=4".into()), "{asked:?}");
    }

    #[tokio::test]
    async fn an_endless_listing_ends_with_its_budget() {
        let asked_for: Pages = (0..60)
            .map(|n| {
                let own = if n == 0 { "/c/".into() } else { format!("/c/?page={n}") };
                (own, text(format!("<a rel=next href='/c/?page={}'>next</a>", n + 1)))
            })
            .collect();
        let shop = Shop::open(asked_for, at_once).await;
        let (_, report) = shop.crawl("/c/", CrawlLimits { max_listing_pages: 5, ..eager() }).await;
        assert_eq!(report.pages, 5);
    }

    #[tokio::test]
    async fn each_known_shop_system_is_crawled_by_its_own_places() {
        for (mark, listing, detail, next) in [
            (
                "<body class=woocommerce>",
                "<li class=product><a class=woocommerce-LoopProduct-link href=/shop/a/hat>x</a></li>",
                "<h1 class=product_title>Hut</h1><span class=sku>H-1</span><div class=summary><p class=price><span class=amount>9,90 €</span></p></div><div class=single-product></div>",
                "<a class='next page-numbers' href=/shop/page/2/>→</a>",
            ),
            (
                "<script type='text/x-magento-init'>{}</script><body class=catalog-product-view>",
                "<div class=product-item-info><a class=product-item-link href=/hat.html>x</a></div>",
                "<h1 class=page-title>Hut</h1><div class='product attribute sku'><div class=value>H-1</div></div><div class=product-info-price><span data-price-type=finalPrice><span class=price>9,90 €</span></span></div>",
                "<div class=pages><a class=next href='/?p=2'>x</a></div>",
            ),
            (
                "<link href=/bundles/storefront/x.css>",
                "<div class='product-box box-standard'><a class=product-name href=/Hut/H-1>x</a></div>",
                "<div class=product-detail><h1 class=product-detail-name>Hut</h1><span class=product-detail-ordernumber>H-1</span><p class=product-detail-price>9,90 €*</p></div>",
                "<li class=page-next><input name=p value=2></li>",
            ),
            (
                "<link href=//cdn.shopify.com/x.css>",
                "<div class=card-wrapper><a href=/products/hat>x</a></div>",
                "<h1 class=product__title>Hut</h1><p class=product__sku>SKU: H-1</p><div class=price__regular><span class=price-item--regular>€9,90 EUR</span></div>",
                "<div class=pagination><a rel=next href='/?page=2'>x</a></div>",
            ),
        ] {
            let here: Url = url("http://shop.example/");
            let list = Page::read(&format!("{mark}{listing}{next}"), &here, &PageRules::default());
            assert!(list.links[0].looks_like_product, "{listing}");
            assert_eq!(list.next.len(), 1, "{next}: {:?}", list.next);
            let product = Page::read(
                &format!("{mark}{detail}"),
                &here.join("/products/hat").unwrap(),
                &PageRules::default(),
            );
            let facts = product.product.unwrap_or_else(|| panic!("{detail}"));
            assert_eq!(
                (facts.name.as_deref(), facts.article_number.as_deref(), facts.price),
                (Some("Hut"), Some("H-1"), Some(9.9)),
                "{detail}"
            );
        }
    }

    #[test]
    fn pages_of_one_listing_count_as_one() {
        for (address, of) in [
            ("http://a/c/?page=7", "c"),
            ("http://a/c/page/7/", "c"),
            ("http://a/c/d", "c/d"),
            ("http://a/", ""),
        ] {
            assert_eq!(listing(&url(address)), of, "{address}");
        }
    }

    #[test]
    fn addresses_of_one_page_have_one_canonical_form() {
        for (address, form) in [
            ("http://a/b?z=1&utm_source=x&a=2#top", "http://a/b?a=2&z=1"),
            ("http://a/b?gclid=1&PHPSESSID=2", "http://a/b"),
            ("http://a/b/?", "http://a/b/"),
            ("http://a/b?q=x%26y", "http://a/b?q=x%26y"),
        ] {
            assert_eq!(canonical(&url(address)), form);
        }
    }
}
