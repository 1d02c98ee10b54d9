//! Socket.IO sessions that a client may come back to: one row each, written by one task that shares its commits.
//!
//! After a deploy thousands of clients come back at once, so what arrives together is read and written together.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Row as _, types::Json};
use tokio::sync::{mpsc, oneshot};

use super::{Store, StoreError};
use crate::job::JobId;

/// Requests that may wait; callers beyond that wait for room.
const WAITING: usize = 4096;
/// Requests answered by one transaction at the most.
const BATCH: usize = 1024;
/// Rows removed at once.
const SWEEP: i64 = 5000;

/// A job's room in a session, and what of the job's past its client is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Joined as `job:<id>`.
    pub job_door: bool,
    /// Joined as `automation:<id>`.
    pub automation_door: bool,
    /// Counts the session's subscriptions; their replays are told in this order.
    pub number: u32,
    /// The client is due the events behind this position: up to `since` by replay, later ones live.
    pub after: i64,
    pub since: i64,
    /// Whether the replay tells what was told to everybody when it happened.
    pub broadcasts: bool,
    /// Up to where the client is told the live stream before the replay.
    pub live: i64,
    /// The room as the client left it before on the same connection: what it was told of it may not have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Room>>,
}

impl Room {
    /// The room and those before it, each with the position up to which it counted.
    pub fn stays(&self) -> impl Iterator<Item = (&Room, i64)> {
        std::iter::successors(Some((self, i64::MAX)), |(room, _)| Some((room.before.as_deref()?, room.after)))
    }
}

/// A session as it was found.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Whose it is; none for a client that did not say who it is.
    pub principal: Option<String>,
    pub rooms: HashMap<JobId, Room>,
    /// The journal's position when it began.
    pub start: i64,
    /// The offset that its client had from an earlier session, and still names until it is told something.
    pub stale: Option<i64>,
    /// The fencing token of whoever asked.
    pub generation: i32,
    /// What lies at or before this position may be gone.
    pub floor: i64,
    /// The journal's last position.
    pub head: i64,
}

/// What is to be changed about a session's rooms; `None` is a room that was left.
pub type RoomChanges = BTreeMap<JobId, Option<Room>>;

impl Store {
    /// Keeps a new session, of generation 1.
    pub async fn open_session(
        &self,
        pid: String,
        principal: Option<String>,
        start: i64,
        stale: Option<i64>,
    ) -> Result<(), StoreError> {
        self.sessions.ask(|answer| Request::Open { pid, principal, start, stale, answer }).await
    }

    /// Takes a session up: from now on only the holder of the new generation may change it. `None` if there is none of
    /// this principal's, or if a job of its rooms was removed.
    pub async fn resume_session(
        &self,
        pid: String,
        principal: Option<String>,
    ) -> Result<Option<Resumed>, StoreError> {
        self.sessions.ask(|answer| Request::Resume { pid, principal, answer }).await
    }

    /// Writes which rooms a session is in; `false` if somebody else has taken it up since.
    pub async fn change_rooms(
        &self,
        pid: String,
        generation: i32,
        changes: RoomChanges,
    ) -> Result<bool, StoreError> {
        self.sessions.ask(|answer| Request::Change { pid, generation, changes, answer }).await
    }

    /// Notes that the clients of these sessions are (or just were) here.
    pub async fn touch_sessions(&self, pids: &[String]) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET seen_at = now() WHERE pid = ANY($1)")
            .bind(pids)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Removes sessions whose clients were not here for so long; returns how many.
    pub async fn forget_sessions(&self, unseen_for: Duration) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let done = sqlx::query(
                "DELETE FROM sessions WHERE pid IN (
                     SELECT pid FROM sessions WHERE seen_at < now() - make_interval(secs => $1) LIMIT $2)",
            )
            .bind(unseen_for.as_secs_f64())
            .bind(SWEEP)
            .execute(&self.pool)
            .await?
            .rows_affected();
            removed += done;
            if done < SWEEP as u64 {
                return Ok(removed);
            }
        }
    }
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    Open { pid: String, principal: Option<String>, start: i64, stale: Option<i64>, answer: Answer<()> },
    Resume { pid: String, principal: Option<String>, answer: Answer<Option<Resumed>> },
    Change { pid: String, generation: i32, changes: RoomChanges, answer: Answer<bool> },
}

/// The task that reads and writes sessions.
#[derive(Clone)]
pub(super) struct Sessions(mpsc::Sender<Request>);

