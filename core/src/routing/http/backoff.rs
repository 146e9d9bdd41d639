//! How long to wait between attempts.

use core::time::Duration;

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait, before jitter.
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between the attempts of one request: 100 ms, doubled each time up to 5 s, each ±50 % by chance.
///
/// ```
/// use ipns_core::routing::http::client::Backoff;
///
/// let mut backoff = Backoff::new(2);
/// assert!(backoff.next(0, None).is_some());
/// assert!(backoff.next(0, None).is_none(), "two attempts have one wait between them");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    left: u8,
    wait: Duration,
}

impl Backoff {
    /// For `attempts` attempts in all, the first one included.
    pub fn new(attempts: u8) -> Self {
        Self { left: attempts.saturating_sub(1), wait: FIRST }
    }

    /// How long to wait after a failed attempt, or `None` when no attempt is left.
    ///
    /// `jitter` is the caller's random number; all of `u32` spreads the wait from half to one and a half. The wait is
    /// never shorter than `retry_after`, what the server asked for.
    pub fn next(&mut self, jitter: u32, retry_after: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let spread = f64::from(jitter) / f64::from(u32::MAX);
        let wait = self.wait.mul_f64(0.5 + spread);
        self.wait = (self.wait * 2).min(LONGEST);
        Some(wait.max(retry_after.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(9);
        let waits: Vec<u128> = core::iter::from_fn(|| backoff.next(u32::MAX / 2, None))
            .map(|wait| wait.as_micros().div_ceil(1000))
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn one_attempt_or_none_has_no_wait() {
        assert_eq!(Backoff::new(0).next(7, None), None);
        assert_eq!(Backoff::new(1).next(7, Some(Duration::from_secs(1))), None);
    }

    proptest! {
        #[test]
        fn stays_within_bounds(
            attempts in any::<u8>(),
            jitters in proptest::collection::vec(any::<u32>(), 256),
            retry_after in proptest::option::of((0_u64..=60).prop_map(Duration::from_secs)),
        ) {
            let mut backoff = Backoff::new(attempts);
            let waits: Vec<Duration> =
                jitters.into_iter().map_while(|jitter| backoff.next(jitter, retry_after)).collect();
            prop_assert_eq!(waits.len(), usize::from(attempts.saturating_sub(1)));
            for (index, wait) in waits.into_iter().enumerate() {
                let base = (FIRST * 2_u32.pow(index.min(10) as u32)).min(LONGEST);
                let asked = retry_after.unwrap_or_default();
                prop_assert!(wait >= asked && wait >= base / 2);
                prop_assert!(wait <= asked.max(base * 3 / 2));
            }
            prop_assert_eq!(backoff.next(0, None), None);
        }
    }
}
