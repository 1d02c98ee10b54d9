//! A label as a picture, drawn whenever it is asked for: so it always shows the label's values, and the library needs
//! no objects. A label that came with a picture of its own shows that.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, LazyLock},
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use image::{ImageFormat, ImageReader};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    super::{
        answer::{Refusal, RefusalBody},
        ask::{MaybeId, Params, bad},
    },
    no_label,
    shape::QrCodeBody,
};
use crate::{
    http::{Api, Caller, is_known},
    label::{self, Drawing, LabelData, LabelError, LabelRenderer, LabelTemplate},
    print::JoinError,
    product::ProductFacts,
    store::{LibraryLabel, Picture, StoreError, TemplateType},
};

/// Pictures that are drawn at once; drawing keeps a processor busy.
static DRAWN: Semaphore = Semaphore::const_new(2);
/// Requests that may be drawn or wait for it; more are told to come back.
static WAITING: Semaphore = Semaphore::const_new(256);
/// How long a page may keep a picture, in seconds.
const MAX_AGE: u32 = 3600;
/// A thumbnail's sides in pixels: at the most, and those that are not said.
const MAX_SIDE: u32 = 1000;
const SIDE: u32 = 200;
/// Pixels per millimetre of a picture that came with a label: 300 an inch.
const PICTURE_PER_MM: f32 = 300.0 / 25.4;
/// Memory for the pixels of a picture that came with a label, in bytes.
const MAX_DECODED: u64 = 120_000_000;

/// The one renderer of these routes: it holds the fonts.
fn shared_renderer() -> Arc<LabelRenderer> {
    static RENDERER: LazyLock<Arc<LabelRenderer>> = LazyLock::new(|| Arc::new(LabelRenderer::new()));
    RENDERER.clone()
}

/// The templates that draw some labels, each read once.
#[derive(Default)]
struct Templates(HashMap<String, Option<Arc<LabelTemplate>>>);

impl Templates {
    /// Reads those that are not there yet; one that is gone or cannot be read is stood in for by the type's own.
    async fn load(&mut self, api: &Api, ids: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        for id in ids {
            if let Entry::Vacant(place) = self.0.entry(id) {
                let stored = api.store.template(place.key()).await?;
                let parsed = stored
                    .and_then(|stored| LabelTemplate::stored(&stored.id, &stored.kind, &stored.source).ok());
                place.insert(parsed.map(Arc::new));
            }
        }
        Ok(())
    }

    /// The template of a label.
    fn of(&self, label: &LibraryLabel) -> Arc<LabelTemplate> {
        let own = label.template_id.as_ref().and_then(|id| self.0.get(id)).cloned().flatten();
        let template = own.unwrap_or_else(|| by_type(label.template_type));
        match label.qr_code.as_ref().and_then(QrCodeBody::wish) {
            Some(wish) => Arc::new(template.with_qr(&wish)),
            None => template,
        }
    }
}

/// The template that comes with the program for each type.
fn by_type(template_type: TemplateType) -> Arc<LabelTemplate> {
    static BUILTIN: LazyLock<HashMap<&str, Arc<LabelTemplate>>> = LazyLock::new(|| {
        LabelTemplate::builtins().iter().map(|template| (template.id(), Arc::new(template.clone()))).collect()
    });
    let id = match template_type {
        TemplateType::Minimal => "compact-label",
        TemplateType::Standard => "standard-label",
        TemplateType::Extended => "detailed-label",
        TemplateType::Custom => "custom-label",
    };
    BUILTIN[id].clone()
}

/// What a label shows.
fn data_of(label: &LibraryLabel) -> LabelData {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let facts = ProductFacts {
        article_number: some(&label.article_number),
        name: some(&label.product_name),
        price: label.price,
        currency: some(if label.currency == "€" { "EUR" } else { &label.currency }),
        tiers: label.tiers.clone(),
        ean: label.ean.clone(),
        description: label.description.clone(),
        image_url: label.image_url.clone(),
    };
    LabelData { facts, code_url: label.shop_url.clone(), ..LabelData::default() }
}

