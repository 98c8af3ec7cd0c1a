//! Dates: of SEARCH (`1-Feb-2026`) and of messages (`" 1-Feb-2026 10:11:12 +0100"`).

use std::time::{Duration, SystemTime};

use mail_parser::DateTime;

use super::{Cursor, Parsed, SyntaxError, ascii};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const BAD: SyntaxError = SyntaxError("a date is malformed");

/// A calendar day, whatever the time zone; ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::imap) struct Day {
    pub(in crate::imap) year: u16,
    pub(in crate::imap) month: u8,
    pub(in crate::imap) day: u8,
}

impl Cursor<'_> {
    /// date, quoted or not.
    pub(super) fn day(&mut self) -> Parsed<Day> {
        let quoted = self.take(b'"');
        let day = self.two_digits(1)?;
        let day = self.month_and_year(day)?;
        if quoted {
            self.expect(b'"', BAD.0)?;
        }
        Ok(day)
    }

    /// date-time, quoted.
    pub(super) fn date_time(&mut self) -> Parsed<SystemTime> {
        self.expect(b'"', BAD.0)?;
        let day = if self.take(b' ') { self.two_digits(1) } else { self.two_digits(2) }?;
        let day = self.month_and_year(day)?;
        self.expect(b' ', BAD.0)?;
        let hour = self.two_digits(2)?;
        self.expect(b':', BAD.0)?;
        let minute = self.two_digits(2)?;
        self.expect(b':', BAD.0)?;
        let second = self.two_digits(2)?;
        self.expect(b' ', BAD.0)?;
        let tz_before_gmt = match (self.take(b'-'), self.take(b'+')) {
            (true, false) => true,
            (false, true) => false,
            _ => return Err(BAD),
        };
        let (tz_hour, tz_minute) = (self.two_digits(2)?, self.two_digits(2)?);
        self.expect(b'"', BAD.0)?;
        let time = DateTime {
            year: day.year,
            month: day.month,
            day: day.day,
            hour,
            minute,
            second: second.min(59),
            tz_before_gmt,
            tz_hour,
            tz_minute,
        };
        if hour > 23 || minute > 59 || second > 60 || tz_hour > 23 || tz_minute > 59 || !time.is_valid() {
            return Err(BAD);
        }
        let seconds = time.to_timestamp();
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let point = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        point.ok_or(BAD)
    }

    /// One or two digits, at least `least`.
    fn two_digits(&mut self, least: usize) -> Parsed<u8> {
        let (first, second) = (self.digit(), self.digit());
        match (first, second) {
            (Some(tens), Some(ones)) => Ok(tens * 10 + ones),
            (Some(ones), None) if least == 1 => Ok(ones),
            _ => Err(BAD),
        }
    }

    fn digit(&mut self) -> Option<u8> {
        let digit = self.peek().filter(u8::is_ascii_digit)?;
        self.take(digit).then_some(digit - b'0')
    }

    fn month_and_year(&mut self, day: u8) -> Parsed<Day> {
        self.expect(b'-', BAD.0)?;
        let name = ascii(self.while_is(|byte| byte.is_ascii_alphabetic()));
        let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name)).ok_or(BAD)?;
        self.expect(b'-', BAD.0)?;
        let digits = self.while_is(|byte| byte.is_ascii_digit());
        if digits.len() != 4 || !(1..=31).contains(&day) {
            return Err(BAD);
        }
        let year = ascii(digits).parse().map_err(|_| BAD)?;
        Ok(Day { year, month: month as u8 + 1, day })
    }
}

impl Day {
    /// The day of a point in time, in UTC.
    pub(in crate::imap) fn of(time: SystemTime) -> Self {
        Self::from(&utc(time))
    }
}

impl From<&DateTime> for Day {
    fn from(date: &DateTime) -> Self {
        Self { year: date.year, month: date.month, day: date.day }
    }
}

fn utc(time: SystemTime) -> DateTime {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    // Four digits of year is all that the grammar has.
    DateTime::from_timestamp(seconds.clamp(-62_135_596_800, 253_402_300_799))
}

/// INTERNALDATE, without quotes, in UTC.
pub(in crate::imap) fn internal_date(time: SystemTime) -> String {
    let date = utc(time);
    let month = MONTHS.get(usize::from(date.month).wrapping_sub(1)).unwrap_or(&"Jan");
    format!(
        "{:2}-{month}-{:04} {:02}:{:02}:{:02} +0000",
        date.day, date.year, date.hour, date.minute, date.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Parsed<String> {
        Cursor::new(text.as_bytes()).date_time().map(internal_date)
    }

    #[test]
    fn a_date_comes_back_in_utc() {
        assert_eq!(time("\" 1-Feb-2026 10:11:12 +0100\"").unwrap(), " 1-Feb-2026 09:11:12 +0000");
        assert_eq!(time("\"31-dec-1969 23:30:00 -0100\"").unwrap(), " 1-Jan-1970 00:30:00 +0000");
        assert_eq!(time("\"31-Dec-1960 23:30:00 +0000\"").unwrap(), "31-Dec-1960 23:30:00 +0000");
    }

    #[test]
    fn malformed_dates_are_refused() {
        for bad in [
            "",
            "\"\"",
            "\"1-Feb-2026 10:11:12 +0100\"",
            "\"32-Feb-2026 10:11:12 +0100\"",
            "\"01-Foo-2026 10:11:12 +0100\"",
            "\"01-Feb-2026 24:11:12 +0100\"",
            "\"01-Feb-2026 10:11:12 0100\"",
            "\"01-Feb-2026 10:11:12 +-0100\"",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
        for bad in ["1-Feb-26", "\"1-Feb-2026", "0-Feb-2026", "Feb-1-2026", "001-Feb-2026"] {
            assert!(Cursor::new(bad.as_bytes()).day().is_err(), "{bad}");
        }
    }

    #[test]
    fn days_are_ordered_by_time() {
        let day = |text: &str| Cursor::new(text.as_bytes()).day().unwrap();
        assert!(day("31-Dec-2025") < day("1-Jan-2026"));
        assert!(day("\"02-Jan-2026\"") > day("1-Jan-2026"));
    }
}
