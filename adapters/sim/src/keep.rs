//! A node that keeps very many names alive, for days, in a large DHT whose servers come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use ipns_core::dht::{self, Key, Mode, PeerInfo};
use ipns_core::engine::{Config, Event, Keeping, OpId, Resolve, StoredFollowed, StoredOwn};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, RecordBuilder};
use ipns_core::routing::Router;
use ipns_core::store::{Table, Write};
use ipns_core::{Name, Timestamp, Verified};

use crate::dice::mix;
use crate::{Classic, Links, NodeId, Servers, World};

/// How long the publisher of an own name wants it to live.
const LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// In so many parts of a round is looked how evenly its load is spread.
const WINDOWS: u32 = 100;
/// How often names are resolved by somebody else.
const SAMPLE: Duration = Duration::from_secs(3600);
/// Of so many names at each sample the holders are counted.
const COUNTED: u64 = 100;
/// No operation of a classic client takes longer.
const LONG: Duration = Duration::from_secs(300);

/// What is kept, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The DHT.
    pub servers: Servers,
    /// What is between them.
    pub links: Links,
    /// How many names.
    pub names: u32,
    /// Every so manieth name is followed, the others are the node's own; 0 for own names only.
    pub followed: u32,
    /// How often each is sent.
    pub interval: Duration,
    /// For how long.
    pub time: Duration,
    /// How many names are resolved by another node every hour, once each has been sent.
    pub samples: u32,
}

/// One round of all names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Names that some peers took.
    pub sent: u64,
    /// Names that nobody took.
    pub failed: u64,
    /// Records that were sent to peers.
    pub puts: u64,
    /// Questions beside them.
    pub others: u64,
    /// Lookups.
    pub lookups: u64,
    /// Dials, those to servers that are down included.
    pub dials: u64,
    /// Servers that were dialled.
    pub dialled: u64,
    /// Dials for the sweep itself: to explore a region, or to send a record. The others are for staying in the DHT, and
    /// for looking whether there is a newer record.
    pub sweeping: u64,
    /// Records that were sent in the busiest hundredth of the round.
    pub peak: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept {
    /// The rounds, the first of which begins with an empty table.
    pub rounds: Vec<Round>,
    /// Resolves by another node, and how many of them found no valid record.
    pub resolves: u64,
    /// How many of them found none.
    pub missed: u64,
    /// Of the 20 nearest servers that are up, how many hold a name's record: the numbers of all names and moments that
    /// were looked at, in order.
    pub holders: Vec<usize>,
    /// Why names were not sent, and how often.
    pub failures: BTreeMap<String, u64>,
    /// The size of a record in bytes.
    pub record: u64,
    /// How many events there were.
    pub events: u64,
}

/// Keeps names alive. `loaded` is called when the node has read its store, before anything is sent; `tell` after every
/// round.
pub fn keep(setting: &Setting, seed: u64, mut loaded: impl FnMut(bool), mut tell: impl FnMut(usize, &Round)) -> Kept {
    let mut world = World::with_servers(seed, setting.links.clone(), &setting.servers);
    let mut kept = Kept::default();
    let (disk, keys) = disk(setting, seed, &mut kept);
    loaded(false);
    let resolver = add(&mut world, 1, Vec::new(), Config { keep: None, ..Config::default() });
    let how = Keeping { interval: setting.interval, ..Keeping::default() };
    let keeper = add(&mut world, 2, disk, Config { keep: Some(how), max_records: 1000, ..Config::default() });
    let names: Vec<Name> = keys.iter().map(|key| key.public_key().to_name()).collect();
    for (n, key) in (0..).zip(keys) {
        if !setting.is_followed(n) {
            world.give_key(keeper, key);
        }
    }
    world.run_for(Duration::from_secs(30));
    loaded(true);
    let mut sampler = Sampler { resolver, names: &names, samples: setting.samples, drawn: 0, open: Vec::new() };
    let end = world.now() + setting.time;
    let (mut next_sample, mut lookups) = (world.now() + setting.interval + SAMPLE, 0);
    world.take_did(keeper);
    while world.now() < end {
        let mut round = Round::default();
        let mut dials = BTreeMap::<u32, u32>::new();
        for _ in 0..WINDOWS {
            world.run_for(setting.interval / WINDOWS);
            let did = world.take_did(keeper);
            round.puts += did.puts;
            round.others += did.others;
            round.sweeping += did.sweeping;
            round.peak = round.peak.max(did.puts);
            did.dials.into_iter().for_each(|(to, count)| *dials.entry(to).or_default() += count);
            if world.now() >= next_sample {
                next_sample = world.now() + SAMPLE;
                sampler.sample(&mut world, seed, &mut kept);
            }
            for told in world.take_told() {
                match told.event {
                    Event::Kept { result: Ok(_), .. } => round.sent += 1,
                    Event::Kept { result: Err(error), .. } => {
                        round.failed += 1;
                        *kept.failures.entry(error.to_string()).or_default() += 1;
                    }
                    Event::Resolved { op, result } if told.node == resolver => {
                        sampler.resolved(op, result.is_ok(), &mut kept);
                    }
                    _ => {}
                }
            }
        }
        (round.dialled, round.dials) = (dials.len() as u64, dials.values().map(|count| u64::from(*count)).sum());
        let so_far = world.call(keeper, |engine, _| engine.health().map(|(.., usage)| usage.lookups).sum::<u64>());
        round.lookups = so_far - lookups;
        lookups = so_far;
        kept.rounds.push(round);
        tell(kept.rounds.len(), &round);
    }
    kept.holders.sort_unstable();
    kept.events = world.events();
    kept
}

