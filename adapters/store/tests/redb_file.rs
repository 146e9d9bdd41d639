//! Which files a [`RedbStore`] opens, what it does to them, and what it says of the others.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ipns_store::{RedbStore, Store, StoreError, Table, Write};
use redb::{Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ipns_schema");
const VERSION_1: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ipns");

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

/// Opens `path`, which must fail and change nothing, neither the file nor what is beside it.
fn refused(path: &Path) -> StoreError {
    let listing = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let (before, beside) = (fs::read(path).unwrap(), listing());
    let error = RedbStore::open(path).unwrap_err();
    assert!(fs::read(path).unwrap() == before, "the file was touched");
    assert_eq!(listing(), beside);
    error
}

fn assert_foreign(path: &Path) {
    let error = refused(path);
    assert_eq!(error, StoreError::Foreign { path: path.display().to_string() });
}

#[test]
fn a_store_is_there_after_it_is_closed() {
    let (folder, path) = place();
    let mut store = RedbStore::open(&path).unwrap();
    assert_eq!((store.path(), store.schema_version().unwrap()), (path.as_path(), 2));
    store.commit(&[put(Table::Own, b"a", b"1"), put(Table::Meta, b"b", b"2")]).unwrap();
    drop(store);
    let mut store = RedbStore::open(&path).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap().unwrap(), b"1");
    store.commit(&[Write { table: Table::Own, key: b"a".to_vec(), value: None }]).unwrap();
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap(), None);
    assert_eq!(store.get(Table::Meta, b"b").unwrap().unwrap(), b"2");
    // Nothing of the creation is left behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_copy_of_an_open_store_has_all_commits() {
    let (folder, path) = place();
    let mut store = RedbStore::open(&path).unwrap();
    for count in 0..20_u8 {
        store.commit(&[put(Table::Records, &[count], &vec![count; 3_000])]).unwrap();
        // What a power cut at this moment would leave.
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        let found = RedbStore::open(&copy).unwrap().scan(Table::Records, None, 100).unwrap();
        assert_eq!(found.len(), usize::from(count) + 1);
    }
}

#[test]
fn compacting_makes_the_file_smaller_and_loses_nothing() {
    let (_folder, path) = place();
    let mut store = RedbStore::open(&path).unwrap();
    let values = |value: Option<Vec<u8>>| -> Vec<Write> {
        (0..200).map(|key| Write { table: Table::Records, key: vec![key], value: value.clone() }).collect()
    };
    store.commit(&values(Some(vec![7; 60_000]))).unwrap();
    store.commit(&[put(Table::Own, b"kept", b"value")]).unwrap();
    let large = fs::metadata(&path).unwrap().len();
    store.commit(&values(None)).unwrap();
    assert!(store.compact().unwrap());
    let small = fs::metadata(&path).unwrap().len();
    assert!(small < large / 10, "{large} to {small}");
    assert_eq!(store.get(Table::Own, b"kept").unwrap().unwrap(), b"value");
    drop(store);
    assert_eq!(RedbStore::open(&path).unwrap().get(Table::Own, b"kept").unwrap().unwrap(), b"value");
}

#[test]
fn an_open_store_is_locked() {
    let (_folder, path) = place();
    let mut store = RedbStore::open(&path).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert_eq!(error, StoreError::Locked { path: path.display().to_string() });
    store.commit(&[put(Table::Own, b"a", b"1")]).unwrap();
    drop(store);
    RedbStore::open(&path).unwrap();
}

