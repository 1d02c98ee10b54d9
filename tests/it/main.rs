//! Every integration test: the real composition root on a real Postgres, nothing mocked.

mod bench;
mod compat;
mod contract;
mod doors;
mod embedded;
mod hub;
mod journal;
mod kill;
mod label_library;
mod objects;
mod openapi;
mod process;
mod proxy;
mod queue;
mod raw_client;
mod recovery;
mod rest;
mod resume_model;
mod retention;
mod socketio;
mod stock_client;
mod support;
mod tidy;
mod verify;
mod whole_job;
