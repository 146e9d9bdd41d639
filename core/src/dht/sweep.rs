//! Sweeping: many records sent again, region by region of the key space.
//!
//! All servers of a region that holds at least k of them are nearer to every key in it than any server outside. So one
//! exploration finds the k nearest of each of its keys: every server there is asked for its own neighbours, once, which
//! also shows that it is alive and opens the connection over which the records go. What one record costs then is its
//! k PUT_VALUEs and nothing else; what all of them cost beside is the same however many there are.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::crawl::Region;
use super::crowd::{Places, is_crowd};
use super::key::{Key, nearest};
use super::message::{PeerInfo, ValueRecord};
use super::output::QueryId;

/// How long an exploration holds. In an hour about one server in ten goes.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Exploring ends after this with what it has found.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many questions of one exploration are out at once; those to slow peers are out beside them.
const PARALLELISM: usize = 16;
/// The most regions that are known or explored at once: the oldest that is known makes room.
const MAX_AREAS: usize = 64;
/// The most peers that one exploration hears of.
const MAX_HEARD: usize = 1024;
/// The most records that wait for explorations. More, and those of too many regions at once, are sent as if they were
/// alone.
const MAX_WAITING: usize = 4096;

/// Parts of a region are looked at for servers that nobody named, two to the power of this: one of fewer than k is known
/// whole as soon as one of it is.
const FINER: u32 = 2;
/// So many are asked for somebody in a part before it is taken to be empty.
const MAX_PROBES: usize = 2;

/// One exploration. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AreaId(u64);

/// Who waits for the exploration of a region: a record, under the id of the operation that it will be, or an operation
/// around whose target peers crowd.
pub(crate) type Waiting = (QueryId, Option<ValueRecord>);

#[derive(Debug)]
struct Area {
    region: Region,
    /// Those that answered.
    members: BTreeMap<Key, PeerInfo>,
    /// Those that others named, in the region and around it.
    heard: BTreeMap<Key, PeerInfo>,
    asked: BTreeSet<Key>,
    /// Who was asked for each part where nobody is known.
    probed: BTreeSet<(Key, Key)>,
    /// Questions that are out and not slow.
    out: BTreeSet<Key>,
    /// Whether a lookup for somebody of the region is under way, and whether one ever was.
    looking: bool,
    looked: bool,
    /// Whether those who are known there may be made up: then somebody of the region is looked up whoever is known.
    doubted: bool,
    /// While it is explored, when that ends; afterwards until when it counts as known.
    until: Duration,
    explored: bool,
    /// How many had answered when it was explored.
    found: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug, Default)]
pub(crate) struct Sweep {
    areas: BTreeMap<AreaId, Area>,
    next: u64,
    waiting: usize,
}

/// What is to be done for an exploration.
#[derive(Debug)]
pub(crate) enum Need {
    /// Look for servers near this place.
    Lookup(AreaId, Region),
    /// Ask a server for its neighbours.
    Ask(AreaId, PeerInfo),
    /// Ask a server for somebody in a part of the region where nobody is known.
    Probe(AreaId, Region, PeerInfo),
    /// The region is known: these records can be sent.
    Send(AreaId, Vec<Waiting>),
}

impl Sweep {
    /// The k nearest servers of a key, if its region is known; where peers crowd, those that count in their place, if
    /// `size` tells.
    pub(crate) fn nearest(&self, now: Duration, key: &Key, k: usize, size: Option<f64>) -> Option<Vec<PeerInfo>> {
        let area = self.areas.values().find(|area| area.explored && area.until > now && area.region.contains(key))?;
        Some(area.nearest(key, k, size))
    }

    /// The same of a region that was explored although those known there may be made up.
    pub(crate) fn beyond(&self, now: Duration, key: &Key, k: usize, size: Option<f64>) -> Option<Vec<PeerInfo>> {
        let known = |area: &&Area| area.explored && area.until > now && area.looked && area.region.contains(key);
        self.areas.values().find(known).map(|area| area.nearest(key, k, size))
    }

    /// The same of an exploration that has ended.
    pub(crate) fn nearest_in(&self, id: AreaId, key: &Key, k: usize, size: Option<f64>) -> Vec<PeerInfo> {
        self.areas.get(&id).map(|area| area.nearest(key, k, size)).unwrap_or_default()
    }

