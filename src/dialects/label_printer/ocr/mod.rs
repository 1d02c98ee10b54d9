//! `/api/ocr/*`: pictures that people send are read, and readings are matched with lists that they send.
//!
//! An upload becomes a job whose items are the pictures, so that reading is queued and bounded like all work, goes on
//! after a restart, and is seen live (`ocr:*` events). The request waits for the job's end; what takes longer is asked
//! for later.

mod matching;
mod results;
mod upload;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::upload::Picture;
use super::answer::{Id, Refusal, RefusalBody, objects_failed, success};
use crate::{
    event::JobType,
    http::{Api, Caller},
    job::{CrawlOptions, JobConfig, JobId, MatchOptions, Plan},
    store::{Artifact, Blobs, BlobsError, NewJob, NewTask, Row, ScreenshotRow},
};

/// Pictures of one upload at the most.
const MOST_PICTURES: usize = 50;
/// Pictures of a job that are read again at the most.
const MOST_AGAIN: usize = 500;
/// Objects that are copied at once.
const COPIES: usize = 8;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(process))
        .routes(routes!(process_batch))
        .routes(routes!(process_job))
        .routes(routes!(status))
        .merge(matching::routes())
}

/// One picture to be read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the contract only; the form is read piece by piece")]
struct OnePicture {
    /// A PNG, JPEG or WebP picture of at most 20 MB and 60 million pixels.
    #[schema(value_type = String, format = Binary)]
    screenshot: Vec<u8>,
}

/// Pictures to be read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the contract only; the form is read piece by piece")]
struct ManyPictures {
    /// PNG, JPEG or WebP pictures.
    #[schema(value_type = Vec<String>, max_items = 50)]
    screenshots: Vec<Vec<u8>>,
}

