//! What goes to several clients at once, and the frames that it is encoded into once for all of them.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::offset::{Offset, Within};
use crate::{
    metrics::{event_label, numbers},
    store::{Recorded, Transient},
};

/// Events of a batch at the most.
pub(super) const MAX_EVENTS: usize = 256;
/// Payload bytes of a batch, but for one event that is larger.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// Something that is encoded once, however many clients get it.
#[derive(Debug)]
pub struct Shared<T: Counted> {
    pub item: T,
    frames: OnceLock<Bytes>,
    /// Socket.IO clients that took all of it, who are counted by the names of its events when all of them have.
    takers: AtomicU64,
}

/// What the numbers tell by the names of events.
pub trait Counted {
    /// Counts that so many clients took it.
    fn count(&self, clients: u64);
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

impl Counted for Told {
    fn count(&self, clients: u64) {
        count(&self.events, clients);
    }
}

impl Counted for Arc<Transient> {
    fn count(&self, clients: u64) {
        numbers().socket_events_sent.with_label_values(&[self.kind.wire_name()]).inc_by(clients);
    }
}

fn count(events: &[Arc<Recorded>], clients: u64) {
    for event in events {
        numbers().socket_events_sent.with_label_values(&[event_label(&event.kind)]).inc_by(clients);
    }
}

impl Events {
    /// Counts that a Socket.IO client took so many from the front.
    pub fn taken_in_part(&self, events: usize) {
        count(&self.item.events[..events], 1);
    }
}

impl<T: Counted> Drop for Shared<T> {
    fn drop(&mut self) {
        let takers = *self.takers.get_mut();
        if takers > 0 {
            self.item.count(takers);
        }
    }
}

impl<T: Counted> Shared<T> {
    pub fn new(item: T) -> Shared<T> {
        Shared { item, frames: OnceLock::new(), takers: AtomicU64::new(0) }
    }

    /// Counts that a Socket.IO client took it: one addition, however many events it holds.
    pub fn taken(&self) {
        self.takers.fetch_add(1, Ordering::Relaxed);
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
