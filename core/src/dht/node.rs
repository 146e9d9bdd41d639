//! The node itself: what its caller sees, and how its parts work together.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::bootstrap::{Bootstrap, Health, Standing, Upkeep};
use super::config::{Config, Mode};
use super::get::{Get, Until};
use super::key::{Key, random_peer_in};
use super::lookup::Lookup;
use super::message::{PeerInfo, Request, Response, ValueRecord};
use super::output::{Event, InboundId, Output, Persist, QueryId};
use super::peers::Peers;
use super::provide::Own;
use super::put::Fanout;
use super::query::{Action, Answer, Context, Goal, Query, Role};
use super::rpc::{Expired, HARD_TIMEOUT, Pending, RpcError, RpcId, Rpcs};
use super::serve::Server;
use super::values::Refused;
use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::time::{Now, Timestamp};

/// No operation takes longer, whatever its peers do; what it has by then is its result.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Later than any process lives: 30,000 years.
const END_OF_TIME: Duration = Duration::from_secs(1 << 40);
/// When nobody answered for so long, silence says nothing against a peer: our own link may be down.
const LINK_ALIVE: Duration = Duration::from_secs(150);
/// Peers that are checked for a place in the table at once.
const MAX_CHECKING: usize = 16;
/// Peers that wait to be checked.
const MAX_TO_CHECK: usize = 256;

/// Why a question was asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Query(QueryId, Role),
    /// To see whether the peer is a live server.
    Check,
}

/// A Kademlia node of one DHT. See the [module's documentation](crate::dht).
#[derive(Debug)]
pub struct Dht {
    pub(super) config: Config,
    /// Ourselves, at our confirmed addresses.
    local: PeerInfo,
    rng: ChaCha8Rng,
    pub(super) peers: Peers,
    pub(super) server: Server,
    own: Own,
    pub(super) bootstrap: Bootstrap,
    pub(super) rpcs: Rpcs<Purpose>,
    queries: BTreeMap<QueryId, Query>,
    pub(super) deadlines: BTreeSet<(Duration, QueryId)>,
    next_query: u64,
    /// The latest time that was told.
    clock: Duration,
    pub(super) to_check: VecDeque<PeerInfo>,
    checking: usize,
    reachable: bool,
    last_answer: Option<Duration>,
    standing: Standing,
    outputs: VecDeque<Output>,
}

impl Dht {
    /// A node that begins to join through the seeds of `config`, if there are any.
    ///
    /// All randomness comes from `seed`: it must be unpredictable to others, or they know which places are refreshed.
    pub fn new(config: Config, local: PeerId, seed: [u8; 32], now: Now) -> Self {
        let now = Now { monotonic: now.monotonic.min(END_OF_TIME), ..now };
        let params = config.params();
        let peers =
            Peers::new(local, params.k, config.addresses, config.asn.clone(), config.diversity, config.limits.book);
        let mut dht = Self {
            server: Server::new(Key::of_peer(&local), &config.limits),
            local: PeerInfo { id: local, addresses: Vec::new() },
            rng: ChaCha8Rng::from_seed(seed),
            bootstrap: Bootstrap::new(now.monotonic, Vec::new(), config.refresh),
            peers,
            own: Own::default(),
            rpcs: Rpcs::new(),
            queries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_query: 0,
            clock: Duration::ZERO,
            to_check: VecDeque::new(),
            checking: 0,
            reachable: false,
            last_answer: None,
            standing: Standing::Alone,
            outputs: VecDeque::new(),
            config,
        };
        let seeds = dht.config.seeds.clone();
        dht.bootstrap(now, seeds);
        dht
    }

    /// What this node was told at its start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The next thing to do. Call it until `None` after every call that changes the node.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`on_timeout`](Self::on_timeout) is to be called at the latest, on the monotonic clock.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let timeouts = [
            self.rpcs.next_timeout(),
            self.deadlines.first().map(|(at, _)| *at),
            self.peers.table.next_check(),
            self.bootstrap.next_timeout(self.peers.table.live(), self.knows_anybody()),
            self.server.values.next_timeout(),
            self.server.providers.next_timeout(),
            self.own.next_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Looks for the record of a name until `until` is met. Tells [`Event::Found`] and [`Event::GetDone`]; afterwards
    /// it corrects the peers that hold an older record, or should hold one and do not.
    pub fn get(&mut self, now: Now, name: Name, until: Until) -> QueryId {
        let now = self.tick(now);
        self.start_get(now, name, until, true)
    }

