//! Templates as the pages read and write them, and as they are stored. Pure.

use axum::http::StatusCode;
use chrono::Utc;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{bad, refused};
use crate::{
    dialects::label_printer::answer::Refusal,
    event::format_timestamp,
    label::{AUTOMATIC, Kind, LabelTemplate},
    store::{Blobs, Template},
};

type Document = Map<String, Value>;

/// Longest id.
const MAX_ID: usize = 100;
/// Longest description.
const MAX_DESCRIPTION: usize = 2_000;
/// Members that the server writes itself.
const OURS: [&str; 5] = ["kind", "builtIn", "createdAt", "updatedAt", "success"];
/// What the pages call the failure of a template.
pub const UNSOUND: &str = "Invalid template";

/// The kind that a document is written in.
pub fn kind(document: &Document) -> Kind {
    if document.contains_key("svg") {
        Kind::Svg
    } else if document.contains_key("elements") || document.contains_key("widthMm") {
        Kind::Editor
    } else {
        Kind::Layers
    }
}

/// Checks a document and makes a row of it, with this id or with its own.
pub fn read(mut document: Document, id: Option<&str>, blobs: &Blobs) -> Result<Template, Refusal> {
    let id = match (id, document.get("id")) {
        (Some(id), _) => id.to_owned(),
        (None, None | Some(Value::Null)) => Uuid::new_v4().to_string(),
        (None, Some(Value::String(id))) if id.is_empty() => Uuid::new_v4().to_string(),
        (None, Some(Value::String(id))) => checked_id(id)?,
        (None, Some(Value::Number(id))) => checked_id(&id.to_string())?,
        (None, Some(_)) => return Err(bad("id must be a text.")),
    };
    OURS.iter().for_each(|key| drop(document.shift_remove(*key)));
    document.insert("id".into(), id.clone().into());
    let kind = kind(&document);
    let description = match document.get("description") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.chars().count() <= MAX_DESCRIPTION && !text.contains('\0') => {
            Some(text.clone()).filter(|text| !text.is_empty())
        }
        Some(_) => {
            return Err(bad(format!("description must be a text of at most {MAX_DESCRIPTION} characters.")));
        }
    };
    let source = match kind {
        Kind::Svg => match document.get("svg") {
            Some(Value::String(svg)) if !svg.contains('\0') => svg.clone(),
            _ => return Err(bad("svg must be a text.")),
        },
        Kind::Layers | Kind::Editor => Value::Object(document.clone()).to_string(),
    };
    let parsed = LabelTemplate::of(&id, kind, &source).map_err(|error| refused(UNSOUND, &error))?;
    check_pictures(&parsed, blobs)?;
    let named = document.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
    let name = named.unwrap_or(parsed.name()).to_owned();
    if name.chars().count() > 200 || name.contains('\0') {
        return Err(bad("name must have at most 200 characters."));
    }
    let (width_mm, height_mm) = parsed.size_mm();
    let now = Utc::now();
    Ok(Template {
        id,
        name,
        description,
        width_mm: width_mm.into(),
        height_mm: height_mm.into(),
        dpi: parsed.dpi() as i32,
        kind: kind.word().into(),
        auto_match: parsed.auto_match().is_candidate(),
        source,
        built_in: false,
        created_at: now,
        updated_at: now,
    })
}

fn checked_id(id: &str) -> Result<String, Refusal> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if id.len() > MAX_ID || id.is_empty() || !id.chars().all(fine) || id.starts_with('.') {
        return Err(bad(format!("id must have 1 to {MAX_ID} letters, digits and - _ . : only.")));
    }
    Ok(id.to_owned())
}

/// A template may show pictures of our own object store, and no others.
pub fn check_pictures(template: &LabelTemplate, blobs: &Blobs) -> Result<(), Refusal> {
    let mut addresses = template.picture_addresses();
    match addresses.find(|(_, address)| blobs.key_of(address).is_none()) {
        None => Ok(()),
        Some((place, _)) => Err(Refusal::because(
            StatusCode::BAD_REQUEST,
            UNSOUND,
            format!(
                "{place} lies elsewhere; use a data: address, or the address of an object of this server"
            ),
        )),
    }
}

/// The soundness of what is stored was looked at when it was written.
pub fn parse(template: &Template) -> Result<LabelTemplate, Refusal> {
    LabelTemplate::stored(&template.id, &template.kind, &template.source)
        .map_err(|error| refused(UNSOUND, &error))
}

