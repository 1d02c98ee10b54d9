//! The plain dialect: one job's events as JSON messages on a raw WebSocket, for whoever has no frontend's words to keep.
//!
//! It is also the smallest example of a dialect: what one takes is this file, its line in [`super`] and its
//! conversations in `tests/transcripts/plain`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use serde_json::{json, value::RawValue};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    event::contract::{Channel, Message, whole},
    http::{Api, Caller},
    job::{JobId, Scope, Status},
    realtime::{
        feed::{Interest, News},
        projector::{Close, Opened, Projection, Told},
        websocket::{Dialect, Door, Opening, RawSockets},
    },
    store::{Addresses, Store, StoreError},
};

/// The dialect's route.
pub fn routes(sockets: &RawSockets, addresses: &Addresses) -> OpenApiRouter<Api> {
    let door = Door::new(sockets, Plain { addresses: addresses.clone() });
    OpenApiRouter::new().routes(routes!(follow)).layer(Extension(door))
}

/// Follows a job over a raw WebSocket.
///
/// The first message says where the job stands: `{seq, status}`; what came before is at `/v1/jobs/{id}/events`. Then
/// each event is `{seq, event, data}`, and progress, of which slow clients are told the newest only, has no `seq`. Behind
/// the job's last event the connection is closed with 1000; with any other code but 1008 come back.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/socket", tag = "jobs", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 101, description = "A WebSocket"),
        (status = 400, description = "No WebSocket was asked for"),
        (status = 403, description = "Pages of this origin may not connect"),
        (status = 426, description = "No WebSocket was asked for"),
        (status = 503, description = "As many connections are open as may be"),
    ),
)]
async fn follow(
    caller: Caller,
    Extension(door): Extension<Door<Plain>>,
    id: Result<Path<String>, PathRejection>,
    opening: Opening,
) -> Response {
    // Who may read nothing is told of nothing.
    let id = if caller.require(Scope::Read).is_ok() { id.ok() } else { None };
    let job = id.and_then(|Path(id)| id.parse().ok());
    door.open(opening, Topic { job, owner: caller.sees_only().map(Arc::from) }, caller.expires_at)
}

/// One job as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// `None` for what is no id.
    job: Option<JobId>,
    /// `None` for who sees everybody's.
    owner: Option<Arc<str>>,
}

/// Where the job stands.
pub struct Standing {
    pub seq: i32,
    pub status: Status,
}

/// The dialect.
pub struct Plain {
    pub addresses: Addresses,
}

impl Projection for Plain {
    type Topic = Topic;
    type State = Standing;

    fn interest(&self, topic: &Topic) -> Interest {
        Interest::Job(topic.job.unwrap_or(JobId(uuid::Uuid::nil())))
    }

    async fn open(&self, store: &Store, topic: &Topic) -> Result<Opened<Standing>, StoreError> {
        let Some(job) = topic.job else { return Ok(Opened::Refused(unknown())) };
        match store.job(job).await {
            Ok(record) if topic.owner.as_deref().is_none_or(|owner| owner == record.owner) => {
                Ok(Opened::Topic(Standing { seq: record.last_seq, status: record.job.status }))
            }
            // Another's job is told from none by nobody.
            Ok(_) | Err(StoreError::Rejected(_)) => Ok(Opened::Refused(unknown())),
            Err(error) => Err(error),
        }
    }

    fn greet(&self, standing: &Standing, told: &mut Told) {
        told.say(json!({ "seq": standing.seq, "status": standing.status.word() }).to_string());
        if standing.status.is_ended() {
            told.close(Close::NORMAL);
        }
    }

    fn tell(&self, standing: &mut Standing, news: &News, told: &mut Told) {
        for event in &news.events {
            if event.seq <= standing.seq {
                continue;
            }
            standing.seq = event.seq;
            let data: &RawValue = &self.addresses.freshen(&event.kind, &event.payload);
            told.say(json!({ "seq": event.seq, "event": event.kind, "data": data }).to_string());
            standing.status = status_after(&event.kind, data).unwrap_or(standing.status);
            if event.is_terminal() {
                told.close(Close::NORMAL);
            }
        }
        for progress in news.progress.iter().filter(|_| !standing.status.is_ended()) {
            let text = json!({ "event": progress.kind.wire_name(), "data": progress.payload }).to_string();
            told.show(progress.kind as i64, text);
        }
    }
}

impl Dialect for Plain {
    const NAME: &'static str = "plain";

    fn channel() -> Channel {
        let standing = json!({
            "seq": { "type": "integer", "minimum": 0, "description": "The seq of the job's newest event." },
            "status": { "enum": Status::ALL.map(Status::word) },
        });
        let event = json!({
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "seq": { "type": "integer", "minimum": 1, "description": "Its place among its job's events." },
                "event": { "type": "string", "description": "Its name." },
                "data": { "type": "object", "description": "Its payload, as in the messages of the same name." },
            },
        });
        let text = json!({ "type": "string" });
        let refusal = json!({ "error": whole(json!({ "code": text, "message": text })) });
        Channel {
            name: "socket",
            address: "/v1/jobs/{jobId}/socket",
            about: "Where a job stands, then each of its events; closed with 1000 behind the job's end, and with 1008 if there is no such job.",
            parameters: &[("jobId", "The job's id.")],
            told: vec![
                Message::json("standing", "Where the job stands: the first message.", whole(standing)),
                Message::json("event", "An event; progress, which is not in the journal, has no seq.", event),
                Message::json("refusal", "There is no such job.", whole(refusal)),
            ],
            asks: Vec::new(),
        }
    }
}

/// The status that an event says, if it says one.
fn status_after(kind: &str, data: &RawValue) -> Option<Status> {
    #[derive(serde::Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        status: Option<&'a str>,
        #[serde(default)]
        cancelled: bool,
    }
    let said: Said = serde_json::from_str(data.get()).ok()?;
    match kind {
        "job:completed" => Some(Status::Completed),
        "job:failed" if said.cancelled => Some(Status::Cancelled),
        "job:failed" => Some(Status::Failed),
        "job:updated" => Status::from_word(said.status?),
        _ => None,
    }
}

fn unknown() -> Told {
    let mut told = Told::default();
    let message = "There is no such job; GET /v1/jobs lists the jobs.";
    told.say(json!({ "error": { "code": "job_not_found", "message": message } }).to_string());
    told.close(Close { reason: "there is no such job", ..Close::POLICY });
    told
}
