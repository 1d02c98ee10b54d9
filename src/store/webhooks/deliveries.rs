//! Deliveries: what each endpoint is still to be told, and what was given up.

use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{MAX_PENDING, Webhook};
use crate::{
    event::Timestamp,
    job::{Code, JobId, Rejection},
    store::{Store, StoreError},
};

/// Positions of the journal that are looked at for an endpoint at once.
const WINDOW: i64 = 1000;
/// Endpoints that are brought on at once.
const ENDPOINTS: i64 = 200;
/// Events that one call sends again at the most.
const MAX_RESENT: i64 = 1000;
/// Given-up deliveries of one endpoint that are kept at the most.
const MAX_FAILED: i64 = 10_000;

/// Whether an endpoint (`hook`) wants an event (`e`).
const WANTED: &str = "(hook.job_id IS NULL OR hook.job_id = e.job_id)
    AND EXISTS (SELECT FROM unnest(hook.events) AS pattern
                WHERE pattern = e.kind
                   OR (right(pattern, 1) = '*' AND starts_with(e.kind, left(pattern, -1))))";

/// An event that an endpoint is to be told.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub position: i64,
    pub job: JobId,
    pub seq: i32,
    pub kind: String,
    pub payload: Box<RawValue>,
    pub happened_at: Timestamp,
    /// How often it was asked for again, when it was read. [`Store::settle_delivery`] compares.
    pub asked: i32,
    /// Attempts so far.
    pub attempts: i32,
    pub first_attempt_at: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
}

/// What is to become of a delivery after an attempt.
#[derive(Clone, Debug)]
pub enum Verdict {
    Delivered,
    /// To be tried again after a while.
    Again(Duration),
    /// Given up.
    GivenUp,
    /// Nobody is there any more: the endpoint is disabled, and the delivery waits.
    Gone,
}

impl Verdict {
    /// In one word, for the numbers.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Delivered => "delivered",
            Verdict::Again(_) => "again",
            Verdict::GivenUp => "given_up",
            Verdict::Gone => "gone",
        }
    }
}

/// How an attempt was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// Another process has the endpoint by now, or nobody; nothing was written down.
    Fenced,
    /// The endpoint was disabled, and why.
    Disabled(String),
}

/// What is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// A job's events between two seqs, both included.
    Job { job: JobId, from: i32, to: i32 },
    /// Everything between two positions of the journal, both included.
    Positions { from: i64, to: i64 },
    /// What was given up.
    Failed,
}

/// What will be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resent {
    pub events: i64,
    /// The position of the last of them, if there are more behind it.
    pub more_behind: Option<i64>,
}

impl Store {
    /// Makes what lies behind the endpoints' cursors into deliveries, a portion for each, and moves the cursors on.
    /// Returns whether there is more.
    ///
    /// Positions are in the order of commits, so what is not seen up to the head's position is not there: nothing is
    /// skipped. Processes that do this at the same time pass over each other's endpoints.
    pub async fn fan_out(&self) -> Result<bool, StoreError> {
        let query = format!(
            "WITH head AS (SELECT position FROM journal_head WHERE id = 1),
                  hook AS (
                      SELECT webhooks.id, owner, events, job_id, cursor, head.position AS head,
                             LEAST(cursor + $1, head.position) AS up_to
                      FROM webhooks, head
                      WHERE enabled AND cursor < head.position
                        AND (SELECT count(*) FROM (SELECT FROM webhook_deliveries
                                                   WHERE webhook_id = webhooks.id AND state = 'pending'
                                                   LIMIT $2) AS few) < $2
                      ORDER BY cursor LIMIT $3 FOR NO KEY UPDATE OF webhooks SKIP LOCKED),
                  made AS (
                      INSERT INTO webhook_deliveries (webhook_id, position, job_id, seq, kind, payload, happened_at)
                      SELECT hook.id, e.position, e.job_id, e.seq, e.kind, e.payload, e.created_at
                      FROM hook JOIN events AS e ON e.position > hook.cursor AND e.position <= hook.up_to
                                JOIN jobs ON jobs.id = e.job_id AND jobs.owner = hook.owner
                      WHERE {WANTED} ORDER BY hook.id, e.position
                      ON CONFLICT DO NOTHING)
             UPDATE webhooks SET cursor = hook.up_to FROM hook WHERE webhooks.id = hook.id
             RETURNING hook.up_to < hook.head"
        );
        let more: Vec<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(WINDOW)
            .bind(MAX_PENDING)
            .bind(ENDPOINTS)
            .fetch_all(&self.pool)
            .await?;
        Ok(more.len() as i64 == ENDPOINTS || more.contains(&true))
    }

