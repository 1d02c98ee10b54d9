//! The official Socket.IO Admin UI on this server: its page in headless Chromium, and the stock client in its place.

use std::{path::Path, process::Stdio, time::Duration};

use jobcast::config::AdminMode;
use tokio::process::Command;

use crate::{
    support::{Running, heavy, planned_job, planned_job_of},
    workers::{taking_tokens, token},
};

/// The longest that the browser's tests may take.
const BROWSER: Duration = Duration::from_secs(240);
/// Of "open sesame", made by the package that the original's users make theirs with.
const HASH: &str = "$2a$04$aDLP2u9DNXruk.9lcPTiz.v2Pq.Mf.25exdf99PVz9h4jc1gopp7m";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_admin_ui_connects_shows_what_is_there_and_acts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/admin_ui");
    assert!(
        folder.join("node_modules/playwright-core/package.json").exists(),
        "the Admin UI is not installed; run `make test`, which installs it"
    );
    let _alone = heavy().await;
    let mut config = taking_tokens();
    config.admin_ui.enabled = true;
    config.admin_ui.username = "operator".into();
    config.admin_ui.password_hash = HASH.into();
    config.admin_ui.mode = AdminMode::Development;
    let open = Running::start(config.clone()).await;
    config.admin_ui.mode = AdminMode::Production;
    config.admin_ui.read_only = true;
    let closed = Running::start(config).await;
    let jobs = [planned_job(open.store()).await.to_string(), planned_job(open.store()).await.to_string()];
    let foreign = planned_job_of(open.store(), "ben").await;
    let run = Command::new("node")
        .args(["--test", "admin_ui.test.mjs"])
        .env("JOBCAST_URL", open.base.as_str())
        .env("JOBCAST_CLOSED_URL", closed.base.as_str())
        .env("JOBCAST_JOBS", jobs.join(","))
        .env("JOBCAST_FOREIGN", foreign.to_string())
        .env("JOBCAST_TOKEN", token("ann", "jobs:read jobs:write"))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BROWSER, run).await.expect("the browser's tests end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("# fail 0") && !said.contains("# pass 0"), "{said}");
    open.stop().await;
    closed.stop().await;
}
