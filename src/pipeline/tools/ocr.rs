//! Reads the text of a picture with Tesseract, each word with its place and how sure Tesseract is of it.
//!
//! Letters of 20 to 30 pixels are read best, which is what a capture at 1.5 times the usual size has, and enlarging
//! those further cost time and fields. So pictures are read as they are, in grey, except for two kinds: a pale one is
//! stretched from black to white, and one whose letters turn out to be small is read once more at twice its size.
//!
//! Tesseract starts four threads of its own per picture and they mostly wait for each other: with
//! [`REQUIRED_ENV`] a picture takes a small part of the time. It is read once, before `main`, so setting it
//! inside the running process is too late: `main` calls [`ensure_required_env`] first.

use std::env;
use std::ffi::CStr;
use std::io::{self, Cursor};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use image::{GrayImage, ImageFormat, ImageReader, Limits, imageops};
use leptess::tesseract::TessApi;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::metrics::numbers;

/// The environment variable, and its value, without which every picture takes several times as long.
pub const REQUIRED_ENV: (&str, &str) = ("OMP_THREAD_LIMIT", "1");

/// The largest side, in pixels, that a picture may have.
const LARGEST_SIDE: u32 = 20_000;
/// The most memory that a picture may take unpacked.
const LARGEST_PICTURE: u64 = 256 << 20;

/// How Tesseract takes the page apart: 3 is fully automatic. Of the ways that find columns it lost the fewest
/// prices.
const LAYOUT: &CStr = c"3";
/// The same for a part of a page: 6 is one block of text. Looking for columns, Tesseract finds nothing in a single
/// short line.
const PART_LAYOUT: &CStr = c"6";
/// Words that are lower than this, in pixels, are small print: half of the words being so, the picture is enlarged.
const SMALL_WORD: u32 = 15;
/// How many times a picture with small print is enlarged, and how many pixels it may have then.
const ENLARGED: u32 = 2;
const MOST_ENLARGED: u64 = 40_000_000;
/// A picture whose grey values lie closer together than this is pale.
const PALE: u8 = 120;
/// White around a part of a page, in pixels: letters at the very edge are not seen.
const MARGIN: u32 = 16;
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
    #[error("Tesseract did not finish within {} s; the picture is too large or too busy", .0.as_secs())]
    Timeout(Duration),
    #[error("Tesseract failed on this picture: {0}")]
    Failed(String),
}

impl OcrError {
    /// Whether the same picture may well be read a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, OcrError::Timeout(_))
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
    /// The longest that a picture may take, its wait in the queue included.
    patience: Duration,
}

struct Job {
    png: Bytes,
    layout: &'static CStr,
    reply: oneshot::Sender<Result<OcrText, OcrError>>,
}

