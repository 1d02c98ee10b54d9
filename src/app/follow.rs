//! Shows a job in the terminal while it runs: bars for people, lines for logs, JSON for programs.

use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    time::Duration,
};

use console::{Term, style, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    client::{self, Follower, News, Remote, Told},
    overview::link,
};
use crate::{
    event::{Event, LogLevel, MatchType, OcrData, Severity},
    job::{JobId, JobView, Phase, Status},
};

/// Names of screenshots and readings that are remembered, so that later lines can tell which product they mean.
const MAX_NAMES: usize = 10_000;
/// Characters of a stranger's text that are shown.
const MAX_TEXT: usize = 300;
/// Columns of a line's first word.
const WORD: usize = 14;
/// Labels whose addresses the summary shows.
const SHOWN_LABELS: usize = 5;

/// How a job is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bars at a terminal, else plain.
    Auto,
    /// One line for each event that is kept, without control codes.
    Plain,
    /// One JSON object a line: `{"event", "seq"?, "data"}`.
    Json,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The server's address.
    pub base: Remote,
    pub job: JobId,
    /// The job as all its events tell it.
    pub view: JobView,
    /// From the job's acceptance to its end.
    pub took: Option<Duration>,
}

impl Outcome {
    /// 0 when the job completed, 1 when it failed, 2 when it was cancelled.
    pub fn exit_code(&self) -> u8 {
        match self.view.status {
            Some(Status::Completed) => 0,
            Some(Status::Cancelled) => 2,
            _ => 1,
        }
    }

    /// Where the job can be looked up.
    fn address(&self) -> String {
        format!("{}/v1/jobs/{}", client::shown(&self.base), self.job)
    }

    fn heading(&self) -> String {
        let name = self.view.name.as_deref().map(clean).unwrap_or_default();
        match (self.view.status, &self.view.error) {
            (Some(Status::Completed), _) => format!("Completed: {name}"),
            (Some(Status::Cancelled), _) => format!("Cancelled: {name}"),
            (_, Some(error)) => format!("Failed: {name}: {}", clean(error)),
            (_, None) => format!("Failed: {name}"),
        }
    }

    fn table(&self) -> Vec<(&'static str, String)> {
        let view = &self.view;
        let with = |count: usize, failed: u32| match failed {
            0 => count.to_string(),
            _ => format!("{count} ({failed} failed)"),
        };
        let mut rows = vec![
            ("products", view.screenshots.to_string()),
            ("read", with(view.read as usize, view.unread)),
            ("matched", view.matched.to_string()),
            ("not matched", view.unmatched.to_string()),
            ("labels", with(view.labels.len(), view.labels_failed)),
        ];
        rows.extend(self.took.map(|took| ("time", clock(took))));
        rows.push(("page", link(&self.base, self.job)));
        rows.push(("job", self.address()));
        let names = std::iter::once("pictures").chain(std::iter::repeat(""));
        rows.extend(names.zip(view.labels.iter().take(SHOWN_LABELS).map(|address| clean(address))));
        if let Some(more) = view.labels.len().checked_sub(SHOWN_LABELS).filter(|more| *more > 0) {
            rows.push(("", format!("… and {more} more: {}/events", self.address())));
        }
        rows
    }
}

/// Follows a job of the server at `base` to its end and shows it on standard output.
///
/// # Errors
/// The server has no such job or stayed away for a minute; or nobody reads the output any more.
pub async fn follow(base: &Remote, job: JobId, style: Style) -> anyhow::Result<Outcome> {
    let mut screen = Screen::new(style);
    let mut follower = Follower::new(base.clone(), job);
    while let Some(news) = follower.next().await? {
        match news {
            News::Note(text) => screen.note(&text)?,
            News::Told(told) => screen.apply(&told, follower.view())?,
        }
    }
    let view = follower.view().clone();
    let outcome = Outcome { base: base.clone(), job, view, took: follower.took() };
    screen.finish(&outcome)?;
    Ok(outcome)
}

/// Where one job is shown.
pub struct Screen {
    face: Face,
    teller: Teller,
}

