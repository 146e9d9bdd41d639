//! Crawling: asking every server for its neighbours, so that the nearest of any key are known before it is looked up.
//!
//! A server knows the servers around its own place best, and asking it for them shows that it is there, how far away it
//! is, and who else is near it. So one question a server finds all of a region, once one of them is known; where nobody
//! is known, those nearest to it are asked for it. A crawl goes through the key space in order, passes over servers whose
//! place is known well and who were heard of lately, and so costs little where lookups have been anyway; one that was
//! interrupted, by a restart for example, goes on where it has not been.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::key::{BITS, Key};
use super::message::PeerInfo;
use super::peers::Peers;

/// Which servers a node keeps known without anybody looking for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Coverage {
    /// None but those of its routing table.
    #[default]
    Table,
    /// Those around the names that it publishes, too.
    Regions,
    /// All of them. A lookup is zero hops then.
    All,
}

/// How a node crawls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crawling {
    /// What is kept known.
    pub coverage: Coverage,
    /// How many questions of a crawl are out at once: at least 1. Those to slow peers are out beside them, as many at
    /// most. A network must be able to dial more than all of these, or a crawl holds lookups up.
    pub parallelism: usize,
    /// A server that was not heard of for so long is asked again: at least a minute.
    pub interval: Duration,
}

impl Default for Crawling {
    fn default() -> Self {
        Self { coverage: Coverage::Table, parallelism: 32, interval: Duration::from_secs(3600) }
    }
}

/// The most regions that are kept known: the one that was wanted longest ago makes room.
const MAX_REGIONS: usize = 1024;
/// How often a crawl is looked for something to do: a share of its interval.
const ROUNDS_AN_INTERVAL: u32 = 6;

/// Of those nearest to a region without servers so many are asked for it before it is taken to be empty.
const MAX_TRIES: usize = 4;
/// Gaps are looked for in parts of a region, of two to the power of this: one whose servers are fewer than k is known
/// whole as soon as one of them is, because that one names all of them.
const FINER: u32 = 2;
/// More regions than this are not looked at one by one.
const MAX_BITS: u32 = 14;

/// The servers whose keys share so many leading bits with this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) key: Key,
    pub(crate) bits: u32,
}

impl Region {
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.key.common_prefix(key) >= self.bits
    }

    /// Its parts, which share so many bits more.
    pub(crate) fn parts(self, finer: u32) -> impl Iterator<Item = Self> {
        let bits = (self.bits + finer).min(BITS);
        (0..1_u32 << (bits - self.bits)).map(move |part| Self { key: self.key.with_low_bits(part, bits), bits })
    }

    /// All regions of so many bits.
    fn all(bits: u32) -> impl Iterator<Item = Self> {
        let bits = bits.min(MAX_BITS);
        (0..1_u32 << bits).map(move |prefix| Self { key: Key::starting_with(prefix, bits), bits })
    }
}

/// A question of a crawl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A server, for those around it.
    Neighbours,
    /// One near a region, for somebody in it.
    Gap(Region),
}

#[derive(Debug)]
struct Gap {
    region: Region,
    asked: BTreeSet<Key>,
    waits: bool,
}

#[derive(Debug)]
pub(crate) struct Crawl {
    how: Crawling,
    /// How many peers may wait to be asked.
    capacity: usize,
    /// Those that are wanted known, with the number of their wish.
    regions: BTreeMap<Key, (u64, Region)>,
    wishes: u64,
    /// To be asked in this round.
    to_ask: BTreeMap<Key, PeerInfo>,
    /// Asked in this round, or found to be known well enough.
    done: BTreeSet<Key>,
    /// Regions that may have servers nobody has named.
    gaps: BTreeMap<Key, Gap>,
    out: BTreeSet<Key>,
    slow: BTreeSet<Key>,
    /// How many gaps are asked for.
    filling: usize,
    /// Where in the key space this round is.
    at: Key,
    running: bool,
    next: Option<Duration>,
    /// When a round was last completed.
    completed: Option<Duration>,
}

