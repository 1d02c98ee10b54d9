//! Golden conversations with the dialects: each is run against the pure translation, and over a real socket.
//!
//! `tests/transcripts/<dialect>/*.txt` is one conversation a file, one step a line:
//!
//! | line | what happens |
//! |---|---|
//! | `# text` | nothing |
//! | `job {…}` | the job of the conversation is made; the dialect below says what the object means |
//! | `open` | a client connects and follows the job; the one before it is gone |
//! | `open {…}` | the same over Socket.IO, with this as the handshake's `auth` |
//! | `open unknown` | a client connects that follows a job that does not exist (over a real socket only) |
//! | `> text` | the client says something |
//! | `< text` | the client is told something |
//! | `close 1000` | the server closes the connection with this code |
//! | `! job:updated {…}` | an event of the catalogue happens to the job |
//! | `~ job:progress {…}` | progress is told that is not journaled |
//! | `! run`, `! complete {results}`, `! fail why`, `! cancel`, `! pause`, `! resume` | a command to the job |
//! | `! advance 5 Reading` | its worker tells how far it is, and the step |
//!
//! What is told is compared as JSON if it is JSON. In it `"{job}"` is the job's id, and `"{time}"`, `"{number}"`, `"{id}"`
//! and `"{any}"` are a time, a number, a UUID and anything. What is said may hold `{job}` too, and where the dialect has
//! them `{n}`, the job's number, and `{token}`, `{foreign}` and `{expired}`: a token of its owner, of somebody else, and
//! one that is over. A dialect of Socket.IO writes an event as an array of its name and its arguments, without the offset
//! behind them. Where it is told a refusal (`["error", …]`), a conversation is run over a socket only.
//!
//! A dialect that shows how things stand may show it more often than the conversation says; what lies between two of its
//! lines is passed over.

