//! What an engine and a network of peers say to each other. Adapters carry it over whatever transports they have.

use core::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::router::RouterId;
use crate::dht::{InboundId, Refused, Request, Response, RpcError, RpcId};

/// What a network is to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NetCommand {
    /// Ask a peer, over a connection that is open or by dialling: these addresses, and others that are known. Every
    /// question is answered by one [`NetEvent::Response`]; after `timeout`, dialling included, nobody waits for it.
    Ask {
        /// In which DHT; it decides the protocol on the wire.
        router: RouterId,
        /// Which question of that DHT.
        id: RpcId,
        /// Whom.
        peer: PeerId,
        /// Where the peer may be reached, without its id at the end.
        addresses: Vec<Multiaddr>,
        /// What.
        request: Request,
        /// How long it may take.
        timeout: Duration,
    },
    /// Open a connection to a peer that will soon be asked something, unless there is one. Nobody waits for it, and
    /// nothing is reported: a network that is busy may leave it.
    Connect {
        /// Whom.
        peer: PeerId,
        /// Where the peer may be reached, without its id at the end.
        addresses: Vec<Multiaddr>,
    },
    /// Answer a [`NetEvent::Request`]: send the response, or reset the stream at once.
    Reply {
        /// Which.
        to: InboundId,
        /// The answer.
        response: Result<Response, Refused>,
    },
    /// Offer the protocol of a DHT to others, or offer it no longer. At first none is offered.
    Serve {
        /// Which DHT.
        router: RouterId,
        /// Whether to.
        serving: bool,
    },
}

/// What a network tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NetEvent {
    /// A peer answered a [`NetCommand::Ask`], or did not.
    Response {
        /// In which DHT.
        router: RouterId,
        /// Which question.
        id: RpcId,
        /// What it said.
        result: Result<Response, RpcError>,
    },
    /// A peer asks something. Answered by one [`NetCommand::Reply`] before anything else is given to the engine.
    Request {
        /// In which DHT.
        router: RouterId,
        /// Chosen by the network, never twice.
        id: InboundId,
        /// Who.
        peer: PeerId,
        /// What.
        request: Request,
    },
    /// A peer that is connected told what it is (libp2p identify), or told it anew.
    Identified {
        /// Who.
        peer: PeerId,
        /// Where it says that it listens.
        addresses: Vec<Multiaddr>,
        /// The DHTs whose protocol it offers.
        serves: Vec<RouterId>,
    },
    /// Where this node can be reached has changed.
    Addresses {
        /// Where it listens.
        listening: Vec<Multiaddr>,
        /// Where others have confirmed that they can reach it, or its owner says so.
        confirmed: Vec<Multiaddr>,
    },
}
