//! `/v1/jobs/{id}/events`: one job's events by page, by long-poll and as a stream; the same seqs through each.

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json as Answer,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use humantime_serde::re::humantime::parse_duration;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use utoipa::IntoParams;

use super::{
    Api,
    caller::Caller,
    error::{Error, ErrorBody, Named},
    jobs::{MAX_PAGE, bad},
    reader::{News, Reader},
};
use crate::{
    job::{JobId, Rejection},
    metrics::{Held, numbers},
};

/// The longest wait that a long-poll may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// After what time a page whose stream ended comes back.
const RETRY: Duration = Duration::from_secs(2);
/// How often a quiet stream says that it is there, so that no proxy takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Deserialize, IntoParams)]
pub struct EventsQuery {
    /// The seq of the last event that is known.
    #[param(minimum = 0)]
    after: Option<i32>,
    /// Events of the answer at the most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// How long an answer that would be empty waits, such as `25s`.
    wait: Option<String>,
}

/// A job's events: `{events, next, status}`; ask again with `after=next`.
///
/// With `wait=25s` an answer that would be empty waits for an event or the job's end. With
/// `Accept: text/event-stream` the answer is a stream that begins behind `Last-Event-ID`, or else `after`.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), EventsQuery),
    responses(
        (status = 200, content((Value = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "A stream of a job that has ended, whose last event is known"),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 503, body = ErrorBody),
    ),
)]
pub async fn get(
    State(api): State<Api>,
    caller: Caller,
    Named(id): Named,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let job: JobId = id.parse()?;
    let Query(query) = query?;
    let after = query.after.unwrap_or(0);
    let limit = query.limit.unwrap_or(MAX_PAGE);
    let wait = query.wait.as_deref().map_or(Ok(Duration::ZERO), parse_duration);
    let wait = wait.map_err(|error| bad(format!("wait must be a time such as 25s: {error}.")))?;
    if after < 0 || !(1..=MAX_PAGE).contains(&limit) || wait > MAX_WAIT {
        let most = MAX_WAIT.as_secs();
        return Err(
            bad(format!("after must be from 0, limit from 1 to {MAX_PAGE}, wait at most {most}s.")).into()
        );
    }
    api.admit(&caller, job).await?;
    if wants_stream(&headers) {
        let after = last_event_id(&headers)?.unwrap_or(after);
        return stream(&api, &caller, job, after).await;
    }
    if !wait.is_zero() {
        await_news(&api, &caller, job, after, wait.min(api.live.longest_wait)).await?;
    }
    page(&api, job, after, limit).await
}

async fn page(api: &Api, job: JobId, after: i32, limit: i64) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        seq: i32,
        position: String,
        event: &'a str,
        data: Cow<'a, RawValue>,
    }
    #[derive(Serialize)]
    struct Body<'a> {
        events: Vec<Entry<'a>>,
        next: i32,
        status: &'a str,
    }
    // The status first: who is told of the end has then been given the last event as well.
    let head = api.store.head(job).await?;
    let events = api.store.events(job, after, limit).await?;
    let next = events.last().map_or(after, |event| event.seq);
    let events = events
        .iter()
        .map(|e| Entry {
            seq: e.seq,
            position: e.position.to_string(),
            event: &e.kind,
            data: api.blobs.addresses().freshen(&e.kind, &e.payload),
        })
        .collect();
    Ok(Answer(Body { events, next, status: head.status.word() }).into_response())
}

/// Returns when there is something behind a seq or nothing more to come, or when the wait is over.
async fn await_news(api: &Api, caller: &Caller, job: JobId, after: i32, wait: Duration) -> Result<(), Error> {
    let head = api.store.head(job).await?;
    if head.seq > after || head.status.is_ended() {
        return Ok(());
    }
    let _counted = Held::of(&numbers().open_requests.with_label_values(&["long_poll"]));
    let mut reader = Reader::open(&api.live, caller, job, after).await?;
    let news = async { while reader.next().await.is_some_and(|news| matches!(news, News::Progress(_))) {} };
    let _ = tokio::time::timeout(wait, api.live.stop.run_until_cancelled(news)).await;
    Ok(())
}

/// The events behind a seq, past and coming, until the job, the caller's right to hear them, or this server ends.
async fn stream(api: &Api, caller: &Caller, job: JobId, after: i32) -> Result<Response, Error> {
    let is_ended = api.store.head(job).await?.status.is_ended();
    if is_ended && api.store.events(job, after, 1).await?.is_empty() {
        // Tells a page's EventSource not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let reader = Reader::open(&api.live, caller, job, after).await?;
    let addresses = api.blobs.addresses().clone();
    let opening = stream::once(std::future::ready(Ok::<_, Infallible>(sse::Event::default().retry(RETRY))));
    let counted = Held::of(&numbers().open_requests.with_label_values(&["sse"]));
    let events =
        stream::unfold((reader, api.live.stop.clone(), counted), move |(mut reader, stop, counted)| {
            let addresses = addresses.clone();
            async move {
                let news = stop.run_until_cancelled(reader.next()).await??;
                Some((Ok(news.frame(&addresses)), (reader, stop, counted)))
            }
        });
    let (told, over) = (Arc::new(OnceLock::new()), api.identity.until_over(caller));
    let until = {
        let told = told.clone();
        async move {
            let _ = told.set(over.await);
        }
    };
    // Why it ended, if the job did not: the page's EventSource comes back with the same token and is refused.
    let reason = stream::once(async move {
        let rejection: Option<&Rejection> = told.get();
        rejection.map(|Rejection { code, message }| {
            let data = json!({ "code": code.word(), "message": message }).to_string();
            Ok(sse::Event::default().event("unauthenticated").data(data))
        })
    });
    let events = events.take_until(Box::pin(until)).chain(reason.filter_map(std::future::ready));
    let body = Sse::new(opening.chain(events)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // A proxy that collects the answer would hold it back for ever.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], body).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|list| list.split(',')).filter_map(|entry| entry.split(';').next());
    types.any(|media_type| media_type.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i32>, Error> {
    let Some(given) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let seq = given.to_str().ok().and_then(|text| text.parse().ok()).filter(|seq| *seq >= 0);
    let seq = seq.ok_or_else(|| bad("Last-Event-ID must be an id that this stream gave, or 0.".into()))?;
    Ok(Some(seq))
}
