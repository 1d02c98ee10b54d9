//! The shim between the network and the Socket.IO library: what the library has no hook for.
//!
//! It answers WebSocket handshakes itself and hands the library a stream of its own ([`wire`]), through which the hub's
//! frames go past the library; it inserts the `pid` into the answer to a CONNECT ([`greeting`]), also in polling
//! bodies, and gives sockets names that are no credentials ([`alias`]); it counts what is polled, so that the library's buffer is never full when a heartbeat is due; it holds an upgrade back until its first frame is there, for the library would lose the polling session of
//! one that fails; and it refuses new sessions when the server is about to stop.

mod alias;
mod frame;
mod greeting;
mod link;
mod polling;
mod wire;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use socketioxide::service::SocketIoService;
use tokio::net::TcpStream;
use tower::Service;

use crate::config::allows_origin;

pub use self::{
    alias::Aliases,
    frame::begin_text,
    link::{Link, Links},
    wire::{Limits, MARKER, Wire},
};

/// How long the first frame of an upgrade may take.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// The largest first frame of an upgrade that is looked at; a good one has 12 bytes.
const MAX_FIRST_FRAME: usize = 256;
/// Bytes that the kernel may hold for one client; it doubles them for its own needs.
const SEND_BUFFER: usize = 256 * 1024;
/// What a socket may want to know of the request that opened it. Others are not kept.
const KEPT_HEADERS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::COOKIE,
    header::ORIGIN,
    header::USER_AGENT,
    header::FORWARDED,
    FORWARDED_FOR,
];
/// Whom proxies connect for, as most of them say it.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The library, around a router that answers 404 to what is not for it.
type Sockets = SocketIoService<Router>;

/// Answers `/socket.io/`.
#[derive(Clone)]
pub struct Transport {
    sockets: Sockets,
    links: Arc<Links>,
    /// Whose pages may connect.
    origins: Arc<[String]>,
}

impl Transport {
    pub fn new(sockets: Sockets, links: Arc<Links>, origins: Arc<[String]>) -> Transport {
        Transport { sockets, links, origins }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let asked = Asked::of(&request);
        if asked.sid.is_none() && self.links.is_refusing() {
            let mut response =
                refusal(StatusCode::SERVICE_UNAVAILABLE, 3, "The server is stopping; try again");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        if (asked.sid.is_none() || asked.websocket) && !self.knows_origin(request.headers()) {
            let message =
                "Forbidden: pages of this origin may not connect; server.cors_origins names those that may";
            return refusal(StatusCode::FORBIDDEN, 4, message);
        }
        match (asked.websocket, asked.sid) {
            (true, sid) => self.accept(request, sid),
            (false, None) if request.method() == Method::GET => self.open_polling(request).await,
            (false, sid) => self.poll(request, sid).await,
        }
    }

    /// Whether a page may connect. Browsers say where it is from, and let it open a WebSocket to anywhere.
    fn knows_origin(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        match text(header::ORIGIN) {
            None => true,
            Some(origin) => allows_origin(&self.origins, origin, text(header::HOST)),
        }
    }

    /// Answers a WebSocket handshake; the connection begins when it was sent.
    fn accept(self, mut request: Request<Body>, sid: Option<String>) -> Response<Body> {
        let link = match &sid {
            None => self.links.begin(peer(&request)),
            Some(sid) => match self.links.find(sid) {
                Some(link) => link,
                None => return refusal(StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            },
        };
        let is = |name, value: &str| {
            request
                .headers()
                .get(name)
                .and_then(|given: &HeaderValue| given.to_str().ok())
                .is_some_and(|given| given.split(',').any(|item| item.trim().eq_ignore_ascii_case(value)))
        };
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24).cloned();
        let (Some(key), true) = (
            key,
            request.method() == Method::GET
                && is(header::UPGRADE, "websocket")
                && is(header::CONNECTION, "upgrade")
                && is(header::SEC_WEBSOCKET_VERSION, "13"),
        ) else {
            return refusal(
                StatusCode::BAD_REQUEST,
                3,
                "Bad request: this is no WebSocket handshake of version 13",
            );
        };
        let on_upgrade = hyper::upgrade::on(&mut request);
        let opening = opening(&request, link.clone());
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => {
                    if let Err(error) = self.begin(upgraded, opening, link, sid.is_some()).await {
                        tracing::debug!(%error, "a WebSocket ended before it began");
                    }
                }
                Err(error) => tracing::debug!(%error, "a WebSocket handshake failed"),
            }
        });
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::try_from(accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }

    /// Hands a connection to the library.
    async fn begin(
        mut self,
        upgraded: hyper::upgrade::Upgraded,
        opening: Request<()>,
        link: Arc<Link>,
        is_upgrade: bool,
    ) -> io::Result<()> {
        let parts = downcast::<TokioIo<TcpStream>>(upgraded)
            .map_err(|_| io::Error::other("the connection is no TCP connection"))?;
        let tcp = parts.io.into_inner();
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER);
        // A copy, for the original keeps the HTTP server's whole read buffer alive.
        let mut read = BytesMut::from(&parts.read_buf[..]);
        if is_upgrade {
            // Only now, for from the library's first look on, an upgrade that fails costs the session.
            let first = tokio::time::timeout(FIRST_FRAME, first_frame(&tcp, &mut read)).await;
            first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        let wire = Wire::new(tcp, link.greeting.clone(), self.links.limits, self.links.counters.clone());
        link.set_wire(wire.clone());
        drop(link);
        let stream = wire::Stream::new(wire, read.freeze());
        Service::<(wire::Stream, Request<()>)>::call(&mut self.sockets, (stream, opening))
            .await
            .map_err(io::Error::other)
    }

    /// Opens a session that begins by polling.
    async fn open_polling(mut self, request: Request<Body>) -> Response<Body> {
        let link = self.links.begin(peer(&request));
        let opening = opening(&request, link.clone()).map(|()| Body::empty());
        let (parts, body) = self.call(opening).await.into_parts();
        let body = match axum::body::to_bytes(body, usize::MAX).await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, "the answer to a handshake could not be read");
                return refusal(StatusCode::INTERNAL_SERVER_ERROR, 3, "Bad request");
            }
        };
        if let Some(sid) = session_id(&body) {
            link.set_sid(sid);
        }
        Response::from_parts(parts, Body::from(body))
    }

    async fn poll(mut self, request: Request<Body>, sid: Option<String>) -> Response<Body> {
        let link = sid.as_deref().and_then(|sid| self.links.find(sid));
        let is_poll = request.method() == Method::GET;
        if let (Some(_), false, Some(length)) = (&link, is_poll, length(&request)) {
            self.links.counters.bytes_received.fetch_add(length, Ordering::Relaxed);
        }
        let response = self.call(request).await;
        let Some(link) = link.filter(|_| is_poll) else { return response };
        let (mut parts, body) = response.into_parts();
        // The library holds all of it in memory already.
        let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, 3, "Bad request");
        };
        link.polled(polling::events(&body));
        let body = link.greeting.insert_into_body(&body).map_or(body, Bytes::from);
        let counters = &self.links.counters;
        counters.bytes_sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        counters.packets_sent.fetch_add(polling::packets(&body).count() as u64, Ordering::Relaxed);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Response::from_parts(parts, Body::from(body))
    }

    async fn call(&mut self, request: Request<Body>) -> Response<Body> {
        match Service::<Request<Body>>::call(&mut self.sockets, request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { Ok(transport.answer(request).await) })
    }
}

