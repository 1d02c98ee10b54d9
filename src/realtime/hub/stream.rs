//! The stream's state, changed under one lock: who was told what, and what is due next. No I/O.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    ClientId, Door, Outlet, Past, Sent, Standing,
    batch::{Events, MAX_BYTES, MAX_EVENTS, Progress, Shared, Told, fits},
    client::{Behind, Client, Feed, Membership, Replay},
    feeds::Feeds,
};
use crate::{
    event::Class,
    job::{Code, JobId, Principal, Rejection},
    store::{Recorded, Room, Transient},
};

/// How often in a row a client may leave and join the same job, with nothing of it lost if all of it was on its way.
const MAX_STAYS: usize = 8;

pub(super) struct Stream {
    /// Everything up to here was delivered.
    pub delivered: i64,
    /// The newest events, without a gap, ending with `delivered`.
    pub recent: VecDeque<Arc<Recorded>>,
    pub max_recent: usize,
    /// Committed events that wait for one before them.
    pub early: BTreeMap<i64, Arc<Recorded>>,
    pub clients: HashMap<ClientId, Client>,
    pub rooms: HashMap<JobId, Vec<ClientId>>,
    pub last_client: u64,
    pub max_subscriptions: usize,
    /// Who was given something under the lock that is held, to be flushed when it is not any more.
    pub touched: Vec<Arc<dyn Outlet>>,
    /// Who reads along at its own pace.
    pub feeds: Feeds,
}

/// What a client asks for when it joins a job.
pub(super) struct Wish {
    pub job: JobId,
    pub door: Door,
    pub past: Past,
    /// What its past begins behind, if it was said; none for where the client connected or left off.
    pub from: Option<i64>,
    /// The position of the job's terminal event, which everybody is told who asks.
    pub last_word: Option<i64>,
}

/// What came of it.
pub(super) enum Joined {
    /// The client is not there any more, or was in already.
    Nothing,
    /// The room is new or different; the client is told nothing before it is released.
    Room { room: Room, new: bool },
}

/// What the feeding task of a client has to do next.
pub(super) enum Step {
    /// The client is live or gone, or somebody will release it.
    End,
    /// Its buffer is full, or what it knows is not here yet.
    Wait {
        /// Whether it took something before.
        moved: bool,
    },
    Replay(Replay),
    CatchUp {
        jobs: Vec<Uuid>,
        viewer: Principal,
        cursor: i64,
        up_to: i64,
    },
}

pub(super) enum Passed {
    All,
    /// Its buffer is full.
    Some {
        /// Whether it took something before.
        moved: bool,
    },
    Gone,
}

impl Stream {
    pub fn enter(&mut self, outlet: Arc<dyn Outlet>, standing: Standing) -> ClientId {
        self.last_client += 1;
        let id = ClientId(self.last_client);
        let client = Client::new(outlet, standing);
        for job in client.memberships.keys() {
            self.rooms.entry(*job).or_default().push(id);
        }
        self.clients.insert(id, client);
        id
    }

    /// Who a client is.
    pub fn viewer(&self, id: ClientId) -> Option<Principal> {
        self.clients.get(&id).map(|client| client.viewer.clone())
    }

    /// The rooms that a client is in, in an order that does not change.
    pub fn rooms_of(&self, id: ClientId) -> Vec<(JobId, Door)> {
        let Some(client) = self.clients.get(&id) else { return Vec::new() };
        let mut rooms: Vec<_> = client
            .memberships
            .iter()
            .flat_map(|(job, member)| {
                let doors =
                    [(Door::Job, member.room.job_door), (Door::Automation, member.room.automation_door)];
                doors.into_iter().filter(|(_, open)| *open).map(|(door, _)| (*job, door))
            })
            .collect();
        rooms.sort_unstable();
        rooms
    }

