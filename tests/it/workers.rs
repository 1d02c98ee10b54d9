//! Workers outside of the server, through REST: what they may do, and the examples at work, killed, paused and restarted.

use std::{path::Path, process::Stdio, time::Duration};

use jobcast::{
    app::{Server, listen},
    config::Config,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use url::Url;

use crate::{
    identity::{self, SECRET},
    process::{Process, free_port},
    support::{Running, address, answer, database, folder, quiet_config, soon, wait_for},
    verify,
};

/// A token of a subject with these scopes.
pub fn token(subject: &str, scope: &str) -> String {
    let exp = chrono::Utc::now().timestamp() + 3600;
    identity::signed(&json!({ "sub": subject, "scope": scope, "exp": exp }))
}

/// Settings of a server that takes such tokens.
pub fn taking_tokens() -> Config {
    let mut config = quiet_config();
    config.auth.jwt_secret = SECRET.into();
    config
}

/// Somebody who calls.
pub struct Caller {
    base: Url,
    http: reqwest::Client,
    token: String,
}

impl Caller {
    pub fn new(base: &Url, subject: &str, scope: &str) -> Caller {
        Caller { base: base.clone(), http: reqwest::Client::new(), token: token(subject, scope) }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.base.join(path).unwrap()).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.request(Method::POST, path).json(&body).send().await.unwrap();
        if response.status() == 204 { (204, Value::Null) } else { answer(response).await }
    }

    async fn events(&self, job: &str) -> Vec<(String, Value)> {
        let (_, page) = self.get(&format!("/v1/jobs/{job}/events")).await;
        let events = page["events"].as_array().unwrap().iter();
        events.map(|e| (e["event"].as_str().unwrap().to_owned(), e["data"].clone())).collect()
    }

    async fn ended(&self, job: &str) -> Value {
        wait_for("the job to end", async || {
            let (_, shown) = self.get(&format!("/v1/jobs/{job}")).await;
            (!shown["endedAt"].is_null()).then_some(shown)
        })
        .await
    }
}

