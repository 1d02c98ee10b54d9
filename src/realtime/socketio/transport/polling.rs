//! The packets of a polling answer's body, in clients' protocol 4 of Engine.IO.

/// Between packets.
const SEPARATOR: u8 = 0x1e;
/// How an event begins.
const EVENT: &[u8] = b"42[";
/// A notice is an answer to one client; it is no event of the stream.
const NOTICE: &[u8] = b"42[\"system:notification\"";

/// The packets of a body.
pub fn packets(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == SEPARATOR)
}

/// Puts packets together again.
pub fn join(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.join(&SEPARATOR)
}

/// How many events of the stream a body holds.
pub fn events(body: &[u8]) -> usize {
    packets(body).filter(|packet| packet.starts_with(EVENT) && !packet.starts_with(NOTICE)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_and_nothing_else_is() {
        let body = b"2\x1e42[\"job:updated\",{},\"7\"]\x1e430[{}]\x1e42[\"system:notification\",{}]\x1e42[\"job:progress\",{}]";
        assert_eq!(events(body), 2);
        assert_eq!(events(b"6"), 0);
        assert_eq!(events(b""), 0);
    }
}
