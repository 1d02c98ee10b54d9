//! One server, from its database up to its listeners, and the order in which it stops.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use sqlx::postgres::PgConnectOptions;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use url::Url;

use super::{
    demo_shop::{self, Catalogue},
    listen,
};
use crate::{
    config::{self, AdminMode, Config, MetricsAccess, Signed},
    dialects::{self, novel_tool},
    event::{Ask, Kind},
    guard::Guard,
    http,
    http::{Api, Contracts, DemoShop, Live, Numbers, Page, Pictures, Shell},
    identity::Identity,
    job::{RequestLimits, Stage},
    metrics,
    pipeline::{Context, Worker},
    realtime::{
        hub::Hub,
        projector::Projector,
        session::Sessions,
        socketio::{self, Counters, Sockets},
        websocket::RawSockets,
    },
    store::{
        Blobs, Store, StoreError,
        embedded::{Durability, EmbeddedError, Postgres},
    },
    webhooks::{self, Deliverer},
};

/// Where the demo shop is mounted.
pub const DEMO_SHOP: &str = "/demo/shop";
/// How long closing the sockets may take; a client that does not read must not keep the server.
const CLOSE_SOCKETS: Duration = Duration::from_secs(3);
/// How long open requests may take to end.
const CLOSE_REQUESTS: Duration = Duration::from_secs(5);
/// How long anything may take once somebody is in a hurry.
const HURRY: Duration = Duration::from_secs(1);
/// How often what is too old is looked for, at the least.
const LONGEST_ROUND: Duration = Duration::from_secs(3600);
/// How often objects of removed jobs are looked for: those that their removal did not get to.
const OBJECTS_ROUND: Duration = Duration::from_secs(30);
/// How often schedules are looked at; a run is so late at the most.
const SCHEDULES_ROUND: Duration = Duration::from_secs(2);
/// How often workers' leases are looked at, and jobs that wait for a worker.
const WORK_ROUND: Duration = Duration::from_secs(1);
/// Shorter secrets than HS256's own length are warned of.
const SHORT_SECRET: usize = 32;
/// How long the name of a new webhook's host is asked for.
const LOOK_UP: Duration = Duration::from_secs(3);
/// How often the embedded database is looked at.
const WATCH_DATABASE: Duration = Duration::from_millis(500);

