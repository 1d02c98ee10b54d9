//! A price list on its way into the known products: read row by row in a thread of its own, copied while it is read,
//! and all of it or nothing becomes known.

use std::time::{Duration, Instant};

use axum::{
    Json,
    extract::{FromRequest as _, Request, State},
    http::header,
    response::Response,
};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use utoipa::ToSchema;
use uuid::Uuid;

use super::products::shown;
use crate::{
    dialects::label_printer::{
        answer::{Refusal, RefusalBody, success},
        field::bad,
        form::{File, Form, READERS, read},
    },
    event::{Anything, Severity, SystemNotification},
    http::{Api, Caller, body_rejection},
    product::price_list::{self, Limits, ListedProduct, RowError, SpreadsheetError, Summary},
    store::{ListedRow, Portion, Store},
};

/// Rows that go to the database together.
const PORTION: usize = 1000;
/// Portions that wait for the database; the reader waits when there are more.
const WAITING: usize = 4;
/// Products of the answer at the most; all of them are at `/api/excel/products`.
const SHOWN: usize = 1000;
/// How often pages are told how far an import is.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Rows of a list that is validated as JSON.
const MAX_ROWS: usize = 10_000;

/// A form with a spreadsheet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes a body that is read by hand")]
pub struct SpreadsheetForm {
    /// `.xlsx`, `.xls` or `.csv`.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Reads a price list and makes its products known.
///
/// Pages hear how far it is by `system:notification`, with `details: {import, phase, done, total?}`.
#[utoipa::path(
    post, path = "/api/excel/upload", tag = "label printer: spreadsheets",
    request_body(content = SpreadsheetForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value, description = "What was read, and what could not be"),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn upload(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    let (File { name, bytes }, _) = Form::upload(&api, request).await?;
    let limits = Limits { bytes: api.max_upload, ..Limits::default() };
    let size = bytes.len() as i64;
    // Never closed, so a permit always comes; the thread gives it back, whatever becomes of this request.
    let permit = READERS.acquire().await;
    let (portions, receiver) = mpsc::channel(WAITING);
    let teller = Teller::new(api.store.clone(), caller.subject().to_owned(), name.clone());
    let file_name = name.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read_into(&bytes, &file_name, limits, portions, teller)
    });
    let stored = api.store.import_portions(&name, size, receiver).await;
    let (summary, first, teller) = reading
        .await
        .map_err(|_| bad("The reader failed at this file; the server's log tells why."))?
        .map_err(|error| bad(error.to_string()))?;
    let imported = match stored {
        Ok(imported) => imported,
        Err(error) => {
            teller.end(Severity::Error, format!("{name} could not be imported"), 0);
            return Err(error.into());
        }
    };
    if summary.total_rows == 0 {
        return Err(bad(format!("{name} has headings, but no rows.")));
    }
    let rows = imported.map_or(0, |imported| imported.rows);
    let message = format!("{rows} of {} rows of {name} were imported", summary.total_rows);
    let severity = if rows == i64::from(summary.total_rows) { Severity::Success } else { Severity::Warning };
    teller.end(severity, message.clone(), rows);
    let mut body = report(&summary, &first);
    body.insert("importId".into(), json!(imported.map(|imported| imported.id)));
    body.insert("newProducts".into(), json!(imported.map_or(0, |imported| imported.new)));
    body.insert("message".into(), message.into());
    Ok(success(body.into()))
}

/// Reads a price list and says what an upload would make of it; nothing is stored.
///
/// The rows may come as a file, or as JSON: `{"products": [{"Artikelnummer": "4711", …}]}`.
#[utoipa::path(
    post, path = "/api/excel/validate", tag = "label printer: spreadsheets",
    request_body(content(
        (SpreadsheetForm = "multipart/form-data"), (Value = "application/json"),
    )),
    responses(
        (status = 200, body = Value, description = "What was read, and what could not be"),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
    ),
)]
pub async fn validate(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let limits = Limits { bytes: api.max_upload, ..Limits::default() };
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|kind| kind.trim_start().starts_with("application/json"));
    let (summary, first): (Summary, Vec<ListedRow>) = if is_json {
        let rows = rows(request).await?;
        read(move || {
            let list = price_list::from_objects(&rows, limits)?;
            Ok((list.summary, list.products.into_iter().take(SHOWN).map(ListedRow::from).collect()))
        })
        .await?
    } else {
        let (File { name, bytes }, _) = Form::upload(&api, request).await?;
        read(move || {
            let mut first = Vec::new();
            let summary = price_list::parse_each(&bytes, &name, limits, |product, _| {
                if first.len() < SHOWN {
                    first.push(ListedRow::from(product));
                }
            })?;
            Ok((summary, first))
        })
        .await?
    };
    let mut body = report(&summary, &first);
    let valid = summary.error_count == 0 && summary.total_rows > 0;
    body.insert("valid".into(), valid.into());
    body.insert("isValid".into(), valid.into());
    body.insert(
        "message".into(),
        format!("{} of {} rows can be imported", summary.valid_rows, summary.total_rows).into(),
    );
    Ok(success(body.into()))
}

