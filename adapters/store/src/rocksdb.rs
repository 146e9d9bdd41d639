//! A store in a folder of RocksDB.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipns_core::store::{Entries, Store, StoreError, Table, Write};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, Direction, Error, ErrorKind, IteratorMode, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions,
};

use crate::failure::{corrupt, io_failure, system_failure, text};
use crate::framing::Kind;
use crate::tally::{self, Tally};
use crate::{framing, limits, publish, schema};

/// Of the entries that are read most.
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Of one table's newest entries, which are in memory and in the log; all tables together have four times that.
const BUFFER_BYTES: usize = 1024 * 1024;
/// After so much log the entries in memory go to files.
const LOG_BYTES: u64 = 8 * 1024 * 1024;
const OPEN_FILES: i32 = 64;
/// How long a commit waits for what RocksDB does in the background.
const PATIENCE: Duration = Duration::from_secs(60);
/// In the column family that is no table's: how many commits there have been.
const COMMITS: &str = "commits";

/// A [`Store`] in a folder of RocksDB, for one process at a time.
///
/// A commit is on the disk when it returns: in RocksDB's log, and then its number in a file beside it, because RocksDB
/// cannot tell a log that was cut off later from one that a crash cut off. A failed write ends the use of this handle:
/// later calls fail until the store is opened again.
pub struct RocksStore {
    database: DB,
    tally: Tally,
    path: PathBuf,
    commits: u64,
    schema: u64,
    failed: bool,
}

impl RocksStore {
    /// Opens the store in the folder `path`, or creates it (for its owner alone) when there is nothing at `path`.
    ///
    /// All of it is first read, its checksums are verified, and its commits are counted. Until it is found to be a
    /// sound store of a known schema, nothing of it changes.
    ///
    /// An empty folder is foreign, too, as is a folder of RocksDB without what creation puts into it.
    ///
    /// # Errors
    /// [`Foreign`](StoreError::Foreign), [`Corrupt`](StoreError::Corrupt) and [`TooNew`](StoreError::TooNew) with
    /// the store as it was; [`Locked`](StoreError::Locked) when it is open already, in whatever process;
    /// [`Full`](StoreError::Full); [`Io`](StoreError::Io) for anything else of the system.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(io_failure(path, "is not a folder; choose another path")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(system_failure(path, &error, "look at the folder")),
        }
        let (verified, names) = Self::verify(path)?;
        let Self { database, mut tally, commits, schema, .. } = verified;
        // RocksDB has one handle of a store at a time, and this one cannot write.
        drop(database);
        let mut options = options();
        options.create_missing_column_families(true);
        let names = names.into_iter().chain(Table::ALL.map(|table| table.as_str().to_owned())).collect::<BTreeSet<_>>();
        let database = DB::open_cf_descriptors(&options, path, descriptors(&names))
            .map_err(|error| opening_error(path, &error))?;
        if tally.count() < commits {
            // A crash came between the two; by what is now read from it, the commit counts.
            tally.set(commits)?;
        }
        Ok(Self { database, tally, path: path.to_owned(), commits, schema, failed: false })
    }

    /// Opens the store at `path`, which must exist, and verifies it, for reading alone: nothing of it changes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_unchanged(path: &Path) -> Result<Self, StoreError> {
        Self::verify(path).map(|(store, _)| store)
    }

    /// Verifies all of a store without a change. Returns a handle that can only read, and its column families.
    fn verify(path: &Path) -> Result<(Self, Vec<String>), StoreError> {
        if path.to_str().is_none() {
            return Err(io_failure(path, "RocksDB takes only paths that are UTF-8; choose another path"));
        }
        let tally = Tally::open(path)?;
        match (check_framing(path), &tally) {
            (Err(_), None) => return Err(StoreError::Foreign { path: text(path) }),
            (sound, _) => sound?,
        }
        let options = options();
        let opened = DB::list_cf(&options, path).and_then(|names| {
            let database = DB::open_cf_descriptors_read_only(&options, path, descriptors(&names), false)?;
            Ok((database, names))
        });
        let (database, names) = match (opened, &tally) {
            (Ok(opened), _) => opened,
            // Nothing says that it is ours.
            (Err(_), None) => return Err(StoreError::Foreign { path: text(path) }),
            (Err(error), Some(_)) => return Err(opening_error(path, &error)),
        };
        let schema = match identify(&database, path)? {
            None if tally.is_none() => return Err(StoreError::Foreign { path: text(path) }),
            None => return Err(corrupt(path, "its header is missing")),
            Some(found) if found > schema::CURRENT => {
                return Err(StoreError::TooNew { path: text(path), found, known: schema::CURRENT });
            }
            // RocksDB came with the current schema.
            Some(found) if found < schema::CURRENT => {
                return Err(corrupt(path, format!("schema {found} never was one of RocksDB")));
            }
            Some(found) => found,
        };
        let tally = tally.ok_or_else(|| corrupt(path, format!("{} is missing", tally::NAME)))?;
        read_all(&database, &names, path)?;
        let commits = commits(&database, path)?;
        if commits < tally.count() {
            let missing = tally.count() - commits;
            return Err(corrupt(path, format!("the last {missing} commits are missing from its log")));
        }
        let store = Self { database, tally, path: path.to_owned(), commits, schema, failed: false };
        Ok((store, names))
    }

    /// The folder, as it was given to [`open`](Self::open).
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The schema version of the store.
    #[must_use]
    pub fn schema_version(&self) -> u64 {
        self.schema
    }

    /// Gives space that is no longer used back to the file system; true when there was any. Crash-safe as a commit.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        self.usable()?;
        let before = self.bytes()?;
        let families = Table::ALL.into_iter().filter_map(|table| self.database.cf_handle(table.as_str()));
        let families: Vec<&ColumnFamily> = families.collect();
        let flushed = self.database.flush_cfs_opt(&families, &rocksdb::FlushOptions::default());
        flushed.map_err(|error| store_error(&self.path, &error))?;
        for family in families {
            self.database.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        }
        // What went wrong in the background is told of by the next call that can fail.
        self.database.flush().map_err(|error| store_error(&self.path, &error))?;
        Ok(self.bytes()? < before)
    }

    /// How much the files of the store take.
    fn bytes(&self) -> Result<u64, StoreError> {
        let failed = |error: io::Error| system_failure(&self.path, &error, "look at its files");
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            match entry.and_then(|entry| entry.metadata()) {
                Ok(found) => bytes += found.len(),
                // RocksDB removes files in the background.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(bytes)
    }

    fn usable(&self) -> Result<(), StoreError> {
        match self.failed {
            false => Ok(()),
            true => Err(io_failure(&self.path, "an earlier write failed; open the store again")),
        }
    }

    fn write(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let commits = self.commits + 1;
        let begun = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match self.database.write_opt(self.writes(batch, commits)?, &durable()) {
                Ok(()) => break,
                // RocksDB is busy moving what is in memory to files. Left to itself it waits for that, on a full disk
                // for ever; asked again, it says what has gone wrong.
                Err(error) if error.kind() == ErrorKind::Incomplete && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(Duration::from_millis(20));
                }
                Err(error) => return Err(store_error(&self.path, &error)),
            }
        }
        self.commits = commits;
        self.tally.set(commits)
    }

    fn writes(&self, batch: &[Write], commits: u64) -> Result<WriteBatch, StoreError> {
        let mut writes = WriteBatch::default();
        for write in batch {
            let name = write.table.as_str();
            let family = self.database.cf_handle(name);
            let family = family.ok_or_else(|| corrupt(&self.path, format!("it has no table {name}")))?;
            match &write.value {
                Some(value) => writes.put_cf(family, &write.key, value),
                None => writes.delete_cf(family, &write.key),
            }
        }
        writes.put(COMMITS, commits.to_le_bytes());
        Ok(writes)
    }
}

