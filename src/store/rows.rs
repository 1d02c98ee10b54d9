//! The rows that a job's events speak of: artifacts, screenshots, readings, matches and labels.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{ArticleRow, Artifact, CompanyRow, Store, StoreError, articles, companies};
use crate::{event::Timestamp, job::JobId};

/// A row to be written with the event that tells of it.
#[derive(Clone, Debug)]
pub enum Row {
    Artifact(Artifact),
    Screenshot(ScreenshotRow),
    /// After its screenshot.
    Element(ElementRow),
    /// With the picture's words and their places.
    Ocr(OcrRow, Value),
    Match(MatchRow),
    Label(LabelRow),
    /// What a reading says of its article; it is put together with what is known already.
    Article(ArticleRow),
    Company(CompanyRow),
}

#[derive(Clone, Debug)]
pub struct ScreenshotRow {
    pub id: Uuid,
    pub ordinal: i32,
    pub product_url: String,
    pub product_name: Option<String>,
    pub image_key: String,
    pub thumbnail_key: String,
    /// Pixels.
    pub width: i32,
    pub height: i32,
    /// Bytes of the PNG.
    pub file_size: i64,
    /// Whether the page had finished loading.
    pub complete: bool,
    /// `ProductFacts` that the page declares.
    pub page_facts: Value,
    /// `single_price`, `tiered_price` or `unknown`.
    pub layout_type: String,
    /// At most 1000 characters.
    pub page_title: String,
}

/// The picture of one part of a product page.
#[derive(Clone, Debug)]
pub struct ElementRow {
    pub screenshot_id: Uuid,
    /// `product-image`, `title`, `article-number`, `price`, `price-table` or `description`; the file's name, too.
    pub kind: String,
    /// The article number or `product-N`: one a page, and the folder in [`ElementRow::key`].
    pub folder: String,
    /// `jobs/<job>/elements/<folder>/<kind>.png`.
    pub key: String,
    /// CSS pixels from the page's left edge.
    pub page_x: f64,
    /// CSS pixels from the page's top.
    pub page_y: f64,
    /// CSS pixels.
    pub page_width: f64,
    /// CSS pixels.
    pub page_height: f64,
    /// Pixels of the picture.
    pub width: i32,
    /// Pixels of the picture.
    pub height: i32,
    /// Bytes of the PNG.
    pub file_size: i64,
}

#[derive(Clone, Debug)]
pub struct OcrRow {
    pub id: Uuid,
    pub screenshot_id: Uuid,
    pub ordinal: i32,
    /// 0 to 100.
    pub confidence: f64,
    pub full_text: String,
    /// What the picture alone says, with the places of the fields.
    pub reading: Value,
    /// `ProductFacts` after the cross-check.
    pub facts: Value,
    pub disagreements: Value,
    pub error: Option<String>,
}

#[derive(Clone, Debug)]
pub struct MatchRow {
    pub id: Uuid,
    pub ocr_result_id: Uuid,
    pub ordinal: i32,
    pub success: bool,
    /// `exact` or `fuzzy`.
    pub match_type: Option<String>,
    /// `articleNumber`, `ean`, `productName` or `fuzzy`.
    pub matched_by: Option<String>,
    /// 0 to 1.
    pub score: f64,
    /// `ProductFacts` of the known product.
    pub listed: Option<Value>,
    pub warnings: Value,
    pub reason: Option<String>,
}

#[derive(Clone, Debug)]
pub struct LabelRow {
    pub id: Uuid,
    pub match_id: Uuid,
    pub template_id: String,
    pub ordinal: i32,
    pub article_number: String,
    pub facts: Value,
    pub image_key: Option<String>,
    pub pdf_key: Option<String>,
    /// Pixels.
    pub width: Option<i32>,
    pub height: Option<i32>,
    /// Bytes of the PNG.
    pub file_size: Option<i64>,
    /// Milliseconds.
    pub render_ms: Option<i32>,
    pub warnings: Value,
    pub error: Option<String>,
    pub created_at: Timestamp,
}

