//! The `pid` that a client finds in the answer to its CONNECT, inserted into what the library wrote.

use std::sync::{Mutex, PoisonError};

use super::polling;

/// How the answer to a CONNECT to the main namespace begins, in clients' protocol 5.
const CONNECTED: &[u8] = b"40{";

/// The `pid` of a session, until it was told.
#[derive(Debug, Default)]
pub struct Greeting(Mutex<Option<String>>);

impl Greeting {
    /// Sets the `pid` that the next CONNECT answer is to carry.
    pub fn set(&self, pid: String) {
        *self.pid() = Some(pid);
    }

    /// If this packet is the answer to a CONNECT: the packet that goes out in its place.
    pub fn insert(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let members = packet.strip_prefix(CONNECTED)?.strip_suffix(b"}")?;
        let pid = self.pid().take()?;
        let comma = if members.is_empty() { "" } else { "," };
        // A pid is hexadecimal digits; there is nothing to escape.
        Some([&packet[..packet.len() - 1], format!("{comma}\"pid\":\"{pid}\"}}").as_bytes()].concat())
    }

    /// The same for the body of a polling answer, in which packets stand side by side.
    pub fn insert_into_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.pid().is_none() {
            return None;
        }
        let mut changed = false;
        let packets: Vec<Vec<u8>> = polling::packets(body)
            .map(|packet| match self.insert(packet) {
                Some(told) => {
                    changed = true;
                    told
                }
                None => packet.to_vec(),
            })
            .collect();
        changed.then(|| polling::join(&packets))
    }

    fn pid(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn due() -> Greeting {
        let greeting = Greeting::default();
        greeting.set("ab12".into());
        greeting
    }

    #[test]
    fn the_answer_to_a_connect_carries_the_pid_once() {
        let greeting = due();
        assert_eq!(greeting.insert(b"42[\"40{\"]"), None);
        assert_eq!(greeting.insert(b"40/admin,{\"sid\":\"x\"}"), None);
        let told = greeting.insert(b"40{\"sid\":\"x\"}").unwrap();
        assert_eq!(told, b"40{\"sid\":\"x\",\"pid\":\"ab12\"}");
        assert_eq!(greeting.insert(b"40{\"sid\":\"x\"}"), None, "it was told");
        assert_eq!(due().insert(b"40{}").unwrap(), b"40{\"pid\":\"ab12\"}");
        assert_eq!(due().insert(b"40"), None, "a client of version 2 has no use for it");
    }

    #[test]
    fn it_is_found_among_other_packets_of_a_body() {
        let body = b"2\x1e40{\"sid\":\"x\"}\x1e42[\"a\"]";
        assert_eq!(
            due().insert_into_body(body).unwrap(),
            b"2\x1e40{\"sid\":\"x\",\"pid\":\"ab12\"}\x1e42[\"a\"]"
        );
        assert_eq!(due().insert_into_body(b"6"), None);
        assert_eq!(Greeting::default().insert_into_body(body), None);
    }

    proptest! {
        #[test]
        fn everything_else_of_a_body_stays_as_it_is(before in "[ -~]{0,40}", after in "[ -~]{0,40}") {
            prop_assume!(!before.starts_with("40{"));
            let body = format!("{before}\x1e40{{\"sid\":\"s\"}}\x1e{after}");
            let told = due().insert_into_body(body.as_bytes()).unwrap();
            prop_assert_eq!(told, format!("{before}\x1e40{{\"sid\":\"s\",\"pid\":\"ab12\"}}\x1e{after}").into_bytes());
        }
    }
}
