//! Measuring a strategy: clients in a large DHT publish and resolve, each time with cold connections.

use std::time::Duration;

use ipns_core::dht::{self, Coverage, Crawling, Mode, PeerInfo};
use ipns_core::engine::{Config, Event, Publication, Publish, Resolve};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, RecordBuilder};
use ipns_core::routing::Router;
use ipns_core::{Name, Timestamp, Value, Verified};

use crate::dice::mix;
use crate::{Classic, Links, NodeId, Servers, Traffic, World};

/// How long clients have been there when the measurement begins: their tables are filled and refreshed.
const SETTLING: Duration = Duration::from_secs(20 * 60);
/// After a pause so much longer than a connection stays open that is not used, none is open.
const PAUSE: Duration = Duration::from_secs(40);
/// What goes on behind a result ends in this time, and what it sends counts as the operation's.
const BEHIND: Duration = Duration::from_secs(10);
/// No operation takes longer.
const LONG: Duration = Duration::from_secs(300);
/// Longer than a measurement takes.
const STAYS_OPEN: Duration = Duration::from_secs(24 * 3600);
/// How many clients there are. Names are published from one and resolved from another.
const CLIENTS: u64 = 3;

/// How a client publishes and resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The engine.
    Engine,
    /// The engine after a crawl: it knows all servers.
    Full,
    /// The same with connections that stay open.
    Warm,
    /// What runs today.
    Classic(Classic),
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Engine, Self::Full, Self::Warm, Self::Classic(Classic::Go), Self::Classic(Classic::Rust)];

    /// Its name in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Engine => "ipns",
            Self::Full => "ipns-full",
            Self::Warm => "ipns-warm",
            Self::Classic(classic) => classic.label(),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The DHT.
    pub servers: Servers,
    /// What is between them.
    pub links: Links,
    /// Who publishes and resolves.
    pub strategy: Strategy,
    /// How many of the 20 nearest servers have lost a record when it is resolved: they were replaced. Of the public
    /// DHT's it is 3 after an hour, and 5 after ten.
    pub lost: usize,
    /// Whether somebody else may have published with the keys before. Engines publish with new ones otherwise, and need
    /// not read the network first. To classic clients it is all the same.
    pub used_keys: bool,
    /// How long after its publish a name is resolved, for servers that come and go.
    pub age: Duration,
    /// How many names are published, updated and resolved in one world.
    pub rounds: u32,
}

/// One publish, update and resolve of a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// The first record of the name; `None` when it failed.
    pub publish: Option<Published>,
    /// The second one, by whoever published the first; `None` when it failed.
    pub update: Option<Published>,
    /// The newest record, read from elsewhere; `None` when nothing was found, or its publish failed.
    pub resolve: Option<Resolved>,
}

/// What a publish took.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// From the call to its result.
    pub took: Duration,
    /// How many peers had said that they took it.
    pub acks: u32,
    /// What it asked, what goes on behind its result included.
    pub asked: Traffic,
}

/// What a resolve took.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// From the call to the first value.
    pub first: Duration,
    /// From the call to its result.
    pub took: Duration,
    /// What it asked, what goes on behind its result included.
    pub asked: Traffic,
    /// Whether it is the newest that was published.
    pub newest: bool,
    /// The probability that it claims to have missed a newer one with, if it claims one.
    pub miss_probability: Option<f64>,
}

/// What was measured in one world.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its names.
    pub rounds: Vec<Round>,
    /// How many events it had.
    pub events: u64,
    /// The hash of all that happened in it.
    pub trace: u64,
}

/// Publishes, updates and resolves names in the world of this seed.
pub fn measure(setting: &Setting, seed: u64) -> Measured {
    measure_in(&mut world(setting, seed), setting, seed)
}

/// The world of this seed, in which nothing has happened yet.
pub fn world(setting: &Setting, seed: u64) -> World {
    let mut links = setting.links.clone();
    if setting.strategy == Strategy::Warm {
        links.idle = STAYS_OPEN;
    }
    World::with_servers(seed, links, &setting.servers)
}

/// The same as [`measure`] in a [`world`] that is there already, for somebody who looks at the time.
pub fn measure_in(world: &mut World, setting: &Setting, seed: u64) -> Measured {
    let mut bench = Bench::new(world, setting, seed);
    let rounds = (0..u64::from(setting.rounds)).map(|round| bench.round(round)).collect();
    Measured { rounds, events: bench.world.events(), trace: bench.world.trace() }
}

struct Bench<'a> {
    setting: &'a Setting,
    world: &'a mut World,
    seed: u64,
    /// Engines. Classic clients begin with full tables, each operation in one of its own.
    clients: Vec<NodeId>,
}

impl<'a> Bench<'a> {
    fn new(world: &'a mut World, setting: &'a Setting, seed: u64) -> Self {
        let coverage = match setting.strategy {
            Strategy::Engine => Some(Coverage::Table),
            Strategy::Full | Strategy::Warm => Some(Coverage::All),
            Strategy::Classic(_) => None,
        };
        let mut clients = Vec::new();
        if let Some(coverage) = coverage {
            clients.extend((0..CLIENTS).map(|client| add_engine(world, client, coverage)));
            world.run_for(SETTLING);
        }
        Self { setting, world, seed, clients }
    }

    fn round(&mut self, round: u64) -> Round {
        let name = key(self.seed, round).public_key().to_name();
        let publish = self.publish(round, 0).map(|(_, published)| published);
        let (newest, update) = self.publish(round, 1).unzip();
        let resolve = newest.and_then(|newest| {
            self.world.lose(&newest, self.setting.lost);
            self.world.run_for(self.setting.age);
            self.resolve(round + 1, name, &newest)
        });
        Round { publish, update, resolve }
    }

