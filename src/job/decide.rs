//! What a command makes of a job: its next state, and the events that tell of it.

use std::collections::BTreeMap;

use super::{Code, Job, Phase, Plan, Priority, Rejection, Stage, Status, progress};
use crate::event::{Anything, Event, JobCompleted, JobCreated, JobFailed, JobProgress, JobUpdated};

/// Steps that `job:progress` counts: the four phases.
const TOTAL_STEPS: u8 = Phase::ALL.len() as u8;
/// `job:updated` tells of progress inside a phase each time this many percent of the job are reached.
const UPDATE_EVERY: u8 = 5;

/// What is asked of a job. Item commands come from workers, the others from people or from the server itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Accept the job.
    Create,
    /// The first item is worked on; a second time, after a crash, nothing happens.
    Start,
    /// Something that people should know, such as a page that had to be left out.
    Note { what: String },
    /// Items of a stage were found.
    Add { stage: Stage, items: u32 },
    /// An item is done.
    Done { stage: Stage },
    /// An item is given up; the job goes on without it where it can.
    GiveUp { stage: Stage, why: String },
    /// Begin; only for jobs without a plan.
    Run,
    /// End the job well; only for jobs without a plan (a planned job ends by its last item).
    Complete,
    /// How far a job without a plan is, as its worker says: a milestone if it names the step.
    Advance { progress: Option<u8>, step: Option<String>, message: Option<String> },
    /// Nobody is at work on a job without a plan any more; it waits for another worker.
    Requeue { why: String },
    /// End the job without results.
    Fail { failure: Failure },
    /// A person no longer wants it.
    Cancel,
    /// No further item is to begin; those that run may end, and count.
    Pause,
    /// Go on where it stood.
    Resume,
    /// Items that were given up are to be tried again, so many of each stage.
    Retry { items: BTreeMap<Stage, u32> },
    /// Another place among the jobs that wait and the items that are ready.
    Prioritise { priority: Priority },
    /// People are told something that is no item's error.
    Tell { what: String },
}

/// Why a job ends without results.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// A sentence.
    pub error: String,
    /// Where, if in a phase.
    pub phase: Option<Phase>,
}

/// What [`Job::decide`] found: events in the order in which they are to be told.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub events: Vec<Event>,
    /// Goes out live, unjournaled.
    pub progress: Option<JobProgress>,
    /// The job is to end well; the store gathers results and duration and appends `job:completed` last.
    pub completes: bool,
}

