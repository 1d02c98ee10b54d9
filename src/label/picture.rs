//! Pictures on labels: PNG or JPEG that came with the template or the data, never from elsewhere.

use std::{io::Cursor, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{ImageFormat, ImageReader, Limits};
use resvg::usvg::ImageKind;

use super::limits::{MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS};

/// A picture that was found to be whole and not too large.
#[derive(Clone, Debug)]
pub struct Picture {
    bytes: Arc<Vec<u8>>,
    png: bool,
}

impl Picture {
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the picture's place.
    pub fn read(bytes: Vec<u8>) -> Result<Picture, String> {
        if bytes.len() > MAX_PICTURE_BYTES {
            return Err(format!("is a picture of {} bytes; {MAX_PICTURE_BYTES} are allowed", bytes.len()));
        }
        let png = match image::guess_format(&bytes) {
            Ok(ImageFormat::Png) => true,
            Ok(ImageFormat::Jpeg) => false,
            _ => return Err("must be a PNG or JPEG picture".into()),
        };
        let reader = |bytes| ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let broken = |error: image::ImageError| format!("is a broken picture: {error}");
        let format = |error: std::io::Error| format!("is a broken picture: {error}");
        let (width, height) = reader(&bytes[..]).map_err(format)?.into_dimensions().map_err(broken)?;
        if u64::from(width) * u64::from(height) > MAX_PICTURE_PIXELS || width == 0 || height == 0 {
            let most = MAX_PICTURE_PIXELS / 1_000_000;
            return Err(format!("is a picture of {width} × {height} pixels; {most} million are allowed"));
        }
        let mut whole = reader(&bytes[..]).map_err(format)?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_PICTURE_PIXELS * 16);
        whole.limits(limits);
        whole.decode().map_err(broken)?;
        Ok(Picture { bytes: Arc::new(bytes), png })
    }

    /// `data:image/png;base64,…`
    pub fn of_data_url(url: &str) -> Result<Picture, String> {
        let rest = url.strip_prefix("data:").unwrap_or_default();
        let (kind, data) = rest.split_once(',').unwrap_or_default();
        let mut words = kind.split(';');
        let media = words.next().unwrap_or_default().to_ascii_lowercase();
        if !matches!(media.as_str(), "image/png" | "image/jpeg" | "image/jpg")
            || !words.any(|word| word == "base64")
        {
            return Err("must be a data: address of a PNG or JPEG picture in base64".into());
        }
        if data.len() / 4 * 3 > MAX_PICTURE_BYTES + 3 {
            return Err(format!("is a picture of more than {MAX_PICTURE_BYTES} bytes"));
        }
        let bytes = STANDARD.decode(data.trim()).map_err(|error| format!("is no base64: {error}"))?;
        Picture::read(bytes)
    }

    pub(super) fn kind(&self) -> ImageKind {
        if self.png { ImageKind::PNG(self.bytes.clone()) } else { ImageKind::JPEG(self.bytes.clone()) }
    }
}
