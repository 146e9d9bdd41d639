//! The request headers that decide what a response may be: `Accept` and `If-None-Match`.

use http::header::{ACCEPT, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};

use super::media::MEDIA_TYPE;

/// Whether the client takes a record: the most specific range that covers the media type decides (RFC 9110, 12.5.1).
pub(super) fn accepts_record(headers: &HeaderMap) -> bool {
    let list = joined(headers, &ACCEPT).unwrap_or_default();
    let ranges = list.split(',').filter(|range| !range.trim().is_empty());
    let mut stated = false;
    let decisive = ranges.inspect(|_| stated = true).filter_map(covering).max();
    decisive.map_or(!stated, |(_, accepted)| accepted)
}

/// How specifically a range covers the media type, and whether it wants it; `None` when it does not cover it.
fn covering(range: &str) -> Option<(u8, bool)> {
    let mut parts = range.split(';');
    let specificity = match parts.next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        MEDIA_TYPE => 2,
        "application/*" => 1,
        "*/*" | "*" => 0,
        _ => return None,
    };
    let refused = parts
        .filter_map(|part| part.split_once('='))
        .any(|(key, value)| key.trim().eq_ignore_ascii_case("q") && value.trim().parse() == Ok(0.0_f32));
    Some((specificity, !refused))
}

/// The entity tags that the client has, as one list.
pub(super) fn if_none_match(headers: &HeaderMap) -> Option<String> {
    joined(headers, &IF_NONE_MATCH)
}

/// Whether a list of entity tags holds `etag`, or is `*`; a weak tag counts like a strong one (RFC 9110, 13.1.2).
pub(super) fn holds(list: &str, etag: &str) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let tag = rest.strip_prefix("W/").unwrap_or(rest);
        // A tag may hold commas, so that its quotes are what ends it.
        let Some((opaque, after)) = tag.strip_prefix('"').and_then(|tag| tag.split_once('"')) else {
            return false;
        };
        if opaque == etag.trim_matches('"') {
            return true;
        }
        rest = after;
    }
}

/// Several fields of one name are one list (RFC 9110, 5.2).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn accept(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (ACCEPT, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_most_specific_range_decides() {
        for (values, expected) in [
            (&[][..], true),
            (&[""], true),
            (&["application/vnd.ipfs.ipns-record"], true),
            (&["APPLICATION/vnd.ipfs.ipns-record;q=0.1"], true),
            (&["application/*"], true),
            (&["*/*"], true),
            (&["text/html, */*;q=0.1"], true),
            (&["text/html", "*/*"], true),
            (&["*"], true),
            (&["application/vnd.ipfs.ipns-record;q=x"], true),
            (&["text/html"], false),
            (&["application/json, text/*"], false),
            (&["application/vnd.ipfs.ipns-record;q=0"], false),
            (&["application/vnd.ipfs.ipns-record; x=y; Q=0.000, */*"], false),
            (&["application/vnd.ipfs.ipns-record, */*;q=0"], true),
            (&["application/*;q=0, */*"], false),
            (&["*/*;q=0"], false),
        ] {
            assert_eq!(accepts_record(&accept(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        for (list, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            (" \"b,\" ,\t W/\"a\"", true),
            ("*", true),
            (" * ", true),
            ("", false),
            ("a", false),
            ("\"b\"", false),
            ("\"a", false),
            ("\"b\", *", false),
            ("w/\"a\"", false),
        ] {
            assert_eq!(holds(list, "\"a\""), expected, "{list}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~\\t]{0,80}", near in "[*/;,=q0.W\" a]{0,40}") {
            for text in [text, near] {
                let _ = holds(&text, "\"a\"");
                let headers = HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]);
                let _ = accepts_record(&headers);
            }
        }
    }
}
