//! A client of a running server: live events over Socket.IO, the REST calls of the command line, and a [`Follower`]
//! that stays with a job to its end.

mod follower;
pub(super) mod packet;
mod remote;
mod rest;

use std::{collections::HashMap, future::Future, time::Duration};

use futures_util::{SinkExt, StreamExt};
use reqwest::{StatusCode, header};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::ProtocolError,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use url::Url;

pub use follower::{Follower, News, Told};
pub use remote::Remote;
pub(super) use rest::shown;
pub use rest::{PriceListJob, Spreadsheet, import, job, jobs, order, submit, submit_with_price_list};

use crate::job::Code;
use packet::{Opening, Packet};

/// Time for a connection to stand, from the name's look-up to the namespace's welcome.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for one message to leave.
const WRITE: Duration = Duration::from_secs(20);
/// Time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Events and messages of a connection that may wait.
const WAITING_EVENTS: usize = 256;
const WAITING_MESSAGES: usize = 32;
/// Largest message that is taken from a server.
const MAX_MESSAGE: usize = 4_000_000;

/// Why a server could not be asked or heard.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is no server's address; write it as http://host:port or https://host")]
    NotAnAddress(String),
    #[error("nothing answers at {0}; is `jobcast serve` running there?")]
    NothingThere(String),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// It answered, and said no.
    #[error("{message}")]
    Refused {
        message: String,
        /// Whether the same call may succeed later.
        may_pass: bool,
    },
    #[error("{0} does not speak Socket.IO as Jobcast does: {1}")]
    Foreign(String, String),
    #[error("the connection to {0} ended: {1}")]
    Disconnected(String, String),
    #[error("the server did not answer {what} within {} seconds", .within.as_secs_f32())]
    NoAnswer { what: String, within: Duration },
    #[error("no HTTP client can be made: {0}; for https the package ca-certificates must be installed")]
    Client(String),
}

impl ClientError {
    /// Whether it is worth trying again: the server may be starting, or the network may come back.
    pub fn may_pass(&self) -> bool {
        match self {
            ClientError::NothingThere(_)
            | ClientError::Unreachable(..)
            | ClientError::Disconnected(..)
            | ClientError::NoAnswer { .. } => true,
            ClientError::Refused { may_pass, .. } => *may_pass,
            ClientError::NotAnAddress(_) | ClientError::Foreign(..) | ClientError::Client(_) => false,
        }
    }
}

/// An event as it came.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub name: String,
    /// Its first argument; `null` if it has none.
    pub payload: Box<RawValue>,
    /// Its place in the server's journal: the last argument, if that is a string behind the payload.
    pub offset: Option<String>,
}

/// A connection to the namespace `/`, kept by one task. Dropping it closes the connection.
///
/// At most 256 events wait for [`Client::next_event`]; then nothing more is read, acknowledgements neither, until
/// some are taken. Who awaits an acknowledgement behind many events must take events at the same time.
#[derive(Debug)]
pub struct Client {
    server: String,
    outbox: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<Result<Incoming, ClientError>>,
}

#[derive(Debug)]
struct Outgoing {
    body: String,
    answer: Option<oneshot::Sender<Value>>,
}

