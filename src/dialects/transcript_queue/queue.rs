//! `/api/queue`: the list, new jobs, counters, and the removal of old ones.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    KIND,
    answer::{Asked, Body, Detail, Number, Refusal, find},
    shape,
};
use crate::{
    http::{Api, Caller},
    job::{Priority, Scope, Status},
    store::{NewWork, WorkFilter, WorkRecord, WorkSort},
};

const MAX_PAGE: i64 = 100;
const MAX_TEXT: usize = 200;
const MAX_PATH: usize = 500;
/// Jobs that one request removes at the most.
const MAX_REMOVED: i64 = 500;

#[derive(Deserialize, IntoParams)]
pub struct ListQuery {
    /// Only jobs with this status.
    status: Option<String>,
    /// From 1.
    #[param(minimum = 1)]
    page: Option<i64>,
    #[param(minimum = 1, maximum = 100)]
    page_size: Option<i64>,
    /// What the jobs' names contain.
    #[param(max_length = 200)]
    search: Option<String>,
    /// `newest` or `oldest`.
    sort: Option<String>,
}

/// A page of the queue.
#[utoipa::path(
    get, path = "/api/queue/", tag = "transcript queue", params(ListQuery),
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn list(
    caller: Caller,
    State(api): State<Api>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let (page, size) = (query.page.unwrap_or(1), query.page_size.unwrap_or(50));
    if !(1..=1_000_000).contains(&page) || !(1..=MAX_PAGE).contains(&size) {
        return Err(Refusal::unreadable(format!("page is from 1, page_size from 1 to {MAX_PAGE}")));
    }
    let statuses = match query.status.as_deref() {
        None | Some("" | "all") => Vec::new(),
        Some(word) => {
            shape::statuses(word).ok_or_else(|| Refusal::unreadable("status is none that a job has"))?
        }
    };
    let sort = match query.sort.as_deref() {
        None | Some("" | "newest") => WorkSort::Newest,
        Some("oldest") => WorkSort::Oldest,
        Some(_) => return Err(Refusal::unreadable("sort is newest or oldest")),
    };
    let search = query.search.filter(|text| !text.is_empty());
    check("search", search.as_deref().unwrap_or_default(), MAX_TEXT)?;
    let filter = WorkFilter { search, ..shape::shown(caller.sees_only(), statuses) };
    let (jobs, total) = api.store.work_list(KIND, &filter, sort, size, (page - 1) * size).await?;
    let pages = (total + size - 1) / size;
    let jobs: Vec<Value> = jobs.iter().map(shape::job).collect();
    Ok(Json(json!({ "jobs": jobs, "total": total, "page": page, "page_size": size, "total_pages": pages })))
}

/// A transcript to be worked on.
#[derive(Deserialize, ToSchema)]
pub struct NewJob {
    #[schema(min_length = 1, max_length = 200)]
    project_name: String,
    /// The file's name, as it was uploaded.
    #[schema(min_length = 1, max_length = 500)]
    transcript_file: String,
    #[schema(max_length = 500)]
    project_path: Option<String>,
    /// Higher ones are worked on first.
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i64>,
}

#[derive(Deserialize, IntoParams)]
pub struct AddQuery {
    /// Whether a transcript that is there already is worked on again.
    force: Option<bool>,
}

