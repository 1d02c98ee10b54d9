//! Labels (without a server): how long one takes as PNG and in a PDF, on one thread and on more, and the memory for it.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use serde::Serialize;
use serde_json::json;

use crate::label::{LabelData, LabelError, LabelRenderer, LabelTemplate, pdf};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Labels of each part.
    #[arg(long, default_value_t = 1000)]
    pub labels: usize,
    /// Threads of the parallel parts.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// A template that comes with the program.
    #[arg(long, default_value = "standard-label")]
    pub template: String,
}

/// One part.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    pub what: String,
    pub threads: usize,
    pub ms_per_label: f64,
    pub labels_per_second: f64,
    /// Of everything that was made.
    pub bytes: usize,
    /// The most memory that the process had until the part's end, in bytes.
    pub peak_memory: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub labels: usize,
    pub template: String,
    pub parts: Vec<Part>,
}

/// Draws labels of made-up products; blocks its thread.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    ensure!(args.labels > 0 && (1..=64).contains(&args.threads), "--labels and --threads are at least 1");
    let template = LabelTemplate::builtin(&args.template)
        .ok_or_else(|| anyhow!("no template {} comes with the program", args.template))?;
    let products = (0..args.labels).map(product).collect::<Result<Vec<_>, _>>()?;
    let renderer = LabelRenderer::shared();
    // The fonts are read once a process, which is no label's time.
    renderer.render(template, &products[0])?;
    let mut parts = Vec::new();
    let mut part = |what: &str, threads: usize, work: &dyn Fn() -> Result<usize, LabelError>| {
        let began = Instant::now();
        let bytes = work()?;
        let taken = began.elapsed().max(Duration::from_nanos(1)).as_secs_f64();
        parts.push(Part {
            what: what.into(),
            threads,
            ms_per_label: taken * 1e3 / args.labels as f64,
            labels_per_second: args.labels as f64 / taken,
            bytes,
            peak_memory: peak_memory()?,
        });
        anyhow::Ok(())
    };
    let png = |data: &LabelData| Ok(renderer.lay_out(template, data)?.png(template.dpi())?.len());
    let single = |data: &LabelData| Ok(renderer.lay_out(template, data)?.pdf()?.len());
    for threads in [1, args.threads] {
        part("PNG", threads, &|| spread(&products, threads, png))?;
        part("PDF of its own", threads, &|| spread(&products, threads, single))?;
    }
    part("page of one PDF", 1, &|| {
        let mut failed = None;
        let drawings = products
            .iter()
            .map_while(|data| renderer.lay_out(template, data).map_err(|error| failed = Some(error)).ok());
        let document = pdf(drawings)?;
        failed.map_or(Ok(document.len()), Err)
    })?;
    Ok(Outcome { labels: args.labels, template: template.name().into(), parts })
}

/// All labels on so many threads; the bytes that they made.
fn spread(
    products: &[LabelData],
    threads: usize,
    draw: impl Fn(&LabelData) -> Result<usize, LabelError> + Sync,
) -> Result<usize, LabelError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut bytes = 0;
        while let Some(data) = products.get(next.fetch_add(1, Ordering::Relaxed)) {
            bytes += draw(data)?;
        }
        Ok(bytes)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(LabelError::Draw("a thread failed".into()))));
        ended.sum()
    })
}

/// A product that differs from all others, with tiers now and then.
fn product(number: usize) -> Result<LabelData, LabelError> {
    let digits = format!("20{number:010}");
    let weighted = digits.bytes().enumerate().map(|(at, b)| usize::from(b - b'0') * [1, 3][at % 2]);
    let check = (10 - weighted.sum::<usize>() % 10) % 10;
    let price = 1.0 + (number % 997) as f64 * 1.37;
    let mut value = json!({
        "articleNumber": format!("SD-{:05}", 10_000 + number),
        "productName": format!("Spanplattenschraube Senkkopf 4 × {} mm, verzinkt", 20 + number % 80),
        "description": "Teilgewinde, Torx T20, 200 Stück je Packung. Für Möbel und Innenausbau.",
        "price": price,
        "ean": format!("{digits}{check}"),
        "productUrl": format!("https://shop.example/schrauben/{number}"),
    });
    if number.is_multiple_of(3) {
        value["tieredPrices"] = json!([
            { "quantity": 1, "price": price },
            { "quantity": 10, "price": price * 0.9 },
            { "quantity": 100, "price": price * 0.8 },
        ]);
    }
    LabelData::from_json(&value)
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.ok_or_else(|| anyhow!("/proc/self/status names no VmHWM"))? * 1024)
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} labels with the template {}", self.labels, self.template)?;
        for part in &self.parts {
            let threads =
                if part.threads == 1 { "1 thread".into() } else { format!("{} threads", part.threads) };
            write!(
                f,
                "\n  {:<16} {threads:<10} {:>7.2} ms a label, {:>6.0} labels/s, {:>5.1} MB made, peak memory {:.0} MB",
                part.what,
                part.ms_per_label,
                part.labels_per_second,
                part.bytes as f64 / 1e6,
                part.peak_memory as f64 / 1e6
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_measured() {
        let args = Args { labels: 4, threads: 2, template: "compact-label".into() };
        let outcome = run(&args).unwrap();
        let bytes: Vec<usize> = outcome.parts.iter().map(|part| part.bytes).collect();
        assert_eq!(outcome.parts.len(), 5);
        assert!(bytes[0] == bytes[2] && bytes[1] == bytes[3] && bytes[4] < bytes[1], "{bytes:?}");
        assert!(outcome.parts.iter().all(|part| part.ms_per_label > 0.0 && part.peak_memory > 1_000_000));
    }
}
