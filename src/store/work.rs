//! Jobs that workers outside of this server do: the queue that they claim from, their leases, and what they report.
//!
//! A claim gives a lease and a fencing token, as a task's does ([`tasks`](super::tasks)): a worker that was thought dead
//! and comes back is told that it has lost the job, and nothing of what it says is written. What it reports is one
//! transaction a request, and a request that is repeated under its id is answered as before.
//!
//! A job's *document* is what its pipeline shows of its state. It begins as `{}` and is changed by merge patches alone,
//! each of which is an event; so whoever folds a job's events has its document at any seq.

mod artifacts;
mod claim;
mod kinds;
mod list;
mod submit;

use std::time::Duration;

use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

pub use artifacts::StoredArtifact;
pub use claim::{ClaimedWork, Waiting};
pub use kinds::{Kind, KindChange};
pub use list::{WorkFilter, WorkSort};
pub use submit::NewWork;
pub(super) use submit::succeed;

use super::{JobRecord, Store, StoreError, change::Working, jobs, verify};
use crate::{
    event::{Anything, JobPatched, Timestamp},
    job::{
        Code, Command, Failure, JobId, Rejection, Report, Status, merge_patch,
        work::{self as rules, MAX_DOCUMENT},
    },
};

/// Requests of one job that are remembered.
const REQUESTS: i64 = 500;
/// The longest wait before another attempt.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// A job of a kind, with all that is known of it.
#[derive(Clone, Debug)]
pub struct WorkRecord {
    pub record: JobRecord,
    pub kind: String,
    /// Its number; the newest retry of a job has it.
    pub number: Option<i64>,
    /// What was asked; never changes.
    pub input: Value,
    /// What its pipeline shows of its state.
    pub document: Value,
    /// 0 before its first claim.
    pub attempt: i32,
    pub max_attempts: i32,
    /// How many jobs before it tried the same.
    pub retries: i32,
    /// Who has it, or had it last.
    pub worker: Option<String>,
    /// The last sentence that its worker told.
    pub message: Option<String>,
    /// When its worker was last heard of.
    pub heartbeat_at: Option<Timestamp>,
    /// Why its last attempt came to nothing.
    pub last_error: Option<String>,
}

/// The right to report on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkLease {
    pub job: JobId,
    /// The fencing token.
    pub fence: i64,
}

/// The id of a worker's request, and what is asked under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    pub id: String,
    /// A fingerprint of the request; another one under the same id is refused.
    pub request: String,
}

/// How a worker is done with a job.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkOutcome {
    Finished(Map<String, Value>),
    /// Another attempt follows if there is one left and `retry` says so.
    Failed {
        error: String,
        retry: bool,
    },
    /// It hands the job back with its attempt unspent.
    Released,
}

/// What a worker's request is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub answer: Value,
    /// Whether the request had been made before.
    pub replayed: bool,
}

/// A job's row in `work`, locked.
struct Held {
    job: JobId,
    kind: String,
    state: String,
    fence: i64,
    attempt: i32,
    max_attempts: i32,
    document: Value,
    worker: Option<String>,
    message: Option<String>,
    last_error: Option<String>,
    requests: i64,
}

