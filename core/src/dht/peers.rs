//! Everyone we know: the routing table and the peer book as one.

use core::time::Duration;

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::address::{AddressPolicy, AsnLookup, groups, tidy};
use super::book::Book;
use super::key::{Distance, Key};
use super::message::{MAX_PEERS, PeerInfo};
use super::table::{Offer, Table};

/// One entry of the routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableEntry {
    /// The peer, at the addresses at which it was met.
    pub peer: PeerInfo,
    /// The bits that its key shares with ours: its bucket.
    pub prefix: u32,
    /// Failures since it last answered; from two on it is suspected to be dead.
    pub failures: u32,
    /// Its smoothed round trip, if any was measured.
    pub round_trip: Option<Duration>,
    /// When it answered last, on the monotonic clock.
    pub answered: Duration,
}

/// The most clients whose addresses are remembered.
const MAX_CLIENTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Peers {
    local: PeerId,
    k: usize,
    policy: AddressPolicy,
    asn: Option<AsnLookup>,
    pub(crate) book: Book,
    pub(crate) table: Table,
    /// Peers that serve nobody, by when they told of themselves: to be found by their id all the same.
    clients: BTreeMap<PeerId, (u64, Vec<Multiaddr>)>,
    clients_seen: u64,
}

impl Peers {
    pub(crate) fn new(
        local: PeerId,
        k: usize,
        policy: AddressPolicy,
        asn: Option<AsnLookup>,
        diverse: bool,
        book: usize,
    ) -> Self {
        let table = Table::new(Key::of_peer(&local), k, diverse);
        Self { local, k, policy, asn, book: Book::new(book), table, clients: BTreeMap::new(), clients_seen: 0 }
    }

    /// The peer with those of its addresses that this DHT allows.
    pub(crate) fn tidy(&self, peer: &PeerInfo) -> PeerInfo {
        PeerInfo { id: peer.id, addresses: tidy(self.policy, &peer.id, &peer.addresses) }
    }

    /// What to make of the peers that another one names: behind the addresses at which we met them those that are
    /// told, as far as they are allowed.
    pub(crate) fn leads(&self, named: &[PeerInfo]) -> Vec<PeerInfo> {
        let lead = |peer: &PeerInfo| {
            let mut lead = PeerInfo { id: peer.id, addresses: self.addresses(&peer.id) };
            lead.add_addresses(&self.tidy(peer).addresses);
            lead
        };
        named.iter().take(MAX_PEERS).map(lead).collect()
    }

