//! Stock clients come back to their sessions, whatever happens to the network and to the server, and miss nothing.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt as _;
use jobcast::{
    config::{Config, ReplayOnSubscribe},
    event::{Event, JobProgress, JobUpdated},
    job::JobId,
    store::Store,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio_tungstenite::{client_async, tungstenite::Message};
use url::Url;

use crate::{
    process::{Process, free_port},
    proxy::Proxy,
    raw_client::{RawClient, Told},
    stock_client::{Heard, Page, Stock},
    support::{Running, folder, planned_job, quiet_config, soon, wait_for},
};

/// Each of these with the client that can come back to its session, however it travels.
macro_rules! however_it_travels {
    ($($story:ident)*) => { $(
        mod $story {
            use crate::stock_client::Stock;

            #[tokio::test(flavor = "multi_thread")]
            async fn websocket() { super::$story(Stock::V4_WEBSOCKET).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn polling() { super::$story(Stock::V4_POLLING).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn upgraded() { super::$story(Stock::V4).await }
        }
    )* };
}

however_it_travels! {
    cuts_while_events_flow_cost_nothing
    a_quiet_session_is_found_again_behind_thousands_of_events
    a_server_that_stops_hands_over_to_the_next
    another_server_takes_over_from_one_that_does_not_answer
    a_long_past_goes_on_where_it_was_cut
    asking_again_on_every_connect_changes_nothing
    what_was_left_stays_left
    who_was_away_for_longer_than_events_are_kept_begins_anew
}

/// Workers would tell of jobs by themselves; a client notices soon that nobody answers.
fn settings() -> Config {
    let mut config = quiet_config();
    config.realtime.recent_events = 16;
    config.realtime.ping_interval = Duration::from_millis(300);
    config.realtime.ping_timeout = Duration::from_millis(1200);
    config
}

/// The same on the database of another server.
fn on(database: &str) -> Config {
    let mut config = settings();
    config.database.url = database.to_owned();
    config
}

fn update(message: impl Into<String>) -> Event {
    let message = Some(message.into());
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message }.into()
}

async fn append(store: &Store, job: JobId, count: usize) {
    for n in 0..count {
        store.append(job, vec![update(format!("event {n}"))]).await.unwrap();
    }
}

fn subscribe(job: JobId) -> Value {
    json!(["job:subscribe", job.to_string()])
}

/// What a page hears over all its connections.
struct Listener {
    page: Page,
    heard: Vec<Heard>,
    /// Whether its returns were recoveries.
    returns: Vec<bool>,
}

impl Listener {
    /// A page that is subscribed to jobs, by its own call.
    async fn to(page: Page, jobs: &[JobId]) -> Listener {
        let mut listener = Listener { page, heard: Vec::new(), returns: Vec::new() };
        for job in jobs {
            assert_eq!(listener.page.call(subscribe(*job)).await["ok"], true);
        }
        listener
    }

    async fn hear(&mut self, count: usize) {
        for _ in 0..count {
            let heard = self.page.hear_on(&mut self.returns).await;
            self.heard.push(heard);
        }
    }

    /// Loses its connection and is connected again.
    async fn is_cut(&mut self, proxy: &Proxy) {
        self.is_cut_off(proxy).await;
        self.is_let_in(proxy).await;
    }

    /// Loses its connection, and gets no other.
    async fn is_cut_off(&mut self, proxy: &Proxy) {
        proxy.refuse(true);
        proxy.cut();
        self.page.is_disconnected().await;
    }

    async fn is_let_in(&mut self, proxy: &Proxy) {
        proxy.refuse(false);
        let recovered = self.page.comes_back().await;
        self.returns.push(recovered);
    }

    /// Hears all that is due, and that of each job it was told everything behind a seq, once and in order.
    async fn has_heard(&mut self, store: &Store, jobs: &[(JobId, i32)]) {
        // Everybody is told of a new job, behind all that happened before.
        let last = json!(planned_job(store).await);
        loop {
            self.hear(1).await;
            if self.heard.last().unwrap().payload["jobId"] == last {
                break;
            }
        }
        let mut told: HashMap<String, Vec<Heard>> = HashMap::new();
        for heard in self.heard.iter().filter(|heard| heard.position.is_some()) {
            told.entry(heard.payload["jobId"].as_str().unwrap().to_owned()).or_default().push(heard.clone());
        }
        for (job, after) in jobs {
            let recorded = store.events(*job, *after, i64::MAX).await.unwrap();
            let recorded: Vec<Heard> = recorded.iter().map(|event| Heard::of(event)).collect();
            let told = told.remove(&job.to_string()).unwrap_or_default();
            assert_eq!(told.len(), recorded.len(), "{:?}: each once", self.page.stock);
            assert!(told == recorded, "{:?}: in order", self.page.stock);
        }
        told.retain(|_, told| told[0].name != "job:created");
        assert!(told.is_empty(), "nothing of other jobs: {told:?}");
    }
}

async fn cuts_while_events_flow_cost_nothing(stock: Stock) {
    let server = Running::start(settings()).await;
    let store = server.store();
    let jobs = [planned_job(store).await, planned_job(store).await];
    let proxy = Proxy::start(&server.base).await;
    let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &jobs).await;
    // It has heard nothing yet.
    listener.is_cut(&proxy).await;
    for _ in 0..5 {
        let events = async {
            for _ in 0..20 {
                append(store, jobs[0], 2).await;
                append(store, jobs[1], 1).await;
            }
        };
        let cut = async {
            listener.hear(7).await;
            listener.is_cut(&proxy).await;
        };
        tokio::join!(events, cut);
    }
    listener.has_heard(store, &[(jobs[0], 1), (jobs[1], 1)]).await;
    assert_eq!(listener.returns, [true; 6]);
}

async fn a_quiet_session_is_found_again_behind_thousands_of_events(stock: Stock) {
    let server = Running::start(settings()).await;
    let store = server.store();
    let (quiet, silent, busy) =
        (planned_job(store).await, planned_job(store).await, planned_job(store).await);
    let proxy = Proxy::start(&server.base).await;
    let mut hears_one = Listener::to(Page::open_at(stock, &proxy.url()).await, &[quiet]).await;
    let mut hears_none = Listener::to(Page::open_at(stock, &proxy.url()).await, &[silent]).await;
    append(store, quiet, 1).await;
    hears_one.hear(1).await;
    for _ in 0..30 {
        store.append(busy, vec![update("another job's"); 100]).await.unwrap();
    }
    hears_one.is_cut_off(&proxy).await;
    hears_none.page.is_disconnected().await;
    append(store, quiet, 2).await;
    append(store, silent, 2).await;
    hears_one.is_let_in(&proxy).await;
    hears_none.is_let_in(&proxy).await;
    hears_one.has_heard(store, &[(quiet, 1)]).await;
    hears_none.has_heard(store, &[(silent, 1)]).await;
    // And once more, for what it was told last is older than all that.
    hears_one.is_cut(&proxy).await;
    append(store, quiet, 1).await;
    hears_one.has_heard(store, &[(quiet, 1)]).await;
    assert_eq!((hears_one.returns, hears_none.returns), (vec![true; 2], vec![true; 1]));
}

async fn a_server_that_stops_hands_over_to_the_next(stock: Stock) {
    let first = Running::start(settings()).await;
    let store = first.store();
    let job = planned_job(store).await;
    let proxy = Proxy::start(&first.base).await;
    let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &[job]).await;
    append(store, job, 5).await;
    listener.hear(2).await;
    let second = Running::start(on(&first.database)).await;
    let events = async {
        append(second.store(), job, 10).await;
        proxy.retarget(&second.base);
        append(second.store(), job, 10).await;
    };
    tokio::join!(events, first.stop());
    assert!(listener.page.comes_back().await);
    append(second.store(), job, 3).await;
    listener.has_heard(second.store(), &[(job, 1)]).await;
    second.stop().await;
}

