//! The novel tool's words on Socket.IO: a page joins the room of a job and is shown it, whole, at once and whenever it
//! changes.
//!
//! What is shown is made once a change for all who are in the room ([`Projector`]); of what a page could not take yet
//! only the newest is kept. A page of one generation opens and joins hundreds of times a second: that costs one look at
//! the job's row each time, and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use serde_json::{Value, json, value::RawValue};
use socketioxide::{
    SendError, SocketError,
    extract::{SocketRef, TryData},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{KIND, shape};
use crate::{
    identity::{Credentials, Identity},
    job::{Code, JobId, Principal, Rejection, Scope},
    metrics::numbers,
    realtime::{
        feed::{Interest, News},
        projector::{Listener, Opened, Projection, Projector, Seat, Told},
        socketio::{MoreRooms, Words},
    },
    store::{Store, StoreError, WorkRecord},
};

/// Rooms that one connection may be in, and its messages that may wait.
const MAX_ROOMS: usize = 50;
const MAX_WAITING: usize = 64;
/// Waits for room in a client's buffer double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// A novel as its page is shown it.
pub struct Novels;

impl Projection for Novels {
    type Topic = JobId;
    type State = WorkRecord;

    fn interest(&self, job: &JobId) -> Interest {
        Interest::Job(*job)
    }

    async fn open(&self, store: &Store, job: &JobId) -> Result<Opened<WorkRecord>, StoreError> {
        match store.work(*job).await {
            Ok(novel) => Ok(Opened::Topic(novel)),
            // It was removed since its page was let in.
            Err(StoreError::Rejected(_)) => Ok(Opened::Refused(Told::default())),
            Err(error) => Err(error),
        }
    }

    fn greet(&self, novel: &WorkRecord, told: &mut Told) {
        told.show(0, shape::job(novel).to_string());
    }

    async fn gather(&self, store: &Store, novel: &mut WorkRecord, _: &News) -> Result<(), StoreError> {
        match store.work(novel.record.job.id).await {
            Ok(now) => *novel = now,
            Err(StoreError::Rejected(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tell(&self, novel: &mut WorkRecord, _: &News, told: &mut Told) {
        told.show(0, shape::job(novel).to_string());
    }
}

/// All rooms of this process.
pub struct Rooms {
    store: Store,
    identity: Arc<Identity>,
    projector: Projector<Novels>,
}

impl Rooms {
    pub fn new(store: Store, identity: Arc<Identity>, projector: Projector<Novels>) -> Arc<Rooms> {
        Arc::new(Rooms { store, identity, projector })
    }
}

/// What a page says.
enum Message {
    Join(Value),
    Leave(Value),
}

impl Words for Rooms {
    fn add(self: Arc<Self>, socket: &SocketRef, left: CancellationToken) {
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        let begun = Arc::new(Mutex::new(Some(messages)));
        for (event, message) in
            [("join_job", Message::Join as fn(Value) -> Message), ("leave_job", Message::Leave)]
        {
            let (sender, begun, rooms) = (sender.clone(), begun.clone(), self.clone());
            let left = left.clone();
            socket.on(event, move |socket: SocketRef, TryData(data): TryData<Value>| {
                numbers().socket_events_received.with_label_values(&[event]).inc();
                // Taken up one after the other, by a task that only sockets have which use this.
                if let Some(messages) = begun.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    tokio::spawn(rooms.clone().serve(socket.clone(), messages, left.clone()));
                }
                if sender.try_send(message(data.unwrap_or_default())).is_err() {
                    say(&socket, "Failed to join job room");
                }
                std::future::ready(())
            });
        }
    }
}

impl Rooms {
    /// Works off what a page says, until it leaves.
    async fn serve(
        self: Arc<Self>,
        socket: SocketRef,
        mut messages: mpsc::Receiver<Message>,
        left: CancellationToken,
    ) {
        let rooms = Arc::new(MoreRooms::default());
        socket.extensions.insert(rooms.clone());
        let mut seats: HashMap<i64, (Seat, Option<AbortOnDropHandle<()>>)> = HashMap::new();
        loop {
            // The socket keeps its handlers, and this keeps the socket: it must be told.
            match left.run_until_cancelled(messages.recv()).await.flatten() {
                None => return,
                Some(Message::Leave(data)) => match data["job_id"].as_i64() {
                    Some(number) => {
                        seats.remove(&number);
                        rooms.leave(&room(number));
                    }
                    None => say(&socket, "Missing job_id"),
                },
                Some(Message::Join(data)) => {
                    if seats.len() >= MAX_ROOMS {
                        say(&socket, "Failed to join job room");
                        continue;
                    }
                    match self.join(&socket, &data).await {
                        Ok((number, seat, watch)) => {
                            seats.insert(number, (seat, watch));
                            rooms.enter(room(number));
                        }
                        Err(message) => say(&socket, &message),
                    }
                }
            }
        }
    }

    /// Lets a page into a job's room; its token is looked at again. The error is what the frontend knows.
    async fn join(
        &self,
        socket: &SocketRef,
        data: &Value,
    ) -> Result<(i64, Seat, Option<AbortOnDropHandle<()>>), String> {
        let failed = || "Failed to join job room".to_owned();
        let number = data["job_id"].as_i64().or_else(|| data["job_id"].as_str()?.parse().ok());
        let token = data["token"].as_str().filter(|token| !token.is_empty());
        let (Some(number), Some(token)) = (number, token) else {
            return Err("Missing job_id or token".to_owned());
        };
        let caller = self.identity.authenticate(&Credentials::of(Some(token))).await;
        let caller: Principal = caller.map_err(|Rejection { code, .. }| match code {
            Code::TokenExpired | Code::InvalidToken => code.word().to_owned(),
            _ => failed(),
        })?;
        let novel = match self.store.work_by_number(KIND, number).await {
            Ok(novel) => novel,
            Err(StoreError::Rejected(_)) => return Err(format!("Job {number} not found")),
            Err(_) => return Err(failed()),
        };
        if !caller.sees(&novel.record.owner) || caller.require(Scope::Read).is_err() {
            return Err("Unauthorized access to job".to_owned());
        }
        let screen = Arc::new(Screen { socket: socket.clone(), slot: Mutex::default() });
        let seat = self
            .projector
            .join(&novel.record.job.id, Arc::new(screen.clone()))
            .await
            .map_err(|_| failed())?;
        let over = self.identity.until_over(&caller);
        let socket = socket.clone();
        let watch = (!caller.is_anonymous()).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let rejection = over.await;
                screen.close();
                say(&socket, rejection.code.word());
            }))
        });
        Ok((number, seat, watch))
    }
}

