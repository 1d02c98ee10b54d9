//! Layouts of print sheets that people saved.

use chrono::Utc;
use serde_json::Value;
use sqlx::{Row as _, postgres::PgRow, types::Json};

use super::{Store, StoreError};
use crate::event::Timestamp;

/// A saved layout.
#[derive(Clone, Debug)]
pub struct PrintLayout {
    /// The page's own, or a UUID.
    pub id: String,
    pub name: String,
    /// What the page sent.
    pub body: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// All saved layouts, by name.
    pub async fn print_layouts(&self) -> Result<Vec<PrintLayout>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM print_layouts ORDER BY lower(name), id").fetch_all(&self.pool).await?;
        rows.iter().map(layout).collect()
    }

    /// Saves a layout, in place of the one with its id; `None` when there are `most` others already.
    pub async fn save_print_layout(
        &self,
        id: &str,
        name: &str,
        body: &Value,
        most: i64,
    ) -> Result<Option<PrintLayout>, StoreError> {
        let row = sqlx::query(
            "INSERT INTO print_layouts (id, name, body, created_at, updated_at)
             SELECT $1, $2, $3, $4, $4 WHERE (SELECT count(*) FROM print_layouts WHERE id <> $1) < $5
             ON CONFLICT (id) DO UPDATE SET name = $2, body = $3, updated_at = $4
             RETURNING *",
        )
        .bind(id)
        .bind(name)
        .bind(Json(body))
        .bind(Utc::now())
        .bind(most)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(layout).transpose()
    }

    /// Removes a saved layout; whether there was one.
    pub async fn remove_print_layout(&self, id: &str) -> Result<bool, StoreError> {
        let done =
            sqlx::query("DELETE FROM print_layouts WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }
}

fn layout(row: &PgRow) -> Result<PrintLayout, StoreError> {
    Ok(PrintLayout {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        body: row.try_get::<Json<Value>, _>("body")?.0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
