//! Logs: text at a terminal, JSON lines otherwise; always on standard error, for standard output belongs to commands.
//! And traces, where the settings name who takes them.

mod filter;
mod traces;

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use self::filter::Filter;
pub use self::traces::Traces;
use crate::config::{Log, LogFormat, Telemetry};

/// Chatty at levels that ask about us, and libraries that write down what clients send: there are tokens in it.
const QUIET: [&str; 8] = [
    "chromiumoxide=off",
    "hyper=warn",
    "sqlx=warn",
    "engineioxide=info",
    "socketioxide=info",
    "tokio_tungstenite=info",
    "tungstenite=info",
    "h2=warn",
];

/// Starts logging for the whole process.
///
/// # Errors
/// A sentence when the filter cannot be read.
pub fn start(settings: &Log) -> anyhow::Result<()> {
    begin(settings, None)
}

/// Starts logging, and sending traces if somebody takes them; call it inside of the runtime.
///
/// # Errors
/// A sentence when a setting cannot be used.
pub fn start_with_traces(settings: &Log, telemetry: &Telemetry) -> anyhow::Result<Traces> {
    let traces = Traces::start(telemetry)?;
    begin(settings, traces.as_ref())?;
    Ok(traces.unwrap_or_default())
}

fn begin(settings: &Log, traces: Option<&Traces>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.filter).map_err(|error| {
        anyhow::anyhow!("log.filter is {:?}: {error}; write for example \"info\"", settings.filter)
    })?;
    let filter =
        QUIET.iter().filter_map(|directive| directive.parse().ok()).fold(filter, EnvFilter::add_directive);
    let tracer = traces.and_then(Traces::tracer);
    let filter = Filter::new(filter, tracer.is_some());
    let text = match settings.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let started = match tracer {
        None if text => registry().with(filter).with(written().with_target(false)).try_init(),
        None => registry().with(filter).with(written().json().flatten_event(true)).try_init(),
        Some(tracer) => {
            let traced = tracing_opentelemetry::layer().with_location(false).with_threads(false);
            let registry = registry().with(filter).with(traced.with_tracer(tracer));
            match text {
                true => registry.with(written().with_target(false)).try_init(),
                false => registry.with(written().json().flatten_event(true)).try_init(),
            }
        }
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

type Written<S> = fmt::Layer<S, fmt::format::DefaultFields, fmt::format::Format, fn() -> std::io::Stderr>;

/// Lines on standard error.
fn written<S>() -> Written<S>
where
    S: tracing::Subscriber + for<'a> registry::LookupSpan<'a>,
{
    fmt::layer().with_writer(std::io::stderr as fn() -> std::io::Stderr)
}