use std::{
    collections::VecDeque,
    fs,
    marker::PhantomData,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use chrono::DateTime;
use futures_util::{SinkExt as _, StreamExt as _};
use jobcast::{
    config::Config,
    dialects::{
        domain_scraper::{self, board::Board},
        novel_tool, plain,
        project_agents::socket::{self, Known, ProjectAgents, Standing},
        transcript_queue,
    },
    event::{Event, JobType, Kind, Timestamp},
    job::{ANONYMOUS, Command, Failure, Job, JobId, JobView, Plan},
    realtime::{
        feed::News,
        projector::{Projection, Told},
        websocket::Dialect,
    },
    store::{Addresses, Blobs, Change, JobRecord, NewJob, NewWork, Recorded, Slot, Transient, WorkRecord},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use uuid::Uuid;

use crate::{
    novels::token,
    raw_client::{self, RawClient},
    support::{Running, folder, soon},
    workers::taking_tokens,
};

/// What a dialect says of itself for its conversations.
trait Frontend {
    type Dialect: Projection;
    /// Whether a client follows a job by a word of its own, rather than by connecting.
    const JOINS: bool = false;
    /// The folder of its conversations.
    const NAME: &'static str;
    /// Whether it shows how things stand, rather than telling what happens.
    const SHOWS: bool;

    fn dialect() -> Self::Dialect;
    /// What a client is told at once that says something.
    fn answer(text: &str) -> Option<String>;
    /// A message as the conversation writes it.
    fn frame(text: &str) -> String {
        text.to_owned()
    }
    /// What [`Projection::open`] would read: of the object behind `job`, the job as it stands, and all its events.
    fn state(given: &Value, job: &Job, events: &[Arc<Recorded>]) -> <Self::Dialect as Projection>::State;
    /// What [`Projection::gather`] would read, of what it read when the client came.
    fn gather(_: &mut <Self::Dialect as Projection>::State, _: &Value, _: &Job, _: &[Arc<Recorded>]) {}
    /// Where a client follows a job.
    fn path(job: JobId) -> String;
    /// Makes the job for the object behind `job`.
    async fn make(server: &Running, given: &Value) -> JobId;
}

struct Plain;

impl Frontend for Plain {
    type Dialect = plain::Plain;
    const NAME: &'static str = "plain";
    const SHOWS: bool = false;

    fn answer(text: &str) -> Option<String> {
        Self::dialect().answer(text).map(|answer| answer.to_string())
    }

    fn dialect() -> plain::Plain {
        plain::Plain { addresses: addresses() }
    }

    fn state(_: &Value, job: &Job, events: &[Arc<Recorded>]) -> plain::Standing {
        plain::Standing { seq: events.len() as i32, status: job.status }
    }

    fn path(job: JobId) -> String {
        format!("/v1/jobs/{job}/socket")
    }

    async fn make(server: &Running, given: &Value) -> JobId {
        let name = given["name"].as_str().unwrap_or("test");
        let new = NewJob::unplanned(JobId(Uuid::now_v7()), JobType::Automation, name);
        let id = new.id;
        server.store().create(new).await.unwrap();
        id
    }
}

struct Queue;

/// A job's row, as its events made it.
fn work_of(kind: &str, input: Value, job: &Job, events: &[Arc<Recorded>]) -> WorkRecord {
    let mut view = JobView::default();
    for event in events {
        let kind = Kind::from_wire_name(&event.kind).unwrap();
        view.apply(&Event::decode(kind, event.payload.get()).unwrap());
    }
    let at = events[0].at;
    let record = JobRecord {
        job: job.clone(),
        owner: ANONYMOUS.into(),
        slot: Slot::None,
        retry_of: None,
        schedule_id: None,
        config: None,
        kind: Some(kind.into()),
        number: Some(1),
        last_seq: events.len() as i32,
        error: view.error,
        results: None,
        created_at: at,
        updated_at: at,
        started_at: job.has_begun().then_some(at),
        ended_at: job.status.is_ended().then_some(at),
    };
    WorkRecord {
        record,
        kind: kind.into(),
        number: Some(1),
        input,
        document: view.document,
        attempt: 0,
        max_attempts: 3,
        retries: 0,
        worker: None,
        message: None,
        heartbeat_at: None,
        last_error: None,
    }
}

impl Frontend for Queue {
    type Dialect = transcript_queue::Transcripts;
    const NAME: &'static str = "transcript_queue";
    const SHOWS: bool = true;

    fn answer(text: &str) -> Option<String> {
        Self::dialect().answer(text).map(|answer| answer.to_string())
    }

    fn dialect() -> transcript_queue::Transcripts {
        transcript_queue::Transcripts
    }

    fn state(_: &Value, _: &Job, _: &[Arc<Recorded>]) -> transcript_queue::Changes {
        transcript_queue::Changes::default()
    }

    fn gather(state: &mut transcript_queue::Changes, given: &Value, job: &Job, events: &[Arc<Recorded>]) {
        let input = json!({ "transcript_file": given["file"] });
        let work = work_of(transcript_queue::KIND, input, job, events);
        state.change(transcript_queue::Change { is_new: false, is_changed: true, work });
        state.count(&[(job.status, 1)].into());
    }

    fn path(_: JobId) -> String {
        "/api/ws/jobs".into()
    }

    /// The object is `{name, file}`.
    async fn make(server: &Running, given: &Value) -> JobId {
        let mut new = NewWork::new(transcript_queue::KIND, given["name"].as_str().unwrap());
        new.input.insert("transcript_file".into(), given["file"].clone());
        server.store().submit_work(new, None).await.unwrap().job
    }
}

struct Agents;

impl Frontend for Agents {
    type Dialect = ProjectAgents;
    const NAME: &'static str = "project_agents";
    const SHOWS: bool = false;

    fn answer(text: &str) -> Option<String> {
        Self::dialect().answer(text).map(|answer| answer.to_string())
    }

    fn dialect() -> ProjectAgents {
        ProjectAgents
    }

    fn state(given: &Value, job: &Job, events: &[Arc<Recorded>]) -> socket::Project {
        let known = match given["generate"] == false {
            true => Known { id: job.id.0, runs: 0, seq: 0, standing: Standing::PENDING },
            false => {
                let standing = Standing::of(job.status, job.progress);
                Known { id: job.id.0, runs: 1, seq: events.len() as i32, standing }
            }
        };
        socket::Project { name: job.id.to_string(), known: Some(known), turn: None }
    }

    fn path(job: JobId) -> String {
        format!("/api/ws/projects/{job}")
    }

    /// The object is `{name, generate?}`. The first run's job has the project's id.
    async fn make(server: &Running, given: &Value) -> JobId {
        let (_, project) = server.post("/api/projects", &serde_json::json!({ "name": given["name"] })).await;
        let id = project["id"].as_str().unwrap();
        if given["generate"] != false {
            server.post(&format!("/api/projects/{id}/generate"), &serde_json::json!({})).await;
        }
        id.parse().unwrap()
    }
}

struct Scraper;

impl Frontend for Scraper {
    type Dialect = domain_scraper::Scraper;
    const NAME: &'static str = "domain_scraper";
    const SHOWS: bool = true;

    fn answer(text: &str) -> Option<String> {
        Self::dialect().answer(text).map(|answer| answer.to_string())
    }

    fn dialect() -> domain_scraper::Scraper {
        domain_scraper::Scraper
    }

    /// The object is what the job was asked: `{domains, sequential?}`.
    fn state(given: &Value, job: &Job, events: &[Arc<Recorded>]) -> Board {
        let mut board = Board::new(job.id, serde_json::from_value(given.clone()).unwrap());
        events.iter().for_each(|event| board.take(event));
        board
    }

    fn path(job: JobId) -> String {
        format!("/ws/job/{job}")
    }

    async fn make(server: &Running, given: &Value) -> JobId {
        let companies = serde_json::from_value(given.clone()).unwrap();
        let new = NewJob::on_companies(JobId(Uuid::now_v7()), companies).unwrap();
        let id = new.id;
        server.store().create(new).await.unwrap();
        id
    }
}

#[tokio::test]
async fn conversations_go_as_they_are_written() {
    let mut config = taking_tokens();
    config.auth.leeway = Duration::ZERO;
    let server = Running::start(config).await;
    run_all::<Plain>(&server).await;
    run_all::<Queue>(&server).await;
    run_all::<Scraper>(&server).await;
    run_all::<Agents>(&server).await;
    run_over_socketio::<LabelPrinter>(&server).await;
    run_pure::<Novel>().await;
    run_over_socketio::<Novel>(&server).await;
    server.stop().await;
}

/// What a dialect of Socket.IO says of itself for its conversations.
trait SocketFrontend {
    /// The folder of its conversations.
    const NAME: &'static str;
    const SHOWS: bool = false;

    /// Whether a client of the dialect listens for an event.
    fn hears(_: &str) -> bool {
        true
    }

    /// Makes the job for the object behind `job`.
    async fn make(server: &Running, given: &Value) -> JobId;
}

struct LabelPrinter;

impl SocketFrontend for LabelPrinter {
    const NAME: &'static str = "label_printer";

    async fn make(server: &Running, given: &Value) -> JobId {
        Plain::make(server, given).await
    }
}

struct Novel;

impl Novel {
    const OWNER: &str = "7";

    fn input(given: &Value) -> Value {
        json!({
            "original_filename": given["name"],
            "model": "gemini-2.5-flash",
            "pricing_rate": 1.0,
            "estimated_tokens": 900,
            "estimated_credits": 2,
            "processing_settings": { "sentence_length_limit": 6 },
        })
    }
}

impl Frontend for Novel {
    type Dialect = novel_tool::Novels;
    const JOINS: bool = true;
    const NAME: &'static str = "novel_tool";
    const SHOWS: bool = true;

    fn dialect() -> novel_tool::Novels {
        static BLOBS: LazyLock<(Blobs, tempfile::TempDir)> = LazyLock::new(|| {
            let (folder, base) = (folder(), "http://127.0.0.1/".parse().unwrap());
            (Blobs::open(&Config::defaults().objects, folder.path(), &base).unwrap(), folder)
        });
        novel_tool::Novels::new(BLOBS.0.clone())
    }

    fn answer(_: &str) -> Option<String> {
        None
    }

    fn frame(text: &str) -> String {
        format!("[\"job_progress\",{text}]")
    }

    fn state(given: &Value, job: &Job, events: &[Arc<Recorded>]) -> novel_tool::Known {
        let mut work = work_of(novel_tool::KIND, Novel::input(given), job, events);
        work.record.owner = Novel::OWNER.into();
        novel_tool::Known { work, sentences: serde_json::Map::new() }
    }

    fn gather(state: &mut novel_tool::Known, given: &Value, job: &Job, events: &[Arc<Recorded>]) {
        *state = Novel::state(given, job, events);
    }

    fn path(_: JobId) -> String {
        "/socket.io/".into()
    }

    async fn make(server: &Running, given: &Value) -> JobId {
        <Novel as SocketFrontend>::make(server, given).await
    }
}

impl SocketFrontend for Novel {
    const NAME: &'static str = "novel_tool";
    const SHOWS: bool = true;

    fn hears(name: &str) -> bool {
        matches!(name, "job_progress" | "error")
    }

    /// The object is `{name}`.
    async fn make(server: &Running, given: &Value) -> JobId {
        let mut new = NewWork::new(novel_tool::KIND, given["name"].as_str().unwrap());
        new.owner = Novel::OWNER.into();
        new.input = Novel::input(given).as_object().unwrap().clone();
        server.store().submit_work(new, None).await.unwrap().job
    }
}

async fn run_over_socketio<F: SocketFrontend>(server: &Running) {
    let conversations = read(F::NAME);
    assert!(!conversations.is_empty(), "{} has no conversations", F::NAME);
    for conversation in conversations {
        let mut talk = OverSocketIo::<F> { server, job: None, client: None, of: PhantomData };
        conversation.run("over Socket.IO", &mut talk, F::SHOWS).await;
    }
}

async fn run_pure<F: Frontend>() {
    let is_refused = |step: &Step| match step {
        Step::Open { known, .. } => !known,
        Step::Hear(text) => text.starts_with("[\"error\""),
        _ => false,
    };
    for conversation in read(F::NAME) {
        if !conversation.steps.iter().any(|(_, step)| is_refused(step)) {
            let mut pure = Pure::<F>::default();
            conversation.run("pure", &mut pure, F::SHOWS).await;
        }
    }
}

async fn run_all<F: Frontend<Dialect: Dialect>>(server: &Running) {
    run_pure::<F>().await;
    run_real::<F>(server).await;
}

/// What was spoken over raw WebSockets.
async fn run_real<F: Frontend<Dialect: Dialect>>(server: &Running) -> Vec<Spoken> {
    let conversations = read(F::NAME);
    assert!(!conversations.is_empty(), "{} has no conversations", F::NAME);
    let mut spoken = Vec::new();
    for conversation in conversations {
        let mut real = Real::<F> {
            server,
            job: None,
            path: String::new(),
            socket: None,
            spoken: Vec::new(),
            of: PhantomData,
        };
        conversation.run("over a socket", &mut real, F::SHOWS).await;
        spoken.extend(real.spoken);
    }
    spoken
}

/// A message over a raw WebSocket of a running server.
#[derive(Clone, Debug, Serialize)]
pub struct Spoken {
    /// Where the socket was opened.
    pub path: String,
    /// `server` or `client`.
    pub by: &'static str,
    pub text: String,
}

/// All that is spoken in the conversations over raw WebSockets.
pub async fn all_spoken(server: &Running) -> Vec<Spoken> {
    let mut spoken = run_real::<Plain>(server).await;
    spoken.extend(run_real::<Queue>(server).await);
    spoken.extend(run_real::<Scraper>(server).await);
    spoken.extend(run_real::<Agents>(server).await);
    spoken
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Job(Value),
    Open { known: bool, auth: Option<Value> },
    Say(String),
    Hear(String),
    Close(u16),
    Event(Event),
    Progress(Event),
    Command(Command, Option<Value>),
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Text(String),
    Close(u16),
}

/// A run of a conversation.
trait Talk {
    async fn make(&mut self, given: &Value);
    async fn open(&mut self, known: bool, auth: Option<&Value>);
    async fn say(&mut self, text: String);
    async fn happen(&mut self, step: Step);
    /// What the client is told next; `None` when there can be nothing more.
    async fn hear(&mut self) -> Option<Heard>;
    fn job(&self) -> Option<JobId>;
    /// What stands in braces in what is said.
    async fn words(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

struct Conversation {
    name: String,
    /// With the numbers of their lines.
    steps: Vec<(usize, Step)>,
}

fn read(dialect: &str) -> Vec<Conversation> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(dialect);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = format!("{dialect}/{}", path.file_name().unwrap().to_string_lossy());
            let text = fs::read_to_string(path).unwrap();
            let lines =
                (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
            let steps = lines.map(|(at, line)| {
                (at, step(line).unwrap_or_else(|why| panic!("{name}:{at} cannot be read: {why}")))
            });
            Conversation { steps: steps.collect(), name }
        })
        .collect()
}

fn step(line: &str) -> Result<Step, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{text}: {error}"));
    let event = |rest: &str| {
        let (name, payload) = rest.split_once(' ').ok_or("an event has a payload")?;
        let kind = Kind::from_wire_name(name).ok_or(format!("there is no event {name}"))?;
        Event::decode(kind, payload).map_err(|error| format!("{name}: {error}"))
    };
    Ok(match (word, rest) {
        ("job", given) => Step::Job(json(given)?),
        ("open", "") => Step::Open { known: true, auth: None },
        ("open", "unknown") => Step::Open { known: false, auth: None },
        ("open", auth) => Step::Open { known: true, auth: Some(json(auth)?) },
        (">", text) => Step::Say(text.to_owned()),
        ("<", text) => Step::Hear(text.to_owned()),
        ("close", code) => Step::Close(code.parse().map_err(|_| "a code is a number")?),
        ("~", rest) => Step::Progress(event(rest)?),
        ("!", rest) => match rest.split_once(' ').unwrap_or((rest, "")) {
            ("run", "") => Step::Command(Command::Run, None),
            ("complete", results) => Step::Command(Command::Complete, Some(json(results)?)),
            ("fail", why) => {
                let failure = Failure { error: why.to_owned(), phase: None };
                Step::Command(Command::Fail { failure }, None)
            }
            ("cancel", "") => Step::Command(Command::Cancel, None),
            ("pause", "") => Step::Command(Command::Pause, None),
            ("resume", "") => Step::Command(Command::Resume, None),
            ("advance", told) => {
                let (progress, step) = told.split_once(' ').ok_or("how far, and the step")?;
                let progress = Some(progress.parse().map_err(|_| "how far is a number")?);
                let step = Some(step.to_owned());
                Step::Command(Command::Advance { progress, step, message: None }, None)
            }
            _ => Step::Event(event(rest)?),
        },
        _ => return Err("there is no such step".into()),
    })
}

impl Conversation {
    async fn run(&self, how: &str, talk: &mut impl Talk, shows: bool) {
        for (at, step) in &self.steps {
            let place = format!("{}:{at} {how}", self.name);
            match step {
                Step::Job(given) => talk.make(given).await,
                Step::Open { known, auth } => {
                    let words = talk.words().await;
                    let filled = auth.as_ref().map(|auth| fill(&auth.to_string(), &words).parse().unwrap());
                    talk.open(*known, filled.as_ref()).await;
                }
                Step::Say(text) => {
                    let job = talk.job().map(|job| job.to_string()).unwrap_or_default();
                    let text = fill(text, &talk.words().await);
                    talk.say(text.replace("{job}", &job)).await;
                }
                Step::Hear(wanted) => {
                    let job = talk.job().map(|job| job.to_string()).unwrap_or_default();
                    let mut passed = Vec::new();
                    loop {
                        match soon(&place, talk.hear()).await {
                            Some(Heard::Text(text)) if is_as(wanted, &text, &job) => break,
                            Some(Heard::Text(text)) if shows => passed.push(text),
                            other => {
                                panic!("{place}: wanted {wanted}\nheard {other:?}\npassed over {passed:#?}")
                            }
                        }
                    }
                }
                Step::Close(code) => loop {
                    match soon(&place, talk.hear()).await {
                        Some(Heard::Close(heard)) if heard == *code => break,
                        Some(Heard::Text(_)) if shows => {}
                        other => panic!("{place}: wanted the end, heard {other:?}"),
                    }
                },
                other => talk.happen(other.clone()).await,
            }
        }
    }
}

fn fill(text: &str, words: &[(&str, String)]) -> String {
    words.iter().fold(text.to_owned(), |text, (name, word)| text.replace(name, word))
}

/// Whether what was heard is what was wanted.
fn is_as(wanted: &str, heard: &str, job: &str) -> bool {
    match (serde_json::from_str(wanted), serde_json::from_str(heard)) {
        (Ok(wanted), Ok(heard)) => fits(&wanted, &heard, job),
        _ => wanted == heard,
    }
}

fn fits(wanted: &Value, heard: &Value, job: &str) -> bool {
    match (wanted, heard) {
        (Value::String(wanted), heard) if wanted == "{any}" || wanted == heard => true,
        (Value::String(wanted), Value::Number(_)) => wanted == "{number}",
        (Value::String(wanted), Value::String(heard)) => match wanted.as_str() {
            text if text.contains("{job}") => *heard == text.replace("{job}", job),
            "{id}" => Uuid::try_parse(heard).is_ok(),
            // With a zone or without, or the time of day alone.
            "{time}" => {
                heard.len() >= 8 && heard.contains(':') && heard.starts_with(|c: char| c.is_ascii_digit())
            }
            _ => false,
        },
        (Value::Array(wanted), Value::Array(heard)) => {
            wanted.len() == heard.len()
                && wanted.iter().zip(heard).all(|(wanted, heard)| fits(wanted, heard, job))
        }
        (Value::Object(wanted), Value::Object(heard)) => {
            wanted.len() == heard.len()
                && wanted
                    .iter()
                    .all(|(key, wanted)| heard.get(key).is_some_and(|heard| fits(wanted, heard, job)))
        }
        (wanted, heard) => wanted == heard,
    }
}

/// The translation alone: no server, no clock.
struct Pure<F: Frontend> {
    given: Value,
    job: Option<Job>,
    events: Vec<Arc<Recorded>>,
    state: Option<<F::Dialect as Projection>::State>,
    waiting: VecDeque<Heard>,
}

impl<F: Frontend> Default for Pure<F> {
    fn default() -> Self {
        Pure { given: Value::Null, job: None, events: Vec::new(), state: None, waiting: VecDeque::new() }
    }
}

impl<F: Frontend> Pure<F> {
    fn told(&mut self, told: Told) {
        let texts = told.frames.into_iter().map(|frame| Heard::Text(F::frame(&frame.text)));
        self.waiting.extend(texts);
        self.waiting.extend(told.close.map(|close| Heard::Close(close.code)));
    }

    fn follow(&mut self) {
        let state = F::state(&self.given, self.job.as_ref().unwrap(), &self.events);
        let mut told = Told::default();
        F::dialect().greet(&state, &mut told);
        self.state = Some(state);
        self.told(told);
    }

    fn record(&mut self, events: Vec<Event>) {
        let job = self.job.as_ref().unwrap().id;
        let at: Timestamp = DateTime::UNIX_EPOCH + chrono::Duration::seconds(self.events.len() as i64);
        let first = self.events.len() as i32 + 1;
        let recorded: Vec<Arc<Recorded>> = events
            .iter()
            .zip(first..)
            .map(|(event, seq)| {
                let (kind, payload) = (event.name(), event.encode(Some(job), at));
                Arc::new(Recorded { position: seq.into(), job, seq, kind, payload, at, owner: None })
            })
            .collect();
        self.events.extend(recorded.clone());
        self.tell(News { events: recorded, progress: Vec::new() });
    }

    fn tell(&mut self, news: News) {
        if let Some(state) = &mut self.state {
            if !news.events.is_empty() {
                F::gather(state, &self.given, self.job.as_ref().unwrap(), &self.events);
            }
            let mut told = Told::default();
            F::dialect().tell(state, &news, &mut told);
            self.told(told);
        }
    }
}

impl<F: Frontend> Talk for Pure<F> {
    async fn make(&mut self, given: &Value) {
        self.given = given.clone();
        let name = given["name"].as_str().unwrap_or("test").to_owned();
        let mut job = Job::new(JobId(Uuid::now_v7()), JobType::Automation, name, Plan::default(), 0);
        let created = job.decide(Command::Create).unwrap();
        self.job = Some(job);
        self.record(created.events);
    }

    async fn open(&mut self, _: bool, _: Option<&Value>) {
        self.waiting.clear();
        self.state = None;
        if !F::JOINS {
            self.follow();
        }
    }

    async fn say(&mut self, text: String) {
        match text.split('"').nth(1).filter(|_| F::JOINS) {
            Some("join_job") => self.follow(),
            Some("leave_job") => self.state = None,
            _ => self.waiting.extend(F::answer(&text).map(Heard::Text)),
        }
    }

    async fn happen(&mut self, step: Step) {
        match step {
            Step::Event(event) => self.record(vec![event]),
            Step::Progress(event) => {
                let job = self.job.as_ref().unwrap().id;
                let payload = event.encode(Some(job), DateTime::UNIX_EPOCH);
                let progress = vec![Arc::new(Transient {
                    job: Some(job),
                    owner: None,
                    kind: event.kind().unwrap(),
                    payload,
                })];
                self.tell(News { events: Vec::new(), progress });
            }
            Step::Command(command, results) => {
                let decision = self.job.as_mut().unwrap().decide(command).unwrap();
                let mut events = decision.events;
                if decision.completes {
                    events.push(jobcast::job::completed(results.unwrap(), 1));
                }
                self.record(events);
            }
            other => panic!("{other:?} is no happening"),
        }
    }

    async fn hear(&mut self) -> Option<Heard> {
        self.waiting.pop_front()
    }

    fn job(&self) -> Option<JobId> {
        self.job.as_ref().map(|job| job.id)
    }
}

/// A client of a running server.
struct Real<'a, F> {
    server: &'a Running,
    job: Option<JobId>,
    path: String,
    socket: Option<WebSocketStream<TcpStream>>,
    spoken: Vec<Spoken>,
    of: PhantomData<F>,
}

