//! One ordered stream of events a process: from the journal's tail to the clients that are in a job's room.
//!
//! A client is fed live while it keeps up. When its buffer is full, when it asks for the past, or when it comes back to a
//! session, it is *behind*: a task of its own feeds it from the journal at the pace that it can take, and hands it
//! back to the live stream at an exact position, under the lock under which live events are delivered. So nothing
//! is dropped, nothing told twice, and a slow client costs the others nothing.
//!
//! Under that lock events are only put into clients' buffers; they are written to the network when it is free again.

mod batch;
mod client;
mod feeds;
mod offset;
mod stream;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

pub(in crate::realtime) use self::feeds::Found;
use self::stream::{Joined, Passed, Step, Stream, Wish};
pub use self::{
    batch::{Events, Progress, Shared, Told},
    client::Replay,
    feeds::Interest,
    offset::{Offset, Within},
};
use crate::{
    config::ReplayOnSubscribe,
    job::{JobId, Principal},
    store::{Announcement, Head, Recorded, Room, Store, StoreError},
};

/// Events read from the journal at once.
const PAGE: i64 = 256;
/// How long an event may be missing between two others before the journal is asked.
const GAP_PATIENCE: Duration = Duration::from_millis(10);
/// Waits for room in a client's buffer: the first while it takes something each time, else doubling to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Subscriptions that ask the database at the same time.
const TURNS: usize = 32;
/// Clients written to before others get their turn.
const FLUSHES: usize = 64;

/// How much of what it was given a client took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    All,
    /// So many from the front; then its buffer was full. It will be fed at its own pace.
    Some(usize),
    /// It is not there (any more).
    Gone,
}

/// A client's end of the stream. All calls must return at once.
pub trait Outlet: Send + Sync + 'static {
    /// Takes events of the journal into its buffer.
    fn send(&self, events: &Events) -> Sent;
    /// Takes progress into its buffer; a client under pressure takes none ([`Sent::Some`]), and gets the newest later.
    fn send_progress(&self, progress: &Progress) -> Sent;
    /// Writes what is in its buffer, as far as that goes without waiting.
    fn flush(&self) {}
}

/// A client of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

/// The name under which a client joined a job. A client in both rooms of a job gets each event once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// Room `job:<id>`.
    Job,
    /// Room `automation:<id>`.
    Automation,
}

/// What of a job's past a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// As the server is set.
    Default,
    /// Every event behind this seq.
    After(i32),
}

/// What a client was told before it came, and the rooms that it is in.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The live stream was told up to this position.
    pub live: i64,
    /// The number of its session's last subscription.
    pub last_number: u32,
    pub rooms: HashMap<JobId, Room>,
    /// What of its jobs' past was not told.
    pub due: Vec<Replay>,
    /// Who it is: of what is told to all, it hears what is of jobs that it may see.
    pub viewer: Principal,
}

impl Standing {
    /// A client that connected when everything up to a position had been delivered, and did not say who it is.
    pub fn new(live: i64) -> Standing {
        let viewer = Principal::anonymous();
        Standing { live, last_number: 0, rooms: HashMap::new(), due: Vec::new(), viewer }
    }

    /// The same for somebody.
    pub fn of(self, viewer: Principal) -> Standing {
        Standing { viewer, ..self }
    }
}

/// The hub. Shared by all doors of a process.
pub struct Hub {
    stream: Mutex<Stream>,
    store: Store,
    replay: ReplayOnSubscribe,
    /// Of those who ask where a job stands.
    turns: Semaphore,
}

impl Hub {
    /// Starts the stream at the journal's present end; it ends when the second value is dropped.
    pub async fn start(
        store: Store,
        announcements: mpsc::Receiver<Announcement>,
        settings: &crate::config::Realtime,
    ) -> Result<(Arc<Hub>, AbortOnDropHandle<()>), StoreError> {
        let position = store.position().await?;
        // Who comes back after a restart finds what it missed in memory.
        let recent: VecDeque<Arc<Recorded>> =
            store.tail(position - settings.recent_events as i64, settings.recent_events as i64).await?.into();
        let stream = Stream {
            delivered: recent.back().map_or(position, |last| last.position.max(position)),
            recent,
            max_recent: settings.recent_events,
            early: Default::default(),
            clients: HashMap::new(),
            rooms: HashMap::new(),
            last_client: 0,
            max_subscriptions: settings.max_subscriptions,
            touched: Vec::new(),
            feeds: Default::default(),
        };
        let hub = Arc::new(Hub {
            stream: Mutex::new(stream),
            store,
            replay: settings.replay_on_subscribe,
            turns: Semaphore::new(TURNS),
        });
        let run = tokio::spawn(hub.clone().run(announcements, settings.poll_interval));
        Ok((hub, AbortOnDropHandle::new(run)))
    }

