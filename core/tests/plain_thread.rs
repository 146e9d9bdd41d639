//! The example that resolves with nothing but std around the engine.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the world around core")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ipns_core::Timestamp;
use ipns_core::engine::ResolveError;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;

#[path = "../examples/plain_thread.rs"]
#[allow(dead_code, reason = "its main is for cargo run")]
mod example;
mod shelf;

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()
}

#[test]
fn a_loop_and_std_resolve() {
    let (name, other) = (key(7).public_key().to_name(), key(8).public_key().to_name());
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(3600);
    let eol = Timestamp::from_unix_secs(since.as_secs() as i64);
    let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 1, eol).sign(&key(7)).unwrap();
    // Someone else's record under a name is as good as none.
    let under = |name| (format!("/routing/v1/ipns/{name}"), record.as_bytes().to_vec());
    let url = shelf::serve(BTreeMap::from([under(name), under(other)]));
    assert_eq!(example::resolve(&url, name).unwrap(), "/ipfs/bafkqaaa");
    let code = |name| {
        let error = example::resolve(&url, name).unwrap_err();
        error.downcast_ref::<ResolveError>().unwrap().code()
    };
    assert_eq!(code(other), "invalid_record");
    assert_eq!(code(key(9).public_key().to_name()), "not_found");
}
