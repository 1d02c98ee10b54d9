//! Stock JavaScript clients of three major versions lose nothing: the real libraries, over real sockets.

use std::collections::HashSet;

use jobcast::{
    event::{
        Anything, ArtifactStored, CompanyFailed, CompanyFound, CompanyProgress, CompanyStarted, Event,
        JobLog, JobPatched, JobProgress, JobType, JobUpdated, Kind, LabelFailed, LabelGenerated, LogLevel,
        MatchFailed, MatchFound, MatchType, OcrCompleted, OcrData, OcrFailed, OcrProgress, OcrStarted,
        ScreenshotCaptured, ScreenshotUploaded,
    },
    job::{Command, JobId},
    store::{Change, NewJob, Store},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    stock_client::{Heard, Page, Stock},
    support::{Running, planned_job},
};

/// Each conversation below, with each client.
macro_rules! with_every_client {
    ($($conversation:ident)*) => { $(
        mod $conversation {
            use crate::stock_client::Stock;

            #[tokio::test(flavor = "multi_thread")]
            async fn v4() { super::$conversation(Stock::V4).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn v4_over_polling() { super::$conversation(Stock::V4_POLLING).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn v4_over_websocket() { super::$conversation(Stock::V4_WEBSOCKET).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn v3() { super::$conversation(Stock::V3).await }
            #[tokio::test(flavor = "multi_thread")]
            async fn v2() { super::$conversation(Stock::V2).await }
        }
    )* };
}

with_every_client! {
    every_event_of_the_catalogue_arrives_as_it_stands_in_the_journal
    a_subscription_inside_on_connect_is_never_lost
    subscriptions_are_answered_and_do_what_they_say
    a_burst_arrives_complete_and_in_order
}

fn update(message: impl Into<String>) -> Event {
    let message = Some(message.into());
    JobUpdated { status: "crawling".into(), progress: Some(25), current_stage: None, message }.into()
}

/// A job that ends when it is told to.
async fn unplanned_job(store: &Store, name: &str) -> JobId {
    let id = JobId(Uuid::now_v7());
    let new = NewJob::unplanned(id, JobType::Crawl, name);
    store.create(new).await.unwrap();
    id
}

/// Each event between a job's start and its end, in more than one shape where fields may be absent.
pub fn everything_that_may_happen() -> Vec<Event> {
    let id = |n| Uuid::from_u128(n);
    // What a transport or a parser might trip over.
    let text = "Bügel \"groß\" <b>€ 1.234,56</b> \u{1f3f7}\u{fe0f} \\ \u{2028} \u{1e} line\nbreak".to_owned();
    let url = || "https://cdn.example.com/a%20b.png?x=1&y=%C3%A4".to_owned();
    vec![
        JobUpdated { status: "crawling".into(), progress: None, current_stage: None, message: None }.into(),
        update(text.clone()),
        JobProgress {
            progress: 30,
            current_step: "crawling".into(),
            current_step_progress: Some(20),
            total_steps: Some(4),
            message: Some(text.clone()),
        }
        .into(),
        ScreenshotCaptured {
            screenshot_id: id(1),
            url: url(),
            product_url: url(),
            thumbnail_url: None,
            product_name: None,
        }
        .into(),
        ScreenshotCaptured {
            screenshot_id: id(2),
            url: url(),
            product_url: url(),
            thumbnail_url: Some(url()),
            product_name: Some(text.clone()),
        }
        .into(),
        ScreenshotUploaded { screenshot_id: id(2), image_url: url(), thumbnail_url: Some(url()) }.into(),
        OcrStarted { screenshot_id: id(2) }.into(),
        OcrProgress { screenshot_id: id(2), progress: 100 }.into(),
        OcrCompleted {
            screenshot_id: id(2),
            ocr_result_id: id(3),
            data: OcrData {
                article_number: Some("0012".into()),
                price: Some(1234.56),
                product_name: Some(text.clone()),
                confidence: 95.5,
            },
        }
        .into(),
        OcrFailed { screenshot_id: id(1), error: text.clone() }.into(),
        MatchFound {
            ocr_result_id: id(3),
            match_id: id(4),
            match_type: MatchType::Fuzzy,
            confidence: 0.875,
            article_number: "0012".into(),
        }
        .into(),
        MatchFailed { ocr_result_id: id(3), reason: text.clone(), article_number: None }.into(),
        LabelGenerated { label_id: id(5), image_url: url(), article_number: String::new() }.into(),
        LabelFailed { error: text.clone(), article_number: Some("0012".into()) }.into(),
        JobLog { level: LogLevel::Warning, message: text.clone(), source: Some("chunk 3".into()) }.into(),
        JobPatched { patch: Anything(json!({ "chunks": { "3": { "text": text.clone(), "error": null } } })) }
            .into(),
        ArtifactStored {
            name: "report 1.zip".into(),
            url: url(),
            content_type: "application/zip".into(),
            size: 1 << 40,
        }
        .into(),
        CompanyStarted { domain: "example.com".into(), worker: 1 }.into(),
        CompanyProgress { domain: "example.com".into(), worker: 1, progress: 50, page: url() }.into(),
        CompanyFound {
            company_id: id(6),
            domain: "example.com".into(),
            pages: 3,
            profile: Anything(json!({ "company_information": { "name": text.clone() } })),
            worker: Some(1),
        }
        .into(),
        CompanyFailed { domain: "example.org".into(), reason: text }.into(),
    ]
}

async fn every_event_of_the_catalogue_arrives_as_it_stands_in_the_journal(stock: Stock) {
    let server = Running::quiet().await;
    let store = server.store();
    let mut page = Page::open(stock, &server).await;
    let done = unplanned_job(store, "Größe „L“").await;
    let cancelled = planned_job(store).await;
    for job in [done, cancelled] {
        let answer = page.call(json!(["job:subscribe", job.to_string()])).await;
        assert_eq!(answer, json!({ "ok": true, "seq": 1, "status": "pending" }));
    }

    let happened = everything_that_may_happen();
    for event in &happened {
        if event.class().is_journaled() {
            store.append(done, vec![event.clone()]).await.unwrap();
        } else {
            store.tell(done, event.clone());
        }
    }
    let results = Some(json!({ "summary": { "totalProducts": 1, "labelsGenerated": 1 } }));
    let commands = vec![Command::Run, Command::Complete];
    store.change(done, None, Change { commands, results, ..Change::default() }).await.unwrap();
    store.cancel(cancelled).await.unwrap();

    let mut recorded = store.events(done, 0, 100).await.unwrap();
    recorded.extend(store.events(cancelled, 0, 100).await.unwrap());
    recorded.sort_by_key(|event| event.position);
    let expected: Vec<Heard> = recorded.iter().map(|event| Heard::of(event)).collect();
    let told = happened.iter().filter(|event| !event.class().is_journaled());
    let told: Vec<Event> = told.cloned().collect();

    let all = page.hear_many(expected.len() + told.len()).await;
    // Version 2 keeps the name "ping" to itself and sends nothing; there a refusal is the notification.
    let (message, severity) = match stock.version {
        2 => (json!(["job:subscribe", "nonsense"]), "error"),
        _ => (json!(["ping"]), "info"),
    };
    page.emit(message).await;
    let notification = page.hear().await;

    let (journaled, transient): (Vec<Heard>, Vec<Heard>) =
        all.iter().cloned().partition(|heard| heard.position.is_some());
    assert_eq!(journaled, expected);
    assert_eq!(transient.iter().map(Heard::decoded).collect::<Vec<_>>(), told);
    for heard in &transient {
        assert_eq!(heard.payload["jobId"], done.to_string());
        assert!(heard.payload["timestamp"].is_string());
    }
    // Progress is told between the events between which it was made.
    let places: Vec<usize> = (0..all.len()).filter(|place| all[*place].position.is_none()).collect();
    assert_eq!(places, [4, 9, 20]);
    assert_eq!((&*notification.name, &notification.position), ("system:notification", &None));
    assert_eq!(notification.payload["type"], severity);
    assert_eq!(notification.payload["message"] == "pong", severity == "info");

    let names: HashSet<&str> = all.iter().map(|heard| &*heard.name).chain([&*notification.name]).collect();
    assert_eq!(names, Kind::ALL.iter().map(|kind| kind.wire_name()).collect());
    page.settles_on_its_last_transport().await;
}

async fn a_subscription_inside_on_connect_is_never_lost(stock: Stock) {
    let server = Running::quiet().await;
    let store = server.store();
    let job = planned_job(store).await;
    let mut page = Page::start(stock, &server.base);
    for round in 0..12 {
        page.connect(&[json!(["job:subscribe", job.to_string()])]).await;
        // From here on the page is connected: whatever happens now it must hear.
        let head = store.head(job).await.unwrap().seq;
        for n in 0..3 {
            store.append(job, vec![update(format!("{round}.{n}"))]).await.unwrap();
        }
        let expected = store.events(job, head, 10).await.unwrap();
        let expected: Vec<Heard> = expected.iter().map(|event| Heard::of(event)).collect();
        assert_eq!(page.hear_many(3).await, expected, "{stock:?}");
        page.disconnect().await;
    }
    // One that subscribes late hears what happened since it connected, and nothing from before.
    page.connect(&[]).await;
    let head = store.head(job).await.unwrap().seq;
    store.append(job, vec![update("between connecting and subscribing")]).await.unwrap();
    page.emit(json!(["job:subscribe", job.to_string()])).await;
    let expected = store.events(job, head, 10).await.unwrap();
    assert_eq!(page.hear().await, Heard::of(&expected[0]));
}

async fn subscriptions_are_answered_and_do_what_they_say(stock: Stock) {
    let server = Running::quiet().await;
    let store = server.store();
    let (job, other, ended) = (planned_job(store).await, planned_job(store).await, planned_job(store).await);
    store.append(job, vec![update("1"), update("2")]).await.unwrap();
    let end = store.cancel(ended).await.unwrap().events;
    let mut page = Page::open(stock, &server).await;
    let text = |job: JobId| job.to_string();

    // Refusals, in an acknowledgement where one is wanted and as a notification elsewhere.
    let unknown = Uuid::now_v7().to_string();
    for (id, code) in [(json!(unknown), "job_not_found"), (json!("nonsense"), "malformed_id")] {
        let answer = page.call(json!(["job:subscribe", id])).await;
        assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!(code)), "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.len() > 10));
        page.emit(json!(["job:subscribe", id])).await;
        let told = page.hear().await;
        assert_eq!((&*told.name, &told.position), ("system:notification", &None));
        assert_eq!(
            (&told.payload["type"], &told.payload["details"]["code"]),
            (&json!("error"), &json!(code))
        );
    }

    // The past, if it is asked for.
    let answer = page.call(json!(["job:subscribe", text(job), { "after": 0 }])).await;
    assert_eq!(answer, json!({ "ok": true, "seq": 3, "status": "pending" }));
    let past = store.events(job, 0, 10).await.unwrap();
    assert_eq!(page.hear_many(3).await, past.iter().map(|event| Heard::of(event)).collect::<Vec<_>>());

    // In both rooms of a job each event comes once; leaving one keeps the other.
    assert_eq!(page.call(json!(["automation:subscribe", text(job)])).await["ok"], true);
    assert_eq!(page.call(json!(["job:subscribe", text(other)])).await["ok"], true);
    let step = async |page: &mut Page, hears_job: bool| {
        let one = store.append(job, vec![update("one")]).await.unwrap();
        // What comes behind it shows that it came once, or not at all.
        let two = store.append(other, vec![update("two")]).await.unwrap();
        let expected = one.iter().filter(|_| hears_job).chain(&two);
        let expected: Vec<Heard> = expected.map(|event| Heard::of(event)).collect();
        assert_eq!(page.hear_many(expected.len()).await, expected, "{stock:?}");
    };
    step(&mut page, true).await;
    assert_eq!(page.call(json!(["job:unsubscribe", text(job)])).await, json!({ "ok": true }));
    step(&mut page, true).await;
    assert_eq!(page.call(json!(["automation:unsubscribe", text(job)])).await, json!({ "ok": true }));
    step(&mut page, false).await;

    // An ended job says so.
    let answer = page.call(json!(["automation:subscribe", text(ended)])).await;
    assert_eq!(answer, json!({ "ok": true, "seq": 2, "status": "cancelled" }));
    let told = page.hear().await;
    assert_eq!(told, Heard::of(end.last().unwrap()));
    assert_eq!((&*told.name, &told.payload["cancelled"]), ("job:failed", &json!(true)));
}

async fn a_burst_arrives_complete_and_in_order(stock: Stock) {
    const BURST: usize = 3000;
    let server = Running::quiet().await;
    let store = server.store();
    let job = planned_job(store).await;
    let mut page = Page::start(stock, &server.base);
    // No wait for the answer: the burst goes on while the client changes its transport.
    page.connect(&[json!(["job:subscribe", job.to_string()])]).await;
    let appends = (0..BURST).map(|n| store.append(job, vec![update(format!("event {n}"))]));
    futures_util::future::try_join_all(appends).await.unwrap();

    let journal = store.events(job, 1, BURST as i64 + 1).await.unwrap();
    let told = page.hear_many(BURST).await;
    for (told, recorded) in told.iter().zip(&journal) {
        assert_eq!(*told, Heard::of(recorded), "{stock:?}");
    }
    // The whole of it once more from the journal, and the answer does not get lost among it.
    let answer = page.call(json!(["job:subscribe", job.to_string(), { "after": 1 }])).await;
    assert_eq!(answer["seq"], BURST + 1);
    assert_eq!(page.hear_many(BURST).await, told);
    page.settles_on_its_last_transport().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_job_is_told_to_clients_of_every_version() {
    let server = Running::quiet().await;
    let mut pages = Vec::new();
    for stock in Stock::ALL {
        pages.push(Page::open(stock, &server).await);
    }
    let job = unplanned_job(server.store(), "for all").await;
    let created = Heard::of(&server.store().events(job, 0, 1).await.unwrap()[0]);
    assert_eq!((&created.payload["jobType"], &created.payload["name"]), (&json!("crawl"), &json!("for all")));
    for mut page in pages {
        assert_eq!(page.hear().await, created, "{:?}", page.stock);
    }
}

/// The acceptance test of the label printer's documentation, word for word.
#[tokio::test(flavor = "multi_thread")]
async fn the_label_printers_own_acceptance_test_passes() {
    for stock in Stock::ALL {
        let server = Running::quiet().await;
        let mut page = Page::open(stock, &server).await;
        let nothing = json!({});
        let run = async {
            let (status, answer) = server.post("/api/test-websocket/run", &nothing).await;
            assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
            answer
        };
        let conversation = async {
            let created = page.hear().await;
            assert_eq!(created.name, "job:created");
            page.emit(json!(["job:subscribe", created.payload["jobId"]])).await;
            let mut told = vec![created];
            while told.last().unwrap().name != "job:completed" {
                told.push(page.hear().await);
            }
            told
        };
        let (answer, mut told) = tokio::join!(run, conversation);
        // Nothing comes behind the end: the next event is one of another job.
        let next = unplanned_job(server.store(), "next").await;
        assert_eq!(page.hear().await.payload["jobId"], next.to_string());

        let id = answer["jobId"].clone();
        assert!(told.iter().all(|heard| heard.payload["jobId"] == id), "{told:?}");
        let mut named = |name: &str| -> Vec<Value> {
            let (these, others) = told.drain(..).partition(|heard| heard.name == name);
            told = others;
            these.into_iter().map(|heard: Heard| heard.payload).collect()
        };
        let keys = |payload: &Value| -> HashSet<String> {
            payload.as_object().unwrap().keys().cloned().collect::<HashSet<_>>()
        };
        let [created] = &named("job:created")[..] else { panic!("one job:created") };
        assert_eq!((&created["jobType"], &created["name"]), (&json!("crawl"), &json!("WebSocket Test Job")));
        let [captured] = &named("screenshot:captured")[..] else { panic!("one screenshot:captured") };
        assert_eq!(captured["screenshotId"], answer["screenshotId"]);
        for address in ["url", "productUrl"] {
            url::Url::parse(captured[address].as_str().unwrap()).unwrap();
        }
        let [running, completed] = &named("job:updated")[..] else { panic!("two job:updated") };
        assert_eq!((&running["status"], &completed["status"]), (&json!("running"), &json!("completed")));
        for updated in [running, completed] {
            assert_eq!(keys(updated), ["jobId", "status", "timestamp"].map(str::to_owned).into());
        }
        let [read] = &named("ocr:completed")[..] else { panic!("one ocr:completed") };
        assert_eq!(
            read["data"],
            json!({ "articleNumber": "TEST-123", "price": 29.99, "productName": "Test Product", "confidence": 95.5 })
        );
        assert_eq!(
            (&read["screenshotId"], &read["ocrResultId"]),
            (&answer["screenshotId"], &answer["ocrResultId"])
        );
        let [ended] = &named("job:completed")[..] else { panic!("one job:completed") };
        assert!(ended["results"].is_object() && ended["duration"].is_u64(), "{ended}");
        assert!(told.is_empty(), "and nothing else: {told:?}");
    }
}
