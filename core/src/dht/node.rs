//! The node itself: what its caller sees, and how its parts work together.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::action::{Action, Answer, Context, Role};
use super::bootstrap::{Bootstrap, Health, Standing};
use super::config::{Config, Mode};
use super::crawl::{Coverage, Crawl, Step};
use super::kept::{Kept, Tag, read, tag};
use super::key::Key;
use super::lookup::Lookup;
use super::message::{PeerInfo, Request, Response};
use super::output::{Event, InboundId, Output, QueryId};
use super::peers::{Lead, Peers, TableEntry};
use super::provide::Own;
use super::query::Query;
use super::rpc::{Expired, HARD_TIMEOUT, Pending, RpcError, RpcId, Rpcs};
use super::serve::Server;
use super::size::Size;
use super::sweep::{AreaId, Sweep};
use super::values::Refused;
use super::walk::Goal;
use crate::name::Name;
use crate::record::Checks;
use crate::store::Table;
use crate::time::Now;

/// The most walks that wait for a put.
pub(super) const MAX_HELD: usize = 256;
/// No operation takes longer, whatever its peers do; what it has by then is its result.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Where all servers are to be known there is room for so many.
const BOOK_OF_ALL: usize = 1 << 16;
/// Later than any process lives: 30,000 years.
const END_OF_TIME: Duration = Duration::from_secs(1 << 40);

/// Why a question was asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Query(QueryId, Role),
    /// To see whether the peer is a live server.
    Check,
    /// To find servers that nobody looked for.
    Crawl(Step),
    /// To find the servers of a region.
    Sweep(AreaId),
    /// Someone wants to know whether it answers.
    Ping(QueryId),
}

impl Purpose {
    /// Whether the question is one that gives the peer something to keep.
    fn hands_over(self) -> bool {
        matches!(self, Self::Query(_, Role::Send | Role::Correct))
    }
}

/// A Kademlia node of one DHT. See the [module's documentation](crate::dht).
#[derive(Debug)]
pub struct Dht {
    pub(super) config: Config,
    pub(super) tag: Tag,
    /// Ourselves, at our confirmed addresses.
    pub(super) local: PeerInfo,
    pub(super) rng: ChaCha8Rng,
    pub(super) peers: Peers,
    pub(super) server: Server,
    pub(super) own: Own,
    /// The last walk to each name that a put may go on with.
    pub(super) held: BTreeMap<Name, QueryId>,
    pub(super) size: Size,
    pub(super) bits_of_region: Option<u32>,
    pub(super) crawl: Crawl,
    pub(super) sweep: Sweep,
    pub(super) bootstrap: Bootstrap,
    pub(super) rpcs: Rpcs<Purpose>,
    /// Boxed: a query is taken out whenever it acts, and is large.
    pub(super) queries: BTreeMap<QueryId, Box<Query>>,
    pub(super) deadlines: BTreeSet<(Duration, QueryId)>,
    pub(super) next_query: u64,
    lookups: u64,
    /// The latest time that was told.
    pub(super) clock: Duration,
    pub(super) to_check: VecDeque<PeerInfo>,
    pub(super) checking: usize,
    sending: usize,
    /// When what is known of the peers is written to the store.
    pub(super) save: Option<Duration>,
    reachable: bool,
    pub(super) last_answer: Option<Duration>,
    pub(super) standing: Standing,
    pub(super) outputs: VecDeque<Output>,
}

