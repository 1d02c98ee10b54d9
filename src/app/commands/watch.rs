//! `jobcast watch`: follows one job to its end, or all that run.

use std::process::ExitCode;

use clap::Args;

use super::submit::ServerArgs;
use crate::{
    app::{follow, overview},
    job::JobId,
};

/// What to watch.
#[derive(Args)]
pub struct WatchArgs {
    /// The job's id; all jobs that run if none is named.
    job: Option<JobId>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Follows; of one job the exit code tells how it ended.
pub async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let server = args.server.remote();
    match args.job {
        Some(job) => Ok(follow::follow(&server, job, args.server.style()).await?.exit_code().into()),
        None => {
            overview::watch(&server, args.server.json).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
