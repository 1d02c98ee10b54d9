//! Project agents: projects that twelve agents generate, watched over a raw WebSocket.
//!
//! The agents are a worker outside of this server (`examples/project_worker.py` is one): each generation is a job of the
//! kind `project`, whose document holds the agents, the files and what they are made with.

mod agents;
mod answer;
mod contract;
pub mod socket;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use self::{
    answer::{Detail, Refusal},
    socket::{ProjectAgents, Standing, Topic},
};
use crate::{
    event::{Timestamp, format_timestamp},
    http::{Api, Caller},
    job::{Code, JobId, Rejection, Scope},
    realtime::websocket::{Door, Opening, RawSockets},
    store::{NewWork, Project, ProjectFields, StoreError, WorkRecord, run_id},
};

/// What workers register for.
pub const KIND: &str = "project";
/// The name under which a run's worker stores the finished project.
const ARTIFACT: &str = "project.zip";
/// Projects of a list.
const LISTED: i64 = 200;
/// Log lines of one project, and those that its status shows.
const LOGS: i64 = 500;
const LAST_LOGS: i64 = 10;
const MAX_NAME: usize = 200;
const MAX_TEXT: usize = 20_000;
const MAX_WORD: usize = 50;
const MAX_PLATFORMS: usize = 10;

/// The dialect's routes.
pub fn routes(sockets: &RawSockets) -> OpenApiRouter<Api> {
    let door = Door::new(sockets, ProjectAgents);
    let socket = OpenApiRouter::new().routes(routes!(follow)).layer(Extension(door));
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(generate))
        .routes(routes!(regenerate))
        .routes(routes!(status))
        .routes(routes!(code))
        .routes(routes!(download))
        .routes(routes!(types))
        .routes(routes!(analyze))
        .merge(socket)
}

/// Follows a project over a raw WebSocket.
///
/// Frames are `connection`, `status_update`, `agent_update`, `log` and `completion`; `{"type":"ping"}` is answered. Any id
/// is accepted, and nothing more is told of one that is nobody's or another's.
#[utoipa::path(
    get, path = "/api/ws/projects/{id}", tag = "project agents", params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 101, description = "A WebSocket"),
        (status = 400, description = "No WebSocket was asked for"),
        (status = 403, description = "Pages of this origin may not connect"),
        (status = 426, description = "No WebSocket was asked for"),
        (status = 503, description = "As many connections are open as may be"),
    ),
)]
async fn follow(
    Extension(door): Extension<Door<ProjectAgents>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
    opening: Opening,
) -> Response {
    let project = id.map(|Path(id)| id.chars().take(MAX_NAME).collect()).unwrap_or_default();
    door.open(opening, Topic { project, owner: caller.sees_only().map(Arc::from) }, caller.expires_at)
}

/// A project to be made; keys that are not listed are passed over.
#[derive(Deserialize, ToSchema)]
struct ProjectBody {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[serde(default)]
    #[schema(max_length = 20000)]
    description: String,
    #[serde(default)]
    #[schema(max_length = 20000)]
    requirements: String,
    #[serde(default = "web")]
    #[schema(max_length = 50, default = "web")]
    app_type: String,
    #[serde(default = "react")]
    #[schema(max_items = 10)]
    target_platforms: Vec<String>,
    #[serde(default = "modular")]
    #[schema(max_length = 50, default = "modular")]
    architecture_type: String,
}

fn web() -> String {
    "web".into()
}

fn react() -> Vec<String> {
    vec!["react".into()]
}

fn modular() -> String {
    "modular".into()
}

/// What is to be different about a project.
#[derive(Deserialize, ToSchema)]
struct ProjectChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(max_length = 20000)]
    description: Option<String>,
    #[schema(max_length = 20000)]
    requirements: Option<String>,
    #[schema(max_length = 50)]
    app_type: Option<String>,
    #[schema(max_items = 10)]
    target_platforms: Option<Vec<String>>,
    #[schema(max_length = 50)]
    architecture_type: Option<String>,
}

/// A wish, in words.
#[derive(Deserialize, ToSchema)]
struct Wish {
    #[schema(max_length = 20000)]
    text: String,
}

/// Lists the caller's projects, newest first, at most 200; without their code, which is each project's own.
#[utoipa::path(
    get, path = "/api/projects", operation_id = "list_projects", tag = "project agents",
    responses((status = 200, body = Vec<Value>), (status = 401, body = Detail), (status = 403, body = Detail), (status = 503, body = Detail)),
)]
async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let projects = api.store.projects(caller.sees_only(), LISTED).await?;
    let jobs: Vec<JobId> = projects.iter().filter_map(|project| project.job).collect();
    let runs = api.store.work_of(&jobs).await?;
    let shown = projects.iter().map(|project| {
        let run = project.job.and_then(|job| runs.get(&job));
        let mut shown = shown(project, run, &[]);
        shown["generated_code"] = json!({});
        shown
    });
    Ok(Json(shown.collect()))
}

