//! Pictures that people send are read as jobs: queued, bounded, seen live, asked for later.

use std::time::Duration;

use image::{DynamicImage, ImageFormat};
use reqwest::multipart::{Form, Part};
use resvg::{tiny_skia, usvg};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Running, answer, config, heavy, quiet_config};

/// A product's page as a picture: its name, article number, price.
fn page(name: &str, number: &str, price: &str) -> DynamicImage {
    let svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='420' font-family='DejaVu Sans' fill='#222'>
         <rect width='900' height='420' fill='#fff'/>
         <text x='40' y='80' font-size='44' font-weight='bold'>{name}</text>
         <text x='40' y='160' font-size='26'>Art.-Nr.: {number}</text>
         <text x='40' y='260' font-size='40' font-weight='bold'>{price} €</text>
         <text x='40' y='330' font-size='26'>ab 10 Stück 119,00 €</text>
         <text x='40' y='370' font-size='26'>ab 50 Stück 99,00 €</text></svg>"
    );
    let mut options = usvg::Options::default();
    options.fontdb_mut().load_system_fonts();
    let tree = usvg::Tree::from_str(&svg, &options).unwrap();
    let mut pixels = tiny_skia::Pixmap::new(900, 420).unwrap();
    resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
    image::load_from_memory(&pixels.encode_png().unwrap()).unwrap()
}

fn packed(picture: &DynamicImage, format: ImageFormat) -> Part {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.to_rgb8().write_to(&mut bytes, format).unwrap();
    Part::bytes(bytes.into_inner()).file_name("page.img")
}

async fn send(server: &Running, path: &str, form: Form) -> (u16, Value) {
    answer(server.http.post(server.url(path)).multipart(form).send().await.unwrap()).await
}

