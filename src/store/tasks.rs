//! The queue: tasks that workers claim for a time, and what happens when a worker is not heard of again.
//!
//! A claim gives a lease and a fencing token (`fence`, the number of claims so far). A worker that was thought dead and
//! comes back finds that its token is stale, and nothing of what it did is written. So an item may be worked on twice,
//! but its result is written once. Leases are not looked at when tasks are claimed (that made claiming seven times
//! slower) but by a reaper of its own.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Settle, Store, StoreError};
use crate::job::{JobId, Phase, Stage};

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
}

impl Store {
    /// The stages that have ready tasks.
    pub async fn ready_stages(&self) -> Result<Vec<Stage>, StoreError> {
        let words: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT stage FROM tasks WHERE state = 'ready' AND run_at <= now()")
                .fetch_all(&self.pool)
                .await?;
        Ok(words.iter().filter_map(|word| Stage::from_word(word)).collect())
    }

    /// Claims up to `limit` ready tasks of a stage, oldest first.
    pub async fn claim(
        &self,
        stage: Stage,
        limit: usize,
        node: Uuid,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let rows = sqlx::query(
            "WITH next AS (SELECT id FROM tasks WHERE state = 'ready' AND stage = $1 AND run_at <= now()
                           ORDER BY run_at, ordinal LIMIT $2 FOR UPDATE SKIP LOCKED)
             UPDATE tasks SET state = 'running', attempt = attempt + 1, fence = fence + 1, node = $3,
                    lease_until = now() + make_interval(secs => $4)
             FROM next WHERE tasks.id = next.id
             RETURNING tasks.*",
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

    /// Puts a task back to be tried again after a pause; false when the lease was lost.
    pub async fn retry_task(&self, lease: &Lease, pause: Duration, error: &str) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE tasks SET state = 'ready', run_at = now() + make_interval(secs => $3), last_error = $4, node = NULL
             WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(lease.task)
        .bind(lease.fence)
        .bind(pause.as_secs_f64())
        .bind(error)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Puts interrupted tasks back with their attempt unspent.
    pub async fn hand_back(&self, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE tasks SET state = 'ready', attempt = attempt - 1, node = NULL
             WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(lease.task)
        .bind(lease.fence)
        .execute(&self.pool)
        .await?;
        self.new_tasks.notify_waiters();
        Ok(())
    }

    /// Takes tasks whose lease has run out from their workers; those with attempts left are ready again, the others
    /// are returned under a new lease for the caller to give up.
    pub async fn reap(&self, max_attempts: i32, lease: Duration) -> Result<Vec<Claimed>, StoreError> {
        let rows = sqlx::query(
            "WITH lost AS (SELECT id FROM tasks WHERE state = 'running' AND lease_until < now()
                           ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)
             UPDATE tasks SET fence = fence + 1, node = NULL,
                    last_error = 'the worker was not heard of for longer than its lease',
                    state = CASE WHEN attempt < $1 THEN 'ready' ELSE 'running' END,
                    lease_until = now() + make_interval(secs => $2)
             FROM lost WHERE tasks.id = lost.id
             RETURNING tasks.*",
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

    /// Makes tasks that a previous process of this data directory left running ready at once. Only the one process
    /// that owns an embedded database may do this: nobody else can be at work.
    pub async fn take_over(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE tasks SET state = 'ready', fence = fence + 1, node = NULL, attempt = greatest(attempt - 1, 0),
                    last_error = 'the server stopped' WHERE state = 'running'",
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}

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

/// Adds tasks; those of later phases wait. Returns how many were new, by stage.
pub(super) async fn add(
    tx: &mut PgConnection,
    job: JobId,
    phase: Phase,
    new: impl Iterator<Item = &NewTask>,
) -> Result<Vec<(Stage, u32)>, StoreError> {
    let mut added: Vec<(Stage, u32)> = Vec::new();
    for task in new {
        let state = if task.stage.phase() <= phase { "ready" } else { "waiting" };
        let done = sqlx::query(
            "INSERT INTO tasks (id, job_id, stage, phase, ordinal, payload, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        )
        .bind(task.id)
        .bind(job.0)
        .bind(task.stage.word())
        .bind(task.stage.phase().number())
        .bind(task.ordinal)
        .bind(&task.payload)
        .bind(state)
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

/// Lets tasks follow their job: those of a phase that was reached are ready, those of a job that ended are cancelled.
/// Returns whether any became ready.
pub(super) async fn follow_phase(
    tx: &mut PgConnection,
    job: JobId,
    before: Phase,
    now: Phase,
    ended: bool,
) -> Result<bool, StoreError> {
    if ended {
        sqlx::query(
            "UPDATE tasks SET state = 'cancelled', fence = fence + 1, finished_at = now()
             WHERE job_id = $1 AND state IN ('waiting', 'ready', 'running')",
        )
        .bind(job.0)
        .execute(tx)
        .await?;
        return Ok(false);
    }
    if now == before {
        return Ok(false);
    }
    let moved =
        sqlx::query("UPDATE tasks SET state = 'ready', run_at = now() WHERE job_id = $1 AND phase <= $2 AND state = 'waiting'")
            .bind(job.0)
            .bind(now.number())
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
    })
}