    /// Walks to a name before a put: to its end, and corrects nobody. Tells [`Event::Found`] and [`Event::GetDone`],
    /// whose `closest` is where to put and whose `best` is what to be newer than.
    pub fn walk(&mut self, now: Now, name: Name) -> QueryId {
        let now = self.tick(now);
        self.start_get(now, name, Until::Complete, false)
    }

    fn start_get(&mut self, now: Now, name: Name, until: Until, corrects: bool) -> QueryId {
        let known = self.server.values.verified(now, &name).cloned();
        let get = Get::new(name, until, corrects, known);
        let key = name.routing_key().into();
        self.start_walk(now, Request::GetValue { key }, Goal::Get(Box::new(get)), Vec::new())
    }

    /// Sends a record to these peers. It is a success at `need` acks. A server keeps the record itself, too.
    /// Tells [`Event::Receipt`] and [`Event::PutDone`].
    pub fn put(&mut self, now: Now, record: &Verified, to: Vec<PeerInfo>, need: usize) -> QueryId {
        let now = self.tick(now);
        let key: Bytes = record.name().routing_key().into();
        let record = ValueRecord {
            key,
            value: record.as_bytes().clone(),
            // Receivers set it anew, but js-libp2p reads it before it does.
            received: Some(now.wall),
        };
        if self.is_server() {
            let ourselves = self.local.clone();
            self.serve(now, &ourselves, Request::PutValue { record: record.clone() }).ok();
        }
        let to = to.into_iter().filter(|peer| peer.id != self.local.id).collect();
        let fanout = Fanout::new(Request::PutValue { record }, to, need);
        self.start_query(now, |id, deadline| Query::send(id, deadline, fanout))
    }

    /// Looks for a peer's addresses. Tells [`Event::FindPeerDone`].
    pub fn find_peer(&mut self, now: Now, peer: PeerId) -> QueryId {
        let now = self.tick(now);
        let wanted = PeerInfo { id: peer, addresses: self.peers.addresses(&peer) };
        let key = peer.to_bytes().into();
        self.start_walk(now, Request::FindNode { key }, Goal::FindPeer(wanted), Vec::new())
    }

    /// Looks for the peers nearest to what `key` hashes to. Tells [`Event::ClosestDone`].
    pub fn closest(&mut self, now: Now, key: impl Into<Bytes>) -> QueryId {
        let now = self.tick(now);
        self.start_walk(now, Request::FindNode { key: key.into() }, Goal::Closest, Vec::new())
    }

    /// Announces, now and every 22 hours, that we provide what has the multihash `key`. Tells [`Event::Receipt`] and
    /// [`Event::PutDone`], also when it announces again.
    pub fn provide(&mut self, now: Now, key: impl Into<Bytes>) -> QueryId {
        let now = self.tick(now);
        let key = key.into();
        self.own.announced(now.monotonic, key.clone());
        let ourselves = self.local.clone();
        self.start_walk(now, Request::FindNode { key }, Goal::Provide(ourselves), Vec::new())
    }

    /// Announces `key` no more. Others forget it within 48 hours.
    pub fn stop_providing(&mut self, key: &Bytes) {
        self.own.stop(key);
    }

    /// Looks for at most `want` providers of a multihash. Tells [`Event::Provider`] and [`Event::ProvidersDone`].
    pub fn find_providers(&mut self, now: Now, key: impl Into<Bytes>, want: usize) -> QueryId {
        let now = self.tick(now);
        let request = Request::GetProviders { key: key.into() };
        self.start_walk(now, request, Goal::find_providers(want), Vec::new())
    }

    /// More peers to join through. Joining begins at once unless the node has joined; [`Event::Health`] tells of it.
    pub fn bootstrap(&mut self, now: Now, seeds: Vec<PeerInfo>) {
        let now = self.tick(now);
        let mut seeds: Vec<_> = seeds.iter().map(|seed| self.peers.tidy(seed)).collect();
        seeds.retain(|seed| seed.id != self.local.id);
        self.bootstrap.add_seeds(now.monotonic, seeds);
        self.settle(now);
    }

    /// Ends an operation. Nothing more is told of it; answers to its questions still teach the routing table.
    pub fn cancel(&mut self, query: QueryId) {
        if let Some(found) = self.queries.get(&query)
            && found.upkeep().is_none()
        {
            self.deadlines.remove(&(found.deadline, query));
            self.queries.remove(&query);
        }
    }

