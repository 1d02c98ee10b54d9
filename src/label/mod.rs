//! Draws price labels: a template (an SVG file with empty boxes) and a product become a PNG for the screen and a
//! vector PDF for the printer.
//!
//! Templates are data. The convention for their boxes is described where a designer looks first, at the top of
//! `config/labels/standard-label.svg`. Everything here is measured in millimetres; one user unit of a template is
//! one millimetre.
//!
//! SVG text neither wraps nor clips, so each text is shaped with the label's own font, wrapped, shrunk, and at last
//! cut with "…" before it is placed. The same template and data always give the same bytes: no clock, no random
//! id, so that a repeated run writes the same objects.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use barcoders::sym::ean13::EAN13;
use krilla::geom::Size as PdfSize;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt as _, SvgSettings};
use qrcode::{Color, EcLevel, QrCode};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::roxmltree::{Document, Node, ParsingOptions};
use resvg::usvg::{self, fontdb};
use rustybuzz::{Face, UnicodeBuffer};

use crate::product::{ProductFacts, is_ean13};

/// A template file may be this long, in bytes.
const MAX_TEMPLATE_BYTES: usize = 256 * 1024;
/// … hold this many elements and pieces of text,
const MAX_TEMPLATE_NODES: u32 = 4_000;
/// … nested this deep (the renderer recurses),
const MAX_TEMPLATE_DEPTH: usize = 32;
/// … have this many boxes,
const MAX_FIELDS: usize = 64;
/// … be between these lengths on each side, in millimetres (A3 is 420 high),
const SIDE_MM: std::ops::RangeInclusive<f32> = 5.0..=420.0;
/// … and ask for this many pixels per inch,
const DPI: std::ops::RangeInclusive<u32> = 72..=600;
/// … but not for more pixels in all than this.
const MAX_PIXELS: u64 = 20_000_000;

/// More of a value than this is never printed; longer ones are cut before they are measured.
const MAX_CHARS: usize = 600;
/// More tiers than this are left out, with a warning.
const MAX_TIERS: usize = 12;
/// Text that must not be cut shrinks down to this height in millimetres, and is left out below it.
const SMALLEST_TEXT: f32 = 1.0;
/// Scanners of shop counters need bars and modules of at least this width in millimetres.
const SMALLEST_MODULE: f32 = 0.25;
/// From one baseline to the next, in em.
const LEADING: f32 = 1.15;
/// The white margins that readers need, in modules: left and right of the bars, and around a QR code.
const EAN_QUIET: (usize, usize) = (11, 7);
const EAN_MODULES: usize = 95;
const QR_QUIET: usize = 4;

const DRAWN_ELEMENTS: [&str; 18] = [
    "svg",
    "g",
    "rect",
    "circle",
    "ellipse",
    "line",
    "polyline",
    "polygon",
    "path",
    "text",
    "tspan",
    "defs",
    "clipPath",
    "linearGradient",
    "radialGradient",
    "stop",
    "title",
    "desc",
];

/// Why a template cannot be used or a label could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("the label template has {bytes} bytes; make it smaller than {MAX_TEMPLATE_BYTES}")]
    TooLong { bytes: usize },
    #[error("the label template is no well-formed SVG: {0}")]
    Xml(String),
    #[error("the label template must have width and height in mm and a viewBox of the same numbers: {0}")]
    Page(String),
    #[error(
        "<{0}> is not allowed in a label template; the allowed elements are listed in standard-label.svg"
    )]
    Element(String),
    #[error("a label template must not refer to anything: remove {0}")]
    Reference(String),
    #[error("the label template's box \"{field}\": {problem}")]
    Field { field: String, problem: String },
    #[error(
        "the label template is nested deeper than {MAX_TEMPLATE_DEPTH} or has more than {MAX_FIELDS} boxes"
    )]
    TooComplex,
    #[error("the label could not be drawn: {0}")]
    Draw(String),
}

/// What a box of a template shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ArticleNumber,
    ProductName,
    Price,
    TieredPrice,
    Ean,
    Description,
    Barcode,
    QrCode,
    Code,
}

impl Field {
    const ALL: [(&str, Field); 9] = [
        ("articleNumber", Field::ArticleNumber),
        ("productName", Field::ProductName),
        ("price", Field::Price),
        ("tieredPrice", Field::TieredPrice),
        ("ean", Field::Ean),
        ("description", Field::Description),
        ("barcode", Field::Barcode),
        ("qrCode", Field::QrCode),
        ("code", Field::Code),
    ];

    fn named(name: &str) -> Result<Field, LabelError> {
        Field::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field).ok_or_else(|| {
            let known: Vec<&str> = Field::ALL.iter().map(|(known, _)| *known).collect();
            LabelError::Field {
                field: name.into(),
                problem: format!("no such field; there are {}", known.join(", ")),
            }
        })
    }

    fn name(self) -> &'static str {
        Field::ALL.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// Its name as people say it: `productName` is the product name.
    fn words(self) -> String {
        let spaced = self
            .name()
            .chars()
            .flat_map(|c| c.is_uppercase().then_some(' ').into_iter().chain(c.to_lowercase()));
        if self == Field::Ean { "EAN".into() } else { spaced.collect() }
    }

    fn is_text(self) -> bool {
        !matches!(self, Field::Barcode | Field::QrCode | Field::Code)
    }

    /// A cut name is still a name, but a cut price is another price.
    fn may_be_cut(self) -> bool {
        matches!(self, Field::ProductName | Field::Description)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Start,
    Middle,
    End,
}

impl Place {
    /// How much of the free room stands before the content.
    fn share(self) -> f32 {
        match self {
            Place::Start => 0.0,
            Place::Middle => 0.5,
            Place::End => 1.0,
        }
    }
}

/// One box of a template; lengths in millimetres.
#[derive(Clone, Debug)]
struct FieldBox {
    field: Field,
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    font_size: f32,
    min_font_size: f32,
    max_lines: usize,
    bold: bool,
    align: Place,
    valign: Place,
    color: String,
    prefix: String,
}

#[derive(Clone, Debug)]
enum Piece {
    /// Goes into the label as it stands.
    Svg(String),
    Field(FieldBox),
    /// There only when the product has (or has not) a value for the field.
    Only {
        field: Field,
        present: bool,
        pieces: Vec<Piece>,
    },
}

/// A template that was found to be sound.
#[derive(Clone, Debug)]
pub struct LabelTemplate {
    id: String,
    name: String,
    width_mm: f32,
    height_mm: f32,
    dpi: u32,
    pieces: Vec<Piece>,
    source: String,
}

static BUILTINS: LazyLock<Vec<LabelTemplate>> = LazyLock::new(|| {
    [
        ("standard-label", include_str!("../../config/labels/standard-label.svg")),
        ("compact-label", include_str!("../../config/labels/compact-label.svg")),
        ("detailed-label", include_str!("../../config/labels/detailed-label.svg")),
        ("custom-label", include_str!("../../config/labels/custom-label.svg")),
    ]
    .into_iter()
    .map(|(id, svg)| LabelTemplate::parse(id, svg).expect("a test parses each compiled-in template"))
    .collect()
});

