//! The routes over a real database: what a page sends, and what it finds in the answers.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, atomic::AtomicBool},
};

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tower::ServiceExt as _;
use url::Url;
use uuid::Uuid;

use crate::{
    config::Config,
    event::{
        Event, LabelGenerated, MatchFailed, MatchFound, MatchType, OcrCompleted, OcrData, ScreenshotCaptured,
    },
    http::{self, Api, Caller, Live, Numbers, Pictures},
    identity::Identity,
    job::{Command, JobId, Principal, RequestLimits, Stage, Status},
    realtime::hub::Hub,
    store::{
        Blobs, Change, LabelRow, MatchRow, OcrRow, Row, ScreenshotRow, Store, Template,
        embedded::{Durability, Postgres},
    },
};

const SHOP: &str = "https://shop.example.com/";

/// Native and dialect routes together, as the server has them, over a database of their own.
struct House {
    router: Router,
    store: Store,
    blobs: Blobs,
    _stream: AbortOnDropHandle<()>,
    _postgres: Postgres,
    _folder: tempfile::TempDir,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    // The database runs as another user when the tests run as root.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = Config::defaults();
    let postgres = Postgres::start(folder.path(), "postgres", Durability::Throwaway).await.unwrap();
    let (store, announcements) = Store::open(postgres.options(), &config.database).await.unwrap();
    let template = Template {
        id: "standard-label".into(),
        name: "Standard Label".into(),
        width_mm: 70.0,
        height_mm: 37.0,
        dpi: 300,
        description: None,
        kind: "svg".into(),
        source: "<svg xmlns='http://www.w3.org/2000/svg'/>".into(),
        built_in: true,
        auto_match: false,
        created_at: chrono::Utc::now(),
        updated_at: chrono::Utc::now(),
    };
    store.put_templates(&[template]).await.unwrap();
    let public = Url::parse("http://jobs.example.com/").unwrap();
    let blobs = Blobs::open(&config.objects, folder.path(), &public).unwrap();
    let (identity, _) = Identity::start(store.clone(), &config.auth).await.unwrap();
    let (hub, stream) = Hub::start(store.clone(), announcements, &config.realtime).await.unwrap();
    let api = Api {
        public_base: "http://127.0.0.1:3001".into(),
        label_list: config.server.label_list,
        store: store.clone(),
        blobs: blobs.clone(),
        identity,
        auth: Arc::new(config.auth.clone()),
        pictures: Pictures::new(store.clone(), blobs.clone(), &config.objects),
        limits: RequestLimits { max_products: 100, match_threshold: 0.6 },
        company_workers: 8,
        max_upload: 100_000,
        max_artifact: 100_000,
        ocr_wait: config.ocr.wait,
        max_age: config.objects.max_age,
        ready: Arc::new(AtomicBool::new(true)),
        live: Live::new(hub.clone(), CancellationToken::new(), &config),
        numbers: Numbers::new(store.clone(), hub, config.metrics.access, &public, Arc::new(|| {})),
        page: http::Page::new(blobs.addresses()),
        demo_shop: None,
        contracts: http::Contracts::open(&public, &[], "".as_ref()).unwrap(),
        webhooks: http::Webhooks {
            check: Arc::new(|_| Box::pin(std::future::ready(Ok(())))),
            ping: Arc::new(|_| Box::pin(std::future::ready(None))),
            message_id: |_, _| String::new(),
            max_per_owner: 1,
            secret_overlap: config.webhooks.secret_overlap,
        },
        look: None,
    };
    let anybody = Extension(Caller(Principal::anonymous()));
    let router = http::described(http::routes().merge(super::routes())).with_state(api).layer(anybody);
    House { router, store, blobs, _stream: stream, _postgres: postgres, _folder: folder }
}

