//! The transcript queue's frontend: its routes, its socket under churn, and a whole job by the example worker.

use futures_util::{SinkExt as _, StreamExt as _};
use jobcast::store::WorkOutcome;
use reqwest::{Method, multipart};
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    support::{Running, answer, soon},
    transcripts::connect,
    workers::{Caller, taking_tokens, token},
};

const SRT: &str = "1\n00:00:01,000 --> 00:00:04,000\nANNA: Welcome to the garden. Today we plant tomatoes.\n\n\
2\n00:00:04,500 --> 00:00:09,000\nBEN: Tomatoes need sun. Plant tomatoes deep, and water the garden well.\n\n\
3\n00:01:00,000 --> 00:02:30,000\nANNA: The garden thanks you for the water.\n";

fn form(files: &[(&str, &str)]) -> multipart::Form {
    files.iter().fold(multipart::Form::new(), |form, (name, text)| {
        form.part("files", multipart::Part::text((*text).to_owned()).file_name((*name).to_owned()))
    })
}

async fn send(server: &Running, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = server.http.request(method, server.url(path));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    if response.status() == 204 { (204, Value::Null) } else { answer(response).await }
}

async fn upload(server: &Running, files: &[(&str, &str)]) -> (u16, Value) {
    let request = server.http.post(server.url("/api/upload/transcripts")).multipart(form(files));
    answer(request.send().await.unwrap()).await
}

