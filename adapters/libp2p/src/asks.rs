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
    connections: Vec<(ConnectionId, BTreeSet<AskId>)>,
    waiting: VecDeque<AskId>,
    dial: Dial,
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
            peer.connections.iter_mut().for_each(|(_, asks)| asks.clear());
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
        entry.connections.push((connection, BTreeSet::new()));
        let waiting = std::mem::take(&mut entry.waiting);
        match &entry.dial {
            Dial::Ours { connection: ours, .. } if *ours == connection => {
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
        self.dial_next();
    }

    pub(crate) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(at) = entry.connections.iter().position(|(id, _)| *id == connection) else { return };
        let (_, asks) = entry.connections.remove(at);
        for id in asks {
            match self.pending.get_mut(&id) {
                Some(pending) if !pending.again && !pending.begun.load(Ordering::Acquire) => {
                    pending.again = true;
                    self.dispatch(id);
                }
                _ => self.finish(id, Err(RpcError::Closed)),
            }
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
        let Some((connection, asks)) = entry.connections.iter_mut().min_by_key(|(_, asks)| asks.len()) else {
            pending.place = Place::Waiting;
            entry.waiting.push_back(id);
            if entry.dial == Dial::None {
                self.dial(peer, Vec::new());
            }
            return;
        };
        asks.insert(id);
        pending.place = Place::On(*connection);
        let question = Question {
            id,
            protocol: pending.ask.protocol.clone(),
            request: pending.ask.request.clone(),
            deadline: pending.deadline,
            begun: pending.begun.clone(),
        };
        self.steps.push_back(Step::Put { peer, connection: *connection, question });
    }

    /// Dials a peer at the addresses that its questions name, now or when it is its turn.
    fn dial(&mut self, peer: PeerId, mut tried: Vec<Multiaddr>) {
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
        tried.extend(addresses.iter().cloned());
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
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
                    for (_, asks) in peer.connections.iter_mut().filter(|(open, _)| *open == connection) {
                        asks.remove(&id);
                    }
                }
            }
        }
        self.tidy(ask.peer);
        self.steps.push_back(Step::Done { router: ask.router, id: ask.id, result });
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
            let (open, dialling, put, done) = Default::default();
            // Ids that the swarm will not give out in this test.
            Self { asks, now, peers, asked: 0, connections: 1 << 40, open, dialling, put, done }
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
            steps in proptest::collection::vec((0..9_u8, 0..30_usize, 0..4_u16), 0..120),
        ) {
            let limits = Limits { asks: 4, waiting_asks: 3, dials: 2, ..Limits::default() };
            let mut world = World::new(limits);
            for (what, n, port) in steps {
                let place = |len: usize| (len > 0).then(|| n % len.max(1));
                match what {
                    0..=2 => { world.ask(n % 3, port, SECOND * u32::from(port)); }
                    3 => if let Some(at) = place(world.dialling.len()) { world.dial_ends(at, true, false) },
                    4 => if let Some(at) = place(world.dialling.len()) { world.dial_ends(at, false, n % 2 == 0) },
                    5 => if let Some(at) = place(world.open.len()) { world.close(at) },
                    6 => if let Some(at) = place(world.put.len()) {
                        world.put[at].1.begun.store(true, Ordering::Release);
                        if port > 0 { world.answer(at) }
                    },
                    7 => world.connect_inbound(n % 3),
                    _ => {
                        world.asks.on_dial_failed(world.peers[n % 3], foreign(), false);
                        world.pass(SECOND / 2 * u32::from(port));
                    }
                }
                prop_assert_eq!(world.asks.dials(), world.dialling.len());
                prop_assert!(world.dialling.len() <= 2);
                prop_assert!(world.asks.pending.len() <= 4 + 3);
                let waiting: usize = world.asks.peers.values().map(|peer| peer.waiting.len()).sum();
                let on: usize = world.asks.peers.values().flat_map(|peer| &peer.connections).map(|(_, asks)| asks.len()).sum();
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
