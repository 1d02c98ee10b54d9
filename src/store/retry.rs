//! Trying failed items again, and only those.
//!
//! A job that goes on takes its failed items back into its queue. A job that has ended stays as it is, for no event may
//! follow a terminal one: a new job (`retry_of`) takes over all that succeeded, as rows of its own that name the same
//! objects, and its queue holds what failed or was not come to; what follows from those items follows as ever.

use std::collections::{BTreeMap, HashMap};

use chrono::Utc;
use serde_json::Value;
use sqlx::{PgConnection, Row as _, types::Json};
use uuid::Uuid;

use super::{JobRecord, Slot, Store, StoreError, change::Working, jobs, projects, tasks, work};
use crate::job::{Code, Command, Job, JobId, Rejection, Stage, Status, Tally};

/// What became of the wish to try a job's failed items again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The job itself tries them; its status.
    Same(Status),
    /// The job had ended; this one tries them.
    New(JobId),
}

/// The column that names the row that a row was made of, and the stage that made that one.
type Forerunner = (&'static str, Stage);

/// The tables of results, and the stages that fill them.
const RESULTS: [(&str, Option<Forerunner>, Stage); 4] = [
    ("screenshots", None, Stage::Screenshot),
    ("ocr_results", Some(("screenshot_id", Stage::Screenshot)), Stage::Ocr),
    ("matches", Some(("ocr_result_id", Stage::Ocr)), Stage::Match),
    ("labels", Some(("match_id", Stage::Match)), Stage::Render),
];

impl Store {
    /// Tries a job's failed items again: in the job itself, or if it has ended in a new one.
    ///
    /// # Errors
    /// [`Code::NothingToRetry`]; [`Code::AlreadyRetried`] while another job tries them.
    pub async fn retry(&self, id: JobId) -> Result<Retried, StoreError> {
        let mut tx = self.pool.begin().await?;
        // What a project's run failed at is tried again by the project's next run.
        let run = projects::next_run(&mut tx, id).await?;
        let record = jobs::lock(&mut tx, id).await?;
        if record.kind.is_some() {
            let to = run.map_or_else(|| JobId(Uuid::now_v7()), |run| run.job);
            let (state, kind) = work::succeed(&mut tx, record, to).await?;
            if let Some(run) = run {
                run.begin(&mut tx).await?;
            }
            let new = state.id();
            self.finish(tx, state).await?;
            self.work.wake(&kind);
            return Ok(Retried::New(new));
        }
        if record.config.is_none() {
            return Err(Rejection::nothing_to_retry(id).into());
        }
        if record.job.status.is_ended() {
            let state = succeed(&mut tx, record).await?;
            let new = state.id();
            self.finish(tx, state).await?;
            return Ok(Retried::New(new));
        }
        let state = reopen(&mut tx, record).await?;
        Ok(Retried::Same(self.finish(tx, state).await?.status))
    }
}

/// Puts the failed items of a job that goes on back into its queue, and removes what was written of their failure.
async fn reopen(tx: &mut PgConnection, record: JobRecord) -> Result<Working, StoreError> {
    let id = record.job.id;
    let rows = sqlx::query(
        "UPDATE tasks SET state = 'waiting', attempt = 0, fence = fence + 1, announced = false, finished_at = NULL,
                run_at = now(), node = NULL
         WHERE job_id = $1 AND state = 'failed' RETURNING id, stage, last_error",
    )
    .bind(id.0)
    .fetch_all(&mut *tx)
    .await?;
    let mut items: BTreeMap<Stage, u32> = BTreeMap::new();
    let mut ids: Vec<Uuid> = Vec::with_capacity(rows.len());
    let mut reasons: Vec<String> = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(row.try_get("id")?);
        reasons.extend(row.try_get::<Option<String>, _>("last_error")?);
        *items.entry(stage(row.try_get("stage")?)?).or_default() += 1;
    }
    for (table, ..) in RESULTS.iter().rev() {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE job_id = $1 AND id = ANY($2)")))
            .bind(id.0)
            .bind(&ids)
            .execute(&mut *tx)
            .await?;
    }
    if !record.is_held() {
        tasks::ready(tx, &record.job).await?;
    }
    let mut state = Working::new(record);
    state.run(Command::Retry { items, reasons })?;
    Ok(state)
}

