//! Kinds of work: what workers outside of this server do, and how long and how often they may try.

use std::time::Duration;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use crate::{
    event::Timestamp,
    job::{
        Code, Rejection,
        work::{check_kind, check_prefix, check_text},
    },
    store::{Store, StoreError},
};

/// Kinds that one server knows at the most.
const MAX_KINDS: i64 = 500;
const MAX_DESCRIPTION: usize = 500;

/// A kind of work. What is `None` is as the settings say.
#[derive(Clone, Debug)]
pub struct Kind {
    pub name: String,
    /// What stands before the names of its workers' own events.
    pub prefix: String,
    /// A sentence for people.
    pub description: String,
    /// How long a job belongs to a worker that gives no sign of life.
    pub lease: Option<Duration>,
    pub max_attempts: Option<i32>,
    /// Jobs that may wait.
    pub max_waiting: Option<i64>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Jobs that wait for a worker, and jobs that one has.
    pub waiting: i64,
    pub running: i64,
}

/// What a kind is to be.
#[derive(Clone, Debug, Default)]
pub struct KindChange {
    /// The kind's name if it is not said.
    pub prefix: Option<String>,
    pub description: String,
    pub lease: Option<Duration>,
    pub max_attempts: Option<i32>,
    pub max_waiting: Option<i64>,
}

/// How jobs of a kind are worked on.
pub(super) struct Rules {
    pub lease_seconds: i32,
    pub max_attempts: i32,
    pub max_waiting: i64,
}

impl Store {
    /// Registers a kind, or changes it; jobs that are there keep their number of attempts.
    ///
    /// # Errors
    /// A rejection that names the field, and [`Code::PrefixTaken`].
    pub async fn put_work_kind(&self, name: &str, change: KindChange) -> Result<Kind, StoreError> {
        check_kind(name)?;
        let prefix = change.prefix.as_deref().unwrap_or(name);
        check_prefix(prefix)?;
        check_text("description", Some(&change.description), MAX_DESCRIPTION)?;
        let mut tx = self.pool.begin().await?;
        // One at a time, so that the limit holds.
        sqlx::query("LOCK TABLE work_kinds IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        let (known, taken): (i64, bool) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE name <> $1), coalesce(bool_or(prefix = $2 AND name <> $1), false)
             FROM work_kinds",
        )
        .bind(name)
        .bind(prefix)
        .fetch_one(&mut *tx)
        .await?;
        if taken {
            let message = format!("Another kind's events begin with {prefix}: already; take another prefix.");
            return Err(Rejection::new(Code::PrefixTaken, message).into());
        }
        if known >= MAX_KINDS {
            let message = format!("This server knows {MAX_KINDS} kinds of work and takes no more.");
            return Err(Rejection::new(Code::TooMany, message).into());
        }
        sqlx::query(
            "INSERT INTO work_kinds (name, prefix, description, lease_seconds, max_attempts, max_waiting)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (name) DO UPDATE SET prefix = excluded.prefix, description = excluded.description,
                 lease_seconds = excluded.lease_seconds, max_attempts = excluded.max_attempts,
                 max_waiting = excluded.max_waiting, updated_at = now()",
        )
        .bind(name)
        .bind(prefix)
        .bind(&change.description)
        .bind(change.lease.map(|lease| i32::try_from(lease.as_secs()).unwrap_or(i32::MAX)))
        .bind(change.max_attempts)
        .bind(change.max_waiting)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.work_kind(name).await
    }

    /// One kind.
    ///
    /// # Errors
    /// [`Code::UnknownKind`].
    pub async fn work_kind(&self, name: &str) -> Result<Kind, StoreError> {
        let mut found = self.find_kinds(Some(name)).await?;
        found.pop().ok_or_else(|| Rejection::unknown_kind(name).into())
    }

    /// All kinds, by name.
    pub async fn work_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        self.find_kinds(None).await
    }

    async fn find_kinds(&self, name: Option<&str>) -> Result<Vec<Kind>, StoreError> {
        let rows = sqlx::query(
            "SELECT k.*, coalesce(open.waiting, 0) AS waiting, coalesce(open.running, 0) AS running
             FROM work_kinds k LEFT JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE state <> 'running') AS waiting,
                        count(*) FILTER (WHERE state = 'running') AS running
                 FROM work WHERE work.kind = k.name AND state <> 'ended') AS open ON true
             WHERE $1::text IS NULL OR k.name = $1 ORDER BY k.name",
        )
        .bind(name)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(kind).collect()
    }

    /// The rules of a kind; one that nobody has registered is registered with what the settings say.
    pub(super) async fn work_rules(&self, tx: &mut PgConnection, name: &str) -> Result<Rules, StoreError> {
        check_kind(name)?;
        sqlx::query("INSERT INTO work_kinds (name, prefix) VALUES ($1, $1) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&mut *tx)
            .await?;
        let row =
            sqlx::query("SELECT lease_seconds, max_attempts, max_waiting FROM work_kinds WHERE name = $1")
                .bind(name)
                .fetch_optional(tx)
                .await?
                .ok_or_else(|| Rejection::unknown_kind(name))?;
        let settings = &self.work.settings;
        let lease = i32::try_from(settings.lease.as_secs()).unwrap_or(i32::MAX);
        Ok(Rules {
            lease_seconds: row.try_get::<Option<i32>, _>("lease_seconds")?.unwrap_or(lease),
            max_attempts: row.try_get::<Option<i32>, _>("max_attempts")?.unwrap_or(settings.max_attempts),
            max_waiting: row.try_get::<Option<i64>, _>("max_waiting")?.unwrap_or(settings.max_waiting),
        })
    }
}

/// What stands before the events of a kind.
pub(super) async fn prefix(tx: &mut PgConnection, name: &str) -> Result<String, StoreError> {
    let prefix = sqlx::query_scalar("SELECT prefix FROM work_kinds WHERE name = $1").bind(name);
    Ok(prefix.fetch_optional(tx).await?.unwrap_or_else(|| name.to_owned()))
}

fn kind(row: &PgRow) -> Result<Kind, StoreError> {
    let lease: Option<i32> = row.try_get("lease_seconds")?;
    Ok(Kind {
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        description: row.try_get("description")?,
        lease: lease.map(|seconds| Duration::from_secs(seconds.unsigned_abs().into())),
        max_attempts: row.try_get("max_attempts")?,
        max_waiting: row.try_get("max_waiting")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        waiting: row.try_get("waiting")?,
        running: row.try_get("running")?,
    })
}
