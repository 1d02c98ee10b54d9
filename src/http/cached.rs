//! What a client keeps of an answer: the tag that names a version of it, and whether the client has that one.

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use crate::store::hexadecimal;

/// A tag for these bytes, in its quotation marks.
pub(super) fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", hexadecimal(&Sha256::digest(bytes)[..16]))
}

/// Whether a client says that it has the version with this tag.
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|given| given.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|entry| entry.trim().trim_start_matches("W/"))
        .any(|entry| entry == tag || entry == "*")
}
