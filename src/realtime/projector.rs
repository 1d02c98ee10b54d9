//! Projections: what a dialect makes of the journal for one topic, worked out once however many clients follow it.
//!
//! A topic (a job, an owner's jobs) is opened by the first who follows it: its rows are read, and from then on it is kept
//! by its feed. Frames are made once a change and handed to all; who joins is greeted from the kept state, at an exact
//! point between two changes. So hundreds of clients that come and go a second cost the database nothing. A topic that
//! nobody has followed for a while is forgotten.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    feed::{Feed, Interest, News},
    hub::Hub,
};
use crate::store::{Store, StoreError};

/// How often topics are looked at that nobody may follow any more; one that nobody followed twice is forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// What a dialect makes of one topic. All but [`Projection::open`] and [`Projection::gather`] is pure.
pub trait Projection: Send + Sync + 'static {
    /// What clients follow. Whose it is belongs to it, where that matters.
    type Topic: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;
    /// What is known of a topic.
    type State: Send + 'static;

    /// How often clients are told something even if nothing has happened ([`Projection::beat`]).
    const BEAT: Option<Duration> = None;

    /// What the topic's feed is about while it is opened, and afterwards unless [`Projection::turn`] says otherwise.
    fn interest(&self, topic: &Self::Topic) -> Interest;

    /// Where the feed turns, if what it is about has changed with the state. Asked behind opening and behind all news.
    fn turn(&self, _state: &mut Self::State) -> Turn {
        None
    }

    /// Reads where a topic stands. Its feed began before, so events that the rows hold already come again: the state
    /// must know up to which seq it is.
    fn open(
        &self,
        store: &Store,
        topic: &Self::Topic,
    ) -> impl Future<Output = Result<Opened<Self::State>, StoreError>> + Send;

    /// What a client is told first.
    fn greet(&self, state: &Self::State, told: &mut Told);

    /// Reads what the news does not carry, into the state.
    fn gather(
        &self,
        _store: &Store,
        _state: &mut Self::State,
        _news: &News,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Takes news into the state, and says what all who follow the topic are told.
    fn tell(&self, state: &mut Self::State, news: &News, told: &mut Told);

    /// What all who follow the topic are told every so often.
    fn beat(&self, _state: &Self::State, _told: &mut Told) {}
}

/// What a feed is about from now on, and the position behind which it goes on if that is one that it has passed.
pub type Turn = Option<(Interest, Option<i64>)>;

/// What came of opening a topic.
pub enum Opened<S> {
    Topic(S),
    /// There is none, or not for this client: it is told so in the dialect's words.
    Refused(Told),
}

/// What clients are told at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub frames: Vec<Frame>,
    /// Behind the frames the connection is closed.
    pub close: Option<Close>,
}

/// One message to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub text: Utf8Bytes,
    /// What it shows the whole of, by the dialect's own number: it takes the place of an earlier one that was not sent
    /// yet.
    pub snapshot_of: Option<i64>,
}

/// Why a connection is closed; each frontend reads from the code whether to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: &'static str,
}

impl Close {
    /// All was said.
    pub const NORMAL: Close = Close { code: 1000, reason: "" };
    /// What the client does is not allowed.
    pub const POLICY: Close = Close { code: 1008, reason: "this is not allowed here" };
    pub const TOO_BIG: Close = Close { code: 1009, reason: "the message is too large" };
    /// The server stops; come back.
    pub const RESTART: Close = Close { code: 1012, reason: "the server restarts; come back" };
    /// The client did not keep up, or the server could not; come back.
    pub const TRY_AGAIN: Close = Close { code: 1013, reason: "try again" };
}

impl Told {
    /// Adds a message that everybody gets who follows.
    pub fn say(&mut self, text: impl Into<Utf8Bytes>) {
        self.frames.push(Frame { text: text.into(), snapshot_of: None });
    }

    /// Adds a message that shows something as it is now: of those of one thing only the newest counts.
    pub fn show(&mut self, thing: i64, text: impl Into<Utf8Bytes>) {
        self.frames.push(Frame { text: text.into(), snapshot_of: Some(thing) });
    }

