//! What a command makes of a job: its next state, and the events that tell of it.

use super::{Code, Job, Phase, Rejection, Stage, Status, progress};
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
    /// End the job without results.
    Fail { failure: Failure },
    /// A person no longer wants it.
    Cancel,
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
                if self.status == Status::Pending {
                    self.enter(self.plan.first(), &mut decision);
                }
            }
            Command::Note { what } => {
                self.note(&what);
                decision.events.push(self.updated(Some(what)).into());
            }
            Command::Add { stage, items } => self.tallies.entry(stage).or_default().total += items,
            Command::Done { stage } => {
                self.tallies.entry(stage).or_default().done += 1;
                self.advance(None, &mut decision);
            }
            Command::GiveUp { stage, why } => {
                self.tallies.entry(stage).or_default().failed += 1;
                self.note(&why);
                self.advance(Some(why), &mut decision);
            }
            Command::Run => self.turn(Status::Running, &mut decision),
            Command::Complete => {
                self.turn(Status::Completed, &mut decision);
                self.complete(&mut decision);
            }
            Command::Fail { failure } => self.fail(failure, &mut decision),
            Command::Cancel => {
                self.status = Status::Cancelled;
                // Existing frontends know no other word for it than failed.
                let event =
                    JobFailed { error: "Job cancelled by user".into(), stage: None, cancelled: Some(true) };
                decision.events.push(event.into());
            }
        }
        Ok(decision)
    }

    /// After an item was settled: tell of progress, and open the next phase when this one has no open item.
    fn advance(&mut self, why: Option<String>, decision: &mut Decision) {
        let reached = progress::of_job(self).max(self.progress);
        let crossed = reached / UPDATE_EVERY > self.progress / UPDATE_EVERY;
        self.progress = reached;
        if crossed || why.is_some() {
            let message = why.unwrap_or_else(|| self.count_message());
            decision.events.push(self.updated(Some(message)).into());
        }
        while self.phase.stages().all(|stage| self.tally(stage).open() == 0) {
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
            current_step: self.status.word().into(),
            current_step_progress: Some(progress::of_step(self)),
            total_steps: Some(TOTAL_STEPS),
            message: Some(self.count_message()),
        });
    }

    /// A status of a job without a plan, which knows no progress.
    fn turn(&mut self, status: Status, decision: &mut Decision) {
        self.status = status;
        let status = status.word().to_owned();
        decision
            .events
            .push(JobUpdated { status, progress: None, current_stage: None, message: None }.into());
    }

    /// Ends the job well.
    fn complete(&mut self, decision: &mut Decision) {
        self.status = Status::Completed;
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
        self.status = Status::Failed;
        let stage = failure.phase.map(|phase| phase.status().word().to_owned());
        decision.events.push(JobFailed { error: failure.error, stage, cancelled: None }.into());
    }

    fn enter(&mut self, phase: Phase, decision: &mut Decision) {
        self.phase = phase;
        self.status = phase.status();
        self.progress = self.progress.max(phase.starts_at());
        decision.events.push(self.updated(None).into());
    }

    fn updated(&self, message: Option<String>) -> JobUpdated {
        let word = self.status.word().to_owned();
        JobUpdated { status: word.clone(), progress: Some(self.progress), current_stage: Some(word), message }
    }

    /// "Processing OCR: 10/35".
    fn count_message(&self) -> String {
        let (settled, total) = progress::of_phase(self);
        let doing = match self.phase {
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
    use super::*;
    use crate::{
        event::JobType,
        job::{JobId, Plan},
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
                other => other.kind().wire_name().to_owned(),
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
}
