//! `/api/upload/transcripts`: files that each become a job.

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State, multipart::Field},
};
use serde_json::{Value, json};

use super::{
    answer::{Detail, Refusal},
    queue::transcript,
};
use crate::{
    http::{Api, Caller, objects_failed},
    job::{JobId, Scope},
    store::{BlobsError, StoredArtifact},
};

/// Bytes of one file, and files of one request.
const MAX_FILE: usize = 50_000_000;
const MAX_FILES: usize = 20;
const ROOM_FOR_FORM: usize = 1 << 20;
/// Characters of a file's name.
const MAX_NAME: usize = 200;

/// A form with transcripts.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub struct Transcripts {
    /// `.txt` or `.srt`, of at most 50 MB each; at most 20.
    #[schema(format = Binary)]
    files: Vec<String>,
}

/// Makes a job of each transcript that is uploaded.
#[utoipa::path(
    post, path = "/api/upload/transcripts", tag = "transcript queue",
    request_body(content = Transcripts, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Value),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn upload(
    caller: Caller,
    State(api): State<Api>,
    mut request: Request,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    DefaultBodyLimit::max(MAX_FILES * MAX_FILE + ROOM_FOR_FORM).apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Refusal::bad(format!("The form cannot be read: {}", error.body_text())))?;
    let mut files = Vec::new();
    loop {
        let field = form.next_field().await;
        let field =
            field.map_err(|error| Refusal::bad(format!("The form cannot be read: {}", error.body_text())))?;
        let Some(field) = field else { break };
        let Some(name) = field.file_name().map(str::to_owned).filter(|_| field.name() == Some("files"))
        else {
            continue;
        };
        if files.len() == MAX_FILES {
            return Err(Refusal::bad(format!("Maximum {MAX_FILES} files per upload")));
        }
        files.push(match take(&api, &caller, &name, field).await {
            Ok(number) => json!({ "filename": name, "success": true, "job_id": number, "error": null }),
            Err(error) => json!({ "filename": name, "success": false, "job_id": null, "error": error }),
        });
    }
    if files.is_empty() {
        return Err(Refusal::bad("No files provided"));
    }
    let uploaded = files.iter().filter(|file| file["success"] == true).count();
    Ok(Json(json!({ "uploaded": uploaded, "failed": files.len() - uploaded, "files": files })))
}

/// Stores a transcript and makes a job of it; returns its number.
async fn take(api: &Api, caller: &Caller, name: &str, field: Field<'_>) -> Result<Option<i64>, String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let ending = ending.to_ascii_lowercase();
    if !matches!(ending.as_str(), "txt" | "srt") {
        return Err("Invalid file type; allowed are .txt and .srt".into());
    }
    if stem.trim().is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err("Invalid filename".into());
    }
    let mut new = transcript(caller, stem.trim(), name, None);
    new.document.insert("media_id".into(), stem.trim().into());
    // Whatever it was called: a name that may stand in an address.
    let stored_as = format!("transcript.{ending}");
    new.input.insert("artifact".into(), stored_as.clone().into());
    let key = StoredArtifact::key(new.id, &stored_as);
    let most = MAX_FILE.min(api.max_artifact);
    let stored = api.blobs.put_stream(key.clone(), field, "text/plain; charset=utf-8", most).await;
    let artifact = stored.map_err(|error| match error {
        BlobsError::TooLarge(most) => format!("File too large; the most is {} MB", most / 1_000_000),
        BlobsError::Cut(_) => "The file did not arrive whole".into(),
        other => objects_failed(&other).message,
    })?;
    if artifact.size == 0 {
        let _ = api.blobs.delete(&key).await;
        return Err("File is empty".into());
    }
    new.artifacts.push((stored_as, artifact));
    let number = async {
        let made = api.store.submit_work(new, None).await?;
        number(api, made.job).await
    };
    match number.await {
        Ok(number) => Ok(number),
        Err(error) => {
            let _ = api.blobs.delete(&key).await;
            Err(crate::http::internal(error).message)
        }
    }
}

async fn number(api: &Api, job: JobId) -> Result<Option<i64>, crate::store::StoreError> {
    Ok(api.store.work(job).await?.number)
}
