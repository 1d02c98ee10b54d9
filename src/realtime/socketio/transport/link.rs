//! One Engine.IO session, whatever transport it is on, and the list of all of them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::Utc;

use super::{
    alias::Aliases,
    greeting::Greeting,
    wire::{Counters, Limits, Wire},
};
use crate::event::Timestamp;

/// The close code of a server that restarts (RFC 6455's registry); clients come back at once.
const RESTART: u16 = 1012;

/// Clients are not sent away more slowly than this, one after the other.
const GAP: Duration = Duration::from_millis(2);

/// An Engine.IO session: goes along with its first request, so that the socket finds its connection here.
pub struct Link {
    number: u64,
    /// The other end of the connection that opened it: its client, or a proxy.
    pub peer: Option<SocketAddr>,
    pub began: Timestamp,
    /// What the answer to its CONNECT is to carry.
    pub greeting: Arc<Greeting>,
    /// Events that the library holds for its next poll.
    unpolled: AtomicUsize,
    state: Mutex<State>,
    links: Weak<Links>,
}

#[derive(Default)]
struct State {
    /// Its WebSocket; none while it is polling.
    wire: Option<Arc<Wire>>,
    /// The name of a session that began by polling, under which an upgrade finds it.
    sid: Option<String>,
}

impl Link {
    pub fn wire(&self) -> Option<Arc<Wire>> {
        self.state().wire.clone()
    }

    pub fn set_wire(&self, wire: Arc<Wire>) {
        self.state().wire = Some(wire);
    }

    /// Notes the session's name.
    pub fn set_sid(self: &Arc<Self>, sid: &str) {
        self.state().sid = Some(sid.to_owned());
        if let Some(links) = self.links.upgrade() {
            links.table().by_sid.insert(sid.to_owned(), Arc::downgrade(self));
        }
    }

    /// Counts an event that is given to the library, if there is room for it. The rest of the library's buffer is for
    /// heartbeats and answers: it ends a session whose buffer is full when a heartbeat is due.
    pub fn try_queue(&self) -> bool {
        let Some(links) = self.links.upgrade() else { return false };
        let most = links.limits.max_packets - links.limits.max_packets / 8;
        let more = |unpolled: usize| (unpolled < most).then_some(unpolled + 1);
        self.unpolled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Notes that events were polled, or not given to the library after all.
    pub fn polled(&self, events: usize) {
        let rest = |unpolled: usize| Some(unpolled.saturating_sub(events));
        let _ = self.unpolled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    }

    /// Shuts the session's connection; the client comes back by itself. One that is polling ends with its heartbeat.
    pub fn kill(&self) {
        if let Some(wire) = self.wire() {
            wire.shut();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(links) = self.links.upgrade() else { return };
        let sid = self.state().sid.take();
        let mut table = links.table();
        table.all.remove(&self.number);
        if let Some(sid) = sid {
            table.by_sid.remove(&sid);
        }
    }
}

/// All sessions of this process.
pub struct Links {
    table: Mutex<Table>,
    refusing: AtomicBool,
    pub limits: Limits,
    pub counters: Arc<Counters>,
    pub aliases: Arc<Aliases>,
}

/// How many sessions there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub present: u64,
    /// Of those: who has no WebSocket.
    pub polling: u64,
    /// Since the start.
    pub begun: u64,
}

#[derive(Default)]
struct Table {
    last_number: u64,
    all: HashMap<u64, Weak<Link>>,
    by_sid: HashMap<String, Weak<Link>>,
}

impl Links {
    pub fn new(limits: Limits) -> Arc<Links> {
        let refusing = AtomicBool::new(false);
        let (counters, aliases) = (Arc::default(), Arc::default());
        Arc::new(Links { table: Mutex::default(), refusing, limits, counters, aliases })
    }

    /// A session that begins.
    pub fn begin(self: &Arc<Self>, peer: Option<SocketAddr>) -> Arc<Link> {
        let mut table = self.table();
        table.last_number += 1;
        let number = table.last_number;
        let link = Arc::new(Link {
            number,
            peer,
            began: Utc::now(),
            greeting: Arc::new(Greeting::new(self.aliases.clone())),
            unpolled: AtomicUsize::new(0),
            state: Mutex::default(),
            links: Arc::downgrade(self),
        });
        table.all.insert(number, Arc::downgrade(&link));
        link
    }

    /// The session of this name, if it began by polling here.
    pub fn find(&self, sid: &str) -> Option<Arc<Link>> {
        self.table().by_sid.get(sid).and_then(Weak::upgrade)
    }

    /// Counts the sessions.
    pub fn census(&self) -> Census {
        let (links, begun) = {
            let table = self.table();
            let links: Vec<Arc<Link>> = table.all.values().filter_map(Weak::upgrade).collect();
            (links, table.last_number)
        };
        // Not under the lock: the last one to let go of a link needs it.
        let mut census = Census { begun, ..Census::default() };
        for link in links {
            match link.wire() {
                None => census.polling += 1,
                // The library keeps one for a while that was let into no namespace.
                Some(wire) if wire.is_shut() => continue,
                Some(_) => {}
            }
            census.present += 1;
        }
        census
    }

    /// Whether new sessions are refused.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Refuses new sessions from now on.
    pub fn refuse(&self) {
        self.refusing.store(true, Ordering::Relaxed);
    }

    /// Closes all WebSockets, one after the other over a stretch of time, so that their clients do not all come back in
    /// the same instant. A few take less.
    pub async fn drain(&self, over: Duration) {
        let links: Vec<Weak<Link>> = self.table().all.values().cloned().collect();
        let began = tokio::time::Instant::now();
        let count = links.len().max(1) as u32;
        let over = over.min(GAP * count);
        // A map's order is as good as any random one.
        for (index, link) in links.into_iter().enumerate() {
            tokio::time::sleep_until(began + over * index as u32 / count).await;
            if let Some(wire) = link.upgrade().and_then(|link| link.wire()) {
                wire.close(RESTART);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
