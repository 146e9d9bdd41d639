//! The names that this node publishes, and the index of the records that it stores.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::name::Name;
use crate::record::{Checks, Record, Verified};
use crate::store::{Table, Write};
use crate::time::Timestamp;

use super::stored::{StoredOwn, StoredRecord};

/// A name that this node publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Own {
    /// The newest record that this node made, durable in the store. It may have expired.
    pub record: Verified,
    /// The lifetime that its owner chose.
    pub lifetime: Duration,
    /// When it was last sent to any router.
    pub last_sent: Option<Timestamp>,
    /// How many routers took it then.
    pub acks: u32,
    /// Why it was not sent, if it was not.
    pub last_error: Option<String>,
}

impl Own {
    /// Reads an entry of the store. The record may have expired, but must be the name's.
    pub(crate) fn load(name: &Name, bytes: &[u8]) -> Option<Self> {
        let entry = StoredOwn::from_bytes(bytes)?;
        Some(Self {
            record: Checks::at(Timestamp::MIN).verify(entry.record.clone(), name).ok()?,
            lifetime: entry.lifetime(),
            last_sent: (entry.last_sent != 0).then(|| Timestamp::from_unix_secs(entry.last_sent)),
            acks: entry.acks,
            last_error: Some(entry.last_error).filter(|error| !error.is_empty()),
        })
    }

    pub(crate) fn write(&self) -> Write {
        let entry = StoredOwn {
            record: self.record.as_bytes().clone(),
            lifetime_ns: u64::try_from(self.lifetime.as_nanos()).unwrap_or(u64::MAX),
            last_sent: self.last_sent.map_or(0, Timestamp::as_unix_secs),
            acks: self.acks,
            last_error: self.last_error.clone().unwrap_or_default(),
        };
        Write { table: Table::Own, key: self.record.name().to_bytes(), value: Some(entry.encode_to_vec()) }
    }
}

/// What decides which of two records is newer, without the record: sequence, end of life.
pub(crate) type Rank = (u64, Timestamp);

pub(crate) fn rank(record: &Verified) -> Rank {
    (record.sequence(), record.eol())
}

/// Of an entry that may be in the store or not: everything is newer.
const UNKNOWN: Rank = (0, Timestamp::MIN);

/// Which records are in the store: so that nothing older overwrites anything, and the store stays bounded.
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

    /// The least that the store holds of a name, as far as that is known.
    pub(crate) fn rank(&self, name: &Name) -> Option<Rank> {
        self.ranks.get(name).copied().filter(|rank| *rank != UNKNOWN)
    }

    /// Whether the store has a newer record than this.
    pub(crate) fn outranks(&self, record: &Verified) -> bool {
        self.rank(record.name()).is_some_and(|stored| stored > rank(record))
    }

    /// What the store holds of the name is not what was thought: whatever comes next may overwrite it.
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

    /// The writes that keep `record`, or none when the store has a newer one. At most `max` records are kept: the one
    /// that ends first makes room.
    pub(crate) fn keep(&mut self, record: &Verified, received: Timestamp, max: usize) -> Vec<Write> {
        if self.closed || self.outranks(record) {
            return Vec::new();
        }
        let name = *record.name();
        self.insert(name, rank(record));
        let entry = StoredRecord { record: record.as_bytes().clone(), received: received.as_unix_secs() };
        let write = |name: &Name, value| Write { table: Table::Records, key: name.to_bytes(), value };
        let mut writes = vec![write(&name, Some(entry.encode_to_vec()))];
        while self.ranks.len() > max {
            let Some((_, evicted)) = self.by_eol.pop_first() else { break };
            self.ranks.remove(&evicted);
            writes.push(write(&evicted, None));
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::RecordBuilder;

    fn record(seed: u8, sequence: u64, eol: i64) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
        let builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), sequence, Timestamp::from_unix_secs(eol));
        Checks::at(Timestamp::MIN).verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name()).unwrap()
    }

    #[test]
    fn nothing_older_overwrites() {
        let mut index = Index::default();
        assert_eq!(index.keep(&record(1, 5, 10), Timestamp::UNIX_EPOCH, 10).len(), 1);
        assert!(index.keep(&record(1, 4, 99), Timestamp::UNIX_EPOCH, 10).is_empty());
        assert_eq!(index.keep(&record(1, 5, 11), Timestamp::UNIX_EPOCH, 10).len(), 1);
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let mut index = Index::default();
        index.keep(&record(1, 0, 30), Timestamp::UNIX_EPOCH, 2);
        index.keep(&record(2, 0, 20), Timestamp::UNIX_EPOCH, 2);
        let writes = index.keep(&record(3, 0, 40), Timestamp::UNIX_EPOCH, 2);
        assert_eq!(writes.len(), 2);
        assert_eq!((writes[1].key.clone(), &writes[1].value), (record(2, 0, 20).name().to_bytes(), &None));
        assert!(!index.contains(record(2, 0, 20).name()));
    }

    #[test]
    fn own_entries_round_trip() {
        let own = Own {
            record: record(1, 7, 1),
            lifetime: Duration::from_secs(3),
            last_sent: Some(Timestamp::from_unix_secs(9)),
            acks: 2,
            last_error: Some("x".into()),
        };
        let write = own.write();
        assert_eq!(Own::load(own.record.name(), &write.value.clone().unwrap()), Some(own));
        assert_eq!(Own::load(record(2, 0, 1).name(), &write.value.unwrap()), None, "another name's entry");
    }
}
