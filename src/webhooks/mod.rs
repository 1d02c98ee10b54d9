//! Webhooks: tells programs elsewhere of their owners' events, signed, until they have them.
//!
//! Each round brings the endpoints' cursors up to the journal's head ([`Store::fan_out`]) and takes up endpoints for
//! which something is due, under a lease with a fencing token; so any number of processes share the endpoints. An
//! endpoint's events begin in the journal's order, a few at once; one that fails is tried again later and holds no other
//! up. So a receiver may get them in another order, or one twice: `seq` and the message's id tell.

mod message;
mod signature;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use futures_util::{StreamExt as _, stream};
use reqwest::{header, redirect::Policy};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::message::{Attempt, PING, message_id};
use self::{message::Message, signature::sign};
use crate::{
    config,
    event::{Anything, Severity, SystemNotification},
    guard::{FAILED_HEADER, Guard, GuardProxy, ProxyLimits, REFUSED_HEADER, Reason, ResolveError},
    metrics::numbers,
    store::{Addresses, Delivery, Settled, Store, StoreError, Webhook},
};

/// Deliveries that are read at once.
const PORTION: i64 = 32;
/// How long an endpoint is served before others have their turn.
const TURN: Duration = Duration::from_secs(2);
/// Room for the database, beyond a turn and an answer.
const SLACK: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read, so that its connection can be used again; nobody looks at them.
const MAX_ANSWER: usize = 64 * 1024;
/// How long the rest of an answer may take.
const REST: Duration = Duration::from_secs(1);
/// Attempts at once that somebody waits for.
const PINGS: usize = 8;
const USER_AGENT: &str = concat!("Jobcast-Webhooks/", env!("CARGO_PKG_VERSION"));

/// Delivers. Shared by the rounds and by whoever tries an endpoint out.
pub struct Deliverer {
    store: Store,
    addresses: Addresses,
    settings: config::Webhooks,
    guard: Guard,
    client: reqwest::Client,
    pings: Semaphore,
    _proxy: GuardProxy,
}

