//! Objects: screenshots and labels in a folder or in a bucket, and the public addresses that they load from.

use std::{
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    Attribute, Attributes, ClientConfigKey, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, RetryConfig, WriteMultipart, aws::AmazonS3ConfigKey,
    local::LocalFileSystem, path, prefix::PrefixStore,
};
use sha2::{Digest, Sha256};
use url::Url;

use super::Addresses;
use crate::{config, metrics::numbers};

/// For how long and how often a bucket is asked again in one call; the pipeline tries items again by itself.
const RETRY: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;
/// Bytes of an upload that go to the object store at once; a bucket takes no smaller ones.
const PART: usize = 5 << 20;
/// Parts of one upload that are under way at once.
const PARTS: usize = 2;

/// What is known of a stored object.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Such as `jobs/<job>/screenshots/<id>.png`.
    pub key: String,
    pub content_type: String,
    /// Bytes.
    pub size: i64,
    /// Hexadecimal.
    pub sha256: String,
}

/// An object, or a part of one.
#[derive(Debug)]
pub struct Object {
    pub bytes: Bytes,
    /// Of the whole object.
    pub size: u64,
    /// Which bytes these are.
    pub range: Range<u64>,
}

/// Why an object could not be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    #[error("objects.url is {url:?}: {reason}; use \"\", file:///path or s3://bucket/prefix")]
    Url { url: String, reason: String },
    #[error("there is no object {0:?}")]
    NotFound(String),
    #[error("the asked range lies outside of the object")]
    Range,
    #[error("there is an object {0:?} already")]
    Exists(String),
    #[error("the object has more than {0} bytes")]
    TooLarge(usize),
    #[error("the object did not arrive whole: {0}")]
    Cut(String),
    #[error("{0}")]
    Signing(String),
    /// What exactly happened is for the log, not for clients.
    #[error("{}", said(.0))]
    Failed(#[source] object_store::Error),
}

impl BlobsError {
    /// What the log is told.
    pub fn cause(&self) -> String {
        match self {
            BlobsError::Failed(cause) => cause.to_string(),
            other => other.to_string(),
        }
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn said(error: &object_store::Error) -> &'static str {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "the object store refuses this server's credentials; its operator must check AWS_* and the bucket's rights"
        }
        _ => "the object store does not answer as it should",
    }
}

/// The object store. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    addresses: Addresses,
}

