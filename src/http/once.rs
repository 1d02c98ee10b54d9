//! `Idempotency-Key`: what makes a repeated request one request.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    job::{Code, Rejection},
    store::{OnceKey, hexadecimal},
};

/// Both spellings; clients send either.
const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];
/// Longest key that is taken, in bytes.
const MAX_KEY: usize = 200;

/// What an answer carries that tells of a job which an earlier request made.
pub const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));

/// The key that a request carries, with the fingerprint of what it asks for: `parts`, however their keys are ordered.
///
/// # Errors
/// A sentence that says what a key may be.
pub fn once_key(headers: &HeaderMap, parts: &[&Value]) -> Result<Option<OnceKey>, Rejection> {
    let mut given = NAMES.into_iter().flat_map(|name| headers.get_all(name));
    let Some(key) = given.next() else { return Ok(None) };
    let readable = key.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()));
    let (Some(key), true) = (readable, given.all(|other| other == key)) else {
        let message = format!("Idempotency-Key must be one text of 1 to {MAX_KEY} visible ASCII characters.");
        return Err(Rejection::new(Code::InvalidRequest, message));
    };
    Ok(Some(OnceKey { key: key.to_owned(), request: fingerprint(parts) }))
}

/// The SHA-256 of `parts`, however their keys are ordered.
pub(super) fn fingerprint(parts: &[&Value]) -> String {
    let mut sha256 = Sha256::new();
    for part in parts {
        let mut text = String::new();
        write(part, &mut text);
        sha256.update(text.len().to_be_bytes());
        sha256.update(text);
    }
    hexadecimal(&sha256.finalize())
}

/// JSON with its keys in order.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in sorted {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write(value, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(headers: &[(&'static str, &str)], body: Value) -> Result<Option<OnceKey>, Rejection> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        once_key(&map, &[&json!("route"), &body])
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_however_it_is_written() {
        let one = read(&[("idempotency-key", "a")], json!({ "x": 1, "y": [{ "p": 1, "q": null }] })).unwrap();
        let same =
            read(&[("x-idempotency-key", "a")], json!({ "y": [{ "q": null, "p": 1 }], "x": 1 })).unwrap();
        assert_eq!(one, same);
        for other in [json!({ "x": 1 }), json!({ "x": "1", "y": [{ "p": 1, "q": null }] }), json!([])] {
            assert_ne!(
                read(&[("idempotency-key", "a")], other).unwrap().unwrap().request,
                one.as_ref().unwrap().request
            );
        }
    }

    #[test]
    fn a_key_is_one_short_text() {
        assert_eq!(read(&[], json!(1)).unwrap(), None);
        assert!(read(&[("idempotency-key", "a"), ("x-idempotency-key", "a")], json!(1)).unwrap().is_some());
        let long = "x".repeat(201);
        for bad in [
            vec![("idempotency-key", "")],
            vec![("idempotency-key", long.as_str())],
            vec![("idempotency-key", "a"), ("x-idempotency-key", "b")],
        ] {
            assert!(read(&bad, json!(1)).is_err(), "{bad:?}");
        }
    }
}