/// A sentence for a label that cannot be drawn.
fn undrawable(label: Uuid, error: &LabelError) -> Refusal {
    Refusal::automation(StatusCode::UNPROCESSABLE_ENTITY, format!("Label {label} cannot be drawn: {error}."))
}

/// Runs something that keeps a processor busy, when it is its turn.
pub async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let busy = || {
        Refusal::automation(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many pictures are being drawn; try again in a moment.",
        )
    };
    let _place = WAITING.try_acquire().map_err(|_| busy())?;
    // Never closed, so a permit always comes.
    let _turn = DRAWN.acquire().await;
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::automation(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The drawing failed; the server's log tells why.",
        )
    })
}

/// A label's own picture, or the one that is drawn.
pub async fn of(api: &Api, label: &LibraryLabel) -> Result<Picture, Refusal> {
    if label.has_picture
        && let Some(own) = api.store.library_picture(label.id).await?
    {
        return Ok(own);
    }
    let mut templates = Templates::default();
    templates.load(api, label.template_id.clone()).await?;
    let (template, data, renderer) = (templates.of(label), data_of(label), shared_renderer());
    let draw = move || renderer.lay_out(&template, &data)?.png(template.dpi());
    let png = off_the_async_threads(draw).await?.map_err(|error| undrawable(label.id, &error))?;
    Ok(Picture { bytes: png.into(), content_type: "image/png".into() })
}

/// Labels with all that is needed to draw each one.
pub struct Drawer {
    api: Api,
    labels: Vec<LibraryLabel>,
    templates: Templates,
    renderer: Arc<LabelRenderer>,
    runtime: tokio::runtime::Handle,
}

/// Why labels could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    #[error("label {0} cannot be drawn: {1}")]
    Label(Uuid, String),
    #[error("a label was removed while it was printed")]
    Gone,
    #[error(transparent)]
    Sheet(#[from] LabelError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DrawError {
    /// As these routes word it.
    pub fn refusal(self) -> Refusal {
        let refused = |status| Refusal::automation(status, format!("It cannot be printed: {self}."));
        match self {
            DrawError::Label(..) | DrawError::Sheet(_) => refused(StatusCode::UNPROCESSABLE_ENTITY),
            DrawError::Gone => refused(StatusCode::NOT_FOUND),
            DrawError::Join(_) => {
                tracing::error!(error = %self, "sheets could not be joined");
                refused(StatusCode::INTERNAL_SERVER_ERROR)
            }
            DrawError::Store(error) => error.into(),
        }
    }
}

