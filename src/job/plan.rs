//! The plan of a job: its stages, the phases that they form, and how much of the progress bar each phase fills.

use serde::{Deserialize, Serialize};

use super::Status;

/// Which phases a job walks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// The whole way from a shop to its labels.
    #[default]
    Labels,
    /// A shop's product pages as pictures, and no more.
    Crawl,
    /// Pictures that are there already are read, and no more.
    Read,
    /// Companies are looked up on their own sites, and no more.
    Companies,
}

impl Plan {
    /// Where it begins.
    pub fn first(self) -> Phase {
        match self {
            Plan::Labels | Plan::Crawl | Plan::Companies => Phase::Crawling,
            Plan::Read => Phase::ProcessingOcr,
        }
    }

    /// Where it ends.
    pub fn last(self) -> Phase {
        match self {
            Plan::Labels => Phase::Rendering,
            Plan::Crawl | Plan::Companies => Phase::Crawling,
            Plan::Read => Phase::ProcessingOcr,
        }
    }

    /// Whether the stage's items are worked on.
    pub fn has(self, stage: Stage) -> bool {
        (stage == Stage::Company) == (self == Plan::Companies)
            && (self.first()..=self.last()).contains(&stage.phase())
    }

    /// The job's progress at the beginning of a phase, in percent.
    pub fn starts_at(self, phase: Phase) -> u8 {
        if self == Plan::Companies { 0 } else { phase.starts_at() }
    }

    /// The job's progress at the end of a phase, in percent.
    pub fn ends_at(self, phase: Phase) -> u8 {
        if self == Plan::Companies { 100 } else { phase.ends_at() }
    }

    /// What follows a phase.
    pub fn after(self, phase: Phase) -> Option<Phase> {
        phase.next().filter(|next| *next <= self.last())
    }
}

/// One kind of work in the pipeline; a task is one item of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Find the shop's product pages; one item a job.
    Crawl,
    /// Photograph a product page.
    Screenshot,
    /// Read a screenshot.
    Ocr,
    /// Find the read product among the known ones.
    Match,
    /// Make the label.
    Render,
    /// Look one company up.
    Company,
}

impl Stage {
    /// In the order of the work.
    pub const ALL: [Stage; 6] =
        [Stage::Crawl, Stage::Screenshot, Stage::Ocr, Stage::Match, Stage::Render, Stage::Company];

    /// As it stands in the tasks table.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Crawl => "crawl",
            Stage::Screenshot => "screenshot",
            Stage::Ocr => "ocr",
            Stage::Match => "match",
            Stage::Render => "render",
            Stage::Company => "company",
        }
    }

    /// The stage with this word.
    pub fn from_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| stage.word() == word)
    }

    /// The phase that the stage's items belong to.
    pub fn phase(self) -> Phase {
        match self {
            Stage::Crawl | Stage::Screenshot | Stage::Company => Phase::Crawling,
            Stage::Ocr => Phase::ProcessingOcr,
            Stage::Match => Phase::Matching,
            Stage::Render => Phase::Rendering,
        }
    }
}

/// A part of the plan that ends before the next begins: the order that the frontends' stage bars show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Crawling,
    ProcessingOcr,
    Matching,
    Rendering,
}

impl Phase {
    /// In the order of the work.
    pub const ALL: [Phase; 4] = [Phase::Crawling, Phase::ProcessingOcr, Phase::Matching, Phase::Rendering];

    /// The number that tasks and jobs carry in the database.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The phase with this number.
    pub fn from_number(number: i16) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.number() == number)
    }

    /// What comes behind it.
    pub fn next(self) -> Option<Phase> {
        Phase::from_number(self.number() + 1)
    }

    /// The job's status during the phase.
    pub fn status(self) -> Status {
        match self {
            Phase::Crawling => Status::Crawling,
            Phase::ProcessingOcr => Status::ProcessingOcr,
            Phase::Matching => Status::Matching,
            Phase::Rendering => Status::Rendering,
        }
    }

    /// The job's progress at the beginning of the phase, in percent; the end is the next one's beginning.
    pub fn starts_at(self) -> u8 {
        match self {
            Phase::Crawling => 25,
            Phase::ProcessingOcr => 50,
            Phase::Matching => 75,
            Phase::Rendering => 90,
        }
    }

    /// The job's progress at the end of the phase, in percent.
    pub fn ends_at(self) -> u8 {
        self.next().map_or(100, Phase::starts_at)
    }

    /// The stages whose items must be settled before the phase ends.
    pub fn stages(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |stage| stage.phase() == self)
    }
}
