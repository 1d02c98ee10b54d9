//! The numbers at `/metrics`: who may read them, that they are in Prometheus' format, and that they say what happened.

use std::{collections::BTreeMap, fs, path::Path};

use jobcast::{
    config::MetricsAccess,
    event::{Event, FreeEvent, JobUpdated},
    identity::key::{self, Secret},
    job::JobId,
    store::NewApiKey,
};
use serde_json::{Value, json};

use crate::{
    raw_client::RawClient,
    support::{Running, alone, config, planned_job, soon, wait_for},
};

/// Numbers as they are served: by name and labels, the samples; by name, the types.
pub struct Numbers {
    samples: BTreeMap<String, f64>,
    pub types: BTreeMap<String, String>,
}

impl Numbers {
    /// Reads Prometheus' text format, and holds it to what readers of it rely on.
    pub fn read(text: &str) -> Numbers {
        let (mut samples, mut types, mut helped) = (BTreeMap::new(), BTreeMap::new(), "");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, said) = help.split_once(' ').unwrap();
                assert!(said.len() > 15, "{name} says nothing");
                helped = name;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "a type stands behind its help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let family = name.split('{').next().unwrap();
                let of_histogram =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
                let family = match of_histogram {
                    Some(histogram) if types.contains_key(histogram) => histogram,
                    _ => family,
                };
                assert_eq!(family, helped, "{line} stands behind its help");
                assert!(
                    samples.insert(name.to_owned(), value.parse().unwrap()).is_none(),
                    "{line} is there twice"
                );
            }
        }
        Numbers { samples, types }
    }

    pub async fn of(http: &reqwest::Client, address: impl reqwest::IntoUrl) -> Numbers {
        let answer = http.get(address).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Numbers::read(&answer.text().await.unwrap())
    }

    /// One sample, such as `jobcast_connections{generation="2",transport="polling"}`.
    pub fn get(&self, sample: &str) -> f64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("there is no {sample} in {:#?}", self.samples.keys()))
    }

    /// How many values of labels a number has.
    pub fn series(&self, name: &str) -> usize {
        self.samples.keys().filter(|sample| sample.split('{').next() == Some(name)).count()
    }
}

/// The names of numbers in a query.
fn names(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| ["jobcast_", "socket_io_", "process_"].iter().any(|p| word.starts_with(p));
    words.filter(ours).map(str::to_owned).collect()
}

