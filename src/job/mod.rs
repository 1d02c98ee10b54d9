//! What a job is and may do: its state, the commands it takes, and what each command makes happen.
//!
//! Pure: no I/O, no clock, no async. The store runs [`Job::decide`] under the job's row lock and writes the new state
//! and the events in the same transaction, so two workers never decide on the same state.

mod access;
mod companies;
mod crawl_options;
mod decide;
mod ids;
mod match_options;
mod plan;
mod progress;
mod rejection;
mod request;
mod schedule;
mod view;
pub mod work;

pub use access::{ANONYMOUS, Principal, Proof, Scope, Scopes, check_subject};
pub use companies::{Companies, domain};
pub use crawl_options::{CrawlOptions, CustomSelectors};
pub use decide::{Command, Decision, Failure, completed};
pub use ids::JobId;
pub use match_options::MatchOptions;
pub use plan::{Phase, Plan, Stage};
pub use rejection::{Code, Rejection};
pub use request::{JobRequest, Order, RequestLimits};
pub use schedule::{Overlap, Timing};
pub use view::JobView;
pub use work::{Report, merge_patch};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::JobType;

/// Where a job stands. The words are those of the frontends' status badges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Pending,
    /// At work without a plan of stages.
    Running,
    Crawling,
    ProcessingOcr,
    Matching,
    Rendering,
    /// A person has stopped it for a while; what it goes on with is in [`Job::paused_from`].
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Status; 10] = [
        Status::Pending,
        Status::Running,
        Status::Crawling,
        Status::ProcessingOcr,
        Status::Matching,
        Status::Rendering,
        Status::Paused,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];

    /// As it stands in the database and in `/v1`.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Crawling => "crawling",
            Status::ProcessingOcr => "processing-ocr",
            Status::Matching => "matching",
            Status::Rendering => "rendering",
            Status::Paused => "paused",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// The status with this word.
    pub fn from_word(word: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether no event can follow.
    pub fn is_ended(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

/// How many items a stage has, and how many of them are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub total: u32,
    pub done: u32,
    pub failed: u32,
}

impl Tally {
    /// Items that still wait or run.
    pub fn open(self) -> u32 {
        self.total - self.settled()
    }

    /// Items that ended, well or not.
    pub fn settled(self) -> u32 {
        self.done + self.failed
    }
}

/// What a job was asked to do; stored as it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobConfig {
    /// Which phases it walks.
    #[serde(default)]
    pub plan: Plan,
    /// The shop's start page.
    pub shop_url: String,
    /// The label template.
    pub template_id: String,
    /// How many products at the most.
    pub max_products: u32,
    /// Whether the crawl follows "next page" links.
    pub follow_pagination: bool,
    /// The price list to match against; `None` for all known products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_id: Option<Uuid>,
    /// Below this likeness (0 to 1) a fuzzy match is none.
    pub match_threshold: f64,
    /// How readings are matched besides.
    #[serde(default, skip_serializing_if = "MatchOptions::is_silent")]
    pub matching: MatchOptions,
    /// How the shop is crawled.
    #[serde(default, skip_serializing_if = "CrawlOptions::is_silent")]
    pub crawl: CrawlOptions,
    /// The companies that are looked up, if it is about companies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companies: Option<Companies>,
}

/// A job's state: what the store keeps in its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub job_type: JobType,
    pub name: String,
    pub status: Status,
    /// What a paused job goes on with; `None` for one that is not paused.
    pub paused_from: Option<Status>,
    /// Which phases it walks.
    pub plan: Plan,
    /// The phase at work; its tasks may be claimed, those of later phases wait.
    pub phase: Phase,
    /// Percent, never falls.
    pub progress: u8,
    pub tallies: BTreeMap<Stage, Tally>,
    /// Sentences about items that failed, oldest first, at most [`Job::MAX_ERRORS`].
    pub errors: Vec<String>,
    /// Expected number of products while the crawl still looks for them.
    pub max_products: u32,
    /// What its worker says to be at work on; `None` for a job whose phases say it.
    pub step: Option<String>,
    /// From [`Priority::LOWEST`] to [`Priority::HIGHEST`]; higher ones are worked on first.
    pub priority: Priority,
}

/// Which job is worked on first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(i16);

impl Priority {
    pub const LOWEST: i16 = -100;
    pub const HIGHEST: i16 = 100;

    /// # Errors
    /// A sentence that says what it may be.
    pub fn new(priority: i64) -> Result<Priority, Rejection> {
        i16::try_from(priority)
            .ok()
            .filter(|priority| (Priority::LOWEST..=Priority::HIGHEST).contains(priority))
            .map(Priority)
            .ok_or_else(|| {
                let (lowest, highest) = (Priority::LOWEST, Priority::HIGHEST);
                let message = format!("priority must be a whole number from {lowest} to {highest}.");
                Rejection::new(Code::InvalidRequest, message)
            })
    }

    /// As it stands in the database and on the wire.
    pub fn number(self) -> i16 {
        self.0
    }
}

impl Job {
    /// More item errors than this are counted, not kept.
    pub const MAX_ERRORS: usize = 100;

    /// A job as it is before anything happened to it.
    pub fn new(id: JobId, job_type: JobType, name: String, plan: Plan, max_products: u32) -> Job {
        Job {
            id,
            job_type,
            name,
            status: Status::Pending,
            paused_from: None,
            plan,
            phase: plan.first(),
            progress: 0,
            tallies: BTreeMap::new(),
            errors: Vec::new(),
            max_products,
            step: None,
            priority: Priority::default(),
        }
    }

    /// The status without regard to a pause: where the work stands.
    pub fn stands(&self) -> Status {
        self.paused_from.unwrap_or(self.status)
    }

    /// Whether its first item has been worked on.
    pub fn has_begun(&self) -> bool {
        self.stands() != Status::Pending
    }

    /// The tally of a stage; zeros for one that has no items yet.
    pub fn tally(&self, stage: Stage) -> Tally {
        self.tallies.get(&stage).copied().unwrap_or_default()
    }
}
