//! What the page is told: load and counts every two seconds, and in development mode every socket.
//!
//! Nothing reports its changes here. In rounds, and only while somebody looks on, all sockets are looked at and what is
//! different from the round before is told; so what is shown is what is there, and the work has a bound: a round costs at
//! most a tenth of a processor, a crowd that comes or goes at once is told as one new list, and a page that is behind
//! gets the newest list when it has taken what it was sent before.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chrono::Utc;
use serde::{Serialize, Serializer, ser::SerializeTuple as _};
use serde_json::{Value, json, value::RawValue};
use socketioxide::{SocketIo, TransportType, extract::SocketRef, socket::Sid};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};

use super::{
    NAMESPACE, NAMESPACES, Seat, rooms,
    shown::{self, Room},
    trace::{Message, Trace, What},
};
use crate::realtime::{
    hub::Hub,
    socketio::{
        client::Client,
        transport::{Link, Links},
    },
};

/// How often load and counts are told, as the library's original does.
const STATS: Duration = Duration::from_secs(2);
/// The pause between two rounds, and how many times as long as the round it is at the least.
const PAUSE: Duration = Duration::from_millis(500);
const SHARE: u32 = 10;
/// More changes in a round are told as a new list.
const MAX_CHANGES: usize = 250;
/// How long a page has at the least for a list of all sockets: on a WebSocket it is seen what it took, else not.
const LISTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// What happened to sockets, told of a moment ago in seconds.
const SECOND: i64 = 1000;

pub struct Watch {
    pub io: SocketIo,
    pub hub: Arc<Hub>,
    pub links: Arc<Links>,
    /// In development mode.
    pub trace: Option<Arc<Trace>>,
    /// Somebody has come to look on.
    pub news: Arc<Notify>,
    pub since: Instant,
    pub state: State,
}

#[derive(Default)]
pub struct State {
    /// What the pages that are up to date know.
    known: HashMap<(&'static str, Sid), Known>,
    pages: HashMap<Sid, Page>,
    before: Totals,
}

/// A socket as it was told.
struct Known {
    name: String,
    transport: TransportType,
    rooms: Vec<Room>,
}

/// How far a page is.
#[derive(Default)]
struct Page {
    up_to_date: bool,
    last_list: Option<Instant>,
}

/// What went on since the start.
#[derive(Default)]
struct Totals {
    begun: u64,
    ended: u64,
    bytes_in: u64,
    bytes_out: u64,
    packets_out: u64,
}

/// A socket as it is.
struct Present {
    namespace: &'static str,
    socket: SocketRef,
    rooms: Vec<Room>,
}

/// An event with its arguments.
type Told = (&'static str, Vec<Value>);

/// The arguments of an event, each one of its own.
struct Arguments<'a>(&'a [Value]);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A tuple of any length: the library would send a list as one argument.
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for argument in self.0 {
            tuple.serialize_element(argument)?;
        }
        tuple.end()
    }
}

impl Watch {
    pub async fn run(mut self) {
        let mut stats = tokio::time::interval(STATS);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_round = Instant::now();
        loop {
            let watched = self.trace.as_ref().is_some_and(|trace| trace.is_on());
            let has_come = tokio::select! {
                _ = stats.tick() => { self.tell_stats(); false }
                () = self.news.notified() => { self.tell_stats(); true }
                () = tokio::time::sleep_until(next_round), if watched => true,
            };
            if has_come && let Some(trace) = self.trace.clone() {
                let began = Instant::now();
                self.round(&trace).await;
                next_round = Instant::now() + PAUSE.max(began.elapsed() * SHARE);
            }
        }
    }

    /// The pages that look on.
    fn pages(&self) -> Vec<SocketRef> {
        let sockets = self.io.of(NAMESPACE).map(|namespace| namespace.sockets()).unwrap_or_default();
        // Before it is greeted, nothing may be sent.
        let greeted = |socket: &SocketRef| {
            socket.extensions.get::<Arc<Seat>>().is_some_and(|seat| seat.greeted.load(Ordering::Relaxed))
        };
        sockets.into_iter().filter(greeted).collect()
    }

