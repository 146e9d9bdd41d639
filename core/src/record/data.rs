//! The signed part of a record: a DAG-CBOR map, read strictly and written canonically.
//!
//! The reader is ours because no library refuses all that go-ipld-prime does (non-minimal integers, indefinite
//! lengths, duplicate keys, NaN) while still reading unsorted keys; writing and metadata are `serde_ipld_dagcbor`'s.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use ipld_core::ipld::Ipld;

use super::error::{BuildError, DataFault, MAX_SEQUENCE};

pub(crate) const VALUE: &str = "Value";
pub(crate) const VALIDITY: &str = "Validity";
pub(crate) const VALIDITY_TYPE: &str = "ValidityType";
pub(crate) const SEQUENCE: &str = "Sequence";
pub(crate) const TTL: &str = "TTL";
const RESERVED: [&str; 5] = [VALUE, VALIDITY, VALIDITY_TYPE, SEQUENCE, TTL];

/// Deeper data is no metadata that anyone writes; the bound keeps recursion off the stack's end.
const MAX_DEPTH: u8 = 64;

/// Additional signed entries of a record: key to value.
pub type Metadata = BTreeMap<String, Ipld>;

/// The five fields of the spec, sharing the memory of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) value: Bytes,
    pub(crate) validity: Bytes,
    pub(crate) validity_type: u64,
    pub(crate) sequence: u64,
    pub(crate) ttl: Option<u64>,
    pub(crate) has_metadata: bool,
}

/// A field as it was found, before its type is judged.
enum Item<'a> {
    Unsigned(u64),
    Bytes(&'a [u8]),
    Other,
}

impl Data {
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, DataFault> {
        let mut fields = Fields::default();
        let entries = Walk { rest: bytes }.top_level(|key, item, _| fields.take(key, item))?;
        let has_metadata = entries > fields.known;
        Ok(Self {
            value: bytes.slice_ref(fields.value.ok_or(DataFault::Missing(VALUE))?),
            validity: bytes.slice_ref(fields.validity.ok_or(DataFault::Missing(VALIDITY))?),
            validity_type: fields.validity_type.ok_or(DataFault::Missing(VALIDITY_TYPE))?,
            sequence: fields.sequence.ok_or(DataFault::Missing(SEQUENCE))?,
            ttl: fields.ttl,
            has_metadata,
        })
    }
}

#[derive(Default)]
struct Fields<'a> {
    value: Option<&'a [u8]>,
    validity: Option<&'a [u8]>,
    validity_type: Option<u64>,
    sequence: Option<u64>,
    ttl: Option<u64>,
    known: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: &'a str, item: Item<'a>) -> Result<(), DataFault> {
        let Some(name) = RESERVED.into_iter().find(|name| *name == key) else {
            return Ok(());
        };
        self.known += 1;
        match (name, item) {
            (VALUE, Item::Bytes(bytes)) => self.value = Some(bytes),
            (VALIDITY, Item::Bytes(bytes)) => self.validity = Some(bytes),
            (VALIDITY_TYPE, Item::Unsigned(number)) => self.validity_type = Some(number),
            (SEQUENCE, Item::Unsigned(number)) if number <= MAX_SEQUENCE => self.sequence = Some(number),
            (TTL, Item::Unsigned(number)) if number <= MAX_SEQUENCE => self.ttl = Some(number),
            _ => return Err(DataFault::WrongType(name)),
        }
        Ok(())
    }
}

/// The entries beside the five of the spec. `bytes` has been parsed before; a value that the library does not know
/// how to hold (a half-precision float) is left out.
pub(crate) fn metadata(bytes: &Bytes) -> Metadata {
    let mut found = Metadata::new();
    // The data was walked once when it was parsed: a fault cannot occur, and would only end the list early.
    let _ = Walk { rest: bytes }.top_level(|key, _, raw| {
        if !RESERVED.contains(&key)
            && let Ok(value) = serde_ipld_dagcbor::from_slice(raw)
        {
            found.insert(key.to_owned(), value);
        }
        Ok(())
    });
    found
}

/// Canonical DAG-CBOR of the five fields and the metadata.
pub(crate) fn encode(data: &Data, metadata: &Metadata) -> Result<Vec<u8>, BuildError> {
    let mut map = metadata.clone();
    for key in RESERVED {
        if map.contains_key(key) {
            return Err(BuildError::ReservedKey(key));
        }
    }
    let integer = |number: u64| Ipld::Integer(i128::from(number));
    map.insert(VALUE.into(), Ipld::Bytes(data.value.to_vec()));
    map.insert(VALIDITY.into(), Ipld::Bytes(data.validity.to_vec()));
    map.insert(VALIDITY_TYPE.into(), integer(data.validity_type));
    map.insert(SEQUENCE.into(), integer(data.sequence));
    if let Some(ttl) = data.ttl {
        map.insert(TTL.into(), integer(ttl));
    }
    serde_ipld_dagcbor::to_vec(&Ipld::Map(map)).map_err(|_| BuildError::Metadata)
}

