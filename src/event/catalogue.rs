//! THE list of events: one row each, everything else is derived from it.
//!
//! A row is `class "wire:name" Name { required fields } optional { fields that may be absent }`. Wire names and the
//! meaning of fields never change; a new field goes under `optional`. Optional fields are absent when there is
//! nothing to say, never `null`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ts_rs::TS;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Class, FreeEvent, Timestamp, contract};
use crate::job::JobId;

macro_rules! catalogue {
    ($(
        $(#[doc = $doc:literal])+
        $class:ident $wire:literal $name:ident {
            $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty, )*
        } $( optional {
            $( $(#[doc = $optional_doc:literal])+ $optional:ident: $optional_type:ty, )*
        } )?
    )*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub struct $name {
                $( $(#[doc = $field_doc])+ pub $field: $type, )*
                $($(
                    $(#[doc = $optional_doc])+
                    #[serde(default, skip_serializing_if = "Option::is_none")]
                    pub $optional: Option<$optional_type>,
                )*)?
            }

            impl From<$name> for Event {
                fn from(event: $name) -> Event {
                    Event::$name(event)
                }
            }
        )*

        /// One event of the catalogue with its fields.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $( $(#[doc = $doc])+ $name($name), )*
            /// An event of a worker's own, outside of the catalogue.
            Free(FreeEvent),
        }

        /// The name of an event of the catalogue; the journal stores its wire name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $( $(#[doc = $doc])+ $name, )*
        }

        impl Kind {
            /// Every kind, in the catalogue's order.
            pub const ALL: &[Kind] = &[$( Kind::$name, )*];

            /// The Socket.IO event name and the journal's `kind`.
            pub fn wire_name(self) -> &'static str {
                match self { $( Kind::$name => $wire, )* }
            }

            /// How events of this kind are kept and to whom they go.
            pub fn class(self) -> Class {
                match self { $( Kind::$name => Class::$class, )* }
            }

            /// The kind with this wire name.
            pub fn from_wire_name(name: &str) -> Option<Kind> {
                match name { $( $wire => Some(Kind::$name), )* _ => None }
            }

            /// What the row says, for the generated contract.
            pub fn description(self) -> contract::Row {
                match self {
                    $( Kind::$name => contract::Row {
                        kind: self,
                        type_name: stringify!($name),
                        doc: concat!($($doc),+).trim(),
                        fields: vec![
                            $( contract::Field::new::<$type>(stringify!($field), false, concat!($($field_doc),+)), )*
                            $($( contract::Field::new::<$optional_type>(stringify!($optional), true, concat!($($optional_doc),+)), )*)?
                        ],
                    }, )*
                }
            }
        }

        impl Event {
            /// Which event of the catalogue this is; `None` for a worker's own.
            pub fn kind(&self) -> Option<Kind> {
                match self {
                    $( Event::$name(_) => Some(Kind::$name), )*
                    Event::Free(_) => None,
                }
            }

            /// The payload that goes on the wire and into the journal.
            pub fn encode(&self, job: Option<JobId>, at: Timestamp) -> Box<RawValue> {
                match self {
                    $( Event::$name(fields) => super::encode(job, at, fields), )*
                    Event::Free(free) => super::encode(job, at, &free.data),
                }
            }

            /// Reads a payload of the wire or of the journal; unknown fields are ignored.
            pub fn decode(kind: Kind, payload: &str) -> serde_json::Result<Event> {
                match kind { $( Kind::$name => serde_json::from_str(payload).map(Event::$name), )* }
            }
        }
    };
}

catalogue! {
    /// A job was accepted.
    Broadcast "job:created" JobCreated {
        /// What kind of work it is.
        job_type: JobType,
        /// The name that its creator gave it.
        name: String,
    }

    /// The job moved to another status, or on within it.
    Milestone "job:updated" JobUpdated {
        /// `pending`, `crawling`, `processing-ocr`, `matching`, `rendering`, `paused`, `completed` or `failed`.
        status: String,
    } optional {
        /// Percent of the whole job, 0 to 100; never falls.
        progress: u8,
        /// The stage at work, in the words of `status`.
        current_stage: String,
        /// A sentence for people, such as why an item was skipped.
        message: String,
    }

    /// How far the job is; only the newest counts, so it may be skipped on slow connections.
    Transient "job:progress" JobProgress {
        /// Percent of the whole job, 0 to 100; never falls.
        progress: u8,
        /// The stage at work, in the words of `job:updated`'s `status`.
        current_step: String,
    } optional {
        /// Percent of the current step, 0 to 100.
        current_step_progress: u8,
        /// How many steps the job has.
        total_steps: u8,
        /// A sentence for people.
        message: String,
    }

    /// The job ended well; no event follows.
    Milestone "job:completed" JobCompleted {
        /// What came out; an automation job's has `summary`.
        results: Anything,
        /// Milliseconds from the start of the job to its end.
        duration: u64,
    }

    /// The job ended without its results; no event follows.
    Milestone "job:failed" JobFailed {
        /// A sentence that says what went wrong.
        error: String,
    } optional {
        /// The stage that failed.
        stage: String,
        /// Present and true when a person cancelled the job.
        cancelled: bool,
    }

    /// The worker that has the job says something for people who watch it.
    Milestone "job:log" JobLog {
        /// How much it matters.
        level: LogLevel,
        /// A sentence.
        message: String,
    } optional {
        /// The part of the worker that says it.
        source: String,
    }

    /// The job's document changed: what its pipeline shows of its state.
    Milestone "job:patched" JobPatched {
        /// A merge patch (RFC 7396); all of a job's, one after the other on `{}`, make its document.
        patch: Anything,
    }

    /// A file was stored with the job.
    Milestone "artifact:stored" ArtifactStored {
        /// Its name, under which a later one takes its place.
        name: String,
        /// Absolute address of the artifact's bytes.
        url: String,
        /// Its media type.
        content_type: String,
        /// Bytes.
        size: u64,
    }

    /// A product page was photographed.
    Milestone "screenshot:captured" ScreenshotCaptured {
        /// The screenshot.
        screenshot_id: Uuid,
        /// Absolute address of the PNG.
        url: String,
        /// Absolute address of the page.
        product_url: String,
    } optional {
        /// Absolute address of a smaller PNG.
        thumbnail_url: String,
        /// The product's name as the page declares it.
        product_name: String,
    }

    /// A screenshot reached the object store.
    Milestone "screenshot:uploaded" ScreenshotUploaded {
        /// The screenshot.
        screenshot_id: Uuid,
        /// Absolute address of the PNG.
        image_url: String,
    } optional {
        /// Absolute address of a smaller PNG.
        thumbnail_url: String,
    }

    /// Reading of a screenshot began.
    Milestone "ocr:started" OcrStarted {
        /// The screenshot being read.
        screenshot_id: Uuid,
    }

    /// How far the reading of a screenshot is.
    Transient "ocr:progress" OcrProgress {
        /// The screenshot being read.
        screenshot_id: Uuid,
        /// Percent, 0 to 100.
        progress: u8,
    }

    /// A screenshot was read.
    Milestone "ocr:completed" OcrCompleted {
        /// The screenshot that was read.
        screenshot_id: Uuid,
        /// The result's own id.
        ocr_result_id: Uuid,
        /// The values, after the cross-check with the page's own data.
        data: OcrData,
    }

    /// A screenshot could not be read.
    Milestone "ocr:failed" OcrFailed {
        /// The screenshot.
        screenshot_id: Uuid,
        /// A sentence that says why.
        error: String,
    }

    /// A read product was found among the known products.
    Milestone "match:found" MatchFound {
        /// The reading that was matched.
        ocr_result_id: Uuid,
        /// The match's own id.
        match_id: Uuid,
        /// How it was found.
        match_type: MatchType,
        /// 0 to 1.
        confidence: f64,
        /// The known product's article number.
        article_number: String,
    }

    /// No known product fits a reading.
    Milestone "match:failed" MatchFailed {
        /// The reading.
        ocr_result_id: Uuid,
        /// A sentence that says why.
        reason: String,
    } optional {
        /// The article number that was read.
        article_number: String,
    }

    /// A label was rendered.
    Milestone "label:generated" LabelGenerated {
        /// The label.
        label_id: Uuid,
        /// Absolute address of the PNG.
        image_url: String,
        /// The product's article number; empty when none is known.
        article_number: String,
    }

    /// A label could not be rendered.
    Milestone "label:failed" LabelFailed {
        /// A sentence that says why.
        error: String,
    } optional {
        /// The product's article number.
        article_number: String,
    }

    /// A company's own site is being looked at.
    Milestone "company:started" CompanyStarted {
        /// The company's domain.
        domain: String,
        /// Which of the workers looks at it, from 1.
        worker: u32,
    }

    /// How far the look at a company's site is.
    Transient "company:progress" CompanyProgress {
        /// The company's domain.
        domain: String,
        /// Which of the workers looks at it.
        worker: u32,
        /// Percent, 0 to 99.
        progress: u8,
        /// The page that was read last.
        page: String,
    }

    /// A company's own site was read.
    Milestone "company:found" CompanyFound {
        /// The finding's own id.
        company_id: Uuid,
        /// The company's domain.
        domain: String,
        /// How many pages were read.
        pages: u32,
        /// What they say of the company.
        profile: Anything,
    } optional {
        /// Which of the workers read it.
        worker: u32,
    }

    /// Nothing could be found of a company.
    Milestone "company:failed" CompanyFailed {
        /// The company's domain.
        domain: String,
        /// A sentence that says why.
        reason: String,
    }

    /// Something to tell the user that belongs to no job.
    Notice "system:notification" SystemNotification {
        /// How to show it.
        r#type: Severity,
        /// A sentence.
        message: String,
    } optional {
        /// More, for programs.
        details: Anything,
    }
}

/// What kind of work a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Screenshots of a shop's products, no labels.
    Crawl,
    /// The whole way from a shop to its labels.
    Automation,
    /// Companies looked up by their domains.
    Companies,
    /// What a worker outside of this server does.
    Work,
}

/// How much a line of a worker's log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Debug,
    Info,
    Success,
    Warning,
    Error,
}

/// How a known product was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchType {
    /// By article number or EAN, letter for letter.
    Exact,
    /// By likeness of the name or number.
    Fuzzy,
}

/// How a notification is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
    Success,
}

/// The values of `ocr:completed`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct OcrData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub article_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// 0 to 100.
    pub confidence: f64,
}

/// A JSON object whose fields this contract leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(type = "Record<string, unknown>")]
pub struct Anything(pub serde_json::Value);
