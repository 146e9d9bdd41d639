//! What this node knows of names: its own, what is in memory, and what its store holds.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::record::Verified;
use crate::routing::RouterId;
use crate::store::Write;
use crate::time::{Now, Timestamp};

use super::cache::{Cache, Cached};
use super::lookup::is_newer;
use super::own::{Index, Own};

pub(crate) struct Memory {
    pub(crate) own: BTreeMap<Name, Own>,
    /// Own names whose entry in the store cannot be read: their sequence is unknown.
    pub(crate) unreadable: BTreeSet<Name>,
    pub(crate) index: Index,
    /// The highest sequence of an own name that was handed to the store and may or may not be durable.
    spent: BTreeMap<Name, u64>,
    cache: Cache,
    max_records: usize,
}

/// A record on its way to the store.
pub(crate) struct Kept {
    pub(crate) record: Verified,
    /// The record as this node's own.
    pub(crate) own: Option<Own>,
}

impl Memory {
    pub(crate) fn new(cache: Cache, max_records: usize) -> Self {
        Self {
            own: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            index: Index::default(),
            spent: BTreeMap::new(),
            cache,
            max_records,
        }
    }

    pub(crate) fn cached(&mut self, name: &Name) -> Option<Cached> {
        self.cache.get(name).cloned()
    }

    /// Whether `record` may be returned without asking anyone.
    pub(crate) fn is_fresh(&mut self, now: Now, record: &Verified) -> bool {
        self.cache.get(record.name()).is_some_and(|entry| entry.record == *record && entry.is_fresh(now))
    }

    /// When the record of a name was last received or confirmed, if that is known.
    pub(crate) fn since(&mut self, name: &Name) -> Option<Timestamp> {
        self.cache.get(name).map(|entry| entry.since)
    }

    /// Makes a record what this node returns, unless it knows a newer one. `age` says how long ago it was confirmed as
    /// the newest, if it was.
    pub(crate) fn remember(
        &mut self,
        now: Now,
        record: &Verified,
        age: Option<Duration>,
        mut etags: BTreeMap<RouterId, String>,
    ) -> bool {
        let known = self.cached(record.name());
        let own = self.own.get(record.name()).map(|own| &own.record);
        if known.iter().map(|known| &known.record).chain(own).any(|known| is_newer(known, Some(record))) {
            return false;
        }
        if let Some(known) = known.filter(|known| known.record == *record) {
            for (router, etag) in known.etags {
                etags.entry(router).or_insert(etag);
            }
        }
        self.cache.insert(now, age, record.clone(), etags);
        true
    }

    /// What is to be written to keep a record that is returned from now on; nothing if there is a newer one.
    pub(crate) fn keep(&mut self, record: &Verified, received: Timestamp) -> Vec<Write> {
        let write = self.index.write(record, received);
        let evictions = self.index.note(record, self.max_records);
        write.into_iter().chain(evictions).collect()
    }

    /// What is to be written to keep a record that is returned once it is durable.
    pub(crate) fn begin(&mut self, kept: &Kept, received: Timestamp) -> Vec<Write> {
        let mut writes: Vec<Write> = self.index.write(&kept.record, received).into_iter().collect();
        if let Some(own) = &kept.own {
            writes.push(own.write());
            let spent = self.spent.entry(*own.record.name()).or_default();
            *spent = (*spent).max(own.record.sequence());
        }
        writes
    }

    /// The record is durable. Returns the writes that make room for it.
    pub(crate) fn end(&mut self, kept: Kept) -> Vec<Write> {
        let name = *kept.record.name();
        if self.spent.get(&name).is_some_and(|spent| *spent <= kept.record.sequence()) {
            self.spent.remove(&name);
        }
        if let Some(own) = kept.own {
            self.unreadable.remove(&name);
            if is_newer(&own.record, self.own.get(&name).map(|own| &own.record)) {
                self.own.insert(name, own);
            }
        }
        self.index.note(&kept.record, self.max_records)
    }

    /// The highest sequence of a name that must not be used again, although nobody saw it.
    pub(crate) fn spent(&self, name: &Name) -> Option<u64> {
        self.spent.get(name).copied()
    }
}
