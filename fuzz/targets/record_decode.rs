//! A record is read as it is or not at all, and whoever only looks sees the same.
#![no_main]

use ipns_core::record::{Checks, Inspection, MAX_RECORD_BYTES, MAX_SEQUENCE, Record};
use ipns_core::{Timestamp, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decoded = Record::decode(bytes.to_vec());
    let seen = Inspection::new(bytes.to_vec(), None, &Checks::at(Timestamp::UNIX_EPOCH));
    assert_eq!(seen.size, bytes.len());
    let Ok(record) = decoded else {
        assert!(seen.error.is_some(), "what cannot be read is not valid");
        return;
    };
    assert_eq!(record.as_bytes(), bytes);
    assert!(bytes.len() <= MAX_RECORD_BYTES && record.sequence() <= MAX_SEQUENCE);
    assert_eq!(Record::decode(record.as_bytes().clone()).as_ref(), Ok(&record));

    assert_eq!(seen.sequence, Some(record.sequence()));
    assert_eq!(seen.ttl_ns.map(u128::from), record.ttl().map(|ttl| ttl.as_nanos()));
    assert_eq!(seen.value.as_deref(), Some(record.value_bytes()));
    assert_eq!(seen.validity.as_deref(), Some(record.validity_bytes()));
    assert_eq!(seen.metadata, record.metadata());
    assert_eq!(seen.name, record.embedded_name());

    if let Ok(instant) = Timestamp::parse_rfc3339(record.validity_bytes()) {
        assert_eq!(instant.to_string().parse(), Ok(instant));
    }
    if let Ok(value) = record.value() {
        assert_eq!(Value::from_bytes(value.as_str().as_bytes()), Ok(value));
    }
});
