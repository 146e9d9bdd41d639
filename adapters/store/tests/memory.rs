//! What the store in memory does beyond what every store does.

use ipns_store::{MemoryStore, Store, StoreError, Table, Write};

fn put(key: &[u8]) -> Write {
    Write { table: Table::Own, key: key.to_vec(), value: Some(b"value".to_vec()) }
}

#[test]
fn clones_share_their_contents() {
    let mut first = MemoryStore::new();
    let second = first.clone();
    first.commit(&[put(b"key")]).unwrap();
    drop(first);
    assert_eq!(second.get(Table::Own, b"key").unwrap().unwrap(), b"value");
    assert_eq!(MemoryStore::new().get(Table::Own, b"key").unwrap(), None);
}

#[test]
fn commits_fail_while_told_to() {
    let mut store = MemoryStore::new();
    let full = StoreError::Full { path: "disk".to_owned() };
    let handle = store.clone();
    handle.fail_commits(Some(full.clone()));
    assert_eq!(store.commit(&[put(b"a")]), Err(full.clone()));
    assert_eq!(store.commit(&[put(b"a")]), Err(full));
    assert_eq!(store.get(Table::Own, b"a").unwrap(), None);
    handle.fail_commits(None);
    store.commit(&[put(b"b")]).unwrap();
    assert_eq!(store.scan(Table::Own, None, 9).unwrap().len(), 1);
}
