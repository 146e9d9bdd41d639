//! IPNS on smol: tasks, timers, HTTP by isahc with rustls, and a libp2p swarm for DHTs. There is no tokio runtime below it.
//!
//! [`spawn`] starts a node whose routers are HTTP or the application's own; `spawn_with_network` (feature `dht`, on by
//! default) one that is a node of DHTs, too. All of it is what `ipns-tokio` has: another runtime is another `use` line.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use ipns_core::key::{KeyType, SecretKey, Signer};
//! use ipns_core::routing::{Router, http::client::Endpoint};
//! use ipns_store::RedbStore;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::http(Endpoint::new("https://delegated-ipfs.dev")?);
//! let node = ipns_smol::spawn(ipns_smol::Node::builder(RedbStore::open("ipns.redb")?).router(router))?;
//! let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?);
//! let published = node.publish_value(&key, "/ipfs/bafkqaaa".parse()?).await?;
//! let resolved = node.resolve(*published.record.name(), Default::default()).await?;
//! assert_eq!(resolved.value.as_str(), "/ipfs/bafkqaaa");
//! node.shutdown(std::time::Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "dht")]
mod network;

#[cfg(feature = "http")]
pub use ipns_driver::Isahc;
pub use ipns_driver::{BuildNodeError, Builder, Handle, Node, Router, Runtime, SpawnError, Stopped, Updates};
#[cfg(feature = "dht")]
pub use network::{ConnectionLimits, Limits, Listening, NodeConfig, NodeError, spawn_with_network};

use ipns_driver::{BoxFuture, HttpClient};

/// smol as a [`Runtime`]: its global executor and timers.
pub struct Smol {
    http: Box<dyn HttpClient>,
}

impl Smol {
    /// smol's global executor, whose threads `SMOL_THREADS` says.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn current() -> Result<Self, SpawnError> {
        #[cfg(feature = "http")]
        let http = Isahc::new()?;
        #[cfg(not(feature = "http"))]
        let http = ipns_driver::NoHttp;
        Ok(Self::new(http))
    }

    /// The same with an HTTP client of one's own.
    pub fn new(http: impl HttpClient + 'static) -> Self {
        Self { http: Box::new(http) }
    }
}

impl Runtime for Smol {
    fn spawn(&self, future: BoxFuture<()>) {
        smol::spawn(future).detach();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(async move {
            smol::Timer::after(duration).await;
        })
    }

    fn http(&self) -> &dyn HttpClient {
        &*self.http
    }
}

/// Starts a node on smol's global executor.
///
/// # Errors
/// When the operating system gives no thread or no randomness, or the HTTP client cannot be set up.
pub fn spawn(builder: Builder) -> Result<Handle, SpawnError> {
    Ok(builder.spawn(Arc::new(Smol::current()?))?)
}
