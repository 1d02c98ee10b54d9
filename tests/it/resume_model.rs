//! Coming back to a session, at random: whatever was cut when, on two nodes, a client is told each event once and in
//! order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use jobcast::{
    config::Realtime,
    event::{Event, JobUpdated},
    job::JobId,
    realtime::{
        hub::{ClientId, Door, Events, Hub, Offset, Outlet, Past, Progress, Sent},
        session::{Claim, Holder, Session, Sessions},
    },
    store::Store,
};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{config, database, planned_job, wait_for};

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    job: JobId,
    seq: i32,
    offset: Offset,
}

/// A connection that takes as many events as it has room for. What it took may still be on its way to the client.
#[derive(Default)]
struct Pipe(Mutex<(Vec<Told>, usize)>);

impl Pipe {
    fn taken(&self) -> Vec<Told> {
        self.0.lock().unwrap().0.clone()
    }

    fn make_room(&self, for_events: usize) {
        self.0.lock().unwrap().1 += for_events;
    }
}

impl Outlet for Pipe {
    fn send(&self, events: &Events) -> Sent {
        let (taken, room) = &mut *self.0.lock().unwrap();
        let all = &events.item.events;
        let now = all.len().min(*room);
        *room -= now;
        taken.extend(all[..now].iter().map(|event| {
            let offset = events.item.offset(event);
            Told { job: event.job, seq: event.seq, offset }
        }));
        if now < all.len() { Sent::Some(now) } else { Sent::All }
    }

    fn send_progress(&self, _: &Progress) -> Sent {
        Sent::All
    }
}

struct Nobody;

impl Holder for Nobody {
    fn let_go(&self) {}
}

/// A server, less its sockets.
struct Node {
    store: Store,
    hub: Arc<Hub>,
    sessions: Arc<Sessions>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// Two nodes on one database; the second hears of the first one's events late.
async fn nodes(recent_events: usize) -> [Node; 2] {
    let (settings, options) = (config(), database().await);
    let node = async |poll_interval| {
        let (store, announcements) = Store::open(options.clone(), &settings.database).await.unwrap();
        let realtime = Realtime { recent_events, poll_interval, ..settings.realtime.clone() };
        let (hub, stream) = Hub::start(store.clone(), announcements, &realtime).await.unwrap();
        let (sessions, keeper) = Sessions::start(store.clone(), hub.clone(), realtime.recover_for);
        Node { store, hub, sessions, _tasks: [stream, keeper] }
    };
    let first = node(Duration::from_millis(5)).await;
    first.store.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    [first, node(Duration::from_millis(40)).await]
}

/// Random numbers that a seed gives again (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// What the client may rely on for a job whose room it is in.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// Every event behind this position.
    behind: i64,
    /// It was in the room when it came back, and has not asked for it since: asking again changes nothing.
    restored: bool,
}

struct Client<'a> {
    nodes: &'a [Node; 2],
    dice: Dice,
    jobs: Vec<JobId>,
    /// The node that it is connected to.
    at: usize,
    id: ClientId,
    pipe: Arc<Pipe>,
    session: Session,
    /// Where its session, and where this connection began.
    began: i64,
    connected: i64,
    /// What reached it over all connections before this one.
    received: Vec<Told>,
    /// So much of what the pipe took did reach it: it spoke of it.
    known: usize,
    rooms: HashMap<JobId, Owed>,
    /// Jobs that it left on this connection, with what it was owed.
    left: HashMap<JobId, i64>,
    ever_left: HashSet<JobId>,
    /// How often it may be told events of a job again.
    again: HashMap<JobId, usize>,
    log: Vec<String>,
}

impl<'a> Client<'a> {
    async fn connect(nodes: &'a [Node; 2], seed: u64) -> Client<'a> {
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(planned_job(&nodes[0].store).await);
        }
        let mut dice = Dice(seed);
        let at = dice.roll(2);
        let node = &nodes[at];
        let (session, standing) = node.sessions.begin(None, None, Weak::<Nobody>::new()).await.unwrap();
        let pipe = Arc::new(Pipe::default());
        let began = standing.live;
        let id = node.hub.register(pipe.clone(), standing);
        Client {
            nodes,
            dice,
            jobs,
            at,
            id,
            pipe,
            session,
            began,
            connected: began,
            received: Vec::new(),
            known: 0,
            rooms: HashMap::new(),
            left: HashMap::new(),
            ever_left: HashSet::new(),
            again: HashMap::new(),
            log: vec![format!("at {at} from {began}")],
        }
    }

