//! All existing frontends at once on one server, each with its clients and a running job; and the label printer alone, to
//! compare (Jobcast only).

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chrono::TimeDelta;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{ENTRY, QUIET};
use crate::{
    app::bench::{
        control::{Begun, Step},
        progress::Progress,
        servers::{Programs, Server, ensure_room_for},
        tally::Latency,
        wire,
    },
    config::Config,
    identity::token::{Kind, NewToken, sign},
};

/// What the servers under test sign tokens with.
const SECRET: &str = "a secret that only this benchmark's own servers have";
/// Whose the novel tool's job is.
pub const OWNER: &str = "7";
/// How often the pages are counted.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Clients of each frontend.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// Changes a second of each frontend's job.
    #[arg(long, default_value_t = 10)]
    pub rate: u32,
    /// How long.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
}

/// A frontend, as its pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frontend {
    LabelPrinter,
    NovelTool,
    TranscriptQueue,
    ProjectAgents,
    DomainScraper,
}

impl Frontend {
    const ALL: [Frontend; 5] = [
        Frontend::LabelPrinter,
        Frontend::NovelTool,
        Frontend::TranscriptQueue,
        Frontend::ProjectAgents,
        Frontend::DomainScraper,
    ];

    fn title(self) -> &'static str {
        match self {
            Frontend::LabelPrinter => "label printer",
            Frontend::NovelTool => "novel tool",
            Frontend::TranscriptQueue => "transcript queue",
            Frontend::ProjectAgents => "project agents",
            Frontend::DomainScraper => "domain scraper",
        }
    }

    fn path(self, begun: &Begun, token: &str) -> String {
        match self {
            Frontend::LabelPrinter => "/socket.io/?EIO=4&transport=websocket".into(),
            Frontend::NovelTool => format!("/socket.io/?EIO=4&transport=websocket&token={token}"),
            Frontend::TranscriptQueue => "/api/ws/jobs".into(),
            Frontend::ProjectAgents => format!("/api/ws/projects/{}", begun.job),
            Frontend::DomainScraper => format!("/ws/job/{}", begun.job),
        }
    }

    /// What a page says when it is connected.
    fn greeting(self, begun: &Begun, token: &str) -> Option<String> {
        match self {
            Frontend::LabelPrinter => Some(format!("42{}{}", ASKED, json!(["job:subscribe", begun.job]))),
            Frontend::NovelTool => {
                let asked = json!({ "job_id": begun.number, "token": token });
                Some(format!("42{}", json!(["join_job", asked])))
            }
            Frontend::TranscriptQueue => Some("ping".into()),
            Frontend::ProjectAgents => Some(r#"{"type":"ping"}"#.into()),
            Frontend::DomainScraper => None,
        }
    }

    fn is_socketio(self) -> bool {
        matches!(self, Frontend::LabelPrinter | Frontend::NovelTool)
    }

    /// Whether a frame says that the page follows its job from now on.
    fn is_in(self, frame: &str) -> bool {
        match self {
            Frontend::LabelPrinter => frame.starts_with(&format!("43{ASKED}")),
            Frontend::NovelTool => frame.starts_with(r#"42["job_progress""#),
            Frontend::TranscriptQueue => frame == "pong",
            Frontend::ProjectAgents => frame.contains(r#""pong""#),
            Frontend::DomainScraper => true,
        }
    }

    /// Whether a frame tells the end of the job.
    fn is_end(self, frame: &str) -> bool {
        frame.contains(match self {
            Frontend::LabelPrinter => r#""job:completed""#,
            Frontend::NovelTool | Frontend::DomainScraper => r#""status":"completed""#,
            Frontend::TranscriptQueue => r#""type":"job_completed""#,
            Frontend::ProjectAgents => r#""type":"completion""#,
        })
    }

    /// Whether its pages are told each change, rather than how things stand.
    fn tells_all(self) -> bool {
        matches!(self, Frontend::LabelPrinter | Frontend::ProjectAgents)
    }
}

/// The id of the acknowledgement that a subscription asks for.
const ASKED: u64 = 0;

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub clients: usize,
    pub changes: u32,
    pub alone: Part,
    pub together: Vec<Part>,
}

/// What became of one frontend's clients.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    pub frontend: Frontend,
    /// Clients that were told everything, and the end.
    pub right: usize,
    /// Frames that spoke of another frontend's job.
    pub foreign: usize,
    /// From the commit to the client, of each change that a client was told.
    pub latency: Latency,
}

