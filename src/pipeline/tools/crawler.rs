//! Walks a shop from its start page and hands out its products one by one, in an order that a second walk repeats.
//!
//! Pages are fetched several at a time but read strictly in the order in which they were asked for, and new ones
//! are asked for only when one was read. So what is visited, and in which order, depends on the site alone and
//! not on which answer came first: a job that starts again after a crash finds the same products under the same
//! ordinals.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use quick_xml::{escape::resolve_xml_entity, events::Event};
use texting_robots::Robot;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::{Origin, Url};

use super::{
    fetch::{FetchError, Fetcher},
    page::{Page, path_looks_like_product},
};
use crate::pipeline::product::ProductFacts;

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
        }
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
}

/// Why there is no crawl at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CrawlError {
    #[error("{start} cannot be crawled: {reason}")]
    Unreachable { start: Url, reason: FetchError },
    #[error(
        "{start} must not be crawled: the shop's robots.txt forbids it; ask the shop's owner to allow {robot}"
    )]
    Forbidden { start: Url, robot: String },
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

/// A page on its way.
#[derive(Debug)]
struct Visit {
    url: Url,
    lane: Lane,
    page: AbortOnDropHandle<Result<(Url, Page), SkipReason>>,
}

impl Crawl {
    /// Reads robots.txt and the start page. The start page's own product and links come with [`Crawl::next`].
    pub async fn start(fetcher: &Fetcher, start: &Url, limits: CrawlLimits) -> Result<Crawl, CrawlError> {
        let deadline = Instant::now() + limits.max_time;
        let opening = open(fetcher, start);
        let (site, url, page) = timeout_at(deadline, opening).await.unwrap_or_else(|_| {
            let reason = FetchError::Timeout(limits.max_time);
            Err(CrawlError::Unreachable { start: start.clone(), reason })
        })?;
        let site = if limits.stay_below_start { site } else { Site { folder: "/".into(), ..site } };
        let limits =
            CrawlLimits { delay: limits.delay.max(site.asked_delay().min(limits.max_crawl_delay)), ..limits };
        let mut crawl = Crawl {
            fetcher: fetcher.clone(),
            frontier: Frontier::new(limits.max_addresses),
            in_flight: VecDeque::new(),
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
        crawl.read(start.clone(), Ok((url, page)));
        Ok(crawl)
    }

    /// The next product or skipped page; `None` when the crawl is over. May be dropped and asked again.
    pub async fn next(&mut self) -> Option<CrawlEvent> {
        loop {
            self.send_for_pages();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let Some(visit) = self.in_flight.front_mut() else {
                if self.report.stopped_by.is_none() && self.read_sitemaps().await {
                    continue;
                }
                return None;
            };
            let Ok(outcome) = timeout_at(self.deadline, &mut visit.page).await else {
                self.stop(Budget::Time);
                return None;
            };
            if let Some(visit) = self.in_flight.pop_front() {
                self.read(visit.url, outcome.unwrap_or(Err(SkipReason::Unreadable)));
            }
        }
    }

    /// How far the crawl is; final once [`Crawl::next`] gave `None`.
    pub fn report(&self) -> &CrawlReport {
        &self.report
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
            let (fetcher, target) = (self.fetcher.clone(), url.clone());
            let page = AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(at).await;
                visit(&fetcher, &target).await
            }));
            self.in_flight.push_back(Visit { url, lane, page });
        }
    }

    fn skip(&mut self, url: Url, reason: SkipReason) {
        self.report.skipped += 1;
        self.events.push_back(CrawlEvent::Skipped { url, reason });
    }

    /// Takes in one page: its links, and its product if it is a new one.
    fn read(&mut self, asked: Url, outcome: Result<(Url, Page), SkipReason>) {
        self.report.pages += 1;
        let (url, page) = match outcome {
            Ok((url, _)) if !self.site.covers(&url) => return self.skip(asked, SkipReason::Outside(url)),
            Ok(found) => found,
            Err(reason) => return self.skip(asked, reason),
        };
        if canonical(&url) != canonical(&asked) && !self.frontier.remember(&url) {
            return;
        }
        for link in page.links.iter().filter(|link| link.same_origin && self.site.covers(&link.url)) {
            let lane = if link.looks_like_product { Lane::Product } else { Lane::of(&link.url) };
            self.frontier.add(&link.url, lane);
        }
        if self.limits.follow_pagination {
            for next in page.next.iter().filter(|next| self.site.covers(next)) {
                self.frontier.add(next, Lane::Listing);
            }
        }
        let Some(facts) = page.product else { return };
        let own = page.canonical.filter(|own| self.site.covers(own)).unwrap_or_else(|| url.clone());
        if !self.products_seen.insert(identity(&facts, &own)) {
            return;
        }
        let ordinal = self.report.products;
        self.events.push_back(CrawlEvent::Product(ProductPage { url, facts, ordinal }));
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

async fn open(fetcher: &Fetcher, start: &Url) -> Result<(Site, Url, Page), CrawlError> {
    let unreachable = |reason| CrawlError::Unreachable { start: start.clone(), reason };
    let check = |site: Site, url: &Url| match site.allows(url) {
        true => Ok(site),
        false => Err(CrawlError::Forbidden { start: url.clone(), robot: fetcher.robot_name().into() }),
    };
    let mut site = check(Site::at(fetcher, start).await.map_err(unreachable)?, start)?;
    let (url, page) = visit(fetcher, start).await.map_err(|reason| match reason {
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
async fn visit(fetcher: &Fetcher, url: &Url) -> Result<(Url, Page), SkipReason> {
    let fetched = fetcher.get(url).await?;
    let read = move || (Page::read(&fetched.body, &fetched.url), fetched.url);
    let (page, url) = tokio::task::spawn_blocking(read).await.map_err(|_| SkipReason::Unreadable)?;
    Ok((url, page))
}

/// Which part of the web is crawled.
#[derive(Debug)]
struct Site {
    origin: Origin,
    /// The start page's folder, `/` for all of the site.
    folder: String,
    /// `None` for a site without rules.
    robots: Option<Robot>,
}

impl Site {
    async fn at(fetcher: &Fetcher, url: &Url) -> Result<Site, FetchError> {
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

    fn allows(&self, url: &Url) -> bool {
        self.robots.as_ref().is_none_or(|robots| robots.allowed(url.as_str()))
    }

    fn covers(&self, url: &Url) -> bool {
        url.origin() == self.origin && url.path().starts_with(&self.folder)
    }

    fn asked_delay(&self) -> Duration {
        let seconds = self.robots.as_ref().and_then(|robots| robots.delay).unwrap_or(0.0);
        Duration::try_from_secs_f32(seconds).unwrap_or_default()
    }

    /// Those that robots.txt names, else where they usually are.
    fn sitemaps(&self, start: &Url) -> Vec<Url> {
        let named = self.robots.iter().flat_map(|robots| &robots.sitemaps);
        let mut sitemaps: Vec<Url> = named.filter_map(|sitemap| Url::parse(sitemap).ok()).collect();
        if sitemaps.is_empty() {
            sitemaps =
                ["sitemap.xml", "/sitemap.xml"].iter().filter_map(|path| start.join(path).ok()).collect();
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
            _ if url.query().is_some() => Lane::Rest,
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

    fn add(&mut self, url: &Url, lane: Lane) {
        if is_errand(url) || !self.remember(url) {
            return;
        }
        match lane {
            Lane::Listing => self.listings.push_back(url.clone()),
            Lane::Product => self.products.push_back(url.clone()),
            Lane::Rest => self.rest.push_back(url.clone()),
        }
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
        match fetcher.get(&file).await {
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
