//! The library of labels over HTTP: made by hand, by jobs, out of articles; found, changed, shown and removed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use jobcast::{
    event::{JobType, LabelGenerated},
    job::{Command, JobId},
    store::{Change, LabelRow, ListedRow, NewImport, NewJob, Row, Store},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Running, answer};

fn sent(number: &str, name: &str, price: f64) -> Value {
    json!({ "articleNumber": number, "productName": name, "priceInfo": { "price": price, "currency": "EUR" } })
}

/// Adds a label by hand; returns it as the server shows it.
pub async fn add(server: &Running, body: &Value) -> Value {
    let (status, answered) = server.post("/api/labels", body).await;
    assert_eq!((status, &answered["success"]), (201, &json!(true)), "{answered}");
    answered["data"].clone()
}

async fn put(server: &Running, path: &str, body: &Value) -> (u16, Value) {
    answer(server.http.put(server.url(path)).json(body).send().await.unwrap()).await
}

async fn delete(server: &Running, path: &str) -> (u16, Value) {
    answer(server.http.delete(server.url(path)).send().await.unwrap()).await
}

async fn picture(server: &Running, path: &str) -> image::DynamicImage {
    let response = server.http.get(server.url(path)).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    assert_eq!(response.headers()["cache-control"], "private, max-age=3600");
    image::load_from_memory(&response.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_label_made_by_hand_is_shown_changed_doubled_and_removed() {
    let server = Running::quiet().await;
    let mut body = sent("A-100", "Spanplattenschraube", 12.5);
    body["tags"] = json!(["neu", "eisen"]);
    body["priceInfo"]["staffelpreise"] = json!([{ "quantity": 10, "price": 11.0 }]);
    let label = add(&server, &body).await;
    let path = format!("/api/labels/{}", label["id"].as_str().unwrap());
    assert_eq!(label["priceInfo"]["price"], 12.5);
    assert_eq!(label["priceInfo"]["staffelpreise"], json!([{ "quantity": 10, "price": 11.0 }]));
    assert_eq!((&label["templateType"], &label["source"]), (&json!("standard"), &json!("manual")));
    assert!(label["createdAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(server.get(&path).await, (200, json!({ "success": true, "data": label })));
    assert!(label["imageUrl"].as_str().unwrap().starts_with(server.base.as_str()));

    let (status, changed) = put(&server, &path, &json!({ "priceInfo": { "price": 9.99 } })).await;
    assert_eq!((status, &changed["data"]["priceInfo"]["price"]), (200, &json!(9.99)));
    assert_eq!(changed["data"]["tags"], json!(["neu", "eisen"]));
    assert_ne!(changed["data"]["imageUrl"], label["imageUrl"], "the picture shows another price");

    let double = path.replace("/api/labels/", "/api/labels/duplicate/");
    let (status, doubled) = server.post(&double, &json!({})).await;
    assert_eq!((status, &doubled["data"]["productName"]), (201, &json!("Spanplattenschraube")));
    assert_ne!(doubled["data"]["id"], label["id"]);

    assert_eq!(delete(&server, &path).await.0, 200);
    for (status, refused) in
        [server.get(&path).await, delete(&server, &path).await, server.post(&double, &json!({})).await]
    {
        assert_eq!((status, refused), (404, json!({ "success": false, "error": "Label not found" })));
    }
    assert_eq!(server.get("/api/labels/no-id").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_library_is_paged_searched_filtered_sorted_and_counted() {
    let server = Running::quiet().await;
    for number in 1..=25 {
        let mut body = sent(&format!("N-{number:02}"), &format!("100% Ding_{number}"), f64::from(number));
        body["category"] = json!(if number % 2 == 0 { "gerade" } else { "ungerade" });
        body["tags"] = json!([format!("t{}", number % 3)]);
        body["source"] = json!(if number > 20 { "import" } else { "manual" });
        add(&server, &body).await;
    }
    let numbers = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|l| l["articleNumber"].as_str().unwrap().to_owned()).collect()
    };
    let (status, first) = server.get("/api/labels").await;
    assert_eq!(status, 200);
    assert_eq!(numbers(&first["data"])[..2], ["N-25", "N-24"], "the newest first");
    let pagination =
        json!({ "page": 1, "limit": 20, "total": 25, "totalPages": 2, "hasNext": true, "hasPrev": false });
    assert_eq!((first["data"].as_array().unwrap().len(), &first["pagination"]), (20, &pagination));
    let (_, second) = server.get("/api/labels?page=2&sortBy=price&sortOrder=asc").await;
    assert_eq!(numbers(&second["data"]), ["N-21", "N-22", "N-23", "N-24", "N-25"]);
    let (_, later) = server.get("/api/labels?shape=page&limit=2").await;
    assert_eq!(
        (later["data"]["labels"].as_array().unwrap().len(), &later["data"]["total"], &later["data"]["pages"]),
        (2, &json!(25), &json!(13))
    );
    for (query, count) in [
        ("category=gerade", 12),
        ("tags=t1,t2", 17),
        ("source=import", 5),
        ("search=n-0", 9),
        ("search=100%25", 25),
        ("search=ding_2", 7),
        ("search=Ding%252", 0),
        ("search=&category=&tags=,&source=", 25),
        ("category=gerade&source=import&tags=t1", 1),
    ] {
        let (status, list) = server.get(&format!("/api/labels?{query}")).await;
        assert_eq!((status, &list["pagination"]["total"]), (200, &json!(count)), "{query}: {list}");
    }
    for query in [
        "page=0",
        "page=x",
        "limit=0",
        "limit=101",
        "sortBy=id;drop",
        "sortOrder=up",
        "source=x",
        "search=%00",
    ] {
        let (status, refused) = server.get(&format!("/api/labels?{query}")).await;
        assert_eq!((status, &refused["success"]), (400, &json!(false)), "{query}: {refused}");
    }
    let (_, found) = server.get("/api/labels/search?q=ding_1&limit=3").await;
    assert_eq!((found["data"].as_array().unwrap().len(), &found["total"]), (3, &json!(11)));
    assert_eq!(server.get("/api/labels/search").await.0, 400);
    for path in ["/api/labels/stats", "/api/labels/stats/summary"] {
        let (_, stats) = server.get(path).await;
        let expected = json!({
            "totalLabels": 25, "thisMonth": 25, "categories": { "gerade": 12, "ungerade": 13 },
            "sources": { "manual": 20, "import": 5 }, "templateTypes": { "standard": 25 },
        });
        assert_eq!(stats["data"], expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn many_labels_are_removed_or_given_at_once_in_the_words_of_either_page() {
    let server = Running::quiet().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(add(&server, &sent(&number.to_string(), "Ding", 1.0)).await["id"].clone());
    }
    let nobody = json!(Uuid::new_v4());
    let (status, given) =
        server.post("/api/labels/batch", &json!({ "labelIds": ids, "action": "export" })).await;
    assert_eq!((status, given["data"]["labels"].as_array().unwrap().len()), (200, 4));
    let wanted = json!({ "labelIds": [ids[0], ids[0], nobody], "action": "delete" });
    let (_, removed) = server.post("/api/labels/batch", &wanted).await;
    assert_eq!(
        (&removed["data"]["deletedCount"], &removed["data"]["notFound"]),
        (&json!(1), &json!([nobody]))
    );
    let wanted = json!({ "labelIds": ids[1..3], "operation": "delete" });
    assert_eq!(server.post("/api/labels/batch", &wanted).await.1["data"]["deletedCount"], 2);
    assert_eq!(server.get("/api/labels").await.1["pagination"]["total"], 1);
    for bad in [
        json!({ "labelIds": [], "operation": "delete" }),
        json!({ "labelIds": ids, "operation": "burn" }),
        json!({ "labelIds": ["x"], "operation": "delete" }),
        json!({ "operation": "delete" }),
        json!([]),
    ] {
        assert_eq!(server.post("/api/labels/batch", &bad).await.0, 400, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_label_is_drawn_as_its_values_say_and_fits_into_its_thumbnail() {
    let server = Running::quiet().await;
    let mut body = sent("4711", "Spanplattenschraube", 1234.5);
    body["shopUrl"] = json!("https://shop.example.com/4711");
    let label = add(&server, &body).await;
    let path = format!("/api/labels/{}", label["id"].as_str().unwrap());
    let whole = picture(&server, &format!("{path}/image")).await;
    assert!(whole.width() > 500, "{} pixels", whole.width());
    let gray = whole.to_luma8();
    let (width, height) = gray.dimensions();
    let codes = rxing::helpers::detect_multiple_in_luma(gray.into_raw(), width, height).unwrap();
    assert!(codes.iter().any(|code| code.getText() == "https://shop.example.com/4711"), "{codes:?}");
    let small = picture(&server, &format!("{path}/thumbnail?width=120&height=300")).await;
    assert_eq!(small.width(), 120);
    assert!(small.height() < 120);
    assert_eq!(picture(&server, &format!("{path}/thumbnail")).await.width(), 200);
    for bad in ["width=0", "height=1001", "width=x"] {
        assert_eq!(server.get(&format!("{path}/thumbnail?{bad}")).await.0, 400, "{bad}");
    }
    let kept = server.http.get(server.url(&format!("{path}/image"))).send().await.unwrap();
    let again = server.http.get(server.url(&format!("{path}/image")));
    let again = again.header("if-none-match", kept.headers()["etag"].clone()).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let (_, shown) = server.get(&format!("{path}?includeImage=true")).await;
    let bytes = STANDARD.decode(shown["data"]["imageData"].as_str().unwrap()).unwrap();
    assert_eq!(image::load_from_memory(&bytes).unwrap(), whole);

    // One that comes with a picture of its own shows it.
    let mut own = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(30, 20, image::Rgb([200, 0, 0]))
        .write_to(&mut own, image::ImageFormat::Png)
        .unwrap();
    let data = format!("data:image/png;base64,{}", STANDARD.encode(own.into_inner()));
    put(&server, &path, &json!({ "imageData": data })).await;
    let shown = picture(&server, &format!("{path}/image")).await.to_rgb8();
    assert_eq!((shown.dimensions(), shown.get_pixel(3, 3).0), ((30, 20), [200, 0, 0]));
    assert_eq!(picture(&server, &format!("{path}/thumbnail")).await.width(), 30, "never enlarged");
    server.stop().await;
}

/// A job that has made one label, and failed at another.
pub async fn job_with_labels(store: &Store, pool: &PgPool, owner: &str) -> (JobId, Uuid) {
    let job = JobId(Uuid::now_v7());
    let new = NewJob { owner: owner.into(), ..NewJob::unplanned(job, JobType::Automation, "test") };
    store.create(new).await.unwrap();
    let id = |what: &str| job.derive(what, "1");
    let rows = "WITH shot AS (
             INSERT INTO screenshots (id, job_id, ordinal, product_url, image_key, thumbnail_key, width, height,
                                      file_size, complete, page_facts)
             VALUES ($2, $1, 0, 'https://shop.example.com/4711', 'a', 'b', 1, 1, 1, true, '{}') RETURNING id),
         reading AS (
             INSERT INTO ocr_results (id, screenshot_id, job_id, ordinal, confidence, full_text, reading, facts,
                                      disagreements)
             SELECT $3, id, $1, 0, 90, '', '{}', '{}', '[]' FROM shot RETURNING id)
         INSERT INTO matches (id, ocr_result_id, job_id, ordinal, success, score, warnings)
         SELECT $4, id, $1, 0, true, 1, '[]' FROM reading";
    let query = sqlx::query(rows).bind(job.0).bind(id("screenshot")).bind(id("ocr")).bind(id("match"));
    query.execute(pool).await.unwrap();
    let label = |name: &str, error: Option<&str>| LabelRow {
        id: id(name),
        match_id: id("match"),
        template_id: "compact-label".into(),
        ordinal: 0,
        article_number: "4711".into(),
        facts: json!({ "articleNumber": "4711", "name": "Schraube", "price": 3.5, "currency": "EUR" }),
        image_key: None,
        pdf_key: None,
        width: None,
        height: None,
        file_size: None,
        render_ms: None,
        warnings: json!([]),
        error: error.map(str::to_owned),
        created_at: Utc::now(),
    };
    let generated =
        LabelGenerated { label_id: id("good"), image_url: "http://x/".into(), article_number: "4711".into() };
    let change = Change {
        rows: vec![Row::Label(label("good", None)), Row::Label(label("bad", Some("no room")))],
        events: vec![generated.into()],
        commands: vec![Command::Run],
        ..Change::default()
    };
    store.change(job, None, change).await.unwrap();
    (job, id("good"))
}

#[tokio::test]
async fn a_label_of_a_job_is_in_the_library_with_its_event_and_outlives_the_job() {
    let server = Running::quiet().await;
    let pool = PgPool::connect(&server.database).await.unwrap();
    let (job, label) = job_with_labels(server.store(), &pool, "anonymous").await;
    let (_, list) = server.get("/api/labels").await;
    assert_eq!(list["pagination"]["total"], 1, "{list}");
    let shown = &list["data"][0];
    assert_eq!(
        (&shown["id"], &shown["jobId"], &shown["source"], &shown["templateType"], &shown["shopUrl"]),
        (
            &json!(label),
            &json!(job),
            &json!("screenshot"),
            &json!("minimal"),
            &json!("https://shop.example.com/4711")
        )
    );
    assert_eq!(shown["priceInfo"], json!({ "price": 3.5, "currency": "EUR" }));

    // What becomes of it here does not touch the job's results.
    let path = format!("/api/labels/{label}");
    put(&server, &path, &json!({ "priceInfo": { "price": 1.0 } })).await;
    let labels = server.store().labels(job).await.unwrap();
    assert_eq!(labels.iter().filter(|row| row.facts["price"] == json!(3.5)).count(), 2);

    assert_eq!(delete(&server, &format!("/api/automation/jobs/{job}")).await.0, 200);
    let (status, shown) = server.get(&path).await;
    assert_eq!((status, &shown["data"]["jobId"]), (200, &Value::Null));
    assert!(picture(&server, &format!("{path}/image")).await.width() > 100);
    assert_eq!(delete(&server, &path).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn an_article_becomes_a_label_that_was_drawn() {
    let server = Running::quiet().await;
    let import = NewImport {
        file_name: "list.csv".into(),
        file_size: 1,
        headers: Vec::new(),
        products: vec![ListedRow {
            article_number: "A/7".into(),
            name: "Dübel".into(),
            description: None,
            price: Some(2.5),
            tiers: json!([{ "minQuantity": 10, "price": 2.0 }]),
            ean: Some("4006381333931".into()),
            category: Some("Befestigung".into()),
            ..ListedRow::default()
        }],
        error_count: 0,
        errors: json!([]),
    };
    server.store().import(import).await.unwrap();
    let path = "/api/labels/generate-from-article";
    let wanted = json!({ "articleId": "A/7", "templateId": "Detailed Label" });
    let (status, made) = server.post(path, &wanted).await;
    assert_eq!(status, 201, "{made}");
    let label = &made["data"];
    assert_eq!(
        (&label["productName"], &label["templateId"], &label["templateType"], &label["category"]),
        (&json!("Dübel"), &json!("detailed-label"), &json!("extended"), &json!("Befestigung"))
    );
    let drawn = STANDARD.decode(label["imageData"].as_str().unwrap()).unwrap();
    assert!(image::load_from_memory(&drawn).unwrap().width() > 100);
    assert_eq!(server.get("/api/labels").await.1["pagination"]["total"], 1);
    for (status, bad) in [
        (400, json!({})),
        (400, json!({ "articleId": " " })),
        (404, json!({ "articleId": "B" })),
        (404, json!({ "articleId": "A/7", "templateId": "none" })),
        (400, json!({ "articleId": "a\0" })),
    ] {
        assert_eq!(server.post(path, &bad).await.0, status, "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_a_shop_becomes_a_job_whose_label_will_be_in_the_library() {
    let server = Running::quiet().await;
    let wanted = json!({ "url": "https://shop.example.com/p/1", "articleNumber": "A-1" });
    let (status, started) = server.post("/api/labels/extract", &wanted).await;
    assert_eq!(status, 202, "{started}");
    let (_, job) = server.get(&format!("/api/automation/jobs/{}", started["jobId"].as_str().unwrap())).await;
    assert_eq!(
        (&job["job"]["config"]["shopUrl"], &job["job"]["config"]["maxProducts"]),
        (&json!("https://shop.example.com/p/1"), &json!(1))
    );
    for bad in [json!({}), json!({ "url": "no address" }), json!({ "url": 1 })] {
        let (status, refused) = server.post("/api/labels/extract", &bad).await;
        assert_eq!((status, &refused["success"]), (400, &json!(false)), "{bad}");
    }
    server.stop().await;
}
