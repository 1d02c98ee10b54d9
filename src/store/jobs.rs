//! Jobs: their rows, and the lists that people look at.

use std::collections::BTreeMap;

use chrono::Utc;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, Row as _, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{
    Changed, CompanyItem, NewTask, OnceKey, Row, Store, StoreError, change::Working, idempotency, rows,
};
use crate::{
    event::{JobType, Timestamp},
    job::{
        ANONYMOUS, Code, Command, Companies, Job, JobConfig, JobId, JobRequest, Phase, Plan, Priority,
        Rejection, RequestLimits, Stage, Status, Tally,
    },
};

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub id: JobId,
    pub job_type: JobType,
    pub name: String,
    /// `None` for a job without a plan of stages.
    pub config: Option<JobConfig>,
    /// What its first items speak of.
    pub rows: Vec<Row>,
    /// Its first items; a planned job cannot begin without one.
    pub tasks: Vec<NewTask>,
    /// Whose it is.
    pub owner: String,
    pub priority: Priority,
    /// The schedule that it is a run of.
    pub schedule_id: Option<Uuid>,
    /// What workers outside of this server do with it; `None` for all other jobs.
    pub kind: Option<String>,
}

impl NewJob {
    /// A job that a program drives itself, by commands.
    pub fn unplanned(id: JobId, job_type: JobType, name: impl Into<String>) -> NewJob {
        NewJob {
            id,
            job_type,
            name: name.into(),
            config: None,
            rows: Vec::new(),
            tasks: Vec::new(),
            owner: ANONYMOUS.into(),
            priority: Priority::default(),
            schedule_id: None,
            kind: None,
        }
    }

    /// A job that looks companies up.
    pub fn on_companies(id: JobId, companies: Companies) -> Result<NewJob, StoreError> {
        let domains = &companies.domains;
        let name = match &domains[..] {
            [one] => format!("Company at {one}"),
            many => format!("{} companies", many.len()),
        };
        let mut tasks = Vec::new();
        if companies.sequential {
            let mut then: Vec<String> = domains.iter().rev().cloned().collect();
            if let Some(domain) = then.pop() {
                tasks.push(NewTask::company(id, 0, &CompanyItem { domain, then, ask: true })?);
            }
        } else {
            for (ordinal, domain) in (0..).zip(domains) {
                let item = CompanyItem { domain: domain.clone(), then: Vec::new(), ask: false };
                tasks.push(NewTask::company(id, ordinal, &item)?);
            }
        }
        let config = JobConfig {
            plan: Plan::Companies,
            max_products: domains.len() as u32,
            companies: Some(companies),
            ..JobConfig::default()
        };
        Ok(NewJob { config: Some(config), tasks, ..NewJob::unplanned(id, JobType::Companies, name) })
    }

    /// A job that begins by crawling a shop.
    pub fn on_shop(id: JobId, name: String, config: JobConfig) -> Result<NewJob, StoreError> {
        let job_type = if config.plan == Plan::Crawl { JobType::Crawl } else { JobType::Automation };
        let crawl = NewTask::new(Stage::Crawl, 0, id.derive("crawl", ""), &())?;
        Ok(NewJob { config: Some(config), tasks: vec![crawl], ..NewJob::unplanned(id, job_type, name) })
    }
}

/// A place among the jobs of one owner that are worked on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It needs none: it is paused, has ended or has no plan.
    None,
    /// It waits for one; none of its tasks may be claimed.
    Waits,
    Has,
}

impl Slot {
    fn word(self) -> &'static str {
        match self {
            Slot::None => "none",
            Slot::Waits => "waits",
            Slot::Has => "has",
        }
    }

    fn from_word(word: &str) -> Option<Slot> {
        [Slot::None, Slot::Waits, Slot::Has].into_iter().find(|slot| slot.word() == word)
    }
}

/// A job's row.
#[derive(Clone, Debug)]
pub struct JobRecord {
    pub job: Job,
    /// Whose it is.
    pub owner: String,
    pub slot: Slot,
    /// The job whose failed items this one tries again.
    pub retry_of: Option<JobId>,
    /// The schedule that it is a run of.
    pub schedule_id: Option<Uuid>,
    /// `None` for a job without a plan of stages.
    pub config: Option<JobConfig>,
    /// What workers outside of this server do with it; `None` for all other jobs.
    pub kind: Option<String>,
    /// A number for frontends that know jobs by one. A retry takes over its forerunner's.
    pub number: Option<i64>,
    /// The seq of its newest event.
    pub last_seq: i32,
    /// Why it failed.
    pub error: Option<String>,
    /// What `job:completed` carried.
    pub results: Option<serde_json::Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

impl JobRecord {
    /// A job before its row is written.
    pub(super) fn new(job: Job, config: Option<JobConfig>, owner: String, now: Timestamp) -> JobRecord {
        JobRecord {
            slot: if config.is_some() { Slot::Waits } else { Slot::None },
            job,
            owner,
            retry_of: None,
            schedule_id: None,
            config,
            kind: None,
            number: None,
            last_seq: 0,
            error: None,
            results: None,
            created_at: now,
            updated_at: now,
            started_at: None,
            ended_at: None,
        }
    }