impl<F> Real<'_, F> {
    fn note(&mut self, by: &'static str, text: &str) {
        self.spoken.push(Spoken { path: self.path.clone(), by, text: text.to_owned() });
    }
}

impl<F: Frontend> Talk for Real<'_, F> {
    async fn make(&mut self, given: &Value) {
        self.job = Some(F::make(self.server, given).await);
    }

    async fn open(&mut self, known: bool, _: Option<&Value>) {
        let job = if known { self.job.unwrap() } else { JobId(Uuid::now_v7()) };
        self.path = F::path(job);
        self.socket = Some(connect(self.server, &self.path).await);
    }

    async fn say(&mut self, text: String) {
        self.note("client", &text);
        self.socket.as_mut().unwrap().send(Message::text(text)).await.unwrap();
    }

    async fn happen(&mut self, step: Step) {
        happen(self.server, self.job.unwrap(), step).await;
    }

    async fn hear(&mut self) -> Option<Heard> {
        loop {
            return Some(match self.socket.as_mut().unwrap().next().await?.ok()? {
                Message::Text(text) => {
                    self.note("server", &text);
                    Heard::Text(text.to_string())
                }
                Message::Close(frame) => Heard::Close(frame.map_or(1005, |frame| frame.code.into())),
                _ => continue,
            });
        }
    }

    fn job(&self) -> Option<JobId> {
        self.job
    }
}

