//! The ledger of credits: what an owner was granted in a month, what jobs reserved, and what came back.

use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{Store, StoreError, change::Working, jobs};
use crate::{
    event::Timestamp,
    job::{Code, Command, Failure, JobId, Rejection, Status},
};

/// Credits that everybody has in a month.
pub const GRANT: i64 = 10_000;
/// How far below nothing a balance may go by a job.
pub const OVERDRAFT: i64 = 100;
/// What owners' locks are told from other advisory locks by.
const LOCKS: i32 = 0x6372_6564;

/// What a job is to reserve.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub credits: i64,
    /// `YYYY-MM`.
    pub month: String,
}

/// An owner's credits in a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    pub balance: i64,
    pub granted: i64,
    /// Reserved, whatever came back of it.
    pub used: i64,
    pub refunded: i64,
    pub adjusted: i64,
}

/// What a job's owner says of its end.
#[derive(Clone, Debug)]
pub enum Final {
    /// It was done, and cost so many credits; the results are those of a job that nobody else has ended.
    Done {
        credits: i64,
        results: Value,
    },
    Failed {
        why: String,
    },
}

/// What a job's end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finalized {
    pub status: Status,
    pub reserved: i64,
    pub cost: i64,
    /// What was given back, or taken if it is below nothing.
    pub adjustment: i64,
}

/// A line of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerLine {
    pub id: i64,
    pub month: String,
    pub delta: i64,
    pub reason: String,
    /// The number of the job.
    pub number: Option<i64>,
    pub description: String,
    pub created_at: Timestamp,
}

impl Store {
    /// An owner's credits in a month. Its first look grants them.
    pub async fn credits(&self, owner: &str, month: &str) -> Result<Credits, StoreError> {
        let mut tx = self.pool.begin().await?;
        grant(&mut tx, owner, month).await?;
        let credits = balance(&mut tx, owner, month).await?;
        tx.commit().await?;
        Ok(credits)
    }

    /// The newest lines of an owner's ledger; of one month if one is given.
    pub async fn ledger(
        &self,
        owner: &str,
        month: Option<&str>,
        limit: i64,
    ) -> Result<Vec<LedgerLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM credits WHERE owner = $1 AND ($2::text IS NULL OR month = $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(owner)
        .bind(month)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(line).collect()
    }

    /// Ends a job at its owner's word, unless it has ended; what it reserved becomes what it cost. One that was done
    /// already is adjusted once.
    ///
    /// # Errors
    /// [`Code::JobEnded`] when there is nothing left to adjust.
    pub async fn finalize(&self, id: JobId, outcome: Final) -> Result<Finalized, StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, id).await?;
        let reserved: Option<i64> =
            sqlx::query_scalar("SELECT -delta FROM credits WHERE job_id = $1 AND reason = 'job_reserve'")
                .bind(id.0)
                .fetch_optional(&mut *tx)
                .await?;
        let (status, reserved) = (record.job.status, reserved.unwrap_or(0));
        let adjustment = match &outcome {
            Final::Done { credits, .. } if reserved > 0 => reserved - credits,
            _ => 0,
        };
        if status.is_ended() {
            let is_adjusted =
                status == Status::Completed && adjustment != 0 && adjust(&mut tx, id, adjustment).await?;
            if !is_adjusted {
                let message =
                    format!("Job {id} has ended ({}), and nothing is left to adjust.", status.word());
                return Err(Rejection::new(Code::JobEnded, message).into());
            }
            tx.commit().await?;
            return Ok(Finalized { status, reserved, cost: reserved - adjustment, adjustment });
        }
        let mut state = Working::new(record);
        if status == Status::Paused {
            state.run(Command::Resume)?;
        }
        let cost = match outcome {
            Final::Done { credits, results } => {
                state.conclude(results);
                state.run(Command::Complete)?;
                if adjustment != 0 {
                    adjust(&mut tx, id, adjustment).await?;
                }
                credits
            }
            Final::Failed { why } => {
                state.run(Command::Fail { failure: Failure { error: why, phase: None } })?;
                0
            }
        };
        let status = self.finish(tx, state).await?.status;
        Ok(Finalized { status, reserved, cost, adjustment })
    }
}