    /// What an endpoint is to be told now, oldest events first.
    pub async fn due_deliveries(&self, webhook: Uuid, most: i64) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' AND due_at <= now()
             ORDER BY position LIMIT $2",
        )
        .bind(webhook)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(delivery).collect()
    }

    /// Writes down how an attempt at a delivery went. One that was asked for again meanwhile is left as it is, to be sent
    /// once more: the attempt was under way before.
    pub async fn settle_delivery(
        &self,
        webhook: &Webhook,
        delivery: &Delivery,
        verdict: &Verdict,
        status: Option<u16>,
        error: &str,
    ) -> Result<Settled, StoreError> {
        if matches!(verdict, Verdict::Delivered) {
            let held: bool = sqlx::query_scalar(
                "WITH held AS (UPDATE webhooks SET delivered = delivered + 1, last_delivered_at = now()
                               WHERE id = $1 AND fence = $2 RETURNING id),
                      done AS (DELETE FROM webhook_deliveries USING held
                               WHERE webhook_id = held.id AND position = $3 AND asked = $4)
                 SELECT EXISTS (SELECT FROM held)",
            )
            .bind(webhook.id)
            .bind(webhook.fence)
            .bind(delivery.position)
            .bind(delivery.asked)
            .fetch_one(&self.pool)
            .await?;
            return Ok(if held { Settled::Done } else { Settled::Fenced });
        }
        let (pause, state) = match verdict {
            Verdict::Again(pause) => (*pause, "pending"),
            Verdict::GivenUp => (Duration::ZERO, "failed"),
            Verdict::Gone | Verdict::Delivered => (Duration::ZERO, "pending"),
        };
        let mut tx = self.pool.begin().await?;
        let held = sqlx::query(
            "UPDATE webhooks SET last_failed_at = now(), last_error = $3 WHERE id = $1 AND fence = $2",
        )
        .bind(webhook.id)
        .bind(webhook.fence)
        .bind(error)
        .execute(&mut *tx)
        .await?;
        if held.rows_affected() == 0 {
            return Ok(Settled::Fenced);
        }
        let written = sqlx::query(
            "UPDATE webhook_deliveries SET attempts = attempts + 1, state = $3,
                    due_at = now() + make_interval(secs => $4),
                    first_attempt_at = coalesce(first_attempt_at, now()), last_attempt_at = now(),
                    last_status = $5, last_error = $6
             WHERE webhook_id = $1 AND position = $2 AND asked = $7",
        )
        .bind(webhook.id)
        .bind(delivery.position)
        .bind(state)
        .bind(pause.as_secs_f64())
        .bind(status.map(i32::from))
        .bind(error)
        .bind(delivery.asked)
        .execute(&mut *tx)
        .await?;
        let asked_again = written.rows_affected() == 0;
        let why = match verdict {
            Verdict::Gone => Some("The receiver answered 410: it wants nothing more.".to_owned()),
            // Nothing else got through either, since this one was tried first.
            Verdict::GivenUp
                if !asked_again && silent_since(&mut tx, webhook.id, delivery.position).await? =>
            {
                Some(format!("Nothing was delivered for the whole time of the retries; at last: {error}"))
            }
            _ => None,
        };
        if let Some(why) = &why {
            sqlx::query(
                "UPDATE webhooks SET enabled = false, disabled_reason = $2, disabled_at = now() WHERE id = $1",
            )
            .bind(webhook.id)
            .bind(why)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(why.map_or(Settled::Done, Settled::Disabled))
    }

    /// An endpoint's given-up deliveries behind a position, oldest first.
    pub async fn failed_deliveries(
        &self,
        webhook: Uuid,
        after: i64,
        most: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'failed' AND position > $2
             ORDER BY position LIMIT $3",
        )
        .bind(webhook)
        .bind(after)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(delivery).collect()
    }

    /// Has an endpoint told again of what it wants of a range: only events of its owner's jobs, as far as the journal
    /// still has them. They keep their ids.
    ///
    /// # Errors
    /// [`Code::TooMany`] while as many deliveries wait as may.
    pub async fn resend(&self, webhook: Uuid, what: Resend) -> Result<Resent, StoreError> {
        let mut tx = self.pool.begin().await?;
        let waiting: Option<i64> = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM (SELECT FROM webhook_deliveries
                                           WHERE webhook_id = $1 AND state = 'pending' LIMIT $2) AS few)
             FROM webhooks WHERE id = $1 FOR KEY SHARE",
        )
        .bind(webhook)
        .bind(MAX_PENDING)
        .fetch_optional(&mut *tx)
        .await?;
        if waiting.ok_or_else(|| Rejection::webhook_not_found(webhook))? >= MAX_PENDING {
            let message = format!("{MAX_PENDING} events wait already; ask again when some are delivered.");
            return Err(Rejection::new(Code::TooMany, message).into());
        }
        let (range, first, last, job) = match what {
            Resend::Failed => {
                let done = sqlx::query(
                    "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, first_attempt_at = NULL,
                            due_at = now() WHERE webhook_id = $1 AND state = 'failed'",
                )
                .bind(webhook)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                return Ok(Resent { events: done.rows_affected() as i64, more_behind: None });
            }
            Resend::Job { job, from, to } => {
                ("e.job_id = $4 AND e.seq BETWEEN $2 AND $3", i64::from(from), i64::from(to), job.0)
            }
            Resend::Positions { from, to } => {
                ("e.position BETWEEN $2 AND $3 AND $4 = $4", from, to, Uuid::nil())
            }
        };
        let query = format!(
            "INSERT INTO webhook_deliveries (webhook_id, position, job_id, seq, kind, payload, happened_at)
             SELECT hook.id, e.position, e.job_id, e.seq, e.kind, e.payload, e.created_at
             FROM webhooks AS hook JOIN jobs ON jobs.owner = hook.owner JOIN events AS e ON e.job_id = jobs.id
             WHERE hook.id = $1 AND {range} AND {WANTED} ORDER BY e.position LIMIT $5
             ON CONFLICT (webhook_id, position) DO UPDATE
             SET state = 'pending', attempts = 0, first_attempt_at = NULL, due_at = now(),
                 asked = webhook_deliveries.asked + 1
             RETURNING position"
        );
        let mut positions: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(webhook)
            .bind(first)
            .bind(last)
            .bind(job)
            .bind(MAX_RESENT)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        positions.sort_unstable();
        let events = positions.len() as i64;
        Ok(Resent { events, more_behind: positions.pop().filter(|_| events == MAX_RESENT) })
    }

    /// Forgets deliveries that were given up so long ago, and of one endpoint all but the newest. Returns how many.
    pub async fn forget_failed_deliveries(&self, given_up_for: Duration) -> Result<u64, StoreError> {
        let old = sqlx::query(
            "DELETE FROM webhook_deliveries
             WHERE state = 'failed' AND last_attempt_at < now() - make_interval(secs => $1)",
        )
        .bind(given_up_for.as_secs_f64())
        .execute(&self.pool)
        .await?;
        let many = sqlx::query(
            "DELETE FROM webhook_deliveries USING webhooks
             WHERE webhook_id = webhooks.id AND state = 'failed'
               AND position < (SELECT position FROM webhook_deliveries AS kept
                               WHERE kept.webhook_id = webhooks.id AND kept.state = 'failed'
                               ORDER BY position DESC OFFSET $1 LIMIT 1)",
        )
        .bind(MAX_FAILED - 1)
        .execute(&self.pool)
        .await?;
        Ok(old.rows_affected() + many.rows_affected())
    }
}