/// A client of a running server over Socket.IO.
struct OverSocketIo<'a, F> {
    server: &'a Running,
    job: Option<JobId>,
    client: Option<RawClient>,
    of: PhantomData<F>,
}

impl<F: SocketFrontend> Talk for OverSocketIo<'_, F> {
    async fn make(&mut self, given: &Value) {
        self.job = Some(F::make(self.server, given).await);
    }

    async fn open(&mut self, _: bool, auth: Option<&Value>) {
        let base = &self.server.base;
        self.client = Some(match auth {
            Some(auth) => RawClient::come_back(base, auth).await,
            None => RawClient::connect(base).await,
        });
    }

    async fn say(&mut self, text: String) {
        self.client.as_mut().unwrap().send(format!("42{text}")).await;
    }

    async fn happen(&mut self, step: Step) {
        happen(self.server, self.job.unwrap(), step).await;
    }

    async fn hear(&mut self) -> Option<Heard> {
        loop {
            let told = self.client.as_mut().unwrap().next().await?;
            let is_journaled = told.position() > 0;
            return match told {
                raw_client::Told::Event { name, .. } if !F::hears(&name) => continue,
                raw_client::Told::Event { name, mut arguments } => {
                    if is_journaled {
                        arguments.pop();
                    }
                    arguments.insert(0, name.into());
                    Some(Heard::Text(Value::from(arguments).to_string()))
                }
                raw_client::Told::Ack { answer, .. } => Some(Heard::Text(answer.to_string())),
            };
        }
    }

    async fn words(&self) -> Vec<(&'static str, String)> {
        let Some(job) = self.job else { return Vec::new() };
        let number = self.server.store().job(job).await.unwrap().number;
        vec![
            ("{n}", number.unwrap_or_default().to_string()),
            ("{token}", token(Novel::OWNER, "access", 600)),
            ("{foreign}", token("8", "access", 600)),
            ("{expired}", token(Novel::OWNER, "access", -60)),
        ]
    }

    fn job(&self) -> Option<JobId> {
        self.job
    }
}

