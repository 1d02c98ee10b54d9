//! The ports to the outside world and the pure rules that read what comes back through them.
//!
//! Nothing in here knows a job, the store or an event: each tool takes values and gives values, so that a stage
//! is a few lines that connect a tool to the journal.

pub mod browser;
pub mod company;
pub mod crawler;
pub mod fetch;
pub mod fields;
pub mod ocr;
pub mod page;
pub mod polite;
pub mod preset;
