//! `/api/ws/jobs`: everybody's jobs as whole objects, each time one of them changes, and the counters.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{Extension, extract::ws::Utf8Bytes, response::Response};
use serde_json::{Value, json};

use super::{KIND, contract, shape};
use crate::{
    event::contract::Channel,
    http::Caller,
    job::{JobId, Scope, Status},
    realtime::{
        feed::{Interest, News},
        projector::{Opened, Projection, Told},
        websocket::{Dialect, Door, Opening},
    },
    store::{Store, StoreError, WorkRecord},
};

/// Jobs of others that are remembered as such; then they are found out anew.
const STRANGERS: usize = 10_000;
/// The counters, among what clients are shown; jobs are shown by their numbers, from 1.
const STATS: i64 = 0;

/// Opens the socket that tells of all transcripts that the caller may see.
///
/// `ping` is answered with `pong`. Nothing is said at first; then each change of a job is
/// `{"type": "job_created" | "job_started" | "job_completed" | "job_failed" | "job_updated", "job": {…}}`, followed by
/// `{"type": "stats_updated", "stats": {…}}`.
#[utoipa::path(
    get, path = "/api/ws/jobs", tag = "transcript queue",
    responses(
        (status = 101, description = "A WebSocket"),
        (status = 400, description = "No WebSocket was asked for"),
        (status = 401, description = "Not without a token"),
        (status = 403, description = "Pages of this origin may not connect"),
        (status = 426, description = "No WebSocket was asked for"),
        (status = 503, description = "As many connections are open as may be"),
    ),
)]
pub async fn follow(
    caller: Caller,
    Extension(door): Extension<Door<Transcripts>>,
    opening: Opening,
) -> Result<Response, super::answer::Refusal> {
    caller.require(Scope::Read)?;
    let owner = caller.sees_only().map(Arc::from);
    Ok(door.open(opening, Viewer { owner }, caller.expires_at))
}

/// Whose jobs are followed; `None` for everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Viewer {
    pub owner: Option<Arc<str>>,
}

/// What was read of the jobs that changed, until it is told.
#[derive(Default)]
pub struct Changes {
    owner: Option<Arc<str>>,
    /// Jobs that are of no concern here.
    strangers: HashSet<JobId>,
    jobs: Vec<Change>,
    stats: Option<Value>,
}

/// A job that changed.
pub struct Change {
    /// Whether it was not there before.
    pub is_new: bool,
    /// Whether more happened to it than its making.
    pub is_changed: bool,
    pub work: WorkRecord,
}

impl Changes {
    /// Takes a job in that changed.
    pub fn change(&mut self, change: Change) {
        self.jobs.push(change);
    }

    /// Takes in how many jobs there are of each status now.
    pub fn count(&mut self, counts: &HashMap<Status, i64>) {
        self.stats = Some(shape::stats(counts));
    }
}

/// The dialect.
#[derive(Debug)]
pub struct Transcripts;

impl Projection for Transcripts {
    type Topic = Viewer;
    type State = Changes;

    fn interest(&self, _: &Viewer) -> Interest {
        Interest::All
    }

    async fn open(&self, _: &Store, viewer: &Viewer) -> Result<Opened<Changes>, StoreError> {
        Ok(Opened::Topic(Changes { owner: viewer.owner.clone(), ..Changes::default() }))
    }

    fn greet(&self, _: &Changes, _: &mut Told) {}

    async fn gather(&self, store: &Store, state: &mut Changes, news: &News) -> Result<(), StoreError> {
        // What happened to each: its making, and more than that.
        let mut happened: HashMap<JobId, (bool, bool)> = HashMap::new();
        let mut order = Vec::new();
        for event in news.events.iter().filter(|event| !state.strangers.contains(&event.job)) {
            let so_far = happened.entry(event.job).or_insert_with(|| {
                order.push(event.job);
                (false, false)
            });
            match (&*event.kind, event.seq) {
                ("job:created", _) => so_far.0 = true,
                // What its document begins with.
                ("job:patched", 2) => {}
                _ => so_far.1 = true,
            }
        }
        if order.is_empty() {
            return Ok(());
        }
        let mut found = store.work_of(&order).await?;
        let mine = |work: &WorkRecord| {
            work.kind == KIND && state.owner.as_deref().is_none_or(|owner| *owner == *work.record.owner)
        };
        found.retain(|_, work| mine(work));
        if state.strangers.len() > STRANGERS {
            state.strangers.clear();
        }
        for id in order {
            let (is_new, is_changed) = happened.get(&id).copied().unwrap_or_default();
            match found.remove(&id) {
                // One that a retry took the place of has no number any more, and is not told of.
                Some(work) if work.number.is_some() => state.change(Change { is_new, is_changed, work }),
                Some(_) => {}
                None => {
                    state.strangers.insert(id);
                }
            }
        }
        if !state.jobs.is_empty() {
            state.count(&store.work_counts(KIND, state.owner.as_deref()).await?);
        }
        Ok(())
    }

    fn tell(&self, state: &mut Changes, _: &News, told: &mut Told) {
        for Change { is_new, is_changed, work } in state.jobs.drain(..) {
            let job = shape::job(&work);
            // A retry is the same job to its pages, which know it by its number.
            if is_new && work.record.retry_of.is_none() {
                told.say(frame("job_created", &job));
                if !is_changed {
                    continue;
                }
            }
            let number = work.number.unwrap_or_default();
            told.show(number, frame(word(work.record.job.status, &work.document), &job));
        }
        if let Some(stats) = state.stats.take() {
            told.show(STATS, json!({ "type": "stats_updated", "stats": stats }).to_string());
        }
    }
}

impl Dialect for Transcripts {
    const NAME: &'static str = "transcript_queue";

    fn channel() -> Channel {
        contract::channel()
    }

    fn answer(&self, message: &str) -> Option<Utf8Bytes> {
        (message == "ping").then(|| Utf8Bytes::from_static("pong"))
    }
}

fn frame(word: &str, job: &Value) -> String {
    json!({ "type": word, "job": job }).to_string()
}

/// What a change is called, by what came of it.
fn word(status: Status, document: &Value) -> &'static str {
    match shape::status_of(status, document) {
        "completed" => "job_completed",
        "failed" => "job_failed",
        "in_progress" => "job_started",
        _ => "job_updated",
    }
}
