//! The words of the project agents' WebSocket, translated from the journal of the job that generates the project.
//!
//! A project outlives its runs: each is a job of its own, whose id follows from the project's ([`run_id`]). So who watches
//! a project sees its next run begin without being told of it by anybody.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::contract;
use crate::{
    event::contract::Channel,
    job::{JobId, Status},
    realtime::{
        feed::{Interest, News},
        projector::{Opened, Projection, Told, Turn},
        websocket::Dialect,
    },
    store::{Recorded, Store, StoreError, run_id},
};

/// No job has this id.
const NOBODY: Interest = Interest::Job(JobId(Uuid::nil()));
/// Where the bar of a project stands as soon as its generation was asked for.
const BEGUN: u8 = 10;

/// A project as somebody sees it. Any id is taken; one that names nothing is never told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    pub project: String,
    /// `None` for who may see everybody's.
    pub owner: Option<Arc<str>>,
}

impl Topic {
    fn id(&self) -> Option<Uuid> {
        self.project.parse().ok()
    }
}

/// What is known of a project.
pub struct Project {
    /// As the client wrote it.
    pub name: String,
    /// `None` for one that does not exist.
    pub known: Option<Known>,
    /// Where its feed is to turn: to the newest run and the one behind it.
    pub turn: Turn,
}

pub struct Known {
    pub id: Uuid,
    /// How often it was generated.
    pub runs: i32,
    /// The seq of the last event of the newest run that was told.
    pub seq: i32,
    pub standing: Standing,
}

impl Known {
    /// The newest run, and the one that will follow it.
    fn interest(&self) -> Interest {
        let newest = self.runs.max(1);
        Interest::Jobs([run_id(self.id, newest), run_id(self.id, newest + 1)])
    }
}

/// A project's `status` and `progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub status: &'static str,
    pub progress: u8,
}

impl Standing {
    /// Before anybody has asked for it to be generated.
    pub const PENDING: Standing = Standing { status: "pending", progress: 0 };

    /// Of a run: this frontend knows neither queues nor pauses.
    pub fn of(status: Status, progress: u8) -> Standing {
        match status {
            Status::Completed => Standing { status: "completed", progress: 100 },
            Status::Failed | Status::Cancelled => Standing { status: "failed", progress: 0 },
            _ => Standing { status: "in_progress", progress: progress.max(BEGUN) },
        }
    }

    fn is_ended(self) -> bool {
        matches!(self.status, "completed" | "failed")
    }
}

/// The dialect.
#[derive(Debug)]
pub struct ProjectAgents;

impl Projection for ProjectAgents {
    type Topic = Topic;
    type State = Project;

    fn interest(&self, topic: &Topic) -> Interest {
        match topic.id() {
            // Which run is its newest its row must tell first.
            Some(_) => Interest::All,
            None => NOBODY,
        }
    }

    fn turn(&self, project: &mut Project) -> Turn {
        project.turn.take()
    }

    async fn open(&self, store: &Store, topic: &Topic) -> Result<Opened<Project>, StoreError> {
        let stored = match topic.id() {
            Some(id) => store.project(id, topic.owner.as_deref()).await?,
            None => None,
        };
        let known = match stored {
            None => None,
            Some(project) => {
                let run = match project.job {
                    Some(job) => store.work_of(&[job]).await?.remove(&job),
                    None => None,
                };
                let (seq, standing) = match &run {
                    Some(run) => {
                        let job = &run.record.job;
                        (run.record.last_seq, Standing::of(job.status, job.progress))
                    }
                    None => (0, Standing::PENDING),
                };
                Some(Known { id: project.id, runs: project.runs, seq, standing })
            }
        };
        let turn = Some((known.as_ref().map_or(NOBODY, Known::interest), None));
        Ok(Opened::Topic(Project { name: topic.project.clone(), known, turn }))
    }

    fn greet(&self, project: &Project, told: &mut Told) {
        let id = &project.name;
        let message = format!("Connected to project {id}");
        told.say(json!({ "type": "connection", "message": message, "project_id": id }).to_string());
        if let Some(known) = &project.known {
            told.say(status_update(id, known.standing));
            if known.standing.is_ended() {
                told.say(completion(id, known.standing));
            }
        }
    }

