//! Logs and traces of a server that does a whole job: names to find things by, and no secret; a collector that comes and
//! goes.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Text, trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::{
    identity::{SECRET, of},
    numbers::{self, Numbers},
    process::free_port,
    raw_client::{RawClient, Told},
    support::{address, answer, database, folder, heavy, soon, wait_for},
};

/// A collector: what it was sent, and whether it takes any.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    is_full: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl Collector {
    /// Starts it; returns its address.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/traces", post(Collector::take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
        if collector.is_full.load(Ordering::Relaxed) {
            collector.refused.fetch_add(1, Ordering::Relaxed);
            return StatusCode::FORBIDDEN;
        }
        for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            collector.services.lock().unwrap().extend(text(name.value));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            collector.spans.lock().unwrap().extend(spans);
        }
        StatusCode::OK
    }

    /// The spans of this name that have an attribute with this value.
    fn spans(&self, name: &str, key: &str, value: &str) -> Vec<Span> {
        let is_it = |span: &&Span| {
            let mut attributes = span.attributes.iter();
            span.name == name
                && attributes.any(|has| has.key == key && text(has.value.clone()).as_deref() == Some(value))
        };
        self.spans.lock().unwrap().iter().filter(is_it).cloned().collect()
    }

    fn has_child(&self, parent: &Span, name: &str) -> bool {
        let spans = self.spans.lock().unwrap();
        spans.iter().any(|span| span.name == name && span.parent_span_id == parent.span_id)
    }
}