    /// Adds that the connection is closed behind all this.
    pub fn close(&mut self, close: Close) {
        self.close = Some(close);
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.close.is_none()
    }
}

/// A client's end. The call must return at once.
pub trait Listener: Send + Sync + 'static {
    fn hear(&self, told: &Told);
}

/// The topics of one dialect. Cheap to clone.
pub struct Projector<P: Projection>(Arc<Inner<P>>);

struct Inner<P: Projection> {
    projection: P,
    hub: Arc<Hub>,
    /// Ends all topics.
    stop: CancellationToken,
    topics: Mutex<HashMap<P::Topic, Arc<Topic<P>>>>,
    last_seat: AtomicU64,
}

struct Topic<P: Projection> {
    /// Held while news are taken in, so that who joins does so between two changes.
    core: tokio::sync::Mutex<Core<P>>,
    listeners: Listeners,
}

type Listeners = Arc<Mutex<HashMap<u64, Arc<dyn Listener>>>>;

enum Core<P: Projection> {
    New,
    Open {
        state: P::State,
        /// What who joins is told, until something happens.
        greeting: Option<Told>,
    },
    Refused(Told),
    /// It was forgotten: another one is opened.
    Gone,
}

/// A listener's place among those who follow a topic; it leaves when this is dropped.
pub struct Seat {
    id: u64,
    listeners: Listeners,
}

impl Seat {
    /// Told from all other seats of the projector by this.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.listeners).remove(&self.id);
    }
}

impl<P: Projection> Clone for Projector<P> {
    fn clone(&self) -> Self {
        Projector(self.0.clone())
    }
}

impl<P: Projection> Projector<P> {
    /// All topics end with `stop`.
    pub fn new(projection: P, hub: Arc<Hub>, stop: CancellationToken) -> Projector<P> {
        let (topics, last_seat) = (Mutex::default(), AtomicU64::new(0));
        Projector(Arc::new(Inner { projection, hub, stop, topics, last_seat }))
    }

    pub fn projection(&self) -> &P {
        &self.0.projection
    }

    /// Lets a listener hear of a topic from now on, beginning with its greeting.
    ///
    /// # Errors
    /// When the topic's rows cannot be read.
    pub async fn join(&self, topic: &P::Topic, listener: Arc<dyn Listener>) -> Result<Seat, StoreError> {
        let id = self.0.last_seat.fetch_add(1, Ordering::Relaxed);
        let listeners = self
            .at(topic, |place, greeting| {
                listener.hear(greeting);
                // One that is closed by its greeting has no use for more.
                if greeting.close.is_none() {
                    lock(&place.listeners).insert(id, listener.clone());
                }
                place.listeners.clone()
            })
            .await?;
        Ok(Seat { id, listeners })
    }

    /// Tells all who follow a topic what who joins it now is told, but for one of them. Does not open it.
    pub async fn show_all(&self, topic: &P::Topic, but: Option<u64>) {
        let Some(place) = lock(&self.0.topics).get(topic).cloned() else { return };
        let mut core = place.core.lock().await;
        let Core::Open { state, greeting } = &mut *core else { return };
        let told = self.0.greeting(state, greeting);
        let listeners = lock(&place.listeners);
        let others = listeners.iter().filter(|(id, _)| Some(**id) != but);
        others.for_each(|(_, listener)| listener.hear(told));
    }

    /// What who joins a topic now is told.
    ///
    /// # Errors
    /// When the topic's rows cannot be read.
    pub async fn greeting(&self, topic: &P::Topic) -> Result<Told, StoreError> {
        self.at(topic, |_, greeting| greeting.clone()).await
    }