impl House {
    async fn send(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    async fn json(&self, request: Request<Body>) -> (u16, Value) {
        let (status, body) = self.send(request).await;
        let value = serde_json::from_slice(&body);
        (status.as_u16(), value.unwrap_or_else(|_| panic!("{status} {}", String::from_utf8_lossy(&body))))
    }

    async fn call(&self, method: Method, path: &str) -> (u16, Value) {
        self.json(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: impl ToString) -> (u16, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.json(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Starts a job by a form; a part is a name, a file name if it is a file, and its content.
    async fn upload(&self, parts: &[(&str, Option<&str>, &str)]) -> (u16, Value) {
        let mut body = String::new();
        for (name, file, content) in parts {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            body += &format!(
                "--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n"
            );
        }
        body += "--XX--\r\n";
        let request = Request::post("/api/automation/start")
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=XX")
            .body(Body::from(body));
        self.json(request.unwrap()).await
    }

    async fn start(&self, body: Value) -> JobId {
        let (status, answer) = self.post("/api/automation/start-simple", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["jobId"].as_str().unwrap().parse().unwrap()
    }

    async fn change(&self, job: JobId, change: Change) -> Status {
        self.store.change(job, None, change).await.unwrap().status
    }

    /// The products of a job's price list.
    async fn listed(&self, job: JobId) -> Vec<(String, Option<f64>)> {
        let import =
            self.store.job(job).await.unwrap().config.unwrap().import_id.expect("a price list came along");
        let products = self.store.stored_import(import).await.unwrap().unwrap().products;
        products.into_iter().map(|product| (product.article_number, product.price)).collect()
    }
}

fn wish() -> Value {
    json!({ "shopUrl": SHOP, "templateId": "standard-label", "maxProducts": 3, "followPagination": false })
}

#[tokio::test]
async fn the_acceptance_conversation_is_six_events_in_their_order() {
    let house = house().await;
    let (status, answer) = house.post("/api/test-websocket/run", "").await;
    assert_eq!(status, 200, "{answer}");
    let all = json!({
        "jobCreated": true, "screenshotCreated": true, "ocrCreated": true, "jobUpdated": true, "jobCompleted": true,
    });
    assert_eq!((&answer["success"], &answer["results"]), (&json!(true), &all));

    let job: JobId = answer["jobId"].as_str().unwrap().parse().unwrap();
    let events = house.store.events(job, 0, 100).await.unwrap();
    let told: Vec<(String, Value)> =
        events.iter().map(|e| (e.kind.to_string(), serde_json::from_str(e.payload.get()).unwrap())).collect();
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "job:created",
            "screenshot:captured",
            "job:updated",
            "ocr:completed",
            "job:updated",
            "job:completed"
        ]
    );
    assert_eq!((&told[0].1["jobType"], &told[0].1["name"]), (&json!("crawl"), &json!("WebSocket Test Job")));
    for (at, status) in [(2, "running"), (4, "completed")] {
        let fields: Vec<&String> = told[at].1.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["jobId", "timestamp", "status"]);
        assert_eq!(told[at].1["status"], status);
    }
    let data = json!({ "articleNumber": "TEST-123", "price": 29.99, "productName": "Test Product", "confidence": 95.5 });
    assert_eq!((&told[3].1["data"], &told[3].1["ocrResultId"]), (&data, &answer["ocrResultId"]));
    let results = &told[5].1["results"];
    assert_eq!((&results["id"], &results["status"]), (&answer["jobId"], &json!("completed")));
    assert!(
        results["startedAt"].is_string() && results["completedAt"].is_string() && results["error"].is_null()
    );

    // The picture that the event names is there.
    let url = told[1].1["url"].as_str().unwrap().strip_prefix("http://jobs.example.com").unwrap();
    let (status, png) = house.send(Request::get(url).body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(image::load_from_memory(&png).unwrap().width(), 480);

    // And a page that polls finds what the events told.
    let polled = house.get(&format!("/api/automation/jobs/{job}")).await;
    let shot = &polled["job"]["results"]["screenshots"][0];
    for field in ["screenshotId", "url", "thumbnailUrl", "productUrl", "productName"] {
        assert_eq!(shot[field], told[1].1[field], "{field}");
    }
    assert_eq!(polled["job"]["results"]["ocrResults"][0]["data"], data);
    assert_eq!(polled["job"]["progress"]["currentStep"], "completed");
}

#[tokio::test]
async fn a_job_is_started_looked_at_cancelled_and_removed() {
    let house = house().await;
    let (status, started) = house.post("/api/automation/start-simple", wish()).await;
    assert_eq!(status, 200, "{started}");
    assert_eq!((&started["success"], &started["data"]["jobId"]), (&json!(true), &started["jobId"]));
    assert_eq!((&started["job"]["status"], &started["data"]["job"]), (&json!("pending"), &started["job"]));
    let path = format!("/api/automation/jobs/{}", started["jobId"].as_str().unwrap());

    let polled = house.get(&path).await;
    let job = &polled["job"];
    assert_eq!(polled["data"]["job"], *job);
    assert!(job["name"].as_str().unwrap().starts_with("Automation 2"), "{job}");
    assert_eq!(job["config"]["crawlerConfig"], json!({ "maxProducts": 3, "followPagination": false }));
    assert_eq!(job["results"]["screenshots"], json!([]));
    assert!(
        !job.as_object().unwrap().contains_key("completedAt")
            && !job.as_object().unwrap().contains_key("error")
    );

    let list = house.get("/api/automation/jobs").await;
    assert_eq!((&list["count"], &list["jobs"][0]["id"]), (&json!(1), &started["jobId"]));
    assert_eq!(list["jobs"][0]["summary"], job["results"]["summary"]);
    let progress = house.get(&format!("{path}/progress")).await;
    assert_eq!(
        (&progress["status"], &progress["progress"]["currentStep"]),
        (&json!("pending"), &json!("pending"))
    );
    assert_eq!(house.get(&format!("{path}/labels")).await["count"], 0);
    assert_eq!(house.get("/api/automation/stats").await["stats"]["activeJobs"], 1);
    assert_eq!(house.get("/api/health").await["pending_tasks"], 1);

    let cancel = format!("{path}/cancel");
    assert_eq!(house.post(&cancel, "").await.0, 200);
    let job = house.get(&path).await["job"].take();
    assert_eq!((&job["status"], &job["error"]), (&json!("failed"), &json!("Job cancelled by user")));
    assert!(job["completedAt"].is_string());
    let again = house.post(&cancel, "").await;
    assert_eq!(again, (404, json!({ "error": "Job not found or already completed" })));

    assert_eq!(house.call(Method::DELETE, &path).await.0, 200);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(house.call(method, &path).await, (404, json!({ "error": "Job not found" })));
    }
}

#[tokio::test]
async fn a_poll_carries_the_fields_of_the_events() {
    let house = house().await;
    let job = house.start(wish()).await;
    let path = format!("/api/automation/jobs/{job}");
    let (shot, unread_shot) = (Uuid::new_v4(), Uuid::new_v4());
    let (reading, unread) = (Uuid::new_v4(), Uuid::new_v4());
    let (found, unfound, label) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let facts = json!({ "articleNumber": "4711", "name": "Klemme", "price": 2.5,
                        "tiers": [{ "minQuantity": 10, "price": 2.0 }] });

    let mut rows = Vec::new();
    for (ordinal, id, name) in [(0, shot, Some("Klemme")), (1, unread_shot, None)] {
        let key = format!("jobs/{job}/screenshots/{id}.png");
        rows.push(Row::Artifact(house.blobs.put(key.clone(), "png".into(), "image/png").await.unwrap()));
        rows.push(Row::Screenshot(ScreenshotRow {
            id,
            ordinal,
            product_url: format!("{SHOP}product-{ordinal}"),
            product_name: name.map(str::to_owned),
            image_key: key.clone(),
            thumbnail_key: key,
            width: 1,
            height: 1,
            file_size: 3,
            complete: true,
            page_facts: json!({}),
            layout_type: "unknown".into(),
            page_title: String::new(),
        }));
    }
    let captured = ScreenshotCaptured {
        screenshot_id: shot,
        url: house.blobs.address(&format!("jobs/{job}/screenshots/{shot}.png")),
        product_url: format!("{SHOP}product-0"),
        thumbnail_url: Some(house.blobs.address(&format!("jobs/{job}/screenshots/{shot}.png"))),
        product_name: Some("Klemme".into()),
    };
    let add = |stage, items| Command::Add { stage, items };
    let done = |stage| Command::Done { stage };
    let commands = vec![
        Command::Start,
        add(Stage::Screenshot, 2),
        add(Stage::Ocr, 2),
        done(Stage::Screenshot),
        done(Stage::Screenshot),
        done(Stage::Crawl),
    ];
    let change = Change { rows, events: vec![captured.into()], commands, ..Change::default() };
    assert_eq!(house.change(job, change).await, Status::ProcessingOcr);
    let polled = house.get(&path).await["job"].take();
    assert_eq!(
        (&polled["status"], &polled["progress"]["currentStep"]),
        (&json!("processing-ocr"), &json!("processing-ocr"))
    );

    let ocr = |id, screenshot_id, ordinal, facts: &Value, error: Option<&str>| OcrRow {
        id,
        screenshot_id,
        ordinal,
        confidence: if error.is_some() { 0.0 } else { 91.26 },
        full_text: String::new(),
        reading: json!({}),
        facts: facts.clone(),
        disagreements: json!([]),
        error: error.map(str::to_owned),
    };
    let data = OcrData {
        article_number: Some("4711".into()),
        price: Some(2.5),
        product_name: Some("Klemme".into()),
        confidence: 91.3,
    };
    let read = OcrCompleted { screenshot_id: shot, ocr_result_id: reading, data };
    let match_row = |id, ocr_result_id, ordinal, listed: Option<&Value>| MatchRow {
        id,
        ocr_result_id,
        ordinal,
        success: listed.is_some(),
        match_type: listed.map(|_| "exact".into()),
        matched_by: listed.map(|_| "articleNumber".into()),
        score: if listed.is_some() { 1.0 } else { 0.2 },
        listed: listed.cloned(),
        warnings: json!([]),
        reason: listed.is_none().then(|| "no listed product is like it".into()),
    };
    let matched = MatchFound {
        ocr_result_id: reading,
        match_id: found,
        match_type: MatchType::Exact,
        confidence: 1.0,
        article_number: "4711".into(),
    };
    let unmatched = MatchFailed {
        ocr_result_id: unread,
        reason: "no listed product is like it".into(),
        article_number: None,
    };
    let key = format!("jobs/{job}/labels/{label}.png");
    let picture = house.blobs.put(key.clone(), "label".into(), "image/png").await.unwrap();
    let generated = LabelGenerated {
        label_id: label,
        image_url: house.blobs.address(&key),
        article_number: "4711".into(),
    };
    let label_row = |id, ordinal, image_key: Option<String>, error: Option<&str>| LabelRow {
        id,
        match_id: found,
        template_id: "standard-label".into(),
        ordinal,
        article_number: "4711".into(),
        facts: facts.clone(),
        image_key,
        pdf_key: None,
        width: Some(1),
        height: Some(1),
        file_size: Some(5),
        render_ms: Some(6),
        warnings: json!([]),
        error: error.map(str::to_owned),
        created_at: chrono::Utc::now(),
    };
    let events: Vec<Event> = vec![read.into(), matched.into(), unmatched.into(), generated.into()];
    let change = Change {
        rows: vec![
            Row::Ocr(ocr(reading, shot, 0, &facts, None), json!([])),
            Row::Ocr(ocr(unread, unread_shot, 1, &json!({}), Some("it is blank")), json!([])),
            Row::Match(match_row(found, reading, 0, Some(&facts))),
            Row::Match(match_row(unfound, unread, 1, None)),
            Row::Artifact(picture),
            Row::Label(label_row(label, 0, Some(key), None)),
            Row::Label(label_row(Uuid::new_v4(), 1, None, Some("the name is too long"))),
        ],
        events,
        commands: vec![
            add(Stage::Match, 1),
            add(Stage::Render, 1),
            done(Stage::Ocr),
            Command::GiveUp { stage: Stage::Ocr, why: "it is blank".into() },
            done(Stage::Match),
            done(Stage::Render),
        ],
        ..Change::default()
    };
    assert_eq!(house.change(job, change).await, Status::Completed);

    let polled = house.get(&path).await["job"].take();
    let results = &polled["results"];
    let told = house.store.events(job, 0, 100).await.unwrap();
    for (kind, list, item) in [
        ("screenshot:captured", "screenshots", 0),
        ("ocr:completed", "ocrResults", 0),
        ("match:found", "matchResults", 0),
        ("match:failed", "matchResults", 1),
        ("label:generated", "labels", 0),
    ] {
        let event = told.iter().find(|event| event.kind == kind).unwrap();
        let event: Value = serde_json::from_str(event.payload.get()).unwrap();
        for (field, value) in event.as_object().unwrap() {
            if field != "jobId" && field != "timestamp" {
                assert_eq!(results[list][item][field], *value, "{kind} {field}");
            }
        }
    }
    let completed: Value = serde_json::from_str(told.last().unwrap().payload.get()).unwrap();
    for (field, value) in completed["results"]["summary"].as_object().unwrap() {
        assert_eq!(results["summary"][field], *value, "{field}");
    }
    // The original shapes beside them.
    assert_eq!(results["screenshots"][0]["screenshotPath"], results["screenshots"][0]["url"]);
    assert_eq!(results["screenshots"][1].get("productName"), None);
    assert_eq!(results["ocrResults"][0]["productUrl"], format!("{SHOP}product-0"));
    assert_eq!(
        (&results["ocrResults"][1]["success"], &results["ocrResults"][1]["error"]),
        (&json!(false), &json!("it is blank"))
    );
    assert_eq!(results["matchResults"][0]["matchedData"]["productName"], "Klemme");
    assert_eq!(results["labels"][0]["productData"]["tieredPrices"][0]["minQuantity"], 10);

    let (status, png) =
        house.send(Request::get(format!("{path}/labels/0")).body(Body::empty()).unwrap()).await;
    assert_eq!((status, png.as_slice()), (StatusCode::OK, b"label".as_slice()));
    assert_eq!(
        house.call(Method::GET, &format!("{path}/labels/1")).await,
        (404, json!({ "error": "Label generation failed" }))
    );
    for index in ["2", "-1", "x"] {
        let missing = house.call(Method::GET, &format!("{path}/labels/{index}")).await;
        assert_eq!(missing, (404, json!({ "error": "Label not found" })));
    }

    // The addresses that the pages make up themselves.
    let folder = format!("/api/images/screenshots/{job}/4711");
    for (path, bytes) in [
        (format!("{folder}/screenshot.png"), "png"),
        (format!("{folder}/product-image.png"), "png"),
        (format!("{folder}/thumbnail.png"), "png"),
        (format!("/api/images/labels/{label}.png"), "label"),
    ] {
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let response = house.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/png");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=3600");
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), bytes, "{path}");
    }
    let listed = house.get(&format!("/api/images/list/{job}/4711")).await;
    let listed: Vec<_> =
        listed["images"].as_array().unwrap().iter().map(|image| &image["filename"]).collect();
    assert_eq!(listed, ["product-image.png", "screenshot.png", "thumbnail.png"]);
    let no_image = (404, json!({ "success": false, "error": "Image not found" }));
    for path in [
        format!("{folder}/title.png"),
        format!("{folder}/..%2f..%2fscreenshot.png"),
        format!("{folder}/%00"),
        format!("/api/images/screenshots/{job}/4712/screenshot.png"),
        format!("/api/images/screenshots/{job}/..%2f4711/screenshot.png"),
        "/api/images/screenshots/x/4711/screenshot.png".into(),
        format!("/api/images/labels/{label}.pdf"),
        format!("/api/images/labels/{}.png", Uuid::new_v4()),
        "/api/images/labels/..%2f..%2fx.png".into(),
    ] {
        assert_eq!(house.call(Method::GET, &path).await, no_image, "{path}");
    }
    let none = house.call(Method::GET, &format!("/api/images/list/{job}/4712")).await;
    assert_eq!(none, (404, json!({ "success": false, "error": "Images not found" })));

    // With the job its objects go.
    let key = format!("jobs/{job}/screenshots/{shot}.png");
    assert!(house.blobs.get(&key, None).await.is_ok());
    assert_eq!(house.call(Method::DELETE, &path).await.0, 200);
    assert!(house.blobs.get(&key, None).await.is_err());
}

