//! Sets text into boxes: SVG text neither wraps nor clips, so it is shaped here with the label's own font, wrapped,
//! shrunk, and at last cut with "…" before it is placed.

use std::sync::Arc;

use resvg::usvg::fontdb;
use rustybuzz::{Face, UnicodeBuffer};

use super::{
    limits::{MAX_CHARS, SMALLEST_TEXT},
    template::{Place, Rect},
};

/// From one baseline to the next, in em, unless a style says otherwise.
pub const LEADING: f32 = 1.15;

/// How a text is set in its box; lengths in millimetres.
#[derive(Clone, Debug)]
pub struct TextSpec {
    pub rect: Rect,
    pub font_size: f32,
    pub min_font_size: f32,
    pub max_lines: usize,
    /// From one baseline to the next, in em.
    pub leading: f32,
    pub bold: bool,
    pub align: Place,
    pub valign: Place,
    /// `#rgb` or `#rrggbb`.
    pub color: String,
    /// `underline` or `line-through`.
    pub decoration: Option<&'static str>,
    /// A cut name is still a name, but a cut price is another price.
    pub may_be_cut: bool,
}

/// What the font can show: no control or direction marks, and a "?" for a character that it lacks.
pub fn printable(text: &str, font: &Font, replaced: &mut bool) -> String {
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .filter(|c| !invisible(*c))
        .take(MAX_CHARS)
        .map(|c| {
            let known = font.face.glyph_index(c).is_some();
            *replaced |= !known;
            if known { c } else { '?' }
        })
        .collect()
}

/// One face, measured in em.
pub struct Font {
    pub id: fontdb::ID,
    pub face: Face<'static>,
    pub ascent: f32,
    pub descent: f32,
    pub cap_height: f32,
}

impl Font {
    pub fn load(fonts: &mut fontdb::Database, data: &'static [u8]) -> Font {
        let ids = fonts.load_font_source(fontdb::Source::Binary(Arc::new(data)));
        let face = Face::from_slice(data, 0).expect("the compiled-in font is a font");
        let em = face.units_per_em() as f32;
        Font {
            id: *ids.first().expect("the compiled-in font is a font"),
            ascent: f32::from(face.ascender()) / em,
            descent: -f32::from(face.descender()) / em,
            cap_height: f32::from(face.capital_height().unwrap_or(face.ascender())) / em,
            face,
        }
    }

    /// The width of one line as the renderer will shape it, in em.
    pub fn width(&self, text: &str) -> f32 {
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        let shaped = rustybuzz::shape(&self.face, &[], buffer);
        let units: i32 = shaped.glyph_positions().iter().map(|glyph| glyph.x_advance).sum();
        units as f32 / self.face.units_per_em() as f32
    }

    /// The height of that many lines, in em.
    pub fn block_height(&self, lines: usize, leading: f32) -> f32 {
        self.ascent + self.descent + (lines.max(1) - 1) as f32 * leading
    }
}

/// Lines that lie inside their box at this size in millimetres.
pub struct Fitted {
    pub size: f32,
    pub lines: Vec<String>,
    pub cut: bool,
}

/// The largest size between the box's own and its minimum at which the text fits whole, or `None`.
pub fn fit(paragraphs: &[String], spec: &TextSpec, font: &Font) -> Option<Fitted> {
    let words = Words::of(paragraphs, font);
    sizes(spec.font_size, spec.min_font_size).find_map(|size| words.fitted(spec, font, size))
}

