//! A job as its events tell it: what a client that saw them all knows.

use super::{Status, merge_patch};
use crate::event::Event;

/// The picture that a page or a terminal builds from the events of one job, at any seq.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobView {
    pub name: Option<String>,
    pub status: Option<Status>,
    /// Percent.
    pub progress: u8,
    /// The last sentence that an event carried.
    pub message: Option<String>,
    pub screenshots: u32,
    pub read: u32,
    pub unread: u32,
    pub matched: u32,
    pub unmatched: u32,
    /// Addresses of the labels' pictures, in the order in which they were made.
    pub labels: Vec<String>,
    pub labels_failed: u32,
    pub companies: u32,
    pub companies_failed: u32,
    /// Why the job failed.
    pub error: Option<String>,
    /// What a worker's pipeline shows of its state; null before it shows anything.
    pub document: serde_json::Value,
}

impl JobView {
    /// Takes the next event in.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::JobCreated(e) => {
                self.name = Some(e.name.clone());
                self.status = Some(Status::Pending);
            }
            Event::JobUpdated(e) => {
                self.status = Status::from_word(&e.status).or(self.status);
                self.progress = e.progress.unwrap_or(self.progress);
                self.message = e.message.clone();
            }
            Event::JobProgress(e) => {
                self.progress = e.progress;
                self.message = e.message.clone();
            }
            Event::JobCompleted(_) => {
                self.status = Some(Status::Completed);
                self.progress = 100;
            }
            Event::JobFailed(e) => {
                self.status =
                    Some(if e.cancelled == Some(true) { Status::Cancelled } else { Status::Failed });
                self.error = Some(e.error.clone());
            }
            Event::JobLog(e) => self.message = Some(e.message.clone()),
            Event::JobPatched(e) => merge_patch(&mut self.document, &e.patch.0),
            Event::ScreenshotCaptured(_) => self.screenshots += 1,
            Event::OcrCompleted(_) => self.read += 1,
            Event::OcrFailed(_) => self.unread += 1,
            Event::MatchFound(_) => self.matched += 1,
            Event::MatchFailed(_) => self.unmatched += 1,
            Event::LabelGenerated(e) => self.labels.push(e.image_url.clone()),
            Event::LabelFailed(_) => self.labels_failed += 1,
            Event::CompanyFound(_) => self.companies += 1,
            Event::CompanyFailed(_) => self.companies_failed += 1,
            Event::CompanyStarted(_)
            | Event::CompanyProgress(_)
            | Event::ScreenshotUploaded(_)
            | Event::OcrStarted(_)
            | Event::OcrProgress(_)
            | Event::ArtifactStored(_)
            | Event::Free(_)
            | Event::SystemNotification(_) => {}
        }
    }
}
