//! Where state rests: the only home of SQL and of the object store's addresses.
//!
//! Every change of a job is one [`Store::change`]: in one transaction the rows that it speaks of, its follow-up
//! tasks, the job's new state and its events. Nobody tells clients anything directly; what was committed is
//! announced ([`Announcement`]) and, should an announcement be lost, found again in the journal.

mod addresses;
mod articles;
mod blobs;
mod change;
mod companies;
mod control;
mod copy;
mod crawl_jobs;
mod credits;
mod derived;
pub mod embedded;
mod findings;
mod idempotency;
mod jobs;
mod journal;
mod keys;
mod library;
mod match_rules;
mod numbers;
mod page_settings;
mod print_layouts;
mod products;
mod projects;
mod retention;
mod retry;
mod rows;
mod schedules;
mod sessions;
mod slots;
mod tasks;
mod templates;
pub mod verify;
mod webhooks;
mod work;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::{Notify, broadcast, mpsc};

pub use addresses::{Addresses, Denied, Showing, disposition};
pub use articles::{
    Article, ArticleQuery, ArticleRow, ArticleSort, ArticleStats, ArticleUpdate, ArticlesUpdated,
};
pub use blobs::{Artifact, Blobs, BlobsError, Object, hexadecimal};
pub use change::{Change, Changed, Settle};
pub use companies::{Company, CompanyCounts, CompanyRow, Outcome};
pub use credits::{Credits, Final, Finalized, LedgerLine, OVERDRAFT, Reserve};
pub use findings::{Finding, LabelEntry};
pub use idempotency::OnceKey;
pub use jobs::{JobRecord, NewJob, Of, Page, Slot, Stats, Submitted};
pub use journal::{Head, Recorded, Transient};
pub use keys::{ApiKey, NewApiKey};
pub use library::{
    ArticleToLabel, LabelOrder, LabelQuery, LabelSource, LabelStats, LibraryLabel, Picture, TemplateType,
};
pub use match_rules::{match_rules, match_rules_of};
pub use numbers::QueueNumbers;
pub use print_layouts::PrintLayout;
pub use products::{Import, ImportWay, Imported, LastImport, ListedRow, NewImport, Portion, ProductStats};
pub use projects::{Project, ProjectFields, run_id};
pub use retry::Retried;
pub use rows::{ElementRow, LabelRow, MatchRow, OcrRow, Row, ScreenshotRow};
pub use schedules::{NewSchedule, Schedule, ScheduleChange};
pub use sessions::{Resumed, Room, RoomChanges};
pub use tasks::{Claimed, CompanyItem, Lease, NewTask, ReadItem, TaskState};
pub use templates::{Template, TemplateName};
pub use webhooks::{
    Delivery, NewWebhook, Resend, Resent, Settled, Verdict, Webhook, WebhookChange, WebhookSecret,
    WebhookState,
};
pub use work::{
    Answered, ClaimedWork, Kind as WorkKind, KindChange, NewWork, RequestKey, StoredArtifact, WorkFilter,
    WorkLease, WorkOutcome, WorkRecord, WorkSort,
};

use crate::{
    config,
    event::{Event, JobProgress},
    job::{JobId, Rejection},
};

/// The tables, as they came to be.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();
/// Announcements that may wait for the hub; the journal has what does not fit.
const ANNOUNCEMENTS: usize = 4096;
/// Jobs that were stopped which the workers may not have heard of yet; what they miss they find in the rows.
const STOPPED: usize = 256;

/// A connection that was used within this time is not asked first whether it lives, which would be a round trip.
const TRUSTED: Duration = Duration::from_secs(1);

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request itself is refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Another worker owns the task by now; what this one did is thrown away.
    #[error("the task's lease was lost to another worker")]
    Fenced,
    /// The database did not answer; the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A row does not hold what this version wrote.
    #[error("table {table} holds what this version of Jobcast cannot read: {detail}")]
    Corrupt { table: &'static str, detail: String },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { index, source } => {
                StoreError::Corrupt { table: "(see column)", detail: format!("column {index}: {source}") }
            }
            other => StoreError::Unavailable(other),
        }
    }
}

