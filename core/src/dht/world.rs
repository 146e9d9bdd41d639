//! A small deterministic network of real nodes for the tests: one event queue, virtual time, a seed.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::bootstrap::Upkeep;
use super::testing::{START, address, peer};
use super::{
    Config, Dht, Event, InboundId, Key, Limits, Mode, Output, PeerInfo, QueryId, Request, Response, RpcError, RpcId,
    ValueRecord,
};
use crate::store::{Table, Write};
use crate::time::Now;

/// How a node answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Behaviour {
    Honest,
    /// Takes every connection and never answers.
    Silent,
    /// Names forty peers that do not exist, all near what it is asked for.
    NamesNobody,
    /// Answers every GET_VALUE with this record and takes nothing.
    Serves(ValueRecord),
    /// Takes everything and keeps nothing, and names none but these.
    Colludes(Rc<[PeerInfo]>),
}

pub(super) struct Node {
    pub(super) dht: Dht,
    pub(super) alive: bool,
    pub(super) behaviour: Behaviour,
    wake: Option<Duration>,
}

enum What {
    Request(usize, usize, RpcId, Request),
    Answer(usize, RpcId, Result<Response, RpcError>),
    Wake(usize),
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) now: Now,
    pub(super) events: Vec<(Duration, usize, Event)>,
    /// Questions asked by anybody.
    pub(super) rpcs: usize,
    /// Share of questions that are lost, in percent.
    pub(super) loss: u32,
    /// A hash of all that was put out, and when, since `traced` was set.
    pub(super) trace: u64,
    pub(super) traced: bool,
    /// What each node has stored, last.
    pub(super) stored: Vec<BTreeMap<(Table, Vec<u8>), Write>>,
    infos: Vec<PeerInfo>,
    by_peer: BTreeMap<PeerId, usize>,
    queue: BTreeMap<(Duration, u64), What>,
    sequence: u64,
    inbound: BTreeMap<InboundId, (usize, usize, RpcId)>,
    warm: BTreeSet<(usize, usize)>,
    rng: ChaCha8Rng,
}

/// Of a few hundred servers none shares so many bits with any key.
const BITS_OF_CROWD: u32 = 12;

pub(super) fn info(n: usize) -> PeerInfo {
    PeerInfo { id: peer(n as u32), addresses: vec![address(n as u32)] }
}

pub(super) fn config() -> Config {
    // What happens on its own is rare, so that the questions that are counted are those of a test.
    Config {
        mode: Mode::Server,
        refresh: Duration::from_secs(24 * 3600),
        limits: Limits { book: 400, ..Limits::default() },
        ..Config::public(peer(0))
    }
}

impl World {
    pub(super) fn empty(seed: u8) -> Self {
        Self {
            nodes: Vec::new(),
            now: START,
            events: Vec::new(),
            rpcs: 0,
            loss: 0,
            trace: 0,
            traced: false,
            stored: Vec::new(),
            infos: Vec::new(),
            by_peer: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            inbound: BTreeMap::new(),
            warm: BTreeSet::new(),
            rng: ChaCha8Rng::from_seed([seed; 32]),
        }
    }

    /// `n` servers that joined long ago: each knows up to `known` others, and its neighbours.
    pub(super) fn settled(seed: u8, n: usize, known: usize) -> Self {
        let mut world = Self::empty(seed);
        for _ in 0..n {
            world.add(config());
        }
        let mut ring: Vec<(Key, usize)> = (0..n).map(|n| (Key::of_peer(&info(n).id), n)).collect();
        ring.sort();
        for (place, (_, node)) in ring.iter().enumerate() {
            let neighbours = (1..30.min(n)).map(|step| ring[(place + n - 15.min(n) + step) % n].1);
            let mut others: Vec<usize> = neighbours.collect();
            others.extend((0..known).map(|_| world.rng.next_u32() as usize % n));
            for other in others {
                let dht = &mut world.nodes[*node].dht;
                dht.peers.met(START.monotonic, &info(other), Duration::from_millis(150), true);
                dht.peers.table.refreshed(START.monotonic, &Key::of_peer(&info(other).id));
            }
            let dht = &mut world.nodes[*node].dht;
            dht.bootstrap.finished(Upkeep::Own, 1);
        }
        for node in 0..n {
            world.drain(node);
        }
        world.run_for(Duration::from_secs(30));
        world.events.clear();
        world.rpcs = 0;
        world
    }

    pub(super) fn add(&mut self, config: Config) -> usize {
        self.add_as(config, info(self.nodes.len()))
    }

