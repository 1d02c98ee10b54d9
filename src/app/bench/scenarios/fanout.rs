//! Fan-out: one publisher, one room full of clients; in bursts, then paced.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{AFTERMATH, QUIET, everybody};
use crate::app::bench::{
    client::Orders,
    control::Burst,
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::{Server, ensure_room_for},
    tally::{Delivery, Tally},
    usage::Cpu,
    wire,
};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 1000)]
    pub clients: usize,
    #[arg(long, default_value_t = 10)]
    pub bursts: u32,
    /// Events of a burst; the next one begins when all have arrived.
    #[arg(long, default_value_t = 500)]
    pub burst: u32,
    /// Events a second of the paced part.
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
    /// Length of the paced part.
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
    /// Length of an event's text; what stands around it is about 130 more.
    #[arg(long, default_value_t = wire::DEFAULT_BYTES)]
    pub bytes: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    pub bursts: Part,
    pub paced: Part,
}

/// One way of publishing.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    pub delivery: Delivery,
    /// Of the server while it delivered; absent when its process is not known.
    pub cpu: Option<Cpu>,
}

impl Part {
    /// Deliveries for each second of the server process itself.
    pub fn per_cpu_second(&self) -> Option<f64> {
        self.cpu.map(|cpu| self.delivery.delivered as f64 / cpu.own)
    }

    /// Deliveries for each second of the server and the processes that it started, such as its database.
    pub fn per_cpu_second_of_all(&self) -> Option<f64> {
        self.cpu.map(|cpu| self.delivery.delivered as f64 / (cpu.own + cpu.children))
    }
}

pub async fn run(server: &Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.burst <= wire::MAX_COUNT, "a burst has at most {} events", wire::MAX_COUNT);
    ensure!(args.rate > 0, "--rate is at least 1");
    ensure_room_for(args.clients)?;
    let progress = Progress::new(format!("{}, fan-out", server.title));
    let room = server.control.room().await?;
    let (in_bursts, paced) = (args.bursts * args.burst, args.rate * args.seconds);
    let orders = Orders { join: true, cuts: None };
    let tally = Tally::new(in_bursts + paced, false);
    let crowd = Crowd::gather(server.plan(&room), args.clients, tally, ORDERLY, orders);
    everybody(&crowd, &progress).await?;

    let burst = |count, from| Burst { room: room.clone(), count, bytes: args.bytes, from };
    let clients = args.clients as u64;
    let (before, cpu) = (crowd.tally().counts(), server.cpu()?);
    for number in 0..args.bursts {
        let from = number * args.burst;
        server.control.publish(&burst(args.burst, from)).await?;
        crowd.all_delivered(u64::from(from + args.burst) * clients, QUIET, &progress).await;
    }
    sleep(AFTERMATH).await;
    let bursts = part(server, cpu, crowd.tally().delivery(before, u64::from(in_bursts) * clients))?;

    let (before, cpu) = (crowd.tally().counts(), server.cpu()?);
    progress.begin("paced events", u64::from(paced));
    let mut ticks = interval(Duration::from_secs(1) / args.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..paced {
        ticks.tick().await;
        server.control.publish(&burst(1, in_bursts + n)).await?;
        progress.at(u64::from(n));
    }
    crowd.all_delivered(before.delivered + u64::from(paced) * clients, QUIET, &progress).await;
    sleep(AFTERMATH).await;
    let paced = part(server, cpu, crowd.tally().delivery(before, u64::from(paced) * clients))?;
    Ok(Outcome { clients: args.clients, bursts, paced })
}

fn part(server: &Server, before: Option<Cpu>, delivery: Delivery) -> anyhow::Result<Part> {
    let cpu = before.zip(server.cpu()?).map(|(before, after)| after - before);
    Ok(Part { delivery, cpu })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} clients", self.clients)?;
        writeln!(f, "  in bursts: {}", self.bursts)?;
        write!(f, "  paced:     {}", self.paced)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.delivery)?;
        let (Some(cpu), Some(own), Some(all)) =
            (self.cpu, self.per_cpu_second(), self.per_cpu_second_of_all())
        else {
            return Ok(());
        };
        write!(
            f,
            "\n             {own:.0} deliveries per CPU-second of the server ({:.2} s)\
             \n             {all:.0} with its child processes ({:.2} s more)",
            cpu.own, cpu.children
        )
    }
}
