//! An engine's node and a network of its own, started together.

use std::sync::Arc;

use ipns_core::dht::{Multiaddr, PeerId};
use ipns_core::key::SecretKey;
use ipns_driver::{Builder, Handle, NetworkEnd, Runtime, SpawnError, link};
use libp2p::identity::Keypair;
use libp2p::swarm::StreamProtocol;

use crate::node::{NodeConfig, NodeError, node};
use crate::platform::Platform;

/// Who a node is among its peers, and where it listened when it started; what changes later it tells its peers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listening {
    /// Its id.
    pub peer: PeerId,
    /// Its addresses, with the real ports.
    pub addresses: Vec<Multiaddr>,
}

/// Starts a node with a network for its DHTs on a platform, and on a runtime that fits it. The key is who the node is
/// among its peers: its DHT routers must be configured with the key's peer id. The network ends with the node.
///
/// The adapters of runtimes call this in their `spawn_with_network`.
///
/// # Errors
/// When the key is of no use, a DHT's protocol is no protocol id, an address cannot be listened on, or the node cannot
/// be built.
pub async fn spawn_with_network(
    builder: Builder,
    config: NodeConfig,
    key: &SecretKey,
    platform: &Platform,
    runtime: Arc<dyn Runtime>,
) -> Result<(Handle, Listening), NodeError> {
    let keypair = Keypair::from_protobuf_encoding(&key.encode_protobuf())
        .map_err(|error| NodeError::Security(error.to_string()))?;
    let mut protocols = Vec::new();
    for (router, protocol) in builder.dhts() {
        let named = StreamProtocol::try_from_owned(protocol.clone());
        protocols.push((router, named.map_err(|_| NodeError::Protocol { protocol })?));
    }
    let (network, NetworkEnd { commands, events }) = link();
    let (node, life) = node(platform, config, keypair, protocols, commands, events).await?;
    let listening = Listening { peer: node.peer_id(), addresses: node.listening().to_vec() };
    let handle = builder.network(network).spawn(runtime.clone()).map_err(SpawnError::Build)?;
    runtime.spawn(Box::pin(async move {
        // It ends by itself when the node of the engine does.
        life.await;
        drop(node);
    }));
    Ok((handle, listening))
}