/// Whether nothing was delivered to an endpoint since a delivery was tried first.
async fn silent_since(tx: &mut PgConnection, webhook: Uuid, position: i64) -> Result<bool, sqlx::Error> {
    let silent: Option<bool> = sqlx::query_scalar(
        "SELECT coalesce(webhooks.last_delivered_at < d.first_attempt_at, true)
         FROM webhooks JOIN webhook_deliveries AS d ON d.webhook_id = webhooks.id
         WHERE webhooks.id = $1 AND d.position = $2",
    )
    .bind(webhook)
    .bind(position)
    .fetch_optional(tx)
    .await?;
    Ok(silent.unwrap_or(false))
}

/// Makes deliveries of what enabled endpoints were not told yet of jobs whose events are about to go, so that retention
/// and removals take nothing from anybody.
pub(in crate::store) async fn hand_over(tx: &mut PgConnection, jobs: &[Uuid]) -> Result<(), sqlx::Error> {
    let query = format!(
        "WITH hook AS (
             SELECT id, owner, events, job_id, cursor FROM webhooks
             WHERE enabled AND owner IN (SELECT owner FROM jobs WHERE id = ANY($1)) ORDER BY id FOR KEY SHARE)
         INSERT INTO webhook_deliveries (webhook_id, position, job_id, seq, kind, payload, happened_at)
         SELECT hook.id, e.position, e.job_id, e.seq, e.kind, e.payload, e.created_at
         FROM hook JOIN jobs ON jobs.owner = hook.owner JOIN events AS e ON e.job_id = jobs.id
         WHERE jobs.id = ANY($1) AND e.position > hook.cursor AND {WANTED} ORDER BY hook.id, e.position
         ON CONFLICT DO NOTHING"
    );
    sqlx::query(sqlx::AssertSqlSafe(query)).bind(jobs).execute(tx).await.map(drop)
}

fn delivery(row: &PgRow) -> Result<Delivery, StoreError> {
    let payload: sqlx::types::Json<Box<RawValue>> = row.try_get("payload")?;
    Ok(Delivery {
        position: row.try_get("position")?,
        job: JobId(row.try_get("job_id")?),
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        payload: payload.0,
        happened_at: row.try_get("happened_at")?,
        asked: row.try_get("asked")?,
        attempts: row.try_get("attempts")?,
        first_attempt_at: row.try_get("first_attempt_at")?,
        last_attempt_at: row.try_get("last_attempt_at")?,
        last_status: row.try_get("last_status")?,
        last_error: row.try_get("last_error")?,
    })
}
