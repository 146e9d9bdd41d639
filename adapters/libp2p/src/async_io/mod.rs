//! The transports of a node of ours on any executor, without tokio: sockets and timers are those of async-io.
//!
//! ```text
//!  dns ──▶ tcp ──▶ Noise or TLS ──▶ yamux ┐       tcp and quic share `listeners`, which listens on what
//!      └─▶ quic ──────────────────────────┴─▶     `interfaces` say
//! ```

mod address;
mod dns;
mod interfaces;
mod listeners;
#[cfg(feature = "async-io-quic")]
mod quic;
mod tcp;
#[cfg(test)]
mod tests;

use libp2p::core::Transport as _;
#[cfg(feature = "async-io-quic")]
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::identity::Keypair;

use crate::node::NodeError;
pub(crate) use crate::platform::Executor;
use crate::platform::Transport;
use crate::transport::secured;
use dns::Names;

/// All transports, with names resolved as this system says.
///
/// # Errors
/// When the key is of no use for Noise or TLS.
pub(crate) fn transport(keypair: &Keypair, executor: &Executor) -> Result<Transport, NodeError> {
    assemble(keypair, executor, dns::system(executor))
}

fn assemble(keypair: &Keypair, executor: &Executor, names: Option<Names>) -> Result<Transport, NodeError> {
    Ok(dns::Transport::new(sockets(keypair, executor)?, names).boxed())
}

#[cfg(not(feature = "async-io-quic"))]
fn sockets(keypair: &Keypair, _: &Executor) -> Result<Transport, NodeError> {
    secured(tcp::Transport::default(), keypair)
}

#[cfg(feature = "async-io-quic")]
fn sockets(keypair: &Keypair, executor: &Executor) -> Result<Transport, NodeError> {
    let quic = quic::Transport::new(keypair, executor.clone())?;
    let quic = quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let tcp = secured(tcp::Transport::default(), keypair)?;
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}
