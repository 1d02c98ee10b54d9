//! The server in a process of its own, on its embedded database, as its user starts it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{answer, wait_for};

/// The server as its user starts it.
pub struct Process {
    child: Child,
    pub base: String,
    pub http: reqwest::Client,
}

impl Process {
    pub async fn start(data_dir: &Path, port: u16, settings: &[(&str, &str)]) -> Process {
        let child = Command::new(env!("CARGO_BIN_EXE_jobcast"))
            .args(["serve", "--demo-shop", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data_dir)
            .env_remove("DATABASE_URL")
            .env("JOBCAST__LOG__FILTER", "warn")
            .envs(settings.iter().copied())
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

    pub async fn get(&self, path: &str) -> Value {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await.1
    }

    pub async fn submit(&self) -> String {
        let body = json!({ "shopUrl": format!("{}/demo/shop/", self.base), "maxProducts": 8 });
        let response = self.http.post(format!("{}/v1/jobs", self.base)).json(&body).send().await.unwrap();
        let (status, job) = answer(response).await;
        assert_eq!(status, 201, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    pub async fn events(&self, job: &str) -> Vec<Value> {
        self.get(&format!("/v1/jobs/{job}/events")).await["events"].as_array().unwrap().clone()
    }

    pub fn kill(mut self) {
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

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