impl Crawl {
    pub(crate) fn new(how: Crawling, capacity: usize) -> Self {
        let how = Crawling {
            parallelism: how.parallelism.max(1),
            interval: how.interval.max(Duration::from_secs(60)),
            ..how
        };
        Self {
            how,
            capacity,
            regions: BTreeMap::new(),
            wishes: 0,
            to_ask: BTreeMap::new(),
            done: BTreeSet::new(),
            gaps: BTreeMap::new(),
            filling: 0,
            out: BTreeSet::new(),
            slow: BTreeSet::new(),
            at: Key::LOWEST,
            running: false,
            next: None,
            completed: None,
        }
    }

    /// A server that was heard of less long ago than this is not asked.
    pub(crate) fn interval(&self) -> Duration {
        self.how.interval
    }

    /// When the last crawl was complete.
    pub(crate) fn completed(&self) -> Option<Duration> {
        self.completed
    }

    pub(crate) fn covers_all(&self) -> bool {
        self.how.coverage == Coverage::All
    }

    /// Whether a crawl is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Whether anything is ever crawled.
    pub(crate) fn is_on(&self) -> bool {
        match self.how.coverage {
            Coverage::Table => false,
            Coverage::Regions => !self.regions.is_empty(),
            Coverage::All => true,
        }
    }

    /// Keeps this region known from now on, if regions are kept known.
    pub(crate) fn want(&mut self, now: Duration, region: Region) {
        if self.how.coverage != Coverage::Regions {
            return;
        }
        self.wishes += 1;
        if self.regions.insert(region.key, (self.wishes, region)).is_none() {
            self.next = Some(now);
        }
        if self.regions.len() > MAX_REGIONS {
            let oldest = self.regions.iter().min_by_key(|(_, (wish, _))| *wish).map(|(key, _)| *key);
            oldest.map(|key| self.regions.remove(&key));
        }
    }

