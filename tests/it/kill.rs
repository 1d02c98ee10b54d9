//! `kill -9` of the whole server in the middle of a job, on its embedded database: the job goes on after the restart
//! and ends as an undisturbed one does.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    process::{Process, free_port},
    support::{folder, heavy, wait_for},
    verify,
};

const SETTINGS: [(&str, &str); 2] =
    [("JOBCAST__CRAWLER__DELAY", "0ms"), ("JOBCAST__BROWSER__SETTLE_TIMEOUT", "2s")];

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
            "screenshot:uploaded" | "ocr:started" => {
                product_of[&data["screenshotId"].to_string()].to_string()
            }
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
    let server = Process::start(folder.path(), port, &SETTINGS).await;
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
        server = Process::start(folder.path(), port, &SETTINGS).await;
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
    let (code, found, said) = verify::run(&[], folder.path(), None).await;
    assert_eq!(code, 0, "the journal is sound: {found:?} {said}");
    server.kill();
    wait_for("the programs of the killed server to be gone", async || {
        let left = Command::new("pgrep").arg("-f").arg(folder.path()).output().unwrap();
        left.stdout.is_empty().then_some(())
    })
    .await;
}
