//! Chance that depends on nothing but the seed and what it is for: a pair of nodes always has the same round trip,
//! however many other dice were thrown before.

use std::hash::{BuildHasherDefault, Hasher};

/// Mixes words into one that looks random (splitmix64's finaliser over a running state).
pub(crate) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |state, word| mix_in(state, *word))
}

/// Mixes one more word into what came of others.
pub(crate) fn mix_in(state: u64, word: u64) -> u64 {
    let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// For maps by numbers that nobody chooses so that they collide.
pub(crate) type ByNumbers = BuildHasherDefault<Mixer>;

#[derive(Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = mix_in(self.0, (*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = mix_in(self.0, number.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A number in [0, 1).
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

/// A normal deviate from a word: the sum of twelve uniform ones is near enough for delays.
pub(crate) fn normal(word: u64) -> f64 {
    let sum: f64 = (0..12).map(|n| unit(mix(&[word, n]))).sum();
    sum - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviates_have_the_right_moments() {
        let draws: Vec<f64> = (0..20_000).map(|n| normal(mix(&[7, n]))).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let mean = (0..20_000).map(|n| unit(mix(&[n, 3]))).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
