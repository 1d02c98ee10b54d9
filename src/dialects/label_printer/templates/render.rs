//! Labels drawn on request: one or many, with a stored template or one that is still being edited.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    Body, Named, bad, document,
    draw::{AT_ONCE, Pictures, draw, place, undrawn},
    failed, list,
};
use crate::{
    dialects::label_printer::answer::{Refusal, RefusalBody, success},
    http::Api,
    label::{AUTOMATIC, Format, Kind, LabelData, LabelTemplate, Made, Output, choose, slug},
};

/// Labels of one batch,
const MAX_BATCH: usize = 500;
/// … and their pixels in all.
const MAX_BATCH_PIXELS: u64 = 400_000_000;
/// Milliseconds that drawing took.
const RENDER_TIME: HeaderName = HeaderName::from_static("x-render-time");

/// What a label shows and what is to be made of it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RenderBody {
    /// The product's values by name.
    data: Option<Map<String, Value>>,
    options: Option<RenderOptions>,
}

/// What is to be made of a label.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RenderOptions {
    /// `png`, `jpg`, `svg` or `pdf`.
    format: Option<String>,
    /// Of a JPEG.
    #[schema(minimum = 1, maximum = 100)]
    quality: Option<u32>,
    /// Times the template's resolution.
    #[schema(minimum = 0.05, maximum = 8)]
    scale: Option<f64>,
    #[schema(minimum = 10, maximum = 1200)]
    dpi: Option<u32>,
    /// The most that the picture may be wide, in pixels.
    #[schema(minimum = 1, maximum = 20000)]
    width: Option<u32>,
    #[schema(minimum = 1, maximum = 20000)]
    height: Option<u32>,
}

/// Many labels.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchBody {
    template_id: String,
    #[schema(max_items = 500)]
    data_array: Vec<Map<String, Value>>,
    options: Option<RenderOptions>,
}

/// A template that is not stored.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PreviewBody {
    template: Map<String, Value>,
    data: Option<Map<String, Value>>,
    options: Option<RenderOptions>,
}

/// A label for a printer.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportBody {
    article_data: Option<Map<String, Value>>,
    options: Option<RenderOptions>,
}

/// Templates that one request may draw with.
enum Choice {
    One(Arc<LabelTemplate>),
    /// The rules choose for each product.
    Rules(Vec<Arc<LabelTemplate>>),
}

impl Choice {
    async fn named(api: &Api, name: &str) -> Result<Choice, Refusal> {
        let template = list::find(api, name).await?;
        if template.id != AUTOMATIC {
            return Ok(Choice::One(Arc::new(document::parse(&template)?)));
        }
        let candidates = api.store.auto_templates().await.map_err(failed)?;
        // One that cannot be read does not keep the others from being chosen.
        let parsed = candidates.iter().filter(|t| t.id != AUTOMATIC).filter_map(|t| document::parse(t).ok());
        Ok(Choice::Rules(parsed.map(Arc::new).collect()))
    }

    fn of(&self, data: &LabelData) -> Result<(Arc<LabelTemplate>, Option<String>), Refusal> {
        match self {
            Choice::One(template) => Ok((template.clone(), None)),
            Choice::Rules(templates) => {
                let chosen = choose(templates.iter().map(|template| &**template), data);
                let chosen = chosen.ok_or_else(|| bad("There is no template to choose."))?;
                let template = templates.iter().find(|template| template.id() == chosen.template.id());
                Ok((template.ok_or_else(super::no_template)?.clone(), Some(chosen.note())))
            }
        }
    }
}

/// One label, and how long it took.
struct Drawn {
    made: Made,
    name: String,
    milliseconds: u128,
}

async fn one(api: &Api, choice: &Choice, data: &Value, output: Output) -> Result<Drawn, Refusal> {
    let _place = place()?;
    let data = LabelData::from_json(data).map_err(|error| undrawn(&error))?;
    let (template, note) = choice.of(&data)?;
    output.dpi(&template).map_err(|error| undrawn(&error))?;
    let pictures = Pictures::default().fetch(&template, &data, &api.blobs).await?;
    let began = Instant::now();
    let name = data.facts.article_number.clone().unwrap_or_else(|| template.id().to_owned());
    let mut made = draw(template, data, pictures, output).await.map_err(|error| undrawn(&error))?;
    made.warnings.extend(note);
    Ok(Drawn { made, name, milliseconds: began.elapsed().as_millis() })
}

fn options(body: &mut Body) -> Result<Output, Refusal> {
    Output::from_json(&body.take("options")).map_err(|error| undrawn(&error))
}

