//! The body of a start: JSON, or a form with a spreadsheet.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, multipart::MultipartError},
    http::{StatusCode, header},
};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::Refusal;
use crate::http::{Api, body_rejection};

/// The form's field for the spreadsheet.
const FILE_FIELD: &str = "excelFile";
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
            return Form::multipart(request).await;
        }
        match Json::<Value>::from_request(request, &()).await {
            Ok(Json(Value::Object(fields))) => Ok(Form { fields, file: None }),
            Ok(_) => Err(bad("The body must be a JSON object.")),
            Err(rejection) => Err(body_rejection(&rejection).into()),
        }
    }

    async fn multipart(request: Request) -> Result<Form, Refusal> {
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
                Some(_) if field != FILE_FIELD => {
                    return Err(bad(format!(
                        "Send the spreadsheet in the field {FILE_FIELD}, and no other file."
                    )));
                }
                Some(name) => {
                    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_FILE_NAME).collect();
                    if !FILE_ENDINGS.iter().any(|ending| name.to_lowercase().ends_with(ending)) {
                        return Err(unreadable_list("Only .xlsx, .xls and .csv files can be read."));
                    }
                    form.file = Some(File { name, bytes: part.bytes().await.map_err(unreadable)? });
                }
            }
        }
        Ok(form)
    }
}

/// A spreadsheet that cannot be used, and why.
pub fn unreadable_list(why: impl Into<String>) -> Refusal {
    Refusal::because(StatusCode::BAD_REQUEST, "Failed to parse Excel file", why)
}

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}
