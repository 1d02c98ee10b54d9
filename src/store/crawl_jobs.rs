//! Jobs that end with their crawl, as lists of crawls show them.

use std::{collections::HashMap, time::Duration};

use sqlx::Row as _;
use uuid::Uuid;

use super::{JobRecord, Store, StoreError, jobs};
use crate::{event::Timestamp, job::JobId};

impl Store {
    /// Jobs of the type `crawl` that are an owner's, or all, newest first.
    pub async fn crawl_jobs(&self, only: Option<&str>, limit: i64) -> Result<Vec<JobRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE job_type = 'crawl' AND ($2::text IS NULL OR owner = $2)
             ORDER BY created_at DESC, id LIMIT $1",
        )
        .bind(limit)
        .bind(only)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(jobs::record).collect()
    }

    /// Those of them that ended so long ago, oldest first.
    pub async fn ended_crawl_jobs(
        &self,
        only: Option<&str>,
        age: Duration,
        limit: i64,
    ) -> Result<Vec<JobId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE job_type = 'crawl' AND ended_at <= now() - make_interval(secs => $1)
                   AND ($3::text IS NULL OR owner = $3)
             ORDER BY ended_at, id LIMIT $2",
        )
        .bind(age.as_secs_f64())
        .bind(limit)
        .bind(only)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(JobId).collect())
    }

    /// When each screenshot of a job was taken.
    pub async fn screenshot_times(&self, job: JobId) -> Result<HashMap<Uuid, Timestamp>, StoreError> {
        let rows = sqlx::query("SELECT id, created_at FROM screenshots WHERE job_id = $1")
            .bind(job.0)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, sqlx::Error>>()?)
    }
}
