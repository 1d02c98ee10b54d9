//! Takes pictures of product pages with one Chromium that is started when first needed, kept away from
//! everything but its proxy, and replaced when it dies.
//!
//! Three lives, one inside the other: the [`BrowserPool`] lives as long as the server, a `Chromium` until it
//! crashes or the pool closes, a `Tab` for one capture. Each ends by being dropped, so that no path, not even
//! a cancelled future, leaves something open.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chromiumoxide::cdp::browser_protocol::browser::{
    BrowserContextId, SetDownloadBehaviorBehavior, SetDownloadBehaviorParams,
};
use chromiumoxide::cdp::browser_protocol::inspector::EventTargetCrashed;
use chromiumoxide::cdp::browser_protocol::network::{EventResponseReceived, ResourceType};
use chromiumoxide::cdp::browser_protocol::page::{
    CaptureScreenshotFormat, CaptureScreenshotParams, CreateIsolatedWorldParams, DialogType,
    EventJavascriptDialogOpening, EventLoadEventFired, FrameId, HandleJavaScriptDialogParams,
    Viewport as Clip,
};
use chromiumoxide::cdp::browser_protocol::target::{CreateBrowserContextParams, CreateTargetParams};
use chromiumoxide::cdp::js_protocol::runtime::{EvaluateParams, TerminateExecutionParams};
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::HandlerConfig;
use chromiumoxide::handler::viewport::Viewport;
use chromiumoxide::listeners::EventStream;
use chromiumoxide::{Browser, Handler, Page};
use fast_image_resize::Resizer;
use futures_util::{FutureExt, StreamExt};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageFormat};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::Instrument as _;
use url::Url;

use super::fetch::retry_after;
use crate::metrics::numbers;

/// How long Chromium may take to open its debugging port.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a tab may take to close, or the whole browser to end, before it counts as stuck.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a page's script may keep the page from answering before it is cut off.
const SCRIPT_PATIENCE: Duration = Duration::from_millis(1500);
/// How much of what Chromium says before it fails goes into the error.
const STDERR_TAIL: usize = 4096;
/// With less shared memory, in bytes, Chromium crashes on large pages.
const LEAST_SHARED_MEMORY: u64 = 512 << 20;
/// Documents that one visit may lead through; a page that goes elsewhere more often never stays.
const MAX_DOCUMENTS: usize = 12;
/// How often a question is asked again of a page that has just gone elsewhere, and how long after.
const ASKED_AGAIN: u32 = 8;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(150);
/// Megabytes of a page's own objects; one that wants more is ended by Chromium.
const MAX_HEAP: u32 = 512;
/// Bytes of memory of one page's process; one that takes more, past its heap, is ended by us.
const MAX_RENDERER: u64 = 1_500_000_000;
/// How often memory is looked at while pages are open.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(250);
/// How much of a page that its scripts made is read, in UTF-16 units.
const MAX_RENDERED: u32 = 3_000_000;
/// How often a page that its scripts make is scrolled to its end, or its "more" button clicked.
const MAX_SCROLLS: u32 = 12;
/// The part of an element that must lie inside the product's picture for it to be cut out of there.
const INSIDE: f64 = 0.95;
/// Room around an element in its picture, in CSS pixels.
const MARGIN: f64 = 4.0;
/// Pictures that one page may need beside the product's own, for elements that lie outside of it.
const MAX_EXTRA_SHOTS: usize = 3;
/// A product further down or to the right than this many CSS pixels is not looked for.
const FARTHEST: f64 = 50_000.0;
/// A thumbnail fits inside a square of this many pixels.
const THUMBNAIL: u32 = 400;

/// What the pool must know of this machine.
#[derive(Clone, Debug)]
pub struct BrowserSettings {
    /// The Chromium to run; without it the first `chromium`, `chromium-browser` or `google-chrome` in `PATH`.
    pub executable: Option<PathBuf>,
    /// The user and group that Chromium runs as when this process is root; ignored when it is not.
    pub run_as: Option<(u32, u32)>,
    /// How many captures may run at a time; the others wait.
    pub pages: usize,
    /// The longest that one capture may take once it has begun.
    pub page_timeout: Duration,
    /// How long after the document arrived its scripts, pictures and fonts are waited for.
    pub settle_timeout: Duration,
    /// Width and height of the window in CSS pixels.
    pub viewport: (u32, u32),
    /// Picture pixels per CSS pixel. More makes small print readable and everything slower.
    pub scale: f64,
    /// The vetting forward proxy on loopback; nothing that a page asks for goes anywhere else.
    pub proxy: SocketAddr,
    /// Where the browser's throw-away profiles are made. `run_as` must be able to walk into it.
    pub work_dir: PathBuf,
}

impl BrowserSettings {
    /// The defaults for everything that has one.
    pub fn new(proxy: SocketAddr, work_dir: impl Into<PathBuf>) -> BrowserSettings {
        BrowserSettings {
            executable: None,
            run_as: None,
            pages: 3,
            page_timeout: Duration::from_secs(20),
            settle_timeout: Duration::from_secs(5),
            viewport: (1280, 1024),
            scale: 1.5,
            proxy,
            work_dir: work_dir.into(),
        }
    }
}

/// What to take a picture of, once the page is there.
#[derive(Clone, Debug)]
pub struct CaptureRules {
    /// CSS selectors of the product's area, best first: the first that matches something visible counts, and
    /// of its matches the largest. `body` is the last resort, named or not.
    pub selectors: Vec<String>,
    /// The picture is cut off to the right of this many CSS pixels.
    pub max_width: u32,
    /// The picture is cut off below this many CSS pixels.
    pub max_height: u32,
    /// Parts of the page that get pictures of their own.
    pub elements: Vec<ElementRule>,
    /// Whether the product's pictures are waited for.
    pub wait_for_images: bool,
    /// Instead of the browser's own.
    pub user_agent: Option<String>,
    /// Instead of [`BrowserSettings::page_timeout`].
    pub timeout: Option<Duration>,
}

impl Default for CaptureRules {
    fn default() -> CaptureRules {
        let selectors = ["[itemtype*=\"schema.org/Product\"]", ".product-detail", ".product", "main", "body"];
        CaptureRules {
            selectors: selectors.map(String::from).to_vec(),
            max_width: 2000,
            max_height: 2500,
            elements: ElementKind::ALL.map(ElementRule::usual).to_vec(),
            wait_for_images: true,
            user_agent: None,
            timeout: None,
        }
    }
}

/// A part of a product page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ElementKind {
    ProductImage,
    Title,
    ArticleNumber,
    Description,
    /// Prices by quantity.
    PriceTable,
    /// The one price; left out where there is a table.
    Price,
}

impl ElementKind {
    pub const ALL: [ElementKind; 6] = [
        ElementKind::ProductImage,
        ElementKind::Title,
        ElementKind::ArticleNumber,
        ElementKind::Description,
        ElementKind::PriceTable,
        ElementKind::Price,
    ];

    /// As files and rows are called.
    pub fn word(self) -> &'static str {
        match self {
            ElementKind::ProductImage => "product-image",
            ElementKind::Title => "title",
            ElementKind::ArticleNumber => "article-number",
            ElementKind::Description => "description",
            ElementKind::PriceTable => "price-table",
            ElementKind::Price => "price",
        }
    }
}

/// How a part of a product page is found.
#[derive(Clone, Debug)]
pub struct ElementRule {
    pub kind: ElementKind,
    /// CSS selectors, best first. Where none matches, what the element's text looks like decides.
    pub selectors: Vec<String>,
}

impl ElementRule {
    /// What known shop systems call it.
    pub fn usual(kind: ElementKind) -> ElementRule {
        let selectors: &[&str] = match kind {
            ElementKind::ProductImage => &[
                "[itemprop=image]",
                ".product-detail-media img, .gallery-slider-image, .product-image-container img",
                ".woocommerce-product-gallery__image img, .product__media img, .fotorama__img, .gallery-placeholder__image",
                "img",
            ],
            ElementKind::Title => &[
                ".product-detail-name, .product_title, .product__title, .page-title",
                "h1",
                "[itemprop=name]",
            ],
            ElementKind::ArticleNumber => &[
                ".product-detail-ordernumber-container, .product-detail-ordernumber",
                "[itemprop=sku]",
                ".sku_wrapper, .product.attribute.sku, .product__sku, .sku",
            ],
            ElementKind::Description => &[
                ".product-detail-description-text, .product-detail-description",
                "[itemprop=description]",
                ".woocommerce-product-details__short-description, #tab-description",
                ".product.attribute.description, .product.attribute.overview, .product__description",
            ],
            ElementKind::PriceTable => &[
                ".product-block-prices-grid, .product-block-prices, .product-detail-tiers",
                ".prices-tier, .tier-prices, .tiered-pricing-table, table[class*=tier], table[class*=staffel]",
            ],
            ElementKind::Price => &[
                ".product-detail-price",
                "p.price, .price__current, .price-item--regular, .price__regular, .product__price, .price-final_price",
                "[itemprop=price]",
                ".price",
            ],
        };
        ElementRule { kind, selectors: selectors.iter().map(ToString::to_string).collect() }
    }
}

/// What kind of prices a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    SinglePrice,
    TieredPrice,
    Unknown,
}

impl Layout {
    /// As rows and frontends call it.
    pub fn word(self) -> &'static str {
        match self {
            Layout::SinglePrice => "single_price",
            Layout::TieredPrice => "tiered_price",
            Layout::Unknown => "unknown",
        }
    }
}

/// The picture of a part of a page.
#[derive(Clone, Debug)]
pub struct Element {
    pub kind: ElementKind,
    /// Where it stands.
    pub place: Place,
    pub png: Bytes,
    /// Width of `png` in pixels.
    pub width: u32,
    /// Height of `png` in pixels.
    pub height: u32,
}

