//! Time as the engine sees it: values that a caller hands in, never a clock that is read.

use alloc::format;
use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use thiserror::Error;

const NANOS_PER_SEC: i128 = 1_000_000_000;

/// An instant of the wall clock in UTC with nanoseconds, from year 0000 to 9999 (what RFC 3339 can write).
///
/// Arithmetic saturates at the two ends.
///
/// ```
/// use ipns_core::Timestamp;
///
/// let eol: Timestamp = "2126-01-31T15:56:12.714899293Z".parse()?;
/// assert_eq!(eol.to_string(), "2126-01-31T15:56:12.714899293Z");
/// # Ok::<(), ipns_core::time::ParseTimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// Why a text is not an RFC 3339 instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an RFC 3339 instant such as 2026-11-23T10:00:00Z")]
pub struct ParseTimestampError;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self { seconds: 0, nanos: 0 };
    /// The earliest instant: 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self { seconds: -62_167_219_200, nanos: 0 };
    /// The latest instant: 9999-12-31T23:59:59.999999999Z.
    pub const MAX: Self = Self { seconds: 253_402_300_799, nanos: 999_999_999 };

    /// The instant `nanos` nanoseconds after the Unix epoch.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        let nanos = nanos.clamp(Self::MIN.as_unix_nanos(), Self::MAX.as_unix_nanos());
        // The clamp keeps both parts in range.
        Self { seconds: nanos.div_euclid(NANOS_PER_SEC) as i64, nanos: nanos.rem_euclid(NANOS_PER_SEC) as u32 }
    }

    /// The instant `seconds` after the Unix epoch.
    pub fn from_unix_secs(seconds: i64) -> Self {
        Self::from_unix_nanos(i128::from(seconds) * NANOS_PER_SEC)
    }

    #[cfg(feature = "std")]
    /// For constants: `seconds` must be within the years 0000 to 9999.
    pub(crate) const fn from_unix_secs_const(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> i128 {
        self.seconds as i128 * NANOS_PER_SEC + self.nanos as i128
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_unix_secs(self) -> i64 {
        self.seconds
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let nanos = (self.as_unix_nanos() - earlier.as_unix_nanos()).max(0) as u128;
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    /// Parses RFC 3339 as Go's `time.Parse(time.RFC3339Nano, …)` does: `T` and `Z` upper case, any number of
    /// fraction digits up to nine, offsets accepted, no leap second.
    pub fn parse_rfc3339(text: &[u8]) -> Result<Self, ParseTimestampError> {
        parse(text).ok_or(ParseTimestampError)
    }

    /// The calendar fields: `[year, month, day, hour, minute, second]`.
    pub(crate) fn civil(self) -> [u32; 6] {
        let days = self.seconds.div_euclid(86_400);
        let second_of_day = self.seconds.rem_euclid(86_400) as u32;
        let (year, month, day) = civil_from_days(days);
        [year as u32, month, day, second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60]
    }

    /// The instant at the given calendar fields in UTC, if they are a date.
    pub(crate) fn from_civil([year, month, day, hour, minute, second]: [u32; 6]) -> Option<Self> {
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_from_civil(i64::from(year), month, day);
        Some(Self { seconds: days * 86_400 + i64::from(hour * 3600 + minute * 60 + second), nanos: 0 })
    }
}

fn parse(text: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, len: usize| -> Option<u32> {
        let digits = text.get(from..from + len)?;
        digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + u32::from(d - b'0')))
    };
    let is = |at: usize, byte: u8| text.get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let civil = [number(0, 4)?, number(5, 2)?, number(8, 2)?, number(11, 2)?, number(14, 2)?, number(17, 2)?];
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b'.') {
        let digits = text[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        nanos = number(at + 1, digits)? * 10_u32.pow(9 - digits as u32);
        at += 1 + digits;
    }
    let offset = match (text.get(at)?, text.len() - at) {
        (b'Z', 1) => 0,
        (sign @ (b'+' | b'-'), 6) if is(at + 3, b':') => {
            let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let local = Timestamp::from_civil(civil)?;
    let utc = Timestamp { seconds: local.seconds - offset, nanos };
    (Timestamp::MIN..=Timestamp::MAX).contains(&utc).then_some(utc)
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; years begin in March so that the leap day is last.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl core::str::FromStr for Timestamp {
    type Err = ParseTimestampError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_rfc3339(text.as_bytes())
    }
}

/// RFC 3339 in UTC, the fraction without trailing zeros, as Go's `RFC3339Nano` writes it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [year, month, day, hour, minute, second] = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self::from_unix_nanos(self.as_unix_nanos().saturating_add(by.as_nanos() as i128))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self::from_unix_nanos(self.as_unix_nanos().saturating_sub(by.as_nanos() as i128))
    }
}

/// One moment read twice: monotonic for timers, wall clock for validity. A jump of the wall clock moves no timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since any fixed origin, never going back.
    pub monotonic: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// This moment, and `by` later on both clocks.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self { monotonic: self.monotonic.saturating_add(by), wall: self.wall + by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_go_accepts() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.5Z", 500_000_000),
            ("1970-01-01T02:00:01+02:00", 1_000_000_000),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().as_unix_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01 00:00:00Z",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.1234567890Z",
            "1970-01-01T00:00:00+0200",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00Zx",
            "0000-01-01T00:00:00+01:00",
            "+970-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(nanos in Timestamp::MIN.as_unix_nanos()..=Timestamp::MAX.as_unix_nanos()) {
            let stamp = Timestamp::from_unix_nanos(nanos);
            prop_assert_eq!(stamp.as_unix_nanos(), nanos);
            prop_assert_eq!(stamp.to_string().parse::<Timestamp>().unwrap(), stamp);
        }

        #[test]
        fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Timestamp::parse_rfc3339(&bytes);
        }
    }
}
