//! The raw WebSocket door, whatever dialect is behind it: who is let in, what a client may do, and how it is sent away.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use jobcast::{
    event::{Event, JobType, LabelFailed},
    job::{Command, JobId},
    store::{Change, NewJob, Store},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};
use uuid::Uuid;

use crate::{
    support::{Running, milliseconds, quiet_config, soon, wait_for},
    transcripts::connect,
};

type Socket = WebSocketStream<TcpStream>;

async fn job(store: &Store) -> JobId {
    let new = NewJob::unplanned(JobId(Uuid::now_v7()), JobType::Automation, "test");
    let id = new.id;
    store.create(new).await.unwrap();
    id
}

/// What is told next; the code if the connection is closed.
async fn next(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match soon("a message", socket.next()).await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(1006),
        }
    }
}

async fn end(socket: &mut Socket) -> u16 {
    loop {
        if let Err(code) = next(socket).await {
            return code;
        }
    }
}

fn warning(text: &str) -> Event {
    LabelFailed { error: text.to_owned(), article_number: None }.into()
}

/// What a page's own WebSocket is told, a line each, and how it ends: JavaScript's, as Node has it.
const PAGE: &str = r#"
const socket = new WebSocket(process.argv[1]);
socket.onmessage = (event) => console.log(event.data);
socket.onclose = ({ code, wasClean }) => console.log(JSON.stringify({ code, wasClean }));
"#;

