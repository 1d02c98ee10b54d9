//! What workers outside of this server may say of their jobs: names, sizes, reports, and how a document is patched.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Code, Rejection};
use crate::event::{Class, Event, FreeEvent, JobLog, Kind, LogLevel};

/// Bytes of a kind's name and of its prefix.
const MAX_KIND: usize = 32;
/// Bytes of what stands behind a prefix.
const MAX_WORD: usize = 64;
/// Values within values of any JSON that a worker or a submitter sends.
const MAX_DEPTH: usize = 32;
/// Bytes of a job's input, of its document, of a result.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// Bytes of one event's data or one patch.
pub const MAX_DATA: usize = 64 * 1024;
/// Reports of one request.
pub const MAX_REPORTS: usize = 100;
/// Characters of a step's name, of a sentence, and of a request's id.
const MAX_STEP: usize = 100;
const MAX_MESSAGE: usize = 2000;
const MAX_REQUEST_ID: usize = 100;
/// Characters of an artifact's name.
const MAX_ARTIFACT_NAME: usize = 150;

/// Prefixes that would be mistaken for this server's own words.
static RESERVED: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let of_catalogue =
        Kind::ALL.iter().filter_map(|kind| kind.wire_name().split_once(':').map(|(prefix, _)| prefix));
    of_catalogue.chain(["automation", "jobcast", "socket", "work"]).collect()
});

/// One thing that a worker tells of its job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Report {
    /// How far it is. With `step` it is a milestone, else only the newest counts.
    Progress {
        /// Percent of the whole job; a lower one than before is taken as that one.
        #[serde(default)]
        progress: Option<u8>,
        /// The step at work, in the worker's own words.
        #[serde(default)]
        step: Option<String>,
        /// A sentence for people.
        #[serde(default)]
        message: Option<String>,
    },
    /// A line for people who watch.
    Log {
        #[serde(default = "info")]
        level: LogLevel,
        message: String,
        #[serde(default)]
        source: Option<String>,
    },
    /// A change of the job's document: a merge patch (RFC 7396).
    Patch { patch: Map<String, Value> },
    /// An event: one of the worker's own, or one of the catalogue that tells of a result.
    Event {
        name: String,
        #[serde(default)]
        data: Map<String, Value>,
    },
}

fn info() -> LogLevel {
    LogLevel::Info
}

impl Report {
    /// Whether it may be told of a job whose kind has this prefix.
    ///
    /// # Errors
    /// A sentence that names the field and what it may be.
    pub fn check(&self, prefix: &str) -> Result<(), Rejection> {
        match self {
            Report::Progress { progress, step, message } => {
                if progress.is_some_and(|progress| progress > 100) {
                    return Err(invalid("progress must be a whole number from 0 to 100."));
                }
                if progress.is_none() && step.is_none() && message.is_none() {
                    return Err(invalid("A report of progress needs progress, step or message."));
                }
                check_text("step", step.as_deref(), MAX_STEP)?;
                check_text("message", message.as_deref(), MAX_MESSAGE)
            }
            Report::Log { message, source, .. } => {
                check_text("message", Some(message), MAX_MESSAGE)?;
                check_text("source", source.as_deref(), MAX_STEP)
            }
            Report::Patch { patch } => check_object("patch", patch, MAX_DATA),
            Report::Event { name, data } => {
                check_object("data", data, MAX_DATA)?;
                event(prefix, name, data).map(drop)
            }
        }
    }
}

/// The event that a worker tells by its name.
///
/// # Errors
/// A sentence that says which names it may use, or what the event's data must have.
pub fn event(prefix: &str, name: &str, data: &Map<String, Value>) -> Result<Event, Rejection> {
    if data.contains_key("jobId") || data.contains_key("timestamp") {
        return Err(invalid("data must not have jobId or timestamp; the server fills them in."));
    }
    if let Some(kind) = Kind::from_wire_name(name) {
        let speaks_of_results =
            ["screenshot:", "ocr:", "match:", "label:"].iter().any(|own| name.starts_with(own));
        if kind.class() != Class::Milestone || !speaks_of_results {
            return Err(invalid(format!(
                "{name} is told by the server itself; report progress, log, patch, finish or fail instead."
            )));
        }
        let payload = Value::Object(data.clone()).to_string();
        return Event::decode(kind, &payload)
            .map_err(|error| invalid(format!("data is not that of {name}: {error}.")));
    }
    let word = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':'));
    let fits = |word: &str| {
        (1..=MAX_WORD).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    match word {
        Some(word) if fits(word) => Ok(FreeEvent { name: name.to_owned(), data: data.clone() }.into()),
        _ => Err(invalid(format!(
            "An event of this job is named {prefix}: and 1 to {MAX_WORD} letters, digits, -, _ or . behind it."
        ))),
    }
}

impl From<FreeEvent> for Event {
    fn from(event: FreeEvent) -> Event {
        Event::Free(event)
    }
}

/// A worker's line as an event.
pub fn log(level: LogLevel, message: String, source: Option<String>) -> Event {
    JobLog { level, message, source }.into()
}

/// Whether a text may name a kind of work.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_kind(name: &str) -> Result<(), Rejection> {
    if is_word(name) {
        return Ok(());
    }
    Err(invalid(format!(
        "A kind's name has 1 to {MAX_KIND} characters: small letters, digits and -, a letter first."
    )))
}