async fn names(server: &Running, job: &Value) -> Vec<String> {
    let (_, page) = server.get(&format!("/v1/jobs/{}/events", job.as_str().unwrap())).await;
    page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_are_sent_are_read_as_a_job_that_is_seen_live() {
    let _turn = heavy().await;
    let server = Running::start(config()).await;
    let chair = page("Bürostuhl Modell L", "SW10001", "129,90");
    let form = Form::new().text("note", "x").part("screenshot", packed(&chair, ImageFormat::Png));
    let (status, body) = send(&server, "/api/ocr/process", form).await;
    assert_eq!((status, &body["success"]), (200, &json!(true)), "{body}");
    let result = &body["result"];
    assert_eq!((&result["status"], &result["success"]), (&json!("completed"), &json!(true)), "{result}");
    for data in [result, &result["extractedData"]] {
        assert_eq!(data["articleNumber"], "SW10001");
        assert_eq!(data["price"], 129.9);
        assert_eq!(data["productName"], "Bürostuhl Modell L");
        let tiers = json!([{ "minQuantity": 10, "quantity": 10, "price": 119.0 },
                           { "minQuantity": 50, "quantity": 50, "price": 99.0 }]);
        assert_eq!(data["tieredPrices"], tiers);
        assert!(data["tieredPricesText"].as_str().unwrap().contains("ab 10"), "{data}");
    }
    assert!(
        result["confidence"].as_f64().unwrap() > 50.0
            && result["confidences"]["price"].as_f64().unwrap() <= 1.0
    );
    let boxed = result["boundingBoxes"].as_array().unwrap();
    assert!(
        boxed.iter().any(|one| one["field"] == "price" && one["text"].as_str().unwrap().contains("129,90"))
    );
    let events = names(&server, &body["jobId"]).await;
    for event in ["job:created", "ocr:started", "ocr:completed", "job:completed"] {
        assert_eq!(events.iter().filter(|name| *name == event).count(), 1, "{event} in {events:?}");
    }
    let shown = server.http.get(result["thumbnailUrl"].as_str().unwrap()).send().await.unwrap();
    let thumbnail = image::load_from_memory(&shown.bytes().await.unwrap()).unwrap();
    assert_eq!((thumbnail.width(), thumbnail.height()), (400, 187));
    for id in ["resultId", "screenshotId"] {
        let (status, later) = server.get(&format!("/api/ocr/status/{}", body[id].as_str().unwrap())).await;
        assert_eq!((status, &later["status"], &later["result"]), (200, &json!("completed"), result));
    }

    // Other formats, and one that says nothing.
    let blank = DynamicImage::new_rgb8(300, 200);
    let form = Form::new()
        .part("screenshots", packed(&page("Tisch Eiche", "SW10002", "249,00"), ImageFormat::Jpeg))
        .part("screenshots", packed(&page("Lampe Nord", "SW10003", "39,95"), ImageFormat::WebP))
        .part("screenshots", packed(&blank, ImageFormat::Png));
    let (status, batch) = send(&server, "/api/ocr/batch-process", form).await;
    assert_eq!(
        (status, &batch["summary"]),
        (200, &json!({ "total": 3, "successful": 2, "failed": 1 })),
        "{batch}"
    );
    let read = |batch: &Value, i: usize| {
        (batch["results"][i]["articleNumber"].clone(), batch["results"][i]["price"].clone())
    };
    assert_eq!(read(&batch, 0), (json!("SW10002"), json!(249.0)));
    assert_eq!(read(&batch, 1), (json!("SW10003"), json!(39.95)));
    assert!(batch["results"][2]["error"].as_str().unwrap().contains("nothing could be read"), "{batch}");

    // Once more, without the job that they came with.
    let job = batch["jobId"].as_str().unwrap();
    let (status, again) = server.post(&format!("/api/ocr/process-job/{job}"), &json!({})).await;
    assert_eq!((status, &again["summary"]["successful"]), (200, &json!(2)), "{again}");
    assert_ne!(again["jobId"], batch["jobId"]);
    let gone = server.http.delete(server.url(&format!("/api/automation/jobs/{job}"))).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 200);
    let picture = again["results"][0]["imageUrl"].as_str().unwrap();
    assert_eq!(server.http.get(picture).send().await.unwrap().status().as_u16(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_takes_longer_than_a_request_is_asked_for_later() {
    let mut config = quiet_config();
    config.ocr.wait = Duration::from_millis(500);
    let server = Running::start(config).await;
    let form = Form::new().part("screenshot", packed(&DynamicImage::new_rgb8(30, 20), ImageFormat::Png));
    let (status, body) = send(&server, "/api/ocr/process", form).await;
    assert_eq!((status, &body["result"]["status"]), (202, &json!("processing")), "{body}");
    let (status, later) =
        server.get(&format!("/api/ocr/status/{}", body["resultId"].as_str().unwrap())).await;
    assert_eq!((status, &later["status"]), (200, &json!("pending")));
    let (status, job) = server.get(&format!("/api/ocr/status/{}", body["jobId"].as_str().unwrap())).await;
    assert_eq!((status, &job["result"]["results"][0]["resultId"]), (200, &body["resultId"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_is_refused_and_leaves_nothing_behind() {
    let server = Running::quiet().await;
    let small = || packed(&DynamicImage::new_rgb8(3, 2), ImageFormat::Png);
    let bytes = |bytes: &[u8]| Part::bytes(bytes.to_vec()).file_name("x.png");
    // Says to be of 20,000 × 20,000 pixels.
    let mut bomb = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(20_000, 4_000).write_to(&mut bomb, ImageFormat::Png).unwrap();
    let many = (0..51).fold(Form::new(), |form, _| form.part("screenshots", small()));
    for (what, code, path, form) in [
        ("nothing", 400, "/api/ocr/process", Form::new().text("a", "b")),
        ("an empty file", 400, "/api/ocr/process", Form::new().part("screenshot", bytes(b""))),
        ("text", 400, "/api/ocr/process", Form::new().part("screenshot", bytes(b"no picture at all"))),
        (
            "a torn picture",
            400,
            "/api/ocr/process",
            Form::new().part("screenshot", bytes(b"\x89PNG\r\n\x1a\n\0\0")),
        ),
        ("another field", 400, "/api/ocr/process", Form::new().part("excelFile", small())),
        ("two", 400, "/api/ocr/process", Form::new().part("screenshot", small()).part("screenshot", small())),
        ("a bomb", 413, "/api/ocr/process", Form::new().part("screenshot", bytes(bomb.get_ref()))),
        ("too many", 400, "/api/ocr/batch-process", many),
    ] {
        let (status, body) = send(&server, path, form).await;
        assert_eq!(status, code, "{what}: {body}");
        assert!(
            body["error"].as_str().unwrap().len() > 10 && body.get("success").is_none(),
            "{what}: {body}"
        );
    }
    let (status, body) = server.post("/api/ocr/process", &json!({})).await;
    assert_eq!(status, 400, "{body}");
    let unknown = Uuid::new_v4();
    assert_eq!(server.post(&format!("/api/ocr/process-job/{unknown}"), &json!({})).await.0, 404);
    assert_eq!(server.get(&format!("/api/ocr/status/{unknown}")).await.0, 404);
    assert_eq!(server.get("/api/ocr/status/%00").await.0, 404);
    let (_, jobs) = server.get("/v1/jobs").await;
    assert_eq!(jobs["total"], 0);
    let left: Vec<_> = walk(&server.folder().join("objects"));
    assert!(left.is_empty(), "{left:?}");
    server.stop().await;
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}
