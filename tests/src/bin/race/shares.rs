//! Percentiles.

use serde::Serialize;

/// Half of all values are not above `p50`, and nine of ten not above `p90`; `None` when there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied()
        };
        Self { p50: at(0.5), p90: at(0.9) }
    }

    /// How many times as large these are.
    pub(crate) fn over(self, other: Self) -> Self {
        let ratio = |these: Option<f64>, others: Option<f64>| Some(these? / others?).filter(|ratio| ratio.is_finite());
        Self { p50: ratio(self.p50, other.p50), p90: ratio(self.p90, other.p90) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let spread = Spread::of((1..=10).rev().map(f64::from));
        assert_eq!(spread, Spread { p50: Some(5.0), p90: Some(9.0) });
        let none = Spread::of([]);
        assert_eq!(none, Spread { p50: None, p90: None });
        assert_eq!(spread.over(Spread::of([2.0])), Spread { p50: Some(2.5), p90: Some(4.5) });
        assert_eq!((spread.over(none), spread.over(Spread::of([0.0]))), (none, none));
    }
}