/// Whether a text may stand before the events of a kind.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_prefix(prefix: &str) -> Result<(), Rejection> {
    if !is_word(prefix) {
        return Err(invalid(format!(
            "prefix has 1 to {MAX_KIND} characters: small letters, digits and -, a letter first."
        )));
    }
    if RESERVED.contains(&prefix) {
        return Err(invalid(format!(
            "Events that begin with {prefix}: are the server's own; take another prefix."
        )));
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    (1..=MAX_KIND).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text may be the id of a request.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_request_id(id: &str) -> Result<(), Rejection> {
    if (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid(format!("requestId must be 1 to {MAX_REQUEST_ID} visible ASCII characters.")))
}

/// Whether a text may be the name of an artifact: a file's name, without folders.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_artifact_name(name: &str) -> Result<(), Rejection> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_ARTIFACT_NAME).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    Err(invalid(format!(
        "An artifact's name has 1 to {MAX_ARTIFACT_NAME} letters, digits, -, _ and ., and does not begin with a dot."
    )))
}

/// Whether a sentence is short enough and can be stored.
///
/// # Errors
/// A sentence that names the field.
pub fn check_text(what: &str, text: Option<&str>, most: usize) -> Result<(), Rejection> {
    match text {
        Some(text) if text.chars().count() > most => {
            Err(invalid(format!("{what} has more than {most} characters.")))
        }
        Some(text) if text.contains('\0') => Err(invalid(format!("{what} must not hold the character NUL."))),
        _ => Ok(()),
    }
}

/// Characters of the sentence that says why a job failed.
///
/// # Errors
/// A sentence that says what it may be.
pub fn check_error(error: &str) -> Result<(), Rejection> {
    if error.trim().is_empty() {
        return Err(invalid("error must be a sentence that says what went wrong."));
    }
    check_text("error", Some(error), MAX_MESSAGE)
}

/// Whether an object is small and shallow enough and can be stored.
///
/// # Errors
/// A sentence that names it and its limit.
pub fn check_object(what: &str, object: &Map<String, Value>, most: usize) -> Result<(), Rejection> {
    if !object.values().all(|value| is_shallow(value, MAX_DEPTH - 1)) {
        return Err(invalid(format!("{what} is deeper than {MAX_DEPTH} values within each other.")));
    }
    if object.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
        return Err(invalid(format!("{what} must not hold the character NUL.")));
    }
    if serde_json::to_string(object).map_or(usize::MAX, |text| text.len()) > most {
        return Err(Rejection::new(Code::TooLarge, format!("{what} has more than {most} bytes of JSON.")));
    }
    Ok(())
}

fn is_shallow(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| is_shallow(value, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|value| is_shallow(value, depth - 1)),
        _ => true,
    }
}

// Postgres keeps no NUL in a text.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Changes a value as a merge patch says (RFC 7396): objects are merged, null removes, all else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.shift_remove(key);
        } else {
            merge_patch(fields.entry(key).or_insert(Value::Null), change);
        }
    }
}

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::new(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn a_patch_changes_what_the_standard_says() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut changed = target.clone();
            merge_patch(&mut changed, &patch);
            assert_eq!(changed, result, "{target} with {patch}");
        }
    }

    #[test]
    fn a_worker_tells_events_under_its_own_prefix_and_results_of_the_catalogue() {
        let tell = |name: &str, data: Value| event("novel", name, &object(data));
        assert!(matches!(tell("novel:chunk-done", json!({"chunk":1})), Ok(Event::Free(_))));
        let failed = json!({"error":"no price"});
        assert!(matches!(tell("label:failed", failed), Ok(Event::LabelFailed(_))));
        let long = format!("novel:{}", "x".repeat(65));
        for name in [
            "job:completed",
            "job:log",
            "job:patched",
            "system:notification",
            "ocr:progress",
            "artifact:stored",
            "novel",
            "novel:",
            "novel:a b",
            "novel:ä",
            "novels:x",
            "other:x",
            "connect",
            "",
            &long,
        ] {
            assert!(tell(name, json!({})).is_err(), "{name}");
        }
        assert!(tell("label:failed", json!({})).is_err(), "the catalogue says what its data has");
        for own in ["jobId", "timestamp"] {
            assert!(tell("novel:x", json!({ own: 1 })).is_err(), "{own}");
        }
    }

    #[test]
    fn no_kind_takes_the_servers_own_words() {
        for bad in ["job", "screenshot", "automation", "Novel", "1a", "", "a:b", "a_b", &"x".repeat(33)] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
        for good in ["novel", "transcript-2", "x"] {
            assert!(check_prefix(good).is_ok() && check_kind(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_too_deep_too_large_or_cannot_be_stored_is_refused() {
        let mut deep = json!({});
        for _ in 0..MAX_DEPTH {
            deep = json!({ "in": deep });
        }
        for (bad, code) in [
            (deep, Code::InvalidRequest),
            (json!({"a": "x".repeat(1000)}), Code::TooLarge),
            (json!({"a": ["\0"]}), Code::InvalidRequest),
            (json!({"\0": 1}), Code::InvalidRequest),
        ] {
            assert_eq!(check_object("data", &object(bad), 1000).unwrap_err().code, code);
        }
        assert!(check_object("data", &object(json!({"a": [{"b": null}]})), 1000).is_ok());
        for bad in ["../x", ".x", "a/b", "", "ä", &"x".repeat(151)] {
            assert!(check_artifact_name(bad).is_err(), "{bad}");
        }
        let progress = |progress, step: Option<&str>| Report::Progress {
            progress,
            step: step.map(str::to_owned),
            message: None,
        };
        assert!(progress(Some(101), None).check("x").is_err());
        assert!(progress(None, None).check("x").is_err());
        assert!(progress(None, Some("reading")).check("x").is_ok());
    }
}