pub async fn run(programs: &Programs, args: Args) -> anyhow::Result<Outcome> {
    ensure!(args.clients > 0 && args.rate > 0 && args.seconds > 0, "every number is at least 1");
    ensure_room_for(args.clients * Frontend::ALL.len())?;
    let progress = Progress::new("frontends");
    let environment = vec![("JOBCAST__AUTH__JWT_SECRET".to_owned(), SECRET.to_owned())];
    let server = Server::start_serving(programs, environment).await?;
    let mut settings = Config::defaults().auth;
    settings.jwt_secret = SECRET.into();
    let (kind, ttl) = (Kind::Access, TimeDelta::hours(1));
    let token = sign(&NewToken { subject: OWNER, scopes: None, kind, ttl }, &settings)?;
    let alone = together(&server, &[Frontend::LabelPrinter], &token, args, &progress).await?;
    let [alone] = <[Part; 1]>::try_from(alone).ok().context("one frontend has one outcome")?;
    let together = together(&server, &Frontend::ALL, &token, args, &progress).await?;
    Ok(Outcome { clients: args.clients, changes: args.rate * args.seconds, alone, together })
}

/// Some frontends at the same time.
async fn together(
    server: &Server,
    frontends: &[Frontend],
    token: &str,
    args: Args,
    progress: &Progress,
) -> anyhow::Result<Vec<Part>> {
    let changes = args.rate * args.seconds;
    let inside = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let (mut jobs, mut crowds) = (Vec::new(), Vec::new());
    for frontend in frontends {
        let begun = server.control.begin(*frontend, changes).await?;
        let (address, path) = (server.address(), frontend.path(&begun, token));
        let greeting = frontend.greeting(&begun, token);
        let mut crowd = JoinSet::new();
        for _ in 0..args.clients {
            let page = Page {
                frontend: *frontend,
                address,
                path: path.clone(),
                greeting: greeting.clone(),
                inside: inside.clone(),
                ended: ended.clone(),
            };
            crowd.spawn(page.live());
        }
        jobs.push(begun);
        crowds.push(crowd);
    }
    let all = args.clients * frontends.len();
    reach("pages that follow their job", &inside, all, ENTRY, progress).await;
    ensure!(inside.load(Relaxed) == all, "{} of {all} pages follow their job", inside.load(Relaxed));

    progress.begin("changes of each job", changes.into());
    let mut publishers = JoinSet::new();
    for (frontend, begun) in frontends.iter().zip(jobs) {
        let (control, frontend) = (server.control.clone(), *frontend);
        publishers.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / args.rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut committed = Vec::with_capacity(changes as usize);
            for n in 0..changes {
                ticks.tick().await;
                let step = Step { frontend, begun: begun.clone(), n, ends: false };
                committed.push(control.step(&step).await?.committed);
            }
            control.step(&Step { frontend, begun, n: changes, ends: true }).await?;
            anyhow::Ok((frontend, committed))
        });
    }
    let mut committed = Vec::new();
    while let Some(published) = publishers.join_next().await {
        committed.push(published??);
        progress.at(changes.into());
    }
    reach("pages that know of the end", &ended, all, QUIET, progress).await;

    let mut parts = Vec::new();
    for (frontend, mut crowd) in frontends.iter().zip(crowds) {
        let at = committed.iter().find(|(of, _)| of == frontend).map(|(_, at)| &at[..]).unwrap_or_default();
        let (mut right, mut foreign, mut latencies) = (0, 0, Vec::new());
        // Who has not ended by now does not.
        let _ = timeout(QUIET, async {
            while let Some(seen) = crowd.join_next().await {
                let Ok(Some(seen)) = seen else { continue };
                right += usize::from(seen.is_right(*frontend, changes));
                foreign += seen.foreign;
                let told = seen.arrivals.iter();
                latencies.extend(told.filter_map(|(n, now)| Some(now.saturating_sub(*at.get(*n as usize)?))));
            }
        })
        .await;
        crowd.abort_all();
        parts.push(Part { frontend: *frontend, right, foreign, latency: Latency::over(latencies) });
    }
    Ok(parts)
}

