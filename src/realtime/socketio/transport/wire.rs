//! One WebSocket connection's bytes: the library's frames and ours on one socket, with a bound and a deadline.
//!
//! The library writes handshakes, heartbeats and acknowledgements; the hub puts events, encoded once for all clients, between
//! its frames. All of it waits in one queue of bounded size and is written as far as the socket takes it. If the
//! socket takes nothing, a task waits until it does; if it takes nothing for as long as the deadline, both halves
//! are shut, so that the library sees an end and lets the client go.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    frame::{self, Splitter},
    greeting::Greeting,
};

/// Pieces written by one system call at the most.
const PIECES: usize = 64;
/// Beyond so many waiting bytes progress is left out; the newest follows when there is room.
const PRESSURE: usize = 16 * 1024;
/// An event of this name is no event: the library sends it behind what it had queued for the client, and the shim takes
/// it out and knows that the queue is empty.
pub const MARKER: &str = "jobcast:queue-is-empty";
const MARKER_PACKET: &[u8] = b"42[\"jobcast:queue-is-empty\"";

/// What a connection may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets that the library holds for a client that is polling.
    pub max_packets: usize,
    /// Bytes that may wait for one client on a WebSocket.
    pub max_waiting: usize,
    /// How long a client may take nothing of what waits for it.
    pub stall: Duration,
}

/// What went over all connections since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub bytes_sent: AtomicU64,
    /// Text frames of the library and events, queued to be sent.
    pub packets_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    /// Connections that were shut because their client took nothing any more.
    pub stalled: AtomicU64,
}

