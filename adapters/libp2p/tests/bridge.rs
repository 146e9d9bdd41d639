//! Nodes over the kad of swarms that an application has already.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ipns_core::engine::{Policy, Publication, Put, ResolveError};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{RouteError, Router as Settings, Tally};
use ipns_core::{Name, Verified};
use ipns_libp2p::{Bridge, BridgeConfig, bridge};
use ipns_store::MemoryStore;
use ipns_tokio::{Handle, Node};
use libp2p::kad::store::MemoryStore as Records;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, kad, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

#[path = "../examples/bridge.rs"]
#[allow(dead_code, reason = "its main is for cargo run")]
mod example;

type Kad = kad::Behaviour<Records>;
type Act = Box<dyn FnOnce(&mut Swarm<Kad>, &mut Bridge) + Send>;

const SOON: Duration = Duration::from_secs(30);

/// A swarm with a bridge, and a node over it.
struct App {
    peer: PeerId,
    at: Multiaddr,
    node: Handle,
    acts: mpsc::UnboundedSender<Act>,
    own: mpsc::UnboundedReceiver<kad::Event>,
}

impl App {
    async fn new(config: BridgeConfig) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| {
                let peer = key.public().to_peer_id();
                let mut kad = Kad::new(peer, Records::new(peer));
                kad.set_mode(Some(kad::Mode::Server));
                kad
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(SOON))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let at = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (router, mut bridge) = bridge(config);
        let (peer, (acts, mut receiver)) = (*swarm.local_peer_id(), mpsc::unbounded_channel::<Act>());
        let (events, own) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    task = bridge.next() => bridge.begin(swarm.behaviour_mut(), task),
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::Behaviour(event) = event
                            && let Some(event) = bridge.on_event(swarm.behaviour_mut(), event)
                        {
                            let _ = events.send(event);
                        }
                    }
                    Some(act) = receiver.recv() => act(&mut swarm, &mut bridge),
                }
            }
        });
        let settings = Settings { timeout: SOON, ..Settings::custom("kad") };
        let node = Node::builder(MemoryStore::new()).custom_router(settings, Arc::new(router));
        Self { peer, at, node: ipns_tokio::spawn(node).unwrap(), acts, own }
    }

    async fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Swarm<Kad>, &mut Bridge) -> T + Send + 'static) -> T {
        let (sender, answer) = oneshot::channel();
        let act: Act = Box::new(move |swarm, bridge| drop(sender.send(act(swarm, bridge))));
        assert!(self.acts.send(act).is_ok());
        timeout(SOON, answer).await.unwrap().unwrap()
    }

    async fn knows(&self, peer: PeerId, at: Multiaddr) {
        self.act(move |swarm, _| swarm.behaviour_mut().add_address(&peer, at)).await;
    }

    /// How many records kad keeps here.
    async fn stored(&self) -> usize {
        self.act(|swarm, _| kad::store::RecordStore::records(swarm.behaviour_mut().store_mut()).count()).await
    }

    /// Waits until neither the bridge nor kad has anything under way.
    async fn is_idle(&self) {
        // kad looks for peers of its own accord.
        let own = |query: &kad::QueryRef<'_>| !matches!(query.info(), kad::QueryInfo::Bootstrap { .. });
        let idle = || {
            self.act(move |swarm, bridge| {
                bridge.is_empty() && swarm.behaviour().iter_queries().filter(own).count() == 0
            })
        };
        let waited = timeout(SOON, async {
            while !idle().await {
                tokio::task::yield_now().await;
            }
        });
        waited.await.expect("everything ends");
    }

    async fn publish(&self, signer: &Arc<dyn Signer>) -> Publication {
        timeout(SOON, self.node.publish_value(signer, "/ipfs/bafkqaaa".parse().unwrap())).await.unwrap().unwrap()
    }
}

/// Apps that all know each other.
async fn network(size: usize, config: BridgeConfig) -> Vec<App> {
    let mut apps = Vec::new();
    for _ in 0..size {
        apps.push(App::new(config).await);
    }
    for app in &apps {
        for other in apps.iter().filter(|other| other.peer != app.peer) {
            app.knows(other.peer, other.at.clone()).await;
        }
    }
    apps
}

fn key(n: u8) -> Arc<dyn Signer> {
    Arc::new(SecretKey::generate(KeyType::Ed25519, [n; 32], 0).unwrap())
}

fn put_of(record: &Verified) -> Put {
    Put {
        name: *record.name(),
        record: record.as_bytes().clone(),
        force: false,
        keep: false,
        policy: Policy::default(),
        allow_offline: false,
    }
}

