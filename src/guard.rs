//! The one door to the web: which addresses that a stranger names may be reached, and the forward proxy that holds
//! Chromium and the HTTP clients to it.
//!
//! Whoever submits a job or makes a webhook names the addresses that this server visits, so neither must be a way into
//! the server's own network. A look at the URL is not enough (a public name may resolve to a private address, and to
//! another one a moment later), nor is interception inside the browser (WebSockets pass it). So everything goes
//! through [`GuardProxy`], which resolves the name itself, vets every address and dials exactly what it vetted.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header},
};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::{Host, Position, Url};

/// On a response that the proxy gave instead of the site because the guard refused; its value is
/// [`Reason::code`].
pub const REFUSED_HEADER: &str = "x-jobcast-refused";
/// On a response that the proxy gave instead of the site because the site could not be reached: `dns`, `connect`,
/// `timeout`, `protocol` or `request`.
pub const FAILED_HEADER: &str = "x-jobcast-failed";

/// Decides whether an address may be visited. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Arc<[Url]>,
    names: Names,
}

/// Who says which addresses a name has.
#[derive(Clone, Debug)]
enum Names {
    System,
    /// A name server that says one thing after the other, as somebody's own may; the last for ever.
    #[cfg(test)]
    Fickle(Arc<std::sync::Mutex<Vec<IpAddr>>>),
}

impl Names {
    async fn look_up(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        match self {
            Names::System => {
                tokio::net::lookup_host((name, port)).await.map_or_else(|_| Vec::new(), Iterator::collect)
            }
            #[cfg(test)]
            Names::Fickle(answers) => {
                let mut answers = answers.lock().unwrap();
                let next = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
                vec![(next, port).into()]
            }
        }
    }
}

/// An address that may not be visited. Carries the host, never what was sent to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is refused: {reason}")]
pub struct Refused {
    pub host: String,
    pub reason: Reason,
}

/// Why an address may not be visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("only http:// and https:// addresses can be visited")]
    Scheme,
    #[error("the address holds a user name or password; leave them out")]
    Credentials,
    #[error("the address names no host")]
    Host,
    /// Carries the kind of address, with its article.
    #[error(
        "it is {0} address; if jobs may reach it, add its origin (scheme://host:port) to crawler.allow_origins"
    )]
    Address(&'static str),
}

impl Reason {
    /// The reason as one word, for [`REFUSED_HEADER`] and for metrics.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Scheme => "scheme",
            Reason::Credentials => "credentials",
            Reason::Host => "host",
            Reason::Address(_) => "address",
        }
    }
}

/// Why a name did not become an address to dial.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{host} has no address; check its spelling")]
    Unknown { host: String },
}

impl Guard {
    /// `allowed_origins` may be visited although they are private or loopback: scheme, host and port must match
    /// exactly, whatever else the URLs hold is ignored.
    pub fn new(allowed_origins: Vec<Url>) -> Guard {
        Guard { allowed: allowed_origins.into(), names: Names::System }
    }

    /// Judges what the URL itself shows, without asking the DNS: a first answer at once for whoever submits it.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        let refuse = |reason| Err(refused(url.host_str(), reason));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(Reason::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(Reason::Credentials);
        }
        if self.trusts(url) {
            return Ok(());
        }
        let kind = match url.host() {
            None => return refuse(Reason::Host),
            Some(Host::Ipv4(ip)) => forbidden(ip.into()),
            Some(Host::Ipv6(ip)) => forbidden(ip.into()),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                (name == "localhost" || name.ends_with(".localhost")).then_some("a loopback")
            }
        };
        kind.map_or(Ok(()), |kind| refuse(Reason::Address(kind)))
    }

    /// The addresses that the URL's host has now, all of them vetted. One bad address refuses them all: a name
    /// that points both out and in is an attack or a mistake.
    pub async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, ResolveError> {
        self.check_url(url)?;
        self.lookup(url, self.trusts(url)).await
    }

    /// Whether an address is of an origin that may be visited although it is private.
    pub fn trusts(&self, url: &Url) -> bool {
        self.allowed.iter().any(|allowed| allowed.origin() == url.origin())
    }

    /// As [`Guard::resolve`], for a tunnel: there the scheme is unknown, host and port alone make the endpoint.
    async fn resolve_endpoint(&self, endpoint: &Url) -> Result<Vec<SocketAddr>, ResolveError> {
        let trusted = self.allowed.iter().any(|allowed| {
            allowed.host() == endpoint.host()
                && allowed.port_or_known_default() == endpoint.port_or_known_default()
        });
        if !trusted {
            self.check_url(endpoint)?;
        }
        self.lookup(endpoint, trusted).await
    }

    async fn lookup(&self, url: &Url, trusted: bool) -> Result<Vec<SocketAddr>, ResolveError> {
        let port = url.port_or_known_default().unwrap_or(80);
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
            Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
            Some(Host::Domain(name)) => self.names.look_up(name, port).await,
            None => return Err(refused(None, Reason::Host).into()),
        };
        if addresses.is_empty() {
            return Err(ResolveError::Unknown { host: shortened(url.host_str()) });
        }
        let bad = addresses.iter().filter(|_| !trusted).find_map(|address| forbidden(address.ip()));
        match bad {
            Some(kind) => Err(refused(url.host_str(), Reason::Address(kind)).into()),
            None => Ok(addresses),
        }
    }
}

