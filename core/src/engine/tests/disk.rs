//! Disks that are slow, full, stuck or unreadable, and forget what they had not answered.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::store::{Table, Write};

use super::millis;

/// What a disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Reads fail.
    Unreadable,
    /// Commits fail, and nothing of them is written.
    Full,
    /// Nothing is answered.
    Stuck,
}

pub(super) struct Disk {
    pub(super) durable: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Commits that are not answered yet: a crash may lose them, or not.
    pub(super) pending: VecDeque<Vec<Write>>,
    pub(super) latency: Duration,
    pub(super) health: Health,
    /// When it has answered everything so far.
    pub(super) free_at: Duration,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            durable: BTreeMap::new(),
            pending: VecDeque::new(),
            latency: millis(1),
            health: Health::Good,
            free_at: Duration::ZERO,
        }
    }

    pub(super) fn apply(&mut self, writes: &[Write]) {
        apply(&mut self.durable, writes);
    }

    /// What a command sees: everything that was written, durable or not.
    pub(super) fn view(&self) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
        let mut view = self.durable.clone();
        self.pending.iter().for_each(|writes| apply(&mut view, writes));
        view
    }
}

fn apply(disk: &mut BTreeMap<(Table, Vec<u8>), Vec<u8>>, writes: &[Write]) {
    for write in writes {
        let at = (write.table, write.key.clone());
        match &write.value {
            Some(value) => disk.insert(at, value.clone()),
            None => disk.remove(&at),
        };
    }
}