enum Face {
    Bars(Box<Bars>),
    Plain(Box<dyn Write + Send>),
    /// Events, and notes that must not stand between them.
    Json(Box<dyn Write + Send>, Box<dyn Write + Send>),
}

impl Screen {
    /// Standard output in this style. Colours are left out when `NO_COLOR` is set.
    pub fn new(style: Style) -> Screen {
        let term = Term::stdout();
        let can_move =
            term.features().is_attended() && env::var_os("TERM").is_some_and(|term| term != "dumb");
        let face = match style {
            Style::Auto if can_move => Face::Bars(Box::new(Bars::new(term))),
            Style::Auto | Style::Plain => Face::Plain(Box::new(io::stdout())),
            Style::Json => Face::Json(Box::new(io::stdout()), Box::new(io::stderr())),
        };
        Screen { face, teller: Teller::default() }
    }

    /// Says something that is no event, such as where the server listens or that the connection broke.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let line = Line::new(Tone::Note, "note", clean(text));
        match &mut self.face {
            Face::Bars(bars) => bars.print(&line),
            Face::Plain(out) => line.write(out),
            Face::Json(_, notes) => line.write(notes),
        }
    }

    /// Shows an event and the job as it is after it.
    pub fn apply(&mut self, told: &Told, view: &JobView) -> io::Result<()> {
        if let Face::Json(out, _) = &mut self.face {
            return write_json(out, told);
        }
        let line = self.teller.tell(told);
        match &mut self.face {
            Face::Bars(bars) => {
                bars.update(view);
                match line.filter(|line| line.tone != Tone::Quiet) {
                    Some(line) => bars.print(&line),
                    None => Ok(()),
                }
            }
            // Progress is skipped on slow connections: without it a log is the same each time.
            Face::Plain(out) => {
                line.filter(|_| told.seq.is_some() || is_notice(told)).map_or(Ok(()), |l| l.write(out))
            }
            Face::Json(..) => Ok(()),
        }
    }

    /// Shows the summary. JSON has none: its last line is the event that ended the job.
    pub fn finish(&mut self, outcome: &Outcome) -> io::Result<()> {
        let heading = outcome.heading();
        match &mut self.face {
            Face::Bars(bars) => bars.finish(outcome.exit_code(), &heading, &outcome.table()),
            Face::Plain(out) => {
                writeln!(out, "\n{heading}\n")?;
                for (name, value) in outcome.table() {
                    writeln!(out, "  {name:<13}{value}")?;
                }
                out.flush()
            }
            Face::Json(..) => Ok(()),
        }
    }
}

fn is_notice(told: &Told) -> bool {
    matches!(told.event, Some(Event::SystemNotification(_)))
}

fn write_json(out: &mut dyn Write, told: &Told) -> io::Result<()> {
    #[derive(Serialize)]
    struct Entry<'a> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u32>,
        data: &'a RawValue,
    }
    let entry = serde_json::to_string(&Entry { event: &told.name, seq: told.seq, data: &told.payload })?;
    // JSON holds line breaks only between its tokens.
    writeln!(out, "{}", entry.replace(['\n', '\r'], " "))?;
    out.flush()
}

/// What a line is to the one who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    /// The bars show it already.
    Quiet,
    Good,
    /// Something was skipped or failed; the job goes on.
    Warning,
    Note,
}

/// A line of the log: a word, what it is about, and perhaps an address, which is never cut.
struct Line {
    tone: Tone,
    word: String,
    text: String,
    address: Option<String>,
}

impl Line {
    fn new(tone: Tone, word: impl Into<String>, text: String) -> Line {
        Line { tone, word: word.into(), text, address: None }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let address = self.address.as_deref().unwrap_or_default();
        let line = format!("{:<WORD$}  {}  {address}", self.word, self.text);
        writeln!(out, "{}", line.trim_end())?;
        out.flush()
    }

