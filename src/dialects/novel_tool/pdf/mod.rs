//! What a PDF holds, as far as it can be told without drawing it: its pages in order, their text, its pictures. Pure.
//!
//! Its objects are taken wherever they stand, for its own table of them is often wrong. Text is read where letters are in
//! a usual encoding, or where the PDF says what they mean ([`fonts`]).

mod fonts;
mod page_text;
mod syntax;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io::Read as _,
};

use self::{
    fonts::Font,
    page_text::Lines,
    syntax::{
        MAX_OBJECTS, dictionary, find, first, named_references, number, objects, reference, references, says,
        value,
    },
};

/// Bytes that are unpacked of one PDF.
const MAX_UNPACKED: usize = 64 << 20;
/// How far up the tree of pages what a page inherits is looked for.
const MAX_DEPTH: usize = 16;

/// Why a PDF cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    NoPdf,
    Encrypted,
    NoPages,
}

impl Unreadable {
    /// What to do about it.
    pub fn sentence(self) -> &'static str {
        match self {
            Unreadable::NoPdf => "This file is no PDF; upload one that begins with %PDF.",
            Unreadable::Encrypted => "The PDF is encrypted; save it without a password and upload it again.",
            Unreadable::NoPages => {
                "No pages can be found in the PDF; it may be damaged. Save it anew and try again."
            }
        }
    }
}

/// The objects of a PDF.
pub struct Pdf<'a> {
    objects: HashMap<u32, Cow<'a, [u8]>>,
    /// In the order of the tree of pages.
    pages: Vec<u32>,
    budget: usize,
}

impl<'a> Pdf<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Pdf<'a>, Unreadable> {
        if !bytes.starts_with(b"%PDF") {
            return Err(Unreadable::NoPdf);
        }
        let mut pdf = Pdf { objects: objects(bytes), pages: Vec::new(), budget: MAX_UNPACKED };
        let packs: Vec<u32> = pdf.of_type(b"ObjStm");
        let is_encrypted = find(bytes, b"/Encrypt").is_some();
        if is_encrypted {
            return Err(Unreadable::Encrypted);
        }
        for pack in packs {
            pdf.unpack(pack);
        }
        pdf.pages = pdf.ordered();
        if pdf.pages.is_empty() { Err(Unreadable::NoPages) } else { Ok(pdf) }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub fn image_count(&self) -> usize {
        self.objects.values().filter(|body| says(dictionary(body), b"Subtype", b"Image")).count()
    }

    /// The text of the first pages, of so many characters at the most.
    pub fn text(&mut self, most: usize) -> String {
        let mut text = String::new();
        let mut left = most;
        for page in self.pages.clone() {
            let shown = self.page(page);
            let part: String = shown.chars().take(left).collect();
            left -= part.chars().count();
            text.push_str(&part);
            if left <= 1 {
                break;
            }
            text.push('\n');
            left -= 1;
        }
        text
    }

    /// The text of one page.
    fn page(&mut self, page: u32) -> String {
        let body = self.object(page).to_vec();
        let fonts = self.fonts(&body);
        let mut lines = Lines::new(&fonts);
        let contents = value(dictionary(&body), b"Contents").map(first).unwrap_or_default();
        for part in references(contents) {
            // A list of parts may stand in an object of its own.
            let object = self.object(part).to_vec();
            if object.trim_ascii_start().starts_with(b"[") {
                for part in references(&object) {
                    lines.take(&self.stream(part));
                }
            } else {
                lines.take(&self.stream(part));
            }
        }
        lines.text()
    }

    /// The fonts of a page under their names.
    fn fonts(&mut self, page: &[u8]) -> HashMap<Vec<u8>, Font> {
        let Some(resources) = self.inherited(page, b"Resources") else { return HashMap::new() };
        let named = value(dictionary(&resources), b"Font").map(|found| self.resolved(found));
        let mut fonts = HashMap::new();
        for (name, number) in named_references(dictionary(&named.unwrap_or_default())) {
            let font = self.object(number).to_vec();
            let is_wide = says(dictionary(&font), b"Subtype", b"Type0");
            let map = value(dictionary(&font), b"ToUnicode").and_then(reference);
            let map = map.map(|number| self.stream(number)).unwrap_or_default();
            fonts.insert(name, Font::new(is_wide, &map));
        }
        fonts
    }

