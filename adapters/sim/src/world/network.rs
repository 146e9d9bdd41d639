//! The network between the nodes of a world: dials, questions, answers.

use std::time::Duration;

use ipns_core::dht::{InboundId, Multiaddr, PeerId, PeerInfo, Request, Response, RpcError};
use ipns_core::engine::Input;
use ipns_core::routing::{NetCommand, NetEvent, RouterId};

use super::{MIN_OPEN, NodeId, What, World};
use crate::dice::unit;
use crate::host::{Asker, Host};
use crate::servers::Population;

impl World {
    pub(super) fn on_command(&mut self, n: u32, command: NetCommand) {
        match command {
            NetCommand::Ask { router, id, peer, addresses, request, timeout } => {
                self.asked += 1;
                let did = &mut self.hosts[n].did;
                match request {
                    Request::PutValue { .. } => did.puts += 1,
                    _ => did.others += 1,
                }
                self.note(&[4, n.into(), id.0, request.key().len() as u64]);
                let counted = self.counted.0 == *request.key();
                let asker = Asker { node: n, life: self.hosts[n].life, router, id, counted };
                if let Some(witness) = &mut self.witness {
                    let host = &self.hosts[n];
                    witness.sent(n, &request, |name| host.keys.contains_key(name));
                }
                self.ask(asker, peer, &addresses, request, timeout, timeout);
            }
            NetCommand::Connect { peer, addresses } => {
                self.note(&[9, n.into(), addresses.len() as u64]);
                let to = self.number(&peer, &addresses);
                let there = |to: &u32| self.is_up(NodeId(*to)) && self.is_at(*to, &addresses) && !self.is_cut(n, *to);
                if let Some(to) = to.filter(there) {
                    self.connect(n, to, false);
                }
            }
            NetCommand::Reply { to, response } => {
                let Some((asker, request)) = self.hosts[n].inbound.remove(&to) else { return };
                self.note(&[5, n.into(), response.is_ok().into()]);
                let chance = self.chance();
                let host = &self.hosts[n];
                let service = self.links.service_time(chance) + host.slow;
                let result = match (response, &host.liar, &mut self.witness) {
                    (Err(_), ..) => Err(RpcError::Reset),
                    (Ok(response), Some(liar), _) => match liar.twist(request.key(), chance, response) {
                        Some(lie) => Ok(lie),
                        None => return,
                    },
                    (Ok(response), None, witness) => {
                        if let Some(witness) = witness {
                            let node = (n, host.life, host.peer);
                            witness.answered(node, host.now(self.now).wall, &request, &response);
                        }
                        Ok(response)
                    }
                };
                self.answer(n, asker, service, result);
            }
            NetCommand::Serve { router, serving } => {
                let host = &mut self.hosts[n];
                host.serves.retain(|other| *other != router);
                if serving {
                    host.serves.push(router);
                }
                // Whoever is connected is told (identify push).
                for other in self.connected(n) {
                    let at = self.now + self.one_way(n, other);
                    self.queue.push(at, What::Connected(n, other));
                }
            }
            _ => {}
        }
    }

    /// Counts a dial that will fail, unless one is under way: whoever asks meanwhile waits for the same.
    fn dial_in_vain(&mut self, n: u32, to: u32, sweeps: bool, wait: Duration) {
        if self.vain.len() >= MIN_OPEN {
            self.vain.retain(|_, end| *end > self.now);
        }
        if self.vain.get(&(n, to)).is_none_or(|end| *end <= self.now) {
            self.vain.insert((n, to), self.now + wait);
            self.note_dial(n, to, sweeps);
        }
    }