    /// A hint that a peer is a server of this DHT, reachable at what it says itself: from identify, from a neighbour
    /// search, or remembered from before a restart. It is asked before it enters the routing table.
    pub fn add_peer(&mut self, now: Now, peer: &PeerInfo) {
        let now = self.tick(now);
        let peer = self.peers.tidy(peer);
        if !self.config.addresses.allows_server(&peer.addresses) {
            return;
        }
        self.peers.book.moved(&peer);
        if self.peers.table.wants(&Key::of_peer(&peer.id)) {
            self.check_later(peer);
            self.settle(now);
        }
    }

    /// A hint that a peer is no server of this DHT any more.
    pub fn remove_peer(&mut self, now: Now, peer: &PeerId) {
        let now = self.tick(now);
        if let Some(spare) = self.peers.forget(peer) {
            self.check_later(spare);
        }
        self.settle(now);
    }

    /// Every live server ever met, at most [`Limits::book`](crate::dht::Limits::book): worth remembering across a restart, for
    /// [`add_peer`](Self::add_peer).
    pub fn known_peers(&self) -> impl Iterator<Item = PeerInfo> {
        self.peers.known()
    }

    /// Our own addresses, for those who look for us and for what we provide. Those that this DHT does not allow are
    /// left out.
    pub fn set_addresses(&mut self, addresses: Vec<Multiaddr>) {
        self.local = self.peers.tidy(&PeerInfo { id: self.local.id, addresses });
    }

    /// Whether others can reach us. Under [`Mode::Auto`] it decides whether we serve; [`Event::Serving`] tells of it.
    pub fn set_reachable(&mut self, reachable: bool) {
        let before = self.is_server();
        self.reachable = reachable;
        let serving = self.is_server();
        if serving != before {
            self.outputs.push_back(Output::Event(Event::Serving(serving)));
        }
    }

    /// Whether this node serves others: whether the caller should offer the protocol.
    pub fn is_server(&self) -> bool {
        match self.config.mode {
            Mode::Client => false,
            Mode::Server => true,
            Mode::Auto => self.reachable,
        }
    }

    /// How this node stands in its network.
    pub fn health(&self) -> Health {
        let live = self.peers.table.live();
        Health {
            standing: self.bootstrap.standing(live),
            table: self.peers.table.len(),
            live,
            known: self.peers.book.len(),
            last_answer: self.last_answer,
        }
    }

    /// How much is kept for others and in flight.
    pub fn usage(&self) -> Usage {
        Usage {
            values: self.server.values.len(),
            value_bytes: self.server.values.bytes(),
            providers: self.server.providers.len(),
            queries: self.queries.len(),
            rpcs: self.rpcs.len(),
        }
    }

    /// A record that was stored before a restart: see [`Persist`]. Its 48 hours go on.
    ///
    /// # Errors
    /// When it is not valid any more, or does not fit; it should be removed from the store then.
    pub fn load_record(&mut self, now: Now, key: Bytes, value: Bytes, received: Timestamp) -> Result<(), Refused> {
        let now = self.tick(now);
        let record = ValueRecord { key, value, received: None };
        self.server.values.put(now, None, record, received).map(drop)
    }

    /// A peer answered, or did not. Ignored for a question that is not out any more.
    pub fn on_response(&mut self, now: Now, id: RpcId, result: Result<Response, RpcError>) {
        let now = self.tick(now);
        if let Some(pending) = self.rpcs.finish(id) {
            self.finish_rpc(now, pending, result);
            self.settle(now);
        }
    }

    /// A peer asks something. `addresses` are where it can be reached, as far as known. The reply follows in the
    /// outputs of this very call.
    pub fn on_request(&mut self, now: Now, id: InboundId, peer: PeerId, addresses: &[Multiaddr], request: Request) {
        let now = self.tick(now);
        let from = PeerInfo { id: peer, addresses: addresses.to_vec() };
        let response = match self.is_server() {
            true => self.serve(now, &from, request),
            false => Err(Refused::NotServer),
        };
        self.outputs.push_back(Output::Reply { to: id, response });
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Now) {
        let now = self.tick(now);
        while let Some(expired) = self.rpcs.expire(now.monotonic) {
            match expired {
                Expired::Slow(id) => {
                    let pending = self.rpcs.get(id).map(|pending| (pending.purpose, pending.peer.id));
                    if let Some((Purpose::Query(query, role), peer)) = pending {
                        self.run(now, query, |query, context, actions| query.on_slow(context, role, &peer, actions));
                    }
                }
                Expired::Over(id) => {
                    if let Some(pending) = self.rpcs.finish(id) {
                        self.finish_rpc(now, pending, Err(RpcError::Timeout));
                    }
                }
            }
        }
        while let Some((at, query)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now.monotonic) {
            self.deadlines.remove(&(at, query));
            self.run(now, query, |query, context, actions| query.on_deadline(context, actions));
        }
        for key in self.server.values.expire(now) {
            self.outputs.push_back(Output::Persist(Persist::Remove { key }));
        }
        self.server.providers.expire(now.monotonic);
        while let Some(key) = self.own.take_due(now.monotonic) {
            self.provide(now, key);
        }
        for peer in self.peers.due(now.monotonic, MAX_CHECKING) {
            self.check_later(peer);
        }
        self.settle(now);
    }