    /// The position up to which events were delivered.
    pub fn delivered(&self) -> i64 {
        self.with(|stream| stream.delivered)
    }

    /// Waits until everything up to a position was delivered.
    pub async fn reach(&self, position: i64) {
        while self.delivered() < position {
            tokio::time::sleep(GAP_PATIENCE).await;
        }
    }

    /// Where the jobs are that clients follow.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many clients are there.
    pub fn clients(&self) -> usize {
        self.with(|stream| stream.clients.len())
    }

    /// The rooms that some clients are in, each as the job and the door; none for one who is gone.
    pub fn rooms_of(&self, clients: &[ClientId]) -> Vec<Vec<(JobId, Door)>> {
        self.with(|stream| clients.iter().map(|id| stream.rooms_of(*id)).collect())
    }

    /// Lets a client in; what it is due since it was told something last comes before anything newer.
    pub fn register(self: &Arc<Self>, outlet: Arc<dyn Outlet>, standing: Standing) -> ClientId {
        let id = self.with(|stream| stream.enter(outlet, standing));
        self.begin_feeding(id);
        id
    }

    /// Forgets a client.
    pub fn unregister(&self, id: ClientId) {
        self.with(|stream| stream.remove(id));
    }

    /// Joins a job's room; returns where the job stood. What of its past is due comes before anything newer. If the
    /// client's rooms change, `record` writes that down first: a client is never told what its session does not know of.
    ///
    /// # Errors
    /// [`Code::JobNotFound`](crate::job::Code::JobNotFound), for a job that the client may not know of too; [`Code::TooMany`](crate::job::Code::TooMany) for a
    /// client with too many subscriptions; and what `record` says, after which the client is not in a room that is new.
    pub async fn subscribe(
        self: &Arc<Self>,
        id: ClientId,
        job: JobId,
        door: Door,
        past: Past,
        record: impl AsyncFnOnce(Room) -> Result<(), StoreError>,
    ) -> Result<Head, StoreError> {
        // Who is gone has no use for an answer.
        let viewer = self.with(|stream| stream.viewer(id)).unwrap_or_else(Principal::anonymous);
        let (head, from, last_word) = {
            // As many at once as the database answers; the others wait, and need no memory for a query meanwhile.
            let _turn = self.turns.acquire().await;
            Box::pin(self.look_up(job, past, &viewer)).await?
        };
        let joined = self.with(|stream| stream.join(id, Wish { job, door, past, from, last_word }))?;
        let Joined::Room { room, new } = joined else { return Ok(head) };
        let recorded = record(room).await;
        self.with(|stream| {
            if recorded.is_err() && new {
                stream.leave(id, job, door);
            }
            stream.release(id);
        });
        self.begin_feeding(id);
        recorded.map(|()| head)
    }

    /// Leaves a job's room through a door; the client stays in if it came in through the other one too. Returns the room
    /// as it is then (none if it was left), if anything changed.
    pub fn unsubscribe(&self, id: ClientId, job: JobId, door: Door) -> Option<Option<Room>> {
        self.with(|stream| stream.leave(id, job, door))
    }

    /// Where a job stands; the position behind which its past is due, if that can be said without the client; and the
    /// position of its terminal event, if it has ended.
    async fn look_up(
        &self,
        job: JobId,
        past: Past,
        viewer: &Principal,
    ) -> Result<(Head, Option<i64>, Option<i64>), StoreError> {
        let head = self.store.head_for(job, viewer).await?;
        // By the position of the last event that the client knows, not by the job's present end: what is committed
        // from here to the lock must not fall between the two.
        let from = match (past, self.replay) {
            (Past::After(seq), _) => Some(self.position_of(job, seq.min(head.seq)).await?.unwrap_or(0)),
            (Past::Default, ReplayOnSubscribe::History) => Some(0),
            (Past::Default, ReplayOnSubscribe::None) => Some(self.delivered()),
            (Past::Default, ReplayOnSubscribe::SinceConnect) => None,
        };
        // An ended job says so to everyone who asks for it.
        let last_word = if head.status.is_ended() { self.position_of(job, head.seq).await? } else { None };
        Ok((head, from, last_word))
    }

    async fn position_of(&self, job: JobId, seq: i32) -> Result<Option<i64>, StoreError> {
        if seq < 1 {
            return Ok(None);
        }
        Ok(self.store.events(job, seq - 1, 1).await?.first().map(|event| event.position))
    }

