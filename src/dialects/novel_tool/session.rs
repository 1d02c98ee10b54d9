//! `/api/v1/auth/*` and health: who is logged in, and new tokens for old ones.

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::{
    answer::{Error, Refusal, refuse},
    shape,
};
use crate::{
    http::{Api, Caller},
    identity::token::{Kind, NewToken, sign},
    job::{Code, Principal, Rejection},
};

/// How long tokens are good that are given out here.
const ACCESS: TimeDelta = TimeDelta::hours(1);
const REFRESH: TimeDelta = TimeDelta::days(30);
/// Largest body that is read for a token.
const MAX_BODY: usize = 32 * 1024;

/// Whether this server works.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Value)),
)]
pub async fn health(State(api): State<Api>) -> Response {
    let database = if api.store.ping().await.is_ok() { "healthy" } else { "unhealthy" };
    let body = json!({
        "status": database,
        "service": "French Novel Tool API",
        "version": env!("CARGO_PKG_VERSION"),
        "checks": { "database": database },
    });
    let status = if database == "healthy" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Logs in with Google, which this server cannot do: tokens come from whoever signs them (see `auth.jwks`).
#[utoipa::path(
    post, path = "/api/v1/auth/google", tag = "novel tool",
    responses((status = 400, body = Error, description = "Always")),
)]
pub async fn google() -> Refusal {
    Refusal::bad("This server has no log-in with Google; bring a token that it knows the signer of.")
}

/// Gives new tokens for a refresh token, which stands in the header or the body.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "novel tool",
    responses(
        (status = 200, body = Value),
        (status = 400, body = Error, description = "This server signs no tokens"),
        (status = 401, body = Error),
        (status = 413, body = Error),
        (status = 422, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn refresh(State(api): State<Api>, request: Request) -> Result<Response, Response> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim().to_owned());
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than this server takes")
            .into_response()
    })?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let named = body["refresh_token"].as_str().map(str::to_owned);
    let missing = || Rejection::new(Code::Unauthenticated, "Send a refresh token.");
    // Pages of one generation send an access token in the header and the refresh token in the body.
    let mut last = missing();
    for token in [named, bearer].into_iter().flatten() {
        match api.identity.check_token(&token, Kind::Refresh).await {
            Ok(caller) => return give(&api, &caller).map_err(IntoResponse::into_response),
            Err(rejection) => last = rejection,
        }
    }
    Err(refuse(&last))
}

fn give(api: &Api, caller: &Principal) -> Result<Response, Refusal> {
    let new = |kind, ttl| {
        let scopes = Some(caller.scopes());
        sign(&NewToken { subject: caller.subject(), scopes, kind, ttl }, &api.auth)
    };
    if api.auth.jwt_secret.is_empty() {
        return Err(Refusal::bad("This server signs no tokens; get a new one where the old one is from."));
    }
    let access = new(Kind::Access, ACCESS)?;
    Ok(Json(json!({
        "access_token": access,
        "refresh_token": new(Kind::Refresh, REFRESH)?,
        "session_token": access,
    }))
    .into_response())
}

/// Who is logged in.
#[utoipa::path(
    get, path = "/api/v1/auth/me", tag = "novel tool",
    responses((status = 200, body = Value), (status = 401, body = Error)),
)]
pub async fn me(caller: Option<axum::Extension<Caller>>) -> Result<Json<Value>, Response> {
    let nobody = || refuse(&Rejection::new(Code::Unauthenticated, ""));
    let axum::Extension(caller) = caller.filter(|caller| !caller.is_anonymous()).ok_or_else(nobody)?;
    let now = shape::time(Utc::now());
    Ok(Json(json!({
        "id": shape::user_id(caller.subject()),
        "email": caller.subject(),
        "name": caller.subject(),
        "picture": null,
        "created_at": now,
        "last_login": now,
        "has_sheets_access": false,
    })))
}

/// Logs out: the page forgets its tokens, which end by themselves.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "novel tool", responses((status = 200, body = Value)),
)]
pub async fn logout() -> Json<Value> {
    Json(json!({ "message": "Logged out" }))
}
