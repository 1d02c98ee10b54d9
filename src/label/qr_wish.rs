//! One label's own wish for its QR code, over what its template says.

use super::{
    codes::{LEVELS, Level},
    style::Style,
    template::{Content, Field, FieldBox, LabelTemplate, Layer, Piece, Place, Rect},
};

/// Sides of a code whose size is not said, in millimetres.
const SIDE_MM: f32 = 15.0;
/// What stays free beside a code whose place is not said, in millimetres.
const MARGIN_MM: f32 = 2.0;

/// Whether a label has a QR code, and where; lengths in millimetres.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QrWish {
    pub enabled: bool,
    /// Of the upper left corner of the code's box, which holds its white margin too.
    pub position: Option<(f32, f32)>,
    pub size: Option<f32>,
    /// `L`, `M`, `Q` or `H`.
    pub level: Option<String>,
}

impl LabelTemplate {
    /// The template for one label with a wish of its own. A code that is not wanted is left out wherever the template
    /// has one. A code that is wanted at a place stands there and nowhere else, moved only as far as it would reach
    /// beyond the label; one that is just wanted stands where the template has it, else in the lower right corner.
    pub fn with_qr(&self, wish: &QrWish) -> LabelTemplate {
        let placed = wish.position.is_some() || wish.size.is_some();
        if wish.enabled && !placed && self.pieces.iter().any(has_qr) {
            return self.clone();
        }
        let mut template = self.clone();
        template.pieces = template.pieces.into_iter().filter_map(without_qr).collect();
        if wish.enabled {
            template.add(self.qr_layer(wish));
        }
        template
    }

    fn qr_layer(&self, wish: &QrWish) -> Layer {
        let (width, height) = (self.width_mm, self.height_mm);
        let side = wish.size.filter(|side| *side > 0.0).unwrap_or(SIDE_MM).min(width).min(height);
        let corner = ((width - side - MARGIN_MM).max(0.0), (height - side - MARGIN_MM).max(0.0));
        let (x, y) = wish.position.unwrap_or(corner);
        let level = LEVELS.iter().find(|(word, _)| Some(*word) == wish.level.as_deref());
        Layer {
            place: "qrCode".into(),
            name: "qrCode".into(),
            rect: Rect {
                x: x.clamp(0.0, width - side),
                y: y.clamp(0.0, height - side),
                width: side,
                height: side,
            },
            rotation: 0.0,
            opacity: 1.0,
            content: Content::Qr { source: None, level: level.map_or(Level::M, |(_, level)| *level) },
            style: Style { align: Place::Middle, ..Style::default() },
            conditional: Vec::new(),
            formats: Default::default(),
        }
    }

    /// On top of everything else.
    fn add(&mut self, layer: Layer) {
        const END: &str = "</svg>";
        let layer = Piece::Layer(Box::new(layer));
        match self.pieces.pop() {
            Some(Piece::Svg(text)) => {
                let at = text.rfind(END).unwrap_or(text.len());
                let (before, end) = text.split_at(at);
                self.pieces.extend([Piece::Svg(before.to_owned()), layer, Piece::Svg(end.to_owned())]);
            }
            other => self.pieces.extend(other.into_iter().chain([layer])),
        }
    }
}

fn has_qr(piece: &Piece) -> bool {
    match piece {
        Piece::Field(FieldBox { field, .. }) => matches!(field, Field::QrCode | Field::Code),
        Piece::Only { pieces, .. } => pieces.iter().any(has_qr),
        Piece::Layer(layer) => matches!(layer.content, Content::Qr { .. }),
        Piece::Svg(_) => false,
    }
}

/// The same without a QR code; a box for either kind of code keeps its bars.
fn without_qr(piece: Piece) -> Option<Piece> {
    match piece {
        Piece::Field(FieldBox { field: Field::QrCode, .. }) => None,
        Piece::Field(FieldBox { field: Field::Code, prefix, spec }) => Some(Piece::Only {
            field: Field::Barcode,
            present: true,
            pieces: vec![Piece::Field(FieldBox { field: Field::Barcode, prefix, spec })],
        }),
        Piece::Only { field, present, pieces } => {
            let pieces = pieces.into_iter().filter_map(without_qr).collect();
            Some(Piece::Only { field, present, pieces })
        }
        Piece::Layer(layer) if matches!(layer.content, Content::Qr { .. }) => None,
        other => Some(other),
    }
}
