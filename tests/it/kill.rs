//! `kill -9` of the whole server in the middle of a job, on its embedded database: the job goes on after the restart
//! and ends as an undisturbed one does.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{answer, folder, heavy, wait_for};

/// The server as its user starts it.
struct Process {
    child: Child,
    base: String,
    http: reqwest::Client,
}

impl Process {
    async fn start(data_dir: &Path, port: u16) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_jobcast"))
            .args(["serve", "--demo-shop", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data_dir)
            .env_remove("DATABASE_URL")
            .env("JOBCAST__CRAWLER__DELAY", "0ms")
            .env("JOBCAST__BROWSER__SETTLE_TIMEOUT", "2s")
            .env("JOBCAST__LOG__FILTER", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let process =
            Process { child, base: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new() };
        wait_for("the server", async || {
            process.http.get(format!("{}/readyz", process.base)).send().await.ok()
        })
        .await;
        process
    }

    async fn get(&self, path: &str) -> Value {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await.1
    }

    async fn submit(&self) -> String {
        let body = json!({ "shopUrl": format!("{}/demo/shop/", self.base), "maxProducts": 8 });
        let response = self.http.post(format!("{}/v1/jobs", self.base)).json(&body).send().await.unwrap();
        let (status, job) = answer(response).await;
        assert_eq!(status, 201, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    async fn events(&self, job: &str) -> Vec<Value> {
        self.get(&format!("/v1/jobs/{job}/events")).await["events"].as_array().unwrap().clone()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a job's events say, less what differs from job to job: ids, times, and in which order items were ready.
fn results(events: &[Value]) -> BTreeMap<String, usize> {
    let mut product_of = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "screenshot:captured") {
        product_of.insert(event["data"]["screenshotId"].to_string(), event["data"]["productName"].clone());
    }
    let mut said = BTreeMap::new();
    for event in events {
        let data = &event["data"];
        let what = match event["event"].as_str().unwrap() {
            // How far the bar was in between depends on the order in which items were ready.
            "job:updated" if !data["message"].is_null() => continue,
            "job:updated" => data["status"].to_string(),
            "job:completed" => data["results"].to_string(),
            "screenshot:captured" => data["productName"].to_string(),
            "ocr:started" => product_of[&data["screenshotId"].to_string()].to_string(),
            "ocr:completed" => data["data"].to_string(),
            "match:found" | "match:failed" | "label:generated" => data["articleNumber"].to_string(),
            _ => data.to_string(),
        };
        let kind = event["event"].as_str().unwrap();
        let what = if kind == "job:created" { String::new() } else { what };
        *said.entry(format!("{kind} {what}")).or_default() += 1;
    }
    said
}

/// The label pictures' bytes by article number.
fn labels(data_dir: &Path, job: &str) -> Vec<Vec<u8>> {
    let folder = data_dir.join(format!("objects/jobs/{job}/labels"));
    let mut pictures: Vec<Vec<u8>> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .map(|path| fs::read(path).unwrap())
        .collect();
    pictures.sort();
    pictures
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_costs_no_event_and_repeats_none() {
    let _alone = heavy().await;
    let folder = folder();
    let port = free_port();
    let server = Process::start(folder.path(), port).await;
    let undisturbed = server.submit().await;
    let ended = async |server: &Process, job: &str| {
        wait_for("the job to end", async || {
            let shown = server.get(&format!("/v1/jobs/{job}")).await;
            (!shown["endedAt"].is_null()).then_some(shown)
        })
        .await
    };
    let shown = ended(&server, &undisturbed).await;
    assert_eq!(shown["status"], "completed", "{shown}");

    let job = server.submit().await;
    let mut server = server;
    for milestone in ["screenshot:captured", "ocr:started", "match:found", "label:generated"] {
        // A match fails where no product is known.
        wait_for(milestone, async || {
            let events = server.events(&job).await;
            let ended = events.last().is_some_and(|event| event["event"] == "job:completed");
            let milestone = if milestone == "match:found" { "match:failed" } else { milestone };
            (ended || events.iter().any(|event| event["event"] == milestone)).then_some(())
        })
        .await;
        server.kill();
        server = Process::start(folder.path(), port).await;
    }
    let shown = ended(&server, &job).await;
    assert_eq!(shown["status"], "completed", "{shown}");

    let (before, after) = (server.events(&undisturbed).await, server.events(&job).await);
    assert_eq!(results(&after), results(&before));
    let seqs: Vec<i64> = after.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=after.len() as i64).collect::<Vec<_>>());
    let labelled = labels(folder.path(), &job);
    assert_eq!(labelled.len(), 8);
    assert!(labelled == labels(folder.path(), &undisturbed), "the same pictures, byte for byte");
    server.kill();
    wait_for("the programs of the killed server to be gone", async || {
        let left = Command::new("pgrep").arg("-f").arg(folder.path()).output().unwrap();
        left.stdout.is_empty().then_some(())
    })
    .await;
}