    /// With colours, cut to the terminal's width.
    fn paint(&self, width: usize) -> String {
        let text = truncate_str(&self.text, width.saturating_sub(WORD + 3), "…");
        let word = style(format!("{:<WORD$}", self.word));
        let line = match self.tone {
            Tone::Quiet => format!("{}  {text}", word.dim()),
            Tone::Good => format!("{}  {text}", word.green()),
            Tone::Warning => format!("{}  {}", word.yellow(), style(text).yellow()),
            Tone::Note => format!("{}  {text}", word.cyan()),
        };
        match &self.address {
            Some(address) => format!("{line}  {}", style(address).underlined()),
            None => line,
        }
    }
}

/// Puts events into words.
#[derive(Default)]
struct Teller {
    /// Product names and numbers by the screenshot or reading that later events speak of.
    names: HashMap<Uuid, String>,
    /// The last item's error: the job's own event repeats it.
    last_error: Option<String>,
}

impl Teller {
    /// The line for an event; `None` for progress.
    fn tell(&mut self, told: &Told) -> Option<Line> {
        use Tone::*;
        let Some(event) = &told.event else {
            // A worker's own event, or one of a later version.
            return Some(Line::new(Quiet, clean(&told.name), clean(told.payload.get())));
        };
        let line = match event {
            Event::JobProgress(_) | Event::OcrProgress(_) | Event::CompanyProgress(_) => return None,
            Event::JobCreated(e) => Line::new(Quiet, "created", clean(&e.name)),
            Event::JobUpdated(e) => {
                let percent = e.progress.map(|progress| format!("{progress} %")).unwrap_or_default();
                match &e.message {
                    None => Line::new(Quiet, clean(&e.status), percent),
                    Some(message) if count(message).is_none() && phase(&e.status).is_some() => {
                        let repeated = self.last_error.take().is_some_and(|error| message.contains(&error));
                        Line::new(if repeated { Quiet } else { Warning }, "skipped", clean(message))
                    }
                    Some(message) => {
                        let text = format!("{percent}  {}", clean(message));
                        Line::new(Quiet, clean(&e.status), text.trim_start().to_owned())
                    }
                }
            }
            Event::JobCompleted(e) => {
                Line::new(Quiet, "completed", format!("in {}", clock(Duration::from_millis(e.duration))))
            }
            Event::JobFailed(e) => {
                let word = if e.cancelled == Some(true) { "cancelled" } else { "failed" };
                let stage = e.stage.as_deref().map(|stage| format!("{}: ", clean(stage))).unwrap_or_default();
                Line::new(Quiet, word, format!("{stage}{}", clean(&e.error)))
            }
            Event::ScreenshotCaptured(e) => {
                let name = clean(e.product_name.as_deref().unwrap_or(&e.product_url));
                self.remember(e.screenshot_id, &name);
                Line::new(Good, "screenshot", name)
            }
            Event::ScreenshotUploaded(e) => Line::new(Quiet, "uploaded", self.name(e.screenshot_id)),
            Event::OcrStarted(e) => Line::new(Quiet, "reading", self.name(e.screenshot_id)),
            Event::OcrCompleted(e) => {
                let name = e.data.product_name.as_deref().map_or_else(|| self.name(e.screenshot_id), clean);
                self.remember(e.ocr_result_id, &name);
                Line::new(Good, "read", read(&e.data, &name))
            }
            Event::OcrFailed(e) => {
                self.last_error = Some(e.error.clone());
                Line::new(Warning, "not read", about(&self.name(e.screenshot_id), &e.error))
            }
            Event::MatchFound(e) => {
                let how = match e.match_type {
                    MatchType::Exact => "exact".to_owned(),
                    MatchType::Fuzzy => format!("fuzzy, {:.0} %", e.confidence * 100.0),
                };
                Line::new(Good, "matched", format!("{}  {how}", clean(&e.article_number)))
            }
            Event::MatchFailed(e) => {
                let name = e.article_number.as_deref().map_or_else(|| self.name(e.ocr_result_id), clean);
                self.last_error = Some(e.reason.clone());
                Line::new(Warning, "not matched", about(&name, &e.reason))
            }
            Event::LabelGenerated(e) => Line {
                address: Some(clean(&e.image_url)),
                ..Line::new(Good, "label", clean(&e.article_number))
            },
            Event::LabelFailed(e) => {
                self.last_error = Some(e.error.clone());
                Line::new(
                    Warning,
                    "no label",
                    about(&clean(e.article_number.as_deref().unwrap_or("")), &e.error),
                )
            }
            Event::JobLog(e) => {
                let tone =
                    if matches!(e.level, LogLevel::Warning | LogLevel::Error) { Warning } else { Quiet };
                Line::new(tone, "log", clean(&e.message))
            }
            Event::ArtifactStored(e) => Line::new(Quiet, "stored", about(&clean(&e.name), &e.url)),
            Event::JobPatched(e) => Line::new(Quiet, "patched", clean(&e.patch.0.to_string())),
            Event::Free(e) => Line::new(Quiet, clean(&e.name), String::new()),
            Event::CompanyStarted(e) => Line::new(Quiet, "looking up", clean(&e.domain)),
            Event::CompanyFound(e) => {
                let name = e.profile.0["company_information"]["name"].as_str().unwrap_or_default();
                Line::new(Good, "company", format!("{}  {}", clean(&e.domain), clean(name)))
            }
            Event::CompanyFailed(e) => {
                self.last_error = Some(e.reason.clone());
                Line::new(Warning, "no company", about(&clean(&e.domain), &e.reason))
            }
            Event::SystemNotification(e) => {
                let tone =
                    if matches!(e.r#type, Severity::Warning | Severity::Error) { Warning } else { Note };
                Line::new(tone, "server", clean(&e.message))
            }
        };
        Some(line)
    }

    fn remember(&mut self, id: Uuid, name: &str) {
        if self.names.len() < MAX_NAMES {
            self.names.insert(id, name.to_owned());
        }
    }

    fn name(&self, id: Uuid) -> String {
        self.names.get(&id).cloned().unwrap_or_default()
    }
}

/// `12,90 € (conf. 91 %)  SD-10023  Spanplattenschraube 4×40`
fn read(data: &OcrData, name: &str) -> String {
    let price = data.price.map(|price| format!("{price:.2} €").replace('.', ","));
    let price = price.unwrap_or_else(|| "no price".into());
    let number = data.article_number.as_deref().map(clean).unwrap_or_default();
    let parts = [format!("{price} (conf. {:.0} %)", data.confidence), number, name.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

fn about(name: &str, why: &str) -> String {
    if name.is_empty() { clean(why) } else { format!("{name}: {}", clean(why)) }
}

/// A stranger's text as a terminal may show it: no control codes, no line breaks, no end of columns.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `8.4 s`, `2:05`, `1:02:05`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{:.1} s", time.as_secs_f64()),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The phase that a status word stands for.
fn phase(word: &str) -> Option<usize> {
    Phase::ALL.iter().position(|phase| phase.status().word() == word)
}

/// The numbers of a message such as `Processing OCR: 7/12`.
fn count(message: &str) -> Option<(u32, u32)> {
    let (_, counts) = message.rsplit_once(": ")?;
    let (settled, total) = counts.split_once('/')?;
    Some((settled.parse().ok()?, total.parse().ok()?))
}

/// How far a phase is, for its bar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    settled: u32,
    total: u32,
    words: String,
}

/// The phases' rows, from what the job's events tell and what their messages count.
#[derive(Default)]
struct Plan {
    /// The phase at work; `None` before the first. It stays when the job ends.
    at: Option<usize>,
    counted: [(u32, u32); 4],
}

impl Plan {
    fn rows(&mut self, view: &JobView) -> [Row; 4] {
        if let Some(at) = view.status.and_then(|status| phase(status.word())) {
            self.at = Some(at);
            if let Some(counted) = view.message.as_deref().and_then(count) {
                self.counted[at] = counted;
            }
        }
        let labels = u32::try_from(view.labels.len()).unwrap_or(u32::MAX);
        // Settled items, those that did not come out well with a word for it, and how many are to come.
        let told = [
            (view.screenshots, 0, "", 0),
            (view.read + view.unread, view.unread, "failed", view.screenshots),
            (view.matched + view.unmatched, view.unmatched, "not matched", view.read),
            (labels + view.labels_failed, view.labels_failed, "failed", view.matched),
        ];
        let mut row = 0..;
        told.map(|(settled, bad, word, to_come)| {
            let row = row.next().unwrap_or_default();
            let (counted, expected) = self.counted[row];
            let settled = settled.max(counted);
            let over = view.status == Some(Status::Completed) || self.at.is_some_and(|at| row < at);
            let total =
                if over { settled } else { settled.max(if expected > 0 { expected } else { to_come }) };
            let begun = over || self.at.is_some_and(|at| row <= at);
            let mut words = if begun { format!("{settled}/{total}") } else { "waiting".to_owned() };
            if bad > 0 {
                words.push_str(&format!(", {bad} {word}"));
            }
            Row { settled, total, words }
        })
    }
}

/// The face for people: a log that scrolls above bars that stay.
struct Bars {
    term: Term,
    width: usize,
    all: MultiProgress,
    title: ProgressBar,
    whole: ProgressBar,
    phases: [ProgressBar; 4],
    message: ProgressBar,
    plan: Plan,
}

impl Bars {
    fn new(term: Term) -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let add = |name: &'static str| {
            let bar = all.add(ProgressBar::new(1));
            bar.set_prefix(name);
            bar
        };
        let title = add("");
        let whole = add("Job");
        let phases = ["Crawl & capture", "OCR", "Match", "Labels"].map(add);
        let message = add("");
        whole.set_length(100);
        let mut bars = Bars { term, width: 0, all, title, whole, phases, message, plan: Plan::default() };
        bars.fit();
        bars.update(&JobView::default());
        // Time goes on when nothing else does.
        bars.whole.enable_steady_tick(Duration::from_millis(500));
        bars
    }

