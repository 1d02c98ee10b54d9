//! How a layer looks: defaults, the document's styles for its field, its own, and those that depend on the data.

use serde_json::Value;

use super::{
    LabelError,
    data::LabelData,
    limits::SMALLEST_TEXT,
    read::Node,
    template::{Field, LabelTemplate, Place},
    text::LEADING,
};

/// Largest letters, in millimetres.
const MAX_FONT: f32 = 200.0;
/// Longest margin, border or radius, in millimetres.
const MAX_EDGE: f32 = 100.0;
/// One typographic point, in millimetres.
const POINT: f32 = 25.4 / 72.0;
/// One pixel of a style sheet, in millimetres.
const CSS_PIXEL: f32 = 25.4 / 96.0;
/// Styles that depend on the data, of one layer.
const MAX_CONDITIONS: usize = 20;
/// Text that does not fit shrinks to this share of its size, unless told.
const SHRINK: f32 = 0.5;

/// What numbers without a unit mean, in millimetres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub font: f32,
    pub edge: f32,
}

impl Scale {
    /// Points for letters and style sheet pixels for edges, as in word processors and web pages.
    pub(super) const PRINT: Scale = Scale { font: POINT, edge: CSS_PIXEL };
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Case {
    AsIs,
    Upper,
    Lower,
    Capital,
}

/// A resolved look; lengths in millimetres, colours `#rrggbb` or `None` for none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Style {
    pub font_size: f32,
    pub min_font_size: Option<f32>,
    pub bold: bool,
    pub color: String,
    pub align: Place,
    pub valign: Place,
    pub case: Case,
    pub background: Option<String>,
    /// Top, right, bottom, left.
    pub padding: [f32; 4],
    pub border_width: f32,
    pub border_color: Option<String>,
    pub dashed: bool,
    pub radius: f32,
    pub leading: f32,
    pub decoration: Option<&'static str>,
    pub max_lines: usize,
    /// Right, down, colour.
    pub shadow: Option<(f32, f32, String)>,
    pub hidden: bool,
}

impl Default for Style {
    fn default() -> Self {
        Style {
            font_size: 12.0 * POINT,
            min_font_size: None,
            bold: false,
            color: "#000000".into(),
            align: Place::Start,
            valign: Place::Start,
            case: Case::AsIs,
            background: None,
            padding: [0.0; 4],
            border_width: 0.0,
            border_color: None,
            dashed: false,
            radius: 0.0,
            leading: LEADING,
            decoration: None,
            max_lines: 40,
            shadow: None,
            hidden: false,
        }
    }
}

impl Style {
    /// The look that a field has when nobody says otherwise.
    pub(super) fn of(field: Option<Field>, scale: Scale) -> Style {
        let size = |points: f32| points * scale.font;
        let style = Style { font_size: size(12.0), ..Style::default() };
        match field {
            Some(Field::ArticleNumber) => Style { bold: true, font_size: size(14.0), ..style },
            Some(Field::ProductName) => Style { bold: true, font_size: size(16.0), ..style },
            Some(Field::Price) => {
                Style { bold: true, font_size: size(24.0), align: Place::End, max_lines: 1, ..style }
            }
            Some(Field::TieredPrice) => Style {
                color: "#0066cc".into(),
                background: Some("#f0f8ff".into()),
                border_width: scale.edge.min(CSS_PIXEL),
                border_color: Some("#0066cc".into()),
                padding: [scale.edge * 2.0; 4],
                ..style
            },
            Some(Field::Ean | Field::Description) => Style { font_size: size(10.0), ..style },
            _ => style,
        }
    }

    /// The smallest letters that the text may shrink to.
    pub(super) fn smallest(&self) -> f32 {
        let told = self.min_font_size.unwrap_or(self.font_size * SHRINK);
        told.clamp(SMALLEST_TEXT.min(self.font_size), self.font_size)
    }

