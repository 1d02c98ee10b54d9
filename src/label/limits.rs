//! What a label and its template may be at the most: everything that comes from a stranger has a bound.

use std::ops::RangeInclusive;

/// A template file may be this long, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 900_000;
/// … an SVG hold this many elements and pieces of text,
pub const MAX_TEMPLATE_NODES: u32 = 4_000;
/// … be nested this deep (the renderer recurses),
pub const MAX_TEMPLATE_DEPTH: usize = 32;
/// … have this many boxes,
pub const MAX_FIELDS: usize = 64;
/// … or this many layers,
pub const MAX_LAYERS: usize = 200;
/// … be between these lengths on each side, in millimetres (A3 is 420 high),
pub const SIDE_MM: RangeInclusive<f32> = 5.0..=420.0;
/// … and ask for this many pixels per inch,
pub const DPI: RangeInclusive<u32> = 72..=600;
/// … a picture of it may have more, or fewer for a small preview,
pub const PICTURE_DPI: RangeInclusive<u32> = 10..=1_200;
/// … but not more pixels in all than this.
pub const MAX_PIXELS: u64 = 20_000_000;

/// More of a value than this is never printed; longer ones are cut before they are measured.
pub const MAX_CHARS: usize = 600;
/// More tiers than this are left out, with a warning.
pub const MAX_TIERS: usize = 12;
/// Values besides the known ones that a label's data may have.
pub const MAX_VALUES: usize = 64;
/// Text that must not be cut shrinks down to this height in millimetres, and is left out below it.
pub const SMALLEST_TEXT: f32 = 1.0;
/// Scanners of shop counters need bars and modules of at least this width in millimetres.
pub const SMALLEST_MODULE: f32 = 0.25;
/// Characters of a bar code; more would be too wide for any label.
pub const MAX_BAR_CHARS: usize = 80;

/// A picture on a label may have this many bytes,
pub const MAX_PICTURE_BYTES: usize = 4_000_000;
/// … and, since a small file may unfold to a huge picture, this many pixels.
pub const MAX_PICTURE_PIXELS: u64 = 8_000_000;
/// Pictures on one label.
pub const MAX_PICTURES: usize = 16;
