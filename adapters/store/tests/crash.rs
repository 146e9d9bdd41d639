//! A node that is killed at any step of its publishes, and started again on the same store, never uses a sequence for
//! two values, never goes back, and still has whatever it said was published.
//!
//! The node is a child process: a real engine over a real store. Its only router is the test, which is told of every
//! record that leaves and which never answers with one, so that the store is all that the engine has to go by.
//! `IPNS_KILLS` says how often it is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "these are tests")]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ipns_core::engine::{
    Config, Engine, Event, Input, Output, Publish, StoreAction, StoreCommand, StoreReply, StoredOwn,
};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::routing::{Operation, RouteUpdate, Router, Tally};
use ipns_core::{Name, Now, Record, Timestamp};
use ipns_store::{AnyStore, Backend, Store, Table};

const STORE: &str = "IPNS_CRASH_TEST";
/// What each line that the child says begins with, past whatever its test harness says.
const MARK: &str = "node: ";
const NAMES: u8 = 3;
/// The latest step at which a child is killed.
const STEPS: u64 = 12;

#[test]
fn redb_survives_kills() {
    survives_kills(Backend::Redb);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_survives_kills() {
    survives_kills(Backend::RocksDb);
}

/// When the child is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// It says that it is about to make this commit, and waits for its end.
    Before(u64),
    /// So long after it said that it is about to make this commit.
    During(u64, Duration),
    /// This commit is made, and the engine has not heard of it.
    After(u64),
    /// So long after its start.
    At(Duration),
}