    fn hub(&self) -> &'a Arc<Hub> {
        &self.nodes[self.at].hub
    }

    fn name(&self, job: JobId) -> String {
        self.jobs.iter().position(|of| *of == job).map_or("new".into(), |n| ["A", "B", "C"][n].into())
    }

    fn show(&self, told: &[Told]) -> String {
        let each = told.iter().map(|told| format!("{}{}@{}", self.name(told.job), told.seq, told.offset));
        each.collect::<Vec<_>>().join(" ")
    }

    /// A job, and which one it is.
    fn any_job(&mut self) -> JobId {
        self.jobs[self.dice.roll(3)]
    }

    async fn step(&mut self, asks_for_the_past: bool, leaves: bool) {
        match self.dice.roll(20) {
            0..=5 => {
                let (by, job, count) = (self.dice.roll(2), self.any_job(), 1 + self.dice.roll(4));
                let appended = self.nodes[by].store.append(job, vec![update(); count]).await.unwrap();
                let (name, last) = (self.name(job), appended.last().unwrap());
                self.log.push(format!("{by} appends {name} up to {}@{}", last.seq, last.position));
            }
            6 => {
                let by = self.dice.roll(2);
                planned_job(&self.nodes[by].store).await;
            }
            7..=10 => {
                let count = [1, 2, 5, 40][self.dice.roll(4)];
                self.pipe.make_room(count);
                self.log.push(format!("room for {count}"));
            }
            11 | 12 => {
                let head = self.nodes[0].store.position().await.unwrap();
                self.hub().reach(head).await;
                self.log.push(format!("{} delivered up to {head}", self.at));
            }
            13 | 14 => {
                let job = self.any_job();
                self.subscribe(job, Past::Default).await;
            }
            15 if asks_for_the_past => {
                let job = self.any_job();
                let taken = self.pipe.taken();
                self.known = self.known.max(self.dice.roll(taken.len() + 1));
                let reached = self.received.iter().chain(&taken[..self.known]);
                let newest = reached.filter(|told| told.job == job).map(|told| told.seq).max().unwrap_or(0);
                let after = self.dice.roll(newest as usize + 1) as i32;
                self.subscribe(job, Past::After(after)).await;
            }
            16 if leaves => {
                let job = self.any_job();
                if let Some(owed) = self.rooms.remove(&job) {
                    self.left.insert(job, owed.behind);
                    self.ever_left.insert(job);
                    self.log.push(format!("leaves {}", self.name(job)));
                    let change = self.hub().unsubscribe(self.id, job, Door::Job).unwrap();
                    self.session.note(job, change).await.unwrap();
                }
            }
            17 | 18 => self.cut().await,
            _ => tokio::task::yield_now().await,
        }
    }

    async fn subscribe(&mut self, job: JobId, past: Past) {
        let before = self.rooms.get(&job).copied();
        let ignored = before.is_some_and(|room| room.restored || past == Past::Default);
        let behind = match past {
            _ if ignored => before.unwrap().behind,
            Past::Default => self.left.get(&job).copied().unwrap_or(self.connected),
            Past::After(0) => 0,
            Past::After(seq) => {
                let event = self.nodes[0].store.events(job, seq - 1, 1).await.unwrap();
                event[0].position.min(before.map_or(i64::MAX, |room| room.behind))
            }
        };
        if past != Past::Default && !ignored {
            *self.again.entry(job).or_default() += 1;
        }
        self.log.push(format!("subscribes to {} {past:?}, owed behind {behind}", self.name(job)));
        let note = async |room| self.session.note(job, Some(room)).await;
        self.hub().subscribe(self.id, job, Door::Job, past, note).await.unwrap();
        self.rooms.insert(job, Owed { behind, restored: false });
    }

    /// Loses the connection, with some of what is on its way, and comes back, perhaps elsewhere.
    async fn cut(&mut self) {
        self.hub().unregister(self.id);
        let taken = self.pipe.taken();
        let reached = self.known + self.dice.roll(taken.len() - self.known + 1);
        self.received.extend(&taken[..reached]);
        let last = self.received.last();
        if let Some(last) =
            last.filter(|last| last.offset.past.is_some() && !self.rooms.contains_key(&last.job))
        {
            // It left amid a job's past, and heard nothing since: the next connection does not know of that.
            *self.again.entry(last.job).or_default() += 1;
        }
        let offset = last.map(|last| last.offset.to_string());
        self.at = self.dice.roll(2);
        let node = &self.nodes[self.at];
        self.log.push(format!(
            "took {} | lost {} | comes back to {} with {offset:?}",
            self.show(&taken[..reached]),
            self.show(&taken[reached..]),
            self.at,
        ));
        let claim = Claim { pid: self.session.pid.clone(), offset };
        let begun = node.sessions.begin(Some(claim.clone()), None, Weak::<Nobody>::new()).await.unwrap();
        let standing;
        (self.session, standing) = begun;
        assert_eq!(self.session.pid, claim.pid, "it comes back to its session");
        self.log.push(format!("live {} due {:?}", standing.live, {
            standing.due.iter().map(|due| (self.name(due.job), due.number, due.after)).collect::<Vec<_>>()
        }));
        self.connected = standing.live;
        self.known = 0;
        self.left.clear();
        self.rooms.values_mut().for_each(|room| room.restored = true);
        self.pipe = Arc::default();
        self.pipe.make_room(self.dice.roll(8));
        self.id = node.hub.register(self.pipe.clone(), standing);
    }

    /// Takes all that is still to be told.
    async fn drain(&mut self) {
        self.pipe.make_room(1_000_000);
        // Everybody is told of a new job, behind all that is due.
        let last = planned_job(&self.nodes[0].store).await;
        wait_for("the last event", async || {
            self.pipe.taken().last().is_some_and(|told| told.job == last).then_some(())
        })
        .await;
        let taken = self.pipe.taken();
        self.log.push(format!("took {}", self.show(&taken)));
        self.received.extend(taken);
        self.hub().unregister(self.id);
    }

    /// That it was told what it was owed.
    async fn check(&self) -> Result<(), String> {
        let mut told: BTreeMap<JobId, Vec<i32>> = BTreeMap::new();
        for event in &self.received {
            told.entry(event.job).or_default().push(event.seq);
        }
        for (job, seqs) in &mut told {
            if self.ever_left.contains(job) {
                // The replay told it of the new job; that is forgotten with the room, and everybody is told.
                let mut told = false;
                seqs.retain(|seq| *seq > 1 || !std::mem::replace(&mut told, true));
            }
            let steps_back = seqs.windows(2).filter(|pair| pair[1] <= pair[0]).count();
            let may = *self.again.get(job).unwrap_or(&0);
            if steps_back > may {
                return Err(format!(
                    "{} was told again {steps_back}x, not {may}x: {seqs:?}",
                    self.name(*job)
                ));
            }
        }
        let all = self.nodes[0].store.tail(0, i64::MAX).await.unwrap();
        let received: HashSet<i64> = self.received.iter().map(|told| told.offset.position).collect();
        let missed: BTreeSet<String> = all
            .iter()
            .filter(|event| match self.rooms.get(&event.job) {
                Some(owed) if event.seq > 1 => event.position > owed.behind,
                // A new job is told to everybody.
                _ => event.seq == 1 && event.position > self.began,
            })
            .filter(|event| !received.contains(&event.position))
            .map(|event| format!("{}{}@{}", self.name(event.job), event.seq, event.position))
            .collect();
        if missed.is_empty() { Ok(()) } else { Err(format!("was not told {missed:?}")) }
    }
}

fn update() -> Event {
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: None }.into()
}

/// Some clients' lives, one after the other. Every second one asks for pasts; of those and the others half leave jobs.
async fn live(recent_events: usize, seeds: std::ops::Range<u64>) {
    let nodes = nodes(recent_events).await;
    let mut failed = Vec::new();
    for seed in seeds {
        let mut client = Client::connect(&nodes, seed).await;
        for _ in 0..60 {
            client.step(seed % 2 == 1, seed % 4 > 1).await;
        }
        client.drain().await;
        if let Err(wrong) = client.check().await {
            failed.push(format!("seed {seed}: {wrong}\n  {}", client.log.join("\n  ")));
        }
    }
    assert!(failed.is_empty(), "{} failed; the first: {}", failed.len(), failed[0]);
}

#[tokio::test]
async fn whatever_is_cut_when_nothing_is_lost_or_told_twice_by_memory() {
    live(1000, 0..40).await;
}

#[tokio::test]
async fn whatever_is_cut_when_nothing_is_lost_or_told_twice_by_the_journal() {
    live(1, 1000..1040).await;
}

#[tokio::test]
async fn whatever_is_cut_when_nothing_is_lost_or_told_twice_by_both() {
    live(8, 2000..2040).await;
}
