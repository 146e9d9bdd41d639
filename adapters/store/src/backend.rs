//! The kinds of stores that there are, and one type for a store of any kind.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipns_core::store::{Entries, Store, StoreError, Table, Write};
use thiserror::Error;

use crate::failure::io_failure;
#[cfg(feature = "rocksdb")]
use crate::rocksdb::RocksStore;
use crate::{MemoryStore, RedbStore, schema};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Backend {
    /// One redb file.
    #[default]
    Redb,
    /// A folder of RocksDB; only with the feature `rocksdb` can it be opened.
    RocksDb,
    /// In memory: gone with the process.
    Memory,
}

/// A text that is no [`Backend`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no kind of store; there are redb, rocksdb and memory")]
pub struct UnknownBackend(String);

impl Backend {
    /// Every kind, in a fixed order.
    pub const ALL: [Backend; 3] = [Backend::Redb, Backend::RocksDb, Backend::Memory];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Redb => "redb",
            Backend::RocksDb => "rocksdb",
            Backend::Memory => "memory",
        }
    }

    /// Whether this build can open stores of the kind.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self != Backend::RocksDb || cfg!(feature = "rocksdb")
    }

    /// Where a program that keeps its store in `folder` has one of this kind; `None` for what is on no disk.
    #[must_use]
    pub fn place_in(self, folder: &Path) -> Option<PathBuf> {
        match self {
            Backend::Redb | Backend::RocksDb => Some(folder.join(format!("store.{self}"))),
            Backend::Memory => None,
        }
    }

    /// Opens the store at `path`, or creates it. A store in memory is new and empty, whatever the path.
    ///
    /// # Errors
    /// Those of [`RedbStore::open`] and `RocksStore::open`, and [`Io`](StoreError::Io) for a kind that is not built in.
    pub fn open(self, path: impl AsRef<Path>) -> Result<AnyStore, StoreError> {
        match self {
            Backend::Redb => Ok(AnyStore::Redb(RedbStore::open(path)?)),
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb => Ok(AnyStore::RocksDb(Box::new(RocksStore::open(path)?))),
            #[cfg(not(feature = "rocksdb"))]
            Backend::RocksDb => Err(not_built_in(path.as_ref())),
            Backend::Memory => Ok(AnyStore::Memory(MemoryStore::new())),
        }
    }

    /// Opens the store at `path`, which must be there, so that nothing of it ever changes: redb's changes stay in
    /// memory, RocksDB takes none. Returns also the schema version that it has on the disk.
    pub(crate) fn open_unchanged(self, path: &Path) -> Result<(AnyStore, u64), StoreError> {
        if self != Backend::Memory && !path.exists() {
            return Err(io_failure(path, "there is no store"));
        }
        match self {
            Backend::Redb => RedbStore::open_unchanged(path).map(|(store, found)| (AnyStore::Redb(store), found)),
            #[cfg(feature = "rocksdb")]
            Backend::RocksDb => {
                let store = RocksStore::open_unchanged(path)?;
                let found = store.schema_version();
                Ok((AnyStore::RocksDb(Box::new(store)), found))
            }
            #[cfg(not(feature = "rocksdb"))]
            Backend::RocksDb => Err(not_built_in(path)),
            Backend::Memory => Ok((AnyStore::Memory(MemoryStore::new()), schema::CURRENT)),
        }
    }
}

#[cfg(not(feature = "rocksdb"))]
fn not_built_in(path: &Path) -> StoreError {
    io_failure(path, "this build has no RocksDB; build it with the feature `rocksdb`, or use redb")
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        let found = Self::ALL.into_iter().find(|backend| backend.as_str() == text);
        found.ok_or_else(|| UnknownBackend(text.to_owned()))
    }
}

/// A store of any kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStore {
    /// One redb file.
    Redb(RedbStore),
    /// A folder of RocksDB.
    #[cfg(feature = "rocksdb")]
    RocksDb(Box<RocksStore>),
    /// In memory.
    Memory(MemoryStore),
}

impl AnyStore {
    /// Its kind.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self {
            Self::Redb(_) => Backend::Redb,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(_) => Backend::RocksDb,
            Self::Memory(_) => Backend::Memory,
        }
    }

    /// The version of its schema.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn schema_version(&self) -> Result<u64, StoreError> {
        match self {
            Self::Redb(store) => store.schema_version(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(store) => Ok(store.schema_version()),
            Self::Memory(_) => Ok(schema::CURRENT),
        }
    }

    /// Gives space that is no longer used back to the file system; true when there was any. Crash-safe as a commit.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        match self {
            Self::Redb(store) => store.compact(),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(store) => store.compact(),
            Self::Memory(_) => Ok(false),
        }
    }

    fn as_store(&self) -> &dyn Store {
        match self {
            Self::Redb(store) => store,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(store) => store.as_ref(),
            Self::Memory(store) => store,
        }
    }

    fn as_store_mut(&mut self) -> &mut dyn Store {
        match self {
            Self::Redb(store) => store,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb(store) => store.as_mut(),
            Self::Memory(store) => store,
        }
    }
}

impl Store for AnyStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.as_store().get(table, key)
    }

    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError> {
        self.as_store().scan(table, after, limit)
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        self.as_store_mut().commit(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert!("RocksDB".parse::<Backend>().unwrap_err().to_string().contains("redb, rocksdb and memory"));
    }
}
