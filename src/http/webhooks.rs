//! `/v1/webhooks`: addresses that are told of their owners' events, signed as Standard Webhooks has it.

mod deliveries;

use std::{sync::Arc, time::Duration};

use axum::{
    Json as Answer,
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    caller::Caller,
    error::{Error, ErrorBody, Json, Named},
    jobs::bad,
};
use crate::{
    event::{Kind, format_timestamp},
    job::{Code, JobId, Rejection},
    store::{NewWebhook, Webhook, WebhookChange, WebhookState},
};

/// Longest address, in bytes.
const MAX_URL: usize = 2048;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 200;
/// Names of events of one webhook.
const MAX_EVENTS: usize = 64;
/// Longest of them, in bytes.
const MAX_EVENT: usize = 128;

/// What the routes need of those who deliver, whom they do not know.
#[derive(Clone)]
pub struct Webhooks {
    /// Whether an address may be told, and if not why.
    pub check: Arc<dyn Fn(url::Url) -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    /// Tries an endpoint out; `None` while as many are tried as may be.
    pub ping: Arc<dyn Fn(Webhook) -> BoxFuture<'static, Option<Pinged>> + Send + Sync>,
    /// The name of a message of an endpoint.
    pub message_id: fn(Uuid, i64) -> String,
    /// Webhooks of one owner at the most.
    pub max_per_owner: i64,
    /// How long an old secret signs beside a new one.
    pub secret_overlap: Duration,
}

/// How trying an endpoint out went.
pub struct Pinged {
    pub status: Option<u16>,
    /// Empty if it was delivered.
    pub error: String,
}

/// All routes below `/v1/webhooks`.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, change, remove))
        .routes(routes!(rotate))
        .routes(routes!(deliveries::ping))
        .routes(routes!(deliveries::failed))
        .routes(routes!(deliveries::resend))
}

/// A webhook to be made.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookBody {
    /// Where events are sent: https, and no private address.
    #[schema(max_length = 2048, example = "https://hooks.example.com/jobcast")]
    url: String,
    /// Names of events; with a star at the end all that begin so. Everything if it is not said.
    #[schema(max_items = 64, example = json!(["job:completed", "job:failed", "label:*"]))]
    events: Option<Vec<String>>,
    /// Tells of this job alone.
    job_id: Option<String>,
    #[schema(max_length = 200)]
    description: Option<String>,
    /// It is if nothing is said.
    enabled: Option<bool>,
}

/// What is to be different about a webhook.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookPatch {
    #[schema(max_length = 2048)]
    url: Option<String>,
    #[schema(max_items = 64)]
    events: Option<Vec<String>>,
    #[schema(max_length = 200)]
    description: Option<String>,
    /// One that is enabled again goes on where it was.
    enabled: Option<bool>,
}

/// Makes a webhook, which is told of its owner's events from now on. The answer shows its secret, once.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks", request_body = WebhookBody,
    responses(
        (status = 201, body = Value, description = "The webhook with its `secret`; its address is in `Location`"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "There is no such job"),
        (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "There are too many already"),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<WebhookBody>,
) -> Result<Response, Error> {
    let url = address(&api, &body.url).await?;
    let job = match body.job_id {
        None => None,
        Some(id) => {
            let job: JobId = id.parse()?;
            // Of nobody else's job would it ever be told.
            if api.store.owner(job).await? != caller.subject() {
                return Err(Rejection::job_not_found(job).into());
            }
            Some(job)
        }
    };
    let new = NewWebhook {
        owner: caller.subject().to_owned(),
        url,
        events: events(body.events.unwrap_or_else(|| vec!["*".into()]))?,
        job,
        description: description(body.description.unwrap_or_default())?,
        enabled: body.enabled.unwrap_or(true),
    };
    let made = api.store.create_webhook(new, api.webhooks.max_per_owner).await?;
    let location = format!("/v1/webhooks/{}", made.id);
    let secret = made.secret.reveal();
    let mut shown = describe(&WebhookState { webhook: made, pending: 0, pending_since: None, failed: 0 });
    shown["secret"] = secret.into();
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(shown)).into_response())
}

/// Lists the caller's webhooks, oldest first; everybody's for an admin.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks",
    responses((status = 200, body = Value), (status = 503, body = ErrorBody)),
)]
pub async fn list(State(api): State<Api>, caller: Caller) -> Result<Answer<Value>, Error> {
    let webhooks: Vec<Value> = api.store.webhooks(caller.sees_only()).await?.iter().map(describe).collect();
    Ok(Answer(json!({ "total": webhooks.len(), "webhooks": webhooks })))
}

/// Shows one webhook: what waits for it, and what went wrong last.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, body = Value), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn show(OwnWebhook(state): OwnWebhook) -> Result<Answer<Value>, Error> {
    Ok(Answer(describe(&state)))
}

