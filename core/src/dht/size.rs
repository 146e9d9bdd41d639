//! How many servers the network has, from how dense its peers lie around the places that were looked up.
//!
//! Of N servers spread evenly over the key space, the i-th nearest to any place is i / (N + 1) of the space away on
//! average. So every finished lookup is a measurement; many of them together are a good one.

use core::time::Duration;
use std::collections::VecDeque;

use super::key::Distance;

/// The distances that one lookup tells: those of the nearest peers that answered. Who is unreachable is not counted,
/// because what is to be kept by the nearest is kept by those who can be reached.
const RANKS: usize = 20;
/// Lookups that are remembered.
const MAX_SAMPLES: usize = 150;
/// How long a lookup counts: networks grow and shrink.
const MAX_AGE: Duration = Duration::from_secs(2 * 3600);
/// Fewer lookups say nothing.
const MIN_SAMPLES: usize = 5;

#[derive(Debug)]
struct Sample {
    at: Duration,
    /// The sum of the distances of all ranks, in shares of the key space.
    sum: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Size {
    samples: VecDeque<Sample>,
    told: Option<Told>,
}

/// What was known otherwise than by lookups.
#[derive(Debug, Clone, Copy)]
struct Told {
    size: f64,
    /// Until when it is worth something.
    until: Duration,
    /// Whether all servers were counted: that is better than any measurement.
    counted: bool,
}

impl Size {
    /// A lookup has ended; these are the distances of the peers nearest to its target, in order.
    pub(crate) fn observe(&mut self, now: Duration, nearest: impl Iterator<Item = Distance>) {
        let distances: Vec<f64> = nearest.take(RANKS).map(|distance| distance.share()).collect();
        if distances.len() < RANKS {
            return;
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at: now, sum: distances.iter().sum() });
    }

    /// There were so many `age` ago, before a restart.
    pub(crate) fn tell(&mut self, now: Duration, servers: u64, age: Duration) {
        if age < MAX_AGE && servers > 0 {
            self.told = Some(Told { size: servers as f64, until: now + (MAX_AGE - age), counted: false });
        }
    }

    /// All servers were counted.
    pub(crate) fn count(&mut self, now: Duration, servers: usize) {
        self.told = Some(Told { size: servers as f64, until: now + MAX_AGE, counted: true });
    }

    /// The number of servers, once there are enough measurements.
    ///
    /// Least squares through the origin over all ranks, each weighted by the inverse of its variance, which grows with
    /// the rank: what is left is a ratio of sums.
    pub(crate) fn estimate(&self, now: Duration) -> Option<f64> {
        let fresh = self.samples.iter().filter(|sample| now.saturating_sub(sample.at) < MAX_AGE);
        let (count, sum) = fresh.fold((0, 0.0), |(count, sum), sample| (count + 1, sum + sample.sum));
        let ranks = (RANKS * (RANKS + 1) / 2) as f64;
        let measured = (count >= MIN_SAMPLES && sum > 0.0).then(|| ranks * count as f64 / sum - 1.0);
        let told = self.told.filter(|told| now < told.until);
        let (first, second) = match told {
            Some(Told { size, counted: true, .. }) => (Some(size), measured),
            told => (measured, told.map(|told| told.size)),
        };
        first.or(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::key::Key;

    const NOW: Duration = Duration::from_secs(10_000);

    fn observe(size: &mut Size, at: Duration, servers: u32, target: u32) {
        let target = Key::of(&target.to_be_bytes());
        let keys = (0..servers).map(|n| Key::of(&[&n.to_be_bytes()[..], b"server"].concat()));
        let mut distances: Vec<Distance> = keys.map(|key| key.distance(&target)).collect();
        distances.sort();
        size.observe(at, distances.into_iter());
    }

    #[test]
    fn the_estimate_is_near_the_truth() {
        for servers in [100, 1000, 5000] {
            let mut size = Size::default();
            for target in 0..4 {
                observe(&mut size, NOW, servers, target);
            }
            assert_eq!(size.estimate(NOW), None);
            for target in 4..30 {
                observe(&mut size, NOW, servers, target);
            }
            let estimate = size.estimate(NOW).unwrap();
            assert!((estimate / f64::from(servers) - 1.0).abs() < 0.12, "{servers} {estimate}");
        }
    }

    #[test]
    fn what_was_told_counts_until_something_is_measured() {
        let mut size = Size::default();
        size.tell(NOW, 5000, MAX_AGE / 2);
        assert_eq!((size.estimate(NOW), size.estimate(NOW + MAX_AGE / 2)), (Some(5000.0), None));
        for (size, age) in [(0, MAX_AGE / 2), (5000, MAX_AGE)] {
            let mut told = Size::default();
            told.tell(NOW, size, age);
            assert_eq!(told.estimate(NOW), None);
        }
        (0..5).for_each(|target| observe(&mut size, NOW, 1000, target));
        assert!(size.estimate(NOW).unwrap() < 2000.0);
        size.count(NOW, 1234);
        assert_eq!(size.estimate(NOW), Some(1234.0));
    }

    #[test]
    fn what_is_old_or_too_little_does_not_count() {
        let mut size = Size::default();
        for target in 0..10 {
            observe(&mut size, NOW, 1000, target);
            observe(&mut size, NOW, 10, target);
        }
        assert_eq!(size.samples.len(), 10);
        assert!(size.estimate(NOW).is_some());
        assert_eq!(size.estimate(NOW + MAX_AGE), None);
        for target in 0..400 {
            observe(&mut size, NOW, 30, target);
        }
        assert_eq!(size.samples.len(), MAX_SAMPLES);
    }
}
