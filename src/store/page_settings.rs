//! Settings that a frontend's pages keep on the server; they mean nothing to it.

use serde_json::Value;
use sqlx::types::Json;

use super::{Store, StoreError};

impl Store {
    /// An owner's settings of a group, if any were kept.
    pub async fn page_settings(&self, owner: &str, name: &str) -> Result<Option<Value>, StoreError> {
        let found: Option<Json<Value>> =
            sqlx::query_scalar("SELECT settings FROM page_settings WHERE owner = $1 AND name = $2")
                .bind(owner)
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.map(|settings| settings.0))
    }

    /// Keeps an owner's settings of a group.
    pub async fn put_page_settings(
        &self,
        owner: &str,
        name: &str,
        settings: &Value,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO page_settings (owner, name, settings) VALUES ($1, $2, $3)
             ON CONFLICT (owner, name) DO UPDATE SET settings = excluded.settings, updated_at = now()",
        )
        .bind(owner)
        .bind(name)
        .bind(Json(settings))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
