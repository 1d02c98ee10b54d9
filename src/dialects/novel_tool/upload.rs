//! PDFs: what one would cost, its text, and the one that a confirmed job waits for.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{
    KIND,
    answer::{Error, Refusal},
    credits,
    pdf::{Pdf, Unreadable},
    shape,
};
use crate::{
    http::{Api, Caller, internal, objects_failed},
    job::{Code, Rejection, Status},
    store::{StoreError, StoredArtifact},
};

/// Largest PDF.
const MAX_PDF: usize = 50 * 1024 * 1024;
const ROOM_FOR_FORM: usize = 1 << 20;
/// Longest field besides the PDF.
const MAX_FIELD: usize = 1000;
const MAX_FIELDS: usize = 20;
/// PDFs that are in memory at once.
static UPLOADS: Semaphore = Semaphore::const_new(4);
/// Most of a PDF's text that is given, in characters.
const MAX_TEXT: usize = 50_000;
/// The name under which the job has it.
const NAME: &str = "input.pdf";

/// A PDF, for what its pages cost.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub struct PdfForm {
    #[schema(value_type = String, format = Binary)]
    pdf_file: Vec<u8>,
    model_preference: Option<String>,
}

/// A PDF, for the job that waits for it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub struct NovelForm {
    #[schema(value_type = String, format = Binary)]
    pdf_file: Vec<u8>,
    /// The number of the confirmed job.
    job_id: String,
    sentence_length_limit: Option<String>,
    gemini_model: Option<String>,
    ignore_dialogue: Option<String>,
    preserve_formatting: Option<String>,
    fix_hyphenation: Option<String>,
    min_sentence_length: Option<String>,
}

/// A form as it was read.
#[derive(Default)]
struct Form {
    pdf: Option<(String, Bytes)>,
    fields: Map<String, Value>,
}

impl Form {
    async fn read(mut request: Request) -> Result<Form, Refusal> {
        DefaultBodyLimit::max(MAX_PDF + ROOM_FOR_FORM).apply(&mut request);
        let unreadable = |why: String| Refusal::bad(format!("The form cannot be read: {why}"));
        let mut form =
            Multipart::from_request(request, &()).await.map_err(|_| Refusal::bad("No PDF file provided"))?;
        let mut read = Form::default();
        while let Some(mut field) = form.next_field().await.map_err(|error| unreadable(error.body_text()))? {
            let Some(name) = field.name().map(str::to_owned) else { continue };
            let is_pdf = name == "pdf_file";
            let most = if is_pdf { MAX_PDF } else { MAX_FIELD };
            let file = field.file_name().unwrap_or_default().to_owned();
            let mut bytes = BytesMut::new();
            while let Some(chunk) = field.chunk().await.map_err(|error| too_large_or(&error, unreadable))? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > most {
                    return Err(if is_pdf { too_large() } else { unreadable(format!("{name} is too long")) });
                }
            }
            if is_pdf {
                read.pdf = Some((file, bytes.freeze()));
            } else if read.fields.len() < MAX_FIELDS {
                let text = String::from_utf8_lossy(&bytes).replace('\0', "");
                read.fields.insert(name.chars().take(64).filter(|c| *c != '\0').collect(), text.into());
            }
        }
        Ok(read)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "File size exceeds maximum allowed (50MB)")
}

fn too_large_or(
    error: &axum::extract::multipart::MultipartError,
    otherwise: impl Fn(String) -> Refusal,
) -> Refusal {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => otherwise(error.body_text()),
    }
}

/// What a PDF would cost, by its pages and pictures.
#[utoipa::path(
    post, path = "/api/v1/estimate-pdf", tag = "novel tool",
    request_body(content = PdfForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 422, body = Error, description = "It is no PDF"), (status = 429, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn estimate_pdf(request: Request) -> Result<Json<Value>, Refusal> {
    // Never closed, so a permit always comes.
    let _permit = UPLOADS.acquire().await;
    let form = Form::read(request).await?;
    let preference = form.text("model_preference").unwrap_or("speed").to_owned();
    let (preference, model) = credits::model(Some(&preference))?;
    let Some((_, bytes)) = form.pdf else { return Err(Refusal::bad("No PDF file provided")) };
    let size = bytes.len();
    let counted = reading(move || Pdf::read(&bytes).map(|pdf| (pdf.page_count(), pdf.image_count()))).await?;
    let (pages, images) = counted.map_err(|why| {
        let body = json!({ "error": "Invalid or corrupted PDF file", "details": why.sentence() });
        Refusal::with(StatusCode::UNPROCESSABLE_ENTITY, body)
    })?;
    let tokens = (pages * 50 + images * 5) as i64;
    Ok(Json(json!({
        "page_count": pages,
        "file_size": size,
        "image_count": images,
        "estimated_tokens": tokens,
        "estimated_credits": credits::cost(tokens, model.rate),
        "model": model.name,
        "model_preference": preference,
        "pricing_rate": model.rate,
        "capped": false,
        "warning": null,
    })))
}

/// A PDF, for its text.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub struct TextForm {
    #[schema(value_type = String, format = Binary)]
    pdf_file: Vec<u8>,
}