#[tokio::test]
async fn the_routes_answer_as_the_pages_read_them() {
    let server = Running::quiet().await;
    let (status, sent) =
        upload(&server, &[("2WLI1209.srt", SRT), ("notes.exe", "x"), ("empty.txt", "")]).await;
    assert_eq!((status, &sent["uploaded"], &sent["failed"]), (200, &json!(1), &json!(2)), "{sent}");
    assert_eq!(sent["files"][1]["error"], "Invalid file type; allowed are .txt and .srt");
    let id = sent["files"][0]["job_id"].as_i64().unwrap();
    assert_eq!(upload(&server, &[]).await.0, 400);

    let (_, list) = server.get("/api/queue/?page=1&page_size=10&search=wli&sort=oldest&status=pending").await;
    assert_eq!(
        (&list["total"], &list["total_pages"], &list["jobs"][0]["id"]),
        (&json!(1), &json!(1), &json!(id))
    );
    let queued = list["jobs"][0]["queued_at"].as_str().unwrap();
    assert!(queued.len() == 26 && !queued.ends_with('Z'), "{queued} has no zone");
    assert_eq!(server.get("/api/queue/next").await.1["id"], id);
    let again = json!({ "project_name": "Garden", "transcript_file": "2WLI1209.srt", "priority": 5 });
    let (status, refused) = server.post("/api/queue/", &again).await;
    assert_eq!((status, &refused["detail"]["existing_job_id"]), (409, &json!(id)));
    let (status, forced) = server.post("/api/queue/?force=true", &again).await;
    assert_eq!((status, &forced["project_name"], &forced["priority"]), (201, &json!("Garden"), &json!(5)));
    let other = forced["id"].as_i64().unwrap();

    let at = |what: &str| format!("/api/jobs/{id}{what}");
    for (path, status, words) in [
        ("/resume", 400, "Cannot resume job in status pending"),
        ("/retry", 400, "Cannot retry job in status pending"),
    ] {
        assert_eq!(server.post(&at(path), &json!({})).await, (status, json!({ "detail": words })));
    }
    assert_eq!(server.get("/api/jobs/4711").await, (404, json!({ "detail": "Job 4711 not found" })));
    assert_eq!(server.get("/api/jobs/x").await.0, 422);
    assert_eq!(server.get("/api/queue/?page_size=101").await.0, 422);
    let (_, changed) =
        send(&server, Method::PATCH, &at(""), Some(json!({ "priority": 7, "media_id": "M1", "odd": 1 })))
            .await;
    assert_eq!((&changed["priority"], &changed["media_id"]), (&json!(7), &json!("M1")));
    assert_eq!(server.post(&at("/pause"), &json!({})).await.1["status"], "paused");
    assert_eq!(server.post(&at("/resume"), &json!({})).await.1["status"], "pending");

    // A worker does it, and fails.
    let store = server.store();
    let claimed = store.claim_work(&["transcript".into()], "w").await.unwrap().unwrap();
    assert_eq!(claimed.work.number, Some(id), "the higher priority comes first");
    let report = |events: Value| serde_json::from_value(events).unwrap();
    let phases = json!({ "analyst": { "status": "in_progress", "model": "rules" } });
    let told =
        report(json!([{ "type": "patch", "patch": { "current_phase": "analyst", "phases": phases } }]));
    store.report(&claimed.lease, None, told, None).await.unwrap();
    let failed = WorkOutcome::Failed { error: "it is odd".into(), retry: false };
    store.report(&claimed.lease, None, Vec::new(), Some(failed)).await.unwrap();
    let (_, job) = server.get(&at("")).await;
    assert_eq!((&job["status"], &job["error_message"]), (&json!("failed"), &json!("it is odd")));
    let (_, events) = server.get(&at("/events")).await;
    let words: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    for word in [
        "job_queued",
        "system_pause",
        "system_resume",
        "job_started",
        "model_selected",
        "phase_started",
        "job_failed",
    ] {
        assert!(words.contains(&word), "{word} in {words:?}");
    }
    let (status, retried) = server.post(&at("/retry"), &json!({})).await;
    assert_eq!(
        (status, &retried["id"], &retried["status"], &retried["retry_count"]),
        (200, &json!(id), &json!("pending"), &json!(1))
    );
    // Its transcript came along.
    let again = store.claim_work(&["transcript".into()], "w").await.unwrap().unwrap();
    assert_eq!(store.artifacts_of(again.lease.job).await.unwrap()[0].name, "transcript.srt");
    assert_eq!(server.get(&at("/outputs/secret.md")).await.0, 400);
    assert_eq!(server.get(&at("/outputs/seo_output.md")).await.0, 404);
    assert_eq!(server.post(&at("/cancel"), &json!({})).await.1["status"], "cancelled");
    let (_, stats) = server.get("/api/queue/stats").await;
    assert_eq!((&stats["cancelled"], &stats["pending"], &stats["total"]), (&json!(1), &json!(1), &json!(2)));
    let (status, gone) =
        send(&server, Method::DELETE, "/api/queue/bulk?statuses=cancelled&statuses=pending", None).await;
    assert_eq!((status, &gone["deleted_count"]), (200, &json!(1)), "what waits is never removed so");
    assert_eq!(send(&server, Method::DELETE, &format!("/api/queue/{other}"), None).await.0, 204);
    assert_eq!(send(&server, Method::DELETE, &format!("/api/queue/{other}"), None).await.0, 404);

    let (_, health) = server.get("/api/system/health").await;
    assert_eq!(
        (&health["status"], &health["queue"]),
        (&json!("ok"), &json!({ "pending": 0, "in_progress": 0 }))
    );
    let change = json!({ "max_concurrent_jobs": 2 });
    assert_eq!(send(&server, Method::PATCH, "/api/config/worker", Some(change)).await.0, 200);
    assert_eq!(server.get("/api/config/worker").await.1["max_concurrent_jobs"], 2);
    let (_, shops) = server.get("/api/automation/jobs").await;
    assert!(!shops.to_string().contains("Garden"), "the label printer's pages know nothing of it");
    server.stop().await;
}

