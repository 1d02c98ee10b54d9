//! A job as the pages poll it. A poll replaces what the page has collected from events, so everything here carries
//! the events' fields beside those of the original REST shapes. Pure.

use std::collections::HashMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    event::{OcrData, format_timestamp},
    job::{Job, Phase, Stage, Status},
    product::{ProductFacts, matching::Report},
    store::{JobRecord, LabelRow, MatchRow, OcrRow, ScreenshotRow, StoreError, match_rules_of},
};

/// What a job has made so far.
pub struct Made {
    pub screenshots: Vec<ScreenshotRow>,
    pub readings: Vec<OcrRow>,
    pub matches: Vec<MatchRow>,
    pub labels: Vec<LabelRow>,
}

/// The status in this frontend's words, which has none for a cancelled job.
pub fn status(job: &Job) -> &'static str {
    match job.status {
        Status::Cancelled => Status::Failed.word(),
        status => status.word(),
    }
}

/// Where the page's bar stands. It computes `((step - 1) * 100 + currentStepProgress) / totalSteps` percent, the
/// step being the number of `currentStep`: 1 crawling, 2 processing-ocr, 3 matching, 4 rendering or completed.
struct Bar {
    current_step: &'static str,
    total_steps: u32,
    current_step_progress: u32,
}

impl Bar {
    /// With four steps in all the bar would reach 25 % in the step in which the events go from 25 to 50 %, and jump
    /// back at every poll. Counting only the steps that have begun, the formula gives exactly what the events say.
    fn of(job: &Job) -> Bar {
        const STEPS: u32 = Phase::ALL.len() as u32;
        // A pause shows in the status; the bar stands where the work does.
        match job.stands() {
            status @ Status::Pending => {
                Bar { current_step: status.word(), total_steps: STEPS, current_step_progress: 0 }
            }
            status @ Status::Completed => {
                Bar { current_step: status.word(), total_steps: STEPS, current_step_progress: 100 }
            }
            _ => {
                let step = job.phase.number().unsigned_abs() as u32 + 1;
                Bar {
                    current_step: job.phase.status().word(),
                    total_steps: step,
                    current_step_progress: (step * u32::from(job.progress)).saturating_sub(100 * (step - 1)),
                }
            }
        }
    }
}

/// The `progress` of a job.
pub fn progress(job: &Job) -> Value {
    let bar = Bar::of(job);
    json!({
        "currentStep": bar.current_step,
        "totalSteps": bar.total_steps,
        "currentStepProgress": bar.current_step_progress,
        "productsFound": job.tally(Stage::Screenshot).total,
        "productsProcessed": job.tally(Stage::Ocr).settled(),
        "labelsGenerated": job.tally(Stage::Render).done,
        "errors": job.errors,
    })
}

/// A job as the answer to its start shows it.
pub fn started(job: &Job) -> Value {
    json!({ "id": job.id, "name": job.name, "status": status(job), "progress": progress(job) })
}

/// A job as a list of jobs shows it.
pub fn line(record: &JobRecord, summary: Value) -> Value {
    let mut line = heading(record);
    line.insert("summary".into(), with_time(record, summary));
    line.into()
}

/// A job with everything that it has made; `address` gives an object's public address.
pub fn whole(
    record: &JobRecord,
    summary: Value,
    made: &Made,
    address: impl Fn(&str) -> String,
) -> Result<Value, StoreError> {
    let pages: HashMap<Uuid, &str> = made.screenshots.iter().map(|row| (row.id, &*row.product_url)).collect();
    let mut facts: HashMap<Uuid, ProductFacts> = HashMap::new();
    for row in &made.readings {
        facts.insert(row.id, stored("ocr_results", &row.facts)?);
    }
    let none = ProductFacts::default();
    let read = |id: Uuid| facts.get(&id).unwrap_or(&none);
    let readings =
        made.readings.iter().map(|row| reading(row, read(row.id), pages.get(&row.screenshot_id).copied()));
    let readings = readings.collect::<Result<Vec<_>, _>>()?;
    let matches = made.matches.iter().map(|row| match_result(row, read(row.ocr_result_id)));
    let labels = made.labels.iter().map(|row| label(row, &address));
    let mut whole = heading(record);
    whole.insert("config".into(), config(record));
    whole.insert(
        "results".into(),
        json!({
            "screenshots": made.screenshots.iter().map(|row| screenshot(row, &address)).collect::<Vec<_>>(),
            "ocrResults": readings,
            "matchResults": matches.collect::<Result<Vec<_>, _>>()?,
            "labels": labels.collect::<Result<Vec<_>, _>>()?,
            "summary": with_time(record, summary),
            "matching": report(record, &made.matches),
        }),
    );
    Ok(whole.into())
}