    fn tell(&self, project: &mut Project, news: &News, told: &mut Told) {
        let Some(known) = &mut project.known else { return };
        for event in &news.events {
            if event.job == run_id(known.id, known.runs + 1) {
                known.runs += 1;
                known.seq = 0;
                // Even the run behind that may have begun among these news.
                project.turn = Some((known.interest(), Some(event.position - 1)));
                known.standing = Standing::of(Status::Pending, 0);
                told.say(status_update(&project.name, known.standing));
            }
            if event.job == run_id(known.id, known.runs) && event.seq > known.seq {
                known.seq = event.seq;
                translate(&project.name, &mut known.standing, event, told);
            }
        }
    }
}

impl Dialect for ProjectAgents {
    const NAME: &'static str = "project_agents";

    fn channel() -> Channel {
        contract::channel()
    }

    /// `{"type":"ping"}` is answered; anything else means nothing.
    fn answer(&self, message: &str) -> Option<Utf8Bytes> {
        match serde_json::from_str(message) {
            Ok(Value::Object(said)) if said.get("type").is_some_and(|kind| kind == "ping") => {
                Some(json!({ "type": "pong" }).to_string().into())
            }
            Ok(Value::Object(_)) => None,
            Ok(_) => {
                tracing::debug!("a message to a project was no object");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "a message to a project was no JSON");
                None
            }
        }
    }
}

/// What an event carries of what this frontend is told; other events say nothing to it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Said {
    status: String,
    progress: Option<u8>,
    level: String,
    message: String,
    error: String,
    patch: Patch,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Patch {
    agents: Option<Map<String, Value>>,
}

fn translate(id: &str, standing: &mut Standing, event: &Recorded, told: &mut Told) {
    let said: Said = serde_json::from_str(event.payload.get()).unwrap_or_default();
    match &*event.kind {
        "job:updated" => {
            let Some(status) = Status::from_word(&said.status) else { return };
            // A run's bar never falls back, whatever a job that goes on says of itself.
            let now = Standing::of(status, said.progress.unwrap_or(0).max(standing.progress));
            // The end has an event of its own, behind this one.
            if now != *standing && !now.is_ended() {
                *standing = now;
                told.say(status_update(id, now));
            }
        }
        "job:log" => told.say(log(id, &said.level, &said.message)),
        "job:patched" => {
            for (key, agent) in said.patch.agents.iter().flatten() {
                if let Some(update) = agent_update(id, key, agent) {
                    told.say(update);
                }
            }
        }
        "job:completed" => end(id, standing, Status::Completed, told),
        "job:failed" => {
            told.say(log(id, "error", &format!("❌ Error: {}", said.error)));
            end(id, standing, Status::Failed, told);
        }
        _ => {}
    }
}

fn end(id: &str, standing: &mut Standing, status: Status, told: &mut Told) {
    *standing = Standing::of(status, 0);
    told.say(status_update(id, *standing));
    told.say(completion(id, *standing));
}

/// The page shows its own time.
fn status_update(id: &str, Standing { status, progress }: Standing) -> String {
    json!({ "type": "status_update", "project_id": id, "status": status, "progress": progress, "timestamp": null })
        .to_string()
}

fn completion(id: &str, standing: Standing) -> String {
    let success = standing.status == "completed";
    let address = success.then(|| format!("/api/projects/{id}/download"));
    json!({ "type": "completion", "project_id": id, "success": success, "download_url": address, "timestamp": null })
        .to_string()
}

fn log(id: &str, level: &str, message: &str) -> String {
    json!({ "type": "log", "project_id": id, "level": level, "message": message, "timestamp": null })
        .to_string()
}

/// An agent of the document that has begun or is done.
fn agent_update(id: &str, key: &str, agent: &Value) -> Option<String> {
    let name = agent["agent"].as_str().unwrap_or(key);
    let (status, message) = match agent["status"].as_str()? {
        "started" => ("started", format!("Starting {name} agent")),
        "completed" => {
            let seconds = agent["seconds"].as_f64().unwrap_or_default();
            ("completed", format!("Completed {name} agent in {seconds:.2}s"))
        }
        _ => return None,
    };
    let frame = json!({
        "type": "agent_update", "project_id": id, "agent": name, "agent_status": status, "message": message,
        "timestamp": null,
    });
    Some(frame.to_string())
}
