//! Redeploy: the server is told to stop and started again under a crowd, while events flow.
//!
//! Publishing and stopping are one sequence: events flow up to the stop and again as soon as the new process answers,
//! while most clients are still on their way back.

use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{ENTRY, QUIET, everybody};
use crate::app::bench::{
    client::Orders,
    control::Burst,
    crowd::{Crowd, ORDERLY},
    progress::Progress,
    servers::{Server, ensure_room_for},
    tally::{Counts, Delivery, Tally},
    wire,
};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 5000)]
    pub clients: usize,
    /// Events a second.
    #[arg(long, default_value_t = 2)]
    pub rate: u32,
    /// Events before the stop, and as many after the start.
    #[arg(long, default_value_t = 20)]
    pub events: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    /// From SIGTERM until the new process answered.
    pub down_seconds: f64,
    /// From SIGTERM until everybody was in the room again; absent when not all came back.
    pub back_seconds: Option<f64>,
    /// Clients that were not in their room at the end.
    pub missing: usize,
    /// Whether the old process ended by itself.
    pub ended_by_itself: bool,
    pub recovered: u64,
    pub delivery: Delivery,
}

pub async fn run(server: &mut Server, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.rate > 0, "--rate is at least 1");
    ensure_room_for(args.clients)?;
    let progress = Progress::new(format!("{}, redeploy", server.title));
    let room = server.control.room().await?;
    let orders = Orders { join: true, cuts: None };
    let tally = Tally::new(2 * args.events, false);
    let crowd = Crowd::gather(server.plan(&room), args.clients, tally, ORDERLY, orders);
    everybody(&crowd, &progress).await?;

    let control = server.control.clone();
    let publish = async |numbers: std::ops::Range<u32>| {
        let mut ticks = interval(Duration::from_secs(1) / args.rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for from in numbers {
            ticks.tick().await;
            control
                .publish(&Burst { room: room.clone(), count: 1, bytes: wire::DEFAULT_BYTES, from })
                .await?;
        }
        anyhow::Ok(())
    };
    publish(0..args.events).await?;
    let ended_before = crowd.ended();
    let told = Instant::now();
    let ended_by_itself = server.stop_and_restart().await?;
    let down_seconds = told.elapsed().as_secs_f64();
    let back = async {
        crowd.all_back(ended_before, ENTRY, &progress).await?;
        Some(told.elapsed().as_secs_f64())
    };
    let (published, back_seconds) = tokio::join!(publish(args.events..2 * args.events), back);
    published?;
    let expected = u64::from(2 * args.events) * args.clients as u64;
    crowd.all_delivered(expected, QUIET, &progress).await;
    sleep(QUIET / 5).await;
    Ok(Outcome {
        clients: args.clients,
        down_seconds,
        back_seconds,
        missing: crowd.size() - crowd.inside(),
        ended_by_itself,
        recovered: crowd.recovered(),
        delivery: crowd.tally().delivery(Counts::default(), expected),
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} clients; new process after {:.2} s", self.clients, self.down_seconds)?;
        match self.back_seconds {
            Some(seconds) => writeln!(f, "  all back after {seconds:.2} s, {} recovered", self.recovered)?,
            None => writeln!(f, "  {} did not come back, {} recovered", self.missing, self.recovered)?,
        }
        if !self.ended_by_itself {
            writeln!(f, "  the old process had to be killed")?;
        }
        write!(f, "  {}", self.delivery)
    }
}
