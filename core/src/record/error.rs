//! The limits of records, and every way in which one can be wrong.

use core::time::Duration;

use thiserror::Error;

use crate::key::SignError;
use crate::time::Timestamp;

/// The largest record of the spec, in bytes.
pub const MAX_RECORD_BYTES: usize = 10_240;
/// How long a record is cached when it does not say: the spec's default TTL.
pub const DEFAULT_TTL: Duration = Duration::from_secs(5 * 60);
/// How long a record is valid unless its publisher says otherwise: Kubo's default.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// The highest sequence and, in nanoseconds, the longest TTL: other implementations keep them in an int64.
pub const MAX_SEQUENCE: u64 = i64::MAX as u64;

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
