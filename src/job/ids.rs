//! The job's id and what may stand for one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Code, Rejection};

/// A job's id: a UUID that sorts by the time of its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// The id of something that belongs to this job, the same whenever it is asked for: a stage that runs again
    /// after a crash finds the rows and objects that it already made.
    pub fn derive(self, what: &str, of: &str) -> Uuid {
        Uuid::new_v5(&self.0, format!("{what}\0{of}").as_bytes())
    }
}

impl FromStr for JobId {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<JobId, Rejection> {
        // Only the hyphenated form: room names are made of it, so one job must have one name.
        let malformed =
            || Rejection::new(Code::MalformedId, format!("{:?} is not a job id (a UUID)", clip(text)));
        if text.len() != 36 {
            return Err(malformed());
        }
        Uuid::try_parse(text).map(JobId).map_err(|_| malformed())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The beginning of a stranger's text, short enough to be repeated to them.
fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}