#[test]
fn of_two_that_create_a_store_at_once_neither_loses_a_commit() {
    for _ in 0..20 {
        let (_folder, path) = place();
        let gate = std::sync::Barrier::new(4);
        let opened: usize = std::thread::scope(|scope| {
            let attempt = |name: u8| {
                let (path, gate) = (&path, &gate);
                move || {
                    gate.wait();
                    match RedbStore::open(path) {
                        Ok(mut store) => {
                            store.commit(&[put(Table::Own, &[name], b"")]).unwrap();
                            1
                        }
                        Err(StoreError::Locked { .. }) => 0,
                        Err(other) => panic!("{other}"),
                    }
                }
            };
            let all: Vec<_> = (0..4).map(|name| scope.spawn(attempt(name))).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        let kept = RedbStore::open(&path).unwrap().scan(Table::Own, None, 9).unwrap();
        assert!(opened > 0);
        assert_eq!(kept.len(), opened);
    }
}

/// The tables of version 1, whatever tables there are by now.
const VERSION_1_TABLES: [Table; 3] = [Table::Own, Table::Records, Table::Meta];

fn version_1(path: &Path, header: bool) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    for table in VERSION_1_TABLES {
        for index in 0..200_u8 {
            entries.push((table, vec![index, 0, index], vec![index; 1_000]));
        }
        entries.push((table, Vec::new(), table.as_str().into()));
    }
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut old = transaction.open_table(VERSION_1).unwrap();
        for (table, key, value) in &entries {
            let key = [table.as_str().as_bytes(), &[0], key].concat();
            old.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    if header {
        write_header(&transaction, b"IPNS store of ipns-store", &1_u64.to_le_bytes());
    }
    transaction.commit().unwrap();
    entries
}

fn write_header(transaction: &redb::WriteTransaction, magic: &[u8], version: &[u8]) {
    let mut header = transaction.open_table(HEADER).unwrap();
    header.insert("magic", magic).unwrap();
    header.insert("version", version).unwrap();
}

#[test]
fn version_1_is_migrated() {
    for header in [false, true] {
        let (_folder, path) = place();
        let entries = version_1(&path, header);
        let check = |store: &RedbStore| {
            assert_eq!(store.schema_version().unwrap(), 2);
            for (table, key, value) in &entries {
                assert_eq!(store.get(*table, key).unwrap().as_ref(), Some(value));
            }
            for table in VERSION_1_TABLES {
                assert_eq!(store.scan(table, None, usize::MAX).unwrap().len(), 201);
            }
        };
        let mut store = RedbStore::open(&path).unwrap();
        check(&store);
        store.commit(&[put(Table::Own, b"", b"own")]).unwrap();
        drop(store);
        check(&RedbStore::open(&path).unwrap());

        let database = Database::open(&path).unwrap();
        let read = database.begin_read().unwrap();
        let tables = read.list_tables().unwrap();
        let names: Vec<String> = tables.map(|table| redb::TableHandle::name(&table).to_owned()).collect();
        assert_eq!(names, ["ipns_schema", "meta", "own", "records"]);
    }
}

#[test]
fn version_1_with_an_unknown_table_is_damaged() {
    let (_folder, path) = place();
    version_1(&path, true);
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(VERSION_1).unwrap().insert(&b"else\0key"[..], &b"value"[..]).unwrap();
        transaction.commit().unwrap();
    }
    assert_eq!(RedbStore::open(&path).unwrap_err().code(), "store_corrupt");
    let database = Database::open(&path).unwrap();
    let entries = database.begin_read().unwrap().open_table(VERSION_1).unwrap();
    assert_eq!(entries.iter().unwrap().count(), 3 * 201 + 1);
}

/// A redb file in which `fill` has written.
fn redb_file(fill: impl FnOnce(&redb::WriteTransaction)) -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    fill(&transaction);
    transaction.commit().unwrap();
    (folder, path)
}

#[test]
fn a_newer_schema_is_too_new() {
    let (_folder, path) = place();
    drop(RedbStore::open(&path).unwrap());
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        write_header(&transaction, b"IPNS store of ipns-store", &3_u64.to_le_bytes());
        transaction.commit().unwrap();
    }
    let error = refused(&path);
    assert_eq!(error, StoreError::TooNew { path: path.display().to_string(), found: 3, known: 2 });
}

#[test]
fn our_header_without_a_version_is_damaged() {
    for version in [&b""[..], &[2], &0_u64.to_le_bytes()] {
        let (_folder, path) = redb_file(|transaction| write_header(transaction, b"IPNS store of ipns-store", version));
        assert_eq!(refused(&path).code(), "store_corrupt");
    }
}

