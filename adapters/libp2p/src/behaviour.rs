//! The behaviour: commands of the node become dials and streams, and what happens becomes events for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_timer::Delay;
use futures_util::{FutureExt, StreamExt};
use ipns_core::dht::{InboundId, Refused, Request, Response, RpcError};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler,
    StreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::asks::{Ask, Asks, Step};
use crate::handler::{Handler, Offer, Order, Report, Shared, Slot};
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::reach::Reach;
use crate::told::Told;

/// What one stream may buffer of an answer without asking, and of a request.
const FREE: (usize, usize) = (64 << 10, 4 << 10);

/// Carries the questions and answers of DHTs over the swarm that it is part of.
///
/// It does what [`NetCommand`]s say and tells what happens as [`NetEvent`]s. When the node drops its end of either
/// channel, it forgets every question and request, serves nobody, and says [`Stopped`]; the swarm's other behaviours go on.
pub struct Behaviour {
    shared: Shared,
    /// `None` when the node is gone.
    commands: Option<UnboundedReceiver<NetCommand>>,
    events: UnboundedSender<NetEvent>,
    serving: BTreeSet<RouterId>,
    asks: Asks,
    connections: BTreeMap<ConnectionId, PeerId>,
    unanswered: BTreeMap<InboundId, (ConnectionId, Slot)>,
    next_inbound: u64,
    told: Told,
    reach: Reach,
    orders: VecDeque<(ConnectionId, Order)>,
    timer: Option<(Instant, Delay)>,
    /// Whether the swarm is to be told that the node is gone.
    stopped: bool,
}

/// The node is gone: it has dropped its end of the commands or of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// How much a [`Behaviour`] holds at the moment.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub asks: usize,
    pub dials: usize,
    pub peers: usize,
    pub connections: usize,
    pub unanswered: usize,
    pub outbound_streams: usize,
    pub inbound_streams: usize,
    pub buffered: usize,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("serving", &self.serving).field("usage", &self.usage()).finish()
    }
}

impl Behaviour {
    /// A behaviour for the DHTs that `protocols` names, each with its protocol on the wire.
    pub fn new(
        protocols: Vec<(RouterId, StreamProtocol)>,
        limits: Limits,
        commands: UnboundedReceiver<NetCommand>,
        events: UnboundedSender<NetEvent>,
    ) -> Self {
        let protocols = protocols.into_iter().map(|(router, protocol)| Offer { router, protocol }).collect();
        let shared = Shared {
            limits,
            protocols,
            asking: Ledger::new(FREE.0, limits.answer_bytes),
            serving: Ledger::new(FREE.1, limits.request_bytes),
        };
        Self {
            shared,
            commands: Some(commands),
            events,
            serving: BTreeSet::new(),
            asks: Asks::new(limits),
            connections: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            next_inbound: 0,
            told: Told::new(limits),
            reach: Reach::default(),
            orders: VecDeque::new(),
            timer: None,
            stopped: false,
        }
    }

    /// Tells where a connected peer listens by its own account: the `listen_addrs` of identify's `Event::Received`.
    ///
    /// Without this the behaviour learns addresses as they are new to the swarm's identify, which is enough for most;
    /// with it, they are all of the peer's own addresses and nothing else.
    pub fn on_identify(&mut self, peer: PeerId, listen_addrs: &[Multiaddr]) {
        let news = self.told.on_listens(peer, listen_addrs);
        self.tell(news);
    }

    /// How much is held at the moment.
    #[doc(hidden)]
    pub fn usage(&self) -> Usage {
        let Shared { asking, serving, .. } = &self.shared;
        Usage {
            asks: self.asks.pending(),
            dials: self.asks.dials(),
            peers: self.asks.peers() + self.told.len().0,
            connections: self.connections.len(),
            unanswered: self.unanswered.len(),
            outbound_streams: asking.streams(),
            inbound_streams: serving.streams(),
            buffered: asking.bytes() + serving.bytes(),
        }
    }

    fn tell(&mut self, event: impl IntoIterator<Item = NetEvent>) {
        for event in event {
            // A node that hears nothing is gone.
            if self.events.unbounded_send(event).is_err() {
                self.stop();
            }
        }
    }

    fn carry_out(&mut self, command: NetCommand) {
        match command {
            NetCommand::Ask { router, id, peer, addresses, request, timeout } => match self.protocol(router) {
                Some(protocol) => {
                    let ask = Ask { router, id, protocol, peer, addresses, request, timeout };
                    self.asks.ask(Instant::now(), ask);
                }
                None => {
                    tracing::warn!(%router, "a question for a DHT that this network does not carry");
                    self.tell([NetEvent::Response { router, id, result: Err(RpcError::Unsupported) }]);
                }
            },
            NetCommand::Connect { peer, addresses } => self.asks.connect(peer, addresses),
            NetCommand::Reply { to, response } => self.reply(to, response),
            NetCommand::Serve { router, serving } => {
                let changed = match serving {
                    true => self.protocol(router).is_some() && self.serving.insert(router),
                    false => self.serving.remove(&router),
                };
                if changed {
                    tracing::debug!(%router, serving, "serving changed");
                    let offers = self.offers();
                    self.order_all(|| Order::Serve(offers.clone()));
                }
            }
            other => tracing::warn!(?other, "a command that this network does not know"),
        }
    }