    /// Has somebody wait until the region of `key` is explored. Returns it when too many wait, or too many are explored.
    /// `known` are servers that are believed to be in the region.
    pub(crate) fn wait(
        &mut self,
        now: Duration,
        key: &Key,
        bits: u32,
        record: Waiting,
        known: impl FnOnce(Region) -> BTreeMap<Key, PeerInfo>,
    ) -> Result<(), Waiting> {
        if self.waiting >= MAX_WAITING {
            return Err(record);
        }
        let exploring = |area: &&mut Area| !area.explored && area.region.contains(key);
        if let Some(area) = self.areas.values_mut().find(exploring) {
            area.doubted |= record.1.is_none();
            area.waiting.push_back(record);
            self.waiting += 1;
            return Ok(());
        }
        self.areas.retain(|_, area| !(area.explored && (area.until <= now || area.region.contains(key))));
        if self.areas.len() >= MAX_AREAS {
            let oldest = self.areas.iter().find(|(_, area)| area.explored).map(|(id, _)| *id);
            let Some(oldest) = oldest else { return Err(record) };
            self.areas.remove(&oldest);
        }
        self.waiting += 1;
        let region = Region { key: key.prefix(bits), bits };
        let area = Area {
            region,
            members: BTreeMap::new(),
            heard: known(region),
            asked: BTreeSet::new(),
            probed: BTreeSet::new(),
            out: BTreeSet::new(),
            looking: false,
            looked: false,
            doubted: record.1.is_none(),
            until: now + PATIENCE,
            explored: false,
            found: 0,
            waiting: VecDeque::from([record]),
        };
        self.areas.insert(AreaId(self.next), area);
        self.next += 1;
        Ok(())
    }

    /// The record is not to be sent. Returns whether it waited.
    pub(crate) fn cancel(&mut self, query: QueryId) -> bool {
        for area in self.areas.values_mut() {
            let before = area.waiting.len();
            area.waiting.retain(|(waiting, _)| *waiting != query);
            if area.waiting.len() < before {
                self.waiting -= 1;
                return true;
            }
        }
        false
    }

    /// Whether any region is known.
    pub(crate) fn is_active(&self, now: Duration) -> bool {
        self.areas.values().any(|area| area.explored && area.until > now)
    }

    /// How many records wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The next thing to do. To be called until `None` after each change.
    pub(crate) fn next(&mut self, now: Duration, k: usize) -> Option<Need> {
        let exploring: Vec<AreaId> = self.areas.iter().filter(|(_, area)| !area.explored).map(|(id, _)| *id).collect();
        for id in exploring {
            let area = self.areas.get_mut(&id)?;
            match area.next(now, k) {
                Next::Lookup => return Some(Need::Lookup(id, area.region)),
                Next::Ask(peer) => return Some(Need::Ask(id, peer)),
                Next::Probe(part, peer) => return Some(Need::Probe(id, part, peer)),
                Next::Wait => {}
                Next::Explored => {
                    let waiting: Vec<Waiting> = core::mem::take(&mut area.waiting).into();
                    self.waiting -= waiting.len();
                    return Some(Need::Send(id, waiting));
                }
            }
        }
        None
    }

    /// When [`next`](Self::next) is to be called although nothing has happened.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.areas.values().filter(|area| !area.explored).map(|area| area.until).min()
    }

    /// The lookup of an exploration has ended; these answered on its way.
    pub(crate) fn looked(&mut self, id: AreaId, answered: Vec<PeerInfo>) {
        if let Some(area) = self.areas.get_mut(&id) {
            area.looking = false;
            for peer in answered {
                area.hear(Key::of_peer(&peer.id), peer);
            }
        }
    }

    /// A server of the region answered, and named these.
    pub(crate) fn answered(&mut self, id: AreaId, peer: PeerInfo, named: impl IntoIterator<Item = (Key, PeerInfo)>) {
        if let Some(area) = self.areas.get_mut(&id) {
            let key = Key::of_peer(&peer.id);
            area.out.remove(&key);
            area.members.insert(key, peer);
            named.into_iter().for_each(|(key, peer)| area.hear(key, peer));
        }
    }

    /// Its slot is free for another; its answer counts all the same.
    pub(crate) fn slow(&mut self, id: AreaId, key: &Key) {
        if let Some(area) = self.areas.get_mut(&id) {
            area.out.remove(key);
        }
    }

    /// A server is not there. Where too few are left, or a quarter is gone, whose places others may have taken, the region
    /// is explored anew for the next record.
    pub(crate) fn lost(&mut self, key: &Key, k: usize) {
        for area in self.areas.values_mut() {
            area.out.remove(key);
            let lost = area.members.remove(key).is_some() && area.explored;
            let left = area.members.len();
            if lost && (left < k || left * 4 < area.found * 3) {
                area.until = Duration::ZERO;
            }
        }
    }
}

