//! A node of our own: a swarm with all that a member of a DHT needs.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, select};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use ipns_driver::SpawnError;
use libp2p::core::transport::ListenerId;
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, TransportError, autonat, identify, ping};
use thiserror::Error;

use crate::behaviour::{Behaviour, Stopped};
use crate::connections::{ConnectionLimits, Connections};
use crate::frames::within;
use crate::limits::Limits;
use crate::platform::Platform;
use crate::transport::{self, Timing};

/// The version of the protocols of IPFS, as identify tells it.
const PROTOCOL_VERSION: &str = "ipfs/0.1.0";
/// A listener that has told no address by then has none.
const LISTENING: Duration = Duration::from_secs(5);

/// Settings of a node of our own.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where to listen, such as `/ip4/0.0.0.0/udp/4001/quic-v1`; nowhere by default.
    pub listen: Vec<Multiaddr>,
    /// Where others can reach the node by its owner's word, such as a port that a router forwards.
    pub external: Vec<Multiaddr>,
    /// Whether every address that the node listens on counts as reachable at once: for private networks.
    pub confirm_listen_addresses: bool,
    /// Whether to ask peers to dial back, so as to learn which addresses are reachable, and to do so for others.
    pub autonat: bool,
    /// What the node calls itself; `ipns/` and the version by default.
    pub agent: String,
    /// Bounds on questions, requests and streams.
    pub limits: Limits,
    /// Bounds on connections.
    pub connections: ConnectionLimits,
    /// How long a connection stays open without streams.
    pub idle_timeout: Duration,
    /// How long one attempt to connect may take, its handshakes included.
    pub dial_timeout: Duration,
    /// Whether a question goes out with its protocol's name, before the peer has agreed: one round trip less for each.
    pub lazy_negotiation: bool,
    /// Whether the addresses of a peer are dialled one after the other, 30 to 250 ms apart, QUIC first, and not all at
    /// once: slower, and kinder to weak routers.
    pub paced_dials: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            confirm_listen_addresses: false,
            autonat: true,
            agent: concat!("ipns/", env!("CARGO_PKG_VERSION")).into(),
            // Every question under way and every idle connection fits into the connections to others that may be open.
            limits: Limits { asks: 256, idle_connections: 192, ..Limits::default() },
            connections: ConnectionLimits::default(),
            idle_timeout: Duration::from_secs(60),
            dial_timeout: Duration::from_secs(5),
            lazy_negotiation: true,
            paced_dials: false,
        }
    }
}

/// Why a node cannot be started. [`code`](NodeError::code) is stable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why.
        reason: io::Error,
    },
    /// Noise or TLS cannot be set up with the key.
    #[error("cannot set up the security of connections: {0}")]
    Security(String),
    /// A DHT's protocol id is none.
    #[error("`{protocol}` is no protocol id; it must begin with /")]
    Protocol {
        /// What was given.
        protocol: String,
    },
    /// The node of the engine cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl NodeError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "listen",
            Self::Security(_) => "security_setup",
            Self::Protocol { .. } => "protocol_malformed",
            Self::Spawn(error) => error.code(),
        }
    }
}

/// A node of our own. It stops when this is dropped.
#[derive(Debug)]
pub struct Node {
    peer: PeerId,
    listening: Vec<Multiaddr>,
    _stop: oneshot::Sender<Infallible>,
}

impl Node {
    /// Who it is.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where it listened when it had started: the ports are the real ones. What changes later is told by
    /// [`NetEvent::Addresses`].
    pub fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }
}

#[derive(NetworkBehaviour)]
struct NodeBehaviour {
    connections: Connections,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat: Toggle<autonat::Behaviour>,
    autonat_client: Toggle<autonat::v2::client::Behaviour>,
    autonat_server: Toggle<autonat::v2::server::Behaviour>,
    ipns: Behaviour,
}

/// Starts a node of our own, which listens when this returns. The future that comes with it is its life: spawn it on the
/// executor of the platform. It ends when the [`Node`] is dropped or the node of the engine is gone, and takes the
/// listeners and connections with it.
///
/// # Errors
/// When an address cannot be listened on, or the key is of no use.
pub async fn node(
    platform: &Platform,
    config: NodeConfig,
    keypair: Keypair,
    protocols: Vec<(RouterId, StreamProtocol)>,
    commands: UnboundedReceiver<NetCommand>,
    events: UnboundedSender<NetEvent>,
) -> Result<(Node, BoxFuture<'static, ()>), NodeError> {
    let peer = keypair.public().to_peer_id();
    let identity = identify::Config::new(PROTOCOL_VERSION.into(), keypair.public())
        .with_agent_version(config.agent.clone())
        .with_push_listen_addr_updates(true);
    let behaviour = NodeBehaviour {
        connections: Connections::new(config.connections),
        identify: identify::Behaviour::new(identity),
        ping: ping::Behaviour::new(ping::Config::new()),
        autonat: config.autonat.then(|| autonat::Behaviour::new(peer, autonat::Config::default())).into(),
        autonat_client: config.autonat.then(autonat::v2::client::Behaviour::default).into(),
        autonat_server: config.autonat.then(autonat::v2::server::Behaviour::default).into(),
        ipns: Behaviour::new(protocols, config.limits, commands, events),
    };
    let timing = Timing {
        dial: config.dial_timeout,
        idle: config.idle_timeout,
        lazy: config.lazy_negotiation,
        paced: config.paced_dials,
    };
    let mut swarm = transport::swarm(platform, &keypair, behaviour, timing)?;
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }
    let mut driver = Driver { swarm, listening: Vec::new(), confirm: config.confirm_listen_addresses, stopped: false };
    for address in &config.listen {
        driver.listen(address).await.map_err(|reason| NodeError::Listen { address: address.clone(), reason })?;
    }
    let listening = driver.listening().await;
    let (stop, stopped) = oneshot::channel();
    let run = async move {
        let life = std::pin::pin!(driver.run());
        select(life, stopped).await;
        tracing::debug!(%peer, "the network has stopped");
    };
    Ok((Node { peer, listening, _stop: stop }, run.boxed()))
}

