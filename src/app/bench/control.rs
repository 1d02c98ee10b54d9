//! The bench control protocol, as the load generator speaks it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use super::scenarios::frontends::Frontend;
use crate::job::JobId;

/// How long a server may take to publish a burst.
const ANSWER: Duration = Duration::from_secs(60);
/// How long one look for a starting server may take.
const LOOK: Duration = Duration::from_secs(2);

/// The control routes of one server.
#[derive(Clone, Debug)]
pub struct Control {
    base: Url,
    http: reqwest::Client,
}

/// `POST /bench/rooms`: the answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Room {
    pub room: String,
}

/// `POST /bench/publish`: events `from`, `from + 1`, … in one burst.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Burst {
    pub room: String,
    pub count: u32,
    /// Length of the message's text.
    pub bytes: usize,
    pub from: u32,
}

/// `POST /bench/publish`: the answer, when the events are committed or on their way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    /// Microseconds since the epoch.
    pub committed: u64,
}

/// `POST /bench/append`: so many tasks append one event after the other for so long, each to one of so many jobs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Append {
    pub writers: usize,
    pub jobs: usize,
    pub seconds: u64,
}

/// `POST /bench/append`: the answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Appended {
    pub events: u64,
    pub seconds: f64,
}

/// `POST /bench/frontends/begin`: a job of a frontend that will change so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Begin {
    pub frontend: Frontend,
    pub changes: u32,
}

/// `POST /bench/frontends/begin`: the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begun {
    pub job: JobId,
    /// What its frontend calls it, if not by its id.
    pub number: Option<i64>,
    /// The fencing token of whoever works on it, if it is a worker's.
    pub fence: Option<i64>,
}

/// `POST /bench/frontends/step`: a job changes for the `n`th time, from 0, or ends. The answer is a [`Published`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub frontend: Frontend,
    pub begun: Begun,
    pub n: u32,
    pub ends: bool,
}

impl Control {
    pub fn new(base: Url) -> anyhow::Result<Control> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No connection is kept: one that has carried no request yet would hold a stopping server open.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.build().context("no HTTP client can be made")?;
        Ok(Control { base, http })
    }

    /// Whether the server takes requests.
    pub async fn is_ready(&self) -> bool {
        let Ok(url) = self.base.join("bench/ready") else { return false };
        let answer = self.http.get(url).timeout(LOOK).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Makes a room.
    pub async fn room(&self) -> anyhow::Result<String> {
        let Room { room } = self.post("bench/rooms", &serde_json::json!({}), ANSWER).await?;
        Ok(room)
    }

    pub async fn publish(&self, burst: &Burst) -> anyhow::Result<Published> {
        self.post("bench/publish", burst, ANSWER).await
    }

    pub async fn append(&self, append: Append) -> anyhow::Result<Appended> {
        self.post("bench/append", &append, ANSWER + Duration::from_secs(append.seconds)).await
    }

    pub async fn begin(&self, frontend: Frontend, changes: u32) -> anyhow::Result<Begun> {
        self.post("bench/frontends/begin", &Begin { frontend, changes }, ANSWER).await
    }

    pub async fn step(&self, step: &Step) -> anyhow::Result<Published> {
        self.post("bench/frontends/step", step, ANSWER).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> anyhow::Result<T> {
        let url = self.base.join(path)?;
        let asked = || format!("{url} does not speak the bench control protocol (`jobcast bench --help`)");
        let answer =
            self.http.post(url.clone()).json(body).timeout(within).send().await.with_context(asked)?;
        let status = answer.status();
        let text = answer.text().await.with_context(asked)?;
        ensure!(
            status.is_success(),
            "{url} answered {status}: {}",
            text.chars().take(300).collect::<String>()
        );
        serde_json::from_str(&text).with_context(asked)
    }
}
