//! Random programs in a bad world: loss, delay, duplicates, crashes, full disks, jumping clocks and liars.
//!
//! What must hold is checked by the witnesses and the world. `IPNS_SEEDS=100000` runs more, `IPNS_SEED=17` replays one.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::routing::{Router, RouterId};

use super::super::config::Config;
use super::super::ids::{InboundId, OpId};
use super::super::request::{OnConflict, Policy};
use super::disk::Health;
use super::script::{Act, Script};
use super::world::{Faults, Host, Signing, World};
use super::*;

/// How many seeds each of the tests below runs, unless told otherwise.
const SEEDS: u64 = 256;
const TESTS: u64 = 4;

#[test]
fn bad_worlds_0() {
    bad_worlds(0);
}

#[test]
fn bad_worlds_1() {
    bad_worlds(1);
}

#[test]
fn bad_worlds_2() {
    bad_worlds(2);
}

#[test]
fn bad_worlds_3() {
    bad_worlds(3);
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests may choose the seeds")]
fn bad_worlds(part: u64) {
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("IPNS_SEED") {
        if seed % TESTS == part {
            Bad::new(seed).run();
        }
        return;
    }
    let seeds = number("IPNS_SEEDS").map_or(SEEDS, |seeds| seeds.div_ceil(TESTS));
    for seed in (0..seeds).map(|index| index * TESTS + part) {
        if catch_unwind(AssertUnwindSafe(|| Bad::new(seed).run())).is_err() {
            panic!("seed {seed} fails (see above); replay it with IPNS_SEED={seed} cargo test -p ipns-core bad_worlds");
        }
    }
}

/// A world, what was begun in it, and the records that exist.
struct Bad {
    world: World,
    nodes: Vec<usize>,
    hub: usize,
    /// Nodes whose disk left something unanswered in this life.
    stuck: BTreeSet<usize>,
    watches: Vec<(usize, OpId)>,
    ops: Vec<(usize, OpId)>,
    asked: Vec<InboundId>,
    /// Records that others made or that were seen, to be replayed.
    records: Vec<(u8, Bytes)>,
}

const HOSTS: [&str; 4] = ["hub", "good", "flaky", "liar"];
/// The keys of the names in this world.
const KEYS: [u8; 3] = [1, 2, 3];

impl Bad {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let mut good = Script::new();
        good.selects = world.chance(70);
        world.host("good", good);
        world.host("flaky", Script::new());
        world.host("liar", Script::new());
        let mut this = Self {
            world,
            nodes: Vec::new(),
            hub: 0,
            stuck: BTreeSet::new(),
            watches: Vec::new(),
            ops: Vec::new(),
            asked: Vec::new(),
            records: Vec::new(),
        };
        let upstream = if this.world.chance(50) { &["good"][..] } else { &[] };
        this.hub = this.world.node(config(upstream));
        this.world.hosts.insert("hub".into(), Host::Node(this.hub));
        for _ in 0..2 + this.world.below(2) {
            let config = this.config();
            let routes = config.routers.len() as u16;
            let node = this.world.node(config);
            this.world.nodes[node].routes.insert(RouterId(routes - 1), Script::new());
            this.nodes.push(node);
        }
        this.world.faults = Faults {
            loss: this.world.below(25),
            twice: this.world.below(15),
            deaf: 50,
            delay: millis(u64::from(this.world.below(4000))),
        };
        this
    }

    fn config(&mut self) -> Config {
        let mut config = config(&HOSTS);
        config.routers.push(Router::custom("dht"));
        for router in &mut config.routers {
            router.tier = 1 + self.world.below(2) as u8;
            router.hedge = millis(u64::from(self.world.below(2)) * 700);
            router.timeout = seconds(3);
        }
        config.routers[2].read = self.world.chance(80);
        config.cache_entries = self.world.below(4) as usize;
        config.publish_timeout = seconds(20);
        config.resolve_timeout = seconds(20);
        config.read_timeout = seconds(6);
        config.tolerance = seconds(u64::from(self.world.below(2)) * 60);
        config
    }

    fn run(mut self) {
        for _ in 0..20 + self.world.below(20) {
            self.act();
            let pause = match self.world.below(10) {
                0..5 => u64::from(self.world.below(100)),
                5..9 => u64::from(self.world.below(4000)),
                _ => u64::from(self.world.below(600_000)),
            };
            self.world.pass(millis(pause));
        }
        self.end();
    }

    fn any_node(&mut self) -> usize {
        let index = self.world.below(self.nodes.len() as u32 + 1) as usize;
        self.nodes.get(index).copied().unwrap_or(self.hub)
    }

    fn any_key(&mut self) -> u8 {
        KEYS[self.world.below(KEYS.len() as u32) as usize]
    }

    fn act(&mut self) {
        let node = self.any_node();
        match self.world.below(100) {
            0..25 => {
                let what = self.any_publish();
                let op = self.world.start_publish(node, what);
                self.ops.push((node, op));
            }
            25..50 => {
                let (key, how) = (self.any_key(), self.any_resolve());
                let op = self.world.start_resolve(node, name(key), how);
                self.ops.push((node, op));
            }
            50..56 => {
                let (key, record) = self.any_record();
                let what =
                    Put { force: self.world.chance(30), allow_offline: self.world.chance(50), ..put(key, record) };
                let op = self.world.start_put(node, what);
                self.ops.push((node, op));
            }
            56..62 => {
                let (key, record) = self.any_record();
                let request = if self.world.chance(60) { upload(key, record) } else { download(key) };
                let id = self.world.ask(node, request);
                self.asked.push(id);
                if self.world.chance(20) {
                    let wait = u64::from(self.world.below(100));
                    self.world.pass(millis(wait));
                    self.world.gone(node, id);
                }
            }
            62..65 => {
                let key = self.any_key();
                let op = self.world.watch(node, name(key));
                self.watches.push((node, op));
            }
            65..75 => self.restart(node),
            75..80 => {
                let days = i64::from(self.world.below(7)) - 3;
                self.world.nodes[node].skew = days * 86_400;
            }
            80..84 => {
                let health =
                    [Health::Good, Health::Good, Health::Full, Health::Full, Health::Unreadable, Health::Stuck];
                let health = health[self.world.below(health.len() as u32) as usize];
                if health == Health::Stuck {
                    self.stuck.insert(node);
                }
                self.world.nodes[node].disk.health = health;
            }
            84..87 => {
                let signing = [Signing::Good, Signing::Refuses, Signing::Wrong, Signing::Never];
                self.world.nodes[node].signing = signing[self.world.below(4) as usize];
            }
            87..90 => {
                let key = self.any_key();
                self.world.disown(node, &name(key));
            }
            90..94 if !self.ops.is_empty() => {
                let (node, op) = self.ops[self.world.below(self.ops.len() as u32) as usize];
                self.world.cancel(node, op);
            }
            _ => self.change_scripts(),
        }
    }

    fn any_publish(&mut self) -> Publish {
        let (key, number) = (self.any_key(), u64::from(self.world.below(1000)));
        let mut what = publish(key, number);
        if self.world.chance(10) {
            what.value = Value::from_name(&name(self.any_key()));
        }
        what.policy = [Policy::Any, Policy::All, Policy::AtLeast(2)][self.world.below(3) as usize];
        what.allow_offline = self.world.chance(50);
        what.sequence = self.world.chance(10).then(|| u64::from(self.world.below(40)));
        what.if_sequence = self.world.chance(10).then(|| u64::from(self.world.below(10)));
        what.lifetime = self.world.chance(30).then(|| seconds(1 + u64::from(self.world.below(2000))));
        what.ttl = self.world.chance(50).then(|| seconds(u64::from(self.world.below(20))));
        if self.world.chance(20) {
            what.on_conflict = OnConflict::Fail;
        }
        what
    }

    fn any_resolve(&mut self) -> Resolve {
        Resolve {
            enough: [Enough::First, Enough::Probable, Enough::Answers(1), Enough::Answers(3)]
                [self.world.below(4) as usize],
            cache: self.world.chance(50),
            offline: self.world.chance(15),
            recursive: self.world.chance(70),
            stream: self.world.chance(50),
            below: String::new(),
            timeout: self.world.chance(20).then(|| millis(u64::from(self.world.below(5000)))),
        }
    }

    /// A record that exists already, or one that another device of the owner made.
    fn any_record(&mut self) -> (u8, Bytes) {
        for host in ["good", "flaky"] {
            for key in KEYS {
                if let Some(held) = self.world.script(host).held.get(&name(key)).cloned() {
                    self.records.push((key, held));
                }
            }
        }
        if !self.records.is_empty() && self.world.chance(60) {
            return self.records[self.world.below(self.records.len() as u32) as usize].clone();
        }
        let (key, sequence) = (self.any_key(), u64::from(self.world.below(30)));
        let eol = DAWN + self.world.now + seconds(u64::from(self.world.below(4000)));
        let made = record_until(key, sequence, &path(10_000 + sequence), eol).as_bytes().clone();
        self.records.push((key, made.clone()));
        (key, made)
    }

    fn any_act(&mut self) -> Act {
        match self.world.below(12) {
            0 => Act::Refuse,
            1 => Act::Hang,
            2 => Act::Status(500),
            3 => Act::Later(429, u64::from(self.world.below(8))),
            4 => Act::Html,
            5 => Act::Huge,
            6 => Act::Unchanged,
            7 => Act::Status(404),
            8 => Act::Give(Bytes::from_static(b"nonsense")),
            9 => Act::Give(pointless(self.any_key(), i128::from(self.world.below(30)))),
            _ => Act::Give(self.any_record().1),
        }
    }

    fn change_scripts(&mut self) {
        let act = self.any_act();
        self.world.script("liar").then = act;
        let plan: Vec<Act> = (0..self.world.below(5)).map(|_| self.any_act()).collect();
        self.world.script("flaky").plan.extend(plan);
        let delay = millis(u64::from(self.world.below(3000)));
        self.world.script("flaky").delay = delay;
        let (node, act) = (self.any_node(), self.any_act());
        let plan: Vec<Act> = (0..self.world.below(3)).map(|_| act.clone()).collect();
        for script in self.world.nodes[node].routes.values_mut() {
            script.plan.extend(plan.clone());
        }
    }

    fn restart(&mut self, node: usize) {
        self.watches.retain(|(watching, _)| *watching != node);
        self.ops.retain(|(doing, _)| *doing != node);
        self.world.restart(node);
        if self.world.nodes[node].disk.health != Health::Stuck {
            self.stuck.remove(&node);
        }
    }

    /// Everything ends, and nothing is left.
    fn end(mut self) {
        self.world.pass(seconds(61));
        for index in 0..self.world.nodes.len() {
            assert_eq!(self.world.nodes[index].open_count(), 0, "operations outlive their time-outs");
        }
        // Only a new life forgets what a stuck disk owes.
        for node in core::mem::take(&mut self.stuck) {
            self.world.nodes[node].disk.health = Health::Good;
            self.restart(node);
        }
        for (node, op) in core::mem::take(&mut self.watches) {
            self.world.cancel(node, op);
        }
        self.world.settle();
        for (index, node) in self.world.nodes.iter().enumerate() {
            assert_eq!(node.engine.leftovers(), [""; 0], "node {index}");
            assert_eq!(node.engine.load(), 0);
        }
    }
}
