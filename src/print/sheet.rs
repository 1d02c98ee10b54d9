//! Draws sheets: labels in their cells, cut marks and borders, as pages of a PDF or as a picture.

use krilla::{
    Document, color,
    geom::{PathBuilder, Rect as PdfRect},
    metadata::Metadata,
    num::NormalizedF32,
    page::PageSettings,
    paint::Stroke,
    surface::Surface,
};
use resvg::tiny_skia::{self, Pixmap};

use super::{Layout, Rect};
use crate::label::{Drawing, LabelError, points};

/// The width of a cut mark, and of a cell's border, in millimetres.
const MARK_WIDTH: f64 = 0.1;
const BORDER_WIDTH: f64 = 0.2;
/// The grey of a border; a cut mark is black.
const BORDER_GREY: u8 = 150;

/// Where a label lies in its cell: as large as it can be, in the middle, never turned or distorted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub x: f64,
    pub y: f64,
    /// How much larger than by itself.
    pub scale: f64,
}

/// Puts a label of this size into a cell.
pub fn fit(cell: Rect, (width, height): (f64, f64)) -> Fit {
    let scale = (cell.width / width).min(cell.height / height);
    Fit {
        x: cell.x + (cell.width - width * scale) / 2.0,
        y: cell.y + (cell.height - height * scale) / 2.0,
        scale,
    }
}

fn place(layout: &Layout, number: usize, drawing: &Drawing) -> Fit {
    let (width, height) = drawing.size_mm();
    fit(layout.cell(number), (f64::from(width), f64::from(height)))
}

/// A document of as many sheets as so many labels need. `drawing` gives the label of each number when it is its turn;
/// none is kept.
///
/// # Errors
/// When a label cannot be drawn, or the PDF library refuses to.
pub fn draw<E: From<LabelError>>(
    layout: &Layout,
    labels: usize,
    mut drawing: impl FnMut(usize) -> Result<Drawing, E>,
) -> Result<Vec<u8>, E> {
    let problem = |what: &str| LabelError::Draw(format!("{what} of the sheet failed"));
    let mut document = Document::new();
    // No date: the bytes depend on nothing but the labels.
    document.set_metadata(Metadata::new().creator("Jobcast".into()));
    let size = (points(layout.width as f32), points(layout.height as f32));
    for first in (0..labels).step_by(layout.cells()) {
        let on_sheet = layout.cells().min(labels - first);
        let settings =
            PageSettings::from_wh(size.0, size.1).ok_or_else(|| problem("the size of the page"))?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        for number in 0..on_sheet {
            let drawing = drawing(first + number)?;
            let Fit { x, y, scale } = place(layout, number, &drawing);
            drawing.draw_into(&mut surface, x as f32, y as f32, scale as f32)?;
        }
        lines(layout, on_sheet, &mut surface).ok_or_else(|| problem("the lines"))?;
        surface.finish();
        page.finish();
    }
    Ok(document.finish().map_err(|error| LabelError::Draw(format!("{error:?}")))?)
}

/// Cut marks, and borders around the first `labels` cells.
fn lines(layout: &Layout, labels: usize, surface: &mut Surface) -> Option<()> {
    let stroke = |grey: u8, width: f64| Stroke {
        paint: color::luma::Color::new(grey).into(),
        width: points(width as f32),
        opacity: NormalizedF32::ONE,
        ..Stroke::default()
    };
    let at = |(x, y): (f64, f64)| (points(x as f32), points(y as f32));
    if layout.borders {
        let mut path = PathBuilder::new();
        for number in 0..labels {
            let Rect { x, y, width, height } = border(layout.cell(number));
            let ((x, y), (width, height)) = (at((x, y)), at((width, height)));
            path.push_rect(PdfRect::from_xywh(x, y, width, height)?);
        }
        surface.set_fill(None);
        surface.set_stroke(Some(stroke(BORDER_GREY, BORDER_WIDTH)));
        surface.draw_path(&path.finish()?);
    }
    let marks = layout.marks();
    if !marks.is_empty() {
        let mut path = PathBuilder::new();
        for mark in marks {
            let (from, to) = (at(mark.from), at(mark.to));
            path.move_to(from.0, from.1);
            path.line_to(to.0, to.1);
        }
        surface.set_fill(None);
        surface.set_stroke(Some(stroke(0, MARK_WIDTH)));
        surface.draw_path(&path.finish()?);
    }
    Some(())
}