/// What a commit or a transient event tells this node's hub and workers.
#[derive(Clone, Debug)]
pub enum Announcement {
    /// Events that are in the journal now, in the order of their positions, and when this process knew.
    Committed { events: Vec<Arc<Recorded>>, at: Instant },
    /// Progress that is not journaled.
    Transient(Arc<Transient>),
}

/// The database, the journal's appender and the announcements of this process. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    announcements: mpsc::Sender<Announcement>,
    appender: journal::Appender,
    sessions: sessions::Sessions,
    new_tasks: Arc<Notify>,
    work: work::Waiting,
    stopped: broadcast::Sender<JobId>,
    /// Jobs of one owner that are worked on at once.
    jobs_per_owner: i64,
    /// How long a key that came with a new job is good for.
    keep_keys: Duration,
}

impl Store {
    /// Connects and brings the tables up to date. The receiver is for the one hub of this process.
    ///
    /// # Errors
    /// A sentence that says what to check when the server cannot be reached or migrated.
    pub async fn open(
        options: PgConnectOptions,
        settings: &config::Database,
    ) -> Result<(Store, mpsc::Receiver<Announcement>), OpenError> {
        let pool = pool(options, settings).await?;
        migrate(&pool).await?;
        let (announcements, receiver) = mpsc::channel(ANNOUNCEMENTS);
        let appender = journal::Appender::start(pool.clone(), announcements.clone());
        let sessions = sessions::Sessions::start(pool.clone());
        let store = Store {
            pool,
            announcements,
            appender,
            sessions,
            new_tasks: Arc::default(),
            work: work::Waiting::new(config::Config::defaults().work),
            stopped: broadcast::channel(STOPPED).0,
            jobs_per_owner: i64::MAX,
            keep_keys: settings.keep_idempotency_keys,
        };
        Ok((store, receiver))
    }

    /// The same store with a limit on the jobs of one owner that are worked on at once.
    pub fn with_jobs_per_owner(self, jobs: u32) -> Store {
        Store { jobs_per_owner: jobs.into(), ..self }
    }

    /// The same store with settings for jobs that workers outside of this server do.
    pub fn with_work(self, settings: config::Work) -> Store {
        Store { work: work::Waiting::new(settings), ..self }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections; calls that still run end first.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Wakes workers of this process when tasks were added or made ready.
    pub fn new_tasks(&self) -> Arc<Notify> {
        self.new_tasks.clone()
    }

    /// Jobs that ended or were paused in this process, so that its workers stop at once.
    pub fn stopped_jobs(&self) -> broadcast::Receiver<JobId> {
        self.stopped.subscribe()
    }

    /// Tells the hub; when it is busy the journal tells it later.
    fn announce(&self, announcement: Announcement) {
        let _ = self.announcements.try_send(announcement);
    }

    fn announce_progress(&self, job: JobId, progress: JobProgress) {
        self.announce_transient(Some(job), progress.into());
    }

    fn announce_transient(&self, job: Option<JobId>, event: Event) {
        if let Some(transient) = Transient::new(job, &event) {
            self.announce(Announcement::Transient(Arc::new(transient)));
        }
    }
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "cannot connect to the database ({0}); check --database-url and that the server runs and takes connections"
    )]
    Connect(#[source] sqlx::Error),
    #[error("cannot bring the database's tables up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

async fn pool(options: PgConnectOptions, settings: &config::Database) -> Result<PgPool, OpenError> {
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.acquire_timeout)
        .idle_timeout(Duration::from_secs(300))
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options.application_name("jobcast"))
        .await
        .map_err(OpenError::Connect)
}

/// Brings the tables up to date.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(pool).await
}

/// Connects for [`migrate`] alone.
pub async fn connect(options: PgConnectOptions, settings: &config::Database) -> Result<PgPool, OpenError> {
    pool(options, settings).await
}
