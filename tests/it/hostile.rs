//! One real job on a shop whose pages do what pages should not: each ends in a sentence, the job goes on, and no process
//! stays.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query},
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
    routing::get,
};
use jobcast::app::bench::usage;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use url::Url;

use crate::support::{Running, config, heavy, wait_for};

/// Pages that are honest, in the order of the shop.
const GOOD: [&str; 3] = ["good-1", "good-2", "good-3"];
/// Pages that never become an item, with what is said of each.
const NOT_FETCHED: [(&str, &str); 6] = [
    ("redirects", "redirects more than 5 times"),
    ("huge", "larger than"),
    ("drip", "did not answer within"),
    ("download", "not text"),
    ("gone", "status 404"),
    ("broken", "status 500"),
];
/// What becomes of a page.
enum Fate {
    /// It is photographed, whatever it tries.
    Picture,
    /// It fails, and this is said of it.
    Said(&'static str),
    /// Either, for it is only a question of the machine's speed.
    PictureOr(&'static str),
}
use Fate::*;

/// Pages that say that they are a product and do something else in a browser.
const IN_THE_BROWSER: [(&str, Fate, &str); 13] = [
    ("alerts", Picture, "onbeforeunload = () => 'stay!'; for (;;) { alert(1); confirm(2); prompt(3) }"),
    ("popups", Picture, "for (let i = 0; i < 10000; i++) open('/p/good-1')"),
    ("busy", Picture, "for (;;);"),
    (
        "infinite-scroll",
        Picture,
        "onscroll = () => { document.body.append(Object.assign(document.createElement('p'), { style: 'height:5000px' })) };
         scrollTo(0, 1e6)",
    ),
    (
        "huge-dom",
        PictureOr("was not there within"),
        "let s = ''; for (let i = 0; i < 200000; i++) s += '<i>x</i>'; document.body.insertAdjacentHTML('beforeend', s)",
    ),
    ("websocket", Picture, "setInterval(() => new WebSocket('ws://127.0.0.1:22/'), 5)"),
    ("never-loads", Picture, "document.write('<img src=/never>')"),
    (
        "js-redirects",
        Said("leads elsewhere again and again"),
        "location = '/p/js-redirects?n=' + Math.random()",
    ),
    (
        "meta-redirects",
        PictureOr("leads elsewhere again and again"),
        "document.write(`<meta http-equiv=refresh content='0;url=/p/meta-redirects?n=${Math.random()}'>`)",
    ),
    (
        "downloads",
        Picture,
        "setInterval(() => { const a = document.createElement('a'); a.href = '/p/download'; a.download = 'x'; a.click() }, 20)",
    ),
    ("private", Said("may not be visited"), "location = 'http://169.254.169.254/latest/meta-data/'"),
    ("crash", PictureOr("crashed"), "const all = []; for (;;) all.push(new Array(1e6).fill(1.1))"),
    (
        "greedy",
        Said("crashed"),
        "document.write('<img src=/never>'); const all = [];
         setInterval(() => { const b = new Uint8Array(128 << 20); b.fill(1); all.push(b) }, 1)",
    ),
];

fn product(name: &str, script: &str) -> Response {
    let data = json!({
        "@context": "https://schema.org", "@type": "Product", "name": format!("Product {name}"), "sku": name,
        "offers": { "@type": "Offer", "price": "9.90", "priceCurrency": "EUR" },
    });
    let page = format!(
        "<!doctype html><html lang=en><title>{name}</title><script type=application/ld+json>{data}</script>
         <body><main class=product-detail style='width:600px;height:400px'><h1>Product {name}</h1>
         <p class=product-detail-ordernumber>{name}</p><p class=product-detail-price>9,90 €</p></main>
         <script>{script}</script>"
    );
    Html(page).into_response()
}

/// A body of so many pieces, one each so often.
fn slow(pieces: usize, piece: &'static [u8], every: Duration) -> Response {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let drops = tokio_stream::wrappers::IntervalStream::new(ticks).take(pieces);
    let body = drops.map(move |_| Ok::<_, Infallible>(Bytes::from_static(piece)));
    ([(header::CONTENT_TYPE, "text/html")], Body::from_stream(body)).into_response()
}

async fn page(Path(name): Path<String>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    static MEGABYTE: [u8; 1_000_000] = [b' '; 1_000_000];
    match &*name {
        "redirects" => {
            let n = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(0_u32);
            Redirect::temporary(&format!("/p/redirects?n={}", n + 1)).into_response()
        }
        "huge" => {
            let body = tokio_stream::iter(0..100).map(|_| Ok::<_, Infallible>(Bytes::from_static(&MEGABYTE)));
            ([(header::CONTENT_TYPE, "text/html")], Body::from_stream(body)).into_response()
        }
        "drip" => slow(600, b" ", Duration::from_millis(100)),
        "download" => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::CONTENT_DISPOSITION, "attachment; filename=x.exe"),
            ];
            (headers, "MZ").into_response()
        }
        "gone" => StatusCode::NOT_FOUND.into_response(),
        "broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        name => {
            let script =
                IN_THE_BROWSER.iter().find(|(of, ..)| *of == name).map_or("", |(_, _, script)| script);
            product(name, script)
        }
    }
}