    pub(super) fn with(mut self, patch: &Patch) -> Style {
        let Patch { font_size, bold, color, align, valign, case, padding, border_width, dashed, .. } = patch;
        let set = |slot: &mut f32, value: &Option<f32>| {
            if let Some(value) = value {
                *slot = *value;
            }
        };
        set(&mut self.font_size, font_size);
        set(&mut self.border_width, border_width);
        set(&mut self.radius, &patch.radius);
        set(&mut self.leading, &patch.leading);
        self.min_font_size = patch.min_font_size.or(self.min_font_size);
        self.bold = bold.unwrap_or(self.bold);
        self.dashed = dashed.unwrap_or(self.dashed);
        self.align = align.unwrap_or(self.align);
        self.valign = valign.unwrap_or(self.valign);
        self.case = case.unwrap_or(self.case);
        self.padding = padding.unwrap_or(self.padding);
        self.decoration = patch.decoration.unwrap_or(self.decoration);
        self.max_lines = patch.max_lines.unwrap_or(self.max_lines);
        self.hidden = patch.hidden.unwrap_or(self.hidden);
        // Text without a colour would be no text.
        self.color = color.clone().flatten().unwrap_or(self.color);
        self.background = patch.background.clone().unwrap_or(self.background);
        self.border_color = patch.border_color.clone().unwrap_or(self.border_color);
        if self.border_color.is_none() && patch.border_width.is_some_and(|width| width > 0.0) {
            self.border_color = Some("#000000".into());
        }
        self.shadow = patch.shadow.clone().unwrap_or(self.shadow);
        self
    }
}

/// What one place of a document says of a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patch {
    font_size: Option<f32>,
    min_font_size: Option<f32>,
    bold: Option<bool>,
    color: Option<Option<String>>,
    align: Option<Place>,
    valign: Option<Place>,
    case: Option<Case>,
    background: Option<Option<String>>,
    padding: Option<[f32; 4]>,
    border_width: Option<f32>,
    border_color: Option<Option<String>>,
    dashed: Option<bool>,
    radius: Option<f32>,
    leading: Option<f32>,
    decoration: Option<Option<&'static str>>,
    max_lines: Option<usize>,
    shadow: Option<Option<(f32, f32, String)>>,
    hidden: Option<bool>,
}

impl Patch {
    /// Reads what it knows of an object; other members are for others.
    pub(super) fn read(node: &Node, scale: Scale) -> Result<Patch, LabelError> {
        let node = &node.clone().object()?;
        let edge = |keys: &[&str]| {
            node.first(keys).map(|found| length(&found, scale.edge, 0.0..=MAX_EDGE)).transpose()
        };
        let paint = |keys: &[&str]| node.first(keys).map(|found| color(&found)).transpose();
        let font_scale = match node.get("fontSizeUnit") {
            None => scale.font,
            Some(unit) => unit.word(&[("pt", POINT), ("mm", 1.0), ("px", scale.edge)])?,
        };
        let font = |keys: &[&str]| {
            node.first(keys).map(|found| length(&found, font_scale, SMALLEST_TEXT..=MAX_FONT)).transpose()
        };
        let mut patch = Patch {
            font_size: font(&["fontSize"])?,
            min_font_size: font(&["minFontSize"])?,
            bold: node.first(&["fontWeight", "weight"]).map(|found| weight(&found)).transpose()?,
            color: paint(&["color", "textColor", "fontColor"])?,
            align: node.first(&["textAlign", "align", "alignment"]).map(|f| f.word(&ALIGN)).transpose()?,
            valign: node.first(&["verticalAlign", "valign"]).map(|f| f.word(&VALIGN)).transpose()?,
            case: node
                .first(&["textTransform", "transform"])
                .filter(|found| found.value.is_string())
                .map(|found| found.word(&CASE))
                .transpose()?,
            background: paint(&["backgroundColor", "background", "fill", "fillColor"])?,
            padding: node.get("padding").map(|found| sides(&found, scale.edge)).transpose()?,
            border_width: edge(&["borderWidth", "strokeWidth"])?,
            border_color: paint(&["borderColor", "stroke", "strokeColor"])?,
            dashed: None,
            radius: edge(&["borderRadius", "cornerRadius", "radius"])?,
            leading: node.get("lineHeight").map(|found| found.number(0.8..=3.0)).transpose()?,
            decoration: node.get("textDecoration").map(|f| f.word(&DECORATION)).transpose()?,
            max_lines: node.get("maxLines").map(|f| f.whole(1..=40)).transpose()?.map(|n| n as usize),
            shadow: node.first(&["textShadow", "shadow"]).map(|f| shadow(&f, scale.edge)).transpose()?,
            hidden: match (node.get("hidden"), node.get("visible")) {
                (Some(hidden), _) => Some(hidden.flag()?),
                (None, Some(visible)) => Some(!visible.flag()?),
                (None, None) => None,
            },
        };
        patch.border(node, scale)?;
        Ok(patch)
    }