fn as_file(Drawn { made, milliseconds, .. }: Drawn) -> Response {
    let kind = HeaderValue::from_static(made.format.content_type());
    let mut response = ([(header::CONTENT_TYPE, kind)], made.bytes).into_response();
    if let Ok(time) = HeaderValue::from_str(&format!("{milliseconds}ms")) {
        response.headers_mut().insert(RENDER_TIME, time);
    }
    response
}

fn as_json(Drawn { made, milliseconds, .. }: Drawn) -> Response {
    let image = STANDARD.encode(&made.bytes);
    Json(json!({
        "success": true,
        "image": image,
        "mimeType": made.format.content_type(),
        "format": made.format.word(),
        "width": made.width,
        "height": made.height,
        "renderTime": milliseconds as u64,
        "warnings": made.warnings,
    }))
    .into_response()
}

/// A label as a file: PNG, JPEG, SVG or PDF.
#[utoipa::path(
    post, path = "/api/templates/{id}/render", operation_id = "render_template", tag = "templates",
    params(("id" = String, Path, description = "The template's id, name or slug, or `auto`")),
    request_body = RenderBody,
    responses(
        (status = 200, content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/svg+xml"), (Vec<u8> = "application/pdf"),
        ), headers(("X-Render-Time" = String, description = "Such as `7ms`"))),
        (status = 400, body = RefusalBody), (status = 404, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn picture(
    State(api): State<Api>,
    Named(name): Named,
    mut body: Body,
) -> Result<Response, Refusal> {
    let choice = Choice::named(&api, &name).await?;
    let output = options(&mut body)?;
    Ok(as_file(one(&api, &choice, &body.take("data"), output).await?))
}

/// A label as base64 in JSON.
#[utoipa::path(
    post, path = "/api/templates/{id}/render/base64", operation_id = "render_template_base64", tag = "templates",
    params(("id" = String, Path, description = "The template's id, name or slug, or `auto`")),
    request_body = RenderBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn base64(State(api): State<Api>, Named(name): Named, mut body: Body) -> Result<Response, Refusal> {
    let choice = Choice::named(&api, &name).await?;
    let output = options(&mut body)?;
    Ok(as_json(one(&api, &choice, &body.take("data"), output).await?))
}

/// A label as a PDF of exactly its size, as base64 in JSON.
#[utoipa::path(
    post, path = "/api/templates/{id}/export-pdf", operation_id = "export_template_pdf", tag = "templates",
    params(("id" = String, Path, description = "The template's id, name or slug, or `auto`")),
    request_body = ExportBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn export_pdf(
    State(api): State<Api>,
    Named(name): Named,
    mut body: Body,
) -> Result<Response, Refusal> {
    let choice = Choice::named(&api, &name).await?;
    let output = options(&mut body)?.as_format(Format::Pdf);
    let data = match body.take("articleData") {
        Value::Null => body.take("data"),
        data => data,
    };
    let drawn = one(&api, &choice, &data, output).await?;
    let file = slug(&drawn.name);
    Ok(success(json!({
        "pdf": STANDARD.encode(&drawn.made.bytes),
        "fileName": format!("label-{}.pdf", if file.is_empty() { "1".into() } else { file }),
        "renderTime": drawn.milliseconds as u64,
        "warnings": drawn.made.warnings,
    })))
}

/// Many labels with one template; each succeeds or fails by itself.
#[utoipa::path(
    post, path = "/api/templates/render-batch", operation_id = "render_batch", tag = "templates",
    request_body = BatchBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn batch(State(api): State<Api>, body: Body) -> Result<Response, Refusal> {
    many(&api, body).await
}

/// The same under the name that later pages use.
#[utoipa::path(
    post, path = "/api/templates/render/batch", operation_id = "render_batch_later", tag = "templates",
    request_body = BatchBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 404, body = RefusalBody),
        (status = 413, body = RefusalBody), (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn batch_later(State(api): State<Api>, body: Body) -> Result<Response, Refusal> {
    many(&api, body).await
}

async fn many(api: &Api, mut body: Body) -> Result<Response, Refusal> {
    let Value::String(name) = body.take("templateId") else {
        return Err(bad("Template ID and data array are required"));
    };
    let listed =
        ["dataArray", "articles", "items", "data"].iter().find_map(|key| match body.0.shift_remove(*key) {
            Some(Value::Array(items)) => Some(items),
            _ => None,
        });
    let items = listed.ok_or_else(|| bad("Template ID and data array are required"))?;
    if items.len() > MAX_BATCH {
        return Err(bad(format!("dataArray has {} entries; {MAX_BATCH} are allowed at once.", items.len())));
    }
    let choice = Choice::named(api, &name).await?;
    let output = options(&mut body)?;
    let _place = place()?;
    let mut pictures = Pictures::default();
    let mut pixels = 0;
    let mut ready = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let prepared = prepare(api, &choice, item, output, &mut pictures).await;
        if let Ok((template, ..)) = &prepared {
            let dpi = output.dpi(template).map_err(|error| undrawn(&error))?;
            let (width, height) = template.pixels(dpi);
            pixels += u64::from(width) * u64::from(height);
        }
        if pixels > MAX_BATCH_PIXELS {
            return Err(bad(
                "These labels have too many pixels; ask for fewer at once, or for a smaller scale.",
            ));
        }
        ready.push((index, prepared));
    }
    let drawn = stream::iter(ready).map(async |(index, prepared)| {
        let made = match prepared {
            Ok((template, data, pictures)) => {
                draw(template, data, pictures, output).await.map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        match made {
            Ok(made) => json!({
                "index": index,
                "success": true,
                "base64": STANDARD.encode(&made.bytes),
                "format": made.format.word(),
                "width": made.width,
                "height": made.height,
                "warnings": made.warnings,
            }),
            Err(why) => json!({ "index": index, "success": false, "error": why }),
        }
    });
    let results: Vec<Value> = drawn.buffered(AT_ONCE * 2).collect().await;
    let successful = results.iter().filter(|result| result["success"] == true).count();
    let summary =
        json!({ "total": results.len(), "successful": successful, "failed": results.len() - successful });
    Ok(Json(json!({ "success": true, "results": results, "summary": summary })).into_response())
}

type Prepared = (Arc<LabelTemplate>, LabelData, Vec<(String, bytes::Bytes)>);

async fn prepare(
    api: &Api,
    choice: &Choice,
    item: &Value,
    output: Output,
    pictures: &mut Pictures,
) -> Result<Prepared, String> {
    let data = LabelData::from_json(item).map_err(|error| error.to_string())?;
    let (template, _) = choice.of(&data).map_err(|refusal| refusal.sentence())?;
    output.dpi(&template).map_err(|error| error.to_string())?;
    let found = pictures.fetch(&template, &data, &api.blobs).await.map_err(|refusal| refusal.sentence())?;
    Ok((template, data, found))
}

/// A label with a template that is not stored: a file, or JSON with base64 for a caller that accepts JSON.
#[utoipa::path(
    post, path = "/api/templates/preview", operation_id = "preview_template", tag = "templates",
    request_body = PreviewBody,
    responses(
        (status = 200, content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/svg+xml"), (Vec<u8> = "application/pdf"),
            (Value = "application/json"),
        ), headers(("X-Render-Time" = String, description = "Such as `7ms`"))),
        (status = 400, body = RefusalBody), (status = 413, body = RefusalBody), (status = 415, body = RefusalBody),
        (status = 503, body = RefusalBody),
    ),
)]
pub async fn preview(
    State(api): State<Api>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Refusal> {
    let Value::Object(template) = body.take("template") else { return Err(bad("Template is required")) };
    let output = options(&mut body)?;
    let template = parsed(template, &api).await?;
    let drawn = one(&api, &Choice::One(Arc::new(template)), &body.take("data"), output).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(if accepts.contains("application/json") { as_json(drawn) } else { as_file(drawn) })
}

/// Checks a template off the async threads.
async fn parsed(document: Map<String, Value>, api: &Api) -> Result<LabelTemplate, Refusal> {
    let template = list::read(document, Some("preview".into()), api).await?;
    document::parse(&template)
}

/// A template of the visual editor as layers in millimetres; any other is checked and stays as it is.
#[utoipa::path(
    post, path = "/api/templates/convert", operation_id = "convert_template", tag = "templates",
    request_body = PreviewBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody), (status = 413, body = RefusalBody),
        (status = 415, body = RefusalBody), (status = 503, body = RefusalBody),
    ),
)]
pub async fn convert(State(api): State<Api>, mut body: Body) -> Result<Response, Refusal> {
    let template = match body.take("template") {
        Value::Object(template) => template,
        // The document itself may be the body.
        _ if body.0.contains_key("elements") || body.0.contains_key("layers") => std::mem::take(&mut body.0),
        _ => return Err(bad("Template is required")),
    };
    let from = document::kind(&template);
    parsed(template.clone(), &api).await?;
    let converted = document::converted(&template);
    // What comes out is as sound as what went in.
    parsed(converted.clone(), &api).await?;
    let to = if from == Kind::Svg { Kind::Svg } else { Kind::Layers };
    Ok(success(json!({ "template": converted, "from": from.word(), "to": to.word() })))
}
