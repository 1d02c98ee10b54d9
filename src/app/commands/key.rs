//! `jobcast key`: makes, lists and revokes API keys, in the database itself.

use anyhow::{Context as _, bail};
use chrono::{TimeDelta, Utc};
use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::{Value, json};

use crate::{
    app::server,
    config::Config,
    event::format_timestamp,
    identity::key,
    job::{Scopes, check_subject},
    store::{ApiKey, NewApiKey, Store},
};

/// Longest name of a key, in characters.
const MAX_NAME: usize = 100;

/// What to do with API keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a key. It is shown once: only its SHA-256 is kept.
    #[command(
        after_help = "Examples:\n  jobcast key create worker-1 --subject novels --scope work:novel\n  export JOBCAST_KEY=$(jobcast key create ci --subject ci --scope \"jobs:read jobs:write\" --quiet)"
    )]
    Create(CreateArgs),
    /// List the keys.
    #[command(after_help = "Examples:\n  jobcast key list\n  jobcast key list --all --json | jq .subject")]
    List {
        /// Also those that were revoked or have expired.
        #[arg(long)]
        all: bool,
        /// One JSON object a line, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. Connections that were opened with it end within seconds (auth.recheck).
    #[command(after_help = "Example:\n  jobcast key revoke jc_0a1b2c3d4e")]
    Revoke {
        /// The key's prefix or id, as `key list` shows them.
        key: String,
    },
}

/// The key to be made.
#[derive(Args)]
pub struct CreateArgs {
    /// What it is for; people see it in the list.
    name: String,
    /// Whose jobs it sees and makes.
    #[arg(long)]
    subject: String,
    /// What it may do: jobs:read, jobs:write, work, work:<kind>, admin, with spaces between them.
    #[arg(long, default_value = "jobs:read jobs:write")]
    scope: String,
    /// When it ends, such as 90days; never if it is not said.
    #[arg(long, value_name = "TIME")]
    expires_in: Option<humantime::Duration>,
    /// Print the key alone, for scripts.
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    /// Print a JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub async fn run(config: Config, command: KeyCommand) -> anyhow::Result<()> {
    let data_dir = server::data_dir(&config.server.data_dir)?;
    std::fs::create_dir_all(&data_dir).with_context(|| {
        format!("cannot make the data directory {}; choose another with --data-dir", data_dir.display())
    })?;
    let (options, postgres) = server::database_at_hand(&config, &data_dir).await?;
    let (store, _) = Store::open(options, &config.database).await?;
    let done = act(&store, command).await;
    store.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await;
    }
    done
}

async fn act(store: &Store, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(args) => create(store, args).await,
        KeyCommand::List { all, json } => {
            let keys = store.api_keys(all).await?;
            for key in &keys {
                match json {
                    true => println!("{}", describe(key)),
                    false => println!("{}", line(key)),
                }
            }
            if keys.is_empty() && !json {
                eprintln!("There are no keys; `jobcast key create` makes one.");
            }
            Ok(())
        }
        KeyCommand::Revoke { key } => match store.revoke_api_key(&key).await? {
            Some(revoked) => {
                println!("{} ({}) is revoked.", revoked.prefix, revoked.name);
                Ok(())
            }
            None => bail!("there is no key {key:?} that could be revoked; `jobcast key list` shows them"),
        },
    }
}

async fn create(store: &Store, args: CreateArgs) -> anyhow::Result<()> {
    let scopes = Scopes::parse(&args.scope)?.words();
    if scopes.is_empty() {
        bail!("a key without a scope is good for nothing; name one with --scope");
    }
    let name = args.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        bail!("a key's name has 1 to {MAX_NAME} characters, none of them a control character");
    }
    let expires_at = match args.expires_in {
        Some(time) => Some(
            TimeDelta::from_std(*time)
                .ok()
                .and_then(|time| Utc::now().checked_add_signed(time))
                .context("--expires-in is too long; leave it out for a key that does not end")?,
        ),
        None => None,
    };
    let secret = key::Secret::generate();
    let new = NewApiKey {
        prefix: secret.prefix.clone(),
        sha256: key::hash(&secret.text),
        name,
        subject: check_subject(&args.subject)?.to_owned(),
        scopes: scopes.join(" "),
        expires_at,
    };
    let made = store.add_api_key(new).await?;
    if args.json {
        let mut shown = describe(&made);
        shown["key"] = json!(secret.text);
        println!("{shown}");
    } else if args.quiet {
        println!("{}", secret.text);
    } else {
        println!("{}", secret.text);
        eprintln!(
            "This is the only time that the key is shown. It calls as {:?} and may {}.\nSend it as the header X-API-Key, or as Authorization: Bearer.",
            made.subject, made.scopes
        );
    }
    Ok(())
}

fn describe(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "subject": key.subject,
        "scopes": key.scopes.split(' ').collect::<Vec<_>>(),
        "createdAt": format_timestamp(key.created_at),
        "lastUsedAt": key.last_used_at.map(format_timestamp),
        "expiresAt": key.expires_at.map(format_timestamp),
        "revokedAt": key.revoked_at.map(format_timestamp),
    })
}

fn line(key: &ApiKey) -> String {
    let used =
        key.last_used_at.map_or_else(|| "never used".into(), |at| format!("used {}", format_timestamp(at)));
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", format_timestamp(at)),
        (None, Some(at)) => format!("until {}", format_timestamp(at)),
        (None, None) => "good".into(),
    };
    format!("{}  {:<20}  {:<16}  {:<28}  {used}  {state}", key.prefix, key.name, key.subject, key.scopes)
}