impl Store for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.usable()?;
        let Some(family) = self.database.cf_handle(table.as_str()) else { return Ok(None) };
        self.database.get_cf(family, key).map_err(|error| store_error(&self.path, &error))
    }

    fn scan(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Entries, StoreError> {
        self.usable()?;
        let Some(family) = self.database.cf_handle(table.as_str()) else { return Ok(Vec::new()) };
        // No key is between one and the same with a zero byte behind it.
        let start = after.map(|after| [after, &[0]].concat());
        let mode = start.as_ref().map_or(IteratorMode::Start, |start| IteratorMode::From(start, Direction::Forward));
        self.database
            .iterator_cf(family, mode)
            .take(limit)
            .map(|entry| entry.map(|(key, value)| (key.into_vec(), value.into_vec())))
            .collect::<Result<_, _>>()
            .map_err(|error| store_error(&self.path, &error))
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        self.usable()?;
        limits::check(batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let written = self.write(batch);
        self.failed = written.is_err();
        written
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RocksStore").field("path", &self.path).finish_non_exhaustive()
    }
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(BUFFER_BYTES);
    options.set_db_write_buffer_size(4 * BUFFER_BYTES);
    options.set_max_total_wal_size(LOG_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_manifest_file_size(BUFFER_BYTES);
    options.set_max_background_jobs(2);
    options.set_paranoid_checks(true);
    // What comes before the first fault in the log counts: a power cut may have spoilt a commit that was under way.
    // Whether one is missing that was told of, the tally says.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // So that no manifest has some tables of a commit in files and others in a log that is gone.
    options.set_atomic_flush(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // With a logger of ours RocksDB keeps no files for its log of what it does.
    options.set_info_logger(rocksdb::InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| match level {
        LogLevel::Warn | LogLevel::Error | LogLevel::Fatal => tracing::warn!(message, "rocksdb"),
        _ => tracing::trace!(message, "rocksdb"),
    }));
    options
}

fn descriptors<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<ColumnFamilyDescriptor> {
    // One set of options: the tables share their cache.
    let options = options();
    names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, options.clone())).collect()
}

