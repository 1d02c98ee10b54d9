//! A bare websocket broadcast as a server under test of `jobcast bench`: no protocol, no journal, no second chance.
//!
//! `bare_websocket ADDRESS:PORT` serves the control routes of src/app/bench/mod.rs; a client joins by connecting to
//! `/ws/{room}`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    http::StatusCode,
    response::Response,
    routing::{get, post},
    serve::ListenerExt as _,
};
use jobcast::{
    app::bench::{
        control::{Burst, Published, Room},
        wire::{self, Mark},
    },
    job::JobId,
    process,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::broadcast::{Receiver, Sender, error::RecvError},
};
use uuid::Uuid;

/// Events that may wait for a client; one that is further behind has lost some.
const WAITING: usize = 16_384;

#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>);

impl Rooms {
    fn get(&self, room: String) -> Sender<Utf8Bytes> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.entry(room).or_insert_with(|| Sender::new(WAITING)).clone()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::raise_open_files()?;
    let address = std::env::args().nth(1).context("name an address: bare_websocket 127.0.0.1:3002")?;
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        // As Jobcast does it.
        let _ = stream.set_nodelay(true);
    });
    let router = Router::new()
        .route("/bench/ready", get(|| async { Json(serde_json::json!({})) }))
        .route("/bench/rooms", post(|| async { Json(Room { room: Uuid::now_v7().to_string() }) }))
        .route("/bench/publish", post(publish))
        .route("/ws/{room}", get(join))
        .with_state(Rooms::default());
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, router) => ended?,
        _ = stop.recv() => {}
    }
    Ok(())
}

async fn publish(
    State(rooms): State<Rooms>,
    Json(burst): Json<Burst>,
) -> Result<Json<Published>, StatusCode> {
    let job: JobId = burst.room.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let room = rooms.get(burst.room);
    let t = wire::now();
    for n in burst.from..burst.from.saturating_add(burst.count.min(wire::MAX_COUNT)) {
        let event = wire::event(Mark { n, t }, burst.bytes.min(wire::MAX_BYTES));
        let name = event.name();
        let text = format!("[\"{name}\",{}]", event.encode(Some(job), chrono::Utc::now()));
        // An error says that nobody listens.
        let _ = room.send(text.into());
    }
    Ok(Json(Published { committed: wire::now() }))
}

async fn join(State(rooms): State<Rooms>, Path(room): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    let events = rooms.get(room).subscribe();
    upgrade.read_buffer_size(4096).on_upgrade(|socket| pass_on(socket, events))
}

async fn pass_on(mut socket: WebSocket, mut events: Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            heard = socket.recv() => {
                if !matches!(heard, Some(Ok(_))) {
                    return;
                }
            }
        }
    }
}