impl Drawer {
    /// Reads labels of an owner's library, or of everybody's, and their templates.
    pub async fn load(api: &Api, ids: &[Uuid], owner: Option<&str>) -> Result<Drawer, Refusal> {
        let labels = api.store.library_labels(ids, owner).await?;
        if labels.len() != ids.len() {
            return Err(DrawError::Gone.refusal());
        }
        let mut templates = Templates::default();
        let named: Vec<String> = labels.iter().filter_map(|label| label.template_id.clone()).collect();
        templates.load(api, named).await?;
        let runtime = tokio::runtime::Handle::current();
        Ok(Drawer { api: api.clone(), labels, templates, renderer: shared_renderer(), runtime })
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Draws one of them; only off the async threads.
    ///
    /// # Errors
    /// When its template or picture cannot be drawn.
    pub fn draw(&self, number: usize) -> Result<Drawing, DrawError> {
        let label = self.labels.get(number).ok_or(DrawError::Gone)?;
        // Fetched one by one: a sheet of large pictures would fill the memory.
        let own = if label.has_picture {
            self.runtime.block_on(self.api.store.library_picture(label.id))?
        } else {
            None
        };
        let Some(own) = own else {
            return self
                .renderer
                .lay_out(&self.templates.of(label), &data_of(label))
                .map_err(|error| DrawError::Label(label.id, error.to_string()));
        };
        let problem = |why: String| DrawError::Label(label.id, format!("its picture {why}"));
        let reader = ImageReader::new(std::io::Cursor::new(&own.bytes)).with_guessed_format();
        let size = reader.map_err(image::ImageError::from).and_then(ImageReader::into_dimensions);
        let (width, height) = size.map_err(|error| problem(error.to_string()))?;
        let picture = label::Picture::read(own.bytes.to_vec()).map_err(problem)?;
        let mm = |pixels: u32| pixels as f32 / PICTURE_PER_MM;
        Ok(self.renderer.lay_out_picture(&picture, mm(width), mm(height))?)
    }
}

/// An answer that pages may keep; `None` when the asker has it already.
fn answer(tag: &str, picture: Option<Picture>) -> Response {
    let mut response = match picture {
        None => StatusCode::NOT_MODIFIED.into_response(),
        Some(picture) => ([(header::CONTENT_TYPE, picture.content_type)], picture.bytes).into_response(),
    };
    for (name, value) in [
        (header::CACHE_CONTROL, format!("private, max-age={MAX_AGE}")),
        (header::ETAG, tag.to_owned()),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A label as a picture of its full size.
#[utoipa::path(
    get, path = "/api/labels/{id}/image", tag = "labels", params(("id" = Uuid, Path)),
    responses(
        (status = 200, content((Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"))), (status = 304),
        (status = 404, body = RefusalBody), (status = 422, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being drawn"),
    ),
)]
pub async fn image(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    let label = api.store.library_label(id, caller.sees_only()).await?.ok_or_else(no_label)?;
    let tag = format!("\"{}\"", label.updated_at.timestamp_micros());
    let picture = if is_known(&headers, &tag) { None } else { Some(of(&api, &label).await?) };
    Ok(answer(&tag, picture))
}

/// The box that a thumbnail must fit into.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ThumbnailQuery {
    #[param(minimum = 1, maximum = 1000)]
    width: Option<u32>,
    #[param(minimum = 1, maximum = 1000)]
    height: Option<u32>,
}

/// A label as a small PNG that fits into a box, never larger than its picture.
#[utoipa::path(
    get, path = "/api/labels/{id}/thumbnail", tag = "labels", params(("id" = Uuid, Path), ThumbnailQuery),
    responses(
        (status = 200, content((Vec<u8> = "image/png"))), (status = 304), (status = 400, body = RefusalBody),
        (status = 404, body = RefusalBody), (status = 422, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being drawn"),
    ),
)]
pub async fn thumbnail(
    State(api): State<Api>,
    caller: Caller,
    MaybeId(id): MaybeId,
    Params(query): Params<ThumbnailQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id.ok_or_else(no_label)?;
    // A page that says one side means a box of that side.
    let width = query.width.or(query.height).unwrap_or(SIDE);
    let height = query.height.unwrap_or(width);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(bad(format!("width and height must be from 1 to {MAX_SIDE} pixels.")));
    }
    let label = api.store.library_label(id, caller.sees_only()).await?.ok_or_else(no_label)?;
    let tag = format!("\"{}-{width}x{height}\"", label.updated_at.timestamp_micros());
    if is_known(&headers, &tag) {
        return Ok(answer(&tag, None));
    }
    let picture = of(&api, &label).await?;
    let small = off_the_async_threads(move || shrink(&picture.bytes, width, height)).await?;
    let small = small.map_err(|why| {
        Refusal::automation(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("The label's picture cannot be read: {why}."),
        )
    })?;
    let picture = Picture { bytes: small, content_type: "image/png".into() };
    Ok(answer(&tag, Some(picture)))
}

/// A picture as a PNG that fits into a box, never enlarged.
fn shrink(bytes: &[u8], width: u32, height: u32) -> Result<Bytes, image::ImageError> {
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let whole = reader.decode()?;
    let small =
        if whole.width() > width || whole.height() > height { whole.thumbnail(width, height) } else { whole };
    let mut png = Vec::new();
    small.to_rgb8().write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png)?;
    Ok(png.into())
}