    /// The caller's time, but never going back, and not so far in the future that a sum overflows.
    fn tick(&mut self, now: Now) -> Now {
        self.clock = self.clock.max(now.monotonic.min(END_OF_TIME));
        Now { monotonic: self.clock, wall: now.wall }
    }

    fn serve(&mut self, now: Now, from: &PeerInfo, request: Request) -> Result<Response, Refused> {
        let mut persist = Vec::new();
        let response = self.server.answer(now, from, &self.local, request, &self.peers, &mut persist);
        self.outputs.extend(persist.into_iter().map(Output::Persist));
        response
    }

    fn start_walk(&mut self, now: Now, request: Request, goal: Goal, seeds: Vec<PeerInfo>) -> QueryId {
        let target = Key::of(request.key());
        self.peers.table.refreshed(now.monotonic, &target);
        let starts = self.peers.starts(&target).into_iter().chain(seeds);
        let lookup = Lookup::new(self.local.id, target, self.config.params(), starts);
        self.start_query(now, |id, deadline| Query::walk(id, deadline, lookup, request, goal))
    }

    fn start_query(&mut self, now: Now, query: impl FnOnce(QueryId, Duration) -> Query) -> QueryId {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        let deadline = now.monotonic + QUERY_TIMEOUT;
        self.deadlines.insert((deadline, id));
        self.queries.insert(id, query(id, deadline));
        self.run(now, id, |query, context, actions| query.advance(context, actions));
        id
    }

    /// Lets a query act, does what it wants, and drops it when it is over.
    fn run(&mut self, now: Now, id: QueryId, step: impl FnOnce(&mut Query, &Context, &mut Vec<Action>)) {
        let Some(mut query) = self.queries.remove(&id) else {
            return;
        };
        let context = Context { checks: Checks::at(now.wall), k: self.config.params().k, holders: self.config.holders };
        let (mut actions, was_done) = (Vec::new(), query.is_done());
        step(&mut query, &context, &mut actions);
        for action in actions {
            match action {
                Action::Tell(event) => self.outputs.push_back(Output::Event(event)),
                Action::Ask(peer, request, role) => self.ask(now, peer, request, Purpose::Query(id, role)),
            }
        }
        let upkeep = query.upkeep();
        if query.is_done() && !was_done {
            self.deadlines.remove(&(query.deadline, id));
            if let Some(upkeep) = upkeep {
                self.bootstrap.finished(upkeep, self.peers.table.live());
            }
        }
        if !query.is_closed() {
            self.queries.insert(id, query);
        } else if upkeep.is_none() {
            self.outputs.push_back(Output::Event(Event::Closed { query: id }));
        }
    }

    fn ask(&mut self, now: Now, mut peer: PeerInfo, request: Request, purpose: Purpose) {
        if peer.addresses.is_empty() {
            peer.addresses = self.peers.addresses(&peer.id);
        }
        let patience = match purpose {
            Purpose::Query(_, Role::Walk) => Some(self.peers.book.patience(&Key::of_peer(&peer.id))),
            Purpose::Query(..) | Purpose::Check => None,
        };
        let (id, addresses) = (peer.id, peer.addresses.clone());
        let rpc = self.rpcs.start(now.monotonic, peer, request.clone(), purpose, patience);
        self.outputs.push_back(Output::Rpc { id: rpc, peer: id, addresses, request, timeout: HARD_TIMEOUT });
    }

