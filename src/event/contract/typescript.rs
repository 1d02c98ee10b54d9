//! Types for `io<ServerToClientEvents, ClientToServerEvents>()` of socket.io-client.

use std::fmt::Write;

use super::rows;
use crate::event::{Ask, Class, Gives, Takes};

/// The whole file.
pub fn typescript() -> String {
    let mut out = String::from(
        "// Generated from Jobcast's catalogue of events (src/event/catalogue.rs) by `jobcast contract typescript`.\n\n",
    );
    for row in rows() {
        let _ = writeln!(out, "/** {} */\nexport interface {} {{", row.doc, row.type_name);
        if row.kind.class() != Class::Notice {
            out.push_str("  jobId: string;\n");
        }
        out.push_str("  /** ISO 8601, UTC, milliseconds. */\n  timestamp: string;\n");
        for field in &row.fields {
            let mark = if field.optional { "?" } else { "" };
            let _ = writeln!(out, "  /** {} */\n  {}{mark}: {};", field.doc, field.name, field.typescript);
        }
        out.push_str("}\n\n");
    }
    out.push_str(
        "/**\n * `offset` is the event's place in the journal; pages may ignore it.\n *\n \
         * Workers also tell of events of their own, named by their kind's prefix, a colon and a word (`novel:chunk-done`).\n \
         * They are no part of this type, for an index signature would take every misspelt name: add yours with\n \
         * `ServerToClientEvents & { \"novel:chunk-done\": (payload: …, offset?: string) => void }`. Each has `jobId` and\n \
         * `timestamp`.\n */\n",
    );
    out.push_str("export interface ServerToClientEvents {\n");
    for row in rows() {
        let _ = writeln!(
            out,
            "  \"{}\": (payload: {}, offset?: string) => void;",
            row.kind.wire_name(),
            row.type_name
        );
    }
    out.push_str(ANSWERS);
    out.push_str("export interface ClientToServerEvents {\n");
    for ask in Ask::ALL {
        let _ = writeln!(out, "  /** {} */\n  \"{}\": {};", ask.doc(), ask.name(), signature(*ask));
    }
    out.push_str("}\n");
    out
}

fn signature(ask: Ask) -> String {
    let answer = match ask.gives() {
        Gives::Done => "Done",
        Gives::Place => "Subscribed",
        Gives::Status => "Changed",
        Gives::StatusAndJob => "Retried",
    };
    let acknowledge = format!("acknowledge?: (answer: {answer}) => void");
    match ask.takes() {
        Takes::Nothing => format!("({acknowledge}) => void"),
        Takes::Job => format!("(id: string, {acknowledge}) => void"),
        Takes::JobAndPast => "Subscribe".into(),
    }
}

const ANSWERS: &str = r#"}

/** What the acknowledgement of something that was refused says. */
export interface Refused {
  ok: false;
  error: { code: string; message: string };
}

/** What a subscription's acknowledgement says: where the job stands. */
export type Subscribed = { ok: true; seq: number; status: string } | Refused;

export type Done = { ok: true } | Refused;

export type Changed = { ok: true; status: string } | Refused;

/** `jobId` is another job's if the one that is tried again has ended. */
export type Retried = { ok: true; status: string; jobId: string } | Refused;

export interface SubscribeOptions {
  /** Replay what happened to the job after this seq; 0 for everything. */
  after?: number;
}

type Subscribe = (
  id: string,
  ...more:
    | [acknowledge?: (answer: Subscribed) => void]
    | [options: SubscribeOptions, acknowledge?: (answer: Subscribed) => void]
) => void;

"#;
