//! The command line of Jobcast.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use figment::value::Value;
use jobcast::{
    app::{commands, telemetry},
    config::Config,
    pipeline::tools::ocr,
};

#[derive(Parser)]
#[command(
    name = "jobcast",
    version,
    about = "A Socket.IO-compatible real-time job event server that loses no event",
    after_help = "Try it:\n  jobcast demo                 a whole job on a small shop of its own\n  jobcast serve                the server; then, from elsewhere:\n  jobcast submit https://shop.example.com/\n  jobcast watch 01890a5d-ac96-774b-bcce-b302099a8057\n  jobcast verify               whether all that was promised is there"
)]
struct Cli {
    /// A file with settings, as in config/default.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the server.
    #[command(
        after_help = "Examples:\n  jobcast serve\n  jobcast serve --listen 0.0.0.0:3001 --database-url postgres://jobcast@db/jobcast"
    )]
    Serve(ServeArgs),
    /// Run the server with a demo shop and one whole job on it.
    #[command(
        after_help = "Examples:\n  jobcast demo\n  jobcast demo --once && echo all labels were made\n  jobcast demo --products 200"
    )]
    Demo {
        #[command(flatten)]
        serve: ServeArgs,
        /// End when the job ends, with 0 if it was completed.
        #[arg(long)]
        once: bool,
        /// A generated shop of this many products instead of the small one that is drawn by hand.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        products: Option<u32>,
    },
    /// Bring the database's tables up to date.
    #[command(after_help = "Example:\n  jobcast migrate --database-url postgres://jobcast@db/jobcast")]
    Migrate(DatabaseArgs),
    /// Audit the journal and the objects that it speaks of; ends with 1 if something is wrong.
    #[command(
        after_help = "Examples:\n  jobcast verify\n  jobcast verify --job 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq .finding"
    )]
    Verify {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        verify: commands::verify::VerifyArgs,
    },
    /// Start a job for a shop and follow it to its end.
    #[command(
        after_help = "Example:\n  jobcast submit https://shop.example.com/ --template compact-label --max-products 20"
    )]
    Submit(commands::submit::SubmitArgs),
    /// Import a spreadsheet into a running server: a list of products, or new values of articles.
    #[command(
        after_help = "Examples:\n  jobcast import price-list.xlsx\n  jobcast import stock.csv --articles --map Preis=price --map C=category\n  jobcast import price-list.xlsx --json | jq '.errors[]'\n\nEnds with 2 if some of the rows could not be imported."
    )]
    Import(commands::import::ImportArgs),
    /// List a running server's jobs, or cancel, pause, resume and retry them.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  jobcast jobs\n  jobcast jobs --status failed --json | jq -r .id | xargs jobcast jobs retry\n  jobcast jobs cancel 01890a5d-ac96-774b-bcce-b302099a8057"
    )]
    Jobs(commands::jobs::JobsArgs),
    /// Follow a job from its beginning to its end, or all jobs that run.
    #[command(
        after_help = "Examples:\n  jobcast watch\n  jobcast watch 01890a5d-ac96-774b-bcce-b302099a8057\n  jobcast watch 01890a5d-ac96-774b-bcce-b302099a8057 --json | jq .event\n\nOf one job the exit code tells how it ended: 0 completed, 1 failed, 2 cancelled."
    )]
    Watch(commands::watch::WatchArgs),
    /// Make, list and revoke API keys of programs that call this server.
    #[command(after_help = "Example:\n  jobcast key create worker-1 --subject novels --scope work:novel")]
    Key {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: commands::key::KeyCommand,
    },
    /// Sign a token with the server's secret (auth.jwt_secret).
    #[command(
        after_help = "Examples:\n  JOBCAST__AUTH__JWT_SECRET=… jobcast token --sub 7 --ttl 1h\n  curl -H \"Authorization: Bearer $(jobcast --config my.toml token --sub ci --scope admin)\" localhost:3001/v1/jobs"
    )]
    Token(commands::token::TokenArgs),
    /// Make the hash of the Admin UI's password, for admin_ui.password_hash.
    #[command(
        after_help = "Examples:\n  jobcast admin-password\n  echo \"$PASSWORD\" | jobcast admin-password\n\nA hash has dollar signs: put it between single quotes in a shell."
    )]
    AdminPassword,
    /// Read the settings as the server would and show them.
    #[command(
        after_help = "Examples:\n  jobcast --config my.toml check-config\n  jobcast check-config --defaults > my.toml"
    )]
    CheckConfig {
        /// Show the reference with every setting and its default.
        #[arg(long)]
        defaults: bool,
    },
    /// Print the catalogue of events as a document; a running server has each of them too.
    #[command(
        after_help = "Examples:\n  jobcast contract typescript > events.d.ts\n  jobcast contract json-schema > events.schema.json\n  jobcast contract asyncapi > asyncapi.json"
    )]
    Contract {
        #[arg(value_enum)]
        format: commands::contract::Format,
    },
    /// Drive load against a server and tell what was delivered, lost and repeated.
    #[command(
        subcommand,
        after_help = "Each scenario starts the server that --server names and ends it afterwards, or tries the one at --url, which\nneeds the bench control routes (src/app/bench/mod.rs has them in six lines; tests/bench/node/server.mjs in Node).\n\nExamples:\n  jobcast bench fanout --clients 200\n  jobcast bench compare --quick"
    )]
    Bench(commands::bench::BenchArgs),
    /// Print a script that completes this command line in a shell.
    #[command(
        after_help = "Examples:\n  jobcast completions bash > /etc/bash_completion.d/jobcast\n  jobcast completions zsh > ~/.zfunc/_jobcast\n  jobcast completions fish > ~/.config/fish/completions/jobcast.fish"
    )]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Run a command beside a throw-away Postgres (its address is in DATABASE_URL).
    #[command(after_help = "Example:\n  jobcast postgres -- cargo test")]
    Postgres {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct ServeArgs {
    /// Address to listen on; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Serve the demo shop under /demo/shop/ and let the crawler reach it.
    #[arg(long)]
    demo_shop: bool,
}

#[derive(Args)]
struct DatabaseArgs {
    /// Folder of the embedded database and the objects.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// A real Postgres instead of the embedded one [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl DatabaseArgs {
    fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = Vec::new();
        if let Some(folder) = &self.data_dir {
            flags.push(("server.data_dir", Value::from(folder.to_string_lossy().into_owned())));
        }
        if let Some(url) = &self.database_url {
            flags.push(("database.url", Value::from(url.clone())));
        }
        flags
    }
}

