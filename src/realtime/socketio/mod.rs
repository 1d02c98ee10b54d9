//! The Socket.IO door: namespace `/`, rooms `job:<id>` and `automation:<id>`, for clients of version 2, 3 and 4.
//!
//! Four things that the library's documented style would lose events by are done differently here. Handlers are
//! registered in a connect *middleware*, for a client's first message may arrive before the connect handler runs. A
//! message is taken up in the order in which it came (the library runs handlers' futures side by side), so the
//! handler itself only queues it and one task a socket works the queue off. A full buffer is not an error to be
//! logged: the hub feeds that socket from the journal, and an answer waits for room. And a client that comes back is
//! given its session again ([`session`](super::session)), which the library knows nothing of: the [`transport`] shim
//! tells it so.
//!
//! The hub knows who is in which room; the library's own rooms are not used.

mod admin;
mod client;
mod message;
mod outlet;
mod transport;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use serde_json::Value;
use socketioxide::{
    ProtocolVersion, SocketIo, TransportType,
    extract::{SocketRef, TryData},
    handler::ConnectHandler,
    socket::DisconnectReason,
};
use tokio_util::sync::CancellationToken;

use self::{
    admin::Admin,
    client::{Client, Guest},
    transport::{Limits, Link, Links},
};
pub use self::{
    admin::hash_password,
    transport::{Counters, FORWARDED_FOR, Transport},
};
use super::{
    hub::{Hub, Standing},
    session::{Claim, Holder, Session, Sessions},
};
use crate::{
    config,
    identity::{Credentials, Identity},
    job::{Code, Principal, Rejection},
    store::{Addresses, StoreError},
};

/// How often a client's session is asked for while the database does not answer; then it is sent away to come back.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// The namespace of pages whose address of the server ends in a path.
const APART: &str = "/api/v1";
/// Memory of the library's reader for each WebSocket; larger messages make it grow.
const READ_BUFFER: usize = 512;

/// What a dialect says and hears over Socket.IO beside the server's events.
pub trait Words: Send + Sync + 'static {
    /// Registers handlers of a socket that is about to connect; `left` is cancelled when it leaves.
    fn add(self: Arc<Self>, socket: &SocketRef, left: CancellationToken);
}

/// Rooms of a dialect's own that a socket is in; among its extensions, for those who look on.
#[derive(Default)]
pub struct MoreRooms(Mutex<BTreeSet<String>>);

impl MoreRooms {
    pub fn enter(&self, name: String) {
        self.rooms().insert(name);
    }

    pub fn leave(&self, name: &str) {
        self.rooms().remove(name);
    }

    fn names(&self) -> Vec<String> {
        self.rooms().iter().cloned().collect()
    }

