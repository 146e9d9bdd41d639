//! What this node knows of names: its own, what is in memory, and what its store holds.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::name::Name;
use crate::record::Verified;
use crate::routing::RouterId;
use crate::store::Write;
use crate::time::{Now, Timestamp};

use super::cache::{Cache, Cached};
use super::index::{Index, rank};
use super::kept::{Entry, KeptNames, Kind};
use super::lookup::is_newer;

pub(crate) struct Memory {
    pub(crate) kept: KeptNames,
    /// Own names whose entry in the store cannot be read: their sequence is unknown.
    pub(crate) unreadable: BTreeSet<Name>,
    pub(crate) index: Index,
    /// The highest sequence of an own name that was handed to the store and may or may not be durable.
    spent: BTreeMap<Name, u64>,
    cache: Cache,
    max_records: usize,
}

/// As what a record is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Own {
        lifetime: Duration,
    },
    Followed,
    /// As what the name is kept alive by now.
    AsItIs,
}

/// A record on its way to the store.
pub(crate) struct Kept {
    pub(crate) record: Verified,
    pub(crate) keep: Option<Keep>,
}

impl Kept {
    /// The entry of the name with this record; `None` if it is not kept alive.
    fn entry(&self, old: Option<&Entry>) -> Option<Entry> {
        let mut entry = match (self.keep?, old) {
            (Keep::Own { lifetime }, _) => Entry::new(Kind::Own { lifetime }),
            (Keep::Followed | Keep::AsItIs, Some(old)) => old.clone(),
            (Keep::Followed, None) => Entry::new(Kind::Followed),
            (Keep::AsItIs, None) => return None,
        };
        entry.due = old.and_then(|old| old.due);
        entry.set_record(&self.record);
        Some(entry)
    }
}

impl Memory {
    pub(crate) fn new(cache: Cache, max_records: usize) -> Self {
        Self {
            kept: KeptNames::default(),
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
        let own = self.own_record(record.name());
        if known.iter().map(|known| &known.record).chain(&own).any(|known| is_newer(known, Some(record))) {
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
        let name = kept.record.name();
        if let Some(entry) = kept.entry(self.kept.get(name)) {
            writes.push(entry.write(name));
            if entry.is_own() {
                let spent = self.spent.entry(*name).or_default();
                *spent = (*spent).max(kept.record.sequence());
            }
        }
        writes
    }

    /// The record is durable. Returns the writes that make room for it.
    pub(crate) fn end(&mut self, kept: Kept) -> Vec<Write> {
        let name = *kept.record.name();
        if self.spent.get(&name).is_some_and(|spent| *spent <= kept.record.sequence()) {
            self.spent.remove(&name);
        }
        if let Some(entry) = kept.entry(self.kept.get(&name)) {
            self.unreadable.remove(&name);
            if self.kept.get(&name).is_none_or(|old| !old.has_record() || rank(&kept.record) > old.rank) {
                self.kept.insert(name, entry);
            }
        }
        self.index.note(&kept.record, self.max_records)
    }

    /// The newest record that this node made of a name.
    pub(crate) fn own_record(&self, name: &Name) -> Option<Verified> {
        self.kept.get(name).filter(|entry| entry.is_own())?.record(name)
    }

    pub(crate) fn is_own(&self, name: &Name) -> bool {
        self.kept.get(name).is_some_and(Entry::is_own)
    }

    /// The highest sequence of a name that must not be used again, although nobody saw it.
    pub(crate) fn spent(&self, name: &Name) -> Option<u64> {
        self.spent.get(name).copied()
    }
}
