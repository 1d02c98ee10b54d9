//! The lines of text that the instructions of a PDF's page show. Pure.

use std::collections::HashMap;

use super::{
    fonts::{Font, hexadecimal},
    syntax::find,
};

/// Gaps between the strings of one instruction, in thousandths of a letter's height, from which on they are spaces.
const GAP: f64 = -180.0;
/// Operands that are kept of an instruction.
const MAX_OPERANDS: usize = 4096;

/// Reads instructions.
pub struct Lines<'a> {
    fonts: &'a HashMap<Vec<u8>, Font>,
    usual: Font,
    font: Option<&'a Font>,
    lines: Vec<String>,
    /// How high the line stands that was written last, where that was said.
    height: Option<f64>,
}

enum Word<'b> {
    Text(Vec<u8>),
    Number(f64),
    Name(&'b [u8]),
    Operator(&'b [u8]),
    Bracket,
}

impl<'a> Lines<'a> {
    pub fn new(fonts: &'a HashMap<Vec<u8>, Font>) -> Lines<'a> {
        Lines { fonts, usual: Font::default(), font: None, lines: vec![String::new()], height: None }
    }

    pub fn text(self) -> String {
        let lines: Vec<&str> =
            self.lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect();
        lines.join("\n")
    }

    /// Takes a part of the page's instructions.
    pub fn take(&mut self, content: &[u8]) {
        let mut operands: Vec<Word<'_>> = Vec::new();
        let mut rest = content;
        while let Some((word, behind)) = next(rest) {
            rest = behind;
            match word {
                Word::Operator(b"BI") => {
                    // A picture within the text.
                    rest = find(rest, b"EI").map_or(&[], |end| &rest[end + 2..]);
                    operands.clear();
                }
                Word::Operator(name) => {
                    self.instruct(name, &operands);
                    operands.clear();
                }
                operand if operands.len() < MAX_OPERANDS => operands.push(operand),
                _ => {}
            }
        }
    }

    fn instruct(&mut self, name: &[u8], operands: &[Word<'_>]) {
        let number = |from_end: usize| match operands.iter().rev().nth(from_end) {
            Some(Word::Number(number)) => *number,
            _ => 0.0,
        };
        match name {
            b"Tf" => {
                let name = operands.iter().find_map(|operand| match operand {
                    Word::Name(name) => Some(*name),
                    _ => None,
                });
                self.font = name.and_then(|name| self.fonts.get(name));
            }
            b"Tj" | b"TJ" => self.show(operands),
            b"'" | b"\"" => {
                self.begin_line();
                self.show(operands);
            }
            b"Td" | b"TD" if number(0) != 0.0 => self.begin_line(),
            b"T*" => self.begin_line(),
            b"Tm" => {
                if self.height != Some(number(0)) {
                    self.begin_line();
                }
                self.height = Some(number(0));
            }
            _ => {}
        }
    }

    fn begin_line(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }

    fn show(&mut self, operands: &[Word<'_>]) {
        let font = self.font.unwrap_or(&self.usual);
        let Some(line) = self.lines.last_mut() else { return };
        for operand in operands {
            match operand {
                Word::Text(bytes) => {
                    let text = font.text(bytes);
                    line.extend(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
                }
                Word::Number(gap) if *gap < GAP && !line.ends_with(' ') && !line.is_empty() => line.push(' '),
                _ => {}
            }
        }
    }
}

fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'/' | b'%' | 0)
}

/// The next word of a page's instructions, and what stands behind it.
fn next(content: &[u8]) -> Option<(Word<'_>, &[u8])> {
    let mut rest = content;
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0)?;
        rest = &rest[start..];
        if rest[0] != b'%' {
            break;
        }
        rest = &rest[rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())..];
    }
    let (first, behind) = rest.split_first()?;
    let until = |from: &[u8]| from.iter().position(|byte| is_delimiter(*byte)).unwrap_or(from.len());
    Some(match first {
        b'(' => {
            let (text, behind) = literal(behind);
            (Word::Text(text), behind)
        }
        b'<' if behind.starts_with(b"<") => (Word::Bracket, &behind[1..]),
        b'<' => {
            let end = behind.iter().position(|byte| *byte == b'>').unwrap_or(behind.len());
            (Word::Text(hexadecimal(&behind[..end])), behind.get(end + 1..).unwrap_or_default())
        }
        b'/' => {
            let end = until(behind);
            (Word::Name(&behind[..end]), &behind[end..])
        }
        b'[' | b']' | b'>' | b')' => (Word::Bracket, behind),
        _ => {
            let end = until(rest).max(1);
            let word = &rest[..end];
            let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
            let is_number = word[0].is_ascii_digit() || matches!(word[0], b'+' | b'-' | b'.');
            let word = number.filter(|_| is_number).map_or(Word::Operator(word), Word::Number);
            (word, &rest[end..])
        }
    })
}

/// A text in brackets, of which the first is read already.
fn literal(content: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut text, mut depth, mut at) = (Vec::new(), 0, 0);
    while let Some(byte) = content.get(at) {
        at += 1;
        match byte {
            b'\\' => {
                let Some(escaped) = content.get(at) else { break };
                at += 1;
                match escaped {
                    b'n' => text.push(b'\n'),
                    b'r' | b't' => text.push(b' '),
                    b'b' | b'f' | b'\n' => {}
                    b'\r' => at += usize::from(content.get(at) == Some(&b'\n')),
                    b'0'..=b'7' => {
                        let digits =
                            content[at - 1..].iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte));
                        let digits: Vec<u8> = digits.map(|byte| byte - b'0').collect();
                        at += digits.len() - 1;
                        text.push(
                            digits.iter().fold(0_u8, |code, digit| code.wrapping_mul(8).wrapping_add(*digit)),
                        );
                    }
                    other => text.push(*other),
                }
            }
            b'(' => {
                depth += 1;
                text.push(b'(');
            }
            b')' if depth == 0 => break,
            b')' => {
                depth -= 1;
                text.push(b')');
            }
            other => text.push(*other),
        }
    }
    (text, &content[at..])
}
