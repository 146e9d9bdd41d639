//! The DHT nodes of an engine, as routers: calls in, what peers say out.
//!
//! Every DHT router has a node of its own. All of them are reached over one network, under one peer id: writes go to
//! all, reads to all, and what they find is compared like the answers of any routers.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::call::{CallId, CallUpdate, Depth, Ended, Operation, PeerReceipt, RouteError, Tally};
use super::net::{NetCommand, NetEvent};
use super::router::{Router, RouterId, Transport};
use crate::dht::{AddressPolicy, Dht, Event, Freshness, Health, Output, PeerInfo, QueryId, Refused, TableEntry, Usage};
use crate::name::Name;
use crate::record::Verified;
use crate::store::{Table, Write};
use crate::time::Now;

/// The answers at which the freshness that every get aims at is reached anyway.
const USUAL_ANSWERS: u32 = 5;
/// The probability of having missed a newer record at which a get has heard enough.
const MISS_PROBABILITY: f64 = 1e-3;
/// The most commands that wait until a server serves.
const MAX_HELD: usize = 256;

/// What an application asks of the DHTs themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inquiry {
    /// The addresses of a peer.
    FindPeer(PeerId),
    /// The peers nearest to what these bytes hash to.
    Closest(Bytes),
    /// Announce, now and every 22 hours, that this node provides what has this multihash.
    Provide(Bytes),
    /// Announce it no more.
    StopProviding(Bytes),
    /// Who provides what has this multihash.
    FindProviders {
        /// The multihash.
        key: Bytes,
        /// How many are enough.
        want: usize,
    },
    /// Whether a peer answers; one without addresses is asked at those that are known.
    Ping(PeerInfo),
}

/// What a node has to say.
pub(crate) enum NodeOutput {
    Net(NetCommand),
    Store(Write),
    Call(CallId, CallUpdate),
    /// News of an inquiry, by its number.
    Told(u64, RouterId, Event),
    /// Every node has answered the inquiry.
    Answered(u64),
    Health(RouterId, Health),
    Serving(RouterId, bool),
}

/// Who asked for a query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    Get(CallId),
    Inquiry(u64),
}

/// A put, and what is to be told at its end.
struct Put {
    call: CallId,
    peers: Vec<PeerReceipt>,
}

struct Node {
    dht: Dht,
    askers: BTreeMap<QueryId, Asker>,
    /// A put may share its query with the get that walks ahead of it.
    puts: BTreeMap<QueryId, Put>,
    offered: bool,
    /// Whom a server wants to reach before it serves: they would take it for a client.
    held: VecDeque<NetCommand>,
}

pub(crate) struct Nodes {
    nodes: BTreeMap<RouterId, Node>,
    /// How many nodes have still to answer each inquiry.
    inquiries: BTreeMap<u64, usize>,
    /// Whether what was stored has been loaded: nobody is served before.
    loaded: bool,
    outputs: VecDeque<NodeOutput>,
}

impl Nodes {
    pub(crate) fn new(routers: &[Router], now: Now, random: &mut ChaCha8Rng) -> Self {
        let mut nodes =
            Self { nodes: BTreeMap::new(), inquiries: BTreeMap::new(), loaded: false, outputs: VecDeque::new() };
        for (index, router) in routers.iter().enumerate() {
            if let Transport::Dht(config) = &router.transport {
                let (id, mut seed) = (RouterId(index as u16), [0; 32]);
                random.fill_bytes(&mut seed);
                let dht = Dht::new((**config).clone(), seed, now);
                let (askers, puts, held) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
                nodes.nodes.insert(id, Node { dht, askers, puts, offered: false, held });
                nodes.drain(id);
            }
        }
        nodes
    }

    /// Where in the key space this node is in the first of its DHTs, as a share of all of it.
    pub(crate) fn place(&self) -> Option<f64> {
        self.nodes.values().next().map(|node| crate::dht::Key::of_peer(&node.dht.config().local).share())
    }

    /// How many leading bits the keys of a region of the first of its DHTs share, once that is known.
    pub(crate) fn bits_of_region(&mut self, now: Now) -> Option<u32> {
        self.nodes.values_mut().next()?.dht.bits_of_region(now.monotonic)
    }