fn queries(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(members) => {
            if let Some(Value::String(query)) = members.get("expr") {
                found.push(query.clone());
            }
            members.values().for_each(|member| queries(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

/// Holds the dashboard to the numbers of a server on which something happened, both ways.
pub fn the_dashboard_shows(numbers: &Numbers) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/grafana/jobcast.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 50, "{} queries", found.len());
    let mut shown: Vec<String> = found.iter().flat_map(|query| names(query)).collect();
    for name in &mut shown {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        if let Some(histogram) = histogram.filter(|name| numbers.types.contains_key(*name)) {
            assert_eq!(numbers.types[histogram], "histogram");
            *name = histogram.to_owned();
        }
        assert!(numbers.types.contains_key(name), "the dashboard asks for {name}, which there is not");
    }
    let unseen: Vec<_> = numbers.types.keys().filter(|name| !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}

#[tokio::test]
async fn the_numbers_are_for_the_operator() {
    let mut settings = config();
    settings.pipeline.enabled = false;
    settings.metrics.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let server = Running::start(settings).await;
    let asked = async |name: &'static str, value: &str| {
        let request = server.http.get(server.url("/metrics")).header(name, value);
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").is_some();
        assert_eq!(challenge, answer.status() == 401);
        answer.status().as_u16()
    };
    assert_eq!(asked("accept", "*/*").await, 200, "a program on this machine");
    assert_eq!(asked("x-forwarded-for", "127.0.0.1").await, 401, "a proxy's visitor");
    assert_eq!(asked("host", "rebound.example.com").await, 401, "a page that leads a browser here");
    let key_of = async |scope: &str| {
        let secret = Secret::generate();
        let new = NewApiKey {
            prefix: secret.prefix.clone(),
            sha256: key::hash(&secret.text),
            name: "prometheus".into(),
            subject: "operator".into(),
            scopes: scope.into(),
            expires_at: None,
        };
        server.store().add_api_key(new).await.unwrap();
        secret.text
    };
    let (reader, other) = (key_of("metrics").await, key_of("jobs:read").await);
    assert_eq!(asked("x-api-key", &other).await, 403);
    assert_eq!(asked("x-api-key", "jc_none").await, 401);
    assert_eq!(asked("authorization", &format!("Bearer {reader}")).await, 200);
    // Not a caller of anything else.
    let jobs = server.http.get(server.url("/v1/jobs")).bearer_auth(&reader).send().await.unwrap();
    assert_eq!(jobs.status(), 403);
    let alone = format!("http://{}/metrics", server.numbers_at());
    let answer = server.http.get(&alone).header("host", "prometheus.example.com").send().await.unwrap();
    assert_eq!(answer.status(), 200, "who reaches the address of its own");
    let elsewhere = server.http.get(alone.replace("/metrics", "/v1/jobs")).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404, "nothing else is served there");
    server.stop().await;

    let mut settings = config();
    settings.pipeline.enabled = false;
    // People know it by another name: whoever asks from this machine may be a proxy.
    settings.server.public_url = "https://jobs.example.com".into();
    let server = Running::start(settings.clone()).await;
    assert_eq!(server.get("/metrics").await.0, 401);
    server.stop().await;
    settings.metrics.access = MetricsAccess::Nobody;
    let server = Running::start(settings).await;
    assert_eq!(server.get("/metrics").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_numbers_say_what_happened_to_clients_and_the_journal() {
    if !alone("numbers::the_numbers_say_what_happened_to_clients_and_the_journal").await {
        return;
    }
    let server = Running::quiet().await;
    let numbers = async || Numbers::of(&server.http, server.url("/metrics")).await;
    let before = numbers().await;
    let store = server.store();
    let job = planned_job(store).await;
    let update = |message: String| -> Event {
        JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: Some(message) }
            .into()
    };
    let mut client = RawClient::connect(&server.base).await;
    let mut other = RawClient::connect(&server.base).await;
    client.subscribe(job).await;
    other.subscribe(job).await;
    client.call(json!(["job:pause", JobId(uuid::Uuid::nil()).to_string()])).await;
    client.send("42[\"no-such-message\"]").await;
    client.call(json!(["ping"])).await;
    for n in 0..3 {
        store.append(job, vec![update(n.to_string()), update("twice".into())]).await.unwrap();
    }
    let free = FreeEvent { name: "mine:word-that-callers-choose".into(), data: Default::default() };
    store.append(job, vec![Event::Free(free)]).await.unwrap();
    let mut last = String::new();
    for told in [&mut client, &mut other] {
        for _ in 0..7 {
            if let crate::raw_client::Told::Event { arguments, .. } = told.next_journaled().await {
                last = arguments[1].as_str().unwrap().to_owned();
            }
        }
    }
    // Counted when the batch of the last event has gone to all.
    let now = wait_for("the numbers", async || {
        let now = numbers().await;
        (now.get("socket_io_events_sent_total{event=\"other\"}") == 2.0).then_some(now)
    })
    .await;
    let more = |sample: &str| now.get(sample) - before.get(sample);
    assert_eq!(now.get("socket_io_connected"), 2.0);
    assert_eq!(more("socket_io_connect_total"), 2.0);
    assert_eq!(now.get("jobcast_connections{generation=\"3-4\",transport=\"websocket\"}"), 2.0);
    assert_eq!(more("socket_io_events_sent_total{event=\"job:updated\"}"), 12.0);
    assert_eq!(more("jobcast_journal_events_total{event=\"job:updated\"}"), 6.0);
    assert_eq!(more("jobcast_journal_events_total{event=\"other\"}"), 1.0);
    assert_eq!(more("jobcast_journal_appends_total"), 4.0);
    assert_eq!(more("socket_io_events_received_total{event=\"other\"}"), 1.0);
    assert_eq!(now.get("socket_io_events_received_total{event=\"job:subscribe\"}"), 2.0);
    assert!(more("jobcast_commit_to_client_seconds_count") >= 4.0);
    assert_eq!(now.get("jobcast_hub_clients"), 2.0);
    assert!(now.get("jobcast_socket_sent_bytes_total") > 1000.0);
    assert_eq!(now.get("jobcast_database_up"), 1.0);
    assert!(now.samples.keys().all(|name| !name.contains("word-that-callers-choose")));

    // One that comes back and missed something, one that missed nothing, and one whose session nobody knows.
    let (pid, quiet) = (client.pid.clone(), other.pid.clone());
    drop(client);
    drop(other);
    wait_for("both to be gone", async || (server.clients() == 0).then_some(())).await;
    let mut back = RawClient::come_back(&server.base, &json!({ "pid": quiet, "offset": last })).await;
    // Answered behind its return.
    back.call(json!(["ping"])).await;
    store.append(job, vec![update("missed".into())]).await.unwrap();
    let mut late = RawClient::come_back(&server.base, &json!({ "pid": pid, "offset": last })).await;
    soon("what it missed", late.next_journaled()).await;
    let stranger =
        RawClient::come_back(&server.base, &json!({ "pid": "0".repeat(32), "offset": last })).await;
    let now = numbers().await;
    for outcome in ["replayed", "nothing_missed", "new_session"] {
        assert_eq!(now.get(&format!("jobcast_recoveries_total{{outcome=\"{outcome}\"}}")), 1.0, "{outcome}");
    }
    drop((back, late, stranger));
    let now = wait_for("all to be gone", async || {
        let now = numbers().await;
        (now.get("jobcast_connections{generation=\"3-4\",transport=\"websocket\"}") == 0.0).then_some(now)
    })
    .await;
    assert_eq!((now.get("socket_io_connected"), now.get("socket_io_disconnect_total")), (0.0, 5.0));

    the_dashboard_shows(&now);
    // Kinds that callers choose are counted together.
    assert_eq!(now.series("jobcast_work_jobs"), 2 * (config().metrics.kinds.len() + 1));
    server.stop().await;
}
