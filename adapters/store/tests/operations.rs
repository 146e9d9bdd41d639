//! Looking through whole stores, and taking what is in them elsewhere.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use ipns_core::engine::{StoredOwn, StoredRecord};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::{Name, Timestamp};
use ipns_store::{AnyStore, Backend, ImportError, RedbStore, Store, Table, Write};
use ipns_store::{check, copy, export, finish_migration, import, migrate};
use prost::Message;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use support::{Files, contents, disks, put};

fn record(seed: u8, sequence: u64, value: &str, eol: i64) -> (Name, Vec<u8>) {
    let key = SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap();
    let builder = RecordBuilder::new(value.parse().unwrap(), sequence, Timestamp::from_unix_secs(eol));
    (key.public_key().to_name(), builder.sign(&key).unwrap().as_bytes().to_vec())
}

fn own(seed: u8, sequence: u64, value: &str) -> Write {
    let (name, record) = record(seed, sequence, value, 10);
    let entry = StoredOwn { record: record.into(), lifetime_ns: 1, ..StoredOwn::default() };
    put(Table::Own, &name.to_bytes(), &entry.encode_to_vec())
}

fn known(seed: u8, sequence: u64) -> Write {
    let (name, record) = record(seed, sequence, "/ipfs/bafkqaaa", 10);
    put(Table::Records, &name.to_bytes(), &StoredRecord { record: record.into(), received: 1 }.encode_to_vec())
}

fn sequence(store: &AnyStore, write: &Write) -> u64 {
    let value = store.get(write.table, &write.key).unwrap().unwrap();
    // Both kinds of entries begin with the record.
    ipns_core::Record::decode(StoredRecord::from_bytes(&value).unwrap().record).unwrap().sequence()
}

fn place(backend: Backend) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = backend.place_in(folder.path()).unwrap();
    (folder, path)
}

/// A store with something in it, closed.
fn filled(backend: Backend) -> (TempDir, PathBuf) {
    let (folder, path) = place(backend);
    let mut store = backend.open(&path).unwrap();
    store.commit(&[own(1, 5, "/ipfs/bafkqaaa"), known(1, 5), known(2, 7), put(Table::Meta, b"fact", b"true")]).unwrap();
    let many: Vec<Write> = (0..600_u32).map(|key| put(Table::Peers, &key.to_be_bytes(), &[7; 3_000])).collect();
    store.commit(&many).unwrap();
    (folder, path)
}

fn entries_of(backend: Backend, path: &Path) -> Vec<ipns_store::Entries> {
    contents(&backend.open(path).unwrap()).unwrap()
}

#[test]
fn a_check_counts_and_changes_nothing() {
    for backend in disks() {
        let (_folder, path) = filled(backend);
        let before = Files::read(&path);
        let mut seen = 0;
        let report = check(backend, &path, || seen += 1).unwrap();
        assert!(Files::read(&path) == before, "{backend}: it was touched");
        assert_eq!((report.schema_version, report.problems.len(), seen), (2, 0, 604));
        let counted = |table| report.tables.iter().find(|found| found.table == table).unwrap();
        assert_eq!((counted(Table::Own).entries, counted(Table::Records).entries), (1, 2));
        assert_eq!((counted(Table::Peers).entries, counted(Table::Peers).bytes), (600, 600 * 3_004));
        assert_eq!(report.tables.len(), Table::ALL.len());
    }
}

#[test]
fn a_check_says_what_is_wrong() {
    for backend in disks() {
        let (folder, path) = filled(backend);
        let mut store = backend.open(&path).unwrap();
        let anothers = Write { key: own(2, 1, "/ipfs/bafkqaaa").key, ..own(3, 1, "/ipfs/bafkqaaa") };
        store.commit(&[put(Table::Records, b"nonsense", b"nonsense"), anothers]).unwrap();
        // While it is open it cannot be checked.
        assert_eq!(check(backend, &path, || ()).unwrap_err().code(), "store_locked");
        drop(store);
        let problems = check(backend, &path, || ()).unwrap().problems;
        assert_eq!(problems.iter().map(|problem| problem.table).collect::<Vec<_>>(), [Table::Own, Table::Records]);
        assert!(problems[0].reason.contains("its record is not valid"), "{}", problems[0].reason);
        assert_eq!(check(backend, &folder.path().join("absent"), || ()).unwrap_err().code(), "store_io");
    }
}

