//! Keeping a node in its network: who is checked, what is looked up without anyone asking, and what is told of it.

use core::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::rand_core::RngCore;

use super::bootstrap::{Standing, Upkeep};
use super::crawl::{Region, Step};
use super::kept::{drop_peer, keep_peer, keep_size};
use super::key::{Key, random_peer_at, random_peer_in};
use super::message::{PeerInfo, Request};
use super::node::{Dht, Purpose};
use super::output::{Event, Output};
use super::peers::Lead;
use super::rpc::RpcError;
use super::sweep::Need;
use super::walk::Goal;
use crate::time::Now;

/// When nobody answered for so long, silence says nothing against a peer: our own link may be down.
const LINK_ALIVE: Duration = Duration::from_secs(150);
/// Peers that are checked for a place in the table at once.
const MAX_CHECKING: usize = 16;
/// Peers that wait to be checked.
const MAX_TO_CHECK: usize = 256;
/// A region has about this many servers, so that the k nearest of a key in it are in it as a rule.
const SERVERS_OF_REGION: u64 = 28;
/// A random place that shares so many bits with another takes a few hundred hashes to find; each further bit doubles them.
const CHEAP_PREFIX: u32 = 8;
/// How long changes of what is known of the peers are gathered before they are stored.
const SAVE_AFTER: Duration = Duration::from_secs(60);

/// How many leading bits the keys of a region share.
fn bits_of_region(size: f64) -> u32 {
    (size as u64 / SERVERS_OF_REGION).checked_ilog2().unwrap_or(0)
}

