//! Many clients at once, and waiting for what they have in common.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    client::{self, Cuts, Orders, Plan, Shared},
    progress::Progress,
    tally::Tally,
};

/// How often a crowd is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Newcomers that a crowd's entrance takes at a time, where the rush itself is not what is measured.
pub const ORDERLY: usize = 100;
/// Everybody at once.
pub const RUSH: usize = tokio::sync::Semaphore::MAX_PERMITS;

/// Running clients; dropping it cuts all connections.
pub struct Crowd {
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    size: usize,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Lets `size` clients go, `entrance` of them at a time.
    pub fn gather(plan: Plan, size: usize, tally: Tally, entrance: usize, orders: Orders) -> Crowd {
        let shared = Arc::new(Shared::new(plan, tally, entrance));
        let orders = watch::Sender::new(orders);
        let mut tasks = JoinSet::new();
        for _ in 0..size {
            tasks.spawn(client::live(shared.clone(), orders.subscribe()));
        }
        Crowd { shared, orders, size, _tasks: tasks }
    }

    /// Lets the clients join.
    pub fn join(&self) {
        self.orders.send_modify(|orders| orders.join = true);
    }

    /// From now on connections break, or no more.
    pub fn cut(&self, cuts: Option<Cuts>) {
        self.orders.send_modify(|orders| orders.cuts = cuts);
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// Clients that the server has let in.
    pub fn connected(&self) -> usize {
        self.shared.connected.load(Relaxed)
    }

    /// Clients that are in their room.
    pub fn inside(&self) -> usize {
        self.shared.inside.load(Relaxed)
    }

    /// Connections that ended.
    pub fn ended(&self) -> u64 {
        self.shared.ended.load(Relaxed)
    }

    /// Sessions that the server continued.
    pub fn recovered(&self) -> u64 {
        self.shared.recovered.load(Relaxed)
    }

    /// Attempts to connect that failed, and clients that were sent away for good.
    pub fn errors(&self) -> u64 {
        self.shared.failed.load(Relaxed) + self.shared.sent_away.load(Relaxed) as u64
    }

    /// Waits until everybody is in the room; returns how long that took, or `None` when `within` was not enough.
    pub async fn all_inside(&self, within: Duration, progress: &Progress) -> Option<Duration> {
        progress.begin("clients in their room", self.size as u64);
        self.wait(within, || {
            progress.at(self.inside() as u64);
            self.inside() == self.size
        })
        .await
    }

    /// Waits until the server has let everybody in, as [`Crowd::all_inside`] does.
    pub async fn all_connected(&self, within: Duration, progress: &Progress) -> Option<Duration> {
        progress.begin("clients connected", self.size as u64);
        self.wait(within, || {
            progress.at(self.connected() as u64);
            self.connected() == self.size
        })
        .await
    }

    /// Waits until so much is delivered, or nothing more has come for `quiet`.
    pub async fn all_delivered(&self, deliveries: u64, quiet: Duration, progress: &Progress) {
        progress.begin("deliveries", deliveries);
        let (mut last, mut since) = (self.tally().delivered(), Instant::now());
        while last < deliveries && since.elapsed() < quiet {
            sleep(LOOK).await;
            let now = self.tally().delivered();
            progress.at(now);
            if now > last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Waits until every connection that was there has ended and everybody is in the room again.
    pub async fn all_back(
        &self,
        ended_before: u64,
        within: Duration,
        progress: &Progress,
    ) -> Option<Duration> {
        progress.begin("clients back in their room", self.size as u64);
        self.wait(within, || {
            progress.at(self.inside() as u64);
            self.ended() >= ended_before + self.size as u64 && self.inside() == self.size
        })
        .await
    }

    async fn wait(&self, within: Duration, mut reached: impl FnMut() -> bool) -> Option<Duration> {
        let began = Instant::now();
        while !reached() {
            if began.elapsed() > within {
                return None;
            }
            sleep(LOOK).await;
        }
        Some(began.elapsed())
    }
}
