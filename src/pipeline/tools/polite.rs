//! Manners towards shops: so many requests at once to a host and so long between them, whichever job they belong to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use url::Url;

/// Hosts that are remembered; beyond, those that nobody is at are forgotten.
const MAX_HOSTS: usize = 1_000;

/// The hosts that this process talks to. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct Hosts {
    hosts: Arc<Mutex<HashMap<String, Arc<Host>>>>,
    concurrency: usize,
    delay: Duration,
}

#[derive(Debug)]
struct Host {
    places: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    next_start: Instant,
    delay: Duration,
}

/// The right to one visit; it ends when dropped.
#[derive(Debug)]
pub struct Turn {
    // `None` should the host's places ever be closed, which nobody does.
    _place: Option<OwnedSemaphorePermit>,
}

impl Hosts {
    /// At most `concurrency` visits to a host at once, and `delay` between the starts of two.
    pub fn new(concurrency: usize, delay: Duration) -> Hosts {
        Hosts { hosts: Arc::default(), concurrency: concurrency.max(1), delay }
    }

    /// Waits for a visit's turn.
    pub async fn turn(&self, url: &Url) -> Turn {
        let host = self.host(url);
        let place = host.places.clone().acquire_owned().await.ok();
        loop {
            let at = {
                let mut pace = lock(&host.pace);
                let now = Instant::now();
                if pace.next_start <= now {
                    pace.next_start = now + pace.delay;
                    return Turn { _place: place };
                }
                pace.next_start
            };
            // Looked at again then: the host may have asked for a pause meanwhile.
            sleep_until(at).await;
        }
    }

    /// The host's robots.txt asks for so long between two visits; it holds for everybody from now on.
    pub fn slow_down(&self, url: &Url, delay: Duration) {
        let host = self.host(url);
        let mut pace = lock(&host.pace);
        pace.delay = delay.max(self.delay);
    }

    /// The host asks to be left alone for so long.
    pub fn leave_alone(&self, url: &Url, pause: Duration) {
        let host = self.host(url);
        let mut pace = lock(&host.pace);
        pace.next_start = pace.next_start.max(Instant::now() + pause);
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let name = format!(
            "{}:{}",
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        );
        let mut hosts = lock(&self.hosts);
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&name) {
            let now = Instant::now();
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || lock(&host.pace).next_start > now);
        }
        let new = || {
            let pace = Pace { next_start: Instant::now(), delay: self.delay };
            Arc::new(Host { places: Arc::new(Semaphore::new(self.concurrency)), pace: Mutex::new(pace) })
        };
        hosts.entry(name).or_insert_with(new).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn url(address: &str) -> Url {
        address.parse().unwrap()
    }

    #[tokio::test]
    async fn a_hosts_places_are_shared_by_all_and_another_hosts_are_its_own() {
        let hosts = Hosts::new(2, Duration::ZERO);
        let other = hosts.clone();
        let first = hosts.turn(&url("http://a/1")).await;
        let _second = other.turn(&url("http://a/2")).await;
        assert!(hosts.turn(&url("http://a/3")).now_or_never().is_none());
        assert!(hosts.turn(&url("http://b/1")).now_or_never().is_some());
        assert!(hosts.turn(&url("http://a:8080/1")).now_or_never().is_some());
        drop(first);
        assert!(other.turn(&url("http://a/3")).now_or_never().is_some());
    }

    #[tokio::test]
    async fn visits_keep_their_distance_and_a_shop_can_ask_for_more() {
        let hosts = Hosts::new(10, MOMENT);
        let (shop, start) = (url("http://a/"), Instant::now());
        for _ in 0..3 {
            hosts.turn(&shop).await;
        }
        assert!(start.elapsed() >= MOMENT * 2);
        hosts.slow_down(&shop, MOMENT * 5);
        hosts.turn(&shop).await;
        hosts.turn(&shop).await;
        assert!(start.elapsed() >= MOMENT * 8);
        hosts.slow_down(&shop, Duration::ZERO);
        hosts.turn(&shop).await;
        hosts.turn(&shop).await;
        assert!(start.elapsed() >= MOMENT * 14, "never less than the server's own");
    }

    #[tokio::test]
    async fn a_host_that_asks_for_a_pause_has_it_from_everybody() {
        let hosts = Hosts::new(10, Duration::ZERO);
        let (shop, start) = (url("http://a/"), Instant::now());
        hosts.turn(&shop).await;
        hosts.leave_alone(&shop, MOMENT);
        let waiting = hosts.clone();
        let waiting = tokio::spawn(async move { waiting.turn(&url("http://a/")).await });
        tokio::task::yield_now().await;
        hosts.leave_alone(&shop, MOMENT * 3);
        waiting.await.unwrap();
        assert!(start.elapsed() >= MOMENT * 3);
    }
}
