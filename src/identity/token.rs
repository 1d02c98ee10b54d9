//! Signed tokens (JWT): who signed them, for whom, until when, and what they say of the caller.
//!
//! The algorithm decides where the key comes from: HS256 is checked with the secret alone, RS256 and ES256 with public
//! keys alone. So nobody can pass off a public key as a secret.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::{Error, ErrorKind},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{crypto, jwks::Jwks};
use crate::{
    config,
    job::{Code, Principal, Proof, Rejection, Scopes},
};

/// Longest token, in bytes.
const MAX_TOKEN: usize = 8192;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To call. A token that does not say its kind is of this one.
    Access,
    /// To get a new token.
    Refresh,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Access => "access",
            Kind::Refresh => "refresh",
        }
    }
}

/// What every token must satisfy besides its signature.
#[derive(Clone, Debug)]
pub struct Checks {
    issuer: Option<String>,
    audience: Option<String>,
    /// How far the clocks of those who sign may be off, in seconds.
    leeway: u64,
}

impl Checks {
    pub fn of(settings: &config::Auth) -> Checks {
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Checks {
            issuer: set(&settings.issuer),
            audience: set(&settings.audience),
            leeway: settings.leeway.as_secs(),
        }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// What a token says whose signature, time, issuer and audience are right.
#[derive(Debug, Deserialize)]
pub struct Claims {
    #[serde(default)]
    sub: Value,
    exp: f64,
    #[serde(default)]
    scope: Value,
    #[serde(default)]
    scopes: Value,
    #[serde(default)]
    roles: Value,
    #[serde(default, rename = "type")]
    kind: Value,
}

impl Claims {
    /// The caller.
    pub(super) fn principal(&self, kind: Kind, checks: &Checks) -> Result<Principal, Rejection> {
        let said = self.kind.as_str().unwrap_or(Kind::Access.word());
        if said != kind.word() {
            let message =
                format!("This is a token of the kind {said:?}; send one of the kind {:?}.", kind.word());
            return Err(Rejection::new(Code::InvalidToken, message));
        }
        let subject = match &self.sub {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(invalid("it names no subject (sub)")),
        };
        let words = [&self.scope, &self.scopes, &self.roles].into_iter().flat_map(words);
        let scopes = Scopes::known(words).unwrap_or_else(Scopes::ordinary);
        let end = DateTime::<Utc>::from_timestamp(self.exp as i64, 0)
            .ok_or_else(|| invalid("its end (exp) is no time"))?;
        let leeway = TimeDelta::seconds(i64::try_from(checks.leeway).unwrap_or(0));
        Principal::new(&subject, scopes, Some(end + leeway), Proof::Token)
    }
}

/// The words of a claim: a text with spaces between them, or an array of texts.
fn words(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Reads a token whose signature and claims are right.
pub(super) async fn read(
    text: &str,
    checks: &Checks,
    secret: Option<&str>,
    jwks: Option<&Jwks>,
) -> Result<Claims, Rejection> {
    if text.len() > MAX_TOKEN {
        return Err(invalid("it is too long"));
    }
    let header = decode_header(text).map_err(|error| refusal(&error))?;
    let algorithm = header.alg;
    let validation = checks.validation(algorithm);
    let with = |key: &DecodingKey| decode::<Claims>(text, key, &validation).map(|read| read.claims);
    match (algorithm, secret, jwks) {
        (Algorithm::HS256, Some(secret), _) => {
            with(&DecodingKey::from_secret(secret.as_bytes())).map_err(|error| refusal(&error))
        }
        (Algorithm::RS256 | Algorithm::ES256, _, Some(jwks)) => {
            let keys = jwks.keys(algorithm, header.kid.as_deref()).await?;
            let mut failed = invalid("none of the known keys has signed it");
            for key in &keys {
                match with(key) {
                    Ok(claims) => return Ok(claims),
                    Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                    Err(error) => failed = refusal(&error),
                }
            }
            Err(failed)
        }
        (Algorithm::HS256, None, _) => Err(invalid("this server has no secret for HS256 (auth.jwt_secret)")),
        (Algorithm::RS256 | Algorithm::ES256, _, None) => {
            Err(invalid("this server has no public keys (auth.jwks)"))
        }
        _ => Err(invalid("it must be signed with HS256, RS256 or ES256")),
    }
}

/// A token to be signed here.
pub struct NewToken<'a> {
    pub subject: &'a str,
    /// `None` for what everybody has.
    pub scopes: Option<&'a Scopes>,
    pub kind: Kind,
    pub ttl: TimeDelta,
}

/// Signs a token with the secret, as [`read`] takes it.
///
/// # Errors
/// When the subject cannot be one.
pub fn sign(new: &NewToken, settings: &config::Auth) -> Result<String, Rejection> {
    #[derive(Serialize)]
    struct Body<'a> {
        sub: &'a str,
        iat: i64,
        nbf: i64,
        exp: i64,
        jti: Uuid,
        #[serde(rename = "type")]
        kind: &'a str,
        fresh: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        #[serde(skip_serializing_if = "str::is_empty")]
        iss: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        aud: &'a str,
    }
    crypto::install();
    let now = Utc::now();
    let body = Body {
        sub: crate::job::check_subject(new.subject)?,
        iat: now.timestamp(),
        nbf: now.timestamp(),
        exp: (now + new.ttl).timestamp(),
        jti: Uuid::new_v4(),
        kind: new.kind.word(),
        fresh: false,
        scope: new.scopes.map(|scopes| scopes.words().join(" ")),
        iss: &settings.issuer,
        aud: &settings.audience,
    };
    let key = EncodingKey::from_secret(settings.jwt_secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &body, &key)
        .map_err(|error| Rejection::new(Code::Internal, format!("The token could not be signed: {error}.")))
}

/// The refusal of a token whose time is over.
pub fn expired() -> Rejection {
    Rejection::new(Code::TokenExpired, "The token has expired; log in again, or ask for a new one.")
}

pub(super) fn invalid(why: &str) -> Rejection {
    Rejection::new(Code::InvalidToken, format!("The token is not good: {why}."))
}

fn refusal(error: &Error) -> Rejection {
    match error.kind() {
        ErrorKind::ExpiredSignature => expired(),
        ErrorKind::InvalidSignature => invalid("its signature is wrong"),
        ErrorKind::ImmatureSignature => invalid("its time has not come (nbf)"),
        ErrorKind::InvalidIssuer => invalid("it is of another issuer (iss)"),
        ErrorKind::InvalidAudience => invalid("it is for another audience (aud)"),
        ErrorKind::MissingRequiredClaim(claim) => invalid(&format!("it does not say its {claim}")),
        ErrorKind::InvalidClaimFormat(claim) => invalid(&format!("its {claim} cannot be read")),
        _ => invalid("it cannot be read"),
    }
}