impl LabelTemplate {
    /// Checks a template and takes it apart. `svg_text` may come from a stranger: it can name no file or address,
    /// and everything in it is limited.
    pub fn parse(id: &str, svg_text: &str) -> Result<LabelTemplate, LabelError> {
        if svg_text.len() > MAX_TEMPLATE_BYTES {
            return Err(LabelError::TooLong { bytes: svg_text.len() });
        }
        // Without a DTD there are no entities that could multiply.
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: MAX_TEMPLATE_NODES, ..Default::default() };
        let document = Document::parse_with_options(svg_text, options)
            .map_err(|error| LabelError::Xml(error.to_string()))?;
        let root = document.root_element();
        check_elements(root)?;

        let (width_mm, height_mm) = page_size(root)?;
        let dpi = match root.attribute("data-dpi") {
            None => 300,
            Some(text) => text.parse().ok().filter(|dpi| DPI.contains(dpi)).ok_or_else(|| {
                LabelError::Page(format!("data-dpi must be between 72 and 600, not {text}"))
            })?,
        };
        let template = LabelTemplate {
            id: id.to_owned(),
            name: root.attribute("data-name").unwrap_or(id).to_owned(),
            width_mm,
            height_mm,
            dpi,
            pieces: cut(root, svg_text, root.range(), (width_mm, height_mm))?,
            source: svg_text.to_owned(),
        };
        let (width_px, height_px) = template.pixels();
        if u64::from(width_px) * u64::from(height_px) > MAX_PIXELS {
            return Err(LabelError::Page(format!(
                "{width_px} × {height_px} pixels are too many; lower data-dpi"
            )));
        }
        Ok(template)
    }

    /// A template that comes with the program, by its id or its name: `standard-label`, `Standard Label`.
    pub fn builtin(id_or_name: &str) -> Option<&'static LabelTemplate> {
        let wanted = slug(id_or_name);
        BUILTINS.iter().find(|template| template.id == wanted || slug(&template.name) == wanted)
    }

    /// The templates that come with the program, in the order in which people are offered them.
    pub fn builtins() -> &'static [LabelTemplate] {
        &BUILTINS
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SVG text that it was made from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Pixels per inch of the PNG.
    pub fn dpi(&self) -> u32 {
        self.dpi
    }

    /// Width and height in millimetres.
    pub fn size_mm(&self) -> (f32, f32) {
        (self.width_mm, self.height_mm)
    }

    /// Width and height of the PNG.
    pub fn pixels(&self) -> (u32, u32) {
        let pixels = |mm: f32| (mm * self.per_mm()).round() as u32;
        (pixels(self.width_mm), pixels(self.height_mm))
    }

    /// Pixels per millimetre.
    fn per_mm(&self) -> f32 {
        self.dpi as f32 / 25.4
    }
}

fn slug(name: &str) -> String {
    name.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// Holds the list of elements: with no image, no use, no filter and no style there is nothing to fetch and nothing
/// that grows.
fn check_elements(root: Node) -> Result<(), LabelError> {
    let mut fields = 0;
    for node in root.descendants().filter(Node::is_element) {
        if !DRAWN_ELEMENTS.contains(&node.tag_name().name()) {
            return Err(LabelError::Element(node.tag_name().name().to_owned()));
        }
        if let Some(reference) = node.attributes().find(|a| a.name() == "href" || a.name() == "style") {
            return Err(LabelError::Reference(format!("the attribute {}", reference.name())));
        }
        fields += usize::from(node.has_attribute("data-field"));
        if node.ancestors().nth(MAX_TEMPLATE_DEPTH).is_some() || fields > MAX_FIELDS {
            return Err(LabelError::TooComplex);
        }
    }
    Ok(())
}

fn page_size(root: Node) -> Result<(f32, f32), LabelError> {
    if root.tag_name().name() != "svg" || root.tag_name().namespace() != Some("http://www.w3.org/2000/svg") {
        return Err(LabelError::Page("the root must be <svg xmlns=\"http://www.w3.org/2000/svg\">".into()));
    }
    let side = |name: &str| {
        let text = root.attribute(name).unwrap_or_default();
        text.strip_suffix("mm")
            .and_then(|number| number.trim().parse::<f32>().ok())
            .filter(|mm| SIDE_MM.contains(mm))
            .ok_or_else(|| LabelError::Page(format!("{name}=\"{text}\" (5mm to 420mm)")))
    };
    let (width, height) = (side("width")?, side("height")?);
    let view = root.attribute("viewBox").unwrap_or_default();
    let numbers: Vec<f32> = view.split([' ', ',']).filter_map(|part| part.parse().ok()).collect();
    if numbers != [0.0, 0.0, width, height] {
        return Err(LabelError::Page(format!("viewBox=\"{view}\", expected \"0 0 {width} {height}\"")));
    }
    Ok((width, height))
}

/// Takes the text of `node` (its `range` in `source`) apart at its boxes and conditions.
fn cut(
    node: Node,
    source: &str,
    range: std::ops::Range<usize>,
    page: (f32, f32),
) -> Result<Vec<Piece>, LabelError> {
    let mut special = Vec::new();
    outermost_special(node, &mut special);
    let (mut pieces, mut at) = (Vec::new(), range.start);
    for child in special {
        pieces.push(Piece::Svg(source[at..child.range().start].to_owned()));
        at = child.range().end;
        let inner = match child.attribute("data-field") {
            Some(name) => vec![Piece::Field(field_box(child, Field::named(name)?, page)?)],
            None => cut(child, source, child.range(), page)?,
        };
        let condition = match (child.attribute("data-when"), child.attribute("data-unless")) {
            (Some(name), None) => Some((name, true)),
            (None, Some(name)) => Some((name, false)),
            (None, None) => None,
            (Some(field), Some(_)) => {
                let problem = "has both data-when and data-unless; keep one".to_owned();
                return Err(LabelError::Field { field: field.into(), problem });
            }
        };
        match condition {
            Some((name, present)) => {
                pieces.push(Piece::Only { field: Field::named(name)?, present, pieces: inner });
            }
            None => pieces.extend(inner),
        }
    }
    pieces.push(Piece::Svg(source[at..range.end].to_owned()));
    Ok(pieces)
}

fn outermost_special<'a>(node: Node<'a, 'a>, found: &mut Vec<Node<'a, 'a>>) {
    for child in node.children().filter(Node::is_element) {
        if ["data-field", "data-when", "data-unless"].iter().any(|name| child.has_attribute(*name)) {
            found.push(child);
        } else {
            outermost_special(child, found);
        }
    }
}

