//! A disk that is really full: a small file system in memory, mounted by a process that has its own view of mounts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "these are tests")]
#![cfg(target_os = "linux")]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipns_store::{AnyStore, Backend, Store, StoreError, Table};

use support::{contents, disks, put};

/// Where the child has its file system.
const PLACE: &str = "IPNS_FULL_DISK_TEST";
const MOUNT: &str = "mount -t tmpfs -o size=12m tmpfs \"$IPNS_FULL_DISK_TEST\"";

#[test]
fn a_full_disk_is_told_of_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).env(PLACE, folder.path());
        command.arg("sh").arg(env::current_exe().unwrap());
        command
    };
    match unshare(MOUNT).output() {
        Ok(output) if output.status.success() => {}
        refused => {
            eprintln!("not run, because this system lets nobody mount: {refused:?}");
            return;
        }
    }
    let script = format!("{MOUNT}; exec \"$1\" --exact child --nocapture --test-threads=1");
    let output = unshare(&script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("filled"), "the child did nothing");
}

/// Not a test of its own: what runs with a disk that can be filled.
#[test]
fn child() {
    let Some(place) = env::var_os(PLACE).map(PathBuf::from) else { return };
    for backend in disks() {
        let path = place.join("store");
        let ballast = place.join("ballast");
        a_new_store(backend, &path, &ballast);
        fs::write(&ballast, vec![1; 4 << 20]).unwrap();
        let store = backend.open(&path).unwrap();
        let (mut store, kept) = fill(store, &path);
        // What was not applied is not there later either, and the handle is of no more use.
        assert_eq!(store.commit(&[put(Table::Meta, b"later", b"")]).unwrap_err().code(), "store_io", "{backend}");
        drop(store);
        match backend.open(&path) {
            Ok(store) => assert_eq!(store.scan(Table::Records, None, usize::MAX).unwrap().len(), kept, "{backend}"),
            Err(error) => assert_eq!(error, StoreError::Full { path: path.display().to_string() }),
        }
        fs::remove_file(&ballast).unwrap();
        let mut store = backend.open(&path).unwrap();
        let entries = store.scan(Table::Records, None, usize::MAX).unwrap();
        assert_eq!(entries.len(), kept, "{backend}");
        assert!(entries.iter().all(|(key, value)| *value == vec![key[3]; 20_000]), "{backend}");
        store.commit(&[put(Table::Meta, b"later", b"1")]).unwrap();
        drop(store);
        let meta = Table::ALL.iter().position(|table| *table == Table::Meta).unwrap();
        assert_eq!(contents(&backend.open(&path).unwrap()).unwrap()[meta].len(), 1);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        eprintln!("{backend} filled after {kept} commits");
    }
}

/// Commits until the disk is full; returns how often that went well.
fn fill(mut store: AnyStore, path: &Path) -> (AnyStore, usize) {
    for count in 0..10_000_u32 {
        let key = count.to_be_bytes();
        if let Err(error) = store.commit(&[put(Table::Records, &key, &[key[3]; 20_000])]) {
            assert_eq!(error, StoreError::Full { path: path.display().to_string() });
            return (store, count.try_into().unwrap());
        }
    }
    panic!("the disk takes everything");
}

/// On a disk without room nothing is created, and nothing is left of the attempt.
fn a_new_store(backend: Backend, path: &Path, ballast: &Path) {
    fs::write(ballast, vec![1; 11 << 20]).unwrap();
    let mut more = Vec::new();
    for index in 0..10_000 {
        let file = ballast.with_extension(index.to_string());
        let written = fs::write(&file, vec![1; 4_096]);
        more.push(file);
        if written.is_err() {
            break;
        }
    }
    assert_eq!(backend.open(path).unwrap_err(), StoreError::Full { path: path.display().to_string() }, "{backend}");
    more.push(ballast.to_owned());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), more.len(), "{backend}");
    for file in more {
        fs::remove_file(file).unwrap();
    }
}
