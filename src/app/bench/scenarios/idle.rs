//! Idle memory: what one connection that says nothing costs the server.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use serde::Serialize;
use tokio::time::sleep;

use super::{ENTRY, everybody};
use crate::app::bench::{
    client::Orders,
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::{Server, ensure_room_for},
    tally::Tally,
};

/// Time for what a connection's beginning took to be given back.
const SETTLE: Duration = Duration::from_secs(3);
/// Connections that come and go first, so that what a server allocates once is not counted.
const WARM_UP: usize = 20;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 5000)]
    pub clients: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    /// Bytes (proportional set size) of a websocket that has joined nothing.
    pub connected: f64,
    /// Bytes of one that is in a room.
    pub inside: f64,
    /// Bytes of the whole server before the first connection.
    pub before: u64,
}

pub async fn run(server: &Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.clients > 0, "--clients is at least 1");
    ensure_room_for(args.clients)?;
    let progress = Progress::new(format!("{}, idle", server.title));
    let room = server.control.room().await?;
    let gather = |clients, join| {
        let orders = Orders { join, cuts: None };
        Crowd::gather(server.plan(&room), clients, Tally::new(0, false), ORDERLY, orders)
    };
    everybody(&gather(WARM_UP, true), &progress).await?;
    let memory = async || {
        sleep(SETTLE).await;
        server.memory()?.ok_or_else(|| anyhow!("which process is the server? name it with --pid"))
    };
    let before = memory().await?;
    let crowd = gather(args.clients, false);
    ensure!(crowd.all_connected(ENTRY, &progress).await.is_some(), "not all clients could connect");
    let connected = memory().await?;
    crowd.join();
    everybody(&crowd, &progress).await?;
    let inside = memory().await?;
    let each = |bytes: u64| (bytes as f64 - before as f64) / args.clients as f64;
    Ok(Outcome { clients: args.clients, connected: each(connected), inside: each(inside), before })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} idle websockets: {:.1} KiB each, {:.1} KiB when in a room; {:.0} MiB before the first",
            self.clients,
            self.connected / 1024.0,
            self.inside / 1024.0,
            self.before as f64 / 1024.0 / 1024.0
        )
    }
}
