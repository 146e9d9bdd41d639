//! Deadlines on the monotonic clock, one for each thing that has any.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Timers<K> {
    queue: BTreeSet<(Duration, K)>,
    due: BTreeMap<K, Duration>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { queue: BTreeSet::new(), due: BTreeMap::new() }
    }

    /// Sets, moves or (with `None`) clears the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, due: Option<Duration>) {
        if let Some(old) = self.due.remove(&key) {
            self.queue.remove(&(old, key));
        }
        if let Some(due) = due {
            self.due.insert(key, due);
            self.queue.insert((due, key));
        }
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The next key whose deadline has come, cleared.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<K> {
        let &(due, key) = self.queue.first()?;
        if due > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }
}