    fn add_as(&mut self, config: Config, info: PeerInfo) -> usize {
        let n = self.nodes.len();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut dht = Dht::new(Config { local: info.id, ..config }, seed, self.now);
        dht.set_addresses(info.addresses.clone());
        self.nodes.push(Node { dht, alive: true, behaviour: Behaviour::Honest, wake: None });
        self.stored.push(BTreeMap::new());
        self.by_peer.insert(info.id, n);
        self.infos.push(info);
        self.drain(n);
        n
    }

    /// Puts `n` colluding servers nearer to `target` than any other server is, known to everybody.
    pub(super) fn crowd(&mut self, target: &Key, n: usize) {
        let near = |number: &u32| Key::of_peer(&peer(*number)).common_prefix(target) >= BITS_OF_CROWD;
        let numbers = (1_000_000..).filter(near).take(n);
        let fellow =
            |(at, number): (usize, u32)| PeerInfo { id: peer(number), addresses: vec![address(10_000 + at as u32)] };
        let fellows: Rc<[PeerInfo]> = numbers.enumerate().map(fellow).collect();
        for node in &mut self.nodes {
            for fellow in fellows.iter() {
                node.dht.peers.met(self.now.monotonic, fellow, Duration::from_millis(150), true);
            }
        }
        for fellow in fellows.iter() {
            let added = self.add_as(config(), fellow.clone());
            self.nodes[added].behaviour = Behaviour::Colludes(fellows.clone());
        }
    }

    /// Kills every node of this share, in percent, but for those before `spare`.
    pub(super) fn kill(&mut self, percent: u32, spare: usize) {
        for node in &mut self.nodes[spare..] {
            node.alive = self.rng.next_u32() % 100 >= percent;
        }
    }

    /// Calls into a node and carries out what it wants.
    pub(super) fn call<T>(&mut self, node: usize, call: impl FnOnce(&mut Dht, Now) -> T) -> T {
        let result = call(&mut self.nodes[node].dht, self.now);
        self.drain(node);
        result
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = self.now.after(end - self.now.monotonic);
    }

    /// Runs until `node` tells an event that `wanted` maps to a value; says how long that took.
    pub(super) fn until<T>(&mut self, node: usize, wanted: impl Fn(&Event) -> Option<T>) -> (T, Duration) {
        let start = self.now.monotonic;
        let mut seen = 0;
        loop {
            for (at, teller, event) in &self.events[seen..] {
                if let Some(found) = (*teller == node).then(|| wanted(event)).flatten() {
                    return (found, at.saturating_sub(start));
                }
            }
            seen = self.events.len();
            assert!(self.step(), "nothing happens any more");
            assert!(self.now.monotonic < start + Duration::from_secs(120), "an operation does not end");
        }
    }