/// The rows of a JSON body: it is a list, or has one under one of the names that come to mind.
async fn rows(request: Request) -> Result<Vec<Map<String, Value>>, Refusal> {
    let body = Json::<Value>::from_request(request, &()).await;
    let Json(mut body) = body.map_err(|rejection| Refusal::from(body_rejection(&rejection)))?;
    let named = ["products", "rows", "data", "excelData"].into_iter().find(|name| body[name].is_array());
    let list = match named {
        Some(name) => body[name].take(),
        None => body,
    };
    let wrong = || bad("Send a file, or {\"products\": [{\"Artikelnummer\": \"4711\"}]}: a list of rows.");
    let Value::Array(list) = list else { return Err(wrong()) };
    if list.len() > MAX_ROWS {
        return Err(bad(format!("The list has more than {MAX_ROWS} rows; send it as a file.")));
    }
    list.into_iter()
        .map(|row| match row {
            Value::Object(row) => Ok(row),
            _ => Err(wrong()),
        })
        .collect()
}

/// What was read, in the words of every version of the page. What costs a row is an error, what costs a value a warning.
fn report(summary: &Summary, first: &[ListedRow]) -> Map<String, Value> {
    let (warnings, errors): (Vec<&RowError>, Vec<&RowError>) =
        summary.errors.iter().partition(|error| error.column.is_some());
    let lines = |errors: Vec<&RowError>| errors.into_iter().map(line).collect::<Vec<_>>();
    let report = json!({
        "products": first.iter().map(shown).collect::<Vec<_>>(),
        "totalRows": summary.total_rows,
        "validRows": summary.valid_rows,
        "invalidRows": summary.total_rows - summary.valid_rows,
        "successfulProducts": summary.valid_rows,
        "headers": summary.headers,
        "errors": lines(errors),
        "warnings": lines(warnings),
        "errorCount": summary.error_count,
    });
    match report {
        Value::Object(report) => report,
        _ => Map::new(),
    }
}

/// `{row, column?, message}`
pub fn line(error: &RowError) -> Value {
    match &error.column {
        Some(column) => json!({ "row": error.row, "column": column, "message": error.message }),
        None => json!({ "row": error.row, "message": error.message }),
    }
}

/// Reads a file and sends its products on. The end is sent only if there was anything; without it nothing is stored.
fn read_into(
    bytes: &[u8],
    name: &str,
    limits: Limits,
    portions: mpsc::Sender<Portion>,
    mut teller: Teller,
) -> Result<(Summary, Vec<ListedRow>, Teller), SpreadsheetError> {
    let mut first = Vec::new();
    let mut rows = Vec::with_capacity(PORTION);
    let mut done = 0;
    let summary = price_list::parse_each(bytes, name, limits, |product: ListedProduct, expected| {
        let row = ListedRow::from(product);
        if first.len() < SHOWN {
            first.push(row.clone());
        }
        rows.push(row);
        done += 1;
        if rows.len() == PORTION {
            // Nobody listens any more when the database failed; the end tells why.
            let _ = portions
                .blocking_send(Portion::Rows(std::mem::replace(&mut rows, Vec::with_capacity(PORTION))));
            teller.at(done, expected.saturating_sub(1));
        }
    })?;
    if summary.valid_rows > 0 {
        let errors: Vec<Value> = summary.errors.iter().map(line).collect();
        let end = Portion::End {
            headers: summary.headers.clone(),
            errors: errors.into(),
            error_count: i32::try_from(summary.error_count).unwrap_or(i32::MAX),
        };
        let _ = portions.blocking_send(Portion::Rows(rows));
        let _ = portions.blocking_send(end);
        teller.storing(done);
    }
    Ok((summary, first, teller))
}

/// Tells pages how far an import is.
struct Teller {
    store: Store,
    /// Who hears of it.
    owner: String,
    id: Uuid,
    file: String,
    next: Instant,
    told: bool,
}

impl Teller {
    fn new(store: Store, owner: String, file: String) -> Teller {
        Teller { store, owner, id: Uuid::now_v7(), file, next: Instant::now() + TELL_EVERY, told: false }
    }

    /// Not more often than anybody looks.
    fn at(&mut self, done: u32, expected: u32) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + TELL_EVERY;
        self.told = true;
        let total = Some(expected).filter(|total| *total >= done);
        let message = match total {
            Some(total) => format!("Importing {}: {done} of {total} rows", self.file),
            None => format!("Importing {}: {done} rows", self.file),
        };
        self.tell(Severity::Info, message, "reading", done.into(), total);
    }

    fn storing(&mut self, done: u32) {
        if self.told {
            let message = format!("Importing {}: storing {done} products", self.file);
            self.tell(Severity::Info, message, "storing", done.into(), Some(done));
        }
    }

    fn end(self, severity: Severity, message: String, rows: i64) {
        self.tell(severity, message, "done", rows, u32::try_from(rows).ok());
    }

    fn tell(&self, severity: Severity, message: String, phase: &str, done: i64, total: Option<u32>) {
        let mut details = json!({ "import": self.id, "file": self.file, "phase": phase, "done": done });
        if let Some(total) = total {
            details["total"] = total.into();
        }
        let notice = SystemNotification { r#type: severity, message, details: Some(Anything(details)) };
        self.store.notify(&self.owner, notice);
    }
}
