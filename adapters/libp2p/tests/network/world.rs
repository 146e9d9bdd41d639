//! Parties: a swarm each, over TCP and QUIC, with the engine's side played by the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use ipns_core::dht::{PeerInfo, Refused, Request, Response, RpcError, RpcId, ValueRecord, frame};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use ipns_libp2p::{Behaviour, Limits, Usage};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, Stream, StreamProtocol, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identify, kad, noise, tcp, yamux};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const PUBLIC: RouterId = RouterId(0);
pub(crate) const LAN: RouterId = RouterId(1);
pub(crate) const PUBLIC_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
pub(crate) const LAN_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");

/// How long anything may take that is meant to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[derive(NetworkBehaviour)]
pub(crate) struct Stack {
    pub(crate) ipns: Behaviour,
    identify: identify::Behaviour,
    raw: libp2p_stream::Behaviour,
    pub(crate) kad: Toggle<kad::Behaviour<MemoryStore>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Quic,
}

pub(crate) const BOTH: [Over; 2] = [Over::Tcp, Over::Quic];

#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) lazy: bool,
    pub(crate) kad: bool,
    /// What protocols this party knows.
    pub(crate) protocols: Vec<(RouterId, StreamProtocol)>,
    pub(crate) idle: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lazy: false,
            kad: false,
            protocols: vec![(PUBLIC, PUBLIC_PROTOCOL), (LAN, LAN_PROTOCOL)],
            idle: Duration::from_secs(60),
        }
    }
}

type Act = Box<dyn FnOnce(&mut Swarm<Stack>) + Send>;
type Script = Box<dyn FnMut(RouterId, &Request) -> Option<Result<Response, Refused>> + Send>;

/// A swarm, running; it stops when dropped.
pub(crate) struct Party {
    pub(crate) peer: PeerId,
    tcp: Multiaddr,
    quic: Multiaddr,
    commands: UnboundedSender<NetCommand>,
    events: mpsc::UnboundedReceiver<NetEvent>,
    backlog: VecDeque<NetEvent>,
    swarm_events: mpsc::UnboundedReceiver<SwarmEvent<StackEvent>>,
    acts: mpsc::UnboundedSender<Act>,
    script: Arc<Mutex<Script>>,
    pub(crate) raw: libp2p_stream::Control,
    next: u64,
}