    /// Whether none of its tasks may be claimed for now.
    pub fn is_held(&self) -> bool {
        self.slot == Slot::Waits || self.job.status == Status::Paused
    }
}

/// A job that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub job: JobId,
    /// Whether it was there already, under the key that came along.
    pub replayed: bool,
}

/// Which part of the list of jobs is wanted, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    pub limit: i64,
    pub offset: i64,
    pub status: Option<Status>,
    pub of: Of,
}

/// Which jobs a list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    All,
    /// Those on shops, which this server works on itself.
    Shops,
    /// Those of one kind, which workers outside of this server do.
    Kind(String),
}

/// Counts over all jobs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub total_jobs: i64,
    pub active_jobs: i64,
    pub completed_jobs: i64,
    pub failed_jobs: i64,
    pub total_labels_generated: i64,
    /// Milliseconds from start to end over completed jobs; 0 for none.
    pub average_processing_time: f64,
}

impl Store {
    /// Accepts a job on a shop that a person asked for.
    ///
    /// # Errors
    /// A rejection that names what is wrong with the request.
    pub async fn submit(
        &self,
        request: JobRequest,
        owner: &str,
        limits: &RequestLimits,
    ) -> Result<JobId, StoreError> {
        Ok(self.submit_once(request, owner, limits, None).await?.job)
    }

    /// The same under a key: a request that comes again is answered with the job that it made before.
    ///
    /// # Errors
    /// As [`Store::submit`], and [`Code::KeyReused`].
    pub async fn submit_once(
        &self,
        request: JobRequest,
        owner: &str,
        limits: &RequestLimits,
        once: Option<&OnceKey>,
    ) -> Result<Submitted, StoreError> {
        loop {
            if let Some(once) = once
                && let Some(job) = self.made_under(owner, once).await?
            {
                return Ok(Submitted { job, replayed: true });
            }
            let new = self.new_job(request.clone(), limits, owner).await?;
            let job = new.id;
            let mut tx = self.pool.begin().await?;
            let state = accept(&mut tx, new).await?;
            if let Some(once) = once
                && !idempotency::claim(&mut tx, owner, once, job, self.keep_keys).await?
            {
                // The same request came twice at once, and the other one was faster.
                tx.rollback().await?;
                continue;
            }
            self.finish(tx, state).await?;
            return Ok(Submitted { job, replayed: false });
        }
    }

    /// The job that a request becomes; nothing is accepted yet.
    pub(super) async fn new_job(
        &self,
        request: JobRequest,
        limits: &RequestLimits,
        owner: &str,
    ) -> Result<NewJob, StoreError> {
        let priority = request.priority;
        let (name, config) = self.check(request, limits).await?;
        let new = NewJob::on_shop(JobId(Uuid::now_v7()), name, config)?;
        Ok(NewJob { priority, owner: owner.to_owned(), ..new })
    }

    /// The name and configuration of the job that a request would become; nothing is accepted yet.
    ///
    /// # Errors
    /// A rejection that names what is wrong with the request.
    pub async fn check(
        &self,
        mut request: JobRequest,
        limits: &RequestLimits,
    ) -> Result<(String, JobConfig), StoreError> {
        let Some(template) = self.template(&request.template_id).await? else {
            let known = self.template_ids().await?.join(", ");
            let message = format!("There is no label template of that name; there are {known}.");
            return Err(Rejection::new(Code::UnknownTemplate, message).into());
        };
        request.template_id = template.id;
        Ok(request.check(limits)?)
    }

    /// Accepts a job: its row, its first tasks, and `job:created`. It is worked on as soon as its owner has a slot for it.
    pub async fn create(&self, new: NewJob) -> Result<Changed, StoreError> {
        let mut tx = self.pool.begin().await?;
        let state = accept(&mut tx, new).await?;
        self.finish(tx, state).await
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<JobRecord, StoreError> {
        let row =
            sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id.0).fetch_optional(&self.pool).await?;
        record(&row.ok_or_else(|| Rejection::job_not_found(id))?)
    }

    /// Whose a job is.
    ///
    /// # Errors
    /// [`Code::JobNotFound`].
    pub async fn owner(&self, id: JobId) -> Result<String, StoreError> {
        let owner = sqlx::query_scalar("SELECT owner FROM jobs WHERE id = $1").bind(id.0);
        Ok(owner.fetch_optional(&self.pool).await?.ok_or_else(|| Rejection::job_not_found(id))?)
    }

