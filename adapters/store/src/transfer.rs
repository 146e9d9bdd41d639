//! Taking the contents of a store elsewhere: into a file, out of one, or into a store of another kind.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek};
use std::path::{Path, PathBuf};

use ipns_core::Name;
use ipns_core::store::{Store, StoreError, Table, Write};
use thiserror::Error;

use crate::failure::{corrupt, io_failure, system_failure, text};
use crate::portable::{Fault, Reader, Writer};
use crate::{AnyStore, Backend, check, pages, publish, schema};

/// How much goes into one commit.
const BATCH_BYTES: usize = 1 << 20;

/// Writes every entry of the store at `path`, which must exist, to a new file that only its owner can read. The file
/// appears whole or not at all. Returns how many entries it has; `progress` is told of each.
///
/// # Errors
/// Those of opening the store, which stays as it is, and those of the file.
pub fn export(backend: Backend, path: &Path, file: &Path, mut progress: impl FnMut()) -> Result<u64, StoreError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => io_failure(file, "there is something of that name; choose another"),
        _ => system_failure(file, &error, "write the file"),
    };
    let (store, _) = backend.open_unchanged(path)?;
    if file.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let mut draft = publish::draft(file).map_err(failed)?;
    let mut writer = Writer::new(BufWriter::new(draft.as_file_mut()), schema::CURRENT).map_err(failed)?;
    for table in Table::ALL {
        pages::for_each(&store, table, |key, value| {
            progress();
            writer.entry(table, &key, &value).map_err(failed)
        })?;
    }
    let (_, entries) = writer.finish().map_err(failed)?;
    publish::publish(draft, file).map_err(failed)?;
    Ok(entries)
}

/// What [`import`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// Entries that were taken from the file.
    pub taken: u64,
    /// Entries of the file that were there already, as they are in it or newer.
    pub kept: u64,
}

/// Why nothing was imported. [`code`](ImportError::code) is stable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The store or the file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An own name would go back, or get a second value for a sequence.
    #[error(
        "{name} is at sequence {here} in the store and at {there} in the file, with another value; \
         to take it would let a sequence be used for two values"
    )]
    Newer {
        /// The name.
        name: Name,
        /// Its sequence in the store.
        here: u64,
        /// Its sequence in the file.
        there: u64,
    },
}

impl ImportError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Newer { .. } => "import_newer",
        }
    }
}

/// Takes the entries of a file that [`export`] wrote into a store. `progress` is told of each entry as it is taken.
///
/// An own name is taken unless the store has it at a higher sequence, or at the same one with another record; then
/// nothing is imported, unless `force` is given. Of other records the newer stays. Whatever else the store has stays,
/// unless `force` is given. All of the file is verified before anything changes. It is taken in several commits: after
/// a crash meanwhile, import it again.
///
/// # Errors
/// [`Newer`](ImportError::Newer); those of the file, as of a store; those of the store.
pub fn import(
    store: &mut AnyStore,
    path: &Path,
    force: bool,
    mut progress: impl FnMut(),
) -> Result<Imported, ImportError> {
    let mut file = File::open(path).map_err(|error| system_failure(path, &error, "open the file"))?;
    each_entry(&mut file, path, |table, key, value| match table {
        Table::Own => judge_own(store, path, &key, &value, force).map(drop),
        _ => Ok(()),
    })?;
    let mut batch = Batch::default();
    let mut imported = Imported::default();
    each_entry(&mut file, path, |table, key, value| {
        progress();
        if is_taken(store, path, table, &key, &value, force)? {
            imported.taken += 1;
            batch.put(store, table, key, value)?;
        } else {
            imported.kept += 1;
        }
        Ok(())
    })?;
    batch.commit(store)?;
    Ok(imported)
}

/// Calls `each` with every entry of a file, from its beginning.
fn each_entry(
    file: &mut File,
    path: &Path,
    mut each: impl FnMut(Table, Vec<u8>, Vec<u8>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let failed = |fault| match fault {
        Fault::Foreign => StoreError::Foreign { path: text(path) },
        Fault::TooNew(found, known) => StoreError::TooNew { path: text(path), found, known },
        Fault::Damaged(reason) => corrupt(path, reason),
        Fault::Io(error) => system_failure(path, &error, "read the file"),
    };
    file.rewind().map_err(|error| failed(error.into()))?;
    let mut reader = Reader::new(BufReader::new(file), schema::CURRENT).map_err(failed)?;
    while let Some((table, key, value)) = reader.entry().map_err(failed)? {
        each(table, key, value)?;
    }
    Ok(())
}

fn is_taken(
    store: &AnyStore,
    path: &Path,
    table: Table,
    key: &[u8],
    value: &[u8],
    force: bool,
) -> Result<bool, ImportError> {
    if table == Table::Own {
        return judge_own(store, path, key, value, force);
    }
    let Some(here) = store.get(table, key)? else { return Ok(true) };
    if table != Table::Records {
        return Ok(force && here != value);
    }
    // What cannot be read is worth less than anything that can.
    Ok(match (check::record(key, &here), check::record(key, value)) {
        (Ok(here), Ok(there)) => ipns_core::record::compare(&there, &here).is_gt(),
        (here, there) => here.is_err() && there.is_ok(),
    })
}

/// Whether an own name is to be taken from the file, or why nothing is.
fn judge_own(store: &AnyStore, path: &Path, key: &[u8], value: &[u8], force: bool) -> Result<bool, ImportError> {
    let there = check::own(key, value).map_err(|reason| corrupt(path, format!("an own name in it: {reason}")))?;
    let here = store.get(Table::Own, key)?;
    let Some(here) = here.and_then(|here| check::own(key, &here).ok()) else { return Ok(true) };
    if here.as_bytes() == there.as_bytes() {
        return Ok(false);
    }
    let sequences = (here.sequence(), there.sequence());
    // A name is signed again before its record ends, with the same sequence and value.
    if sequences.0 == sequences.1 && here.value_bytes() == there.value_bytes() {
        return Ok(force || there.eol() > here.eol());
    }
    if force || sequences.0 < sequences.1 {
        return Ok(true);
    }
    Err(ImportError::Newer { name: *here.name(), here: sequences.0, there: sequences.1 })
}

/// Writes on their way into a store.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    bytes: usize,
}

