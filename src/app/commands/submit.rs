//! `jobcast submit URL`: starts a job on a running server and follows it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use url::Url;

use crate::app::{
    client::{self, PriceListJob, Remote},
    follow::{self, Style},
};

/// Which server to talk to, and how to show what it says.
#[derive(Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(long, value_name = "URL", env = "JOBCAST_SERVER", default_value = "http://127.0.0.1:3001")]
    server: Url,
    /// A token or an API key, where the server asks for one; the environment keeps it out of the list of processes.
    #[arg(long, env = "JOBCAST_KEY", hide_env_values = true)]
    token: Option<String>,
    /// One JSON object a line, for scripts.
    #[arg(long)]
    pub json: bool,
}

impl ServerArgs {
    /// The server, called as the key's subject.
    pub fn remote(&self) -> Remote {
        Remote::new(self.server.clone(), self.token.clone())
    }

    pub fn style(&self) -> Style {
        if self.json { Style::Json } else { Style::Auto }
    }
}

/// What to submit.
#[derive(Args)]
pub struct SubmitArgs {
    /// The shop's start page.
    url: Url,
    /// The label template.
    #[arg(long, default_value = "standard-label")]
    template: String,
    /// The job's name.
    #[arg(long)]
    name: Option<String>,
    /// How many products at the most.
    #[arg(long, default_value_t = 50)]
    max_products: u32,
    /// From -100 to 100; jobs of higher priority are worked on first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i16,
    /// A price list (.xlsx, .xls, .csv) to match the products with.
    #[arg(long, value_name = "FILE")]
    price_list: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Submits and follows; the exit code tells how the job ended.
pub async fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let base = &args.server.remote();
    let mut options = json!({ "maxProducts": args.max_products, "priority": args.priority });
    if let Some(name) = &args.name {
        options["name"] = json!(name);
    }
    let job = match &args.price_list {
        Some(path) => {
            let file = std::fs::read(path)
                .with_context(|| format!("cannot read the price list {}", path.display()))?;
            let job = PriceListJob {
                shop_url: args.url.to_string(),
                template_id: args.template,
                config: options,
                file_name: path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                file,
            };
            client::submit_with_price_list(base, job).await?
        }
        None => {
            options["shopUrl"] = json!(args.url);
            options["templateId"] = json!(args.template);
            client::submit(base, &options).await?
        }
    };
    let outcome = follow::follow(base, job, args.server.style()).await?;
    Ok(outcome.exit_code().into())
}
