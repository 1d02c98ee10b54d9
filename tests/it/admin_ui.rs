//! The official Socket.IO Admin UI on this server: its page in headless Chromium, and the stock client in its place.

use jobcast::config::AdminMode;

use crate::{
    support::{Running, heavy, node_tests, planned_job, planned_job_of},
    workers::{taking_tokens, token},
};

/// Of "open sesame", made by the package that the original's users make theirs with.
const HASH: &str = "$2a$04$aDLP2u9DNXruk.9lcPTiz.v2Pq.Mf.25exdf99PVz9h4jc1gopp7m";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_admin_ui_connects_shows_what_is_there_and_acts() {
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
    let environment = [
        ("JOBCAST_URL", open.base.as_str()),
        ("JOBCAST_CLOSED_URL", closed.base.as_str()),
        ("JOBCAST_JOBS", &jobs.join(",")),
        ("JOBCAST_FOREIGN", &foreign.to_string()),
        ("JOBCAST_TOKEN", &token("ann", "jobs:read jobs:write")),
    ];
    node_tests("admin_ui", "admin_ui.test.mjs", &environment).await;
    open.stop().await;
    closed.stop().await;
}