impl Blobs {
    /// Opens the store that `objects.url` names; `public_url` is this server's own public address.
    pub fn open(settings: &config::Objects, data_dir: &Path, public_url: &Url) -> Result<Blobs, BlobsError> {
        let fail = |reason: String| BlobsError::Url { url: settings.url.clone(), reason };
        let local = |folder: &Path| -> Result<Arc<dyn ObjectStore>, BlobsError> {
            std::fs::create_dir_all(folder)
                .map_err(|e| fail(format!("cannot make {}: {e}", folder.display())))?;
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| fail(e.to_string()))?;
            Ok(Arc::new(store.with_automatic_cleanup(true)))
        };
        let store: Arc<dyn ObjectStore> = if settings.url.is_empty() {
            local(&data_dir.join("objects"))?
        } else {
            let url = Url::parse(&settings.url).map_err(|e| fail(e.to_string()))?;
            match url.scheme() {
                "file" => local(&url.to_file_path().map_err(|()| fail("is no absolute path".into()))?)?,
                "s3" => {
                    let bucket = object_store::aws::AmazonS3Builder::from_env()
                        .with_url(&settings.url)
                        .with_config(
                            AmazonS3ConfigKey::Client(ClientConfigKey::Timeout),
                            milliseconds(settings.timeout),
                        )
                        .with_retry(RetryConfig {
                            max_retries: RETRIES,
                            retry_timeout: RETRY,
                            ..RetryConfig::default()
                        })
                        .build()
                        .map_err(|e| fail(e.to_string()))?;
                    let prefix = url.path().trim_matches('/');
                    if prefix.is_empty() {
                        Arc::new(bucket)
                    } else {
                        Arc::new(PrefixStore::new(bucket, prefix))
                    }
                }
                other => return Err(fail(format!("{other:?} is no known kind of store"))),
            }
        };
        Blobs::over(store, settings, data_dir, public_url)
    }

    /// The same over a store that is open already.
    pub fn over(
        store: Arc<dyn ObjectStore>,
        settings: &config::Objects,
        data_dir: &Path,
        public_url: &Url,
    ) -> Result<Blobs, BlobsError> {
        Ok(Blobs { store, addresses: Addresses::open(settings, data_dir, public_url)? })
    }

    /// How objects are addressed.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The absolute public address of an object, for a client that gets it now: if addresses are signed, it ends.
    /// Events and rows hold [`Addresses::plain`] ones.
    pub fn address(&self, key: &str) -> String {
        self.addresses.of(key)
    }

    /// The key behind a public address of ours; `None` for anything that lies elsewhere.
    pub fn key_of(&self, address: &str) -> Option<String> {
        let key = match self.addresses.key_of(address) {
            Some(key) => key,
            // Without a host it is one of this server's.
            None => address.strip_prefix("/cdn/")?.split(['?', '#']).next()?,
        };
        let sound = path::Path::parse(key).is_ok_and(|path| !path.as_ref().is_empty());
        sound.then(|| key.to_owned())
    }

    /// The object behind a public address of ours, unless it is larger than `most` bytes; `None` for what lies
    /// elsewhere or is not there.
    pub async fn own(&self, address: &str, most: usize) -> Result<Option<Bytes>, BlobsError> {
        let Some(key) = self.key_of(address) else { return Ok(None) };
        let found = match self.measure(&key, false).await {
            Ok((size, _)) if size as u64 <= most as u64 => self.get(&key, None).await,
            Ok(_) => return Ok(None),
            Err(error) => Err(error),
        };
        match found {
            Ok(object) => Ok(Some(object.bytes)),
            Err(BlobsError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores an object; a second time with the same key writes the same object again.
    pub async fn put(&self, key: String, bytes: Bytes, content_type: &str) -> Result<Artifact, BlobsError> {
        self.put_as(key, bytes, content_type, PutMode::Overwrite).await
    }

    /// Stores an object whose key no other one has.
    ///
    /// # Errors
    /// [`BlobsError::Exists`] if one has; it stays as it is.
    pub async fn put_new(
        &self,
        key: String,
        bytes: Bytes,
        content_type: &str,
    ) -> Result<Artifact, BlobsError> {
        self.put_as(key, bytes, content_type, PutMode::Create).await
    }

    async fn put_as(
        &self,
        key: String,
        bytes: Bytes,
        content_type: &str,
        mode: PutMode,
    ) -> Result<Artifact, BlobsError> {
        let sha256 = hexadecimal(&Sha256::digest(&bytes));
        let size = bytes.len() as i64;
        let attributes = Attributes::from_iter([(Attribute::ContentType, content_type.to_owned())]);
        let options = PutOptions { attributes, ..PutOptions::from(mode.clone()) };
        let path = path::Path::from(key.as_str());
        let began = Instant::now();
        let put = match self.store.put_opts(&path, bytes.clone().into(), options).await {
            // Folders keep no attributes; the artifact's row does.
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                self.store.put_opts(&path, bytes.into(), mode.into()).await
            }
            other => other,
        };
        counted("put", began, put).map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => BlobsError::Exists(key.clone()),
            other => BlobsError::Failed(other),
        })?;
        Ok(Artifact { key, content_type: content_type.to_owned(), size, sha256 })
    }

    /// Stores an object of which only a part is in memory at a time.
    ///
    /// # Errors
    /// [`BlobsError::TooLarge`] behind so many bytes; [`BlobsError::Cut`] when the stream fails. Nothing is stored then.
    pub async fn put_stream<E: std::fmt::Display>(
        &self,
        key: String,
        mut stream: impl futures_util::Stream<Item = Result<Bytes, E>> + Unpin,
        content_type: &str,
        most: usize,
    ) -> Result<Artifact, BlobsError> {
        let path = path::Path::from(key.as_str());
        let (mut size, mut sha256) = (0_usize, Sha256::new());
        let mut begun: Option<WriteMultipart> = None;
        let mut first = Vec::new();
        let began = Instant::now();
        loop {
            let part = match stream.next().await {
                None => break,
                Some(Ok(part)) if size + part.len() <= most => part,
                Some(wrong) => {
                    if let Some(begun) = begun {
                        let _ = begun.abort().await;
                    }
                    return Err(match wrong {
                        Ok(_) => BlobsError::TooLarge(most),
                        Err(error) => BlobsError::Cut(error.to_string()),
                    });
                }
            };
            size += part.len();
            sha256.update(&part);
            match &mut begun {
                Some(begun) => {
                    begun.wait_for_capacity(PARTS).await.map_err(BlobsError::Failed)?;
                    begun.put(part);
                }
                None => first.extend_from_slice(&part),
            }
            if begun.is_none() && first.len() >= PART {
                let attributes = Attributes::from_iter([(Attribute::ContentType, content_type.to_owned())]);
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                let upload = match self.store.put_multipart_opts(&path, options).await {
                    // Folders keep no attributes; the artifact's row does.
                    Err(
                        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. },
                    ) => self.store.put_multipart(&path).await,
                    other => other,
                };
                let upload = upload.map_err(|error| {
                    numbers().objects_failed.with_label_values(&["put"]).inc();
                    BlobsError::Failed(error)
                })?;
                let mut multipart = WriteMultipart::new_with_chunk_size(upload, PART);
                multipart.write(&std::mem::take(&mut first));
                begun = Some(multipart);
            }
        }
        match begun {
            Some(begun) => {
                counted("put", began, begun.finish().await).map_err(BlobsError::Failed)?;
                let sha256 = hexadecimal(&sha256.finalize());
                Ok(Artifact { key, content_type: content_type.to_owned(), size: size as i64, sha256 })
            }
            None => self.put(key, first.into(), content_type).await,
        }
    }

    /// Fetches an object or a part of it.
    pub async fn get(&self, key: &str, range: Option<GetRange>) -> Result<Object, BlobsError> {
        let path = path::Path::parse(key).map_err(|_| BlobsError::NotFound(key.to_owned()))?;
        let options = GetOptions { range, ..GetOptions::default() };
        let began = Instant::now();
        let found = counted("get", began, self.store.get_opts(&path, options).await);
        let found = found.map_err(|error| match error {
            object_store::Error::NotFound { .. } => BlobsError::NotFound(key.to_owned()),
            other if is_of_range(&other) => BlobsError::Range,
            other => BlobsError::Failed(other),
        })?;
        let (size, range) = (found.meta.size, found.range.clone());
        Ok(Object { bytes: found.bytes().await.map_err(BlobsError::Failed)?, size, range })
    }

    /// An object's size in bytes and, if asked for, the SHA-256 of what it holds, of which nothing stays in memory.
    pub async fn measure(&self, key: &str, hash: bool) -> Result<(i64, Option<String>), BlobsError> {
        let path = path::Path::parse(key).map_err(|_| BlobsError::NotFound(key.to_owned()))?;
        let failed = |error| match error {
            object_store::Error::NotFound { .. } => BlobsError::NotFound(key.to_owned()),
            other => BlobsError::Failed(other),
        };
        if !hash {
            let began = Instant::now();
            let head = counted("head", began, self.store.head(&path).await);
            return Ok((head.map_err(failed)?.size as i64, None));
        }
        let (mut size, mut sha256) = (0, Sha256::new());
        let began = Instant::now();
        let mut parts = counted("get", began, self.store.get(&path).await).map_err(failed)?.into_stream();
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            size += part.len() as i64;
            sha256.update(&part);
        }
        Ok((size, Some(hexadecimal(&sha256.finalize()))))
    }

    /// The keys of the objects in a folder, which ends with a slash.
    pub fn keys(&self, folder: &str) -> BoxStream<'static, Result<String, BlobsError>> {
        let found = self.store.list(Some(&path::Path::from(folder)));
        let failed = |error| {
            numbers().objects_failed.with_label_values(&["list"]).inc();
            BlobsError::Failed(error)
        };
        found.map_ok(|object| object.location.to_string()).map_err(failed).boxed()
    }

    /// Makes an object be there under another key too.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), BlobsError> {
        let parsed = |key: &str| path::Path::parse(key).map_err(|_| BlobsError::NotFound(key.to_owned()));
        let (from_path, to_path, began) = (parsed(from)?, parsed(to)?, Instant::now());
        counted("copy", began, self.store.copy(&from_path, &to_path).await).map_err(|error| match error {
            object_store::Error::NotFound { .. } => BlobsError::NotFound(from.to_owned()),
            other => BlobsError::Failed(other),
        })
    }

    /// Removes all objects in a folder, which ends with a slash.
    pub async fn delete_below(&self, folder: &str) -> Result<(), BlobsError> {
        let mut keys = self.keys(folder);
        while let Some(key) = keys.try_next().await? {
            self.delete(&key).await?;
        }
        Ok(())
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), BlobsError> {
        let began = Instant::now();
        match counted("delete", began, self.store.delete(&path::Path::from(key)).await) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobsError::Failed(error)),
        }
    }
}

/// Whether a part was asked for that the object does not have.
fn is_of_range(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { source, .. } if source.to_string().to_lowercase().contains("range"))
}

/// Counts a call of the object store. What is not there, is there already or cannot be done is an answer.
fn counted<T>(
    operation: &str,
    began: Instant,
    answer: Result<T, object_store::Error>,
) -> Result<T, object_store::Error> {
    numbers().objects.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
    let fine = match &answer {
        Ok(_) => true,
        Err(
            object_store::Error::NotFound { .. }
            | object_store::Error::AlreadyExists { .. }
            | object_store::Error::NotImplemented { .. }
            | object_store::Error::NotSupported { .. },
        ) => true,
        Err(error) => is_of_range(error),
    };
    if !fine {
        numbers().objects_failed.with_label_values(&[operation]).inc();
    }
    answer
}

/// Bytes as they stand in names and tags.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