impl Store {
    /// Writes what a worker reports, and how it is done with the job if it is.
    ///
    /// # Errors
    /// [`Code::Fenced`] when the job is another worker's by now; [`Code::JobEnded`]; [`Code::KeyReused`]; a rejection
    /// that names the report that may not be told. Nothing is written then.
    pub async fn report(
        &self,
        lease: &WorkLease,
        request: Option<&RequestKey>,
        reports: Vec<Report>,
        outcome: Option<WorkOutcome>,
    ) -> Result<Answered, StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, lease.job).await?;
        let mut held = lock(&mut tx, lease.job).await?;
        if let Some(request) = request
            && let Some(answer) = answered(&mut tx, lease.job, request).await?
        {
            return Ok(Answered { answer, replayed: true });
        }
        held.check(&record, lease)?;
        let prefix = kinds::prefix(&mut tx, &held.kind).await?;
        let mut state = Working::new(record);
        for report in reports {
            report.check(&prefix)?;
            held.take(&mut state, &prefix, report)?;
        }
        refuse_unknown_objects(&mut tx, &state).await?;
        let backoff = match outcome {
            Some(outcome) => held.settle(&mut state, outcome, self.work.settings.retry_backoff)?,
            None => None,
        };
        let answer = json!({
            "ok": true,
            "seq": state.seq(),
            "status": state.job().status.word(),
            "state": told_state(state.job().status),
        });
        if let Some(request) = request {
            held.requests += 1;
            remember(&mut tx, &held, request, &answer).await?;
        }
        held.write(&mut tx, backoff).await?;
        let (kind, is_ready) = (held.kind.clone(), held.state == "ready");
        self.finish(tx, state).await?;
        if is_ready && backoff.is_none() {
            self.work.wake(&kind);
        }
        Ok(Answered { answer, replayed: false })
    }

    /// Extends a lease and tells whether the worker is to go on: `run`, `pause` or `cancel`.
    ///
    /// # Errors
    /// [`Code::Fenced`] when the job is another worker's by now.
    pub async fn work_heartbeat(&self, lease: &WorkLease) -> Result<(&'static str, Duration), StoreError> {
        let row = sqlx::query(
            "UPDATE work SET lease_until = now() + make_interval(secs => lease_seconds), heartbeat_at = now()
             FROM jobs WHERE jobs.id = job_id AND job_id = $1 AND fence = $2 AND state = 'running'
             RETURNING status, lease_seconds",
        )
        .bind(lease.job.0)
        .bind(lease.fence)
        .fetch_optional(&self.pool)
        .await?;
        if let Some(row) = row {
            let seconds: i32 = row.try_get("lease_seconds")?;
            return Ok((told_state(jobs::status(&row)?), Duration::from_secs(seconds.unsigned_abs().into())));
        }
        let row = sqlx::query(
            "SELECT fence, status, lease_seconds FROM work JOIN jobs ON jobs.id = job_id WHERE job_id = $1",
        )
        .bind(lease.job.0)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Rejection::job_not_found(lease.job))?;
        // Who had a job at its end is told of it.
        match (row.try_get::<i64, _>("fence")? == lease.fence, jobs::status(&row)?) {
            (true, status) if status.is_ended() => Ok(("cancel", Duration::ZERO)),
            _ => Err(Rejection::fenced(lease.job).into()),
        }
    }

    /// Changes a job's document on behalf of somebody who is not its worker. What is changed before anybody has begun is
    /// what a retry of the job begins with, too.
    ///
    /// # Errors
    /// [`Code::JobEnded`]; a rejection when it becomes too large.
    pub async fn patch_work(&self, id: JobId, patch: Map<String, Value>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, id).await?;
        let mut held = lock(&mut tx, id).await?;
        if record.job.status.is_ended() {
            return Err(ended(&record).into());
        }
        let mut state = Working::new(record);
        rules::check_object("patch", &patch, MAX_DOCUMENT)?;
        held.patch(&mut state, patch)?;
        held.write(&mut tx, None).await?;
        sqlx::query("UPDATE work SET initial = document WHERE job_id = $1 AND worker IS NULL")
            .bind(id.0)
            .execute(&mut *tx)
            .await?;
        self.finish(tx, state).await.map(drop)
    }

    /// Takes jobs whose lease has run out from their workers, and wakes who waits for jobs that are ready. Returns how
    /// many were taken.
    pub async fn sweep_work(&self) -> Result<u64, StoreError> {
        let lost: Vec<Uuid> = sqlx::query_scalar(
            "SELECT job_id FROM work WHERE state = 'running' AND lease_until < now() ORDER BY lease_until LIMIT 100",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut taken = 0;
        for job in lost {
            taken += u64::from(self.take_from_lost_worker(JobId(job)).await?);
        }
        self.wake_for_ready_work().await?;
        Ok(taken)
    }

    async fn take_from_lost_worker(&self, id: JobId) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = match jobs::lock(&mut tx, id).await {
            // It was removed since.
            Err(StoreError::Rejected(_)) => return Ok(false),
            other => other?,
        };
        let mut held = lock(&mut tx, id).await?;
        let is_lost: bool = sqlx::query_scalar(
            "SELECT state = 'running' AND lease_until < now() FROM work WHERE job_id = $1",
        )
        .bind(id.0)
        .fetch_one(&mut *tx)
        .await?;
        if !is_lost || record.job.status.is_ended() {
            return Ok(false);
        }
        let worker = held.worker.as_deref().unwrap_or("its worker").to_owned();
        let error = format!("{worker} was not heard of for longer than its lease");
        let mut state = Working::new(record);
        held.fence += 1;
        let lost = WorkOutcome::Failed { error, retry: true };
        // Nobody is there who would fail again at once.
        held.settle(&mut state, lost, Duration::ZERO)?;
        held.write(&mut tx, None).await?;
        let (kind, is_ready) = (held.kind.clone(), held.state == "ready");
        self.finish(tx, state).await?;
        if is_ready {
            self.work.wake(&kind);
        }
        Ok(true)
    }

    /// Gives workers whose lease ran out while no server was there to be told of their life as long as a lease lasts.
    pub async fn extend_leases(&self) -> Result<u64, StoreError> {
        let extended = sqlx::query(
            "UPDATE work SET lease_until = now() + make_interval(secs => lease_seconds)
             WHERE state = 'running' AND lease_until < now()",
        )
        .execute(&self.pool)
        .await?;
        Ok(extended.rows_affected())
    }
}

