//! Publishes and reads a second of each kind of store, in one run on one disk.
//!
//! A publish is what an engine commits for one: an entry of an own name and its record, on the disk before the next.
//! `cargo bench -p ipns-store --bench stores [--features rocksdb] [-- FOLDER]`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that shows a table")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipns_core::engine::{StoredOwn, StoredRecord};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::{Name, Timestamp};
use ipns_store::{AnyStore, Backend, Store, Table, Write};
use prost::Message;

const NAMES: usize = 1_000;
const TIME: Duration = Duration::from_secs(5);

fn main() {
    let folder = std::env::args_os().skip(1).map(PathBuf::from).find(|folder| folder.is_dir());
    let folder = folder.unwrap_or_else(std::env::temp_dir);
    let place = tempfile::tempdir_in(folder).unwrap();
    let profile = if cfg!(debug_assertions) { "unoptimised" } else { "release" };
    println!("{profile}, {NAMES} names, {TIME:?} each, on {}", place.path().display());
    println!("{:<8}  {:>12}  {:>10}  {:>10}", "store", "publishes/s", "median", "reads/s");
    let publishes: Vec<[Write; 2]> = (0..NAMES).map(publish).collect();
    for backend in Backend::ALL.into_iter().filter(|backend| backend.is_built_in()) {
        let mut store = backend.open(place.path().join(backend.as_str())).unwrap();
        let (rate, median) = commits(&mut store, &publishes);
        println!("{:<8}  {rate:>12.0}  {median:>10.1?}  {:>10.0}", backend.as_str(), reads(&store, &publishes));
    }
}

fn commits(store: &mut AnyStore, publishes: &[[Write; 2]]) -> (f64, Duration) {
    for chunk in publishes.chunks(100) {
        store.commit(&chunk.concat()).unwrap();
    }
    let mut took = Vec::new();
    let begun = Instant::now();
    for batch in publishes.iter().cycle() {
        let one = Instant::now();
        store.commit(batch).unwrap();
        took.push(one.elapsed());
        if begun.elapsed() > TIME {
            break;
        }
    }
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    (rate, took[took.len() / 2])
}

fn reads(store: &AnyStore, publishes: &[[Write; 2]]) -> f64 {
    let mut count = 0_u32;
    let begun = Instant::now();
    for [_, record] in publishes.iter().cycle() {
        assert!(store.get(record.table, &record.key).unwrap().is_some());
        count += 1;
        if begun.elapsed() > TIME / 5 {
            break;
        }
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// What an engine writes to publish one name.
fn publish(index: usize) -> [Write; 2] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
    let key = SecretKey::generate(KeyType::Ed25519, seed, 0).unwrap();
    let value = "/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi".parse().unwrap();
    let record = RecordBuilder::new(value, 7, Timestamp::from_unix_secs(4_000_000_000)).sign(&key).unwrap();
    let name: Name = key.public_key().to_name();
    let record = record.as_bytes().clone();
    let own =
        StoredOwn { record: record.clone(), lifetime_ns: 1 << 50, last_sent: 1 << 30, acks: 1, ..Default::default() };
    let known = StoredRecord { record, received: 1 << 30 };
    let write = |table, value| Write { table, key: name.to_bytes(), value: Some(value) };
    [write(Table::Own, own.encode_to_vec()), write(Table::Records, known.encode_to_vec())]
}
