//! The names of things on the wire that both halves share.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use sha2::{Digest, Sha256};

/// The media type of an IPNS record (Delegated Routing V1, "IPNS API").
pub const MEDIA_TYPE: &str = "application/vnd.ipfs.ipns-record";
/// What stands before the name in the path of a request (Delegated Routing V1, "IPNS API").
pub const PATH_PREFIX: &str = "/routing/v1/ipns/";

/// The strong entity tag of a record: 16 bytes of its SHA2-256 in hex, 34 characters with the quotes (RFC 9110, 8.8.3).
///
/// Equal bytes have equal tags on every server, so a tag got from one may be shown to another.
pub fn etag(record: &[u8]) -> String {
    format!("\"{}\"", data_encoding::HEXLOWER.encode(&Sha256::digest(record)[..16]))
}

/// Whether the `Content-Type` is that of a record; parameters and case do not matter.
pub(super) fn has_record_type(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(MEDIA_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_tag_depends_on_the_bytes_alone() {
        assert_eq!(etag(b""), "\"e3b0c44298fc1c149afbf4c8996fb924\"");
        assert_eq!(etag(b"a"), etag(b"a"));
        assert_ne!(etag(b"a"), etag(b"b"));
    }

    #[test]
    fn the_content_type_is_compared_without_case_and_parameters() {
        for (value, expected) in [
            ("application/vnd.ipfs.ipns-record", true),
            ("Application/VND.ipfs.IPNS-Record ; charset=utf-8", true),
            ("application/vnd.ipfs.ipns-record2", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(has_record_type(&headers), expected, "{value}");
        }
        assert!(!has_record_type(&HeaderMap::new()));
    }
}
