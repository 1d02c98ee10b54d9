//! The composition root.

pub mod client;
pub mod demo_shop;
pub mod follow;
