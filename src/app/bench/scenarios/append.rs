//! Durable appends (Jobcast only): how many a second, and how long a committed event takes to its clients.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{AFTERMATH, QUIET, everybody};
use crate::app::bench::{
    client::Orders,
    control::{self, Burst},
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::Server,
    tally::{Counts, Delivery, Latency, Tally},
    wire,
};

/// Publishing requests a second.
const REQUESTS: u32 = 100;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Tasks that append one event after the other, each waiting for its commit.
    #[arg(long, default_value_t = 64)]
    pub writers: usize,
    /// Jobs that they append to.
    #[arg(long, default_value_t = 64)]
    pub jobs: usize,
    /// Length of each part.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Events a second of the second part, a multiple of 100.
    #[arg(long, default_value_t = 2000)]
    pub rate: u32,
    /// Subscribers of the second part.
    #[arg(long, default_value_t = 5)]
    pub subscribers: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub writers: usize,
    pub appends_per_second: f64,
    /// Events a second that were published for the latency.
    pub rate: f64,
    pub delivery: Delivery,
    /// From the commit's end to the arrival.
    pub commit_to_client: Latency,
}

pub async fn run(server: &Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.rate >= REQUESTS, "--rate is at least {REQUESTS}");
    let progress = Progress::new(format!("{}, append", server.title));
    progress.begin("durable appends", 1);
    let wish = control::Append { writers: args.writers, jobs: args.jobs, seconds: args.seconds.into() };
    let appended = server.control.append(wish).await?;

    let room = server.control.room().await?;
    let count = args.rate / REQUESTS;
    let requests = REQUESTS * args.seconds;
    let orders = Orders { join: true, cuts: None };
    let tally = Tally::new(count * requests, true);
    let crowd = Crowd::gather(server.plan(&room), args.subscribers, tally, ORDERLY, orders);
    everybody(&crowd, &progress).await?;
    let mut committed = Vec::with_capacity(requests as usize);
    let mut ticks = interval(Duration::from_secs(1) / REQUESTS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = std::time::Instant::now();
    progress.begin("requests", u64::from(requests));
    for request in 0..requests {
        ticks.tick().await;
        let burst = Burst { room: room.clone(), count, bytes: wire::DEFAULT_BYTES, from: request * count };
        committed.push(server.control.publish(&burst).await?.committed);
        progress.at(u64::from(request));
    }
    let published = u64::from(count * requests);
    let rate = published as f64 / began.elapsed().as_secs_f64();
    let expected = published * args.subscribers as u64;
    crowd.all_delivered(expected, QUIET, &progress).await;
    sleep(AFTERMATH).await;
    let arrivals = crowd.tally().take_arrivals().into_iter();
    // An event may be announced before its publisher is answered.
    let waits = arrivals.map(|arrival| arrival.at.saturating_sub(committed[(arrival.n / count) as usize]));
    Ok(Outcome {
        writers: args.writers,
        appends_per_second: appended.events as f64 / appended.seconds,
        rate,
        delivery: crowd.tally().delivery(Counts::default(), expected),
        commit_to_client: Latency::over(waits),
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:.0} durable appends/s by {} writers", self.appends_per_second, self.writers)?;
        writeln!(f, "  at {:.0} events/s, commit to client: {}", self.rate, self.commit_to_client)?;
        write!(f, "  publish to client: {}", self.delivery)
    }
}
