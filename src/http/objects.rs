//! `/cdn/{key}`: screenshots and labels, cacheable for ever, whole or in ranges.

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use object_store::GetRange;

use super::{Api, error::Error};
use crate::{
    job::{Code, Rejection},
    store::{Artifact, BlobsError},
};

/// Longest key that is looked up.
const MAX_KEY: usize = 512;

/// Answers `GET` and `HEAD`, `If-None-Match` and one `Range`.
pub async fn get(
    State(api): State<Api>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let not_found = || Rejection::new(Code::RouteNotFound, "There is no such object.");
    if key.len() > MAX_KEY {
        return Err(not_found().into());
    }
    let artifact = api.store.artifact(&key).await?.ok_or_else(not_found)?;
    let tag = format!("\"{}\"", &artifact.sha256);
    if headers.get_all(header::IF_NONE_MATCH).iter().any(|given| names_tag(given, &tag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(response.headers_mut(), &artifact, &tag, api.max_age);
        return Ok(response);
    }
    // A range of another version is of no use to who asks for it.
    let may_range = headers.get(header::IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
    let size = artifact.size as u64;
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
    let object = api.blobs.get(&key, range.map(GetRange::Bounded)).await.map_err(|error| match error {
        BlobsError::NotFound(_) => not_found(),
        other => {
            let id = uuid::Uuid::new_v4();
            tracing::error!(%id, key, error = %other, "an object could not be fetched");
            Rejection::new(
                Code::Unavailable,
                format!("The object store does not answer; try again. (id {id})"),
            )
        }
    })?;
    let mut response = Response::new(Body::from(object.bytes));
    if partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value =
            format!("bytes {}-{}/{}", object.range.start, object.range.end.saturating_sub(1), object.size);
        insert(response.headers_mut(), header::CONTENT_RANGE, &value);
    }
    describe(response.headers_mut(), &artifact, &tag, api.max_age);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, artifact: &Artifact, tag: &str, max_age: std::time::Duration) {
    insert(headers, header::CONTENT_TYPE, &artifact.content_type);
    insert(headers, header::ETAG, tag);
    insert(headers, header::CACHE_CONTROL, &format!("public, max-age={}, immutable", max_age.as_secs()));
    insert(headers, header::ACCEPT_RANGES, "bytes");
    // Pictures of strangers' pages are shown, never run.
    insert(headers, header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    insert(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn names_tag(given: &HeaderValue, tag: &str) -> bool {
    given.to_str().is_ok_and(|list| {
        list.split(',')
            .map(|entry| entry.trim().trim_start_matches("W/"))
            .any(|entry| entry == tag || entry == "*")
    })
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