/// The same data with another validity; no other byte changes. `None` for bytes that are no data.
pub(crate) fn with_validity(bytes: &Bytes, validity: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let walked = Walk { rest: bytes }.top_level(|key, _, raw| {
        if key == VALIDITY {
            found = Some(raw);
        }
        Ok(())
    });
    let old = found.filter(|_| walked.is_ok())?;
    let at = old.as_ptr() as usize - bytes.as_ptr() as usize;
    let length = u8::try_from(validity.len()).ok()?;
    let head: &[u8] = if length < 24 { &[0x40 | length] } else { &[0x58, length] };
    Some([&bytes[..at], head, validity, &bytes[at + old.len()..]].concat())
}

/// A strict reader over one DAG-CBOR item.
struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Reads one map and nothing after it; `each` gets every key, its value, and the value's encoding.
    fn top_level(
        mut self,
        mut each: impl FnMut(&'a str, Item<'a>, &'a [u8]) -> Result<(), DataFault>,
    ) -> Result<usize, DataFault> {
        let (major, count) = self.head()?;
        if major != 5 {
            return Err(DataFault::NotAMap);
        }
        let mut keys = Keys::default();
        for _ in 0..count {
            let key = self.key()?;
            keys.push(key);
            let before = self.rest;
            let item = self.item(0)?;
            each(key, item, &before[..before.len() - self.rest.len()])?;
        }
        keys.check()?;
        if !self.rest.is_empty() {
            return Err(DataFault::NotStrict("bytes after the map"));
        }
        Ok(keys.0.len())
    }

    fn item(&mut self, depth: u8) -> Result<Item<'a>, DataFault> {
        if depth > MAX_DEPTH {
            return Err(DataFault::NotStrict("nested too deeply"));
        }
        let (major, argument) = self.head()?;
        match major {
            0 => return Ok(Item::Unsigned(argument)),
            1 => {}
            2 => return Ok(Item::Bytes(self.take(argument)?)),
            3 => {
                self.text(argument)?;
            }
            4 => {
                for _ in 0..argument {
                    self.item(depth + 1)?;
                }
            }
            5 => {
                let mut keys = Keys::default();
                for _ in 0..argument {
                    keys.push(self.key()?);
                    self.item(depth + 1)?;
                }
                keys.check()?;
            }
            6 if argument == 42 => match self.item(depth + 1)? {
                Item::Bytes([0, ..]) => {}
                _ => return Err(DataFault::NotStrict("a link without a CID")),
            },
            6 => return Err(DataFault::NotStrict("a tag other than 42")),
            // `head` lets only false, true, null and finite floats through.
            _ => {}
        }
        Ok(Item::Other)
    }

    fn key(&mut self) -> Result<&'a str, DataFault> {
        match self.head()? {
            (3, length) => self.text(length),
            _ => Err(DataFault::NotStrict("a map key that is no text")),
        }
    }

    fn text(&mut self, length: u64) -> Result<&'a str, DataFault> {
        core::str::from_utf8(self.take(length)?).map_err(|_| DataFault::NotStrict("text that is not UTF-8"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DataFault> {
        let length = usize::try_from(length).map_err(|_| DataFault::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DataFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Major type and argument, the latter in its shortest form only.
    fn head(&mut self) -> Result<(u8, u64), DataFault> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..24 => 0,
            24..28 => 1 << (info - 24),
            _ => return Err(DataFault::NotStrict("an indefinite length")),
        };
        let argument = self.take(width)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        if major == 7 {
            return simple(width, info, argument).map(|()| (major, argument));
        }
        let (argument, smallest) = match width {
            0 => (u64::from(info), 0),
            1 => (argument, 24),
            2 => (argument, 1 << 8),
            4 => (argument, 1 << 16),
            _ => (argument, 1 << 32),
        };
        if argument < smallest {
            return Err(DataFault::NotStrict("an integer that is not in its shortest form"));
        }
        Ok((major, argument))
    }
}

fn simple(width: u64, info: u8, argument: u64) -> Result<(), DataFault> {
    let finite = match width {
        0 if (20..=22).contains(&info) => true,
        2 => argument >> 10 & 0x1f != 0x1f,
        4 => f32::from_bits(argument as u32).is_finite(),
        8 => f64::from_bits(argument).is_finite(),
        _ => return Err(DataFault::NotStrict("an undefined or reserved simple value")),
    };
    if finite { Ok(()) } else { Err(DataFault::NotStrict("NaN or infinity")) }
}

/// The keys of one map, to find duplicates.
#[derive(Default)]
struct Keys<'a>(Vec<&'a str>);