    /// Lays the bars out for the terminal's width, which may change.
    fn fit(&mut self) {
        let width = usize::from(self.term.size().1);
        if width == self.width {
            return;
        }
        self.width = width;
        let bar = width.saturating_sub(40).clamp(8, 40);
        let look = |template: String| {
            let look =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            look.progress_chars("━╸─")
        };
        self.title.set_style(look("{wide_msg:.bold}".into()));
        self.whole
            .set_style(look(format!("  {{prefix:15}} {{bar:{bar}.green/dim}} {{pos:>3}} %  {{elapsed}}")));
        for phase in &self.phases {
            phase.set_style(look(format!("  {{prefix:15}} {{bar:{bar}.cyan/dim}} {{wide_msg}}")));
        }
        self.message.set_style(look("  {wide_msg:.dim}".into()));
    }

    fn update(&mut self, view: &JobView) {
        self.fit();
        self.title.set_message(view.name.as_deref().map_or_else(|| "waiting for the job".to_owned(), clean));
        self.whole.set_position(view.progress.into());
        for (bar, row) in self.phases.iter().zip(self.plan.rows(view)) {
            // An empty phase that is over is full, one that is to come is not.
            let over = row.settled == row.total && row.words != "waiting";
            bar.set_length(row.total.max(1).into());
            bar.set_position(if over { row.total.max(1) } else { row.settled }.into());
            bar.set_message(row.words);
        }
        self.message.set_message(view.message.as_deref().map(clean).unwrap_or_default());
    }

