//! The questions of this node: whom they wait for, on which connection they are, and until when. No I/O: the behaviour
//! tells what happened and carries out the [`Step`]s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipns_core::dht::{Request, Response, RpcError, RpcId};
use ipns_core::routing::RouterId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, StreamProtocol};
use libp2p::{Multiaddr, PeerId};

use crate::limits::Limits;

/// One question, within this crate; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(u64);

/// A question as the node asks it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) router: RouterId,
    pub(crate) id: RpcId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    pub(crate) request: Request,
    pub(crate) timeout: Duration,
}

/// A question as a connection puts it.
#[derive(Debug)]
pub struct Question {
    pub(crate) id: AskId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) request: Request,
    pub(crate) deadline: Instant,
    /// Set as soon as the peer may have seen anything of it.
    pub(crate) begun: Arc<AtomicBool>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    Dial(DialOpts),
    Put { peer: PeerId, connection: ConnectionId, question: Question },
    Close { peer: PeerId, connection: ConnectionId },
    Done { router: RouterId, id: RpcId, result: Result<Response, RpcError> },
}

#[derive(Debug)]
pub(crate) struct Asks {
    limits: Limits,
    next: u64,
    pending: BTreeMap<AskId, Pending>,
    deadlines: BTreeSet<(Instant, AskId)>,
    /// Those whose turn has not come.
    queue: VecDeque<AskId>,
    peers: BTreeMap<PeerId, Peer>,
    /// Peers to be dialled as soon as there are fewer dials.
    to_dial: VecDeque<PeerId>,
    dials: usize,
    /// Connections of our dialling without a question, the longest idle first.
    idle: BTreeMap<u64, (PeerId, ConnectionId)>,
    clock: u64,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Pending {
    ask: Ask,
    deadline: Instant,
    place: Place,
    begun: Arc<AtomicBool>,
    /// A question that a closing connection swallowed is put again, once.
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Queued,
    /// For a connection to the peer.
    Waiting,
    On(ConnectionId),
}

#[derive(Debug, Default)]
struct Peer {
    connections: Vec<Connection>,
    waiting: VecDeque<AskId>,
    dial: Dial,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    asks: BTreeSet<AskId>,
    /// Whether it came of our dialling.
    ours: bool,
    /// Its place among those that are idle.
    idle: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Dial {
    #[default]
    None,
    Queued,
    Ours {
        connection: ConnectionId,
        tried: Vec<Multiaddr>,
    },
    /// Somebody else in the swarm dials the peer.
    Theirs,
}

impl Peer {
    fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.waiting.is_empty() && self.dial == Dial::None
    }
}

/// Nobody waits longer than this, so that deadlines can be reckoned.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

impl Asks {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: VecDeque::new(),
            peers: BTreeMap::new(),
            to_dial: VecDeque::new(),
            dials: 0,
            idle: BTreeMap::new(),
            clock: 0,
            steps: VecDeque::new(),
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials
    }

    /// The peers of which anything is kept: those that are connected, dialled or waited for.
    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn ask(&mut self, now: Instant, ask: Ask) {
        if self.queue.len() >= self.limits.waiting_asks {
            self.steps.push_back(Step::Done { router: ask.router, id: ask.id, result: Err(RpcError::Timeout) });
            return;
        }
        let id = AskId(self.next);
        self.next += 1;
        let deadline = now + ask.timeout.min(MAX_TIMEOUT);
        self.deadlines.insert((deadline, id));
        self.pending.insert(id, Pending { ask, deadline, place: Place::Queued, begun: Arc::default(), again: false });
        self.queue.push_back(id);
        self.start();
    }

    /// Forgets all questions. Nobody waits for them any more.
    pub(crate) fn clear(&mut self) {
        for peer in self.peers.values_mut() {
            peer.waiting.clear();
            peer.connections.iter_mut().for_each(|connection| connection.asks.clear());
            if peer.dial == Dial::Queued {
                peer.dial = Dial::None;
            }
        }
        self.peers.retain(|_, peer| !peer.is_idle());
        self.pending.clear();
        self.deadlines.clear();
        self.queue.clear();
        self.to_dial.clear();
        // Dials are counted already; what they bring is of no use, but they must end.
        self.steps.retain(|step| matches!(step, Step::Dial(_)));
    }

