//! `/api/system/health` and `/api/config`: how the queue is, and what its owner wants of the workers.

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::{
    KIND, PHASES,
    answer::{Body, Detail, Refusal},
    shape,
};
use crate::{
    http::{Api, Caller},
    job::{Scope, Status, merge_patch, work::check_object},
    store::WorkSort,
};

/// Bytes of one group of settings.
const MAX_SETTINGS: usize = 64 * 1024;

/// How the queue is, for the status bar.
#[utoipa::path(
    get, path = "/api/system/health", tag = "transcript queue",
    responses(
        (status = 200, body = Value),
        (status = 401, body = Detail),
        (status = 403, body = Detail),
        (status = 503, body = Detail),
    ),
)]
pub async fn health(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Read)?;
    let counts = api.store.work_counts(KIND, caller.sees_only()).await?;
    let of = |status: Status| counts.get(&status).copied().unwrap_or(0);
    let filter = shape::shown(caller.sees_only(), vec![Status::Completed]);
    let (last, _) = api.store.work_list(KIND, &filter, WorkSort::Newest, 1, 0).await?;
    let last_run = last.first().map(|work| {
        let phases = work.document["phases"].as_object();
        let tokens = phases.into_iter().flatten().filter_map(|(_, phase)| phase["tokens"].as_i64());
        json!({
            "total_cost": work.document["actual_cost"].as_f64().unwrap_or(0.0),
            "total_tokens": tokens.sum::<i64>(),
        })
    });
    let backends = read(&api, &caller, Group::Backends).await?;
    let model = last.first().and_then(|work| {
        let phases = work.document["phases"].as_object()?;
        phases.values().find_map(|phase| phase["model"].as_str().map(str::to_owned))
    });
    Ok(Json(json!({
        "status": "ok",
        "queue": { "pending": of(Status::Pending), "in_progress": of(Status::Running) },
        "llm": {
            "active_backend": backends["primary_backend"],
            "active_model": model,
            "active_preset": null,
            "primary_backend": backends["primary_backend"],
            "configured_preset": null,
            "fallback_model": null,
            "phase_backends": backends["phase_backends"],
            "openrouter_presets": {},
        },
        "last_run": last_run,
    })))
}

/// A group of settings. Workers are not told of them by this server; they may read them where the pages do.
#[derive(Clone, Copy)]
enum Group {
    Routing,
    Worker,
    Backends,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Group::Routing => "transcript-routing",
            Group::Worker => "transcript-worker",
            Group::Backends => "transcript-backends",
        }
    }

    fn defaults(self) -> Value {
        let phases = |value: Value| -> Map<String, Value> {
            PHASES.into_iter().map(|phase| (phase.to_owned(), value.clone())).collect()
        };
        match self {
            Group::Routing => json!({
                "tiers": ["cheapskate", "default", "big-brain"],
                "phase_base_tiers": phases(json!(1)),
            }),
            Group::Worker => json!({
                "max_concurrent_jobs": 1,
                "poll_interval_seconds": 5,
                "heartbeat_interval_seconds": 10,
            }),
            Group::Backends => json!({
                "primary_backend": "rules",
                "phase_backends": phases(json!("rules")),
            }),
        }
    }
}

async fn read(api: &Api, caller: &Caller, group: Group) -> Result<Value, Refusal> {
    let mut settings = group.defaults();
    if let Some(changed) = api.store.page_settings(caller.subject(), group.name()).await? {
        merge_patch(&mut settings, &changed);
    }
    Ok(settings)
}

async fn write(
    api: &Api,
    caller: &Caller,
    group: Group,
    change: Map<String, Value>,
) -> Result<Json<Value>, Refusal> {
    caller.require(Scope::Write)?;
    check_object("The settings", &change, MAX_SETTINGS)?;
    let mut changed = read(api, caller, group).await?;
    merge_patch(&mut changed, &Value::Object(change));
    if let Value::Object(changed) = &changed {
        check_object("The settings", changed, MAX_SETTINGS)?;
    }
    api.store.put_page_settings(caller.subject(), group.name(), &changed).await?;
    Ok(Json(changed))
}

/// Makes the two routes of a group.
macro_rules! group {
    ($group:expr, $path:literal, $(#[doc = $show:literal])+ $read:ident, $(#[doc = $put:literal])+ $write:ident) => {
        $(#[doc = $show])+
        #[utoipa::path(
            get, path = $path, tag = "transcript queue",
            responses(
                (status = 200, body = Value),
                (status = 401, body = Detail),
                (status = 403, body = Detail),
                (status = 503, body = Detail),
            ),
        )]
        pub async fn $read(caller: Caller, State(api): State<Api>) -> Result<Json<Value>, Refusal> {
            caller.require(Scope::Read)?;
            Ok(Json(read(&api, &caller, $group).await?))
        }

        $(#[doc = $put])+
        #[utoipa::path(
            patch, path = $path, tag = "transcript queue", request_body = Object,
            responses(
                (status = 200, body = Value),
                (status = 401, body = Detail),
                (status = 403, body = Detail),
                (status = 413, body = Detail),
                (status = 422, body = Detail),
                (status = 503, body = Detail),
            ),
        )]
        pub async fn $write(
            caller: Caller,
            State(api): State<Api>,
            Body(change): Body<Map<String, Value>>,
        ) -> Result<Json<Value>, Refusal> {
            write(&api, &caller, $group, change).await
        }
    };
}

group!(
    Group::Routing, "/api/config/routing",
    /// Which tier each phase is to use.
    routing,
    /// Changes which tier each phase is to use.
    change_routing
);
group!(
    Group::Worker, "/api/config/worker",
    /// How the workers are to go about their jobs.
    worker,
    /// Changes how the workers are to go about their jobs.
    change_worker
);
group!(
    Group::Backends, "/api/config/phase-backends",
    /// What does the work of each phase.
    backends,
    /// Changes what does the work of each phase.
    change_backends
);