    /// Without what belongs to a box: the look of all text of a document.
    pub(super) fn of_text(self) -> Patch {
        Patch {
            background: None,
            padding: None,
            border_width: None,
            border_color: None,
            radius: None,
            shadow: None,
            hidden: None,
            ..self
        }
    }

    /// Whether it says where content stands in its box.
    pub(super) fn is_aligned(&self) -> bool {
        self.align.is_some()
    }

    /// `border` is an object, or a text such as `1px solid #0066cc`.
    fn border(&mut self, node: &Node, scale: Scale) -> Result<(), LabelError> {
        let style = |found: &Node| found.word(&[("solid", false), ("dashed", true), ("dotted", true)]);
        if let Some(found) = node.first(&["borderStyle", "strokeStyle"]) {
            match found.value.as_str() {
                Some("none") => self.border_width = Some(0.0),
                _ => self.dashed = Some(style(&found)?),
            }
        }
        let Some(border) = node.get("border") else { return Ok(()) };
        match border.value {
            Value::Object(_) => {
                if let Some(found) = border.get("width") {
                    self.border_width = Some(length(&found, scale.edge, 0.0..=MAX_EDGE)?);
                }
                if let Some(found) = border.get("color") {
                    self.border_color = Some(color(&found)?);
                }
                if let Some(found) = border.get("radius") {
                    self.radius = Some(length(&found, scale.edge, 0.0..=MAX_EDGE)?);
                }
                if let Some(found) = border.get("style") {
                    match found.value.as_str() {
                        Some("none") => self.border_width = Some(0.0),
                        _ => self.dashed = Some(style(&found)?),
                    }
                }
            }
            Value::Bool(there) => self.border_width = Some(if *there { scale.edge } else { 0.0 }),
            _ => {
                for word in border.text(80)?.split_whitespace() {
                    let value = Value::String(word.to_owned());
                    let part = Node { value: &value, place: border.place.clone() };
                    match word {
                        "none" => self.border_width = Some(0.0),
                        "solid" => self.dashed = Some(false),
                        "dashed" | "dotted" => self.dashed = Some(true),
                        _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                            self.border_width = Some(length(&part, scale.edge, 0.0..=MAX_EDGE)?);
                        }
                        _ => self.border_color = Some(color(&part)?),
                    }
                }
            }
        }
        Ok(())
    }
}

const ALIGN: [(&str, Place); 6] = [
    ("left", Place::Start),
    ("center", Place::Middle),
    ("right", Place::End),
    ("start", Place::Start),
    ("end", Place::End),
    ("justify", Place::Start),
];
const VALIGN: [(&str, Place); 5] = [
    ("top", Place::Start),
    ("middle", Place::Middle),
    ("bottom", Place::End),
    ("center", Place::Middle),
    ("baseline", Place::Start),
];
const CASE: [(&str, Case); 4] = [
    ("none", Case::AsIs),
    ("uppercase", Case::Upper),
    ("lowercase", Case::Lower),
    ("capitalize", Case::Capital),
];
const DECORATION: [(&str, Option<&str>); 3] =
    [("none", None), ("underline", Some("underline")), ("line-through", Some("line-through"))];