fn name(n: u8) -> Name {
    key(n).public_key().to_name()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_runs() {
    assert_eq!(timeout(SOON, example::run()).await.unwrap().unwrap(), "/ipfs/bafkqaddimvwgy3zao5xxe3debi");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_counted() {
    let apps = network(6, BridgeConfig::default()).await;
    let published = apps[0].publish(&key(1)).await;
    assert_eq!(published.receipts[0].outcome, Ok(Tally { acks: 5, asked: 5 }));
    // No copy stays here that kad would send again on its own.
    assert_eq!(apps[0].stored().await, 0);
    let resolved = timeout(SOON, apps[3].node.resolve(name(1), Default::default())).await.unwrap().unwrap();
    assert_eq!((resolved.value.as_str(), resolved.record.sequence()), ("/ipfs/bafkqaaa", 0));
    // A second publish reads the first and rises above it.
    let signer = key(1);
    let published = apps[4].publish(&signer).await;
    assert_eq!(published.record.sequence(), 1);
    for app in &apps {
        app.is_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_gone_is_asked_and_does_not_count() {
    let apps = network(4, BridgeConfig::default()).await;
    let nowhere = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap()
    };
    apps[0].knows(PeerId::random(), nowhere).await;
    let published = apps[0].publish(&key(2)).await;
    // Whoever does not answer the search is not among the nearest that are sent the record.
    assert_eq!(published.receipts[0].outcome, Ok(Tally { acks: 3, asked: 3 }));
    apps[0].is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_found_is_told_from_nobody_asked() {
    let apps = network(3, BridgeConfig::default()).await;
    let result = timeout(SOON, apps[0].node.resolve(name(3), Default::default())).await.unwrap();
    let Err(ResolveError::NotFound { receipts, .. }) = result else { panic!("{result:?}") };
    assert_eq!(receipts[0].outcome, Ok(Tally { acks: 2, asked: 2 }));
    let alone = App::new(BridgeConfig::default()).await;
    let result = timeout(SOON, alone.node.resolve(name(3), Default::default())).await.unwrap();
    println!("{result:?}");
    assert!(matches!(
        result,
        Err(ResolveError::Unreachable { receipts, .. }) if matches!(receipts[0].outcome, Err(RouteError::Unreachable(_)))
    ));
    alone.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_is_ended() {
    let record = network(2, BridgeConfig::default()).await[0].publish(&key(4)).await.record;
    // A peer that takes connections and never says anything keeps queries going.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", mute.local_addr().unwrap().port()).parse().unwrap();
    for put in [false, true] {
        let apps = network(2, BridgeConfig::default()).await;
        apps[0].knows(PeerId::random(), at.clone()).await;
        let (node, record) = (apps[0].node.clone(), record.clone());
        let waiting = tokio::spawn(async move {
            if put {
                drop(node.put(put_of(&record)).await);
            } else {
                drop(node.resolve(name(4), Default::default()).await);
            }
        });
        timeout(SOON, async {
            while apps[0].act(|_, bridge| bridge.is_empty()).await {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        // The node gives up at once, and with it whatever it asked its routers.
        apps[0].node.shutdown(Duration::ZERO).await;
        let ended = std::time::Instant::now();
        apps[0].is_idle().await;
        assert!(ended.elapsed() < Duration::from_secs(5), "the mute peer was waited for");
        waiting.await.unwrap();
        // What was cancelled while it looked for the nearest peers is not sent to them.
        assert_eq!(apps[1].stored().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enough_records_end_a_get() {
    let apps = network(8, BridgeConfig { get_records: 2, ..BridgeConfig::default() }).await;
    apps[0].publish(&key(5)).await;
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", mute.local_addr().unwrap().port()).parse().unwrap();
    for _ in 0..2 {
        apps[1].knows(PeerId::random(), at.clone()).await;
    }
    let begun = std::time::Instant::now();
    timeout(SOON, apps[1].node.resolve(name(5), Default::default())).await.unwrap().unwrap();
    apps[1].is_idle().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the mute peers were waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_applications_is_given_back() {
    let mut apps = network(3, BridgeConfig::default()).await;
    apps[0].publish(&key(6)).await;
    while apps[0].own.try_recv().is_ok() {}
    let record = name(6).routing_key().to_vec();
    let id = apps[0].act(move |swarm, _| swarm.behaviour_mut().get_record(record.into())).await;
    let own = &mut apps[0].own;
    let (mut found, mut last) = (0, false);
    while !last {
        let event = timeout(SOON, own.recv()).await.unwrap().unwrap();
        if let kad::Event::OutboundQueryProgressed { id: its, result, step, .. } = event {
            assert_eq!(its, id);
            found += usize::from(matches!(result, kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(_)))));
            last = step.last;
        }
    }
    assert_eq!(found, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_that_is_gone_is_unreachable() {
    let (router, bridge) = bridge(BridgeConfig::default());
    drop(bridge);
    let node =
        ipns_tokio::spawn(Node::builder(MemoryStore::new()).custom_router(Settings::custom("kad"), Arc::new(router)));
    let result = timeout(SOON, node.unwrap().resolve(name(7), Default::default())).await.unwrap();
    assert!(matches!(result, Err(ResolveError::Unreachable { .. })), "{result:?}");
}
