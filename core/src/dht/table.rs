//! The routing table: buckets of k peers by the length of the prefix that they share with us.
//!
//! Seniority decides: who is in and alive stays, a newcomer to a full bucket waits as a spare. Who fails is suspected,
//! is checked again at doubling intervals, and loses its place to a spare. At most a few peers of one network group are
//! let in, so that one hand cannot fill the table (go-libp2p-kbucket's diversity filter).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;

use super::address::Group;
use super::key::{BITS, Key, nearest};

/// The most peers of one group in a bucket.
const GROUP_PER_BUCKET: usize = 2;
/// The most peers of one group in the table.
const GROUP_PER_TABLE: usize = 3;
/// After how many failures in a row a peer is no longer told to others nor asked first.
const SUSPECT: u32 = 2;
/// After how many failures in a row a peer is dropped although no spare wants the place.
const HOPELESS: u32 = 5;
/// The first check after a failure; doubled with every further failure.
const SUSPECT_CHECK: Duration = Duration::from_secs(15);
/// The first check after an answer; doubled with every further one.
const FIRST_CHECK: Duration = Duration::from_secs(5 * 60);
/// No check is later than this after an answer.
const LAST_CHECK: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Entry {
    peer: PeerId,
    groups: BTreeSet<Group>,
    failures: u32,
    /// The interval after which a peer that answered is checked.
    interval: Duration,
    check: Duration,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Oldest first.
    members: Vec<Key>,
    /// Newest last; at most k.
    spares: Vec<(Key, PeerId)>,
    /// When a lookup last went through this part of the key space.
    refreshed: Option<Duration>,
}

/// What became of a peer offered to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is in now.
    Added,
    /// It was in already.
    Known,
    /// The bucket is full of live peers: it waits.
    Spare,
    /// It is ourselves, or too many of its network are in.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Table {
    local: Key,
    k: usize,
    /// Whether the diversity filter is on.
    diverse: bool,
    entries: BTreeMap<Key, Entry>,
    /// How many entries are not suspected.
    live: usize,
    buckets: BTreeMap<u32, Bucket>,
    /// How many entries are in each group.
    groups: BTreeMap<Group, usize>,
    /// When each entry is checked.
    checks: BTreeSet<(Duration, Key)>,
}

impl Table {
    pub(crate) fn new(local: Key, k: usize, diverse: bool) -> Self {
        Self {
            local,
            k,
            diverse,
            entries: BTreeMap::new(),
            live: 0,
            buckets: BTreeMap::new(),
            groups: BTreeMap::new(),
            checks: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries are not suspected.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the entry failed since it last answered.
    pub(crate) fn is_suspected(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.failures > 0)
    }

    /// Every entry.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&Key, PeerId)> {
        self.entries.iter().map(|(key, entry)| (key, entry.peer))
    }

    /// Who shares so many bits with us and no more, the oldest first.
    pub(crate) fn members(&self, prefix: u32) -> Vec<PeerId> {
        let members = self.buckets.get(&prefix).map(|bucket| bucket.members.as_slice()).unwrap_or_default();
        members.iter().filter_map(|key| self.entries.get(key)).map(|entry| entry.peer).collect()
    }

    /// The `n` entries nearest to `target` that are not suspected.
    pub(crate) fn closest(&self, target: &Key, n: usize) -> Vec<(&Key, PeerId)> {
        let live = |entry: &Entry| entry.failures < SUSPECT;
        nearest(&self.entries, target, n, live).into_iter().map(|(key, entry)| (key, entry.peer)).collect()
    }

    /// Offers a peer that has just answered a walk's question, and so proved itself a server at its addresses.
    pub(crate) fn offer(&mut self, now: Duration, peer: PeerId, groups: BTreeSet<Group>) -> Offer {
        let key = Key::of_peer(&peer);
        let prefix = self.local.common_prefix(&key);
        if prefix == BITS {
            return Offer::Refused;
        }
        if self.entries.contains_key(&key) {
            return Offer::Known;
        }
        if self.diverse && !self.is_diverse(prefix, &groups) {
            return Offer::Refused;
        }
        if !self.has_room(prefix) {
            let Some(victim) = self.suspect_in(prefix) else {
                self.wait(key, peer);
                return Offer::Spare;
            };
            self.take_out(&victim);
        }
        let bucket = self.buckets.entry(prefix).or_default();
        bucket.members.push(key);
        bucket.spares.retain(|(spare, _)| *spare != key);
        for group in &groups {
            *self.groups.entry(group.clone()).or_default() += 1;
        }
        let check = now + FIRST_CHECK;
        self.checks.insert((check, key));
        self.entries.insert(key, Entry { peer, groups, failures: 0, interval: FIRST_CHECK, check });
        self.live += 1;
        Offer::Added
    }