    fn tell_stats(&mut self) {
        let (now, census) = (Utc::now().timestamp_millis(), self.links.census());
        let counters = &self.links.counters;
        let totals = Totals {
            begun: census.begun,
            ended: census.begun.saturating_sub(census.present),
            bytes_in: counters.bytes_received.load(Ordering::Relaxed),
            bytes_out: counters.bytes_sent.load(Ordering::Relaxed),
            packets_out: counters.packets_sent.load(Ordering::Relaxed),
        };
        let before = std::mem::replace(&mut self.state.before, totals);
        let pages = self.pages();
        if pages.is_empty() {
            return;
        }
        let totals = &self.state.before;
        let happened: Vec<Value> = [
            ("rawConnection", totals.begun, before.begun),
            ("rawDisconnection", totals.ended, before.ended),
            ("bytesIn", totals.bytes_in, before.bytes_in),
            ("bytesOut", totals.bytes_out, before.bytes_out),
            ("packetsOut", totals.packets_out, before.packets_out),
        ]
        .into_iter()
        .filter(|(_, after, before)| after > before)
        .map(|(what, after, before)| {
            json!({ "timestamp": now - now % SECOND, "type": what, "count": after - before })
        })
        .collect();
        let namespaces: Vec<Value> = NAMESPACES
            .into_iter()
            .filter_map(|name| Some((name, self.io.of(name)?.sockets().len())))
            .map(|(name, sockets)| json!({ "name": name, "socketsCount": sockets }))
            .collect();
        let (hostname, pid) = (hostname(), std::process::id());
        let stats = json!({
            "serverId": format!("{hostname}#{pid}"),
            "hostname": hostname,
            "pid": pid,
            "uptime": self.since.elapsed().as_secs_f64(),
            "clientsCount": census.present,
            "pollingClientsCount": census.polling,
            "aggregatedEvents": happened,
            "namespaces": namespaces,
        });
        for page in pages.iter().filter(|page| !is_behind(page)) {
            // The next ones follow soon.
            let _ = page.emit("server_stats", &stats);
        }
    }

    /// Looks at all sockets, and tells what is different from before.
    async fn round(&mut self, trace: &Trace) {
        let pages = self.pages();
        trace.switch(!pages.is_empty());
        if pages.is_empty() {
            self.state = State { before: std::mem::take(&mut self.state.before), ..State::default() };
            return;
        }
        let (messages, left_out) = trace.take();
        let present = self.look().await;
        let mut told = self.changes(&present, trace);
        let crowd = told.len() > MAX_CHANGES;
        told.extend(messages.into_iter().map(|message| self.message(message)));
        let there: HashSet<Sid> = pages.iter().map(|page| page.id).collect();
        self.state.pages.retain(|id, _| there.contains(id));
        let mut list: Option<Box<RawValue>> = None;
        for socket in pages {
            let page = self.state.pages.entry(socket.id).or_default();
            page.up_to_date &= !crowd && !is_behind(&socket);
            if page.up_to_date {
                page.up_to_date =
                    told.iter().all(|(event, arguments)| socket.emit(*event, &Arguments(arguments)).is_ok());
                if left_out > 0 {
                    let name = self.links.aliases.of(NAMESPACE, socket.id.as_str());
                    let what = json!(["left_out", { "messages": left_out }]);
                    let _ = socket.emit("event_sent", &(NAMESPACE, name, what, shown::date(Utc::now())));
                }
                continue;
            }
            let pause = if socket.transport_type() == TransportType::Websocket { LISTS.0 } else { LISTS.1 };
            if is_behind(&socket) || page.last_list.is_some_and(|last| last.elapsed() < pause) {
                continue;
            }
            if list.is_none() {
                let shown: Vec<Value> = present.iter().map(|present| show(&self.links, present)).collect();
                list = serde_json::value::to_raw_value(&shown).ok();
            }
            let Some(list) = &list else { continue };
            page.last_list = Some(Instant::now());
            page.up_to_date = socket.emit("all_sockets", list).is_ok();
        }
    }

