//! How much a network may hold and do at once.

use std::time::Duration;

/// Bounds on what a [`Behaviour`](crate::Behaviour) holds and does at once, so that neither a busy node nor hostile
/// peers cost more than is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Questions under way at once, dialling included. Further ones wait, in order.
    pub asks: usize,
    /// Questions that wait for their turn. Further ones end at once with a time-out.
    pub waiting_asks: usize,
    /// Peers dialled at once. Further ones that are asked something wait, in order; connections made beforehand take no
    /// more than half, and are left out beyond.
    pub dials: usize,
    /// Connections that came of its dialling and stay open without a question. Beyond, the longest idle are closed, which
    /// only a swarm that is there for nothing else should want; by default the swarm's idle time-out decides alone.
    pub idle_connections: usize,
    /// Streams that this node has open on one connection. Further questions wait, in order.
    pub outbound_streams: usize,
    /// Streams that a peer may have open on one connection. Further ones are reset at once.
    pub inbound_streams: usize,
    /// Requests that the node has not answered yet, of all peers. Further ones are reset at once.
    pub unanswered: usize,
    /// Bytes of answers that are being read, beyond 64 KiB for each: only large answers share them. An answer that
    /// finds no room is malformed.
    pub answer_bytes: usize,
    /// Bytes of requests that are being read, beyond 4 KiB for each: only large requests share them. A request that
    /// finds no room is reset.
    pub request_bytes: usize,
    /// How long a peer may take to send one request, once it has begun, or to take one answer.
    pub frame_timeout: Duration,
    /// How long a stream of a peer may be open without a request.
    pub idle_timeout: Duration,
    /// Addresses kept of one peer.
    pub addresses: usize,
    /// Peers whose addresses are kept after they have disconnected. Identify tells only what is new to it, so this
    /// should not be fewer peers than the cache of the swarm's identify holds, 100 by default.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            asks: 1024,
            waiting_asks: 8192,
            dials: 128,
            idle_connections: usize::MAX,
            outbound_streams: 64,
            inbound_streams: 64,
            unanswered: 1024,
            answer_bytes: 64 << 20,
            request_bytes: 16 << 20,
            frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            addresses: 16,
            remembered: 1024,
        }
    }
}