    pub(crate) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let entry = self.peers.entry(peer).or_default();
        let ours = matches!(&entry.dial, Dial::Ours { connection: ours, .. } if *ours == connection);
        entry.connections.push(Connection { id: connection, asks: BTreeSet::new(), ours, idle: None });
        let waiting = std::mem::take(&mut entry.waiting);
        match &entry.dial {
            Dial::Ours { .. } if ours => {
                entry.dial = Dial::None;
                self.dials -= 1;
            }
            Dial::Queued => {
                entry.dial = Dial::None;
                self.to_dial.retain(|queued| *queued != peer);
            }
            Dial::Theirs => entry.dial = Dial::None,
            Dial::None | Dial::Ours { .. } => {}
        }
        for id in waiting {
            self.dispatch(id);
        }
        self.rest(peer, connection);
        self.dial_next();
    }

    pub(crate) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        for id in self.remove(peer, connection) {
            match self.pending.get_mut(&id) {
                Some(pending) if !pending.again && !pending.begun.load(Ordering::Acquire) => {
                    pending.again = true;
                    self.dispatch(id);
                }
                _ => self.finish(id, Err(RpcError::Closed)),
            }
        }
        // What kept the peer from being dialled may have been this connection, while it closed.
        if self.peers.get(&peer).is_some_and(|entry| entry.dial == Dial::Theirs && entry.connections.is_empty()) {
            self.dial(peer, Vec::new());
        }
        self.tidy(peer);
        self.start();
    }

    /// A dial came to nothing, ours or another's. With `raced` it was not even tried, because the peer is dialled.
    pub(crate) fn on_dial_failed(&mut self, peer: PeerId, connection: ConnectionId, raced: bool) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        match std::mem::take(&mut entry.dial) {
            Dial::Ours { connection: ours, tried } if ours == connection => {
                self.dials -= 1;
                if raced {
                    entry.dial = Dial::Theirs;
                } else {
                    self.after_dial(peer, tried);
                }
            }
            Dial::Theirs if !raced => self.dial(peer, Vec::new()),
            other => entry.dial = other,
        }
        self.tidy(peer);
        self.dial_next();
        self.start();
    }

    /// What a connection says of a question. One that is over already is no news.
    pub(crate) fn on_answer(&mut self, id: AskId, result: Result<Response, RpcError>) {
        self.finish(id, result);
        self.start();
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) {
        let mut queued = false;
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            queued |= self.pending.get(&id).is_some_and(|pending| pending.place == Place::Queued);
            self.finish(id, Err(RpcError::Timeout));
        }
        if queued {
            self.queue.retain(|id| self.pending.contains_key(id));
        }
        self.start();
    }

    /// Lets the next ones begin.
    fn start(&mut self) {
        while self.pending.len() - self.queue.len() < self.limits.asks
            && let Some(id) = self.queue.pop_front()
        {
            self.dispatch(id);
        }
    }

    /// Puts a question on the least busy connection to its peer, or lets it wait for one.
    fn dispatch(&mut self, id: AskId) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let peer = pending.ask.peer;
        let entry = self.peers.entry(peer).or_default();
        let Some(connection) = entry.connections.iter_mut().min_by_key(|connection| connection.asks.len()) else {
            pending.place = Place::Waiting;
            entry.waiting.push_back(id);
            if entry.dial == Dial::None {
                self.dial(peer, Vec::new());
            }
            return;
        };
        connection.asks.insert(id);
        if let Some(idle) = connection.idle.take() {
            self.idle.remove(&idle);
        }
        pending.place = Place::On(connection.id);
        let question = Question {
            id,
            protocol: pending.ask.protocol.clone(),
            request: pending.ask.request.clone(),
            deadline: pending.deadline,
            begun: pending.begun.clone(),
        };
        self.steps.push_back(Step::Put { peer, connection: connection.id, question });
    }

    /// Dials a peer at the addresses that its questions name, now or when it is its turn.
    fn dial(&mut self, peer: PeerId, tried: Vec<Multiaddr>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.waiting.is_empty() {
            entry.dial = Dial::None;
            return;
        }
        if self.dials >= self.limits.dials {
            entry.dial = Dial::Queued;
            self.to_dial.push_back(peer);
            return;
        }
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for pending in entry.waiting.iter().filter_map(|id| self.pending.get(id)) {
            for address in &pending.ask.addresses {
                if addresses.len() < self.limits.addresses && !addresses.contains(address) && !tried.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
        self.start_dial(peer, addresses, tried);
    }

    /// Dials a peer that is not connected, unless there are too many dials: questions come before what may be of use.
    pub(crate) fn connect(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        let is_known = self.peers.get(&peer).is_some_and(|entry| !entry.is_idle());
        if is_known || self.dials >= self.limits.dials / 2 {
            return;
        }
        addresses.truncate(self.limits.addresses);
        self.peers.entry(peer).or_default();
        self.start_dial(peer, addresses, Vec::new());
    }

    fn start_dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, mut tried: Vec<Multiaddr>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        tried.extend(addresses.iter().cloned());
        // As identify writes them: what both know would be dialled twice otherwise.
        let addresses = addresses.into_iter().map(|address| address.with_p2p(peer).unwrap_or_else(|address| address));
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses.collect())
            .extend_addresses_through_behaviour()
            .build();
        entry.dial = Dial::Ours { connection: options.connection_id(), tried };
        self.dials += 1;
        self.steps.push_back(Step::Dial(options));
    }

    /// Dials the next peers whose turn it is.
    fn dial_next(&mut self) {
        while self.dials < self.limits.dials
            && let Some(peer) = self.to_dial.pop_front()
        {
            self.dial(peer, Vec::new());
        }
    }

    /// Ends what waited for a dial that failed; questions that came meanwhile and know other addresses try those.
    fn after_dial(&mut self, peer: PeerId, tried: Vec<Multiaddr>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let knows_more = |id: &AskId| {
            let addresses = self.pending.get(id).map(|pending| &pending.ask.addresses);
            addresses.is_some_and(|addresses| addresses.iter().any(|address| !tried.contains(address)))
        };
        let (hopeful, failed) = std::mem::take(&mut entry.waiting).into_iter().partition(knows_more);
        entry.waiting = hopeful;
        let failed: VecDeque<AskId> = failed;
        for id in failed {
            self.finish(id, Err(RpcError::DialFailed));
        }
        self.dial(peer, tried);
    }

    fn finish(&mut self, id: AskId, result: Result<Response, RpcError>) {
        let Some(Pending { ask, deadline, place, .. }) = self.pending.remove(&id) else { return };
        self.deadlines.remove(&(deadline, id));
        if let Some(peer) = self.peers.get_mut(&ask.peer) {
            match place {
                Place::Queued => {}
                Place::Waiting => peer.waiting.retain(|waiting| *waiting != id),
                Place::On(connection) => {
                    for open in peer.connections.iter_mut().filter(|open| open.id == connection) {
                        open.asks.remove(&id);
                    }
                    self.rest(ask.peer, connection);
                }
            }
        }
        self.tidy(ask.peer);
        self.steps.push_back(Step::Done { router: ask.router, id: ask.id, result });
    }

    /// Notes that a connection has no question any more, if so, and closes the longest idle ones beyond the limit.
    fn rest(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(open) = entry.connections.iter_mut().find(|open| open.id == connection) else { return };
        if !open.ours || !open.asks.is_empty() || open.idle.is_some() {
            return;
        }
        self.clock += 1;
        open.idle = Some(self.clock);
        self.idle.insert(self.clock, (peer, connection));
        while self.idle.len() > self.limits.idle_connections
            && let Some((_, (peer, connection))) = self.idle.pop_first()
        {
            self.remove(peer, connection);
            self.tidy(peer);
            self.steps.push_back(Step::Close { peer, connection });
        }
    }

    /// Takes a connection off; gives the questions that were on it.
    fn remove(&mut self, peer: PeerId, connection: ConnectionId) -> BTreeSet<AskId> {
        let Some(entry) = self.peers.get_mut(&peer) else { return BTreeSet::new() };
        let Some(at) = entry.connections.iter().position(|open| open.id == connection) else { return BTreeSet::new() };
        let Connection { asks, idle, .. } = entry.connections.remove(at);
        if let Some(idle) = idle {
            self.idle.remove(&idle);
        }
        asks
    }

    /// Keeps nothing of a peer of whom nothing is wanted.
    fn tidy(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.dial == Dial::Queued && entry.waiting.is_empty() {
            entry.dial = Dial::None;
            self.to_dial.retain(|queued| *queued != peer);
        }
        if entry.is_idle() {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The id of a dial that is not ours.
    fn foreign() -> ConnectionId {
        ConnectionId::new_unchecked(1 << 41)
    }

    /// A swarm in which only what the test says happens.
    struct World {
        asks: Asks,
        now: Instant,
        peers: Vec<PeerId>,
        asked: u64,
        connections: usize,
        open: Vec<(PeerId, ConnectionId)>,
        closing: Vec<(PeerId, ConnectionId)>,
        dialling: Vec<(PeerId, ConnectionId)>,
        put: Vec<(ConnectionId, Question)>,
        done: Vec<(RpcId, Result<Response, RpcError>)>,
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    impl World {
        fn new(limits: Limits) -> Self {
            let peers = (0..3).map(|_| PeerId::random()).collect();
            let (asks, now) = (Asks::new(limits), Instant::now());
            let (open, closing, dialling, put, done) = Default::default();
            // Ids that the swarm will not give out in this test.
            Self { asks, now, peers, asked: 0, connections: 1 << 40, open, closing, dialling, put, done }
        }

        fn ask(&mut self, peer: usize, port: u16, timeout: Duration) -> RpcId {
            let id = RpcId(self.asked);
            self.asked += 1;
            let (protocol, addresses) = (StreamProtocol::new("/test"), vec![address(port)]);
            let (peer, request) = (self.peers[peer], Request::Ping);
            self.asks.ask(self.now, Ask { router: RouterId(0), id, protocol, peer, addresses, request, timeout });
            self.carry_out();
            id
        }

        fn carry_out(&mut self) {
            while let Some(step) = self.asks.next_step() {
                match step {
                    Step::Dial(options) => {
                        self.dialling.push((options.get_peer_id().unwrap(), options.connection_id()));
                    }
                    Step::Put { connection, question, peer } => {
                        assert!(self.open.contains(&(peer, connection)), "a question on a connection that is closed");
                        self.put.push((connection, question));
                    }
                    Step::Close { peer, connection } => {
                        let at = self.open.iter().position(|open| *open == (peer, connection)).unwrap();
                        self.closing.push(self.open.remove(at));
                    }
                    Step::Done { id, result, .. } => self.done.push((id, result)),
                }
            }
        }

        fn connect(&mut self, peer: PeerId, connection: ConnectionId) {
            self.open.push((peer, connection));
            self.asks.on_connected(peer, connection);
            self.carry_out();
        }

        /// A connection that nobody here dialled.
        fn connect_inbound(&mut self, peer: usize) {
            self.connections += 1;
            self.connect(self.peers[peer], ConnectionId::new_unchecked(self.connections));
        }

        fn dial_ends(&mut self, at: usize, well: bool, raced: bool) {
            let (peer, connection) = self.dialling.remove(at);
            if well {
                return self.connect(peer, connection);
            }
            self.asks.on_dial_failed(peer, connection, raced);
            self.carry_out();
        }

        fn close(&mut self, at: usize) {
            let (peer, connection) = self.open.remove(at);
            self.put.retain(|(on, _)| *on != connection);
            self.asks.on_closed(peer, connection);
            self.carry_out();
        }

        /// What was to be closed has closed.
        fn closed(&mut self) {
            for (peer, connection) in std::mem::take(&mut self.closing) {
                self.asks.on_closed(peer, connection);
                self.carry_out();
            }
        }

        fn answer(&mut self, at: usize) {
            let (_, question) = self.put.remove(at);
            self.asks.on_answer(question.id, Ok(Response::Ping));
            self.carry_out();
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.asks.on_timeout(self.now);
            self.carry_out();
        }
    }

    #[test]
    fn a_connection_made_beforehand_is_there_for_the_question() {
        let mut world = World::new(Limits { dials: 4, ..Limits::default() });
        for peer in [0, 0, 1, 2] {
            world.asks.connect(world.peers[peer], vec![address(1)]);
            world.carry_out();
        }
        // Half of the dials are for questions.
        assert_eq!(world.dialling.len(), 2);
        let id = world.ask(0, 1, SECOND);
        assert_eq!((world.dialling.len(), world.put.len()), (2, 0));
        world.dial_ends(0, true, false);
        assert_eq!(world.put.len(), 1);
        world.answer(0);
        assert_eq!(world.done, [(id, Ok(Response::Ping))]);
        // One that comes to nothing leaves nothing behind.
        world.dial_ends(0, false, false);
        assert_eq!((world.asks.dials(), world.asks.peers(), world.asks.pending()), (0, 1, 0));
    }

    #[test]
    fn one_dial_for_all_and_few_dials_at_once() {
        let mut world = World::new(Limits { dials: 1, ..Limits::default() });
        let ids = [world.ask(0, 1, SECOND), world.ask(0, 2, SECOND), world.ask(1, 1, SECOND), world.ask(2, 1, SECOND)];
        assert_eq!((world.dialling.len(), world.asks.dials()), (1, 1));
        // A peer that waits for its dial calls by itself.
        world.connect_inbound(2);
        assert_eq!((world.put.len(), world.dialling.len()), (1, 1));
        world.dial_ends(0, true, false);
        assert_eq!((world.put.len(), world.dialling[0].0), (3, world.peers[1]));
        world.dial_ends(0, false, false);
        assert_eq!(world.done, [(ids[2], Err(RpcError::DialFailed))]);
        assert_eq!((world.asks.dials(), world.dialling.len()), (0, 0));
    }

    #[test]
    fn the_dial_of_another_is_waited_for() {
        let mut world = World::new(Limits::default());
        let id = world.ask(0, 1, SECOND);
        world.dial_ends(0, false, true);
        assert_eq!((world.done.len(), world.asks.dials()), (0, 0));
        // It comes to nothing, so it is our turn again.
        world.asks.on_dial_failed(world.peers[0], foreign(), false);
        world.carry_out();
        world.dial_ends(0, false, false);
        assert_eq!(world.done, [(id, Err(RpcError::DialFailed))]);
        assert_eq!(world.asks.peers(), 0);
    }

    #[test]
    fn what_a_closing_connection_swallows_is_put_again_once() {
        let mut world = World::new(Limits::default());
        let (lost, begun) = (world.ask(0, 1, SECOND), world.ask(0, 1, SECOND));
        world.dial_ends(0, true, false);
        world.put[1].1.begun.store(true, Ordering::Release);
        world.close(0);
        assert_eq!((&world.done[..], world.dialling.len()), (&[(begun, Err(RpcError::Closed))][..], 1));
        world.dial_ends(0, true, false);
        world.close(0);
        assert_eq!(world.done.last(), Some(&(lost, Err(RpcError::Closed))));
        assert_eq!(world.asks.peers(), 0);
    }

    #[test]
    fn the_longest_idle_connections_of_ours_are_closed() {
        let mut world = World::new(Limits { idle_connections: 1, ..Limits::default() });
        world.connect_inbound(2);
        for peer in 0..2 {
            world.ask(peer, 1, SECOND);
            world.dial_ends(0, true, false);
        }
        world.answer(0);
        assert_eq!(world.closing, []);
        world.answer(0);
        let (closed, left) = (world.peers[0], world.peers[1]);
        assert_eq!((world.closing[0].0, world.open.len()), (closed, 2));
        // While it closes, the swarm takes the peer for connected; it is dialled when it has closed.
        let id = world.ask(0, 1, SECOND);
        world.dial_ends(0, false, true);
        world.closed();
        world.dial_ends(0, true, false);
        // A connection that is in use is not idle, however long ago that began.
        assert_eq!((world.put.len(), &world.closing[..]), (1, &[][..]));
        world.answer(0);
        assert_eq!((world.done.last(), world.closing[0].0), (Some(&(id, Ok(Response::Ping))), left));
    }

    #[test]
    fn time_runs_while_a_question_waits_for_its_turn() {
        let mut world = World::new(Limits { asks: 1, ..Limits::default() });
        world.connect_inbound(0);
        let ids = [world.ask(0, 1, 3 * SECOND), world.ask(0, 1, SECOND), world.ask(0, 1, 9 * SECOND)];
        world.pass(SECOND);
        assert_eq!(world.done, [(ids[1], Err(RpcError::Timeout))]);
        world.pass(2 * SECOND);
        assert_eq!(
            (world.done.len(), world.put.len(), world.asks.next_deadline()),
            (2, 2, Some(world.now + 6 * SECOND))
        );
        world.answer(1);
        assert_eq!(world.done.last(), Some(&(ids[2], Ok(Response::Ping))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn every_question_ends_once_and_nothing_is_left(
            steps in proptest::collection::vec((0..10_u8, 0..30_usize, 0..4_u16), 0..120),
        ) {
            let limits = Limits { asks: 4, waiting_asks: 3, dials: 2, idle_connections: 2, ..Limits::default() };
            let mut world = World::new(limits);
            for (what, n, port) in steps {
                let place = |len: usize| (len > 0).then(|| n % len.max(1));
                match what {
                    0..=2 => { world.ask(n % 3, port, SECOND * u32::from(port)); }
                    3 => if let Some(at) = place(world.dialling.len()) { world.dial_ends(at, true, false) },
                    4 => if let Some(at) = place(world.dialling.len()) { world.dial_ends(at, false, n % 2 == 0) },
                    5 if n % 2 == 0 => world.closed(),
                    5 => if let Some(at) = place(world.open.len()) { world.close(at) },
                    6 => if let Some(at) = place(world.put.len()) {
                        world.put[at].1.begun.store(true, Ordering::Release);
                        if port > 0 { world.answer(at) }
                    },
                    7 => world.connect_inbound(n % 3),
                    8 => {
                        world.asks.connect(world.peers[n % 3], vec![address(port)]);
                        world.carry_out();
                    }
                    _ => {
                        world.asks.on_dial_failed(world.peers[n % 3], foreign(), false);
                        world.pass(SECOND / 2 * u32::from(port));
                    }
                }
                prop_assert_eq!(world.asks.dials(), world.dialling.len());
                prop_assert!(world.dialling.len() <= 2);
                prop_assert!(world.asks.pending.len() <= 4 + 3);
                let waiting: usize = world.asks.peers.values().map(|peer| peer.waiting.len()).sum();
                let on: usize = world.asks.peers.values().flat_map(|peer| &peer.connections).map(|open| open.asks.len()).sum();
                let connections = world.asks.peers.values().flat_map(|peer| &peer.connections);
                let idle = connections.filter(|open| open.idle.is_some()).count();
                prop_assert!(idle == world.asks.idle.len() && idle <= 2);
                prop_assert_eq!(waiting + on + world.asks.queue.len(), world.asks.pending.len());
                prop_assert_eq!(world.asks.deadlines.len(), world.asks.pending.len());
                prop_assert_eq!(world.asked as usize, world.asks.pending.len() + world.done.len());
            }
            while !world.dialling.is_empty() {
                world.dial_ends(0, false, false);
            }
            world.pass(9 * SECOND);
            while !world.dialling.is_empty() {
                world.dial_ends(0, false, false);
            }
            while !world.open.is_empty() {
                world.close(0);
            }
            world.closed();
            for peer in world.peers.clone() {
                world.asks.on_dial_failed(peer, foreign(), false);
            }
            let mut ids: Vec<RpcId> = world.done.iter().map(|(id, _)| *id).collect();
            ids.sort();
            prop_assert_eq!(ids, (0..world.asked).map(RpcId).collect::<Vec<_>>());
            prop_assert_eq!((world.asks.pending(), world.asks.peers(), world.asks.dials()), (0, 0, 0));
            prop_assert!(world.asks.queue.is_empty() && world.asks.to_dial.is_empty() && world.asks.deadlines.is_empty());
        }
    }
}
