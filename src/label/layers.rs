//! JSON templates with layers, as the template pages send them: `{name, dimensions, layers, fieldStyles, …}`.
//!
//! Members that it does not know are left alone, for pages keep notes of their own in a document. What it knows is
//! checked, and refused with its place.

use serde_json::Value;

use super::{
    LabelError, LabelTemplate,
    codes::{self, Bars, LEVELS, Level, SYMBOLOGIES, Symbology},
    format::{Formats, Layout, TierFormat},
    limits::{DPI, MAX_LAYERS, SIDE_MM, SMALLEST_TEXT},
    picture::Picture,
    read::Node,
    rules::AutoMatch,
    style::{Conditional, Patch, Scale, Style, color, length},
    template::{Content, Field, Fit, Form, Kind, Layer, Part, PictureSource, Piece, Place, Rect, Source},
};

/// How far off the label a layer may lie, and how large it may be, in millimetres.
const REACH_MM: f32 = 1_000.0;
/// Characters of one fixed text.
const MAX_TEXT: usize = 2_000;
/// Values in one fixed text.
const MAX_PARTS: usize = 50;
/// Characters of a value's name.
const MAX_KEY: usize = 64;
/// Variables with a default.
const MAX_VARIABLES: usize = 100;
/// Characters of a picture's address; a data: address may be as long as the template.
const MAX_ADDRESS: usize = 2_000;
/// What the article number of a label begins with, unless told.
const ARTICLE_PREFIX: &str = "Art.Nr.: ";

/// Checks the document and takes it apart.
pub(super) fn parse(id: &str, source: &str) -> Result<LabelTemplate, LabelError> {
    let document: Value = document(source)?;
    let root = Node::root(&document).object()?;
    let outer = root.get("dimensions").map_or(Ok(root.clone()), Node::object)?;
    let dpi = match Node::first_of(&[&outer, &root], &["dpi"]) {
        None => 300,
        Some(found) => found.whole(DPI)?,
    };
    let unit = unit(&outer, dpi, 1.0)?;
    let side = |key| length(&outer.need(key)?, unit, SIDE_MM);
    let (width_mm, height_mm) = (side("width")?, side("height")?);
    let pixels = outer.get("unit").is_some_and(|unit| unit.value == "px");
    let pixel = 25.4 / dpi as f32;
    let scale = if pixels { Scale { font: pixel, edge: pixel } } else { Scale::PRINT };

    let shared = Shared { root: &root, scale, fields: field_styles(&root, scale)? };
    let layers = in_order(&root, "layers", &["order"], |node| shared.layer(node, dpi, unit))?;
    template(id, source, Kind::Layers, &root, (width_mm, height_mm), dpi, layers)
}

/// The layers in a list of the document, the lowest first; one that is not visible is checked and left out.
pub(super) fn in_order(
    root: &Node,
    list: &str,
    order: &[&str],
    read: impl Fn(&Node) -> Result<Layer, LabelError>,
) -> Result<Vec<Layer>, LabelError> {
    let nodes = match root.get(list) {
        None => Vec::new(),
        Some(list) => list.list(MAX_LAYERS)?,
    };
    let mut layers = Vec::new();
    for (at, node) in nodes.into_iter().enumerate() {
        let node = node.object()?;
        let order = node.first(order).map_or(Ok(at as f32), |found| found.number(-1e6..=1e6))?;
        let visible = node.get("visible").map_or(Ok(true), |found| found.flag())?;
        let layer = read(&node)?;
        if visible {
            layers.push((order, layer));
        }
    }
    layers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

/// The template of a document whose size in millimetres and layers are known.
pub(super) fn template(
    id: &str,
    source: &str,
    kind: Kind,
    root: &Node,
    (width_mm, height_mm): (f32, f32),
    dpi: u32,
    layers: Vec<Layer>,
) -> Result<LabelTemplate, LabelError> {
    Ok(LabelTemplate {
        id: id.to_owned(),
        name: name(root, id)?,
        kind,
        width_mm,
        height_mm,
        dpi,
        pieces: pieces(root, (width_mm, height_mm), layers)?,
        defaults: defaults(root)?,
        auto_match: AutoMatch::read(root)?,
        source: source.to_owned(),
    })
}

/// The JSON of a template; nesting is limited by the reader.
pub(super) fn document(source: &str) -> Result<Value, LabelError> {
    serde_json::from_str(source).map_err(|error| LabelError::Place {
        place: "the template".into(),
        problem: format!("is no JSON: {error}"),
    })
}

fn name(root: &Node, id: &str) -> Result<String, LabelError> {
    let name = root.get("name").map(|found| found.text(200)).transpose()?;
    Ok(name
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| id.to_owned()))
}

