//! A store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipns_core::store::{Entries, Store, StoreError, Table, Write};

use crate::limits;

/// A [`Store`] that forgets everything when its last handle is dropped.
///
/// Clones are handles to the same contents: drop the engine that owns one and start another over the next to see
/// what a restart sees.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    fail_commits: Option<StoreError>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every commit, through any handle, fails with `error` and applies nothing; `None` lets commits
    /// succeed again. For tests of what is done about a failing disk.
    pub fn fail_commits(&self, error: Option<StoreError>) {
        self.contents().fail_commits = error;
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // No change of the contents can stop half-way, so a panic elsewhere does not spoil them.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents().tables.get(&table).and_then(|entries| entries.get(key)).cloned())
    }

    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.contents().tables.get(&table).map_or_else(Vec::new, |entries| {
            entries
                .range::<[u8], _>((start, Bound::Unbounded))
                .take(limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }))
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let mut contents = self.contents();
        if let Some(error) = &contents.fail_commits {
            return Err(error.clone());
        }
        limits::check(batch)?;
        for write in batch {
            let entries = contents.tables.entry(write.table).or_default();
            match &write.value {
                Some(value) => entries.insert(write.key.clone(), value.clone()),
                None => entries.remove(&write.key),
            };
        }
        Ok(())
    }
}
