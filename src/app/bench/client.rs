//! One client of a crowd: connects, joins its room, counts what arrives, and comes back as the stock client would.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use super::{
    tally::{Seen, Tally},
    wire,
};
use crate::app::client::packet::{self, Packet};

/// The stock client's limits on a connection attempt and on the waits between them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Largest message that is taken from a server.
const MAX_MESSAGE: usize = 1_000_000;
/// The id of the acknowledgement that a subscription asks for.
const JOIN: u64 = 0;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Socket.IO 5 over a websocket; a room is joined by `job:subscribe`.
    SocketIo,
    /// A websocket at `/ws/{room}`.
    Raw,
}

/// What every client of a crowd does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub room: String,
    /// Asks for the room's past from here on.
    pub after: Option<i32>,
}

impl Plan {
    fn url(&self) -> String {
        match self.protocol {
            Protocol::SocketIo => format!("ws://{}/socket.io/?EIO=4&transport=websocket", self.address),
            Protocol::Raw => format!("ws://{}/ws/{}", self.address, self.room),
        }
    }

    fn subscription(&self) -> Utf8Bytes {
        let mut arguments = vec![Value::from(self.room.as_str())];
        arguments.extend(self.after.map(|seq| json!({ "after": seq })));
        packet::event(&packet::body("job:subscribe", &arguments), Some(JOIN)).into()
    }
}

/// How connections break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cuts {
    /// Time from a connection to its cut, on average; it varies by half of it.
    pub every: Duration,
    /// Time without a network after a cut.
    pub offline: Duration,
}

/// What a crowd is told while it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    /// Whether to join the room once connected.
    pub join: bool,
    pub cuts: Option<Cuts>,
}

/// What a crowd's clients share.
#[derive(Debug)]
pub struct Shared {
    pub plan: Plan,
    pub tally: Tally,
    /// Held while a client connects for the first time.
    pub entrance: Semaphore,
    /// Clients that the server has let in.
    pub connected: AtomicUsize,
    /// Clients that are in their room.
    pub inside: AtomicUsize,
    /// Connections that ended.
    pub ended: AtomicU64,
    /// Sessions that the server continued.
    pub recovered: AtomicU64,
    /// Attempts to connect that failed.
    pub failed: AtomicU64,
    /// Clients that the server refused or sent away: the stock client does not come back by itself.
    pub sent_away: AtomicUsize,
}

impl Shared {
    pub fn new(plan: Plan, tally: Tally, entrance: usize) -> Shared {
        Shared {
            plan,
            tally,
            entrance: Semaphore::new(entrance),
            connected: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            sent_away: AtomicUsize::new(0),
        }
    }
}

/// What the stock client keeps of its session from one connection to the next.
#[derive(Debug, Default)]
struct Session {
    pid: Option<String>,
    offset: String,
}

/// Why a conversation ended.
enum End {
    /// The server or the network ended it.
    Lost,
    /// We cut it.
    Cut(Cuts),
    SentAway,
    /// The crowd is gone.
    Over,
}

/// Lives until the server sends it away or `orders` end.
pub async fn live(shared: Arc<Shared>, mut orders: watch::Receiver<Orders>) {
    let mut session = Session::default();
    let mut seen = shared.tally.nothing_seen();
    let mut attempt = 0;
    let mut newcomer = true;
    loop {
        let turn = if newcomer { shared.entrance.acquire().await.ok() } else { None };
        let mut offline = Duration::ZERO;
        match timeout(CONNECT_TIMEOUT, connect(&shared.plan)).await {
            Ok(Some(socket)) => {
                attempt = 0;
                let conversation = Conversation {
                    shared: &shared,
                    session: &mut session,
                    seen: &mut seen,
                    counted: Counted { shared: &shared, connected: false, inside: false },
                };
                // The next newcomer may enter when this one is through, not before.
                let end = conversation.hold(socket, &mut orders, turn).await;
                shared.ended.fetch_add(1, Relaxed);
                match end {
                    End::Lost => {}
                    End::Cut(cuts) => offline = cuts.offline,
                    End::SentAway => {
                        shared.sent_away.fetch_add(1, Relaxed);
                        return;
                    }
                    End::Over => return,
                }
                newcomer = false;
            }
            Ok(None) | Err(_) => {
                drop(turn);
                shared.failed.fetch_add(1, Relaxed);
            }
        }
        sleep(offline + wait_before(attempt)).await;
        attempt += 1;
    }
}

/// The stock client's wait before an attempt: doubling, give or take a half.
fn wait_before(attempt: u32) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << attempt.min(8));
    wait.mul_f64(0.5 + fastrand::f64()).min(LONGEST_WAIT)
}

async fn connect(plan: &Plan) -> Option<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(plan.address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    // Small buffers, for thousands of connections stand in one process.
    let config = WebSocketConfig::default()
        .read_buffer_size(8192)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (socket, _) = client_async_with_config(plan.url(), stream, Some(config)).await.ok()?;
    Some(socket)
}

/// Takes a client back out of the counts when its connection is gone, however that ends.
struct Counted<'a> {
    shared: &'a Shared,
    connected: bool,
    inside: bool,
}

