//! The command line as people and scripts use it: jobs listed, asked and watched, with a token where the server wants one.

use std::{path::Path, process::Stdio};

use jobcast::{job::JobId, store::NewWork};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    support::{PATIENCE, Running},
    workers::{Caller, taking_tokens, token},
};

fn jobcast(server: &Running, key: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobcast"));
    command.args(arguments).env("JOBCAST_SERVER", server.base.as_str()).env_remove("JOBCAST_KEY");
    command.stdin(Stdio::null()).kill_on_drop(true);
    if let Some(key) = key {
        command.env("JOBCAST_KEY", key);
    }
    command
}

/// The exit code, and what was said on standard output and standard error.
async fn run(server: &Running, key: Option<&str>, arguments: &[&str]) -> (i32, String, String) {
    let output = jobcast(server, key, arguments).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("an end").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

async fn work(server: &Running, owner: &str, name: &str) -> JobId {
    let new = NewWork { owner: owner.into(), input: Map::new(), ..NewWork::new("words", name) };
    server.store().submit_work(new, None).await.unwrap().job
}

#[tokio::test]
async fn jobs_are_listed_and_asked_of_by_their_owner_alone() {
    let mut config = taking_tokens();
    config.auth.anonymous = false;
    let server = Running::start(config).await;
    let worker = Caller::new(&server.base, "w", "work");
    assert!(worker.request(reqwest::Method::PUT, "/v1/kinds/words").json(&json!({})).send().await.is_ok());
    let (mine, other) = (work(&server, "ann", "A poem").await, work(&server, "bob", "A novel").await);
    let ann = token("ann", "jobs:read jobs:write");

    let (code, out, err) = run(&server, Some(&ann), &["jobs"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&mine.to_string()) && out.contains("A poem"), "{out}");
    assert!(!out.contains("A novel"), "{out}");
    assert!(out.contains(&format!("/#/jobs/{mine}")), "the one job's page is linked: {out}");
    let (_, out, _) = run(&server, Some(&ann), &["jobs", "--json", "--kind", "words"]).await;
    let listed: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(mine)));
    let (code, out, err) = run(&server, Some(&ann), &["jobs", "--status", "failed"]).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("no such jobs"), "{err}");
    let (code, _, err) = run(&server, Some(&ann), &["jobs", "--status", "odd"]).await;
    assert!(code != 0 && err.contains("odd"), "{err}");

    // Nobody in particular is told what to send.
    let (code, _, err) = run(&server, None, &["jobs"]).await;
    assert!(code != 0 && err.contains("token"), "{err}");

    // What is refused of one job does not keep it from the next.
    let (mine, other) = (mine.to_string(), other.to_string());
    let (code, out, err) = run(&server, Some(&ann), &["jobs", "pause", &other, &mine]).await;
    assert_eq!(code, 1);
    assert!(out.contains("paused") && err.contains(&other), "{out}{err}");
    let (code, out, _) = run(&server, Some(&ann), &["jobs", "cancel", "--json", &mine]).await;
    let cancelled: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &cancelled["status"]), (0, &json!("cancelled")));
    let (code, out, _) = run(&server, Some(&ann), &["watch", &mine, "--json"]).await;
    assert_eq!(code, 2, "its exit code tells that it was cancelled");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "job:failed");
    let (code, out, _) = run(&server, Some(&ann), &["jobs", "retry", &mine, "--json"]).await;
    let again: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &again["retryOf"]), (0, &json!(mine)));
    server.stop().await;
}

#[tokio::test]
async fn all_that_run_are_watched_and_those_that_begin_meanwhile() {
    let server = Running::quiet().await;
    let first = work(&server, "anonymous", "first").await;
    let mut watch = jobcast(&server, None, &["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut heard = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line").unwrap();
        let job: Value = serde_json::from_str(&line.expect("it goes on")).unwrap();
        (job["id"].as_str().unwrap().to_owned(), job["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(heard().await, (first.to_string(), "pending".into()));
    let second = work(&server, "anonymous", "second").await;
    assert_eq!(heard().await, (second.to_string(), "pending".into()));
    server.store().cancel(first).await.unwrap();
    assert_eq!(heard().await, (first.to_string(), "cancelled".into()));
    watch.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_jobcast")).args(["completions", shell]).output();
        let script = String::from_utf8(output.await.unwrap().stdout).unwrap();
        assert!(script.contains("check-config") && script.contains("price-list"), "{shell}");
    }
    // Bash itself takes the script, and offers what begins like that.
    let script = "source <(\"$0\" completions bash); COMP_WORDS=(jobcast che); COMP_CWORD=1; _jobcast jobcast che jobcast; \
                  echo \"${COMPREPLY[@]}\"";
    let binary = Path::new(env!("CARGO_BIN_EXE_jobcast"));
    let output = Command::new("bash").arg("-c").arg(script).arg(binary).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "check-config", "{}", String::from_utf8_lossy(&output.stderr));
}
