//! The transport of nodes on tokio: libp2p's own.

use libp2p::core::Transport as _;
#[cfg(feature = "tokio-quic")]
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::identity::Keypair;
use libp2p::{dns, tcp};

use crate::node::NodeError;
use crate::platform::Transport;
use crate::transport::secured;

/// TCP, QUIC, and names by the system's DNS.
pub(crate) fn transport(keypair: &Keypair) -> Result<Transport, NodeError> {
    match dns::tokio::Transport::system(sockets(keypair)?) {
        Ok(transport) => Ok(transport.boxed()),
        Err(error) => {
            tracing::warn!(%error, "this system says nothing of DNS; names in addresses cannot be resolved");
            sockets(keypair)
        }
    }
}

#[cfg(not(feature = "tokio-quic"))]
fn sockets(keypair: &Keypair) -> Result<Transport, NodeError> {
    secured(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)), keypair)
}

#[cfg(feature = "tokio-quic")]
fn sockets(keypair: &Keypair) -> Result<Transport, NodeError> {
    use crate::transport::{MAX_STREAMS, WINDOW};

    let mut config = libp2p::quic::Config::new(keypair);
    config.max_concurrent_stream_limit = MAX_STREAMS as u32;
    (config.max_stream_data, config.max_connection_data) = WINDOW;
    let quic = libp2p::quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let tcp = secured(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)), keypair)?;
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}
