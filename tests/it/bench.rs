//! The bench is believed only because it can fail: it is shown servers that lose, repeat and mix up events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::Response,
    routing::{get, post},
};
use jobcast::{
    app::bench::{
        client::{Cuts, Orders, Protocol},
        control::{Burst, Published, Room},
        crowd::{Crowd, RUSH},
        progress::Progress,
        scenarios::fanout,
        servers::Server,
        tally::{Counts, Tally},
        wire::{self, Mark},
    },
    job::JobId,
};
use serde_json::Value;
use tokio::sync::{Mutex, broadcast, mpsc};
use url::Url;
use uuid::Uuid;

use crate::support::{PATIENCE, address, database, folder, soon};

/// What a client, by its number, is sent for one event.
type Habit = fn(client: usize, n: u32) -> Vec<u32>;

/// A Socket.IO server with the control routes that sends what its habit says.
#[derive(Clone)]
struct Fake {
    habit: Habit,
    clients: Arc<AtomicUsize>,
    events: broadcast::Sender<u32>,
    /// What clients said, in order.
    heard: mpsc::Sender<String>,
    said: Arc<Mutex<mpsc::Receiver<String>>>,
}

impl Fake {
    async fn start(habit: Habit) -> (Fake, Url) {
        let (heard, said) = mpsc::channel(1000);
        let fake = Fake {
            habit,
            clients: Arc::default(),
            events: broadcast::Sender::new(1000),
            heard,
            said: Arc::new(Mutex::new(said)),
        };
        let router = Router::new()
            .route("/socket.io/", get(door))
            .route("/bench/rooms", post(|| async { Json(Room { room: Uuid::nil().to_string() }) }))
            .route("/bench/publish", post(publish))
            .with_state(fake.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (fake, url)
    }

    async fn next_said(&self) -> String {
        soon("a client to speak", async { self.said.lock().await.recv().await }).await.unwrap()
    }

    /// Speaks Socket.IO with the pid that every client gets, and with the event's number as its offset.
    async fn serve(self, mut socket: WebSocket) {
        let client = self.clients.fetch_add(1, Ordering::SeqCst);
        let mut events = self.events.subscribe();
        let opening = r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        let mut answer = Some(opening.to_owned());
        loop {
            if let Some(text) = answer.take()
                && socket.send(Message::Text(text.into())).await.is_err()
            {
                return;
            }
            tokio::select! {
                heard = socket.recv() => {
                    let Some(Ok(Message::Text(text))) = heard else { return };
                    let _ = self.heard.try_send(text.to_string());
                    answer = match &text[..2] {
                        "40" => Some(r#"40{"sid":"b","pid":"p"}"#.into()),
                        "42" => Some(r#"430[{"ok":true}]"#.into()),
                        _ => None,
                    };
                }
                Ok(n) = events.recv() => for n in (self.habit)(client, n) {
                    let event = wire::event(Mark { n, t: wire::now() }, 80);
                    let payload = event.encode(Some(JobId(Uuid::nil())), chrono::Utc::now());
                    let text = format!(r#"42["{}",{payload},"o{n}"]"#, event.name());
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        return;
                    }
                },
            }
        }
    }
}

async fn door(State(fake): State<Fake>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| fake.serve(socket))
}

async fn publish(State(fake): State<Fake>, Json(burst): Json<Burst>) -> Json<Published> {
    for n in burst.from..burst.from + burst.count {
        let _ = fake.events.send(n);
    }
    Json(Published { committed: wire::now() })
}

async fn fan_out(habit: Habit) -> fanout::Outcome {
    let (_, url) = Fake::start(habit).await;
    let server = Server::attach(url, Protocol::SocketIo, None).unwrap();
    let args = fanout::Args { clients: 6, bursts: 2, burst: 10, rate: 50, seconds: 1, bytes: 80 };
    fanout::run(&server, args).await.unwrap()
}

#[tokio::test]
async fn a_faithful_server_is_found_faithful() {
    let outcome = fan_out(|_, n| vec![n]).await;
    for (part, expected) in [(outcome.bursts, 120), (outcome.paced, 300)] {
        let delivery = part.delivery;
        assert_eq!((delivery.expected, delivery.delivered, delivery.lost), (expected, expected, 0));
        assert_eq!((delivery.repeated, delivery.unordered), (0, 0));
        assert!(part.cpu.is_none(), "nobody said which process it is");
    }
}

#[tokio::test]
async fn a_server_that_loses_repeats_or_mixes_up_events_is_found_out() {
    let outcome = fan_out(|client, n| match (client, n) {
        (0, 3 | 4) => vec![],
        (1, 5) => vec![5, 5],
        (2, 6) => vec![],
        (2, 7) => vec![7, 6],
        // Nobody published this one.
        (3, 8) => vec![8, 100_000],
        // In the paced part.
        (4, 30) => vec![],
        _ => vec![n],
    })
    .await;
    let (bursts, paced) = (outcome.bursts.delivery, outcome.paced.delivery);
    assert_eq!((bursts.delivered, bursts.lost, bursts.repeated, bursts.unordered), (118, 2, 2, 1));
    assert_eq!((paced.delivered, paced.lost, paced.repeated, paced.unordered), (299, 1, 0, 0));
}

#[tokio::test]
async fn a_client_comes_back_with_its_session_and_joins_again() {
    let (fake, url) = Fake::start(|_, n| vec![n]).await;
    let server = Server::attach(url, Protocol::SocketIo, None).unwrap();
    let plan = server.plan(Uuid::nil());
    let orders = Orders { join: true, cuts: None };
    let crowd = Crowd::gather(plan, 1, Tally::new(10, false), RUSH, orders);
    let progress = Progress::new("test");
    let patience = Duration::from_secs(60);
    assert_eq!(fake.next_said().await, "40");
    let subscription = format!(r#"420["job:subscribe","{}"]"#, Uuid::nil());
    assert_eq!(fake.next_said().await, subscription);
    crowd.all_inside(patience, &progress).await.expect("it is in its room");
    fake.events.send(7).unwrap();
    crowd.all_delivered(1, patience, &progress).await;

    crowd.cut(Some(Cuts { every: Duration::ZERO, offline: Duration::ZERO }));
    assert_eq!(fake.next_said().await, r#"40{"pid":"p","offset":"o7"}"#);
    crowd.cut(None);
    // A cut may have come between; in the end it joins as a stock page does, recovered or not.
    while fake.next_said().await != subscription {}
    crowd.all_inside(patience, &progress).await.expect("it is back");
    assert!(crowd.recovered() >= 1 && crowd.ended() >= 1);
    let delivery = crowd.tally().delivery(Counts::default(), 1);
    assert_eq!((delivery.lost, delivery.repeated), (0, 0));
}

#[tokio::test]
async fn jobcast_is_measured_killed_and_redeployed_and_the_table_written() {
    let folder = folder();
    let [readme, json] = ["README.md", "bench.json"].map(|name| folder.path().join(name));
    std::fs::write(&readme, "# House\n\n<!-- bench: written by `make bench` -->\nold\n<!-- /bench -->\n")
        .unwrap();
    let bench = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobcast"))
        .args(["bench", "compare", "--quick", "--servers", "jobcast"])
        .args(["--scenarios", "fanout,storm,jitter,redeploy,idle,append,latejoin"])
        .args(["--database-url", &address(&database().await)])
        .arg("--scratch")
        .arg(folder.path())
        .arg("--readme")
        .arg(&readme)
        .arg("--json")
        .arg(&json)
        .env_remove("DATABASE_URL")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE * 4, bench).await.expect("the bench ends by itself").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let reports: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let report = &reports[0];
    assert_eq!(report["failures"], Value::Array(vec![]), "{reports:#}");
    for part in ["bursts", "paced"] {
        let part = &report["fanout"][part];
        assert_eq!(part["delivery"]["lost"], 0, "{part:#}");
        assert_eq!(part["delivery"]["repeated"], 0, "{part:#}");
        assert!(part["cpu"]["own"].as_f64().unwrap() > 0.0, "{part:#}");
    }
    assert_eq!(report["storm"]["errors"], 0);
    for outage in ["jitter", "redeploy"] {
        let (outcome, delivery) = (&report[outage], &report[outage]["delivery"]);
        assert_eq!(outcome["missing"], 0, "{outcome:#}");
        let [expected, delivered, lost, repeated] =
            ["expected", "delivered", "lost", "repeated"].map(|name| delivery[name].as_u64().unwrap());
        assert!(expected > 0, "{outcome:#}");
        assert_eq!((delivered, lost, repeated), (expected, 0, 0), "{outcome:#}");
    }
    assert!(report["jitter"]["restart_seconds"].as_f64().unwrap() > 0.0);
    assert!(report["jitter"]["cuts"].as_u64().unwrap() >= 50, "the kill alone ends fifty connections");
    assert_eq!(report["redeploy"]["ended_by_itself"], true);
    assert!(report["append"]["appends_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(report["append"]["delivery"]["lost"], 0);
    for misses in ["lost", "repeated", "unordered"] {
        assert_eq!(report["latejoin"][misses], 0, "{:#}", report["latejoin"]);
    }

    let written = std::fs::read_to_string(&readme).unwrap();
    assert!(written.starts_with("# House\n") && !written.contains("old"), "{written}");
    assert!(written.contains("|  | Jobcast |") && written.contains("late join"), "{written}");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the servers' folders are gone: {left:?}");
}
