//! Joins small PDFs into one of any length, whose bytes are given out as it grows.
//!
//! It reads what our own PDF library writes (plain objects, a plain cross-reference table, one flat page tree), and
//! refuses anything else. Each object is passed on under a new number; of the catalog, the page tree and the metadata
//! of each part nothing stays, for the whole has its own.

use std::{fmt::Write as _, ops::Range};

/// The number of the catalog, and of the root of the page tree.
const CATALOG: u32 = 1;
const PAGES: u32 = 2;
const FIRST_FREE: u32 = 3;

/// What is no PDF as our library writes them.
#[derive(Debug, thiserror::Error)]
#[error("a part of the document cannot be joined: {0}")]
pub struct JoinError(&'static str);

/// A document that grows.
#[derive(Debug)]
pub struct Joiner {
    /// Where each object begins, by its number; the first three numbers are written at the end.
    offsets: Vec<u64>,
    pages: Vec<u32>,
    written: u64,
}

impl Default for Joiner {
    fn default() -> Self {
        Joiner::new()
    }
}

impl Joiner {
    pub fn new() -> Joiner {
        Joiner { offsets: vec![0; FIRST_FREE as usize], pages: Vec::new(), written: 0 }
    }

    /// The pages that it has so far.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Adds all pages of a document; returns the bytes that come next.
    ///
    /// # Errors
    /// When the part is not as our library writes documents.
    pub fn add(&mut self, part: &[u8]) -> Result<Vec<u8>, JoinError> {
        let mut out = Vec::with_capacity(part.len() + 64);
        if self.written == 0 {
            // The four bytes tell programs that move files that this is no text.
            out.extend_from_slice(b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n");
        }
        let objects = objects(part)?;
        let trailer = &part[find_last(part, b"trailer").ok_or(JoinError("it has no trailer"))?..];
        let reference = |text: &[u8], key: &[u8], missing| named(text, key).ok_or(JoinError(missing));
        let catalog = reference(trailer, b"/Root", "it has no catalog")?;
        let info = named(trailer, b"/Info");
        let root = object(part, &objects, catalog)?;
        let pages = reference(root, b"/Pages", "its catalog names no pages")?;
        let left_out = [Some(catalog), info, Some(pages), named(root, b"/Metadata")];
        let kept: Vec<u32> =
            (1..objects.len() as u32).filter(|number| !left_out.contains(&Some(*number))).collect();
        let first = self.offsets.len() as u32;
        let mut renumbered = vec![0; objects.len()];
        for (place, number) in kept.iter().enumerate() {
            renumbered[*number as usize] = first + place as u32;
        }
        renumbered[pages as usize] = PAGES;
        for number in &kept {
            self.offsets.push(self.written + out.len() as u64);
            out.extend_from_slice(format!("{} 0 obj\n", renumbered[*number as usize]).as_bytes());
            renumber(object(part, &objects, *number)?, &renumbered, &mut out)?;
            out.extend_from_slice(b"\nendobj\n");
        }
        for kid in kids(object(part, &objects, pages)?)? {
            let kid = renumbered.get(kid as usize).copied().filter(|new| *new >= first);
            self.pages.push(kid.ok_or(JoinError("its page tree names a page that is not there"))?);
        }
        self.written += out.len() as u64;
        Ok(out)
    }

    /// The document's last bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = String::new();
        self.offsets[CATALOG as usize] = self.written;
        let _ = write!(out, "{CATALOG} 0 obj\n<</Type/Catalog/Pages {PAGES} 0 R>>\nendobj\n");
        self.offsets[PAGES as usize] = self.written + out.len() as u64;
        let _ = write!(out, "{PAGES} 0 obj\n<</Type/Pages/Count {}/Kids[", self.pages.len());
        for page in &self.pages {
            let _ = write!(out, "{page} 0 R ");
        }
        out.push_str("]>>\nendobj\n");
        let table = self.written + out.len() as u64;
        let _ = writeln!(out, "xref\n0 {}\n0000000000 65535 f ", self.offsets.len());
        for offset in &self.offsets[1..] {
            let _ = writeln!(out, "{offset:010} 00000 n ");
        }
        let _ = writeln!(
            out,
            "trailer\n<</Size {}/Root {CATALOG} 0 R>>\nstartxref\n{table}\n%%EOF",
            self.offsets.len()
        );
        out.into_bytes()
    }
}

/// What lies between `N 0 obj` and `endobj` of each object, by its number. Each object ends where the next one in the
/// file begins.
fn objects(part: &[u8]) -> Result<Vec<Range<usize>>, JoinError> {
    const ENTRY: usize = 20;
    let wrong = || JoinError("its table of objects cannot be read");
    let start = find_last(part, b"startxref").ok_or_else(wrong)?;
    let table = number_at(&part[start + b"startxref".len()..]).ok_or_else(wrong)?.0 as usize;
    let text = part.get(table..start).and_then(|text| text.strip_prefix(b"xref\n0 ")).ok_or_else(wrong)?;
    let (count, length) = number_at(text).ok_or_else(wrong)?;
    let entries = text.get(length + 1..length + 1 + count as usize * ENTRY).ok_or_else(wrong)?;
    let mut begins = Vec::with_capacity(count as usize);
    for entry in entries.chunks_exact(ENTRY) {
        let offset = number_at(entry).ok_or_else(wrong)?.0 as usize;
        begins.push(if entry[17] == b'n' { offset } else { 0 });
    }
    let mut sorted: Vec<usize> = begins.iter().copied().filter(|begin| *begin > 0).collect();
    sorted.sort_unstable();
    sorted.push(table);
    let body = |begin: usize| -> Result<Range<usize>, JoinError> {
        if begin == 0 {
            return Ok(0..0);
        }
        let next = sorted[sorted.partition_point(|other| *other <= begin).min(sorted.len() - 1)];
        let all = part.get(begin..next).ok_or_else(wrong)?;
        let head = find(all, b"obj").ok_or_else(wrong)? + b"obj".len();
        let end = find_last(all, b"endobj").ok_or_else(wrong)?;
        (head <= end).then(|| begin + head..begin + end).ok_or_else(wrong)
    };
    begins.into_iter().map(body).collect()
}

fn object<'a>(part: &'a [u8], objects: &[Range<usize>], number: u32) -> Result<&'a [u8], JoinError> {
    let range = objects.get(number as usize).filter(|range| !range.is_empty());
    Ok(part[range.ok_or(JoinError("it names an object that is not there"))?.clone()].trim_ascii())
}

