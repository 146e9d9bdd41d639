//! The responses that a server writes.

use core::fmt::Write as _;
use core::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::date::format_date;
use super::media::{MEDIA_TYPE, etag};
use super::negotiate::holds;
use crate::record::{RecordError, Verified};
use crate::time::Timestamp;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, OPTIONS");
/// How long a record without a TTL may be cached (Delegated Routing V1, "IPNS API").
const MAX_AGE_WITHOUT_TTL: Duration = Duration::from_secs(60);
/// How many seconds the lack of a record may be cached: a new name should not stay unknown for long.
const NO_RECORD_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=15");
/// How many seconds browsers may remember what a preflight said.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
/// How many seconds a client should stay away from a busy server.
const BUSY_RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// What became of a record that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// It was taken: 200.
    Stored,
    /// It is the one that was there before: 200.
    Unchanged,
    /// A newer one is there: 409.
    Older {
        /// The sequence of the newer one.
        current: u64,
    },
    /// It is not valid for the name: 400 with the error's code.
    Invalid(RecordError),
    /// No router took it: 502.
    Unrouted {
        /// Why, for the client to read.
        reason: String,
    },
    /// Something broke here: 500.
    Failed {
        /// Why, for the client to read.
        reason: String,
    },
    /// Too much is going on: 429, to be tried again later.
    Overloaded,
}

/// Answers a [`Put`](super::server::Asked::Put): 200 without a body, or an error as JSON (Delegated Routing V1, "PUT
/// /routing/v1/ipns/{name}"). Only what was stored, or was stored before, is a success.
pub fn put_response(outcome: PutOutcome) -> Response<Bytes> {
    match outcome {
        PutOutcome::Stored | PutOutcome::Unchanged => {
            let mut response = respond(StatusCode::OK, Bytes::new());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
            response
        }
        PutOutcome::Older { current } => {
            let message = format!("a newer record is known; its sequence is {current}");
            error_with(StatusCode::CONFLICT, "conflict", &message, &format!(",\"sequence\":{current}"))
        }
        PutOutcome::Invalid(reason) => error(StatusCode::BAD_REQUEST, reason.code(), &reason.to_string()),
        PutOutcome::Unrouted { reason } => error(StatusCode::BAD_GATEWAY, "unrouted", &reason),
        PutOutcome::Failed { reason } => failed(&reason),
        PutOutcome::Overloaded => busy(),
    }
}

/// Answers a [`Get`](super::server::Asked::Get) (Delegated Routing V1, "GET /routing/v1/ipns/{name}"): 200 with the
/// record, 304 when the client has it, 404 without one. A record that has expired at `at` is none.
///
/// `received` is when this server got the record; `if_none_match` and `head` are what the request says.
///
/// Caches may keep a record for its TTL (60 s if it has none) and, when they cannot do better, until it expires.
pub fn found(
    record: Option<&Verified>,
    head: bool,
    if_none_match: Option<&str>,
    received: Timestamp,
    at: Timestamp,
) -> Response<Bytes> {
    let response = match record.filter(|record| !record.is_expired(at)) {
        None => no_record(),
        Some(record) => {
            let tag = etag(record.as_bytes());
            let known = if_none_match.is_some_and(|list| holds(list, &tag));
            let mut response = if known { respond(StatusCode::NOT_MODIFIED, Bytes::new()) } else { whole(record) };
            add_caching(response.headers_mut(), record, tag, received, at);
            response
        }
    };
    if head { for_head(response) } else { response }
}

fn whole(record: &Verified) -> Response<Bytes> {
    let mut response = respond(StatusCode::OK, record.as_bytes().clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CONTENT_DISPOSITION, ascii(format!("attachment; filename=\"{}.ipns-record\"", record.name())));
    response
}

/// What a 200 and a 304 have in common (RFC 9110, 15.4.5).
fn add_caching(headers: &mut HeaderMap, record: &Verified, tag: String, received: Timestamp, at: Timestamp) {
    let remaining = record.eol().saturating_since(at);
    let max_age = max_age(record.ttl(), remaining);
    let stale = remaining.as_secs();
    let cache = format!("public, max-age={max_age}, stale-while-revalidate={stale}, stale-if-error={stale}");
    headers.insert(CACHE_CONTROL, ascii(cache));
    headers.insert(ETAG, ascii(tag));
    headers.insert(EXPIRES, ascii(format_date(record.eol())));
    // A date in the future is not allowed here (RFC 9110, 8.8.2.1).
    headers.insert(LAST_MODIFIED, ascii(format_date(received.min(at))));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
}

/// In seconds.
fn max_age(ttl: Option<Duration>, remaining: Duration) -> u64 {
    ttl.unwrap_or(MAX_AGE_WITHOUT_TTL).min(remaining).as_secs()
}

