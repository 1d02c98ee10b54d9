//! Pictures that are made of others when somebody first asks for them, and kept for the next: each is made once, however
//! many ask at the same time, and only so many are made at once.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture, future::Shared};
use tokio::sync::Semaphore;

use super::{
    internal, objects_failed,
    transform::{self, Format, Transform, Unshowable},
};
use crate::{
    config,
    job::{Code, Rejection},
    store::{Artifact, Blobs, BlobsError, Store},
};

/// Pictures that are drawn at once; each may take much memory.
const AT_ONCE: usize = 2;
/// Pictures that are being made or wait for it; more are refused for the moment.
const MOST_WAITING: usize = 64;
/// The sides of a thumbnail, in pixels.
const THUMBNAIL: u32 = 400;
/// Largest object that is looked at, in bytes.
const MAX_SOURCE: i64 = 64 << 20;

type Made = Result<Artifact, Rejection>;
type Flight = Shared<BoxFuture<'static, Made>>;

/// What makes them. Cheap to clone.
#[derive(Clone)]
pub struct Pictures(Arc<Inner>);

struct Inner {
    store: Store,
    blobs: Blobs,
    max_bytes: u64,
    places: Semaphore,
    /// The same for pictures that people send, and how many of these may wait.
    uploads: Semaphore,
    upload_queue: Semaphore,
    /// Those that are being made, by key.
    flights: Mutex<HashMap<String, Flight>>,
}

impl Pictures {
    pub fn new(store: Store, blobs: Blobs, settings: &config::Objects) -> Pictures {
        Pictures(Arc::new(Inner {
            store,
            blobs,
            max_bytes: settings.max_derived,
            places: Semaphore::new(AT_ONCE),
            uploads: Semaphore::new(1),
            upload_queue: Semaphore::new(MOST_WAITING),
            flights: Mutex::default(),
        }))
    }

    /// A picture as it is to be shown; made now if it is not there.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the object is no picture; [`Code::TooLarge`]; [`Code::Unavailable`] when too much is
    /// asked at once or the object store fails.
    pub async fn get(&self, source: &Artifact, transform: Transform) -> Made {
        let format = Format::of_content_type(&source.content_type).ok_or_else(|| {
            let message =
                format!("Only pictures can be transformed; this object is {}.", source.content_type);
            Rejection::new(Code::InvalidRequest, message)
        })?;
        if source.size > MAX_SOURCE {
            return Err(Rejection::new(Code::TooLarge, "This picture is too large to be transformed."));
        }
        let transform = transform.settled(format);
        let key = format!("derived/{}/{}", source.key, transform.to_string().replace(',', "_"));
        if let Some(known) = self.0.store.derived(&key).await.map_err(internal)? {
            return Ok(known);
        }
        let flight = self.join(key, source, transform)?;
        flight.await
    }

    /// Makes one anew whose object is gone: another process may have removed it in the same moment.
    pub async fn again(&self, gone: &Artifact, source: &Artifact, transform: Transform) -> Made {
        self.0.store.forget_derived(&gone.key).await.map_err(internal)?;
        self.get(source, transform).await
    }

    /// Joins those who wait for this picture, or is the first of them.
    fn join(&self, key: String, source: &Artifact, transform: Transform) -> Result<Flight, Rejection> {
        let mut flights = self.flights();
        let waiting = flights.len();
        match flights.entry(key.clone()) {
            Entry::Occupied(flight) => Ok(flight.get().clone()),
            Entry::Vacant(_) if waiting >= MOST_WAITING => Err(Rejection::new(
                Code::Unavailable,
                "Too many pictures are being made; try again in a moment.",
            )),
            Entry::Vacant(place) => {
                let (pictures, source) = (self.clone(), source.clone());
                // A task of its own: who asked first may hang up.
                let task = tokio::spawn(async move {
                    let made = pictures.make(&key, &source, transform).await;
                    pictures.flights().remove(&key);
                    made
                });
                let failed = "The picture could not be made; the server's log tells why.";
                let flight = task
                    .map(move |ended| ended.unwrap_or_else(|_| Err(Rejection::new(Code::Internal, failed))))
                    .boxed()
                    .shared();
                Ok(place.insert(flight).clone())
            }
        }
    }

