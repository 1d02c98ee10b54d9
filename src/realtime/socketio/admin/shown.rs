//! What is shown of a socket, and what never is: tokens, keys, cookies, and what sessions are taken up with.

use axum::http::{HeaderMap, HeaderName, header};
use serde_json::{Map, Value, json};
use socketioxide::{ProtocolVersion, TransportType, extract::SocketRef};
use url::form_urlencoded;

use crate::{
    event::{Timestamp, format_timestamp},
    job::JobId,
    realtime::{
        hub::Door,
        socketio::transport::{FORWARDED_FOR, Link},
    },
};

/// Headers that say nothing secret.
const HEADERS: [HeaderName; 4] = [header::ORIGIN, header::USER_AGENT, header::FORWARDED, FORWARDED_FOR];
/// The same of parameters of the query; others may be anything, and are shown by name alone.
const PARAMETERS: [&str; 5] = ["EIO", "transport", "t", "b64", "j"];
const HIDDEN: &str = "(hidden)";
/// Parameters that are shown.
const MAX_PARAMETERS: usize = 20;
/// Members with these in their names are secrets, or with these names.
const SECRETS: [&str; 9] =
    ["token", "passw", "secret", "apikey", "api_key", "cookie", "jwt", "authoriz", "sessionid"];
const SECRET_NAMES: [&str; 3] = ["auth", "key", "pid"];
/// The largest message that is shown, in bytes of JSON.
const MAX_SHOWN: usize = 4096;
/// Characters of a text that is shown.
const MAX_TEXT: usize = 200;

/// A room of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Room {
    /// One of the hub's.
    Job(JobId, Door),
    /// A dialect's own.
    Other(String),
}

impl Room {
    pub fn name(&self) -> String {
        match self {
            Room::Job(job, Door::Job) => format!("job:{job}"),
            Room::Job(job, Door::Automation) => format!("automation:{job}"),
            Room::Other(name) => name.clone(),
        }
    }
}

/// A transport's name.
pub fn transport(transport: TransportType) -> &'static str {
    match transport {
        TransportType::Polling => "polling",
        TransportType::Websocket => "websocket",
    }
}

/// A moment, as the page reads it.
pub fn date(at: Timestamp) -> Value {
    format_timestamp(at).into()
}

/// A socket as the page shows it.
pub fn socket(
    socket: &SocketRef,
    link: Option<&Link>,
    names: (&str, String),
    subject: Option<&str>,
    rooms: &[Room],
) -> Value {
    let opening = socket.req_parts();
    let client = match socket.protocol() {
        ProtocolVersion::V4 => "socket.io-client 2",
        ProtocolVersion::V5 => "socket.io-client 3 or 4",
    };
    json!({
        "id": names.0,
        "clientId": names.1,
        "transport": transport(socket.transport_type()),
        "nsp": socket.ns(),
        "data": { "subject": subject, "client": client },
        "handshake": handshake(&opening.headers, opening.uri.path(), opening.uri.query(), link),
        "rooms": rooms.iter().map(Room::name).collect::<Vec<_>>(),
    })
}

fn handshake(headers: &HeaderMap, path: &str, query: Option<&str>, link: Option<&Link>) -> Value {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(clip);
    let peer = link.and_then(|link| link.peer).map(|peer| peer.ip().to_canonical().to_string());
    // Who it is behind a proxy is the proxy's word, or anybody's.
    let address = match (text(&FORWARDED_FOR), peer) {
        (Some(claimed), Some(peer)) => format!("{claimed} (via {peer})"),
        (_, peer) => peer.unwrap_or_default(),
    };
    let shown: Map<String, Value> =
        HEADERS.iter().filter_map(|name| Some((name.as_str().to_owned(), text(name)?.into()))).collect();
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let query: Map<String, Value> = pairs
        .take(MAX_PARAMETERS)
        .map(|(name, value)| {
            let value = if PARAMETERS.contains(&&*name) { clip(&value) } else { HIDDEN.into() };
            (clip(&name), value.into())
        })
        .collect();
    let began = link.map(|link| link.began);
    json!({
        "address": address,
        "headers": shown,
        "query": query,
        "issued": began.map(|began| began.timestamp_millis()),
        "time": began.map(|began| began.to_rfc2822()),
        // TLS ends at a proxy.
        "secure": false,
        "xdomain": headers.contains_key(header::ORIGIN),
        "url": path,
    })
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Arguments of a message as they are shown: secrets are hidden, and what is large is told by its size.
pub fn arguments(mut arguments: Vec<Value>) -> Vec<Value> {
    for argument in &mut arguments {
        hide(argument);
        let length = argument.to_string().len();
        if length > MAX_SHOWN {
            *argument = format!("({length} bytes)").into();
        }
    }
    arguments
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.to_lowercase();
                let secret = SECRET_NAMES.contains(&&*name) || SECRETS.iter().any(|part| name.contains(part));
                if secret {
                    *member = HIDDEN.into();
                } else {
                    hide(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_handshake_is_shown() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer s3cret"),
            ("x-api-key", "s3cret"),
            ("cookie", "a=s3cret"),
            ("user-agent", "a browser"),
            ("origin", "https://shop.example.com"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let query = "EIO=4&transport=polling&token=s3cret&access=s3cret";
        let shown = handshake(&headers, "/socket.io/", Some(query), None);
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
        assert_eq!(
            shown["headers"],
            json!({ "origin": "https://shop.example.com", "user-agent": "a browser" })
        );
        let parameters = json!({ "EIO": "4", "transport": "polling", "token": HIDDEN, "access": HIDDEN });
        assert_eq!(shown["query"], parameters);
    }

    #[test]
    fn no_secret_of_a_message_is_shown_and_nothing_large() {
        let said = vec![
            json!({ "job_id": 7, "token": "s3cret", "more": [{ "apiKey": "s3cret", "after": 3 }] }),
            json!("x".repeat(5000)),
        ];
        let shown = arguments(said);
        let first = json!({ "job_id": 7, "token": HIDDEN, "more": [{ "apiKey": HIDDEN, "after": 3 }] });
        assert_eq!(shown, [first, json!("(5002 bytes)")]);
    }
}