#[test]
fn a_check_of_an_older_schema_does_not_migrate_it() {
    let (_folder, path) = place(Backend::Redb);
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ipns");
    let write = own(1, 5, "/ipfs/bafkqaaa");
    let key = [b"own\0", &write.key[..]].concat();
    transaction.open_table(table).unwrap().insert(&key[..], &write.value.unwrap()[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = Files::read(&path);
    let report = check(Backend::Redb, &path, || ()).unwrap();
    assert!(Files::read(&path) == before);
    assert_eq!((report.schema_version, report.tables[0].entries, report.problems.len()), (1, 1, 0));
    // What is copied from it has the current schema.
    let (_folder, new) = place(Backend::Redb);
    let file = new.with_extension("export");
    assert_eq!(export(Backend::Redb, &path, &file, || ()).unwrap(), 1);
    assert!(Files::read(&path) == before);
    let mut store = RedbStore::open(&new).map(AnyStore::Redb).unwrap();
    import(&mut store, &file, false, || ()).unwrap();
    assert_eq!((store.schema_version().unwrap(), store.scan(Table::Own, None, 9).unwrap().len()), (2, 1));
}

#[test]
fn what_is_exported_is_imported_into_any_store() {
    for from in disks() {
        let (folder, path) = filled(from);
        let expected = entries_of(from, &path);
        let before = Files::read(&path);
        let file = folder.path().join("export");
        assert_eq!(export(from, &path, &file, || ()).unwrap(), 604);
        assert!(Files::read(&path) == before, "{from}: it was touched");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap()) & 0o777, 0o600);
        // Nothing is written over.
        assert!(export(from, &path, &file, || ()).unwrap_err().to_string().contains("choose another"));
        for to in disks().into_iter().chain([Backend::Memory]) {
            let mut store = to.open(folder.path().join(format!("new-{to}"))).unwrap();
            let imported = import(&mut store, &file, false, || ()).unwrap();
            assert_eq!((imported.taken, imported.kept), (604, 0));
            assert_eq!(contents(&store).unwrap(), expected, "{from} to {to}");
            let again = import(&mut store, &file, false, || ()).unwrap();
            assert_eq!((again.taken, again.kept), (0, 604));
        }
    }
}

#[test]
fn an_import_never_takes_a_name_back_unless_forced() {
    let (folder, path) = filled(Backend::Redb);
    let file = folder.path().join("export");
    export(Backend::Redb, &path, &file, || ()).unwrap();
    let with = |writes: &[Write]| {
        let mut store = Backend::Memory.open("").unwrap();
        store.commit(writes).unwrap();
        store
    };
    // The file has sequence 5, the store a higher one or the same with another value.
    for here in [own(1, 6, "/ipfs/bafkqaaa"), own(1, 5, "/ipfs/bafkqaaa/other")] {
        let mut store = with(&[here.clone(), known(2, 9), put(Table::Meta, b"fact", b"false")]);
        let before = contents(&store).unwrap();
        let error = import(&mut store, &file, false, || ()).unwrap_err();
        assert!(matches!(error, ImportError::Newer { there: 5, .. }) && error.code() == "import_newer", "{error}");
        assert_eq!(contents(&store).unwrap(), before);

        import(&mut store, &file, true, || ()).unwrap();
        assert_eq!(store.get(Table::Own, &here.key).unwrap(), own(1, 5, "/ipfs/bafkqaaa").value);
        assert_eq!(store.get(Table::Meta, b"fact").unwrap().unwrap(), b"true");
        // What is known of others never goes back.
        assert_eq!(sequence(&store, &known(2, 9)), 9);
    }
    // It goes forward, and the rest stays as it is.
    let mut store = with(&[own(1, 4, "/ipfs/bafkqaaa/other"), known(2, 1), put(Table::Meta, b"fact", b"false")]);
    import(&mut store, &file, false, || ()).unwrap();
    assert_eq!((sequence(&store, &own(1, 0, "/ipfs/bafkqaaa")), sequence(&store, &known(2, 0))), (5, 7));
    assert_eq!(store.get(Table::Meta, b"fact").unwrap().unwrap(), b"false");
}