fn text(value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>) -> Option<String> {
    match value?.value? {
        Text::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The server in a process of its own, ended with the value.
struct Server {
    child: Child,
    base: Url,
    log: File,
}

impl Server {
    fn start(folder: &Path, database: &str, settings: &[(&str, &str)]) -> Server {
        let port = free_port();
        let path = folder.join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_jobcast"))
            .args(["serve", "--demo-shop", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(folder)
            .args(["--database-url", database])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(File::create(&path).unwrap())
            .spawn()
            .unwrap();
        let base = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        Server { child, base, log: File::open(path).unwrap() }
    }

    /// The lines that were logged since the last call.
    fn log(&mut self) -> String {
        std::io::read_to_string(&mut self.log).unwrap()
    }

    async fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let child = &mut self.child;
        wait_for("the server to end", async || child.try_wait().unwrap()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line's own fields and those of the spans around it.
fn fields(line: &Value) -> Vec<&Value> {
    std::iter::once(line).chain(line["spans"].as_array().into_iter().flatten()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_job_is_found_in_numbers_logs_and_traces_and_no_secret_is() {
    let _alone = heavy().await;
    let (collector, folder) = (Collector::default(), folder());
    let endpoint = collector.start().await;
    let settings = [
        ("JOBCAST__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("JOBCAST__AUTH__JWT_SECRET", SECRET),
        ("JOBCAST__LOG__FILTER", "debug,jobcast=trace,html5ever=info,selectors=info"),
        ("JOBCAST__CRAWLER__DELAY", "0s"),
    ];
    let mut server = Server::start(folder.path(), &address(&database().await), &settings);
    let http = reqwest::Client::new();
    let url = |path: &str| server.base.join(path).unwrap();
    wait_for("the server", async || http.get(url("/readyz")).send().await.ok()).await;

    // Tokens in every place that clients put them: headers, queries, and what a socket says when it connects.
    let token = of("7");
    let query = format!("token={token}");
    let body = json!({ "shopUrl": url("/demo/shop/"), "maxProducts": 2 });
    let submit = http.post(url(&format!("/v1/jobs?{query}"))).header("x-request-id", "from-the-caller.1");
    let submitted = submit.json(&body).send().await.unwrap();
    assert_eq!(submitted.headers()["x-request-id"], "from-the-caller.1");
    let (status, job) = answer(submitted).await;
    assert_eq!(status, 201, "{job}");
    let job = job["id"].as_str().unwrap().to_owned();
    let mut base = server.base.clone();
    base.set_query(Some(&query));
    let mut client = RawClient::come_back(&base, &json!({ "token": token })).await;
    assert_eq!(client.subscribe(&job).await["ok"], true);
    let stream =
        http.get(url(&format!("/v1/jobs/{job}/events?{query}"))).header("accept", "text/event-stream");
    let mut stream = stream.send().await.unwrap().bytes_stream();
    let polled = http.get(url(&format!("/socket.io/?EIO=4&transport=polling&{query}"))).send().await.unwrap();
    assert_eq!(polled.status(), 200);
    let bad = http.get(url(&format!("/v1/jobs?{query}x"))).send().await.unwrap();
    assert_eq!(bad.status(), 401);
    assert_eq!(bad.headers()["x-request-id"].len(), 32);
    loop {
        match client.next().await.expect("the end of the job") {
            Told::Event { name, arguments } if name == "job:failed" => panic!("{arguments:?}"),
            Told::Event { name, .. } if name == "job:completed" => break,
            _ => {}
        }
    }
    soon("the stream's end", async { while let Some(Ok(_)) = stream.next().await {} }).await;

    let numbers = Numbers::of(&http, url("/metrics")).await;
    numbers::the_dashboard_shows(&numbers);
    for stage in ["crawl", "screenshot", "ocr", "match", "render"] {
        assert!(numbers.get(&format!("jobcast_stage_seconds_count{{stage=\"{stage}\"}}")) >= 1.0, "{stage}");
        assert!(numbers.get(&format!("jobcast_items_total{{outcome=\"done\",stage=\"{stage}\"}}")) >= 1.0);
    }
    assert_eq!(numbers.get("jobcast_jobs_ended_total{status=\"completed\"}"), 1.0);
    assert_eq!(numbers.get("socket_io_events_sent_total{event=\"job:completed\"}"), 1.0);
    assert_eq!(numbers.get("jobcast_browser_launches_total"), 1.0);
    assert!(numbers.get("jobcast_ocr_confidence_percent_count") >= 2.0);
    assert!(numbers.get("jobcast_object_store_seconds_count{operation=\"put\"}") >= 4.0);
    assert!(
        numbers.get("process_resident_memory_bytes") > 10e6 && numbers.get("process_cpu_seconds_total") > 0.0
    );

    // Of the request, and of an item with the program that it used and the change that it made.
    let named = async || collector.spans("request", "id", "from-the-caller.1").pop();
    let request = wait_for("the request's span", named).await;
    assert!(request.end_time_unix_nano > request.start_time_unix_nano);
    assert!(collector.services.lock().unwrap().iter().all(|name| name == "jobcast"));
    for (stage, program) in [("screenshot", "browser"), ("ocr", "ocr")] {
        wait_for(stage, async || {
            let items = collector.spans("task", "stage", stage);
            let of_job = items.into_iter().find(|item| {
                item.attributes.iter().any(|has| text(has.value.clone()).as_deref() == Some(&*job))
            })?;
            let spans = collector.spans.lock().unwrap().clone();
            let attempt = spans.iter().find(|s| s.name == "stage" && s.parent_span_id == of_job.span_id)?;
            (collector.has_child(attempt, program) && collector.has_child(&of_job, "change")).then_some(())
        })
        .await;
    }

    // A collector that takes nothing costs one warning, however often it is asked.
    collector.is_full.store(true, Ordering::Relaxed);
    wait_for("the collector to refuse again and again", async || {
        http.get(url("/livez")).send().await.unwrap();
        (collector.refused.load(Ordering::Relaxed) >= 3).then_some(())
    })
    .await;
    collector.is_full.store(false, Ordering::Relaxed);
    http.get(url("/livez")).header("x-request-id", "the-last-one").send().await.unwrap();
    wait_for("what comes after", async || collector.spans("request", "id", "the-last-one").pop()).await;

    let log = server.log();
    let secret = token.rsplit('.').next().unwrap();
    let leak = log.lines().find(|line| line.contains(secret) || line.contains(SECRET));
    assert!(leak.is_none(), "{leak:?}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of_caller = lines.iter().filter(|line| fields(line).iter().any(|f| f["id"] == "from-the-caller.1"));
    assert!(of_caller.count() >= 1, "{log}");
    let of_item = lines.iter().filter(|line| {
        fields(line).iter().any(|f| f["name"] == "task" && f["job"] == job.as_str() && f["task"].is_string())
    });
    assert!(of_item.count() >= 1, "{log}");
    let warnings = lines
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|m| m.contains("traces are not taken")));
    assert_eq!(warnings.count(), 1);
    drop(client);
    server.end().await;
    let _ = fs::remove_dir_all(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_continues_its_senders_trace_however_little_is_logged() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    let (collector, folder) = (Collector::default(), folder());
    let endpoint = collector.start().await;
    let settings = [
        ("JOBCAST__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("JOBCAST__LOG__FILTER", "warn"),
    ];
    let mut server = Server::start(folder.path(), &address(&database().await), &settings);
    let http = reqwest::Client::new();
    let url = server.base.join("/readyz").unwrap();
    wait_for("the server", async || http.get(url.clone()).send().await.ok()).await;
    for (id, traceparent) in [
        ("its-child", format!("00-{TRACE}-{SPAN}-01")),
        ("not-sampled", format!("00-{TRACE}-{SPAN}-00")),
        ("nobodys-child", format!("00-{TRACE}-{SPAN}-01-02")),
    ] {
        let request = http.get(url.clone()).header("x-request-id", id).header("traceparent", traceparent);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let spans_of = async |id: &str| collector.spans("request", "id", id).pop();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let own = wait_for("a trace of its own", async || spans_of("nobodys-child").await).await;
    assert_ne!(hex(&own.trace_id), TRACE);
    assert!(own.parent_span_id.is_empty(), "{own:?}");
    // Spans are sent in the order of their ends.
    let child = spans_of("its-child").await.expect("the one before");
    assert_eq!((hex(&child.trace_id), hex(&child.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(spans_of("not-sampled").await, None, "its sender wants none");

    let log = server.log();
    assert!(!log.contains("\"level\":\"INFO\""), "{log}");
    server.end().await;
}
