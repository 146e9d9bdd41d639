//! Keeping a node in its network: who is checked, what is looked up without anyone asking, and what is told of it.

use core::time::Duration;

use libp2p_identity::PeerId;

use super::bootstrap::Upkeep;
use super::kept::{drop_peer, keep_peer};
use super::key::{Key, random_peer_in};
use super::message::{PeerInfo, Request};
use super::node::{Dht, Purpose};
use super::output::{Event, Output};
use super::query::Goal;
use super::rpc::RpcError;
use crate::time::Now;

/// When nobody answered for so long, silence says nothing against a peer: our own link may be down.
const LINK_ALIVE: Duration = Duration::from_secs(150);
/// Peers that are checked for a place in the table at once.
const MAX_CHECKING: usize = 16;
/// Peers that wait to be checked.
const MAX_TO_CHECK: usize = 256;
/// How long changes of what is known of the peers are gathered before they are stored.
const SAVE_AFTER: Duration = Duration::from_secs(60);

impl Dht {
    /// A hint that a peer is a server of this DHT, reachable at what it says itself: from identify, from a neighbour
    /// search, or remembered from before a restart. It is asked before it enters the routing table.
    pub fn add_peer(&mut self, now: Now, peer: &PeerInfo) {
        let now = self.tick(now);
        let peer = self.peers.tidy(peer);
        if !self.config.addresses.allows_server(&peer.addresses) {
            return;
        }
        self.peers.book.moved(&peer);
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
        for (id, known) in self.peers.book.take_unsaved() {
            let answered = |at: Duration| now.wall - now.monotonic.saturating_sub(at);
            let write = match known {
                Some(known) => keep_peer(self.tag, &known.info, answered(known.answered)),
                None => drop_peer(self.tag, &id),
            };
            self.outputs.push_back(Output::Store(write));
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
                Upkeep::Own => self.local.id.to_bytes(),
                Upkeep::Bucket(prefix) => random_peer_in(&Key::of_peer(&self.local.id), prefix, &mut self.rng),
            };
            self.start_walk(now, Request::FindNode { key: key.into() }, Goal::Upkeep(upkeep));
        }
        if self.save.is_none() && self.peers.book.has_unsaved() {
            self.save = Some(now.monotonic + SAVE_AFTER);
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
