//! The transports of a node of ours: TCP with Noise or TLS and yamux, QUIC, and names by DNS.

use std::time::Duration;

use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, SwarmBuilder, noise, quic, tcp, tls, yamux};

use crate::node::NodeError;

/// How a swarm of ours dials, and how long it keeps what is idle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) dial: Duration,
    pub(crate) idle: Duration,
    pub(crate) lazy: bool,
    pub(crate) paced: bool,
}

/// Streams that a connection may have in all; a peer that opens more loses it.
const MAX_STREAMS: usize = 256;
/// Bytes that a peer may send over QUIC before they are read, on one stream and on one connection. Answers are small.
const WINDOW: (u32, u32) = (512 << 10, 4 << 20);

/// A swarm on tokio over all transports.
pub(crate) fn swarm<B: NetworkBehaviour>(
    keypair: &Keypair,
    behaviour: B,
    timing: Timing,
) -> Result<Swarm<B>, NodeError> {
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let transports = || {
        let builder = SwarmBuilder::with_existing_identity(keypair.clone()).with_tokio().with_tcp(
            tcp::Config::new().nodelay(true),
            (noise::Config::new, tls::Config::new),
            muxer,
        );
        Ok::<_, NodeError>(builder.map_err(|error| NodeError::Security(error.to_string()))?.with_quic_config(limited))
    };
    let config = |config: libp2p::swarm::Config| {
        let config = config.with_idle_connection_timeout(timing.idle);
        let config = if timing.paced { config.with_smart_dial() } else { config };
        if timing.lazy { config.with_substream_upgrade_protocol_override(Version::V1Lazy) } else { config }
    };
    match transports()?.with_dns() {
        Ok(builder) => {
            let Ok(builder) = builder.with_behaviour(|_| behaviour);
            Ok(builder.with_swarm_config(config).with_connection_timeout(timing.dial).build())
        }
        Err(error) => {
            tracing::warn!(%error, "this system says nothing of DNS; names in addresses cannot be resolved");
            let Ok(builder) = transports()?.with_behaviour(|_| behaviour);
            Ok(builder.with_swarm_config(config).with_connection_timeout(timing.dial).build())
        }
    }
}

fn limited(mut config: quic::Config) -> quic::Config {
    config.max_concurrent_stream_limit = MAX_STREAMS as u32;
    (config.max_stream_data, config.max_connection_data) = WINDOW;
    config
}
