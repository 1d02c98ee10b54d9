//! Webhooks, told to a real receiver that verifies with the reference library of Standard Webhooks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    process::Stdio,
    time::Duration,
};

use axum::http::{HeaderMap, header::RETRY_AFTER};
use chrono::DateTime;
use jobcast::{config::Config, store::Verdict, webhooks::Attempt};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    contracts::programs,
    identity::{SECRET, call, of},
    numbers::Numbers,
    process::{Process, free_port},
    raw_client::{RawClient, Told},
    support::{Running, alone, answer, config, folder, soon, wait_for},
};

/// A program of somebody else that is told of events.
struct Receiver {
    base: String,
    port: u16,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    put_by: VecDeque<Got>,
    _node: Child,
}

/// What it got.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    name: String,
    body: Value,
    verified: bool,
    status: u64,
}

impl Got {
    fn position(&self) -> i64 {
        self.body["position"].as_str().unwrap().parse().unwrap()
    }
}

impl Receiver {
    async fn start() -> Receiver {
        Receiver::start_with("http", &[]).await
    }

    /// One whose certificate nobody trusts.
    async fn untrusted() -> Receiver {
        Receiver::start_with("https", &["untrusted.pem"]).await
    }

    async fn start_with(scheme: &str, files: &[&str]) -> Receiver {
        let mut node = Command::new("node")
            .arg(programs().join("receiver.mjs"))
            .args(files.iter().map(|file| programs().join(file)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = node.stdin.take().unwrap();
        let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
        let first = soon("the receiver", lines.next_line()).await.unwrap().unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        let port = first["port"].as_u64().unwrap() as u16;
        let base = format!("{scheme}://127.0.0.1:{port}");
        Receiver { base, port, stdin, lines, put_by: VecDeque::new(), _node: node }
    }

    fn url(&self) -> String {
        format!("{}/hook?key=k", self.base)
    }

    /// A server that may tell it, and does not wait before it tries again.
    fn config(&self) -> Config {
        let mut config = config();
        config.pipeline.enabled = false;
        config.auth.jwt_secret = SECRET.into();
        config.webhooks.allow_origins = vec![self.url().parse().unwrap()];
        config.webhooks.retry = vec![Duration::ZERO; 2];
        config.webhooks.poll_interval = Duration::from_millis(20);
        config
    }

    /// Tells it how to behave from now on.
    async fn order(&mut self, order: Value) {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        loop {
            match self.line().await {
                Some(got) => self.put_by.push_back(got),
                None => return,
            }
        }
    }

    /// What it got next; `None` for that it heard an order.
    async fn line(&mut self) -> Option<Got> {
        let line = soon("a message", self.lines.next_line()).await.unwrap().unwrap();
        let mut line: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (line["ready"] != true).then(|| Got {
            id: text(&line["id"]),
            name: text(&line["type"]),
            verified: line["verified"].as_bool().unwrap(),
            status: line["status"].as_u64().unwrap(),
            body: line["body"].take(),
        })
    }

    async fn next(&mut self) -> Got {
        match self.put_by.pop_front() {
            Some(got) => got,
            None => self.line().await.expect("a message"),
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Got> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await);
        }
        all
    }
}

/// A webhook of somebody: its path and secret.
async fn hook(server: &Running, who: Option<&str>, body: Value) -> (String, String) {
    let (status, made) = call(server, who, "POST", "/v1/webhooks", Some(&body)).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    (format!("/v1/webhooks/{}", made["id"].as_str().unwrap()), secret)
}

/// A job of somebody that has ended.
async fn job(server: &Running, who: Option<&str>) -> String {
    let (status, body) = call(server, who, "POST", "/api/test-websocket/run", None).await;
    assert_eq!(status, 200, "{body}");
    body["jobId"].as_str().unwrap().into()
}

/// A job's events as REST shows them, by their positions.
async fn journal(server: &Running, who: Option<&str>, job: &str) -> BTreeMap<i64, Value> {
    let (_, shown) = call(server, who, "GET", &format!("/v1/jobs/{job}/events"), None).await;
    let events = shown["events"].as_array().unwrap().iter();
    events.map(|event| (event["position"].as_str().unwrap().parse().unwrap(), event.clone())).collect()
}

/// Without signatures, which are made anew each time.
fn unsigned(data: &Value) -> Value {
    let mut data = data.clone();
    for field in data.as_object_mut().unwrap().values_mut() {
        if let Some(address) = field.as_str().filter(|text| text.starts_with("http")) {
            *field = json!(address.split('?').next());
        }
    }
    data
}

/// An answer with a `Retry-After`, as it was given at five o'clock.
fn answered(status: u16, retry_after: &str) -> Attempt {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
    let now = DateTime::parse_from_rfc3339("2026-01-06T05:00:00Z").unwrap().to_utc();
    Attempt::answered(status, &headers, now)
}

#[test]
fn what_fails_is_tried_by_the_schedule_or_when_its_receiver_wants_and_then_given_up() {
    let schedule = [Duration::from_secs(10), Duration::from_secs(1000)];
    let pause = |attempts, attempt: &Attempt| match attempt.verdict(attempts, &schedule) {
        Verdict::Again(pause) => Some(pause.as_secs()),
        Verdict::GivenUp => None,
        other => panic!("{other:?}"),
    };
    let failed = Attempt::failed("no answer");
    assert!((9..=11).contains(&pause(0, &failed).unwrap()));
    assert!((900..=1100).contains(&pause(1, &failed).unwrap()));
    assert_eq!(pause(2, &failed), None);
    assert!(matches!(answered(204, "1").verdict(5, &schedule), Verdict::Delivered));
    assert!(matches!(answered(410, "1").verdict(0, &schedule), Verdict::Gone));
    assert!(answered(302, "1").error.contains("redirects are not followed"));

    // A longer wait may be asked for, but not for ever.
    assert_eq!(pause(0, &answered(503, "120")), Some(120));
    assert_eq!(pause(0, &answered(429, "Tue, 06 Jan 2026 05:05:00 GMT")), Some(300));
    assert_eq!(pause(0, &answered(503, "99999999999")), Some(24 * 3600));
    for sooner in ["1", "soon", "Tue, 06 Jan 2026 04:00:00 GMT"] {
        assert!((9..=11).contains(&pause(0, &answered(503, sooner)).unwrap()), "{sooner}");
    }
}

#[tokio::test]
async fn a_receiver_is_told_each_event_of_its_owner_once_by_any_number_of_servers() {
    let mut receiver = Receiver::start().await;
    let server = Running::start(receiver.config()).await;
    let mut config = receiver.config();
    config.database.url = server.database.clone();
    let second = Running::start(config).await;
    let (owner, other) = (of("7"), of("8"));
    let (owner, other) = (Some(&*owner), Some(&*other));
    let (path, secret) = hook(&server, owner, json!({ "url": receiver.url(), "description": "mine" })).await;
    receiver.order(json!({ "secret": secret })).await;

    job(&server, other).await;
    job(&server, None).await;
    let mine = [job(&server, owner).await, job(&second, owner).await];
    let mut expected = journal(&server, owner, &mine[0]).await;
    expected.extend(journal(&server, owner, &mine[1]).await);
    assert!(expected.len() > 10);
    let got = receiver.take(expected.len()).await;
    let told: BTreeMap<i64, &Got> = got.iter().map(|got| (got.position(), got)).collect();
    assert_eq!(
        told.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "each one, and none twice"
    );
    for (position, event) in &expected {
        let Got { body, verified, id, .. } = told[position];
        assert!(verified);
        assert!(id.ends_with(&format!("_{position}")), "{id}");
        assert_eq!((&body["type"], &body["seq"]), (&event["event"], &event["seq"]));
        assert_eq!(unsigned(&body["data"]), unsigned(&event["data"]));
        assert_eq!(body["timestamp"], event["data"]["timestamp"]);
        assert_eq!(body["jobId"], event["data"]["jobId"]);
    }

    // Whoever has another secret takes it for forged; the old one is good beside the new one.
    let (status, rotated) = call(&server, owner, "POST", &format!("{path}/rotate"), None).await;
    assert_eq!(status, 200, "{rotated}");
    let fresh = rotated["secret"].as_str().unwrap();
    assert_ne!(fresh, secret);
    let forged = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (with, verifies) in [(&*secret, true), (fresh, true), (forged, false)] {
        receiver.order(json!({ "secret": with })).await;
        let (status, said) = call(&server, owner, "POST", &format!("{path}/ping"), None).await;
        assert_eq!((status, said), (200, json!({ "delivered": true, "status": 200, "error": null })));
        let got = receiver.next().await;
        assert_eq!((&*got.name, got.verified), ("webhook:ping", verifies), "{with}");
    }

    wait_for("all to be written down", async || {
        let (_, shown) = call(&server, owner, "GET", &path, None).await;
        (shown["delivered"] == expected.len() && shown["pending"] == 0).then_some(())
    })
    .await;

    // A filter by names and beginnings.
    let change = json!({ "events": ["job:completed", "screenshot:*"] });
    let (status, shown) = call(&server, owner, "PATCH", &path, Some(&change)).await;
    assert_eq!((status, &shown["events"]), (200, &change["events"]));
    assert!(shown.get("secret").is_none() && !shown.to_string().contains("whsec_"), "{shown}");
    job(&server, owner).await;
    let names: BTreeSet<String> = receiver.take(2).await.into_iter().map(|got| got.name).collect();
    assert_eq!(names, ["job:completed".to_owned(), "screenshot:captured".to_owned()].into());

    // Nobody else learns of it.
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({ "enabled": false }))),
        ("POST", format!("{path}/rotate"), None),
        ("POST", format!("{path}/ping"), None),
        ("GET", format!("{path}/failed"), None),
        ("POST", format!("{path}/resend"), Some(json!({ "failed": true }))),
        ("DELETE", path.clone(), None),
    ] {
        let (status, refused) = call(&server, other, method, &path, body.as_ref()).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (404, &json!("webhook_not_found")),
            "{method} {path}"
        );
    }
    let (_, listed) = call(&server, other, "GET", "/v1/webhooks", None).await;
    assert_eq!(listed["total"], 0);
    let foreign = json!({ "url": receiver.url(), "jobId": mine[0] });
    let (status, refused) = call(&server, other, "POST", "/v1/webhooks", Some(&foreign)).await;
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("job_not_found")));
    // A range of somebody else's job is empty for it.
    let (theirs, _) = hook(&server, other, json!({ "url": receiver.url() })).await;
    for range in [json!({ "jobId": mine[0] }), json!({ "fromPosition": told.keys().next() })] {
        let (_, resent) = call(&server, other, "POST", &format!("{theirs}/resend"), Some(&range)).await;
        assert_eq!(resent["events"], 0, "{range}");
    }
    assert_eq!(call(&server, owner, "DELETE", &path, None).await.0, 204);
    assert_eq!(call(&server, owner, "GET", &path, None).await.0, 404);
    second.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_receiver_does_not_take_is_tried_again_given_up_listed_and_sent_again() {
    let mut receiver = Receiver::start().await;
    let mut config = receiver.config();
    config.webhooks.timeout = Duration::from_secs(1);
    let server = Running::start(config).await;
    let who = of("7");
    let who = Some(&*who);
    let mut page = RawClient::come_back(&server.base, &json!({ "token": who })).await;
    let body =
        json!({ "url": receiver.url(), "events": ["job:created", "job:completed"], "description": "shop" });
    let (path, secret) = hook(&server, who, body).await;
    receiver.order(json!({ "secret": secret })).await;
    let shown = async || call(&server, who, "GET", &path, None).await.1;

    // It fails, then says nothing at all, and takes it then.
    receiver.order(json!({ "answers": { "job:created": [503, 0] } })).await;
    let first = job(&server, who).await;
    let mut got = receiver.take(4).await;
    got.retain(|got| got.name == "job:created");
    assert_eq!(got.iter().map(|got| got.status).collect::<Vec<_>>(), [503, 0, 200]);
    assert!(got.iter().all(|other| other.id == got[0].id && other.verified), "{got:?}");

    // A redirect is not followed; nothing gets through for all of the schedule, so it is disabled, and its owner hears.
    receiver
        .order(json!({ "answers": { "job:created": [500, 500, 302], "job:completed": [500, 500, 500] } }))
        .await;
    let second = job(&server, who).await;
    let disabled = wait_for("the webhook to be disabled", async || {
        Some(shown().await).filter(|shown| shown["enabled"] == false)
    })
    .await;
    let reason = disabled["disabledReason"].as_str().unwrap();
    assert!(reason.contains("Nothing was delivered"), "{reason}");
    let notice = loop {
        match soon("a notice", page.next()).await.unwrap() {
            Told::Event { name, arguments } if name == "system:notification" => break arguments[0].clone(),
            _ => {}
        }
    };
    assert!(notice["message"].as_str().unwrap().contains("“shop” was disabled"), "{notice}");

    // What was given up is listed; the rest waits. Enabled again it goes on where it was.
    receiver.order(json!({ "answers": {} })).await;
    let (_, failed) = call(&server, who, "GET", &format!("{path}/failed"), None).await;
    let failed = failed["failed"].as_array().unwrap().clone();
    assert!(!failed.is_empty());
    for given_up in &failed {
        assert_eq!((&given_up["jobId"], &given_up["attempts"]), (&json!(second), &json!(3)), "{given_up}");
        assert!(given_up["lastError"].as_str().unwrap().contains("The receiver answered"), "{given_up}");
    }
    let third = job(&server, who).await;
    let (_, enabled) = call(&server, who, "PATCH", &path, Some(&json!({ "enabled": true }))).await;
    assert_eq!((&enabled["enabled"], &enabled["disabledReason"]), (&json!(true), &Value::Null));
    let (status, resent) =
        call(&server, who, "POST", &format!("{path}/resend"), Some(&json!({ "failed": true }))).await;
    assert_eq!((status, &resent["events"]), (202, &json!(failed.len())));
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        let got = receiver.next().await;
        if got.status == 200 && got.body["jobId"] != *first {
            assert!(seen.insert((got.body["jobId"].as_str().unwrap().to_owned(), got.name)), "none twice");
        }
    }
    let expected: BTreeSet<(String, String)> = [&second, &third]
        .into_iter()
        .flat_map(|job| ["job:created", "job:completed"].map(|name| (job.clone(), name.to_owned())))
        .collect();
    assert_eq!(seen, expected);
    wait_for("nothing to wait", async || {
        let shown = shown().await;
        (shown["pending"] == 0 && shown["failed"] == 0).then_some(())
    })
    .await;

    // Any range once more, with the same ids; and again, although its answer is still to come.
    let events = journal(&server, who, &first).await;
    let range = json!({ "jobId": first, "fromSeq": 2, "toSeq": events.len() });
    let once_more = async || {
        let (_, resent) = call(&server, who, "POST", &format!("{path}/resend"), Some(&range)).await;
        assert_eq!(resent, json!({ "events": 1, "nextPosition": null }));
    };
    receiver.order(json!({ "hold": true })).await;
    once_more().await;
    let again = receiver.next().await;
    assert_eq!((&*again.name, &again.body["jobId"]), ("job:completed", &json!(first)));
    once_more().await;
    receiver.order(json!({ "hold": false })).await;
    assert_eq!(receiver.next().await.id, again.id);
    let all = json!({ "fromPosition": events.keys().next(), "toPosition": events.keys().last() });
    let (_, resent) = call(&server, who, "POST", &format!("{path}/resend"), Some(&all)).await;
    assert_eq!(resent["events"], 2);
    // A slow machine may have taken the answer that was held for none at all.
    let mut ids = BTreeSet::new();
    while ids.len() < 2 {
        ids.insert(receiver.next().await.id);
    }
    assert_eq!(ids, [got[0].id.clone(), again.id].into());
    wait_for("nothing to wait", async || (shown().await["pending"] == 0).then_some(())).await;

    // One that is gone is told nothing more; what waits is kept.
    receiver.order(json!({ "answers": { "job:created": [410] } })).await;
    let fourth = job(&server, who).await;
    let gone = wait_for("the webhook to be disabled", async || {
        Some(shown().await).filter(|shown| shown["enabled"] == false)
    })
    .await;
    assert!(gone["disabledReason"].as_str().unwrap().contains("410"), "{gone}");
    assert!(gone["pending"].as_i64().unwrap() >= 1, "{gone}");
    call(&server, who, "PATCH", &path, Some(&json!({ "enabled": true }))).await;
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        let got = receiver.next().await;
        if got.status == 200 && got.body["jobId"] == *fourth {
            told.insert(got.name);
        }
    }
    for bad in [
        json!({}),
        json!({ "failed": true, "jobId": first }),
        json!({ "jobId": first, "fromPosition": 1 }),
        json!({ "jobId": first, "fromSeq": 0 }),
        json!({ "jobId": "x" }),
    ] {
        assert_eq!(call(&server, who, "POST", &format!("{path}/resend"), Some(&bad)).await.0, 400, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn no_webhook_reaches_a_private_address_and_what_is_removed_or_forgotten_is_still_told() {
    let mut receiver = Receiver::start().await;
    let mut config = receiver.config();
    // This one takes webhooks down only.
    config.webhooks.enabled = false;
    let server = Running::start(config).await;
    let port = receiver.port;
    for (url, says) in [
        (format!("https://127.0.0.1:{port}/"), "loopback"),
        (format!("http://127.0.0.1:{}/", port ^ 1), "https://"),
        ("https://localhost/".into(), "loopback"),
        ("https://[::ffff:10.0.0.1]/".into(), "IPv4-mapped"),
        ("https://169.254.169.254/latest".into(), "metadata"),
        ("https://192.168.0.1/".into(), "webhooks.allow_origins"),
        ("http://hooks.example.com/".into(), "https://"),
        ("https://user:pass@hooks.example.com/".into(), "password"),
        ("ftp://hooks.example.com/".into(), "https://"),
    ] {
        let (status, refused) = server.post("/v1/webhooks", &json!({ "url": url })).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("address_refused")), "{url}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(says) && !message.contains("pass@"), "{url}: {message}");
    }
    for bad in [
        json!({ "url": "hooks" }),
        json!({ "url": receiver.url(), "events": [] }),
        json!({ "url": receiver.url(), "events": ["job:progress"] }),
        json!({ "url": receiver.url(), "events": ["job:*:x"] }),
        json!({ "url": receiver.url(), "description": "a\nb" }),
        json!({ "url": receiver.url(), "secret": "mine" }),
    ] {
        let (status, refused) = server.post("/v1/webhooks", &bad).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_request")), "{bad}");
    }

    let (path, secret) = hook(&server, None, json!({ "url": receiver.url() })).await;
    receiver.order(json!({ "secret": secret })).await;
    let (removed, old) = (job(&server, None).await, job(&server, None).await);
    let mut events = journal(&server, None, &removed).await;
    let (status, _) = call(&server, None, "DELETE", &format!("/v1/jobs/{removed}"), None).await;
    assert_eq!(status, 204);
    // As database.keep_events has it.
    let of_old = journal(&server, None, &old).await;
    let forgotten = server.store().forget_events(Duration::ZERO).await.unwrap();
    assert_eq!(forgotten, of_old.len() as u64 - 1, "all but the last");
    assert_eq!(server.store().events(old.parse().unwrap(), 0, 100).await.unwrap().len(), 1);
    events.extend(of_old);

    // The address is looked at at each delivery: a server that may not reach it does not, whoever took it down.
    let mut config = receiver.config();
    config.database.url = server.database.clone();
    config.webhooks.allow_origins.clear();
    config.webhooks.retry = vec![Duration::from_secs(3600)];
    let strict = Running::start(config).await;
    wait_for("the deliveries to be refused", async || {
        let (_, shown) = server.get(&path).await;
        let error = shown["lastError"].as_str().unwrap_or_default().to_owned();
        assert_eq!(shown["delivered"], 0);
        error.contains("https://").then_some(())
    })
    .await;
    strict.stop().await;

    // One that may is told of all of it, although the one job is no more and the other's events are not.
    let (_, _) = call(&server, None, "PATCH", &path, Some(&json!({ "enabled": false }))).await;
    let (_, _) = call(&server, None, "PATCH", &path, Some(&json!({ "enabled": true }))).await;
    let mut config = receiver.config();
    config.database.url = server.database.clone();
    let lenient = Running::start(config).await;
    let told: BTreeMap<i64, Value> =
        receiver.take(events.len()).await.into_iter().map(|got| (got.position(), got.body)).collect();
    assert_eq!(told.keys().collect::<Vec<_>>(), events.keys().collect::<Vec<_>>());
    for (position, body) in told {
        assert_eq!(unsigned(&body["data"]), unsigned(&events[&position]["data"]));
    }
    lenient.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_receiver_wants_later_is_due_later_and_the_numbers_tell_what_came_of_it_all() {
    let test = "webhooks::what_a_receiver_wants_later_is_due_later_and_the_numbers_tell_what_came_of_it_all";
    if !alone(test).await {
        return;
    }
    let mut receiver = Receiver::start().await;
    let mut config = receiver.config();
    config.webhooks.retry = vec![Duration::ZERO];
    let server = Running::start(config).await;
    let (path, secret) =
        hook(&server, None, json!({ "url": receiver.url(), "events": ["job:completed"] })).await;
    receiver.order(json!({ "secret": secret })).await;
    let numbers = async || Numbers::of(&server.http, server.url("/metrics")).await;
    // What the database counts is up to a few seconds old. Nothing is due at an endpoint that is disabled.
    let waiting = async |pending: f64, given_up: f64| {
        wait_for("the numbers", async || {
            let now = numbers().await;
            let count = |state: &str| now.get(&format!("jobcast_webhook_deliveries{{state=\"{state}\"}}"));
            let oldest = now.get("jobcast_webhook_oldest_seconds");
            ((count("pending"), count("given_up"), oldest) == (pending, given_up, 0.0)).then_some(now)
        })
        .await
    };
    let disabled = async || {
        wait_for("the webhook to be disabled", async || {
            (server.get(&path).await.1["enabled"] == false).then_some(())
        })
        .await;
    };
    let enable = async || {
        let enabled = json!({ "enabled": true });
        assert_eq!(call(&server, None, "PATCH", &path, Some(&enabled)).await.0, 200);
    };

    // Given up, and sent again.
    receiver.order(json!({ "answers": { "job:completed": [500, 500] } })).await;
    job(&server, None).await;
    disabled().await;
    waiting(0.0, 1.0).await;
    enable().await;
    let again = json!({ "failed": true });
    assert_eq!(server.post(&format!("{path}/resend"), &again).await.1["events"], 1);
    let statuses: Vec<u64> = receiver.take(3).await.iter().map(|got| got.status).collect();
    assert_eq!(statuses, [500, 500, 200]);
    wait_for("it to be delivered", async || (server.get(&path).await.1["delivered"] == 1).then_some(()))
        .await;

    // The schedule says at once, the receiver in two hours.
    let later = json!({ "answers": { "job:completed": [503] }, "headers": { "retry-after": "7200" } });
    receiver.order(later).await;
    job(&server, None).await;
    let asked_for_time = wait_for("the answer to be written down", async || {
        let (_, shown) = server.get(&path).await;
        shown["lastError"].as_str().filter(|error| error.contains("503")).map(|_| shown["pending"].clone())
    })
    .await;
    assert_eq!(asked_for_time, 1);
    let mut database = PgConnection::connect(&server.database).await.unwrap();
    let due: (i32, f64) = sqlx::query_as(
        "SELECT attempts, extract(epoch FROM due_at - last_attempt_at)::float8 FROM webhook_deliveries",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    assert_eq!(due, (1, 7200.0));

    receiver.order(json!({ "answers": { "job:completed": [410] } })).await;
    job(&server, None).await;
    disabled().await;
    let now = waiting(2.0, 0.0).await;
    for (outcome, count) in [("delivered", 1.0), ("again", 2.0), ("given_up", 1.0), ("gone", 1.0)] {
        let sample = format!("jobcast_webhook_attempts_total{{outcome=\"{outcome}\"}}");
        assert_eq!(now.get(&sample), count, "{outcome}");
    }
    assert_eq!(now.get("jobcast_webhook_attempt_seconds_count"), 5.0);
    server.stop().await;
}

#[tokio::test]
async fn a_receiver_whose_certificate_is_not_trusted_is_told_nothing_and_its_owner_why() {
    let mut receiver = Receiver::untrusted().await;
    let server = Running::start(receiver.config()).await;
    let (path, _) = hook(&server, None, json!({ "url": receiver.url(), "events": ["job:completed"] })).await;
    let (_, said) = call(&server, None, "POST", &format!("{path}/ping"), None).await;
    assert_eq!((&said["delivered"], &said["status"]), (&json!(false), &Value::Null));
    let error = said["error"].as_str().unwrap();
    assert!(error.starts_with("The receiver's certificate is not trusted ("), "{error}");

    let ended = job(&server, None).await;
    let failed = wait_for("it to be given up", async || {
        let (_, shown) = server.get(&format!("{path}/failed")).await;
        shown["failed"].get(0).cloned()
    })
    .await;
    assert_eq!((&failed["jobId"], &failed["attempts"]), (&json!(ended), &json!(3)));
    assert_eq!((&failed["lastStatus"], &failed["lastError"]), (&Value::Null, &said["error"]));
    receiver.order(json!({})).await;
    assert!(receiver.put_by.is_empty(), "{:?}", receiver.put_by);
    server.stop().await;
}

#[tokio::test]
async fn kill_9_in_the_middle_of_deliveries_loses_and_skips_nothing() {
    let mut receiver = Receiver::start().await;
    let folder = folder();
    let port = free_port();
    let origin = receiver.base.clone();
    let settings = [
        ("JOBCAST__PIPELINE__ENABLED", "false"),
        ("JOBCAST__WEBHOOKS__ALLOW_ORIGINS", &*origin),
        ("JOBCAST__WEBHOOKS__POLL_INTERVAL", "20ms"),
    ];
    let post = async |server: &Process, path: &str, body: Value| {
        answer(server.http.post(format!("{}{path}", server.base)).json(&body).send().await.unwrap()).await
    };
    let run = async |server: &Process| -> Vec<i64> {
        let (_, run) = post(server, "/api/test-websocket/run", json!({})).await;
        let events = server.events(run["jobId"].as_str().unwrap()).await;
        events.iter().map(|event| event["position"].as_str().unwrap().parse().unwrap()).collect()
    };
    let mut server = Process::start(folder.path(), port, &settings).await;
    let (status, made) = post(&server, "/v1/webhooks", json!({ "url": receiver.url() })).await;
    assert_eq!(status, 201, "{made}");
    let mut expected: BTreeSet<i64> = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for round in 0..3 {
        // Some answers do not come: those deliveries are under way when the server dies.
        receiver.order(json!({ "secret": made["secret"], "answers": { "ocr:completed": [0] } })).await;
        expected.extend(run(&server).await);
        expected.extend(run(&server).await);
        for _ in 0..=round * 3 {
            seen.insert(receiver.next().await.position());
        }
        server.kill();
        receiver.order(json!({ "answers": {} })).await;
        server = Process::start(folder.path(), port, &settings).await;
    }
    while seen.len() < expected.len() {
        let got = receiver.next().await;
        assert!(got.verified);
        seen.insert(got.position());
    }
    assert_eq!(seen, expected);
    wait_for("nothing to wait", async || {
        let shown = server.get(&format!("/v1/webhooks/{}", made["id"].as_str().unwrap())).await;
        (shown["pending"] == 0).then_some(())
    })
    .await;
    server.kill();
}