    /// Does something between two changes of a topic.
    async fn at<R>(
        &self,
        topic: &P::Topic,
        work: impl FnOnce(&Topic<P>, &Told) -> R,
    ) -> Result<R, StoreError> {
        let projection = &self.0.projection;
        loop {
            let place = lock(&self.0.topics).entry(topic.clone()).or_insert_with(Topic::new).clone();
            let mut core = place.core.lock().await;
            if let Core::New = *core {
                let mut feed = Feed::open(&self.0.hub, projection.interest(topic));
                match projection.open(self.0.hub.store(), topic).await {
                    Ok(Opened::Topic(mut state)) => {
                        if let Some((interest, behind)) = projection.turn(&mut state) {
                            feed.turn(interest, behind);
                        }
                        *core = Core::Open { state, greeting: None };
                        tokio::spawn(self.0.clone().follow(topic.clone(), place.clone(), feed));
                    }
                    // Said to those who wait for it; who comes later asks again.
                    Ok(Opened::Refused(told)) => {
                        self.0.forget(topic, &place);
                        *core = Core::Refused(told);
                    }
                    Err(error) => {
                        self.0.forget(topic, &place);
                        *core = Core::Gone;
                        return Err(error);
                    }
                }
            }
            match &mut *core {
                Core::Open { state, greeting } => return Ok(work(&place, self.0.greeting(state, greeting))),
                Core::Refused(told) => return Ok(work(&place, told)),
                Core::Gone | Core::New => {}
            }
        }
    }
}

impl<P: Projection> Topic<P> {
    fn new() -> Arc<Topic<P>> {
        Arc::new(Topic { core: tokio::sync::Mutex::new(Core::New), listeners: Listeners::default() })
    }
}

impl<P: Projection> Inner<P> {
    /// Made once after each change, for all who join before the next.
    fn greeting<'a>(&self, state: &P::State, greeting: &'a mut Option<Told>) -> &'a Told {
        greeting.get_or_insert_with(|| {
            let mut told = Told::default();
            self.projection.greet(state, &mut told);
            told
        })
    }

    /// Keeps a topic until nobody follows it any more.
    async fn follow(self: Arc<Self>, topic: P::Topic, place: Arc<Topic<P>>, mut feed: Feed) {
        let mut beat = P::BEAT.map(steady);
        let mut sweep = steady(SWEEP);
        let mut was_empty = false;
        loop {
            let news = tokio::select! {
                () = self.stop.cancelled() => return,
                news = feed.next() => Some(news),
                () = tick(&mut beat) => None,
                _ = sweep.tick() => {
                    let is_empty = lock(&place.listeners).is_empty();
                    if is_empty && was_empty && self.retire(&topic, &place).await {
                        return;
                    }
                    was_empty = is_empty;
                    continue;
                }
            };
            match self.tell(&place, news).await {
                Ok(Some((interest, behind))) => feed.turn(interest, behind),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, ?topic, "a topic could not be kept; its clients are sent away to come back");
                    self.forget(&topic, &place);
                    *place.core.lock().await = Core::Gone;
                    let told = Told { frames: Vec::new(), close: Some(Close::TRY_AGAIN) };
                    lock(&place.listeners).values().for_each(|listener| listener.hear(&told));
                    return;
                }
            }
        }
    }

    /// Takes news in, and returns where the feed turns.
    async fn tell(&self, place: &Topic<P>, news: Option<News>) -> Result<Turn, StoreError> {
        let mut core = place.core.lock().await;
        let Core::Open { state, greeting } = &mut *core else { return Ok(None) };
        let mut told = Told::default();
        let mut turn = None;
        match news {
            Some(news) => {
                *greeting = None;
                self.projection.gather(self.hub.store(), state, &news).await?;
                self.projection.tell(state, &news, &mut told);
                turn = self.projection.turn(state);
            }
            None if lock(&place.listeners).is_empty() => {}
            None => self.projection.beat(state, &mut told),
        }
        if !told.is_empty() {
            lock(&place.listeners).values().for_each(|listener| listener.hear(&told));
        }
        Ok(turn)
    }

    /// Forgets a topic unless somebody has joined it since; returns whether it is forgotten.
    async fn retire(&self, topic: &P::Topic, place: &Arc<Topic<P>>) -> bool {
        let mut core = place.core.lock().await;
        if !lock(&place.listeners).is_empty() {
            return false;
        }
        self.forget(topic, place);
        *core = Core::Gone;
        true
    }

    fn forget(&self, topic: &P::Topic, place: &Arc<Topic<P>>) {
        let mut topics = lock(&self.topics);
        if topics.get(topic).is_some_and(|found| Arc::ptr_eq(found, place)) {
            topics.remove(topic);
        }
    }
}

fn steady(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.reset();
    interval
}

async fn tick(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