    fn print(&self, line: &Line) -> io::Result<()> {
        self.all.println(line.paint(self.width))
    }

    /// The summary takes the bars' place.
    fn finish(&self, exit_code: u8, heading: &str, table: &[(&str, String)]) -> io::Result<()> {
        self.whole.disable_steady_tick();
        self.all.clear()?;
        let heading = style(heading).bold();
        let heading = if exit_code == 0 { heading.green() } else { heading.red() };
        self.term.write_line(&format!("\n{heading}\n"))?;
        for (name, value) in table {
            self.term.write_line(&format!("  {}{value}", style(format!("{name:<13}")).dim()))?;
        }
        self.term.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chrono::Utc;
    use serde_json::json;

    use super::*;
    use crate::event::{
        Anything, JobCompleted, JobCreated, JobFailed, JobProgress, JobType, JobUpdated, LabelFailed,
        LabelGenerated, MatchFailed, MatchFound, OcrCompleted, OcrFailed, OcrStarted, ScreenshotCaptured,
        SystemNotification,
    };

    const JOB: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    /// What was written so far.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn job() -> JobId {
        JOB.parse().unwrap()
    }

    fn told(event: impl Into<Event>, seq: Option<u32>) -> Told {
        let event = event.into();
        let payload = event.encode(Some(job()), Utc::now());
        Told { name: event.name().into(), seq, payload, event: Some(event) }
    }

