//! Who calls, when proxies stand in front that are trusted to say so.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;

use crate::realtime::socketio::FORWARDED_FOR;

/// Addresses of one request that are looked at.
const MAX_HOPS: usize = 16;

/// Puts the caller's address in the place of its proxy's, for all that count or show callers.
pub async fn note(State(trusted): State<Arc<[IpNet]>>, mut request: Request, next: Next) -> Response {
    if let Some(&ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let caller = caller(peer, request.headers(), &trusted);
        request.extensions_mut().insert(ConnectInfo(caller));
    }
    next.run(request).await
}

/// The last address of the way here that no trusted proxy has: each of them adds the address that called it at the end. What stands before it is anybody's word.
fn caller(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> SocketAddr {
    let is_trusted =
        |caller: &SocketAddr| trusted.iter().any(|network| network.contains(&caller.ip().to_canonical()));
    let lines = headers.get_all(FORWARDED_FOR).into_iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',').map(address));
    let mut caller = peer;
    for hop in hops.take(MAX_HOPS) {
        match hop {
            Some(hop) if is_trusted(&caller) => caller = hop,
            _ => break,
        }
    }
    caller
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or not.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peer: &str, lines: &[&str]) -> String {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        caller(SocketAddr::new(peer.parse().unwrap(), 4000), &headers, &trusted).ip().to_string()
    }

    #[test]
    fn the_caller_is_whoever_the_outermost_trusted_proxy_was_called_by() {
        assert_eq!(told("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(told("127.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(told("::ffff:127.0.0.1", &["203.0.113.7:5123"]), "203.0.113.7");
        assert_eq!(told("fd00::1", &["[2001:db8::7]:443, 10.1.2.3"]), "2001:db8::7");
        assert_eq!(told("10.0.0.1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(told("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
        // Two header lines are one list.
        assert_eq!(told("10.0.0.1", &["203.0.113.7", "10.0.0.2"]), "203.0.113.7");
        // All are proxies: the first of them called.
        assert_eq!(told("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        assert_eq!(told("203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
        assert_eq!(
            told("127.0.0.1", &["198.51.100.1, 203.0.113.7"]),
            "203.0.113.7",
            "the first is the caller's own claim"
        );
        for nonsense in ["unknown", "", "203.0.113.7, ", "1.2.3.4.5", "_hidden"] {
            assert_eq!(told("127.0.0.1", &[nonsense]), "127.0.0.1", "{nonsense:?}");
        }
        let long = vec!["10.0.0.1"; 1000].join(",");
        assert_eq!(told("127.0.0.1", &["203.0.113.7", &long]), "10.0.0.1");
    }
}
