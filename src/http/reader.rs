//! A reader of one job's events: the hub's end of a stream or of a waiting request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use axum::response::sse;
use serde_json::value::RawValue;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, error::TrySendError},
};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::{
    config::Config,
    job::{Code, JobId, Principal, Rejection},
    metrics::{Held, numbers},
    realtime::hub::{ClientId, Door, Events, Hub, Outlet, Past, Progress, Sent, Standing},
    store::{Addresses, Recorded, Transient},
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

impl Live {
    /// A place among the requests that wait.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when there are as many as this process may have.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Rejection> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let message = "This server follows jobs for as many clients as it may; try again in a moment.";
            Rejection::new(Code::Unavailable, message)
        })
    }

    /// Waits for a job's end, for so long at the most and no longer than a request may; returns whether it came.
    pub async fn until_ended(
        &self,
        viewer: &Principal,
        job: JobId,
        wait: Duration,
    ) -> Result<bool, Rejection> {
        let _counted = Held::of(&numbers().open_requests.with_label_values(&["long_poll"]));
        let mut reader = Reader::open(self, viewer, job, 0).await.map_err(Error::rejection)?;
        let end = async { while reader.next().await.is_some() {} };
        let waited = tokio::time::timeout(wait.min(self.longest_wait), self.stop.run_until_cancelled(end));
        Ok(matches!(waited.await, Ok(Some(()))))
    }
}

/// What a reader is told.
pub enum News {
    Event(Arc<Recorded>),
    /// It is not in the journal.
    Progress(Arc<Transient>),
}

impl News {
    /// As `text/event-stream` has it; only what is in the journal has an id.
    pub fn frame(&self, addresses: &Addresses) -> sse::Event {
        let frame = |name: &str, payload: &RawValue| sse::Event::default().event(name).data(payload.get());
        match self {
            News::Event(event) => {
                let payload = addresses.freshen(&event.kind, &event.payload);
                frame(&event.kind, &payload).id(event.seq.to_string())
            }
            News::Progress(progress) => frame(progress.kind.wire_name(), &progress.payload),
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, News::Event(event) if event.is_terminal())
    }
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
    /// Follows a job behind a seq, for somebody who may know of it.
    ///
    /// # Errors
    /// [`Code::JobNotFound`]; [`Code::Unavailable`] when this process serves as many readers as it may.
    pub async fn open(live: &Live, viewer: &Principal, job: JobId, after: i32) -> Result<Reader, Error> {
        let permit = live.place()?;
        let (sender, news) = mpsc::channel(WAITING);
        let mailbox = Mailbox { job, told: AtomicI32::new(after), sender };
        let client =
            live.hub.register(Arc::new(mailbox), Standing::new(live.hub.delivered()).of(viewer.clone()));
        let reader = Reader { news, over: false, hub: live.hub.clone(), client, _permit: permit };
        // No session knows of it: it comes back with the seq that it knows.
        live.hub.subscribe(client, job, Door::Job, Past::After(after), async |_| Ok(())).await?;
        Ok(reader)
    }

    /// What happens next; `None` behind the job's last event.
    pub async fn next(&mut self) -> Option<News> {
        if self.over {
            return None;
        }
        let news = self.news.recv().await?;
        self.over = news.is_last();
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

impl Mailbox {
    fn take(&self, event: &Arc<Recorded>) -> Result<(), TrySendError<News>> {
        // Every client is told of every new job; and who comes while its job is announced is told that twice.
        let is_known = event.seq <= self.told.load(Ordering::Relaxed);
        if event.job != self.job || (is_known && !event.is_terminal()) {
            return Ok(());
        }
        self.sender.try_send(News::Event(event.clone()))?;
        self.told.store(event.seq, Ordering::Relaxed);
        Ok(())
    }
}

impl Outlet for Mailbox {
    fn send(&self, events: &Events) -> Sent {
        for (taken, event) in events.item.events.iter().enumerate() {
            match self.take(event) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Sent::Some(taken),
                Err(TrySendError::Closed(_)) => return Sent::Gone,
            }
        }
        Sent::All
    }

    fn send_progress(&self, progress: &Progress) -> Sent {
        // It follows one job; what belongs to none is for pages.
        if progress.item.job != Some(self.job) {
            return Sent::All;
        }
        // A reader that lags needs its room for what is kept.
        if self.sender.capacity() <= WAITING / 2 {
            return Sent::Some(0);
        }
        match self.sender.try_send(News::Progress(progress.item.clone())) {
            Ok(()) => Sent::All,
            Err(TrySendError::Full(_)) => Sent::Some(0),
            Err(TrySendError::Closed(_)) => Sent::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::hub::Told;

    const JOB: JobId = JobId(uuid::Uuid::from_u128(1));
    const OTHER: JobId = JobId(uuid::Uuid::from_u128(2));

    fn events<const N: usize>(events: [(JobId, i32, &'static str); N]) -> Events {
        let recorded = events.map(|(job, seq, kind)| {
            let payload = serde_json::value::to_raw_value("").unwrap();
            let at = chrono::DateTime::UNIX_EPOCH;
            Arc::new(Recorded { position: 1, job, seq, kind: kind.into(), payload, at, owner: None })
        });
        Told::live(recorded.into())
    }

    fn mailbox(told: i32, room: usize) -> (Mailbox, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(room);
        (Mailbox { job: JOB, told: AtomicI32::new(told), sender }, news)
    }

    fn seqs(news: &mut mpsc::Receiver<News>) -> Vec<i32> {
        let told = std::iter::from_fn(|| news.try_recv().ok());
        told.filter_map(|news| if let News::Event(event) = news { Some(event.seq) } else { None }).collect()
    }

    #[test]
    fn a_reader_is_told_each_event_of_its_job_once() {
        let (mailbox, mut news) = mailbox(0, WAITING);
        let created = "job:created";
        assert_eq!(mailbox.send(&events([(JOB, 1, created)])), Sent::All);
        let more = [(JOB, 1, created), (OTHER, 1, created), (JOB, 2, "job:updated")];
        assert_eq!(mailbox.send(&events(more)), Sent::All);
        assert_eq!(seqs(&mut news), [1, 2]);
    }

    #[test]
    fn a_reader_is_told_the_end_whatever_it_says_to_know() {
        let (mailbox, mut news) = mailbox(77, WAITING);
        mailbox.send(&events([(JOB, 3, "job:updated"), (JOB, 4, "job:completed")]));
        assert_eq!(seqs(&mut news), [4]);
    }

    #[test]
    fn a_reader_without_room_is_left_to_the_journal() {
        let (mailbox, mut news) = mailbox(0, 2);
        let [first, second, third] = [1, 2, 3].map(|seq| (JOB, seq, "job:updated"));
        assert_eq!(mailbox.send(&events([first, (OTHER, 1, "job:created"), second, third])), Sent::Some(3));
        assert_eq!(seqs(&mut news), [1, 2]);
        assert_eq!(mailbox.send(&events([third])), Sent::All);
        drop(news);
        assert_eq!(mailbox.send(&events([(JOB, 4, "job:updated")])), Sent::Gone);
    }
}
