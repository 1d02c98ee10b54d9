//! `/metrics`: who may read the numbers, and what of them is looked up for the reader.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts, uri::Authority},
    response::{IntoResponse, Response},
};
use prometheus::IntGaugeVec;
use tokio::{sync::Mutex, time::timeout};
use tower_http::timeout::TimeoutLayer;
use url::{Host, Url};

use super::{Api, ErrorBody, caller::challenge, error::Error};
use crate::{
    config::MetricsAccess,
    identity::Credentials,
    job::{Code, Rejection, Scope, Stage, Status},
    metrics::{self, CONTENT_TYPE, kind_label, numbers},
    realtime::hub::Hub,
    store::{QueueNumbers, Store},
};

/// What the database said is said again for so long, however many ask.
const FRESH: Duration = Duration::from_secs(5);
/// How long the database may take; then what it said last stands.
const PATIENCE: Duration = Duration::from_secs(3);
/// What proxies add to a request.
const OF_PROXIES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
/// What is waiting and what is at work.
const STATES: [&str; 2] = ["ready", "running"];

/// Sets the numbers that other parts of the process know.
pub type Look = Arc<dyn Fn() + Send + Sync>;

/// The numbers, and who may read them. Cheap to clone.
#[derive(Clone)]
pub struct Numbers(Arc<Shared>);

struct Shared {
    store: Store,
    hub: Arc<Hub>,
    look: Look,
    access: MetricsAccess,
    /// Whether people reach this server under a name that is not this machine's own: then requests come from a proxy.
    is_behind_proxy: bool,
    began: Instant,
    /// When the database was asked last.
    asked: Mutex<Option<Instant>>,
}

impl Numbers {
    pub fn new(store: Store, hub: Arc<Hub>, access: MetricsAccess, public_url: &Url, look: Look) -> Numbers {
        let is_behind_proxy = !public_url.host().is_some_and(|host| is_loopback(&host));
        let (began, asked) = (Instant::now(), Mutex::default());
        Numbers(Arc::new(Shared { store, hub, look, access, is_behind_proxy, began, asked }))
    }

    async fn text(&self) -> Response {
        (self.0.look)();
        self.ask_database().await;
        numbers().hub_clients.set(self.0.hub.clients() as i64);
        numbers().journal_waiting.set(self.0.store.waiting_appends() as i64);
        numbers().uptime.set(self.0.began.elapsed().as_secs_f64());
        let (in_use, idle, most) = self.0.store.connections();
        for (state, count) in [("in_use", in_use), ("idle", idle)] {
            numbers().database_connections.with_label_values(&[state]).set(count as i64);
        }
        numbers().database_connections_max.set(most as i64);
        match numbers().text() {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "the numbers could not be written");
                Error::from(Rejection::new(Code::Internal, "The server failed; its log tells why."))
                    .into_response()
            }
        }
    }

    /// Asks for what only the database knows, if that was not done just now. Who comes while it is asked is told what is
    /// known.
    async fn ask_database(&self) {
        let Ok(mut asked) = self.0.asked.try_lock() else { return };
        if asked.is_some_and(|asked| asked.elapsed() < FRESH) {
            return;
        }
        let found = timeout(PATIENCE, self.0.store.queue_numbers()).await;
        *asked = Some(Instant::now());
        let delivered = self.0.hub.delivered();
        numbers().hub_position.set(delivered);
        match found {
            Ok(Ok(queues)) => {
                numbers().database_up.set(1);
                numbers().journal_position.set(queues.position);
                numbers().hub_lag.set((queues.position - delivered).max(0));
                set_queues(&queues);
            }
            Ok(Err(error)) => {
                numbers().database_up.set(0);
                tracing::warn!(%error, "the queues could not be counted; their numbers are old");
            }
            Err(_) => {
                numbers().database_up.set(0);
                tracing::warn!("the queues could not be counted in time; their numbers are old");
            }
        }
    }

    /// Whether the sender of a request may read.
    async fn admit(&self, api: &Api, parts: &Parts) -> Result<(), Rejection> {
        let access = self.0.access;
        let credentials = Credentials::of_request(&parts.headers, parts.uri.query());
        match access {
            MetricsAccess::Everyone => Ok(()),
            MetricsAccess::Nobody => {
                let message = "The numbers are not told here: metrics.access is \"nobody\".";
                Err(Rejection::new(Code::RouteNotFound, message))
            }
            _ if credentials.are_given() => {
                api.identity.authenticate(&credentials).await?.require(Scope::Metrics)
            }
            MetricsAccess::Local if self.is_local(parts) => Ok(()),
            _ => {
                let message = "The numbers are for the operator: send an API key of the scope metrics (`jobcast key create prometheus --subject operator --scope metrics`) as Authorization: Bearer …, or see metrics.access and metrics.listen.";
                Err(Rejection::new(Code::Unauthenticated, message))
            }
        }
    }

    /// Whether a request is of a program on this machine. A proxy is one too, and so is a browser that a page of elsewhere
    /// leads here by a name of its own: so the name that was asked for counts as well.
    fn is_local(&self, parts: &Parts) -> bool {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_peer_here = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
        let is_passed_on = OF_PROXIES.iter().any(|name| parts.headers.contains_key(*name));
        is_peer_here
            && !is_passed_on
            && !self.0.is_behind_proxy
            && asks_this_machine(&parts.headers, &parts.uri)
    }
}

