//! A Socket.IO client as small as can be: for crowds, and for saying what no library would say.

use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use url::Url;

use crate::support::soon;

/// What a client is told.
#[derive(Debug, PartialEq)]
pub enum Told {
    Event { name: String, arguments: Vec<Value> },
    Ack { id: u64, answer: Value },
}

impl Told {
    /// The position of an event of the journal; 0 for everything else.
    pub fn position(&self) -> i64 {
        match self {
            Told::Event { arguments, .. } => {
                arguments.get(1).and_then(Value::as_str).map_or(0, |text| position(text).parse().unwrap())
            }
            Told::Ack { .. } => 0,
        }
    }
}

/// The position in an offset.
pub fn position(offset: &str) -> &str {
    offset.split_once('.').map_or(offset, |(position, _)| position)
}

pub struct RawClient {
    /// Its session.
    pub pid: String,
    socket: WebSocketStream<TcpStream>,
    next_ack: u64,
    /// What came while an answer was waited for.
    put_by: VecDeque<Told>,
}

impl RawClient {
    pub async fn connect(base: &Url) -> RawClient {
        let address = base.socket_addrs(|| None).unwrap();
        RawClient::connect_over(TcpStream::connect(&*address).await.unwrap(), base).await
    }

    pub async fn connect_over(stream: TcpStream, base: &Url) -> RawClient {
        RawClient::claim(stream, base, "").await
    }

    /// A client that says which session it was in: `{"pid": …, "offset": …}`.
    pub async fn come_back(base: &Url, claim: &Value) -> RawClient {
        let address = base.socket_addrs(|| None).unwrap();
        RawClient::claim(TcpStream::connect(&*address).await.unwrap(), base, &claim.to_string()).await
    }

    /// What a client is told that is not let in.
    pub async fn refused(base: &Url, claim: &Value) -> String {
        let address = base.socket_addrs(|| None).unwrap();
        let stream = TcpStream::connect(&*address).await.unwrap();
        let mut client = RawClient::open(stream, base).await;
        client.send(format!("40{claim}")).await;
        let refusal = client.frame().await.expect("CONNECT_ERROR");
        let refusal: Value = serde_json::from_str(refusal.strip_prefix("44").unwrap()).unwrap();
        refusal["message"].as_str().unwrap().to_owned()
    }

    /// A connection, before anything is said over it; the query of `base` goes along.
    async fn open(stream: TcpStream, base: &Url) -> RawClient {
        let mut url = base.join("/socket.io/?EIO=4&transport=websocket").unwrap();
        if let Some(more) = base.query() {
            url.set_query(Some(&format!("EIO=4&transport=websocket&{more}")));
        }
        url.set_scheme("ws").unwrap();
        let (socket, _) = soon("the upgrade", client_async(url.as_str(), stream)).await.unwrap();
        let mut client = RawClient { pid: String::new(), socket, next_ack: 0, put_by: VecDeque::new() };
        assert!(client.frame().await.expect("a handshake").starts_with("0{"));
        client
    }

    async fn claim(stream: TcpStream, base: &Url, claim: &str) -> RawClient {
        let mut client = RawClient::open(stream, base).await;
        client.send(format!("40{claim}")).await;
        let greeting = client.frame().await.expect("CONNECT");
        let greeting: Value = serde_json::from_str(greeting.strip_prefix("40").unwrap()).unwrap();
        client.pid = greeting["pid"].as_str().unwrap().to_owned();
        client
    }

    /// Sends a text frame as it is. A server that has closed is no failure here: the next read tells.
    pub async fn send(&mut self, frame: impl Into<String>) {
        let _ = self.socket.send(Message::text(frame.into())).await;
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        let _ = self.socket.send(Message::binary(bytes.to_vec())).await;
    }

    /// Emits an event that asks for an acknowledgement, and returns the acknowledgement's id.
    pub async fn ask(&mut self, message: &Value) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        self.send(format!("42{id}{message}")).await;
        id
    }

    /// Emits an event and waits for its acknowledgement.
    pub async fn call(&mut self, message: Value) -> Value {
        let asked = self.ask(&message).await;
        loop {
            match self.read().await.expect("an answer, not the end of the connection") {
                Told::Ack { id, answer } if id == asked => return answer,
                other => self.put_by.push_back(other),
            }
        }
    }

    pub async fn subscribe(&mut self, job: impl ToString) -> Value {
        self.call(json!(["job:subscribe", job.to_string()])).await
    }

    /// The next thing that the server tells; `None` when it has closed the connection.
    pub async fn next(&mut self) -> Option<Told> {
        match self.put_by.pop_front() {
            Some(told) => Some(told),
            None => self.read().await,
        }
    }

    /// The next event that stands in the journal.
    pub async fn next_journaled(&mut self) -> Told {
        loop {
            let told = self.next().await.expect("an event, not the end of the connection");
            if told.position() > 0 {
                return told;
            }
        }
    }

    async fn read(&mut self) -> Option<Told> {
        let frame = self.frame().await?;
        match frame.split_at_checked(2)? {
            ("42", event) => {
                let mut arguments: Vec<Value> = serde_json::from_str(event).unwrap();
                let name = arguments.remove(0).as_str().unwrap().to_owned();
                Some(Told::Event { name, arguments })
            }
            ("43", ack) => {
                let (id, answer) = ack.split_at(ack.find('[').unwrap());
                let [answer] = serde_json::from_str(answer).unwrap();
                Some(Told::Ack { id: id.parse().unwrap(), answer })
            }
            ("41" | "44", _) => None,
            _ => panic!("the server said {frame}"),
        }
    }

    /// The next text frame that is no heartbeat.
    pub async fn frame(&mut self) -> Option<String> {
        loop {
            match soon("a frame", self.socket.next()).await? {
                Ok(Message::Text(text)) if text == "2" => self.send("3").await,
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
