//! The journal: every event of every job, in the order of commits, and the appender that writes many at once.
//!
//! Positions come from one counter row whose lock is held until commit, so their order is the order of commits: a
//! reader that asks for `position > last` can skip nothing. (A sequence cannot promise this: a transaction that
//! commits late shows a lower number after a higher one was read.) Positions are given out without gaps, for a transaction
//! that rolls back gives its numbers back; only removing a job leaves one.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Instant};

use chrono::Utc;
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{Announcement, Lease, Store, StoreError, tasks};
use crate::{
    event::{Class, Event, Kind, SystemNotification, Timestamp},
    job::{ANONYMOUS, Code, JobId, Principal, Rejection},
    metrics::{event_label, numbers},
};

/// Appends that may wait; callers beyond that wait for room.
const WAITING_APPENDS: usize = 4096;
/// Appends written in one transaction at the most.
const BATCH: usize = 1024;

/// An event as it stands in the journal.
#[derive(Debug)]
pub struct Recorded {
    /// Its place among all events.
    pub position: i64,
    pub job: JobId,
    /// Its place among its job's events, from 1.
    pub seq: i32,
    /// Its wire name.
    pub kind: Cow<'static, str>,
    /// What clients get.
    pub payload: Box<RawValue>,
    pub at: Timestamp,
    /// Whose the job is, of what goes to all clients of the owner; `None` for nobody in particular.
    pub owner: Option<Arc<str>>,
}

impl Recorded {
    /// To whom it goes; a name that this version does not know goes to its job's room.
    pub fn class(&self) -> Class {
        Kind::from_wire_name(&self.kind).map_or(Class::Milestone, Kind::class)
    }

    /// Whose clients are told, of what goes to all of them.
    pub fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or(ANONYMOUS)
    }

    /// Whether it ends its job.
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.kind, "job:completed" | "job:failed")
    }
}

/// A live event that is not journaled; the newest of a job and kind replaces the older ones.
#[derive(Debug)]
pub struct Transient {
    /// Whose room is told; `None` for all who may hear of it.
    pub job: Option<JobId>,
    /// Of what belongs to no job: whose it is.
    pub owner: Option<String>,
    pub kind: Kind,
    pub payload: Box<RawValue>,
}

impl Transient {
    /// `None` for an event that is not in the catalogue: all of those are journaled.
    pub(super) fn new(job: Option<JobId>, event: &Event) -> Option<Transient> {
        Some(Transient { job, owner: None, kind: event.kind()?, payload: event.encode(job, Utc::now()) })
    }
}

/// Where a job's events stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest event's seq; 0 for none.
    pub seq: i32,
    pub status: crate::job::Status,
}

/// An event with its place, not yet in the journal.
pub(super) struct Draft {
    pub job: JobId,
    pub seq: i32,
    pub event: Event,
    /// Whose the job is, if that is somebody and the event goes to all clients of theirs.
    pub owner: Option<Arc<str>>,
}

impl Draft {
    /// An event of an owner's job.
    pub fn new(job: JobId, seq: i32, event: Event, owner: &str) -> Draft {
        let tells_all = event.class() == Class::Broadcast && owner != ANONYMOUS;
        Draft { job, seq, event, owner: tells_all.then(|| owner.into()) }
    }
}