    /// Runs a call; its updates follow in the outputs.
    pub(crate) fn start(&mut self, now: Now, call: CallId, router: RouterId, operation: Operation, depth: Depth) {
        let Some(node) = self.nodes.get_mut(&router) else { return };
        match operation {
            Operation::Get { name } => {
                let query = match until(depth) {
                    Some(until) => node.dht.get(now, name, until),
                    None => node.dht.walk(now, name),
                };
                node.askers.insert(query, Asker::Get(call));
            }
            Operation::Put { record } => {
                let query = match depth {
                    Depth::Swept => node.dht.resend(now, &record),
                    _ => node.dht.publish(now, &record),
                };
                node.puts.insert(query, Put { call, peers: Vec::new() });
            }
        }
        self.drain(router);
    }

    /// How many inquiries are not answered by all of their nodes.
    pub(crate) fn inquiries(&self) -> usize {
        self.inquiries.len()
    }

    /// No record of this name is sent in the end.
    pub(crate) fn give_up(&mut self, name: &Name) {
        for node in self.nodes.values_mut() {
            node.dht.give_up(name);
        }
    }

    /// Gives a call up.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.forget(Asker::Get(call));
        for Node { dht, askers, puts, .. } in self.nodes.values_mut() {
            puts.retain(|query, put| {
                let given_up = put.call == call;
                match askers.contains_key(query) {
                    true if given_up => dht.stop_sending(*query),
                    false if given_up => dht.cancel(*query),
                    _ => {}
                }
                !given_up
            });
        }
    }

    /// Puts an inquiry to one node, or to all.
    pub(crate) fn inquire(&mut self, now: Now, number: u64, of: Option<RouterId>, what: &Inquiry) {
        let ids: Vec<RouterId> = self.nodes.keys().copied().filter(|id| of.is_none_or(|of| of == *id)).collect();
        let mut asked = 0;
        for id in &ids {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            let query = match what {
                Inquiry::FindPeer(peer) => node.dht.find_peer(now, *peer),
                Inquiry::Closest(key) => node.dht.closest(now, key.clone()),
                Inquiry::Provide(key) => node.dht.provide(now, key.clone()),
                Inquiry::FindProviders { key, want } => node.dht.find_providers(now, key.clone(), *want),
                Inquiry::Ping(peer) => node.dht.ping(now, peer.clone()),
                Inquiry::StopProviding(key) => {
                    node.dht.stop_providing(key);
                    continue;
                }
            };
            node.askers.insert(query, Asker::Inquiry(number));
            asked += 1;
        }
        if asked == 0 {
            self.outputs.push_back(NodeOutput::Answered(number));
        } else {
            self.inquiries.insert(number, asked);
        }
        for id in ids {
            self.drain(id);
        }
    }

    /// Gives an inquiry up.
    pub(crate) fn cancel_inquiry(&mut self, number: u64) {
        self.inquiries.remove(&number);
        self.forget(Asker::Inquiry(number));
    }

    fn forget(&mut self, gone: Asker) {
        for Node { dht, askers, puts, .. } in self.nodes.values_mut() {
            askers.retain(|query, asker| {
                let given_up = *asker == gone;
                if given_up && !puts.contains_key(query) {
                    dht.cancel(*query);
                }
                !given_up
            });
        }
    }

    pub(crate) fn on_net(&mut self, now: Now, event: NetEvent) {
        match event {
            NetEvent::Response { router, id, result } => {
                self.with(router, |node| node.dht.on_response(now, id, result));
            }
            NetEvent::Request { router, id, peer, request } => {
                if self.loaded && self.nodes.contains_key(&router) {
                    self.with(router, |node| node.dht.on_request(now, id, peer, &[], request));
                } else {
                    let response = Err(Refused::NotServer);
                    self.outputs.push_back(NodeOutput::Net(NetCommand::Reply { to: id, response }));
                }
            }
            NetEvent::Identified { peer, addresses, serves } => {
                let peer = PeerInfo { id: peer, addresses };
                self.with_all(|id, node| node.dht.identified(now, &peer, serves.contains(&id)));
            }
            NetEvent::Addresses { listening, confirmed } => {
                self.with_all(|_, node| node.set_addresses(&listening, &confirmed));
            }
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Now) {
        self.with_all(|_, node| {
            if node.dht.next_timeout().is_some_and(|at| at <= now.monotonic) {
                node.dht.on_timeout(now);
            }
        });
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.nodes.values().filter_map(|node| node.dht.next_timeout()).min()
    }

    /// More peers to join through.
    pub(crate) fn bootstrap(&mut self, now: Now, peers: &[PeerInfo]) {
        self.with_all(|_, node| node.dht.bootstrap(now, peers.to_vec()));
    }

    /// Takes an entry that was stored before a restart.
    pub(crate) fn load(&mut self, now: Now, table: Table, key: &[u8], value: &[u8]) {
        self.with_all(|_, node| node.dht.load(now, table, key, value));
    }

    /// Everything that was stored is loaded, or cannot be.
    pub(crate) fn loaded(&mut self, now: Now) {
        self.loaded = true;
        // Every protocol is offered before the first peer is met, because all of them are offered over one network.
        let ids: Vec<RouterId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.offer(id));
        self.with_all(|_, node| node.dht.loaded(now));
    }

    /// Stores what a restart should find.
    pub(crate) fn save(&mut self, now: Now) {
        self.with_all(|_, node| node.dht.save(now));
    }

    /// How each node stands, and what it keeps and has in flight.
    pub(crate) fn health(&self) -> impl Iterator<Item = (RouterId, Health, Usage)> + '_ {
        self.nodes.iter().map(|(id, node)| (*id, node.dht.health(), node.dht.usage()))
    }

    /// The routing table of a node.
    pub(crate) fn table(&self, id: RouterId) -> impl Iterator<Item = TableEntry> + '_ {
        self.nodes.get(&id).into_iter().flat_map(|node| node.dht.table())
    }

    /// Records and corrections that are on their way.
    pub(crate) fn sending(&self) -> usize {
        self.nodes.values().map(|node| node.dht.sending()).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(crate) fn poll_output(&mut self) -> Option<NodeOutput> {
        self.outputs.pop_front()
    }

    fn with(&mut self, id: RouterId, call: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            call(node);
            self.drain(id);
        }
    }

    fn with_all(&mut self, mut call: impl FnMut(RouterId, &mut Node)) {
        let ids: Vec<RouterId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.with(id, |node| call(id, node));
        }
    }

    /// Offers a node's protocol, or offers it no longer.
    fn offer(&mut self, router: RouterId) {
        let Some(node) = self.nodes.get_mut(&router) else { return };
        let offers = self.loaded && node.dht.is_server();
        if offers != node.offered {
            node.offered = offers;
            self.outputs.push_back(NodeOutput::Net(NetCommand::Serve { router, serving: offers }));
            self.outputs.push_back(NodeOutput::Serving(router, offers));
        }
    }

    /// Passes on what a node wants and says.
    fn drain(&mut self, router: RouterId) {
        self.offer(router);
        let Some(node) = self.nodes.get_mut(&router) else { return };
        let holds = !self.loaded && node.dht.is_server();
        if !holds {
            self.outputs.extend(node.held.drain(..).map(NodeOutput::Net));
        }
        while let Some(output) = node.dht.poll_output() {
            let said = match output {
                Output::Rpc { id, peer, addresses, request, timeout } => {
                    node.reach(holds, NetCommand::Ask { router, id, peer, addresses, request, timeout })
                }
                Output::Connect { peer, addresses } => node.reach(holds, NetCommand::Connect { peer, addresses }),
                Output::Reply { to, response } => Some(NodeOutput::Net(NetCommand::Reply { to, response })),
                Output::Store(write) => Some(NodeOutput::Store(write)),
                Output::Event(Event::Health(health)) => Some(NodeOutput::Health(router, health)),
                Output::Event(Event::Serving(_)) => None,
                Output::Event(event) => {
                    let told = node.tell(router, event);
                    if let Some(NodeOutput::Told(number, _, event)) = &told
                        && is_last(event)
                        && let Some(left) = self.inquiries.get_mut(number)
                    {
                        *left -= 1;
                        if *left == 0 {
                            let number = *number;
                            self.inquiries.remove(&number);
                            self.outputs.extend(told);
                            self.outputs.push_back(NodeOutput::Answered(number));
                            continue;
                        }
                    }
                    told
                }
            };
            self.outputs.extend(said);
        }
    }
}

