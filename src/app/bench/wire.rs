//! The one event that every server under test sends: how it is made, and how its marks are found without reading JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::event::{Event, JobUpdated};

/// Bytes of a message's text; what stands around it in the event is about 130 more.
pub const DEFAULT_BYTES: usize = 80;
/// Events that one request may publish.
pub const MAX_COUNT: u32 = 10_000;
/// Longest text of a message.
pub const MAX_BYTES: usize = 100_000;

/// What tells one event from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its number in its room.
    pub n: u32,
    /// When it was published, in microseconds since the epoch.
    pub t: u64,
}

/// Microseconds since the epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A milestone whose message is `n=… t=… ` and filler up to `bytes`.
pub fn event(mark: Mark, bytes: usize) -> Event {
    let message = format!("{:~<bytes$}", format!("n={} t={} ", mark.n, mark.t));
    let status = "rendering".into();
    JobUpdated { status, progress: None, current_stage: None, message: Some(message) }.into()
}

/// The mark of an event as it came over the wire.
pub fn mark(text: &str) -> Option<Mark> {
    const BEFORE: &str = "\"message\":\"n=";
    let rest = &text[text.find(BEFORE)? + BEFORE.len()..];
    let (n, rest) = number(rest)?;
    let (t, _) = number(rest.strip_prefix(" t=")?)?;
    Some(Mark { n: u32::try_from(n).ok()?, t })
}

/// The last argument of an event if it is a string, as the stock client takes it for its offset. Offsets have no
/// escapes.
pub fn last_string(text: &str) -> Option<&str> {
    let body = text.strip_suffix("\"]")?;
    Some(&body[body.rfind('"')? + 1..])
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::job::JobId;

    #[test]
    fn a_mark_is_found_in_the_event_that_carries_it() {
        let given = Mark { n: 4_000_000_000, t: 1_763_650_000_000_000 };
        let payload = event(given, 200).encode(Some(JobId(Uuid::nil())), chrono::Utc::now());
        for text in [
            format!(r#"42["job:updated",{payload}]"#),
            format!(r#"42["job:updated",{payload},"17"]"#),
            format!(r#"["job:updated",{payload}]"#),
        ] {
            assert_eq!(mark(&text), Some(given), "{text}");
        }
        assert!((300..360).contains(&payload.get().len()), "{}", payload.get().len());
    }

    #[test]
    fn what_carries_no_mark_is_passed_over() {
        for text in [
            "",
            "2",
            r#"42["a",{"message":"n="}]"#,
            r#"42["a",{"message":"n=5"}]"#,
            r#"{"message":"n=5 t=x"}"#,
        ] {
            assert_eq!(mark(text), None, "{text}");
        }
        // More than there are numbers for.
        assert_eq!(mark(r#"{"message":"n=5000000000 t=1 "}"#), None);
    }

    #[test]
    fn a_text_longer_than_its_filler_keeps_its_mark() {
        let payload = event(Mark { n: 7, t: 9 }, 1).encode(None, chrono::Utc::now());
        assert_eq!(mark(payload.get()), Some(Mark { n: 7, t: 9 }));
    }

    #[test]
    fn the_offset_is_the_last_argument_if_that_is_a_string() {
        assert_eq!(last_string(r#"42["a",{"b":"c"},"17"]"#), Some("17"));
        assert_eq!(last_string(r#"42["a",{"b":"c"}]"#), None);
        assert_eq!(last_string(r#"42["a",["b"]]"#), None);
        // The name is an argument too: so the stock client sees it.
        assert_eq!(last_string(r#"42["a"]"#), Some("a"));
    }
}
