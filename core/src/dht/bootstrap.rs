//! Joining the network and staying in it: whom to join through, when to try again, what to refresh.

use core::time::Duration;
use std::collections::VecDeque;

use rand_chacha::rand_core::RngCore;

use super::message::PeerInfo;

/// The first retry while alone; doubled with every further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No retry while alone is later than this.
const LAST_RETRY: Duration = Duration::from_secs(5 * 60);
/// The most peers to join through that are kept.
const MAX_SEEDS: usize = 64;

/// A node's standing in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No live server is known, and nobody is being asked.
    Alone,
    /// The node is looking for its place.
    Joining,
    /// The node has looked up its own place and knows live servers.
    Joined,
}

/// How a node stands in its network.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// In one word.
    pub standing: Standing,
    /// Peers in the routing table.
    pub table: usize,
    /// Those of them that are not suspected to be dead.
    pub live: usize,
    /// Servers remembered in all.
    pub known: usize,
    /// How many servers the network has, by the density of its peers, once enough lookups have told.
    pub size: Option<f64>,
    /// When a crawl was last complete, on the monotonic clock.
    pub crawled: Option<Duration>,
    /// When a peer last answered, on the monotonic clock.
    pub last_answer: Option<Duration>,
}

/// A lookup that keeps the table in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Of our own place.
    Own,
    /// Of a random place in the bucket of this prefix length.
    Bucket(u32),
}

#[derive(Debug)]
pub(crate) struct Bootstrap {
    seeds: Vec<PeerInfo>,
    interval: Duration,
    /// When to try again while alone.
    retry: Duration,
    backoff: Duration,
    /// When the next round of refreshing begins.
    refresh: Duration,
    /// The buckets still to be refreshed in this round.
    queue: VecDeque<u32>,
    /// Our own place has just been looked up: the buckets come next.
    explored: bool,
    /// Whether our own place was looked up since we were alone.
    placed: bool,
    busy: bool,
}

impl Bootstrap {
    pub(crate) fn new(now: Duration, seeds: Vec<PeerInfo>, interval: Duration) -> Self {
        let mut bootstrap = Self {
            seeds: Vec::new(),
            interval: interval.max(Duration::from_secs(1)),
            retry: now,
            backoff: FIRST_RETRY,
            refresh: now,
            queue: VecDeque::new(),
            explored: false,
            placed: false,
            busy: false,
        };
        bootstrap.add_seeds(now, seeds);
        bootstrap
    }

    pub(crate) fn seeds(&self) -> &[PeerInfo] {
        &self.seeds
    }

    /// More peers to join through, tried at once.
    pub(crate) fn add_seeds(&mut self, now: Duration, seeds: Vec<PeerInfo>) {
        for seed in seeds {
            self.seeds.retain(|known| known.id != seed.id);
            self.seeds.push(seed);
        }
        let excess = self.seeds.len().saturating_sub(MAX_SEEDS);
        self.seeds.drain(..excess);
        self.retry_now(now);
    }

    /// Who is alone tries again at once: there is somebody new to try.
    pub(crate) fn retry_now(&mut self, now: Duration) {
        self.retry = now;
        self.backoff = FIRST_RETRY;
    }

    pub(crate) fn standing(&self, live: usize) -> Standing {
        match (live, self.busy) {
            (0, false) => Standing::Alone,
            (1.., _) if self.placed => Standing::Joined,
            _ => Standing::Joining,
        }
    }

