//! The queue: tasks that workers claim for a time, and what happens when a worker is not heard of again.
//!
//! A claim gives a lease and a fencing token (`fence`, the number of claims so far). A worker that was thought dead and
//! comes back finds that its token is stale, and nothing of what it did is written. So an item may be worked on twice,
//! but its result is written once. Leases are not looked at when tasks are claimed (that made claiming seven times
//! slower) but by a reaper of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{JobRecord, Settle, Store, StoreError};
use crate::job::{Job, JobId, Stage};

/// An item to be worked on.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Derived from the job and the item, so that an item found twice is one task.
    pub id: Uuid,
    pub stage: Stage,
    /// The item's place among those of its stage.
    pub ordinal: i32,
    payload: Value,
}

impl NewTask {
    /// A task for the item with this id; `payload` is what the stage needs to know.
    pub fn new(
        stage: Stage,
        ordinal: i32,
        id: Uuid,
        payload: &impl Serialize,
    ) -> Result<NewTask, StoreError> {
        let payload = serde_json::to_value(payload)
            .map_err(|error| StoreError::Corrupt { table: "tasks", detail: error.to_string() })?;
        Ok(NewTask { id, stage, ordinal, payload })
    }

    /// A task that looks a company up.
    pub fn company(job: JobId, ordinal: i32, item: &CompanyItem) -> Result<NewTask, StoreError> {
        NewTask::new(Stage::Company, ordinal, job.derive("company", &item.domain), item)
    }

    /// A task that reads a screenshot.
    pub fn read(job: JobId, ordinal: i32, screenshot_id: Uuid) -> Result<NewTask, StoreError> {
        let id = job.derive("ocr", &screenshot_id.to_string());
        NewTask::new(Stage::Ocr, ordinal, id, &ReadItem { screenshot_id })
    }
}

/// A company to be looked up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompanyItem {
    pub domain: String,
    /// Those that are looked up after it, one by one; the next one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
    /// Whether a person is asked if what was found is right.
    #[serde(default)]
    pub ask: bool,
}

/// A screenshot to be read.
#[derive(Serialize, Deserialize)]
pub struct ReadItem {
    pub screenshot_id: Uuid,
}

/// Where an item stands, for who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It waits for its turn.
    Open,
    Running,
    /// Nobody will work on it any more.
    Over,
}

/// The right to settle a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub task: Uuid,
    pub job: JobId,
    pub stage: Stage,
    /// The fencing token.
    pub fence: i64,
}

/// A task that this worker may work on until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub ordinal: i32,
    pub payload: Value,
    /// 1 for the first attempt.
    pub attempt: i32,
    /// Whether its job had not begun when it was claimed.
    pub begins: bool,
}

/// How much later an item's turn comes for each item of its job and stage that stands before it. More than most items
/// take, so that a small job's few items pass those of a big one; and the longer a big one's last items have stood
/// there, the fewer newcomers pass them.
const TURN: &str = "interval '5 seconds'";

impl Store {
    /// Where the reading with this id stands, and the screenshot that it reads.
    pub async fn reading(&self, id: Uuid) -> Result<Option<(TaskState, Uuid)>, StoreError> {
        let row = sqlx::query("SELECT state, payload FROM tasks WHERE id = $1 AND stage = $2")
            .bind(id)
            .bind(Stage::Ocr.word())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let state: String = row.try_get("state")?;
        let state = match state.as_str() {
            "waiting" | "ready" => TaskState::Open,
            "running" => TaskState::Running,
            _ => TaskState::Over,
        };
        let Json(item): Json<ReadItem> = row.try_get("payload")?;
        Ok(Some((state, item.screenshot_id)))
    }

    /// The stages that have ready tasks.
    pub async fn ready_stages(&self) -> Result<Vec<Stage>, StoreError> {
        let stages: Vec<&str> = Stage::ALL.iter().map(|stage| stage.word()).collect();
        let words: Vec<String> = sqlx::query_scalar(
            "SELECT stage FROM UNNEST($1::text[]) AS known (stage)
             WHERE EXISTS (SELECT FROM tasks
                           WHERE state = 'ready' AND tasks.stage = known.stage AND run_at <= now())",
        )
        .bind(&stages)
        .fetch_all(&self.pool)
        .await?;
        Ok(words.iter().filter_map(|word| Stage::from_word(word)).collect())
    }

