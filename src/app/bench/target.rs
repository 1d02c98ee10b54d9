//! Jobcast as a server under test: the control routes beside the server that `jobcast serve` runs. Rooms are jobs.

use std::time::{Duration, Instant};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use uuid::Uuid;

use super::{
    control::{Append, Appended, Begin, Begun, Burst, Published, Room, Step},
    scenarios::frontends::{self, Frontend},
    wire::{self, Mark},
};
use crate::{
    event::{CompanyFailed, JobType, JobUpdated, LogLevel},
    job::{ANONYMOUS, Command, Companies, JobId, Report},
    store::{Change, NewJob, NewWork, ProjectFields, Store, StoreError, WorkLease, WorkOutcome},
};

/// Where the control routes are.
pub const PATH: &str = "/bench";
const MAX_WRITERS: usize = 1024;
const MAX_SECONDS: u64 = 300;

/// The control routes.
pub fn router(store: Store) -> Router {
    Router::new()
        .route("/ready", get(|| async { Json(serde_json::json!({})) }))
        .route("/rooms", post(room))
        .route("/publish", post(publish))
        .route("/append", post(append))
        .route("/frontends/begin", post(begin))
        .route("/frontends/step", post(step))
        .with_state(store)
}

struct Failed(StatusCode, String);

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn refused(why: &str) -> Failed {
    Failed(StatusCode::BAD_REQUEST, why.into())
}

async fn job(store: &Store) -> Result<JobId, StoreError> {
    let id = JobId(Uuid::now_v7());
    store.create(NewJob::unplanned(id, JobType::Crawl, "bench")).await?;
    Ok(id)
}

async fn room(State(store): State<Store>) -> Result<Json<Room>, Failed> {
    Ok(Json(Room { room: job(&store).await?.to_string() }))
}

async fn publish(State(store): State<Store>, Json(burst): Json<Burst>) -> Result<Json<Published>, Failed> {
    let job: JobId = burst.room.parse().map_err(|_| refused("a room is the id of a job"))?;
    if burst.count > wire::MAX_COUNT || burst.bytes > wire::MAX_BYTES {
        return Err(refused("that is too much for one burst"));
    }
    let t = wire::now();
    let numbers = burst.from..burst.from.saturating_add(burst.count);
    store.append(job, numbers.map(|n| wire::event(Mark { n, t }, burst.bytes)).collect()).await?;
    Ok(Json(Published { committed: wire::now() }))
}

async fn append(State(store): State<Store>, Json(wish): Json<Append>) -> Result<Json<Appended>, Failed> {
    if !(1..=MAX_WRITERS).contains(&wish.writers)
        || !(1..=wish.writers).contains(&wish.jobs)
        || wish.seconds > MAX_SECONDS
    {
        return Err(refused("there are 1 to 1024 writers, at most as many jobs, for at most 300 seconds"));
    }
    let mut jobs = Vec::with_capacity(wish.jobs);
    for _ in 0..wish.jobs {
        jobs.push(job(&store).await?);
    }
    let began = Instant::now();
    let end = began + Duration::from_secs(wish.seconds);
    let mut writers = tokio::task::JoinSet::new();
    for job in (0..wish.writers).map(|writer| jobs[writer % jobs.len()]) {
        let store = store.clone();
        writers.spawn(async move {
            let mut n = 0;
            while Instant::now() < end {
                let mark = Mark { n, t: wire::now() };
                store.append(job, vec![wire::event(mark, wire::DEFAULT_BYTES)]).await?;
                n += 1;
            }
            Ok::<_, StoreError>(u64::from(n))
        });
    }
    let mut events = 0;
    while let Some(wrote) = writers.join_next().await {
        events += wrote.map_err(|error| Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))??;
    }
    Ok(Json(Appended { events, seconds: began.elapsed().as_secs_f64() }))
}