/// A template as the pages read it: its document, with what each of them looks for.
pub fn shown(template: &Template) -> Value {
    let mut shown = Document::new();
    shown.insert("id".into(), template.id.clone().into());
    shown.insert("name".into(), template.name.clone().into());
    shown.insert("description".into(), template.description.clone().unwrap_or_default().into());
    let source = match template.kind.as_str() {
        "svg" => json!({ "svg": template.source }),
        _ => serde_json::from_str(&template.source).unwrap_or_else(|_| json!({})),
    };
    if let Value::Object(source) = source {
        for (key, value) in source {
            shown.entry(key).or_insert(value);
        }
    }
    let dimensions = json!({
        "width": template.width_mm,
        "height": template.height_mm,
        "unit": "mm",
        "dpi": template.dpi,
    });
    for (key, value) in [
        ("version", json!("1.0.0")),
        ("dimensions", dimensions),
        ("layers", json!([])),
        ("fieldStyles", json!([])),
        ("formattingOptions", json!({})),
        ("globalStyles", json!({})),
        ("variables", json!([])),
        ("settings", json!({})),
    ] {
        shown.entry(key).or_insert(value);
    }
    shown.insert("kind".into(), template.kind.clone().into());
    shown.insert("builtIn".into(), template.built_in.into());
    shown.insert("automatic".into(), (template.id == AUTOMATIC).into());
    shown.insert("createdAt".into(), format_timestamp(template.created_at).into());
    shown.insert("updatedAt".into(), format_timestamp(template.updated_at).into());
    Value::Object(shown)
}

/// A stored template's document with what a change says; members that the change leaves out stay.
pub fn changed(template: &Template, change: Document) -> Document {
    let mut document = match template.kind.as_str() {
        "svg" => {
            let mut document = Document::new();
            document.insert("svg".into(), template.source.clone().into());
            document.insert("name".into(), template.name.clone().into());
            document.insert("description".into(), template.description.clone().into());
            document
        }
        _ => serde_json::from_str(&template.source).unwrap_or_default(),
    };
    // A page that was shown an SVG sends back the empty members that it was shown with it.
    let svg = template.kind == "svg";
    let given = change.into_iter().filter(|(key, _)| key != "id" && !(svg && key == "elements"));
    document.extend(given);
    document
}

/// The editor's elements as layers in millimetres; layers stay as they are.
pub fn converted(document: &Document) -> Document {
    if kind(document) != Kind::Editor {
        return document.clone();
    }
    let number = |value: Option<&Value>| value.and_then(Value::as_f64).unwrap_or(0.0);
    let (across, down) = (
        number(document.get("widthMm")) / number(document.get("width")).max(1.0),
        number(document.get("heightMm")) / number(document.get("height")).max(1.0),
    );
    let round = |mm: f64| (mm * 1000.0).round() / 1000.0;
    let elements = document.get("elements").and_then(Value::as_array).cloned().unwrap_or_default();
    let layers: Vec<Value> = elements
        .iter()
        .enumerate()
        .map(|(at, element)| {
            let word = element["type"].as_str().unwrap_or_default();
            let mut properties = Document::new();
            let (kind, field) = match word {
                "text" => ("text", None),
                "image" => ("image", None),
                "qrCode" => ("qrcode", None),
                "barcode" => ("barcode", None),
                "priceTable" => ("dynamic-text", Some("tieredPrice")),
                other => ("dynamic-text", Some(other)),
            };
            let skipped =
                ["id", "type", "x", "y", "width", "height", "rotation", "visible", "zIndex", "fontSize"];
            for (key, value) in element.as_object().into_iter().flatten() {
                let sample = field.is_some() && key == "content";
                if !skipped.contains(&key.as_str()) && !sample {
                    properties.insert(key.clone(), value.clone());
                }
            }
            if let Some(size) = element["fontSize"].as_f64() {
                properties.insert("fontSize".into(), format!("{}mm", round(size * down)).into());
            }
            if let Some(field) = field {
                properties.insert("fieldType".into(), field.into());
                properties.insert("dataField".into(), field.into());
            }
            if word == "priceTable" {
                properties.insert("formatting".into(), json!({ "layout": "table" }));
            }
            let place = |key: &str, unit: f64| round(number(element.get(key)) * unit);
            json!({
                "id": element.get("id").cloned().unwrap_or_else(|| format!("layer-{}", at + 1).into()),
                "name": word,
                "type": kind,
                "visible": element.get("visible").cloned().unwrap_or(true.into()),
                "locked": false,
                "order": element.get("zIndex").cloned().unwrap_or(at.into()),
                "position": { "x": place("x", across), "y": place("y", down), "unit": "mm" },
                "size": { "width": place("width", across), "height": place("height", down), "unit": "mm" },
                "rotation": element.get("rotation").cloned().unwrap_or(0.into()),
                "properties": properties,
            })
        })
        .collect();
    let mut converted = Document::new();
    for key in [
        "id",
        "name",
        "description",
        "rules",
        "autoMatchEnabled",
        "isDefault",
        "backgroundColor",
        "variables",
    ] {
        if let Some(value) = document.get(key) {
            converted.insert(key.into(), value.clone());
        }
    }
    let dpi = if across > 0.0 { (25.4 / across).round() } else { 300.0 };
    let dpi = if (200.0..=600.0).contains(&dpi) { dpi } else { 300.0 };
    converted.insert("version".into(), "1.0.0".into());
    converted.insert(
        "dimensions".into(),
        json!({
            "width": number(document.get("widthMm")),
            "height": number(document.get("heightMm")),
            "unit": "mm",
            "dpi": dpi as u32,
        }),
    );
    converted.insert("layers".into(), layers.into());
    converted
}