/// Makes the job that tries again what failed in one that has ended.
async fn succeed(tx: &mut PgConnection, old: JobRecord) -> Result<Working, StoreError> {
    let from = old.job.id;
    refuse_second(tx, from).await?;
    let to = JobId(Uuid::now_v7());
    let items = items(tx, from, to).await?;
    let Some(phase) = items.iter().filter(|item| !item.done).map(|item| item.stage.phase()).min() else {
        return Err(Rejection::nothing_to_retry(from).into());
    };

    let mut job = Job::new(to, old.job.job_type, old.job.name.clone(), old.job.plan, old.job.max_products);
    job.phase = phase;
    job.priority = old.job.priority;
    for item in &items {
        let tally: &mut Tally = job.tallies.entry(item.stage).or_default();
        tally.total += 1;
        tally.done += u32::from(item.done);
    }
    let mut record = JobRecord::new(job, old.config, old.owner, Utc::now());
    record.retry_of = Some(from);
    debug_assert_eq!(record.slot, Slot::Waits);
    jobs::insert(tx, &mut record).await?;
    put(tx, &record, &items).await?;
    take_over(tx, from, to, &items).await?;

    let done = items.iter().filter(|item| item.done).count();
    let what =
        format!("{} items of job {from} are tried again; {done} that succeeded are kept", items.len() - done);
    let mut state = Working::new(record);
    state.run(Command::Create)?;
    state.run(Command::Tell { what })?;
    Ok(state)
}

/// One retry at a time.
pub(super) async fn refuse_second(tx: &mut PgConnection, from: JobId) -> Result<(), StoreError> {
    let other: Option<Uuid> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE retry_of = $1 AND ended_at IS NULL LIMIT 1")
            .bind(from.0)
            .fetch_optional(&mut *tx)
            .await?;
    match other {
        None => Ok(()),
        Some(other) => {
            let message =
                format!("Job {other} is trying the failed items of job {from} again; wait for its end.");
            Err(Rejection::new(Code::AlreadyRetried, message).into())
        }
    }
}

/// An item of the old job on its way to the new one.
struct Item {
    old: Uuid,
    new: Uuid,
    stage: Stage,
    ordinal: i32,
    payload: Value,
    done: bool,
}

async fn items(tx: &mut PgConnection, from: JobId, to: JobId) -> Result<Vec<Item>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, stage, ordinal, payload, state FROM tasks WHERE job_id = $1 ORDER BY ordinal, id",
    )
    .bind(from.0)
    .fetch_all(tx)
    .await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let (old, stage): (Uuid, Stage) = (row.try_get("id")?, stage(row.try_get("stage")?)?);
        let payload = row.try_get::<Json<Value>, _>("payload")?.0;
        // As the stages derive them, for a crawl that runs again finds the same pages.
        let new = match (stage, payload.get("url").and_then(Value::as_str)) {
            (Stage::Crawl, _) => to.derive("crawl", ""),
            (Stage::Screenshot, Some(url)) => to.derive("screenshot", url),
            (Stage::Company, _) => to.derive("company", payload["domain"].as_str().unwrap_or_default()),
            _ => to.derive("retry", &old.to_string()),
        };
        let done = row.try_get::<String, _>("state")? == "done";
        items.push(Item { old, new, stage, ordinal: row.try_get("ordinal")?, payload, done });
    }
    // Of companies that are looked up one after the other, each but the last has put the next into the queue already.
    let last = items.iter().filter(|item| item.stage == Stage::Company).map(|item| item.ordinal).max();
    for item in items.iter_mut().filter(|item| item.stage == Stage::Company && Some(item.ordinal) != last) {
        if let Value::Object(fields) = &mut item.payload {
            fields.remove("then");
        }
    }
    // What an item needs to know of another names it by its id.
    let names: HashMap<String, String> =
        items.iter().map(|item| (item.old.to_string(), item.new.to_string())).collect();
    items.iter_mut().for_each(|item| rename(&mut item.payload, &names));
    Ok(items)
}

fn rename(value: &mut Value, names: &HashMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(new) = names.get(text.as_str()) {
                text.clone_from(new);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, names)),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

