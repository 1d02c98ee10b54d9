//! Spreadsheets and articles over HTTP: what a person uploads, looks at, changes and takes away again.

use std::{io::Cursor, path::Path};

use calamine::{Reader as _, Xlsx};
use jobcast::{
    job::JobId,
    product::{Tier, article::PriceType},
    store::{ArticleRow, Change, Row},
};
use reqwest::multipart::{Form, Part};
use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};

use crate::support::{Running, answer, folder, planned_job};

const LIST: &str = "Artikelnummer;Beschreibung;Preis;EAN;Kategorie;ab 10 Stück;Zusatzinfo;Lagerplatz\n\
                    SD-1;Spanplattenschraube 4 x 40;4,99;4006381333931;Schrauben;4,50;neu;R-12\n\
                    FP-2;=Wandfarbe;1.234,50;123;Farben;;;\n\
                    ;ohne Nummer;1;;;;;\n\
                    SD-1;noch einmal;1;;;;;\n";

impl Running {
    async fn upload(
        &self,
        path: &str,
        name: &str,
        bytes: impl Into<Vec<u8>>,
        more: &[(&str, &str)],
    ) -> (u16, Value) {
        let part = Part::bytes(bytes.into()).file_name(name.to_owned());
        let form = more.iter().fold(Form::new().part("file", part), |form, (name, value)| {
            form.text(name.to_string(), value.to_string())
        });
        answer(self.http.post(self.url(path)).multipart(form).send().await.unwrap()).await
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
        answer(self.http.request(method, self.url(path)).json(body).send().await.unwrap()).await
    }

    async fn bytes(&self, path: &str) -> (String, Vec<u8>) {
        let response = self.http.get(self.url(path)).send().await.unwrap().error_for_status().unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.bytes().await.unwrap().to_vec())
    }
}

/// The first sheet as text.
fn sheet(bytes: Vec<u8>) -> Vec<Vec<String>> {
    let mut workbook: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).unwrap();
    let range = workbook.worksheet_range_at(0).unwrap().unwrap();
    range.rows().map(|row| row.iter().map(ToString::to_string).collect()).collect()
}