/// A path, and the routes that are served there.
pub type MoreRoutes = (&'static str, fn(Store) -> axum::Router);

/// A running server.
pub struct Server {
    /// The address under which this machine reaches it.
    pub local: Url,
    /// The address that clients are told.
    pub public: Url,
    pub store: Store,
    hub: Arc<Hub>,
    /// Where the numbers are served alone.
    pub numbers_at: Vec<SocketAddr>,
    numbers: AbortOnDropHandle<()>,
    ready: Arc<AtomicBool>,
    sockets: Sockets,
    raw_sockets: RawSockets,
    stop_http: CancellationToken,
    stop_work: CancellationToken,
    interrupt_work: CancellationToken,
    http: JoinHandle<std::io::Result<()>>,
    work: Option<JoinHandle<()>>,
    deliveries: Option<JoinHandle<()>>,
    stream: AbortOnDropHandle<()>,
    sessions: AbortOnDropHandle<()>,
    revocations: AbortOnDropHandle<()>,
    /// Ends what is kept for the dialects' rooms.
    _rooms: DropGuard,
    retention: AbortOnDropHandle<()>,
    schedules: AbortOnDropHandle<()>,
    work_leases: AbortOnDropHandle<()>,
    drain: Duration,
    context: Option<Arc<Context>>,
    postgres: Option<Postgres>,
    grace: Duration,
}

impl Server {
    /// Builds and starts everything on listeners that are bound already.
    pub async fn start(config: Config, listeners: Vec<TcpListener>) -> anyhow::Result<Server> {
        Server::start_with(config, listeners, None).await
    }

    /// Serves more routes beside its own, at a path.
    pub async fn start_with(
        mut config: Config,
        listeners: Vec<TcpListener>,
        more: Option<MoreRoutes>,
    ) -> anyhow::Result<Server> {
        // TLS of the crawler, of S3 and of a remote database; a second start in one process finds it set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let first =
            listeners.first().ok_or_else(|| anyhow!("there is no address to listen on"))?.local_addr()?;
        let local = address_of(first)?;
        let public = match config.server.public_url.as_str() {
            "" => local.clone(),
            given => Url::parse(given)?,
        };
        warn_of_unsafe_settings(&config, &listeners);
        if config.objects.signed == Signed::Never && config.auth.takes_tokens() {
            config.objects.signed = Signed::Offered;
        }
        if config.server.demo_shop {
            config.crawler.allow_origins.push(local.clone());
        }
        let contracts = Contracts::open(&public, &dialects::sockets(), &config.server.client_bundle)?;
        let data_dir = data_dir(&config.server.data_dir)?;
        std::fs::create_dir_all(&data_dir).with_context(|| {
            format!("cannot make the data directory {}; choose another with --data-dir", data_dir.display())
        })?;

        let (options, postgres) = database(&config, &data_dir).await?;
        let (store, announcements) = Store::open(options, &config.database).await?;
        let store = store.with_jobs_per_owner(config.pipeline.jobs_per_owner).with_work(config.work.clone());
        store.put_templates(&Context::builtin_templates()).await?;
        if postgres.is_some() {
            store.take_over_webhooks().await?;
            let taken = store.take_over().await?;
            if taken > 0 {
                tracing::info!(tasks = taken, "work that was under way when the server stopped goes on");
            }
        }
        store.give_all_slots().await?;
        // Workers outside outlive this server; they are given the time to come back.
        store.extend_leases().await?;
        let blobs = Blobs::open(&config.objects, &data_dir, &public)?;
        let (hub, stream) = Hub::start(store.clone(), announcements, &config.realtime).await?;
        let (sessions, session_keeper) =
            Sessions::start(store.clone(), hub.clone(), config.realtime.recover_for);
        let retention = tokio::spawn(tidy_up(
            store.clone(),
            blobs.clone(),
            config.database.clone(),
            config.webhooks.keep_failed,
        ));
        let retention = AbortOnDropHandle::new(retention);
        let (identity, revocations) = Identity::start(store.clone(), &config.auth).await?;
        let stop_rooms = CancellationToken::new();
        let novels = Projector::new(novel_tool::Novels::new(blobs.clone()), hub.clone(), stop_rooms.clone());
        let rooms = novel_tool::Rooms::new(store.clone(), identity.clone(), novels);
        let (socket_service, sockets) = socketio::start(
            hub.clone(),
            sessions,
            identity.clone(),
            rooms,
            blobs.addresses().clone(),
            &config.server.cors_origins,
            &config.realtime,
            &config.admin_ui,
        );

        let raw_sockets = RawSockets::new(hub.clone(), &config);
        let ready = Arc::new(AtomicBool::new(true));
        let stop_http = CancellationToken::new();
        let limits = RequestLimits {
            max_products: config.crawler.max_products,
            match_threshold: config.pipeline.match_threshold,
        };
        let context = match config.pipeline.enabled {
            true => Some(Arc::new(Context::open(store.clone(), blobs.clone(), &config, &data_dir).await?)),
            false => None,
        };
        name_numbers(&config);
        let set_numbers = look_at(context.clone(), sockets.counters().clone());
        let numbers = Numbers::new(store.clone(), hub.clone(), config.metrics.access, &public, set_numbers);
        let alone = listen::bind(&config.metrics.listen).await.context("metrics.listen")?;
        let numbers_at: Vec<SocketAddr> = alone.iter().filter_map(|l| l.local_addr().ok()).collect();
        let serve_numbers = tokio::spawn(serve_numbers(alone, numbers.clone(), stop_http.clone()));
        let deliverer =
            Deliverer::open(store.clone(), blobs.addresses().clone(), config.webhooks.clone()).await?;
        let webhooks = routes_of(&deliverer, &config.webhooks);
        let schedules = AbortOnDropHandle::new(tokio::spawn(keep_schedules(store.clone(), limits)));
        let work_leases = AbortOnDropHandle::new(tokio::spawn(keep_work(store.clone())));
        let api = Api {
            store: store.clone(),
            blobs: blobs.clone(),
            identity,
            auth: Arc::new(config.auth.clone()),
            pictures: Pictures::new(store.clone(), blobs.clone(), &config.objects),
            public_base: public.as_str().trim_end_matches('/').into(),
            label_list: config.server.label_list,
            limits,
            company_workers: config.pipeline.company_concurrency,
            max_upload: config.server.max_upload,
            max_artifact: config.work.max_artifact,
            ocr_wait: config.ocr.wait,
            max_age: config.objects.max_age,
            ready: ready.clone(),
            live: Live::new(hub.clone(), stop_http.clone(), &config),
            numbers,
            page: Page::new(blobs.addresses()),
            demo_shop: config.server.demo_shop.then(|| Arc::new(demo(&local))),
            contracts,
            webhooks,
            look: context.clone().map(look),
        };
        let ground = dialects::Ground {
            sockets: &raw_sockets,
            addresses: blobs.addresses(),
            novel_tool: config.novel_tool,
        };
        let dialects = dialects::routes(ground);
        let mut routes = http::described(http::routes().merge(dialects));
        if config.server.demo_shop {
            // Robots ask at the root of the host only.
            routes = routes.route("/robots.txt", axum::routing::get(demo_shop::robots));
        }
        let mut shell = Shell::new(routes, api, dialects::refuse, socket_service, &config.server);
        if config.server.demo_shop {
            shell = shell.nest(DEMO_SHOP, demo_shop::router_of(Catalogue::of(config.server.demo_products)));
        }
        if let Some((path, routes)) = more {
            shell = shell.nest(path, routes(store.clone()));
        }

        let stop_work = CancellationToken::new();
        let interrupt_work = CancellationToken::new();
        let work = context.clone().map(|context| {
            let worker = Worker::new(context, (&config.pipeline).into());
            tokio::spawn(worker.run(stop_work.clone(), interrupt_work.clone()))
        });
        let deliveries = config.webhooks.enabled.then(|| tokio::spawn(deliverer.run(stop_work.clone())));
        let addresses: Vec<String> =
            listeners.iter().filter_map(|l| l.local_addr().ok()).map(|address| address.to_string()).collect();
        let http =
            tokio::spawn(http::serve(listeners, shell, stop_http.clone(), config.realtime.ping_timeout));
        tracing::info!(listening = addresses.join(", "), public = %public, data = %data_dir.display(), "ready");
        Ok(Server {
            local,
            public,
            store,
            hub,
            numbers_at,
            numbers: AbortOnDropHandle::new(serve_numbers),
            ready,
            sockets,
            raw_sockets,
            stop_http,
            stop_work,
            interrupt_work,
            http,
            work,
            deliveries,
            stream,
            sessions: session_keeper,
            revocations,
            _rooms: stop_rooms.drop_guard(),
            retention,
            schedules,
            work_leases,
            drain: config.realtime.drain,
            context,
            postgres,
            grace: config.server.shutdown_grace,
        })
    }

    /// The start page of the demo shop, as this server's crawler reaches it.
    pub fn demo_shop(&self) -> Url {
        demo_shop_of(&self.local)
    }

    /// How many clients follow events at the moment.
    pub fn clients(&self) -> usize {
        self.hub.clients()
    }

    /// How many raw WebSockets are open.
    pub fn raw_sockets(&self) -> usize {
        self.raw_sockets.count()
    }

    /// Serves until `stop` resolves; `hurry` then cuts the wait for open work short.
    ///
    /// # Errors
    /// When a part of the server ends by itself: the process should go down with it.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let failed = {
            let work = async {
                match &mut self.work {
                    Some(work) => work.await,
                    None => std::future::pending().await,
                }
            };
            let deliveries = async {
                match &mut self.deliveries {
                    Some(deliveries) => deliveries.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop => None,
                ended = deliveries => Some(anyhow!("the deliveries of webhooks ended: {ended:?}")),
                ended = &mut self.http => Some(anyhow!("the HTTP server ended: {ended:?}")),
                ended = &mut self.stream => Some(anyhow!("the stream of events ended: {ended:?}")),
                ended = work => Some(anyhow!("the workers ended: {ended:?}")),
                () = watch_database(self.postgres.as_ref()) => Some(anyhow!("the embedded database ended; its log tells why")),
            }
        };
        match failed {
            None => {
                self.stop(hurry).await;
                Ok(())
            }
            Some(error) => {
                // What still runs must not write half of anything.
                self.interrupt_work.cancel();
                Err(error)
            }
        }
    }

    /// Takes everything down: sockets first, then open requests, work, and the database last. `hurry` cuts every wait
    /// short.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) {
        self.ready.store(false, Ordering::Relaxed);
        self.schedules.abort();
        self.stop_work.cancel();
        let calm = async {
            // Sent away at the transport, so that clients come back by themselves, here or elsewhere.
            let drained =
                async { tokio::join!(self.sockets.drain(self.drain), self.raw_sockets.drain(self.drain)) };
            let _ = timeout(self.drain + CLOSE_SOCKETS, drained).await;
            self.stop_http.cancel();
            let _ = timeout(CLOSE_REQUESTS, &mut self.http).await;
            if let Some(work) = &mut self.work {
                let _ = timeout(self.grace, work).await;
            }
        };
        let patience = tokio::select! {
            () = calm => CLOSE_REQUESTS,
            () = hurry => HURRY,
        };
        self.stop_http.cancel();
        if let Some(deliveries) = &mut self.deliveries {
            // What is not answered by then is sent once more by whoever comes next.
            let _ = timeout(patience.min(self.grace), &mut *deliveries).await;
            deliveries.abort();
        }
        self.http.abort();
        self.interrupt_work.cancel();
        if let Some(work) = self.work.filter(|work| !work.is_finished()) {
            let _ = timeout(patience, work).await;
        }
        if let Some(context) = &self.context {
            context.browser.close().await;
        }
        self.numbers.abort();
        self.stream.abort();
        self.sessions.abort();
        self.revocations.abort();
        self.retention.abort();
        self.work_leases.abort();
        let _ = timeout(patience, self.store.close()).await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
    }
}

