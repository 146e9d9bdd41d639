//! `rust-classic`: rust-libp2p's kad with its defaults.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipns_core::dht::{Distance, Key, PeerInfo, Request, Response, RpcError, RpcId};
use ipns_core::{Name, Now, Verified};

use super::{Ask, Client, Job, K, Output, Start, answered};

/// How many peers a walk asks at a time, as long as it gets nearer.
const ALPHA: usize = 3;
/// A put succeeds with so many of 20. An application that publishes names wants more than kad's least, which is one,
/// and never gets all.
const MAJORITY: u32 = 11;
/// After so long a walk takes no heed of a peer any more that it asked.
const PEER_LIMIT: Duration = Duration::from_secs(10);
/// How long a walk may take, and then the puts.
const QUERY_LIMIT: Duration = Duration::from_secs(60);
/// How long a dial may take.
const DIAL: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unasked,
    /// Until when it is waited for.
    Asked(Duration),
    Unresponsive,
    Failed,
    Answered,
}

#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    state: State,
}

/// What a walk does next.
enum Step {
    Ask(Distance, PeerInfo),
    Wait,
    Over,
}

#[derive(Debug)]
struct Walk {
    peers: BTreeMap<Distance, Peer>,
    /// How many answers in a row brought nothing nearer.
    vain: usize,
    /// When it was last asked for its next step.
    seen: Duration,
}

impl Walk {
    fn waiting(&self) -> usize {
        self.peers.values().filter(|peer| matches!(peer.state, State::Asked(_))).count()
    }

    fn answered(&mut self, place: Distance, target: &Key, closer: Vec<PeerInfo>) {
        let Some(peer) = self.peers.get_mut(&place) else { return };
        if !matches!(peer.state, State::Asked(_) | State::Unresponsive) {
            return;
        }
        peer.state = State::Answered;
        let range = self.peers.keys().nth(K - 1).or_else(|| self.peers.keys().next_back()).copied();
        let mut progress = self.peers.len() < K;
        for info in closer {
            let place = Key::of_peer(&info.id).distance(target);
            self.peers.entry(place).or_insert_with(|| {
                progress |= range.is_some_and(|range| place < range);
                Peer { info, state: State::Unasked }
            });
        }
        if progress {
            self.vain = 0;
        } else {
            self.vain += 1;
        }
    }

    fn failed(&mut self, place: Distance) {
        if let Some(peer) = self.peers.get_mut(&place)
            && matches!(peer.state, State::Asked(_) | State::Unresponsive)
        {
            peer.state = State::Failed;
        }
    }

    /// From the nearest on: asks the first that was not asked, unless enough are, and ends when the 20 nearest of
    /// those that did not fail have answered.
    fn next(&mut self, now: Duration) -> Step {
        self.seen = now;
        // Having stalled, it asks more peers at a time.
        let full = self.waiting() >= if self.vain >= ALPHA { K } else { ALPHA };
        let mut answers = Some(0);
        for (place, peer) in &mut self.peers {
            match peer.state {
                State::Asked(until) if until <= now => peer.state = State::Unresponsive,
                State::Asked(_) | State::Unasked if full => return Step::Wait,
                State::Asked(_) => answers = None,
                State::Unasked => {
                    peer.state = State::Asked(now + PEER_LIMIT);
                    return Step::Ask(*place, peer.info.clone());
                }
                State::Answered => {
                    if let Some(answers) = &mut answers {
                        *answers += 1;
                        if *answers >= K {
                            return Step::Over;
                        }
                    }
                }
                State::Unresponsive | State::Failed => {}
            }
        }
        if self.waiting() > 0 { Step::Wait } else { Step::Over }
    }

    fn next_timeout(&self) -> Option<Duration> {
        // One that is overdue is not noticed while the walk waits for a nearer one and may ask no more.
        let until = |peer: &Peer| if let State::Asked(until) = peer.state { Some(until) } else { None };
        self.peers.values().filter_map(until).filter(|until| *until > self.seen).min()
    }

    fn closest(&self) -> impl Iterator<Item = (Distance, PeerInfo)> {
        let answered = self.peers.iter().filter(|(_, peer)| peer.state == State::Answered).take(K);
        answered.map(|(place, peer)| (*place, peer.info.clone()))
    }
}

#[derive(Debug)]
struct Op {
    job: Job,
    walk: Walk,
    /// How many puts have no answer yet; `None` while it walks.
    putting: Option<usize>,
    deadline: Duration,
}

#[derive(Debug)]
struct Rpc {
    op: u64,
    place: Distance,
}