/// The page, its background and its layers.
fn pieces(root: &Node, (width, height): (f32, f32), layers: Vec<Layer>) -> Result<Vec<Piece>, LabelError> {
    let global = root.get("globalStyles").map(Node::object).transpose()?;
    let places: Vec<&Node> = global.iter().chain([root]).collect();
    let background = Node::first_of(&places, &["backgroundColor"]).map(|found| color(&found)).transpose()?;
    let background = background.flatten().unwrap_or_else(|| "#ffffff".into());
    let head = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" viewBox="0 0 {width} {height}"><rect width="{width}" height="{height}" fill="{background}"/>"#
    );
    let mut pieces = vec![Piece::Svg(head)];
    pieces.extend(layers.into_iter().map(|layer| Piece::Layer(Box::new(layer))));
    pieces.push(Piece::Svg("</svg>".into()));
    Ok(pieces)
}

fn defaults(root: &Node) -> Result<Vec<(String, String)>, LabelError> {
    let Some(variables) = root.get("variables") else { return Ok(Vec::new()) };
    let mut defaults = Vec::new();
    for variable in variables.list(MAX_VARIABLES)? {
        // A bare name has no default.
        if variable.value.is_string() {
            variable.text(MAX_KEY)?;
            continue;
        }
        let name = variable.clone().object()?.first(&["name", "key"]);
        let name = name.ok_or_else(|| variable.wrong("needs a name"))?.text(MAX_KEY)?;
        if let Some(value) = variable.first(&["defaultValue", "default", "value"])
            && (value.value.is_string() || value.value.is_number())
        {
            defaults.push((name, value.text(MAX_TEXT)?));
        }
    }
    Ok(defaults)
}

/// Millimetres of one unit.
fn unit(node: &Node, dpi: u32, default: f32) -> Result<f32, LabelError> {
    let Some(unit) = node.get("unit") else { return Ok(default) };
    let words = [("mm", 1.0), ("cm", 10.0), ("inch", 25.4), ("in", 25.4), ("px", 25.4 / dpi as f32)];
    unit.word(&words)
}

const FIELD_TYPES: [(&str, Option<Field>); 8] = [
    ("articleNumber", Some(Field::ArticleNumber)),
    ("productName", Some(Field::ProductName)),
    ("price", Some(Field::Price)),
    ("tieredPrice", Some(Field::TieredPrice)),
    ("tieredPrices", Some(Field::TieredPrice)),
    ("ean", Some(Field::Ean)),
    ("description", Some(Field::Description)),
    ("custom", None),
];

