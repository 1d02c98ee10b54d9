//! Sheets as a picture to look at, and as a PDF to print.
//!
//! A PDF of thousands of labels is sent while it is made: some sheets at a time are read from the library, drawn, and
//! passed on; the next ones wait until the client has taken them. So memory does not grow with the labels.

use std::{ops::Range, sync::Arc};

use axum::{
    Json,
    body::Body as HttpBody,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    super::{
        answer::{Refusal, RefusalBody},
        ask::{Body, bad},
        labels::{Drawer, missing, off_the_async_threads},
    },
    layout::doubts,
    wanted::{PrintBody, Wanted},
};
use crate::{
    http::{Api, Caller},
    print::{self, Joiner, Layout},
};

/// Labels that are read, drawn and joined at a time; at least one sheet.
const LABELS_AT_A_TIME: usize = 96;
/// Parts of a document that may wait for the client.
const PARTS: usize = 2;
/// Exports that run at once; more are told to come back.
const EXPORTS: usize = 4;
/// Pixels of a preview's longer side.
const PREVIEW: f64 = 1400.0;

/// The first sheet (or that of `page`) as it will be printed.
#[utoipa::path(
    post, path = "/api/print/preview", tag = "print", request_body = PrintBody,
    responses(
        (status = 200, body = Value), (status = 400, body = RefusalBody),
        (status = 404, body = RefusalBody, description = "Labels that are not in the library"),
        (status = 413, body = RefusalBody), (status = 422, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many pictures are being drawn"),
    ),
)]
pub async fn preview(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<PrintBody>,
) -> Result<Response, Refusal> {
    let Wanted { layout, labels, page, .. } = body.wanted()?;
    known(&api, &caller, &labels).await?;
    let pages = layout.pages(labels.len());
    if page >= pages {
        return Err(bad(format!("There are {pages} pages only.")));
    }
    let first = page * layout.cells();
    let shown = labels[first..(first + layout.cells()).min(labels.len())].to_vec();
    let drawer = Drawer::load(&api, &shown, caller.sees_only()).await?;
    let per_mm = PREVIEW / layout.width.max(layout.height);
    let drawn = off_the_async_threads(move || {
        print::picture(&layout, drawer.len(), |number| drawer.draw(number), per_mm)
    });
    let png = drawn.await?.map_err(|error| error.refusal())?;
    let (width, height) = layout.cell_size();
    let data = json!({
        "previewUrl": format!("data:image/png;base64,{}", STANDARD.encode(png)),
        "labelsCount": labels.len(),
        "page": page + 1,
        "totalPages": pages,
        "labelWidth": width,
        "labelHeight": height,
        "warnings": doubts(&layout),
    });
    Ok(Json(json!({ "success": true, "data": data })).into_response())
}

/// All sheets as a PDF of exactly the paper's size.
#[utoipa::path(
    post, path = "/api/print/export", tag = "print", request_body = PrintBody,
    responses(
        (status = 200, content((Vec<u8> = "application/pdf"))), (status = 400, body = RefusalBody),
        (status = 404, body = RefusalBody, description = "Labels that are not in the library"),
        (status = 413, body = RefusalBody), (status = 422, body = RefusalBody),
        (status = 503, body = RefusalBody, description = "Too many exports run at the moment"),
    ),
)]
pub async fn export(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<PrintBody>,
) -> Result<Response, Refusal> {
    static RUNNING: std::sync::LazyLock<Arc<Semaphore>> =
        std::sync::LazyLock::new(|| Arc::new(Semaphore::new(EXPORTS)));
    let Wanted { layout, labels, output, .. } = body.wanted()?;
    if output != "pdf" {
        return Err(bad(format!("Output format {output} not yet supported; sheets are exported as pdf.")));
    }
    known(&api, &caller, &labels).await?;
    let permit = RUNNING.clone().try_acquire_owned().map_err(|_| {
        Refusal::automation(
            StatusCode::SERVICE_UNAVAILABLE,
            "Other exports run at the moment; try again when one is done.",
        )
    })?;
    let mut export = Export { api, caller, layout, labels, joiner: Joiner::new(), done: 0 };
    // What is wrong with the first sheets can still be told.
    let first = export.part().await?;
    let (parts, body) = mpsc::channel(PARTS);
    tokio::spawn(export.send_all(first, parts, permit));
    let headers = [
        (header::CONTENT_TYPE, "application/pdf"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"labels.pdf\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, HttpBody::from_stream(ReceiverStream::new(body))).into_response())
}

/// Makes sure that all labels are there before anything is drawn.
async fn known(api: &Api, caller: &Caller, labels: &[Uuid]) -> Result<(), Refusal> {
    let unknown = api.store.unknown_library_labels(labels, caller.sees_only()).await?;
    if unknown.is_empty() { Ok(()) } else { Err(missing(&unknown)) }
}

/// An export on its way.
struct Export {
    api: Api,
    caller: Caller,
    layout: Layout,
    labels: Vec<Uuid>,
    joiner: Joiner,
    /// Labels that went by.
    done: usize,
}

impl Export {
    /// The labels of the next sheets; none when all went by.
    fn next(&self) -> Range<usize> {
        let sheets = (LABELS_AT_A_TIME / self.layout.cells()).max(1);
        self.done..(self.done + sheets * self.layout.cells()).min(self.labels.len())
    }

    /// The bytes of the next sheets.
    async fn part(&mut self) -> Result<Bytes, Refusal> {
        let next = self.next();
        self.done = next.end;
        let drawer = Drawer::load(&self.api, &self.labels[next], self.caller.sees_only()).await?;
        let (layout, mut joiner) = (self.layout, std::mem::take(&mut self.joiner));
        let work = move || {
            let part = print::draw(&layout, drawer.len(), |number| drawer.draw(number))?;
            Ok((joiner.add(&part)?, joiner))
        };
        let drawn: Result<_, super::super::labels::DrawError> = off_the_async_threads(work).await?;
        let (bytes, joiner) = drawn.map_err(|error| error.refusal())?;
        self.joiner = joiner;
        Ok(bytes.into())
    }

    /// Sends everything, as the client takes it. An error cuts the answer off, so that nobody takes half a document for
    /// a whole one.
    async fn send_all(
        mut self,
        first: Bytes,
        parts: mpsc::Sender<Result<Bytes, std::io::Error>>,
        _permit: OwnedSemaphorePermit,
    ) {
        let mut part = Ok(first);
        loop {
            let failed = match part {
                Ok(bytes) => parts.send(Ok(bytes)).await.is_err(),
                Err(refusal) => {
                    tracing::warn!(
                        ?refusal,
                        labels = self.labels.len(),
                        at = self.done,
                        "an export was cut off"
                    );
                    let _ = parts.send(Err(std::io::Error::other("the export was cut off"))).await;
                    true
                }
            };
            if failed {
                return;
            }
            if self.next().is_empty() {
                let _ = parts.send(Ok(self.joiner.finish().into())).await;
                return;
            }
            part = self.part().await;
        }
    }
}