/// A box on a page, in CSS pixels from its top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Place {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Place {
    /// What a page says of itself, within bounds.
    fn tamed(self, max_width: f64, max_height: f64) -> Place {
        Place {
            x: self.x.clamp(0.0, FARTHEST),
            y: self.y.clamp(0.0, FARTHEST),
            width: self.width.clamp(1.0, max_width),
            height: self.height.clamp(1.0, max_height),
        }
    }

    fn with_margin(self) -> Place {
        let (x, y) = ((self.x - MARGIN).max(0.0), (self.y - MARGIN).max(0.0));
        Place { x, y, width: self.x + self.width + MARGIN - x, height: self.y + self.height + MARGIN - y }
    }

    /// What both have in common; `None` for nothing.
    fn common(self, other: Place) -> Option<Place> {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let width = (self.x + self.width).min(other.x + other.width) - x;
        let height = (self.y + self.height).min(other.y + other.height) - y;
        (width >= 1.0 && height >= 1.0).then_some(Place { x, y, width, height })
    }

    fn clip(self) -> Clip {
        Clip { x: self.x, y: self.y, width: self.width.ceil(), height: self.height.ceil(), scale: 1.0 }
    }
}

/// A page as its scripts made it.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub html: String,
    /// Where redirects led to.
    pub final_url: Url,
}

/// The picture of one page.
#[derive(Clone)]
pub struct Capture {
    pub png: Bytes,
    /// Width of `png` in pixels.
    pub width: u32,
    /// Height of `png` in pixels.
    pub height: u32,
    /// The same picture inside 400 × 400 pixels, never enlarged.
    pub thumbnail_png: Bytes,
    pub title: String,
    /// Where redirects led to.
    pub final_url: Url,
    /// Whether the page had finished loading; false when `settle_timeout` cut it short.
    pub complete: bool,
    /// At most one of each kind.
    pub elements: Vec<Element>,
    pub layout: Layout,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capture { width, height, final_url, complete, .. } = self;
        write!(f, "Capture({width}x{height} px of {final_url}, complete: {complete})")
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("the page was not there within {}", humantime(.0))]
    Timeout(Duration),
    #[error("the shop answered with status {0}")]
    Status(u16),
    /// Too many requests, or closed for a while, and the shop says when to come back.
    #[error("the shop answered with status {status} and asks to come back after {}", humantime(.retry_after))]
    Busy { status: u16, retry_after: Duration },
    #[error("the address leads to a place that may not be visited")]
    Refused,
    #[error("Chromium crashed: {0}")]
    Crashed(String),
    #[error("the page does not stay: it leads elsewhere again and again")]
    Restless,
    #[error("the page could not be opened: {0}")]
    Navigation(String),
    #[error("there is no browser: {0}")]
    NoBrowser(String),
}

impl CaptureError {
    /// Whether the same capture may well succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            CaptureError::Timeout(_) | CaptureError::Crashed(_) | CaptureError::Busy { .. } => true,
            CaptureError::Status(status) => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            CaptureError::Navigation(reason) => {
                ["CONNECTION", "TIMED_OUT", "EMPTY_RESPONSE", "NETWORK_CHANGED"]
                    .iter()
                    .any(|part| reason.contains(part))
            }
            CaptureError::Refused | CaptureError::NoBrowser(_) | CaptureError::Restless => false,
        }
    }
}

impl From<CdpError> for CaptureError {
    fn from(error: CdpError) -> CaptureError {
        CaptureError::Crashed(error.to_string())
    }
}

fn humantime(duration: &Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Takes pictures; the one thing that the stages see. Dropping it ends the browser.
pub struct BrowserPool {
    settings: BrowserSettings,
    pages: Arc<Semaphore>,
    chromium: Mutex<Option<Arc<Chromium>>>,
}

impl BrowserPool {
    /// Starts nothing yet: Chromium is launched by the first capture.
    pub fn new(settings: BrowserSettings) -> BrowserPool {
        let pages = Arc::new(Semaphore::new(settings.pages.max(1)));
        BrowserPool { settings, pages, chromium: Mutex::new(None) }
    }

    /// Opens `url` in a fresh, empty browser context and takes a picture of the product.
    pub async fn capture(&self, url: &Url, rules: &CaptureRules) -> Result<Capture, CaptureError> {
        let visit =
            async |tab: &Tab, visit: Visit<'_>| photograph(tab, visit, &self.settings, url, rules).await;
        let shot = self.visit(rules, visit).await?;
        tokio::task::spawn_blocking(move || shot.develop())
            .await
            .map_err(|error| CaptureError::Crashed(error.to_string()))?
    }

    /// Opens `url` in a fresh, empty browser context and reads what its scripts have made of it, to the end of a list
    /// that grows when it is scrolled, within bounds.
    pub async fn read(&self, url: &Url, rules: &CaptureRules) -> Result<Rendered, CaptureError> {
        let visit =
            async |tab: &Tab, visit: Visit<'_>| read_page(tab, visit, &self.settings, url, rules).await;
        self.visit(rules, visit).await
    }

    /// Something done in a tab of its own, with everything that a page may do to spoil it listened to.
    async fn visit<T>(
        &self,
        rules: &CaptureRules,
        work: impl AsyncFnOnce(&Tab, Visit<'_>) -> Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        let began = Instant::now();
        let visited = self.visit_uncounted(rules, work).instrument(tracing::info_span!("browser")).await;
        numbers().browser_visit.observe(began.elapsed().as_secs_f64());
        if matches!(visited, Err(CaptureError::Crashed(_))) {
            numbers().browser_crashes.inc();
        }
        visited
    }

    async fn visit_uncounted<T>(
        &self,
        rules: &CaptureRules,
        work: impl AsyncFnOnce(&Tab, Visit<'_>) -> Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        let tab = self.tab().await?;
        let limit = rules.timeout.unwrap_or(self.settings.page_timeout);
        let visit = async {
            if let Some(agent) = &rules.user_agent {
                tab.page.set_user_agent(agent.as_str()).await?;
            }
            let mut incidents = Incidents::of(&tab).await?;
            let loads = tab.page.event_listener::<EventLoadEventFired>().await?;
            let document = Notify::new();
            // Incidents come first: a refused page has a load event too.
            tokio::select! {
                biased;
                incident = incidents.first(&tab.page, &document) => Err(incident),
                done = work(&tab, Visit { loads, document: &document }) => done,
            }
        };
        tokio::select! {
            () = tab.context.chromium.gone() => Err(CaptureError::Crashed("the browser is gone".into())),
            done = timeout(limit, visit) => done.unwrap_or(Err(CaptureError::Timeout(limit))),
        }
    }

    /// Tabs that are in use, and those that may be.
    pub fn tabs(&self) -> (usize, usize) {
        let most = self.settings.pages.max(1);
        (most - self.pages.available_permits(), most)
    }

    /// Ends the browser and waits until its processes and its profile are gone. Captures under way fail,
    /// later ones are refused.
    pub async fn close(&self) {
        self.pages.close();
        if let Some(chromium) = self.chromium.lock().await.take() {
            chromium.end().await;
        }
    }

    /// A fresh tab, as soon as there is room for one. A browser that opens none has died since the last
    /// capture, or is as good as dead: it is replaced, once.
    async fn tab(&self) -> Result<Tab, CaptureError> {
        let permit = Arc::new(self.pages.clone().acquire_owned().await.map_err(|_| closed())?);
        let chromium = self.chromium().await?;
        match Tab::open(chromium.clone(), permit.clone()).await {
            Err(CaptureError::Crashed(reason)) => {
                numbers().browser_crashes.inc();
                tracing::warn!(reason, "Chromium opens no tab and is replaced");
                chromium.end().await;
                Tab::open(self.chromium().await?, permit).await
            }
            opened => opened,
        }
    }

    /// The running browser, started anew when there is none.
    async fn chromium(&self) -> Result<Arc<Chromium>, CaptureError> {
        let mut slot = self.chromium.lock().await;
        if self.pages.is_closed() {
            return Err(closed());
        }
        if let Some(chromium) = slot.as_ref().filter(|chromium| chromium.is_running()) {
            return Ok(chromium.clone());
        }
        let chromium = Arc::new(Chromium::launch(&self.settings).await?);
        numbers().browser_launches.inc();
        *slot = Some(chromium.clone());
        Ok(chromium)
    }
}

fn closed() -> CaptureError {
    CaptureError::NoBrowser("it was closed because the server is stopping".into())
}

// ---------------------------------------------------------------------------------------------------------------
// One capture

/// What tells how far a page is.
struct Visit<'a> {
    loads: EventStream<EventLoadEventFired>,
    /// The document has arrived.
    document: &'a Notify,
}

/// The picture as Chromium gave it, before it is looked at.
struct Shot {
    png: Vec<u8>,
    /// What it shows of the page.
    place: Place,
    title: String,
    final_url: Url,
    complete: bool,
    elements: Vec<FoundElement>,
    /// Pictures of those elements that `png` does not show, by their place in the list.
    extra: Vec<(usize, Vec<u8>)>,
}

impl Shot {
    /// Finds out the size and makes the thumbnail; a tenth of a second of computing, so not for the runtime.
    fn develop(self) -> Result<Capture, CaptureError> {
        let unreadable =
            |error: &dyn std::error::Error| CaptureError::Crashed(format!("unreadable picture: {error}"));
        let picture =
            image::load_from_memory_with_format(&self.png, ImageFormat::Png).map_err(|e| unreadable(&e))?;
        let (width, height) = (picture.width(), picture.height());
        let shrink = (f64::from(THUMBNAIL) / f64::from(width.max(height))).min(1.0);
        let fit = |side: u32| ((f64::from(side) * shrink).round() as u32).max(1);
        let mut thumbnail = DynamicImage::new(fit(width), fit(height), picture.color());
        Resizer::new().resize(&picture, &mut thumbnail, None).map_err(|e| unreadable(&e))?;
        let mut thumbnail_png = Cursor::new(Vec::new());
        thumbnail.write_to(&mut thumbnail_png, ImageFormat::Png).map_err(|e| unreadable(&e))?;
        let mut elements = Vec::new();
        for (at, found) in self.elements.iter().enumerate() {
            if let Some((_, png)) = self.extra.iter().find(|(of, _)| *of == at) {
                let size =
                    image::load_from_memory_with_format(png, ImageFormat::Png).map_err(|e| unreadable(&e))?;
                elements.push(Element {
                    kind: found.kind,
                    place: found.place,
                    png: png.clone().into(),
                    width: size.width(),
                    height: size.height(),
                });
            } else if let Some(part) = found.place.with_margin().common(self.place) {
                let pixels = f64::from(width) / self.place.width.ceil();
                let part = picture.crop_imm(
                    ((part.x - self.place.x) * pixels).round() as u32,
                    ((part.y - self.place.y) * pixels).round() as u32,
                    ((part.width * pixels).round() as u32).max(1),
                    ((part.height * pixels).round() as u32).max(1),
                );
                if part.width() == 0 || part.height() == 0 {
                    continue;
                }
                let mut png = Vec::new();
                // Small pictures that are seldom looked at: time counts for more than bytes.
                let encoder =
                    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive);
                // Chromium's pictures have an alpha channel that says nothing.
                part.to_rgb8().write_with_encoder(encoder).map_err(|e| unreadable(&e))?;
                elements.push(Element {
                    kind: found.kind,
                    place: found.place,
                    png: png.into(),
                    width: part.width(),
                    height: part.height(),
                });
            }
        }
        let has = |kind| elements.iter().any(|element: &Element| element.kind == kind);
        let layout = match () {
            () if has(ElementKind::PriceTable) => Layout::TieredPrice,
            () if has(ElementKind::Price) => Layout::SinglePrice,
            () => Layout::Unknown,
        };
        Ok(Capture {
            png: self.png.into(),
            width,
            height,
            thumbnail_png: thumbnail_png.into_inner().into(),
            title: self.title,
            final_url: self.final_url,
            complete: self.complete,
            elements,
            layout,
        })
    }
}

/// The tab of one capture in a browser context of its own: no cookie, no cache, no storage outlives it.
/// Closes when dropped, and frees its place in the pool only then.
struct Tab {
    page: Page,
    frame: FrameId,
    context: Context,
}

struct Context {
    chromium: Arc<Chromium>,
    id: BrowserContextId,
    permit: Arc<OwnedSemaphorePermit>,
}

impl Tab {
    /// Runs as a task of its own, so that a caller who gives up in between does not leave half a tab behind.
    async fn open(chromium: Arc<Chromium>, permit: Arc<OwnedSemaphorePermit>) -> Result<Tab, CaptureError> {
        let opening = tokio::spawn(async move {
            let proxied = CreateBrowserContextParams {
                proxy_server: Some(format!("http://{}", chromium.proxy)),
                // Without it loopback addresses go past the proxy.
                proxy_bypass_list: Some("<-loopback>".into()),
                ..CreateBrowserContextParams::default()
            };
            let id = chromium.browser.create_browser_context(proxied).await?;
            let context = Context { chromium, id, permit };
            let browser = &context.chromium.browser;
            browser
                .execute(SetDownloadBehaviorParams {
                    behavior: SetDownloadBehaviorBehavior::Deny,
                    browser_context_id: Some(context.id.clone()),
                    download_path: None,
                    events_enabled: None,
                })
                .await?;
            let mut target = CreateTargetParams::new("about:blank");
            target.browser_context_id = Some(context.id.clone());
            let page = browser.new_page(target).await?;
            page.evaluate_on_new_document(NO_DIALOGS).await?;
            let frame = page.mainframe().await?.ok_or(CdpError::NotFound)?;
            Ok(Tab { page, frame, context })
        });
        match timeout(LAUNCH_TIMEOUT, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => Err(CaptureError::Crashed(error.to_string())),
            Err(_) => Err(CaptureError::Crashed("it does not answer any more".into())),
        }
    }

    /// Evaluates `expression`. A page that is too busy to answer within `patience` has its script cut off,
    /// once.
    async fn ask<T: DeserializeOwned>(
        &self,
        expression: &str,
        patience: Duration,
    ) -> Result<T, CaptureError> {
        for _ in 0..ASKED_AGAIN {
            match timeout(patience, self.evaluate(expression)).await {
                Ok(Err(error)) if is_elsewhere(&error) => tokio::time::sleep(ASKED_AGAIN_AFTER).await,
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(answer)) => return Ok(answer),
                Err(_) => return self.interrupt_and_ask(expression).await,
            }
        }
        Err(CaptureError::Restless)
    }

    /// Evaluates `expression` in a page whose own script keeps it from answering.
    async fn interrupt_and_ask<T: DeserializeOwned>(&self, expression: &str) -> Result<T, CaptureError> {
        // What is cut off is what runs next: the page's script or, if that has just ended by itself, our
        // question.
        let cut_off = self.page.execute(TerminateExecutionParams::default());
        let (_, answer) = tokio::join!(cut_off, self.evaluate(expression));
        match answer {
            Ok(answer) => Ok(answer),
            Err(_) => Ok(self.evaluate(expression).await?),
        }
    }

    /// In a world of its own, where the page's scripts can neither see nor spoil it.
    async fn evaluate<T: DeserializeOwned>(&self, expression: &str) -> Result<T, CdpError> {
        let world = self.page.execute(CreateIsolatedWorldParams::new(self.frame.clone())).await?;
        let mut question = EvaluateParams::new(expression);
        question.context_id = Some(world.result.execution_context_id);
        question.await_promise = Some(true);
        question.return_by_value = Some(true);
        Ok(self.page.evaluate_expression(question).await?.into_value()?)
    }
}

