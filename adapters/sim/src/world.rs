//! The world: machines with engines, links between them, and one queue of events.

mod classic;
mod faults;
mod network;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use ipns_core::dht::{Key, Multiaddr, PeerId, Request};
use ipns_core::engine::{Config, Engine, Event, Input, Output, StoreAction, StoreCommand};
use ipns_core::key::{SecretKey, SignError, Signer};
use ipns_core::routing::{HttpError, NetEvent, RouteError, RouteUpdate};
use ipns_core::store::{StoreError, Table, Write};
use ipns_core::{Name, Now, Timestamp, Verified};

use crate::classic::Finished;
use crate::dice::{ByNumbers, mix, unit};
use crate::host::{Asker, Did, Host, Hosts};
use crate::identity;
use crate::link::Links;
use crate::queue::Queue;
use crate::servers::{Churn, Population, Servers};
use crate::witness::Witness;

/// How long a signature takes.
const SIGNING: Duration = Duration::from_micros(50);

/// So many round trips are remembered: more than there are questions out.
const LAST_TRIPS: usize = 1024;

/// So many connections are never worth a sweep.
const MIN_OPEN: usize = 4096;

/// A node of a world. Ids are given in the order in which nodes are added, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Something that an engine told its application.
#[derive(Debug, Clone)]
pub struct Told {
    /// When, since the world began.
    pub at: Duration,
    /// Which node.
    pub node: NodeId,
    /// What.
    pub event: Event,
}

/// What was asked about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// How many questions were sent to somebody.
    pub questions: u64,
    /// How many were not, because the peer could not be dialled.
    pub undialled: u64,
    /// The bytes of the questions and of the answers, as protobuf.
    pub bytes: u64,
}

enum What {
    /// Something reaches a node in this life of it.
    Input(u32, u32, Box<Input>),
    /// The disk has done what it was told.
    Disk(u32, u32, Box<StoreCommand>),
    /// A question reaches a node.
    Ask {
        to: u32,
        asker: Asker,
        request: Box<Request>,
    },
    /// A connection has come about: each side tells the other what it is.
    Connected(u32, u32),
    Wake(u32, u32),
    /// A passive server goes, and another one comes.
    Leave(u32),
}

