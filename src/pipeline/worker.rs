//! Workers: claim tasks, keep their leases alive, run their stages, settle them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    context::Context,
    stages::{self, StageError},
};
use crate::{
    config,
    job::{Command, Stage},
    metrics::numbers,
    store::{Change, Claimed, Lease, Settle, StoreError},
};

/// A pause between two attempts is at most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a finished item is offered to a database that does not answer.
const COMMIT_ATTEMPTS: u32 = 5;

/// How the workers of a process work.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    pub lease: Duration,
    pub poll_interval: Duration,
    pub max_attempts: i32,
    pub retry_backoff: Duration,
    /// Items in flight at once.
    pub concurrency: HashMap<Stage, usize>,
}

impl From<&config::Pipeline> for WorkerSettings {
    fn from(settings: &config::Pipeline) -> Self {
        WorkerSettings {
            lease: settings.lease,
            poll_interval: settings.poll_interval,
            max_attempts: settings.max_attempts,
            retry_backoff: settings.retry_backoff,
            concurrency: HashMap::from([
                (Stage::Crawl, settings.crawl_concurrency),
                (Stage::Screenshot, settings.screenshot_concurrency),
                (Stage::Ocr, settings.ocr_concurrency),
                (Stage::Match, settings.match_concurrency),
                (Stage::Render, settings.render_concurrency),
                (Stage::Company, settings.company_concurrency),
            ]),
        }
    }
}

/// The workers of this process.
pub struct Worker {
    context: Arc<Context>,
    settings: WorkerSettings,
    /// This process, in the rows of its tasks.
    node: Uuid,
    slots: HashMap<Stage, Arc<Semaphore>>,
    running: Mutex<HashMap<Uuid, Running>>,
}

struct Running {
    lease: Lease,
    /// Ends the work at once: the job has ended or is paused, the lease is lost, or the process stops.
    stop: CancellationToken,
}

impl Worker {
    pub fn new(context: Arc<Context>, settings: WorkerSettings) -> Arc<Worker> {
        let slots = Stage::ALL.map(|stage| {
            let slots = settings.concurrency.get(&stage).copied().unwrap_or(1);
            (stage, Arc::new(Semaphore::new(slots)))
        });
        Arc::new(Worker {
            context,
            settings,
            node: Uuid::new_v4(),
            slots: slots.into(),
            running: Mutex::default(),
        })
    }

