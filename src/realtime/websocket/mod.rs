//! The raw WebSocket door: what a connection may do and for how long, whatever frontend is behind it.
//!
//! A dialect says what its clients are told ([`Projection`]) and how their messages are answered ([`Dialect`]); all else
//! is the same for all of them:
//!
//! * A page of an origin that may not call this server is refused before the upgrade (403), and so is everybody while as
//!   many connections are open as may be (503). A client that is no browser names no origin and is let in.
//! * A client that says more than it may is sent away (1008, 1009), and one that gives no sign of life is dropped. Pings
//!   of the protocol, which browsers answer by themselves, make even a page that never says anything give one.
//! * What waits for a client is bounded. Of what shows how things stand only the newest is kept; what must not be missed
//!   and does not fit sends the client away to come back (1013).
//! * At a stop all are sent away to come back (1012), spread over a stretch of time. 1000 says that all was told.

mod outbox;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    extract::{
        FromRequestParts,
        ws::{
            CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use futures_util::{FutureExt as _, SinkExt as _};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::outbox::Outbox;
use super::{
    hub::Hub,
    projector::{Close, Listener as _, Projection, Projector, Seat, Told},
};
use crate::{
    config::{self, Config},
    event::{Timestamp, contract::Channel},
    identity::Stay,
    metrics::{Held, numbers},
};

/// Bytes that a connection keeps for reading: clients say little.
const READ_BUFFER: usize = 512;
/// Messages that a client may send at once, and how fast it may send more.
const BURST: f64 = 30.0;
const PER_SECOND: f64 = 10.0;
/// How long a client may take to agree to being closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// One frontend's words on raw WebSockets.
pub trait Dialect: Projection {
    /// What numbers call it.
    const NAME: &'static str;

    /// What its socket is to the sockets' contract.
    fn channel() -> Channel;

    /// What a client's message is answered with; what means nothing is not answered.
    fn answer(&self, _message: &str) -> Option<Utf8Bytes> {
        None
    }
}

/// What all raw connections of a process share. Cheap to clone.
#[derive(Clone)]
pub struct RawSockets(Arc<Shared>);

struct Shared {
    hub: Arc<Hub>,
    settings: config::Realtime,
    origins: Vec<String>,
    /// How many connections there may be yet.
    places: Arc<Semaphore>,
    /// Nobody is let in any more, and everybody is sent away.
    stop: CancellationToken,
    /// Over so many milliseconds.
    drain: AtomicU64,
    /// Ends what is kept for clients.
    over: CancellationToken,
}

impl RawSockets {
    pub fn new(hub: Arc<Hub>, settings: &Config) -> RawSockets {
        RawSockets(Arc::new(Shared {
            hub,
            settings: settings.realtime.clone(),
            origins: settings.server.cors_origins.clone(),
            places: Arc::new(Semaphore::new(settings.realtime.max_raw_sockets)),
            stop: CancellationToken::new(),
            drain: AtomicU64::new(0),
            over: CancellationToken::new(),
        }))
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        self.0.settings.max_raw_sockets - self.0.places.available_permits()
    }

    /// Lets nobody in any more, and sends everybody away over a stretch of time, so that they come back by themselves.
    /// Returns when all are gone.
    pub async fn drain(&self, stretch: Duration) {
        self.0.drain.store(stretch.as_millis() as u64, Ordering::Relaxed);
        self.0.stop.cancel();
        let all = u32::try_from(self.0.settings.max_raw_sockets).unwrap_or(u32::MAX);
        // Never closed, so this only waits.
        let _gone = self.0.places.acquire_many(all).await;
        self.0.over.cancel();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// A request that wants to become a raw WebSocket.
pub struct Opening {
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    origin: Option<String>,
    host: Option<String>,
    /// How long its caller may stay.
    stay: Option<Stay>,
}

impl<S: Send + Sync> FromRequestParts<S> for Opening {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Opening, Self::Rejection> {
        let (origin, host) = (text(&parts.headers, header::ORIGIN), text(&parts.headers, header::HOST));
        let stay = parts.extensions.get().cloned();
        Ok(Opening { upgrade: WebSocketUpgrade::from_request_parts(parts, state).await, origin, host, stay })
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    // What is no text is the origin of nobody.
    headers.get(name).map(|value| value.to_str().unwrap_or("null").to_owned())
}

/// The door of one dialect. Cheap to clone.
pub struct Door<D: Dialect> {
    sockets: RawSockets,
    projector: Projector<D>,
}

impl<D: Dialect> Clone for Door<D> {
    fn clone(&self) -> Self {
        Door { sockets: self.sockets.clone(), projector: self.projector.clone() }
    }
}

impl<D: Dialect> Door<D> {
    pub fn new(sockets: &RawSockets, dialect: D) -> Door<D> {
        // There before the first one comes.
        numbers().raw_sockets.with_label_values(&[D::NAME]);
        numbers().raw_sockets_opened.with_label_values(&[D::NAME]);
        let projector = Projector::new(dialect, sockets.0.hub.clone(), sockets.0.over.clone());
        Door { sockets: sockets.clone(), projector }
    }

    /// What is kept for its clients, for other ways to ask for it.
    pub fn projector(&self) -> &Projector<D> {
        &self.projector
    }

    /// Lets a client follow a topic, until its token expires if it has one.
    pub fn open(&self, opening: Opening, topic: D::Topic, expires_at: Option<Timestamp>) -> Response {
        let Opening { upgrade, origin, host, stay } = opening;
        let shared = &self.sockets.0;
        let upgrade = match upgrade {
            Ok(upgrade) => upgrade,
            Err(rejection) => {
                // 400, 405 or 426, whatever it is that is missing.
                return refuse(rejection.status(), "Open this address as a WebSocket.");
            }
        };
        if let Some(origin) = origin
            && !config::allows_origin(&shared.origins, &origin, host.as_deref())
        {
            return refuse(
                StatusCode::FORBIDDEN,
                "Pages of this origin may not connect; add it to server.cors_origins.",
            );
        }
        let place = shared.places.clone().try_acquire_owned().ok().filter(|_| !shared.stop.is_cancelled());
        let Some(place) = place else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server has as many connections as it may, or is stopping; try again in a moment.",
            );
        };
        let door = self.clone();
        let most = shared.settings.max_raw_message;
        upgrade
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(most)
            .max_frame_size(most)
            .on_upgrade(move |socket| door.serve(socket, topic, over(stay, expires_at), place))
    }

    async fn serve(
        self,
        socket: WebSocket,
        topic: D::Topic,
        over: impl Future<Output = ()>,
        _place: OwnedSemaphorePermit,
    ) {
        numbers().raw_sockets_opened.with_label_values(&[D::NAME]).inc();
        let _counted = Held::of(&numbers().raw_sockets.with_label_values(&[D::NAME]));
        let settings = &self.sockets.0.settings;
        let outbox = Arc::new(Outbox::new(settings.max_buffered_bytes));
        let seat: Option<Seat> = match self.projector.join(&topic, outbox.clone()).await {
            Ok(seat) => Some(seat),
            Err(error) => {
                tracing::warn!(%error, ?topic, "a topic could not be read; its client is sent away to come back");
                outbox.hear(&Told { frames: Vec::new(), close: Some(Close::TRY_AGAIN) });
                None
            }
        };
        let line = Line { socket, stall: settings.stall_timeout };
        let patience = (settings.ping_interval, settings.ping_timeout);
        let dialect = self.projector.projection();
        let stop = self.sockets.0.sent_away();
        talk(line, &outbox, |message| dialect.answer(message), patience, stop, over).await;
        drop(seat);
    }
}

impl Shared {
    /// Waits until it is a connection's turn to be sent away.
    async fn sent_away(&self) {
        self.stop.cancelled().await;
        let stretch = self.drain.load(Ordering::Relaxed);
        sleep(Duration::from_millis(fastrand::u64(0..=stretch))).await;
    }
}

/// A connection with a limit to the time in which it must take what it is sent.
struct Line {
    socket: WebSocket,
    stall: Duration,
}

impl Line {
    /// Returns whether the client took it.
    async fn send(&mut self, messages: impl IntoIterator<Item = Message>) -> bool {
        let socket = &mut self.socket;
        let sent = async {
            for message in messages {
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        match timeout(self.stall, sent).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                numbers().slow_closed.with_label_values(&["raw"]).inc();
                false
            }
        }
    }

    /// Closes, and gives the client a moment to agree.
    async fn close(mut self, close: &Close) {
        let frame = CloseFrame { code: close.code, reason: Utf8Bytes::from_static(close.reason) };
        if self.send([Message::Close(Some(frame))]).await {
            let goodbye = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(FAREWELL, goodbye).await;
        }
    }
}

/// One connection, from its greeting to its end.
async fn talk(
    mut line: Line,
    outbox: &Outbox,
    answer: impl Fn(&str) -> Option<Utf8Bytes>,
    (ping_interval, ping_timeout): (Duration, Duration),
    sent_away: impl Future<Output = ()>,
    over: impl Future<Output = ()>,
) {
    let sent_away = sent_away.fuse();
    let over = over.fuse();
    tokio::pin!(sent_away, over);
    let mut pings = interval(ping_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut heard = Instant::now();
    let mut may_say = Allowance::new();
    loop {
        tokio::select! {
            (texts, close) = outbox.next() => {
                if !line.send(texts.into_iter().map(Message::Text)).await {
                    return;
                }
                if let Some(close) = close {
                    return line.close(&close).await;
                }
            }
            message = line.socket.recv() => {
                heard = Instant::now();
                match message {
                    None => return,
                    Some(Ok(Message::Close(_))) => {
                        // The protocol's own answer goes out with the next look.
                        let _ = timeout(FAREWELL, line.socket.recv()).await;
                        return;
                    }
                    Some(Ok(message)) => {
                        if !may_say.one_more() {
                            return line.close(&Close::POLICY).await;
                        }
                        if let Message::Text(text) = message
                            && let Some(answer) = answer(&text)
                        {
                            let mut told = Told::default();
                            told.say(answer);
                            outbox.hear(&told);
                        }
                    }
                    Some(Err(error)) => {
                        if is_too_big(error) {
                            line.close(&Close::TOO_BIG).await;
                        }
                        return;
                    }
                }
            }
            _ = pings.tick() => {
                // It was asked at least once meanwhile.
                if heard.elapsed() > ping_interval + ping_timeout || !line.send([Message::Ping(Default::default())]).await {
                    return;
                }
            }
            () = &mut sent_away => return line.close(&Close::RESTART).await,
            () = &mut over => return line.close(&Close { reason: "the token is good no more", ..Close::POLICY }).await,
        }
    }
}

/// Waits until a client may stay no longer: its token has expired, or its key was revoked.
async fn over(stay: Option<Stay>, expires_at: Option<Timestamp>) {
    let expired = async {
        match expires_at {
            None => std::future::pending().await,
            Some(at) => sleep((at - Utc::now()).to_std().unwrap_or_default()).await,
        }
    };
    match stay {
        Some(stay) => drop(stay.until_over().await),
        None => expired.await,
    }
}

fn is_too_big(error: axum::Error) -> bool {
    use tokio_tungstenite::tungstenite::Error;
    error.into_inner().downcast_ref::<Error>().is_some_and(|error| matches!(error, Error::Capacity(_)))
}

/// How much a client may still say.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new() -> Allowance {
        Allowance { left: BURST, at: Instant::now() }
    }

    fn one_more(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + (now - self.at).as_secs_f64() * PER_SECOND).min(BURST);
        self.at = now;
        self.left -= 1.0;
        self.left >= 0.0
    }
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}