impl Held {
    fn check(&self, record: &JobRecord, lease: &WorkLease) -> Result<(), Rejection> {
        if record.job.status.is_ended() {
            return Err(ended(record));
        }
        if self.state != "running" || self.fence != lease.fence {
            return Err(Rejection::fenced(lease.job));
        }
        Ok(())
    }

    fn take(&mut self, state: &mut Working, prefix: &str, report: Report) -> Result<(), StoreError> {
        match report {
            Report::Progress { progress, step, message } => {
                if message.is_some() {
                    self.message.clone_from(&message);
                }
                state.run(Command::Advance { progress, step, message })?;
            }
            Report::Log { level, message, source } => {
                state.tell(rules::log(level, message.clone(), source));
            }
            Report::Patch { patch } => self.patch(state, patch)?,
            Report::Event { name, data } => state.tell(rules::event(prefix, &name, &data)?),
        }
        Ok(())
    }

    fn patch(&mut self, state: &mut Working, patch: Map<String, Value>) -> Result<(), StoreError> {
        if patch.is_empty() {
            return Ok(());
        }
        let patch = Value::Object(patch);
        merge_patch(&mut self.document, &patch);
        if let Value::Object(document) = &self.document {
            rules::check_object("The job's document", document, MAX_DOCUMENT)?;
        }
        state.tell(JobPatched { patch: Anything(patch) }.into());
        Ok(())
    }

