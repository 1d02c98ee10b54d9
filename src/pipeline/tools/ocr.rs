//! Reads the text of a picture with Tesseract, each word with its place and how sure Tesseract is of it.
//!
//! Tesseract starts four threads of its own per picture and they mostly wait for each other: with
//! [`REQUIRED_ENV`] a picture takes a small part of the time. It is read once, before `main`, so setting it inside
//! the running process is too late: `main` calls [`ensure_required_env`] first.

use std::env;
use std::ffi::CStr;
use std::io::{self, Cursor};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fast_image_resize::Resizer;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use leptess::tesseract::TessApi;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The environment variable, and its value, without which every picture takes several times as long.
pub const REQUIRED_ENV: (&str, &str) = ("OMP_THREAD_LIMIT", "1");

/// The longest that [`OcrEngine::read`] waits, the queue included.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest side, in pixels, that a picture may have.
const LARGEST_SIDE: u32 = 20_000;
/// The most memory that a picture may take unpacked.
const LARGEST_PICTURE: u64 = 256 << 20;

/// How Tesseract takes the page apart: 3 is fully automatic.
const LAYOUT: &CStr = c"3";
/// What Tesseract is told of the picture's resolution, in pixels per inch; it would guess otherwise.
const RESOLUTION: i32 = 150;

/// Why a picture was not read.
#[derive(Debug, thiserror::Error)]
pub enum OcrError {
    #[error("Tesseract's data for {0} is missing; run `apt-get install {packages}`", packages = packages(.0))]
    MissingLanguage(String),
    #[error("languages are written like `deu+eng`, not `{0}`")]
    BadLanguages(String),
    #[error("no thread for Tesseract: {0}")]
    Thread(#[from] io::Error),
    #[error("this is no picture that can be read: {0}")]
    BadPicture(String),
    #[error("Tesseract did not finish within {} s; the picture is too large or too busy", READ_TIMEOUT.as_secs())]
    Timeout,
    #[error("Tesseract failed on this picture: {0}")]
    Failed(String),
}

impl OcrError {
    /// Whether the same picture may well be read a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, OcrError::Timeout)
    }
}

fn packages(languages: &str) -> String {
    let package = |language: &str| format!("tesseract-ocr-{}", language.replace('_', "-"));
    languages.split('+').map(package).collect::<Vec<_>>().join(" ")
}

/// The text of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct OcrText {
    /// The words as they were read, one line of the picture per line.
    pub text: String,
    /// In reading order.
    pub words: Vec<Word>,
    /// 0 to 100: the mean over `words`, 0 without any.
    pub confidence: f32,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
}

/// One word and its box in pixels of the picture as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub text: String,
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
    /// 0 to 100.
    pub confidence: f32,
    /// Words with the same number stand on the same line; counted from 0 in reading order.
    pub line: u32,
}

/// Tesseract on threads of its own.
pub struct OcrEngine {
    queue: mpsc::Sender<Job>,
}

struct Job {
    png: Bytes,
    reply: oneshot::Sender<Result<OcrText, OcrError>>,
}

