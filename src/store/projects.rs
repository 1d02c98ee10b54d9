//! Projects of the project agents: what is to be made, and the job that makes it now or made it last.
//!
//! A project is there before anybody asks for it to be generated, is changed and generated again, and keeps its id; a job
//! is none of that. So it has a table of its own, and each generation is a job, whose id follows from the project's.

use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{NewWork, Store, StoreError};
use crate::{
    event::Timestamp,
    job::{Code, JobId, Rejection},
};

/// Projects of one owner at the most.
const MAX_PROJECTS: i64 = 1000;

/// A project's row.
#[derive(Clone, Debug)]
pub struct Project {
    pub id: Uuid,
    pub owner: String,
    pub fields: ProjectFields,
    /// How often it was generated.
    pub runs: i32,
    /// The newest run; none before the first, and none when it was removed.
    pub job: Option<JobId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What people say of a project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectFields {
    pub name: String,
    pub description: String,
    pub requirements: String,
    pub app_type: String,
    pub target_platforms: Vec<String>,
    pub architecture_type: String,
}

/// The job of a project's n-th run, from 1. The first has the project's own id.
pub fn run_id(project: Uuid, run: i32) -> JobId {
    match run {
        ..=1 => JobId(project),
        run => JobId(JobId(project).derive("run", &run.to_string())),
    }
}

/// The run that comes after a project's newest.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextRun {
    project: Uuid,
    pub job: JobId,
}

/// The run that follows a job, if that is the newest of a project, which is locked.
pub(super) async fn next_run(tx: &mut PgConnection, job: JobId) -> Result<Option<NextRun>, sqlx::Error> {
    let row: Option<(Uuid, i32)> =
        sqlx::query_as("SELECT id, runs FROM projects WHERE job_id = $1 FOR UPDATE")
            .bind(job.0)
            .fetch_optional(tx)
            .await?;
    Ok(row.map(|(project, runs)| NextRun { project, job: run_id(project, runs + 1) }))
}

impl NextRun {
    /// Makes it the project's newest.
    pub(super) async fn begin(self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE projects SET runs = runs + 1, job_id = $2, updated_at = now() WHERE id = $1")
            .bind(self.project)
            .bind(self.job.0)
            .execute(tx)
            .await
            .map(drop)
    }
}

