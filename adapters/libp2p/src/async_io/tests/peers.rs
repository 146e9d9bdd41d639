//! Peers that ping: ours, and libp2p's own on tokio.

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{Config, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, ping, tcp, tls, yamux};

use crate::async_io::{Executor, transport};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Tokio,
    /// One that has TLS only.
    TokioTls,
}

#[derive(Debug)]
enum Told {
    Listening(Multiaddr),
    Pinged(PeerId),
    Failed(String),
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    told: UnboundedReceiver<Told>,
}

impl Peer {
    /// A peer that begins as `begin` says.
    pub(crate) fn start(
        kind: Kind,
        executor: &Executor,
        tokio: &tokio::runtime::Runtime,
        begin: impl FnOnce(&mut Swarm<ping::Behaviour>),
    ) -> Self {
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let (tell, told) = unbounded();
        let _context = tokio.enter();
        let mut swarm = swarm(kind, keypair, executor);
        begin(&mut swarm);
        match kind {
            Kind::Ours => executor(Box::pin(live(swarm, tell))),
            Kind::Tokio | Kind::TokioTls => drop(tokio.spawn(live(swarm, tell))),
        }
        Self { id, told }
    }

    pub(crate) async fn listening(&mut self) -> Multiaddr {
        loop {
            if let Told::Listening(address) = self.next().await {
                return address;
            }
        }
    }

    pub(crate) async fn pinged(&mut self, peer: PeerId) {
        loop {
            match self.next().await {
                Told::Pinged(by) if by == peer => return,
                Told::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }

    pub(crate) async fn failed(&mut self) -> String {
        loop {
            if let Told::Failed(error) = self.next().await {
                return error;
            }
        }
    }

    async fn next(&mut self) -> Told {
        self.told.next().await.expect("the peer lives")
    }
}

fn swarm(kind: Kind, keypair: Keypair, executor: &Executor) -> Swarm<ping::Behaviour> {
    if let Kind::Ours = kind {
        let transport = transport(&keypair, executor).unwrap();
        let executor = executor.clone();
        let config = Config::with_executor(move |task| executor(task));
        return Swarm::new(transport, ping::Behaviour::default(), keypair.public().to_peer_id(), config);
    }
    let builder = SwarmBuilder::with_existing_identity(keypair).with_tokio();
    let tcp = tcp::Config::default();
    let behaviour = |_: &Keypair| ping::Behaviour::default();
    if kind == Kind::TokioTls {
        let builder = builder.with_tcp(tcp, tls::Config::new, yamux::Config::default).unwrap().with_quic();
        return builder.with_behaviour(behaviour).unwrap().build();
    }
    let builder = builder.with_tcp(tcp, noise::Config::new, yamux::Config::default).unwrap().with_quic();
    builder.with_behaviour(behaviour).unwrap().build()
}

async fn live(mut swarm: Swarm<ping::Behaviour>, tell: UnboundedSender<Told>) {
    loop {
        let told = match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => Told::Listening(address),
            SwarmEvent::Behaviour(ping::Event { peer, result: Ok(_), .. }) => Told::Pinged(peer),
            SwarmEvent::Behaviour(ping::Event { result: Err(error), .. }) => Told::Failed(error.to_string()),
            SwarmEvent::OutgoingConnectionError { error, .. } => Told::Failed(error.to_string()),
            SwarmEvent::IncomingConnectionError { error, .. } => Told::Failed(error.to_string()),
            _ => continue,
        };
        if tell.unbounded_send(told).is_err() {
            return;
        }
    }
}