    fn rooms(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All Socket.IO clients of this process.
pub struct Sockets {
    io: SocketIo,
    links: Arc<Links>,
    /// Ends before the sockets do that it looks at.
    admin: Mutex<Option<Admin>>,
}

/// Builds what answers `/socket.io/`, and the handle on all sockets.
///
/// Events are told with `addresses` that are good from then on. Pages of other origins than `origins` may not connect.
#[expect(clippy::too_many_arguments, reason = "each is a part of the house, and there is one caller")]
pub fn start(
    hub: Arc<Hub>,
    sessions: Arc<Sessions>,
    identity: Arc<Identity>,
    words: Arc<dyn Words>,
    addresses: Addresses,
    origins: &[String],
    settings: &config::Realtime,
    admin_ui: &config::AdminUi,
) -> (Transport, Sockets) {
    let (service, io) = SocketIo::builder()
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .max_payload(settings.max_message as u64)
        .ws_max_message_size(settings.max_message)
        .ws_max_frame_size(settings.max_message)
        .ws_read_buffer_size(READ_BUFFER)
        .max_buffer_size(settings.max_buffered_packets)
        .transports([TransportType::Polling, TransportType::Websocket])
        .build_with_inner_svc(axum::Router::new());
    let links = Links::new(Limits {
        max_packets: settings.max_buffered_packets,
        max_waiting: settings.max_buffered_bytes,
        stall: settings.stall_timeout,
    });
    let trace = admin::trace(admin_ui);
    let admin = admin::start(&io, hub.clone(), links.clone(), trace.clone(), admin_ui);
    let limits = client::Limits { queued_messages: settings.max_queued_messages };
    let connected = |socket: SocketRef| async move {
        if let Some(client) = socket.extensions.get::<Arc<Client>>() {
            client.enter(socket);
        }
    };
    let apart = {
        let (identity, words, trace) = (identity.clone(), words.clone(), trace.clone());
        move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let (identity, words, trace) = (identity.clone(), words.clone(), trace.clone());
            async move {
                let link = socket.req_parts().extensions.get::<Arc<Link>>().cloned();
                let auth = auth.ok();
                note_generation(&socket, link.as_ref());
                let opening = socket.req_parts();
                let credentials =
                    Credentials::of_socket(auth.as_ref(), &opening.headers, opening.uri.query());
                identify(&identity, &credentials, link.as_ref()).await?;
                let left = CancellationToken::new();
                words.add(&socket, left.clone());
                socket.on_disconnect(move |socket: SocketRef, reason: DisconnectReason| {
                    left.cancel();
                    if let Some(trace) = &trace {
                        trace.left(APART, socket.id, reason);
                    }
                    std::future::ready(())
                });
                Ok::<(), &'static str>(())
            }
        }
    };
    let prepare = move |socket: SocketRef, TryData(auth): TryData<Value>| {
        let (hub, sessions, addresses) = (hub.clone(), sessions.clone(), addresses.clone());
        let (identity, words, trace) = (identity.clone(), words.clone(), trace.clone());
        async move {
            let link = socket.req_parts().extensions.get::<Arc<Link>>().cloned();
            note_generation(&socket, link.as_ref());
            let auth = auth.ok();
            let opening = socket.req_parts();
            let credentials = Credentials::of_socket(auth.as_ref(), &opening.headers, opening.uri.query());
            let caller = identify(&identity, &credentials, link.as_ref()).await?;
            let (session, standing) = match socket.protocol() {
                // It would keep neither a pid nor an offset.
                ProtocolVersion::V4 => (None, Standing::new(hub.delivered())),
                ProtocolVersion::V5 => {
                    let begun = begin(&sessions, claim(auth), &caller, link.as_ref());
                    let (session, standing) = begun.await?;
                    (Some(session), standing)
                }
            };
            if let (Some(session), Some(link)) = (&session, &link) {
                link.greeting.set(session.pid.clone());
            }
            let left = CancellationToken::new();
            words.add(&socket, left.clone());
            let standing = standing.of(caller.clone());
            Client::prepare(
                &socket,
                hub,
                session,
                standing,
                link,
                limits,
                addresses,
                Guest { caller, identity, left, trace },
            );
            Ok::<(), &'static str>(())
        }
    };
    io.ns("/", connected.with(prepare));
    // Pages whose address of the server has a path connect there; they have the dialects' words alone.
    io.ns(APART, (|| std::future::ready(())).with(apart));
    (Transport::new(service, links.clone(), origins.into()), Sockets { io, links, admin: Mutex::new(admin) })
}

impl Sockets {
    /// What went over all connections since the start.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.links.counters
    }

    /// Lets nobody in any more, and sends everybody away over a stretch of time, so that they come back by themselves
    /// to whoever serves then.
    pub async fn drain(&self, over: Duration) {
        drop(self.admin.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.links.refuse();
        self.links.drain(over).await;
        // Those that are polling.
        self.io.close().await;
    }
}

impl Holder for Link {
    fn let_go(&self) {
        self.kill();
    }
}

/// Counts a connection by the version of its client's library.
fn note_generation(socket: &SocketRef, link: Option<&Arc<Link>>) {
    if let Some(link) = link {
        link.set_generation(match socket.protocol() {
            ProtocolVersion::V4 => "2",
            ProtocolVersion::V5 => "3-4",
        });
    }
}

/// Who connects. The refusal is a code: a page compares it, and shows a text of its own.
async fn identify(
    identity: &Identity,
    credentials: &Credentials,
    link: Option<&Arc<Link>>,
) -> Result<Principal, &'static str> {
    for _ in 0..TRIES {
        match identity.authenticate(credentials).await {
            Ok(caller) => return Ok(caller),
            Err(Rejection { code: Code::Unavailable, .. }) => tokio::time::sleep(PAUSE).await,
            Err(rejection) => return Err(rejection.code.word()),
        }
    }
    // As below.
    if let Some(link) = link {
        link.kill();
    }
    Err(Code::Unavailable.word())
}

/// Begins or continues a session; a database that is away is waited for.
async fn begin(
    sessions: &Arc<Sessions>,
    claim: Option<Claim>,
    caller: &Principal,
    link: Option<&Arc<Link>>,
) -> Result<(Session, Standing), &'static str> {
    let holder: Weak<dyn Holder> = match link {
        Some(link) => Arc::downgrade(link) as Weak<dyn Holder>,
        None => Weak::<Link>::new(),
    };
    for _ in 0..TRIES {
        let principal = (!caller.is_anonymous()).then(|| caller.subject().to_owned());
        match sessions.begin(claim.clone(), principal, holder.clone()).await {
            Ok(begun) => return Ok(begun),
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::error!(%error, "a session could not be read");
                break;
            }
        }
    }
    // A refusal would keep the client away for good; one whose connection breaks tries again.
    if let Some(link) = link {
        link.kill();
    }
    Err("The server cannot reach its database; try again.")
}

/// The session that a client was in, from its CONNECT packet.
fn claim(auth: Option<Value>) -> Option<Claim> {
    let auth = auth?;
    let pid = auth.get("pid")?.as_str()?.to_owned();
    let offset = auth.get("offset").and_then(Value::as_str).map(str::to_owned);
    Some(Claim { pid, offset })
}
