//! Simulated time, disks, signers and wires, and the engines between them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, Request, Response};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::key::{SecretKey, SignError, Signer};
use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::routing::http::server::{Asked, read_request};
use crate::routing::{HttpError, HttpId, Operation, RouteId, RouterId};
use crate::store::StoreError;
use crate::time::{Now, Timestamp};

use super::super::config::Config;
use super::super::engine::Engine;
use super::super::event::Event;
use super::super::ids::{InboundId, OpId, StoreId};
use super::super::io::{Input, Output, StoreAction, StoreCommand, StoreReply};
use super::disk::{Disk, Health};
use super::script::Script;
use super::witness::Witness;
use super::{DAWN, key, millis};

/// What can go wrong between the nodes, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// A request or a response never arrives.
    pub(super) loss: u32,
    /// An input or a request comes twice.
    pub(super) twice: u32,
    /// What was cancelled arrives all the same.
    pub(super) deaf: u32,
    /// How much longer than usual anything may take.
    pub(super) delay: Duration,
}

pub(super) enum Host {
    Node(usize),
    Script(Script),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    Good,
    Refuses,
    /// Signs with another key.
    Wrong,
    Never,
}

pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) config: Config,
    pub(super) disk: Disk,
    pub(super) signing: Signing,
    /// How far the wall clock is off, in seconds.
    pub(super) skew: i64,
    pub(super) routes: BTreeMap<RouterId, Script>,
    pub(super) events: Vec<Event>,
    /// Every output of this and all former lives, if it is to be kept.
    pub(super) trace: Option<Vec<String>>,
    pub(super) witness: Witness,
    life: u32,
    /// When this life began: the monotonic clock starts anew with it, and so do the numbers of operations.
    born: Duration,
    /// How many of the events are of former lives.
    past: usize,
    restored: bool,
    /// Operations that must end, and by when.
    pub(super) open: BTreeMap<OpId, Duration>,
    cancelled: BTreeSet<HttpId>,
    cancelled_routes: BTreeSet<RouteId>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    node: usize,
    life: u32,
    id: HttpId,
}

pub(super) enum Arrival {
    Input { node: usize, life: u32, input: Input },
    Commit { node: usize, life: u32, id: StoreId },
    Request { host: String, from: Caller, request: Request<Bytes> },
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    pub(super) hosts: BTreeMap<String, Host>,
    pub(super) faults: Faults,
    pub(super) random: ChaCha8Rng,
    /// Responses to the requests that a test itself made.
    pub(super) responses: BTreeMap<InboundId, Response<Bytes>>,
    keys: BTreeMap<Name, SecretKey>,
    /// What is on its way, by when it comes.
    pub(super) queue: BTreeMap<(Duration, u64), Arrival>,
    /// Who waits for what a server is asked; `None` is the test itself.
    pub(super) inbound: BTreeMap<InboundId, (usize, Option<Caller>)>,
    order: u64,
}

/// From one node to another.
const WIRE: Duration = millis_const(10);
const SIGNER: Duration = millis_const(1);

impl Node {
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// What this life told.
    pub(super) fn life_events(&self) -> impl Iterator<Item = &Event> {
        self.events[self.past..].iter()
    }
}

