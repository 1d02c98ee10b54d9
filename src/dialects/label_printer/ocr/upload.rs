//! Pictures of a form, taken in one by one, so that one at a time is in memory.

use axum::{
    extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, multipart::MultipartError},
    http::StatusCode,
};
use bytes::Bytes;

use super::bad;
use crate::{
    dialects::label_printer::answer::Refusal,
    http::{Api, Readable},
};

/// Largest picture, in bytes.
const MAX_PICTURE: usize = 20 << 20;
/// Largest form, in bytes.
const MAX_FORM: usize = 200 << 20;
/// Fields of a form at the most, besides pictures.
const MAX_FIELDS: usize = 64;
/// Characters of a picture's name that are kept.
const MAX_NAME: usize = 200;

/// A picture as it is stored.
pub struct Picture {
    /// As its file was called.
    pub name: Option<String>,
    pub png: Bytes,
    pub thumbnail: Bytes,
    pub width: u32,
    pub height: u32,
}

/// What is left of a form.
pub struct Pictures {
    parts: Multipart,
    field: String,
    /// Pictures that may come yet.
    left: usize,
    most: usize,
    fields: usize,
}

impl Pictures {
    /// A form whose pictures are in a field; at most so many.
    pub async fn of(_: &Api, mut request: Request, field: &str, most: usize) -> Result<Pictures, Refusal> {
        let limit = (MAX_PICTURE * most).min(MAX_FORM) + (1 << 20);
        DefaultBodyLimit::max(limit).apply(&mut request);
        let parts = Multipart::from_request(request, &())
            .await
            .map_err(|_| bad(format!("Send the picture as multipart/form-data in the field {field}.")))?;
        Ok(Pictures { parts, field: field.to_owned(), left: most, most, fields: 0 })
    }

    /// The next picture.
    pub async fn next(&mut self, api: &Api) -> Result<Option<Picture>, Refusal> {
        loop {
            let Some(mut part) = self.parts.next_field().await.map_err(unreadable)? else { return Ok(None) };
            let name = part.name().unwrap_or_default();
            if name.trim_end_matches("[]") != self.field {
                self.fields += 1;
                if part.file_name().is_some() || self.fields > MAX_FIELDS {
                    return Err(bad(format!(
                        "Send pictures in the field {}, and no other file.",
                        self.field
                    )));
                }
                continue;
            }
            if self.left == 0 {
                return Err(bad(format!("The form has more than {} pictures.", self.most)));
            }
            self.left -= 1;
            let file: Option<String> = part
                .file_name()
                .map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
            let mut bytes = Vec::new();
            while let Some(piece) = part.chunk().await.map_err(unreadable)? {
                if bytes.len() + piece.len() > MAX_PICTURE {
                    let sentence = format!("A picture has more than {} MB.", MAX_PICTURE >> 20);
                    return Err(Refusal::automation(StatusCode::PAYLOAD_TOO_LARGE, sentence));
                }
                bytes.extend_from_slice(&piece);
            }
            let Readable { png, thumbnail, width, height } = api.pictures.take_in(bytes.into()).await?;
            let name = file.filter(|name| !name.is_empty());
            return Ok(Some(Picture { name, png, thumbnail, width, height }));
        }
    }
}

fn unreadable(error: MultipartError) -> Refusal {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::automation(StatusCode::PAYLOAD_TOO_LARGE, "The upload is larger than this server takes.")
        }
        _ => bad(format!("The form cannot be read: {}.", error.body_text())),
    }
}