pub fn refused(host: Option<&str>, reason: Reason) -> Refused {
    Refused { host: shortened(host), reason }
}

/// A name in the DNS has at most 253 characters; a longer host is somebody's try, and a log line stays a line.
fn shortened(host: Option<&str>) -> String {
    host.unwrap_or("the address").chars().take(253).collect()
}

/// The kind of an address that is not somebody else's public one, with its article.
fn forbidden(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => forbidden_v4(ip),
        IpAddr::V6(ip) => forbidden_v6(ip),
    }
}

fn forbidden_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        // Where AWS, Google, Azure, Oracle and Alibaba tell a machine its secrets.
        [169, 254, 169, 254] | [168, 63, 129, 16] | [192, 0, 0, 192] | [100, 100, 100, 200] => {
            Some("a metadata")
        }
        [0, ..] => Some("an unspecified"),
        [127, ..] => Some("a loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private"),
        [169, 254, ..] => Some("a link-local"),
        [100, 64..=127, ..] => Some("a carrier-grade NAT"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Some("a special-purpose"),
        [224..=239, ..] => Some("a multicast"),
        [240..=255, ..] => Some("a reserved"),
        _ => None,
    }
}

fn forbidden_v6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Some("a metadata"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback"),
        // The ways to write an IPv4 address into an IPv6 one; nobody needs them to reach a shop.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => {
            Some("an IPv4-mapped")
        }
        [0x0064, 0xff9b, ..] => Some("a NAT64"),
        [0x2002, ..] => Some("a 6to4"),
        [0xfc00..=0xfdff, ..] => Some("a private"),
        [0xfe80..=0xfebf, ..] => Some("a link-local"),
        [0xff00..=0xffff, ..] => Some("a multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("a documentation"),
        // Teredo, ORCHID and their kin.
        [0x2001, 0..=0x01ff, ..] => Some("a special-purpose"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved"),
    }
}

/// The bounds of a [`GuardProxy`].
#[derive(Clone, Debug)]
pub struct ProxyLimits {
    /// Connections served at once; more wait in the listener's backlog.
    pub max_connections: usize,
    /// Bytes of one request's or response's head.
    pub max_header_bytes: usize,
    /// For the name and the connection together.
    pub connect_timeout: Duration,
    /// How long an open connection may stay silent, and how long a site may think before it answers.
    pub idle_timeout: Duration,
}

