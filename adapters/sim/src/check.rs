//! Small networks in which everything goes wrong, and what must hold in them all the same.
//!
//! A seed decides everything: how many nodes there are, who of them lies, what the links lose, what the nodes are told
//! to do, and who crashes, is cut off or loses the time in the middle of it. Then the faults end, every name is published
//! once more, as its keeper would, and everybody must find that.
//!
//! In three of four networks the nodes are all that there is. In the fourth they are clients among many more servers than
//! keep a record, passive ones, of which some go and some are replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use ipns_core::dht::{self, Mode, PeerInfo};
use ipns_core::engine::{Config, Enough, Event, Keeping, OpId, Publish, Resolve};
use ipns_core::key::{KeyType, PublicKey, SecretKey, Signer};
use ipns_core::routing::Router;
use ipns_core::store::StoreError;
use ipns_core::{Name, Value};

use crate::dice::{mix, unit};
use crate::{Lie, Links, NodeId, Servers, Told, Violation, World};

const SECOND: Duration = Duration::from_secs(1);
/// No operation may take longer: the time-outs of an engine, and what a slow disk and a lost tick add.
const LONGEST: Duration = Duration::from_secs(65);
/// What was found absent while the network was split is believed to be so for this long, and buckets are refreshed.
const CONVALESCENCE: Duration = Duration::from_secs(13 * 60);
/// How often names are sent again.
const REPUBLISH: Duration = Duration::from_secs(120);

/// What a seed led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What was broken; empty when all is well.
    pub violations: Vec<Violation>,
    /// How many events there were.
    pub events: u64,
    /// How many publishes and resolves there were.
    pub operations: usize,
    /// How many of them succeeded.
    pub succeeded: usize,
    /// The hash of all that happened.
    pub trace: u64,
}

/// Runs the network of a seed. `tell` gets a line for everything that is done to it, and that comes of it.
pub fn check(seed: u64, tell: &mut dyn FnMut(Duration, String)) -> Checked {
    let mut check = Check::new(seed, tell);
    check.live();
    check.recover();
    check.end()
}

struct Check<'a> {
    world: World,
    seed: u64,
    thrown: u64,
    /// Passive servers: the first nodes of the world. The others are numbered from 0 here.
    servers: u32,
    /// Those of them that nodes join through. They may be replaced, but never are they gone.
    entrances: Vec<NodeId>,
    nodes: u32,
    /// The publisher of each name.
    names: Vec<(u32, PublicKey)>,
    written: u64,
    /// Operations that have not ended: of which node, in which life, since when.
    open: BTreeMap<(u32, OpId), (u32, Duration, &'static str)>,
    lives: Vec<u32>,
    violations: Vec<Violation>,
    operations: usize,
    succeeded: usize,
    /// What was published of each name when the faults had ended.
    newest: BTreeMap<Name, String>,
    tell: &'a mut dyn FnMut(Duration, String),
}

impl<'a> Check<'a> {
    fn new(seed: u64, tell: &'a mut dyn FnMut(Duration, String)) -> Self {
        let servers = if mix(&[seed, 32]).is_multiple_of(4) { 40 + (mix(&[seed, 33]) % 200) as u32 } else { 0 };
        let world = World::with_servers(seed, Links::default(), &Servers::new(servers));
        // Those that are down count, too.
        let servers = world.nodes();
        let entrances = (0..2).take(servers as usize).map(|number| world.some_server(number)).collect();
        let mut check = Self {
            world,
            seed,
            thrown: 0,
            servers,
            entrances,
            nodes: 0,
            names: Vec::new(),
            written: 0,
            open: BTreeMap::new(),
            lives: Vec::new(),
            violations: Vec::new(),
            operations: 0,
            succeeded: 0,
            newest: BTreeMap::new(),
            tell,
        };
        check.world.watch();
        *check.world.links() = Links { sigma: 0.3, ..check.faulty_links() };
        check.nodes = 5 + check.die(8);
        for n in 0..check.nodes {
            // The first two are those that all others join through, unless there are servers for that.
            let client = servers > 0 || (n >= 2 && check.die(5) == 0);
            let seeds = match servers {
                0 => (0..2).filter(|other| *other != n).map(|other| info(NodeId(other))).collect(),
                _ => check.entrances.iter().copied().map(info).collect(),
            };
            let mode = if client { Mode::Client } else { Mode::Server };
            let dht = dht::Config { seeds, mode, ..dht::Config::public(World::peer_id(check.id(n))) };
            let keep = Some(Keeping { interval: REPUBLISH, first_retry: 5 * SECOND, ..Keeping::default() });
            check.world.add(!client, Config { routers: vec![Router::dht("dht", dht)], keep, ..Config::default() });
            check.lives.push(0);
        }
        for number in 0..1 + check.die(2) {
            let (node, key) = (check.die(check.nodes), key(seed, number));
            check.names.push((node, key.public_key()));
            check.world.give_key(check.id(node), key);
        }
        let among = if servers > 0 { format!(" among {servers} servers") } else { String::new() };
        check.say(format!("{} nodes{among}, publishers {:?}", check.nodes, check.publishers()));
        // Fewer liars than it takes to be believed.
        for n in 2..check.nodes {
            if servers == 0 && n % 4 == 3 && check.die(3) == 0 {
                let lie = Lie::ALL[check.die(4) as usize];
                check.say(format!("node {n} lies: {lie:?}"));
                check.world.set_lie(check.id(n), Some(lie));
            }
        }
        check.wait(5 * SECOND);
        check
    }

