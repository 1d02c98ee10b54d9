//! The offset of an event in what one client is told: the client names the last one when it comes back.
//!
//! The live stream is told in the order of positions, so there a position says what was told before. The past of a job is
//! told between two events of the live stream; an offset in it says which subscription it belongs to, and where the
//! live stream stood.

use std::{fmt, str::FromStr};

/// Written `position`, in the past of a job `position.number.live`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The event's position in the journal.
    pub position: i64,
    /// None in the live stream.
    pub past: Option<Within>,
}

/// The past of a job as one client is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// The number of the subscription in its session.
    pub number: u32,
    /// Up to where the client was told the live stream before.
    pub live: i64,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.past {
            None => write!(f, "{}", self.position),
            Some(Within { number, live }) => write!(f, "{}.{number}.{live}", self.position),
        }
    }
}

impl FromStr for Offset {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Offset, &'static str> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let mut parts = text.split('.').map(|part| part.parse::<i64>().ok().filter(|_| digits(part)));
        match [parts.next(), parts.next(), parts.next(), parts.next()] {
            [Some(Some(position)), None, ..] => Ok(Offset { position, past: None }),
            [Some(Some(position)), Some(Some(number)), Some(Some(live)), None] => {
                let number = number.try_into().map_err(|_| "no subscription has this number")?;
                Ok(Offset { position, past: Some(Within { number, live }) })
            }
            _ => Err("an offset is one whole number, or three"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_is_written_and_nothing_else_is() {
        let past = Some(Within { number: 3, live: 100 });
        for (text, offset) in
            [("7", Offset { position: 7, past: None }), ("7.3.100", Offset { position: 7, past })]
        {
            assert_eq!((offset.to_string().as_str(), text.parse()), (text, Ok(offset)));
        }
        for bad in [
            "",
            ".",
            "x",
            "-1",
            "+1",
            "7.3.100.",
            "7.",
            "7.3",
            "7.3.",
            "7.-3.1",
            "7.3.100.1",
            "7 ",
            "1e3",
            &"9".repeat(31),
        ] {
            assert!(bad.parse::<Offset>().is_err(), "{bad:?}");
        }
    }
}