impl OcrEngine {
    /// Starts `threads` readers, each with its own copy of the languages' models (`deu+eng`: some 60 MB), and returns
    /// when all are ready, which takes a moment: call it outside the runtime or with `spawn_blocking`.
    pub fn new(languages: &str, threads: usize) -> Result<OcrEngine, OcrError> {
        if languages.is_empty()
            || !languages.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '+'))
        {
            return Err(OcrError::BadLanguages(languages.into()));
        }
        if env::var(REQUIRED_ENV.0).as_deref() != Ok(REQUIRED_ENV.1) {
            let (name, value) = REQUIRED_ENV;
            tracing::warn!(
                "{name} is not {value} in the environment: reading a picture takes several times as long"
            );
        }
        let threads = threads.max(1);
        let (queue, jobs) = mpsc::channel(threads * 2);
        let jobs = Arc::new(Mutex::new(jobs));
        let ready: Vec<_> = (0..threads)
            .map(|_| {
                let (report, ready) = std::sync::mpsc::channel();
                let (jobs, languages) = (jobs.clone(), languages.to_owned());
                thread::Builder::new().name("ocr".into()).spawn(move || work(&languages, &jobs, &report))?;
                Ok(ready)
            })
            .collect::<Result<_, io::Error>>()?;
        for ready in ready {
            ready.recv().unwrap_or_else(|_| Err(OcrError::Failed("a thread died at its start".into())))?;
        }
        Ok(OcrEngine { queue })
    }

    /// Reads a picture; waits while all threads are busy. When it gives up, the thread does not: Tesseract cannot be
    /// interrupted, so it finishes the picture first and only then takes the next.
    pub async fn read(&self, png: Bytes) -> Result<OcrText, OcrError> {
        let (reply, answer) = oneshot::channel();
        let reading = async {
            let gone = || OcrError::Failed("its threads are gone".into());
            self.queue.send(Job { png, reply }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        timeout(READ_TIMEOUT, reading).await.unwrap_or(Err(OcrError::Timeout))
    }
}

/// Starts this program anew, in the same process, if [`REQUIRED_ENV`] is not set as it must be. Call it first in
/// `main`: whatever was opened or started before is lost. Returns only if nothing had to be done or could be.
pub fn ensure_required_env() -> io::Result<()> {
    let (name, value) = REQUIRED_ENV;
    if env::var(name).as_deref() == Ok(value) {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let called = arguments.next().unwrap_or_else(|| "jobcast".into());
    Err(Command::new(env::current_exe()?).arg0(called).args(arguments).env(name, value).exec())
}

/// The life of one thread: load the models, then read what comes until nobody can ask any more.
fn work(
    languages: &str,
    jobs: &Mutex<mpsc::Receiver<Job>>,
    report: &std::sync::mpsc::Sender<Result<(), OcrError>>,
) {
    let mut tesseract = match start(languages) {
        Ok(tesseract) => tesseract,
        Err(error) => return drop(report.send(Err(error))),
    };
    let _ = report.send(Ok(()));
    loop {
        // Held while waiting: the others queue for the lock instead of for the job, which is the same.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(Job { png, reply }) = job else { return };
        if reply.is_closed() {
            continue;
        }
        let read = catch_unwind(AssertUnwindSafe(|| read(&mut tesseract, &png))).unwrap_or_else(|_| {
            // Who knows what state it is in.
            tesseract = start(languages)?;
            Err(OcrError::Failed("it panicked".into()))
        });
        let _ = reply.send(read);
    }
}

fn start(languages: &str) -> Result<TessApi, OcrError> {
    let mut tesseract = TessApi::new(None, languages).map_err(|_| {
        let missing: Vec<_> = languages.split('+').filter(|one| TessApi::new(None, one).is_err()).collect();
        OcrError::MissingLanguage(missing.join("+"))
    })?;
    for (name, value) in [(c"tessedit_pageseg_mode", LAYOUT), (c"debug_file", c"/dev/null")] {
        tesseract
            .raw
            .set_variable(name, value)
            .map_err(|_| OcrError::Failed(format!("it knows no {name:?}")))?;
    }
    Ok(tesseract)
}

fn read(tesseract: &mut TessApi, png: &[u8]) -> Result<OcrText, OcrError> {
    let unreadable = |error: &dyn std::error::Error| OcrError::BadPicture(error.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_PICTURE);
    reader.limits(limits);
    let picture = DynamicImage::ImageLuma8(reader.decode().map_err(|e| unreadable(&e))?.into_luma8());
    let (width, height) = (picture.width(), picture.height());

    let zoom: f64 = std::env::var("ZOOM").map_or(1.0, |z| z.parse().unwrap());
    let scaled = |side: u32| (f64::from(side) * zoom).round() as u32;
    let mut page = DynamicImage::new(scaled(width), scaled(height), picture.color());
    Resizer::new().resize(&picture, &mut page, None).map_err(|e| unreadable(&e))?;
    let failed = |reason: &str| OcrError::Failed(reason.into());
    tesseract
        .raw
        .set_image(page.as_bytes(), page.width() as i32, page.height() as i32, 1, page.width() as i32)
        .map_err(|error| failed(&error.to_string()))?;
    tesseract.set_source_resolution(RESOLUTION);
    if tesseract.recognize() != 0 {
        return Err(failed("it gave up"));
    }
    let table = tesseract.get_tsv_text(0).map_err(|_| failed("its answer is no UTF-8"))?;
    Ok(understand(&table, zoom, width, height))
}

/// Reads Tesseract's table, one element of the page per row: level, page, block, paragraph, line, word, left, top,
/// width, height, confidence and text; level 5 is a word.
fn understand(table: &str, zoom: f64, width: u32, height: u32) -> OcrText {
    let (mut words, mut text) = (Vec::<Word>::new(), String::new());
    let (mut line, mut place) = (0, None);
    for row in table.lines() {
        let cells: Vec<&str> = row.splitn(12, '\t').collect();
        let [level, _, block, paragraph, row, _, left, top, wide, high, confidence, word] = cells[..] else {
            continue;
        };
        let (Ok(confidence), word) = (confidence.parse::<f32>(), word.trim()) else { continue };
        if level != "5" || word.is_empty() || confidence < 0.0 {
            continue;
        }
        let here = Some((block.to_owned(), paragraph.to_owned(), row.to_owned()));
        if !words.is_empty() {
            let same = here == place;
            line += u32::from(!same);
            text.push(if same { ' ' } else { '\n' });
        }
        place = here;
        text.push_str(word);
        let pixels = |cell: &str| (cell.parse::<f64>().unwrap_or_default() / zoom).round() as u32;
        words.push(Word {
            text: word.to_owned(),
            left: pixels(left),
            top: pixels(top),
            width: pixels(wide),
            height: pixels(high),
            confidence: confidence.min(100.0),
            line,
        });
    }
    let confidence = words.iter().map(|word| word.confidence).sum::<f32>() / words.len().max(1) as f32;
    OcrText { text, words, confidence, width, height }
}
