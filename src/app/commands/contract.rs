//! `jobcast contract`: the catalogue of events as documents, for frontends and for the README.

use clap::ValueEnum;

use crate::event::contract;

/// What to print.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Types for socket.io-client: `io<ServerToClientEvents, ClientToServerEvents>()`.
    Typescript,
    /// A table of all events.
    Markdown,
}

/// Prints the document.
pub fn run(format: Format) {
    match format {
        Format::Typescript => print!("{}", contract::typescript()),
        Format::Markdown => print!("{}", contract::markdown_table()),
    }
}
