//! The sentences of a novel: in its document if they are few, else in the file that the document names.

use serde_json::{Map, Value};

use crate::{
    http::{internal, objects_failed},
    job::Rejection,
    store::{Blobs, BlobsError, Store, WorkRecord},
};

/// Largest file of sentences that is read.
const MAX_FILE: i64 = 64 << 20;

/// The sentences by the numbers of their chunks, once a job that keeps them in a file has ended.
///
/// # Errors
/// When the database or the object store does not answer.
pub async fn sentences(
    store: &Store,
    blobs: &Blobs,
    novel: &WorkRecord,
) -> Result<Map<String, Value>, Rejection> {
    let name = novel.document.get("sentences").and_then(Value::as_str);
    let Some(name) = name.filter(|_| novel.record.job.status.is_ended()) else { return Ok(Map::new()) };
    let job = novel.record.job.id;
    let artifact = match store.artifact_of(job, name).await {
        Ok(stored) if stored.artifact.size <= MAX_FILE => stored.artifact,
        Ok(_) => {
            tracing::warn!(%job, "a file of sentences is too large to be shown");
            return Ok(Map::new());
        }
        Err(crate::store::StoreError::Rejected(_)) => return Ok(Map::new()),
        Err(error) => return Err(internal(error)),
    };
    match blobs.get(&artifact.key, None).await {
        Ok(object) => Ok(serde_json::from_slice(&object.bytes).unwrap_or_default()),
        Err(error @ BlobsError::NotFound(_)) => {
            tracing::error!(%job, %error, "the sentences of a job are gone");
            Ok(Map::new())
        }
        Err(error) => Err(objects_failed(&error)),
    }
}
