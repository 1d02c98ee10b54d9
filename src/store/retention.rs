//! What is not kept for ever: events of jobs that ended long ago. Their states and results stay.

use std::time::Duration;

use uuid::Uuid;

use super::{Store, StoreError};

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
