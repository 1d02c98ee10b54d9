//! `jobcast import FILE`: a spreadsheet's products, or new values of articles, into a running server.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::submit::ServerArgs;
use crate::app::client::{self, Client, Spreadsheet};

/// Time for the connection that only tells how far the server is.
const CONNECT: Duration = Duration::from_secs(3);
/// Rows that could not be imported of which people are told one by one.
const SHOWN_ERRORS: usize = 10;
/// The exit code where some rows could not be imported.
const SOME_LEFT_OUT: u8 = 2;

/// What to import.
#[derive(Args)]
pub struct ImportArgs {
    /// The spreadsheet: .xlsx, .xls or .csv.
    file: PathBuf,
    /// Change values of articles that are there already, instead of making the list's products known.
    #[arg(long, requires = "map")]
    articles: bool,
    /// With --articles, a column (its heading or its letter) and the field that it fills; may be given several times.
    #[arg(long, value_name = "COLUMN=FIELD", requires = "articles")]
    map: Vec<String>,
    /// With --articles, the column with the article numbers; found by its heading if it is not said.
    #[arg(long, value_name = "COLUMN", requires = "articles")]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Sends the file and waits until its rows are stored. The exit code is 2 if some of them could not be.
pub async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let config = if args.articles { Some(mapping(&args)?) } else { None };
    let path = &args.file;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let base = &args.server.remote();
    let bar = bar(args.server.json, bytes.len() as u64);
    let (sent, mut sending) = watch::channel(0);
    // The import does not depend on it.
    let mut live = match bar.is_hidden() {
        true => None,
        false => timeout(CONNECT, Client::connect(base)).await.ok().and_then(Result::ok),
    };
    let import = client::import(base, Spreadsheet { name: name.clone(), bytes, config }, sent);
    tokio::pin!(import);
    let answer = loop {
        tokio::select! {
            answer = &mut import => break answer,
            Ok(()) = sending.changed() => bar.set_position(*sending.borrow_and_update()),
            told = next(&mut live) => match told {
                Some(told) => show(&bar, &told, &name),
                None => live = None,
            },
        }
    };
    bar.finish_and_clear();
    let answer = answer?;
    let mut out = io::stdout().lock();
    match args.server.json {
        true => writeln!(out, "{answer}")?,
        false => tell(&mut out, &answer)?,
    }
    let left_out = answer["errorCount"].as_u64().unwrap_or_default() > 0;
    Ok(if left_out { SOME_LEFT_OUT.into() } else { ExitCode::SUCCESS })
}

/// `--map` and `--key` as `/api/articles/excel-import` takes them.
fn mapping(args: &ImportArgs) -> anyhow::Result<Value> {
    let mut mappings = Vec::with_capacity(args.map.len());
    for pair in &args.map {
        let Some((column, field)) = pair.rsplit_once('=').filter(|(column, _)| !column.trim().is_empty())
        else {
            bail!("--map is written like Preis=price: a column, and the field that it fills");
        };
        mappings.push(json!({ "excelColumn": column.trim(), "dbField": field.trim() }));
    }
    let key = match &args.key {
        Some(column) => json!({ "type": "header", "value": column }),
        None => json!({ "type": "auto" }),
    };
    Ok(json!({ "matchColumn": key, "fieldMappings": mappings }))
}

/// A bar on standard error, where it does not stand between what programs read; none where nobody looks.
fn bar(json: bool, bytes: u64) -> ProgressBar {
    let term = Term::stderr();
    let target = match json || !term.features().is_attended() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::term(term, 10),
    };
    let bar = ProgressBar::with_draw_target(Some(bytes), target).with_message("sending");
    bar.set_style(style("{msg:<10} {wide_bar} {bytes:>10} of {total_bytes}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What the server tells everybody; pending for ever without a connection.
async fn next(live: &mut Option<Client>) -> Option<Notice> {
    let Some(client) = live else { return std::future::pending().await };
    loop {
        let event = client.next_event().await.ok()?;
        if event.name == "system:notification" {
            return Some(serde_json::from_str(event.payload.get()).unwrap_or_default());
        }
    }
}

/// What a notification says of an import.
#[derive(Default, Deserialize)]
struct Notice {
    #[serde(default)]
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    file: String,
    phase: String,
    done: u64,
    total: Option<u64>,
}

/// The server reads rows when all bytes are there.
fn show(bar: &ProgressBar, Notice { details }: &Notice, file: &str) {
    if details.file != file || details.phase.is_empty() {
        return;
    }
    bar.set_style(style("{msg:<10} {wide_bar} {pos:>10} of {len} rows"));
    bar.set_message(details.phase.clone());
    bar.set_length(details.total.unwrap_or(details.done).max(1));
    bar.set_position(details.done);
}

/// The answer in sentences.
fn tell(out: &mut impl io::Write, answer: &Value) -> io::Result<()> {
    writeln!(out, "{}", answer["message"].as_str().unwrap_or("Imported"))?;
    if let Some(new) = answer["newProducts"].as_i64() {
        writeln!(out, "  new products  {new}")?;
    }
    let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let errors: Vec<Value> = [rows("errors"), rows("warnings")].concat();
    for error in errors.iter().take(SHOWN_ERRORS) {
        let column = error["column"].as_str().map(|column| format!(", {column}")).unwrap_or_default();
        let message = error["message"].as_str().unwrap_or_default();
        let shown: String = message.chars().filter(|c| !c.is_control()).collect();
        writeln!(out, "  row {}{column}: {shown}", error["row"])?;
    }
    let all = answer["errorCount"].as_u64().unwrap_or_default();
    let shown = errors.len().min(SHOWN_ERRORS) as u64;
    if all > shown {
        writeln!(out, "  … and {} more", all - shown)?;
    }
    Ok(())
}
