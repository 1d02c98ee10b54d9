//! Schedules: jobs that begin by themselves.
//!
//! Whoever finds a schedule due locks its row, moves `next_run` on and creates the job in one transaction, so however
//! many processes look, and whenever one dies, each run makes exactly one job. Runs that were missed while nobody looked
//! are made up for by one.

use chrono::Utc;
use serde_json::json;
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Store, StoreError, jobs};
use crate::{
    event::{Anything, Severity, SystemNotification, Timestamp, format_timestamp},
    job::{Code, JobId, JobRequest, Overlap, Rejection, RequestLimits, Timing},
};

/// Schedules of one owner at the most.
const MAX_SCHEDULES: i64 = 200;
/// Runs of one schedule that have not ended at the most; further ones are left out even where they would wait.
const MAX_OPEN_RUNS: i64 = 10;
/// Due schedules that are looked at in one round.
const ROUND: usize = 100;

/// A schedule to be made.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    pub owner: String,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub job: JobRequest,
    pub enabled: bool,
    pub overlap: Overlap,
}

/// What is to be different about a schedule; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ScheduleChange {
    pub name: Option<String>,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub job: Option<JobRequest>,
    pub enabled: Option<bool>,
    pub overlap: Option<Overlap>,
}

/// A schedule's row.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub id: Uuid,
    pub owner: String,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub job: JobRequest,
    pub enabled: bool,
    pub overlap: Overlap,
    /// `None` while it is not enabled.
    pub next_run: Option<Timestamp>,
    pub last_run_at: Option<Timestamp>,
    /// When a run was left out because an earlier one had not ended.
    pub last_skipped_at: Option<Timestamp>,
    /// Why the last due run made no job.
    pub last_error: Option<String>,
    /// Jobs that it made.
    pub runs: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Schedule {
    /// The times of its runs.
    pub fn timing(&self) -> Result<Timing, Rejection> {
        Timing::new(&self.cron, &self.timezone, self.updated_at)
    }
}

impl Store {
    /// Makes a schedule. Its job is checked now, and again at each run.
    ///
    /// # Errors
    /// A rejection that names what is wrong with it; [`Code::TooMany`].
    pub async fn create_schedule(
        &self,
        new: NewSchedule,
        limits: &RequestLimits,
    ) -> Result<Schedule, StoreError> {
        let now = Utc::now();
        let timing = Timing::new(&new.cron, &new.timezone, now)?;
        self.check_scheduled(&new.job, limits).await?;
        let row = sqlx::query(
            "INSERT INTO schedules (id, owner, name, cron, timezone, job, enabled, overlap, next_run)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
             WHERE (SELECT count(*) FROM schedules WHERE owner = $2) < $10 RETURNING *",
        )
        .bind(Uuid::now_v7())
        .bind(&new.owner)
        .bind(&new.name)
        .bind(&new.cron)
        .bind(&new.timezone)
        .bind(Json(&new.job))
        .bind(new.enabled)
        .bind(jobs::word(new.overlap)?)
        .bind(timing.next(now).filter(|_| new.enabled))
        .bind(MAX_SCHEDULES)
        .fetch_optional(&self.pool)
        .await?;
        let full = || {
            let message = format!("There are {MAX_SCHEDULES} schedules already; remove one first.");
            Rejection::new(Code::TooMany, message)
        };
        schedule(&row.ok_or_else(full)?)
    }

    /// Whether a job could be made now, and its request be kept until then.
    async fn check_scheduled(&self, job: &JobRequest, limits: &RequestLimits) -> Result<(), StoreError> {
        self.check(job.clone(), limits).await?;
        // The database takes the character zero for an error of its own.
        if serde_json::to_string(job).is_ok_and(|text| text.contains("\\u0000")) {
            let message = "The job's fields must not hold the character U+0000.";
            return Err(Rejection::new(Code::InvalidRequest, message).into());
        }
        Ok(())
    }

