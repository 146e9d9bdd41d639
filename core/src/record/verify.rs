//! Verification in the order of the spec (IPNS record spec, "Record Verification").

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use core::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

use super::data::Data;
use super::error::{DEFAULT_TTL, RecordError};
use super::parsed::Record;
use super::wire::{EOL, Entry, signed_message};
use crate::key::{KeyError, PublicKey};
use crate::name::Name;
use crate::time::Timestamp;

/// A record whose signature, key and fields were verified for a name.
///
/// Verified once is verified for ever but for its end of life: ask [`is_expired`](Self::is_expired) when time has passed.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    record: Record,
    name: Name,
    eol: Timestamp,
}

impl Verified {
    #[cfg(feature = "std")]
    /// A record out of bytes that were verified for this name before; `None` for bytes that are none.
    pub(crate) fn believed(bytes: Bytes, name: &Name) -> Option<Self> {
        let record = Record::decode(bytes).ok()?;
        let eol = check_fields(&record).ok()?;
        Some(Self { record, name: *name, eol })
    }

    /// The name that signed.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The end of life.
    pub fn eol(&self) -> Timestamp {
        self.eol
    }

    /// Whether the end of life has passed at `at`.
    pub fn is_expired(&self, at: Timestamp) -> bool {
        self.eol <= at
    }

    /// How long an answer got at `at` may be kept without asking again: the TTL, but not beyond the end of life.
    pub fn fresh_for(&self, at: Timestamp) -> Duration {
        self.record.ttl().unwrap_or(DEFAULT_TTL).min(self.eol.saturating_since(at))
    }

    /// The record without the proof.
    pub fn into_record(self) -> Record {
        self.record
    }
}

impl Deref for Verified {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({}, sequence {}, until {})", self.name, self.sequence(), self.eol)
    }
}

/// When, and how tolerantly of skewed clocks, records are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// The present.
    pub at: Timestamp,
    /// How long after its end of life a record is still taken, for clocks that differ.
    pub tolerance: Duration,
}

impl Checks {
    /// At `at`, without tolerance.
    pub fn at(at: Timestamp) -> Self {
        Self { at, tolerance: Duration::ZERO }
    }

    /// Verifies the bytes of a record for a name. No name accepts a record that another key signed.
    ///
    /// # Errors
    /// The first rule, in the order of the spec, that the record breaks.
    pub fn verify(&self, bytes: impl Into<Bytes>, name: &Name) -> Result<Verified, RecordError> {
        let (record, key) = parse(bytes.into(), name)?;
        check_signature(&record, &key)?;
        self.finish(record, name)
    }

    /// Verifies a record that is already parsed.
    ///
    /// # Errors
    /// The first rule, in the order of the spec, that the record breaks.
    pub fn verify_record(&self, record: Record, name: &Name) -> Result<Verified, RecordError> {
        let key = public_key(&record.entry, name)?;
        check_signature(&record, &key)?;
        self.finish(record, name)
    }

    /// Verifies many records at once, Ed25519 signatures in one batch; answers come in the order of the input.
    ///
    /// When a batch does not verify, each of its signatures is checked alone, so that only the bad ones fail. A key
    /// whose owner crafted it for the purpose can make a signature that passes in a batch and not alone.
    pub fn verify_batch(&self, records: &[(Bytes, Name)]) -> Vec<Result<Verified, RecordError>> {
        let mut answers: Vec<_> = records.iter().map(|(bytes, name)| parse(bytes.clone(), name)).collect();
        for chunk in answers.chunks_mut(MAX_BATCH) {
            let mut batch = Batch::default();
            let taken: Vec<_> =
                chunk.iter().map(|answer| answer.as_ref().is_ok_and(|parsed| batch.take(parsed))).collect();
            let whole = batch.verifies();
            for (answer, taken) in chunk.iter_mut().zip(taken) {
                let checked = match answer {
                    Ok(_) if whole && taken => Ok(()),
                    Ok((record, key)) => check_signature(record, key),
                    Err(_) => Ok(()),
                };
                if let Err(error) = checked {
                    *answer = Err(error);
                }
            }
        }
        let names = records.iter().map(|(_, name)| name);
        answers.into_iter().zip(names).map(|(answer, name)| self.finish(answer?.0, name)).collect()
    }

