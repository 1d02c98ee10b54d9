//! Visits the few pages of a site on which companies say who they are.

use std::time::Duration;

use url::Url;

use super::{CompanyPage, CompanyProfile, Role};
use crate::pipeline::tools::{
    crawler::Site,
    fetch::{FetchError, Fetcher},
};

/// Pages of one site besides its start page.
pub const MAX_PAGES: usize = 6;
/// The longest pause between two visits that a robots.txt can ask for.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Why nothing is known of a company.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VisitError {
    #[error("{0:?} is no domain; write it like example.com")]
    Domain(String),
    #[error("the site's robots.txt asks not to visit it")]
    Robots,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("its page could not be read")]
    Unreadable,
}

/// What was found, and where.
#[derive(Clone, Debug)]
pub struct Found {
    pub profile: CompanyProfile,
    /// The pages that were read.
    pub pages: Vec<Url>,
}

/// Reads a company's start page and those that it leads to and that promise more; `tell` hears how many were read so far, and the
/// last of them.
pub async fn visit(fetcher: &Fetcher, domain: &str, tell: impl Fn(usize, &Url)) -> Result<Found, VisitError> {
    let mut reached = None;
    let mut reason = None;
    for start in starts(domain)? {
        match open(fetcher, &start).await {
            Ok(opened) => {
                reached = Some(opened);
                break;
            }
            // A site's own refusal is an answer; another way in is tried only when there was none.
            Err(VisitError::Fetch(FetchError::Status(status))) => {
                return Err(FetchError::Status(status).into());
            }
            Err(VisitError::Robots) => return Err(VisitError::Robots),
            // The first one tells more: what was asked for, not what was tried after it.
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    let Some((site, home, page)) = reached else { return Err(reason.unwrap_or(VisitError::Unreadable)) };
    fetcher.hosts().slow_down(&home, site.asked_delay().min(MAX_DELAY));
    tell(1, &home);
    let CompanyPage { mut profile, mut leads } = page;
    let mut pages = vec![home.clone()];
    let mut next = 0;
    while next < leads.len() && pages.len() <= MAX_PAGES {
        let (role, url) = leads[next].clone();
        next += 1;
        if !site.allows(&url) || pages.iter().any(|known| known.path() == url.path()) {
            continue;
        }
        match read(fetcher, &url, role).await {
            Ok((at, page)) => {
                tell(pages.len() + 1, &at);
                profile.merge(page.profile);
                // Some start pages lead to nothing but an inner one that has the links.
                for lead in page.leads {
                    if leads.len() < 4 * MAX_PAGES
                        && !leads.iter().any(|(_, known)| known.path() == lead.1.path())
                    {
                        leads.push(lead);
                    }
                }
                pages.push(at);
            }
            Err(error) => tracing::debug!(%url, %error, "a page of a company's site is left out"),
        }
    }
    profile.finish(&home);
    Ok(Found { profile, pages })
}

/// The addresses under which a domain's site may be, the likelier first.
fn starts(domain: &str) -> Result<Vec<Url>, VisitError> {
    let at = |scheme: &str| Url::parse(&format!("{scheme}://{domain}/")).ok().filter(Url::has_host);
    let bad = || VisitError::Domain(domain.to_owned());
    let (secure, plain) = (at("https").ok_or_else(bad)?, at("http").ok_or_else(bad)?);
    // Who writes a port means what listens there, which rarely is a public site's.
    Ok(if plain.port().is_some() { vec![plain, secure] } else { vec![secure, plain] })
}

async fn open(fetcher: &Fetcher, start: &Url) -> Result<(Site, Url, CompanyPage), VisitError> {
    let site = Site::at(fetcher, start).await?;
    if !site.allows(start) {
        return Err(VisitError::Robots);
    }
    let (url, page) = read(fetcher, start, Role::Home).await?;
    if url.origin() == start.origin() {
        return Ok((site, url, page));
    }
    // `example.com` leads to `www.example.com`, which has a robots.txt of its own.
    let site = Site::at(fetcher, &url).await?;
    if site.allows(&url) { Ok((site, url, page)) } else { Err(VisitError::Robots) }
}

/// Fetches and reads one page. Reading takes milliseconds of pure computing, so not on the threads that wait.
async fn read(fetcher: &Fetcher, url: &Url, role: Role) -> Result<(Url, CompanyPage), VisitError> {
    let fetched = fetcher.get(url).await?;
    let read = move || (CompanyPage::read(&fetched.body, &fetched.url, role), fetched.url);
    let (page, url) = tokio::task::spawn_blocking(read).await.map_err(|_| VisitError::Unreadable)?;
    Ok((url, page))
}
