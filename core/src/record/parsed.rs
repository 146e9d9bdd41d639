//! A record as it was read, before anyone has verified it.

use core::time::Duration;

use bytes::Bytes;

use super::data::{self, Data, Metadata};
use super::error::RecordError;
use super::wire::Entry;
use crate::key::PublicKey;
use crate::name::Name;
use crate::value::{Value, ValueError};

/// Which fields a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// The signed data, and beside it the fields that old readers need: what everyone writes today.
    #[default]
    V1AndV2,
    /// The signed data only: smaller.
    V2Only,
}

/// A parsed record: well-formed, with signature and data present, and nothing said yet about who made it.
#[derive(Debug, Clone)]
pub struct Record {
    pub(super) bytes: Bytes,
    pub(super) entry: Entry,
    pub(super) data: Data,
}

impl Record {
    /// Decodes a record without verifying it. The original bytes are kept.
    ///
    /// # Errors
    /// `too_large`, `malformed`, `signature_missing`, `data_missing` or `data_malformed`.
    pub fn decode(bytes: impl Into<Bytes>) -> Result<Self, RecordError> {
        let bytes = bytes.into();
        let entry = Entry::parse(&bytes)?;
        let (_, data) = entry.signed_parts()?;
        let data = Data::parse(data).map_err(RecordError::DataMalformed)?;
        Ok(Self { bytes, entry, data })
    }

    /// The bytes from which this was decoded, unchanged.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The signed value as it stands in the record.
    pub fn value_bytes(&self) -> &[u8] {
        &self.data.value
    }

    /// The signed value as a content path.
    ///
    /// # Errors
    /// When it is neither a path nor a CID; the record may be valid all the same.
    pub fn value(&self) -> Result<Value, ValueError> {
        Value::from_bytes(&self.data.value)
    }

    /// The sequence, at most [`MAX_SEQUENCE`](super::MAX_SEQUENCE).
    pub fn sequence(&self) -> u64 {
        self.data.sequence
    }

    /// How long a resolver may keep the answer, if the record says.
    pub fn ttl(&self) -> Option<Duration> {
        self.data.ttl.map(Duration::from_nanos)
    }

    /// The validity as it stands in the record.
    pub fn validity_bytes(&self) -> &[u8] {
        &self.data.validity
    }

    /// Additional signed entries.
    pub fn metadata(&self) -> Metadata {
        match &self.entry.data {
            Some(bytes) if self.data.has_metadata => data::metadata(bytes),
            _ => Metadata::new(),
        }
    }

    /// Which fields the record carries.
    pub fn version(&self) -> Version {
        if self.entry.has_v1_fields() { Version::V1AndV2 } else { Version::V2Only }
    }

    /// The name of the key that the record itself carries, if any. It says nothing about who signed.
    pub fn embedded_name(&self) -> Option<Name> {
        let key = self.entry.public_key.as_ref().filter(|key| !key.is_empty())?;
        PublicKey::decode_protobuf(key).ok().map(|key| key.to_name())
    }
}

/// Two records are equal when their bytes are.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Record {}