impl<'a> Keys<'a> {
    fn push(&mut self, key: &'a str) {
        self.0.push(key);
    }

    fn check(&self) -> Result<(), DataFault> {
        let canonical = |key: &&'a str| (key.len(), *key);
        if self.0.windows(2).all(|pair| canonical(&pair[0]) < canonical(&pair[1])) {
            return Ok(());
        }
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DataFault::NotStrict("a key that occurs twice"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Data {
        Data {
            value: Bytes::from_static(b"/ipfs/bafkqaaa"),
            validity: Bytes::from_static(b"2126-01-31T15:56:12Z"),
            validity_type: 0,
            sequence: 7,
            ttl: Some(300_000_000_000),
            has_metadata: false,
        }
    }

    #[test]
    fn keys_are_written_by_length_then_bytes() {
        let bytes = encode(&sample(), &Metadata::new()).unwrap();
        let at = |key: &str| bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
        let order = ["cTTL", "eValue", "hSequence", "hValidity", "lValidityType"].map(at);
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn reserved_keys_are_no_metadata() {
        let metadata = Metadata::from([("Value".to_owned(), Ipld::Null)]);
        assert_eq!(encode(&sample(), &metadata), Err(BuildError::ReservedKey("Value")));
    }

    fn metadata_strategy() -> impl Strategy<Value = Metadata> {
        let leaf = prop_oneof![
            Just(Ipld::Null),
            any::<bool>().prop_map(Ipld::Bool),
            any::<i64>().prop_map(|n| Ipld::Integer(n.into())),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Ipld::Bytes),
            "\\PC{0,20}".prop_map(Ipld::String),
            (-1e9..1e9_f64).prop_map(Ipld::Float),
        ];
        let tree = leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Ipld::List),
                proptest::collection::btree_map("[a-z]{0,8}", inner, 0..5).prop_map(Ipld::Map),
            ]
        });
        proptest::collection::btree_map("_[a-z]{1,8}", tree, 0..5)
    }

    proptest! {
        #[test]
        fn round_trips(
            value in proptest::collection::vec(any::<u8>(), 0..200),
            sequence in 0..=MAX_SEQUENCE,
            ttl in proptest::option::of(0..=MAX_SEQUENCE),
            extra in metadata_strategy(),
        ) {
            let data = Data { value: value.into(), sequence, ttl, has_metadata: !extra.is_empty(), ..sample() };
            let bytes = Bytes::from(encode(&data, &extra).unwrap());
            prop_assert_eq!(Data::parse(&bytes).unwrap(), data);
            prop_assert_eq!(metadata(&bytes), extra);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Data::parse(&bytes.into());
        }
    }

    #[test]
    fn what_is_not_strict_is_refused() {
        let with = |entry: &[u8]| {
            let mut bytes = encode(&sample(), &Metadata::new()).unwrap();
            bytes[0] += 1;
            bytes.extend_from_slice(entry);
            Data::parse(&bytes.into())
        };
        assert!(with(b"\x61a\x00").is_ok());
        assert!(with(b"\x61a\xfb\x3f\xf0\0\0\0\0\0\0").is_ok());
        for (entry, why) in [
            (&b"\x61a\x18\x00"[..], "an integer that is not in its shortest form"),
            (b"\x61a\x9f\xff", "an indefinite length"),
            (b"\x61a\xfb\x7f\xf8\0\0\0\0\0\0", "NaN or infinity"),
            (b"\x61a\xf9\x7c\x00", "NaN or infinity"),
            (b"\x61a\xf7", "an undefined or reserved simple value"),
            (b"\x61a\xc1\x00", "a tag other than 42"),
            (b"\x61\xff\x00", "text that is not UTF-8"),
            (b"\x00\x00", "a map key that is no text"),
            (b"\x61a\xa2\x61b\x00\x61b\x00", "a key that occurs twice"),
            (b"\x61a\x00\x00", "bytes after the map"),
        ] {
            assert_eq!(with(entry), Err(DataFault::NotStrict(why)));
        }
        assert_eq!(
            with(&[b"\x61a".as_slice(), &[0x81; 5000], b"\x00"].concat()),
            Err(DataFault::NotStrict("nested too deeply"))
        );
        assert_eq!(with(b"\x61a\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), Err(DataFault::Truncated));
        assert_eq!(with(b"\x63TTL\x00"), Err(DataFault::NotStrict("a key that occurs twice")));
        assert_eq!(Data::parse(&Bytes::from_static(b"\x80")), Err(DataFault::NotAMap));
    }
}
