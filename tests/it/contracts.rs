//! The served contracts: what the official programs of others say of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use jobcast::{
    app::{Server, listen},
    event::{Ask, JobType, Kind},
    job::JobId,
    store::NewJob,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};
use uuid::Uuid;

use crate::{
    compat::everything_that_may_happen,
    support::{Running, address, database, folder, quiet_config, soon},
    transcripts::{Spoken, all_spoken},
};

/// Where the programs are.
pub fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    assert!(
        folder.join("node_modules").exists(),
        "the programs that check contracts are not installed; `make test` does that"
    );
    folder
}

/// What a program says of a document: what is wrong with it, and what it found in it.
async fn check(arguments: &[&str], input: &str) -> (Vec<String>, String) {
    let mut node = Command::new("node")
        .arg(programs().join("check.mjs"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = node.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = soon("the check", node.wait_with_output()).await.unwrap();
    let found = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{found}");
    (String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect(), found)
}

#[tokio::test]
async fn the_parser_of_asyncapi_takes_the_sockets_contract() {
    let mut config = quiet_config();
    config.server.public_url = "https://jobs.example.com/below".into();
    let server = Running::start(config).await;
    let answer = server.http.get(server.url("/asyncapi.json")).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    let (wrong, found) = check(&["asyncapi"], &text).await;
    assert_eq!(wrong, Vec::<String>::new());
    let found: Value = serde_json::from_str(&found).unwrap();
    let rooms = ["/", "job:{jobId}", "automation:{jobId}"];
    let raw = ["/v1/jobs/{jobId}/socket", "/api/ws/jobs", "/ws/job/{jobId}", "/api/ws/projects/{projectId}"];
    assert_eq!(found["channels"], json!([&rooms[..], &raw[..]].concat()));
    let names: Vec<&str> = found["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let events = Kind::ALL.iter().map(|kind| kind.wire_name());
    for name in events.chain(Ask::ALL.iter().map(|ask| ask.name())) {
        assert!(names.contains(&name), "{name} is in no channel");
    }
    let document: Value = serde_json::from_str(&text).unwrap();
    let at = &document["servers"]["socketio"];
    assert_eq!(
        (&at["host"], &at["protocol"], &at["pathname"]),
        (&json!("jobs.example.com"), &json!("wss"), &json!("/below/socket.io/"))
    );

    // Whatever route opens a WebSocket is a channel.
    let (_, routes) = server.get("/openapi.json").await;
    let routes = routes["paths"].as_object().unwrap().iter();
    let opens = routes.filter(|(_, item)| !item["get"]["responses"]["101"].is_null());
    let mut opens: Vec<String> = opens.map(|(path, _)| nameless(path)).collect();
    let mut raw = raw.map(nameless);
    opens.sort();
    raw.sort();
    assert_eq!(opens, raw);

    // A document with a fault is found out.
    let (wrong, _) = check(&["asyncapi"], &text.replace("#/channels/job\"", "#/channels/jab\"")).await;
    assert!(!wrong.is_empty());
    server.stop().await;
}

/// A path without the names of its parameters.
fn nameless(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_message_over_a_raw_socket_is_as_the_contract_says() {
    let server = Running::quiet().await;
    let (_, document) = server.get("/asyncapi.json").await;
    let spoken = all_spoken(&server).await;
    let (wrong, found) =
        check(&["sockets"], &json!({ "document": document, "spoken": spoken }).to_string()).await;
    assert_eq!(wrong, Vec::<String>::new());
    let found: Value = serde_json::from_str(&found).unwrap();
    let names = |of: &str| {
        let names = found[of].as_array().unwrap().iter().filter_map(Value::as_str);
        names.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    // Nothing stands in the contract that no conversation has.
    assert_eq!(names("known"), names("seen"));

    // Faults that it must find: a key too few or too many, a word that is none, one of another channel, a number too high.
    let told = |path: &str, with: &str| -> (String, Value) {
        let is = |spoken: &&Spoken| {
            spoken.path.contains(path) && spoken.text.contains(with) && spoken.by == "server"
        };
        let found = spoken.iter().find(is).unwrap_or_else(|| panic!("{with} is not told at {path}"));
        (found.path.clone(), serde_json::from_str(&found.text).unwrap())
    };
    let mut bad = Vec::new();
    for (path, with, pointer, value) in [
        ("/socket", "status", "/status", json!("idle")),
        ("/api/ws/jobs", "job_created", "/job/queued_at", json!("2026-01-06T05:56:38.123456Z")),
        ("/api/ws/jobs", "stats_updated", "/stats/total", json!("1")),
        ("/ws/job/", "metrics", "/metrics/domain_timings", json!([])),
        ("/api/ws/projects/", "status_update", "/progress", json!(300)),
    ] {
        let (path, message) = told(path, with);
        let mut changes = [message.clone(), message.clone(), message];
        *changes[0].pointer_mut(pointer).unwrap() = value;
        let (inside, key) = pointer.rsplit_once('/').unwrap();
        changes[1].pointer_mut(inside).unwrap().as_object_mut().unwrap().remove(key);
        changes[2]["more"] = json!(1);
        bad.extend(changes.map(|message| Spoken {
            path: path.clone(),
            by: "server",
            text: message.to_string(),
        }));
    }
    bad.push(Spoken { path: "/api/ws/jobs".into(), by: "server", text: r#"{"type":"pong"}"#.into() });
    bad.push(Spoken { path: "/ws/job/1".into(), by: "server", text: "pong".into() });
    let (wrong, _) = check(&["sockets"], &json!({ "document": document, "spoken": bad }).to_string()).await;
    assert_eq!(wrong.len(), bad.len(), "{wrong:#?}");
    server.stop().await;
}

#[tokio::test]
async fn every_event_is_as_the_schema_says() {
    let server = Running::quiet().await;
    let store = server.store();
    let id = JobId(Uuid::now_v7());
    store.create(NewJob::unplanned(id, JobType::Crawl, "all")).await.unwrap();
    let (kept, passing): (Vec<_>, Vec<_>) =
        everything_that_may_happen().into_iter().partition(|event| event.class().is_journaled());
    store.append(id, kept).await.unwrap();
    store.cancel(id).await.unwrap();
    let (_, shown) = server.get(&format!("/v1/jobs/{id}/events")).await;
    let mut events = shown["events"].as_array().unwrap().clone();
    let at = chrono::Utc::now();
    for event in passing {
        let data: Value = serde_json::from_str(event.encode(Some(id), at).get()).unwrap();
        events.push(json!({ "event": event.name(), "data": data }));
    }
    let own = json!({ "jobId": id.to_string(), "timestamp": "2026-01-06T05:56:38.123Z", "n": 1 });
    events.push(json!({ "type": "novel:chunk-done", "data": own }));
    events.push(json!({ "event": "job:completed", "data": {
        "jobId": id.to_string(), "timestamp": "2026-01-06T05:56:38.123Z", "results": {}, "duration": 5,
    } }));
    events.push(json!({ "event": "system:notification", "data": {
        "timestamp": "2026-01-06T05:56:38.123Z", "type": "info", "message": "pong",
    } }));
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    for kind in Kind::ALL {
        assert!(names.contains(&kind.wire_name()), "no example of {}", kind.wire_name());
    }
    let answer = server.http.get(server.url("/events.schema.json")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/schema+json");
    let schema: Value = answer.json().await.unwrap();
    let (wrong, _) = check(&["events"], &json!({ "schema": schema, "events": events }).to_string()).await;
    assert_eq!(wrong, Vec::<String>::new());

    // Faults that it must find: a field that is missing, of another type, of no known word, out of range, null.
    let good = |name: &str| events.iter().find(|event| event["event"] == name).unwrap().clone();
    let mut bad = Vec::new();
    for (name, field, value) in [
        ("job:created", "jobType", json!("paint")),
        ("job:progress", "progress", json!(300)),
        ("ocr:started", "screenshotId", json!("one")),
        ("ocr:completed", "data", json!({ "confidence": 1, "price": null })),
        ("job:updated", "status", json!(5)),
        ("job:log", "timestamp", json!("yesterday")),
    ] {
        let mut event = good(name);
        event["data"][field] = value;
        bad.push(event);
        let mut event = good(name);
        event["data"].as_object_mut().unwrap().remove(field);
        bad.push(event);
    }
    bad.push(json!({ "event": "novel:chunk-done", "data": {} }));
    bad.push(json!({ "data": {} }));
    let (wrong, _) = check(&["events"], &json!({ "schema": schema, "events": bad }).to_string()).await;
    assert_eq!(wrong.len(), bad.len(), "{wrong:#?}");
    server.stop().await;
}

/// A page in TypeScript; each line that ends in `// wrong` must not compile, and all others must.
const PAGE: &str = r#"import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, JobCompleted, ServerToClientEvents } from "./events";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://localhost:3001");
socket.on("job:completed", (event: JobCompleted, offset?: string) => console.log(event.jobId, event.duration + 1, offset));
socket.on("job:failed", ({ error, cancelled }) => console.log(error.length, cancelled === true));
socket.on("ocr:completed", ({ data }) => console.log(data.price?.toFixed(2), data.confidence));
socket.on("job:created", ({ jobType }) => console.log(jobType === "crawl"));
socket.emit("job:subscribe", "id", { after: 0 }, (answer) => console.log(answer.ok ? answer.seq : answer.error.code));
socket.emit("job:subscribe", "id");
socket.emit("automation:unsubscribe", "id", (answer) => console.log(answer.ok));
socket.emit("job:retry", "id", (answer) => console.log(answer.ok && answer.jobId));
socket.emit("ping");
type Own = ServerToClientEvents & { "novel:chunk-done": (payload: { n: number }, offset?: string) => void };
const own: Socket<Own, ClientToServerEvents> = io();
own.on("novel:chunk-done", ({ n }) => console.log(n));
socket.on("job:complete", () => {}); // wrong
socket.on("job:completed", (event) => console.log(event.durations)); // wrong
socket.on("job:created", ({ jobType }) => console.log(jobType === "crawling")); // wrong
socket.emit("job:subscribe", 5); // wrong
socket.emit("job:subscribe", "id", { behind: 0 }); // wrong
socket.emit("job:retry", "id", (answer) => console.log(answer.jobId)); // wrong
socket.emit("job:stop", "id"); // wrong
"#;

#[tokio::test]
async fn a_page_in_typescript_compiles_and_one_with_a_misspelt_event_does_not() {
    let server = Running::quiet().await;
    let answer = server.http.get(server.url("/events.d.ts")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let scratch = folder();
    let (types, page) = (scratch.path().join("events.d.ts"), scratch.path().join("page.ts"));
    fs::write(&types, answer.text().await.unwrap()).unwrap();
    fs::write(&page, PAGE).unwrap();
    let (wrong, _) = check(&["typescript", types.to_str().unwrap(), page.to_str().unwrap()], "").await;
    let mut lines: Vec<usize> = wrong
        .iter()
        .map(|said| {
            let rest = said.strip_prefix("page.ts:").unwrap_or_else(|| panic!("{said}"));
            rest.split(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    lines.dedup();
    let expected = PAGE.lines().zip(1..).filter(|(line, _)| line.ends_with("// wrong")).map(|(_, at)| at);
    assert_eq!(lines, expected.collect::<Vec<usize>>(), "{wrong:#?}");
    server.stop().await;
}

#[tokio::test]
async fn contracts_and_the_client_are_kept_until_they_change_and_open_to_all() {
    let bundle = programs().join("node_modules/socket.io-client/dist/socket.io.js");
    let mut config = quiet_config();
    config.auth.anonymous = false;
    config.server.client_bundle = bundle.clone();
    let server = Running::start(config).await;
    for (path, content_type) in [
        ("/openapi.json", "application/json"),
        ("/asyncapi.json", "application/json"),
        ("/events.d.ts", "application/typescript; charset=utf-8"),
        ("/events.schema.json", "application/schema+json"),
        ("/socket.io/socket.io.js", "text/javascript; charset=utf-8"),
        ("/socket.io/socket.io.min.js", "text/javascript; charset=utf-8"),
        ("/socket.io/socket.io.min.js.map", "application/json"),
    ] {
        let get = || server.http.get(server.url(path)).header("origin", "http://localhost:5173");
        let answer = get().send().await.unwrap();
        let headers = answer.headers().clone();
        assert_eq!(
            (answer.status().as_u16(), &headers["content-type"]),
            (200, &content_type.parse().unwrap()),
            "{path}"
        );
        assert_eq!(headers["access-control-allow-origin"], "http://localhost:5173", "{path}");
        if path == "/openapi.json" {
            continue;
        }
        assert!(headers["etag"].to_str().unwrap().starts_with('"'), "{path} has a strong tag");
        assert_eq!(headers["cache-control"], "public, no-cache");
        let again = get().header("if-none-match", &headers["etag"]).send().await.unwrap();
        assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &headers["etag"]), "{path}");
        let other = get().header("if-none-match", "\"other\"").send().await.unwrap();
        assert_eq!(other.status(), 200, "{path}");
    }
    let served =
        server.http.get(server.url("/socket.io/socket.io.js")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(served, fs::read(&bundle).unwrap());
    let (status, refused) = server.get("/socket.io/package.json").await;
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("route_not_found")));
    server.stop().await;

    // Without the setting there is none; with one that names nothing the server says so and does not start.
    let server = Running::quiet().await;
    let (status, refused) = server.get("/socket.io/socket.io.js").await;
    assert_eq!(status, 404);
    assert!(refused["error"]["message"].as_str().unwrap().contains("server.client_bundle"), "{refused}");
    server.stop().await;
    let mut config = crate::support::config();
    let scratch = folder();
    config.server.data_dir = scratch.path().to_owned();
    config.database.url = address(&database().await);
    config.server.client_bundle = "/nowhere/socket.io.js".into();
    let listeners = listen::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let error = Server::start(config, listeners).await.err().expect("it does not start").to_string();
    assert!(error.contains("/nowhere/socket.io.js") && error.contains("server.client_bundle"), "{error}");
}