/// Writes events behind all others; the caller's transaction holds the rows of their jobs and commits next.
pub(super) async fn write(
    tx: &mut PgConnection,
    drafts: &[Draft],
) -> Result<Vec<Arc<Recorded>>, sqlx::Error> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let at = Utc::now();
    let mut jobs: Vec<Uuid> = Vec::with_capacity(drafts.len());
    let mut seqs: Vec<i32> = Vec::with_capacity(drafts.len());
    let mut kinds: Vec<Cow<'static, str>> = Vec::with_capacity(drafts.len());
    let mut payloads: Vec<Box<RawValue>> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        jobs.push(draft.job.0);
        seqs.push(draft.seq);
        kinds.push(draft.event.name());
        payloads.push(draft.event.encode(Some(draft.job), at));
    }
    let owners: Vec<Option<&str>> = drafts.iter().map(|draft| draft.owner.as_deref()).collect();
    let texts: Vec<&str> = payloads.iter().map(|payload| payload.get()).collect();
    let names: Vec<&str> = kinds.iter().map(|kind| &**kind).collect();
    let last: i64 = sqlx::query_scalar(
        "WITH head AS (UPDATE journal_head SET position = position + $5 WHERE id = 1 RETURNING position),
              written AS (
                  INSERT INTO events (position, job_id, seq, kind, payload, created_at, owner)
                  SELECT head.position - $5 + e.i, e.job_id, e.seq, e.kind, e.payload::json, $6, e.owner
                  FROM head, UNNEST($1::uuid[], $2::int[], $3::text[], $4::text[], $7::text[])
                       WITH ORDINALITY AS e (job_id, seq, kind, payload, owner, i))
         SELECT position FROM head",
    )
    .bind(&jobs)
    .bind(&seqs)
    .bind(&names)
    .bind(&texts)
    .bind(drafts.len() as i64)
    .bind(at)
    .bind(&owners)
    .fetch_one(tx)
    .await?;
    let first = last - drafts.len() as i64 + 1;
    let recorded =
        drafts.iter().zip(kinds).zip(payloads).zip(first..).map(|(((draft, kind), payload), position)| {
            let owner = draft.owner.clone();
            Arc::new(Recorded { position, job: draft.job, seq: draft.seq, kind, payload, at, owner })
        });
    Ok(recorded.collect())
}

impl Store {
    /// Appends events that change nothing but the journal, together with whatever others append at the same time.
    ///
    /// # Errors
    /// [`Code::JobNotFound`] and [`Code::JobEnded`]; [`StoreError::Unavailable`] when the commit failed.
    pub async fn append(&self, job: JobId, events: Vec<Event>) -> Result<Vec<Arc<Recorded>>, StoreError> {
        self.appender.append(job, None, events).await
    }

    /// Appends events that tell of the start of a task, the first time that this is asked for the task: one that runs
    /// again after a crash is not announced again.
    pub async fn announce_start(&self, lease: &Lease, events: Vec<Event>) -> Result<(), StoreError> {
        self.appender.append(lease.job, Some(*lease), events).await.map(drop)
    }

    /// Sends progress that is not journaled.
    pub fn tell(&self, job: JobId, event: Event) {
        self.announce_transient(Some(job), event);
    }

    /// Sends an owner's sockets of this process something that belongs to no job and that nobody needs who was away.
    pub fn notify(&self, owner: &str, notice: SystemNotification) {
        if let Some(notice) = Transient::new(None, &notice.into()) {
            let notice = Transient { owner: Some(owner.to_owned()), ..notice };
            self.announce(Announcement::Transient(Arc::new(notice)));
        }
    }

    /// The position of the newest event.
    pub async fn position(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT position FROM journal_head WHERE id = 1").fetch_one(&self.pool).await?)
    }