const fn millis_const(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: Vec::new(),
            hosts: BTreeMap::new(),
            faults: Faults::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            responses: BTreeMap::new(),
            keys: (0..8).map(|seed| (key(seed).public_key().to_name(), key(seed))).collect(),
            queue: BTreeMap::new(),
            inbound: BTreeMap::new(),
            order: 0,
        }
    }

    /// A node with an empty disk, which it has read.
    pub(super) fn node(&mut self, config: Config) -> usize {
        let node = self.sleeping_node(config);
        self.pass(millis(10));
        node
    }

    /// A node that has not read its disk yet.
    pub(super) fn sleeping_node(&mut self, config: Config) -> usize {
        let at = Now { monotonic: Duration::ZERO, wall: DAWN + self.now };
        let index = self.nodes.len();
        self.nodes.push(Node {
            engine: Engine::new(config.clone(), [index as u8; 32], at),
            config,
            disk: Disk::new(),
            signing: Signing::Good,
            skew: 0,
            routes: BTreeMap::new(),
            events: Vec::new(),
            trace: None,
            witness: Witness::default(),
            life: 0,
            born: self.now,
            past: 0,
            restored: false,
            open: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            cancelled_routes: BTreeSet::new(),
        });
        self.drain(index);
        index
    }

    pub(super) fn host(&mut self, host: &str, script: Script) {
        self.hosts.insert(host.into(), Host::Script(script));
    }

    pub(super) fn script(&mut self, host: &str) -> &mut Script {
        match self.hosts.get_mut(host) {
            Some(Host::Script(script)) => script,
            _ => panic!("{host} is no script"),
        }
    }

    /// A node that others reach as `host`.
    pub(super) fn server(&mut self, host: &str, config: Config) -> usize {
        let node = self.node(config);
        self.hosts.insert(host.into(), Host::Node(node));
        node
    }

    /// Ends a node as a power cut would, and starts it again on its disk. Of the commits that were not answered, the
    /// first few are on the disk.
    pub(super) fn restart(&mut self, index: usize) {
        let kept = self.below(self.nodes[index].disk.pending.len() as u32 + 1);
        self.restart_with(index, kept as usize);
    }

    pub(super) fn restart_with(&mut self, index: usize, kept: usize) {
        self.nodes[index].born = self.now;
        let now = self.at(index);
        let node = &mut self.nodes[index];
        node.past = node.events.len();
        node.restored = false;
        let pending = core::mem::take(&mut node.disk.pending);
        pending.iter().take(kept).for_each(|writes| node.disk.apply(writes));
        node.witness.crashes(&node.disk.durable);
        node.life += 1;
        node.open.clear();
        node.cancelled.clear();
        node.cancelled_routes.clear();
        node.disk.free_at = self.now;
        node.engine = Engine::new(node.config.clone(), [index as u8 ^ 0x80; 32], now);
        let gone: Vec<InboundId> =
            self.inbound.iter().filter(|(_, (server, _))| *server == index).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some((_, Some(caller))) = self.inbound.remove(&id) {
                self.reply(caller, Err(HttpError::Broken("connection reset".into())), Duration::ZERO);
            }
        }
        self.drain(index);
    }

    pub(super) fn at(&self, index: usize) -> Now {
        let (skew, born) = (self.nodes[index].skew, self.nodes[index].born);
        let wall = DAWN + self.now;
        Now {
            monotonic: self.now - born,
            wall: Timestamp::from_unix_nanos(wall.as_unix_nanos() + i128::from(skew) * 1_000_000_000),
        }
    }

    // How the world goes on.

    /// The next thing that happens, but nothing after `until`.
    pub(super) fn step(&mut self, until: Duration) -> bool {
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let due = |node: &Node| Some(node.engine.next_timeout()? + node.born);
        let due = self.nodes.iter().enumerate().filter_map(|(index, node)| Some((due(node)?, index)));
        let timer = due.min();
        let next = [arrival, timer.map(|(at, _)| at)].into_iter().flatten().min();
        let next = next.filter(|next| *next <= until);
        assert!(next.is_some() || until < Duration::MAX, "nothing more will happen, and something is awaited");
        let Some(next) = next else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            self.arrive();
        } else if let Some((_, index)) = timer {
            self.input(index, Input::Tick);
            let (again, now) = (self.nodes[index].engine.next_timeout(), self.at(index).monotonic);
            assert!(again.is_none_or(|again| again > now), "a tick changed nothing: {again:?} at {:?}", self.now);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let late = node.open.iter().find(|(_, limit)| **limit < self.now);
            assert!(late.is_none(), "an operation of node {index} has not ended in time: {late:?} at {:?}", self.now);
        }
        true
    }

    fn arrive(&mut self) {
        let Some((_, arrival)) = self.queue.pop_first() else { return };
        match arrival {
            Arrival::Input { node, life, input } => {
                if life != self.nodes[node].life {
                    return;
                }
                let cancelled = match &input {
                    Input::Http { id, .. } => self.nodes[node].cancelled.contains(id),
                    Input::Routed { id, .. } => self.nodes[node].cancelled_routes.contains(id),
                    _ => false,
                };
                if !cancelled || self.chance(self.faults.deaf) {
                    self.deliver(node, input);
                }
            }
            Arrival::Commit { node, life, id } => {
                let lives = &mut self.nodes[node];
                if life != lives.life {
                    return;
                }
                let Some(writes) = lives.disk.pending.pop_front() else { return };
                lives.disk.apply(&writes);
                lives.witness.is_durable(&writes);
                self.deliver(node, Input::Stored { id, result: Ok(StoreReply::Committed) });
            }
            Arrival::Request { host, from, request } => self.requested(&host, from, request),
        }
    }

    fn requested(&mut self, host: &str, from: Caller, request: Request<Bytes>) {
        match self.hosts.get_mut(host) {
            Some(Host::Script(script)) => {
                let (answer, delay) = (script.answer(self.now, DAWN + self.now, &request), script.delay);
                if let Some(answer) = answer {
                    self.reply(from, answer, delay);
                }
            }
            Some(&mut Host::Node(node)) => {
                let id = self.inbound_id();
                self.inbound.insert(id, (node, Some(from)));
                self.input(node, Input::Request { id, request });
            }
            None => self.reply(from, Err(HttpError::Connect("name not found".into())), Duration::ZERO),
        }
    }

    pub(super) fn inbound_id(&mut self) -> InboundId {
        self.order += 1;
        InboundId(self.order)
    }

    /// Gives an input to a node now; perhaps twice.
    fn deliver(&mut self, node: usize, input: Input) {
        if self.faults.twice > 0 && self.chance(self.faults.twice) {
            let again = copy(&input);
            self.input(node, input);
            return self.input(node, again);
        }
        self.input(node, input);
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.at(node);
        self.nodes[node].engine.handle_input(now, input);
        self.drain(node);
    }

    fn reply(&mut self, to: Caller, answer: Result<Response<Bytes>, HttpError>, delay: Duration) {
        self.later(to.node, to.life, WIRE + delay, Input::Http { id: to.id, result: answer }, true);
    }

    /// Brings an input later: on a wire it may be lost, late or doubled.
    fn later(&mut self, node: usize, life: u32, delay: Duration, input: Input, wire: bool) {
        let lost = wire && self.chance(self.faults.loss);
        let more = if wire { self.more() } else { Duration::ZERO };
        if wire && self.chance(self.faults.twice) {
            let again = self.more() + delay;
            self.enqueue(again, Arrival::Input { node, life, input: copy(&input) });
        }
        if !lost {
            self.enqueue(delay + more, Arrival::Input { node, life, input });
        }
    }

    fn more(&mut self) -> Duration {
        let most = self.faults.delay.as_millis() as u32;
        // Mostly little, sometimes much.
        let part = if self.chance(80) { most / 20 } else { most };
        millis(u64::from(self.below(part + 1)))
    }

    fn enqueue(&mut self, delay: Duration, arrival: Arrival) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), arrival);
    }

    pub(super) fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].engine.poll_output() {
            if let Some(trace) = &mut self.nodes[index].trace {
                trace.push(format!("{:?} {output:?}", self.now));
            }
            self.carry_out(index, output);
        }
        let node = &self.nodes[index];
        node.engine.own().for_each(|(_, own)| node.witness.owns(&own.record));
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        let life = self.nodes[index].life;
        match output {
            Output::Http { id, request, .. } => {
                if request.method() != Method::GET
                    && let Asked::Put { name, record } = read_request(&request)
                {
                    self.nodes[index].witness.lets_out(&name, &record);
                }
                if self.chance(self.faults.loss) {
                    return;
                }
                let host = request.uri().authority().unwrap().to_string();
                let (from, delay) = (Caller { node: index, life, id }, WIRE + self.more());
                if self.chance(self.faults.twice) {
                    let again = delay + self.more();
                    self.enqueue(again, Arrival::Request { host: host.clone(), from, request: request.clone() });
                }
                self.enqueue(delay, Arrival::Request { host, from, request });
            }
            Output::CancelHttp(id) => {
                self.nodes[index].cancelled.insert(id);
                let hung_up = |from: &Option<Caller>| {
                    from.is_some_and(|from| from.node == index && from.life == life && from.id == id)
                };
                let gone = self.inbound.iter().find(|(_, (_, from))| hung_up(from));
                if let Some((inbound, server)) = gone.map(|(inbound, (server, _))| (*inbound, *server)) {
                    self.inbound.remove(&inbound);
                    let life = self.nodes[server].life;
                    self.later(server, life, WIRE, Input::RequestGone { id: inbound }, false);
                }
            }
            Output::Route { id, router, operation } => {
                if let Operation::Put { record } = &operation {
                    self.nodes[index].witness.lets_out(record.name(), record.as_bytes());
                }
                let now = self.now;
                let script = self.nodes[index].routes.get_mut(&router).expect("the router has a script");
                let (updates, delay) = (script.route(now, &operation), script.delay);
                for update in updates {
                    self.later(index, life, WIRE + delay, Input::Routed { id, update }, true);
                }
            }
            Output::CancelRoute(id) => {
                self.nodes[index].cancelled_routes.insert(id);
            }
            Output::Sign { id, name, message } => {
                self.nodes[index].witness.signs(&message);
                let result = match self.nodes[index].signing {
                    Signing::Good => self.keys[&name].sign(&message),
                    Signing::Refuses => Err(SignError { reason: "locked".into() }),
                    Signing::Wrong => key(99).sign(&message),
                    Signing::Never => return,
                };
                let delay = SIGNER + self.more();
                self.later(index, life, delay, Input::Signed { id, result }, false);
            }
            Output::Store(command) => self.store(index, command),
            Output::Respond { to, response } => self.respond(index, to, response),
            Output::Net(command) => panic!("no node of this world has a DHT: {command:?}"),
            Output::Event(event) => self.event(index, event),
        }
    }

    fn store(&mut self, index: usize, command: StoreCommand) {
        let more = self.more();
        let (now, life) = (self.now, self.nodes[index].life);
        let disk = &mut self.nodes[index].disk;
        if disk.health == Health::Stuck {
            return;
        }
        // Commands take effect, and are answered, in their order.
        disk.free_at = disk.free_at.max(now + disk.latency + more);
        let delay = disk.free_at - now;
        let failure = StoreError::Io { path: "disk".into(), reason: "bad sector".into() };
        let result = match command.action {
            StoreAction::Commit(writes) => {
                self.nodes[index].witness.stores(&writes);
                let disk = &mut self.nodes[index].disk;
                if disk.health == Health::Full {
                    Err(StoreError::Full { path: "disk".into() })
                } else {
                    disk.pending.push_back(writes);
                    return self.enqueue(delay, Arrival::Commit { node: index, life, id: command.id });
                }
            }
            _ if disk.health == Health::Unreadable => Err(failure),
            StoreAction::Get { table, key } => Ok(StoreReply::Value(disk.view().remove(&(table, key)))),
            StoreAction::Scan { table, after, limit } => {
                let view = disk.view().into_iter().filter(|((held, _), _)| *held == table);
                let entries = view.map(|((_, key), value)| (key, value));
                let rest = entries.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
                Ok(StoreReply::Entries(rest.take(limit).collect()))
            }
        };
        self.later(index, life, delay, Input::Stored { id: command.id, result }, false);
    }

    fn respond(&mut self, index: usize, to: InboundId, response: Response<Bytes>) {
        if response.status() == 200
            && let Some(name) = named(&response)
        {
            let at = Checks::at(self.at(index).wall);
            let record = at.verify(response.body().clone(), &name).expect("an invalid record was served");
            self.nodes[index].witness.lets_out(&name, response.body());
            self.nodes[index].witness.returns(&at, &record);
        }
        match self.inbound.remove(&to) {
            Some((_, Some(caller))) => self.reply(caller, Ok(response), Duration::ZERO),
            Some((_, None)) => {
                self.responses.insert(to, response);
            }
            // Whoever asked has hung up in this moment.
            None => {}
        }
    }

    fn event(&mut self, index: usize, event: Event) {
        let checks = Checks { at: self.at(index).wall, tolerance: self.nodes[index].config.tolerance };
        let node = &mut self.nodes[index];
        let mut returns = |record: &Verified| node.witness.returns(&checks, record);
        match &event {
            Event::Resolved { op, result } => {
                node.open.remove(op);
                if let Ok(resolution) = result {
                    assert!(resolution.is_final);
                    returns(&resolution.record);
                }
            }
            Event::Improved { op, resolution } => {
                assert!(node.open.contains_key(op) && !resolution.is_final);
                returns(&resolution.record);
            }
            Event::Changed { record, .. } => returns(record),
            Event::Published { op, .. } => {
                assert!(node.open.remove(op).is_some(), "an operation ended twice");
            }
            // Before it has read its store, it knows nothing of what it returned.
            Event::StoreFailed { error: StoreError::Io { .. } } if !node.restored => node.witness.forgets(),
            Event::Restored { .. } => node.restored = true,
            _ => {}
        }
        node.events.push(event);
    }
}

/// Whose record a response carries.
fn named(response: &Response<Bytes>) -> Option<Name> {
    let disposition = response.headers().get(http::header::CONTENT_DISPOSITION)?.to_str().ok()?;
    if response.body().is_empty() {
        return None;
    }
    disposition.split('"').nth(1)?.strip_suffix(".ipns-record")?.parse().ok()
}

fn copy(input: &Input) -> Input {
    match input {
        Input::Tick => Input::Tick,
        Input::Http { id, result } => Input::Http { id: *id, result: result.clone() },
        Input::Routed { id, update } => Input::Routed { id: *id, update: update.clone() },
        Input::Signed { id, result } => Input::Signed { id: *id, result: result.clone() },
        Input::Stored { id, result } => Input::Stored { id: *id, result: result.clone() },
        Input::Request { id, request } => Input::Request { id: *id, request: request.clone() },
        Input::RequestGone { id } => Input::RequestGone { id: *id },
        Input::Net(event) => Input::Net(event.clone()),
    }
}