impl Client {
    /// Connects to a server, within 10 seconds.
    pub async fn connect(base: &Remote) -> Result<Client, ClientError> {
        let late = || ClientError::Unreachable(rest::shown(base), "it does not answer in time".into());
        timeout(HANDSHAKE, Client::shake_hands(base)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn shake_hands(base: &Remote) -> Result<Client, ClientError> {
        let mut wire = Wire::open(base).await?;
        let opening = match Packet::read(&wire.receive().await?) {
            Ok(Packet::Opening(opening)) => opening,
            Ok(other) => return Err(wire.foreign(format!("it began with {other:?}"))),
            Err(malformed) => return Err(wire.foreign(malformed)),
        };
        wire.send(base.connect_packet().into()).await?;
        loop {
            match Packet::read(&wire.receive().await?).map_err(|malformed| wire.foreign(malformed))? {
                Packet::Connected => break,
                Packet::Refused(message) => return Err(ClientError::Refused { message, may_pass: false }),
                Packet::Ping => wire.send(packet::PONG.into()).await?,
                Packet::Close | Packet::Disconnected => return Err(wire.ended("the server closed it")),
                _ => {}
            }
        }
        let server = wire.server.clone();
        let (outbox, messages) = mpsc::channel(WAITING_MESSAGES);
        let (inbox, events) = mpsc::channel(WAITING_EVENTS);
        tokio::spawn(keep(wire, opening, messages, inbox));
        Ok(Client { server, outbox, events })
    }

    /// Sends an event; waits while 32 messages wait to leave.
    pub async fn emit(&self, event: &str, arguments: &[Value]) -> Result<(), ClientError> {
        let outgoing = Outgoing { body: packet::body(event, arguments), answer: None };
        self.outbox.send(outgoing).await.map_err(|_| self.is_closed())
    }

    /// Sends an event and waits for its acknowledgement's first value (`null` if it has none). The future does not
    /// borrow the client, so that events can be taken meanwhile.
    pub fn emit_with_ack(
        &self,
        event: &str,
        arguments: &[Value],
        within: Duration,
    ) -> impl Future<Output = Result<Value, ClientError>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { body: packet::body(event, arguments), answer: Some(answer) };
        let outbox = self.outbox.clone();
        let closed = self.is_closed();
        let late = ClientError::NoAnswer { what: event.to_owned(), within };
        async move {
            let asking = async {
                outbox.send(outgoing).await.ok()?;
                answered.await.ok()
            };
            match timeout(within, asking).await {
                Ok(answer) => answer.ok_or(closed),
                Err(_) => Err(late),
            }
        }
    }

    /// The next event. An error tells why the connection ended; none comes after it.
    pub async fn next_event(&mut self) -> Result<Incoming, ClientError> {
        self.events.recv().await.unwrap_or_else(|| Err(self.is_closed()))
    }

    fn is_closed(&self) -> ClientError {
        ClientError::Disconnected(self.server.clone(), "it is closed".into())
    }
}

/// Keeps a connection: answers pings, passes events and answers on, sends messages, until it or its client ends.
async fn keep(
    mut wire: Wire,
    opening: Opening,
    mut messages: mpsc::Receiver<Outgoing>,
    inbox: mpsc::Sender<Result<Incoming, ClientError>>,
) {
    if let Err(why) = pump(&mut wire, opening, &mut messages, &inbox).await {
        // Who waits for an answer learns at once that none comes; the reason stands behind the last event.
        drop(messages);
        let _ = inbox.send(Err(why)).await;
    }
    let _ = timeout(GOODBYE, wire.socket.close(None)).await;
}

/// Ends well when the client was dropped.
async fn pump(
    wire: &mut Wire,
    opening: Opening,
    messages: &mut mpsc::Receiver<Outgoing>,
    inbox: &mpsc::Sender<Result<Incoming, ClientError>>,
) -> Result<(), ClientError> {
    let patience = Duration::from_millis(u64::from(opening.ping_interval) + u64::from(opening.ping_timeout));
    let mut heard = Instant::now();
    let silence = sleep_until(heard + patience);
    tokio::pin!(silence);
    let mut unanswered: HashMap<u64, oneshot::Sender<Value>> = HashMap::new();
    let mut last_id = 0;
    // An event is read only when there is room for it; the server waits meanwhile.
    let mut room = None;
    loop {
        tokio::select! {
            permit = inbox.reserve(), if room.is_none() => {
                let Ok(permit) = permit else { return Ok(()) };
                room = Some(permit);
                // Silence counts only while we listen.
                heard = Instant::now();
            }
            () = inbox.closed(), if room.is_some() => return Ok(()),
            message = messages.recv() => {
                let Some(Outgoing { body, answer }) = message else { return Ok(()) };
                let id = answer.map(|answer| {
                    unanswered.retain(|_, answer| !answer.is_closed());
                    last_id += 1;
                    unanswered.insert(last_id, answer);
                    last_id
                });
                wire.send(packet::event(&body, id).into()).await?;
            }
            text = wire.receive(), if room.is_some() => {
                let text = text?;
                heard = Instant::now();
                match Packet::read(&text).map_err(|malformed| wire.foreign(malformed))? {
                    Packet::Ping => wire.send(packet::PONG.into()).await?,
                    Packet::Event { name, arguments } => {
                        if let Some(room) = room.take() {
                            room.send(Ok(incoming(&name, &arguments)));
                        }
                    }
                    Packet::Acknowledgement { id, answer } => {
                        if let Some(waiting) = unanswered.remove(&id) {
                            let answer = answer.map_or(Ok(Value::Null), |answer| serde_json::from_str(answer.get()));
                            let _ = waiting.send(answer.map_err(|error| wire.foreign(error))?);
                        }
                    }
                    Packet::Close | Packet::Disconnected => return Err(wire.ended("the server closed it")),
                    Packet::Opening(_) | Packet::Connected | Packet::Refused(_) | Packet::Other => {}
                }
            }
            () = &mut silence, if room.is_some() => {
                if heard + patience <= Instant::now() {
                    return Err(wire.ended("the server has fallen silent"));
                }
                silence.as_mut().reset(heard + patience);
            }
        }
    }
}

fn incoming(name: &str, arguments: &[&RawValue]) -> Incoming {
    let payload = arguments.first().map_or(RawValue::NULL, |payload| payload);
    let offset = arguments.get(1..).and_then(|behind| behind.last());
    Incoming {
        name: name.to_owned(),
        payload: payload.to_owned(),
        offset: offset.and_then(|offset| serde_json::from_str(offset.get()).ok()),
    }
}

/// A WebSocket that carries text.
struct Wire {
    /// For messages.
    server: String,
    socket: WebSocketStream<reqwest::Upgraded>,
}

impl Wire {
    /// The HTTP library makes the connection, so that names, TLS and errors are the same as for REST calls.
    async fn open(base: &Url) -> Result<Wire, ClientError> {
        let key = generate_key();
        let request = rest::http(base)?
            .get(rest::address(base, "socket.io/?EIO=4&transport=websocket"))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(|error| rest::unreachable(base, &error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(rest::refusal(base, response).await);
        }
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
            return Err(ClientError::Foreign(rest::shown(base), "its WebSocket handshake is wrong".into()));
        }
        let upgraded = response.upgrade().await.map_err(|error| rest::unreachable(base, &error))?;
        // Small buffers, for thousands of connections may stand in one process.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Wire { server: rest::shown(base), socket })
    }

