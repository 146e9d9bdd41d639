//! A process that is killed while it commits loses nothing of what it was told is committed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]
#![cfg(unix)]

use std::env;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ipns_store::{AnyStore, Backend, Store, StoreError, Table, Write};

const ROUNDS: u64 = 20;
const STORE: &str = "IPNS_STORE_KILL_TEST";
const COMMITTED: &str = "committed ";

/// Not a test of its own: what the child runs, which is this same program with [`STORE`] set.
#[test]
fn child() {
    let Ok(orders) = env::var(STORE) else { return };
    let (backend, path) = orders.split_once('\n').unwrap();
    let mut store = backend.parse::<Backend>().unwrap().open(path).unwrap();
    let start = counter(&store);
    for count in start + 1.. {
        let text = count.to_be_bytes().to_vec();
        let put = |table, key: &[u8], value| Write { table, key: key.to_vec(), value: Some(value) };
        // One commit over two tables, with a value that makes the file grow and pages change hands.
        let size = usize::try_from(count * 7_919 % 60_000).unwrap();
        store
            .commit(&[
                put(Table::Meta, b"counter", text.clone()),
                put(Table::Records, &(count % 50).to_be_bytes(), vec![text[7]; size]),
                put(Table::Own, b"counter", text),
            ])
            .unwrap();
        // Past the test harness, which would keep the output of a test to itself.
        let mut out = io::stdout().lock();
        writeln!(out, "{COMMITTED}{count}").unwrap();
        out.flush().unwrap();
    }
}

fn counter(store: &AnyStore) -> u64 {
    let read = |table| store.get(table, b"counter").unwrap();
    assert_eq!(read(Table::Meta), read(Table::Own), "half a batch");
    read(Table::Own).map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
}

fn start(backend: Backend, path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(STORE, format!("{backend}\n{}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The next counter that the child reports, or `None` at the end of its output.
fn next_committed(lines: &mut impl BufRead) -> Option<u64> {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The harness may have begun the line.
        if let (Some((_, count)), true) = (line.split_once(COMMITTED), line.ends_with('\n')) {
            return Some(count.trim_end().parse().unwrap());
        }
        line.clear();
    }
    None
}

#[test]
fn nothing_committed_to_redb_is_lost_to_a_kill() {
    nothing_committed_is_lost_to_a_kill(Backend::Redb);
}

#[cfg(feature = "rocksdb")]
#[test]
fn nothing_committed_to_rocksdb_is_lost_to_a_kill() {
    nothing_committed_is_lost_to_a_kill(Backend::RocksDb);
}

fn nothing_committed_is_lost_to_a_kill(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut random = u64::from(std::process::id());
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut survived = 0;
    for round in 0..ROUNDS {
        let (mut child, mut lines) = start(backend, &path);
        let mut reported = survived;
        // The first rounds kill while the store is created or opened, the others while it commits.
        let wait_for = if round < 4 { 0 } else { 1 + next(30) };
        for _ in 0..wait_for {
            reported = next_committed(&mut lines).expect("the child ended by itself");
        }
        if round == 4 {
            assert!(matches!(backend.open(&path), Err(StoreError::Locked { .. })));
        }
        // Spread the kill over the phases of a commit; nothing depends on how long this takes.
        let moment = Instant::now() + Duration::from_micros(next(4_000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself");
        while let Some(count) = next_committed(&mut lines) {
            reported = count;
        }

        let store = backend.open(&path).unwrap();
        survived = counter(&store);
        assert!(survived >= reported, "round {round}: {reported} was committed, {survived} is left");
        // At most the one commit whose report was under way.
        assert!(survived <= reported + 1, "round {round}: {reported} was committed, {survived} is there");
        for (_, value) in store.scan(Table::Records, None, usize::MAX).unwrap() {
            assert!(value.iter().all(|byte| *byte == value[0]));
        }
    }
    assert!(survived > ROUNDS, "hardly anything was committed: {survived}");
}
