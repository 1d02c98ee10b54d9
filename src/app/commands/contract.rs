//! `jobcast contract`: the catalogue of events as documents, for frontends and for the README.

use clap::ValueEnum;

use crate::{config::Config, dialects, event::contract};

/// What to print.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Types for socket.io-client: `io<ServerToClientEvents, ClientToServerEvents>()`.
    Typescript,
    /// A table of all events.
    Markdown,
    /// JSON Schema (2020-12) of every payload.
    JsonSchema,
    /// The sockets as AsyncAPI 3.0, of the server that the settings describe.
    Asyncapi,
    /// A Grafana dashboard of the numbers at /metrics.
    Grafana,
}

/// Prints the document.
pub fn run(config: &Config, format: Format) {
    match format {
        Format::Grafana => print!("{}", include_str!("../../../config/grafana/jobcast.json")),
        Format::Typescript => print!("{}", contract::typescript()),
        Format::Markdown => print!("{}", contract::markdown_table()),
        Format::JsonSchema => print!("{}", contract::json_schema()),
        Format::Asyncapi => print!("{}", contract::asyncapi(&address(config), &dialects::sockets())),
    }
}

/// Where clients reach the server.
fn address(config: &Config) -> String {
    match (config.server.public_url.as_str(), config.server.listen.first()) {
        ("", Some(listen)) => format!("http://{listen}/"),
        (given, _) => given.to_owned(),
    }
}
