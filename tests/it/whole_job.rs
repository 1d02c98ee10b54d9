//! The main job, end to end, on real parts: the demo shop, Chromium, Tesseract, labels, watched by stock clients.

use std::collections::{BTreeSet, HashMap};

use jobcast::{
    app::demo_shop,
    event::{Kind, format_timestamp},
    job::JobId,
    store::OcrRow,
};
use serde_json::{Value, json};

use crate::{
    stock_client::{Heard, Page, Stock},
    support::{Running, answer, config, heavy},
};

async fn whole_server() -> Running {
    let mut config = config();
    config.server.demo_shop = true;
    config.browser.settle_timeout = std::time::Duration::from_secs(2);
    Running::start(config).await
}

/// Submits the demo's job as its page does: a form with the price list.
async fn submit(server: &Running, max_products: u32) -> JobId {
    let file = reqwest::multipart::Part::bytes(demo_shop::price_list_xlsx()).file_name("price-list.xlsx");
    let form = reqwest::multipart::Form::new()
        .text("shopUrl", server.demo_shop().to_string())
        .text("templateId", "standard-label")
        .text("config", json!({ "name": "the whole job", "maxProducts": max_products }).to_string())
        .part("excelFile", file);
    let request = server.http.post(server.url("/api/automation/start")).multipart(form);
    let (status, body) = answer(request.send().await.unwrap()).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    body["jobId"].as_str().unwrap().parse().unwrap()
}