    /// Claims up to `limit` ready tasks of a stage: by their jobs' priority, then by their turn (`due_at`), which is
    /// their age, and later for the further items of one job.
    pub async fn claim(
        &self,
        stage: Stage,
        limit: usize,
        node: Uuid,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let rows = sqlx::query(
            "WITH next AS (SELECT id FROM tasks WHERE state = 'ready' AND stage = $1 AND run_at <= now()
                           ORDER BY priority DESC, due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
             UPDATE tasks SET state = 'running', attempt = attempt + 1, fence = fence + 1, node = $3,
                    lease_until = now() + make_interval(secs => $4)
             FROM next WHERE tasks.id = next.id
             RETURNING tasks.*, (SELECT status = 'pending' FROM jobs WHERE jobs.id = tasks.job_id) AS begins",
        )
        .bind(stage.word())
        .bind(limit as i64)
        .bind(node)
        .bind(lease.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        let mut claimed: Vec<Claimed> = rows.iter().map(claimed).collect::<Result<_, _>>()?;
        claimed.sort_by_key(|task| task.ordinal);
        Ok(claimed)
    }

    /// Extends the leases of tasks at work and returns those that are still held.
    pub async fn heartbeat(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        let (ids, fences): (Vec<Uuid>, Vec<i64>) = leases.iter().map(|l| (l.task, l.fence)).unzip();
        // A row that is locked is being settled or cancelled; it counts as held until that is done.
        sqlx::query(
            "WITH mine AS (SELECT t.id FROM tasks t JOIN UNNEST($1::uuid[], $2::bigint[]) AS l (id, fence)
                           ON t.id = l.id AND t.fence = l.fence WHERE t.state = 'running'
                           ORDER BY t.id FOR UPDATE OF t SKIP LOCKED)
             UPDATE tasks SET lease_until = now() + make_interval(secs => $3) FROM mine WHERE tasks.id = mine.id",
        )
        .bind(&ids)
        .bind(&fences)
        .bind(lease.as_secs_f64())
        .execute(&self.pool)
        .await?;
        let held = sqlx::query_scalar(
            "SELECT t.id FROM tasks t JOIN UNNEST($1::uuid[], $2::bigint[]) AS l (id, fence)
             ON t.id = l.id AND t.fence = l.fence WHERE t.state = 'running'",
        )
        .bind(&ids)
        .bind(&fences)
        .fetch_all(&self.pool)
        .await?;
        Ok(held)
    }

    /// Those of these tasks whose work is to stop at once: their leases are lost, because their job has ended or another
    /// worker has them, or their job is paused and they are its crawl, which would go on for minutes.
    pub async fn to_stop(&self, leases: &[Lease]) -> Result<Vec<Uuid>, StoreError> {
        let (ids, fences): (Vec<Uuid>, Vec<i64>) = leases.iter().map(|l| (l.task, l.fence)).unzip();
        let stop = sqlx::query_scalar(
            "SELECT l.id FROM UNNEST($1::uuid[], $2::bigint[]) AS l (id, fence)
             LEFT JOIN tasks t ON t.id = l.id AND t.fence = l.fence AND t.state = 'running'
             LEFT JOIN jobs ON jobs.id = t.job_id
             WHERE t.id IS NULL OR (t.stage = 'crawl' AND jobs.status = 'paused')",
        )
        .bind(&ids)
        .bind(&fences)
        .fetch_all(&self.pool)
        .await?;
        Ok(stop)
    }

