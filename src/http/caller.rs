//! Who calls: the one that a request has shown itself to be, for every handler.

use std::ops::Deref;

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::job::Principal;

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
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Self::Rejection> {
        Ok(parts.extensions.get::<Caller>().cloned().unwrap_or_else(|| Caller(Principal::anonymous())))
    }
}