/// Reads a product's values in a picture.
#[utoipa::path(
    post, path = "/api/ocr/process", tag = "label printer: ocr",
    request_body(content = OnePicture, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "What was read, in `result`", body = Value),
        (status = 202, description = "Still being read; ask `/api/ocr/status/{resultId}`", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn process(State(api): State<Api>, caller: Caller, request: Request) -> Result<Response, Refusal> {
    let read = Reading::of_upload(&api, &caller, request, "screenshot", 1).await?;
    let (ended, mut results) = read.results(&api).await?;
    let result = results.pop().unwrap_or_default();
    let body = json!({
        "jobId": read.job,
        "resultId": result["resultId"],
        "screenshotId": result["screenshotId"],
        "result": result,
    });
    Ok(answer(ended, body))
}

/// Reads up to 50 pictures.
#[utoipa::path(
    post, path = "/api/ocr/batch-process", tag = "label printer: ocr",
    request_body(content = ManyPictures, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "What was read, in `results`", body = Value),
        (status = 202, description = "Still being read; ask `/api/ocr/status/{resultId}`", body = Value),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn process_batch(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refusal> {
    let read = Reading::of_upload(&api, &caller, request, "screenshots", MOST_PICTURES).await?;
    read.answer_all(&api).await
}

/// Reads the screenshots of a job again; the job itself stays as it is.
#[utoipa::path(
    post, path = "/api/ocr/process-job/{id}", tag = "label printer: ocr",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "What was read, in `results`", body = Value),
        (status = 202, description = "Still being read; ask `/api/ocr/status/{resultId}`", body = Value),
        (status = 400, description = "It has no screenshots, or too many", body = RefusalBody),
        (status = 404, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn process_job(State(api): State<Api>, caller: Caller, Id(id): Id) -> Result<Response, Refusal> {
    let name = api.store.job(id).await?.job.name;
    let screenshots = api.store.screenshots(id).await?;
    if screenshots.is_empty() || screenshots.len() > MOST_AGAIN {
        let sentence = match screenshots.len() {
            0 => "This job has no screenshots.".to_owned(),
            count => format!("This job has {count} screenshots; at most {MOST_AGAIN} are read at once."),
        };
        return Err(bad(sentence));
    }
    let job = JobId(Uuid::now_v7());
    // The copies are the new job's own, so that either job can be removed without the other.
    let copied = stream::iter(screenshots)
        .map(|row| copy(&api, job, row))
        .buffered(COPIES)
        .try_collect::<Vec<_>>()
        .await;
    let rows = discard_unless(&api.blobs, job, copied).await?;
    let name: String = format!("OCR of {name}").chars().take(200).collect();
    Reading::begin(&api, &caller, job, name, rows).await?.answer_all(&api).await
}

/// A reading: done, under way or yet to begin. The id is that of a result, of its screenshot, or of its job.
#[utoipa::path(
    get, path = "/api/ocr/status/{resultId}", tag = "label printer: ocr",
    params(("resultId" = Uuid, Path, description = "As an upload was answered with")),
    responses(
        (status = 200, description = "Its `status`, and its `result` if it has ended", body = Value),
        (status = 404, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn status(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let none = || Refusal::automation(StatusCode::NOT_FOUND, "OCR result not found");
    let id: Uuid = path.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(none)?;
    // An id of somebody else's names nothing.
    let owner = api.store.owner_of(id).await?.ok_or_else(none)?;
    if !caller.sees(&owner) {
        return Err(none());
    }
    let result = results::find(&api, id).await?.ok_or_else(none)?;
    Ok(success(json!({ "status": result["status"], "resultId": result["resultId"], "result": result })))
}

/// A job that reads pictures.
struct Reading {
    job: JobId,
    caller: Caller,
}

/// A picture that is in the store, with its thumbnail.
struct Stored {
    image: Artifact,
    thumbnail: Artifact,
    row: ScreenshotRow,
}

impl Reading {
    /// Takes the pictures of a form in, one by one, and begins.
    async fn of_upload(
        api: &Api,
        caller: &Caller,
        request: Request,
        field: &str,
        most: usize,
    ) -> Result<Reading, Refusal> {
        let job = JobId(Uuid::now_v7());
        let taken = async {
            let mut pictures = upload::Pictures::of(api, request, field, most).await?;
            let mut stored = Vec::new();
            while let Some(picture) = pictures.next(api).await? {
                stored.push(store(api, job, stored.len(), picture).await?);
            }
            match stored.len() {
                0 => Err(bad(format!("Send the picture as multipart/form-data in the field {field}."))),
                _ => Ok(stored),
            }
        };
        let stored = discard_unless(&api.blobs, job, taken.await).await?;
        let name = match &stored[..] {
            [one] => format!("OCR of {}", one.row.product_name.as_deref().unwrap_or("a picture")),
            many => format!("OCR of {} pictures", many.len()),
        };
        Reading::begin(api, caller, job, name, stored).await
    }

    async fn begin(
        api: &Api,
        caller: &Caller,
        job: JobId,
        name: String,
        stored: Vec<Stored>,
    ) -> Result<Reading, Refusal> {
        let first = stored.first().map(|first| api.blobs.addresses().plain(&first.image.key));
        let template = api.store.template_ids().await?.into_iter().next();
        let config = JobConfig {
            plan: Plan::Read,
            shop_url: first.unwrap_or_default(),
            template_id: template.unwrap_or_default(),
            max_products: stored.len() as u32,
            follow_pagination: false,
            import_id: None,
            match_threshold: api.limits.match_threshold,
            matching: MatchOptions::default(),
            crawl: CrawlOptions::default(),
            companies: None,
        };
        let mut tasks = Vec::with_capacity(stored.len());
        let mut rows = Vec::with_capacity(stored.len() * 3);
        for Stored { image, thumbnail, row } in stored {
            tasks.push(NewTask::read(job, row.ordinal, row.id)?);
            rows.extend([Row::Artifact(image), Row::Artifact(thumbnail), Row::Screenshot(row)]);
        }
        let new = NewJob {
            config: Some(config),
            rows,
            tasks,
            owner: caller.subject().to_owned(),
            ..NewJob::unplanned(job, JobType::Automation, name)
        };
        let begun = api.store.create(new).await.map_err(Refusal::from);
        discard_unless(&api.blobs, job, begun).await?;
        Ok(Reading { job, caller: caller.clone() })
    }

    /// Waits for the end; returns whether it came, and what there is by now of each picture.
    async fn results(&self, api: &Api) -> Result<(bool, Vec<Value>), Refusal> {
        let ended = api.live.until_ended(&self.caller, self.job, api.ocr_wait).await?;
        Ok((ended, results::of_job(api, self.job).await?))
    }

    async fn answer_all(&self, api: &Api) -> Result<Response, Refusal> {
        let (ended, results) = self.results(api).await?;
        let successful = results.iter().filter(|result| result["success"] == true).count();
        let failed = results.iter().filter(|result| result["status"] == "failed").count();
        let body = json!({
            "jobId": self.job,
            "summary": { "total": results.len(), "successful": successful, "failed": failed },
            "resultIds": results.iter().map(|result| &result["resultId"]).collect::<Vec<_>>(),
            "results": results,
        });
        Ok(answer(ended, body))
    }
}

fn answer(ended: bool, body: Value) -> Response {
    let mut response = success(body);
    if !ended {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response.into_response()
}

fn key(job: JobId, folder: &str, id: Uuid) -> String {
    format!("jobs/{job}/{folder}/{id}.png")
}

async fn store(api: &Api, job: JobId, place: usize, picture: Picture) -> Result<Stored, Refusal> {
    let id = job.derive("screenshot", &place.to_string());
    let Picture { name, png, thumbnail, width, height } = picture;
    let file_size = png.len() as i64;
    let put = async |folder: &str, bytes| {
        let put = api.blobs.put_new(key(job, folder, id), bytes, "image/png").await;
        put.map_err(|error| Refusal::from(objects_failed(&error)))
    };
    let (image, thumbnail) = (put("screenshots", png).await?, put("thumbnails", thumbnail).await?);
    let row = ScreenshotRow {
        id,
        ordinal: place as i32,
        // Pages take it for an absolute address.
        product_url: api.blobs.addresses().plain(&image.key),
        product_name: name,
        image_key: image.key.clone(),
        thumbnail_key: thumbnail.key.clone(),
        width: width as i32,
        height: height as i32,
        file_size,
        complete: true,
        page_facts: json!({}),
        layout_type: "unknown".into(),
        page_title: String::new(),
    };
    Ok(Stored { image, thumbnail, row })
}

/// A screenshot of another job as one of this job's own.
async fn copy(api: &Api, job: JobId, row: ScreenshotRow) -> Result<Stored, Refusal> {
    let id = job.derive("screenshot", &row.id.to_string());
    let copied = async |from: &str, folder: &str| {
        let gone = || bad(format!("The picture of {} is gone; run the job again.", row.product_url));
        let known = api.store.artifact(from).await?.ok_or_else(gone)?;
        let to = key(job, folder, id);
        match api.blobs.copy(from, &to).await {
            Ok(()) => Ok(Artifact { key: to, ..known }),
            Err(BlobsError::NotFound(_)) => Err(gone()),
            Err(error) => Err(objects_failed(&error).into()),
        }
    };
    let image = copied(&row.image_key, "screenshots").await?;
    let thumbnail = copied(&row.thumbnail_key, "thumbnails").await?;
    let row = ScreenshotRow { id, image_key: image.key.clone(), thumbnail_key: thumbnail.key.clone(), ..row };
    Ok(Stored { image, thumbnail, row })
}

/// Removes what was stored for a job that does not come to be.
async fn discard_unless<T>(blobs: &Blobs, job: JobId, done: Result<T, Refusal>) -> Result<T, Refusal> {
    if done.is_err()
        && let Err(error) = blobs.delete_below(&format!("jobs/{job}/")).await
    {
        tracing::warn!(%job, error = error.cause(), "pictures of an upload that failed could not be removed");
    }
    done
}

fn bad(sentence: impl Into<String>) -> Refusal {
    Refusal::automation(StatusCode::BAD_REQUEST, sentence)
}