fn heading(record: &JobRecord) -> Map<String, Value> {
    object(json!({
        "id": record.job.id,
        "name": record.job.name,
        "status": status(&record.job),
        "progress": progress(&record.job),
        "error": record.error,
        "priority": record.job.priority,
        "retryOf": record.retry_of,
        "scheduleId": record.schedule_id,
        "createdAt": format_timestamp(record.created_at),
        "updatedAt": format_timestamp(record.updated_at),
        "completedAt": record.ended_at.map(format_timestamp),
    }))
}

/// The accepted settings, flat and where the original keeps them.
fn config(record: &JobRecord) -> Value {
    let Some(config) = &record.config else { return json!({}) };
    let mut crawler = json!(config.crawl);
    crawler["maxProducts"] = config.max_products.into();
    crawler["followPagination"] = config.follow_pagination.into();
    let mut matcher = json!(config.matching);
    matcher["threshold"] = config.match_threshold.into();
    json!({
        "name": record.job.name,
        "shopUrl": config.shop_url,
        "templateId": config.template_id,
        "maxProducts": config.max_products,
        "followPagination": config.follow_pagination,
        "crawlerConfig": crawler,
        "matcherConfig": matcher,
    })
}

fn with_time(record: &JobRecord, mut summary: Value) -> Value {
    let started = record.started_at.unwrap_or(record.created_at);
    let until = record.ended_at.unwrap_or(record.updated_at);
    summary["totalProcessingTime"] = json!((until - started).num_milliseconds().max(0));
    summary
}

fn screenshot(row: &ScreenshotRow, address: impl Fn(&str) -> String) -> Value {
    let (url, thumbnail_url) = (address(&row.image_key), address(&row.thumbnail_key));
    object(json!({
        "screenshotId": row.id,
        "url": url,
        "thumbnailUrl": thumbnail_url,
        "productUrl": row.product_url,
        "productName": row.product_name,
        "screenshotPath": url,
        "thumbnailPath": thumbnail_url,
    }))
    .into()
}

/// Of a stored reading, what pages are shown besides the values.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Read {
    tiers_text: Option<String>,
    /// Where the fields stand.
    pub boxes: Vec<ReadBox>,
    parts: Vec<ReadPart>,
}

/// A word, or the words of a field, in pixels of the picture.
#[derive(Deserialize)]
pub struct ReadBox {
    field: Option<String>,
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    confidence: f64,
    text: String,
}

#[derive(Deserialize)]
struct ReadPart {
    field: String,
    confidence: f64,
}

impl Read {
    pub fn of(row: &OcrRow) -> Result<Read, StoreError> {
        stored("ocr_results", &row.reading)
    }

    /// The values, and the tier prices as they stand in the picture.
    pub fn extracted(&self, facts: &ProductFacts) -> Map<String, Value> {
        let mut data = object(product(facts));
        if let Some(text) = &self.tiers_text {
            data.insert("tieredPricesText".into(), text.as_str().into());
        }
        data
    }

    /// How sure the fields are, 0 to 100, line by line.
    pub fn confidences(&self) -> impl Iterator<Item = (&str, f64)> {
        let boxes = self.boxes.iter().filter_map(|found| Some((found.field.as_deref()?, found.confidence)));
        boxes.chain(self.parts.iter().map(|part| (&*part.field, part.confidence)))
    }
}

impl ReadBox {
    pub fn shown(&self) -> Value {
        let fields = json!({
            "field": self.field, "text": self.text, "confidence": rounded(self.confidence, 1),
            "x": self.left, "y": self.top, "width": self.width, "height": self.height,
        });
        object(fields).into()
    }
}

