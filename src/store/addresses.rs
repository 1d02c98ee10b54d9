//! Public addresses of objects: plain ones, as the journal keeps them, and signed ones that end, as clients get them.
//!
//! A signature ends, the journal does not: so events are written down with plain addresses, and whoever hands an event
//! to clients signs what is in it anew ([`Addresses::freshen`]), once for all clients of a batch. Only those fields are
//! signed that this server itself filled with an address ([`Kind::addresses`]): whoever can put a text into an event
//! must not get it back signed.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{BlobsError, blobs::hexadecimal};
use crate::{
    config::{self, Signed},
    event::{Kind, Timestamp},
};

/// Where this server itself serves objects, below its public address.
const HERE: &str = "cdn/";
/// The file of a key that was made here.
const KEY_FILE: &str = "signing.key";
/// The shortest key that is taken, in bytes.
const SHORTEST_KEY: usize = 32;
/// What is signed begins with it, so that the key is good for nothing else.
const PURPOSE: &str = "jobcast object 1";
/// The shortest stretch of time in which an object's signed address stays the same, in seconds.
const SHORTEST_STEP: i64 = 15;

/// How an object is to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Showing<'a> {
    /// Such as `w-300,h-300`; empty for the object as it is.
    pub transform: &'a str,
    /// The name of the file that a browser saves; empty to show it instead.
    pub download: &'a str,
}

/// Why a request for an object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("This address needs a signature; GET /v1/objects gives a signed one.")]
    Unsigned,
    #[error("The signature does not fit this address; GET /v1/objects gives a fitting one.")]
    Forged,
    #[error("This address has expired; GET /v1/objects gives a new one.")]
    Expired,
}

/// How objects are addressed. Cheap to clone.
#[derive(Clone)]
pub struct Addresses(Arc<Inner>);

struct Inner {
    /// What stands before and behind an object's key in its public address.
    public: (String, String),
    /// The same of this server's own route.
    here: String,
    /// How long a signed address is good at the least, in seconds.
    sign_for: i64,
    signing: Signing,
}

enum Signing {
    Never,
    /// Addresses are signed, so that pages whose users have shown who they are can show pictures; who needs none, is
    /// for others to say.
    Offered(SigningKey),
    /// This server checks.
    Here(SigningKey),
    /// The bucket checks, but for what only this server can show.
    Bucket(BucketKey, SigningKey),
}

type SigningKey = Vec<u8>;

impl Addresses {
    /// As the settings say; `public_url` is this server's own public address.
    pub fn open(
        settings: &config::Objects,
        data_dir: &Path,
        public_url: &Url,
    ) -> Result<Addresses, BlobsError> {
        let own = public_url.as_str().trim_end_matches('/');
        let address = settings.address.replace("{public_url}", own);
        let (before, behind) = address.split_once("{key}").unwrap_or((&address, ""));
        let signing = match settings.signed {
            Signed::Never => Signing::Never,
            Signed::Offered => Signing::Offered(signing_key(&settings.signing_key, data_dir)?),
            Signed::Always => Signing::Here(signing_key(&settings.signing_key, data_dir)?),
            Signed::Bucket => {
                Signing::Bucket(BucketKey::of_environment()?, signing_key(&settings.signing_key, data_dir)?)
            }
        };
        Ok(Addresses(Arc::new(Inner {
            public: (before.to_owned(), behind.to_owned()),
            here: format!("{own}/{HERE}"),
            sign_for: seconds(settings.sign_for),
            signing,
        })))
    }

    /// The address as the journal keeps it.
    pub fn plain(&self, key: &str) -> String {
        let (before, behind) = &self.0.public;
        format!("{before}{key}{behind}")
    }

    /// The address as a client gets it now.
    pub fn of(&self, key: &str) -> String {
        self.showing(key, Showing::default()).0
    }

    /// The address of an object as it is to be shown, and when it ends, if it does.
    pub fn showing(&self, key: &str, showing: Showing) -> (String, Option<Timestamp>) {
        self.at(key, showing, Utc::now())
    }

