//! A label that was laid out, and what can be made of it: PNG, JPEG, SVG, a PDF of its own, or a part of a PDF's page.

use image::{ExtendedColorType, ImageEncoder as _, codecs::jpeg};
use krilla::{
    geom::{Size as PdfSize, Transform as PdfTransform},
    metadata::Metadata,
    page::PageSettings,
    surface::Surface,
};
use krilla_svg::{SurfaceExt as _, SvgSettings};
use resvg::{
    tiny_skia::{Color, Pixmap, PixmapMut, Transform},
    usvg,
};

use super::{
    LabelError,
    limits::{MAX_PIXELS, PICTURE_DPI},
};

/// A label that was laid out. The same drawing always gives the same bytes: no clock, no random id.
#[derive(Debug)]
pub struct Drawing {
    pub(super) tree: usvg::Tree,
    pub(super) width_mm: f32,
    pub(super) height_mm: f32,
    pub(super) dpi: u32,
    pub(super) warnings: Vec<String>,
}

/// A length on paper in PDF's unit.
pub fn points(mm: f32) -> f32 {
    mm / 25.4 * 72.0
}

impl Drawing {
    /// Width and height in millimetres.
    pub fn size_mm(&self) -> (f32, f32) {
        (self.width_mm, self.height_mm)
    }

    /// Sentences for people: what is missing, was cut or had to become small.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Pixels per inch that it was laid out for: there bars lie on whole pixels.
    pub fn dpi(&self) -> u32 {
        self.dpi
    }

    /// Width and height of its picture.
    pub fn pixels(&self, dpi: u32) -> (u32, u32) {
        let pixels = |mm: f32| ((mm * dpi as f32 / 25.4).round() as u32).max(1);
        (pixels(self.width_mm), pixels(self.height_mm))
    }

    /// A PNG that knows its pixels per metre, so that printing at "actual size" gives the template's millimetres.
    pub fn png(&self, dpi: u32) -> Result<Vec<u8>, LabelError> {
        let pixmap = self.pixmap(dpi)?;
        let mut png = pixmap.encode_png().map_err(|error| LabelError::Draw(error.to_string()))?;
        // The chunk with the pixels per metre stands right behind the header: 8 bytes of signature and 25 of IHDR.
        png.splice(33..33, physical_size_chunk(dpi));
        Ok(png)
    }

    /// A JPEG of a quality from 1 to 100.
    pub fn jpeg(&self, dpi: u32, quality: u8) -> Result<Vec<u8>, LabelError> {
        let pixmap = self.pixmap(dpi)?;
        // The paper is white everywhere, so nothing shines through.
        let rgb: Vec<u8> =
            pixmap.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let mut bytes = Vec::new();
        let mut encoder = jpeg::JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100));
        encoder.set_pixel_density(jpeg::PixelDensity::dpi(dpi as u16));
        let (width, height) = (pixmap.width(), pixmap.height());
        encoder
            .write_image(&rgb, width, height, ExtendedColorType::Rgb8)
            .map_err(|error| LabelError::Draw(error.to_string()))?;
        Ok(bytes)
    }

    fn pixmap(&self, dpi: u32) -> Result<Pixmap, LabelError> {
        let (width, height) = self.pixels(dpi);
        if !PICTURE_DPI.contains(&dpi) || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(LabelError::Page(format!(
                "{width} × {height} pixels at {dpi} dpi are too many; ask for a lower dpi"
            )));
        }
        let mut pixmap =
            Pixmap::new(width, height).ok_or_else(|| LabelError::Draw("no memory for its pixels".into()))?;
        pixmap.fill(Color::WHITE);
        // usvg counts 96 units to an inch.
        let scale = dpi as f32 / 96.0;
        resvg::render(&self.tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
        Ok(pixmap)
    }

    /// An SVG that needs nothing from elsewhere: its text is outlines.
    pub fn svg(&self) -> String {
        let flat = self.tree.to_string(&usvg::WriteOptions::default());
        // The writer knows pixels only; on paper they are millimetres.
        let (width, height) = (self.tree.size().width(), self.tree.size().height());
        let pixels = format!(r#"width="{width}" height="{height}""#);
        let exact = format!(
            r#"width="{}mm" height="{}mm" viewBox="0 0 {width} {height}""#,
            self.width_mm, self.height_mm
        );
        flat.replacen(&pixels, &exact, 1)
    }

    /// Draws the label into a picture with its upper left corner at (x, y), its millimetres `per_mm` pixels long.
    pub fn paint(&self, picture: &mut PixmapMut, x: f32, y: f32, per_mm: f32) {
        // usvg counts 96 units to an inch.
        let scale = per_mm * 25.4 / 96.0;
        resvg::render(&self.tree, Transform::from_row(scale, 0.0, 0.0, scale, x, y), picture);
    }

    /// One page of exactly the label's size: vectors and embedded fonts.
    pub fn pdf(&self) -> Result<Vec<u8>, LabelError> {
        pdf(std::iter::once(self))
    }

    /// Draws the label into a page with its upper left corner at (x, y), larger or smaller by `scale`. Nothing is drawn
    /// beyond its size. Fonts are embedded once a document, however many labels it has.
    pub fn draw_into(
        &self,
        surface: &mut Surface,
        x_mm: f32,
        y_mm: f32,
        scale: f32,
    ) -> Result<(), LabelError> {
        let problem = || LabelError::Draw("its place on the page is no place".into());
        let size = PdfSize::from_wh(points(self.width_mm * scale), points(self.height_mm * scale));
        let size = size.ok_or_else(problem)?;
        surface.push_transform(&PdfTransform::from_translate(points(x_mm), points(y_mm)));
        let drawn = surface.draw_svg(&self.tree, size, SvgSettings::default());
        surface.pop();
        drawn.ok_or_else(problem)
    }
}

/// One document with a page for each label, each of its label's size.
pub fn pdf<D: std::borrow::Borrow<Drawing>>(
    drawings: impl IntoIterator<Item = D>,
) -> Result<Vec<u8>, LabelError> {
    let mut document = krilla::Document::new();
    // No date: the bytes depend on nothing but the labels.
    document.set_metadata(Metadata::new().creator("Jobcast".into()));
    for drawing in drawings {
        let drawing = drawing.borrow();
        let settings = PageSettings::from_wh(points(drawing.width_mm), points(drawing.height_mm));
        let settings = settings.ok_or_else(|| LabelError::Draw("the page has no size".into()))?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        drawing.draw_into(&mut surface, 0.0, 0.0, 1.0)?;
        surface.finish();
        page.finish();
    }
    document.finish().map_err(|error| LabelError::Draw(format!("{error:?}")))
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
