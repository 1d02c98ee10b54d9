//! Jobcast.

pub mod app;
pub mod config;
pub mod dialects;
pub mod event;
pub mod http;
pub mod job;
pub mod pipeline;
pub mod process;
pub mod product;
pub mod realtime;
pub mod store;
