//! Who races: a node that publishes and one that resolves, with this engine's DHT or with libp2p-kad below.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use ipns_core::dht::{self, Mode, PeerInfo, Standing};
use ipns_core::engine::{Publication, Publish, PublishError, Resolve};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::Router;
use ipns_core::{Name, Value};
use ipns_libp2p::{BridgeConfig, bridge};
use ipns_store::MemoryStore;
use ipns_tokio::{Handle, Node};
use libp2p::identity::Keypair;
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::failure::Failure;
use crate::kad::{Kad, KadSwarm};
use crate::network::TICK;
use crate::runtimes::On;

/// The time that kad gives a query unless it is told otherwise.
pub(crate) const KAD_QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Lookups of the warm-up under way at once, of one node.
const LOOKUPS_AT_ONCE: usize = 5;
/// Far beyond what joining and becoming idle take.
const LONG: Duration = Duration::from_secs(120);

/// Whose DHT it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This engine's, with the network of a runtime's adapter.
    Ipns {
        on: On,
        /// What it is called, since it may race on several runtimes.
        label: &'static str,
    },
    /// libp2p-kad, by the bridge.
    Kad {
        /// Whether a publish looks for a newer record first, as this engine's first one of a name does.
        reads: bool,
        /// After how many records a get is ended; 0 for no end.
        records: usize,
    },
}

impl Kind {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ipns { label, .. } => label,
            Self::Kad { .. } => "libp2p-kad",
        }
    }
}

/// Two nodes of one kind.
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    publisher: Member,
    resolver: Member,
}

/// What came of a publish.
pub(crate) struct Published {
    pub(crate) took: Duration,
    /// Peers that said that they took the record, when it was a success.
    pub(crate) acks: Option<u32>,
    /// The record's bytes, if there is one.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) error: Option<String>,
}

/// What came of a resolve.
pub(crate) struct Resolved {
    /// Until the first value, and until the last.
    pub(crate) first: Option<Duration>,
    pub(crate) took: Duration,
    /// The last value, or why there is none.
    pub(crate) value: Result<String, String>,
}

impl Contestant {
    /// Starts both nodes, lets them join through the entrances, and warms them up by so many lookups.
    pub(crate) async fn start(
        kind: Kind,
        protocol: &'static str,
        entrances: &[PeerInfo],
        (lookups, mut keys): (usize, Dice),
        dice: &mut Dice,
    ) -> Result<Self, Failure> {
        let mut start = |publishes| {
            let (identity, seed) = (dice.bytes(), dice.bytes());
            let keys = (0..lookups).map(|_| keys.bytes().to_vec()).collect();
            async move {
                let member = Member::start(kind, protocol, publishes, entrances, identity, seed).await?;
                member.warm_up(keys).await?;
                Ok::<_, Failure>(member)
            }
        };
        let (publisher, resolver) = tokio::try_join!(start(true), start(false))?;
        Ok(Self { kind, publisher, resolver })
    }

    /// Publishes a value as the owner of a key.
    pub(crate) async fn publish(&self, key: SecretKey, value: Value) -> Published {
        let node = &self.publisher.node;
        let begun = Instant::now();
        let public = key.public_key();
        node.add_signer(Arc::new(key));
        let what = Publish { new_key: true, ..Publish::new(public, value) };
        let result = node.publish(what).await;
        let took = begun.elapsed();
        let bytes = |publication: &Publication| Some(publication.record.as_bytes().to_vec());
        match result {
            Ok(publication) => {
                let tallies = publication.receipts.iter().filter_map(|receipt| receipt.outcome.as_ref().ok());
                let acks = Some(tallies.map(|tally| tally.acks).sum());
                Published { took, acks, record: bytes(&publication), error: None }
            }
            Err(error) => {
                let record = match &error {
                    PublishError::PolicyNotMet { publication, .. } => bytes(publication),
                    _ => None,
                };
                Published { took, acks: None, record, error: Some(error.to_string()) }
            }
        }
    }

