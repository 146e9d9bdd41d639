//! What must hold in every test, checked on everything that a node stores, sends and returns.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::name::Name;
use crate::record::{Checks, Record, RecordError, Verified, compare};
use crate::store::{Table, Write};
use crate::time::Timestamp;

use super::super::stored::{StoredOwn, StoredRecord};

/// Stands beside one node through all its lives.
#[derive(Default)]
pub(super) struct Witness {
    /// The signed data of the records that this node made.
    made: Vec<Vec<u8>>,
    /// Records that were durable on this node's disk at some time.
    durable: BTreeSet<Bytes>,
    /// The newest record returned of each name.
    returned: BTreeMap<Name, Verified>,
    /// The value of each sequence that this node made and let go out.
    published: BTreeMap<(Name, u64), Vec<u8>>,
    /// What was verified: once is enough.
    verified: BTreeMap<Bytes, Verified>,
}

const EVER: Checks = Checks { at: Timestamp::MIN, tolerance: core::time::Duration::ZERO };

impl Witness {
    pub(super) fn signs(&mut self, message: &[u8]) {
        if let Some(data) = message.strip_prefix(b"ipns-signature:") {
            self.made.push(data.to_vec());
        }
    }

    /// Every record that goes to the disk is the name's.
    pub(super) fn stores(&mut self, writes: &[Write]) {
        for (name, record) in records(writes) {
            self.verify(&record, &name).expect("an invalid record was stored");
        }
    }

    fn verify(&mut self, record: &Bytes, name: &Name) -> Result<Verified, RecordError> {
        if let Some(verified) = self.verified.get(record).filter(|verified| verified.name() == name) {
            return Ok(verified.clone());
        }
        let verified = EVER.verify(record.clone(), name)?;
        self.verified.insert(record.clone(), verified.clone());
        Ok(verified)
    }

    pub(super) fn is_durable(&mut self, writes: &[Write]) {
        self.durable.extend(records(writes).into_iter().map(|(_, record)| record));
    }

    /// A record goes to someone else.
    pub(super) fn lets_out(&mut self, name: &Name, record: &Bytes) {
        let read = self.verify(record, name).expect("an invalid record was sent");
        if !self.has_made(record) {
            return;
        }
        assert!(self.durable.contains(record), "{read:?} was sent before it was durable");
        let first = self.published.entry((*name, read.sequence())).or_insert_with(|| read.value_bytes().to_vec());
        assert_eq!(first, read.value_bytes(), "{read:?}: a sequence got two values");
    }

    fn has_made(&self, record: &Bytes) -> bool {
        self.made.iter().any(|data| record.windows(data.len()).any(|window| window == data))
    }

    /// A record is returned to the application or to someone who asked.
    pub(super) fn returns(&mut self, checks: &Checks, record: &Verified) {
        self.verify(record.as_bytes(), record.name()).expect("an invalid record was returned");
        assert!(!record.is_expired(checks.at - checks.tolerance), "{record:?} was returned at {}", checks.at);
        if self.has_made(record.as_bytes()) {
            assert!(self.durable.contains(record.as_bytes()), "{record:?} was returned before it was durable");
        }
        if let Some(before) = self.returned.get(record.name()) {
            assert!(compare(record, before).is_ge(), "{record:?} was returned after {before:?}");
        }
        self.returned.insert(*record.name(), record.clone());
    }

    /// An own record is shown as durable.
    pub(super) fn owns(&self, record: &Verified) {
        assert!(self.durable.contains(record.as_bytes()), "{record:?} is listed before it is durable");
    }

    /// The node begins a new life and knows what is on its disk; what it returned and had not stored yet, it cannot
    /// remember.
    pub(super) fn crashes(&mut self, disk: &BTreeMap<(Table, Vec<u8>), Vec<u8>>) {
        let writes: Vec<Write> = disk
            .iter()
            .map(|((table, key), value)| Write { table: *table, key: key.clone(), value: Some(value.clone()) })
            .collect();
        self.is_durable(&writes);
        self.returned.clear();
        for (name, record) in records(&writes) {
            let Ok(record) = self.verify(&record, &name) else { continue };
            let newest = self.returned.entry(name).or_insert_with(|| record.clone());
            if compare(&record, newest).is_gt() {
                *newest = record;
            }
        }
    }

    /// The node could not read its disk when it began.
    pub(super) fn forgets(&mut self) {
        self.returned.clear();
    }
}

fn records(writes: &[Write]) -> Vec<(Name, Bytes)> {
    let record = |write: &Write| {
        let (name, value) = (Name::from_bytes(&write.key).ok()?, write.value.as_ref()?);
        let record = match write.table {
            Table::Own => StoredOwn::from_bytes(value)?.record,
            _ => StoredRecord::from_bytes(value)?.record,
        };
        Record::decode(record.clone()).ok()?;
        Some((name, record))
    };
    writes.iter().filter_map(record).collect()
}
