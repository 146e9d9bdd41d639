//! Classic clients in the world: they ask over the same links, and keep the same connections, as engines do.

use std::time::Duration;

use ipns_core::dht::{self, Key, PeerInfo, RpcError};
use ipns_core::engine::{Config, Input};
use ipns_core::routing::{NetEvent, Router, RouterId};
use ipns_core::{Name, Now, Verified};

use super::{NodeId, What, World};
use crate::classic::{Classic, Client, Finished, Output, Start};
use crate::dice::mix;
use crate::host::{Asker, Host};
use crate::identity;
use crate::walker::Walker;

impl World {
    /// Adds a classic client of the passive servers. Nobody can dial it, and it starts with full routing tables.
    pub fn add_classic(&mut self, classic: Classic) -> NodeId {
        let n = self.add_client();
        self.hosts[n].kind = Some(classic);
        self.start(n);
        NodeId(n)
    }

    /// Adds a client that walks to random keys, so many at a time, as long as the world goes on: it does next to nothing
    /// itself, and shows how fast the world is. It cannot be restarted.
    pub fn add_walker(&mut self, walks: usize) -> NodeId {
        let n = self.add_client();
        let entrances = self.known(n, &Key::of(&n.to_be_bytes()));
        self.hosts[n].classic = Some(Box::new(Walker::new(mix(&[self.seed, 15, n.into()]), walks, entrances)));
        self.drain_classic(n);
        NodeId(n)
    }

    fn add_client(&mut self) -> u32 {
        let n = self.nodes();
        let peer = identity::peer(n);
        let dht = dht::Config { protocol: self.servers.protocol.clone(), ..dht::Config::public(peer) };
        let config = Config { routers: vec![Router::dht("dht", dht)], ..Config::default() };
        self.hosts.add(Host::new(peer, identity::address(n), false, config));
        self.by_peer.insert(peer, n);
        n
    }

    /// What a full routing table of a node has nearest to a key.
    fn known(&self, n: u32, target: &Key) -> Vec<PeerInfo> {
        let known = self.servers.closest_of(n, &Key::of_peer(&identity::peer(n)), target);
        known.into_iter().map(|other| self.servers.info(other)).collect()
    }

    /// Has a classic client publish a record; the number of the operation.
    ///
    /// # Panics
    /// When the node is no classic client.
    pub fn classic_publish(&mut self, node: NodeId, record: Verified) -> u64 {
        let name = *record.name();
        self.classic_begin(node, &name, |client, now, start| client.publish(now, start, record))
    }

    /// Has a classic client resolve a name; the number of the operation.
    ///
    /// # Panics
    /// When the node is no classic client.
    pub fn classic_resolve(&mut self, node: NodeId, name: Name) -> u64 {
        self.classic_begin(node, &name, |client, now, start| client.resolve(now, start, name))
    }

    fn classic_begin(&mut self, node: NodeId, name: &Name, begin: impl FnOnce(&mut dyn Client, Now, Start)) -> u64 {
        let n = node.0;
        let known = self.known(n, &Key::of(&name.routing_key()));
        self.classic_ops += 1;
        let op = self.classic_ops;
        let host = &mut self.hosts[n];
        let now = host.now(self.now);
        #[expect(clippy::expect_used, reason = "documented")]
        let client = host.classic.as_deref_mut().expect("a classic client");
        begin(client, now, Start { op, node, known });
        self.drain_classic(n);
        op
    }

    /// What classic clients have finished since the last call of this.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Lets time pass until this operation of a classic client has ended, and returns what came of it; `None` when it
    /// has not within `limit`.
    pub fn until_finished(&mut self, op: u64, limit: Duration) -> Option<Finished> {
        let end = self.now + limit;
        loop {
            if let Some(at) = self.finished.iter().position(|finished| finished.op == op) {
                return Some(self.finished.remove(at));
            }
            if self.queue.next_time().is_none_or(|at| at > end) {
                self.now = end;
                return None;
            }
            self.step();
        }
    }

    pub(super) fn classic_input(&mut self, n: u32, input: Input) {
        let host = &mut self.hosts[n];
        let now = host.now(self.now);
        let Some(client) = &mut host.classic else { return };
        match input {
            Input::Net(NetEvent::Response { id, result, .. }) => client.handle(now, id, result),
            Input::Tick => client.tick(now),
            _ => return,
        }
        self.drain_classic(n);
    }

    fn drain_classic(&mut self, n: u32) {
        let life = self.hosts[n].life;
        while let Some(output) = self.hosts[n].classic.as_mut().and_then(|client| client.poll()) {
            match output {
                Output::Ask(ask) => {
                    self.asked += 1;
                    self.note(&[4, n.into(), ask.id.0, ask.request.key().len() as u64]);
                    let counted = self.counted.0 == *ask.request.key();
                    let asker = Asker { node: n, life, router: RouterId(0), id: ask.id, counted };
                    let PeerInfo { id: peer, addresses } = ask.peer;
                    let stands = self.ask(asker, peer, &addresses, ask.request, ask.dial, ask.timeout);
                    if let Some(client) = &mut self.hosts[n].classic {
                        client.dialled(ask.id, stands);
                    }
                    // Engines have timers of their own for answers that are lost.
                    if let Some(stands) = stands {
                        self.respond(asker, stands - self.now + ask.timeout, Err(RpcError::Timeout));
                    }
                }
                Output::Finished(finished) => {
                    self.note(&[8, n.into(), finished.op, finished.acks.into(), finished.values.into()]);
                    self.finished.push(finished);
                }
            }
        }
        let host = &mut self.hosts[n];
        let next = host.classic.as_ref().and_then(|client| client.next_timeout()).map(|at| at.max(self.now));
        if let Some(next) = next
            && host.wake.is_none_or(|wake| next < wake)
        {
            host.wake = Some(next);
            self.queue.push(next, What::Wake(n, life));
        }
    }
}
