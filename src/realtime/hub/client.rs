//! What the hub knows of one client: its rooms, and whether it is live or behind.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Door, Outlet, Sent, Standing, Within,
    batch::{Events, Progress},
};
use crate::{
    event::Class,
    job::{JobId, Principal},
    metrics::numbers,
    store::{Recorded, Room, Transient},
};

pub(super) struct Client {
    pub outlet: Arc<dyn Outlet>,
    pub viewer: Principal,
    /// Up to where it was told the live stream when it came.
    pub since_connect: i64,
    pub memberships: HashMap<JobId, Membership>,
    /// Rooms that it left, with the positions up to which it was told of their jobs.
    pub left: HashMap<JobId, (Room, i64)>,
    /// Progress that waits until it has caught up, the newest of a job and kind.
    pub waiting: Vec<Arc<Transient>>,
    /// The number of its last subscription.
    pub last_number: u32,
    pub feed: Feed,
    /// It came back to a session, and it is not known yet whether it missed anything.
    is_back: bool,
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
    /// Past events of single jobs, in the order of their subscriptions.
    pub replays: VecDeque<Replay>,
    /// Subscriptions that are being written down; nothing is told meanwhile.
    pub holds: u32,
    /// Whether a task is feeding it.
    pub fed: bool,
}

/// The past of a job that is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The subscription's number.
    pub number: u32,
    pub job: JobId,
    pub after: i64,
    /// The seq of the event at `after`, or of an earlier one: where to look in the journal.
    pub after_seq: i32,
    pub up_to: i64,
    /// Told when the cursor is here. A client that came back may not have been told the live stream so far yet; in any
    /// other order its offset would not say what it was told.
    pub live: i64,
    /// `job:created` is told to everybody when it happens; only who asks for the past gets it again.
    pub with_broadcasts: bool,
}

impl Client {
    pub fn new(outlet: Arc<dyn Outlet>, standing: Standing) -> Client {
        let Standing { live, last_number, rooms, due, viewer, is_back } = standing;
        let mut replays = due;
        replays.sort_unstable_by_key(|replay| replay.number);
        let memberships =
            rooms.into_iter().map(|(job, room)| (job, Membership { room, restored: true })).collect();
        Client {
            outlet,
            viewer,
            since_connect: live,
            memberships,
            left: HashMap::new(),
            waiting: Vec::new(),
            last_number,
            feed: Feed::Behind(Behind { cursor: live, replays: replays.into(), ..Behind::default() }),
            is_back,
        }
    }

    /// Whether the live stream would have told it.
    pub fn wants(&self, event: &Recorded) -> bool {
        let for_all = event.class() == Class::Broadcast;
        let position = event.position;
        match self.memberships.get(&event.job) {
            Some(Membership { room, .. }) if for_all => {
                // A replay that begins earlier tells it, as the first of its job.
                !room.stays().any(|(stay, until)| {
                    position > stay.live.max(stay.after) && position <= stay.since.min(until)
                })
            }
            Some(Membership { room, .. }) => {
                room.stays().any(|(stay, until)| position > stay.since && position <= until)
            }
            None => {
                for_all
                    && self.hears(event)
                    && self.left.get(&event.job).is_none_or(|(_, told)| position > *told)
            }
        }
    }

    /// Whether an event that goes to all is for it, too.
    pub fn hears(&self, event: &Recorded) -> bool {
        self.viewer.sees(event.owner())
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
        if self.is_back && !matches!(sent, Sent::Some(0) | Sent::Gone) {
            self.is_caught_up("replayed");
        }
        if !self.waiting.is_empty() {
            let taken = match sent {
                Sent::All => events.item.events.len(),
                Sent::Some(taken) => taken,
                Sent::Gone => 0,
            };
            // Nothing of a job comes behind its end.
            let told = &events.item.events[..taken];
            let ended: Vec<JobId> = told.iter().filter(|e| e.is_terminal()).map(|e| e.job).collect();
            self.waiting.retain(|progress| progress.job.is_none_or(|job| !ended.contains(&job)));
        }
        sent
    }

    /// Counts once what a client that came back had missed.
    pub fn is_caught_up(&mut self, outcome: &str) {
        if std::mem::take(&mut self.is_back) {
            numbers().recoveries.with_label_values(&[outcome]).inc();
        }
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

    /// Up to where the client is told the live stream before anything that it asks for now.
    pub fn live(&self, delivered: i64) -> i64 {
        match &self.feed {
            Feed::Live => delivered,
            Feed::Behind(behind) => {
                behind.replays.back().map_or(behind.cursor, |last| last.live.max(behind.cursor))
            }
        }
    }

    /// Where a look back begins at a job that it is not in: where it left, or where it connected.
    pub fn left_off(&self, job: JobId) -> i64 {
        self.left.get(&job).map_or(self.since_connect, |(_, told)| *told)
    }

    fn told(&self, job: JobId, room: &Room, delivered: i64) -> i64 {
        let Feed::Behind(Behind { cursor, replays, .. }) = &self.feed else { return delivered };
        let told = match replays.iter().find(|replay| replay.job == job) {
            Some(replay) => replay.after,
            None => room.since.max(*cursor),
        };
        match &room.before {
            // It came back, and is not yet where it had been when it left.
            Some(before) if *cursor < room.after => told.min(before.since.max(*cursor)),
            _ => told,
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
        let told = self.told(job, &room, delivered);
        self.feed.call_off(job);
        if self.left.len() < most_left {
            self.left.insert(job, (room, told));
        }
        Some(None)
    }
}

impl Feed {
    /// Forgets what of a job's past is still to be told.
    pub fn call_off(&mut self, job: JobId) {
        if let Feed::Behind(behind) = self {
            behind.replays.retain(|replay| replay.job != job);
        }
    }
}

impl Replay {
    pub fn of(job: JobId, room: &Room, after: i64, until: i64) -> Replay {
        let Room { number, since, live, broadcasts, .. } = *room;
        let up_to = since.min(until);
        Replay { number, job, after, after_seq: 0, up_to, live, with_broadcasts: broadcasts }
    }

    /// Where its events stand in what the client is told.
    pub fn within(&self) -> Within {
        Within { number: self.number, live: self.live }
    }

    pub fn wants(&self, event: &Recorded) -> bool {
        event.job == self.job
            && event.position > self.after
            && event.position <= self.up_to
            && (self.with_broadcasts || event.position > self.live || event.class() != Class::Broadcast)
    }
}
