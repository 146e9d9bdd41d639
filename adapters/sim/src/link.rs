//! How long messages take, and which are lost.

use std::time::Duration;

use crate::dice::{mix, normal, unit};

/// The links between all nodes. [`Default`] is today's internet as the public DHT sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Links {
    /// The median round trip; round trips are log-normal, and fixed for each pair of nodes.
    pub median: Duration,
    /// The deviation of the logarithm.
    pub sigma: f64,
    /// How many regions the nodes lie in; 1 for a world without.
    pub regions: u32,
    /// How many times longer the round trip between nodes of different regions is.
    pub abroad: f64,
    /// How much a single message differs from its pair's round trip, as a share of it.
    pub jitter: f64,
    /// How many round trips a new connection takes.
    pub connect_round_trips: f64,
    /// How long a dial to a node that is not there takes to fail.
    pub dead_dial: Duration,
    /// How long a connection stays open that nobody uses.
    pub idle: Duration,
    /// The mean of the time that a server takes to answer, exponentially distributed.
    pub service: Duration,
    /// The share of messages that are lost.
    pub loss: f64,
    /// The share of answers that come twice.
    pub duplicates: f64,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            median: Duration::from_millis(130),
            sigma: 0.6,
            regions: 1,
            abroad: 1.0,
            jitter: 0.05,
            connect_round_trips: 1.0,
            dead_dial: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            service: Duration::from_millis(20),
            loss: 0.0,
            duplicates: 0.0,
        }
    }
}

impl Links {
    /// The round trip between two nodes.
    pub(crate) fn round_trip(&self, seed: u64, a: u32, b: u32) -> Duration {
        let pair = mix(&[seed, 1, a.min(b).into(), a.max(b).into()]);
        let region = |n: u32| mix(&[seed, 4, n.into()]) % u64::from(self.regions);
        let abroad = if self.regions <= 1 || region(a) == region(b) { 1.0 } else { self.abroad };
        self.median.mul_f64(abroad * libm::exp(self.sigma * normal(pair)))
    }

    /// How long one message takes, one way, where this is the round trip.
    pub(crate) fn one_way(&self, round_trip: Duration, chance: u64) -> Duration {
        let jitter = 1.0 + self.jitter * (2.0 * unit(chance) - 1.0);
        round_trip.mul_f64(jitter / 2.0)
    }

    pub(crate) fn service_time(&self, chance: u64) -> Duration {
        self.service.mul_f64(-libm::log(1.0 - unit(chance)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_as_measured_and_fixed_for_a_pair() {
        let links = Links::default();
        let mut all: Vec<Duration> = (0..10_000).map(|n| links.round_trip(5, n, n + 20_000)).collect();
        assert_eq!(links.round_trip(5, 3, 9), links.round_trip(5, 9, 3));
        assert_ne!(links.round_trip(5, 3, 9), links.round_trip(6, 3, 9));
        all.sort();
        let near = |at: usize, ms: u64| {
            let (found, expected) = (all[at].as_millis() as f64, ms as f64);
            assert!((found / expected - 1.0).abs() < 0.06, "{at}: {found} {expected}");
        };
        near(5_000, 130);
        near(9_000, 280);
        near(9_900, 525);
    }

    #[test]
    fn other_regions_are_farther_away() {
        let links = Links { sigma: 0.0, regions: 4, abroad: 3.0, ..Links::default() };
        let all: Vec<Duration> = (1..4000).map(|n| links.round_trip(5, 0, n)).collect();
        let at_home = all.iter().filter(|time| **time == links.median).count();
        assert!((900..1100).contains(&at_home), "{at_home}");
        assert!(all.iter().all(|time| *time == links.median || *time == 3 * links.median));
    }
}
