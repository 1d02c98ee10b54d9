//! Every integration test: the real composition root on a real Postgres, nothing mocked.

mod contract;
mod hub;
mod journal;
mod kill;
mod objects;
mod process;
mod queue;
mod rest;
mod support;
mod tidy;
