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

    let (zoom, psm, sharpen) = *TUNE.lock().unwrap();
    tesseract.raw.set_variable(c"tessedit_pageseg_mode", &std::ffi::CString::new(psm.to_string()).unwrap()).unwrap();
    let scaled = |side: u32| (f64::from(side) * zoom).round() as u32;
    let mut page = DynamicImage::new(scaled(width), scaled(height), picture.color());
    Resizer::new().resize(&picture, &mut page, None).map_err(|e| unreadable(&e))?;
    if sharpen { page = page.unsharpen(1.5, 2); }
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

pub static TUNE: std::sync::Mutex<(f64, i32, bool)> = std::sync::Mutex::new((1.0, 3, false));

#[cfg(test)]
mod scratch {
    use super::*;
    use super::super::browser::*;
    use super::super::fields::*;
    use std::time::Instant;
    use axum::response::Html;

    const PAGES: &[(&str, &str, &str)] = &[
("shopware", "SW10042|129.90|10:119.50,50:99.00|4006381333931|Drehstuhl Zürich mit Armlehnen", r#"<style>body{font:15px 'Liberation Sans'} .product-detail{width:1100px;display:flex;gap:40px} h1{font-size:28px} .p{font-size:30px;font-weight:bold} td,th{padding:6px 60px 6px 6px;border-bottom:1px solid #ccc;text-align:left} small{color:#777}</style><div class=product-detail><div style="width:500px;height:500px;background:linear-gradient(45deg,#cde,#456)"></div><div><h1>Drehstuhl Zürich mit Armlehnen</h1><p class=p>129,90 €*</p><small>inkl. MwSt. zzgl. Versandkosten</small><table><tr><th>Menge<th>Stückpreis<tr><td>bis 9<td>129,90 €*<tr><td>ab 10<td>119,50 €*<tr><td>ab 50<td>99,00 €*</table><p style="color:green">● Sofort verfügbar, Lieferzeit 1-3 Tage</p><p>Produktnummer: SW10042</p><p>EAN: 4006381333931</p></div></div>"#),
("woo", "WK-20417|14.99||4012345678901|Küchenmesser „Solingen“ 20 cm", r#"<style>body{font:16px/1.5 'DejaVu Sans'} .product{width:900px} h1{font-size:32px;font-weight:400} del{color:#999}ins{font-size:24px;color:#b00;text-decoration:none;font-weight:bold}</style><div class=product><h1>Küchenmesser „Solingen“ 20 cm</h1><p><del>statt 19,99 €</del> <ins>14,99 €</ins></p><p>inkl. 19 % MwSt. zzgl. 4,90 € Versand</p><p>Sie sparen 5,00 € (25 %)</p><p>Handgeschmiedetes Messer aus rostfreiem Stahl mit einem Griff aus geöltem Olivenholz. Für Profis und Anfänger geeignet, spülmaschinenfest bis 60 °C.</p><button>In den Warenkorb</button><p style="font-size:13px;color:#666">Artikelnummer: WK-20417 Kategorie: Messer GTIN: 4012345678901</p></div>"#),
("small", "7741-B|4.50|100:4.10,500:3.75,1000:3.20||Sechskantschraube M8 x 40 verzinkt", r#"<style>body{font:12px 'Liberation Sans';color:#444} main{width:700px} h2{font-size:18px;color:#111} td{padding:3px 30px 3px 3px} table{background:#f4f4f4}</style><main><h2>Sechskantschraube M8 x 40 verzinkt</h2><p>Art.-Nr.: 7741-B &nbsp; VE: 100 Stück</p><p>Preis pro VE: <b style="font-size:16px">4,50 €</b></p><table><tr><td>ab 100 Stück<td>4,10 €<tr><td>ab 500 Stück<td>3,75 €<tr><td>ab 1.000 Stück<td>3,20 €</table><p>Grundpreis 0,05 €/Stück. Alle Preise zzgl. gesetzl. MwSt. und Versand.</p><p>DIN 933, Festigkeitsklasse 8.8, Güte galvanisch verzinkt, Oberfläche blau passiviert.</p></main>"#),
("dark", "AB12345|1234.56||4006381333931|Grafikkarte Zephyr 9000", r#"<style>body{font:15px 'DejaVu Sans';background:#161a20;color:#d5d8dc;margin:0} main{width:800px;padding:20px} h1{color:#fff;font-size:26px} .p{color:#ffb300;font-size:28px;font-weight:bold}</style><main><h1>Grafikkarte Zephyr 9000</h1><p>Artikel: AB12345 | EAN: 4006381333931</p><p class=p>1.234,56 €</p><p>UVP 1.399,00 €</p><p>12 Raten zu je 102,88 €</p><p>Lagernd, versandfertig in 24 Stunden. Größe: 32 cm, Gewicht: 1,85 kg.</p></main>"#),
("grocery", "200815|3.49||4311501688823|Bio Äpfel Elstar 1,5 kg", r#"<style>body{font:16px 'Liberation Serif'} main{width:600px} h1{font-size:30px} b{font-size:36px;color:#c00}</style><main><h1>Bio Äpfel Elstar 1,5 kg</h1><b>3,49 €</b><p>1 kg = 2,33 €</p><p>zzgl. 0,25 € Pfand entfällt</p><p>Bestell-Nr. 200815</p><p>4 311501 688823</p><p>Ab 50 € versandkostenfrei. Die Äpfel stammen aus dem Alten Land und sind süßsäuerlich im Geschmack.</p></main>"#),
("table", "KX-900.12|89.00|5:84.50,20:79.90|4006381333931|Bohrhammer KX 900 Set", r#"<style>body{font:14px 'Liberation Sans'} main{width:1000px} h1{font-size:24px} table.d td{border:1px solid #ddd;padding:6px 20px} .s{background:#0a6;color:#fff;padding:10px;font-size:26px;display:inline-block}</style><main><h1>Bohrhammer KX 900 Set</h1><div class=s>89,00 €</div><p>Staffelpreise</p><table class=d><tr><td>ab 5 Stück<td>84,50 €<td>-5%<tr><td>ab 20 Stück<td>79,90 €<td>-10%</table><h3>Technische Daten</h3><table class=d><tr><td>Artikelnummer<td>KX-900.12<tr><td>EAN<td>4006381333931<tr><td>Leistung<td>900 W<tr><td>Gewicht<td>3,20 kg<tr><td>Schlagenergie<td>2,80 J</table></main>"#),
    ];

    fn show(r: &Reading) -> Vec<String> {
        vec![r.article_number.clone().unwrap_or_default(), r.price.map_or(String::new(), |p| format!("{p:.2}")),
         r.tiers.iter().map(|t| format!("{}:{:.2}", t.min_quantity, t.price)).collect::<Vec<_>>().join(","), r.ean.clone().unwrap_or_default(), r.product_name.clone().unwrap_or_default()]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tune() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(|uri: axum::http::Uri| async move {
            let name = uri.path().trim_matches('/');
            Html(format!("<!doctype html><meta charset=utf-8>{}", PAGES.iter().find(|p| p.0 == name).map_or("", |p| p.2)))
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let engine = tokio::task::spawn_blocking(|| OcrEngine::new("deu+eng", 1).unwrap()).await.unwrap();
        let verbose = std::env::var("VERBOSE").is_ok();
        let list = |n: &str, d: &str| -> Vec<f64> { std::env::var(n).unwrap_or(d.into()).split(',').map(|x| x.parse().unwrap()).collect() };
        for scale in list("SCALES", "1,1.5,2") {
            let mut s = BrowserSettings::new(address, dir.path());
            s.run_as = Some((65534, 65534));
            s.scale = scale;
            let pool = BrowserPool::new(s);
            let mut captures = vec![];
            let t = Instant::now();
            for (name, want, _) in PAGES {
                let url = url::Url::parse(&format!("http://shop.test/{name}")).unwrap();
                let c = pool.capture(&url, &CaptureRules::default()).await.unwrap();
                std::fs::write(format!("/tmp/eyes/{name}-{scale}.png"), &c.png).unwrap();
                captures.push((name, want, c));
            }
            println!("scale {scale}: {:?} per capture incl launch", t.elapsed() / PAGES.len() as u32);
            for psm in list("PSMS", "3,4,6,11") { for zoom in list("ZOOMS", "1,1.5,2") { for sharpen in list("SHARPEN", "0") {
                *TUNE.lock().unwrap() = (zoom, psm as i32, sharpen > 0.0);
                let (mut good, mut all, mut time) = (0, 0, std::time::Duration::ZERO);
                let mut conf = 0.0;
                let mut wrong = vec![];
                for (name, want, c) in &captures {
                    let t = Instant::now();
                    let text = engine.read(c.png.clone()).await.unwrap();
                    time += t.elapsed();
                    conf += text.confidence;
                    let reading = read_fields(&text);
                    if verbose { println!("--- {name}\n{}", text.text); }
                    for (want, got) in want.split('|').zip(show(&reading)) {
                        all += 1;
                        if want == got { good += 1 } else { wrong.push(format!("{name}: {want:?} read {got:?}")) }
                    }
                }
                println!("scale {scale} psm {psm} zoom {zoom} sharpen {sharpen}: {good}/{all} conf {:.0} {:?} per picture  {}", conf / PAGES.len() as f32, time / PAGES.len() as u32, if wrong.len() < 6 { wrong.join("; ") } else { String::new() });
            }}}
            pool.close().await;
        }
    }
}
