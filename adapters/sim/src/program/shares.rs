//! Percentiles.

/// Values in order, to be asked for percentiles.
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The smallest value that at least this share of all are not above; `NaN` when there are none.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted = Sorted::new((1..=10).rev().map(f64::from));
        assert_eq!([0.0, 0.5, 0.9, 0.99, 1.0].map(|share| sorted.at(share)), [1.0, 5.0, 9.0, 10.0, 10.0]);
        assert!(Sorted::new([]).at(0.5).is_nan());
    }
}
