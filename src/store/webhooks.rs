//! Webhooks: addresses that are told of their owners' events.
//!
//! An endpoint has a cursor over the journal. What lies behind it and concerns the endpoint is copied into deliveries
//! ([`deliveries`]), in the statement that moves the cursor on, so nothing is skipped and nothing comes twice; each
//! delivery is then tried until it succeeds or is given up, so one that fails holds no other up.

mod deliveries;

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::rand::{SecureRandom as _, SystemRandom};
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

pub(super) use self::deliveries::hand_over;
pub use self::deliveries::{Delivery, Resend, Resent, Settled, Verdict};
use super::{Store, StoreError};
use crate::{
    event::Timestamp,
    job::{Code, JobId, Rejection},
};

/// Deliveries of one endpoint that wait at the most; further ones stay in the journal until there is room.
const MAX_PENDING: i64 = 10_000;
/// How a secret is written down.
const PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;

/// What an endpoint's messages are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// A new one of 256 random bits.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<WebhookSecret, StoreError> {
        let mut bytes = vec![0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| {
            StoreError::Rejected(Rejection::new(Code::Internal, "The server has no randomness; try again."))
        })?;
        Ok(WebhookSecret(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As its owner is shown it, once.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// An endpoint to be made.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    pub owner: String,
    pub url: String,
    pub events: Vec<String>,
    pub job: Option<JobId>,
    pub description: String,
    pub enabled: bool,
}

/// What is to be different about an endpoint; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
}

/// An endpoint's row.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub id: Uuid,
    pub owner: String,
    pub url: String,
    /// Names of events; with a star at the end all that begin so.
    pub events: Vec<String>,
    pub job: Option<JobId>,
    pub description: String,
    pub secret: WebhookSecret,
    /// The one before, while receivers may still have it.
    pub old_secret: Option<WebhookSecret>,
    pub enabled: bool,
    /// Why the server disabled it.
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<Timestamp>,
    pub fence: i64,
    /// Events that were delivered.
    pub delivered: i64,
    pub last_delivered_at: Option<Timestamp>,
    pub last_failed_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An endpoint with what waits for it.
#[derive(Clone, Debug)]
pub struct WebhookState {
    pub webhook: Webhook,
    pub pending: i64,
    /// When the oldest event happened that waits.
    pub pending_since: Option<Timestamp>,
    pub failed: i64,
}

/// Of a row of `webhooks`, what is counted beside it; as many as there may be at the most, so that it is cheap.
const STATE: &str = "SELECT webhooks.*, waiting.pending, waiting.pending_since,
        (SELECT count(*) FROM (SELECT FROM webhook_deliveries
                               WHERE webhook_id = webhooks.id AND state = 'failed' LIMIT 10001) AS few) AS failed
     FROM webhooks CROSS JOIN LATERAL (
         SELECT count(*) AS pending, min(happened_at) AS pending_since
         FROM (SELECT happened_at FROM webhook_deliveries
               WHERE webhook_id = webhooks.id AND state = 'pending' LIMIT 20000) AS few) AS waiting";

impl Store {
    /// Makes an endpoint, which is told of what happens from now on.
    ///
    /// # Errors
    /// [`Code::TooMany`], if its owner has `most` already.
    pub async fn create_webhook(&self, new: NewWebhook, most: i64) -> Result<Webhook, StoreError> {
        let secret = WebhookSecret::generate()?;
        let row = sqlx::query(
            "INSERT INTO webhooks (id, owner, url, events, job_id, description, secret, enabled, cursor)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, position FROM journal_head
             WHERE journal_head.id = 1 AND (SELECT count(*) FROM webhooks WHERE owner = $2) < $9
             RETURNING *",
        )
        .bind(Uuid::now_v7())
        .bind(&new.owner)
        .bind(&new.url)
        .bind(&new.events)
        .bind(new.job.map(|job| job.0))
        .bind(&new.description)
        .bind(secret.bytes())
        .bind(new.enabled)
        .bind(most)
        .fetch_optional(&self.pool)
        .await?;
        let full = || {
            let message = format!("There are {most} webhooks already; remove one first.");
            Rejection::new(Code::TooMany, message)
        };
        webhook(&row.ok_or_else(full)?)
    }