/// Changes a webhook; what is not said stays as it is.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "webhooks", request_body = WebhookPatch,
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 200, body = Value),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn change(
    State(api): State<Api>,
    OwnWebhook(state): OwnWebhook,
    Json(patch): Json<WebhookPatch>,
) -> Result<Answer<Value>, Error> {
    let url = match patch.url {
        Some(url) => Some(address(&api, &url).await?),
        None => None,
    };
    let change = WebhookChange {
        url,
        events: patch.events.map(events).transpose()?,
        description: patch.description.map(description).transpose()?,
        enabled: patch.enabled,
    };
    let id = state.webhook.id;
    api.store.change_webhook(id, change).await?;
    Ok(Answer(describe(&api.store.webhook(id).await?)))
}

/// Removes a webhook, with what waits for it.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn remove(State(api): State<Api>, OwnWebhook(state): OwnWebhook) -> Result<StatusCode, Error> {
    api.store.remove_webhook(state.webhook.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a webhook a new secret, which is shown once. The old one signs beside it for a while (`webhooks.secret_overlap`).
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, body = Value), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)),
)]
pub async fn rotate(State(api): State<Api>, OwnWebhook(state): OwnWebhook) -> Result<Answer<Value>, Error> {
    let overlap = api.webhooks.secret_overlap;
    let secret = api.store.rotate_webhook_secret(state.webhook.id, overlap).await?;
    let until = format_timestamp(chrono::Utc::now() + overlap);
    Ok(Answer(json!({ "id": state.webhook.id, "secret": secret.reveal(), "oldSecretUntil": until })))
}

/// The webhook of a path's `{id}`, which is one that the caller may know of.
pub struct OwnWebhook(WebhookState);

impl FromRequestParts<Api> for OwnWebhook {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<OwnWebhook, Error> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let Named(id) = Named::from_request_parts(parts, api).await?;
        let unknown = || {
            Rejection::new(Code::WebhookNotFound, "There is no such webhook; GET /v1/webhooks lists them.")
        };
        let id: Uuid =
            Some(id).filter(|id| id.len() == 36).and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
        let state = api.store.webhook(id).await?;
        match caller.sees(&state.webhook.owner) {
            true => Ok(OwnWebhook(state)),
            false => Err(Rejection::webhook_not_found(id).into()),
        }
    }
}

/// An address that may be told of events.
async fn address(api: &Api, text: &str) -> Result<String, Rejection> {
    let url = Some(text)
        .filter(|text| text.len() <= MAX_URL)
        .and_then(|text| url::Url::parse(text).ok())
        .ok_or_else(|| {
            bad(format!("url must be a full address such as https://hooks.example.com/jobcast, of {MAX_URL} bytes at the most."))
        })?;
    // A parsed address may be longer than what was sent, by escapes.
    if url.as_str().len() > MAX_URL * 3 {
        return Err(bad("url is too long.".into()));
    }
    (api.webhooks.check)(url.clone()).await.map_err(|why| Rejection::new(Code::AddressRefused, why))?;
    Ok(url.into())
}

fn events(events: Vec<String>) -> Result<Vec<String>, Rejection> {
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(bad(format!("events must be 1 to {MAX_EVENTS} names.")));
    }
    for event in &events {
        let name = event.strip_suffix('*').unwrap_or(event);
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.');
        if event.is_empty() || event.len() > MAX_EVENT || !name.chars().all(fine) {
            return Err(bad(
                "events must be names such as job:completed, or beginnings such as job:* or *.".into()
            ));
        }
        if let Some(kind) = Kind::from_wire_name(event).filter(|kind| !kind.class().is_journaled()) {
            let name = kind.wire_name();
            return Err(bad(format!("{name} is not kept in the journal, so no webhook tells of it.")));
        }
    }
    Ok(events)
}

fn description(text: String) -> Result<String, Rejection> {
    let text = text.trim();
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
        return Err(bad(format!(
            "description must be {MAX_DESCRIPTION} characters at the most, none of them a control character."
        )));
    }
    Ok(text.to_owned())
}

/// A webhook as `/v1` shows it; its secret is not.
fn describe(state: &WebhookState) -> Value {
    let webhook = &state.webhook;
    let link = format!("/v1/webhooks/{}", webhook.id);
    json!({
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "jobId": webhook.job,
        "description": webhook.description,
        "owner": webhook.owner,
        "enabled": webhook.enabled,
        "disabledReason": webhook.disabled_reason,
        "disabledAt": webhook.disabled_at.map(format_timestamp),
        "pending": state.pending,
        "pendingSince": state.pending_since.map(format_timestamp),
        "failed": state.failed,
        "delivered": webhook.delivered,
        "lastDeliveredAt": webhook.last_delivered_at.map(format_timestamp),
        "lastFailedAt": webhook.last_failed_at.map(format_timestamp),
        "lastError": webhook.last_error,
        "createdAt": format_timestamp(webhook.created_at),
        "updatedAt": format_timestamp(webhook.updated_at),
        "links": { "self": link, "failed": format!("{link}/failed") },
    })
}
