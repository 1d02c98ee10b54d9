//! The live page in headless Chromium, against this server; its reducer and its timeline alone.

use std::time::Duration;

use crate::{
    support::{Running, heavy, node_tests},
    workers::{taking_tokens, token},
};

#[tokio::test]
async fn what_the_page_makes_of_events_is_right_at_every_seq() {
    node_tests("page", "fold.test.mjs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_page_shows_jobs_as_they_are_and_were_to_everybody() {
    let _alone = heavy().await;
    let mut config = taking_tokens();
    config.pipeline.enabled = true;
    config.server.demo_shop = true;
    config.browser.settle_timeout = Duration::from_secs(2);
    let server = Running::start(config).await;
    let mut config = taking_tokens();
    config.auth.anonymous = false;
    let closed = Running::start(config).await;
    let worker = token("robot", "work:page-test");
    let somebody = token("ann", "jobs:read jobs:write");
    let environment = [
        ("JOBCAST_URL", server.base.as_str()),
        ("JOBCAST_CLOSED_URL", closed.base.as_str()),
        ("JOBCAST_WORKER", &worker),
        ("JOBCAST_TOKEN", &somebody),
    ];
    node_tests("page", "page.test.mjs", &environment).await;
    server.stop().await;
    closed.stop().await;
}

#[tokio::test]
async fn the_pages_files_are_small_on_the_wire_strict_and_asked_for_once() {
    let server = Running::quiet().await;
    let get = |path: &str| server.http.get(server.url(path));
    let page = get("/").header("accept-encoding", "gzip").send().await.unwrap();
    let header = |name: &str| page.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    assert_eq!((page.status().as_u16(), &*header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!((&*header("x-content-type-options"), &*header("cache-control")), ("nosniff", "no-cache"));
    let known = get("/").header("accept-encoding", "gzip").header("if-none-match", header("etag"));
    assert_eq!(known.send().await.unwrap().status().as_u16(), 304);
    let text = get("/").send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("<script>") && !text.contains("style=") && !text.contains("//"), "{text}");
    let script = get("/page/socket.io.js").send().await.unwrap();
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_ne!(script.headers()["etag"].to_str().unwrap(), header("etag"));
    assert_eq!(get("/page/../main.rs").send().await.unwrap().status().as_u16(), 404);
    assert_eq!(server.get("/page/nothing.js").await.0, 404);
    server.stop().await;
}