fn field_box(node: Node, field: Field, page: (f32, f32)) -> Result<FieldBox, LabelError> {
    let wrong = |problem: String| LabelError::Field { field: field.name().into(), problem };
    let number = |name: &str, default: Option<f32>| match (node.attribute(name), default) {
        (None, Some(default)) => Ok(default),
        (text, _) => text
            .and_then(|text| text.parse::<f32>().ok())
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| wrong(format!("needs {name} as a number of millimetres"))),
    };
    let place = |name: &str, words: [&str; 3], default: Place| match node.attribute(name) {
        None => Ok(default),
        Some(text) if text == words[0] => Ok(Place::Start),
        Some(text) if text == words[1] => Ok(Place::Middle),
        Some(text) if text == words[2] => Ok(Place::End),
        Some(_) => Err(wrong(format!("{name} must be one of {}", words.join(", ")))),
    };
    if node.ancestors().any(|around| around.has_attribute("transform")) {
        return Err(wrong("neither it nor an element around it may have a transform".into()));
    }
    let font_size = number("data-font-size", Some(3.0))?;
    let max_lines = number("data-max-lines", Some(1.0))? as usize;
    let color = node.attribute("data-color").unwrap_or("#000");
    let made = FieldBox {
        field,
        x: number("data-x", None)?,
        y: number("data-y", None)?,
        width: number("data-width", None)?,
        height: number("data-height", None)?,
        font_size,
        min_font_size: number("data-min-font-size", Some(font_size))?,
        max_lines,
        bold: match node.attribute("data-weight") {
            None | Some("normal") => false,
            Some("bold") => true,
            Some(_) => return Err(wrong("data-weight must be normal or bold".into())),
        },
        align: place("data-align", ["left", "center", "right"], Place::Start)?,
        valign: place("data-valign", ["top", "middle", "bottom"], Place::Start)?,
        color: color.to_owned(),
        prefix: node.attribute("data-prefix").unwrap_or_default().chars().take(40).collect(),
    };
    if made.x + made.width > page.0 + 0.001 || made.y + made.height > page.1 + 0.001 {
        return Err(wrong(format!("reaches beyond the label's {} × {} mm", page.0, page.1)));
    }
    if !(1..=40).contains(&made.max_lines) {
        return Err(wrong("data-max-lines must be between 1 and 40".into()));
    }
    let hex = color.strip_prefix('#').unwrap_or_default();
    if !matches!(hex.len(), 3 | 6) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong("data-color must be #rgb or #rrggbb".into()));
    }
    if !(SMALLEST_TEXT..=made.font_size).contains(&made.min_font_size) {
        return Err(wrong(format!("data-min-font-size must be between {SMALLEST_TEXT} and data-font-size")));
    }
    // One line at the smallest size must fit, or a long text could only be left out.
    if field.is_text() && made.min_font_size * 1.2 > made.height {
        return Err(wrong("is too low for one line at data-min-font-size".into()));
    }
    Ok(made)
}

/// What one label shows.
#[derive(Clone, Debug, Default)]
pub struct LabelData {
    pub facts: ProductFacts,
    /// What a QR code leads to, usually the product's page. Without one the QR code holds the article number.
    pub code_url: Option<String>,
}

/// One drawn label.
#[derive(Clone, Debug)]
pub struct RenderedLabel {
    /// RGBA, with its pixels per metre, so that printing at "actual size" gives the template's millimetres.
    pub png: Vec<u8>,
    /// One page of exactly the template's size, vectors and embedded font.
    pub pdf: Vec<u8>,
    pub width_px: u32,
    pub height_px: u32,
    /// Sentences for people: what is missing, was cut or had to become small.
    pub warnings: Vec<String>,
}

/// Draws labels with the fonts that come with the program; make one and share it.
pub struct LabelRenderer {
    fonts: Arc<fontdb::Database>,
    regular: Font,
    bold: Font,
}

impl Default for LabelRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl LabelRenderer {
    pub fn new() -> LabelRenderer {
        let mut fonts = fontdb::Database::new();
        let regular =
            Font::load(&mut fonts, include_bytes!("../../config/labels/fonts/LiberationSans-Regular.ttf"));
        let bold =
            Font::load(&mut fonts, include_bytes!("../../config/labels/fonts/LiberationSans-Bold.ttf"));
        LabelRenderer { fonts: Arc::new(fonts), regular, bold }
    }

    /// Draws one label (some milliseconds of pure computation: call it off the async threads).
    pub fn render(&self, template: &LabelTemplate, data: &LabelData) -> Result<RenderedLabel, LabelError> {
        let mut drawing =
            Drawing { renderer: self, template, data, svg: String::new(), warnings: Vec::new() };
        drawing.pieces(&template.pieces);
        let Drawing { svg, warnings, .. } = drawing;
        let tree = self.tree(&svg)?;
        let (width_px, height_px) = template.pixels();
        Ok(RenderedLabel {
            png: png(&tree, template)?,
            pdf: pdf(&tree, template)?,
            width_px,
            height_px,
            warnings,
        })
    }

    fn tree(&self, svg: &str) -> Result<usvg::Tree, LabelError> {
        let (regular, bold) = (self.regular.id, self.bold.id);
        let options = usvg::Options {
            fontdb: self.fonts.clone(),
            // Any family that a template names is set in ours: a label never depends on the machine's fonts.
            font_resolver: usvg::FontResolver {
                select_font: Box::new(move |font, _| Some(if font.weight() >= 600 { bold } else { regular })),
                select_fallback: Box::new(|_, _, _| None),
            },
            ..Default::default()
        };
        usvg::Tree::from_str(svg, &options).map_err(|error| LabelError::Draw(error.to_string()))
    }

    fn font(&self, bold: bool) -> &Font {
        if bold { &self.bold } else { &self.regular }
    }
}

fn png(tree: &usvg::Tree, template: &LabelTemplate) -> Result<Vec<u8>, LabelError> {
    let (width, height) = template.pixels();
    let mut pixmap =
        Pixmap::new(width, height).ok_or_else(|| LabelError::Draw("no memory for its pixels".into()))?;
    pixmap.fill(resvg::tiny_skia::Color::WHITE);
    // usvg counts 96 units to an inch.
    let scale = template.dpi as f32 / 96.0;
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    let mut png = pixmap.encode_png().map_err(|error| LabelError::Draw(error.to_string()))?;
    // The chunk with the pixels per metre stands right behind the header: 8 bytes of signature and 25 of IHDR.
    png.splice(33..33, physical_size_chunk(template.dpi));
    Ok(png)
}

fn physical_size_chunk(dpi: u32) -> Vec<u8> {
    let per_metre = (f64::from(dpi) / 0.0254).round() as u32;
    let mut body = b"pHYs".to_vec();
    body.extend(per_metre.to_be_bytes());
    body.extend(per_metre.to_be_bytes());
    body.push(1); // the unit is the metre
    let mut crc = !0u32;
    for byte in &body {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut chunk = 9u32.to_be_bytes().to_vec();
    chunk.extend(body);
    chunk.extend((!crc).to_be_bytes());
    chunk
}

fn pdf(tree: &usvg::Tree, template: &LabelTemplate) -> Result<Vec<u8>, LabelError> {
    let points = |mm: f32| mm / 25.4 * 72.0;
    let (width, height) = (points(template.width_mm), points(template.height_mm));
    let problem = |what: &str| LabelError::Draw(format!("{what} of the PDF failed"));
    let mut document = krilla::Document::new();
    // No date: the bytes depend on nothing but the label.
    document.set_metadata(Metadata::new().creator("Jobcast".into()));
    let settings = PageSettings::from_wh(width, height).ok_or_else(|| problem("the page size"))?;
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    let size = PdfSize::from_wh(width, height).ok_or_else(|| problem("the page size"))?;
    surface.draw_svg(tree, size, SvgSettings::default()).ok_or_else(|| problem("drawing"))?;
    surface.finish();
    page.finish();
    document.finish().map_err(|error| LabelError::Draw(format!("{error:?}")))
}

/// One label on its way from pieces to SVG text.
struct Drawing<'a> {
    renderer: &'a LabelRenderer,
    template: &'a LabelTemplate,
    data: &'a LabelData,
    svg: String,
    warnings: Vec<String>,
}