    /// All sockets as they are.
    async fn look(&self) -> Vec<Present> {
        let mut present = Vec::new();
        for namespace in NAMESPACES {
            let sockets = self.io.of(namespace).map(|namespace| namespace.sockets()).unwrap_or_default();
            let rooms = rooms(&self.hub, &sockets).await;
            let sockets = sockets.into_iter().zip(rooms);
            present.extend(sockets.map(|(socket, rooms)| Present { namespace, socket, rooms }));
        }
        present
    }

    /// What is different from before, which is forgotten.
    fn changes(&mut self, present: &[Present], trace: &Trace) -> Vec<Told> {
        let now = || shown::date(Utc::now());
        let mut told: Vec<Told> = Vec::new();
        let mut gone = std::mem::take(&mut self.state.known);
        let mut known = HashMap::with_capacity(present.len());
        for each in present {
            let Present { namespace, socket, rooms } = each;
            let key = (*namespace, socket.id);
            let transport = socket.transport_type();
            let Some(mut before) = gone.remove(&key) else {
                let began = link(socket).map(|link| link.began).unwrap_or_else(Utc::now);
                told.push(("socket_connected", vec![show(&self.links, each), shown::date(began)]));
                let name = self.links.aliases.of(namespace, socket.id.as_str());
                known.insert(key, Known { name, transport, rooms: rooms.clone() });
                continue;
            };
            if before.transport != transport {
                let transport = shown::transport(transport);
                let change = json!({ "id": before.name, "nsp": namespace, "transport": transport });
                told.push(("socket_updated", vec![change]));
            }
            if before.rooms != *rooms {
                let (old, new): (HashSet<&Room>, HashSet<&Room>) =
                    (before.rooms.iter().collect(), rooms.iter().collect());
                for (event, rooms) in [("room_left", &old - &new), ("room_joined", &new - &old)] {
                    told.extend(rooms.into_iter().map(|room| {
                        (event, vec![json!(namespace), json!(room.name()), json!(before.name), now()])
                    }));
                }
                before.rooms = rooms.clone();
            }
            known.insert(key, Known { transport, ..before });
        }
        for ((namespace, sid), before) in gone {
            for room in &before.rooms {
                told.push((
                    "room_left",
                    vec![json!(namespace), json!(room.name()), json!(before.name), now()],
                ));
            }
            let reason = trace.reason(namespace, sid);
            told.push((
                "socket_disconnected",
                vec![json!(namespace), json!(before.name), json!(reason), now()],
            ));
        }
        self.state.known = known;
        told
    }

    fn message(&self, message: Message) -> Told {
        let Message { sid, at, what } = message;
        let payload = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_default();
        let (event, name, arguments) = match what {
            What::Said { event, arguments } => ("event_received", event.into(), arguments),
            What::Told { event, offset } => {
                // As it stands in the journal: addresses in it are not signed.
                (
                    "event_sent",
                    event.kind.to_string(),
                    vec![payload(&event.payload), offset.to_string().into()],
                )
            }
            What::Progress(progress) => {
                ("event_sent", progress.kind.wire_name().to_owned(), vec![payload(&progress.payload)])
            }
        };
        let mut shown = vec![Value::String(name)];
        shown.extend(shown::arguments(arguments));
        let of = self.links.aliases.of(super::MAIN, sid.as_str());
        (event, vec![json!(super::MAIN), of.into(), shown.into(), shown::date(at)])
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "jobcast".into(),
        name => name.into(),
    }
}

/// Whether a page has not taken what it was sent before.
fn is_behind(socket: &SocketRef) -> bool {
    link(socket).and_then(|link| link.wire()).is_some_and(|wire| wire.is_under_pressure())
}

fn link(socket: &SocketRef) -> Option<Arc<Link>> {
    socket.req_parts().extensions.get::<Arc<Link>>().cloned()
}

fn show(links: &Links, present: &Present) -> Value {
    let Present { namespace, socket, rooms } = present;
    let name = links.aliases.of(namespace, socket.id.as_str());
    let connection = links.aliases.of_connection(socket.id.as_str());
    let client = socket.extensions.get::<Arc<Client>>();
    let subject = client.as_deref().and_then(Client::subject);
    shown::socket(socket, link(socket).as_deref(), (&name, connection), subject, rooms)
}