impl Job {
    /// Applies a command. The job changes only if it is accepted.
    ///
    /// # Errors
    /// [`Code::JobEnded`] for every command to a job that has ended: a terminal event is the last one.
    /// [`Code::JobPaused`], [`Code::JobNotPaused`] and [`Code::NothingToRetry`] where there is nothing to do.
    pub fn decide(&mut self, command: Command) -> Result<Decision, Rejection> {
        if self.status.is_ended() {
            return Err(Rejection::new(
                Code::JobEnded,
                format!("Job {} has already ended ({}); start a new one.", self.id, self.status.word()),
            ));
        }
        let mut decision = Decision::default();
        match command {
            Command::Create => {
                let created = JobCreated { job_type: self.job_type, name: self.name.clone() };
                decision.events.push(created.into());
            }
            Command::Start => {
                // A pause that came first is not undone by an item that was claimed before it.
                if self.status == Status::Pending {
                    self.enter(self.phase, &mut decision);
                }
            }
            Command::Note { what } => {
                self.note(&what);
                decision.events.push(self.updated(Some(what)).into());
            }
            Command::Add { stage, items } => self.tallies.entry(stage).or_default().total += items,
            Command::Done { stage } => {
                self.tallies.entry(stage).or_default().done += 1;
                self.begin(&mut decision);
                self.advance(None, &mut decision);
            }
            Command::GiveUp { stage, why } => {
                self.tallies.entry(stage).or_default().failed += 1;
                self.note(&why);
                self.begin(&mut decision);
                self.advance(Some(why), &mut decision);
            }
            Command::Run => self.turn(Status::Running, &mut decision),
            Command::Complete => {
                self.turn(Status::Completed, &mut decision);
                self.complete(&mut decision);
            }
            Command::Advance { progress, step, message } => {
                self.progress = self.progress.max(progress.unwrap_or(0).min(100));
                if step.is_some() {
                    self.step = step;
                    decision.events.push(self.updated(message).into());
                } else {
                    decision.progress = Some(JobProgress {
                        progress: self.progress,
                        current_step: self.at_work_on(),
                        current_step_progress: None,
                        total_steps: None,
                        message,
                    });
                }
            }
            Command::Requeue { why } => {
                self.go_on_as(Status::Pending);
                decision.events.push(self.updated(Some(why)).into());
            }
            Command::Fail { failure } => self.fail(failure, &mut decision),
            Command::Cancel => {
                self.end(Status::Cancelled);
                // Existing frontends know no other word for it than failed.
                let event =
                    JobFailed { error: "Job cancelled by user".into(), stage: None, cancelled: Some(true) };
                decision.events.push(event.into());
            }
            Command::Pause => {
                if self.status == Status::Paused {
                    let message = format!("Job {} is paused already; resume it to go on.", self.id);
                    return Err(Rejection::new(Code::JobPaused, message));
                }
                self.paused_from = Some(self.status);
                self.status = Status::Paused;
                decision.events.push(self.updated(Some("Paused by a user".into())).into());
            }
            Command::Resume => {
                let Some(from) = self.paused_from.take() else {
                    let message = format!("Job {} is not paused; it is {}.", self.id, self.status.word());
                    return Err(Rejection::new(Code::JobNotPaused, message));
                };
                self.status = from;
                decision.events.push(self.updated(Some("Resumed by a user".into())).into());
            }
            Command::Retry { items } => {
                let again: u32 = items.values().sum();
                if again == 0 || items.iter().any(|(stage, items)| self.tally(*stage).failed < *items) {
                    return Err(Rejection::nothing_to_retry(self.id));
                }
                for (stage, items) in items {
                    self.tallies.entry(stage).or_default().failed -= items;
                }
                let message = match again {
                    1 => "1 failed item is tried again".to_owned(),
                    more => format!("{more} failed items are tried again"),
                };
                decision.events.push(self.updated(Some(message)).into());
            }
            Command::Prioritise { priority } => {
                if self.priority != priority {
                    self.priority = priority;
                    let message = format!("The priority is {} now", priority.number());
                    decision.events.push(self.updated(Some(message)).into());
                }
            }
            Command::Tell { what } => decision.events.push(self.updated(Some(what)).into()),
        }
        Ok(decision)
    }

    /// An item was settled, so the job has begun, whoever forgot to say so.
    fn begin(&mut self, decision: &mut Decision) {
        if !self.has_begun() {
            self.enter(self.phase, decision);
        }
    }

    /// After an item was settled: tell of progress, and open the next phase when neither this one nor an earlier one
    /// (whose failed items may be tried again) has an open item.
    fn advance(&mut self, why: Option<String>, decision: &mut Decision) {
        let reached = progress::of_job(self).max(self.progress);
        let crossed = reached / UPDATE_EVERY > self.progress / UPDATE_EVERY;
        self.progress = reached;
        if crossed || why.is_some() {
            let message = why.unwrap_or_else(|| self.count_message());
            decision.events.push(self.updated(Some(message)).into());
        }
        while Stage::ALL.iter().all(|stage| stage.phase() > self.phase || self.tally(*stage).open() == 0) {
            if let Some(failure) = self.dead_end() {
                return self.fail(failure, decision);
            }
            match self.plan.after(self.phase) {
                Some(next) => self.enter(next, decision),
                None => return self.complete(decision),
            }
        }
        decision.progress = Some(JobProgress {
            progress: self.progress,
            current_step: self.stands().word().into(),
            current_step_progress: Some(progress::of_step(self)),
            total_steps: Some(TOTAL_STEPS),
            message: Some(self.count_message()),
        });
    }

    /// A status of a job without a plan, which knows no progress.
    fn turn(&mut self, status: Status, decision: &mut Decision) {
        match status.is_ended() {
            true => self.end(status),
            false => self.go_on_as(status),
        }
        let status = self.status.word().to_owned();
        decision
            .events
            .push(JobUpdated { status, progress: None, current_stage: None, message: None }.into());
    }

    /// Ends the job well.
    fn complete(&mut self, decision: &mut Decision) {
        self.end(Status::Completed);
        self.progress = 100;
        decision.completes = true;
    }