/// Whether the page has gone elsewhere while it was asked.
fn is_elsewhere(error: &CdpError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    ["execution context was destroyed", "cannot find context", "no frame for given id", "navigated or closed"]
        .iter()
        .any(|part| text.contains(part))
}

impl Drop for Context {
    fn drop(&mut self) {
        let (chromium, id, permit) = (self.chromium.clone(), self.id.clone(), self.permit.clone());
        // Without a runtime the browser is about to end, and this context with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let disposed = timeout(CLOSE_TIMEOUT, chromium.browser.dispose_browser_context(id)).await;
            if disposed.is_err() {
                tracing::warn!("Chromium does not close its tabs any more and is replaced");
                chromium.kill();
            }
            drop(permit);
        });
    }
}

/// What a page may do to spoil its capture, listened to from before it is opened until the picture is taken.
struct Incidents {
    frame: FrameId,
    documents: usize,
    responses: EventStream<EventResponseReceived>,
    dialogs: EventStream<EventJavascriptDialogOpening>,
    crashes: EventStream<EventTargetCrashed>,
}

impl Incidents {
    async fn of(tab: &Tab) -> Result<Incidents, CaptureError> {
        Ok(Incidents {
            frame: tab.frame.clone(),
            documents: 0,
            responses: tab.page.event_listener().await?,
            dialogs: tab.page.event_listener().await?,
            crashes: tab.page.event_listener().await?,
        })
    }

    /// Dismisses dialogs, tells when a `document` has arrived, and returns only when the capture is spoilt.
    async fn first(&mut self, page: &Page, document: &Notify) -> CaptureError {
        loop {
            tokio::select! {
                Some(event) = self.responses.next() => {
                    if event.r#type != ResourceType::Document || event.frame_id.as_ref() != Some(&self.frame) {
                        continue;
                    }
                    let headers = event.response.headers.inner().as_object();
                    if headers.is_some_and(|all| all.keys().any(|name| name.eq_ignore_ascii_case("x-jobcast-refused"))) {
                        return CaptureError::Refused;
                    }
                    if let Ok(status @ 400..) = u16::try_from(event.response.status) {
                        let asked = headers.and_then(|all| {
                            let mut named = all.iter().filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
                            retry_after(named.next()?.1.as_str()?)
                        });
                        return match asked {
                            Some(retry_after) if matches!(status, 429 | 503) => CaptureError::Busy { status, retry_after },
                            _ => CaptureError::Status(status),
                        };
                    }
                    self.documents += 1;
                    if self.documents > MAX_DOCUMENTS {
                        return CaptureError::Restless;
                    }
                    document.notify_one();
                }
                Some(dialog) = self.dialogs.next() => {
                    // To accept "leave this page?" is to let the page go; everything else is answered with
                    // no.
                    let leave = dialog.r#type == DialogType::Beforeunload;
                    let answered = page.execute(HandleJavaScriptDialogParams::new(leave)).await;
                    if let Err(error) = answered {
                        tracing::debug!(%error, "a dialog was gone before it was dismissed");
                    }
                }
                Some(_) = self.crashes.next() => return CaptureError::Crashed("the page's process died".into()),
                else => return CaptureError::Crashed("the connection to the browser is gone".into()),
            }
        }
    }
}

/// What [`PREPARE`] finds out.
#[derive(Deserialize)]
struct Answer {
    area: Place,
    title: String,
    url: Url,
    complete: bool,
    elements: Vec<FoundElement>,
}

/// A part of the page that was looked for.
#[derive(Clone, Copy, Deserialize)]
struct FoundElement {
    kind: ElementKind,
    place: Place,
}

/// What [`READ`] finds.
#[derive(Deserialize)]
struct ReadAnswer {
    html: String,
    url: Url,
}

/// Answers dialogs with no before they open: a loop of dialogs is then a loop like any other, and can be cut
/// off. Those that open all the same (before a page is left, in frames) are dismissed when they do.
const NO_DIALOGS: &str = "alert = print = () => {}; confirm = () => false; prompt = () => null;";