fn survives_kills(backend: Backend) {
    let kills: u64 = env::var("IPNS_KILLS").map_or(150, |kills| kills.parse().expect("IPNS_KILLS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let seed = u64::from(std::process::id());
    let mut random = Random(seed);
    let mut witness = Witness::default();
    let mut counts = [0_u64; 4];
    let begun = Instant::now();
    for kill in 0..kills {
        let micros = |random: &mut Random, below| Duration::from_micros(random.below(below));
        let step = 1 + random.below(STEPS);
        let kind = kill % 4;
        let moment = match kind {
            0 => Moment::Before(step),
            1 => Moment::During(step, micros(&mut random, 4_000)),
            2 => Moment::After(step),
            _ => Moment::At(micros(&mut random, 60_000)),
        };
        counts[usize::try_from(kind).unwrap()] += 1;
        witness.case = format!("{backend}, seed {seed}, kill {kill}, {moment:?}");
        run_and_kill(backend, &path, kill, moment, &mut witness);
    }
    witness.case = format!("{backend}, after the last kill");
    let store = backend.open(&path).unwrap();
    witness.opening();
    for (name, record) in own(&store) {
        witness.restored(name, &record);
    }
    witness.opened();
    assert!(witness.published > kills / 2, "hardly anything was published: {}", witness.published);
    eprintln!(
        "{backend}: {kills} kills ({} before a commit, {} during, {} after, {} at any time) in {:.0?}: \
         {} records sent, {} publishes told of, highest sequence {}",
        counts[0],
        counts[1],
        counts[2],
        counts[3],
        begun.elapsed(),
        witness.sent,
        witness.published,
        witness.names.values().filter_map(|seen| seen.values.keys().max()).max().unwrap(),
    );
}

fn run_and_kill(backend: Backend, path: &Path, run: u64, moment: Moment, witness: &mut Witness) {
    let halt = match moment {
        Moment::Before(step) => format!("before {step}"),
        Moment::After(step) => format!("after {step}"),
        Moment::During(..) | Moment::At(_) => String::new(),
    };
    let begun = Instant::now();
    let (mut child, mut lines) = start(&format!("{backend}\n{run}\n{halt}\n{}", path.display()));
    // The moment is the test's input: nothing depends on how long anything takes.
    let spin_until = |moment: Instant| while Instant::now() < moment {};
    match moment {
        Moment::At(after) => spin_until(begun + after),
        Moment::Before(_) | Moment::After(_) => while witness.hear(next_line(&mut lines)) != Heard::Halted {},
        Moment::During(step, after) => {
            while witness.hear(next_line(&mut lines)) != Heard::Committing(step) {}
            spin_until(Instant::now() + after);
        }
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(9), "{}: the child ended by itself", witness.case);
    while let Some(line) = try_next_line(&mut lines) {
        witness.hear(line);
    }
}

/// What the test knows of each name.
#[derive(Default)]
struct Witness {
    case: String,
    names: BTreeMap<Name, Seen>,
    sent: u64,
    published: u64,
    /// Names that have left, and of which the store that is being opened has shown nothing yet.
    missing: Vec<Name>,
}

#[derive(Default)]
struct Seen {
    /// The value of each sequence that ever left.
    values: BTreeMap<u64, String>,
    /// The highest sequence that left or was found in the store.
    highest: u64,
    /// The highest sequence that was said to be published.
    published: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Committing(u64),
    Halted,
    Other,
}

impl Witness {
    fn hear(&mut self, line: String) -> Heard {
        let (what, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match what {
            "own" => {
                let (name, record) = rest.split_once(' ').unwrap();
                self.restored(name.parse().unwrap(), &record_of(record));
            }
            "opening" => self.opening(),
            "opened" => self.opened(),
            "commit" => return Heard::Committing(rest.parse().unwrap()),
            "halted" => return Heard::Halted,
            "put" => {
                let (name, record) = rest.split_once(' ').unwrap();
                self.sent(name.parse().unwrap(), &record_of(record));
            }
            "published" => {
                let (name, sequence) = rest.split_once(' ').unwrap();
                let seen = self.names.entry(name.parse().unwrap()).or_default();
                let sequence = sequence.parse().unwrap();
                assert!(seen.published < Some(sequence), "{}: {sequence} after {:?}", self.case, seen.published);
                assert!(seen.values.contains_key(&sequence), "{}: published and never sent", self.case);
                seen.published = Some(sequence);
                self.published += 1;
            }
            other => panic!("{}: the child says {other}", self.case),
        }
        Heard::Other
    }

    fn opening(&mut self) {
        self.missing = self.names.iter().filter(|(_, seen)| seen.highest > 0).map(|(name, _)| *name).collect();
    }

    fn opened(&self) {
        assert_eq!(self.missing, [], "{}: a name that was sent is not in the store", self.case);
    }

    fn sent(&mut self, name: Name, record: &Record) {
        self.sent += 1;
        let case = &self.case;
        let seen = self.names.entry(name).or_default();
        let (sequence, value) = (record.sequence(), record.value().unwrap().to_string());
        assert!(sequence >= seen.highest, "{case}: {name} goes back from {} to {sequence}", seen.highest);
        seen.highest = sequence;
        let first = seen.values.entry(sequence).or_insert_with(|| value.clone());
        assert_eq!(*first, value, "{case}: {name} has two values of sequence {sequence}");
    }

    /// What a child, or the test, finds in the store.
    fn restored(&mut self, name: Name, record: &Record) {
        self.missing.retain(|missing| *missing != name);
        let case = &self.case;
        let seen = self.names.entry(name).or_default();
        let (sequence, value) = (record.sequence(), record.value().unwrap().to_string());
        assert!(sequence >= seen.highest, "{case}: {name} was at {}, its store is at {sequence}", seen.highest);
        seen.highest = sequence;
        if let Some(sent) = seen.values.get(&sequence) {
            assert_eq!(*sent, value, "{case}: the store has another value of {name}, sequence {sequence}");
        }
    }
}

fn record_of(hex: &str) -> Record {
    Record::decode(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap()
}

fn own(store: &AnyStore) -> Vec<(Name, Record)> {
    let entries = store.scan(Table::Own, None, usize::MAX).unwrap();
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let record = Record::decode(StoredOwn::from_bytes(&value).unwrap().record).unwrap();
        let name = Name::from_bytes(&key).unwrap();
        // Both entries of a name were written by one commit.
        assert!(store.get(Table::Records, &key).unwrap().is_some(), "half a commit");
        (name, record)
    };
    entries.into_iter().map(read).collect()
}

fn start(orders: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(STORE, orders)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// The next whole line of the child itself, or `None` at the end of its output.
fn try_next_line(lines: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if let (Some((_, said)), true) = (line.split_once(MARK), line.ends_with('\n')) {
            return Some(said.trim_end().to_owned());
        }
        line.clear();
    }
    None
}

fn next_line(lines: &mut impl BufRead) -> String {
    try_next_line(lines).expect("the child ended by itself")
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Not a test of its own: what the child runs, which is this same program with [`STORE`] set.
#[test]
fn child() {
    let Ok(orders) = env::var(STORE) else { return };
    let [backend, run, halt, path] = orders.splitn(4, '\n').collect::<Vec<_>>()[..] else { panic!("{orders}") };
    say("opening");
    let store = backend.parse::<Backend>().unwrap().open(PathBuf::from(path)).unwrap();
    for (name, record) in own(&store) {
        say(&format!("own {name} {}", data_encoding::HEXLOWER.encode(record.as_bytes())));
    }
    say("opened");
    Node::new(store, run.parse().unwrap(), halt.to_owned()).run();
}

fn say(line: &str) {
    // Past the test harness, which would keep the output of a test to itself.
    let mut out = io::stdout().lock();
    out.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A driver of one engine, which does everything at once.
struct Node {
    engine: Engine,
    store: AnyStore,
    keys: BTreeMap<Name, SecretKey>,
    begun: Instant,
    run: u64,
    /// At which step to wait for the end.
    halt: String,
    commits: u64,
    publishes: u64,
}

impl Node {
    fn new(store: AnyStore, run: u64, halt: String) -> Self {
        let begun = Instant::now();
        let config = Config { routers: vec![Router::custom("test")], ..Config::default() };
        let keys = (1..=NAMES).map(|seed| SecretKey::generate(KeyType::Ed25519, [seed; 32], 0).unwrap());
        let keys = keys.map(|key| (key.public_key().to_name(), key)).collect();
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&run.to_le_bytes());
        let engine = Engine::new(config, seed, now(begun));
        Self { engine, store, keys, begun, run, halt, commits: 0, publishes: 0 }
    }

    fn run(mut self) {
        for name in self.keys.keys().copied().collect::<Vec<_>>() {
            self.publish(name);
        }
        loop {
            while let Some(output) = self.engine.poll_output() {
                self.carry_out(output);
            }
            // Nothing is under way outside, so all that is left to come is time.
            let due = self.engine.next_timeout().expect("the engine waits for nothing");
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
            self.engine.handle_input(now(self.begun), Input::Tick);
        }
    }

    /// Publishes a value that no other publish of any run has.
    fn publish(&mut self, name: Name) {
        self.publishes += 1;
        let value = format!("/ipfs/bafkqaaa/{}/{}", self.run, self.publishes);
        // Whatever was ever published with these keys is in the store: they are as good as new to whoever has it.
        let what = Publish { new_key: true, ..Publish::new(self.keys[&name].public_key(), value.parse().unwrap()) };
        self.engine.publish(now(self.begun), what);
    }

    fn carry_out(&mut self, output: Output) {
        let input = match output {
            Output::Store(StoreCommand { id, action }) => {
                Input::Stored { id, result: Ok(self.carry_out_store(action)) }
            }
            Output::Sign { id, name, message } => Input::Signed { id, result: self.keys[&name].sign(&message) },
            Output::Route { id, operation, .. } => {
                if let Operation::Put { record } = operation {
                    say(&format!("put {} {}", record.name(), data_encoding::HEXLOWER.encode(record.as_bytes())));
                }
                Input::Routed { id, update: RouteUpdate::Done(Ok(Tally::ONE)) }
            }
            Output::Event(Event::Published { result, .. }) => {
                let record = result.unwrap().record;
                say(&format!("published {} {}", record.name(), record.sequence()));
                self.publish(*record.name());
                return;
            }
            _ => return,
        };
        self.engine.handle_input(now(self.begun), input);
    }

    fn carry_out_store(&mut self, action: StoreAction) -> StoreReply {
        match action {
            StoreAction::Get { table, key } => StoreReply::Value(self.store.get(table, &key).unwrap()),
            StoreAction::Scan { table, after, limit } => {
                StoreReply::Entries(self.store.scan(table, after.as_deref(), limit).unwrap())
            }
            StoreAction::Commit(batch) => {
                self.commits += 1;
                self.halt_at("before");
                say(&format!("commit {}", self.commits));
                self.store.commit(&batch).unwrap();
                self.halt_at("after");
                StoreReply::Committed
            }
        }
    }

    /// Waits to be killed, if that is to happen here.
    fn halt_at(&self, step: &str) {
        if self.halt == format!("{step} {}", self.commits) {
            say("halted");
            let _ = io::stdin().read(&mut [0]);
            panic!("nobody kills this process");
        }
    }
}

fn now(begun: Instant) -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Now { monotonic: begun.elapsed(), wall: Timestamp::from_unix_secs(i64::try_from(wall.as_secs()).unwrap()) }
}
