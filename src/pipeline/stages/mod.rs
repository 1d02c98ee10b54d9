//! The stages, one file each: a stage turns a task into a change, and says what a given-up item means.
//!
//! To add a stage: its file here, its line in each of the two matches, its row in [`crate::job::Stage`].

mod company;
mod crawl;
mod match_products;
mod ocr;
mod render_label;
mod screenshot;

use super::context::Context;
use crate::{
    job::Stage,
    store::{BlobsError, Change, Claimed, StoreError},
};

/// Why an item is not done.
#[derive(Debug)]
pub enum StageError {
    /// It may succeed later.
    Retry { why: String },
    /// It never will.
    Fatal { why: String },
    /// The work was stopped from outside; the attempt does not count.
    Interrupted,
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced => StageError::Interrupted,
            // The job has ended; what is left of it is being cancelled.
            StoreError::Rejected(_) => StageError::Interrupted,
            StoreError::Unavailable(_) => StageError::Retry { why: "the database did not answer".into() },
            StoreError::Corrupt { .. } => StageError::Fatal { why: error.to_string() },
        }
    }
}

impl From<BlobsError> for StageError {
    fn from(error: BlobsError) -> Self {
        match error {
            BlobsError::NotFound(_) => StageError::Fatal { why: error.to_string() },
            other => {
                tracing::warn!(error = other.cause(), "the object store failed");
                StageError::Retry { why: other.to_string() }
            }
        }
    }
}

/// Works on one item.
pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    match task.lease.stage {
        Stage::Crawl => crawl::run(context, task).await,
        Stage::Screenshot => screenshot::run(context, task).await,
        Stage::Ocr => ocr::run(context, task).await,
        Stage::Match => match_products::run(context, task).await,
        Stage::Render => render_label::run(context, task).await,
        Stage::Company => company::run(context, task).await,
    }
}

/// What becomes true when an item is given up, and the sentence that the job keeps of it.
pub fn given_up(task: &Claimed, why: String) -> (Change, String) {
    match task.lease.stage {
        Stage::Crawl => crawl::given_up(why),
        Stage::Screenshot => screenshot::given_up(task, why),
        Stage::Ocr => ocr::given_up(task, why),
        Stage::Match => match_products::given_up(task, why),
        Stage::Render => render_label::given_up(task, why),
        Stage::Company => company::given_up(task, why),
    }
}

/// What a task was given to know.
fn payload<T: serde::de::DeserializeOwned>(task: &Claimed) -> Result<T, StageError> {
    serde_json::from_value(task.payload.clone())
        .map_err(|error| StageError::Fatal { why: format!("the task's payload cannot be read: {error}") })
}

/// A row's JSON column.
fn column<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<T, StageError> {
    serde_json::from_value(value.clone())
        .map_err(|error| StageError::Fatal { why: format!("a stored value cannot be read: {error}") })
}

/// A value on its way into a JSON column.
fn json(value: &impl serde::Serialize) -> Result<serde_json::Value, StageError> {
    serde_json::to_value(value)
        .map_err(|error| StageError::Fatal { why: format!("a value cannot be stored: {error}") })
}
