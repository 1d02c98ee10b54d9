//! Who is woken by what the stream delivers: feeds, which read at their own pace and have no queue.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Notify;

use super::{PAGE, stream::Stream};
use crate::{
    job::JobId,
    store::{Recorded, Transient},
};

/// What a feed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// One job.
    Job(JobId),
    /// A job, and the one that may come after it.
    Jobs([JobId; 2]),
    /// Every job.
    All,
}

impl Interest {
    /// The jobs, where they are known.
    fn jobs(&self) -> Option<&[JobId]> {
        match self {
            Interest::Job(job) => Some(std::slice::from_ref(job)),
            Interest::Jobs(jobs) => Some(jobs),
            Interest::All => None,
        }
    }

    /// Whether it is about a job.
    pub(in crate::realtime) fn is_about(&self, job: JobId) -> bool {
        self.jobs().is_none_or(|jobs| jobs.contains(&job))
    }
}

/// The feeds of a process.
#[derive(Default)]
pub(super) struct Feeds {
    last_feed: u64,
    of_jobs: HashMap<JobId, Vec<(u64, Arc<Notify>)>>,
    of_all: Vec<(u64, Arc<Notify>)>,
    /// The newest progress of each kind, with its number, of jobs that somebody follows and that have not ended.
    progress: HashMap<JobId, Vec<(u64, Arc<Transient>)>>,
    last_progress: u64,
}

/// Where a new feed begins.
pub(in crate::realtime) struct Begun {
    pub feed: u64,
    pub wake: Arc<Notify>,
    pub cursor: i64,
    pub progress: u64,
}

/// What a feed finds when it looks.
pub(in crate::realtime) enum Found {
    /// Events behind its cursor, and where that is then.
    Events { events: Vec<Arc<Recorded>>, cursor: i64 },
    /// They are not in memory any more: the journal has them, up to here at the least.
    Journal { delivered: i64 },
}

impl Feeds {
    fn sleepers(&self, job: JobId) -> impl Iterator<Item = &Arc<Notify>> {
        self.of_jobs.get(&job).into_iter().flatten().chain(&self.of_all).map(|(_, wake)| wake)
    }

    /// Wakes who follows these events.
    pub fn wake(&mut self, events: &[Arc<Recorded>]) {
        for event in events {
            if event.is_terminal() {
                // Nothing of a job comes behind its end.
                self.progress.remove(&event.job);
            }
            self.sleepers(event.job).for_each(|wake| wake.notify_one());
        }
    }

    /// Keeps the newest progress of a job for who follows it.
    pub fn take_progress(&mut self, newest: &Arc<Transient>) {
        let Some(job) = newest.job else { return };
        if self.of_all.is_empty() && !self.of_jobs.contains_key(&job) {
            return;
        }
        self.last_progress += 1;
        let kept = self.progress.entry(job).or_default();
        kept.retain(|(_, older)| older.kind != newest.kind);
        kept.push((self.last_progress, newest.clone()));
        self.sleepers(job).for_each(|wake| wake.notify_one());
    }

    fn remove(&mut self, interest: Interest, feed: u64) {
        self.of_all.retain(|(id, _)| *id != feed);
        for job in interest.jobs().into_iter().flatten() {
            if let Some(feeds) = self.of_jobs.get_mut(job) {
                feeds.retain(|(id, _)| *id != feed);
                if feeds.is_empty() {
                    self.of_jobs.remove(job);
                }
            }
        }
        if self.of_all.is_empty() {
            let of_jobs = &self.of_jobs;
            self.progress.retain(|job, _| of_jobs.contains_key(job));
        }
    }

    /// Progress of a higher number, oldest first.
    fn newer(&self, interest: Interest, than: u64) -> Vec<(u64, Arc<Transient>)> {
        let is_newer = |(number, _): &&(u64, Arc<Transient>)| *number > than;
        let mut newer: Vec<_> = match interest.jobs() {
            Some(jobs) => {
                let of_jobs = jobs.iter().filter_map(|job| self.progress.get(job));
                of_jobs.flatten().filter(is_newer).cloned().collect()
            }
            None => self.progress.values().flatten().filter(is_newer).cloned().collect(),
        };
        newer.sort_unstable_by_key(|(number, _)| *number);
        newer
    }
}

impl super::Hub {
    /// Begins a feed behind everything that was delivered.
    pub(in crate::realtime) fn begin_feed(&self, interest: Interest) -> Begun {
        self.with(|stream| {
            let feeds = &mut stream.feeds;
            feeds.last_feed += 1;
            let (feed, wake) = (feeds.last_feed, Arc::new(Notify::new()));
            match interest.jobs() {
                Some(jobs) => {
                    for job in jobs {
                        feeds.of_jobs.entry(*job).or_default().push((feed, wake.clone()));
                    }
                }
                None => feeds.of_all.push((feed, wake.clone())),
            }
            Begun { feed, wake, cursor: stream.delivered, progress: feeds.last_progress }
        })
    }

    pub(in crate::realtime) fn end_feed(&self, interest: Interest, feed: u64) {
        self.with(|stream| stream.feeds.remove(interest, feed));
    }

    /// What was delivered behind a cursor.
    pub(in crate::realtime) fn look(&self, interest: Interest, cursor: i64) -> Found {
        self.with(|stream| stream.look(interest, cursor))
    }

    /// Progress that is newer than the number given, and the number of the newest.
    pub(in crate::realtime) fn newer_progress(
        &self,
        interest: Interest,
        than: u64,
    ) -> (Vec<Arc<Transient>>, u64) {
        let newer = self.with(|stream| stream.feeds.newer(interest, than));
        let last = newer.last().map_or(than, |(number, _)| *number);
        (newer.into_iter().map(|(_, progress)| progress).collect(), last)
    }
}

impl Stream {
    fn look(&self, interest: Interest, cursor: i64) -> Found {
        if cursor >= self.delivered {
            return Found::Events { events: Vec::new(), cursor };
        }
        if self.recent.front().is_none_or(|first| first.position > cursor + 1) {
            return Found::Journal { delivered: self.delivered };
        }
        let from = self.recent.partition_point(|event| event.position <= cursor);
        let wanted = |event: &&Arc<Recorded>| interest.is_about(event.job);
        let events: Vec<_> = self.recent.range(from..).filter(wanted).take(PAGE as usize).cloned().collect();
        let is_all = events.len() < PAGE as usize;
        let cursor = if is_all { self.delivered } else { events.last().map_or(cursor, |last| last.position) };
        Found::Events { events, cursor }
    }
}
