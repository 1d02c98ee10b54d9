//! How a message is signed, as the Standard Webhooks specification has it: any of its libraries can verify it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::store::WebhookSecret;

/// The header `webhook-signature`: one signature for each secret that receivers may have.
pub fn sign<'a>(
    secrets: impl IntoIterator<Item = &'a WebhookSecret>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> String {
    let signatures = secrets.into_iter().filter_map(|secret| {
        // HMAC takes keys of any length.
        let mut code = Hmac::<Sha256>::new_from_slice(secret.bytes()).ok()?;
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            code.update(part.as_bytes());
        }
        Some(format!("v1,{}", BASE64_STANDARD.encode(code.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(" ")
}
