//! Draws labels off the async threads: a bounded number at once, a bounded number that wait.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::refused;
use crate::{
    dialects::label_printer::answer::{Refusal, objects_failed},
    label::{LabelData, LabelError, LabelRenderer, LabelTemplate, MAX_PICTURE_BYTES, Made, Output, Picture},
    store::Blobs,
};

/// Labels that are drawn at once by all requests,
pub const AT_ONCE: usize = 2;
static DRAWERS: Semaphore = Semaphore::const_new(AT_ONCE);
/// … and requests that draw or wait for it; more are told to come back.
const MAX_REQUESTS: usize = 64;
static REQUESTS: Semaphore = Semaphore::const_new(MAX_REQUESTS);
/// What the pages call the failure of a label.
pub const UNDRAWN: &str = "Failed to render template";

/// A request's place among those that draw.
pub fn place() -> Result<tokio::sync::SemaphorePermit<'static>, Refusal> {
    REQUESTS.try_acquire().map_err(|_| {
        let why = "Many labels are being drawn at the moment; try again in a few seconds.";
        Refusal::because(StatusCode::SERVICE_UNAVAILABLE, UNDRAWN, why)
    })
}

/// The pictures that labels of a template need from the object store, each fetched once for a whole batch.
#[derive(Default)]
pub struct Pictures(BTreeMap<String, Option<Bytes>>);

impl Pictures {
    /// Fetches what one label needs.
    pub async fn fetch(
        &mut self,
        template: &LabelTemplate,
        data: &LabelData,
        blobs: &Blobs,
    ) -> Result<Vec<(String, Bytes)>, Refusal> {
        /// Pictures that a batch keeps.
        const KEPT: usize = 32;
        let mut found = Vec::new();
        for address in template.wanted_pictures(data) {
            let bytes = match self.0.get(&address) {
                Some(known) => known.clone(),
                None => {
                    let fetched = blobs.own(&address, MAX_PICTURE_BYTES).await;
                    let fetched = fetched.map_err(|error| Refusal::from(objects_failed(&error)))?;
                    if self.0.len() < KEPT {
                        self.0.insert(address.clone(), fetched.clone());
                    }
                    fetched
                }
            };
            found.extend(bytes.map(|bytes| (address, bytes)));
        }
        Ok(found)
    }
}

/// Draws one label.
pub async fn draw(
    template: std::sync::Arc<LabelTemplate>,
    mut data: LabelData,
    pictures: Vec<(String, Bytes)>,
    output: Output,
) -> Result<Made, LabelError> {
    // Never closed, so a permit always comes.
    let permit = DRAWERS.acquire().await;
    let drawn = tokio::task::spawn_blocking(move || {
        for (address, bytes) in pictures {
            // One that is broken is missing, and the label says so.
            if let Ok(picture) = Picture::read(bytes.to_vec()) {
                data.pictures.insert(address, picture);
            }
        }
        LabelRenderer::shared().make(&template, &data, &output)
    })
    .await;
    drop(permit);
    drawn.unwrap_or_else(|_| Err(LabelError::Draw("the server's log tells why".into())))
}

/// The refusal for one label that cannot be drawn.
pub fn undrawn(error: &LabelError) -> Refusal {
    refused(UNDRAWN, error)
}