    fn at(&self, key: &str, showing: Showing, now: Timestamp) -> (String, Option<Timestamp>) {
        let Inner { here, public, sign_for, signing } = &*self.0;
        let Showing { transform, download } = showing;
        let mut address = match (transform, signing) {
            ("", Signing::Bucket(bucket, _)) => {
                let (begins, lasts) = window(now, *sign_for);
                let address = bucket.presign(&self.plain(key), download, begins, lasts);
                return (address, DateTime::from_timestamp(begins.timestamp() + lasts, 0));
            }
            ("", _) => self.plain(key),
            (transform, Signing::Bucket(..)) => format!("{here}tr:{transform}/{key}"),
            (transform, _) => format!("{}tr:{transform}/{key}{}", public.0, public.1),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !download.is_empty() {
            query.append_pair("download", download);
        }
        let mut until = None;
        if let Signing::Offered(secret) | Signing::Here(secret) | Signing::Bucket(_, secret) = signing {
            let (begins, lasts) = window(now, *sign_for);
            let expires = begins.timestamp() + lasts;
            until = DateTime::from_timestamp(expires, 0);
            let signature =
                BASE64_URL_SAFE_NO_PAD.encode(code(secret, key, showing, expires).finalize().into_bytes());
            query.append_pair("expires", &expires.to_string()).append_pair("signature", &signature);
        }
        let query = query.finish();
        if !query.is_empty() {
            address.push(if address.contains('?') { '&' } else { '?' });
            address.push_str(&query);
        }
        (address, until)
    }

    /// Whether a request for an object may be answered; returns how long the answer holds, if not for ever.
    pub fn check(
        &self,
        key: &str,
        showing: Showing,
        expires: Option<i64>,
        signature: Option<&str>,
    ) -> Result<Option<Duration>, Denied> {
        self.check_at(key, showing, expires, signature, Utc::now())
    }

    fn check_at(
        &self,
        key: &str,
        showing: Showing,
        expires: Option<i64>,
        signature: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Duration>, Denied> {
        let secret = match &self.0.signing {
            Signing::Never => return Ok(None),
            Signing::Offered(secret) => {
                let left = verify(secret, key, showing, expires, signature, now);
                return Ok(left.ok());
            }
            Signing::Here(secret) | Signing::Bucket(_, secret) => secret,
        };
        verify(secret, key, showing, expires, signature, now).map(Some)
    }

    /// An event's payload with addresses that are good from now on.
    pub fn freshen<'a>(&self, kind: &str, payload: &'a RawValue) -> Cow<'a, RawValue> {
        if matches!(self.0.signing, Signing::Never) {
            return Cow::Borrowed(payload);
        }
        let fields = Kind::from_wire_name(kind).map_or(&[][..], Kind::addresses);
        let mut text = Cow::Borrowed(payload.get());
        for field in fields {
            // In a text that somebody else chose the quotes would be escaped.
            let sought = format!("\"{field}\":\"{}", self.0.public.0);
            let Some(at) = text.find(&sought) else { continue };
            let value = at + field.len() + 4;
            let Some(length) = text[value..].find('"') else { continue };
            let Some(key) = self.key_of(&text[value..value + length]) else { continue };
            let signed = self.of(key);
            text.to_mut().replace_range(value..value + length, &signed);
        }
        match text {
            Cow::Borrowed(_) => Cow::Borrowed(payload),
            // It was JSON, and addresses hold nothing that JSON would escape.
            Cow::Owned(text) => RawValue::from_string(text).map_or(Cow::Borrowed(payload), Cow::Owned),
        }
    }

    /// The key in a public address, whether it was signed or not.
    pub(super) fn key_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        let (before, behind) = &self.0.public;
        let rest = address.strip_prefix(before.as_str())?;
        let key = match behind.as_str() {
            "" => rest.split(['?', '#']).next()?,
            behind => rest.split_once(behind)?.0,
        };
        (!key.is_empty() && !key.contains(['\\', '?'])).then_some(key)
    }
}

