//! `jobcast bench`: load for a server, and what became of it.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use serde::Serialize;
use url::Url;

use super::{serve, signals::Signals};
use crate::{
    app::{
        bench::{
            client::Protocol,
            compare::{self, Numbers, Scenario, Wish},
            scenarios::{
                append, fanout, frontends, idle, import, jitter, labels, latejoin, pipeline, redeploy,
                sheets, storm,
            },
            servers::{Kind, Programs, Server},
            table, target,
        },
        telemetry,
    },
    config::Config,
};

/// What is tried.
#[derive(clap::Subcommand)]
pub enum BenchArgs {
    /// One publisher and a room full of clients: in bursts, then paced.
    #[command(
        after_help = "Examples:\n  jobcast bench fanout\n  jobcast bench fanout --server node --clients 200\n  \
                      jobcast bench fanout --url http://127.0.0.1:3000 --pid $(pgrep -f my-server)"
    )]
    Fanout(Single<fanout::Args>),
    /// Everybody connects and joins at once.
    #[command(after_help = "Example:\n  jobcast bench storm")]
    Storm(Single<storm::Args>),
    /// Connections break all the time, and the server is killed with signal 9 in the middle.
    #[command(
        after_help = "Examples:\n  jobcast bench jitter\n  jobcast bench jitter --server node-recovery --no-kill"
    )]
    Jitter(Single<jitter::Args>),
    /// SIGTERM under a crowd, and a new process when the old one has ended.
    #[command(after_help = "Example:\n  jobcast bench redeploy --server node")]
    Redeploy(Single<redeploy::Args>),
    /// Memory of the server for each websocket that says nothing.
    #[command(after_help = "Example:\n  jobcast bench idle")]
    Idle(Single<idle::Args>),
    /// Durable appends, and from the commit to the client (Jobcast only).
    #[command(after_help = "Example:\n  jobcast bench append")]
    Append(Single<append::Args>),
    /// A client asks for the whole past of a long job (Jobcast only).
    #[command(after_help = "Example:\n  jobcast bench latejoin")]
    Latejoin(Single<latejoin::Args>),
    /// All existing frontends at once on one server, and the label printer alone: who was told what, and how soon (Jobcast
    /// only).
    #[command(
        after_help = "Examples:\n  jobcast bench frontends\n  jobcast bench frontends --clients 50 --rate 20"
    )]
    Frontends(FrontendsArgs),
    /// Whole jobs on a generated shop: items side by side against one at a time, processor time and memory.
    #[command(
        after_help = "Examples:\n  jobcast bench pipeline\n  jobcast bench pipeline --products 20 --small 10"
    )]
    Pipeline(PipelineArgs),
    /// Draws labels as PNG and PDF, without a server.
    #[command(after_help = "Example:\n  jobcast bench labels")]
    Labels(LabelsArgs),
    /// A price list into a database of its own: by COPY, by arrays and row by row, and from a file (Jobcast only).
    #[command(after_help = "Example:\n  jobcast bench import")]
    Import(ImportArgs),
    /// Labels on print sheets as one PDF: time and memory (no server).
    #[command(after_help = "Example:\n  jobcast bench sheets")]
    Sheets(SheetsArgs),
    /// Every scenario on Jobcast, on Node's socket.io and on a bare websocket, as a table.
    #[command(
        after_help = "Examples:\n  jobcast bench compare --quick\n  jobcast bench compare --readme README.md --json bench.json\n  \
                      jobcast bench compare --servers jobcast,node --scenarios fanout --scale 0.5"
    )]
    Compare(CompareArgs),
    /// Jobcast as a server under test: `serve` without workers, and the control routes.
    #[command(after_help = "Example:\n  jobcast bench target --help")]
    Target(TargetArgs),
}