async fn another_server_takes_over_from_one_that_does_not_answer(stock: Stock) {
    let first = Running::start(settings()).await;
    let mut late = on(&first.database);
    // It hears of the first one's events late.
    late.realtime.poll_interval = Duration::from_secs(2);
    let second = Running::start(late).await;
    let store = first.store();
    let jobs = [planned_job(store).await, planned_job(store).await];
    let proxy = Proxy::start(&first.base).await;
    let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &[jobs[0]]).await;
    append(store, jobs[1], 5).await;
    append(store, jobs[0], 20).await;
    listener.hear(15).await;
    proxy.freeze();
    proxy.retarget(&second.base);
    append(store, jobs[0], 5).await;
    append(second.store(), jobs[0], 5).await;
    assert!(listener.page.comes_back().await);
    listener.returns.push(true);
    // A new subscription on the server that lags behind what its client knows.
    append(store, jobs[1], 5).await;
    assert_eq!(
        listener.page.call(json!(["job:subscribe", jobs[1].to_string(), { "after": 0 }])).await["ok"],
        true
    );
    append(store, jobs[1], 5).await;
    append(store, jobs[0], 5).await;
    // What waited for the first one's client comes too late for it.
    proxy.thaw();
    listener.has_heard(second.store(), &[(jobs[0], 1), (jobs[1], 0)]).await;
    assert_eq!(listener.returns, [true]);
}

