//! Companies looked up on their own sites, as the domain scraper's page has it done.

use std::{fs, path::PathBuf, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use futures_util::StreamExt as _;
use jobcast::store::Retried;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::{
    identity,
    support::{Running, answer, config, quiet_config, soon, wait_for},
    transcripts::connect,
};

/// What a site of the tests does.
#[derive(Clone, Copy, Debug)]
enum Site {
    /// The pages of a folder of the fixtures.
    Pages(&'static str),
    /// Asks robots to stay away.
    Forbids,
    Breaks,
    /// Never answers.
    Hangs,
    /// The pages of a folder, each after a while.
    Slow(&'static str, Duration),
}

/// Serves a site at an address of its own.
async fn serve(site: Site) -> Url {
    let answer = move |request: Request| async move { respond(site, request.uri().path()).await };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

async fn respond(site: Site, path: &str) -> Response {
    let folder = match site {
        Site::Pages(folder) => folder,
        Site::Slow(folder, delay) => {
            tokio::time::sleep(delay).await;
            folder
        }
        Site::Forbids if path == "/robots.txt" => return "User-agent: *\nDisallow: /".into_response(),
        Site::Forbids => "bare",
        Site::Breaks if path == "/robots.txt" => return StatusCode::NOT_FOUND.into_response(),
        Site::Breaks => return StatusCode::GONE.into_response(),
        Site::Hangs => std::future::pending().await,
    };
    let name = path.trim_matches('/');
    let name = if name.is_empty() { "index" } else { name.trim_end_matches(".html") };
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/companies").join(folder);
    match fs::read_to_string(file.join(format!("{name}.html"))) {
        Ok(page) => Html(page).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The domain of a site, as a person types it.
fn domain(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

async fn start(sites: &[Url], workers: usize) -> Running {
    let mut settings = config();
    settings.crawler.allow_origins = sites.to_vec();
    settings.crawler.page_timeout = Duration::from_secs(20);
    settings.pipeline.company_concurrency = workers;
    Running::start(settings).await
}

/// Follows a job to its end; returns all that was shown and the code with which the connection was closed.
async fn follow(server: &Running, job: &str) -> (Vec<Value>, u16) {
    let mut socket = connect(server, &format!("/ws/job/{job}")).await;
    let mut shown = Vec::new();
    loop {
        match soon("the status object", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => shown.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => return (shown, frame.unwrap().code.into()),
            _ => {}
        }
    }
}

fn messages(shown: &Value) -> Vec<&str> {
    shown["logs"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect()
}

async fn upload(server: &Running, path: &str, csv: &str) -> (u16, Value) {
    let part = reqwest::multipart::Part::bytes(csv.as_bytes().to_vec()).file_name("domains.csv");
    let form = reqwest::multipart::Form::new().part("file", part);
    answer(server.http.post(server.url(path)).multipart(form).send().await.unwrap()).await
}

#[tokio::test]
async fn a_batch_is_looked_up_in_parallel_shown_live_and_kept() {
    let mut sites = Vec::new();
    for site in [
        Site::Pages("bakery"),
        Site::Pages("machining"),
        Site::Pages("software"),
        Site::Pages("bare"),
        Site::Forbids,
        Site::Breaks,
    ] {
        sites.push(serve(site).await);
    }
    let domains: Vec<String> = sites.iter().map(domain).collect();
    let [bakery, machining, _, _, forbids, breaks] = &domains[..] else { unreachable!() };
    let server = start(&sites, 3).await;
    // Typed as people type: an address, many in one text, one twice; and one that may not be reached.
    let private = "127.0.0.1:9";
    let typed = json!({ "domains": [
        format!("HTTP://{bakery}/start, {machining}"), domains[2..].join("\n"), bakery, private, "nonsense",
    ]});
    let (status, started) = server.post("/api/process_redis", &typed).await;
    assert_eq!((status, &started["count"], &started["mode"]), (200, &json!(7), &json!("redis_parallel")));
    let job = started["job_id"].as_str().unwrap().to_owned();

    let (shown, code) = follow(&server, &job).await;
    assert_eq!(code, 1000);
    assert!(matches!(shown[0]["status"].as_str().unwrap(), "pending" | "processing" | "completed"));
    let last = shown.last().unwrap();
    assert_eq!(last["status"], "completed");
    assert_eq!(
        (&last["total"], &last["completed"], &last["failed"]),
        (&json!(7), &json!(4), &json!(3)),
        "{last:#}"
    );
    assert_eq!((&last["progress_percentage"], &last["approved_count"]), (&json!(100), &json!(4)));
    let log = messages(last);
    for domain in &domains[..4] {
        assert!(log.contains(&&*format!("✅ {domain} processed successfully")), "{log:#?}");
        let timing = last["metrics"]["domain_timings"][domain].as_f64().unwrap();
        assert!((0.0..60.0).contains(&timing));
    }
    let reason = |domain: &str| {
        let start = format!("❌ {domain} failed: ");
        log.iter()
            .find_map(|line| line.strip_prefix(&*start))
            .unwrap_or_else(|| panic!("{log:#?}"))
            .to_owned()
    };
    assert!(reason(forbids).contains("robots.txt"), "{}", reason(forbids));
    assert!(reason(breaks).contains("410"), "{}", reason(breaks));
    assert!(reason(private).contains("allow_origins"), "{}", reason(private));
    let metrics = &last["metrics"];
    assert!(
        metrics["duration"].as_f64().unwrap() > 0.0 && metrics["speedup"].as_f64().unwrap() > 0.0,
        "{metrics}"
    );
    let workers = last["workers"].as_array().unwrap();
    assert!((1..=3).contains(&workers.len()), "{workers:?}");
    assert!(workers.iter().all(|worker| worker["status"] == "idle" && worker["job_id"] == *job));
    assert!(
        shown.iter().any(|shown| shown["workers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|w| w["status"] == "processing"))
    );
    let read = &last["approved_data"][machining];
    assert_eq!(read["company_information"]["name"], "Brandt Präzisionstechnik GmbH & Co. KG");
    assert_eq!(
        read["people_information"].as_array().unwrap().len(),
        3,
        "the team's page was found: {read:#}"
    );

    // Who comes back is shown the end and sent away; polling shows the same.
    let (again, code) = follow(&server, &job).await;
    assert_eq!((&again[..], code), (std::slice::from_ref(last), 1000));
    let (status, polled) = server.get(&format!("/api/status/{job}")).await;
    assert_eq!((status, &polled), (200, last));
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for id in [unknown, "nothing"] {
        let (shown, code) = follow(&server, id).await;
        assert_eq!((&shown[..], code), (&[json!({ "error": "Job not found" })][..], 1000));
        assert_eq!(
            server.get(&format!("/api/status/{id}")).await,
            (404, json!({ "detail": "Job not found" }))
        );
    }
    // Trying again what failed is a job of its own, which has what was found.
    let Retried::New(retry) = server.store().retry(job.parse().unwrap()).await.unwrap() else { panic!() };
    let (shown, _) = follow(&server, &retry.to_string()).await;
    let retried = shown.last().unwrap();
    assert_eq!((&retried["completed"], &retried["failed"]), (&json!(4), &json!(3)), "{retried:#}");
    assert_eq!(retried["approved_data"], last["approved_data"]);
    // Its events are gone after a while; what came of it is not.
    server.store().forget_events(Duration::ZERO).await.unwrap();
    let topic_is_forgotten = async || {
        let (_, polled) = server.get(&format!("/api/status/{job}")).await;
        (polled["metrics"]["domain_timings"] == json!({})).then_some(polled)
    };
    let kept = wait_for("the topic to be read anew", topic_is_forgotten).await;
    for key in ["status", "total", "completed", "failed", "approved_data"] {
        assert_eq!(kept[key], last[key], "{key}");
    }

    let (_, companies) = server.get("/api/companies?limit=2&offset=0").await;
    assert_eq!((&companies["total"], companies["companies"].as_array().unwrap().len()), (&json!(4), 2));
    let (_, companies) = server.get("/api/companies").await;
    let listed = companies["companies"].as_array().unwrap();
    let found = listed.iter().find(|company| company["domain"] == **bakery).unwrap();
    assert_eq!(
        (&found["company_name"], &found["industry"]),
        (&json!("Backhaus Sonnentau"), &json!("Bakery"))
    );
    assert_eq!(found["certifications"], json!(["Bioland", "Demeter"]));
    assert_eq!(found["address"], "Lindenweg 12, 79100 Freiburg, DE");
    let (_, stats) = server.get("/api/stats").await;
    assert_eq!((&stats["total_companies"], &stats["failed"]), (&json!(4), &json!(6)), "{stats}");
    assert!(
        stats["total_people"].as_i64().unwrap() >= 5 && stats["total_services"].as_i64().unwrap() >= 3,
        "{stats}"
    );

    // As a file, and back: a list names companies that nobody has looked up yet.
    let file = server.http.get(server.url("/api/companies_csv?mode=download")).send().await.unwrap();
    assert!(file.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/csv"));
    let csv = file.bytes().await.unwrap();
    assert!(csv.starts_with(b"\xef\xbb\xbfdomain,company_name,"));
    assert_eq!(String::from_utf8_lossy(&csv).trim_end().lines().count(), 5);
    let (status, imported) = upload(&server, "/api/companies_csv", &String::from_utf8_lossy(&csv)).await;
    assert_eq!((status, &imported["imported"]), (200, &json!(4)));
    let list = format!("Name;Domain\nHello;new.example\n;{bakery}\n;no domain\n");
    let (_, imported) = upload(&server, "/api/companies_csv", &list).await;
    assert_eq!(imported, json!({ "imported": 1, "already_known": 1, "skipped": 1 }));
    let (_, preview) = server.get("/api/companies_csv?mode=preview").await;
    assert_eq!((&preview["total"], &preview["rows"][0]["domain"]), (&json!(5), &json!("new.example")));
    let (status, started) =
        server.post("/api/process_from_final", &json!({ "only_new": true, "limit": 5 })).await;
    assert_eq!((status, &started["count"], &started["mode"]), (200, &json!(1), &json!("sequential")));
    for (path, body) in [
        ("/api/process_redis", json!({ "domains": [] })),
        ("/api/process", json!({ "domains": ["x", "user@host.example"] })),
    ] {
        assert_eq!(server.post(path, &body).await, (400, json!({ "detail": "No valid domains provided" })));
    }
    server.stop().await;
}

#[tokio::test]
async fn one_after_the_other_a_person_says_what_is_kept() {
    let sites = [
        serve(Site::Pages("bakery")).await,
        serve(Site::Breaks).await,
        serve(Site::Pages("software")).await,
        serve(Site::Hangs).await,
    ];
    let server = start(&sites, 4).await;
    let [bakery, _, software, hangs] = sites.each_ref().map(domain);
    let csv = format!("firma,website\na,{}\nb,{}\nc,http://{software}/\n", sites[0], sites[1]);
    let (status, started) = upload(&server, "/api/process_csv", &csv).await;
    assert_eq!((status, &started["count"]), (200, &json!(3)), "{started}");
    let job = started["job_id"].as_str().unwrap().to_owned();
    let (shown, code) = follow(&server, &job).await;
    let last = shown.last().unwrap();
    assert_eq!(
        (code, &last["status"], &last["mode"]),
        (1000, &json!("waiting_approval"), &json!("sequential"))
    );
    assert_eq!(
        (&last["pending_count"], &last["failed"], &last["approved_count"]),
        (&json!(2), &json!(1), &json!(0))
    );
    let at_once = |shown: &Value| {
        shown["workers"].as_array().unwrap().iter().filter(|w| w["status"] == "processing").count()
    };
    assert!(shown.iter().all(|shown| at_once(shown) <= 1), "one after the other");
    let (_, companies) = server.get("/api/companies").await;
    assert_eq!(companies["total"], 0, "nobody has said yet that they are right");

    let say = async |domain: &str, accept: bool| {
        server
            .post("/api/accept_extracted", &json!({ "job_id": job, "domain": domain, "accept": accept }))
            .await
    };
    let said = json!({ "job_id": job, "domain": software, "accepted": true });
    assert_eq!(say(&software, true).await, (200, said));
    let (_, shown) = server.get(&format!("/api/status/{job}")).await;
    assert_eq!((&shown["status"], &shown["pending_count"]), (&json!("waiting_approval"), &json!(1)));
    assert_eq!(say(&bakery, false).await.0, 200);
    assert_eq!(say("other.example", true).await.0, 404);
    let (_, shown) = server.get(&format!("/api/status/{job}")).await;
    assert_eq!((&shown["status"], &shown["rejected_domains"]), (&json!("completed"), &json!([bakery])));
    assert!(shown["approved_data"][&software].is_object());
    let (_, companies) = server.get("/api/companies").await;
    assert_eq!((&companies["total"], &companies["companies"][0]["domain"]), (&json!(1), &json!(software)));

    // One that hangs can be cancelled, and pages learn of it in their own words.
    let (_, started) = server.post("/api/process_redis", &json!({ "domains": [hangs, software] })).await;
    let job = started["job_id"].as_str().unwrap().to_owned();
    wait_for("the other one to be done", async || {
        let (_, shown) = server.get(&format!("/api/status/{job}")).await;
        (shown["completed"] == 1 && shown["workers"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let (_, stats) = server.get("/api/worker_stats").await;
    assert_eq!((&stats["active_workers"], &stats["total_workers"]), (&json!(1), &json!(4)), "{stats}");
    assert_eq!(server.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await.0, 200);
    let (shown, code) = follow(&server, &job).await;
    let last = shown.last().unwrap();
    assert_eq!((code, &last["status"], &last["failed"]), (1000, &json!("completed"), &json!(1)));
    let told = format!("❌ {hangs} failed: Job cancelled by user");
    assert!(messages(last).contains(&&*told), "{last:#}");
    server.stop().await;
}

#[tokio::test]
async fn companies_are_their_owners_alone_through_every_door() {
    let mut settings = quiet_config();
    settings.auth.jwt_secret = identity::SECRET.into();
    let server = Running::start(settings).await;
    let (ours, theirs) = (identity::of("ours"), identity::of("theirs"));
    let call = async |token: &str, path: &str, body: Option<Value>| {
        let request = match &body {
            Some(body) => server.http.post(server.url(path)).json(body),
            None => server.http.get(server.url(path)),
        };
        answer(request.bearer_auth(token).send().await.unwrap()).await
    };
    let (status, started) =
        call(&ours, "/api/process_redis", Some(json!({ "domains": ["a.example"] }))).await;
    assert_eq!(status, 200, "{started}");
    let job = started["job_id"].as_str().unwrap();
    let no_job = (404, json!({ "detail": "Job not found" }));
    let status = format!("/api/status/{job}");
    assert_eq!(call(&ours, &status, None).await.0, 200);
    assert_eq!(call(&theirs, &status, None).await, no_job);
    let accept = json!({ "job_id": job, "domain": "a.example", "accept": true });
    assert_eq!(call(&theirs, "/api/accept_extracted", Some(accept)).await, no_job);
    for (token, is_theirs) in [(&theirs, false), (&ours, true)] {
        for path in [format!("/ws/job/{job}?token={token}"), format!("/v1/jobs/{job}/socket?token={token}")] {
            let mut socket = connect(&server, &path).await;
            let Message::Text(first) = soon("a message", socket.next()).await.unwrap().unwrap() else {
                panic!()
            };
            let first: Value = serde_json::from_str(&first).unwrap();
            assert_eq!(first["error"].is_null(), is_theirs, "{path}: {first}");
        }
    }
    server.store().list_companies("ours", &[("a.example".into(), json!({}))]).await.unwrap();
    for (token, total) in [(&ours, 1), (&theirs, 0)] {
        assert_eq!(call(token, "/api/companies", None).await.1["total"], total);
        assert_eq!(call(token, "/api/stats", None).await.1["total_companies"], total);
        assert_eq!(call(token, "/api/companies_csv?mode=preview", None).await.1["total"], total);
    }
    server.stop().await;
}

/// Prints how much faster several at once are than one after the other; asserts only that all of it was done.
#[tokio::test]
async fn twenty_sites_in_parallel_and_one_after_the_other() {
    let mut sites = Vec::new();
    for n in 0..20 {
        let folder = ["bakery", "machining", "software", "bare"][n % 4];
        sites.push(serve(Site::Slow(folder, Duration::from_millis(100))).await);
    }
    let server = start(&sites, 8).await;
    let domains: Vec<String> = sites.iter().map(domain).collect();
    let mut walls = Vec::new();
    for path in ["/api/process_redis", "/api/process"] {
        let (_, started) = server.post(path, &json!({ "domains": domains })).await;
        let (shown, _) = follow(&server, started["job_id"].as_str().unwrap()).await;
        let last = shown.last().unwrap();
        assert_eq!(last["completed"], 20, "{last:#}");
        let metrics = &last["metrics"];
        let wall = metrics["duration"].as_f64().unwrap();
        eprintln!(
            "{path}: {wall:.2} s, sum of timings {}, own speed-up {}, {} frames",
            metrics["sequential_duration"],
            metrics["speedup"],
            shown.len()
        );
        walls.push(wall);
    }
    eprintln!("parallel over sequential, 20 domains, 8 workers, 100 ms a page: {:.1} x", walls[1] / walls[0]);
    server.stop().await;
}
