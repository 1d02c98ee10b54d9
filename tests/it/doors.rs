//! The doors to a job's events beside Socket.IO: pages, long-polls and event streams.

use std::{sync::Arc, time::Duration};

use jobcast::{
    app::client::Client,
    event::{Event, JobProgress, JobUpdated},
    job::{Command, JobId},
    store::{Change, Store},
};
use reqwest::{Response, header};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::{
    raw_client::position,
    support::{Running, planned_job, quiet_config, soon, wait_for},
};

/// Seq, name and payload, byte for byte.
type Told = (i32, String, String);

fn update(message: impl Into<String>) -> Event {
    let message = Some(message.into());
    JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message }.into()
}

fn is_last(told: &Told) -> bool {
    matches!(&*told.1, "job:completed" | "job:failed")
}

/// A page as `/v1` answers it.
#[derive(Deserialize)]
struct Page {
    events: Vec<Entry>,
    next: i32,
    status: String,
}

#[derive(Deserialize)]
struct Entry {
    seq: i32,
    position: String,
    event: String,
    data: Box<RawValue>,
}

async fn page(server: &Running, job: JobId, query: &str) -> Page {
    let url = server.url(&format!("/v1/jobs/{job}/events?{query}"));
    let response = server.http.get(url).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Pages until the job's last event; `wait` says how long the server may hold each.
async fn read_pages(server: Arc<Running>, job: JobId, wait: &str) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    let mut next = 0;
    while !told.last().is_some_and(is_last) {
        let page = page(&server, job, &format!("after={next}&limit=7&wait={wait}")).await;
        next = page.next;
        told.extend(page.events.into_iter().map(|e| (e.seq, e.event, e.data.get().to_owned())));
    }
    told
}

/// One message of an event stream.
#[derive(Debug, Default, PartialEq)]
struct Message {
    id: Option<i32>,
    event: String,
    data: String,
    retry: Option<u64>,
}

/// An event stream as it comes in.
struct EventStream {
    response: Response,
    unread: Vec<u8>,
}

impl EventStream {
    async fn open(server: &Running, job: JobId, query: &str, last_event_id: Option<i32>) -> EventStream {
        let response = ask_for_stream(server, &job.to_string(), query, last_event_id).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        EventStream { response, unread: Vec::new() }
    }

    /// The next message that is no comment; `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = take_message(&mut self.unread) {
                return Some(message);
            }
            match soon("a part of the stream", self.response.chunk()).await.unwrap() {
                Some(part) => self.unread.extend_from_slice(&part),
                None => {
                    assert!(self.unread.is_empty(), "the stream ended within a message");
                    return None;
                }
            }
        }
    }
}

/// Takes a whole message that is no comment off the front of what was read.
fn take_message(unread: &mut Vec<u8>) -> Option<Message> {
    loop {
        let end = unread.windows(2).position(|pair| pair == b"\n\n")? + 2;
        let text = String::from_utf8(unread.drain(..end).collect()).unwrap();
        let mut message = Message::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").unwrap();
            match field {
                "id" => message.id = Some(value.parse().unwrap()),
                "event" => message.event = value.to_owned(),
                "data" => message.data = value.to_owned(),
                "retry" => message.retry = Some(value.parse().unwrap()),
                other => panic!("no field of an event stream: {other}"),
            }
        }
        if message != Message::default() {
            return Some(message);
        }
    }
}

async fn ask_for_stream(
    server: &Running,
    job: &str,
    query: &str,
    last_event_id: Option<impl ToString>,
) -> Response {
    let url = server.url(&format!("/v1/jobs/{job}/events?{query}"));
    let mut request = server.http.get(url).header(header::ACCEPT, "text/event-stream");
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id.to_string());
    }
    request.send().await.unwrap()
}

