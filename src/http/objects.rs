//! `/cdn/{key}`: screenshots and labels, as they are or in another size or format, whole or in ranges; and
//! `/v1/objects`, which tells of an object and gives addresses of it.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use object_store::GetRange;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    cached::is_known,
    caller::Caller,
    error::Error,
    pictures::{missing, no_object},
    transform::Transform,
};
use crate::{
    event::format_timestamp,
    job::{ANONYMOUS, Code, Principal, Rejection},
    store::{Artifact, Denied, Showing, disposition},
};

/// Longest key that is looked up.
const MAX_KEY: usize = 512;
/// Characters of a download's name at the most.
const MAX_NAME: usize = 150;
/// A path that begins so asks for a transform: `/cdn/tr:w-300,h-300/<key>`.
const TRANSFORM: &str = "tr:";

/// How an object is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CdnQuery {
    /// Another size or format, such as `w-300,h-300,f-jpg,q-80`; the same as `tr:…/` before the key.
    tr: Option<String>,
    /// The name under which a browser saves the object; empty for the object's own.
    download: Option<String>,
    /// When the address ends, in seconds since 1970; only if addresses are signed.
    expires: Option<String>,
    /// What this server signed the address with.
    signature: Option<String>,
}

/// What is to be done with which object.
struct Wanted {
    key: String,
    transform: Option<Transform>,
    download: String,
}

impl Wanted {
    fn read(key: String, transform: Option<String>, download: Option<String>) -> Result<Wanted, Rejection> {
        // Postgres knows no text with a NUL, and no key has one.
        if key.len() > MAX_KEY || key.chars().any(char::is_control) {
            return Err(no_object());
        }
        let (within, key) = match key.strip_prefix(TRANSFORM) {
            Some(rest) => {
                let (transform, key) = rest.split_once('/').ok_or_else(no_object)?;
                (Some(transform.to_owned()), key.to_owned())
            }
            None => (None, key),
        };
        let transform = within.or(transform).map(|text| text.parse());
        let transform =
            transform.transpose().map_err(|bad: super::transform::BadTransform| invalid(bad.to_string()))?;
        let download = download.map_or(Ok(String::new()), |name| file_name(name, &key))?;
        Ok(Wanted { key, transform, download })
    }

    fn transform(&self) -> String {
        self.transform.map(|transform| transform.to_string()).unwrap_or_default()
    }

    fn showing<'a>(&'a self, transform: &'a str) -> Showing<'a> {
        Showing { transform, download: &self.download }
    }

    /// The object, made if it has to be. `signed` says that whoever asks has been given its address; else it must be an
    /// object of a job that the caller may know of.
    async fn find(
        &self,
        api: &Api,
        signed: bool,
        caller: Option<&Principal>,
    ) -> Result<(Artifact, Artifact), Rejection> {
        let found = api.store.owned_artifact(&self.key).await.map_err(super::internal)?;
        let (source, owner) = found.ok_or_else(no_object)?;
        // What nobody in particular made is nobody's secret, where anybody may come in.
        let public = owner == ANONYMOUS && api.identity.allows_anonymous();
        if !signed && !public && !caller.is_some_and(|caller| caller.sees(&owner)) {
            return Err(no_object());
        }
        let shown = match self.transform {
            Some(transform) => api.pictures.get(&source, transform).await?,
            None => source.clone(),
        };
        Ok((source, shown))
    }
}

/// A name that is safe to save under: no folders, nothing that cannot be seen.
fn file_name(name: String, key: &str) -> Result<String, Rejection> {
    let name = match name.is_empty() {
        true => key.rsplit('/').next().unwrap_or_default().to_owned(),
        false => name,
    };
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\');
    if name.chars().any(bad) || name.starts_with('.') || name.chars().count() > MAX_NAME {
        return Err(invalid(format!(
            "download must be a file's name of at most {MAX_NAME} characters, without folders."
        )));
    }
    Ok(name)
}

/// The name with the ending that belongs to what is in it, so that no picture is opened as something else.
fn with_ending(name: &str, content_type: &str) -> String {
    let endings: &[&str] = match content_type {
        "image/png" => &[".png"],
        "image/jpeg" => &[".jpg", ".jpeg"],
        "image/webp" => &[".webp"],
        "application/pdf" => &[".pdf"],
        _ => &[],
    };
    let lower = name.to_lowercase();
    match endings.first() {
        Some(usual) if !endings.iter().any(|ending| lower.ends_with(ending)) => format!("{name}{usual}"),
        _ => name.to_owned(),
    }
}

fn invalid(message: String) -> Rejection {
    Rejection::new(Code::InvalidRequest, message)
}