async fn reach(what: &'static str, count: &AtomicUsize, all: usize, within: Duration, progress: &Progress) {
    progress.begin(what, all as u64);
    let (mut last, mut since) = (0, Instant::now());
    while last < all && since.elapsed() < within {
        sleep(LOOK).await;
        let now = count.load(Relaxed);
        progress.at(now as u64);
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// A page of a frontend.
struct Page {
    frontend: Frontend,
    address: SocketAddr,
    path: String,
    greeting: Option<String>,
    inside: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

/// What a page was told.
#[derive(Debug, Default)]
struct Seen {
    /// The number of each change and when it was first told.
    arrivals: Vec<(u32, u64)>,
    told: BTreeSet<u32>,
    foreign: usize,
    ended: bool,
}

impl Seen {
    fn is_right(&self, frontend: Frontend, changes: u32) -> bool {
        let all =
            if frontend.tells_all() { self.told.len() == changes as usize } else { !self.told.is_empty() };
        self.ended && self.foreign == 0 && all
    }

    fn take(&mut self, frontend: Frontend, frame: &str) {
        let now = wire::now();
        for (n, of) in marks(frame) {
            if of != frontend.title() {
                self.foreign += 1;
            } else if self.told.insert(n) {
                self.arrivals.push((n, now));
            }
        }
    }
}

impl Page {
    /// Follows its job to the end; `None` when the connection broke before.
    async fn live(self) -> Option<Seen> {
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let url = format!("ws://{}{}", self.address, self.path);
        let (mut socket, _) = client_async(url, stream).await.ok()?;
        let is_socketio = self.frontend.is_socketio();
        if !is_socketio {
            self.greet(&mut socket).await?;
        }
        let (mut seen, mut is_in) = (Seen::default(), false);
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(frame) = message else { continue };
            match frame.as_str() {
                "2" if is_socketio => socket.send(Message::text("3")).await.ok()?,
                opening if is_socketio && opening.starts_with('0') => {
                    socket.send(Message::text("40")).await.ok()?;
                }
                connected if is_socketio && connected.starts_with("40") => self.greet(&mut socket).await?,
                frame => {
                    if !is_in && self.frontend.is_in(frame) {
                        is_in = true;
                        self.inside.fetch_add(1, Relaxed);
                    }
                    seen.take(self.frontend, frame);
                    if self.frontend.is_end(frame) {
                        seen.ended = true;
                        self.ended.fetch_add(1, Relaxed);
                        return Some(seen);
                    }
                }
            }
        }
        Some(seen)
    }

    async fn greet(&self, socket: &mut WebSocketStream<TcpStream>) -> Option<()> {
        match &self.greeting {
            Some(greeting) => socket.send(Message::text(greeting.as_str())).await.ok(),
            None => Some(()),
        }
    }
}

/// The sentence by which a change is known again.
pub fn mark(frontend: Frontend, n: u32) -> String {
    format!("change <{n} of {}>", frontend.title())
}

/// The changes that a frame tells of, and whose they are.
fn marks(frame: &str) -> impl Iterator<Item = (u32, &str)> {
    frame.split("change <").skip(1).filter_map(|rest| {
        let (mark, _) = rest.split_once('>')?;
        let (n, of) = mark.split_once(" of ")?;
        Some((n.parse().ok()?, of))
    })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = self.clients;
        writeln!(f, "{clients} clients of each frontend, {} changes of each job", self.changes)?;
        writeln!(f, "  alone:    {}", self.alone.line(clients))?;
        for (place, part) in self.together.iter().enumerate() {
            let end = if place + 1 < self.together.len() { "\n" } else { "" };
            write!(f, "  together: {}{end}", part.line(clients))?;
        }
        Ok(())
    }
}

impl Part {
    fn line(&self, clients: usize) -> String {
        let Part { frontend, right, foreign, latency } = self;
        format!(
            "{:<16} {right} of {clients} right, {foreign} frames of others; commit to client: {latency}",
            frontend.title()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_found_in_frames_with_whose_they_are() {
        let frame =
            json!([mark(Frontend::NovelTool, 7), { "log": mark(Frontend::DomainScraper, 12) }]).to_string();
        assert_eq!(marks(&frame).collect::<Vec<_>>(), [(7, "novel tool"), (12, "domain scraper")]);
        assert_eq!(marks("change <x of y> change <1").count(), 0);
    }

    #[test]
    fn a_page_is_right_that_was_told_all_that_its_frontend_tells_and_nothing_of_others() {
        let told = |changes: &[u32], of: Frontend| {
            let mut seen = Seen { ended: true, ..Seen::default() };
            changes.iter().for_each(|n| seen.take(Frontend::LabelPrinter, &mark(of, *n)));
            seen
        };
        let own = Frontend::LabelPrinter;
        assert!(told(&[0, 1, 1, 2], own).is_right(own, 3));
        assert!(!told(&[0, 2], own).is_right(own, 3), "one is missing");
        assert!(told(&[0, 2], own).is_right(Frontend::NovelTool, 3), "it is shown how things stand");
        assert!(!told(&[0, 1, 2], Frontend::NovelTool).is_right(own, 3));
        assert!(!Seen { ended: false, ..told(&[0, 1, 2], own) }.is_right(own, 3));
    }
}
