//! `jobcast jobs`: lists a running server's jobs, and asks something of them.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use console::Term;
use serde::Deserialize as _;

use super::submit::ServerArgs;
use crate::{
    app::{
        client::{self, ClientError},
        overview::{self, List, Listed},
    },
    job::{JobId, Order},
};

/// Columns of a line where nobody looks at a terminal.
const WIDE: usize = 1000;

/// Which jobs, and what of them.
#[derive(Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// Only jobs with this status, such as paused, failed or processing-ocr.
    #[arg(long)]
    status: Option<String>,
    /// Only jobs of this kind, which workers outside of the server do.
    #[arg(long)]
    kind: Option<String>,
    /// Jobs at the most, the newest first.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

/// What is asked of jobs.
#[derive(Subcommand)]
enum JobsCommand {
    /// Cancel jobs: what runs is stopped at once.
    #[command(after_help = "Example:\n  jobcast jobs cancel 01890a5d-ac96-774b-bcce-b302099a8057")]
    Cancel(Named),
    /// Pause jobs: items that run may end, no new ones begin.
    #[command(after_help = "Example:\n  jobcast jobs pause 01890a5d-ac96-774b-bcce-b302099a8057")]
    Pause(Named),
    /// Let paused jobs go on.
    #[command(
        after_help = "Example:\n  jobcast jobs --status paused --json | jq -r .id | xargs jobcast jobs resume"
    )]
    Resume(Named),
    /// Try the failed items of jobs again, and only those.
    #[command(after_help = "Example:\n  jobcast jobs retry 01890a5d-ac96-774b-bcce-b302099a8057")]
    Retry(Named),
}

/// The jobs that are meant.
#[derive(Args)]
struct Named {
    /// The jobs' ids.
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<JobId>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Lists, or asks. The exit code is 1 where a job could not do what it was asked.
pub async fn run(args: JobsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(args).await,
        Some(JobsCommand::Cancel(named)) => ask(named, Order::Cancel).await,
        Some(JobsCommand::Pause(named)) => ask(named, Order::Pause).await,
        Some(JobsCommand::Resume(named)) => ask(named, Order::Resume).await,
        Some(JobsCommand::Retry(named)) => ask(named, Order::Retry).await,
    }
}

async fn list(args: JobsArgs) -> anyhow::Result<ExitCode> {
    let server = args.server.remote();
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.status.map(|status| ("status", status)));
    query.extend(args.kind.map(|kind| ("kind", kind)));
    let answer = client::jobs(&server, &query).await?;
    let mut out = io::stdout().lock();
    if args.server.json {
        for job in answer["jobs"].as_array().into_iter().flatten() {
            writeln!(out, "{job}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let List { jobs, total } = List::deserialize(&answer)?;
    overview::print(&mut out, &server, &jobs, width())?;
    match jobs.len() as u64 {
        0 => eprintln!("There are no such jobs; `jobcast submit` starts one."),
        shown if shown < total => eprintln!("{} more; --limit shows them.", total - shown),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What the server refuses of one job does not keep it from the next.
async fn ask(Named { jobs, server }: Named, order: Order) -> anyhow::Result<ExitCode> {
    let remote = server.remote();
    let mut code = ExitCode::SUCCESS;
    for job in jobs {
        let answer = match client::order(&remote, job, order).await {
            Ok(answer) => answer,
            Err(error @ ClientError::Refused { .. }) => {
                eprintln!("{job}: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut out = io::stdout().lock();
        match server.json {
            true => writeln!(out, "{answer}")?,
            false => overview::print(&mut out, &remote, &[Listed::deserialize(&answer)?], width())?,
        }
    }
    Ok(code)
}

fn width() -> usize {
    let term = Term::stdout();
    if term.features().is_attended() { term.size().1.into() } else { WIDE }
}
