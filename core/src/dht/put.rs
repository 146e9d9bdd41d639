//! Sending one thing to many peers and counting what they say: PUT_VALUE and ADD_PROVIDER.

use core::time::Duration;
use std::collections::BTreeSet;

use libp2p_identity::PeerId;

use super::message::{PeerInfo, Request, Response};
use super::rpc::RpcError;

/// What one peer said to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took the record: it echoed the very same.
    Acked,
    /// It answered something else, or reset the stream: it does not keep the record.
    Refused,
    /// It could not be asked. Whether it keeps the record is not known after a time-out.
    Failed(RpcError),
}

/// What became of a put, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Peers that took the record.
    pub acked: usize,
    /// Peers that refused it.
    pub refused: usize,
    /// Peers that could not be asked.
    pub failed: usize,
    /// Peers that have not answered yet.
    pub waiting: usize,
}

impl Tally {
    /// Peers that were sent it.
    pub fn asked(&self) -> usize {
        self.acked + self.refused + self.failed + self.waiting
    }
}

/// One request on its way to several peers.
#[derive(Debug)]
pub(crate) struct Fanout {
    request: Request,
    /// How many acks make it a success.
    need: usize,
    /// Whether more peers may be added.
    open: bool,
    sent: BTreeSet<PeerId>,
    /// Those that were never there: they are not missed where there are fewer peers than acks are wanted.
    absent: BTreeSet<PeerId>,
    to_send: Vec<PeerInfo>,
    waiting: BTreeSet<PeerId>,
    tally: Tally,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Enough peers took it; the others have until then to be in the result.
    Lingering(Duration),
    Decided,
}

/// One record is sent to no more peers than this, however many of them do not take it.
const MAX_TARGETS: usize = 100;
/// Whoever answers at the same moment still gets into the result.
const LINGER: Duration = Duration::from_millis(10);

impl Fanout {
    /// Sends `request` to each of `to` once. A success needs `need` acks, or all of them where there are fewer peers.
    pub(crate) fn new(request: Request, to: Vec<PeerInfo>, need: usize) -> Self {
        let mut fanout = Self::open(request, need);
        to.into_iter().for_each(|peer| fanout.add(&peer));
        fanout.close();
        fanout
    }

    /// Sends `request` to each peer that is added.
    pub(crate) fn open(request: Request, need: usize) -> Self {
        Self {
            request,
            need,
            open: true,
            sent: BTreeSet::new(),
            absent: BTreeSet::new(),
            to_send: Vec::new(),
            waiting: BTreeSet::new(),
            tally: Tally::default(),
            stage: Stage::Open,
        }
    }

    /// Sends it to this peer too, unless it was sent it already, or too many were.
    pub(crate) fn add(&mut self, peer: &PeerInfo) {
        if self.sent.len() < MAX_TARGETS && self.sent.insert(peer.id) {
            self.waiting.insert(peer.id);
            self.to_send.push(peer.clone());
        }
    }

    /// A success needs so many acks at least.
    pub(crate) fn needs(&mut self, acks: usize) {
        self.need = self.need.max(acks);
    }

    /// The peer turned out not to be there before it was, or could have been, sent anything.
    pub(crate) fn note_absent(&mut self, peer: &PeerId) {
        if self.sent.contains(peer) {
            self.absent.insert(*peer);
        }
    }

    /// Nobody is added any more, as it seems.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    /// Whoever has not answered is not waited for any longer.
    pub(crate) fn abandon(&mut self) {
        self.open = false;
        self.tally.failed += self.waiting.len();
        self.waiting.clear();
    }

    /// Whether nobody is added any more, as it seems.
    pub(crate) fn is_closed(&self) -> bool {
        !self.open
    }

