//! The least that can ask: a client that walks through the DHT for ever, sends a record to some of those it finds, and
//! keeps nothing. What a world with nobody else in it can do is what the simulator can do.

use std::collections::VecDeque;
use std::time::Duration;

use ipns_core::dht::{PeerInfo, Request, Response, RpcError, RpcId, ValueRecord};
use ipns_core::key::{KeyType, SecretKey, Signer};
use ipns_core::record::RecordBuilder;
use ipns_core::{Name, Now, Timestamp, Verified};

use crate::classic::{Ask, Client, Output, Start};
use crate::dice::mix;

/// A walk takes so many steps, each to the nearest peer that the last one named: enough for some hundred thousand.
const STEPS: u32 = 4;
/// So many peers are sent a record at the end of a walk: as large a part of all questions as where each name is published,
/// updated and resolved once.
const SENT: usize = 3;
/// How long it waits for a connection.
const DIAL: Duration = Duration::from_secs(5);
/// How long it waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One of its walks: to which key, how far it has come, and the question that is out.
#[derive(Debug, Clone)]
struct Walk {
    key: Vec<u8>,
    steps: u32,
    out: RpcId,
}

#[derive(Debug)]
pub(crate) struct Walker {
    seed: u64,
    record: ValueRecord,
    /// Where walks begin that cannot go on from somebody else.
    entrances: Vec<PeerInfo>,
    walks: Vec<Walk>,
    /// How many questions were asked.
    asked: u64,
    asks: VecDeque<Ask>,
}

impl Walker {
    /// So many walks at once, which begin at these peers.
    pub(crate) fn new(seed: u64, walks: usize, entrances: Vec<PeerInfo>) -> Self {
        let record = record(seed);
        let none = Walk { key: Vec::new(), steps: 0, out: RpcId(0) };
        let mut walker = Self { seed, record, entrances, walks: vec![none; walks], asked: 0, asks: VecDeque::new() };
        (0..walks).for_each(|at| walker.begin(at, Vec::new()));
        walker
    }

    /// Begins a walk at one of these peers.
    fn begin(&mut self, at: usize, mut from: Vec<PeerInfo>) {
        let chance = mix(&[self.seed, self.asked]);
        let first = match from.len() {
            0 if self.entrances.is_empty() => return,
            0 => self.entrances[chance as usize % self.entrances.len()].clone(),
            len => from.swap_remove(chance as usize % len),
        };
        self.walks[at].steps = 0;
        self.walks[at].key = chance.to_be_bytes().to_vec();
        self.step(at, first);
    }

    fn step(&mut self, at: usize, peer: PeerInfo) {
        let request = Request::FindNode { key: self.walks[at].key.clone().into() };
        self.walks[at].steps += 1;
        self.walks[at].out = self.ask(at, peer, request);
    }

    fn ask(&mut self, at: usize, peer: PeerInfo, request: Request) -> RpcId {
        // The number of a question tells whose it is.
        let id = RpcId(self.asked * self.walks.len() as u64 + at as u64);
        self.asked += 1;
        self.asks.push_back(Ask { id, peer, request, dial: DIAL, timeout: TIMEOUT });
        id
    }
}

/// A record that no server finds a fault with.
fn record(seed: u64) -> ValueRecord {
    let bytes = std::array::from_fn(|at| mix(&[seed, at as u64]) as u8);
    let (value, eol) = ("/ipfs/bafkqaaa".parse(), Timestamp::from_unix_nanos(4_000_000_000_000_000_000));
    let made = || -> Result<ValueRecord, Box<dyn std::error::Error>> {
        let key = SecretKey::generate(KeyType::Ed25519, bytes, 0)?;
        let record = RecordBuilder::new(value?, 0, eol).sign(&key)?;
        let key = key.public_key().to_name().routing_key().into();
        Ok(ValueRecord { key, value: record.as_bytes().clone(), received: None })
    };
    #[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 key, and the value and its end are valid")]
    made().expect("a record")
}

impl Client for Walker {
    /// Nobody tells it what to do.
    fn publish(&mut self, _: Now, _: Start, _: Verified) {}

    fn resolve(&mut self, _: Now, _: Start, _: Name) {}

    fn dialled(&mut self, _: RpcId, _: Option<Duration>) {}

    fn handle(&mut self, _: Now, id: RpcId, result: Result<Response, RpcError>) {
        let at = (id.0 % self.walks.len() as u64) as usize;
        if self.walks[at].out != id {
            return;
        }
        let named = match result {
            Ok(Response::FindNode { closer }) => closer,
            _ => Vec::new(),
        };
        match named.first() {
            Some(nearest) if self.walks[at].steps < STEPS => self.step(at, nearest.clone()),
            _ => {
                for peer in named.iter().take(SENT) {
                    self.ask(at, peer.clone(), Request::PutValue { record: self.record.clone() });
                }
                self.begin(at, named);
            }
        }
    }

    fn tick(&mut self, _: Now) {}

    fn next_timeout(&self) -> Option<Duration> {
        None
    }

    fn poll(&mut self) -> Option<Output> {
        self.asks.pop_front().map(Output::Ask)
    }
}