/// An object: a screenshot, a label, or a picture in another size or format.
///
/// `GET` and `HEAD`, `If-None-Match` and one `Range`. Where addresses are signed, `/v1/objects` gives signed ones.
#[utoipa::path(
    get, path = "/cdn/{key}", tag = "objects",
    params(("key" = String, Path, description = "The object's key, perhaps with `tr:w-300,h-300/` before it"), CdnQuery),
    responses(
        (status = 200, description = "The object", body = Vec<u8>, content_type = "image/png"),
        (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "As the client knows it"),
        (status = 400, description = "A transform or a name that is none", body = Value),
        (status = 403, description = "Not signed, forged or expired", body = Value),
        (status = 404, description = "No such object", body = Value),
        (status = 413, description = "Too large to be transformed", body = Value),
        (status = 416, description = "The range lies outside"),
        (status = 503, description = "Busy, or the store does not answer", body = Value),
    ),
)]
pub async fn get(
    State(api): State<Api>,
    caller: Option<Extension<Caller>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<CdnQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let Path(key) = path.map_err(|_| no_object())?;
    let Query(query) = query?;
    let wanted = Wanted::read(key, query.tr, query.download)?;
    let transform = wanted.transform();
    let expires = query.expires.and_then(|text| text.parse().ok());
    let caller = caller.as_deref();
    let signed = api.blobs.addresses().check(
        &wanted.key,
        wanted.showing(&transform),
        expires,
        query.signature.as_deref(),
    );
    let (signed, kept) = match signed {
        Ok(Some(left)) => (true, Kept::Until(left)),
        Ok(None) => (false, Kept::ForEver),
        // Who may see the job needs no signature.
        Err(Denied::Unsigned) if caller.is_some_and(|caller| !caller.is_anonymous()) => {
            (false, Kept::ForEver)
        }
        Err(denied) => return Err(Rejection::new(Code::Forbidden, denied.to_string()).into()),
    };
    let (source, shown) = wanted.find(&api, signed, caller.map(|caller| &**caller)).await?;
    // A cache in between must not give it to others.
    let kept = match kept {
        Kept::ForEver if caller.is_some_and(|caller| !caller.is_anonymous()) => Kept::Until(api.max_age),
        kept => kept,
    };
    let served = serve(&api, &shown, &headers, kept, &wanted.download).await;
    match (served, wanted.transform) {
        (Err(Rejection { code: Code::RouteNotFound, .. }), Some(transform)) => {
            let shown = api.pictures.again(&shown, &source, transform).await?;
            Ok(serve(&api, &shown, &headers, kept, &wanted.download).await?)
        }
        (served, _) => Ok(served?),
    }
}

/// How long who is given an object may keep it.
#[derive(Clone, Copy)]
pub enum Kept {
    /// As long as the settings say: keys are never reused.
    ForEver,
    /// As long as its signed address is good.
    Until(Duration),
    /// So many seconds: the address may mean another object later.
    For(u32),
    /// Asked again each time, and by nobody else: the address may mean another object at any time.
    Asked,
}

/// An object as an answer, for `If-None-Match` and one `Range`.
pub async fn serve_object(
    api: &Api,
    shown: &Artifact,
    headers: &HeaderMap,
    kept: Kept,
) -> Result<Response<Body>, Rejection> {
    serve(api, shown, headers, kept, "").await
}

async fn serve(
    api: &Api,
    shown: &Artifact,
    headers: &HeaderMap,
    kept: Kept,
    download: &str,
) -> Result<Response<Body>, Rejection> {
    let tag = format!("\"{}\"", &shown.sha256);
    let about = About { tag: &tag, max_age: api.max_age, kept, download };
    if is_known(headers, &tag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        about.describe(response.headers_mut(), shown);
        return Ok(response);
    }
    // A range of another version is of no use to who asks for it.
    let may_range = headers.get(header::IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
    let size = shown.size as u64;
    let range = headers.get(header::RANGE).filter(|_| may_range).map(|given| parse_range(given, size));
    let range = match range {
        None | Some(Asked::Whole) => None,
        Some(Asked::Part(range)) => Some(range),
        Some(Asked::Outside) => {
            let response =
                (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{size}"))]);
            return Ok(response.into_response());
        }
    };
    let partial = range.is_some();
    let object =
        api.blobs.get(&shown.key, range.map(GetRange::Bounded)).await.map_err(|error| missing(&error))?;
    let mut response = Response::new(Body::from(object.bytes));
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value =
            format!("bytes {}-{}/{}", object.range.start, object.range.end.saturating_sub(1), object.size);
        insert(response.headers_mut(), header::CONTENT_RANGE, &value);
    }
    about.describe(response.headers_mut(), shown);
    Ok(response)
}

/// Which object is asked about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ObjectQuery {
    /// As it stands at the end of the object's address, such as `jobs/…/screenshots/….png`.
    #[param(max_length = 512, example = "jobs/01890a5d-ac96-774b-bcce-b302099a8057/screenshots/1.png")]
    key: String,
    /// Another size or format, such as `w-300,h-300,f-jpg,q-80`.
    #[param(max_length = 64, example = "w-300,h-300,f-jpg,q-80")]
    tr: Option<String>,
    /// The name under which a browser is to save it; empty for the object's own.
    #[param(max_length = 150, example = "label.png")]
    download: Option<String>,
}

