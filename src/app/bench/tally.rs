//! Counts what arrives: every event once a client, what came again, what came late, and how long it took.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::wire::Mark;

/// Latencies up to ten minutes, in microseconds, to one percent.
const LONGEST: u64 = 600_000_000;

/// The events that one client has seen.
#[derive(Debug)]
pub struct Seen {
    words: Box<[u64]>,
    newest: Option<u32>,
}

/// What an event was to the client that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    New,
    /// New, but a later one was there before it.
    Late,
    Again,
    /// Nobody published it.
    Stranger,
}

impl Seen {
    fn note(&mut self, n: u32, events: u32) -> Sight {
        if n >= events {
            return Sight::Stranger;
        }
        let (word, bit) = (n as usize / 64, 1 << (n % 64));
        if self.words[word] & bit != 0 {
            return Sight::Again;
        }
        self.words[word] |= bit;
        if self.newest.is_some_and(|newest| newest > n) {
            return Sight::Late;
        }
        self.newest = Some(n);
        Sight::New
    }
}

/// An event's arrival at some client.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub n: u32,
    /// Microseconds since the epoch.
    pub at: u64,
}

/// The sums over all clients of a run.
#[derive(Debug)]
pub struct Tally {
    events: u32,
    delivered: AtomicU64,
    repeated: AtomicU64,
    unordered: AtomicU64,
    strangers: AtomicU64,
    latency: Mutex<Histogram<u64>>,
    arrivals: Option<Mutex<Vec<Arrival>>>,
}

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    pub repeated: u64,
    pub unordered: u64,
}

impl Tally {
    /// For events numbered from 0 to less than `events`; `arrivals` keeps the time of every single one.
    pub fn new(events: u32, arrivals: bool) -> Tally {
        let latency = Histogram::new_with_max(LONGEST, 2).expect("the bounds are in order");
        Tally {
            events,
            delivered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            unordered: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            latency: Mutex::new(latency),
            arrivals: arrivals.then(Mutex::default),
        }
    }

    /// A client that has seen nothing yet.
    pub fn nothing_seen(&self) -> Seen {
        Seen { words: vec![0; self.events.div_ceil(64) as usize].into(), newest: None }
    }

    /// Counts an event that reached a client at `now` (microseconds since the epoch).
    pub fn note(&self, seen: &mut Seen, mark: Mark, now: u64) {
        let sight = seen.note(mark.n, self.events);
        match sight {
            Sight::New => {}
            Sight::Late => drop(self.unordered.fetch_add(1, Relaxed)),
            Sight::Again => {
                self.repeated.fetch_add(1, Relaxed);
                return;
            }
            Sight::Stranger => {
                self.strangers.fetch_add(1, Relaxed);
                return;
            }
        }
        let latency = now.saturating_sub(mark.t);
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(latency);
        if let Some(arrivals) = &self.arrivals {
            let arrival = Arrival { n: mark.n, at: now };
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
        }
        self.delivered.fetch_add(1, Relaxed);
    }

    /// Events that reached a client for the first time, over all clients.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered(),
            // An event that nobody published is one too many.
            repeated: self.repeated.load(Relaxed) + self.strangers.load(Relaxed),
            unordered: self.unordered.load(Relaxed),
        }
    }

    /// What was counted since `before`, of `expected` deliveries; the latencies begin anew.
    pub fn delivery(&self, before: Counts, expected: u64) -> Delivery {
        let now = self.counts();
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let latencies = Latency::of(&latency);
        latency.reset();
        let delivered = now.delivered - before.delivered;
        Delivery {
            expected,
            delivered,
            lost: expected.saturating_sub(delivered),
            repeated: now.repeated - before.repeated,
            unordered: now.unordered - before.unordered,
            latency: latencies,
        }
    }

    /// The arrivals that were kept.
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        let take = |arrivals: &Mutex<Vec<Arrival>>| {
            std::mem::take(&mut *arrivals.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.arrivals.as_ref().map(take).unwrap_or_default()
    }
}

/// What became of the events that were published to some clients.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Events times clients.
    pub expected: u64,
    pub delivered: u64,
    pub lost: u64,
    /// Arrivals of an event that the client had already, or that nobody published.
    pub repeated: u64,
    /// Arrivals behind a later event.
    pub unordered: u64,
    /// From publishing to arrival.
    pub latency: Latency,
}

impl Delivery {
    /// Percent of what was expected.
    pub fn percent(&self) -> f64 {
        if self.expected == 0 { 100.0 } else { self.delivered as f64 * 100.0 / self.expected as f64 }
    }
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} delivered ({:.3} %), {} lost, {} repeated, {} out of order; {}",
            self.delivered,
            self.expected,
            self.percent(),
            self.lost,
            self.repeated,
            self.unordered,
            self.latency
        )
    }
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let ms = |microseconds: u64| microseconds as f64 / 1000.0;
        Latency {
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }

    /// The percentiles of these many microseconds.
    pub fn over(microseconds: impl IntoIterator<Item = u64>) -> Latency {
        let mut histogram = Histogram::new_with_max(LONGEST, 2).expect("the bounds are in order");
        for value in microseconds {
            histogram.saturating_record(value);
        }
        Latency::of(&histogram)
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", self.p50, self.p99, self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(tally: &Tally, seen: &mut Seen, n: u32) {
        tally.note(seen, Mark { n, t: 1_000 }, 3_000);
    }

    #[test]
    fn lost_repeated_late_and_unknown_events_are_told_apart() {
        let tally = Tally::new(130, true);
        let (mut one, mut other) = (tally.nothing_seen(), tally.nothing_seen());
        for n in [0, 1, 129, 64, 64, 130, 4_000_000_000] {
            note(&tally, &mut one, n);
        }
        note(&tally, &mut other, 64);
        let delivery = tally.delivery(Counts::default(), 260);
        assert_eq!((delivery.delivered, delivery.lost), (5, 255));
        assert_eq!((delivery.repeated, delivery.unordered), (3, 1));
        assert!((1.9..2.1).contains(&delivery.latency.p50), "{}", delivery.latency);
        let arrivals: Vec<u32> = tally.take_arrivals().iter().map(|arrival| arrival.n).collect();
        assert_eq!(arrivals, [0, 1, 129, 64, 64]);
    }

    #[test]
    fn a_part_of_a_run_counts_from_its_beginning() {
        let tally = Tally::new(10, false);
        let mut seen = tally.nothing_seen();
        note(&tally, &mut seen, 0);
        let before = tally.counts();
        tally.delivery(Counts::default(), 1);
        note(&tally, &mut seen, 1);
        note(&tally, &mut seen, 0);
        let delivery = tally.delivery(before, 2);
        assert_eq!((delivery.delivered, delivery.lost, delivery.repeated), (1, 1, 1));
    }

    proptest! {
        #[test]
        fn every_event_counts_once(numbers in prop::collection::vec(0..300_u32, 0..600)) {
            let tally = Tally::new(300, false);
            let mut seen = tally.nothing_seen();
            for n in &numbers {
                note(&tally, &mut seen, *n);
            }
            let distinct: std::collections::HashSet<_> = numbers.iter().collect();
            let counts = tally.counts();
            prop_assert_eq!(counts.delivered, distinct.len() as u64);
            prop_assert_eq!(counts.repeated, (numbers.len() - distinct.len()) as u64);
        }
    }
}