#[test]
fn a_damaged_or_foreign_file_changes_nothing() {
    let (folder, path) = filled(Backend::Redb);
    let file = folder.path().join("export");
    export(Backend::Redb, &path, &file, || ()).unwrap();
    let sound = fs::read(&file).unwrap();
    let mut store = Backend::Memory.open("").unwrap();
    let mut refused = |bytes: &[u8], code: &str| {
        fs::write(&file, bytes).unwrap();
        assert_eq!(import(&mut store, &file, true, || ()).unwrap_err().code(), code);
        assert!(contents(&store).unwrap().iter().all(Vec::is_empty));
    };
    for byte in (16..sound.len()).step_by(sound.len() / 61) {
        let mut damaged = sound.clone();
        damaged[byte] ^= 4;
        let code = if byte < 28 { "store_too_new" } else { "store_corrupt" };
        refused(&damaged, code);
        refused(&sound[..byte], "store_corrupt");
    }
    refused(b"", "store_foreign");
    refused(b"SQLite format 3\0", "store_foreign");
    assert_eq!(import(&mut store, folder.path(), false, || ()).unwrap_err().code(), "store_io");

    // An own name that is not valid is not imported, whoever computed the checksum.
    let mut bad = Backend::Redb.open(folder.path().join("bad")).unwrap();
    bad.commit(&[put(Table::Own, b"nonsense", b"nonsense")]).unwrap();
    drop(bad);
    let file = folder.path().join("export-2");
    export(Backend::Redb, &folder.path().join("bad"), &file, || ()).unwrap();
    let error = import(&mut store, &file, true, || ()).unwrap_err();
    assert!(error.code() == "store_corrupt" && error.to_string().contains("own name"), "{error}");
}

#[test]
fn a_copy_is_whole_or_not_there() {
    for from in disks() {
        let (folder, path) = filled(from);
        let store = from.open(&path).unwrap();
        for to in disks() {
            let target = folder.path().join(format!("copy-{to}"));
            assert_eq!(copy(&store, to, &target, || ()).unwrap(), 604);
            assert_eq!(entries_of(to, &target), contents(&store).unwrap());
            let before = Files::read(&target);
            let error = copy(&store, to, &target, || ()).unwrap_err();
            assert!(error.to_string().contains("something in the place"), "{error}");
            assert!(Files::read(&target) == before);
            // Stopped in the midst, it leaves nothing.
            let target = folder.path().join(format!("half-{to}"));
            let listing = || fs::read_dir(folder.path()).unwrap().count();
            let before = listing();
            let mut left = 300;
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                copy(&store, to, &target, || {
                    left -= 1;
                    assert!(left > 0, "stopped");
                })
            }));
            assert!(stopped.is_err() && !target.exists());
            assert_eq!(listing(), before);
        }
    }
}

#[test]
fn a_migrated_store_has_everything_and_the_old_one_is_kept() {
    for from in disks() {
        for to in disks().into_iter().filter(|to| *to != from) {
            let (folder, path) = filled(from);
            let expected = entries_of(from, &path);
            let before = Files::read(&path);
            let migrated = migrate(folder.path(), from, to, || ()).unwrap();
            assert_eq!((migrated.entries, &migrated.path), (604, &to.place_in(folder.path()).unwrap()));
            assert!(!path.exists() && Files::read(&migrated.old) == before, "{from}: it was changed");
            assert_eq!(entries_of(to, &migrated.path), expected);
            assert_eq!(entries_of(from, &migrated.old), expected);
            // Broken off before the old one was renamed, it is ended later.
            let before = Files::read(&migrated.old);
            fs::rename(&migrated.old, &path).unwrap();
            assert_eq!(migrate(folder.path(), from, to, || ()).unwrap_err().code(), "store_io");
            assert_eq!(finish_migration(folder.path(), from, to, || ()).unwrap(), Some(migrated.clone()));
            assert!(!path.exists() && Files::read(&migrated.old) == before, "{from}: it was changed");
            // But not once anything was written to one of them.
            let (new, old) = (Path::new(&migrated.path), Path::new(&migrated.old));
            fs::rename(old, &path).unwrap();
            to.open(new).unwrap().commit(&[known(9, 1)]).unwrap();
            assert_eq!(finish_migration(folder.path(), from, to, || ()).unwrap(), None);
            assert!(path.exists() && new.exists());
            fs::rename(&path, old).unwrap();
            let expected = entries_of(to, new);
            // And back again, with another name for what is then old.
            let back = migrate(folder.path(), to, from, || ()).unwrap();
            assert_eq!(entries_of(from, &back.path), expected);
            let again = migrate(folder.path(), from, to, || ()).unwrap();
            assert_ne!(again.old, migrated.old);
        }
        let (folder, path) = filled(from);
        assert_eq!(migrate(folder.path(), from, Backend::Memory, || ()).unwrap_err().code(), "store_io");
        assert!(path.exists());
    }
}
