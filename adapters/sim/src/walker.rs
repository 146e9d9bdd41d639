//! The least that can ask: a client that walks through the DHT for ever and keeps nothing. What a world with nobody else
//! in it can do is what the simulator can do.

use std::collections::VecDeque;
use std::time::Duration;

use ipns_core::dht::{PeerInfo, Request, Response, RpcError, RpcId};
use ipns_core::{Name, Now, Verified};

use crate::classic::{Ask, Client, Output, Start};
use crate::dice::mix;

/// A walk takes so many steps, each to the nearest peer that the last one named: enough for some hundred thousand.
const STEPS: u32 = 4;
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
        let none = Walk { key: Vec::new(), steps: 0, out: RpcId(0) };
        let mut walker = Self { seed, entrances, walks: vec![none; walks], asked: 0, asks: VecDeque::new() };
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
        // The number of a question tells whose it is.
        let id = RpcId(self.asked * self.walks.len() as u64 + at as u64);
        self.asked += 1;
        let walk = &mut self.walks[at];
        walk.out = id;
        walk.steps += 1;
        let request = Request::FindNode { key: walk.key.clone().into() };
        self.asks.push_back(Ask { id, peer, request, dial: DIAL, timeout: TIMEOUT });
    }
}

impl Client for Walker {
    /// It does nothing but walk.
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
            _ => self.begin(at, named),
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