/// Reserves credits for a new job, in the transaction that accepts it.
///
/// # Errors
/// [`Code::InsufficientCredits`].
pub(super) async fn reserve(
    tx: &mut PgConnection,
    owner: &str,
    job: JobId,
    wanted: &Reserve,
) -> Result<(), StoreError> {
    grant(tx, owner, &wanted.month).await?;
    let Credits { balance, .. } = balance(tx, owner, &wanted.month).await?;
    if balance - wanted.credits < -OVERDRAFT {
        let message = format!("Insufficient credits: {} are needed and {balance} are left.", wanted.credits);
        return Err(Rejection::new(Code::InsufficientCredits, message).into());
    }
    sqlx::query(
        "INSERT INTO credits (owner, month, delta, reason, job_id, number, description)
         SELECT $1, $2, -$3, 'job_reserve', id, number, 'Reserved for job ' || coalesce(number::text, id::text)
         FROM jobs WHERE id = $4",
    )
    .bind(owner)
    .bind(&wanted.month)
    .bind(wanted.credits)
    .bind(job.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Reserves for a job that tries another one again what that one had reserved; its own refund was written at its end.
///
/// # Errors
/// [`Code::InsufficientCredits`].
pub(super) async fn reserve_again(
    tx: &mut PgConnection,
    owner: &str,
    from: JobId,
    to: JobId,
) -> Result<(), StoreError> {
    let reserved: Option<(i64, String)> = sqlx::query_as(
        "SELECT -delta, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') FROM credits
         WHERE job_id = $1 AND reason = 'job_reserve'",
    )
    .bind(from.0)
    .fetch_optional(&mut *tx)
    .await?;
    match reserved {
        Some((credits, month)) => reserve(tx, owner, to, &Reserve { credits, month }).await,
        None => Ok(()),
    }
}

/// Gives back what a job reserved that came to nothing, in the transaction that ends it.
pub(super) async fn refund(tx: &mut PgConnection, job: JobId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO credits (owner, month, delta, reason, job_id, number, description)
         SELECT owner, month, -delta, 'job_refund', job_id, number,
                'Refund of job ' || coalesce(number::text, job_id::text)
         FROM credits WHERE job_id = $1 AND reason = 'job_reserve'
         ON CONFLICT (job_id, reason) WHERE job_id IS NOT NULL DO NOTHING",
    )
    .bind(job.0)
    .execute(tx)
    .await?;
    Ok(())
}

/// Returns whether it was not adjusted before.
async fn adjust(tx: &mut PgConnection, job: JobId, delta: i64) -> Result<bool, sqlx::Error> {
    let adjusted = sqlx::query(
        "INSERT INTO credits (owner, month, delta, reason, job_id, number, description)
         SELECT owner, month, $2, 'job_adjust', job_id, number,
                'What job ' || coalesce(number::text, job_id::text) || ' cost in the end'
         FROM credits WHERE job_id = $1 AND reason = 'job_reserve'
         ON CONFLICT (job_id, reason) WHERE job_id IS NOT NULL DO NOTHING",
    )
    .bind(job.0)
    .bind(delta)
    .execute(tx)
    .await?;
    Ok(adjusted.rows_affected() > 0)
}

/// Grants the month's credits, once. Of one owner one at a time.
async fn grant(tx: &mut PgConnection, owner: &str, month: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
        .bind(LOCKS)
        .bind(owner)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "INSERT INTO credits (owner, month, delta, reason, description)
         VALUES ($1, $2, $3, 'monthly_grant', 'Credits of ' || $2)
         ON CONFLICT (owner, month) WHERE reason = 'monthly_grant' DO NOTHING",
    )
    .bind(owner)
    .bind(month)
    .bind(GRANT)
    .execute(tx)
    .await?;
    Ok(())
}

async fn balance(tx: &mut PgConnection, owner: &str, month: &str) -> Result<Credits, StoreError> {
    let row = sqlx::query(
        "SELECT coalesce(sum(delta), 0)::bigint,
                coalesce(sum(delta) FILTER (WHERE reason = 'monthly_grant'), 0)::bigint,
                coalesce(-sum(delta) FILTER (WHERE reason = 'job_reserve'), 0)::bigint,
                coalesce(sum(delta) FILTER (WHERE reason = 'job_refund'), 0)::bigint,
                coalesce(sum(delta) FILTER (WHERE reason = 'job_adjust'), 0)::bigint
         FROM credits WHERE owner = $1 AND month = $2",
    )
    .bind(owner)
    .bind(month)
    .fetch_one(tx)
    .await?;
    Ok(Credits {
        balance: row.try_get(0)?,
        granted: row.try_get(1)?,
        used: row.try_get(2)?,
        refunded: row.try_get(3)?,
        adjusted: row.try_get(4)?,
    })
}

fn line(row: &PgRow) -> Result<LedgerLine, StoreError> {
    Ok(LedgerLine {
        id: row.try_get("id")?,
        month: row.try_get("month")?,
        delta: row.try_get("delta")?,
        reason: row.try_get("reason")?,
        number: row.try_get("number")?,
        description: row.try_get("description")?,
        created_at: row.try_get("created_at")?,
    })
}