/// For writes that are on the disk when they return.
fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options.set_no_slowdown(true);
    options
}

/// The schema version of the store, or `None` when it is not ours.
fn identify(database: &DB, path: &Path) -> Result<Option<u64>, StoreError> {
    let read = |key: &str| database.get(key).map_err(|error| opening_error(path, &error));
    if read(schema::MAGIC.0)?.as_deref() != Some(schema::MAGIC.1) {
        return Ok(None);
    }
    match read(schema::VERSION)?.as_deref().and_then(schema::parse_version) {
        None => Err(corrupt(path, "its header has no schema version")),
        version => Ok(version),
    }
}

/// How many commits the store has had.
fn commits(database: &DB, path: &Path) -> Result<u64, StoreError> {
    let found = database.get(COMMITS).map_err(|error| opening_error(path, &error))?;
    let count = found.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    count.ok_or_else(|| corrupt(path, "its header has no count of commits"))
}

/// Verifies what RocksDB reads before anything else.
fn check_framing(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| system_failure(path, &error, "read its files");
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let kind = match () {
            () if name.starts_with("MANIFEST-") => Kind::Manifest,
            () if name.ends_with(".log") => Kind::Log,
            () => continue,
        };
        if let Some(fault) = framing::fault(&file, kind).map_err(failed)? {
            return Err(corrupt(path, format!("{name}: {fault}")));
        }
    }
    Ok(())
}

/// Reads every entry, and so verifies every block that holds one.
fn read_all(database: &DB, names: &[String], path: &Path) -> Result<(), StoreError> {
    for name in names {
        let Some(family) = database.cf_handle(name) else { continue };
        let mut how = ReadOptions::default();
        how.fill_cache(false);
        let mut entries: DBRawIterator<'_> = database.raw_iterator_cf_opt(family, how);
        entries.seek_to_first();
        while entries.valid() {
            entries.next();
        }
        entries.status().map_err(|error| opening_error(path, &error))?;
    }
    Ok(())
}

/// Creates an empty store at `path`, whole or not at all. A store that someone else created meanwhile is left alone.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| system_failure(path, &error, "create a folder in its folder");
    let draft = publish::draft_folder(path).map_err(failed)?;
    let attempt = || -> Result<(), Error> {
        let mut options = options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let names = Table::ALL.map(|table| table.as_str().to_owned());
        let names = names.iter().chain([&DEFAULT_COLUMN_FAMILY_NAME.to_owned()]).cloned().collect::<BTreeSet<_>>();
        let database = DB::open_cf_descriptors(&options, draft.path(), descriptors(&names))?;
        let mut header = WriteBatch::default();
        header.put(schema::MAGIC.0, schema::MAGIC.1);
        header.put(schema::VERSION, schema::CURRENT.to_le_bytes());
        header.put(COMMITS, 0_u64.to_le_bytes());
        database.write_opt(header, &durable())
    };
    attempt().map_err(|error| store_error(path, &error))?;
    Tally::create(draft.path()).map_err(failed)?;
    match publish::publish_folder(draft, path) {
        Err(error) if publish::is_taken(&error) => Ok(()),
        created => created.map_err(failed),
    }
}

/// [`store_error`], for a store that is ours and is just being opened: what is missing of it was lost.
fn opening_error(path: &Path, error: &Error) -> StoreError {
    let words = error.as_ref();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidArgument | ErrorKind::NotSupported => corrupt(path, words),
        ErrorKind::IOError if words.contains("No such file") => corrupt(path, words),
        _ => store_error(path, error),
    }
}

fn store_error(path: &Path, error: &Error) -> StoreError {
    let words = error.as_ref();
    // RocksDB passes the system's words on, but no number.
    let says = |kinds: &[&str]| kinds.iter().any(|kind| words.contains(kind));
    match error.kind() {
        ErrorKind::Corruption => corrupt(path, words),
        _ if says(&["No space left", "quota exceeded"]) => StoreError::Full { path: text(path) },
        _ if says(&["Permission denied", "Read-only file system"]) => {
            io_failure(path, format!("{words}; check its owner and mode"))
        }
        _ => io_failure(path, words),
    }
}