impl Sessions {
    pub(super) fn start(pool: PgPool) -> Sessions {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut requests = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut requests, BATCH).await > 0 {
                Batch::of(std::mem::take(&mut requests)).run(&pool).await;
            }
        });
        Sessions(sender)
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let (answer, answered) = oneshot::channel();
        self.0.send(request(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

#[derive(Default)]
struct Batch {
    opened: Vec<(String, Option<String>, i64, Option<i64>)>,
    /// With whose they are to be.
    resumed: HashSet<(String, Option<String>)>,
    changed: HashMap<(String, i32), RoomChanges>,
    open_answers: Vec<Answer<()>>,
    resume_answers: Vec<(String, Option<String>, Answer<Option<Resumed>>)>,
    change_answers: Vec<((String, i32), Answer<bool>)>,
}

/// What a batch brought.
struct Outcome {
    resumed: HashMap<String, Resumed>,
    changed: HashSet<(String, i32)>,
}

impl Batch {
    fn of(requests: Vec<Request>) -> Batch {
        let mut batch = Batch::default();
        for request in requests {
            match request {
                Request::Open { pid, principal, start, stale, answer } => {
                    batch.opened.push((pid, principal, start, stale));
                    batch.open_answers.push(answer);
                }
                Request::Resume { pid, principal, answer } => {
                    batch.resumed.insert((pid.clone(), principal.clone()));
                    batch.resume_answers.push((pid, principal, answer));
                }
                Request::Change { pid, generation, changes, answer } => {
                    let key = (pid, generation);
                    batch.changed.entry(key.clone()).or_default().extend(changes);
                    batch.change_answers.push((key, answer));
                }
            }
        }
        batch
    }

    async fn run(self, pool: &PgPool) {
        match self.commit(pool).await {
            Ok(mut outcome) => {
                for answer in self.open_answers {
                    let _ = answer.send(Ok(()));
                }
                for (pid, principal, answer) in self.resume_answers {
                    // Somebody else may have asked for it at the same time. Taken out: of two who ask for one session
                    // at the same time, one gets it.
                    let is_theirs =
                        outcome.resumed.get(&pid).is_some_and(|found| found.principal == principal);
                    let _ = answer.send(Ok(is_theirs.then(|| outcome.resumed.remove(&pid)).flatten()));
                }
                for (key, answer) in self.change_answers {
                    let _ = answer.send(Ok(outcome.changed.contains(&key)));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "sessions could not be read or written");
                let lost = || StoreError::Unavailable(sqlx::Error::WorkerCrashed);
                self.open_answers.into_iter().for_each(|answer| drop(answer.send(Err(lost()))));
                self.resume_answers.into_iter().for_each(|(.., answer)| drop(answer.send(Err(lost()))));
                self.change_answers.into_iter().for_each(|(_, answer)| drop(answer.send(Err(lost()))));
            }
        }
    }

    async fn commit(&self, pool: &PgPool) -> Result<Outcome, sqlx::Error> {
        let mut tx = pool.begin().await?;
        let mut outcome = Outcome { resumed: HashMap::new(), changed: HashSet::new() };
        if !self.opened.is_empty() {
            let pids: Vec<&str> = self.opened.iter().map(|(pid, ..)| pid.as_str()).collect();
            let principals: Vec<Option<&str>> =
                self.opened.iter().map(|(_, who, ..)| who.as_deref()).collect();
            let starts: Vec<i64> = self.opened.iter().map(|(_, _, start, _)| *start).collect();
            let stale: Vec<Option<i64>> = self.opened.iter().map(|(.., stale)| *stale).collect();
            sqlx::query(
                "INSERT INTO sessions (pid, principal, start_position, stale_offset)
                 SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[])",
            )
            .bind(pids)
            .bind(principals)
            .bind(starts)
            .bind(stale)
            .execute(&mut *tx)
            .await?;
        }
        if !self.changed.is_empty() {
            // In one order, so that two servers that write the same sessions do not wait for each other.
            let mut changes: Vec<_> = self.changed.iter().collect();
            changes.sort_unstable_by_key(|(key, _)| *key);
            let pids: Vec<&str> = changes.iter().map(|((pid, _), _)| pid.as_str()).collect();
            let generations: Vec<i32> = changes.iter().map(|((_, generation), _)| *generation).collect();
            let rooms: Vec<Json<&RoomChanges>> = changes.iter().map(|(_, rooms)| Json(*rooms)).collect();
            let rows = sqlx::query(
                "UPDATE sessions AS s SET rooms = jsonb_strip_nulls(s.rooms || n.rooms), seen_at = now()
                 FROM UNNEST($1::text[], $2::int[], $3::jsonb[]) AS n (pid, generation, rooms)
                 WHERE s.pid = n.pid AND s.generation = n.generation RETURNING s.pid, s.generation",
            )
            .bind(pids)
            .bind(generations)
            .bind(rooms)
            .fetch_all(&mut *tx)
            .await?;
            for row in rows {
                outcome.changed.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        if !self.resumed.is_empty() {
            // Whose it is is asked before the generation is raised: who guesses a pid must not throw its client out.
            let pids: Vec<&str> = self.resumed.iter().map(|(pid, _)| pid.as_str()).collect();
            let principals: Vec<Option<&str>> = self.resumed.iter().map(|(_, who)| who.as_deref()).collect();
            let rows = sqlx::query(
                "UPDATE sessions AS s SET generation = s.generation + 1, seen_at = now()
                 FROM journal_head AS h, UNNEST($1::text[], $2::text[]) AS n (pid, principal)
                 WHERE s.pid = n.pid AND s.principal IS NOT DISTINCT FROM n.principal
                 RETURNING s.pid, s.principal, s.rooms, s.start_position, s.stale_offset, s.generation,
                     h.floor, h.position,
                     EXISTS (SELECT 1 FROM jsonb_object_keys(s.rooms) AS k (id)
                             WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = k.id::uuid)) AS torn",
            )
            .bind(pids)
            .bind(principals)
            .fetch_all(&mut *tx)
            .await?;
            for row in rows {
                if row.try_get("torn")? {
                    continue;
                }
                let Json(rooms) = row.try_get("rooms")?;
                let resumed = Resumed {
                    principal: row.try_get("principal")?,
                    rooms,
                    start: row.try_get("start_position")?,
                    stale: row.try_get("stale_offset")?,
                    generation: row.try_get("generation")?,
                    floor: row.try_get("floor")?,
                    head: row.try_get("position")?,
                };
                outcome.resumed.insert(row.try_get("pid")?, resumed);
            }
        }
        tx.commit().await?;
        Ok(outcome)
    }
}
