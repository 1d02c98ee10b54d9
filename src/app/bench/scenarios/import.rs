//! A price list into the known products: by COPY, by arrays of a thousand rows and by a statement a row, in one run on one
//! database; and the whole way from a file.

use std::{fmt::Write as _, time::Instant};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    app::bench::progress::Progress,
    config::Config,
    product::price_list::{self, Limits},
    store::{
        ImportWay, ListedRow, Portion, Store,
        embedded::{Durability, Postgres},
    },
};

/// Rows that are sent to the database together, as an upload does.
const PORTION: usize = 1000;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Rows of the list.
    #[arg(long, default_value_t = 100_000)]
    pub rows: usize,
    /// How often each way is tried; the fastest counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// How fast one way is.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub way: &'static str,
    pub seconds: f64,
    pub rows_per_second: f64,
    /// How many times as fast as a statement a row.
    pub times_single: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub rows: usize,
    pub ways: Vec<Measured>,
    /// The most memory of this process, in bytes; 0 where the system does not tell.
    pub peak_memory: u64,
}

pub async fn run(config: &Config, args: Args) -> anyhow::Result<Outcome> {
    let progress = Progress::new("import");
    let folder = std::env::temp_dir().join(format!("jobcast-import-{}", std::process::id()));
    let postgres = Postgres::start(&folder, &config.database.run_as, Durability::Durable).await?;
    let measured = async {
        // Kept open, for the store waits for its hub.
        let (store, _announcements) = Store::open(postgres.options(), &config.database).await?;
        let measured = measure(&store, args, &progress).await;
        store.close().await;
        measured
    }
    .await;
    postgres.stop().await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    measured
}

async fn measure(store: &Store, args: Args, progress: &Progress) -> anyhow::Result<Outcome> {
    let list = list(args.rows);
    let mut seconds: Vec<(&'static str, f64)> = Vec::new();
    for (name, way) in [
        ("a statement a row", ImportWay::SingleInserts),
        ("UNNEST of 1,000 rows", ImportWay::Unnest),
        ("binary COPY", ImportWay::Copy),
    ] {
        let products: Vec<ListedRow> = parsed(&list)?;
        let mut best = f64::INFINITY;
        progress.begin(name, args.rounds as u64);
        for round in 0..args.rounds.max(1) {
            store.clear_products().await?;
            let began = Instant::now();
            store.import_by(way, &products).await?;
            best = best.min(began.elapsed().as_secs_f64());
            progress.at(round as u64 + 1);
        }
        seconds.push((name, best));
    }
    let mut best = f64::INFINITY;
    progress.begin("a file, read and copied at once", args.rounds as u64);
    for round in 0..args.rounds.max(1) {
        store.clear_products().await?;
        let began = Instant::now();
        from_file(store, list.clone()).await?;
        best = best.min(began.elapsed().as_secs_f64());
        progress.at(round as u64 + 1);
    }
    seconds.push(("a .csv file, read and copied at once", best));
    let single = seconds[0].1;
    let ways = seconds
        .into_iter()
        .map(|(way, seconds)| Measured {
            way,
            seconds,
            rows_per_second: args.rows as f64 / seconds,
            times_single: single / seconds,
        })
        .collect();
    Ok(Outcome { rows: args.rows, ways, peak_memory: peak_memory() })
}

/// What a shop's list looks like.
fn list(rows: usize) -> String {
    let mut list = "Artikelnummer;Beschreibung;EAN;Preis;Kategorie;ab 10;ab 100;Lagerplatz\n".to_owned();
    for n in 0..rows {
        let price = (n % 5000) as f64 / 100.0 + 1.0;
        let _ = writeln!(
            list,
            "SD-{n:06};Spanplattenschraube Senkkopf {} x {} mm, verzinkt;;{price:.2};Schrauben;{:.2};{:.2};R-{}",
            n % 9 + 2,
            n % 97 + 10,
            price * 0.9,
            price * 0.8,
            n % 40,
        );
    }
    list
}

fn limits(rows: usize) -> Limits {
    Limits { bytes: usize::MAX, unpacked_bytes: usize::MAX, rows: rows + 1, ..Limits::default() }
}

fn parsed(list: &str) -> anyhow::Result<Vec<ListedRow>> {
    let list = price_list::parse(list.as_bytes(), "list.csv", limits(list.lines().count()))?;
    Ok(list.products.into_iter().map(ListedRow::from).collect())
}

async fn from_file(store: &Store, list: String) -> anyhow::Result<()> {
    let (portions, receiver) = mpsc::channel(4);
    let size = list.len() as i64;
    let reading = tokio::task::spawn_blocking(move || {
        let mut rows = Vec::with_capacity(PORTION);
        let limits = limits(list.lines().count());
        let summary = price_list::parse_each(list.as_bytes(), "list.csv", limits, |product, _| {
            rows.push(ListedRow::from(product));
            if rows.len() == PORTION {
                let _ = portions.blocking_send(Portion::Rows(std::mem::take(&mut rows)));
            }
        })?;
        let _ = portions.blocking_send(Portion::Rows(rows));
        let end = Portion::End { headers: summary.headers, errors: json!([]), error_count: 0 };
        let _ = portions.blocking_send(end);
        anyhow::Ok(())
    });
    store.import_portions("list.csv", size, receiver).await?.context("the file was not read to its end")?;
    reading.await?
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} rows of a price list into the known products, each way in one transaction:",
            self.rows
        )?;
        for Measured { way, seconds, rows_per_second, times_single } in &self.ways {
            writeln!(f, "  {way:<38} {seconds:>7.2} s {rows_per_second:>9.0} rows/s {times_single:>6.1} x")?;
        }
        write!(f, "  peak memory of the whole run {} MB", self.peak_memory >> 20)
    }
}
