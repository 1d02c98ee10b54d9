//! Connect storm: everybody connects and joins at once.

use serde::Serialize;

use super::ENTRY;
use crate::app::bench::{
    client::Orders,
    crowd::{Crowd, RUSH},
    progress::Progress,
    servers::{Server, ensure_room_for},
    tally::Tally,
};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 2000)]
    pub clients: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    /// Until the last one was in its room; absent when not all got in.
    pub seconds: Option<f64>,
    pub inside: usize,
    /// Attempts to connect that failed, and clients that were sent away.
    pub errors: u64,
}

pub async fn run(server: &Server, args: Args) -> anyhow::Result<Outcome> {
    ensure_room_for(args.clients)?;
    let progress = Progress::new(format!("{}, storm", server.title));
    let plan = server.plan(server.control.room().await?);
    let orders = Orders { join: true, cuts: None };
    let crowd = Crowd::gather(plan, args.clients, Tally::new(0, false), RUSH, orders);
    let took = crowd.all_inside(ENTRY, &progress).await;
    Ok(Outcome {
        clients: args.clients,
        seconds: took.map(|took| took.as_secs_f64()),
        inside: crowd.inside(),
        errors: crowd.errors(),
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errors = self.errors;
        match self.seconds {
            Some(seconds) => write!(f, "{} clients in after {seconds:.2} s, {errors} errors", self.clients),
            None => write!(f, "only {} of {} clients got in, {errors} errors", self.inside, self.clients),
        }
    }
}
