//! IPNS on tokio: tasks, timers, HTTP by reqwest with rustls, and a libp2p swarm for DHTs.
//!
//! [`spawn`] starts a node whose routers are HTTP or the application's own; `spawn_with_network` (feature `dht`, on by
//! default) one that is a node of DHTs, too.
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
//! let node = ipns_tokio::spawn(ipns_tokio::Node::builder(RedbStore::open("ipns.redb")?).router(router))?;
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

use tokio::runtime::Handle as TokioHandle;

#[cfg(feature = "http")]
mod http_client;
#[cfg(feature = "dht")]
mod network;

#[cfg(feature = "http")]
pub use http_client::Reqwest;
pub use ipns_driver::{BuildNodeError, Builder, Handle, Node, Router, Runtime, SpawnError, Stopped, Updates};
#[cfg(feature = "dht")]
pub use network::{ConnectionLimits, Limits, Listening, NodeConfig, NodeError, spawn_with_network};

use ipns_driver::{BoxFuture, HttpClient};

/// tokio as a [`Runtime`].
pub struct Tokio {
    tasks: TokioHandle,
    http: Box<dyn HttpClient>,
}

impl Tokio {
    /// The runtime that the caller runs in.
    ///
    /// # Errors
    /// When the TLS of the HTTP client cannot be set up.
    ///
    /// # Panics
    /// As [`tokio::runtime::Handle::current`]: outside a tokio runtime.
    pub fn current() -> Result<Self, SpawnError> {
        #[cfg(feature = "http")]
        let http = Reqwest::new().map_err(|error| SpawnError::Http(error.to_string()))?;
        #[cfg(not(feature = "http"))]
        let http = ipns_driver::NoHttp;
        Ok(Self::new(TokioHandle::current(), http))
    }

    /// A runtime and an HTTP client of one's own.
    pub fn new(tasks: TokioHandle, http: impl HttpClient + 'static) -> Self {
        Self { tasks, http: Box::new(http) }
    }
}

impl Runtime for Tokio {
    fn spawn(&self, future: BoxFuture<()>) {
        self.tasks.spawn(future);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        // A sleep is made inside the runtime, wherever it is asked for.
        let _inside = self.tasks.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn http(&self) -> &dyn HttpClient {
        &*self.http
    }
}

/// Starts a node on the tokio runtime that the caller runs in.
///
/// # Errors
/// When the operating system gives no thread or no randomness, or TLS cannot be set up.
pub fn spawn(builder: Builder) -> Result<Handle, SpawnError> {
    Ok(builder.spawn(Arc::new(Tokio::current()?))?)
}
