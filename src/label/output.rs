//! What is to be made of a label, as the pages ask for it: `{format, quality, scale, dpi, width, height}`.

use serde_json::Value;

use super::{
    LabelData, LabelError, LabelRenderer, LabelTemplate,
    limits::{MAX_PIXELS, PICTURE_DPI},
    read::Node,
};

/// JPEG quality, unless told.
const QUALITY: u32 = 90;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    Svg,
    Pdf,
}

impl Format {
    /// The word of it, and the file's ending.
    pub fn word(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Svg => "svg",
            Format::Pdf => "pdf",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Svg => "image/svg+xml",
            Format::Pdf => "application/pdf",
        }
    }
}

/// What is to be made of a label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output {
    pub format: Format,
    /// Of a JPEG, 1 to 100.
    pub quality: u8,
    dpi: Option<u32>,
    scale: f32,
    width: Option<u32>,
    height: Option<u32>,
}

impl Default for Output {
    fn default() -> Self {
        Output {
            format: Format::Png,
            quality: QUALITY as u8,
            dpi: None,
            scale: 1.0,
            width: None,
            height: None,
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub format: Format,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    pub warnings: Vec<String>,
}

impl Output {
    /// # Errors
    /// A sentence that names the option.
    pub fn from_json(options: &Value) -> Result<Output, LabelError> {
        let node = Node { value: options, place: "options".into() };
        if options.is_null() {
            return Ok(Output::default());
        }
        let node = node.object()?;
        let words = [
            ("png", Format::Png),
            ("jpg", Format::Jpeg),
            ("jpeg", Format::Jpeg),
            ("svg", Format::Svg),
            ("pdf", Format::Pdf),
        ];
        let side = |key| node.get(key).map(|found| found.whole(1..=20_000)).transpose();
        Ok(Output {
            format: node.get("format").map_or(Ok(Format::Png), |found| found.word(&words))?,
            quality: node.get("quality").map_or(Ok(QUALITY), |found| found.whole(1..=100))? as u8,
            dpi: node.get("dpi").map(|found| found.whole(PICTURE_DPI)).transpose()?,
            scale: node.get("scale").map_or(Ok(1.0), |found| found.number(0.05..=8.0))?,
            width: side("width")?,
            height: side("height")?,
        })
    }

    /// The same in another format.
    pub fn as_format(self, format: Format) -> Output {
        Output { format, ..self }
    }

    /// Pixels per inch for this template; a wished width or height is the most that the picture may have.
    pub fn dpi(&self, template: &LabelTemplate) -> Result<u32, LabelError> {
        let (width_mm, height_mm) = template.size_mm();
        let told = self.dpi.unwrap_or(template.dpi()) as f32;
        let within = |pixels: Option<u32>, mm: f32| pixels.map(|pixels| (pixels as f32 * 25.4 / mm).floor());
        let wished = [within(self.width, width_mm), within(self.height, height_mm)];
        let base = wished.into_iter().flatten().reduce(f32::min).unwrap_or(told);
        let dpi = (base * self.scale).round() as u32;
        let (width, height) = template.pixels(dpi);
        if !PICTURE_DPI.contains(&dpi) || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(LabelError::Place {
                place: "options".into(),
                problem: format!(
                    "ask for {width} × {height} pixels at {dpi} dpi; change scale, dpi, width or height so that it is \
                     {} to {} dpi and no more than {} million pixels",
                    PICTURE_DPI.start(),
                    PICTURE_DPI.end(),
                    MAX_PIXELS / 1_000_000
                ),
            });
        }
        Ok(dpi)
    }
}

impl LabelRenderer {
    /// Draws a label in one format.
    pub fn make(
        &self,
        template: &LabelTemplate,
        data: &LabelData,
        output: &Output,
    ) -> Result<Made, LabelError> {
        let dpi = output.dpi(template)?;
        // On paper nothing has pixels, so there it is the template's own that count.
        let grid = if matches!(output.format, Format::Svg | Format::Pdf) { template.dpi() } else { dpi };
        let drawing = self.lay_out_for(template, data, grid)?;
        let bytes = match output.format {
            Format::Png => drawing.png(dpi)?,
            Format::Jpeg => drawing.jpeg(dpi, output.quality)?,
            Format::Svg => drawing.svg().into_bytes(),
            Format::Pdf => drawing.pdf()?,
        };
        let (width, height) = template.pixels(dpi);
        Ok(Made { bytes, format: output.format, width, height, warnings: drawing.warnings })
    }
}
