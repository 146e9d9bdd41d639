//! Nodes of our own.

use std::collections::VecDeque;
use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use ipns_core::dht::{Request, Response, RpcError, RpcId};
use ipns_core::routing::{NetCommand, NetEvent};
use ipns_libp2p::{ConnectionLimits, Node, NodeConfig, NodeError, Platform, node};
use libp2p::identity::Keypair;
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, identify, tcp, tls, yamux};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::world::*;

/// A node, and the engine's side of it; it answers requests like [`converse`].
struct Own {
    node: Node,
    life: JoinHandle<()>,
    commands: UnboundedSender<NetCommand>,
    events: UnboundedReceiver<NetEvent>,
    backlog: VecDeque<NetEvent>,
    next: u64,
}

fn listening(config: NodeConfig) -> NodeConfig {
    let listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"].map(|at| at.parse().unwrap()).to_vec();
    NodeConfig { listen, ..config }
}

impl Own {
    async fn new(config: NodeConfig) -> Self {
        let (commands, receiver) = unbounded();
        let (sender, events) = unbounded();
        let key = Keypair::generate_ed25519();
        let (node, life) =
            node(&Platform::tokio(), config, key, Setup::default().protocols, receiver, sender).await.unwrap();
        let life = tokio::spawn(life);
        commands.unbounded_send(NetCommand::Serve { router: PUBLIC, serving: true }).unwrap();
        Self { node, life, commands, events, backlog: VecDeque::new(), next: 0 }
    }

    async fn until<T>(&mut self, mut pick: impl FnMut(&NetEvent) -> Option<T>) -> T {
        if let Some(found) = self.backlog.iter().find_map(&mut pick) {
            return found;
        }
        timeout(SOON, async {
            loop {
                let event = self.events.next().await.expect("the node runs");
                if let NetEvent::Request { id, router, request, .. } = &event {
                    let response = converse(*router, request).unwrap();
                    self.commands.unbounded_send(NetCommand::Reply { to: *id, response }).unwrap();
                }
                let found = pick(&event);
                self.backlog.push_back(event);
                if let Some(found) = found {
                    return found;
                }
            }
        })
        .await
        .expect("what is waited for must happen")
    }

    async fn asked(&mut self, peer: PeerId, at: &Multiaddr) -> Result<Response, RpcError> {
        let wanted = RpcId(self.next);
        self.next += 1;
        let (addresses, request) = (vec![at.clone()], Request::Ping);
        let ask = NetCommand::Ask { router: PUBLIC, id: wanted, peer, addresses, request, timeout: SOON };
        self.commands.unbounded_send(ask).unwrap();
        self.until(|event| match event {
            NetEvent::Response { id, result, .. } if *id == wanted => Some(result.clone()),
            _ => None,
        })
        .await
    }

    /// Answers requests in the background for as long as the returned handle is kept.
    fn serve(mut self) -> Server {
        let (peer, at) = (self.node.peer_id(), self.node.listening().to_vec());
        let task = tokio::spawn(async move {
            let _running = self.node;
            while let Some(event) = self.events.next().await {
                let NetEvent::Request { id, router, request, .. } = event else { continue };
                let response = converse(router, &request).unwrap();
                self.commands.unbounded_send(NetCommand::Reply { to: id, response }).unwrap();
            }
        });
        Server { peer, at, task }
    }
}

