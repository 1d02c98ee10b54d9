//! The served contract: complete, sound, and what a fuzzer finds the running server to keep.

use std::{collections::HashSet, fs, path::Path, process::Stdio, time::Duration};

use jobcast::config::NovelTool;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Running, folder, quiet_config};

const METHODS: [&str; 6] = ["get", "put", "post", "patch", "delete", "head"];
/// Cases that the fuzzer makes up for an operation, besides those at the borders of its schema.
const CASES: &str = "4";
/// The same cases in every run; a failure is repeated by running the test again.
const SEED: &str = "20261125";
/// The fuzzer's whole run takes about a minute of it.
const FUZZER: Duration = Duration::from_secs(280);

/// `(method path, operation)` of the served document.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of = |(path, item): (&String, &'_ Value)| (path.clone(), item.as_object().unwrap().clone());
    let names: Vec<(String, String)> = paths
        .map(of)
        .flat_map(|(path, item)| item.into_iter().map(move |(method, _)| (path.clone(), method)))
        .filter(|(_, method)| METHODS.contains(&method.as_str()))
        .collect();
    names
        .into_iter()
        .map(|(path, method)| {
            let operation = &document["paths"][&path][&method];
            (format!("{method} {path}"), operation)
        })
        .collect()
}

/// Its page asks for it; who logs people in by another company's account is not this server.
const NEVER_SUCCEEDS: &str = "post /api/v1/auth/google";

#[tokio::test]
async fn every_operation_says_what_it_is_for_and_how_it_answers() {
    let server = Running::quiet().await;
    let (status, document) = server.get("/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let operations = operations(&document);
    assert!(operations.len() > 100, "{} operations", operations.len());
    let mut names = HashSet::new();
    for (what, operation) in operations {
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{what} has a name that is taken");
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{what} says nothing");
        assert!(operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()), "{what} has no tag");
        let answers = operation["responses"].as_object().unwrap();
        let succeeds = answers.keys().any(|status| status.starts_with(['1', '2', '3']));
        assert!(succeeds || what == NEVER_SUCCEEDS, "{what} never succeeds");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_contract_can_be_read_as_a_page_that_needs_nothing_from_elsewhere() {
    let server = Running::quiet().await;
    let page = server.http.get(server.url("/docs")).send().await.unwrap();
    assert_eq!(page.url().path(), "/docs/");
    let page = page.text().await.unwrap();
    let sources: Vec<&str> =
        page.split(['"']).filter(|word| word.ends_with(".js") || word.ends_with(".css")).collect();
    assert!(sources.len() >= 4, "{page}");
    for source in sources {
        assert!(!source.contains("//"), "{source} lies elsewhere");
        let asset = server.http.get(server.url("/docs/")).send().await.unwrap().url().join(source).unwrap();
        assert_eq!(server.http.get(asset).send().await.unwrap().status(), 200, "{source}");
    }
    server.stop().await;
}

/// A handler that is registered without its description would be missing in the contract.
#[test]
fn no_route_is_left_out_of_the_contract() {
    /// What answers for all that is no route, other names of one, and keys with slashes, which OpenAPI has no word for.
    const UNDESCRIBED: [&str; 6] = [
        ".route(\"/api\",",
        ".route(\"/api/\",",
        ".route(\"/api/{*rest}\",",
        ".route(\"/health\",",
        ".route(\"/healthz\",",
        ".route(\"/cdn/{*key}\",",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.join("http"), root.join("dialects")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            seen += text.matches("routes!(").count();
            for line in text.lines().filter(|line| line.trim_start().starts_with(".route(\"")) {
                let known = UNDESCRIBED.iter().any(|route| line.trim_start().starts_with(route));
                assert!(known, "{}: {} is not in the contract", path.display(), line.trim());
            }
        }
    }
    assert!(seen > 80, "{seen} routes found");
}

#[tokio::test]
async fn a_fuzzer_finds_the_server_as_its_contract_says() {
    let _turn = crate::support::heavy().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fuzzer = root.join("tests/openapi/.venv/bin/schemathesis");
    assert!(fuzzer.exists(), "the fuzzer is not installed; `make test` does that");
    let mut config = quiet_config();
    // Nobody reads the pictures that it sends.
    config.ocr.wait = Duration::from_secs(1);
    // It comes more often than anybody.
    config.novel_tool = NovelTool { jobs_per_hour: 0, estimates_per_minute: 0, exports_per_hour: 0 };
    let server = Running::start(config).await;
    let scratch = folder();
    let run = Command::new(&fuzzer)
        .args(["--config-file".as_ref(), root.join("tests/openapi/schemathesis.toml").as_os_str()])
        .args(["run", server.url("/openapi.json").as_str(), "--seed", SEED, "--max-examples", CASES])
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(FUZZER, run).await.expect("the fuzzer ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What it only warns of (ids that it makes up are mostly nobody's) is no fault, but a run that tested nothing would
    // pass too.
    let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<usize>().ok());
    assert!(tested.is_some_and(|operations| operations > 100));
    server.stop().await;
}
