//! A node of libp2p-kad: a server, or a client whose queries a bridge drives.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use ipns_core::dht::{PUBLIC_PROTOCOL, PeerInfo};
use ipns_libp2p::{Bridge, Task};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{self, QueryId, QueryInfo};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Commands that wait for the node at once.
const COMMANDS: usize = 64;
/// Answers may be as large as those of the public DHT, as the bridge asks for.
const MAX_PACKET: usize = 4 << 20;

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

/// A swarm that runs no more than kad needs.
pub(crate) struct KadSwarm {
    swarm: Swarm<Behaviour>,
    protocol: StreamProtocol,
}

impl KadSwarm {
    /// A server: it is told by others and tells others only what [`listen`](Self::listen) and [`run`](Self::run) say.
    /// Who dials it decides how long connections stay open, up to `idle`.
    pub(crate) fn server(key: &Keypair, idle: Duration) -> Result<Self, Failure> {
        Self::new(key, PUBLIC_PROTOCOL, kad::Mode::Server, Some(idle))
    }

    /// A client of the DHT of this protocol, with the defaults of libp2p.
    pub(crate) fn client(key: &Keypair, protocol: &'static str) -> Result<Self, Failure> {
        Self::new(key, protocol, kad::Mode::Client, None)
    }

    fn new(key: &Keypair, protocol: &'static str, mode: kad::Mode, idle: Option<Duration>) -> Result<Self, Failure> {
        let protocol = StreamProtocol::new(protocol);
        let mut config = kad::Config::new(protocol.clone());
        config.set_max_packet_size(MAX_PACKET);
        if mode == kad::Mode::Server {
            // Its table is refreshed only when it is told to, so that what is dead stays in it.
            config.set_periodic_bootstrap_interval(None);
        }
        let swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|key| {
                let peer = key.public().to_peer_id();
                let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
                kad.set_mode(Some(mode));
                // Only the proxy's address may be told, or others would find the short way.
                let identity = identify::Config::new("ipfs/0.1.0".into(), key.public()).with_hide_listen_addrs(true);
                Behaviour { kad, identify: identify::Behaviour::new(identity) }
            })?
            .with_swarm_config(|config| match idle {
                Some(idle) => config.with_idle_connection_timeout(idle),
                None => config,
            })
            .build();
        Ok(Self { swarm, protocol })
    }

    /// Listens on a port of loopback.
    pub(crate) async fn listen(&mut self) -> Result<SocketAddr, Failure> {
        self.swarm.listen_on(multiaddr((Ipv4Addr::LOCALHOST, 0).into()))?;
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    let port = address.iter().find_map(|part| match part {
                        Protocol::Tcp(port) => Some(port),
                        _ => None,
                    });
                    return Ok((Ipv4Addr::LOCALHOST, port.ok_or("a listener without a port")?).into());
                }
                SwarmEvent::ListenerClosed { reason: Err(error), .. } | SwarmEvent::ListenerError { error, .. } => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }

    /// Runs it, known to others by the address given. What it is asked is counted.
    pub(crate) fn run(mut self, known_by: Option<SocketAddr>, bridge: Option<Bridge>, asked: Arc<AtomicU64>) -> Kad {
        let addresses: Vec<Multiaddr> = known_by.map(multiaddr).into_iter().collect();
        for address in &addresses {
            self.swarm.add_external_address(address.clone());
        }
        let info = PeerInfo { id: *self.swarm.local_peer_id(), addresses };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let running = Running { swarm: self.swarm, protocol: self.protocol, bridge, asked, waiting: HashMap::new() };
        Kad { info, commands, task: tokio::spawn(running.run(receiver)) }
    }
}

/// The multiaddr of a TCP port.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// A running node. It ends when this is dropped.
pub(crate) struct Kad {
    /// Who it is and by which address others know it.
    pub(crate) info: PeerInfo,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

enum Command {
    Bootstrap(Vec<PeerInfo>, oneshot::Sender<()>),
    Lookup(Vec<u8>, oneshot::Sender<()>),
    Holds(Vec<u8>, oneshot::Sender<Option<Vec<u8>>>),
    Table(oneshot::Sender<Vec<PeerId>>),
    Idle(oneshot::Sender<bool>),
}

impl Kad {
    /// Joins through these peers; returns when that has ended.
    pub(crate) async fn bootstrap(&self, through: Vec<PeerInfo>) -> Result<(), Failure> {
        self.ask(|done| Command::Bootstrap(through, done)).await
    }

