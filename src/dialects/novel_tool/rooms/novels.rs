//! A novel as its page is shown it: one object, made anew of its row whenever something happens to it.

use serde_json::{Map, Value};

use super::super::{results, shape};
use crate::{
    job::JobId,
    realtime::{
        feed::{Interest, News},
        projector::{Opened, Projection, Told},
    },
    store::{Blobs, Store, StoreError, WorkRecord},
};

/// What makes of novels what their pages are shown.
pub struct Novels {
    blobs: Blobs,
}

/// What is known of a novel.
pub struct Known {
    pub work: WorkRecord,
    /// Those that its document does not hold itself.
    pub sentences: Map<String, Value>,
}

impl Novels {
    pub fn new(blobs: Blobs) -> Novels {
        Novels { blobs }
    }

    async fn known(&self, store: &Store, work: WorkRecord) -> Result<Known, StoreError> {
        match results::sentences(store, &self.blobs, &work).await {
            Ok(sentences) => Ok(Known { work, sentences }),
            // Its page must not see it completed without results: it is asked for again.
            Err(rejection) => Err(StoreError::Corrupt { table: "artifacts", detail: rejection.message }),
        }
    }
}

impl Projection for Novels {
    type Topic = JobId;
    type State = Known;

    fn interest(&self, job: &JobId) -> Interest {
        Interest::Job(*job)
    }

    async fn open(&self, store: &Store, job: &JobId) -> Result<Opened<Known>, StoreError> {
        match store.work(*job).await {
            Ok(novel) => Ok(Opened::Topic(self.known(store, novel).await?)),
            // It was removed since its page was let in.
            Err(StoreError::Rejected(_)) => Ok(Opened::Refused(Told::default())),
            Err(error) => Err(error),
        }
    }

    fn greet(&self, novel: &Known, told: &mut Told) {
        told.show(0, shape::job(&novel.work, &novel.sentences).to_string());
    }

    async fn gather(&self, store: &Store, novel: &mut Known, _: &News) -> Result<(), StoreError> {
        match store.work(novel.work.record.job.id).await {
            Ok(now) => *novel = self.known(store, now).await?,
            Err(StoreError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tell(&self, novel: &mut Known, _: &News, told: &mut Told) {
        self.greet(novel, told);
    }
}