/// What of a request decides its way.
struct Asked {
    websocket: bool,
    sid: Option<String>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Asked {
        let query = request.uri().query().unwrap_or_default();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        Asked { websocket: value("transport") == Some("websocket"), sid: value("sid").map(str::to_owned) }
    }
}

/// Who is at the other end.
fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// The length of a body, as its sender says; the library reads no more.
fn length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The request that opens a session, as the socket keeps it. Everything in it is a fresh copy: slices of the HTTP
/// server's read buffer would keep all 16 KiB of it alive for as long as the client is connected.
fn opening<B>(request: &Request<B>, link: Arc<Link>) -> Request<()> {
    let mut opening = Request::new(());
    *opening.method_mut() = request.method().clone();
    *opening.uri_mut() = request
        .uri()
        .path_and_query()
        .and_then(|path| Uri::try_from(path.as_str().to_owned()).ok())
        .unwrap_or_default();
    let mut headers = HeaderMap::new();
    for name in KEPT_HEADERS {
        if let Some(value) =
            request.headers().get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
        {
            headers.insert(name, value);
        }
    }
    *opening.headers_mut() = headers;
    opening.extensions_mut().insert(link);
    opening
}

/// Waits for the first frame of an upgrade, which stays in `read`.
async fn first_frame(tcp: &TcpStream, read: &mut BytesMut) -> io::Result<()> {
    loop {
        if let Some(length) = frame::length(read).filter(|length| *length <= read.len()) {
            return match frame::masked_text(&read[..length]).as_deref() {
                Some(b"2probe") => Ok(()),
                _ => Err(io::Error::other("an upgrade begins with a probe")),
            };
        }
        if read.len() > MAX_FIRST_FRAME {
            return Err(io::Error::other("the first frame of an upgrade is too large"));
        }
        tcp.readable().await?;
        match tcp.try_read_buf(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The session's name in the body that opens it: `0{"sid":"…",…}`, for clients of version 2 behind its length.
fn session_id(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("0{\"sid\":\"")?;
    rest.split_once('"').map(|(sid, _)| sid)
}

/// An error as Engine.IO clients know it.
fn refusal(status: StatusCode, code: u8, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
