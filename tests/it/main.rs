//! Every integration test: the real composition root on a real Postgres, nothing mocked.

mod compat;
mod contract;
mod embedded;
mod hub;
mod journal;
mod kill;
mod objects;
mod process;
mod proxy;
mod queue;
mod raw_client;
mod recovery;
mod rest;
mod resume_model;
mod socketio;
mod stock_client;
mod support;
mod tidy;
mod whole_job;
