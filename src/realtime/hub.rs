//! One ordered stream of events a process: from the journal's tail to the clients that are in a job's room.
//!
//! A client is fed live while it keeps up. When its buffer is full, or when it asks for the past, it is *behind*: a task
//! of its own feeds it from the journal at the pace that it can take, and hands it back to the live stream at an
//! exact position, under the lock under which live events are delivered. So nothing is dropped, nothing told
//! twice, and a slow client costs the others nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    config::ReplayOnSubscribe,
    event::Class,
    job::{Code, JobId, Rejection},
    store::{Announcement, Head, Recorded, Store, StoreError, Transient},
};

/// Events read from the journal at once.
const PAGE: i64 = 256;
/// How long an event may be missing between two others before the journal is asked.
const GAP_PATIENCE: Duration = Duration::from_millis(10);
/// Waits for room in a client's buffer: the first while it takes something each time, else doubling to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Whether a client took an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Yes,
    /// Its buffer is full; it will be fed at its own pace.
    Full,
    /// It is not there (any more).
    Gone,
}

/// A client's end of the stream. Both calls must return at once.
pub trait Outlet: Send + Sync + 'static {
    /// Passes an event of the journal on.
    fn send(&self, event: &Recorded) -> Sent;
    /// Passes progress on if there is room.
    fn send_transient(&self, event: &Transient);
}

/// A client of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

/// The name under which a client joined a job. A client in both rooms of a job gets each event once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The hub. Shared by all doors of a process.
pub struct Hub {
    stream: Mutex<Stream>,
    store: Store,
    replay: ReplayOnSubscribe,
    max_subscriptions: usize,
}

struct Stream {
    /// Everything up to here was delivered.
    delivered: i64,
    /// The newest events, without a gap, ending with `delivered`.
    recent: VecDeque<Arc<Recorded>>,
    max_recent: usize,
    /// Committed events that wait for one before them.
    early: BTreeMap<i64, Arc<Recorded>>,
    clients: HashMap<ClientId, Client>,
    rooms: HashMap<JobId, Vec<ClientId>>,
    /// For clients and replays.
    last_number: u64,
}

struct Client {
    outlet: Arc<dyn Outlet>,
    connected_at: i64,
    memberships: HashMap<JobId, Membership>,
    feed: Feed,
}

struct Membership {
    job_door: bool,
    automation_door: bool,
    /// What came before belongs to a replay.
    since: i64,
}

enum Feed {
    Live,
    Behind(Behind),
}

struct Behind {
    /// What the live stream would have told up to here was told.
    cursor: i64,
    /// Past events of single jobs, told before the cursor moves on.
    replays: VecDeque<Replay>,
}

#[derive(Clone, Copy)]
struct Replay {
    /// Tells it from another of the same job that took its place.
    number: u64,
    job: JobId,
    after: i64,
    /// The seq of the event at `after`, or of an earlier one: where to look in the journal.
    after_seq: i32,
    up_to: i64,
    /// `job:created` was told to everybody when it happened; only who asks for the past gets it again.
    with_broadcasts: bool,
}

impl Hub {
    /// Starts the stream at the journal's present end; it ends when the second value is dropped.
    pub async fn start(
        store: Store,
        announcements: mpsc::Receiver<Announcement>,
        settings: &crate::config::Realtime,
    ) -> Result<(Arc<Hub>, AbortOnDropHandle<()>), StoreError> {
        let stream = Stream {
            delivered: store.position().await?,
            recent: VecDeque::new(),
            max_recent: settings.recent_events,
            early: BTreeMap::new(),
            clients: HashMap::new(),
            rooms: HashMap::new(),
            last_number: 0,
        };
        let hub = Arc::new(Hub {
            stream: Mutex::new(stream),
            store,
            replay: settings.replay_on_subscribe,
            max_subscriptions: settings.max_subscriptions,
        });
        let run = tokio::spawn(hub.clone().run(announcements, settings.poll_interval));
        Ok((hub, AbortOnDropHandle::new(run)))
    }

    /// The position up to which events were delivered.
    pub fn delivered(&self) -> i64 {
        self.lock().delivered
    }

    /// How many clients are there.
    pub fn clients(&self) -> usize {
        self.lock().clients.len()
    }

    /// Lets a client in that connected when `connected_at` had been delivered; what everybody was told since then it is
    /// told first.
    pub fn register(self: &Arc<Self>, outlet: Arc<dyn Outlet>, connected_at: i64) -> ClientId {
        let mut stream = self.lock();
        let id = ClientId(stream.next_number());
        let feed = Feed::Behind(Behind { cursor: connected_at, replays: VecDeque::new() });
        stream.clients.insert(id, Client { outlet, connected_at, memberships: HashMap::new(), feed });
        if !matches!(stream.next_step(id), Step::End) {
            tokio::spawn(self.clone().feed(id));
        }
        id
    }

