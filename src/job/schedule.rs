//! When a schedule's runs are due: five fields of cron in a time zone, within limits.

use chrono::TimeDelta;
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use serde::{Deserialize, Serialize};

use super::{Code, Rejection};
use crate::event::Timestamp;

/// Longest pattern and name of a time zone that are taken.
const MAX_PATTERN: usize = 100;
const MAX_ZONE: usize = 64;
/// Two runs of a schedule are at least so far apart.
const SMALLEST_INTERVAL: TimeDelta = TimeDelta::minutes(5);
/// Runs that are looked at for [`SMALLEST_INTERVAL`]: more than a day has at that distance.
const LOOKED_AT: usize = 300;

/// What happens when a run is due while an earlier one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It waits for the earlier one's end.
    Queue,
}

/// The times of a schedule's runs.
#[derive(Clone, Debug)]
pub struct Timing {
    cron: Cron,
    zone: Tz,
}

impl Timing {
    /// Reads a pattern such as `30 6 * * 1-5` and a zone such as `Europe/Berlin`; `now` is where the search for runs that
    /// are too close begins.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(pattern: &str, zone: &str, now: Timestamp) -> Result<Timing, Rejection> {
        let invalid = |message: String| Rejection::new(Code::InvalidRequest, message);
        if pattern.len() > MAX_PATTERN {
            return Err(invalid(format!("cron has more than {MAX_PATTERN} bytes.")));
        }
        let zone = Some(zone).filter(|zone| zone.len() <= MAX_ZONE).and_then(|zone| zone.parse().ok());
        let zone: Tz =
            zone.ok_or_else(|| invalid("timezone must be a name such as Europe/Berlin or UTC.".to_owned()))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| {
            invalid(format!(
                "cron must be five fields such as \"30 6 * * 1-5\" (half past six on weekdays): {error}."
            ))
        })?;
        let timing = Timing { cron, zone };
        let runs: Vec<Timestamp> = timing.after(now, LOOKED_AT);
        if runs.is_empty() {
            return Err(invalid("cron names no time that ever comes.".to_owned()));
        }
        if runs.windows(2).any(|pair| pair[1] - pair[0] < SMALLEST_INTERVAL) {
            let minutes = SMALLEST_INTERVAL.num_minutes();
            return Err(invalid(format!("cron must leave at least {minutes} minutes between two runs.")));
        }
        Ok(timing)
    }

    /// The next runs behind a time, at most so many.
    pub fn after(&self, time: Timestamp, runs: usize) -> Vec<Timestamp> {
        let mut found = Vec::with_capacity(runs);
        let mut time = time.with_timezone(&self.zone);
        while found.len() < runs
            && let Ok(next) = self.cron.find_next_occurrence(&time, false)
            && next > time
        {
            found.push(next.to_utc());
            time = next;
        }
        found
    }

    /// The next run behind a time.
    pub fn next(&self, time: Timestamp) -> Option<Timestamp> {
        self.after(time, 1).pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn runs_follow_the_clock_of_their_zone_through_its_changes() {
        let timing = Timing::new("30 6 * * *", "Europe/Berlin", at("2026-03-27T00:00:00Z")).unwrap();
        let runs = timing.after(at("2026-03-27T12:00:00Z"), 3);
        assert_eq!(
            runs,
            [at("2026-03-28T05:30:00Z"), at("2026-03-29T04:30:00Z"), at("2026-03-30T04:30:00Z")],
            "summer begins on the 29th"
        );
        assert_eq!(timing.next(runs[0]), Some(runs[1]));
        // A time that the change skips or repeats comes once.
        let timing = Timing::new("30 2 * * *", "Europe/Berlin", at("2026-03-27T00:00:00Z")).unwrap();
        for (from, to) in [
            ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        ] {
            let runs = timing.after(at(from), 3);
            assert_eq!(runs.iter().filter(|run| **run < at(to)).count(), 1, "{runs:?}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let now = at("2026-01-01T00:00:00Z");
        let long = "*".repeat(200);
        for (pattern, zone, says) in [
            ("", "UTC", "five fields"),
            ("x", "UTC", "five fields"),
            ("0 30 6 * * *", "UTC", "five fields"),
            ("61 * * * *", "UTC", "five fields"),
            ("* * * * *", "UTC", "5 minutes"),
            ("*/4 * * * *", "UTC", "5 minutes"),
            ("0,3 0 * * *", "UTC", "5 minutes"),
            ("0 0 30 2 *", "UTC", "ever comes"),
            ("0 6 * * *", "Europe/Atlantis", "timezone"),
            ("0 6 * * *", "", "timezone"),
            ("0 6 * * *", "a\0", "timezone"),
            (&long, "UTC", "bytes"),
        ] {
            let refused = Timing::new(pattern, zone, now).unwrap_err();
            assert!(refused.message.contains(says), "{pattern} {zone}: {refused}");
        }
        for pattern in ["*/5 * * * *", "0 6 * * 1-5", "0 0 29 2 *", "@daily", "0 12 L * *"] {
            Timing::new(pattern, "UTC", now).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        }
    }
}
