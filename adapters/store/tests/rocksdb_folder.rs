//! Which folders a [`RocksStore`] opens, what it does to them, and what it says of the others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![cfg(feature = "rocksdb")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use ipns_store::{Backend, RocksStore, Store, StoreError, Table, Write};
use rocksdb::{ColumnFamilyDescriptor, DB, Options};
use tempfile::TempDir;

use support::{Files, put};

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

fn refused(path: &Path) -> StoreError {
    support::refused(Backend::RocksDb, path)
}

fn assert_foreign(path: &Path) {
    assert_eq!(refused(path), StoreError::Foreign { path: path.display().to_string() });
}

/// Opens what is there by RocksDB alone.
fn raw(path: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    let names = DB::list_cf(&options, path).unwrap_or_else(|_| vec!["default".to_owned()]);
    let families = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&options, path, families).unwrap()
}

#[test]
fn a_store_is_there_after_it_is_closed() {
    let (folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    assert_eq!((store.path(), store.schema_version()), (path.as_path(), 2));
    store.commit(&[put(Table::Own, b"a", b"1"), put(Table::Meta, b"b", b"2")]).unwrap();
    drop(store);
    let mut store = RocksStore::open(&path).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap().unwrap(), b"1");
    store.commit(&[Write { table: Table::Own, key: b"a".to_vec(), value: None }]).unwrap();
    drop(store);
    let store = RocksStore::open(&path).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap(), None);
    assert_eq!(store.get(Table::Meta, b"b").unwrap().unwrap(), b"2");
    // Nothing of the creation is left behind, and RocksDB keeps no log of what it does.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let names = Files::read(&path).0.into_keys().map(|name| name.to_str().unwrap().to_owned());
    assert!(!names.into_iter().any(|name| name.starts_with("LOG")));
}