    /// Puts a task back to be tried again after a pause; false when the lease was lost.
    pub async fn retry_task(&self, lease: &Lease, pause: Duration, error: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(sqlx::AssertSqlSafe(format!(
            "WITH job AS ({JOB_OF_TASK})
             UPDATE tasks SET state = job.state, run_at = now() + make_interval(secs => $4), last_error = $5, node = NULL
             FROM job WHERE tasks.id = $1 AND fence = $2 AND tasks.state = 'running'"
        )))
        .bind(lease.task)
        .bind(lease.fence)
        .bind(lease.job.0)
        .bind(pause.as_secs_f64())
        .bind(error)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts interrupted tasks back with their attempt unspent.
    pub async fn hand_back(&self, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "WITH job AS ({JOB_OF_TASK})
             UPDATE tasks SET state = job.state, attempt = attempt - 1, node = NULL
             FROM job WHERE tasks.id = $1 AND fence = $2 AND tasks.state = 'running'"
        )))
        .bind(lease.task)
        .bind(lease.fence)
        .bind(lease.job.0)
        .execute(&self.pool)
        .await?;
        self.new_tasks.notify_waiters();
        Ok(())
    }

    /// Takes tasks whose lease has run out from their workers; those with attempts left are ready again, the others
    /// are returned under a new lease for the caller to give up.
    pub async fn reap(&self, max_attempts: i32, lease: Duration) -> Result<Vec<Claimed>, StoreError> {
        let rows = sqlx::query(
            "WITH lost AS (SELECT id, job_id FROM tasks WHERE state = 'running' AND lease_until < now()
                           ORDER BY id LIMIT 100),
                  held AS (SELECT id, slot = 'waits' OR status = 'paused' AS is_held FROM jobs
                           WHERE id IN (SELECT job_id FROM lost) ORDER BY id FOR SHARE)
             UPDATE tasks SET fence = fence + 1, node = NULL,
                    last_error = 'the worker was not heard of for longer than its lease',
                    state = CASE WHEN attempt >= $1 THEN 'running' WHEN is_held THEN 'waiting' ELSE 'ready' END,
                    lease_until = now() + make_interval(secs => $2)
             FROM lost JOIN held ON held.id = lost.job_id
             WHERE tasks.id = lost.id AND tasks.state = 'running' AND tasks.lease_until < now()
             RETURNING tasks.*, false AS begins",
        )
        .bind(max_attempts)
        .bind(lease.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        let mut spent = Vec::new();
        for row in &rows {
            if row.try_get::<String, _>("state")? == "running" {
                spent.push(claimed(row)?);
            }
        }
        if spent.len() < rows.len() {
            self.new_tasks.notify_waiters();
        }
        Ok(spent)
    }

    /// How many tasks wait for a worker, those of later phases among them.
    pub async fn pending_tasks(&self) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM tasks WHERE state IN ('waiting', 'ready')");
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// How many tasks of a stage wait and run.
    pub async fn load(&self, stage: Stage) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE state <> 'running'), count(*) FILTER (WHERE state = 'running')
             FROM tasks WHERE stage = $1 AND state IN ('waiting', 'ready', 'running')",
        )
        .bind(stage.word())
        .fetch_one(&self.pool)
        .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Makes tasks that a previous process of this data directory left running ready at once. Only the one process
    /// that owns an embedded database may do this: nobody else can be at work.
    pub async fn take_over(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE tasks SET fence = fence + 1, node = NULL, attempt = greatest(attempt - 1, 0),
                    last_error = 'the server stopped',
                    state = CASE WHEN slot = 'waits' OR status = 'paused' THEN 'waiting' ELSE 'ready' END
             FROM jobs WHERE jobs.id = tasks.job_id AND tasks.state = 'running'",
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

/// The state of a task ($3 its job) that is put back, with the job's row kept from changing meanwhile: a pause or an end
/// that comes later finds the task where it left it.
const JOB_OF_TASK: &str =
    "SELECT CASE WHEN slot = 'waits' OR status = 'paused' THEN 'waiting' ELSE 'ready' END AS state
                           FROM jobs WHERE id = $3 FOR SHARE";

/// Marks tasks as announced and returns those that were not.
pub(super) async fn first_starts(tx: &mut PgConnection, leases: &[&Lease]) -> Result<Vec<Uuid>, sqlx::Error> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, fences): (Vec<Uuid>, Vec<i64>) = leases.iter().map(|lease| (lease.task, lease.fence)).unzip();
    sqlx::query_scalar(
        "UPDATE tasks t SET announced = true FROM UNNEST($1::uuid[], $2::bigint[]) AS l (id, fence)
         WHERE t.id = l.id AND t.fence = l.fence AND t.state = 'running' AND NOT t.announced RETURNING t.id",
    )
    .bind(&ids)
    .bind(&fences)
    .fetch_all(tx)
    .await
}

/// Makes sure of a lease and notes what becomes of its task.
pub(super) async fn hold(tx: &mut PgConnection, lease: &Lease, settle: &Settle) -> Result<(), StoreError> {
    let (state, error) = match settle {
        Settle::Keep => ("running", None),
        Settle::Done => ("done", None),
        Settle::GiveUp(why) => ("failed", Some(why)),
    };
    let held = sqlx::query(
        "UPDATE tasks SET state = $3, last_error = coalesce($4, last_error),
                finished_at = CASE WHEN $3 <> 'running' THEN now() END
         WHERE id = $1 AND fence = $2 AND state = 'running'",
    )
    .bind(lease.task)
    .bind(lease.fence)
    .bind(state)
    .bind(error)
    .execute(tx)
    .await?;
    if held.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Fenced) }
}