impl Party {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let (commands, receiver) = unbounded();
        let (sender, events) = unbounded();
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let ipns = Behaviour::new(setup.protocols, setup.limits, receiver, sender);
        let kad = setup.kad.then(|| kad::Behaviour::new(peer, MemoryStore::new(peer)));
        let raw = libp2p_stream::Behaviour::new();
        let control = raw.new_control();
        let identify = identify::Behaviour::new(identify::Config::new("test/1".into(), key.public()));
        let stack = Stack { ipns, identify, raw, kad: kad.into() };
        let mut swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|_| stack)
            .unwrap()
            .with_swarm_config(|config| {
                let config = config.with_idle_connection_timeout(setup.idle);
                if setup.lazy { config.with_substream_upgrade_protocol_override(Version::V1Lazy) } else { config }
            })
            .build();
        let mut listening = Vec::new();
        for address in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
            swarm.listen_on(address.parse().unwrap()).unwrap();
            listening.push(loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            });
        }
        let (acts, receiver) = mpsc::unbounded_channel();
        let (swarm_sender, swarm_events) = mpsc::unbounded_channel();
        tokio::spawn(drive(swarm, receiver, swarm_sender));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_, _| None)));
        let (event_sender, event_receiver) = mpsc::unbounded_channel();
        tokio::spawn(play(events, event_sender, commands.clone(), script.clone()));
        let quic = listening.pop().unwrap();
        let tcp = listening.pop().unwrap();
        Self {
            peer,
            tcp,
            quic,
            commands,
            events: event_receiver,
            backlog: VecDeque::new(),
            swarm_events,
            acts,
            script,
            raw: control,
            next: 0,
        }
    }

    pub(crate) fn address(&self, over: Over) -> Multiaddr {
        match over {
            Over::Tcp => self.tcp.clone(),
            Over::Quic => self.quic.clone(),
        }
    }

    pub(crate) fn command(&self, command: NetCommand) {
        self.commands.unbounded_send(command).unwrap();
    }

    /// Offers a protocol, and answers as `script` says; what it answers with `None` is left to the test.
    pub(crate) fn serve(
        &self,
        router: RouterId,
        script: impl FnMut(RouterId, &Request) -> Option<Result<Response, Refused>> + Send + 'static,
    ) {
        *self.script.lock().unwrap() = Box::new(script);
        self.command(NetCommand::Serve { router, serving: true });
    }

    pub(crate) fn ask_at(
        &mut self,
        router: RouterId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Request,
        timeout: Duration,
    ) -> RpcId {
        let id = RpcId(self.next);
        self.next += 1;
        self.command(NetCommand::Ask { router, id, peer, addresses, request, timeout });
        id
    }

    /// A question that is not asked yet.
    pub(crate) fn question(&mut self, other: &Party, over: Over, request: Request) -> (RpcId, NetCommand) {
        let id = RpcId(self.next);
        self.next += 1;
        let (peer, addresses) = (other.peer, vec![other.address(over)]);
        (id, NetCommand::Ask { router: PUBLIC, id, peer, addresses, request, timeout: SOON })
    }

    pub(crate) fn commands(&self) -> UnboundedSender<NetCommand> {
        self.commands.clone()
    }

    /// Asks over the public DHT, with ten seconds to answer.
    pub(crate) fn ask(&mut self, other: &Party, over: Over, request: Request) -> RpcId {
        self.ask_at(PUBLIC, other.peer, vec![other.address(over)], request, Duration::from_secs(10))
    }

    pub(crate) async fn asked(&mut self, other: &Party, over: Over, request: Request) -> Result<Response, RpcError> {
        let id = self.ask(other, over, request);
        self.answer(id).await
    }

    /// The answer to one question; there must be exactly one.
    pub(crate) async fn answer(&mut self, wanted: RpcId) -> Result<Response, RpcError> {
        self.until(|event| match event {
            NetEvent::Response { id, result, .. } if *id == wanted => Some(result.clone()),
            _ => None,
        })
        .await
    }

    /// The first event that `pick` picks. Others are kept for later.
    pub(crate) async fn until<T>(&mut self, mut pick: impl FnMut(&NetEvent) -> Option<T>) -> T {
        for at in 0..self.backlog.len() {
            if let Some(found) = pick(&self.backlog[at]) {
                self.backlog.remove(at);
                return found;
            }
        }
        timeout(SOON, async {
            loop {
                let event = self.events.recv().await.expect("the network goes on");
                match pick(&event) {
                    Some(found) => return found,
                    None => self.backlog.push_back(event),
                }
            }
        })
        .await
        .expect("what is waited for must happen")
    }

    /// Everything that has happened and was not picked.
    pub(crate) fn rest(&mut self) -> Vec<NetEvent> {
        while let Ok(event) = self.events.try_recv() {
            self.backlog.push_back(event);
        }
        self.backlog.drain(..).collect()
    }

    /// Does something to the swarm.
    pub(crate) async fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Swarm<Stack>) -> T + Send + 'static) -> T {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let act: Act = Box::new(move |swarm| {
            let _ = sender.send(act(swarm));
        });
        assert!(self.acts.send(act).is_ok());
        timeout(SOON, answer).await.expect("the swarm runs").unwrap()
    }

    pub(crate) async fn usage(&self) -> Usage {
        self.act(|swarm| swarm.behaviour().ipns.usage()).await
    }

    /// Waits until the usage is as wanted.
    pub(crate) async fn usage_is(&self, wanted: impl Fn(Usage) -> bool) {
        let waited = timeout(SOON, async {
            while !wanted(self.usage().await) {
                tokio::task::yield_now().await;
            }
        });
        if waited.await.is_err() {
            panic!("{:?}", self.usage().await);
        }
    }

    /// The first event of the swarm that `pick` picks. Others are dropped.
    pub(crate) async fn swarm_until<T>(&mut self, mut pick: impl FnMut(SwarmEvent<StackEvent>) -> Option<T>) -> T {
        timeout(SOON, async {
            loop {
                if let Some(found) = pick(self.swarm_events.recv().await.expect("the swarm runs")) {
                    return found;
                }
            }
        })
        .await
        .expect("what is waited for must happen")
    }

    /// A bare stream to another party, for whatever one likes to send.
    pub(crate) async fn stream(&mut self, other: &Party, over: Over, protocol: StreamProtocol) -> Stream {
        let (peer, address) = (other.peer, other.address(over));
        if !self.act(move |swarm| swarm.is_connected(&peer)).await {
            let options = libp2p::swarm::dial_opts::DialOpts::peer_id(peer).addresses(vec![address]).build();
            self.act(move |swarm| swarm.dial(options).unwrap()).await;
            self.swarm_until(|event| matches!(event, SwarmEvent::ConnectionEstablished { .. }).then_some(())).await;
        }
        timeout(SOON, self.raw.open_stream(peer, protocol)).await.unwrap().unwrap()
    }

    /// Takes bare streams of a protocol.
    pub(crate) fn accept(&mut self, protocol: StreamProtocol) -> libp2p_stream::IncomingStreams {
        self.raw.accept(protocol).unwrap()
    }

    /// Ends the engine's side.
    pub(crate) fn close_commands(&mut self) {
        self.commands.close_channel();
    }
}

