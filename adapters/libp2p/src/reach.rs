//! Where this node can be reached.

use ipns_core::routing::NetEvent;
use libp2p::Multiaddr;
use libp2p::swarm::FromSwarm;

/// The addresses of this node, as the swarm tells them.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    listening: Vec<Multiaddr>,
    confirmed: Vec<Multiaddr>,
}

impl Reach {
    /// Whether the event changes where the node can be reached.
    pub(crate) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) -> bool {
        match event {
            FromSwarm::NewListenAddr(new) => add(&mut self.listening, new.addr),
            FromSwarm::ExpiredListenAddr(expired) => remove(&mut self.listening, expired.addr),
            FromSwarm::ExternalAddrConfirmed(confirmed) => add(&mut self.confirmed, confirmed.addr),
            FromSwarm::ExternalAddrExpired(expired) => remove(&mut self.confirmed, expired.addr),
            _ => false,
        }
    }

    pub(crate) fn event(&self) -> NetEvent {
        NetEvent::Addresses { listening: self.listening.clone(), confirmed: self.confirmed.clone() }
    }
}

fn add(list: &mut Vec<Multiaddr>, address: &Multiaddr) -> bool {
    let new = !list.contains(address);
    if new {
        list.push(address.clone());
    }
    new
}

fn remove(list: &mut Vec<Multiaddr>, address: &Multiaddr) -> bool {
    let at = list.iter().position(|known| known == address);
    at.map(|at| list.remove(at)).is_some()
}
