//! An executor of one's own, here one thread that drives an `async_executor::Executor`: what a node needs of it is the 15
//! lines of `impl Runtime`. One node publishes, another resolves, over an HTTP router or, without one, over a router that
//! is a shelf in memory.
//!
//! ```sh
//! cargo run -p ipns-driver --features isahc --example own_executor [http://127.0.0.1:8190]
//! ```
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::BTreeMap;
use std::error::Error;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Timer, block_on};
use bytes::Bytes;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{RouteError, Router as Settings, Tally, http::client::Endpoint};
use ipns_core::{Name, Verified};
use ipns_driver::{BoxFuture, Found, Handle, HttpClient, Isahc, Node, Router, Runtime};
use ipns_store::MemoryStore;

struct Own {
    executor: Arc<Executor<'static>>,
    http: Isahc,
}

impl Runtime for Own {
    fn spawn(&self, future: BoxFuture<()>) {
        self.executor.spawn(future).detach();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(async move {
            Timer::after(duration).await;
        })
    }

    fn http(&self) -> &dyn HttpClient {
        &self.http
    }
}

/// A router that is no more than a map. Nodes verify what they get, so that it need not.
#[derive(Default)]
struct Shelf(Mutex<BTreeMap<Name, Bytes>>);

impl Router for Shelf {
    fn get(&self, name: Name, found: Found) -> BoxFuture<Result<Tally, RouteError>> {
        if let Some(record) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            found.record(record.clone());
        }
        Box::pin(ready(Ok(Tally::ONE)))
    }

    fn put(&self, record: Verified) -> BoxFuture<Result<Tally, RouteError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*record.name(), record.as_bytes().clone());
        Box::pin(ready(Ok(Tally::ONE)))
    }
}

/// Publishes from one node, resolves from another, and says what was resolved.
pub(crate) fn run(router: Option<&str>) -> Result<String, Box<dyn Error>> {
    let executor = Arc::new(Executor::new());
    let runtime = Arc::new(Own { executor: executor.clone(), http: Isahc::new()? });
    thread::spawn(move || block_on(executor.run(pending::<()>())));

    let shelf = Arc::new(Shelf::default());
    let node = || -> Result<Handle, Box<dyn Error>> {
        let builder = Node::builder(MemoryStore::new());
        let builder = match router {
            Some(url) => builder.router(Settings::http(Endpoint::new(url)?)),
            None => builder.custom_router(Settings::custom("shelf"), shelf.clone()),
        };
        Ok(builder.spawn(runtime.clone())?)
    };
    let (alice, bob) = (node()?, node()?);

    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, seed, 0)?);
    // What handles give are plain futures: they may be awaited on any thread, and under any executor.
    let published = block_on(alice.publish_value(&key, "/ipfs/bafkqaddimvwgy3zao5xxe3debi".parse()?))?;
    for receipt in &published.receipts {
        println!("{}: {:?} in {:?}", receipt.label, receipt.outcome, receipt.elapsed);
    }
    let resolved = block_on(bob.resolve(*published.record.name(), Default::default()))?;
    println!("{} is {}", published.record.name(), resolved.value);
    Ok(resolved.value.to_string())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(std::env::args().nth(1).as_deref()).map(drop)
}
