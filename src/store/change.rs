//! A change of a job: rows, tasks, state and events in one transaction.

use std::{sync::Arc, time::Instant};

use chrono::Utc;
use serde_json::json;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    Announcement, Lease, NewTask, Recorded, Row, Slot, Store, StoreError, credits, jobs, journal,
    match_rules_of, rows, tasks, work,
};
use crate::{
    event::{Event, JobProgress},
    job::{Command, Job, JobId, Plan, Stage, Status, Tally},
    product::matching::Report,
};

/// What becomes of the task under whose lease a change is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Settle {
    /// It goes on; more will come.
    Keep,
    /// Its item is done.
    Done,
    /// Its item is given up, for the reason given.
    GiveUp(String),
}

/// Everything that is to become true at once.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Rows that the events speak of.
    pub rows: Vec<Row>,
    /// Follow-up items; those that exist already are left as they are, those outside of the job's plan are left out.
    pub tasks: Vec<NewTask>,
    /// Events that tell of the rows; the events of the job's own state follow them.
    pub events: Vec<Event>,
    /// Commands to the job, before the task is settled.
    pub commands: Vec<Command>,
    /// The results of a job without a plan that is completed now; a planned job's are its summary.
    pub results: Option<serde_json::Value>,
}

/// What a change made.
#[derive(Debug)]
pub struct Changed {
    /// The events of the change, in order.
    pub events: Vec<Arc<Recorded>>,
    /// The job's status by now.
    pub status: Status,
}

impl Store {
    /// Makes a change, under a task's lease if one is given.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease is lost; a rejection when the job is unknown or has ended. Nothing is
    /// written then.
    pub async fn change(
        &self,
        id: JobId,
        lease: Option<(&Lease, Settle)>,
        change: Change,
    ) -> Result<Changed, StoreError> {
        let mut tx = self.pool.begin().await?;
        let locked = jobs::lock(&mut tx, id).await?;
        let mut state = Working::new(locked);
        if let Some((lease, settle)) = &lease {
            tasks::hold(&mut tx, lease, settle).await?;
        }
        for row in &change.rows {
            rows::insert(&mut tx, id, row).await?;
        }
        state.events = change.events;
        state.results = change.results;
        state.add(&mut tx, &change.tasks).await?;
        for command in change.commands {
            state.run(command)?;
        }
        match lease {
            // The commands may have ended the job, and the task with it.
            _ if state.job.status.is_ended() => {}
            Some((lease, Settle::Done)) => state.run(Command::Done { stage: lease.stage })?,
            Some((lease, Settle::GiveUp(why))) => state.run(Command::GiveUp { stage: lease.stage, why })?,
            Some((_, Settle::Keep)) | None => {}
        }
        self.finish(tx, state).await
    }

    /// What jobs have made so far, as `job:completed` would tell it now; in the order of `jobs`.
    pub async fn summaries(&self, jobs: &[&Job]) -> Result<Vec<serde_json::Value>, StoreError> {
        summaries(&mut *self.pool.acquire().await?, jobs).await
    }

    /// Writes the state and the events of a change, commits and announces it.
    pub(super) async fn finish(
        &self,
        mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
        mut state: Working,
    ) -> Result<Changed, StoreError> {
        let results = match (state.completes, state.results.take()) {
            (false, _) => None,
            (true, Some(results)) => Some(results),
            (true, None) if state.job.plan == Plan::Companies => {
                let Tally { total, done, failed } = state.job.tally(Stage::Company);
                Some(json!({ "summary": { "companies": total, "found": done, "failed": failed } }))
            }
            (true, None) => Some(json!({
                "summary": summary(&mut tx, &state.job).await?,
                "matching": matching(&mut tx, &state.record).await?,
            })),
        };
        if let Some(results) = &results {
            let started = state.record.started_at.unwrap_or(state.record.created_at);
            let duration = (Utc::now() - started).num_milliseconds().max(0) as u64;
            state.events.push(crate::job::completed(results.clone(), duration));
        }
        let id = state.job.id;
        let ended = state.job.status.is_ended();
        let slot_before = state.record.slot;
        let slot = state.slot();
        state.record.slot = slot;
        state.record.job = state.job.clone();
        let tasks_moved = tasks::follow(&mut tx, &state.before, &state.record).await?;
        let work_is_ready = work::follow(&mut tx, &state.before, &state.record).await?;
        let drafts: Vec<journal::Draft> = state
            .events
            .into_iter()
            .zip(state.record.last_seq + 1..)
            .map(|(event, seq)| journal::Draft::new(id, seq, event, &state.record.owner))
            .collect();
        let last_seq = state.record.last_seq + drafts.len() as i32;
        let error = drafts.iter().rev().find_map(|draft| match &draft.event {
            Event::JobFailed(failed) => Some(failed.error.clone()),
            _ => None,
        });
        jobs::write(&mut tx, &state.job, slot, last_seq, error.as_deref(), results.as_ref()).await?;
        if state.record.kind.is_some() && matches!(state.job.status, Status::Failed | Status::Cancelled) {
            credits::refund(&mut tx, id).await?;
        }
        let events = journal::write(&mut tx, &drafts).await?;
        // While the job's row is locked, so that of two changes the later one's progress is told later.
        if let Some(progress) = state.progress {
            self.announce_progress(id, progress);
        }
        tx.commit().await?;

        self.announce(Announcement::Committed { events: events.clone(), at: Instant::now() });
        if tasks_moved || state.job.tallies != state.before.job.tallies {
            self.new_tasks.notify_waiters();
        }
        if let (true, Some(kind)) = (work_is_ready, &state.record.kind) {
            self.work.wake(kind);
        }
        if ended || (state.job.status == Status::Paused && state.before.job.status != Status::Paused) {
            let _ = self.stopped.send(id);
        }
        let asks = slot == Slot::Waits && (state.is_new || slot_before != Slot::Waits);
        if asks || slot != slot_before {
            // It is this job's turn, or another's. Should it fail now, the next look at all owners makes up for it.
            if let Err(error) = self.give_slots(&state.record.owner, asks.then_some(id)).await {
                tracing::warn!(%error, "waiting jobs could not be looked at; they are looked at again soon");
            }
        }
        Ok(Changed { events, status: state.job.status })
    }
}

