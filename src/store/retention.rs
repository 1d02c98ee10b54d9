//! What is not kept for ever: events of jobs that ended long ago, and then the jobs themselves with their objects.
//!
//! A job's rows go in one transaction, which notes what is to go from the object store; that is worked off afterwards, so
//! a process that dies between the two leaves nothing behind.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Blobs, BlobsError, Store, StoreError, jobs, webhooks};
use crate::job::{Code, JobId, Rejection};

/// Jobs whose events go in one transaction.
const JOBS: i64 = 20;

impl Store {
    /// Removes the events of jobs that ended so long ago, but for each one's last, which says how it ended. From then on
    /// nobody is promised what lies before ([`Resumed::floor`](super::Resumed)). Returns how many events went.
    pub async fn forget_events(&self, ended_for: Duration) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.pool.begin().await?;
            let jobs: Vec<Uuid> = sqlx::query_scalar(
                "SELECT id FROM jobs WHERE ended_at < now() - make_interval(secs => $1) AND NOT events_forgotten
                 ORDER BY id LIMIT $2 FOR UPDATE",
            )
            .bind(ended_for.as_secs_f64())
            .bind(JOBS)
            .fetch_all(&mut *tx)
            .await?;
            if jobs.is_empty() {
                return Ok(forgotten);
            }
            webhooks::hand_over(&mut tx, &jobs).await?;
            let (removed, last): (i64, Option<i64>) = sqlx::query_as(
                "WITH gone AS (
                     DELETE FROM events USING jobs
                     WHERE jobs.id = events.job_id AND jobs.id = ANY($1) AND events.seq < jobs.last_seq
                     RETURNING events.position)
                 SELECT count(*), max(position) FROM gone",
            )
            .bind(&jobs)
            .fetch_one(&mut *tx)
            .await?;
            sqlx::query("UPDATE jobs SET events_forgotten = true WHERE id = ANY($1)")
                .bind(&jobs)
                .execute(&mut *tx)
                .await?;
            sqlx::query("UPDATE journal_head SET floor = GREATEST(floor, $1) WHERE id = 1")
                .bind(last.unwrap_or(0))
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            forgotten += removed as u64;
        }
    }
}

/// What deletions of jobs are told from other advisory locks by: one at a time, for an heir must not be removed while
/// it inherits.
const REMOVALS: i64 = 0x6a6f_6264_656c;
/// Objects that are removed from the object store at once.
const OBJECTS: usize = 8;
/// Entries of the list of objects to delete that are worked off in one round.
const ENTRIES: i64 = 500;
/// A folder is looked at a second time so much later, for objects that a worker was just storing when its job ended.
const SECOND_LOOK: Duration = Duration::from_secs(600);
/// When an object store that failed is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

