//! The questions that are out: whom, why, since when, and until when they may stay out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use thiserror::Error;

use super::message::{PeerInfo, Request};

/// One question to one peer. Ids are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(pub u64);

/// Why a question has no answer. [`code`](RpcError::code) is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum RpcError {
    /// No connection could be made.
    #[error("the peer cannot be reached")]
    DialFailed,
    /// No answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer reset the stream: how servers refuse a request.
    #[error("the peer reset the stream")]
    Reset,
    /// The connection or the stream closed before the answer.
    #[error("the connection closed before the answer")]
    Closed,
    /// The peer does not speak this DHT's protocol.
    #[error("the peer does not speak the protocol")]
    Unsupported,
    /// The answer is no message, or not one to this question.
    #[error("the answer is malformed")]
    Malformed,
}

impl RpcError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DialFailed => "rpc_dial_failed",
            Self::Timeout => "rpc_timeout",
            Self::Reset => "rpc_reset",
            Self::Closed => "rpc_closed",
            Self::Unsupported => "rpc_unsupported",
            Self::Malformed => "rpc_malformed",
        }
    }
}

/// After this no answer is waited for any more.
pub(crate) const HARD_TIMEOUT: Duration = Duration::from_secs(10);

/// A question that is out, and `P`: why it was asked.
#[derive(Debug)]
pub(crate) struct Pending<P> {
    pub(crate) peer: PeerInfo,
    pub(crate) request: Request,
    pub(crate) sent: Duration,
    pub(crate) purpose: P,
    slow: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Rpcs<P> {
    next: u64,
    pending: BTreeMap<RpcId, Pending<P>>,
    /// How many questions are out to each peer.
    by_peer: BTreeMap<PeerId, u32>,
    /// Both of a question's time-outs; they are told apart by comparing with `Pending::slow`.
    timers: BTreeSet<(Duration, RpcId)>,
}

/// A time-out that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The peer is slow: ask another one too. The question stays out.
    Slow(RpcId),
    /// The question is over: finish it.
    Over(RpcId),
}

impl<P> Rpcs<P> {
    pub(crate) fn new() -> Self {
        Self { next: 0, pending: BTreeMap::new(), by_peer: BTreeMap::new(), timers: BTreeSet::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Notes a question; with `patience` its peer is called slow after that time.
    pub(crate) fn start(
        &mut self,
        now: Duration,
        peer: PeerInfo,
        request: Request,
        purpose: P,
        patience: Option<Duration>,
    ) -> RpcId {
        let id = RpcId(self.next);
        self.next += 1;
        let slow = patience.filter(|patience| *patience < HARD_TIMEOUT).map(|patience| now + patience);
        self.timers.extend(slow.map(|at| (at, id)));
        self.timers.insert((now + HARD_TIMEOUT, id));
        *self.by_peer.entry(peer.id).or_default() += 1;
        self.pending.insert(id, Pending { peer, request, sent: now, purpose, slow });
        id
    }

    /// The id that was given last.
    #[cfg(test)]
    pub(crate) fn newest(&self) -> RpcId {
        RpcId(self.next.saturating_sub(1))
    }

    pub(crate) fn get(&self, id: RpcId) -> Option<&Pending<P>> {
        self.pending.get(&id)
    }

    /// The answer, or its lack, has come: the question is over. `None` for one that is not out.
    pub(crate) fn finish(&mut self, id: RpcId) -> Option<Pending<P>> {
        let pending = self.pending.remove(&id)?;
        self.timers.remove(&(pending.sent + HARD_TIMEOUT, id));
        if let Some(slow) = pending.slow {
            self.timers.remove(&(slow, id));
        }
        if let Some(count) = self.by_peer.get_mut(&pending.peer.id) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&pending.peer.id);
            }
        }
        Some(pending)
    }

    /// Whether a question to the peer is out.
    pub(crate) fn is_asking(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next time-out that has come; each is told once.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Expired> {
        let (at, id) = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&(at, id));
        let slow = self.pending.get(&id)?.slow == Some(at);
        Some(if slow { Expired::Slow(id) } else { Expired::Over(id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::testing::peer;

    #[test]
    fn first_slow_then_over() {
        let mut rpcs = Rpcs::new();
        let info = || PeerInfo { id: peer(1), addresses: Vec::new() };
        let second = Duration::from_secs(1);
        let first = rpcs.start(second, info(), Request::Ping, (), Some(second));
        let other = rpcs.start(second, info(), Request::Ping, (), None);
        assert_eq!(rpcs.expire(second), None);
        assert_eq!(rpcs.next_timeout(), Some(2 * second));
        assert_eq!(rpcs.expire(2 * second), Some(Expired::Slow(first)));
        assert!(rpcs.finish(other).is_some());
        assert!(rpcs.is_asking(&peer(1)));
        assert!(rpcs.finish(other).is_none());
        assert_eq!(rpcs.next_timeout(), Some(11 * second));
        assert_eq!(rpcs.expire(12 * second), Some(Expired::Over(first)));
        assert!(rpcs.finish(first).is_some());
        assert_eq!((rpcs.len(), rpcs.next_timeout(), rpcs.is_asking(&peer(1))), (0, None, false));
        assert!(rpcs.expire(99 * second).is_none());
    }
}