    /// Ends the worker's hold on the job; returns how long the next attempt is to wait.
    fn settle(
        &mut self,
        state: &mut Working,
        outcome: WorkOutcome,
        backoff: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        match outcome {
            WorkOutcome::Finished(result) => {
                state.conclude(Value::Object(result));
                state.run(Command::Complete)?;
                self.state = "ended".into();
                Ok(None)
            }
            WorkOutcome::Failed { error, retry } if retry && self.attempt < self.max_attempts => {
                let (next, most) = (self.attempt + 1, self.max_attempts);
                self.last_error = Some(error.clone());
                self.put_back(state, format!("{error}; attempt {next} of {most} follows"))?;
                let doubled =
                    backoff.saturating_mul(1 << (self.attempt - 1).clamp(0, 16)).min(LONGEST_BACKOFF);
                Ok(Some(doubled).filter(|pause| !pause.is_zero()))
            }
            WorkOutcome::Failed { error, retry } => {
                let error = match (retry, self.attempt) {
                    (true, tried @ 2..) => format!("{error} (after {tried} attempts)"),
                    _ => error,
                };
                state.run(Command::Fail { failure: Failure { error, phase: None } })?;
                self.state = "ended".into();
                Ok(None)
            }
            WorkOutcome::Released => {
                let who = self.worker.as_deref().unwrap_or("its worker");
                let why = format!("Handed back by {who}");
                self.attempt -= 1;
                self.put_back(state, why)?;
                Ok(None)
            }
        }
    }

    fn put_back(&mut self, state: &mut Working, why: String) -> Result<(), StoreError> {
        self.message = Some(why.clone());
        state.run(Command::Requeue { why })?;
        let is_paused = state.job().status == Status::Paused;
        self.state = if is_paused { "waiting" } else { "ready" }.into();
        Ok(())
    }

    async fn write(&self, tx: &mut PgConnection, backoff: Option<Duration>) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE work SET state = $2, fence = $3, attempt = $4, document = $5, message = $6, requests = $7,
                    run_at = CASE WHEN $8::float8 IS NULL THEN run_at ELSE now() + make_interval(secs => $8) END,
                    lease_until = CASE WHEN $2 = 'running'
                                       THEN greatest(lease_until, now() + make_interval(secs => lease_seconds)) END,
                    heartbeat_at = CASE WHEN state = 'running' THEN now() ELSE heartbeat_at END,
                    last_error = $9
             WHERE job_id = $1",
        )
        .bind(self.job.0)
        .bind(&self.state)
        .bind(self.fence)
        .bind(self.attempt)
        .bind(Json(&self.document))
        .bind(&self.message)
        .bind(self.requests)
        .bind(backoff.map(|pause| pause.as_secs_f64()))
        .bind(&self.last_error)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// What the worker of a job with this status is to do.
fn told_state(status: Status) -> &'static str {
    match status {
        Status::Paused => "pause",
        status if status.is_ended() => "cancel",
        _ => "run",
    }
}

fn ended(record: &JobRecord) -> Rejection {
    let word = record.job.status.word();
    Rejection::new(
        Code::JobEnded,
        format!("Job {} has ended ({word}); drop the work and claim again.", record.job.id),
    )
}

/// Reads a job's row in `work` and keeps others from changing it; its row in `jobs` is locked already.
async fn lock(tx: &mut PgConnection, job: JobId) -> Result<Held, StoreError> {
    let row = sqlx::query("SELECT * FROM work WHERE job_id = $1 FOR UPDATE")
        .bind(job.0)
        .fetch_optional(tx)
        .await?
        .ok_or_else(|| Rejection::job_not_found(job))?;
    Ok(Held {
        job,
        kind: row.try_get("kind")?,
        state: row.try_get("state")?,
        fence: row.try_get("fence")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        document: row.try_get::<Json<Value>, _>("document")?.0,
        worker: row.try_get("worker")?,
        message: row.try_get("message")?,
        last_error: row.try_get("last_error")?,
        requests: row.try_get("requests")?,
    })
}

