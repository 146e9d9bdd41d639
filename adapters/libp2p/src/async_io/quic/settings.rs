//! How endpoints talk, and on what they run.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::tls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncTimer, AsyncUdpSocket, IdleTimeout, Runtime, SmolRuntime, VarInt};
use ring::hmac;

use crate::node::NodeError;
use crate::platform::Executor;
use crate::transport::{MAX_STREAMS, WINDOW};

/// A connection of which nothing is heard for so long, in milliseconds, is over.
const MAX_IDLE: u32 = 10_000;
/// A connection that has been quiet for so long says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The version of RFC 9000.
const VERSION: u32 = 1;

/// The settings of all endpoints of a transport.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: quinn::EndpointConfig,
    pub(crate) server: quinn::ServerConfig,
    pub(crate) client: quinn::ClientConfig,
}

impl Settings {
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, NodeError> {
        let transport = Arc::new(transport());
        let tls = tls::make_server_config(keypair).map_err(unusable)?;
        let tls = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(transport.clone());
        // The swarm knows a connection by its address.
        server.migration(false);
        let tls = tls::make_client_config(keypair, None).map_err(unusable)?;
        let tls = QuicClientConfig::try_from(tls).map_err(unusable)?;
        let mut client = quinn::ClientConfig::new(Arc::new(tls));
        client.transport_config(transport);
        // With a key that survives a restart, peers learn at once that connections of before are gone.
        let mut endpoint = match keypair.derive_secret(b"ipns quic stateless reset") {
            Some(secret) => quinn::EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret))),
            None => quinn::EndpointConfig::default(),
        };
        endpoint.supported_versions(vec![VERSION]);
        Ok(Self { endpoint, server, client })
    }
}

fn unusable(error: impl fmt::Display) -> NodeError {
    NodeError::Security(error.to_string())
}

fn transport() -> quinn::TransportConfig {
    let (stream, connection) = WINDOW;
    let mut config = quinn::TransportConfig::default();
    config
        // libp2p has streams of two directions, and nothing else.
        .max_concurrent_uni_streams(0u32.into())
        .max_concurrent_bidi_streams((MAX_STREAMS as u32).into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(MAX_IDLE))))
        .allow_spin(false)
        .stream_receive_window(stream.into())
        .receive_window(connection.into());
    config
}

/// Sockets and timers of async-io, tasks where the caller wants them.
pub(crate) struct OnExecutor(pub(crate) Executor);

impl fmt::Debug for OnExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnExecutor").finish_non_exhaustive()
    }
}

impl Runtime for OnExecutor {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        SmolRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (self.0)(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        SmolRuntime.wrap_udp_socket(socket)
    }
}