/// Serves the numbers alone; should that fail, the server goes on.
async fn serve_numbers(listeners: Vec<TcpListener>, numbers: Numbers, stop: CancellationToken) {
    if let Err(error) = http::serve_numbers(listeners, numbers, stop).await {
        tracing::error!(%error, "the numbers are not served on metrics.listen any more");
    }
}

/// Makes the labels known that have few values.
fn name_numbers(config: &Config) {
    metrics::name_kinds(&config.metrics.kinds);
    metrics::numbers().name_events(Kind::ALL.iter().map(|kind| kind.wire_name()));
    for ask in Ask::ALL {
        metrics::numbers().socket_events_received.with_label_values(&[ask.name()]);
    }
    metrics::numbers().name_stages(Stage::ALL.iter().map(|stage| stage.word()));
}

/// What sets the numbers that the tools and the sockets know.
fn look_at(context: Option<Arc<Context>>, sockets: Arc<Counters>) -> http::NumbersLook {
    Arc::new(move || {
        let numbers = metrics::numbers();
        if let Some(context) = &context {
            let (in_use, most) = context.browser.tabs();
            numbers.browser_in_use.set(in_use as i64);
            numbers.browser_size.set(most as i64);
        }
        let slow = numbers.slow_closed.with_label_values(&["websocket"]);
        for (number, counted) in [
            (&numbers.socket_bytes_sent, &sockets.bytes_sent),
            (&numbers.socket_bytes_received, &sockets.bytes_received),
            (&numbers.socket_packets_sent, &sockets.packets_sent),
            (&slow, &sockets.stalled),
        ] {
            number.inc_by(counted.load(Ordering::Relaxed).saturating_sub(number.get()));
        }
    })
}

