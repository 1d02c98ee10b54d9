//! Label templates: SVG text with its size.

use sqlx::Row as _;

use super::{Store, StoreError};

/// A label template as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Such as `standard-label`.
    pub id: String,
    pub name: String,
    pub width_mm: f64,
    pub height_mm: f64,
    pub dpi: i32,
    pub svg: String,
}

impl Store {
    /// Writes templates that come with the binary; one that changed replaces the stored one.
    pub async fn put_templates(&self, templates: &[Template]) -> Result<(), StoreError> {
        for template in templates {
            sqlx::query(
                "INSERT INTO templates (id, name, width_mm, height_mm, dpi, svg) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (id) DO UPDATE SET name = $2, width_mm = $3, height_mm = $4, dpi = $5, svg = $6,
                        updated_at = now() WHERE templates.svg <> $6 OR templates.dpi <> $5 OR templates.name <> $2",
            )
            .bind(&template.id)
            .bind(&template.name)
            .bind(template.width_mm)
            .bind(template.height_mm)
            .bind(template.dpi)
            .bind(&template.svg)
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }

    /// The template with this id, or with this name in any case or as a slug (`Standard Label`, `standard-label`).
    pub async fn template(&self, name: &str) -> Result<Option<Template>, StoreError> {
        // The database takes the character zero for an error of its own.
        if name.contains('\0') {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT * FROM templates
             WHERE id = $1 OR lower(name) = lower($1) OR replace(lower(name), ' ', '-') = lower($1)
             ORDER BY id = $1 DESC LIMIT 1",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Template {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                width_mm: row.try_get("width_mm")?,
                height_mm: row.try_get("height_mm")?,
                dpi: row.try_get("dpi")?,
                svg: row.try_get("svg")?,
            })
        })
        .transpose()
    }

    /// The ids of all templates.
    pub async fn template_ids(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM templates ORDER BY id").fetch_all(&self.pool).await?)
    }
}
