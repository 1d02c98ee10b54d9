//! A reader of one job's events: the hub's end of a stream or of a waiting request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use axum::response::sse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::{
    config::Config,
    job::{Code, JobId, Rejection},
    realtime::hub::{ClientId, Door, Hub, Outlet, Past, Sent},
    store::{Recorded, Transient},
};

/// Events that may wait for a reader; one that falls behind further is fed from the journal at its own pace.
const WAITING: usize = 64;

/// What streams and waiting requests hang on. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    hub: Arc<Hub>,
    /// How many of them there may be yet.
    places: Arc<Semaphore>,
    /// Ends them, so that their clients come back elsewhere.
    pub stop: CancellationToken,
    /// A longer wait would be cut off as a request that takes too long.
    pub longest_wait: Duration,
}

impl Live {
    /// The settings bound how many readers there are, and how long a request may wait.
    pub fn new(hub: Arc<Hub>, stop: CancellationToken, settings: &Config) -> Live {
        let places = Arc::new(Semaphore::new(settings.realtime.max_streams));
        Live { hub, places, stop, longest_wait: settings.server.request_timeout / 10 * 9 }
    }
}

/// What a reader is told.
pub struct News {
    /// As `text/event-stream` has it.
    pub frame: sse::Event,
    /// Whether it is in the journal; progress is not.
    pub is_kept: bool,
    /// Whether nothing follows.
    pub is_last: bool,
}

/// Follows one job. Dropping it leaves the hub.
pub struct Reader {
    news: mpsc::Receiver<News>,
    over: bool,
    hub: Arc<Hub>,
    client: ClientId,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Follows a job behind a seq.
    ///
    /// # Errors
    /// [`Code::JobNotFound`]; [`Code::Unavailable`] when this process serves as many readers as it may.
    pub async fn open(live: &Live, job: JobId, after: i32) -> Result<Reader, Error> {
        let permit = live.places.clone().try_acquire_owned().map_err(|_| {
            let message = "This server follows jobs for as many clients as it may; try again in a moment.";
            Rejection::new(Code::Unavailable, message)
        })?;
        let (sender, news) = mpsc::channel(WAITING);
        let mailbox = Mailbox { job, told: AtomicI32::new(after), sender };
        let client = live.hub.register(Arc::new(mailbox), live.hub.delivered());
        let reader = Reader { news, over: false, hub: live.hub.clone(), client, _permit: permit };
        live.hub.subscribe(client, job, Door::Job, Past::After(after)).await?;
        Ok(reader)
    }

    /// What happens next; `None` behind the job's last event.
    pub async fn next(&mut self) -> Option<News> {
        if self.over {
            return None;
        }
        let news = self.news.recv().await?;
        self.over = news.is_last;
        Some(news)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.hub.unregister(self.client);
    }
}

/// The end of the hub's stream that it fills.
struct Mailbox {
    job: JobId,
    /// The newest seq that the reader knows.
    told: AtomicI32,
    sender: mpsc::Sender<News>,
}

impl Outlet for Mailbox {
    fn send(&self, event: &Recorded) -> Sent {
        // Every client is told of every new job; and who comes while its job is announced is told that twice.
        let is_known = event.seq <= self.told.load(Ordering::Relaxed);
        if event.job != self.job || (is_known && !event.is_terminal()) {
            return Sent::Yes;
        }
        let frame = frame(&event.kind, event.payload.get()).id(event.seq.to_string());
        match self.sender.try_send(News { frame, is_kept: true, is_last: event.is_terminal() }) {
            Ok(()) => {
                self.told.store(event.seq, Ordering::Relaxed);
                Sent::Yes
            }
            Err(mpsc::error::TrySendError::Full(_)) => Sent::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Sent::Gone,
        }
    }

    fn send_transient(&self, event: &Transient) {
        // A reader that lags needs its room for what is kept.
        if event.job == self.job && self.sender.capacity() > WAITING / 2 {
            let frame = frame(event.kind.wire_name(), event.payload.get());
            let _ = self.sender.try_send(News { frame, is_kept: false, is_last: false });
        }
    }
}

fn frame(name: &str, payload: &str) -> sse::Event {
    sse::Event::default().event(name).data(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(job: JobId, seq: i32, kind: &'static str) -> Recorded {
        let payload = serde_json::value::to_raw_value("").unwrap();
        Recorded { position: 1, job, seq, kind: kind.into(), payload, at: chrono::DateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_reader_is_told_each_event_of_its_job_once_and_the_end_whatever_it_says_to_know() {
        let [job, other] = [1, 2].map(|id| JobId(uuid::Uuid::from_u128(id)));
        let (sender, mut news) = mpsc::channel(WAITING);
        let mailbox = Mailbox { job, told: AtomicI32::new(0), sender };
        for (of, seq, told) in [(job, 1, true), (job, 1, false), (other, 1, false), (job, 2, true)] {
            assert_eq!(mailbox.send(&event(of, seq, "job:updated")), Sent::Yes);
            assert_eq!(news.try_recv().is_ok(), told, "{of} {seq}");
        }
        mailbox.told.store(77, Ordering::Relaxed);
        assert_eq!(mailbox.send(&event(job, 3, "job:completed")), Sent::Yes);
        assert!(news.try_recv().unwrap().is_last);
    }

    #[test]
    fn a_reader_without_room_is_left_to_the_journal() {
        let job = JobId(uuid::Uuid::from_u128(1));
        let (sender, mut news) = mpsc::channel(1);
        let mailbox = Mailbox { job, told: AtomicI32::new(0), sender };
        assert_eq!(mailbox.send(&event(job, 1, "job:created")), Sent::Yes);
        assert_eq!(mailbox.send(&event(job, 2, "job:updated")), Sent::Full);
        news.try_recv().unwrap();
        assert_eq!(mailbox.send(&event(job, 2, "job:updated")), Sent::Yes);
        drop(news);
        assert_eq!(mailbox.send(&event(job, 3, "job:updated")), Sent::Gone);
    }
}