    /// Works until `soft` is cancelled, then lets open items end; when `hard` is cancelled too, they are interrupted
    /// and handed back unspent.
    pub async fn run(self: Arc<Self>, soft: CancellationToken, hard: CancellationToken) {
        let mut helpers = JoinSet::new();
        helpers.spawn(self.clone().keep_leases());
        helpers.spawn(self.clone().heed_stopped_jobs());
        helpers.spawn(self.clone().heed_other_processes());
        helpers.spawn(self.clone().reap());
        let mut items = JoinSet::new();
        let announced = self.context.store.new_tasks();
        while !soft.is_cancelled() {
            let wake = announced.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            let claimed = match self.claim().await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "tasks could not be claimed; trying again");
                    Vec::new()
                }
            };
            for (task, slot) in claimed {
                let worker = self.clone();
                let lease = &task.lease;
                let span = tracing::info_span!(
                    "task", job = %lease.job, task = %lease.task, stage = lease.stage.word(), attempt = task.attempt
                );
                let work = async move {
                    worker.work(task).await;
                    drop(slot);
                };
                items.spawn(work.instrument(span));
            }
            tokio::select! {
                () = soft.cancelled() => {}
                // Work that is there already is looked for again as soon as a slot is free.
                () = wake => {}
                Some(_) = items.join_next() => {}
                () = tokio::time::sleep(self.settings.poll_interval) => {}
            }
        }
        let interrupt = async {
            hard.cancelled().await;
            self.lock().values().for_each(|running| running.stop.cancel());
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = async { while items.join_next().await.is_some() {} } => {}
            () = interrupt => {}
        }
    }

    /// Claims as many tasks of each stage as there are free slots.
    async fn claim(&self) -> Result<Vec<(Claimed, tokio::sync::OwnedSemaphorePermit)>, StoreError> {
        let mut claimed = Vec::new();
        for stage in self.context.store.ready_stages().await? {
            let Some(slots) = self.slots.get(&stage) else { continue };
            let mut free = Vec::new();
            while let Ok(slot) = slots.clone().try_acquire_owned() {
                free.push(slot);
            }
            if free.is_empty() {
                continue;
            }
            let tasks = self.context.store.claim(stage, free.len(), self.node, self.settings.lease).await?;
            claimed.extend(tasks.into_iter().zip(free));
        }
        Ok(claimed)
    }

    /// One item, from its claim to its settlement.
    async fn work(self: &Arc<Self>, task: Claimed) {
        let stop = CancellationToken::new();
        let (lease, began) = (task.lease, Instant::now());
        self.lock().insert(lease.task, Running { lease, stop: stop.clone() });
        let outcome = {
            let (context, task) = (self.context.clone(), task.clone());
            // A task of its own, so that a panic in a stage is an error of this item and no more.
            let stage = tracing::info_span!("stage");
            let attempt = async move {
                if task.begins {
                    let start = Change { commands: vec![Command::Start], ..Change::default() };
                    context.store.change(task.lease.job, Some((&task.lease, Settle::Keep)), start).await?;
                }
                stages::run(&context, &task).await
            };
            let mut run = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(attempt.instrument(stage)));
            tokio::select! {
                () = stop.cancelled() => Err(StageError::Interrupted),
                outcome = &mut run => outcome.unwrap_or_else(|panic| {
                    tracing::error!(%panic, stage = lease.stage.word(), job = %lease.job, "a stage failed");
                    Err(StageError::Retry { why: "the stage failed unexpectedly; the server's log tells why".into() })
                }),
            }
        };
        let stage = lease.stage.word();
        numbers().stage.with_label_values(&[stage]).observe(began.elapsed().as_secs_f64());
        let word = match &outcome {
            Ok(_) => "done",
            Err(StageError::Interrupted) => "interrupted",
            Err(StageError::Retry { .. }) if task.attempt < self.settings.max_attempts => "retried",
            Err(StageError::Retry { .. } | StageError::Fatal { .. }) => "given_up",
        };
        numbers().items.with_label_values(&[stage, word]).inc();
        tracing::debug!(outcome = word, "an item was worked on");
        match outcome {
            Ok(change) => {
                let made = self
                    .commit(|| {
                        self.context.store.change(lease.job, Some((&lease, Settle::Done)), change.clone())
                    })
                    .await;
                self.settled(&lease, made.map(drop));
            }
            Err(StageError::Interrupted) => {
                if let Err(error) = self.context.store.hand_back(&lease).await {
                    tracing::warn!(%error, task = %lease.task, "an interrupted task could not be handed back; its lease will run out");
                }
            }
            Err(StageError::Retry { why }) if task.attempt < self.settings.max_attempts => {
                let pause = self.pause(task.attempt);
                tracing::info!(job = %lease.job, stage = lease.stage.word(), attempt = task.attempt, why, "an item is tried again");
                let put_back = self.context.store.retry_task(&lease, pause, &why).await;
                self.settled(&lease, put_back.map(drop));
            }
            Err(StageError::Retry { why } | StageError::Fatal { why }) => self.give_up(&task, why).await,
        }
        self.lock().remove(&lease.task);
    }

    async fn give_up(&self, task: &Claimed, why: String) {
        tracing::info!(job = %task.lease.job, stage = task.lease.stage.word(), why, "an item is given up");
        let (change, why) = stages::given_up(task, why);
        let settle = Settle::GiveUp(why);
        let made = self
            .commit(|| {
                self.context.store.change(task.lease.job, Some((&task.lease, settle.clone())), change.clone())
            })
            .await;
        self.settled(&task.lease, made.map(drop));
    }

    /// Offers a finished item to the database until it answers.
    async fn commit<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut tried = 1;
        loop {
            match attempt().await {
                Err(StoreError::Unavailable(error)) if tried < COMMIT_ATTEMPTS => {
                    tracing::warn!(%error, "an item could not be committed; trying again");
                    tokio::time::sleep(self.pause(tried as i32)).await;
                    tried += 1;
                }
                other => return other,
            }
        }
    }

    /// What is left to say of an item.
    fn settled(&self, lease: &Lease, settled: Result<(), StoreError>) {
        match settled {
            Ok(()) => {}
            // The job has ended meanwhile, or another worker took over: what was done here counts for nothing.
            Err(StoreError::Fenced | StoreError::Rejected(_)) => {
                tracing::debug!(job = %lease.job, stage = lease.stage.word(), "an item came too late");
            }
            Err(error) => {
                tracing::error!(%error, job = %lease.job, task = %lease.task, "an item could not be settled; its lease will run out");
            }
        }
    }

    /// The wait before an attempt: doubled each time, and spread so that many do not come back together.
    fn pause(&self, attempt: i32) -> Duration {
        let doubled = self.settings.retry_backoff.saturating_mul(1 << (attempt - 1).clamp(0, 16));
        let spread = 0.75 + f64::from(Uuid::new_v4().as_bytes()[0]) / 512.0;
        doubled.min(LONGEST_PAUSE).mul_f64(spread)
    }

    async fn keep_leases(self: Arc<Self>) {
        let mut beat = tokio::time::interval(self.settings.lease / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let leases: Vec<Lease> = self.lock().values().map(|running| running.lease).collect();
            if leases.is_empty() {
                continue;
            }
            match self.context.store.heartbeat(&leases, self.settings.lease).await {
                Ok(held) => {
                    let running = self.lock();
                    for lease in leases.iter().filter(|lease| !held.contains(&lease.task)) {
                        if let Some(lost) = running.get(&lease.task) {
                            lost.stop.cancel();
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "leases could not be extended"),
            }
        }
    }

    async fn heed_stopped_jobs(self: Arc<Self>) {
        let mut stopped = self.context.store.stopped_jobs();
        loop {
            match stopped.recv().await {
                // What is missed here is found by the next look at the rows.
                Ok(_) => self.stop_what_must().await,
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Looks for work here whose job was cancelled or paused by another process.
    async fn heed_other_processes(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.poll_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.stop_what_must().await;
        }
    }

    async fn stop_what_must(&self) {
        let leases: Vec<Lease> = self.lock().values().map(|running| running.lease).collect();
        if leases.is_empty() {
            return;
        }
        match self.context.store.to_stop(&leases).await {
            Ok(tasks) => {
                let running = self.lock();
                for leases in leases.iter().filter(|lease| tasks.contains(&lease.task)) {
                    // Not another claim of the same task, made since.
                    if let Some(found) = running.get(&leases.task).filter(|r| r.lease.fence == leases.fence) {
                        found.stop.cancel();
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "work that is to stop could not be looked for"),
        }
    }

    /// Takes tasks from workers that are not heard of, and makes up for slots that a process died before giving.
    async fn reap(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.lease / 2);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.context.store.give_all_slots().await {
                tracing::warn!(%error, "waiting jobs could not be looked at");
            }
            match self.context.store.reap(self.settings.max_attempts, self.settings.lease).await {
                Ok(spent) => {
                    for task in spent {
                        let why = format!("its worker died {} times at it", task.attempt);
                        self.give_up(&task, why).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "lost tasks could not be looked for"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
