//! Public keys of those who sign tokens (a JWKS), from a file or an address, read again when they change.
//!
//! The address is the operator's, so it may be a private one; it is asked within a time and size, and no redirect is
//! followed.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};

use super::token::invalid;
use crate::job::{Code, Rejection};

/// Largest document.
const MAX_BYTES: usize = 256 * 1024;
/// Keys of it that are looked at.
const MAX_KEYS: usize = 64;
/// Keys that are tried on a token which names none.
const MAX_TRIED: usize = 8;
/// Time for one look at the address.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long the keys are read again even if no token asks for a new one, so that those that were withdrawn go.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("the keys of auth.jwks cannot be read from {0}: {1}")]
    Unreadable(String, String),
    #[error("{0} (auth.jwks) is no set of keys with one for RS256 or ES256 in it: {1}")]
    Unusable(String, String),
}

/// The keys, and where they come from.
pub struct Jwks {
    place: String,
    http: Option<reqwest::Client>,
    /// They are read again at most so often.
    pause: Duration,
    known: RwLock<Known>,
    /// Held by whoever reads them; when it was done last.
    reading: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Known {
    keys: Arc<[Key]>,
    since: Option<Instant>,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Jwks {
    /// Reads the keys from a path or an address. If an address does not answer, they are asked for when a token comes.
    pub async fn open(place: &str, pause: Duration) -> Result<Jwks, JwksError> {
        let is_address = place.starts_with("http://") || place.starts_with("https://");
        let http = match is_address {
            true => Some(
                reqwest::Client::builder()
                    .timeout(PATIENCE)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| JwksError::Unreadable(place.to_owned(), error.to_string()))?,
            ),
            false => None,
        };
        let jwks = Jwks {
            place: place.to_owned(),
            http,
            pause,
            known: RwLock::default(),
            reading: Mutex::default(),
        };
        match jwks.read().await {
            Ok(keys) => jwks.keep(keys).await,
            Err(error) if is_address => {
                tracing::warn!(%error, "keys of tokens are not there yet; they are asked for again");
            }
            Err(error) => return Err(error),
        }
        Ok(jwks)
    }

    /// The keys that may have signed a token with an algorithm and perhaps a key's id.
    ///
    /// # Errors
    /// [`Code::InvalidToken`] when there is none; [`Code::Unavailable`] when that cannot be told now.
    pub async fn keys(&self, algorithm: Algorithm, id: Option<&str>) -> Result<Vec<DecodingKey>, Rejection> {
        let (found, age) = self.find(algorithm, id).await;
        if !found.is_empty() && age.is_some_and(|age| age < MAX_AGE) {
            return Ok(found);
        }
        // One asks; the others wait for it, unless they know a key that has only grown old.
        let mut last = match self.reading.try_lock() {
            Ok(last) => last,
            Err(_) if !found.is_empty() => return Ok(found),
            Err(_) => self.reading.lock().await,
        };
        if last.is_none_or(|last| last.elapsed() >= self.pause) {
            *last = Some(Instant::now());
            match self.read().await {
                Ok(keys) => self.keep(keys).await,
                Err(error) => tracing::warn!(%error, "keys of tokens could not be read again"),
            }
        }
        drop(last);
        match self.find(algorithm, id).await {
            (found, _) if !found.is_empty() => Ok(found),
            (_, None) => {
                let message = "The server cannot get the keys that tokens are checked with; try again.";
                Err(Rejection::new(Code::Unavailable, message))
            }
            _ => Err(invalid("nobody known here has signed it")),
        }
    }

    async fn find(&self, algorithm: Algorithm, id: Option<&str>) -> (Vec<DecodingKey>, Option<Duration>) {
        let known = self.known.read().await;
        let fits = |key: &&Key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        let found = known.keys.iter().filter(fits).take(MAX_TRIED).map(|key| key.key.clone()).collect();
        (found, known.since.map(|since| since.elapsed()))
    }

    async fn keep(&self, keys: Vec<Key>) {
        *self.known.write().await = Known { keys: keys.into(), since: Some(Instant::now()) };
    }

    async fn read(&self) -> Result<Vec<Key>, JwksError> {
        let unreadable = |why: String| JwksError::Unreadable(self.place.clone(), why);
        let bytes = match &self.http {
            Some(http) => fetch(http, &self.place).await.map_err(unreadable)?,
            None => {
                let size =
                    tokio::fs::metadata(&self.place).await.map_err(|e| unreadable(e.to_string()))?.len();
                if size > MAX_BYTES as u64 {
                    return Err(unreadable(format!("it has more than {MAX_BYTES} bytes")));
                }
                tokio::fs::read(&self.place).await.map_err(|error| unreadable(error.to_string()))?
            }
        };
        parse(&bytes).map_err(|why| JwksError::Unusable(self.place.clone(), why))
    }
}

async fn fetch(http: &reqwest::Client, address: &str) -> Result<Vec<u8>, String> {
    let mut response = http.get(address).send().await.map_err(|error| error.without_url().to_string())?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.without_url().to_string())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
    }
    Ok(bytes)
}

/// The usable keys of a document; those for other purposes are passed over.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    /// Each by itself: one of a kind that is not known does not spoil the others.
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let read = |key: &Value| usable(&Jwk::deserialize(key).ok()?);
    let keys: Vec<Key> = set.keys.iter().take(MAX_KEYS).filter_map(read).collect();
    if keys.is_empty() { Err(format!("none of its {} keys is", set.keys.len())) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let stated = jwk.common.key_algorithm.map(|stated| stated.to_string());
    if stated.is_some_and(|stated| stated != format!("{algorithm:?}")) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm, key })
}