/// `fieldStyles`: a list of `{fieldType, style}`, the style's members may stand outside; or an object by field.
fn field_styles(root: &Node, scale: Scale) -> Result<Vec<(Field, Patch)>, LabelError> {
    let Some(styles) = root.get("fieldStyles") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if let Value::Object(by_field) = styles.value {
        for key in by_field.keys().take(MAX_LAYERS) {
            if let (Some(field), Some(node)) = (Field::of_key(key), styles.get(key)) {
                found.push((field, Patch::read(&node.get("style").unwrap_or(node), scale)?));
            }
        }
        return Ok(found);
    }
    for node in styles.list(MAX_LAYERS)? {
        let node = node.object()?;
        let field = node.first(&["fieldType", "field", "dataField"]);
        let field = field.ok_or_else(|| node.wrong("needs a fieldType"))?.word(&FIELD_TYPES)?;
        if let Some(field) = field {
            found.push((field, Patch::read(&node.get("style").unwrap_or(node), scale)?));
        }
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Type {
    Text,
    Image,
    Qr,
    Barcode,
    Shape,
    Dynamic,
}

/// What all layers of a document have in common.
struct Shared<'a> {
    root: &'a Node<'a>,
    scale: Scale,
    fields: Vec<(Field, Patch)>,
}

impl Shared<'_> {
    fn layer(&self, node: &Node, dpi: u32, document_unit: f32) -> Result<Layer, LabelError> {
        let kind = node.need("type")?.word(&[
            ("text", Type::Text),
            ("image", Type::Image),
            ("qrcode", Type::Qr),
            ("barcode", Type::Barcode),
            ("shape", Type::Shape),
            ("dynamic-text", Type::Dynamic),
        ])?;
        let empty = Value::Object(Default::default());
        let properties = match node.get("properties") {
            Some(found) => found.object()?,
            None => Node { value: &empty, place: format!("{}.properties", node.place) },
        };
        let position = node.get("position").map_or(Ok(node.clone()), Node::object)?;
        let size = node.get("size").map_or(Ok(node.clone()), Node::object)?;
        let (position_unit, size_unit) =
            (unit(&position, dpi, document_unit)?, unit(&size, dpi, document_unit)?);
        let along = |key| {
            position.get(key).map_or(Ok(0.0), |found| length(&found, position_unit, -REACH_MM..=REACH_MM))
        };
        let side = |key| length(&size.need(key)?, size_unit, 0.0..=REACH_MM);
        let rect = Rect { x: along("x")?, y: along("y")?, width: side("width")?, height: side("height")? };

        let places = [&properties, node];
        let field = field(&places)?;
        let content = match kind {
            Type::Text => Content::Text(fixed_text(&places)?),
            Type::Dynamic => {
                let source = source(&places, field)?;
                let source = source.ok_or_else(|| properties.wrong("needs a fieldType or a dataField"))?;
                match source {
                    Source::Field(Field::TieredPrice) if wants_table(&places) => Content::Table,
                    source => Content::Text(source),
                }
            }
            Type::Image => picture(&places)?,
            Type::Qr => qr(&places)?,
            Type::Barcode => bars(&places)?,
            Type::Shape => Content::Shape(Form::Rectangle),
        };
        let shown = match &content {
            Content::Text(Source::Field(field)) => Some(*field),
            Content::Table => Some(Field::TieredPrice),
            Content::Text(Source::Key(_)) => field,
            _ => None,
        };
        let mut style = Style::of(shown, Scale::PRINT);
        if let Some(global) = self.root.get("globalStyles") {
            style = style.with(&Patch::read(&global, self.scale)?.of_text());
        }
        for (_, patch) in self.fields.iter().filter(|(styled, _)| shown == Some(*styled)) {
            style = style.with(patch);
        }
        let own = properties.get("style").map(Node::object).transpose()?;
        let outer = node.get("style").map(Node::object).transpose()?;
        let mut told = false;
        for place in [Some(&properties), own.as_ref(), outer.as_ref()].into_iter().flatten() {
            let patch = Patch::read(place, self.scale)?;
            told |= patch.is_aligned();
            style = style.with(&patch);
        }
        let conditional: Vec<&Node> =
            [Some(node), Some(&properties), own.as_ref(), outer.as_ref()].into_iter().flatten().collect();
        let conditional = Conditional::read_all(&conditional, self.scale)?;

        let mut formats = formats(shown);
        let of = shown.map_or("custom", Field::name);
        if let Some(options) = self.root.get("formattingOptions") {
            formats = formats.with(&options.object()?, of)?;
        }
        for place in places {
            if let Some(options) = place.first(&["formatting", "formattingOptions"]) {
                formats = formats.with(&options.object()?, of)?;
            }
        }
        let mut layer = Layer {
            place: node.place.clone(),
            name: label(node)?,
            rect,
            rotation: turn(node)?,
            opacity: Node::first_of(&places, &["opacity"])
                .map_or(Ok(1.0), |found| found.number(0.0..=1.0))?,
            content,
            style,
            conditional,
            formats,
        };
        if let Type::Shape = kind {
            shape(&mut layer, &places)?;
        }
        check_size(&layer, &format!("{}.size", node.place))?;
        Ok(layer.centred(told))
    }
}

/// How values are written unless the document says otherwise.
pub(super) fn formats(field: Option<Field>) -> Formats {
    let prefix = if field == Some(Field::ArticleNumber) { ARTICLE_PREFIX } else { "" };
    let tiers = TierFormat { layout: Layout::Joined, ..TierFormat::default() };
    Formats { prefix: prefix.into(), tiers, ..Formats::default() }
}

/// What a warning calls the layer.
pub(super) fn label(node: &Node) -> Result<String, LabelError> {
    match node.first(&["name", "id"]) {
        Some(found) => Ok(format!("\"{}\"", found.text(200)?)),
        None => Ok(node.place.clone()),
    }
}

pub(super) fn turn(node: &Node) -> Result<f32, LabelError> {
    node.get("rotation")
        .map_or(Ok(0.0), |found| found.number(-3600.0..=3600.0))
        .map(|degrees| degrees % 360.0)
}