impl Store {
    /// Removes a job that has ended, with everything that speaks of it. Objects that no other job names are noted for
    /// [`Store::delete_objects`]; those that a retry took over become the retry's.
    ///
    /// # Errors
    /// [`Code::JobNotFound`]; [`Code::JobAtWork`] while it has not ended.
    pub async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        remove(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Removes jobs that ended so long ago; from then on nobody is promised what lies before their last event. Returns
    /// how many.
    pub async fn forget_jobs(&self, ended_for: Duration) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let jobs: Vec<Uuid> = sqlx::query_scalar(
                "SELECT id FROM jobs WHERE ended_at < now() - make_interval(secs => $1) ORDER BY ended_at LIMIT $2",
            )
            .bind(ended_for.as_secs_f64())
            .bind(JOBS)
            .fetch_all(&self.pool)
            .await?;
            if jobs.is_empty() {
                return Ok(forgotten);
            }
            let before = forgotten;
            for job in jobs {
                let mut tx = self.pool.begin().await?;
                let last: Option<i64> =
                    sqlx::query_scalar("SELECT max(position) FROM events WHERE job_id = $1")
                        .bind(job)
                        .fetch_one(&mut *tx)
                        .await?;
                match remove(&mut tx, JobId(job)).await {
                    Ok(()) => forgotten += 1,
                    // Another process was faster.
                    Err(StoreError::Rejected(_)) => continue,
                    Err(error) => return Err(error),
                }
                sqlx::query("UPDATE journal_head SET floor = GREATEST(floor, $1) WHERE id = 1")
                    .bind(last.unwrap_or(0))
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
            }
            if forgotten == before {
                return Ok(forgotten);
            }
        }
    }

    /// Removes objects of removed jobs from the object store, as many as one round takes; what fails is tried again
    /// later. Returns how many went.
    pub async fn delete_objects(&self, blobs: &Blobs) -> Result<u64, StoreError> {
        let entries: Vec<(String, i32)> = sqlx::query_as(
            "SELECT name, passes FROM objects_to_delete WHERE due_at <= now() ORDER BY due_at, name LIMIT $1",
        )
        .bind(ENTRIES)
        .fetch_all(&self.pool)
        .await?;
        let mut gone = 0;
        for (name, passes) in entries {
            let outcome = self.delete_entry(blobs, &name).await?;
            let again = match outcome {
                Ok(objects) => {
                    gone += objects;
                    (name.ends_with('/') && passes == 0).then_some(SECOND_LOOK)
                }
                Err(error) => {
                    tracing::warn!(name, %error, "objects of a removed job could not be removed; trying again later");
                    sqlx::query(
                        "UPDATE objects_to_delete SET due_at = now() + make_interval(secs => $2) WHERE name = $1",
                    )
                    .bind(&name)
                    .bind(AFTER_FAILURE.as_secs_f64())
                    .execute(&self.pool)
                    .await?;
                    continue;
                }
            };
            match again {
                Some(pause) => {
                    sqlx::query(
                        "UPDATE objects_to_delete SET passes = passes + 1, due_at = now() + make_interval(secs => $2)
                         WHERE name = $1",
                    )
                    .bind(&name)
                    .bind(pause.as_secs_f64())
                    .execute(&self.pool)
                    .await?
                }
                None => {
                    sqlx::query("DELETE FROM objects_to_delete WHERE name = $1")
                        .bind(&name)
                        .execute(&self.pool)
                        .await?
                }
            };
        }
        Ok(gone)
    }

    /// Removes an object, or those of a folder, but for any that a row names.
    async fn delete_entry(&self, blobs: &Blobs, name: &str) -> Result<Result<u64, BlobsError>, StoreError> {
        let mut keys = match name.ends_with('/') {
            true => blobs.keys(name),
            false => stream::iter([Ok(name.to_owned())]).boxed(),
        };
        let mut gone = 0;
        loop {
            let mut some = Vec::new();
            while some.len() < ENTRIES as usize
                && let Some(key) = keys.next().await
            {
                match key {
                    Ok(key) => some.push(key),
                    Err(error) => return Ok(Err(error)),
                }
            }
            if some.is_empty() {
                return Ok(Ok(gone));
            }
            let free: Vec<String> = sqlx::query_scalar(
                "SELECT key FROM UNNEST($1::text[]) AS named (key)
                 WHERE NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = named.key)",
            )
            .bind(&some)
            .fetch_all(&self.pool)
            .await?;
            let deletions = free.into_iter().map(|key| {
                let blobs = blobs.clone();
                async move { blobs.delete(&key).await }
            });
            let mut deletions = stream::iter(deletions).buffer_unordered(OBJECTS);
            while let Some(deleted) = deletions.next().await {
                match deleted {
                    Ok(()) => gone += 1,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
    }
}

/// The one way in which a job goes.
async fn remove(tx: &mut PgConnection, id: JobId) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(REMOVALS).execute(&mut *tx).await?;
    let record = jobs::lock(tx, id).await?;
    if !record.job.status.is_ended() {
        let message = format!("Job {id} has not ended; cancel it first.");
        return Err(Rejection::new(Code::JobAtWork, message).into());
    }
    webhooks::hand_over(tx, &[id.0]).await?;
    sqlx::query(
        "UPDATE artifacts SET job_id = heir.job_id
         FROM (SELECT DISTINCT ON (uses.key) uses.key, uses.job_id
               FROM artifact_uses AS uses JOIN artifacts USING (key)
               WHERE artifacts.job_id = $1 AND uses.job_id <> $1 ORDER BY uses.key, uses.job_id) AS heir
         WHERE artifacts.key = heir.key",
    )
    .bind(id.0)
    .execute(&mut *tx)
    .await?;
    let folder = format!("jobs/{id}/");
    sqlx::query(
        "WITH derived AS (DELETE FROM derived_objects
                          WHERE source IN (SELECT key FROM artifacts WHERE job_id = $1) RETURNING key)
         INSERT INTO objects_to_delete (name)
         SELECT $2 UNION SELECT key FROM artifacts WHERE job_id = $1 AND NOT starts_with(key, $2)
         UNION SELECT key FROM derived
         ON CONFLICT (name) DO UPDATE SET due_at = now(), passes = 0",
    )
    .bind(id.0)
    .bind(&folder)
    .execute(&mut *tx)
    .await?;
    sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id.0).execute(tx).await?;
    Ok(())
}
