//! IPNS records: create, encode, decode, verify, select (IPNS record spec).
//!
//! A [`Record`] is parsed, nothing more. Only a [`Verified`] one may be trusted, returned, stored or compared.

use core::time::Duration;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::key::{PublicKey, SignError, Signer};
use crate::name::{MAX_INLINE_KEY, Name};
use crate::time::Timestamp;
use crate::value::{Value, ValueError};

mod data;
mod inspect;
mod select;
mod verify;
mod wire;

pub use data::Metadata;
pub use inspect::{Inspection, KeyFound};
pub use select::{compare, select};
pub use verify::{Checks, Verified};

use data::Data;
use wire::Entry;

/// The largest record of the spec, in bytes.
pub const MAX_RECORD_BYTES: usize = 10_240;
/// How long a record is cached when it does not say: the spec's default TTL.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);
/// How long a record is valid unless its publisher says otherwise: Kubo's default.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// The highest sequence and, in nanoseconds, the longest TTL: other implementations keep them in an int64.
pub const MAX_SEQUENCE: u64 = data::MAX_INTEGER;

const EOL: u64 = 0;
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// Why a record is not valid. [`code`](RecordError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`MAX_RECORD_BYTES`].
    #[error("the record has {size} bytes, at most {MAX_RECORD_BYTES} are allowed")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// Not the protobuf of a record.
    #[error("not a protobuf IpnsEntry")]
    Malformed,
    /// No `signatureV2`: a V1 record, or none at all.
    #[error("signatureV2 is missing; records that have only a V1 signature are not valid any more")]
    SignatureMissing,
    /// No signed data.
    #[error("the signed data is missing")]
    DataMissing,
    /// The signed data is not what the spec asks for.
    #[error("the signed data is malformed: {0}")]
    DataMalformed(DataFault),
    /// A protobuf field differs from its signed counterpart.
    #[error("the protobuf field {0} differs from the signed one")]
    FieldMismatch(&'static str),
    /// The public key is neither in the record nor in the name.
    #[error("the public key is neither in the record nor in the name")]
    PublicKeyMissing,
    /// The embedded key is not the one that the name stands for.
    #[error("the public key in the record is not the name's")]
    PublicKeyMismatch,
    /// The public key cannot be read.
    #[error("the public key cannot be read: {0}")]
    PublicKeyMalformed(&'static str),
    /// A key of a type that is not supported.
    #[error("the public key is of an unsupported type")]
    KeyTypeUnsupported,
    /// The signature is not the key's over the data.
    #[error("signatureV2 is not the name's over this data")]
    SignatureInvalid,
    /// A kind of validity other than EOL.
    #[error("validity type {0} is unknown; only EOL (0) exists")]
    ValidityTypeUnsupported(u64),
    /// The validity is no RFC 3339 instant.
    #[error("the validity is not an RFC 3339 instant")]
    ValidityMalformed,
    /// The end of life has passed.
    #[error("the record expired at {eol}")]
    Expired {
        /// Its end of life.
        eol: Timestamp,
    },
}

impl RecordError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed => "malformed",
            Self::SignatureMissing => "signature_missing",
            Self::DataMissing => "data_missing",
            Self::DataMalformed(_) => "data_malformed",
            Self::FieldMismatch(_) => "field_mismatch",
            Self::PublicKeyMissing => "public_key_missing",
            Self::PublicKeyMismatch => "public_key_mismatch",
            Self::PublicKeyMalformed(_) => "public_key_malformed",
            Self::KeyTypeUnsupported => "key_type_unsupported",
            Self::SignatureInvalid => "signature_invalid",
            Self::ValidityTypeUnsupported(_) => "validity_type_unsupported",
            Self::ValidityMalformed => "validity_malformed",
            Self::Expired { .. } => "expired",
        }
    }
}

/// What is wrong with the signed data of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataFault {
    /// It ends in the middle of an item.
    #[error("it ends too early")]
    Truncated,
    /// It is not a map.
    #[error("it is not a map")]
    NotAMap,
    /// It breaks a rule of DAG-CBOR.
    #[error("{0}")]
    NotStrict(&'static str),
    /// A field that every record must have is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has the wrong type, or an integer is negative, fractional or at least 2^63.
    #[error("{0} has the wrong type or range")]
    WrongType(&'static str),
}

/// Why a record cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Sequence above [`MAX_SEQUENCE`].
    #[error("sequence {0} is above the highest, {MAX_SEQUENCE}")]
    Sequence(u64),
    /// TTL above what an int64 of nanoseconds holds.
    #[error("a TTL of {0:?} is above the longest, about 292 years")]
    Ttl(Duration),
    /// A metadata key that the spec uses itself.
    #[error("{0} is a field of the record, not a metadata key")]
    ReservedKey(&'static str),
    /// Metadata that DAG-CBOR cannot hold.
    #[error("the metadata cannot be written as DAG-CBOR (NaN, infinity or an integer beyond 64 bits)")]
    Metadata,
    /// The record would be larger than [`MAX_RECORD_BYTES`].
    #[error("the record would have {size} bytes, at most {MAX_RECORD_BYTES} are allowed; shorten value or metadata")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// The signer did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl BuildError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sequence(_) => "sequence_too_high",
            Self::Ttl(_) => "ttl_too_long",
            Self::ReservedKey(_) => "metadata_reserved",
            Self::Metadata => "metadata_malformed",
            Self::TooLarge { .. } => "too_large",
            Self::Sign(error) => error.code(),
        }
    }
}

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
    bytes: Bytes,
    entry: Entry,
    data: Data,
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

    /// The sequence, at most [`MAX_SEQUENCE`].
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
            .filter(|ttl| *ttl <= data::MAX_INTEGER)
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