/// Makes a project; it is generated when that is asked for.
#[utoipa::path(
    post, path = "/api/projects", operation_id = "create_project", tag = "project agents", request_body = ProjectBody,
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 413, body = Detail), (status = 422, body = Detail),
        (status = 429, body = Detail), (status = 503, body = Detail),
    ),
)]
async fn create(
    State(api): State<Api>,
    caller: Caller,
    body: Result<Json<ProjectBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let Json(body) = body?;
    let fields = ProjectFields {
        name: body.name,
        description: body.description,
        requirements: body.requirements,
        app_type: body.app_type,
        target_platforms: body.target_platforms,
        architecture_type: body.architecture_type,
    };
    let project = api.store.create_project(caller.subject(), &checked(fields)?).await?;
    Ok(Json(shown(&project, None, &[])))
}

/// Shows a project with its code and its log.
#[utoipa::path(
    get, path = "/api/projects/{id}", operation_id = "show_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 401, body = Detail), (status = 403, body = Detail),
        (status = 404, body = Detail), (status = 503, body = Detail),
    ),
)]
async fn show(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let (project, run) = find(&api, &caller, id).await?;
    let logs = logs(&api, &project, run.as_ref(), LOGS).await?;
    Ok(Json(shown(&project, run.as_ref(), &logs)))
}

/// Changes a project; what the body does not name stays as it is. A run that has begun is not changed.
#[utoipa::path(
    put, path = "/api/projects/{id}", operation_id = "change_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")), request_body = ProjectChange,
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 404, body = Detail), (status = 413, body = Detail),
        (status = 422, body = Detail), (status = 503, body = Detail),
    ),
)]
async fn change(
    State(api): State<Api>,
    caller: Caller,
    id: ProjectId,
    body: Result<Json<ProjectChange>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let Json(change) = body?;
    let with = |old: ProjectFields| ProjectFields {
        name: change.name.clone().unwrap_or(old.name),
        description: change.description.clone().unwrap_or(old.description),
        requirements: change.requirements.clone().unwrap_or(old.requirements),
        app_type: change.app_type.clone().unwrap_or(old.app_type),
        target_platforms: change.target_platforms.clone().unwrap_or(old.target_platforms),
        architecture_type: change.architecture_type.clone().unwrap_or(old.architecture_type),
    };
    let (project, run) = find(&api, &caller, ProjectId(id.0)).await?;
    // Refused before anything is locked.
    checked(with(project.fields))?;
    let changed = api.store.change_project(project.id, caller.sees_only(), |old| trimmed(with(old))).await?;
    let project = changed.ok_or_else(Refusal::no_project)?;
    Ok(Json(shown(&project, run.as_ref(), &[])))
}

/// Removes a project and what was generated for it; a run that is under way is cancelled.
#[utoipa::path(
    delete, path = "/api/projects/{id}", operation_id = "remove_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 401, body = Detail), (status = 403, body = Detail),
        (status = 404, body = Detail), (status = 503, body = Detail),
    ),
)]
async fn remove(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    let id = id.0.ok_or_else(Refusal::no_project)?;
    let removed = api.store.remove_project(id, caller.sees_only()).await?.ok_or_else(Refusal::no_project)?;
    for run in 1..=removed.runs {
        let job = run_id(id, run);
        // One that has ended, or is gone, is as it should be.
        for done in [api.store.cancel(job).await.map(drop), api.remove(job).await] {
            match done {
                Ok(()) | Err(StoreError::Rejected(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Json(json!({ "message": "Project deleted successfully" })))
}

/// Generates a project.
#[utoipa::path(
    post, path = "/api/projects/{id}/generate", operation_id = "generate_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 404, body = Detail),
        (status = 409, body = Detail, description = "It is being generated"),
        (status = 429, body = Detail, description = "Too many projects wait for their agents"),
        (status = 503, body = Detail),
    ),
)]
async fn generate(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    begin(&api, &caller, id, "Project generation started").await.map(Json)
}

/// Generates a project anew; what was generated before stays until the new run has ended.
#[utoipa::path(
    post, path = "/api/projects/{id}/regenerate", operation_id = "regenerate_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 404, body = Detail),
        (status = 409, body = Detail, description = "It is being generated"),
        (status = 429, body = Detail, description = "Too many projects wait for their agents"),
        (status = 503, body = Detail),
    ),
)]
async fn regenerate(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    let mut begun = begin(&api, &caller, id, "Project regeneration started").await?;
    begun["note"] = "The project is generated from the beginning".into();
    Ok(Json(begun))
}

