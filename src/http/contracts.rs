//! The contract of the sockets as documents at `/asyncapi.json`, `/events.d.ts` and `/events.schema.json`, and the
//! client's own bundle where a setting names one.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use url::Url;

use super::{
    Api,
    cached::{is_known, tag},
    error::{Error, ErrorBody, Named},
};
use crate::{
    event::contract::{self, Channel},
    job::{Code, Rejection},
};

/// Under which name the bundle that the setting names is served.
const BUNDLE: &str = "socket.io.js";
/// What may lie beside it, as in socket.io-client's `dist`.
const BESIDE: [&str; 7] = [
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];
/// Bytes of one of them; the largest map has half a million.
const MAX_FILE: u64 = 4_000_000;

/// Documents that are the same for everybody, made once at start.
#[derive(Clone)]
pub struct Contracts(Arc<Documents>);

struct Documents {
    asyncapi: Document,
    typescript: Document,
    json_schema: Document,
    client: HashMap<&'static str, Document>,
}

struct Document {
    body: Bytes,
    content_type: &'static str,
    tag: String,
}

/// The client's bundle cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "server.client_bundle names {}, which cannot be served ({reason}); give the path of dist/socket.io.js of socket.io-client, or \"\" to serve none", .path.display()
)]
pub struct BundleError {
    path: PathBuf,
    reason: io::Error,
}

impl Contracts {
    /// Of a server with this address and these raw WebSockets, and the client's bundle if a path is given.
    ///
    /// # Errors
    /// When the bundle is not there, or too large.
    pub fn open(public: &Url, sockets: &[Channel], bundle: &Path) -> Result<Contracts, BundleError> {
        let mut client = HashMap::new();
        if !bundle.as_os_str().is_empty() {
            let failed = |reason| BundleError { path: bundle.to_owned(), reason };
            client.insert(BUNDLE, Document::script(BUNDLE, read(bundle).map_err(failed)?));
            for name in BESIDE {
                // What is not there is not missed.
                if let Ok(bytes) = read(&bundle.with_file_name(name)) {
                    client.insert(name, Document::script(name, bytes));
                }
            }
        }
        Ok(Contracts(Arc::new(Documents {
            asyncapi: Document::new(contract::asyncapi(public.as_str(), sockets), "application/json"),
            typescript: Document::new(contract::typescript(), "application/typescript; charset=utf-8"),
            json_schema: Document::new(contract::json_schema(), "application/schema+json"),
            client,
        })))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if about.len() > MAX_FILE {
        return Err(io::Error::other(format!("it has more than {MAX_FILE} bytes")));
    }
    fs::read(path)
}

impl Document {
    fn new(body: impl Into<Bytes>, content_type: &'static str) -> Document {
        let body = body.into();
        Document { tag: tag(&body), body, content_type }
    }

    fn script(name: &str, body: Vec<u8>) -> Document {
        let content_type =
            if name.ends_with(".map") { "application/json" } else { "text/javascript; charset=utf-8" };
        Document::new(body, content_type)
    }

    /// The document, or that the one which is known is the same.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = match is_known(headers, &self.tag) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => {
                ([(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type))], self.body.clone())
                    .into_response()
            }
        };
        let headers = response.headers_mut();
        // Another version of the server has another contract: asked again each time, and mostly unchanged.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// All sockets as AsyncAPI 3.0: rooms, events and what pages may say, over Socket.IO and raw WebSockets.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "contract",
    responses((status = 200, body = Value), (status = 304, description = "The version that is known is this one")),
)]
pub async fn asyncapi(State(api): State<Api>, headers: HeaderMap) -> Response {
    api.contracts.0.asyncapi.answer(&headers)
}

/// TypeScript types for `io<ServerToClientEvents, ClientToServerEvents>()`.
#[utoipa::path(
    get, path = "/events.d.ts", tag = "contract",
    responses(
        (status = 200, body = String, content_type = "application/typescript"),
        (status = 304, description = "The version that is known is this one"),
    ),
)]
pub async fn typescript(State(api): State<Api>, headers: HeaderMap) -> Response {
    api.contracts.0.typescript.answer(&headers)
}

/// The events' payloads as JSON Schema (2020-12).
#[utoipa::path(
    get, path = "/events.schema.json", tag = "contract",
    responses(
        (status = 200, body = Value, content_type = "application/schema+json"),
        (status = 304, description = "The version that is known is this one"),
    ),
)]
pub async fn json_schema(State(api): State<Api>, headers: HeaderMap) -> Response {
    api.contracts.0.json_schema.answer(&headers)
}

/// The stock client for pages, where `server.client_bundle` names it.
#[utoipa::path(
    get, path = "/socket.io/{file}", tag = "contract",
    params(("file" = String, Path, description = "`socket.io.js`, or `socket.io.min.js`, or the map of one")),
    responses(
        (status = 200, body = String, content_type = "text/javascript"),
        (status = 304, description = "The version that is known is this one"),
        (status = 404, body = ErrorBody, description = "No such file is served here"),
    ),
)]
pub async fn client(
    State(api): State<Api>,
    Named(file): Named,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let Some(document) = api.contracts.0.client.get(file.as_str()) else {
        let message = match api.contracts.0.client.is_empty() {
            true => {
                "This server serves no client; load socket.io-client from elsewhere, or set server.client_bundle."
            }
            false => "There is no such file of the client here; /socket.io/socket.io.js is there.",
        };
        return Err(Rejection::new(Code::RouteNotFound, message).into());
    };
    Ok(document.answer(&headers))
}
