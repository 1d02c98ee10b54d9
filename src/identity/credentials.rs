//! Where a request or a socket says who it is.

use axum::http::{HeaderMap, HeaderName, header};
use serde_json::Value;
use url::form_urlencoded;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The name in queries and in what a socket sends when it connects.
const TOKEN: &str = "token";

/// A token or a key as it came, if one did.
#[derive(Clone, Default)]
pub struct Credentials(Option<String>);

impl Credentials {
    /// A text of its own; an empty one is none.
    pub fn of(text: Option<&str>) -> Credentials {
        Credentials(text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    /// Those of a request: `Authorization: Bearer …`, `X-API-Key: …` or, where a browser can set no header, `?token=…`.
    pub fn of_request(headers: &HeaderMap, query: Option<&str>) -> Credentials {
        // Another scheme is for a proxy in front.
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(text)
        });
        let key = || headers.get(API_KEY).and_then(|value| value.to_str().ok());
        let given = Credentials::of(bearer.or_else(key));
        if given.0.is_some() {
            return given;
        }
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let token = pairs.into_iter().find(|(name, _)| name == TOKEN);
        Credentials::of(token.as_ref().map(|(_, token)| &**token))
    }

    /// Those of a socket: what it sent when it connected comes before what its request says.
    pub fn of_socket(sent: Option<&Value>, headers: &HeaderMap, query: Option<&str>) -> Credentials {
        let sent = Credentials::of(sent.and_then(|sent| sent.get(TOKEN)).and_then(Value::as_str));
        if sent.0.is_some() { sent } else { Credentials::of_request(headers, query) }
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether there are any.
    pub fn are_given(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(headers: &[(&'static str, &'static str)], query: &str, sent: Value) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Credentials::of_socket(Some(&sent), &map, Some(query)).0
    }

    #[test]
    fn credentials_are_found_wherever_clients_put_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(given(&[("authorization", "Bearer a")], "token=c", json!({})), some("a"));
        assert_eq!(given(&[("authorization", "bearer  a ")], "", json!(null)), some("a"));
        assert_eq!(given(&[("x-api-key", "b")], "token=c", json!({})), some("b"));
        assert_eq!(given(&[], "EIO=4&token=c%2Ed", json!({})), some("c.d"));
        assert_eq!(given(&[("x-api-key", "b")], "token=c", json!({ "token": "d" })), some("d"));
        for nothing in [json!({ "token": null }), json!({ "token": "" }), json!({ "token": 5 }), json!([1])] {
            assert_eq!(given(&[("authorization", "Basic x")], "token=", nothing), None);
        }
    }
}
