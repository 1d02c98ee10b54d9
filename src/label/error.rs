//! Why a template cannot be used or a label could not be drawn; each sentence names the place and what to do.

use super::limits::{MAX_FIELDS, MAX_TEMPLATE_BYTES, MAX_TEMPLATE_DEPTH};

/// Why a template cannot be used or a label could not be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
    /// A place of a JSON document, such as `layers[3].size.width`.
    #[error("{place} {problem}")]
    Place { place: String, problem: String },
    /// The data cannot be shown as the template asks.
    #[error("{0}")]
    Data(String),
    #[error("the label could not be drawn: {0}")]
    Draw(String),
}

impl LabelError {
    /// Whether the template or the data is at fault, and not the drawing.
    pub fn is_of_the_input(&self) -> bool {
        !matches!(self, LabelError::Draw(_))
    }
}
