//! What went wrong with a request, and whether trying again may help.

use core::time::Duration;

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use thiserror::Error;

use super::date::{parse_date, response_date};

/// A server that asks for more patience than this gets this much.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How many characters of a server's own words are repeated.
const MAX_QUOTE: usize = 200;

/// What a fault means for the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Trying the same again may work: 429, and 5xx but 501.
    Transient,
    /// Trying the same again will not work: 501, 3xx, 4xx, and what is no answer.
    Final,
    /// The server has a newer record than the one sent: 409.
    Conflict {
        /// The sequence that the server has, if it said so. A hint: nobody signed it.
        current: Option<u64>,
    },
}

/// Why a request got no answer to its question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct Fault {
    /// What it means for the next step.
    pub kind: FaultKind,
    /// The status of the response.
    pub status: StatusCode,
    /// How long the server asks to wait (RFC 9110, 10.2.3); at most 60 s, whatever it says.
    pub retry_after: Option<Duration>,
    /// For people: the status and at most 200 printable characters of the body.
    pub reason: String,
}

impl Fault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self.kind {
            FaultKind::Transient => "http_transient",
            FaultKind::Final => "http_final",
            FaultKind::Conflict { .. } => "http_conflict",
        }
    }

    /// A response that is no answer, judged by its status.
    pub(super) fn from_response(response: &Response<Bytes>) -> Self {
        let status = response.status();
        let transient = status == StatusCode::TOO_MANY_REQUESTS
            || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
        let words = match response.headers().get(LOCATION) {
            Some(to) if status.is_redirection() => quote(&[b"to ", to.as_bytes()].concat()),
            _ => quote(response.body()),
        };
        let separator = if words.is_empty() { "" } else { ": " };
        Self {
            kind: if transient { FaultKind::Transient } else { FaultKind::Final },
            status,
            retry_after: retry_after(response),
            reason: format!("{status}{separator}{words}"),
        }
    }

    /// A response that cannot be used although its status says it could.
    pub(super) fn unusable(status: StatusCode, reason: String) -> Self {
        Self { kind: FaultKind::Final, status, retry_after: None, reason }
    }
}

/// Seconds, or a date that counts from the response's own: the two clocks need not agree.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        parse_date(text)?.saturating_since(response_date(response)?)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A server's own words, safe to print: no control and no formatting characters, every gap one space.
fn quote(body: &[u8]) -> String {
    // Four bytes are the longest character, and the same again leaves room for what is dropped.
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_QUOTE * 8)]);
    let printable = |c: char| c.is_alphanumeric() || c.is_ascii_graphic();
    let words = text.split_whitespace().map(|word| word.chars().filter(|c| printable(*c)).collect::<String>());
    let words = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::DATE;
    use proptest::prelude::*;

    fn response(status: u16, headers: &[(http::HeaderName, &str)], body: &'static [u8]) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (key, value) in headers {
            response.headers_mut().insert(key, value.parse().unwrap());
        }
        response
    }

    #[test]
    fn the_status_decides_whether_to_try_again() {
        for status in 100..1000 {
            let fault = Fault::from_response(&response(status, &[], b""));
            let transient = status == 429 || (500..600).contains(&status) && status != 501;
            let kind = if transient { FaultKind::Transient } else { FaultKind::Final };
            assert_eq!((fault.kind, fault.status.as_u16()), (kind, status));
        }
    }

    #[test]
    fn the_wait_is_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (text, wait) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("61", Some(60)),
            ("99999999999999999999999", Some(60)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("Sun, 06 Nov 1995 08:49:37 GMT", Some(60)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let fault = Fault::from_response(&response(503, &[(RETRY_AFTER, text), (DATE, date)], b""));
            assert_eq!(fault.retry_after, wait.map(Duration::from_secs), "{text}");
        }
        assert_eq!(Fault::from_response(&response(503, &[(RETRY_AFTER, date)], b"")).retry_after, None);
    }

    #[test]
    fn the_reason_is_short_and_printable() {
        for (body, reason) in [
            (&b""[..], "400 Bad Request"),
            (b"  no\r\n\tsuch\x1b[2J \x00 name\xff ", "400 Bad Request: no such[2J name"),
            ("\u{202e}liame \u{fc}\u{4e2d}".as_bytes(), "400 Bad Request: liame \u{fc}\u{4e2d}"),
        ] {
            assert_eq!(Fault::from_response(&response(400, &[], body)).reason, reason);
        }
        let moved = response(301, &[(LOCATION, "https://example.org/")], b"<html>");
        assert_eq!(Fault::from_response(&moved).reason, "301 Moved Permanently: to https://example.org/");
    }

    proptest! {
        #[test]
        fn a_quote_is_bounded(body in proptest::collection::vec(any::<u8>(), 0..4096), text in "\\PC{0,600}") {
            for quoted in [quote(&body), quote(text.as_bytes())] {
                prop_assert!(quoted.chars().count() <= MAX_QUOTE);
                prop_assert!(!quoted.contains(char::is_control));
            }
        }
    }
}
