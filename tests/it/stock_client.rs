//! A page with the official socket.io-client, in a Node process of its own that is told what to do line by line.

use std::{collections::VecDeque, path::Path, process::Stdio};

use jobcast::{
    event::{Event, Kind},
    store::Recorded,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};
use url::Url;

use crate::{
    raw_client::position,
    support::{Running, soon},
};

/// Which library, and how it may travel.
#[derive(Clone, Copy, Debug)]
pub struct Stock {
    pub version: u8,
    transports: &'static [&'static str],
}

impl Stock {
    pub const V4: Stock = Stock { version: 4, transports: &["polling", "websocket"] };
    pub const V4_POLLING: Stock = Stock { version: 4, transports: &["polling"] };
    pub const V4_WEBSOCKET: Stock = Stock { version: 4, transports: &["websocket"] };
    pub const V3: Stock = Stock { version: 3, transports: &["polling", "websocket"] };
    pub const V2: Stock = Stock { version: 2, transports: &["polling", "websocket"] };
    pub const ALL: [Stock; 5] = [Stock::V4, Stock::V4_POLLING, Stock::V4_WEBSOCKET, Stock::V3, Stock::V2];
}

/// An event as a page's listener gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub name: String,
    pub payload: Value,
    /// The position in the offset, the string argument behind the payload.
    pub position: Option<String>,
}

impl Heard {
    pub fn of(recorded: &Recorded) -> Heard {
        Heard {
            name: recorded.kind.clone().into_owned(),
            payload: as_javascript_has_it(serde_json::from_str(recorded.payload.get()).unwrap()),
            position: Some(recorded.position.to_string()),
        }
    }

    /// The event with its fields.
    pub fn decoded(&self) -> Event {
        Event::decode(Kind::from_wire_name(&self.name).unwrap(), &self.payload.to_string()).unwrap()
    }
}

/// A page: one client in a Node process of its own.
pub struct Page {
    pub stock: Stock,
    url: Url,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    transport: String,
    next_ack: u64,
    /// Events that came while something else was waited for.
    put_by: VecDeque<Heard>,
    /// Ends with the page.
    _node: Child,
}

impl Page {
    /// A connected client.
    pub async fn open(stock: Stock, server: &Running) -> Page {
        Page::open_at(stock, &server.base).await
    }

    /// A client that is connected to a server, perhaps through something else.
    pub async fn open_at(stock: Stock, url: &Url) -> Page {
        let mut page = Page::start(stock, url);
        page.connect(&[]).await;
        page
    }

    /// A client that is not connected yet.
    pub fn start(stock: Stock, url: &Url) -> Page {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
        let module = format!("node_modules/socket.io-client-v{}/package.json", stock.version);
        assert!(
            folder.join(module).exists(),
            "the JavaScript clients are not installed; run `make test`, which installs them"
        );
        let mut node = tokio::process::Command::new("node")
            .arg(folder.join("client.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("node cannot be started ({error}); run `make test`, which installs it")
            });
        Page {
            stock,
            url: url.clone(),
            stdin: node.stdin.take().unwrap(),
            lines: BufReader::new(node.stdout.take().unwrap()).lines(),
            transport: String::new(),
            next_ack: 0,
            put_by: VecDeque::new(),
            _node: node,
        }
    }

    /// Connects, and sends some messages inside `on("connect")`.
    pub async fn connect(&mut self, on_connect: &[Value]) {
        self.connect_hearing(&[], on_connect).await;
    }

    /// The same, for one that listens for more than the catalogue's events.
    pub async fn connect_hearing(&mut self, more: &[&str], on_connect: &[Value]) {
        let catalogue = Kind::ALL.iter().map(|kind| kind.wire_name());
        let names: Vec<&str> = catalogue.chain(more.iter().copied()).collect();
        let command = json!({ "connect": {
            "version": self.stock.version, "url": self.url, "listen": names, "onConnect": on_connect,
            // The usual second would only make the tests longer.
            "options": { "transports": self.stock.transports, "reconnectionDelay": 50, "reconnectionDelayMax": 500 },
        } });
        self.command(command).await;
        loop {
            let line = self.line().await;
            if line.get("connected").is_some() {
                return;
            }
            assert!(line.get("upgraded").is_some(), "{:?} connects: {line}", self.stock);
        }
    }