impl Node {
    /// Reaches out to a peer, now or when the node serves. What no longer fits has been given up by the node as unanswered.
    fn reach(&mut self, holds: bool, command: NetCommand) -> Option<NodeOutput> {
        if !holds {
            return Some(NodeOutput::Net(command));
        }
        if self.held.len() >= MAX_HELD {
            self.held.pop_front();
        }
        self.held.push_back(command);
        None
    }

    /// What an event of the node is to whoever asked.
    fn tell(&mut self, router: RouterId, event: Event) -> Option<NodeOutput> {
        let query = query_of(&event)?;
        match (self.askers.get(&query).copied(), event) {
            (Some(Asker::Inquiry(number)), event) => {
                if is_last(&event) {
                    self.askers.remove(&query);
                }
                Some(NodeOutput::Told(number, router, event))
            }
            (Some(Asker::Get(call)), Event::Found { record, .. }) => {
                Some(NodeOutput::Call(call, CallUpdate::Found(*record)))
            }
            (Some(Asker::Get(call)), Event::GetDone { best, freshness, asked, .. }) => {
                self.askers.remove(&query);
                Some(NodeOutput::Call(call, CallUpdate::Ended(got(best.map(|best| *best), freshness, asked))))
            }
            (_, Event::Receipt { peer, outcome, .. }) => {
                self.puts.get_mut(&query)?.peers.push(PeerReceipt { peer, outcome });
                None
            }
            (_, Event::PutDone { tally, .. }) => {
                let Put { call, peers } = self.puts.remove(&query)?;
                Some(NodeOutput::Call(call, CallUpdate::Ended(put(tally, peers))))
            }
            _ => None,
        }
    }

