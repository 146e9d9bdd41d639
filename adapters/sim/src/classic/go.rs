//! `go-classic`: go-libp2p-kad-dht, with what Kubo sets and what the dialer below it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipns_core::dht::{Distance, Key, PeerId, PeerInfo, Request, Response, RpcError, RpcId};
use ipns_core::record::compare;
use ipns_core::{Name, Now, Verified};

use super::{Ask, Client, Job, K, Output, Rank, Start, answered};

/// How many peers a walk asks at a time.
const ALPHA: usize = 10;
/// A walk ends when so many of the nearest have answered.
const BETA: usize = 3;
/// A read ends when it has more records than this.
const QUORUM: u32 = 16;
/// So many of the peers that an answer names are looked at.
const MAX_CLOSER: usize = 2 * K;
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// How long a put to one peer may take. All are sent at the same moment.
const PUT_LIMIT: Duration = Duration::from_secs(30);
/// How long the dialer tries.
const DIAL: Duration = Duration::from_secs(15);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The dialer refuses a peer that it could not reach for so long after the first failure, and longer after more.
const BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Waiting,
    Queried,
    Unreachable,
}

#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Walk,
    /// The walk has ended, and waits for the answers of those it is connected to. It does not learn from them.
    Drain,
    FollowUp,
    Put,
}

#[derive(Debug)]
struct Op {
    job: Job,
    phase: Phase,
    peers: BTreeMap<Distance, Peer>,
    /// The nearest that were not unreachable when the walk ended.
    closest: Vec<PeerInfo>,
    /// Who sent the best record.
    with_best: BTreeSet<PeerId>,
    deadline: Option<Duration>,
}

impl Op {
    fn hear(&mut self, info: PeerInfo) {
        let place = Key::of_peer(&info.id).distance(&self.job.target);
        self.peers.entry(place).or_insert(Peer { info, state: State::Heard });
    }

    fn live(&self) -> impl Iterator<Item = (Distance, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.state != State::Unreachable).map(|(place, peer)| (*place, peer))
    }

    fn waiting(&self) -> usize {
        self.peers.values().filter(|peer| peer.state == State::Waiting).count()
    }

    fn walk_is_over(&self) -> bool {
        let starved = !self.peers.values().any(|peer| matches!(peer.state, State::Heard | State::Waiting));
        starved || self.live().take(BETA).all(|(_, peer)| peer.state == State::Queried)
    }

    fn read(&mut self, now: Now, from: PeerId, rank: impl FnOnce(&mut Job, Now) -> Option<Rank>) {
        match rank(&mut self.job, now) {
            Some(Rank::Better) => self.with_best = BTreeSet::from([from]),
            Some(Rank::Same) => _ = self.with_best.insert(from),
            Some(Rank::Worse) | None => {}
        }
    }
}

#[derive(Debug)]
struct Rpc {
    op: u64,
    place: Distance,
    peer: PeerInfo,
    request: Request,
    /// When its connection stands.
    stands: Option<Duration>,
    retried: bool,
}

#[derive(Debug)]
struct Backoff {
    until: Duration,
    tries: u32,
}

