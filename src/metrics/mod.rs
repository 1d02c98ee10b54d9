//! The numbers of this process: every metric on one page, with what it means; a leaf that everybody may count in.
//!
//! They belong to the process, for they are read from it: [`numbers`] is the one set of them. Counting is an atomic
//! addition; a label's value is looked up, which is done for a batch of events, not for each client that gets it. What
//! is known elsewhere (the queue, pools, the kernel) is set when somebody reads.
//!
//! No label is free: names that callers choose are folded, events outside of the catalogue and kinds of work that no
//! setting names, into [`OTHER`].

mod make;
mod process;

use std::{
    borrow::Cow,
    sync::{LazyLock, OnceLock},
};

use prometheus::{
    Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

pub use self::make::Held;
use self::make::{Make, page};

/// What all names are counted under that callers may choose as they like.
pub const OTHER: &str = "other";
/// The format of [`text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// From a commit to a client's socket; waits of the hub and in the journal.
const FAST: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Requests, and calls to what is elsewhere.
const CALLS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Work.
const SLOW: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
const PERCENT: &[f64] = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 100.0];

page! {
    // ---- clients ----

    /// Socket.IO clients that are connected.
    socket_connected: IntGauge = "socket_io_connected";
    /// Socket.IO clients that connected.
    socket_connects: IntCounter = "socket_io_connect_total";
    /// Socket.IO clients that left.
    socket_disconnects: IntCounter = "socket_io_disconnect_total";
    /// Events told to Socket.IO clients, one for each client.
    socket_events_sent: IntCounterVec = "socket_io_events_sent_total" ["event"];
    /// Messages of Socket.IO clients; "other" is what means nothing here.
    socket_events_received: IntCounterVec = "socket_io_events_received_total" ["event"];
    /// Open Socket.IO connections by transport and by the version of the client's library.
    connections: IntGaugeVec = "jobcast_connections" ["transport", "generation"];
    /// Open raw WebSockets by frontend.
    raw_sockets: IntGaugeVec = "jobcast_raw_websockets" ["dialect"];
    /// Raw WebSockets that were opened, by frontend.
    raw_sockets_opened: IntCounterVec = "jobcast_raw_websockets_opened_total" ["dialect"];
    /// Requests that are kept open until there is news: event streams (sse) and long-polls.
    open_requests: IntGaugeVec = "jobcast_open_requests" ["kind"];
    /// Clients that came back to a session: replayed (they were told what they missed), nothing_missed, or new_session
    /// (what they missed is not known any more, or is not theirs).
    recoveries: IntCounterVec = "jobcast_recoveries_total" ["outcome"];
    /// Times that a client's buffer was full and it was fed from the journal from then on.
    fell_behind: IntCounter = "jobcast_clients_fell_behind_total";
    /// Connections that were closed because their clients took nothing or too little of what they were sent.
    slow_closed: IntCounterVec = "jobcast_slow_clients_closed_total" ["transport"];
    /// Bytes written to Socket.IO clients on WebSockets.
    socket_bytes_sent: IntCounter = "jobcast_socket_sent_bytes_total";
    /// Bytes read from Socket.IO clients on WebSockets.
    socket_bytes_received: IntCounter = "jobcast_socket_received_bytes_total";
    /// Packets written to Socket.IO clients on WebSockets.
    socket_packets_sent: IntCounter = "jobcast_socket_sent_packets_total";

    // ---- the hub and the journal ----

    /// From a commit to when its events were written to clients: one observation for every 64 clients, of the last.
    commit_to_client: Histogram = "jobcast_commit_to_client_seconds" in FAST;
    /// Clients that follow events: sockets, event streams and long-polls.
    hub_clients: IntGauge = "jobcast_hub_clients";
    /// The position in the journal up to which events were told.
    hub_position: IntGauge = "jobcast_hub_position";
    /// The newest position in the journal.
    journal_position: IntGauge = "jobcast_journal_position";
    /// Events that are in the journal and were not told yet.
    hub_lag: IntGauge = "jobcast_hub_lag_events";
    /// Events that nobody announced and the hub found in the journal: those of other processes.
    hub_found: IntCounter = "jobcast_hub_found_events_total";
    /// Events written to the journal by this process.
    journal_events: IntCounterVec = "jobcast_journal_events_total" ["event"];
    /// Appends to the journal that came with no change of a job.
    journal_appends: IntCounter = "jobcast_journal_appends_total";
    /// Appends that were written in one transaction.
    journal_batch_appends: Histogram = "jobcast_journal_batch_appends" in SIZES;
    /// Events that were written in one transaction.
    journal_batch_events: Histogram = "jobcast_journal_batch_events" in SIZES;
    /// How long the transaction of a batch of appends took.
    journal_commit: Histogram = "jobcast_journal_commit_seconds" in FAST;
    /// Batches of appends that could not be written.
    journal_failures: IntCounter = "jobcast_journal_failures_total";
    /// Appends that wait for their batch.
    journal_waiting: IntGauge = "jobcast_journal_waiting_appends";
    /// How long a change of a job took: its rows, tasks and events in one transaction.
    change: Histogram = "jobcast_change_seconds" in FAST;

    // ---- jobs and their queues ----

    /// Jobs that have not ended, by status.
    jobs_open: IntGaugeVec = "jobcast_jobs_open" ["status"];
    /// Jobs that ended, by how.
    jobs_ended: IntCounterVec = "jobcast_jobs_ended_total" ["status"];
    /// Items that are ready for a worker or with one, by stage.
    queue_items: IntGaugeVec = "jobcast_queue_items" ["stage", "state"];
    /// How long the oldest item that is ready has waited, by stage.
    queue_age: IntGaugeVec = "jobcast_queue_oldest_seconds" ["stage"];
    /// How long an attempt at an item took, by stage.
    stage: HistogramVec = "jobcast_stage_seconds" ["stage"] in SLOW;
    /// Attempts at items, by stage and what came of them: done, retried, given_up, interrupted.
    items: IntCounterVec = "jobcast_items_total" ["stage", "outcome"];
    /// Jobs for workers outside that are ready or with one, by kind.
    work_jobs: IntGaugeVec = "jobcast_work_jobs" ["kind", "state"];
    /// How long the oldest job that is ready for a worker outside has waited, by kind.
    work_age: IntGaugeVec = "jobcast_work_oldest_seconds" ["kind"];
    /// Jobs that workers outside claimed, by kind.
    work_claims: IntCounterVec = "jobcast_work_claims_total" ["kind"];
    /// Jobs taken from workers outside that were not heard of.
    work_lost: IntCounter = "jobcast_work_lost_total";

    // ---- tools ----

    /// Tabs of Chromium that are in use.
    browser_in_use: IntGauge = "jobcast_browser_pages_in_use";
    /// Tabs of Chromium that may be in use at once.
    browser_size: IntGauge = "jobcast_browser_pages_max";
    /// Starts of Chromium.
    browser_launches: IntCounter = "jobcast_browser_launches_total";
    /// Visits that failed because Chromium, or the page's process, broke down.
    browser_crashes: IntCounter = "jobcast_browser_crashes_total";
    /// How long a visit of a page took, its wait for a tab included.
    browser_visit: Histogram = "jobcast_browser_visit_seconds" in SLOW;
    /// How long reading a picture took, its wait for a thread included.
    ocr: Histogram = "jobcast_ocr_seconds" in SLOW;
    /// How sure readings of screenshots are.
    ocr_confidence: Histogram = "jobcast_ocr_confidence_percent" in PERCENT;
    /// How long calls of the object store took.
    objects: HistogramVec = "jobcast_object_store_seconds" ["operation"] in CALLS;
    /// Calls of the object store that failed; an object that is not there is no failure.
    objects_failed: IntCounterVec = "jobcast_object_store_errors_total" ["operation"];

    // ---- webhooks ----

    /// Attempts to tell webhooks of an event, by what came of them: delivered, again (tried later), given_up, gone (the
    /// receiver wants nothing more).
    webhook_attempts: IntCounterVec = "jobcast_webhook_attempts_total" ["outcome"];
    /// How long attempts to tell webhooks of an event took, whatever came of them.
    webhook_attempt: Histogram = "jobcast_webhook_attempt_seconds" in CALLS;
    /// Events that wait to be told to webhooks, disabled ones included, and those that were given up; up to 100,000 of each
    /// are counted.
    webhook_deliveries: IntGaugeVec = "jobcast_webhook_deliveries" ["state"];
    /// How long the oldest event that is due has waited to be told to a webhook that is enabled.
    webhook_age: IntGauge = "jobcast_webhook_oldest_seconds";

    // ---- this process ----

    /// HTTP requests by method and status.
    http_requests: IntCounterVec = "jobcast_http_requests_total" ["method", "status"];
    /// From a request to its answer's head; waits that clients ask for are included, Socket.IO's are not.
    http_request: Histogram = "jobcast_http_request_seconds" in CALLS;
    /// Connections to the database.
    database_connections: IntGaugeVec = "jobcast_database_connections" ["state"];
    /// Connections to the database that there may be.
    database_connections_max: IntGauge = "jobcast_database_connections_max";
    /// Whether the database answered when these numbers were last asked for, which is every few seconds at the most.
    database_up: IntGauge = "jobcast_database_up";
    /// Seconds since this process began to serve.
    uptime: Gauge = "jobcast_uptime_seconds";
    /// Always 1; the label says which version runs.
    build: IntGaugeVec = "jobcast_build_info" ["version"];
    /// Bytes of memory that this process has; what it started (Chromium, a database) has its own.
    resident_memory: IntGauge = "process_resident_memory_bytes";
    /// Seconds of processor time that this process used.
    cpu: Counter = "process_cpu_seconds_total";
    /// Files and sockets that this process has open.
    open_fds: IntGauge = "process_open_fds";
    /// Files and sockets that this process may have open.
    max_fds: IntGauge = "process_max_fds";
    /// When this process began, in seconds since 1970.
    start_time: Gauge = "process_start_time_seconds";
}

