//! An audit of the journal: whether it keeps what clients are promised, and whether what it speaks of is there.
//!
//! Everything is read in one snapshot, a page at a time, so a live system of any size can be audited. Objects are no
//! part of the snapshot: one that seems wrong is held against its row as it is now.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row as _, types::Json};
use uuid::Uuid;

use super::{Artifact, Blobs, BlobsError, MIGRATIONS, Recorded, StoreError, journal};
use crate::job::{JobId, Rejection, Status, merge_patch};

/// Rows read at once.
const JOBS: i64 = 256;
const EVENTS: i64 = 2048;
const ARTIFACTS: i64 = 256;
/// Objects read at once.
const OBJECTS: usize = 8;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    Hole,
    RepeatedSeq,
    Disorder,
    SharedPosition,
    HeadBehind,
    LastSeq,
    NoEnd,
    SecondEnd,
    AfterEnd,
    EarlyEnd,
    Status,
    MissingObject,
    WrongSize,
    WrongHash,
    UnrecordedObject,
    Document,
    LeaseOver,
}

impl Finding {
    /// The word that programs compare.
    pub fn word(self) -> &'static str {
        self.row().0
    }

    /// What it means for people.
    pub fn meaning(self) -> &'static str {
        self.row().1
    }

    /// Whether something is broken; else it is a note.
    pub fn is_fault(self) -> bool {
        self != Finding::LeaseOver
    }

    fn row(self) -> (&'static str, &'static str) {
        use Finding::*;
        match self {
            Hole => ("hole", "events are gone: who follows the job is never told them"),
            RepeatedSeq => ("repeated_seq", "two events have one seq: who resumes there misses one of them"),
            Disorder => {
                ("disorder", "positions do not ascend with seqs: live clients are told another order")
            }
            SharedPosition => {
                ("shared_position", "two events have one position: a socket that resumes there misses one")
            }
            HeadBehind => (
                "head_behind",
                "the counter of positions is behind the newest event: new events cannot be written",
            ),
            LastSeq => (
                "last_seq",
                "the job's row miscounts its events: the next one repeats a seq or leaves a hole",
            ),
            NoEnd => {
                ("no_end", "the job has ended and its last event is not there: pages wait for it for ever")
            }
            SecondEnd => ("second_end", "the job ends more than once: pages are told two results"),
            AfterEnd => ("after_end", "events follow the end: pages that have left by then miss them"),
            EarlyEnd => ("early_end", "the job is told to have ended and its row says that it goes on"),
            Status => ("status", "the job's row and its events tell different things of how it stands"),
            MissingObject => (
                "missing_object",
                "a picture or a label cannot be loaded; are objects.url and --data-dir right?",
            ),
            WrongSize => {
                ("wrong_size", "an object is not the one that was stored: it is cut or was replaced")
            }
            WrongHash => {
                ("wrong_hash", "an object is not the one that was stored: it was damaged or replaced")
            }
            UnrecordedObject => (
                "unrecorded_object",
                "a row or an event names an object that /cdn does not know: it cannot be loaded",
            ),
            Document => (
                "document",
                "the job's document is not what its patches make: pages that fold its events see another",
            ),
            LeaseOver => (
                "lease_over",
                "a task's worker gives no sign of life; another one takes the task when it runs",
            ),
        }
    }
}

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// `None` for all jobs.
    pub job: Option<JobId>,
    /// Whether objects are read in full, or only asked for their size.
    pub hashes: bool,
}

/// How an audit goes on.
#[derive(Clone, Debug)]
pub enum Told {
    /// About so many events and objects will be looked at.
    Expect(u64),
    /// So many more were looked at.
    Seen(u64),
    Found {
        finding: Finding,
        /// `None` for what concerns the whole journal.
        job: Option<JobId>,
        /// Where, in words.
        what: String,
    },
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub jobs: u64,
    pub events: u64,
    pub objects: u64,
}