    /// Forgets a client.
    pub fn unregister(&self, id: ClientId) {
        let mut stream = self.lock();
        if let Some(client) = stream.clients.remove(&id) {
            for job in client.memberships.keys() {
                stream.leave_room(*job, id);
            }
        }
    }

    /// Joins a job's room; returns where the job stood. What of its past is due comes before anything newer.
    ///
    /// # Errors
    /// [`Code::JobNotFound`]; [`Code::TooMany`] for a client with too many subscriptions.
    pub async fn subscribe(
        self: &Arc<Self>,
        id: ClientId,
        job: JobId,
        door: Door,
        past: Past,
    ) -> Result<Head, StoreError> {
        let head = self.store.head(job).await?;
        // By the position of the last event that the client knows, not by the job's present end: what is committed
        // from here to the lock below must not fall between the two.
        let asked = match past {
            Past::After(seq) if seq > 0 => self.position_of(job, seq.min(head.seq)).await?,
            Past::After(_) | Past::Default => None,
        };
        // An ended job says so to everyone who asks for it.
        let last_word = if head.status.is_ended() { self.position_of(job, head.seq).await? } else { None };
        let mut stream = self.lock();
        let now = stream.delivered;
        let Some(client) = stream.clients.get_mut(&id) else { return Ok(head) };
        let from = match past {
            Past::After(_) => asked.unwrap_or(0),
            Past::Default => match self.replay {
                ReplayOnSubscribe::SinceConnect => client.connected_at,
                ReplayOnSubscribe::History => 0,
                ReplayOnSubscribe::None => now,
            },
        };
        let from = last_word.map_or(from, |last_word| from.min(last_word - 1));
        if let Some(membership) = client.memberships.get_mut(&job) {
            membership.open(door);
            if past == Past::Default {
                return Ok(head);
            }
            // It named what it knows; the replay tells all behind that, in place of what was still to be told.
            membership.since = now;
            client.feed.call_off(job);
        } else {
            if client.memberships.len() >= self.max_subscriptions {
                let message = format!(
                    "One connection may follow {} jobs; unsubscribe from some.",
                    self.max_subscriptions
                );
                return Err(Rejection::new(Code::TooMany, message).into());
            }
            let mut membership = Membership { job_door: false, automation_door: false, since: now };
            membership.open(door);
            client.memberships.insert(job, membership);
            stream.rooms.entry(job).or_default().push(id);
        }
        let with_broadcasts = past != Past::Default;
        let number = stream.next_number();
        let replay = Replay { number, job, after: from, after_seq: 0, up_to: now, with_broadcasts };
        if stream.replay(id, replay) {
            tokio::spawn(self.clone().feed(id));
        }
        Ok(head)
    }

    /// Leaves a job's room through a door; the client stays in if it came in through the other one too.
    pub fn unsubscribe(&self, id: ClientId, job: JobId, door: Door) {
        let mut stream = self.lock();
        let Some(client) = stream.clients.get_mut(&id) else { return };
        let Some(membership) = client.memberships.get_mut(&job) else { return };
        if membership.close(door) {
            client.memberships.remove(&job);
            client.feed.call_off(job);
            stream.leave_room(job, id);
        }
    }