/// A number in `unit` millimetres, or a text with a unit of its own: `2mm`, `3px`, `12pt`.
pub(super) fn length(
    node: &Node,
    unit: f32,
    range: std::ops::RangeInclusive<f32>,
) -> Result<f32, LabelError> {
    let (number, unit) = match node.value.as_str() {
        None => (None, unit),
        Some(text) => {
            let text = text.trim();
            // "1e3" and "NaN" are numbers of a kind, not numbers with a unit.
            let end = match text.parse::<f64>() {
                Ok(_) => text.len(),
                Err(_) => text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()),
            };
            let unit = match &text[end..] {
                "" => unit,
                "mm" => 1.0,
                "cm" => 10.0,
                "in" => 25.4,
                "pt" => POINT,
                "px" => CSS_PIXEL,
                other => {
                    return Err(node.wrong(format!("has the unknown unit {other}; use mm, cm, in, pt or px")));
                }
            };
            (text[..end].trim().parse::<f64>().ok(), unit)
        }
    };
    let number = number.or_else(|| node.value.as_f64());
    let mm = number.map(|number| number as f32 * unit).filter(|mm| mm.is_finite());
    let mm = mm.ok_or_else(|| node.wrong("must be a number"))?;
    // Rounding must not refuse what lies exactly on an edge.
    let (low, high) = (*range.start(), *range.end());
    if mm < low - 0.001 || mm > high + 0.001 {
        return Err(node.wrong(format!("is {mm:.2} mm; it must be from {low} to {high} mm")));
    }
    Ok(mm.clamp(low, high))
}

fn sides(node: &Node, unit: f32) -> Result<[f32; 4], LabelError> {
    if node.value.is_object() {
        let side = |key| node.get(key).map_or(Ok(0.0), |found| length(&found, unit, 0.0..=MAX_EDGE));
        return Ok([side("top")?, side("right")?, side("bottom")?, side("left")?]);
    }
    let text = match node.value {
        Value::String(text) if text.contains(' ') => text,
        _ => return Ok([length(node, unit, 0.0..=MAX_EDGE)?; 4]),
    };
    let parts = text.split_whitespace().take(5).map(|word| {
        let value = Value::String(word.to_owned());
        length(&Node { value: &value, place: node.place.clone() }, unit, 0.0..=MAX_EDGE)
    });
    match parts.collect::<Result<Vec<f32>, _>>()?[..] {
        [all] => Ok([all; 4]),
        [y, x] => Ok([y, x, y, x]),
        [top, x, bottom] => Ok([top, x, bottom, x]),
        [top, right, bottom, left] => Ok([top, right, bottom, left]),
        _ => Err(node.wrong("must have one to four lengths")),
    }
}

fn weight(node: &Node) -> Result<bool, LabelError> {
    if let Ok(number) = node.number(1.0..=1000.0) {
        return Ok(number >= 600.0);
    }
    node.word(&[
        ("normal", false),
        ("regular", false),
        ("light", false),
        ("lighter", false),
        ("medium", false),
        ("bold", true),
        ("bolder", true),
        ("semibold", true),
    ])
}

fn shadow(node: &Node, unit: f32) -> Result<Option<(f32, f32, String)>, LabelError> {
    if !node.value.is_object() {
        return match node.value.as_str() {
            Some("none" | "") => Ok(None),
            _ => Err(node.wrong("must be an object with offsetX, offsetY and color, or \"none\"")),
        };
    }
    let side = |keys: &[&str]| node.first(keys).map_or(Ok(unit), |found| length(&found, unit, 0.0..=2.0));
    let painted = node.get("color").map_or(Ok(Some("#999999".into())), |found| color(&found))?;
    let (x, y) = (side(&["offsetX", "x"])?, side(&["offsetY", "y"])?);
    Ok(painted.map(|color| (x, y, color)))
}

