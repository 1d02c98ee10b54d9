//! How work gets done.

pub mod product;
pub mod tools;