#[tokio::test]
async fn a_worker_claims_reports_stores_a_file_and_finishes() {
    let server = Running::start(taking_tokens()).await;
    let owner = Caller::new(&server.base, "ann", "jobs:read jobs:write");
    let worker = Caller::new(&server.base, "robot", "work:novel");
    let put = worker.request(Method::PUT, "/v1/kinds/novel").json(&json!({ "lease": 20, "maxAttempts": 2 }));
    let (status, kind) = answer(put.send().await.unwrap()).await;
    assert_eq!((status, &kind["prefix"], &kind["lease"]), (200, &json!("novel"), &json!(20)));

    let asked = json!({ "kind": "novel", "name": "A book", "input": { "pages": 3 }, "paused": true });
    let submit = || owner.request(Method::POST, "/v1/work").header("idempotency-key", "k1").json(&asked);
    let (status, job) = answer(submit().send().await.unwrap()).await;
    assert_eq!((status, &job["status"], &job["kind"]), (201, &json!("paused"), &json!("novel")), "{job}");
    let (_, same) = answer(submit().send().await.unwrap()).await;
    assert_eq!(same["id"], job["id"], "the key made it one request");
    let id = job["id"].as_str().unwrap();
    let input = owner.request(Method::PUT, &format!("/v1/work/{id}/artifacts/book.txt")).body("Once upon");
    assert_eq!(answer(input.header("content-type", "text/plain").send().await.unwrap()).await.0, 200);
    let claim = json!({ "kinds": ["novel"], "worker": "w1" });
    assert_eq!(worker.post("/v1/work/claim", claim.clone()).await.0, 204, "it is paused");
    assert_eq!(owner.post(&format!("/v1/jobs/{id}/resume"), json!({})).await.0, 200);

    let (status, claimed) = worker.post("/v1/work/claim", claim).await;
    assert_eq!(
        (status, &claimed["job"]["id"], &claimed["lease"]),
        (200, &job["id"], &json!(20)),
        "{claimed}"
    );
    assert_eq!((&claimed["input"], &claimed["attempt"]), (&json!({ "pages": 3 }), &json!(1)));
    assert_eq!(claimed["artifacts"][0]["name"], "book.txt");
    let fence = claimed["fence"].as_i64().unwrap();
    let book =
        worker.request(Method::GET, &format!("/v1/work/{id}/artifacts/book.txt")).send().await.unwrap();
    assert_eq!(book.text().await.unwrap(), "Once upon");
    let at = |what: &str| format!("/v1/work/{id}/{what}");
    assert_eq!(worker.post(&at("heartbeat"), json!({ "fence": fence })).await.1["state"], "run");
    assert_eq!(
        worker.post(&at("heartbeat"), json!({ "fence": fence + 1 })).await.1["error"]["code"],
        "fenced"
    );
    let batch = json!({ "fence": fence, "requestId": "r1", "events": [
        { "type": "progress", "progress": 30, "step": "reading" },
        { "type": "patch", "patch": { "chapters": { "1": { "done": true } } } },
        { "type": "event", "name": "novel:chapter", "data": { "chapter": 1 } },
    ] });
    let (status, first) = worker.post(&at("events"), batch.clone()).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(worker.post(&at("events"), batch).await, (200, first), "it is answered again");
    let text = "x".repeat(6_000_000);
    let upload =
        worker.request(Method::PUT, &at(&format!("artifacts/out.txt?fence={fence}"))).body(text.clone());
    let (status, stored) = answer(upload.send().await.unwrap()).await;
    assert_eq!((status, &stored["size"]), (200, &json!(6_000_000)), "{stored}");
    let finish = json!({ "fence": fence, "requestId": "r2", "result": { "chapters": 1 },
                         "events": [{ "type": "patch", "patch": { "file": stored["url"] } }] });
    assert_eq!(worker.post(&at("finish"), finish.clone()).await.1["status"], "completed");
    assert_eq!(
        worker.post(&at("finish"), finish).await.0,
        200,
        "though it has ended, the same request is answered"
    );
    assert_eq!(worker.post(&at("release"), json!({ "fence": fence })).await.1["error"]["code"], "job_ended");

    let (_, shown) = owner.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!((&shown["status"], &shown["progress"]), (&json!("completed"), &json!(100)));
    assert_eq!(shown["results"], json!({ "chapters": 1 }));
    assert_eq!(shown["document"], json!({ "chapters": { "1": { "done": true } }, "file": stored["url"] }));
    let events = owner.events(id).await;
    let (_, told) = events.iter().find(|(name, _)| name == "novel:chapter").unwrap();
    assert_eq!((&told["jobId"], &told["chapter"]), (&job["id"], &json!(1)));
    assert!(events.iter().any(|(name, data)| name == "artifact:stored" && data["url"] == stored["url"]));
    let (_, listed) = owner.get("/v1/jobs?kind=novel").await;
    assert_eq!((&listed["total"], &listed["jobs"][0]["number"]), (&json!(1), &shown["number"]));
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_and_what_may_not_be_is_refused_in_one_shape() {
    let server = Running::start(taking_tokens()).await;
    let owner = Caller::new(&server.base, "ann", "jobs:read jobs:write");
    let worker = Caller::new(&server.base, "robot", "work:novel");
    let put = worker.request(Method::PUT, "/v1/kinds/novel").json(&json!({}));
    assert_eq!(put.send().await.unwrap().status(), 200);
    let (_, job) = owner.post("/v1/work", json!({ "kind": "novel", "name": "x" })).await;
    let id = job["id"].as_str().unwrap();
    let (_, claimed) = worker.post("/v1/work/claim", json!({ "kinds": ["novel"], "worker": "w" })).await;
    let fence = claimed["fence"].as_i64().unwrap();
    let at = |what: &str| format!("/v1/work/{id}/{what}");
    let event = |event: Value| json!({ "fence": fence, "events": [event] });
    let other = Caller::new(&server.base, "robot", "work:other");
    let stranger = Caller::new(&server.base, "bob", "jobs:read jobs:write");
    for (who, path, body, status, code) in [
        (&owner, at("heartbeat"), json!({ "fence": fence }), 403, "forbidden"),
        (&other, at("heartbeat"), json!({ "fence": fence }), 404, "job_not_found"),
        (&other, "/v1/work/claim".into(), json!({ "kinds": ["novel"], "worker": "w" }), 403, "forbidden"),
        (&worker, "/v1/work/claim".into(), json!({ "kinds": [], "worker": "w" }), 400, "invalid_request"),
        (
            &worker,
            "/v1/work/claim".into(),
            json!({ "kinds": ["novel"], "worker": "w", "wait": 31 }),
            400,
            "invalid_request",
        ),
        (&owner, "/v1/work".into(), json!({ "kind": "nothing", "name": "x" }), 400, "unknown_kind"),
        (&owner, "/v1/work".into(), json!({ "kind": "novel", "name": " " }), 400, "invalid_request"),
        (
            &owner,
            "/v1/work".into(),
            json!({ "kind": "novel", "name": "x", "input": { "a": "\0" } }),
            400,
            "invalid_request",
        ),
        (
            &worker,
            at("events"),
            event(json!({ "type": "event", "name": "job:completed" })),
            400,
            "invalid_request",
        ),
        (&worker, at("events"), event(json!({ "type": "event", "name": "other:x" })), 400, "invalid_request"),
        (&worker, at("events"), event(json!({ "type": "dance" })), 400, "invalid_request"),
        (
            &worker,
            at("events"),
            event(json!({ "type": "patch", "patch": { "a": "x".repeat(70_000) } })),
            413,
            "too_large",
        ),
        (&worker, at("events"), json!({ "fence": fence, "events": [] }), 400, "invalid_request"),
        (&worker, at("fail"), json!({ "fence": fence, "error": " " }), 400, "invalid_request"),
        (&worker, at("finish"), json!({ "fence": fence - 1 }), 409, "fenced"),
        (&worker, "/v1/work/5/finish".into(), json!({ "fence": 1 }), 400, "malformed_id"),
    ] {
        let (got, refused) = who.post(&path, body).await;
        assert_eq!((got, refused["error"]["code"].as_str()), (status, Some(code)), "{path}: {refused}");
    }
    assert_eq!(stranger.get(&at("artifacts")).await.0, 404, "of another's job nothing is told");
    let put = |who: &Caller, name: &str, query: &str| {
        who.request(Method::PUT, &at(&format!("artifacts/{name}{query}"))).body("x").send()
    };
    for (response, status) in [
        (put(&owner, "a.txt", ""), 409),
        (put(&stranger, "a.txt", ""), 404),
        (put(&worker, "a.txt", "?fence=77"), 409),
        (put(&worker, ".hidden", &format!("?fence={fence}")), 400),
    ] {
        assert_eq!(response.await.unwrap().status(), status);
    }
    let taken = worker.request(Method::PUT, "/v1/kinds/novel").json(&json!({ "prefix": "job" }));
    assert_eq!(taken.send().await.unwrap().status(), 400, "job: is the server's own");
    let nobody =
        server.http.post(server.url("/v1/work/claim")).json(&json!({ "kinds": ["novel"], "worker": "w" }));
    assert_eq!(nobody.send().await.unwrap().status(), 401);
    server.stop().await;
}

#[tokio::test]
async fn a_claim_waits_for_a_job_and_one_that_nobody_waits_for_any_more_is_handed_back() {
    let server = Running::start(taking_tokens()).await;
    let all = Caller::new(&server.base, "ann", "jobs:read jobs:write work");
    let put = all.request(Method::PUT, "/v1/kinds/novel").json(&json!({}));
    assert_eq!(put.send().await.unwrap().status(), 200);
    let claim = json!({ "kinds": ["novel"], "worker": "w", "wait": 30 });
    // This one's client goes away while it waits.
    let gone = all.request(Method::POST, "/v1/work/claim").json(&claim).timeout(Duration::from_millis(300));
    assert!(gone.send().await.unwrap_err().is_timeout());
    let waits = all.post("/v1/work/claim", claim.clone());
    let gives = async { all.post("/v1/work", json!({ "kind": "novel", "name": "x" })).await };
    let ((status, claimed), (_, job)) = soon("a job", async { tokio::join!(waits, gives) }).await;
    assert_eq!((status, &claimed["job"]["id"], &claimed["attempt"]), (200, &job["id"], &json!(1)));
    server.stop().await;
}

/// A worker of the examples.
fn example(file: &str, base: &Url) -> Child {
    let program = if file.ends_with(".mjs") { "node" } else { "python3" };
    Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file))
        .env("JOBCAST_URL", base.as_str())
        .env("JOBCAST_KEY", token("robot", "work"))
        .env("JOBCAST_LEASE", "3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A server that can be started again at the same address.
async fn start(config: &Config, at: &str) -> Server {
    let listeners = listen::bind(&[at.parse().unwrap()]).await.unwrap();
    Server::start(config.clone(), listeners).await.unwrap()
}

/// A job of five paragraphs.
async fn poem(owner: &Caller, seconds: f64) -> String {
    let text = "roses are red\n\nviolets are blue\n\nsugar is sweet\n\nand so are\n\nyou";
    let asked = json!({ "kind": "words", "name": "A poem", "input": { "text": text, "secondsPerParagraph": seconds } });
    let made = wait_for("the kind", async || {
        let (status, job) = owner.post("/v1/work", asked.clone()).await;
        (status == 201).then_some(job)
    });
    made.await["id"].as_str().unwrap().to_owned()
}

async fn counted(owner: &Caller, job: &str) -> usize {
    owner.events(job).await.iter().filter(|(name, _)| name == "words:counted").count()
}

async fn until_counted(owner: &Caller, job: &str, paragraphs: usize) {
    wait_for("paragraphs to be counted", async || (counted(owner, job).await >= paragraphs).then_some(()))
        .await;
}

#[tokio::test]
async fn the_examples_outlive_each_other_a_pause_and_the_server() {
    let data = folder();
    let mut config = taking_tokens();
    config.server.data_dir = data.path().to_owned();
    config.database.url = address(&database().await);
    let mut server = start(&config, "127.0.0.1:0").await;
    let base = server.local.clone();
    let at = format!("127.0.0.1:{}", base.port().unwrap());
    let owner = Caller::new(&base, "ann", "jobs:read jobs:write");
    for (file, successor) in [("worker.py", "worker.mjs"), ("worker.mjs", "worker.py")] {
        // Killed in the middle: another one goes on behind what the document has.
        let mut worker = example(file, &base);
        let job = poem(&owner, 0.4).await;
        until_counted(&owner, &job, 2).await;
        worker.kill().await.unwrap();
        let mut worker = example(successor, &base);
        let shown = owner.ended(&job).await;
        assert_eq!((&shown["status"], &shown["attempt"]), (&json!("completed"), &json!(2)), "{shown}");
        assert_eq!(
            (&shown["results"]["words"], &shown["results"]["paragraphs"]),
            (&json!(13), &json!(5)),
            "{shown}"
        );
        assert_eq!(counted(&owner, &job).await, 5, "no paragraph was counted twice");
        let report = shown["results"]["report"].as_str().unwrap();
        let report = owner.request(Method::GET, report).send().await.unwrap().text().await.unwrap();
        assert!(report.contains("paragraph 5: 1 words"), "{report}");

        // Paused, and the server stopped and started meanwhile: the worker waits, and goes on when it is let.
        let job = poem(&owner, 0.4).await;
        until_counted(&owner, &job, 1).await;
        assert_eq!(owner.post(&format!("/v1/jobs/{job}/pause"), json!({})).await.0, 200);
        wait_for("the worker to hand the job back", async || {
            let events = owner.events(&job).await;
            events
                .iter()
                .any(|(_, data)| data["message"].as_str().is_some_and(|m| m.starts_with("Handed back")))
                .then_some(())
        })
        .await;
        server.stop(std::future::pending()).await;
        server = start(&config, &at).await;
        assert_eq!(owner.post(&format!("/v1/jobs/{job}/resume"), json!({})).await.0, 200);
        let shown = owner.ended(&job).await;
        assert_eq!((&shown["status"], &shown["attempt"]), (&json!("completed"), &json!(1)), "{shown}");

        // Cancelled: it has ended at once, and the worker is soon free for another job.
        let long = poem(&owner, 1.0).await;
        until_counted(&owner, &long, 1).await;
        assert_eq!(owner.post(&format!("/v1/jobs/{long}/cancel"), json!({})).await.1["status"], "cancelled");
        let next = poem(&owner, 0.0).await;
        assert_eq!(owner.ended(&next).await["status"], "completed");
        worker.kill().await.unwrap();
    }
    let findings = jobcast_verify(&config).await;
    assert!(findings.is_empty(), "{findings:?}");
    server.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_costs_a_worker_outside_nothing_but_time() {
    let data = folder();
    let port = free_port();
    let settings = [("JOBCAST__AUTH__JWT_SECRET", SECRET), ("JOBCAST__PIPELINE__ENABLED", "false")];
    let mut server = Process::start(data.path(), port, &settings).await;
    let base: Url = format!("{}/", server.base).parse().unwrap();
    let owner = Caller::new(&base, "ann", "jobs:read jobs:write");
    let mut worker = example("worker.py", &base);
    let job = poem(&owner, 0.5).await;
    for paragraphs in [1, 3] {
        until_counted(&owner, &job, paragraphs).await;
        server.kill();
        server = Process::start(data.path(), port, &settings).await;
    }
    let shown = owner.ended(&job).await;
    assert_eq!((&shown["status"], &shown["results"]["words"]), (&json!("completed"), &json!(13)), "{shown}");
    assert_eq!(counted(&owner, &job).await, 5, "no paragraph was lost or counted twice");
    worker.kill().await.unwrap();
    let (code, found, said) = verify::run(&[], data.path(), None).await;
    assert_eq!(code, 0, "the journal is sound: {found:?} {said}");
    server.kill();
}

/// What an audit finds wrong.
async fn jobcast_verify(config: &Config) -> Vec<String> {
    use jobcast::store::{Blobs, connect, verify};
    let pool = connect(config.database.url.parse().unwrap(), &config.database).await.unwrap();
    let base = Url::parse("http://localhost/").unwrap();
    let blobs = Blobs::open(&config.objects, &config.server.data_dir, &base).unwrap();
    let mut found = Vec::new();
    let scope = verify::Scope { job: None, hashes: true };
    verify::verify(&pool, &blobs, scope, |told| {
        if let verify::Told::Found { finding, what, .. } = told
            && finding.is_fault()
        {
            found.push(format!("{}: {what}", finding.word()));
        }
    })
    .await
    .unwrap();
    pool.close().await;
    found
}
