//! Whether the wall clock can be right. A wrong one makes valid records look expired, or expired ones valid.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::routing::RouterId;
use crate::time::{Now, Timestamp};

/// This code did not exist before; a clock that shows an earlier time is wrong.
const EARLIEST: Timestamp = Timestamp::from_unix_secs_const(1_795_392_000);

pub(crate) struct ClockWatch {
    limit: Duration,
    /// By how many nanoseconds each router's clock is ahead of ours.
    ahead: BTreeMap<RouterId, i128>,
    reported: bool,
}

impl ClockWatch {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, ahead: BTreeMap::new(), reported: false }
    }

    /// The earliest time that the clock could show, if it shows an earlier one.
    pub(crate) fn check_start(now: Now) -> Option<Timestamp> {
        (now.wall < EARLIEST).then_some(EARLIEST)
    }

    /// Takes a router's `Date`. Returns the time that two routers agree on when it is far from ours, once.
    pub(crate) fn observe(&mut self, now: Now, router: RouterId, date: Timestamp) -> Option<Timestamp> {
        self.ahead.insert(router, date.as_unix_nanos() - now.wall.as_unix_nanos());
        let limit = self.limit.as_nanos() as i128;
        let off: Vec<i128> = self.ahead.values().copied().filter(|ahead| ahead.abs() > limit).collect();
        let agree = off.iter().enumerate().find(|(i, a)| off[i + 1..].iter().any(|b| (**a - b).abs() <= limit));
        match agree {
            Some((_, ahead)) if !self.reported => {
                self.reported = true;
                Some(Timestamp::from_unix_nanos(now.wall.as_unix_nanos() + ahead))
            }
            Some(_) => None,
            None => {
                self.reported = false;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_routers_must_agree() {
        let now = Now { monotonic: Duration::ZERO, wall: EARLIEST };
        let mut clock = ClockWatch::new(Duration::from_secs(120));
        let later = now.wall + Duration::from_secs(600);
        assert_eq!(clock.observe(now, RouterId(0), later), None);
        assert_eq!(clock.observe(now, RouterId(1), now.wall), None);
        assert_eq!(clock.observe(now, RouterId(2), later + Duration::from_secs(1)), Some(later));
        assert_eq!(clock.observe(now, RouterId(2), later), None, "said once");
    }

    #[test]
    fn a_clock_before_this_code_is_wrong() {
        let at = |wall| ClockWatch::check_start(Now { monotonic: Duration::ZERO, wall });
        assert_eq!(at(Timestamp::UNIX_EPOCH), Some(EARLIEST));
        assert_eq!(at(EARLIEST), None);
    }
}