    /// The next text; binary messages are attachments of events that this client does not use.
    async fn receive(&mut self) -> Result<Utf8Bytes, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(_))) | None => return Err(self.ended("the server closed it")),
                Some(Ok(_)) => {}
                Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    return Err(self.ended("the server went away"));
                }
                Some(Err(error)) => return Err(self.ended(error)),
            }
        }
    }

    async fn send(&mut self, text: Utf8Bytes) -> Result<(), ClientError> {
        match timeout(WRITE, self.socket.send(Message::Text(text))).await {
            Ok(sent) => sent.map_err(|error| self.ended(error)),
            Err(_) => Err(self.ended("the server takes no messages")),
        }
    }

    fn ended(&self, why: impl ToString) -> ClientError {
        ClientError::Disconnected(self.server.clone(), why.to_string())
    }

    fn foreign(&self, why: impl ToString) -> ClientError {
        ClientError::Foreign(self.server.clone(), why.to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{
        Router,
        extract::ws::{self, WebSocket, WebSocketUpgrade},
        response::IntoResponse,
        routing::get,
    };
    use serde_json::json;

    use super::*;

    /// Serves routes on a free port; returns their address.
    pub(crate) async fn serve(router: Router) -> Remote {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        base.into()
    }

    /// The server's end of a conversation.
    pub(crate) struct Peer(WebSocket);

    impl From<WebSocket> for Peer {
        fn from(socket: WebSocket) -> Peer {
            Peer(socket)
        }
    }

    impl Peer {
        pub(crate) async fn say(&mut self, text: impl Into<String>) {
            // A client that has left hears nothing; its test finds out by itself.
            let _ = self.0.send(ws::Message::Text(text.into().into())).await;
        }

        /// The client's next text; `None` when it has left.
        pub(crate) async fn hear(&mut self) -> Option<String> {
            loop {
                match self.0.recv().await {
                    Some(Ok(ws::Message::Text(text))) => return Some(text.to_string()),
                    Some(Ok(ws::Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        }

        /// Speaks the handshake as a server that pings every 25 seconds.
        pub(crate) async fn welcome(&mut self) {
            self.welcome_with(25_000, 60_000).await;
        }

        async fn welcome_with(&mut self, ping_interval: u32, ping_timeout: u32) {
            let opening = json!({ "sid": "a", "pingInterval": ping_interval, "pingTimeout": ping_timeout });
            self.say(format!("0{opening}")).await;
            assert_eq!(self.hear().await.as_deref(), Some("40"));
            self.say(r#"40{"sid":"b"}"#).await;
        }
    }

    /// A server that holds every conversation by `script`, which is told how many there were before.
    pub(crate) async fn fake<F>(script: impl Fn(Peer, usize) -> F + Clone + Send + Sync + 'static) -> Remote
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let before = Arc::new(AtomicUsize::new(0));
        let door = move |upgrade: WebSocketUpgrade| async move {
            let number = before.fetch_add(1, Ordering::SeqCst);
            upgrade.on_upgrade(move |socket| script(Peer(socket), number)).into_response()
        };
        serve(Router::new().route("/socket.io/", get(door))).await
    }

    async fn stay(mut peer: Peer) {
        while peer.hear().await.is_some() {}
    }

    #[tokio::test]
    async fn events_arrive_with_payload_and_offset() {
        let base = fake(|mut peer, _| async move {
            peer.welcome().await;
            peer.say(r#"42["job:updated",{"progress":3},"17"]"#).await;
            peer.say(r#"42["system:notification",{"message":"pong"}]"#).await;
            peer.say(r#"42["alone"]"#).await;
            stay(peer).await;
        })
        .await;
        let mut client = Client::connect(&base).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let event = client.next_event().await.unwrap();
            seen.push((event.name, event.payload.get().to_owned(), event.offset));
        }
        let expected = [
            ("job:updated", r#"{"progress":3}"#, Some("17")),
            ("system:notification", r#"{"message":"pong"}"#, None),
            ("alone", "null", None),
        ];
        assert_eq!(seen, expected.map(|(n, p, o)| (n.to_owned(), p.to_owned(), o.map(str::to_owned))));
    }

    #[tokio::test]
    async fn pings_are_answered_and_foreign_packets_passed_over() {
        let base = fake(|mut peer, _| async move {
            peer.welcome().await;
            peer.say(r#"451-["picture",{"_placeholder":true,"num":0}]"#).await;
            let _ = peer.0.send(ws::Message::Binary(vec![0, 159].into())).await;
            peer.say("6").await;
            peer.say("2").await;
            assert_eq!(peer.hear().await.as_deref(), Some("3"));
            peer.say(r#"42["heard"]"#).await;
            stay(peer).await;
        })
        .await;
        let mut client = Client::connect(&base).await.unwrap();
        assert_eq!(client.next_event().await.unwrap().name, "heard");
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_given_up() {
        let base = fake(|mut peer, _| async move {
            peer.welcome_with(20, 30).await;
            stay(peer).await;
        })
        .await;
        let mut client = Client::connect(&base).await.unwrap();
        let error = client.next_event().await.unwrap_err();
        assert!(error.may_pass());
        assert!(error.to_string().ends_with("the server has fallen silent"), "{error}");
        assert!(client.next_event().await.is_err(), "it stays ended");
        assert!(client.emit("ping", &[]).await.is_err(), "nothing can be said any more");
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_ends_the_connection() {
        let base = fake(|mut peer, _| async move {
            peer.welcome().await;
            peer.say(format!("42[\"large\",\"{}\"]", "x".repeat(MAX_MESSAGE))).await;
            stay(peer).await;
        })
        .await;
        let mut client = Client::connect(&base).await.unwrap();
        assert!(matches!(client.next_event().await, Err(ClientError::Disconnected(..))));
    }

    #[tokio::test]
    async fn a_server_that_speaks_nonsense_is_not_tried_again() {
        let base = fake(|mut peer, _| async move {
            peer.say("hello").await;
            stay(peer).await;
        })
        .await;
        let error = Client::connect(&base).await.unwrap_err();
        assert!(!error.may_pass(), "{error}");
        let base = serve(Router::new().route("/", get(|| async { "a page" }))).await;
        let error = Client::connect(&base).await.unwrap_err();
        assert!(!error.may_pass(), "{error}");
        assert!(error.to_string().contains("404 Not Found"), "{error}");
    }

    #[tokio::test]
    async fn a_namespace_that_refuses_says_why() {
        let base = fake(|mut peer, _| async move {
            peer.say(r#"0{"pingInterval":1000,"pingTimeout":1000}"#).await;
            peer.hear().await;
            peer.say(r#"44{"message":"show your token"}"#).await;
            stay(peer).await;
        })
        .await;
        assert_eq!(Client::connect(&base).await.unwrap_err().to_string(), "show your token");
    }

    #[tokio::test]
    async fn an_answer_behind_more_events_than_may_wait_is_found() {
        const EVENTS: usize = 3 * WAITING_EVENTS;
        let base = fake(|mut peer, _| async move {
            peer.welcome().await;
            assert_eq!(peer.hear().await.as_deref(), Some(r#"421["ask",5]"#));
            for i in 0..EVENTS {
                peer.say(format!(r#"42["n",{i}]"#)).await;
            }
            peer.say(r#"431[{"ok":true}]"#).await;
            stay(peer).await;
        })
        .await;
        let mut client = Client::connect(&base).await.unwrap();
        let answer = tokio::spawn(client.emit_with_ack("ask", &[json!(5)], Duration::from_secs(60)));
        for i in 0..EVENTS {
            assert_eq!(client.next_event().await.unwrap().payload.get(), i.to_string());
        }
        assert_eq!(answer.await.unwrap().unwrap(), json!({ "ok": true }));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_an_error() {
        let base = fake(|mut peer, number| async move {
            peer.welcome().await;
            peer.hear().await;
            if number == 0 {
                stay(peer).await;
            }
        })
        .await;
        let silent = Client::connect(&base).await.unwrap();
        let error = silent.emit_with_ack("ask", &[], Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.to_string(), "the server did not answer ask within 0.02 seconds");
        let leaving = Client::connect(&base).await.unwrap();
        let error = leaving.emit_with_ack("ask", &[], Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, ClientError::Disconnected(..)), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_client_closes_its_connection() {
        let (left, has_left) = tokio::sync::watch::channel(false);
        let base = fake(move |mut peer, _| {
            let left = left.clone();
            async move {
                peer.welcome().await;
                while peer.hear().await.is_some() {}
                left.send_replace(true);
            }
        })
        .await;
        drop(Client::connect(&base).await.unwrap());
        has_left.clone().wait_for(|left| *left).await.unwrap();
    }
}