fn signed_message(data: &[u8]) -> Vec<u8> {
    [SIGNATURE_PREFIX, data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn key(seed: u8) -> SecretKey {
        SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()
    }

    fn builder(sequence: u64) -> RecordBuilder {
        RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, Timestamp::from_unix_secs(100))
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert!(builder(MAX_SEQUENCE).sign(&key(1)).is_ok());
        assert_eq!(builder(MAX_SEQUENCE + 1).sign(&key(1)).unwrap_err(), BuildError::Sequence(MAX_SEQUENCE + 1));
        let mut long = builder(0);
        long.ttl = Duration::MAX;
        assert_eq!(long.sign(&key(1)).unwrap_err(), BuildError::Ttl(Duration::MAX));
        let mut large = builder(0);
        large.metadata.insert("_pad".into(), ipld_core::ipld::Ipld::Bytes(vec![0; MAX_RECORD_BYTES]));
        assert!(matches!(large.sign(&key(1)), Err(BuildError::TooLarge { .. })));
    }

    #[test]
    fn an_end_of_life_ends() {
        let record = builder(0).sign(&key(1)).unwrap();
        let name = key(1).public_key().to_name();
        let eol = Timestamp::from_unix_secs(100);
        let at = |at, tolerance| Checks { at, tolerance }.verify(record.as_bytes().clone(), &name);
        assert!(at(eol - Duration::from_nanos(1), Duration::ZERO).is_ok());
        assert_eq!(at(eol, Duration::ZERO), Err(RecordError::Expired { eol }));
        assert!(at(eol, Duration::from_secs(1)).is_ok());
        assert!(at(eol + Duration::from_secs(1), Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_batch_names_the_bad_one() {
        let mut batch: Vec<_> = (0..70)
            .map(|seed| (builder(0).sign(&key(seed)).unwrap().as_bytes().clone(), key(seed).public_key().to_name()))
            .collect();
        assert!(Checks::at(NOW).verify_batch(&batch).iter().all(Result::is_ok));
        batch[40].1 = batch[41].1;
        batch[50].0 = Bytes::from_static(b"\xff");
        for (index, answer) in Checks::at(NOW).verify_batch(&batch).into_iter().enumerate() {
            match index {
                40 => assert_eq!(answer, Err(RecordError::SignatureInvalid)),
                50 => assert_eq!(answer, Err(RecordError::Malformed)),
                _ => assert!(answer.is_ok(), "{index}"),
            }
        }
    }

    #[test]
    fn a_batch_of_one_bad_signature_is_refused() {
        let (a, b) = (builder(0).sign(&key(1)).unwrap(), key(2).public_key().to_name());
        let answers = Checks::at(NOW).verify_batch(&[(a.as_bytes().clone(), b)]);
        assert_eq!(answers, [Err(RecordError::SignatureInvalid)]);
    }

    #[test]
    fn inspecting_shows_what_an_invalid_record_holds() {
        let record = builder(7).sign(&key(1)).unwrap();
        let wrong = key(2).public_key().to_name();
        let found = Inspection::new(record.as_bytes().clone(), Some(&wrong), &Checks::at(NOW));
        assert_eq!(found.error, Some(RecordError::SignatureInvalid));
        assert_eq!((found.sequence, found.v1, found.expired), (Some(7), true, Some(false)));
        let nameless = Inspection::new(record.as_bytes().clone(), None, &Checks::at(NOW));
        assert_eq!(nameless.error, Some(RecordError::PublicKeyMissing));
    }

    proptest! {
        #[test]
        fn records_round_trip(sequence in 0..=MAX_SEQUENCE, ttl in 0..=MAX_SEQUENCE, v2_only: bool, seed: u8) {
            let mut wanted = builder(sequence);
            wanted.ttl = Duration::from_nanos(ttl);
            wanted.version = if v2_only { Version::V2Only } else { Version::V1AndV2 };
            let made = wanted.clone().sign(&key(seed)).unwrap();
            let read = Checks::at(NOW).verify(made.as_bytes().clone(), &key(seed).public_key().to_name()).unwrap();
            prop_assert_eq!(read.sequence(), sequence);
            prop_assert_eq!(read.ttl(), Some(wanted.ttl));
            prop_assert_eq!(read.version(), wanted.version);
            prop_assert_eq!(read.value().unwrap(), wanted.value);
            prop_assert_eq!(read.entry.encode_to_vec(), made.as_bytes().clone());
        }

        #[test]
        fn no_changed_byte_is_believed(at: prop::sample::Index, flip in 1..=255_u8) {
            let made = builder(3).sign(&key(1)).unwrap();
            let mut bytes = made.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(read) = Checks::at(NOW).verify(bytes, &key(1).public_key().to_name()) {
                // Unsigned parts may change (signatureV1, how the protobuf is laid out), what is signed may not.
                prop_assert_eq!(&read.data, &made.data);
                prop_assert_eq!(&read.entry.data, &made.entry.data);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let name = key(1).public_key().to_name();
            prop_assert!(Checks::at(NOW).verify(bytes.clone(), &name).is_err());
            let _ = Record::decode(bytes.clone());
            let _ = Inspection::new(bytes, None, &Checks::at(NOW));
        }
    }
}