    fn id(&self, n: u32) -> NodeId {
        NodeId(self.servers + n)
    }

    fn publishers(&self) -> Vec<u32> {
        self.names.iter().map(|(node, _)| *node).collect()
    }

    fn die(&mut self, sides: u32) -> u32 {
        (self.chance() * f64::from(sides)) as u32
    }

    fn chance(&mut self) -> f64 {
        self.thrown += 1;
        unit(mix(&[self.seed, 30, self.thrown]))
    }

    fn say(&mut self, what: String) {
        (self.tell)(self.world.now(), what);
    }

    fn faulty_links(&mut self) -> Links {
        Links {
            median: Duration::from_millis(20 + u64::from(self.die(180))),
            jitter: self.chance(),
            connect_round_trips: 1.0 + 4.0 * self.chance(),
            loss: 0.1 * self.chance() * self.chance(),
            duplicates: 0.1 * self.chance(),
            ..Links::default()
        }
    }

    /// Things happen, good ones and bad ones.
    fn live(&mut self) {
        for _ in 0..10 + self.die(15) {
            let node = self.die(self.nodes);
            let id = self.id(node);
            let up = self.world.is_up(id);
            match self.die(if self.servers > 0 { 26 } else { 22 }) {
                0..=5 => self.publish(),
                20 => self.lose_power(),
                21 => {
                    let by = Duration::from_millis(u64::from(self.die(500)));
                    self.say(format!("every commit of node {node} takes {by:?} longer"));
                    self.world.set_slow_disk(id, by);
                }
                6..=10 if up => self.resolve(node),
                11 | 12 if up => {
                    self.say(format!("node {node} crashes"));
                    self.world.crash(id);
                    self.lives[node as usize] += 1;
                }
                11..=13 if !up => {
                    self.say(format!("node {node} starts again"));
                    self.world.restart(id);
                }
                14 => {
                    let groups: Vec<u8> = (0..self.nodes).map(|_| self.die(2) as u8).collect();
                    self.say(format!("the network splits: {groups:?}"));
                    let (seed, thrown) = (self.seed, self.thrown);
                    let of_server = |n: u32| (NodeId(n), (mix(&[seed, 34, thrown, n.into()]) % 2) as u8);
                    let servers = (0..self.servers).map(of_server);
                    self.world.split(servers.chain((self.servers..).map(NodeId).zip(groups)));
                }
                15 => {
                    self.say("the network is one again".into());
                    self.world.heal();
                }
                16 => {
                    let seconds = i128::from(self.die(7200)) - 3600;
                    self.say(format!("the clock of node {node} is {seconds} s ahead"));
                    self.world.set_skew(id, seconds * 1_000_000_000);
                }
                17 => {
                    let full = self.die(2) == 0;
                    self.say(format!("the disk of node {node} {}", if full { "is full" } else { "works" }));
                    self.world.fail_disk(id, full.then(|| StoreError::Full { path: "disk".into() }));
                }
                18 => {
                    let by = SECOND * self.die(4);
                    self.say(format!("node {node} takes {by:?} for every answer"));
                    self.world.set_slow(id, by);
                }
                19 => self.cancel(),
                22.. => {
                    let server = self.world.some_server(self.thrown);
                    let comes = self.die(3) > 0 || self.entrances.contains(&server);
                    self.say(format!("server {} {}", server.0, if comes { "is replaced" } else { "goes" }));
                    self.world.set_server(server, false);
                    self.world.set_server(server, comes);
                }
                _ => {}
            }
            let pause = 4.0 * self.chance() * self.chance();
            self.wait(Duration::from_secs_f64(pause));
        }
    }

