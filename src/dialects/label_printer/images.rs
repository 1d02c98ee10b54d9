//! `/api/images/*`: pictures under the addresses that this frontend makes up itself: by job and article number, or by label.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::answer::{Refusal, RefusalBody, success};
use crate::{
    http::{Api, Caller, Kept, internal, serve_object},
    job::{Code, JobId, Rejection},
    store::{ScreenshotRow, StoreError},
};

/// How long a browser may keep a picture, in seconds.
const KEEP: u32 = 3600;
/// Names of the picture of a whole product, besides those of its parts.
const WHOLE: [&str; 2] = ["screenshot.png", "product-image.png"];
const THUMBNAIL: &str = "thumbnail.png";
/// Longest part of a path that is looked up, in bytes.
const MAX_PART: usize = 200;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(screenshot)).routes(routes!(label)).routes(routes!(list))
}

/// A picture of a product page: `screenshot.png` and `thumbnail.png`, or of a part of it, such as `product-image.png`.
#[utoipa::path(
    get, path = "/api/images/screenshots/{jobId}/{articleNumber}/{filename}", tag = "label printer: images",
    params(
        ("jobId" = String, Path, description = "The job"),
        ("articleNumber" = String, Path, description = "As the page or its reading has it"),
        ("filename" = String, Path, description = "`screenshot.png`, `thumbnail.png`, `product-image.png`, `title.png`, …"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/png"),
        (status = 206, description = "A range", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "As the client knows it"),
        (status = 404, body = RefusalBody), (status = 416, description = "The range lies outside"),
        (status = 503, body = RefusalBody),
    ),
)]
async fn screenshot(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path((job, article, name)) = path.map_err(|_| no_image())?;
    let (job, article) = (job_id(&job)?, part(&article)?);
    admit(&api, &caller, job).await?;
    let key = find(&api, job, article, part(&name)?).await?.ok_or_else(no_image)?;
    serve(&api, &key, &headers).await
}

/// A label's picture (`<id>.png`) or its PDF (`<id>.pdf`).
#[utoipa::path(
    get, path = "/api/images/labels/{filename}", tag = "label printer: images",
    params(("filename" = String, Path, description = "The label's id with `.png` or `.pdf`")),
    responses(
        (status = 200, content((Vec<u8> = "image/png"), (Vec<u8> = "application/pdf"))),
        (status = 206, description = "A range", body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "As the client knows it"),
        (status = 404, body = RefusalBody), (status = 416, description = "The range lies outside"),
        (status = 503, body = RefusalBody),
    ),
)]
async fn label(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path(name) = path.map_err(|_| no_image())?;
    let (id, ending) = name.rsplit_once('.').ok_or_else(no_image)?;
    let id: Uuid = id.parse().map_err(|_| no_image())?;
    let label = api.store.label(id).await?.ok_or_else(no_image)?;
    if !api.store.owner_of(id).await?.is_some_and(|owner| caller.sees(&owner)) {
        return Err(no_image());
    }
    let key = match ending {
        "png" => label.image_key,
        "pdf" => label.pdf_key,
        _ => None,
    };
    serve(&api, &key.ok_or_else(no_image)?, &headers).await
}

/// The pictures that there are of a job's product.
#[utoipa::path(
    get, path = "/api/images/list/{jobId}/{articleNumber}", tag = "label printer: images",
    params(
        ("jobId" = String, Path, description = "The job"),
        ("articleNumber" = String, Path, description = "As the page or its reading has it"),
    ),
    responses(
        (status = 200, description = "`images`: their names, addresses and sizes in bytes", body = Value),
        (status = 404, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
async fn list(
    State(api): State<Api>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Refusal> {
    let none = || Refusal::plain(StatusCode::NOT_FOUND, "Images not found");
    let Path((job, article)) = path.map_err(|_| none())?;
    let (job, article) = (job_id(&job).map_err(|_| none())?, part(&article).map_err(|_| none())?);
    admit(&api, &caller, job).await.map_err(|_| none())?;
    let mut names: Vec<(String, String)> = parts(&api, job, article).await?;
    if let Some(whole) = whole(&api, job, article).await? {
        let has_picture = names.iter().any(|(name, _)| name == WHOLE[1]);
        names.push((WHOLE[0].into(), whole.image_key.clone()));
        if !has_picture {
            names.push((WHOLE[1].into(), whole.image_key));
        }
        names.push((THUMBNAIL.into(), whole.thumbnail_key));
    }
    if names.is_empty() {
        return Err(none());
    }
    names.sort();
    let folder: String = url::form_urlencoded::byte_serialize(article.as_bytes()).collect();
    let folder = folder.replace('+', "%20");
    let mut images: Vec<Value> = Vec::with_capacity(names.len());
    for (name, key) in names {
        if let Some(artifact) = api.store.artifact(&key).await? {
            let url = format!("/api/images/screenshots/{job}/{folder}/{name}");
            images.push(json!({ "filename": name, "url": url, "size": artifact.size }));
        }
    }
    Ok(success(json!({ "images": images })))
}

/// Makes sure that the caller may know of a picture's job.
async fn admit(api: &Api, caller: &Caller, job: JobId) -> Result<(), Refusal> {
    api.admit(caller, job).await.map_err(|error| match internal(error) {
        Rejection { code: Code::JobNotFound, .. } => no_image(),
        rejection => rejection.into(),
    })
}

/// The key of a picture by its name.
async fn find(api: &Api, job: JobId, article: &str, name: &str) -> Result<Option<String>, StoreError> {
    if let Some(kind) = name.strip_suffix(".png")
        && let Some(element) = api.store.element(job, article, kind).await?
    {
        return Ok(Some(element.key));
    }
    if !WHOLE.contains(&name) && name != THUMBNAIL {
        return Ok(None);
    }
    let whole = whole(api, job, article).await?;
    Ok(whole.map(|row| if name == THUMBNAIL { row.thumbnail_key } else { row.image_key }))
}

/// The pictures of parts of the product's page: names and keys.
async fn parts(api: &Api, job: JobId, article: &str) -> Result<Vec<(String, String)>, StoreError> {
    let elements = api.store.elements(job).await?.into_iter().filter(|element| element.folder == article);
    Ok(elements.map(|element| (format!("{}.png", element.kind), element.key)).collect())
}

async fn whole(api: &Api, job: JobId, article: &str) -> Result<Option<ScreenshotRow>, StoreError> {
    api.store.screenshot_of(job, article).await
}

async fn serve(api: &Api, key: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    let artifact = api.store.artifact(key).await?.ok_or_else(no_image)?;
    serve_object(api, &artifact, headers, Kept::For(KEEP)).await.map_err(|rejection| match rejection.code {
        Code::RouteNotFound => no_image(),
        _ => rejection.into(),
    })
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| no_image())
}

/// A part of the path that may be looked up: keys are looked up in the database, so no part leads anywhere else.
fn part(text: &str) -> Result<&str, Refusal> {
    if text.len() > MAX_PART || text.chars().any(char::is_control) {
        return Err(no_image());
    }
    Ok(text)
}

fn no_image() -> Refusal {
    Refusal::plain(StatusCode::NOT_FOUND, "Image not found")
}