/// A stream that is cut after every few events and goes on behind the last one, until the server says that it is over.
async fn read_stream(server: Arc<Running>, job: JobId, cut_after: usize) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    loop {
        let last_event_id = told.last().map(|last| last.0);
        let response = ask_for_stream(&server, &job.to_string(), "", last_event_id).await;
        if response.status().as_u16() == 204 {
            return told;
        }
        let mut stream = EventStream { response, unread: Vec::new() };
        assert_eq!(stream.next().await.unwrap().retry, Some(2000));
        let mut taken = 0;
        while taken < cut_after {
            let Some(message) = stream.next().await else { break };
            // Progress has no id and does not move the place from which a client resumes.
            if let Some(id) = message.id {
                told.push((id, message.event, message.data));
                taken += 1;
            }
        }
    }
}

/// The stock conversation over Socket.IO; what others' jobs broadcast is left out.
async fn read_socket(server: Arc<Running>, job: JobId) -> Vec<(i64, String, String)> {
    let mut client = Client::connect(&server.base.clone().into()).await.unwrap();
    client.emit("job:subscribe", &[json!(job), json!({ "after": 0 })]).await.unwrap();
    let mut told = Vec::new();
    loop {
        let event = soon("an event of the socket", client.next_event()).await.unwrap();
        let payload: serde_json::Value = serde_json::from_str(event.payload.get()).unwrap();
        let Some(offset) = event.offset.filter(|_| payload["jobId"] == json!(job)) else { continue };
        let ends = matches!(&*event.name, "job:completed" | "job:failed");
        told.push((position(&offset).parse().unwrap(), event.name, event.payload.get().to_owned()));
        if ends {
            return told;
        }
    }
}