    /// Whether a server of this key is to be known.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        match self.how.coverage {
            Coverage::Table => false,
            Coverage::Regions => self.regions.values().any(|(_, region)| region.contains(key)),
            Coverage::All => true,
        }
    }

    /// Whether a round is to begin. `ready`: whether there is anybody to begin with.
    pub(crate) fn is_due(&self, now: Duration, ready: bool) -> bool {
        ready && !self.running && self.is_on() && self.next.is_none_or(|next| next <= now)
    }

    /// A round begins with those known. Regions have so many bits.
    pub(crate) fn begin(&mut self, bits: u32, known: impl IntoIterator<Item = (Key, PeerInfo)>) {
        self.running = true;
        self.done.clear();
        self.gaps = match self.how.coverage {
            Coverage::All => {
                let gap = |region| Gap { region, asked: BTreeSet::new(), waits: false };
                Region::all(bits + FINER).map(|region| (region.key, gap(region))).collect()
            }
            Coverage::Table | Coverage::Regions => BTreeMap::new(),
        };
        known.into_iter().for_each(|(key, peer)| self.hear(key, peer));
    }

    /// Somebody named this peer, or it was known before.
    pub(crate) fn hear(&mut self, key: Key, peer: PeerInfo) {
        let fits = self.running && !peer.addresses.is_empty() && self.covers(&key);
        // Whoever makes up peers without end makes no round endless.
        let room = self.to_ask.len() < self.capacity && self.done.len() + self.to_ask.len() < 2 * self.capacity;
        if fits && room && !self.done.contains(&key) {
            self.to_ask.entry(key).or_insert(peer);
        }
    }

    /// The next peer to ask, and for what, if there is a slot for it.
    pub(crate) fn next(&mut self, now: Duration, peers: &Peers, size: Option<f64>) -> Option<(Step, PeerInfo)> {
        if !self.running {
            return None;
        }
        while self.out.len() + self.filling < self.how.parallelism && self.slow.len() < self.how.parallelism {
            let ahead = self.to_ask.range(self.at..).next().map(|(key, _)| *key);
            let Some(key) = ahead.or_else(|| self.to_ask.first_key_value().map(|(key, _)| *key)) else {
                return self.next_gap(peers);
            };
            let peer = self.to_ask.remove(&key)?;
            self.at = key;
            self.done.insert(key);
            if !peers.is_explored(now, &key, self.how.interval, size) {
                self.out.insert(key);
                return Some((Step::Neighbours, peer));
            }
        }
        None
    }

    fn next_gap(&mut self, peers: &Peers) -> Option<(Step, PeerInfo)> {
        let waits: Vec<Key> = self.gaps.iter().filter(|(_, gap)| !gap.waits).map(|(key, _)| *key).collect();
        for key in waits {
            let gap = self.gaps.get_mut(&key)?;
            let nearest = peers.book.nearest(&key, 1 + gap.asked.len());
            let empty = nearest.first().is_none_or(|(nearest, _)| !gap.region.contains(nearest));
            let next = nearest.into_iter().find(|(key, _)| !gap.asked.contains(key));
            match next.filter(|_| empty && gap.asked.len() < MAX_TRIES) {
                Some((place, known)) => {
                    gap.asked.insert(*place);
                    gap.waits = true;
                    self.filling += 1;
                    return Some((Step::Gap(gap.region), known.info.clone()));
                }
                None => drop(self.gaps.remove(&key)),
            }
        }
        None
    }

    /// Its slot is free for another; its answer counts all the same.
    pub(crate) fn slow(&mut self, step: Step, key: &Key) {
        match step {
            Step::Neighbours if self.out.remove(key) => drop(self.slow.insert(*key)),
            Step::Neighbours => {}
            Step::Gap(region) => self.tried(&region.key),
        }
    }

    /// It answered, or will not.
    pub(crate) fn settled(&mut self, step: Step, key: &Key) {
        match step {
            Step::Neighbours => {
                self.out.remove(key);
                self.slow.remove(key);
            }
            Step::Gap(region) => self.tried(&region.key),
        }
    }

    fn tried(&mut self, gap: &Key) {
        if let Some(gap) = self.gaps.get_mut(gap).filter(|gap| gap.waits) {
            gap.waits = false;
            self.filling -= 1;
        }
    }

    /// Ends the round when there is nobody left to ask. Returns whether it ended now.
    pub(crate) fn finish(&mut self, now: Duration) -> bool {
        let asks = !self.to_ask.is_empty() || !self.out.is_empty() || !self.slow.is_empty();
        let over = self.running && !asks && self.gaps.is_empty();
        if over {
            self.running = false;
            self.completed = Some(now);
            self.done.clear();
            self.next = Some(now + self.how.interval / ROUNDS_AN_INTERVAL);
        }
        over
    }

    pub(crate) fn next_timeout(&self, ready: bool) -> Option<Duration> {
        (ready && !self.running && self.is_on()).then(|| self.next.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::address::AddressPolicy;
    use crate::dht::testing::{address, peer};

    const NOW: Duration = Duration::from_secs(100);

    fn known(n: u32) -> (Key, PeerInfo) {
        (Key::of_peer(&peer(n)), PeerInfo { id: peer(n), addresses: vec![address(n)] })
    }

    fn nobody() -> Peers {
        Peers::new(peer(9999), 20, AddressPolicy::Any, None, false, 1000)
    }

    fn next(crawl: &mut Crawl, peers: &Peers) -> Option<Key> {
        let (step, peer) = crawl.next(NOW, peers, Some(50.0))?;
        assert_eq!(step, Step::Neighbours);
        Some(Key::of_peer(&peer.id))
    }

    fn crawl(coverage: Coverage, parallelism: usize) -> Crawl {
        Crawl::new(Crawling { coverage, parallelism, ..Crawling::default() }, 1000)
    }

    #[test]
    fn everybody_is_asked_once_in_the_order_of_keys_and_within_bounds() {
        let mut crawl = crawl(Coverage::All, 4);
        assert!(crawl.is_due(NOW, true) && !crawl.is_due(NOW, false));
        crawl.begin(1, (0..50).map(known));
        let mut asked = Vec::new();
        while !crawl.finish(NOW) {
            let mut out: Vec<Key> = Vec::new();
            out.extend(std::iter::from_fn(|| next(&mut crawl, &nobody())));
            assert!(out.len() <= 4);
            for key in &out {
                // Whoever is named twice is asked once.
                crawl.hear(known(1).0, known(1).1);
                crawl.settled(Step::Neighbours, key);
            }
            asked.extend(out);
        }
        assert_eq!(asked.len(), 50);
        assert!(asked.is_sorted());
        assert!(!crawl.is_due(NOW, true) && crawl.is_due(NOW + Duration::from_secs(600), true));
    }

    #[test]
    fn peers_that_are_made_up_without_end_end_a_round_all_the_same() {
        let mut crawl = crawl(Coverage::All, 10);
        crawl.begin(1, [known(0)]);
        let (mut asked, mut made_up) = (0, 0);
        while let Some(key) = next(&mut crawl, &nobody()) {
            asked += 1;
            crawl.settled(Step::Neighbours, &key);
            for _ in 0..3 {
                made_up += 1;
                crawl.hear(known(made_up).0, known(made_up).1);
            }
        }
        assert_eq!(asked, 2 * crawl.capacity);
        assert!(crawl.finish(NOW));
    }

    #[test]
    fn slow_peers_free_their_slots_and_are_bounded_all_the_same() {
        let mut crawl = crawl(Coverage::All, 2);
        crawl.begin(1, (0..50).map(known));
        let mut asked = 0;
        while let Some(key) = next(&mut crawl, &nobody()) {
            asked += 1;
            crawl.slow(Step::Neighbours, &key);
        }
        assert_eq!(asked, 2);
        assert!(!crawl.finish(NOW));
    }

    #[test]
    fn who_is_known_well_is_passed_over_and_who_is_near_is_asked_for_the_rest() {
        let mut crawl = crawl(Coverage::All, 2);
        let mut peers = nobody();
        // All of the half of the key space that begins with 1 are known well; of the other half nobody is known.
        let half: Vec<_> = (0..300).map(known).filter(|(key, _)| key.to_bytes()[0] >= 128).collect();
        for (_, info) in &half {
            peers.met(NOW, info, Duration::from_millis(100), true);
        }
        crawl.begin(1, half);
        let size = Some(300.0);
        let mut asked = BTreeMap::new();
        while let Some((step, peer)) = crawl.next(NOW, &peers, size) {
            let Step::Gap(region) = step else { panic!("{peer:?}") };
            assert!(region.bits == 3 && region.key.to_bytes()[0] < 128);
            *asked.entry(region.key).or_insert(0) += 1;
            crawl.settled(step, &Key::of_peer(&peer.id));
        }
        assert_eq!(asked.into_values().collect::<Vec<_>>(), [MAX_TRIES; 4]);
        assert!(crawl.finish(NOW));
        // Nobody is asked for what is in a region of which somebody is known.
        for (_, info) in (0..300).map(known) {
            peers.met(NOW, &info, Duration::from_millis(100), true);
        }
        crawl.begin(1, []);
        assert_eq!(crawl.next(NOW, &peers, size), None);
    }

    #[test]
    fn a_region_is_all_that_is_asked() {
        let mut crawl = crawl(Coverage::Regions, 100);
        assert!(!crawl.is_due(NOW, true));
        let region = Region { key: known(7).0, bits: 2 };
        crawl.want(NOW, region);
        assert!(crawl.is_due(NOW, true));
        crawl.begin(1, (0..50).map(known));
        let asked: Vec<Key> = std::iter::from_fn(|| next(&mut crawl, &nobody())).collect();
        assert!(asked.len() > 4 && asked.len() < 25, "{}", asked.len());
        assert!(asked.iter().all(|key| region.contains(key)));
        for n in 0..2000 {
            crawl.want(NOW, Region { key: known(n).0, bits: 4 });
        }
        assert_eq!(crawl.regions.len(), MAX_REGIONS);
        assert!(crawl.regions.contains_key(&known(1999).0));
    }
}