#[derive(clap::Args)]
pub struct LabelsArgs {
    #[command(flatten)]
    scenario: labels::Args,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One scenario on one server.
#[derive(clap::Args)]
pub struct Single<A: clap::Args> {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    scenario: A,
}

#[derive(clap::Args)]
struct ServerArgs {
    /// A server that is started for it, and ended afterwards.
    #[arg(long, value_enum, default_value = "jobcast")]
    server: Kind,
    /// A server that runs already and has the bench control routes.
    #[arg(long, conflicts_with = "server")]
    url: Option<Url>,
    /// Its process on this machine, to measure it.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// What it speaks.
    #[arg(long, requires = "url", value_enum, default_value = "socket-io")]
    protocol: Protocol,
    #[command(flatten)]
    programs: Programs,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    scenario: import::Args,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct PipelineArgs {
    #[command(flatten)]
    scenario: pipeline::Args,
    #[command(flatten)]
    programs: Programs,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct FrontendsArgs {
    #[command(flatten)]
    scenario: frontends::Args,
    #[command(flatten)]
    programs: Programs,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct SheetsArgs {
    #[command(flatten)]
    scenario: sheets::Args,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct CompareArgs {
    /// The servers, one after the other [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// The scenarios [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Small numbers, to see that everything works.
    #[arg(long)]
    quick: bool,
    /// A part of the clients, such as 0.2.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[command(flatten)]
    programs: Programs,
    /// Write the table into this document, between its two marks.
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct TargetArgs {
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Folder of the embedded database and the objects.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// A real Postgres instead of the embedded one [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// With workers: a browser, OCR and the rest.
    #[arg(long)]
    work: bool,
}

/// Runs a scenario to its end. Ctrl-C ends it, and the servers that it started.
pub async fn run(config: Config, bench: BenchArgs) -> anyhow::Result<ExitCode> {
    match bench {
        BenchArgs::Fanout(single) => single.run(async |server, args| fanout::run(server, args).await).await,
        BenchArgs::Storm(single) => single.run(async |server, args| storm::run(server, args).await).await,
        BenchArgs::Jitter(single) => single.run(jitter::run).await,
        BenchArgs::Redeploy(single) => single.run(redeploy::run).await,
        BenchArgs::Idle(single) => single.run(async |server, args| idle::run(server, args).await).await,
        BenchArgs::Append(single) => single.run(async |server, args| append::run(server, args).await).await,
        BenchArgs::Latejoin(single) => {
            single.run(async |server, args| latejoin::run(server, args).await).await
        }
        BenchArgs::Pipeline(arguments) => {
            let work = async {
                let outcome = pipeline::run(&arguments.programs, arguments.scenario).await?;
                println!("{outcome}");
                write_json(arguments.json, &outcome)?;
                Ok(ExitCode::SUCCESS)
            };
            unless_stopped(work).await
        }
        BenchArgs::Frontends(arguments) => {
            let work = async {
                let outcome = frontends::run(&arguments.programs, arguments.scenario).await?;
                println!("{outcome}");
                write_json(arguments.json, &outcome)?;
                Ok(ExitCode::SUCCESS)
            };
            unless_stopped(work).await
        }
        BenchArgs::Labels(arguments) => run_labels(arguments).await,
        BenchArgs::Import(arguments) => {
            let work = async {
                let outcome = import::run(&config, arguments.scenario).await?;
                println!("{outcome}");
                write_json(arguments.json, &outcome)?;
                Ok(ExitCode::SUCCESS)
            };
            unless_stopped(work).await
        }
        BenchArgs::Sheets(arguments) => {
            let work = async {
                let scenario = arguments.scenario;
                let outcome = tokio::task::spawn_blocking(move || sheets::run(&scenario)).await??;
                println!("{outcome}");
                write_json(arguments.json, &outcome)?;
                Ok(ExitCode::SUCCESS)
            };
            unless_stopped(work).await
        }
        BenchArgs::Compare(arguments) => unless_stopped(run_compare(arguments)).await,
        BenchArgs::Target(arguments) => run_target(config, arguments).await,
    }
}

async fn unless_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = work => done,
        () = signals.next() => bail!("it was stopped"),
    }
}

impl<A: clap::Args> Single<A> {
    async fn run<O: Serialize + std::fmt::Display>(
        self,
        scenario: impl AsyncFnOnce(&mut Server, A) -> anyhow::Result<O>,
    ) -> anyhow::Result<ExitCode> {
        let given = self.server;
        let work = async {
            let mut server = match given.url {
                Some(url) => Server::attach(url, given.protocol, given.pid)?,
                None => Server::start(given.server, &given.programs).await?,
            };
            let outcome = scenario(&mut server, self.scenario).await?;
            println!("{}: {outcome}", server.title);
            write_json(given.json, &outcome)?;
            Ok(ExitCode::SUCCESS)
        };
        unless_stopped(work).await
    }
}

async fn run_labels(arguments: LabelsArgs) -> anyhow::Result<ExitCode> {
    let work = async {
        let scenario = arguments.scenario;
        let outcome = tokio::task::spawn_blocking(move || labels::run(&scenario)).await??;
        println!("{outcome}");
        write_json(arguments.json, &outcome)?;
        Ok(ExitCode::SUCCESS)
    };
    unless_stopped(work).await
}

async fn run_compare(arguments: CompareArgs) -> anyhow::Result<ExitCode> {
    // A document that has no place for the table is told of before the long run, not after.
    let readme = match &arguments.readme {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            table::replace(&text, "").with_context(|| path.display().to_string())?;
            Some(path)
        }
        None => None,
    };
    let numbers = if arguments.quick { Numbers::quick() } else { Numbers::full() };
    let wish = Wish::new(arguments.servers, arguments.scenarios, numbers.scaled(arguments.scale));
    let reports = compare::run(&wish, &arguments.programs).await;
    let table = table::markdown(&reports, &wish.described());
    println!("\n{table}");
    if let Some(path) = readme {
        let text = table::replace(&fs::read_to_string(path)?, &table)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    write_json(arguments.json, &reports)?;
    let failed = reports.iter().any(|report| !report.failures.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn run_target(mut config: Config, arguments: TargetArgs) -> anyhow::Result<ExitCode> {
    config.pipeline.enabled = arguments.work;
    config.server.listen = vec![arguments.listen];
    if let Some(folder) = arguments.data_dir {
        config.server.data_dir = folder;
    }
    if let Some(url) = arguments.database_url {
        config.database.url = url;
    }
    if config.log.filter == Config::defaults().log.filter {
        config.log.filter = "warn".into();
    }
    telemetry::start(&config.log)?;
    serve::run_with(config, Some((target::PATH, target::router))).await?;
    Ok(ExitCode::SUCCESS)
}

fn write_json(path: Option<PathBuf>, figures: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
