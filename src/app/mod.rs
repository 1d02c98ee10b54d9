//! The composition root: builds everything from top to bottom, and takes it down again.

pub mod bench;
pub mod client;
pub mod commands;
pub mod demo_shop;
pub mod follow;
pub mod listen;
pub mod overview;
pub mod server;
pub mod telemetry;

pub use server::Server;