    /// An owner's schedules, or all, oldest first.
    pub async fn schedules(&self, only: Option<&str>) -> Result<Vec<Schedule>, StoreError> {
        let query = "SELECT * FROM schedules WHERE $1::text IS NULL OR owner = $1 ORDER BY created_at, id";
        let rows = sqlx::query(query).bind(only).fetch_all(&self.pool).await?;
        rows.iter().map(schedule).collect()
    }

    /// One schedule.
    pub async fn schedule(&self, id: Uuid) -> Result<Schedule, StoreError> {
        let row =
            sqlx::query("SELECT * FROM schedules WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
        schedule(&row.ok_or_else(|| Rejection::schedule_not_found(id))?)
    }

    /// Changes a schedule; its next run is found anew.
    pub async fn change_schedule(
        &self,
        id: Uuid,
        change: ScheduleChange,
        limits: &RequestLimits,
    ) -> Result<Schedule, StoreError> {
        if let Some(job) = &change.job {
            self.check_scheduled(job, limits).await?;
        }
        let now = Utc::now();
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query("SELECT * FROM schedules WHERE id = $1 FOR UPDATE")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        let old = schedule(&row.ok_or_else(|| Rejection::schedule_not_found(id))?)?;
        let (cron, zone) = (change.cron.unwrap_or(old.cron), change.timezone.unwrap_or(old.timezone));
        let timing = Timing::new(&cron, &zone, now)?;
        let enabled = change.enabled.unwrap_or(old.enabled);
        let row = sqlx::query(
            "UPDATE schedules SET name = $2, cron = $3, timezone = $4, job = $5, enabled = $6, overlap = $7,
                    next_run = $8, updated_at = now() WHERE id = $1 RETURNING *",
        )
        .bind(id)
        .bind(change.name.unwrap_or(old.name))
        .bind(cron)
        .bind(zone)
        .bind(Json(change.job.unwrap_or(old.job)))
        .bind(enabled)
        .bind(jobs::word(change.overlap.unwrap_or(old.overlap))?)
        .bind(timing.next(now).filter(|_| enabled))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        schedule(&row)
    }

    /// Removes a schedule; the jobs that it made stay.
    pub async fn remove_schedule(&self, id: Uuid) -> Result<(), StoreError> {
        let done = sqlx::query("DELETE FROM schedules WHERE id = $1").bind(id).execute(&self.pool).await?;
        if done.rows_affected() == 0 {
            return Err(Rejection::schedule_not_found(id).into());
        }
        Ok(())
    }

    /// Makes a schedule's job now, whenever its next run is due. It waits for an earlier run's end.
    pub async fn run_schedule(&self, id: Uuid, limits: &RequestLimits) -> Result<JobId, StoreError> {
        let wanted = self.schedule(id).await?;
        let mut new = self.new_job(wanted.job, limits, &wanted.owner).await?;
        new.schedule_id = Some(id);
        let job = new.id;
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, id).await?;
        if open_runs(&mut tx, id).await? >= MAX_OPEN_RUNS {
            let message =
                format!("{MAX_OPEN_RUNS} runs of this schedule have not ended; wait, or cancel one.");
            return Err(Rejection::new(Code::TooMany, message).into());
        }
        ran(&mut tx, id, Utc::now()).await?;
        let state = jobs::accept(&mut tx, new).await?;
        self.finish(tx, state).await?;
        Ok(job)
    }

