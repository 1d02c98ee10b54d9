//! Gets one page from the web, within bounds, and only through the [guard's proxy](super::guard).

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use reqwest::{Response, redirect::Policy};
use tokio::time::{sleep, timeout};
use url::Url;

use super::guard::{FAILED_HEADER, Guard, GuardProxy, REFUSED_HEADER, Reason, Refused, ResolveError, refused};

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
            max_retry_after: Duration::from_secs(5),
        }
    }
}

/// An HTTP client with bounds. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: reqwest::Client,
    guard: Guard,
    limits: Arc<FetchLimits>,
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
    #[error("the answer is larger than {limit} bytes; raise the fetch limit if a page of this size is expected")]
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
            return Err(FetchError::Network("no TLS provider is installed at the start of the process".into()));
        }
        let client = reqwest::Client::builder()
            .proxy(reqwest::Proxy::all(format!("http://{}", proxy.address())).map_err(broken)?)
            .user_agent(&limits.user_agent)
            // By hand: every hop is vetted before it is asked, and the last address is known.
            .redirect(Policy::none())
            .referer(false)
            .build()
            .map_err(broken)?;
        Ok(Fetcher { client, guard: proxy.guard().clone(), limits: Arc::new(limits) })
    }

    /// The user agent's name without version and address, by which a robots.txt calls it.
    pub fn robot_name(&self) -> &str {
        self.limits.user_agent.split(['/', ' ']).next().unwrap_or_default()
    }

    /// Gets a text (HTML, XML, JSON, plain), following redirects and trying again when that may help.
    pub async fn get(&self, url: &Url) -> Result<Fetched, FetchError> {
        let mut backoff = self.limits.backoff;
        let mut retries = self.limits.retries;
        loop {
            let tried = timeout(self.limits.timeout, self.follow(url.clone()))
                .await
                .unwrap_or_else(|_| Err(FetchError::Timeout(self.limits.timeout).into()));
            match tried {
                Err(failed) if retries > 0 && failed.error.is_retryable() => {
                    let asked = failed.retry_after.unwrap_or_default().min(self.limits.max_retry_after);
                    tracing::debug!(host = url.host_str(), error = %failed.error, "a page will be tried again");
                    sleep(asked.max(backoff)).await;
                    retries -= 1;
                    backoff *= 2;
                }
                done => return done.map_err(|failed| failed.error),
            }
        }
    }

    async fn follow(&self, mut url: Url) -> Result<Fetched, Failed> {
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
                let retry_after = retry_after(response.headers());
                return Err(Failed { error: FetchError::Status(status.as_u16()), retry_after });
            }
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if let Some(media) = content_type.as_deref().filter(|media| !is_text(media)) {
                return Err(FetchError::NotText(media.chars().take(100).collect()).into());
            }
            let body = decode(self.body(response).await?, content_type.as_deref());
            return Ok(Fetched { url, status: status.as_u16(), content_type, body });
        }
        Err(FetchError::TooManyRedirects(self.limits.max_redirects).into())
    }

    async fn ask(&self, url: &Url) -> Result<Response, FetchError> {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.1";
        match self.client.get(url.clone()).header(header::ACCEPT, accept).send().await {
            // Inside TLS only the site speaks, so there the proxy's headers would be the site's lie.
            Ok(response) if url.scheme() == "http" && response.headers().contains_key(REFUSED_HEADER) => {
                Err(self.refusal(url).await.unwrap_or_else(|| {
                    refused(url.host_str(), Reason::Address("not a public")).into()
                }))
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
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(FetchError::TooLarge { limit }),
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

/// `Retry-After` in seconds; its form as a date is rare, and the bound would cut it anyway.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
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
        _ => String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// The value behind the first `charset=`, in a header or in a page's head.
fn charset(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let value = text.split_once("charset=")?.1.trim_start_matches(['"', '\'', ' ']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')).unwrap_or(value.len());
    Some(value[..end].to_string())
}

fn from_windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
        '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        // ISO-8859-15 has its euro where Latin-1 has a sign that nobody prints.
        0xa4 => '€',
        _ => char::from(byte),
    }
}
