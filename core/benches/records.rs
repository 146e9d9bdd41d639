//! What records cost, and what the same signatures cost with nothing but ed25519-dalek.
//!
//! `cargo bench -p ipns-core` ends with the ratios that we hold ourselves to, each measured with its two sides by turns;
//! `cargo bench -p ipns-core -- ratios` is those alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is a benchmark")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a benchmark reads the clock")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier, VerifyingKey};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::{Checks, Record, RecordBuilder, Version, select};
use ipns_core::{Name, Timestamp, Verified};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A value and an end of life as long as those of everyday records.
fn builder(sequence: u64, version: Version) -> RecordBuilder {
    let value = "/ipfs/bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui".parse().unwrap();
    let mut builder = RecordBuilder::new(value, sequence, "2126-01-31T15:56:12.714899293Z".parse().unwrap());
    builder.version = version;
    builder
}

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap()
}

/// Records of different keys, ready to verify.
fn records(count: usize) -> Vec<(Bytes, Name)> {
    (0..count)
        .map(|index| {
            let key = key(index as u8);
            let record = builder(index as u64, Version::V1AndV2).sign(&key).unwrap();
            (record.as_bytes().clone(), key.public_key().to_name())
        })
        .collect()
}

/// The same work without a record around it.
struct Raw {
    key: SigningKey,
    message_v2: Vec<u8>,
    message_v1: Vec<u8>,
    point: [u8; 32],
    signature: [u8; 64],
}

impl Raw {
    fn new() -> Self {
        let unsigned = builder(1, Version::V1AndV2).prepare(&key(1).public_key()).unwrap();
        let (key, message_v2) = (SigningKey::from_bytes(&[1; 32]), unsigned.message_v2());
        let (point, signature) = (key.verifying_key().to_bytes(), key.sign(&message_v2).to_bytes());
        Self { key, message_v2, message_v1: unsigned.message_v1().unwrap(), point, signature }
    }

    fn two_signs(&self) {
        black_box(self.key.sign(black_box(&self.message_v2)));
        black_box(self.key.sign(black_box(&self.message_v1)));
    }

    fn verify(&self) {
        let key = VerifyingKey::from_bytes(black_box(&self.point)).unwrap();
        let signature = Signature::from_bytes(black_box(&self.signature));
        key.verify(black_box(&self.message_v2), &signature).unwrap();
    }
}

fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("create");
    let (key, raw) = (key(1), Raw::new());
    for (label, version) in [("v1+v2", Version::V1AndV2), ("v2 only", Version::V2Only)] {
        let wanted = builder(1, version);
        group.bench_function(label, |b| b.iter(|| black_box(&wanted).clone().sign(&key).unwrap()));
    }
    group.bench_function("dalek: sign", |b| b.iter(|| raw.key.sign(black_box(&raw.message_v2))));
    group.bench_function("dalek: two signs", |b| b.iter(|| raw.two_signs()));
}

fn read(c: &mut Criterion) {
    let (bytes, name) = records(1).remove(0);
    let raw = Raw::new();
    c.bench_function("decode", |b| b.iter(|| Record::decode(black_box(&bytes).clone()).unwrap()));
    let mut group = c.benchmark_group("verify");
    group.bench_function("one", |b| b.iter(|| Checks::at(NOW).verify(black_box(&bytes).clone(), &name).unwrap()));
    group.bench_function("dalek: key decode + verify", |b| b.iter(|| raw.verify()));
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify_batch");
    for size in [1, 16, 64, 256] {
        let records = records(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(size.to_string(), |b| b.iter(|| Checks::at(NOW).verify_batch(black_box(&records))));
    }
    group.throughput(Throughput::Elements(64)).bench_function("dalek: key decode + 64", |b| b.iter(raw_batch()));
}

/// A batch of 64 with nothing around it but the decoding of its keys.
fn raw_batch() -> impl Fn() {
    let keys: Vec<_> = (0..64).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
    let points: Vec<_> = keys.iter().map(|key| key.verifying_key().to_bytes()).collect();
    let message = Raw::new().message_v2;
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&message)).collect();
    move || {
        let keys: Vec<_> = points.iter().map(|point| VerifyingKey::from_bytes(black_box(point)).unwrap()).collect();
        ed25519_dalek::verify_batch(&[&message[..]; 64], black_box(&signatures), &keys).unwrap();
    }
}