/// A simulated network of engines. The same seed and the same calls give the same events, bit for bit.
pub struct World {
    seed: u64,
    links: Links,
    churn: Option<Churn>,
    now: Duration,
    /// Nodes below its size are passive; those from there on are hosts.
    servers: Population,
    hosts: Hosts,
    /// The hosts by their peer ids.
    by_peer: HashMap<PeerId, u32>,
    queue: Queue<What>,
    /// Since when a connection stands, which may be yet to come, and until when it does so if it is not used again.
    open: HashMap<(u32, u32), Range<Duration>, ByNumbers>,
    /// Connections that have closed are forgotten when there are more than this.
    most_open: usize,
    /// Round trips that were looked up lately, by a hash of who is at their ends.
    trips: Vec<((u32, u32), Duration)>,
    /// Until when dials are under way that will fail.
    vain: HashMap<(u32, u32), Duration, ByNumbers>,
    told: Vec<Told>,
    finished: Vec<Finished>,
    /// How many operations classic clients have begun.
    classic_ops: u64,
    trace: u64,
    chances: u64,
    inbound: u64,
    events: u64,
    asked: u64,
    /// Questions about this key are counted.
    counted: (Bytes, Traffic),
    /// Who hears whom, while the network is split.
    groups: HashMap<u32, u8>,
    witness: Option<Witness>,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, links: Links) -> Self {
        Self::with_servers(seed, links, &Servers::new(0))
    }

    /// A world with passive servers, which are its first nodes; some of them are down.
    pub fn with_servers(seed: u64, links: Links, servers: &Servers) -> Self {
        let churn = servers.churn;
        let servers = Population::new(seed, servers);
        let mut world = Self {
            seed,
            links,
            churn,
            now: Duration::ZERO,
            hosts: Hosts::after(servers.len()),
            servers,
            by_peer: HashMap::new(),
            queue: Queue::new(),
            open: HashMap::default(),
            most_open: MIN_OPEN,
            trips: Vec::new(),
            vain: HashMap::default(),
            told: Vec::new(),
            finished: Vec::new(),
            classic_ops: 0,
            trace: seed,
            chances: 0,
            inbound: 0,
            events: 0,
            asked: 0,
            counted: (Bytes::new(), Traffic::default()),
            groups: HashMap::new(),
            witness: None,
        };
        world.begin_churn();
        world
    }

    /// The time since the world began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A hash of everything that happened, and when: equal in two runs exactly if they went the same way.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many questions nodes have asked each other.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Counts from now on what nodes ask each other about a key, and returns what there was about the one before.
    pub fn count(&mut self, key: impl Into<Bytes>) -> Traffic {
        std::mem::replace(&mut self.counted, (key.into(), Traffic::default())).1
    }

    /// The links, to be changed while the world goes on.
    pub fn links(&mut self) -> &mut Links {
        self.trips.clear();
        &mut self.links
    }

    /// How many nodes there are, passive servers included: the id of the next one.
    pub fn nodes(&self) -> u32 {
        self.servers.len() + self.hosts.count()
    }

    /// A passive server that is up, chosen by this number.
    ///
    /// # Panics
    /// When there is none.
    pub fn some_server(&self, number: u64) -> NodeId {
        let (len, start) = (u64::from(self.servers.len()), mix(&[self.seed, 4, number]));
        let mut around = (0..len).map(|step| (start.wrapping_add(step) % len) as u32);
        #[expect(clippy::expect_used, reason = "documented")]
        NodeId(around.find(|n| self.servers.is_up(*n)).expect("a server that is up"))
    }

    /// How many passive servers that are up hold exactly this record.
    pub fn holders(&self, record: &Verified) -> usize {
        self.servers.holders(self.now, record)
    }

    /// Whether a passive server keeps a valid record of a name.
    pub fn holds(&self, server: NodeId, name: &Name) -> bool {
        let wall = Self::wall(self.now);
        self.servers.held(self.now, server.0, name).is_some_and(|record| !record.is_expired(wall))
    }

    /// What a wall clock shows that is right, so long after the world began.
    pub fn wall(since: Duration) -> Timestamp {
        Host::true_time(since)
    }

    /// The passive servers that are up and truly nearest to a key, the nearest first.
    pub fn closest(&self, key: &Key, count: usize) -> Vec<NodeId> {
        self.servers.truly_closest(key, count).into_iter().map(NodeId).collect()
    }

    /// Takes a passive server down, or up again; what it kept is lost.
    ///
    /// # Panics
    /// When the node is no passive server.
    pub fn set_server(&mut self, server: NodeId, up: bool) {
        self.servers.set_up(server.0, up);
        if !up {
            self.servers.forget(server.0);
            self.disconnect(server.0);
        }
    }

    /// Has so many of the 20 passive servers that are nearest to a record's name lose what they keep, spread over their
    /// order: they were replaced.
    pub fn lose(&mut self, record: &Verified, count: usize) {
        let nearest = self.closest(&Key::of(&record.name().routing_key()), 20);
        let every = (nearest.len() / count.max(1)).max(1);
        for server in nearest.into_iter().step_by(every).take(count) {
            self.set_server(server, false);
            self.set_server(server, true);
        }
    }

    /// The peer id that the next node, or any, has.
    pub fn peer_id(node: NodeId) -> PeerId {
        identity::peer(node.0)
    }

    /// The public address of a node.
    pub fn address(node: NodeId) -> Multiaddr {
        identity::address(node.0)
    }

    /// Adds a machine and starts an engine on it. Its DHT configurations must have [`peer_id`](Self::peer_id) of the
    /// new node as their `local`. Others can dial it exactly if it is `reachable`.
    pub fn add(&mut self, reachable: bool, config: Config) -> NodeId {
        self.add_with(reachable, config, Vec::new())
    }

    fn start(&mut self, n: u32) {
        if let Some(kind) = self.hosts[n].kind {
            self.hosts[n].classic = Some(kind.client());
            return;
        }
        let life = self.hosts[n].life;
        let mut seed = [0; 32];
        for (part, chunk) in (0..).zip(seed.chunks_mut(8)) {
            chunk.copy_from_slice(&mix(&[self.seed, 2, n.into(), life.into(), part]).to_le_bytes());
        }
        let host = &mut self.hosts[n];
        host.start(self.now, seed);
        let listening = vec![host.address.clone()];
        let confirmed = if host.reachable { listening.clone() } else { Vec::new() };
        self.input(n, Input::Net(NetEvent::Addresses { listening, confirmed }));
    }

    /// Adds a machine with something on its disk, as [`add`](Self::add) does.
    pub fn add_with(&mut self, reachable: bool, config: Config, disk: Vec<Write>) -> NodeId {
        let n = self.nodes();
        let mut host = Host::new(identity::peer(n), identity::address(n), reachable, config);
        let _ = host.disk.carry_out(StoreAction::Commit(disk));
        self.hosts.add(host);
        self.by_peer.insert(identity::peer(n), n);
        self.start(n);
        NodeId(n)
    }

    /// What a node with an engine has asked of others since the last call of this.
    pub fn take_did(&mut self, node: NodeId) -> Did {
        std::mem::take(&mut self.hosts[node.0].did)
    }

    fn note_dial(&mut self, n: u32, to: u32, sweeps: bool) {
        if !self.is_passive(n) && self.hosts[n].engine.is_some() {
            *self.hosts[n].did.dials.entry(to).or_default() += 1;
            self.hosts[n].did.sweeping += u64::from(sweeps);
        }
    }

    /// Lets a node sign with a key.
    pub fn give_key(&mut self, node: NodeId, key: SecretKey) {
        self.hosts[node.0].keys.insert(key.public_key().to_name(), key);
    }

    /// Calls into the engine of a node that is up, and carries out what comes of it.
    ///
    /// # Panics
    /// When there is no such node, it is down, or it has no engine.
    pub fn call<T>(&mut self, node: NodeId, call: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let host = &mut self.hosts[node.0];
        let now = host.now(self.now);
        #[expect(clippy::expect_used, reason = "documented")]
        let result = call(host.engine.as_mut().expect("the node is up"), now);
        self.drain(node.0);
        result
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: NodeId) -> bool {
        if self.is_passive(node.0) { self.servers.is_up(node.0) } else { self.hosts[node.0].is_up() }
    }

    /// Ends a node without warning. What its disk had not done yet is lost.
    ///
    /// # Panics
    /// When the node is a passive server; see [`set_server`](Self::set_server).
    pub fn crash(&mut self, node: NodeId) {
        self.hosts[node.0].crash();
        self.disconnect(node.0);
    }

    fn disconnect(&mut self, n: u32) {
        self.open.retain(|(a, b), _| *a != n && *b != n);
    }

    /// Starts a node that is down again, with what is on its disk.
    ///
    /// # Panics
    /// When the node is a passive server; see [`set_server`](Self::set_server).
    pub fn restart(&mut self, node: NodeId) {
        if !self.is_up(node) {
            self.start(node.0);
        }
    }

    /// Sets by how many nanoseconds a node's wall clock is ahead.
    pub fn set_skew(&mut self, node: NodeId, nanos: i128) {
        self.hosts[node.0].skew = nanos;
    }

    /// Has every commit of a node's disk fail from now on, or succeed again.
    pub fn fail_disk(&mut self, node: NodeId, failure: Option<StoreError>) {
        self.hosts[node.0].disk.failure = failure;
    }

    /// How many entries of a table a node has on its disk.
    pub fn stored(&self, node: NodeId, table: Table) -> usize {
        self.hosts[node.0].disk.count(table)
    }

    /// Everything told since the last call of this.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.next_time().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until an engine tells an event that `wanted` maps to a value, and returns that; `None` when it has
    /// not come within `limit`. What was told before counts, unless it was [taken](Self::take_told).
    pub fn until<T>(&mut self, limit: Duration, mut wanted: impl FnMut(&Told) -> Option<T>) -> Option<T> {
        let end = self.now + limit;
        let mut seen = 0;
        loop {
            while seen < self.told.len() {
                seen += 1;
                if let Some(found) = wanted(&self.told[seen - 1]) {
                    return Some(found);
                }
            }
            if self.queue.next_time().is_none_or(|at| at > end) {
                self.now = end;
                return None;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let Some((at, what)) = self.queue.pop() else { return };
        self.now = at;
        self.events += 1;
        match what {
            What::Input(n, life, input) if self.hosts[n].life == life => {
                self.note(&[1, n.into()]);
                self.input(n, *input);
            }
            What::Disk(n, life, command) if self.hosts[n].life == life => {
                let StoreCommand { id, action } = *command;
                let writes = match (&action, &self.witness) {
                    (StoreAction::Commit(writes), Some(_)) if !self.hosts[n].keys.is_empty() => writes.clone(),
                    _ => Vec::new(),
                };
                let result = self.hosts[n].disk.carry_out(action);
                if let (Ok(_), Some(witness)) = (&result, &mut self.witness) {
                    witness.wrote(n, &writes);
                }
                self.note(&[2, n.into(), id.0]);
                self.input(n, Input::Stored { id, result });
            }
            What::Wake(n, life) if self.hosts[n].life == life => {
                // One that was put off has a later wake in the queue.
                if self.hosts[n].wake == Some(at) {
                    self.hosts[n].wake = None;
                    self.note(&[3, n.into()]);
                    self.input(n, Input::Tick);
                }
            }
            What::Ask { to, asker, request } => self.on_ask(to, asker, *request),
            What::Connected(a, b) => self.on_connected(a, b),
            What::Leave(n) => self.on_leave(n),
            What::Input(..) | What::Disk(..) | What::Wake(..) => {}
        }
    }

    fn input(&mut self, n: u32, input: Input) {
        let host = &mut self.hosts[n];
        let now = host.now(self.now);
        if let Some(engine) = &mut host.engine {
            engine.handle_input(now, input);
            self.drain(n);
        } else {
            self.classic_input(n, input);
        }
    }

    /// Carries out everything that an engine wants.
    fn drain(&mut self, n: u32) {
        let life = self.hosts[n].life;
        loop {
            let host = &mut self.hosts[n];
            let Some(output) = host.engine.as_mut().and_then(Engine::poll_output) else { break };
            match output {
                Output::Net(command) => self.on_command(n, command),
                Output::Store(command) => {
                    let at = host.disk.done_at(self.now, &command.action);
                    self.queue.push(at, What::Disk(n, life, Box::new(command)));
                }
                Output::Sign { id, name, message } => {
                    let missing = || SignError { reason: format!("no key for {name}") };
                    let result = host.sign(&name, &message).ok_or_else(missing);
                    self.later(n, SIGNING, Input::Signed { id, result });
                }
                // There is no web in this world.
                Output::Http { id, .. } => {
                    let result = Err(HttpError::Connect("no route to host".into()));
                    self.later(n, self.links.median, Input::Http { id, result });
                }
                Output::Route { id, .. } => {
                    let update = RouteUpdate::Done(Err(RouteError::Unreachable("no such router".into())));
                    self.later(n, Duration::ZERO, Input::Routed { id, update });
                }
                Output::CancelHttp(_) | Output::CancelRoute(_) | Output::Respond { .. } => {}
                Output::Event(event) => {
                    if let Some(witness) = &mut self.witness {
                        let wall = host.now(self.now).wall;
                        let (hosts, by_peer, servers) = (&self.hosts, &self.by_peer, &self.servers);
                        let is_honest = |n: &u32| hosts[*n].liar.is_none();
                        let honest = |peer: &PeerId| {
                            by_peer.get(peer).is_some_and(is_honest) || servers.number(peer, &[]).is_some()
                        };
                        witness.told(n, life, wall, &event, honest);
                    }
                    self.told.push(Told { at: self.now, node: NodeId(n), event });
                }
            }
        }
        let host = &mut self.hosts[n];
        let next = host.engine.as_ref().and_then(Engine::next_timeout).map(|at| host.world_time(at).max(self.now));
        if let Some(next) = next
            && host.wake.is_none_or(|wake| next < wake)
        {
            host.wake = Some(next);
            self.queue.push(next, What::Wake(n, life));
        }
    }

    fn later(&mut self, n: u32, delay: Duration, input: Input) {
        let life = self.hosts[n].life;
        self.queue.push(self.now + delay, What::Input(n, life, Box::new(input)));
    }

    fn one_way(&mut self, a: u32, b: u32) -> Duration {
        let chance = self.chance();
        let round_trip = self.round_trip(a, b);
        self.links.one_way(round_trip, chance)
    }

    /// The round trip between two nodes. It is needed several times in a row, and takes three transcendental functions.
    fn round_trip(&mut self, a: u32, b: u32) -> Duration {
        let pair = (a.min(b), a.max(b));
        let at = mix(&[pair.0.into(), pair.1.into()]) as usize % LAST_TRIPS;
        if self.trips.is_empty() {
            self.trips = vec![((u32::MAX, u32::MAX), Duration::ZERO); LAST_TRIPS];
        }
        if self.trips[at].0 != pair {
            self.trips[at] = (pair, self.links.round_trip(self.seed, a, b));
        }
        self.trips[at].1
    }

    fn is_lost(&mut self) -> bool {
        unit(self.chance()) < self.links.loss
    }

    fn chance(&mut self) -> u64 {
        self.chances += 1;
        mix(&[self.seed, 3, self.chances])
    }

    fn note(&mut self, words: &[u64]) {
        self.trace = mix(&[self.trace, self.now.as_nanos() as u64]);
        self.trace = words.iter().fold(self.trace, |trace, word| mix(&[trace, *word]));
    }
}
