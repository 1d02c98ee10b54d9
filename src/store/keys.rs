//! API keys: who calls with a key, and what was revoked.

use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{
    event::Timestamp,
    job::{Code, Rejection},
};

/// Keys that are good at the same time at the most.
const MAX_KEYS: i64 = 10_000;
/// That a key was used is written down once in so many seconds.
const USED_STEP: f64 = 60.0;

/// A key's row; the key itself is not kept.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: Uuid,
    /// How the key begins.
    pub prefix: String,
    /// What it is for.
    pub name: String,
    pub subject: String,
    /// As [`Scopes::parse`](crate::job::Scopes::parse) reads them.
    pub scopes: String,
    pub created_at: Timestamp,
    /// A minute off at the most.
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// A key to be kept.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub prefix: String,
    pub sha256: [u8; 32],
    pub name: String,
    pub subject: String,
    pub scopes: String,
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Keeps a new key.
    ///
    /// # Errors
    /// [`Code::TooMany`].
    pub async fn add_api_key(&self, new: NewApiKey) -> Result<ApiKey, StoreError> {
        let row = sqlx::query(
            "INSERT INTO api_keys (id, prefix, sha256, name, subject, scopes, expires_at)
             SELECT $1, $2, $3, $4, $5, $6, $7
             WHERE (SELECT count(*) FROM api_keys
                    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) < $8
             RETURNING *",
        )
        .bind(Uuid::now_v7())
        .bind(new.prefix)
        .bind(&new.sha256[..])
        .bind(new.name)
        .bind(new.subject)
        .bind(new.scopes)
        .bind(new.expires_at)
        .bind(MAX_KEYS)
        .fetch_optional(&self.pool)
        .await?;
        let full = || {
            let message = format!("There are {MAX_KEYS} API keys already; revoke some first.");
            Rejection::new(Code::TooMany, message)
        };
        key(&row.ok_or_else(full)?)
    }

    /// The key with this SHA-256, be it good or not; notes that it was used.
    pub async fn use_api_key(&self, sha256: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query(
            "SELECT *, coalesce(last_used_at < now() - make_interval(secs => $2), true) AS stale
             FROM api_keys WHERE sha256 = $1",
        )
        .bind(&sha256[..])
        .bind(USED_STEP)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let found = key(&row)?;
        if row.try_get("stale")? && found.revoked_at.is_none() {
            sqlx::query("UPDATE api_keys SET last_used_at = now() WHERE id = $1")
                .bind(found.id)
                .execute(&self.pool)
                .await?;
        }
        Ok(Some(found))
    }

    /// All keys, oldest first; those that are good no more only if asked for.
    pub async fn api_keys(&self, all: bool) -> Result<Vec<ApiKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM api_keys
             WHERE $1 OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
             ORDER BY created_at, id",
        )
        .bind(all)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(key).collect()
    }

    /// Revokes the key with this id or prefix; none if there is no such key that is good. One that was revoked stays as it
    /// is.
    pub async fn revoke_api_key(&self, id_or_prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        let row = sqlx::query(
            "UPDATE api_keys SET revoked_at = now()
             WHERE (id::text = $1 OR prefix = $1) AND revoked_at IS NULL RETURNING *",
        )
        .bind(id_or_prefix)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(key).transpose()
    }

    /// The ids of keys that were revoked since a time.
    pub async fn api_keys_revoked_since(&self, time: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        let ids = sqlx::query_scalar("SELECT id FROM api_keys WHERE revoked_at >= $1").bind(time);
        Ok(ids.fetch_all(&self.pool).await?)
    }
}

fn key(row: &PgRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.try_get("id")?,
        prefix: row.try_get("prefix")?,
        name: row.try_get("name")?,
        subject: row.try_get("subject")?,
        scopes: row.try_get("scopes")?,
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}
