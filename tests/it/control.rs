//! What people do to jobs: pause, resume, cancel, retry, prioritise, repeat, schedule, remove.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use chrono::{TimeDelta, Utc};
use jobcast::{
    event::{JobType, Kind},
    job::{ANONYMOUS, Code, Command, JobId, JobRequest, Overlap, RequestLimits, Stage, Status},
    store::{
        Announcement, Blobs, Change, NewJob, NewSchedule, NewTask, OcrRow, OnceKey, Retried, Row,
        ScheduleChange, ScreenshotRow, Settle, Slot, Store, StoreError,
    },
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    raw_client::RawClient,
    support::{
        Running, answer, config, database, folder, heavy, planned_job, quiet_config, soon, store, wait_for,
    },
};

const LEASE: Duration = Duration::from_secs(60);
const LIMITS: RequestLimits = RequestLimits { max_products: 100, match_threshold: 0.6 };

fn request() -> JobRequest {
    JobRequest {
        shop_url: "https://shop.example.com/".into(),
        template_id: "standard-label".into(),
        ..JobRequest::default()
    }
}

fn code(refused: Result<impl std::fmt::Debug, StoreError>) -> Code {
    match refused {
        Err(StoreError::Rejected(rejection)) => rejection.code,
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &Store, stage: Stage) -> Vec<jobcast::store::Claimed> {
    store.claim(stage, 10, Uuid::new_v4(), LEASE).await.unwrap()
}

/// A shop of a few products whose pages the test can break, and hold back.
struct Shop {
    base: url::Url,
    pages: Arc<Pages>,
}

struct Pages {
    products: usize,
    /// What the crawler and the browser asked for, in order.
    crawled: Mutex<Vec<String>>,
    captured: Mutex<Vec<String>>,
    /// The browser is told that this page is gone.
    broken: Mutex<Option<String>>,
    /// Whether product pages are held back from the crawler.
    held: AtomicBool,
    /// Requests that are held back at this moment, pictures that never come among them.
    waiting: watch::Sender<usize>,
    slow_pictures: bool,
}

/// Counts a request that is held back for as long as its client waits.
struct Held(Arc<Pages>);

impl Held {
    fn new(pages: &Arc<Pages>) -> Held {
        pages.waiting.send_modify(|waiting| *waiting += 1);
        Held(pages.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl Shop {
    async fn open(products: usize, slow_pictures: bool) -> Shop {
        let pages = Arc::new(Pages {
            products,
            crawled: Mutex::default(),
            captured: Mutex::default(),
            broken: Mutex::default(),
            held: AtomicBool::new(false),
            waiting: watch::Sender::new(0),
            slow_pictures,
        });
        let router = Router::new().fallback(get(page)).with_state(pages.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Shop { base, pages }
    }

    /// How often the browser opened each page.
    fn captured(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for path in self.pages.captured.lock().unwrap().iter() {
            *counts.entry(path.clone()).or_default() += 1;
        }
        counts
    }

    fn crawled(&self) -> usize {
        self.pages.crawled.lock().unwrap().len()
    }

    async fn server(&self, change: impl FnOnce(&mut jobcast::config::Config)) -> Running {
        let mut config = config();
        config.crawler.allow_origins = vec![self.base.clone()];
        config.crawler.concurrency = 1;
        config.crawler.page_timeout = Duration::from_secs(60);
        change(&mut config);
        Running::start(config).await
    }
}

async fn page(State(pages): State<Arc<Pages>>, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    let path = uri.path().to_owned();
    if path == "/" {
        let links: String = (0..pages.products)
            .map(|n| format!("<div class=product-box><a href='/product/{n}'>{n}</a></div>"))
            .collect();
        return Html(links).into_response();
    }
    if path == "/slow.png" {
        let _held = Held::new(&pages);
        return std::future::pending().await;
    }
    let Some(number) = path.strip_prefix("/product/") else { return StatusCode::NOT_FOUND.into_response() };
    if headers.contains_key("upgrade-insecure-requests") {
        pages.captured.lock().unwrap().push(path.clone());
        if pages.broken.lock().unwrap().as_deref() == Some(path.as_str()) {
            return StatusCode::NOT_FOUND.into_response();
        }
    } else {
        pages.crawled.lock().unwrap().push(path.clone());
        if pages.held.load(Ordering::SeqCst) {
            let _held = Held::new(&pages);
            std::future::pending::<()>().await;
        }
    }
    let picture = if pages.slow_pictures { "<img src='/slow.png'>" } else { "" };
    Html(format!(
        r#"<html><head><title>Klemme {number}</title><script type="application/ld+json">{{"@context":"https://schema.org",
            "@type":"Product","name":"Klemme Nummer {number}","sku":"KL-1000{number}",
            "offers":{{"@type":"Offer","price":"12.50","priceCurrency":"EUR"}}}}</script></head>
        <body style="font:32px sans-serif"><h1>Klemme Nummer {number}</h1><p>Artikelnummer: KL-1000{number}</p>
        <p>12,50 €</p>{picture}</body></html>"#
    ))
    .into_response()
}

async fn submit(server: &Running, shop: &Shop, plan: &str) -> String {
    let body = json!({ "shopUrl": shop.base, "plan": plan, "maxProducts": shop.pages.products });
    let (status, job) = server.post("/v1/jobs", &body).await;
    assert_eq!(status, 201, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_that_is_retried_captures_only_what_failed_and_outlives_the_one_before() {
    let _alone = heavy().await;
    let shop = Shop::open(3, false).await;
    *shop.pages.broken.lock().unwrap() = Some("/product/1".into());
    let server = shop.server(|_| {}).await;
    let first = submit(&server, &shop, "labels").await;
    let ended = server.ended(&first).await;
    assert_eq!(
        (&ended["status"], &ended["stages"]["screenshot"]["failed"]),
        (&json!("completed"), &json!(1))
    );
    assert_eq!(ended["results"]["summary"]["labelsGenerated"], 2, "{ended}");

    *shop.pages.broken.lock().unwrap() = None;
    let (status, retry) = server.post(&format!("/v1/jobs/{first}/retry"), &json!({})).await;
    assert_eq!((status, &retry["retryOf"], &retry["name"]), (201, &json!(first), &ended["name"]));
    let second = retry["id"].as_str().unwrap();
    let done = server.ended(second).await;
    assert_eq!(
        (&done["status"], &done["results"]["summary"]["labelsGenerated"]),
        (&json!("completed"), &json!(3))
    );
    let expected = [("/product/0", 1), ("/product/1", 2), ("/product/2", 1)];
    assert_eq!(shop.captured(), expected.map(|(path, count)| (path.to_owned(), count)).into());
    assert_eq!(shop.crawled(), 3, "nor was the shop crawled again");
    let job: JobId = second.parse().unwrap();
    let told = server.store().events(job, 0, 1000).await.unwrap();
    let count = |kind: &str| told.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count("screenshot:captured"), count("ocr:completed"), count("label:generated")), (1, 1, 1));

    // The first job stays as it ended, and both know nothing more to try.
    assert_eq!(server.get(&format!("/v1/jobs/{first}")).await.1, ended);
    let (status, refused) = server.post(&format!("/v1/jobs/{second}/retry"), &json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("nothing_to_retry")));

    // What the retry took over outlives the job that made it, and goes with the last one.
    let (_, polled) = server.get(&format!("/api/automation/jobs/{second}")).await;
    let results = &polled["job"]["results"];
    let mut addresses = Vec::new();
    for (list, field) in [("screenshots", "url"), ("screenshots", "thumbnailUrl"), ("labels", "imageUrl")] {
        for item in results[list].as_array().unwrap() {
            addresses.push(item[field].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(addresses.len(), 9);
    let objects = server.folder().join("objects");
    let before = files_below(&objects).len();
    let remove = async |job: &str| {
        server.http.delete(server.url(&format!("/v1/jobs/{job}"))).send().await.unwrap().status().as_u16()
    };
    assert_eq!(remove(&first).await, 204);
    assert_eq!(server.get(&format!("/v1/jobs/{first}")).await.0, 404);
    for address in &addresses {
        assert_eq!(server.http.get(address).send().await.unwrap().status(), 200, "{address}");
    }
    assert_eq!(files_below(&objects).len(), before, "all of them are the retry's by now");
    assert_eq!(remove(second).await, 204);
    assert_eq!(files_below(&objects), Vec::<PathBuf>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_that_is_cancelled_lets_go_of_its_page_within_a_second() {
    let _alone = heavy().await;
    let shop = Shop::open(3, true).await;
    let server = shop
        .server(|config| {
            config.browser.settle_timeout = Duration::from_secs(50);
            config.browser.page_timeout = Duration::from_secs(60);
        })
        .await;
    let id = submit(&server, &shop, "crawl").await;
    let mut waiting = shop.pages.waiting.subscribe();
    // Chromium waits for pictures that never come.
    soon("slow pages in the browser", waiting.wait_for(|waiting| *waiting > 0)).await.unwrap();
    let begun = Instant::now();
    let (status, _) = server.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    soon("the browser to let go", waiting.wait_for(|waiting| *waiting == 0)).await.unwrap();
    let took = begun.elapsed();
    println!("the browser let go of its pages {took:?} after the request began");
    assert!(took < Duration::from_secs(1), "{took:?}");

    let job: JobId = id.parse().unwrap();
    let told = server.store().head(job).await.unwrap();
    assert_eq!(told.status, Status::Cancelled);
    // What was under way is over when the pages of another job are open.
    let next = submit(&server, &shop, "crawl").await;
    soon("the next job's pages", waiting.wait_for(|waiting| *waiting > 0)).await.unwrap();
    assert_eq!(server.store().head(job).await.unwrap(), told, "nothing was told after the end");
    assert_eq!(files_below(&server.folder().join("objects/jobs").join(&id)), Vec::<PathBuf>::new());
    server.post(&format!("/v1/jobs/{next}/cancel"), &json!({})).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_whose_crawl_is_paused_stops_within_a_second_and_goes_on_after_a_restart() {
    let _alone = heavy().await;
    let shop = Shop::open(4, false).await;
    shop.pages.held.store(true, Ordering::SeqCst);
    // How soon another process's pause is heeded is a setting; what is promised is that it is.
    let server = shop.server(|config| config.pipeline.poll_interval = Duration::from_millis(100)).await;
    let id = submit(&server, &shop, "crawl").await;
    let mut waiting = shop.pages.waiting.subscribe();
    soon("the crawl", waiting.wait_for(|waiting| *waiting > 0)).await.unwrap();
    // Another process than the one that crawls is asked.
    let mut front = quiet_config();
    front.database.url = server.database.clone();
    let front = Running::start(front).await;
    let begun = Instant::now();
    let (status, paused) = front.post(&format!("/v1/jobs/{id}/pause"), &json!({})).await;
    assert_eq!((status, &paused["status"], &paused["paused"]), (200, &json!("paused"), &json!(true)));
    soon("the crawl to stop", waiting.wait_for(|waiting| *waiting == 0)).await.unwrap();
    let took = begun.elapsed();
    println!("the crawl stopped after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (_, list) = server.get("/v1/jobs?status=paused").await;
    assert_eq!(
        (&list["total"], &list["jobs"][0]["waitingFor"]),
        (&json!(1), &json!("somebody to resume it"))
    );

    let database = server.database.clone();
    front.stop().await;
    server.stop().await;
    shop.pages.held.store(false, Ordering::SeqCst);
    let crawled = shop.crawled();
    let server = shop.server(|config| config.database.url = database).await;
    // Its workers had their chance once they have done another job.
    let other = Shop::open(1, false).await;
    let (_, refused) =
        server.post("/v1/jobs", &json!({ "shopUrl": other.base, "plan": "crawl", "maxProducts": 1 })).await;
    assert_eq!(server.ended(refused["id"].as_str().unwrap()).await["status"], "failed", "it is not allowed");
    assert_eq!((shop.crawled(), shop.captured().len()), (crawled, 0));
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.1["status"], "paused");

    let (status, resumed) = server.post(&format!("/api/automation/jobs/{id}/resume"), &json!({})).await;
    assert_eq!((status, &resumed["success"], &resumed["status"]), (200, &json!(true), &json!("crawling")));
    let ended = server.ended(&id).await;
    assert_eq!(
        (&ended["status"], &ended["stages"]["screenshot"]["done"]),
        (&json!("completed"), &json!(4)),
        "{ended}"
    );
    assert_eq!(shop.captured().values().copied().collect::<Vec<_>>(), [1, 1, 1, 1]);
    server.stop().await;
}

#[tokio::test]
async fn jobs_are_controlled_over_rest_and_watching_clients_see_it() {
    let server = Running::quiet().await;
    let body = json!({ "shopUrl": "https://shop.example.com/", "priority": 7 });
    let (_, job) = server.post("/v1/jobs", &body).await;
    assert_eq!(
        (&job["priority"], &job["owner"], &job["paused"]),
        (&json!(7), &json!("anonymous"), &json!(false))
    );
    let id = job["id"].as_str().unwrap();
    let mut client = RawClient::connect(&server.base).await;
    client.subscribe(id).await;
    let control = async |what: &str| {
        let (status, body) = server.post(&format!("/v1/jobs/{id}/{what}"), &json!({})).await;
        (status, body["status"].as_str().or(body["error"]["code"].as_str()).unwrap().to_owned())
    };
    assert_eq!(control("pause").await, (200, "paused".into()));
    assert_eq!(control("pause").await, (409, "job_paused".into()));
    assert_eq!(control("retry").await, (409, "nothing_to_retry".into()));
    assert_eq!(control("resume").await, (200, "pending".into()));
    assert_eq!(control("resume").await, (409, "job_not_paused".into()));
    let patch = async |body: Value| {
        answer(server.http.patch(server.url(&format!("/v1/jobs/{id}"))).json(&body).send().await.unwrap())
            .await
    };
    assert_eq!(patch(json!({ "priority": -100 })).await.1["priority"], -100);
    for bad in [json!({ "priority": 101 }), json!({ "priority": 1.5 }), json!({}), json!({ "prio": 1 })] {
        assert_eq!(patch(bad.clone()).await.0, 400, "{bad}");
    }
    let (status, refused) =
        answer(server.http.delete(server.url(&format!("/v1/jobs/{id}"))).send().await.unwrap()).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("job_at_work")));
    assert_eq!(control("cancel").await, (200, "cancelled".into()));
    for what in ["pause", "resume", "cancel"] {
        assert_eq!(control(what).await, (409, "job_ended".into()), "{what}");
    }

    let events = server.store().events(id.parse().unwrap(), 0, 100).await.unwrap();
    let told: Vec<(String, Value)> = events
        .iter()
        .map(|event| (event.kind.to_string(), serde_json::from_str(event.payload.get()).unwrap()))
        .collect();
    let words: Vec<&str> =
        told.iter().map(|(kind, payload)| payload["status"].as_str().unwrap_or(kind)).collect();
    assert_eq!(words, ["job:created", "paused", "pending", "pending", "job:failed"]);
    assert_eq!(told[1].1["currentStage"], "pending", "where it stands");
    for event in &events[1..] {
        assert_eq!(client.next_journaled().await.position(), event.position, "seen live");
    }
    server.stop().await;
}

#[tokio::test]
async fn jobs_are_controlled_over_sockets_with_acknowledgements() {
    let server = Running::quiet().await;
    let id = planned_job(server.store()).await;
    let mut client = RawClient::connect(&server.base).await;
    let mut say = async |what: &str| client.call(json!([what, id.to_string()])).await;
    assert_eq!(say("job:pause").await, json!({ "ok": true, "status": "paused" }));
    assert_eq!(say("job:pause").await["error"]["code"], "job_paused");
    assert_eq!(say("job:resume").await, json!({ "ok": true, "status": "pending" }));
    assert_eq!(say("job:retry").await["error"]["code"], "nothing_to_retry");
    assert_eq!(say("job:cancel").await, json!({ "ok": true, "status": "cancelled" }));
    assert_eq!(say("job:cancel").await["error"]["code"], "job_ended");
    // Its crawl was never done: that is what a new job does.
    let retried = say("job:retry").await;
    assert_eq!((&retried["ok"], &retried["status"]), (&json!(true), &json!("pending")));
    let new = server.store().job(retried["jobId"].as_str().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(new.retry_of, Some(id));
    assert_eq!(say("job:retry").await["error"]["code"], "already_retried");
    let bad = client.call(json!(["job:pause", 5])).await;
    assert_eq!(bad["error"]["code"], "malformed_id");
    server.stop().await;
}

/// A job in its reading phase: of two captured pages one is waiting to be read, of a third the capture failed.
async fn job_with_a_failed_page(store: &Store) -> (JobId, Vec<Uuid>) {
    let job = planned_job(store).await;
    let crawl = claim(store, Stage::Crawl).await.remove(0);
    let url = |n: i32| format!("https://shop.example.com/{n}");
    let page = |n: i32| {
        let id = job.derive("screenshot", &url(n));
        NewTask::new(Stage::Screenshot, n, id, &json!({ "url": url(n), "facts": {} })).unwrap()
    };
    let start =
        Change { commands: vec![Command::Start], tasks: (0..3).map(page).collect(), ..Change::default() };
    store.change(job, Some((&crawl.lease, Settle::Done)), start).await.unwrap();
    let mut shots = Vec::new();
    for task in claim(store, Stage::Screenshot).await {
        let id = task.lease.task;
        if task.ordinal == 1 {
            let settle = Settle::GiveUp("page 1 answers 500".into());
            store.change(job, Some((&task.lease, settle)), Change::default()).await.unwrap();
            continue;
        }
        shots.push(id);
        let row = ScreenshotRow {
            id,
            ordinal: task.ordinal,
            product_url: url(task.ordinal),
            product_name: None,
            image_key: format!("jobs/{job}/screenshots/{id}.png"),
            thumbnail_key: format!("jobs/{job}/screenshots/{id}.png"),
            width: 1,
            height: 1,
            file_size: 1,
            complete: true,
            page_facts: json!({}),
            layout_type: "unknown".into(),
            page_title: String::new(),
        };
        let read = json!({ "screenshot_id": id });
        let next = NewTask::new(Stage::Ocr, task.ordinal, job.derive("ocr", &id.to_string()), &read).unwrap();
        let change = Change { rows: vec![Row::Screenshot(row)], tasks: vec![next], ..Change::default() };
        store.change(job, Some((&task.lease, Settle::Done)), change).await.unwrap();
    }
    (job, shots)
}

fn unread(id: Uuid, screenshot_id: Uuid, error: Option<&str>) -> Row {
    let row = OcrRow {
        id,
        screenshot_id,
        ordinal: 0,
        confidence: 0.0,
        full_text: String::new(),
        reading: json!({}),
        facts: json!({}),
        disagreements: json!([]),
        error: error.map(str::to_owned),
    };
    Row::Ocr(row, json!([]))
}

#[tokio::test]
async fn failed_items_of_a_job_that_goes_on_are_tried_again_in_place() {
    let (store, _announcements) = store().await;
    let (job, shots) = job_with_a_failed_page(&store).await;
    let readings = claim(&store, Stage::Ocr).await;
    let (failed, open) = (&readings[0], &readings[1]);
    let settle = Settle::GiveUp("it is blank".into());
    let rows = vec![unread(failed.lease.task, shots[0], Some("it is blank"))];
    store.change(job, Some((&failed.lease, settle)), Change { rows, ..Change::default() }).await.unwrap();
    let before = store.job(job).await.unwrap().job;

    assert_eq!(store.retry(job).await.unwrap(), Retried::Same(Status::ProcessingOcr));
    assert_eq!(code(store.retry(job).await), Code::NothingToRetry);
    let after = store.job(job).await.unwrap().job;
    assert_eq!((after.tally(Stage::Screenshot).failed, after.tally(Stage::Ocr).failed), (0, 0));
    assert!(after.progress >= before.progress);
    assert_eq!((before.errors.len(), after.errors.len()), (2, 0), "what was said of them is no longer so");
    assert!(store.ocr_results(job).await.unwrap().is_empty(), "what was written of the failure is gone");
    let again = claim(&store, Stage::Screenshot).await;
    assert_eq!(again.iter().map(|task| (task.ordinal, task.attempt)).collect::<Vec<_>>(), [(1, 1)]);
    let read_again = claim(&store, Stage::Ocr).await;
    assert_eq!(read_again.iter().map(|task| task.lease.task).collect::<Vec<_>>(), [failed.lease.task]);

    // The phase waits for the page of the earlier one.
    for (task, shot) in [(&read_again[0], shots[0]), (open, shots[1])] {
        let rows = vec![unread(task.lease.task, shot, None)];
        store
            .change(job, Some((&task.lease, Settle::Done)), Change { rows, ..Change::default() })
            .await
            .unwrap();
    }
    assert_eq!(store.job(job).await.unwrap().job.status, Status::ProcessingOcr);
    store.change(job, Some((&again[0].lease, Settle::Done)), Change::default()).await.unwrap();
    assert!(
        store.job(job).await.unwrap().job.status.is_ended(),
        "nothing was matched, so nothing is left to do"
    );
}

#[tokio::test]
async fn a_retry_of_a_paused_job_waits_for_its_end_and_one_of_an_ended_job_does_what_is_left() {
    let (store, _announcements) = store().await;
    let (job, shots) = job_with_a_failed_page(&store).await;
    store.pause(job).await.unwrap();
    assert_eq!(store.retry(job).await.unwrap(), Retried::Same(Status::Paused));
    assert!(store.ready_stages().await.unwrap().is_empty());
    store.cancel(job).await.unwrap();
    let events = store.head(job).await.unwrap().seq;

    let Retried::New(new) = store.retry(job).await.unwrap() else { panic!("it has ended") };
    assert_eq!(store.head(job).await.unwrap().seq, events, "nothing is told of a job that has ended");
    let record = store.job(new).await.unwrap();
    assert_eq!((record.retry_of, record.slot, record.job.status), (Some(job), Slot::Has, Status::Pending));
    let tally = record.job.tally(Stage::Screenshot);
    assert_eq!((tally.total, tally.done, tally.failed), (3, 2, 0));
    assert_eq!(record.job.tally(Stage::Crawl).done, 1);
    let copies = store.screenshots(new).await.unwrap();
    assert_eq!(copies.iter().map(|row| row.ordinal).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(copies[0].image_key, format!("jobs/{job}/screenshots/{}.png", shots[0]), "the same object");

    // Phase by phase: the page first, then its reading and those that were not come to.
    assert!(claim(&store, Stage::Crawl).await.is_empty() && claim(&store, Stage::Ocr).await.is_empty());
    let page = claim(&store, Stage::Screenshot).await.remove(0);
    assert!(page.begins);
    assert_eq!((page.lease.job, page.ordinal), (new, 1));
    assert_eq!(page.lease.task, new.derive("screenshot", "https://shop.example.com/1"));
    store.change(new, Some((&page.lease, Settle::Done)), Change::default()).await.unwrap();
    let readings = claim(&store, Stage::Ocr).await;
    let read: Vec<Value> = readings.iter().map(|task| task.payload["screenshot_id"].clone()).collect();
    assert_eq!(read, [json!(copies[0].id), json!(copies[1].id)], "they name the copies");
}

#[tokio::test]
async fn requests_that_come_at_once_under_one_key_make_one_job() {
    let (store, _announcements) = store().await;
    let key = |request: &str| OnceKey { key: "k".into(), request: request.into() };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        asking.spawn(async move {
            store.submit_once(request(), ANONYMOUS, &LIMITS, Some(&key("a"))).await.unwrap()
        });
    }
    let made = asking.join_all().await;
    assert!(made.iter().all(|submitted| submitted.job == made[0].job));
    assert_eq!(made.iter().filter(|submitted| !submitted.replayed).count(), 1);
    assert_eq!(
        code(store.submit_once(request(), ANONYMOUS, &LIMITS, Some(&key("b"))).await),
        Code::KeyReused
    );
    assert_eq!(store.forget_keys().await.unwrap(), 0);
    // With the job its key goes.
    store.cancel(made[0].job).await.unwrap();
    store.remove(made[0].job).await.unwrap();
    assert!(!store.submit_once(request(), ANONYMOUS, &LIMITS, Some(&key("b"))).await.unwrap().replayed);
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_was() {
    let server = Running::quiet().await;
    let post = async |path: &str, header: &str, key: &str, body: &Value| {
        let request = server.http.post(server.url(path)).header(header, key).json(body);
        let response = request.send().await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let (status, body) = answer(response).await;
        (status, replayed, body)
    };
    let body = json!({ "shopUrl": "https://shop.example.com/", "name": "once" });
    let (status, replayed, first) = post("/v1/jobs", "idempotency-key", "one", &body).await;
    assert_eq!((status, replayed), (201, false));
    let again = post("/v1/jobs", "x-idempotency-key", "one", &body).await;
    assert_eq!(again, (201, true, first));
    let other = json!({ "shopUrl": "https://shop.example.com/", "name": "twice" });
    let (status, _, refused) = post("/v1/jobs", "idempotency-key", "one", &other).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("idempotency_key_reused")));
    let long = "x".repeat(300);
    assert_eq!(post("/v1/jobs", "idempotency-key", &long, &body).await.0, 400);

    let start = "/api/automation/start-simple";
    let fields = json!({ "shopUrl": "https://shop.example.com/", "templateId": "standard-label",
                         "excelData": [{ "articleNumber": "4712", "productName": "Bolzen", "price": 3 }] });
    let (status, replayed, first) = post(start, "idempotency-key", "two", &fields).await;
    assert_eq!((status, replayed), (200, false), "{first}");
    assert_eq!(post(start, "idempotency-key", "two", &fields).await, (200, true, first));
    let (status, _, refused) = post(start, "idempotency-key", "one", &fields).await;
    assert_eq!((status, refused["error"].is_string()), (409, true), "the key is that of another request");
    assert_eq!(server.get("/v1/jobs").await.1["total"], 2);

    // The same request many times at once: whoever comes second leaves no price list behind.
    let fields = json!({ "shopUrl": "https://shop.example.com/", "templateId": "standard-label", "name": "many",
                         "excelData": [{ "articleNumber": "4713", "productName": "Mutter", "price": 1 }] });
    let asked = (0..6).map(|_| post(start, "idempotency-key", "three", &fields));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|(status, _, body)| *status == 200 && body["jobId"] == answers[0].2["jobId"]));
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    let mut database = PgConnection::connect(&server.database).await.unwrap();
    let lists = "SELECT count(*) FROM excel_imports WHERE id NOT IN (SELECT import_id FROM jobs WHERE import_id IS NOT NULL)";
    assert_eq!(sqlx::query_scalar::<_, i64>(lists).fetch_one(&mut database).await.unwrap(), 0);
    let listed = "SELECT count(*) FROM products WHERE article_number = '4713' AND import_id IS NOT NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(listed).fetch_one(&mut database).await.unwrap(), 1);
    server.stop().await;
}

fn hourly(overlap: Overlap) -> NewSchedule {
    NewSchedule {
        owner: ANONYMOUS.into(),
        name: "hourly".into(),
        cron: "0 * * * *".into(),
        timezone: "Europe/Berlin".into(),
        job: request(),
        enabled: true,
        overlap,
    }
}

#[tokio::test]
async fn each_due_run_makes_one_job_however_many_servers_look_and_missed_ones_are_made_up_for_by_one() {
    let options = database().await;
    let (one, mut told) = Store::open(options.clone(), &config().database).await.unwrap();
    let (other, _announcements) = Store::open(options, &config().database).await.unwrap();
    one.put_templates(&jobcast::pipeline::Context::builtin_templates()).await.unwrap();
    let schedule = one.create_schedule(hourly(Overlap::Queue), &LIMITS).await.unwrap();
    let due = schedule.next_run.unwrap();
    assert!(one.run_due(due - TimeDelta::seconds(1), &LIMITS).await.unwrap().is_empty());
    // Ten hours late.
    let late = due + TimeDelta::hours(10);
    let mut looking = tokio::task::JoinSet::new();
    for store in [&one, &other, &one, &other] {
        let store = store.clone();
        looking.spawn(async move { store.run_due(late, &LIMITS).await.unwrap() });
    }
    let made: Vec<JobId> = looking.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    assert!(one.run_due(late, &LIMITS).await.unwrap().is_empty());
    let after = one.schedule(schedule.id).await.unwrap();
    assert_eq!((after.runs, after.next_run), (1, Some(due + TimeDelta::hours(11))));
    assert_eq!(one.job(made[0]).await.unwrap().schedule_id, Some(schedule.id));

    // The next one waits for the end of this one, and no other schedule's does.
    let second = one.run_due(due + TimeDelta::hours(11), &LIMITS).await.unwrap();
    assert_eq!(one.job(second[0]).await.unwrap().slot, Slot::Waits);
    let other_one = one.create_schedule(hourly(Overlap::Skip), &LIMITS).await.unwrap();
    let third = one.run_schedule(other_one.id, &LIMITS).await.unwrap();
    assert_eq!(one.job(third).await.unwrap().slot, Slot::Has);
    one.cancel(made[0]).await.unwrap();
    assert_eq!(one.job(second[0]).await.unwrap().slot, Slot::Has);
    assert!(
        one.run_due(due + TimeDelta::hours(12), &LIMITS).await.unwrap().len() == 1,
        "one queues, one skips"
    );
    let notices = std::iter::from_fn(|| told.try_recv().ok()).filter_map(|told| match told {
        Announcement::Transient(notice) if notice.kind == Kind::SystemNotification => Some(notice),
        _ => None,
    });
    let notices: Vec<Value> =
        notices.map(|notice| serde_json::from_str(notice.payload.get()).unwrap()).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(
        (&notices[0]["type"], &notices[0]["details"]["scheduleId"]),
        (&json!("warning"), &json!(other_one.id))
    );
    assert!(notices[0]["message"].as_str().unwrap().contains("“hourly” is left out, for an earlier run"));
    let skipped = one.schedule(other_one.id).await.unwrap();
    assert!(skipped.last_skipped_at.is_some() && skipped.runs == 1);
    one.remove_schedule(schedule.id).await.unwrap();
    assert_eq!(one.job(made[0]).await.unwrap().schedule_id, None, "the jobs stay");
}

#[tokio::test]
async fn a_scheduled_job_that_is_refused_says_why_and_the_schedule_goes_on() {
    let (store, _announcements) = store().await;
    let schedule = store.create_schedule(hourly(Overlap::Skip), &LIMITS).await.unwrap();
    let job = JobRequest { max_products: Some(90), ..request() };
    let change = ScheduleChange { job: Some(job), ..ScheduleChange::default() };
    store.change_schedule(schedule.id, change, &LIMITS).await.unwrap();
    let strict = RequestLimits { max_products: 50, ..LIMITS };
    let due = schedule.next_run.unwrap();
    assert!(store.run_due(due, &strict).await.unwrap().is_empty());
    let after = store.schedule(schedule.id).await.unwrap();
    assert!(after.last_error.unwrap().contains("from 1 to 50"));
    assert_eq!(after.next_run, Some(due + TimeDelta::hours(1)));
    let off = ScheduleChange { enabled: Some(false), ..ScheduleChange::default() };
    assert_eq!(store.change_schedule(schedule.id, off, &LIMITS).await.unwrap().next_run, None);
    assert!(store.run_due(due + TimeDelta::days(9), &LIMITS).await.unwrap().is_empty());
}

#[tokio::test]
async fn schedules_are_made_shown_changed_run_and_removed_over_rest() {
    let server = Running::quiet().await;
    let body = json!({ "name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
                       "job": { "shopUrl": "https://shop.example.com/", "priority": 3 } });
    let (status, made) = server.post("/v1/schedules", &body).await;
    assert_eq!((status, &made["enabled"], &made["overlap"]), (201, &json!(true), &json!("skip")), "{made}");
    assert_eq!((made["nextRuns"].as_array().unwrap().len(), &made["nextRuns"][0]), (5, &made["nextRun"]));
    assert!(made["nextRun"].as_str().unwrap() > &*jobcast::event::format_timestamp(Utc::now()));
    let path = format!("/v1/schedules/{}", made["id"].as_str().unwrap());
    assert_eq!(server.get("/v1/schedules").await.1["schedules"][0], made);
    let (status, job) = server.post(&format!("{path}/run"), &json!({})).await;
    assert_eq!((status, &job["scheduleId"], &job["priority"]), (201, &made["id"], &json!(3)));
    let patch = async |body: Value| {
        answer(server.http.patch(server.url(&path)).json(&body).send().await.unwrap()).await
    };
    let (status, changed) = patch(json!({ "cron": "0 4 * * 1", "overlap": "queue", "enabled": false })).await;
    assert_eq!((status, &changed["overlap"], &changed["nextRun"]), (200, &json!("queue"), &Value::Null));
    assert_eq!((&changed["name"], &changed["runs"]), (&json!("nightly"), &json!(1)));
    for bad in [
        json!({ "cron": "* * * * *" }),
        json!({ "cron": "nonsense" }),
        json!({ "timezone": "Mars/Olympus" }),
        json!({ "name": "" }),
        json!({ "name": "a\u{0}" }),
        json!({ "overlap": "both" }),
        json!({ "job": { "shopUrl": "shop" } }),
        json!({ "job": { "shopUrl": "https://a.example/\u{0}" } }),
        json!({ "what": 1 }),
    ] {
        let (status, refused) = patch(bad.clone()).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_request")), "{bad}");
    }
    assert_eq!(server.http.delete(server.url(&path)).send().await.unwrap().status(), 204);
    for unknown in [path.as_str(), "/v1/schedules/5", "/v1/schedules/%00"] {
        let (status, refused) = server.get(unknown).await;
        assert_eq!((status, &refused["error"]["code"]), (404, &json!("schedule_not_found")), "{unknown}");
    }
    server.stop().await;
}

#[tokio::test]
async fn old_jobs_go_with_their_objects_and_what_a_dead_process_left_goes_later() {
    let (store, _announcements) = store().await;
    let place = folder();
    let public = "http://jobs.example.com/".parse().unwrap();
    let blobs = Blobs::open(&config().objects, place.path(), &public).unwrap();
    let id = JobId(Uuid::now_v7());
    store.create(NewJob::unplanned(id, JobType::Crawl, "old")).await.unwrap();
    let key = format!("jobs/{id}/screenshots/a.png");
    let picture = blobs.put(key.clone(), "png".into(), "image/png").await.unwrap();
    store.change(id, None, Change { rows: vec![Row::Artifact(picture)], ..Change::default() }).await.unwrap();
    // A worker stored this one, and its job ended before it could tell.
    blobs.put(format!("jobs/{id}/screenshots/b.png"), "png".into(), "image/png").await.unwrap();
    let open = planned_job(&store).await;
    store.cancel(id).await.unwrap();
    assert_eq!(store.forget_jobs(Duration::from_secs(3600)).await.unwrap(), 0, "it ended just now");
    assert_eq!(store.forget_jobs(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(code(store.job(id).await), Code::JobNotFound);
    assert!(store.job(open).await.is_ok());
    // The process dies here; another one finds the list.
    assert_eq!(files_below(place.path()).len(), 2);
    assert_eq!(store.delete_objects(&blobs).await.unwrap(), 2);
    assert_eq!(files_below(place.path()), Vec::<PathBuf>::new());
    assert_eq!(store.delete_objects(&blobs).await.unwrap(), 0);
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_says_so() {
    let mut config = quiet_config();
    config.pipeline.jobs_per_owner = 1;
    let server = Running::start(config).await;
    let body = json!({ "shopUrl": "https://shop.example.com/" });
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(server.post("/v1/jobs", &body).await.1);
    }
    assert_eq!((&jobs[0]["waitingFor"], &jobs[0]["queuePosition"]), (&Value::Null, &Value::Null));
    assert!(jobs[1]["waitingFor"].as_str().unwrap().contains("turn"));
    assert_eq!((&jobs[1]["queuePosition"], &jobs[2]["queuePosition"]), (&json!(1), &json!(2)));
    let (_, list) = server.get("/v1/jobs").await;
    assert_eq!(list["jobs"][0]["queuePosition"], 2);
    let first = jobs[0]["id"].as_str().unwrap();
    server.post(&format!("/v1/jobs/{first}/cancel"), &json!({})).await;
    let second = format!("/v1/jobs/{}", jobs[1]["id"].as_str().unwrap());
    wait_for("its turn", async || server.get(&second).await.1["waitingFor"].is_null().then_some(())).await;
    server.stop().await;
}
