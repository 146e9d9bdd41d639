//! Two applications that run `kad::Behaviour` in their swarms already. A bridge makes each kad a router of an IPNS node:
//! one publishes, the other resolves.
//!
//! ```sh
//! cargo run -p ipns-libp2p --features kad --example bridge
//! ```
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router as Settings;
use ipns_libp2p::{Bridge, BridgeConfig, bridge};
use ipns_store::MemoryStore;
use ipns_tokio::{Handle, Node};
use libp2p::kad::store::MemoryStore as Records;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, kad, noise, tcp, yamux};

#[derive(NetworkBehaviour)]
struct Mine {
    identify: identify::Behaviour,
    kad: kad::Behaviour<Records>,
}

/// A swarm such as the application has it.
async fn swarm() -> Result<(Swarm<Mine>, Multiaddr), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let peer = key.public().to_peer_id();
            let mut kad = kad::Behaviour::new(peer, Records::new(peer));
            kad.set_mode(Some(kad::Mode::Server));
            let identify = identify::Behaviour::new(identify::Config::new("example/1".into(), key.public()));
            Mine { identify, kad }
        })?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Ok((swarm, address));
        }
    }
}

/// The application's loop, with three lines more than before.
async fn drive(mut swarm: Swarm<Mine>, mut bridge: Bridge) {
    loop {
        tokio::select! {
            task = bridge.next() => bridge.begin(&mut swarm.behaviour_mut().kad, task),
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(MineEvent::Kad(event)) = event
                    && let Some(_own) = bridge.on_event(&mut swarm.behaviour_mut().kad, event)
                {
                    // What the application does with its own queries and events of kad.
                }
            }
        }
    }
}

/// A node whose only router is the kad of a swarm that knows one other peer.
fn node(mut swarm: Swarm<Mine>, peer: PeerId, at: Multiaddr) -> Result<Handle, Box<dyn Error>> {
    swarm.behaviour_mut().kad.add_address(&peer, at);
    let (router, bridge) = bridge(BridgeConfig::default());
    tokio::spawn(drive(swarm, bridge));
    let settings = Settings { timeout: Duration::from_secs(60), ..Settings::custom("kad") };
    Ok(ipns_tokio::spawn(Node::builder(MemoryStore::new()).custom_router(settings, Arc::new(router)))?)
}

/// Publishes over one swarm, resolves over the other, and says what was resolved.
pub(crate) async fn run() -> Result<String, Box<dyn Error>> {
    let ((alice, at_alice), (bob, at_bob)) = (swarm().await?, swarm().await?);
    let (alice_id, bob_id) = (*alice.local_peer_id(), *bob.local_peer_id());
    let (alice, bob) = (node(alice, bob_id, at_bob)?, node(bob, alice_id, at_alice)?);

    // A key for this example; one of yours is made from randomness, and kept.
    let key: Arc<dyn Signer> = Arc::new(SecretKey::generate(KeyType::Ed25519, [7; 32], 0)?);
    let published = alice.publish_value(&key, "/ipfs/bafkqaddimvwgy3zao5xxe3debi".parse()?).await?;
    for receipt in &published.receipts {
        println!("{}: {:?} in {:?}", receipt.label, receipt.outcome, receipt.elapsed);
    }
    let resolved = bob.resolve(*published.record.name(), Default::default()).await?;
    println!("{} is {}", published.record.name(), resolved.value);
    Ok(resolved.value.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await.map(drop)
}
