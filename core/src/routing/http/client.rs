//! The asking half: [`Endpoint`] writes requests, [`read_get`] and [`read_put`] read the responses, [`Backoff`] says
//! when to try again after a [`Fault`].
//!
//! Who sends the requests bounds the bodies it reads: one byte more than a record may have is enough to see that it is
//! too large.

use bytes::Bytes;
use http::header::ETAG;
use http::{Response, StatusCode};

use super::media::has_record_type;
use crate::record::MAX_RECORD_BYTES;

pub use super::backoff::Backoff;
pub use super::date::response_date;
pub use super::endpoint::{Api, Endpoint, EndpointError, PRESETS, PutMethod};
pub use super::fault::{Fault, FaultKind};

/// What a server says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetAnswer {
    /// The bytes of a record, not verified, at most [`MAX_RECORD_BYTES`].
    Record {
        /// The body.
        bytes: Bytes,
        /// The entity tag, to be shown with the next request.
        etag: Option<String>,
    },
    /// The record is still the one whose entity tag was shown.
    NotModified,
    /// The server knows no record.
    NoRecord,
}

/// Reads the response to a [`get_request`](Endpoint::get_request) (Delegated Routing V1 and IPIP-513).
///
/// # Errors
/// When the response says nothing about the name, or its record is larger than [`MAX_RECORD_BYTES`].
pub fn read_get(response: &Response<Bytes>) -> Result<GetAnswer, Fault> {
    match response.status() {
        status @ StatusCode::OK if has_record_type(response.headers()) => {
            let bytes = response.body().clone();
            if bytes.len() > MAX_RECORD_BYTES {
                let reason = format!("the record has more than the allowed {MAX_RECORD_BYTES} bytes");
                return Err(Fault::unusable(status, reason));
            }
            let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
            Ok(GetAnswer::Record { bytes, etag: etag.map(str::to_owned) })
        }
        StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(GetAnswer::NoRecord),
        StatusCode::NOT_MODIFIED => Ok(GetAnswer::NotModified),
        _ => Err(Fault::from_response(response)),
    }
}

/// Reads the response to a [`put_request`](Endpoint::put_request) (Delegated Routing V1): 200, 201, 202 and 204 mean
/// that the record was taken.
///
/// # Errors
/// When it was not; a [`Conflict`](FaultKind::Conflict) when the server has a newer one.
pub fn read_put(response: &Response<Bytes>) -> Result<(), Fault> {
    match response.status() {
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(()),
        StatusCode::CONFLICT => {
            let kind = FaultKind::Conflict { current: stated_sequence(response.body()) };
            Err(Fault { kind, ..Fault::from_response(response) })
        }
        _ => Err(Fault::from_response(response)),
    }
}

