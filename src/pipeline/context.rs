//! What the stages work with: the tools, opened once a process, and the store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::Utc;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use super::{
    stages::StageError,
    tools::{
        browser::{self, BrowserPool, BrowserSettings},
        crawler::{self, CrawlError, CrawlLimits, Detected, Reader},
        fetch::{FetchError, FetchLimits, Fetcher},
        ocr::{OcrEngine, OcrError},
    },
};
use crate::{
    config::Config,
    guard::{Guard, GuardProxy, ProxyLimits},
    job::JobConfig,
    label::{AUTOMATIC, LabelData, LabelRenderer, LabelTemplate, choose},
    product::{
        ProductFacts,
        matching::{ListedFacts, Matcher},
    },
    store::{Blobs, ListedRow, Store, Template},
};

/// Lists of products that are kept ready for matching.
const MATCHERS: usize = 4;

/// The tools of a process and the store that their results go to.
pub struct Context {
    pub store: Store,
    pub blobs: Blobs,
    pub fetcher: Fetcher,
    pub browser: Arc<BrowserPool>,
    pub ocr: OcrEngine,
    pub renderer: Arc<LabelRenderer>,
    /// Where companies are looked up.
    pub desks: Desks,
    crawl: CrawlLimits,
    /// The newest last; keyed by what the list was when it was read.
    matchers: Mutex<Vec<(String, Arc<Matcher>)>>,
    /// Keyed by what they were when they were read.
    auto_templates: Mutex<Option<(String, Templates)>>,
    // Everything that leaves this machine goes through it.
    _proxy: GuardProxy,
}

/// The places of those who look companies up at the same time, numbered from 1: pages show who is at what.
#[derive(Default)]
pub struct Desks(std::sync::Mutex<BTreeSet<u32>>);

/// One that is taken until this is dropped.
pub struct Desk<'a> {
    number: u32,
    desks: &'a Desks,
}

impl Desks {
    /// Takes the first one that is free.
    pub fn take(&self) -> Desk<'_> {
        let mut taken = self.lock();
        let number = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
        taken.insert(number);
        Desk { number, desks: self }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Desk<'_> {
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        self.desks.lock().remove(&self.number);
    }
}

/// Templates that are chosen among, read once.
type Templates = Arc<Vec<Arc<LabelTemplate>>>;

/// Why the tools are not there; each message says what to install or change.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    #[error("the crawler's proxy cannot listen on 127.0.0.1: {0}")]
    Proxy(#[source] std::io::Error),
    #[error(transparent)]
    Fetcher(#[from] FetchError),
    #[error(transparent)]
    Ocr(#[from] OcrError),
    #[error(
        "Chromium is not installed: run `apt-get install chromium-headless-shell`, name its program with browser.program, or set pipeline.enabled = false to serve without working on jobs"
    )]
    NoBrowser,
    #[error("the setting browser.run_as names the user {0:?}, which this system does not have; name another")]
    NoUser(String),
    #[error("the scratch folder {path} cannot be made: {reason}")]
    Scratch { path: PathBuf, reason: std::io::Error },
}