impl Dht {
    /// A node that begins to join through the seeds of `config`, if there are any.
    ///
    /// All randomness comes from `seed`: it must be unpredictable to others, or they know which places are refreshed.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Self {
        let now = Now { monotonic: now.monotonic.min(END_OF_TIME), ..now };
        let (local, params, tag) = (config.local, config.params(), tag(&config.protocol));
        let book = match config.crawl.coverage {
            Coverage::All => config.limits.book.max(BOOK_OF_ALL),
            Coverage::Table | Coverage::Regions => config.limits.book,
        };
        let peers = Peers::new(local, params.k, config.addresses, config.asn.clone(), config.diversity, book);
        let mut dht = Self {
            tag,
            server: Server::new(tag, Key::of_peer(&local), &config.limits),
            local: PeerInfo { id: local, addresses: Vec::new() },
            rng: ChaCha8Rng::from_seed(seed),
            bootstrap: Bootstrap::new(now.monotonic, Vec::new(), config.refresh),
            peers,
            own: Own::default(),
            held: BTreeMap::new(),
            size: Size::default(),
            bits_of_region: None,
            crawl: Crawl::new(config.crawl, book),
            sweep: Sweep::default(),
            rpcs: Rpcs::new(),
            queries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_query: 0,
            lookups: 0,
            clock: Duration::ZERO,
            to_check: VecDeque::new(),
            checking: 0,
            sending: 0,
            save: None,
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
            self.crawl.next_timeout(self.may_crawl()),
            self.sweep.next_timeout(),
            self.server.values.next_timeout(),
            self.server.providers.next_timeout(),
            self.own.next_timeout(),
            self.save,
        ];
        timeouts.into_iter().flatten().min()
    }

    /// More peers to join through. Joining begins at once unless the node has joined; [`Event::Health`] tells of it.
    pub fn bootstrap(&mut self, now: Now, seeds: Vec<PeerInfo>) {
        let now = self.tick(now);
        let mut seeds: Vec<_> = seeds.into_iter().map(|seed| self.peers.tidy(seed)).collect();
        seeds.retain(|seed| seed.id != self.local.id);
        self.bootstrap.add_seeds(now.monotonic, seeds);
        self.settle(now);
    }

    /// The entries of the routing table, farthest bucket first.
    pub fn table(&self) -> impl Iterator<Item = TableEntry> + '_ {
        self.peers.entries()
    }

    /// Our own addresses, for those who look for us and for what we provide. Those that this DHT does not allow are
    /// left out.
    pub fn set_addresses(&mut self, addresses: Vec<Multiaddr>) {
        self.local = self.peers.tidy(PeerInfo { id: self.local.id, addresses });
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
            size: self.size.estimate(self.clock),
            crawled: self.crawl.completed(),
            last_answer: self.last_answer,
        }
    }

    /// Records, provider records and corrections that are on their way to a peer.
    pub fn sending(&self) -> usize {
        self.sending + self.sweep.waiting()
    }

    /// How much is kept for others and in flight.
    pub fn usage(&self) -> Usage {
        Usage {
            values: self.server.values.len(),
            value_bytes: self.server.values.bytes(),
            providers: self.server.providers.len(),
            queries: self.queries.len(),
            rpcs: self.rpcs.len(),
            lookups: self.lookups,
        }
    }

    /// Takes an entry that [`Output::Store`] had stored before a restart; those of other DHTs are ignored. What has
    /// expired, or does not fit any more, is forgotten by another [`Output::Store`].
    pub fn load(&mut self, now: Now, table: Table, key: &[u8], value: &[u8]) {
        let now = self.tick(now);
        let drop = match read(self.tag, table, key, value) {
            Some(Kept::Value { key, value, received }) => self.server.load_value(now, key, value, received),
            Some(Kept::Provider { key, provider, received }) => self.server.load_provider(now, key, provider, received),
            Some(Kept::Peer { peer, answered }) => {
                let peer = self.peers.tidy(peer);
                if peer.id != self.local.id && self.config.addresses.allows_server(&peer.addresses) {
                    let age = now.wall.saturating_since(answered);
                    let fresh_until = now.monotonic + self.crawl.interval().saturating_sub(age);
                    self.peers.book.remember(peer, fresh_until);
                }
                None
            }
            Some(Kept::Size { servers, known }) => {
                self.size.tell(now.monotonic, servers, now.wall.saturating_since(known));
                None
            }
            None => None,
        };
        self.outputs.extend(drop.map(Output::Store));
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
        let known = || self.peers.addresses(&peer);
        let addresses = if addresses.is_empty() { known() } else { addresses.to_vec() };
        let from = PeerInfo { id: peer, addresses };
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
                    match pending {
                        Some((Purpose::Query(query, role), peer)) => {
                            self.run(now, query, |query, context, actions| {
                                query.on_slow(context, role, &peer, actions)
                            });
                        }
                        Some((Purpose::Crawl(step), peer)) => self.crawl.slow(step, &Key::of_peer(&peer)),
                        Some((Purpose::Sweep(area), peer)) => self.sweep.slow(area, &Key::of_peer(&peer)),
                        _ => {}
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
            self.run(now, query, |query, context, actions| query.on_time(context, actions));
        }
        let mut writes = Vec::new();
        self.server.expire(now, &mut writes);
        self.outputs.extend(writes.into_iter().map(Output::Store));
        while let Some(key) = self.own.take_due(now.monotonic) {
            self.provide(now, key);
        }
        self.check_due(now);
        self.settle(now);
    }

    /// The caller's time, but never going back, and not so far in the future that a sum overflows.
    pub(super) fn tick(&mut self, now: Now) -> Now {
        self.clock = self.clock.max(now.monotonic.min(END_OF_TIME));
        Now { monotonic: self.clock, wall: now.wall }
    }

    pub(super) fn serve(&mut self, now: Now, from: &PeerInfo, request: Request) -> Result<Response, Refused> {
        let mut writes = Vec::new();
        let response = self.server.answer(now, from, &self.local, request, &self.peers, &mut writes);
        self.outputs.extend(writes.into_iter().map(Output::Store));
        response
    }

    pub(super) fn start_walk(&mut self, now: Now, request: Request, goal: Goal) -> QueryId {
        let lookup = self.lookup(now, &request);
        let lookup = match goal.wanted(self.config.k, self.config.holders) {
            Some(wanted) => lookup.brief(wanted),
            None => lookup,
        };
        self.start_query(now, |id, deadline| Query::walk(id, deadline, lookup, request, goal))
    }

    /// A lookup of what `request` asks for.
    pub(super) fn lookup(&mut self, now: Now, request: &Request) -> Lookup {
        let target = Key::of(request.key());
        self.lookups += 1;
        self.peers.table.refreshed(now.monotonic, &target);
        // Who has not joined yet walks from those it joins through: no operation waits for that.
        let seeds = if self.peers.table.live() == 0 { self.bootstrap.seeds() } else { &[] };
        let seeds = seeds.iter().cloned().map(Lead::from);
        let starts = self.peers.starts(&target).into_iter().chain(seeds);
        let size = self.size.estimate(now.monotonic);
        Lookup::new(self.local.id, target, self.config.params(), size, starts)
    }

    pub(super) fn start_query(&mut self, now: Now, query: impl FnOnce(QueryId, Duration) -> Query) -> QueryId {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        let query = query(id, now.monotonic + QUERY_TIMEOUT);
        self.begin_query(now, id, query);
        id
    }

    pub(super) fn begin_query(&mut self, now: Now, id: QueryId, query: Query) {
        self.deadlines.extend(query.next_timeout().map(|at| (at, id)));
        self.queries.insert(id, Box::new(query));
        self.run(now, id, |query, context, actions| query.advance(context, actions));
    }

    /// Lets a query act, does what it wants, and drops it when it is over.
    pub(super) fn run(&mut self, now: Now, id: QueryId, step: impl FnOnce(&mut Query, &Context, &mut Vec<Action>)) {
        let Some(mut query) = self.queries.remove(&id) else {
            return;
        };
        let context = Context {
            now: now.monotonic,
            checks: Checks::at(now.wall),
            k: self.config.params().k,
            holders: self.config.holders,
        };
        let (mut actions, before, was_done) = (Vec::new(), query.next_timeout(), query.is_done());
        let was_over = was_done || query.holds().is_some();
        step(&mut query, &context, &mut actions);
        let mut explores = false;
        for action in actions {
            match action {
                Action::Explore => explores = true,
                Action::Tell(event) => self.outputs.push_back(Output::Event(event)),
                Action::Connect(PeerInfo { id: peer, addresses }) => {
                    self.outputs.push_back(Output::Connect { peer, addresses });
                }
                Action::Ask(peer, request, role) => self.ask(now, peer, request, Purpose::Query(id, role)),
            }
        }
        if query.next_timeout() != before {
            before.map(|at| self.deadlines.remove(&(at, id)));
            self.deadlines.extend(query.next_timeout().map(|at| (at, id)));
        }
        if let Some(upkeep) = query.upkeep().filter(|_| query.is_done() && !was_done) {
            self.bootstrap.finished(upkeep, self.peers.table.live());
        }
        if query.is_done()
            && !was_done
            && let Some((area, answered)) = query.explored()
        {
            self.sweep.looked(area, answered);
        }
        if (query.is_done() || query.holds().is_some())
            && !was_over
            && let Some(lookup) = query.ended_lookup()
        {
            self.size.observe(now.monotonic, lookup.density());
        }
        if query.is_done() {
            self.held.retain(|_, held| *held != id);
        }
        let target = query.target().filter(|_| explores);
        if !query.is_closed() {
            self.queries.insert(id, query);
        } else if !query.is_private() {
            self.outputs.push_back(Output::Event(Event::Closed { query: id }));
        }
        if let Some(target) = target {
            self.explore_around(now, id, target);
        }
    }

    pub(super) fn ask(&mut self, now: Now, mut peer: PeerInfo, request: Request, purpose: Purpose) {
        if peer.addresses.is_empty() {
            peer.addresses = self.peers.addresses(&peer.id);
        }
        let patience = match purpose {
            Purpose::Query(_, Role::Walk | Role::Send) | Purpose::Crawl(_) | Purpose::Sweep(_) => {
                Some(self.peers.book.patience(&Key::of_peer(&peer.id)))
            }
            Purpose::Query(_, Role::Correct) | Purpose::Check | Purpose::Ping(_) => None,
        };
        self.sending += usize::from(purpose.hands_over());
        let (id, addresses) = (peer.id, peer.addresses.clone());
        let rpc = self.rpcs.start(now.monotonic, peer, request.clone(), purpose, patience);
        self.outputs.push_back(Output::Rpc { id: rpc, peer: id, addresses, request, timeout: HARD_TIMEOUT });
    }

    fn finish_rpc(&mut self, now: Now, pending: Pending<Purpose>, result: Result<Response, RpcError>) {
        let Pending { peer, request, sent, purpose, .. } = pending;
        let mut result = result.and_then(|response| match request.is_answered_by(&response) {
            true => Ok(response),
            false => Err(RpcError::Malformed),
        });
        let is_step = !purpose.hands_over();
        self.sending -= usize::from(purpose.hands_over());
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
            Purpose::Crawl(step) => {
                let named = result.as_mut().map(Response::take_closer).unwrap_or_default();
                self.on_crawled(now, step, &peer.id, named);
            }
            Purpose::Sweep(area) => {
                if let Ok(answer) = &mut result {
                    let leads = self.peers.leads(now.monotonic, answer.take_closer());
                    let named = leads.into_iter().map(|lead| (lead.key, lead.info));
                    self.sweep.answered(area, peer, named);
                }
            }
            Purpose::Ping(query) => {
                let took = now.monotonic.saturating_sub(sent);
                let event = Event::Pong { query, peer: peer.id, result: result.map(|_| took) };
                self.outputs.push_back(Output::Event(event));
                self.outputs.push_back(Output::Event(Event::Closed { query }));
            }
            Purpose::Query(query, role) => {
                let named = result.as_mut().map(Response::take_closer).unwrap_or_default();
                let leads = self.peers.leads(now.monotonic, named);
                let groups = if self.config.diversity { self.peers.groups(&peer) } else { BTreeSet::new() };
                let result = result.map(|answer| self.with_allowed_providers(answer));
                let answer = Answer {
                    role,
                    peer: &peer.id,
                    request: &request,
                    result: result.as_ref().map_err(|error| *error),
                    groups: &groups,
                    leads: &leads,
                };
                self.run(now, query, |query, context, actions| query.on_answer(context, answer, actions));
            }
        }
    }

    fn with_allowed_providers(&self, mut answer: Response) -> Response {
        if let Response::GetProviders { providers, .. } = &mut answer {
            *providers = self.peers.providers(core::mem::take(providers));
        }
        answer
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
    /// Lookups begun so far, upkeep included.
    pub lookups: u64,
}