/// The numbers of this process.
pub fn numbers() -> &'static Numbers {
    static NUMBERS: LazyLock<Numbers> = LazyLock::new(|| Numbers::new().expect("a test makes them all"));
    &NUMBERS
}

/// The kinds of work that have numbers of their own.
static KINDS: OnceLock<Vec<String>> = OnceLock::new();

/// Names the kinds of work that have numbers of their own; the first call of a process counts.
pub fn name_kinds(kinds: &[String]) {
    let _ = KINDS.set(kinds.to_vec());
    for kind in self::kinds() {
        numbers().work_claims.with_label_values(&[kind]);
    }
}

/// The kinds of work that have numbers of their own, and what all others are counted under.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.get().into_iter().flatten().map(String::as_str).chain([OTHER])
}

/// The label of a kind of work.
pub fn kind_label(kind: &str) -> &'static str {
    kinds().find(|known| *known == kind).unwrap_or(OTHER)
}

/// The label of an event's name. Names of the catalogue are borrowed, wherever they come from; others are not.
#[expect(clippy::ptr_arg, reason = "whether it is borrowed is what is asked")]
pub fn event_label<'a>(name: &'a Cow<'static, str>) -> &'a str {
    match name {
        Cow::Borrowed(known) => known,
        Cow::Owned(_) => OTHER,
    }
}

