//! `jobcast token`: signs a token with the server's secret, for trying things out and for machines without a log-in.

use anyhow::{Context as _, bail};
use chrono::{TimeDelta, Utc};
use clap::Args;
use humantime_serde::re::humantime;
use serde_json::json;

use crate::{
    config::Config,
    event::format_timestamp,
    identity::token::{Kind, NewToken, sign},
    job::Scopes,
};

/// The token to be signed.
#[derive(Args)]
pub struct TokenArgs {
    /// Whom it stands for (its `sub`).
    #[arg(long, value_name = "SUBJECT")]
    sub: String,
    /// What its bearer may do: jobs:read, jobs:write, work, work:<kind>, metrics, admin; what everybody may if it is not said.
    #[arg(long)]
    scope: Option<String>,
    /// How long it is good.
    #[arg(long, default_value = "1h", value_name = "TIME")]
    ttl: humantime::Duration,
    /// A refresh token, which only gets new ones.
    #[arg(long)]
    refresh: bool,
    /// Print a JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

/// Prints a token.
pub fn run(config: &Config, args: &TokenArgs) -> anyhow::Result<()> {
    if config.auth.jwt_secret.is_empty() {
        bail!(
            "auth.jwt_secret is not set; give the server's own, as in JOBCAST__AUTH__JWT_SECRET=… jobcast token …"
        );
    }
    let scopes = args.scope.as_deref().map(Scopes::parse).transpose()?;
    let ttl = TimeDelta::from_std(*args.ttl).ok().filter(|ttl| *ttl <= TimeDelta::days(36_500));
    let ttl = ttl.context("--ttl is too long; a hundred years are the most")?;
    let kind = if args.refresh { Kind::Refresh } else { Kind::Access };
    let token = sign(&NewToken { subject: &args.sub, scopes: scopes.as_ref(), kind, ttl }, &config.auth)?;
    if args.json {
        let expires_at = format_timestamp(Utc::now() + ttl);
        println!("{}", json!({ "token": token, "sub": args.sub, "expiresAt": expires_at }));
    } else {
        println!("{token}");
    }
    Ok(())
}