    /// Runs until the query is closed.
    pub(super) fn close(&mut self, node: usize, query: QueryId) {
        self.until(node, |event| (*event == Event::Closed { query }).then_some(()));
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), what)) = self.queue.pop_first() else {
            return false;
        };
        self.now = self.now.after(at - self.now.monotonic);
        match what {
            What::Request(from, to, id, request) => self.on_request(from, to, id, request),
            What::Answer(to, id, result) => {
                self.nodes[to].dht.on_response(self.now, id, result);
                self.drain(to);
            }
            What::Wake(node) => {
                self.nodes[node].wake = None;
                if self.nodes[node].alive {
                    self.nodes[node].dht.on_timeout(self.now);
                    self.drain(node);
                }
            }
        }
        true
    }

    fn on_request(&mut self, from: usize, to: usize, id: RpcId, request: Request) {
        if !self.nodes[to].alive || self.nodes[to].behaviour == Behaviour::Silent {
            return;
        }
        let request = Request::decode(&request.encode()).unwrap();
        let answer = match (&self.nodes[to].behaviour, &request) {
            (Behaviour::NamesNobody, Request::PutValue { .. }) => Some(Err(RpcError::Reset)),
            (Behaviour::NamesNobody, request) => Some(Ok(nobody(request, &mut self.rng))),
            (Behaviour::Serves(record), Request::GetValue { key }) => {
                let closer = self.nodes[to].dht.peers.closer(&Key::of(key), &self.infos[from].id);
                Some(Ok(Response::GetValue { record: Some(record.clone()), closer }))
            }
            (Behaviour::Serves(_), Request::PutValue { .. }) => Some(Err(RpcError::Closed)),
            (Behaviour::Colludes(fellows), request) => Some(Ok(only(fellows, request))),
            _ => None,
        };
        if let Some(answer) = answer {
            let back = self.rtt(from, to) / 2;
            return self.after(back, What::Answer(from, id, answer));
        }
        let inbound = InboundId(self.sequence);
        self.sequence += 1;
        self.inbound.insert(inbound, (from, to, id));
        let is_server = self.nodes[from].dht.is_server();
        let node = &mut self.nodes[to].dht;
        node.on_request(self.now, inbound, self.infos[from].id, &self.infos[from].addresses, request);
        // What identify tells on a new connection.
        if is_server {
            node.add_peer(self.now, &self.infos[from]);
        }
        self.drain(to);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].dht.poll_output() {
            if self.traced {
                self.note(node, &output);
            }
            match output {
                Output::Rpc { id, peer, addresses, request, .. } => self.send(node, id, peer, &addresses, request),
                // Every dial here is as quick as the next: nothing is gained by it.
                Output::Connect { .. } => {}
                Output::Reply { to, response } => {
                    let (asker, _, id) = self.inbound.remove(&to).unwrap();
                    let result = match response {
                        Ok(response) => Ok(match response.encode() {
                            Some(bytes) => Response::decode(&bytes).unwrap(),
                            None => Response::AddProvider,
                        }),
                        Err(_) => Err(RpcError::Reset),
                    };
                    let back = self.rtt(asker, node) / 2 + Duration::from_millis(20);
                    self.after(back, What::Answer(asker, id, result));
                }
                Output::Event(event) => self.events.push((self.now.monotonic, node, event)),
                Output::Store(write) => {
                    self.stored[node].insert((write.table, write.key.clone()), write);
                }
            }
        }
        if let Some(next) = self.nodes[node].dht.next_timeout() {
            let next = next.max(self.now.monotonic);
            if self.nodes[node].wake.is_none_or(|wake| next < wake) {
                self.nodes[node].wake = Some(next);
                self.after(next - self.now.monotonic, What::Wake(node));
            }
        }
    }

    fn note(&mut self, node: usize, output: &Output) {
        let what = match output {
            Output::Rpc { id, peer, request, .. } => format!("{id:?}{peer}{:?}", request.key()),
            Output::Connect { peer, .. } => format!("{peer}"),
            Output::Reply { to, response } => format!("{to:?}{}", response.is_ok()),
            other => format!("{other:?}"),
        };
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let text = format!("{:?}{node}{what}", self.now.monotonic);
        self.trace = text.bytes().fold(self.trace, fold);
    }

    fn send(&mut self, from: usize, id: RpcId, to: PeerId, addresses: &[multiaddr::Multiaddr], request: Request) {
        self.rpcs += 1;
        let to = self.by_peer.get(&to).copied();
        let warm = to.is_some_and(|to| self.warm.contains(&(from, to)));
        assert!(warm || !addresses.is_empty(), "nowhere to dial");
        let target = to.filter(|to| self.nodes[*to].alive);
        let Some(to) = target else {
            // A dead dial: the time-out of a TCP connect.
            return self.after(Duration::from_secs(5), What::Answer(from, id, Err(RpcError::DialFailed)));
        };
        if self.rng.next_u32() % 100 < self.loss {
            return;
        }
        self.warm.extend([(from, to), (to, from)]);
        let rtt = self.rtt(from, to);
        let connect = if warm { Duration::ZERO } else { rtt * 2 };
        self.after(connect + rtt / 2, What::Request(from, to, id, request));
    }

    /// Log-normal with a median of 130 ms and σ = 0.6, fixed for each pair.
    fn rtt(&self, a: usize, b: usize) -> Duration {
        let pair = [a.min(b) as u32, a.max(b) as u32].map(u32::to_be_bytes).concat();
        let bytes = Key::of(&pair).to_bytes();
        let sum: u32 = bytes.chunks(2).take(12).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let normal = f64::from(sum) / 65536.0 - 6.0;
        Duration::from_secs_f64(0.130 * (0.6 * normal).exp())
    }

    fn after(&mut self, delay: Duration, what: What) {
        self.sequence += 1;
        self.queue.insert((self.now.monotonic + delay, self.sequence), what);
    }
}

fn nobody(request: &Request, rng: &mut ChaCha8Rng) -> Response {
    let made_up: Vec<PeerInfo> = (0..400).map(|_| info((rng.next_u32() | 1 << 31) as usize)).collect();
    only(&made_up, request)
}

/// What somebody answers who keeps nothing and knows none but these.
fn only(peers: &[PeerInfo], request: &Request) -> Response {
    let target = Key::of(request.key());
    let mut closer = peers.to_vec();
    closer.sort_by_key(|peer| Key::of_peer(&peer.id).distance(&target));
    closer.truncate(40);
    match request.clone() {
        Request::GetValue { .. } => Response::GetValue { record: None, closer },
        Request::GetProviders { .. } => Response::GetProviders { providers: Vec::new(), closer },
        Request::PutValue { record } => Response::PutValue { record },
        Request::AddProvider { .. } => Response::AddProvider,
        _ => Response::FindNode { closer },
    }
}
