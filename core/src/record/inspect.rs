//! Looking into a record without trusting it: everything that can be decoded, and the first rule that it breaks.

use bytes::Bytes;

use super::data::{self, Data, Metadata};
use super::error::RecordError;
use super::parsed::Record;
use super::verify::{Checks, check_fields, check_signature, decode_key, public_key};
use super::wire::Entry;
use crate::key::KeyType;
use crate::name::Name;
use crate::time::Timestamp;

/// What could be read of a record, valid or not.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The first rule of the spec that the record breaks; `None` when it is valid.
    pub error: Option<RecordError>,
    /// The name it was verified against: the one given, or that of the embedded key.
    pub name: Option<Name>,
    /// The value as it stands in the record.
    pub value: Option<Bytes>,
    /// The sequence.
    pub sequence: Option<u64>,
    /// The TTL in nanoseconds.
    pub ttl_ns: Option<u64>,
    /// The validity as it stands in the record.
    pub validity: Option<Bytes>,
    /// The kind of validity; 0 is EOL.
    pub validity_type: Option<u64>,
    /// Whether the end of life has passed, if it can be read.
    pub expired: Option<bool>,
    /// The size in bytes.
    pub size: usize,
    /// Whether a V1 signature is there.
    pub v1: bool,
    /// The public key, if one was found and can be read.
    pub public_key: Option<KeyFound>,
    /// Additional signed entries.
    pub metadata: Metadata,
}

/// The public key of an inspected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFound {
    /// Its type.
    pub kind: KeyType,
    /// Whether the record itself carries it, rather than the name.
    pub embedded: bool,
}

impl Inspection {
    /// Inspects `bytes`. Without a name, the name is that of the embedded key, which proves only that the record is
    /// consistent in itself. Never fails: what is wrong stands in [`error`](Self::error).
    pub fn new(bytes: impl Into<Bytes>, name: Option<&Name>, checks: &Checks) -> Self {
        let bytes = bytes.into();
        let mut found = Self {
            error: None,
            name: name.copied(),
            value: None,
            sequence: None,
            ttl_ns: None,
            validity: None,
            validity_type: None,
            expired: None,
            size: bytes.len(),
            v1: false,
            public_key: None,
            metadata: Metadata::new(),
        };
        found.error = found.look(bytes, checks).err();
        found
    }

    fn look(&mut self, bytes: Bytes, checks: &Checks) -> Result<(), RecordError> {
        let entry = Entry::parse(&bytes)?;
        self.v1 = entry.signature_v1.as_ref().is_some_and(|signature| !signature.is_empty());
        let embedded = entry.public_key.as_deref().filter(|key| !key.is_empty());
        if self.name.is_none() {
            self.name = embedded.and_then(|key| decode_key(key).ok()).map(|key| key.to_name());
        }
        // A foreign embedded key is shown too: it is what the record carries.
        let shown = embedded.or(self.name.as_ref().and_then(Name::inline_key_bytes));
        self.public_key = shown
            .and_then(|key| decode_key(key).ok())
            .map(|key| KeyFound { kind: key.key_type(), embedded: embedded.is_some() });
        let data = entry.data.as_ref().filter(|data| !data.is_empty()).map(Data::parse);
        match &data {
            Some(Ok(data)) => self.show_signed(data, &entry, checks),
            _ => self.show_unsigned(&entry, checks),
        }

        entry.signed_parts()?;
        let key = match (&self.name, embedded) {
            (Some(name), _) => public_key(&entry, name)?,
            (None, Some(embedded)) => decode_key(embedded)?,
            (None, None) => return Err(RecordError::PublicKeyMissing),
        };
        let data = data.ok_or(RecordError::DataMissing)?.map_err(RecordError::DataMalformed)?;
        let record = Record { bytes, entry, data };
        check_signature(&record, &key)?;
        let eol = check_fields(&record)?;
        if self.expired == Some(true) { Err(RecordError::Expired { eol }) } else { Ok(()) }
    }

    fn show_signed(&mut self, data: &Data, entry: &Entry, checks: &Checks) {
        self.value = Some(data.value.clone());
        self.sequence = Some(data.sequence);
        self.ttl_ns = data.ttl;
        self.validity_type = Some(data.validity_type);
        self.show_validity(Some(&data.validity), checks);
        if let Some(bytes) = &entry.data {
            self.metadata = data::metadata(bytes);
        }
    }

    fn show_unsigned(&mut self, entry: &Entry, checks: &Checks) {
        self.value = entry.value.clone();
        self.sequence = entry.sequence;
        self.ttl_ns = entry.ttl;
        self.validity_type = entry.validity_type;
        self.show_validity(entry.validity.as_ref(), checks);
    }

    fn show_validity(&mut self, validity: Option<&Bytes>, checks: &Checks) {
        self.validity = validity.cloned();
        let eol = validity.and_then(|text| Timestamp::parse_rfc3339(text).ok());
        self.expired = eol.map(|eol| eol <= checks.at - checks.tolerance);
    }
}
