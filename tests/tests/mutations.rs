//! Random and changed bytes: `ipns inspect` never panics, and no changed byte is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use ipns_core::record::{Checks, Inspection};
use ipns_core::{Name, Verified};
use ipns_server::{Failure, exit, report};
use ipns_tests::vectors::{self, Row};
use ipns_tests::wire::{self, number};
use proptest::prelude::*;

/// How many inputs `inspect` gets; `IPNS_MUTATIONS` says otherwise.
const INPUTS: u64 = 1_000_000;

/// SplitMix64: a test that fails must fail again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }
}

/// An input: the bytes of a vector changed a little, of two vectors put together, or of no vector at all.
fn input(random: &mut Random, rows: &[(Vec<u8>, Name)]) -> (Vec<u8>, Option<Name>) {
    let (bytes, name) = &rows[random.below(rows.len())];
    let mut bytes = bytes.clone();
    match random.below(8) {
        0 => {
            let size = random.below(200);
            bytes = random.bytes(size);
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let other = &rows[random.below(rows.len())].0;
            bytes.truncate(random.below(bytes.len()));
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        3 => {
            let (at, size) = (random.below(bytes.len()), random.below(9));
            let inserted = random.bytes(size);
            bytes.splice(at..at, inserted);
        }
        4 => {
            let (from, size) = (random.below(bytes.len()), random.below(9));
            let to = bytes.len().min(from + size);
            bytes.drain(from..to);
        }
        // Only the data, which is behind two doors: the signature is wrong then, but everything before it runs.
        5 | 6 => {
            if let Some(data) = wire::field(&bytes, number::DATA).filter(|data| !data.content.is_empty()) {
                let at = data.content.start + random.below(data.content.len());
                bytes[at] = random.next() as u8;
            }
        }
        _ => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    let name = match random.below(4) {
        0 => None,
        1 => Some(rows[random.below(rows.len())].1),
        _ => Some(*name),
    };
    (bytes, name)
}

/// What `ipns inspect` does between reading its file and ending.
fn inspect(bytes: &[u8], name: Option<&Name>, checks: &Checks) -> u8 {
    let found = Inspection::new(bytes.to_vec(), name, checks);
    let json = report::inspection(&found);
    assert_eq!(json["valid"], found.error.is_none());
    assert!(!json.to_string().is_empty());
    found.error.map_or(0, |error| Failure::from(error).exit)
}

#[test]
fn inspect_takes_a_million_inputs() {
    let inputs = std::env::var("IPNS_MUTATIONS").map_or(INPUTS, |count| count.parse().expect("a number"));
    let manifest = vectors::manifest();
    let rows: Vec<_> = manifest.iter().map(|row| (row.bytes(), row.name())).collect();
    let checks = Checks::at(manifest[0].at());
    let workers = thread::available_parallelism().map_or(1, |count| count.get()) as u64;
    let work = |worker: u64| {
        let mut random = Random(worker);
        let mut valid = 0;
        for _ in (worker..inputs).step_by(workers as usize) {
            let (bytes, name) = input(&mut random, &rows);
            match catch_unwind(AssertUnwindSafe(|| inspect(&bytes, name.as_ref(), &checks))) {
                Ok(0) => valid += 1,
                Ok(exit::INVALID) => {}
                Ok(other) => panic!("exit status {other} for {name:?} and {}", hex(&bytes)),
                Err(_) => panic!("panic for {name:?} and {}", hex(&bytes)),
            }
        }
        valid
    };
    let valid: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().map(|worker| worker.join().expect("see above")).sum()
    });
    // Changes of unsigned parts leave some valid: a test that sees none of them has stopped at the first door.
    assert!(valid > inputs / 1000 && valid < inputs / 4, "{valid} of {inputs} are valid");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn valid_rows() -> Vec<Row> {
    vectors::manifest().into_iter().filter(|row| row.expect.valid).collect()
}

fn verify(row: &Row, bytes: Vec<u8>) -> Option<Verified> {
    Checks::at(row.at()).verify(bytes, &row.name()).ok()
}

/// Fails when `changed` was believed although it says something else than `row`.
fn unharmed(row: &Row, changed: &[u8]) {
    let Some(read) = verify(row, changed.to_vec()) else { return };
    let made = verify(row, row.bytes()).expect("a valid row");
    let says = |record: &Verified| {
        let data = wire::content(record.as_bytes(), number::DATA).map(<[u8]>::to_vec);
        (data, record.value_bytes().to_vec(), record.sequence(), record.ttl(), record.eol(), record.metadata())
    };
    assert_eq!(says(&read), says(&made), "{}: {}", row.file, hex(changed));
}

/// The bytes of `row` that must all be refused when changed: what is signed, what signs it, the key, and beside a V1
/// signature or value the fields that must agree.
fn guarded(row: &Row, bytes: &[u8]) -> Vec<usize> {
    let v1 = [number::SIGNATURE_V1, number::VALUE];
    let has_v1 = v1.into_iter().any(|number| wire::content(bytes, number).is_some_and(|content| !content.is_empty()));
    let numbers = [number::DATA, number::SIGNATURE_V2, number::PUBLIC_KEY]
        .into_iter()
        .chain([number::VALUE, number::VALIDITY].into_iter().filter(|_| has_v1));
    let found: Vec<_> = numbers.filter_map(|number| wire::field(bytes, number)).flat_map(|one| one.content).collect();
    assert!(found.len() > 100, "{}", row.file);
    found
}

#[test]
fn no_changed_byte_is_believed() {
    for row in valid_rows() {
        let bytes = row.bytes();
        let guarded = guarded(&row, &bytes);
        // The large one is large with metadata: every 16th byte of it is enough.
        let step = if bytes.len() > 2000 { 16 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            if guarded.contains(&at) {
                assert_eq!(verify(&row, changed), None, "{} at {at}", row.file);
            } else {
                unharmed(&row, &changed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_change_is_believed(
        row in prop::sample::select(valid_rows()),
        at in any::<prop::sample::Index>(),
        removed in 0..4_usize,
        inserted in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut changed = row.bytes();
        let at = at.index(changed.len());
        let end = changed.len().min(at + removed);
        changed.splice(at..end, inserted);
        unharmed(&row, &changed);
    }
}
