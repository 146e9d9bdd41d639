//! Looking through a whole store without changing it.

use std::path::Path;

use ipns_core::engine::{StoredFollowed, StoredOwn, StoredQueued, StoredRecord};
use ipns_core::record::{Checks, Verified};
use ipns_core::store::{StoreError, Table};
use ipns_core::{Name, Timestamp};

use crate::{Backend, pages};

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The schema version of the store; opening migrates an older one.
    pub schema_version: u64,
    /// Every table, in the order of [`Table::ALL`].
    pub tables: Vec<TableReport>,
    /// Entries that are not what an engine writes. It reports and passes over them, so they stop nothing else.
    pub problems: Vec<Problem>,
}

/// How much is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableReport {
    /// Which.
    pub table: Table,
    /// How many entries it has.
    pub entries: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

/// An entry that is not what an engine writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
}

/// Verifies all of the store at `path`, which must exist, and every kept name and record in it. `progress` is told of
/// each entry.
///
/// # Errors
/// Those of [`RedbStore::open`](crate::RedbStore::open), damage among them, and always with the store as it was.
pub fn check(backend: Backend, path: &Path, mut progress: impl FnMut()) -> Result<Report, StoreError> {
    let (store, schema_version) = backend.open_unchanged(path)?;
    let mut report = Report { schema_version, tables: Vec::new(), problems: Vec::new() };
    for table in Table::ALL {
        let mut counted = TableReport { table, entries: 0, bytes: 0 };
        pages::for_each(&store, table, |key, value| {
            counted.entries += 1;
            counted.bytes += (key.len() + value.len()) as u64;
            if let Err(reason) = entry(table, &key, &value) {
                report.problems.push(Problem { table, key, reason });
            }
            progress();
            Ok::<(), StoreError>(())
        })?;
        report.tables.push(counted);
    }
    Ok(report)
}

/// Whether an entry is what an engine writes, as far as that can be told.
fn entry(table: Table, key: &[u8], value: &[u8]) -> Result<(), String> {
    match table {
        Table::Own => own(key, value).map(drop),
        Table::Records => record(key, value).map(drop),
        Table::Followed => followed(key, value),
        Table::Queued => queued(key, value),
        _ => Ok(()),
    }
}

/// The record of an entry of [`Table::Own`]. It may have expired.
pub(crate) fn own(key: &[u8], value: &[u8]) -> Result<Verified, String> {
    let entry = StoredOwn::from_bytes(value).ok_or("it is no entry of an own name")?;
    verify(key, entry.record.to_vec())
}

/// The record of an entry of [`Table::Records`]. It may have expired.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Result<Verified, String> {
    let entry = StoredRecord::from_bytes(value).ok_or("it is no entry of a record")?;
    verify(key, entry.record.to_vec())
}

fn followed(key: &[u8], value: &[u8]) -> Result<(), String> {
    let entry = StoredFollowed::from_bytes(value).ok_or("it is no entry of a followed name")?;
    match entry.record.is_empty() {
        true => Name::from_bytes(key).map(drop).map_err(|error| format!("its key is no name: {error}")),
        false => verify(key, entry.record.to_vec()).map(drop),
    }
}

fn queued(key: &[u8], value: &[u8]) -> Result<(), String> {
    let entry = StoredQueued::from_bytes(value).ok_or("it is no entry of a queued record")?;
    let (name, _) = key.split_last_chunk::<8>().ok_or("its key has no time")?;
    verify(name, entry.record.to_vec()).map(drop)
}

fn verify(key: &[u8], record: Vec<u8>) -> Result<Verified, String> {
    let name = Name::from_bytes(key).map_err(|error| format!("its key is no name: {error}"))?;
    Checks::at(Timestamp::MIN).verify(record, &name).map_err(|error| format!("its record is not valid: {error}"))
}