/// Clicks the button that agrees to cookies, if there is one that leads nowhere else, and waits a moment for its
/// banner to go. Open shadow trees are looked into. Whether there was one.
const CONSENT: &str = r#"(async () => {
    const texts = ['alle cookies akzeptieren', 'alle akzeptieren', 'accept all cookies', 'accept all', 'akzeptieren',
        'alles akzeptieren', 'allen zustimmen', 'accept cookies', 'allow all', 'agree to all'];
    const roots = [document];
    for (const element of [...document.querySelectorAll('*')].slice(0, 5000)) {
        if (element.shadowRoot && roots.length < 20) roots.push(element.shadowRoot);
    }
    const leadsNowhere = link => !link.getAttribute('href') || /^(#|javascript:)/i.test(link.getAttribute('href'));
    const buttons = roots
        .flatMap(root => [...root.querySelectorAll('button, [role=button], input[type=button], input[type=submit], a')])
        .slice(0, 1000)
        .filter(button => button.tagName !== 'A' || leadsNowhere(button))
        .map(button => [button, (button.innerText || button.value || '').trim().toLowerCase()])
        .filter(([, text]) => text && text.length < 60);
    const shows = button => {
        const { width, height } = button.getBoundingClientRect();
        return button.isConnected && width > 0 && height > 0 && getComputedStyle(button).visibility === 'visible';
    };
    for (const text of texts) {
        const [button] = buttons.find(([button, says]) => says.includes(text) && shows(button)) ?? [];
        if (!button) continue;
        button.click();
        for (let waited = 0; waited < 500 && shows(button); waited += 25) {
            await new Promise(done => setTimeout(done, 25));
        }
        return true;
    }
    return false;
})()"#;

/// Reads the page to the end of a list that grows when it is scrolled or asked for more.
const READ: &str = r#"(async ({ rounds, budget, limit }) => {
    const until = performance.now() + budget;
    const more = /^(mehr (laden|anzeigen)|weitere (artikel|produkte)( laden| anzeigen)?|load more|show more)\b/i;
    const grown = () => document.querySelectorAll('a[href]').length;
    for (let round = 0; round < rounds && performance.now() < until; round++) {
        const before = grown();
        scrollTo(0, Math.max(document.documentElement.scrollHeight, document.scrollingElement?.scrollHeight ?? 0));
        // A tab that draws no frames is told of no scrolling.
        document.dispatchEvent(new Event('scroll', { bubbles: true }));
        const button = [...document.querySelectorAll('button, [role=button]')].slice(0, 500)
            .find(button => more.test((button.innerText || '').trim()) && !button.disabled);
        button?.click();
        const patience = Math.min(until, performance.now() + 1000);
        while (grown() === before && performance.now() < patience) await new Promise(done => setTimeout(done, 25));
        if (grown() === before) break;
    }
    return { html: document.documentElement.outerHTML.slice(0, limit), url: location.href };
})"#;

