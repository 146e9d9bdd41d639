//! What connected peers say of themselves: the protocols that they offer, and where they listen.

use std::collections::{BTreeMap, BTreeSet};

use ipns_core::routing::{NetEvent, RouterId};
use libp2p::core::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::limits::Limits;

/// What peers have told. The node is told of a peer when both its protocols and an address are known, and when either
/// changes; a peer that offers none of our protocols needs no address.
#[derive(Debug)]
pub(crate) struct Told {
    limits: Limits,
    connected: BTreeMap<PeerId, Connected>,
    /// The addresses of peers that are not connected. Identify reports each only once, so nobody would tell them when
    /// the peer comes back.
    remembered: BTreeMap<PeerId, (u64, Vec<Multiaddr>)>,
    by_age: BTreeSet<(u64, PeerId)>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Connected {
    /// Where this node dialled it.
    dialled: Option<Multiaddr>,
    listens: Vec<Multiaddr>,
    /// Whether the peer itself has said where it listens, as opposed to anybody in the swarm.
    first_hand: bool,
    serves: Option<Vec<RouterId>>,
    told: Option<(Vec<Multiaddr>, Vec<RouterId>)>,
}

impl Told {
    pub(crate) fn new(limits: Limits) -> Self {
        let (connected, remembered) = (BTreeMap::new(), BTreeMap::new());
        Self { limits, connected, remembered, by_age: BTreeSet::new(), clock: 0 }
    }

    /// How many peers are connected, and how many others are remembered.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.connected.len(), self.remembered.len())
    }

    pub(crate) fn on_connected(&mut self, peer: PeerId, dialled: Option<&Multiaddr>) -> Option<NetEvent> {
        let listens = match self.connected.contains_key(&peer) {
            true => None,
            false => self.recall(&peer),
        };
        let entry = self.connected.entry(peer).or_default();
        entry.listens.extend(listens.unwrap_or_default());
        if let Some(address) = dialled {
            entry.dialled = Some(without_peer(address, &peer));
        }
        self.news(peer)
    }

    /// The last connection to a peer has closed.
    pub(crate) fn on_disconnected(&mut self, peer: PeerId) {
        let Some(Connected { listens, .. }) = self.connected.remove(&peer) else { return };
        if listens.is_empty() || self.limits.remembered == 0 {
            return;
        }
        while self.remembered.len() >= self.limits.remembered
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.remembered.remove(&oldest);
        }
        self.clock += 1;
        self.by_age.insert((self.clock, peer));
        self.remembered.insert(peer, (self.clock, listens));
    }

    pub(crate) fn on_serves(&mut self, peer: PeerId, serves: Vec<RouterId>) -> Option<NetEvent> {
        self.connected.get_mut(&peer)?.serves = Some(serves);
        self.news(peer)
    }

    /// Somebody in the swarm, usually identify, says that the peer listens there too.
    pub(crate) fn on_address(&mut self, peer: PeerId, address: &Multiaddr) -> Option<NetEvent> {
        let entry = self.connected.get_mut(&peer)?;
        let address = without_peer(address, &peer);
        if entry.first_hand || entry.listens.len() >= self.limits.addresses || entry.listens.contains(&address) {
            return None;
        }
        entry.listens.push(address);
        self.news(peer)
    }

    /// The peer says that it listens there, and nowhere else.
    pub(crate) fn on_listens(&mut self, peer: PeerId, addresses: &[Multiaddr]) -> Option<NetEvent> {
        let entry = self.connected.get_mut(&peer)?;
        entry.first_hand = true;
        entry.listens.clear();
        for address in addresses.iter().map(|address| without_peer(address, &peer)) {
            if entry.listens.len() < self.limits.addresses && !entry.listens.contains(&address) {
                entry.listens.push(address);
            }
        }
        self.news(peer)
    }

    fn recall(&mut self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        let (age, addresses) = self.remembered.remove(peer)?;
        self.by_age.remove(&(age, *peer));
        Some(addresses)
    }

    fn news(&mut self, peer: PeerId) -> Option<NetEvent> {
        let Connected { dialled, listens, serves, told, .. } = self.connected.get_mut(&peer)?;
        let serves = serves.clone()?;
        let mut addresses: Vec<Multiaddr> = dialled.iter().cloned().collect();
        addresses.extend(listens.iter().filter(|address| Some(*address) != dialled.as_ref()).cloned());
        addresses.truncate(self.limits.addresses);
        let news = (addresses, serves);
        if (news.0.is_empty() && !news.1.is_empty()) || told.as_ref() == Some(&news) {
            return None;
        }
        *told = Some(news.clone());
        Some(NetEvent::Identified { peer, addresses: news.0, serves: news.1 })
    }
}

/// An address without the peer's id at its end.
pub(crate) fn without_peer(address: &Multiaddr, peer: &PeerId) -> Multiaddr {
    let mut address = address.clone();
    if address.iter().last() == Some(Protocol::P2p(*peer)) {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits = || Limits { addresses: 2, remembered: 2, ..Limits::default() };

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn identified(peer: PeerId, ports: &[u16], serves: &[u16]) -> Option<NetEvent> {
        Some(NetEvent::Identified {
            peer,
            addresses: ports.iter().copied().map(address).collect(),
            serves: serves.iter().copied().map(RouterId).collect(),
        })
    }

    #[test]
    fn a_peer_is_told_when_both_are_known_and_when_either_changes() {
        let (mut told, peer) = (Told::new(LIMITS()), PeerId::random());
        assert_eq!(told.on_address(peer, &address(1)), None);
        assert_eq!(told.on_connected(peer, None), None);
        assert_eq!(told.on_serves(peer, vec![RouterId(7)]), None);
        assert_eq!(told.on_address(peer, &address(1).with_p2p(peer).unwrap()), identified(peer, &[1], &[7]));
        assert_eq!(told.on_address(peer, &address(1)), None);
        assert_eq!(told.on_address(peer, &address(2)), identified(peer, &[1, 2], &[7]));
        assert_eq!(told.on_address(peer, &address(3)), None);
        assert_eq!(told.on_serves(peer, vec![]), identified(peer, &[1, 2], &[]));
        assert_eq!(told.on_listens(peer, &[address(4)]), identified(peer, &[4], &[]));
        assert_eq!(told.on_address(peer, &address(5)), None);
        assert_eq!(told.on_connected(peer, Some(&address(6))), identified(peer, &[6, 4], &[]));
    }

    #[test]
    fn a_client_needs_no_address() {
        let (mut told, peer) = (Told::new(LIMITS()), PeerId::random());
        told.on_connected(peer, None);
        assert_eq!(told.on_serves(peer, vec![]), identified(peer, &[], &[]));
    }

    #[test]
    fn addresses_are_remembered_of_the_last_few() {
        let mut told = Told::new(LIMITS());
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for (peer, port) in peers.iter().zip(1..) {
            told.on_connected(*peer, None);
            told.on_address(*peer, &address(port));
            told.on_disconnected(*peer);
        }
        assert_eq!(told.len(), (0, 2));
        for peer in &peers {
            told.on_connected(*peer, None);
        }
        assert_eq!(told.on_serves(peers[0], vec![RouterId(1)]), None);
        assert_eq!(told.on_serves(peers[2], vec![RouterId(1)]), identified(peers[2], &[3], &[1]));
        assert_eq!((told.len(), told.by_age.len()), ((3, 0), 0));
    }
}
