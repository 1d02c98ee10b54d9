//! One Socket.IO client: its place in the hub, and its messages in the order in which they came.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use chrono::Utc;
use serde_json::json;
use socketioxide::{
    SendError, SocketError,
    extract::{AckSender, SocketRef, TryData},
};

use super::message::{Arguments, WISHES, WantsAck, Wish};
use crate::{
    event::{Anything, Event, Severity, SystemNotification},
    job::{Code, Rejection},
    realtime::hub::{ClientId, Hub, Outlet, Sent},
    store::{Head, Recorded, StoreError, Transient},
};

/// What a client may use of this server.
#[derive(Clone, Copy)]
pub struct Limits {
    pub queued_messages: usize,
}

/// A socket's state; lives in its extensions, and goes when it leaves.
pub struct Client {
    /// Set when the socket is connected: before, a reference back to it could keep both for ever.
    socket: OnceLock<SocketRef>,
    hub: Arc<Hub>,
    connected_at: i64,
    id: OnceLock<ClientId>,
    limits: Limits,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    wishes: VecDeque<(Wish, &'static str, Option<AckSender>)>,
    /// Whether a task is working the queue off.
    at_work: bool,
}

impl Client {
    /// Registers all handlers of a socket that is about to connect.
    pub fn prepare(socket: &SocketRef, hub: Arc<Hub>, limits: Limits) {
        let client = Arc::new(Client {
            socket: OnceLock::new(),
            connected_at: hub.delivered(),
            hub,
            id: OnceLock::new(),
            limits,
            inbox: Mutex::default(),
        });
        socket.extensions.insert(client.clone());
        for (event, door, subscribe) in WISHES {
            let client = Arc::downgrade(&client);
            let handler = move |socket: SocketRef,
                                TryData(arguments): TryData<Arguments>,
                                WantsAck(wants_ack): WantsAck,
                                ack: AckSender| {
                if let Some(client) = client.upgrade() {
                    client.enter(&socket);
                    let ack = wants_ack.then_some(ack);
                    let arguments = arguments.map(|arguments| arguments.0).unwrap_or_default();
                    match Wish::read(event, door, subscribe, &arguments) {
                        Ok(wish) => client.queue(wish, event, ack),
                        Err(rejection) => client.refuse(event, ack, &rejection),
                    }
                }
                std::future::ready(())
            };
            socket.on(event, handler);
        }
        socket.on("ping", |socket: SocketRef| {
            notify(&socket, Severity::Info, "pong".into(), None);
            std::future::ready(())
        });
        socket.on_disconnect(|socket: SocketRef| {
            if let Some(client) = socket.extensions.remove::<Arc<Client>>() {
                client.leave();
            }
            std::future::ready(())
        });
    }

    /// Takes its place in the hub; from here on it is told what everybody is told.
    pub fn enter(&self, socket: &SocketRef) {
        let socket = self.socket.get_or_init(|| socket.clone());
        let id =
            *self.id.get_or_init(|| self.hub.register(Arc::new(Wire(socket.clone())), self.connected_at));
        // It may have left while this was on its way here.
        if !socket.connected() {
            self.hub.unregister(id);
        }
    }

    fn leave(&self) {
        if let Some(id) = self.id.get() {
            self.hub.unregister(*id);
        }
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).wishes.clear();
    }

    /// Queues a wish behind those that came before it.
    fn queue(self: &Arc<Self>, wish: Wish, event: &'static str, ack: Option<AckSender>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.wishes.len() >= self.limits.queued_messages {
            drop(inbox);
            let message = format!(
                "{} messages wait already; send the next when one is answered.",
                self.limits.queued_messages
            );
            return self.refuse(event, ack, &Rejection::new(Code::TooMany, message));
        }
        inbox.wishes.push_back((wish, event, ack));
        if !std::mem::replace(&mut inbox.at_work, true) {
            tokio::spawn(self.clone().work());
        }
    }

    /// Works the queue off, one wish after the other.
    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
                let next = inbox.wishes.pop_front();
                inbox.at_work = next.is_some();
                next
            };
            let Some((wish, event, ack)) = next else { return };
            match self.fulfil(wish).await {
                Ok(head) => {
                    if let Some(ack) = ack {
                        let answer = match head {
                            Some(head) => {
                                json!({ "ok": true, "seq": head.seq, "status": head.status.word() })
                            }
                            None => json!({ "ok": true }),
                        };
                        let _ = ack.send(&answer);
                    }
                }
                Err(StoreError::Rejected(rejection)) => self.refuse(event, ack, &rejection),
                Err(error) => {
                    tracing::error!(%error, event, "a client's message could not be handled");
                    let message = "The server cannot reach its database; try again.";
                    self.refuse(event, ack, &Rejection::new(Code::Unavailable, message));
                }
            }
        }
    }

    async fn fulfil(&self, wish: Wish) -> Result<Option<Head>, StoreError> {
        let (Some(&id), Some(socket)) = (self.id.get(), self.socket.get()) else { return Ok(None) };
        match wish {
            Wish::Subscribe { job, door, past } => {
                let head = self.hub.subscribe(id, job, door, past).await?;
                socket.join(door.room(job));
                Ok(Some(head))
            }
            Wish::Unsubscribe { job, door } => {
                self.hub.unsubscribe(id, job, door);
                socket.leave(door.room(job));
                Ok(None)
            }
        }
    }

    /// Says no: in the acknowledgement if one was asked for, else by a notification.
    fn refuse(&self, event: &str, ack: Option<AckSender>, rejection: &Rejection) {
        let error = json!({ "code": rejection.code.word(), "message": rejection.message });
        match ack {
            Some(ack) => {
                let _ = ack.send(&json!({ "ok": false, "error": error }));
            }
            None => {
                let details = json!({ "event": event, "code": rejection.code.word() });
                if let Some(socket) = self.socket.get() {
                    notify(socket, Severity::Error, rejection.message.clone(), Some(Anything(details)));
                }
            }
        }
    }
}

fn notify(socket: &SocketRef, severity: Severity, message: String, details: Option<Anything>) {
    let event = Event::from(SystemNotification { r#type: severity, message, details });
    // No position: the payload is the only argument and no string, so the client's offset stays what it was.
    let _ = socket.emit(event.kind().wire_name(), &event.encode(None, Utc::now()));
}

/// A socket as the hub sees it.
struct Wire(SocketRef);

impl Outlet for Wire {
    fn send(&self, event: &Recorded) -> Sent {
        // The position goes along as the last argument: what a client that comes back calls its offset.
        match self.0.emit(&event.kind, &(&event.payload, event.position.to_string())) {
            Ok(()) => Sent::Yes,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Sent::Full,
            Err(SendError::Socket(SocketError::Closed)) => Sent::Gone,
            Err(SendError::Serialize(error)) => {
                tracing::error!(%error, position = event.position, "an event could not be written for Socket.IO");
                Sent::Gone
            }
        }
    }

    fn send_transient(&self, event: &Transient) {
        let _ = self.0.emit(event.kind.wire_name(), &event.payload);
    }
}
