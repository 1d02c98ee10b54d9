//! The sockets as AsyncAPI 3.0: what pages are told and may say over Socket.IO, and the raw WebSockets of the dialects.

use serde_json::{Map, Value, json};

use super::{Channel, Row, of_channel, reference, rows, schema};
use crate::event::{Ask, Class, Gives, Takes};

/// What cannot be said in the document's own words.
const ABOUT: &str = "\
Automation jobs that web pages watch live, over Socket.IO (protocol 5 on Engine.IO 4; clients of version 2 are served \
too). What a page is told of a job are messages whose payload is the Socket.IO event's first argument. An event that is \
in the journal has a second one, its place there, a string, which a client that comes back names by itself. What a page \
says are messages whose payload is the list of arguments; the reply is the acknowledgement, which is sent if one is asked \
for. Channels `job` and `automation` are rooms of the namespace `/`, which a page enters with `job:subscribe` and \
`automation:subscribe`. A token or an API key goes into the handshake's `auth.token`. All other channels are raw \
WebSockets, each with the words of the frontend that it is for, and each message of which is one text frame; a token or \
an API key goes into the address as `?token=`. 1000 closes behind the last word; after any other code but 1008 come back. \
Of the same version as `/openapi.json`, which has the routes.";

/// The whole document, of a server that clients reach at an address such as `https://jobs.example.com/`, with its raw
/// WebSockets.
pub fn asyncapi(address: &str, sockets: &[Channel]) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    let protocol = if scheme == "https" { "wss" } else { "ws" };

    let mut messages = Map::new();
    let (mut of_jobs, mut to_all) = (Map::new(), Map::new());
    for row in rows() {
        messages.insert(row.type_name.into(), told(&row));
        let at = if matches!(row.kind.class(), Class::Broadcast | Class::Notice) {
            &mut to_all
        } else {
            &mut of_jobs
        };
        at.insert(row.type_name.into(), reference("components/messages", row.type_name));
    }
    messages.insert("FreeEvent".into(), free());
    of_jobs.insert("FreeEvent".into(), reference("components/messages", "FreeEvent"));

    let told_to_all: Vec<Value> = to_all.keys().map(|name| of_channel("namespace", name)).collect();
    let told_of_jobs =
        |channel: &str| of_jobs.keys().map(|name| of_channel(channel, name)).collect::<Vec<_>>();
    let mut operations = Map::new();
    for channel in ["job", "automation"] {
        operations.insert(
            format!("tell_{channel}"),
            tell(channel, told_of_jobs(channel), "What happens to a job."),
        );
    }
    operations.insert(
        "tell_all".into(),
        tell("namespace", told_to_all, "What everybody is told whom it concerns."),
    );
    let mut namespace = to_all.clone();
    for ask in Ask::ALL {
        let name = identifier(*ask);
        messages.insert(name.clone(), said(*ask));
        namespace.insert(name.clone(), reference("components/messages", &name));
        let answer = answer_name(ask.gives());
        messages.entry(answer).or_insert_with(|| acknowledgement(ask.gives()));
        namespace.insert(answer.into(), reference("components/messages", answer));
        operations.insert(
            format!("hear_{name}"),
            json!({
                "action": "receive",
                "channel": reference("channels", "namespace"),
                "summary": ask.doc(),
                "messages": [of_channel("namespace", &name)],
                "reply": {
                    "channel": reference("channels", "namespace"),
                    "messages": [of_channel("namespace", answer)],
                },
            }),
        );
    }

    operations.extend(sockets.iter().flat_map(Channel::operations));

    let room = |address: &str, about: &str| {
        json!({
            "address": address,
            "servers": [reference("servers", "socketio")],
            "description": about,
            "parameters": { "jobId": { "description": "The job's id." } },
            "messages": of_jobs,
        })
    };
    let mut channels = Map::new();
    channels.insert(
        "namespace".into(),
        json!({
            "address": "/",
            "title": "The namespace /",
            "servers": [reference("servers", "socketio")],
            "description": "What a page says, and what it is told without having asked for a job.",
            "messages": namespace,
        }),
    );
    channels.insert("job".into(), room("job:{jobId}", "The room of pages that said `job:subscribe`."));
    channels.insert(
        "automation".into(),
        room(
            "automation:{jobId}",
            "The room of pages that said `automation:subscribe`; who is in both is told once.",
        ),
    );
    channels.extend(sockets.iter().map(|socket| (socket.name.to_owned(), socket.document())));
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Jobcast",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": {
            "socketio": {
                "host": host,
                "protocol": protocol,
                "pathname": format!("{path}/socket.io/"),
                "description": "Socket.IO: WebSocket, or HTTP long-polling at the same path.",
            },
            "plain": { "host": host, "protocol": protocol, "pathname": if path.is_empty() { "/" } else { &*path }, "description": "Raw WebSockets." },
        },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    });
    super::pretty(&document)
}

