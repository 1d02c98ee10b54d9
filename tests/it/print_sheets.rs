//! Labels on sheets over HTTP: the PDF is measured and its codes are read back, as paper would be.

use std::{path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::GrayImage;
use serde_json::{Value, json};

use crate::{
    label_library::add,
    support::{Running, answer, folder, heavy},
};

/// Dots per inch of the raster, and its dots per millimetre.
const DPI: u32 = 300;
const PER_MM: f64 = DPI as f64 / 25.4;

/// The EAN-13 of a number.
fn ean(number: usize) -> String {
    let digits = format!("400638{number:06}");
    let sum: u32 =
        digits.bytes().enumerate().map(|(at, b)| u32::from(b - b'0') * if at % 2 == 0 { 1 } else { 3 }).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// What the code of a label holds: every other one has bars, the rest a QR code.
fn code(number: usize) -> String {
    if number.is_multiple_of(2) { ean(number) } else { format!("https://shop.example.com/p/{number:04}") }
}

async fn labels(server: &Running, count: usize) -> Vec<Value> {
    let mut ids = Vec::new();
    for number in 0..count {
        let mut body = json!({
            "articleNumber": format!("P-{number:04}"), "productName": format!("Probe {number}"),
            "priceInfo": { "price": f64::from(number as u32) + 0.5 },
            "shopUrl": format!("https://shop.example.com/p/{number:04}"),
        });
        if number % 2 == 0 {
            body["ean"] = json!(ean(number));
        }
        ids.push(add(server, &body).await["id"].clone());
    }
    ids
}

/// The exported PDF.
async fn export(server: &Running, body: &Value) -> Vec<u8> {
    let response = server.http.post(server.url("/api/print/export")).json(body).send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    assert_eq!(response.headers()["content-type"], "application/pdf");
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"labels.pdf\"");
    response.bytes().await.unwrap().to_vec()
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}); it comes with the Debian package poppler-utils")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Error"), "{program}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pages and the size of the first one in points, as another program reads them.
fn measured(pdf: &[u8], folder: &Path) -> (usize, f64, f64) {
    std::fs::write(folder.join("sheet.pdf"), pdf).unwrap();
    let said = run("pdfinfo", &["sheet.pdf"], folder);
    let line = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let size: Vec<f64> = line("Page size:").split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (line("Pages:").parse().unwrap(), size[0], size[1])
}

/// A page as paper would show it.
fn raster(folder: &Path, page: usize) -> GrayImage {
    let (page, dpi) = (page.to_string(), DPI.to_string());
    let arguments =
        ["-gray", "-png", "-singlefile", "-r", &dpi, "-f", &page, "-l", &page, "sheet.pdf", "page"];
    run("pdftoppm", &arguments, folder);
    image::open(folder.join("page.png")).unwrap().to_luma8()
}

/// The text of each code on a part of the page, in millimetres.
fn codes(page: &GrayImage, x: f64, y: f64, width: f64, height: f64) -> Vec<String> {
    let dots = |mm: f64| (mm * PER_MM).round() as u32;
    let part = image::imageops::crop_imm(page, dots(x), dots(y), dots(width), dots(height)).to_image();
    let (width, height) = part.dimensions();
    let found = rxing::helpers::detect_multiple_in_luma(part.into_raw(), width, height).unwrap_or_default();
    found.iter().map(|code| code.getText().to_owned()).collect()
}

/// The middles of the dark runs on a line of the page, in millimetres.
fn dark(values: impl Iterator<Item = u8>) -> Vec<f64> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, value) in values.enumerate() {
        match runs.last_mut() {
            _ if value > 200 => {}
            Some((_, end)) if *end == at => *end += 1,
            _ => runs.push((at, at + 1)),
        }
    }
    runs.into_iter().map(|(begin, end)| (begin + end) as f64 / 2.0 / PER_MM).collect()
}

fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?} instead of {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 0.13, "{found} instead of {expected}");
    }
}