fn choose(c: &mut Criterion) {
    let (key, checks) = (key(1), Checks::at(NOW));
    let name = key.public_key().to_name();
    // Equal sequences and ends of life, so that the bytes decide: the longest comparison.
    let candidates: Vec<Verified> = (0..16)
        .map(|index| {
            let mut wanted = builder(1, Version::V1AndV2);
            wanted.value = wanted.value.join(&format!("/{index}"));
            checks.verify(wanted.sign(&key).unwrap().as_bytes().clone(), &name).unwrap()
        })
        .collect();
    c.bench_function("select/16", |b| b.iter(|| select(black_box(&candidates))));
}

/// The shortest time that one run of each took, in rounds of `runs`: by turns, so that a busy machine is busy for both.
fn by_turns(runs: u32, ours: impl Fn(), theirs: impl Fn()) -> (Duration, Duration) {
    let timed = |work: &dyn Fn()| {
        let start = Instant::now();
        (0..runs).for_each(|_| work());
        start.elapsed() / runs
    };
    let rounds = (0..400).map(|_| (timed(&ours), timed(&theirs)));
    rounds.fold((Duration::MAX, Duration::MAX), |best, round| (best.0.min(round.0), best.1.min(round.1)))
}

fn ratios() {
    let (signer, raw, wanted) = (key(1), Raw::new(), builder(1, Version::V1AndV2));
    let many = records(64);
    let (bytes, name) = &many[0];
    let checks = Checks::at(NOW);
    let verify = || drop(black_box(checks.verify(black_box(bytes).clone(), name).unwrap()));

    println!("\nratios, from the shortest of 400 rounds by turns");
    let report = |what: &str, ratio: f64, least: f64, ours: Duration, theirs: Duration| {
        let word = if ratio >= least { "met" } else { "MISSED" };
        println!("{what:<54} {ratio:>5.2} (at least {least:.2}: {word})  {ours:>9.2?} against {theirs:.2?}");
    };
    let (ours, theirs) = by_turns(20, verify, || raw.verify());
    report("verify / dalek's key decode + verify", theirs.div_duration_f64(ours), 0.9, ours, theirs);

    let create = || drop(black_box(black_box(&wanted).clone().sign(&signer).unwrap()));
    let (ours, theirs) = by_turns(20, create, || raw.two_signs());
    report("create V1+V2 / two signs of dalek", theirs.div_duration_f64(ours), 0.9, ours, theirs);

    let together = || drop(black_box(checks.verify_batch(black_box(&many))));
    let (ours, single) = by_turns(4, together, || {
        many.iter().for_each(|(bytes, name)| {
            drop(black_box(checks.verify(black_box(bytes).clone(), name).unwrap()));
        })
    });
    let (ours, single) = (ours / 64, single / 64);
    report("batch of 64 / single, per record", single.div_duration_f64(ours), 1.7, ours, single);
    let (ours, theirs) = by_turns(4, together, raw_batch());
    // No goal: it says how much of the ratio above is in our hands.
    report("batch of 64 / dalek's, per record", theirs.div_duration_f64(ours), 0.0, ours / 64, theirs / 64);

    let (decode, _) = by_turns(1000, || drop(black_box(Record::decode(black_box(bytes).clone()).unwrap())), || ());
    let word = if decode <= Duration::from_micros(1) { "met" } else { "MISSED" };
    println!("{:<54} {decode:?} (at most 1µs: {word})", "decode");
}

criterion_group!(benches, create, read, batch, choose);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Another filter asks for something else, and `--test` and `--list` measure nothing.
    if std::env::args().skip(1).all(|argument| argument == "--bench" || argument == "ratios") {
        ratios();
    }
}