    /// An owner's endpoints, or all, oldest first.
    pub async fn webhooks(&self, only: Option<&str>) -> Result<Vec<WebhookState>, StoreError> {
        let query =
            format!("{STATE} WHERE $1::text IS NULL OR owner = $1 ORDER BY created_at, id LIMIT 1000");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(only).fetch_all(&self.pool).await?;
        rows.iter().map(state).collect()
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`Code::WebhookNotFound`].
    pub async fn webhook(&self, id: Uuid) -> Result<WebhookState, StoreError> {
        let query = format!("{STATE} WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.pool).await?;
        state(&row.ok_or_else(|| Rejection::webhook_not_found(id))?)
    }

    /// Changes an endpoint. One that is enabled again goes on where it was, and what failed meanwhile of what waits is
    /// tried afresh.
    ///
    /// # Errors
    /// [`Code::WebhookNotFound`].
    pub async fn change_webhook(&self, id: Uuid, change: WebhookChange) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let was: Option<bool> =
            sqlx::query_scalar("SELECT enabled FROM webhooks WHERE id = $1 FOR NO KEY UPDATE")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        let was = was.ok_or_else(|| Rejection::webhook_not_found(id))?;
        sqlx::query(
            "UPDATE webhooks SET url = coalesce($2, url), events = coalesce($3, events),
                    description = coalesce($4, description), enabled = coalesce($5, enabled),
                    disabled_reason = CASE WHEN coalesce($5, enabled) THEN NULL ELSE disabled_reason END,
                    disabled_at = CASE WHEN coalesce($5, enabled) THEN NULL
                                       WHEN enabled THEN now() ELSE disabled_at END,
                    updated_at = now()
             WHERE id = $1",
        )
        .bind(id)
        .bind(change.url)
        .bind(change.events)
        .bind(change.description)
        .bind(change.enabled)
        .execute(&mut *tx)
        .await?;
        if change.enabled == Some(true) && !was {
            sqlx::query(
                "UPDATE webhook_deliveries SET attempts = 0, first_attempt_at = NULL, due_at = now()
                 WHERE webhook_id = $1 AND state = 'pending'",
            )
            .bind(id)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Gives an endpoint a new secret; the one that it had signs beside it for a while.
    ///
    /// # Errors
    /// [`Code::WebhookNotFound`].
    pub async fn rotate_webhook_secret(
        &self,
        id: Uuid,
        overlap: Duration,
    ) -> Result<WebhookSecret, StoreError> {
        let secret = WebhookSecret::generate()?;
        let done = sqlx::query(
            "UPDATE webhooks SET old_secret = secret, old_secret_until = now() + make_interval(secs => $3),
                    secret = $2, updated_at = now() WHERE id = $1",
        )
        .bind(id)
        .bind(secret.bytes())
        .bind(overlap.as_secs_f64())
        .execute(&self.pool)
        .await?;
        match done.rows_affected() {
            0 => Err(Rejection::webhook_not_found(id).into()),
            _ => Ok(secret),
        }
    }

    /// Removes an endpoint with all that waits for it.
    ///
    /// # Errors
    /// [`Code::WebhookNotFound`].
    pub async fn remove_webhook(&self, id: Uuid) -> Result<(), StoreError> {
        let done = sqlx::query("DELETE FROM webhooks WHERE id = $1").bind(id).execute(&self.pool).await?;
        match done.rows_affected() {
            0 => Err(Rejection::webhook_not_found(id).into()),
            _ => Ok(()),
        }
    }

    /// Takes up endpoints for which something is due and which no other process serves, those first that were not
    /// served for longest.
    pub async fn claim_webhooks(&self, lease: Duration, most: i64) -> Result<Vec<Webhook>, StoreError> {
        let rows = sqlx::query(
            "UPDATE webhooks SET fence = fence + 1, lease_until = now() + make_interval(secs => $1),
                    served_at = now()
             WHERE id IN (
                 SELECT id FROM webhooks
                 WHERE enabled AND (lease_until IS NULL OR lease_until < now())
                   AND EXISTS (SELECT FROM webhook_deliveries
                               WHERE webhook_id = webhooks.id AND state = 'pending' AND due_at <= now())
                 ORDER BY served_at NULLS FIRST, id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED)
             RETURNING *",
        )
        .bind(lease.as_secs_f64())
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(webhook).collect()
    }

    /// Gives an endpoint back.
    pub async fn release_webhook(&self, webhook: &Webhook) -> Result<(), StoreError> {
        sqlx::query("UPDATE webhooks SET lease_until = NULL WHERE id = $1 AND fence = $2")
            .bind(webhook.id)
            .bind(webhook.fence)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Gives all endpoints back that a process served which is gone: for the only one on this database.
    pub async fn take_over_webhooks(&self) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE webhooks SET lease_until = NULL, fence = fence + 1 WHERE lease_until IS NOT NULL",
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn state(row: &PgRow) -> Result<WebhookState, StoreError> {
    Ok(WebhookState {
        webhook: webhook(row)?,
        pending: row.try_get("pending")?,
        pending_since: row.try_get("pending_since")?,
        failed: row.try_get("failed")?,
    })
}

fn webhook(row: &PgRow) -> Result<Webhook, StoreError> {
    let until: Option<Timestamp> = row.try_get("old_secret_until")?;
    let old: Option<Vec<u8>> = row.try_get("old_secret")?;
    Ok(Webhook {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        url: row.try_get("url")?,
        events: row.try_get("events")?,
        job: row.try_get::<Option<Uuid>, _>("job_id")?.map(JobId),
        description: row.try_get("description")?,
        secret: WebhookSecret(row.try_get("secret")?),
        old_secret: old.filter(|_| until.is_some_and(|until| until > chrono::Utc::now())).map(WebhookSecret),
        enabled: row.try_get("enabled")?,
        disabled_reason: row.try_get("disabled_reason")?,
        disabled_at: row.try_get("disabled_at")?,
        fence: row.try_get("fence")?,
        delivered: row.try_get("delivered")?,
        last_delivered_at: row.try_get("last_delivered_at")?,
        last_failed_at: row.try_get("last_failed_at")?,
        last_error: row.try_get("last_error")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
