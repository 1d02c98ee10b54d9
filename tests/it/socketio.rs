//! The Socket.IO door under crowds, strangers and slow readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jobcast::{
    event::{Event, JobUpdated},
    job::JobId,
    store::Store,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    raw_client::{RawClient, Told},
    support::{Running, milliseconds, planned_job, quiet_config, soon, wait_for},
};

/// Clients of a crowd.
const CROWD: usize = 1000;

fn update(message: impl Into<String>) -> Event {
    let message = Some(message.into());
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message }.into()
}

/// Appends as fast as the store takes it.
async fn burst(store: &Store, job: JobId, events: usize, message: &str) {
    for _ in 0..events / 100 {
        store.append(job, vec![update(message); 100]).await.unwrap();
    }
}

/// Reads events up to a position, which must follow each other without a gap, and returns the first position.
async fn contiguous_up_to(client: &mut RawClient, last: i64) -> i64 {
    let first = client.next_journaled().await.position();
    for expected in first + 1..=last {
        assert_eq!(client.next_journaled().await.position(), expected);
    }
    first
}

/// Both ends of a crowd's connections are in this process.
fn allow_open_files(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit)
            .unwrap_or_else(|error| panic!("this test opens {wanted} files ({error}); raise `ulimit -n`"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_subscribes_while_events_flow_misses_none() {
    const EVENTS: i64 = 60;
    allow_open_files(2 * CROWD as u64 + 200);
    let server = Running::quiet().await;
    // The only job, so its events have the positions from 1 on.
    let job = planned_job(server.store()).await;
    let (begun, subscribed) = (Arc::new(AtomicI64::new(1)), watch::Sender::new(0));
    let started = Instant::now();
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let (base, begun, subscribed) = (server.base.clone(), begun.clone(), subscribed.clone());
            tokio::spawn(async move {
                let mut client = RawClient::connect(&base).await;
                let begun = begun.load(Ordering::SeqCst);
                let answer = client.subscribe(job).await;
                assert_eq!(answer["ok"], true, "{answer}");
                subscribed.send_modify(|count| *count += 1);
                let first = contiguous_up_to(&mut client, 1 + EVENTS).await;
                assert!(first <= answer["seq"].as_i64().unwrap() + 1, "nothing lost behind the answer");
                assert!(first <= begun + 1, "nothing lost since it connected");
                client
            })
        })
        .collect();
    // The events are spread over the storm; the last comes when everybody is there.
    let mut seen = subscribed.subscribe();
    for n in 1..=EVENTS {
        let due = CROWD * n as usize / EVENTS as usize;
        soon("the crowd", seen.wait_for(|count| *count >= due)).await.unwrap();
        begun.fetch_add(1, Ordering::SeqCst);
        server.store().append(job, vec![update(format!("event {n}"))]).await.unwrap();
        if due == CROWD {
            println!("{CROWD} clients connected and subscribed in {:?}", started.elapsed());
        }
    }
    let mut clients = Vec::new();
    for client in crowd {
        clients.push(client.await.unwrap());
    }
    assert_eq!(server.clients(), CROWD);
    // They vanish without a word.
    drop(clients);
    wait_for("an empty hub", async || (server.clients() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_socket_are_handled_in_order() {
    let server = Running::quiet().await;
    let store = server.store();
    let other = planned_job(store).await;
    let mut client = RawClient::connect(&server.base).await;
    client.subscribe(other).await;
    for ends_inside in [false, true] {
        let job = planned_job(store).await;
        assert_eq!(client.next_journaled().await.position(), store.position().await.unwrap());
        let mut messages =
            [json!(["job:unsubscribe", job.to_string()]), json!(["job:subscribe", job.to_string()])];
        if !ends_inside {
            messages.reverse();
        }
        for _ in 0..10 {
            // As many at once as may wait.
            let mut asked = Vec::new();
            for _ in 0..25 {
                asked.push(client.ask(&messages[0]).await);
                asked.push(client.ask(&messages[1]).await);
            }
            for expected in asked {
                let Some(Told::Ack { id, answer }) = client.next().await else { panic!("acks alone") };
                assert_eq!((id, &answer["ok"]), (expected, &json!(true)), "{answer}");
            }
        }
        let of_job = store.append(job, vec![update("one")]).await.unwrap();
        let of_other = store.append(other, vec![update("two")]).await.unwrap();
        for expected in of_job.iter().filter(|_| ends_inside).chain(&of_other) {
            assert_eq!(client.next_journaled().await.position(), expected.position);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_lost_among_the_events_that_it_brings() {
    let mut config = quiet_config();
    config.realtime.max_buffered_packets = 16;
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    burst(server.store(), job, 2000, "past").await;
    let mut client = RawClient::connect(&server.base).await;
    let asked = [
        client.ask(&json!(["job:subscribe", job.to_string(), { "after": 0 }])).await,
        client.ask(&json!(["job:subscribe", "nonsense"])).await,
        client.ask(&json!(["ping"])).await,
    ];
    client.send(r#"42["job:subscribe","nonsense"]"#).await;
    let (mut answered, mut notified, mut events) = (Vec::new(), Vec::new(), 0);
    while events < 2001 || answered.len() < asked.len() || notified.len() < 2 {
        match client.next().await.expect("the connection stays") {
            Told::Ack { id, .. } => answered.push(id),
            Told::Event { name, mut arguments } if name == "system:notification" => {
                notified.push(arguments[0]["type"].take());
            }
            event => {
                events += 1;
                assert_eq!(event.position(), events);
            }
        }
    }
    assert_eq!(answered, asked);
    assert_eq!(notified, ["info", "error"]);
}

/// Frames that no client of ours sends, each with whether the connection may survive it.
fn garbage(job: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut wrong: Vec<String> = Vec::new();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let ids = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!([]),
        json!([[job]]),
        json!({ "id": job }),
        json!(""),
        json!("x".repeat(500_000)),
        json!("\0"),
        json!("\u{1f3f7}".repeat(9)),
        json!(job.to_uppercase() + "0"),
        json!(job.replace('-', "")),
        json!("' OR 1=1 --"),
    ];
    for event in
        ["job:subscribe", "job:unsubscribe", "automation:subscribe", "automation:unsubscribe", "ping"]
    {
        wrong.push(format!("42{}", json!([event])));
        for id in &ids {
            wrong.push(format!("42{}", json!([event, id])));
            wrong.push(format!("427{}", json!([event, id, id, id, id, id, id])));
        }
        for after in
            [json!(-1), json!("5"), json!(1.5), json!(u64::MAX), json!(i64::MAX), json!({}), json!([0])]
        {
            wrong.push(format!("42{}", json!([event, job, { "after": after }])));
        }
        wrong.push(format!(r#"42["{event}",{deep}]"#));
        wrong.push(format!(r#"42["{event}","{job}",{{"after":{deep}}}]"#));
        // Attachments: none sent, more announced than anybody has.
        wrong.push(format!(r#"450-["{event}",{{"_placeholder":true,"num":0}}]"#));
    }
    let huge = format!(r#"42["job:subscribe","{}"]"#, "x".repeat(980_000));
    let text = |frames: &[&str]| frames.iter().map(|frame| (*frame).to_owned()).collect::<Vec<_>>();
    vec![
        ("wrong arguments", wrong),
        ("a message as large as may be", vec![huge]),
        (
            "unknown events",
            text(&[
                r#"42["job:created",{}]"#,
                r#"42["connect"]"#,
                r#"42["disconnect"]"#,
                r#"42["__proto__",{}]"#,
                r#"42[""]"#,
            ]),
        ),
        ("events without a name", text(&["42[]", "42[5]", "42[null,1]", "42{}", "42", "42[", "42\"x\""])),
        ("acknowledgements nobody asked for", text(&["43[]", "430[1]", "4399999999999[1]"])),
        (
            "numbers that are none",
            text(&[
                "4299999999999999999999999[\"ping\"]",
                "42-1[\"ping\"]",
                "451-[]",
                "4518446744073709551615-[\"ping\"]",
            ]),
        ),
        (
            "other namespaces",
            text(&["40/admin,", "42/admin,[\"ping\"]", "41/admin,", &format!("40/{},", "n".repeat(100_000))]),
        ),
        ("a second CONNECT", text(&["40", "40{\"token\":1}", "40[["])),
        (
            "Engine.IO words",
            text(&[
                "0",
                "1",
                "2",
                "3",
                "5",
                "6",
                "2probe",
                "3probe",
                "7",
                "x",
                "\u{1f3f7}",
                "",
                "4",
                "b4aGk=",
            ]),
        ),
        ("a message that is too large", vec![format!(r#"42["ping","{}"]"#, "x".repeat(1_100_000))]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_stranger_sends_the_others_are_served_on() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    let mut other = RawClient::connect(&server.base).await;
    other.subscribe(job).await;
    let is_served = async |other: &mut RawClient, what: &str| {
        let appended = server.store().append(job, vec![update(what)]).await.unwrap();
        assert_eq!(other.next_journaled().await.position(), appended[0].position, "after {what}");
    };
    let mut strangers = Vec::new();
    for (what, frames) in garbage(&job.to_string()) {
        let mut stranger = RawClient::connect(&server.base).await;
        for frame in frames {
            stranger.send(frame).await;
        }
        is_served(&mut other, what).await;
        strangers.push(stranger);
    }
    for bytes in [&b""[..], b"\0", b"\x04[\"ping\"]", &[0xff; 70_000]] {
        let mut stranger = RawClient::connect(&server.base).await;
        // As an attachment that nobody announced, and as one that somebody did.
        stranger.send_binary(bytes).await;
        stranger.send(r#"451-["job:subscribe",{"_placeholder":true,"num":0}]"#).await;
        stranger.send_binary(bytes).await;
        is_served(&mut other, "binary frames").await;
        strangers.push(stranger);
    }
    // Whoever was not thrown out still gets answers; each has gone from the hub otherwise.
    let mut left = 0;
    for mut stranger in strangers {
        stranger.send(r#"4212345["job:unsubscribe","nonsense"]"#).await;
        loop {
            match stranger.next().await {
                Some(Told::Ack { id: 12345, answer }) => {
                    assert_eq!(answer["error"]["code"], "malformed_id");
                    left += 1;
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
    }
    assert!(left > 0, "wrong arguments are no reason to be thrown out");
    wait_for("only the other to be left", async || (server.clients() == 1).then_some(())).await;
    is_served(&mut other, "all of it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_each_answered() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    let mut client = RawClient::connect(&server.base).await;
    let id = job.to_string();
    for (message, code) in [
        (json!(["job:subscribe"]), "malformed_id"),
        (json!(["job:subscribe", 5]), "malformed_id"),
        (json!(["job:subscribe", null]), "malformed_id"),
        (json!(["job:subscribe", { "id": id }]), "malformed_id"),
        (json!(["job:subscribe", [id]]), "malformed_id"),
        (json!(["job:subscribe", "x".repeat(900_000)]), "malformed_id"),
        (json!(["automation:subscribe", Uuid::now_v7().to_string()]), "job_not_found"),
        (json!(["automation:unsubscribe", 5]), "malformed_id"),
        (json!(["job:subscribe", id, { "after": "5" }]), "invalid_request"),
        (json!(["job:subscribe", id, { "after": 1e300 }]), "invalid_request"),
        (json!(["job:subscribe", id, { "after": -1 }]), "invalid_request"),
    ] {
        let answer = client.call(message).await;
        assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!(code)), "{answer}");
        assert!(
            answer["error"]["message"].as_str().unwrap().len() < 300,
            "a stranger's text is not sent back"
        );
    }
    // Too deep to be read, and still no reason to go.
    let deep = format!(r#"{}{}"#, "[".repeat(5000), "]".repeat(5000));
    client.send(format!(r#"42["job:subscribe",{deep}]"#)).await;
    let Some(Told::Event { name, arguments }) = client.next().await else { panic!("a notification") };
    assert_eq!((&*name, &arguments[0]["details"]["code"]), ("system:notification", &json!("malformed_id")));
    assert_eq!(client.subscribe(job).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_is_refused_and_harms_nobody() {
    const FLOOD: usize = 10_000;
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    let (mut flooder, mut other) =
        (RawClient::connect(&server.base).await, RawClient::connect(&server.base).await);
    other.subscribe(job).await;
    let message = json!(["job:subscribe", job.to_string()]);
    let flood = async {
        let (mut handled, mut refused) = (0, 0);
        while handled + refused < FLOOD {
            // More than may wait at once; each is answered in one way or the other.
            for _ in 0..200 {
                flooder.ask(&message).await;
            }
            let mut unanswered = 200;
            while unanswered > 0 {
                let Some(told) = flooder.next().await else { panic!("the connection stays") };
                let Told::Ack { answer, .. } = told else { continue };
                unanswered -= 1;
                if answer["ok"] == true {
                    handled += 1;
                } else {
                    assert_eq!(answer["error"]["code"], "too_many");
                    refused += 1;
                }
            }
        }
        (handled, refused)
    };
    let events = async {
        for n in 0..100 {
            server.store().append(job, vec![update(format!("event {n}"))]).await.unwrap();
        }
        contiguous_up_to(&mut other, 101).await
    };
    let ((handled, refused), first) = tokio::join!(flood, events);
    assert_eq!(first, 2);
    assert!(handled > 0 && refused > 0, "{handled} handled, {refused} refused");
    assert_eq!(server.clients(), 2);
    // And one that never reads, and asks for more each time.
    let message = json!(["job:subscribe", job.to_string(), { "after": 0 }]);
    for _ in 0..FLOOD {
        flooder.ask(&message).await;
    }
    server.store().append(job, vec![update("on it goes")]).await.unwrap();
    assert_eq!(other.next_journaled().await.position(), 102);
    drop(flooder);
    wait_for("the flooder to be gone", async || (server.clients() == 1).then_some(())).await;
}

/// Bytes of memory that this process holds.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_get_everything_and_neither_delay_others_nor_fill_the_memory() {
    const EVENTS: usize = 20_000;
    const SLOW: usize = 6;
    let mut config = quiet_config();
    config.realtime.recent_events = 1000;
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    let message = "x".repeat(600);
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let stream = server.connect_with_room_for(32 * 1024).await;
        let mut client = RawClient::connect_over(stream, &server.base).await;
        client.subscribe(job).await;
        slow.push(client);
    }
    let mut fast = RawClient::connect(&server.base).await;
    fast.subscribe(job).await;
    let before = resident();
    let last = EVENTS as i64 + 1;
    let (first, ()) =
        tokio::join!(contiguous_up_to(&mut fast, last), burst(server.store(), job, EVENTS, &message));
    assert_eq!(first, 2, "the fast one has everything before the slow ones read at all");
    let grown = resident().saturating_sub(before);
    let unbounded = EVENTS * SLOW * message.len();
    println!(
        "memory grew by {} MB for {SLOW} slow readers ({} MB were told to them)",
        grown >> 20,
        unbounded >> 20
    );
    assert!(grown < unbounded / 2, "memory grew by {} MB", grown >> 20);
    let read = slow.iter_mut().map(|client| contiguous_up_to(client, last));
    assert_eq!(futures_util::future::join_all(read).await, [2; SLOW]);
    // And they are live again.
    server.store().append(job, vec![update("live")]).await.unwrap();
    for client in slow.iter_mut().chain([&mut fast]) {
        assert_eq!(client.next_journaled().await.position(), last + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_stuck_for_good_is_let_go() {
    let mut config = quiet_config();
    config.realtime.ping_interval = Duration::from_millis(300);
    config.realtime.ping_timeout = Duration::from_millis(300);
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    let stream = server.connect_with_room_for(4 * 1024).await;
    let mut stuck = RawClient::connect_over(stream, &server.base).await;
    stuck.subscribe(job).await;
    burst(server.store(), job, 20_000, &"x".repeat(600)).await;
    // It neither reads nor closes.
    wait_for("the stuck reader to be gone", async || (server.clients() == 0).then_some(())).await;
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone with a release build and --nocapture"]
async fn measure_commit_to_client() {
    allow_open_files(2 * CROWD as u64 + 200);
    for subscribers in [1, CROWD] {
        let server = Running::quiet().await;
        let job = planned_job(server.store()).await;
        let started = Instant::now();
        let mut clients = Vec::new();
        for chunk in (0..subscribers).collect::<Vec<_>>().chunks(100) {
            clients.extend(
                futures_util::future::join_all(chunk.iter().map(async |_| {
                    let mut client = RawClient::connect(&server.base).await;
                    client.subscribe(job).await;
                    client
                }))
                .await,
            );
        }
        println!("{subscribers} subscribers came in {:?}", started.elapsed());
        let events = if subscribers == 1 { 2000 } else { 100 };
        let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        for mut client in clients {
            let arrived = arrived.clone();
            tokio::spawn(async move {
                for _ in 0..events {
                    client.next_journaled().await;
                    arrived.send(Instant::now()).unwrap();
                }
            });
        }
        let (mut from_call, mut from_commit) = (Vec::new(), Vec::new());
        for _ in 0..events {
            let called = Instant::now();
            server.store().append(job, vec![update("measured")]).await.unwrap();
            let committed = Instant::now();
            for _ in 0..subscribers {
                let arrived = soon("an arrival", arrivals.recv()).await.unwrap();
                from_call.push(arrived - called);
                from_commit.push(arrived.saturating_duration_since(committed));
            }
        }
        println!("{subscribers} subscribers, append called to arrival: {}", milliseconds(from_call));
        println!("{subscribers} subscribers, append answered to arrival: {}", milliseconds(from_commit));
    }
}
