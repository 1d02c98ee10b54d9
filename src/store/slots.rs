//! Slots: of one owner's jobs only so many are worked on at once; the others wait, by priority, then by age.
//!
//! A job without a slot has no ready task, so workers never look at it. Slots are given one at a time in transactions of
//! their own, each under the owner's lock (taken before any row's, so that nobody waits in a circle), right after the
//! change that freed a slot or asked for one; a process that dies between the two is made up for by
//! [`Store::give_all_slots`]. A paused job gives its slot back.

use std::collections::HashMap;

use sqlx::Row as _;
use uuid::Uuid;

use super::{Slot, Store, StoreError, change::Working, jobs, tasks};
use crate::job::{Command, JobId};

/// What owners' locks are told from other advisory locks by.
const OWNERS: i32 = 0x6a6f_6273;

impl Store {
    /// Gives an owner's free slots to the jobs that wait; tells `newcomer` if it must go on waiting.
    pub(super) async fn give_slots(&self, owner: &str, newcomer: Option<JobId>) -> Result<(), StoreError> {
        let mut given = false;
        while self.give_slot(owner).await? {
            given = true;
        }
        if given {
            self.new_tasks.notify_waiters();
        }
        match newcomer {
            Some(job) => self.tell_waiting(job).await,
            None => Ok(()),
        }
    }

    /// The same for all owners whose jobs wait.
    pub async fn give_all_slots(&self) -> Result<(), StoreError> {
        let owners: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT owner FROM jobs WHERE slot = 'waits' ORDER BY owner LIMIT 1000",
        )
        .fetch_all(&self.pool)
        .await?;
        for owner in owners {
            self.give_slots(&owner, None).await?;
        }
        Ok(())
    }

    async fn give_slot(&self, owner: &str) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
            .bind(OWNERS)
            .bind(owner)
            .execute(&mut *tx)
            .await?;
        // Runs of one schedule come one after the other.
        let next: Option<Uuid> = sqlx::query_scalar(
            "SELECT id FROM jobs
             WHERE owner = $1 AND slot = 'waits'
                   AND (SELECT count(*) FROM jobs WHERE owner = $1 AND slot = 'has') < $2
                   AND (schedule_id IS NULL OR NOT EXISTS (
                        SELECT FROM jobs AS run WHERE run.schedule_id = jobs.schedule_id AND run.slot = 'has'))
             ORDER BY priority DESC, created_at, id LIMIT 1",
        )
        .bind(owner)
        .bind(self.jobs_per_owner)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(next) = next else { return Ok(false) };
        let before = jobs::lock(&mut tx, JobId(next)).await?;
        if before.slot != Slot::Waits {
            // It was paused or ended meanwhile; the next look finds another.
            return Ok(true);
        }
        let mut now = before.clone();
        now.slot = Slot::Has;
        sqlx::query("UPDATE jobs SET slot = 'has' WHERE id = $1").bind(next).execute(&mut *tx).await?;
        tasks::follow(&mut tx, &before, &now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Says to those who watch a job that it has to wait, and why.
    async fn tell_waiting(&self, job: JobId) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let record = jobs::lock(&mut tx, job).await?;
        if record.slot != Slot::Waits {
            return Ok(());
        }
        let what = "Waiting for its turn: as many jobs as may be worked on at once are at work".to_owned();
        let mut state = Working::new(record);
        state.run(Command::Tell { what })?;
        // Boxed, for finishing a change gives slots.
        Box::pin(self.finish(tx, state)).await.map(drop)
    }

    /// The places, from 1, that jobs have in the queues of their owners; those that do not wait have none.
    pub async fn places(&self, jobs: &[JobId]) -> Result<HashMap<JobId, i64>, StoreError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let rows = sqlx::query(
            "SELECT id, place FROM (
                 SELECT id, row_number() OVER (PARTITION BY owner ORDER BY priority DESC, created_at, id) AS place
                 FROM jobs WHERE slot = 'waits') AS queue
             WHERE id = ANY($1)",
        )
        .bind(&ids)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((JobId(row.try_get("id")?), row.try_get("place")?))).collect()
    }
}
