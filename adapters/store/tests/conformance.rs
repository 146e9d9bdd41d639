//! What every store must do, run against each of ours.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeMap;

use ipns_core::store::{Entries, MAX_KEY_BYTES, MAX_VALUE_BYTES, Store, StoreError, Table, Write};
#[cfg(feature = "rocksdb")]
use ipns_store::RocksStore;
use ipns_store::{Backend, MemoryStore, RedbStore};

/// Runs the suite against a store: `$open` gives something that keeps the store's place alive, and the store, empty.
macro_rules! conformance {
    ($store:ident, $open:expr) => {
        conformance!($store, $open;
            an_empty_store_has_nothing,
            a_commit_is_read_back,
            scans_are_in_key_order_and_in_pages,
            tables_are_apart,
            a_batch_is_applied_in_order,
            a_batch_is_all_or_nothing,
            limits_are_exact,
            large_batches_are_kept,
            random_batches_match_a_model,
        );
    };
    ($store:ident, $open:expr; $($case:ident),* $(,)?) => {
        mod $store {
            use super::*;
            $(
                #[test]
                fn $case() {
                    let (_place, mut store) = $open;
                    super::$case(&mut store);
                }
            )*
        }
    };
}

conformance!(memory, ((), MemoryStore::new()));
conformance!(redb_file, {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::open(folder.path().join("store")).unwrap();
    (folder, store)
});

conformance!(any_memory, ((), Backend::Memory.open("").unwrap()));
#[cfg(feature = "rocksdb")]
conformance!(rocksdb_folder, {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path().join("store")).unwrap();
    (folder, store)
});

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn remove(table: Table, key: &[u8]) -> Write {
    Write { table, key: key.to_vec(), value: None }
}

fn entries(pairs: &[(&[u8], &[u8])]) -> Entries {
    pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn all(store: &impl Store, table: Table) -> Entries {
    store.scan(table, None, usize::MAX).unwrap()
}

fn an_empty_store_has_nothing(store: &mut impl Store) {
    for table in Table::ALL {
        assert_eq!(store.get(table, b"key").unwrap(), None);
        assert_eq!(store.get(table, b"").unwrap(), None);
        assert_eq!(all(store, table), entries(&[]));
        assert_eq!(store.scan(table, Some(b"key"), 10).unwrap(), entries(&[]));
    }
    store.commit(&[]).unwrap();
    store.commit(&[remove(Table::Own, b"absent")]).unwrap();
    assert_eq!(all(store, Table::Own), entries(&[]));
}

fn a_commit_is_read_back(store: &mut impl Store) {
    store
        .commit(&[put(Table::Own, b"a", b"1"), put(Table::Own, b"", b"empty key"), put(Table::Own, b"b", b"")])
        .unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap().unwrap(), b"1");
    assert_eq!(store.get(Table::Own, b"").unwrap().unwrap(), b"empty key");
    assert_eq!(store.get(Table::Own, b"b").unwrap().unwrap(), b"");
    assert_eq!(store.get(Table::Own, b"c").unwrap(), None);
    // A key that no store can have.
    assert_eq!(store.get(Table::Own, &[0; MAX_KEY_BYTES + 1]).unwrap(), None);

    store.commit(&[put(Table::Own, b"a", b"2")]).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap().unwrap(), b"2");
    store.commit(&[remove(Table::Own, b"a")]).unwrap();
    assert_eq!(store.get(Table::Own, b"a").unwrap(), None);
    assert_eq!(all(store, Table::Own), entries(&[(b"", b"empty key"), (b"b", b"")]));
}

fn scans_are_in_key_order_and_in_pages(store: &mut impl Store) {
    // Bytes compare unsigned, and a prefix comes before what it begins.
    let sorted: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"aa", b"b", b"\xFF"];
    let mixed = [4, 7, 0, 2, 6, 1, 5, 3].map(|index| put(Table::Records, sorted[index], b"v"));
    store.commit(&mixed).unwrap();
    let expected = entries(&sorted.map(|key| (key, &b"v"[..])));
    assert_eq!(all(store, Table::Records), expected);

    assert_eq!(store.scan(Table::Records, None, 0).unwrap(), entries(&[]));
    assert_eq!(store.scan(Table::Records, Some(b""), 2).unwrap(), expected[1..3]);
    // After a key that is not there, the next that is.
    assert_eq!(store.scan(Table::Records, Some(b"a\x01"), 1).unwrap(), expected[5..6]);
    assert_eq!(store.scan(Table::Records, Some(b"\xFF"), 1).unwrap(), entries(&[]));
    for limit in 1..=9 {
        let mut pages: Entries = Vec::new();
        loop {
            let after = pages.last().map(|(key, _)| key.clone());
            let page = store.scan(Table::Records, after.as_deref(), limit).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, expected, "in pages of {limit}");
    }
}