/// Why nothing can be delivered.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be delivered: {0}")]
pub struct OpenError(#[from] io::Error);

impl Deliverer {
    /// With a guarded client of its own.
    ///
    /// # Errors
    /// When the guard's proxy cannot listen.
    pub async fn open(
        store: Store,
        addresses: Addresses,
        settings: config::Webhooks,
    ) -> Result<Arc<Deliverer>, OpenError> {
        let guard = Guard::new(settings.allow_origins.clone());
        let limits = ProxyLimits {
            max_connections: (settings.in_flight + PINGS) * 2,
            // The client gives up first, and knows why.
            idle_timeout: settings.timeout * 2,
            ..ProxyLimits::default()
        };
        let proxy = GuardProxy::start(guard.clone(), limits).await?;
        let through = format!("http://{}", proxy.address());
        let client = reqwest::Proxy::all(through).and_then(|proxy| {
            reqwest::Client::builder()
                .proxy(proxy)
                .redirect(Policy::none())
                .referer(false)
                .pool_max_idle_per_host(settings.in_flight_per_endpoint)
                .user_agent(USER_AGENT)
                .build()
        });
        let client = client.map_err(io::Error::other)?;
        let pings = Semaphore::new(PINGS);
        Ok(Arc::new(Deliverer { store, addresses, settings, guard, client, pings, _proxy: proxy }))
    }

    /// Delivers until it is stopped. What is under way then is sent to its end.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut turns = JoinSet::new();
        let endpoints = (self.settings.in_flight / self.settings.in_flight_per_endpoint).max(1);
        let mut rounds = interval(self.settings.poll_interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_round = tokio::select! {
                () = stop.cancelled() => break,
                _ = rounds.tick() => true,
                Some(_) = turns.join_next() => false,
            };
            let free = endpoints.saturating_sub(turns.len());
            match self.round(is_round, free).await {
                Ok(claimed) => {
                    for webhook in claimed {
                        turns.spawn(self.clone().serve(webhook, stop.clone()));
                    }
                }
                Err(error) => tracing::warn!(%error, "webhooks could not be looked at; trying again"),
            }
        }
        while turns.join_next().await.is_some() {}
    }

    async fn round(&self, fan_out: bool, free: usize) -> Result<Vec<Webhook>, StoreError> {
        while fan_out && self.store.fan_out().await? {}
        match free {
            0 => Ok(Vec::new()),
            free => self.store.claim_webhooks(TURN + self.settings.timeout + SLACK, free as i64).await,
        }
    }

    /// Tells an endpoint what it is due, for a turn.
    async fn serve(self: Arc<Self>, webhook: Webhook, stop: CancellationToken) {
        let started = Instant::now();
        let over = AtomicBool::new(false);
        let goes_on = || !over.load(Ordering::Relaxed) && started.elapsed() < TURN && !stop.is_cancelled();
        while goes_on() {
            let due = match self.store.due_deliveries(webhook.id, PORTION).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(webhook = %webhook.id, %error, "deliveries could not be read; trying again");
                    break;
                }
            };
            if due.is_empty() {
                break;
            }
            let deliveries = stream::iter(due).for_each_concurrent(
                self.settings.in_flight_per_endpoint,
                |delivery| {
                    let (this, webhook, goes_on, over) = (&self, &webhook, &goes_on, &over);
                    async move {
                        if !goes_on() {
                            return;
                        }
                        match this.deliver(webhook, &delivery).await {
                            Ok(Settled::Done) => {}
                            Ok(Settled::Fenced | Settled::Disabled(_)) => over.store(true, Ordering::Relaxed),
                            Err(error) => {
                                over.store(true, Ordering::Relaxed);
                                tracing::warn!(webhook = %webhook.id, %error, "a delivery could not be written down; it may come twice");
                            }
                        }
                    }
                },
            );
            deliveries.await;
        }
        if let Err(error) = self.store.release_webhook(&webhook).await {
            tracing::warn!(webhook = %webhook.id, %error, "a webhook could not be given back; its lease ends by itself");
        }
    }

    async fn deliver(&self, webhook: &Webhook, delivery: &Delivery) -> Result<Settled, StoreError> {
        let began = Instant::now();
        let attempt = match Message::of(webhook.id, delivery, &self.addresses) {
            Ok(message) => self.attempt(webhook, &message).await,
            Err(error) => Attempt::failed(format!("The event cannot be written as JSON: {error}.")),
        };
        let verdict = attempt.verdict(delivery.attempts, &self.settings.retry);
        numbers().webhook_attempts.with_label_values(&[verdict.word()]).inc();
        numbers().webhook_attempt.observe(began.elapsed().as_secs_f64());
        let settled =
            self.store.settle_delivery(webhook, delivery, &verdict, attempt.status, &attempt.error).await?;
        if let Settled::Disabled(reason) = &settled {
            tracing::info!(webhook = %webhook.id, reason, "a webhook was disabled");
            self.store.notify(&webhook.owner, disabled(webhook, reason));
        }
        Ok(settled)
    }

    /// Tries an endpoint out; `None` while as many are tried as may be.
    pub async fn ping(&self, webhook: &Webhook) -> Option<Attempt> {
        let _place = self.pings.try_acquire().ok()?;
        Some(self.attempt(webhook, &Message::ping(webhook.id, Utc::now())).await)
    }

    async fn attempt(&self, webhook: &Webhook, message: &Message) -> Attempt {
        match timeout(self.settings.timeout, self.send(webhook, message)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                let seconds = self.settings.timeout.as_secs_f32();
                Attempt::failed(format!("The receiver did not answer within {seconds} seconds."))
            }
        }
    }

    async fn send(&self, webhook: &Webhook, message: &Message) -> Attempt {
        let Ok(url) = Url::parse(&webhook.url) else {
            return Attempt::failed("The webhook's address cannot be read; give it another.");
        };
        if let Err(refused) = may_be_told(&self.guard, &url).await {
            return Attempt::failed(refused);
        }
        let timestamp = Utc::now().timestamp();
        let secrets = std::iter::once(&webhook.secret).chain(&webhook.old_secret);
        let signature = sign(secrets, &message.id, timestamp, &message.body);
        let sent = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body.clone())
            .send()
            .await;
        let mut answer = match sent {
            Ok(answer) => answer,
            // Its text may hold the whole address, and with it a secret of the receiver's.
            Err(error) => return Attempt::failed(unreachable(&error.without_url())),
        };
        let headers = answer.headers();
        if let Some(reason) = headers.get(REFUSED_HEADER).or_else(|| headers.get(FAILED_HEADER)) {
            let reason = reason.to_str().unwrap_or_default();
            return Attempt::failed(format!("The receiver cannot be reached ({reason})."));
        }
        let attempt = Attempt::answered(answer.status().as_u16(), headers, Utc::now());
        let rest = async {
            let mut bytes = 0;
            while bytes < MAX_ANSWER
                && let Ok(Some(chunk)) = answer.chunk().await
            {
                bytes += chunk.len();
            }
        };
        let _ = timeout(REST, rest).await;
        attempt
    }
}

fn unreachable(error: &reqwest::Error) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let of_tls = cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let sentence = match of_tls {
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "The receiver's certificate is not trusted ({why}); give it one of a public authority, for the name in its address."
        ),
        _ => format!("The receiver cannot be reached: {cause}."),
    };
    sentence.chars().take(300).collect()
}

/// Whether an address may be told of events, and if not why, in a sentence. A name that nobody knows yet may.
pub async fn may_be_told(guard: &Guard, url: &Url) -> Result<(), String> {
    if url.scheme() != "https" && !guard.trusts(url) {
        return Err("Webhooks need an https:// address.".into());
    }
    match guard.resolve(url).await {
        Ok(_) | Err(ResolveError::Unknown { .. }) => Ok(()),
        Err(ResolveError::Refused(refused)) => Err(match refused.reason {
            Reason::Address(kind) => format!(
                "{} is {kind} address, which webhooks may reach only where this server's webhooks.allow_origins lists its origin.",
                refused.host
            ),
            _ => format!("{refused}."),
        }),
    }
}

/// What the owner hears who looks at a page.
fn disabled(webhook: &Webhook, reason: &str) -> SystemNotification {
    let name = match webhook.description.as_str() {
        "" => webhook.id.to_string(),
        description => format!("“{description}”"),
    };
    SystemNotification {
        r#type: Severity::Warning,
        message: format!("The webhook {name} was disabled. {reason}"),
        details: Some(Anything(json!({ "webhookId": webhook.id }))),
    }
}