    /// The addresses at which the peer was met, or those that a client has told.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let met = self.book.get(&Key::of_peer(peer)).map(|known| &known.info.addresses);
        met.or_else(|| self.clients.get(peer).map(|(_, addresses)| addresses)).cloned().unwrap_or_default()
    }

    /// A peer told that it serves nobody, and where it listens. The one that told it longest ago makes room.
    pub(crate) fn met_client(&mut self, peer: &PeerInfo) {
        let addresses = self.tidy(peer).addresses;
        self.clients.remove(&peer.id);
        if addresses.is_empty() {
            return;
        }
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, (seen, _))| *seen).map(|(id, _)| *id);
            oldest.map(|id| self.clients.remove(&id));
        }
        self.clients_seen += 1;
        self.clients.insert(peer.id, (self.clients_seen, addresses));
    }

    /// A peer answered after `took`; `proven` when it was a question that only a server of this DHT answers.
    pub(crate) fn met(&mut self, now: Duration, peer: &PeerInfo, took: Duration, proven: bool) {
        let key = Key::of_peer(&peer.id);
        let addresses = if peer.addresses.is_empty() { self.addresses(&peer.id) } else { peer.addresses.clone() };
        if peer.id == self.local || !self.policy.allows_server(&addresses) {
            return;
        }
        self.book.answered(now, peer, took, |key| self.table.contains(key));
        self.table.answered(now, &key);
        if proven && self.table.offer(now, peer.id, groups(&addresses, self.asn.as_ref())) == Offer::Added {
            tracing::trace!(peer = %peer.id, table = self.table.len(), "a server entered the routing table");
        }
    }

    /// A peer did not answer; `fault` as in [`Table::failed`]. Returns a peer to be checked for its place.
    pub(crate) fn missed(&mut self, now: Duration, peer: &PeerId, fault: bool) -> Option<PeerInfo> {
        let key = Key::of_peer(peer);
        if fault {
            self.book.failed(&key);
        }
        let spare = self.table.failed(now, &key, fault)?;
        Some(PeerInfo { id: spare, addresses: self.addresses(&spare) })
    }

    /// The peer is no server of this DHT. Returns a peer to be checked for its place.
    pub(crate) fn forget(&mut self, peer: &PeerId) -> Option<PeerInfo> {
        let key = Key::of_peer(peer);
        self.book.remove(&key);
        let spare = self.table.remove(&key)?;
        Some(PeerInfo { id: spare, addresses: self.addresses(&spare) })
    }

    /// Entries of the table to be checked now. With a suspect goes one that is not: its answer shows that our own
    /// link is not what is down.
    pub(crate) fn due(&mut self, now: Duration, n: usize) -> Vec<PeerInfo> {
        let mut due = self.table.due(now, n);
        if due.iter().any(|peer| self.table.is_suspected(&Key::of_peer(peer))) {
            let control = self.table.closest(&Key::of_peer(&self.local), 1);
            due.extend(control.into_iter().map(|(_, peer)| peer));
        }
        due.into_iter().map(|id| PeerInfo { id, addresses: self.addresses(&id) }).collect()
    }

    /// Where to begin a lookup: the nearest of the table, and the nearest of all ever met.
    pub(crate) fn starts(&self, target: &Key) -> Vec<PeerInfo> {
        let table = self.table.closest(target, self.k).into_iter().map(|(_, peer)| peer);
        let book = self.book.nearest(target, self.k).into_iter().map(|(_, known)| known.info.id);
        let mut starts: Vec<PeerInfo> = Vec::new();
        for id in table.chain(book) {
            if !starts.iter().any(|known| known.id == id) {
                starts.push(PeerInfo { id, addresses: self.addresses(&id) });
            }
        }
        starts
    }

    /// What to answer to someone who asks for the peers nearest to `target`.
    pub(crate) fn closer(&self, target: &Key, asker: &PeerId) -> Vec<PeerInfo> {
        let nearest = self.table.closest(target, self.k + 1).into_iter().map(|(_, id)| id);
        let others = nearest.filter(|id| id != asker).take(self.k);
        others.map(|id| PeerInfo { id, addresses: self.addresses(&id) }).collect()
    }

    /// Of the servers met before a restart those worth a check: up to k a bucket, and `n` in all.
    pub(crate) fn remembered(&self, n: usize) -> Vec<PeerInfo> {
        let local = Key::of_peer(&self.local);
        let mut buckets: BTreeMap<u32, usize> = BTreeMap::new();
        let unmet = self.book.iter().filter(|known| known.round_trip().is_none());
        let wanted = unmet.filter(|known| {
            let key = Key::of_peer(&known.info.id);
            let taken = buckets.entry(local.common_prefix(&key)).or_default();
            *taken += 1;
            *taken <= self.k && self.table.wants(&key)
        });
        wanted.take(n).map(|known| known.info.clone()).collect()
    }

    /// The entries of the table, the farthest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = TableEntry> + '_ {
        let local = Key::of_peer(&self.local);
        let mut entries: Vec<(Distance, TableEntry)> = self
            .table
            .peers()
            .map(|(key, id)| {
                let known = self.book.get(key);
                let entry = TableEntry {
                    peer: PeerInfo { id, addresses: self.addresses(&id) },
                    prefix: local.common_prefix(key),
                    failures: known.map_or(0, |known| known.failures),
                    round_trip: known.and_then(|known| known.round_trip()),
                    answered: known.map(|known| known.answered).unwrap_or_default(),
                };
                (key.distance(&local), entry)
            })
            .collect();
        entries.sort_by_key(|(distance, _)| core::cmp::Reverse(*distance));
        entries.into_iter().map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};

    const NOW: Duration = Duration::from_secs(1);

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    fn peers(policy: AddressPolicy) -> Peers {
        Peers::new(peer(0), 20, policy, None, policy == AddressPolicy::Public, 1000)
    }

    #[test]
    fn only_servers_at_allowed_addresses_are_known() {
        let private = |n| PeerInfo { id: peer(n), addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()] };
        for (policy, expected) in [(AddressPolicy::Public, 1), (AddressPolicy::Any, 2)] {
            let mut peers = peers(policy);
            peers.met(NOW, &info(1), NOW, true);
            let tidied = peers.tidy(&private(2));
            peers.met(NOW, &tidied, NOW, true);
            peers.met(NOW, &info(0), NOW, true);
            assert_eq!((peers.table.len(), peers.book.len()), (expected, expected));
            assert_eq!(peers.leads(&[private(3)])[0].addresses.len(), expected - 1);
        }
    }

    #[test]
    fn answers_leave_out_who_asks() {
        let mut peers = peers(AddressPolicy::Any);
        for n in 1..30 {
            peers.met(NOW, &info(n), NOW, true);
        }
        let target = Key::of_peer(&peer(5));
        assert_eq!(peers.closer(&target, &peer(99)).len(), 20);
        assert_eq!(peers.closer(&target, &peer(99))[0], info(5));
        assert!(peers.closer(&target, &peer(5)).iter().all(|near| near.id != peer(5)));
        assert_eq!(peers.starts(&target)[0], info(5));
        peers.forget(&peer(5));
        assert!(peers.starts(&target).iter().all(|near| near.id != peer(5)));
        assert_eq!((peers.book.len(), peers.entries().count()), (28, 28));
    }

    #[test]
    fn clients_are_found_by_their_id_and_are_bounded() {
        let mut peers = peers(AddressPolicy::Public);
        for n in 0..2000 {
            peers.met_client(&info(n));
        }
        assert_eq!(peers.clients.len(), MAX_CLIENTS);
        assert_eq!((peers.addresses(&peer(1)), peers.addresses(&peer(1999))), (vec![], vec![address(1999)]));
        assert_eq!((peers.book.len(), peers.starts(&Key::of_peer(&peer(1999)))), (0, vec![]));
    }

    #[test]
    fn who_was_met_but_not_proven_stays_out_of_the_table() {
        let mut peers = peers(AddressPolicy::Any);
        peers.met(NOW, &info(1), NOW, false);
        assert_eq!((peers.table.len(), peers.book.len()), (0, 1));
    }
}
