//! Everyone we know: the routing table and the peer book as one.

use core::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::address::{AddressPolicy, AsnLookup, Group, groups, tidy};
use super::book::{Book, Known};
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
/// For so long nobody asks a peer that others name and that was not there: most of the dead stand in many tables.
const ABSENCE: Duration = Duration::from_secs(10 * 60);
/// After so many failures in a row a server that was there once counts as absent, too.
const FAILURES_OF_ABSENT: u32 = 2;
/// The k-th nearest server is hardly ever farther away than this many times its mean distance.
const SPARSE: f64 = 1.5;
/// The most absent peers that are remembered.
const MAX_ABSENT: usize = 16_384;

/// A peer that may be asked, and what is known of reaching it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Its place. It is worked out once: that is a hash, and a response names twenty.
    pub(crate) key: Key,
    pub(crate) info: PeerInfo,
    /// Its smoothed round trip, if it was ever met.
    pub(crate) round_trip: Option<Duration>,
}

impl From<PeerInfo> for Lead {
    fn from(info: PeerInfo) -> Self {
        Self { key: Key::of_peer(&info.id), info, round_trip: None }
    }
}

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
    /// Peers that others name and that are not there, with the end of their absence.
    absent: BTreeMap<Key, Duration>,
    /// The same in the order in which absences end.
    absences: BTreeSet<(Duration, Key)>,
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
        Self {
            local,
            k,
            policy,
            asn,
            book: Book::new(book),
            table,
            clients: BTreeMap::new(),
            clients_seen: 0,
            absent: BTreeMap::new(),
            absences: BTreeSet::new(),
        }
    }

    /// The peer with those of its addresses that this DHT allows.
    pub(crate) fn tidy(&self, peer: PeerInfo) -> PeerInfo {
        PeerInfo { addresses: tidy(self.policy, &peer.id, peer.addresses), ..peer }
    }

    /// What to make of the peers that another one names: behind the addresses at which we met them those that are
    /// told, as far as they are allowed. Those that are known to be absent are left out.
    pub(crate) fn leads(&self, now: Duration, named: Vec<PeerInfo>) -> Vec<Lead> {
        let mut leads = Vec::with_capacity(named.len().min(MAX_PEERS));
        let named = named.into_iter().take(MAX_PEERS).map(|peer| (Key::of_peer(&peer.id), peer));
        let there = named.filter(|(key, _)| self.absent.get(key).is_none_or(|until| *until <= now));
        let lead = |(key, peer): (Key, PeerInfo)| {
            let mut lead = self.lead(key, peer.id);
            // Most are named at the addresses at which we met them.
            if lead.info.addresses.is_empty() {
                lead.info.addresses = self.tidy(peer).addresses;
            } else if !peer.addresses.iter().all(|address| lead.info.addresses.contains(address)) {
                lead.info.add_addresses(&self.tidy(peer).addresses);
            }
            lead
        };
        leads.extend(there.map(lead));
        leads
    }

    /// Providers as another peer names them, at the addresses that are allowed.
    pub(crate) fn providers(&self, named: Vec<PeerInfo>) -> Vec<PeerInfo> {
        let provider = |peer: PeerInfo| {
            let mut provider = PeerInfo { id: peer.id, addresses: self.addresses(&peer.id) };
            provider.add_addresses(&self.tidy(peer).addresses);
            provider
        };
        named.into_iter().take(MAX_PEERS).map(provider).collect()
    }

    fn lead(&self, key: Key, id: PeerId) -> Lead {
        let known = self.book.get(&key);
        let addresses = known.map(|known| &known.info.addresses);
        let addresses = addresses.or_else(|| self.clients.get(&id).map(|(_, addresses)| addresses));
        let info = PeerInfo { id, addresses: addresses.cloned().unwrap_or_default() };
        Lead { key, info, round_trip: known.and_then(Known::round_trip) }
    }

    /// The addresses at which the peer was met, or those that a client has told.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.lead(Key::of_peer(peer), *peer).info.addresses
    }

    /// A peer told that it serves nobody, and where it listens. The one that told it longest ago makes room.
    pub(crate) fn met_client(&mut self, peer: &PeerInfo) {
        let addresses = self.tidy(peer.clone()).addresses;
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
        self.is_there(&key);
        self.book.answered(now, peer, took, |key| self.table.contains(key));
        self.table.answered(now, &key);
        let newcomer = proven && !self.table.contains(&key);
        if newcomer && self.table.offer(now, peer.id, groups(&addresses, self.asn.as_ref())) == Offer::Added {
            tracing::trace!(peer = %peer.id, table = self.table.len(), "a server entered the routing table");
        }
    }

    /// A peer did not answer; `fault` as in [`Table::failed`]. Returns a peer to be checked for its place.
    pub(crate) fn missed(&mut self, now: Duration, peer: &PeerId, fault: bool) -> Option<PeerInfo> {
        let key = Key::of_peer(peer);
        if fault {
            self.book.failed(&key);
            if self.book.get(&key).is_none_or(|known| known.failures >= FAILURES_OF_ABSENT) {
                self.note_absent(now, key);
            }
        }
        let spare = self.table.failed(now, &key, fault)?;
        Some(PeerInfo { id: spare, addresses: self.addresses(&spare) })
    }

    /// The networks that a peer is in.
    pub(crate) fn groups(&self, peer: &PeerInfo) -> BTreeSet<Group> {
        match peer.addresses.is_empty() {
            true => groups(&self.addresses(&peer.id), self.asn.as_ref()),
            false => groups(&peer.addresses, self.asn.as_ref()),
        }
    }

    fn note_absent(&mut self, now: Duration, key: Key) {
        self.is_there(&key);
        if self.absent.len() >= MAX_ABSENT
            && let Some((_, first)) = self.absences.pop_first()
        {
            self.absent.remove(&first);
        }
        self.absent.insert(key, now + ABSENCE);
        self.absences.insert((now + ABSENCE, key));
    }

    /// The peer shows itself: nothing is held against it any more.
    pub(crate) fn is_there(&mut self, key: &Key) {
        if let Some(until) = self.absent.remove(key) {
            self.absences.remove(&(until, *key));
        }
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
    pub(crate) fn starts(&self, target: &Key) -> Vec<Lead> {
        let table = self.table.closest(target, self.k).into_iter().map(|(key, id)| (*key, id));
        let book = self.book.nearest(target, self.k).into_iter().map(|(key, known)| (*key, known.info.id));
        let mut starts: Vec<Lead> = Vec::new();
        for (key, id) in table.chain(book) {
            if !starts.iter().any(|known| known.key == key) {
                starts.push(self.lead(key, id));
            }
        }
        starts
    }

    /// Whether a server was heard of within `interval`, and its neighbours are known: as many as `size` servers make
    /// likely.
    pub(crate) fn is_explored(&self, now: Duration, key: &Key, interval: Duration, size: Option<f64>) -> bool {
        let fresh = self.book.get(key).is_some_and(|known| known.is_fresh(now, interval));
        let dense = |size: f64| {
            let neighbours = self.book.nearest(key, self.k);
            let farthest = neighbours.last().filter(|_| neighbours.len() == self.k);
            farthest.is_some_and(|(farthest, _)| farthest.distance(key).share() * size <= SPARSE * self.k as f64)
        };
        fresh && size.is_some_and(dense)
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
        let unmet = self.book.iter().filter(|(_, known)| known.round_trip().is_none());
        let wanted = unmet.filter(|(key, _)| {
            let taken = buckets.entry(local.common_prefix(key)).or_default();
            *taken += 1;
            *taken <= self.k && self.table.wants(key)
        });
        wanted.take(n).map(|(_, known)| known.info.clone()).collect()
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
            let tidied = peers.tidy(private(2));
            peers.met(NOW, &tidied, NOW, true);
            peers.met(NOW, &info(0), NOW, true);
            assert_eq!((peers.table.len(), peers.book.len()), (expected, expected));
            assert_eq!(peers.leads(NOW, vec![private(3)])[0].info.addresses.len(), expected - 1);
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
        assert_eq!(peers.starts(&target)[0].info, info(5));
        peers.forget(&peer(5));
        assert!(peers.starts(&target).iter().all(|near| near.info.id != peer(5)));
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
    fn who_was_not_there_is_not_asked_again_soon() {
        let mut peers = peers(AddressPolicy::Any);
        let named = |peers: &Peers, now| peers.leads(now, vec![info(1), info(2)]).len();
        peers.missed(NOW, &peer(1), false);
        assert_eq!(named(&peers, NOW), 2, "our own link is what may be down");
        peers.missed(NOW, &peer(1), true);
        assert_eq!((named(&peers, NOW), named(&peers, NOW + ABSENCE)), (1, 2));
        peers.met(NOW, &info(1), NOW, true);
        assert_eq!(named(&peers, NOW), 2);
        // One failure of a server that was met is an accident.
        peers.missed(NOW, &peer(1), true);
        assert_eq!(named(&peers, NOW), 2);
        peers.missed(NOW, &peer(1), true);
        assert_eq!(named(&peers, NOW), 1);
        for n in 0..20_000 {
            peers.missed(NOW, &peer(n), true);
        }
        assert_eq!((peers.absent.len(), peers.absences.len()), (MAX_ABSENT, MAX_ABSENT));
    }

    #[test]
    fn who_was_met_but_not_proven_stays_out_of_the_table() {
        let mut peers = peers(AddressPolicy::Any);
        peers.met(NOW, &info(1), NOW, false);
        assert_eq!((peers.table.len(), peers.book.len()), (0, 1));
    }
}