    /// What a page has itself or from above.
    fn inherited(&self, page: &[u8], key: &[u8]) -> Option<Vec<u8>> {
        let mut body = page.to_vec();
        for _ in 0..MAX_DEPTH {
            if let Some(found) = value(dictionary(&body), key) {
                return Some(self.resolved(found));
            }
            body = self.object(reference(value(dictionary(&body), b"Parent")?)?).to_vec();
        }
        None
    }

    /// What stands there, or in the object that is named there.
    fn resolved(&self, found: &[u8]) -> Vec<u8> {
        match reference(found) {
            Some(number) => self.object(number).to_vec(),
            None => found.to_vec(),
        }
    }

    fn object(&self, number: u32) -> &[u8] {
        self.objects.get(&number).map(Cow::as_ref).unwrap_or_default()
    }

    fn of_type(&self, wanted: &[u8]) -> Vec<u32> {
        let these = self.objects.iter().filter(|(_, body)| says(dictionary(body), b"Type", wanted));
        let mut found: Vec<u32> = these.map(|(number, _)| *number).collect();
        found.sort_unstable();
        found
    }

    /// Takes the objects out of a packed one.
    fn unpack(&mut self, pack: u32) {
        let first_at = value(dictionary(self.object(pack)), b"First").and_then(number);
        let content = self.stream(pack);
        let Some(head) = first_at.and_then(|first_at| content.get(..first_at)) else { return };
        let numbers: Vec<usize> = head
            .split(u8::is_ascii_whitespace)
            .filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
            .collect();
        let places: Vec<(u32, usize)> = numbers
            .chunks_exact(2)
            .filter_map(|pair| Some((u32::try_from(pair[0]).ok()?, head.len().checked_add(pair[1])?)))
            .collect();
        for (at, (number, start)) in places.iter().enumerate() {
            let end = places.get(at + 1).map_or(content.len(), |(_, next)| *next);
            let Some(body) = content.get(*start..end) else { continue };
            if self.objects.len() < MAX_OBJECTS {
                self.objects.entry(*number).or_insert_with(|| Cow::Owned(body.to_vec()));
            }
        }
    }

    /// What an object's stream holds; nothing if it is packed in a way that is not known here.
    fn stream(&mut self, number: u32) -> Vec<u8> {
        let body = self.object(number);
        let dictionary = dictionary(body);
        let Some(begin) = find(&body[dictionary.len()..], b"stream").map(|at| dictionary.len() + at + 6)
        else {
            return Vec::new();
        };
        let content = &body[begin..];
        let content =
            content.strip_prefix(b"\r\n").or_else(|| content.strip_prefix(b"\n")).unwrap_or(content);
        let content = &content[..find(content, b"endstream").unwrap_or(content.len())];
        let unpacked = match value(dictionary, b"Filter") {
            None => content.to_vec(),
            Some(filter) if find(first(filter), b"/FlateDecode").is_some() => {
                let mut unpacked = Vec::new();
                // What cannot be unpacked to its end has been unpacked so far.
                let _ = flate2::read::ZlibDecoder::new(content)
                    .take(self.budget as u64)
                    .read_to_end(&mut unpacked);
                unpacked
            }
            Some(_) => Vec::new(),
        };
        self.budget = self.budget.saturating_sub(unpacked.len());
        unpacked
    }