async fn shop() -> Url {
    let names = GOOD.iter().chain(NOT_FETCHED.iter().map(|(name, _)| name));
    let names: Vec<&str> = names.chain(IN_THE_BROWSER.iter().map(|(name, ..)| name)).copied().collect();
    let cards: String = names
        .iter()
        .map(|name| format!("<div class=product-box><a href=/p/{name}>{name}</a></div>"))
        .collect();
    let app = Router::new()
        .route("/", get(async move || Html(format!("<h1>Shop</h1>{cards}"))))
        .route("/never", get(async || std::future::pending::<()>().await))
        .route("/p/{name}", get(page));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/").parse().unwrap()
}

/// This process's Chromium processes.
fn browsers() -> Vec<(u32, String)> {
    let line = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let all = usage::family(std::process::id()).into_iter().map(|pid| (pid, line(pid)));
    all.filter(|(_, line)| line.contains("--user-data-dir") || line.contains("--type=")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_pages_each_end_in_a_sentence_and_the_job_goes_on() {
    let _alone = heavy().await;
    let shop = shop().await;
    let mut config = config();
    config.crawler.allow_origins = vec![shop.clone()];
    config.crawler.page_timeout = Duration::from_secs(2);
    config.browser.page_timeout = Duration::from_secs(12);
    config.browser.settle_timeout = Duration::from_millis(1500);
    config.pipeline.retry_backoff = Duration::from_millis(100);
    let server = Running::start(config).await;
    let asked = json!({ "shopUrl": shop, "plan": "crawl", "maxProducts": 100 });
    let began = std::time::Instant::now();
    let (status, job) = server.post("/v1/jobs", &asked).await;
    assert_eq!(status, 201, "{job}");
    let job = job["id"].as_str().unwrap();

    // The whole browser dies, too, in the middle of its work.
    let killed = wait_for("a picture", async || {
        server.get(&format!("/api/crawler/screenshots/{job}")).await.1["data"].get(0)?;
        let (pid, _) = browsers().into_iter().find(|(_, line)| !line.contains("--type="))?;
        kill_process(Pid::from_raw(pid as i32)?, Signal::KILL).ok()
    });
    killed.await;
    let ended = server.ended(job).await;
    let took = began.elapsed();
    println!(
        "{} pages in {took:.1?}; errors: {:#}",
        GOOD.len() + NOT_FETCHED.len() + IN_THE_BROWSER.len(),
        ended["errors"]
    );
    assert_eq!(ended["status"], "completed", "{ended}");

    let errors: Vec<&str> = ended["errors"].as_array().unwrap().iter().filter_map(|e| e.as_str()).collect();
    let (_, shots) = server.get(&format!("/api/crawler/screenshots/{job}")).await;
    let pictures: Vec<&str> =
        shots["data"].as_array().unwrap().iter().filter_map(|shot| shot["productUrl"].as_str()).collect();
    let has_picture = |name: &str| pictures.iter().any(|url| url.ends_with(&format!("/p/{name}")));
    let said = |name: &str| errors.iter().find(|error| error.contains(&format!("/p/{name} ")));
    for name in GOOD {
        assert!(has_picture(name), "{name}: {errors:#?}");
    }
    for (name, reason) in NOT_FETCHED {
        assert!(said(name).is_some_and(|error| error.contains(reason)), "{name}: {errors:#?}");
    }
    for (name, fate, _) in IN_THE_BROWSER {
        let is_said = |reason: &str| said(name).is_some_and(|error| error.contains(reason));
        let is_met = match fate {
            Picture => has_picture(name),
            Said(reason) => is_said(reason),
            // One of the two, never both and never neither.
            PictureOr(reason) => {
                has_picture(name) != is_said(reason) && has_picture(name) != said(name).is_some()
            }
        };
        assert!(is_met, "{name}: {errors:#?}");
    }
    assert!(took < Duration::from_secs(180), "{took:?}");

    assert!(!browsers().is_empty());
    server.stop().await;
    wait_for("every browser process to end", async || browsers().is_empty().then_some(())).await;
}
