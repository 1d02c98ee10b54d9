//! `jobcast demo`: the server, its demo shop, and one whole job that a person can watch.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use tokio::sync::Mutex;

use super::signals::Signals;
use crate::{
    app::{
        Server,
        client::{self, PriceListJob, Remote},
        demo_shop::{self, Catalogue},
        follow::{self, Style},
        listen,
    },
    config::Config,
};

/// Products of the demo's job at the most; the small shop has fewer.
const PRODUCTS: u32 = 40;

/// Serves, submits the job over REST and follows it over Socket.IO; then goes on serving, or with `once` ends with
/// the job's result as exit code.
///
/// `products` makes a shop of that many; else it is the small one that is drawn by hand, unless a setting says otherwise.
pub async fn run(mut config: Config, once: bool, products: Option<u32>) -> anyhow::Result<ExitCode> {
    config.server.demo_shop = true;
    config.server.demo_products = products.unwrap_or(config.server.demo_products);
    let wanted = match config.server.demo_products {
        0 => PRODUCTS,
        products => products,
    };
    if wanted > config.crawler.max_products {
        bail!(
            "a job may have {} products; ask for fewer, or raise the setting crawler.max_products",
            config.crawler.max_products
        );
    }
    let list = demo_shop::price_list_of(Catalogue::of(config.server.demo_products));
    let signals = Mutex::new(Signals::listen()?);
    let listeners = listen::bind(&config.server.listen).await?;
    let next_signal = async || signals.lock().await.next().await;
    let server = tokio::select! {
        server = Server::start(config, listeners) => server?,
        () = next_signal() => return Ok(ExitCode::FAILURE),
    };
    let base = Remote::from(server.local.clone());
    let shop = server.demo_shop();
    eprintln!("Jobcast listens on {}; the demo shop is at {shop}", *base);
    let job = async {
        let job = PriceListJob {
            shop_url: shop.to_string(),
            template_id: "standard-label".into(),
            config: json!({ "name": "Labels of the demo shop", "maxProducts": wanted }),
            file_name: "price-list.xlsx".into(),
            file: list,
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
        eprintln!("Jobcast goes on serving on {}; Ctrl-C ends it.", *base);
        server.run(next_signal(), next_signal()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    server.stop(next_signal()).await;
    outcome.transpose()?;
    Ok(code)
}