fn reading(row: &OcrRow, facts: &ProductFacts, product_url: Option<&str>) -> Result<Value, StoreError> {
    let read = Read::of(row)?;
    let data = OcrData {
        article_number: facts.article_number.clone(),
        price: facts.price,
        product_name: facts.name.clone(),
        confidence: rounded(row.confidence, 1),
    };
    let mut item = object(json!({
        "screenshotId": row.screenshot_id,
        "ocrResultId": row.id,
        "confidence": data.confidence,
        "data": data,
        "extractedData": read.extracted(facts),
        // The fields' only: all words of all pictures would be too much for a page that asks every two seconds.
        "boundingBoxes": read.boxes.iter().map(ReadBox::shown).collect::<Vec<_>>(),
        "success": row.error.is_none(),
        "error": row.error,
    }));
    // The one key of this API that is null rather than absent.
    item.insert("productUrl".into(), json!(product_url));
    Ok(item.into())
}

/// What `job:completed` tells of the matches, as it is so far.
fn report(record: &JobRecord, matches: &[MatchRow]) -> Report {
    let found = matches.iter().filter(|row| row.success);
    let rules = match_rules_of(record.config.as_ref());
    Report::of(found.map(|row| (row.match_type.as_deref() == Some("exact"), row.score)), &rules)
}

/// A failed match tells the article number that was read, as its event does.
fn match_result(row: &MatchRow, read: &ProductFacts) -> Result<Value, StoreError> {
    let listed: Option<ProductFacts> =
        row.listed.as_ref().map(|listed| stored("matches", listed)).transpose()?;
    let article_number = match &listed {
        Some(listed) => Some(listed.article_number.clone().unwrap_or_default()),
        None => read.article_number.clone(),
    };
    let item = object(json!({
        "matchId": row.id,
        "ocrResultId": row.ocr_result_id,
        "matchType": row.match_type,
        "matchedBy": row.matched_by,
        "matchScore": row.score,
        "confidence": rounded(row.score, 3),
        "articleNumber": article_number,
        "matchedData": listed.as_ref().map(product),
        "success": row.success,
        "reason": row.reason,
        "warnings": row.warnings,
    }));
    Ok(item.into())
}

/// One label, made or given up.
pub fn label(row: &LabelRow, address: impl Fn(&str) -> String) -> Result<Value, StoreError> {
    let facts: ProductFacts = stored("labels", &row.facts)?;
    let image_url = row.image_key.as_deref().map(address);
    let item = object(json!({
        "id": row.id,
        "labelId": row.id,
        "imageUrl": image_url,
        "labelPath": image_url,
        "articleNumber": row.article_number,
        "productData": product(&facts),
        "renderTime": row.render_ms,
        "success": row.error.is_none(),
        "error": row.error,
    }));
    Ok(item.into())
}

/// A product in the words of this frontend.
pub fn product(facts: &ProductFacts) -> Value {
    let item = object(json!({
        "articleNumber": facts.article_number,
        "productName": facts.name,
        "price": facts.price,
        "currency": facts.currency,
        "tieredPrices": facts.tiers.iter().map(|tier| {
            json!({ "minQuantity": tier.min_quantity, "quantity": tier.min_quantity, "price": tier.price })
        }).collect::<Vec<_>>(),
        "ean": facts.ean,
        "description": facts.description,
        "imageUrl": facts.image_url,
    }));
    item.into()
}

/// As the events round it.
fn rounded(value: f64, decimals: i32) -> f64 {
    let unit = 10f64.powi(decimals);
    (value * unit).round() / unit
}

