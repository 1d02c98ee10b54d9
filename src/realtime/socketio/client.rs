//! One Socket.IO client: its place in the hub, and its messages in the order in which they came.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::Utc;
use serde_json::{Value, json};
use socketioxide::{
    SendError, SocketError,
    extract::{SocketRef, TryData},
    socket::DisconnectReason,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument as _;

use super::{
    admin::Trace,
    message::{Answer, Arguments, Asked, Wish},
    outlet::SocketOutlet,
    transport::Link,
};
use crate::{
    event::{Anything, Ask, Event, Severity, SystemNotification},
    identity::Identity,
    job::{Code, JobId, Order, Principal, Rejection, Scope},
    metrics::{self, numbers},
    realtime::{
        hub::{ClientId, Hub, Standing},
        session::Session,
    },
    store::{Addresses, Retried, Room, StoreError},
};

/// Waits for room for an answer double from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// How long a client that is sent away may take to hear why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a client may use of this server.
#[derive(Clone, Copy)]
pub struct Limits {
    pub queued_messages: usize,
}

/// Who a client is, and who knows when it may stay no longer.
pub struct Guest {
    pub caller: Principal,
    pub identity: Arc<Identity>,
    /// Cancelled when it leaves.
    pub left: CancellationToken,
    /// Where messages are kept for those who look on.
    pub trace: Option<Arc<Trace>>,
}

/// A socket's state; lives in its extensions, and goes when it leaves.
pub struct Client {
    hub: Arc<Hub>,
    addresses: Addresses,
    /// Of clients that can come back to it (version 3 and later).
    session: Option<Session>,
    link: Option<Arc<Link>>,
    guest: Guest,
    /// Ends the connection of one who may stay no longer.
    watch: OnceLock<AbortOnDropHandle<()>>,
    /// What it is due; taken when it takes its place.
    standing: Mutex<Option<Standing>>,
    limits: Limits,
    place: OnceLock<Place>,
    inbox: Mutex<Inbox>,
}

/// Taken when the socket is connected: before, nothing can be sent, and a reference back to it could keep both for ever.
struct Place {
    socket: SocketRef,
    id: ClientId,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    work: Work,
}

/// Whether a task is working the queue off.
#[derive(Default, PartialEq)]
enum Work {
    /// The first messages may be here before the client has its place; they wait for it.
    #[default]
    NotYet,
    Going,
    Resting,
    /// The client has left.
    Over,
}

/// A message in its turn.
struct Message {
    event: &'static str,
    wish: Result<Wish, Rejection>,
    asker: Asker,
}

/// Who is told what came of a message.
enum Asker {
    /// The client, by an acknowledgement if it asked for one.
    Client(Option<Answer>),
    /// Somebody who had the client do it.
    Other(mpsc::Sender<Result<(), Rejection>>),
}

impl Client {
    /// Registers all handlers of a socket that is about to connect.
    #[expect(clippy::too_many_arguments, reason = "each is a part of a client, and there is one caller")]
    pub fn prepare(
        socket: &SocketRef,
        hub: Arc<Hub>,
        session: Option<Session>,
        standing: Standing,
        link: Option<Arc<Link>>,
        limits: Limits,
        addresses: Addresses,
        guest: Guest,
    ) {
        let client = Arc::new(Client {
            hub,
            addresses,
            session,
            link,
            guest,
            watch: OnceLock::new(),
            standing: Mutex::new(Some(standing)),
            limits,
            place: OnceLock::new(),
            inbox: Mutex::default(),
        });
        socket.extensions.insert(client.clone());
        for ask in Ask::ALL.iter().copied() {
            let client = Arc::downgrade(&client);
            let handler =
                move |socket: SocketRef, TryData(arguments): TryData<Arguments>, Asked(answer): Asked| {
                    if let Some(client) = client.upgrade() {
                        let arguments = arguments.map(|arguments| arguments.0).unwrap_or_default();
                        let wish = Wish::read(ask, &arguments);
                        client.hear(&socket, ask.name(), &arguments, wish, answer);
                    }
                    std::future::ready(())
                };
            socket.on(ask.name(), handler);
        }
        socket.on_fallback(|| {
            numbers().socket_events_received.with_label_values(&[metrics::OTHER]).inc();
            std::future::ready(())
        });
        socket.on_disconnect(|socket: SocketRef, reason: DisconnectReason| {
            if let Some(client) = socket.extensions.remove::<Arc<Client>>() {
                if let Some(trace) = &client.guest.trace {
                    trace.left("/", socket.id, reason);
                }
                client.leave();
            }
            std::future::ready(())
        });
    }

    /// Takes its place in the hub, where it is told what everybody is told, and turns to the messages that are there
    /// already.
    pub fn enter(self: &Arc<Self>, socket: SocketRef) {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(standing) = standing else { return };
        let (link, trace) = (self.link.clone(), self.guest.trace.clone());
        let outlet = SocketOutlet::new(socket.clone(), link, self.addresses.clone(), trace);
        outlet.prepare();
        let id = self.hub.register(Arc::new(outlet), standing);
        let _ = self.place.set(Place { socket, id });
        let mut inbox = self.inbox();
        if inbox.work == Work::Over {
            // It left while this was on its way here.
            self.hub.unregister(id);
        } else {
            inbox.work = Work::Going;
            tokio::spawn(self.clone().work().instrument(self.span()));
            drop(inbox);
            self.watch();
        }
    }

    /// Sees to it that a client leaves when it may stay no longer.
    fn watch(self: &Arc<Self>) {
        let Guest { caller, identity, .. } = &self.guest;
        if caller.is_anonymous() {
            return;
        }
        let (over, client) = (identity.until_over(caller), Arc::downgrade(self));
        let watch = tokio::spawn(async move {
            let rejection = over.await;
            if let Some(client) = client.upgrade() {
                client.send_away(&rejection).await;
            }
        });
        let _ = self.watch.set(AbortOnDropHandle::new(watch));
    }

    /// Tells a client why it may not stay, and ends its connection. It comes back when its page has a new token.
    async fn send_away(&self, rejection: &Rejection) {
        let Some(Place { socket, .. }) = self.place.get() else { return };
        let code = rejection.code.word();
        let details = || Some(Anything(json!({ "code": code })));
        let told = async {
            when_there_is_room(|| notify(socket, Severity::Error, rejection.message.clone(), details()))
                .await;
            // Pages of another kind listen for this.
            when_there_is_room(|| socket.emit("error", &json!({ "message": code }))).await;
        };
        let told = tokio::time::timeout(LAST_WORDS, told).await.is_ok();
        if (!told || socket.clone().disconnect().is_err())
            && let Some(link) = &self.link
        {
            link.kill();
        }
    }

    fn leave(&self) {
        self.guest.left.cancel();
        *self.inbox() = Inbox { work: Work::Over, ..Inbox::default() };
        if let Some(place) = self.place.get() {
            self.hub.unregister(place.id);
        }
    }

    /// Its place in the hub, if it has taken it.
    pub fn id(&self) -> Option<ClientId> {
        self.place.get().map(|place| place.id)
    }

    /// Whose jobs are its own, if it said who it is.
    pub fn subject(&self) -> Option<&str> {
        let caller = &self.guest.caller;
        (!caller.is_anonymous()).then(|| caller.subject())
    }

    /// Has the client do something in its turn and with its rights, as if it had asked for it itself.
    ///
    /// # Errors
    /// As it would be refused; and when it has left.
    pub async fn order(self: &Arc<Self>, event: &'static str, wish: Wish) -> Result<(), Rejection> {
        let (asker, mut told) = mpsc::channel(1);
        self.queue(Message { event, wish: Ok(wish), asker: Asker::Other(asker) });
        let gone = || Rejection::new(Code::Unavailable, "The client has left.");
        told.recv().await.unwrap_or_else(|| Err(gone()))
    }

    /// Takes up what a client says.
    fn hear(
        self: &Arc<Self>,
        socket: &SocketRef,
        event: &'static str,
        arguments: &[Value],
        wish: Result<Wish, Rejection>,
        answer: Option<Answer>,
    ) {
        numbers().socket_events_received.with_label_values(&[event]).inc();
        if let Some(trace) = &self.guest.trace {
            trace.said(socket.id, event, arguments);
        }
        self.queue(Message { event, wish, asker: Asker::Client(answer) });
    }

    /// Queues a message behind those that came before it.
    fn queue(self: &Arc<Self>, message: Message) {
        let mut inbox = self.inbox();
        if inbox.messages.len() >= self.limits.queued_messages {
            drop(inbox);
            let text = format!(
                "{} messages wait already; send the next when one is answered.",
                self.limits.queued_messages
            );
            // Who neither waits nor reads is not waited for.
            let _ = self.refuse(&message, &Rejection::new(Code::TooMany, text));
            return;
        }
        match inbox.work {
            Work::NotYet | Work::Going => inbox.messages.push_back(message),
            Work::Resting => {
                inbox.messages.push_back(message);
                inbox.work = Work::Going;
                tokio::spawn(self.clone().work().instrument(self.span()));
            }
            Work::Over => {}
        }
    }

    /// Works the queue off, one message after the other.
    async fn work(self: Arc<Self>) {
        loop {
            let message = {
                let mut inbox = self.inbox();
                match inbox.messages.pop_front() {
                    Some(message) => message,
                    None if inbox.work == Work::Over => return,
                    None => {
                        inbox.work = Work::Resting;
                        return;
                    }
                }
            };
            let outcome = match message.wish.clone() {
                Ok(wish) => self.fulfil(wish).await,
                Err(rejection) => Err(rejection.into()),
            };
            match outcome {
                Ok(answer) => match &message.asker {
                    Asker::Client(Some(asked)) => when_there_is_room(|| asked.give(&answer)).await,
                    Asker::Client(None) => {}
                    // Who does not wait for it any more is not told.
                    Asker::Other(asker) => drop(asker.try_send(Ok(()))),
                },
                Err(error) => {
                    let rejection = match error {
                        StoreError::Rejected(rejection) => rejection,
                        error => {
                            tracing::error!(%error, event = message.event, "a client's message could not be handled");
                            let text = "The server cannot reach its database; try again.";
                            Rejection::new(Code::Unavailable, text)
                        }
                    };
                    when_there_is_room(|| self.refuse(&message, &rejection)).await;
                }
            }
        }
    }

    /// Does what a client wants; returns what the acknowledgement says.
    async fn fulfil(self: &Arc<Self>, wish: Wish) -> Result<Value, StoreError> {
        let done = || json!({ "ok": true });
        let Some(Place { socket, id }) = self.place.get() else { return Ok(done()) };
        match wish {
            Wish::Subscribe { job, door, past } => {
                self.guest.caller.require(Scope::Read)?;
                let note = async |room| self.note(job, Some(room)).await;
                let head = self.hub.subscribe(*id, job, door, past, note).await?;
                Ok(json!({ "ok": true, "seq": head.seq, "status": head.status.word() }))
            }
            Wish::Unsubscribe { job, door } => {
                if let Some(room) = self.hub.unsubscribe(*id, job, door) {
                    self.note(job, room).await?;
                }
                Ok(done())
            }
            Wish::Order { job, order } => self.obey(job, order).await,
            Wish::Ping => {
                when_there_is_room(|| notify(socket, Severity::Info, "pong".into(), None)).await;
                Ok(done())
            }
        }
    }

    async fn obey(&self, job: JobId, order: Order) -> Result<Value, StoreError> {
        let store = self.hub.store();
        self.guest.caller.require(Scope::Write)?;
        if !self.guest.caller.sees(&store.owner(job).await?) {
            return Err(Rejection::job_not_found(job).into());
        }
        let status = match order {
            Order::Cancel => store.cancel(job).await?.status,
            Order::Pause => store.pause(job).await?.status,
            Order::Resume => store.resume(job).await?.status,
            Order::Retry => {
                let (status, job) = match store.retry(job).await? {
                    Retried::Same(status) => (status, job),
                    Retried::New(job) => (store.head(job).await?.status, job),
                };
                return Ok(json!({ "ok": true, "status": status.word(), "jobId": job }));
            }
        };
        Ok(json!({ "ok": true, "status": status.word() }))
    }

    /// Notes in the session that a room is another than before.
    async fn note(&self, job: JobId, room: Option<Room>) -> Result<(), StoreError> {
        let Some(session) = &self.session else { return Ok(()) };
        session.note(job, room).await
    }

    /// Says no: in the acknowledgement if one was asked for, else by a notification.
    fn refuse(&self, message: &Message, rejection: &Rejection) -> Result<(), SendError> {
        let code = rejection.code.word();
        match (&message.asker, self.place.get()) {
            (Asker::Other(asker), _) => {
                let _ = asker.try_send(Err(rejection.clone()));
                Ok(())
            }
            (Asker::Client(Some(answer)), _) => {
                let error = json!({ "code": code, "message": rejection.message });
                answer.give(&json!({ "ok": false, "error": error }))
            }
            (Asker::Client(None), Some(place)) => {
                let details = Anything(json!({ "event": message.event, "code": code }));
                notify(&place.socket, Severity::Error, rejection.message.clone(), Some(details))
            }
            (Asker::Client(None), None) => Ok(()),
        }
    }

    /// What the log calls it.
    fn span(&self) -> tracing::Span {
        tracing::info_span!("socket", socket = self.link.as_ref().map(|link| link.number()))
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends as soon as the socket's buffer has room: events may have filled it, and an answer comes once.
async fn when_there_is_room(send: impl Fn() -> Result<(), SendError>) {
    let mut pause = PAUSES.0;
    while let Err(SendError::Socket(SocketError::InternalChannelFull)) = send() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn notify(
    socket: &SocketRef,
    severity: Severity,
    message: String,
    details: Option<Anything>,
) -> Result<(), SendError> {
    let event = Event::from(SystemNotification { r#type: severity, message, details });
    // No position: the payload is the only argument and no string, so the client's offset stays what it was.
    socket.emit(event.name(), &event.encode(None, Utc::now()))
}
