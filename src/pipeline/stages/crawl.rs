//! Crawl: find the shop's product pages; each becomes a screenshot task as soon as it is found.
//!
//! A crawl that runs again after a crash finds the same pages in the same order; tasks have ids made of the page's
//! address, so nothing is added twice.

use std::{collections::HashSet, sync::Arc};

use scraper::Selector;
use url::Url;

use super::{Context, StageError, screenshot};
use crate::{
    job::{Command, CrawlOptions, Failure, Phase, Stage},
    pipeline::tools::{
        crawler::{Crawl, CrawlError, CrawlEvent, Reader, SkipReason},
        fetch::Fetcher,
        preset::PageRules,
    },
    product::ProductFacts,
    store::{Change, Claimed, NewTask, Settle},
};

/// Left-out pages that are told one by one; more are told as a number.
const TOLD: usize = 20;
/// Characters of an article number that name a folder.
const MAX_FOLDER: usize = 64;

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
    let (fetcher, reader) = adapted(context, &config.crawl);
    let mut crawl =
        Crawl::start(&fetcher, &shop, context.crawl_limits(&config), reader).await.map_err(|error| {
            match &error {
                CrawlError::Unreachable { reason, .. } if reason.is_retryable() => {
                    StageError::Retry { why: error.to_string() }
                }
                _ => StageError::Fatal { why: error.to_string() },
            }
        })?;
    let mut skipped = Vec::new();
    let mut folders = Folders::default();
    while let Some(event) = crawl.next().await {
        match event {
            CrawlEvent::Product(page) => {
                let id = job.derive("screenshot", page.url.as_str());
                let folder = folders.name(&page.facts, page.ordinal);
                let item = screenshot::Item { url: page.url, facts: page.facts, folder };
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

/// The tools as the job wants them.
fn adapted(context: &Context, options: &CrawlOptions) -> (Fetcher, Reader) {
    let selectors = options.custom_selectors.clone().unwrap_or_default();
    let css = |text: Option<String>| Selector::parse(&text?).ok();
    let rules = PageRules {
        product_container: css(selectors.product_container),
        product_link: css(selectors.product_link),
        product_image: css(selectors.product_image),
        price: css(selectors.price),
        article_number: css(selectors.article_number),
        product_name: css(selectors.product_name),
        description: css(selectors.description),
        next_page_button: css(selectors.next_page_button),
        pagination_links: css(selectors.pagination_links),
    };
    let opening = screenshot::rules(options);
    let fetcher = context.fetcher.adapted(options.user_agent.as_deref(), opening.timeout);
    (fetcher, Reader { rules: Arc::new(rules), browser: Some(context.browser.clone()), opening })
}

/// Names for the folders of a job's products: the article number, or `product-N`; none is given twice.
#[derive(Default)]
struct Folders(HashSet<String>);

impl Folders {
    fn name(&mut self, facts: &ProductFacts, ordinal: usize) -> String {
        let number = facts.article_number.as_deref().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        let number: String = number.trim().chars().take(MAX_FOLDER).map(plain).collect();
        let number = number.trim_matches('-');
        let name = if number.is_empty() { format!("product-{}", ordinal + 1) } else { number.to_owned() };
        let others = (2..).map(|n| format!("{name}-{n}"));
        // Ends, for the names that are taken do.
        let mut names = std::iter::once(name.clone()).chain(others);
        names.find(|name| self.0.insert(name.clone())).unwrap_or(name)
    }
}

/// Without its pages a job cannot go on.
pub fn given_up(why: String) -> (Change, String) {
    let failure =
        Failure { error: format!("The shop could not be crawled: {why}"), phase: Some(Phase::Crawling) };
    (Change { commands: vec![Command::Fail { failure }], ..Change::default() }, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_has_a_folder_of_its_own_that_a_second_crawl_gives_it_again() {
        let crawl = || {
            let mut folders = Folders::default();
            let numbers =
                [Some("SW-10/42"), None, Some("SW-10 42"), Some("ä../.."), Some("SW-10-42-2"), Some("")];
            let facts = numbers.map(|number| ProductFacts {
                article_number: number.map(str::to_owned),
                ..ProductFacts::default()
            });
            facts.iter().enumerate().map(|(at, facts)| folders.name(facts, at)).collect::<Vec<_>>()
        };
        let names = crawl();
        assert_eq!(names, ["SW-10-42", "product-2", "SW-10-42-2", "product-4", "SW-10-42-2-2", "product-6"]);
        assert_eq!(names, crawl());
    }
}
