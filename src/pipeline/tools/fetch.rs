//! Gets one page from the web, within bounds, and only through the [guard's proxy](crate::guard).

use std::{io::Read as _, sync::Arc, time::Duration};

use axum::http::{StatusCode, header};
use reqwest::{Response, redirect::Policy};
use tokio::time::{sleep, timeout};
use url::Url;

use super::polite::Hosts;
use crate::guard::{
    FAILED_HEADER, Guard, GuardProxy, REFUSED_HEADER, Reason, Refused, ResolveError, refused,
};

/// The bounds of a [`Fetcher`].
#[derive(Clone, Debug)]
pub struct FetchLimits {
    /// Says who asks and where to complain, as `JobcastBot/1 (+https://…)`.
    pub user_agent: String,
    /// Bytes of a body, after decompression.
    pub max_body_bytes: usize,
    /// For one try: all redirects and the whole body.
    pub timeout: Duration,
    pub max_redirects: usize,
    /// Tries after the first, when it failed in a way that may pass.
    pub retries: u32,
    /// Before the first retry; doubles with every further one.
    pub backoff: Duration,
    /// The longest wait that a site's `Retry-After` can ask for.
    pub max_retry_after: Duration,
    /// Visits of one host at once.
    pub concurrency: usize,
    /// Between the starts of two visits of one host.
    pub delay: Duration,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            user_agent: "JobcastBot/1".into(),
            max_body_bytes: 5_000_000,
            timeout: Duration::from_secs(20),
            max_redirects: 5,
            retries: 2,
            backoff: Duration::from_millis(250),
            max_retry_after: Duration::from_secs(30),
            concurrency: 8,
            delay: Duration::ZERO,
        }
    }
}

/// An HTTP client with bounds. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: reqwest::Client,
    guard: Guard,
    limits: Arc<FetchLimits>,
    hosts: Hosts,
    /// By which a robots.txt calls us, whatever one job's user agent is.
    robot_name: Arc<str>,
}

/// What a site gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The address that answered, after redirects.
    pub url: Url,
    /// Always a success (2xx).
    pub status: u16,
    /// As sent: `text/html; charset=utf-8`.
    pub content_type: Option<String>,
    /// What cannot be decoded is `U+FFFD`.
    pub body: String,
}

/// Why a page did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the site did not answer within {} seconds; try again later or raise the fetch timeout", .0.as_secs_f32())]
    Timeout(Duration),
    #[error(
        "the answer is larger than {limit} bytes; raise the fetch limit if a page of this size is expected"
    )]
    TooLarge { limit: usize },
    #[error("the site answered with status {0}; check the address in a browser")]
    Status(u16),
    #[error("the site redirects more than {0} times; give the address where a browser ends up")]
    TooManyRedirects(usize),
    #[error("the site redirects to something that is not an address")]
    BadRedirect,
    #[error("the answer is {0}, not text; give the address of a page")]
    NotText(String),
    #[error("the site could not be reached: {0}; check the address and whether the site is up")]
    Network(String),
}

impl FetchError {
    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            FetchError::Timeout(_) | FetchError::Network(_) => true,
            FetchError::Status(status) => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            FetchError::Refused(_)
            | FetchError::TooLarge { .. }
            | FetchError::TooManyRedirects(_)
            | FetchError::BadRedirect
            | FetchError::NotText(_) => false,
        }
    }
}

/// A try that failed, and the wait that the site asked for.
struct Failed {
    error: FetchError,
    retry_after: Option<Duration>,
}

impl<E: Into<FetchError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed { error: error.into(), retry_after: None }
    }
}

