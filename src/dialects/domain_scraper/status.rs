//! Where a job stands: `/ws/job/{id}`, `/api/status/{id}`, and what people say of what was found.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    answer::{Detail, Refusal},
    board::Board,
    contract,
};
use crate::{
    event::{Event, Kind, contract::Channel},
    http::{Api, Caller},
    job::{JobId, Scope, Stage},
    realtime::{
        feed::{Interest, News},
        projector::{Close, Opened, Projection, Told},
        websocket::{Dialect, Door, Opening},
    },
    store::{Recorded, Store, StoreError},
};

/// Events read from the journal at once.
const PAGE: i64 = 1_000;
/// Jobs, each trying again what failed in the one before, whose findings are put together.
const MAX_RETRIES: usize = 20;
/// The object has no other number: a client follows one job.
const WHOLE: i64 = 0;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Scraper;

/// One job as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// `None` for what is no id.
    pub job: Option<JobId>,
    /// `None` for who sees everybody's.
    pub owner: Option<Arc<str>>,
}

impl Projection for Scraper {
    type Topic = Topic;
    type State = Board;

    const BEAT: Option<Duration> = Some(Duration::from_millis(500));

    fn interest(&self, topic: &Topic) -> Interest {
        Interest::Job(topic.job.unwrap_or(JobId(uuid::Uuid::nil())))
    }

    async fn open(&self, store: &Store, topic: &Topic) -> Result<Opened<Board>, StoreError> {
        let board = match topic.job {
            Some(job) => board(store, job, topic.owner.as_deref()).await?,
            None => None,
        };
        Ok(match board {
            Some(mut board) => {
                board.text();
                Opened::Topic(board)
            }
            None => {
                let mut told = Told::default();
                told.say(json!({ "error": "Job not found" }).to_string());
                told.close(Close::NORMAL);
                Opened::Refused(told)
            }
        })
    }

    fn greet(&self, board: &Board, told: &mut Told) {
        told.show(WHOLE, board.shown());
        if board.is_over() {
            told.close(Close::NORMAL);
        }
    }

    async fn gather(&self, store: &Store, board: &mut Board, news: &News) -> Result<(), StoreError> {
        if board.asks()
            && let Some(event) = news.events.iter().find(|event| event.is_terminal())
        {
            board.set_approvals(store.approvals(event.job).await?);
        }
        Ok(())
    }

    fn tell(&self, board: &mut Board, news: &News, told: &mut Told) {
        if board.is_over() {
            return;
        }
        news.progress.iter().for_each(|progress| board.take_progress(progress));
        news.events.iter().for_each(|event| board.take(event));
        told.show(WHOLE, board.text());
        if board.is_over() {
            told.close(Close::NORMAL);
        }
    }

    fn beat(&self, board: &Board, told: &mut Told) {
        if !board.is_over() {
            told.show(WHOLE, board.shown());
        }
    }
}

impl Dialect for Scraper {
    const NAME: &'static str = "domain_scraper";

    fn channel() -> Channel {
        contract::channel()
    }
}

