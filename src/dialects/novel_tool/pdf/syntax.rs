//! How a PDF is written: its objects, and what stands in their dictionaries. Pure.

use std::{borrow::Cow, collections::HashMap};

/// Objects that are looked at.
pub const MAX_OBJECTS: usize = 500_000;

/// Every `N G obj … endobj`.
pub fn objects(bytes: &[u8]) -> HashMap<u32, Cow<'_, [u8]>> {
    let mut objects = HashMap::new();
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], b"obj") {
        let place = at + found;
        at = place + 3;
        let Some(number) = number_before(&bytes[..place]) else { continue };
        let end = find(&bytes[at..], b"endobj").map_or(bytes.len(), |length| at + length);
        // The last one of a number counts: PDFs are changed by writing behind their end.
        objects.insert(number, Cow::Borrowed(&bytes[at..end]));
        if objects.len() >= MAX_OBJECTS {
            break;
        }
        at = end;
    }
    objects
}

/// The number of the object whose `obj` stands behind these bytes.
fn number_before(bytes: &[u8]) -> Option<u32> {
    let back = &bytes[bytes.len().saturating_sub(32)..];
    let mut words = back.trim_ascii_end().rsplit(u8::is_ascii_whitespace);
    let generation = words.next()?;
    let number = words.find(|word| !word.is_empty())?;
    let is_number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    // What stood before it may touch it.
    let digits = number.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let number = &number[number.len() - digits..];
    (is_number(generation) && is_number(number)).then(|| std::str::from_utf8(number).ok()?.parse().ok())?
}

/// The part of an object before its stream.
pub fn dictionary(body: &[u8]) -> &[u8] {
    let end = find(body, b"stream").unwrap_or(body.len());
    &body[..end]
}

/// What stands behind a key of a dictionary.
pub fn value<'b>(dictionary: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    let mut rest = dictionary;
    while let Some(at) = rest.iter().position(|byte| *byte == b'/') {
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(key)
            && behind.first().is_some_and(|byte| !byte.is_ascii_alphanumeric())
        {
            return Some(behind.trim_ascii_start());
        }
    }
    None
}

/// Whether a dictionary, or one within it, has a name behind a key.
pub fn says(dictionary: &[u8], key: &[u8], name: &[u8]) -> bool {
    let mut rest = dictionary;
    while let Some(found) = value(rest, key) {
        let behind = found.strip_prefix(b"/").and_then(|found| found.strip_prefix(name));
        if behind.is_some_and(|behind| behind.first().is_none_or(|byte| !byte.is_ascii_alphanumeric())) {
            return true;
        }
        rest = found;
    }
    false
}

/// One value: what stands up to the end of a list, or of the next name.
pub fn first(found: &[u8]) -> &[u8] {
    let end = match found.first() {
        Some(b'[') => found.iter().position(|byte| *byte == b']').map_or(found.len(), |at| at + 1),
        _ => {
            found.iter().skip(1).position(|byte| matches!(byte, b'/' | b'>')).map_or(found.len(), |at| at + 1)
        }
    };
    &found[..end]
}

pub fn number(found: &[u8]) -> Option<usize> {
    let digits = found.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&found[..digits]).ok()?.parse().ok()
}

/// The number in `N G R`, if that stands first.
pub fn reference(found: &[u8]) -> Option<u32> {
    let mut words = found.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let named = number(words.next()?)?;
    number(words.next()?)?;
    words.next()?.starts_with(b"R").then(|| u32::try_from(named).ok())?
}

/// The numbers in a list of `N G R`.
pub fn references(list: &[u8]) -> Vec<u32> {
    let list = &list[..list.iter().position(|byte| *byte == b']').unwrap_or(list.len())];
    let list = list.trim_ascii_start();
    let list = list.strip_prefix(b"[").unwrap_or(list);
    let words: Vec<&[u8]> = list.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    let named = words.windows(3).filter(|three| three[2].starts_with(b"R") && number(three[1]).is_some());
    named.filter_map(|three| u32::try_from(number(three[0])?).ok()).collect()
}

/// `/Name N G R` pairs of a dictionary.
pub fn named_references(dictionary: &[u8]) -> Vec<(Vec<u8>, u32)> {
    let names = dictionary.split(|byte| *byte == b'/').skip(1);
    names
        .filter_map(|entry| {
            let end = entry.iter().position(u8::is_ascii_whitespace)?;
            Some((entry[..end].to_vec(), reference(&entry[end..])?))
        })
        .collect()
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| byte == first) {
        from += at + 1;
        if haystack[from..].starts_with(rest) {
            return Some(from - 1);
        }
    }
    None
}
