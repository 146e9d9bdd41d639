//! The network of a node's DHTs: a libp2p swarm of our own on smol.

use std::sync::Arc;

use ipns_core::key::SecretKey;
use ipns_driver::{Builder, Handle};
use ipns_libp2p::Platform;
pub use ipns_libp2p::{ConnectionLimits, Limits, Listening, NodeConfig, NodeError};

use crate::Smol;

/// Starts a node with a network for its DHTs on smol's global executor. The key is who the node is among its peers: its DHT routers
/// must be configured with the key's peer id. The network ends with the node.
///
/// ```no_run
/// use ipns_core::dht;
/// use ipns_core::key::{KeyType, SecretKey, Signer};
/// use ipns_core::routing::Router;
/// use ipns_smol::{Node, NodeConfig};
/// use ipns_store::RedbStore;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?;
/// let amino = dht::Config { seeds: dht::public_bootstrap(), ..dht::Config::public(peer.public_key().to_name().to_peer_id()) };
/// let builder = Node::builder(RedbStore::open("ipns.redb")?).router(Router::dht("dht", amino));
/// let listen = vec!["/ip4/0.0.0.0/udp/4009/quic-v1".parse()?];
/// let (node, listening) = ipns_smol::spawn_with_network(builder, NodeConfig { listen, ..NodeConfig::default() }, &peer).await?;
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
) -> Result<(Handle, Listening), NodeError> {
    let platform = Platform::async_io(|task| smol::spawn(task).detach());
    ipns_libp2p::spawn_with_network(builder, config, key, &platform, Arc::new(Smol::current()?)).await
}
