//! `/api/crawler/*` as a page uses it: on the demo shop, with a real browser.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Running, answer, config, heavy, wait_for};

async fn server() -> Running {
    let mut config = config();
    config.server.demo_shop = true;
    config.browser.settle_timeout = Duration::from_secs(2);
    Running::start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn crawls_are_started_watched_and_removed() {
    let _alone = heavy().await;
    let server = server().await;
    let wish = json!({
        "shopUrl": server.demo_shop(),
        "config": { "maxProducts": 2, "screenshotQuality": 90, "customSelectors": { "price": ".product-detail-price" } },
    });
    let (status, started) = server.post("/api/crawler/start", &wish).await;
    assert_eq!((status, &started["success"]), (200, &json!(true)), "{started}");
    let data = &started["data"];
    assert_eq!(data["config"]["maxProducts"], json!(2));
    assert!(["pending", "running"].contains(&data["status"].as_str().unwrap()), "{data}");
    assert!(data["notes"][0].as_str().unwrap().contains("PNG"), "{data}");
    let id = data["jobId"].as_str().unwrap().to_owned();
    server.ended(&id).await;

    let (_, shown) = server.get(&format!("/api/crawler/jobs/{id}")).await;
    let job = &shown["data"];
    assert_eq!(
        (&job["status"], &job["productsFound"], &job["productsScraped"]),
        (&json!("completed"), &json!(2), &json!(2)),
        "{job}"
    );
    let (_, listed) = server.get("/api/crawler/jobs").await;
    assert_eq!(listed["data"][0]["id"], json!(id));

    let product = &job["results"]["products"][0];
    let number = product["articleNumber"].as_str().unwrap();
    assert_eq!(
        product["imageUrl"],
        json!(format!("/api/images/screenshots/{id}/{number}/product-image.png"))
    );
    let (_, shots) = server.get(&format!("/api/crawler/screenshots/{id}")).await;
    assert_eq!(shots["data"], job["results"]["screenshots"]);
    for shot in shots["data"].as_array().unwrap() {
        let meta = &shot["metadata"];
        let parts = meta["targetedScreenshots"].as_array().unwrap();
        let kinds: Vec<&str> = parts.iter().filter_map(|part| part["type"].as_str()).collect();
        for kind in ["product-image", "title", "article-number", "description"] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
        let price = if meta["layoutType"] == "tiered_price" { "price-table" } else { "price" };
        assert!(kinds.contains(&price) && !meta["pageTitle"].as_str().unwrap().is_empty(), "{meta}");
        for part in parts {
            let png =
                server.http.get(part["url"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap();
            let picture = image::load_from_memory(&png).unwrap();
            assert_eq!(
                (json!(picture.width()), json!(picture.height())),
                (part["width"].clone(), part["height"].clone())
            );
        }
    }

    let (status, refused) = server.post(&format!("/api/crawler/stop/{id}"), &json!({})).await;
    assert_eq!((status, &refused["success"]), (400, &json!(false)), "{refused}");
    let cleanup = async |query: &str| -> (u16, Value) {
        answer(server.http.delete(server.url(&format!("/api/crawler/cleanup{query}"))).send().await.unwrap())
            .await
    };
    assert_eq!(cleanup("").await.1["data"]["deletedCount"], json!(0), "it is not a day old");
    assert_eq!(cleanup("?maxAgeHours=-1").await.0, 400);
    assert_eq!(cleanup("?maxAgeHours=0").await.1["data"]["deleted"], json!([id]));
    assert_eq!(server.get(&format!("/api/crawler/jobs/{id}")).await.0, 404);
    let picture = shots["data"][0]["url"].as_str().unwrap();
    wait_for("the pictures to be gone", async || {
        (server.http.get(picture).send().await.unwrap().status() == 404).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crawls_can_be_stopped_and_shops_looked_at_before() {
    let _alone = heavy().await;
    let server = server().await;
    let (_, found) = server.post("/api/crawler/detect", &json!({ "shopUrl": server.demo_shop() })).await;
    assert_eq!(
        (&found["data"]["categoryLinkCount"], &found["data"]["isProductPage"]),
        (&json!(3), &json!(false)),
        "{found}"
    );
    let listing = server.demo_shop().join("schrauben/").unwrap();
    let (_, found) = server.post("/api/crawler/detect", &json!({ "shopUrl": listing })).await;
    assert_eq!(
        (&found["data"]["shopType"], &found["data"]["productLinkCount"]),
        (&json!("generic"), &json!(8)),
        "{found}"
    );
    assert_eq!(found["data"]["nextPages"].as_array().unwrap().len(), 1);
    for (shop, says) in [
        (json!({ "shopUrl": "http://169.254.169.254/" }), "refused"),
        (json!({ "shopUrl": "no address" }), "Invalid shop URL"),
        (json!({}), "Shop URL is required"),
    ] {
        let (status, refused) = server.post("/api/crawler/detect", &shop).await;
        assert_eq!((status, &refused["success"]), (400, &json!(false)), "{refused}");
        assert!(refused["error"].as_str().unwrap().contains(says), "{refused}");
    }

    let bad = json!({ "shopUrl": server.demo_shop(), "config": { "customSelectors": { "price": "div[" } } });
    let (status, refused) = server.post("/api/crawler/start", &bad).await;
    assert_eq!(status, 400);
    assert!(refused["error"].as_str().unwrap().contains("customSelectors.price"), "{refused}");
    let bad =
        json!({ "shopUrl": server.demo_shop(), "crawl": { "customSelectors": { "productLink": "..x" } } });
    let (status, refused) = server.post("/v1/jobs", &bad).await;
    assert_eq!(status, 400);
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("customSelectors.productLink"),
        "{refused}"
    );

    let wish = json!({ "shopUrl": server.demo_shop(), "maxProducts": 30 });
    let id = server.post("/api/crawler/start", &wish).await.1["data"]["jobId"].as_str().unwrap().to_owned();
    wait_for("the crawl to run", async || {
        let (_, shown) = server.get(&format!("/api/crawler/jobs/{id}")).await;
        (shown["data"]["status"] == "running").then_some(())
    })
    .await;
    let (status, stopped) = server.post(&format!("/api/crawler/stop/{id}"), &json!({})).await;
    assert_eq!((status, &stopped["data"]["status"]), (200, &json!("cancelled")));
    assert_eq!(server.get(&format!("/api/crawler/jobs/{id}")).await.1["data"]["status"], "cancelled");
    let nobody = "00000000-0000-7000-8000-000000000000";
    for id in [nobody, "no-id"] {
        assert_eq!(server.post(&format!("/api/crawler/stop/{id}"), &json!({})).await.0, 404);
        assert_eq!(server.get(&format!("/api/crawler/screenshots/{id}")).await.0, 404);
    }
    server.stop().await;
}