    fn finish_rpc(&mut self, now: Now, pending: Pending<Purpose>, result: Result<Response, RpcError>) {
        let Pending { peer, request, sent, purpose, .. } = pending;
        let result = result.and_then(|response| match request.is_answered_by(&response) {
            true => Ok(response),
            false => Err(RpcError::Malformed),
        });
        let is_step = matches!(purpose, Purpose::Check | Purpose::Query(_, Role::Walk));
        match &result {
            Ok(_) => {
                self.last_answer = Some(now.monotonic);
                let took = now.monotonic.saturating_sub(sent).min(HARD_TIMEOUT);
                self.peers.met(now.monotonic, &peer, took, is_step);
            }
            Err(error) => self.on_missed(now, &peer.id, *error, is_step),
        }
        match purpose {
            Purpose::Check => self.checking = self.checking.saturating_sub(1),
            Purpose::Query(query, role) => {
                let leads = result.as_ref().map(|answer| self.peers.leads(answer.closer())).unwrap_or_default();
                let result = result.map(|answer| self.with_allowed_providers(answer));
                let answer = Answer {
                    role,
                    peer: &peer.id,
                    request: &request,
                    result: result.as_ref().map_err(|error| *error),
                    leads: &leads,
                };
                self.run(now, query, |query, context, actions| query.on_answer(context, answer, actions));
            }
        }
    }

    fn with_allowed_providers(&self, mut answer: Response) -> Response {
        if let Response::GetProviders { providers, .. } = &mut answer {
            *providers = self.peers.leads(providers);
        }
        answer
    }

    fn on_missed(&mut self, now: Now, peer: &PeerId, error: RpcError, is_step: bool) {
        let spare = match error {
            RpcError::Unsupported => self.peers.forget(peer),
            // A refused record says nothing against the peer; a refused step of a walk does.
            RpcError::Reset | RpcError::Closed | RpcError::Malformed if !is_step => None,
            RpcError::Reset | RpcError::Malformed => self.peers.missed(now.monotonic, peer, true),
            RpcError::Closed | RpcError::DialFailed | RpcError::Timeout => {
                let alive = |at: Duration| now.monotonic.saturating_sub(at) < LINK_ALIVE;
                self.peers.missed(now.monotonic, peer, self.last_answer.is_some_and(alive))
            }
        };
        if let Some(spare) = spare {
            self.check_later(spare);
        }
    }

    fn check_later(&mut self, peer: PeerInfo) {
        let waits = self.to_check.iter().any(|waiting| waiting.id == peer.id);
        if !waits && self.to_check.len() < MAX_TO_CHECK {
            self.to_check.push_back(peer);
        }
    }

    /// Whether there is anybody to join through.
    fn knows_anybody(&self) -> bool {
        !self.bootstrap.seeds().is_empty() || self.peers.book.len() > 0
    }

    /// What is to be done after every input: checks, the next lookup of upkeep, and a change of health told.
    fn settle(&mut self, now: Now) {
        while self.checking < MAX_CHECKING
            && let Some(peer) = self.to_check.pop_front()
        {
            self.checking += 1;
            let key = self.local.id.to_bytes().into();
            self.ask(now, peer, Request::FindNode { key }, Purpose::Check);
        }
        while let Some(upkeep) = self.next_upkeep(now) {
            let (key, seeds) = match upkeep {
                Upkeep::Own { seeds: true } => (self.local.id.to_bytes(), self.bootstrap.seeds().to_vec()),
                Upkeep::Own { seeds: false } => (self.local.id.to_bytes(), Vec::new()),
                Upkeep::Bucket(prefix) => {
                    let local = Key::of_peer(&self.local.id);
                    (random_peer_in(&local, prefix, &mut self.rng), Vec::new())
                }
            };
            self.start_walk(now, Request::FindNode { key: key.into() }, Goal::Upkeep(upkeep), seeds);
        }
        let health = self.health();
        if health.standing != self.standing {
            self.standing = health.standing;
            self.outputs.push_back(Output::Event(Event::Health(health)));
        }
    }

    fn next_upkeep(&mut self, now: Now) -> Option<Upkeep> {
        let (table, anybody) = (&self.peers.table, self.knows_anybody());
        let stale = |since| table.stale(since);
        self.bootstrap.next(now.monotonic, table.live(), anybody, stale, &mut self.rng)
    }
}

/// How much a node keeps for others, and what it has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Records kept.
    pub values: usize,
    /// Their bytes, keys included.
    pub value_bytes: usize,
    /// Provider records kept.
    pub providers: usize,
    /// Operations that are not closed, upkeep included.
    pub queries: usize,
    /// Questions that are out.
    pub rpcs: usize,
}