#[tokio::test]
async fn a_pages_own_websocket_hears_all_and_is_closed_cleanly() {
    let server = Running::quiet().await;
    let id = job(server.store()).await;
    let mut url = server.url(&format!("/v1/jobs/{id}/socket"));
    url.set_scheme("ws").unwrap();
    let mut page = tokio::process::Command::new("node")
        .args(["--experimental-websocket", "--no-warnings", "-e", PAGE, url.as_str()])
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(page.stdout.take().unwrap()).lines();
    let mut next = async || -> Value {
        let line = soon("a line of the page", lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next().await, json!({ "seq": 1, "status": "pending" }));
    server.store().append(id, vec![warning("über")]).await.unwrap();
    assert_eq!(next().await["data"]["error"], "über");
    server.store().cancel(id).await.unwrap();
    assert_eq!(next().await["event"], "job:failed");
    assert_eq!(next().await, json!({ "code": 1000, "wasClean": true }));
    server.stop().await;
}

/// The status with which an upgrade is refused.
async fn refused(server: &Running, path: &str, origin: Option<&str>) -> Option<u16> {
    let mut url = server.url(path);
    url.set_scheme("ws").unwrap();
    let mut request = url.as_str().into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(&*server.base.socket_addrs(|| None).unwrap()).await.unwrap();
    match soon("the upgrade", client_async(request, stream)).await {
        Ok(_) => None,
        Err(Error::Http(response)) => Some(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_raw_socket_is_for_pages_that_may_call_and_for_so_many_at_once() {
    let mut settings = quiet_config();
    settings.realtime.max_raw_sockets = 2;
    let server = Running::start(settings).await;
    let path = format!("/v1/jobs/{}/socket", job(server.store()).await);
    let own = server.base.origin().ascii_serialization();
    for origin in [None, Some("http://localhost:5173"), Some(&*own)] {
        assert_eq!(refused(&server, &path, origin).await, None, "{origin:?}");
        wait_for("the client to be gone", async || (server.raw_sockets() == 0).then_some(())).await;
    }
    for origin in ["https://evil.example", "http://localhost.evil.example", "null"] {
        assert_eq!(refused(&server, &path, Some(origin)).await, Some(403), "{origin}");
    }
    let (status, body) = server.get(&path).await;
    assert!((400..500).contains(&status) && body["detail"].is_string(), "{status} {body}");

    let mut open = vec![connect(&server, &path).await, connect(&server, &path).await];
    assert_eq!(refused(&server, &path, None).await, Some(503));
    open.pop();
    wait_for("a place", async || (server.raw_sockets() == 1).then_some(())).await;
    assert_eq!(refused(&server, &path, None).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_too_much_is_sent_away() {
    let server = Running::quiet().await;
    let path = format!("/v1/jobs/{}/socket", job(server.store()).await);
    let mut large = connect(&server, &path).await;
    large.send(Message::text("x".repeat(5000))).await.unwrap();
    assert_eq!(end(&mut large).await, 1009);
    let mut fast = connect(&server, &path).await;
    for _ in 0..100 {
        // It may be closed while it still speaks.
        let _ = fast.send(Message::text("x")).await;
    }
    assert_eq!(end(&mut fast).await, 1008);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_no_sign_of_life_is_dropped_and_one_that_only_answers_pings_stays() {
    let mut settings = quiet_config();
    settings.realtime.ping_interval = Duration::from_millis(50);
    settings.realtime.ping_timeout = Duration::from_millis(200);
    let server = Running::start(settings).await;
    let id = job(server.store()).await;
    let path = format!("/v1/jobs/{id}/socket");
    let _dead = connect(&server, &path).await;
    let mut silent = connect(&server, &path).await;
    let reader = tokio::spawn(async move { end(&mut silent).await });
    // The one that nobody reads cannot answer.
    wait_for("the dead one to be dropped", async || (server.raw_sockets() == 1).then_some(())).await;
    server.store().cancel(id).await.unwrap();
    assert_eq!(soon("the end", reader).await.unwrap(), 1000);
    server.stop().await;
}

#[tokio::test]
async fn many_tabs_are_told_the_same_and_a_stop_sends_all_away_to_come_back() {
    let server = Running::quiet().await;
    let id = job(server.store()).await;
    let path = format!("/v1/jobs/{id}/socket");
    let mut tabs = join_all((0..200).map(|_| connect(&server, &path))).await;
    for tab in &mut tabs {
        assert_eq!(next(tab).await, Ok(json!({ "seq": 1, "status": "pending" })));
    }
    let readers = tabs.into_iter().map(|mut tab| {
        tokio::spawn(async move {
            let mut heard = Vec::new();
            for n in 0..20 {
                let told = next(&mut tab).await.unwrap();
                heard.push(Instant::now());
                assert_eq!((&told["seq"], &told["data"]["error"]), (&json!(n + 2), &json!(n.to_string())));
            }
            (tab, heard)
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut said = Vec::new();
    for n in 0..20 {
        said.push(Instant::now());
        server.store().append(id, vec![warning(&n.to_string())]).await.unwrap();
    }
    let mut tabs = Vec::new();
    let mut waits = Vec::new();
    for reader in readers {
        let (tab, heard) = soon("all events", reader).await.unwrap();
        waits.extend(said.iter().zip(heard).map(|(said, heard)| heard - *said));
        tabs.push(tab);
    }
    eprintln!("200 raw sockets, from the append to the client: {}", milliseconds(waits));
    let stop = tokio::spawn(server.stop());
    for tab in &mut tabs {
        assert_eq!(end(tab).await, 1012);
    }
    soon("the stop", stop).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_away_and_costs_the_others_nothing() {
    let mut settings = quiet_config();
    settings.realtime.max_buffered_bytes = 20_000;
    settings.realtime.stall_timeout = Duration::from_millis(500);
    let server = Running::start(settings).await;
    let id = job(server.store()).await;
    let mut url = server.url(&format!("/v1/jobs/{id}/socket"));
    url.set_scheme("ws").unwrap();
    let stuck = server.connect_with_room_for(2048).await;
    let (_stuck, _) = client_async(url.as_str(), stuck).await.unwrap();
    let mut other = connect(&server, url.path()).await;
    next(&mut other).await.unwrap();
    let text = "x".repeat(10_000);
    // The kernel holds some for the one that does not read.
    let mut told = 0;
    while server.raw_sockets() == 2 {
        server.store().append(id, vec![warning(&text)]).await.unwrap();
        next(&mut other).await.unwrap();
        told += 1;
        assert!(told < 2_000, "it is never sent away");
    }
    server.store().cancel(id).await.unwrap();
    assert!(next(&mut other).await.is_ok());
    assert_eq!(end(&mut other).await, 1000);
    server.stop().await;
}

#[tokio::test]
async fn hundreds_of_opens_a_second_are_served_from_what_is_kept() {
    let server = Running::quiet().await;
    let id = job(server.store()).await;
    let path = format!("/v1/jobs/{id}/socket");
    let started = std::time::Instant::now();
    for _ in 0..10 {
        let opens = (0..50).map(async |_| {
            let mut socket = connect(&server, &path).await;
            assert_eq!(next(&mut socket).await.unwrap()["seq"], 1);
            // Gone without a word, as pages are.
        });
        join_all(opens).await;
    }
    eprintln!("500 opens in {:?}", started.elapsed());
    wait_for("all to be gone", async || (server.raw_sockets() == 0).then_some(())).await;
    // The topic is kept up meanwhile, and a client that comes now is told of it.
    let run = Change { commands: vec![Command::Run], ..Change::default() };
    server.store().change(id, None, run).await.unwrap();
    let mut late = connect(&server, &path).await;
    wait_for("the kept topic to follow its job", async || {
        let mut socket = connect(&server, &path).await;
        (next(&mut socket).await.unwrap()["status"] == "running").then_some(())
    })
    .await;
    next(&mut late).await.unwrap();
    let complete =
        Change { commands: vec![Command::Complete], results: Some(json!({})), ..Change::default() };
    server.store().change(id, None, complete).await.unwrap();
    assert_eq!(end(&mut late).await, 1000);
    server.stop().await;
}
