//! What comes over HTTP, from either side: no message panics, and no body is believed that is too large or another's.
//!
//! The input is a message as HTTP/1.1 writes it, without chunks; a header that is none is left out.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use ipns_core::record::MAX_RECORD_BYTES;
use ipns_core::routing::http::client::{GetAnswer, read_get, read_put, response_date};
use ipns_core::routing::http::server::{Asked, read_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = end.map_or((input, &b""[..]), |end| (&input[..end], &input[end + 4..]));
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let start = lines.next().unwrap_or_default();
    let headers: HeaderMap = lines.filter_map(header).collect();
    let body = Bytes::copy_from_slice(body);
    if let Some(status) = start.strip_prefix(b"HTTP/1.1 ") {
        let Ok(status) = StatusCode::from_bytes(status.get(..3).unwrap_or_default()) else { return };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        read_response(&response);
    } else {
        let mut words = start.split(|byte| *byte == b' ');
        let Ok(method) = Method::from_bytes(words.next().unwrap_or_default()) else { return };
        let Ok(uri) = http::Uri::try_from(words.next().unwrap_or_default()) else { return };
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        serve(&request);
    }
});

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = line[colon + 1..].trim_ascii();
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
}

fn read_response(response: &Response<Bytes>) {
    match read_get(response) {
        Ok(GetAnswer::Record { bytes, .. }) => {
            assert_eq!(response.status(), StatusCode::OK);
            assert!(bytes.len() <= MAX_RECORD_BYTES && bytes == response.body());
        }
        Ok(GetAnswer::NotModified) => assert_eq!(response.status(), StatusCode::NOT_MODIFIED),
        Ok(GetAnswer::NoRecord) => assert!(response.status().is_success() || response.status() == 404),
        Err(fault) => assert_eq!(fault.status, response.status()),
    }
    match read_put(response) {
        Ok(()) => assert!(response.status().is_success()),
        Err(fault) => assert!(fault.status == response.status() && !fault.to_string().is_empty()),
    }
    if let Some(date) = response_date(response) {
        assert_eq!(date.to_string().parse(), Ok(date));
    }
}

fn serve(request: &Request<Bytes>) {
    match read_request(request) {
        Asked::Get { name, head, .. } => {
            assert_eq!(head, request.method() == Method::HEAD);
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        Asked::Put { name, record } => {
            assert!(record == request.body() && (1..=MAX_RECORD_BYTES).contains(&record.len()));
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        Asked::Answer(response) => {
            let status = response.status();
            assert!(status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED || status == 204, "{status}");
            assert!(request.method() != Method::HEAD || response.body().is_empty());
        }
    }
}
