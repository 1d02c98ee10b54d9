//! What is logged, and what is traced however little is logged: one filter for both, for with one each, what a library
//! asks of one is taken for an answer of the other.

use tracing::{
    Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{EnvFilter, Layer, layer::Context};

/// Lets through what the log wants and, where traces are taken, the spans that they are made of.
pub(super) struct Filter {
    log: EnvFilter,
    traces: bool,
}

impl Filter {
    pub(super) fn new(log: EnvFilter, traces: bool) -> Filter {
        Filter { log, traces }
    }

    /// Whether something is a span of ours. Lines of the log are none: a trace holds those alone that are logged.
    fn is_traced(&self, metadata: &Metadata<'_>) -> bool {
        self.traces
            && metadata.is_span()
            && *metadata.level() <= Level::INFO
            && metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The log's filter notes spans that its directives name.
        let interest = Layer::<S>::register_callsite(&self.log, metadata);
        if self.is_traced(metadata) { Interest::always() } else { interest }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.is_traced(metadata) || self.log.enabled(metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = self.log.max_level_hint();
        if self.traces { hint.map(|hint| hint.max(LevelFilter::INFO)) } else { hint }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.log.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.log.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.log.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.log.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.log.on_close(id, context);
    }
}