    pub async fn disconnect(&mut self) {
        self.command(json!({ "disconnect": true })).await;
        while self.line().await.get("disconnected").is_none() {}
        self.put_by.clear();
    }

    pub async fn emit(&mut self, message: Value) {
        self.command(json!({ "emit": message })).await;
    }

    /// Emits and waits for the acknowledgement.
    pub async fn call(&mut self, message: Value) -> Value {
        self.next_ack += 1;
        let asked = self.next_ack;
        self.command(json!({ "emit": message, "ack": asked })).await;
        loop {
            let mut line = self.line().await;
            if line["ack"] == asked {
                let mut answer = line["args"].take();
                assert_eq!(answer.as_array().unwrap().len(), 1, "an answer is one object: {answer}");
                return answer[0].take();
            }
            self.put_by.extend(heard(line));
        }
    }

    /// The next event; everything but events and a change of transport is a failure.
    pub async fn hear(&mut self) -> Heard {
        if let Some(heard) = self.put_by.pop_front() {
            return heard;
        }
        loop {
            let line = self.line().await;
            if line.get("upgraded").is_none() {
                return heard(line.clone()).unwrap_or_else(|| panic!("{:?}: {line}", self.stock));
            }
        }
    }

    /// The next event, through whatever becomes of the connection; whether each return was a recovery goes to `returns`.
    pub async fn hear_on(&mut self, returns: &mut Vec<bool>) -> Heard {
        if let Some(heard) = self.put_by.pop_front() {
            return heard;
        }
        loop {
            let line = self.line().await;
            if line.get("connected").is_some() {
                returns.push(line["recovered"] == true);
            }
            if let Some(heard) = heard(line) {
                return heard;
            }
        }
    }

    /// Waits until it knows that its connection is lost. What it hears before is kept.
    pub async fn is_disconnected(&mut self) {
        loop {
            let line = self.line().await;
            if line.get("disconnected").is_some() {
                return;
            }
            self.put_by.extend(heard(line));
        }
    }

    /// Waits until it is connected again; returns whether its session was recovered. What it hears before is kept.
    pub async fn comes_back(&mut self) -> bool {
        loop {
            let line = self.line().await;
            if line.get("connected").is_some() {
                return line["recovered"] == true;
            }
            self.put_by.extend(heard(line));
        }
    }

    /// The next `count` events.
    pub async fn hear_many(&mut self, count: usize) -> Vec<Heard> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            all.push(self.hear().await);
        }
        all
    }

    /// That it travels in the end as it was allowed to.
    pub async fn settles_on_its_last_transport(&mut self) {
        while self.transport != *self.stock.transports.last().unwrap() {
            let line = self.line().await;
            self.put_by.extend(heard(line));
        }
    }

    async fn command(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let line = soon("a line of the client", self.lines.next_line()).await.unwrap();
        let line: Value = serde_json::from_str(&line.expect("the client runs on")).unwrap();
        if let Some(transport) = line.get("connected").or(line.get("upgraded")) {
            self.transport = transport.as_str().unwrap().to_owned();
        }
        line
    }
}

fn heard(mut line: Value) -> Option<Heard> {
    let name = line.get("event")?.as_str()?.to_owned();
    let mut arguments = line["args"].as_array_mut()?.drain(..);
    let payload = arguments.next()?;
    let position = arguments.next().map(|offset| position(offset.as_str().expect("a string")).to_owned());
    assert_eq!(arguments.next(), None, "{name} has two arguments at the most");
    Some(Heard { name, payload, position })
}

/// JavaScript knows one kind of number: `100.0` is written `100`.
fn as_javascript_has_it(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(as_javascript_has_it).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, field)| (name, as_javascript_has_it(field))).collect()
        }
        other => other,
    }
}
