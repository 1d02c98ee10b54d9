//! JSON of the visual editor: elements in the pixels of its canvas, and the size of the label in millimetres.

use super::{
    LabelError, LabelTemplate,
    layers::{bars, check_size, document, formats, in_order, label, parts, picture, qr, template, turn},
    limits::{DPI, SIDE_MM},
    read::Node,
    style::{Conditional, Patch, Scale, Style, length},
    template::{Content, Field, Kind, Layer, Rect, Source},
};

/// Pixels of the canvas's sides.
const CANVAS: std::ops::RangeInclusive<f32> = 10.0..=20_000.0;
/// How far off the label an element may lie, and how large it may be, in millimetres.
const REACH_MM: f32 = 1_000.0;
/// A canvas that is coarser than this, in pixels per inch, says nothing of the printer.
const FINE: f32 = 200.0;

#[derive(Clone, Copy)]
enum Type {
    Text,
    Image,
    Qr,
    Barcode,
    Table,
    Field(Field),
}

const TYPES: [(&str, Type); 10] = [
    ("text", Type::Text),
    ("image", Type::Image),
    ("price", Type::Field(Field::Price)),
    ("priceTable", Type::Table),
    ("articleNumber", Type::Field(Field::ArticleNumber)),
    ("qrCode", Type::Qr),
    ("description", Type::Field(Field::Description)),
    ("productName", Type::Field(Field::ProductName)),
    ("ean", Type::Field(Field::Ean)),
    ("barcode", Type::Barcode),
];

/// Checks the document and takes it apart.
pub(super) fn parse(id: &str, source: &str) -> Result<LabelTemplate, LabelError> {
    let document = document(source)?;
    let root = Node::root(&document).object()?;
    let (width_px, height_px) = (root.need("width")?.number(CANVAS)?, root.need("height")?.number(CANVAS)?);
    let width_mm = length(&root.need("widthMm")?, 1.0, SIDE_MM)?;
    let height_mm = length(&root.need("heightMm")?, 1.0, SIDE_MM)?;
    let (across, down) = (width_mm / width_px, height_mm / height_px);
    let own = 25.4 / across;
    let dpi = match root.get("dpi") {
        Some(found) => found.whole(DPI)?,
        None if own >= FINE => (own.round() as u32).clamp(*DPI.start(), *DPI.end()),
        None => 300,
    };
    let layers = in_order(&root, "elements", &["zIndex", "order"], |node| element(node, across, down))?;
    template(id, source, Kind::Editor, &root, (width_mm, height_mm), dpi, layers)
}

fn element(node: &Node, across: f32, down: f32) -> Result<Layer, LabelError> {
    let kind = node.need("type")?.word(&TYPES)?;
    let along = |key: &str, unit| length(&node.need(key)?, unit, -REACH_MM..=REACH_MM);
    let side = |key: &str, unit| length(&node.need(key)?, unit, 0.0..=REACH_MM);
    let rect = Rect {
        x: along("x", across)?,
        y: along("y", down)?,
        width: side("width", across)?,
        height: side("height", down)?,
    };
    let table = node.get("tableConfig").filter(|found| found.value.is_object());
    let content = match kind {
        Type::Text => Content::Text(Source::Text(node.get("content").map_or(Ok(Vec::new()), |c| parts(&c))?)),
        Type::Image => picture(&[node])?,
        Type::Qr => qr(&[node])?,
        Type::Barcode => bars(&[node])?,
        Type::Table => Content::Table,
        // Without a value in it the content is only what the editor shows.
        Type::Field(field) => match node.get("content") {
            Some(found) if found.value.as_str().is_some_and(|text| text.contains("{{")) => {
                Content::Text(Source::Text(parts(&found)?))
            }
            _ => Content::Text(Source::Field(field)),
        },
    };
    let shown = match &content {
        Content::Text(Source::Field(field)) => Some(*field),
        Content::Table => Some(Field::TieredPrice),
        _ => None,
    };
    let scale = Scale { font: down, edge: down };
    let patch = Patch::read(node, scale)?;
    let told = patch.is_aligned();
    let mut style = Style::of(shown, Scale::PRINT).with(&patch);
    if let Some(table) = &table {
        style = style.with(&Patch::read(table, scale)?);
    }
    let layer = Layer {
        place: node.place.clone(),
        name: label(node)?,
        rect,
        rotation: turn(node)?,
        opacity: node.get("opacity").map_or(Ok(1.0), |found| found.number(0.0..=1.0))?,
        content,
        style,
        conditional: Conditional::read_all(&[node], scale)?,
        formats: match node.get("formatting") {
            Some(options) => formats(shown).with(&options.object()?, shown.map_or("custom", Field::name))?,
            None => formats(shown),
        },
    };
    check_size(&layer, &node.place)?;
    Ok(layer.centred(told))
}
