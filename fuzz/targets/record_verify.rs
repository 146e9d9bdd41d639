//! A verified record is the name's and nobody else's, and every way to verify says the same.
//!
//! The input is the length of a multihash, the multihash of a name, and a record for it.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, Inspection, RecordError, compare};
use ipns_core::{Name, Timestamp, Verified};
use libfuzzer_sys::fuzz_target;
use wire::number;

// The file alone: with the crate around it, everything that the tests need would be built for fuzzing.
#[path = "../../tests/src/wire.rs"]
#[allow(dead_code, reason = "only some of it is needed here")]
mod wire;

static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::generate(KeyType::Ed25519, [7; 32], 0).unwrap());
static OWN: LazyLock<Name> = LazyLock::new(|| KEY.public_key().to_name());

fuzz_target!(|input: &[u8]| {
    let Some((&size, rest)) = input.split_first() else { return };
    let Some((hash, record)) = rest.split_at_checked(size.into()) else { return };
    let Ok(name) = Name::from_bytes(hash) else { return };
    if verify(record, &name).is_some() && name != *OWN {
        assert!(verify(record, &OWN).is_none(), "a record is one name's");
    }
    // Random changes never have a right signature: with one, what comes after it is reached too.
    if let Some(record) = signed(record)
        && let Some(verified) = verify(&record, &OWN)
    {
        fields_agree(&verified);
    }
});

fn verify(bytes: &[u8], name: &Name) -> Option<Verified> {
    let checks = Checks::at("2026-06-01T00:00:00Z".parse().unwrap());
    let alone = checks.verify(bytes.to_vec(), name);
    assert_eq!(Inspection::new(bytes.to_vec(), Some(name), &checks).error.as_ref(), alone.as_ref().err());
    let twice = checks.verify_batch(&[(bytes.to_vec().into(), *name), (bytes.to_vec().into(), *name)]);
    if alone != Err(RecordError::SignatureInvalid) {
        // A crafted signature may pass in a batch only; whatever passes alone passes in one.
        assert!(twice.iter().all(|one| *one == alone), "{twice:?} {alone:?}");
    }

    let verified = alone.ok()?;
    assert_eq!((verified.name(), &verified.as_bytes()[..]), (name, bytes));
    assert!(!verified.is_expired(checks.at) && verified.eol() > checks.at);
    assert!(compare(&verified, &verified).is_eq());
    let late = Checks::at(verified.eol());
    assert_eq!(late.verify(bytes.to_vec(), name), Err(RecordError::Expired { eol: verified.eol() }));
    if verified.eol() < Timestamp::MAX {
        let tolerant = Checks { tolerance: Duration::from_secs(1), ..late };
        assert_eq!(tolerant.verify(bytes.to_vec(), name).as_ref(), Ok(&verified));
    }
    Some(verified)
}

/// The record signed by our own key.
fn signed(record: &[u8]) -> Option<Vec<u8>> {
    let data = wire::content(record, number::DATA)?;
    let signature = KEY.sign(&[b"ipns-signature:", data].concat()).ok()?;
    let unsigned = wire::with(record, number::PUBLIC_KEY, None);
    Some(wire::with(&unsigned, number::SIGNATURE_V2, Some(&signature)))
}

/// What stands beside the signed data for old readers is the same.
fn fields_agree(record: &Verified) {
    let bytes = record.as_bytes();
    let beside = |number| wire::content(bytes, number).unwrap_or_default();
    if !beside(number::SIGNATURE_V1).is_empty() || !beside(number::VALUE).is_empty() {
        assert_eq!(beside(number::VALUE), record.value_bytes());
        assert_eq!(beside(number::VALIDITY), record.validity_bytes());
    }
}
