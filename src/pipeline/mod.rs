//! How work gets done.

pub mod tools;