/// Why the audit did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("this database holds no journal; check --database-url or --data-dir, or run `jobcast migrate`")]
    NoJournal,
    #[error(
        "the tables are of version {found}, this program is of version {mine}; run `jobcast migrate` first"
    )]
    OtherVersion { found: i64, mine: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Objects(#[from] BlobsError),
}

impl From<sqlx::Error> for VerifyError {
    fn from(error: sqlx::Error) -> Self {
        VerifyError::Store(error.into())
    }
}

/// Audits the journal and tells what it finds as it goes. Writes nothing.
///
/// # Errors
/// [`VerifyError`] when something could not be read; then nothing is known of the rest.
pub async fn verify(
    pool: &PgPool,
    blobs: &Blobs,
    scope: Scope,
    tell: impl FnMut(Told),
) -> Result<Totals, VerifyError> {
    let mut snapshot = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut audit = Audit { scope, tell, totals: Totals::default() };
    check_version(&mut snapshot).await?;
    audit.size(&mut snapshot).await?;
    audit.positions(&mut snapshot).await?;
    audit.jobs(&mut snapshot).await?;
    audit.named_by_rows(&mut snapshot).await?;
    audit.objects(&mut snapshot, pool, blobs).await?;
    audit.leases(&mut snapshot).await?;
    Ok(audit.totals)
}

async fn check_version(tx: &mut PgConnection) -> Result<(), VerifyError> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *tx).await?;
    if !there {
        return Err(VerifyError::NoJournal);
    }
    let found: i64 =
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(tx)
            .await?;
    let mine = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found == mine { Ok(()) } else { Err(VerifyError::OtherVersion { found, mine }) }
}

struct Audit<F> {
    scope: Scope,
    tell: F,
    totals: Totals,
}

impl<F: FnMut(Told)> Audit<F> {
    fn found(&mut self, finding: Finding, job: Option<Uuid>, what: String) {
        (self.tell)(Told::Found { finding, job: job.map(JobId), what });
    }

    fn only(&self) -> Option<Uuid> {
        self.scope.job.map(|job| job.0)
    }

    async fn size(&mut self, tx: &mut PgConnection) -> Result<(), VerifyError> {
        let there: bool =
            sqlx::query_scalar("SELECT to_regclass('journal_head') IS NOT NULL").fetch_one(&mut *tx).await?;
        if !there {
            return Err(VerifyError::NoJournal);
        }
        let row = sqlx::query(
            "SELECT $1::uuid IS NULL OR EXISTS (SELECT FROM jobs WHERE id = $1),
                    (SELECT count(*) FROM events WHERE $1 IS NULL OR job_id = $1)
                    + (SELECT count(*) FROM artifacts WHERE $1 IS NULL OR job_id = $1)",
        )
        .bind(self.only())
        .fetch_one(tx)
        .await?;
        if let (Some(job), false) = (self.scope.job, row.try_get(0)?) {
            return Err(StoreError::from(Rejection::job_not_found(job)).into());
        }
        (self.tell)(Told::Expect(row.try_get::<i64, _>(1)?.unsigned_abs()));
        Ok(())
    }

    /// What concerns the whole journal.
    async fn positions(&mut self, tx: &mut PgConnection) -> Result<(), VerifyError> {
        let row = sqlx::query(
            "SELECT coalesce((SELECT position FROM journal_head WHERE id = 1), 0),
                    coalesce((SELECT max(position) FROM events), 0)",
        )
        .fetch_one(&mut *tx)
        .await?;
        let (head, newest): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if head < newest {
            let what = format!("the counter is at {head}, the newest event at {newest}");
            self.found(Finding::HeadBehind, None, what);
        }
        let mut shared = sqlx::query(
            "SELECT position, count(*) FROM events
             WHERE $1::uuid IS NULL OR position IN (SELECT position FROM events WHERE job_id = $1)
             GROUP BY position HAVING count(*) > 1 ORDER BY position",
        )
        .bind(self.only())
        .fetch(tx);
        while let Some(row) = shared.try_next().await? {
            let (position, times): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            self.found(Finding::SharedPosition, None, format!("{times} events have position {position}"));
        }
        Ok(())
    }