    fn protocol(&self, router: RouterId) -> Option<StreamProtocol> {
        let mut protocols = self.shared.protocols.iter();
        protocols.find(|offer| offer.router == router).map(|offer| offer.protocol.clone())
    }

    fn offers(&self) -> Arc<[Offer]> {
        self.shared.protocols.iter().filter(|offer| self.serving.contains(&offer.router)).cloned().collect()
    }

    fn handler(&self) -> Handler {
        Handler::new(self.shared.clone(), self.offers())
    }

    fn order_all(&mut self, order: impl Fn() -> Order) {
        self.orders.extend(self.connections.keys().map(|connection| (*connection, order())));
    }

    fn reply(&mut self, to: InboundId, response: Result<Response, Refused>) {
        // A connection that has closed in the meantime took its requests with it.
        let Some((connection, slot)) = self.unanswered.remove(&to) else { return };
        if let Err(refused) = &response {
            tracing::debug!(code = refused.code(), "a request is refused");
        }
        self.orders.push_back((connection, Order::Reply { slot, response: response.ok() }));
    }

    fn on_request(&mut self, peer: PeerId, connection: ConnectionId, slot: Slot, router: RouterId, request: Request) {
        if self.commands.is_none() || self.unanswered.len() >= self.shared.limits.unanswered {
            tracing::debug!(%peer, "a request is refused: the node is gone, or has too many to answer");
            self.orders.push_back((connection, Order::Reply { slot, response: None }));
            return;
        }
        let id = InboundId(self.next_inbound);
        self.next_inbound += 1;
        self.unanswered.insert(id, (connection, slot));
        self.tell([NetEvent::Request { router, id, peer, request }]);
    }

    /// The node is gone.
    fn stop(&mut self) {
        if self.commands.take().is_some() {
            tracing::debug!("the node is gone; its network serves nobody from now on");
            self.asks.clear();
            self.serving.clear();
            self.unanswered.clear();
            self.orders.clear();
            self.timer = None;
            self.stopped = true;
            self.order_all(|| Order::Stop);
        }
    }

    /// What the swarm is to do for the questions.
    fn next_step(&mut self) -> Option<ToSwarm<Stopped, Order>> {
        loop {
            match self.asks.next_step()? {
                Step::Dial(opts) => return Some(ToSwarm::Dial { opts }),
                Step::Put { peer, connection, question } => {
                    return Some(order(peer, connection, Order::Put(question)));
                }
                Step::Close { peer: peer_id, connection } => {
                    return Some(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
                }
                Step::Done { router, id, result } => self.tell([NetEvent::Response { router, id, result }]),
            }
        }
    }

    /// Whether a deadline has come.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.asks.next_deadline() else {
            self.timer = None;
            return false;
        };
        let timer = match &mut self.timer {
            Some((at, timer)) if *at == due => timer,
            _ => {
                let timer = Delay::new(due.saturating_duration_since(Instant::now()));
                &mut self.timer.insert((due, timer)).1
            }
        };
        if timer.poll_unpin(cx).is_pending() {
            return false;
        }
        self.timer = None;
        self.asks.on_timeout(Instant::now().max(due));
        true
    }
}

fn order(peer_id: PeerId, connection: ConnectionId, event: Order) -> ToSwarm<Stopped, Order> {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Stopped;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if self.reach.on_swarm_event(&event) {
            let addresses = self.reach.event();
            self.tell([addresses]);
        }
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                self.connections.insert(connection_id, peer_id);
                let dialled = endpoint.is_dialer().then(|| endpoint.get_remote_address());
                let news = self.told.on_connected(peer_id, dialled);
                self.tell(news);
                self.asks.on_connected(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, remaining_established, .. }) => {
                self.connections.remove(&connection_id);
                self.unanswered.retain(|_, (connection, _)| *connection != connection_id);
                self.orders.retain(|(connection, _)| *connection != connection_id);
                if remaining_established == 0 {
                    self.told.on_disconnected(peer_id);
                }
                self.asks.on_closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, connection_id }) => {
                let raced = matches!(error, DialError::DialPeerConditionFalse(_));
                self.asks.on_dial_failed(peer, connection_id, raced);
            }
            FromSwarm::NewExternalAddrOfPeer(new) => {
                let news = self.told.on_address(new.peer_id, new.addr);
                self.tell(news);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, report: Report) {
        match report {
            Report::Answer { id, result } => self.asks.on_answer(id, result),
            Report::Request { slot, router, request } => self.on_request(peer, connection, slot, router, request),
            Report::Serves(serves) => {
                let news = self.told.on_serves(peer, serves);
                self.tell(news);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Stopped, Order>> {
        loop {
            if let Some(step) = self.next_step() {
                return Poll::Ready(step);
            }
            if let Some((connection, event)) = self.orders.pop_front() {
                if let Some(peer) = self.connections.get(&connection) {
                    return Poll::Ready(order(*peer, connection, event));
                }
                continue;
            }
            if std::mem::take(&mut self.stopped) {
                return Poll::Ready(ToSwarm::GenerateEvent(Stopped));
            }
            let Some(commands) = &mut self.commands else { return Poll::Pending };
            match commands.poll_next_unpin(cx) {
                Poll::Ready(Some(command)) => self.carry_out(command),
                Poll::Ready(None) => self.stop(),
                Poll::Pending if self.poll_deadline(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