/// Writes the new job's queue.
async fn put(tx: &mut PgConnection, record: &JobRecord, items: &[Item]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = items.iter().map(|item| item.new).collect();
    let stages: Vec<&str> = items.iter().map(|item| item.stage.word()).collect();
    let phases: Vec<i16> = items.iter().map(|item| item.stage.phase().number()).collect();
    let ordinals: Vec<i32> = items.iter().map(|item| item.ordinal).collect();
    let payloads: Vec<&Value> = items.iter().map(|item| &item.payload).collect();
    let done: Vec<bool> = items.iter().map(|item| item.done).collect();
    sqlx::query(
        "INSERT INTO tasks (id, job_id, stage, phase, ordinal, payload, state, announced, priority, finished_at)
         SELECT id, $1, stage, phase, ordinal, payload, CASE WHEN done THEN 'done' ELSE 'waiting' END, done, $2,
                CASE WHEN done THEN now() END
         FROM UNNEST($3::uuid[], $4::text[], $5::smallint[], $6::int[], $7::jsonb[], $8::bool[])
              AS item (id, stage, phase, ordinal, payload, done)",
    )
    .bind(record.job.id.0)
    .bind(record.job.priority.number())
    .bind(&ids)
    .bind(&stages)
    .bind(&phases)
    .bind(&ordinals)
    .bind(&payloads)
    .bind(&done)
    .execute(tx)
    .await?;
    Ok(())
}

/// Copies the rows of what succeeded, column by column whatever the columns are, and notes whose objects they name.
async fn take_over(tx: &mut PgConnection, from: JobId, to: JobId, items: &[Item]) -> Result<(), StoreError> {
    let of = |stage: Stage| -> (Vec<Uuid>, Vec<Uuid>) {
        items.iter().filter(|item| item.done && item.stage == stage).map(|item| (item.old, item.new)).unzip()
    };
    for (table, forerunner, stage) in RESULTS {
        let (old, new) = of(stage);
        let (old_before, new_before) = forerunner.map(|(_, stage)| of(stage)).unwrap_or_default();
        let (join, also) = match forerunner {
            Some((column, _)) => (
                format!(
                    "JOIN UNNEST($5::uuid[], $6::uuid[]) AS before (old, new) ON before.old = original.{column}"
                ),
                format!(", '{column}', before.new"),
            ),
            None => ("CROSS JOIN (SELECT $5::uuid[], $6::uuid[]) AS nothing".to_owned(), String::new()),
        };
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "INSERT INTO {table} SELECT copy.* FROM {table} AS original
             JOIN UNNEST($3::uuid[], $4::uuid[]) AS item (old, new) ON item.old = original.id {join}
             CROSS JOIN LATERAL jsonb_populate_record(
                 original, jsonb_build_object('id', item.new, 'job_id', $2::uuid{also})) AS copy
             WHERE original.job_id = $1"
        )))
        .bind(from.0)
        .bind(to.0)
        .bind(&old)
        .bind(&new)
        .bind(&old_before)
        .bind(&new_before)
        .execute(&mut *tx)
        .await?;
    }
    let (old, new) = of(Stage::Screenshot);
    sqlx::query(
        "INSERT INTO screenshot_elements SELECT copy.* FROM screenshot_elements AS original
         JOIN UNNEST($3::uuid[], $4::uuid[]) AS item (old, new) ON item.old = original.screenshot_id
         CROSS JOIN LATERAL jsonb_populate_record(
             original, jsonb_build_object('screenshot_id', item.new, 'job_id', $2::uuid)) AS copy
         WHERE original.job_id = $1",
    )
    .bind(from.0)
    .bind(to.0)
    .bind(&old)
    .bind(&new)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO artifact_uses (key, job_id)
         SELECT key, $2 FROM artifacts WHERE job_id = $1
         UNION SELECT key, $2 FROM artifact_uses WHERE job_id = $1",
    )
    .bind(from.0)
    .bind(to.0)
    .execute(tx)
    .await?;
    Ok(())
}

fn stage(word: String) -> Result<Stage, StoreError> {
    Stage::from_word(&word)
        .ok_or_else(|| StoreError::Corrupt { table: "tasks", detail: format!("stage {word:?}") })
}