impl Counted<'_> {
    fn connect(&mut self) {
        if !std::mem::replace(&mut self.connected, true) {
            self.shared.connected.fetch_add(1, Relaxed);
        }
    }

    fn enter(&mut self) {
        if !std::mem::replace(&mut self.inside, true) {
            self.shared.inside.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.shared.connected.fetch_sub(usize::from(self.connected), Relaxed);
        self.shared.inside.fetch_sub(usize::from(self.inside), Relaxed);
    }
}

struct Conversation<'a> {
    shared: &'a Shared,
    session: &'a mut Session,
    seen: &'a mut Seen,
    counted: Counted<'a>,
}

impl Conversation<'_> {
    async fn hold<T>(
        mut self,
        mut socket: WebSocketStream<TcpStream>,
        orders: &mut watch::Receiver<Orders>,
        mut turn: Option<T>,
    ) -> End {
        let since = Instant::now();
        let mut asked = false;
        if self.shared.plan.protocol == Protocol::Raw {
            self.counted.connect();
            self.counted.enter();
        }
        let mut order = *orders.borrow_and_update();
        let vary = 0.5 + fastrand::f64();
        let cut = sleep_until(far_future());
        tokio::pin!(cut);
        loop {
            if self.counted.connected {
                drop(turn.take());
                if order.join && !asked && self.shared.plan.protocol == Protocol::SocketIo {
                    asked = true;
                    if socket.send(Message::Text(self.shared.plan.subscription())).await.is_err() {
                        return End::Lost;
                    }
                }
            }
            match order.cuts {
                Some(cuts) => cut.as_mut().reset(since + cuts.every.mul_f64(vary)),
                None => cut.as_mut().reset(far_future()),
            }
            // Leaves the loop within only when something else than an event has come.
            loop {
                tokio::select! {
                    biased;
                    message = socket.next() => match message {
                        Some(Ok(Message::Text(text))) if text.starts_with("42") || text.starts_with('[') => self.event(&text),
                        Some(Ok(Message::Text(text))) => {
                            match self.packet(&text) {
                                Next::Nothing => {}
                                Next::Say(answer) => {
                                    if socket.send(Message::Text(answer)).await.is_err() {
                                        return End::Lost;
                                    }
                                }
                                Next::Look => break,
                                Next::Leave(end) => return end,
                            }
                        }
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Lost,
                        Some(Ok(_)) => {}
                    },
                    changed = orders.changed() => {
                        if changed.is_err() {
                            return End::Over;
                        }
                        order = *orders.borrow_and_update();
                        break;
                    }
                    () = &mut cut => match order.cuts {
                        Some(cuts) => return End::Cut(cuts),
                        None => break,
                    },
                }
            }
        }
    }

    fn event(&mut self, text: &str) {
        if let Some(mark) = wire::mark(text) {
            self.shared.tally.note(self.seen, mark, wire::now());
        }
        if self.session.pid.is_some()
            && let Some(offset) = wire::last_string(text)
        {
            self.session.offset.clear();
            self.session.offset.push_str(offset);
        }
    }

    /// Anything but an event.
    fn packet(&mut self, text: &str) -> Next {
        match Packet::read(text) {
            Ok(Packet::Opening(_)) => Next::Say(self.connect_packet()),
            Ok(Packet::Ping) => Next::Say(packet::PONG.into()),
            Ok(Packet::Connected) => {
                let Welcome { pid } =
                    serde_json::from_str(&text[packet::CONNECT.len()..]).unwrap_or_default();
                if pid.is_some() && pid == self.session.pid {
                    self.shared.recovered.fetch_add(1, Relaxed);
                }
                self.session.pid = pid;
                self.counted.connect();
                Next::Look
            }
            Ok(Packet::Acknowledgement { id: JOIN, answer }) => {
                let refused = answer.is_some_and(|answer| answer.get().contains("\"ok\":false"));
                if refused {
                    return Next::Leave(End::SentAway);
                }
                self.counted.enter();
                Next::Nothing
            }
            Ok(Packet::Refused(_) | Packet::Disconnected) => Next::Leave(End::SentAway),
            Ok(Packet::Close) | Err(_) => Next::Leave(End::Lost),
            Ok(_) => Next::Nothing,
        }
    }

    fn connect_packet(&self) -> Utf8Bytes {
        let Some(pid) = &self.session.pid else { return packet::CONNECT.into() };
        let offset = Some(self.session.offset.as_str()).filter(|offset| !offset.is_empty());
        let mut known = json!({ "pid": pid });
        if let Some(offset) = offset {
            known["offset"] = offset.into();
        }
        format!("{}{known}", packet::CONNECT).into()
    }
}

/// What a packet asks of the client.
enum Next {
    Nothing,
    Say(Utf8Bytes),
    /// The client's state has changed.
    Look,
    Leave(End),
}

/// The body of a CONNECT answer.
#[derive(Default, Deserialize)]
struct Welcome {
    pid: Option<String>,
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_vary_by_a_half() {
        for (attempt, low, high) in
            [(0, 0.5, 1.5), (1, 1.0, 3.0), (2, 2.0, 5.0), (3, 4.0, 5.0), (4_000, 5.0, 5.0)]
        {
            for _ in 0..100 {
                let wait = wait_before(attempt).as_secs_f64();
                assert!((low..=high).contains(&wait), "{attempt}: {wait}");
            }
        }
    }
}