    /// Each job's row against its events.
    async fn jobs(&mut self, tx: &mut PgConnection) -> Result<(), VerifyError> {
        let mut after = None;
        loop {
            let rows = sqlx::query(
                "SELECT id, status, last_seq, ended_at IS NOT NULL AS ended, events_forgotten, document
                 FROM jobs LEFT JOIN work ON work.job_id = id
                 WHERE ($1::uuid IS NULL OR id > $1) AND ($2::uuid IS NULL OR id = $2) ORDER BY id LIMIT $3",
            )
            .bind(after)
            .bind(self.only())
            .bind(JOBS)
            .fetch_all(&mut *tx)
            .await?;
            let mut trails = BTreeMap::new();
            for row in &rows {
                let last_seq = row.try_get("last_seq")?;
                let trail = Trail {
                    status: row.try_get("status")?,
                    last_seq,
                    has_ended: row.try_get("ended")?,
                    // Of a job whose events were older than retention the last one is kept.
                    seq: if row.try_get("events_forgotten")? { last_seq - 1 } else { 0 },
                    document: match row.try_get("events_forgotten")? {
                        true => None,
                        false => row.try_get::<Option<Json<Value>>, _>("document")?.map(|json| json.0),
                    },
                    folded: Value::Object(serde_json::Map::new()),
                    ..Trail::default()
                };
                trails.insert(row.try_get::<Uuid, _>("id")?, trail);
            }
            let (Some((first, _)), Some((last, _))) = (trails.first_key_value(), trails.last_key_value())
            else {
                return Ok(());
            };
            let (first, last) = (*first, *last);
            self.events(tx, first, last, &mut trails).await?;
            for (job, trail) in &trails {
                for (finding, what) in trail.finish() {
                    self.found(finding, Some(*job), what);
                }
            }
            self.totals.jobs += trails.len() as u64;
            after = Some(last);
        }
    }

    /// The events of the jobs from `first` to `last`.
    async fn events(
        &mut self,
        tx: &mut PgConnection,
        first: Uuid,
        last: Uuid,
        trails: &mut BTreeMap<Uuid, Trail>,
    ) -> Result<(), VerifyError> {
        let mut after = (first, i32::MIN, i64::MIN);
        loop {
            let rows = sqlx::query(
                "SELECT * FROM events WHERE (job_id, seq, position) > ($1, $2, $3) AND job_id <= $4
                 ORDER BY job_id, seq, position LIMIT $5",
            )
            .bind(after.0)
            .bind(after.1)
            .bind(after.2)
            .bind(last)
            .bind(EVENTS)
            .fetch_all(&mut *tx)
            .await?;
            let events = rows.into_iter().map(journal::recorded).collect::<Result<Vec<_>, _>>()?;
            let Some(newest) = events.last() else { return Ok(()) };
            after = (newest.job.0, newest.seq, newest.position);
            for event in &events {
                let Some(trail) = trails.get_mut(&event.job.0) else { continue };
                for (finding, what) in trail.follow(event) {
                    self.found(finding, Some(event.job.0), what);
                }
            }
            self.named_by_events(tx, &events).await?;
            self.totals.events += events.len() as u64;
            (self.tell)(Told::Seen(events.len() as u64));
        }
    }