/// Lets a job's place in the queue follow its status and priority. Returns whether it may be claimed from now on.
pub(super) async fn follow(
    tx: &mut PgConnection,
    before: &JobRecord,
    now: &JobRecord,
) -> Result<bool, StoreError> {
    let (was, is) = (before.job.status, now.job.status);
    let moved = is.is_ended() || (was == Status::Paused) != (is == Status::Paused);
    if now.kind.is_none() || (!moved && before.job.priority == now.job.priority) {
        return Ok(false);
    }
    let state: Option<String> = sqlx::query_scalar(
        "UPDATE work SET priority = $2, lease_until = CASE WHEN $3 THEN NULL ELSE lease_until END,
                state = CASE WHEN $3 THEN 'ended' WHEN $4 AND state = 'ready' THEN 'waiting'
                             WHEN NOT $4 AND state = 'waiting' THEN 'ready' ELSE state END
         WHERE job_id = $1 RETURNING state",
    )
    .bind(now.job.id.0)
    .bind(now.job.priority.number())
    .bind(is.is_ended())
    .bind(is == Status::Paused)
    .fetch_optional(tx)
    .await?;
    Ok(state.as_deref() == Some("ready"))
}

/// The answer that a request was given before.
async fn answered(
    tx: &mut PgConnection,
    job: JobId,
    request: &RequestKey,
) -> Result<Option<Value>, StoreError> {
    let row = sqlx::query("SELECT request, answer FROM work_requests WHERE job_id = $1 AND id = $2")
        .bind(job.0)
        .bind(&request.id)
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<String, _>("request")? != request.request {
        let message = "This requestId was used for another request; take a new one.";
        return Err(Rejection::new(Code::KeyReused, message).into());
    }
    Ok(Some(row.try_get::<Json<Value>, _>("answer")?.0))
}

async fn remember(
    tx: &mut PgConnection,
    held: &Held,
    request: &RequestKey,
    answer: &Value,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO work_requests (job_id, id, ordinal, request, answer) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(held.job.0)
    .bind(&request.id)
    .bind(held.requests)
    .bind(&request.request)
    .bind(Json(answer))
    .execute(&mut *tx)
    .await?;
    if held.requests > REQUESTS {
        sqlx::query("DELETE FROM work_requests WHERE job_id = $1 AND ordinal <= $2")
            .bind(held.job.0)
            .bind(held.requests - REQUESTS)
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// No event names an object of its job that nobody has stored: pages could not load it.
async fn refuse_unknown_objects(tx: &mut PgConnection, state: &Working) -> Result<(), StoreError> {
    let (job, now) = (state.id(), chrono::Utc::now());
    let named: Vec<String> = state
        .told()
        .iter()
        .flat_map(|event| verify::keys_named(job, event.encode(Some(job), now).get()))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let unknown: Option<String> = sqlx::query_scalar(
        "SELECT key FROM UNNEST($1::text[]) AS named (key)
         WHERE NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = named.key) LIMIT 1",
    )
    .bind(&named)
    .fetch_optional(tx)
    .await?;
    match unknown {
        None => Ok(()),
        Some(key) => {
            let message = format!("{key} is no object of this job; store it first.");
            Err(Rejection::new(Code::InvalidRequest, message).into())
        }
    }
}

/// What a job of a kind is read with; `work`'s columns do not collide with those of `jobs`.
const SELECT: &str =
    "SELECT jobs.*, w.input, w.document, w.attempt, w.max_attempts, w.retries, w.worker, w.message,
                             w.heartbeat_at, w.last_error, w.fence, w.lease_seconds
                      FROM jobs JOIN work w ON w.job_id = jobs.id";

fn work_record(row: &PgRow) -> Result<WorkRecord, StoreError> {
    let record = jobs::record(row)?;
    let kind = record.kind.clone();
    Ok(WorkRecord {
        kind: kind.ok_or_else(|| StoreError::Corrupt {
            table: "jobs",
            detail: "a job of work has no kind".into(),
        })?,
        number: record.number,
        input: row.try_get::<Json<Value>, _>("input")?.0,
        document: row.try_get::<Json<Value>, _>("document")?.0,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        retries: row.try_get("retries")?,
        worker: row.try_get("worker")?,
        message: row.try_get("message")?,
        heartbeat_at: row.try_get("heartbeat_at")?,
        last_error: row.try_get("last_error")?,
        record,
    })
}
