//! A server to talk to, and how to say to it who calls.

use std::{fmt, ops::Deref};

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use url::Url;

use super::{ClientError, rest};

/// A server's address, with a token or an API key where it asks for one.
#[derive(Clone)]
pub struct Remote {
    base: Url,
    /// A token (JWT) or an API key. Never shown.
    key: Option<String>,
}

impl Remote {
    pub fn new(base: Url, key: Option<String>) -> Remote {
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        Remote { base, key }
    }

    /// A request of this caller.
    pub(super) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let request = rest::http(self)?.request(method, rest::address(self, path));
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    /// What joins the namespace `/`.
    pub(super) fn connect_packet(&self) -> String {
        let claim = self.key.as_ref().map(|key| json!({ "token": key }).to_string());
        format!("{}{}", super::packet::CONNECT, claim.unwrap_or_default())
    }
}

impl From<Url> for Remote {
    fn from(base: Url) -> Remote {
        Remote::new(base, None)
    }
}

impl Deref for Remote {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.base
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&rest::shown(self)).finish()
    }
}
