//! Company: what one company's own site says of it.
//!
//! The companies of a job are looked at several at once; or one after the other if the job says so: then the end of each,
//! good or bad, puts the next into the queue, so that a pause, a crash or an end are as with every other stage.

use super::{Context, StageError, json, payload};
use crate::{
    event::{Anything, CompanyFailed, CompanyFound, CompanyProgress, CompanyStarted, Event},
    pipeline::tools::company::visit::{MAX_PAGES, visit},
    store::{Change, Claimed, CompanyItem, CompanyRow, NewTask, Row},
};

pub async fn run(context: &Context, task: &Claimed) -> Result<Change, StageError> {
    let item: CompanyItem = payload(task)?;
    let job = task.lease.job;
    let desk = context.desks.take();
    let (worker, domain) = (desk.number(), item.domain.clone());
    let started = CompanyStarted { domain: domain.clone(), worker };
    context.store.announce_start(&task.lease, vec![started.into()]).await?;
    let tell = |pages: usize, page: &url::Url| {
        let progress = (100 * pages / (MAX_PAGES + 1)).min(99) as u8;
        let (domain, page) = (domain.clone(), page.to_string());
        context.store.tell(job, CompanyProgress { domain, worker, progress, page }.into());
    };
    // The fetcher has tried again where that may help; a whole list must not wait for its dead domains any longer.
    let found = visit(&context.fetcher, &domain, tell)
        .await
        .map_err(|error| StageError::Fatal { why: error.to_string() })?;
    let profile = json(&found.profile)?;
    let row = CompanyRow {
        id: task.lease.task,
        ordinal: task.ordinal,
        domain: domain.clone(),
        approved: (!item.ask).then_some(true),
        profile: Ok(profile.clone()),
    };
    let event = CompanyFound {
        company_id: task.lease.task,
        domain,
        pages: found.pages.len() as u32,
        profile: Anything(profile),
        worker: Some(worker),
    };
    Ok(Change {
        rows: vec![Row::Company(row)],
        tasks: next(task, item)?,
        events: vec![event.into()],
        ..Change::default()
    })
}

/// The next of those that are looked at one after the other.
fn next(task: &Claimed, mut item: CompanyItem) -> Result<Vec<NewTask>, StageError> {
    let Some(domain) = item.then.pop() else { return Ok(Vec::new()) };
    let item = CompanyItem { domain, ..item };
    Ok(vec![NewTask::company(task.lease.job, task.ordinal + 1, &item)?])
}

pub fn given_up(task: &Claimed, why: String) -> (Change, String) {
    let Ok(item) = payload::<CompanyItem>(task) else { return (Change::default(), why) };
    let row = CompanyRow {
        id: task.lease.task,
        ordinal: task.ordinal,
        domain: item.domain.clone(),
        approved: None,
        profile: Err(why.clone()),
    };
    let failed = CompanyFailed { domain: item.domain.clone(), reason: why.clone() };
    let sentence = format!("{}: {why}", item.domain);
    let events: Vec<Event> = vec![failed.into()];
    let tasks = next(task, item).unwrap_or_default();
    (Change { rows: vec![Row::Company(row)], tasks, events, ..Change::default() }, sentence)
}
