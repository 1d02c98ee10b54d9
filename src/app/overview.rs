//! Many jobs at once in the terminal: a line for each, and bars that move while they run.

use std::{
    collections::HashMap,
    env,
    io::{self, Write},
    time::Duration,
};

use chrono::Utc;
use console::{Term, measure_text_width, style, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    client::{self, ClientError, Remote},
    follow::{clean, clock},
};
use crate::{
    event::Timestamp,
    job::{JobId, Status},
};

/// Cells of a line's bar.
const BAR: usize = 12;
/// Characters of a status.
const STATUS: usize = 14;
/// Between two looks at the list.
const LOOK: Duration = Duration::from_secs(1);
/// How long a server may be away while jobs are watched.
const PATIENCE: u32 = 60;
/// Jobs that are watched at once: as many as one answer of the server has.
const WATCHED: u32 = 500;

/// A job of the list, as much of it as a line shows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub id: JobId,
    pub name: String,
    pub status: String,
    pub progress: u8,
    #[serde(default)]
    pub step: Option<String>,
    #[serde(default)]
    pub queue_position: Option<i64>,
    #[serde(default)]
    pub error: Option<String>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}

impl Listed {
    fn status(&self) -> Option<Status> {
        Status::from_word(&self.status)
    }

    fn is_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// How long it has been at work, or how long it was; since its acceptance while it waits.
    fn time(&self, now: Timestamp) -> Duration {
        let from = self.started_at.unwrap_or(self.created_at);
        (self.ended_at.unwrap_or(now) - from).to_std().unwrap_or_default()
    }

    /// What a person wants to know beside its bar.
    fn words(&self) -> String {
        match (&self.error, &self.step, self.queue_position) {
            (Some(error), ..) => clean(error),
            (None, _, Some(place)) => format!("{place}. in its owner's queue"),
            (None, Some(step), None) if !self.is_ended() => clean(step),
            _ => String::new(),
        }
    }
}

/// A page of the list, as `GET /v1/jobs` answers it.
#[derive(Deserialize)]
pub struct List {
    pub jobs: Vec<Listed>,
    pub total: u64,
}

/// Writes one line a job.
pub fn print(out: &mut dyn Write, base: &Remote, jobs: &[Listed], wide: usize) -> io::Result<()> {
    let now = Utc::now();
    for job in jobs {
        let line = format!(
            "{}  {}  {}  {:>3} %  {:>7}  {}",
            job.id,
            painted(job, format!("{:<STATUS$}", clean(&job.status))),
            bar(job.progress),
            job.progress,
            clock(job.time(now)),
            clean(&job.name),
        );
        let words = job.words();
        let line = if words.is_empty() { line } else { format!("{line}: {words}") };
        writeln!(out, "{}", truncate_str(&line, wide.max(1), "…"))?;
    }
    if let [job] = jobs {
        writeln!(out, "\n{}", link(base, job.id))?;
    }
    out.flush()
}

/// Where a person sees a job.
pub fn link(base: &Remote, job: JobId) -> String {
    format!("{}/#/jobs/{job}", client::shown(base))
}

fn bar(percent: u8) -> String {
    let full = usize::from(percent.min(100)) * BAR / 100;
    format!("{}{}", "━".repeat(full), "─".repeat(BAR - full))
}

fn painted(job: &Listed, text: String) -> String {
    let text = style(text);
    match job.status() {
        Some(Status::Completed) => text.green(),
        Some(Status::Failed) => text.red(),
        Some(Status::Cancelled | Status::Paused) => text.yellow(),
        Some(Status::Pending) => text.dim(),
        _ => text.cyan(),
    }
    .to_string()
}

