//! How far a job is: the phase's share of the bar, filled by settled items.

use super::{Job, Phase, Plan, Stage};

/// Percent of the whole job; the caller keeps it from falling when a phase finds more items.
pub(super) fn of_job(job: &Job) -> u8 {
    let (settled, total) = of_phase(job);
    let (from, to) = (u32::from(job.plan.starts_at(job.phase)), u32::from(job.plan.ends_at(job.phase)));
    let share = ((to - from) * settled).checked_div(total).unwrap_or(0);
    // The end of a phase is announced by the next one's beginning.
    (from + share).min(to - 1) as u8
}

/// Percent of the phase at work.
pub(super) fn of_step(job: &Job) -> u8 {
    let (settled, total) = of_phase(job);
    (100 * settled).checked_div(total).unwrap_or(0).min(100) as u8
}

/// Settled and expected items of the phase at work.
pub(super) fn of_phase(job: &Job) -> (u32, u32) {
    if job.plan == Plan::Companies {
        // Those that are looked up one after the other are found in the queue one by one.
        let companies = job.tally(Stage::Company);
        return (companies.settled(), companies.total.max(job.max_products));
    }
    if job.phase == Phase::Crawling {
        // While the crawl still looks, as many products as were asked for are expected.
        let shots = job.tally(Stage::Screenshot);
        let looking = job.tally(Stage::Crawl).open() > 0;
        let total = if looking { shots.total.max(job.max_products) } else { shots.total };
        return (shots.settled(), total);
    }
    job.phase
        .stages()
        .map(|stage| job.tally(stage))
        .fold((0, 0), |(s, t), tally| (s + tally.settled(), t + tally.total))
}
