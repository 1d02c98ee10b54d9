//! The servers under test: how each is started, killed, stopped and measured; none outlives this process.

use std::{
    ffi::OsString,
    fmt::Display,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{
    client::{Plan, Protocol},
    control::Control,
    usage::{self, Cpu},
};
use crate::process;

/// How long a start may take; the first one makes a database.
const START: Duration = Duration::from_secs(120);
/// How long a server may take to end after SIGTERM; as long as Kubernetes waits.
const STOP: Duration = Duration::from_secs(30);
/// How long programs of a killed server may linger.
const LINGER: Duration = Duration::from_secs(20);
/// Below the ports that outgoing connections are given: one of those could take the server's port while it restarts.
const PORTS: std::ops::Range<u16> = 15_000..30_000;

/// A server that this tool can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// This program, with its embedded Postgres.
    Jobcast,
    /// Node's socket.io as it comes.
    Node,
    /// Node's socket.io with its in-memory connection state recovery.
    NodeRecovery,
    /// A websocket broadcast on axum, without any protocol.
    Bare,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Jobcast, Kind::Node, Kind::NodeRecovery, Kind::Bare];

    /// The server's name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Jobcast => "Jobcast",
            Kind::Node => "socket.io 4.8",
            Kind::NodeRecovery => "socket.io 4.8, recovery",
            Kind::Bare => "bare websocket",
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Kind::Bare => Protocol::Raw,
            Kind::Jobcast | Kind::Node | Kind::NodeRecovery => Protocol::SocketIo,
        }
    }
}

/// Where the servers' programs are.
#[derive(Clone, Debug, clap::Args)]
pub struct Programs {
    /// The folder of Node's server, after `npm ci`.
    #[arg(long, value_name = "FOLDER", default_value = "tests/bench/node")]
    pub node_dir: PathBuf,
    /// The bare websocket's program (`cargo build --release --example bare_websocket`).
    #[arg(long, value_name = "FILE", default_value = "target/release/examples/bare_websocket")]
    pub bare: PathBuf,
    /// Where Jobcast's folder is made, and removed afterwards; a disk, for appends wait for it [default: the system's
    /// temporary folder].
    #[arg(long, value_name = "FOLDER")]
    pub scratch: Option<PathBuf>,
    /// A Postgres for Jobcast instead of its embedded one; an empty database.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

/// How one server is started, each time anew.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
}