    pub fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            for job in client.memberships.keys() {
                self.leave_room(*job, id);
            }
        }
    }

    /// Puts a client into a job's room, and holds it until [`Stream::release`].
    pub fn join(&mut self, id: ClientId, wish: Wish) -> Result<Joined, Rejection> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(Joined::Nothing) };
        let from = wish.from.unwrap_or_else(|| client.left_off(wish.job));
        let from = wish.last_word.map_or(from, |last_word| from.min(last_word - 1));
        let live = client.live(self.delivered);
        let mut room = Room {
            job_door: false,
            automation_door: false,
            number: client.last_number + 1,
            after: from,
            // The client may know more than was heard of here so far.
            since: self.delivered.max(from).max(live),
            broadcasts: wish.past != Past::Default,
            live,
            before: match wish.from {
                None => client.left.get(&wish.job).filter(|(room, _)| room.stays().count() < MAX_STAYS),
                Some(_) => None,
            }
            .map(|(room, _)| Box::new(room.clone())),
        };
        let full = client.memberships.len() >= self.max_subscriptions;
        let new = match client.memberships.get_mut(&wish.job) {
            Some(member) => {
                let restored = std::mem::take(&mut member.restored);
                if wish.past == Past::Default || restored {
                    // A page asks again when it is back; what it missed is under way to it.
                    if !member.room.open(wish.door) {
                        return Ok(Joined::Nothing);
                    }
                    room = member.room.clone();
                    client.fall_behind(self.delivered).holds += 1;
                    return Ok(Joined::Room { room, new: false });
                }
                // It named what it knows; the replay tells all behind that, in place of what was still to be told.
                (room.job_door, room.automation_door) = (member.room.job_door, member.room.automation_door);
                client.feed.call_off(wish.job);
                false
            }
            None if full => {
                let message = format!(
                    "One connection may follow {} jobs; unsubscribe from some.",
                    self.max_subscriptions
                );
                return Err(Rejection::new(Code::TooMany, message));
            }
            None => {
                self.rooms.entry(wish.job).or_default().push(id);
                true
            }
        };
        room.open(wish.door);
        client.last_number = room.number;
        client.left.remove(&wish.job);
        client.memberships.insert(wish.job, Membership { room: room.clone(), restored: false });
        let behind = client.fall_behind(self.delivered);
        behind.holds += 1;
        if room.after < room.since {
            behind.replays.push_back(Replay::of(wish.job, &room, room.after, i64::MAX));
        }
        Ok(Joined::Room { room, new })
    }

    /// Lets a client go on that was held.
    pub fn release(&mut self, id: ClientId) {
        if let Some(behind) = self.behind(id) {
            behind.holds = behind.holds.saturating_sub(1);
        }
    }

    /// Whether a client needs a task that feeds it; the caller is that task from now on, until it is told to end.
    pub fn begin_feeding(&mut self, id: ClientId) -> bool {
        self.behind(id).is_some_and(|behind| behind.holds == 0 && !std::mem::replace(&mut behind.fed, true))
    }

    fn behind(&mut self, id: ClientId) -> Option<&mut Behind> {
        match self.clients.get_mut(&id) {
            Some(Client { feed: Feed::Behind(behind), .. }) => Some(behind),
            _ => None,
        }
    }

    /// Goes out of a door. Returns the room as it is then (none if it was left), if anything changed.
    pub fn leave(&mut self, id: ClientId, job: JobId, door: Door) -> Option<Option<Room>> {
        let client = self.clients.get_mut(&id)?;
        let change = client.leave(job, door, self.delivered, self.max_subscriptions)?;
        if change.is_none() {
            self.leave_room(job, id);
        }
        Some(change)
    }

    /// Takes what was committed here; returns clients that fell behind by it.
    pub fn take_committed(&mut self, events: Vec<Arc<Recorded>>) -> Vec<ClientId> {
        let mut ready = Vec::with_capacity(events.len());
        let mut next = self.delivered + 1;
        for event in events {
            if event.position == next {
                ready.push(event);
                next += 1;
            } else if event.position > next {
                self.early.insert(event.position, event);
            }
            while let Some(event) = self.early.remove(&next) {
                ready.push(event);
                next += 1;
            }
        }
        self.deliver(ready)
    }

    /// Takes what was read from the journal, where a position that is missing belongs to a job that was removed.
    pub fn take_read(&mut self, events: Vec<Arc<Recorded>>) -> Vec<ClientId> {
        let delivered = self.delivered;
        let mut lagging =
            self.deliver(events.into_iter().filter(|event| event.position > delivered).collect());
        self.early = self.early.split_off(&(self.delivered + 1));
        lagging.extend(self.take_committed(Vec::new()));
        lagging
    }

    /// Tells the newest progress; returns clients that fell behind by it.
    pub fn take_progress(&mut self, progress: Arc<Transient>) -> Vec<ClientId> {
        self.feeds.take_progress(&progress);
        let progress: Progress = Shared::new(progress);
        let mut lagging = Vec::new();
        let mut tell = |id: ClientId, client: &mut Client| {
            if client.send_progress(&progress, self.delivered) {
                lagging.push(id);
            }
            self.touched.push(client.outlet.clone());
        };
        match progress.item.job {
            None => {
                let owner = progress.item.owner.as_deref();
                for (id, client) in &mut self.clients {
                    if owner.is_none_or(|owner| client.viewer.sees(owner)) {
                        tell(*id, client);
                    }
                }
            }
            Some(job) => {
                for id in self.rooms.get(&job).into_iter().flatten() {
                    if let Some(client) = self.clients.get_mut(id) {
                        tell(*id, client);
                    }
                }
            }
        }
        lagging
    }

    /// Tells events whose positions follow each other; who gets the same gets them as one batch.
    fn deliver(&mut self, events: Vec<Arc<Recorded>>) -> Vec<ClientId> {
        let mut lagging = Vec::new();
        for run in events.chunk_by(|a, b| audience(a) == audience(b)) {
            let mut rest = run;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fits(rest));
                rest = later;
                let batch = Told::live(now.to_vec());
                let mut tell = |id: ClientId, client: &mut Client| {
                    if !matches!(client.feed, Feed::Live) {
                        return;
                    }
                    if let Sent::Some(taken) = client.send(&batch) {
                        client.fall_behind(now[taken].position - 1);
                        lagging.push(id);
                    }
                    self.touched.push(client.outlet.clone());
                };
                match audience(&now[0]) {
                    Audience::All(_) => {
                        for (id, client) in &mut self.clients {
                            if client.hears(&now[0]) {
                                tell(*id, client);
                            }
                        }
                    }
                    Audience::Room(job) => {
                        for id in self.rooms.get(&job).into_iter().flatten() {
                            if let Some(client) = self.clients.get_mut(id) {
                                tell(*id, client);
                            }
                        }
                    }
                }
            }
        }
        if let Some(last) = events.last() {
            self.delivered = last.position;
        }
        self.feeds.wake(&events);
        self.recent.extend(events);
        let surplus = self.recent.len().saturating_sub(self.max_recent);
        self.recent.drain(..surplus);
        lagging
    }

    /// What the feeding task of a client has to do next. What is in memory is told here, and a client that has
    /// everything is made live.
    pub fn next_step(&mut self, id: ClientId) -> Step {
        let mut moved = false;
        loop {
            let Some(client) = self.clients.get_mut(&id) else { return Step::End };
            let Feed::Behind(behind) = &mut client.feed else { return Step::End };
            if behind.holds > 0 {
                behind.fed = false;
                return Step::End;
            }
            let next = behind.replays.front().copied();
            let replay = next.filter(|next| next.live <= behind.cursor);
            let (after, up_to) = match (replay, next) {
                (Some(replay), _) => (replay.after, replay.up_to),
                (None, Some(next)) => (behind.cursor, next.live),
                (None, None) => (behind.cursor, self.delivered),
            };
            // It comes from another process and knows more than was heard of here so far.
            if next.is_none() && behind.cursor.max(client.last_since()) > self.delivered {
                return Step::Wait { moved };
            }
            let in_memory = up_to <= self.delivered
                && (after >= self.delivered
                    || self.recent.front().is_some_and(|first| first.position <= after + 1));
            if !in_memory {
                return match replay {
                    Some(replay) => Step::Replay(replay),
                    None => {
                        let jobs = client.memberships.keys().map(|job| job.0).collect();
                        Step::CatchUp { jobs, viewer: client.viewer.clone(), cursor: after, up_to }
                    }
                };
            }
            let from = self.recent.partition_point(|event| event.position <= after);
            let mut due = self.recent.range(from..).peekable();
            self.touched.push(client.outlet.clone());
            loop {
                let (mut wanted, mut bytes) = (Vec::new(), 0);
                while bytes < MAX_BYTES
                    && wanted.len() < MAX_EVENTS
                    && let Some(event) = due.next_if(|event| event.position <= up_to)
                {
                    if replay.map_or_else(|| client.wants(event), |replay| replay.wants(event)) {
                        bytes += event.payload.get().len();
                        wanted.push(event.clone());
                    }
                }
                if wanted.is_empty() {
                    break;
                }
                let past = replay.map(|replay| replay.within());
                let batch = Events::new(Told { events: wanted, past });
                match client.send(&batch) {
                    Sent::All => moved = true,
                    Sent::Some(taken) => {
                        client.reached(replay, batch.item.events[taken].position - 1, None);
                        return Step::Wait { moved: moved || taken > 0 };
                    }
                    Sent::Gone => return client.end(),
                }
            }
            if replay.is_some() {
                client.replay_done();
                continue;
            }
            client.reached(None, up_to, None);
            if next.is_some() {
                continue;
            }
            while let Some(progress) = client.waiting.first() {
                if client.outlet.send_progress(&Shared::new(progress.clone())) == Sent::Some(0) {
                    return Step::Wait { moved };
                }
                client.waiting.remove(0);
            }
            client.feed = Feed::Live;
            return Step::End;
        }
    }

    /// Hands a page of the journal to a client that is behind; what it cannot take stays in `page`.
    pub fn pass_on(
        &mut self,
        id: ClientId,
        step: &Step,
        page: &mut VecDeque<Arc<Recorded>>,
        complete: bool,
    ) -> Passed {
        let Some(client) = self.clients.get_mut(&id) else { return Passed::Gone };
        let Feed::Behind(behind) = &mut client.feed else { return Passed::Gone };
        if behind.holds > 0 {
            behind.fed = false;
            return Passed::Gone;
        }
        let replay = match step {
            Step::Replay(asked) => match behind.replays.front() {
                Some(replay) if replay.number == asked.number => Some(*replay),
                // It was called off while the journal was read.
                _ => return Passed::All,
            },
            // Replays that were asked for meanwhile come first.
            Step::CatchUp { up_to, .. } if behind.replays.front().is_some_and(|next| next.live < *up_to) => {
                return Passed::All;
            }
            _ => None,
        };
        let end = page.back().map(|event| (event.position, event.seq));
        page.retain(|event| replay.map_or_else(|| client.wants(event), |replay| replay.wants(event)));
        self.touched.push(client.outlet.clone());
        let mut moved = false;
        while !page.is_empty() {
            let events: Vec<Arc<Recorded>> = page.iter().take(fits(page.iter())).cloned().collect();
            let count = events.len();
            let past = replay.map(|replay| replay.within());
            let batch = Events::new(Told { events, past });
            let taken = match client.send(&batch) {
                Sent::All => count,
                Sent::Some(taken) => taken,
                Sent::Gone => {
                    client.end();
                    return Passed::Gone;
                }
            };
            page.drain(..taken);
            moved |= taken > 0;
            if taken < count {
                break;
            }
        }
        match (page.front(), end, step) {
            (Some(next), ..) => {
                client.reached(replay, next.position - 1, Some(next.seq - 1));
                return Passed::Some { moved };
            }
            (None, _, Step::CatchUp { up_to, .. }) if complete => client.reached(replay, *up_to, None),
            (None, _, Step::Replay(_)) if complete => client.replay_done(),
            (None, Some((position, seq)), _) => client.reached(replay, position, Some(seq)),
            (None, None, _) => {}
        }
        Passed::All
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

/// Who is told an event.
#[derive(PartialEq)]
enum Audience<'a> {
    /// Those in the job's room.
    Room(JobId),
    /// All who may see this owner's jobs.
    All(&'a str),
}

fn audience(event: &Recorded) -> Audience<'_> {
    match event.class() {
        Class::Broadcast => Audience::All(event.owner()),
        _ => Audience::Room(event.job),
    }
}

