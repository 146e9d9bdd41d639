//! Resolves a name over HTTP: `cargo run -p ipns-async-std --example resolve -- https://delegated-ipfs.dev k51…`
#![allow(clippy::print_stdout, reason = "it shows what it finds")]

use ipns_async_std::{Node, spawn};
use ipns_core::routing::{Router, http::client::Endpoint};
use ipns_store::MemoryStore;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [router, name] = [1, 2].map(|n| std::env::args().nth(n).unwrap_or_default());
    async_std::task::block_on(async {
        let node = spawn(Node::builder(MemoryStore::new()).router(Router::http(Endpoint::new(&router)?)))?;
        let found = node.resolve(name.parse()?, Default::default()).await?;
        println!("{}", found.value);
        Ok(())
    })
}