    fn note(&mut self, what: &str) {
        if self.errors.len() < Job::MAX_ERRORS {
            self.errors.push(what.to_owned());
        }
    }

    /// Why a job whose phase has ended cannot go on: "completed, 0 results" helps nobody.
    fn dead_end(&self) -> Option<Failure> {
        let reason = |text: String| Some(Failure { error: text, phase: Some(self.phase) });
        let last = self.errors.last().map(|e| format!(" The last reason: {e}")).unwrap_or_default();
        match self.phase {
            // That none of them could be looked up is an answer as well.
            _ if self.plan == Plan::Companies => None,
            Phase::Crawling if self.tally(Stage::Screenshot).total == 0 => reason(format!(
                "No product pages were found; check the shop's address and maxProducts.{last}"
            )),
            Phase::Crawling if self.tally(Stage::Screenshot).done == 0 => {
                reason(format!("None of the product pages could be captured.{last}"))
            }
            Phase::ProcessingOcr if self.tally(Stage::Ocr).done == 0 => {
                reason(format!("None of the screenshots could be read.{last}"))
            }
            _ => None,
        }
    }

    fn fail(&mut self, failure: Failure, decision: &mut Decision) {
        self.end(Status::Failed);
        let stage = failure.phase.map(|phase| phase.status().word().to_owned());
        decision.events.push(JobFailed { error: failure.error, stage, cancelled: None }.into());
    }

    fn end(&mut self, status: Status) {
        self.status = status;
        self.paused_from = None;
    }

    /// The next status of the work; a pause lasts through it, for items that ran on may end a phase.
    fn go_on_as(&mut self, status: Status) {
        match &mut self.paused_from {
            Some(from) => *from = status,
            None => self.status = status,
        }
    }

    fn enter(&mut self, phase: Phase, decision: &mut Decision) {
        self.phase = phase;
        self.go_on_as(phase.status());
        self.progress = self.progress.max(self.plan.starts_at(phase));
        decision.events.push(self.updated(None).into());
    }

    fn updated(&self, message: Option<String>) -> JobUpdated {
        let (status, stage) = (self.status.word().to_owned(), self.at_work_on());
        JobUpdated { status, progress: Some(self.progress), current_stage: Some(stage), message }
    }

    /// The stage at work, in its worker's words or else those of the status.
    fn at_work_on(&self) -> String {
        self.step.clone().unwrap_or_else(|| self.stands().word().to_owned())
    }

    /// "Processing OCR: 10/35".
    fn count_message(&self) -> String {
        let (settled, total) = progress::of_phase(self);
        let doing = match self.phase {
            Phase::Crawling if self.plan == Plan::Companies => "Looking up companies",
            Phase::Crawling => "Capturing product pages",
            Phase::ProcessingOcr => "Processing OCR",
            Phase::Matching => "Matching products",
            Phase::Rendering => "Rendering labels",
        };
        format!("{doing}: {settled}/{total}")
    }
}

