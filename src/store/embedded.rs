//! A private Postgres of our own: the installed server programs on a folder in the data directory.
//!
//! It listens on a Unix socket in a private folder only, dies with this process even when that is killed, and is
//! stopped with it. Postgres refuses to run as root; then it runs as the user that `database.run_as` names.

use std::{
    fs,
    io::{self, Read as _, Seek as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process, waitid},
};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

/// The newest majors are preferred; a folder is only opened by the major that made it.
const INSTALLED: &str = "/usr/lib/postgresql";
const USER: &str = "jobcast";
/// Longest path of a Unix socket, less the file name that Postgres appends.
const MAX_SOCKET_DIR: usize = 107 - "/.s.PGSQL.5432".len() - 1;
/// How long a start may take; recovery after a crash is part of it.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for a server of a killed predecessor to end.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stop may take before the server is told to drop everything.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether what is written must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on the disk.
    Durable,
    /// For tests: commits are not waited for.
    Throwaway,
}

/// Why the embedded server is not there; each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("PostgreSQL is not installed: run `apt-get install postgresql`, or give --database-url")]
    NotInstalled,
    #[error(
        "{path} was made by PostgreSQL {made_by}, which is not installed: run `apt-get install postgresql-{made_by}`"
    )]
    OtherVersion { path: PathBuf, made_by: String },
    #[error(
        "the setting database.run_as names the user {0:?}, which this system does not have; name another"
    )]
    NoUser(String),
    #[error("cannot use the folder {path}: {reason}; choose another with --data-dir")]
    Folder { path: PathBuf, reason: String },
    #[error("another Jobcast is using the data directory {0}; stop it, or choose another with --data-dir")]
    InUse(PathBuf),
    #[error("cannot run {program}: {reason}")]
    Program { program: String, reason: io::Error },
    #[error("PostgreSQL did not start: {reason}; its log is {log}")]
    Start { reason: String, log: PathBuf },
}

/// A running server. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct Postgres {
    socket_dir: PathBuf,
    pid: Pid,
    exited: Arc<Mutex<bool>>,
    // Held so that no second process uses the folder.
    _lock: fs::File,
}

impl Postgres {
    /// Starts the server on `data_dir/postgres`, making the folder and the database at the first time. Blocks.
    pub async fn start(
        data_dir: &Path,
        run_as: &str,
        durability: Durability,
    ) -> Result<Postgres, EmbeddedError> {
        let home = data_dir.join("postgres");
        let owner = Owner::find(run_as)?;
        let lock = prepare(data_dir, &home, &owner)?;
        let data = home.join("data");
        let programs = find_programs(&data)?;
        if !data.join("PG_VERSION").exists() {
            init(&programs, &home, &data, &owner, durability)?;
        }
        let socket_dir = socket_dir(&home, &owner)?;
        let began = Instant::now();
        loop {
            outlive_predecessor(&data).await;
            let log = home.join("server.log");
            let log_file = fs::File::options().create(true).append(true).read(true).open(&log);
            let log_file = log_file.map_err(|e| folder(&log, e))?;
            let log_from = log_file.metadata().map_or(0, |meta| meta.len());
            let mut command = owner.command(&programs.join("postgres"), Some("INT"));
            command.arg("-D").arg(&data).arg("-k").arg(&socket_dir);
            for setting in settings(durability) {
                command.arg("-c").arg(setting);
            }
            command.current_dir(&home).stdin(Stdio::null());
            command.stdout(log_file.try_clone().map_err(|e| folder(&log, e))?).stderr(log_file);
            let (pid, exited) = supervise(command)?;
            let server = Postgres {
                socket_dir: socket_dir.clone(),
                pid,
                exited,
                _lock: lock.try_clone().map_err(|e| folder(&log, e))?,
            };
            match server.wait_until_ready(&log, log_from).await {
                Ok(()) => return Ok(server),
                Err(reason) if is_predecessors(&reason) && began.elapsed() < PREDECESSOR_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(reason) => return Err(EmbeddedError::Start { reason, log }),
            }
        }
    }

    /// How to connect to the database.
    pub fn options(&self) -> PgConnectOptions {
        self.options_for("jobcast")
    }

    /// How to connect to another database of the server.
    pub fn options_for(&self, database: &str) -> PgConnectOptions {
        options(&self.socket_dir, database)
    }

    /// Whether a data directory holds a database.
    pub fn is_made(data_dir: &Path) -> bool {
        data_dir.join("postgres/data/PG_VERSION").exists()
    }

    /// How to connect to the database of a data directory that another process is using.
    pub fn options_of_running(data_dir: &Path, run_as: &str) -> Result<PgConnectOptions, EmbeddedError> {
        Ok(options(&socket_dir(&data_dir.join("postgres"), &Owner::find(run_as)?)?, "jobcast"))
    }

