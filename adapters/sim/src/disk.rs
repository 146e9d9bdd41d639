//! A node's disk: what is on it survives a crash, what is on its way to it does not.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use ipns_core::engine::{StoreAction, StoreReply};
use ipns_core::store::{StoreError, Table};

/// How long a durable commit takes, unless the disk is slow.
const COMMIT: Duration = Duration::from_millis(4);
/// How long a read takes.
const READ: Duration = Duration::from_micros(100);

#[derive(Debug, Default)]
pub(crate) struct Disk {
    tables: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// When it has done all that it was told so far: it does one thing after the other.
    busy_until: Duration,
    /// How much longer a commit takes.
    pub(crate) slow: Duration,
    /// What every commit ends with, if it does not succeed.
    pub(crate) failure: Option<StoreError>,
}

impl Disk {
    /// When a command that is given now will have been carried out.
    pub(crate) fn done_at(&mut self, now: Duration, action: &StoreAction) -> Duration {
        let takes = if let StoreAction::Commit(_) = action { COMMIT + self.slow } else { READ };
        self.busy_until = self.busy_until.max(now) + takes;
        self.busy_until
    }

    /// Carries a command out.
    pub(crate) fn carry_out(&mut self, action: StoreAction) -> Result<StoreReply, StoreError> {
        match action {
            StoreAction::Get { table, key } => Ok(StoreReply::Value(self.tables.get(&(table, key)).cloned())),
            StoreAction::Scan { table, after, limit } => {
                let start = match after {
                    Some(after) => Bound::Excluded((table, after)),
                    None => Bound::Included((table, Vec::new())),
                };
                let entries = self.tables.range((start, Bound::Unbounded));
                let entries = entries.take_while(|((of, _), _)| *of == table).take(limit);
                Ok(StoreReply::Entries(entries.map(|((_, key), value)| (key.clone(), value.clone())).collect()))
            }
            StoreAction::Commit(writes) => {
                if let Some(failure) = &self.failure {
                    return Err(failure.clone());
                }
                for write in writes {
                    match write.value {
                        Some(value) => self.tables.insert((write.table, write.key), value),
                        None => self.tables.remove(&(write.table, write.key)),
                    };
                }
                Ok(StoreReply::Committed)
            }
        }
    }

    /// How many entries a table has.
    pub(crate) fn count(&self, table: Table) -> usize {
        self.tables.keys().filter(|(of, _)| *of == table).count()
    }
}