    fn updated(status: &str, progress: u8, message: Option<&str>) -> Event {
        let message = message.map(str::to_owned);
        JobUpdated { status: status.into(), progress: Some(progress), current_stage: None, message }.into()
    }

    fn id(what: &str) -> Uuid {
        job().derive(what, "")
    }

    /// A job of two products, of which one cannot be read.
    fn whole_job() -> Vec<Event> {
        let shot = |n: &str, name: Option<&str>| ScreenshotCaptured {
            screenshot_id: id(n),
            url: "http://x/1.png".into(),
            product_url: format!("http://shop.example/{n}"),
            thumbnail_url: None,
            product_name: name.map(str::to_owned),
        };
        let data = OcrData {
            article_number: Some("SD-10023".into()),
            price: Some(12.9),
            product_name: None,
            confidence: 91.2,
        };
        vec![
            JobCreated { job_type: JobType::Automation, name: "Screws".into() }.into(),
            updated("crawling", 25, None),
            shot("s1", Some("Spanplattenschraube 4×40")).into(),
            JobProgress {
                progress: 37,
                current_step: "crawling".into(),
                current_step_progress: None,
                total_steps: None,
                message: None,
            }
            .into(),
            updated("crawling", 37, Some("Capturing product pages: 1/2")),
            shot("s2", None).into(),
            updated("processing-ocr", 50, None),
            OcrStarted { screenshot_id: id("s1") }.into(),
            OcrCompleted { screenshot_id: id("s1"), ocr_result_id: id("o1"), data }.into(),
            OcrFailed { screenshot_id: id("s2"), error: "The picture shows\nno text.".into() }.into(),
            updated("processing-ocr", 62, Some("The picture shows\nno text.")),
            updated("matching", 75, None),
            MatchFound {
                ocr_result_id: id("o1"),
                match_id: id("m1"),
                match_type: MatchType::Exact,
                confidence: 1.0,
                article_number: "SD-10023".into(),
            }
            .into(),
            updated("rendering", 90, None),
            LabelGenerated {
                label_id: id("l1"),
                image_url: "http://127.0.0.1:3001/cdn/label.png".into(),
                article_number: "SD-10023".into(),
            }
            .into(),
            JobCompleted { results: Anything(json!({})), duration: 8400 }.into(),
        ]
    }

    /// Shows events as a follower would tell them; returns the view at the end.
    fn show(screen: &mut Screen, events: &[Event]) -> JobView {
        let mut view = JobView::default();
        let mut seq = 0;
        for event in events {
            view.apply(event);
            let kept = event.class().is_journaled();
            seq += u32::from(kept);
            screen.apply(&told(event.clone(), kept.then_some(seq)), &view).unwrap();
        }
        view
    }

    fn outcome(view: JobView, took: Option<Duration>) -> Outcome {
        Outcome { base: url::Url::parse("http://127.0.0.1:3001").unwrap().into(), job: job(), view, took }
    }

    #[test]
    fn a_whole_job_in_plain_lines() {
        let paper = Paper::default();
        let mut screen = Screen { face: Face::Plain(Box::new(paper.clone())), teller: Teller::default() };
        screen.note("connected again; nothing was missed").unwrap();
        let view = show(&mut screen, &whole_job());
        screen.finish(&outcome(view, Some(Duration::from_millis(8400)))).unwrap();
        assert_eq!(
            paper.text(),
            "\
note            connected again; nothing was missed
created         Screws
crawling        25 %
screenshot      Spanplattenschraube 4×40
crawling        37 %  Capturing product pages: 1/2
screenshot      http://shop.example/s2
processing-ocr  50 %
reading         Spanplattenschraube 4×40
read            12,90 € (conf. 91 %)  SD-10023  Spanplattenschraube 4×40
not read        http://shop.example/s2: The picture shows no text.
skipped         The picture shows no text.
matching        75 %
matched         SD-10023  exact
rendering       90 %
label           SD-10023  http://127.0.0.1:3001/cdn/label.png
completed       in 8.4 s

Completed: Screws

  products     2
  read         1 (1 failed)
  matched      1
  not matched  0
  labels       1
  time         8.4 s
  page         http://127.0.0.1:3001/#/jobs/01890a5d-ac96-774b-bcce-b302099a8057
  job          http://127.0.0.1:3001/v1/jobs/01890a5d-ac96-774b-bcce-b302099a8057
  pictures     http://127.0.0.1:3001/cdn/label.png
"
        );
    }

