//! Load for any Socket.IO server that has the bench control routes, and what became of it: delivered, lost, repeated.
//!
//! The bench control protocol, over HTTP with JSON bodies, beside what is tested:
//! 1. `GET  /bench/ready` → 200 once the server works.
//! 2. `POST /bench/rooms {}` → `{"room": id}`; the id is a UUID, and stays good when the server is started again.
//! 3. `POST /bench/publish {"room", "count", "bytes", "from"}` sends `count` events in one burst and answers
//!    `{"committed": microseconds since the epoch}` when they are committed, or else on their way.
//! 4. An event is `job:updated` with a `message` of `n=<from, from + 1, …> t=<microseconds at publishing> ` and filler
//!    up to `bytes`. 5. Clients join with `job:subscribe`, the room, and an acknowledgement; raw ones at `/ws/{room}`.
//! 6. `POST /bench/append {"writers", "jobs", "seconds"}` → `{"events", "seconds"}`: durable appends; Jobcast only.

pub mod client;
pub mod compare;
pub mod control;
pub mod crowd;
pub mod progress;
pub mod scenarios;
pub mod servers;
pub mod table;
pub mod tally;
pub mod target;
pub mod usage;
pub mod wire;
