//! The companies that a job is to look up: their domains, as people paste them, made one list.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Code, Rejection};

/// What a job on companies was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Companies {
    /// Each once, in the order in which they were given.
    pub domains: Vec<String>,
    /// One after the other, and a person is asked about each that was found.
    #[serde(default)]
    pub sequential: bool,
}

impl Companies {
    /// Domains of one job at the most.
    pub const MAX_DOMAINS: usize = 2_000;

    /// Makes a list of what people pasted: addresses and domains, many in one text, in any letters. What is no domain is
    /// left out.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when nothing is left, or too much.
    pub fn read<T: AsRef<str>>(
        given: impl IntoIterator<Item = T>,
        sequential: bool,
    ) -> Result<Companies, Rejection> {
        let mut seen = HashSet::new();
        let mut domains = Vec::new();
        for text in given {
            for word in text.as_ref().split(|c: char| c == ',' || c == ';' || c.is_whitespace()) {
                if let Some(domain) = domain(word)
                    && seen.insert(domain.clone())
                {
                    domains.push(domain);
                }
                if domains.len() > Companies::MAX_DOMAINS {
                    let message = format!("One job looks up {} domains at the most.", Companies::MAX_DOMAINS);
                    return Err(Rejection::new(Code::InvalidRequest, message));
                }
            }
        }
        if domains.is_empty() {
            return Err(Rejection::new(Code::InvalidRequest, "No valid domains provided"));
        }
        Ok(Companies { domains, sequential })
    }
}

/// The domain in an address, with its port if it has one.
pub fn domain(text: &str) -> Option<String> {
    const LONGEST: usize = 260;
    let text = text.trim().to_lowercase();
    let text = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    let text = text.trim_start_matches('/');
    let domain = text.split(['/', '?', '#']).next()?.trim_end_matches('.');
    let is_one = domain.len() <= LONGEST
        && domain.contains('.')
        && !domain.contains(['@', '\\', '%', '<', '>', '"', '\''])
        && !domain.starts_with('.')
        && !domain.contains("..")
        && Url::parse(&format!("http://{domain}/")).is_ok_and(|url| url.has_host() && url.path() == "/");
    is_one.then(|| domain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_becomes_a_list_of_domains() {
        let given = [
            "https://Example.com/about?x#y, example.com",
            "http://127.0.0.1:8080/",
            "a.example;B.example.\nsub.a.example",
            "nonsense",
            "",
        ];
        let read = Companies::read(given, false).unwrap();
        assert_eq!(
            read.domains,
            ["example.com", "127.0.0.1:8080", "a.example", "b.example", "sub.a.example"]
        );
    }

    #[test]
    fn what_is_no_domain_is_left_out_and_nothing_is_refused() {
        for bad in [
            "",
            "x",
            "user@host.example",
            "a b",
            "..",
            ".",
            "a..b",
            "<script>.x",
            "http://",
            "ex%41mple.com",
            "a.example:port",
        ] {
            assert_eq!(domain(bad), None, "{bad:?}");
        }
        let refused = Companies::read(["nothing", "user@host.example"], true).unwrap_err();
        assert_eq!((refused.code, &*refused.message), (Code::InvalidRequest, "No valid domains provided"));
        let many = (0..=Companies::MAX_DOMAINS).map(|n| format!("d{n}.example"));
        assert!(Companies::read(many, false).is_err());
    }
}