    /// Makes the jobs of all schedules that are due at a time; returns them.
    pub async fn run_due(&self, now: Timestamp, limits: &RequestLimits) -> Result<Vec<JobId>, StoreError> {
        let mut made = Vec::new();
        for _ in 0..ROUND {
            let mut tx = self.pool.begin().await?;
            let row = sqlx::query(
                "SELECT * FROM schedules WHERE enabled AND next_run <= $1 ORDER BY next_run, id LIMIT 1
                 FOR UPDATE SKIP LOCKED",
            )
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else { break };
            let due = schedule(&row)?;
            // From now on, not from the run that was due: what was missed is made up for by this one.
            let next = due.timing().ok().and_then(|timing| timing.next(now));
            sqlx::query("UPDATE schedules SET next_run = $2, last_error = NULL WHERE id = $1")
                .bind(due.id)
                .bind(next)
                .execute(&mut *tx)
                .await?;
            let open = open_runs(&mut tx, due.id).await?;
            if open >= MAX_OPEN_RUNS || (open > 0 && due.overlap == Overlap::Skip) {
                sqlx::query("UPDATE schedules SET last_skipped_at = $2 WHERE id = $1")
                    .bind(due.id)
                    .bind(now)
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                self.notify(&due.owner, skipped(&due, open));
                continue;
            }
            match self.new_job(due.job, limits, &due.owner).await {
                Ok(mut new) => {
                    new.schedule_id = Some(due.id);
                    made.push(new.id);
                    ran(&mut tx, due.id, now).await?;
                    let state = jobs::accept(&mut tx, new).await?;
                    self.finish(tx, state).await?;
                }
                // Its template is gone, or this server allows less than before.
                Err(StoreError::Rejected(rejection)) => {
                    tracing::warn!(schedule = %due.id, %rejection, "a scheduled job was refused");
                    sqlx::query("UPDATE schedules SET last_error = $2 WHERE id = $1")
                        .bind(due.id)
                        .bind(&rejection.message)
                        .execute(&mut *tx)
                        .await?;
                    tx.commit().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }
}

/// What those who look at the pages hear of a run that is left out.
fn skipped(schedule: &Schedule, open: i64) -> SystemNotification {
    let why = match schedule.overlap {
        Overlap::Skip => "an earlier run has not ended".to_owned(),
        Overlap::Queue => format!("{open} earlier runs have not ended"),
    };
    let details = json!({
        "scheduleId": schedule.id,
        "schedule": schedule.name,
        "due": schedule.next_run.map(format_timestamp),
        "openRuns": open,
    });
    SystemNotification {
        r#type: Severity::Warning,
        message: format!("A run of the schedule “{}” is left out, for {why}.", schedule.name),
        details: Some(Anything(details)),
    }
}

async fn lock(tx: &mut PgConnection, id: Uuid) -> Result<(), StoreError> {
    let found: Option<Uuid> = sqlx::query_scalar("SELECT id FROM schedules WHERE id = $1 FOR UPDATE")
        .bind(id)
        .fetch_optional(tx)
        .await?;
    found.map(drop).ok_or_else(|| Rejection::schedule_not_found(id).into())
}

async fn open_runs(tx: &mut PgConnection, id: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM jobs WHERE schedule_id = $1 AND ended_at IS NULL")
        .bind(id)
        .fetch_one(tx)
        .await
}

async fn ran(tx: &mut PgConnection, id: Uuid, now: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE schedules SET runs = runs + 1, last_run_at = $2, last_error = NULL WHERE id = $1")
        .bind(id)
        .bind(now)
        .execute(tx)
        .await
        .map(drop)
}

fn schedule(row: &PgRow) -> Result<Schedule, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { table: "schedules", detail };
    Ok(Schedule {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        name: row.try_get("name")?,
        cron: row.try_get("cron")?,
        timezone: row.try_get("timezone")?,
        job: row.try_get::<Json<JobRequest>, _>("job")?.0,
        enabled: row.try_get("enabled")?,
        overlap: jobs::from_word(&row.try_get::<String, _>("overlap")?).map_err(corrupt)?,
        next_run: row.try_get("next_run")?,
        last_run_at: row.try_get("last_run_at")?,
        last_skipped_at: row.try_get("last_skipped_at")?,
        last_error: row.try_get("last_error")?,
        runs: row.try_get("runs")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