/// The pipeline's look at a shop, for the routes.
fn look(context: Arc<Context>) -> http::Look {
    Arc::new(move |url| {
        let context = context.clone();
        Box::pin(async move {
            context.detect(&url).await.map(|found| found.told()).map_err(|error| error.to_string())
        })
    })
}

/// Those who deliver webhooks, for the routes.
fn routes_of(deliverer: &Arc<Deliverer>, settings: &config::Webhooks) -> http::Webhooks {
    let guard = Guard::new(settings.allow_origins.clone());
    let deliverer = deliverer.clone();
    http::Webhooks {
        check: Arc::new(move |url| {
            let guard = guard.clone();
            Box::pin(async move {
                // A name server that does not answer says nothing against the name; each delivery asks again.
                let looked = timeout(LOOK_UP, webhooks::may_be_told(&guard, &url)).await;
                looked.unwrap_or(Ok(()))
            })
        }),
        ping: Arc::new(move |webhook| {
            let deliverer = deliverer.clone();
            Box::pin(async move {
                let attempt = deliverer.ping(&webhook).await?;
                Some(http::Pinged { status: attempt.status, error: attempt.error })
            })
        }),
        message_id: webhooks::message_id,
        max_per_owner: settings.max_per_owner,
        secret_overlap: settings.secret_overlap,
    }
}