    /// All events behind a position, oldest first, at most `limit`.
    pub async fn tail(&self, after: i64, limit: i64) -> Result<Vec<Arc<Recorded>>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events WHERE position > $1 ORDER BY position LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(recorded).collect()
    }

    /// One job's events behind a position and up to another, oldest first, at most `limit`; `after_seq` is a seq at or
    /// before that position, from which the journal is searched.
    pub async fn events_between(
        &self,
        job: JobId,
        after_seq: i32,
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<Arc<Recorded>>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM events WHERE job_id = $1 AND seq > $2 AND position > $3 AND position <= $4
             ORDER BY seq LIMIT $5",
        )
        .bind(job.0)
        .bind(after_seq)
        .bind(after)
        .bind(up_to)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(recorded).collect()
    }

    /// What the live stream told about some jobs behind a position and up to another, and to all who see the jobs of
    /// `only` (everybody's if there is none), oldest first, at most `limit`. Takes as long as there are such events, however many others lie between.
    pub async fn tail_of(
        &self,
        jobs: &[Uuid],
        only: Option<&str>,
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<Arc<Recorded>>, StoreError> {
        // Seqs and positions of a job rise together, so its last seq up to a position is found from the end.
        let rows = sqlx::query(
            "SELECT e.* FROM UNNEST($1::uuid[]) AS job (id) CROSS JOIN LATERAL (
                 SELECT * FROM events
                 WHERE job_id = job.id AND kind <> 'job:created' AND position <= $3
                   AND seq > coalesce((SELECT seq FROM events WHERE job_id = job.id AND position <= $2
                                       ORDER BY seq DESC LIMIT 1), 0)
                 ORDER BY seq LIMIT $4) AS e
             UNION ALL
             (SELECT * FROM events WHERE kind = 'job:created' AND position > $2 AND position <= $3
                   AND ($5::text IS NULL OR coalesce(owner, 'anonymous') = $5)
              ORDER BY position LIMIT $4)
             ORDER BY position LIMIT $4",
        )
        .bind(jobs)
        .bind(after)
        .bind(up_to)
        .bind(limit)
        .bind(only)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(recorded).collect()
    }

    /// One job's events behind a seq, oldest first, at most `limit`.
    pub async fn events(&self, job: JobId, after: i32, limit: i64) -> Result<Vec<Arc<Recorded>>, StoreError> {
        let rows = sqlx::query("SELECT * FROM events WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3")
            .bind(job.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(recorded).collect()
    }

    /// The seq and status of a job.
    ///
    /// # Errors
    /// [`Code::JobNotFound`].
    pub async fn head(&self, job: JobId) -> Result<Head, StoreError> {
        let row = sqlx::query("SELECT last_seq, status FROM jobs WHERE id = $1")
            .bind(job.0)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Rejection::job_not_found(job))?;
        Ok(Head { seq: row.try_get("last_seq")?, status: super::jobs::status(&row)? })
    }

    /// The same for somebody who may know of the job.
    ///
    /// # Errors
    /// [`Code::JobNotFound`], for a job of somebody else's too.
    pub async fn head_for(&self, job: JobId, viewer: &Principal) -> Result<Head, StoreError> {
        let row = sqlx::query("SELECT last_seq, status, owner FROM jobs WHERE id = $1")
            .bind(job.0)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| Rejection::job_not_found(job))?;
        if !viewer.sees(&row.try_get::<String, _>("owner")?) {
            return Err(Rejection::job_not_found(job).into());
        }
        Ok(Head { seq: row.try_get("last_seq")?, status: super::jobs::status(&row)? })
    }
}

pub(super) fn recorded(row: PgRow) -> Result<Arc<Recorded>, StoreError> {
    let payload: sqlx::types::Json<Box<RawValue>> = row.try_get("payload")?;
    let kind: String = row.try_get("kind")?;
    // Known names are not allocated again.
    let kind = Kind::from_wire_name(&kind).map_or(Cow::Owned(kind), |known| Cow::Borrowed(known.wire_name()));
    Ok(Arc::new(Recorded {
        position: row.try_get("position")?,
        job: JobId(row.try_get("job_id")?),
        seq: row.try_get("seq")?,
        kind,
        payload: payload.0,
        at: row.try_get("created_at")?,
        owner: row.try_get::<Option<String>, _>("owner")?.map(Arc::from),
    }))
}

type Answer = Result<Vec<Arc<Recorded>>, StoreError>;

struct Append {
    job: JobId,
    /// Only if this task has not been announced.
    starts: Option<Lease>,
    events: Vec<Event>,
    answer: oneshot::Sender<Answer>,
}

/// The one task of this process that appends events without domain rows: appends that arrive together share a
/// transaction, and so the wait for the disk and for the head's lock.
#[derive(Clone)]
pub(super) struct Appender(mpsc::Sender<Append>);