/// Adds tasks; those of later phases and of a job that is held wait. Returns how many were new, by stage.
pub(super) async fn add(
    tx: &mut PgConnection,
    job: &Job,
    held: bool,
    new: impl Iterator<Item = &NewTask>,
) -> Result<Vec<(Stage, u32)>, StoreError> {
    let mut added: Vec<(Stage, u32)> = Vec::new();
    for task in new {
        let state = if !held && task.stage.phase() <= job.phase { "ready" } else { "waiting" };
        let more = added.iter().find(|(stage, _)| *stage == task.stage).map_or(0, |(_, count)| *count);
        let done = sqlx::query(sqlx::AssertSqlSafe(format!(
            "INSERT INTO tasks (id, job_id, stage, phase, ordinal, payload, state, priority, due_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9 * {TURN}) ON CONFLICT (id) DO NOTHING"
        )))
        .bind(task.id)
        .bind(job.id.0)
        .bind(task.stage.word())
        .bind(task.stage.phase().number())
        .bind(task.ordinal)
        .bind(&task.payload)
        .bind(state)
        .bind(job.priority.number())
        .bind(f64::from(job.tally(task.stage).open() + more))
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 1 {
            match added.iter_mut().find(|(stage, _)| *stage == task.stage) {
                Some((_, count)) => *count += 1,
                None => added.push((task.stage, 1)),
            }
        }
    }
    Ok(added)
}

/// Lets tasks follow their job: those of a phase that was reached are ready unless the job is held, those of a job that
/// ended are cancelled. Returns whether any became ready.
pub(super) async fn follow(
    tx: &mut PgConnection,
    before: &JobRecord,
    now: &JobRecord,
) -> Result<bool, StoreError> {
    let job = &now.job;
    if job.status.is_ended() {
        sqlx::query(
            "UPDATE tasks SET state = 'cancelled', fence = fence + 1, finished_at = now()
             WHERE job_id = $1 AND state IN ('waiting', 'ready', 'running')",
        )
        .bind(job.id.0)
        .execute(tx)
        .await?;
        return Ok(false);
    }
    if job.priority != before.job.priority {
        sqlx::query(
            "UPDATE tasks SET priority = $2 WHERE job_id = $1 AND state IN ('waiting', 'ready', 'running')",
        )
        .bind(job.id.0)
        .bind(job.priority.number())
        .execute(&mut *tx)
        .await?;
    }
    if now.is_held() {
        if !before.is_held() {
            sqlx::query("UPDATE tasks SET state = 'waiting' WHERE job_id = $1 AND state = 'ready'")
                .bind(job.id.0)
                .execute(tx)
                .await?;
        }
        return Ok(false);
    }
    if job.phase == before.job.phase && !before.is_held() {
        return Ok(false);
    }
    ready(tx, job).await
}

/// Makes the waiting tasks of the phases that a job has reached ready, in their order.
pub(super) async fn ready(tx: &mut PgConnection, job: &Job) -> Result<bool, StoreError> {
    let moved = sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE tasks SET state = 'ready', due_at = now() + turn * {TURN}
         FROM (SELECT id, row_number() OVER (PARTITION BY stage ORDER BY ordinal, id) - 1 AS turn FROM tasks
               WHERE job_id = $1 AND phase <= $2 AND state = 'waiting') AS queue
         WHERE tasks.id = queue.id"
    )))
    .bind(job.id.0)
    .bind(job.phase.number())
    .execute(tx)
    .await?;
    Ok(moved.rows_affected() > 0)
}

fn claimed(row: &PgRow) -> Result<Claimed, StoreError> {
    let stage: String = row.try_get("stage")?;
    let stage = Stage::from_word(&stage)
        .ok_or_else(|| StoreError::Corrupt { table: "tasks", detail: format!("stage {stage:?}") })?;
    Ok(Claimed {
        lease: Lease {
            task: row.try_get("id")?,
            job: JobId(row.try_get("job_id")?),
            stage,
            fence: row.try_get("fence")?,
        },
        ordinal: row.try_get("ordinal")?,
        payload: row.try_get::<Json<Value>, _>("payload")?.0,
        attempt: row.try_get("attempt")?,
        begins: row.try_get("begins")?,
    })
}