/// A job on its way from its locked row to its new one.
pub(super) struct Working {
    record: jobs::JobRecord,
    job: Job,
    events: Vec<Event>,
    progress: Option<JobProgress>,
    completes: bool,
    results: Option<serde_json::Value>,
    before: jobs::JobRecord,
    is_new: bool,
}

impl Working {
    pub(super) fn new(record: jobs::JobRecord) -> Working {
        Working {
            job: record.job.clone(),
            events: Vec::new(),
            progress: None,
            completes: false,
            results: None,
            before: record.clone(),
            is_new: record.last_seq == 0,
            record,
        }
    }

    /// The slot that the job's new state calls for.
    fn slot(&self) -> Slot {
        match (self.job.status, self.before.job.status, self.before.slot) {
            (status, ..) if status.is_ended() || status == Status::Paused => Slot::None,
            (_, Status::Paused, _) if self.record.config.is_some() => Slot::Waits,
            (.., slot) => slot,
        }
    }

    pub(super) fn id(&self) -> JobId {
        self.job.id
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    /// Tells an event that changes nothing of the job's own state.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn told(&self) -> &[Event] {
        &self.events
    }

    /// What a job without a plan, which is completed now, has come to.
    pub(super) fn conclude(&mut self, results: serde_json::Value) {
        self.results = Some(results);
    }

    /// The seq of the last event of this change.
    pub(super) fn seq(&self) -> i32 {
        self.record.last_seq + self.events.len() as i32 + i32::from(self.completes)
    }

    /// Adds the items of the job's plan.
    pub(super) async fn add(&mut self, tx: &mut PgConnection, tasks: &[NewTask]) -> Result<(), StoreError> {
        let planned = tasks.iter().filter(|task| self.job.plan.has(task.stage));
        for (stage, items) in tasks::add(tx, &self.job, self.record.is_held(), planned).await? {
            self.run(Command::Add { stage, items })?;
        }
        Ok(())
    }

    pub(super) fn run(&mut self, command: Command) -> Result<(), StoreError> {
        let decision = self.job.decide(command)?;
        self.events.extend(decision.events);
        self.progress = decision.progress.or(self.progress.take());
        self.completes |= decision.completes;
        Ok(())
    }
}

/// The object that `job:completed` carries and the job keeps: counts that pages show.
async fn summary(tx: &mut PgConnection, job: &Job) -> Result<serde_json::Value, StoreError> {
    summaries(tx, &[job]).await?.pop().ok_or_else(|| StoreError::from(sqlx::Error::RowNotFound))
}

/// The report on a job's matches.
async fn matching(tx: &mut PgConnection, record: &jobs::JobRecord) -> Result<Report, StoreError> {
    let found: Vec<(Option<String>, f64)> = sqlx::query_as(
        "SELECT match_type, score FROM matches WHERE job_id = $1 AND success ORDER BY ordinal, id",
    )
    .bind(record.job.id.0)
    .fetch_all(tx)
    .await?;
    let found = found.into_iter().map(|(kind, score)| (kind.as_deref() == Some("exact"), score));
    Ok(Report::of(found, &match_rules_of(record.config.as_ref())))
}

async fn summaries(
    connection: &mut PgConnection,
    jobs: &[&Job],
) -> Result<Vec<serde_json::Value>, StoreError> {
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.0).collect();
    let rows = sqlx::query(
        "SELECT (SELECT count(*) FROM screenshots WHERE job_id = job.id),
                (SELECT count(*) FROM ocr_results WHERE job_id = job.id AND error IS NULL),
                (SELECT count(*) FROM ocr_results WHERE job_id = job.id AND error IS NOT NULL),
                (SELECT count(*) FROM matches WHERE job_id = job.id AND success),
                (SELECT count(*) FROM matches WHERE job_id = job.id AND NOT success),
                (SELECT count(*) FROM labels WHERE job_id = job.id AND error IS NULL),
                (SELECT coalesce(avg(confidence), 0)::float8 FROM ocr_results WHERE job_id = job.id AND error IS NULL)
         FROM UNNEST($1::uuid[]) WITH ORDINALITY AS job (id, place) ORDER BY place",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    jobs.iter()
        .zip(rows)
        .map(|(job, row)| {
            let count = |i: usize| row.try_get::<i64, _>(i);
            let confidence: f64 = row.try_get(6)?;
            Ok(json!({
                "totalProducts": count(0)?,
                "successfulOCR": count(1)?,
                "failedOCR": count(2)?,
                "successfulMatches": count(3)?,
                "failedMatches": count(4)?,
                "labelsGenerated": count(5)?,
                "averageConfidence": (confidence * 10.0).round() / 10.0,
                "skipped": job.errors.len(),
            }))
        })
        .collect()
}
