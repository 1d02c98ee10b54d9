//! Every request has a name, which the log, the traces and its sender know it by.

use std::time::Instant;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

use crate::metrics::{OTHER, numbers};

/// Where a request's name stands, in the request if its sender gives it one, and in the answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
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
