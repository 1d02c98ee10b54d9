//! The composition root.

pub mod demo_shop;
