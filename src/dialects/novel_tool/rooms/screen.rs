//! Where a page is shown a job: of what it could not take yet only the newest is kept.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use serde_json::value::RawValue;
use socketioxide::{SendError, SocketError, extract::SocketRef};
use tokio::sync::mpsc;

use super::Message;
use crate::realtime::projector::{Listener, Told};

/// Waits for room in a client's buffer double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));
/// Before a room that could not be kept is entered again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a page is shown a job.
pub struct Screen {
    socket: SocketRef,
    slot: Mutex<Slot>,
    /// The job's.
    number: i64,
    messages: mpsc::WeakSender<Message>,
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
    /// Of a page behind `socket`, whose messages are served behind `messages`.
    pub fn new(socket: SocketRef, number: i64, messages: mpsc::WeakSender<Message>) -> Screen {
        Screen { socket, slot: Mutex::default(), number, messages }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows nothing any more.
    pub fn close(&self) {
        let mut slot = self.slot();
        slot.closed = true;
        slot.newest = None;
    }

    /// Takes its place in the room again in a while: the room could not be kept.
    pub fn come_back(&self) {
        let (number, messages) = (self.number, self.messages.clone());
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(Message::Again(number)).await;
            }
        });
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
        if told.close.is_some() {
            self.come_back();
        }
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
