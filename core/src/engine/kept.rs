//! The names that this node keeps alive: its own, and those of others that it follows.
//!
//! There may be a million, so an entry holds the bytes of its record and the little that is asked of it often.

use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::name::Name;
use crate::record::{Checks, Verified};
use crate::store::{Table, Write};
use crate::time::{Now, Timestamp};

use super::index::Rank;
use super::stored::{StoredFollowed, StoredOwn};

/// A name that this node publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Own {
    /// The newest record that this node made, durable in the store. It may have expired.
    pub record: Verified,
    /// The lifetime that its owner chose.
    pub lifetime: Duration,
    /// How its last sending went.
    pub sent: Sent,
}

/// A name of someone else that this node keeps alive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Followed {
    /// The newest record known. It may have expired; `None` before any was found.
    pub record: Option<Verified>,
    /// How its last sending went.
    pub sent: Sent,
}

/// How the last sending of a kept name went, and when the next one is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sent {
    /// When any router last took it.
    pub at: Option<Timestamp>,
    /// How many routers took it then.
    pub acks: u32,
    /// How often in a row it was not sent.
    pub failures: u32,
    /// Why it was not sent, if it was not.
    pub error: Option<String>,
    /// When it is sent next; `None` while it is being sent, and on a node that keeps nothing alive.
    pub next: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Own { lifetime: Duration },
    Followed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The newest record's bytes, which were verified.
    record: Option<Bytes>,
    /// The newest record's sequence and end of life.
    pub(crate) rank: Rank,
    /// How long resolvers may keep it.
    pub(crate) ttl: Duration,
    pub(crate) sent: Option<Timestamp>,
    pub(crate) acks: u32,
    pub(crate) failures: u32,
    pub(crate) error: Option<Box<str>>,
    /// Whether its end was reported.
    pub(crate) warned: bool,
    /// When somebody was last asked for a newer record.
    pub(crate) looked: Option<Duration>,
    /// When it is its turn, on the monotonic clock.
    pub(crate) due: Option<Duration>,
}

impl Entry {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            record: None,
            rank: (0, Timestamp::MIN),
            ttl: Duration::ZERO,
            sent: None,
            acks: 0,
            failures: 0,
            error: None,
            warned: false,
            looked: None,
            due: None,
        }
    }

    pub(crate) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own { .. })
    }

    pub(crate) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    pub(crate) fn is_expired(&self, at: Timestamp) -> bool {
        self.rank.1 <= at
    }

    pub(crate) fn set_record(&mut self, record: &Verified) {
        self.record = Some(record.as_bytes().clone());
        self.rank = super::index::rank(record);
        self.ttl = record.ttl().unwrap_or_default();
        self.warned = false;
    }

    /// The newest record. It is parsed anew: entries are many, and asked for their record rarely.
    pub(crate) fn record(&self, name: &Name) -> Option<Verified> {
        Verified::believed(self.record.clone()?, name)
    }

    /// Reads an entry of the store. Its record may have expired, but must be the name's.
    pub(crate) fn load(table: Table, name: &Name, bytes: &[u8]) -> Option<Self> {
        let (kind, record, sent, acks, failures, error) = match table {
            Table::Own => {
                let own = StoredOwn::from_bytes(bytes)?;
                let kind = Kind::Own { lifetime: own.lifetime() };
                (kind, own.record, own.last_sent, own.acks, own.failures, own.last_error)
            }
            Table::Followed => {
                let followed = StoredFollowed::from_bytes(bytes)?;
                (
                    Kind::Followed,
                    followed.record,
                    followed.last_sent,
                    followed.acks,
                    followed.failures,
                    followed.last_error,
                )
            }
            _ => return None,
        };
        let mut entry = Self::new(kind);
        if !record.is_empty() {
            entry.set_record(&Checks::at(Timestamp::MIN).verify(record, name).ok()?);
        }
        entry.sent = (sent != 0).then(|| Timestamp::from_unix_secs(sent));
        (entry.acks, entry.failures) = (acks, failures);
        entry.error = Some(error).filter(|error| !error.is_empty()).map(String::into_boxed_str);
        Some(entry)
    }

    pub(crate) fn write(&self, name: &Name) -> Write {
        let record = self.record.clone().unwrap_or_default();
        let last_sent = self.sent.map_or(0, Timestamp::as_unix_secs);
        let (acks, failures) = (self.acks, self.failures);
        let last_error = self.error.as_deref().unwrap_or_default().to_owned();
        let (table, value) = match self.kind {
            Kind::Own { lifetime } => {
                let lifetime_ns = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
                let own = StoredOwn { record, lifetime_ns, last_sent, acks, failures, last_error };
                (Table::Own, own.encode_to_vec())
            }
            Kind::Followed => {
                let followed = StoredFollowed { record, last_sent, acks, failures, last_error };
                (Table::Followed, followed.encode_to_vec())
            }
        };
        Write { table, key: name.to_bytes(), value: Some(value) }
    }

    fn sent(&self, now: Now) -> Sent {
        Sent {
            at: self.sent,
            acks: self.acks,
            failures: self.failures,
            error: self.error.as_deref().map(str::to_owned),
            next: self.due.map(|due| now.wall + due.saturating_sub(now.monotonic)),
        }
    }

    /// What an application sees of an own name.
    pub(crate) fn own(&self, now: Now, name: &Name) -> Option<Own> {
        let Kind::Own { lifetime } = self.kind else { return None };
        Some(Own { record: self.record(name)?, lifetime, sent: self.sent(now) })
    }

    /// What an application sees of a followed name.
    pub(crate) fn followed(&self, now: Now, name: &Name) -> Option<Followed> {
        (self.kind == Kind::Followed).then(|| Followed { record: self.record(name), sent: self.sent(now) })
    }
}

