//! Records in memory: least recently used goes first, bounded in entries and bytes, keyed by the binary name.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::name::Name;
use crate::record::Verified;
use crate::routing::RouterId;
use crate::time::{Now, Timestamp};

#[derive(Debug, Clone)]
pub(crate) struct Cached {
    pub(crate) record: Verified,
    /// Until when it answers without asking, on the monotonic clock: a jump of the wall clock must not make it fresh.
    fresh_until: Duration,
    /// When it was last received or confirmed.
    pub(crate) since: Timestamp,
    /// What the HTTP routers call these bytes.
    pub(crate) etags: BTreeMap<RouterId, String>,
    used: u64,
}

impl Cached {
    /// Whether the TTL has not passed since it was confirmed, nor the end of life.
    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        !self.record.is_expired(now.wall) && now.monotonic < self.fresh_until
    }
}

pub(crate) struct Cache {
    entries: BTreeMap<Name, Cached>,
    by_use: BTreeMap<u64, Name>,
    bytes: usize,
    clock: u64,
    max_entries: usize,
    max_bytes: usize,
}

impl Cache {
    pub(crate) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: BTreeMap::new(), by_use: BTreeMap::new(), bytes: 0, clock: 0, max_entries, max_bytes }
    }

    pub(crate) fn get(&mut self, name: &Name) -> Option<&Cached> {
        let entry = self.entries.get_mut(name)?;
        self.by_use.remove(&entry.used);
        self.clock += 1;
        entry.used = self.clock;
        self.by_use.insert(self.clock, *name);
        Some(entry)
    }

    /// Keeps `record`, confirmed `age` ago, in place of whatever was there. With `None` it has come, but the routers
    /// are still being compared: it is not fresh.
    pub(crate) fn insert(
        &mut self,
        now: Now,
        age: Option<Duration>,
        record: Verified,
        etags: BTreeMap<RouterId, String>,
    ) {
        let name = *record.name();
        self.remove(&name);
        self.clock += 1;
        self.bytes += record.as_bytes().len();
        let since = now.wall - age.unwrap_or_default();
        let fresh_for = age.map(|age| record.fresh_for(since).saturating_sub(age)).unwrap_or_default();
        let fresh_until = now.monotonic.saturating_add(fresh_for);
        let entry = Cached { record, fresh_until, since, etags, used: self.clock };
        self.by_use.insert(self.clock, name);
        self.entries.insert(name, entry);
        while self.entries.len() > self.max_entries || self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.by_use.first_key_value().map(|(used, name)| (*used, *name)) else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.record.as_bytes().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder};

    fn record(seed: u8, ttl: Duration) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
        let mut builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 0, Timestamp::from_unix_secs(100));
        builder.ttl = ttl;
        Checks::at(Timestamp::UNIX_EPOCH)
            .verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name())
            .unwrap()
    }

    fn now(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), wall: Timestamp::from_unix_secs(seconds as i64) }
    }

    #[test]
    fn fresh_for_the_ttl_but_not_beyond_the_end_of_life() {
        let mut cache = Cache::new(10, 10_000);
        let (short, long) = (record(1, Duration::from_secs(10)), record(2, Duration::from_secs(1000)));
        cache.insert(now(0), Some(Duration::ZERO), short.clone(), BTreeMap::new());
        cache.insert(now(0), Some(Duration::ZERO), long.clone(), BTreeMap::new());
        assert!(cache.get(short.name()).unwrap().is_fresh(now(9)));
        assert!(!cache.get(short.name()).unwrap().is_fresh(now(10)));
        assert!(cache.get(long.name()).unwrap().is_fresh(now(99)));
        assert!(!cache.get(long.name()).unwrap().is_fresh(now(100)));
        let jumped_back = Now { monotonic: Duration::from_secs(50), ..now(0) };
        assert!(!cache.get(short.name()).unwrap().is_fresh(jumped_back));

        // A monotonic clock begins anew with its process, and what was stale before stays stale.
        cache.insert(now(0), Some(Duration::from_secs(11)), short.clone(), BTreeMap::new());
        assert!(!cache.get(short.name()).unwrap().is_fresh(now(0)));
        cache.insert(now(0), None, short.clone(), BTreeMap::new());
        assert!(!cache.get(short.name()).unwrap().is_fresh(now(0)));
    }

    #[test]
    fn bounded_in_entries_and_bytes() {
        let mut cache = Cache::new(2, 10_000);
        let records: Vec<_> = (0..3).map(|seed| record(seed, Duration::from_secs(10))).collect();
        cache.insert(now(0), Some(Duration::ZERO), records[0].clone(), BTreeMap::new());
        cache.insert(now(0), Some(Duration::ZERO), records[1].clone(), BTreeMap::new());
        assert!(cache.get(records[0].name()).is_some());
        cache.insert(now(0), Some(Duration::ZERO), records[2].clone(), BTreeMap::new());
        assert!(cache.get(records[1].name()).is_none(), "the least recently used goes first");
        assert!(cache.get(records[0].name()).is_some());

        let one = records[0].as_bytes().len();
        let mut cache = Cache::new(10, one * 2);
        for record in &records {
            cache.insert(now(0), Some(Duration::ZERO), record.clone(), BTreeMap::new());
        }
        assert_eq!((cache.entries.len(), cache.by_use.len()), (2, 2));
        assert!(cache.bytes <= one * 2);
    }
}