/// A folder that is gone with the value.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(programs: &Programs) -> anyhow::Result<Scratch> {
        let parent = programs.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let path = parent.join(format!("jobcast-bench-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let made = fs::create_dir(&path).and_then(|()| {
            // The database's user must get in.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        });
        made.with_context(|| format!("cannot make {}; choose another place with --scratch", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server under test; dropping it kills it, if this process started it, and waits until it is gone.
#[derive(Debug)]
pub struct Server {
    pub title: String,
    pub control: Control,
    address: SocketAddr,
    protocol: Protocol,
    launch: Option<Launch>,
    child: Option<Child>,
    /// The process to measure.
    pid: Option<u32>,
    /// Dropped behind the server.
    _scratch: Option<Scratch>,
}

impl Server {
    /// Starts a server of this kind on a free port. Call it from a thread that lives as long as the server should.
    pub async fn start(kind: Kind, programs: &Programs) -> anyhow::Result<Server> {
        Server::start_with(kind, programs, &[], Vec::new()).await
    }

    /// A Jobcast with workers, under settings given as environment variables.
    pub async fn start_working(
        programs: &Programs,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Server> {
        Server::start_with(Kind::Jobcast, programs, &["--work"], environment).await
    }

    /// A Jobcast without workers, under settings given as environment variables.
    pub async fn start_serving(
        programs: &Programs,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Server> {
        Server::start_with(Kind::Jobcast, programs, &[], environment).await
    }

    async fn start_with(
        kind: Kind,
        programs: &Programs,
        more: &[&str],
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Server> {
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut scratch = None;
        let launch = match kind {
            Kind::Jobcast => {
                let mut arguments: Vec<OsString> =
                    ["bench", "target", "--listen"].map(OsString::from).to_vec();
                let folder = scratch.insert(Scratch::new(programs)?);
                arguments.push(address.to_string().into());
                arguments.extend(["--data-dir".into(), folder.0.clone().into_os_string()]);
                if let Some(url) = &programs.database_url {
                    arguments.extend(["--database-url".into(), url.into()]);
                }
                arguments.extend(more.iter().map(OsString::from));
                let program = std::env::current_exe().context("this program's path is unknown")?;
                Launch { program, arguments, environment }
            }
            Kind::Node | Kind::NodeRecovery => {
                ensure!(
                    programs.node_dir.join("node_modules/socket.io").exists(),
                    "{} has no socket.io: run `npm ci --prefix {0}`, or name the folder with --node-dir",
                    programs.node_dir.display()
                );
                let program = process::find_program("node");
                let program =
                    program.ok_or_else(|| anyhow!("node is not installed: run `apt-get install nodejs`"))?;
                let mut arguments =
                    vec![programs.node_dir.join("server.mjs").into_os_string(), port.to_string().into()];
                arguments.extend((kind == Kind::NodeRecovery).then(|| "--recovery".into()));
                Launch { program, arguments, environment }
            }
            Kind::Bare => {
                ensure!(
                    programs.bare.exists(),
                    "there is no {}: run `cargo build --release --example bare_websocket`, or name it with --bare",
                    programs.bare.display()
                );
                Launch {
                    program: fs::canonicalize(&programs.bare)?,
                    arguments: vec![address.to_string().into()],
                    environment,
                }
            }
        };
        let mut server = Server {
            title: kind.title().into(),
            control: Control::new(Url::parse(&format!("http://{address}/"))?)?,
            address,
            protocol: kind.protocol(),
            launch: Some(launch),
            child: None,
            pid: None,
            _scratch: scratch,
        };
        server.launch().await?;
        Ok(server)
    }

    /// A server that runs already; with its process's id it can be measured.
    pub fn attach(url: Url, protocol: Protocol, pid: Option<u32>) -> anyhow::Result<Server> {
        let address = *url
            .socket_addrs(|| None)
            .ok()
            .filter(|_| url.scheme() == "http")
            .as_deref()
            .and_then(<[SocketAddr]>::first)
            .ok_or_else(|| anyhow!("{url} is no address that is found; write it as http://host:port"))?;
        Ok(Server {
            title: url.to_string(),
            control: Control::new(url)?,
            address,
            protocol,
            launch: None,
            child: None,
            pid,
            _scratch: None,
        })
    }

    /// Where it is, as a client is told.
    pub fn base(&self) -> anyhow::Result<Url> {
        Ok(Url::parse(&format!("http://{}/", self.address))?)
    }

    /// Its process, if it is known.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a crowd does with this server.
    pub fn plan(&self, room: impl Display) -> Plan {
        Plan { address: self.address, protocol: self.protocol, room: room.to_string(), after: None }
    }

    /// Processor time up to now; `None` when the process is not known.
    pub fn cpu(&self) -> anyhow::Result<Option<Cpu>> {
        self.pid.map(usage::cpu).transpose()
    }

    /// Bytes of memory; `None` when the process is not known.
    pub fn memory(&self) -> anyhow::Result<Option<u64>> {
        self.pid.map(usage::memory).transpose()
    }

    /// `kill -9`, and the same server again on the same folder and port.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        let child = self.running()?;
        child.kill().await.context("the server cannot be killed")?;
        self.launch().await
    }

    /// SIGTERM, and when it has ended the same server again; one that does not end in time is killed. Returns whether
    /// it ended by itself.
    pub async fn stop_and_restart(&mut self) -> anyhow::Result<bool> {
        let child = self.running()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.ok_or_else(|| anyhow!("the server is gone"))?, Signal::TERM)?;
        let by_itself = timeout(STOP, child.wait()).await.is_ok();
        if !by_itself {
            child.kill().await.context("the server cannot be killed")?;
        }
        self.launch().await?;
        Ok(by_itself)
    }

    fn running(&mut self) -> anyhow::Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| {
            anyhow!("this scenario stops and starts the server, so it must start it itself: use --server instead of --url")
        })
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let launch = self.launch.as_ref().ok_or_else(|| anyhow!("this server was not started here"))?;
        let mut command: Command = process::command(&launch.program, None, Some("KILL")).into();
        command.args(&launch.arguments).envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("cannot run {}", launch.program.display()))?;
        self.pid = child.id();
        let child = self.child.insert(child);
        let began = Instant::now();
        while !self.control.is_ready().await {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended at its start: {status}", self.title);
            }
            ensure!(began.elapsed() < START, "{} was not ready within {} s", self.title, START.as_secs());
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(pid) = child.id() else { return };
        let family = usage::family(pid);
        let _ = child.start_kill();
        // Its folder is removed next, and its database writes to it to the last.
        for pid in family {
            usage::await_end(pid, LINGER);
        }
    }
}

fn free_port() -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let candidates = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1000);
    candidates.into_iter().find(free).ok_or_else(|| anyhow!("there is no free port in {PORTS:?}"))
}

/// Whether so many connections fit into this process's limit of open files.
pub fn ensure_room_for(clients: usize) -> anyhow::Result<()> {
    const OTHERS: u64 = 200;
    let limit = process::raise_open_files()?;
    ensure!(
        clients as u64 + OTHERS <= limit,
        "{clients} clients need more open files than the {limit} that this process may have; raise the hard limit \
         (`ulimit -Hn`), or use fewer with --clients"
    );
    Ok(())
}