#[tokio::test]
async fn a_price_list_comes_along_as_a_file_or_as_rows() {
    let house = house().await;
    let csv = "Artikelnummer;Beschreibung;Preis\n4711;Klemme;2,50\n;Namenlos;1\n";
    let (status, answer) = house
        .upload(&[
            ("shopUrl", None, SHOP),
            ("templateId", None, "standard-label"),
            ("config", None, r#"{"name":"Spring","crawlerConfig":{"maxProducts":7}}"#),
            ("excelFile", Some("liste.csv"), csv),
        ])
        .await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("unusable entries in the price list: 1"),
        "{answer}"
    );
    let job: JobId = answer["jobId"].as_str().unwrap().parse().unwrap();
    let record = house.store.job(job).await.unwrap();
    assert_eq!((record.job.name.as_str(), record.config.unwrap().max_products), ("Spring", 7));
    assert_eq!(house.listed(job).await, [("4711".to_owned(), Some(2.5))]);

    let mut fields = wish();
    fields["excelData"] = json!([{ "articleNumber": "4712", "productName": "Bolzen", "price": 3 }]);
    let job = house.start(fields).await;
    assert_eq!(house.listed(job).await, [("4712".to_owned(), Some(3.0))]);

    let fields = [("shopUrl", None, SHOP), ("templateId", None, "standard-label")];
    let refused = async |file: (&str, Option<&str>, &str)| house.upload(&[fields[0], fields[1], file]).await;
    for (name, content, says) in [
        ("liste.pdf", csv, "Only .xlsx"),
        ("liste.csv", "Artikelnummer;Beschreibung\n;x\n", "Artikelnummer fehlt"),
        ("liste.csv", "", "no headings"),
        ("liste.xlsx", "PK but no archive", "cannot be read"),
    ] {
        let (status, answer) = refused(("excelFile", Some(name), content)).await;
        assert_eq!((status, &answer["error"]), (400, &json!("Failed to parse Excel file")));
        assert!(answer["message"].as_str().unwrap().contains(says), "{answer}");
    }
    assert_eq!(refused(("other", Some("liste.csv"), csv)).await.0, 400);
    let large = "x".repeat(2_000_000);
    assert_eq!(refused(("excelFile", Some("liste.csv"), &large)).await.0, 413);
    // An empty file chooser is no file.
    let (status, answer) = refused(("excelFile", Some(""), "")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(house.get("/api/automation/jobs").await["count"], 3);
}

#[tokio::test]
async fn what_is_refused_is_refused_in_this_apis_shapes() {
    let house = house().await;
    let start = "/api/automation/start";
    for (body, says) in [
        (json!({ "templateId": "standard-label" }), "Shop URL is required"),
        (json!({ "shopUrl": SHOP }), "Template ID is required"),
        (json!({ "shopUrl": "shop", "templateId": "standard-label" }), "full one such as"),
        (json!({ "shopUrl": SHOP, "templateId": "nonesuch" }), "there are auto, standard-label"),
        (json!({ "shopUrl": SHOP, "templateId": "a\0" }), "U+0000"),
        (json!({ "shopUrl": SHOP, "templateId": "standard-label", "maxProducts": 101 }), "from 1 to 100"),
        (json!({ "shopUrl": SHOP, "templateId": "standard-label", "config": "{" }), "Invalid config JSON"),
        (json!([]), "must be a JSON object"),
    ] {
        let (status, answer) = house.post(start, &body).await;
        assert_eq!(status, 400, "{body} {answer}");
        assert!(answer["error"].as_str().unwrap().contains(says), "{answer}");
        assert_eq!(answer.get("success"), None);
    }
    let (status, answer) = house.post(start, "{").await;
    assert_eq!((status, answer["error"].is_string()), (400, true), "{answer}");
    let (status, answer) = house.post(start, format!("\"{}\"", "x".repeat(3_000_000))).await;
    assert_eq!((status, answer["error"].is_string()), (413, true), "{answer}");
    let text = Request::post(start).header(header::CONTENT_TYPE, "text/plain").body(Body::from("x")).unwrap();
    let (status, answer) = house.json(text).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("application/json"), "{answer}");

    let no_job = (404, json!({ "error": "Job not found" }));
    for id in ["1", "%ff", "00000000-0000-0000-0000-000000000000"] {
        for rest in ["", "/progress", "/labels"] {
            assert_eq!(house.call(Method::GET, &format!("/api/automation/jobs/{id}{rest}")).await, no_job);
        }
        let cancel = format!("/api/automation/jobs/{id}/cancel");
        assert_eq!(
            house.post(&cancel, "").await,
            (404, json!({ "error": "Job not found or already completed" }))
        );
        let label = format!("/api/automation/jobs/{id}/labels/0");
        assert_eq!(house.call(Method::GET, &label).await, (404, json!({ "error": "Label not found" })));
    }
    let no_route = (404, json!({ "success": false, "error": "Route not found" }));
    for path in ["/api", "/api/", "/api/nothing", "/api/automation/nothing", "/api/automation/jobs/1/2/3"] {
        for method in [Method::GET, Method::POST] {
            assert_eq!(house.call(method, path).await, no_route, "{path}");
        }
    }
    let (status, answer) = house.call(Method::PUT, "/api/automation/jobs").await;
    assert_eq!((status, answer), (405, json!({ "error": "/api/automation/jobs does not take PUT." })));
    let (status, answer) = house.call(Method::POST, "/api/health").await;
    assert_eq!((status, &answer["success"]), (405, &json!(false)));
    // The native API keeps its own shape.
    assert_eq!(house.get("/v1/jobs").await["total"], 0);
    assert_eq!(house.call(Method::GET, "/nothing").await.1["error"]["code"], "route_not_found");
}
