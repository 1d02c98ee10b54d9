//! How often a caller may do what is dear, and how pages hear that it was too often.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{config, http::Caller};

/// Callers that are counted at once; of more, those whose time is over first are forgotten.
const MAX_CALLERS: usize = 10_000;

/// What is dear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Dear {
    Confirm,
    Upload,
    /// A job that is made out of the history.
    Again,
    Extract,
    Estimate,
    Export,
}

impl Dear {
    fn of(method: &Method, path: &str) -> Option<Dear> {
        if method != Method::POST {
            return None;
        }
        Some(match path.strip_prefix("/api/v1")? {
            "/jobs/confirm" | "/credits/jobs/confirm" => Dear::Confirm,
            "/process-pdf-async" => Dear::Upload,
            "/extract-pdf-text" => Dear::Extract,
            "/estimate-pdf" | "/estimate" | "/credits/estimate" => Dear::Estimate,
            "/export-to-sheet" => Dear::Export,
            other if other.starts_with("/history/") => match other.rsplit('/').next()? {
                "retry" | "duplicate" => Dear::Again,
                "export" => Dear::Export,
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// The calls of one caller since the first of them.
#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Instant,
    calls: u32,
}

/// Counts calls.
pub struct Limits {
    settings: config::NovelTool,
    windows: Mutex<HashMap<(Dear, String), Window>>,
}

/// Too many; how long to wait, and what the frontend calls the limit.
#[derive(Debug, PartialEq)]
struct Exceeded {
    wait: Duration,
    limit: String,
}

impl Limits {
    pub fn new(settings: config::NovelTool) -> Arc<Limits> {
        Arc::new(Limits { settings, windows: Mutex::default() })
    }

    fn count(&self, dear: Dear, caller: String, now: Instant) -> Result<(), Exceeded> {
        let (most, per, unit) = match dear {
            Dear::Confirm | Dear::Upload | Dear::Again => (self.settings.jobs_per_hour, 3600, "hour"),
            Dear::Extract | Dear::Estimate => (self.settings.estimates_per_minute, 60, "minute"),
            Dear::Export => (self.settings.exports_per_hour, 3600, "hour"),
        };
        if most == 0 {
            return Ok(());
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_CALLERS {
            windows.retain(|_, window| window.ends > now);
            let first = windows.iter().min_by_key(|(_, window)| window.ends).map(|(key, _)| key.clone());
            if let (true, Some(first)) = (windows.len() >= MAX_CALLERS, first) {
                windows.remove(&first);
            }
        }
        let new = Window { ends: now + Duration::from_secs(per), calls: 0 };
        let window = windows.entry((dear, caller)).or_insert(new);
        if window.ends <= now {
            *window = new;
        }
        if window.calls >= most {
            return Err(Exceeded { wait: window.ends - now, limit: format!("{most} per 1 {unit}") });
        }
        window.calls += 1;
        Ok(())
    }
}

/// Lets a request through unless its caller made too many.
pub async fn limit(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let Some(dear) = Dear::of(request.method(), request.uri().path()) else { return next.run(request).await };
    let caller = request.extensions().get::<Caller>();
    let caller = match caller.filter(|caller| !caller.is_anonymous()) {
        Some(caller) => format!("subject {}", caller.subject()),
        None => {
            let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
            from.map_or_else(String::new, |ConnectInfo(address)| address.ip().to_string())
        }
    };
    match limits.count(dear, caller, Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(Exceeded { wait, limit }) => {
            let wait = [(header::RETRY_AFTER, wait.as_secs().max(1).to_string())];
            (StatusCode::TOO_MANY_REQUESTS, wait, Json(json!({ "error": limit }))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_its_own_calls_and_gets_new_ones_when_the_time_is_over() {
        let settings = config::NovelTool { jobs_per_hour: 2, estimates_per_minute: 1, exports_per_hour: 0 };
        let (limits, now) = (Limits::new(settings), Instant::now());
        let count = |dear, who: &str, later| limits.count(dear, who.into(), now + Duration::from_secs(later));
        assert_eq!(count(Dear::Confirm, "a", 0), Ok(()));
        assert_eq!(count(Dear::Confirm, "a", 100), Ok(()));
        let over = Exceeded { wait: Duration::from_secs(3400), limit: "2 per 1 hour".into() };
        assert_eq!(count(Dear::Confirm, "a", 200), Err(over));
        assert_eq!(count(Dear::Confirm, "b", 200), Ok(()));
        assert_eq!(count(Dear::Upload, "a", 200), Ok(()));
        assert_eq!(count(Dear::Confirm, "a", 3600), Ok(()));
        assert_eq!(count(Dear::Estimate, "a", 0), Ok(()));
        assert!(count(Dear::Estimate, "a", 59).is_err());
        assert!((0..100).all(|_| count(Dear::Export, "a", 0).is_ok()));
    }

    #[test]
    fn callers_without_end_are_not_kept() {
        let settings = config::NovelTool { jobs_per_hour: 1, estimates_per_minute: 1, exports_per_hour: 1 };
        let (limits, now) = (Limits::new(settings), Instant::now());
        for n in 0..MAX_CALLERS + 10 {
            limits.count(Dear::Export, n.to_string(), now + Duration::from_millis(n as u64)).unwrap();
        }
        assert_eq!(limits.windows.lock().unwrap().len(), MAX_CALLERS);
        let last = (MAX_CALLERS + 9).to_string();
        assert!(limits.count(Dear::Export, last, now).is_err(), "the newest are kept");
    }
}
