//! How many connections a node of ours keeps. libp2p's own limits keep a set for every peer that ever connected, which a
//! server of a DHT cannot afford.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure};
use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm, dummy};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

/// Bounds on the connections of a node of ours. What goes beyond is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections from others that are being made.
    pub pending_in: usize,
    /// Connections to others that are being made.
    pub pending_out: usize,
    /// Connections from others.
    pub established_in: usize,
    /// Connections to others.
    pub established_out: usize,
    /// Connections in all.
    pub established: usize,
    /// Connections with one peer.
    pub per_peer: usize,
}

impl Default for ConnectionLimits {
    /// Fits into the 1024 open files that many systems allow a process.
    fn default() -> Self {
        Self {
            pending_in: 128,
            pending_out: 256,
            established_in: 448,
            established_out: 512,
            established: 768,
            per_peer: 4,
        }
    }
}

/// A connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("at most {limit} {what} are allowed")]
pub(crate) struct TooMany {
    what: &'static str,
    limit: usize,
}

/// Refuses connections beyond the limits.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    pending_in: BTreeSet<ConnectionId>,
    pending_out: BTreeSet<ConnectionId>,
    inbound: usize,
    outbound: usize,
    per_peer: BTreeMap<PeerId, usize>,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let (pending_in, pending_out, per_peer) = Default::default();
        Self { limits, pending_in, pending_out, inbound: 0, outbound: 0, per_peer }
    }

    fn established(&self, peer: &PeerId) -> Result<(), TooMany> {
        let of_peer = self.per_peer.get(peer).copied().unwrap_or_default();
        below(self.inbound + self.outbound, self.limits.established, "connections")?;
        below(of_peer, self.limits.per_peer, "connections with one peer")
    }
}

fn below(count: usize, limit: usize, what: &'static str) -> Result<(), TooMany> {
    if count < limit { Ok(()) } else { Err(TooMany { what, limit }) }
}