    /// The next lookup, if it is time for one and none is running. `stale` tells the buckets through which no lookup
    /// went since a moment; `anybody` whether there is somebody to ask at all.
    pub(crate) fn next(
        &mut self,
        now: Duration,
        live: usize,
        anybody: bool,
        stale: impl FnOnce(Duration) -> Vec<u32>,
        rng: &mut impl RngCore,
    ) -> Option<Upkeep> {
        if self.busy {
            return None;
        }
        let next = if live == 0 {
            self.placed = false;
            self.queue.clear();
            if now < self.retry || !anybody {
                return None;
            }
            self.retry = now + jittered(self.backoff, rng);
            self.backoff = (self.backoff * 2).min(LAST_RETRY);
            Upkeep::Own
        } else {
            if core::mem::take(&mut self.explored) {
                self.refresh = now + jittered(self.interval, rng);
                self.queue.extend(stale(now.saturating_sub(self.interval)));
            }
            match self.queue.pop_front() {
                Some(prefix) => Upkeep::Bucket(prefix),
                None if !self.placed || now >= self.refresh => Upkeep::Own,
                None => return None,
            }
        };
        self.busy = true;
        Some(next)
    }

    /// The lookup is over; `live` servers are known now.
    pub(crate) fn finished(&mut self, upkeep: Upkeep, live: usize) {
        self.busy = false;
        if live > 0 {
            self.backoff = FIRST_RETRY;
            self.explored = matches!(upkeep, Upkeep::Own);
            self.placed |= self.explored;
        }
    }

    pub(crate) fn next_timeout(&self, live: usize, anybody: bool) -> Option<Duration> {
        match live {
            _ if self.busy => None,
            0 => anybody.then_some(self.retry),
            _ => Some(self.refresh),
        }
    }
}

/// Within a tenth of `interval`, so that nodes that started together do not act together.
fn jittered(interval: Duration, rng: &mut impl RngCore) -> Duration {
    interval.mul_f64(0.9 + 0.2 * f64::from(rng.next_u32()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::peer;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    const START: Duration = Duration::from_secs(100);

    fn seeds(range: core::ops::Range<u32>) -> Vec<PeerInfo> {
        range.map(|n| PeerInfo { id: peer(n), addresses: Vec::new() }).collect()
    }

    #[test]
    fn alone_it_tries_ever_more_rarely_and_at_once_with_new_seeds() {
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        let mut bootstrap = Bootstrap::new(START, seeds(0..1), Duration::from_secs(600));
        let (mut now, mut gaps) = (START, Vec::new());
        assert_eq!(bootstrap.standing(0), Standing::Alone);
        for _ in 0..14 {
            let upkeep = bootstrap.next(now, 0, true, |_| Vec::new(), &mut rng).unwrap();
            assert_eq!(upkeep, Upkeep::Own);
            assert_eq!(bootstrap.standing(0), Standing::Joining);
            assert_eq!(bootstrap.next(now, 0, true, |_| Vec::new(), &mut rng), None);
            bootstrap.finished(upkeep, 0);
            let next = bootstrap.next_timeout(0, true).unwrap();
            gaps.push((next - now).as_secs_f64().round());
            now = next;
        }
        assert!(gaps.windows(2).take(7).all(|pair| pair[0] < pair[1]), "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= 330.0), "{gaps:?}");
        bootstrap.add_seeds(START, seeds(1..200));
        assert_eq!(bootstrap.seeds().len(), MAX_SEEDS);
        assert_eq!(bootstrap.next_timeout(0, true), Some(START));
        assert_eq!(bootstrap.next_timeout(0, false), None);
    }

    #[test]
    fn joined_it_refreshes_one_bucket_after_the_other() {
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        let mut bootstrap = Bootstrap::new(START, Vec::new(), Duration::from_secs(600));
        let mut now = START;
        let mut done = Vec::new();
        let mut rounds = 0;
        while rounds < 2 {
            match bootstrap.next(now, 5, true, |_| vec![0, 1], &mut rng) {
                Some(upkeep) => {
                    bootstrap.finished(upkeep, 5);
                    done.push(upkeep);
                }
                None => {
                    rounds += 1;
                    now = bootstrap.next_timeout(5, true).unwrap();
                    assert!((540..=660).contains(&(now - START).as_secs().div_ceil(rounds)));
                }
            }
        }
        assert_eq!(bootstrap.standing(5), Standing::Joined);
        let own = Upkeep::Own;
        let round = [own, Upkeep::Bucket(0), Upkeep::Bucket(1)];
        assert_eq!(done, [round, round].concat());
    }
}