    /// Works on the stream under its lock, then writes to those who were given something.
    fn with<R>(&self, work: impl FnOnce(&mut Stream) -> R) -> R {
        let (result, touched) = self.locked(work);
        touched.iter().for_each(|outlet| outlet.flush());
        result
    }

    /// Works on the stream under its lock; returns who is to be flushed.
    fn locked<R>(&self, work: impl FnOnce(&mut Stream) -> R) -> (R, Vec<Arc<dyn Outlet>>) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut stream);
        (result, std::mem::take(&mut stream.touched))
    }

    /// Delivers to many clients; they are written to in portions, so that others get their turn between.
    async fn deliver(self: &Arc<Self>, work: impl FnOnce(&mut Stream) -> Vec<ClientId>) {
        let (lagging, touched) = self.locked(work);
        for portion in touched.chunks(FLUSHES) {
            portion.iter().for_each(|outlet| outlet.flush());
            if touched.len() > FLUSHES {
                tokio::task::yield_now().await;
            }
        }
        for id in lagging {
            self.begin_feeding(id);
        }
    }

    /// Gives a client that is behind what it is due from memory, and starts a task that gives it the rest.
    fn begin_feeding(self: &Arc<Self>, id: ClientId) {
        let step = self.with(|stream| match stream.begin_feeding(id) {
            true => stream.next_step(id),
            false => Step::End,
        });
        if !matches!(step, Step::End) {
            tokio::spawn(self.clone().feed(id, step));
        }
    }

    /// Follows the journal until the store is closed.
    async fn run(self: Arc<Self>, mut announcements: mpsc::Receiver<Announcement>, poll_interval: Duration) {
        let mut next_poll = Instant::now() + poll_interval;
        loop {
            match tokio::time::timeout_at(next_poll, announcements.recv()).await {
                Ok(Some(Announcement::Transient(progress))) => {
                    self.deliver(|stream| stream.take_progress(progress)).await;
                }
                Ok(Some(Announcement::Committed { events, .. })) => {
                    self.deliver(|stream| stream.take_committed(events)).await;
                    if !self.with(|stream| stream.early.is_empty()) {
                        next_poll = next_poll.min(Instant::now() + GAP_PATIENCE);
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    next_poll = Instant::now() + poll_interval;
                    if let Err(error) = self.poll().await {
                        tracing::warn!(%error, "the journal could not be read; trying again");
                    }
                }
            }
        }
    }

    /// Delivers what the journal has and nobody announced (other processes' events, lost announcements).
    async fn poll(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            let events = self.store.tail(self.delivered(), PAGE).await?;
            let more = events.len() as i64 == PAGE;
            self.deliver(|stream| stream.take_read(events)).await;
            if !more {
                return Ok(());
            }
        }
    }

    /// Feeds a client that is behind, at its own pace, until it is live again or gone.
    async fn feed(self: Arc<Self>, id: ClientId, mut step: Step) {
        let mut pause = PAUSES.0;
        loop {
            match step {
                Step::End => return,
                Step::Wait { moved } => pause = rest(pause, moved).await,
                _ => match self.past(&step).await {
                    Ok(mut page) => {
                        let complete = (page.len() as i64) < PAGE;
                        // A page is handed over in as many steps as the client's buffer takes.
                        loop {
                            match self.with(|stream| stream.pass_on(id, &step, &mut page, complete)) {
                                Passed::All => break,
                                Passed::Some { moved } => pause = rest(pause, moved).await,
                                Passed::Gone => return,
                            }
                        }
                        pause = PAUSES.0;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a client's past could not be read; trying again");
                        tokio::time::sleep(PAUSES.1).await;
                    }
                },
            }
            step = self.with(|stream| stream.next_step(id));
        }
    }

    /// A page of what a client is due that is not in memory.
    async fn past(&self, step: &Step) -> Result<VecDeque<Arc<Recorded>>, StoreError> {
        // Boxed: thousands may wait at the same time, and a query's future is large.
        let events = match step {
            Step::Replay(replay) => {
                let (job, after, up_to) = (replay.job, replay.after, replay.up_to);
                Box::pin(self.store.events_between(job, replay.after_seq, after, up_to, PAGE)).await?
            }
            Step::CatchUp { jobs, viewer, cursor, up_to } => {
                Box::pin(self.store.tail_of(jobs, viewer.sees_only(), *cursor, *up_to, PAGE)).await?
            }
            Step::End | Step::Wait { .. } => Vec::new(),
        };
        Ok(events.into())
    }
}

/// Waits for room in a client's buffer; returns how long to wait the next time.
async fn rest(pause: Duration, moved: bool) -> Duration {
    let pause = if moved { PAUSES.0 } else { pause };
    tokio::time::sleep(pause).await;
    (pause * 2).min(PAUSES.1)
}
