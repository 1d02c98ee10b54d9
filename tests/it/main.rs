//! Every integration test: the real composition root on a real Postgres, nothing mocked.

mod hub;
mod journal;
mod queue;
mod rest;
mod support;
