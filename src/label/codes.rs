//! Bar codes and QR codes as rows of modules, with the white margins and the digits that their standards ask for.

use barcoders::sym::{code39::Code39, code128::Code128, ean8::EAN8, ean13::EAN13};
use qrcode::{Color, EcLevel, QrCode};

use super::limits::MAX_BAR_CHARS;

/// White modules around a QR code.
pub(super) const QR_QUIET: usize = 4;

/// A kind of bar code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbology {
    Ean13,
    Ean8,
    UpcA,
    Code128,
    Code39,
}

pub(super) const SYMBOLOGIES: [(&str, Option<Symbology>); 14] = [
    ("EAN13", Some(Symbology::Ean13)),
    ("EAN-13", Some(Symbology::Ean13)),
    ("EAN8", Some(Symbology::Ean8)),
    ("EAN-8", Some(Symbology::Ean8)),
    ("UPC", Some(Symbology::UpcA)),
    ("UPCA", Some(Symbology::UpcA)),
    ("UPC-A", Some(Symbology::UpcA)),
    ("CODE128", Some(Symbology::Code128)),
    ("CODE-128", Some(Symbology::Code128)),
    ("CODE128B", Some(Symbology::Code128)),
    ("CODE39", Some(Symbology::Code39)),
    ("CODE-39", Some(Symbology::Code39)),
    ("EAN", None),
    ("auto", None),
];

/// How much of a QR code may be dirty before it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    L,
    M,
    Q,
    H,
}

pub(super) const LEVELS: [(&str, Level); 8] = [
    ("L", Level::L),
    ("M", Level::M),
    ("Q", Level::Q),
    ("H", Level::H),
    ("low", Level::L),
    ("medium", Level::M),
    ("quartile", Level::Q),
    ("high", Level::H),
];

/// One bar code.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    /// 1 is a bar.
    pub modules: Vec<u8>,
    /// White modules left and right of them.
    pub quiet: (usize, usize),
    /// Runs of modules that reach down between the digits.
    guards: &'static [(usize, usize)],
    /// What stands under the bars: text, its middle in modules, and how many modules wide it may be.
    pub digits: Vec<(String, f32, f32)>,
}

impl Bars {
    pub(super) fn is_guard(&self, at: usize) -> bool {
        self.guards.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// # Errors
    /// Why there is no such code, and for a wrong check digit which one was expected.
    pub(super) fn of(symbology: Option<Symbology>, text: &str) -> Result<Bars, String> {
        let text = text.trim();
        let symbology = symbology.unwrap_or_else(|| likely(text));
        match symbology {
            Symbology::Ean13 => {
                let text = checked(text, 13, "an EAN-13")?;
                let modules = EAN13::new(&text).map_err(|_| "no EAN-13".to_owned())?.encode();
                let cell = |number: usize| match number {
                    0 => -6.0,
                    1..=6 => 3.0 + 7.0 * (number as f32 - 0.5),
                    _ => 50.0 + 7.0 * (number as f32 - 6.5),
                };
                let guards = &[(0, 3), (45, 50), (92, 95)];
                Ok(Bars { modules, quiet: (11, 7), guards, digits: cells(&text, cell) })
            }
            Symbology::UpcA => {
                let text = checked(text, 12, "a UPC-A")?;
                let modules = EAN13::new(format!("0{text}")).map_err(|_| "no UPC-A".to_owned())?.encode();
                let cell = |number: usize| match number {
                    0 => -5.0,
                    1..=5 => 3.0 + 7.0 * (number as f32 + 0.5),
                    6..=10 => 50.0 + 7.0 * (number as f32 - 5.5),
                    _ => 100.0,
                };
                let guards = &[(0, 10), (45, 50), (85, 95)];
                Ok(Bars { modules, quiet: (9, 9), guards, digits: cells(&text, cell) })
            }
            Symbology::Ean8 => {
                let text = checked(text, 8, "an EAN-8")?;
                let modules = EAN8::new(&text).map_err(|_| "no EAN-8".to_owned())?.encode();
                let cell = |number: usize| match number {
                    0..=3 => 3.0 + 7.0 * (number as f32 + 0.5),
                    _ => 36.0 + 7.0 * (number as f32 - 3.5),
                };
                let guards = &[(0, 3), (31, 36), (64, 67)];
                Ok(Bars { modules, quiet: (7, 7), guards, digits: cells(&text, cell) })
            }
            Symbology::Code128 => {
                let modules = code128(text)?;
                Ok(Bars::with_text_below(modules, text))
            }
            Symbology::Code39 => {
                if text.is_empty() || text.len() > MAX_BAR_CHARS {
                    return Err(format!("a Code 39 holds 1 to {MAX_BAR_CHARS} characters"));
                }
                let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "-. $/+%".contains(c);
                if let Some(strange) = text.chars().find(|c| !known(*c)) {
                    return Err(format!(
                        "a Code 39 holds capital letters, digits and - . $ / + % and spaces, not {strange:?}"
                    ));
                }
                let modules = Code39::new(text).map_err(|_| "no Code 39".to_owned())?.encode();
                Ok(Bars::with_text_below(modules, text))
            }
        }
    }

    fn with_text_below(modules: Vec<u8>, text: &str) -> Bars {
        let width = modules.len() as f32;
        let digits = vec![(text.to_owned(), width / 2.0, width)];
        Bars { modules, quiet: (10, 10), guards: &[], digits }
    }
}

fn cells(text: &str, cell: impl Fn(usize) -> f32) -> Vec<(String, f32, f32)> {
    text.chars().enumerate().map(|(number, digit)| (digit.to_string(), cell(number), 6.44)).collect()
}

/// What a number most likely is meant as.
fn likely(text: &str) -> Symbology {
    let lengths = [(13, Symbology::Ean13), (12, Symbology::UpcA), (8, Symbology::Ean8)];
    let fits = lengths.iter().find(|(length, _)| checked(text, *length, "").is_ok() && text.len() == *length);
    fits.map_or(Symbology::Code128, |(_, symbology)| *symbology)
}

/// The digits with their check digit, which may be left out.
fn checked(text: &str, length: usize, what: &str) -> Result<String, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) || !(length - 1..=length).contains(&text.len()) {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("{what} has {length} digits, not {shown:?}"));
    }
    let (digits, last) = text.split_at(length - 1);
    let expected = check_digit(digits);
    match last.parse::<u32>() {
        Ok(last) if last != expected => {
            Err(format!("{what} that begins with {digits} ends with the check digit {expected}, not {last}"))
        }
        _ => Ok(format!("{digits}{expected}")),
    }
}