#[derive(Debug, Default)]
pub(crate) struct Rust {
    last: u64,
    ops: BTreeMap<u64, Op>,
    rpcs: BTreeMap<RpcId, Rpc>,
    /// What it published itself.
    own: BTreeMap<Name, Verified>,
    outputs: VecDeque<Output>,
}

impl Rust {
    fn begin(&mut self, now: Now, job: Job, known: Vec<PeerInfo>) {
        let (op, target) = (job.op, job.target);
        let place =
            |peer: PeerInfo| (Key::of_peer(&peer.id).distance(&target), Peer { info: peer, state: State::Unasked });
        let peers = known.into_iter().take(K).map(place).collect();
        let walk = Walk { peers, vain: 0, seen: now.monotonic };
        self.ops.insert(op, Op { job, walk, putting: None, deadline: now.monotonic + QUERY_LIMIT });
        self.advance(now, op);
    }

    fn ask(&mut self, op: u64, place: Distance, peer: PeerInfo, request: Request) {
        self.last += 1;
        let id = RpcId(self.last);
        self.rpcs.insert(id, Rpc { op, place });
        self.outputs.push_back(Output::Ask(Ask { id, peer, request, dial: DIAL, timeout: ANSWER }));
    }

    fn advance(&mut self, now: Now, id: u64) {
        while let Some(op) = self.ops.get_mut(&id) {
            if let Some(open) = op.putting {
                if open == 0 || op.job.acks >= MAJORITY {
                    self.end(now, id);
                }
                return;
            }
            match op.walk.next(now.monotonic) {
                Step::Wait => return,
                Step::Ask(place, peer) => {
                    let request = op.job.ask();
                    self.ask(id, place, peer, request);
                }
                Step::Over => match &op.job.publishes {
                    None => return self.end(now, id),
                    Some(record) => {
                        let request = op.job.put(record);
                        let peers: Vec<_> = op.walk.closest().collect();
                        op.putting = Some(peers.len());
                        op.deadline = now.monotonic + QUERY_LIMIT;
                        // What the walk no longer waits for comes too late.
                        self.rpcs.retain(|_, rpc| rpc.op != id);
                        for (place, peer) in peers {
                            self.ask(id, place, peer, request.clone());
                        }
                    }
                },
            }
        }
    }

    fn end(&mut self, now: Now, id: u64) {
        if let Some(op) = self.ops.remove(&id) {
            self.outputs.push_back(Output::Finished(op.job.end(now)));
        }
    }
}

impl Client for Rust {
    fn publish(&mut self, now: Now, start: Start, record: Verified) {
        let name = *record.name();
        self.own.insert(name, record.clone());
        self.begin(now, Job::new(now, &start, name, Some(record)), start.known);
    }

    fn resolve(&mut self, now: Now, start: Start, name: Name) {
        let own = self.own.get(&name).filter(|own| !own.is_expired(now.wall)).cloned();
        let mut job = Job::new(now, &start, name, None);
        if let Some(own) = own {
            job.take(now, own);
        }
        self.begin(now, job, start.known);
    }

    fn dialled(&mut self, id: RpcId, _: Option<Duration>) {
        let op = self.rpcs.get(&id).and_then(|rpc| self.ops.get_mut(&rpc.op));
        if let Some(op) = op {
            op.job.asked += 1;
        }
    }

    fn handle(&mut self, now: Now, id: RpcId, result: Result<Response, RpcError>) {
        let Some(Rpc { op: id, place }) = self.rpcs.remove(&id) else { return };
        let Some(op) = self.ops.get_mut(&id) else { return };
        match (&mut op.putting, result) {
            (Some(open), result) => {
                *open -= 1;
                op.job.acks += u32::from(result.is_ok());
            }
            (None, Ok(response)) => {
                let (closer, record) = answered(response);
                if let Some(record) = record {
                    op.job.read(now, &record);
                }
                op.walk.answered(place, &op.job.target, closer);
            }
            (None, Err(_)) => op.walk.failed(place),
        }
        self.advance(now, id);
    }

    fn tick(&mut self, now: Now) {
        for id in self.ops.keys().copied().collect::<Vec<_>>() {
            self.advance(now, id);
            if self.ops.get(&id).is_some_and(|op| op.deadline <= now.monotonic) {
                self.end(now, id);
            }
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let of = |op: &Op| {
            let walk = if op.putting.is_none() { op.walk.next_timeout() } else { None };
            walk.map_or(op.deadline, |walk| walk.min(op.deadline))
        };
        self.ops.values().map(of).min()
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