/// What the room of a job is called.
fn room(number: i64) -> String {
    format!("job_{number}")
}

/// Where a page is shown a job.
struct Screen {
    socket: SocketRef,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    /// The newest that was not sent.
    newest: Option<Utf8Bytes>,
    /// Whether a task waits for room in the client's buffer.
    waits: bool,
    closed: bool,
}

impl Screen {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows nothing any more.
    fn close(&self) {
        let mut slot = self.slot();
        slot.closed = true;
        slot.newest = None;
    }

    /// Sends the newest; returns whether there is no room for it yet.
    fn send(&self, slot: &mut Slot) -> bool {
        let Some(text) = slot.newest.take() else { return false };
        let Ok(job) = serde_json::from_str::<&RawValue>(&text) else { return false };
        let full = matches!(
            self.socket.emit("job_progress", job),
            Err(SendError::Socket(SocketError::InternalChannelFull))
        );
        if full {
            slot.newest = Some(text);
        }
        full
    }
}

impl Listener for Arc<Screen> {
    fn hear(&self, told: &Told) {
        let Some(frame) = told.frames.last() else { return };
        let mut slot = self.slot();
        if slot.closed {
            return;
        }
        slot.newest = Some(frame.text.clone());
        if slot.waits || !self.send(&mut slot) {
            return;
        }
        slot.waits = true;
        let screen = self.clone();
        tokio::spawn(async move {
            let mut pause = PAUSES.0;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                let mut slot = screen.slot();
                if !screen.send(&mut slot) {
                    slot.waits = false;
                    return;
                }
            }
        });
    }
}

/// Tells a page what went wrong.
fn say(socket: &SocketRef, message: &str) {
    // Who neither waits nor reads is not waited for.
    let _ = socket.emit("error", &json!({ "message": message }));
}
