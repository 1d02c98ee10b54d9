//! Label templates: SVG or JSON text with the label's size.

use sqlx::{Row as _, postgres::PgRow};

use super::{Store, StoreError};
use crate::{
    event::Timestamp,
    job::{Code, Rejection},
};

/// Templates of people, besides those that come with the binary,
const MAX_TEMPLATES: i64 = 500;
/// … and their characters in all: a list shows them whole.
const MAX_CHARACTERS: i64 = 20_000_000;
/// Templates that a refusal names.
const NAMED: i64 = 20;

/// A label template as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Such as `standard-label`.
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub width_mm: f64,
    pub height_mm: f64,
    pub dpi: i32,
    /// `svg`, `layers` or `editor`; `auto` stands for the choice by rules and has no source.
    pub kind: String,
    pub source: String,
    /// It comes with the binary and cannot be changed.
    pub built_in: bool,
    /// Rules may choose it, or it is what is taken when none does.
    pub auto_match: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A label template without its source.
#[derive(Clone, Debug)]
pub struct TemplateName {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub width_mm: f64,
    pub height_mm: f64,
    /// It comes with the binary.
    pub built_in: bool,
}

impl Store {
    /// Writes templates that come with the binary; one that changed replaces the stored one.
    pub async fn put_templates(&self, templates: &[Template]) -> Result<(), StoreError> {
        for template in templates {
            sqlx::query(
                "INSERT INTO templates (id, name, width_mm, height_mm, dpi, source, kind, built_in)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, true)
                 ON CONFLICT (id) DO UPDATE SET name = $2, width_mm = $3, height_mm = $4, dpi = $5, source = $6,
                        kind = $7, built_in = true, updated_at = now()
                  WHERE templates.source <> $6 OR templates.dpi <> $5 OR templates.name <> $2",
            )
            .bind(&template.id)
            .bind(&template.name)
            .bind(template.width_mm)
            .bind(template.height_mm)
            .bind(template.dpi)
            .bind(&template.source)
            .bind(&template.kind)
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
             ORDER BY id = $1 DESC, built_in DESC, created_at, id LIMIT 1",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(template).transpose()
    }

    /// All templates, or those of one kind; those that come with the binary first.
    pub async fn templates(&self, kind: Option<&str>) -> Result<Vec<Template>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM templates WHERE $1::text IS NULL OR kind = $1 ORDER BY built_in DESC, created_at, id",
        )
        .bind(kind)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(template).collect()
    }

    /// Those that rules may choose from, and a word that changes whenever one of them does.
    pub async fn auto_templates_version(&self) -> Result<String, StoreError> {
        let version = sqlx::query_scalar(
            "SELECT count(*) || ' ' || coalesce(max(updated_at)::text, '') FROM templates WHERE auto_match OR built_in",
        );
        Ok(version.fetch_one(&self.pool).await?)
    }

    /// Those that rules may choose from, and those that come with the binary.
    pub async fn auto_templates(&self) -> Result<Vec<Template>, StoreError> {
        let rows = sqlx::query("SELECT * FROM templates WHERE auto_match OR built_in ORDER BY id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(template).collect()
    }

    /// Ids of templates, for people who named one that is not there.
    pub async fn template_ids(&self) -> Result<Vec<String>, StoreError> {
        let ids =
            sqlx::query_scalar("SELECT id FROM templates ORDER BY built_in DESC, id LIMIT $1").bind(NAMED);
        Ok(ids.fetch_all(&self.pool).await?)
    }

    /// What people choose from, without the sources: those that come with the binary first.
    pub async fn template_names(&self) -> Result<Vec<TemplateName>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, description, width_mm, height_mm, built_in FROM templates
             ORDER BY built_in DESC, name, id LIMIT $1",
        )
        .bind(MAX_TEMPLATES)
        .fetch_all(&self.pool)
        .await?;
        let names = rows.iter().map(|row| {
            Ok(TemplateName {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                description: row.try_get("description")?,
                width_mm: row.try_get("width_mm")?,
                height_mm: row.try_get("height_mm")?,
                built_in: row.try_get("built_in")?,
            })
        });
        Ok(names.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Stores a template of a person.
    ///
    /// # Errors
    /// A rejection when its id is taken or there is no room for more.
    pub async fn create_template(&self, new: &Template) -> Result<Template, StoreError> {
        let mut tx = self.pool.begin().await?;
        // Two that come together must not both find the last place free.
        sqlx::query("LOCK TABLE templates IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        let taken =
            sqlx::query_scalar::<_, bool>("SELECT built_in FROM templates WHERE id = $1").bind(&new.id);
        if taken.fetch_optional(&mut *tx).await?.is_some() {
            let message =
                format!("There is a template {} already; change that one, or choose another id.", new.id);
            return Err(Rejection::new(Code::TemplateExists, message).into());
        }
        let row = sqlx::query(
            "INSERT INTO templates (id, name, description, width_mm, height_mm, dpi, kind, source, auto_match)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *",
        )
        .bind(&new.id)
        .bind(&new.name)
        .bind(&new.description)
        .bind(new.width_mm)
        .bind(new.height_mm)
        .bind(new.dpi)
        .bind(&new.kind)
        .bind(&new.source)
        .bind(new.auto_match)
        .fetch_one(&mut *tx)
        .await?;
        check_room(&mut tx).await?;
        tx.commit().await?;
        template(&row)
    }

    /// Replaces what a template of a person is; `None` when it is gone.
    ///
    /// # Errors
    /// A rejection for one that comes with the binary, or when there is no room.
    pub async fn update_template(&self, new: &Template) -> Result<Option<Template>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("LOCK TABLE templates IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
        let row = sqlx::query(
            "UPDATE templates SET name = $2, description = $3, width_mm = $4, height_mm = $5, dpi = $6, kind = $7,
                    source = $8, auto_match = $9, updated_at = now()
             WHERE id = $1 AND NOT built_in RETURNING *",
        )
        .bind(&new.id)
        .bind(&new.name)
        .bind(&new.description)
        .bind(new.width_mm)
        .bind(new.height_mm)
        .bind(new.dpi)
        .bind(&new.kind)
        .bind(&new.source)
        .bind(new.auto_match)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        check_room(&mut tx).await?;
        tx.commit().await?;
        Ok(Some(template(&row)?))
    }

    /// Removes a template of a person; whether there was one.
    ///
    /// # Errors
    /// A rejection while labels were made with it or jobs that are not done will use it.
    pub async fn delete_template(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let found = sqlx::query("SELECT 1 FROM templates WHERE id = $1 AND NOT built_in FOR UPDATE");
        if found.bind(id).fetch_optional(&mut *tx).await?.is_none() {
            return Ok(false);
        }
        let count = async |query: &'static str, tx: &mut sqlx::PgConnection| {
            sqlx::query_scalar::<_, i64>(query).bind(id).fetch_one(tx).await
        };
        let labels = count(
            "SELECT count(*) FROM (SELECT id FROM labels WHERE template_id = $1
                                   UNION SELECT id FROM library_labels WHERE template_id = $1) AS made",
            &mut tx,
        )
        .await?;
        let jobs =
            count("SELECT count(*) FROM jobs WHERE template_id = $1 AND ended_at IS NULL", &mut tx).await?;
        if labels + jobs > 0 {
            let message = format!(
                "{labels} labels were made with this template and {jobs} jobs will use it; delete or end those first."
            );
            return Err(Rejection::new(Code::TemplateInUse, message).into());
        }
        sqlx::query("DELETE FROM templates WHERE id = $1").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Refuses what was written just now when there is too much of it.
async fn check_room(tx: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS count, coalesce(sum(length(source)), 0)::bigint AS length FROM templates WHERE NOT built_in",
    )
    .fetch_one(tx)
    .await?;
    let (count, length): (i64, i64) = (row.try_get("count")?, row.try_get("length")?);
    if count > MAX_TEMPLATES || length > MAX_CHARACTERS {
        let message = format!(
            "There is room for {MAX_TEMPLATES} templates with {MAX_CHARACTERS} characters in all; delete one first."
        );
        return Err(Rejection::new(Code::TooLarge, message).into());
    }
    Ok(())
}

fn template(row: &PgRow) -> Result<Template, StoreError> {
    Ok(Template {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        width_mm: row.try_get("width_mm")?,
        height_mm: row.try_get("height_mm")?,
        dpi: row.try_get("dpi")?,
        kind: row.try_get("kind")?,
        source: row.try_get("source")?,
        built_in: row.try_get("built_in")?,
        auto_match: row.try_get("auto_match")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