/// All names that are kept, with their numbers.
#[derive(Default)]
pub(crate) struct KeptNames {
    names: BTreeMap<Name, Entry>,
    own: usize,
    /// Those that could not be sent because nobody could be reached.
    unreached: BTreeSet<Name>,
}

impl KeptNames {
    pub(crate) fn get(&self, name: &Name) -> Option<&Entry> {
        self.names.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Entry> {
        self.names.get_mut(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.names.iter()
    }

    /// Those that come after a name in the order of their bytes.
    pub(crate) fn after(&self, name: Option<Name>) -> impl Iterator<Item = (&Name, &Entry)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.names.range((from, Bound::<Name>::Unbounded))
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn own(&self) -> usize {
        self.own
    }

    pub(crate) fn followed(&self) -> usize {
        self.names.len() - self.own
    }

    pub(crate) fn insert(&mut self, name: Name, entry: Entry) {
        self.own += usize::from(entry.is_own());
        if self.names.insert(name, entry).is_some_and(|old| old.is_own()) {
            self.own -= 1;
        }
    }

    /// Notes whether a name could not be sent because nobody could be reached.
    pub(crate) fn set_unreached(&mut self, name: &Name, unreached: bool) {
        match unreached {
            true => self.unreached.insert(*name),
            false => self.unreached.remove(name),
        };
    }

    pub(crate) fn has_unreached(&self) -> bool {
        !self.unreached.is_empty()
    }

    /// Those that could not be sent because nobody could be reached, once.
    pub(crate) fn take_unreached(&mut self) -> BTreeSet<Name> {
        core::mem::take(&mut self.unreached)
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Option<Entry> {
        let entry = self.names.remove(name)?;
        self.unreached.remove(name);
        self.own -= usize::from(entry.is_own());
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, SecretKey, Signer};
    use crate::record::RecordBuilder;

    fn record(seed: u8) -> Verified {
        let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
        let builder = RecordBuilder::new("/ipfs/bafkqaaa".parse().unwrap(), 7, Timestamp::from_unix_secs(1));
        Checks::at(Timestamp::MIN).verify_record(builder.sign(&key).unwrap(), &key.public_key().to_name()).unwrap()
    }

    #[test]
    fn entries_round_trip() {
        let (ours, theirs) = (record(1), record(2));
        for kind in [Kind::Own { lifetime: Duration::from_secs(3) }, Kind::Followed] {
            let mut entry = Entry::new(kind.clone());
            entry.set_record(&ours);
            entry.sent = Some(Timestamp::from_unix_secs(9));
            (entry.acks, entry.failures, entry.error) = (2, 5, Some("x".into()));
            let write = entry.write(ours.name());
            let value = write.value.unwrap();
            assert_eq!(Entry::load(write.table, ours.name(), &value), Some(entry.clone()));
            assert_eq!(Entry::load(write.table, theirs.name(), &value), None, "another name's entry");
            assert_eq!(entry.record(ours.name()), Some(ours.clone()));
        }
        let empty = Entry::new(Kind::Followed);
        let write = empty.write(ours.name());
        assert_eq!(Entry::load(Table::Followed, ours.name(), &write.value.unwrap()), Some(empty));
    }

    #[test]
    fn an_entry_is_small() {
        // A million names must fit: with the keys of the two maps that hold it, and their slack.
        assert!(size_of::<Entry>() <= 224, "{}", size_of::<Entry>());
    }

    #[test]
    fn names_are_counted() {
        let mut names = KeptNames::default();
        names.insert(*record(1).name(), Entry::new(Kind::Followed));
        names.insert(*record(1).name(), Entry::new(Kind::Own { lifetime: Duration::ZERO }));
        names.insert(*record(2).name(), Entry::new(Kind::Followed));
        assert_eq!((names.len(), names.own(), names.followed()), (2, 1, 1));
        names.remove(record(1).name());
        assert_eq!((names.len(), names.own(), names.followed()), (1, 0, 1));
    }
}
