//! Jobcast.

pub mod app;
pub mod pipeline;
