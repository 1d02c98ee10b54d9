//! Labels on print sheets as one PDF: the time for each label, and the most memory that it took, joined out of small
//! documents as the server does, and made at once for comparison. No server; nothing is written to disk.

use std::{fmt, time::Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{
    app::bench::usage,
    label::{Drawing, LabelData, LabelError, LabelRenderer, LabelTemplate},
    print::{self, Joiner, Layout, PRESETS},
    product::ProductFacts,
};

/// Labels that are drawn and joined at a time, as the server does.
const LABELS_AT_A_TIME: usize = 96;
const MEGABYTE: f64 = 1_000_000.0;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Labels of each document.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000])]
    pub labels: Vec<usize>,
    /// The template that draws them, one that comes with the program.
    #[arg(long, default_value = "standard-label")]
    pub template: String,
    /// The sheet, one that comes with the program.
    #[arg(long, default_value = "a4-3x8")]
    pub sheet: String,
    /// Leave out the documents that are made at once.
    #[arg(long)]
    pub joined_only: bool,
}

/// One document.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub labels: usize,
    /// Out of small documents, or at once.
    pub joined: bool,
    pub pages: usize,
    /// Bytes.
    pub size: u64,
    pub ms_per_label: f64,
    /// Bytes of memory at the most, beyond what the process held before.
    pub peak: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub runs: Vec<Run>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>7}  {:>5}  {:>7}  {:>9}  {:>8}  made",
            "labels", "pages", "PDF MB", "ms/label", "peak MB"
        )?;
        for run in &self.runs {
            writeln!(
                f,
                "{:>7}  {:>5}  {:>7.2}  {:>9.2}  {:>8.1}  {}",
                run.labels,
                run.pages,
                run.size as f64 / MEGABYTE,
                run.ms_per_label,
                run.peak as f64 / MEGABYTE,
                if run.joined { "joined" } else { "at once" },
            )?;
        }
        Ok(())
    }
}

/// Draws all documents, one after the other, on one thread.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let template = LabelTemplate::builtin(&args.template)
        .with_context(|| format!("there is no template {:?}", args.template))?;
    let preset = PRESETS.iter().find(|preset| preset.id == args.sheet);
    let layout = preset.with_context(|| format!("there is no sheet {:?}", args.sheet))?.layout;
    ensure!(args.labels.iter().all(|labels| *labels > 0), "--labels are 1 or more");
    let renderer = LabelRenderer::new();
    let draw = |number: usize| renderer.lay_out(template, &data(number));
    // What is made once is no label's memory.
    print::draw(&layout, 1, draw)?;
    let mut runs = Vec::new();
    for labels in &args.labels {
        runs.push(document(&layout, *labels, true, draw)?);
        if !args.joined_only {
            runs.push(document(&layout, *labels, false, draw)?);
        }
    }
    Ok(Outcome { runs })
}

fn document(
    layout: &Layout,
    labels: usize,
    joined: bool,
    draw: impl Fn(usize) -> Result<Drawing, LabelError>,
) -> anyhow::Result<Run> {
    let before = usage::begin_peak()?;
    let began = Instant::now();
    let (mut size, mut pages) = (0, layout.pages(labels));
    if joined {
        let mut joiner = Joiner::new();
        let at_a_time = (LABELS_AT_A_TIME / layout.cells()).max(1) * layout.cells();
        for first in (0..labels).step_by(at_a_time) {
            let part = print::draw(layout, at_a_time.min(labels - first), |number| draw(first + number))?;
            size += joiner.add(&part)?.len() as u64;
        }
        pages = joiner.pages();
        size += joiner.finish().len() as u64;
    } else {
        size += print::draw(layout, labels, &draw)?.len() as u64;
    }
    let ms_per_label = began.elapsed().as_secs_f64() * 1000.0 / labels as f64;
    Ok(Run { labels, joined, pages, size, ms_per_label, peak: usage::peak()?.saturating_sub(before) })
}

/// Each label has texts and codes of its own.
fn data(number: usize) -> LabelData {
    let facts = ProductFacts {
        article_number: Some(format!("A-{number:05}")),
        name: Some(format!("Spanplattenschraube {} × {} mm, verzinkt", 3 + number % 5, 20 + number % 80)),
        price: Some(number as f64 % 1000.0 + 0.99),
        description: Some(format!("Senkkopf, Torx, {} Stück im Karton", 50 + number % 7 * 50)),
        ..ProductFacts::default()
    };
    let code_url = Some(format!("https://shop.example.com/artikel/{number:05}"));
    LabelData { facts, code_url, ..LabelData::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_joined_has_the_pages_of_one_that_is_made_at_once() {
        let args = Args {
            labels: vec![100],
            template: "compact-label".into(),
            sheet: "a4-3x8".into(),
            joined_only: false,
        };
        let outcome = run(&args).unwrap();
        assert_eq!(outcome.runs.iter().map(|run| run.pages).collect::<Vec<_>>(), [5, 5]);
        assert!(outcome.runs.iter().all(|run| run.size > 10_000), "{outcome}");
    }
}
