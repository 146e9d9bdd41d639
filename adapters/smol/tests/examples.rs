//! The examples, and a node over HTTP, on smol.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{Router, http::client::Endpoint};
use ipns_smol::{Handle, Node};
use ipns_store::MemoryStore;

#[path = "../examples/kad.rs"]
#[allow(dead_code, reason = "its main is for cargo run")]
mod kad;
#[path = "../../../core/tests/shelf/mod.rs"]
mod shelf;

/// Runs a test on smol, and ends what never would.
fn within<T>(test: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(Duration::from_secs(60)).await;
        panic!("it takes too long")
    };
    smol::block_on(smol::future::or(test, late))
}

#[test]
fn the_example_runs() {
    assert_eq!(within(kad::run()).unwrap(), "/ipfs/bafkqaddimvwgy3zao5xxe3debi");
}

#[test]
fn a_name_over_http() {
    let url = shelf::serve(BTreeMap::new());
    let node = || -> Handle {
        let router = Router::http(Endpoint::new(&url).unwrap());
        ipns_smol::spawn(Node::builder(MemoryStore::new()).router(router)).unwrap()
    };
    let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, [7; 32], 0).unwrap());
    within(async {
        let published = node().publish_value(&key, "/ipfs/bafkqaaa".parse().unwrap()).await.unwrap();
        let resolved = node().resolve(*published.record.name(), Default::default()).await.unwrap();
        assert_eq!((resolved.value.as_str(), resolved.cached), ("/ipfs/bafkqaaa", false));
    });
}