/// The keys that have a value: what is not known is absent here, never null.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn stored<T: DeserializeOwned>(table: &'static str, value: &Value) -> Result<T, StoreError> {
    T::deserialize(value).map_err(|error| StoreError::Corrupt { table, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        event::JobType,
        job::{Command, Failure, JobId, Plan},
    };

    /// What the page makes of a polled job, word for word.
    fn page_shows(job: &Job) -> f64 {
        if status(job) == "completed" {
            return 100.0;
        }
        let progress = progress(job);
        let step = match progress["currentStep"].as_str().unwrap() {
            "crawling" => 1.0,
            "processing-ocr" => 2.0,
            "matching" => 3.0,
            "rendering" | "completed" => 4.0,
            _ => 0.0,
        };
        let of_step = progress["currentStepProgress"].as_f64().unwrap();
        let steps = progress["totalSteps"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&of_step), "{progress}");
        (((step - 1.0) / steps) * 100.0 + of_step / steps).round().max(0.0)
    }

    fn job() -> Job {
        Job::new(JobId(Uuid::nil()), JobType::Automation, "test".into(), Plan::Labels, 50)
    }

    /// What the settling of an item brings: work for the next stage, or none.
    fn follower(stage: Stage) -> Option<Stage> {
        match stage {
            Stage::Crawl | Stage::Render | Stage::Company => None,
            Stage::Screenshot => Some(Stage::Ocr),
            Stage::Ocr => Some(Stage::Match),
            Stage::Match => Some(Stage::Render),
        }
    }

    proptest! {
        #[test]
        fn a_polled_bar_shows_what_the_events_said_and_never_falls(
            choices in proptest::collection::vec((0..12u8, 1..4u32), 0..200),
            cancelled in any::<bool>(),
        ) {
            let mut job = job();
            let mut shown = 0.0;
            let mut step = |job: &mut Job, command: Command| {
                job.decide(command).unwrap();
                let now = page_shows(job);
                assert_eq!(now, f64::from(job.progress), "{:?}", job);
                assert!(now >= shown, "{:?}", job);
                shown = now;
            };
            step(&mut job, Command::Create);
            step(&mut job, Command::Add { stage: Stage::Crawl, items: 1 });
            step(&mut job, Command::Start);
            let mut choices = choices.into_iter();
            while !job.status.is_ended() {
                let (choice, items) = choices.next().unwrap_or((9, 1));
                let open: Vec<Stage> = job.phase.stages().filter(|stage| job.tally(*stage).open() > 0).collect();
                let stage = open[usize::from(choice) % open.len()];
                match choice {
                    0..5 if job.tally(Stage::Crawl).open() > 0 => {
                        step(&mut job, Command::Add { stage: Stage::Screenshot, items });
                    }
                    5 => step(&mut job, Command::GiveUp { stage, why: "it was late".into() }),
                    6 if cancelled => step(&mut job, Command::Cancel),
                    10 => {
                        let pauses = job.status != Status::Paused;
                        step(&mut job, if pauses { Command::Pause } else { Command::Resume });
                    }
                    11 if job.tally(stage).failed > 0 => {
                        step(&mut job, Command::Retry { items: [(stage, 1)].into(), reasons: Vec::new() });
                    }
                    _ => {
                        if let Some(stage) = follower(stage) {
                            step(&mut job, Command::Add { stage, items: 1 });
                        }
                        step(&mut job, Command::Done { stage });
                    }
                }
            }
            if job.status == Status::Completed {
                prop_assert_eq!(page_shows(&job), 100.0);
                prop_assert_eq!(&progress(&job)["currentStep"], "completed");
            }
        }
    }

    #[test]
    fn a_job_that_waits_shows_nothing() {
        assert_eq!(page_shows(&job()), 0.0);
        assert_eq!(progress(&job())["currentStep"], "pending");
    }

    #[test]
    fn a_paused_job_says_so_and_its_bar_stands_still() {
        let mut job = job();
        job.decide(Command::Pause).unwrap();
        assert_eq!((status(&job), page_shows(&job)), ("paused", 0.0));
        assert_eq!(progress(&job)["currentStep"], "pending");
        job.decide(Command::Resume).unwrap();
        job.decide(Command::Add { stage: Stage::Crawl, items: 1 }).unwrap();
        job.decide(Command::Start).unwrap();
        job.decide(Command::Pause).unwrap();
        assert_eq!((status(&job), page_shows(&job)), ("paused", 25.0));
        assert_eq!(progress(&job)["currentStep"], "crawling");
    }

    #[test]
    fn a_job_without_stages_goes_from_nothing_to_all() {
        let mut job = job();
        job.decide(Command::Run).unwrap();
        assert_eq!((status(&job), page_shows(&job)), ("running", 0.0));
        job.decide(Command::Complete).unwrap();
        assert_eq!(page_shows(&job), 100.0);
    }

    #[test]
    fn a_cancelled_job_is_shown_as_failed_where_it_stood() {
        let mut job = job();
        job.decide(Command::Add { stage: Stage::Crawl, items: 1 }).unwrap();
        job.decide(Command::Start).unwrap();
        let mut failed = job.clone();
        job.decide(Command::Cancel).unwrap();
        failed.decide(Command::Fail { failure: Failure { error: "no".into(), phase: None } }).unwrap();
        assert_eq!((status(&job), page_shows(&job)), ("failed", 25.0));
        assert_eq!((status(&failed), page_shows(&failed)), ("failed", 25.0));
    }
}
