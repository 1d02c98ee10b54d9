//! Spreadsheets of sentences. This server has no access to anybody's Google account: it writes workbooks (`.xlsx`), and
//! keeps each with the job whose sentences they are.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State},
};
use bytes::Bytes;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, XlsxError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{
    answer::{Body, Error, OwnEntry, Refusal},
    history::sentences,
    jobs::of,
    shape,
};
use crate::{
    http::{Api, Caller, objects_failed},
    job::{JobId, Status},
    store::{StoreError, StoredArtifact, WorkRecord},
};

const CONTENT_TYPE: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// The name under which the job has it.
const NAME: &str = "sentences.xlsx";
/// Largest body that brings sentences, how many it may bring, and their characters.
const MAX_BODY: usize = 20 << 20;
const MAX_SENTENCES: usize = 10_000;
const MAX_SENTENCE: usize = 5000;
const MAX_NAME: usize = 255;
/// Rows of a sheet, without its heading.
const MAX_ROWS: usize = 1_048_575;
/// Jobs among which the one is looked for whose sentences are exported.
const LOOKED_AT: i64 = 50;
/// Workbooks that are written at once.
static WRITERS: Semaphore = Semaphore::const_new(2);

/// Sentences that are to stand in a spreadsheet.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    #[schema(min_items = 1, max_items = 10_000)]
    sentences: Vec<String>,
    #[schema(min_length = 1, max_length = 255)]
    sheet_name: String,
    /// `new`; nothing can be appended to.
    mode: Option<String>,
    /// Only these of the sentences, counted from 0.
    sentence_indices: Option<Vec<usize>>,
}

/// How an entry's spreadsheet is to be named.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    #[schema(max_length = 255)]
    sheet_name: Option<String>,
}

/// Writes sentences into a spreadsheet, which is kept with the newest job that they can be of.
#[utoipa::path(
    post, path = "/api/v1/export-to-sheet", tag = "novel tool", request_body = Wanted,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn export(
    caller: Caller,
    State(api): State<Api>,
    mut request: Request,
) -> Result<Json<Value>, Refusal> {
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    let Body(wanted) = Body::<Wanted>::from_request(request, &api).await?;
    if wanted.mode.as_deref().is_some_and(|mode| mode != "new") {
        return Err(Refusal::bad("This server writes new spreadsheets only; choose the mode \"new\"."));
    }
    check_name(&wanted.sheet_name)?;
    let all = wanted.sentences;
    if !(1..=MAX_SENTENCES).contains(&all.len()) {
        return Err(Refusal::bad(format!("sentences must be 1 to {MAX_SENTENCES}")));
    }
    if all.iter().any(|text| text.is_empty() || text.chars().count() > MAX_SENTENCE) {
        return Err(Refusal::bad(format!("A sentence must have 1 to {MAX_SENTENCE} characters")));
    }
    let ended = of(&api, &caller, vec![Status::Completed], LOOKED_AT).await?;
    let fits = |novel: &&WorkRecord| shape::sentence_count(&novel.document) == all.len() as i64;
    let novel = ended.iter().find(fits).or(ended.first());
    let novel =
        novel.ok_or_else(|| Refusal::bad("There is no finished job whose sentences these could be."))?;
    let rows = match wanted.sentence_indices.filter(|indices| !indices.is_empty()) {
        Some(indices) if indices.len() <= MAX_SENTENCES => {
            indices.iter().filter_map(|index| all.get(*index).cloned()).collect()
        }
        Some(_) => return Err(Refusal::bad(format!("sentenceIndices must be at most {MAX_SENTENCES}"))),
        None => all,
    };
    written(&api, novel, wanted.sheet_name, rows).await
}

