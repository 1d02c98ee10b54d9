//! How work gets done: workers claim tasks, a stage turns a task into a change, the store makes the change true.

mod context;
mod stages;
pub mod tools;
mod worker;

pub use context::{Context, ToolsError};
pub use worker::{Worker, WorkerSettings};
