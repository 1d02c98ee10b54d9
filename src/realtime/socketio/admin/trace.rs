//! What sockets are told and say, and why they leave, kept for a moment while somebody looks on.
//!
//! While nobody does, it costs one look at a flag. What does not fit between two rounds is left out and counted: this is
//! for looking at, the journal is what happened.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::Utc;
use serde_json::Value;
use socketioxide::socket::{DisconnectReason, Sid};

use crate::{
    event::Timestamp,
    realtime::hub::Offset,
    store::{Recorded, Transient},
};

/// Messages kept between two rounds.
const MAX_MESSAGES: usize = 200;
/// Reasons kept between two rounds.
const MAX_REASONS: usize = 2000;

/// A message from or to a socket of the main namespace.
pub struct Message {
    pub sid: Sid,
    pub at: Timestamp,
    pub what: What,
}

pub enum What {
    Said { event: &'static str, arguments: Vec<Value> },
    Told { event: Arc<Recorded>, offset: Offset },
    Progress(Arc<Transient>),
}

#[derive(Default)]
pub struct Trace {
    on: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    messages: Vec<Message>,
    left_out: usize,
    reasons: Reasons,
    /// Those of the round before: a socket may be there a moment longer than it said why it leaves.
    before: Reasons,
}

type Reasons = HashMap<(&'static str, Sid), &'static str>;

impl Trace {
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins or ends keeping.
    pub fn switch(&self, on: bool) {
        if self.on.swap(on, Ordering::Relaxed) && !on {
            *self.kept() = Kept::default();
        }
    }

    /// A client said something.
    pub fn said(&self, sid: Sid, event: &'static str, arguments: &[Value]) {
        self.keep(sid, || What::Said { event, arguments: arguments.to_vec() });
    }

    /// A client was told an event of the journal.
    pub fn told(&self, sid: Sid, event: &Arc<Recorded>, offset: Offset) {
        self.keep(sid, || What::Told { event: event.clone(), offset });
    }

    /// A client was told progress.
    pub fn progress(&self, sid: Sid, progress: &Arc<Transient>) {
        self.keep(sid, || What::Progress(progress.clone()));
    }

    /// A socket leaves.
    pub fn left(&self, namespace: &'static str, sid: Sid, reason: DisconnectReason) {
        if !self.is_on() {
            return;
        }
        let mut kept = self.kept();
        if kept.reasons.len() < MAX_REASONS {
            kept.reasons.insert((namespace, sid), word(reason));
        }
    }

    fn keep(&self, sid: Sid, what: impl FnOnce() -> What) {
        if !self.is_on() {
            return;
        }
        let mut kept = self.kept();
        if kept.messages.len() < MAX_MESSAGES {
            kept.messages.push(Message { sid, at: Utc::now(), what: what() });
        } else {
            kept.left_out += 1;
        }
    }

    /// Takes what was kept since the last time, and how many messages were left out.
    pub fn take(&self) -> (Vec<Message>, usize) {
        let mut kept = self.kept();
        kept.before = std::mem::take(&mut kept.reasons);
        (std::mem::take(&mut kept.messages), std::mem::take(&mut kept.left_out))
    }

    /// Why a socket left.
    pub fn reason(&self, namespace: &'static str, sid: Sid) -> &'static str {
        let kept = self.kept();
        let key = (namespace, sid);
        kept.reasons.get(&key).or_else(|| kept.before.get(&key)).copied().unwrap_or("unknown")
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the words of the library's original.
fn word(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError | DisconnectReason::MultipleHttpPollingError => "transport error",
        DisconnectReason::PacketParsingError => "parse error",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
        DisconnectReason::ClientNSDisconnect => "client namespace disconnect",
        DisconnectReason::ServerNSDisconnect => "server namespace disconnect",
        DisconnectReason::ClosingServer => "server shutting down",
    }
}
