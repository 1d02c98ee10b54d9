//! The status object: what a client of this dialect is shown of a job, made of the job's events. Pure.

use std::collections::{BTreeMap, HashMap};

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use crate::{
    event::{Kind, Timestamp, format_timestamp},
    job::{Companies, JobId, Status},
    store::{Recorded, Transient},
};

/// Lines of the log that tell neither of a success nor of a failure; of those older ones are left out.
const MAX_NOTES: usize = 200;

/// A job as this dialect shows it.
#[derive(Debug)]
pub struct Board {
    job: JobId,
    companies: Companies,
    /// Up to where its events are taken in.
    pub seq: i32,
    status: Status,
    found: BTreeMap<String, Found>,
    failed: Vec<String>,
    /// When each was begun, and how long it took if it has ended, in seconds.
    begun: HashMap<String, Timestamp>,
    timings: BTreeMap<String, f64>,
    log: Vec<Line>,
    notes: usize,
    workers: BTreeMap<u32, Card>,
    started_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    /// What a person has said of those that were found.
    approvals: HashMap<String, Option<bool>>,
    text: Option<Utf8Bytes>,
}

#[derive(Debug)]
struct Found {
    profile: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct Line {
    /// `HH:MM:SS`.
    timestamp: String,
    level: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct Card {
    worker_id: u32,
    job_id: JobId,
    domain: Option<String>,
    progress: u8,
    status: &'static str,
    updated_at: String,
}

/// What this dialect reads of the events' payloads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default)]
    domain: String,
    worker: Option<u32>,
    profile: Option<Box<RawValue>>,
    reason: Option<String>,
    error: Option<String>,
    status: Option<String>,
    cancelled: Option<bool>,
    progress: Option<u8>,
}

impl Board {
    /// A job of which nothing has happened.
    pub fn new(job: JobId, companies: Companies) -> Board {
        Board {
            job,
            companies,
            seq: 0,
            status: Status::Pending,
            found: BTreeMap::new(),
            failed: Vec::new(),
            begun: HashMap::new(),
            timings: BTreeMap::new(),
            log: Vec::new(),
            notes: 0,
            workers: BTreeMap::new(),
            started_at: None,
            last_at: None,
            approvals: HashMap::new(),
            text: None,
        }
    }

    /// Takes what a person has said in.
    pub fn set_approvals(&mut self, approvals: HashMap<String, Option<bool>>) {
        self.approvals = approvals;
        self.text = None;
    }

    /// Whether people are asked about what is found.
    pub fn asks(&self) -> bool {
        self.companies.sequential
    }

    /// Takes an event in, if it is new; what happened before the last one was.
    pub fn take(&mut self, event: &Recorded) {
        if event.seq <= self.seq {
            return;
        }
        self.seq = event.seq;
        self.text = None;
        let Ok(payload) = serde_json::from_str::<Payload>(event.payload.get()) else { return };
        let at = event.at;
        match Kind::from_wire_name(&event.kind) {
            Some(Kind::CompanyStarted) => {
                self.started_at = self.started_at.or(Some(at));
                // It is tried again.
                self.failed.retain(|failed| *failed != payload.domain);
                self.begun.insert(payload.domain.clone(), at);
                let worker = payload.worker.unwrap_or_default();
                self.note(at, "info", format!("🔍 Worker {worker} started processing {}", payload.domain));
                self.card(worker, Some(payload.domain), 0, "processing", at);
            }
            Some(Kind::CompanyFound) => {
                let domain = payload.domain;
                self.settle(&domain, at, "complete");
                self.note(at, "info", format!("📝 Extracting profile from {domain}"));
                self.note(at, "info", format!("💾 Saved {domain} to database"));
                self.say(at, "success", format!("✅ {domain} processed successfully"));
                if self.companies.sequential {
                    self.approvals.entry(domain.clone()).or_insert(None);
                }
                if let Some(profile) = payload.profile {
                    self.found.insert(domain, Found { profile });
                }
            }
            Some(Kind::CompanyFailed) => {
                self.settle(&payload.domain, at, "error");
                self.fail(at, payload.domain, &payload.reason.unwrap_or_default());
            }
            Some(Kind::JobUpdated) => {
                self.status = payload.status.as_deref().and_then(Status::from_word).unwrap_or(self.status);
            }
            Some(Kind::JobCompleted) => self.end(Status::Completed, at),
            Some(Kind::JobFailed) => {
                // Pages of this dialect know no other end than the last domain's.
                let error = payload.error.unwrap_or_default();
                let open: Vec<String> = self.open().cloned().collect();
                for domain in open {
                    self.settle(&domain, at, "error");
                    self.fail(at, domain, &error);
                }
                let is_cancelled = payload.cancelled == Some(true);
                self.end(if is_cancelled { Status::Cancelled } else { Status::Failed }, at);
            }
            _ => {}
        }
    }

    /// Takes in how far one of the workers is.
    pub fn take_progress(&mut self, progress: &Transient) {
        let Ok(payload) = serde_json::from_str::<Payload>(progress.payload.get()) else { return };
        let (Kind::CompanyProgress, Some(percent)) = (progress.kind, payload.progress) else { return };
        if let Some(card) = self.workers.get_mut(&payload.worker.unwrap_or_default())
            && card.domain.as_ref() == Some(&payload.domain)
            && card.status == "processing"
        {
            card.progress = card.progress.max(percent.min(99));
            self.text = None;
        }
    }

    /// Whether nothing more is to come over a socket.
    pub fn is_over(&self) -> bool {
        self.status.is_ended()
    }

    /// The status object. Written once, however often it is asked for.
    pub fn text(&mut self) -> Utf8Bytes {
        if self.text.is_none() {
            self.text = Some(self.write().into());
        }
        self.text.clone().unwrap_or_default()
    }

