//! What happens to a job, as clients are told it: the catalogue of events and how one is written down.
//!
//! Pure: no I/O, no clock. [`catalogue`] is THE list; the journal's kinds, the Socket.IO names and payloads, the
//! documents for frontends and the README's table are derived from it ([`contract`]). [`Ask`] is the list of what pages say.

mod asks;
mod catalogue;
pub mod contract;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

pub use asks::{Ask, Gives, Takes};
pub use catalogue::*;

use crate::job::JobId;

/// The time that goes on the wire: ISO 8601, UTC, milliseconds, `Z` (JavaScript's `toISOString`).
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// How an event is kept and to whom it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// In the journal, to the job's room, never lost.
    Milestone,
    /// In the journal, to every client that may see the job, not replayed to a later subscriber.
    Broadcast,
    /// Not in the journal: the newest of a job and kind replaces the older ones.
    Transient,
    /// Not in the journal and of no job: said to one client, or to all who are there.
    Notice,
}

impl Class {
    /// One word for tables.
    pub fn word(self) -> &'static str {
        match self {
            Class::Milestone => "milestone",
            Class::Broadcast => "broadcast",
            Class::Transient => "transient",
            Class::Notice => "notice",
        }
    }

    /// Whether an event of this class gets a position in the journal.
    pub fn is_journaled(self) -> bool {
        matches!(self, Class::Milestone | Class::Broadcast)
    }
}

/// An event of a worker's own: its name is the prefix of the job's kind, a colon and a word, as in `novel:chunk-done`. It
/// is kept and told like a milestone.
#[derive(Clone, Debug, PartialEq)]
pub struct FreeEvent {
    pub name: String,
    /// What goes on the wire beside `jobId` and `timestamp`, which it does not have itself.
    pub data: Map<String, Value>,
}

impl Event {
    /// The Socket.IO event name and the journal's `kind`.
    pub fn name(&self) -> Cow<'static, str> {
        match (self, self.kind()) {
            (_, Some(kind)) => Cow::Borrowed(kind.wire_name()),
            (Event::Free(free), _) => Cow::Owned(free.name.clone()),
            (_, None) => Cow::Borrowed(""),
        }
    }

    /// How it is kept and to whom it goes.
    pub fn class(&self) -> Class {
        self.kind().map_or(Class::Milestone, Kind::class)
    }
}

impl Kind {
    /// The fields that hold an address of an object of this server, which is good for a while only if addresses are
    /// signed.
    pub fn addresses(self) -> &'static [&'static str] {
        match self {
            Kind::ScreenshotCaptured => &["url", "thumbnailUrl"],
            Kind::ScreenshotUploaded => &["imageUrl", "thumbnailUrl"],
            Kind::LabelGenerated => &["imageUrl"],
            Kind::ArtifactStored => &["url"],
            _ => &[],
        }
    }
}

/// The JSON object that clients get, written once: `jobId` and `timestamp`, then the event's own fields.
pub(crate) fn encode<T: Serialize>(job: Option<JobId>, at: Timestamp, fields: &T) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a, T> {
        #[serde(skip_serializing_if = "Option::is_none")]
        job_id: Option<JobId>,
        timestamp: String,
        #[serde(flatten)]
        fields: &'a T,
    }
    let wire = Wire { job_id: job, timestamp: format_timestamp(at), fields };
    serde_json::value::to_raw_value(&wire).expect("catalogue fields have string keys and finite numbers")
}

/// `2026-01-06T05:56:38.123Z`.
pub fn format_timestamp(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