fn demo_shop_of(local: &Url) -> Url {
    let mut url = local.clone();
    url.set_path(&format!("{DEMO_SHOP}/"));
    url
}

/// The demo shop, as the page is told of it.
fn demo(local: &Url) -> DemoShop {
    let price_list = format!("{DEMO_SHOP}/{}", demo_shop::PRICE_LIST);
    DemoShop { url: demo_shop_of(local).into(), price_list }
}

/// How to connect to the database, and the embedded server if it is ours.
pub async fn database(
    config: &Config,
    data_dir: &Path,
) -> anyhow::Result<(PgConnectOptions, Option<Postgres>)> {
    if config.database.url.is_empty() {
        let postgres = Postgres::start(data_dir, &config.database.run_as, Durability::Durable).await?;
        return Ok((postgres.options(), Some(postgres)));
    }
    // The cause may repeat the address, and with it a password.
    let options = config.database.url.parse::<PgConnectOptions>().map_err(|_| {
        anyhow!("the database's address cannot be read; it has the form postgres://user:password@host:5432/database")
    })?;
    use sqlx::ConnectOptions as _;
    Ok((options.log_statements(tracing::log::LevelFilter::Trace), None))
}

/// The same beside a server that may be running: its embedded database is joined.
pub async fn database_at_hand(
    config: &Config,
    data_dir: &Path,
) -> anyhow::Result<(PgConnectOptions, Option<Postgres>)> {
    match database(config, data_dir).await {
        Err(error) if matches!(error.downcast_ref(), Some(EmbeddedError::InUse(_))) => {
            Ok((Postgres::options_of_running(data_dir, &config.database.run_as)?, None))
        }
        other => other,
    }
}

