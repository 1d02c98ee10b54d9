//! What a client finds in the answer to its CONNECT: a `pid`, and a name that others may know too.

use std::sync::{Arc, Mutex, PoisonError};

use super::{alias::Aliases, polling};

/// How the answer to a CONNECT begins; in clients' protocol 5 something follows.
const CONNECTED: &[u8] = b"40";
/// The namespace of sessions.
const MAIN: &str = "/";

/// What the answers to a connection's CONNECTs carry.
#[derive(Debug, Default)]
pub struct Greeting {
    /// The `pid` of its session, until it was told.
    pid: Mutex<Option<String>>,
    aliases: Arc<Aliases>,
}

impl Greeting {
    pub fn new(aliases: Arc<Aliases>) -> Greeting {
        Greeting { pid: Mutex::default(), aliases }
    }

    /// Sets the `pid` that the next answer for the main namespace is to carry.
    pub fn set(&self, pid: String) {
        *self.pid() = Some(pid);
    }

    /// If this packet is the answer to a CONNECT: the packet that goes out in its place.
    pub fn insert(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let answer = std::str::from_utf8(packet.strip_prefix(CONNECTED)?).ok()?;
        let (namespace, members) = match answer.split_once('{')? {
            ("", members) => (MAIN, members),
            (namespace, members) => {
                (namespace.strip_suffix(',').filter(|name| name.starts_with('/'))?, members)
            }
        };
        let members = members.strip_suffix('}')?;
        let pid = if namespace == MAIN { self.pid().take() } else { None };
        let sid = members.strip_prefix("\"sid\":\"").and_then(|rest| rest.split_once('"'));
        let mut told = format!("40{}{{", if namespace == MAIN { "" } else { &answer[..=namespace.len()] });
        match sid {
            Some((sid, rest)) => {
                // Letters, digits, dashes: there is nothing to escape in any of them.
                let name = self.aliases.of(namespace, sid);
                told.push_str(&format!("\"sid\":\"{name}\"{rest}"));
            }
            None => told.push_str(members),
        }
        if let Some(pid) = pid {
            let comma = if members.is_empty() { "" } else { "," };
            told.push_str(&format!("{comma}\"pid\":\"{pid}\""));
        }
        told.push('}');
        Some(told.into_bytes())
    }

    /// The same for the body of a polling answer, in which packets stand side by side.
    pub fn insert_into_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        if !polling::packets(body).any(|packet| packet.starts_with(CONNECTED)) {
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
        self.pid.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn text(packet: Option<Vec<u8>>) -> String {
        String::from_utf8(packet.unwrap()).unwrap()
    }

    #[test]
    fn the_answer_to_a_connect_carries_the_pid_once() {
        let greeting = due();
        assert_eq!(greeting.insert(b"42[\"40{\"]"), None);
        let name = greeting.aliases.of("/", "x");
        let told = text(greeting.insert(b"40{\"sid\":\"x\"}"));
        assert_eq!(told, format!("40{{\"sid\":\"{name}\",\"pid\":\"ab12\"}}"));
        let told = text(greeting.insert(b"40{\"sid\":\"x\"}"));
        assert_eq!(told, format!("40{{\"sid\":\"{name}\"}}"), "the pid was told");
        assert_eq!(text(due().insert(b"40{}")), "40{\"pid\":\"ab12\"}");
        assert_eq!(due().insert(b"40"), None, "a client of version 2 has no use for it");
    }

    #[test]
    fn in_another_namespace_it_carries_a_name_alone() {
        let greeting = due();
        let name = greeting.aliases.of("/api/v1", "x");
        let told = text(greeting.insert(b"40/api/v1,{\"sid\":\"x\"}"));
        assert_eq!(told, format!("40/api/v1,{{\"sid\":\"{name}\"}}"));
        assert!(text(greeting.insert(b"40{\"sid\":\"x\"}")).contains("ab12"), "the pid is still due");
    }

    #[test]
    fn it_is_found_among_other_packets_of_a_body() {
        let body = b"2\x1e40{\"sid\":\"x\"}\x1e42[\"a\"]";
        let greeting = due();
        let name = greeting.aliases.of("/", "x");
        assert_eq!(
            text(greeting.insert_into_body(body)),
            format!("2\x1e40{{\"sid\":\"{name}\",\"pid\":\"ab12\"}}\x1e42[\"a\"]")
        );
        assert_eq!(due().insert_into_body(b"6"), None);
    }

    proptest! {
        #[test]
        fn everything_else_of_a_body_stays_as_it_is(before in "[ -~]{0,40}", after in "[ -~]{0,40}") {
            prop_assume!(!before.starts_with("40") && !after.starts_with("40"));
            let greeting = due();
            let name = greeting.aliases.of("/", "s");
            let body = format!("{before}\x1e40{{\"sid\":\"s\"}}\x1e{after}");
            let told = greeting.insert_into_body(body.as_bytes()).unwrap();
            let expected = format!("{before}\x1e40{{\"sid\":\"{name}\",\"pid\":\"ab12\"}}\x1e{after}");
            prop_assert_eq!(told, expected.into_bytes());
        }
    }
}
