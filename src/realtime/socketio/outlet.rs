//! A socket as the hub sees it: events go past the library onto its WebSocket, or, while it is polling, through it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use socketioxide::{ProtocolVersion, SendError, SocketError, TransportType, extract::SocketRef};

use super::{
    admin::Trace,
    transport::{Link, MARKER, Wire, begin_text},
};
use crate::{
    realtime::hub::{Events, Outlet, Progress, Sent, Told},
    store::{Addresses, Transient},
};

/// A socket's end of the stream.
pub struct SocketOutlet {
    socket: SocketRef,
    link: Option<Arc<Link>>,
    addresses: Addresses,
    /// Its WebSocket, once what the library had queued is on it.
    wire: OnceLock<Arc<Wire>>,
    marked: AtomicBool,
    /// Where messages are kept for those who look on.
    trace: Option<Arc<Trace>>,
}

/// Where events go at the moment.
enum Way<'a> {
    Wire(&'a Arc<Wire>),
    Library,
    /// It has a WebSocket now, and the library may still have events for it.
    Between,
}

impl SocketOutlet {
    pub fn new(
        socket: SocketRef,
        link: Option<Arc<Link>>,
        addresses: Addresses,
        trace: Option<Arc<Trace>>,
    ) -> SocketOutlet {
        SocketOutlet { socket, link, addresses, wire: OnceLock::new(), marked: AtomicBool::new(false), trace }
    }

    /// Makes ready for the first event, so that it need not wait.
    pub fn prepare(&self) {
        self.way();
    }

    fn way(&self) -> Way<'_> {
        if let Some(wire) = self.wire.get() {
            return Way::Wire(wire);
        }
        let Some(wire) = self.link.as_ref().and_then(|link| link.wire()) else { return Way::Library };
        // A WebSocket whose upgrade is not finished yet may come to nothing.
        if self.socket.transport_type() != TransportType::Websocket {
            return Way::Library;
        }
        if wire.is_open() {
            return Way::Wire(self.wire.get_or_init(|| wire));
        }
        if !self.marked.load(Ordering::Relaxed) && self.socket.emit(MARKER, &()).is_ok() {
            self.marked.store(true, Ordering::Relaxed);
        }
        Way::Between
    }

    /// Gives the library an event for a client's next poll.
    fn queue(&self, name: &str, arguments: &impl Serialize) -> Sent {
        // What a client of version 2 polls is framed in another way, and not counted.
        let counted = self.link.as_ref().filter(|_| self.socket.protocol() == ProtocolVersion::V5);
        if counted.is_some_and(|link| !link.try_queue()) {
            return Sent::Some(0);
        }
        let Err(error) = self.socket.emit(name, arguments) else { return Sent::All };
        if let Some(link) = counted {
            link.polled(1);
        }
        match error {
            SendError::Socket(SocketError::InternalChannelFull) => Sent::Some(0),
            SendError::Socket(SocketError::Closed) => Sent::Gone,
            SendError::Serialize(error) => {
                tracing::error!(%error, event = name, "an event could not be written for Socket.IO");
                Sent::Gone
            }
        }
    }
}

impl SocketOutlet {
    fn pass(&self, events: &Events) -> Sent {
        match self.way() {
            Way::Wire(wire)
                if wire
                    .send(events.frames(|told| encode(told, &self.addresses)), events.item.events.len()) =>
            {
                Sent::All
            }
            Way::Wire(wire) if wire.is_shut() => Sent::Gone,
            Way::Wire(_) | Way::Between => Sent::Some(0),
            Way::Library => {
                for (taken, event) in events.item.events.iter().enumerate() {
                    let offset = events.item.offset(event).to_string();
                    let payload = self.addresses.freshen(&event.kind, &event.payload);
                    match self.queue(&event.kind, &(&payload, offset)) {
                        Sent::All => {}
                        Sent::Some(_) => return Sent::Some(taken),
                        Sent::Gone => return Sent::Gone,
                    }
                }
                Sent::All
            }
        }
    }

    fn pass_progress(&self, progress: &Progress) -> Sent {
        match self.way() {
            Way::Wire(wire) if wire.send_if_idle(progress.frames(encode_progress)) => Sent::All,
            Way::Wire(wire) if wire.is_shut() => Sent::Gone,
            Way::Wire(_) | Way::Between => Sent::Some(0),
            Way::Library => self.queue(progress.item.kind.wire_name(), &progress.item.payload),
        }
    }
}

impl Outlet for SocketOutlet {
    fn send(&self, events: &Events) -> Sent {
        let sent = self.pass(events);
        if let Some(trace) = self.trace.as_ref().filter(|trace| trace.is_on()) {
            let told = &events.item.events;
            let taken = match sent {
                Sent::All => told.len(),
                Sent::Some(taken) => taken,
                Sent::Gone => 0,
            };
            for event in &told[..taken] {
                trace.told(self.socket.id, event, events.item.offset(event));
            }
        }
        sent
    }

    fn send_progress(&self, progress: &Progress) -> Sent {
        let sent = self.pass_progress(progress);
        if let Some(trace) = self.trace.as_ref().filter(|_| sent == Sent::All) {
            trace.progress(self.socket.id, &progress.item);
        }
        sent
    }

    fn flush(&self) {
        if let Some(wire) = self.wire.get() {
            wire.flush();
        }
    }
}

/// Events as WebSocket frames: `42["name",payload,"offset"]` each.
fn encode(told: &Told, addresses: &Addresses) -> Bytes {
    let payloads: usize = told.events.iter().map(|event| event.payload.get().len() + 100).sum();
    let mut out = BytesMut::with_capacity(payloads);
    for event in &told.events {
        let payload = addresses.freshen(&event.kind, &event.payload);
        packet(&mut out, &event.kind, payload.get(), Some(&told.offset(event).to_string()));
    }
    out.freeze()
}

/// Progress as a WebSocket frame. It carries no offset: its only argument is no string, so the client keeps its own.
fn encode_progress(progress: &Arc<Transient>) -> Bytes {
    let mut out = BytesMut::new();
    packet(&mut out, progress.kind.wire_name(), progress.payload.get(), None);
    out.freeze()
}

fn packet(out: &mut BytesMut, name: &str, payload: &str, offset: Option<&str>) {
    // A name is a wire name of the catalogue, of this version or a newer one: letters, colons, dashes.
    let behind = offset.map_or(1, |offset| offset.len() + 4);
    begin_text(out, 4 + name.len() + 2 + payload.len() + behind);
    for part in ["42[\"", name, "\",", payload] {
        out.put_slice(part.as_bytes());
    }
    if let Some(offset) = offset {
        for part in [",\"", offset, "\""] {
            out.put_slice(part.as_bytes());
        }
    }
    out.put_u8(b']');
}