    async fn make(&self, key: &str, source: &Artifact, transform: Transform) -> Made {
        let Inner { store, blobs, places, max_bytes, .. } = &*self.0;
        // Never closed, so a permit always comes.
        let _permit = places.acquire().await;
        // Who looked before the last flight landed asks again after it.
        if let Some(known) = store.derived(key).await.map_err(internal)? {
            return Ok(known);
        }
        let bytes = blobs.get(&source.key, None).await.map_err(|error| missing(&error))?.bytes;
        let drawn = tokio::task::spawn_blocking(move || transform.apply(&bytes)).await;
        let failed = "The picture could not be drawn; the server's log tells why.";
        let drawn =
            drawn.map_err(|_| Rejection::new(Code::Internal, failed))?.map_err(|why| unshowable(&why))?;
        let content_type = transform.format().unwrap_or(Format::Png).content_type();
        let made =
            blobs.put(key.to_owned(), drawn.into(), content_type).await.map_err(|error| missing(&error))?;
        let kept = store.keep_derived(&made, &source.key).await.map_err(internal)?;
        let mut gone = store.evict_derived(*max_bytes).await.map_err(internal)?;
        if !kept {
            gone.push(made.key.clone());
        }
        for key in &gone {
            if let Err(error) = blobs.delete(key).await {
                tracing::warn!(
                    key,
                    error = error.cause(),
                    "a picture that is not kept any more could not be removed"
                );
            }
        }
        if kept { Ok(made) } else { Err(no_object()) }
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Flight>> {
        self.0.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stranger's picture, made fit to be kept and read.
pub struct Readable {
    pub png: Bytes,
    /// Fits inside [`THUMBNAIL`].
    pub thumbnail: Bytes,
    pub width: u32,
    pub height: u32,
}

impl Pictures {
    /// Looks at a picture that somebody sends: PNG, JPEG or WebP becomes a PNG that holds nothing but the picture.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is none; [`Code::TooLarge`]; [`Code::Unavailable`] when too many come at once.
    pub async fn take_in(&self, bytes: Bytes) -> Result<Readable, Rejection> {
        let places = &self.0.uploads;
        let Ok(_waiting) = self.0.upload_queue.try_acquire() else {
            return Err(Rejection::new(
                Code::Unavailable,
                "Too many pictures come at once; try again in a moment.",
            ));
        };
        // Never closed, so a permit always comes.
        let _permit = places.acquire().await;
        let taken = tokio::task::spawn_blocking(move || {
            let (picture, _) = transform::decode(&bytes)?;
            let (width, height) = (picture.width(), picture.height());
            let png = transform::encode(&picture, Format::Png, 100)?.into();
            let thumbnail = transform::fit(picture, Some(THUMBNAIL), Some(THUMBNAIL))?;
            let thumbnail = transform::encode(&thumbnail, Format::Png, 100)?.into();
            Ok(Readable { png, thumbnail, width, height })
        });
        let failed = "The picture could not be looked at; the server's log tells why.";
        taken.await.map_err(|_| Rejection::new(Code::Internal, failed))?.map_err(|why: Unshowable| {
            let code = if why == Unshowable::TooLarge { Code::TooLarge } else { Code::InvalidRequest };
            Rejection::new(code, format!("A picture cannot be taken: {why}."))
        })
    }
}

/// There is nothing under a key.
pub fn no_object() -> Rejection {
    Rejection::new(Code::RouteNotFound, "There is no such object.")
}

/// What a client may know when an object cannot be fetched.
pub fn missing(error: &BlobsError) -> Rejection {
    match error {
        BlobsError::NotFound(_) => no_object(),
        error => objects_failed(error),
    }
}

fn unshowable(why: &Unshowable) -> Rejection {
    let code = if *why == Unshowable::TooLarge { Code::TooLarge } else { Code::InvalidRequest };
    Rejection::new(code, format!("It cannot be transformed: {why}."))
}
