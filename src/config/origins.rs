//! Which pages may call this server: the one rule of CORS and of raw WebSockets.

/// Whether a page of this origin may call; one that this server gave itself, under the name that it was called by, always
/// may.
pub fn allows_origin(allowed: &[String], origin: &str, host: Option<&str>) -> bool {
    let own = origin.split_once("://").is_some_and(|(_, at)| Some(at) == host);
    own || allowed.iter().any(|allowed| allows(allowed, origin))
}

/// `http://localhost:*` allows every port of that host, `*` everybody, anything else itself alone.
fn allows(allowed: &str, origin: &str) -> bool {
    match allowed.strip_suffix(":*") {
        Some(host) => origin.strip_prefix(host).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        }),
        None => allowed == "*" || allowed == origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_for_the_port_allows_that_host_only() {
        let allowed = "http://localhost:*";
        for origin in ["http://localhost", "http://localhost:5173"] {
            assert!(allows(allowed, origin), "{origin}");
        }
        for origin in [
            "http://localhost.evil.example",
            "http://localhost:5173.evil.example",
            "https://localhost:1",
            "null",
        ] {
            assert!(!allows(allowed, origin), "{origin}");
        }
        assert!(allows("https://shop.example.com", "https://shop.example.com"));
        assert!(allows("*", "https://anything.example"));
    }

    #[test]
    fn a_page_of_this_server_may_call_it() {
        assert!(allows_origin(&[], "https://jobs.example.com", Some("jobs.example.com")));
        assert!(!allows_origin(&[], "https://jobs.example.com", Some("jobs.example.com:8000")));
        assert!(!allows_origin(&[], "null", None));
    }
}
