//! The index of the records that this node stores.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::name::Name;
use crate::record::{Record, Verified};
use crate::store::{Table, Write};
use crate::time::Timestamp;

use super::stored::StoredRecord;

/// What decides which of two records is newer, without the record: sequence, end of life.
pub(crate) type Rank = (u64, Timestamp);

pub(crate) fn rank(record: &Verified) -> Rank {
    (record.sequence(), record.eol())
}

/// Of an entry that is not valid: everything is newer.
const UNKNOWN: Rank = (0, Timestamp::MIN);

/// The newest record of each name that the store holds or should hold, because this node may have returned it: so that
/// nothing older is returned or overwrites anything, and the store stays bounded.
#[derive(Default)]
pub(crate) struct Index {
    ranks: BTreeMap<Name, Rank>,
    by_eol: BTreeSet<(Timestamp, Name)>,
    /// Whether nothing is to be kept, because nobody knows what it would overwrite.
    closed: bool,
}

impl Index {
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.ranks.contains_key(name)
    }

    /// What nothing older than may be returned of a name.
    pub(crate) fn rank(&self, name: &Name) -> Option<Rank> {
        self.ranks.get(name).copied().filter(|rank| *rank != UNKNOWN)
    }

    /// Whether there is a newer record than this.
    pub(crate) fn outranks(&self, record: &Verified) -> bool {
        self.rank(record.name()).is_some_and(|stored| stored > rank(record))
    }

    /// The store's entry of a name is not valid: whatever comes next may overwrite it.
    pub(crate) fn doubt(&mut self, name: Name) {
        self.insert(name, UNKNOWN);
    }

    /// The store could not be read: nothing is written to it any more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Takes an entry read from the store. Returns `false` for one that cannot be read.
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Ok(name) = Name::from_bytes(key) else { return false };
        let Some(record) = StoredRecord::from_bytes(value).and_then(|entry| Record::decode(entry.record).ok()) else {
            return false;
        };
        let Ok(eol) = Timestamp::parse_rfc3339(record.validity_bytes()) else { return false };
        self.insert(name, (record.sequence(), eol));
        true
    }

    fn insert(&mut self, name: Name, rank: Rank) {
        if let Some((_, eol)) = self.ranks.insert(name, rank) {
            self.by_eol.remove(&(eol, name));
        }
        self.by_eol.insert((rank.1, name));
    }

    /// The write that keeps `record`, unless there is a newer one.
    pub(crate) fn write(&self, record: &Verified, received: Timestamp) -> Option<Write> {
        if self.closed || self.outranks(record) {
            return None;
        }
        let entry = StoredRecord { record: record.as_bytes().clone(), received: received.as_unix_secs() };
        Some(write(record.name(), Some(entry.encode_to_vec())))
    }

    /// Takes notice of a record that is, or should be, in the store. Returns the writes that make room for it: at most
    /// `max` records are kept, and the one that ends first goes.
    pub(crate) fn note(&mut self, record: &Verified, max: usize) -> Vec<Write> {
        let mut evictions = Vec::new();
        if self.closed || self.outranks(record) {
            return evictions;
        }
        self.insert(*record.name(), rank(record));
        while self.ranks.len() > max {
            let Some((_, evicted)) = self.by_eol.pop_first() else { break };
            self.ranks.remove(&evicted);
            evictions.push(write(&evicted, None));
        }
        evictions
    }
}

fn write(name: &Name, value: Option<Vec<u8>>) -> Write {
    Write { table: Table::Records, key: name.to_bytes(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::{Checks, RecordBuilder};

    fn record(seed: u8, sequence: u64, eol: i64) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
        let builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, Timestamp::from_unix_secs(eol));
        Checks::at(Timestamp::MIN).verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name()).unwrap()
    }

    #[test]
    fn nothing_older_overwrites() {
        let mut index = Index::default();
        index.note(&record(1, 5, 10), 10);
        assert!(index.write(&record(1, 4, 99), Timestamp::UNIX_EPOCH).is_none());
        assert!(index.write(&record(1, 5, 10), Timestamp::UNIX_EPOCH).is_some());
        assert!(index.write(&record(1, 5, 11), Timestamp::UNIX_EPOCH).is_some());
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let mut index = Index::default();
        assert!(index.note(&record(1, 0, 30), 2).is_empty());
        assert!(index.note(&record(2, 0, 20), 2).is_empty());
        let writes = index.note(&record(3, 0, 40), 2);
        assert_eq!((writes.len(), &writes[0].key, &writes[0].value), (1, &record(2, 0, 20).name().to_bytes(), &None));
        assert!(!index.contains(record(2, 0, 20).name()));
    }
}