impl ServeArgs {
    fn flags(&self) -> Vec<(&'static str, Value)> {
        let mut flags = self.database.flags();
        if !self.listen.is_empty() {
            let addresses: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
            flags.push(("server.listen", Value::from(addresses)));
        }
        if self.demo_shop {
            flags.push(("server.demo_shop", Value::from(true)));
        }
        flags
    }
}

fn main() -> ExitCode {
    // Before there is any thread.
    if let Err(error) = ocr::ensure_required_env() {
        eprintln!("jobcast: cannot start itself again with Tesseract's threads limited: {error}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    match ran {
        Ok(code) => code,
        // Whoever read the output (`| head`) has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let flags = match &cli.command {
        Verb::Serve(serve) | Verb::Demo { serve, .. } => serve.flags(),
        Verb::Migrate(database) | Verb::Verify { database, .. } | Verb::Key { database, .. } => {
            database.flags()
        }
        _ => Vec::new(),
    };
    let mut config = Config::load(cli.config.as_deref(), std::env::vars(), flags)?;
    match cli.command {
        Verb::Serve(_) => {
            telemetry::start(&config.log)?;
            commands::serve::run(config).await?;
        }
        Verb::Demo { once, products, .. } => {
            // The job's bars have the screen; only what is wrong is logged beside them.
            if config.log.filter == Config::defaults().log.filter {
                config.log.filter = "error".into();
            }
            telemetry::start(&config.log)?;
            return commands::demo::run(config, once, products).await;
        }
        Verb::Migrate(_) => commands::migrate::run(config).await?,
        Verb::Verify { verify, .. } => return commands::verify::run(config, verify).await,
        Verb::Submit(submit) => return commands::submit::run(submit).await,
        Verb::Import(import) => return commands::import::run(import).await,
        Verb::Jobs(jobs) => return commands::jobs::run(jobs).await,
        Verb::Watch(watch) => return commands::watch::run(watch).await,
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "jobcast", &mut std::io::stdout());
        }
        Verb::Key { command, .. } => commands::key::run(config, command).await?,
        Verb::Token(token) => commands::token::run(&config, &token)?,
        Verb::AdminPassword => commands::admin_password::run()?,
        Verb::CheckConfig { defaults } => commands::check_config::run(&config, defaults)?,
        Verb::Contract { format } => commands::contract::run(&config, format),
        Verb::Bench(bench) => return commands::bench::run(config, bench).await,
        Verb::Postgres { command } => return commands::postgres::run(config, command).await,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // What only holds other commands shows those.
        let holds = command.has_subcommands() && command.is_subcommand_required_set();
        assert!(holds || help.contains("jobcast "), "{path} shows no example");
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| check(sub, &path));
    }

    #[test]
    fn every_command_shows_an_example_and_none_contradicts_itself() {
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command, "");
    }
}
