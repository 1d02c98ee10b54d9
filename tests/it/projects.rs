//! Project agents as their page uses them: a whole project by the example worker, over real sockets.

use std::time::Duration;

use futures_util::StreamExt as _;
use jobcast::{
    identity::key,
    job::Report,
    store::{NewApiKey, WorkOutcome},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use crate::{
    support::{Running, answer, folder, soon},
    transcripts::connect,
};

/// A key for the example worker.
async fn worker_key(server: &Running) -> String {
    let secret = key::Secret::generate();
    let new = NewApiKey {
        prefix: secret.prefix.clone(),
        sha256: key::hash(&secret.text),
        name: "worker".into(),
        subject: "agents".into(),
        scopes: "work:project".into(),
        expires_at: None,
    };
    server.store().add_api_key(new).await.unwrap();
    secret.text
}

/// What a page is told next.
async fn heard(page: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(60), page.next()).await;
        let frame = frame.expect("a frame comes").expect("the connection stays").unwrap();
        if frame.is_text() {
            return serde_json::from_str(frame.to_text().unwrap()).unwrap();
        }
    }
}

async fn send(server: &Running, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
    answer(server.http.request(method, server.url(path)).json(&body).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_project_is_generated_and_works() {
    let server = Running::quiet().await;
    let wish = json!({
        "name": "To-do “list”", "description": "Keeps <things>", "requirements": "- Add items\n- Tick items",
        "target_platforms": ["react", "vue"], "database": "sqlite", "auth": true, "deployment": "docker",
    });
    let (status, project) = server.post("/api/projects", &wish).await;
    assert_eq!(
        (status, &project["status"], &project["progress"]),
        (200, &json!("pending"), &json!(0)),
        "{project}"
    );
    assert_eq!((&project["app_type"], &project["architecture_type"]), (&json!("web"), &json!("modular")));
    let id = project["id"].as_str().unwrap();
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    for path in ["/code", "/download"] {
        let (status, refused) = server.get(&at(path)).await;
        assert_eq!((status, &refused["detail"]), (400, &json!("Project generation not completed")));
    }
    let mut page = connect(&server, &format!("/api/ws/projects/{id}")).await;
    let (status, begun) = server.post(&at("/generate"), &json!({})).await;
    let expected =
        json!({ "message": "Project generation started", "project_id": id, "status": "in_progress" });
    assert_eq!((status, &begun), (200, &expected));
    assert_eq!(server.post(&at("/generate"), &json!({})).await.0, 409, "it is under way");
    assert_eq!(server.get(&at("/status")).await.1["progress"], 10);

    let worker = tokio::process::Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/project_worker.py"))
        .args(["--once", "--url", server.base.as_str()])
        .env("JOBCAST_KEY", worker_key(&server).await)
        .env("PROJECT_PAUSE", "0")
        .kill_on_drop(true)
        .output();
    let worker = tokio::spawn(worker);
    let mut frames: Vec<Value> = Vec::new();
    while frames.last().is_none_or(|last| last["type"] != "completion") {
        frames.push(heard(&mut page).await);
    }
    let worker = soon("the worker's end", worker).await.unwrap().unwrap();
    assert!(worker.status.success(), "{}", String::from_utf8_lossy(&worker.stderr));
    assert!(frames.iter().all(|frame| frame["project_id"] == id));
    let of =
        |kind: &str| frames.iter().filter(|frame| frame["type"] == kind).cloned().collect::<Vec<Value>>();
    let stages: Vec<String> = of("log")
        .iter()
        .filter_map(|log| {
            log["message"].as_str()?.split_once("Stage ")?.1.split_once('/').map(|(n, _)| n.to_owned())
        })
        .collect();
    assert_eq!(stages, (1..=12).map(|n| n.to_string()).collect::<Vec<_>>());
    let agents: Vec<(String, String)> = of("agent_update")
        .iter()
        .map(|update| {
            let word = |key: &str| update[key].as_str().unwrap().to_owned();
            (word("agent"), word("agent_status"))
        })
        .collect();
    let order = [
        "database",
        "api_architect",
        "uiux_designer",
        "image_generator",
        "backend",
        "frontend",
        "frontend",
        "security",
        "performance",
        "testing",
        "devops",
        "documentation",
        "code_review",
    ];
    let expected: Vec<(String, String)> = order
        .iter()
        .flat_map(|agent| ["started", "completed"].map(|status| (agent.to_string(), status.to_owned())))
        .collect();
    assert_eq!(agents, expected);
    let bar: Vec<u64> =
        of("status_update").iter().map(|update| update["progress"].as_u64().unwrap()).collect();
    assert!(bar.is_sorted() && bar[..2] == [0, 10] && bar.last() == Some(&100), "{bar:?}");
    let end = frames.last().unwrap();
    assert_eq!((&end["success"], &end["download_url"]), (&json!(true), &json!(at("/download"))));

    // The page loads the project again, and the zip.
    let (_, shown) = server.get(&at("")).await;
    assert_eq!(
        (&shown["status"], &shown["features"]),
        (&json!("completed"), &json!(["Add items", "Tick items"]))
    );
    let logs = shown["agent_logs"].as_array().unwrap();
    assert!(logs.len() >= 14 && !logs[0]["timestamp"].as_str().unwrap().ends_with('Z'), "{logs:?}");
    let (_, status) = server.get(&at("/status")).await;
    assert_eq!((status["logs"].as_array().unwrap().len(), &status["progress"]), (10, &json!(100)));
    let (_, code) = server.get(&at("/code")).await;
    assert!(code["generated_code"]["backend/server.py"].as_str().unwrap().contains("To-do"));
    let zip = server.http.get(server.url(end["download_url"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(zip.headers()["content-type"], "application/zip");
    assert_eq!(zip.headers()["content-disposition"], "attachment; filename=\"to-do--list.zip\"");
    let folder = folder();
    let packed = folder.path().join("project.zip");
    std::fs::write(&packed, zip.bytes().await.unwrap()).unwrap();
    let run = async |arguments: &[&str]| {
        let run = tokio::process::Command::new("python3").args(arguments).current_dir(folder.path()).output();
        let done = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(&["-m", "zipfile", "-e", "project.zip", "."]).await;
    // What was made works: its own tests say so.
    run(&["-m", "unittest", "discover", "tests"]).await;

    // Once more, and the page that stayed sees it begin.
    let (status, again) = server.post(&at("/regenerate"), &json!({})).await;
    assert_eq!((status, again["note"].is_string()), (200, true), "{again}");
    let frame = heard(&mut page).await;
    assert_eq!((&frame["status"], &frame["progress"]), (&json!("in_progress"), &json!(10)));
    assert_eq!(server.get(&at("")).await.1["agent_logs"], json!([]));
    let claimed = server.store().claim_work(&["project".into()], "w").await.unwrap().unwrap();
    let failed = WorkOutcome::Failed { error: "no room".into(), retry: false };
    server.store().report(&claimed.lease, None, Vec::new(), Some(failed)).await.unwrap();
    let mut last = Value::Null;
    while last["type"] != "completion" {
        last = heard(&mut page).await;
    }
    assert_eq!(last["success"], false);
    let (_, shown) = server.get(&at("")).await;
    let logs = shown["agent_logs"].as_array().unwrap();
    assert_eq!((&shown["status"], &shown["progress"]), (&json!("failed"), &json!(0)));
    assert_eq!(logs.last().unwrap()["message"], "❌ Error: no room");

    // Whoever tries the job again through another door begins the project's next run, and its page sees that, too.
    let (_, newest) = server.get("/v1/jobs?limit=1").await;
    let failed_run = newest["jobs"][0]["id"].as_str().unwrap();
    let (status, retried) = server.post(&format!("/v1/jobs/{failed_run}/retry"), &json!({})).await;
    assert_eq!(status, 201, "{retried}");
    let frame = heard(&mut page).await;
    assert_eq!((&frame["status"], &frame["progress"]), (&json!("in_progress"), &json!(10)), "{frame}");
    assert_eq!(server.get(&at("")).await.1["status"], "in_progress");
    let claimed = server.store().claim_work(&["project".into()], "w").await.unwrap().unwrap();
    let halfway = Report::Progress { progress: Some(60), step: Some("backend".into()), message: None };
    server.store().report(&claimed.lease, None, vec![halfway], None).await.unwrap();
    // Its bar does not fall back when it was paused and goes on.
    for order in ["pause", "resume"] {
        let path = format!("/v1/jobs/{}/{order}", claimed.work.record.job.id);
        assert_eq!(server.post(&path, &json!({})).await.0, 200);
    }
    let done = WorkOutcome::Failed { error: "still no room".into(), retry: false };
    let again = server.store().claim_work(&["project".into()], "w").await.unwrap();
    let lease = again.map_or(claimed.lease, |again| again.lease);
    server.store().report(&lease, None, Vec::new(), Some(done)).await.unwrap();
    let mut bar = vec![10];
    loop {
        let frame = heard(&mut page).await;
        match frame["type"].as_str() {
            Some("completion") => break,
            Some("status_update") if frame["status"] == "in_progress" => {
                bar.push(frame["progress"].as_u64().unwrap());
            }
            _ => {}
        }
    }
    assert!(bar.is_sorted() && bar.last() == Some(&60), "{bar:?}");

    let (status, gone) = send(&server, reqwest::Method::DELETE, &at(""), json!({})).await;
    assert_eq!((status, gone["message"].is_string()), (200, true), "{gone}");
    assert_eq!(server.get(&at("")).await, (404, json!({ "detail": "Project not found" })));
    assert_eq!(server.get("/v1/jobs").await.1["total"], 0, "its jobs are gone, too");
    server.stop().await;
}

#[tokio::test]
async fn projects_are_listed_changed_and_refused_in_the_pages_words() {
    let server = Running::quiet().await;
    let (_, first) = server.post("/api/projects", &json!({ "name": "One" })).await;
    let (_, second) = server.post("/api/projects", &json!({ "name": "Two" })).await;
    let (_, list) = server.get("/api/projects").await;
    let names: Vec<&Value> = list.as_array().unwrap().iter().map(|project| &project["name"]).collect();
    assert_eq!(names, ["Two", "One"]);
    assert!(list[0]["target_platforms"].is_array() && list[0]["updated_at"].as_str().unwrap().ends_with('Z'));
    let at = format!("/api/projects/{}", second["id"].as_str().unwrap());
    let change = json!({ "description": "better", "status": "completed" });
    let (status, changed) = send(&server, reqwest::Method::PUT, &at, change).await;
    assert_eq!((status, &changed["name"], &changed["description"]), (200, &json!("Two"), &json!("better")));
    assert_eq!(changed["status"], "pending");
    for (method, path, body, status) in [
        (reqwest::Method::POST, "/api/projects", json!({}), 400),
        (reqwest::Method::POST, "/api/projects", json!({ "name": " " }), 400),
        (reqwest::Method::POST, "/api/projects", json!({ "name": "a\u{0}" }), 400),
        (reqwest::Method::POST, "/api/projects", json!({ "name": "x".repeat(201) }), 400),
        (reqwest::Method::PUT, at.as_str(), json!({ "target_platforms": "react" }), 400),
        (reqwest::Method::GET, "/api/projects/none", json!({}), 404),
        (
            reqwest::Method::POST,
            "/api/projects/00000000-0000-7000-8000-000000000000/generate",
            json!({}),
            404,
        ),
    ] {
        let (answered, refused) = send(&server, method, path, body.clone()).await;
        assert_eq!((answered, refused["detail"].is_string()), (status, true), "{path} {body}: {refused}");
    }
    // A run of one is nothing to the other.
    server.post(&format!("/api/projects/{}/generate", first["id"].as_str().unwrap()), &json!({})).await;
    let claimed = server.store().claim_work(&["project".into()], "w").await.unwrap().unwrap();
    assert_eq!(claimed.work.input["name"], "One");
    server
        .store()
        .report(&claimed.lease, None, Vec::new(), Some(WorkOutcome::Finished(Map::new())))
        .await
        .unwrap();
    let (_, list) = server.get("/api/projects").await;
    assert_eq!((&list[0]["status"], &list[1]["status"]), (&json!("pending"), &json!("completed")));
    // A worker that stored no zip.
    assert_eq!(server.get(&format!("/api/projects/{}/download", first["id"].as_str().unwrap())).await.0, 404);

    let (_, types) = server.get("/api/agents/types").await;
    assert_eq!((&types["total_agents"], types["agents"].as_array().unwrap().len()), (&json!(12), 12));
    let (_, said) = server.post("/api/agents/analyze", &json!({ "text": "A Vue page with a login" })).await;
    assert!(said["suggested_workflow"].to_string().contains("security"), "{said}");
    let (_, health) = server.get("/api/health").await;
    assert_eq!(health["status"], "healthy");
    assert!(health["service"].is_string(), "{health}");
    server.stop().await;
}
