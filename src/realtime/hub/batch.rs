//! What goes to several clients at once, and the frames that it is encoded into once for all of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::offset::{Offset, Within};
use crate::store::{Recorded, Transient};

/// Events of a batch at the most.
pub(super) const MAX_EVENTS: usize = 256;
/// Payload bytes of a batch, but for one event that is larger.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// Something that is encoded once, however many clients get it.
#[derive(Debug)]
pub struct Shared<T> {
    pub item: T,
    frames: OnceLock<Bytes>,
}

/// Events in the order in which they are told.
pub type Events = Shared<Told>;
/// The newest progress of a job.
pub type Progress = Shared<Arc<Transient>>;

/// Events of the live stream, or of a job's past.
#[derive(Debug)]
pub struct Told {
    pub events: Vec<Arc<Recorded>>,
    pub past: Option<Within>,
}

impl Told {
    /// Events of the live stream.
    pub fn live(events: Vec<Arc<Recorded>>) -> Events {
        Shared::new(Told { events, past: None })
    }

    /// What a client that was told this event last names when it comes back.
    pub fn offset(&self, event: &Recorded) -> Offset {
        Offset { position: event.position, past: self.past }
    }
}

impl<T> Shared<T> {
    pub fn new(item: T) -> Shared<T> {
        Shared { item, frames: OnceLock::new() }
    }

    /// What goes over the wire; `encode` is called once.
    pub fn frames(&self, encode: impl FnOnce(&T) -> Bytes) -> &Bytes {
        self.frames.get_or_init(|| encode(&self.item))
    }
}

/// How many of these events make one batch.
pub(super) fn fits<'a>(events: impl IntoIterator<Item = &'a Arc<Recorded>>) -> usize {
    let mut bytes = 0;
    let within = |event: &&Arc<Recorded>| {
        bytes += event.payload.get().len();
        bytes <= MAX_BYTES
    };
    events.into_iter().take(MAX_EVENTS).take_while(within).count().max(1)
}
