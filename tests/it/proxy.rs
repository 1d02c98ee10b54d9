//! A network between a client and a server that can be cut, frozen, and led elsewhere, while neither of them knows.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::support::soon;

/// Passes connections on to a server.
pub struct Proxy {
    address: SocketAddr,
    ways: Arc<Ways>,
    _accept: AbortOnDropHandle<()>,
}

struct Ways {
    target: Mutex<SocketAddr>,
    refusing: AtomicBool,
    /// Connections up to these numbers are over, and pass nothing on.
    cut: watch::Sender<u64>,
    frozen: watch::Sender<u64>,
    muted: watch::Sender<u64>,
    /// What a server said that was not passed on.
    held: watch::Sender<Vec<u8>>,
    last: Mutex<u64>,
}

impl Proxy {
    pub async fn start(target: &Url) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ways = Arc::new(Ways {
            target: Mutex::new(address(target)),
            refusing: AtomicBool::new(false),
            cut: watch::Sender::new(0),
            frozen: watch::Sender::new(0),
            muted: watch::Sender::new(0),
            held: watch::Sender::default(),
            last: Mutex::new(0),
        });
        let address = listener.local_addr().unwrap();
        let accept = tokio::spawn(accept(listener, ways.clone()));
        Proxy { address, ways, _accept: AbortOnDropHandle::new(accept) }
    }

    pub fn url(&self) -> Url {
        format!("http://{}/", self.address).parse().unwrap()
    }

    /// Ends every connection without a goodbye.
    pub fn cut(&self) {
        self.ways.cut.send_replace(*self.ways.last.lock().unwrap());
    }

    /// Passes nothing on any more, neither bytes nor ends, between those who are connected.
    pub fn freeze(&self) {
        let last = *self.ways.last.lock().unwrap();
        self.ways.frozen.send_replace(last);
        self.ways.muted.send_replace(last);
    }

    /// Passes on no more of what the server says, to anybody.
    pub fn mute(&self) {
        self.ways.held.send_replace(Vec::new());
        self.ways.muted.send_replace(u64::MAX);
    }

    /// Waits until a server said something that is not passed on.
    pub async fn holds_back(&self, what: &str) {
        let mut held = self.ways.held.subscribe();
        let has_it = |held: &Vec<u8>| String::from_utf8_lossy(held).contains(what);
        soon("what is held back", held.wait_for(has_it)).await.unwrap();
    }

    /// Passes on what waited.
    pub fn thaw(&self) {
        self.ways.frozen.send_replace(0);
        self.ways.muted.send_replace(0);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.ways.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Where new connections lead from now on.
    pub fn retarget(&self, target: &Url) {
        *self.ways.target.lock().unwrap() = address(target);
    }
}

fn address(url: &Url) -> SocketAddr {
    url.socket_addrs(|| None).unwrap()[0]
}

async fn accept(listener: TcpListener, ways: Arc<Ways>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let target = *ways.target.lock().unwrap();
        if ways.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let number = {
            let mut last = ways.last.lock().unwrap();
            *last += 1;
            *last
        };
        let ways = ways.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let mut cut = ways.cut.subscribe();
            tokio::select! {
                _ = cut.wait_for(|cut| *cut >= number) => {}
                _ = async {
                    let there = ways.pass(number, from_client, to_server, &ways.frozen, None);
                    let back = ways.pass(number, from_server, to_client, &ways.muted, Some(&ways.held));
                    tokio::join!(there, back)
                } => {}
            }
        });
    }
}

impl Ways {
    async fn pass(
        &self,
        number: u64,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        stopped: &watch::Sender<u64>,
        held: Option<&watch::Sender<Vec<u8>>>,
    ) {
        let mut stopped = stopped.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).await;
            if let (Some(held), Ok(count), true) = (held, &read, *stopped.borrow() >= number) {
                held.send_modify(|held| held.extend(&buffer[..*count]));
            }
            // Reading no further, it lets the sender's buffers fill.
            let _ = stopped.wait_for(|stopped| *stopped < number).await;
            match read {
                // What was cut before it was thawed passes nothing on.
                Ok(count @ 1..) if *self.cut.borrow() < number => {
                    if to.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}
