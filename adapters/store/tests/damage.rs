//! A damaged store is reported, or what is read from it is right. It never panics and it never loses anything.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::Path;

use ipns_store::{Entries, RedbStore, Store, StoreError, Table, Write};

/// A store with a history, as it is after it was closed and as it would be after a crash.
fn stores(folder: &Path) -> [(&'static str, Vec<u8>); 2] {
    let path = folder.join("original");
    let mut store = RedbStore::open(&path).unwrap();
    for round in 0..3_u8 {
        let batch: Vec<Write> = (0..60)
            .map(|key| Write {
                table: Table::ALL[usize::from(key % 3)],
                key: vec![key; 40],
                value: (round == 2 || key % 5 > 0).then(|| vec![key ^ round; usize::from(key) * 20]),
            })
            .collect();
        store.commit(&batch).unwrap();
    }
    let crashed = fs::read(&path).unwrap();
    drop(store);
    [("closed", fs::read(&path).unwrap()), ("crashed", crashed)]
}

fn contents(store: &RedbStore) -> Result<Vec<Entries>, StoreError> {
    Table::ALL.iter().map(|table| store.scan(*table, None, usize::MAX)).collect()
}

struct Examiner {
    path: std::path::PathBuf,
    expected: Vec<Entries>,
    found_damage: usize,
    found_right: usize,
}

impl Examiner {
    fn new(folder: &Path, sound: &[u8]) -> Self {
        let path = folder.join("damaged");
        fs::write(&path, sound).unwrap();
        let expected = contents(&RedbStore::open(&path).unwrap()).unwrap();
        assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), 60);
        Self { path, expected, found_damage: 0, found_right: 0 }
    }

    fn examine(&mut self, damaged: &[u8], how: &str) {
        fs::write(&self.path, damaged).unwrap();
        match RedbStore::open(&self.path) {
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Foreign { .. }), "{how}: {error}");
                assert!(fs::read(&self.path).unwrap() == damaged, "{how}: the file was touched");
                self.found_damage += 1;
            }
            Ok(mut store) => {
                assert!(contents(&store).unwrap() == self.expected, "{how}: wrong contents");
                // A sound store can also be written to; to try it each time would take long.
                if self.found_right.is_multiple_of(10) {
                    let write = Write { table: Table::Meta, key: b"more".to_vec(), value: Some(vec![1; 5_000]) };
                    store.commit(std::slice::from_ref(&write)).unwrap();
                    drop(store);
                    let store = RedbStore::open(&self.path).unwrap();
                    assert_eq!(store.get(Table::Meta, b"more").unwrap(), write.value, "{how}");
                }
                self.found_right += 1;
            }
        }
    }
}

#[test]
fn a_truncated_store_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for (state, sound) in stores(folder.path()) {
        let mut examiner = Examiner::new(folder.path(), &sound);
        let near_the_start = [0, 1, 8, 9, 10, 63, 64, 200, 319, 320, 321];
        let near_the_end = [1, 2, 4_095, 4_096].map(|cut| sound.len() - cut);
        let pages = (1..sound.len() / 4_096).map(|page| page * 4_096);
        let odd = (0..16).map(|part| sound.len() * part / 16 + 7);
        for len in near_the_start.into_iter().chain(near_the_end).chain(pages).chain(odd) {
            examiner.examine(&sound[..len], &format!("{state}, cut to {len}"));
        }
        assert!(examiner.found_damage > examiner.found_right, "{state}");
    }
}

#[test]
fn flipped_bits_are_found_or_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    for (state, sound) in stores(folder.path()) {
        let mut examiner = Examiner::new(folder.path(), &sound);
        // A bit of each byte of redb's header, all those of its flags, and the rest in steps that are prime to the
        // page size.
        let flags = (0..8).map(|bit| (9, 1_u8 << bit));
        let bytes = (0..320).chain((320..sound.len()).step_by(769)).map(|byte| (byte, 1_u8 << (byte % 8)));
        // The one bit that names the newer of the two commit slots is nowhere repeated. Flipped after a crash, it is
        // what a crash just before the end of the last commit leaves, and the commit before counts.
        let unknowable = (state == "crashed").then_some((9, 1));
        for (byte, bit) in flags.chain(bytes).filter(|flip| Some(*flip) != unknowable) {
            let mut damaged = sound.clone();
            damaged[byte] ^= bit;
            examiner.examine(&damaged, &format!("{state}, byte {byte} xor {bit:#04x}"));
        }
        assert!(examiner.found_damage > 50 && examiner.found_right > 50, "{state}");
    }
}

#[test]
fn a_page_of_zeros_or_of_another_place_is_found_or_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    for (state, sound) in stores(folder.path()) {
        let mut examiner = Examiner::new(folder.path(), &sound);
        let pages = sound.len() / 4_096;
        for page in 0..pages {
            let range = page * 4_096..(page + 1) * 4_096;
            let mut damaged = sound.clone();
            damaged[range.clone()].fill(0);
            examiner.examine(&damaged, &format!("{state}, page {page} zeroed"));
            let other = (page + 1) % pages * 4_096;
            damaged[range].copy_from_slice(&sound[other..other + 4_096]);
            examiner.examine(&damaged, &format!("{state}, page {page} overwritten"));
        }
        assert!(examiner.found_damage > 3, "{state}");
    }
}