    /// The address of the server in the form that `DATABASE_URL` takes.
    pub fn url(&self) -> String {
        let encoded: String =
            url::form_urlencoded::byte_serialize(self.socket_dir.as_os_str().as_encoded_bytes()).collect();
        format!("postgres:///jobcast?host={encoded}&user={USER}")
    }

    /// Stops the server and waits until it is down.
    pub async fn stop(self) {
        self.signal(Signal::INT);
        let began = Instant::now();
        while !self.has_exited() {
            if began.elapsed() > STOP_TIMEOUT {
                self.signal(Signal::QUIT);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the server has ended, for whatever reason.
    pub fn has_exited(&self) -> bool {
        *self.exited.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn signal(&self, signal: Signal) {
        // The lock keeps the pid from being reused between the look and the signal.
        let exited = self.exited.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !*exited {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits for the first connection and makes the database. The error is what the server's log says.
    async fn wait_until_ready(&self, log: &Path, log_from: u64) -> Result<(), String> {
        let began = Instant::now();
        loop {
            if self.has_exited() {
                return Err(fatal_line(log, log_from).unwrap_or_else(|| "it ended without a word".into()));
            }
            if let Ok(mut connection) = self.options_for("postgres").connect().await {
                let made = make_database(&mut connection).await.map_err(|e| e.to_string());
                let _ = connection.close().await;
                return made;
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(format!("it took no connection within {} s", START_TIMEOUT.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::INT);
    }
}

fn options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .username(USER)
        .database(database)
        .log_statements(tracing::log::LevelFilter::Trace)
}

async fn make_database(connection: &mut PgConnection) -> sqlx::Result<()> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'jobcast')")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        sqlx::query("CREATE DATABASE jobcast").execute(connection).await?;
    }
    Ok(())
}

fn settings(durability: Durability) -> Vec<&'static str> {
    let mut settings = vec![
        "listen_addresses=",
        "unix_socket_permissions=0700",
        "max_connections=100",
        "shared_buffers=128MB",
        "wal_compression=on",
        "max_wal_size=1GB",
        "log_min_messages=warning",
        "log_timezone=UTC",
        "timezone=UTC",
    ];
    if durability == Durability::Throwaway {
        settings.extend([
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_compression=off",
            // `cargo test` runs all tests in one process, and some leave their connections to its end.
            "max_connections=1000",
        ]);
    }
    settings
}

/// The user that owns the files and runs the programs: this one, or for root the one that the setting names.
struct Owner {
    /// User and group id, when they must be changed to.
    ids: Option<(u32, u32)>,
    name: String,
}

impl Owner {
    fn find(run_as: &str) -> Result<Owner, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Owner { ids: None, name: "this user".into() });
        }
        let ids = crate::process::user_ids(run_as).ok_or_else(|| EmbeddedError::NoUser(run_as.to_owned()))?;
        Ok(Owner { ids: Some(ids), name: format!("the user {run_as}") })
    }

    fn command(&self, program: &Path, death_signal: Option<&str>) -> Command {
        crate::process::command(program, self.ids, death_signal)
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.ids {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

fn folder(path: &Path, error: impl ToString) -> EmbeddedError {
    EmbeddedError::Folder { path: path.to_owned(), reason: error.to_string() }
}

/// Makes the folders and takes the lock that keeps a second process out.
fn prepare(data_dir: &Path, home: &Path, owner: &Owner) -> Result<fs::File, EmbeddedError> {
    fs::create_dir_all(data_dir).map_err(|e| folder(data_dir, e))?;
    let lock_path = data_dir.join("lock");
    let lock = fs::File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(|e| folder(data_dir, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(EmbeddedError::InUse(data_dir.to_owned())),
        Err(fs::TryLockError::Error(e)) => return Err(folder(&lock_path, e)),
    }
    make_private(home, owner)?;
    // The owner must be able to come here: a folder below another user's private one does not serve.
    let reachable = owner.command(Path::new("test"), None).arg("-w").arg(home).status();
    if !reachable.map_err(|reason| EmbeddedError::Program { program: "test".into(), reason })?.success() {
        let reason = format!("{} cannot write there (a folder above it is private)", owner.name);
        return Err(folder(home, reason));
    }
    Ok(lock)
}

fn make_private(path: &Path, owner: &Owner) -> Result<(), EmbeddedError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(folder(path, e)),
        _ => {}
    }
    owner.own(path).map_err(|e| folder(path, e))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| folder(path, e))
}

/// The folder of the server programs: those of the major that made `data`, else the newest.
fn find_programs(data: &Path) -> Result<PathBuf, EmbeddedError> {
    let made_by = fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned());
    let mut majors: Vec<(u32, PathBuf)> = fs::read_dir(INSTALLED)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            (bin.join("postgres").exists() && bin.join("initdb").exists()).then_some((major, bin))
        })
        .collect();
    majors.sort();
    match made_by {
        Some(version) => match majors.into_iter().find(|(major, _)| major.to_string() == version) {
            Some((_, bin)) => Ok(bin),
            None => Err(EmbeddedError::OtherVersion { path: data.to_owned(), made_by: version }),
        },
        None => majors
            .pop()
            .map(|(_, bin)| bin)
            .or_else(|| {
                let initdb = crate::process::find_program("initdb")?;
                let bin = initdb.parent()?;
                bin.join("postgres").exists().then(|| bin.to_owned())
            })
            .ok_or(EmbeddedError::NotInstalled),
    }
}