/// Begins a generation; what the page is told begins with the message.
async fn begin(api: &Api, caller: &Caller, id: ProjectId, message: &str) -> Result<Value, Refusal> {
    caller.require(Scope::Write)?;
    let id = id.0.ok_or_else(Refusal::no_project)?;
    let work = |project: &Project, job| {
        let fields = &project.fields;
        let input = json!({
            "project_id": project.id, "name": fields.name, "description": fields.description,
            "requirements": fields.requirements, "app_type": fields.app_type,
            "target_platforms": fields.target_platforms, "architecture_type": fields.architecture_type,
        });
        let input = match input {
            Value::Object(input) => input,
            _ => Map::new(),
        };
        NewWork { id: job, owner: project.owner.clone(), input, ..NewWork::new(KIND, fields.name.clone()) }
    };
    let begun = api.store.generate_project(id, caller.sees_only(), work).await?;
    let project = begun.ok_or_else(Refusal::no_project)?;
    Ok(json!({ "message": message, "project_id": project.id, "status": "in_progress" }))
}

/// How far a project is, with the last lines of its log.
#[utoipa::path(
    get, path = "/api/projects/{id}/status", operation_id = "project_status", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 401, body = Detail), (status = 403, body = Detail),
        (status = 404, body = Detail), (status = 503, body = Detail),
    ),
)]
async fn status(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let (project, run) = find(&api, &caller, id).await?;
    let logs = logs(&api, &project, run.as_ref(), LAST_LOGS).await?;
    let Standing { status, progress } = standing(run.as_ref());
    Ok(Json(json!({ "project_id": project.id, "status": status, "progress": progress, "logs": logs })))
}

/// The code of a project that was generated.
#[utoipa::path(
    get, path = "/api/projects/{id}/code", operation_id = "project_code", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, body = Value), (status = 400, body = Detail, description = "It is not generated yet"),
        (status = 401, body = Detail), (status = 403, body = Detail), (status = 404, body = Detail),
        (status = 503, body = Detail),
    ),
)]
async fn code(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let (project, run) = find(&api, &caller, id).await?;
    let run = completed(run)?;
    let code = run.document.get("generated_code").cloned().unwrap_or_else(|| json!({}));
    Ok(Json(json!({ "project_id": project.id, "generated_code": code, "code": code })))
}

/// A project that was generated, as a zip.
#[utoipa::path(
    get, path = "/api/projects/{id}/download", operation_id = "download_project", tag = "project agents",
    params(("id" = String, Path, description = "The project's id")),
    responses(
        (status = 200, content((Vec<u8> = "application/zip"))),
        (status = 400, body = Detail, description = "It is not generated yet"),
        (status = 401, body = Detail), (status = 403, body = Detail), (status = 404, body = Detail),
        (status = 503, body = Detail),
    ),
)]
async fn download(State(api): State<Api>, caller: Caller, id: ProjectId) -> Result<Response, Refusal> {
    caller.require(Scope::Read)?;
    let (project, run) = find(&api, &caller, id).await?;
    let run = completed(run)?;
    let stored = api.store.artifact_of(run.record.job.id, ARTIFACT).await?;
    let object = api.blobs.get(&stored.artifact.key, None).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.zip\"", file_name(&project.fields.name)),
        ),
    ];
    Ok((headers, Body::from(object.bytes)).into_response())
}

/// The agents, in the order of their work.
#[utoipa::path(
    get, path = "/api/agents/types", operation_id = "agent_types", tag = "project agents",
    responses((status = 200, body = Value)),
)]
async fn types() -> Json<Value> {
    Json(agents::types())
}

/// Which agents a wish calls for.
#[utoipa::path(
    post, path = "/api/agents/analyze", operation_id = "analyze_wish", tag = "project agents", request_body = Wish,
    responses(
        (status = 200, body = Value), (status = 400, body = Detail), (status = 413, body = Detail),
        (status = 422, body = Detail),
    ),
)]
async fn analyze(body: Result<Json<Wish>, JsonRejection>) -> Result<Json<Value>, Refusal> {
    let text = limited("text", body?.0.text, MAX_TEXT)?;
    Ok(Json(agents::analyze(&text)))
}

/// The id of a path; what is none names no project.
struct ProjectId(Option<Uuid>);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for ProjectId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, Self::Rejection> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        Ok(ProjectId(id.ok().and_then(|Path(id)| id.parse().ok())))
    }
}