    /// A page of the list of an owner's jobs, or of all, newest first, and how many there are in all.
    pub async fn jobs(&self, only: Option<&str>, page: Page) -> Result<(Vec<JobRecord>, i64), StoreError> {
        let status = page.status.map(Status::word);
        let (any, kind) = match &page.of {
            Of::All => (true, None),
            Of::Shops => (false, None),
            Of::Kind(kind) => (false, Some(kind)),
        };
        let total = sqlx::query_scalar(
            "SELECT count(*) FROM jobs
             WHERE ($1::text IS NULL OR status = $1) AND ($2 OR kind IS NOT DISTINCT FROM $3)
                   AND ($4::text IS NULL OR owner = $4)",
        )
        .bind(status)
        .bind(any)
        .bind(kind)
        .bind(only)
        .fetch_one(&self.pool)
        .await?;
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE ($1::text IS NULL OR status = $1) AND ($2 OR kind IS NOT DISTINCT FROM $3)
                    AND ($6::text IS NULL OR owner = $6)
             ORDER BY created_at DESC, id LIMIT $4 OFFSET $5",
        )
        .bind(status)
        .bind(any)
        .bind(kind)
        .bind(page.limit)
        .bind(page.offset)
        .bind(only)
        .fetch_all(&self.pool)
        .await?;
        Ok((rows.iter().map(record).collect::<Result<_, _>>()?, total))
    }

    /// Counts over an owner's jobs on shops, or all.
    pub async fn stats(&self, only: Option<&str>) -> Result<Stats, StoreError> {
        let row = sqlx::query(
            "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL),
                    count(*) FILTER (WHERE status = 'completed'),
                    count(*) FILTER (WHERE status IN ('failed', 'cancelled')),
                    (SELECT count(*) FROM labels JOIN jobs ON jobs.id = job_id
                     WHERE labels.error IS NULL AND ($1::text IS NULL OR owner = $1)),
                    coalesce(avg(extract(epoch FROM ended_at - started_at) * 1000)
                             FILTER (WHERE status = 'completed'), 0)::float8
             FROM jobs WHERE kind IS NULL AND ($1::text IS NULL OR owner = $1)",
        )
        .bind(only)
        .fetch_one(&self.pool)
        .await?;
        Ok(Stats {
            total_jobs: row.try_get(0)?,
            active_jobs: row.try_get(1)?,
            completed_jobs: row.try_get(2)?,
            failed_jobs: row.try_get(3)?,
            total_labels_generated: row.try_get(4)?,
            average_processing_time: row.try_get::<f64, _>(5)?.round(),
        })
    }
}

/// Writes the row of a new job and its first tasks; the caller finishes the change.
pub(super) async fn accept(tx: &mut PgConnection, new: NewJob) -> Result<Working, StoreError> {
    let max_products = new.config.as_ref().map_or(0, |config| config.max_products);
    let plan = new.config.as_ref().map(|config| config.plan).unwrap_or_default();
    let mut job = Job::new(new.id, new.job_type, new.name, plan, max_products);
    job.priority = new.priority;
    let mut record = JobRecord::new(job, new.config, new.owner, Utc::now());
    record.schedule_id = new.schedule_id;
    record.kind = new.kind;
    insert(tx, &mut record).await?;
    for row in &new.rows {
        rows::insert(tx, record.job.id, row).await?;
    }
    let mut state = Working::new(record);
    state.run(Command::Create)?;
    state.add(tx, &new.tasks).await?;
    Ok(state)
}

/// Writes the row of a new job, and gives one of a kind its number if it has none.
pub(super) async fn insert(tx: &mut PgConnection, record: &mut JobRecord) -> Result<(), StoreError> {
    let job = &record.job;
    record.number = sqlx::query_scalar(
        "INSERT INTO jobs (id, job_type, name, status, phase, progress, tallies, errors, config, template_id,
                           import_id, owner, priority, slot, retry_of, schedule_id, created_at, updated_at, kind,
                           number)
         VALUES ($1, $2, $3, $4, $5, $6, $7, '[]', $8, (SELECT id FROM templates WHERE id = $9),
                 (SELECT id FROM excel_imports WHERE id = $10), $11, $12, $13, $14, $15, $16, $16, $17,
                 CASE WHEN $17::text IS NULL THEN NULL ELSE coalesce($18, nextval('job_numbers')) END)
         RETURNING number",
    )
    .bind(job.id.0)
    .bind(word(job.job_type)?)
    .bind(&job.name)
    .bind(job.status.word())
    .bind(job.phase.number())
    .bind(i16::from(job.progress))
    .bind(Json(&job.tallies))
    .bind(Json(&record.config))
    .bind(record.config.as_ref().map(|config| &config.template_id))
    .bind(record.config.as_ref().and_then(|config| config.import_id))
    .bind(&record.owner)
    .bind(job.priority.number())
    .bind(record.slot.word())
    .bind(record.retry_of.map(|job| job.0))
    .bind(record.schedule_id)
    .bind(record.created_at)
    .bind(&record.kind)
    .bind(record.number)
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// Reads a job's row and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: JobId) -> Result<JobRecord, StoreError> {
    let row =
        sqlx::query("SELECT * FROM jobs WHERE id = $1 FOR UPDATE").bind(id.0).fetch_optional(tx).await?;
    record(&row.ok_or_else(|| Rejection::job_not_found(id))?)
}