impl Store {
    /// Makes a project.
    ///
    /// # Errors
    /// [`Code::TooMany`].
    pub async fn create_project(&self, owner: &str, fields: &ProjectFields) -> Result<Project, StoreError> {
        let row = sqlx::query(
            "INSERT INTO projects (id, owner, name, description, requirements, app_type, target_platforms,
                                   architecture_type)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8
             WHERE (SELECT count(*) FROM projects WHERE owner = $2) < $9 RETURNING *",
        )
        .bind(Uuid::now_v7())
        .bind(owner)
        .bind(&fields.name)
        .bind(&fields.description)
        .bind(&fields.requirements)
        .bind(&fields.app_type)
        .bind(Json(&fields.target_platforms))
        .bind(&fields.architecture_type)
        .bind(MAX_PROJECTS)
        .fetch_optional(&self.pool)
        .await?;
        let full = || {
            let message = format!("There are {MAX_PROJECTS} projects already; remove one first.");
            Rejection::new(Code::TooMany, message)
        };
        Ok(project(&row.ok_or_else(full)?)?)
    }

    /// An owner's projects, or everybody's, newest first, at most `limit`.
    pub async fn projects(&self, owner: Option<&str>, limit: i64) -> Result<Vec<Project>, StoreError> {
        let rows = sqlx::query("SELECT * FROM projects WHERE $1::text IS NULL OR owner = $1 ORDER BY created_at DESC, id DESC LIMIT $2")
            .bind(owner)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(project).collect::<Result<_, _>>()?)
    }

    /// A project, if it is this owner's; for nobody in particular, anybody's.
    pub async fn project(&self, id: Uuid, owner: Option<&str>) -> Result<Option<Project>, StoreError> {
        let row = sqlx::query("SELECT * FROM projects WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(project).transpose()?)
    }

    /// Changes what is said of a project.
    pub async fn change_project(
        &self,
        id: Uuid,
        owner: Option<&str>,
        change: impl FnOnce(ProjectFields) -> ProjectFields,
    ) -> Result<Option<Project>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "SELECT * FROM projects WHERE id = $1 AND ($2::text IS NULL OR owner = $2) FOR UPDATE",
        )
        .bind(id)
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let fields = change(project(&row)?.fields);
        let row = sqlx::query(
            "UPDATE projects SET name = $2, description = $3, requirements = $4, app_type = $5, target_platforms = $6,
                    architecture_type = $7, updated_at = now() WHERE id = $1 RETURNING *",
        )
        .bind(id)
        .bind(&fields.name)
        .bind(&fields.description)
        .bind(&fields.requirements)
        .bind(&fields.app_type)
        .bind(Json(&fields.target_platforms))
        .bind(&fields.architecture_type)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(project(&row)?))
    }

    /// Removes a project; the jobs that made it are the caller's to remove. Returns the project as it was.
    pub async fn remove_project(&self, id: Uuid, owner: Option<&str>) -> Result<Option<Project>, StoreError> {
        let row = sqlx::query(
            "DELETE FROM projects WHERE id = $1 AND ($2::text IS NULL OR owner = $2) RETURNING *",
        )
        .bind(id)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.as_ref().map(project).transpose()?)
    }

    /// Begins a project's next run: a job that `work` makes of the project and of the id that it is to have.
    ///
    /// # Errors
    /// [`Code::JobAtWork`] while a run has not ended; whatever keeps a job from being accepted.
    pub async fn generate_project(
        &self,
        id: Uuid,
        owner: Option<&str>,
        work: impl FnOnce(&Project, JobId) -> NewWork,
    ) -> Result<Option<Project>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query(
            "SELECT projects.*, EXISTS (SELECT FROM jobs WHERE jobs.id = job_id AND ended_at IS NULL) AS at_work
             FROM projects WHERE id = $1 AND ($2::text IS NULL OR owner = $2) FOR UPDATE OF projects",
        )
        .bind(id)
        .bind(owner)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get("at_work")? {
            let message = "The project is being generated; wait for its end, or cancel its job.";
            return Err(Rejection::new(Code::JobAtWork, message).into());
        }
        let mut project = project(&row)?;
        let job = run_id(id, project.runs + 1);
        let new = work(&project, job);
        let state = self.accept_work(&mut tx, &new).await?;
        NextRun { project: id, job }.begin(&mut tx).await?;
        self.finish(tx, state).await?;
        self.work.wake(&new.kind);
        project.runs += 1;
        project.job = Some(job);
        Ok(Some(project))
    }

    /// The newest log lines of jobs, oldest first, at most `each` of one job: when, and the line's payload.
    pub async fn log_lines(
        &self,
        jobs: &[JobId],
        each: i64,
    ) -> Result<Vec<(JobId, Timestamp, serde_json::Value)>, StoreError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let rows = sqlx::query(
            "SELECT line.job_id, line.created_at, line.payload::jsonb AS payload
             FROM UNNEST($1::uuid[]) AS job (id)
             CROSS JOIN LATERAL (SELECT * FROM events WHERE events.job_id = job.id AND kind = 'job:log'
                                 ORDER BY seq DESC LIMIT $2) AS line
             ORDER BY line.job_id, line.seq",
        )
        .bind(&ids)
        .bind(each)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((JobId(row.try_get("job_id")?), row.try_get("created_at")?, row.try_get("payload")?))
            })
            .collect()
    }
}

fn project(row: &PgRow) -> Result<Project, sqlx::Error> {
    Ok(Project {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        fields: ProjectFields {
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            requirements: row.try_get("requirements")?,
            app_type: row.try_get("app_type")?,
            target_platforms: row.try_get::<Json<Vec<String>>, _>("target_platforms")?.0,
            architecture_type: row.try_get("architecture_type")?,
        },
        runs: row.try_get("runs")?,
        job: row.try_get::<Option<Uuid>, _>("job_id")?.map(JobId),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