/// A connection, as the hub and the transport see it.
pub struct Wire {
    tcp: TcpStream,
    out: Mutex<Out>,
    /// Whether the library's queue was empty once, so that events may go past it.
    open: AtomicBool,
    greeting: Arc<Greeting>,
    limits: Limits,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Out {
    queue: VecDeque<Bytes>,
    /// Of all that is in the queue.
    waiting: usize,
    /// Whether a task waits for the socket to take more.
    blocked: bool,
    shut: bool,
    /// Of the library's output.
    splitter: Splitter,
    /// The library's writer, if it waits for room.
    writer: Option<Waker>,
}

impl Wire {
    pub fn new(
        tcp: TcpStream,
        greeting: Arc<Greeting>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Arc<Wire> {
        let out = Mutex::default();
        Arc::new(Wire { tcp, out, open: AtomicBool::new(false), greeting, limits, counters })
    }

    /// Whether events may be given to [`Wire::send`].
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Queues whole frames of so many packets if there is room; [`Wire::flush`] writes them. They always fit into an empty
    /// queue.
    pub fn send(&self, frames: &Bytes, packets: usize) -> bool {
        self.queue(frames, packets, self.limits.max_waiting)
    }

    /// Queues a frame if hardly anything waits.
    pub fn send_if_idle(&self, frame: &Bytes) -> bool {
        self.queue(frame, 1, PRESSURE)
    }

    fn queue(&self, frames: &Bytes, packets: usize, limit: usize) -> bool {
        let mut out = self.out();
        if out.shut || (out.waiting > 0 && out.waiting + frames.len() > limit) {
            return false;
        }
        out.push(frames.clone());
        self.counters.packets_sent.fetch_add(packets as u64, Ordering::Relaxed);
        true
    }

    /// Whether more waits than hardly anything.
    pub fn is_under_pressure(&self) -> bool {
        self.out().waiting > PRESSURE
    }

    /// Whether the connection has ended.
    pub fn is_shut(&self) -> bool {
        self.out().shut
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn flush(self: &Arc<Self>) {
        self.flush_locked(&mut self.out());
    }

    /// Says goodbye with a close code, and shuts the connection.
    pub fn close(self: &Arc<Self>, code: u16) {
        let mut out = self.out();
        out.push(Bytes::copy_from_slice(&frame::close(code)));
        self.flush_locked(&mut out);
        self.shut_locked(&mut out);
    }

    /// Shuts both halves; the library sees an end, and the client comes back by itself.
    pub fn shut(&self) {
        self.shut_locked(&mut self.out());
    }

    fn shut_locked(&self, out: &mut Out) {
        out.shut = true;
        out.queue = VecDeque::new();
        out.waiting = 0;
        let _ = rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Both);
        if let Some(writer) = out.writer.take() {
            writer.wake();
        }
    }

    fn flush_locked(self: &Arc<Self>, out: &mut Out) {
        if out.blocked || out.queue.is_empty() {
            return;
        }
        match self.write(out) {
            Ok(true) => {}
            Ok(false) => {
                out.blocked = true;
                tokio::spawn(self.clone().drain());
            }
            Err(_) => self.shut_locked(out),
        }
    }

    /// Writes until everything is written, or the socket takes no more (`false`).
    fn write(&self, out: &mut Out) -> io::Result<bool> {
        while !out.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = out.queue.len().min(PIECES);
            for (piece, bytes) in pieces.iter_mut().zip(&out.queue) {
                *piece = IoSlice::new(bytes);
            }
            match self.tcp.try_write_vectored(&pieces[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.counters.bytes_sent.fetch_add(written as u64, Ordering::Relaxed);
                    out.drop_front(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes on whenever the socket takes more, until all is written or nothing was taken for too long.
    async fn drain(self: Arc<Self>) {
        loop {
            let writable = tokio::time::timeout(self.limits.stall, self.tcp.writable()).await;
            let mut out = self.out();
            let done = match writable {
                Err(_) => {
                    self.counters.stalled.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(waiting = out.waiting, "a client took nothing for too long");
                    Err(io::ErrorKind::TimedOut.into())
                }
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) => self.write(&mut out),
            };
            if out.waiting <= self.limits.max_waiting
                && let Some(writer) = out.writer.take()
            {
                writer.wake();
            }
            match done {
                Ok(false) => {}
                Ok(true) => {
                    out.blocked = false;
                    return;
                }
                Err(_) => return self.shut_locked(&mut out),
            }
        }
    }

    /// Queues what the library wrote, frame by frame: the answer to a CONNECT with the pid in it, the marker not at all.
    fn take(&self, out: &mut Out, chunk: &[u8]) {
        let Out { queue, waiting, splitter, .. } = out;
        splitter.push(chunk, |frame| {
            let packet = frame::text(frame);
            if packet.is_some_and(|packet| packet.starts_with(MARKER_PACKET)) {
                self.open.store(true, Ordering::Release);
                return;
            }
            let frame = match packet.and_then(|packet| self.greeting.insert(packet)) {
                Some(packet) => {
                    let mut told = bytes::BytesMut::with_capacity(packet.len() + 10);
                    frame::begin_text(&mut told, packet.len());
                    told.extend_from_slice(&packet);
                    told.freeze()
                }
                None => Bytes::copy_from_slice(frame),
            };
            *waiting += frame.len();
            queue.push_back(frame);
            self.counters.packets_sent.fetch_add(1, Ordering::Relaxed);
        });
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    fn push(&mut self, frames: Bytes) {
        self.waiting += frames.len();
        self.queue.push_back(frames);
    }

    fn drop_front(&mut self, mut written: usize) {
        self.waiting -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        // An idle client keeps no memory for what once waited.
        self.queue = VecDeque::new();
    }
}

/// The library's end of a connection; the connection ends with it.
pub struct Stream {
    wire: Arc<Wire>,
    /// What was read before the library came.
    read: Bytes,
}

impl Stream {
    pub fn new(wire: Arc<Wire>, read: Bytes) -> Stream {
        Stream { wire, read }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What the library wrote last may still wait; a goodbye that the socket does not take at once is not waited for.
        self.wire.flush();
        self.wire.shut();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let count = self.read.len().min(buf.remaining());
            let now = self.read.split_to(count);
            buf.put_slice(&now);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.wire.tcp.poll_read_ready(cx))?;
            match self.wire.tcp.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    self.wire.counters.bytes_received.fetch_add(count as u64, Ordering::Relaxed);
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, chunk: &[u8]) -> Poll<io::Result<usize>> {
        let mut out = self.wire.out();
        if out.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if out.blocked && out.waiting > self.wire.limits.max_waiting {
            out.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.wire.take(&mut out, chunk);
        self.wire.flush_locked(&mut out);
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was taken is written by us.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.flush();
        self.wire.shut();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn pair(limits: Limits) -> (Arc<Wire>, Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let greeting = Arc::new(Greeting::default());
        greeting.set("ab".into());
        let wire = Wire::new(server, greeting, limits, Arc::default());
        let stream = Stream::new(wire.clone(), Bytes::from_static(b"first"));
        (wire, stream, client)
    }

    fn text(payload: &str) -> Bytes {
        let mut out = bytes::BytesMut::new();
        frame::begin_text(&mut out, payload.len());
        out.extend_from_slice(payload.as_bytes());
        out.freeze()
    }

    async fn read(client: &mut TcpStream, frames: usize) -> Vec<String> {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        let mut buffer = vec![0; 4096];
        while found.len() < frames {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the connection ended after {found:?}");
            splitter.push(&buffer[..count], |frame| {
                found.push(String::from_utf8(super::frame::text(frame).unwrap().to_vec()).unwrap());
            });
        }
        found
    }

    const ROOMY: Limits = Limits { max_packets: 100, max_waiting: 1_000_000, stall: Duration::from_secs(30) };

    #[tokio::test]
    async fn events_go_between_the_librarys_frames_never_into_one() {
        let (wire, mut stream, mut client) = pair(ROOMY).await;
        let marker = text(&format!("42[\"{MARKER}\"]"));
        let library = [&text("40{\"sid\":\"s\"}")[..], &marker, &text("2")].concat();
        let mut sent = false;
        for chunk in library.chunks(library.len() - 2) {
            stream.write_all(chunk).await.unwrap();
            // The library's last frame is begun by now, and not finished.
            if wire.is_open() && !std::mem::replace(&mut sent, true) {
                assert!(wire.send(&text("42[\"event\"]"), 1));
            }
        }
        wire.flush();
        let frames = read(&mut client, 3).await;
        assert!(
            frames[0].starts_with("40{\"sid\":\"") && frames[0].ends_with("\"pid\":\"ab\"}"),
            "{frames:?}"
        );
        assert_eq!(frames[1..], ["42[\"event\"]", "2"]);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_the_end_is_seen() {
        let (wire, mut stream, mut client) = pair(ROOMY).await;
        client.write_all(b" then").await.unwrap();
        let mut buffer = [0; 10];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"first then");
        wire.shut();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        assert!(stream.write_all(b"x").await.is_err());
        assert!(!wire.send(&text("late"), 1));
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_shut_out_and_the_library_hears_of_it() {
        let (wire, mut stream, _client) =
            pair(Limits { max_waiting: 50_000, stall: Duration::from_millis(50), ..ROOMY }).await;
        let frames = text(&"x".repeat(20_000));
        while wire.send(&frames, 1) {
            wire.flush();
        }
        assert!(wire.out().waiting <= 50_000);
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "the reading half ends too");
        assert!(wire.is_shut());
        assert_eq!(wire.counters.stalled.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_everything_in_order() {
        let (wire, _stream, mut client) = pair(Limits { max_waiting: 50_000, ..ROOMY }).await;
        let writer = tokio::spawn(async move {
            for number in 0..400 {
                let frames = text(&format!("{number:06}{}", "x".repeat(20_000)));
                while !wire.send(&frames, 1) {
                    tokio::task::yield_now().await;
                }
                wire.flush();
            }
        });
        let frames = read(&mut client, 400).await;
        writer.await.unwrap();
        let numbers: Vec<usize> = frames.iter().map(|frame| frame[..6].parse().unwrap()).collect();
        assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    }
}