    /// The same for who may not change it.
    pub fn shown(&self) -> Utf8Bytes {
        self.text.clone().unwrap_or_else(|| self.write().into())
    }

    fn open(&self) -> impl Iterator<Item = &String> {
        let settled = |domain: &&String| !self.found.contains_key(*domain) && !self.failed.contains(domain);
        self.companies.domains.iter().filter(settled)
    }

    fn settle(&mut self, domain: &str, at: Timestamp, status: &'static str) {
        if let Some(begun) = self.begun.get(domain) {
            let seconds = (at - *begun).num_milliseconds().max(0) as f64 / 1000.0;
            self.timings.insert(domain.to_owned(), seconds);
        }
        self.last_at = Some(at);
        let worker = self.workers.values().find(|card| card.domain.as_deref() == Some(domain));
        if let Some(worker) = worker.map(|card| card.worker_id) {
            self.card(worker, Some(domain.to_owned()), 100, status, at);
        }
    }

    fn fail(&mut self, at: Timestamp, domain: String, reason: &str) {
        // What stands behind the first ": " is what the page shows, on one line.
        let reason = reason.replace('\n', " ");
        self.say(at, "error", format!("❌ {domain} failed: {reason}"));
        if !self.failed.contains(&domain) {
            self.failed.push(domain);
        }
    }

    fn end(&mut self, status: Status, at: Timestamp) {
        self.status = status;
        self.last_at = Some(at);
        for card in self.workers.values_mut() {
            (card.domain, card.progress, card.status) = (None, 0, "idle");
            card.updated_at = format_timestamp(at);
        }
    }

    fn card(
        &mut self,
        worker: u32,
        domain: Option<String>,
        progress: u8,
        status: &'static str,
        at: Timestamp,
    ) {
        let (job_id, updated_at) = (self.job, format_timestamp(at));
        let card = Card { worker_id: worker, job_id, domain, progress, status, updated_at };
        self.workers.insert(worker, card);
    }

    fn say(&mut self, at: Timestamp, level: &'static str, message: String) {
        self.log.push(Line { timestamp: at.format("%H:%M:%S").to_string(), level, message });
    }

    fn note(&mut self, at: Timestamp, level: &'static str, message: String) {
        self.say(at, level, message);
        self.notes += 1;
        if self.notes > MAX_NOTES
            && let Some(oldest) = self.log.iter().position(|line| line.level == "info")
        {
            self.log.remove(oldest);
            self.notes -= 1;
        }
    }

    fn word(&self, pending: usize) -> &'static str {
        match self.status {
            status if !status.is_ended() && self.begun.is_empty() => "pending",
            status if !status.is_ended() => "processing",
            _ if pending > 0 => "waiting_approval",
            _ => "completed",
        }
    }

    fn write(&self) -> String {
        let said = |domain: &String| match self.companies.sequential {
            // What is found in parallel needs no word of a person.
            false => Some(true),
            true => self.approvals.get(domain).copied().flatten(),
        };
        let of = |wanted: Option<bool>| -> BTreeMap<&String, &RawValue> {
            let found = self.found.iter().filter(|(domain, _)| said(domain) == wanted);
            found.map(|(domain, found)| (domain, &*found.profile)).collect()
        };
        let (pending, approved, rejected) = (of(None), of(Some(true)), of(Some(false)));
        let total = self.companies.domains.len();
        let settled = self.found.len() + self.failed.len();
        let sum: f64 = self.timings.values().sum();
        let duration = self
            .started_at
            .zip(self.last_at)
            .map(|(from, to)| (to - from).num_milliseconds() as f64 / 1000.0);
        let is_ended = self.status.is_ended();
        let current = match self.companies.sequential {
            true => self
                .workers
                .values()
                .find(|card| card.status == "processing")
                .and_then(|card| card.domain.as_ref()),
            false => None,
        };
        let mode = if self.companies.sequential { "sequential" } else { "redis_parallel" };
        let metrics = json!({
            "start_time": self.started_at.map(format_timestamp),
            "end_time": self.last_at.filter(|_| is_ended).map(format_timestamp),
            "duration": duration,
            "domain_timings": self.timings,
            "sequential_duration": round(sum),
            "speedup": duration.filter(|duration| *duration > 0.0).map(|duration| round(sum / duration)),
            "workers": self.workers.len(),
        });
        #[derive(Serialize)]
        struct Shown<'a> {
            job_id: JobId,
            status: &'a str,
            total: usize,
            completed: usize,
            failed: usize,
            progress_percentage: usize,
            current_domain: Option<&'a String>,
            logs: &'a [Line],
            pending_approvals: BTreeMap<&'a String, &'a RawValue>,
            approved_data: BTreeMap<&'a String, &'a RawValue>,
            rejected_domains: Vec<&'a String>,
            pending_count: usize,
            approved_count: usize,
            rejected_count: usize,
            mode: &'a str,
            workers: Vec<&'a Card>,
            metrics: serde_json::Value,
        }
        let shown = Shown {
            job_id: self.job,
            status: self.word(pending.len()),
            total,
            completed: self.found.len(),
            failed: self.failed.len(),
            progress_percentage: (100 * settled).checked_div(total).unwrap_or(100).min(100),
            current_domain: current,
            logs: &self.log,
            pending_count: pending.len(),
            approved_count: approved.len(),
            rejected_count: rejected.len(),
            rejected_domains: rejected.into_keys().collect(),
            pending_approvals: pending,
            approved_data: approved,
            mode,
            workers: self.workers.values().collect(),
            metrics,
        };
        serde_json::to_string(&shown).unwrap_or_default()
    }
}

/// To the hundredth.
fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
