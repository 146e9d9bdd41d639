//! The peer book: every server ever met, with what is known of reaching it. Bounded; the worst is forgotten first.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libp2p_identity::PeerId;

use super::key::{Key, nearest};
use super::message::PeerInfo;

/// No peer is called slow earlier than this.
const MIN_PATIENCE: Duration = Duration::from_millis(300);
/// No peer is waited for longer than this before others are asked too.
const MAX_PATIENCE: Duration = Duration::from_secs(3);
/// Before anything was measured: a cold connection of a few round trips on a slow link.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// How many of the newest round trips, of all peers, the general patience is taken from.
const SAMPLES: usize = 128;
/// The general patience is worked out anew after this many samples.
const SAMPLES_A_ROUND: usize = 8;
/// More failures in a row make no peer worse.
const MAX_FAILURES: u32 = 32;
/// After how many failures a peer is forgotten that was met before a restart and never since.
const MAX_FAILURES_UNMET: u32 = 2;
/// How long what the store knows of a peer may lag behind, while nothing but its last answer changes.
const STORE_LAG: Duration = Duration::from_secs(3600);

/// What is known of one server.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) info: PeerInfo,
    rtt: Option<Rtt>,
    /// Failures since the last answer.
    pub(crate) failures: u32,
    /// When it answered last, on the monotonic clock; zero for a peer that is only remembered.
    pub(crate) answered: Duration,
    /// Until when it counts as heard of lately because of what was stored before a restart.
    fresh_until: Duration,
    /// What `answered` was when this was last to be written to the store.
    noted: Option<Duration>,
}

/// Smoothed round trip and its deviation, as TCP keeps them (RFC 6298).
#[derive(Debug, Clone, Copy)]
struct Rtt {
    smooth: Duration,
    deviation: Duration,
}

impl Known {
    fn new(info: PeerInfo) -> Self {
        Self { info, rtt: None, failures: 0, answered: Duration::ZERO, fresh_until: Duration::ZERO, noted: None }
    }

    /// Whether it answered less than `interval` ago and did not fail since.
    pub(crate) fn is_fresh(&self, now: Duration, interval: Duration) -> bool {
        let answered = self.rtt.is_some() && now < self.answered + interval;
        self.failures == 0 && (answered || now < self.fresh_until)
    }

    /// The smoothed round trip, if any was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.rtt.map(|rtt| rtt.smooth)
    }
}

