//! A damaged store is reported, or what is read from it is right. It never panics and it never loses anything.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::{Path, PathBuf};

use ipns_store::{Backend, Entries, Store, StoreError, Table, Write};

use support::{Files, contents, disks, put};

/// A store with a history, as it is after it was closed and as it would be after a crash.
fn stores(backend: Backend, folder: &Path) -> [(String, Files); 2] {
    let path = folder.join("original");
    let mut store = backend.open(&path).unwrap();
    for round in 0..3_u8 {
        let batch: Vec<Write> = (0..60)
            .map(|key| Write {
                table: Table::ALL[usize::from(key % 3)],
                key: vec![key; 40],
                value: (round == 2 || key % 5 > 0).then(|| vec![key ^ round; usize::from(key) * 20]),
            })
            .collect();
        store.commit(&batch).unwrap();
        // RocksDB puts what is old into other files than what is new.
        if backend == Backend::RocksDb && round == 1 {
            store.compact().unwrap();
        }
    }
    let crashed = Files::read(&path);
    drop(store);
    let closed = Files::read(&path);
    [(format!("{backend}, closed"), closed), (format!("{backend}, crashed"), crashed)]
}

struct Examiner {
    backend: Backend,
    path: PathBuf,
    expected: Vec<Entries>,
    found_damage: usize,
    found_right: usize,
}

impl Examiner {
    fn new(backend: Backend, folder: &Path, sound: &Files) -> Self {
        let path = folder.join("damaged");
        sound.write(&path);
        let expected = contents(&backend.open(&path).unwrap()).unwrap();
        assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), 60);
        Self { backend, path, expected, found_damage: 0, found_right: 0 }
    }

    /// Puts `bytes` in the place of a file of `sound`, and looks what becomes of it.
    fn examine(&mut self, sound: &Files, file: &Path, bytes: Vec<u8>, how: &str) {
        let mut damaged = sound.clone();
        damaged.0.insert(file.to_owned(), bytes);
        self.examine_files(&damaged, &format!("{} {how}", file.display()));
    }

    fn examine_files(&mut self, damaged: &Files, how: &str) {
        damaged.write(&self.path);
        match self.backend.open(&self.path) {
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Foreign { .. }), "{how}: {error}");
                assert!(Files::read(&self.path) == *damaged, "{how}: it was touched");
                self.found_damage += 1;
            }
            Ok(mut store) => {
                assert!(contents(&store).unwrap() == self.expected, "{how}: wrong contents");
                // A sound store can also be written to; to try it each time would take long.
                if self.found_right.is_multiple_of(10) {
                    let write = put(Table::Meta, b"more", &[1; 5_000]);
                    store.commit(std::slice::from_ref(&write)).unwrap();
                    drop(store);
                    let store = self.backend.open(&self.path).unwrap();
                    assert_eq!(store.get(Table::Meta, b"more").unwrap(), write.value, "{how}");
                }
                self.found_right += 1;
            }
        }
    }
}

#[test]
fn a_truncated_store_is_damaged() {
    for backend in disks() {
        let folder = tempfile::tempdir().unwrap();
        for (state, sound) in stores(backend, folder.path()) {
            let mut examiner = Examiner::new(backend, folder.path(), &sound);
            for (file, bytes) in &sound.0 {
                let near_the_start = [0, 1, 8, 9, 10, 63, 64, 200, 319, 320, 321];
                let near_the_end = [1, 2, 7, 8, 31, 4_095, 4_096].map(|cut| bytes.len().saturating_sub(cut));
                let pages = (1..bytes.len() / 4_096).map(|page| page * 4_096);
                let odd = (0..16).map(|part| bytes.len() * part / 16 + 7);
                let lengths = near_the_start.into_iter().chain(near_the_end).chain(pages).chain(odd);
                for len in lengths.filter(|len| *len < bytes.len()) {
                    examiner.examine(&sound, file, bytes[..len].to_vec(), &format!("{state}, cut to {len}"));
                }
            }
            assert!(examiner.found_damage > examiner.found_right, "{state}");
        }
    }
}

#[test]
fn flipped_bits_are_found_or_do_no_harm() {
    for backend in disks() {
        let folder = tempfile::tempdir().unwrap();
        for (state, sound) in stores(backend, folder.path()) {
            let mut examiner = Examiner::new(backend, folder.path(), &sound);
            for (file, bytes) in &sound.0 {
                // A bit of each byte of redb's header, all those of its flags, and the rest in steps that are prime to
                // the page size. RocksDB has a dozen files and takes long to open.
                let step = if backend == Backend::RocksDb { 13 } else { 1 };
                let flags = (0..8).map(|bit| (9, 1_u8 << bit));
                let rest = (320..bytes.len()).step_by(769);
                let bits = (0..320).step_by(step).chain(rest).map(|byte| (byte, 1_u8 << (byte % 8)));
                // The one bit that names the newer of redb's two commit slots is nowhere repeated. Flipped after a
                // crash, it is what a crash just before the end of the last commit leaves, and the commit before
                // counts.
                let unknowable = (backend == Backend::Redb && state.ends_with("crashed")).then_some((9, 1));
                let flips = flags.chain(bits).filter(|flip| flip.0 < bytes.len() && Some(*flip) != unknowable);
                for (byte, bit) in flips {
                    let mut damaged = bytes.clone();
                    damaged[byte] ^= bit;
                    examiner.examine(&sound, file, damaged, &format!("{state}, byte {byte} xor {bit:#04x}"));
                }
            }
            assert!(examiner.found_damage > 50 && examiner.found_right > 50, "{state}");
        }
    }
}

#[test]
fn a_page_of_zeros_or_of_another_place_is_found_or_does_no_harm() {
    for backend in disks() {
        let folder = tempfile::tempdir().unwrap();
        for (state, sound) in stores(backend, folder.path()) {
            let mut examiner = Examiner::new(backend, folder.path(), &sound);
            for (file, bytes) in &sound.0 {
                let pages = bytes.len() / 4_096;
                for page in 0..pages {
                    let range = page * 4_096..(page + 1) * 4_096;
                    let mut damaged = bytes.clone();
                    damaged[range.clone()].fill(0);
                    examiner.examine(&sound, file, damaged.clone(), &format!("{state}, page {page} zeroed"));
                    let other = (page + 1) % pages * 4_096;
                    damaged[range].copy_from_slice(&bytes[other..other + 4_096]);
                    examiner.examine(&sound, file, damaged, &format!("{state}, page {page} overwritten"));
                }
            }
            assert!(examiner.found_damage > 3, "{state}");
        }
    }
}

#[test]
fn a_store_without_one_of_its_files_is_damaged_or_does_without_it() {
    for backend in disks() {
        let folder = tempfile::tempdir().unwrap();
        for (state, sound) in stores(backend, folder.path()) {
            let mut examiner = Examiner::new(backend, folder.path(), &sound);
            for file in sound.0.keys().filter(|file| !file.as_os_str().is_empty()) {
                let mut damaged = sound.clone();
                damaged.0.remove(file);
                examiner.examine_files(&damaged, &format!("{state}, without {}", file.display()));
            }
        }
    }
}