/// Several writers to one job at once, each in its own way, and jobs that come and go beside it.
async fn write(store: &Store, job: JobId, rounds: usize) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..rounds {
                store.tell(job, progress(round as u8));
                if writer % 2 == 0 {
                    let events = (0..=round % 3).map(|n| update(format!("{writer}/{round}/{n}")));
                    store.append(job, events.collect()).await.unwrap();
                } else {
                    let commands = vec![Command::Note { what: format!("„{writer}/{round}“") }];
                    store.change(job, None, Change { commands, ..Change::default() }).await.unwrap();
                }
            }
        });
    }
    for _ in 0..2 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..rounds / 4 {
                let other = planned_job(&store).await;
                store.append(other, vec![update("another job's")]).await.unwrap();
                store.cancel(other).await.unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

fn progress(percent: u8) -> Event {
    JobProgress {
        progress: percent,
        current_step: "crawling".into(),
        current_step_progress: None,
        total_steps: None,
        message: None,
    }
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_tells_the_same_events_while_they_are_published() {
    let server = Arc::new(Running::quiet().await);
    let job = planned_job(server.store()).await;
    let socket = tokio::spawn(read_socket(server.clone(), job));
    let mut readers = tokio::task::JoinSet::new();
    for cut_after in [1, 5, 40, usize::MAX] {
        readers.spawn(read_stream(server.clone(), job, cut_after));
    }
    readers.spawn(read_pages(server.clone(), job, "30s"));
    readers.spawn(read_pages(server.clone(), job, "0s"));
    write(server.store(), job, 60).await;
    server.store().cancel(job).await.unwrap();

    let journal = server.store().events(job, 0, 10_000).await.unwrap();
    let expected: Vec<Told> =
        journal.iter().map(|e| (e.seq, e.kind.to_string(), e.payload.get().to_owned())).collect();
    // What was accepted, what the writers said in each of their ways, and the end.
    assert_eq!(expected.len(), 1 + 2 * 60 * 2 + 2 * 60 + 1);
    assert!(expected.iter().zip(1..).all(|(told, seq)| told.0 == seq));
    while let Some(told) = readers.join_next().await {
        assert_eq!(told.unwrap(), expected);
    }
    // A socket is told positions; those of the pages are the same.
    let positions: Vec<i64> = page(&server, job, "limit=500")
        .await
        .events
        .iter()
        .map(|entry| entry.position.parse().unwrap())
        .collect();
    let expected: Vec<_> =
        expected.into_iter().zip(positions).map(|((_, name, data), at)| (at, name, data)).collect();
    assert_eq!(socket.await.unwrap(), expected);
    wait_for("all readers to have left", async || (server.clients() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_stream_resumes_behind_the_header_then_behind_the_query_and_ends_for_good() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    server.store().append(job, vec![update("2"), update("3"), update("4")]).await.unwrap();
    for (query, header, first) in [("", None, 1), ("after=2", None, 3), ("after=1", Some(3), 4)] {
        let mut stream = EventStream::open(&server, job, query, header).await;
        assert_eq!(stream.next().await.unwrap().retry, Some(2000));
        assert_eq!(stream.next().await.unwrap().id, Some(first));
    }
    let mut live = EventStream::open(&server, job, "after=4", None).await;
    assert_eq!(live.next().await.unwrap().retry, Some(2000));
    server.store().tell(job, progress(7));
    let told = live.next().await.unwrap();
    assert_eq!((told.id, &*told.event), (None, "job:progress"));
    server.store().cancel(job).await.unwrap();
    let told = live.next().await.unwrap();
    assert_eq!((told.id, &*told.event), (Some(5), "job:failed"));
    assert_eq!(live.next().await, None);
    for (header, status) in [(None, 200), (Some("4"), 200), (Some("5"), 204), (Some("77"), 204)] {
        let answer = ask_for_stream(&server, &job.to_string(), "", header).await;
        assert_eq!(answer.status().as_u16(), status, "Last-Event-ID {header:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_answers_when_there_is_something_and_not_before() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    let seqs = |page: &Page| page.events.iter().map(|entry| entry.seq).collect::<Vec<i32>>();
    let there = page(&server, job, "after=0&wait=60s").await;
    assert_eq!((seqs(&there), there.next), (vec![1], 1));
    let nothing = page(&server, job, "after=1&wait=50ms").await;
    assert_eq!((seqs(&nothing), nothing.next, &*nothing.status), (vec![], 1, "pending"));

    let (told, ()) = tokio::join!(page(&server, job, "after=1&wait=60s"), async {
        wait_for("the long-poll", async || (server.clients() == 1).then_some(())).await;
        // Neither progress nor another job's event is an answer.
        server.store().tell(job, progress(5));
        planned_job(server.store()).await;
        assert_eq!(server.clients(), 1);
        server.store().append(job, vec![update("2")]).await.unwrap();
    });
    assert_eq!(seqs(&told), [2]);
    let (end, _) = tokio::join!(page(&server, job, "after=2&wait=60s"), server.store().cancel(job));
    assert_eq!((seqs(&end), &*end.status), (vec![3], "cancelled"));
    let over = page(&server, job, "after=3&wait=60s").await;
    assert_eq!((seqs(&over), &*over.status), (vec![], "cancelled"));
    wait_for("nobody to wait", async || (server.clients() == 0).then_some(())).await;
    server.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_with_what_to_say_instead() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await.to_string();
    let unknown = Uuid::now_v7().to_string();
    for (job, query, header, status, says) in [
        (&job, "after=-1", None, 400, "after must be from 0"),
        (&job, "after=one", None, 400, "after"),
        (&job, "after=99999999999", None, 400, "after"),
        (&job, "wait=soon", None, 400, "wait"),
        (&job, "wait=25", None, 400, "25s"),
        (&job, "wait=61s", None, 400, "at most 60s"),
        (&job, "limit=0", None, 400, "limit from 1"),
        (&job, "", Some("-1"), 400, "Last-Event-ID"),
        (&job, "", Some("1.5"), 400, "Last-Event-ID"),
        (&job, "after=1", Some("x"), 400, "Last-Event-ID"),
        (&unknown, "", None, 404, "There is no job"),
        (&unknown, "wait=1s", None, 404, "There is no job"),
    ] {
        let answer = ask_for_stream(&server, job, query, header).await;
        let (got, body) = crate::support::answer(answer).await;
        let message = body["error"]["message"].as_str().unwrap();
        assert!(got == status && message.contains(says), "{query} {header:?}: {got} {message}");
    }
    let (status, body) = server.get(&format!("/v1/jobs/{unknown}/events?wait=30s")).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("job_not_found")));
    assert_eq!(server.clients(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_all_of_it_from_the_journal() {
    // More than the sockets' buffers take, of which the server remembers next to nothing.
    const EVENTS: i32 = 6000;
    let mut config = quiet_config();
    config.realtime.recent_events = 16;
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    let mut socket = server.connect_with_room_for(8192).await;
    let request =
        format!("GET /v1/jobs/{job}/events HTTP/1.0\r\nHost: jobcast\r\nAccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    wait_for("the reader", async || (server.clients() == 1).then_some(())).await;
    // Meanwhile nobody else waits for it.
    for _ in 0..(EVENTS - 2) / 100 {
        server.store().append(job, vec![update("x".repeat(2000)); 100]).await.unwrap();
    }
    let rest = vec![update("the rest"); (EVENTS as usize - 2) % 100];
    server.store().append(job, rest).await.unwrap();
    server.store().cancel(job).await.unwrap();
    let live = page(&server, job, &format!("after={}", EVENTS - 1)).await;
    assert_eq!(live.events[0].event, "job:failed");
    assert_eq!(server.clients(), 1, "it is still being told");

    let mut text = Vec::new();
    soon("the whole stream", socket.read_to_end(&mut text)).await.unwrap();
    let head_end = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(text.starts_with(b"HTTP/1.0 200"));
    let mut unread = text.split_off(head_end);
    let mut ids = Vec::new();
    while let Some(message) = take_message(&mut unread) {
        ids.extend(message.id);
    }
    assert_eq!(ids, (1..=EVENTS).collect::<Vec<i32>>());
    wait_for("it to have left", async || (server.clients() == 0).then_some(())).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_long_polls_at_once() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    let mut stream = EventStream::open(&server, job, "", None).await;
    assert_eq!(stream.next().await.unwrap().retry, Some(2000));
    assert_eq!(stream.next().await.unwrap().id, Some(1));
    let url = server.url(&format!("/v1/jobs/{job}/events?after=1&wait=60s"));
    let waiting = tokio::spawn(server.http.get(url).send());
    wait_for("the long-poll", async || (server.clients() == 2).then_some(())).await;
    server.stop().await;
    assert_eq!(stream.next().await, None);
    let (status, body) = crate::support::answer(waiting.await.unwrap().unwrap()).await;
    assert_eq!((status, body), (200, json!({ "events": [], "next": 1, "status": "pending" })));
}

#[tokio::test]
async fn streams_beyond_the_limit_are_asked_to_come_back() {
    let mut config = quiet_config();
    config.realtime.max_streams = 1;
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    let stream = EventStream::open(&server, job, "", None).await;
    let refused = ask_for_stream(&server, &job.to_string(), "", None::<i32>).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]),
        (503, &"2".parse().unwrap())
    );
    let (status, body) = server.get(&format!("/v1/jobs/{job}/events?after=1&wait=60s")).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("unavailable")));
    // What needs no wait is answered.
    assert_eq!(page(&server, job, "wait=60s").await.next, 1);
    drop(stream);
    wait_for("its place", async || (server.clients() == 0).then_some(())).await;
    let again = wait_for("a place", async || {
        let answer = ask_for_stream(&server, &job.to_string(), "", None::<i32>).await;
        (answer.status().as_u16() == 200).then_some(answer)
    })
    .await;
    drop(again);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_outlives_the_timeout_of_requests_and_a_long_poll_stays_within_it() {
    let mut config = quiet_config();
    config.server.request_timeout = Duration::from_secs(2);
    let server = Running::start(config).await;
    let job = planned_job(server.store()).await;
    let mut stream = EventStream::open(&server, job, "after=1", None).await;
    assert_eq!(stream.next().await.unwrap().retry, Some(2000));
    let waited = page(&server, job, "after=1&wait=60s").await;
    assert_eq!(waited.next, 1, "an empty page, no failure");
    // By now the stream is older than the timeout allows a request to be.
    let waited = page(&server, job, "after=1&wait=60s").await;
    assert_eq!(waited.next, 1);
    server.store().append(job, vec![update("2")]).await.unwrap();
    assert_eq!(stream.next().await.unwrap().id, Some(2));
    server.stop().await;
}