    /// Opens a connection, or keeps one open; returns since when it stands.
    fn connect(&mut self, n: u32, to: u32, sweeps: bool) -> Duration {
        let pair = (n.min(to), n.max(to));
        let stands = match self.open.get(&pair).filter(|connection| connection.end > self.now) {
            Some(connection) => connection.start.max(self.now),
            None => {
                let round_trip = self.round_trip(n, to);
                let stands = self.now + round_trip.mul_f64(self.links.connect_round_trips);
                self.queue.push(stands + round_trip / 2, What::Connected(n, to));
                self.note_dial(n, to, sweeps);
                stands
            }
        };
        self.open.insert(pair, stands..stands + self.links.idle);
        if self.open.len() > self.most_open {
            self.open.retain(|_, connection| connection.end > self.now);
            self.most_open = 2 * self.open.len().max(MIN_OPEN);
        }
        stands
    }

    /// Asks, and returns when the connection stands, if it comes about.
    pub(super) fn ask(
        &mut self,
        asker: Asker,
        peer: PeerId,
        addresses: &[Multiaddr],
        request: Request,
        dial: Duration,
        timeout: Duration,
    ) -> Option<Duration> {
        let n = asker.node;
        let to = self.number(&peer, addresses);
        let to = to.filter(|to| !self.is_cut(n, *to));
        let can_be_asked = |to: &u32| self.is_at(*to, addresses) || self.is_open(n, *to);
        let dialled = to.filter(|to| self.is_up(NodeId(*to)) && can_be_asked(to));
        let names = |key: &[u8]| key.ends_with(peer.as_ref().digest()) && key == peer.to_bytes();
        let sweeps = matches!(request, Request::PutValue { .. }) || names(request.key());
        if asker.counted {
            let traffic = &mut self.counted.1;
            match dialled {
                Some(_) => {
                    traffic.questions += 1;
                    traffic.bytes += request.encode().len() as u64;
                }
                None => traffic.undialled += 1,
            }
        }
        let Some(to) = dialled else {
            let wait = if addresses.is_empty() { Duration::ZERO } else { self.links.dead_dial.min(dial) };
            if let Some(to) = to {
                self.dial_in_vain(n, to, sweeps, wait);
            }
            self.respond(asker, wait, Err(RpcError::DialFailed));
            return None;
        };
        let stands = self.connect(n, to, sweeps);
        if self.is_lost() {
            self.respond(asker, timeout, Err(RpcError::Timeout));
            return Some(stands);
        }
        let at = stands + self.one_way(n, to);
        self.queue.push(at, What::Ask { to, asker, request: Box::new(request) });
        Some(stands)
    }

    /// Whether a node can be dialled at one of these addresses.
    fn is_at(&self, n: u32, addresses: &[Multiaddr]) -> bool {
        match self.is_passive(n) {
            true => addresses.iter().any(|address| Population::is_at(n, address)),
            false => self.hosts[n].reachable && addresses.contains(&self.hosts[n].address),
        }
    }

    /// The node that has this peer id, which is at some of these addresses, or was.
    fn number(&self, peer: &PeerId, addresses: &[Multiaddr]) -> Option<u32> {
        self.servers.number(peer, addresses).or_else(|| self.by_peer.get(peer).copied())
    }

    pub(super) fn is_passive(&self, n: u32) -> bool {
        n < self.servers.len()
    }

    fn on_ask_passive(&mut self, to: u32, asker: Asker, request: Request) {
        let host = &self.hosts[asker.node];
        let result = if !self.servers.is_up(to) {
            Err(RpcError::Closed)
        } else if host.protocol(asker.router) != Some(&self.servers.protocol) {
            Err(RpcError::Unsupported)
        } else {
            let (from, wall) = (host.peer, Host::true_time(self.now));
            let asked = self.witness.is_some().then(|| request.clone());
            let answer = self.servers.answer(self.now, wall, to, &from, request);
            if let (Some(witness), Some(asked), Ok(answer)) = (&mut self.witness, &asked, &answer) {
                witness.took(crate::identity::peer(to), asked, answer);
            }
            answer.map_err(|_| RpcError::Reset)
        };
        self.note(&[7, to.into(), asker.node.into(), asker.id.0, result.is_ok().into()]);
        let chance = self.chance();
        let service = self.links.service_time(chance);
        self.answer(to, asker, service, result);
    }