async fn a_long_past_goes_on_where_it_was_cut(stock: Stock) {
    const LONG: usize = 3000;
    let mut config = settings();
    // A little at a time, so that most of it is still to come when it is cut.
    config.realtime.max_buffered_bytes = 4000;
    config.realtime.max_buffered_packets = 16;
    let server = Running::start(config).await;
    let store = server.store();
    let jobs = [planned_job(store).await, planned_job(store).await, planned_job(store).await];
    for (job, count) in jobs.iter().zip([50, LONG, 50]) {
        for _ in 0..count / 50 {
            store.append(*job, vec![update("x".repeat(500)); 50]).await.unwrap();
        }
    }
    let proxy = Proxy::start(&server.base).await;
    let page = Page::open_at(stock, &proxy.url()).await;
    let mut listener = Listener::to(page, &[]).await;
    for job in jobs {
        listener.page.emit(json!(["job:subscribe", job.to_string(), { "after": 0 }])).await;
    }
    // The last subscription is one of the session when the first event of its past is there, at the latest.
    assert_eq!(listener.page.call(json!(["automation:subscribe", jobs[2].to_string()])).await["ok"], true);
    for _ in 0..4 {
        listener.hear(300).await;
        append(store, jobs[0], 1).await;
        listener.is_cut(&proxy).await;
    }
    listener.has_heard(store, &jobs.map(|job| (job, 0))).await;
    assert_eq!(listener.returns, [true; 4]);
}

async fn asking_again_on_every_connect_changes_nothing(stock: Stock) {
    let server = Running::start(settings()).await;
    let store = server.store();
    for options in [json!(null), json!({ "after": 1 })] {
        let job = planned_job(store).await;
        let proxy = Proxy::start(&server.base).await;
        let mut page = Page::start(stock, &proxy.url());
        page.connect(&[json!(["job:subscribe", job.to_string(), options])]).await;
        let mut listener = Listener::to(page, &[]).await;
        for _ in 0..3 {
            append(store, job, 3).await;
            listener.hear(2).await;
            listener.is_cut_off(&proxy).await;
            append(store, job, 3).await;
            listener.is_let_in(&proxy).await;
        }
        listener.has_heard(store, &[(job, 1)]).await;
        assert_eq!(listener.returns, [true; 3]);
    }
}

async fn what_was_left_stays_left(stock: Stock) {
    let server = Running::start(settings()).await;
    let store = server.store();
    let (kept, left) = (planned_job(store).await, planned_job(store).await);
    let proxy = Proxy::start(&server.base).await;
    let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &[kept, left]).await;
    assert_eq!(listener.page.call(json!(["job:unsubscribe", left.to_string()])).await["ok"], true);
    for _ in 0..2 {
        append(store, left, 2).await;
        append(store, kept, 2).await;
        listener.is_cut(&proxy).await;
    }
    // The second way into a job's room is kept too.
    assert_eq!(listener.page.call(json!(["automation:subscribe", kept.to_string()])).await["ok"], true);
    listener.is_cut(&proxy).await;
    assert_eq!(listener.page.call(json!(["job:unsubscribe", kept.to_string()])).await["ok"], true);
    append(store, kept, 2).await;
    listener.has_heard(store, &[(kept, 1)]).await;
    assert_eq!(listener.returns, [true; 3]);
}