impl Drawing<'_> {
    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Svg(svg) => self.svg.push_str(svg),
                Piece::Field(field_box) => self.field(field_box),
                Piece::Only { field, present, pieces } => {
                    if self.has(*field) == *present {
                        self.pieces(pieces);
                    }
                }
            }
        }
    }

    fn has(&self, field: Field) -> bool {
        let facts = &self.data.facts;
        match field {
            Field::TieredPrice => !facts.tiers.is_empty(),
            Field::Barcode => self.ean().is_some(),
            Field::QrCode => self.qr_text().is_some(),
            Field::Code => self.ean().is_some() || self.qr_text().is_some(),
            text => !self.paragraphs(text).is_empty(),
        }
    }

    fn ean(&self) -> Option<&str> {
        self.data.facts.ean.as_deref().filter(|ean| is_ean13(ean))
    }

    fn qr_text(&self) -> Option<&str> {
        let texts = [self.data.code_url.as_deref(), self.data.facts.article_number.as_deref()];
        texts.into_iter().flatten().find(|text| !text.trim().is_empty())
    }

    /// The field's text, one entry for each line that must begin anew; empty when there is none.
    fn paragraphs(&self, field: Field) -> Vec<String> {
        let facts = &self.data.facts;
        let currency = facts.currency.as_deref();
        let text = match field {
            Field::ArticleNumber => facts.article_number.clone(),
            Field::ProductName => facts.name.clone(),
            Field::Price => facts
                .price
                .or(facts.tiers.first().map(|tier| tier.price))
                .and_then(|price| money(price, currency)),
            Field::Ean => facts.ean.clone(),
            // A list whose only text is the name gives it as the description too; once on a label is enough.
            Field::Description => facts.description.clone().filter(|text| facts.name.as_ref() != Some(text)),
            Field::TieredPrice => {
                let tiers = facts.tiers.iter().take(MAX_TIERS);
                return tiers
                    .filter_map(|tier| {
                        Some(format!("ab {} Stk: {}", tier.min_quantity, money(tier.price, currency)?))
                    })
                    .collect();
            }
            Field::Barcode | Field::QrCode | Field::Code => None,
        };
        text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|t| !t.is_empty())
            .into_iter()
            .collect()
    }

    fn field(&mut self, spec: &FieldBox) {
        match (spec.field, self.ean().map(str::to_owned)) {
            (Field::Barcode | Field::Code, Some(ean)) => self.bars(spec, &ean),
            (Field::Barcode, None) => {
                self.warnings.push("There is no valid EAN, so there are no bars.".into())
            }
            (Field::QrCode | Field::Code, _) => self.qr(spec),
            _ => self.text(spec),
        }
    }

    fn text(&mut self, spec: &FieldBox) {
        let font = self.renderer.font(spec.bold);
        let mut replaced = false;
        let mut paragraphs: Vec<String> = self
            .paragraphs(spec.field)
            .iter()
            .map(|text| printable(&format!("{}{text}", spec.prefix), font, &mut replaced))
            .collect();
        let what = spec.field.words();
        if paragraphs.is_empty() {
            if matches!(spec.field, Field::Price | Field::ProductName | Field::ArticleNumber) {
                self.warnings.push(format!("The product has no {what}."));
            }
            return;
        }
        if replaced {
            self.warnings.push(format!("The {what} holds characters that the label's font lacks."));
        }
        if spec.field == Field::TieredPrice {
            if self.data.facts.tiers.len() > MAX_TIERS {
                self.warnings.push(format!("Only the first {MAX_TIERS} price tiers are shown."));
            }
            // A tier is never torn apart: only the gaps between tiers are ordinary spaces.
            paragraphs.iter_mut().for_each(|tier| *tier = tier.replace(' ', "\u{a0}"));
        }
        if spec.field == Field::Price {
            paragraphs.iter_mut().for_each(|price| *price = price.replace(' ', "\u{a0}"));
        }
        let fitted = fit(&paragraphs, spec, font).or_else(|| {
            let joined = paragraphs.join("\u{a0}| ");
            (paragraphs.len() > 1).then(|| fit(&[joined], spec, font)).flatten()
        });
        match fitted.or_else(|| fit_by_force(&paragraphs, spec, font)) {
            None => self.warnings.push(format!("The {what} does not fit into its box and is left out.")),
            Some(text) => {
                if text.cut {
                    self.warnings.push(format!("The {what} is too long for its box and was cut."));
                } else if text.size < spec.min_font_size - 0.001 {
                    self.warnings.push(format!("The {what} had to be printed very small."));
                }
                self.place(spec, font, &text);
            }
        }
    }

    fn place(&mut self, spec: &FieldBox, font: &Font, text: &Fitted) {
        let free = spec.height - font.block_height(text.lines.len()) * text.size;
        let first_baseline = spec.y + free * spec.valign.share() + font.ascent * text.size;
        let x = spec.x + spec.width * spec.align.share();
        let anchor = ["start", "middle", "end"][(spec.align.share() * 2.0) as usize];
        for (number, line) in text.lines.iter().enumerate() {
            let y = first_baseline + number as f32 * LEADING * text.size;
            let weight = if spec.bold { "bold" } else { "normal" };
            let _ = write!(
                self.svg,
                r#"<text id="{}" x="{x:.3}" y="{y:.3}" font-size="{:.3}" font-weight="{weight}" text-anchor="{anchor}" fill="{}">{}</text>"#,
                spec.field.name(),
                text.size,
                spec.color,
                escape(line)
            );
        }
    }

    /// EAN-13 bars on whole pixels, the guards a little longer, each digit under its own seven modules.
    fn bars(&mut self, spec: &FieldBox, ean: &str) {
        let Ok(symbol) = EAN13::new(ean) else {
            return;
        };
        let bars = symbol.encode();
        let modules = EAN_QUIET.0 + EAN_MODULES + EAN_QUIET.1;
        let Some((module, left)) = self.grid(spec, spec.width, modules) else {
            self.warnings.push("The box is too narrow for bars that a scanner can read.".into());
            return;
        };
        let font = &self.renderer.regular;
        // Digits stand in the cells of seven modules; a low box gets lower digits.
        let size = (7.0 * module / font.width("0") * 0.92).min(spec.height * 0.3);
        let digits_height = font.cap_height * size;
        let bar_height = spec.height - digits_height - 0.25 * size;
        let start = left + EAN_QUIET.0 as f32 * module;
        self.svg.push_str(r##"<path id="barcode" shape-rendering="crispEdges" fill="#000" d=""##);
        let mut at = 0;
        while at < bars.len() {
            let run = bars[at..].iter().take_while(|bar| **bar == bars[at]).count();
            if bars[at] == 1 {
                let guard = at < 3 || (45..50).contains(&at) || at >= 92;
                let height = bar_height + if guard { digits_height * 0.55 } else { 0.0 };
                let (x, y, width) = (start + at as f32 * module, spec.y, run as f32 * module);
                let _ = write!(self.svg, "M{x:.4} {y:.4}h{width:.4}v{height:.4}h-{width:.4}z");
            }
            at += run;
        }
        self.svg.push_str(r#""/>"#);
        let baseline = spec.y + spec.height - 0.02 * size;
        for (number, digit) in ean.chars().enumerate() {
            let cell = match number {
                0 => -6.0,
                1..=6 => 3.0 + 7.0 * (number as f32 - 0.5),
                _ => 50.0 + 7.0 * (number as f32 - 6.5),
            };
            let _ = write!(
                self.svg,
                r##"<text id="barcode" x="{:.3}" y="{baseline:.3}" font-size="{size:.3}" text-anchor="middle" fill="#000">{digit}</text>"##,
                start + cell * module,
            );
        }
    }

    fn qr(&mut self, spec: &FieldBox) {
        let Some(text) = self.qr_text() else {
            return self
                .warnings
                .push("There is neither an address nor an article number for a code.".into());
        };
        let side = spec.width.min(spec.height);
        let mut codes =
            [Some(text), self.data.facts.article_number.as_deref()].into_iter().flatten().map(|text| {
                let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
                let (module, left) = self.grid(spec, side, code.width() + 2 * QR_QUIET)?;
                Some((code, module, left))
            });
        let first = codes.next().flatten();
        let (found, fell_back) =
            if first.is_some() { (first, false) } else { (codes.next().flatten(), true) };
        drop(codes);
        let Some((code, module, left)) = found else {
            return self.warnings.push("The box is too small for a QR code that a camera can read.".into());
        };
        if fell_back {
            self.warnings.push(
                "The address is too long for a QR code of this size; it holds the article number.".into(),
            );
        }
        let per_mm = self.template.per_mm();
        let free = spec.height - (code.width() + 2 * QR_QUIET) as f32 * module;
        let top = ((spec.y + free / 2.0) * per_mm).round() / per_mm;
        let (left, top) = (left + QR_QUIET as f32 * module, top + QR_QUIET as f32 * module);
        self.svg.push_str(r##"<path id="qrCode" shape-rendering="crispEdges" fill="#000" d=""##);
        let width = code.width();
        let colors = code.to_colors();
        for (row, line) in colors.chunks(width).enumerate() {
            let mut at = 0;
            while at < width {
                let run = line[at..].iter().take_while(|color| **color == line[at]).count();
                if line[at] == Color::Dark {
                    let (x, y, length) =
                        (left + at as f32 * module, top + row as f32 * module, run as f32 * module);
                    let _ = write!(self.svg, "M{x:.4} {y:.4}h{length:.4}v{module:.4}h-{length:.4}z");
                }
                at += run;
            }
        }
        self.svg.push_str(r#""/>"#);
    }

    /// The width of one module and the left edge of `modules` of them inside `width` of the box, both on whole
    /// pixels so that all bars are equally sharp. `None` when they would be too narrow to be read.
    fn grid(&self, spec: &FieldBox, width: f32, modules: usize) -> Option<(f32, f32)> {
        let per_mm = self.template.per_mm();
        let module = (width * per_mm / modules as f32).floor() / per_mm;
        if module < SMALLEST_MODULE {
            return None;
        }
        let free = spec.width - modules as f32 * module;
        Some((module, ((spec.x + free * spec.align.share()) * per_mm).round() / per_mm))
    }
}

/// `1.234,56 €`; `None` for what is no price.
fn money(price: f64, currency: Option<&str>) -> Option<String> {
    if !(0.0..1e9).contains(&price) {
        return None;
    }
    let cents = (price * 100.0).round() as u64;
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push('.');
        }
        grouped.push(digit);
    }
    let sign: String = match currency {
        None | Some("EUR") => "€".into(),
        Some(other) => other.chars().take(3).collect(),
    };
    Some(format!("{grouped},{:02} {sign}", cents % 100))
}

/// What the font can show: no control or direction marks, and a "?" for a character that it lacks.
fn printable(text: &str, font: &Font, replaced: &mut bool) -> String {
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .filter(|c| !invisible(*c))
        .take(MAX_CHARS)
        .map(|c| {
            let known = font.face.glyph_index(c).is_some();
            *replaced |= !known;
            if known { c } else { '?' }
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One face, measured in em.
struct Font {
    id: fontdb::ID,
    face: Face<'static>,
    ascent: f32,
    descent: f32,
    cap_height: f32,
}

impl Font {
    fn load(fonts: &mut fontdb::Database, data: &'static [u8]) -> Font {
        let ids = fonts.load_font_source(fontdb::Source::Binary(Arc::new(data)));
        let face = Face::from_slice(data, 0).expect("the compiled-in font is a font");
        let em = face.units_per_em() as f32;
        Font {
            id: *ids.first().expect("the compiled-in font is a font"),
            ascent: f32::from(face.ascender()) / em,
            descent: -f32::from(face.descender()) / em,
            cap_height: f32::from(face.capital_height().unwrap_or(face.ascender())) / em,
            face,
        }
    }

    /// The width of one line as the renderer will shape it, in em.
    fn width(&self, text: &str) -> f32 {
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        let shaped = rustybuzz::shape(&self.face, &[], buffer);
        let units: i32 = shaped.glyph_positions().iter().map(|glyph| glyph.x_advance).sum();
        units as f32 / self.face.units_per_em() as f32
    }

    /// The height of that many lines, in em.
    fn block_height(&self, lines: usize) -> f32 {
        self.ascent + self.descent + (lines.max(1) - 1) as f32 * LEADING
    }
}

/// Lines that lie inside their box at this size in millimetres.
struct Fitted {
    size: f32,
    lines: Vec<String>,
    cut: bool,
}

/// The largest size between the box's own and its minimum at which the text fits whole, or `None`.
fn fit(paragraphs: &[String], spec: &FieldBox, font: &Font) -> Option<Fitted> {
    let words = Words::of(paragraphs, font);
    sizes(spec.font_size, spec.min_font_size).find_map(|size| words.fitted(spec, font, size))
}

/// What is left when the text does not fit whole at the minimum: a text that may be cut is cut, any other shrinks on.
fn fit_by_force(paragraphs: &[String], spec: &FieldBox, font: &Font) -> Option<Fitted> {
    if !spec.field.may_be_cut() {
        let joined = [paragraphs.join("\u{a0}| ")];
        let ways = [Words::of(paragraphs, font), Words::of(&joined, font)];
        return sizes(spec.min_font_size, SMALLEST_TEXT)
            .find_map(|size| ways.iter().find_map(|words| words.fitted(spec, font, size)));
    }
    let size = spec.min_font_size;
    let room = spec.width / size;
    let count = (1..=spec.max_lines).take_while(|n| font.block_height(*n) * size <= spec.height).last()?;
    let mut lines = Words::of(paragraphs, font).wrapped(room, font);
    let cut = lines.len() > count;
    lines.truncate(count);
    if cut && let Some(last) = lines.last_mut() {
        while font.width(&format!("{last}…")) > room && last.pop().is_some() {}
        *last = format!("{}…", last.trim_end_matches([' ', ',', '-']));
    }
    Some(Fitted { size, lines, cut })
}

/// From the larger size down to the smaller, in sixteen steps.
fn sizes(from: f32, to: f32) -> impl Iterator<Item = f32> {
    let steps = 16;
    (0..=steps).map(move |step| from - (from - to) * step as f32 / steps as f32)
}

/// A text's words with their widths in em, measured once for all sizes.
struct Words {
    paragraphs: Vec<Vec<(String, f32)>>,
    space: f32,
}

impl Words {
    fn of(paragraphs: &[String], font: &Font) -> Words {
        let measured =
            |text: &String| text.split(' ').map(|word| (word.to_owned(), font.width(word))).collect();
        Words { paragraphs: paragraphs.iter().map(measured).collect(), space: font.width(" ") }
    }

    /// The lines at this size, if all of them lie inside the box.
    fn fitted(&self, spec: &FieldBox, font: &Font, size: f32) -> Option<Fitted> {
        let room = spec.width / size;
        if self.paragraphs.iter().flatten().any(|(_, width)| *width > room) {
            return None;
        }
        let lines = self.wrapped(room, font);
        (lines.len() <= spec.max_lines && font.block_height(lines.len()) * size <= spec.height)
            .then_some(Fitted { size, lines, cut: false })
    }

    /// Greedy lines no wider than `room` em; a word that is wider by itself is broken between letters.
    fn wrapped(&self, room: f32, font: &Font) -> Vec<String> {
        let mut lines = Vec::new();
        for paragraph in &self.paragraphs {
            let (mut line, mut used) = (String::new(), 0.0);
            for (word, width) in paragraph {
                if !line.is_empty() && used + self.space + width <= room && {
                    // Kerning across the space may add a hair: only near the edge is it worth another look.
                    used + self.space + width < room * 0.97 || font.width(&format!("{line} {word}")) <= room
                } {
                    line = format!("{line} {word}");
                    used += self.space + width;
                    continue;
                }
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                (line, used) = (word.clone(), *width);
                while used > room {
                    let head = head_that_fits(&line, room, font);
                    let rest = line.split_off(head);
                    lines.push(std::mem::replace(&mut line, rest));
                    used = font.width(&line);
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// The byte length of the longest beginning of `word` that is no wider than `room` em, at least one character.
fn head_that_fits(word: &str, room: f32, font: &Font) -> usize {
    let ends: Vec<usize> = word.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    let fitting = ends.partition_point(|end| font.width(&word[..*end]) <= room);
    ends[fitting.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::Tier;

    fn facts() -> ProductFacts {
        ProductFacts {
            article_number: Some("SD-10023".into()),
            name: Some("Spanplattenschraube Senkkopf 4 × 40 mm, verzinkt".into()),
            price: Some(12.49),
            currency: Some("EUR".into()),
            ean: Some("2000000100234".into()),
            description: Some(
                "Teilgewinde, Torx T20, 200 Stück je Packung. Für Möbel und Innenausbau.".into(),
            ),
            ..ProductFacts::default()
        }
    }

    fn tiers(count: u32) -> Vec<Tier> {
        (0..count)
            .map(|n| Tier { min_quantity: 10u32.pow(n % 5) * (n + 1), price: 1234.5 - f64::from(n) })
            .collect()
    }

    fn long() -> ProductFacts {
        ProductFacts {
            article_number: Some("HERSTELLER-4711-0815-ÜBERLANG-1234567890".into()),
            name: Some(format!(
                "{} {}",
                "Donaudampfschifffahrtsgesellschaft".repeat(5),
                "Höhenverstellbarer Tisch ".repeat(30)
            )),
            price: Some(1_234_567.89),
            description: Some("Ein sehr langer Text über Schrauben, Dübel und Größen. ".repeat(40)),
            tiers: tiers(6),
            ..facts()
        }
    }

    fn data(facts: ProductFacts) -> LabelData {
        LabelData { facts, code_url: Some("https://shop.example/schrauben/spanplattenschraube-4x40".into()) }
    }

    fn cases() -> Vec<(&'static str, LabelData)> {
        let without_ean = ProductFacts { ean: None, ..facts() };
        let tiered = ProductFacts { tiers: tiers(6), ..facts() };
        let markup = ProductFacts {
            name: Some("</text><script>alert(1)</script> & \"Ä\" ' ]]> <g data-field=\"price\"/>".into()),
            article_number: Some("<&>\u{0}\u{202e}\n".into()),
            description: Some("& <![CDATA[ 漢字 😀".into()),
            currency: Some("<€€€".into()),
            ..without_ean.clone()
        };
        vec![
            ("plain", data(facts())),
            ("without-ean", data(without_ean)),
            ("tiers", data(tiered)),
            ("tiers-3", data(ProductFacts { tiers: tiers(3), ..facts() })),
            ("long", data(long())),
            ("long-without-ean", data(ProductFacts { ean: None, ..long() })),
            ("empty", LabelData::default()),
            ("markup", data(markup)),
        ]
    }

    /// The boxes that a template shows for this data.
    fn shown<'a>(pieces: &'a [Piece], drawing: &Drawing, boxes: &mut Vec<&'a FieldBox>) {
        for piece in pieces {
            match piece {
                Piece::Svg(_) => {}
                Piece::Field(spec) => boxes.push(spec),
                Piece::Only { field, present, pieces } => {
                    if drawing.has(*field) == *present {
                        shown(pieces, drawing, boxes);
                    }
                }
            }
        }
    }

    /// What was drawn for boxes: the box's name, its left, top, right and bottom in millimetres, its text.
    fn drawn(group: &usvg::Group, found: &mut Vec<(String, [f32; 4], String)>) {
        for node in group.children() {
            let (bounds, text) = match node {
                usvg::Node::Group(group) => {
                    drawn(group, found);
                    continue;
                }
                // The digits under bars have no descenders, so the ink is what counts there.
                usvg::Node::Text(text) if text.id() == "barcode" => {
                    (text.flattened().bounding_box().transform(text.abs_transform()).unwrap(), text)
                }
                usvg::Node::Text(text) => (text.abs_bounding_box(), text),
                usvg::Node::Path(path) if path.id().is_empty() => continue,
                other => {
                    let bounds = other.abs_bounding_box();
                    let sides = [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()];
                    found.push((other.id().to_owned(), sides.map(|side| side * 25.4 / 96.0), String::new()));
                    continue;
                }
            };
            let sides = [bounds.left(), bounds.top(), bounds.right(), bounds.bottom()];
            let words = text.chunks().iter().map(|chunk| chunk.text()).collect();
            found.push((text.id().to_owned(), sides.map(|side| side * 25.4 / 96.0), words));
        }
    }

    fn texts(label: &LabelTemplate, data: &LabelData, field: &str) -> Vec<String> {
        let renderer = LabelRenderer::new();
        let mut drawing =
            Drawing { renderer: &renderer, template: label, data, svg: String::new(), warnings: Vec::new() };
        drawing.pieces(&label.pieces);
        let mut found = Vec::new();
        drawn(renderer.tree(&drawing.svg).unwrap().root(), &mut found);
        found
            .into_iter()
            .filter(|(id, _, text)| id == field && !text.is_empty())
            .map(|(_, _, text)| text)
            .collect()
    }

    fn gray(png: &[u8]) -> image::GrayImage {
        image::load_from_memory(png).unwrap().into_luma8()
    }

    #[test]
    fn nothing_ever_leaves_its_box() {
        let renderer = LabelRenderer::new();
        for template in LabelTemplate::builtins() {
            for (case, data) in cases() {
                let mut drawing = Drawing {
                    renderer: &renderer,
                    template,
                    data: &data,
                    svg: String::new(),
                    warnings: Vec::new(),
                };
                drawing.pieces(&template.pieces);
                let mut boxes = Vec::new();
                shown(&template.pieces, &drawing, &mut boxes);
                let mut found = Vec::new();
                drawn(renderer.tree(&drawing.svg).unwrap().root(), &mut found);
                assert!(case == "empty" || found.len() > 3, "{} {case}", template.id);
                for (id, [left, top, right, bottom], text) in found {
                    let inside = boxes.iter().any(|spec| {
                        let codes = ["barcode", "qrCode"].contains(&id.as_str()) && spec.field == Field::Code;
                        (spec.field.name() == id || codes)
                            && left >= spec.x - 0.02
                            && top >= spec.y - 0.02
                            && right <= spec.x + spec.width + 0.02
                            && bottom <= spec.y + spec.height + 0.02
                    });
                    assert!(inside, "{} {case}: {id} at {left} {top} {right} {bottom}: {text}", template.id);
                }
            }
        }
    }

    #[test]
    fn a_long_name_is_wrapped_and_cut_and_people_are_told() {
        let template = LabelTemplate::builtin("standard-label").unwrap();
        let lines = texts(template, &data(long()), "productName");
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…'), "{lines:?}");
        let label = LabelRenderer::new().render(template, &data(long())).unwrap();
        assert!(
            label.warnings.iter().any(|warning| warning.contains("product name is too long")),
            "{:?}",
            label.warnings
        );
        assert_eq!(texts(template, &data(facts()), "productName").join(" "), facts().name.unwrap());
    }

    #[test]
    fn a_price_is_printed_whole_or_not_at_all() {
        for template in LabelTemplate::builtins() {
            let printed = texts(template, &data(long()), "price");
            assert_eq!(printed, ["1.234.567,89\u{a0}€"], "{}", template.id);
        }
        let narrow = r#"<svg xmlns="http://www.w3.org/2000/svg" width="20mm" height="10mm" viewBox="0 0 20 10">
            <g data-field="price" data-x="1" data-y="1" data-width="3" data-height="8" data-font-size="5"/></svg>"#;
        let narrow = LabelTemplate::parse("narrow", narrow).unwrap();
        let label = LabelRenderer::new().render(&narrow, &data(long())).unwrap();
        assert!(texts(&narrow, &data(long()), "price").is_empty());
        assert_eq!(label.warnings, ["The price does not fit into its box and is left out."]);
    }

    #[test]
    fn price_tiers_stand_one_in_a_line_or_joined_but_never_torn() {
        let data = data(ProductFacts { tiers: tiers(6), ..facts() });
        let lines = texts(LabelTemplate::builtin("detailed-label").unwrap(), &data, "tieredPrice");
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0].replace('\u{a0}', " "), "ab 1 Stk: 1.234,50 €");
        let joined = texts(LabelTemplate::builtin("custom-label").unwrap(), &data, "tieredPrice");
        let words: Vec<String> =
            joined.join(" ").split(" | ").map(|tier| tier.replace('\u{a0}', " ")).collect();
        assert_eq!(joined.len(), 2);
        assert!(
            words.join(" ").replace(" |", "").starts_with("ab 1 Stk: 1.234,50 € ab 20 Stk: 1.233,50 €"),
            "{joined:?}"
        );
        assert!(joined.iter().all(|line| line.starts_with("ab")), "{joined:?}");
    }

    #[test]
    fn markup_in_a_name_is_printed_as_it_stands() {
        let data = cases().pop().unwrap().1;
        let printed = texts(LabelTemplate::builtin("custom-label").unwrap(), &data, "productName").join(" ");
        assert_eq!(printed, data.facts.name.unwrap());
    }

    #[test]
    fn money_is_written_the_german_way() {
        for (price, currency, text) in [
            (1234.56, None, Some("1.234,56 €")),
            (0.0, Some("EUR"), Some("0,00 €")),
            (1_234_567.0, Some("CHF"), Some("1.234.567,00 CHF")),
            (0.1 + 0.2, None, Some("0,30 €")),
            (999.999, None, Some("1.000,00 €")),
            (f64::NAN, None, None),
            (-1.0, None, None),
        ] {
            assert_eq!(money(price, currency).as_deref(), text, "{price}");
        }
    }

    #[test]
    fn a_camera_reads_the_qr_code_from_the_png() {
        let without_ean = LabelData { facts: ProductFacts { ean: None, ..facts() }, ..data(facts()) };
        for template in LabelTemplate::builtins() {
            let label = LabelRenderer::new().render(template, &without_ean).unwrap();
            let mut picture = rqrr::PreparedImage::prepare(gray(&label.png));
            let read: Vec<String> =
                picture.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect();
            // The smallest label has no room for the address and says so.
            let small = label.warnings.iter().any(|warning| warning.contains("holds the article number"));
            assert_eq!(small, template.id == "compact-label");
            let expected = if small { "SD-10023".to_owned() } else { without_ean.code_url.clone().unwrap() };
            assert_eq!(read, [expected], "{}", template.id);
        }
    }

    /// Reads thirteen digits from one row of pixels by the widths of its bars and gaps, as a scanner does.
    fn scan(row: &[u8]) -> Option<String> {
        const WIDTHS: [[usize; 4]; 10] = [
            [3, 2, 1, 1],
            [2, 2, 2, 1],
            [2, 1, 2, 2],
            [1, 4, 1, 1],
            [1, 1, 3, 2],
            [1, 2, 3, 1],
            [1, 1, 1, 4],
            [1, 3, 1, 2],
            [1, 2, 1, 3],
            [3, 1, 1, 2],
        ];
        const FIRST: [&str; 10] = [
            "AAAAAA", "AABABB", "AABBAB", "AABBBA", "ABAABB", "ABBAAB", "ABBBAA", "ABABAB", "ABABBA",
            "ABBABA",
        ];
        let dark: Vec<bool> = row.iter().map(|value| *value < 128).collect();
        let inked = &dark[dark.iter().position(|d| *d)?..=dark.iter().rposition(|d| *d)?];
        let runs: Vec<usize> = inked.chunk_by(|a, b| a == b).map(<[bool]>::len).collect();
        if runs.len() != 59 || !inked.len().is_multiple_of(95) {
            return None;
        }
        let widths: Vec<usize> = runs.iter().map(|run| run / (inked.len() / 95)).collect();
        let (mut digits, mut parity) = (String::new(), String::new());
        for digit in widths[3..27].chunks(4).chain(widths[32..56].chunks(4)) {
            let reversed: Vec<usize> = digit.iter().rev().copied().collect();
            let odd = WIDTHS.iter().position(|known| known == digit);
            let even = WIDTHS.iter().position(|known| known == &reversed[..]);
            parity.push(if odd.is_some() { 'A' } else { 'B' });
            digits.push_str(&odd.or(even)?.to_string());
        }
        let first = FIRST.iter().position(|known| *known == &parity[..6])?;
        Some(format!("{first}{digits}"))
    }

    #[test]
    fn a_scanner_reads_the_bars_from_the_png() {
        for template in LabelTemplate::builtins() {
            for ean in ["2000000100234", "4006381333931", "9780201379624"] {
                let data =
                    LabelData { facts: ProductFacts { ean: Some(ean.into()), ..facts() }, code_url: None };
                let label = LabelRenderer::new().render(template, &data).unwrap();
                let pixels = gray(&label.png);
                let mut boxes = Vec::new();
                let renderer = LabelRenderer::new();
                let drawing = Drawing {
                    renderer: &renderer,
                    template,
                    data: &data,
                    svg: String::new(),
                    warnings: Vec::new(),
                };
                shown(&template.pieces, &drawing, &mut boxes);
                let spec =
                    boxes.iter().find(|spec| matches!(spec.field, Field::Code | Field::Barcode)).unwrap();
                let at = |mm: f32| (mm * template.per_mm()) as u32;
                let row: Vec<u8> = (at(spec.x)..at(spec.x + spec.width))
                    .map(|x| pixels.get_pixel(x, at(spec.y + spec.height / 4.0)).0[0])
                    .collect();
                assert_eq!(scan(&row).as_deref(), Some(ean), "{}", template.id);
            }
        }
    }

    #[test]
    fn an_ean_with_a_wrong_check_digit_becomes_no_bars() {
        let wrong = data(ProductFacts { ean: Some("2000000100235".into()), ..facts() });
        let template = LabelTemplate::builtin("detailed-label").unwrap();
        assert!(texts(template, &wrong, "barcode").is_empty());
        let label = LabelRenderer::new().render(template, &wrong).unwrap();
        assert_eq!(label.warnings, ["There is no valid EAN, so there are no bars."]);
    }

    #[test]
    fn the_pdf_has_exactly_the_templates_size_and_real_text() {
        for template in LabelTemplate::builtins() {
            let pdf = LabelRenderer::new().render(template, &data(facts())).unwrap().pdf;
            let text = String::from_utf8_lossy(&pdf);
            let after = text.split_once("/MediaBox").unwrap().1.trim_start().trim_start_matches('[');
            let numbers: Vec<f32> = after
                .split(']')
                .next()
                .unwrap()
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            let (width, height) = template.size_mm();
            for (points, mm) in numbers.iter().zip([0.0, 0.0, width, height]) {
                assert!((points / 72.0 * 25.4 - mm).abs() < 0.001, "{}: {numbers:?}", template.id);
            }
            assert!(
                text.contains("LiberationSans") && text.contains("/FontFile2") && text.contains("/ToUnicode")
            );
            assert!(!text.contains("/Subtype/Image") && !text.contains("/CreationDate"));
        }
    }

    #[test]
    fn the_png_has_the_templates_pixels_and_knows_its_size_in_the_world() {
        let template = LabelTemplate::builtin("standard-label").unwrap();
        let label = LabelRenderer::new().render(template, &data(facts())).unwrap();
        assert_eq!((label.width_px, label.height_px), (827, 496));
        assert_eq!(gray(&label.png).dimensions(), (827, 496));
        // 11,811 pixels per metre in both directions, and the checksum that other programs write for it.
        assert_eq!(&label.png[33..54], b"\0\0\0\x09pHYs\0\0\x2e\x23\0\0\x2e\x23\x01\x78\xa5\x3f\x76");
    }

    #[test]
    fn one_renderer_serves_many_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&LabelRenderer::new());
    }

    #[test]
    fn the_same_label_is_the_same_bytes() {
        for template in LabelTemplate::builtins() {
            for (case, data) in cases() {
                let first = LabelRenderer::new().render(template, &data).unwrap();
                let second = LabelRenderer::new().render(template, &data).unwrap();
                assert!(first.png == second.png && first.pdf == second.pdf, "{} {case}", template.id);
            }
        }
    }

    #[test]
    fn a_template_is_found_by_id_or_by_name() {
        assert_eq!(LabelTemplate::builtins().len(), 4);
        for asked in ["standard-label", "Standard Label", " STANDARD  label"] {
            assert_eq!(LabelTemplate::builtin(asked).unwrap().id(), "standard-label");
        }
        assert!(LabelTemplate::builtin("no such label").is_none());
    }

    #[test]
    fn an_unsound_template_is_refused_with_the_reason() {
        let page = |attributes: &str, inside: &str| {
            format!(r#"<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{inside}</svg>"#)
        };
        let sound = r#"width="50mm" height="30mm" viewBox="0 0 50 30""#;
        let boxed =
            |rest: &str| page(sound, &format!(r#"<g data-x="1" data-y="1" data-height="9" {rest}/>"#));
        let deep = page(sound, &format!("{}{}", "<g>".repeat(40), "</g>".repeat(40)));
        for (svg, reason) in [
            (page(sound, r#"<image href="file:///etc/passwd"/>"#), "<image> is not allowed"),
            (page(sound, r##"<use href="#a"/>"##), "<use> is not allowed"),
            (page(sound, "<style>@import 'x'</style>"), "<style> is not allowed"),
            (page(sound, r#"<rect style="fill:red"/>"#), "remove the attribute style"),
            ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg/>".into(), "no well-formed SVG"),
            (page(sound, "<g>"), "no well-formed SVG"),
            (page(sound, &"<g/>".repeat(5_000)), "no well-formed SVG"),
            (deep, "nested deeper"),
            (page(r#"width="50" height="30mm" viewBox="0 0 50 30""#, ""), "width=\"50\""),
            (page(r#"width="50mm" height="900mm" viewBox="0 0 50 900""#, ""), "height=\"900mm\""),
            (page(r#"width="50mm" height="30mm" viewBox="0 0 100 60""#, ""), "viewBox"),
            (page(&format!("{sound} data-dpi=\"9000\""), ""), "data-dpi"),
            (page(r#"width="420mm" height="420mm" viewBox="0 0 420 420" data-dpi="600""#, ""), "too many"),
            (boxed(r#"data-field="colour" data-width="9""#), "no such field"),
            (boxed(r#"data-field="price" data-width="60""#), "reaches beyond"),
            (boxed(r#"data-field="price" data-width="NaN""#), "needs data-width"),
            (boxed(r#"data-field="price" data-width="9" data-color="red;x""#), "data-color"),
            (boxed(r#"data-field="price" data-width="9" data-font-size="9" data-transform="""#), "too low"),
            (boxed(r#"data-field="price" data-width="9" transform="scale(9)""#), "transform"),
            (boxed(r#"data-when="ean" data-unless="ean""#), "keep one"),
            ("x".repeat(MAX_TEMPLATE_BYTES + 1), "make it smaller"),
        ] {
            let error = LabelTemplate::parse("x", &svg).map(|_| ()).expect_err(reason).to_string();
            assert!(error.contains(reason), "{error} / {reason}");
        }
    }
}