impl Context {
    /// Opens all tools. Chromium is started by the first capture.
    pub async fn open(
        store: Store,
        blobs: Blobs,
        config: &Config,
        data_dir: &Path,
    ) -> Result<Context, ToolsError> {
        let guard = Guard::new(config.crawler.allow_origins.clone());
        let proxy = GuardProxy::start(guard, ProxyLimits::default()).await.map_err(ToolsError::Proxy)?;
        let fetch = FetchLimits {
            user_agent: config.crawler.user_agent.clone(),
            max_body_bytes: config.crawler.max_page,
            timeout: config.crawler.page_timeout,
            concurrency: config.crawler.concurrency,
            delay: config.crawler.delay,
            ..FetchLimits::default()
        };
        let run_as = match rustix::process::geteuid().is_root() {
            false => None,
            true => {
                let name = &config.browser.run_as;
                Some(crate::process::user_ids(name).ok_or_else(|| ToolsError::NoUser(name.clone()))?)
            }
        };
        let scratch = scratch_dir(data_dir, run_as)?;
        let program = Some(config.browser.program.clone()).filter(|path| !path.as_os_str().is_empty());
        // Said now, not by each item of the first job.
        let program = program.or_else(browser::find_program).filter(|path| path.is_file());
        let browser = BrowserSettings {
            executable: Some(program.ok_or(ToolsError::NoBrowser)?),
            run_as,
            pages: config.pipeline.screenshot_concurrency,
            page_timeout: config.browser.page_timeout,
            settle_timeout: config.browser.settle_timeout,
            scale: config.browser.scale,
            ..BrowserSettings::new(proxy.address(), scratch)
        };
        let crawl = CrawlLimits {
            max_pages: config.crawler.max_pages,
            max_time: config.crawler.time_budget,
            concurrency: config.crawler.concurrency,
            delay: config.crawler.delay,
            ..CrawlLimits::default()
        };
        Ok(Context {
            store,
            blobs,
            fetcher: Fetcher::new(&proxy, fetch)?,
            browser: Arc::new(BrowserPool::new(browser)),
            ocr: open_ocr(config).await?,
            renderer: Arc::new(LabelRenderer::new()),
            desks: Desks::default(),
            crawl,
            matchers: Mutex::default(),
            auto_templates: Mutex::default(),
            _proxy: proxy,
        })
    }

    /// The server's limits on a crawl with the job's own.
    pub fn crawl_limits(&self, job: &JobConfig) -> CrawlLimits {
        let limits = CrawlLimits {
            max_products: job.max_products as usize,
            follow_pagination: job.follow_pagination,
            ..self.crawl.clone()
        };
        match job.crawl.is_full_scan() {
            true => CrawlLimits { stay_below_start: false, max_listing_pages: limits.max_pages, ..limits },
            false => limits,
        }
    }

    /// Looks at a shop's start page, and no further.
    pub async fn detect(&self, start: &Url) -> Result<Detected, CrawlError> {
        let reader = Reader { browser: Some(self.browser.clone()), ..Reader::default() };
        crawler::detect(&self.fetcher, start, &reader).await
    }

    /// A price list, or all known products, ready for matching.
    pub async fn matcher(&self, import: Option<Uuid>) -> Result<Arc<Matcher>, StageError> {
        let key = match import {
            Some(id) => id.to_string(),
            None => self.store.products_version().await?,
        };
        // Held while a list is read, so that many items of one job read it once.
        let mut matchers = self.matchers.lock().await;
        if let Some((_, matcher)) = matchers.iter().find(|(known, _)| *known == key) {
            return Ok(matcher.clone());
        }
        let products = match import {
            Some(id) => match self.store.stored_import(id).await? {
                Some(import) => import.products,
                None => return Err(StageError::Fatal { why: "the job's price list is gone".into() }),
            },
            None => self.store.known_products().await?,
        };
        let listed = tokio::task::spawn_blocking(|| Matcher::new(products.into_iter().map(listed).collect()));
        let matcher = Arc::new(listed.await.map_err(|e| StageError::Retry { why: e.to_string() })?);
        if matchers.len() == MATCHERS {
            matchers.remove(0);
        }
        matchers.push((key, matcher.clone()));
        Ok(matcher)
    }

    /// The label template that a job named for a product: as it is stored now, or as the rules choose. With the
    /// sentence that tells of the choice.
    pub async fn template(
        &self,
        id: &str,
        data: &LabelData,
    ) -> Result<(Arc<LabelTemplate>, Option<String>), StageError> {
        if id == AUTOMATIC {
            let templates = self.auto_templates().await?;
            let chosen = choose(templates.iter().map(|template| &**template), data);
            let chosen =
                chosen.ok_or_else(|| StageError::Fatal { why: "there is no label template".into() })?;
            let template = templates.iter().find(|template| template.id() == chosen.template.id());
            let template = template.map(Arc::clone).ok_or_else(|| gone(id))?;
            return Ok((template, Some(chosen.note())));
        }
        let stored = self.store.template(id).await?.ok_or_else(|| gone(id))?;
        let template = parse(&stored).map_err(|why| StageError::Fatal { why })?;
        Ok((Arc::new(template), None))
    }