struct Server {
    peer: PeerId,
    at: Vec<Multiaddr>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn port(address: &Multiaddr) -> u16 {
    address
        .iter()
        .find_map(|part| match part {
            libp2p::multiaddr::Protocol::Tcp(port) | libp2p::multiaddr::Protocol::Udp(port) => Some(port),
            _ => None,
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_talk_over_every_transport() {
    for lazy_negotiation in [true, false] {
        let config =
            || listening(NodeConfig { lazy_negotiation, paced_dials: lazy_negotiation, ..NodeConfig::default() });
        let server = Own::new(config()).await.serve();
        assert_eq!(server.at.len(), 2);
        for at in &server.at {
            assert_ne!(port(at), 0);
            let mut asker = Own::new(config()).await;
            assert_eq!(asker.asked(server.peer, at).await, Ok(Response::Ping), "{at}");
            let (peer, mut known) = (server.peer, server.at.clone());
            known.sort();
            asker
                .until(|event| match event {
                    NetEvent::Identified { peer: who, addresses, serves } if *who == peer && serves == &[PUBLIC] => {
                        let mut addresses = addresses.clone();
                        addresses.sort();
                        (addresses == known).then_some(())
                    }
                    _ => None,
                })
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_listened_on_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("/ip4/127.0.0.1/tcp/{}", other.local_addr().unwrap().port());
    for address in [&taken, "/ip4/127.0.0.1/sctp/5", "/dns4/localhost/tcp/0", "/ip4/192.0.2.1/udp/0/quic-v1"] {
        let address: Multiaddr = address.parse().unwrap();
        let config = NodeConfig { listen: vec![address.clone()], ..NodeConfig::default() };
        let ((_commands, receiver), (sender, _events)) = (unbounded(), unbounded());
        let error = node(&Platform::tokio(), config, Keypair::generate_ed25519(), vec![], receiver, sender)
            .await
            .map(drop)
            .unwrap_err();
        println!("{error}");
        assert_eq!(error.code(), "listen");
        assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert!(matches!(error, NodeError::Listen { address: named, .. } if named == address));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_with_its_handle_or_with_its_engine() {
    for by_handle in [true, false] {
        let own = Own::new(listening(NodeConfig::default())).await;
        let tcp = port(&own.node.listening()[0]);
        assert!(TcpStream::connect(("127.0.0.1", tcp)).await.is_ok());
        let Own { node, life, commands, events, .. } = own;
        if by_handle {
            drop(node);
        } else {
            drop(commands);
        }
        timeout(SOON, life).await.expect("the node ends").unwrap();
        assert!(TcpStream::connect(("127.0.0.1", tcp)).await.is_err());
        drop(events);
    }
    // An engine that is gone before its network has begun.
    let ((_, receiver), (sender, _events)) = (unbounded(), unbounded());
    let config = listening(NodeConfig::default());
    let (_node, life) =
        node(&Platform::tokio(), config, Keypair::generate_ed25519(), vec![], receiver, sender).await.unwrap();
    timeout(SOON, life).await.expect("the node ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_count_as_reachable_by_the_owners_word() {
    let confirmed = |event: &NetEvent| match event {
        NetEvent::Addresses { listening, confirmed } if confirmed.len() + listening.len() >= 4 => {
            Some((listening.clone(), confirmed.clone()))
        }
        _ => None,
    };
    let config = listening(NodeConfig { confirm_listen_addresses: true, ..NodeConfig::default() });
    let mut own = Own::new(config).await;
    let (listens, reachable) = own.until(confirmed).await;
    assert_eq!((listens.as_slice(), reachable.as_slice()), (own.node.listening(), own.node.listening()));
    let external: Multiaddr = "/dns4/node.example/tcp/4001".parse().unwrap();
    let config = listening(NodeConfig { external: vec![external.clone()], ..NodeConfig::default() });
    let mut own = Own::new(config).await;
    own.until(|event| match event {
        NetEvent::Addresses { confirmed, .. } => (*confirmed == [external.clone()]).then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dials_back_confirms_an_address() {
    // AutoNAT v2 knows candidates from what peers observe, and asks those that it has dialled itself.
    let helper = Own::new(listening(NodeConfig::default())).await.serve();
    let mut own = Own::new(listening(NodeConfig::default())).await;
    let mut without = Own::new(listening(NodeConfig { autonat: false, ..NodeConfig::default() })).await;
    for node in [&mut own, &mut without] {
        assert_eq!(node.asked(helper.peer, &helper.at[0]).await, Ok(Response::Ping));
    }
    let confirmed = |event: &NetEvent| match event {
        NetEvent::Addresses { confirmed, .. } if !confirmed.is_empty() => Some(confirmed.clone()),
        _ => None,
    };
    assert_eq!(own.until(confirmed).await, own.node.listening()[..1]);
    assert_eq!(without.asked(helper.peer, &helper.at[0]).await, Ok(Response::Ping));
    assert!(without.backlog.iter().all(|event| confirmed(event).is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_refused() {
    let connections = ConnectionLimits { established: 1, ..ConnectionLimits::default() };
    let config = listening(NodeConfig { connections, ..NodeConfig::default() });
    let server = Own::new(config).await.serve();
    let (mut first, mut second) = (Own::new(NodeConfig::default()).await, Own::new(NodeConfig::default()).await);
    assert_eq!(first.asked(server.peer, &server.at[0]).await, Ok(Response::Ping));
    for at in &server.at {
        assert!(second.asked(server.peer, at).await.is_err());
        assert_eq!(first.asked(server.peer, at).await, Ok(Response::Ping));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed() {
    let idle_timeout = Duration::from_millis(200);
    let server = Own::new(listening(NodeConfig { idle_timeout, ..NodeConfig::default() })).await.serve();
    let mut asker = Party::new().await;
    let id = asker.ask_at(PUBLIC, server.peer, vec![server.at[0].clone()], Request::Ping, SOON);
    assert_eq!(asker.answer(id).await, Ok(Response::Ping));
    asker.swarm_until(|event| matches!(event, SwarmEvent::ConnectionClosed { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_what_it_is() {
    let server = Own::new(listening(NodeConfig::default())).await.serve();
    let mut other = Party::new().await;
    let id = other.ask_at(PUBLIC, server.peer, vec![server.at[1].clone()], Request::Ping, SOON);
    assert_eq!(other.answer(id).await, Ok(Response::Ping));
    let info = other
        .swarm_until(|event| match event {
            SwarmEvent::Behaviour(StackEvent::Identify(identify::Event::Received { info, .. })) => Some(info),
            _ => None,
        })
        .await;
    assert_eq!(info.agent_version, concat!("ipns/", env!("CARGO_PKG_VERSION")));
    assert_eq!(info.protocol_version, "ipfs/0.1.0");
    let speaks = |name: &str| info.protocols.iter().any(|protocol| protocol.as_ref() == name);
    assert!(speaks("/ipfs/kad/1.0.0") && !speaks("/ipfs/lan/kad/1.0.0"), "{:?}", info.protocols);
    assert!(speaks("/ipfs/id/1.0.0") && speaks("/ipfs/ping/1.0.0") && speaks("/libp2p/autonat/1.0.0"));
    assert!(speaks("/libp2p/autonat/2/dial-request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_knows_only_tls_can_connect() {
    let server = Own::new(listening(NodeConfig::default())).await.serve();
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .build();
    swarm.dial(server.at[0].clone().with_p2p(server.peer).unwrap()).unwrap();
    let connected = timeout(SOON, swarm.select_next_some()).await.unwrap();
    assert!(matches!(connected, SwarmEvent::ConnectionEstablished { .. }), "{connected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_resolved() {
    let server = Own::new(listening(NodeConfig::default())).await.serve();
    let mut asker = Own::new(NodeConfig::default()).await;
    for at in &server.at {
        let named = at.to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/").parse().unwrap();
        assert_eq!(asker.asked(server.peer, &named).await, Ok(Response::Ping), "{named}");
    }
}
