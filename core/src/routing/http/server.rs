//! The answering half: [`read_request`] says what is asked for, [`found`] and [`put_response`] write the response.
//!
//! Who receives the requests bounds the bodies it reads, but not below [`MAX_RECORD_BYTES`] and one byte: a record is
//! refused when it is too large, never cut. Every response has the headers that browsers need (CORS), and its length
//! where it has a body.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::media::has_record_type;
use super::negotiate::{accepts_record, if_none_match};
use super::respond::{error, method_not_allowed, preflight};
use crate::name::{Name, NameError, shorten};
use crate::record::MAX_RECORD_BYTES;

pub use super::respond::{PutOutcome, busy, failed, for_head, found, put_response, timed_out, unavailable};

const ROOT: &str = "/routing/v1";

/// A response that ends the reading of a request; boxed because it is large.
type Refusal = Box<Response<Bytes>>;

/// What a request asks for.
#[derive(Debug)]
pub enum Asked {
    /// The record of a name: answer with [`found`].
    Get {
        /// The name.
        name: Name,
        /// Whether only the headers are wanted.
        head: bool,
        /// The entity tags that the client has, for [`found`].
        if_none_match: Option<String>,
    },
    /// To take the record of a name: verify it and answer with [`put_response`].
    Put {
        /// The name.
        name: Name,
        /// The record, not verified: between one and [`MAX_RECORD_BYTES`] bytes.
        record: Bytes,
    },
    /// Nothing more: this is the response.
    Answer(Response<Bytes>),
}

/// Reads a request (Delegated Routing V1, "IPNS API").
///
/// | asked for | response |
/// |---|---|
/// | a path outside `/routing/v1` | 404 |
/// | an unknown path below it, or what is no name | 400 |
/// | `/routing/v1/providers`, `peers` or `dht` | 501 |
/// | `OPTIONS` of any path below it | 204 with what browsers may do |
/// | a method other than `GET`, `HEAD`, `PUT` and `POST` | 405 |
/// | `GET` with an `Accept` that excludes records | 406 |
/// | `PUT` of another content type | 406 |
/// | `PUT` without a body, of a body that is too large | 400, 413 |
///
/// `POST` is the same as `PUT`. A name is taken in every spelling of one path segment.
pub fn read_request(request: &Request<Bytes>) -> Asked {
    match read(request) {
        Ok(asked) => asked,
        Err(response) if request.method() == Method::HEAD => Asked::Answer(for_head(*response)),
        Err(response) => Asked::Answer(*response),
    }
}

fn read(request: &Request<Bytes>) -> Result<Asked, Refusal> {
    let segment = route(request)?;
    let method = request.method();
    let reading = method == Method::GET || method == Method::HEAD;
    if !reading && method != Method::PUT && method != Method::POST {
        return Err(method_not_allowed().into());
    }
    let name =
        read_name(segment).map_err(|reason| refuse(StatusCode::BAD_REQUEST, reason.code(), &reason.to_string()))?;
    if reading {
        if !accepts_record(request.headers()) {
            let message = "only application/vnd.ipfs.ipns-record can be had here";
            return Err(refuse(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message));
        }
        let if_none_match = if_none_match(request.headers());
        return Ok(Asked::Get { name, head: method == Method::HEAD, if_none_match });
    }
    check_record(request)?;
    Ok(Asked::Put { name, record: request.body().clone() })
}

/// The segment of the path that should be a name.
fn route(request: &Request<Bytes>) -> Result<&str, Refusal> {
    let path = request.uri().path();
    let below = path.strip_prefix(ROOT).filter(|below| below.is_empty() || below.starts_with('/'));
    let Some(below) = below else {
        return Err(refuse(StatusCode::NOT_FOUND, "unknown_path", "nothing is here; see /routing/v1/ipns/{name}"));
    };
    // A browser that may not ask would not see why.
    if request.method() == Method::OPTIONS {
        return Err(preflight().into());
    }
    let below = below.strip_prefix('/').unwrap_or_default();
    let (kind, rest) = below.split_once('/').unwrap_or((below, ""));
    match kind {
        "ipns" if !rest.contains('/') => Ok(rest),
        "providers" | "peers" | "dht" => {
            let message = "only names are routed here: /routing/v1/ipns/{name}";
            Err(refuse(StatusCode::NOT_IMPLEMENTED, "not_supported", message))
        }
        _ => Err(refuse(StatusCode::BAD_REQUEST, "unknown_path", "the path is not /routing/v1/ipns/{name}")),
    }
}