    /// What follows the signature: agreement of the fields, validity.
    fn finish(&self, record: Record, name: &Name) -> Result<Verified, RecordError> {
        let eol = check_fields(&record)?;
        let verified = Verified { record, name: *name, eol };
        if verified.is_expired(self.at - self.tolerance) {
            return Err(RecordError::Expired { eol });
        }
        Ok(verified)
    }
}

/// Larger batches gain nothing more per signature.
const MAX_BATCH: usize = 256;

fn parse(bytes: Bytes, name: &Name) -> Result<(Record, PublicKey), RecordError> {
    let entry = Entry::parse(&bytes)?;
    let (_, data) = entry.signed_parts()?;
    let key = public_key(&entry, name)?;
    let data = Data::parse(data).map_err(RecordError::DataMalformed)?;
    Ok((Record { bytes, entry, data }, key))
}

/// The name's key: embedded in the record, or carried by the name. An embedded one must be the name's, always.
pub(super) fn public_key(entry: &Entry, name: &Name) -> Result<PublicKey, RecordError> {
    match entry.public_key.as_deref().filter(|key| !key.is_empty()) {
        Some(embedded) => {
            let key = decode_key(embedded)?;
            if name.is_of_key_bytes(embedded) { Ok(key) } else { Err(RecordError::PublicKeyMismatch) }
        }
        None => decode_key(name.inline_key_bytes().ok_or(RecordError::PublicKeyMissing)?),
    }
}

pub(super) fn decode_key(bytes: &[u8]) -> Result<PublicKey, RecordError> {
    PublicKey::decode_protobuf(bytes).map_err(|error| match error {
        KeyError::UnsupportedType => RecordError::KeyTypeUnsupported,
        KeyError::Malformed(why) => RecordError::PublicKeyMalformed(why),
        KeyError::RsaSize { .. } => RecordError::PublicKeyMalformed("RSA keys must have 2048 to 8192 bits"),
    })
}

pub(super) fn check_signature(record: &Record, key: &PublicKey) -> Result<(), RecordError> {
    let (signature, data) = record.entry.signed_parts()?;
    if key.verify(&signed_message(data), signature) { Ok(()) } else { Err(RecordError::SignatureInvalid) }
}

/// Ed25519 signatures that are checked in one go.
#[derive(Default)]
struct Batch {
    messages: Vec<Vec<u8>>,
    signatures: Vec<Signature>,
    keys: Vec<VerifyingKey>,
}

impl Batch {
    /// Takes a record's signature in, if it is one of Ed25519.
    fn take(&mut self, (record, key): &(Record, PublicKey)) -> bool {
        let (Ok((signature, data)), Some(key)) = (record.entry.signed_parts(), key.as_ed25519()) else {
            return false;
        };
        let Ok(signature) = Signature::from_slice(signature) else {
            return false;
        };
        self.messages.push(signed_message(data));
        self.signatures.push(signature);
        self.keys.push(*key);
        true
    }

    /// Whether all of them verify; a single one is no batch.
    fn verifies(&self) -> bool {
        let messages: Vec<&[u8]> = self.messages.iter().map(Vec::as_slice).collect();
        messages.len() > 1 && ed25519_dalek::verify_batch(&messages, &self.signatures, &self.keys).is_ok()
    }
}

/// What the signature does not say: that the V1 fields agree, and that the end of life can be read.
pub(super) fn check_fields(record: &Record) -> Result<Timestamp, RecordError> {
    let Record { entry, data, .. } = record;
    if entry.has_v1_fields() {
        compare_fields(entry, data)?;
    }
    if data.validity_type != EOL {
        return Err(RecordError::ValidityTypeUnsupported(data.validity_type));
    }
    Timestamp::parse_rfc3339(&data.validity).map_err(|_| RecordError::ValidityMalformed)
}

/// An absent field counts as zero or empty: old writers leave zeros out.
fn compare_fields(entry: &Entry, data: &Data) -> Result<(), RecordError> {
    let bytes = |field: &Option<Bytes>| field.clone().unwrap_or_default();
    let equal = [
        ("value", bytes(&entry.value) == data.value),
        ("validityType", entry.validity_type.unwrap_or(EOL) == data.validity_type),
        ("validity", bytes(&entry.validity) == data.validity),
        ("sequence", entry.sequence.unwrap_or(0) == data.sequence),
        ("ttl", entry.ttl.unwrap_or(0) == data.ttl.unwrap_or(0)),
    ];
    match equal.into_iter().find(|(_, equal)| !equal) {
        Some((field, _)) => Err(RecordError::FieldMismatch(field)),
        None => Ok(()),
    }
}
