//! Jobcast runs automation jobs and tells web pages about them live, over Socket.IO, without ever losing an event.
//!
//! # The house
//!
//! ```text
//! main ─▶ app ─▶ { dialects ─▶ http ─▶ realtime ─▶ identity, pipeline, webhooks } ─▶ store ─▶ { job, print ─▶ label ─▶ product } ─▶ event
//! ```
//!
//! An arrow means "may import"; `config`, `guard`, `metrics` and `process` are leaves that everybody may use. `dialects` may use `http`'s
//! state, for they are more routes, and `http`'s live doors (event streams, long-polls) hang on `realtime`'s hub, as
//! the sockets do. Neither knows `pipeline`, nor it them: **they meet in the journal**. A test (`tests/it/tidy.rs`)
//! holds this.
//!
//! | folder | role |
//! |---|---|
//! | [`event`] | the catalogue: THE list of events, and that of what pages ask for; payloads, TypeScript, JSON Schema, AsyncAPI and the README's table derive from them. Pure. |
//! | [`job`] | what a job is and may do: commands in, next state and events out. Pure. |
//! | [`product`] | what is known of a product, and how a price list is read. Pure. |
//! | [`label`] | how labels are drawn: templates, codes, PNG and PDF. No I/O. |
//! | [`print`] | where labels lie on sheets of paper, and PDFs of any length. No I/O. |
//! | [`store`] | where state rests: the journal, the queue, the rows, the objects. The only SQL. |
//! | [`identity`] | who calls: tokens, and API keys. |
//! | [`pipeline`] | how work gets done: workers claim tasks; stages turn tasks into changes; tools reach the outside. |
//! | [`webhooks`] | how programs elsewhere hear of it: signed deliveries with retries, out of the same journal. |
//! | [`guard`] | which addresses that strangers name may be reached. |
//! | [`realtime`] | how clients hear of it: the hub, sessions that outlive connections, Socket.IO with its Admin UI, and raw WebSockets with what each dialect makes of the journal. |
//! | [`http`] | the live page, the native REST API under `/v1`, with event streams and long-polls, objects under `/cdn`, health, and the contracts as documents. |
//! | [`dialects`] | existing frontends: their REST shapes and their words on sockets, one file or folder each. |
//! | [`metrics`] | the numbers of this process, all on one page. |
//! | [`app`] | the composition root, and the commands. |
//!
//! # One event's way
//!
//! A worker ([`pipeline::Worker`]) claims a task, its stage looks at the world and returns a [`store::Change`]: rows,
//! follow-up tasks, events. [`store::Store::change`] writes all of it in one transaction, with the job's new state that
//! [`job::Job::decide`] makes of it; the journal's counter row gives each event its position at the very end, so the
//! order of positions is the order of commits. After the commit the events are announced to this process's
//! [`realtime::hub::Hub`], which passes them on in the order of positions to the clients in the job's room. If an
//! announcement is lost, or another process made the commit, the hub finds the event in the journal.
//!
//! A worker outside of this process, in any language, does the same over REST (`/v1/work`): it claims a job of a kind,
//! keeps its lease under a fencing token, and reports; [`store::Store::report`] writes each report in one transaction.
//! What its pipeline shows of its state is the job's document, changed by merge patches alone, each of them an event.
//!
//! A dialect that speaks over raw WebSockets, or shows whole objects, hangs on a feed ([`realtime::feed`]), a cursor over
//! the journal; what its clients are told of a topic is worked out once for all of them ([`realtime::projector`]).
//!
//! A client that cannot keep up, that asks for the past, or that comes back is fed from the journal at its own pace and
//! handed back to the live stream at an exact position. So a full buffer, a late page, a cut connection and a
//! restart are one and the same case. What a client that comes back was told, and what it is due, is worked out of its
//! session's row and the position of the last event that it got ([`realtime::session`]).
//!
//! The Socket.IO library sees handshakes, heartbeats, messages and acknowledgements. Events go past it: a shim under the
//! library (`realtime/socketio/transport`) owns the connections, and writes what the hub encoded once for all clients
//! between the library's frames.
//!
//! # What must not be
//!
//! * Nobody tells a client anything that is not in the journal first, except progress (`job:progress`,
//!   `ocr:progress`), of which only the newest counts, and answers to that client alone.
//! * No SQL outside of [`store`]; no I/O, clock or async in [`event`], [`job`], [`label`], [`print`] and [`product`].
//! * No event after a terminal one (`job:completed`, `job:failed`): what is tried again of a job that has ended is
//!   another job.
//! * Nobody learns of a job that is somebody else's, through any door, list, broadcast or object; a job's owner is the
//!   caller that made it.
//! * No task is claimed of a job that is paused, or that waits because its owner has enough jobs at work.
//! * Locks in the database are taken in one order: an owner's slots, a schedule or a project, a job's row, its tasks,
//!   webhooks, the head of the journal.
//! * No object goes that a row names, and none stays that no row names: removing a job lists its objects in the same
//!   transaction, and they are removed afterwards.
//! * Nothing that a stranger names is asked for but through the guard ([`guard`]), be it by the crawler,
//!   Chromium or webhooks.
//! * No queue without a bound, no outside program without a time limit, none that outlives this process.
//! * A refusal is a row of [`job::Code`]; a setting is a line of `config/default.toml`.
//!
//! # Where a new thing goes
//!
//! | to add | by hand | by itself |
//! |---|---|---|
//! | an event | its row in [`event`]'s catalogue, its arm in [`job::JobView::apply`], the emitter | journal, sockets, types, README |
//! | a stage | its file in `pipeline/stages`, its lines there, its row in [`job::Stage`] | queue, retries, progress, resume |
//! | a dialect | its file or folder in [`dialects`] with its socket's contract, its line there, its conversations in `tests/transcripts` | limits, journal, replay, AsyncAPI |
//! | a refusal | its row in [`job::Code`] | every API's wording |
//! | a number | its row in [`metrics`], the line that counts | help, type, `/metrics` |
//! | a setting | its field in [`config`], its line in `config/default.toml` (a test compares) | environment and file |

pub mod app;
pub mod config;
pub mod dialects;
pub mod event;
pub mod guard;
pub mod http;
pub mod identity;
pub mod job;
pub mod label;
pub mod metrics;
pub mod pipeline;
pub mod print;
pub mod process;
pub mod product;
pub mod realtime;
pub mod store;
pub mod webhooks;
