//! Pictures in another size or format: `w-300,h-300,f-jpg,q-80`, as image CDNs write it.
//!
//! Sizes and qualities are rounded up to a few steps, so that nobody can have a server make, and keep, ten thousand
//! versions of one picture. A picture is never enlarged, keeps its proportions, and loses whatever its file said besides
//! the picture itself.

use std::{fmt, io::Cursor, str::FromStr};

use fast_image_resize::Resizer;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder};

/// The widths and heights that a picture may be asked to fit in, in pixels.
pub const SIZES: [u32; 12] = [50, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2000, 2400];
/// The steps of quality, in percent.
const QUALITY_STEP: u8 = 10;
const USUAL_QUALITY: u8 = 80;
/// Longest text that is read.
const MAX_TEXT: usize = 64;
/// The largest side, in pixels, of a picture that is taken.
const MAX_SIDE: u32 = 20_000;
/// Pixels of a picture that is taken at the most.
const MAX_PIXELS: u64 = 60_000_000;
/// The most memory that a picture may take unpacked, in bytes.
const MAX_UNPACKED: u64 = 256 << 20;

/// A picture's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpg,
    Webp,
}

impl Format {
    /// The format with this media type.
    pub fn of_content_type(content_type: &str) -> Option<Format> {
        [Format::Png, Format::Jpg, Format::Webp]
            .into_iter()
            .find(|format| format.content_type() == content_type)
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpg => "image/jpeg",
            Format::Webp => "image/webp",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpg => "jpg",
            Format::Webp => "webp",
        }
    }
}

/// What a picture is to be made into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transform {
    /// Each one of [`SIZES`].
    width: Option<u32>,
    height: Option<u32>,
    format: Option<Format>,
    /// 10, 20, … 100; means something to JPEG only.
    quality: Option<u8>,
}

/// Why a transform is not understood; a sentence that says how it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTransform {
    #[error("A transform is written like w-300,h-300,f-jpg,q-80; {0:?} is no part of one.")]
    Part(String),
    #[error("w and h must be from 1 to {most}; the sizes are {list}, others are rounded up.",
        most = SIZES[SIZES.len() - 1],
        list = SIZES.map(|size| size.to_string()).join(", "))]
    Size,
    #[error("f must be png, jpg or webp.")]
    Format,
    #[error("q must be from 1 to 100.")]
    Quality,
}

impl FromStr for Transform {
    type Err = BadTransform;

    fn from_str(text: &str) -> Result<Transform, BadTransform> {
        let part = |part: &str| BadTransform::Part(part.chars().take(MAX_TEXT).collect());
        if text.len() > MAX_TEXT {
            return Err(part(text));
        }
        let mut transform = Transform::default();
        for piece in text.split(',') {
            let (name, value) = piece.split_once('-').ok_or_else(|| part(piece))?;
            match name {
                "w" => transform.width = Some(size(value)?),
                "h" => transform.height = Some(size(value)?),
                "q" => {
                    let quality = value.parse().ok().filter(|quality| (1..=100).contains(quality));
                    let quality: u8 = quality.ok_or(BadTransform::Quality)?;
                    transform.quality = Some(quality.div_ceil(QUALITY_STEP) * QUALITY_STEP);
                }
                "f" => {
                    transform.format = match value {
                        "png" => Some(Format::Png),
                        "jpg" | "jpeg" => Some(Format::Jpg),
                        "webp" => Some(Format::Webp),
                        // As it is.
                        "auto" => None,
                        _ => return Err(BadTransform::Format),
                    }
                }
                _ => return Err(part(piece)),
            }
        }
        Ok(transform)
    }
}

fn size(text: &str) -> Result<u32, BadTransform> {
    let asked: u32 = text.parse().ok().filter(|size| *size > 0).ok_or(BadTransform::Size)?;
    SIZES.into_iter().find(|size| *size >= asked).ok_or(BadTransform::Size)
}