/// Writes an entry's sentences into a spreadsheet.
#[utoipa::path(
    post, path = "/api/v1/history/{id}/export", tag = "novel tool", request_body = Named,
    params(("id" = i64, Path, description = "The entry's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 404, body = Error),
        (status = 409, body = Error, description = "It has not ended"), (status = 413, body = Error),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn export_entry(
    State(api): State<Api>,
    OwnEntry(novel): OwnEntry,
    Body(named): Body<Named>,
) -> Result<Json<Value>, Refusal> {
    let name = named.sheet_name.unwrap_or_else(|| format!("{} - Export", novel.record.job.name));
    check_name(&name)?;
    let text = |sentence: Value| {
        sentence["normalized"].as_str().or(sentence["original"].as_str()).map(str::to_owned)
    };
    let rows: Vec<String> =
        sentences(&api, &novel).await?.into_iter().filter_map(text).take(MAX_ROWS).collect();
    if rows.is_empty() {
        return Err(Refusal::bad("No sentences available for this history entry"));
    }
    written(&api, &novel, name, rows).await
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME {
        return Err(Refusal::bad(format!("sheetName must have 1 to {MAX_NAME} characters")));
    }
    Ok(())
}

async fn written(
    api: &Api,
    novel: &WorkRecord,
    name: String,
    rows: Vec<String>,
) -> Result<Json<Value>, Refusal> {
    // Never closed, so a permit always comes.
    let (_permit, count) = (WRITERS.acquire().await, rows.len());
    let book = tokio::task::spawn_blocking(move || workbook(&name, &rows)).await;
    let book: Bytes = match book {
        Ok(Ok(book)) => book.into(),
        Ok(Err(error)) => {
            let detail = format!("a workbook cannot be written: {error}");
            return Err(StoreError::Corrupt { table: "work", detail }.into());
        }
        Err(_) => {
            return Err(Refusal::bad("The spreadsheet could not be written; the server's log tells why."));
        }
    };
    let job = novel.record.job.id;
    let key = StoredArtifact::key(job, NAME);
    let stored = api.blobs.put_new(key.clone(), book, CONTENT_TYPE).await;
    let artifact = stored.map_err(|error| Refusal::from(objects_failed(&error)))?;
    if let Err(error) = api.store.add_file_of_ended(job, NAME, artifact).await {
        let _ = api.blobs.delete(&key).await;
        return Err(error.into());
    }
    let address = api.blobs.address(&key);
    Ok(Json(json!({
        "message": "Export successful",
        "spreadsheet_url": address,
        "sentences_count": count,
        "sentences_source": "snapshot",
    })))
}

/// Where the spreadsheets of jobs are that have one.
pub async fn addresses(api: &Api, novels: &[WorkRecord]) -> Result<HashMap<JobId, String>, Refusal> {
    let jobs: Vec<JobId> = novels.iter().map(|novel| novel.record.job.id).collect();
    let keys = api.store.keys_of_files(&jobs, NAME).await?;
    // A job that was made of another one has that one's files, too.
    let own = keys.into_iter().filter(|(job, key)| key.starts_with(&StoredArtifact::folder(*job)));
    Ok(own.map(|(job, key)| (job, api.blobs.address(&key))).collect())
}

/// One sheet: a number and a sentence in each row.
fn workbook(name: &str, rows: &[String]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    // Names no moment, so that the same sentences give the same file.
    let made = ExcelDateTime::from_ymd(2026, 1, 1)?;
    book.set_properties(&DocProperties::new().set_creation_datetime(&made).set_title(name));
    let sheet = book.add_worksheet_with_constant_memory()?;
    // What a sheet's name may not hold.
    let tab: String =
        name.chars().filter(|c| !c.is_control() && !r"[]:*?/\'".contains(*c)).take(31).collect();
    sheet.set_name(if tab.trim().is_empty() { "Sentences" } else { tab.trim() })?;
    sheet.set_freeze_panes(1, 0)?;
    sheet.set_column_width(1, 80)?;
    let bold = Format::new().set_bold();
    sheet.write_string_with_format(0, 0, "Index", &bold)?;
    sheet.write_string_with_format(0, 1, "Sentence", &bold)?;
    for (row, sentence) in (1_u32..).zip(rows) {
        sheet.write_number(row, 0, f64::from(row))?;
        // Never a formula, whatever it begins with.
        let sentence: String = sentence.chars().filter(|c| !c.is_control() || *c == '\n').collect();
        sheet.write_string(row, 1, sentence)?;
    }
    book.save_to_buffer()
}
