//! Nodes of ours: a store, a swarm, an engine.

use std::sync::Arc;
use std::time::Duration;

use ipns_core::dht::{self, Coverage, Crawling, Mode, PeerInfo, Standing};
use ipns_core::engine::{Keeping, Publication, Publish, PublishError, Resolution, Resolve, ResolveError};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{Router, RouterId};
use ipns_core::{Name, Now, Timestamp};
use ipns_driver::{Clock, Handle, Node, SystemClock};
use ipns_libp2p::NodeConfig;
use ipns_store::MemoryStore;

use crate::on::{LONG, On, until, within};

/// What a node is started with.
#[derive(Clone)]
pub(crate) struct Options {
    /// The runtime.
    pub(crate) on: On,
    pub(crate) seed: u8,
    pub(crate) protocols: Vec<String>,
    pub(crate) mode: Mode,
    /// Which servers it keeps known.
    pub(crate) coverage: Coverage,
    pub(crate) bootstrap: Vec<PeerInfo>,
    pub(crate) listen: Vec<&'static str>,
    pub(crate) store: MemoryStore,
    /// How it keeps names alive.
    pub(crate) keep: Option<Keeping>,
    /// Whether addresses such as 127.0.0.1 are taken and handed out.
    pub(crate) private: bool,
    /// What the wall clock shows, if not the truth.
    pub(crate) wall: Option<Timestamp>,
}

/// A wall clock that stands still.
struct Frozen(SystemClock, Timestamp);

impl Clock for Frozen {
    fn now(&self) -> Now {
        Now { wall: self.1, ..self.0.now() }
    }
}

/// One node.
pub(crate) struct Ours {
    pub(crate) node: Handle,
    /// Who it is and where.
    pub(crate) info: PeerInfo,
    pub(crate) options: Options,
}

impl Options {
    /// A server of the Amino protocol, on loopback.
    pub(crate) fn server(seed: u8, bootstrap: &[PeerInfo]) -> Self {
        Self {
            on: On::Tokio,
            seed,
            protocols: vec![dht::PUBLIC_PROTOCOL.to_owned()],
            mode: Mode::Server,
            coverage: Coverage::Table,
            bootstrap: bootstrap.to_vec(),
            listen: vec!["/ip4/127.0.0.1/tcp/0"],
            store: MemoryStore::new(),
            keep: None,
            private: true,
            wall: None,
        }
    }

    pub(crate) fn client(seed: u8, bootstrap: &[PeerInfo]) -> Self {
        Self { mode: Mode::Client, ..Self::server(seed, bootstrap) }
    }

    pub(crate) fn on(self, on: On) -> Self {
        Self { on, ..self }
    }

    pub(crate) fn protocols(self, protocols: &[&str]) -> Self {
        Self { protocols: protocols.iter().map(|&protocol| protocol.to_owned()).collect(), ..self }
    }

    pub(crate) async fn start(self) -> Ours {
        let key = SecretKey::generate(KeyType::Ed25519, [self.seed; 32], 0).unwrap();
        let peer = key.public_key().to_name().to_peer_id();
        let mut builder = Node::builder(self.store.clone()).config(|config| config.keep = self.keep);
        for protocol in &self.protocols {
            let base = match self.private {
                true => dht::Config::custom(peer, protocol),
                false => dht::Config { protocol: protocol.clone(), ..dht::Config::public(peer) },
            };
            let crawl = Crawling { coverage: self.coverage, ..Crawling::default() };
            let config = dht::Config { mode: self.mode, crawl, seeds: self.bootstrap.clone(), ..base };
            builder = builder.router(Router::dht(protocol, config));
        }
        if let Some(wall) = self.wall {
            builder = builder.clock(Frozen(SystemClock::default(), wall));
        }
        let network = NodeConfig {
            listen: self.listen.iter().map(|address| address.parse().unwrap()).collect(),
            confirm_listen_addresses: true,
            autonat: false,
            ..NodeConfig::default()
        };
        let (node, listening) = self.on.spawn_with_network(builder, network, &key).await.unwrap();
        let ours = Ours { node, info: PeerInfo { id: peer, addresses: listening.addresses }, options: self };
        if ours.options.mode == Mode::Server {
            // It serves once it has read its store.
            ours.until("serving", |dht| dht.serving).await;
        }
        ours
    }
}

impl Ours {
    /// Waits until it stands so in all its DHTs.
    pub(crate) async fn stands(&self, wanted: Standing) {
        self.until(&format!("{wanted:?}"), |health| health.health.standing == wanted).await;
    }

    /// Waits until all its DHTs are such.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&ipns_driver::DhtHealth) -> bool) {
        let reached = async || self.node.health().await.unwrap().iter().all(&wanted);
        if within(LONG, until(reached)).await.is_none() {
            panic!("{what}: {:?}", self.node.health().await);
        }
    }

    /// Publishes as the owner of the key of this seed.
    pub(crate) async fn publish(&self, seed: u8, value: &str) -> Result<Publication, PublishError> {
        self.node.add_signer(Arc::new(key(seed)));
        self.node.publish(Publish::new(key(seed).public_key(), value.parse().unwrap())).await
    }

    /// Asks the network.
    pub(crate) async fn resolve(&self, name: Name) -> Result<Resolution, ResolveError> {
        self.node.resolve(name, Resolve { cache: false, ..Resolve::default() }).await
    }

    /// How many records it keeps for others, in its first DHT.
    pub(crate) async fn keeps(&self) -> usize {
        self.node.health().await.unwrap()[0].usage.values
    }

    /// Waits until it keeps so many records for others.
    pub(crate) async fn keeps_at_least(&self, records: usize) {
        self.until("records kept", |dht| dht.router != RouterId(0) || dht.usage.values >= records).await;
    }

    /// Stops without a good-bye.
    pub(crate) async fn stop(self) -> Options {
        self.node.shutdown(Duration::ZERO).await;
        self.options
    }
}

/// So many servers that have joined, each through the first.
pub(crate) async fn network(on: On, count: u8) -> Vec<Ours> {
    mixed(&[on], count).await
}

/// The same, on these runtimes in turn.
pub(crate) async fn mixed(on: &[On], count: u8) -> Vec<Ours> {
    let mut nodes: Vec<Ours> = Vec::new();
    for seed in 1..=count {
        let first: Vec<PeerInfo> = nodes.first().map(|node| node.info.clone()).into_iter().collect();
        let on = on[nodes.len() % on.len()];
        nodes.push(Options::server(seed, &first).on(on).start().await);
    }
    for node in &nodes {
        node.stands(Standing::Joined).await;
    }
    nodes
}

/// A key to publish with; no node has it as its own.
pub(crate) fn key(seed: u8) -> SecretKey {
    let mut bytes = [seed; 32];
    bytes[0] = 0xee;
    SecretKey::generate(KeyType::Ed25519, bytes, 0).unwrap()
}

/// The name of [`key`].
pub(crate) fn name(seed: u8) -> Name {
    key(seed).public_key().to_name()
}

/// The peer of an address that ends in its id.
pub(crate) fn peer_at(address: &str) -> PeerInfo {
    PeerInfo::from_multiaddr(&address.parse().unwrap()).unwrap()
}