fn tables_are_apart(store: &mut impl Store) {
    store.commit(&Table::ALL.map(|table| put(table, b"key", table.as_str().as_bytes()))).unwrap();
    for table in Table::ALL {
        assert_eq!(all(store, table), entries(&[(b"key", table.as_str().as_bytes())]));
    }
    store.commit(&[remove(Table::Records, b"key")]).unwrap();
    assert_eq!(store.get(Table::Records, b"key").unwrap(), None);
    assert!(store.get(Table::Own, b"key").unwrap().is_some());
    assert!(store.get(Table::Meta, b"key").unwrap().is_some());
}

fn a_batch_is_applied_in_order(store: &mut impl Store) {
    store
        .commit(&[
            put(Table::Own, b"a", b"1"),
            put(Table::Meta, b"a", b"other"),
            put(Table::Own, b"a", b"2"),
            put(Table::Own, b"b", b"1"),
            remove(Table::Own, b"b"),
            remove(Table::Own, b"c"),
            put(Table::Own, b"c", b"1"),
        ])
        .unwrap();
    assert_eq!(all(store, Table::Own), entries(&[(b"a", b"2"), (b"c", b"1")]));
    assert_eq!(all(store, Table::Meta), entries(&[(b"a", b"other")]));
}

fn a_batch_is_all_or_nothing(store: &mut impl Store) {
    store.commit(&[put(Table::Own, b"a", b"1")]).unwrap();
    let too_long = vec![0; MAX_VALUE_BYTES + 1];
    let batch = [
        put(Table::Own, b"a", b"2"),
        put(Table::Meta, b"b", b"2"),
        put(Table::Own, b"c", &too_long),
        remove(Table::Own, b"a"),
    ];
    assert!(store.commit(&batch).is_err());
    assert_eq!(all(store, Table::Own), entries(&[(b"a", b"1")]));
    assert_eq!(all(store, Table::Meta), entries(&[]));
}

fn limits_are_exact(store: &mut impl Store) {
    let (key, value) = (vec![7; MAX_KEY_BYTES], vec![8; MAX_VALUE_BYTES]);
    store.commit(&[put(Table::Own, &key, &value)]).unwrap();
    assert_eq!(all(store, Table::Own), [(key, value)]);

    let refused = [
        (put(Table::Own, &[7; MAX_KEY_BYTES + 1], b""), "key of 129 bytes"),
        (remove(Table::Own, &[7; MAX_KEY_BYTES + 1]), "key of 129 bytes"),
        (put(Table::Own, b"", &[8; MAX_VALUE_BYTES + 1]), "value of 65537 bytes"),
    ];
    for (write, words) in refused {
        let error = store.commit(&[write]).unwrap_err();
        assert!(matches!(&error, StoreError::TooLarge { .. }) && error.to_string().contains(words), "{error}");
    }
    assert_eq!(all(store, Table::Own).len(), 1);
}

fn large_batches_are_kept(store: &mut impl Store) {
    let value = |index: u32| vec![index.to_le_bytes()[0]; usize::try_from(index * 31 % 5_000).unwrap()];
    let batch: Vec<Write> =
        (0..2_000).map(|index: u32| put(Table::Records, &index.to_be_bytes(), &value(index))).collect();
    store.commit(&batch).unwrap();
    let found = all(store, Table::Records);
    assert_eq!(found.len(), 2_000);
    for (index, entry) in (0_u32..).zip(found) {
        assert_eq!(entry, (index.to_be_bytes().to_vec(), value(index)));
    }
    let batch: Vec<Write> = (0..2_000_u32).map(|index| remove(Table::Records, &index.to_be_bytes())).collect();
    store.commit(&batch).unwrap();
    assert_eq!(all(store, Table::Records), entries(&[]));
}

fn random_batches_match_a_model(store: &mut impl Store) {
    let mut random = 0x1234_5678_u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for _ in 0..40 {
        let batch: Vec<Write> = (0..next(20))
            .map(|_| {
                let table = Table::ALL[usize::try_from(next(6)).unwrap()];
                let key = next(30).to_be_bytes();
                if next(3) == 0 { remove(table, &key) } else { put(table, &key, &next(1_000).to_be_bytes()) }
            })
            .collect();
        store.commit(&batch).unwrap();
        for write in batch {
            match write.value {
                Some(value) => model.insert((write.table, write.key), value),
                None => model.remove(&(write.table, write.key)),
            };
        }
        for table in Table::ALL {
            let expected: Entries = model
                .iter()
                .filter(|((of, _), _)| *of == table)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(all(store, table), expected);
        }
    }
}
