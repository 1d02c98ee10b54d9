//! Jitter: every connection breaks again and again while milestones go out, and the server is killed in the middle.
//!
//! Publishing and killing are one sequence: no event is on its way into the server when it is killed.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{ENTRY, QUIET, everybody};
use crate::app::bench::{
    client::{Cuts, Orders},
    control::Burst,
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::{Server, ensure_room_for},
    tally::{Counts, Delivery, Tally},
    wire,
};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 2000)]
    pub clients: usize,
    /// Milestones in all.
    #[arg(long, default_value_t = 120)]
    pub events: u32,
    /// Milestones a second.
    #[arg(long, default_value_t = 2)]
    pub rate: u32,
    /// Seconds from a connection to its cut, on average; they vary by a half.
    #[arg(long, default_value_t = 15.0)]
    pub cut_every: f64,
    /// Seconds without a network after each cut.
    #[arg(long, default_value_t = 2.0)]
    pub offline: f64,
    /// Leave the server alone instead of killing it with signal 9 and starting it again halfway.
    #[arg(long)]
    pub no_kill: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    pub delivery: Delivery,
    /// Connections that ended while it ran.
    pub cuts: u64,
    /// Sessions that the server continued.
    pub recovered: u64,
    /// From the kill until the new process answered; absent without one.
    pub restart_seconds: Option<f64>,
    /// Clients that were not in their room at the end.
    pub missing: usize,
}

pub async fn run(server: &mut Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.rate > 0 && args.cut_every > 0.0 && args.offline >= 0.0, "rates and times are above 0");
    ensure_room_for(args.clients)?;
    let progress = Progress::new(format!("{}, jitter", server.title));
    let room = server.control.room().await?;
    let orders = Orders { join: true, cuts: None };
    let tally = Tally::new(args.events, false);
    let crowd = Crowd::gather(server.plan(&room), args.clients, tally, ORDERLY, orders);
    everybody(&crowd, &progress).await?;

    crowd.cut(Some(Cuts {
        every: Duration::from_secs_f64(args.cut_every),
        offline: Duration::from_secs_f64(args.offline),
    }));
    progress.begin("milestones", u64::from(args.events));
    let mut restart_seconds = None;
    let mut ticks = interval(Duration::from_secs(1) / args.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..args.events {
        if n == args.events / 2 && !args.no_kill {
            let killed = Instant::now();
            server.kill_and_restart().await?;
            restart_seconds = Some(killed.elapsed().as_secs_f64());
        }
        ticks.tick().await;
        let burst = Burst { room: room.clone(), count: 1, bytes: wire::DEFAULT_BYTES, from: n };
        server.control.publish(&burst).await?;
        progress.at(u64::from(n));
    }
    crowd.cut(None);
    let all = crowd.all_inside(ENTRY, &progress).await;
    let missing = if all.is_some() { 0 } else { crowd.size() - crowd.inside() };
    let expected = u64::from(args.events) * args.clients as u64;
    crowd.all_delivered(expected, QUIET, &progress).await;
    // Whatever is repeated to somebody who has just come back.
    sleep(QUIET / 5).await;
    Ok(Outcome {
        clients: args.clients,
        delivery: crowd.tally().delivery(Counts::default(), expected),
        cuts: crowd.ended(),
        recovered: crowd.recovered(),
        restart_seconds,
        missing,
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} clients, {} lost connections", self.clients, self.cuts)?;
        writeln!(f, "  {}", self.delivery)?;
        write!(f, "  {} sessions recovered, {} clients missing at the end", self.recovered, self.missing)?;
        match self.restart_seconds {
            Some(seconds) => write!(f, "; kill -9 and restart took {seconds:.2} s"),
            None => Ok(()),
        }
    }
}
