//! What the tests of stores on a disk share: the files of one, as they are between two openings.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ipns_store::{AnyStore, Backend, Entries, Store, StoreError, Table, Write};

/// The stores that are on a disk and in this build.
pub fn disks() -> Vec<Backend> {
    Backend::ALL.into_iter().filter(|backend| *backend != Backend::Memory && backend.is_built_in()).collect()
}

/// Everything that is in a store's place: of a file its bytes under an empty name, of a folder those of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(pub BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    pub fn read(path: &Path) -> Self {
        if path.is_file() {
            return Self([(PathBuf::new(), fs::read(path).unwrap())].into());
        }
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let read = |name| match fs::read(path.join(&name)) {
            // While a store is open RocksDB removes files in the background.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            read => Some((PathBuf::from(name), read.unwrap())),
        };
        Self(names.filter_map(read).collect())
    }

    /// Puts them into a place, instead of whatever is there.
    pub fn write(&self, path: &Path) {
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
        for (name, bytes) in &self.0 {
            if name.as_os_str().is_empty() {
                fs::write(path, bytes).unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
                fs::write(path.join(name), bytes).unwrap();
            }
        }
    }
}

pub fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

pub fn contents(store: &AnyStore) -> Result<Vec<Entries>, StoreError> {
    Table::ALL.iter().map(|table| store.scan(*table, None, usize::MAX)).collect()
}

/// Opens a store that must be refused, and neither it nor what is beside it may change.
pub fn refused(backend: Backend, path: &Path) -> StoreError {
    let listing = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let (before, beside) = (Files::read(path), listing());
    let error = backend.open(path).unwrap_err();
    assert!(Files::read(path) == before, "{backend}: it was touched");
    assert_eq!(listing(), beside);
    error
}