struct Driver {
    swarm: Swarm<NodeBehaviour>,
    /// In the order in which it came about.
    listening: Vec<Multiaddr>,
    confirm: bool,
    /// Whether the engine's node is gone.
    stopped: bool,
}

impl Driver {
    /// Listens on an address, and waits until it is known what address that is.
    async fn listen(&mut self, address: &Multiaddr) -> io::Result<()> {
        let listener = self.swarm.listen_on(address.clone()).map_err(|error| match error {
            TransportError::Other(error) => error,
            TransportError::MultiaddrNotSupported(_) => {
                io::Error::new(io::ErrorKind::Unsupported, "no transport for such an address")
            }
        })?;
        let known = within(LISTENING, self.until_listening(listener)).await;
        known.unwrap_or_else(|| {
            tracing::warn!(%address, "no interface to listen on yet");
            Ok(())
        })
    }

    /// All addresses that are known by now; one listener may have several.
    async fn listening(&mut self) -> Vec<Multiaddr> {
        while let Some(event) = self.swarm.select_next_some().now_or_never() {
            self.on_event(event);
        }
        self.listening.clone()
    }

    async fn until_listening(&mut self, wanted: ListenerId) -> io::Result<()> {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == wanted => {
                    return reason.and(Err(io::Error::other("the listener has closed")));
                }
                SwarmEvent::ListenerError { listener_id, error } if listener_id == wanted => return Err(error),
                event => {
                    let done =
                        matches!(&event, SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == wanted);
                    self.on_event(event);
                    if done {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn run(mut self) {
        while !self.stopped {
            let event = self.swarm.select_next_some().await;
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: SwarmEvent<NodeBehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::debug!(%address, "listening");
                if self.confirm {
                    self.swarm.add_external_address(address.clone());
                }
                self.listening.push(address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_expired(&[address]),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::debug!(?reason, "a listener has closed");
                self.on_expired(&addresses);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "a listener has failed"),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
            }
            SwarmEvent::ConnectionClosed { peer_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "disconnected");
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(peer = ?peer_id, %error, "cannot connect");
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "a peer cannot connect");
            }
            SwarmEvent::ExternalAddrConfirmed { address } => tracing::debug!(%address, "reachable"),
            SwarmEvent::ExternalAddrExpired { address } => tracing::debug!(%address, "no longer reachable"),
            _ => {}
        }
    }

    fn on_expired(&mut self, addresses: &[Multiaddr]) {
        for address in addresses {
            tracing::debug!(%address, "no longer listening");
            self.listening.retain(|known| known != address);
            if self.confirm {
                self.swarm.remove_external_address(address);
            }
        }
    }

    fn on_behaviour(&mut self, event: NodeBehaviourEvent) {
        match event {
            NodeBehaviourEvent::Ipns(Stopped) => self.stopped = true,
            NodeBehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                tracing::debug!(peer = %peer_id, agent = info.agent_version, "identified");
                self.swarm.behaviour_mut().ipns.on_identify(peer_id, &info.listen_addrs);
            }
            NodeBehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) })
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                tracing::debug!(%peer, %error, "a peer does not answer pings; its connection is closed");
                self.swarm.close_connection(connection);
            }
            NodeBehaviourEvent::Autonat(autonat::Event::StatusChanged { old, new }) => {
                tracing::debug!(?old, ?new, "reachability changed");
                // AutoNAT confirms what it finds reachable, and never takes it back.
                if let autonat::NatStatus::Public(address) = old {
                    self.swarm.remove_external_address(&address);
                }
                if let autonat::NatStatus::Public(address) = new {
                    self.swarm.add_external_address(address);
                }
            }
            NodeBehaviourEvent::AutonatClient(autonat::v2::client::Event { tested_addr, result, .. }) => {
                tracing::debug!(address = %tested_addr, ?result, "a peer dialled back");
            }
            _ => {}
        }
    }
}