/// Writes what the rules made of a locked job.
pub(super) async fn write(
    tx: &mut PgConnection,
    job: &Job,
    slot: Slot,
    last_seq: i32,
    error: Option<&str>,
    results: Option<&serde_json::Value>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jobs SET status = $2, phase = $3, progress = $4, tallies = $5, errors = $6, last_seq = $7,
                error = coalesce($8, error), results = coalesce($9, results), updated_at = $10,
                started_at = CASE WHEN $12 THEN coalesce(started_at, $10) ELSE started_at END,
                ended_at = CASE WHEN $11 THEN $10 END, priority = $13, paused_from = $14, slot = $15,
                step = $16
         WHERE id = $1",
    )
    .bind(job.id.0)
    .bind(job.status.word())
    .bind(job.phase.number())
    .bind(i16::from(job.progress))
    .bind(Json(&job.tallies))
    .bind(Json(&job.errors))
    .bind(last_seq)
    .bind(error)
    .bind(results.map(Json))
    .bind(Utc::now())
    .bind(job.status.is_ended())
    .bind(job.has_begun())
    .bind(job.priority.number())
    .bind(job.paused_from.map(Status::word))
    .bind(slot.word())
    .bind(&job.step)
    .execute(tx)
    .await?;
    Ok(())
}

/// The status column of a row of jobs.
pub(super) fn status(row: &PgRow) -> Result<Status, StoreError> {
    status_word(&row.try_get::<String, _>("status")?)
}

fn status_word(word: &str) -> Result<Status, StoreError> {
    Status::from_word(word)
        .ok_or_else(|| StoreError::Corrupt { table: "jobs", detail: format!("status {word:?}") })
}

pub(super) fn record(row: &PgRow) -> Result<JobRecord, StoreError> {
    let corrupt = |detail: String| StoreError::Corrupt { table: "jobs", detail };
    let phase: i16 = row.try_get("phase")?;
    let config: Option<JobConfig> = row.try_get::<Json<Option<JobConfig>>, _>("config")?.0;
    let slot: String = row.try_get("slot")?;
    let paused_from: Option<String> = row.try_get("paused_from")?;
    Ok(JobRecord {
        job: Job {
            id: JobId(row.try_get::<Uuid, _>("id")?),
            job_type: from_word(&row.try_get::<String, _>("job_type")?).map_err(corrupt)?,
            name: row.try_get("name")?,
            status: status(row)?,
            paused_from: paused_from.as_deref().map(status_word).transpose()?,
            phase: Phase::from_number(phase).ok_or_else(|| corrupt(format!("phase {phase}")))?,
            progress: row.try_get::<i16, _>("progress")?.clamp(0, 100) as u8,
            tallies: row.try_get::<Json<BTreeMap<Stage, Tally>>, _>("tallies")?.0,
            errors: row.try_get::<Json<Vec<String>>, _>("errors")?.0,
            plan: config.as_ref().map(|config| config.plan).unwrap_or_default(),
            max_products: config.as_ref().map_or(0, |config| config.max_products),
            step: row.try_get("step")?,
            priority: Priority::new(row.try_get::<i16, _>("priority")?.into())?,
        },
        owner: row.try_get("owner")?,
        slot: Slot::from_word(&slot).ok_or_else(|| corrupt(format!("slot {slot:?}")))?,
        retry_of: row.try_get::<Option<Uuid>, _>("retry_of")?.map(JobId),
        schedule_id: row.try_get("schedule_id")?,
        config,
        kind: row.try_get("kind")?,
        number: row.try_get("number")?,
        last_seq: row.try_get("last_seq")?,
        error: row.try_get("error")?,
        results: row.try_get::<Option<Json<serde_json::Value>>, _>("results")?.map(|json| json.0),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// A unit variant as the word that serde gives it.
pub(super) fn word<T: Serialize>(value: T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        other => Err(StoreError::Corrupt { table: "(word)", detail: format!("{other:?} is not a word") }),
    }
}

/// The unit variant with this word.
pub(super) fn from_word<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).map_err(|error| error.to_string())
}