impl Default for ProxyLimits {
    fn default() -> ProxyLimits {
        ProxyLimits {
            max_connections: 256,
            max_header_bytes: 64 * 1024,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// A forward proxy on a free port of 127.0.0.1 that lets through only what its [`Guard`] allows. Serves
/// absolute-form HTTP requests and `CONNECT`; stops, with everything it carries, when dropped.
///
/// A WebSocket comes as `CONNECT` and is vetted as such; an `Upgrade` inside a plain request is stripped.
#[derive(Debug)]
pub struct GuardProxy {
    address: SocketAddr,
    guard: Guard,
    _stop: DropGuard,
}

impl GuardProxy {
    /// Listens and serves at once, in a task of its own.
    pub async fn start(guard: Guard, limits: ProxyLimits) -> io::Result<GuardProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let door = Door { guard: guard.clone(), limits, stop: stop.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(door.accept(listener)));
        Ok(GuardProxy { address, guard, _stop: stop.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }
}

#[derive(Clone)]
struct Door {
    guard: Guard,
    limits: ProxyLimits,
    stop: CancellationToken,
}

/// A connection that left HTTP: what the client and the site say to each other passes unread.
type Tunnel = (OnUpgrade, Watched<TcpStream>);

impl Door {
    async fn accept(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.limits.max_connections));
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    at_once(&stream);
                    let serving = self.clone().serve(stream);
                    tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
                        serving.await;
                        drop(place);
                    }));
                }
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                Err(error) => {
                    tracing::warn!(%error, "the guard proxy could not accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream) {
        // Longer than the site's own time, so that a silent site is reported instead of its client cut off.
        let patience = self.limits.connect_timeout + self.limits.idle_timeout * 2;
        let (tunnels, mut opened) = mpsc::channel::<Tunnel>(1);
        let service = service_fn(|request| {
            let (door, tunnels) = (&self, tunnels.clone());
            async move { Ok::<_, Infallible>(door.answer(request, tunnels).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle_timeout)
            .max_header_size(self.limits.max_header_bytes)
            .serve_connection(TokioIo::new(Watched::new(stream, patience)), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::trace!(%error, "a connection to the guard proxy ended early");
        }
        if let Ok((upgrade, mut site)) = opened.try_recv()
            && let Ok(client) = upgrade.await
        {
            // Either end may hang up in any way at any time; there is nobody left to tell.
            let _ = copy_bidirectional(&mut TokioIo::new(client), &mut site).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>, tunnels: mpsc::Sender<Tunnel>) -> Response<Body> {
        let answer = if request.method() == Method::CONNECT {
            self.connect(request, tunnels).await
        } else {
            self.forward(request).await
        };
        answer.unwrap_or_else(|failure| failure.into_response())
    }

    async fn connect(
        &self,
        request: Request<Incoming>,
        tunnels: mpsc::Sender<Tunnel>,
    ) -> Result<Response<Body>, Failure> {
        let authority =
            request.uri().authority().filter(|a| a.port().is_some()).ok_or(Failure::NotForAProxy)?;
        let endpoint = Url::parse(&format!("http://{authority}/")).map_err(|_| Failure::NotForAProxy)?;
        let site = self.dial(self.guard.resolve_endpoint(&endpoint)).await?;
        // The channel has one place and a connection becomes a tunnel once, so this neither fails nor waits.
        let _ = tunnels.try_send((hyper::upgrade::on(request), site));
        Ok(Response::new(Body::empty()))
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        // From here on only the parsed URL counts, for vetting, dialling, `Host` and path alike: two parsers that
        // disagree about one address are how guards are fooled.
        let url = Url::parse(&request.uri().to_string()).map_err(|_| Failure::NotForAProxy)?;
        if url.scheme() == "https" {
            return Err(Failure::NotForAProxy);
        }
        let site = self.dial(self.guard.resolve(&url)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_header_size(self.limits.max_header_bytes)
            .handshake(TokioIo::new(site))
            .await
            .map_err(Failure::Protocol)?;
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(connection));

        strip_hop_headers(request.headers_mut());
        let host = &url[Position::BeforeHost..Position::AfterPort];
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_str(host).map_err(|_| Failure::NotForAProxy)?);
        *request.uri_mut() = Uri::try_from(&url[Position::BeforePath..Position::AfterQuery])
            .map_err(|_| Failure::NotForAProxy)?;
        let mut response = timeout(self.limits.idle_timeout, sender.send_request(request))
            .await
            .map_err(|_| Failure::Silent)?
            .map_err(Failure::Protocol)?;

        strip_hop_headers(response.headers_mut());
        // Only the proxy may speak in these.
        response.headers_mut().remove(REFUSED_HEADER);
        response.headers_mut().remove(FAILED_HEADER);
        Ok(response.map(Body::new))
    }

    async fn dial(
        &self,
        addresses: impl Future<Output = Result<Vec<SocketAddr>, ResolveError>>,
    ) -> Result<Watched<TcpStream>, Failure> {
        let connecting = async {
            let addresses = addresses.await.map_err(Failure::Resolve)?;
            // A first address that never answers must leave time for the next.
            let share = self.limits.connect_timeout / addresses.len().clamp(1, 4) as u32;
            let mut last = Failure::Silent;
            for address in addresses {
                match timeout(share, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        at_once(&stream);
                        return Ok(Watched::new(stream, self.limits.idle_timeout));
                    }
                    Ok(Err(error)) => last = Failure::Connect(error),
                    Err(_) => last = Failure::Silent,
                }
            }
            Err(last)
        };
        timeout(self.limits.connect_timeout, connecting).await.unwrap_or(Err(Failure::Silent))
    }
}

/// Sends small packets without waiting for more: between two machines that both wait, each page costs 40 ms.
fn at_once(stream: &TcpStream) {
    // A socket that refuses is a closed one, which its reader will see.
    let _ = stream.set_nodelay(true);
}

/// What the proxy answers itself.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Resolve(ResolveError),
    #[error(
        "this is a forward proxy: send http:// addresses in absolute form and everything else by CONNECT host:port"
    )]
    NotForAProxy,
    #[error("the site could not be reached: {0}")]
    Connect(io::Error),
    #[error("the site did not answer in time")]
    Silent,
    #[error("the site does not speak HTTP/1.1 properly: {0}")]
    Protocol(hyper::Error),
}

