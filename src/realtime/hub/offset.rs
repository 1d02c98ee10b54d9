//! The offset of an event in what one client is told: the client names the last one when it comes back.
//!
//! The live stream is told in the order of positions, so there a position says what was told before. The past of a job is
//! told between two events of the live stream; an offset in it says which subscription it belongs to, and where the
//! live stream stood. It is written as a fraction of the position, so that a page that reads offsets as numbers finds
//! them in order.

use std::{fmt, str::FromStr};

/// Digits of a subscription's number.
const DIGITS: usize = 10;

/// Written `position`; in the past of a job `position.live` and behind it the subscription's number, in ten digits.
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
            Some(Within { number, live }) => write!(f, "{}.{live}{number:0DIGITS$}", self.position),
        }
    }
}

/// A text that is no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOffset;

impl FromStr for Offset {
    type Err = NoOffset;

    fn from_str(text: &str) -> Result<Offset, NoOffset> {
        fn whole<T: FromStr>(digits: &str) -> Result<T, NoOffset> {
            // No sign either.
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().ok_or(NoOffset)
        }
        let Some((position, past)) = text.split_once('.') else {
            return Ok(Offset { position: whole(text)?, past: None });
        };
        let live_digits = past.len().checked_sub(DIGITS).ok_or(NoOffset)?;
        let (live, number) = past.split_at_checked(live_digits).ok_or(NoOffset)?;
        let past = Within { number: whole(number)?, live: whole(live)? };
        Ok(Offset { position: whole(position)?, past: Some(past) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_offset_is_a_number_that_begins_with_the_position() {
        let past = Some(Within { number: 3, live: 100 });
        assert_eq!(Offset { position: 7, past: None }.to_string(), "7");
        assert_eq!(Offset { position: 7, past }.to_string(), "7.1000000000003");
    }

    #[test]
    fn nothing_else_is_an_offset() {
        let nines = "9".repeat(31);
        for bad in [
            "",
            ".",
            "x",
            "-7",
            "+7",
            "7.",
            "7.3",
            "7.0000000003",
            ".10000000003",
            "7.1.0000000003",
            "7 ",
            "1e3",
        ] {
            assert_eq!(bad.parse::<Offset>(), Err(NoOffset), "{bad:?}");
        }
        assert_eq!(nines.parse::<Offset>(), Err(NoOffset));
        assert_eq!(format!("7.{nines}").parse::<Offset>(), Err(NoOffset));
        assert_eq!("7.1ä000000003".parse::<Offset>(), Err(NoOffset));
    }

    proptest! {
        #[test]
        fn an_offset_is_read_as_it_was_written(position in 0..i64::MAX, past in proptest::option::of((any::<u32>(), 0..i64::MAX))) {
            let past = past.map(|(number, live)| Within { number, live });
            let offset = Offset { position, past };
            prop_assert_eq!(offset.to_string().parse(), Ok(offset));
        }
    }
}