    /// All pages: in the order of their tree, and those that it does not name behind it.
    fn ordered(&self) -> Vec<u32> {
        let pages = self.of_type(b"Page");
        let root = self
            .of_type(b"Catalog")
            .last()
            .and_then(|root| value(dictionary(self.object(*root)), b"Pages").and_then(reference));
        let known: HashSet<u32> = pages.iter().copied().collect();
        let (mut seen, mut ordered) = (HashSet::new(), Vec::new());
        let mut waiting: Vec<u32> = root.into_iter().collect();
        while let Some(number) = waiting.pop() {
            if !seen.insert(number) {
                continue;
            }
            if known.contains(&number) {
                ordered.push(number);
            }
            let kids = value(dictionary(self.object(number)), b"Kids").map(|kids| self.resolved(kids));
            let kids = references(&kids.unwrap_or_default());
            waiting.extend(kids.into_iter().rev());
        }
        let placed: HashSet<u32> = ordered.iter().copied().collect();
        ordered.extend(pages.into_iter().filter(|page| !placed.contains(page)));
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_pictures_are_counted_and_the_tree_of_pages_is_not() {
        let bytes = b"%PDF-1.4 1 0 obj<</Type /Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type /Pages/Kids[4 0 R 3 0 R]>>endobj \
            3 0 obj<</Type/Page>>endobj 4 0 obj<</Type /Page /X 1>>endobj 5 0 obj<</Subtype/Image>>endobj";
        let pdf = Pdf::read(bytes).unwrap();
        assert_eq!((pdf.page_count(), pdf.image_count()), (2, 1));
        assert_eq!(pdf.pages, [4, 3]);
        assert_eq!(Pdf::read(b"%PDF-1.4 nothing").err(), Some(Unreadable::NoPages));
        assert_eq!(Pdf::read(b"PK /Type/Page").err(), Some(Unreadable::NoPdf));
        let locked = b"%PDF-1.4 1 0 obj<</Type/Page>>endobj trailer<</Encrypt 5 0 R>>";
        assert_eq!(Pdf::read(locked).err(), Some(Unreadable::Encrypted));
    }

    #[test]
    fn text_is_read_as_its_font_says_and_in_the_order_of_the_pages() {
        let map = "1 begincodespacerange <0000> <FFFF> endcodespacerange 2 beginbfchar <0001> <00C9> <0002> <0074> endbfchar \
            1 beginbfrange <0010> <0012> <0061> endbfrange";
        let wide = "BT /F2 9 Tf [<0001 0002> -20 <0010>] TJ 0 -12 Td <0012> Tj ET";
        let plain =
            r"BT /F1 12 Tf 72 700 Td (Il \(dit\) \311t) Tj [(deux) -300 (mots)] TJ T* (fin\222) Tj ET";
        let stream = |text: &str| format!("<</Length {}>>\nstream\n{text}\nendstream", text.len());
        let text = format!(
            "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
             2 0 obj<</Type/Pages/Kids[3 0 R 4 0 R]/Resources<</Font<</F1 5 0 R/F2 6 0 R>>>>>>endobj\n\
             3 0 obj<</Type/Page/Parent 2 0 R/Contents 7 0 R>>endobj\n\
             4 0 obj<</Type/Page/Parent 2 0 R/Contents[8 0 R]>>endobj\n\
             5 0 obj<</Type/Font/Subtype/Type1>>endobj\n\
             6 0 obj<</Type/Font/Subtype/Type0/ToUnicode 9 0 R>>endobj\n\
             7 0 obj{}endobj\n8 0 obj{}endobj\n9 0 obj{}endobj\n",
            stream(plain),
            stream(wide),
            stream(map)
        );
        let mut pdf = Pdf::read(text.as_bytes()).unwrap();
        assert_eq!(pdf.text(1000), "Il (dit) Étdeux mots\nfin’\nÉta\nc\n");
        assert_eq!(pdf.text(7), "Il (dit");
    }

    #[test]
    fn nothing_that_is_written_in_a_pdf_makes_it_fail() {
        let pieces: [&[u8]; 9] = [
            b"%PDF-1.4 ",
            b"1 0 obj",
            b"<</Type/Page/Contents",
            b"[1 0 R",
            b"/Kids[1 0 R]",
            b"stream\n",
            b"(\\",
            b"endobj",
            b"/Type/ObjStm/First 99999999999",
        ];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let bytes = [b"%PDF-", a, b, c, b" BT (x", b">> endstream endobj"].concat();
                    if let Ok(mut pdf) = Pdf::read(&bytes) {
                        pdf.text(100);
                    }
                }
            }
        }
    }
}
