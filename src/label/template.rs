//! The one model that every kind of template becomes: boxes in millimetres, in the order in which they are drawn.

use std::sync::LazyLock;

use super::{
    LabelError, codes,
    data::LabelData,
    editor,
    format::Formats,
    layers,
    limits::{MAX_PIXELS, MAX_TEMPLATE_BYTES},
    picture::Picture,
    rules::AutoMatch,
    style::{Conditional, Style},
    svg,
    text::TextSpec,
};

/// How a template is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An SVG file with empty boxes, as in `config/labels`.
    Svg,
    /// JSON with layers, as the template pages send it.
    Layers,
    /// JSON with elements in pixels, as the visual editor sends it.
    Editor,
}

impl Kind {
    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Svg => "svg",
            Kind::Layers => "layers",
            Kind::Editor => "editor",
        }
    }

    pub fn named(word: &str) -> Option<Kind> {
        [Kind::Svg, Kind::Layers, Kind::Editor].into_iter().find(|kind| kind.word() == word)
    }
}

/// A known value of a product that a box may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
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

    /// The field of an SVG's box.
    pub(super) fn named(name: &str) -> Result<Field, LabelError> {
        Field::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field).ok_or_else(|| {
            let known: Vec<&str> = Field::ALL.iter().map(|(known, _)| *known).collect();
            LabelError::Field {
                field: name.into(),
                problem: format!("no such field; there are {}", known.join(", ")),
            }
        })
    }

    /// The field that a key of the data means; other keys are values of their own.
    pub(super) fn of_key(key: &str) -> Option<Field> {
        Some(match key {
            "articleNumber" | "article_number" | "sku" => Field::ArticleNumber,
            "productName" | "name" | "title" => Field::ProductName,
            "price" => Field::Price,
            "tieredPrice" | "tieredPrices" | "tieredPricesText" | "staffelpreise" | "priceTable" => {
                Field::TieredPrice
            }
            "ean" | "gtin" => Field::Ean,
            "description" => Field::Description,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        Field::ALL.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// Its name as people say it: `productName` is the product name.
    pub(super) fn words(self) -> String {
        let spaced = self
            .name()
            .chars()
            .flat_map(|c| c.is_uppercase().then_some(' ').into_iter().chain(c.to_lowercase()));
        if self == Field::Ean { "EAN".into() } else { spaced.collect() }
    }

    pub(super) fn is_text(self) -> bool {
        !matches!(self, Field::Barcode | Field::QrCode | Field::Code)
    }

    /// A cut name is still a name, but a cut price is another price.
    pub(super) fn may_be_cut(self) -> bool {
        matches!(self, Field::ProductName | Field::Description)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Start,
    Middle,
    End,
}

impl Place {
    /// How much of the free room stands before the content.
    pub(super) fn share(self) -> f32 {
        match self {
            Place::Start => 0.0,
            Place::Middle => 0.5,
            Place::End => 1.0,
        }
    }
}

/// A rectangle in millimetres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Rect {
    /// What is left of it inside of margins (top, right, bottom, left).
    pub(super) fn inside(self, [top, right, bottom, left]: [f32; 4]) -> Rect {
        let width = (self.width - left - right).max(0.0);
        let height = (self.height - top - bottom).max(0.0);
        Rect { x: self.x + left, y: self.y + top, width, height }
    }
}

/// One box of an SVG.
#[derive(Clone, Debug)]
pub(super) struct FieldBox {
    pub field: Field,
    pub prefix: String,
    pub spec: TextSpec,
}

/// Text with places for values: `{{price}} je Stück`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Words(String),
    Value(String),
}

/// Where a layer's content comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Field(Field),
    /// Another value of the data.
    Key(String),
    Text(Vec<Part>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fit {
    /// Whole, with margins.
    Contain,
    /// Fills the box, edges cut off.
    Cover,
    /// Stretched.
    Fill,
}

#[derive(Clone, Debug)]
pub(super) enum PictureSource {
    /// Came with the template.
    Own(Picture),
    /// Of our own object store; the caller fetches it.
    Address(String),
    /// The data names it.
    Key(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Rectangle,
    Ellipse,
    Line,
}

/// What a layer shows.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Text(Source),
    /// Price tiers, one row each: from how many, and the price.
    Table,
    Bars {
        symbology: Option<codes::Symbology>,
        source: Source,
        digits: bool,
    },
    /// Without a source the product's address, else its article number.
    Qr {
        source: Option<Source>,
        level: codes::Level,
    },
    Picture {
        source: PictureSource,
        fit: Fit,
    },
    Shape(Form),
}

/// One layer or element.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Where it stands in the document: `layers[3]`.
    pub place: String,
    /// What people call it.
    pub name: String,
    pub rect: Rect,
    /// Clockwise around its centre, in degrees.
    pub rotation: f32,
    pub opacity: f32,
    pub content: Content,
    pub style: Style,
    pub conditional: Vec<Conditional>,
    pub formats: Formats,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Goes into the label as it stands.
    Svg(String),
    Field(FieldBox),
    /// There only when the product has (or has not) a value for the field.
    Only {
        field: Field,
        present: bool,
        pieces: Vec<Piece>,
    },
    Layer(Box<Layer>),
}

/// A template that was found to be sound.
#[derive(Clone, Debug)]
pub struct LabelTemplate {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) width_mm: f32,
    pub(super) height_mm: f32,
    pub(super) dpi: u32,
    pub(super) pieces: Vec<Piece>,
    /// What values are when the data does not tell.
    pub(super) defaults: Vec<(String, String)>,
    pub(super) auto_match: AutoMatch,
    pub(super) source: String,
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
    /// Checks an SVG file and takes it apart.
    pub fn parse(id: &str, svg_text: &str) -> Result<LabelTemplate, LabelError> {
        LabelTemplate::of(id, Kind::Svg, svg_text)
    }

    /// A template as it is stored: its kind is a word of [`Kind::word`], and was looked at when it was written.
    pub fn stored(id: &str, kind: &str, source: &str) -> Result<LabelTemplate, LabelError> {
        let kind = Kind::named(kind).ok_or_else(|| LabelError::Place {
            place: format!("the template {id}"),
            problem: "chooses a template for each product; name one of those".into(),
        })?;
        LabelTemplate::of(id, kind, source)
    }

    /// Checks a template of any kind and takes it apart. `source` may come from a stranger: it can name no file and
    /// fetch nothing, and everything in it is limited.
    pub fn of(id: &str, kind: Kind, source: &str) -> Result<LabelTemplate, LabelError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(LabelError::TooLong { bytes: source.len() });
        }
        let template = match kind {
            Kind::Svg => svg::parse(id, source),
            Kind::Layers => layers::parse(id, source),
            Kind::Editor => editor::parse(id, source),
        }?;
        let (width_px, height_px) = template.pixels(template.dpi);
        if u64::from(width_px) * u64::from(height_px) > MAX_PIXELS {
            return Err(LabelError::Page(format!(
                "{width_px} × {height_px} pixels are too many; lower the dpi"
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

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The text that it was made from.
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

    /// When it is chosen by itself.
    pub fn auto_match(&self) -> &AutoMatch {
        &self.auto_match
    }

    /// Width and height of a picture of it.
    pub fn pixels(&self, dpi: u32) -> (u32, u32) {
        let pixels = |mm: f32| ((mm * dpi as f32 / 25.4).round() as u32).max(1);
        (pixels(self.width_mm), pixels(self.height_mm))
    }

    /// Addresses of pictures that the template itself names, each with its place in the document.
    pub fn picture_addresses(&self) -> impl Iterator<Item = (String, &str)> {
        self.pictures().filter_map(|(layer, source)| match source {
            PictureSource::Address(address) => Some((format!("{}.properties.src", layer.place), &**address)),
            _ => None,
        })
    }

    /// Addresses of all pictures that a label needs and that do not stand in it already. The caller fetches those
    /// that lie in the own object store, and no others.
    pub fn wanted_pictures(&self, data: &LabelData) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        for (_, source) in self.pictures() {
            let address = match source {
                PictureSource::Own(_) => continue,
                PictureSource::Address(address) => address.clone(),
                PictureSource::Key(key) => match self.value(data, key) {
                    Some(value) if !value.starts_with("data:") => value,
                    _ => continue,
                },
            };
            if !wanted.contains(&address) && !data.pictures.contains_key(&address) {
                wanted.push(address);
            }
        }
        wanted
    }

    fn pictures(&self) -> impl Iterator<Item = (&Layer, &PictureSource)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Layer(layer) => match &layer.content {
                Content::Picture { source, .. } => Some((&**layer, source)),
                _ => None,
            },
            _ => None,
        })
    }

    /// A value of the data, else the template's default for it.
    pub(super) fn value(&self, data: &LabelData, key: &str) -> Option<String> {
        data.value(key).or_else(|| {
            let default = self.defaults.iter().find(|(name, _)| name == key);
            default.map(|(_, value)| value.clone()).filter(|value| !value.trim().is_empty())
        })
    }
}

/// `Standard Label` as ids are written: `standard-label`.
pub fn slug(name: &str) -> String {
    name.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}