#[test]
fn a_copy_of_an_open_store_has_all_commits() {
    let (folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    for count in 0..20_u8 {
        store.commit(&[put(Table::Records, &[count], &vec![count; 3_000])]).unwrap();
        // What a kill at this moment would leave.
        let copy = folder.path().join("copy");
        Files::read(&path).write(&copy);
        let found = RocksStore::open(&copy).unwrap().scan(Table::Records, None, 100).unwrap();
        assert_eq!(found.len(), usize::from(count) + 1);
    }
}

#[test]
fn a_log_that_lost_a_commit_is_damaged_and_one_that_lost_half_of_an_untold_one_is_not() {
    let (_folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    store.commit(&[put(Table::Own, b"a", b"1")]).unwrap();
    let before = Files::read(&path);
    store.commit(&[put(Table::Own, b"a", &[2; 9_000])]).unwrap();
    let after = Files::read(&path);
    drop(store);
    let log = after.0.keys().filter(|name| name.extension().is_some_and(|kind| kind == "log")).max().unwrap();
    for lost in [1, 100, 9_010, 0] {
        let mut cut = after.clone();
        let bytes = cut.0.get_mut(log).unwrap();
        let len = bytes.len() - lost;
        // Cut off, or spoilt in its midst.
        bytes.truncate(len);
        bytes[len - 50] ^= u8::from(lost == 0);
        cut.write(&path);
        assert!(refused(&path).to_string().contains("the last 1 commits are missing"), "{}", refused(&path));
        // The same, when the commit had not been told of.
        cut.0.insert("ipns.tally".into(), before.0[Path::new("ipns.tally")].clone());
        cut.write(&path);
        let mut store = RocksStore::open(&path).unwrap();
        assert_eq!(store.get(Table::Own, b"a").unwrap().unwrap(), b"1");
        store.commit(&[put(Table::Own, b"a", b"3")]).unwrap();
        drop(store);
        assert_eq!(RocksStore::open(&path).unwrap().get(Table::Own, b"a").unwrap().unwrap(), b"3");
    }
}

#[test]
fn a_commit_that_was_read_after_a_crash_counts() {
    let (_folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    let tally = fs::read(path.join("ipns.tally")).unwrap();
    store.commit(&[put(Table::Own, b"a", b"1")]).unwrap();
    let counted = fs::read(path.join("ipns.tally")).unwrap();
    drop(store);
    // The crash came before the commit was counted.
    fs::write(path.join("ipns.tally"), tally).unwrap();
    assert_eq!(RocksStore::open(&path).unwrap().get(Table::Own, b"a").unwrap().unwrap(), b"1");
    assert_eq!(fs::read(path.join("ipns.tally")).unwrap(), counted);
}

#[test]
fn compacting_makes_the_folder_smaller_and_loses_nothing() {
    let (_folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    let values = |value: Option<Vec<u8>>| -> Vec<Write> {
        (0..200).map(|key| Write { table: Table::Records, key: vec![key], value: value.clone() }).collect()
    };
    store.commit(&values(Some(vec![7; 60_000]))).unwrap();
    store.commit(&[put(Table::Own, b"kept", b"value")]).unwrap();
    store.commit(&values(None)).unwrap();
    assert!(store.compact().unwrap());
    let small: usize = Files::read(&path).0.values().map(Vec::len).sum();
    assert!(small < 500_000, "{small}");
    assert_eq!(store.get(Table::Own, b"kept").unwrap().unwrap(), b"value");
    drop(store);
    assert_eq!(RocksStore::open(&path).unwrap().get(Table::Own, b"kept").unwrap().unwrap(), b"value");
}

#[test]
fn it_stays_small_while_it_is_written_to() {
    let (_folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    for count in 0..400_u32 {
        let key = (count % 50).to_be_bytes();
        store.commit(&[put(Table::Records, &key, &vec![1; 60_000]), put(Table::Own, &key, b"1")]).unwrap();
    }
    let files = Files::read(&path).0;
    let bytes: usize = files.values().map(Vec::len).sum();
    // 3 MB are in use, of 24 MB that were written; the log may take 8.
    assert!(bytes < 20_000_000 && files.len() < 60, "{bytes} bytes in {} files", files.len());
}

#[test]
fn an_open_store_is_locked() {
    let (_folder, path) = place();
    let mut store = RocksStore::open(&path).unwrap();
    let error = RocksStore::open(&path).unwrap_err();
    assert_eq!(error, StoreError::Locked { path: path.display().to_string() });
    store.commit(&[put(Table::Own, b"a", b"1")]).unwrap();
    drop(store);
    RocksStore::open(&path).unwrap();
}

#[test]
fn of_two_that_create_a_store_at_once_neither_loses_a_commit() {
    for _ in 0..5 {
        let (folder, path) = place();
        let gate = std::sync::Barrier::new(4);
        let opened: usize = std::thread::scope(|scope| {
            let attempt = |name: u8| {
                let (path, gate) = (&path, &gate);
                move || {
                    gate.wait();
                    match RocksStore::open(path) {
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
        let kept = RocksStore::open(&path).unwrap().scan(Table::Own, None, 9).unwrap();
        assert!(opened > 0);
        assert_eq!(kept.len(), opened);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_newer_schema_is_too_new() {
    let (_folder, path) = place();
    drop(RocksStore::open(&path).unwrap());
    raw(&path).put("version", 3_u64.to_le_bytes()).unwrap();
    assert_eq!(refused(&path), StoreError::TooNew { path: path.display().to_string(), found: 3, known: 2 });
}

#[test]
fn a_header_that_makes_no_sense_is_damaged() {
    for (key, value) in [("version", &b""[..]), ("version", &1_u64.to_le_bytes()), ("commits", b"many")] {
        let (_folder, path) = place();
        drop(RocksStore::open(&path).unwrap());
        raw(&path).put(key, value).unwrap();
        assert_eq!(refused(&path).code(), "store_corrupt", "{key}");
    }
}

#[test]
fn tables_of_other_versions_are_made_or_left_alone() {
    let (_folder, path) = place();
    drop(RocksStore::open(&path).unwrap());
    {
        let mut database = raw(&path);
        database.drop_cf("peers").unwrap();
        database.create_cf("later", &Options::default()).unwrap();
        database.put_cf(database.cf_handle("later").unwrap(), "key", "value").unwrap();
    }
    let mut store = RocksStore::open(&path).unwrap();
    store.commit(&[put(Table::Peers, b"a", b"1")]).unwrap();
    assert_eq!(store.get(Table::Peers, b"a").unwrap().unwrap(), b"1");
    drop(store);
    let database = raw(&path);
    let kept = database.get_cf(database.cf_handle("later").unwrap(), "key").unwrap();
    assert_eq!(kept.unwrap(), b"value");
}

#[test]
fn folders_of_other_programs_are_foreign() {
    let (_folder, path) = place();
    fs::create_dir(&path).unwrap();
    assert_foreign(&path);
    fs::write(path.join("CURRENT"), b"nonsense").unwrap();
    assert_foreign(&path);
    fs::write(path.join("notes.txt"), b"mine").unwrap();
    assert_foreign(&path);
}

#[test]
fn stores_of_other_programs_in_rocksdb_are_foreign() {
    let (_folder, path) = place();
    raw(&path).put("key", "value").unwrap();
    assert_foreign(&path);
    raw(&path).put("magic", "another").unwrap();
    assert_foreign(&path);
}

#[test]
fn what_is_no_folder_is_an_error_of_the_system() {
    let (folder, path) = place();
    fs::write(&path, b"").unwrap();
    let error = RocksStore::open(&path).unwrap_err();
    assert!(error.to_string().contains("is not a folder"), "{error}");
    let error = RocksStore::open(folder.path().join("absent").join("store")).unwrap_err();
    assert_eq!(error.code(), "store_io");
    assert!(error.to_string().contains("create a folder in its folder"), "{error}");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::fs::{OpenOptions, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_store_is_its_owners_alone() {
        let (_folder, path) = place();
        drop(RocksStore::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_store_that_cannot_be_written_is_an_error_of_the_system() {
        let (_folder, path) = place();
        drop(RocksStore::open(&path).unwrap());
        for name in Files::read(&path).0.keys() {
            fs::set_permissions(path.join(name), Permissions::from_mode(0o400)).unwrap();
        }
        // The superuser may write to it all the same.
        if OpenOptions::new().append(true).open(path.join("CURRENT")).is_ok() {
            RocksStore::open(&path).unwrap();
        } else {
            let error = refused(&path);
            assert_eq!(error.code(), "store_io");
            assert!(error.to_string().contains("check its owner and mode"), "{error}");
        }
    }
}