enum Next {
    Lookup,
    Ask(PeerInfo),
    Probe(Region, PeerInfo),
    Wait,
    Explored,
}

impl Area {
    fn nearest(&self, key: &Key, k: usize, size: Option<f64>) -> Vec<PeerInfo> {
        let mut near = nearest(&self.members, key, k, |_| true);
        let kth = near.last().filter(|_| near.len() == k);
        let crowd = |size: &f64| kth.is_some_and(|(kth, _)| is_crowd(k, *size, &kth.distance(key)));
        if let Some(size) = size.filter(crowd) {
            let mut places = Places::new(k, size);
            near = nearest(&self.members, key, self.members.len(), |_| true);
            near.retain(|(member, _)| places.takes(&member.distance(key)));
        }
        near.into_iter().map(|(_, peer)| peer.clone()).collect()
    }

    fn hear(&mut self, key: Key, peer: PeerInfo) {
        if self.heard.len() < MAX_HEARD && !peer.addresses.is_empty() {
            self.heard.entry(key).or_insert(peer);
        }
    }

    /// A part of the region where nobody is known, and the nearest of those who were not asked for it yet. Servers know
    /// their own neighbours best: two dense parts may not name each other.
    fn next_probe(&mut self) -> Option<(Region, PeerInfo)> {
        let parts: Vec<Region> = self.region.parts(FINER).collect();
        for part in parts {
            if self.members.keys().any(|key| part.contains(key)) {
                continue;
            }
            let tries = self.probed.iter().filter(|(probed, _)| *probed == part.key).count();
            let near = nearest(&self.members, &part.key, MAX_PROBES, |_| true);
            let fresh = near.into_iter().find(|(key, _)| !self.probed.contains(&(part.key, **key)));
            if let Some((key, peer)) = fresh.filter(|_| tries < MAX_PROBES) {
                let (key, peer) = (*key, peer.clone());
                self.probed.insert((part.key, key));
                return Some((part, peer));
            }
        }
        None
    }

    fn next(&mut self, now: Duration, k: usize) -> Next {
        while now < self.until {
            if self.out.len() >= PARALLELISM {
                return Next::Wait;
            }
            // Where peers may be made up, the first to be heard of are those that others than these name.
            if self.doubted && !self.looked {
                (self.looking, self.looked) = (true, true);
                return Next::Lookup;
            }
            let open = self.heard.iter().find(|(key, _)| self.region.contains(key) && !self.asked.contains(key));
            if let Some((key, peer)) = open.map(|(key, peer)| (*key, peer.clone())) {
                self.asked.insert(key);
                self.out.insert(key);
                return Next::Ask(peer);
            }
            if self.looking || !self.out.is_empty() {
                return Next::Wait;
            }
            // Of a region where nobody is known who answers, somebody near it may tell.
            if self.members.is_empty() && !self.looked {
                (self.looking, self.looked) = (true, true);
                return Next::Lookup;
            }
            if let Some((part, peer)) = self.next_probe() {
                self.out.insert(Key::of_peer(&peer.id));
                return Next::Probe(part, peer);
            }
            if self.members.len() >= k || self.region.bits == 0 {
                break;
            }
            let bits = self.region.bits - 1;
            self.region = Region { key: self.region.key.prefix(bits), bits };
        }
        self.explored = true;
        self.found = self.members.len();
        // Where nobody was found, the next record looks anew.
        self.until = if self.members.is_empty() { now } else { now + FRESH };
        self.heard.clear();
        self.asked.clear();
        self.probed.clear();
        self.out.clear();
        Next::Explored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};

    const NOW: Duration = Duration::from_secs(100);

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    fn key(n: u32) -> Key {
        Key::of_peer(&peer(n))
    }

    fn record(n: u64) -> Waiting {
        (QueryId(n), Some(ValueRecord { key: "key".into(), value: "value".into(), received: None }))
    }

    fn wait(sweep: &mut Sweep, target: &Key, bits: u32, number: u64, known: &[u32]) {
        let known: BTreeMap<Key, PeerInfo> = known.iter().map(|n| (key(*n), info(*n))).collect();
        let among = |region: Region| known.into_iter().filter(|(key, _)| region.contains(key)).collect();
        sweep.wait(NOW, target, bits, record(number), among).unwrap();
    }