    async fn named_by_events(
        &mut self,
        tx: &mut PgConnection,
        events: &[std::sync::Arc<Recorded>],
    ) -> Result<(), VerifyError> {
        let named: HashMap<String, &Recorded> =
            events.iter().flat_map(|event| keys_of(event).into_iter().map(|key| (key, &**event))).collect();
        let keys: Vec<&String> = named.keys().collect();
        let unknown: Vec<String> = sqlx::query_scalar(
            "SELECT key FROM UNNEST($1::text[]) AS named (key)
             WHERE NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = named.key) ORDER BY key",
        )
        .bind(&keys)
        .fetch_all(tx)
        .await?;
        for key in unknown {
            if let Some(event) = named.get(&key) {
                let what = format!("{} with seq {} names {key}", event.kind, event.seq);
                self.found(Finding::UnrecordedObject, Some(event.job.0), what);
            }
        }
        Ok(())
    }

    async fn named_by_rows(&mut self, tx: &mut PgConnection) -> Result<(), VerifyError> {
        let mut unknown = sqlx::query(
            "SELECT job_id, place, key FROM (
                 SELECT job_id, 'screenshots' AS place, UNNEST(ARRAY[image_key, thumbnail_key]) AS key FROM screenshots
                 UNION ALL SELECT job_id, 'screenshot_elements', key FROM screenshot_elements
                 UNION ALL SELECT job_id, 'labels', UNNEST(ARRAY[image_key, pdf_key]) FROM labels) AS named
             WHERE key IS NOT NULL AND ($1::uuid IS NULL OR job_id = $1)
                   AND NOT EXISTS (SELECT FROM artifacts WHERE artifacts.key = named.key)",
        )
        .bind(self.only())
        .fetch(tx);
        while let Some(row) = unknown.try_next().await? {
            let (place, key): (String, String) = (row.try_get("place")?, row.try_get("key")?);
            let what = format!("a row of {place} names {key}");
            self.found(Finding::UnrecordedObject, Some(row.try_get("job_id")?), what);
        }
        Ok(())
    }

    /// Each recorded object against the one that is stored.
    async fn objects(
        &mut self,
        tx: &mut PgConnection,
        pool: &PgPool,
        blobs: &Blobs,
    ) -> Result<(), VerifyError> {
        let hashes = self.scope.hashes;
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT job_id, key, content_type, size, sha256 FROM artifacts
                 WHERE key > $1 AND ($2::uuid IS NULL OR job_id = $2) ORDER BY key LIMIT $3",
            )
            .bind(&after)
            .bind(self.only())
            .bind(ARTIFACTS)
            .fetch_all(&mut *tx)
            .await?;
            let mut artifacts: Vec<(Uuid, Artifact)> = Vec::with_capacity(rows.len());
            for row in &rows {
                artifacts.push((row.try_get("job_id")?, super::rows::artifact(row)?));
            }
            let Some((_, last)) = artifacts.last() else { return Ok(()) };
            after = last.key.clone();
            let looks = artifacts.into_iter().map(async |(job, artifact)| {
                let found = compare(blobs, &artifact, hashes).await?;
                Ok::<_, VerifyError>((job, artifact, found))
            });
            let mut looks = stream::iter(looks).buffered(OBJECTS);
            while let Some((job, artifact, found)) = looks.try_next().await? {
                if let Some((finding, what)) = found
                    && is_as_it_was(pool, &artifact).await?
                {
                    self.found(finding, Some(job), what);
                }
                self.totals.objects += 1;
                (self.tell)(Told::Seen(1));
            }
        }
    }

    async fn leases(&mut self, tx: &mut PgConnection) -> Result<(), VerifyError> {
        let mut over = sqlx::query(
            "SELECT job_id, stage, ordinal FROM tasks
             WHERE state = 'running' AND (lease_until IS NULL OR lease_until < now())
                   AND ($1::uuid IS NULL OR job_id = $1)
             UNION ALL
             SELECT job_id, kind, 0 FROM work
             WHERE state = 'running' AND (lease_until IS NULL OR lease_until < now())
                   AND ($1::uuid IS NULL OR job_id = $1)",
        )
        .bind(self.only())
        .fetch(tx);
        while let Some(row) = over.try_next().await? {
            let (stage, ordinal): (String, i32) = (row.try_get("stage")?, row.try_get("ordinal")?);
            self.found(Finding::LeaseOver, Some(row.try_get("job_id")?), format!("{stage}, item {ordinal}"));
        }
        Ok(())
    }
}

/// What a stored object has that its row does not say.
async fn compare(
    blobs: &Blobs,
    artifact: &Artifact,
    hashes: bool,
) -> Result<Option<(Finding, String)>, BlobsError> {
    let key = &artifact.key;
    let (size, sha256) = match blobs.measure(key, hashes).await {
        Ok(measured) => measured,
        Err(BlobsError::NotFound(_)) => return Ok(Some((Finding::MissingObject, key.clone()))),
        Err(other) => return Err(other),
    };
    Ok(if size != artifact.size {
        Some((Finding::WrongSize, format!("{key} has {size} bytes instead of {}", artifact.size)))
    } else if sha256.is_some_and(|sha256| sha256 != artifact.sha256) {
        Some((Finding::WrongHash, format!("{key} has another SHA-256")))
    } else {
        None
    })
}

/// Whether the row still says the same: a live system may have removed the job since, or made the object anew.
async fn is_as_it_was(pool: &PgPool, artifact: &Artifact) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM artifacts WHERE key = $1 AND size = $2 AND sha256 = $3)")
        .bind(&artifact.key)
        .bind(artifact.size)
        .bind(&artifact.sha256)
        .fetch_one(pool)
        .await
}

/// The objects of its own job that an event names. Addresses change with the settings; the key at their end does not.
fn keys_of(event: &Recorded) -> Vec<String> {
    keys_named(event.job, event.payload.get())
}

/// The objects of a job that an event's payload names.
pub(super) fn keys_named(job: JobId, payload: &str) -> Vec<String> {
    fn strings(value: Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(items) => items.into_iter().for_each(|item| strings(item, found)),
            Value::Object(fields) => fields.into_iter().for_each(|(_, field)| strings(field, found)),
            _ => {}
        }
    }
    let folder = format!("jobs/{job}/");
    if !payload.contains(&folder) {
        return Vec::new();
    }
    let mut texts = Vec::new();
    if let Ok(payload) = serde_json::from_str(payload) {
        strings(payload, &mut texts);
    }
    let keys = texts.iter().filter_map(|text| text.find(&folder).map(|at| &text[at..]));
    keys.map(|key| key.split(['?', '#']).next().unwrap_or(key).to_owned()).collect()
}

