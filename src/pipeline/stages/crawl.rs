//! Crawl: find the shop's product pages; each becomes a screenshot task as soon as it is found.
//!
//! A crawl that runs again after a crash finds the same pages in the same order; tasks have ids made of the page's
//! address, so nothing is added twice.

use url::Url;

use super::{Context, StageError, screenshot};
use crate::{
    job::{Command, Failure, Phase, Stage},
    pipeline::tools::crawler::{Crawl, CrawlError, CrawlEvent, SkipReason},
    store::{Change, Claimed, NewTask, Settle},
};

/// Left-out pages that are told one by one; more are told as a number.
const TOLD: usize = 20;

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let job = task.lease.job;
    let keep = Some((&task.lease, Settle::Keep));
    let start = Change { commands: vec![Command::Start], ..Change::default() };
    context.store.change(job, keep.clone(), start).await?;

    let record = context.store.job(job).await?;
    let config =
        record.config.ok_or_else(|| StageError::Fatal { why: "the job has no configuration".into() })?;
    let shop: Url =
        config.shop_url.parse().map_err(|e| StageError::Fatal { why: format!("the shop's address: {e}") })?;
    let limits = context.crawl_limits(config.max_products, config.follow_pagination);
    let mut crawl = Crawl::start(&context.fetcher, &shop, limits).await.map_err(|error| match &error {
        CrawlError::Unreachable { reason, .. } if reason.is_retryable() => {
            StageError::Retry { why: error.to_string() }
        }
        _ => StageError::Fatal { why: error.to_string() },
    })?;
    let mut skipped = Vec::new();
    while let Some(event) = crawl.next().await {
        match event {
            CrawlEvent::Product(page) => {
                let id = job.derive("screenshot", page.url.as_str());
                let item = screenshot::Item { url: page.url, facts: page.facts };
                let task = NewTask::new(Stage::Screenshot, page.ordinal as i32, id, &item)?;
                let found = Change { tasks: vec![task], ..Change::default() };
                context.store.change(job, keep.clone(), found).await?;
            }
            // What robots.txt forbids or lies outside is none of the user's products.
            CrawlEvent::Skipped { reason: SkipReason::Robots | SkipReason::Outside(_), .. } => {}
            CrawlEvent::Skipped { url, reason } => skipped.push(format!("{url} was left out: {reason}")),
        }
    }
    let more = skipped.len().saturating_sub(TOLD);
    skipped.truncate(TOLD);
    if more > 0 {
        skipped.push(format!("{more} more pages were left out."));
    }
    // Told with the end of the crawl, so that a crawl that runs twice tells it once.
    let commands = skipped.into_iter().map(|what| Command::Note { what }).collect();
    Ok(Change { commands, ..Change::default() })
}

/// Without its pages a job cannot go on.
pub fn given_up(why: String) -> (Change, String) {
    let failure =
        Failure { error: format!("The shop could not be crawled: {why}"), phase: Some(Phase::Crawling) };
    (Change { commands: vec![Command::Fail { failure }], ..Change::default() }, why)
}
