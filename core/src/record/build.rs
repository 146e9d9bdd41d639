//! Making records: lay out, sign (here or elsewhere), finish.

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::data::{self, Data, Metadata};
use super::error::{BuildError, DEFAULT_TTL, MAX_RECORD_BYTES, MAX_SEQUENCE};
use super::parsed::{Record, Version};
use super::verify::Verified;
use super::wire::{EOL, Entry, signed_message};
use crate::key::{PublicKey, Signer};
use crate::name::MAX_INLINE_KEY;
use crate::time::Timestamp;
use crate::value::Value;

/// A record to be made.
///
/// ```
/// use ipns_core::key::{KeyType, SecretKey, Signer};
/// use ipns_core::record::{Checks, RecordBuilder};
///
/// let key = SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?;
/// let now = "2026-11-23T10:00:00Z".parse()?;
/// let record = RecordBuilder::new("/ipfs/bafkqaaa".parse()?, 1, "2026-11-25T10:00:00Z".parse()?).sign(&key)?;
/// let verified = Checks::at(now).verify(record.as_bytes().clone(), &key.public_key().to_name())?;
/// assert_eq!(verified.sequence(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecordBuilder {
    /// What the name points at.
    pub value: Value,
    /// The sequence, at most [`MAX_SEQUENCE`].
    pub sequence: u64,
    /// The end of life.
    pub validity: Timestamp,
    /// How long resolvers may keep the answer; [`DEFAULT_TTL`] unless set.
    pub ttl: Duration,
    /// Which fields to write.
    pub version: Version,
    /// Additional signed entries; by convention their keys begin with `_`.
    pub metadata: Metadata,
}

impl RecordBuilder {
    /// A record of the default TTL and version without metadata.
    pub fn new(value: Value, sequence: u64, validity: Timestamp) -> Self {
        Self { value, sequence, validity, ttl: DEFAULT_TTL, version: Version::default(), metadata: Metadata::new() }
    }

    /// Lays the record out for a key that signs elsewhere.
    ///
    /// # Errors
    /// When a number is out of range, the metadata is not encodable or the record is certainly too large.
    pub fn prepare(self, key: &PublicKey) -> Result<Unsigned, BuildError> {
        if self.sequence > MAX_SEQUENCE {
            return Err(BuildError::Sequence(self.sequence));
        }
        let ttl = u64::try_from(self.ttl.as_nanos())
            .ok()
            .filter(|ttl| *ttl <= MAX_SEQUENCE)
            .ok_or(BuildError::Ttl(self.ttl))?;
        let data = Data {
            value: self.value.as_str().to_owned().into(),
            validity: self.validity.to_string().into(),
            validity_type: EOL,
            sequence: self.sequence,
            ttl: Some(ttl),
            has_metadata: !self.metadata.is_empty(),
        };
        let mut entry = Entry { data: Some(data::encode(&data, &self.metadata)?.into()), ..Entry::default() };
        if self.version == Version::V1AndV2 {
            entry.value = Some(data.value.clone());
            entry.validity_type = Some(data.validity_type);
            entry.validity = Some(data.validity.clone());
            entry.sequence = Some(data.sequence);
            entry.ttl = data.ttl;
        }
        let public_key = key.encode_protobuf();
        if public_key.len() > MAX_INLINE_KEY {
            entry.public_key = Some(public_key.into());
        }
        let size = entry.encoded_len();
        if size > MAX_RECORD_BYTES {
            return Err(BuildError::TooLarge { size });
        }
        Ok(Unsigned { entry, data, version: self.version })
    }

    /// Makes the record with a key that signs here and now.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and when the signer refuses.
    pub fn sign(self, signer: &dyn Signer) -> Result<Record, BuildError> {
        let unsigned = self.prepare(&signer.public_key())?;
        let v2 = signer.sign(&unsigned.message_v2())?;
        let v1 = unsigned.message_v1().map(|message| signer.sign(&message)).transpose()?;
        unsigned.finish(v2, v1)
    }
}

impl Verified {
    /// The same record with another end of life, to be signed anew: nothing else of it changes, not even the sequence,
    /// so that it is newer only as far as it lives longer.
    pub fn renew(&self, validity: Timestamp) -> Unsigned {
        let validity: Bytes = validity.to_string().into();
        let data = Data { validity: validity.clone(), ..self.data.clone() };
        let mut entry = Entry { signature_v1: None, signature_v2: None, ..self.entry.clone() };
        // What was verified has data, and in it a validity: to replace it cannot fail.
        let renewed = entry.data.as_ref().and_then(|bytes| data::with_validity(bytes, &validity));
        entry.data = renewed.map(Bytes::from);
        entry.validity = entry.validity.map(|_| validity);
        Unsigned { entry, data, version: self.version() }
    }
}

/// A record that lacks only its signatures.
#[derive(Debug, Clone)]
pub struct Unsigned {
    entry: Entry,
    data: Data,
    version: Version,
}

impl Unsigned {
    /// What `signatureV2` signs: `ipns-signature:` and the data.
    pub fn message_v2(&self) -> Vec<u8> {
        signed_message(self.entry.data.as_deref().unwrap_or_default())
    }

    /// What `signatureV1` signs, unless the record is V2 only: value, validity and `EOL`.
    pub fn message_v1(&self) -> Option<Vec<u8>> {
        (self.version == Version::V1AndV2).then(|| [&self.data.value[..], &self.data.validity, b"EOL"].concat())
    }

    /// The record with its signatures, which are not verified here.
    ///
    /// # Errors
    /// When the signatures make the record too large.
    pub fn finish(mut self, v2: Vec<u8>, v1: Option<Vec<u8>>) -> Result<Record, BuildError> {
        self.entry.signature_v2 = Some(v2.into());
        self.entry.signature_v1 = v1.map(Bytes::from);
        let size = self.entry.encoded_len();
        if size > MAX_RECORD_BYTES {
            return Err(BuildError::TooLarge { size });
        }
        let bytes = self.entry.encode_to_vec().into();
        Ok(Record { bytes, entry: self.entry, data: self.data })
    }
}
