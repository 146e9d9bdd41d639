//! Whose sockets a network uses, and who runs its tasks.

#[cfg(feature = "async-io")]
use std::sync::Arc;

#[cfg(feature = "async-io")]
use futures_util::future::BoxFuture;
use libp2p::PeerId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::identity::Keypair;
use libp2p::swarm;

use crate::node::NodeError;

/// A transport of a swarm: encrypted, multiplexed, of a peer that is known.
pub type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// What runs the tasks of a network that is not on tokio.
#[cfg(feature = "async-io")]
pub(crate) type Executor = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Whose sockets a network uses, and who runs its tasks: tokio, or any executor beside the reactor of async-io, which is
/// that of smol and async-std.
#[derive(Clone)]
pub struct Platform(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "tokio")]
    Tokio,
    #[cfg(feature = "async-io")]
    AsyncIo(Executor),
}

impl Platform {
    /// The tokio runtime in which the network is started and run.
    #[cfg(feature = "tokio")]
    pub fn tokio() -> Self {
        Self(Kind::Tokio)
    }

    /// Sockets and timers of async-io; `spawn` runs a future to its end, in the background.
    #[cfg(feature = "async-io")]
    pub fn async_io(spawn: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self(Kind::AsyncIo(Arc::new(spawn)))
    }

    /// A transport such as nodes of ours have it, for a swarm of one's own: TCP with Noise or TLS and yamux, QUIC where
    /// that feature is on, and names by DNS.
    ///
    /// # Errors
    /// When Noise or TLS cannot be set up with the key.
    pub fn transport(&self, keypair: &Keypair) -> Result<Transport, NodeError> {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Kind::Tokio => crate::tokio::transport(keypair),
            #[cfg(feature = "async-io")]
            Kind::AsyncIo(executor) => crate::async_io::transport(keypair, executor),
        }
    }

    /// The configuration of a swarm whose tasks run there.
    pub fn swarm_config(&self) -> swarm::Config {
        match &self.0 {
            #[cfg(feature = "tokio")]
            Kind::Tokio => swarm::Config::with_tokio_executor(),
            #[cfg(feature = "async-io")]
            Kind::AsyncIo(executor) => {
                let executor = executor.clone();
                swarm::Config::with_executor(move |task| executor(task))
            }
        }
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            #[cfg(feature = "tokio")]
            Kind::Tokio => "Platform::Tokio",
            #[cfg(feature = "async-io")]
            Kind::AsyncIo(_) => "Platform::AsyncIo",
        })
    }
}
