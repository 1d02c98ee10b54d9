//! Every request has a name, which the log, the traces and its sender know it by; and a place in its sender's trace, if
//! that says which.

use std::time::Instant;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{Instrument as _, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use crate::metrics::{OTHER, numbers};

/// Where a request's name stands, in the request if its sender gives it one, and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where a sender says which of its spans asks, as W3C Trace Context has it. Its `tracestate` is not read: it would be kept
/// with the span, and may be long.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Characters of a name at the most.
const LONGEST: usize = 64;
/// Bytes of a path that the log is told.
const MOST_PATH: usize = 200;

/// Names a request and counts it. The query is left out of the log: it may hold a token.
pub(super) async fn request(request: Request, next: Next) -> Response {
    let id = id_of(request.headers());
    let (method, path) = (method_label(request.method()), request.uri().path());
    let waits = path.starts_with("/socket.io");
    let path = path.get(..MOST_PATH).unwrap_or(path);
    let span = tracing::info_span!("request", id = %id, method, path, status = Empty);
    if let Some(caller) = caller_of(request.headers()) {
        // Where nobody takes traces there is nothing to continue.
        let _ = span.set_parent(Context::new().with_remote_span_context(caller));
    }
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("status", status.as_u16());
    numbers().http_requests.with_label_values(&[method, status.as_str()]).inc();
    if !waits {
        numbers().http_request.observe(began.elapsed().as_secs_f64());
    }
    span.in_scope(|| tracing::debug!(milliseconds = began.elapsed().as_millis() as u64, "answered"));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The name that a request came with, if it can be one, or a new one.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|given| given.to_str().ok());
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match given {
        Some(given) if (1..=LONGEST).contains(&given.len()) && given.chars().all(fine) => given.to_owned(),
        _ => Uuid::new_v4().simple().to_string(),
    }
}

/// The span that a request comes from: `00-<32 hexadecimal digits of its trace>-<16 of its own>-<2 of flags>`.
fn caller_of(headers: &HeaderMap) -> Option<SpanContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let text = given.next()?.to_str().ok()?;
    let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = text.trim().split('-');
    let mut part = |length| parts.next().filter(|part| part.len() == length).filter(is_hex);
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    // Later versions may say more behind it; ff will be none.
    if given.next().is_some() || version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let caller = SpanContext::new(trace, span, flags, true, TraceState::default());
    caller.is_valid().then_some(caller)
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_is_no_span_is_ignored() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        const SPAN: &str = "b7ad6b7169203331";
        let caller = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for given in given {
                headers.append(TRACEPARENT, given.parse().unwrap());
            }
            caller_of(&headers).map(|caller| caller.is_sampled())
        };
        let fine = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(caller(&[&fine]), Some(true));
        assert_eq!(caller(&[&format!("00-{TRACE}-{SPAN}-02")]), Some(false));
        assert_eq!(caller(&[&format!("cc-{TRACE}-{SPAN}-01-what-comes-later")]), Some(true));
        assert_eq!(caller(&[]), None);
        assert_eq!(caller(&[&fine, &fine]), None, "which of the two?");
        for bad in [
            "",
            "nonsense",
            "00-a-b-01",
            &format!("{fine}-more"),
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-+1"),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00-{}-{SPAN}-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(caller(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn a_name_that_could_forge_the_log_is_replaced() {
        let named = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            id_of(&headers)
        };
        assert_eq!(named("req-7f.A_1:2"), "req-7f.A_1:2");
        for bad in ["", "a b", "a\"b", "{}", &"x".repeat(65)] {
            assert_eq!(named(bad).len(), 32, "{bad}");
        }
    }
}
