//! The official Socket.IO Admin UI: its page connects to the namespace `/admin` and shows this server's sockets.
//!
//! The page is the library's own (npm `@socket.io/admin-ui`) and is told what it is told by Node's server: the events are
//! `session`, `config`, `server_stats`, and in development mode `all_sockets` and what changes in it. It may have sockets
//! join and leave rooms and go; it may not have them told anything, for nobody is told what is not in the journal.
//! Who may look on, says [`gate`]; what never leaves, [`shown`].

mod act;
mod gate;
mod shown;
mod trace;
mod watch;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{SocketRef, TryData},
    handler::ConnectHandler,
    socket::DisconnectReason,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use self::{
    act::{ACTIONS, Action, Hands, Order},
    gate::Gate,
    shown::Room,
    watch::Watch,
};
pub use self::{gate::hash_password, trace::Trace};
use super::{
    APART,
    client::Client,
    message::{Arguments, Asked},
    transport::{Link, Links},
};
use crate::{
    config::{AdminMode, AdminUi},
    job::{Code, Rejection},
    realtime::hub::{ClientId, Hub},
};

const NAMESPACE: &str = "/admin";
const MAIN: &str = "/";
/// Those that are shown.
const NAMESPACES: [&str; 3] = [MAIN, APART, NAMESPACE];
/// Pages that look on at once.
const MAX_PAGES: usize = 16;
/// Orders of all pages that may wait.
const MAX_ORDERS: usize = 32;
/// Sockets whose rooms are looked up at once.
const PORTION: usize = 256;

/// The Admin UI's end; it ends with the value.
pub struct Admin {
    _watch: AbortOnDropHandle<()>,
    _hands: AbortOnDropHandle<()>,
}

/// A page that was let in.
struct Seat {
    /// By what it comes back, if it has shown the password.
    pass: Option<String>,
    greeted: AtomicBool,
    _place: OwnedSemaphorePermit,
}

/// Where messages are kept for those who look on; none where nobody may see them.
pub fn trace(settings: &AdminUi) -> Option<Arc<Trace>> {
    (settings.enabled && settings.mode == AdminMode::Development).then(Arc::default)
}

/// Lets pages in from now on, if the settings say so.
pub fn start(
    io: &SocketIo,
    hub: Arc<Hub>,
    links: Arc<Links>,
    trace: Option<Arc<Trace>>,
    settings: &AdminUi,
) -> Option<Admin> {
    if !settings.enabled {
        return None;
    }
    let gate = Arc::new(Gate::new(&settings.username, &settings.password_hash));
    let news = Arc::new(Notify::new());
    let places = Arc::new(Semaphore::new(MAX_PAGES));
    let (order, orders) = mpsc::channel(MAX_ORDERS);
    let hands = Hands { hub: hub.clone(), aliases: links.aliases.clone(), tells: trace.is_some() };
    let hands = tokio::spawn(hands.work(orders));
    let watch = Watch {
        io: io.clone(),
        hub,
        links,
        trace: trace.clone(),
        news: news.clone(),
        since: tokio::time::Instant::now(),
        state: watch::State::default(),
    };
    let watch = tokio::spawn(watch.run());
    let features = features(settings);
    let greet = move |socket: SocketRef| {
        if let Some(seat) = socket.extensions.get::<Arc<Seat>>() {
            if let Some(pass) = &seat.pass {
                let _ = socket.emit("session", pass);
            }
            let _ = socket.emit("config", &json!({ "supportedFeatures": features }));
            seat.greeted.store(true, Ordering::Relaxed);
            news.notify_one();
        }
        std::future::ready(())
    };
    let read_only = settings.read_only;
    let admit = move |socket: SocketRef, TryData(shown): TryData<Value>| {
        let (gate, places, order, trace) = (gate.clone(), places.clone(), order.clone(), trace.clone());
        async move {
            let peer = socket.req_parts().extensions.get::<Arc<Link>>().and_then(|link| link.peer);
            let admitted = gate.admit(shown.ok().as_ref(), peer.map(|peer| peer.ip())).await;
            let pass = admitted.inspect_err(|why| {
                tracing::warn!(?peer, why, "somebody was not let into the Admin UI");
            })?;
            let place = places.try_acquire_owned();
            let place = place.map_err(|_| format!("{MAX_PAGES} pages look on already; close one"))?;
            let seat = Seat { pass, greeted: AtomicBool::new(false), _place: place };
            socket.extensions.insert(Arc::new(seat));
            if !read_only {
                take_orders(&socket, &order);
            }
            if let Some(trace) = trace {
                socket.on_disconnect(move |socket: SocketRef, reason: DisconnectReason| {
                    trace.left(NAMESPACE, socket.id, reason);
                    std::future::ready(())
                });
            }
            tracing::info!(?peer, "somebody looks on with the Admin UI");
            Ok::<(), String>(())
        }
    };
    io.ns(NAMESPACE, greet.with(admit));
    Some(Admin { _watch: AbortOnDropHandle::new(watch), _hands: AbortOnDropHandle::new(hands) })
}

/// What the page offers to do.
fn features(settings: &AdminUi) -> Vec<&'static str> {
    let mut features = vec!["AGGREGATED_EVENTS"];
    if settings.mode == AdminMode::Development {
        features.push("ALL_EVENTS");
    }
    if !settings.read_only {
        features.extend(["JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT"]);
    }
    features
}

/// Lets a page have things done.
fn take_orders(socket: &SocketRef, order: &mpsc::Sender<Order>) {
    for event in ACTIONS {
        let order = order.clone();
        socket.on(
            event,
            move |io: SocketIo,
                  admin: SocketRef,
                  TryData(arguments): TryData<Arguments>,
                  Asked(answer): Asked| {
                let arguments = arguments.map(|arguments| arguments.0).unwrap_or_default();
                let action = Action::read(event, &arguments);
                if let Err(full) = order.try_send(Order { io, admin, event, action, answer })
                    && let Some(answer) = full.into_inner().answer
                {
                    let busy = Rejection::new(Code::TooMany, "Other actions wait already; try again.");
                    let error = json!({ "code": busy.code.word(), "message": busy.message });
                    let _ = answer.give(&json!({ "ok": false, "error": error }));
                }
                std::future::ready(())
            },
        );
    }
}

/// The rooms of some sockets, in their order.
async fn rooms(hub: &Hub, sockets: &[SocketRef]) -> Vec<Vec<Room>> {
    let mut all = Vec::with_capacity(sockets.len());
    for portion in sockets.chunks(PORTION) {
        let clients: Vec<Option<Arc<Client>>> =
            portion.iter().map(|socket| socket.extensions.get::<Arc<Client>>()).collect();
        let ids: Vec<Option<ClientId>> =
            clients.iter().map(|client| client.as_ref().and_then(|client| client.id())).collect();
        let mut of_jobs = hub.rooms_of(&ids.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        for (socket, id) in portion.iter().zip(ids) {
            let of_jobs = id.and_then(|_| of_jobs.next()).unwrap_or_default();
            let mut rooms: Vec<Room> = of_jobs.into_iter().map(|(job, door)| Room::Job(job, door)).collect();
            let others = socket.extensions.get::<Arc<super::MoreRooms>>();
            rooms.extend(others.iter().flat_map(|others| others.names()).map(Room::Other));
            all.push(rooms);
        }
        // Crowds are looked at between other work.
        tokio::task::yield_now().await;
    }
    all
}