    /// Where this node can be reached: on a public DHT only what others have confirmed counts.
    fn set_addresses(&mut self, listening: &[Multiaddr], confirmed: &[Multiaddr]) {
        let all: Vec<Multiaddr> = confirmed.iter().chain(listening).cloned().collect();
        let policy = self.dht.config().addresses;
        let reachable = match policy {
            AddressPolicy::Public => policy.allows_server(confirmed),
            AddressPolicy::Any => !all.is_empty(),
        };
        self.dht.set_addresses(all);
        self.dht.set_reachable(reachable);
    }
}

/// How far a get goes; `None` is to the end, to publish afterwards.
fn until(depth: Depth) -> Option<crate::dht::Until> {
    match depth {
        Depth::Answers(wanted) if wanted > USUAL_ANSWERS => Some(crate::dht::Until::Answers(wanted as usize)),
        Depth::Usual | Depth::Swept | Depth::Answers(_) => Some(crate::dht::Until::Probable(MISS_PROBABILITY)),
        Depth::Walk => None,
    }
}

fn got(best: Option<Verified>, freshness: Freshness, asked: usize) -> Ended {
    let tally = Tally { acks: freshness.answers as u32, asked: asked as u32 };
    let result = match asked {
        0 => Err(RouteError::Unreachable("no peer of this DHT is known".into())),
        _ if freshness.answers == 0 => Err(RouteError::Unreachable(format!("none of {asked} peers answered"))),
        _ => Ok(tally),
    };
    let freshness = best.is_some().then_some(freshness);
    Ended { result, best, peers: Vec::new(), freshness }
}

fn put(tally: crate::dht::Tally, peers: Vec<PeerReceipt>) -> Ended {
    let asked = tally.asked();
    let result = match tally {
        _ if asked == 0 => Err(RouteError::Unreachable("no peer of this DHT could be reached".into())),
        crate::dht::Tally { acked: 0, refused: 1.., .. } => {
            Err(RouteError::Refused(format!("{} of {asked} peers refused the record", tally.refused)))
        }
        crate::dht::Tally { acked: 0, .. } => Err(RouteError::Unreachable(format!("none of {asked} peers answered"))),
        _ => Ok(Tally { acks: tally.acked as u32, asked: asked as u32 }),
    };
    Ended { result, best: None, peers, freshness: None }
}

fn query_of(event: &Event) -> Option<QueryId> {
    match event {
        Event::Found { query, .. }
        | Event::GetDone { query, .. }
        | Event::Corrected { query, .. }
        | Event::Receipt { query, .. }
        | Event::PutDone { query, .. }
        | Event::ClosestDone { query, .. }
        | Event::FindPeerDone { query, .. }
        | Event::Pong { query, .. }
        | Event::Provider { query, .. }
        | Event::ProvidersDone { query, .. }
        | Event::Closed { query } => Some(*query),
        Event::Health(_) | Event::Serving(_) => None,
    }
}