#[tokio::test]
async fn an_uploaded_list_is_known_with_all_its_columns_and_tells_what_it_could_not_read() {
    let server = Running::quiet().await;
    let (status, answer) = server.upload("/api/excel/upload", "liste.csv", LIST, &[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["success"], true);
    for body in [&answer, &answer["data"]] {
        let counts = ["totalRows", "validRows", "invalidRows", "successfulProducts", "newProducts"];
        assert_eq!(counts.map(|name| body[name].as_u64().unwrap()), [4, 2, 2, 2, 2], "{body}");
        assert_eq!(
            body["errors"],
            json!([
                { "row": 4, "message": "Artikelnummer fehlt" },
                { "row": 5, "message": "Artikelnummer SD-1 steht schon in Zeile 2" },
            ])
        );
        assert_eq!(body["warnings"][0]["column"], "EAN");
        assert_eq!(body["products"].as_array().unwrap().len(), 2);
    }
    let (_, product) = server.get("/api/excel/product/SD-1").await;
    let data = &product["data"];
    assert_eq!(
        (&data["price"], &data["ean"], &data["category"]),
        (&json!(4.99), &json!("4006381333931"), &json!("Schrauben"))
    );
    assert_eq!(
        (&data["additionalInfo"], &data["customFields"]),
        (&json!("neu"), &json!({ "Lagerplatz": "R-12" }))
    );
    assert_eq!(data["tieredPrices"][0], json!({ "quantity": 10, "minQuantity": 10, "price": 4.5 }));
    let (_, stats) = server.get("/api/excel/stats").await;
    assert_eq!(
        (&stats["totalProducts"], &stats["cached"], &stats["categories"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(stats["data"]["articleNumbers"], json!(["FP-2", "SD-1"]));
    assert!(stats["lastImport"].as_str().unwrap().ends_with('Z'));
    // A second upload changes what is known and adds what is not.
    let (_, again) = server
        .upload("/api/excel/upload", "liste.csv", LIST.replace("4,99", "5,99").replace("FP-2", "FP-3"), &[])
        .await;
    assert_eq!((&again["validRows"], &again["newProducts"]), (&json!(2), &json!(1)));
    let (_, all) = server.get("/api/excel/products").await;
    let listed: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["articleNumber"].as_str().unwrap(), p["price"].as_f64().unwrap()))
        .collect();
    assert_eq!(listed, [("FP-2", 1234.5), ("FP-3", 1234.5), ("SD-1", 5.99)]);
    let (_, page) = server.get("/api/excel/products?limit=1&after=FP-2").await;
    assert_eq!((&page["data"][0]["articleNumber"], &page["next"]), (&json!("FP-3"), &json!("FP-3")));
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_list_changes_nothing_and_says_why() {
    let server = Running::quiet().await;
    let mut twins = Workbook::new();
    twins.add_worksheet().write_row(0, 0, ["Artikelnummer", "Beschreibung"]).unwrap();
    for (name, bytes, says) in [
        ("liste.csv", b"".to_vec(), "is empty"),
        ("liste.csv", "Artikelnummer;Beschreibung\n".into(), "no rows"),
        ("liste.xlsx", twins.save_to_buffer().unwrap(), "no rows"),
        ("liste.xlsx", b"\x89PNG\r\n\x1a\n\0\0".to_vec(), "neither a workbook"),
        ("liste.xls", b"<html><table></table></html>".to_vec(), "neither a workbook"),
        ("liste.pdf", LIST.into(), "Only .xlsx"),
        ("liste.xlsx", b"PK\x03\x04 and no more".to_vec(), "cannot be read"),
    ] {
        for path in ["/api/excel/upload", "/api/excel/validate", "/api/articles/excel-preview"] {
            let (status, body) = server.upload(path, name, bytes.clone(), &[]).await;
            if path != "/api/excel/upload" && says == "no rows" {
                assert_eq!((status, &body["totalRows"]), (200, &json!(0)), "{path} {body}");
                continue;
            }
            assert_eq!((status, &body["success"]), (400, &json!(false)), "{path} {name} {body}");
            assert!(body["error"].as_str().unwrap().contains(says), "{path} {body}");
        }
    }
    let large = vec![b'x'; 22_000_000];
    assert_eq!(server.upload("/api/excel/upload", "liste.csv", large, &[]).await.0, 413);
    let (status, none) = server.send(reqwest::Method::POST, "/api/excel/upload", &json!({})).await;
    assert_eq!((status, &none["success"]), (400, &json!(false)));
    // Rows that are all wrong are told one by one, and nothing is stored.
    let (status, body) =
        server.upload("/api/excel/upload", "liste.csv", "Artikelnummer;Beschreibung\n;x\n", &[]).await;
    assert_eq!((status, &body["validRows"], &body["importId"]), (200, &json!(0), &Value::Null), "{body}");
    let (_, stats) = server.get("/api/excel/stats/summary").await;
    assert_eq!((&stats["totalProducts"], &stats["lastImport"]), (&json!(0), &Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn a_validated_list_is_judged_but_not_stored() {
    let server = Running::quiet().await;
    let (status, body) = server.upload("/api/excel/validate", "liste.csv", LIST, &[]).await;
    assert_eq!((status, &body["valid"], &body["validRows"]), (200, &json!(false), &json!(2)), "{body}");
    let rows = json!({ "products": [{ "articleNumber": "A-1", "description": "Eins", "price": "2,50" }] });
    let (_, body) = server.post("/api/excel/validate", &rows).await;
    assert_eq!((&body["valid"], &body["products"][0]["price"]), (&json!(true), &json!(2.5)));
    assert_eq!(server.post("/api/excel/validate", &json!({ "products": [1] })).await.0, 400);
    assert_eq!(server.get("/api/excel/stats").await.1["totalProducts"], 0);
    server.stop().await;
}

#[tokio::test]
async fn a_known_product_is_added_changed_and_forgotten() {
    let server = Running::quiet().await;
    let new = json!({ "articleNumber": "A 1/ä", "description": "Eins", "price": "2,50", "customFields": { "Farbe": "rot", "Stück": 4 } });
    let (status, body) = server.post("/api/excel/product", &new).await;
    assert_eq!(
        (status, &body["data"]["customFields"]),
        (201, &json!({ "Farbe": "rot", "Stück": "4" })),
        "{body}"
    );
    assert_eq!(server.post("/api/excel/product", &new).await.0, 409);
    for wrong in [
        json!({}),
        json!({ "articleNumber": "B" }),
        json!({ "articleNumber": "x".repeat(101), "description": "lang" }),
        json!({ "articleNumber": "B\u{0}", "description": "x" }),
        json!({ "articleNumber": "B", "description": "x", "price": -1 }),
        json!({ "articleNumber": "B", "description": "x", "customFields": [] }),
        json!([]),
    ] {
        let (status, body) = server.post("/api/excel/product", &wrong).await;
        assert_eq!((status, &body["success"]), (400, &json!(false)), "{wrong} {body}");
    }
    let path = "/api/excel/product/A%201%2F%C3%A4";
    let (status, body) =
        server.send(reqwest::Method::PUT, path, &json!({ "price": 3, "category": "Neu" })).await;
    assert_eq!(
        (status, &body["data"]["price"], &body["data"]["description"]),
        (200, &json!(3.0), &json!("Eins")),
        "{body}"
    );
    assert_eq!(server.send(reqwest::Method::PUT, path, &json!({ "ean": "x" })).await.0, 400);
    assert_eq!(server.send(reqwest::Method::PUT, "/api/excel/product/no", &json!({})).await.0, 404);
    assert_eq!(server.send(reqwest::Method::DELETE, path, &json!({})).await.0, 200);
    assert_eq!(server.get(path).await.0, 404);
    assert_eq!(server.get("/api/excel/product/%00").await.0, 404);
    server.post("/api/excel/product", &new).await;
    let (_, cleared) = server.send(reqwest::Method::DELETE, "/api/excel/cache", &json!({})).await;
    assert_eq!(cleared["deletedCount"], 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_exported_can_be_uploaded_again_and_is_the_same() {
    let server = Running::quiet().await;
    server.upload("/api/excel/upload", "liste.csv", LIST, &[]).await;
    let (_, before) = server.get("/api/excel/products").await;
    let (kind, bytes) = server.bytes("/api/excel/export").await;
    assert!(kind.ends_with("spreadsheetml.sheet"), "{kind}");
    let rows = sheet(bytes.clone());
    assert_eq!(rows[0][..3], ["Artikelnummer", "Beschreibung", "Produktname"]);
    assert_eq!(rows[0][8..], ["ab 10", "Lagerplatz"]);
    assert_eq!((&*rows[1][0], &*rows[1][1]), ("FP-2", "=Wandfarbe"), "text, not a formula");
    server.send(reqwest::Method::DELETE, "/api/excel/cache", &json!({})).await;
    let (status, again) = server.upload("/api/excel/upload", "artikel.xlsx", bytes, &[]).await;
    assert_eq!((status, &again["errorCount"]), (200, &json!(0)), "{again}");
    assert_eq!(server.get("/api/excel/products").await.1, before);
    let (_, template) = server.bytes("/api/excel/template").await;
    let (status, examples) = server.upload("/api/excel/validate", "vorlage.xlsx", template, &[]).await;
    assert_eq!(
        (status, &examples["valid"], &examples["validRows"]),
        (200, &json!(true), &json!(2)),
        "{examples}"
    );
    server.stop().await;
}

fn reading(number: &str, name: &str, price: Option<f64>) -> ArticleRow {
    ArticleRow {
        article_number: number.into(),
        product_name: Some(name.into()),
        price,
        price_type: if price.is_some() { PriceType::Normal } else { PriceType::Unknown },
        image_key: Some("jobs/x/screenshots/y.png".into()),
        source_url: "https://shop.example.com/p".into(),
        ocr_confidence: 91.5,
        ..ArticleRow::default()
    }
}

async fn read(server: &Running, job: JobId, row: ArticleRow) {
    let change = Change { rows: vec![Row::Article(row)], ..Change::default() };
    server.store().change(job, None, change).await.unwrap();
}

#[tokio::test]
async fn readings_make_one_article_a_number_and_leave_alone_what_a_person_verified() {
    let server = Running::quiet().await;
    let job = planned_job(server.store()).await;
    read(&server, job, reading("A-1", "Schraube", None)).await;
    let tier = Tier { min_quantity: 10, price: 4.5 };
    let tiered = ArticleRow {
        tiers: vec![tier],
        price_type: PriceType::Tiered,
        ..reading("A-1", "Schraube 4 x 40", Some(4.99))
    };
    read(&server, job, tiered).await;
    let (_, list) = server.get("/api/articles").await;
    assert_eq!(list["pagination"]["total"], 1);
    let article = &list["data"][0];
    assert_eq!(
        (&article["productName"], &article["price"], &article["priceType"]),
        (&json!("Schraube 4 x 40"), &json!(4.99), &json!("tiered"))
    );
    assert_eq!(
        (&article["imageUrl"], &article["crawlJobId"]),
        (&json!("/cdn/jobs/x/screenshots/y.png"), &json!(job))
    );
    // What was not read this time stays.
    read(&server, job, reading("A-1", "Schraube 4 x 40", None)).await;
    let path = format!("/api/articles/{}", article["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.1["data"]["price"], 4.99);
    // A page sends back all that it was given.
    let mut back = article.clone();
    back["verified"] = true.into();
    back["price"] = 5.into();
    let (status, kept) = server.send(reqwest::Method::PUT, &path, &back).await;
    assert_eq!((status, &kept["data"]["verified"]), (200, &json!(true)), "{kept}");
    let other =
        ArticleRow { description: Some("aus Stahl".into()), ..reading("A-1", "Misread", Some(499.0)) };
    read(&server, job, other).await;
    let (_, article) = server.get(&path).await;
    let data = &article["data"];
    assert_eq!(
        (&data["productName"], &data["price"], &data["description"]),
        (&json!("Schraube 4 x 40"), &json!(5.0), &json!("aus Stahl"))
    );
    // The pictures of a job go with it.
    server.store().cancel(job).await.unwrap();
    server.store().remove(job).await.unwrap();
    let (_, article) = server.get(&path).await;
    assert_eq!((&article["data"]["imageUrl"], &article["data"]["crawlJobId"]), (&Value::Null, &Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn articles_are_listed_searched_changed_together_and_removed() {
    let server = Running::quiet().await;
    for (number, name, price, category) in [
        ("A-1", "Schraube", 1.0, "Eisen"),
        ("A-2", "Dübel 50%", 3.0, "Plastik"),
        ("A-3", "Farbe", 2.0, "Eisen"),
    ] {
        let body =
            json!({ "articleNumber": number, "productName": name, "price": price, "category": category });
        let (status, answer) = server.post("/api/articles", &body).await;
        assert_eq!((status, &answer["data"]["priceType"]), (201, &json!("normal")), "{answer}");
    }
    let twin = json!({ "articleNumber": "A-1", "productName": "x", "price": 1 });
    assert_eq!(server.post("/api/articles", &twin).await.0, 409);
    for (wrong, says) in [
        (json!({ "articleNumber": "B", "productName": "x" }), "price above 0"),
        (json!({ "productName": "x", "price": 1 }), "articleNumber"),
        (json!({ "articleNumber": "B", "price": 1 }), "productName"),
        (
            json!({ "articleNumber": "B", "productName": "x", "price": 1, "imageUrl": "javascript:x" }),
            "imageUrl",
        ),
        (json!({ "articleNumber": "B", "productName": "x", "price": 1, "priceType": "odd" }), "priceType"),
    ] {
        let (status, body) = server.post("/api/articles", &wrong).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].as_str().unwrap().contains(says), "{body}");
    }
    let numbers = async |query: &str| {
        let (status, body) = server.get(&format!("/api/articles?{query}")).await;
        assert_eq!(status, 200, "{query} {body}");
        let found: Vec<String> = body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["articleNumber"].as_str().unwrap().to_owned())
            .collect();
        found.join(" ")
    };
    assert_eq!(numbers("sortBy=price&sortOrder=asc").await, "A-1 A-3 A-2");
    assert_eq!(numbers("sortBy=articleNumber&limit=1&page=2&sortOrder=asc&search=&verified=").await, "A-2");
    assert_eq!(numbers("search=50%25").await, "A-2");
    assert_eq!(numbers("category=Eisen&sortBy=articleNumber&sortOrder=desc").await, "A-3 A-1");
    let (_, page) = server.get("/api/articles?limit=2&page=2").await;
    assert_eq!(
        page["pagination"],
        json!({ "page": 2, "limit": 2, "total": 3, "totalPages": 2, "hasNext": false, "hasPrev": true })
    );
    for bad in
        ["page=0", "limit=101", "limit=x", "sortBy=id;drop", "sortOrder=up", "verified=maybe", "search=%00"]
    {
        let (status, body) = server.get(&format!("/api/articles?{bad}")).await;
        assert_eq!((status, &body["success"]), (400, &json!(false)), "{bad} {body}");
    }
    let (_, list) = server.get("/api/articles?sortBy=articleNumber&sortOrder=asc").await;
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|a| &a["id"]).collect();
    let update = json!({ "ids": ids[..2], "data": { "verified": true, "category": "Neu" } });
    assert_eq!(server.post("/api/articles/bulk-update", &update).await.1["updatedCount"], 2);
    assert_eq!(numbers("verified=true&category=Neu&sortBy=articleNumber&sortOrder=asc").await, "A-1 A-2");
    // One wrong field changes none.
    let wrong = json!({ "ids": ids, "data": { "published": false, "price": -1 } });
    assert_eq!(server.post("/api/articles/bulk-update", &wrong).await.0, 400);
    assert_eq!(numbers("published=false").await, "");
    let (_, stats) = server.get("/api/articles/stats").await;
    assert_eq!(
        (&stats["total"], &stats["verified"], &stats["published"], &stats["withImages"]),
        (&json!(3), &json!(2), &json!(3), &json!(0))
    );
    assert_eq!(stats["data"]["categories"][0], json!({ "name": "Neu", "count": 2 }));
    let taken = json!({ "articleNumber": "A-2" });
    let path = format!("/api/articles/{}", ids[0].as_str().unwrap());
    assert_eq!(server.send(reqwest::Method::PUT, &path, &taken).await.0, 409);
    assert_eq!(
        server.post("/api/articles/bulk-delete", &json!({ "ids": ids[..2] })).await.1["deletedCount"],
        2
    );
    assert_eq!(server.post("/api/articles/bulk-delete", &json!({ "ids": ["x"] })).await.0, 400);
    assert_eq!((server.get(&path).await.0, server.get("/api/articles/x").await.0), (404, 404));
    server.stop().await;
}

#[tokio::test]
async fn articles_are_exported_for_excel_and_for_programs() {
    let server = Running::quiet().await;
    for n in 0..3 {
        let body = json!({ "articleNumber": format!("A-{n}"), "productName": "=cmd|' /C calc'!A0", "price": 1234.5, "description": "a;\"b\"" });
        server.post("/api/articles", &body).await;
    }
    let export = async |body: Value| {
        let response = server.http.post(server.url("/api/articles/export")).json(&body).send().await.unwrap();
        (response.headers()["content-type"].to_str().unwrap().to_owned(), response.text().await.unwrap())
    };
    let (kind, text) = export(json!({ "format": "csv" })).await;
    assert_eq!(kind, "text/csv; charset=utf-8");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("\u{feff}Artikelnummer;Produktname;Beschreibung;Preis"), "{text}");
    assert_eq!(lines.len(), 4);
    assert!(
        lines[1].starts_with("A-0;'=cmd|' /C calc'!A0;\"a;\"\"b\"\"\";1234,50;EUR;normal"),
        "{}",
        lines[1]
    );
    let (kind, text) = export(json!({ "format": "json", "ids": [] })).await;
    assert_eq!(kind, "application/json");
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 3);
    let (_, one) = export(json!({ "format": "json", "ids": [all[1]["id"]] })).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&one).unwrap(), [all[1].clone()]);
    assert_eq!(server.post("/api/articles/export", &json!({ "format": "xml" })).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_spreadsheet_changes_the_articles_that_a_person_assigned_its_columns_to() {
    let server = Running::quiet().await;
    for number in ["A-1", "A-2"] {
        let body = json!({ "articleNumber": number, "productName": "alt", "price": 1 });
        server.post("/api/articles", &body).await;
    }
    let file = "Nr;Neuer Name;VK;Staffel;ok\n\
                A-1;Schraube;2,50;ab 10 Stück 2,20 €;ja\n\
                A-9;gibt es nicht;1;;\n\
                A-2;;teuer;;\n\
                ;ohne;1;;\n";
    let (_, preview) = server.upload("/api/articles/excel-preview", "neu.csv", file, &[]).await;
    assert_eq!(preview["headers"], json!(["Nr", "Neuer Name", "VK", "Staffel", "ok"]));
    assert_eq!((&preview["totalRows"], &preview["columnIndices"]), (&json!(4), &json!([0, 1, 2, 3, 4])));
    assert_eq!(preview["rows"][0][0], "A-1");
    let fields = server.get("/api/articles/excel-valid-fields").await.1;
    assert!(fields["data"].as_array().unwrap().iter().any(|field| field["field"] == "price"));
    let config = json!({
        "matchColumn": { "type": "header", "value": "Nr" },
        "fieldMappings": [
            { "excelColumn": "Neuer Name", "dbField": "productName" },
            { "excelColumn": 2, "dbField": "price", "type": "number" },
            { "excelColumn": "D", "dbField": "tieredPrices" },
            { "excelColumn": "ok", "dbField": "verified" },
        ],
    });
    let (status, done) = server
        .upload("/api/articles/excel-import", "neu.csv", file, &[("config", &config.to_string())])
        .await;
    assert_eq!(status, 200, "{done}");
    let counts = ["totalRows", "matchedArticles", "updatedArticles", "skippedArticles"];
    assert_eq!(counts.map(|name| done[name].as_i64().unwrap()), [4, 2, 1, 2], "{done}");
    assert_eq!(
        done["errors"],
        json!([
            { "row": 4, "column": "VK", "message": "„teuer“ ist hier nicht lesbar" },
            { "row": 5, "column": "Nr", "message": "Artikelnummer fehlt" },
        ])
    );
    let (_, list) = server.get("/api/articles?sortBy=articleNumber&sortOrder=asc").await;
    let first = &list["data"][0];
    assert_eq!(
        (&first["productName"], &first["price"], &first["priceType"], &first["verified"]),
        (&json!("Schraube"), &json!(2.5), &json!("tiered"), &json!(true))
    );
    assert_eq!((&list["data"][1]["productName"], &list["data"][1]["price"]), (&json!("alt"), &json!(1.0)));
    for (config, says) in [
        ("{", "JSON"),
        (
            r#"{"matchColumn":{"type":"header","value":"SKU"},"fieldMappings":[{"excelColumn":"VK","dbField":"price"}]}"#,
            "no column",
        ),
        (r#"{"fieldMappings":[{"excelColumn":"VK","dbField":"price"}]}"#, "Artikelnummer"),
    ] {
        let (status, body) =
            server.upload("/api/articles/excel-import", "neu.csv", file, &[("config", config)]).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].as_str().unwrap().contains(says), "{body}");
    }
    assert_eq!(server.upload("/api/articles/excel-import", "neu.csv", file, &[]).await.0, 400);
    server.stop().await;
}

/// Runs `jobcast import` beside a server; returns its exit code and what it says.
async fn import_as_a_command(server: &Running, file: &Path, more: &[&str]) -> (i32, String, String) {
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobcast"))
        .arg("import")
        .arg(file)
        .args(["--server", server.base.as_str()])
        .args(more)
        .output();
    let said = tokio::time::timeout(std::time::Duration::from_secs(60), run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (said.status.code().unwrap(), text(said.stdout), text(said.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn spreadsheets_are_imported_from_the_command_line() {
    let server = Running::quiet().await;
    let folder = folder();
    let list = folder.path().join("list.csv");
    std::fs::write(&list, "Artikelnummer;Bezeichnung;Preis\nC-1;Schraube;1,50\nC-2;Mutter;2,50\n;ohne;1\n")
        .unwrap();
    let (code, said, _) = import_as_a_command(&server, &list, &[]).await;
    assert_eq!(code, 2, "{said}");
    for part in ["2 of 3 rows of list.csv were imported", "new products  2", "row 4: Artikelnummer fehlt"] {
        assert!(said.contains(part), "{said}");
    }
    std::fs::write(&list, "Artikelnummer;Bezeichnung;Preis\nC-1;Schraube;1,75\n").unwrap();
    let (code, said, _) = import_as_a_command(&server, &list, &["--json"]).await;
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &answer["validRows"], &answer["newProducts"]), (0, &json!(1), &json!(0)), "{said}");
    assert_eq!(server.get("/api/excel/product/C-1").await.1["data"]["price"], 1.75);

    let article = json!({ "articleNumber": "C-1", "productName": "Schraube", "price": 1 });
    assert_eq!(server.post("/api/articles", &article).await.0, 201);
    let (code, said, _) = import_as_a_command(
        &server,
        &list,
        &["--articles", "--map", "Preis=price", "--map", "B=productName"],
    )
    .await;
    assert_eq!((code, said.contains("1 of 1 rows changed articles")), (0, true), "{said}");
    assert_eq!(server.get("/api/articles").await.1["data"][0]["price"], 1.75);

    for (more, says) in [
        (&["--articles", "--map", "price"][..], "Preis=price"),
        (&["--articles", "--map", "Preis=colour"], "excel-valid-fields"),
        (&["--map", "Preis=price"], "--articles"),
    ] {
        let (code, _, said) = import_as_a_command(&server, &list, more).await;
        assert!(code != 0 && said.contains(says), "{more:?}: {said}");
    }
    server.stop().await;
}
