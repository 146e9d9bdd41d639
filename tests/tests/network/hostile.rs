//! Peers that mean no good: what they send costs a node of ours a bounded amount, and the others nothing.
//!
//! What single streams and frames can do is tested beside the behaviour that carries them, in `ipns-libp2p`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_channel::mpsc::unbounded;
use futures_util::StreamExt;
use ipns_core::dht::{PUBLIC_PROTOCOL, PeerId, PeerInfo, Request, Response, Standing, ValueRecord};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use ipns_libp2p::{Node, NodeConfig, Platform};
use libp2p::StreamProtocol;
use libp2p_identity::Keypair;
use sha2::{Digest, Sha256};

use crate::asker::Asker;
use crate::on::On;
use crate::ours::{Options, name, network};

/// A server that answers as it likes.
struct Liar {
    info: PeerInfo,
    asked: Arc<AtomicUsize>,
    _network: Node,
}

impl Liar {
    async fn start(answer: impl Fn(Request) -> Response + Send + 'static) -> Self {
        let (commands, from_node) = unbounded();
        let (to_node, mut events) = unbounded();
        let protocols = vec![(RouterId(0), StreamProtocol::new(PUBLIC_PROTOCOL))];
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = NodeConfig { listen, autonat: false, ..NodeConfig::default() };
        let key = Keypair::generate_ed25519();
        let (network, life) =
            ipns_libp2p::node(&Platform::tokio(), config, key, protocols, from_node, to_node).await.unwrap();
        tokio::spawn(life);
        commands.unbounded_send(NetCommand::Serve { router: RouterId(0), serving: true }).unwrap();
        let info = PeerInfo { id: network.peer_id(), addresses: network.listening().to_vec() };
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let NetEvent::Request { id, request, .. } = event {
                    count.fetch_add(1, Ordering::Relaxed);
                    let reply = NetCommand::Reply { to: id, response: Ok(answer(request)) };
                    let _ = commands.unbounded_send(reply);
                }
            }
        });
        Self { info, asked, _network: network }
    }
}

fn made_up(n: u32) -> PeerInfo {
    let id = PeerId::from_bytes(&[&[0x12, 0x20][..], &Sha256::digest(n.to_be_bytes())].concat()).unwrap();
    // Nobody is there, which the system says at once.
    PeerInfo { id, addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 1 + n % 9).parse().unwrap()] }
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_closer_peers_and_wrong_records_change_nothing() {
    let honest = network(On::Tokio, 5).await;
    honest[1].publish(1, "/ipfs/bafkqaaa/1").await.unwrap();
    // Just under what an answer may be: about 60,000 peers in each.
    let many: Arc<Vec<PeerInfo>> = Arc::new((0..60_000).map(made_up).collect());
    let liar = Liar::start(move |request| {
        let closer = (*many).clone();
        let wrong = |key: Bytes| ValueRecord { key, value: Bytes::from(vec![7; 10_000]), received: None };
        match request {
            Request::GetValue { key } => Response::GetValue { record: Some(wrong(key)), closer },
            Request::PutValue { record } => Response::PutValue { record: wrong(record.key) },
            Request::GetProviders { .. } => Response::GetProviders { providers: closer.clone(), closer },
            _ => Response::FindNode { closer },
        }
    })
    .await;
    let before = resident();
    let victim = Options::server(40, &[liar.info.clone(), honest[0].info.clone()]).start().await;
    victim.stands(Standing::Joined).await;
    for round in 0..8_u8 {
        let found = victim.resolve(name(1)).await.unwrap();
        assert_eq!(found.value.as_str(), "/ipfs/bafkqaaa/1");
        let published = victim.publish(100 + round, "/ipfs/bafkqaaa/2").await.unwrap();
        assert!(published.receipts[0].outcome.clone().unwrap().acks >= 4, "{:?}", published.receipts);
    }
    assert!(liar.asked.load(Ordering::Relaxed) >= 16, "a million names and more were sent");
    let dht = victim.node.health().await.unwrap().remove(0);
    // The five honest ones and the liar itself, who does answer; nobody that was made up.
    assert!(dht.health.known <= 6 && dht.health.table <= 6, "{dht:?}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_nothing_to_the_public_dht() {
    let others = network(On::Tokio, 3).await;
    let seeds: Vec<PeerInfo> = others.iter().map(|node| node.info.clone()).collect();
    // A node of the public DHT among peers that all claim to be at 127.0.0.1.
    let public = Options { private: false, ..Options::server(41, &seeds) }.start().await;
    let mut asker = Asker::new(On::Tokio, PUBLIC_PROTOCOL).await;
    let key = Bytes::from(public.info.id.to_bytes());
    let answer = asker.ask(&public.info, Request::FindNode { key }).await.unwrap();
    assert_eq!(answer, Response::FindNode { closer: Vec::new() }, "it tells of no private address, its own included");
    for other in &others {
        other.node.bootstrap(vec![public.info.clone()]);
        let pong = other.node.ping(public.info.clone()).await.unwrap();
        assert!(pong[0].1.is_ok(), "{pong:?}");
    }
    let dht = public.node.health().await.unwrap().remove(0);
    assert_eq!((dht.health.standing, dht.health.table, dht.health.known), (Standing::Alone, 0, 0), "{dht:?}");
}
