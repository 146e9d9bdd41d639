//! IPNS records: create, encode, decode, verify, select (IPNS record spec).
//!
//! A [`Record`] is parsed, nothing more. Only a [`Verified`] one may be trusted, returned, stored or compared.

mod build;
mod data;
mod error;
mod inspect;
mod parsed;
mod select;
mod verify;
mod wire;

pub use build::{RecordBuilder, Unsigned};
pub use data::Metadata;
pub use error::{BuildError, DEFAULT_LIFETIME, DEFAULT_TTL, DataFault, MAX_RECORD_BYTES, MAX_SEQUENCE, RecordError};
pub use inspect::{Inspection, KeyFound};
pub use parsed::{Record, Version};
pub use select::{compare, select};
pub use verify::{Checks, Verified};

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::time::Timestamp;
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
        fn renewing_changes_the_end_of_life_and_nothing_else(
            sequence in 0..=MAX_SEQUENCE, ttl in 0..=MAX_SEQUENCE, v2_only: bool, note in ".{0,40}", later in 0_i64..1 << 34,
        ) {
            let mut wanted = builder(sequence);
            wanted.ttl = Duration::from_nanos(ttl);
            wanted.version = if v2_only { Version::V2Only } else { Version::V1AndV2 };
            wanted.metadata.insert("_note".into(), ipld_core::ipld::Ipld::String(note));
            let name = key(1).public_key().to_name();
            let old = Checks::at(NOW).verify_record(wanted.clone().sign(&key(1)).unwrap(), &name).unwrap();
            let renewed = old.renew(Timestamp::from_unix_secs(100 + later));
            let v2 = key(1).sign(&renewed.message_v2()).unwrap();
            let v1 = renewed.message_v1().map(|message| key(1).sign(&message).unwrap());
            let renewed = renewed.finish(v2, v1).unwrap();
            wanted.validity = Timestamp::from_unix_secs(100 + later);
            let made = wanted.sign(&key(1)).unwrap();
            prop_assert_eq!(renewed.as_bytes(), made.as_bytes());
            prop_assert!(Checks::at(NOW).verify(renewed.as_bytes().clone(), &name).is_ok());
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
