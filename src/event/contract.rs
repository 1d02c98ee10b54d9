//! The catalogue as documents: types for frontends, schemas of payloads, the sockets' contract, and the README's table.

mod asyncapi;
mod channel;
mod schema;
mod typescript;

use std::fmt::Write;

use serde_json::{Value, json};

use self::schema::Described;
pub use self::{
    asyncapi::asyncapi,
    channel::{Channel, Message, whole},
    schema::json_schema,
    typescript::typescript,
};
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
    /// Its JSON Schema.
    pub schema: Value,
    /// One sentence.
    pub doc: &'static str,
}

impl Field {
    pub(crate) fn new<T: Described>(rust_name: &str, optional: bool, doc: &'static str) -> Field {
        let typescript = T::inline(&ts_rs::Config::default().with_large_int("number"));
        Field { name: camel_case(rust_name), optional, typescript, schema: T::schema(), doc: doc.trim() }
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
                    on_one_line(&f.typescript).replace('|', "\\|")
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

/// Without comments and ends of lines, neither of which a table has room for.
fn on_one_line(typescript: &str) -> String {
    let code = typescript.split("/**").map(|part| part.split_once("*/").map_or(part, |(_, code)| code));
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

pub fn rows() -> impl Iterator<Item = Row> {
    Kind::ALL.iter().map(|kind| kind.description())
}

/// As people read it, with a line's end at the end.
fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// A place within AsyncAPI's document.
fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

/// A message of one of its channels.
fn of_channel(channel: &str, message: &str) -> Value {
    reference(&format!("channels/{channel}/messages"), message)
}
