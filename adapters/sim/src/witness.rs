//! What must never happen, looked for in everything that nodes send, answer and tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use ipns_core::dht::{Outcome, PeerId, Request, Response, ValueRecord};
use ipns_core::engine::Event;
use ipns_core::record::{Checks, compare};
use ipns_core::store::Write;
use ipns_core::{Name, Timestamp, Verified};

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

/// How many writes of a publisher are remembered.
const MAX_WRITTEN: usize = 512;

/// Watches a world in which every name has one publisher.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Records by key and bytes, verified but for their end.
    records: HashMap<(Bytes, Bytes), Option<Verified>>,
    /// The value that a publisher gave a sequence.
    values: BTreeMap<(Name, u64), Vec<u8>>,
    /// The newest that a node has returned, or kept for others, in one life.
    returned: BTreeMap<(u32, u32, Name), Verified>,
    kept: BTreeMap<(u32, u32, Bytes), Verified>,
    /// What publishers wrote last.
    written: BTreeMap<u32, VecDeque<Vec<u8>>>,
    /// Records that their publisher has had on its disk.
    durable: BTreeSet<(Name, u64)>,
    /// Who said that it took which record.
    acked: BTreeSet<(PeerId, Bytes)>,
    pub(crate) violations: Vec<Violation>,
}

impl Witness {
    fn broken(&mut self, rule: &'static str, what: String) {
        self.violations.push(Violation { rule, what });
    }

    /// The record under a key, if it is valid for that but for its end.
    fn read(&mut self, record: &ValueRecord) -> Option<Verified> {
        let read = |record: &ValueRecord| {
            let name = Name::from_routing_key(&record.key).ok()?;
            Checks::at(Timestamp::MIN).verify(record.value.clone(), &name).ok()
        };
        let known = (record.key.clone(), record.value.clone());
        self.records.entry(known).or_insert_with(|| read(record)).clone()
    }

    /// A node sends a record to others; `own` are the names that it publishes.
    pub(crate) fn sent(&mut self, node: u32, request: &Request, own: impl Fn(&Name) -> bool) {
        let Request::PutValue { record } = request else { return };
        let Some(valid) = self.read(record) else {
            return self.broken("nobody sends an invalid record", format!("node {node}"));
        };
        self.seen(&valid);
        // Others can change bytes of a record that nobody signs: its sequence tells it, not its bytes.
        let known = (*valid.name(), valid.sequence());
        if own(valid.name()) && !self.durable.contains(&known) {
            let bytes = &record.value[..];
            let mut written = self.written.get(&node).into_iter().flatten();
            match written.any(|value| value.windows(bytes.len()).any(|part| part == bytes)) {
                true => drop(self.durable.insert(known)),
                false => {
                    let what = format!("node {node}: {} sequence {}", known.0, known.1);
                    self.broken("a record is durable before it is sent", what);
                }
            }
        }
    }

    /// The disk of a node has written this, for good.
    pub(crate) fn wrote(&mut self, node: u32, writes: &[Write]) {
        let written = self.written.entry(node).or_default();
        written.extend(writes.iter().filter_map(|write| write.value.clone()));
        let excess = written.len().saturating_sub(MAX_WRITTEN);
        written.drain(..excess);
    }

    fn seen(&mut self, record: &Verified) {
        let value = record.value().map(|value| value.as_str().as_bytes().to_vec()).unwrap_or_default();
        let first = self.values.entry((*record.name(), record.sequence())).or_insert_with(|| value.clone());
        if *first != value {
            let what = format!("{} sequence {}", record.name(), record.sequence());
            self.broken("no sequence has two values", what);
        }
    }

    /// An honest server has answered, passive ones included.
    pub(crate) fn took(&mut self, peer: PeerId, request: &Request, response: &Response) {
        if let (Request::PutValue { record }, Response::PutValue { .. }) = (request, response) {
            self.acked.insert((peer, record.value.clone()));
        }
    }

    /// An honest node has answered.
    pub(crate) fn answered(
        &mut self,
        node: (u32, u32, PeerId),
        wall: Timestamp,
        request: &Request,
        response: &Response,
    ) {
        let (n, life, peer) = node;
        self.took(peer, request, response);
        let (record, rule) = match (request, response) {
            (Request::PutValue { record }, Response::PutValue { .. }) => (record, "nobody takes an invalid record"),
            (Request::GetValue { .. }, Response::GetValue { record: Some(record), .. }) => {
                (record, "nobody serves an invalid record")
            }
            _ => return,
        };
        let Some(valid) = self.read(record).filter(|record| !record.is_expired(wall)) else {
            return self.broken(rule, format!("node {n}"));
        };
        match self.kept.get(&(n, life, record.key.clone())) {
            Some(newest) if compare(&valid, newest).is_lt() && !newest.is_expired(wall) => {
                let what = format!("node {n}: {} after {}", valid.sequence(), newest.sequence());
                self.broken("no server goes back to an older record", what);
            }
            _ => drop(self.kept.insert((n, life, record.key.clone()), valid)),
        }
    }

    /// An engine has told its application something.
    pub(crate) fn told(&mut self, n: u32, life: u32, wall: Timestamp, event: &Event, honest: impl Fn(&PeerId) -> bool) {
        match event {
            Event::Improved { resolution: found, .. } | Event::Resolved { result: Ok(found), .. } => {
                let record = &found.record;
                let again = Checks::at(wall).verify(record.as_bytes().clone(), record.name());
                if again.as_ref() != Ok(record) {
                    self.broken("no invalid record is returned", format!("node {n}: {again:?}"));
                }
                match self.returned.get(&(n, life, *record.name())) {
                    Some(newest) if compare(record, newest).is_lt() => {
                        let what = format!("node {n}: {} after {}", record.sequence(), newest.sequence());
                        self.broken("no older record is returned than before", what);
                    }
                    _ => drop(self.returned.insert((n, life, *record.name()), record.clone())),
                }
            }
            Event::Published { result: Ok(publication), .. } => {
                self.seen(&publication.record);
                let said = publication.receipts.iter().flat_map(|receipt| &receipt.peers);
                let acked = said.filter(|said| said.outcome == Outcome::Acked && honest(&said.peer));
                let bytes = publication.record.as_bytes();
                let false_ones: Vec<PeerId> =
                    acked.map(|said| said.peer).filter(|peer| !self.acked.contains(&(*peer, bytes.clone()))).collect();
                for peer in false_ones {
                    self.broken("a receipt tells the truth", format!("node {n}: {peer} did not take the record"));
                }
            }
            _ => {}
        }
    }
}
