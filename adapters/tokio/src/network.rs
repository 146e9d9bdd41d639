//! The network of a node's DHTs: a libp2p swarm of our own on tokio.

use std::sync::Arc;

use ipns_core::dht::{Multiaddr, PeerId};
use ipns_core::key::SecretKey;
use ipns_driver::{Builder, Handle, NetworkEnd, link};
pub use ipns_libp2p::{ConnectionLimits, Limits, NodeConfig, NodeError};
use libp2p_identity::Keypair;

use crate::{SpawnError, Tokio};

/// Who a node is among its peers, and where it listened when it started; what changes later it tells its peers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listening {
    /// Its id.
    pub peer: PeerId,
    /// Its addresses, with the real ports.
    pub addresses: Vec<Multiaddr>,
}

/// Starts a node with a network for its DHTs on the tokio runtime that the caller runs in. The key is who the node is
/// among its peers: its DHT routers must be configured with the key's peer id. The network ends with the node.
///
/// ```no_run
/// use ipns_core::dht;
/// use ipns_core::key::{KeyType, SecretKey, Signer};
/// use ipns_core::routing::Router;
/// use ipns_store::RedbStore;
/// use ipns_tokio::{Node, NodeConfig};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?;
/// let amino = dht::Config { seeds: dht::public_bootstrap(), ..dht::Config::public(peer.public_key().to_name().to_peer_id()) };
/// let builder = Node::builder(RedbStore::open("ipns.redb")?).router(Router::dht("dht", amino));
/// let listen = vec!["/ip4/0.0.0.0/udp/4009/quic-v1".parse()?];
/// let (node, listening) = ipns_tokio::spawn_with_network(builder, NodeConfig { listen, ..NodeConfig::default() }, &peer).await?;
/// # let _ = (node, listening); Ok(())
/// # }
/// ```
///
/// # Errors
/// When the key is of no use, a DHT's protocol is no protocol id, an address cannot be listened on, or what
/// [`spawn`](crate::spawn) needs is not there.
pub async fn spawn_with_network(
    builder: Builder,
    config: NodeConfig,
    key: &SecretKey,
) -> Result<(Handle, Listening), SpawnError> {
    let keypair = Keypair::from_protobuf_encoding(&key.encode_protobuf())
        .map_err(|error| SpawnError::Network(NodeError::Security(error.to_string())))?;
    let mut protocols = Vec::new();
    for (router, protocol) in builder.dhts() {
        let named = libp2p_swarm::StreamProtocol::try_from_owned(protocol.clone());
        protocols.push((router, named.map_err(|_| SpawnError::Protocol { protocol })?));
    }
    let (network, NetworkEnd { commands, events }) = link();
    let (node, life) = ipns_libp2p::node(config, keypair, protocols, commands, events).await?;
    let listening = Listening { peer: node.peer_id(), addresses: node.listening().to_vec() };
    let runtime = Tokio::current()?;
    let handle = builder.network(network).spawn(Arc::new(runtime))?;
    tokio::spawn(async move {
        // It ends by itself when the node of the engine does.
        life.await;
        drop(node);
    });
    Ok((handle, listening))
}
