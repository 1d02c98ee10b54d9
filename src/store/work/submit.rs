//! New jobs for workers, and jobs that try one that has ended again.

use chrono::Utc;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _, types::Json};
use uuid::Uuid;

use super::kinds::Rules;
use crate::{
    event::{Anything, JobPatched, JobType},
    job::{
        ANONYMOUS, Code, Command, Job, JobId, Plan, Priority, Rejection, Status,
        work::{MAX_DOCUMENT, check_object, check_text},
    },
    store::{
        Artifact, JobRecord, NewJob, OnceKey, Reserve, Row, Store, StoreError, Submitted, change::Working,
        credits, idempotency, jobs, retry,
    },
};

const MAX_NAME: usize = 200;
/// How much later a job's turn comes for each job of its owner that stands before it, so that whoever has many leaves
/// room for whoever has few.
const TURN: &str = "interval '5 seconds'";
/// Jobs of one owner that are counted for that.
const COUNTED: i64 = 1000;

/// A job for workers outside of this server.
#[derive(Clone, Debug)]
pub struct NewWork {
    pub id: JobId,
    pub kind: String,
    pub name: String,
    pub owner: String,
    /// What is asked; never changes.
    pub input: Map<String, Value>,
    /// What its pipeline shows of its state before anybody has begun.
    pub document: Map<String, Value>,
    pub priority: Priority,
    /// `None` for as many as its kind has.
    pub max_attempts: Option<i32>,
    /// Objects that came with it, and their names.
    pub artifacts: Vec<(String, Artifact)>,
    /// A job whose files it has, too.
    pub same_files_as: Option<JobId>,
    /// Whether it waits for somebody to resume it.
    pub is_paused: bool,
    /// What it costs its owner, where jobs do.
    pub reserve: Option<Reserve>,
}

impl NewWork {
    /// A job that asks for nothing in particular.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> NewWork {
        NewWork {
            id: JobId(Uuid::now_v7()),
            kind: kind.into(),
            name: name.into(),
            owner: ANONYMOUS.into(),
            input: Map::new(),
            document: Map::new(),
            priority: Priority::default(),
            max_attempts: None,
            artifacts: Vec::new(),
            same_files_as: None,
            is_paused: false,
            reserve: None,
        }
    }

    fn check(&self) -> Result<(), Rejection> {
        let invalid = |message: &str| Err(Rejection::new(Code::InvalidRequest, message));
        check_text("name", Some(&self.name), MAX_NAME)?;
        if self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            return invalid("name must be a text without control characters.");
        }
        check_object("input", &self.input, MAX_DOCUMENT)?;
        check_object("document", &self.document, MAX_DOCUMENT)?;
        if self.max_attempts.is_some_and(|attempts| !(1..=100).contains(&attempts)) {
            return invalid("maxAttempts must be from 1 to 100.");
        }
        Ok(())
    }
}

impl Store {
    /// Accepts a job for workers; under a key, a request that comes again is answered with the job that it made before.
    ///
    /// # Errors
    /// A rejection that names what is wrong; [`Code::TooMany`] when as many jobs of the kind wait as may;
    /// [`Code::KeyReused`].
    pub async fn submit_work(&self, new: NewWork, once: Option<&OnceKey>) -> Result<Submitted, StoreError> {
        loop {
            if let Some(once) = once
                && let Some(job) = self.made_under(&new.owner, once).await?
            {
                return Ok(Submitted { job, replayed: true });
            }
            let mut tx = self.pool.begin().await?;
            let state = self.accept_work(&mut tx, &new).await?;
            if let Some(reserve) = &new.reserve {
                credits::reserve(&mut tx, &new.owner, new.id, reserve).await?;
            }
            if let Some(once) = once
                && !idempotency::claim(&mut tx, &new.owner, once, new.id, self.keep_keys).await?
            {
                // The same request came twice at once, and the other one was faster.
                tx.rollback().await?;
                continue;
            }
            self.finish(tx, state).await?;
            self.work.wake(&new.kind);
            return Ok(Submitted { job: new.id, replayed: false });
        }
    }

    /// Accepts a job for workers in a transaction that does more, and that whoever began it finishes.
    pub(in crate::store) async fn accept_work(
        &self,
        tx: &mut PgConnection,
        new: &NewWork,
    ) -> Result<Working, StoreError> {
        new.check()?;
        let rules = self.work_rules(tx, &new.kind).await?;
        refuse_too_many(tx, &new.kind, rules.max_waiting).await?;
        accept(tx, new, &rules).await
    }
}

async fn refuse_too_many(tx: &mut PgConnection, kind: &str, most: i64) -> Result<(), StoreError> {
    let waiting: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM work WHERE kind = $1 AND state = 'ready' LIMIT $2) AS counted",
    )
    .bind(kind)
    .bind(most)
    .fetch_one(tx)
    .await?;
    if waiting < most {
        return Ok(());
    }
    let message = format!(
        "{most} jobs of the kind {kind} wait for a worker already; start workers or try again later."
    );
    Err(Rejection::new(Code::TooMany, message).into())
}

