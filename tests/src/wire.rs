//! The bytes of a record as protobuf fields, read by hand so that a fault of core cannot hide itself.

use core::ops::Range;

use ipns_core::Verified;
use ipns_core::key::PublicKey;
use ipns_core::record::{Record, RecordBuilder, Version};

/// The numbers of the fields of an `IpnsEntry`.
pub mod number {
    /// `value`
    pub const VALUE: u64 = 1;
    /// `signatureV1`
    pub const SIGNATURE_V1: u64 = 2;
    /// `validity`
    pub const VALIDITY: u64 = 4;
    /// `pubKey`
    pub const PUBLIC_KEY: u64 = 7;
    /// `signatureV2`
    pub const SIGNATURE_V2: u64 = 8;
    /// `data`
    pub const DATA: u64 = 9;
}

/// One protobuf field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u64,
    /// Where its tag begins and its content ends.
    pub whole: Range<usize>,
    /// Where its content is; for integers the varint.
    pub content: Range<usize>,
}

/// All fields in the order of the bytes, or `None` for what is no protobuf (groups are not read).
pub fn fields(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let tag = varint(bytes, &mut at)?;
        let mut begin = at;
        match tag & 7 {
            0 => drop(varint(bytes, &mut at)?),
            1 => at += 8,
            2 => {
                let size = usize::try_from(varint(bytes, &mut at)?).ok()?;
                begin = at;
                at = at.checked_add(size)?;
            }
            5 => at += 4,
            _ => return None,
        }
        if tag < 8 || at > bytes.len() {
            return None;
        }
        found.push(Field { number: tag >> 3, whole: start..at, content: begin..at });
    }
    Some(found)
}

/// The field that counts: the last of its number.
pub fn field(bytes: &[u8], number: u64) -> Option<Field> {
    fields(bytes)?.into_iter().rfind(|field| field.number == number)
}

/// The content of the field that counts.
pub fn content(bytes: &[u8], number: u64) -> Option<&[u8]> {
    Some(&bytes[field(bytes, number)?.content])
}

/// The bytes with the content of `number` exchanged, or without the field.
pub fn with(bytes: &[u8], number: u64, content: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(bytes).expect("a protobuf") {
        match content {
            Some(content) if field.number == number => {
                out.push((number << 3 | 2) as u8);
                let mut size = content.len();
                while size > 0x7f {
                    out.push(size as u8 | 0x80);
                    size >>= 7;
                }
                out.push(size as u8);
                out.extend_from_slice(content);
            }
            None if field.number == number => {}
            _ => out.extend_from_slice(&bytes[field.whole]),
        }
    }
    out
}

/// The record made anew from what core read in it, with its old signatures: the same bytes, if it was canonical.
pub fn rebuild(record: &Verified) -> Record {
    let bytes = record.as_bytes();
    let key = match content(bytes, number::PUBLIC_KEY) {
        Some(key) => PublicKey::decode_protobuf(key).expect("the embedded key"),
        None => record.name().inline_public_key().expect("the inline key"),
    };
    let signature = |number| content(bytes, number).map(<[u8]>::to_vec);
    let mut builder = RecordBuilder::new(record.value().expect("a path"), record.sequence(), record.eol());
    builder.ttl = record.ttl().unwrap_or_default();
    builder.version = record.version();
    builder.metadata = record.metadata();
    let v1 = signature(number::SIGNATURE_V1).filter(|_| record.version() == Version::V1AndV2);
    let v2 = signature(number::SIGNATURE_V2).expect("a signature");
    builder.prepare(&key).and_then(|unsigned| unsigned.finish(v2, v1)).expect("a record")
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
