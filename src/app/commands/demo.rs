//! `jobcast demo`: the server, its demo shop, and one whole job that a person can watch.

use std::process::ExitCode;

use serde_json::json;
use tokio::sync::Mutex;

use super::signals::Signals;
use crate::{
    app::{
        Server,
        client::{self, PriceListJob},
        demo_shop,
        follow::{self, Style},
        listen,
    },
    config::Config,
};

/// Products of the demo's job.
const PRODUCTS: u32 = 40;

/// Serves, submits the job over REST and follows it over Socket.IO; then goes on serving, or with `once` ends with
/// the job's result as exit code.
pub async fn run(mut config: Config, once: bool) -> anyhow::Result<ExitCode> {
    config.server.demo_shop = true;
    let signals = Mutex::new(Signals::listen()?);
    let listeners = listen::bind(&config.server.listen).await?;
    let next_signal = async || signals.lock().await.next().await;
    let server = tokio::select! {
        server = Server::start(config, listeners) => server?,
        () = next_signal() => return Ok(ExitCode::FAILURE),
    };
    let base = server.local.clone();
    let shop = server.demo_shop();
    eprintln!("Jobcast listens on {base}; the demo shop is at {shop}");
    let job = async {
        let job = PriceListJob {
            shop_url: shop.to_string(),
            template_id: "standard-label".into(),
            config: json!({ "name": "Labels of the demo shop", "maxProducts": PRODUCTS }),
            file_name: "price-list.xlsx".into(),
            file: demo_shop::price_list_xlsx(),
        };
        let job = client::submit_with_price_list(&base, job).await?;
        follow::follow(&base, job, Style::Auto).await
    };
    let outcome = tokio::select! {
        outcome = job => Some(outcome),
        () = next_signal() => None,
    };
    let code = match &outcome {
        Some(Ok(outcome)) => outcome.exit_code().into(),
        Some(Err(_)) | None => ExitCode::FAILURE,
    };
    if let (Some(Ok(_)), false) = (&outcome, once) {
        eprintln!("Jobcast goes on serving on {base}; Ctrl-C ends it.");
        server.run(next_signal(), next_signal()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    server.stop(next_signal()).await;
    outcome.transpose()?;
    Ok(code)
}
