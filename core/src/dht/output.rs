//! What a DHT node tells its caller.

use core::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::bootstrap::Health;
use super::get::Freshness;
use super::message::{PeerInfo, Request, Response};
use super::put::{Outcome, Tally};
use super::rpc::{RpcError, RpcId};
use super::values::Refused;
use crate::record::Verified;
use crate::store::Write;

/// One operation of the caller. Ids are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// A request from another node; the caller chooses the id and answers it by the [`Output::Reply`] that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundId(pub u64);

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Ask a peer, over a connection that is open or by dialling its addresses (and others that the caller knows).
    /// Report with [`Dht::on_response`](crate::dht::Dht::on_response).
    Rpc {
        /// The question.
        id: RpcId,
        /// Whom.
        peer: PeerId,
        /// Where.
        addresses: Vec<Multiaddr>,
        /// What.
        request: Request,
        /// After this no answer is used any more: dialling included.
        timeout: Duration,
    },
    /// Open a connection to a peer that will soon be asked something, unless there is one. Nothing is reported.
    Connect {
        /// Whom.
        peer: PeerId,
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// Answer a request: send the response, or reset the stream at once.
    Reply {
        /// The request.
        to: InboundId,
        /// The answer.
        response: Result<Response, Refused>,
    },
    /// Change what is stored: hand it to [`Dht::load`](crate::dht::Dht::load) after a restart. It need not be durable
    /// before anything else happens: other servers keep the same.
    Store(Write),
    /// Something happened.
    Event(Event),
}

/// What happened.
///
/// Every operation ends with its own `…Done`, and after that, when its questions are all answered or given up,
/// with [`Event::Closed`]. Between the two there may be more [`Event::Found`], [`Event::Corrected`] and
/// [`Event::Receipt`]. A cancelled operation tells nothing more.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A get found a record that is better than all before it.
    Found {
        /// The operation.
        query: QueryId,
        /// The record, verified.
        record: Box<Verified>,
        /// Who sent it.
        from: PeerId,
    },
    /// A get, or the walk before a put, is done.
    GetDone {
        /// The operation.
        query: QueryId,
        /// The best record, if there is any.
        best: Option<Box<Verified>>,
        /// How sure it is that there is no newer one.
        freshness: Freshness,
        /// How many peers were asked.
        asked: usize,
        /// The nearest peers that answered, nearest first: where to put a new record.
        closest: Vec<PeerInfo>,
    },
    /// A peer that held an older record, or none, was sent the best one.
    Corrected {
        /// The operation.
        query: QueryId,
        /// The peer.
        peer: PeerId,
        /// What it said.
        outcome: Outcome,
    },
    /// What one peer said to a put or a provide.
    Receipt {
        /// The operation.
        query: QueryId,
        /// The peer.
        peer: PeerId,
        /// What it said.
        outcome: Outcome,
    },
    /// The result of a put or a provide is certain.
    PutDone {
        /// The operation.
        query: QueryId,
        /// Whether enough peers took it.
        success: bool,
        /// What is known by now.
        tally: Tally,
    },
    /// The peers nearest to a key.
    ClosestDone {
        /// The operation.
        query: QueryId,
        /// Those that answered, nearest first; at most k.
        closest: Vec<PeerInfo>,
    },
    /// A peer was found, or not.
    FindPeerDone {
        /// The operation.
        query: QueryId,
        /// The peer, and its addresses as others told them; none when it is not known.
        peer: PeerInfo,
        /// Whether the peer itself has answered.
        reached: bool,
    },
    /// A peer answered a [`Dht::ping`](crate::dht::Dht::ping), or did not.
    Pong {
        /// The operation.
        query: QueryId,
        /// The peer.
        peer: PeerId,
        /// How long the question took, the dial included, or what went wrong.
        result: Result<Duration, RpcError>,
    },
    /// A provider of the key that is looked for. Each is told once.
    Provider {
        /// The operation.
        query: QueryId,
        /// The provider.
        provider: PeerInfo,
        /// Who named it.
        from: PeerId,
    },
    /// The search for providers is done.
    ProvidersDone {
        /// The operation.
        query: QueryId,
        /// How many were found.
        found: usize,
    },
    /// The operation is over: nothing of it is kept any more.
    Closed {
        /// The operation.
        query: QueryId,
    },
    /// The node's standing in the network changed.
    Health(Health),
    /// The node began (`true`) or ceased to serve others.
    Serving(bool),
}