/// The numbers of this server, in Prometheus' text format.
///
/// For programs on this machine; others need an API key or a token of the scope `metrics`. The settings `metrics.access` and
/// `metrics.listen` can say otherwise.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "They are not told here"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn show(State(api): State<Api>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match api.numbers.admit(&api, &parts).await {
        Ok(()) => api.numbers.text().await,
        Err(rejection) => {
            let code = rejection.code;
            challenge(code, Error::from(rejection).into_response())
        }
    }
}

/// The same for everybody, on listeners of its own.
pub fn open_routes(numbers: Numbers) -> Router {
    const LONGEST: Duration = Duration::from_secs(10);
    let show = async |State(numbers): State<Numbers>| numbers.text().await;
    let routes = Router::new().route("/metrics", axum::routing::get(show)).with_state(numbers);
    routes.layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, LONGEST))
}

fn asks_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(uri.host());
    let Some(host) = named.and_then(|named| named.parse::<Authority>().ok()) else { return false };
    Host::parse(host.host()).is_ok_and(|host| is_loopback(&host))
}

fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref() == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

/// Sets what is waiting and at work; what is not there any more is none.
fn set_queues(queues: &QueueNumbers) {
    let numbers = numbers();
    let mut items = Levels::new(Stage::ALL.iter().map(|stage| stage.word()));
    for queue in &queues.items {
        if let Some(stage) = Stage::from_word(&queue.name) {
            items.add(stage.word(), &queue.state, queue.count, queue.age);
        }
    }
    items.set(&numbers.queue_items, &numbers.queue_age);
    let mut work = Levels::new(metrics::kinds());
    for queue in &queues.work {
        work.add(kind_label(&queue.name), &queue.state, queue.count, queue.age);
    }
    work.set(&numbers.work_jobs, &numbers.work_age);
    for status in Status::ALL.iter().filter(|status| !status.is_ended()) {
        let count =
            queues.jobs.iter().find(|(word, _)| *word == status.word()).map_or(0, |(_, count)| *count);
        numbers.jobs_open.with_label_values(&[status.word()]).set(count);
    }
    let deliveries = &queues.deliveries;
    for (state, count) in [("pending", deliveries.pending), ("given_up", deliveries.given_up)] {
        numbers.webhook_deliveries.with_label_values(&[state]).set(count);
    }
    numbers.webhook_age.set(deliveries.age as i64);
}

/// How many of each name are in each state, and the age of the oldest.
struct Levels(Vec<(&'static str, [i64; 2], f64)>);

impl Levels {
    fn new(names: impl Iterator<Item = &'static str>) -> Levels {
        Levels(names.map(|name| (name, [0; 2], 0.0)).collect())
    }

    fn add(&mut self, name: &str, state: &str, count: i64, age: f64) {
        let of_name = self.0.iter_mut().find(|(known, ..)| *known == name);
        if let (Some((_, counts, oldest)), Some(state)) =
            (of_name, STATES.iter().position(|known| *known == state))
        {
            counts[state] += count;
            *oldest = oldest.max(age);
        }
    }

    fn set(&self, counts: &IntGaugeVec, ages: &IntGaugeVec) {
        for (name, of_states, age) in &self.0 {
            for (state, count) in STATES.iter().zip(of_states) {
                counts.with_label_values(&[*name, *state]).set(*count);
            }
            ages.with_label_values(&[name]).set(*age as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_elsewhere_is_not_this_machine() {
        let asks = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            asks_this_machine(&headers, &Uri::from_static("/metrics"))
        };
        for here in ["localhost:3001", "127.0.0.1", "127.0.0.1:3001", "[::1]:3001"] {
            assert!(asks(here), "{here}");
        }
        for elsewhere in
            ["jobs.example.com", "10.0.0.1:3001", "localhost.example.com", "127.0.0.1.nip.io", ""]
        {
            assert!(!asks(elsewhere), "{elsewhere}");
        }
    }
}
