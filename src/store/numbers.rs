//! How long the queues are and how long their oldest items have waited, webhooks' included, for the numbers.

use sqlx::Row as _;

use super::{Store, StoreError};

/// The database ends the count after this time.
const PATIENCE: &str = "SET LOCAL statement_timeout = '2s'";
/// Deliveries of one state that are counted at the most: they pile up where a receiver is down, and the count must not.
const MAX_DELIVERIES: i64 = 100_000;

/// What waits and what is at work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueNumbers {
    /// The newest position in the journal.
    pub position: i64,
    /// Items by stage and state.
    pub items: Vec<Queue>,
    /// Jobs for workers outside, by kind and state.
    pub work: Vec<Queue>,
    /// Jobs that have not ended, by status.
    pub jobs: Vec<(String, i64)>,
    pub deliveries: DeliveryNumbers,
}

/// What webhooks were not told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeliveryNumbers {
    /// Deliveries that wait, up to 100,000.
    pub pending: i64,
    /// Deliveries that were given up, up to 100,000.
    pub given_up: i64,
    /// How long the oldest one of an enabled webhook has been due, in seconds.
    pub age: f64,
}

/// What of one name is in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub name: String,
    /// `ready` or `running`.
    pub state: String,
    pub count: i64,
    /// How long the oldest one has been due, in seconds.
    pub age: f64,
}

impl Store {
    /// Counts what is in the queues: partial indexes hold no more than that. What is to be tried again later is ready, and
    /// not due.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when the count takes too long.
    pub async fn queue_numbers(&self) -> Result<QueueNumbers, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(PATIENCE).execute(&mut *tx).await?;
        let position =
            sqlx::query_scalar("SELECT position FROM journal_head WHERE id = 1").fetch_one(&mut *tx).await?;
        let rows = sqlx::query(
            "SELECT 'items', stage, state, count(*), coalesce(extract(epoch FROM now() - min(run_at)), 0)::float8
             FROM tasks WHERE state = 'ready' GROUP BY stage, state
             UNION ALL
             SELECT 'items', stage, state, count(*), 0 FROM tasks WHERE state = 'running' GROUP BY stage, state
             UNION ALL
             SELECT 'work', kind, state, count(*), coalesce(extract(epoch FROM now() - min(run_at)), 0)::float8
             FROM work WHERE state = 'ready' GROUP BY kind, state
             UNION ALL
             SELECT 'work', kind, state, count(*), 0 FROM work WHERE state = 'running' GROUP BY kind, state
             UNION ALL
             SELECT 'jobs', status, '', count(*), 0 FROM jobs WHERE ended_at IS NULL GROUP BY status
             UNION ALL
             SELECT 'deliveries', '', 'pending', count(*),
                    coalesce(extract(epoch FROM now() - (
                        SELECT min(first.due_at) FROM webhooks CROSS JOIN LATERAL (
                            SELECT due_at FROM webhook_deliveries
                            WHERE webhook_id = webhooks.id AND state = 'pending' ORDER BY due_at LIMIT 1) AS first
                        WHERE enabled)), 0)::float8
             FROM (SELECT FROM webhook_deliveries WHERE state = 'pending' LIMIT $1) AS few
             UNION ALL
             SELECT 'deliveries', '', 'failed', count(*), 0
             FROM (SELECT FROM webhook_deliveries WHERE state = 'failed' LIMIT $1) AS few",
        )
        .bind(MAX_DELIVERIES)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut numbers = QueueNumbers { position, ..QueueNumbers::default() };
        for row in rows {
            let (name, state, count): (String, String, i64) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let age = row.try_get::<f64, _>(4)?.max(0.0);
            match row.try_get(0)? {
                "items" => numbers.items.push(Queue { name, state, count, age }),
                "work" => numbers.work.push(Queue { name, state, count, age }),
                "deliveries" if state == "failed" => numbers.deliveries.given_up = count,
                "deliveries" => {
                    numbers.deliveries.pending = count;
                    numbers.deliveries.age = age;
                }
                _ => numbers.jobs.push((name, count)),
            }
        }
        Ok(numbers)
    }

    /// Connections to the database: in use, idle, and how many there may be.
    pub fn connections(&self) -> (usize, usize, usize) {
        let (size, idle) = (self.pool.size() as usize, self.pool.num_idle());
        (size.saturating_sub(idle), idle, self.pool.options().get_max_connections() as usize)
    }

    /// Appends that wait for their batch.
    pub fn waiting_appends(&self) -> usize {
        self.appender.waiting()
    }
}