impl Rtt {
    fn update(old: Option<Self>, sample: Duration) -> Self {
        match old {
            None => Self { smooth: sample, deviation: sample / 2 },
            Some(Self { smooth, deviation }) => {
                Self { smooth: (smooth * 7 + sample) / 8, deviation: (deviation * 3 + smooth.abs_diff(sample)) / 4 }
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Book {
    peers: BTreeMap<Key, Known>,
    /// The order of forgetting: most failures first, then longest silent.
    worst: BTreeSet<(u32, Duration, Key)>,
    capacity: usize,
    /// Peers of which the store does not know what is known here.
    unsaved: BTreeMap<Key, PeerId>,
    samples: VecDeque<Duration>,
    unseen: usize,
    patience: Duration,
}

impl Book {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            peers: BTreeMap::new(),
            worst: BTreeSet::new(),
            capacity: capacity.max(1),
            unsaved: BTreeMap::new(),
            samples: VecDeque::new(),
            unseen: 0,
            patience: FIRST_PATIENCE,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Known> {
        self.peers.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Known)> {
        self.peers.iter()
    }

    /// The peer answered after `took`. Addresses that others told of it go behind those that served before, so that
    /// nobody pushes out good ones by naming bad ones; only after a failure they replace them. Returns the peer that
    /// was forgotten to make room; those that `keep` wants are never forgotten.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        info: &PeerInfo,
        took: Duration,
        keep: impl Fn(&Key) -> bool,
    ) -> Option<Key> {
        self.sample(took);
        let key = Key::of_peer(&info.id);
        let known = self.peers.entry(key).or_insert_with(|| Known::new(info.clone()));
        self.worst.remove(&rank(&key, known));
        let before = known.info.addresses.len();
        known.rtt = Some(Rtt::update(known.rtt, took));
        if known.failures > 0 && !info.addresses.is_empty() {
            known.info.addresses.clear();
        }
        known.info.add_addresses(&info.addresses);
        known.failures = 0;
        known.answered = now;
        let same = known.info.addresses.len() == before;
        if !(same && known.noted.is_some_and(|noted| now.saturating_sub(noted) < STORE_LAG)) {
            known.noted = Some(now);
            self.unsaved.insert(key, info.id);
        }
        self.worst.insert(rank(&key, known));
        if self.peers.len() <= self.capacity {
            return None;
        }
        let forgotten = self.worst.iter().map(|(_, _, worst)| *worst).find(|worst| *worst != key && !keep(worst))?;
        self.remove(&forgotten);
        Some(forgotten)
    }

    /// Takes a peer that was met before a restart, unless there is no room or it was met since. It counts as heard of
    /// lately until `fresh_until`.
    pub(crate) fn remember(&mut self, info: PeerInfo, fresh_until: Duration) {
        let key = Key::of_peer(&info.id);
        if self.peers.len() < self.capacity && !self.peers.contains_key(&key) {
            self.put(key, Known { fresh_until, ..Known::new(info) });
        }
    }

    /// How many servers did not fail lately.
    pub(crate) fn live(&self) -> usize {
        self.peers.values().filter(|known| known.failures == 0).count()
    }

    /// The peers of which the store should know something else than it does, with what is known; `None` to forget one.
    pub(crate) fn take_unsaved(&mut self) -> Vec<(PeerId, Option<&Known>)> {
        let unsaved = core::mem::take(&mut self.unsaved);
        unsaved.into_iter().map(|(key, id)| (id, self.peers.get(&key))).collect()
    }

    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The peer itself tells where it can be reached now.
    pub(crate) fn moved(&mut self, info: &PeerInfo) {
        let key = Key::of_peer(&info.id);
        if let Some(known) = self.peers.get_mut(&key).filter(|known| known.info.addresses != info.addresses) {
            known.info.addresses.clone_from(&info.addresses);
            self.unsaved.insert(key, info.id);
        }
    }

    /// The peer did not answer, through its own fault.
    pub(crate) fn failed(&mut self, key: &Key) {
        if let Some(mut known) = self.take(key) {
            known.failures = (known.failures + 1).min(MAX_FAILURES);
            if known.rtt.is_none() && known.failures >= MAX_FAILURES_UNMET {
                self.unsaved.insert(*key, known.info.id);
            } else {
                self.put(*key, known);
            }
        }
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(known) = self.take(key) {
            self.unsaved.insert(*key, known.info.id);
        }
    }

    fn take(&mut self, key: &Key) -> Option<Known> {
        let known = self.peers.remove(key)?;
        self.worst.remove(&rank(key, &known));
        Some(known)
    }

    fn put(&mut self, key: Key, known: Known) {
        self.worst.insert(rank(&key, &known));
        self.peers.insert(key, known);
    }

    /// The `n` servers nearest to `target` that did not fail lately.
    pub(crate) fn nearest(&self, target: &Key, n: usize) -> Vec<(&Key, &Known)> {
        nearest(&self.peers, target, n, |known| known.failures == 0)
    }

    /// How long to wait for a peer before another one is asked too: beyond its own round trips by four deviations,
    /// or beyond 95 % of everybody's when it was never met.
    pub(crate) fn patience(&self, key: &Key) -> Duration {
        let own = self.peers.get(key).and_then(|known| known.rtt).map(|rtt| rtt.smooth + rtt.deviation * 4);
        own.unwrap_or(self.patience).clamp(MIN_PATIENCE, MAX_PATIENCE)
    }

    fn sample(&mut self, took: Duration) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(took);
        self.unseen += 1;
        if self.unseen >= SAMPLES_A_ROUND {
            self.unseen = 0;
            let mut samples: Vec<_> = self.samples.iter().copied().collect();
            let at = samples.len() * 95 / 100;
            self.patience = *samples.select_nth_unstable(at).1;
        }
    }
}

fn rank(key: &Key, known: &Known) -> (u32, Duration, Key) {
    (MAX_FAILURES - known.failures, known.answered, *key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::{address, peer};

    fn info(n: u32) -> PeerInfo {
        PeerInfo { id: peer(n), addresses: vec![address(n)] }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_worst_is_forgotten_and_the_wanted_kept() {
        let mut book = Book::new(3);
        let key = |n| Key::of_peer(&peer(n));
        for n in 0..3 {
            assert_eq!(book.answered(n * MS, &info(n), MS, |_| false), None);
        }
        book.failed(&key(2));
        assert_eq!(book.answered(9 * MS, &info(3), MS, |_| false), Some(key(2)));
        assert_eq!(book.answered(9 * MS, &info(4), MS, |wanted| *wanted == key(0)), Some(key(1)));
        assert_eq!(book.len(), 3);
        assert_eq!(book.worst.len(), 3);
        assert!(book.get(&key(0)).is_some());
        // When all are wanted the book outgrows its bound rather than forget one; the table's own bound holds.
        assert_eq!(book.answered(9 * MS, &info(5), MS, |_| true), None);
    }

    #[test]
    fn told_addresses_push_out_none_that_serve() {
        let mut book = Book::new(3);
        let key = Key::of_peer(&peer(1));
        let told = |n| PeerInfo { id: peer(1), addresses: vec![address(n)] };
        let addresses = |book: &Book| book.get(&key).unwrap().info.addresses.clone();
        book.answered(MS, &told(1), MS, |_| false);
        book.answered(MS, &PeerInfo { id: peer(1), addresses: Vec::new() }, MS, |_| false);
        assert_eq!(addresses(&book), [address(1)]);
        for n in 2..100 {
            book.answered(MS, &told(n), MS, |_| false);
        }
        assert_eq!((addresses(&book).len(), &addresses(&book)[0]), (16, &address(1)));
        book.failed(&key);
        book.answered(MS, &told(50), MS, |_| false);
        assert_eq!(addresses(&book), [address(50)]);
        book.moved(&told(60));
        assert_eq!(addresses(&book), [address(60)]);
    }

    #[test]
    fn patience_follows_what_was_measured() {
        let mut book = Book::new(100);
        let stranger = Key::of(b"stranger");
        assert_eq!(book.patience(&stranger), FIRST_PATIENCE);
        for n in 0..64 {
            book.answered(MS, &info(n), 100 * MS, |_| false);
        }
        assert_eq!(book.patience(&stranger), MIN_PATIENCE);
        for n in 0..16 {
            book.answered(MS, &info(n + 100), 900 * MS, |_| false);
        }
        assert_eq!(book.patience(&stranger), 900 * MS);
        let slow = Key::of_peer(&peer(100));
        assert_eq!(book.patience(&slow), 2700 * MS);
        for _ in 0..50 {
            book.answered(MS, &info(100), 900 * MS, |_| false);
        }
        assert!(book.patience(&slow) < 1000 * MS);
    }

    #[test]
    fn the_store_is_told_what_changed_and_no_more() {
        let mut book = Book::new(10);
        let unsaved = |book: &mut Book| -> Vec<(PeerId, bool)> {
            book.take_unsaved().into_iter().map(|(id, known)| (id, known.is_some())).collect()
        };
        book.remember(info(1), Duration::ZERO);
        book.remember(info(2), Duration::ZERO);
        assert!(!book.has_unsaved());
        assert_eq!(book.nearest(&Key::of_peer(&peer(1)), 9).len(), 2);
        book.answered(MS, &info(1), MS, |_| false);
        assert_eq!(unsaved(&mut book), [(peer(1), true)]);
        book.answered(2 * MS, &info(1), MS, |_| false);
        assert!(!book.has_unsaved());
        book.answered(STORE_LAG + MS, &info(1), MS, |_| false);
        assert_eq!(unsaved(&mut book), [(peer(1), true)]);
        book.moved(&PeerInfo { id: peer(1), addresses: vec![address(9)] });
        assert_eq!(unsaved(&mut book), [(peer(1), true)]);
        // One that is only remembered goes soon, one that was met stays.
        for n in [1, 2, 1, 2] {
            book.failed(&Key::of_peer(&peer(n)));
        }
        assert_eq!(unsaved(&mut book), [(peer(2), false)]);
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn who_failed_is_no_start() {
        let mut book = Book::new(10);
        book.answered(MS, &info(1), MS, |_| false);
        book.answered(MS, &info(2), MS, |_| false);
        let key = Key::of_peer(&peer(1));
        book.failed(&key);
        assert_eq!(book.nearest(&key, 9).len(), 1);
        book.answered(MS, &info(1), MS, |_| false);
        assert_eq!(*book.nearest(&key, 9)[0].0, key);
    }
}
