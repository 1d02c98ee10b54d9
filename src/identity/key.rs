//! API keys: how they look, how one is made, and what is kept of it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Every key begins with it, so that it is told from a token, and found where it should not be.
const MARK: &str = "jc_";
/// Characters that tell keys apart, behind the mark.
const NAME: usize = 10;

/// A new key. It is shown once; what is kept is its hash.
pub struct Secret {
    pub text: String,
    /// How it begins: what people see of it later.
    pub prefix: String,
}

impl Secret {
    /// 256 random bits.
    pub fn generate() -> Secret {
        // Each has 122 bits of the operating system's randomness.
        let parts: Vec<u8> = (0..3).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
        let secret = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&parts));
        let name: String = Uuid::new_v4().simple().to_string().chars().take(NAME).collect();
        let prefix = format!("{MARK}{name}");
        Secret { text: format!("{prefix}_{secret}"), prefix }
    }
}

/// Whether a text is meant for a key, and not for a token.
pub fn is_one(text: &str) -> bool {
    text.starts_with(MARK)
}

/// What is kept of a key, and looked it up by.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_told_by_their_beginning() {
        let (one, other) = (Secret::generate(), Secret::generate());
        assert!(is_one(&one.text) && one.text.starts_with(&one.prefix));
        assert_eq!(one.text.len(), 3 + 10 + 1 + 43);
        assert_ne!(one.text, other.text);
        assert_ne!(hash(&one.text), hash(&other.text));
    }
}
