//! Templates over HTTP: kept, refused, rendered; codes and text are read back from PNG and PDF by other programs.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Running, answer, folder};

fn template(name: &str) -> Value {
    let layer = |kind: &str, rect: [f64; 4], properties: Value| {
        let [x, y, width, height] = rect;
        json!({
            "type": kind, "position": { "x": x, "y": y }, "size": { "width": width, "height": height },
            "properties": properties,
        })
    };
    json!({
        "name": name,
        "dimensions": { "width": 90, "height": 55, "unit": "mm", "dpi": 300 },
        "layers": [
            layer("shape", [0.0, 0.0, 90.0, 2.0], json!({ "shape": "rectangle", "fill": "#14532d" })),
            layer("dynamic-text", [4.0, 4.0, 82.0, 9.0], json!({ "fieldType": "productName" })),
            layer("dynamic-text", [4.0, 14.0, 40.0, 6.0], json!({ "fieldType": "articleNumber", "style": { "fontSize": 10 } })),
            layer("dynamic-text", [46.0, 14.0, 40.0, 12.0], json!({ "fieldType": "price" })),
            layer("barcode", [3.0, 30.0, 50.0, 22.0], json!({ "format": "EAN13" })),
            layer("qrcode", [58.0, 28.0, 26.0, 26.0], json!({ "dataField": "productUrl" })),
        ],
    })
}

fn product() -> Value {
    json!({
        "articleNumber": "SD-10023", "productName": "Spanplattenschraube 4 × 40", "price": 1234.5,
        "ean": "4006381333931", "productUrl": "https://shop.example/p/10023",
    })
}

fn read(png: &[u8], format: rxing::BarcodeFormat) -> String {
    let pixels = image::load_from_memory(png).unwrap().into_luma8();
    let (width, height) = pixels.dimensions();
    let found = rxing::helpers::detect_in_luma(pixels.into_raw(), width, height, Some(format));
    found.unwrap().getText().to_owned()
}

fn holds_the_codes(png: &[u8]) {
    assert_eq!(read(png, rxing::BarcodeFormat::EAN_13), "4006381333931");
    assert_eq!(read(png, rxing::BarcodeFormat::QR_CODE), "https://shop.example/p/10023");
}

async fn send(server: &Running, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
    answer(server.http.request(method, server.url(path)).json(body).send().await.unwrap()).await
}

