//! The payloads as JSON Schema (2020-12).

use serde_json::{Map, Value, json};
use ts_rs::TS;
use utoipa::PartialSchema;
use uuid::Uuid;

use super::{Row, rows};
use crate::event::{Anything, Class, JobType, Kind, LogLevel, MatchType, OcrData, Severity};

/// A type of a payload's field.
pub trait Described: TS {
    fn schema() -> Value;
}

macro_rules! described {
    ($($type:ty => $schema:tt,)*) => { $(
        impl Described for $type {
            fn schema() -> Value {
                json!($schema)
            }
        }
    )* };
}

described! {
    String => { "type": "string" },
    bool => { "type": "boolean" },
    u8 => { "type": "integer", "minimum": 0, "maximum": u8::MAX },
    u32 => { "type": "integer", "minimum": 0, "maximum": u32::MAX },
    u64 => { "type": "integer", "minimum": 0 },
    f64 => { "type": "number" },
    Uuid => { "type": "string", "format": "uuid" },
    Anything => { "type": "object" },
}

macro_rules! derived {
    ($($type:ty)*) => { $(
        impl Described for $type {
            fn schema() -> Value {
                let mut schema =
                    serde_json::to_value(<$type as PartialSchema>::schema()).unwrap_or(Value::Bool(true));
                never_null(&mut schema);
                schema
            }
        }
    )* };
}

derived! { JobType LogLevel MatchType Severity OcrData }

/// A field that has nothing to say is absent, never `null`; which a derived schema cannot know.
fn never_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    fields.insert("type".into(), only);
                }
            }
            fields.values_mut().for_each(never_null);
        }
        Value::Array(items) => items.iter_mut().for_each(never_null),
        _ => {}
    }
}

/// One payload.
pub(super) fn payload(row: &Row) -> Value {
    let mut properties = Map::new();
    let mut required = vec!["timestamp"];
    if row.kind.class() != Class::Notice {
        properties.insert("jobId".into(), json!({ "type": "string", "format": "uuid" }));
        required.insert(0, "jobId");
    }
    properties.insert("timestamp".into(), timestamp());
    for field in &row.fields {
        let mut schema = field.schema.clone();
        schema["description"] = field.doc.into();
        properties.insert(field.name.clone(), schema);
        if !field.optional {
            required.push(&field.name);
        }
    }
    json!({ "description": row.doc, "type": "object", "required": required, "properties": properties })
}

/// One payload of a worker's own event.
pub(super) fn free() -> Value {
    json!({
        "description": "An event of a worker's own: its fields are the worker's.",
        "type": "object",
        "required": ["jobId", "timestamp"],
        "properties": { "jobId": { "type": "string", "format": "uuid" }, "timestamp": timestamp() },
    })
}

fn timestamp() -> Value {
    json!({ "type": "string", "format": "date-time", "description": "ISO 8601, UTC, milliseconds." })
}

/// Every payload under `$defs`; the document itself describes an event as REST, event streams and webhooks show it: its
/// name (`event`, in webhooks `type`) and its payload (`data`).
pub fn json_schema() -> String {
    let mut payloads = Map::new();
    let mut rules = Vec::new();
    for row in rows() {
        payloads.insert(row.type_name.into(), payload(&row));
        rules.push(rule(&json!({ "const": row.kind.wire_name() }), row.type_name));
    }
    payloads.insert("FreeEvent".into(), free());
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.wire_name()).collect();
    rules.push(rule(&json!({ "not": { "enum": known } }), "FreeEvent"));
    let name = json!({ "type": "string", "pattern": "^[^:]+:[^:]+$" });
    let document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Jobcast's events",
        "description": "An event as REST, event streams and webhooks show it; $defs has the payloads, which are what Socket.IO pages get.",
        "type": "object",
        "required": ["data"],
        "oneOf": [{ "required": ["event"] }, { "required": ["type"] }],
        "properties": { "event": name, "type": name, "data": { "type": "object" } },
        "allOf": rules,
        "$defs": payloads,
    });
    super::pretty(&document)
}

/// A name's payload.
fn rule(name: &Value, definition: &str) -> Value {
    json!({
        "if": { "anyOf": [
            { "required": ["event"], "properties": { "event": name } },
            { "required": ["type"], "properties": { "type": name } },
        ] },
        "then": { "properties": { "data": { "$ref": format!("#/$defs/{definition}") } } },
    })
}
