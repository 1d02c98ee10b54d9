//! What the hub knows of one client: its rooms, and whether it is live or behind.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Door, Outlet, Sent, Standing,
    batch::{Events, Progress},
};
use crate::{
    event::Class,
    job::JobId,
    store::{Recorded, Room, Transient},
};

pub(super) struct Client {
    pub outlet: Arc<dyn Outlet>,
    /// Where a look back at a job begins that it was not in before.
    pub since_connect: i64,
    pub memberships: HashMap<JobId, Membership>,
    /// Jobs that it left, with the position up to which it was told of them.
    pub left: HashMap<JobId, i64>,
    /// Progress that waits until it has caught up, the newest of a job and kind.
    pub waiting: Vec<Arc<Transient>>,
    /// The number of its last subscription.
    pub last_number: u32,
    pub feed: Feed,
}

pub(super) struct Membership {
    pub room: Room,
    /// It came with a session that was taken up, and the page has not asked for it again yet.
    pub restored: bool,
}

pub(super) enum Feed {
    Live,
    Behind(Behind),
}

#[derive(Default)]
pub(super) struct Behind {
    /// What the live stream would have told up to here was told.
    pub cursor: i64,
    /// Past events of single jobs, told before the cursor moves on.
    pub replays: VecDeque<Replay>,
    /// Subscriptions that are being written down; nothing is told meanwhile.
    pub holds: u32,
    /// Whether a task is feeding it.
    pub fed: bool,
}

/// The past of a job that is still to be told.
#[derive(Clone, Copy)]
pub(super) struct Replay {
    /// The subscription's number.
    pub number: u32,
    pub job: JobId,
    pub after: i64,
    /// The seq of the event at `after`, or of an earlier one: where to look in the journal.
    pub after_seq: i32,
    pub up_to: i64,
    /// `job:created` was told to everybody when it happened; only who asks for the past gets it again.
    pub with_broadcasts: bool,
}

impl Client {
    pub fn new(outlet: Arc<dyn Outlet>, standing: Standing) -> Client {
        let Standing { live, rooms, due } = standing;
        let mut replays: Vec<Replay> =
            due.iter().filter_map(|(job, after)| Some(Replay::of(*job, rooms.get(job)?, *after))).collect();
        replays.sort_unstable_by_key(|replay| replay.number);
        let last_number = rooms.values().map(|room| room.number).max().unwrap_or(0);
        let memberships =
            rooms.into_iter().map(|(job, room)| (job, Membership { room, restored: true })).collect();
        Client {
            outlet,
            since_connect: live,
            memberships,
            left: HashMap::new(),
            waiting: Vec::new(),
            last_number,
            feed: Feed::Behind(Behind { cursor: live, replays: replays.into(), ..Behind::default() }),
        }
    }

    /// Whether the live stream would have told it.
    pub fn wants(&self, event: &Recorded) -> bool {
        event.class() == Class::Broadcast
            || self.memberships.get(&event.job).is_some_and(|member| event.position > member.room.since)
    }

    /// Makes it behind, if it is not, from a position on.
    pub fn fall_behind(&mut self, cursor: i64) -> &mut Behind {
        if matches!(self.feed, Feed::Live) {
            self.feed = Feed::Behind(Behind { cursor, ..Behind::default() });
        }
        match &mut self.feed {
            Feed::Behind(behind) => behind,
            Feed::Live => unreachable!("it was just made behind"),
        }
    }

    pub fn send(&mut self, events: &Events) -> Sent {
        let sent = self.outlet.send(events);
        if !self.waiting.is_empty() {
            let taken = match sent {
                Sent::All => events.item.len(),
                Sent::Some(taken) => taken,
                Sent::Gone => 0,
            };
            // Nothing of a job comes behind its end.
            let ended: Vec<JobId> =
                events.item[..taken].iter().filter(|e| e.is_terminal()).map(|e| e.job).collect();
            self.waiting.retain(|progress| !ended.contains(&progress.job));
        }
        sent
    }

    /// Passes progress on, or keeps it until there is room. Returns whether it fell behind by this.
    pub fn send_progress(&mut self, progress: &Progress, delivered: i64) -> bool {
        let live = matches!(self.feed, Feed::Live);
        if live && self.outlet.send_progress(progress) != Sent::Some(0) {
            return false;
        }
        let newest = &progress.item;
        self.waiting.retain(|older| (older.job, older.kind) != (newest.job, newest.kind));
        self.waiting.push(newest.clone());
        if live {
            self.fall_behind(delivered);
        }
        live
    }

    /// Up to where the client was told the live stream.
    pub fn live(&self, delivered: i64) -> i64 {
        match &self.feed {
            Feed::Live => delivered,
            Feed::Behind(behind) => behind.cursor,
        }
    }

    /// Up to where the client was told of a job that it is, or was, in.
    pub fn told_of(&self, job: JobId, delivered: i64) -> i64 {
        match self.memberships.get(&job) {
            Some(member) => self.told(&member.room, delivered),
            None => self.left.get(&job).copied().unwrap_or(0),
        }
    }

    fn told(&self, room: &Room, delivered: i64) -> i64 {
        match &self.feed {
            Feed::Live => delivered,
            Feed::Behind(behind) => match behind.replays.iter().find(|replay| replay.number == room.number) {
                Some(replay) => replay.after,
                None => behind.cursor.max(room.since),
            },
        }
    }

    /// Goes out of a door; leaves the room if it was the last one. Returns the room as it is then, if anything changed.
    pub fn leave(
        &mut self,
        job: JobId,
        door: Door,
        delivered: i64,
        most_left: usize,
    ) -> Option<Option<Room>> {
        let room = &mut self.memberships.get_mut(&job)?.room;
        let open = match door {
            Door::Job => &mut room.job_door,
            Door::Automation => &mut room.automation_door,
        };
        if !std::mem::take(open) {
            return None;
        }
        if room.job_door || room.automation_door {
            return Some(Some(room.clone()));
        }
        let Membership { room, .. } = self.memberships.remove(&job)?;
        let told = self.told(&room, delivered);
        self.feed.call_off(job);
        if self.left.len() < most_left {
            self.left.insert(job, told);
        }
        Some(None)
    }
}

impl Feed {
    /// Forgets what of a job's past is still to be told: at most one replay of a job waits.
    pub fn call_off(&mut self, job: JobId) {
        if let Feed::Behind(behind) = self {
            behind.replays.retain(|replay| replay.job != job);
        }
    }
}

impl Replay {
    pub fn of(job: JobId, room: &Room, after: i64) -> Replay {
        let Room { number, since, broadcasts, .. } = *room;
        Replay { number, job, after, after_seq: 0, up_to: since, with_broadcasts: broadcasts }
    }

    pub fn wants(&self, event: &Recorded) -> bool {
        event.job == self.job
            && event.position > self.after
            && event.position <= self.up_to
            && (self.with_broadcasts || event.class() != Class::Broadcast)
    }
}
