//! How workers get their jobs: one at a time, by priority and turn, waiting for one without asking again and again.
//!
//! Whoever waits sleeps until a job of a kind that it wants is announced; one is woken for each job. Jobs of other
//! processes, and those whose backoff is over, are found by one look for all who wait
//! ([`Store::wake_for_ready_work`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::select_all;
use sqlx::Row as _;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{SELECT, WorkLease, WorkRecord, work_record};
use crate::{
    config,
    job::{Command, JobId},
    metrics::{kind_label, numbers},
    store::{Store, StoreError, change::Working, jobs},
};

/// Jobs that are looked at for one claim: others may be claiming the first ones at the same time.
const CANDIDATES: i64 = 16;

/// A job that a worker has until its lease ends.
#[derive(Clone, Debug)]
pub struct ClaimedWork {
    pub work: WorkRecord,
    pub lease: WorkLease,
    /// How long it lasts from the claim or a heartbeat on.
    pub lease_for: Duration,
}

/// Who waits for jobs in this process, and the settings of such jobs. Cheap to clone.
#[derive(Clone)]
pub struct Waiting {
    pub(in crate::store) settings: config::Work,
    /// By kind; a kind that nobody waits for has no entry.
    kinds: Arc<Mutex<HashMap<String, Bell>>>,
}

/// What wakes those who wait for one kind.
#[derive(Default)]
struct Bell {
    notify: Arc<Notify>,
    waiting: usize,
}

/// One who waits; dropping it ends the wait.
struct Waiter<'a> {
    waiting: &'a Waiting,
    bells: Vec<(String, Arc<Notify>)>,
}

impl Waiting {
    pub(in crate::store) fn new(settings: config::Work) -> Waiting {
        Waiting { settings, kinds: Arc::default() }
    }

    /// Wakes one who waits for a job of this kind.
    pub(in crate::store) fn wake(&self, kind: &str) {
        if let Some(bell) = self.lock().get(kind) {
            bell.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bell>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, kinds: &[String]) -> Waiter<'_> {
        let mut known = self.lock();
        let bells = kinds.iter().map(|kind| {
            let bell = known.entry(kind.clone()).or_default();
            bell.waiting += 1;
            (kind.clone(), bell.notify.clone())
        });
        Waiter { bells: bells.collect(), waiting: self }
    }
}

impl Waiter<'_> {
    async fn woken(&self) {
        let bells = self.bells.iter().map(|(_, bell)| Box::pin(bell.notified()));
        select_all(bells).await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut known = self.waiting.lock();
        for (kind, _) in &self.bells {
            if let Some(bell) = known.get_mut(kind) {
                bell.waiting -= 1;
                if bell.waiting == 0 {
                    known.remove(kind);
                }
            }
        }
    }
}

impl Store {
    /// Claims a job of one of these kinds, waiting for one if there is none, until it is `enough`.
    pub async fn await_work(
        &self,
        kinds: &[String],
        worker: &str,
        enough: impl Future<Output = ()>,
    ) -> Result<Option<ClaimedWork>, StoreError> {
        let waiter = self.work.join(kinds);
        tokio::pin!(enough);
        loop {
            // Never given up half-way, for it may be committed already.
            if let Some(claimed) = self.claim_work(kinds, worker).await? {
                // There may be more; whoever is woken in vain sleeps on.
                self.work.wake(&claimed.work.kind);
                return Ok(Some(claimed));
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = &mut enough => return Ok(None),
            }
        }
    }

    /// Claims the job of one of these kinds whose turn it is: by priority, then by its age, and later the more jobs of
    /// its owner stood before it.
    pub async fn claim_work(
        &self,
        kinds: &[String],
        worker: &str,
    ) -> Result<Option<ClaimedWork>, StoreError> {
        loop {
            let mut tx = self.pool.begin().await?;
            // The job's row first, as everywhere; those that others are claiming are passed over.
            let next: Option<Uuid> = sqlx::query_scalar(
                "WITH next AS MATERIALIZED (
                     SELECT turn.* FROM UNNEST($1::text[]) AS wanted (kind) CROSS JOIN LATERAL (
                         SELECT job_id, priority, due_at FROM work
                         WHERE work.kind = wanted.kind AND state = 'ready' AND run_at <= now()
                         ORDER BY priority DESC, due_at, job_id LIMIT $2) AS turn
                     ORDER BY priority DESC, due_at, job_id LIMIT $2)
                 SELECT jobs.id FROM next JOIN jobs ON jobs.id = next.job_id
                 ORDER BY next.priority DESC, next.due_at, next.job_id LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED",
            )
            .bind(kinds)
            .bind(CANDIDATES)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(id) = next else { return Ok(None) };
            // Whoever had the row meanwhile may have claimed, paused or ended it.
            let row = sqlx::query(
                "UPDATE work SET state = 'running', attempt = attempt + 1, fence = fence + 1, worker = $2,
                        lease_seconds = coalesce((SELECT lease_seconds FROM work_kinds WHERE name = kind), $3),
                        lease_until = now() + make_interval(secs =>
                            coalesce((SELECT lease_seconds FROM work_kinds WHERE name = kind), $3)),
                        heartbeat_at = now()
                 WHERE job_id = $1 AND state = 'ready' AND run_at <= now() RETURNING fence, lease_seconds",
            )
            .bind(id)
            .bind(worker)
            .bind(i32::try_from(self.work.settings.lease.as_secs()).unwrap_or(i32::MAX))
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = row else { continue };
            let lease = WorkLease { job: JobId(id), fence: row.try_get("fence")? };
            let seconds: i32 = row.try_get("lease_seconds")?;
            let mut state = Working::new(jobs::lock(&mut tx, lease.job).await?);
            state.run(Command::Run)?;
            self.finish(tx, state).await?;
            let work = self.work(lease.job).await?;
            numbers().work_claims.with_label_values(&[kind_label(&work.kind)]).inc();
            let lease_for = Duration::from_secs(seconds.unsigned_abs().into());
            return Ok(Some(ClaimedWork { work, lease, lease_for }));
        }
    }

    /// Wakes those who wait for kinds that have ready jobs.
    pub(super) async fn wake_for_ready_work(&self) -> Result<(), StoreError> {
        let kinds: Vec<String> = self.work.lock().keys().cloned().collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let ready: Vec<String> = sqlx::query_scalar(
            "SELECT kind FROM UNNEST($1::text[]) AS wanted (kind)
             WHERE EXISTS (SELECT FROM work WHERE work.kind = wanted.kind AND state = 'ready' AND run_at <= now())",
        )
        .bind(&kinds)
        .fetch_all(&self.pool)
        .await?;
        // Who finds a job has it; if there are more, the next look wakes the next, and the one after its claim.
        for kind in ready {
            self.work.wake(&kind);
        }
        Ok(())
    }

    /// One job of a kind.
    ///
    /// # Errors
    /// [`Code::JobNotFound`](crate::job::Code::JobNotFound), for a job of no kind too.
    pub async fn work(&self, id: JobId) -> Result<WorkRecord, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE jobs.id = $1")))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| crate::job::Rejection::job_not_found(id))?;
        work_record(&row)
    }
}
