//! What an endpoint is sent, and what its answer means.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use crate::{
    event::{Timestamp, format_timestamp},
    store::{Addresses, Delivery, Verdict},
};

/// The longest wait that a receiver can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// What is sent to try an endpoint out.
pub const PING: &str = "webhook:ping";

/// A message, before it is signed.
pub struct Message {
    /// The same at each attempt, by which a receiver knows what it has had.
    pub id: String,
    pub body: String,
}

impl Message {
    /// An event, with addresses that are good from now on.
    pub fn of(webhook: Uuid, delivery: &Delivery, addresses: &Addresses) -> serde_json::Result<Message> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            r#type: &'a str,
            timestamp: String,
            job_id: String,
            seq: i32,
            position: String,
            data: &'a RawValue,
        }
        let data = addresses.freshen(&delivery.kind, &delivery.payload);
        let body = serde_json::to_string(&Body {
            r#type: &delivery.kind,
            timestamp: format_timestamp(delivery.happened_at),
            job_id: delivery.job.to_string(),
            seq: delivery.seq,
            position: delivery.position.to_string(),
            data: &data,
        })?;
        Ok(Message { id: message_id(webhook, delivery.position), body })
    }

    /// One that says nothing.
    pub fn ping(webhook: Uuid, now: Timestamp) -> Message {
        let body = json!({
            "type": PING,
            "timestamp": format_timestamp(now),
            "data": { "webhookId": webhook },
        });
        Message { id: format!("msg_{}", Uuid::now_v7().simple()), body: body.to_string() }
    }
}

/// Of the endpoint and the event's position.
pub fn message_id(webhook: Uuid, position: i64) -> String {
    format!("msg_{}_{position}", webhook.simple())
}

/// How an attempt went.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// Why it was no success; empty if it was one.
    pub error: String,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Attempt {
    pub fn failed(error: impl Into<String>) -> Attempt {
        Attempt { status: None, error: error.into(), retry_after: None }
    }

    pub fn answered(status: u16, headers: &HeaderMap, now: Timestamp) -> Attempt {
        let error = match status {
            200..300 => String::new(),
            300..400 => format!(
                "The receiver answered {status}; redirects are not followed, give the address itself."
            ),
            410 => "The receiver answered 410: it wants nothing more.".into(),
            _ => format!("The receiver answered {status}."),
        };
        Attempt { status: Some(status), error, retry_after: retry_after(headers, now) }
    }

    pub fn is_delivered(&self) -> bool {
        self.error.is_empty()
    }

    /// What is to become of the delivery, of which there were so many attempts before this one.
    pub fn verdict(&self, attempts_before: i32, schedule: &[Duration]) -> Verdict {
        if self.is_delivered() {
            return Verdict::Delivered;
        }
        if self.status == Some(410) {
            return Verdict::Gone;
        }
        match schedule.get(attempts_before.max(0) as usize) {
            None => Verdict::GivenUp,
            // Not all at once that failed at once.
            Some(pause) => {
                let pause = pause.mul_f64(0.9 + 0.2 * fastrand::f64());
                Verdict::Again(pause.max(self.retry_after.unwrap_or_default()))
            }
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc) - now).to_std().ok()?,
    };
    Some(wait.min(LONGEST_WAIT))
}
