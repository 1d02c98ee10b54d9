//! What the sockets' contract says of `/api/ws/projects/{id}`: the messages that [`socket`](super::socket) tells, and its
//! ping. Pure.

use serde_json::{Map, Value, json};

use crate::event::contract::{Channel, Message, whole};

/// The socket.
pub fn channel() -> Channel {
    let text = json!({ "type": "string" });
    let address = json!({ "type": ["string", "null"], "description": "Where the project is, below this server's address." });
    let update = json!({
        "status": { "enum": ["pending", "in_progress", "completed", "failed"] },
        "progress": { "type": "integer", "minimum": 0, "maximum": 100 },
    });
    let agent =
        json!({ "agent": text, "agent_status": { "enum": ["started", "completed"] }, "message": text });
    let told = |name, summary, properties| Message::json(name, summary, of_project(name, properties));
    Channel {
        name: "project_agents",
        address: "/api/ws/projects/{projectId}",
        about: "A project, and every generation of it that is asked for. Any id is taken, and nothing more than \
                `connection` is told of one that is nobody's or another's; the server closes no connection that is quiet.",
        parameters: &[("projectId", "The project's id.")],
        told: vec![
            Message::json(
                "connection",
                "The first message.",
                whole(json!({ "type": { "const": "connection" }, "message": text, "project_id": text })),
            ),
            told("status_update", "How the project stands: behind the first message, and on change.", update),
            told("agent_update", "An agent has begun, or is done.", agent),
            told("log", "A line of the log.", json!({ "level": text, "message": text })),
            told(
                "completion",
                "A generation has ended.",
                json!({ "success": { "type": "boolean" }, "download_url": address }),
            ),
        ],
        asks: vec![(
            Message::json(
                "ping",
                "Asks whether the server is there; anything else means nothing.",
                whole(json!({ "type": { "const": "ping" } })),
            ),
            Message::json("pong", "It is.", whole(json!({ "type": { "const": "pong" } }))),
        )],
    }
}

/// A message of a project; pages show a time of their own, so it has none.
fn of_project(name: &str, properties: Value) -> Value {
    let mut all = Map::from_iter([
        ("type".to_owned(), json!({ "const": name })),
        ("project_id".to_owned(), json!({ "type": "string" })),
    ]);
    if let Value::Object(properties) = properties {
        all.extend(properties);
    }
    all.insert("timestamp".into(), json!({ "type": "null" }));
    whole(all.into())
}