/// A project of the caller's, and its newest run.
async fn find(api: &Api, caller: &Caller, id: ProjectId) -> Result<(Project, Option<WorkRecord>), Refusal> {
    let id = id.0.ok_or_else(Refusal::no_project)?;
    let project = api.store.project(id, caller.sees_only()).await?.ok_or_else(Refusal::no_project)?;
    let run = match project.job {
        Some(job) => api.store.work_of(&[job]).await?.remove(&job),
        None => None,
    };
    Ok((project, run))
}

fn completed(run: Option<WorkRecord>) -> Result<WorkRecord, Refusal> {
    run.filter(|run| standing(Some(run)).status == "completed")
        .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "Project generation not completed"))
}

fn standing(run: Option<&WorkRecord>) -> Standing {
    run.map_or(Standing::PENDING, |run| Standing::of(run.record.job.status, run.record.job.progress))
}

/// The newest lines of a project's log, with the one that a failed run ends with.
async fn logs(
    api: &Api,
    project: &Project,
    run: Option<&WorkRecord>,
    most: i64,
) -> Result<Vec<Value>, StoreError> {
    let jobs: Vec<JobId> = project.job.into_iter().collect();
    let lines = api.store.log_lines(&jobs, most).await?;
    let line = |at: Timestamp, message: &Value| json!({ "timestamp": naive(at), "message": message });
    let mut logs: Vec<Value> = lines.iter().map(|(_, at, said)| line(*at, &said["message"])).collect();
    if let Some(run) = run
        && let (Some(error), Some(at)) = (&run.record.error, run.record.ended_at)
    {
        logs.push(line(at, &format!("❌ Error: {error}").into()));
    }
    let before = logs.len().saturating_sub(most as usize);
    Ok(logs.split_off(before))
}

/// Without a zone, as the page's own backend wrote it.
fn naive(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// A project in the words of the page.
fn shown(project: &Project, run: Option<&WorkRecord>, logs: &[Value]) -> Value {
    let Standing { status, progress } = standing(run);
    let of = |key: &str, empty: Value| run.and_then(|run| run.document.get(key)).cloned().unwrap_or(empty);
    let updated = run.map_or(project.updated_at, |run| run.record.updated_at.max(project.updated_at));
    json!({
        "id": project.id,
        "name": project.fields.name,
        "description": project.fields.description,
        "app_type": project.fields.app_type,
        "target_platforms": project.fields.target_platforms,
        "requirements": project.fields.requirements,
        "architecture_type": project.fields.architecture_type,
        "features": of("features", json!([])),
        "tech_stack": of("tech_stack", json!({})),
        "status": status,
        "progress": progress,
        "created_at": format_timestamp(project.created_at),
        "updated_at": format_timestamp(updated),
        "generated_code": of("generated_code", json!({})),
        "agent_logs": logs,
    })
}

fn invalid(message: String) -> Refusal {
    Rejection::new(Code::InvalidRequest, message).into()
}

fn limited(name: &str, text: String, most: usize) -> Result<String, Refusal> {
    if text.chars().count() > most {
        return Err(invalid(format!("{name} has more than {most} characters.")));
    }
    if text.contains('\0') {
        return Err(invalid(format!("{name} must not hold the character U+0000.")));
    }
    Ok(text)
}

fn trimmed(fields: ProjectFields) -> ProjectFields {
    ProjectFields { name: fields.name.trim().to_owned(), ..fields }
}

fn checked(fields: ProjectFields) -> Result<ProjectFields, Refusal> {
    let fields = trimmed(fields);
    if fields.name.is_empty() || fields.name.chars().any(char::is_control) {
        return Err(invalid("name must be a text without control characters.".into()));
    }
    if fields.target_platforms.len() > MAX_PLATFORMS {
        return Err(invalid(format!("target_platforms has more than {MAX_PLATFORMS} entries.")));
    }
    for platform in &fields.target_platforms {
        limited("a target platform", platform.clone(), MAX_WORD)?;
    }
    Ok(ProjectFields {
        name: limited("name", fields.name, MAX_NAME)?,
        description: limited("description", fields.description, MAX_TEXT)?,
        requirements: limited("requirements", fields.requirements, MAX_TEXT)?,
        app_type: limited("app_type", fields.app_type, MAX_WORD)?,
        target_platforms: fields.target_platforms,
        architecture_type: limited("architecture_type", fields.architecture_type, MAX_WORD)?,
    })
}

/// A name that every file system takes.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(60).collect();
    match name.trim_matches('-') {
        "" => "project".to_owned(),
        name => name.to_owned(),
    }
}
