//! Files that are stored with a job: what was asked about, and what its workers made.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{WorkLease, ended, lock};
use crate::{
    event::{ArtifactStored, Timestamp},
    job::{Code, JobId, Rejection, Status},
    store::{Artifact, Blobs, Row, Store, StoreError, change::Working, jobs, rows},
};

/// A file of a job, under its name.
#[derive(Clone, Debug)]
pub struct StoredArtifact {
    pub name: String,
    pub artifact: Artifact,
    pub stored_at: Timestamp,
}

impl StoredArtifact {
    /// A key that no other object has: what was stored under the name before keeps its own, for clients may keep
    /// objects for ever.
    pub fn key(job: JobId, name: &str) -> String {
        let unique = Uuid::now_v7().simple().to_string();
        format!("{}{unique}/{name}", StoredArtifact::folder(job))
    }

    /// What the keys of a job's own files begin with.
    pub fn folder(job: JobId) -> String {
        format!("jobs/{job}/artifacts/")
    }
}

impl Store {
    /// Notes an object that is stored already as a job's file, on behalf of its worker, or of whoever submitted it while
    /// nobody is at work on it.
    ///
    /// # Errors
    /// [`Code::Fenced`], [`Code::JobEnded`], [`Code::JobAtWork`]; [`Code::TooMany`] for more files than a job may have.
    /// The object is nobody's then.
    pub async fn add_artifact(
        &self,
        job: JobId,
        lease: Option<&WorkLease>,
        name: &str,
        artifact: Artifact,
        blobs: &Blobs,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, job).await?;
        let held = lock(&mut tx, job).await?;
        match lease {
            Some(lease) => held.check(&record, lease)?,
            None if record.job.status.is_ended() => return Err(ended(&record).into()),
            None if held.state == "running" => {
                let message = "A worker has the job; its files are stored under the worker's fence.";
                return Err(Rejection::new(Code::JobAtWork, message).into());
            }
            None => {}
        }
        self.refuse_too_many_files(&mut tx, job).await?;
        let event = ArtifactStored {
            name: name.to_owned(),
            url: blobs.addresses().plain(&artifact.key),
            content_type: artifact.content_type.clone(),
            size: artifact.size.unsigned_abs(),
        };
        let key = artifact.key.clone();
        rows::insert(&mut tx, job, &Row::Artifact(artifact)).await?;
        self::name(&mut tx, job, name, &key).await?;
        let mut state = Working::new(record);
        state.tell(event.into());
        self.finish(tx, state).await.map(drop)
    }

    /// Notes an object that is stored already as a file of a job that has ended: what somebody made of its results. Nobody
    /// is told, for no event follows a job's last. A file of that name before it is no longer found.
    ///
    /// # Errors
    /// [`Code::JobAtWork`] while it has not ended; [`Code::TooMany`] for more files than a job may have. The object is
    /// nobody's then.
    pub async fn add_file_of_ended(
        &self,
        job: JobId,
        name: &str,
        artifact: Artifact,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, job).await?;
        if !record.job.status.is_ended() {
            let message = format!("Job {job} has not ended; wait for its end.");
            return Err(Rejection::new(Code::JobAtWork, message).into());
        }
        self.refuse_too_many_files(&mut tx, job).await?;
        let key = artifact.key.clone();
        rows::insert(&mut tx, job, &Row::Artifact(artifact)).await?;
        self::name(&mut tx, job, name, &key).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn refuse_too_many_files(&self, tx: &mut PgConnection, job: JobId) -> Result<(), StoreError> {
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM artifacts WHERE job_id = $1")
            .bind(job.0)
            .fetch_one(tx)
            .await?;
        let most = self.work.settings.max_artifacts;
        if stored >= most {
            let message = format!("Job {job} has {most} files, and no job may have more.");
            return Err(Rejection::new(Code::TooMany, message).into());
        }
        Ok(())
    }

    /// The keys of the files that jobs have under a name.
    pub async fn keys_of_files(
        &self,
        jobs: &[JobId],
        name: &str,
    ) -> Result<HashMap<JobId, String>, StoreError> {
        let jobs: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT job_id, key FROM work_artifacts WHERE job_id = ANY($1) AND name = $2")
                .bind(&jobs)
                .bind(name)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(|(job, key)| (JobId(job), key)).collect())
    }

    /// The files of a job, by name; for one that was tried again those of its forerunner, too.
    pub async fn artifacts_of(&self, job: JobId) -> Result<Vec<StoredArtifact>, StoreError> {
        self.find_artifacts(job, None).await
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Code::ArtifactNotFound`].
    pub async fn artifact_of(&self, job: JobId, name: &str) -> Result<StoredArtifact, StoreError> {
        let mut found = self.find_artifacts(job, Some(name)).await?;
        found.pop().ok_or_else(|| {
            let message = format!("Job {job} has no file of that name; its claim lists those that it has.");
            Rejection::new(Code::ArtifactNotFound, message).into()
        })
    }

    async fn find_artifacts(
        &self,
        job: JobId,
        name: Option<&str>,
    ) -> Result<Vec<StoredArtifact>, StoreError> {
        let rows = sqlx::query(
            "SELECT w.name, a.key, a.content_type, a.size, a.sha256, a.created_at
             FROM work_artifacts w JOIN artifacts a USING (key)
             WHERE w.job_id = $1 AND ($2::text IS NULL OR w.name = $2) ORDER BY w.name",
        )
        .bind(job.0)
        .bind(name)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredArtifact {
                    name: row.try_get("name")?,
                    artifact: rows::artifact(row)?,
                    stored_at: row.try_get("created_at")?,
                })
            })
            .collect()
    }

    /// Whether a worker may store a file now, before its bytes are taken.
    ///
    /// # Errors
    /// As [`Store::add_artifact`].
    pub async fn may_store(&self, job: JobId, lease: Option<&WorkLease>) -> Result<(), StoreError> {
        let work = self.work(job).await?;
        if work.record.job.status.is_ended() {
            return Err(ended(&work.record).into());
        }
        match lease {
            Some(lease) => self.work_heartbeat(lease).await.map(drop),
            None if work.record.job.stands() == Status::Pending => Ok(()),
            None => {
                let message = "A worker has the job; its files are stored under the worker's fence.";
                Err(Rejection::new(Code::JobAtWork, message).into())
            }
        }
    }
}

/// Gives an object its name among the files of a job.
pub(super) async fn name(
    tx: &mut PgConnection,
    job: JobId,
    name: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO work_artifacts (job_id, name, key) VALUES ($1, $2, $3)
         ON CONFLICT (job_id, name) DO UPDATE SET key = excluded.key",
    )
    .bind(job.0)
    .bind(name)
    .bind(key)
    .execute(tx)
    .await?;
    Ok(())
}
