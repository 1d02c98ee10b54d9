//! `jobcast serve`: the server, until it is told to stop.

use tokio::sync::Mutex;

use super::signals::Signals;
use crate::{
    app::{Server, listen, server::MoreRoutes},
    config::Config,
    process,
};

/// Serves until SIGINT or SIGTERM; a second one does not wait for open work.
pub async fn run(config: Config) -> anyhow::Result<()> {
    run_with(config, None).await
}

/// Serves more routes beside the server's own.
pub async fn run_with(config: Config, more: Option<MoreRoutes>) -> anyhow::Result<()> {
    process::raise_open_files()?;
    // One after the other: the second wait begins when the first is over.
    let signals = Mutex::new(Signals::listen()?);
    let listeners = listen::bind(&config.server.listen).await?;
    let starting = Server::start_with(config, listeners, more);
    let server = tokio::select! {
        server = starting => server?,
        () = async { signals.lock().await.next().await } => return Ok(()),
    };
    let first = async {
        signals.lock().await.next().await;
        tracing::info!("stopping; once more to stop at once");
    };
    let second = async { signals.lock().await.next().await };
    server.run(first, second).await
}
