//! What a store holds is read as it was written, whatever else is in the file.
#![no_main]

use core::fmt::Debug;

use ipns_core::Timestamp;
use ipns_core::engine::{StoredFollowed, StoredOwn, StoredQueued, StoredRecord};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Some(entry) = StoredRecord::from_bytes(bytes) {
        assert!(!entry.record.is_empty());
        assert!((Timestamp::MIN..=Timestamp::MAX).contains(&entry.received()));
        written(&entry, StoredRecord::from_bytes);
    }
    if let Some(entry) = StoredOwn::from_bytes(bytes) {
        assert!(!entry.record.is_empty());
        assert_eq!(entry.lifetime().as_nanos(), u128::from(entry.lifetime_ns));
        written(&entry, StoredOwn::from_bytes);
    }
    if let Some(entry) = StoredFollowed::from_bytes(bytes) {
        written(&entry, StoredFollowed::from_bytes);
    }
    if let Some(entry) = StoredQueued::from_bytes(bytes) {
        assert!(!entry.record.is_empty());
        written(&entry, StoredQueued::from_bytes);
    }
});

fn written<T: Message + PartialEq + Debug>(entry: &T, read: impl Fn(&[u8]) -> Option<T>) {
    let bytes = entry.encode_to_vec();
    let again = read(&bytes);
    assert_eq!(again.as_ref(), Some(entry));
    assert_eq!(again.map(|entry| entry.encode_to_vec()), Some(bytes));
}