/// Adds a transcript to the queue.
#[utoipa::path(
    post, path = "/api/queue/", tag = "transcript queue", params(AddQuery), request_body = NewJob,
    responses(
        (status = 201, body = Value),
        (status = 400, body = Detail),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 409, body = Detail, description = "There is a job for the transcript already"),
        (status = 413, body = Detail),
        (status = 422, body = Detail),
        (status = 429, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn add(
    caller: Caller,
    State(api): State<Api>,
    Asked(query): Asked<AddQuery>,
    Body(body): Body<NewJob>,
) -> Result<Response, Refusal> {
    caller.require(Scope::Write)?;
    let (name, file) = (body.project_name.trim(), body.transcript_file.trim());
    for (what, text, most) in [
        ("project_name", name, MAX_TEXT),
        ("transcript_file", file, MAX_PATH),
        ("project_path", body.project_path.as_deref().unwrap_or("-"), MAX_PATH),
    ] {
        if text.is_empty() {
            return Err(Refusal::unreadable(format!("{what} must not be empty")));
        }
        check(what, text, most)?;
    }
    let earlier = api.store.work_with_input(KIND, caller.subject(), "transcript_file", file).await?;
    if let Some(earlier) = &earlier
        && query.force != Some(true)
    {
        return Err(exists(earlier));
    }
    let new = NewWork {
        priority: Priority::new(body.priority.unwrap_or(0))?,
        same_files_as: earlier.map(|earlier| earlier.record.job.id),
        ..transcript(&caller, name, file, body.project_path.as_deref())
    };
    let made = api.store.submit_work(new, None).await?;
    let job = shape::job(&api.store.work(made.job).await?);
    Ok((StatusCode::CREATED, Json(job)).into_response())
}

/// A job for a transcript.
pub fn transcript(caller: &Caller, name: &str, file: &str, path: Option<&str>) -> NewWork {
    let mut input = Map::new();
    input.insert("project_name".into(), name.into());
    input.insert("transcript_file".into(), file.into());
    input.insert("project_path".into(), path.map_or_else(|| format!("OUTPUT/{name}"), str::to_owned).into());
    let mut document = Map::new();
    document.insert("phases".into(), shape::pending_phases().into());
    NewWork { owner: caller.subject().to_owned(), input, document, ..NewWork::new(KIND, name) }
}

fn exists(earlier: &WorkRecord) -> Refusal {
    let status = shape::status_of(earlier.record.job.status, &earlier.document);
    let detail = json!({
        "message": "A job already exists for this transcript",
        "existing_job_id": earlier.number,
        "existing_status": status,
        "action_required": "Confirm to process the transcript again",
        "hint": "Use ?force=true to create a new job anyway",
    });
    Refusal::new(StatusCode::CONFLICT, detail)
}

/// How many jobs there are of each status.
#[utoipa::path(
    get, path = "/api/queue/stats", tag = "transcript queue",
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn stats(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    Ok(Json(shape::stats(&api.store.work_counts(KIND, caller.sees_only()).await?)))
}

/// The job whose turn is next, or null.
#[utoipa::path(
    get, path = "/api/queue/next", tag = "transcript queue",
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn next(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let filter = shape::shown(caller.sees_only(), vec![Status::Pending]);
    let (jobs, _) = api.store.work_list(KIND, &filter, WorkSort::Turn, 1, 0).await?;
    Ok(Json(jobs.first().map(shape::job).unwrap_or_default()))
}

/// Removes all jobs of some statuses, but for those that wait or are at work.
#[utoipa::path(
    delete, path = "/api/queue/bulk", tag = "transcript queue",
    params(("statuses" = Vec<String>, Query, description = "Such as `completed`; may come several times")),
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn remove_many(
    caller: Caller,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let mut statuses = Vec::new();
    for (name, word) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "statuses" {
            continue;
        }
        let of = shape::statuses(&word)
            .ok_or_else(|| Refusal::unreadable("statuses names none that a job has"))?;
        statuses.extend(of);
    }
    if statuses.is_empty() {
        return Err(Refusal::unreadable("statuses must name at least one status"));
    }
    statuses.retain(|status| !matches!(status, Status::Pending | Status::Running));
    let mut deleted = 0;
    if !statuses.is_empty() {
        let filter = shape::shown(caller.sees_only(), statuses);
        let (jobs, _) = api.store.work_list(KIND, &filter, WorkSort::Oldest, MAX_REMOVED, 0).await?;
        for work in &jobs {
            delete(&api, work).await?;
            deleted += 1;
        }
    }
    Ok(Json(json!({ "deleted_count": deleted, "message": format!("Deleted {deleted} jobs") })))
}

/// Removes a job; one that is at work is cancelled first.
#[utoipa::path(
    delete, path = "/api/queue/{id}", tag = "transcript queue", params(("id" = i64, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 404, body = Detail),
        (status = 422, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn remove(
    caller: Caller,
    State(api): State<Api>,
    Number(id): Number,
) -> Result<StatusCode, Refusal> {
    caller.require(Scope::Write)?;
    delete(&api, &find(&api, &caller, id).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(api: &Api, work: &WorkRecord) -> Result<(), Refusal> {
    let id = work.record.job.id;
    if !work.record.job.status.is_ended() {
        match api.store.cancel(id).await {
            // It ended by itself meanwhile.
            Ok(_) | Err(crate::store::StoreError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(api.remove(id).await?)
}

fn check(what: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(Refusal::unreadable(format!(
            "{what} has at most {most} characters, none of them control ones"
        )));
    }
    Ok(())
}
