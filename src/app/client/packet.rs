//! The packets of Engine.IO 4 and Socket.IO 5 that a client of the namespace `/` reads and writes. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Joins the namespace `/`.
pub(in crate::app) const CONNECT: &str = "40";
/// Answers a ping.
pub(in crate::app) const PONG: &str = "3";

/// What the server says first.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::app) struct Opening {
    /// Milliseconds between two pings.
    pub ping_interval: u32,
    /// Milliseconds that an answer to a ping may take.
    pub ping_timeout: u32,
}

/// One text message of the server.
#[derive(Debug)]
pub(in crate::app) enum Packet<'a> {
    Opening(Opening),
    Ping,
    /// The transport is closed.
    Close,
    /// The namespace let us in.
    Connected,
    /// The namespace did not, for this reason.
    Refused(String),
    /// The namespace sent us away.
    Disconnected,
    Event {
        name: Cow<'a, str>,
        arguments: Vec<&'a RawValue>,
    },
    /// The answer to the event that was sent with this id.
    Acknowledgement {
        id: u64,
        answer: Option<&'a RawValue>,
    },
    /// Nothing that this client asked for: other namespaces, binary events, types of the future.
    Other,
}

/// A text that is no packet.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("it sent {0:?}, which is no Socket.IO packet")]
pub(in crate::app) struct Malformed(String);

impl<'a> Packet<'a> {
    /// Reads a text message.
    pub(in crate::app) fn read(text: &'a str) -> Result<Packet<'a>, Malformed> {
        Packet::parse(text).ok_or_else(|| Malformed(text.chars().take(60).collect()))
    }

    fn parse(text: &'a str) -> Option<Packet<'a>> {
        let (kind, rest) = split_kind(text)?;
        match kind {
            '0' => serde_json::from_str(rest).ok().map(Packet::Opening),
            '1' => Some(Packet::Close),
            '2' => Some(Packet::Ping),
            '4' => Packet::parse_message(rest),
            _ => Some(Packet::Other),
        }
    }

    /// `<kind>[/namespace,][acknowledgement id][JSON]`
    fn parse_message(text: &'a str) -> Option<Packet<'a>> {
        let (kind, rest) = split_kind(text)?;
        // Binary kinds count their attachments before the namespace; none of them is for us.
        if !matches!(kind, '0'..='4') {
            return Some(Packet::Other);
        }
        let rest = match rest.strip_prefix('/') {
            None => rest,
            Some(named) => match named.split_once(',').unwrap_or((named, "")) {
                ("", rest) => rest,
                _ => return Some(Packet::Other),
            },
        };
        let json = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let id = &rest[..rest.len() - json.len()];
        match kind {
            '0' => Some(Packet::Connected),
            '1' => Some(Packet::Disconnected),
            '2' => {
                let mut arguments: Vec<&RawValue> = serde_json::from_str(json).ok()?;
                if arguments.is_empty() {
                    return None;
                }
                let Name(name) = serde_json::from_str(arguments.remove(0).get()).ok()?;
                Some(Packet::Event { name, arguments })
            }
            '3' => {
                let answers: Vec<&RawValue> = serde_json::from_str(json).ok()?;
                Some(Packet::Acknowledgement { id: id.parse().ok()?, answer: answers.first().copied() })
            }
            '4' => {
                let reason: Value = serde_json::from_str(json).ok()?;
                let message = reason.get("message").and_then(Value::as_str);
                Some(Packet::Refused(message.map_or_else(|| json.to_owned(), str::to_owned)))
            }
            _ => None,
        }
    }
}

/// A name without escapes is taken from the message itself.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn split_kind(text: &str) -> Option<(char, &str)> {
    let kind = text.chars().next()?;
    Some((kind, &text[kind.len_utf8()..]))
}

/// An event with its arguments as a JSON array, for [`event`].
pub(in crate::app) fn body(name: &str, arguments: &[Value]) -> String {
    let mut body = Value::from(name).to_string();
    for argument in arguments {
        body.push(',');
        body.push_str(&argument.to_string());
    }
    format!("[{body}]")
}

/// The packet of an event; with an id the server is asked to acknowledge it.
pub(in crate::app) fn event(body: &str, id: Option<u64>) -> String {
    match id {
        Some(id) => format!("42{id}{body}"),
        None => format!("42{body}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(text: &str) -> (String, Vec<String>) {
        match Packet::read(text) {
            Ok(Packet::Event { name, arguments }) => {
                (name.into_owned(), arguments.iter().map(|argument| argument.get().to_owned()).collect())
            }
            other => panic!("{text} is an event, not {other:?}"),
        }
    }

    #[test]
    fn an_event_is_split_into_its_name_and_its_arguments() {
        let (name, args) = arguments(r#"42["job:created",{"name":"a, [b] \"c\""},"17"]"#);
        assert_eq!(name, "job:created");
        assert_eq!(args, [r#"{"name":"a, [b] \"c\""}"#, r#""17""#]);
        assert_eq!(arguments(r#"42["ping"]"#), ("ping".into(), vec![]));
        assert_eq!(arguments(r#"42["caf\u00e9"]"#).0, "café");
        // The server asks for an acknowledgement; the namespace is written out.
        assert_eq!(arguments(r#"42/,9["a",1]"#), ("a".into(), vec!["1".into()]));
    }

    #[test]
    fn the_handshake_and_answers_are_read() {
        let opening =
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":60000,"maxPayload":1000000}"#;
        assert!(matches!(
            Packet::read(opening),
            Ok(Packet::Opening(Opening { ping_interval: 25_000, ping_timeout: 60_000 }))
        ));
        assert!(matches!(Packet::read(r#"40{"sid":"y"}"#), Ok(Packet::Connected)));
        assert!(matches!(Packet::read("2"), Ok(Packet::Ping)));
        assert!(matches!(Packet::read("1"), Ok(Packet::Close)));
        assert!(matches!(Packet::read("41"), Ok(Packet::Disconnected)));
        match Packet::read(r#"4312[{"ok":true}]"#) {
            Ok(Packet::Acknowledgement { id: 12, answer: Some(answer) }) => {
                assert_eq!(answer.get(), r#"{"ok":true}"#)
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(Packet::read("433[]"), Ok(Packet::Acknowledgement { id: 3, answer: None })));
        match Packet::read(r#"44{"message":"who are you"}"#) {
            Ok(Packet::Refused(why)) => assert_eq!(why, "who are you"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_for_this_client_is_passed_over() {
        for text in [
            "6",
            "7future",
            r#"42/admin,["job:created",{}]"#,
            r#"451-["picture",{"_placeholder":true,"num":0}]"#,
            r#"461-3[{"_placeholder":true,"num":0}]"#,
            "49",
        ] {
            assert!(matches!(Packet::read(text), Ok(Packet::Other)), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in [
            "",
            "4",
            "0",
            "0{}",
            "42",
            "42[]",
            "42[5]",
            r#"42["a""#,
            "43[]",
            "42{}",
            "44",
            "439999999999999999999999[]",
        ] {
            assert!(Packet::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_text_is_repeated_in_short() {
        let long = format!("42{}", "é".repeat(100_000));
        assert!(Packet::read(&long).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn events_are_written_as_the_protocol_wants_them() {
        let body = body("job:subscribe", &[json!("id \"1\""), json!({ "after": 0 })]);
        assert_eq!(event(&body, Some(7)), r#"427["job:subscribe","id \"1\"",{"after":0}]"#);
        assert_eq!(event(&super::body("ping", &[]), None), r#"42["ping"]"#);
    }
}
