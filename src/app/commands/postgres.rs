//! `jobcast postgres -- COMMAND`: runs a command beside a throw-away Postgres whose address is in `DATABASE_URL`.
//!
//! For tests and development: the server lives in a temporary folder, does not wait for the disk, and is gone
//! afterwards.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use crate::{
    config::Config,
    store::embedded::{Durability, Postgres},
};

/// Runs the command and returns its exit code.
pub async fn run(config: Config, command: Vec<String>) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().ok_or_else(|| anyhow!("name a command behind --"))?;
    let folder = std::env::temp_dir().join(format!("jobcast-postgres-{}", std::process::id()));
    let postgres = Postgres::start(&folder, &config.database.run_as, Durability::Throwaway).await?;
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", postgres.url())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run {program}"));
    postgres.stop().await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(ExitCode::from(status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