    /// The faults end, and all that they did must heal.
    fn recover(&mut self) {
        self.say("the faults end".into());
        self.world.heal();
        self.world.links().loss = 0.0;
        self.world.links().duplicates = 0.0;
        for n in 0..self.nodes {
            let id = self.id(n);
            self.world.set_skew(id, 0);
            self.world.set_slow(id, Duration::ZERO);
            self.world.fail_disk(id, None);
            self.world.restart(id);
        }
        self.wait(LONGEST);
        let now = self.world.now();
        let late = self.open.iter().filter(|((node, _), (life, ..))| self.lives[*node as usize] == *life);
        let late: Vec<_> = late.map(|((node, _), (_, since, what))| (*node, *what, *since)).collect();
        for (node, what, since) in late {
            let took = now - since;
            self.broken("every operation ends", format!("node {node}: a {what} that began {took:?} ago"));
        }
        self.wait(CONVALESCENCE);
        for at in 0..self.names.len() {
            self.publish_now(at);
        }
        self.wait(20 * SECOND);
        for (name, value) in self.newest.clone() {
            for node in 0..self.nodes {
                self.finds(node, name, &value);
            }
        }
        self.wait(LONGEST);
        self.is_quiet();
    }

    fn publish(&mut self) {
        let at = self.die(self.names.len() as u32) as usize;
        let (node, key) = self.names[at].clone();
        if self.world.is_up(self.id(node)) {
            self.begin_publish(node, &key);
        }
    }

    /// A publisher is gone in the middle of a publish, and publishes something else when it is back.
    fn lose_power(&mut self) {
        let at = self.die(self.names.len() as u32) as usize;
        let (node, key) = self.names[at].clone();
        self.world.restart(self.id(node));
        self.wait(SECOND);
        self.begin_publish(node, &key);
        let after = Duration::from_micros((1e6 * self.chance() * self.chance()) as u64);
        self.wait(after);
        self.say(format!("node {node} loses power after {after:?}"));
        self.world.crash(self.id(node));
        self.lives[node as usize] += 1;
        self.wait(SECOND / 2);
        self.world.restart(self.id(node));
        self.begin_publish(node, &key);
    }

    fn begin_publish(&mut self, node: u32, key: &PublicKey) -> OpId {
        self.written += 1;
        let (name, text) = (key.to_name(), format!("/ipfs/bafkqaaa/{}", self.written));
        #[expect(clippy::expect_used, reason = "all of them are content paths")]
        let value: Value = text.parse().expect("a content path");
        self.say(format!("node {node} publishes {text} under {name}"));
        // Nobody else has its keys: what its store does not know of a name is not there.
        let new_key = self.die(2) == 0;
        let what = Publish { new_key, ..Publish::new(key.clone(), value) };
        let op = self.world.call(self.id(node), |engine, now| engine.publish(now, what));
        self.began(node, op, "publish");
        op
    }

    fn publish_now(&mut self, at: usize) {
        let (node, key) = self.names[at].clone();
        let op = self.begin_publish(node, &key);
        let name = key.to_name();
        let id = self.id(node);
        let result = self.world.until(LONGEST, |told| match &told.event {
            Event::Published { op: of, result } if *of == op && told.node == id => Some(result.clone()),
            _ => None,
        });
        self.hear();
        match result {
            Some(Ok(publication)) => {
                let value = publication.record.value().map(|value| value.to_string()).unwrap_or_default();
                self.newest.insert(name, value);
            }
            other => self.broken("a healthy network takes what is published", format!("node {node}: {other:?}")),
        }
    }

    fn resolve(&mut self, node: u32) {
        let at = self.die(self.names.len() as u32) as usize;
        let name = self.names[at].1.to_name();
        let how = Resolve { cache: self.die(2) == 0, stream: self.die(2) == 0, ..Resolve::default() };
        self.say(format!("node {node} resolves {name}"));
        let op = self.world.call(self.id(node), |engine, now| engine.resolve(now, name, how));
        self.began(node, op, "resolve");
    }