async fn accept(tx: &mut PgConnection, new: &NewWork, rules: &Rules) -> Result<Working, StoreError> {
    let job = NewJob {
        kind: Some(new.kind.clone()),
        owner: new.owner.clone(),
        priority: new.priority,
        rows: new.artifacts.iter().map(|(_, artifact)| Row::Artifact(artifact.clone())).collect(),
        ..NewJob::unplanned(new.id, JobType::Work, new.name.trim())
    };
    let mut state = jobs::accept(tx, job).await?;
    let row = Begin {
        kind: &new.kind,
        input: &Value::Object(new.input.clone()),
        initial: &Value::Object(new.document.clone()),
        max_attempts: new.max_attempts.unwrap_or(rules.max_attempts),
        retries: 0,
        lease_seconds: rules.lease_seconds,
    };
    row.write(tx, &mut state, &new.owner).await?;
    for (name, artifact) in &new.artifacts {
        super::artifacts::name(tx, new.id, name, &artifact.key).await?;
    }
    if let Some(other) = new.same_files_as {
        share_files(tx, other, new.id).await?;
    }
    if new.is_paused {
        state.run(Command::Pause)?;
    }
    Ok(state)
}

/// A row in `work` before anybody has begun.
struct Begin<'a> {
    kind: &'a str,
    input: &'a Value,
    initial: &'a Value,
    max_attempts: i32,
    retries: i32,
    lease_seconds: i32,
}

impl Begin<'_> {
    async fn write(self, tx: &mut PgConnection, state: &mut Working, owner: &str) -> Result<(), StoreError> {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "INSERT INTO work (job_id, kind, state, priority, due_at, input, initial, document, max_attempts, retries,
                               lease_seconds)
             SELECT $1, $2, 'ready', $3,
                    now() + {TURN} * (SELECT count(*) FROM (
                        SELECT FROM work JOIN jobs ON jobs.id = work.job_id
                        WHERE work.kind = $2 AND work.state IN ('ready', 'running') AND jobs.owner = $9
                        LIMIT {COUNTED}) AS standing),
                    $4, $5, $5, $6, $7, $8"
        )))
        .bind(state.id().0)
        .bind(self.kind)
        .bind(state.job().priority.number())
        .bind(Json(self.input))
        .bind(Json(self.initial))
        .bind(self.max_attempts)
        .bind(self.retries)
        .bind(self.lease_seconds)
        .bind(owner)
        .execute(tx)
        .await?;
        if self.initial.as_object().is_some_and(|fields| !fields.is_empty()) {
            state.tell(JobPatched { patch: Anything(self.initial.clone()) }.into());
        }
        Ok(())
    }
}

/// Makes the job, with the id given, that tries again what one that has ended without results was asked: it begins anew,
/// with the same input, files and number. Returns its kind, too.
pub(crate) async fn succeed(
    tx: &mut PgConnection,
    old: JobRecord,
    to: JobId,
) -> Result<(Working, String), StoreError> {
    let from = old.job.id;
    let Some(kind) = old.kind.clone() else { return Err(Rejection::nothing_to_retry(from).into()) };
    if !matches!(old.job.status, Status::Failed | Status::Cancelled) {
        let message = format!(
            "Job {from} is {}; only one that failed or was cancelled can be tried again.",
            old.job.status.word()
        );
        return Err(Rejection::new(Code::NothingToRetry, message).into());
    }
    retry::refuse_second(tx, from).await?;
    let row = sqlx::query(
        "SELECT input, initial, max_attempts, retries, lease_seconds FROM work WHERE job_id = $1",
    )
    .bind(from.0)
    .fetch_one(&mut *tx)
    .await?;
    let mut job = Job::new(to, JobType::Work, old.job.name.clone(), Plan::default(), 0);
    job.priority = old.job.priority;
    // The number names the newest attempt.
    sqlx::query("UPDATE jobs SET number = NULL WHERE id = $1").bind(from.0).execute(&mut *tx).await?;
    let mut record = JobRecord::new(job, None, old.owner.clone(), Utc::now());
    record.retry_of = Some(from);
    record.kind = Some(kind.clone());
    record.number = old.number;
    jobs::insert(tx, &mut record).await?;
    let mut state = Working::new(record);
    state.run(Command::Create)?;
    let begin = Begin {
        kind: &kind,
        input: &row.try_get::<Json<Value>, _>("input")?.0,
        initial: &row.try_get::<Json<Value>, _>("initial")?.0,
        max_attempts: row.try_get("max_attempts")?,
        retries: row.try_get::<i32, _>("retries")? + 1,
        lease_seconds: row.try_get("lease_seconds")?,
    };
    begin.write(tx, &mut state, &old.owner).await?;
    credits::reserve_again(tx, &old.owner, from, to).await?;
    share_files(tx, from, to).await?;
    state.run(Command::Tell { what: format!("Job {from} is tried again") })?;
    Ok((state, kind))
}

/// Gives a job the files of another one, under their names; the objects stay one.
async fn share_files(tx: &mut PgConnection, from: JobId, to: JobId) -> Result<(), StoreError> {
    sqlx::query(
        "WITH taken AS (INSERT INTO work_artifacts (job_id, name, key)
                        SELECT $2, name, key FROM work_artifacts WHERE job_id = $1
                        ON CONFLICT DO NOTHING RETURNING key)
         INSERT INTO artifact_uses (key, job_id) SELECT DISTINCT key, $2 FROM taken",
    )
    .bind(from.0)
    .bind(to.0)
    .execute(tx)
    .await?;
    Ok(())
}
