//! Print sheets: where labels lie on paper, and the PDF that has them there. Pure.
//!
//! ```text
//! layout (millimetres: paper, cells, cut marks) ─┐
//! label::Drawing, one for each cell ─────────────┴─▶ sheet ─▶ one PDF for some pages ─▶ join ─▶ a PDF of any length
//! ```
//!
//! A PDF library must hold a document until its end, so a document of thousands of labels is not made at once: [`sheet`]
//! makes small ones of a few pages, and [`join`] passes their objects on under new numbers as soon as each is there.
//! What stays in memory is one small document and eight bytes for each object that went by.

mod join;
mod layout;
mod sheet;

pub use join::{JoinError, Joiner};
pub use layout::{Edges, FORMATS, LIMITS, Layout, LayoutError, Line, PRESETS, Paper, Preset, Rect, fill};
pub use sheet::{Fit, draw, fit, picture};
