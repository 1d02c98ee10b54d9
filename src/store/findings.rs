//! What a job found, put together for people who look: a screenshot with all that became of it, and pages of labels.

use serde_json::Value;
use sqlx::Row as _;
use uuid::Uuid;

use super::{LabelRow, MatchRow, OcrRow, ScreenshotRow, Store, StoreError};
use crate::{event::Timestamp, job::JobId};

/// A screenshot, and what became of it so far.
#[derive(Clone, Debug)]
pub struct Finding {
    pub screenshot: ScreenshotRow,
    /// With the picture's words and their places.
    pub reading: Option<(OcrRow, Value)>,
    pub matched: Option<MatchRow>,
    pub label: Option<LabelRow>,
}

/// A label in a list.
#[derive(Clone, Debug)]
pub struct LabelEntry {
    pub id: Uuid,
    pub article_number: String,
    pub screenshot_id: Uuid,
    pub template_id: String,
    pub image_key: Option<String>,
    pub pdf_key: Option<String>,
    pub error: Option<String>,
    pub created_at: Timestamp,
}

impl Store {
    /// A screenshot of a job with what became of it; `None` if the job has no such one.
    pub async fn finding(&self, job: JobId, screenshot: Uuid) -> Result<Option<Finding>, StoreError> {
        let ids = sqlx::query(
            "SELECT screenshot.id, reading.id AS reading, matches.id AS matched, labels.id AS label
             FROM screenshots screenshot
                  LEFT JOIN ocr_results reading ON reading.screenshot_id = screenshot.id
                  LEFT JOIN matches ON matches.ocr_result_id = reading.id
                  LEFT JOIN labels ON labels.match_id = matches.id
             WHERE screenshot.id = $1 AND screenshot.job_id = $2
             ORDER BY reading.created_at DESC, matches.created_at DESC, labels.created_at DESC LIMIT 1",
        )
        .bind(screenshot)
        .bind(job.0)
        .fetch_optional(&self.pool)
        .await?;
        let Some(ids) = ids else { return Ok(None) };
        let id = |column| ids.try_get::<Option<Uuid>, _>(column);
        let Some(screenshot) = self.screenshot(screenshot).await? else { return Ok(None) };
        let reading = match id("reading")? {
            None => None,
            Some(id) => {
                let words = self.ocr_words(&[id]).await?.remove(&id).unwrap_or_default();
                self.ocr_result(id).await?.map(|row| (row, words))
            }
        };
        let matched = match id("matched")? {
            Some(id) => self.match_result(id).await?,
            None => None,
        };
        let label = match id("label")? {
            Some(id) => self.label(id).await?,
            None => None,
        };
        Ok(Some(Finding { screenshot, reading, matched, label }))
    }

    /// A page of a job's labels in the order of their items, and how many there are in all.
    pub async fn labels_page(
        &self,
        job: JobId,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<LabelEntry>, i64), StoreError> {
        let total = sqlx::query_scalar("SELECT count(*) FROM labels WHERE job_id = $1")
            .bind(job.0)
            .fetch_one(&self.pool)
            .await?;
        let rows = sqlx::query(
            "SELECT labels.id, labels.article_number, reading.screenshot_id, labels.template_id, labels.image_key,
                    labels.pdf_key, labels.error, labels.created_at
             FROM labels JOIN matches ON matches.id = labels.match_id
                  JOIN ocr_results reading ON reading.id = matches.ocr_result_id
             WHERE labels.job_id = $1 ORDER BY labels.ordinal, labels.id LIMIT $2 OFFSET $3",
        )
        .bind(job.0)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await?;
        let labels = rows.iter().map(|row| {
            Ok(LabelEntry {
                id: row.try_get("id")?,
                article_number: row.try_get("article_number")?,
                screenshot_id: row.try_get("screenshot_id")?,
                template_id: row.try_get("template_id")?,
                image_key: row.try_get("image_key")?,
                pdf_key: row.try_get("pdf_key")?,
                error: row.try_get("error")?,
                created_at: row.try_get("created_at")?,
            })
        });
        Ok((labels.collect::<Result<_, sqlx::Error>>()?, total))
    }
}