impl Client {
    /// Where the last of its replays ends.
    fn last_since(&self) -> i64 {
        self.memberships.values().map(|member| member.room.since).max().unwrap_or(0)
    }

    /// Notes how far the replay at hand, or else the live stream, was told.
    fn reached(&mut self, replay: Option<Replay>, position: i64, seq: Option<i32>) {
        let Feed::Behind(Behind { cursor, replays, .. }) = &mut self.feed else { return };
        match (replay, replays.front_mut()) {
            (Some(_), Some(front)) => {
                front.after = front.after.max(position);
                front.after_seq = seq.unwrap_or(front.after_seq);
            }
            _ => *cursor = (*cursor).max(position),
        }
    }

    /// Nobody feeds it any more; it is gone.
    fn end(&mut self) -> Step {
        if let Feed::Behind(behind) = &mut self.feed {
            behind.fed = false;
        }
        Step::End
    }

    fn replay_done(&mut self) {
        if let Feed::Behind(behind) = &mut self.feed {
            behind.replays.pop_front();
        }
    }
}

impl Room {
    /// Opens a door; returns whether it was closed.
    fn open(&mut self, door: Door) -> bool {
        let open = match door {
            Door::Job => &mut self.job_door,
            Door::Automation => &mut self.automation_door,
        };
        !std::mem::replace(open, true)
    }
}