    async fn position_of(&self, job: JobId, seq: i32) -> Result<Option<i64>, StoreError> {
        Ok(self.store.events(job, seq - 1, 1).await?.first().map(|event| event.position))
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the journal until the store is closed.
    async fn run(self: Arc<Self>, mut announcements: mpsc::Receiver<Announcement>, poll_interval: Duration) {
        let mut next_poll = Instant::now() + poll_interval;
        loop {
            let announced = tokio::time::timeout_at(next_poll, announcements.recv()).await;
            match announced {
                Ok(Some(announcement)) => {
                    let lagging = {
                        let mut stream = self.lock();
                        let lagging = stream.take(announcement);
                        if !stream.early.is_empty() {
                            next_poll = next_poll.min(Instant::now() + GAP_PATIENCE);
                        }
                        lagging
                    };
                    self.feed_all(lagging);
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
            let lagging = self.lock().take_read(events);
            self.feed_all(lagging);
            if !more {
                return Ok(());
            }
        }
    }

    fn feed_all(self: &Arc<Self>, lagging: Vec<ClientId>) {
        for id in lagging {
            tokio::spawn(self.clone().feed(id));
        }
    }

    /// Feeds a client that is behind, at its own pace, until it is live again or gone.
    async fn feed(self: Arc<Self>, id: ClientId) {
        let mut pause = PAUSES.0;
        loop {
            let step = self.lock().next_step(id);
            let read = match step {
                Step::End => return,
                Step::Wait { moved } => {
                    pause = rest(pause, moved).await;
                    continue;
                }
                Step::Replay(Replay { job, after, after_seq, up_to, .. }) => {
                    self.store.events_between(job, after_seq, after, up_to, PAGE).await
                }
                Step::CatchUp { ref jobs, cursor, up_to } => {
                    self.store.tail_of(jobs, cursor, up_to, PAGE).await
                }
            };
            let mut events: VecDeque<Arc<Recorded>> = match read {
                Ok(events) => events.into(),
                Err(error) => {
                    tracing::warn!(%error, "a client's past could not be read; trying again");
                    tokio::time::sleep(PAUSES.1).await;
                    continue;
                }
            };
            let complete = (events.len() as i64) < PAGE;
            // A page is handed over in as many steps as the client's buffer takes.
            loop {
                let sent = self.lock().pass_on(id, &step, &mut events, complete);
                match sent {
                    Passed::All => {
                        pause = PAUSES.0;
                        break;
                    }
                    Passed::Some { moved } => pause = rest(pause, moved).await,
                    Passed::Gone => return,
                }
            }
        }
    }
}

/// Waits for room in a client's buffer; returns how long to wait the next time.
async fn rest(pause: Duration, moved: bool) -> Duration {
    let pause = if moved { PAUSES.0 } else { pause };
    tokio::time::sleep(pause).await;
    (pause * 2).min(PAUSES.1)
}

enum Step {
    /// The client is live or gone.
    End,
    /// Its buffer is full.
    Wait {
        /// Whether it took something before.
        moved: bool,
    },
    Replay(Replay),
    CatchUp {
        jobs: Vec<Uuid>,
        cursor: i64,
        up_to: i64,
    },
}

enum Passed {
    All,
    /// Its buffer is full.
    Some {
        /// Whether it took something before.
        moved: bool,
    },
    Gone,
}

impl Stream {
    /// Takes what was announced; returns clients that fell behind by it.
    fn take(&mut self, announcement: Announcement) -> Vec<ClientId> {
        let mut lagging = Vec::new();
        match announcement {
            Announcement::Committed { events, .. } => {
                for event in events {
                    if event.position > self.delivered {
                        self.early.insert(event.position, event);
                    }
                }
                while let Some(event) = self.early.remove(&(self.delivered + 1)) {
                    self.deliver(event, &mut lagging);
                }
            }
            Announcement::Transient(event) => {
                for id in self.rooms.get(&event.job).into_iter().flatten() {
                    if let Some(Client { outlet, feed: Feed::Live, .. }) = self.clients.get(id) {
                        outlet.send_transient(&event);
                    }
                }
            }
        }
        lagging
    }

    /// Takes what was read from the journal, where a position that is missing belongs to a job that was removed.
    fn take_read(&mut self, events: Vec<Arc<Recorded>>) -> Vec<ClientId> {
        let mut lagging = Vec::new();
        for event in events {
            if event.position > self.delivered {
                self.deliver(event, &mut lagging);
            }
        }
        self.early = self.early.split_off(&(self.delivered + 1));
        lagging
            .extend(self.take(Announcement::Committed { events: Vec::new(), at: std::time::Instant::now() }));
        lagging
    }

    fn deliver(&mut self, event: Arc<Recorded>, lagging: &mut Vec<ClientId>) {
        self.delivered = event.position;
        let mut tell = |id: ClientId, client: &mut Client| {
            if matches!(client.feed, Feed::Live) && client.outlet.send(&event) == Sent::Full {
                client.feed = Feed::Behind(Behind { cursor: event.position - 1, replays: VecDeque::new() });
                lagging.push(id);
            }
        };
        if event.class() == Class::Broadcast {
            for (id, client) in &mut self.clients {
                tell(*id, client);
            }
        } else {
            for id in self.rooms.get(&event.job).into_iter().flatten() {
                if let Some(client) = self.clients.get_mut(id) {
                    tell(*id, client);
                }
            }
        }
        self.recent.push_back(event);
        if self.recent.len() > self.max_recent {
            self.recent.pop_front();
        }
    }

    /// The events behind a position, if they are all in memory.
    fn recent_after(&self, position: i64) -> Option<impl Iterator<Item = &Arc<Recorded>>> {
        let all = position >= self.delivered
            || self.recent.front().is_some_and(|first| first.position <= position + 1);
        let skip = self.recent.partition_point(|event| event.position <= position);
        all.then(|| self.recent.iter().skip(skip))
    }

    /// Tells a client the past of a job: from memory if it is there and fits, else by its feeding task. Returns
    /// whether that task must be started.
    fn replay(&mut self, id: ClientId, mut replay: Replay) -> bool {
        if replay.after >= replay.up_to {
            return false;
        }
        let recent: Option<Vec<Arc<Recorded>>> = self
            .recent_after(replay.after)
            .map(|events| events.filter(|event| replay.wants(event)).cloned().collect());
        let Some(client) = self.clients.get_mut(&id) else { return false };
        if let Feed::Behind(behind) = &mut client.feed {
            behind.replays.push_back(replay);
            return false;
        }
        if let Some(recent) = recent {
            match recent.iter().find(|event| client.outlet.send(event) == Sent::Full) {
                None => return false,
                Some(stopped) => replay.after = stopped.position - 1,
            }
        }
        client.feed = Feed::Behind(Behind { cursor: self.delivered, replays: VecDeque::from([replay]) });
        true
    }

    /// What the feeding task of a client has to do next. A client whose rest is in memory is made live here.
    fn next_step(&mut self, id: ClientId) -> Step {
        let Some(client) = self.clients.get(&id) else { return Step::End };
        let Feed::Behind(behind) = &client.feed else { return Step::End };
        if let Some(replay) = behind.replays.front() {
            return Step::Replay(*replay);
        }
        let cursor = behind.cursor;
        let mut stopped = None;
        match self.recent_after(cursor) {
            Some(events) => {
                for event in events.filter(|event| client.wants(event)) {
                    if client.outlet.send(event) == Sent::Full {
                        stopped = Some(event.position - 1);
                        break;
                    }
                }
            }
            None => {
                let jobs = client.memberships.keys().map(|job| job.0).collect();
                return Step::CatchUp { jobs, cursor, up_to: self.delivered };
            }
        }
        let Some(client) = self.clients.get_mut(&id) else { return Step::End };
        match (stopped, &mut client.feed) {
            (Some(cursor), Feed::Behind(behind)) => {
                let moved = cursor > behind.cursor;
                behind.cursor = cursor;
                Step::Wait { moved }
            }
            _ => {
                client.feed = Feed::Live;
                Step::End
            }
        }
    }

    /// Hands a page of the journal to a client that is behind; what it cannot take stays in `events`.
    fn pass_on(
        &mut self,
        id: ClientId,
        step: &Step,
        events: &mut VecDeque<Arc<Recorded>>,
        complete: bool,
    ) -> Passed {
        let Some(client) = self.clients.get_mut(&id) else { return Passed::Gone };
        if let (Step::Replay(replay), Feed::Behind(behind)) = (step, &client.feed)
            && behind.replays.front().is_none_or(|front| front.number != replay.number)
        {
            // It was called off while the journal was read.
            return Passed::All;
        }
        let mut reached = None;
        while let Some(event) = events.front() {
            let wanted = match step {
                Step::Replay(replay) => replay.wants(event),
                _ => client.wants(event),
            };
            if wanted && client.outlet.send(event) == Sent::Full {
                break;
            }
            reached = Some((event.position, event.seq));
            events.pop_front();
        }
        let done = events.is_empty();
        let Feed::Behind(behind) = &mut client.feed else { return Passed::Gone };
        match step {
            Step::Replay(_) => {
                if done && complete {
                    behind.replays.pop_front();
                } else if let (Some(replay), Some(reached)) = (behind.replays.front_mut(), reached) {
                    (replay.after, replay.after_seq) = reached;
                }
            }
            Step::CatchUp { up_to, .. } => {
                behind.cursor = if done && complete {
                    *up_to
                } else {
                    reached.map_or(behind.cursor, |(position, _)| position)
                };
            }
            Step::End | Step::Wait { .. } => {}
        }
        if done { Passed::All } else { Passed::Some { moved: reached.is_some() } }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn leave_room(&mut self, job: JobId, id: ClientId) {
        if let Some(room) = self.rooms.get_mut(&job) {
            room.retain(|member| *member != id);
            if room.is_empty() {
                self.rooms.remove(&job);
            }
        }
    }
}

impl Feed {
    /// Forgets what of a job's past is still to be told: at most one replay of a job waits.
    fn call_off(&mut self, job: JobId) {
        if let Feed::Behind(behind) = self {
            behind.replays.retain(|replay| replay.job != job);
        }
    }
}

impl Replay {
    fn wants(&self, event: &Recorded) -> bool {
        event.job == self.job
            && event.position > self.after
            && event.position <= self.up_to
            && (self.with_broadcasts || event.class() != Class::Broadcast)
    }
}

impl Client {
    /// Whether the live stream would have told it.
    fn wants(&self, event: &Recorded) -> bool {
        event.class() == Class::Broadcast
            || self.memberships.get(&event.job).is_some_and(|membership| event.position > membership.since)
    }
}

impl Membership {
    fn open(&mut self, door: Door) {
        match door {
            Door::Job => self.job_door = true,
            Door::Automation => self.automation_door = true,
        }
    }

    /// Returns whether no door is open any more.
    fn close(&mut self, door: Door) -> bool {
        match door {
            Door::Job => self.job_door = false,
            Door::Automation => self.automation_door = false,
        }
        !self.job_door && !self.automation_door
    }
}