fn no_record() -> Response<Bytes> {
    let mut response = respond(StatusCode::NOT_FOUND, Bytes::from_static(b"no record is known for this name\n"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, NO_RECORD_CACHE);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Too much is going on: 429 with `Retry-After` (Delegated Routing V1, "Response Status Codes").
pub fn busy() -> Response<Bytes> {
    let mut response = error(StatusCode::TOO_MANY_REQUESTS, "overloaded", "too many requests; try again later");
    response.headers_mut().insert(RETRY_AFTER, BUSY_RETRY_AFTER);
    response
}

/// Something broke here: 500. `reason` is for the client to read.
pub fn failed(reason: &str) -> Response<Bytes> {
    error(StatusCode::INTERNAL_SERVER_ERROR, "failed", reason)
}

/// The routers behind this server could not be asked, so that it does not know whether there is a record: 502.
///
/// `reason` is for the client to read.
pub fn unavailable(reason: &str) -> Response<Bytes> {
    error(StatusCode::BAD_GATEWAY, "unavailable", reason)
}

/// The routers behind this server did not answer in time: 504.
pub fn timed_out() -> Response<Bytes> {
    error(StatusCode::GATEWAY_TIMEOUT, "timed_out", "the routers did not answer in time")
}

pub(super) fn method_not_allowed() -> Response<Bytes> {
    let message = "only GET, HEAD, PUT, POST and OPTIONS are allowed";
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// What browsers ask before they send a record.
pub(super) fn preflight() -> Response<Bytes> {
    let mut response = respond(StatusCode::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let names = HeaderValue::from_static("Accept, Authorization, Content-Type, If-None-Match");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    headers.insert(ALLOW, METHODS);
    response
}

/// The same response without its body but with its length, as `HEAD` wants it (RFC 9110, 9.3.2).
///
/// [`found`] and [`read_request`](super::server::read_request) do this themselves; [`busy`] and the like cannot.
pub fn for_head(mut response: Response<Bytes>) -> Response<Bytes> {
    response.body_mut().clear();
    response
}

/// An error as JSON: `{"error":{"code":…,"message":…}}`.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    error_with(status, code, message, "")
}

fn error_with(status: StatusCode, code: &str, message: &str, members: &str) -> Response<Bytes> {
    let body = format!("{{\"error\":{{\"code\":{},\"message\":{}{members}}}}}\n", json(code), json(message));
    let mut response = respond(status, body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn respond(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let size = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date, ETag, Retry-After"));
    if size > 0 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// A header value from text that was made here.
#[expect(clippy::expect_used, reason = "callers pass digits, base36, hex and constants")]
fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("printable ASCII is a header value")
}

/// A JSON string (RFC 8259, 7).
fn json(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder};
    use crate::routing::http::client::{FaultKind, GetAnswer, read_get, read_put};
    use proptest::prelude::*;

    const AT: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn at(offset: i64) -> Timestamp {
        Timestamp::from_unix_secs(AT + offset)
    }

    /// A record that was made at `AT`, with an end of life and a TTL in seconds after it.
    fn record(lifetime: i64, ttl: u64) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [7; 32], 0).unwrap();
        let mut builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 3, at(lifetime));
        builder.ttl = Duration::from_secs(ttl);
        let record = builder.sign(&key).unwrap();
        Checks::at(at(0)).verify_record(record, &key.public_key().to_name()).unwrap()
    }

    fn text<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn body(response: &Response<Bytes>) -> &str {
        core::str::from_utf8(response.body()).unwrap()
    }

    #[test]
    fn a_record_comes_with_every_header() {
        let record = record(3600, 300);
        let response = found(Some(&record), false, None, at(-10), at(0));
        assert_eq!((response.status(), response.body()), (StatusCode::OK, record.as_bytes()));
        let disposition = format!("attachment; filename=\"{}.ipns-record\"", record.name());
        for (name, value) in [
            ("content-type", "application/vnd.ipfs.ipns-record"),
            ("content-length", &record.as_bytes().len().to_string()),
            ("etag", &etag(record.as_bytes())),
            ("cache-control", "public, max-age=300, stale-while-revalidate=3600, stale-if-error=3600"),
            ("expires", "Sun, 06 Nov 1994 09:49:37 GMT"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:27 GMT"),
            ("vary", "Accept"),
            ("content-disposition", &disposition),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(text(&response, name), value, "{name}");
        }
        let future = found(Some(&record), false, None, at(99), at(0));
        assert_eq!(text(&future, "last-modified"), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn max_age_is_the_ttl_but_not_beyond_the_end() {
        for (lifetime, ttl, now, max_age, stale) in [
            (3600, 300, 0, 300, 3600),
            (3600, 300, 3500, 100, 100),
            (100, 300, 0, 100, 100),
            (3600, 0, 0, 0, 3600),
            (3600, 300, 3599, 1, 1),
        ] {
            let response = found(Some(&record(lifetime, ttl)), false, None, at(0), at(now));
            let expected = format!("public, max-age={max_age}, stale-while-revalidate={stale}, stale-if-error={stale}");
            assert_eq!(text(&response, "cache-control"), expected, "{lifetime} {ttl} {now}");
        }
    }

    #[test]
    fn max_age_without_a_ttl_is_a_minute() {
        for (ttl, remaining, expected) in [(None, 3600, 60), (None, 59, 59), (Some(90), 3600, 90), (Some(0), 3600, 0)] {
            let ttl = ttl.map(Duration::from_secs);
            assert_eq!(max_age(ttl, Duration::from_secs(remaining)), expected);
        }
    }

    #[test]
    fn an_expired_record_is_none() {
        let record = record(10, 300);
        for response in [
            found(Some(&record), false, None, at(0), at(10)),
            found(Some(&record), false, Some("*"), at(0), at(11)),
            found(None, false, Some("*"), at(0), at(0)),
        ] {
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            assert_eq!(text(&response, "cache-control"), "public, max-age=15");
            assert_eq!(text(&response, "content-type"), "text/plain; charset=utf-8");
            assert_eq!(text(&response, "vary"), "Accept");
            assert_eq!(body(&response), "no record is known for this name\n");
            assert_eq!(read_get(&response), Ok(GetAnswer::NoRecord));
        }
    }

    #[test]
    fn head_is_get_without_a_body() {
        let record = record(3600, 300);
        for (record, tags) in [(Some(&record), None), (Some(&record), Some("*")), (None, None)] {
            let get = found(record, false, tags, at(0), at(0));
            let head = found(record, true, tags, at(0), at(0));
            assert_eq!((head.status(), head.headers()), (get.status(), get.headers()));
            assert!(head.body().is_empty());
        }
    }

    #[test]
    fn every_outcome_of_a_put_has_its_status() {
        let expired = RecordError::Expired { eol: at(0) };
        let reason = || "a \"reason\"\n".to_owned();
        for (outcome, status, start) in [
            (PutOutcome::Stored, 200, ""),
            (PutOutcome::Unchanged, 200, ""),
            (PutOutcome::Older { current: 7 }, 409, "{\"error\":{\"code\":\"conflict\",\"message\":\"a newer"),
            (
                PutOutcome::Invalid(expired),
                400,
                "{\"error\":{\"code\":\"expired\",\"message\":\"the record expired at 1994",
            ),
            (
                PutOutcome::Unrouted { reason: reason() },
                502,
                "{\"error\":{\"code\":\"unrouted\",\"message\":\"a \\\"reason\\\"\\u000a\"}}",
            ),
            (PutOutcome::Failed { reason: reason() }, 500, "{\"error\":{\"code\":\"failed\","),
            (PutOutcome::Overloaded, 429, "{\"error\":{\"code\":\"overloaded\","),
        ] {
            let response = put_response(outcome.clone());
            assert_eq!(response.status().as_u16(), status, "{outcome:?}");
            assert!(body(&response).starts_with(start), "{}", body(&response));
            assert_eq!(text(&response, "content-length"), response.body().len().to_string());
            assert_eq!(text(&response, "access-control-allow-origin"), "*");
            if status != 200 {
                assert_eq!(text(&response, "content-type"), "application/json");
                assert_eq!(text(&response, "cache-control"), "no-store");
            }
            let kind = match status {
                200 => None,
                400 => Some(FaultKind::Final),
                409 => Some(FaultKind::Conflict { current: Some(7) }),
                _ => Some(FaultKind::Transient),
            };
            assert_eq!(read_put(&response).err().map(|fault| fault.kind), kind);
        }
    }

    #[test]
    fn a_failed_get_is_not_the_lack_of_a_record() {
        for (response, status) in
            [(busy(), 429), (failed("disk"), 500), (unavailable("no router"), 502), (timed_out(), 504)]
        {
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(read_get(&response).unwrap_err().kind, FaultKind::Transient);
        }
        assert_eq!(read_get(&busy()).unwrap_err().retry_after, Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn json_has_no_bare_quote_or_control(message in any::<String>()) {
            let quoted = json(&message);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!inner.contains(char::is_control));
            let bare = inner.replace("\\\\", "").replace("\\\"", "");
            prop_assert!(!bare.contains('"'));
        }

        #[test]
        fn any_record_is_cached_within_its_life(
            lifetime in 1_i64..1_000_000,
            ttl in 0_u64..1_000_000,
            now in 0_i64..1_000_000,
        ) {
            let record = record(lifetime, ttl);
            let response = found(Some(&record), false, None, at(0), at(now));
            prop_assert_eq!(response.status() == StatusCode::OK, now < lifetime);
            if let Some((_, rest)) = text(&response, "cache-control").split_once("max-age=") {
                let max_age: i64 = rest.split(',').next().unwrap().parse().unwrap();
                prop_assert!(now >= lifetime || max_age <= lifetime - now);
            }
        }
    }
}