    pub(super) fn on_ask(&mut self, to: u32, asker: Asker, request: Request) {
        if self.is_passive(to) {
            return self.on_ask_passive(to, asker, request);
        }
        let protocol = self.hosts[asker.node].protocol(asker.router);
        let host = &self.hosts[to];
        let router = protocol.and_then(|protocol| host.offered(protocol));
        let Some(router) = router.filter(|_| host.is_up()) else {
            let error = if host.is_up() { RpcError::Unsupported } else { RpcError::Closed };
            return self.answer(to, asker, Duration::ZERO, Err(error));
        };
        self.note(&[6, to.into(), asker.node.into(), asker.id.0]);
        self.inbound += 1;
        let id = InboundId(self.inbound);
        let peer = self.hosts[asker.node].peer;
        let host = &mut self.hosts[to];
        if let Some(liar) = &mut host.liar {
            liar.hear(&request);
        }
        host.inbound.insert(id, (asker, request.clone()));
        self.input(to, Input::Net(NetEvent::Request { router, id, peer, request }));
    }

    /// Sends an answer back; it may be lost, or come twice.
    fn answer(&mut self, from: u32, asker: Asker, service: Duration, result: Result<Response, RpcError>) {
        if let (true, Ok(response)) = (asker.counted, &result) {
            self.counted.1.bytes += response.encode().map_or(0, |bytes| bytes.len()) as u64;
        }
        if self.is_lost() || self.is_cut(from, asker.node) {
            return;
        }
        let delay = service + self.one_way(from, asker.node);
        if unit(self.chance()) < self.links.duplicates {
            let again = delay + self.one_way(from, asker.node);
            self.respond(asker, again, result.clone());
        }
        self.respond(asker, delay, result);
    }

    pub(super) fn respond(&mut self, asker: Asker, delay: Duration, result: Result<Response, RpcError>) {
        let Asker { node, life, router, id, .. } = asker;
        let input = Input::Net(NetEvent::Response { router, id, result });
        self.queue.push(self.now + delay, What::Input(node, life, Box::new(input)));
    }

    pub(super) fn on_connected(&mut self, a: u32, b: u32) {
        if !self.is_up(NodeId(a)) || !self.is_up(NodeId(b)) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            // Classic clients have no use for it.
            if !self.is_passive(to) && self.hosts[to].engine.is_some() {
                let event = self.identify(from, to);
                self.input(to, Input::Net(event));
            }
        }
    }

    /// What one node tells another of itself.
    fn identify(&self, from: u32, to: u32) -> NetEvent {
        let host = &self.hosts[to];
        let routers = (0..host.config.routers.len() as u16).map(RouterId);
        if self.is_passive(from) {
            let PeerInfo { id: peer, addresses } = self.servers.info(from);
            let serves = routers.filter(|router| host.protocol(*router) == Some(&self.servers.protocol));
            return NetEvent::Identified { peer, addresses, serves: serves.collect() };
        }
        let other = &self.hosts[from];
        let offered = |router: &RouterId| host.protocol(*router).is_some_and(|own| other.offered(own).is_some());
        let serves = routers.filter(offered).collect();
        NetEvent::Identified { peer: other.peer, addresses: vec![other.address.clone()], serves }
    }

    pub(super) fn is_open(&self, a: u32, b: u32) -> bool {
        self.open.get(&(a.min(b), a.max(b))).is_some_and(|connection| connection.end > self.now)
    }

    /// Whom a node is connected to, in the order of their ids.
    fn connected(&self, n: u32) -> Vec<u32> {
        let open = self.open.iter().filter(|(_, connection)| connection.contains(&self.now));
        let others = open.filter_map(|((a, b), _)| match n {
            n if n == *a => Some(*b),
            n if n == *b => Some(*a),
            _ => None,
        });
        let mut connected: Vec<u32> = others.collect();
        connected.sort_unstable();
        connected
    }
}