async fn watch_database(postgres: Option<&Postgres>) {
    match postgres {
        Some(postgres) => {
            while !postgres.has_exited() {
                tokio::time::sleep(WATCH_DATABASE).await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Removes what is too old now and then, and what is left of removed jobs in the object store.
async fn tidy_up(store: Store, blobs: Blobs, settings: config::Database, keep_failed: Duration) {
    let shortest = [settings.keep_events, settings.keep_jobs, settings.keep_idempotency_keys]
        .into_iter()
        .filter(|keep| !keep.is_zero())
        .min();
    let mut rounds =
        tokio::time::interval(shortest.map_or(LONGEST_ROUND, |keep| (keep / 10).min(LONGEST_ROUND)));
    let mut objects = tokio::time::interval(OBJECTS_ROUND);
    objects.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (what, done) = tokio::select! {
            _ = rounds.tick() => ("rows", forget(&store, &settings, keep_failed).await),
            _ = objects.tick() => ("objects", store.delete_objects(&blobs).await),
        };
        match done {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, what, "what was too old or of no use any more was removed"),
            Err(error) => tracing::warn!(%error, what, "what is too old could not be removed; trying again"),
        }
    }
}

async fn forget(
    store: &Store,
    settings: &config::Database,
    keep_failed: Duration,
) -> Result<u64, StoreError> {
    let mut gone = store.forget_keys().await? + store.forget_failed_deliveries(keep_failed).await?;
    if !settings.keep_events.is_zero() {
        gone += store.forget_events(settings.keep_events).await?;
    }
    if !settings.keep_jobs.is_zero() {
        gone += store.forget_jobs(settings.keep_jobs).await?;
    }
    Ok(gone)
}

/// Takes jobs from workers outside that are not heard of, and wakes those who wait for jobs that nobody announced.
async fn keep_work(store: Store) {
    let mut rounds = tokio::time::interval(WORK_ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match store.sweep_work().await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!(jobs, "jobs were taken from workers that were not heard of"),
            Err(error) => tracing::warn!(%error, "lost workers could not be looked for; trying again"),
        }
    }
}

/// Makes the jobs of schedules that are due.
async fn keep_schedules(store: Store, limits: RequestLimits) {
    let mut rounds = tokio::time::interval(SCHEDULES_ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match store.run_due(chrono::Utc::now(), &limits).await {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => tracing::info!(jobs = jobs.len(), "scheduled jobs were started"),
            Err(error) => tracing::warn!(%error, "schedules could not be looked at; trying again"),
        }
    }
}

/// The data directory that was asked for, or the usual one.
pub fn data_dir(asked: &Path) -> anyhow::Result<PathBuf> {
    if !asked.as_os_str().is_empty() {
        return std::path::absolute(asked).map_err(Into::into);
    }
    if rustix::process::geteuid().is_root() {
        // Root's home is closed to the users that the database and the browser run as.
        return Ok("/var/lib/jobcast".into());
    }
    match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
        (Some(data), _) if !data.is_empty() => Ok(PathBuf::from(data).join("jobcast")),
        (_, Some(home)) if !home.is_empty() => Ok(PathBuf::from(home).join(".local/share/jobcast")),
        _ => Err(anyhow!("there is no home directory for the data; name a folder with --data-dir")),
    }
}

/// The address under which this machine reaches a listener.
fn address_of(bound: SocketAddr) -> anyhow::Result<Url> {
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    Ok(Url::parse(&format!("http://{}/", SocketAddr::new(ip, bound.port())))?)
}

fn warn_of_unsafe_settings(config: &Config, listeners: &[TcpListener]) {
    let beyond =
        |listener: &TcpListener| listener.local_addr().is_ok_and(|address| !address.ip().is_loopback());
    if config.auth.anonymous && listeners.iter().any(beyond) {
        tracing::warn!(
            "everybody who reaches this port may start jobs, and see and cancel those that were started without a token: auth.anonymous is on; turn it off, or put a proxy with a log-in in front"
        );
    }
    if config.metrics.access == MetricsAccess::Everyone && listeners.iter().any(beyond) {
        tracing::warn!(
            "everybody who reaches this port may read the server's numbers: metrics.access is \"everyone\"; set it to \"key\", or name an address that only your Prometheus reaches in metrics.listen"
        );
    }
    if (1..SHORT_SECRET).contains(&config.auth.jwt_secret.len()) {
        tracing::warn!(
            "auth.jwt_secret has fewer than {SHORT_SECRET} characters: who guesses it can be anybody; set a longer one"
        );
    }
    if config.server.cors_origins.iter().any(|origin| origin == "*") {
        tracing::warn!(
            "server.cors_origins is \"*\": every web page may use this server through its visitors' browsers"
        );
    }
    for network in config.server.trusted_proxies.iter().filter(|network| network.prefix_len() == 0) {
        tracing::warn!(
            %network,
            "server.trusted_proxies believes everybody who says in X-Forwarded-For to be somebody else: limits count nobody; name your proxies' own networks"
        );
    }
    if config.server.demo_shop {
        tracing::warn!(
            "the demo shop is on: the crawler may reach this server's own address, which it otherwise refuses"
        );
    }
    for origin in &config.webhooks.allow_origins {
        tracing::warn!(%origin, "webhooks.allow_origins lets webhooks reach this origin although it may be private or plain http");
    }
    if config.admin_ui.enabled && config.admin_ui.mode == AdminMode::Development {
        tracing::warn!(
            "who knows the Admin UI's password sees what all sockets say and are told, whoever's jobs that is of: admin_ui.mode is \"development\""
        );
    }
    for origin in &config.crawler.allow_origins {
        tracing::warn!(%origin, "crawler.allow_origins lets jobs reach this origin although it may be private");
    }
}