pub(super) fn is_hex(text: &str) -> bool {
    let hex = text.strip_prefix('#').unwrap_or_default();
    matches!(hex.len(), 3 | 6) && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `#rgb`, `#rrggbb`, `#rrggbbaa`, `rgb(…)`, `rgba(…)`, a name, or `transparent`. What shines through is mixed with the
/// white of the paper.
pub(super) fn color(node: &Node) -> Result<Option<String>, LabelError> {
    let text = node.text(40)?.trim().to_ascii_lowercase();
    let known = match text.as_str() {
        "" | "none" | "transparent" => return Ok(None),
        "black" => "#000000",
        "white" => "#ffffff",
        "red" => "#ff0000",
        "green" => "#008000",
        "blue" => "#0000ff",
        "yellow" => "#ffff00",
        "orange" => "#ffa500",
        "gray" | "grey" => "#808080",
        "silver" => "#c0c0c0",
        "navy" => "#000080",
        "purple" => "#800080",
        "maroon" => "#800000",
        "teal" => "#008080",
        other => other,
    };
    if is_hex(known) {
        return Ok(Some(known.to_owned()));
    }
    let channels: Option<Vec<f32>> = match known.strip_prefix('#') {
        Some(hex) if hex.len() == 8 && hex.is_ascii() => (0..4)
            .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok())
            .map(|byte| byte.map(f32::from))
            .collect::<Option<Vec<f32>>>()
            .map(|mut all| {
                all[3] /= 255.0;
                all
            }),
        _ => known
            .strip_prefix("rgba(")
            .or_else(|| known.strip_prefix("rgb("))
            .and_then(|rest| rest.strip_suffix(')'))
            .map(|rest| rest.split(',').map(|part| part.trim().parse().ok()).collect())
            .unwrap_or_default(),
    };
    let (red, green, blue, alpha) = match channels.as_deref() {
        Some([r, g, b]) => (*r, *g, *b, 1.0),
        Some([r, g, b, a]) => (*r, *g, *b, *a),
        _ => {
            return Err(
                node.wrong("must be a colour such as #0066cc, rgb(0, 102, 204), black or transparent")
            );
        }
    };
    let fine = [red, green, blue].iter().all(|c| (0.0..=255.0).contains(c)) && (0.0..=1.0).contains(&alpha);
    if !fine {
        return Err(node.wrong("must be a colour with channels from 0 to 255"));
    }
    let mixed = |channel: f32| (channel * alpha + 255.0 * (1.0 - alpha)).round() as u8;
    Ok((alpha > 0.0).then(|| format!("#{:02x}{:02x}{:02x}", mixed(red), mixed(green), mixed(blue))))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Test {
    Equal,
    Unequal,
    Above,
    AtLeast,
    Below,
    AtMost,
    Contains,
    There,
    Missing,
}

const TESTS: [(&str, Test); 25] = [
    ("==", Test::Equal),
    ("=", Test::Equal),
    ("===", Test::Equal),
    ("equals", Test::Equal),
    ("eq", Test::Equal),
    ("!=", Test::Unequal),
    ("!==", Test::Unequal),
    ("notEquals", Test::Unequal),
    ("ne", Test::Unequal),
    (">", Test::Above),
    ("greaterThan", Test::Above),
    ("gt", Test::Above),
    (">=", Test::AtLeast),
    ("gte", Test::AtLeast),
    ("greaterOrEqual", Test::AtLeast),
    ("<", Test::Below),
    ("lessThan", Test::Below),
    ("lt", Test::Below),
    ("<=", Test::AtMost),
    ("lte", Test::AtMost),
    ("lessOrEqual", Test::AtMost),
    ("contains", Test::Contains),
    ("exists", Test::There),
    ("notExists", Test::Missing),
    ("empty", Test::Missing),
];

/// A look that holds for some products only.
#[derive(Clone, Debug)]
pub(super) struct Conditional {
    key: String,
    test: Test,
    value: String,
    patch: Patch,
}

impl Conditional {
    pub(super) fn read_all(places: &[&Node], scale: Scale) -> Result<Vec<Conditional>, LabelError> {
        let Some(list) = Node::first_of(places, &["conditionalStyles"]) else { return Ok(Vec::new()) };
        list.list(MAX_CONDITIONS)?.iter().map(|node| Conditional::read(node, scale)).collect()
    }

    /// `{condition: {field, operator, value}, style: {…}}`, the condition's members may stand outside, or it may be
    /// a text such as `price > 100`.
    fn read(node: &Node, scale: Scale) -> Result<Conditional, LabelError> {
        let condition = node.get("condition").unwrap_or_else(|| node.clone());
        let patch = Patch::read(
            &node.first(&["style", "styles"]).ok_or_else(|| node.wrong("needs a style"))?,
            scale,
        )?;
        if condition.value.is_string() {
            let text = condition.text(200)?;
            let mut words = text.splitn(3, ' ');
            let key = words.next().unwrap_or_default().to_owned();
            let word = words.next().unwrap_or("exists");
            let test = TESTS.iter().find(|(known, _)| *known == word).map(|(_, test)| *test);
            let test = test.ok_or_else(|| condition.wrong("must be like \"price > 100\""))?;
            let value = words.next().unwrap_or_default().trim_matches(['"', '\'']).to_owned();
            return Ok(Conditional { key, test, value, patch });
        }
        let condition = condition.object()?;
        let field = condition.first(&["field", "dataField", "property"]);
        let field = field.ok_or_else(|| condition.wrong("needs a field, an operator and a value"))?;
        let test = match condition.get("operator") {
            None => Test::Equal,
            Some(operator) => operator.word(&TESTS)?,
        };
        let value = match condition.get("value") {
            None => String::new(),
            Some(value) if value.value.is_boolean() => value.flag()?.to_string(),
            Some(value) => value.text(200)?,
        };
        Ok(Conditional { key: field.text(64)?, test, value, patch })
    }

    pub(super) fn patch(&self, template: &LabelTemplate, data: &LabelData) -> Option<&Patch> {
        let found = match Field::of_key(&self.key) {
            // Compared as a number, not as it is written.
            Some(Field::Price) => {
                let price = data.facts.price.or(data.facts.tiers.first().map(|tier| tier.price));
                price.map(|price| price.to_string())
            }
            Some(Field::TieredPrice) => {
                Some(data.facts.tiers.len().to_string()).filter(|_| !data.facts.tiers.is_empty())
            }
            _ => template.value(data, &self.key),
        };
        let holds = match (self.test, found) {
            (Test::There, found) => found.is_some(),
            (Test::Missing, found) => found.is_none(),
            (Test::Unequal, None) => true,
            (_, None) => false,
            (Test::Contains, Some(found)) => found.to_lowercase().contains(&self.value.to_lowercase()),
            (test, Some(found)) => {
                let numbers = found.trim().parse::<f64>().ok().zip(self.value.trim().parse::<f64>().ok());
                let order = match numbers {
                    Some((found, value)) => found.partial_cmp(&value),
                    None => Some(found.trim().cmp(self.value.trim())),
                };
                order.is_some_and(|order| match test {
                    Test::Equal => order.is_eq(),
                    Test::Unequal => order.is_ne(),
                    Test::Above => order.is_gt(),
                    Test::AtLeast => order.is_ge(),
                    Test::Below => order.is_lt(),
                    _ => order.is_le(),
                })
            }
        };
        holds.then_some(&self.patch)
    }
}