/// Writes one row of a job; a label that was drawn also enters the library. Artifacts may have been written by an
/// attempt that did not come to its end.
pub(super) async fn insert(tx: &mut PgConnection, job: JobId, row: &Row) -> Result<(), sqlx::Error> {
    let statement = match row {
        Row::Artifact(a) => sqlx::query(
            "INSERT INTO artifacts (key, job_id, content_type, size, sha256) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (key) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256",
        )
        .bind(&a.key)
        .bind(job.0)
        .bind(&a.content_type)
        .bind(a.size)
        .bind(&a.sha256),
        Row::Screenshot(s) => sqlx::query(
            "INSERT INTO screenshots (id, job_id, ordinal, product_url, product_name, image_key, thumbnail_key,
                                      width, height, file_size, complete, page_facts, layout_type, page_title)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(s.id)
        .bind(job.0)
        .bind(s.ordinal)
        .bind(&s.product_url)
        .bind(&s.product_name)
        .bind(&s.image_key)
        .bind(&s.thumbnail_key)
        .bind(s.width)
        .bind(s.height)
        .bind(s.file_size)
        .bind(s.complete)
        .bind(&s.page_facts)
        .bind(&s.layout_type)
        .bind(&s.page_title),
        Row::Element(e) => sqlx::query(
            "INSERT INTO screenshot_elements (screenshot_id, job_id, kind, folder, key, page_x, page_y, page_width,
                                              page_height, width, height, file_size)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(e.screenshot_id)
        .bind(job.0)
        .bind(&e.kind)
        .bind(&e.folder)
        .bind(&e.key)
        .bind(e.page_x)
        .bind(e.page_y)
        .bind(e.page_width)
        .bind(e.page_height)
        .bind(e.width)
        .bind(e.height)
        .bind(e.file_size),
        Row::Ocr(o, words) => sqlx::query(
            "INSERT INTO ocr_results (id, job_id, screenshot_id, ordinal, confidence, full_text, reading, facts,
                                      disagreements, error, words)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(o.id)
        .bind(job.0)
        .bind(o.screenshot_id)
        .bind(o.ordinal)
        .bind(o.confidence)
        .bind(&o.full_text)
        .bind(&o.reading)
        .bind(&o.facts)
        .bind(&o.disagreements)
        .bind(&o.error)
        .bind(words),
        Row::Match(m) => sqlx::query(
            "INSERT INTO matches (id, job_id, ocr_result_id, ordinal, success, match_type, matched_by, score, listed,
                                  warnings, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(m.id)
        .bind(job.0)
        .bind(m.ocr_result_id)
        .bind(m.ordinal)
        .bind(m.success)
        .bind(&m.match_type)
        .bind(&m.matched_by)
        .bind(m.score)
        .bind(&m.listed)
        .bind(&m.warnings)
        .bind(&m.reason),
        Row::Label(l) => sqlx::query(
            "INSERT INTO labels (id, job_id, match_id, template_id, ordinal, article_number, facts, image_key, pdf_key,
                                 width, height, file_size, render_ms, warnings, error, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(l.id)
        .bind(job.0)
        .bind(l.match_id)
        .bind(&l.template_id)
        .bind(l.ordinal)
        .bind(&l.article_number)
        .bind(&l.facts)
        .bind(&l.image_key)
        .bind(&l.pdf_key)
        .bind(l.width)
        .bind(l.height)
        .bind(l.file_size)
        .bind(l.render_ms)
        .bind(&l.warnings)
        .bind(&l.error)
        .bind(l.created_at),
        Row::Company(company) => return companies::insert(tx, job, company).await,
        Row::Article(article) => return articles::consolidate(tx, job, article).await,
    };
    statement.execute(&mut *tx).await?;
    match row {
        Row::Label(label) if label.error.is_none() => super::library::record(tx, label.id).await,
        _ => Ok(()),
    }
}

/// Rows of one table that belong to a job, in the order of their items. Only the columns that are named are read: a
/// page asks for all rows every two seconds, and words and their places would be most of what comes.
macro_rules! rows_of_job {
    ($(#[$doc:meta])* $method:ident, $one:ident, $table:literal, $type:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        pub async fn $method(&self, job: JobId) -> Result<Vec<$type>, StoreError> {
            let rows = sqlx::query(concat!("SELECT ", $(stringify!($field), ", ",)* "job_id FROM ", $table, " WHERE job_id = $1 ORDER BY ordinal, id"))
                .bind(job.0)
                .fetch_all(&self.pool)
                .await?;
            rows.iter().map(|row| Ok($type { $($field: row.try_get(stringify!($field))?),* })).collect()
        }

        /// One of them.
        pub async fn $one(&self, id: Uuid) -> Result<Option<$type>, StoreError> {
            let row = sqlx::query(concat!("SELECT ", $(stringify!($field), ", ",)* "job_id FROM ", $table, " WHERE id = $1"))
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
            row.map(|row| Ok($type { $($field: row.try_get(stringify!($field))?),* })).transpose()
        }
    };
}

impl Store {
    rows_of_job!(
        /// A job's screenshots.
        screenshots, screenshot, "screenshots", ScreenshotRow {
            id, ordinal, product_url, product_name, image_key, thumbnail_key, width, height, file_size, complete,
            page_facts, layout_type, page_title,
        }
    );
    rows_of_job!(
        /// A job's readings.
        ocr_results, ocr_result, "ocr_results", OcrRow {
            id, screenshot_id, ordinal, confidence, full_text, reading, facts, disagreements, error,
        }
    );
    rows_of_job!(
        /// A job's matches.
        matches, match_result, "matches", MatchRow {
            id, ocr_result_id, ordinal, success, match_type, matched_by, score, listed, warnings, reason,
        }
    );
    rows_of_job!(
        /// A job's labels.
        labels, label, "labels", LabelRow {
            id, match_id, template_id, ordinal, article_number, facts, image_key, pdf_key, width, height, file_size,
            render_ms, warnings, error, created_at,
        }
    );

    /// The pictures of parts of a job's product pages, page by page.
    pub async fn elements(&self, job: JobId) -> Result<Vec<ElementRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.* FROM screenshot_elements e JOIN screenshots s ON s.id = e.screenshot_id
             WHERE e.job_id = $1 ORDER BY s.ordinal, s.id, e.kind",
        )
        .bind(job.0)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(element).collect::<Result<_, _>>()?)
    }

    /// The pictures of parts of one product page.
    pub async fn elements_of(&self, screenshot: Uuid) -> Result<Vec<ElementRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM screenshot_elements WHERE screenshot_id = $1 ORDER BY kind")
            .bind(screenshot)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(element).collect::<Result<_, _>>()?)
    }

    /// The words of readings and their places, by the readings' ids.
    pub async fn ocr_words(&self, readings: &[Uuid]) -> Result<HashMap<Uuid, Value>, StoreError> {
        let rows = sqlx::query_as("SELECT id, words FROM ocr_results WHERE id = ANY($1)")
            .bind(readings)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// One of them, by its folder (the article number or `product-N`) and its kind.
    pub async fn element(
        &self,
        job: JobId,
        folder: &str,
        kind: &str,
    ) -> Result<Option<ElementRow>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM screenshot_elements WHERE job_id = $1 AND folder = $2 AND kind = $3")
                .bind(job.0)
                .bind(folder)
                .bind(kind)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.as_ref().map(element).transpose()?)
    }

    /// The screenshot of a job's product, by the article number that the page declares or that was read, or by the
    /// folder of its parts.
    pub async fn screenshot_of(
        &self,
        job: JobId,
        article_number: &str,
    ) -> Result<Option<ScreenshotRow>, StoreError> {
        let id = sqlx::query_scalar(
            "SELECT s.id FROM screenshots s WHERE s.job_id = $1 AND (s.page_facts->>'articleNumber' = $2
                 OR EXISTS (SELECT FROM screenshot_elements e WHERE e.screenshot_id = s.id AND e.folder = $2)
                 OR EXISTS (SELECT FROM ocr_results o WHERE o.screenshot_id = s.id AND o.facts->>'articleNumber' = $2))
             ORDER BY s.ordinal, s.id LIMIT 1",
        )
        .bind(job.0)
        .bind(article_number)
        .fetch_optional(&self.pool)
        .await?;
        match id {
            Some(id) => self.screenshot(id).await,
            None => Ok(None),
        }
    }

    /// The reading of a screenshot, if it was read.
    pub async fn reading_of(&self, screenshot: Uuid) -> Result<Option<OcrRow>, StoreError> {
        let id = sqlx::query_scalar(
            "SELECT id FROM ocr_results WHERE screenshot_id = $1 ORDER BY created_at DESC LIMIT 1",
        )
        .bind(screenshot)
        .fetch_optional(&self.pool)
        .await?;
        match id {
            Some(id) => self.ocr_result(id).await,
            None => Ok(None),
        }
    }

    /// Whose the job is that has this id, or a screenshot, a reading (made or yet to be made) or a label of this id.
    pub async fn owner_of(&self, id: Uuid) -> Result<Option<String>, StoreError> {
        let owner = sqlx::query_scalar(
            "SELECT owner FROM jobs WHERE id = coalesce(
                 (SELECT job_id FROM labels WHERE id = $1), (SELECT job_id FROM ocr_results WHERE id = $1),
                 (SELECT job_id FROM screenshots WHERE id = $1), (SELECT job_id FROM tasks WHERE id = $1), $1)",
        );
        Ok(owner.bind(id).fetch_optional(&self.pool).await?)
    }

    /// What is known of an object, and whose it is.
    pub async fn owned_artifact(&self, key: &str) -> Result<Option<(Artifact, String)>, StoreError> {
        let row = sqlx::query(
            "SELECT key, content_type, size, sha256, owner FROM artifacts JOIN jobs ON jobs.id = job_id
             WHERE key = $1",
        )
        .bind(key)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row
            .as_ref()
            .map(|row| Ok::<_, sqlx::Error>((artifact(row)?, row.try_get("owner")?)))
            .transpose()?)
    }

    /// What is known of an object.
    pub async fn artifact(&self, key: &str) -> Result<Option<Artifact>, StoreError> {
        let row = sqlx::query("SELECT key, content_type, size, sha256 FROM artifacts WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(artifact).transpose()?)
    }
}

/// A row of screenshot_elements.
fn element(row: &PgRow) -> Result<ElementRow, sqlx::Error> {
    Ok(ElementRow {
        screenshot_id: row.try_get("screenshot_id")?,
        kind: row.try_get("kind")?,
        folder: row.try_get("folder")?,
        key: row.try_get("key")?,
        page_x: row.try_get("page_x")?,
        page_y: row.try_get("page_y")?,
        page_width: row.try_get("page_width")?,
        page_height: row.try_get("page_height")?,
        width: row.try_get("width")?,
        height: row.try_get("height")?,
        file_size: row.try_get("file_size")?,
    })
}

/// A row of artifacts.
pub(super) fn artifact(row: &PgRow) -> Result<Artifact, sqlx::Error> {
    Ok(Artifact {
        key: row.try_get("key")?,
        content_type: row.try_get("content_type")?,
        size: row.try_get("size")?,
        sha256: row.try_get("sha256")?,
    })
}
