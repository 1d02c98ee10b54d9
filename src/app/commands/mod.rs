//! The commands of the command line, one file each.

pub mod admin_password;
pub mod bench;
pub mod check_config;
pub mod contract;
pub mod demo;
pub mod import;
pub mod jobs;
pub mod key;
pub mod migrate;
pub mod postgres;
pub mod serve;
pub mod signals;
pub mod submit;
pub mod token;
pub mod verify;
pub mod watch;