impl Numbers {
    /// All numbers in Prometheus' text format, with those that the kernel knows of this process as they are now.
    ///
    /// # Errors
    /// Only if a number has no value, which none is without.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.read_process();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Makes labels known whose values are few, so that each number is there before it is first counted: what appears
    /// with its first event has no rate.
    fn begin(&self) {
        for transport in ["websocket", "polling"] {
            for generation in ["2", "3-4"] {
                self.connections.with_label_values(&[transport, generation]);
            }
        }
        for transport in ["websocket", "raw"] {
            self.slow_closed.with_label_values(&[transport]);
        }
        for kind in ["sse", "long_poll"] {
            self.open_requests.with_label_values(&[kind]);
        }
        for outcome in ["replayed", "nothing_missed", "new_session"] {
            self.recoveries.with_label_values(&[outcome]);
        }
        for status in ["completed", "failed", "cancelled"] {
            self.jobs_ended.with_label_values(&[status]);
        }
        for operation in ["put", "get", "head", "list", "copy", "delete"] {
            self.objects.with_label_values(&[operation]);
            self.objects_failed.with_label_values(&[operation]);
        }
        for outcome in ["delivered", "again", "given_up", "gone"] {
            self.webhook_attempts.with_label_values(&[outcome]);
        }
        self.socket_events_received.with_label_values(&[OTHER]);
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// Makes the events of the catalogue known.
    pub fn name_events(&self, names: impl Iterator<Item = &'static str>) {
        for name in names.chain([OTHER]) {
            self.socket_events_sent.with_label_values(&[name]);
            self.journal_events.with_label_values(&[name]);
        }
    }

    /// Makes stages known, and what may come of their items.
    pub fn name_stages(&self, stages: impl Iterator<Item = &'static str>) {
        for stage in stages {
            self.stage.with_label_values(&[stage]);
            for outcome in ["done", "retried", "given_up", "interrupted"] {
                self.items.with_label_values(&[stage, outcome]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_says_what_it_means_and_names_are_as_prometheus_wants_them() {
        let numbers = Numbers::new().unwrap();
        numbers.name_events(["job:created"].into_iter());
        numbers.name_stages(["crawl"].into_iter());
        let text = numbers.text().unwrap();
        let mut seen = 0;
        for family in numbers.registry.gather() {
            let (name, kind) = (family.name(), format!("{:?}", family.get_field_type()));
            assert!(family.help().len() > 15, "{name} says nothing");
            let known = ["jobcast_", "socket_io_", "process_"].iter().any(|prefix| name.starts_with(prefix));
            assert!(known, "{name}");
            assert_eq!(name.ends_with("_total"), kind == "COUNTER", "{name} is a {kind}");
            seen += 1;
        }
        assert!(seen > 40, "{seen}");
        assert!(text.contains(
            "# TYPE socket_io_events_sent_total counter\nsocket_io_events_sent_total{event=\"job:created\"} 0"
        ));
        assert!(numbers.resident_memory.get() > 1_000_000 && numbers.open_fds.get() > 2, "{text}");
        assert!(numbers.start_time.get() > 1_700_000_000.0 && numbers.cpu.get() > 0.0, "{text}");
    }

    #[test]
    fn names_that_callers_choose_are_folded() {
        name_kinds(&["novel".into()]);
        assert_eq!(["novel", "mine"].map(kind_label), ["novel", OTHER]);
        assert_eq!(event_label(&Cow::Borrowed("job:created")), "job:created");
        assert_eq!(event_label(&Cow::Owned("mine:word".into())), OTHER);
    }

    #[test]
    fn what_is_held_is_counted_while_it_is_held() {
        let gauge = IntGauge::new("held", "Things that are held.").unwrap();
        let one = Held::of(&gauge);
        assert_eq!(gauge.get(), 1);
        drop(one);
        assert_eq!(gauge.get(), 0);
    }
}