    #[test]
    fn programs_get_one_object_a_line_and_notes_apart() {
        let (paper, notes) = (Paper::default(), Paper::default());
        let face = Face::Json(Box::new(paper.clone()), Box::new(notes.clone()));
        let mut screen = Screen { face, teller: Teller::default() };
        screen.note("the connection broke").unwrap();
        let view = show(&mut screen, &whole_job());
        // A payload that another program wrote over several lines.
        let payload = RawValue::from_string("{\n  \"a\": \"b\\nc\"\r\n}".into()).unwrap();
        screen.apply(&Told { name: "a:new".into(), seq: Some(99), payload, event: None }, &view).unwrap();
        screen.finish(&outcome(view, None)).unwrap();
        let text = paper.text();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), whole_job().len() + 1);
        assert_eq!((&lines[0]["event"], &lines[0]["seq"]), (&json!("job:created"), &json!(1)));
        assert_eq!(lines[0]["data"]["name"], "Screws");
        assert_eq!((&lines[3]["event"], lines[3].get("seq")), (&json!("job:progress"), None));
        assert_eq!(lines[4]["seq"], 4, "progress is not counted");
        assert_eq!(lines.last().unwrap(), &json!({ "event": "a:new", "seq": 99, "data": { "a": "b\nc" } }));
        assert_eq!(notes.text(), "note            the connection broke\n");
    }

    #[test]
    fn each_ending_has_its_exit_code_and_heading() {
        let ended = |event: Event| {
            let mut view = JobView { name: Some("Screws".into()), ..JobView::default() };
            view.apply(&event);
            let outcome = outcome(view, None);
            (outcome.exit_code(), outcome.heading())
        };
        let failed = |cancelled| JobFailed { error: "No products.".into(), stage: None, cancelled };
        let completed = JobCompleted { results: Anything(json!({})), duration: 1 };
        assert_eq!(ended(completed.into()), (0, "Completed: Screws".into()));
        assert_eq!(ended(failed(None).into()), (1, "Failed: Screws: No products.".into()));
        assert_eq!(ended(failed(Some(true)).into()), (2, "Cancelled: Screws".into()));
    }

    #[test]
    fn the_summary_shows_the_first_labels_and_where_the_others_are() {
        let pictures = |count: usize| {
            let labels = (0..count).map(|i| format!("http://x/{i}.png")).collect();
            let table = outcome(JobView { labels, ..JobView::default() }, None).table();
            let place = table.iter().position(|(name, _)| *name == "job").unwrap() + 1;
            table[place..].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(pictures(0).len(), 0);
        assert_eq!(pictures(5).len(), 5);
        assert_eq!(pictures(5)[4], "http://x/4.png");
        assert_eq!(pictures(8)[5], format!("… and 3 more: http://127.0.0.1:3001/v1/jobs/{JOB}/events"));
    }

    #[test]
    fn items_that_went_wrong_are_warnings_told_once() {
        let mut teller = Teller::default();
        let mut tell = |event: Event| {
            let line = teller.tell(&told(event, Some(1))).unwrap();
            (line.tone, line.word, line.text)
        };
        let reason = "No known product is like it.";
        let unmatched = MatchFailed {
            ocr_result_id: id("o1"),
            reason: reason.into(),
            article_number: Some("A-1".into()),
        };
        let warned = (Tone::Warning, "not matched".into(), format!("A-1: {reason}"));
        assert_eq!(tell(unmatched.into()), warned);
        let repeated = format!("Product A-1: {reason}");
        assert_eq!(tell(updated("matching", 80, Some(&repeated))), (Tone::Quiet, "skipped".into(), repeated));
        // A page that gave no event of its own.
        let why = "http://shop.example/7 answers 500.";
        assert_eq!(tell(updated("crawling", 30, Some(why))), (Tone::Warning, "skipped".into(), why.into()));
        let label = LabelFailed { error: "It does not fit.".into(), article_number: None };
        assert_eq!(tell(label.into()), (Tone::Warning, "no label".into(), "It does not fit.".into()));
        let notification = SystemNotification {
            r#type: Severity::Warning,
            message: "The server stops soon.".into(),
            details: None,
        };
        assert_eq!(
            tell(notification.into()),
            (Tone::Warning, "server".into(), "The server stops soon.".into())
        );
        // A job without a plan says what it likes.
        let custom = updated("running", 30, Some("half way: almost"));
        assert_eq!(tell(custom), (Tone::Quiet, "running".into(), "30 %  half way: almost".into()));
    }

    #[test]
    fn a_shops_text_cannot_steer_the_terminal() {
        let name = "Screw\u{1b}[2J\u{9b}31m\r\n".to_owned() + &"x".repeat(1000);
        let shot = ScreenshotCaptured {
            screenshot_id: id("s"),
            url: "http://x/".into(),
            product_url: "http://x/".into(),
            thumbnail_url: None,
            product_name: Some(name),
        };
        let line = Teller::default().tell(&told(shot, Some(1))).unwrap();
        assert!(!line.text.contains(char::is_control), "{:?}", line.text);
        assert_eq!(line.text.chars().count(), MAX_TEXT);
        // Its colours are ours, its width the terminal's.
        let painted = line.paint(60);
        assert!(console::measure_text_width(&painted) < 60, "{painted:?}");
        assert!(painted.ends_with('…'), "{painted:?}");
    }

    #[test]
    fn addresses_are_never_cut() {
        let address = format!("http://x/{}.png", "y".repeat(100));
        let label = LabelGenerated {
            label_id: id("l"),
            image_url: address.clone(),
            article_number: "SD-10023".into(),
        };
        let painted = Teller::default().tell(&told(label, Some(1))).unwrap().paint(60);
        assert!(console::strip_ansi_codes(&painted).ends_with(&address));
    }

    #[test]
    fn the_bars_follow_the_phases() {
        let mut plan = Plan::default();
        let mut view = JobView::default();
        let mut rows_after = |event: Event| {
            view.apply(&event);
            plan.rows(&view).map(|row| (row.settled, row.total, row.words))
        };
        let row = |settled, total, words: &str| (settled, total, words.to_owned());
        let created = JobCreated { job_type: JobType::Automation, name: "Screws".into() };
        assert_eq!(rows_after(created.into()), [0; 4].map(|none| row(none, none, "waiting")));
        let events = whole_job();
        let mut all: Vec<[(u32, u32, String); 4]> = events.into_iter().map(&mut rows_after).collect();
        assert_eq!(all[2][0], row(1, 1, "1/1"), "how many are to come is not known yet");
        assert_eq!(all[4][0], row(1, 2, "1/2"), "now it is");
        assert_eq!(all[5][1], row(0, 2, "waiting"));
        assert_eq!(all[8][..2], [row(2, 2, "2/2"), row(1, 2, "1/2")]);
        assert_eq!(all[9][1], row(2, 2, "2/2, 1 failed"));
        assert_eq!(all[11][2], row(0, 1, "0/1"));
        let end = all.pop().unwrap();
        let expected = [row(2, 2, "2/2"), row(2, 2, "2/2, 1 failed"), row(1, 1, "1/1"), row(1, 1, "1/1")];
        assert_eq!(end, expected);
    }

    #[test]
    fn times_are_written_for_people() {
        for (seconds, text) in [(8.44, "8.4 s"), (125.0, "2:05"), (3725.0, "1:02:05")] {
            assert_eq!(clock(Duration::from_secs_f64(seconds)), text);
        }
    }
}
