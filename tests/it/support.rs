//! What the tests stand on: a fresh database each, and the real server on port 0.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use jobcast::{
    app::{Server, listen},
    config::Config,
    job::{ANONYMOUS, CrawlOptions, JobConfig, JobId, MatchOptions, Plan},
    store::{
        Announcement, NewJob, Store,
        embedded::{Durability, Postgres},
    },
};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    net::{TcpSocket, TcpStream},
    process::Command,
    sync::{OnceCell, mpsc},
    time::timeout,
};
use url::Url;
use uuid::Uuid;

/// Nothing that a test waits for takes longer; a wait that does is a failure, and says what it waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Held by a test that fills the machine (a browser, Tesseract), so that two such tests of one process take turns.
pub async fn heavy() -> tokio::sync::MutexGuard<'static, ()> {
    static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    HEAVY.lock().await
}

/// Begins a test again in a process of its own, unless it has one, as under nextest: numbers are counted by process, and
/// some tests count exactly. Returns whether this is the process that goes on with it.
pub async fn alone(test: &str) -> bool {
    const ALONE: &str = "JOBCAST_TEST_ALONE";
    if [ALONE, "NEXTEST"].iter().any(|name| std::env::var_os(name).is_some()) {
        return true;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE * 4, run).await.expect("the test ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{test} is no test: {said}");
    false
}

/// A folder that the database's and the browser's users can reach, gone with the value.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("jobcast-test-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The settings of the tests.
pub fn config() -> Config {
    let mut config = Config::defaults();
    config.crawler.delay = Duration::ZERO;
    config.crawler.page_timeout = Duration::from_secs(5);
    config.database.max_connections = 8;
    config
}

/// The same for a server whose jobs wait for what a test does with them.
pub fn quiet_config() -> Config {
    let mut config = config();
    config.pipeline.enabled = false;
    config
}

/// The Postgres server of this run: the one that `jobcast postgres --` gave, or one of this process's own.
async fn postgres() -> PgConnectOptions {
    static OWN: OnceCell<(Postgres, tempfile::TempDir)> = OnceCell::const_new();
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return url.parse().expect("DATABASE_URL is the address of a Postgres");
    }
    let (own, _) = OWN
        .get_or_init(async || {
            let folder = folder();
            let run_as = Config::defaults().database.run_as;
            (Postgres::start(folder.path(), &run_as, Durability::Throwaway).await.unwrap(), folder)
        })
        .await;
    own.options()
}

/// A new, empty database.
pub async fn empty_database() -> PgConnectOptions {
    let server = postgres().await;
    let connection = PgConnection::connect_with(&server).await.unwrap();
    new_database(server, connection, "template1").await
}

/// A new database with all tables, as [`Store::open`] makes them: a copy, which takes a third of the time.
pub async fn database() -> PgConnectOptions {
    let server = postgres().await;
    let mut connection = PgConnection::connect_with(&server).await.unwrap();
    let tables = tables(&server, &mut connection).await;
    new_database(server, connection, &tables).await
}

async fn new_database(
    server: PgConnectOptions,
    mut connection: PgConnection,
    template: &str,
) -> PgConnectOptions {
    let name = format!("test_{}", Uuid::new_v4().simple());
    // From 15 on there is a slower way, which is the default.
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let strategy = if version >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
    run(&mut connection, format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}")).await;
    connection.close().await.unwrap();
    server.database(&name)
}