/// The number of the first `"sequence"` member in a JSON body: it is a hint, so it is not worth a parser.
fn stated_sequence(body: &[u8]) -> Option<u64> {
    const MEMBER: &str = "\"sequence\"";
    let text = core::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once(MEMBER)?;
    let number = after.trim_start().strip_prefix(':')?.trim_start();
    let end = number.find(|c: char| !c.is_ascii_digit())?;
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
    use proptest::prelude::*;

    const RECORD: &str = "application/vnd.ipfs.ipns-record";

    fn response(status: u16, content_type: Option<&str>, body: impl Into<Bytes>) -> Response<Bytes> {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        response
    }

    #[test]
    fn only_the_media_type_makes_a_record() {
        for content_type in [RECORD, "APPLICATION/vnd.ipfs.ipns-record; x=y"] {
            let mut response = response(200, Some(content_type), "record");
            let bytes = Bytes::from_static(b"record");
            assert_eq!(read_get(&response), Ok(GetAnswer::Record { bytes: bytes.clone(), etag: None }));
            response.headers_mut().insert(ETAG, HeaderValue::from_static("W/\"a\""));
            assert_eq!(read_get(&response), Ok(GetAnswer::Record { bytes, etag: Some("W/\"a\"".into()) }));
        }
        for (status, content_type) in [
            (200, None),
            (200, Some("text/plain")),
            (200, Some("application/json")),
            (204, None),
            (204, Some(RECORD)),
            (404, Some(RECORD)),
            (404, Some("text/plain")),
        ] {
            assert_eq!(read_get(&response(status, content_type, "x")), Ok(GetAnswer::NoRecord), "{status}");
        }
        assert_eq!(read_get(&response(304, None, "")), Ok(GetAnswer::NotModified));
    }

    #[test]
    fn a_record_that_is_too_large_is_refused() {
        let largest = response(200, Some(RECORD), vec![0; MAX_RECORD_BYTES]);
        assert!(matches!(read_get(&largest), Ok(GetAnswer::Record { .. })));
        let larger = vec![0; MAX_RECORD_BYTES + 1];
        let fault = read_get(&response(200, Some(RECORD), larger.clone())).unwrap_err();
        assert_eq!((fault.kind, fault.status), (FaultKind::Final, StatusCode::OK));
        assert_eq!(read_get(&response(200, Some("text/html"), larger)), Ok(GetAnswer::NoRecord));
    }

    #[test]
    fn every_other_status_is_a_fault() {
        for status in (100..600).filter(|status| ![200, 204, 304, 404].contains(status)) {
            let fault = read_get(&response(status, Some(RECORD), "x")).unwrap_err();
            let transient = status == 429 || (status >= 500 && status != 501);
            assert_eq!(fault.code(), if transient { "http_transient" } else { "http_final" }, "{status}");
        }
        for status in (100..600).filter(|status| ![200, 201, 202, 204].contains(status)) {
            let fault = read_put(&response(status, None, "x")).unwrap_err();
            let code = match status {
                409 => "http_conflict",
                429 | 500 | 502..600 => "http_transient",
                _ => "http_final",
            };
            assert_eq!(fault.code(), code, "{status}");
        }
        for status in [200, 201, 202, 204] {
            assert_eq!(read_put(&response(status, None, "anything")), Ok(()));
        }
    }

    #[test]
    fn a_conflict_names_the_sequence_if_it_can() {
        for (body, current) in [
            ("{\"error\":{\"code\":\"conflict\",\"message\":\"m\",\"sequence\":7}}", Some(7)),
            ("{\"sequence\" : 18446744073709551615 }", Some(u64::MAX)),
            ("{\"sequence\":18446744073709551616}", None),
            ("{\"sequence\":-1}", None),
            ("{\"sequence\":\"7\"}", None),
            ("{\"message\":\"\\\"sequence\\\":9\"}", None),
            ("{\"sequence\":7", None),
            ("{\"sequence\"", None),
            ("sequence 7", None),
            ("", None),
        ] {
            let fault = read_put(&response(409, None, body)).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Conflict { current }, "{body}");
        }
    }

    #[test]
    fn the_date_is_the_servers() {
        let mut response = response(200, None, "");
        assert_eq!(response_date(&response), None);
        response.headers_mut().insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(response_date(&response).unwrap().to_string(), "1994-11-06T08:49:37Z");
    }

    fn any_header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let key = prop::sample::select(vec![CONTENT_TYPE, ETAG, DATE, RETRY_AFTER, LOCATION]);
        let value = prop_oneof![
            "application/vnd.ipfs.ipns-record".prop_map(String::into_bytes),
            "[ -~]{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
        ];
        (key, value.prop_filter_map("no header value", |value| HeaderValue::from_bytes(&value).ok()))
    }

    proptest! {
        #[test]
        fn no_response_panics(
            status in 100_u16..1000,
            headers in prop::collection::vec(any_header(), 0..6),
            body in prop::collection::vec(any::<u8>(), 0..600),
            json in "\\{\"sequence\" ?: ?[0-9]{0,22}\\}?",
        ) {
            for body in [Bytes::from(body), Bytes::from(json)] {
                let mut response = response(status, None, body);
                for (key, value) in &headers {
                    response.headers_mut().append(key.clone(), value.clone());
                }
                let _ = (read_get(&response), read_put(&response), response_date(&response));
            }
        }
    }
}