/// What a job's row says, and what its events said so far.
#[derive(Default)]
struct Trail {
    status: String,
    last_seq: i32,
    has_ended: bool,
    /// That of the newest event so far.
    seq: i32,
    position: i64,
    /// The first terminal event: its seq, and the status that it tells.
    end: Option<(i32, Status)>,
    further_ends: u32,
    behind_end: u32,
    /// What the row says; `None` for a job of no kind, and for one whose events are forgotten.
    document: Option<Value>,
    /// What the patches made so far.
    folded: Value,
}

impl Trail {
    /// Takes the next event; `event.seq` never falls.
    fn follow(&mut self, event: &Recorded) -> Vec<(Finding, String)> {
        let mut found = Vec::new();
        let (seq, expected) = (event.seq, self.seq + 1);
        if seq == expected + 1 {
            found.push((Finding::Hole, format!("seq {expected} is missing")));
        } else if seq > expected {
            found.push((Finding::Hole, format!("seqs {expected} to {} are missing", seq - 1)));
        } else if seq < expected {
            found.push((Finding::RepeatedSeq, format!("seq {seq} follows seq {}", self.seq)));
        }
        if event.position <= self.position {
            let what =
                format!("seq {seq} is at position {}, before that of seq {}", event.position, self.seq);
            found.push((Finding::Disorder, what));
        }
        match (self.end, event.is_terminal()) {
            (None, true) => self.end = Some((seq, told_status(event))),
            (Some(_), true) => self.further_ends += 1,
            (Some(_), false) => self.behind_end += 1,
            (None, false) => {}
        }
        if event.kind == "job:patched" && self.document.is_some() {
            let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or_default();
            merge_patch(&mut self.folded, &payload["patch"]);
        }
        self.seq = self.seq.max(seq);
        self.position = self.position.max(event.position);
        found
    }

    /// What is wrong, now that all events were seen.
    fn finish(&self) -> Vec<(Finding, String)> {
        let mut found = Vec::new();
        let status = Status::from_word(&self.status);
        let is_ended = status.is_some_and(Status::is_ended);
        if status.is_none() {
            found.push((Finding::Status, format!("this version knows no status {:?}", self.status)));
        }
        if is_ended != self.has_ended {
            let time = if self.has_ended { "a" } else { "no" };
            found.push((
                Finding::Status,
                format!("the status is {:?} with {time} time of its end", self.status),
            ));
        }
        if self.seq != self.last_seq {
            let what =
                format!("the row's last_seq is {}, the newest event's seq {}", self.last_seq, self.seq);
            found.push((Finding::LastSeq, what));
        }
        match self.end {
            None if is_ended => {
                found.push((Finding::NoEnd, format!("the status is {:?}", self.status)));
            }
            Some((seq, _)) if !is_ended => {
                found.push((Finding::EarlyEnd, format!("seq {seq} is an end, the status {:?}", self.status)));
            }
            Some((seq, told)) if status != Some(told) => {
                let what = format!("seq {seq} tells {:?}, the row {:?}", told.word(), self.status);
                found.push((Finding::Status, what));
            }
            _ => {}
        }
        if self.document.as_ref().is_some_and(|document| !is_same(document, &self.folded)) {
            found.push((Finding::Document, format!("its patches make {}", clip(&self.folded))));
        }
        let end = self.end.map_or(0, |(seq, _)| seq);
        if self.further_ends > 0 {
            let what = format!("{} behind the one with seq {end}", self.further_ends);
            found.push((Finding::SecondEnd, what));
        }
        if self.behind_end > 0 {
            found.push((Finding::AfterEnd, format!("{} behind the end with seq {end}", self.behind_end)));
        }
        found
    }
}

/// Whether two values are the same, however their numbers are written: a row's are normalised, an event's are not.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

/// Enough of a value to know it by.
fn clip(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

/// The status that a terminal event tells; there is no word on the wire for a job that was cancelled.
fn told_status(event: &Recorded) -> Status {
    if event.kind == "job:completed" {
        return Status::Completed;
    }
    let payload: Value = serde_json::from_str(event.payload.get()).unwrap_or_default();
    if payload["cancelled"] == true { Status::Cancelled } else { Status::Failed }
}