/// What is left when the text does not fit whole at the minimum: a text that may be cut is cut, any other shrinks on.
pub fn fit_by_force(paragraphs: &[String], spec: &TextSpec, font: &Font) -> Option<Fitted> {
    if !spec.may_be_cut {
        let joined = [paragraphs.join("\u{a0}| ")];
        let ways = [Words::of(paragraphs, font), Words::of(&joined, font)];
        return sizes(spec.min_font_size, SMALLEST_TEXT)
            .find_map(|size| ways.iter().find_map(|words| words.fitted(spec, font, size)));
    }
    let size = spec.min_font_size;
    let room = spec.rect.width / size;
    let count = (1..=spec.max_lines)
        .take_while(|n| font.block_height(*n, spec.leading) * size <= spec.rect.height)
        .last()?;
    let mut lines = Words::of(paragraphs, font).wrapped(room, font);
    let cut = lines.len() > count;
    lines.truncate(count);
    if cut && let Some(last) = lines.last_mut() {
        while font.width(&format!("{last}…")) > room && last.pop().is_some() {}
        *last = format!("{}…", last.trim_end_matches([' ', ',', '-']));
    }
    // In a box narrower than a letter nothing fits.
    lines.iter().all(|line| font.width(line) <= room + 0.001).then_some(Fitted { size, lines, cut })
}

/// From the larger size down to the smaller, in sixteen steps.
fn sizes(from: f32, to: f32) -> impl Iterator<Item = f32> {
    let steps = 16;
    (0..=steps).map(move |step| from - (from - to) * step as f32 / steps as f32)
}

/// A text's words with their widths in em, measured once for all sizes.
struct Words {
    paragraphs: Vec<Vec<(String, f32)>>,
    space: f32,
}

impl Words {
    fn of(paragraphs: &[String], font: &Font) -> Words {
        let measured =
            |text: &String| text.split(' ').map(|word| (word.to_owned(), font.width(word))).collect();
        Words { paragraphs: paragraphs.iter().map(measured).collect(), space: font.width(" ") }
    }

    /// The lines at this size, if all of them lie inside the box.
    fn fitted(&self, spec: &TextSpec, font: &Font, size: f32) -> Option<Fitted> {
        let room = spec.rect.width / size;
        if self.paragraphs.iter().flatten().any(|(_, width)| *width > room) {
            return None;
        }
        let lines = self.wrapped(room, font);
        (lines.len() <= spec.max_lines
            && font.block_height(lines.len(), spec.leading) * size <= spec.rect.height)
            .then_some(Fitted { size, lines, cut: false })
    }

    /// Greedy lines no wider than `room` em; a word that is wider by itself is broken between letters.
    fn wrapped(&self, room: f32, font: &Font) -> Vec<String> {
        let mut lines = Vec::new();
        for paragraph in &self.paragraphs {
            let (mut line, mut used) = (String::new(), 0.0);
            for (word, width) in paragraph {
                if !line.is_empty() && used + self.space + width <= room && {
                    // Kerning across the space may add a hair: only near the edge is it worth another look.
                    used + self.space + width < room * 0.97 || font.width(&format!("{line} {word}")) <= room
                } {
                    line = format!("{line} {word}");
                    used += self.space + width;
                    continue;
                }
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                (line, used) = (word.clone(), *width);
                while used > room {
                    let head = head_that_fits(&line, room, font);
                    let rest = line.split_off(head);
                    lines.push(std::mem::replace(&mut line, rest));
                    used = font.width(&line);
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// The byte length of the longest beginning of `word` that is no wider than `room` em, at least one character.
fn head_that_fits(word: &str, room: f32, font: &Font) -> usize {
    let ends: Vec<usize> = word.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
    let fitting = ends.partition_point(|end| font.width(&word[..*end]) <= room);
    ends[fitting.saturating_sub(1)]
}

/// The faces that come with the program; every family that a template names is set in them, so that a label never
/// depends on the machine's fonts.
pub struct Fonts {
    pub database: Arc<fontdb::Database>,
    pub regular: Font,
    pub bold: Font,
}

impl Fonts {
    pub fn new() -> Fonts {
        let mut database = fontdb::Database::new();
        let regular =
            Font::load(&mut database, include_bytes!("../../config/labels/fonts/LiberationSans-Regular.ttf"));
        let bold =
            Font::load(&mut database, include_bytes!("../../config/labels/fonts/LiberationSans-Bold.ttf"));
        Fonts { database: Arc::new(database), regular, bold }
    }

    pub fn face(&self, bold: bool) -> &Font {
        if bold { &self.bold } else { &self.regular }
    }
}