/// The terminal event of a job that ended well.
pub fn completed(results: serde_json::Value, duration_ms: u64) -> Event {
    JobCompleted { results: Anything(results), duration: duration_ms }.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::JobType,
        job::{JobId, Plan, Tally},
    };

    fn job() -> Job {
        planned(Plan::Labels)
    }

    fn planned(plan: Plan) -> Job {
        Job::new(JobId(uuid::Uuid::nil()), JobType::Automation, "test".into(), plan, 2)
    }

    fn run(job: &mut Job, commands: impl IntoIterator<Item = Command>) -> (Vec<String>, bool) {
        let (mut told, mut completes) = (Vec::new(), false);
        for command in commands {
            let decision = job.decide(command).unwrap();
            completes |= decision.completes;
            told.extend(decision.events.iter().map(|event| match event {
                Event::JobUpdated(e) => format!("{} {}", e.status, e.progress.unwrap_or_default()),
                Event::JobFailed(e) => format!("failed {}", e.stage.as_deref().unwrap_or("-")),
                other => other.name().into_owned(),
            }));
        }
        (told, completes)
    }

    fn item(stage: Stage) -> [Command; 2] {
        [Command::Add { stage, items: 1 }, Command::Done { stage }]
    }

    #[test]
    fn a_job_walks_its_phases_in_order_and_ends_with_its_last_label() {
        let mut job = job();
        let mut commands =
            vec![Command::Create, Command::Add { stage: Stage::Crawl, items: 1 }, Command::Start];
        commands.push(Command::Add { stage: Stage::Screenshot, items: 2 });
        commands.push(Command::Done { stage: Stage::Screenshot });
        commands.push(Command::Done { stage: Stage::Crawl });
        commands.push(Command::Add { stage: Stage::Ocr, items: 1 });
        commands.push(Command::Done { stage: Stage::Screenshot });
        commands.push(Command::Add { stage: Stage::Match, items: 1 });
        commands.push(Command::Done { stage: Stage::Ocr });
        commands.push(Command::Add { stage: Stage::Render, items: 1 });
        commands.push(Command::Done { stage: Stage::Match });
        commands.push(Command::Done { stage: Stage::Render });
        let (told, completes) = run(&mut job, commands);
        let phases: Vec<&str> =
            told.iter().map(String::as_str).filter(|t| !t.ends_with('7') && !t.ends_with("49")).collect();
        for (earlier, later) in [
            ("job:created", "crawling 25"),
            ("crawling 25", "processing-ocr 50"),
            ("processing-ocr 50", "matching 75"),
            ("matching 75", "rendering 90"),
        ] {
            let place = |what| {
                phases.iter().position(|t| *t == what).unwrap_or_else(|| panic!("{what} in {phases:?}"))
            };
            assert!(place(earlier) < place(later), "{phases:?}");
        }
        assert!(completes);
        assert_eq!((job.status, job.progress), (Status::Completed, 100));
    }

    #[test]
    fn a_job_ends_with_the_last_phase_of_its_plan() {
        for (plan, stage, begins) in
            [(Plan::Crawl, Stage::Screenshot, "crawling 25"), (Plan::Read, Stage::Ocr, "processing-ocr 50")]
        {
            let mut job = planned(plan);
            let mut commands = vec![Command::Create, Command::Add { stage, items: 1 }, Command::Start];
            commands.push(Command::Done { stage });
            let (told, completes) = run(&mut job, commands);
            assert_eq!(told[1], begins);
            assert!(completes, "{plan:?}");
            assert_eq!((job.status, job.progress), (Status::Completed, 100));
        }
    }

    #[test]
    fn progress_never_falls_when_more_items_are_found() {
        let mut job = job();
        let mut last = 0;
        let mut commands = vec![Command::Add { stage: Stage::Crawl, items: 1 }, Command::Start];
        for _ in 0..20 {
            commands.extend(item(Stage::Screenshot));
            commands.push(Command::Add { stage: Stage::Screenshot, items: 3 });
        }
        for command in commands {
            job.decide(command).unwrap();
            assert!(job.progress >= last);
            last = job.progress;
        }
        assert!(job.progress < 50, "the phase is not over");
    }

    #[test]
    fn a_shop_without_products_fails_the_job_in_its_phase() {
        let mut job = job();
        let commands = [
            Command::Add { stage: Stage::Crawl, items: 1 },
            Command::Start,
            Command::Done { stage: Stage::Crawl },
        ];
        let (told, completes) = run(&mut job, commands);
        assert_eq!(told.last().unwrap(), "failed crawling");
        assert!(!completes);
        assert_eq!(job.status, Status::Failed);
    }

    #[test]
    fn an_ended_job_takes_no_command() {
        let mut job = job();
        job.decide(Command::Cancel).unwrap();
        let before = job.clone();
        for command in
            [Command::Cancel, Command::Start, Command::Done { stage: Stage::Ocr }, Command::Complete]
        {
            assert_eq!(job.decide(command).unwrap_err().code, Code::JobEnded);
        }
        assert_eq!(job, before);
    }

    #[test]
    fn an_item_that_is_given_up_is_told_and_the_job_goes_on() {
        let mut job = job();
        let mut commands = vec![Command::Add { stage: Stage::Crawl, items: 1 }, Command::Start];
        commands.extend(item(Stage::Screenshot));
        commands.push(Command::Add { stage: Stage::Screenshot, items: 1 });
        commands.push(Command::GiveUp { stage: Stage::Screenshot, why: "page 2 answers 500".into() });
        commands.push(Command::Add { stage: Stage::Ocr, items: 1 });
        commands.push(Command::Done { stage: Stage::Crawl });
        run(&mut job, commands);
        assert_eq!(job.errors, ["page 2 answers 500"]);
        assert_eq!(job.status, Status::ProcessingOcr);
    }

    #[test]
    fn a_paused_job_goes_on_where_it_stood() {
        let mut job = job();
        run(&mut job, [Command::Add { stage: Stage::Crawl, items: 1 }]);
        let (told, _) = run(&mut job, [Command::Pause]);
        assert_eq!(told, ["paused 0"]);
        assert_eq!(job.decide(Command::Pause).unwrap_err().code, Code::JobPaused);
        assert_eq!(run(&mut job, [Command::Start]).0, [""; 0], "the pause came first");
        assert_eq!(run(&mut job, [Command::Resume]).0, ["pending 0"]);
        assert_eq!(job.decide(Command::Resume).unwrap_err().code, Code::JobNotPaused);

        let commands = [Command::Start, Command::Add { stage: Stage::Screenshot, items: 1 }];
        run(&mut job, commands);
        run(&mut job, [Command::Pause, Command::Add { stage: Stage::Ocr, items: 1 }]);
        // What ran on may end the phase; the job stays paused.
        let (told, _) = run(
            &mut job,
            [Command::Done { stage: Stage::Screenshot }, Command::Done { stage: Stage::Crawl }],
        );
        assert_eq!(told.last().unwrap(), "paused 50");
        assert_eq!((job.status, job.stands()), (Status::Paused, Status::ProcessingOcr));
        assert_eq!(run(&mut job, [Command::Resume]).0, ["processing-ocr 50"]);
        run(&mut job, [Command::Pause]);
        assert_eq!(run(&mut job, [Command::Cancel]).0, ["failed -"]);
        assert_eq!((job.status, job.paused_from), (Status::Cancelled, None));
    }

    #[test]
    fn a_worker_that_names_its_step_makes_a_milestone_and_progress_never_falls() {
        let mut job = job();
        let advance = |progress, step: Option<&str>| Command::Advance {
            progress: Some(progress),
            step: step.map(str::to_owned),
            message: None,
        };
        run(&mut job, [Command::Create, Command::Run]);
        assert_eq!(run(&mut job, [advance(40, Some("reading"))]).0, ["running 40"]);
        let told = job.decide(advance(30, None)).unwrap();
        assert!(told.events.is_empty());
        let told = told.progress.unwrap();
        assert_eq!((told.progress, told.current_step.as_str()), (40, "reading"));
        let requeue = || Command::Requeue { why: "the worker is gone".into() };
        assert_eq!(run(&mut job, [requeue(), Command::Run]).0, ["pending 40", "running 0"]);
        // Who is paused waits behind its pause.
        run(&mut job, [Command::Pause, requeue()]);
        assert_eq!((job.status, job.paused_from), (Status::Paused, Some(Status::Pending)));
    }

    #[test]
    fn failed_items_of_an_earlier_phase_are_waited_for_when_they_are_tried_again() {
        let mut job = job();
        let mut commands = vec![Command::Add { stage: Stage::Crawl, items: 1 }, Command::Start];
        commands.extend(item(Stage::Screenshot));
        commands.push(Command::Add { stage: Stage::Screenshot, items: 1 });
        commands.push(Command::Add { stage: Stage::Ocr, items: 1 });
        commands.push(Command::GiveUp { stage: Stage::Screenshot, why: "page 2 answers 500".into() });
        commands.push(Command::Done { stage: Stage::Crawl });
        run(&mut job, commands);
        let retry = |items| Command::Retry { items: BTreeMap::from([(Stage::Screenshot, items)]) };
        assert_eq!(job.decide(retry(0)).unwrap_err().code, Code::NothingToRetry);
        assert_eq!(job.decide(retry(2)).unwrap_err().code, Code::NothingToRetry);
        run(&mut job, [retry(1)]);
        assert_eq!(job.decide(retry(1)).unwrap_err().code, Code::NothingToRetry, "it is being tried again");
        run(&mut job, [Command::Add { stage: Stage::Match, items: 1 }, Command::Done { stage: Stage::Ocr }]);
        assert_eq!(job.status, Status::ProcessingOcr, "a page is being captured");
        run(
            &mut job,
            [Command::Add { stage: Stage::Ocr, items: 1 }, Command::Done { stage: Stage::Screenshot }],
        );
        assert_eq!(job.status, Status::ProcessingOcr, "its reading is next");
        run(&mut job, [Command::GiveUp { stage: Stage::Ocr, why: "it is blank".into() }]);
        assert_eq!(job.status, Status::Matching);
    }

    /// What may happen to a job, in any order that the store can bring about.
    fn any_command(job: &Job, (choice, items): (u8, u32)) -> Command {
        let stage = |wanted: fn(&Tally) -> bool| {
            let fit: Vec<Stage> = Stage::ALL
                .into_iter()
                .filter(|stage| job.plan.has(*stage) && wanted(&job.tally(*stage)))
                .collect();
            fit.get(items as usize % fit.len().max(1)).copied()
        };
        let open = stage(|tally| tally.open() > 0);
        let failed = stage(|tally| tally.failed > 0);
        match (choice, open, failed) {
            (0, ..) => Command::Pause,
            (1 | 2, ..) => Command::Resume,
            (3, ..) if items == 1 => Command::Cancel,
            (4, ..) => Command::Prioritise { priority: Priority::new(i64::from(items)).unwrap() },
            (5, ..) => Command::Start,
            (6 | 7, _, Some(stage)) => {
                Command::Retry { items: BTreeMap::from([(stage, items.min(job.tally(stage).failed))]) }
            }
            (8 | 9, Some(stage), _) => Command::GiveUp { stage, why: "it was late".into() },
            (10.., Some(stage), _) => Command::Done { stage },
            _ => Command::Note { what: "something".into() },
        }
    }

    proptest! {
        #[test]
        fn whatever_people_and_workers_do_progress_never_falls_and_nothing_follows_the_end(
            plan in prop_oneof![Just(Plan::Labels), Just(Plan::Crawl), Just(Plan::Read)],
            choices in proptest::collection::vec((0..16u8, 0..5u32), 0..300),
        ) {
            let mut job = planned(plan);
            let first = if plan == Plan::Read { Stage::Ocr } else { Stage::Crawl };
            run(&mut job, [Command::Create, Command::Add { stage: first, items: 1 }]);
            let mut ended = false;
            for choice in choices {
                let before = job.clone();
                let mut commands = vec![any_command(&job, choice)];
                // What an item brings about comes in the same change, before it.
                if let Command::Done { stage } = commands[0] {
                    let follower = match stage {
                        Stage::Crawl => Some(Stage::Screenshot),
                        Stage::Screenshot => Some(Stage::Ocr),
                        Stage::Ocr => Some(Stage::Match),
                        Stage::Match => Some(Stage::Render),
                        Stage::Render | Stage::Company => None,
                    };
                    if let Some(stage) = follower.filter(|stage| plan.has(*stage)) {
                        commands.insert(0, Command::Add { stage, items: choice.1.max(1) });
                    }
                }
                for command in commands {
                    let paused = job.status == Status::Paused;
                    match job.decide(command.clone()) {
                        Ok(decision) => {
                            prop_assert!(!ended, "{command:?} after the end");
                            if paused && !matches!(command, Command::Resume) && !job.status.is_ended() {
                                prop_assert_eq!(job.status, Status::Paused, "only resume ends a pause");
                            }
                            for event in &decision.events {
                                if let Event::JobUpdated(told) = event {
                                    prop_assert!(told.progress.unwrap_or_default() >= before.progress);
                                }
                            }
                        }
                        Err(_) => {
                            let may_be_refused =
                                matches!(command, Command::Pause | Command::Resume | Command::Retry { .. });
                            prop_assert!(ended || may_be_refused);
                        }
                    }
                }
                prop_assert!(job.progress >= before.progress);
                prop_assert_eq!(job.paused_from.is_some(), job.status == Status::Paused);
                for stage in Stage::ALL {
                    let tally = job.tally(stage);
                    prop_assert!(tally.done.checked_add(tally.failed).is_some_and(|settled| settled <= tally.total));
                }
                if job.status.is_ended() && !ended {
                    ended = true;
                    if job.status == Status::Completed {
                        prop_assert!(Stage::ALL.iter().all(|stage| job.tally(*stage).open() == 0));
                    }
                }
            }
        }
    }
}
