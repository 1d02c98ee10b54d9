//! Traces for an OpenTelemetry collector (OTLP over HTTP): sent in batches behind a bounded queue; while nobody takes them
//! they are dropped, after one warning.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;

use crate::config::Telemetry;

/// How the collector's variables are called, any of which turns traces on.
const VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// Where a collector takes traces.
const PATH: &str = "/v1/traces";
const CONNECT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last ones may take when the process ends.
const LAST: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// Traces on their way, if there are any.
#[derive(Default)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// `None` if nobody takes them.
    pub(super) fn start(settings: &Telemetry) -> anyhow::Result<Option<Traces>> {
        let named = VARIABLES.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
        if settings.otlp_endpoint.is_empty() && !named {
            return Ok(None);
        }
        let mut exporter = SpanExporter::builder().with_http().with_http_client(Sender::new()?);
        if !settings.otlp_endpoint.is_empty() {
            exporter = exporter.with_endpoint(address(&settings.otlp_endpoint));
        }
        let exporter =
            exporter.build().context("telemetry.otlp_endpoint, or an OTEL_* variable, cannot be used")?;
        // A queue of 2048 spans, sent every 5 s; OTEL_BSP_* say otherwise. What does not fit is dropped.
        let processor = BatchSpanProcessor::builder(exporter).build();
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("jobcast");
        }
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sampler)
            .with_resource(resource.build());
        Ok(Some(Traces(Some(provider.build()))))
    }

    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("jobcast"))
    }

    /// Sends what waits, for a moment.
    pub async fn end(self) {
        if let Some(provider) = self.0 {
            // Its own thread does it; this one only waits.
            let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST)).await;
        }
    }
}

/// The collector's address with the path of traces, which people leave out.
fn address(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") }
}

/// Sends what the exporter's thread, which has no runtime, asks to be sent.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
    /// Whether it was warned of, until the collector answers again.
    is_failing: AtomicBool,
}

impl Sender {
    fn new() -> anyhow::Result<Sender> {
        // Whoever comes first in this process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Sender { http, runtime: Handle::current(), is_failing: AtomicBool::new(false) })
    }

    /// Tells the log once what is wrong, and once that it is not any more.
    fn note(&self, wrong: Option<String>) {
        let was_failing = self.is_failing.swap(wrong.is_some(), Ordering::Relaxed);
        match (wrong, was_failing) {
            (Some(why), false) => {
                tracing::warn!(
                    why,
                    "traces are not taken and are dropped until they are; see telemetry.otlp_endpoint"
                );
            }
            (None, true) => tracing::info!("traces are taken again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let request =
            self.http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sent = self.runtime.spawn(async move {
            let mut response = request.send().await?;
            let (status, mut answer) = (response.status(), Vec::new());
            while let Some(part) = response.chunk().await? {
                answer.extend_from_slice(&part);
                if answer.len() > MAX_ANSWER {
                    break;
                }
            }
            Ok::<_, reqwest::Error>((status, answer))
        });
        match sent.await {
            Ok(Ok((status, answer))) => {
                self.note((!status.is_success()).then(|| format!("the collector answers {status}")));
                let mut response = Response::new(answer.into());
                *response.status_mut() = status;
                Ok(response)
            }
            Ok(Err(error)) => {
                // An address may hold a password.
                let error = error.without_url();
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                self.note(Some(format!("{error}: {cause}")));
                Err(error.into())
            }
            Err(stopped) => Err(stopped.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_need_not_be_said() {
        for given in ["http://otel:4318", "http://otel:4318/", "http://otel:4318/v1/traces"] {
            assert_eq!(address(given), "http://otel:4318/v1/traces");
        }
    }
}