impl Fetcher {
    /// A client that reaches the web through `proxy` only. Needs the process's rustls provider to be installed.
    pub fn new(proxy: &GuardProxy, limits: FetchLimits) -> Result<Fetcher, FetchError> {
        let broken = |error: reqwest::Error| FetchError::Network(innermost(&error));
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(FetchError::Network(
                "no TLS provider is installed at the start of the process".into(),
            ));
        }
        let client = reqwest::Client::builder()
            .proxy(reqwest::Proxy::all(format!("http://{}", proxy.address())).map_err(broken)?)
            // By hand: every hop is vetted before it is asked, and the last address is known.
            .redirect(Policy::none())
            .referer(false)
            .build()
            .map_err(broken)?;
        Ok(Fetcher {
            client,
            guard: proxy.guard().clone(),
            hosts: Hosts::new(limits.concurrency, limits.delay),
            robot_name: limits.user_agent.split(['/', ' ']).next().unwrap_or_default().into(),
            limits: Arc::new(limits),
        })
    }

    /// The same client with another user agent or another limit of time; both share their manners.
    pub fn adapted(&self, user_agent: Option<&str>, timeout: Option<Duration>) -> Fetcher {
        let mut limits = (*self.limits).clone();
        if let Some(agent) = user_agent {
            limits.user_agent = agent.to_owned();
        }
        limits.timeout = timeout.unwrap_or(limits.timeout);
        Fetcher { limits: Arc::new(limits), ..self.clone() }
    }

    /// A host has asked to be left alone for so long: everybody waits, not only who was told, but not for ever.
    pub fn leave_alone(&self, url: &Url, asked: Duration) {
        self.hosts.leave_alone(url, asked.min(self.limits.max_retry_after));
    }

    /// Whose turn it is at which host; for those who visit by other means.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The server's own name without version and address, by which a robots.txt calls it.
    pub fn robot_name(&self) -> &str {
        &self.robot_name
    }

    /// Gets a text (HTML, XML, JSON, plain), following redirects and trying again when that may help.
    pub async fn get(&self, url: &Url) -> Result<Fetched, FetchError> {
        self.get_as(url, Wanted::Page).await
    }

    /// Gets a sitemap, which may be compressed as a file.
    pub async fn get_sitemap(&self, url: &Url) -> Result<Fetched, FetchError> {
        self.get_as(url, Wanted::Sitemap).await
    }

    async fn get_as(&self, url: &Url, wanted: Wanted) -> Result<Fetched, FetchError> {
        let mut backoff = self.limits.backoff;
        let mut retries = self.limits.retries;
        loop {
            let turn = self.hosts.turn(url).await;
            let tried = timeout(self.limits.timeout, self.follow(url.clone(), wanted))
                .await
                .unwrap_or_else(|_| Err(FetchError::Timeout(self.limits.timeout).into()));
            match tried {
                Err(failed) if retries > 0 && failed.error.is_retryable() => {
                    tracing::debug!(host = url.host_str(), error = %failed.error, "a page will be tried again");
                    if let Some(asked) = failed.retry_after {
                        self.leave_alone(url, asked);
                    }
                    drop(turn);
                    sleep(backoff).await;
                    // A page that drips costs the whole limit each time: it has one more chance, not several.
                    let is_slow = matches!(failed.error, FetchError::Timeout(_));
                    retries = if is_slow { 0 } else { retries - 1 };
                    backoff *= 2;
                }
                done => return done.map_err(|failed| failed.error),
            }
        }
    }

    async fn follow(&self, mut url: Url, wanted: Wanted) -> Result<Fetched, Failed> {
        for _ in 0..=self.limits.max_redirects {
            self.guard.check_url(&url)?;
            let response = self.ask(&url).await?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                url = target.and_then(|target| url.join(target).ok()).ok_or(FetchError::BadRedirect)?;
                continue;
            }
            if !status.is_success() {
                let asked = response.headers().get(header::RETRY_AFTER);
                let retry_after = asked.and_then(|asked| retry_after(asked.to_str().ok()?));
                return Err(Failed { error: FetchError::Status(status.as_u16()), retry_after });
            }
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type =
                content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let is_wanted = |media: &str| is_text(media) || (wanted == Wanted::Sitemap && is_packed(media));
            if let Some(media) = content_type.as_deref().filter(|media| !is_wanted(media)) {
                return Err(FetchError::NotText(media.chars().take(100).collect()).into());
            }
            let mut body = self.body(response).await?;
            if wanted == Wanted::Sitemap {
                body = unpack(body, self.limits.max_body_bytes);
            }
            let body = decode(body, content_type.as_deref());
            return Ok(Fetched { url, status: status.as_u16(), content_type, body });
        }
        Err(FetchError::TooManyRedirects(self.limits.max_redirects).into())
    }

    async fn ask(&self, url: &Url) -> Result<Response, FetchError> {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.1";
        let request = self.client.get(url.clone()).header(header::ACCEPT, accept);
        match request.header(header::USER_AGENT, &self.limits.user_agent).send().await {
            // Inside TLS only the site speaks, so there the proxy's headers would be the site's lie.
            Ok(response) if url.scheme() == "http" && response.headers().contains_key(REFUSED_HEADER) => {
                Err(self
                    .refusal(url)
                    .await
                    .unwrap_or_else(|| refused(url.host_str(), Reason::Address("not a public")).into()))
            }
            Ok(response) if url.scheme() == "http" && response.headers().contains_key(FAILED_HEADER) => {
                let sentence = response.text().await.unwrap_or_default();
                Err(FetchError::Network(sentence.trim().into()))
            }
            Ok(response) => Ok(response),
            // A refused tunnel looks like a broken one from here; the guard knows which it was.
            Err(error) if error.is_connect() => {
                Err(self.refusal(url).await.unwrap_or_else(|| FetchError::Network(innermost(&error))))
            }
            Err(error) => Err(FetchError::Network(innermost(&error))),
        }
    }

    async fn refusal(&self, url: &Url) -> Option<FetchError> {
        match self.guard.resolve(url).await {
            Err(ResolveError::Refused(refused)) => Some(refused.into()),
            Err(unknown @ ResolveError::Unknown { .. }) => Some(FetchError::Network(unknown.to_string())),
            Ok(_) => None,
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, FetchError> {
        let limit = self.limits.max_body_bytes;
        let announced = response.content_length().unwrap_or(0);
        if announced > limit as u64 {
            return Err(FetchError::TooLarge { limit });
        }
        let mut body = Vec::with_capacity(announced as usize);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    return Err(FetchError::TooLarge { limit });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(FetchError::Network(innermost(&error))),
            }
        }
    }
}

