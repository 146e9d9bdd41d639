//! Dates as HTTP writes them (RFC 9110, 5.6.7).

use bytes::Bytes;
use http::Response;
use http::header::DATE;

use crate::time::Timestamp;

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The instant as IMF-fixdate, 29 characters; fractions of a second are cut (RFC 9110, 5.6.7).
///
/// ```
/// use ipns_core::routing::http::{format_date, parse_date};
///
/// let at = "1994-11-06T08:49:37Z".parse()?;
/// assert_eq!(format_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
/// assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(at));
/// # Ok::<(), ipns_core::time::ParseTimestampError>(())
/// ```
pub fn format_date(at: Timestamp) -> String {
    let [year, month, day, hour, minute, second] = at.civil();
    // 1970-01-01 was a Thursday, the fifth of the table.
    let weekday = (at.as_unix_secs().div_euclid(86_400) + 4).rem_euclid(7);
    let weekday = WEEKDAYS.get(weekday as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads IMF-fixdate and the two obsolete formats, RFC 850 and asctime (RFC 9110, 5.6.7).
///
/// The weekday is not compared with the date. A year of two digits lies between 1970 and 2069, because there is no
/// clock here that would tell which century is near.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let fields: Vec<&str> = text.split_ascii_whitespace().take(7).collect();
    let (weekday, day, month, year, time) = match fields.as_slice() {
        [weekday, day, month, year, time, "GMT"] if year.len() == 4 => {
            (weekday.strip_suffix(',')?, number(day)?, *month, number(year)?, *time)
        }
        [weekday, date, time, "GMT"] => {
            let (day, date) = date.split_once('-')?;
            let (month, year) = date.split_once('-').filter(|(_, year)| year.len() == 2)?;
            let year = number(year)?;
            let century = if year < 70 { 2000 } else { 1900 };
            (weekday.strip_suffix(',')?, number(day)?, month, century + year, *time)
        }
        [weekday, month, day, time, year] if year.len() == 4 => (*weekday, number(day)?, *month, number(year)?, *time),
        _ => return None,
    };
    if !WEEKDAYS.iter().any(|known| weekday.starts_with(known)) {
        return None;
    }
    let month = 1 + MONTHS.iter().position(|known| *known == month)? as u32;
    let mut time = time.split(':').map(|part| number(part).filter(|_| part.len() == 2));
    let [hour, minute, second] = [time.next()??, time.next()??, time.next()??];
    if time.next().is_some() {
        return None;
    }
    Timestamp::from_civil([year, month, day, hour, minute, second])
}

/// When the server wrote the response, by its own clock (RFC 9110, 6.6.1).
pub fn response_date(response: &Response<Bytes>) -> Option<Timestamp> {
    parse_date(response.headers().get(DATE)?.to_str().ok()?)
}

/// One to four digits, nothing else.
fn number(text: &str) -> Option<u32> {
    if !(1..=4).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_three_formats_are_read() {
        let at: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_date(text), Some(at), "{text}");
        }
        let century = parse_date("Tuesday, 01-Jan-69 00:00:00 GMT").unwrap();
        assert_eq!(century.to_string(), "2069-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Xxx, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_are_written() {
        assert_eq!(format_date(Timestamp::MIN), "Sat, 01 Jan 0000 00:00:00 GMT");
        assert_eq!(format_date(Timestamp::UNIX_EPOCH), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format_date(Timestamp::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn whole_seconds_round_trip(
            seconds in Timestamp::MIN.as_unix_secs()..=Timestamp::MAX.as_unix_secs(),
        ) {
            let at = Timestamp::from_unix_secs(seconds);
            let text = format_date(at);
            prop_assert_eq!(text.len(), 29);
            prop_assert_eq!(parse_date(&text), Some(at));
        }

        #[test]
        fn no_text_panics(
            text in "\\PC{0,60}",
            near in "[SMTWF][a-z]{2,8},? [0-9]{1,3}[ -](Jan|Feb|Mar|May)[ -][0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        ) {
            let _ = parse_date(&text);
            let _ = parse_date(&near);
        }
    }
}