/// Makes a new cluster aside and moves it into place, so that an interrupted one is never used.
fn init(
    programs: &Path,
    home: &Path,
    data: &Path,
    owner: &Owner,
    durability: Durability,
) -> Result<(), EmbeddedError> {
    let unfinished = home.join("data.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|e| folder(&unfinished, e))?;
    }
    let program = programs.join("initdb");
    let mut command = owner.command(&program, Some("KILL"));
    command.arg("-D").arg(&unfinished);
    command.args(["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]);
    if durability == Durability::Throwaway {
        command.arg("--no-sync");
    }
    let out = command.current_dir(home).stdin(Stdio::null()).output();
    let out =
        out.map_err(|reason| EmbeddedError::Program { program: program.display().to_string(), reason })?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let reason = said.lines().last().unwrap_or("no message").to_owned();
        return Err(folder(home, format!("initdb failed: {reason}")));
    }
    fs::rename(&unfinished, data).map_err(|e| folder(data, e))
}

/// Where the socket goes: beside the data, or in a short private folder when that path is too long for a socket.
fn socket_dir(home: &Path, owner: &Owner) -> Result<PathBuf, EmbeddedError> {
    let beside = home.join("run");
    let fits = beside.as_os_str().len() <= MAX_SOCKET_DIR;
    let chosen = if fits { beside } else { crate::process::short_folder(&beside) };
    make_private(&chosen, owner)?;
    Ok(chosen)
}

/// Starts a program from a thread that lives as long as it does: the signal on the parent's death is tied to the
/// thread that started the program, and a runtime's threads come and go.
fn supervise(mut command: Command) -> Result<(Pid, Arc<Mutex<bool>>), EmbeddedError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |reason| EmbeddedError::Program { program: program.clone(), reason };
    let exited = Arc::new(Mutex::new(false));
    let (started, wait) = mpsc::channel();
    let flag = exited.clone();
    thread::Builder::new()
        .name("postgres".into())
        .spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(Pid::from_child(&child)));
                // Waits without reaping, so that the pid stays ours until the flag is set.
                let id = || WaitId::Pid(Pid::from_child(&child));
                while let Err(Errno::INTR) = waitid(id(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
                *flag.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
                let _ = child.wait();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })
        .map_err(failed)?;
    let pid = wait.recv().map_err(|_| failed(io::Error::other("its thread ended")))?.map_err(failed)?;
    Ok((pid, exited))
}

/// Waits until the server of a killed Jobcast is gone. The folder's lock is ours, so whoever still runs on the data is an
/// orphan that is going down; one that does not come to an end is told to drop everything.
async fn outlive_predecessor(data: &Path) {
    let began = Instant::now();
    while let Some(pid) = predecessor(data) {
        if began.elapsed() > PREDECESSOR_TIMEOUT {
            tracing::warn!(
                pid = pid.as_raw_nonzero(),
                "a server that was left behind does not end; it is told to drop everything"
            );
            let _ = kill_process(pid, Signal::QUIT);
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The living Postgres that the data's lock file names.
fn predecessor(data: &Path) -> Option<Pid> {
    let lock = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = lock.lines().next()?.trim().parse().ok()?;
    // The number may be another program's by now.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "postgres").then(|| Pid::from_raw(pid)).flatten()
}

/// Whether a start failed because the predecessor was not quite gone.
fn is_predecessors(reason: &str) -> bool {
    reason.contains("postmaster.pid") || reason.contains("shared memory block") || reason.contains(".s.PGSQL")
}

/// The last FATAL (or else last) line that the server wrote behind an offset.
fn fatal_line(log: &Path, from: u64) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    file.seek(io::SeekFrom::Start(from)).ok()?;
    let mut text = String::new();
    file.take(1 << 20).read_to_string(&mut text).ok()?;
    let line = text.lines().rev().find(|line| line.contains("FATAL")).or(text.lines().last())?;
    Some(line.split_once("FATAL:").map_or(line, |(_, rest)| rest).trim().to_owned())
}