fn check_digit(digits: &str) -> u32 {
    let weighted =
        digits.bytes().rev().enumerate().map(|(at, b)| u32::from(b - b'0') * if at % 2 == 0 { 3 } else { 1 });
    (10 - weighted.sum::<u32>() % 10) % 10
}

/// Digits go two in a symbol, anything else one by one.
fn code128(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() || text.chars().count() > MAX_BAR_CHARS {
        return Err(format!("a Code 128 holds 1 to {MAX_BAR_CHARS} characters"));
    }
    if let Some(strange) = text.chars().find(|c| !(' '..='~').contains(c)) {
        return Err(format!("a Code 128 holds letters without accents, digits and signs, not {strange:?}"));
    }
    let pairs = text.len().is_multiple_of(2) && text.len() >= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let set = if pairs { 'Ć' } else { 'Ɓ' };
    Code128::new(format!("{set}{text}")).map(|code| code.encode()).map_err(|_| "no Code 128".into())
}

/// The modules of a QR code, row by row; `None` when no code holds so much.
pub(super) fn qr(text: &str, level: Level) -> Option<(usize, Vec<bool>)> {
    let level = match level {
        Level::L => EcLevel::L,
        Level::M => EcLevel::M,
        Level::Q => EcLevel::Q,
        Level::H => EcLevel::H,
    };
    let code = QrCode::with_error_correction_level(text, level).ok()?;
    let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
    Some((code.width(), dark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_check_digit_is_told_with_the_right_one() {
        for (symbology, text, says) in [
            (
                Symbology::Ean13,
                "4006381333932",
                "an EAN-13 that begins with 400638133393 ends with the check digit 1, not 2",
            ),
            (
                Symbology::Ean8,
                "96385075",
                "an EAN-8 that begins with 9638507 ends with the check digit 4, not 5",
            ),
            (
                Symbology::UpcA,
                "036000291453",
                "a UPC-A that begins with 03600029145 ends with the check digit 2, not 3",
            ),
            (Symbology::Ean13, "40063", "an EAN-13 has 13 digits, not \"40063\""),
            (Symbology::Ean13, "400638133393a", "an EAN-13 has 13 digits, not \"400638133393a\""),
            (
                Symbology::Code39,
                "abc",
                "a Code 39 holds capital letters, digits and - . $ / + % and spaces, not 'a'",
            ),
            (Symbology::Code128, "Öl", "a Code 128 holds letters without accents, digits and signs, not 'Ö'"),
            (Symbology::Code128, "", "a Code 128 holds 1 to 80 characters"),
        ] {
            assert_eq!(Bars::of(Some(symbology), text).unwrap_err(), says);
        }
    }

    #[test]
    fn a_missing_check_digit_is_added_and_a_number_finds_its_kind() {
        let with = Bars::of(Some(Symbology::Ean13), "4006381333931").unwrap();
        assert_eq!(Bars::of(Some(Symbology::Ean13), "400638133393").unwrap().modules, with.modules);
        for (text, kind) in [
            ("4006381333931", Symbology::Ean13),
            ("96385074", Symbology::Ean8),
            ("036000291452", Symbology::UpcA),
            ("96385075", Symbology::Code128),
            ("SD-10023", Symbology::Code128),
        ] {
            assert_eq!(likely(text), kind, "{text}");
        }
    }
}
