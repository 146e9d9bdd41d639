//! Bringing a file of an older schema up to the current one.

use ipns_core::store::Table;
use redb::{Database, Error, ReadableTable, WriteTransaction};

use crate::redb::begin_durable;
use crate::schema::{self, Bytes, CURRENT};

type Step = fn(&WriteTransaction) -> Result<(), Error>;

/// The first step leads from version 1 to 2, the next from 2 to 3, and so on: to change the schema, append one.
const STEPS: &[Step] = &[one_table_each];

const _: () = assert!(STEPS.len() as u64 + 1 == CURRENT, "the last step leads to the current version");

/// The only table of version 1. Its keys are the table's name, a zero byte and the key.
pub(crate) const VERSION_1: Bytes<'static> = Bytes::new("ipns");

/// Takes a file of schema `found` to [`CURRENT`], in one transaction: a crash leaves the file as it was.
pub(crate) fn run(database: &Database, found: u64) -> Result<(), Error> {
    if found == CURRENT {
        return Ok(());
    }
    let transaction = begin_durable(database)?;
    for (from, step) in (1..).zip(STEPS) {
        if from >= found {
            step(&transaction)?;
        }
    }
    schema::write(&transaction, CURRENT)?;
    transaction.commit()?;
    tracing::info!(from = found, to = CURRENT, "store migrated");
    Ok(())
}

/// Version 1 to 2: the entries move from the one table to one table each. Finds nothing to do the second time.
fn one_table_each(transaction: &WriteTransaction) -> Result<(), Error> {
    {
        let old = transaction.open_table(VERSION_1)?;
        for entry in old.iter()? {
            let (key, value) = entry?;
            let (table, key) = split_version_1_key(key.value())
                .ok_or_else(|| Error::Corrupted("schema 1 has an entry of an unknown table".to_owned()))?;
            transaction.open_table(Bytes::new(table.as_str()))?.insert(key, value.value())?;
        }
    }
    transaction.delete_table(VERSION_1)?;
    Ok(())
}

/// The table and the key that a key of version 1 stands for.
pub(crate) fn split_version_1_key(key: &[u8]) -> Option<(Table, &[u8])> {
    // These are the tables of version 1, whatever tables there are by now.
    [Table::Own, Table::Records, Table::Meta]
        .into_iter()
        .find_map(|table| Some((table, key.strip_prefix(table.as_str().as_bytes())?.strip_prefix(&[0])?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedbStore, Store};
    use std::path::Path;

    fn version_1(path: &Path, entries: &[(&[u8], &[u8])]) -> Database {
        let database = Database::create(path).unwrap();
        let transaction = database.begin_write().unwrap();
        for (key, value) in entries {
            transaction.open_table(VERSION_1).unwrap().insert(*key, *value).unwrap();
        }
        transaction.commit().unwrap();
        database
    }

    #[test]
    fn a_crash_before_the_commit_leaves_version_1() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("v1"), folder.path().join("copy"));
        let database = version_1(&path, &[(b"own\0k", b"v"), (b"meta\0k", b"w")]);
        let transaction = begin_durable(&database).unwrap();
        one_table_each(&transaction).unwrap();
        schema::write(&transaction, CURRENT).unwrap();
        // What a crash at this moment would leave on the disk.
        std::fs::copy(&path, &copy).unwrap();
        drop(transaction);
        drop(database);

        {
            let left = Database::open(&copy).unwrap();
            let read = redb::ReadableDatabase::begin_read(&left).unwrap();
            assert_eq!(schema::identify(&read).unwrap(), Some(1));
        }
        let store = RedbStore::open(&copy).unwrap();
        assert_eq!(store.get(Table::Own, b"k").unwrap().unwrap(), b"v");
        assert_eq!(store.get(Table::Meta, b"k").unwrap().unwrap(), b"w");
        assert_eq!(store.schema_version().unwrap(), CURRENT);
    }

    #[test]
    fn steps_may_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v1");
        let database = version_1(&path, &[(b"records\0\0k", b"v")]);
        run(&database, 1).unwrap();
        run(&database, 1).unwrap();
        drop(database);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(store.get(Table::Records, b"\0k").unwrap().unwrap(), b"v");
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v1");
        let database = version_1(&path, &[(b"own\0k", b"v"), (b"unknown\0k", b"v")]);
        assert!(matches!(run(&database, 1), Err(Error::Corrupted(_))));
        let read = redb::ReadableDatabase::begin_read(&database).unwrap();
        let table = read.open_table(VERSION_1).unwrap();
        assert_eq!(redb::ReadableTableMetadata::len(&table).unwrap(), 2);
        assert_eq!(read.list_tables().unwrap().count(), 1);
    }

    #[test]
    fn keys_of_version_1_split_at_the_first_zero() {
        assert_eq!(split_version_1_key(b"own\0a\0b"), Some((Table::Own, &b"a\0b"[..])));
        assert_eq!(split_version_1_key(b"records\0"), Some((Table::Records, &b""[..])));
        for foreign in [&b""[..], b"own", b"owner\0k", b"\0own", b"OWN\0k"] {
            assert_eq!(split_version_1_key(foreign), None);
        }
    }
}