/// Finds the product's area and its parts, hides what floats above it (cookie banners, chat windows), waits for its
/// pictures and fonts, and measures everything in CSS pixels from the document's top left corner. Runs in a world of
/// its own.
const PREPARE: &str = r#"(async ({ selectors, budget, elements, images: wait }) => {
    const size = element => { const box = element.getBoundingClientRect(); return box.width * box.height; };
    const visible = element => {
        const box = element.getBoundingClientRect();
        return box.width >= 100 && box.height >= 50 && getComputedStyle(element).visibility === 'visible';
    };
    let area;
    for (const selector of selectors) {
        let found = [];
        try { found = [...document.querySelectorAll(selector)].slice(0, 200).filter(visible); } catch {}
        area = found.sort((a, b) => size(b) - size(a))[0];
        if (area) break;
    }
    area ??= document.body ?? document.documentElement;

    for (const element of [...document.querySelectorAll('body *')].slice(0, 5000)) {
        const floats = ['fixed', 'sticky'].includes(getComputedStyle(element).position);
        if (floats && !element.contains(area) && !area.contains(element)) {
            element.style.setProperty('visibility', 'hidden', 'important');
        }
    }
    const banners = '#onetrust-consent-sdk, #CybotCookiebotDialog, #usercentrics-root, #uc-center-container, ' +
        '.cookie-permission-container, .js-cookie-configuration, #cookie-law-info-bar, .cc-window, .cky-consent-container, ' +
        '#BorlabsCookieBox, #cmpbox, #didomi-host, .cookie-banner, .cookie-consent, .cookie-notice, #cookie-notice';
    for (const banner of [...document.querySelectorAll(banners)].slice(0, 50)) {
        if (!banner.contains(area)) banner.style.setProperty('display', 'none', 'important');
    }

    const images = [...area.querySelectorAll('img')].slice(0, 200);
    for (const image of images) image.loading = 'eager';
    const loaded = image => image.complete || new Promise(done => {
        image.addEventListener('load', done, { once: true });
        image.addEventListener('error', done, { once: true });
    });
    const complete = await Promise.race([
        Promise.all([document.fonts.ready, ...(wait ? images.map(loaded) : [])]).then(() => true),
        new Promise(done => setTimeout(done, budget, false)),
    ]);

    scrollTo(0, 0);
    const place = element => {
        const { left, top, width, height } = element.getBoundingClientRect();
        return { x: left + scrollX, y: top + scrollY, width, height };
    };
    const shows = element => {
        const { width, height } = element.getBoundingClientRect();
        return width >= 8 && height >= 8 && getComputedStyle(element).visibility === 'visible';
    };
    const own = element => [...element.childNodes].filter(node => node.nodeType === 3)
        .map(node => node.data.slice(0, 200)).join(' ').trim();
    const money = /(\d[.,]\d{2}\s*(€|EUR))|((€|EUR|\$|£)\s*\d)/;
    const inside = () => [...area.querySelectorAll('*')].slice(0, 3000);
    // What is looked for by what it says, where no selector finds it.
    const guesses = {
        'article-number': () => inside().find(element => shows(element) &&
            /^(art\.?\s*-?\s*nr|artikel\s*-?\s*(nr|nummer)|sku|item (no|number|#)|bestell\s*-?\s*(nr|nummer))/i.test(own(element))),
        'price-table': () => [...area.querySelectorAll('table')].slice(0, 50).find(table => shows(table) &&
            table.rows.length > 1 && money.test(table.innerText.slice(0, 5000)) &&
            /(ab|from|>=?)\s*\d+|staffel|\d+\s*(stück|stk|pcs|\+)|menge|quantity|qty/i.test(table.innerText.slice(0, 5000))),
        'price': () => inside().filter(element => money.test(own(element)) && !element.closest('table') && shows(element))
            .sort((a, b) => parseFloat(getComputedStyle(b).fontSize) - parseFloat(getComputedStyle(a).fontSize))[0],
    };
    const found = [];
    for (const { kind, selectors } of elements) {
        if (kind === 'price' && found.some(({ kind }) => kind === 'price-table')) continue;
        let element;
        for (const root of [area, document]) {
            for (const selector of selectors) {
                // Pictures of related products stand elsewhere on the page.
                if (root === document && selector === 'img') continue;
                let matches = [];
                try { matches = [...root.querySelectorAll(selector)].slice(0, 200).filter(shows); } catch {}
                if (kind === 'product-image') {
                    matches = matches.filter(image => image.getBoundingClientRect().width > 100)
                        .sort((a, b) => size(b) - size(a));
                }
                element = matches[0];
                if (element) break;
            }
            element ??= root === area ? guesses[kind]?.() : undefined;
            if (element) break;
        }
        if (element) found.push({ kind, place: place(element) });
    }
    return {
        area: place(area), complete, elements: found,
        title: document.title.slice(0, 1000), url: location.href,
    };
})"#;

/// Opens the page and lets it settle. Whether it had loaded in time.
async fn open(
    tab: &Tab,
    visit: &mut Visit<'_>,
    settings: &BrowserSettings,
    url: &Url,
) -> Result<bool, CaptureError> {
    if !matches!(url.scheme(), "http" | "https") {
        let why = format!("only http and https are opened, not {}:", url.scheme());
        return Err(CaptureError::Navigation(why));
    }
    let settled = async {
        visit.document.notified().await;
        tokio::time::sleep(settings.settle_timeout).await;
    };
    // `goto` ends when every frame has loaded, which a page can put off for ever; what matters are its
    // errors.
    let opening = tab.page.goto(url.as_str()).fuse();
    tokio::pin!(opening);
    let loaded = tokio::select! {
        Some(_) = visit.loads.next() => true,
        opened = &mut opening => opened.map(|_| true).map_err(not_opened)?,
        () = settled => false,
    };
    let address: String = tab.ask("location.href", SCRIPT_PATIENCE).await?;
    if !address.starts_with("http") {
        // Chromium's own error page, or still the empty one because there was nothing to show.
        let opened = timeout(SCRIPT_PATIENCE, opening).await;
        let reason = CdpError::msg("there is no page at this address");
        return Err(not_opened(opened.ok().and_then(Result::err).unwrap_or(reason)));
    }
    Ok(loaded)
}

/// Agrees to cookies. A page that goes elsewhere because of it is waited for.
async fn agree(tab: &Tab, visit: &mut Visit<'_>, settings: &BrowserSettings) {
    let asked: Result<bool, CaptureError> = tab.ask(CONSENT, SCRIPT_PATIENCE).await;
    if let Err(error) = asked {
        tracing::debug!(%error, "a page went elsewhere when it was agreed to its cookies");
        let _ = timeout(settings.settle_timeout, visit.loads.next()).await;
    }
}

/// Opens the page, measures the product's area and its parts, and takes the picture.
async fn photograph(
    tab: &Tab,
    mut visit: Visit<'_>,
    settings: &BrowserSettings,
    url: &Url,
    rules: &CaptureRules,
) -> Result<Shot, CaptureError> {
    let loaded = open(tab, &mut visit, settings, url).await?;
    agree(tab, &mut visit, settings).await;
    let budget = if loaded { settings.settle_timeout } else { Duration::ZERO };
    let elements: Vec<serde_json::Value> =
        rules.elements.iter().map(|rule| json!({ "kind": rule.kind, "selectors": rule.selectors })).collect();
    let order = json!({
        "selectors": rules.selectors,
        "budget": budget.as_millis() as u64,
        "elements": elements,
        "images": rules.wait_for_images,
    });
    let answer: Answer = tab.ask(&format!("{PREPARE}({order})"), budget + SCRIPT_PATIENCE).await?;
    let place = answer.area.tamed(f64::from(rules.max_width), f64::from(rules.max_height));
    let tamed = |found: &FoundElement| FoundElement {
        kind: found.kind,
        place: found.place.tamed(f64::from(rules.max_width), f64::from(rules.max_height)),
    };
    let elements: Vec<FoundElement> =
        answer.elements.iter().take(ElementKind::ALL.len()).map(tamed).collect();
    let png = picture(tab, place).await?;
    let mut extra = Vec::new();
    for (at, element) in elements.iter().enumerate() {
        let shown = element.place.common(place).map_or(0.0, |part| part.width * part.height);
        let is_shown = shown >= INSIDE * element.place.width * element.place.height;
        if !is_shown && extra.len() < MAX_EXTRA_SHOTS {
            extra.push((at, picture(tab, element.place.with_margin()).await?));
        }
    }
    Ok(Shot {
        png,
        place,
        title: answer.title.chars().filter(|c| !c.is_control()).collect(),
        final_url: answer.url,
        complete: loaded && answer.complete,
        elements,
        extra,
    })
}

/// The picture of a part of the page.
async fn picture(tab: &Tab, place: Place) -> Result<Vec<u8>, CaptureError> {
    let png = CaptureScreenshotParams {
        format: Some(CaptureScreenshotFormat::Png),
        quality: None,
        clip: Some(place.clip()),
        from_surface: Some(true),
        // Without it everything below the window is blank.
        capture_beyond_viewport: Some(true),
        optimize_for_speed: None,
    };
    Ok(tab.page.screenshot(chromiumoxide::page::ScreenshotParams::from(png)).await?)
}

/// Opens the page and reads what its scripts made of it.
async fn read_page(
    tab: &Tab,
    mut visit: Visit<'_>,
    settings: &BrowserSettings,
    url: &Url,
    rules: &CaptureRules,
) -> Result<Rendered, CaptureError> {
    open(tab, &mut visit, settings, url).await?;
    agree(tab, &mut visit, settings).await;
    let limit = rules.timeout.unwrap_or(settings.page_timeout);
    // Something must be left of the page's time for the answer.
    let budget = settings.settle_timeout.min(limit / 2);
    let order = json!({ "rounds": MAX_SCROLLS, "budget": budget.as_millis() as u64, "limit": MAX_RENDERED });
    let read: ReadAnswer = tab.ask(&format!("{READ}({order})"), budget + SCRIPT_PATIENCE).await?;
    Ok(Rendered { html: read.html, final_url: read.url })
}

fn not_opened(error: CdpError) -> CaptureError {
    match error {
        CdpError::ChromeMessage(reason) => CaptureError::Navigation(reason),
        other => other.into(),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// One browser

/// A running Chromium; killed when dropped.
struct Chromium {
    browser: Browser,
    leash: Leash,
    proxy: SocketAddr,
}

/// Kills its process when dropped.
struct Leash(Process);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Chromium {
    async fn launch(settings: &BrowserSettings) -> Result<Chromium, CaptureError> {
        let executable = find_executable(settings)?;
        let leash = match Process::start(settings, &executable, Sandbox::On).await {
            Err(reason) if reason.to_ascii_lowercase().contains("sandbox") => {
                tracing::warn!(
                    "Chromium's own sandbox does not work for its user here and is left out; \
                     run it as a user who may make user namespaces, or apt-get install chromium-sandbox"
                );
                Process::start(settings, &executable, Sandbox::Off).await
            }
            started => started,
        }
        .map_err(CaptureError::NoBrowser)?;

        let (width, height) = settings.viewport;
        let config = HandlerConfig {
            ignore_https_errors: false,
            viewport: Some(Viewport {
                width,
                height,
                device_scale_factor: Some(settings.scale),
                ..Viewport::default()
            }),
            // The capture's own limit comes first.
            request_timeout: settings.page_timeout + CLOSE_TIMEOUT,
            ..HandlerConfig::default()
        };
        let connecting = Browser::connect_with_config(leash.0.debugger.clone(), config);
        let (browser, handler) = timeout(LAUNCH_TIMEOUT, connecting)
            .await
            .map_err(|_| CaptureError::Crashed("its debugging port does not answer".into()))??;
        tokio::spawn(drive(handler, Leash(leash.0.clone())));
        Ok(Chromium { browser, leash, proxy: settings.proxy })
    }

    fn is_running(&self) -> bool {
        self.leash.0.is_running()
    }

    /// Waits until the process and its profile are gone.
    async fn gone(&self) {
        self.leash.0.clone().gone().await;
    }

    fn kill(&self) {
        self.leash.0.kill();
    }

    /// Kills it and waits until it is gone.
    async fn end(&self) {
        self.kill();
        if timeout(CLOSE_TIMEOUT, self.gone()).await.is_err() {
            tracing::warn!("Chromium's processes did not end in time");
        }
    }
}

/// Carries messages between us and the browser until one of both ends. A browser that can no longer be talked
/// to is killed, and commands that still wait for an answer fail at once.
async fn drive(mut handler: Handler, leash: Leash) {
    let talk = async {
        while let Some(message) = handler.next().await {
            if let Err(error) = message {
                tracing::debug!(%error, "the conversation with Chromium broke off");
                break;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        () = leash.0.clone().gone() => {}
        () = end_the_greedy(&leash.0) => {}
    }
}

/// Ends pages' processes that take more memory than a page may, as long as the browser lives. A page's arrays lie outside
/// of the heap that Chromium bounds.
async fn end_the_greedy(browser: &Process) {
    let group = browser.pid.as_raw_nonzero().get();
    let mut looks = tokio::time::interval(LOOK_AT_MEMORY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            for pid in greedy(group, MAX_RENDERER) {
                tracing::warn!(%pid, "a page takes too much memory and is ended");
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}

/// Page processes of a process group with more than so many bytes in memory.
fn greedy(group: i32, limit: u64) -> Vec<i32> {
    let page = rustix::param::page_size() as u64;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // "pid (name) state ppid pgrp …", and the name may hold anything.
        let stat = read("stat");
        let of_group = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2));
        if of_group != Some(&*group.to_string()) {
            return false;
        }
        let resident = read("statm").split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        resident.unwrap_or(0) * page > limit && read("cmdline").contains("--type=renderer")
    })
    .collect()
}

/// Names of Chromium's program. The headless shell comes first: the full browser draws a window of its own around each
/// page even if nobody sees it, which costs three times as much of a processor a picture.
/// Debian's script around it on `PATH` stays between us and it, and would die with us in its place.
const PROGRAMS: [&str; 5] = [
    "/usr/lib/chromium/chromium-headless-shell",
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

/// The first Chromium on `PATH`.
pub fn find_program() -> Option<PathBuf> {
    PROGRAMS.into_iter().find_map(crate::process::find_program)
}

fn find_executable(settings: &BrowserSettings) -> Result<PathBuf, CaptureError> {
    let found = match &settings.executable {
        Some(path) => Some(path.clone()).filter(|path| path.is_file()),
        None => find_program(),
    };
    found.ok_or_else(|| {
        let place = settings.executable.as_ref().map_or("PATH".into(), |path| path.display().to_string());
        CaptureError::NoBrowser(format!(
            "no Chromium at {place}; run `apt-get install chromium-headless-shell` or set its path"
        ))
    })
}

// ---------------------------------------------------------------------------------------------------------------
// One process

#[derive(Clone, Copy, PartialEq)]
enum Sandbox {
    On,
    Off,
}

/// A handle on the browser's process, which a thread of its own sees through from its profile's first file to
/// the last one's removal.
///
/// The thread is there because the kernel's "kill me when my parent dies" means the parent *thread*: a thread
/// of the runtime may end while the server lives on, this one ends only after Chromium has.
#[derive(Clone)]
struct Process {
    pidfd: Arc<OwnedFd>,
    /// Its number, and that of its group.
    pid: Pid,
    /// Where the debugging port listens, as a `ws://` address.
    debugger: String,
    /// Closes when the process and its profile are gone.
    gone: watch::Receiver<()>,
}

impl Process {
    /// Starts Chromium and waits for its debugging port; the error is what it said instead.
    async fn start(settings: &BrowserSettings, executable: &Path, sandbox: Sandbox) -> Result<Leash, String> {
        let (opened, opening) = oneshot::channel();
        let (alive, gone) = watch::channel(());
        let (settings, executable) = (settings.clone(), executable.to_owned());
        let life = move || {
            see_through(&settings, &executable, sandbox, opened);
            drop(alive);
        };
        std::thread::Builder::new().name("chromium".into()).spawn(life).map_err(|error| error.to_string())?;
        let (pidfd, pid, listening) = opening.await.map_err(|_| "its thread died".to_owned())??;
        let mut leash = Leash(Process { pidfd: Arc::new(pidfd), pid, debugger: String::new(), gone });
        let said = match timeout(LAUNCH_TIMEOUT, listening).await {
            Ok(Ok(Ok(debugger))) => {
                leash.0.debugger = debugger;
                return Ok(leash);
            }
            Ok(Ok(Err(said))) => said,
            Ok(Err(_)) | Err(_) => format!("it did not start within {}", humantime(&LAUNCH_TIMEOUT)),
        };
        leash.0.kill();
        leash.0.clone().gone().await;
        Err(said)
    }

    fn is_running(&self) -> bool {
        self.gone.has_changed().is_ok()
    }

    async fn gone(mut self) {
        while self.gone.changed().await.is_ok() {}
    }

    /// Through the descriptor: the number may belong to someone else by now. An error means it is dead
    /// already.
    fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// The descriptor of a process that was started, and the promise of where it listens or what it said instead.
type Started = (OwnedFd, Pid, oneshot::Receiver<Result<String, String>>);

/// The whole life of one browser process, told from top to bottom.
fn see_through(
    settings: &BrowserSettings,
    executable: &Path,
    sandbox: Sandbox,
    opened: oneshot::Sender<Result<Started, String>>,
) {
    let user = settings.run_as.filter(|_| rustix::process::geteuid().is_root());
    let profile = match Profile::make(&settings.work_dir, user) {
        Ok(profile) => profile,
        Err(error) => {
            let place = settings.work_dir.display();
            return drop(opened.send(Err(format!("no profile can be made below {place}: {error}"))));
        }
    };
    let started =
        command(settings, executable, sandbox, user, &profile.path).spawn().and_then(|mut child| {
            let pid = Pid::from_child(&child);
            let stderr = child.stderr.take().ok_or_else(|| io::Error::other("stderr is not a pipe"))?;
            Ok((rustix::process::pidfd_open(pid, PidfdFlags::empty())?, pid, stderr, child))
        });
    let (pidfd, pid, stderr, mut child) =
        match started {
            Ok(started) => started,
            Err(error) => {
                return drop(opened.send(Err(format!(
                    "{error}; it is started through setpriv (apt-get install util-linux)"
                ))));
            }
        };
    let (heard, listening) = oneshot::channel();
    let listener = std::thread::spawn(move || listen(stderr, heard));
    if opened.send(Ok((pidfd, pid, listening))).is_err() {
        // Nobody waits for it any more.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }

    // Wait without reaping: until the process is reaped its number, and so its group's, cannot be given away.
    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let _ = child.wait();
    // Its standard error ends when the last of its processes has let go of it.
    let _ = listener.join();
    drop(profile);
}

/// Reads what Chromium says to the end, lest it blocks on a full pipe, and passes on where it listens.
fn listen(mut stderr: ChildStderr, heard: oneshot::Sender<Result<String, String>>) {
    let mut heard = Some(heard);
    let (mut said, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stderr.read(&mut piece) {
        if heard.is_none() {
            continue;
        }
        said.extend_from_slice(&piece[..length]);
        said.drain(..said.len().saturating_sub(STDERR_TAIL));
        let text = String::from_utf8_lossy(&said);
        let address = text.split_once("DevTools listening on ").and_then(|(_, rest)| rest.split_once('\n'));
        if let Some((address, _)) = address {
            let address = address.trim().to_owned();
            heard.take().map(|heard| heard.send(Ok(address)));
        }
    }
    if let Some(heard) = heard {
        let said = String::from_utf8_lossy(&said);
        // The desktop's message bus is missing on every server and never the reason.
        let reasons =
            said.lines().filter(|line| !line.contains("dbus")).fold(String::new(), |mut all, line| {
                let _ = write!(all, "{line} ");
                all
            });
        let _ = heard.send(Err(format!("Chromium ended at once and said: {}", reasons.trim())));
    }
}

/// Chromium with everything that makes it quiet, alone and dependent on us.
fn command(
    settings: &BrowserSettings,
    executable: &Path,
    sandbox: Sandbox,
    user: Option<(u32, u32)>,
    profile: &Path,
) -> Command {
    let mut command = Command::new("setpriv");
    // The kernel forgets the signal when the user changes; setpriv asks for it last.
    command.args(["--pdeathsig", "KILL"]);
    if let Some((uid, gid)) = user {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.arg("--").arg(executable);
    if sandbox == Sandbox::Off {
        command.arg("--no-sandbox");
    }
    // Containers often have a tiny one; then Chromium's shared memory is files in its profile, which is
    // slower.
    let shared_memory = rustix::fs::statvfs("/dev/shm").map_or(0, |place| place.f_blocks * place.f_frsize);
    if shared_memory < LEAST_SHARED_MEMORY {
        command.arg("--disable-dev-shm-usage");
    }
    let (width, height) = settings.viewport;
    command
        .arg("--headless")
        .arg("--remote-debugging-port=0")
        .arg(format!("--js-flags=--max-old-space-size={MAX_HEAP}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},{height}"))
        // Pages have the vetting proxy, given with their browser context. What Chromium itself would like to
        // tell its makers has this one, which is nowhere, and no names to find a way around it.
        .arg("--proxy-server=http://nowhere.invalid:1")
        .arg(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {}", settings.proxy.ip()))
        // The full browser ignores the older name, the headless shell the newer one: the test of this is the only proof.
        .arg("--webrtc-ip-handling-policy=disable_non_proxied_udp")
        .arg("--force-webrtc-ip-handling-policy=disable_non_proxied_udp")
        // The full browser blocks windows that nobody clicked for, the headless shell only those that it is told to.
        .arg("--block-new-web-contents")
        .args(["--disable-quic", "--dns-prefetch-disable", "--no-pings"])
        // Nothing of its own accord.
        .args(["--no-first-run", "--no-default-browser-check", "--disable-sync", "--disable-extensions"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-domain-reliability",
        ])
        .args(["--disable-breakpad", "--disable-crash-reporter", "--metrics-recording-only", "--mute-audio"])
        .arg("--disable-features=MediaRouter,Translate,OptimizationHints,AutofillServerCommunication")
        .arg("--password-store=basic")
        // Letters without coloured fringes, in the shop's language.
        .args([
            "--disable-lcd-text",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--accept-lang=de-DE,de,en",
        ])
        .arg("about:blank")
        // Not our environment: it holds the server's secrets.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LANG", "C.UTF-8")
        .envs(
            ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"]
                .map(|name| (name, profile)),
        )
        // A group of its own: Ctrl-C is for the server, which then stops in order, and the group is killed as
        // one.
        .process_group(0)
        .current_dir(profile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A throw-away profile folder, held by a lock as long as its browser lives and removed when dropped.
struct Profile {
    path: PathBuf,
    _lock: File,
}

impl Profile {
    /// Makes a fresh one, and removes those whose server was killed before it could.
    fn make(work_dir: &Path, owner: Option<(u32, u32)>) -> io::Result<Profile> {
        fs::create_dir_all(work_dir)?;
        let work_dir = work_dir.canonicalize()?;
        // Between another server's making a folder and locking it, it looks abandoned: one at a time.
        let turn = File::open(&work_dir)?;
        turn.lock()?;
        for entry in fs::read_dir(&work_dir)?.flatten() {
            let abandoned = entry.file_name().to_string_lossy().starts_with("chromium-")
                && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
            if abandoned {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = work_dir.join(format!("chromium-{:08x}", uuid::Uuid::new_v4().as_fields().0));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        lock.lock()?;
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        Ok(Profile { path, _lock: lock })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, profile = %self.path.display(), "a browser profile stays behind until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;

    use axum::Router;
    use axum::http::{Method, StatusCode, Uri, header};
    use axum::response::{Html, IntoResponse, Response};
    use tempfile::TempDir;
    use tokio::io::unix::AsyncFd;
    use tokio::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::pipeline::tools::fields::read_fields;
    use crate::pipeline::tools::ocr::OcrEngine;
    use crate::product::Tier;

    /// The shop and the proxy in one: a forward proxy is asked with absolute addresses, so a server that
    /// answers them itself is a proxy to a world of its own, and knows everything that was asked.
    struct Shop {
        address: SocketAddr,
        asked: watch::Receiver<Vec<String>>,
        /// Where a page that goes past the proxy would be heard.
        stun: UdpSocket,
        work_dir: TempDir,
    }

    const PRODUCT: &str = r#"<!doctype html><html lang="de"><title>Bürostuhl »Größe L«</title>
        <style>body { margin: 0; font: 16px sans-serif } nav { height: 300px; background: #369 }
               .product-detail { margin: 20px; width: 700px } .price { font-size: 28px; font-weight: bold }</style>
        <nav>Menü</nav>
        <div class="product-detail"><h1>Drehstuhl Zürich</h1><p>Artikelnummer: SW10042</p>
        <p class="price">129,90 €</p>
        <table><tr><th>Menge<th>Stückpreis<tr><td>ab 10<td>119,50 €<tr><td>ab 50<td>99,00 €</table>
        <p>EAN: 4006381333931</p></div>"#;

    impl Shop {
        async fn open() -> Shop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (log, asked) = watch::channel(Vec::new());
            let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let stun_port = stun.local_addr().unwrap().port();
            let app = Router::new().fallback(move |method: Method, uri: Uri| async move {
                log.send_modify(|asked| asked.push(format!("{method} {uri}")));
                answer(&method, &uri, stun_port).await
            });
            tokio::spawn(async move { axum::serve(listener, app).await });
            let work_dir = tempfile::tempdir().unwrap();
            fs::set_permissions(work_dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            Shop { address, asked, stun, work_dir }
        }

        fn settings(&self) -> BrowserSettings {
            BrowserSettings {
                run_as: Some((65534, 65534)),
                ..BrowserSettings::new(self.address, self.work_dir.path())
            }
        }

        fn pool(&self) -> BrowserPool {
            BrowserPool::new(self.settings())
        }

        async fn was_asked(&self, request: &str) {
            let wanted = |asked: &Vec<String>| asked.iter().any(|one| one == request);
            let mut asked = self.asked.clone();
            let heard = timeout(Duration::from_secs(30), asked.wait_for(wanted)).await.is_ok();
            assert!(heard, "never asked for {request}, only {:?}", self.asked.borrow());
        }

        fn profiles(&self) -> usize {
            fs::read_dir(self.work_dir.path()).unwrap().count()
        }
    }

    async fn answer(method: &Method, uri: &Uri, stun_port: u16) -> Response {
        if uri.host() == Some("intranet.test") {
            return (StatusCode::FORBIDDEN, [("x-jobcast-refused", "private address")], "refused")
                .into_response();
        }
        if method == Method::CONNECT {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        let page = |html: &str| Html(html.to_owned()).into_response();
        match uri.path() {
            "/product" => page(PRODUCT),
            "/stuck" => page(&format!("{PRODUCT}<img src=/never width=100 height=100>")),
            "/never" => std::future::pending().await,
            "/alerts" => page(&format!(
                "{PRODUCT}<script>onbeforeunload = () => 'stay!'; for (;;) alert('Gewonnen!')</script>"
            )),
            "/busy" => page(&format!("{PRODUCT}<script>for (;;);</script>")),
            "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, Html("<h1>Fehler</h1>")).into_response(),
            "/closed" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")]).into_response(),
            "/long" => page(
                "<body style='margin:0'><div class=product style='height:9000px;width:600px;background:linear-gradient(\
                 to bottom, #fff 2000px, #f00 2000px)'>lang</div>",
            ),
            "/download" => {
                ([(header::CONTENT_DISPOSITION, "attachment; filename=x.exe")], "MZ").into_response()
            }
            "/moved" => (StatusCode::FOUND, [(header::LOCATION, "/product")]).into_response(),
            "/trap" => {
                page(&format!("{PRODUCT}<script>location = 'http://intranet.test/'</script><img src=/never>"))
            }
            "/popup" => {
                page(&format!("{PRODUCT}<script>document.title = String(window.open('/second'))</script>"))
            }
            "/cookie" => page(
                "<main style='height:100px'>Keks</main>\
                 <script>document.title = document.cookie || 'none'; document.cookie = 'a=b'</script>",
            ),
            "/banner" => page(&format!(
                "{PRODUCT}<div style='position:fixed;inset:0;background:#f0f'>Alle Cookies akzeptieren</div>"
            )),
            "/consent" => page(&format!(
                "{PRODUCT}<div id=banner style='position:absolute;inset:0;background:#f0f'><p>Kekse?</p>\
                 <button onclick=\"document.title = 'wrong'\">Einstellungen</button>\
                 <button onclick=\"banner.remove(); document.title = 'agreed'\">Alle Cookies akzeptieren</button></div>"
            )),
            "/consent-reload" => page(&format!(
                "{PRODUCT}<script>if (!document.cookie) document.write(\
                 `<div id=banner style='position:absolute;inset:0;background:#f0f'>\
                 <button onclick=\"document.cookie='ok=1'; location.reload()\">Alle akzeptieren</button></div>`)</script>"
            )),
            "/list" => page(
                "<title>Liste</title><ul id=list></ul><button onclick='more()'>Mehr laden</button><script>
                 let n = 0;
                 const more = () => { for (let i = 0; i < 5 && n < 15; i++) list.innerHTML += `<li><a href='/p/${++n}'>${n}</a>` };
                 more()</script>",
            ),
            "/endless" => page(
                "<div id=list style='height:3000px'></div><script>
                 let n = 0;
                 onscroll = () => { list.innerHTML += `<p style='height:3000px'><a href='/p/${++n}'>${n}</a>` }</script>",
            ),
            "/hostile" => page(&format!(
                "{PRODUCT}<script>document.querySelectorAll = () => [];\
                 Element.prototype.getBoundingClientRect = () => ({{ width: 1e9, height: 1e9 }})</script>"
            )),
            "/leak" => page(&format!(
                "{PRODUCT}<img src=http://localhost:4242/picture><img src=/never><script>
                 new WebSocket('ws://127.0.0.1:4242/');
                 const peer = new RTCPeerConnection({{ iceServers: [{{ urls: 'stun:127.0.0.1:{stun_port}' }}] }});
                 peer.createDataChannel('x');
                 peer.createOffer().then(offer => peer.setLocalDescription(offer));
                 </script>"
            )),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn at(path: &str) -> Url {
        Url::parse("http://shop.test").unwrap().join(path).unwrap()
    }

    fn rules() -> CaptureRules {
        CaptureRules::default()
    }

    fn pixel(png: &[u8], x: u32, y: u32) -> [u8; 3] {
        let image::Rgb(pixel) = *image::load_from_memory(png).unwrap().to_rgb8().get_pixel(x, y);
        pixel
    }

    /// Every living process below `root` in the tree of processes, with its command line.
    fn descendants(root: u32) -> Vec<(Pid, String)> {
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // "pid (name) state ppid …", and the name may hold anything.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let mut after = stat.rsplit_once(") ").unwrap().1.split(' ');
            if after.next() != Some("Z") {
                parents.insert(pid, after.next().unwrap().parse::<u32>().unwrap());
            }
        }
        let below = |pid: u32| {
            std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).skip(1).any(|p| p == root)
        };
        let name = |pid: u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
        };
        let pid = |pid: u32| Pid::from_raw(pid as i32).unwrap();
        parents.keys().filter(|pid| below(**pid)).map(|&p| (pid(p), name(p))).collect()
    }

    fn chromium_processes(shop: &Shop) -> Vec<(Pid, String)> {
        let profile = shop.work_dir.path().to_str().unwrap();
        let all = descendants(std::process::id());
        let main = all
            .iter()
            .find(|(_, line)| line.contains(profile) && !line.contains("--type="))
            .map(|(pid, _)| *pid);
        let main = main.expect("a browser runs");
        let mut family = descendants(main.as_raw_nonzero().get() as u32);
        family.push((main, "the browser itself".into()));
        family
    }

    fn watch_ends(processes: &[(Pid, String)]) -> Vec<OwnedFd> {
        processes
            .iter()
            .filter_map(|(pid, _)| rustix::process::pidfd_open(*pid, PidfdFlags::empty()).ok())
            .collect()
    }

    async fn all_end(processes: Vec<OwnedFd>) {
        for process in processes {
            #[expect(deprecated, reason = "the safe way in; an owned descriptor does stay what it is")]
            let process = AsyncFd::new(process).unwrap();
            timeout(Duration::from_secs(20), process.readable())
                .await
                .expect("a process outlived its browser")
                .unwrap()
                .retain_ready();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_picture_shows_the_product_and_nothing_around_it() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let capture = pool.capture(&at("/moved"), &rules()).await.unwrap();
        assert_eq!(capture.title, "Bürostuhl »Größe L«");
        assert_eq!(capture.final_url, at("/product"));
        assert!(capture.complete);
        assert_eq!(capture.width, 1050, "700 CSS pixels at scale 1.5");
        assert_eq!(pixel(&capture.png, 1, 1), [255, 255, 255], "the blue menu is not in the picture");
        let thumbnail = image::load_from_memory(&capture.thumbnail_png).unwrap();
        assert_eq!((thumbnail.width(), thumbnail.height()), (400, (capture.height * 400).div_ceil(1050)));
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_the_picture_can_be_read_from_it() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let capture = pool.capture(&at("/product"), &rules()).await.unwrap();
        let engine = tokio::task::spawn_blocking(|| OcrEngine::new("deu+eng", 1, Duration::from_secs(60)))
            .await
            .unwrap()
            .unwrap();
        let reading = read_fields(&engine.read(capture.png).await.unwrap());
        assert_eq!(reading.product_name.as_deref(), Some("Drehstuhl Zürich"));
        assert_eq!(reading.article_number.as_deref(), Some("SW10042"));
        assert_eq!(reading.price, Some(129.9));
        assert_eq!(
            reading.tiers,
            [Tier { min_quantity: 10, price: 119.5 }, Tier { min_quantity: 50, price: 99.0 }]
        );
        assert_eq!(reading.ean.as_deref(), Some("4006381333931"));
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn captures_run_side_by_side_without_sharing_cookies() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let (url, rules) = (at("/cookie"), rules());
        let captures = futures_util::future::join_all((0..5).map(|_| pool.capture(&url, &rules))).await;
        for capture in captures {
            assert_eq!(capture.unwrap().title, "none");
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_whose_picture_never_ends_is_captured_all_the_same() {
        let shop = Shop::open().await;
        let pool = BrowserPool::new(BrowserSettings {
            settle_timeout: Duration::from_millis(300),
            ..shop.settings()
        });
        let capture = pool.capture(&at("/stuck"), &rules()).await.unwrap();
        assert!(!capture.complete);
        assert_eq!(capture.width, 1050);
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn endless_dialogs_and_endless_loops_are_cut_off() {
        let shop = Shop::open().await;
        let pool = BrowserPool::new(BrowserSettings {
            settle_timeout: Duration::from_millis(300),
            ..shop.settings()
        });
        for path in ["/alerts", "/busy"] {
            let capture = pool.capture(&at(path), &rules()).await.unwrap();
            assert_eq!(capture.width, 1050, "{path}");
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_captured_is_told_apart() {
        let shop = Shop::open().await;
        let pool =
            BrowserPool::new(BrowserSettings { settle_timeout: Duration::from_secs(2), ..shop.settings() });
        let fail = async |url: &Url| pool.capture(url, &rules()).await.unwrap_err();
        let broken = fail(&at("/broken")).await;
        assert!(matches!(broken, CaptureError::Status(500)) && broken.is_retryable(), "{broken}");
        let closed = fail(&at("/closed")).await;
        let asked = Duration::from_secs(7);
        assert!(
            matches!(closed, CaptureError::Busy { status: 503, retry_after } if retry_after == asked),
            "{closed}"
        );
        let missing = fail(&at("/missing")).await;
        assert!(matches!(missing, CaptureError::Status(404)) && !missing.is_retryable(), "{missing}");
        let refused = fail(&Url::parse("http://intranet.test/").unwrap()).await;
        assert!(matches!(refused, CaptureError::Refused) && !refused.is_retryable(), "{refused}");
        let trapped = fail(&at("/trap")).await;
        assert!(matches!(trapped, CaptureError::Refused), "{trapped}");
        let tunnel = fail(&Url::parse("https://shop.test/").unwrap()).await;
        assert!(matches!(&tunnel, CaptureError::Navigation(why) if why.contains("TUNNEL")), "{tunnel}");
        let download = fail(&at("/download")).await;
        assert!(matches!(download, CaptureError::Navigation(_)) && !download.is_retryable(), "{download}");
        let file = fail(&Url::parse("file:///etc/passwd").unwrap()).await;
        assert!(matches!(file, CaptureError::Navigation(_)) && !file.is_retryable(), "{file}");
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_long_page_is_cut_at_the_limit_and_not_blank_below_the_window() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let capture = pool.capture(&at("/long"), &rules()).await.unwrap();
        assert_eq!((capture.width, capture.height), (900, 3750), "600 × 2500 CSS pixels at scale 1.5");
        assert_eq!(pixel(&capture.png, 450, 2900), [255, 255, 255]);
        assert_eq!(pixel(&capture.png, 450, 3100), [255, 0, 0]);
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_cannot_cover_its_product_nor_lie_about_its_size() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let plain = pool.capture(&at("/product"), &rules()).await.unwrap();
        for path in ["/banner", "/hostile"] {
            let capture = pool.capture(&at(path), &rules()).await.unwrap();
            assert_eq!((capture.width, capture.height), (plain.width, plain.height), "{path}");
            assert_eq!(capture.png, plain.png, "{path}");
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_parts_of_a_product_have_pictures_of_their_own() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let capture = pool.capture(&at("/product"), &rules()).await.unwrap();
        assert_eq!(capture.layout, Layout::TieredPrice);
        let kinds: Vec<&str> = capture.elements.iter().map(|element| element.kind.word()).collect();
        assert_eq!(kinds, ["title", "article-number", "price-table"]);
        let engine = tokio::task::spawn_blocking(|| OcrEngine::new("deu+eng", 1, Duration::from_secs(60)))
            .await
            .unwrap()
            .unwrap();
        for (element, says) in capture.elements.iter().zip(["Drehstuhl Zürich", "SW10042", "119,50"]) {
            let picture = image::load_from_memory(&element.png).unwrap();
            assert_eq!((picture.width(), picture.height()), (element.width, element.height));
            let expected = (element.place.width + MARGIN) * 1.5;
            assert!((f64::from(element.width) - expected).abs() < 8.0, "{element:?}");
            let text = engine.read(element.png.clone()).await.unwrap().text;
            assert!(text.contains(says), "{says} in {text}");
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_outside_of_the_products_area_is_photographed_by_itself() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let menu = ElementRule { kind: ElementKind::Title, selectors: vec!["nav".into()] };
        let rules = CaptureRules { elements: vec![menu], ..rules() };
        let capture = pool.capture(&at("/product"), &rules).await.unwrap();
        let [menu] = &capture.elements[..] else { panic!("{:?}", capture.elements) };
        assert_eq!((menu.width, menu.height), (1926, 456), "1280 × 300 and the margins, at scale 1.5");
        assert_eq!(pixel(&menu.png, 900, 200), [0x33, 0x66, 0x99]);
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cookie_banner_is_agreed_to_and_covers_nothing() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let plain = pool.capture(&at("/product"), &rules()).await.unwrap();
        for path in ["/consent", "/consent-reload"] {
            let capture = pool.capture(&at(path), &rules()).await.unwrap();
            assert!(capture.png == plain.png, "{path}");
            assert_eq!(capture.title == "agreed", path == "/consent", "{}", capture.title);
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_list_that_scripts_make_is_read_to_its_end_and_an_endless_one_for_a_while() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        let list = pool.read(&at("/list"), &rules()).await.unwrap();
        assert_eq!(list.html.matches("href=\"/p/").count(), 15, "{}", list.html);
        let endless = pool.read(&at("/endless"), &rules()).await.unwrap();
        let read = endless.html.matches("href=\"/p/").count();
        assert!((5..200).contains(&read), "{read}");
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_opens_no_second_window() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        assert_eq!(pool.capture(&at("/popup"), &rules()).await.unwrap().title, "null");
        assert!(!shop.asked.borrow().iter().any(|request| request.contains("/second")));
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_reaches_the_network_beside_the_proxy() {
        let shop = Shop::open().await;
        // The page never finishes, so it has this long to try; one second was enough where nothing held it
        // back.
        let pool =
            BrowserPool::new(BrowserSettings { settle_timeout: Duration::from_secs(2), ..shop.settings() });
        pool.capture(&at("/leak"), &rules()).await.unwrap();
        shop.was_asked("CONNECT 127.0.0.1:4242").await;
        shop.was_asked("GET http://localhost:4242/picture").await;
        let mut packet = [0; 64];
        let stun = shop.stun.try_recv_from(&mut packet);
        assert_eq!(
            stun.unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "a page sent a datagram past the proxy"
        );
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cancelled_capture_gives_its_place_to_the_next() {
        let shop = Shop::open().await;
        let patient = Duration::from_secs(60);
        let settings =
            BrowserSettings { pages: 1, settle_timeout: patient, page_timeout: patient, ..shop.settings() };
        let pool = BrowserPool::new(settings);
        let (stuck, rules) = (at("/stuck"), rules());
        tokio::select! {
            _ = pool.capture(&stuck, &rules) => panic!("this page never ends"),
            () = shop.was_asked("GET http://shop.test/never") => {}
        }
        pool.capture(&at("/product"), &rules).await.unwrap();
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_that_is_too_slow_times_out() {
        let shop = Shop::open().await;
        let pool =
            BrowserPool::new(BrowserSettings { page_timeout: Duration::from_millis(700), ..shop.settings() });
        let error = pool.capture(&at("/never"), &rules()).await.unwrap_err();
        assert!(matches!(error, CaptureError::Timeout(_)) && error.is_retryable(), "{error}");
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_crash_of_page_or_browser_the_next_capture_works() {
        let shop = Shop::open().await;
        let patient = Duration::from_secs(60);
        let settings = BrowserSettings { settle_timeout: patient, page_timeout: patient, ..shop.settings() };
        let pool = BrowserPool::new(settings);
        for victim in ["--type=renderer", "the browser itself"] {
            let url = at(&format!("/stuck?{}", victim.len()));
            let rules = rules();
            let crash = async {
                shop.was_asked(&format!("GET {url}")).await;
                shop.was_asked("GET http://shop.test/never").await;
                for (pid, _) in chromium_processes(&shop).iter().filter(|(_, line)| line.contains(victim)) {
                    let _ = rustix::process::kill_process(*pid, Signal::KILL);
                }
            };
            let (failed, ()) = tokio::join!(pool.capture(&url, &rules), crash);
            let error = failed.unwrap_err();
            assert!(matches!(error, CaptureError::Crashed(_)) && error.is_retryable(), "{victim}: {error}");
            pool.capture(&at("/product"), &rules).await.unwrap();
        }
        assert_eq!(shop.profiles(), 1, "the dead browser's profile is gone, the living one's is there");
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn closing_leaves_no_process_and_no_profile_behind() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        pool.capture(&at("/product"), &rules()).await.unwrap();
        let processes = chromium_processes(&shop);
        assert!(processes.len() > 3, "{processes:?}");
        let ends = watch_ends(&processes);
        pool.close().await;
        assert_eq!(shop.profiles(), 0);
        all_end(ends).await;
        let error = pool.capture(&at("/product"), &rules()).await.unwrap_err();
        assert!(matches!(error, CaptureError::NoBrowser(_)), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dropping_the_pool_ends_the_browser_too() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        pool.capture(&at("/product"), &rules()).await.unwrap();
        let ends = watch_ends(&chromium_processes(&shop));
        drop(pool);
        all_end(ends).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_browser_sees_nothing_of_our_environment_and_is_not_root() {
        let shop = Shop::open().await;
        let pool = shop.pool();
        pool.capture(&at("/product"), &rules()).await.unwrap();
        assert!(
            std::env::var_os("CARGO_MANIFEST_DIR").is_some(),
            "the test's own environment has something to hide"
        );
        for (pid, line) in chromium_processes(&shop) {
            let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
            let Ok(environ) = fs::read(proc.join("environ")) else { continue };
            assert!(!String::from_utf8_lossy(&environ).contains("CARGO"), "{line}");
            let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
            assert!(!status.contains("Uid:\t0"), "{line}");
        }
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_the_sandbox_does_not_work_captures_do() {
        let shop = Shop::open().await;
        // Chromium refuses to run as root with it; a test that is not run by root has the sandbox and works
        // too.
        let pool = BrowserPool::new(BrowserSettings { run_as: None, ..shop.settings() });
        pool.capture(&at("/product"), &rules()).await.unwrap();
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_missing_browser_is_named_with_its_remedy() {
        let shop = Shop::open().await;
        let nowhere = Some(PathBuf::from("/nowhere/chromium"));
        let pool = BrowserPool::new(BrowserSettings { executable: nowhere, ..shop.settings() });
        let error = pool.capture(&at("/product"), &rules()).await.unwrap_err();
        assert!(error.to_string().contains("apt-get install chromium"), "{error}");
        let failing = Some(PathBuf::from("/bin/false"));
        let pool = BrowserPool::new(BrowserSettings { executable: failing, ..shop.settings() });
        let error = pool.capture(&at("/product"), &rules()).await.unwrap_err();
        assert!(matches!(error, CaptureError::NoBrowser(_)) && shop.profiles() == 0, "{error}");
    }

    /// Where the victim of the next test keeps its profile, and the proxy that it is to use.
    const VICTIM: &str = "JOBCAST_TEST_VICTIM";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_server_leaves_no_browser_behind() {
        let shop = Shop::open().await;
        let task = format!("{} {}", shop.address, shop.work_dir.path().display());
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "pipeline::tools::browser::tests::the_server_to_be_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(VICTIM, task)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("captured")));
        let processes = descendants(victim.id());
        assert!(processes.len() > 3, "{processes:?}");
        let ends = watch_ends(&processes);
        victim.kill().unwrap();
        victim.wait().unwrap();
        all_end(ends).await;
        assert_eq!(shop.profiles(), 1, "nobody could remove it");

        let pool = shop.pool();
        pool.capture(&at("/product"), &rules()).await.unwrap();
        assert_eq!(shop.profiles(), 1, "the next server did");
        pool.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "not a test: a_killed_server_leaves_no_browser_behind runs it as another process"]
    async fn the_server_to_be_killed() {
        let task = std::env::var(VICTIM).unwrap();
        let (proxy, work_dir) = task.split_once(' ').unwrap();
        let settings = BrowserSettings::new(proxy.parse().unwrap(), work_dir);
        let pool = BrowserPool::new(BrowserSettings { run_as: Some((65534, 65534)), ..settings });
        pool.capture(&at("/product"), &rules()).await.unwrap();
        println!("captured");
        std::future::pending::<()>().await;
    }
}