    /// Answers every question with all neighbours until the records can be sent; returns those asked.
    fn explore(sweep: &mut Sweep, world: u32, dead: &[u32]) -> (Vec<u32>, Vec<Waiting>) {
        let number = |peer: &PeerInfo| (0..world).find(|n| info(*n).id == peer.id).unwrap();
        let mut asked = Vec::new();
        loop {
            match sweep.next(NOW, 20).unwrap() {
                Need::Lookup(id, region) => {
                    let mut all: Vec<u32> = (0..world).filter(|n| !dead.contains(n)).collect();
                    all.sort_by_key(|n| key(*n).distance(&region.key));
                    sweep.looked(id, all[..20].iter().map(|n| info(*n)).collect());
                }
                Need::Ask(_, peer) if dead.contains(&number(&peer)) => {
                    asked.push(number(&peer));
                    sweep.lost(&Key::of_peer(&peer.id), 20);
                }
                Need::Ask(id, peer) => {
                    asked.push(number(&peer));
                    let mut all: Vec<u32> = (0..world).collect();
                    all.sort_by_key(|n| key(*n).distance(&Key::of_peer(&peer.id)));
                    sweep.answered(id, peer, all[..20].iter().map(|n| (key(*n), info(*n))));
                }
                Need::Probe(id, part, peer) => {
                    let mut all: Vec<u32> = (0..world).filter(|n| part.contains(&key(*n))).collect();
                    all.truncate(20);
                    sweep.answered(id, peer, all.iter().map(|n| (key(*n), info(*n))));
                }
                Need::Send(_, records) => return (asked, records),
            }
        }
    }