/// Everything that a page hears of a job, from its subscription to the end.
async fn hear_all(page: &mut Page, job: JobId) -> Vec<Heard> {
    let mut all = Vec::new();
    loop {
        let heard = page.hear().await;
        assert_eq!(heard.payload["jobId"], json!(job), "{heard:?}");
        let ended = matches!(&*heard.name, "job:completed" | "job:failed");
        all.push(heard);
        if ended {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_is_seen_alike_by_every_stock_client() {
    let _alone = heavy().await;
    let server = whole_server().await;
    let mut pages = Vec::new();
    for stock in Stock::ALL {
        pages.push(Page::open(stock, &server).await);
    }
    let job = submit(&server, 100).await;
    let mut watching = tokio::task::JoinSet::new();
    for mut page in pages {
        watching.spawn(async move {
            page.emit(json!(["job:subscribe", job.to_string()])).await;
            hear_all(&mut page, job).await
        });
    }
    let mut seen = Vec::new();
    while let Some(watched) = watching.join_next().await {
        seen.push(watched.unwrap());
    }

    let journal: Vec<Heard> =
        server.store().events(job, 0, 10_000).await.unwrap().iter().map(|e| Heard::of(e)).collect();
    for heard in &seen {
        let journaled: Vec<Heard> = heard.iter().filter(|heard| heard.position.is_some()).cloned().collect();
        let positions = |all: &[Heard]| all.iter().map(|heard| heard.position.clone()).collect::<Vec<_>>();
        assert_eq!(positions(&journaled), positions(&journal), "each milestone once and in order");
        for (heard, recorded) in journaled.iter().zip(&journal) {
            assert_eq!(heard, recorded, "as it stands in the journal");
        }
        let progress: Vec<u64> = heard
            .iter()
            .filter(|heard| heard.name == "job:progress")
            .map(|heard| heard.payload["progress"].as_u64().unwrap())
            .collect();
        assert!(progress.len() > 20 && progress.is_sorted(), "progress moves smoothly: {progress:?}");
        heard.iter().for_each(has_its_fields);
    }
    in_the_order_of_the_plan(&journal);
    the_special_products_are_what_they_are(&server, job, &journal).await;
    every_address_loads(&server, &journal).await;
    server.stop().await;
}

/// Required fields are there, and none that the catalogue does not know; absent ones are absent, never `null`.
fn has_its_fields(heard: &Heard) {
    let row = Kind::from_wire_name(&heard.name).unwrap().description();
    let payload = heard.payload.as_object().unwrap();
    for field in row.fields.iter().filter(|field| !field.optional) {
        assert!(payload.contains_key(&field.name), "{heard:?} lacks {}", field.name);
    }
    for (name, value) in payload {
        let known =
            ["jobId", "timestamp"].contains(&&**name) || row.fields.iter().any(|field| field.name == *name);
        assert!(known, "{heard:?} has {name}");
        assert!(!value.is_null(), "{heard:?}");
    }
    let at = payload["timestamp"].as_str().unwrap();
    assert_eq!(format_timestamp(at.parse().unwrap()), at, "ISO 8601, UTC, milliseconds");
}

fn in_the_order_of_the_plan(journal: &[Heard]) {
    let begins = |status: &str| {
        journal
            .iter()
            .position(|heard| heard.payload["status"] == status && heard.payload.get("message").is_none())
            .unwrap_or_else(|| panic!("no {status}"))
    };
    let updates: Vec<_> = ["crawling", "processing-ocr", "matching", "rendering"].map(begins).into();
    let percent: Vec<_> =
        updates.iter().map(|at| journal[*at].payload["progress"].as_u64().unwrap()).collect();
    assert_eq!(percent, [25, 50, 75, 90]);
    assert_eq!((&*journal[0].name, &*journal.last().unwrap().name), ("job:created", "job:completed"));
    let between = |kind: &str, from: usize, to: usize| {
        let places: Vec<usize> =
            journal.iter().enumerate().filter(|(_, heard)| heard.name == kind).map(|(at, _)| at).collect();
        assert!(
            places.iter().all(|at| (from..to).contains(at)),
            "{kind} between {from} and {to}: {places:?}"
        );
        places.len()
    };
    let products = demo_shop::products().len();
    assert_eq!(between("screenshot:captured", updates[0], updates[1]), products);
    assert_eq!(between("screenshot:uploaded", updates[0], updates[1]), products);
    assert_eq!(between("ocr:started", updates[1], updates[2]), products);
    assert_eq!(between("ocr:completed", updates[1], updates[2]), products);
    assert_eq!(between("match:found", updates[2], updates[3]), products - 1);
    assert_eq!(between("match:failed", updates[2], updates[3]), 1);
    assert_eq!(between("label:generated", updates[3], journal.len()), products - 1);
    let summary = &journal.last().unwrap().payload["results"]["summary"];
    assert_eq!(
        (&summary["totalProducts"], &summary["labelsGenerated"]),
        (&json!(products), &json!(products - 1))
    );
    let updated: Vec<u64> = journal.iter().filter_map(|heard| heard.payload["progress"].as_u64()).collect();
    assert!(updated.is_sorted(), "{updated:?}");
}

async fn the_special_products_are_what_they_are(server: &Running, job: JobId, journal: &[Heard]) {
    let store = server.store();
    let screenshots = store.screenshots(job).await.unwrap();
    let readings = store.ocr_results(job).await.unwrap();
    let number = |facts: &Value| facts["articleNumber"].as_str().unwrap_or_default().to_owned();
    let reading: HashMap<String, _> =
        readings.iter().map(|reading| (number(&reading.facts), reading)).collect();
    assert_eq!(reading.len(), demo_shop::products().len(), "each article number was read, and read right");
    for product in demo_shop::products() {
        assert!(
            reading.contains_key(product.article_number.as_str()),
            "{} was read",
            product.article_number.as_str()
        );
    }
    let fields = read_right(&readings);
    println!("read from the pictures alone: {fields:?}");
    // As measured: all numbers, and 28 of 34 names letter for letter.
    for (field, right, all) in fields {
        let allowed = if field == "productName" { 6 } else { 0 };
        assert!(right + allowed >= all, "{field}: {right} of {all}");
    }
    let screenshot = |number: &str| {
        let id = reading[number].screenshot_id;
        screenshots.iter().find(|screenshot| screenshot.id == id).unwrap()
    };

    // Its picture says another price than its structured data.
    let wrong = reading["WZ-20039"];
    let about: Vec<&str> =
        wrong.disagreements.as_array().unwrap().iter().filter_map(|d| d["field"].as_str()).collect();
    assert_eq!(about, ["price"], "{}", wrong.disagreements);
    let agreeing = readings.iter().filter(|reading| reading.disagreements == json!([])).map(|r| r.confidence);
    let lowest = agreeing.fold(100.0, f64::min);
    assert!(wrong.confidence < lowest, "{} is less sure than {lowest}", wrong.confidence);

    // Without structured data everything comes from the picture.
    assert_eq!(screenshot("SD-10063").page_facts.get("articleNumber"), None);
    assert!(reading["SD-10063"].facts["price"].is_number());

    // The page that never finishes loading was photographed all the same, the others in full.
    for shot in &screenshots {
        assert_eq!(shot.complete, shot.id != screenshot("FP-30034").id, "{}", shot.product_url);
    }

    let of = |kind: &'static str| {
        journal.iter().filter(move |heard| heard.name == kind).map(|heard| &heard.payload)
    };
    let unmatched: Vec<&Value> = of("match:failed").map(|payload| &payload["articleNumber"]).collect();
    assert_eq!(unmatched, ["WZ-20051"], "the one that the price list lacks");
    let fuzzy: Vec<String> = of("match:found")
        .filter(|payload| payload["matchType"] == "fuzzy")
        .map(|payload| payload["ocrResultId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(fuzzy, [reading["FP-30023"].id.to_string()], "the one whose name alone is in the price list");
    let names: BTreeSet<&str> =
        of("screenshot:captured").filter_map(|payload| payload["productName"].as_str()).collect();
    assert!(
        names.iter().any(|name| name.contains('ü') || name.contains('ö') || name.contains('ß')),
        "{names:?}"
    );
}

/// Every picture is there, is a PNG, and may be cached and fetched in parts.
async fn every_address_loads(server: &Running, journal: &[Heard]) {
    let mut addresses: Vec<&str> = Vec::new();
    for heard in journal {
        for field in ["url", "thumbnailUrl", "imageUrl"] {
            addresses.extend(heard.payload[field].as_str());
        }
    }
    // Each screenshot and its thumbnail are captured and uploaded; one product has no label.
    assert_eq!(addresses.len(), 5 * demo_shop::products().len() - 1);
    for address in &addresses {
        let response = server.http.get(*address).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"image/png".parse().unwrap())
        );
        let bytes = response.bytes().await.unwrap();
        image::load_from_memory(&bytes).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    let address = addresses[0];
    let whole = server.http.get(address).send().await.unwrap();
    let tag = whole.headers()["etag"].clone();
    assert!(whole.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let whole = whole.bytes().await.unwrap();
    let part = server.http.get(address).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, &*format!("bytes 10-19/{}", whole.len()))
    );
    assert_eq!(part.bytes().await.unwrap(), whole[10..20]);
    let known = server.http.get(address).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(known.status().as_u16(), 304);
    let pdf = server.http.get(addresses.last().unwrap().replace(".png", ".pdf")).send().await.unwrap();
    assert!(pdf.bytes().await.unwrap().starts_with(b"%PDF-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_that_is_cancelled_stops_its_browser_and_tells_nothing_more() {
    let _alone = heavy().await;
    let server = whole_server().await;
    let job = submit(&server, 100).await;
    crate::support::wait_for("the first screenshot", async || {
        let events = server.store().events(job, 0, 1000).await.unwrap();
        events.iter().any(|event| event.kind == "screenshot:captured").then_some(())
    })
    .await;
    let (status, body) = server.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!((status, &body["status"]), (200, &json!("cancelled")));
    let told = server.store().events(job, 0, 1000).await.unwrap();
    assert_eq!(told.last().unwrap().kind, "job:failed");
    // What was under way has come to its end when the next job is done.
    let next = submit(&server, 1).await;
    assert_eq!(server.ended(&next.to_string()).await["status"], "completed");
    assert_eq!(server.store().events(job, 0, 1000).await.unwrap().len(), told.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_on_an_address_that_is_refused_or_dead_fails_with_a_sentence() {
    let _alone = heavy().await;
    let server = whole_server().await;
    for (shop, says) in [
        ("http://127.0.0.1:9/".to_owned(), "refused"),
        ("http://localhost:1/".to_owned(), "refused"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "refused"),
        (server.url("/demo/shop/login").to_string(), "robots.txt"),
        (server.url("/demo/shop/nothing-here").to_string(), "404"),
    ] {
        let (status, job) = server.post("/v1/jobs", &json!({ "shopUrl": shop, "maxProducts": 3 })).await;
        assert_eq!(status, 201, "{job}");
        let ended = server.ended(job["id"].as_str().unwrap()).await;
        assert_eq!(ended["status"], "failed");
        assert!(ended["error"].as_str().unwrap().contains(says), "{shop}: {}", ended["error"]);
    }
    server.stop().await;
}

/// How many of each field were read from the pictures alone as the shop shows them, of how many there are.
fn read_right(readings: &[OcrRow]) -> [(&'static str, usize, usize); 4] {
    let mut fields = [("articleNumber", 0, 0), ("price", 0, 0), ("productName", 0, 0), ("ean", 0, 0)];
    let letters =
        |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    for product in demo_shop::products() {
        let own = readings.iter().find(|row| row.facts["articleNumber"] == *product.article_number);
        let read = own.map(|row| &row.reading).unwrap_or(&Value::Null);
        let text = |name: &str| read[name].as_str().unwrap_or_default().to_owned();
        let name = (letters(&text("productName")), letters(&product.name));
        let found = [
            Some(text("articleNumber") == product.article_number),
            Some(read["price"].as_f64() == Some(product.shown_price.unwrap_or(product.price))),
            Some(name.0.len() > 5 && (name.0.contains(&name.1) || name.1.contains(&name.0))),
            product.ean.as_ref().map(|ean| text("ean") == *ean),
        ];
        for ((_, right, all), found) in fields.iter_mut().zip(found) {
            *right += usize::from(found == Some(true));
            *all += usize::from(found.is_some());
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_job_whose_templates_are_chosen_by_rules_tells_of_each_choice() {
    let _alone = heavy().await;
    let server = whole_server().await;
    // A template of a person's own for what costs five euros and more, beside those that come with the program.
    let template = json!({
        "id": "for-the-dear", "name": "For the dear", "width": 800, "height": 500, "widthMm": 80, "heightMm": 50,
        "autoMatchEnabled": true, "rules": [{ "priority": 10, "minPrice": 5 }],
        "elements": [
            { "id": "n", "type": "text", "x": 20, "y": 20, "width": 700, "height": 120, "content": "{{productName}}", "fontSize": 40 },
            { "id": "p", "type": "price", "x": 20, "y": 200, "width": 500, "height": 120, "fontSize": 60 },
        ],
    });
    let (status, made) = server.post("/api/label-templates", &template).await;
    assert_eq!(status, 201, "{made}");
    let shop = server.demo_shop().join("schrauben/").unwrap();
    let wish = json!({ "shopUrl": shop, "templateId": "auto", "maxProducts": 6 });
    let (status, job) = server.post("/v1/jobs", &wish).await;
    assert_eq!(status, 201, "{job}");
    let ended = server.ended(job["id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["status"], &ended["stages"]["render"]["done"]),
        (&json!("completed"), &json!(6)),
        "{ended}"
    );
    let labels = server.store().labels(job["id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    let mut chosen = BTreeSet::new();
    for label in &labels {
        let dear = label.facts["price"].as_f64().unwrap() >= 5.0;
        let expected = if dear { "for-the-dear" } else { "standard-label" };
        assert_eq!(label.template_id, expected, "{}", label.facts);
        let name = if dear { "For the dear" } else { "Standard Label" };
        assert!(label.warnings.to_string().contains(name), "{}", label.warnings);
        chosen.insert(label.template_id.clone());
    }
    assert_eq!(chosen.len(), 2, "some of either");
    server.stop().await;
}