/// An object, and where to get it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    key: String,
    /// Good until `expiresAt`, or for ever.
    url: String,
    /// When the address ends, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    content_type: String,
    /// Bytes.
    size: i64,
    /// Hexadecimal.
    sha256: String,
}

/// What is known of an object, with an address that is good from now on: signed where addresses are signed.
#[utoipa::path(
    get, path = "/v1/objects", tag = "objects", params(ObjectQuery),
    responses(
        (status = 200, body = Described),
        (status = 400, description = "A transform or a name that is none", body = Value),
        (status = 404, description = "No such object", body = Value),
        (status = 413, description = "Too large to be transformed", body = Value),
        (status = 503, description = "Busy, or the store does not answer", body = Value),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<ObjectQuery>, QueryRejection>,
) -> Result<Json<Described>, Error> {
    let Query(query) = query?;
    let mut wanted = Wanted::read(query.key, query.tr, query.download)?;
    let (source, shown) = wanted.find(&api, false, Some(&caller)).await?;
    if !wanted.download.is_empty() {
        // The bucket is told the name as it is to be; this server would make it so itself.
        wanted.download = with_ending(&wanted.download, &shown.content_type);
    }
    let transform = wanted.transform();
    let (url, until) = api.blobs.addresses().showing(&source.key, wanted.showing(&transform));
    Ok(Json(Described {
        key: source.key,
        url,
        expires_at: until.map(format_timestamp),
        content_type: shown.content_type,
        size: shown.size,
        sha256: shown.sha256,
    }))
}

/// What the headers of an object say besides what it is.
struct About<'a> {
    tag: &'a str,
    max_age: Duration,
    kept: Kept,
    /// Empty to show it.
    download: &'a str,
}

impl About<'_> {
    fn describe(&self, headers: &mut HeaderMap, artifact: &Artifact) {
        // Who may see it now need not be let see it later by a cache in between.
        let kept = match self.kept {
            Kept::ForEver => format!("public, max-age={}, immutable", self.max_age.as_secs()),
            Kept::Until(left) => format!("private, max-age={}, immutable", self.max_age.min(left).as_secs()),
            Kept::For(seconds) => format!("public, max-age={seconds}"),
            Kept::Asked => "private, no-cache".to_owned(),
        };
        insert(headers, header::CONTENT_TYPE, &artifact.content_type);
        insert(headers, header::ETAG, self.tag);
        insert(headers, header::CACHE_CONTROL, &kept);
        insert(headers, header::ACCEPT_RANGES, "bytes");
        // Pictures of strangers' pages are shown, never run.
        insert(headers, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
        insert(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if !self.download.is_empty() {
            let name = with_ending(self.download, &artifact.content_type);
            insert(headers, header::CONTENT_DISPOSITION, &disposition(&name));
        }
    }
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[derive(Debug, PartialEq)]
enum Asked {
    /// No range, or one that need not be honoured (several ranges, another unit).
    Whole,
    Part(std::ops::Range<u64>),
    Outside,
}

/// `bytes=0-99`, `bytes=100-`, `bytes=-100`.
fn parse_range(given: &HeaderValue, size: u64) -> Asked {
    let Some(spec) = given.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Asked::Whole;
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(suffix)) if first.trim().is_empty() => size.saturating_sub(suffix)..size,
        _ => return Asked::Whole,
    };
    if range.start >= size || range.is_empty() { Asked::Outside } else { Asked::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_the_name_that_was_asked_for_and_the_ending_of_what_is_in_it() {
        let named = |name: &str, content_type: &str| {
            let wanted = Wanted::read("jobs/1/labels/7.png".into(), None, Some(name.into()))?;
            Ok::<_, Rejection>(with_ending(&wanted.download, content_type))
        };
        for (name, content_type, saved) in [
            ("", "image/png", "7.png"),
            ("Größe L.png", "image/png", "Größe L.png"),
            ("label.html", "image/png", "label.html.png"),
            ("label.JPEG", "image/jpeg", "label.JPEG"),
            ("label", "application/pdf", "label.pdf"),
        ] {
            assert_eq!(named(name, content_type).as_deref(), Ok(saved));
        }
        for bad in ["../x.png", "a/b", "a\\b", "a\r\nSet-Cookie: x", ".htaccess", &"x".repeat(151)] {
            assert_eq!(named(bad, "image/png").unwrap_err().code, Code::InvalidRequest, "{bad}");
        }
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        for (given, asked) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=50-1000", Asked::Part(50..100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=9-0", Asked::Whole),
            ("bytes=0-1,5-6", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=x-y", Asked::Whole),
        ] {
            assert_eq!(parse_range(&HeaderValue::from_static(given), 100), asked, "{given}");
        }
    }
}