impl Setting {
    fn is_followed(&self, n: u32) -> bool {
        self.followed > 0 && n.is_multiple_of(self.followed)
    }
}

/// How long a classic client takes for each of so many publishes, one after the other, as it republishes.
pub fn one_by_one(classic: Classic, setting: &Setting, seed: u64, count: u32) -> Duration {
    let mut world = World::with_servers(seed, setting.links.clone(), &setting.servers);
    let begun = world.now();
    for n in 0..count {
        let node = world.add_classic(classic);
        let (_, record) = make(seed, n, Timestamp::from_unix_secs(4_000_000_000));
        let op = world.classic_publish(node, record);
        world.until_finished(op, LONG);
    }
    (world.now() - begun) / count.max(1)
}

struct Sampler<'a> {
    resolver: NodeId,
    names: &'a [Name],
    samples: u32,
    drawn: u64,
    open: Vec<OpId>,
}

impl Sampler<'_> {
    fn draw(&mut self, seed: u64) -> Name {
        self.drawn += 1;
        self.names[(mix(&[seed, 31, self.drawn]) % self.names.len() as u64) as usize]
    }

    /// Somebody else resolves some names, and the copies of some are counted.
    fn sample(&mut self, world: &mut World, seed: u64, kept: &mut Kept) {
        for _ in 0..self.samples {
            let (name, how) = (self.draw(seed), Resolve { cache: false, ..Resolve::default() });
            let op = world.call(self.resolver, |engine, now| engine.resolve(now, name, how));
            self.open.push(op);
        }
        for _ in 0..COUNTED.min(self.names.len() as u64) {
            let name = self.draw(seed);
            let nearest = world.closest(&Key::of(&name.routing_key()), 20);
            kept.holders.push(nearest.into_iter().filter(|server| world.holds(*server, &name)).count());
        }
    }

    fn resolved(&mut self, op: OpId, found: bool, kept: &mut Kept) {
        self.open.retain(|open| *open != op);
        kept.resolves += 1;
        kept.missed += u64::from(!found);
    }
}

fn add(world: &mut World, salt: u64, disk: Vec<Write>, config: Config) -> NodeId {
    let n = world.nodes();
    let entrance = |number| {
        let server = world.some_server(salt << 8 | number);
        PeerInfo { id: World::peer_id(server), addresses: vec![World::address(server)] }
    };
    let seeds = (0..4).map(entrance).collect();
    let dht = dht::Config { seeds, mode: Mode::Client, ..dht::Config::public(World::peer_id(NodeId(n))) };
    world.add_with(false, Config { routers: vec![Router::dht("dht", dht)], ..config }, disk)
}

/// What the node's store holds when it starts: all names, sent half an interval ago.
fn disk(setting: &Setting, seed: u64, kept: &mut Kept) -> (Vec<Write>, Vec<SecretKey>) {
    let start = World::wall(Duration::ZERO);
    let last_sent = start.as_unix_secs() - (setting.interval / 2).as_secs() as i64;
    let (mut writes, mut keys) = (Vec::new(), Vec::new());
    for n in 0..setting.names {
        let followed = setting.is_followed(n);
        // With a round more than they are signed for none has to be sent before its turn, and all are in step at once.
        let lives = if followed { setting.time * 2 } else { LIFETIME + setting.interval };
        let (key, record) = make(seed, n, start + lives);
        kept.record = record.as_bytes().len() as u64;
        let (name, record) = (record.name().to_bytes(), record.as_bytes().clone());
        let (table, value) = match followed {
            true => (Table::Followed, StoredFollowed { record, last_sent, ..Default::default() }.to_bytes()),
            false => {
                let lifetime_ns = LIFETIME.as_nanos() as u64;
                (Table::Own, StoredOwn { record, lifetime_ns, last_sent, ..Default::default() }.to_bytes())
            }
        };
        writes.push(Write { table, key: name, value: Some(value) });
        keys.push(key);
    }
    (writes, keys)
}

fn make(seed: u64, n: u32, eol: Timestamp) -> (SecretKey, Verified) {
    let mut bytes = [0; 32];
    for (part, chunk) in (0..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&mix(&[seed, 32, n.into(), part]).to_le_bytes());
    }
    #[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 key")]
    let key = SecretKey::generate(KeyType::Ed25519, bytes, 0).expect("a key");
    #[expect(clippy::expect_used, reason = "a content path, and a short record")]
    let record = RecordBuilder::new("/ipfs/bafkqaaa".parse().expect("a path"), 1, eol).sign(&key).expect("a record");
    #[expect(clippy::expect_used, reason = "it has just been signed for this name")]
    let record = Checks::at(Timestamp::MIN).verify_record(record, &key.public_key().to_name()).expect("valid");
    (key, record)
}