/// The middle of a border's line: the line lies inside of its cell.
fn border(cell: Rect) -> Rect {
    let half = BORDER_WIDTH / 2.0;
    Rect {
        x: cell.x + half,
        y: cell.y + half,
        width: cell.width - BORDER_WIDTH,
        height: cell.height - BORDER_WIDTH,
    }
}

/// The first sheet as a PNG of so many pixels per millimetre, as it will be printed.
///
/// # Errors
/// When a label cannot be drawn, or the sheet has too many pixels.
pub fn picture<E: From<LabelError>>(
    layout: &Layout,
    labels: usize,
    mut drawing: impl FnMut(usize) -> Result<Drawing, E>,
    per_mm: f64,
) -> Result<Vec<u8>, E> {
    let pixels = |mm: f64| ((mm * per_mm).round() as u32).max(1);
    let mut pixmap = Pixmap::new(pixels(layout.width), pixels(layout.height))
        .ok_or_else(|| LabelError::Draw("no memory for the sheet's pixels".into()))?;
    pixmap.fill(tiny_skia::Color::WHITE);
    let labels = labels.min(layout.cells());
    for number in 0..labels {
        let drawing = drawing(number)?;
        let Fit { x, y, scale } = place(layout, number, &drawing);
        let pixels = |mm: f64| (mm * per_mm) as f32;
        drawing.paint(&mut pixmap.as_mut(), pixels(x), pixels(y), pixels(scale));
    }
    let mut paint = tiny_skia::Paint { anti_alias: true, ..tiny_skia::Paint::default() };
    let scaled = |mm: f64| (mm * per_mm) as f32;
    // A hairline of less than a pixel would fade away.
    let stroke =
        |width: f64| tiny_skia::Stroke { width: scaled(width).max(1.0), ..tiny_skia::Stroke::default() };
    let identity = tiny_skia::Transform::identity();
    if layout.borders {
        paint.set_color_rgba8(BORDER_GREY, BORDER_GREY, BORDER_GREY, 255);
        for number in 0..labels {
            let Rect { x, y, width, height } = border(layout.cell(number));
            let rect = tiny_skia::Rect::from_xywh(scaled(x), scaled(y), scaled(width), scaled(height));
            if let Some(rect) = rect {
                let path = tiny_skia::PathBuilder::from_rect(rect);
                pixmap.stroke_path(&path, &paint, &stroke(BORDER_WIDTH), identity, None);
            }
        }
    }
    paint.set_color_rgba8(0, 0, 0, 255);
    for mark in layout.marks() {
        let mut path = tiny_skia::PathBuilder::new();
        path.move_to(scaled(mark.from.0), scaled(mark.from.1));
        path.line_to(scaled(mark.to.0), scaled(mark.to.1));
        if let Some(path) = path.finish() {
            pixmap.stroke_path(&path, &paint, &stroke(MARK_WIDTH), identity, None);
        }
    }
    Ok(pixmap.encode_png().map_err(|error| LabelError::Draw(error.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_as_large_as_its_cell_allows_and_in_its_middle() {
        let cell = Rect { x: 10.0, y: 20.0, width: 100.0, height: 40.0 };
        assert_eq!(fit(cell, (50.0, 40.0)), Fit { x: 35.0, y: 20.0, scale: 1.0 });
        assert_eq!(fit(cell, (50.0, 10.0)), Fit { x: 10.0, y: 30.0, scale: 2.0 });
        assert_eq!(fit(cell, (200.0, 20.0)), Fit { x: 10.0, y: 35.0, scale: 0.5 });
    }
}
