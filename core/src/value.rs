//! What a name points at.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use cid::Cid;
use thiserror::Error;

use crate::name::{Name, shorten};

/// The identity CID of nothing, to which an empty value points (IPNS record spec, "Value").
const EMPTY: &str = "/ipfs/bafkqaaa";
/// The longest value that fits a record beside the rest of it.
pub const MAX_VALUE_BYTES: usize = 8 * 1024;

/// The value of a record: a content path such as `/ipfs/bafy…/sub` or `/ipns/k51…`.
///
/// ```
/// use ipns_core::Value;
///
/// let value: Value = "bafkqaaa".parse()?;
/// assert_eq!(value.as_str(), "/ipfs/bafkqaaa");
/// # Ok::<(), ipns_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(String);

/// What a value points at next, when a name is resolved recursively.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// Immutable content, or any path that is not IPNS: resolving ends here.
    Content,
    /// Another name, and the path below it (empty or beginning with `/`).
    Name(Name, &'a str),
    /// A DNSLink domain, and the path below it.
    DnsLink(&'a str, &'a str),
}

/// Why something cannot be a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Neither a path nor a CID.
    #[error("`{text}` is neither a path such as /ipfs/CID nor a CID")]
    Malformed {
        /// The text, cut if it is long.
        text: String,
    },
    /// Too long for a record.
    #[error("the value has {size} bytes, at most {MAX_VALUE_BYTES} fit a record")]
    TooLong {
        /// The size in bytes.
        size: usize,
    },
}

impl ValueError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "value_malformed",
            Self::TooLong { .. } => "value_too_long",
        }
    }
}

impl Value {
    /// Reads the bytes of a record's `Value`: empty means nothing, a leading `/` a path, anything else a binary CID.
    ///
    /// # Errors
    /// When the bytes are none of these. Such a record is still valid; it only points nowhere that we know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ValueError> {
        if bytes.is_empty() {
            return Ok(Self(EMPTY.into()));
        }
        let malformed = || ValueError::Malformed { text: shorten(&String::from_utf8_lossy(bytes)) };
        if bytes[0] == b'/' {
            let text = core::str::from_utf8(bytes).map_err(|_| malformed())?;
            if text.chars().any(char::is_control) {
                return Err(malformed());
            }
            return Ok(Self(text.into()));
        }
        Self::from_cid_bytes(bytes).ok_or_else(malformed)
    }

    fn from_cid_bytes(bytes: &[u8]) -> Option<Self> {
        let cid = Cid::read_bytes(bytes).ok()?;
        (cid.encoded_len() == bytes.len()).then(|| Self::from_cid(&cid))
    }

    /// The path of a CID.
    pub fn from_cid(cid: &Cid) -> Self {
        Self(format!("/ipfs/{}", cid.into_v1().unwrap_or(*cid)))
    }

    /// The path of another name.
    pub fn from_name(name: &Name) -> Self {
        Self(format!("/ipns/{name}"))
    }

    /// The content path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where resolving goes on.
    pub fn target(&self) -> Target<'_> {
        let Some(rest) = self.0.strip_prefix("/ipns/") else {
            return Target::Content;
        };
        let (root, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match root.parse() {
            Ok(name) => Target::Name(name, below),
            Err(_) => Target::DnsLink(root, below),
        }
    }

    /// This value with the path `below` (empty or beginning with `/`) carried over.
    #[must_use]
    pub fn join(&self, below: &str) -> Self {
        let below = below.trim_end_matches('/');
        if below.is_empty() { self.clone() } else { Self(format!("{}{below}", self.0.trim_end_matches('/'))) }
    }
}

/// Reads what a person types: a path, a CID, or `ipfs://` and `ipns://` URLs.
impl FromStr for Value {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let malformed = || ValueError::Malformed { text: shorten(text) };
        if text.len() > MAX_VALUE_BYTES {
            return Err(ValueError::TooLong { size: text.len() });
        }
        // A scheme has no slash: `://` further on is part of a path.
        let path = match text.split_once("://").filter(|(scheme, _)| !scheme.contains('/')) {
            Some((scheme @ ("ipfs" | "ipns"), rest)) => format!("/{scheme}/{rest}"),
            Some(_) => return Err(malformed()),
            None => text.to_owned(),
        };
        if path.chars().any(char::is_control) {
            return Err(malformed());
        }
        let Some(rest) = path.strip_prefix('/') else {
            let (root, below) = path.split_at(path.find('/').unwrap_or(path.len()));
            let cid = Cid::try_from(root).map_err(|_| malformed())?;
            let value = if cid.codec() == crate::name::LIBP2P_KEY {
                Self::from_name(&root.parse().map_err(|_| malformed())?)
            } else {
                Self(format!("/ipfs/{root}"))
            };
            return Ok(value.join(below));
        };
        let (namespace, root) = rest.split_once('/').ok_or_else(malformed)?;
        let root = root.split('/').next().unwrap_or_default();
        let sound = match namespace {
            "ipfs" => Cid::try_from(root).is_ok(),
            _ => !namespace.is_empty() && !root.is_empty(),
        };
        if sound { Ok(Self(path)) } else { Err(malformed()) }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "k51qzi5uqu5dk3v4rmjber23h16xnr23bsggmqqil9z2gduiis5se8dht36dam";

    #[test]
    fn what_people_type() {
        for (text, path) in [
            ("/ipfs/bafkqaaa", "/ipfs/bafkqaaa"),
            ("bafkqaaa", "/ipfs/bafkqaaa"),
            ("bafkqaaa/a/b", "/ipfs/bafkqaaa/a/b"),
            ("ipfs://bafkqaaa/a", "/ipfs/bafkqaaa/a"),
            ("ipns://example.com", "/ipns/example.com"),
            ("/other/thing", "/other/thing"),
            (NAME, &format!("/ipns/{NAME}")),
        ] {
            assert_eq!(text.parse::<Value>().unwrap().as_str(), path, "{text}");
        }
        for text in ["", "/", "/ipfs", "/ipfs/", "/ipfs/nonsense", "nonsense", "http://example.com", "/ipfs/bafkqaaa\n"]
        {
            assert!(text.parse::<Value>().is_err(), "{text:?}");
        }
        assert!(matches!("/x/".repeat(9000).parse::<Value>(), Err(ValueError::TooLong { .. })));
    }

    #[test]
    fn what_records_carry() {
        assert_eq!(Value::from_bytes(b"").unwrap().as_str(), EMPTY);
        assert_eq!(Value::from_bytes(b"/ipfs/x").unwrap().as_str(), "/ipfs/x");
        let cid: Cid = "bafkqaaa".parse().unwrap();
        assert_eq!(Value::from_bytes(&cid.to_bytes()).unwrap().as_str(), EMPTY);
        assert!(Value::from_bytes(b"nonsense").is_err());
        assert!(Value::from_bytes(b"/\xff").is_err());
    }

    #[test]
    fn targets_and_subpaths() {
        let value: Value = format!("/ipns/{NAME}/a/b").parse().unwrap();
        assert_eq!(value.target(), Target::Name(NAME.parse().unwrap(), "/a/b"));
        let value: Value = "/ipns/example.com/a".parse().unwrap();
        assert_eq!(value.target(), Target::DnsLink("example.com", "/a"));
        let value: Value = "/ipfs/bafkqaaa".parse().unwrap();
        assert_eq!(value.target(), Target::Content);
        assert_eq!(value.join("/a/b").as_str(), "/ipfs/bafkqaaa/a/b");
        assert_eq!(value.join("").as_str(), "/ipfs/bafkqaaa");
    }
}