/// The cause at the bottom, without the layers above it that repeat the address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The value of `Retry-After`, in seconds or as a date.
pub fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    (until.to_utc() - chrono::Utc::now()).to_std().ok()
}

/// What an address is expected to give.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Page,
    Sitemap,
}

/// Media types that compressed files are sent with.
fn is_packed(media: &str) -> bool {
    let media = media.to_ascii_lowercase();
    media.contains("gzip") || media.contains("octet-stream")
}

/// The inside of a gzip file as far as it goes, and no more than `limit` bytes of it; anything else as it is.
fn unpack(bytes: Vec<u8>, limit: usize) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut inside = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]).take(limit as u64);
    if let Err(error) = reader.read_to_end(&mut inside) {
        tracing::debug!(%error, "a compressed sitemap is cut or broken");
    }
    inside
}

fn is_text(media: &str) -> bool {
    let media = media.to_ascii_lowercase();
    media.starts_with("text/") || media.contains("xml") || media.contains("json") || media.trim().is_empty()
}

/// UTF-8, or the one other family that old European shops still send: Latin-1 in its Windows form.
fn decode(body: Vec<u8>, content_type: Option<&str>) -> String {
    let from_header = content_type.and_then(charset);
    let declared = from_header.or_else(|| charset(&String::from_utf8_lossy(&body[..body.len().min(1024)])));
    match declared.as_deref() {
        Some("iso-8859-1" | "iso-8859-15" | "latin1" | "latin-1" | "windows-1252" | "cp1252") => {
            body.into_iter().map(from_windows_1252).collect()
        }
        _ => String::from_utf8(body)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The value behind the first `charset=`, in a header or in a page's head.
fn charset(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let value = text.split_once("charset=")?.1.trim_start_matches(['"', '\'', ' ']);
    let end =
        value.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')).unwrap_or(value.len());
    Some(value[..end].to_string())
}

fn from_windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        // ISO-8859-15 has its euro where Latin-1 has a sign that nobody prints.
        0xa4 => '€',
        _ => char::from(byte),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{
        Router,
        body::{Body, Bytes},
        extract::Path,
        http::HeaderMap,
        response::{IntoResponse, Redirect},
        routing::get,
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::guard::{
        ProxyLimits,
        tests::{serve, url},
    };

    /// A fetcher that may visit `allowed`, and the proxy that it needs to stay alive. Patient about nothing.
    pub async fn fetcher(allowed: &[&Url]) -> (Fetcher, GuardProxy) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let guard = Guard::new(allowed.iter().copied().cloned().collect());
        let proxy = GuardProxy::start(guard, ProxyLimits::default()).await.unwrap();
        let limits = FetchLimits {
            user_agent: "JobcastBot/1 (+https://jobcast.example/bot)".into(),
            backoff: Duration::from_millis(1),
            max_retry_after: Duration::from_millis(1),
            ..FetchLimits::default()
        };
        (Fetcher::new(&proxy, limits).unwrap(), proxy)
    }

    fn with(fetcher: &Fetcher, change: impl FnOnce(&mut FetchLimits)) -> Fetcher {
        let mut limits = (*fetcher.limits).clone();
        change(&mut limits);
        Fetcher { limits: Arc::new(limits), ..fetcher.clone() }
    }

    #[tokio::test]
    async fn a_page_is_fetched_through_redirects_under_the_bots_name() {
        let site = Router::new().route("/old", get(|| async { Redirect::permanent("/a/../new?x=1") })).route(
            "/new",
            get(|headers: HeaderMap| async move { headers["user-agent"].to_str().unwrap().to_string() }),
        );
        let site = serve(site).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        let fetched = fetcher.get(&site.join("old").unwrap()).await.unwrap();
        assert_eq!(fetched.url, site.join("new?x=1").unwrap());
        assert_eq!(
            (fetched.status, fetched.body.as_str()),
            (200, "JobcastBot/1 (+https://jobcast.example/bot)")
        );
        assert_eq!(fetcher.robot_name(), "JobcastBot");
    }

    #[tokio::test]
    async fn a_redirect_into_the_inner_network_is_refused() {
        let away =
            |Path(target): Path<String>| async move { Redirect::temporary(&format!("http://{target}/")) };
        let site = serve(Router::new().route("/to/{target}", get(away))).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        for target in ["169.254.169.254", "localhost:1", "127.0.0.1:1", "2130706433", "[::1]"] {
            let fetched = fetcher.get(&site.join(&format!("to/{target}")).unwrap()).await;
            assert!(
                matches!(&fetched, Err(FetchError::Refused(Refused { reason: Reason::Address(_), .. }))),
                "{target}: {fetched:?}"
            );
        }
    }

    #[tokio::test]
    async fn only_the_allowed_origin_is_reached_and_only_by_its_name() {
        let (mine, other) =
            (serve(Router::new().route("/", get(|| async { "mine" }))).await, serve(Router::new()).await);
        let (fetcher, _proxy) = fetcher(&[&mine]).await;
        assert_eq!(fetcher.get(&mine).await.unwrap().body, "mine");
        let port = mine.port().unwrap();
        for address in [
            other.to_string(),
            format!("http://localhost:{port}/"),
            format!("https://127.0.0.1:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            format!("http://0x7f.1:{}/", other.port().unwrap()),
            format!("http://2130706433:{}/", other.port().unwrap()),
        ] {
            let fetched = fetcher.get(&url(&address)).await;
            assert!(matches!(fetched, Err(FetchError::Refused(_))), "{address}: {fetched:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_by_the_proxy_alone_is_told_from_the_sites_own_403() {
        let forbids = Router::new()
            .route("/", get(|| async { (StatusCode::FORBIDDEN, [(REFUSED_HEADER, "address")]) }));
        let site = serve(forbids).await;
        let (permitted, _proxy) = fetcher(&[&site]).await;
        assert!(matches!(permitted.get(&site).await, Err(FetchError::Status(403))));
        // As when a name begins to resolve inwards only after the fetcher had looked at it.
        let (_, strict) = fetcher(&[]).await;
        let fooled = Fetcher {
            guard: permitted.guard.clone(),
            ..Fetcher::new(&strict, FetchLimits::default()).unwrap()
        };
        assert!(matches!(fooled.get(&site).await, Err(FetchError::Refused(_))));
    }

    #[tokio::test]
    async fn an_unknown_host_is_a_network_error_that_names_the_host() {
        let (fetcher, _proxy) = fetcher(&[]).await;
        for address in ["http://no-such-shop.invalid/", "https://no-such-shop.invalid/"] {
            let error = fetcher.get(&url(address)).await.unwrap_err();
            assert!(
                matches!(&error, FetchError::Network(text) if text.contains("no-such-shop.invalid")),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_endless_redirect_ends() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let around = move || async move {
            Redirect::temporary(&format!("/?{}", counter.fetch_add(1, Ordering::SeqCst)))
        };
        let site = serve(Router::new().route("/", get(around))).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        assert!(matches!(fetcher.get(&site).await, Err(FetchError::TooManyRedirects(5))));
        assert_eq!(asked.load(Ordering::SeqCst), 6);
    }

    #[tokio::test]
    async fn a_body_is_cut_at_the_limit_announced_or_not_or_compressed() {
        // 200,000 zero bytes, gzipped.
        const BOMB: &str = "H4sIAAAAAAACA+3BMQEAAADCoPVPbQZ/oAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
            AAAAAAAAAAAAAAAAAAAACA1wB7WOBcQA0DAA==";
        let megabyte = Bytes::from(vec![b'x'; 1_000_000]);
        let hundred = move || {
            stream::iter((0..100).map({
                let megabyte = megabyte.clone();
                move |_| Ok::<_, std::io::Error>(megabyte.clone())
            }))
        };
        let announced = hundred.clone();
        let site =
            Router::new()
                .route(
                    "/announced",
                    get(move || async move {
                        ([("content-length", "100000000")], Body::from_stream(announced()))
                    }),
                )
                .route("/streamed", get(move || async move { Body::from_stream(hundred()) }))
                .route(
                    "/bomb",
                    get(|| async {
                        (
                            [("content-encoding", "gzip"), ("content-type", "text/html")],
                            BASE64_STANDARD.decode(BOMB).unwrap(),
                        )
                    }),
                );
        let site = serve(site).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        let small = with(&fetcher, |limits| limits.max_body_bytes = 100_000);
        for path in ["announced", "streamed", "bomb"] {
            let fetched = small.get(&site.join(path).unwrap()).await.map(|fetched| fetched.body.len());
            assert!(matches!(fetched, Err(FetchError::TooLarge { limit: 100_000 })), "{path}: {fetched:?}");
        }
        assert_eq!(fetcher.get(&site.join("bomb").unwrap()).await.unwrap().body.len(), 200_000);
    }

    #[tokio::test]
    async fn an_endless_body_runs_into_the_timeout() {
        let endless = || async {
            let first = stream::iter([Ok::<_, std::io::Error>("<html>")]);
            Body::from_stream(first.chain(stream::pending()))
        };
        let site = serve(Router::new().route("/", get(endless))).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        let hasty =
            with(&fetcher, |limits| (limits.timeout, limits.retries) = (Duration::from_millis(300), 0));
        assert!(matches!(hasty.get(&site).await, Err(FetchError::Timeout(_))));
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let site = Router::new().route(
            "/once",
            get(move || async move {
                match counter.fetch_add(1, Ordering::SeqCst) {
                    0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "86400")]).into_response(),
                    1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                    _ => "there".into_response(),
                }
            }),
        );
        let counts = Arc::new(AtomicUsize::new(0));
        let site = ["/404", "/500"].into_iter().fold(site, |site, path| {
            let counts = counts.clone();
            let status = StatusCode::from_bytes(&path.as_bytes()[1..]).unwrap();
            site.route(
                path,
                get(move || async move {
                    counts.fetch_add(1, Ordering::SeqCst);
                    status
                }),
            )
        });
        let site = serve(site).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        assert_eq!(fetcher.get(&site.join("once").unwrap()).await.unwrap().body, "there");
        for (path, tries) in [("404", 1), ("500", 3)] {
            counts.store(0, Ordering::SeqCst);
            let error = fetcher.get(&site.join(path).unwrap()).await.unwrap_err();
            assert!(matches!(error, FetchError::Status(status) if status.to_string() == path), "{error}");
            assert_eq!(counts.load(Ordering::SeqCst), tries, "{path}");
        }
    }

    #[tokio::test]
    async fn a_picture_is_not_a_page() {
        let site =
            serve(Router::new().route("/", get(|| async { ([("content-type", "image/png")], "…") }))).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        assert!(matches!(fetcher.get(&site).await, Err(FetchError::NotText(kind)) if kind == "image/png"));
    }

    #[test]
    fn umlauts_survive_in_utf_8_and_latin_1() {
        let latin = b"Gr\xf6\xdfe 5 \x80".to_vec();
        for (body, content_type) in [
            ("Größe 5 €".as_bytes().to_vec(), Some("text/html; charset=utf-8")),
            ("Größe 5 €".as_bytes().to_vec(), None),
            (latin.clone(), Some("text/html; charset=ISO-8859-1")),
            (latin, Some("text/html;charset=\"windows-1252\"")),
        ] {
            assert_eq!(decode(body, content_type), "Größe 5 €", "{content_type:?}");
        }
        let declared_inside = b"<meta charset='iso-8859-15'><p>\xa4 \xfc".to_vec();
        assert!(decode(declared_inside, Some("text/html")).ends_with("<p>€ ü"));
        assert_eq!(decode(b"a\xffb".to_vec(), None), "a\u{fffd}b");
    }

    #[tokio::test]
    async fn a_compressed_sitemap_is_unpacked_within_bounds() {
        let pack = |text: &str| {
            use std::io::Write as _;
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(text.as_bytes()).unwrap();
            packer.finish().unwrap()
        };
        let (small, bomb) = (pack("<urlset/>"), pack(&" ".repeat(20_000_000)));
        let site = Router::new()
            .route(
                "/small.xml.gz",
                get(move || async move { ([(header::CONTENT_TYPE, "application/gzip")], small) }),
            )
            .route(
                "/bomb.xml.gz",
                get(move || async move { ([(header::CONTENT_TYPE, "application/x-gzip")], bomb) }),
            );
        let site = serve(site).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        let at = |path: &str| site.join(path).unwrap();
        assert_eq!(fetcher.get_sitemap(&at("/small.xml.gz")).await.unwrap().body, "<urlset/>");
        assert_eq!(fetcher.get_sitemap(&at("/bomb.xml.gz")).await.unwrap().body.len(), 5_000_000);
        assert!(matches!(fetcher.get(&at("/small.xml.gz")).await, Err(FetchError::NotText(_))));
    }

    #[tokio::test]
    async fn a_jobs_user_agent_is_sent_and_robots_rules_are_still_our_own() {
        let site = Router::new().route(
            "/",
            get(|headers: HeaderMap| async move { headers["user-agent"].to_str().unwrap().to_owned() }),
        );
        let site = serve(site).await;
        let (fetcher, _proxy) = fetcher(&[&site]).await;
        let other = fetcher.adapted(Some("Mozilla/5.0 (test)"), Some(Duration::from_secs(1)));
        assert_eq!(other.get(&site).await.unwrap().body, "Mozilla/5.0 (test)");
        assert_eq!(other.robot_name(), "JobcastBot");
    }

    #[test]
    fn a_site_may_say_when_to_come_back_in_seconds_or_as_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        let date = (chrono::Utc::now() + Duration::from_secs(60)).to_rfc2822().replace("+0000", "GMT");
        assert!(retry_after(&date).is_some_and(|wait| wait.as_secs() > 50), "{date}");
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(retry_after("soon"), None);
    }
}
