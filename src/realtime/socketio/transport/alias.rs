//! What sockets are called where others see it: the library's own name for a session is its credential while it polls.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// Bytes of a name: as long as those that clients of the library's original know.
const LENGTH: usize = 15;
/// Characters of a connection's name, as the Admin UI has it.
const OF_CONNECTION: usize = 12;

/// Makes names. They say nothing of the session's own, are the same for as long as it lasts, and differ by namespace.
#[derive(Debug)]
pub struct Aliases(hmac::Key);

impl Default for Aliases {
    fn default() -> Aliases {
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        // Without random numbers there would be no sessions either.
        if SystemRandom::new().fill(&mut key).is_err() {
            tracing::error!("the system gives no random numbers; names of sockets can be guessed");
        }
        Aliases(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }
}

impl Aliases {
    /// A socket's name, which its client knows as `socket.id`.
    pub fn of(&self, namespace: &str, sid: &str) -> String {
        let mut code = hmac::Context::with_key(&self.0);
        for part in [namespace, ",", sid] {
            code.update(part.as_bytes());
        }
        BASE64_URL_SAFE_NO_PAD.encode(&code.sign().as_ref()[..LENGTH])
    }

    /// The name of the connection that a client's sockets share.
    pub fn of_connection(&self, sid: &str) -> String {
        let mut name = self.of("", sid);
        name.truncate(OF_CONNECTION);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_and_differs_by_session_namespace_and_process() {
        let aliases = Aliases::default();
        let name = aliases.of("/", "Zm9vYmFyZm9vYmFy");
        assert_eq!(name, aliases.of("/", "Zm9vYmFyZm9vYmFy"));
        assert_eq!(name.len(), 20);
        assert_ne!(name, aliases.of("/admin", "Zm9vYmFyZm9vYmFy"));
        assert_ne!(name, aliases.of("/", "Zm9vYmFyZm9vYmFz"));
        assert_ne!(name, Aliases::default().of("/", "Zm9vYmFyZm9vYmFy"));
        assert_eq!(aliases.of_connection("Zm9vYmFyZm9vYmFy").len(), OF_CONNECTION);
    }
}