    /// Looks for the peers nearest to a key; returns when that has ended.
    pub(crate) async fn lookup(&self, key: Vec<u8>) -> Result<(), Failure> {
        self.ask(|done| Command::Lookup(key, done)).await
    }

    /// The value that it keeps under a key.
    pub(crate) async fn holds(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>, Failure> {
        self.ask(|answer| Command::Holds(key, answer)).await
    }

    /// The peers in its routing table.
    pub(crate) async fn table(&self) -> Result<Vec<PeerId>, Failure> {
        self.ask(Command::Table).await
    }

    /// Whether it has no query under way that it was told to make.
    pub(crate) async fn idle(&self) -> Result<bool, Failure> {
        self.ask(Command::Idle).await
    }

    /// Ends it at once, and returns when nothing of it is left.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // That it was cancelled is what was asked for.
        let _ = self.task.await;
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failure> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(make(sender)).await.map_err(|_| "a node of kad has ended")?;
        Ok(answer.await.map_err(|_| "a node of kad has not done what it was told")?)
    }
}

struct Running {
    swarm: Swarm<Behaviour>,
    protocol: StreamProtocol,
    bridge: Option<Bridge>,
    asked: Arc<AtomicU64>,
    /// Who waits for the end of a query.
    waiting: HashMap<QueryId, oneshot::Sender<()>>,
}

impl Running {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                task = next(&mut self.bridge) => {
                    if let Some(bridge) = &mut self.bridge {
                        bridge.begin(&mut self.swarm.behaviour_mut().kad, task);
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        // Whoever does not wait any more needs no answer.
        match command {
            Command::Bootstrap(through, done) => {
                for peer in through {
                    for address in peer.addresses {
                        kad.add_address(&peer.id, address);
                    }
                }
                // Without anybody to join through, `done` is dropped and the caller told.
                if let Ok(id) = kad.bootstrap() {
                    self.waiting.insert(id, done);
                }
            }
            Command::Lookup(key, done) => {
                let id = kad.get_closest_peers(key);
                self.waiting.insert(id, done);
            }
            Command::Holds(key, answer) => {
                let held = kad.store_mut().get(&kad::RecordKey::new(&key)).map(|record| record.value.clone());
                let _ = answer.send(held);
            }
            Command::Table(answer) => {
                let buckets = kad.kbuckets();
                let _ = answer.send(
                    buckets
                        .flat_map(|bucket| bucket.iter().map(|entry| *entry.node.key.preimage()).collect::<Vec<_>>())
                        .collect(),
                );
            }
            Command::Idle(answer) => {
                // Refreshing its table of its own accord takes minutes among the dead: that is no part of an operation.
                let idle = kad.iter_queries().all(|query| matches!(query.info(), QueryInfo::Bootstrap { .. }));
                let _ = answer.send(idle && self.bridge.as_ref().is_none_or(Bridge::is_empty));
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let event = match event {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => event,
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }))
                if info.protocols.contains(&self.protocol) =>
            {
                for address in info.listen_addrs {
                    kad.add_address(&peer_id, address);
                }
                return;
            }
            _ => return,
        };
        let event = match &mut self.bridge {
            Some(bridge) => bridge.on_event(kad, event),
            None => Some(event),
        };
        match event {
            Some(kad::Event::InboundRequest { .. }) => {
                self.asked.fetch_add(1, Ordering::Relaxed);
            }
            Some(kad::Event::OutboundQueryProgressed { id, step, .. }) if step.last => {
                if let Some(done) = self.waiting.remove(&id) {
                    let _ = done.send(());
                }
            }
            _ => {}
        }
    }
}

/// What the bridge wants next, if there is one.
async fn next(bridge: &mut Option<Bridge>) -> Task {
    match bridge {
        Some(bridge) => bridge.next().await,
        None => std::future::pending().await,
    }
}
