//! Draws price labels: a template and a product become a PNG for the screen and a vector PDF for the printer.
//!
//! ```text
//! svg ──┐                                  data ─┐
//! layers├─▶ template ──────────────────────────┴─▶ canvas ─▶ drawing ─▶ PNG · JPEG · SVG · PDF · a place on a page
//! editor┘  (read, style, format, rules, picture)   (text, codes)
//! ```
//!
//! There are three ways to write a template down ([`Kind`]): an SVG file with boxes (`config/labels`, where the
//! convention is described at the top of `standard-label.svg`), JSON with layers, and the visual editor's JSON with
//! elements in pixels. Each becomes the one model of `template`, measured in millimetres. Everything in it is limited
//! (`limits`): it may come from a stranger.
//!
//! [`LabelRenderer::lay_out`] fills it with a product's values and gives a [`Drawing`], which is cheap to turn into
//! each format, or to place into a page of a larger document:
//!
//! ```no_run
//! # use jobcast::label::{LabelData, LabelRenderer, LabelTemplate};
//! # fn sheet(surface: &mut krilla::surface::Surface, data: &[LabelData]) -> Result<(), jobcast::label::LabelError> {
//! let renderer = LabelRenderer::new(); // make one and share it: it holds the fonts
//! let template = LabelTemplate::builtin("standard-label").unwrap();
//! for (n, data) in data.iter().enumerate() {
//!     let drawing = renderer.lay_out(template, data)?;
//!     drawing.draw_into(surface, 10.0, 10.0 + n as f32 * 45.0, 1.0)?; // millimetres, scale
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Laying out and drawing take some milliseconds of pure computation: do it off the async threads. Pictures that lie in
//! the object store are fetched by the caller ([`LabelTemplate::wanted_pictures`]), for nothing here does I/O. The same
//! template and data always give the same bytes, so that a repeated run writes the same objects.

mod canvas;
mod codes;
mod data;
mod drawing;
mod editor;
mod error;
mod format;
mod layers;
mod limits;
mod output;
mod picture;
mod qr_wish;
mod read;
mod rules;
mod style;
mod svg;
mod template;
mod text;

use std::{collections::BTreeSet, sync::LazyLock};

use resvg::usvg;

pub use data::{LabelData, PriceType};
pub use drawing::{Drawing, pdf, points};
pub use error::LabelError;
pub use limits::{DPI, MAX_PICTURE_BYTES, MAX_TEMPLATE_BYTES, PICTURE_DPI};
pub use output::{Format, Made, Output};
pub use picture::Picture;
pub use qr_wish::QrWish;
pub use rules::{AUTOMATIC, AutoMatch, Chosen, FALLBACK, choose};
pub use template::{Kind, LabelTemplate, slug};

use canvas::Canvas;
use text::Fonts;

/// One drawn label.
#[derive(Clone, Debug)]
pub struct RenderedLabel {
    /// RGBA, with its pixels per metre.
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
    fonts: Fonts,
}

/// Pixels per inch of a label that came as a picture.
const PICTURE_DPI_OF_LABELS: u32 = 300;

impl Default for LabelRenderer {
    fn default() -> Self {
        Self::new()
    }
}

impl LabelRenderer {
    /// The one of this process.
    pub fn shared() -> &'static LabelRenderer {
        static SHARED: LazyLock<LabelRenderer> = LazyLock::new(LabelRenderer::new);
        &SHARED
    }

    pub fn new() -> LabelRenderer {
        LabelRenderer { fonts: Fonts::new() }
    }

    /// Draws one label as PNG and PDF.
    pub fn render(&self, template: &LabelTemplate, data: &LabelData) -> Result<RenderedLabel, LabelError> {
        let drawing = self.lay_out(template, data)?;
        let (width_px, height_px) = drawing.pixels(template.dpi());
        Ok(RenderedLabel {
            png: drawing.png(template.dpi())?,
            pdf: drawing.pdf()?,
            width_px,
            height_px,
            warnings: drawing.warnings,
        })
    }

    /// Fills a template with a product's values.
    pub fn lay_out(&self, template: &LabelTemplate, data: &LabelData) -> Result<Drawing, LabelError> {
        self.lay_out_for(template, data, template.dpi())
    }

    /// The same for a picture of another resolution, on whose pixels the modules of codes then lie.
    pub fn lay_out_for(
        &self,
        template: &LabelTemplate,
        data: &LabelData,
        dpi: u32,
    ) -> Result<Drawing, LabelError> {
        let mut canvas = Canvas::new(&self.fonts, template, data, dpi);
        canvas.draw()?;
        let Canvas { svg, pictures, warnings, .. } = canvas;
        let tree = self.tree(&svg, &pictures)?;
        let (width_mm, height_mm) = template.size_mm();
        let mut said = BTreeSet::new();
        let warnings = warnings.into_iter().filter(|one| said.insert(one.clone())).collect();
        Ok(Drawing { tree, width_mm, height_mm, dpi, warnings })
    }

    /// A label that is a picture and nothing else, of a size in millimetres.
    pub fn lay_out_picture(
        &self,
        picture: &Picture,
        width_mm: f32,
        height_mm: f32,
    ) -> Result<Drawing, LabelError> {
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width_mm}mm" height="{height_mm}mm" viewBox="0 0 {width_mm} {height_mm}"><image href="picture:0" width="{width_mm}" height="{height_mm}"/></svg>"#
        );
        let tree = self.tree(&svg, std::slice::from_ref(picture))?;
        Ok(Drawing { tree, width_mm, height_mm, dpi: PICTURE_DPI_OF_LABELS, warnings: Vec::new() })
    }

    fn tree(&self, svg: &str, pictures: &[Picture]) -> Result<usvg::Tree, LabelError> {
        let (regular, bold) = (self.fonts.regular.id, self.fonts.bold.id);
        let options = usvg::Options {
            fontdb: self.fonts.database.clone(),
            font_resolver: usvg::FontResolver {
                select_font: Box::new(move |font, _| Some(if font.weight() >= 600 { bold } else { regular })),
                select_fallback: Box::new(|_, _, _| None),
            },
            // Only pictures that the canvas put there; never a file or an address.
            image_href_resolver: usvg::ImageHrefResolver {
                resolve_data: Box::new(|_, _, _| None),
                resolve_string: Box::new(|href, _| {
                    let number: usize = href.strip_prefix("picture:")?.parse().ok()?;
                    pictures.get(number).map(Picture::kind)
                }),
            },
            ..Default::default()
        };
        usvg::Tree::from_str(svg, &options).map_err(|error| LabelError::Draw(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