impl NetworkBehaviour for Connections {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        below(self.pending_in.len(), self.limits.pending_in, "pending connections from others")
            .map_err(ConnectionDenied::new)?;
        self.pending_in.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.pending_in.remove(&connection);
        below(self.inbound, self.limits.established_in, "connections from others")
            .and_then(|()| self.established(&peer))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        below(self.pending_out.len(), self.limits.pending_out, "pending connections to others")
            .map_err(ConnectionDenied::new)?;
        self.pending_out.insert(connection);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.pending_out.remove(&connection);
        below(self.outbound, self.limits.established_out, "connections to others")
            .and_then(|()| self.established(&peer))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, endpoint, .. }) => {
                *if endpoint.is_dialer() { &mut self.outbound } else { &mut self.inbound } += 1;
                *self.per_peer.entry(peer_id).or_default() += 1;
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, endpoint, remaining_established, .. }) => {
                *if endpoint.is_dialer() { &mut self.outbound } else { &mut self.inbound } -= 1;
                match remaining_established {
                    0 => drop(self.per_peer.remove(&peer_id)),
                    left => drop(self.per_peer.insert(peer_id, left)),
                }
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.pending_out.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending_in.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::ConnectedPoint;
    use libp2p::swarm::{DialError, ListenError};

    fn here() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    fn from_others() -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: here(), send_back_addr: here() }
    }

    /// Connects a peer; says why not.
    fn connect(connections: &mut Connections, id: usize, peer: PeerId) -> Result<(), String> {
        let (connection_id, at) = (ConnectionId::new_unchecked(id), here());
        let said = |denied: ConnectionDenied| denied.downcast::<TooMany>().unwrap().to_string();
        connections.handle_pending_inbound_connection(connection_id, &at, &at).map_err(said)?;
        connections.handle_established_inbound_connection(connection_id, peer, &at, &at).map_err(said)?;
        let endpoint = &from_others();
        let event = ConnectionEstablished {
            peer_id: peer,
            connection_id,
            endpoint,
            failed_addresses: &[],
            other_established: 0,
        };
        connections.on_swarm_event(FromSwarm::ConnectionEstablished(event));
        Ok(())
    }

    fn close(connections: &mut Connections, id: usize, peer: PeerId, left: usize) {
        let endpoint = &from_others();
        let event = ConnectionClosed {
            peer_id: peer,
            connection_id: ConnectionId::new_unchecked(id),
            endpoint,
            cause: None,
            remaining_established: left,
        };
        connections.on_swarm_event(FromSwarm::ConnectionClosed(event));
    }

    #[test]
    fn what_is_beyond_is_refused_and_nothing_is_left() {
        let limits = ConnectionLimits { pending_in: 2, established: 3, per_peer: 2, ..ConnectionLimits::default() };
        let mut connections = Connections::new(limits);
        let (a, b) = (PeerId::random(), PeerId::random());
        assert_eq!((connect(&mut connections, 1, a), connect(&mut connections, 2, a)), (Ok(()), Ok(())));
        assert_eq!(connect(&mut connections, 3, a), Err("at most 2 connections with one peer are allowed".into()));
        assert_eq!(connect(&mut connections, 4, b), Ok(()));
        assert_eq!(connect(&mut connections, 5, b), Err("at most 3 connections are allowed".into()));
        close(&mut connections, 1, a, 1);
        close(&mut connections, 2, a, 0);
        close(&mut connections, 4, b, 0);
        assert_eq!((connections.inbound, connections.per_peer.len(), connections.pending_in.len()), (0, 0, 0));
        let at = here();
        for id in 6..8 {
            connections.handle_pending_inbound_connection(ConnectionId::new_unchecked(id), &at, &at).unwrap();
        }
        assert!(connections.handle_pending_inbound_connection(ConnectionId::new_unchecked(8), &at, &at).is_err());
    }

    #[test]
    fn what_fails_makes_room() {
        let limits = ConnectionLimits { pending_in: 1, pending_out: 1, ..ConnectionLimits::default() };
        let (mut connections, at, id) = (Connections::new(limits), here(), ConnectionId::new_unchecked);
        let dial = |connections: &mut Connections, n| {
            connections.handle_pending_outbound_connection(id(n), None, &[], Endpoint::Dialer).map_err(|_| n)
        };
        assert!(dial(&mut connections, 1).is_ok() && dial(&mut connections, 2) == Err(2));
        let failed = DialFailure { peer_id: None, error: &DialError::Aborted, connection_id: id(1) };
        connections.on_swarm_event(FromSwarm::DialFailure(failed));
        assert!(dial(&mut connections, 3).is_ok());

        let listen = |connections: &mut Connections, n| {
            connections.handle_pending_inbound_connection(id(n), &at, &at).map_err(|_| n)
        };
        assert!(listen(&mut connections, 4).is_ok() && listen(&mut connections, 5) == Err(5));
        let failed = ListenFailure {
            local_addr: &at,
            send_back_addr: &at,
            error: &ListenError::Aborted,
            connection_id: id(4),
            peer_id: None,
        };
        connections.on_swarm_event(FromSwarm::ListenFailure(failed));
        assert!(listen(&mut connections, 6).is_ok());
    }

    #[test]
    fn each_direction_has_its_limit() {
        let limits = ConnectionLimits { established_in: 1, established_out: 1, ..ConnectionLimits::default() };
        let (mut connections, at, peers) = (Connections::new(limits), here(), [0; 4].map(|_| PeerId::random()));
        let dial = |connections: &mut Connections, n: usize| {
            let (id, reuse) = (ConnectionId::new_unchecked(n), PortUse::Reuse);
            connections.handle_pending_outbound_connection(id, Some(peers[n]), &[], Endpoint::Dialer).unwrap();
            connections.handle_established_outbound_connection(id, peers[n], &at, Endpoint::Dialer, reuse)?;
            let endpoint =
                &ConnectedPoint::Dialer { address: at.clone(), role_override: Endpoint::Dialer, port_use: reuse };
            connections.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peers[n],
                connection_id: id,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
            Ok::<(), ConnectionDenied>(())
        };
        assert!(dial(&mut connections, 0).is_ok() && dial(&mut connections, 1).is_err());
        assert!(connect(&mut connections, 12, peers[2]).is_ok());
        assert_eq!(
            connect(&mut connections, 13, peers[3]),
            Err("at most 1 connections from others are allowed".into())
        );
        assert!(connections.pending_out.is_empty() && connections.pending_in.is_empty());
    }
}