/// The kind of a frontend's jobs, if workers outside do them.
fn kind_of(frontend: Frontend) -> Option<&'static str> {
    match frontend {
        Frontend::LabelPrinter | Frontend::DomainScraper => None,
        Frontend::NovelTool => Some("novel"),
        Frontend::TranscriptQueue => Some("transcript"),
        Frontend::ProjectAgents => Some("project"),
    }
}

async fn begin(State(store): State<Store>, Json(wish): Json<Begin>) -> Result<Json<Begun>, Failed> {
    let job = match kind_of(wish.frontend) {
        Some(kind) => {
            let new = NewWork::new(kind, "bench");
            let job = match wish.frontend {
                Frontend::ProjectAgents => {
                    let fields = ProjectFields { name: "bench".into(), ..ProjectFields::default() };
                    let project = store.create_project(ANONYMOUS, &fields).await?;
                    store.generate_project(project.id, None, |_, id| NewWork { id, ..new }).await?;
                    JobId(project.id)
                }
                Frontend::NovelTool => {
                    store.submit_work(NewWork { owner: frontends::OWNER.to_owned(), ..new }, None).await?.job
                }
                _ => store.submit_work(new, None).await?.job,
            };
            let claimed = store.claim_work(&[kind.to_owned()], "bench").await?;
            let claimed = claimed.filter(|claimed| claimed.lease.job == job);
            let claimed = claimed.ok_or_else(|| refused("another job of this kind waits"))?;
            let (number, fence) = (claimed.work.number, Some(claimed.lease.fence));
            return Ok(Json(Begun { job, number, fence }));
        }
        None if wish.frontend == Frontend::DomainScraper => {
            let domains = (0..wish.changes).map(|n| format!("company-{n}.example")).collect();
            let new = NewJob::on_companies(JobId(Uuid::now_v7()), Companies { domains, sequential: false })?;
            let job = new.id;
            store.create(new).await?;
            job
        }
        None => job(&store).await?,
    };
    Ok(Json(Begun { job, number: None, fence: None }))
}

async fn step(State(store): State<Store>, Json(step): Json<Step>) -> Result<Json<Published>, Failed> {
    let Step { frontend, begun: Begun { job, fence, .. }, n, ends } = step;
    let mark = frontends::mark(frontend, n);
    if let Some(fence) = fence {
        let (reports, outcome) = match (ends, frontend) {
            (true, _) => (Vec::new(), Some(WorkOutcome::Finished(serde_json::Map::new()))),
            (false, Frontend::ProjectAgents) => {
                (vec![Report::Log { level: LogLevel::Info, message: mark, source: None }], None)
            }
            (false, Frontend::NovelTool) => {
                let patch = [("current_step".to_owned(), mark.into())].into_iter().collect();
                (vec![Report::Patch { patch }], None)
            }
            (false, Frontend::TranscriptQueue) => {
                let patch = [("current_phase".to_owned(), mark.into())].into_iter().collect();
                (vec![Report::Patch { patch }], None)
            }
            (false, _) => (vec![Report::Progress { progress: None, step: Some(mark), message: None }], None),
        };
        store.report(&WorkLease { job, fence }, None, reports, outcome).await?;
    } else {
        let event = match frontend {
            Frontend::DomainScraper => {
                CompanyFailed { domain: format!("company-{n}.example"), reason: mark }.into()
            }
            _ => JobUpdated {
                status: "running".into(),
                progress: None,
                current_stage: None,
                message: Some(mark),
            }
            .into(),
        };
        let change = match (ends, frontend) {
            (false, _) => Change { events: vec![event], ..Change::default() },
            // It has a plan, which nobody works on here.
            (true, Frontend::DomainScraper) => {
                Change { commands: vec![Command::Cancel], ..Change::default() }
            }
            (true, _) => {
                let results = Some(serde_json::json!({}));
                Change { commands: vec![Command::Complete], results, ..Change::default() }
            }
        };
        store.change(job, None, change).await?;
    }
    Ok(Json(Published { committed: wire::now() }))
}