    fn finds(&mut self, node: u32, name: Name, value: &str) {
        let how = Resolve { cache: false, enough: Enough::Answers(16), ..Resolve::default() };
        let op = self.world.call(self.id(node), |engine, now| engine.resolve(now, name, how));
        self.began(node, op, "resolve");
        let id = self.id(node);
        let found = self.world.until(LONGEST, |told| match &told.event {
            Event::Resolved { op: of, result } if *of == op && told.node == id => Some(result.clone()),
            _ => None,
        });
        self.hear();
        match found {
            Some(Ok(found)) if found.value.as_str() == value => {}
            other => {
                let found = other.map(|result| result.map(|found| found.value.to_string()));
                self.broken("every name converges", format!("node {node}: {found:?} instead of {value}"));
            }
        }
    }

    fn cancel(&mut self) {
        let count = self.open.len() as u32;
        let at = self.die(count.max(1)) as usize;
        if let Some((node, op)) = self.open.keys().nth(at).copied()
            && self.world.is_up(self.id(node))
        {
            self.say(format!("node {node} cancels"));
            self.open.remove(&(node, op));
            self.world.call(self.id(node), |engine, now| engine.cancel(now, op));
        }
    }

    fn began(&mut self, node: u32, op: OpId, what: &'static str) {
        self.operations += 1;
        self.open.insert((node, op), (self.lives[node as usize], self.world.now(), what));
    }

    fn wait(&mut self, time: Duration) {
        self.world.run_for(time);
        self.hear();
    }

    /// Takes what engines told.
    fn hear(&mut self) {
        for Told { at, node, event } in self.world.take_told() {
            let node = node.0 - self.servers;
            let (op, ok, what) = match event {
                Event::Published { op, result } => {
                    (op, result.is_ok(), short(&result.map(|done| done.record.sequence())))
                }
                Event::Resolved { op, result } => {
                    (op, result.is_ok(), short(&result.map(|found| found.record.sequence())))
                }
                _ => continue,
            };
            self.succeeded += usize::from(ok);
            (self.tell)(at, format!("node {node}: {what}"));
            if let Some((_, since, kind)) = self.open.remove(&(node, op))
                && at - since > LONGEST
            {
                self.broken("every operation ends", format!("node {node}: a {kind} took {:?}", at - since));
            }
        }
    }

    /// Nothing is left of what was done: each node is at rest at some moment between two turns of its names.
    fn is_quiet(&mut self) {
        let mut busy: Vec<u32> = (0..self.nodes).collect();
        let mut left = (0, 0, 0);
        for _ in 0..LONGEST.as_secs() {
            busy.retain(|n| {
                left = self.world.call(NodeId(self.servers + *n), |engine, _| {
                    let queries = engine.health().map(|(_, _, usage)| usage.queries).sum::<usize>();
                    (engine.load(), engine.sending(), queries)
                });
                // One lookup of upkeep runs at a time, and a silent peer keeps each open for ten seconds more.
                left.0 > 0 || left.1 > 0 || left.2 > 16
            });
            if busy.is_empty() {
                return;
            }
            self.world.run_for(SECOND);
        }
        self.broken("memory is bounded", format!("nodes {busy:?} still do something: {left:?}"));
    }

    fn broken(&mut self, rule: &'static str, what: String) {
        self.violations.push(Violation { rule, what });
    }

    fn end(mut self) -> Checked {
        let found = [self.world.violations(), &self.violations].concat();
        for Violation { rule, what } in &found {
            self.say(format!("BROKEN: {rule}: {what}"));
        }
        Checked {
            violations: found,
            events: self.world.events(),
            operations: self.operations,
            succeeded: self.succeeded,
            trace: self.world.trace(),
        }
    }
}

fn short<T: std::fmt::Debug, E: std::fmt::Display>(result: &Result<T, E>) -> String {
    match result {
        Ok(sequence) => format!("sequence {sequence:?}"),
        Err(error) => error.to_string(),
    }
}

fn info(node: NodeId) -> PeerInfo {
    PeerInfo { id: World::peer_id(node), addresses: vec![World::address(node)] }
}

fn key(seed: u64, number: u32) -> SecretKey {
    let mut bytes = [0; 32];
    for (part, chunk) in (0..).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&mix(&[seed, 31, number.into(), part]).to_le_bytes());
    }
    #[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 key")]
    SecretKey::generate(KeyType::Ed25519, bytes, 0).expect("a key")
}