    /// Whether a peer that is not in would be let in or could replace a suspect one: whether to ask it at all.
    pub(crate) fn wants(&self, key: &Key) -> bool {
        let prefix = self.local.common_prefix(key);
        prefix < BITS && !self.contains(key) && (self.has_room(prefix) || self.suspect_in(prefix).is_some())
    }

    /// Remembers a peer for when a place becomes free.
    pub(crate) fn wait(&mut self, key: Key, peer: PeerId) {
        let prefix = self.local.common_prefix(&key);
        let spares = &mut self.buckets.entry(prefix).or_default().spares;
        spares.retain(|(spare, _)| *spare != key);
        spares.push((key, peer));
        if spares.len() > self.k {
            spares.remove(0);
        }
    }

    /// The entry answered.
    pub(crate) fn answered(&mut self, now: Duration, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.live += usize::from(entry.failures >= SUSPECT);
            entry.failures = 0;
            self.checks.remove(&(entry.check, *key));
            entry.check = now + entry.interval;
            self.checks.insert((entry.check, *key));
        }
    }

    /// The entry did not answer; `fault` when others did lately, so that it is not our own link that is down. Without
    /// a fault it is suspected and no more. Returns a spare to be checked, when the entry lost its place to it.
    pub(crate) fn failed(&mut self, now: Duration, key: &Key, fault: bool) -> Option<PeerId> {
        let entry = self.entries.get_mut(key)?;
        if fault || entry.failures < SUSPECT {
            entry.failures += 1;
            self.live -= usize::from(entry.failures == SUSPECT);
        }
        entry.interval = FIRST_CHECK;
        let failures = entry.failures;
        self.checks.remove(&(entry.check, *key));
        entry.check = now + SUSPECT_CHECK * (1 << (failures - 1).min(6));
        self.checks.insert((entry.check, *key));
        if failures < SUSPECT || !fault {
            return None;
        }
        let spare = self.next_spare(key);
        if spare.is_some() || failures >= HOPELESS {
            self.take_out(key);
        }
        spare
    }

    /// Drops a peer, entry or spare. Returns the spare to be checked for the place that became free.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        if let Some(bucket) = self.buckets.get_mut(&self.local.common_prefix(key)) {
            bucket.spares.retain(|(spare, _)| spare != key);
        }
        self.take_out(key).then(|| self.next_spare(key)).flatten()
    }

    /// Takes the newest spare out of the bucket of `key`.
    fn next_spare(&mut self, key: &Key) -> Option<PeerId> {
        let bucket = self.buckets.get_mut(&self.local.common_prefix(key))?;
        bucket.spares.pop().map(|(_, peer)| peer)
    }

    fn take_out(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        self.live -= usize::from(entry.failures < SUSPECT);
        if let Some(bucket) = self.buckets.get_mut(&self.local.common_prefix(key)) {
            bucket.members.retain(|member| member != key);
        }
        self.checks.remove(&(entry.check, *key));
        for group in &entry.groups {
            if let Some(count) = self.groups.get_mut(group) {
                *count -= 1;
                if *count == 0 {
                    self.groups.remove(group);
                }
            }
        }
        true
    }

    /// When the next entry is to be checked.
    pub(crate) fn next_check(&self) -> Option<Duration> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// At most `n` entries whose check is due. Each one's next check is set as if it had failed to be quiet: the
    /// answer, or its lack, sets it again.
    pub(crate) fn due(&mut self, now: Duration, n: usize) -> Vec<PeerId> {
        let due: Vec<_> = self.checks.iter().take_while(|(at, _)| *at <= now).take(n).copied().collect();
        let mut peers = Vec::new();
        for (at, key) in due {
            if let Some(entry) = self.entries.get_mut(&key) {
                self.checks.remove(&(at, key));
                entry.interval = (entry.interval * 2).min(LAST_CHECK);
                entry.check = now + entry.interval;
                self.checks.insert((entry.check, key));
                peers.push(entry.peer);
            }
        }
        peers
    }

    /// A lookup of `target` went out: its bucket needs no refresh for a while.
    pub(crate) fn refreshed(&mut self, now: Duration, target: &Key) {
        let prefix = self.local.common_prefix(target);
        if prefix < BITS && prefix <= self.deepest() {
            self.buckets.entry(prefix).or_default().refreshed = Some(now);
        }
    }

    /// The prefixes, up to the deepest one in use, through which no lookup went since `since`.
    pub(crate) fn stale(&self, since: Duration) -> Vec<u32> {
        let fresh =
            |prefix: &u32| self.buckets.get(prefix).and_then(|bucket| bucket.refreshed).is_some_and(|at| at >= since);
        (0..=self.deepest()).filter(|prefix| !fresh(prefix)).collect()
    }

    /// Whether a bucket could hold more, or holds somebody who may be dead.
    pub(crate) fn lacks(&self, prefix: u32) -> bool {
        self.has_room(prefix) || self.suspect_in(prefix).is_some()
    }

    fn deepest(&self) -> u32 {
        let used = |(_, bucket): &(&u32, &Bucket)| !bucket.members.is_empty();
        self.buckets.iter().rev().find(used).map_or(0, |(prefix, _)| *prefix)
    }

    fn has_room(&self, prefix: u32) -> bool {
        self.buckets.get(&prefix).is_none_or(|bucket| bucket.members.len() < self.k)
    }

    /// The member of a full bucket that a newcomer may replace: the most suspected one.
    fn suspect_in(&self, prefix: u32) -> Option<Key> {
        // Mostly nobody is, and every newcomer asks.
        if self.live == self.entries.len() {
            return None;
        }
        let members = &self.buckets.get(&prefix)?.members;
        let failures = |key: &Key| self.entries.get(key).map_or(0, |entry| entry.failures);
        members.iter().copied().filter(|key| failures(key) >= SUSPECT).max_by_key(failures)
    }

    fn is_diverse(&self, prefix: u32, groups: &BTreeSet<Group>) -> bool {
        let members = self.buckets.get(&prefix).map(|bucket| bucket.members.as_slice()).unwrap_or_default();
        let in_bucket = |group: &Group| {
            let has = |key: &&Key| self.entries.get(key).is_some_and(|entry| entry.groups.contains(group));
            members.iter().filter(has).count()
        };
        groups.iter().all(|group| {
            self.groups.get(group).is_none_or(|count| *count < GROUP_PER_TABLE) && in_bucket(group) < GROUP_PER_BUCKET
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::peer;
    use proptest::prelude::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn table(diverse: bool) -> Table {
        Table::new(Key::of_peer(&peer(0)), 20, diverse)
    }

    fn key(n: u32) -> Key {
        Key::of_peer(&peer(n))
    }

    fn offer(table: &mut Table, n: u32) -> Offer {
        table.offer(NOW, peer(n), BTreeSet::new())
    }

    /// Peers of the farthest bucket, in order.
    fn far() -> impl Iterator<Item = u32> {
        (1..).filter(|n| key(*n).common_prefix(&key(0)) == 0)
    }

    #[test]
    fn the_old_stay_and_the_new_wait() {
        let mut table = table(false);
        let peers: Vec<u32> = far().take(45).collect();
        for n in &peers[..20] {
            assert_eq!(offer(&mut table, *n), Offer::Added);
            assert_eq!(offer(&mut table, *n), Offer::Known);
        }
        for n in &peers[20..] {
            assert!(!table.wants(&key(*n)));
            assert_eq!(offer(&mut table, *n), Offer::Spare);
        }
        assert_eq!(table.len(), 20);
        assert_eq!(table.buckets[&0].spares.len(), 20);
        let old = key(peers[0]);
        assert_eq!(table.failed(NOW, &old, true), None);
        assert!(table.contains(&old));
        assert_eq!(table.failed(NOW, &old, true), Some(peer(peers[44])));
        assert!(!table.contains(&old));
        assert!(table.wants(&key(peers[44])));
        assert_eq!(offer(&mut table, peers[44]), Offer::Added);
        assert_eq!(offer(&mut table, 0), Offer::Refused);
    }

    #[test]
    fn a_newcomer_replaces_a_suspect() {
        let mut table = table(false);
        let peers: Vec<u32> = far().take(21).collect();
        for n in &peers[..20] {
            offer(&mut table, *n);
        }
        let suspect = key(peers[7]);
        table.failed(NOW, &suspect, true);
        table.failed(NOW, &suspect, true);
        assert!(table.contains(&suspect));
        assert_eq!(table.live(), 19);
        assert!(table.closest(&suspect, 20).iter().all(|(key, _)| **key != suspect));
        assert_eq!(offer(&mut table, peers[20]), Offer::Added);
        assert!(!table.contains(&suspect));
    }

    #[test]
    fn suspicion_grows_and_an_answer_clears_it() {
        let mut table = table(false);
        offer(&mut table, 1);
        let mut gaps = Vec::new();
        for _ in 0..4 {
            table.failed(NOW, &key(1), true);
            gaps.push(table.next_check().unwrap() - NOW);
        }
        assert_eq!(gaps, [15, 30, 60, 120].map(Duration::from_secs));
        table.answered(NOW, &key(1));
        assert_eq!(table.next_check(), Some(NOW + FIRST_CHECK));
        assert_eq!(table.live(), 1);
        for _ in 0..20 {
            table.failed(NOW, &key(1), false);
        }
        assert_eq!((table.len(), table.live()), (1, 0));
        table.answered(NOW, &key(1));
        for _ in 0..HOPELESS {
            table.failed(NOW, &key(1), true);
        }
        assert_eq!((table.len(), table.next_check()), (0, None));
    }

    #[test]
    fn checks_of_the_steady_grow_rare() {
        let mut table = table(false);
        offer(&mut table, 1);
        let mut now = NOW;
        let mut gaps = Vec::new();
        for _ in 0..6 {
            let next = table.next_check().unwrap();
            gaps.push((next - now).as_secs() / 60);
            now = next;
            assert_eq!(table.due(now, 9), [peer(1)]);
            assert_eq!(table.due(now, 9), []);
            table.answered(now, &key(1));
        }
        assert_eq!(gaps, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn one_network_cannot_fill_the_table() {
        let mut table = table(true);
        let group = || BTreeSet::from([Group::V4([1, 2])]);
        let mut added = 0;
        for n in 1..200 {
            match table.offer(NOW, peer(n), group()) {
                Offer::Added => added += 1,
                offer => assert_eq!(offer, Offer::Refused),
            }
        }
        assert_eq!(added, GROUP_PER_TABLE);
        assert!(table.buckets.values().all(|bucket| bucket.members.len() <= GROUP_PER_BUCKET));
        let gone = *table.entries.keys().next().unwrap();
        table.remove(&gone);
        assert!((1..200).any(|n| table.offer(NOW, peer(n), group()) == Offer::Added));
    }

    #[test]
    fn a_lookup_refreshes_its_bucket() {
        let mut table = table(false);
        assert_eq!(table.stale(NOW), [0]);
        for n in 1..40 {
            offer(&mut table, n);
        }
        let deepest = table.deepest();
        assert_eq!(table.stale(NOW), (0..=deepest).collect::<Vec<_>>());
        table.refreshed(NOW, &key(far().next().unwrap()));
        assert_eq!(table.stale(NOW), (1..=deepest).collect::<Vec<_>>());
        assert_eq!(table.stale(NOW + Duration::from_secs(1)).len(), deepest as usize + 1);
    }

    proptest! {
        /// Whatever happens, the parts of the table agree with each other and keep their bounds.
        #[test]
        fn the_parts_agree(steps in proptest::collection::vec((0..5_u8, 1..120_u32, 0..6_u8), 0..400)) {
            let mut table = table(true);
            for (at, (what, n, group)) in steps.into_iter().enumerate() {
                let now = NOW + Duration::from_secs(at as u64);
                match what {
                    0 | 1 => drop(table.offer(now, peer(n), BTreeSet::from([Group::V4([group, n as u8 % 16])]))),
                    2 => drop(table.failed(now, &key(n), n % 2 == 0)),
                    3 => drop(table.remove(&key(n))),
                    _ => drop(table.due(now, 3)),
                }
                let members: usize = table.buckets.values().map(|bucket| bucket.members.len()).sum();
                prop_assert_eq!(members, table.entries.len());
                prop_assert_eq!(table.checks.len(), table.entries.len());
                prop_assert_eq!(table.live, table.entries.values().filter(|entry| entry.failures < SUSPECT).count());
                let grouped: usize = table.entries.values().map(|entry| entry.groups.len()).sum();
                prop_assert_eq!(table.groups.values().sum::<usize>(), grouped);
                prop_assert!(table.groups.values().all(|count| (1..=GROUP_PER_TABLE).contains(count)));
                prop_assert!(table.buckets.values().all(|bucket| bucket.members.len() <= 20 && bucket.spares.len() <= 20));
            }
        }
    }
}