/// Something happens to a job of a running server.
async fn happen(server: &Running, job: JobId, step: Step) {
    let store = server.store();
    match step {
        // Of a worker's job: the row's document changes with it.
        Step::Event(Event::JobPatched(patched)) => {
            let patch = patched.patch.0.as_object().unwrap().clone();
            store.patch_work(job, patch).await.unwrap();
        }
        Step::Event(event) => drop(store.append(job, vec![event]).await.unwrap()),
        Step::Progress(event) => store.tell(job, event),
        Step::Command(command, results) => {
            let change = Change { commands: vec![command], results, ..Change::default() };
            store.change(job, None, change).await.unwrap();
        }
        other => panic!("{other:?} is no happening"),
    }
}

/// A raw WebSocket to a running server.
pub async fn connect(server: &Running, path: &str) -> WebSocketStream<TcpStream> {
    let mut url = server.url(path);
    url.set_scheme("ws").unwrap();
    let stream = TcpStream::connect(&*server.base.socket_addrs(|| None).unwrap()).await.unwrap();
    soon("the upgrade", client_async(url.as_str(), stream)).await.unwrap().0
}

/// As of a server whose addresses are not signed.
fn addresses() -> Addresses {
    let base = "http://127.0.0.1/".parse().unwrap();
    Addresses::open(&Config::defaults().objects, &std::env::temp_dir(), &base).unwrap()
}