    /// Asks the network for a name.
    pub(crate) async fn resolve(&self, name: Name) -> Resolved {
        let begun = Instant::now();
        let how = Resolve { cache: false, stream: true, ..Resolve::default() };
        let mut updates = self.resolver.node.resolve_stream(name, how);
        let mut resolved = Resolved { first: None, took: Duration::ZERO, value: Err("no answer".into()) };
        while let Some(update) = updates.next().await {
            resolved.took = begun.elapsed();
            resolved.value = match update {
                Ok(resolution) => {
                    resolved.first.get_or_insert(resolved.took);
                    Ok(resolution.value.as_str().to_owned())
                }
                Err(error) => Err(error.to_string()),
            };
        }
        resolved
    }

    /// Waits until neither node has anything under way.
    pub(crate) async fn until_idle(&self) -> Result<(), Failure> {
        let idle = async {
            while !(self.publisher.is_idle().await? && self.resolver.is_idle().await?) {
                sleep(TICK).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(LONG, idle).await.map_err(|_| format!("{} does not become idle", self.kind.label()))?
    }
}

/// One node.
struct Member {
    node: Handle,
    kad: Option<Kad>,
}

impl Member {
    async fn start(
        kind: Kind,
        protocol: &'static str,
        publishes: bool,
        entrances: &[PeerInfo],
        identity: [u8; 32],
        seed: [u8; 32],
    ) -> Result<Self, Failure> {
        let builder = Node::builder(MemoryStore::new()).seed(seed);
        let member = match kind {
            Kind::Ipns { on, .. } => {
                let key = SecretKey::generate(KeyType::Ed25519, identity, 0)?;
                let peer = key.public_key().to_name().to_peer_id();
                let seeds = entrances.to_vec();
                let config = dht::Config { mode: Mode::Client, seeds, ..dht::Config::custom(peer, protocol) };
                Self { node: on.spawn(builder.router(Router::dht("dht", config)), &key).await?, kad: None }
            }
            Kind::Kad { reads, records } => {
                let config = BridgeConfig { get_records: records, ..BridgeConfig::default() };
                let (router, bridge) = bridge(config);
                let settings =
                    Router { timeout: KAD_QUERY_TIMEOUT, read: !publishes || reads, ..Router::custom("kad") };
                let swarm = KadSwarm::client(&Keypair::ed25519_from_bytes(identity)?, protocol)?;
                let kad = swarm.run(None, Some(bridge), Arc::default());
                let node = ipns_tokio::spawn(builder.custom_router(settings, Arc::new(router)))?;
                kad.bootstrap(entrances.to_vec()).await?;
                Self { node, kad: Some(kad) }
            }
        };
        let joined = async {
            while !member.has_joined().await? {
                sleep(TICK).await;
            }
            Ok::<_, Failure>(())
        };
        timeout(LONG, joined).await.map_err(|_| format!("{} does not join", kind.label()))??;
        Ok(member)
    }

    async fn has_joined(&self) -> Result<bool, Failure> {
        Ok(self.node.health().await?.iter().all(|dht| dht.health.standing == Standing::Joined))
    }

    async fn warm_up(&self, keys: Vec<Vec<u8>>) -> Result<(), Failure> {
        let lookups = keys.into_iter().map(|key| async {
            match &self.kad {
                Some(kad) => kad.lookup(key).await?,
                None => drop(self.node.closest(key).await?),
            }
            Ok::<_, Failure>(())
        });
        stream::iter(lookups).buffer_unordered(LOOKUPS_AT_ONCE).try_collect().await
    }

    async fn is_idle(&self) -> Result<bool, Failure> {
        let kad = match &self.kad {
            Some(kad) => kad.idle().await?,
            None => true,
        };
        let dht = self.node.health().await?.iter().all(|dht| dht.usage.queries == 0 && dht.usage.rpcs == 0);
        Ok(kad && dht && self.node.stats().load == 0)
    }
}