#[tokio::test]
async fn a_sold_sheet_has_each_label_in_its_cell_and_every_code_can_be_read() {
    let _turn = heavy().await;
    let server = Running::quiet().await;
    let ids = labels(&server, 26).await;
    let body = json!({
        "labelIds": ids, "format": "A4",
        "gridConfig": { "columns": 3, "rows": 8, "spacing": 0, "marginTop": 0.5, "marginBottom": 0.5,
                        "marginLeft": 0, "marginRight": 0 },
    });
    let pdf = export(&server, &body).await;
    let folder = folder();
    let (pages, width, height) = measured(&pdf, folder.path());
    assert_eq!(pages, 2);
    assert!((width - 595.276).abs() < 0.01 && (height - 841.89).abs() < 0.01, "{width} × {height}");
    let first = raster(folder.path(), 1);
    for number in 0..24 {
        let (column, row) = ((number % 3) as f64, (number / 3) as f64);
        let read = codes(&first, column * 70.0, 0.5 + row * 37.0, 70.0, 37.0);
        assert_eq!(read, [code(number)], "the cell of number {number}");
    }
    let second = raster(folder.path(), 2);
    assert_eq!(codes(&second, 70.0, 0.5, 70.0, 37.0), [code(25)]);
    let empty = image::imageops::crop_imm(&second, 0, 1000, second.width(), 1000).to_image();
    assert!(empty.pixels().all(|pixel| pixel.0[0] == 255), "cells without a label stay white");
    let text = run("pdftotext", &["-layout", "sheet.pdf", "-"], folder.path());
    assert!(text.contains("Probe 0") && text.contains("25,50"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_document_of_many_parts_is_one_document() {
    let _turn = heavy().await;
    let server = Running::quiet().await;
    let ids = labels(&server, 7).await;
    // A label may be printed many times.
    let many: Vec<&Value> = ids.iter().cycle().take(250).collect();
    let body = json!({
        "labelIds": many, "format": "A4",
        "gridConfig": { "columns": 3, "rows": 8, "spacing": 2, "marginTop": 8, "marginBottom": 8 },
    });
    let pdf = export(&server, &body).await;
    let folder = folder();
    assert_eq!(measured(&pdf, folder.path()).0, 11);
    let text = run("pdftotext", &["sheet.pdf", "-"], folder.path());
    assert_eq!(text.matches("Probe").count(), 250);
    let last = raster(folder.path(), 11);
    let (width, height) = (190.0 / 3.0 - 4.0 / 3.0, (281.0 - 14.0) / 8.0);
    for number in 240..250 {
        let (column, row) = ((number % 3) as f64, ((number - 240) / 3) as f64);
        let read = codes(&last, 10.0 + column * (width + 2.0), 8.0 + row * (height + 2.0), width, height);
        assert_eq!(read, [code(number % 7)], "the cell of number {number}");
    }
    server.stop().await;
}

#[tokio::test]
async fn cut_marks_point_at_the_edges_of_the_cells_to_a_tenth_of_a_millimetre() {
    let _turn = heavy().await;
    let server = Running::quiet().await;
    let ids = labels(&server, 6).await;
    let body = json!({
        "labelIds": ids, "format": "pdf",
        "layout": {
            "paperFormat": { "type": "Custom", "width": 200, "height": 150 },
            "gridLayout": { "columns": 2, "rows": 3, "spacing": 6,
                            "margins": { "top": 12, "bottom": 9, "left": 10, "right": 14 } },
            "settings": { "showCutMarks": true, "showBorders": true },
        },
    });
    let pdf = export(&server, &body).await;
    let folder = folder();
    let (pages, width, height) = measured(&pdf, folder.path());
    assert_eq!(pages, 1);
    assert!((width - 200.0 / 25.4 * 72.0).abs() < 0.01 && (height - 150.0 / 25.4 * 72.0).abs() < 0.01);
    let page = raster(folder.path(), 1);
    let row = |y: f64| {
        let y = (y * PER_MM) as u32;
        dark((0..page.width()).map(|x| page.get_pixel(x, y).0[0]))
    };
    let column = |x: f64| {
        let x = (x * PER_MM) as u32;
        dark((0..page.height()).map(|y| page.get_pixel(x, y).0[0]))
    };
    // Two columns of 85 mm, three rows of 39 mm.
    let (xs, ys) = ([10.0, 95.0, 101.0, 186.0], [12.0, 51.0, 57.0, 96.0, 102.0, 141.0]);
    near(&row(9.0), &xs);
    near(&row(144.0), &xs);
    near(&column(7.0), &ys);
    near(&column(189.0), &ys);
    // A border lies inside of its cell; between the cells the paper is white.
    near(&column(11.0), &ys.map(|y| if [12.0, 57.0, 102.0].contains(&y) { y + 0.1 } else { y - 0.1 }));
    assert_eq!(column(98.0), [] as [f64; 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_preview_is_a_picture_of_the_sheet() {
    let server = Running::quiet().await;
    let ids = labels(&server, 7).await;
    let (status, shown) =
        server.post("/api/print/preview", &json!({ "labelIds": ids, "format": "A4" })).await;
    assert_eq!(status, 200, "{shown}");
    let data = &shown["data"];
    assert_eq!((&data["labelsCount"], &data["totalPages"]), (&json!(7), &json!(2)));
    let picture = |shown: &Value| {
        let url = shown["data"]["previewUrl"].as_str().unwrap();
        let bytes = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        image::load_from_memory(&bytes).unwrap().to_luma8()
    };
    let first = picture(&shown);
    assert_eq!((first.width(), first.height()), (990, 1400));
    let ink = |picture: &GrayImage, left: u32, top: u32| {
        let cell = image::imageops::crop_imm(picture, left, top, 436, 420).to_image();
        cell.pixels().filter(|pixel| pixel.0[0] < 128).count()
    };
    // Six cells of 92.5 × 89 mm at 4.71 pixels per millimetre.
    for (column, row) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
        assert!(
            ink(&first, 47 + column * 460, 47 + row * 443) > 1000,
            "cell {column}, {row} shows its label"
        );
    }
    let (_, shown) =
        server.post("/api/print/preview", &json!({ "labelIds": ids, "format": "A4", "page": 2 })).await;
    let second = picture(&shown);
    assert!(ink(&second, 47, 47) > 1000 && ink(&second, 507, 47) == 0);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_printed_is_refused_before_anything_is_drawn() {
    let server = Running::quiet().await;
    let ids = labels(&server, 1).await;
    let nobody = "0192f0c1-7f2a-7cc2-8000-000000000001";
    for path in ["/api/print/preview", "/api/print/export"] {
        let (status, refused) =
            server.post(path, &json!({ "labelIds": [ids[0], nobody], "format": "A4" })).await;
        assert_eq!((status, &refused["success"]), (404, &json!(false)));
        assert!(refused["error"].as_str().unwrap().contains(nobody), "{refused}");
        for bad in
            [json!({}), json!({ "labelIds": [] }), json!({ "labelIds": ids, "format": "B9" }), json!(1)]
        {
            assert_eq!(server.post(path, &bad).await.0, 400, "{path} {bad}");
        }
    }
    for png in [
        json!({ "labelIds": ids, "format": "A4", "outputFormat": "png" }),
        json!({ "labelIds": ids, "format": "png", "layout": {} }),
    ] {
        let (status, refused) = server.post("/api/print/export", &png).await;
        assert_eq!((status, &refused["success"]), (400, &json!(false)));
        assert!(refused["error"].as_str().unwrap().contains("png"), "{refused}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_label_with_a_picture_of_its_own_is_printed_as_that_picture() {
    let _turn = heavy().await;
    let server = Running::quiet().await;
    let mut own = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(60, 30).write_to(&mut own, image::ImageFormat::Png).unwrap();
    let body = json!({
        "articleNumber": "1", "productName": "Schwarz", "priceInfo": { "price": 1 },
        "imageData": STANDARD.encode(own.into_inner()),
    });
    let id = add(&server, &body).await["id"].clone();
    let body = json!({
        "labelIds": [id], "format": "Custom", "customWidth": 100, "customHeight": 100,
        "gridConfig": { "columns": 1, "rows": 1 },
    });
    let pdf = export(&server, &body).await;
    let folder = folder();
    measured(&pdf, folder.path());
    let page = raster(folder.path(), 1);
    let at = |x: f64, y: f64| page.get_pixel((x * PER_MM) as u32, (y * PER_MM) as u32).0[0];
    // 80 × 40 mm in the middle of a cell of 80 × 80.
    for (x, y, value) in
        [(11.0, 31.0, 0), (89.0, 69.0, 0), (50.0, 28.0, 255), (50.0, 72.0, 255), (8.0, 50.0, 255)]
    {
        assert_eq!(at(x, y), value, "{x}, {y}");
    }
    server.stop().await;
}

#[tokio::test]
async fn papers_grids_and_layouts_are_told() {
    let server = Running::quiet().await;
    let (_, formats) = server.get("/api/print/formats").await;
    let sizes: Vec<(&str, f64, f64)> = formats["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["name"].as_str().unwrap(), f["width"].as_f64().unwrap(), f["height"].as_f64().unwrap()))
        .collect();
    assert_eq!(
        sizes[..4],
        [("A3", 297.0, 420.0), ("A4", 210.0, 297.0), ("A5", 148.0, 210.0), ("Letter", 216.0, 279.0)]
    );
    assert_eq!(server.get("/api/print/presets").await.1["data"].as_array().unwrap().len(), 12);
    let path = "/api/print/calculate-grid";
    let (_, grid) = server.post(path, &json!({ "paperFormat": "A4", "labelCount": 25 })).await;
    assert_eq!(
        (&grid["data"]["columns"], &grid["data"]["rows"], &grid["data"]["totalPages"]),
        (&json!(2), &json!(5), &json!(3))
    );
    for bad in [
        json!({ "labelCount": 5 }),
        json!({ "paperFormat": "A4" }),
        json!({ "paperFormat": "A4", "labelCount": 1, "labelWidth": 500 }),
        json!({ "paperFormat": "A4", "labelCount": 1, "labelHeight": -1 }),
        json!({ "paperFormat": 7, "labelCount": 1 }),
    ] {
        assert_eq!(server.post(path, &bad).await.0, 400, "{bad}");
    }
    let path = "/api/print/validate-layout";
    let (_, fine) =
        server.post(path, &json!({ "format": "A4", "gridConfig": { "columns": 3, "rows": 3 } })).await;
    assert_eq!((&fine["data"]["valid"], &fine["data"]["labelsPerPage"]), (&json!(true), &json!(9)));
    let (status, wrong) =
        server.post(path, &json!({ "format": "A4", "gridConfig": { "columns": 90 } })).await;
    assert_eq!((status, &wrong["data"]["valid"]), (200, &json!(false)));
    assert_eq!(wrong["data"]["errors"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_layout_that_was_saved_comes_back_as_it_was_until_it_is_deleted() {
    let server = Running::quiet().await;
    let path = "/api/print/templates";
    let sent = json!({ "id": "mine", "name": "Meine", "gridLayout": { "columns": 4 }, "extra": [1, null] });
    let (status, saved) = server.post(path, &sent).await;
    assert_eq!(status, 200, "{saved}");
    for key in ["id", "name", "gridLayout", "extra"] {
        assert_eq!(saved["data"][key], sent[key]);
    }
    assert!(saved["data"]["createdAt"].is_string());
    let (_, unnamed) = server.post(path, &json!({ "columns": 1 })).await;
    assert!(unnamed["data"]["id"].is_string());
    server.post(path, &json!({ "id": "mine", "name": "Anders" })).await;
    let (_, list) = server.get(path).await;
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Anders", "Print template"]);
    assert_eq!(server.get("/api/print/templates/mine").await.1["data"]["name"], "Anders");
    assert_eq!(server.post(path, &json!({ "id": "mine", "deleted": true })).await.0, 200);
    assert_eq!(server.post(path, &json!({ "id": "mine", "deleted": true })).await.0, 404);
    let other = server.url(&format!("{path}/{}", unnamed["data"]["id"].as_str().unwrap()));
    assert_eq!(answer(server.http.delete(other).send().await.unwrap()).await.0, 200);
    assert_eq!(server.get(path).await.1["data"], json!([]));
    for bad in [
        json!([]),
        json!({ "id": 7 }),
        json!({ "name": "x".repeat(201) }),
        json!({ "note": "a\0" }),
        json!({ "blob": "x".repeat(100_001) }),
    ] {
        assert_eq!(server.post(path, &bad).await.0, 400);
    }
    server.stop().await;
}