    /// The templates that rules choose from, read again when one of them has changed.
    async fn auto_templates(&self) -> Result<Arc<Vec<Arc<LabelTemplate>>>, StageError> {
        let version = self.store.auto_templates_version().await?;
        let mut known = self.auto_templates.lock().await;
        if let Some((_, templates)) = known.as_ref().filter(|(of, _)| *of == version) {
            return Ok(templates.clone());
        }
        let stored = self.store.auto_templates().await?;
        let parsed = tokio::task::spawn_blocking(move || {
            // One that cannot be read does not keep the others from being chosen.
            stored.iter().filter_map(|stored| parse(stored).ok()).map(Arc::new).collect::<Vec<_>>()
        });
        let templates = Arc::new(parsed.await.map_err(|e| StageError::Retry { why: e.to_string() })?);
        *known = Some((version, templates.clone()));
        Ok(templates)
    }

    /// The templates that come with the binary, for the store.
    pub fn builtin_templates() -> Vec<Template> {
        let now = Utc::now();
        let stored = LabelTemplate::builtins().iter().map(|template| {
            let (width_mm, height_mm) = template.size_mm();
            Template {
                id: template.id().into(),
                name: template.name().into(),
                width_mm: width_mm.into(),
                height_mm: height_mm.into(),
                dpi: template.dpi() as i32,
                description: None,
                kind: template.kind().word().into(),
                source: template.source().into(),
                built_in: true,
                auto_match: false,
                created_at: now,
                updated_at: now,
            }
        });
        stored.collect()
    }
}

fn gone(id: &str) -> StageError {
    StageError::Fatal { why: format!("the label template {id:?} is gone") }
}

/// A stored template, ready to be drawn with.
fn parse(stored: &Template) -> Result<LabelTemplate, String> {
    LabelTemplate::stored(&stored.id, &stored.kind, &stored.source).map_err(|error| error.to_string())
}

/// Loading the languages takes a moment.
async fn open_ocr(config: &Config) -> Result<OcrEngine, ToolsError> {
    let (languages, threads) = (config.ocr.languages.clone(), config.pipeline.ocr_concurrency);
    let patience = config.ocr.timeout;
    let opened = tokio::task::spawn_blocking(move || OcrEngine::new(&languages, threads, patience)).await;
    Ok(opened.unwrap_or_else(|error| Err(OcrError::Failed(error.to_string())))?)
}

/// The longest folder below which Chromium's sockets still have paths that a socket can have.
const MAX_SCRATCH: usize = 44;

/// Where Chromium's profiles go: a folder that the user who runs it can reach; in the system's temporary folder when
/// the data directory's path is too long for sockets in it.
fn scratch_dir(data_dir: &Path, run_as: Option<(u32, u32)>) -> Result<PathBuf, ToolsError> {
    let mut path = data_dir.join("scratch");
    if path.as_os_str().len() > MAX_SCRATCH {
        path = crate::process::short_folder(&path);
    }
    let failed = |reason| ToolsError::Scratch { path: path.clone(), reason };
    std::fs::create_dir_all(&path).map_err(failed)?;
    if let Some((uid, gid)) = run_as {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(failed)?;
    }
    Ok(path)
}

fn listed(row: ListedRow) -> ListedFacts {
    // The same row has the same id, so that results do not depend on when it was read.
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, row.article_number.as_bytes());
    let facts = ProductFacts {
        article_number: Some(row.article_number).filter(|number| !number.is_empty()),
        name: Some(row.name).filter(|name| !name.is_empty()),
        price: row.price,
        currency: row.currency,
        tiers: serde_json::from_value(row.tiers).unwrap_or_default(),
        ean: row.ean,
        description: row.description,
        image_url: None,
    };
    ListedFacts { id, facts }
}
