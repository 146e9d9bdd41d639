//! What the transports of nodes of ours have in common on all platforms, and the swarm over them.

use std::time::Duration;

use futures_util::{AsyncRead, AsyncWrite};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, core, yamux};

use crate::node::NodeError;
use crate::platform::{Platform, Transport};
use crate::security::Security;

/// How a swarm of ours dials, and how long it keeps what is idle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) dial: Duration,
    pub(crate) idle: Duration,
    pub(crate) lazy: bool,
    pub(crate) paced: bool,
}

/// Streams that a connection may have in all; a peer that opens more loses it.
pub(crate) const MAX_STREAMS: usize = 256;
/// Bytes that a peer may send over QUIC before they are read, on one stream and on one connection. Answers are small.
#[cfg(any(feature = "tokio-quic", feature = "async-io-quic"))]
pub(crate) const WINDOW: (u32, u32) = (512 << 10, 4 << 20);

/// A transport of byte streams with Noise or TLS, as the other side likes, and yamux.
pub(crate) fn secured<T>(streams: T, keypair: &Keypair) -> Result<Transport, NodeError>
where
    T: core::Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::ListenerUpgrade: Send,
    T::Dial: Send,
{
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS);
    let security = Security::new(keypair)?;
    let upgraded = streams.upgrade(Version::V1Lazy).authenticate(security).multiplex(muxer);
    Ok(upgraded.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed())
}

/// A swarm on a platform.
pub(crate) fn swarm<B: NetworkBehaviour>(
    platform: &Platform,
    keypair: &Keypair,
    behaviour: B,
    timing: Timing,
) -> Result<Swarm<B>, NodeError> {
    let transport = TransportTimeout::new(platform.transport(keypair)?, timing.dial).boxed();
    let config = platform.swarm_config().with_idle_connection_timeout(timing.idle);
    let config = if timing.paced { config.with_smart_dial() } else { config };
    let config = if timing.lazy { config.with_substream_upgrade_protocol_override(Version::V1Lazy) } else { config };
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config))
}