/// How long a signed address is good yet.
fn verify(
    secret: &[u8],
    key: &str,
    showing: Showing,
    expires: Option<i64>,
    signature: Option<&str>,
    now: Timestamp,
) -> Result<Duration, Denied> {
    let (Some(expires), Some(signature)) = (expires, signature) else { return Err(Denied::Unsigned) };
    let given = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Denied::Forged)?;
    // Takes as long for a nearly right one.
    code(secret, key, showing, expires).verify_slice(&given).map_err(|_| Denied::Forged)?;
    match u64::try_from(expires - now.timestamp()) {
        Ok(left) if left > 0 => Ok(Duration::from_secs(left)),
        _ => Err(Denied::Expired),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// From when and for how many seconds an address is signed now. It stays the same for a while, for a page that polls
/// would load its pictures anew each time that their addresses change.
fn window(now: Timestamp, sign_for: i64) -> (Timestamp, i64) {
    let step = (sign_for / 4).max(SHORTEST_STEP);
    let begins = now.timestamp() / step * step;
    (DateTime::from_timestamp(begins, 0).unwrap_or(now), sign_for.saturating_add(step))
}

/// What proves that this server gave out an address.
fn code(secret: &[u8], key: &str, showing: Showing, expires: i64) -> Hmac<Sha256> {
    let mut code = hmac(secret);
    let Showing { transform, download } = showing;
    // A fixed number of lines, so that no two addresses are written alike.
    code.update(format!("{PURPOSE}\n{key}\n{transform}\n{download}\n{expires}").as_bytes());
    code
}

fn hmac(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

/// The key that was set, or the one of the data directory, which is made at the first time.
fn signing_key(set: &str, data_dir: &Path) -> Result<SigningKey, BlobsError> {
    let unusable = |reason: String| BlobsError::Signing(reason);
    if !set.is_empty() {
        return match set.len() >= SHORTEST_KEY {
            true => Ok(set.into()),
            false => {
                Err(unusable(format!("objects.signing_key must have at least {SHORTEST_KEY} characters")))
            }
        };
    }
    let path = data_dir.join(KEY_FILE);
    let failed =
        |error: std::io::Error| unusable(format!("the key in {} cannot be used: {error}", path.display()));
    if !path.exists() {
        let made = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        write_secret(&path, &made).map_err(failed)?;
    }
    let key = std::fs::read_to_string(&path).map_err(failed)?.trim().to_owned();
    match key.len() >= SHORTEST_KEY {
        true => Ok(key.into_bytes()),
        false => Err(unusable(format!("the key in {} is too short; remove the file", path.display()))),
    }
}

/// Writes a file that only its owner may read; one that is there already stays as it is.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    // Under another name first: nobody may read half of it.
    let scratch = path.with_extension(Uuid::new_v4().simple().to_string());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
    file.write_all(secret.as_bytes()).and_then(|()| file.sync_all())?;
    let linked = std::fs::hard_link(&scratch, path);
    std::fs::remove_file(&scratch)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// What it takes to sign addresses that the bucket itself checks: version 4 of Amazon's signatures.
///
/// The store's client can sign too, but each time with the present second, so that the addresses of a page that polls
/// would change all the time.
struct BucketKey {
    id: String,
    secret: String,
    /// Of credentials that end.
    token: Option<String>,
    region: String,
}

impl BucketKey {
    fn of_environment() -> Result<BucketKey, BlobsError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let needed = |name: &str| {
            variable(name).ok_or_else(|| {
                BlobsError::Signing(format!(
                    "objects.signed = \"bucket\" needs {name} in the environment; or choose \"always\""
                ))
            })
        };
        Ok(BucketKey {
            id: needed("AWS_ACCESS_KEY_ID")?,
            secret: needed("AWS_SECRET_ACCESS_KEY")?,
            token: variable("AWS_SESSION_TOKEN"),
            region: variable("AWS_REGION")
                .or_else(|| variable("AWS_DEFAULT_REGION"))
                .unwrap_or_else(|| "us-east-1".into()),
        })
    }

    /// The address with what lets a GET pass from a time on, for so many seconds.
    fn presign(&self, address: &str, download: &str, begins: Timestamp, lasts: i64) -> String {
        let Ok(url) = Url::parse(address) else { return address.to_owned() };
        let (day, time) = (begins.format("%Y%m%d").to_string(), begins.format("%Y%m%dT%H%M%SZ").to_string());
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut add = |name: &str, value: String| query.push((name.into(), value));
        add("X-Amz-Algorithm", "AWS4-HMAC-SHA256".into());
        add("X-Amz-Credential", format!("{}/{scope}", self.id));
        add("X-Amz-Date", time.clone());
        add("X-Amz-Expires", lasts.to_string());
        add("X-Amz-SignedHeaders", "host".into());
        if let Some(token) = &self.token {
            add("X-Amz-Security-Token", token.clone());
        }
        if !download.is_empty() {
            add("response-content-disposition", disposition(download));
        }
        let mut query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        query.sort();
        let query = query.join("&");
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let path: Vec<String> = url.path().split('/').map(reencoded).collect();
        let path = path.join("/");
        let request = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let digest = hexadecimal(&Sha256::digest(request.as_bytes()));
        let statement = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [&day, &self.region, "s3", "aws4_request"] {
            key = sealed(&key, part);
        }
        let signature = hexadecimal(&sealed(&key, &statement));
        format!("{}://{host}{path}?{query}&X-Amz-Signature={signature}", url.scheme())
    }
}

fn sealed(key: &[u8], text: &str) -> Vec<u8> {
    let mut code = hmac(key);
    code.update(text.as_bytes());
    code.finalize().into_bytes().to_vec()
}

/// As Amazon's signatures have it: everything but letters, digits and `-._~`.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A part of a path that is encoded somehow already.
fn reencoded(part: &str) -> String {
    // A plus is a plus in a path.
    let part = format!("p={}", part.replace('+', "%2B"));
    let decoded = form_urlencoded::parse(part.as_bytes()).next();
    encoded(&decoded.map(|(_, value)| value.into_owned()).unwrap_or_default())
}

/// The header that makes a browser save a file under a name.
pub fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_' | '(' | ')') { c } else { '_' }
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", encoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{LabelGenerated, ScreenshotCaptured, contract},
        job::JobId,
    };

    const KEY: &str = "jobs/7/screenshots/1.png";

    fn addresses(signed: Signed, address: &str) -> Addresses {
        let settings = config::Objects {
            signed,
            signing_key: "k".repeat(SHORTEST_KEY),
            address: address.into(),
            ..config::Config::defaults().objects
        };
        let public = Url::parse("https://jobs.example.com/").unwrap();
        Addresses::open(&settings, Path::new("/nowhere"), &public).unwrap()
    }

    fn here() -> Addresses {
        addresses(Signed::Always, "{public_url}/cdn/{key}")
    }

    fn at(seconds: i64) -> Timestamp {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// The parts of an address that are checked.
    fn parts(address: &str) -> (Option<i64>, Option<String>) {
        let url = Url::parse(address).unwrap();
        let of = |sought: &str| {
            url.query_pairs().find(|(name, _)| name == sought).map(|(_, value)| value.into_owned())
        };
        (of("expires").and_then(|text| text.parse().ok()), of("signature"))
    }

    #[test]
    fn a_signed_address_is_good_for_its_object_and_its_time_only() {
        let addresses = here();
        let showing = Showing { transform: "w-300", download: "a.png" };
        let (address, until) = addresses.at(KEY, showing, at(0));
        assert!(
            address.starts_with(
                "https://jobs.example.com/cdn/tr:w-300/jobs/7/screenshots/1.png?download=a.png&"
            )
        );
        let (expires, signature) = parts(&address);
        assert_eq!(expires, until.map(|until| until.timestamp()));
        let signature = signature.as_deref();
        let check = |key: &str, showing, expires, signature, now| {
            addresses.check_at(key, showing, expires, signature, now)
        };
        assert!(check(KEY, showing, expires, signature, at(3600)).unwrap().is_some());
        for (key, transform, download) in [
            ("jobs/7/screenshots/2.png", "w-300", "a.png"),
            (KEY, "w-400", "a.png"),
            (KEY, "", "a.png"),
            (KEY, "w-300", "b.png"),
        ] {
            let other = Showing { transform, download };
            assert_eq!(check(key, other, expires, signature, at(0)), Err(Denied::Forged), "{key} {other:?}");
        }
        let later = expires.map(|expires| expires + 1);
        assert_eq!(check(KEY, showing, later, signature, at(0)), Err(Denied::Forged));
        assert_eq!(check(KEY, showing, expires, Some("AAAA"), at(0)), Err(Denied::Forged));
        assert_eq!(check(KEY, showing, expires, Some("?"), at(0)), Err(Denied::Forged));
        assert_eq!(check(KEY, showing, expires, None, at(0)), Err(Denied::Unsigned));
        assert_eq!(check(KEY, showing, None, signature, at(0)), Err(Denied::Unsigned));
        assert_eq!(check(KEY, showing, expires, signature, at(3 * 3600)), Err(Denied::Expired));
    }

    #[test]
    fn an_address_stays_the_same_for_a_while_and_is_never_about_to_end() {
        let addresses = here();
        let mut seen = std::collections::BTreeSet::new();
        for now in 0..3600 {
            let (address, until) = addresses.at(KEY, Showing::default(), at(now));
            assert!((until.unwrap() - at(now)).num_seconds() >= 3600);
            seen.insert(address);
        }
        assert!(seen.len() <= 5, "{} addresses in an hour", seen.len());
    }

    fn captured(url: &str, name: &str) -> Box<RawValue> {
        let event: crate::event::Event = ScreenshotCaptured {
            screenshot_id: Uuid::nil(),
            url: url.into(),
            product_url: format!("https://jobs.example.com/cdn/{KEY}"),
            thumbnail_url: Some("https://jobs.example.com/cdn/jobs/7/thumbnails/1.png".into()),
            product_name: Some(name.into()),
        }
        .into();
        event.encode(Some(JobId(Uuid::nil())), at(0))
    }

    #[test]
    fn an_event_gets_its_own_addresses_signed_and_nothing_that_somebody_wrote_into_it() {
        let addresses = here();
        let forged = format!("\"url\":\"https://jobs.example.com/cdn/{KEY}");
        let payload = captured(&format!("https://jobs.example.com/cdn/{KEY}"), &forged);
        let fresh = addresses.freshen("screenshot:captured", &payload);
        let value: serde_json::Value = serde_json::from_str(fresh.get()).unwrap();
        for (field, key) in [("url", KEY), ("thumbnailUrl", "jobs/7/thumbnails/1.png")] {
            let (expires, signature) = parts(value[field].as_str().unwrap());
            assert!(
                addresses.check(key, Showing::default(), expires, signature.as_deref()).is_ok(),
                "{value}"
            );
        }
        assert_eq!(value["productUrl"], format!("https://jobs.example.com/cdn/{KEY}"));
        assert_eq!(value["productName"], forged);
        // Signed once more, it is the same: an old signature gives way.
        let again = addresses.freshen("screenshot:captured", &fresh);
        assert_eq!(again.get().matches("signature=").count(), 2);

        let updated =
            RawValue::from_string(format!("{{\"url\":\"https://jobs.example.com/cdn/{KEY}\"}}")).unwrap();
        assert_eq!(addresses.freshen("job:updated", &updated).get(), updated.get());
        let elsewhere = captured("https://other.example.com/a.png", "x");
        assert!(
            addresses
                .freshen("screenshot:captured", &elsewhere)
                .get()
                .contains("\"https://other.example.com/a.png\"")
        );
    }

    #[test]
    fn without_signing_a_payload_is_passed_on_as_it_is() {
        let addresses = addresses(Signed::Never, "{public_url}/cdn/{key}");
        let payload = captured(&addresses.plain(KEY), "x");
        assert!(matches!(addresses.freshen("screenshot:captured", &payload), Cow::Borrowed(_)));
        assert_eq!(addresses.of(KEY), addresses.plain(KEY));
        assert_eq!(addresses.check(KEY, Showing::default(), None, None), Ok(None));
    }

    #[test]
    fn an_address_may_have_something_behind_the_key() {
        let addresses = addresses(Signed::Always, "https://cdn.example.com/cdn/{key}?v=1");
        let event: crate::event::Event = LabelGenerated {
            label_id: Uuid::nil(),
            image_url: addresses.plain(KEY),
            article_number: String::new(),
        }
        .into();
        let payload = event.encode(None, at(0));
        let fresh = addresses.freshen("label:generated", &payload);
        let again = addresses.freshen("label:generated", &fresh);
        for text in [fresh.get(), again.get()] {
            assert!(text.contains(&format!("\"https://cdn.example.com/cdn/{KEY}?v=1&expires=")), "{text}");
        }
    }

    #[test]
    fn every_field_that_holds_an_address_of_an_object_is_signed() {
        for row in contract::rows() {
            let of_objects: Vec<&str> = row
                .fields
                .iter()
                .filter(|field| field.doc.contains("PNG") || field.doc.contains("artifact's bytes"))
                .map(|field| &*field.name)
                .collect();
            assert_eq!(row.kind.addresses(), of_objects, "{}", row.kind.wire_name());
        }
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = signing_key("", folder.path()).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(signing_key("", folder.path()).unwrap(), first);
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(signing_key("short", folder.path()).unwrap_err().to_string().contains("at least 32"));
    }

    #[test]
    fn a_bucket_is_signed_for_as_amazon_documents_it() {
        let key = BucketKey {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
            region: "us-east-1".into(),
        };
        let begins = "2013-05-24T00:00:00Z".parse().unwrap();
        let signed = key.presign("https://examplebucket.s3.amazonaws.com/test.txt", "", begins, 86_400);
        assert!(
            signed.ends_with(
                "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            ),
            "{signed}"
        );
    }

    /// A server of S3's protocol on a folder, as long as the runtime lives.
    async fn s3(root: &Path, id: &str, secret: &str) -> std::net::SocketAddr {
        let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        service.set_auth(s3s::auth::SimpleAuth::from_single(id, secret));
        let service = service.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(stream, service.clone()),
                );
            }
        });
        address
    }

    #[tokio::test]
    async fn a_bucket_takes_what_was_signed_for_it_until_that_ends() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pictures")).unwrap();
        std::fs::write(folder.path().join("pictures/a b.png"), "picture").unwrap();
        let key = BucketKey {
            id: "the-key".into(),
            secret: "the-secret".into(),
            token: None,
            region: "eu-central-1".into(),
        };
        let address = format!("http://{}/pictures/a%20b.png", s3(folder.path(), &key.id, &key.secret).await);
        let get = async |address: String| {
            let answer = reqwest::get(address).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let now = Utc::now();
        let signed = |begins: Timestamp| key.presign(&address, "", begins, 3600);
        assert_eq!(get(signed(now - chrono::TimeDelta::minutes(59))).await, (200, "picture".into()));
        let (status, said) = get(signed(now - chrono::TimeDelta::minutes(61))).await;
        assert!(status == 403 && said.contains("expired"), "{status} {said}");
        let other = BucketKey { secret: "another-secret".into(), ..key };
        assert_eq!(get(other.presign(&address, "", now, 3600)).await.0, 403);
    }

    #[test]
    fn a_download_has_a_safe_name() {
        assert_eq!(
            disposition("Stühle \"x\"\r\n.png"),
            "attachment; filename=\"St_hle _x___.png\"; filename*=UTF-8''St%C3%BChle%20%22x%22%0D%0A.png"
        );
    }
}
