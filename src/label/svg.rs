//! SVG files with empty boxes, as designers draw them; the convention stands at the top of
//! `config/labels/standard-label.svg`. One user unit is one millimetre.

use resvg::usvg::roxmltree::{Document, Node, ParsingOptions};

use super::{
    LabelError, LabelTemplate,
    limits::{DPI, MAX_FIELDS, MAX_TEMPLATE_DEPTH, MAX_TEMPLATE_NODES, SIDE_MM, SMALLEST_TEXT},
    rules::AutoMatch,
    style::is_hex,
    template::{Field, FieldBox, Kind, Piece, Place, Rect},
    text::{LEADING, TextSpec},
};

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

/// Checks the file and takes it apart.
pub fn parse(id: &str, svg_text: &str) -> Result<LabelTemplate, LabelError> {
    // Without a DTD there are no entities that could multiply.
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_TEMPLATE_NODES, ..Default::default() };
    let document = Document::parse_with_options(svg_text, options)
        .map_err(|error| LabelError::Xml(error.to_string()))?;
    let root = document.root_element();
    check_elements(root)?;
    let (width_mm, height_mm) = page_size(root)?;
    let dpi =
        match root.attribute("data-dpi") {
            None => 300,
            Some(text) => text.parse().ok().filter(|dpi| DPI.contains(dpi)).ok_or_else(|| {
                LabelError::Page(format!("data-dpi must be between 72 and 600, not {text}"))
            })?,
        };
    Ok(LabelTemplate {
        id: id.to_owned(),
        name: root.attribute("data-name").unwrap_or(id).to_owned(),
        kind: Kind::Svg,
        width_mm,
        height_mm,
        dpi,
        pieces: cut(root, svg_text, root.range(), (width_mm, height_mm))?,
        defaults: Vec::new(),
        auto_match: AutoMatch::default(),
        source: svg_text.to_owned(),
    })
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
        prefix: node.attribute("data-prefix").unwrap_or_default().chars().take(40).collect(),
        spec: TextSpec {
            rect: Rect {
                x: number("data-x", None)?,
                y: number("data-y", None)?,
                width: number("data-width", None)?,
                height: number("data-height", None)?,
            },
            font_size,
            min_font_size: number("data-min-font-size", Some(font_size))?,
            max_lines,
            leading: LEADING,
            bold: match node.attribute("data-weight") {
                None | Some("normal") => false,
                Some("bold") => true,
                Some(_) => return Err(wrong("data-weight must be normal or bold".into())),
            },
            align: place("data-align", ["left", "center", "right"], Place::Start)?,
            valign: place("data-valign", ["top", "middle", "bottom"], Place::Start)?,
            color: color.to_owned(),
            decoration: None,
            may_be_cut: field.may_be_cut(),
        },
    };
    let TextSpec { rect, max_lines, font_size, min_font_size, .. } = made.spec;
    if rect.x + rect.width > page.0 + 0.001 || rect.y + rect.height > page.1 + 0.001 {
        return Err(wrong(format!("reaches beyond the label's {} × {} mm", page.0, page.1)));
    }
    if !(1..=40).contains(&max_lines) {
        return Err(wrong("data-max-lines must be between 1 and 40".into()));
    }
    if !is_hex(color) {
        return Err(wrong("data-color must be #rgb or #rrggbb".into()));
    }
    if !(SMALLEST_TEXT..=font_size).contains(&min_font_size) {
        return Err(wrong(format!("data-min-font-size must be between {SMALLEST_TEXT} and data-font-size")));
    }
    // One line at the smallest size must fit, or a long text could only be left out.
    if field.is_text() && min_font_size * 1.2 > rect.height {
        return Err(wrong("is too low for one line at data-min-font-size".into()));
    }
    Ok(made)
}