fn tell(channel: &str, messages: Vec<Value>, summary: &str) -> Value {
    json!({ "action": "send", "channel": reference("channels", channel), "summary": summary, "messages": messages })
}

fn told(row: &Row) -> Value {
    json!({
        "name": row.kind.wire_name(),
        "summary": row.doc,
        "tags": [{ "name": row.kind.class().word() }],
        "payload": schema::payload(row),
    })
}

fn free() -> Value {
    json!({
        "name": "{prefix}:{word}",
        "summary": "An event of a worker's own, named by its kind's prefix, a colon and a word; kept as milestones are.",
        "tags": [{ "name": Class::Milestone.word() }],
        "payload": schema::free(),
    })
}

/// `job:subscribe` → `job_subscribe`: a message's key has no colon.
fn identifier(ask: Ask) -> String {
    ask.name().replace(':', "_")
}

fn said(ask: Ask) -> Value {
    let job = json!({ "type": "string", "format": "uuid", "description": "The job's id." });
    let past = json!({
        "type": "object",
        "properties": { "after": {
            "type": "integer",
            "minimum": 0,
            "description": "Tells everything that happened to the job after this seq; 0 is everything.",
        } },
    });
    // Of JSON Schema's draft 7, as AsyncAPI has it: a list of `items` is one schema for each place.
    let (items, least) = match ask.takes() {
        Takes::Nothing => (vec![], 0),
        Takes::Job => (vec![job], 1),
        Takes::JobAndPast => (vec![job, past], 1),
    };
    let most = items.len();
    let mut payload = json!({ "type": "array", "minItems": least, "maxItems": most });
    if most > 0 {
        payload["items"] = items.into();
    }
    json!({ "name": ask.name(), "summary": ask.doc(), "payload": payload })
}

fn answer_name(gives: Gives) -> &'static str {
    match gives {
        Gives::Done => "Done",
        Gives::Place => "Subscribed",
        Gives::Status => "Changed",
        Gives::StatusAndJob => "Retried",
    }
}

fn acknowledgement(gives: Gives) -> Value {
    let text = json!({ "type": "string" });
    let mut properties = Map::from_iter([("ok".to_owned(), json!({ "const": true }))]);
    let more: &[(&str, Value)] = match gives {
        Gives::Done => &[],
        Gives::Place => &[("seq", json!({ "type": "integer", "minimum": 0 })), ("status", text.clone())],
        Gives::Status => &[("status", text.clone())],
        Gives::StatusAndJob => {
            &[("status", text.clone()), ("jobId", json!({ "type": "string", "format": "uuid" }))]
        }
    };
    properties.extend(more.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())));
    let required: Vec<&String> = properties.keys().collect();
    let done = json!({ "type": "object", "required": required, "properties": properties });
    let refused = json!({
        "type": "object",
        "required": ["ok", "error"],
        "properties": {
            "ok": { "const": false },
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": { "code": text, "message": text },
            },
        },
    });
    json!({ "name": "acknowledgement", "summary": "That it is done, or why it is refused.", "payload": { "oneOf": [done, refused] } })
}
