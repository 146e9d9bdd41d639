//! A store in one redb file.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use ipns_core::store::{Entries, Store, StoreError, Table, Write};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, Error, ReadOnlyTable, ReadableDatabase, StorageBackend, TableError, WriteTransaction,
};

use crate::failure::{self, io_failure, system_failure, text};
use crate::schema::Bytes;
use crate::staged::Staged;
use crate::{limits, migrate, publish, schema};

/// redb would take up to a gibibyte; our values are small and few are hot.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A [`Store`] in one file, for one process at a time.
///
/// A commit is on the disk when it returns. After a crash the file is repaired when it is next opened. A failed
/// write ends the use of this handle: later calls fail until the store is opened again.
pub struct RedbStore {
    database: Database,
    path: PathBuf,
}

impl RedbStore {
    /// Opens the store at `path`, or creates it (for its owner alone) when there is nothing at `path`.
    ///
    /// The whole file is read and its checksums are verified. Until it is found to be a sound store of a known
    /// schema, nothing of it changes. A file of an older schema is then migrated in one transaction.
    ///
    /// An empty file is foreign, too: creation never leaves one, so it is another program's, or it was a store
    /// whose contents are lost, and to start afresh in it would hide that.
    ///
    /// # Errors
    /// [`Foreign`](StoreError::Foreign), [`Corrupt`](StoreError::Corrupt) and [`TooNew`](StoreError::TooNew) with
    /// the file as it was; [`Locked`](StoreError::Locked) when it is open already, in whatever process;
    /// [`Full`](StoreError::Full); [`Io`](StoreError::Io) for anything else of the system.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(io_failure(path, "is not a file; choose another path"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(system_failure(path, &error, "look at the file")),
        }
        Self::open_backend(existing(path)?, path)
    }

    /// Opens the store at `path`, which must exist, and verifies it. Nothing of the file ever changes: the migration
    /// of an older schema, and whatever is committed, stay in memory. Returns also the schema that the file has.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_unchanged(path: &Path) -> Result<(Self, u64), StoreError> {
        let (store, _, found) = Self::recognise(existing(path)?, path)?;
        migrate::run(&store.database, found).map_err(|error| store_error(path, error))?;
        Ok((store, found))
    }

    fn open_backend(backend: impl StorageBackend, path: &Path) -> Result<Self, StoreError> {
        let (store, staged, found) = Self::recognise(backend, path)?;
        staged.accept().map_err(|error| store_error(path, error.into()))?;
        migrate::run(&store.database, found).map_err(|error| store_error(path, error))?;
        Ok(store)
    }

    /// Verifies all of a file that is not changed yet. Returns how to have the changes carried out, and its schema.
    fn recognise<B: StorageBackend>(backend: B, path: &Path) -> Result<(Self, Staged<B>, u64), StoreError> {
        let staged = Staged::new(backend).map_err(|error| store_error(path, error.into()))?;
        let database =
            builder().create_with_backend(staged.clone()).map_err(|error| opening_error(path, error.into()))?;
        let found = database
            .begin_read()
            .map_err(Error::from)
            .and_then(|read| schema::identify(&read))
            .map_err(|error| opening_error(path, error))?;
        match found {
            None => Err(StoreError::Foreign { path: text(path) }),
            Some(found) if found > schema::CURRENT => {
                Err(StoreError::TooNew { path: text(path), found, known: schema::CURRENT })
            }
            Some(found) => Ok((Self { database, path: path.to_owned() }, staged, found)),
        }
    }

    /// The file, as it was given to [`open`](Self::open).
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The schema version of the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn schema_version(&self) -> Result<u64, StoreError> {
        let version = self.database.begin_read().map_err(Error::from).and_then(|read| schema::identify(&read));
        version.map_err(|error| self.error(error))?.ok_or_else(|| StoreError::Foreign { path: text(&self.path) })
    }

    /// Gives space that is no longer used back to the file system; true when there was any. Crash-safe as a commit.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        self.database.compact().map_err(|error| self.error(error))
    }

    fn read<T>(
        &self,
        table: Table,
        read: impl FnOnce(&ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, Error>,
    ) -> Result<Option<T>, StoreError> {
        let attempt = || -> Result<Option<T>, Error> {
            match self.database.begin_read()?.open_table(Bytes::new(table.as_str())) {
                Ok(table) => read(&table).map(Some),
                // A table comes into being with its first entry.
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        attempt().map_err(|error| self.error(error))
    }

    fn error(&self, error: impl Into<Error>) -> StoreError {
        store_error(&self.path, error.into())
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.read(table, |entries| Ok(entries.get(key)?.map(|value| value.value().to_vec())))?;
        Ok(found.flatten())
    }

    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.read(table, |entries| {
            entries
                .range::<&[u8]>((start, Bound::Unbounded))?
                .take(limit)
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok((key.value().to_vec(), value.value().to_vec()))
                })
                .collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        limits::check(batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let attempt = || -> Result<(), Error> {
            let transaction = begin_durable(&self.database)?;
            for table in Table::ALL {
                let mut writes = batch.iter().filter(|write| write.table == table).peekable();
                if writes.peek().is_none() {
                    continue;
                }
                let mut entries = transaction.open_table(Bytes::new(table.as_str()))?;
                for write in writes {
                    match &write.value {
                        Some(value) => entries.insert(write.key.as_slice(), value.as_slice())?,
                        None => entries.remove(write.key.as_slice())?,
                    };
                }
            }
            Ok(transaction.commit()?)
        };
        attempt().map_err(|error| self.error(error))
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The file at `path`, to be used by redb.
fn existing(path: &Path) -> Result<FileBackend, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| system_failure(path, &error, "open the file for reading and writing"))?;
    FileBackend::new(file).map_err(|error| store_error(path, error.into()))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // Without the check redb trusts a file that was closed cleanly, and may panic when it is damaged.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// A transaction that is on the disk when its commit returns.
pub(crate) fn begin_durable(database: &Database) -> Result<WriteTransaction, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // In one phase, redb takes damage to the last commit for a crash during it and falls back to the one before;
    // in two phases it reports it. Values come from the network, and two phases also keep a hostile one from
    // posing as pages of the store after a crash.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Creates an empty store at `path`, whole or not at all. A store that someone else created meanwhile is left alone.
fn create(path: &Path) -> Result<(), StoreError> {
    let draft = publish::draft(path).map_err(|error| system_failure(path, &error, "create a file in its folder"))?;
    let attempt = || -> Result<(), Error> {
        let database = builder().create(draft.path())?;
        let transaction = begin_durable(&database)?;
        schema::write(&transaction, schema::CURRENT)?;
        transaction.commit()?;
        Ok(database.close()?)
    };
    attempt().map_err(|error| store_error(path, error))?;
    match publish::publish(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(|error| system_failure(path, &error, "create the file")),
    }
}

/// [`store_error`], for a file of which it is not known yet whether it is ours.
fn opening_error(path: &Path, error: Error) -> StoreError {
    match error {
        // This is how redb says that a file does not begin as its files do.
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => StoreError::Foreign { path: text(path) },
        // A redb file, but of a format older than any that we wrote.
        Error::UpgradeRequired(_) => StoreError::Foreign { path: text(path) },
        error => store_error(path, error),
    }
}

fn store_error(path: &Path, error: Error) -> StoreError {
    let corrupt = |reason: String| failure::corrupt(path, reason);
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::Locked { path: text(path) },
        Error::DatabaseClosed => StoreError::Closed,
        Error::Corrupted(reason) => corrupt(reason),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => corrupt("it ends too early".to_owned()),
        Error::TableTypeMismatch { .. } | Error::TableIsMultimap(_) | Error::TypeDefinitionChanged { .. } => {
            corrupt(error.to_string())
        }
        Error::Io(error) => system_failure(path, &error, "read or write the file"),
        Error::PreviousIo => io_failure(path, "an earlier read or write failed; open the store again"),
        error => io_failure(path, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A disk that keeps what was synced, and of the rest what a power cut happens to leave.
    #[derive(Debug, Clone, Default)]
    struct Disk(Arc<Mutex<Platter>>);

    #[derive(Debug, Default)]
    struct Platter {
        synced: Vec<u8>,
        unsynced: Vec<(u64, Vec<u8>)>,
        current: Vec<u8>,
        /// Writes that still succeed, when there is a limit.
        room: Option<usize>,
    }

    impl Disk {
        fn with_new_store() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            drop(RedbStore::open(&path).unwrap());
            Self::holding(fs::read(path).unwrap())
        }

        fn holding(contents: Vec<u8>) -> Self {
            Self(Arc::new(Mutex::new(Platter { synced: contents.clone(), current: contents, ..Platter::default() })))
        }

        fn open(&self) -> Result<RedbStore, StoreError> {
            RedbStore::open_backend(self.clone(), Path::new("disk"))
        }

        fn limit(&self, room: Option<usize>) {
            self.0.lock().unwrap().room = room;
        }

        /// The disk after a power cut now, with the unsynced writes of which `survives` says so.
        fn after_power_cut(&self, survives: impl Fn(usize) -> bool) -> Self {
            let platter = self.0.lock().unwrap();
            let mut left = platter.synced.clone();
            for (index, (offset, data)) in platter.unsynced.iter().enumerate() {
                let start = usize::try_from(*offset).unwrap();
                if survives(index) {
                    left.resize(left.len().max(start + data.len()), 0);
                    left[start..start + data.len()].copy_from_slice(data);
                }
            }
            Self::holding(left)
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().current.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            out.copy_from_slice(&self.0.lock().unwrap().current[start..start + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            let mut platter = self.0.lock().unwrap();
            let len = usize::try_from(len).unwrap();
            platter.current.resize(len, 0);
            // A file system orders changes of the length among themselves.
            platter.synced.resize(len, 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            let mut platter = self.0.lock().unwrap();
            platter.synced = platter.current.clone();
            platter.unsynced.clear();
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let mut platter = self.0.lock().unwrap();
            match &mut platter.room {
                Some(0) => return Err(io::ErrorKind::StorageFull.into()),
                Some(room) => *room -= 1,
                None => {}
            }
            let start = usize::try_from(offset).unwrap();
            platter.current[start..start + data.len()].copy_from_slice(data);
            platter.unsynced.push((offset, data.to_vec()));
            Ok(())
        }
    }

    fn batch(count: u8) -> Vec<Write> {
        let len = |table| if table == Table::Records { 20_000 } else { 10 };
        Table::ALL.map(|table| Write { table, key: b"key".to_vec(), value: Some(vec![count; len(table)]) }).to_vec()
    }

    /// Which batch the store holds, in all of its tables.
    fn held(store: &RedbStore) -> u8 {
        let held = Table::ALL.map(|table| store.get(table, b"key").unwrap().map_or(0, |value| value[0]));
        assert!(held.iter().all(|count| *count == held[0]), "part of a batch: {held:?}");
        held[0]
    }

    #[test]
    fn a_commit_outlasts_a_power_cut() {
        let disk = Disk::with_new_store();
        let mut store = disk.open().unwrap();
        for count in 1..10 {
            store.commit(&batch(count)).unwrap();
            assert_eq!(held(&disk.after_power_cut(|_| false).open().unwrap()), count);
        }
    }

    #[test]
    fn a_full_disk_or_a_power_cut_in_a_commit_leaves_the_last_one() {
        let mut failures = 0;
        for room in 0.. {
            let disk = Disk::with_new_store();
            let mut store = disk.open().unwrap();
            store.commit(&batch(1)).unwrap();
            disk.limit(Some(room));
            let outcome = store.commit(&batch(2));
            disk.limit(None);
            if outcome.is_ok() {
                break;
            }
            failures += 1;
            assert_eq!(outcome, Err(StoreError::Full { path: "disk".to_owned() }));
            // What was not applied does not come back, and the handle is of no more use.
            assert_eq!(store.commit(&batch(3)).unwrap_err().code(), "store_io");
            for part in 0..5 {
                let cut = disk.after_power_cut(|index| part == 4 || (index >> (part / 2)) % 2 == part % 2);
                let mut store = cut.open().unwrap();
                assert_eq!(held(&store), 1, "after {room} writes, part {part}");
                store.commit(&batch(4)).unwrap();
                assert_eq!(held(&store), 4);
            }
        }
        assert!(failures > 3, "{failures}");
    }

    #[test]
    fn a_full_disk_while_opening_loses_nothing() {
        let disk = Disk::with_new_store();
        disk.open().unwrap().commit(&batch(1)).unwrap();
        for room in 0.. {
            disk.limit(Some(room));
            let opened = disk.open();
            disk.limit(None);
            if let Ok(store) = opened {
                assert!(room > 0);
                drop(store);
                break;
            }
            assert_eq!(opened.unwrap_err(), StoreError::Full { path: "disk".to_owned() });
            assert_eq!(held(&disk.after_power_cut(|_| true).open().unwrap()), 1);
        }
        assert_eq!(held(&disk.open().unwrap()), 1);
    }

    #[test]
    fn errors_of_the_system_keep_their_kind() {
        let path = Path::new("disk");
        let code = |kind: io::ErrorKind| store_error(path, Error::Io(kind.into())).code();
        assert_eq!(code(io::ErrorKind::StorageFull), "store_full");
        assert_eq!(code(io::ErrorKind::QuotaExceeded), "store_full");
        assert_eq!(code(io::ErrorKind::UnexpectedEof), "store_corrupt");
        assert_eq!(code(io::ErrorKind::PermissionDenied), "store_io");
        // Only the beginning of a file can show it to be foreign.
        assert_eq!(code(io::ErrorKind::InvalidData), "store_io");
        assert_eq!(store_error(path, Error::DatabaseClosed), StoreError::Closed);
    }
}
