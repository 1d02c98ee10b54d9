//! A body that may bring a spreadsheet: JSON, or a form with a file.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, multipart::MultipartError},
    http::{StatusCode, header},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{answer::Refusal, field};
use crate::{
    http::{Api, body_rejection},
    product::spreadsheet::SpreadsheetError,
};

/// The form's field for the price list of a job.
const JOB_FIELDS: [&str; 1] = ["excelFile"];
/// The form's fields for a spreadsheet of its own.
const UPLOAD_FIELDS: [&str; 2] = ["file", "excelFile"];
const FILE_ENDINGS: [&str; 3] = [".xlsx", ".xls", ".csv"];
/// Fields of a form at the most.
const MAX_FIELDS: usize = 64;
/// Room for a form's other fields beside the spreadsheet, in bytes.
const ROOM_FOR_FIELDS: usize = 1 << 20;
/// Characters of a file's name that are kept.
const MAX_FILE_NAME: usize = 200;

/// What came in.
#[derive(Debug, Default)]
pub struct Form {
    pub fields: Map<String, Value>,
    pub file: Option<File>,
}

/// An uploaded spreadsheet.
#[derive(Debug)]
pub struct File {
    pub name: String,
    pub bytes: Bytes,
}

impl Form {
    /// Reads either kind of body within its limit.
    pub async fn read(api: &Api, mut request: Request) -> Result<Form, Refusal> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type
            .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"))
        {
            DefaultBodyLimit::max(api.max_upload + ROOM_FOR_FIELDS).apply(&mut request);
            return Form::multipart(request, &JOB_FIELDS, unreadable_list).await;
        }
        match Json::<Value>::from_request(request, &()).await {
            Ok(Json(Value::Object(fields))) => Ok(Form { fields, file: None }),
            Ok(_) => Err(bad("The body must be a JSON object.")),
            Err(rejection) => Err(body_rejection(&rejection).into()),
        }
    }

    /// Reads a form that must bring a spreadsheet.
    pub async fn upload(api: &Api, mut request: Request) -> Result<(File, Map<String, Value>), Refusal> {
        DefaultBodyLimit::max(api.max_upload + ROOM_FOR_FIELDS).apply(&mut request);
        let form = Form::multipart(request, &UPLOAD_FIELDS, bad).await?;
        let file = form.file.ok_or_else(|| bad("No file uploaded"))?;
        Ok((file, form.fields))
    }

    async fn multipart(
        request: Request,
        file_fields: &[&str],
        unreadable_file: fn(String) -> Refusal,
    ) -> Result<Form, Refusal> {
        let unreadable = |error: MultipartError| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::automation(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The upload is larger than this server takes.",
            ),
            _ => bad(format!("The form cannot be read: {}.", error.body_text())),
        };
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|rejection| bad(format!("The form cannot be read: {}.", rejection.body_text())))?;
        let mut form = Form::default();
        for count in 0.. {
            let Some(part) = parts.next_field().await.map_err(unreadable)? else { break };
            if count == MAX_FIELDS {
                return Err(bad(format!("The form has more than {MAX_FIELDS} fields.")));
            }
            let field = part.name().unwrap_or_default().to_owned();
            match part.file_name().map(str::to_owned) {
                None => {
                    let text = part.text().await.map_err(unreadable)?;
                    form.fields.insert(field, text.into());
                }
                // A file chooser that was left empty.
                Some(name) if name.is_empty() => {}
                Some(_) if !file_fields.contains(&field.as_str()) || form.file.is_some() => {
                    return Err(bad(format!(
                        "Send the spreadsheet in the field {}, and no other file.",
                        file_fields[0]
                    )));
                }
                Some(name) => {
                    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_FILE_NAME).collect();
                    if !FILE_ENDINGS.iter().any(|ending| name.to_lowercase().ends_with(ending)) {
                        return Err(unreadable_file("Only .xlsx, .xls and .csv files can be read.".into()));
                    }
                    form.file = Some(File { name, bytes: part.bytes().await.map_err(unreadable)? });
                }
            }
        }
        Ok(form)
    }
}

/// Spreadsheets that are read at once; each may unfold to many times its size.
pub static READERS: Semaphore = Semaphore::const_new(2);

/// Reads a spreadsheet in a thread of its own, when it is its turn.
pub async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpreadsheetError> + Send + 'static,
) -> Result<T, Refusal> {
    // Never closed, so a permit always comes; the thread gives it back, whatever becomes of the request.
    let permit = READERS.acquire().await;
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    reading
        .await
        .map_err(|_| field::bad("The reader failed at this file; the server's log tells why."))?
        .map_err(|error| field::bad(error.to_string()))
}

/// A job's price list that cannot be used, and why.
pub fn unreadable_list(why: String) -> Refusal {
    Refusal::because(StatusCode::BAD_REQUEST, "Failed to parse Excel file", why)
}

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}