impl Dht {
    /// A hint that a peer is a server of this DHT, reachable at what it says itself: from identify, from a neighbour
    /// search, or remembered from before a restart. It is asked before it enters the routing table.
    pub fn add_peer(&mut self, now: Now, peer: &PeerInfo) {
        let now = self.tick(now);
        let peer = self.peers.tidy(peer.clone());
        if !self.config.addresses.allows_server(&peer.addresses) {
            return;
        }
        self.peers.book.moved(&peer);
        self.peers.is_there(&Key::of_peer(&peer.id));
        // Whoever is being asked something shows itself by its answer.
        if self.peers.table.wants(&Key::of_peer(&peer.id)) && !self.rpcs.is_asking(&peer.id) {
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

    /// What a peer told of itself: where it listens, and whether it serves this DHT. Clients are told to those who look
    /// for them.
    pub fn identified(&mut self, now: Now, peer: &PeerInfo, serves: bool) {
        if serves {
            return self.add_peer(now, peer);
        }
        self.remove_peer(now, &peer.id);
        self.peers.met_client(peer);
    }

    /// Everything was [loaded](Self::load): the servers met before the restart are looked for.
    pub fn loaded(&mut self, now: Now) {
        let now = self.tick(now);
        for peer in self.peers.remembered(MAX_TO_CHECK) {
            self.check_later(peer);
        }
        self.bootstrap.retry_now(now.monotonic);
        self.settle(now);
    }

    /// Stores what is known of the peers now, before an end.
    pub fn save(&mut self, now: Now) {
        let now = self.tick(now);
        self.save_peers(now);
    }

    pub(super) fn on_missed(&mut self, now: Now, peer: &PeerId, error: RpcError, is_step: bool) {
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
        if !matches!(error, RpcError::Reset | RpcError::Closed | RpcError::Malformed) || is_step {
            self.sweep.lost(&Key::of_peer(peer), self.config.params().k);
        }
    }

    fn check_later(&mut self, peer: PeerInfo) {
        let waits = self.to_check.iter().any(|waiting| waiting.id == peer.id);
        if !waits && self.to_check.len() < MAX_TO_CHECK {
            self.to_check.push_back(peer);
        }
    }

    /// What is due by the time: checks of the table, and the store.
    pub(super) fn check_due(&mut self, now: Now) {
        for peer in self.peers.due(now.monotonic, MAX_CHECKING) {
            self.check_later(peer);
        }
        if self.save.is_some_and(|at| at <= now.monotonic) {
            self.save_peers(now);
        }
    }

    fn save_peers(&mut self, now: Now) {
        self.save = None;
        if let Some(size) = self.size.estimate(now.monotonic) {
            self.outputs.push_back(Output::Store(keep_size(self.tag, size as u64, now.wall)));
        }
        for (id, known) in self.peers.book.take_unsaved() {
            let answered = |at: Duration| now.wall - now.monotonic.saturating_sub(at);
            let write = match known {
                Some(known) => keep_peer(self.tag, &known.info, answered(known.answered)),
                None => drop_peer(self.tag, &id),
            };
            self.outputs.push_back(Output::Store(write));
        }
    }

    /// How many leading bits the keys of a region share, once the size of the network is known. It stays the same while it
    /// is about right: whoever goes through region after region is not to have them change under way.
    pub(crate) fn bits_of_region(&mut self, now: Duration) -> Option<u32> {
        let bits = bits_of_region(self.size.estimate(now)?);
        if self.bits_of_region.is_none_or(|before| before.abs_diff(bits) > 1) {
            self.bits_of_region = Some(bits);
        }
        self.bits_of_region
    }

    /// Explores regions, and sends what waited for them.
    pub(super) fn sweep_on(&mut self, now: Now) {
        while let Some(need) = self.sweep.next(now.monotonic, self.config.params().k) {
            match need {
                Need::Lookup(area, region) => {
                    let key = random_peer_at(&region.key, region.bits, &mut self.rng).into();
                    self.start_walk(now, Request::FindNode { key }, Goal::Explore(area));
                }
                Need::Ask(area, peer) => {
                    let key = peer.id.to_bytes().into();
                    self.ask(now, peer, Request::FindNode { key }, Purpose::Sweep(area));
                }
                Need::Probe(area, part, peer) => {
                    let key = random_peer_at(&part.key, part.bits, &mut self.rng).into();
                    self.ask(now, peer, Request::FindNode { key }, Purpose::Sweep(area));
                }
                Need::Send(area, records) => self.send_waiting(now, area, records),
            }
        }
    }

    /// Whether this node knows its place in the network, and how large that is.
    pub(super) fn may_crawl(&self) -> bool {
        let joined = self.bootstrap.standing(self.peers.table.live()) == Standing::Joined;
        self.crawl.is_on() && joined && self.size.estimate(self.clock).is_some()
    }

    /// The servers around this key are wanted known from now on, if such regions are.
    pub(super) fn cover(&mut self, now: Now, key: Key) {
        if let Some(bits) = self.bits_of_region(now.monotonic) {
            self.crawl.want(now.monotonic, Region { key, bits });
        }
    }

    /// A server that was asked by a crawl named these, or did not answer.
    pub(super) fn on_crawled(&mut self, now: Now, step: Step, peer: &PeerId, named: Vec<PeerInfo>) {
        self.crawl.settled(step, &Key::of_peer(peer));
        for Lead { key, info, .. } in self.peers.leads(now.monotonic, named) {
            self.crawl.hear(key, info);
        }
    }

    /// Begins a crawl when it is time, and asks the next.
    fn crawl_on(&mut self, now: Now) {
        if !self.crawl.is_on() && !self.crawl.is_running() {
            return;
        }
        let size = self.size.estimate(now.monotonic);
        if let Some(size) = size.filter(|_| self.crawl.is_due(now.monotonic, self.may_crawl())) {
            let known = self.peers.book.iter().map(|(key, known)| (*key, known.info.clone()));
            self.crawl.begin(bits_of_region(size), known);
        }
        while let Some((step, peer)) = self.crawl.next(now.monotonic, &self.peers, size) {
            let key = match step {
                Step::Neighbours => peer.id.to_bytes(),
                Step::Gap(region) => random_peer_at(&region.key, region.bits, &mut self.rng),
            };
            self.ask(now, peer, Request::FindNode { key: key.into() }, Purpose::Crawl(step));
        }
        if self.crawl.finish(now.monotonic) && self.crawl.covers_all() {
            let live = self.peers.book.live();
            tracing::debug!(live, "crawl done");
            self.size.count(now.monotonic, live);
        }
    }

    /// Whether there is anybody to join through.
    pub(super) fn knows_anybody(&self) -> bool {
        !self.bootstrap.seeds().is_empty() || self.peers.book.len() > 0
    }

    /// What is to be done after every input: checks, the next lookup of upkeep, and a change of health told.
    pub(super) fn settle(&mut self, now: Now) {
        while self.checking < MAX_CHECKING
            && let Some(peer) = self.to_check.pop_front()
        {
            self.checking += 1;
            let key = self.local.id.to_bytes().into();
            self.ask(now, peer, Request::FindNode { key }, Purpose::Check);
        }
        while let Some(upkeep) = self.next_upkeep(now) {
            let key = match upkeep {
                Upkeep::Own => {
                    self.check_seeds();
                    self.local.id.to_bytes()
                }
                Upkeep::Bucket(prefix) => self.anybody_in(prefix),
            };
            self.start_walk(now, Request::FindNode { key: key.into() }, Goal::Upkeep(upkeep));
        }
        self.crawl_on(now);
        self.sweep_on(now);
        if self.save.is_none() && self.peers.book.has_unsaved() {
            self.save = Some(now.monotonic + SAVE_AFTER);
        }
        let standing = self.bootstrap.standing(self.peers.table.live());
        if standing != self.standing {
            self.standing = standing;
            self.outputs.push_back(Output::Event(Event::Health(self.health())));
        }
    }

    /// Looks for those it once joined through, unless they are in the table: after a partition, or when they have lost
    /// their memory, they may know a part of the network that nobody here does.
    fn check_seeds(&mut self) {
        let absent = |seed: &&PeerInfo| !self.peers.table.contains(&Key::of_peer(&seed.id));
        let seeds: Vec<PeerInfo> = self.bootstrap.seeds().iter().filter(absent).cloned().collect();
        if self.peers.table.live() > 0 {
            seeds.into_iter().for_each(|seed| self.check_later(seed));
        }
    }

    /// What to look up to refresh a bucket: a random place in it or, where finding one would take too many hashes, the
    /// place of one of its members. What it has too few of are neighbours of ours then, and those know each other.
    fn anybody_in(&mut self, prefix: u32) -> Vec<u8> {
        let members = if prefix > CHEAP_PREFIX { self.peers.table.members(prefix) } else { Vec::new() };
        let at = self.rng.next_u32() as usize % members.len().max(1);
        match members.get(at) {
            Some(member) => member.to_bytes(),
            None => random_peer_in(&Key::of_peer(&self.local.id), prefix.min(CHEAP_PREFIX), &mut self.rng),
        }
    }

    fn next_upkeep(&mut self, now: Now) -> Option<Upkeep> {
        let (table, anybody) = (&self.peers.table, self.knows_anybody());
        // Whoever is in a deep bucket of which nobody is known is found by looking for ourselves.
        let is_near = |prefix: &u32| *prefix > CHEAP_PREFIX && table.members(*prefix).is_empty();
        // Whoever sweeps meets everybody anyway; a lookup through a full bucket of live peers only tells others of a server.
        let all = self.is_server() || !self.sweep.is_active(now.monotonic);
        let wants = |prefix: &u32| !is_near(prefix) && (all || table.lacks(*prefix));
        let stale = |since| table.stale(since).into_iter().filter(wants).collect();
        self.bootstrap.next(now.monotonic, table.live(), anybody, stale, &mut self.rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::Config;
    use crate::dht::testing::{START, address, peer};

    #[test]
    fn regions_change_only_with_a_network_of_quite_another_size() {
        let mut dht = Dht::new(Config::custom(peer(1), "/test/kad/1.0.0"), [0; 32], START);
        assert_eq!(dht.bits_of_region(START.monotonic), None);
        for (servers, bits) in [(10_000, 8), (6_000, 8), (16_000, 8), (3_000, 6), (6_000, 6)] {
            dht.size.count(START.monotonic, servers);
            assert_eq!(dht.bits_of_region(START.monotonic), Some(bits), "{servers}");
        }
    }
    #[test]
    fn a_deep_bucket_is_refreshed_at_a_member_and_a_shallow_one_anywhere() {
        let mut dht = Dht::new(Config::custom(peer(0), "/test/kad/1.0.0"), [0; 32], START);
        let local = Key::of_peer(&peer(0));
        let prefix_of = |n: u32| local.common_prefix(&Key::of_peer(&peer(n)));
        let deep = (1..).find(|n| prefix_of(*n) == CHEAP_PREFIX + 2).unwrap();
        let shallow = (1..).find(|n| prefix_of(*n) == 3).unwrap();
        for n in [deep, shallow] {
            dht.peers.met(START.monotonic, &PeerInfo { id: peer(n), addresses: vec![address(n)] }, SAVE_AFTER, true);
        }
        assert_eq!(dht.anybody_in(prefix_of(deep)), peer(deep).to_bytes());
        let anywhere = dht.anybody_in(3);
        assert_eq!((local.common_prefix(&Key::of(&anywhere)), anywhere == peer(shallow).to_bytes()), (3, false));
        // Of the deep ones only that of which somebody is known is worth a lookup besides our own.
        let mut refreshed = Vec::new();
        while let Some(upkeep) = dht.next_upkeep(START) {
            refreshed.push(upkeep);
            dht.bootstrap.finished(upkeep, 2);
        }
        let deep = Upkeep::Bucket(prefix_of(deep));
        let all: Vec<Upkeep> = [Upkeep::Own].into_iter().chain((0..=CHEAP_PREFIX).map(Upkeep::Bucket)).collect();
        assert_eq!(refreshed, [all, vec![deep]].concat());
    }
}