impl Failure {
    fn into_response(self) -> Response<Body> {
        let (status, header, code) = match &self {
            Failure::Resolve(ResolveError::Refused(refused)) => {
                tracing::info!(host = refused.host, reason = refused.reason.code(), "an address was refused");
                (StatusCode::FORBIDDEN, REFUSED_HEADER, refused.reason.code())
            }
            Failure::Resolve(ResolveError::Unknown { .. }) => (StatusCode::BAD_GATEWAY, FAILED_HEADER, "dns"),
            Failure::NotForAProxy => (StatusCode::BAD_REQUEST, FAILED_HEADER, "request"),
            Failure::Connect(_) => (StatusCode::BAD_GATEWAY, FAILED_HEADER, "connect"),
            Failure::Silent => (StatusCode::GATEWAY_TIMEOUT, FAILED_HEADER, "timeout"),
            Failure::Protocol(_) => (StatusCode::BAD_GATEWAY, FAILED_HEADER, "protocol"),
        };
        let mut response = Response::new(Body::from(format!("{self}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header, HeaderValue::from_static(code));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Takes out what is meant for the next machine only, and so not for the one behind it.
fn strip_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

/// A stream that fails once nothing has passed in either direction for `patience`.
struct Watched<S> {
    stream: S,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    fn new(stream: S, patience: Duration) -> Watched<S> {
        Watched { stream, patience, silence: Box::pin(sleep_until(Instant::now() + patience)) }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.silence.as_mut().reset(Instant::now() + self.patience);
            return polled;
        }
        self.silence.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, data);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, data);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A flush of a TCP stream is always ready; it tells nothing about silence.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Mutex;

    use axum::{Router, routing::any};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A site on a free port of 127.0.0.1; gone when its task is.
    pub async fn serve(site: Router) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, site).await });
        url
    }

    pub fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn hello() -> Router {
        Router::new().fallback(any(|| async { "hello" }))
    }

    async fn proxy(allowed: &[&Url]) -> GuardProxy {
        let guard = Guard::new(allowed.iter().copied().cloned().collect());
        GuardProxy::start(guard, ProxyLimits::default()).await.unwrap()
    }

    /// What the proxy says until it hangs up.
    async fn say(proxy: &GuardProxy, words: &str) -> String {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(proxy: &GuardProxy, address: &str) -> String {
        say(proxy, &format!("GET {address} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"))
            .await
    }

    /// One answer with a body of known length, the connection left open.
    async fn exchange(stream: &mut TcpStream, words: &str) -> String {
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap().into());
        }
        let length = answer
            .to_lowercase()
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split_once("\r\n").unwrap().0.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        answer + &String::from_utf8(body).unwrap()
    }

    #[test]
    fn every_spelling_of_an_inner_address_is_refused() {
        let guard = Guard::new(Vec::new());
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.0.1",
            "168.63.129.16",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "shop.localhost",
            "[::]",
            "[::1]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[100::1]",
        ] {
            let refused = guard.check_url(&url(&format!("http://{host}:8080/"))).expect_err(host);
            assert!(matches!(refused.reason, Reason::Address(_)), "{host}: {refused}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        let guard = Guard::new(Vec::new());
        for address in [
            "https://shop.example/a?b",
            "http://93.184.215.14:8080/",
            "http://172.32.0.1/",
            "http://100.128.0.1/",
            "http://[2606:4700:4700::1111]/",
            "http://localhost.example/",
        ] {
            assert_eq!(guard.check_url(&url(address)), Ok(()), "{address}");
        }
    }

    #[test]
    fn other_schemes_and_credentials_are_refused() {
        let guard = Guard::new(vec![url("http://127.0.0.1:3001/")]);
        for (address, reason) in [
            ("file:///etc/passwd", Reason::Scheme),
            ("ftp://shop.example/", Reason::Scheme),
            ("ws://shop.example/", Reason::Scheme),
            ("http://user@shop.example/", Reason::Credentials),
            ("http://:secret@127.0.0.1:3001/", Reason::Credentials),
        ] {
            let refused = guard.check_url(&url(address)).expect_err(address);
            assert_eq!(refused.reason, reason, "{address}");
            assert!(!refused.to_string().contains("secret"));
        }
    }

    #[test]
    fn an_allowed_origin_is_allowed_exactly() {
        let guard = Guard::new(vec![url("http://127.0.0.1:3001/ignored?path")]);
        for (address, is_allowed) in [
            ("http://127.0.0.1:3001/any/path", true),
            ("http://2130706433:3001/", true),
            ("https://127.0.0.1:3001/", false),
            ("http://127.0.0.1:3002/", false),
            ("http://127.0.0.1/", false),
            ("http://localhost:3001/", false),
            ("http://[::ffff:127.0.0.1]:3001/", false),
        ] {
            assert_eq!(guard.check_url(&url(address)).is_ok(), is_allowed, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_refused_for_the_address_that_it_resolves_to() {
        // The name check would catch `localhost` before; here only its address speaks.
        let resolved = Guard::new(Vec::new()).lookup(&url("http://localhost:1/"), false).await;
        assert!(
            matches!(&resolved, Err(ResolveError::Refused(r)) if r.reason == Reason::Address("a loopback")),
            "{resolved:?}"
        );
    }

    #[tokio::test]
    async fn a_name_that_turns_inwards_after_it_was_vetted_leads_nowhere() {
        let inner = serve(hello()).await;
        let port = inner.port().unwrap();
        let (outside, inside) = (Ipv4Addr::new(93, 184, 215, 14).into(), Ipv4Addr::LOCALHOST.into());
        let names = Names::Fickle(Arc::new(Mutex::new(vec![outside, inside])));
        let guard = Guard { names, ..Guard::new(Vec::new()) };
        let hook = url(&format!("https://hooks.example:{port}/"));
        // As whoever makes the webhook is judged.
        assert_eq!(guard.resolve(&hook).await.unwrap(), [SocketAddr::new(outside, port)]);

        let proxy = GuardProxy::start(guard, ProxyLimits::default()).await.unwrap();
        let connect = format!("CONNECT hooks.example:{port} HTTP/1.1\r\nConnection: close\r\n\r\n");
        for answer in
            [say(&proxy, &connect).await, get(&proxy, &format!("http://hooks.example:{port}/")).await]
        {
            assert!(
                answer.starts_with("HTTP/1.1 403") && answer.contains("x-jobcast-refused: address"),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn the_proxy_serves_an_allowed_origin_and_refuses_its_neighbour_port() {
        let (mine, other) = (serve(hello()).await, serve(hello()).await);
        let proxy = proxy(&[&mine]).await;
        let answer = get(&proxy, mine.as_str()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        let answer = get(&proxy, other.as_str()).await;
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains("x-jobcast-refused: address"),
            "{answer}"
        );
        assert!(answer.contains("127.0.0.1 is refused: it is a loopback address"), "{answer}");
    }

    #[tokio::test]
    async fn every_request_of_a_connection_is_vetted() {
        let (mine, other) = (serve(hello()).await, serve(hello()).await);
        let proxy = proxy(&[&mine]).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        for (site, status) in [(&mine, "200"), (&other, "403"), (&mine, "200")] {
            let answer =
                exchange(&mut stream, &format!("GET {site} HTTP/1.1\r\nHost: {}\r\n\r\n", &mine[..])).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{site}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_tunnel_leads_to_an_allowed_origin_only() {
        let (mine, other) = (serve(hello()).await, serve(hello()).await);
        let proxy = proxy(&[&mine]).await;
        let port = mine.port().unwrap();

        let mut tunnel = TcpStream::connect(proxy.address()).await.unwrap();
        let answer = exchange(&mut tunnel, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = exchange(&mut tunnel, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.ends_with("hello"), "{answer}");

        for target in [
            format!("127.0.0.1:{}", other.port().unwrap()),
            format!("localhost:{port}"),
            format!("[::ffff:127.0.0.1]:{port}"),
            format!("0x7f.1:{}", other.port().unwrap()),
            "169.254.169.254:80".into(),
        ] {
            let answer =
                say(&proxy, &format!("CONNECT {target} HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer}");
        }
    }

    #[tokio::test]
    async fn the_site_sees_no_headers_that_are_meant_for_the_proxy_and_the_client_no_forged_refusal() {
        let heard = Arc::new(Mutex::new(HeaderMap::new()));
        let site = Router::new().fallback(any({
            let heard = heard.clone();
            move |headers: HeaderMap| async move {
                *heard.lock().unwrap() = headers;
                ([(REFUSED_HEADER, "address"), ("x-kept", "yes")], "hello")
            }
        }));
        let mine = serve(site).await;
        let proxy = proxy(&[&mine]).await;
        let answer = say(
            &proxy,
            &format!(
                "GET {mine} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close, X-Hop, Upgrade\r\nX-Hop: 1\r\n\
                 Upgrade: websocket\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n"
            ),
        )
        .await;
        assert!(answer.contains("x-kept: yes") && !answer.contains(REFUSED_HEADER), "{answer}");
        let heard = heard.lock().unwrap();
        assert_eq!(heard["host"], &mine[Position::BeforeHost..Position::AfterPort]);
        assert!(heard.contains_key("x-kept"));
        for gone in ["x-hop", "upgrade", "proxy-authorization", "te"] {
            assert!(!heard.contains_key(gone), "{gone}");
        }
    }

    #[tokio::test]
    async fn what_is_not_for_a_proxy_is_turned_away() {
        let mine = serve(hello()).await;
        let proxy = proxy(&[&mine]).await;
        let https = format!("https://127.0.0.1:{}/", mine.port().unwrap());
        for (address, status) in [("/", "400"), (https.as_str(), "400"), ("ws://127.0.0.1/", "403")] {
            let answer = get(&proxy, address).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{address}: {answer}");
        }
        let long = "x".repeat(ProxyLimits::default().max_header_bytes);
        let answer = get(&proxy, &format!("{mine}{long}")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }

    #[tokio::test]
    async fn a_site_that_is_down_unknown_or_silent_is_told_from_one_that_is_refused() {
        let silent = serve(Router::new().fallback(any(std::future::pending::<()>))).await;
        let down = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            url(&format!("http://{}/", listener.local_addr().unwrap()))
        };
        let guard = Guard::new(vec![silent.clone(), down.clone()]);
        let limits = ProxyLimits { idle_timeout: Duration::from_millis(200), ..ProxyLimits::default() };
        let proxy = GuardProxy::start(guard, limits).await.unwrap();
        for (address, status, code) in [
            (silent.as_str(), "504", "timeout"),
            (down.as_str(), "502", "connect"),
            ("http://no-such-shop.invalid/", "502", "dns"),
        ] {
            let answer = get(&proxy, address).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{address}: {answer}");
            assert!(answer.contains(&format!("{FAILED_HEADER}: {code}")), "{address}: {answer}");
        }
    }

    #[tokio::test]
    async fn dropping_the_proxy_ends_its_tunnels() {
        let mine = serve(hello()).await;
        let proxy = proxy(&[&mine]).await;
        let mut tunnel = TcpStream::connect(proxy.address()).await.unwrap();
        let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", mine.port().unwrap());
        assert!(exchange(&mut tunnel, &connect).await.starts_with("HTTP/1.1 200"));
        drop(proxy);
        assert!(matches!(tunnel.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}