impl Batch {
    fn put(&mut self, store: &mut AnyStore, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        self.writes.push(Write { table, key, value: Some(value) });
        if self.bytes >= BATCH_BYTES { self.commit(store) } else { Ok(()) }
    }

    fn commit(&mut self, store: &mut AnyStore) -> Result<(), StoreError> {
        self.bytes = 0;
        store.commit(&std::mem::take(&mut self.writes))
    }
}

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// Where the store is now.
    pub path: PathBuf,
    /// How many entries it has.
    pub entries: u64,
    /// Where the store of the other kind is, as it was. Nothing opens it any more.
    pub old: PathBuf,
}

/// Replaces the store in `folder` by one of another kind with the same contents, at its
/// [place](Backend::place_in). The new store appears whole or not at all; the old one is renamed, not changed.
///
/// # Errors
/// Those of opening the old store and of making the new one, with nothing done; [`Io`](StoreError::Io) also when there
/// is something in the new one's place.
pub fn migrate(folder: &Path, from: Backend, to: Backend, progress: impl FnMut()) -> Result<Migrated, StoreError> {
    let (source, path) = (place(folder, from)?, place(folder, to)?);
    // It stays open, and so locked, until nobody finds it any more.
    let (store, _) = from.open_unchanged(&source)?;
    let entries = copy(&store, to, &path, progress)?;
    let old = put_away(&source)?;
    Ok(Migrated { path, entries, old })
}

/// Ends a [`migrate`] that was broken off between its last two steps, when both stores were there: if that of kind `to`
/// has the same contents as the other, the other is renamed. `None`, with nothing done, if it has not. `progress` is told
/// of each entry.
///
/// # Errors
/// Those of opening the two stores, and [`Io`](StoreError::Io) if the old one cannot be renamed.
pub fn finish_migration(
    folder: &Path,
    from: Backend,
    to: Backend,
    mut progress: impl FnMut(),
) -> Result<Option<Migrated>, StoreError> {
    let (source, path) = (place(folder, from)?, place(folder, to)?);
    let (store, _) = from.open_unchanged(&source)?;
    let (new, _) = to.open_unchanged(&path)?;
    let Some(entries) = has_all(&new, &store, &mut progress)? else { return Ok(None) };
    if has_all(&store, &new, || ())? != Some(entries) {
        return Ok(None);
    }
    let old = put_away(&source)?;
    Ok(Some(Migrated { path, entries, old }))
}

fn place(folder: &Path, backend: Backend) -> Result<PathBuf, StoreError> {
    backend.place_in(folder).ok_or_else(|| io_failure(folder, format!("a store of kind {backend} is on no disk")))
}

fn put_away(source: &Path) -> Result<PathBuf, StoreError> {
    set_aside(source).map_err(|error| system_failure(source, &error, "rename the old store"))
}

/// How many entries `old` has, if `new` has every one of them.
fn has_all(new: &AnyStore, old: &AnyStore, mut progress: impl FnMut()) -> Result<Option<u64>, StoreError> {
    let (mut entries, mut all) = (0, true);
    for table in Table::ALL {
        pages::for_each(old, table, |key, value| {
            entries += 1;
            progress();
            all &= new.get(table, &key)?.is_some_and(|copied| copied == value);
            Ok(())
        })?;
    }
    Ok(all.then_some(entries))
}

/// Copies every entry of a store into a new one at `path`, which appears whole or not at all. Returns how many there
/// are; `progress` is told of each.
///
/// # Errors
/// Those of reading the one and of making the other, with nothing done.
pub fn copy(store: &AnyStore, to: Backend, path: &Path, mut progress: impl FnMut()) -> Result<u64, StoreError> {
    let taken = || io_failure(path, "there is something in the place of the new store; move it away");
    let failed = |error: io::Error| match publish::is_taken(&error) {
        true => taken(),
        false => system_failure(path, &error, "create the new store"),
    };
    if path.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let draft = publish::draft_folder(path).map_err(failed)?;
    let draft_path = draft.path().join("store");
    let mut new = to.open(&draft_path)?;
    let mut batch = Batch::default();
    let mut entries = 0;
    for table in Table::ALL {
        pages::for_each(store, table, |key, value| {
            entries += 1;
            progress();
            batch.put(&mut new, table, key, value)
        })?;
    }
    batch.commit(&mut new)?;
    drop(new);
    let (new, _) = to.open_unchanged(&draft_path)?;
    if has_all(&new, store, || ())? != Some(entries) {
        return Err(corrupt(path, "the copy is not what was copied"));
    }
    drop(new);
    publish::rename_draft(&draft_path, path).map_err(failed)?;
    Ok(entries)
}

/// Gives a store a name by which nobody looks for it.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = |count: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(if count == 0 { ".old".to_owned() } else { format!(".old-{count}") });
        PathBuf::from(name)
    };
    let free = (0..).map(name).find(|name| name.symlink_metadata().is_err());
    let old = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &old)?;
    publish::sync_folder(path)?;
    Ok(old)
}
