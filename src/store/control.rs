//! What people do to jobs that are there: cancel, pause, resume, prioritise.

use super::{Change, Changed, Store, StoreError};
use crate::job::{Command, JobId, Priority};

impl Store {
    /// Ends a job because a person no longer wants it.
    pub async fn cancel(&self, id: JobId) -> Result<Changed, StoreError> {
        self.command(id, Command::Cancel).await
    }

    /// Lets none of a job's items begin until it is resumed. Items that run may end; the crawl, which is one long item,
    /// is interrupted and begins anew later: it finds the same pages, and those that are there already stay as they are.
    pub async fn pause(&self, id: JobId) -> Result<Changed, StoreError> {
        self.command(id, Command::Pause).await
    }

    /// Lets a paused job go on, as soon as its owner has a slot for it.
    pub async fn resume(&self, id: JobId) -> Result<Changed, StoreError> {
        self.command(id, Command::Resume).await
    }

    /// Gives a job another place among those that wait, and its items among those that are ready.
    pub async fn prioritise(&self, id: JobId, priority: Priority) -> Result<Changed, StoreError> {
        self.command(id, Command::Prioritise { priority }).await
    }

    async fn command(&self, id: JobId, command: Command) -> Result<Changed, StoreError> {
        self.change(id, None, Change { commands: vec![command], ..Change::default() }).await
    }
}