impl OcrEngine {
    /// Starts `threads` readers, each with its own copy of the languages' models (`deu+eng`: some 60 MB), and
    /// returns when all are ready, which takes a moment: call it outside the runtime or with
    /// `spawn_blocking`.
    pub fn new(languages: &str, threads: usize, patience: Duration) -> Result<OcrEngine, OcrError> {
        let well_formed =
            |one: &str| !one.is_empty() && one.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !languages.split('+').all(well_formed) {
            return Err(OcrError::BadLanguages(languages.into()));
        }
        // One by one: of several, Tesseract silently leaves out those after the first.
        let missing: Vec<_> = languages.split('+').filter(|one| TessApi::new(None, one).is_err()).collect();
        if !missing.is_empty() {
            return Err(OcrError::MissingLanguage(missing.join("+")));
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
        Ok(OcrEngine { queue, patience })
    }

    /// Reads a picture; waits while all threads are busy. When it gives up, the thread does not: Tesseract
    /// cannot be interrupted, so it finishes the picture first and only then takes the next.
    pub async fn read(&self, png: Bytes) -> Result<OcrText, OcrError> {
        self.queued(png, LAYOUT).await
    }

    /// The same for a picture of one part of a page: a line or a block of text and nothing else.
    pub async fn read_part(&self, png: Bytes) -> Result<OcrText, OcrError> {
        self.queued(png, PART_LAYOUT).await
    }

    async fn queued(&self, png: Bytes, layout: &'static CStr) -> Result<OcrText, OcrError> {
        let (reply, answer) = oneshot::channel();
        let reading = async {
            let gone = || OcrError::Failed("its threads are gone".into());
            self.queue.send(Job { png, layout, reply }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        let began = Instant::now();
        let read = timeout(self.patience, reading).instrument(tracing::info_span!("ocr")).await;
        numbers().ocr.observe(began.elapsed().as_secs_f64());
        read.unwrap_or(Err(OcrError::Timeout(self.patience)))
    }
}

/// Starts this program anew, in the same process, if [`REQUIRED_ENV`] is not set as it must be. Call it first
/// in `main`: whatever was opened or started before is lost. Returns only if nothing had to be done or could
/// be.
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
        let Some(Job { png, layout, reply }) = job else { return };
        if reply.is_closed() {
            continue;
        }
        let read =
            catch_unwind(AssertUnwindSafe(|| read(&mut tesseract, &png, layout))).unwrap_or_else(|_| {
                // Who knows what state it is in.
                tesseract = start(languages)?;
                Err(OcrError::Failed("it panicked".into()))
            });
        let _ = reply.send(read);
    }
}

fn start(languages: &str) -> Result<TessApi, OcrError> {
    let mut tesseract = TessApi::new(None, languages)
        .map_err(|_| OcrError::Failed(format!("it does not start with {languages}")))?;
    set(&mut tesseract, c"debug_file", c"/dev/null")?;
    Ok(tesseract)
}

fn set(tesseract: &mut TessApi, name: &CStr, value: &CStr) -> Result<(), OcrError> {
    tesseract.raw.set_variable(name, value).map_err(|_| OcrError::Failed(format!("it knows no {name:?}")))
}

fn read(tesseract: &mut TessApi, png: &[u8], layout: &CStr) -> Result<OcrText, OcrError> {
    let mut reader = ImageReader::with_format(Cursor::new(png), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_PICTURE);
    reader.limits(limits);
    let mut picture = reader.decode().map_err(|error| OcrError::BadPicture(error.to_string()))?.into_luma8();
    set(tesseract, c"tessedit_pageseg_mode", layout)?;
    stretch(&mut picture);
    let margin = if layout == PART_LAYOUT { MARGIN } else { 0 };
    if margin > 0 {
        picture = framed(&picture, margin);
    }
    let mut text = recognise(tesseract, &picture)?;
    let (width, height) = picture.dimensions();
    let enlarged = u64::from(width) * u64::from(height) * u64::from(ENLARGED * ENLARGED);
    if is_small_print(&text.words)
        && enlarged <= MOST_ENLARGED
        && width.max(height) * ENLARGED <= LARGEST_SIDE
    {
        let (wide, high) = (width * ENLARGED, height * ENLARGED);
        let large =
            recognise(tesseract, &imageops::resize(&picture, wide, high, imageops::FilterType::CatmullRom))?;
        // Sure of more words, it has seen more.
        let sure = |text: &OcrText| text.words.iter().map(|word| word.confidence).sum::<f32>();
        if sure(&large) > sure(&text) {
            text = scaled(large, |pixels| pixels / ENLARGED);
        }
    }
    if margin > 0 {
        for word in &mut text.words {
            word.left = word.left.saturating_sub(margin);
            word.top = word.top.saturating_sub(margin);
        }
        (text.width, text.height) = (width - 2 * margin, height - 2 * margin);
    }
    Ok(text)
}

/// Stretches a pale picture from black to white. What few pixels are, a line or a speck, does not count.
fn stretch(picture: &mut GrayImage) {
    let mut counts = [0_u64; 256];
    picture.pixels().for_each(|pixel| counts[usize::from(pixel.0[0])] += 1);
    let ignored = picture.pixels().len() as u64 / 1000;
    let edge = |mut values: Box<dyn Iterator<Item = u8>>| {
        let mut seen = 0;
        values.find(|value| {
            seen += counts[usize::from(*value)];
            seen > ignored
        })
    };
    let (Some(dark), Some(light)) = (edge(Box::new(0..=255)), edge(Box::new((0..=255).rev()))) else {
        return;
    };
    if light <= dark || light - dark >= PALE {
        return;
    }
    let (dark, range) = (u32::from(dark), u32::from(light - dark));
    for pixel in picture.pixels_mut() {
        pixel.0[0] = (u32::from(pixel.0[0]).saturating_sub(dark) * 255 / range).min(255) as u8;
    }
}

/// The picture with a frame in the colour of its corner.
fn framed(picture: &GrayImage, margin: u32) -> GrayImage {
    let (width, height) = picture.dimensions();
    let paper = picture.get_pixel_checked(0, 0).copied().unwrap_or(image::Luma([255]));
    let mut framed = GrayImage::from_pixel(width + 2 * margin, height + 2 * margin, paper);
    imageops::replace(&mut framed, picture, margin.into(), margin.into());
    framed
}

fn is_small_print(words: &[Word]) -> bool {
    let mut heights: Vec<u32> = words.iter().map(|word| word.height).collect();
    heights.sort_unstable();
    heights.get(heights.len() / 2).is_some_and(|height| *height < SMALL_WORD)
}

/// The text with each place in other pixels.
fn scaled(mut text: OcrText, pixels: impl Fn(u32) -> u32) -> OcrText {
    for word in &mut text.words {
        for side in [&mut word.left, &mut word.top, &mut word.width, &mut word.height] {
            *side = pixels(*side);
        }
    }
    (text.width, text.height) = (pixels(text.width), pixels(text.height));
    text
}

fn recognise(tesseract: &mut TessApi, picture: &GrayImage) -> Result<OcrText, OcrError> {
    let (width, height) = picture.dimensions();
    // No larger than LARGEST_SIDE, so both fit.
    let (columns, rows) = (width as i32, height as i32);
    let failed = |reason: &str| OcrError::Failed(reason.into());
    tesseract
        .raw
        .set_image(picture, columns, rows, 1, columns)
        .map_err(|error| failed(&error.to_string()))?;
    tesseract.set_source_resolution(RESOLUTION);
    if tesseract.recognize() != 0 {
        return Err(failed("it gave up"));
    }
    let table = tesseract.get_tsv_text(0).map_err(|_| failed("its answer is no UTF-8"))?;
    Ok(understand(&table, width, height))
}

/// Reads Tesseract's table, one element of the page per row: level, page, block, paragraph, line, word, left,
/// top, width, height, confidence and text; level 5 is a word.
fn understand(table: &str, width: u32, height: u32) -> OcrText {
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
        let pixels = |cell: &str| cell.parse().unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use resvg::{tiny_skia, usvg};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Draws the lines one below the other, 30 pixels high, the first line's foot at 60.
    fn draw(lines: &[&str]) -> Bytes {
        let line = |(i, text): (usize, &&str)| format!("<text x='40' y='{}'>{text}</text>", 60 + 50 * i);
        let svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='{height}'>
             <rect width='800' height='{height}' fill='#fff'/><g font-family='DejaVu Sans' font-size='30'>{text}</g></svg>",
            height = 50 * lines.len() + 50,
            text = lines.iter().enumerate().map(line).collect::<String>(),
        );
        let mut options = usvg::Options::default();
        options.fontdb_mut().load_system_fonts();
        let tree = usvg::Tree::from_str(&svg, &options).unwrap();
        let size = tree.size().to_int_size();
        let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).unwrap();
        resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
        pixels.encode_png().unwrap().into()
    }

    #[tokio::test]
    async fn german_text_is_read_word_by_word_with_its_places() {
        let engine = OcrEngine::new("deu+eng", 1, PATIENCE).unwrap();
        let read =
            engine.read(draw(&["Bürostühle für Größere", "Preis: 1.234,56 € je Stück"])).await.unwrap();
        assert_eq!(read.text, "Bürostühle für Größere\nPreis: 1.234,56 € je Stück");
        assert!(read.confidence > 80.0, "{}", read.confidence);
        assert_eq!((read.width, read.height), (800, 150));
        let price = read.words.iter().find(|word| word.text == "1.234,56").unwrap();
        assert_eq!(price.line, 1);
        assert!((80..90).contains(&price.top) && (18..30).contains(&price.height), "{price:?}");
        assert!((125..145).contains(&price.left) && (120..140).contains(&price.width), "{price:?}");
    }

    #[tokio::test]
    async fn pictures_read_side_by_side_are_not_mixed_up() {
        let engine = OcrEngine::new("deu+eng", 2, PATIENCE).unwrap();
        let lines: Vec<String> = (0..8).map(|i| format!("Artikel {}", 770_001 + i)).collect();
        let reads = lines.iter().map(|line| engine.read(draw(&[line])));
        let reads = futures_util::future::join_all(reads).await;
        let texts: Vec<String> = reads.into_iter().map(|read| read.unwrap().text).collect();
        assert_eq!(texts, lines);
    }

    #[tokio::test]
    async fn an_empty_picture_has_no_words_and_a_broken_one_is_refused() {
        let engine = OcrEngine::new("eng", 1, PATIENCE).unwrap();
        let empty = engine.read(draw(&[""])).await.unwrap();
        assert_eq!((empty.words.len(), empty.text.as_str(), empty.confidence), (0, "", 0.0));
        for broken in [&b""[..], b"no picture", &draw(&["halb"])[..200]] {
            let error = engine.read(Bytes::copy_from_slice(broken)).await.unwrap_err();
            assert!(matches!(error, OcrError::BadPicture(_)) && !error.is_retryable(), "{error}");
        }
        assert_eq!(engine.read(draw(&["weiter"])).await.unwrap().text, "weiter", "the thread goes on");
    }

    #[tokio::test]
    async fn a_picture_that_would_fill_the_memory_is_refused_before_it_is_unpacked() {
        let engine = OcrEngine::new("eng", 1, PATIENCE).unwrap();
        let mut png = Cursor::new(Vec::new());
        image::GrayImage::new(LARGEST_SIDE + 1, 1).write_to(&mut png, ImageFormat::Png).unwrap();
        let error = engine.read(png.into_inner().into()).await.unwrap_err();
        assert!(matches!(error, OcrError::BadPicture(_)), "{error}");
    }

    /// A picture in which the lines are `height` pixels high, `ink` on `paper`.
    fn drawn(lines: &[&str], height: u32, ink: u8, paper: u8) -> Bytes {
        let drawn = image::load_from_memory(&draw(lines)).unwrap().into_luma8();
        let (wide, high) = (drawn.width() * height / 30, drawn.height() * height / 30);
        let mut small = imageops::resize(&drawn, wide, high, imageops::FilterType::Triangle);
        for pixel in small.pixels_mut() {
            let light = u32::from(pixel.0[0]);
            pixel.0[0] = ((light * u32::from(paper) + (255 - light) * u32::from(ink)) / 255) as u8;
        }
        let mut png = Cursor::new(Vec::new());
        small.write_to(&mut png, ImageFormat::Png).unwrap();
        png.into_inner().into()
    }

    #[tokio::test]
    async fn small_and_pale_print_is_read_in_the_pixels_of_the_picture() {
        let engine = OcrEngine::new("deu+eng", 1, PATIENCE).unwrap();
        let lines = ["Bürostühle für Größere", "Preis: 1.234,56 € je Stück"];
        for (what, height, ink, paper) in
            [("small", 11, 0, 255), ("pale", 30, 205, 235), ("dark", 30, 60, 30)]
        {
            let read = engine.read(drawn(&lines, height, ink, paper)).await.unwrap();
            assert_eq!(read.text, lines.join("\n"), "{what}");
            assert_eq!((read.width, read.height), (800 * height / 30, 150 * height / 30), "{what}");
            let price = read.words.iter().find(|word| word.text == "1.234,56").unwrap();
            let (left, width) = (price.left * 30 / height, price.width * 30 / height);
            assert!((120..150).contains(&left) && (115..145).contains(&width), "{what}: {price:?}");
        }
    }

    #[tokio::test]
    async fn a_part_of_a_page_is_read_though_it_is_one_short_line_at_the_edge() {
        let engine = OcrEngine::new("deu+eng", 1, PATIENCE).unwrap();
        let drawn = image::load_from_memory(&draw(&["SW-10042"])).unwrap();
        let tight = drawn.crop_imm(38, 34, 180, 30);
        let mut png = Cursor::new(Vec::new());
        tight.write_to(&mut png, ImageFormat::Png).unwrap();
        let read = engine.read_part(png.into_inner().into()).await.unwrap();
        assert_eq!((read.text.as_str(), read.width, read.height), ("SW-10042", 180, 30));
        assert!(read.words[0].left < 10 && read.words[0].top < 10, "{:?}", read.words);
        assert_eq!(engine.read(draw(&["Preis", "4,50 €"])).await.unwrap().text, "Preis\n4,50 €", "as before");
    }

    #[test]
    fn a_missing_language_is_named_with_its_package() {
        let error = OcrEngine::new("eng+kli_ng", 1, PATIENCE).err().unwrap();
        assert!(matches!(&error, OcrError::MissingLanguage(missing) if missing == "kli_ng"), "{error}");
        assert!(error.to_string().contains("apt-get install tesseract-ocr-kli-ng"), "{error}");
        for bad in ["", "deu+", "deu eng", "../deu", "deu\0"] {
            assert!(matches!(OcrEngine::new(bad, 1, PATIENCE), Err(OcrError::BadLanguages(_))), "{bad}");
        }
    }

    #[test]
    fn the_program_starts_itself_anew_with_the_environment_that_it_needs() {
        let (name, value) = REQUIRED_ENV;
        let output = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "pipeline::tools::ocr::tests::what_main_does_first",
                "--ignored",
                "--nocapture",
            ])
            .env_remove(name)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("[{name}={value}]")), "{said}");
    }

    #[test]
    #[ignore = "not a test: the_program_starts_itself_anew_with_the_environment_that_it_needs runs it"]
    fn what_main_does_first() {
        ensure_required_env().unwrap();
        println!("[{}={}]", REQUIRED_ENV.0, env::var(REQUIRED_ENV.0).unwrap_or_default());
    }

    #[test]
    fn a_table_of_tesseract_is_understood_and_rows_that_are_no_words_are_passed_over() {
        let table = "1\t1\t0\t0\t0\t0\t0\t0\t800\t150\t-1\t\n\
                     5\t1\t1\t1\t1\t1\t40\t30\t90\t22\t96.5\tPreis:\n\
                     5\t1\t1\t1\t1\t2\t140\t30\t60\t22\t80.5\t4,50\n\
                     5\t1\t1\t1\t2\t1\t40\t80\t10\t22\t95\t \n\
                     5\t1\t2\t1\t1\t1\t40\t80\t60\t22\t90\tStück\n\
                     torn\trow";
        let text = understand(table, 800, 150);
        assert_eq!((text.text.as_str(), text.confidence), ("Preis: 4,50\nStück", 89.0));
        let lines: Vec<_> = text.words.iter().map(|word| (word.line, word.left)).collect();
        assert_eq!(lines, [(0, 40), (0, 140), (1, 40)]);
    }
}