#[tokio::test]
async fn sockets_that_come_and_go_all_the_time_cost_nobody_a_job() {
    let server = Running::quiet().await;
    // As the page does: hundreds of connections a second, closed at once or left.
    for _ in 0..10 {
        let many = (0..30).map(|n| {
            let server = &server;
            async move {
                let mut socket = connect(server, "/api/ws/jobs").await;
                if n % 2 == 0 {
                    let _ = socket.close(None).await;
                }
            }
        });
        futures_util::future::join_all(many).await;
    }
    let mut pages = Vec::new();
    for _ in 0..20 {
        let mut page = connect(&server, "/api/ws/jobs").await;
        page.send(Message::text("ping")).await.unwrap();
        let pong = soon("pong", page.next()).await.unwrap().unwrap();
        assert_eq!(pong.to_text().unwrap(), "pong");
        pages.push(page);
    }
    let (_, sent) = upload(&server, &[("a.txt", "Hello there.")]).await;
    let id = sent["files"][0]["job_id"].clone();
    let store = server.store();
    let claimed = store.claim_work(&["transcript".into()], "w").await.unwrap().unwrap();
    store.report(&claimed.lease, None, Vec::new(), Some(WorkOutcome::Finished(Map::new()))).await.unwrap();
    for mut page in pages {
        let mut heard = Vec::new();
        while !heard.contains(&"job_completed".to_owned()) {
            let frame = soon("a frame", page.next()).await.unwrap().unwrap();
            let frame: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
            if frame["type"] != "stats_updated" {
                assert_eq!(frame["job"]["id"], id);
                heard.push(frame["type"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(heard[0], "job_created");
        let stats = soon("the counters", page.next()).await.unwrap().unwrap();
        let stats: Value = serde_json::from_str(stats.to_text().unwrap()).unwrap();
        assert_eq!((&stats["type"], &stats["stats"]["completed"]), (&json!("stats_updated"), &json!(1)));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_example_worker_runs_all_four_phases_and_only_the_owner_hears_of_it() {
    let server = Running::start(taking_tokens()).await;
    let ann = Caller::new(&server.base, "ann", "jobs:read jobs:write");
    let mut page = connect(&server, &format!("/api/ws/jobs?token={}", token("ann", "jobs:read"))).await;
    let mut stranger = connect(&server, "/api/ws/jobs").await;
    let request =
        ann.request(Method::POST, "/api/upload/transcripts").multipart(form(&[("2WLI1209.srt", SRT)]));
    let (_, sent) = answer(request.send().await.unwrap()).await;
    let id = sent["files"][0]["job_id"].as_i64().unwrap();
    let worker = Command::new("python3")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/examples/transcripts.py"), "--once"])
        .env("JOBCAST_URL", server.base.as_str())
        .env("JOBCAST_KEY", token("robot", "work:transcript"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true)
        .status();
    assert!(soon("the worker to end", worker).await.unwrap().success());
    let last = loop {
        let frame = soon("a frame", page.next()).await.unwrap().unwrap();
        let frame: Value = serde_json::from_str(frame.to_text().unwrap()).unwrap();
        if frame["type"] == "job_completed" {
            break frame["job"].clone();
        }
    };
    let (_, shown) = ann.get(&format!("/api/jobs/{id}")).await;
    assert_eq!(shown, last, "the last frame is the job as it is");
    assert_eq!(
        (&shown["status"], &shown["word_count"], &shown["duration_minutes"]),
        (&json!("completed"), &json!(26), &json!(2.5))
    );
    for phase in shown["phases"].as_array().unwrap() {
        assert_eq!(phase["status"], "completed", "{phase}");
        assert!(!phase["completed_at"].as_str().unwrap().ends_with('Z'), "{phase}");
    }
    let output = async |file: &str| {
        let response =
            ann.request(Method::GET, &format!("/api/jobs/{id}/outputs/{file}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        response.text().await.unwrap()
    };
    assert!(output("analyst_output.md").await.contains("| ANNA | 15 | 58 % |"));
    assert!(output("formatter_output.md").await.contains("**BEN:**\n\nTomatoes need sun."));
    assert!(output("seo_output.md").await.contains("garden, tomatoes"));
    assert!(output("manager_output.md").await.contains("All is well."));
    let manifest: Value = serde_json::from_str(&output("manifest.json").await).unwrap();
    assert_eq!(manifest["files"].as_object().unwrap().len(), 4);
    // Nobody else learns of it, through any door.
    stranger.send(Message::text("ping")).await.unwrap();
    let heard = soon("pong", stranger.next()).await.unwrap().unwrap();
    assert_eq!(heard.to_text().unwrap(), "pong", "nothing came before");
    assert_eq!(server.get(&format!("/api/jobs/{id}")).await.0, 404);
    assert_eq!(server.get("/api/queue/stats").await.1["total"], 0);
    server.stop().await;
}