    /// Somebody may be added again.
    pub(crate) fn reopen(&mut self) {
        self.open = true;
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// The peers to send to, once.
    pub(crate) fn take_targets(&mut self) -> Vec<PeerInfo> {
        core::mem::take(&mut self.to_send)
    }

    /// Takes a peer's answer; `None` for one that is not waited for.
    pub(crate) fn on_answer(&mut self, peer: &PeerId, answer: Result<&Response, RpcError>) -> Option<Outcome> {
        if !self.waiting.remove(peer) {
            return None;
        }
        let outcome = outcome(&self.request, answer);
        match outcome {
            Outcome::Acked => self.tally.acked += 1,
            Outcome::Refused => self.tally.refused += 1,
            Outcome::Failed(_) => self.tally.failed += 1,
        }
        Some(outcome)
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { waiting: self.waiting.len(), ..self.tally }
    }

    /// Whether the result has just become certain: enough acks and a moment for the others, or nobody left to give
    /// one. Tells it once.
    pub(crate) fn decide(&mut self, now: Duration) -> Option<bool> {
        let need = if self.open { self.need } else { self.need.min(self.sent.len() - self.absent.len()) };
        let success = self.tally.acked >= need.max(1);
        if self.stage == Stage::Open && success {
            self.stage = Stage::Lingering(now + LINGER);
        }
        let over = match self.stage {
            Stage::Open => false,
            Stage::Lingering(until) => until <= now,
            Stage::Decided => return None,
        };
        if !over && (self.open || !self.waiting.is_empty()) {
            return None;
        }
        self.stage = Stage::Decided;
        Some(success)
    }

    /// When [`decide`](Self::decide) is to be asked again.
    pub(crate) fn lingers_until(&self) -> Option<Duration> {
        match self.stage {
            Stage::Lingering(until) => Some(until),
            Stage::Open | Stage::Decided => None,
        }
    }
}

/// What an answer to a PUT_VALUE or ADD_PROVIDER means.
pub(crate) fn outcome(request: &Request, answer: Result<&Response, RpcError>) -> Outcome {
    match (request, answer) {
        (Request::PutValue { record }, Ok(Response::PutValue { record: echo })) => {
            let same = echo.key == record.key && echo.value == record.value;
            if same { Outcome::Acked } else { Outcome::Refused }
        }
        (Request::AddProvider { .. }, Ok(Response::AddProvider)) => Outcome::Acked,
        (_, Ok(_) | Err(RpcError::Reset | RpcError::Closed | RpcError::Malformed)) => Outcome::Refused,
        (_, Err(error)) => Outcome::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::message::ValueRecord;
    use crate::dht::testing::peer;

    const START: Duration = Duration::from_secs(9);
    const MS: Duration = Duration::from_millis(1);

    fn fanout(peers: u32, need: usize) -> Fanout {
        let to = (0..peers).map(|n| PeerInfo { id: peer(n), addresses: Vec::new() });
        let record = ValueRecord { key: "k".into(), value: "v".into(), received: None };
        let to = to.clone().chain(to).collect();
        Fanout::new(Request::PutValue { record }, to, need)
    }

    fn echo(value: &'static str) -> Response {
        let received = Some(crate::Timestamp::UNIX_EPOCH);
        Response::PutValue { record: ValueRecord { key: "k".into(), value: value.into(), received } }
    }

    #[test]
    fn only_an_echo_is_an_ack() {
        let mut put = fanout(6, 2);
        assert_eq!(put.take_targets().len(), 6);
        assert_eq!(put.take_targets().len(), 0);
        let mut answer = |n, answer: Result<&Response, RpcError>| put.on_answer(&peer(n), answer);
        assert_eq!(answer(0, Ok(&echo("v"))), Some(Outcome::Acked));
        assert_eq!(answer(0, Ok(&echo("v"))), None);
        assert_eq!(answer(1, Ok(&echo("w"))), Some(Outcome::Refused));
        assert_eq!(answer(2, Err(RpcError::Reset)), Some(Outcome::Refused));
        assert_eq!(answer(3, Err(RpcError::Timeout)), Some(Outcome::Failed(RpcError::Timeout)));
        assert_eq!(answer(9, Ok(&echo("v"))), None);
        assert_eq!(put.tally(), Tally { acked: 1, refused: 2, failed: 1, waiting: 2 });
        assert_eq!(put.decide(START), None);
        put.on_answer(&peer(4), Ok(&echo("v")));
        // Enough took it, and the last one gets a moment.
        assert_eq!(put.decide(START + 100 * MS), None);
        assert_eq!(put.lingers_until(), Some(START + 110 * MS));
        assert_eq!(put.decide(START + 109 * MS), None);
        assert_eq!(put.decide(START + 110 * MS), Some(true));
        assert_eq!(put.decide(START + 111 * MS), None);
        assert_eq!(put.lingers_until(), None);
    }

    #[test]
    fn a_put_fails_only_when_nobody_is_left() {
        let mut put = fanout(2, 2);
        put.on_answer(&peer(0), Err(RpcError::DialFailed));
        assert_eq!(put.decide(START), None);
        put.on_answer(&peer(1), Ok(&echo("v")));
        assert_eq!(put.decide(START), Some(false));
        assert_eq!(fanout(0, 1).decide(START), Some(false));
        // Where there are fewer peers than acks are wanted, all of them are enough.
        let mut all = fanout(1, 10);
        all.on_answer(&peer(0), Ok(&echo("v")));
        assert_eq!(all.decide(START), Some(true));
    }
}