/// Shows the jobs that have not ended, and what becomes of them, until nobody looks any more. With `json` each change
/// of a job is a line.
///
/// # Errors
/// The server said no, or stayed away for a minute; or nobody reads the output any more.
pub async fn watch(base: &Remote, json: bool) -> anyhow::Result<()> {
    let term = Term::stdout();
    let can_move = term.features().is_attended() && env::var_os("TERM").is_some_and(|term| term != "dumb");
    let mut face = match json {
        true => Face::Json,
        false if can_move => Face::Bars(Box::new(Bars::new(term))),
        false => Face::Plain,
    };
    let mut known: HashMap<JobId, (String, u8)> = HashMap::new();
    let mut first = true;
    let mut away = 0;
    loop {
        match client::jobs(base, &[("limit", WATCHED.to_string())]).await {
            Ok(answer) => {
                away = 0;
                let List { jobs, .. } = List::deserialize(&answer)?;
                let raw = answer["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
                for (job, raw) in jobs.iter().zip(raw) {
                    let is_new = known
                        .get(&job.id)
                        .is_none_or(|(status, progress)| *status != job.status || *progress != job.progress);
                    // What had ended before anybody looked is for `jobcast jobs`.
                    if is_new && !(job.is_ended() && first) {
                        face.tell(base, job, raw)?;
                    }
                    known.insert(job.id, (job.status.clone(), job.progress));
                }
                known.retain(|id, _| jobs.iter().any(|job| job.id == *id));
                face.show(base, &jobs, first)?;
                first = false;
            }
            Err(error) if error.may_pass() && away < PATIENCE => {
                away += 1;
                face.note(&error)?;
            }
            Err(error) => return Err(error.into()),
        }
        sleep(LOOK).await;
    }
}

/// Where the jobs are shown.
enum Face {
    Bars(Box<Bars>),
    Plain,
    Json,
}

impl Face {
    /// A job has changed.
    fn tell(&self, base: &Remote, job: &Listed, raw: &Value) -> io::Result<()> {
        match self {
            Face::Json => {
                let mut out = io::stdout().lock();
                writeln!(out, "{raw}")?;
                out.flush()
            }
            Face::Plain => print(&mut io::stdout().lock(), base, std::slice::from_ref(job), usize::MAX),
            Face::Bars(bars) if job.is_ended() => bars.end(base, job),
            Face::Bars(_) => Ok(()),
        }
    }

    /// All jobs as they are now.
    fn show(&mut self, base: &Remote, jobs: &[Listed], first: bool) -> io::Result<()> {
        match self {
            Face::Bars(bars) => {
                bars.show(jobs);
                Ok(())
            }
            Face::Plain if first && jobs.iter().all(Listed::is_ended) => {
                writeln!(
                    io::stdout(),
                    "No job runs on {}; `jobcast jobs` lists those that have ended.",
                    client::shown(base)
                )
            }
            _ => Ok(()),
        }
    }

    fn note(&self, error: &ClientError) -> io::Result<()> {
        match self {
            Face::Bars(bars) => {
                bars.foot.set_message(format!("{error} (trying again)"));
                Ok(())
            }
            Face::Plain | Face::Json => writeln!(io::stderr(), "{error} (trying again)"),
        }
    }
}

/// A bar for each job that has not ended; those that end scroll away above.
struct Bars {
    term: Term,
    all: MultiProgress,
    bars: HashMap<JobId, ProgressBar>,
    foot: ProgressBar,
}

impl Bars {
    fn new(term: Term) -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let foot = all.add(ProgressBar::new(1));
        foot.set_style(look("  {wide_msg:.dim}"));
        Bars { term, all, bars: HashMap::new(), foot }
    }

    fn show(&mut self, jobs: &[Listed]) {
        let (rows, columns) = self.term.size();
        let room = usize::from(rows).saturating_sub(3).max(1);
        let mut running: Vec<&Listed> = jobs.iter().filter(|job| !job.is_ended()).collect();
        // What is at work before what waits, however many have come since.
        running.sort_by_key(|job| (job.started_at.is_none(), job.created_at));
        let at_work = running.iter().filter(|job| job.started_at.is_some()).count();
        let waiting = running.len() - at_work;
        self.bars.retain(|id, bar| {
            let stays = running.iter().take(room).any(|job| job.id == *id);
            if !stays {
                self.all.remove(bar);
            }
            stays
        });
        let now = Utc::now();
        for job in running.iter().take(room) {
            let bar = self.bars.entry(job.id).or_insert_with(|| {
                let bar = self.all.insert_before(&self.foot, ProgressBar::new(100));
                bar.set_style(look("  {prefix} {bar:20.cyan/dim} {pos:>3} %  {wide_msg}"));
                bar
            });
            let name = truncate_str(&clean(&job.name), usize::from(columns) / 3, "…").into_owned();
            let pad = (usize::from(columns) / 3).saturating_sub(measure_text_width(&name));
            bar.set_prefix(format!("{name}{}", " ".repeat(pad)));
            bar.set_position(job.progress.into());
            let words = [clock(job.time(now)), clean(&job.status), job.words()];
            bar.set_message(words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  "));
        }
        let more = running.len().saturating_sub(room);
        self.foot.set_message(match (running.len(), more) {
            (0, _) => "no job runs; this goes on watching, Ctrl-C ends it".to_owned(),
            (_, 0) => format!("{at_work} at work, {waiting} waiting"),
            (_, more) => format!("{at_work} at work, {waiting} waiting; {more} more than fit here"),
        });
    }

    fn end(&self, base: &Remote, job: &Listed) -> io::Result<()> {
        let status = painted(job, format!("{:<STATUS$}", clean(&job.status)));
        let words = job.words();
        let what = if words.is_empty() { clean(&job.name) } else { format!("{}: {words}", clean(&job.name)) };
        self.all.println(format!("{status}  {what}  {}", style(link(base, job.id)).underlined()))
    }
}

fn look(template: &str) -> ProgressStyle {
    let look = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    look.progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use url::Url;

    use super::*;

    fn listed(more: Value) -> Value {
        let mut job = json!({
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "name": "Screws", "status": "processing-ocr", "progress": 50,
            "owner": "anonymous", "createdAt": "2026-01-01T00:00:00.000Z", "startedAt": "2026-01-01T00:00:10.000Z",
            "endedAt": "2026-01-01T00:01:15.000Z",
        });
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        job
    }

    fn printed(jobs: &[Value], wide: usize) -> String {
        let List { jobs, .. } = List::deserialize(json!({ "jobs": jobs, "total": 2 })).unwrap();
        let mut out = Vec::new();
        let base = Url::parse("http://user:secret@127.0.0.1:3001/").unwrap().into();
        print(&mut out, &base, &jobs, wide).unwrap();
        console::strip_ansi_codes(&String::from_utf8(out).unwrap()).into_owned()
    }

    #[test]
    fn a_line_tells_how_far_a_job_is_for_how_long_and_what_is_wrong() {
        let failed = listed(json!({ "status": "failed", "error": "no\u{1b}[31m room", "name": "Nails\n" }));
        assert_eq!(
            printed(&[listed(json!({})), failed], 200),
            "01890a5d-ac96-774b-bcce-b302099a8057  processing-ocr  ━━━━━━──────   50 %     1:05  Screws\n\
             01890a5d-ac96-774b-bcce-b302099a8057  failed          ━━━━━━──────   50 %     1:05  Nails : no [31m room\n"
        );
    }

    #[test]
    fn a_single_job_has_its_link_and_a_line_fits_the_terminal() {
        let one = printed(&[listed(json!({ "name": "x".repeat(300) }))], 80);
        let lines: Vec<&str> = one.lines().collect();
        assert_eq!(lines[0].chars().count(), 80);
        assert_eq!(lines[2], "http://127.0.0.1:3001/#/jobs/01890a5d-ac96-774b-bcce-b302099a8057");
    }
}