async fn drive(
    mut swarm: Swarm<Stack>,
    mut acts: mpsc::UnboundedReceiver<Act>,
    events: mpsc::UnboundedSender<SwarmEvent<StackEvent>>,
) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => drop(events.send(event)),
            act = acts.recv() => match act {
                Some(act) => act(&mut swarm),
                None => return,
            },
        }
    }
}

async fn play(
    mut events: UnboundedReceiver<NetEvent>,
    log: mpsc::UnboundedSender<NetEvent>,
    commands: UnboundedSender<NetCommand>,
    script: Arc<Mutex<Script>>,
) {
    while let Some(event) = events.next().await {
        if let NetEvent::Request { router, id, request, .. } = &event
            && let Some(response) = script.lock().unwrap()(*router, request)
        {
            let _ = commands.unbounded_send(NetCommand::Reply { to: *id, response });
        }
        let _ = log.send(event);
    }
}

/// Sends bytes as they are.
pub(crate) async fn send(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

pub(crate) async fn send_request(stream: &mut Stream, request: &Request) {
    send(stream, &frame::encode(&request.encode())).await;
}

/// Reads one answer; what follows it is lost.
pub(crate) async fn read_response(stream: &mut Stream) -> Response {
    let mut bytes = Vec::new();
    timeout(SOON, async {
        loop {
            if let Some(range) = frame::decode(&bytes, 1 << 20).unwrap() {
                return Response::decode(&bytes[range]).unwrap();
            }
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "the stream ended");
            bytes.push(byte[0]);
        }
    })
    .await
    .expect("an answer comes")
}

/// Waits for the end of a stream; says whether it was a reset.
pub(crate) async fn ended(stream: &mut Stream) -> bool {
    let mut rest = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the stream ends");
    assert_eq!(rest, []);
    read.is_err() || {
        // A closed stream still takes bytes.
        stream.write(&[]).now_or_never().is_some_and(|written| written.is_err())
    }
}

pub(crate) fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(crate) fn record() -> ValueRecord {
    ValueRecord { key: key("/ipns/name"), value: key("value"), received: None }
}

pub(crate) fn info(n: u8) -> PeerInfo {
    let id = Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id();
    PeerInfo { id, addresses: vec![format!("/ip4/10.0.0.{n}/tcp/4001").parse().unwrap()] }
}

/// One request of every kind, and an answer to it.
pub(crate) fn dialogue() -> Vec<(Request, Response)> {
    let closer = vec![info(1), info(2)];
    vec![
        (Request::FindNode { key: key("k") }, Response::FindNode { closer: closer.clone() }),
        (Request::GetValue { key: key("k") }, Response::GetValue { record: Some(record()), closer: closer.clone() }),
        (Request::PutValue { record: record() }, Response::PutValue { record: record() }),
        (Request::AddProvider { key: key("k"), providers: vec![info(3)] }, Response::AddProvider),
        (Request::GetProviders { key: key("k") }, Response::GetProviders { providers: vec![info(4)], closer }),
        (Request::Ping, Response::Ping),
    ]
}

/// Answers every request as [`dialogue`] does.
pub(crate) fn converse(_: RouterId, request: &Request) -> Option<Result<Response, Refused>> {
    let answers = dialogue();
    let answer = answers.into_iter().find(|(asked, _)| asked.is_answered_by_kind(request));
    answer.map(|(_, response)| Ok(response))
}

trait Kind {
    fn is_answered_by_kind(&self, other: &Request) -> bool;
}

impl Kind for Request {
    fn is_answered_by_kind(&self, other: &Request) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}