/// One way to write it, whatever way it came.
impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.width.map(|width| format!("w-{width}")),
            self.height.map(|height| format!("h-{height}")),
            self.format.map(|format| format!("f-{}", format.word())),
            self.quality.map(|quality| format!("q-{quality}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        // All there is to say may be "in the format that it has".
        f.write_str(if parts.is_empty() { "f-auto" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

/// Why a picture cannot be shown otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unshowable {
    #[error("this is no PNG, JPEG or WebP picture")]
    NoPicture,
    #[error("the picture is larger than {MAX_SIDE} pixels on a side or {MAX_PIXELS} in all")]
    TooLarge,
    #[error("the picture cannot be read: {0}")]
    Broken(String),
}

impl Transform {
    /// The same with nothing left open, for a picture of a format: what looks alike is written alike.
    pub fn settled(self, source: Format) -> Transform {
        let format = self.format.unwrap_or(source);
        let quality = (format == Format::Jpg).then(|| self.quality.unwrap_or(USUAL_QUALITY));
        Transform { format: Some(format), quality, ..self }
    }

    /// The format that comes out, if it is settled.
    pub fn format(self) -> Option<Format> {
        self.format
    }

    /// Makes the picture; takes a while, so not on the runtime.
    pub fn apply(self, source: &[u8]) -> Result<Vec<u8>, Unshowable> {
        let (picture, format) = decode(source)?;
        let settled = self.settled(format);
        let picture = fit(picture, self.width, self.height)?;
        encode(&picture, settled.format.unwrap_or(format), settled.quality.unwrap_or(USUAL_QUALITY))
    }
}

/// A picture no wider and no higher than this.
pub fn fit(
    picture: DynamicImage,
    most_wide: Option<u32>,
    most_high: Option<u32>,
) -> Result<DynamicImage, Unshowable> {
    let shrink = |most: Option<u32>, side: u32| most.map_or(1.0, |most| f64::from(most) / f64::from(side));
    let (width, height) = (picture.width(), picture.height());
    let shrink = shrink(most_wide, width).min(shrink(most_high, height));
    if shrink >= 1.0 {
        return Ok(picture);
    }
    let side = |side: u32| ((f64::from(side) * shrink).round() as u32).max(1);
    let mut fitted = DynamicImage::new(side(width), side(height), picture.color());
    Resizer::new().resize(&picture, &mut fitted, None).map_err(|e| Unshowable::Broken(e.to_string()))?;
    Ok(fitted)
}

/// Unpacks a stranger's picture within limits, turned as its camera was held.
pub fn decode(source: &[u8]) -> Result<(DynamicImage, Format), Unshowable> {
    let broken = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => Unshowable::TooLarge,
        other => Unshowable::Broken(other.to_string()),
    };
    let format = match image::guess_format(source) {
        Ok(ImageFormat::Png) => Format::Png,
        Ok(ImageFormat::Jpeg) => Format::Jpg,
        Ok(ImageFormat::WebP) => Format::Webp,
        _ => return Err(Unshowable::NoPicture),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_UNPACKED);
    let mut reader =
        ImageReader::new(Cursor::new(source)).with_guessed_format().map_err(|_| Unshowable::NoPicture)?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_UNPACKED {
        return Err(Unshowable::TooLarge);
    }
    if width == 0 || height == 0 {
        return Err(Unshowable::NoPicture);
    }
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    Ok((picture, format))
}

/// Packs a picture, and nothing but the picture.
pub fn encode(picture: &DynamicImage, format: Format, quality: u8) -> Result<Vec<u8>, Unshowable> {
    let mut out = Cursor::new(Vec::new());
    match format {
        Format::Png => picture.write_to(&mut out, ImageFormat::Png),
        Format::Jpg => on_white(picture).write_with_encoder(JpegEncoder::new_with_quality(&mut out, quality)),
        Format::Webp if picture.color().has_alpha() => {
            DynamicImage::from(picture.to_rgba8()).write_to(&mut out, ImageFormat::WebP)
        }
        Format::Webp => DynamicImage::from(picture.to_rgb8()).write_to(&mut out, ImageFormat::WebP),
    }
    .map_err(|error| Unshowable::Broken(error.to_string()))?;
    Ok(out.into_inner())
}

/// What shines through is white: JPEG knows no transparency.
fn on_white(picture: &DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8().into();
    }
    let picture = picture.to_rgba8();
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image::RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let image::Rgba([red, green, blue, alpha]) = *picture.get_pixel(x, y);
        image::Rgb([red, green, blue].map(|value| blend(value, alpha)))
    })
    .into()
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 128]));
        encode(&picture.into(), Format::Png, 80).unwrap()
    }

    fn apply(text: &str, source: &[u8]) -> (DynamicImage, Format) {
        decode(&text.parse::<Transform>().unwrap().apply(source).unwrap()).unwrap()
    }

    #[test]
    fn a_transform_is_rounded_up_to_what_there_is_and_written_in_one_way() {
        for (text, canonical) in [
            ("w-300", "w-300"),
            ("h-299,w-301", "w-400,h-300"),
            ("f-jpeg,q-71", "f-jpg,q-80"),
            ("q-100,f-webp,w-1", "w-50,f-webp,q-100"),
            ("f-auto", "f-auto"),
        ] {
            let transform: Transform = text.parse().unwrap();
            assert_eq!(transform.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(transform));
        }
        let settled = |text: &str, source| text.parse::<Transform>().unwrap().settled(source).to_string();
        assert_eq!(settled("w-300,q-50", Format::Png), "w-300,f-png");
        assert_eq!(settled("w-300", Format::Jpg), settled("w-300,f-jpg,q-80", Format::Png));
    }

    #[test]
    fn what_is_no_transform_is_refused_with_a_sentence_that_says_how_to_write_one() {
        for (bad, says) in [
            ("", "written like"),
            ("w", "written like"),
            ("w-300,", "written like"),
            ("rotate-90", "written like"),
            ("w-0", "50, 100, 150"),
            ("w-2401", "50, 100, 150"),
            ("h--1", "50, 100, 150"),
            ("w-99999999999999", "50, 100, 150"),
            ("f-gif", "png, jpg or webp"),
            ("q-0", "1 to 100"),
            ("q-101", "1 to 100"),
            (&"w-300,".repeat(20), "written like"),
        ] {
            let said = bad.parse::<Transform>().unwrap_err().to_string();
            assert!(said.contains(says) && said.len() < 300, "{bad}: {said}");
        }
    }

    #[test]
    fn a_picture_fits_keeps_its_proportions_and_is_never_enlarged() {
        let source = png(800, 400);
        for (text, width, height, format) in [
            ("w-400", 400, 200, Format::Png),
            ("h-100", 200, 100, Format::Png),
            ("w-400,h-100,f-jpg", 200, 100, Format::Jpg),
            ("w-1200,h-1200,f-webp", 800, 400, Format::Webp),
        ] {
            let (picture, made) = apply(text, &source);
            assert_eq!((picture.width(), picture.height(), made), (width, height, format), "{text}");
        }
        assert_eq!(apply("h-50", &png(3, 2000)).0.width(), 1);
    }

    #[test]
    fn formats_turn_into_each_other_and_keep_their_colours() {
        for source in [Format::Png, Format::Jpg, Format::Webp] {
            let flat = RgbImage::from_pixel(64, 64, Rgb([200, 30, 90]));
            let bytes = encode(&flat.into(), source, 90).unwrap();
            for target in ["png", "jpg", "webp"] {
                let (picture, _) = apply(&format!("f-{target},w-50"), &bytes);
                let Rgb(found) = *picture.into_rgb8().get_pixel(20, 20);
                let off = found.iter().zip([200, 30, 90]).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                assert!(off < 6, "{source:?} to {target}: {found:?}");
            }
        }
        let clear = encode(&RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])).into(), Format::Png, 80).unwrap();
        assert_eq!(apply("f-jpg,q-100", &clear).0.into_rgb8().get_pixel(4, 4), &Rgb([255; 3]));
    }

    /// A JPEG with an EXIF block that says "turn me by a quarter", and where it was taken.
    fn with_exif(jpeg: &[u8]) -> Vec<u8> {
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0".to_vec();
        exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
        exif.extend([0x0e, 0x01, 2, 0, 12, 0, 0, 0, 38, 0, 0, 0]);
        exif.extend([0, 0, 0, 0]);
        exif.extend(b"GEHEIMER ORT");
        let mut out = jpeg[..2].to_vec();
        out.extend([0xff, 0xe1]);
        out.extend((exif.len() as u16 + 2).to_be_bytes());
        out.extend(exif);
        out.extend(&jpeg[2..]);
        out
    }

    #[test]
    fn a_picture_is_turned_as_its_camera_was_held_and_tells_nothing_else_of_it() {
        let jpeg = encode(&RgbImage::new(300, 100).into(), Format::Jpg, 80).unwrap();
        let source = with_exif(&jpeg);
        assert!(source.windows(7).any(|part| part == b"GEHEIME"));
        let made = "w-400,f-jpg".parse::<Transform>().unwrap().apply(&source).unwrap();
        let (picture, _) = decode(&made).unwrap();
        assert_eq!((picture.width(), picture.height()), (100, 300));
        assert!(!made.windows(7).any(|part| part == b"GEHEIME" || &part[..4] == b"Exif"));
    }

    #[test]
    fn pictures_that_would_fill_the_memory_and_what_is_no_picture_are_refused() {
        let refused = |bytes: &[u8]| Transform::default().apply(bytes).unwrap_err();
        // A PNG of a few kilobytes that unpacks to 400 million pixels.
        let mut bomb = png(1, 1);
        bomb[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
        let crc = crc(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc);
        assert_eq!(refused(&bomb), Unshowable::TooLarge);
        assert!(matches!(refused(b""), Unshowable::NoPicture));
        assert!(matches!(refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), Unshowable::NoPicture));
        assert!(matches!(refused(b"GIF89a\x01\0\x01\0\0\0\0;"), Unshowable::NoPicture));
        let whole = png(100, 100);
        for cut in [9, 40, whole.len() / 2] {
            assert!(matches!(refused(&whole[..cut]), Unshowable::Broken(_)), "{cut}");
        }
    }

    /// CRC-32 as PNG has it.
    fn crc(bytes: &[u8]) -> [u8; 4] {
        let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        (!crc).to_be_bytes()
    }
}
