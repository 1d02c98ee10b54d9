//! How a caller's novels are to be worked on, as its pages keep it.

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::{
    KIND,
    answer::{Body, Error, Refusal},
};
use crate::http::{Api, Caller};

/// A setting of the page, and what it is if nobody has set it.
type Setting = (&'static str, fn() -> Value);

/// What is kept of a page's settings.
const SETTINGS: [Setting; 6] = [
    ("sentence_length_limit", || json!(8)),
    ("gemini_model", || json!("balanced")),
    ("ignore_dialogue", || json!(false)),
    ("preserve_formatting", || json!(true)),
    ("fix_hyphenation", || json!(true)),
    ("min_sentence_length", || json!(3)),
];

async fn kept(api: &Api, caller: &Caller) -> Result<Value, Refusal> {
    let kept = api.store.page_settings(caller.subject(), KIND).await?.unwrap_or_default();
    let all = SETTINGS.iter().map(|(name, usual)| {
        let value = kept.get(*name).cloned().unwrap_or_else(usual);
        ((*name).to_owned(), value)
    });
    Ok(Value::Object(all.collect()))
}

/// How the caller's novels are to be worked on.
#[utoipa::path(
    get, path = "/api/v1/settings", tag = "novel tool",
    responses((status = 200, body = Value), (status = 503, body = Error)),
)]
pub async fn settings(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    Ok(Json(kept(&api, &caller).await?))
}

async fn keep(api: &Api, caller: &Caller, changes: &Map<String, Value>) -> Result<Json<Value>, Refusal> {
    let mut all = kept(api, caller).await?;
    for (name, usual) in SETTINGS {
        let Some(value) = changes.get(name) else { continue };
        let fits = match (name, usual()) {
            ("sentence_length_limit", _) => value.as_i64().is_some_and(|words| (3..=50).contains(&words)),
            (_, Value::Number(_)) => value.as_i64().is_some_and(|words| (1..=50).contains(&words)),
            (_, Value::Bool(_)) => value.is_boolean(),
            _ => value.as_str().is_some_and(|text| text.len() <= 64 && !text.contains('\0')),
        };
        if !fits {
            return Err(Refusal::bad(format!("{name} cannot be {value}")));
        }
        all[name] = value.clone();
    }
    api.store.put_page_settings(caller.subject(), KIND, &all).await?;
    Ok(Json(json!({ "message": "Settings saved", "settings": all })))
}

/// Changes the settings; pages of the first generation `PUT` them.
#[utoipa::path(
    method(post, put), path = "/api/v1/settings", tag = "novel tool", request_body = Value,
    responses(
        (status = 200, body = Value), (status = 400, body = Error), (status = 413, body = Error),
        (status = 503, body = Error),
    ),
)]
pub async fn change_settings(
    caller: Caller,
    State(api): State<Api>,
    Body(changes): Body<Map<String, Value>>,
) -> Result<Json<Value>, Refusal> {
    keep(&api, &caller, &changes).await
}
