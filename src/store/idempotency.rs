//! Keys that clients send with a new job, so that a request that is repeated makes no second one.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::job::{Code, JobId, Rejection};

/// Keys removed at once.
const SWEEP: i64 = 5000;

/// A key, and what is asked for under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceKey {
    pub key: String,
    /// A fingerprint of the request; another one under the same key is refused.
    pub request: String,
}

impl Store {
    /// The job that was made under a key.
    ///
    /// # Errors
    /// [`Code::KeyReused`] if it was asked for with another request.
    pub async fn made_under(&self, owner: &str, once: &OnceKey) -> Result<Option<JobId>, StoreError> {
        let row = sqlx::query(
            "SELECT request, job_id FROM idempotency_keys
             WHERE owner = $1 AND key = $2 AND created_at > now() - make_interval(secs => $3)",
        )
        .bind(owner)
        .bind(&once.key)
        .bind(self.keep_keys.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<String, _>("request")? != once.request {
            let message = "This Idempotency-Key was used for another request; take a new one.";
            return Err(Rejection::new(Code::KeyReused, message).into());
        }
        Ok(Some(JobId(row.try_get::<Uuid, _>("job_id")?)))
    }

    /// Removes keys that are older than they are kept; returns how many.
    pub async fn forget_keys(&self) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let done = sqlx::query(
                "DELETE FROM idempotency_keys WHERE (owner, key) IN (
                     SELECT owner, key FROM idempotency_keys
                     WHERE created_at < now() - make_interval(secs => $1) LIMIT $2)",
            )
            .bind(self.keep_keys.as_secs_f64())
            .bind(SWEEP)
            .execute(&self.pool)
            .await?;
            forgotten += done.rows_affected();
            if done.rows_affected() < SWEEP as u64 {
                return Ok(forgotten);
            }
        }
    }
}

/// Notes that a job is made under a key; false if another one was, in a transaction that this one has waited for.
pub(super) async fn claim(
    tx: &mut PgConnection,
    owner: &str,
    once: &OnceKey,
    job: JobId,
    keep: Duration,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO idempotency_keys AS known (owner, key, request, job_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (owner, key) DO UPDATE
             SET request = excluded.request, job_id = excluded.job_id, created_at = excluded.created_at
             WHERE known.created_at <= now() - make_interval(secs => $5)",
    )
    .bind(owner)
    .bind(&once.key)
    .bind(&once.request)
    .bind(job.0)
    .bind(keep.as_secs_f64())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