/// The database that the others are copies of. The first test that needs it makes it; its name tells what is in it, for
/// the server may outlive this version.
async fn tables(server: &PgConnectOptions, connection: &mut PgConnection) -> String {
    let mut files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        (file.file_name(), fs::read(&file).unwrap()).hash(&mut hasher);
    }
    let name = format!("tables_{:016x}", hasher.finish());
    let is_there = async |connection: &mut PgConnection| -> bool {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(connection)
            .await
            .unwrap()
    };
    if is_there(connection).await {
        return name;
    }
    run(connection, "SELECT pg_advisory_lock(1)".into()).await;
    if !is_there(connection).await {
        let unfinished = format!("{name}_unfinished");
        run(connection, format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await;
        run(connection, format!("CREATE DATABASE {unfinished}")).await;
        let settings = config().database;
        let pool = jobcast::store::connect(server.clone().database(&unfinished), &settings).await.unwrap();
        jobcast::store::migrate(&pool).await.unwrap();
        pool.close().await;
        run(connection, format!("ALTER DATABASE {unfinished} WITH ALLOW_CONNECTIONS false")).await;
        run(connection, format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    run(connection, "SELECT pg_advisory_unlock(1)".into()).await;
    name
}

async fn run(connection: &mut PgConnection, statement: String) {
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(connection).await.unwrap();
}

/// The address of a database for a server in another process.
pub fn address(options: &PgConnectOptions) -> String {
    use sqlx::ConnectOptions as _;
    options.to_url_lossy().to_string()
}

/// A store on a new database, with the announcements that its hub would get.
pub async fn store() -> (Store, mpsc::Receiver<Announcement>) {
    let (store, announcements) = Store::open(database().await, &config().database).await.unwrap();
    store.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    (store, announcements)
}

/// A job whose first task waits for a worker.
pub async fn planned_job(store: &Store) -> JobId {
    planned_job_of(store, ANONYMOUS).await
}

/// One of an owner's.
pub async fn planned_job_of(store: &Store, owner: &str) -> JobId {
    let config = JobConfig {
        plan: Plan::Labels,
        shop_url: "https://shop.example.com/".into(),
        template_id: "standard-label".into(),
        max_products: 10,
        follow_pagination: true,
        import_id: None,
        match_threshold: 0.6,
        matching: MatchOptions::default(),
        crawl: CrawlOptions::default(),
        companies: None,
    };
    let id = JobId(Uuid::now_v7());
    let new = NewJob { owner: owner.into(), ..NewJob::on_shop(id, "test".into(), config).unwrap() };
    store.create(new).await.unwrap();
    id
}

/// A server in this process.
pub struct Running {
    server: Option<Server>,
    pub base: Url,
    /// The address of its database, on which others may start too.
    pub database: String,
    pub http: reqwest::Client,
    /// Its objects and scratch files; gone with the value.
    folder: tempfile::TempDir,
}

impl Running {
    /// The whole server without workers.
    pub async fn quiet() -> Running {
        Running::start(quiet_config()).await
    }

    /// On a database of its own if the settings name none.
    pub async fn start(mut config: Config) -> Running {
        let folder = folder();
        config.server.data_dir = folder.path().to_owned();
        if config.database.url.is_empty() {
            config.database.url = address(&database().await);
        }
        let database = config.database.url.clone();
        let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let server = Server::start(config, listeners).await.unwrap();
        let base = server.local.clone();
        Running { server: Some(server), base, database, http: reqwest::Client::new(), folder }
    }

    pub fn store(&self) -> &Store {
        &self.server.as_ref().unwrap().store
    }

    /// Where its objects are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// How many clients follow events at the moment.
    pub fn clients(&self) -> usize {
        self.server.as_ref().unwrap().clients()
    }

    /// How many raw WebSockets are open.
    pub fn raw_sockets(&self) -> usize {
        self.server.as_ref().unwrap().raw_sockets()
    }

    /// A connection whose end here holds only so many bytes (the kernel doubles them): its reader is soon a slow one.
    pub async fn connect_with_room_for(&self, bytes: u32) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(self.base.socket_addrs(|| None).unwrap()[0]).await.unwrap()
    }

    /// Where it serves its numbers alone.
    pub fn numbers_at(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().numbers_at[0]
    }

    pub fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap()
    }

    pub fn demo_shop(&self) -> Url {
        self.server.as_ref().unwrap().demo_shop()
    }

    /// The status and JSON body of a GET.
    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        answer(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    /// The status and JSON body of a POST.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        answer(self.http.post(self.url(path)).json(body).send().await.unwrap()).await
    }

    /// Waits until a job has ended and returns it as `/v1` shows it.
    pub async fn ended(&self, job: &str) -> serde_json::Value {
        wait_for("the job to end", async || {
            let (_, shown) = self.get(&format!("/v1/jobs/{job}")).await;
            (!shown["endedAt"].is_null()).then_some(shown)
        })
        .await
    }

    pub async fn stop(self) {
        self.stop_until(std::future::pending()).await;
    }

    /// Stops, and waits for nothing any more once somebody is in a hurry.
    pub async fn stop_until(mut self, hurry: impl Future<Output = ()>) {
        if let Some(server) = self.server.take() {
            server.stop(hurry).await;
        }
    }
}

pub async fn answer(response: reqwest::Response) -> (u16, serde_json::Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| {
        panic!("{status} with a body that is no JSON: {}", String::from_utf8_lossy(&body))
    });
    (status, json)
}

/// Asks again and again for something that another process or task brings about.
pub async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(PATIENCE * 4, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits for one thing that announces itself.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// What a measurement prints of its durations.
pub fn milliseconds(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let at = |share: f64| durations[((durations.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// The longest that tests in a browser may take.
const BROWSER: Duration = Duration::from_secs(240);

/// Runs a file of tests in a folder of `tests` with Node, and shows what it says if one fails.
pub async fn node_tests(folder: &str, file: &str, environment: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    assert!(
        folder.join("node_modules/playwright-core/package.json").exists(),
        "what drives the browser is not installed; run `make test`, which installs it"
    );
    let run = Command::new("node")
        .args(["--test", file])
        .envs(environment.iter().copied())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(BROWSER, run).await.expect("the browser's tests end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("# fail 0") && !said.contains("# pass 0"), "{said}");
}
