//! Two applications on smol that run `kad::Behaviour` in their swarms already. A bridge makes each kad a router of an
//! IPNS node: one publishes, the other resolves, and no tokio runs.
//!
//! ```sh
//! cargo run -p ipns-smol --example kad
//! ```
#![allow(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router as Settings;
use ipns_libp2p::{Bridge, BridgeConfig, Platform, bridge};
use ipns_smol::{Handle, Node};
use ipns_store::MemoryStore;
use libp2p::futures::{StreamExt, future::Either};
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore as Records;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, kad};

#[derive(NetworkBehaviour)]
struct Mine {
    identify: identify::Behaviour,
    kad: kad::Behaviour<Records>,
}

/// A swarm such as the application has it, on sockets and tasks of smol.
async fn swarm() -> Result<(Swarm<Mine>, Multiaddr), Box<dyn Error>> {
    let platform = Platform::async_io(|task| smol::spawn(task).detach());
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let mut kad = kad::Behaviour::new(peer, Records::new(peer));
    kad.set_mode(Some(kad::Mode::Server));
    let identify = identify::Behaviour::new(identify::Config::new("example/1".into(), keypair.public()));
    let mine = Mine { identify, kad };
    let mut swarm = Swarm::new(platform.transport(&keypair)?, mine, peer, platform.swarm_config());
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Ok((swarm, address));
        }
    }
}

/// The application's loop, which looks after the bridge, too.
async fn drive(mut swarm: Swarm<Mine>, mut bridge: Bridge) {
    loop {
        let wanted = async { Either::Left(bridge.next().await) };
        let happened = async { Either::Right(swarm.select_next_some().await) };
        match smol::future::race(wanted, happened).await {
            Either::Left(task) => bridge.begin(&mut swarm.behaviour_mut().kad, task),
            Either::Right(SwarmEvent::Behaviour(MineEvent::Kad(event))) => {
                if let Some(_own) = bridge.on_event(&mut swarm.behaviour_mut().kad, event) {
                    // What the application does with its own queries and events of kad.
                }
            }
            Either::Right(_) => {}
        }
    }
}

/// A node whose only router is the kad of a swarm that knows one other peer.
fn node(mut swarm: Swarm<Mine>, peer: PeerId, at: Multiaddr) -> Result<Handle, Box<dyn Error>> {
    swarm.behaviour_mut().kad.add_address(&peer, at);
    let (router, bridge) = bridge(BridgeConfig::default());
    smol::spawn(drive(swarm, bridge)).detach();
    let settings = Settings { timeout: Duration::from_secs(60), ..Settings::custom("kad") };
    Ok(ipns_smol::spawn(Node::builder(MemoryStore::new()).custom_router(settings, Arc::new(router)))?)
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

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(run()).map(drop)
}