fn read_name(segment: &str) -> Result<Name, NameError> {
    let malformed = || NameError::Malformed { text: shorten(segment) };
    let text = percent_decode(segment).ok_or_else(malformed)?;
    // These are spellings of a name, but a path segment is only the last part of them.
    if text.starts_with('/') || text.starts_with("ipns:") {
        return Err(malformed());
    }
    text.parse()
}

fn percent_decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Refusal {
    error(status, code, message).into()
}

fn check_record(request: &Request<Bytes>) -> Result<(), Refusal> {
    if !has_record_type(request.headers()) {
        let message = "the content type must be application/vnd.ipfs.ipns-record";
        return Err(refuse(StatusCode::NOT_ACCEPTABLE, "content_type", message));
    }
    match request.body().len() {
        0 => Err(refuse(StatusCode::BAD_REQUEST, "empty", "the body must be the record, and it is empty")),
        size if size > MAX_RECORD_BYTES => {
            let message = format!("a record has at most {MAX_RECORD_BYTES} bytes");
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::http::client::Endpoint;
    use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, IF_NONE_MATCH};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use multibase::Base;
    use proptest::prelude::*;

    const NAME: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";
    const RECORD: &str = "application/vnd.ipfs.ipns-record";

    fn request(method: &str, path: &str, headers: &[(HeaderName, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
        let mut request = Request::new(body.into());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (key, value) in headers {
            request.headers_mut().append(key, value.parse().unwrap());
        }
        request
    }

    fn answer(request: &Request<Bytes>) -> Response<Bytes> {
        match read_request(request) {
            Asked::Answer(response) => response,
            other => panic!("{} {}: {other:?}", request.method(), request.uri()),
        }
    }

    #[test]
    fn paths() {
        for (path, status, code) in [
            ("/", 404, "unknown_path"),
            ("/ipns/x", 404, "unknown_path"),
            ("/routing/v10/ipns/x", 404, "unknown_path"),
            ("*", 404, "unknown_path"),
            ("/routing/v1", 400, "unknown_path"),
            ("/routing/v1/", 400, "unknown_path"),
            ("/routing/v1/names/x", 400, "unknown_path"),
            ("/routing/v1/ipns/a/b", 400, "unknown_path"),
            ("/routing/v1/ipns", 400, "name_malformed"),
            ("/routing/v1/ipns/", 400, "name_malformed"),
            ("/routing/v1/ipns/example.com", 400, "name_malformed"),
            ("/routing/v1/ipns/%zz", 400, "name_malformed"),
            ("/routing/v1/ipns/%f", 400, "name_malformed"),
            ("/routing/v1/ipns/%ff", 400, "name_malformed"),
            (&format!("/routing/v1/ipns/%2Fipns%2F{NAME}"), 400, "name_malformed"),
            (&format!("/routing/v1/ipns/ipns:%2F%2F{NAME}"), 400, "name_malformed"),
            ("/routing/v1/ipns/bafkreidfdrlkeq4m4xnxuyx6iae76fdm4wgl5d4xzsb77ixhyqwumhz244", 400, "name_wrong_codec"),
            ("/routing/v1/providers/x", 501, "not_supported"),
            ("/routing/v1/peers/x", 501, "not_supported"),
            ("/routing/v1/dht/closest/peers/x", 501, "not_supported"),
        ] {
            let response = answer(&request("GET", path, &[], ""));
            assert_eq!(response.status().as_u16(), status, "{path}");
            let body = String::from_utf8(response.body().to_vec()).unwrap();
            assert!(body.starts_with(&format!("{{\"error\":{{\"code\":\"{code}\",")), "{path}: {body}");
            assert!(answer(&request("HEAD", path, &[], "")).body().is_empty());
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_read() {
        let name: Name = NAME.parse().unwrap();
        let padded = name.to_cid_string(Base::Base64Pad).replace('/', "%2f").replace('+', "%2B");
        let escaped: String = NAME.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for spelling in [NAME.to_owned(), name.to_base58(), name.to_cid_string(Base::Base32Upper), padded, escaped] {
            for (method, expected) in [("GET", false), ("HEAD", true)] {
                match read_request(&request(method, &format!("/routing/v1/ipns/{spelling}"), &[], "")) {
                    Asked::Get { name: found, head, if_none_match: None } => {
                        assert_eq!((found, head), (name, expected))
                    }
                    other => panic!("{spelling}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn methods() {
        let path = format!("/routing/v1/ipns/{NAME}");
        for method in ["DELETE", "PATCH", "TRACE", "CONNECT", "BREW"] {
            let response = answer(&request(method, &path, &[], ""));
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(response.headers()[ALLOW], "GET, HEAD, PUT, POST, OPTIONS");
        }
        for path in [&path, "/routing/v1/ipns/x", "/routing/v1/peers/x"] {
            let response = answer(&request("OPTIONS", path, &[], ""));
            assert_eq!((response.status(), response.body().len()), (StatusCode::NO_CONTENT, 0));
            let allowed = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(allowed("access-control-allow-origin"), "*");
            assert!(allowed("access-control-allow-methods").contains("PUT"));
            assert!(allowed("access-control-allow-headers").contains("Content-Type"));
        }
        assert_eq!(answer(&request("OPTIONS", "/", &[], "")).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn an_accept_that_excludes_records_is_refused() {
        let path = format!("/routing/v1/ipns/{NAME}");
        for accept in ["text/html", "*/*;q=0", "application/json"] {
            let response = answer(&request("GET", &path, &[(ACCEPT, accept)], ""));
            assert_eq!(response.status(), StatusCode::NOT_ACCEPTABLE, "{accept}");
        }
        let headers = [(ACCEPT, "*/*"), (IF_NONE_MATCH, "\"a\""), (IF_NONE_MATCH, "\"b\"")];
        match read_request(&request("GET", &path, &headers, "")) {
            Asked::Get { if_none_match, .. } => assert_eq!(if_none_match.as_deref(), Some("\"a\", \"b\"")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_must_be_called_one_and_fit() {
        let path = format!("/routing/v1/ipns/{NAME}");
        let typed = [(CONTENT_TYPE, RECORD)];
        for (headers, size, status) in [
            (&[][..], 1, 406),
            (&[(CONTENT_TYPE, "application/json")], 1, 406),
            (&[(CONTENT_TYPE, "text/plain")], MAX_RECORD_BYTES + 1, 406),
            (&typed, 0, 400),
            (&typed, MAX_RECORD_BYTES + 1, 413),
        ] {
            for method in ["PUT", "POST"] {
                let response = answer(&request(method, &path, headers, vec![0; size]));
                assert_eq!(response.status().as_u16(), status, "{headers:?} {size}");
            }
        }
        assert_eq!(answer(&request("PUT", "/routing/v1/ipns/x", &typed, "r")).status(), StatusCode::BAD_REQUEST);
        for method in ["PUT", "POST"] {
            let headers = [(CONTENT_TYPE, "Application/vnd.ipfs.ipns-record;x=y"), (ACCEPT, "text/html")];
            match read_request(&request(method, &path, &headers, vec![7; MAX_RECORD_BYTES])) {
                Asked::Put { name, record } => {
                    assert_eq!((name.to_string().as_str(), record.len()), (NAME, MAX_RECORD_BYTES))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_the_client_writes_is_read() {
        let name: Name = NAME.parse().unwrap();
        let endpoint = Endpoint::new("https://example.org").unwrap();
        match read_request(&endpoint.get_request(&name, Some("\"a\""))) {
            Asked::Get { name: asked, head: false, if_none_match: Some(tags) } => {
                assert_eq!((asked, tags.as_str()), (name, "\"a\""));
            }
            other => panic!("{other:?}"),
        }
        match read_request(&endpoint.put_request(&name, &Bytes::from_static(b"r"))) {
            Asked::Put { name: asked, record } => assert_eq!((asked, &record[..]), (name, &b"r"[..])),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn no_request_panics(
            method in "GET|HEAD|PUT|POST|OPTIONS|[A-Z]{1,9}",
            path in "/routing/v1(/(ipns|peers|[a-z]{0,5})){0,2}[!-~]{0,70}|/[!-~]{0,30}",
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 3),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let Ok(uri) = path.parse() else { return Ok(()) };
            let mut request = Request::new(Bytes::from(body));
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = uri;
            let keys = [ACCEPT, CONTENT_TYPE, IF_NONE_MATCH];
            let headers: HeaderMap = keys.into_iter().zip(values)
                .filter_map(|(key, value)| Some((key, HeaderValue::from_bytes(&value).ok()?))).collect();
            *request.headers_mut() = headers;
            let _ = read_request(&request);
        }
    }
}
