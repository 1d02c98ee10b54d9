//! Late join (Jobcast only): a client subscribes to a job that has a long past and asks for all of it.

use anyhow::ensure;
use serde::Serialize;
use tokio::time::sleep;

use super::{AFTERMATH, ENTRY, QUIET};
use crate::app::bench::{
    client::Orders,
    control::Burst,
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::Server,
    tally::{Counts, Latency, Tally},
    wire,
};

/// Events that one request publishes.
const BURST: u32 = 500;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// The job's events.
    #[arg(long, default_value_t = 10_000)]
    pub events: u32,
    /// Clients, one after the other.
    #[arg(long, default_value_t = 10)]
    pub times: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub events: u32,
    /// From the subscription to the first event.
    pub first: Latency,
    /// To the last one.
    pub last: Latency,
    pub lost: u64,
    pub repeated: u64,
    pub unordered: u64,
}

pub async fn run(server: &Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.events > 0 && args.times > 0, "--events and --times are at least 1");
    let progress = Progress::new(format!("{}, late join", server.title));
    let room = server.control.room().await?;
    progress.begin("events of the past", u64::from(args.events));
    for from in (0..args.events).step_by(BURST as usize) {
        let count = BURST.min(args.events - from);
        server
            .control
            .publish(&Burst { room: room.clone(), count, bytes: wire::DEFAULT_BYTES, from })
            .await?;
        progress.at(u64::from(from));
    }
    let mut plan = server.plan(&room);
    plan.after = Some(0);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let (mut lost, mut repeated, mut unordered) = (0, 0, 0);
    for _ in 0..args.times {
        let tally = Tally::new(args.events, true);
        let client = Crowd::gather(plan.clone(), 1, tally, ORDERLY, Orders::default());
        ensure!(client.all_connected(ENTRY, &progress).await.is_some(), "the client could not connect");
        let asked = wire::now();
        client.join();
        client.all_delivered(args.events.into(), QUIET, &progress).await;
        sleep(AFTERMATH).await;
        let arrivals = client.tally().take_arrivals();
        let after = |at: u64| at.saturating_sub(asked);
        first.extend(arrivals.first().map(|arrival| after(arrival.at)));
        last.extend(arrivals.last().map(|arrival| after(arrival.at)));
        let delivery = client.tally().delivery(Counts::default(), args.events.into());
        lost += delivery.lost;
        repeated += delivery.repeated;
        unordered += delivery.unordered;
    }
    let (first, last) = (Latency::over(first), Latency::over(last));
    Ok(Outcome { events: args.events, first, last, lost, repeated, unordered })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "a job with {} events", self.events)?;
        writeln!(f, "  first event: {}", self.first)?;
        writeln!(f, "  last event:  {}", self.last)?;
        write!(f, "  {} lost, {} repeated, {} out of order", self.lost, self.repeated, self.unordered)
    }
}