impl Backoff {
    fn time(tries: u32) -> Duration {
        (BACKOFF + Duration::from_secs(u64::from(tries * tries))).min(MAX_BACKOFF)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Go {
    last: u64,
    ops: BTreeMap<u64, Op>,
    rpcs: BTreeMap<RpcId, Rpc>,
    /// Questions that failed before they were asked.
    refused: VecDeque<RpcId>,
    backoffs: BTreeMap<PeerId, Backoff>,
    /// What it published itself.
    own: BTreeMap<Name, Verified>,
    outputs: VecDeque<Output>,
}

impl Go {
    fn begin(&mut self, now: Now, job: Job, known: Vec<PeerInfo>, deadline: Option<Duration>) {
        let id = job.op;
        let mut op = Op {
            job,
            phase: Phase::Walk,
            peers: BTreeMap::new(),
            closest: Vec::new(),
            with_best: BTreeSet::new(),
            deadline,
        };
        known.into_iter().for_each(|peer| op.hear(peer));
        self.ops.insert(id, op);
        self.walk(now, id);
        self.take_refused(now);
    }

    fn ask(&mut self, now: Now, rpc: Rpc) {
        self.last += 1;
        let id = RpcId(self.last);
        // While one does not know that it is connected, the dialer decides.
        if self.backoffs.get(&rpc.peer.id).is_some_and(|backoff| now.monotonic < backoff.until) {
            self.refused.push_back(id);
        } else {
            let (peer, request) = (rpc.peer.clone(), rpc.request.clone());
            self.outputs.push_back(Output::Ask(Ask { id, peer, request, dial: DIAL, timeout: ANSWER }));
        }
        self.rpcs.insert(id, rpc);
    }

    fn ask_all(&mut self, now: Now, op: u64, request: &Request, peers: Vec<(Distance, PeerInfo)>) {
        for (place, peer) in peers {
            self.ask(now, Rpc { op, place, peer, request: request.clone(), stands: None, retried: false });
        }
    }

    fn is_waited_for(&self, op: u64) -> bool {
        self.rpcs.values().any(|rpc| rpc.op == op)
    }

    fn walk(&mut self, now: Now, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        if op.walk_is_over() {
            op.phase = Phase::Drain;
            // Dials are given up; a question that has been asked is not.
            self.rpcs.retain(|_, rpc| rpc.op != id || rpc.stands.is_some_and(|at| at <= now.monotonic));
            return self.drain(now, id);
        }
        let free = ALPHA.saturating_sub(op.waiting());
        let heard = op.peers.iter_mut().filter(|(_, peer)| peer.state == State::Heard);
        let next = heard.take(free).map(|(place, peer)| {
            peer.state = State::Waiting;
            (*place, peer.info.clone())
        });
        let (next, request) = (next.collect(), op.job.ask());
        self.ask_all(now, id, &request, next);
    }

    fn drain(&mut self, now: Now, id: u64) {
        if self.is_waited_for(id) {
            return;
        }
        let Some(op) = self.ops.get_mut(&id) else { return };
        op.phase = Phase::FollowUp;
        let closest: Vec<(Distance, PeerInfo, State)> =
            op.live().take(K).map(|(place, peer)| (place, peer.info.clone(), peer.state)).collect();
        op.closest = closest.iter().map(|(_, peer, _)| peer.clone()).collect();
        // Whoever answered after the end of the walk is asked again, and its record counts twice.
        let open = closest.into_iter().filter(|(.., state)| matches!(state, State::Heard | State::Waiting));
        let (open, request) = (open.map(|(place, peer, _)| (place, peer)).collect(), op.job.ask());
        self.ask_all(now, id, &request, open);
        self.followed_up(now, id);
    }

    fn followed_up(&mut self, now: Now, id: u64) {
        if self.is_waited_for(id) {
            return;
        }
        let Some(op) = self.ops.get_mut(&id) else { return };
        let place = |peer: &PeerInfo, job: &Job| Key::of_peer(&peer.id).distance(&job.target);
        match &op.job.publishes {
            Some(record) => {
                op.phase = Phase::Put;
                op.deadline = Some(now.monotonic + PUT_LIMIT);
                let request = op.job.put(record);
                let peers = op.closest.iter().map(|peer| (place(peer, &op.job), peer.clone())).collect();
                self.ask_all(now, id, &request, peers);
                self.put(now, id);
            }
            None => {
                // Whoever did not send the best record is sent it, and nobody waits for that.
                if let Some(best) = &op.job.best {
                    let request = op.job.put(best);
                    let stale = op.closest.iter().filter(|peer| !op.with_best.contains(&peer.id));
                    let stale = stale.map(|peer| (place(peer, &op.job), peer.clone())).collect();
                    self.ask_all(now, id, &request, stale);
                }
                self.end(now, id);
            }
        }
    }

    fn put(&mut self, now: Now, id: u64) {
        if !self.is_waited_for(id) {
            self.end(now, id);
        }
    }

    fn end(&mut self, now: Now, id: u64) {
        if let Some(op) = self.ops.remove(&id) {
            self.rpcs.retain(|_, rpc| rpc.op != id || matches!(rpc.request, Request::PutValue { .. }));
            self.outputs.push_back(Output::Finished(op.job.end(now)));
        }
    }

    fn take_refused(&mut self, now: Now) {
        while let Some(id) = self.refused.pop_front() {
            self.take(now, id, Err(RpcError::DialFailed));
        }
    }

    fn remember_dial(&mut self, now: Now, peer: PeerId, reached: bool) {
        let now = now.monotonic;
        let old = self.backoffs.remove(&peer).filter(|old| now < old.until + Backoff::time(old.tries));
        if !reached {
            let new = match old {
                Some(old) => Backoff { until: now + Backoff::time(old.tries), tries: old.tries + 1 },
                None => Backoff { until: now + BACKOFF, tries: 1 },
            };
            self.backoffs.insert(peer, new);
        }
    }

    fn take(&mut self, now: Now, id: RpcId, result: Result<Response, RpcError>) {
        let Some(rpc) = self.rpcs.remove(&id) else { return };
        let is_put = matches!(rpc.request, Request::PutValue { .. });
        let broke = matches!(result, Err(RpcError::Timeout | RpcError::Reset | RpcError::Closed | RpcError::Malformed));
        // A stream that breaks is replaced once: a refused record is sent twice.
        if broke && !rpc.retried && (is_put || self.ops.contains_key(&rpc.op)) {
            return self.ask(now, Rpc { retried: true, stands: None, ..rpc });
        }
        let Some(op) = self.ops.get_mut(&rpc.op) else { return };
        let ok = result.is_ok();
        let mut closer = Vec::new();
        match result {
            Ok(Response::PutValue { record }) => {
                let sent = op.job.publishes.as_ref().is_some_and(|own| *own.as_bytes() == record.value);
                op.job.acks += u32::from(sent);
            }
            Ok(response) => {
                let (named, record) = answered(response);
                closer = named;
                if let Some(record) = record {
                    op.read(now, rpc.peer.id, |job, now| job.read(now, &record));
                    if op.job.values > QUORUM {
                        return self.end(now, rpc.op);
                    }
                }
            }
            Err(_) => {}
        }
        match op.phase {
            Phase::Walk => {
                if let Some(peer) = op.peers.get_mut(&rpc.place) {
                    peer.state = if ok { State::Queried } else { State::Unreachable };
                }
                closer.into_iter().take(MAX_CLOSER).for_each(|peer| op.hear(peer));
                self.walk(now, rpc.op);
            }
            Phase::Drain => self.drain(now, rpc.op),
            Phase::FollowUp => self.followed_up(now, rpc.op),
            Phase::Put => self.put(now, rpc.op),
        }
    }
}

impl Client for Go {
    fn publish(&mut self, now: Now, start: Start, record: Verified) {
        let name = *record.name();
        let refused = self.own.get(&name).is_some_and(|own| compare(&record, own).is_lt());
        if refused {
            let mut finished = Job::new(now, &start, name, Some(record)).end(now);
            finished.record = None;
            return self.outputs.push_back(Output::Finished(finished));
        }
        self.own.insert(name, record.clone());
        self.begin(now, Job::new(now, &start, name, Some(record)), start.known, None);
    }

    fn resolve(&mut self, now: Now, start: Start, name: Name) {
        let own = self.own.get(&name).filter(|own| !own.is_expired(now.wall)).cloned();
        let mut job = Job::new(now, &start, name, None);
        // Its own record is one of the 17.
        if let Some(own) = own {
            job.take(now, own);
        }
        self.begin(now, job, start.known, Some(now.monotonic + READ_LIMIT));
    }

    fn dialled(&mut self, id: RpcId, stands: Option<Duration>) {
        let Some(rpc) = self.rpcs.get_mut(&id) else { return };
        rpc.stands = stands;
        if let Some(op) = self.ops.get_mut(&rpc.op) {
            op.job.asked += 1;
        }
    }

    fn handle(&mut self, now: Now, id: RpcId, result: Result<Response, RpcError>) {
        // A dial that was given up is not remembered: nobody is waiting for it.
        if let Some(rpc) = self.rpcs.get(&id) {
            let (peer, reached) = (rpc.peer.id, result != Err(RpcError::DialFailed));
            self.remember_dial(now, peer, reached);
        }
        self.take(now, id, result);
        self.take_refused(now);
    }

    fn tick(&mut self, now: Now) {
        let over = self.ops.iter().filter(|(_, op)| op.deadline.is_some_and(|deadline| deadline <= now.monotonic));
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(now, id);
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.ops.values().filter_map(|op| op.deadline).min()
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            match self.outputs.pop_front()? {
                // It was given up before it went out.
                Output::Ask(ask) if !self.rpcs.contains_key(&ask.id) => {}
                output => return Some(output),
            }
        }
    }
}