/// A job on companies, made of its events; `None` if it is none, or another's.
async fn board(store: &Store, job: JobId, owner: Option<&str>) -> Result<Option<Board>, StoreError> {
    let record = match store.job(job).await {
        Ok(record) if owner.is_none_or(|owner| owner == record.owner) => record,
        Ok(_) | Err(StoreError::Rejected(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(companies) = record.config.clone().and_then(|config| config.companies) else { return Ok(None) };
    let mut board = Board::new(job, companies);
    if board.asks() {
        board.set_approvals(store.approvals(job).await?);
    }
    // A job that tries again what failed in others has what they found.
    let mut before = record.retry_of;
    for _ in 0..MAX_RETRIES {
        let Some(job) = before else { break };
        for event in
            kept(store, job).await?.iter().filter(|event| event.kind == Kind::CompanyFound.wire_name())
        {
            board.take(event);
        }
        board.seq = 0;
        before = store.job(job).await.ok().and_then(|record| record.retry_of);
    }
    let mut is_first = true;
    loop {
        let events = store.events(job, board.seq, PAGE).await?;
        if is_first && events.first().is_some_and(|first| first.seq > 1) {
            // The events of a job that ended long ago are gone; what came of them is not.
            for event in kept(store, job).await? {
                board.take(&event);
            }
            board.seq = 0;
        }
        is_first = false;
        events.iter().for_each(|event| board.take(event));
        if (events.len() as i64) < PAGE {
            return Ok(Some(board));
        }
    }
}

/// What the rows of a job still tell, as events.
async fn kept(store: &Store, job: JobId) -> Result<Vec<Recorded>, StoreError> {
    use crate::event::{Anything, CompanyFailed, CompanyFound};
    let outcomes = store.outcomes(job).await?;
    let events = (1..).zip(outcomes).map(|(seq, outcome)| {
        let domain = outcome.domain;
        let event: Event = match outcome.profile {
            Ok(profile) => {
                let company_id = uuid::Uuid::nil();
                CompanyFound { company_id, domain, pages: 0, profile: Anything(profile), worker: None }.into()
            }
            Err(reason) => CompanyFailed { domain, reason }.into(),
        };
        let (kind, payload) = (event.name(), event.encode(Some(job), outcome.found_at));
        Recorded { position: 0, job, seq, kind, payload, at: outcome.found_at, owner: None }
    });
    Ok(events.collect())
}

/// A job's status object over a raw WebSocket: at once, on change and every half second, and the last one before the
/// connection is closed.
#[utoipa::path(
    get, path = "/ws/job/{id}", tag = "domain scraper", params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 101, description = "A WebSocket"),
        (status = 400, body = Detail, description = "No WebSocket was asked for"),
        (status = 403, body = Detail, description = "Pages of this origin may not connect"),
        (status = 426, body = Detail, description = "No WebSocket was asked for"),
        (status = 503, body = Detail, description = "As many connections are open as may be"),
    ),
)]
pub async fn follow(
    caller: Caller,
    Extension(door): Extension<Door<Scraper>>,
    id: Result<Path<String>, PathRejection>,
    opening: Opening,
) -> Response {
    // Who may read nothing is told of nothing.
    let id = if caller.require(Scope::Read).is_ok() { id.ok() } else { None };
    door.open(opening, topic(id, &caller), caller.expires_at)
}

fn topic(id: Option<Path<String>>, caller: &Caller) -> Topic {
    Topic { job: id.and_then(|Path(id)| id.parse().ok()), owner: caller.sees_only().map(Arc::from) }
}

/// A job's status object, as it goes over the socket.
#[utoipa::path(
    get, path = "/api/status/{id}", tag = "domain scraper", params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Value), (status = 404, body = Detail), (status = 503, body = Detail)),
)]
pub async fn show(
    State(api): State<Api>,
    caller: Caller,
    Extension(door): Extension<Door<Scraper>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    caller.require(Scope::Read)?;
    let topic = topic(id.ok(), &caller);
    let job = topic.job.ok_or_else(Refusal::no_job)?;
    let projector = door.projector();
    let told = projector.greeting(&topic).await?;
    let [shown] = &told.frames[..] else { return Err(Refusal::no_job()) };
    let text = match shown.snapshot_of {
        None => return Err(Refusal::no_job()),
        // What people say of a job's companies after its end is no event.
        Some(_) if told.close.is_some() && shown.text.contains(r#""mode":"sequential""#) => {
            board(&api.store, job, topic.owner.as_deref()).await?.ok_or_else(Refusal::no_job)?.text()
        }
        Some(_) => shown.text.clone(),
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response())
}

/// What a person says of a company that was found.
#[derive(Deserialize, ToSchema)]
pub struct Decision {
    #[schema(max_length = 100)]
    job_id: String,
    #[schema(max_length = 300)]
    domain: String,
    /// Whether it is right.
    accept: bool,
}

/// Takes or leaves what was found of a company.
#[utoipa::path(
    post, path = "/api/accept_extracted", tag = "domain scraper", request_body = Decision,
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 404, body = Detail),
        (status = 413, body = Detail), (status = 503, body = Detail),
    ),
)]
pub async fn accept(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<Decision>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let Json(Decision { job_id, domain, accept }) = body?;
    let job: JobId = job_id.parse()?;
    let record = api.store.job(job).await?;
    if !caller.sees(&record.owner) || record.config.is_none_or(|config| config.companies.is_none()) {
        return Err(Refusal::no_job());
    }
    if !api.store.approve(job, &domain, accept).await? {
        return Err(Refusal::new(axum::http::StatusCode::NOT_FOUND, "Domain not found in this job"));
    }
    Ok(Json(json!({ "job_id": job_id, "domain": domain, "accepted": accept })))
}

/// How many companies wait and are looked at.
#[utoipa::path(
    get, path = "/api/worker_stats", tag = "domain scraper",
    responses((status = 200, body = Value), (status = 503, body = Detail)),
)]
pub async fn worker_stats(State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    let (waiting, running) = api.store.load(Stage::Company).await?;
    Ok(Json(json!({
        "parallel_processing_available": true,
        "workers": api.company_workers,
        "total_workers": api.company_workers,
        "active_workers": running,
        "idle_workers": (api.company_workers as i64 - running).max(0),
        "pending_tasks": waiting,
    })))
}