/// A box must be large enough for what it is to show.
pub(super) fn check_size(layer: &Layer, place: &str) -> Result<(), LabelError> {
    let (width, height) = (layer.rect.width, layer.rect.height);
    let small = |side: &str, problem: String| LabelError::Place { place: format!("{place}.{side}"), problem };
    let lowest = match layer.content {
        Content::Text(_) | Content::Table => SMALLEST_TEXT * 1.2,
        Content::Shape(_) => 0.0,
        Content::Bars { .. } | Content::Qr { .. } | Content::Picture { .. } => 1.0,
    };
    if height < lowest - 0.001 {
        return Err(small("height", format!("is {height:.2} mm; it must be {lowest} mm at the least")));
    }
    if width < lowest.min(1.0) {
        return Err(small("width", format!("is {width:.2} mm; it must be 1 mm at the least")));
    }
    Ok(())
}

/// Which known field a layer shows.
fn field(places: &[&Node]) -> Result<Option<Field>, LabelError> {
    match Node::first_of(places, &["fieldType"]) {
        Some(found) => found.word(&FIELD_TYPES),
        None => Ok(None),
    }
}

/// What a layer shows of the data: the value that `dataField` names, else the field of its type.
fn source(places: &[&Node], field: Option<Field>) -> Result<Option<Source>, LabelError> {
    let key = match Node::first_of(places, &["dataField", "field"]) {
        Some(found) => {
            let key = found.text(MAX_KEY)?;
            let key = key.trim().trim_start_matches("{{").trim_end_matches("}}").trim().to_owned();
            Some(key).filter(|key| !key.is_empty())
        }
        None => None,
    };
    Ok(match (key, field) {
        (None, field) => field.map(Source::Field),
        (Some(key), _) => Some(Field::of_key(&key).map_or(Source::Key(key), Source::Field)),
    })
}

fn wants_table(places: &[&Node]) -> bool {
    let formatting = places.iter().find_map(|place| place.get("formatting"));
    let layout = formatting.as_ref().and_then(|formatting| formatting.first(&["layout", "orientation"]));
    layout.is_some_and(|layout| layout.value == "table") || Node::first_of(places, &["tableConfig"]).is_some()
}

fn fixed_text(places: &[&Node]) -> Result<Source, LabelError> {
    match Node::first_of(places, &["text", "content", "value", "staticText"]) {
        Some(found) => Ok(Source::Text(parts(&found)?)),
        // One that shows a value is a text too.
        None => Ok(source(places, field(places)?)?.unwrap_or(Source::Text(Vec::new()))),
    }
}

/// Splits `{{price}} je Stück` at its values.
pub(super) fn parts(node: &Node) -> Result<Vec<Part>, LabelError> {
    let text = node.text(MAX_TEXT)?;
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((key, after)) = after.split_once("}}") else { break };
        if !before.is_empty() {
            parts.push(Part::Words(before.to_owned()));
        }
        if key.trim().is_empty() || key.len() > MAX_KEY {
            return Err(node.wrong(format!(
                "has a value between {{{{ and }}}} whose name is empty or longer than {MAX_KEY} bytes"
            )));
        }
        parts.push(Part::Value(key.trim().to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Words(rest.to_owned()));
    }
    if parts.len() > MAX_PARTS {
        return Err(node.wrong(format!("has more than {MAX_PARTS} parts")));
    }
    Ok(parts)
}

/// The whole of a text without values.
fn fixed(parts: &[Part]) -> Option<String> {
    let words = parts.iter().map(|part| match part {
        Part::Words(words) => Some(words.as_str()),
        Part::Value(_) => None,
    });
    words.collect()
}

pub(super) fn qr(places: &[&Node]) -> Result<Content, LabelError> {
    let level = Node::first_of(places, &["errorCorrectionLevel", "errorCorrection", "level"]);
    let level = level.map_or(Ok(Level::M), |found| found.word(&LEVELS))?;
    let source = match source(places, field(places)?)? {
        Some(source) => Some(source),
        None => match Node::first_of(places, &["data", "content", "value", "text", "url"]) {
            None => None,
            Some(found) => {
                let parts = parts(&found)?;
                if let Some(text) = fixed(&parts)
                    && codes::qr(&text, level).is_none()
                {
                    return Err(found.wrong("is too long for a QR code"));
                }
                Some(Source::Text(parts))
                    .filter(|source| !matches!(source, Source::Text(parts) if parts.is_empty()))
            }
        },
    };
    Ok(Content::Qr { source, level })
}

