//! `jobcast verify`: audits the journal and the objects that it speaks of, also beside a running server.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::{
    app::server,
    config::Config,
    job::JobId,
    store::{
        self, Blobs,
        embedded::Postgres,
        verify::{Finding, Scope, Told, Totals, verify},
    },
};

/// What to audit.
#[derive(Args)]
pub struct VerifyArgs {
    /// Only this job.
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Ask objects for their size alone; their contents are not read.
    #[arg(long)]
    sizes_only: bool,
    /// One JSON object a line, for scripts; the last one is the summary.
    #[arg(long)]
    json: bool,
}

/// Audits, tells each finding when it is made, and sums up. The exit code tells whether there is a fault.
pub async fn run(config: Config, args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data_dir = server::data_dir(&config.server.data_dir)?;
    let (options, postgres) = database(&config, &data_dir).await?;
    let pool = store::connect(options, &config.database).await?;
    // Objects are asked for by key; their addresses do not matter.
    let blobs = Blobs::open(&config.objects, &data_dir, &Url::parse("http://localhost/")?)?;

    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos} of {len} events and objects, {eta} to go")?);
    let mut counts: BTreeMap<Finding, u64> = BTreeMap::new();
    let scope = Scope { job: args.job, hashes: !args.sizes_only };
    let audited = verify(&pool, &blobs, scope, |told| match told {
        Told::Expect(all) => bar.set_length(all),
        Told::Seen(more) => bar.inc(more),
        Told::Found { finding, job, what } => {
            *counts.entry(finding).or_default() += 1;
            let line = if args.json { as_json(finding, job, &what) } else { in_words(finding, job, &what) };
            bar.suspend(|| say(&line));
        }
    })
    .await;
    bar.finish_and_clear();
    pool.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await;
    }
    let totals = audited?;
    let (faults, notes): (Vec<_>, Vec<_>) = counts.iter().partition(|(finding, _)| finding.is_fault());
    let (faults, notes) = (sum(&faults), sum(&notes));
    if args.json {
        let Totals { jobs, events, objects } = totals;
        let summary =
            json!({ "jobs": jobs, "events": events, "objects": objects, "faults": faults, "notes": notes });
        say(&summary.to_string());
    } else {
        sum_up(totals, &counts, faults);
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The database as the server finds it, but nothing is made that is not there, and a running server's is shared.
async fn database(config: &Config, data_dir: &Path) -> anyhow::Result<(PgConnectOptions, Option<Postgres>)> {
    if config.database.url.is_empty() && !Postgres::is_made(data_dir) {
        bail!(
            "there is no database in {}; name its folder with --data-dir or a Postgres with --database-url",
            data_dir.display()
        );
    }
    server::database_at_hand(config, data_dir).await
}

fn in_words(finding: Finding, job: Option<JobId>, what: &str) -> String {
    let weight = if finding.is_fault() { "fault" } else { "note" };
    let job = job.map(|job| format!("job {job}: ")).unwrap_or_default();
    format!("{weight} {}: {job}{what}", finding.word())
}

fn as_json(finding: Finding, job: Option<JobId>, what: &str) -> String {
    let means = finding.meaning();
    json!({ "finding": finding.word(), "fault": finding.is_fault(), "job": job, "what": what, "means": means })
        .to_string()
}

fn sum_up(totals: Totals, counts: &BTreeMap<Finding, u64>, faults: u64) {
    for (finding, count) in counts {
        say(&format!("{count} × {}: {}.", finding.word(), finding.meaning()));
    }
    let Totals { jobs, events, objects } = totals;
    let verdict = match faults {
        0 => "all is there and in order".to_owned(),
        1 => "1 fault".to_owned(),
        more => format!("{more} faults"),
    };
    say(&format!("jobs {jobs} · events {events} · objects {objects} · {verdict}"));
}

fn sum(counts: &[(&Finding, &u64)]) -> u64 {
    counts.iter().map(|(_, count)| **count).sum()
}

/// Whoever stopped reading (`| head`) still gets the exit code.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