/// Writes an object with new numbers in its references; what lies in texts and in its stream stays as it is.
fn renumber(body: &[u8], numbers: &[u32], out: &mut Vec<u8>) -> Result<(), JoinError> {
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let taken = match rest[0] {
            b'(' => literal(rest).ok_or(JoinError("a text has no end"))?,
            b'<' if rest.get(1) == Some(&b'<') => 2,
            b'<' => find(rest, b">").ok_or(JoinError("a text has no end"))? + 1,
            // A name may hold digits.
            b'/' => 1 + rest[1..].iter().take_while(|byte| is_regular(**byte)).count(),
            b's' if rest.starts_with(b"stream") => rest.len(),
            byte if byte.is_ascii_digit() => {
                if let Some((number, length)) = reference(rest) {
                    let new = numbers.get(number as usize).copied().filter(|new| *new > 0);
                    let new = new.ok_or(JoinError("it refers to an object that is left out"))?;
                    out.extend_from_slice(format!("{new} 0 R").as_bytes());
                    at += length;
                    continue;
                }
                rest.iter().take_while(|byte| is_regular(**byte)).count()
            }
            byte if is_regular(byte) => rest.iter().take_while(|byte| is_regular(**byte)).count(),
            _ => 1,
        };
        out.extend_from_slice(&rest[..taken]);
        at += taken;
    }
    Ok(())
}

/// Whether a byte belongs to a number, a name or a word.
fn is_regular(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && byte != 0 && !b"()<>[]{}/%".contains(&byte)
}

/// `12 0 R` at the beginning of `text`: the number, and the length of it all.
fn reference(text: &[u8]) -> Option<(u32, usize)> {
    let (number, digits) = number_at(text)?;
    let rest = text.get(digits..)?.strip_prefix(b" 0 R")?;
    rest.first().is_none_or(|byte| !is_regular(*byte)).then_some((number, digits + 4))
}

/// The reference that stands behind a key.
fn named(text: &[u8], key: &[u8]) -> Option<u32> {
    let rest = text.get(find(text, key)? + key.len()..)?;
    Some(reference(rest.trim_ascii_start())?.0)
}

fn kids(pages: &[u8]) -> Result<Vec<u32>, JoinError> {
    let wrong = || JoinError("its page tree names no pages");
    let list = &pages[find(pages, b"/Kids").ok_or_else(wrong)?..];
    let list = &list[find(list, b"[").ok_or_else(wrong)? + 1..];
    let mut list = list[..find(list, b"]").ok_or_else(wrong)?].trim_ascii_start();
    let mut kids = Vec::new();
    while !list.is_empty() {
        let (kid, length) = reference(list).ok_or_else(wrong)?;
        kids.push(kid);
        list = list[length..].trim_ascii_start();
    }
    Ok(kids)
}

/// The length of a text in parentheses.
fn literal(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The number at the beginning of `text` behind white space, and how many bytes it took.
fn number_at(text: &[u8]) -> Option<(u32, usize)> {
    let spaces = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let digits = text[spaces..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[spaces..spaces + digits]).ok()?.parse().ok()?;
    Some((number, spaces + digits))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn find_last(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renumbered(body: &[u8], numbers: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        renumber(body, numbers, &mut out).unwrap();
        out
    }

    #[test]
    fn references_get_new_numbers_and_nothing_else_changes() {
        let body = b"<</Parent 2 0 R/W[1 0 3]/F1 3 0 R/T(2 0 R \\) (3 0 R))/H<32 0 R>/N2 4/K[3 0 R 3 0 R]/L 12.5>>\nstream\n3 0 R\nendstream";
        let expected = b"<</Parent 7 0 R/W[1 0 3]/F1 19 0 R/T(2 0 R \\) (3 0 R))/H<32 0 R>/N2 4/K[19 0 R 19 0 R]/L 12.5>>\nstream\n3 0 R\nendstream";
        let out = renumbered(body, &[0, 0, 7, 19]);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected));
    }

    #[test]
    fn what_is_no_document_of_ours_is_refused() {
        let truncated: &[u8] = b"%PDF-1.7\n1 0 obj\n<</Pages 2 0 R>>\nendobj\n";
        for part in [&b""[..], b"%PDF-1.7", b"trailer<</Root 1 0 R>>startxref\n99\n%%EOF", truncated] {
            assert!(Joiner::new().add(part).is_err(), "{}", String::from_utf8_lossy(part));
        }
        assert!(renumber(b"<</A 9 0 R>>", &[0, 0], &mut Vec::new()).is_err());
        assert!(renumber(b"(no end", &[], &mut Vec::new()).is_err());
    }
}
