//! `/`: the live page, embedded in the binary; it uses the public API only and needs nothing from elsewhere.

use std::{borrow::Cow, collections::BTreeSet, io::Write as _, sync::OnceLock};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use url::Url;

use super::{
    Api,
    cached::{self, is_known},
    error::{Error, ErrorBody, Named},
};
use crate::{
    job::{Code, Rejection},
    store::Addresses,
};

/// Where the page's files are.
pub(super) const FOLDER: &str = "/page/";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

struct File {
    /// What stands behind [`FOLDER`].
    name: &'static str,
    content_type: &'static str,
    /// Below this folder.
    source: &'static str,
    bytes: &'static [u8],
    made: OnceLock<Made>,
}

/// What a file is sent as.
struct Made {
    gzip: Vec<u8>,
    etag: String,
}

macro_rules! files {
    ($($name:literal = $source:literal, $content_type:expr;)*) => {
        [$(File {
            name: $name,
            content_type: $content_type,
            source: $source,
            bytes: include_bytes!(concat!("page/", $source)),
            made: OnceLock::new(),
        }),*]
    };
}

/// All of the page; the first is the page itself.
static FILES: [File; 18] = files! {
    "" = "index.html", HTML;
    "icon.svg" = "icon.svg", PICTURE;
    "style.css" = "style.css", STYLE;
    "job.css" = "job.css", STYLE;
    "theme.js" = "theme.js", SCRIPT;
    "main.js" = "main.js", SCRIPT;
    "dom.js" = "dom.js", SCRIPT;
    "words.js" = "words.js", SCRIPT;
    "api.js" = "api.js", SCRIPT;
    "live.js" = "live.js", SCRIPT;
    "fold.js" = "fold.js", SCRIPT;
    "timeline.js" = "timeline.js", SCRIPT;
    "list.js" = "list.js", SCRIPT;
    "form.js" = "form.js", SCRIPT;
    "job.js" = "job.js", SCRIPT;
    "parts.js" = "parts.js", SCRIPT;
    "viewer.js" = "viewer.js", SCRIPT;
    "socket.io.js" = "vendor/socket.io.esm.min.js", SCRIPT;
};

/// How the page is served.
#[derive(Clone)]
pub struct Page {
    /// What it may load, and from where.
    policy: HeaderValue,
}

impl Page {
    /// Pictures may lie at another origin than the page: at the public address, or in a bucket.
    pub fn new(addresses: &Addresses) -> Page {
        let origins = [addresses.plain("x"), addresses.of("x")];
        let origins = origins.iter().filter_map(|address| Url::parse(address).ok());
        let origins: BTreeSet<String> = origins.map(|url| url.origin().ascii_serialization()).collect();
        let origins: Vec<String> = origins.into_iter().collect();
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data: {}; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            origins.join(" ")
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Page { policy }
    }
}

/// The live page: all jobs of the caller, a form for new ones, and each job at any of its events.
#[utoipa::path(
    get, path = "/", tag = "page",
    responses((status = 200, body = String, content_type = "text/html"), (status = 304, description = "As the client knows it")),
)]
pub async fn index(State(api): State<Api>, headers: HeaderMap) -> Response {
    send(&api.page, &FILES[0], &headers)
}

/// A part of the live page.
#[utoipa::path(
    get, path = "/page/{file}", tag = "page", params(("file" = String, Path, description = "The file's name")),
    responses(
        (status = 200, content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml"), (String = "text/html"),
        )),
        (status = 304, description = "As the client knows it"),
        (status = 404, body = ErrorBody),
    ),
)]
pub async fn file(State(api): State<Api>, Named(name): Named, headers: HeaderMap) -> Result<Response, Error> {
    let file = FILES.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| {
        Rejection::new(Code::RouteNotFound, format!("The page has no file {name:?}; it is at /."))
    })?;
    Ok(send(&api.page, file, &headers))
}

fn send(page: &Page, file: &'static File, headers: &HeaderMap) -> Response {
    let bytes = file.newest();
    let (gzip, etag) = match &bytes {
        Cow::Borrowed(_) => {
            let made =
                file.made.get_or_init(|| Made { gzip: zip(file.bytes), etag: cached::tag(file.bytes) });
            (accepts_gzip(headers).then_some(&made.gzip), made.etag.clone())
        }
        Cow::Owned(bytes) => (None, cached::tag(bytes)),
    };
    // Another encoding is another representation.
    let etag = if gzip.is_some() { format!("{}-gz\"", etag.trim_end_matches('"')) } else { etag };
    let is_known = is_known(headers, &etag);
    let mut response = match (is_known, gzip) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, Some(gzip)) => {
            ([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], gzip.as_slice()).into_response()
        }
        (false, None) => bytes.into_owned().into_response(),
    };
    let sent = response.headers_mut();
    if !is_known {
        sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        sent.insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
        sent.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    // A new version of the server brings a new page: it is asked for each time, and told to be as known.
    sent.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    sent.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        sent.insert(header::ETAG, etag);
    }
    response
}

impl File {
    /// Whoever works on the page sees a change without building: then its files are read anew each time.
    fn newest(&self) -> Cow<'static, [u8]> {
        if cfg!(debug_assertions) {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page/");
            if let Ok(bytes) = std::fs::read(format!("{folder}{}", self.source))
                && bytes != self.bytes
            {
                return Cow::Owned(bytes);
            }
        }
        Cow::Borrowed(self.bytes)
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00")
    })
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let names = |text: &str| -> Vec<String> {
            let quoted = text.split(['"', '\'']).filter_map(|word| {
                let name = word.strip_prefix(FOLDER).or(word.strip_prefix("./"))?;
                (name.ends_with(".js") || name.ends_with(".css") || name.ends_with(".svg")).then_some(name)
            });
            quoted.map(str::to_owned).collect()
        };
        let mut named = 0;
        for file in &FILES {
            for name in names(&String::from_utf8_lossy(file.bytes)) {
                named += 1;
                assert!(FILES.iter().any(|file| file.name == name), "{} names {name}", file.source);
            }
        }
        assert!(named > 20, "{named} names found");
    }
}