async fn who_was_away_for_longer_than_events_are_kept_begins_anew(stock: Stock) {
    let server = Running::start(settings()).await;
    let store = server.store();
    let job = planned_job(store).await;
    let proxy = Proxy::start(&server.base).await;
    let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &[job]).await;
    append(store, job, 3).await;
    listener.hear(3).await;
    listener.is_cut_off(&proxy).await;
    append(store, job, 5).await;
    let mut connection = PgConnection::connect(&server.database).await.unwrap();
    sqlx::query("UPDATE journal_head SET floor = position - 2").execute(&mut connection).await.unwrap();
    proxy.refuse(false);
    assert!(!listener.page.comes_back().await, "a part of what it missed is not offered as all of it");
    // The page knows, and asks for itself.
    let answer = listener.page.call(json!(["job:subscribe", job.to_string(), { "after": 4 }])).await;
    assert_eq!(answer["seq"], 9);
    listener.hear(5).await;
    // And that is a session again.
    listener.is_cut(&proxy).await;
    listener.has_heard(store, &[(job, 1)]).await;
    assert_eq!(listener.returns, [true]);
}

/// The server as its user starts it, killed and started again, with clients of every kind.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_costs_its_clients_nothing() {
    let beside = Running::start(settings()).await;
    let (folder, port, store) = (folder(), free_port(), beside.store());
    let environment =
        [("JOBCAST__DATABASE__URL", &*beside.database), ("JOBCAST__PIPELINE__ENABLED", "false")];
    let job = planned_job(store).await;
    let mut server = Process::start(folder.path(), port, &environment).await;
    let url: Url = format!("{}/", server.base).parse().unwrap();
    let mut listeners = Vec::new();
    for stock in [Stock::V4_WEBSOCKET, Stock::V4_POLLING, Stock::V4] {
        listeners.push(Listener::to(Page::open_at(stock, &url).await, &[job]).await);
    }
    for _ in 0..2 {
        append(store, job, 10).await;
        for listener in &mut listeners {
            listener.hear(4).await;
        }
        append(store, job, 10).await;
        server.kill();
        append(store, job, 10).await;
        server = Process::start(folder.path(), port, &environment).await;
        for listener in &mut listeners {
            let recovered = listener.page.comes_back().await;
            listener.returns.push(recovered);
        }
    }
    for listener in &mut listeners {
        listener.has_heard(store, &[(job, 1)]).await;
        assert_eq!(listener.returns, [true; 2], "{:?}", listener.page.stock);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_poll_that_gets_lost_is_made_up_for() {
    let server = Running::start(settings()).await;
    let store = server.store();
    let job = planned_job(store).await;
    let proxy = Proxy::start(&server.base).await;
    let mut listener = Listener::to(Page::open_at(Stock::V4_POLLING, &proxy.url()).await, &[job]).await;
    for _ in 0..5 {
        append(store, job, 1).await;
        listener.hear(1).await;
        proxy.mute();
        append(store, job, 3).await;
        proxy.holds_back("job:updated").await;
        proxy.cut();
        proxy.thaw();
        listener.hear(3).await;
    }
    listener.has_heard(store, &[(job, 1)]).await;
    assert_eq!(listener.returns, [true; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_session_goes_on_elsewhere_changes_it_no_more() {
    let first = Running::start(settings()).await;
    let second = Running::start(on(&first.database)).await;
    let store = first.store();
    let (job, other) = (planned_job(store).await, planned_job(store).await);
    let mut old = RawClient::connect(&first.base).await;
    assert_eq!(old.subscribe(job).await["ok"], true);
    let mut new = RawClient::come_back(&second.base, &json!({ "pid": old.pid })).await;
    assert_eq!(new.pid, old.pid);
    let answer = old.subscribe(other).await;
    assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    let answer = old.call(json!(["job:unsubscribe", job.to_string()])).await;
    assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    append(store, other, 1).await;
    append(store, job, 1).await;
    assert_eq!(new.next_journaled().await.position(), 4);
    // Coming back once more, to the first server, it is as the second one left it; the one there is sent away.
    let mut third = RawClient::come_back(&first.base, &json!({ "pid": old.pid, "offset": "3" })).await;
    assert_eq!(third.pid, old.pid);
    append(store, other, 1).await;
    append(store, job, 1).await;
    for expected in [4, 6] {
        assert_eq!(third.next_journaled().await.position(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_removed_job_and_claims_that_are_none_begin_anew() {
    let server = Running::start(settings()).await;
    let store = server.store();
    let (job, removed) = (planned_job(store).await, planned_job(store).await);
    let mut client = RawClient::connect(&server.base).await;
    client.subscribe(job).await;
    let pid = client.pid.clone();
    let mut others = RawClient::connect(&server.base).await;
    others.subscribe(removed).await;
    store.cancel(removed).await.unwrap();
    store.remove(removed).await.unwrap();
    let claims = [
        json!({ "pid": others.pid, "offset": "2" }),
        json!({ "pid": "0".repeat(32) }),
        json!({ "pid": "" }),
        json!({ "pid": 5, "offset": 5 }),
        json!({ "pid": [pid], "offset": null }),
        json!({ "pid": pid.repeat(1000) }),
        json!({ "pid": format!("{pid}'; --") }),
        json!({ "pid": pid.to_uppercase() + "0" }),
        json!({ "pid": pid, "offset": "-1" }),
        json!({ "pid": pid, "offset": "1e3" }),
        json!({ "pid": pid, "offset": "x".repeat(10_000) }),
        json!({ "pid": pid, "offset": "1".repeat(31) }),
        json!({ "pid": pid, "offset": "999999" }),
        json!({ "pid": pid, "offset": "1.1.999999" }),
        json!({ "pid": pid, "offset": "1.1" }),
        json!({ "pid": pid, "offset": "1.99999999999.1" }),
        json!({ "offset": "1" }),
        json!({ "pid": { "pid": pid } }),
    ];
    let mut pids = Vec::new();
    for claim in claims {
        let mut stranger = RawClient::come_back(&server.base, &claim).await;
        assert!(stranger.pid.len() == 32 && stranger.pid != pid, "{claim}: {}", stranger.pid);
        assert!(!pids.contains(&stranger.pid), "each begins one of its own");
        pids.push(stranger.pid.clone());
        // It is served as a new one: in no room, and told what is new.
        append(store, job, 1).await;
        let new = json!(planned_job(store).await);
        let Told::Event { arguments, .. } = stranger.next_journaled().await else { panic!("an event") };
        assert_eq!(arguments[0]["jobId"], new, "{claim}");
    }
    // Whose session it is comes back to it all the same.
    let mut again = RawClient::come_back(&server.base, &json!({ "pid": pid })).await;
    assert_eq!(again.pid, pid);
    // Position 3 was the end of the removed job.
    assert_eq!(again.next_journaled().await.position(), 4);
}

/// Clients that know of no sessions, and reloaded pages: they name what they know, or are told everything.
#[tokio::test(flavor = "multi_thread")]
async fn clients_without_sessions_name_what_they_know() {
    for (stock, history) in
        [(Stock::V2, false), (Stock::V3, false), (Stock::V2, true), (Stock::V3, true), (Stock::V4, true)]
    {
        let mut config = settings();
        if history {
            config.realtime.replay_on_subscribe = ReplayOnSubscribe::History;
        }
        let server = Running::start(config).await;
        let store = server.store();
        let job = planned_job(store).await;
        append(store, job, 4).await;
        let proxy = Proxy::start(&server.base).await;
        // A page that comes late, or again.
        let options = if history { json!(null) } else { json!({ "after": 1 }) };
        let mut listener = Listener::to(Page::open_at(stock, &proxy.url()).await, &[]).await;
        listener.page.emit(json!(["job:subscribe", job.to_string(), options])).await;
        listener.hear(4).await;
        if stock.version < 4 {
            listener.is_cut_off(&proxy).await;
            append(store, job, 4).await;
            listener.is_let_in(&proxy).await;
            let known = listener.heard.len() as i32 + 1;
            let again = json!(["job:subscribe", job.to_string(), { "after": known }]);
            assert_eq!(listener.page.call(again).await["seq"], 9);
        }
        append(store, job, 2).await;
        listener.has_heard(store, &[(job, 1)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_come_in_while_the_server_stops_is_told_to_try_elsewhere() {
    const CROWD: usize = 150;
    let server = Running::start(settings()).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(RawClient::connect(&server.base).await);
    }
    let stuck = {
        let proxy = Proxy::start(&server.base).await;
        let client = RawClient::connect(&proxy.url()).await;
        proxy.freeze();
        (proxy, client)
    };
    let handshake = server.url("/socket.io/?EIO=4&transport=polling");
    let http = server.http.clone();
    let stop = tokio::spawn(server.stop());
    let mut refused = None;
    while let Ok(answer) = http.get(handshake.clone()).send().await {
        if answer.status() == 503 {
            refused = Some(answer.headers()["retry-after"].to_str().unwrap().to_owned());
        }
    }
    assert_eq!(refused.as_deref(), Some("1"));
    // Everybody was sent away, and the stuck one held nothing up.
    stop.await.unwrap();
    for client in &mut crowd {
        while client.next().await.is_some() {}
    }
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_a_hurry_waits_for_nobody() {
    let server = Running::start(settings()).await;
    let proxy = Proxy::start(&server.base).await;
    let mut page = Page::open_at(Stock::V4_POLLING, &proxy.url()).await;
    proxy.freeze();
    server.stop_until(std::future::ready(())).await;
    let next = Running::start(settings()).await;
    proxy.retarget(&next.base);
    // Another database: it is in, and knows that it begins anew.
    assert!(!page.comes_back().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_is_let_go_and_comes_back_to_all_that_it_missed() {
    const BURST: usize = 1500;
    let mut config = settings();
    config.realtime.ping_timeout = Duration::from_secs(60);
    config.realtime.stall_timeout = Duration::from_secs(1);
    config.realtime.max_buffered_bytes = 100_000;
    let server = Running::start(config).await;
    let store = server.store();
    let job = planned_job(store).await;
    let proxy = Proxy::start(&server.base).await;
    let mut stuck = Listener::to(Page::open_at(Stock::V4_WEBSOCKET, &proxy.url()).await, &[job]).await;
    let mut other = Listener::to(Page::open(Stock::V4_WEBSOCKET, &server).await, &[job]).await;
    append(store, job, 1).await;
    stuck.hear(1).await;
    proxy.freeze();
    for _ in 0..BURST / 50 {
        store.append(job, vec![update("x".repeat(10_000)); 50]).await.unwrap();
    }
    other.hear(1 + BURST).await;
    wait_for("the stuck one to be gone", async || (server.clients() == 1).then_some(())).await;
    append(store, job, 3).await;
    proxy.thaw();
    stuck.has_heard(store, &[(job, 1)]).await;
    assert_eq!(stuck.returns, [true]);
    other.has_heard(store, &[(job, 1)]).await;
    assert!(other.returns.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_the_newest_progress_and_every_milestone() {
    const ROUNDS: u8 = 100;
    let mut config = settings();
    config.realtime.ping_timeout = Duration::from_secs(60);
    config.realtime.stall_timeout = Duration::from_secs(60);
    config.realtime.max_buffered_bytes = 100_000;
    let server = Running::start(config).await;
    let store = server.store();
    let jobs = [planned_job(store).await, planned_job(store).await];
    let proxy = Proxy::start(&server.base).await;
    let mut slow = Listener::to(Page::open_at(Stock::V4_WEBSOCKET, &proxy.url()).await, &jobs).await;
    let mut quick = Listener::to(Page::open(Stock::V4_WEBSOCKET, &server).await, &jobs).await;
    proxy.freeze();
    // More than all the buffers between here and there hold.
    store.append(jobs[0], vec![update("x".repeat(20_000)); 1000]).await.unwrap();
    quick.hear(1000).await;
    for progress in 1..=ROUNDS {
        for job in jobs {
            let (current_step, message) = ("crawling".to_owned(), None);
            let (current_step_progress, total_steps) = (None, None);
            store.tell(
                job,
                JobProgress { progress, current_step, current_step_progress, total_steps, message }.into(),
            );
            append(store, job, 1).await;
        }
    }
    let told = |listener: &Listener, job: JobId| -> Vec<u64> {
        let of_job = |heard: &&Heard| heard.name == "job:progress" && heard.payload["jobId"] == json!(job);
        listener
            .heard
            .iter()
            .filter(of_job)
            .map(|heard| heard.payload["progress"].as_u64().unwrap())
            .collect()
    };
    let all = [(jobs[0], 1), (jobs[1], 1)];
    quick.has_heard(store, &all).await;
    proxy.thaw();
    slow.has_heard(store, &all).await;
    // Progress comes behind what is due; what comes behind that shows that no more of it does.
    append(store, jobs[0], 1).await;
    slow.has_heard(store, &all).await;
    for job in jobs {
        assert_eq!(told(&quick, job).last(), Some(&u64::from(ROUNDS)));
        assert_eq!(told(&slow, job), [u64::from(ROUNDS)], "the newest, and no other");
    }
}

/// What a polling client says and hears, word for word.
struct Polling {
    http: reqwest::Client,
    base: Url,
    sid: String,
}

impl Polling {
    async fn open(server: &Running) -> Polling {
        let base = server.url("/socket.io/?EIO=4");
        let mut client = Polling { http: server.http.clone(), base, sid: String::new() };
        let opened = client.get().await;
        let opened: Value = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
        client.sid = opened["sid"].as_str().unwrap().to_owned();
        client.post("40").await;
        assert!(client.get_what("40{").await.contains("\"pid\""));
        client
    }

    fn url(&self, transport: &str) -> Url {
        let mut url = self.base.clone();
        url.query_pairs_mut().append_pair("transport", transport);
        if !self.sid.is_empty() {
            url.query_pairs_mut().append_pair("sid", &self.sid);
        }
        url
    }

    async fn get(&self) -> String {
        let answer = soon("a poll", self.http.get(self.url("polling")).send()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    }

    async fn post(&self, packet: &str) {
        let answer = self.http.post(self.url("polling")).body(packet.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// The next packet that begins so; heartbeats are answered.
    async fn get_what(&self, begins: &str) -> String {
        loop {
            for packet in self.get().await.split('\u{1e}') {
                match packet {
                    "2" => self.post("3").await,
                    packet if packet.starts_with(begins) => return packet.to_owned(),
                    "6" => {}
                    other => panic!("{other}, not {begins}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_fails_leaves_the_polling_session_as_it_is() {
    let mut config = settings();
    config.realtime.ping_interval = Duration::from_secs(20);
    let server = Running::start(config).await;
    let store = server.store();
    let job = planned_job(store).await;
    let client = Polling::open(&server).await;
    client.post(&format!("420{}", subscribe(job))).await;
    client.get_what("430[").await;
    let upgrade = async |sid: &str| {
        let mut url = server.url(&format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"));
        url.set_scheme("ws").unwrap();
        let stream =
            tokio::net::TcpStream::connect(server.base.socket_addrs(|| None).unwrap()[0]).await.unwrap();
        client_async(url.as_str(), stream).await.map(|(socket, _)| socket)
    };
    let mut silent = Vec::new();
    for first in [
        None,
        Some(Message::text("garbage")),
        Some(Message::binary(vec![0; 1000])),
        Some(Message::Close(None)),
    ] {
        let mut socket = upgrade(&client.sid).await.unwrap();
        match first {
            None => silent.push(socket),
            Some(first) => {
                futures_util::SinkExt::send(&mut socket, first).await.unwrap();
                // The server hangs up.
                while soon("the end", socket.next()).await.is_some_and(|frame| frame.is_ok()) {}
            }
        }
        append(store, job, 1).await;
        assert!(client.get_what("42[").await.contains("job:updated"));
    }
    // One that is gone before it said anything.
    drop(upgrade(&client.sid).await.unwrap());
    append(store, job, 1).await;
    assert!(client.get_what("42[").await.contains("job:updated"));
    assert_eq!(server.clients(), 1);
    match upgrade("AAAAAAAAAAAAAAAA").await {
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 400),
        other => panic!("an unknown session: {other:?}"),
    }
}