/// The beginning of a PDF's text, from which pages of the first generation estimate what it costs.
#[utoipa::path(
    post, path = "/api/v1/extract-pdf-text", tag = "novel tool",
    request_body(content = TextForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn extract(request: Request) -> Result<Json<Value>, Refusal> {
    let _permit = UPLOADS.acquire().await;
    let form = Form::read(request).await?;
    let Some((_, bytes)) = form.pdf else { return Err(Refusal::bad("No PDF file provided")) };
    let read = reading(move || {
        Pdf::read(&bytes).map(|mut pdf| {
            let pages = pdf.page_count();
            (pdf.text(MAX_TEXT), pages)
        })
    });
    let (text, pages) = read.await?.map_err(|why: Unreadable| Refusal::bad(why.sentence()))?;
    Ok(Json(json!({ "text": text, "page_count": pages })))
}

/// Reads a PDF beside the threads that serve.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(|error| {
        tracing::error!(%error, "a PDF could not be read");
        Refusal::bad("The PDF cannot be read; save it anew and try again.")
    })
}

/// Stores the PDF of a confirmed job, which a worker takes up then.
#[utoipa::path(
    post, path = "/api/v1/process-pdf-async", tag = "novel tool",
    request_body(content = NovelForm, content_type = "multipart/form-data"),
    responses(
        (status = 202, body = Value), (status = 400, body = Error), (status = 404, body = Error),
        (status = 413, body = Error), (status = 429, body = Error), (status = 503, body = Error),
    ),
)]
pub async fn process(caller: Caller, State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let _permit = UPLOADS.acquire().await;
    let form = Form::read(request).await?;
    let number = form.text("job_id").map(str::trim).filter(|text| !text.is_empty());
    let number = number.ok_or_else(|| Refusal::bad("job_id is required for async processing"))?.to_owned();
    let Some((file, bytes)) = form.pdf else { return Err(Refusal::bad("No PDF file provided")) };
    let is_named = file.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("pdf"));
    if !is_named || !bytes.starts_with(b"%PDF") {
        return Err(Refusal::bad("Invalid file type. Only PDF files are allowed"));
    }
    let none = || Refusal::new(StatusCode::NOT_FOUND, "Job not found or unauthorized");
    let number: i64 = number.parse().map_err(|_| none())?;
    let novel = match api.store.work_by_number(KIND, number).await {
        Ok(novel) if caller.sees(&novel.record.owner) => novel,
        Ok(_) | Err(StoreError::Rejected(_)) => return Err(none()),
        Err(error) => return Err(error.into()),
    };
    let id = novel.record.job.id;
    let refused = |status: Status, given: bool| {
        let word = if given && status == Status::Pending { "queued" } else { shape::status(status) };
        Refusal::bad(format!("Job is in {word} status, cannot process"))
    };
    if novel.record.job.status != Status::Paused {
        return Err(refused(novel.record.job.status, shape::is_given(&novel.document)));
    }
    // Each step may be taken again, should this break off before the last one.
    let key = StoredArtifact::key(id, NAME);
    let stored = api.blobs.put_new(key.clone(), bytes, "application/pdf").await;
    let artifact = stored.map_err(|error| Refusal::from(objects_failed(&error)))?;
    if let Err(error) = api.store.add_artifact(id, None, NAME, artifact, &api.blobs).await {
        let _ = api.blobs.delete(&key).await;
        return Err(error.into());
    }
    let name: String = file
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    let mut settings = form.fields;
    settings.remove("job_id");
    let patch = json!({
        "uploaded": true, "original_filename": name, "settings": settings, "current_step": "Queued",
    });
    let Value::Object(patch) = patch else { return Err(Refusal::bad("The form cannot be read")) };
    api.store.patch_work(id, patch).await?;
    match api.store.resume(id).await.map_err(internal) {
        Ok(_) => {}
        Err(Rejection { code: Code::JobEnded | Code::JobNotPaused, .. }) => {
            let now = api.store.work(id).await?;
            return Err(refused(now.record.job.status, true));
        }
        Err(rejection) => return Err(rejection.into()),
    }
    let body = json!({
        "job_id": number, "task_id": id, "status": "pending", "message": "PDF processing started",
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
