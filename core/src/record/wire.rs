//! The protobuf `IpnsEntry` (IPNS record spec, "Record Serialization Format").

use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message;

use super::error::{MAX_RECORD_BYTES, RecordError};

/// The only kind of validity there is: an end of life.
pub(super) const EOL: u64 = 0;
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// What `signatureV2` signs.
pub(super) fn signed_message(data: &[u8]) -> Vec<u8> {
    [SIGNATURE_PREFIX, data].concat()
}

/// Fields have explicit presence: a zero that is written differs on the wire from one that is not.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Entry {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) value: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) signature_v1: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) validity_type: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) validity: Option<Bytes>,
    #[prost(uint64, optional, tag = "5")]
    pub(crate) sequence: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) ttl: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(crate) public_key: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub(crate) signature_v2: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(crate) data: Option<Bytes>,
}

impl Entry {
    /// Size first, so that nothing larger than a record is ever parsed. Fields share the memory of `bytes`.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge { size: bytes.len() });
        }
        Self::decode(bytes.clone()).map_err(|_| RecordError::Malformed)
    }

    /// The two fields without which there is nothing to verify: signature and signed data.
    pub(crate) fn signed_parts(&self) -> Result<(&Bytes, &Bytes), RecordError> {
        let full = |field: &'_ Option<Bytes>| field.as_ref().is_some_and(|bytes| !bytes.is_empty());
        match (&self.signature_v2, &self.data) {
            (Some(signature), Some(data)) if !signature.is_empty() && !data.is_empty() => Ok((signature, data)),
            _ if !full(&self.signature_v2) => Err(RecordError::SignatureMissing),
            _ => Err(RecordError::DataMissing),
        }
    }

    /// Whether the fields of a V1 record are there, and so must agree with the signed data.
    pub(crate) fn has_v1_fields(&self) -> bool {
        self.signature_v1.as_ref().is_some_and(|s| !s.is_empty()) || self.value.as_ref().is_some_and(|v| !v.is_empty())
    }
}