/// What a program of poppler prints.
async fn poppler(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(file).arg("-").output().await;
    let output =
        output.unwrap_or_else(|error| panic!("{program} of poppler-utils is not installed: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_template_is_kept_found_changed_and_removed() {
    let server = Running::quiet().await;
    let (status, made) = server.post("/api/templates", &template("Sale Label")).await;
    assert_eq!((status, made["success"] == true), (201, true), "{made}");
    let id = made["template"]["id"].as_str().unwrap().to_owned();
    for name in [id.as_str(), "Sale%20Label", "sale-label", "SALE LABEL"] {
        let (status, found) = server.get(&format!("/api/templates/{name}")).await;
        assert_eq!((status, &found["template"]["id"]), (200, &json!(id)), "{name}");
        assert_eq!(found["template"]["layers"].as_array().unwrap().len(), 6);
    }
    let (_, list) = server.get("/api/templates").await;
    let ids: Vec<&str> =
        list["templates"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap()).collect();
    for known in ["auto", "standard-label", "compact-label", "detailed-label", "custom-label", id.as_str()] {
        assert!(ids.contains(&known), "{ids:?}");
    }
    assert_eq!(list["count"], ids.len());
    let put = reqwest::Method::PUT;
    let (status, changed) =
        send(&server, put.clone(), &format!("/api/templates/{id}"), &json!({ "name": "Other" })).await;
    assert_eq!((status, &changed["template"]["name"]), (200, &json!("Other")));
    assert_eq!(changed["template"]["layers"].as_array().unwrap().len(), 6);
    let bad = json!({ "layers": [{ "type": "text", "size": { "width": -1, "height": 5 } }] });
    let (status, refused) = send(&server, put.clone(), &format!("/api/templates/{id}"), &bad).await;
    assert_eq!(status, 400);
    assert!(
        refused["message"].as_str().unwrap().starts_with("layers[0].size.width is -1.00 mm"),
        "{refused}"
    );
    assert!(refused.get("success").is_none(), "{refused}");

    let (status, taken) = server
        .post("/api/templates", &{
            let mut twice = template("Twice");
            twice["id"] = json!(id);
            twice
        })
        .await;
    assert_eq!(status, 409, "{taken}");
    for (method, path) in [
        (put, "standard-label"),
        (reqwest::Method::DELETE, "Standard Label"),
        (reqwest::Method::DELETE, "auto"),
    ] {
        let (status, refused) = send(&server, method, &format!("/api/templates/{path}"), &json!({})).await;
        assert_eq!(status, 409);
        assert!(refused["error"].as_str().unwrap().contains("comes with the server"), "{refused}");
    }
    let delete = reqwest::Method::DELETE;
    assert_eq!(send(&server, delete.clone(), &format!("/api/templates/{id}"), &json!({})).await.0, 200);
    let (status, gone) = send(&server, delete, &format!("/api/templates/{id}"), &json!({})).await;
    assert_eq!((status, gone), (404, json!({ "error": "Template not found" })));
    server.stop().await;
}

#[tokio::test]
async fn a_template_that_a_job_will_use_stays() {
    let server = Running::quiet().await;
    let (_, made) = server.post("/api/templates", &template("Busy")).await;
    let id = made["template"]["id"].as_str().unwrap().to_owned();
    let wish = json!({ "shopUrl": "https://shop.example.com/", "templateId": "busy" });
    let (status, started) = server.post("/api/automation/start", &wish).await;
    assert_eq!(status, 200, "{started}");
    let path = format!("/api/templates/{id}");
    let (status, refused) = send(&server, reqwest::Method::DELETE, &path, &json!({})).await;
    assert_eq!(status, 409);
    assert!(refused["error"].as_str().unwrap().contains("1 jobs will use it"), "{refused}");
    let (status, _) = server
        .post(
            "/api/automation/start",
            &json!({ "shopUrl": "https://shop.example.com/", "templateId": "auto" }),
        )
        .await;
    assert_eq!(status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_label_is_rendered_in_every_shape_that_the_pages_read() {
    let server = Running::quiet().await;
    let (_, made) = server.post("/api/templates", &template("Shapes")).await;
    let id = made["template"]["id"].as_str().unwrap().to_owned();
    let render = |options: Value| {
        let request = server.http.post(server.url(&format!("/api/templates/{id}/render")));
        request.json(&json!({ "data": product(), "options": options })).send()
    };
    let response = render(json!({})).await.unwrap();
    assert_eq!(response.headers()["content-type"], "image/png");
    assert!(response.headers()["x-render-time"].to_str().unwrap().ends_with("ms"));
    let png = response.bytes().await.unwrap();
    holds_the_codes(&png);
    assert_eq!(image::load_from_memory(&png).unwrap().width(), 1063);
    for (format, kind) in [("jpg", "image/jpeg"), ("svg", "image/svg+xml"), ("pdf", "application/pdf")] {
        assert_eq!(render(json!({ "format": format })).await.unwrap().headers()["content-type"], kind);
    }
    let refused = answer(render(json!({ "format": "bmp" })).await.unwrap()).await;
    assert_eq!(refused.0, 400);
    assert!(
        refused.1["message"].as_str().unwrap().starts_with("options.format must be one of"),
        "{}",
        refused.1
    );

    let body = json!({ "data": product(), "options": { "format": "jpeg", "quality": 95 } });
    let (_, json) = server.post(&format!("/api/templates/{id}/render/base64"), &body).await;
    assert_eq!(
        (&json["format"], &json["width"], &json["success"]),
        (&json!("jpeg"), &json!(1063), &json!(true))
    );
    holds_the_codes(&STANDARD.decode(json["image"].as_str().unwrap()).unwrap());

    let wrong = json!({ "ean": "4006381333932" });
    for path in ["/api/templates/render-batch", "/api/templates/render/batch"] {
        let items = json!({ "templateId": id, "dataArray": [product(), wrong, 7, product()], "options": {} });
        let (status, batch) = server.post(path, &items).await;
        assert_eq!((status, &batch["summary"]), (200, &json!({ "total": 4, "successful": 2, "failed": 2 })));
        let results = batch["results"].as_array().unwrap();
        assert!(results[1]["error"].as_str().unwrap().contains("the check digit 1, not 2"), "{}", results[1]);
        assert_eq!(results[3]["index"], 3);
        holds_the_codes(&STANDARD.decode(results[3]["base64"].as_str().unwrap()).unwrap());
    }
    let many = json!({ "templateId": id, "dataArray": vec![json!({}); 501] });
    assert_eq!(server.post("/api/templates/render-batch", &many).await.0, 400);

    let preview = json!({ "template": template("Unsaved"), "data": product() });
    let response =
        server.http.post(server.url("/api/templates/preview")).json(&preview).send().await.unwrap();
    holds_the_codes(&response.bytes().await.unwrap());
    let (status, chosen) =
        server.post("/api/templates/auto/render/base64", &json!({ "data": product() })).await;
    assert_eq!(status, 200);
    assert!(chosen["warnings"][0].as_str().unwrap().contains("Standard Label"), "{}", chosen["warnings"]);
    for path in ["no-such/render", "%00/render", "%ff/render"] {
        assert_eq!(server.post(&format!("/api/templates/{path}"), &json!({})).await.0, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_pdf_has_the_labels_size_its_text_and_codes_that_a_scanner_reads() {
    let server = Running::quiet().await;
    let (_, made) = server.post("/api/templates", &template("Paper")).await;
    let path = format!("/api/templates/{}/export-pdf", made["template"]["id"].as_str().unwrap());
    let (status, exported) = server.post(&path, &json!({ "articleData": product() })).await;
    assert_eq!((status, &exported["fileName"]), (200, &json!("label-sd-10023.pdf")));
    let folder = folder();
    let file = folder.path().join("label.pdf");
    std::fs::write(&file, STANDARD.decode(exported["pdf"].as_str().unwrap()).unwrap()).unwrap();

    let output =
        Command::new("pdfinfo").arg(&file).output().await.expect("pdfinfo of poppler-utils is installed");
    let info = String::from_utf8(output.stdout).unwrap();
    let size = info.lines().find_map(|line| line.strip_prefix("Page size:")).unwrap();
    let sides: Vec<f32> = size.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    for (points, mm) in sides.iter().zip([90.0f32, 55.0]) {
        assert!((points * 25.4 / 72.0 - mm).abs() < 0.01, "{size}");
    }
    let text = poppler("pdftotext", &["-layout"], &file).await;
    for words in ["Spanplattenschraube 4 × 40", "Art.Nr.: SD-10023", "1.234,50"] {
        assert!(text.replace('\u{a0}', " ").contains(words), "{words} in {text}");
    }
    let picture = folder.path().join("page");
    let mut rasterise = Command::new("pdftoppm");
    rasterise.args(["-r", "300", "-png", "-singlefile"]).arg(&file).arg(&picture);
    assert!(rasterise.status().await.unwrap().success());
    holds_the_codes(&std::fs::read(folder.path().join("page.png")).unwrap());
    server.stop().await;
}

#[tokio::test]
async fn the_visual_editor_keeps_its_templates() {
    let server = Running::quiet().await;
    let element = json!({ "id": "e1", "type": "price", "x": 80, "y": 80, "width": 800, "height": 200, "content": "1 €" });
    let document = json!({
        "id": "template-1", "name": "Mine", "width": 1600, "height": 1200, "widthMm": 100, "heightMm": 75,
        "printLayoutId": "a4", "elements": [element], "autoMatchEnabled": true, "rules": [{ "priceType": "tiered" }],
    });
    let (status, made) = server.post("/api/label-templates", &document).await;
    assert_eq!((status, &made["data"]["template"]["elements"][0]), (201, &element), "{made}");
    let (status, taken) = server.post("/api/label-templates", &document).await;
    assert_eq!((status, &taken["success"]), (409, &json!(false)));
    let (_, list) = server.get("/api/label-templates").await;
    assert_eq!(list["data"]["templates"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/label-templates/standard-label").await.0, 404);

    // A rule of it holds for a product with tiers, and for no other.
    let tiers = json!({ "data": { "tieredPrices": [{ "quantity": 1, "price": 5 }] } });
    let (_, chosen) = server.post("/api/templates/auto/render/base64", &tiers).await;
    assert_eq!(chosen["warnings"].as_array().unwrap().last().unwrap(), "A rule chose the template Mine.");

    let (status, converted) = server.post("/api/templates/convert", &json!({ "template": document })).await;
    assert_eq!(status, 200, "{converted}");
    let layer = &converted["template"]["layers"][0];
    assert_eq!(layer["position"], json!({ "x": 5.0, "y": 5.0, "unit": "mm" }));
    assert_eq!(
        (&layer["type"], &layer["properties"]["fieldType"]),
        (&json!("dynamic-text"), &json!("price"))
    );

    let foreign = json!({ "elements": [{ "type": "image", "x": 0, "y": 0, "width": 99, "height": 99, "content": "https://evil.example/a.png" }] });
    let (status, refused) =
        send(&server, reqwest::Method::PUT, "/api/label-templates/template-1", &foreign).await;
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("lies elsewhere"), "{refused}");
    assert_eq!(
        send(&server, reqwest::Method::DELETE, "/api/label-templates/template-1", &json!({})).await.0,
        200
    );
    server.stop().await;
}
