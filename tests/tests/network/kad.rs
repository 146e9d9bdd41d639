//! With libp2p-kad, a third implementation: as servers, and as a client.

use std::time::Duration;

use futures_util::StreamExt;
use ipns_core::dht::{PUBLIC_PROTOCOL, PeerInfo, Standing};
use ipns_core::record::Checks;
use ipns_core::{Timestamp, Verified};
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{self, GetRecordOk, PutRecordError, QueryResult, Quorum};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::on::LONG;
use crate::on::On;
use crate::ours::{Options, name, network};

const VALUE: &str = "/ipfs/bafkqaaa/1";

#[derive(NetworkBehaviour)]
struct Theirs {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

/// A node of theirs. It ends when this is dropped.
struct Kad {
    info: PeerInfo,
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Get(Vec<u8>, oneshot::Sender<Vec<Vec<u8>>>),
    Put(kad::Record, oneshot::Sender<usize>),
    Holds(Vec<u8>, oneshot::Sender<Option<Vec<u8>>>),
}

impl Kad {
    async fn start(mode: kad::Mode, entrances: &[PeerInfo]) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| {
                let peer = key.public().to_peer_id();
                let mut config = kad::Config::new(StreamProtocol::new(PUBLIC_PROTOCOL));
                config.set_query_timeout(Duration::from_secs(20));
                let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
                kad.set_mode(Some(mode));
                let identity = identify::Config::new("ipfs/0.1.0".into(), key.public());
                Theirs { kad, identify: identify::Behaviour::new(identity) }
            })
            .unwrap()
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        for entrance in entrances {
            swarm.behaviour_mut().kad.add_address(&entrance.id, entrance.addresses[0].clone());
        }
        if !entrances.is_empty() {
            swarm.behaviour_mut().kad.bootstrap().unwrap();
        }
        let info = PeerInfo { id: *swarm.local_peer_id(), addresses: vec![address] };
        let (commands, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(swarm, receiver));
        Self { info, commands }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (sender, answer) = oneshot::channel();
        assert!(self.commands.send(make(sender)).is_ok());
        timeout(LONG, answer).await.unwrap().unwrap()
    }
}

enum Waiting {
    Get(Vec<Vec<u8>>, oneshot::Sender<Vec<Vec<u8>>>),
    Put(oneshot::Sender<usize>),
}

async fn run(mut swarm: Swarm<Theirs>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut waiting = std::collections::HashMap::new();
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            command = commands.recv() => {
                let kad = &mut swarm.behaviour_mut().kad;
                match command {
                    Some(Command::Get(key, answer)) => {
                        let id = kad.get_record(kad::RecordKey::new(&key));
                        waiting.insert(id, Waiting::Get(Vec::new(), answer));
                    }
                    Some(Command::Put(record, answer)) => {
                        let id = kad.put_record(record, Quorum::All).unwrap();
                        waiting.insert(id, Waiting::Put(answer));
                    }
                    Some(Command::Holds(key, answer)) => {
                        let held = kad.store_mut().get(&kad::RecordKey::new(&key)).map(|record| record.value.clone());
                        let _ = answer.send(held);
                    }
                    None => return,
                }
                continue;
            }
        };
        match event {
            SwarmEvent::Behaviour(TheirsEvent::Identify(identify::Event::Received { peer_id, info, .. }))
                if info.protocols.contains(&StreamProtocol::new(PUBLIC_PROTOCOL)) =>
            {
                for address in info.listen_addrs {
                    swarm.behaviour_mut().kad.add_address(&peer_id, address);
                }
            }
            SwarmEvent::Behaviour(TheirsEvent::Kad(kad::Event::OutboundQueryProgressed {
                id, result, step, ..
            })) => {
                if let QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) = &result
                    && let Some(Waiting::Get(all, _)) = waiting.get_mut(&id)
                {
                    all.push(found.record.value.clone());
                }
                if step.last {
                    match (result, waiting.remove(&id)) {
                        (_, Some(Waiting::Get(all, answer))) => drop(answer.send(all)),
                        (QueryResult::PutRecord(result), Some(Waiting::Put(answer))) => {
                            let acks = match result {
                                Ok(_) => usize::MAX,
                                Err(
                                    PutRecordError::QuorumFailed { success, .. }
                                    | PutRecordError::Timeout { success, .. },
                                ) => success.len(),
                            };
                            let _ = answer.send(acks);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn their_record(record: &Verified) -> kad::Record {
    kad::Record::new(record.name().routing_key(), record.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_and_their_servers() {
    let first = Kad::start(kad::Mode::Server, &[]).await;
    let mut theirs = vec![first];
    for _ in 1..15 {
        let entrance = theirs[0].info.clone();
        theirs.push(Kad::start(kad::Mode::Server, &[entrance]).await);
    }
    let writer = Options::client(1, &[theirs[0].info.clone(), theirs[1].info.clone()]).start().await;
    writer.stands(Standing::Joined).await;
    writer.until("twelve of their servers", |dht| dht.health.live >= 12).await;
    let published = writer.publish(1, VALUE).await.unwrap();
    assert!(published.receipts[0].outcome.clone().unwrap().acks >= 10, "{:?}", published.receipts);
    let mut holders = 0;
    for node in &theirs {
        let held = node.ask(|answer| Command::Holds(name(1).routing_key(), answer)).await;
        holders += usize::from(held.as_deref() == Some(&published.record.as_bytes()[..]));
    }
    assert!(holders >= 10, "{holders}");
    let reader = Options::client(2, &[theirs[9].info.clone()]).start().await;
    let found = reader.resolve(name(1)).await.unwrap();
    assert_eq!((found.value.as_str(), found.record), (VALUE, published.record));
}

#[tokio::test(flavor = "multi_thread")]
async fn their_client_and_our_servers() {
    let ours = network(On::Tokio, 12).await;
    let entrances: Vec<PeerInfo> = ours[..3].iter().map(|node| node.info.clone()).collect();
    let client = Kad::start(kad::Mode::Client, &entrances).await;
    let published = ours[4].publish(1, VALUE).await.unwrap();
    let got = client.ask(|answer| Command::Get(name(1).routing_key(), answer)).await;
    assert!(got.iter().any(|bytes| bytes[..] == published.record.as_bytes()[..]), "{}", got.len());
    // They put a newer record, which everyone of ours resolves; an older one finds no taker.
    let newer = sign(1, 5, "/ipfs/bafkqaaa/5");
    let acks = client.ask(|answer| Command::Put(their_record(&newer), answer)).await;
    assert!(acks >= 10, "{acks}");
    for node in &ours {
        assert_eq!(node.resolve(name(1)).await.unwrap().record, newer);
    }
    let older = sign(1, 4, "/ipfs/bafkqaaa/4");
    let acks = client.ask(|answer| Command::Put(their_record(&older), answer)).await;
    assert_eq!(acks, 0);
    assert_eq!(ours[7].resolve(name(1)).await.unwrap().record, newer);
}

fn sign(seed: u8, sequence: u64, value: &str) -> Verified {
    let eol = Timestamp::from_unix_secs(4_000_000_000);
    let builder = ipns_core::record::RecordBuilder::new(value.parse().unwrap(), sequence, eol);
    let record = builder.sign(&crate::ours::key(seed)).unwrap();
    Checks::at(Timestamp::MIN).verify_record(record, &name(seed)).unwrap()
}
