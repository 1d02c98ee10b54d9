//! Jobcast.

pub mod app;
pub mod config;
pub mod event;
pub mod job;
pub mod process;
pub mod realtime;
pub mod store;
pub mod pipeline;