pub(super) fn bars(places: &[&Node]) -> Result<Content, LabelError> {
    let symbology = Node::first_of(places, &["format", "barcodeType", "symbology", "barcodeFormat"]);
    let symbology = symbology.map_or(Ok(None), |found| found.word(&SYMBOLOGIES))?;
    let digits = Node::first_of(places, &["showText", "displayValue", "includeText"]);
    let digits = digits.map_or(Ok(true), |found| found.flag())?;
    let source = match source(places, field(places)?)? {
        Some(source) => source,
        None => match Node::first_of(places, &["data", "content", "value", "text"]) {
            Some(found) => {
                let parts = parts(&found)?;
                if let Some(text) = fixed(&parts).filter(|text| !text.is_empty()) {
                    Bars::of(symbology, &text).map_err(|why| found.wrong(format!("is no code: {why}")))?;
                }
                Source::Text(parts)
            }
            None => Source::Field(match symbology {
                Some(Symbology::Code128 | Symbology::Code39) => Field::ArticleNumber,
                _ => Field::Ean,
            }),
        },
    };
    Ok(Content::Bars { symbology, source, digits })
}

pub(super) fn picture(places: &[&Node]) -> Result<Content, LabelError> {
    let fit = Node::first_of(places, &["fit", "objectFit"]);
    let fit = fit.map_or(Ok(Fit::Contain), |found| {
        found.word(&[
            ("contain", Fit::Contain),
            ("cover", Fit::Cover),
            ("fill", Fit::Fill),
            ("stretch", Fit::Fill),
            ("none", Fit::Contain),
            ("scale-down", Fit::Contain),
        ])
    })?;
    let named = Node::first_of(places, &["src", "url", "imageUrl", "content", "data"]);
    let named = named.filter(|found| found.value != "");
    let source = match named {
        Some(found) => {
            let text = found.value.as_str().ok_or_else(|| found.wrong("must be a text"))?.trim();
            if text.starts_with("data:") {
                PictureSource::Own(Picture::of_data_url(text).map_err(|why| found.wrong(why))?)
            } else if let Some(key) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
                PictureSource::Key(key.trim().chars().take(MAX_KEY).collect())
            } else {
                let address = found.text(MAX_ADDRESS)?.trim().to_owned();
                let http = address.starts_with("https://") || address.starts_with("http://");
                // A path of a file, or of another protocol, is nothing that may be looked at.
                if !(http || address.starts_with('/') && !address.starts_with("//")) || address.contains("..")
                {
                    return Err(found.wrong(
                        "must be a data: address of a PNG or JPEG picture, or the address of an object of this server",
                    ));
                }
                PictureSource::Address(address)
            }
        }
        None => match source(places, None)? {
            Some(Source::Key(key)) => PictureSource::Key(key),
            Some(Source::Field(field)) => PictureSource::Key(field.name().into()),
            _ => PictureSource::Key("imageUrl".into()),
        },
    };
    Ok(Content::Picture { source, fit })
}

fn shape(layer: &mut Layer, places: &[&Node]) -> Result<(), LabelError> {
    #[derive(Clone, Copy)]
    enum Named {
        Rectangle,
        Circle,
        Ellipse,
        Line,
    }
    let named = Node::first_of(&places[..1], &["shape", "shapeType", "type", "kind"]);
    let named = named.map_or(Ok(Named::Rectangle), |found| {
        found.word(&[
            ("rectangle", Named::Rectangle),
            ("rect", Named::Rectangle),
            ("square", Named::Rectangle),
            ("circle", Named::Circle),
            ("ellipse", Named::Ellipse),
            ("line", Named::Line),
        ])
    })?;
    let form = match named {
        Named::Rectangle => Form::Rectangle,
        Named::Line => Form::Line,
        Named::Ellipse => Form::Ellipse,
        Named::Circle => {
            let Rect { x, y, width, height } = layer.rect;
            let side = width.min(height);
            let (x, y) = (x + (width - side) / 2.0, y + (height - side) / 2.0);
            layer.rect = Rect { x, y, width: side, height: side };
            Form::Ellipse
        }
    };
    layer.content = Content::Shape(form);
    let style = &mut layer.style;
    if style.background.is_none() && style.border_color.is_none() && form != Form::Line {
        style.border_color = Some("#000000".into());
    }
    if style.border_color.is_some() && style.border_width == 0.0 {
        style.border_width = Scale::PRINT.edge;
    }
    Ok(())
}

impl Layer {
    /// Codes and pictures stand in the middle of their box unless told.
    pub(super) fn centred(mut self, told: bool) -> Layer {
        if !told && matches!(self.content, Content::Bars { .. } | Content::Qr { .. }) {
            self.style.align = Place::Middle;
        }
        self
    }
}