/// Whether this is how a query ends for whoever asked.
fn is_last(event: &Event) -> bool {
    matches!(
        event,
        Event::GetDone { .. }
            | Event::PutDone { .. }
            | Event::ClosestDone { .. }
            | Event::FindPeerDone { .. }
            | Event::Pong { .. }
            | Event::ProvidersDone { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{Publisher, START, address, peer};
    use crate::dht::{Config, Mode, Request, Response};
    use rand_chacha::rand_core::SeedableRng;

    const PROTOCOLS: [&str; 2] = ["/one/kad/1.0.0", "/other/kad/1.0.0"];

    fn nodes(mode: Mode) -> Nodes {
        let seeds = vec![PeerInfo { id: peer(2), addresses: vec![address(2)] }];
        let config = |protocol| Config { mode, seeds: seeds.clone(), ..Config::custom(peer(1), protocol) };
        let routers = PROTOCOLS.map(|protocol| Router::dht(protocol, config(protocol)));
        Nodes::new(&routers, START, &mut ChaCha8Rng::seed_from_u64(1))
    }

    fn commands(nodes: &mut Nodes) -> Vec<NetCommand> {
        let outputs = core::iter::from_fn(|| nodes.poll_output());
        outputs.filter_map(|output| if let NodeOutput::Net(command) = output { Some(command) } else { None }).collect()
    }

    /// Whoever is asked by a node that does not say yet that it serves takes it for a client.
    #[test]
    fn a_server_meets_nobody_before_it_serves_every_dht() {
        let mut nodes = nodes(Mode::Server);
        assert_eq!(commands(&mut nodes), []);
        nodes.inquire(START, 1, None, &Inquiry::Closest(Bytes::from_static(b"early")));
        assert_eq!(commands(&mut nodes), []);
        nodes.loaded(START);
        let commands = commands(&mut nodes);
        let serves = |command: &NetCommand| matches!(command, NetCommand::Serve { serving: true, .. });
        assert!(commands[..2].iter().all(serves), "{commands:?}");
        let asks =
            |router| move |command: &NetCommand| matches!(command, NetCommand::Ask { router: of, .. } if *of == router);
        assert!((0..2).all(|router| commands[2..].iter().any(asks(RouterId(router)))), "{commands:?}");
    }

    #[test]
    fn a_client_asks_while_it_loads() {
        let mut nodes = nodes(Mode::Client);
        assert!(commands(&mut nodes).iter().any(|command| matches!(command, NetCommand::Ask { .. })));
    }

    /// Has the only peer of the first DHT answer, as one that keeps nothing and knows nobody. Returns what it was asked, and
    /// which calls have ended.
    fn answered(nodes: &mut Nodes) -> (Vec<Request>, Vec<CallId>) {
        let (mut asked, mut ended) = (Vec::new(), Vec::new());
        while let Some(output) = nodes.poll_output() {
            match output {
                NodeOutput::Net(NetCommand::Ask { router: RouterId(0), id, request, .. }) => {
                    asked.push(request.clone());
                    let response = match request {
                        Request::GetValue { .. } => Response::GetValue { record: None, closer: Vec::new() },
                        Request::PutValue { record } => Response::PutValue { record },
                        _ => Response::FindNode { closer: Vec::new() },
                    };
                    nodes.on_net(START, NetEvent::Response { router: RouterId(0), id, result: Ok(response) });
                }
                NodeOutput::Call(call, CallUpdate::Ended(_)) => ended.push(call),
                _ => {}
            }
        }
        (asked, ended)
    }

    #[test]
    fn of_a_read_and_a_put_that_share_a_walk_each_can_be_given_up() {
        let (read, sent, router) = (CallId(1), CallId(2), RouterId(0));
        let record = Publisher::new(1).record(1, 3600);
        for (given_up, left) in [(read, sent), (sent, read)] {
            let mut nodes = nodes(Mode::Client);
            answered(&mut nodes);
            nodes.start(START, read, router, Operation::Get { name: *record.name() }, Depth::Walk);
            nodes.start(START, sent, router, Operation::Put { record: record.clone() }, Depth::Usual);
            nodes.cancel(given_up);
            let (asked, ended) = answered(&mut nodes);
            assert_eq!(ended, [left]);
            assert!(asked.iter().any(|request| matches!(request, Request::GetValue { .. })), "{asked:?}");
            let puts = asked.iter().filter(|request| matches!(request, Request::PutValue { .. })).count();
            assert_eq!(puts, usize::from(left == sent), "{asked:?}");
            let node = &nodes.nodes[&router];
            assert!(node.askers.is_empty() && node.puts.is_empty());
            assert_eq!((node.dht.usage().queries, node.dht.sending()), (0, 0));
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut nodes = nodes(Mode::Server);
        for n in 10..2_000 {
            let info = PeerInfo { id: peer(n), addresses: vec![address(n)] };
            nodes.inquire(START, u64::from(n), Some(RouterId(0)), &Inquiry::Ping(info));
        }
        assert_eq!(nodes.nodes[&RouterId(0)].held.len(), MAX_HELD);
    }
}
