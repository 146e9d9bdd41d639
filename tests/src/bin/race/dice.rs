//! Chance that depends on nothing but the seed and what it is for.

use std::time::Duration;

/// A stream of random words (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of this seed for this purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed);
        let start = dice.word() ^ purpose;
        Self(start)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes());
        }
        bytes
    }

    /// A number below `count`, or 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.word() % count.max(1) as u64) as usize
    }

    /// At most `count` different numbers below `all`.
    pub(crate) fn some(&mut self, count: usize, all: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..all).collect();
        for at in 0..count.min(all) {
            let other = at + self.below(all - at);
            numbers.swap(at, other);
        }
        numbers.truncate(count);
        numbers
    }

    /// A log-normal duration (Box and Muller).
    pub(crate) fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        median.mul_f64((sigma * normal).exp())
    }

    fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_as_asked() {
        let mut dice = Dice::new(3, 0);
        let mut all: Vec<Duration> = (0..10_000).map(|_| dice.log_normal(Duration::from_millis(130), 0.6)).collect();
        all.sort();
        for (at, expected) in [(5_000, 130.0), (9_000, 280.0)] {
            let found = all[at].as_millis() as f64;
            assert!((found / expected - 1.0).abs() < 0.06, "{at}: {found}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_and_every_purpose_its_own() {
        assert_eq!(Dice::new(1, 2).bytes(), Dice::new(1, 2).bytes());
        assert_ne!(Dice::new(1, 2).bytes(), Dice::new(1, 3).bytes());
        assert_ne!(Dice::new(2, 1).bytes(), Dice::new(1, 2).bytes());
        let mut chosen = Dice::new(1, 2).some(5, 9);
        chosen.sort();
        chosen.dedup();
        assert!(chosen.len() == 5 && chosen.iter().all(|&number| number < 9), "{chosen:?}");
        assert_eq!(Dice::new(1, 2).some(5, 3).len(), 3);
    }
}
