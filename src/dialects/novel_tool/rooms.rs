//! The novel tool's words on Socket.IO: a page joins the room of a job and is shown it, whole, at once and whenever it
//! changes.
//!
//! What is shown is made once a change for all who are in the room ([`Projector`]). Who joins makes all who are in the
//! room be shown it, too. A page of one generation opens and joins hundreds of times a second: that costs one look at the
//! job's row each time, and the others see it seldom.

mod novels;
mod screen;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use socketioxide::extract::{SocketRef, TryData};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use self::novels::{Known, Novels};
use self::screen::Screen;
use super::KIND;
use crate::{
    identity::{Credentials, Identity},
    job::{Code, JobId, Principal, Rejection, Scope},
    metrics::numbers,
    realtime::{
        projector::{Projector, Seat},
        socketio::{MoreRooms, Words},
    },
    store::{Store, StoreError},
};

/// Rooms that one connection may be in, and its messages that may wait.
const MAX_ROOMS: usize = 50;
const MAX_WAITING: usize = 64;
/// Who joins makes a whole room be shown its job; of many who join, once in so long.
const CALM: Duration = Duration::from_millis(500);

/// All rooms of this process.
pub struct Rooms {
    store: Store,
    identity: Arc<Identity>,
    projector: Projector<Novels>,
    /// Rooms that were shown their job a moment ago because somebody joined, and whether somebody has joined since.
    shown: Mutex<HashMap<JobId, bool>>,
}

impl Rooms {
    pub fn new(store: Store, identity: Arc<Identity>, projector: Projector<Novels>) -> Arc<Rooms> {
        Arc::new(Rooms { store, identity, projector, shown: Mutex::default() })
    }
}

/// What a page says.
pub enum Message {
    Join(Value),
    Leave(Value),
    /// Nobody says this: a room could not be kept.
    Again(i64),
    JoinCoverage(Value),
    LeaveCoverage(Value),
}

/// An event, and what its data is taken as.
type Said = (&'static str, fn(Value) -> Message);

/// A page's place in a room.
struct Place {
    job: JobId,
    screen: Arc<Screen>,
    seat: Seat,
    _watch: Option<AbortOnDropHandle<()>>,
}

impl Words for Rooms {
    fn add(self: Arc<Self>, socket: &SocketRef, left: CancellationToken) {
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        let begun = Arc::new(Mutex::new(Some(messages)));
        let said: [Said; 4] = [
            ("join_job", Message::Join),
            ("leave_job", Message::Leave),
            ("join_coverage_run", Message::JoinCoverage),
            ("leave_coverage_run", Message::LeaveCoverage),
        ];
        for (event, message) in said {
            let (sender, begun, rooms) = (sender.clone(), begun.clone(), self.clone());
            let left = left.clone();
            socket.on(event, move |socket: SocketRef, TryData(data): TryData<Value>| {
                numbers().socket_events_received.with_label_values(&[event]).inc();
                // Taken up one after the other, by a task that only sockets have which use this.
                if let Some(messages) = begun.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    let serve = rooms.clone().serve(socket.clone(), sender.clone(), messages, left.clone());
                    tokio::spawn(serve);
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
        sender: mpsc::Sender<Message>,
        mut messages: mpsc::Receiver<Message>,
        left: CancellationToken,
    ) {
        let rooms = Arc::new(MoreRooms::default());
        socket.extensions.insert(rooms.clone());
        let mut places: HashMap<i64, Place> = HashMap::new();
        loop {
            // The socket keeps its handlers, and this keeps the socket: it must be told.
            match left.run_until_cancelled(messages.recv()).await.flatten() {
                None => return,
                Some(Message::Leave(data)) => match number(&data, "job_id") {
                    Some(number) => {
                        places.remove(&number);
                        rooms.leave(&room(number));
                    }
                    None => say(&socket, "Missing job_id"),
                },
                Some(Message::Join(data)) => {
                    let is_in = number(&data, "job_id").is_some_and(|number| places.contains_key(&number));
                    if places.len() >= MAX_ROOMS && !is_in {
                        say(&socket, "Failed to join job room");
                        continue;
                    }
                    match self.join(&socket, &sender, &data).await {
                        Ok((number, place)) => {
                            self.show_room(place.job, &place.seat);
                            places.insert(number, place);
                            rooms.enter(room(number));
                        }
                        Err(message) => say(&socket, &message),
                    }
                }
                Some(Message::Again(number)) => {
                    let Some(place) = places.get_mut(&number) else { continue };
                    match self.projector.join(&place.job, Arc::new(place.screen.clone())).await {
                        Ok(seat) => place.seat = seat,
                        Err(_) => place.screen.come_back(),
                    }
                }
                // This server makes none.
                Some(Message::JoinCoverage(data)) => match number(&data, "run_id") {
                    Some(run) => say(&socket, &format!("Coverage run {run} not found")),
                    None => say(&socket, "Missing run_id or token"),
                },
                Some(Message::LeaveCoverage(data)) => {
                    if number(&data, "run_id").is_none() {
                        say(&socket, "Missing run_id");
                    }
                }
            }
        }
    }

    /// Lets a page into a job's room; its token is looked at again. The error is what the frontend knows.
    async fn join(
        &self,
        socket: &SocketRef,
        sender: &mpsc::Sender<Message>,
        data: &Value,
    ) -> Result<(i64, Place), String> {
        let failed = || "Failed to join job room".to_owned();
        let token = data["token"].as_str().filter(|token| !token.is_empty());
        let (Some(number), Some(token)) = (number(data, "job_id"), token) else {
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
        let job = novel.record.job.id;
        let screen = Arc::new(Screen::new(socket.clone(), number, sender.downgrade()));
        let seat = self.projector.join(&job, Arc::new(screen.clone())).await.map_err(|_| failed())?;
        let over = self.identity.until_over(&caller);
        let (socket, shown) = (socket.clone(), screen.clone());
        let watch = (!caller.is_anonymous()).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                let rejection = over.await;
                shown.close();
                say(&socket, rejection.code.word());
            }))
        });
        Ok((number, Place { job, screen, seat, _watch: watch }))
    }

    /// Shows the job to all who were in the room before; of many who join at once, the room is shown it twice: at the
    /// first of them, and when it is calm again.
    fn show_room(self: &Arc<Self>, job: JobId, but: &Seat) {
        if let Some(again) = self.shown().get_mut(&job) {
            *again = true;
            return;
        }
        self.shown().insert(job, false);
        let (rooms, but) = (self.clone(), but.id());
        tokio::spawn(async move {
            rooms.projector.show_all(&job, Some(but)).await;
            loop {
                tokio::time::sleep(CALM).await;
                {
                    let mut shown = rooms.shown();
                    match shown.get_mut(&job) {
                        Some(again) if *again => *again = false,
                        _ => {
                            shown.remove(&job);
                            return;
                        }
                    }
                }
                rooms.projector.show_all(&job, None).await;
            }
        });
    }

    fn shown(&self) -> MutexGuard<'_, HashMap<JobId, bool>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number, which pages may send as a text.
fn number(data: &Value, key: &str) -> Option<i64> {
    data[key].as_i64().or_else(|| data[key].as_str()?.parse().ok())
}

/// What the room of a job is called.
fn room(number: i64) -> String {
    format!("job_{number}")
}

/// Tells a page what went wrong.
fn say(socket: &SocketRef, message: &str) {
    // Who neither waits nor reads is not waited for.
    let _ = socket.emit("error", &json!({ "message": message }));
}