impl Appender {
    pub(super) fn start(pool: PgPool, announcements: mpsc::Sender<Announcement>) -> Appender {
        let (sender, mut receiver) = mpsc::channel::<Append>(WAITING_APPENDS);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                let drained: Vec<Append> = std::mem::take(&mut batch);
                numbers().journal_appends.inc_by(drained.len() as u64);
                numbers().journal_batch_appends.observe(drained.len() as f64);
                let began = Instant::now();
                match commit(&pool, &drained).await {
                    Ok(answers) => {
                        let at = Instant::now();
                        numbers().journal_commit.observe((at - began).as_secs_f64());
                        let events: Vec<Arc<Recorded>> =
                            answers.iter().filter_map(|a| a.as_ref().ok()).flatten().cloned().collect();
                        count(&events);
                        let _ = announcements.try_send(Announcement::Committed { events, at });
                        for (append, answer) in drained.into_iter().zip(answers) {
                            let _ = append.answer.send(answer);
                        }
                        // Those who were answered may append again at once: let them, for a fuller batch.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        numbers().journal_failures.inc();
                        tracing::warn!(%error, appends = drained.len(), "a batch could not be appended to the journal");
                        for append in drained {
                            let _ =
                                append.answer.send(Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed)));
                        }
                    }
                }
            }
        });
        Appender(sender)
    }

    /// Appends that wait for their batch.
    pub(super) fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    async fn append(&self, job: JobId, starts: Option<Lease>, events: Vec<Event>) -> Answer {
        let gone = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let (answer, answered) = oneshot::channel();
        self.0.send(Append { job, starts, events, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Counts what was written in one transaction and committed.
pub(super) fn count(events: &[Arc<Recorded>]) {
    if events.is_empty() {
        return;
    }
    numbers().journal_batch_events.observe(events.len() as f64);
    for event in events {
        numbers().journal_events.with_label_values(&[event_label(&event.kind)]).inc();
    }
}

/// One transaction for all appends: job rows in the order of their ids, tasks, then the head.
async fn commit(pool: &PgPool, appends: &[Append]) -> Result<Vec<Answer>, sqlx::Error> {
    let mut wanted: Vec<Uuid> = appends.iter().map(|append| append.job.0).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut tx = pool.begin().await?;
    let rows = sqlx::query(
        "SELECT id, last_seq, ended_at IS NOT NULL, owner FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(&wanted)
    .fetch_all(&mut *tx)
    .await?;
    let mut jobs: HashMap<Uuid, (i32, bool, String)> = HashMap::with_capacity(rows.len());
    for row in rows {
        jobs.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
    }
    let starts: Vec<&Lease> = appends.iter().filter_map(|append| append.starts.as_ref()).collect();
    let first_starts = tasks::first_starts(&mut tx, &starts).await?;
    let mut drafts = Vec::new();
    let mut counts: Vec<Result<usize, Rejection>> = Vec::with_capacity(appends.len());
    for append in appends {
        counts.push(match jobs.get_mut(&append.job.0) {
            None => Err(Rejection::job_not_found(append.job)),
            Some((_, true, _)) => {
                Err(Rejection::new(Code::JobEnded, format!("Job {} has already ended.", append.job)))
            }
            Some((_, false, _)) if append.starts.is_some_and(|lease| !first_starts.contains(&lease.task)) => {
                Ok(0)
            }
            Some((seq, false, owner)) => {
                for event in &append.events {
                    *seq += 1;
                    drafts.push(Draft::new(append.job, *seq, event.clone(), owner));
                }
                Ok(append.events.len())
            }
        });
    }
    let (ids, seqs): (Vec<Uuid>, Vec<i32>) =
        jobs.iter().filter(|(_, (_, ended, _))| !ended).map(|(id, (seq, ..))| (*id, *seq)).unzip();
    sqlx::query(
        "UPDATE jobs SET last_seq = n.seq, updated_at = now()
         FROM UNNEST($1::uuid[], $2::int[]) AS n (id, seq) WHERE jobs.id = n.id",
    )
    .bind(&ids)
    .bind(&seqs)
    .execute(&mut *tx)
    .await?;
    let mut recorded = write(&mut tx, &drafts).await?.into_iter();
    tx.commit().await?;
    Ok(counts.into_iter().map(|count| Ok(recorded.by_ref().take(count?).collect())).collect())
}
