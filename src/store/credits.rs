//! The ledger of credits: what an owner was granted in a month, what jobs reserved, and what came back.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{Store, StoreError};
use crate::{
    event::Timestamp,
    job::{Code, JobId, Rejection},
};

/// Credits that everybody has in a month.
pub const GRANT: i64 = 10_000;
/// How far below nothing a balance may go by a job.
const OVERDRAFT: i64 = 100;
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
    /// An owner's credits in a month. Its first look grants them; what ended jobs give back is given back.
    pub async fn credits(&self, owner: &str, month: &str) -> Result<Credits, StoreError> {
        let mut tx = self.pool.begin().await?;
        settle(&mut tx, owner, month).await?;
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
    settle(tx, owner, &wanted.month).await?;
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

/// Grants the month's credits and gives back what jobs reserved that came to nothing, each once. Of one owner one at a
/// time.
async fn settle(tx: &mut PgConnection, owner: &str, month: &str) -> Result<(), StoreError> {
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
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO credits (owner, month, delta, reason, job_id, number, description)
         SELECT c.owner, c.month, -c.delta, 'job_refund', c.job_id, c.number, 'Refund of job ' || coalesce(c.number, 0)
         FROM credits c JOIN jobs j ON j.id = c.job_id
         WHERE c.owner = $1 AND c.reason = 'job_reserve' AND j.status IN ('failed', 'cancelled')
         ON CONFLICT (job_id, reason) WHERE job_id IS NOT NULL DO NOTHING",
    )
    .bind(owner)
    .execute(&mut *tx)
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
