//! What the codes of a PDF's font mean. Pure.

use std::collections::HashMap;

/// Codes that one font's map may name.
const MAX_CODES: usize = 70_000;
/// What Windows' Latin encoding has where Latin-1 has control characters, from 0x80.
const LATIN: [char; 32] = [
    '€', ' ', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', ' ', 'Ž', ' ', ' ', '‘', '’', '“', '”',
    '•', '–', '—', '˜', '™', 'š', '›', 'œ', ' ', 'ž', 'Ÿ',
];

/// A font, for reading.
#[derive(Default)]
pub struct Font {
    /// Whether a code has two bytes.
    is_wide: bool,
    codes: HashMap<u16, String>,
}

impl Font {
    /// A font with the map to Unicode that the PDF has of it, which may be empty.
    pub fn new(is_wide: bool, map: &[u8]) -> Font {
        let mut font = Font { is_wide, codes: HashMap::new() };
        let map = String::from_utf8_lossy(map);
        for (begin, end, is_range) in
            [("beginbfchar", "endbfchar", false), ("beginbfrange", "endbfrange", true)]
        {
            for part in map.split(begin).skip(1) {
                font.read(part.split(end).next().unwrap_or_default(), is_range);
            }
        }
        font
    }

    fn read(&mut self, part: &str, is_range: bool) {
        let mut words = words(part).into_iter();
        while let Some(low) = words.next().and_then(Word::code) {
            let high = if is_range { words.next().and_then(Word::code) } else { Some(low) };
            let (Some(high), Some(meaning)) = (high, words.next()) else { return };
            match meaning {
                Word::Hex(bytes) => {
                    for (code, step) in (low..=high).zip(0_u32..) {
                        self.put(code, &bytes, step);
                    }
                }
                Word::List(each) => {
                    for (code, bytes) in (low..=high).zip(each) {
                        self.put(code, &bytes, 0);
                    }
                }
            }
        }
    }

    /// Of a range the last letter counts on.
    fn put(&mut self, code: u16, meaning: &[u8], step: u32) {
        if self.codes.len() >= MAX_CODES {
            return;
        }
        let units: Vec<u16> = match meaning {
            [one] => vec![u16::from(*one)],
            more => more.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
        };
        let mut letters: Vec<char> =
            char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        if let Some(last) = letters.last_mut() {
            *last = char::from_u32(*last as u32 + step).unwrap_or(*last);
        }
        self.codes.insert(code, letters.into_iter().filter(|letter| *letter != '\0').collect());
    }

    /// The text of a string of codes.
    pub fn text(&self, bytes: &[u8]) -> String {
        if self.is_wide {
            let codes = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            return codes.filter_map(|code| self.codes.get(&code).map(String::as_str)).collect();
        }
        let mut text = String::with_capacity(bytes.len());
        for byte in bytes {
            match self.codes.get(&u16::from(*byte)) {
                Some(letters) => text.push_str(letters),
                None => text.push(latin(*byte)),
            }
        }
        text
    }
}

fn latin(byte: u8) -> char {
    match byte {
        0x80..=0x9f => LATIN[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// A word of a map.
enum Word {
    Hex(Vec<u8>),
    List(Vec<Vec<u8>>),
}

impl Word {
    fn code(self) -> Option<u16> {
        match self {
            Word::Hex(bytes) if bytes.len() <= 2 => {
                Some(bytes.iter().fold(0, |code, byte| code << 8 | u16::from(*byte)))
            }
            _ => None,
        }
    }
}

fn words(part: &str) -> Vec<Word> {
    let (mut words, mut list) = (Vec::new(), None::<Vec<Vec<u8>>>);
    let mut rest = part;
    while let Some(at) = rest.find(['<', '[', ']']) {
        let sign = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match sign {
            b'[' => list = Some(Vec::new()),
            b']' => words.extend(list.take().map(Word::List)),
            _ => {
                let Some(end) = rest.find('>') else { break };
                let bytes = hexadecimal(&rest.as_bytes()[..end]);
                rest = &rest[end + 1..];
                match &mut list {
                    Some(list) => list.push(bytes),
                    None => words.push(Word::Hex(bytes)),
                }
            }
        }
    }
    words
}

/// The bytes of hexadecimal digits, with whatever stands between them; a last digit alone stands for the first half.
pub fn hexadecimal(digits: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        digits.iter().filter_map(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect()
}
