//! Records that were signed for later: kept until their time, then sent and kept alive.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::name::Name;
use crate::record::RecordError;
use crate::store::{Table, Write};
use crate::time::{Now, Timestamp};

use super::stored::StoredQueued;

/// The most records that wait.
const MAX_QUEUED: usize = 10_000;
/// The wall clock is looked at again after this: it may have been set.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Why a record is not queued. [`code`](QueueError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// It is not a valid record of the name.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It will have ended when its time comes.
    #[error("the record ends at {eol}, before it would be sent")]
    TooLate {
        /// Its end of life.
        eol: Timestamp,
    },
    /// Too many records wait already.
    #[error("{limit} records wait already; send some of them first")]
    Full {
        /// The limit.
        limit: usize,
    },
}

impl QueueError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Record(error) => error.code(),
            Self::TooLate { .. } => "queued_too_late",
            Self::Full { .. } => "queue_full",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    records: BTreeMap<(Timestamp, Name), Bytes>,
}

impl Queue {
    /// Puts a record in line. One of the same name for the same second takes its place.
    pub(crate) fn add(&mut self, name: Name, at: Timestamp, record: Bytes) -> Result<Write, QueueError> {
        let at = Timestamp::from_unix_secs(at.as_unix_secs());
        if self.records.len() >= MAX_QUEUED && !self.records.contains_key(&(at, name)) {
            return Err(QueueError::Full { limit: MAX_QUEUED });
        }
        let value = StoredQueued { record: record.clone(), at: at.as_unix_secs() }.encode_to_vec();
        self.records.insert((at, name), record);
        Ok(Write { table: Table::Queued, key: key(&name, at), value: Some(value) })
    }

    /// Takes an entry read from the store. Returns `false` for one that cannot be read.
    pub(crate) fn load(&mut self, stored: &[u8], value: &[u8]) -> bool {
        let name = stored.len().checked_sub(8).and_then(|length| Name::from_bytes(&stored[..length]).ok());
        let (Some(name), Some(entry)) = (name, StoredQueued::from_bytes(value)) else { return false };
        self.records.insert((Timestamp::from_unix_secs(entry.at), name), entry.record);
        true
    }

    /// The next record whose time has come, and what forgets it.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(Name, Bytes, Write)> {
        let entry = self.records.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, name), record) = entry.remove_entry();
        Some((name, record, Write { table: Table::Queued, key: key(&name, at), value: None }))
    }

    /// When to look again.
    pub(crate) fn next_timeout(&self, now: Now) -> Option<Duration> {
        let ((at, _), _) = self.records.first_key_value()?;
        Some(now.monotonic + at.saturating_since(now.wall).min(LONGEST_WAIT))
    }

    /// What waits, in the order of its time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, Timestamp)> + '_ {
        self.records.keys().map(|(at, name)| (*name, *at))
    }
}

fn key(name: &Name, at: Timestamp) -> Vec<u8> {
    [&name.to_bytes()[..], &at.as_unix_secs().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_and_each_in_its_second() {
        let name: Name = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d".parse().unwrap();
        let at = |second: usize| Timestamp::from_unix_secs(second as i64);
        let mut queue = Queue::default();
        for second in 0..MAX_QUEUED {
            let write = queue.add(name, at(second), Bytes::from_static(b"record")).unwrap();
            assert!(Queue::default().load(&write.key, &write.value.unwrap()));
        }
        let full = Err(QueueError::Full { limit: MAX_QUEUED });
        assert_eq!(queue.add(name, at(MAX_QUEUED), Bytes::new()), full);
        // Another one for the same second takes its place.
        queue.add(name, at(7), Bytes::from_static(b"other")).unwrap();
        assert_eq!(std::iter::from_fn(|| queue.pop(at(7))).last().unwrap().1, "other");
        assert_eq!(queue.iter().count(), MAX_QUEUED - 8);
    }
}
