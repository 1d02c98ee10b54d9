//! How a row of the page becomes a number, whatever its kind.

use prometheus::{
    Counter, Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// A row: `/// help`, then `field: Kind = "name" ["label", …] in BUCKETS;`, the last two where the kind has them.
macro_rules! page {
    ($( $(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $([$($label:literal),+])? $(in $buckets:expr)?; )+) => {
        /// Every number of a process.
        pub struct Numbers {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: $kind, )+
        }

        impl Numbers {
            fn new() -> Result<Numbers, prometheus::Error> {
                let registry = Registry::new();
                let numbers = Numbers {
                    $( $field: <$kind as Make>::make(
                        &registry,
                        $name,
                        concat!($($help),+).trim(),
                        &[$($($label),+)?],
                        page!(@buckets $($buckets)?),
                    )?, )+
                    registry,
                };
                numbers.begin();
                Ok(numbers)
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}
pub(super) use page;

/// A kind of number.
pub(super) trait Make: Sized {
    fn make(
        registry: &Registry,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Self, Error>;
}

macro_rules! make {
    ($($kind:ident: |$name:ident, $help:ident, $labels:ident, $buckets:ident| $made:expr;)+) => {
        $(impl Make for $kind {
            #[expect(unused_variables, reason = "not every kind has labels, or buckets")]
            fn make(
                registry: &Registry,
                $name: &str,
                $help: &str,
                $labels: &[&str],
                $buckets: &[f64],
            ) -> Result<Self, Error> {
                let made = $made?;
                registry.register(Box::new(made.clone()))?;
                Ok(made)
            }
        })+
    };
}

make! {
    IntCounter: |name, help, labels, buckets| IntCounter::new(name, help);
    Counter: |name, help, labels, buckets| Counter::new(name, help);
    IntGauge: |name, help, labels, buckets| IntGauge::new(name, help);
    Gauge: |name, help, labels, buckets| Gauge::new(name, help);
    Histogram: |name, help, labels, buckets| {
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
    };
    IntCounterVec: |name, help, labels, buckets| IntCounterVec::new(Opts::new(name, help), labels);
    IntGaugeVec: |name, help, labels, buckets| IntGaugeVec::new(Opts::new(name, help), labels);
}

impl Make for HistogramVec {
    fn make(
        registry: &Registry,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Self, Error> {
        let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
        registry.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

/// One more of something, until this is dropped.
#[derive(Debug)]
pub struct Held(IntGauge);

impl Held {
    pub fn of(gauge: &IntGauge) -> Held {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