    fn publish(&mut self, round: u64, sequence: u64) -> Option<(Verified, Published)> {
        #[expect(clippy::expect_used, reason = "all of them are content paths")]
        let value: Value = format!("/ipfs/bafkqaaa/{sequence}").parse().expect("a content path");
        let key = key(self.seed, round);
        let begun = self.world.now();
        self.world.count(key.public_key().to_name().routing_key());
        let (at, result) = match self.setting.strategy {
            Strategy::Engine | Strategy::Full | Strategy::Warm => {
                let node = self.clients[(round % CLIENTS) as usize];
                let what = Publish { new_key: !self.setting.used_keys, ..Publish::new(key.public_key(), value) };
                self.world.give_key(node, key);
                publish(self.world, node, what)?
            }
            Strategy::Classic(classic) => {
                let node = self.world.add_classic(classic);
                let op = self.world.classic_publish(node, signed(&key, value, sequence));
                let finished = self.world.until_finished(op, LONG)?;
                (finished.at, finished.record.map(|record| (record, finished.acks)))
            }
        };
        let asked = self.behind();
        let (record, acks) = result?;
        Some((record, Published { took: at - begun, acks, asked }))
    }

    fn resolve(&mut self, client: u64, name: Name, newest: &Verified) -> Option<Resolved> {
        let begun = self.world.now();
        self.world.count(name.routing_key());
        let (first, at, found) = match self.setting.strategy {
            Strategy::Engine | Strategy::Full | Strategy::Warm => {
                resolve(self.world, self.clients[(client % CLIENTS) as usize], name)?
            }
            Strategy::Classic(classic) => {
                let node = self.world.add_classic(classic);
                let op = self.world.classic_resolve(node, name);
                let finished = self.world.until_finished(op, LONG)?;
                let first = finished.first_value.map_or(finished.at, |first| finished.begun + first);
                (first, finished.at, finished.record.map(|record| (record, None)))
            }
        };
        let asked = self.behind();
        let (record, miss_probability) = found?;
        let newest = record == *newest;
        Some(Resolved { first: first - begun, took: at - begun, asked, newest, miss_probability })
    }

    /// What an operation asked, when all that goes on behind it is over.
    fn behind(&mut self) -> Traffic {
        self.world.run_for(BEHIND);
        let asked = self.world.count("");
        self.world.run_for(self.setting.links.idle + PAUSE);
        asked
    }
}

fn add_engine(world: &mut World, client: u64, coverage: Coverage) -> NodeId {
    let n = world.nodes();
    let entrance = |number| {
        let server = world.some_server(client << 8 | number);
        PeerInfo { id: World::peer_id(server), addresses: vec![World::address(server)] }
    };
    let seeds = (0..4).map(entrance).collect();
    let crawl = Crawling { coverage, ..Crawling::default() };
    let dht = dht::Config { seeds, crawl, mode: Mode::Client, ..dht::Config::public(World::peer_id(NodeId(n))) };
    world.add(false, Config { routers: vec![Router::dht("dht", dht)], keep: None, ..Config::default() })
}

fn key(seed: u64, round: u64) -> SecretKey {
    let mut bytes = [0; 32];
    for (part, chunk) in (0..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&mix(&[seed, 20, round, part]).to_le_bytes());
    }
    #[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 key")]
    SecretKey::generate(KeyType::Ed25519, bytes, 0).expect("a key")
}

/// A record as somebody publishes it who does not leave that to an engine.
fn signed(key: &SecretKey, value: Value, sequence: u64) -> Verified {
    let eol = Timestamp::from_unix_nanos(4_000_000_000_000_000_000);
    #[expect(clippy::expect_used, reason = "a short value and an end in 2096")]
    let record = RecordBuilder::new(value, sequence, eol).sign(key).expect("a record");
    #[expect(clippy::expect_used, reason = "it has just been signed for this name")]
    Checks::at(Timestamp::UNIX_EPOCH).verify(record.as_bytes().clone(), &key.public_key().to_name()).expect("valid")
}

type Ended<T> = (Duration, Option<T>);

fn publish(world: &mut World, node: NodeId, what: Publish) -> Option<Ended<(Verified, u32)>> {
    world.take_told();
    let op = world.call(node, |engine, now| engine.publish(now, what));
    let (at, result) = world.until(LONG, |told| match &told.event {
        Event::Published { op: of, result } if told.node == node && *of == op => Some((told.at, result.clone())),
        _ => None,
    })?;
    let acks = |publication: &Publication| {
        publication.receipts.iter().filter_map(|receipt| Some(receipt.outcome.as_ref().ok()?.acks)).sum()
    };
    Some((at, result.ok().map(|publication| (publication.record.clone(), acks(&publication)))))
}

type Found = (Verified, Option<f64>);

fn resolve(world: &mut World, node: NodeId, name: Name) -> Option<(Duration, Duration, Option<Found>)> {
    world.take_told();
    let op = world.call(node, |engine, now| engine.resolve(now, name, Resolve { stream: true, ..Resolve::default() }));
    let first = world.until(LONG, |told| match &told.event {
        Event::Improved { op: of, .. } | Event::Resolved { op: of, .. } if told.node == node && *of == op => {
            Some(told.at)
        }
        _ => None,
    })?;
    let (at, result) = world.until(LONG, |told| match &told.event {
        Event::Resolved { op: of, result } if told.node == node && *of == op => Some((told.at, result.clone())),
        _ => None,
    })?;
    Some((first, at, result.ok().map(|found| (found.record, Some(found.freshness.miss_probability)))))
}
