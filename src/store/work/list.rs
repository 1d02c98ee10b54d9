//! Lists of jobs of a kind, as people look at them.

use std::collections::HashMap;

use sqlx::Row as _;
use uuid::Uuid;

use super::{SELECT, WorkRecord, work_record};
use crate::{
    job::{JobId, Rejection, Status},
    store::{Store, StoreError, jobs},
};

/// Which jobs of a kind are wanted.
#[derive(Clone, Debug, Default)]
pub struct WorkFilter {
    /// `None` for everybody's.
    pub owner: Option<String>,
    /// Empty for all.
    pub statuses: Vec<Status>,
    /// What their names contain, whatever the case.
    pub search: Option<String>,
    /// Whether jobs that a retry took the place of are left out.
    pub newest_only: bool,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkSort {
    #[default]
    Newest,
    Oldest,
    /// As workers claim them.
    Turn,
}

impl Store {
    /// A page of the jobs of a kind, and how many there are in all.
    pub async fn work_list(
        &self,
        kind: &str,
        filter: &WorkFilter,
        sort: WorkSort,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<WorkRecord>, i64), StoreError> {
        const WHERE: &str = "jobs.kind = $1 AND ($2::text IS NULL OR jobs.owner = $2)
                             AND (cardinality($3::text[]) = 0 OR jobs.status = ANY($3))
                             AND ($4::text IS NULL OR jobs.name ILIKE $4)
                             AND (NOT $5 OR jobs.number IS NOT NULL)";
        let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.word()).collect();
        let pattern = filter.search.as_ref().map(|text| {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{escaped}%")
        });
        let total =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM jobs WHERE {WHERE}")))
                .bind(kind)
                .bind(&filter.owner)
                .bind(&statuses)
                .bind(&pattern)
                .bind(filter.newest_only)
                .fetch_one(&self.pool)
                .await?;
        let order = match sort {
            WorkSort::Newest => "jobs.created_at DESC, jobs.id DESC",
            WorkSort::Oldest => "jobs.created_at, jobs.id",
            WorkSort::Turn => "w.priority DESC, w.due_at, jobs.id",
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE {WHERE} ORDER BY {order} LIMIT $6 OFFSET $7"
        )))
        .bind(kind)
        .bind(&filter.owner)
        .bind(&statuses)
        .bind(&pattern)
        .bind(filter.newest_only)
        .bind(limit)
        .bind(offset)
        .fetch_all(&self.pool)
        .await?;
        Ok((rows.iter().map(work_record).collect::<Result<_, _>>()?, total))
    }

    /// How many jobs of a kind have each status; of one owner if one is given. Jobs that a retry took the place of do
    /// not count.
    pub async fn work_counts(
        &self,
        kind: &str,
        owner: Option<&str>,
    ) -> Result<HashMap<Status, i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT status, count(*) AS jobs FROM jobs
             WHERE kind = $1 AND number IS NOT NULL AND ($2::text IS NULL OR owner = $2) GROUP BY status",
        )
        .bind(kind)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((jobs::status(row)?, row.try_get("jobs")?))).collect()
    }

    /// The job of a kind with this number; of a job that was tried again, the newest.
    ///
    /// # Errors
    /// [`Code::JobNotFound`](crate::job::Code::JobNotFound).
    pub async fn work_by_number(&self, kind: &str, number: i64) -> Result<WorkRecord, StoreError> {
        let row =
            sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE jobs.kind = $1 AND jobs.number = $2")))
                .bind(kind)
                .bind(number)
                .fetch_optional(&self.pool)
                .await?
                .ok_or_else(|| Rejection::job_not_found(number))?;
        work_record(&row)
    }

    /// The newest job of a kind and an owner whose input has this text in a field.
    pub async fn work_with_input(
        &self,
        kind: &str,
        owner: &str,
        field: &str,
        text: &str,
    ) -> Result<Option<WorkRecord>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{SELECT} WHERE jobs.kind = $1 AND jobs.owner = $2 AND w.input->>$3 = $4 AND jobs.number IS NOT NULL
             ORDER BY jobs.created_at DESC, jobs.id DESC LIMIT 1"
        )))
        .bind(kind)
        .bind(owner)
        .bind(field)
        .bind(text)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(work_record).transpose()
    }

    /// What is known of those of these jobs that are of a kind.
    pub async fn work_of(&self, ids: &[JobId]) -> Result<HashMap<JobId, WorkRecord>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE jobs.id = ANY($1)")))
            .bind(&ids)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let work = work_record(row)?;
                Ok((work.record.job.id, work))
            })
            .collect()
    }
}