#[test]
fn files_of_other_programs_are_foreign() {
    for contents in [&b""[..], b"r", b"redb", b"SQLite format 3\0", &[0; 100_000], &[0xA5; 9]] {
        let (_folder, path) = place();
        fs::write(&path, contents).unwrap();
        assert_foreign(&path);
    }
}

#[test]
fn redb_files_of_other_programs_are_foreign() {
    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
    const TYPED: TableDefinition<'_, u64, u64> = TableDefinition::new("ipns_schema");
    const TYPED_1: TableDefinition<'_, u64, u64> = TableDefinition::new("ipns");
    const MULTI: MultimapTableDefinition<'_, &str, &[u8]> = MultimapTableDefinition::new("ipns_schema");
    let fills: [fn(&redb::WriteTransaction); 8] = [
        |_| {},
        |transaction| drop(transaction.open_table(NUMBERS).unwrap().insert(1, 2).unwrap()),
        |transaction| drop(transaction.open_table(TYPED).unwrap().insert(1, 2).unwrap()),
        |transaction| drop(transaction.open_table(TYPED_1).unwrap().insert(1, 2).unwrap()),
        |transaction| drop(transaction.open_multimap_table(MULTI).unwrap()),
        |transaction| write_header(transaction, b"another", &2_u64.to_le_bytes()),
        // Our version 1 has no table beside its own, and only keys of its tables.
        |transaction| {
            drop(transaction.open_table(VERSION_1).unwrap());
            drop(transaction.open_table(NUMBERS).unwrap());
        },
        |transaction| {
            transaction.open_table(VERSION_1).unwrap().insert(&b"key"[..], &b"value"[..]).unwrap();
        },
    ];
    for (index, fill) in fills.into_iter().enumerate() {
        let (_folder, path) = redb_file(fill);
        println!("file {index}");
        assert_foreign(&path);
    }
}

#[test]
fn a_foreign_redb_file_in_need_of_repair_is_not_repaired() {
    const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
    let (folder, path) = place();
    let crashed = folder.path().join("crashed");
    let database = Database::create(&path).unwrap();
    for count in 0..10 {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(NUMBERS).unwrap().insert(count, count).unwrap();
        transaction.commit().unwrap();
    }
    fs::copy(&path, &crashed).unwrap();
    assert_foreign(&crashed);
    // While its own program has it open, it is in use.
    assert_eq!(RedbStore::open(&path).unwrap_err().code(), "store_locked");
}

#[test]
fn what_is_no_file_is_an_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let error = RedbStore::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("is not a file"), "{error}");
    let error = RedbStore::open(folder.path().join("absent").join("store")).unwrap_err();
    assert_eq!(error.code(), "store_io");
    assert!(error.to_string().contains("create a file in its folder"), "{error}");
    fs::write(folder.path().join("file"), b"").unwrap();
    assert_eq!(RedbStore::open(folder.path().join("file").join("store")).unwrap_err().code(), "store_io");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::fs::{OpenOptions, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_new_store_is_its_owners_alone() {
        let (_folder, path) = place();
        drop(RedbStore::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_of_the_system() {
        let (_folder, path) = place();
        drop(RedbStore::open(&path).unwrap());
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        // The superuser may write to it all the same.
        if OpenOptions::new().append(true).open(&path).is_ok() {
            RedbStore::open(&path).unwrap();
        } else {
            let error = refused(&path);
            assert_eq!(error.code(), "store_io");
            assert!(error.to_string().contains("check its owner and mode"), "{error}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_of_the_system() {
        let (folder, path) = place();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o500)).unwrap();
        let opened = RedbStore::open(&path);
        if fs::write(folder.path().join("other"), b"").is_ok() {
            opened.unwrap();
        } else {
            let error = opened.unwrap_err();
            assert_eq!(error.code(), "store_io");
            assert!(error.to_string().contains("create a file in its folder"), "{error}");
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn links_are_followed_but_not_replaced() {
        let (folder, path) = place();
        drop(RedbStore::open(&path).unwrap());
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        RedbStore::open(&link).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(RedbStore::open(&link).unwrap_err().code(), "store_io");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
