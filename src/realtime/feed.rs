//! A feed: a cursor over the journal as this process delivers it, of some jobs or of all, and the newest progress.
//!
//! It has no queue that could be full: it is woken, and reads what it has not read, from the hub's memory or else from
//! the journal. So however slow its reader is, nothing is lost, and nobody waits for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

pub use super::hub::Interest;
use super::hub::{Found, Hub};
use crate::store::{Recorded, StoreError, Transient};

/// Events read from the journal at once.
const PAGE: i64 = 256;
/// Before a journal that could not be read is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// What happened since the last look. Never empty.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// In the order of their positions.
    pub events: Vec<Arc<Recorded>>,
    /// The newest of each job and kind; it is not in the journal.
    pub progress: Vec<Arc<Transient>>,
}

/// A cursor over the journal. Dropping it leaves the hub.
pub struct Feed {
    hub: Arc<Hub>,
    interest: Interest,
    id: u64,
    wake: Arc<Notify>,
    cursor: i64,
    /// The seq of the last event that was read of the one job.
    seq: i32,
    progress: u64,
}

impl Feed {
    /// Begins behind everything that was delivered so far. Rows that are read afterwards may hold more: what they hold
    /// comes once again.
    pub fn open(hub: &Arc<Hub>, interest: Interest) -> Feed {
        let begun = hub.begin_feed(interest);
        Feed {
            hub: hub.clone(),
            interest,
            id: begun.feed,
            wake: begun.wake,
            cursor: begun.cursor,
            seq: 0,
            progress: begun.progress,
        }
    }

    /// Goes on with another interest: behind the position given, or else where it is.
    pub fn turn(&mut self, interest: Interest, behind: Option<i64>) {
        // The new place is taken before the old one is left; what happens in between is behind the cursor.
        let begun = self.hub.begin_feed(interest);
        self.hub.end_feed(self.interest, self.id);
        (self.interest, self.id, self.wake) = (interest, begun.feed, begun.wake);
        self.cursor = behind.unwrap_or(self.cursor).min(self.cursor);
        self.seq = 0;
    }

    /// Waits for news. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> News {
        loop {
            // Progress first: what is read of the journal behind it is newer, and may be the job's end.
            let (progress, newest) = self.hub.newer_progress(self.interest, self.progress);
            let events = match self.hub.look(self.interest, self.cursor) {
                Found::Events { events, cursor } => {
                    self.advance(&events, cursor);
                    events
                }
                Found::Journal { delivered } => match self.read(delivered).await {
                    Ok(mut events) => {
                        let is_all = events.len() < PAGE as usize;
                        let last = events.last().map_or(self.cursor, |last| last.position);
                        self.advance(&events, if is_all { last.max(delivered) } else { last });
                        events.retain(|event| self.interest.is_about(event.job));
                        events
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the journal could not be read; trying again");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            self.progress = newest;
            if !events.is_empty() || !progress.is_empty() {
                return News { events, progress };
            }
            if self.cursor >= self.hub.delivered() {
                self.wake.notified().await;
            }
        }
    }

    fn advance(&mut self, events: &[Arc<Recorded>], cursor: i64) {
        self.cursor = cursor;
        self.seq = events.last().map_or(self.seq, |last| last.seq);
    }

    async fn read(&self, delivered: i64) -> Result<Vec<Arc<Recorded>>, StoreError> {
        let store = self.hub.store();
        match self.interest {
            Interest::All | Interest::Jobs(_) => store.tail(self.cursor, PAGE).await,
            Interest::Job(job) => store.events_between(job, self.seq, self.cursor, delivered, PAGE).await,
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub.end_feed(self.interest, self.id);
    }
}
