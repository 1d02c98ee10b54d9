//! The catalogue as documents: TypeScript types for frontends and the README's table.

use std::fmt::Write;

use ts_rs::TS;

use super::Kind;

/// One row of the catalogue, for generators.
pub struct Row {
    pub kind: Kind,
    /// The payload's type name.
    pub type_name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// The payload's own fields, without `jobId` and `timestamp`.
    pub fields: Vec<Field>,
}

/// One field of a payload.
pub struct Field {
    /// As it stands in the JSON.
    pub name: String,
    pub optional: bool,
    /// Its TypeScript type.
    pub typescript: String,
    /// One sentence.
    pub doc: &'static str,
}

impl Field {
    pub(crate) fn new<T: TS>(rust_name: &str, optional: bool, doc: &'static str) -> Field {
        let typescript = T::inline(&ts_rs::Config::default().with_large_int("number"));
        Field { name: camel_case(rust_name), optional, typescript, doc: doc.trim() }
    }
}

/// `product_url` → `productUrl`, `r#type` → `type`: what serde writes.
fn camel_case(rust_name: &str) -> String {
    let mut name = String::new();
    let mut upper = false;
    for c in rust_name.trim_start_matches("r#").chars() {
        match c {
            '_' => upper = true,
            c if std::mem::take(&mut upper) => name.extend(c.to_uppercase()),
            c => name.push(c),
        }
    }
    name
}

/// Types for `io<ServerToClientEvents, ClientToServerEvents>()` of socket.io-client.
pub fn typescript() -> String {
    let mut out = String::from(
        "// Generated from Jobcast's catalogue of events (src/event/catalogue.rs) by `jobcast contract typescript`.\n\n",
    );
    for row in rows() {
        let _ = writeln!(out, "/** {} */\nexport interface {} {{", row.doc, row.type_name);
        if row.kind.class() != super::Class::Notice {
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
    out.push_str(CLIENT_TO_SERVER);
    out
}

const CLIENT_TO_SERVER: &str = r#"}

/** What a subscription's acknowledgement says. */
export type Subscribed =
  | { ok: true; seq: number; status: string }
  | { ok: false; error: { code: string; message: string } };

export interface SubscribeOptions {
  /** Replay what happened to the job after this seq; 0 for everything. */
  after?: number;
}

type Subscribe = {
  (id: string, acknowledge?: (answer: Subscribed) => void): void;
  (id: string, options: SubscribeOptions, acknowledge?: (answer: Subscribed) => void): void;
};

type Unsubscribe = (id: string, acknowledge?: (answer: Subscribed) => void) => void;

export interface ClientToServerEvents {
  "job:subscribe": Subscribe;
  "job:unsubscribe": Unsubscribe;
  "automation:subscribe": Subscribe;
  "automation:unsubscribe": Unsubscribe;
  /** Answered with a `system:notification` whose message is `pong`. */
  ping: () => void;
}
"#;

/// The README's table of events.
pub fn markdown_table() -> String {
    let mut out = String::from(
        "| event | class | fields besides `timestamp` and `jobId` | when |\n|---|---|---|---|\n",
    );
    for row in rows() {
        let fields: Vec<String> = row
            .fields
            .iter()
            .map(|f| {
                format!(
                    "`{}{}: {}`",
                    f.name,
                    if f.optional { "?" } else { "" },
                    f.typescript.replace('|', "\\|")
                )
            })
            .collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            row.kind.wire_name(),
            row.kind.class().word(),
            fields.join(", "),
            row.doc
        );
    }
    out
}

pub fn rows() -> impl Iterator<Item = Row> {
    Kind::ALL.iter().map(|kind| kind.description())
}