    #[test]
    fn everybody_in_a_region_is_asked_once_and_the_nearest_are_right() {
        let mut sweep = Sweep::default();
        let target = Key::of(b"target");
        let dead = [3, 30, 300, 903];
        wait(&mut sweep, &target, 4, 0, &[]);
        wait(&mut sweep, &target, 4, 1, &[]);
        let (asked, records) = explore(&mut sweep, 1000, &dead);
        let region = Region { key: target.prefix(4), bits: 4 };
        let mut inside: Vec<u32> = (0..1000).filter(|n| region.contains(&key(*n))).collect();
        let mut once = asked.clone();
        once.sort_unstable();
        inside.retain(|n| once.contains(n) || !dead.contains(n));
        assert_eq!(once, inside, "all of the region, each once");
        assert_eq!(records.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(sweep.waiting(), 0);

        let mut alive: Vec<u32> = (0..1000).filter(|n| !dead.contains(n)).collect();
        alive.sort_by_key(|n| key(*n).distance(&target));
        let nearest: Vec<PeerInfo> = alive[..20].iter().map(|n| info(*n)).collect();
        assert_eq!(sweep.nearest(NOW, &target, 20, None), Some(nearest));
        assert_eq!(sweep.nearest(NOW + FRESH, &target, 20, None), None, "it has to be explored anew");
        assert_eq!(sweep.nearest(NOW, &target.prefix(1).flipped(), 20, None), None, "another region");
    }

    #[test]
    fn where_those_that_are_known_have_gone_others_are_looked_for() {
        let mut sweep = Sweep::default();
        let target = Key::of(b"target");
        let region = Region { key: target.prefix(3), bits: 3 };
        let gone: Vec<u32> = (0..1000).filter(|n| region.contains(&key(*n))).take(2).collect();
        wait(&mut sweep, &target, 3, 0, &gone);
        let (asked, records) = explore(&mut sweep, 1000, &gone);
        assert!(asked.len() > 100 && records.len() == 1, "{asked:?}");
        assert_eq!(sweep.nearest(NOW, &target, 20, None).unwrap().len(), 20);
    }

    #[test]
    fn where_nobody_is_found_the_next_record_looks_anew() {
        let mut sweep = Sweep::default();
        let target = Key::of(b"target");
        for number in 0..2 {
            wait(&mut sweep, &target, 3, number, &[]);
            let Some(Need::Lookup(id, _)) = sweep.next(NOW, 20) else { panic!("nobody is looked for") };
            sweep.looked(id, Vec::new());
            assert!(matches!(sweep.next(NOW, 20), Some(Need::Send(_, records)) if records.len() == 1));
            assert_eq!(sweep.nearest(NOW, &target, 20, None), None);
        }
    }

    #[test]
    fn a_region_of_too_few_grows_until_it_has_enough() {
        let mut sweep = Sweep::default();
        let target = Key::of(b"target");
        wait(&mut sweep, &target, 9, 0, &[]);
        explore(&mut sweep, 500, &[]);
        let mut all: Vec<u32> = (0..500).collect();
        all.sort_by_key(|n| key(*n).distance(&target));
        let nearest: Vec<PeerInfo> = all[..20].iter().map(|n| info(*n)).collect();
        assert_eq!(sweep.nearest(NOW, &target, 20, None), Some(nearest));
        // A network of fewer than k is known whole.
        let mut sweep = Sweep::default();
        wait(&mut sweep, &target, 3, 0, &[1, 2, 3, 4]);
        let mut asked = 0;
        while let Some(need) = sweep.next(NOW, 20) {
            match need {
                Need::Ask(id, peer) => {
                    asked += 1;
                    sweep.answered(id, peer, (1..5).map(|n| (key(n), info(n))));
                }
                Need::Probe(id, _, peer) => sweep.answered(id, peer, []),
                Need::Lookup(id, _) => sweep.looked(id, (1..5).map(info).collect()),
                Need::Send(..) => break,
            }
        }
        assert_eq!((asked, sweep.nearest(NOW, &target, 20, None).map(|peers| peers.len())), (4, Some(4)));
    }

    #[test]
    fn what_waits_and_what_is_explored_is_bounded() {
        let mut sweep = Sweep::default();
        let wait = |sweep: &mut Sweep, region: u32, number: u64| {
            let target = Key::starting_with(region, 8);
            sweep.wait(NOW, &target, 8, record(number), |_| BTreeMap::new()).is_ok()
        };
        let taken = (0..100).filter(|region| wait(&mut sweep, *region, u64::from(*region))).count();
        assert_eq!((taken, sweep.areas.len(), sweep.waiting()), (MAX_AREAS, MAX_AREAS, MAX_AREAS));
        let more = (100..10_000).filter(|number| wait(&mut sweep, 0, *number)).count();
        assert_eq!((taken + more, sweep.waiting()), (MAX_WAITING, MAX_WAITING));
        // What has been explored makes room for what has not.
        while sweep.next(NOW + PATIENCE, 20).is_some() {}
        assert_eq!(sweep.waiting(), 0);
        assert!(wait(&mut sweep, 99, 20_000) && sweep.areas.len() == MAX_AREAS);
    }

    #[test]
    fn silence_and_losses_hold_nothing_up() {
        let mut sweep = Sweep::default();
        let target = Key::of(b"target");
        let all: Vec<u32> = (0..200).collect();
        wait(&mut sweep, &target, 2, 7, &all);
        let mut asked = Vec::new();
        while let Some(Need::Ask(id, peer)) = sweep.next(NOW, 20) {
            asked.push((id, peer));
        }
        assert_eq!(asked.len(), PARALLELISM);
        assert_eq!(sweep.next_timeout(), Some(NOW + PATIENCE));
        // A slow one makes room for the next.
        sweep.slow(asked[0].0, &Key::of_peer(&asked[0].1.id));
        assert!(matches!(sweep.next(NOW, 20), Some(Need::Ask(..))));
        for (id, peer) in &asked {
            sweep.answered(*id, peer.clone(), []);
        }
        let late = NOW + PATIENCE;
        assert!(matches!(sweep.next(late, 20), Some(Need::Send(_, records)) if records.len() == 1));
        assert_eq!(sweep.nearest(late, &target, 20, None).unwrap().len(), PARALLELISM);
        sweep.lost(&Key::of_peer(&asked[3].1.id), 20);
        assert_eq!(sweep.nearest(late, &target, 20, None), None, "too few are left");
        let mut sweep = Sweep::default();
        wait(&mut sweep, &target, 0, 9, &all[..40]);
        explore(&mut sweep, 40, &[]);
        (0..10).for_each(|n| sweep.lost(&key(n), 20));
        assert!(sweep.nearest(NOW, &target, 20, None).is_some());
        sweep.lost(&key(10), 20);
        assert_eq!(sweep.nearest(NOW, &target, 20, None), None, "others have come instead of more than a quarter");
        wait(&mut sweep, &target, 2, 8, &[]);
        assert!(sweep.cancel(QueryId(8)) && !sweep.cancel(QueryId(8)));
    }
}
