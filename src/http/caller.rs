//! Who calls: found once for each request, before its handler, and asked by every handler whose jobs they are.

use std::ops::Deref;

use axum::{
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Api, error::Error, page};
use crate::{
    identity::{Credentials, Stay},
    job::{Code, JobId, Principal, Rejection, Scope},
};

/// Where anybody may look: the page, whether the server lives, what it can do. Who may read the numbers, their handler
/// says.
const OPEN: [&str; 12] = [
    "/",
    "/livez",
    "/health",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/health",
    "/openapi.json",
    "/asyncapi.json",
    "/events.d.ts",
    "/events.schema.json",
    "/docs",
];
/// Below these too: the contract's page, and what pages load before they are anybody.
const OPEN_FOLDERS: [&str; 3] = ["/docs/", "/socket.io/", page::FOLDER];
/// Below these the handlers themselves say what a caller needs: scopes for work outside, tokens for new tokens.
const OWN_RULES: [&str; 4] = ["/v1/work", "/v1/kinds", "/cdn/", "/api/v1/auth/"];
/// How a 401 says what to send (RFC 6750).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"jobcast\"");
const CHALLENGE_INVALID: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"jobcast\", error=\"invalid_token\"");

/// How a dialect says that a caller may not come in; `None` for a path that is not its own.
pub type Refuse = fn(&Uri, &Rejection) -> Option<Response>;

/// The caller of a request. Its subject owns what the request makes.
#[derive(Clone, Debug)]
pub struct Caller(pub Principal);

impl Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Error> {
        let unknown =
            || Rejection::new(Code::Unauthenticated, "Say who you are: send a token or an API key.");
        Ok(parts.extensions.get::<Caller>().cloned().ok_or_else(unknown)?)
    }
}

/// The job of a path's `{id}`, which is one that the caller may know of.
pub struct OwnJob(pub JobId);

impl FromRequestParts<Api> for OwnJob {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<OwnJob, Error> {
        let caller = Caller::from_request_parts(parts, api).await?;
        // What is no text at all is no id either.
        let named = Path::<String>::from_request_parts(parts, api).await;
        let job: JobId = named.map_or_else(|_| String::new(), |Path(id)| id).parse()?;
        api.admit(&caller, job).await?;
        Ok(OwnJob(job))
    }
}

/// Finds out who calls before a request goes on to its handler.
pub(super) async fn find(
    State((api, refuse)): State<(Api, Refuse)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    if OPEN.contains(&path) || below(&OPEN_FOLDERS) {
        return next.run(request).await;
    }
    let credentials = Credentials::of_request(request.headers(), request.uri().query());
    let needed = match *request.method() {
        _ if below(&OWN_RULES) => None,
        Method::GET | Method::HEAD => Some(Scope::Read),
        _ => Some(Scope::Write),
    };
    let found = api.identity.authenticate(&credentials).await;
    let found =
        found.and_then(|caller| needed.map_or(Ok(()), |scope| caller.require(scope)).map(|()| caller));
    match found {
        Ok(caller) => {
            request.extensions_mut().insert(Stay::new(api.identity.clone(), caller.clone()));
            request.extensions_mut().insert(Caller(caller));
            next.run(request).await
        }
        // An object may be public, or its address signed; new tokens are for those whose old ones are over.
        Err(_) if path.starts_with("/cdn/") || path.starts_with("/api/v1/auth/") => next.run(request).await,
        Err(rejection) => {
            let code = rejection.code;
            let said = refuse(request.uri(), &rejection);
            challenge(code, said.unwrap_or_else(|| Error::from(rejection).into_response()))
        }
    }
}

/// Tells a client that is not let in what to send.
pub(super) fn challenge(code: Code, mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = if code == Code::Unauthenticated { CHALLENGE } else { CHALLENGE_INVALID };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
