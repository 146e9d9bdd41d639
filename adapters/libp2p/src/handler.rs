//! One connection: the questions of this node go out on streams of their own, and the streams of the peer are served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use ipns_core::dht::{Request, Response, RpcError};
use ipns_core::routing::RouterId;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};

use crate::asks::{AskId, Question};
use crate::exchange::{exchange, io_error};
use crate::frames::{Frames, within};
use crate::inbound::Inbound;
use crate::ledger::Ledger;
use crate::limits::Limits;

/// One request of a peer on one connection; never used twice there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u64);

/// What a connection is to do.
#[derive(Debug)]
pub enum Order {
    Put(Question),
    /// Answer a request, or reset its stream.
    Reply {
        slot: Slot,
        response: Option<Response>,
    },
    /// Offer these protocols and no others.
    Serve(Vec<Offer>),
    /// Offer nothing, and drop every stream.
    Stop,
}

/// What a connection tells.
#[derive(Debug)]
pub enum Report {
    Answer {
        id: AskId,
        result: Result<Response, RpcError>,
    },
    Request {
        slot: Slot,
        router: RouterId,
        request: Request,
    },
    /// The DHTs whose protocol the peer offers.
    Serves(Vec<RouterId>),
}

/// A protocol that is offered, and the DHT that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub(crate) router: RouterId,
    pub(crate) protocol: StreamProtocol,
}

impl AsRef<str> for Offer {
    fn as_ref(&self) -> &str {
        self.protocol.as_ref()
    }
}

/// The protocols that are offered at the moment.
#[derive(Debug, Clone)]
pub struct Offers(Vec<Offer>);

impl UpgradeInfo for Offers {
    type Info = Offer;
    type InfoIter = std::vec::IntoIter<Offer>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offers {
    type Output = (RouterId, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, offer: Offer) -> Self::Future {
        ready(Ok((offer.router, stream)))
    }
}

/// What the connections of one behaviour share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    /// All protocols, offered or not.
    pub(crate) protocols: Arc<[Offer]>,
    /// The streams on which this node asks.
    pub(crate) asking: Arc<Ledger>,
    /// The streams on which it is asked.
    pub(crate) serving: Arc<Ledger>,
}

type Tasks<T> = FuturesUnordered<BoxFuture<'static, T>>;

/// The handler of one connection.
pub struct Handler {
    shared: Shared,
    offers: Offers,
    /// Questions that wait for a stream.
    questions: VecDeque<Question>,
    /// Streams of ours that are open or about to be.
    outbound: usize,
    exchanges: Tasks<(AskId, Result<Response, RpcError>)>,
    turns: Tasks<Option<(Inbound<Stream>, Request)>>,
    /// Streams whose request the node has not answered yet.
    unanswered: BTreeMap<Slot, Inbound<Stream>>,
    next_slot: u64,
    /// The DHTs whose protocol the peer offers, once it has said what it offers.
    remote: Option<BTreeSet<RouterId>>,
    reports: VecDeque<Report>,
    stopped: bool,
}

impl Handler {
    pub(crate) fn new(shared: Shared, offers: Vec<Offer>) -> Self {
        Self {
            shared,
            offers: Offers(offers),
            questions: VecDeque::new(),
            outbound: 0,
            exchanges: FuturesUnordered::new(),
            turns: FuturesUnordered::new(),
            unanswered: BTreeMap::new(),
            next_slot: 0,
            remote: None,
            reports: VecDeque::new(),
            stopped: false,
        }
    }

    fn on_inbound(&mut self, router: RouterId, stream: Stream) {
        if self.stopped {
            return;
        }
        if self.turns.len() + self.unanswered.len() >= self.shared.limits.inbound_streams {
            tracing::debug!("a peer has too many streams open; another one is reset");
            return;
        }
        let frames = Frames::new(stream, self.shared.serving.open());
        self.turns.push(Inbound::new(router, frames).turn(None, self.shared.limits).boxed());
    }

    fn on_outbound(&mut self, question: Question, stream: Stream) {
        if self.stopped {
            self.outbound -= 1;
            return;
        }
        let Question { id, request, deadline, begun, .. } = question;
        let frames = Frames::new(stream, self.shared.asking.open());
        begun.store(true, Ordering::Release);
        self.exchanges.push(
            async move {
                let left = deadline.saturating_duration_since(Instant::now());
                (id, within(left, exchange(frames, &request)).await.unwrap_or(Err(RpcError::Timeout)))
            }
            .boxed(),
        );
    }

    fn on_protocols(&mut self, change: ProtocolsChange<'_>) {
        let mut remote = self.remote.clone().unwrap_or_default();
        let routers = |protocol: &StreamProtocol| {
            let named = self.shared.protocols.iter().filter(move |offer| offer.protocol == *protocol);
            named.map(|offer| offer.router).collect::<Vec<_>>()
        };
        match change {
            ProtocolsChange::Added(added) => remote.extend(added.flat_map(routers)),
            ProtocolsChange::Removed(removed) => removed.flat_map(routers).for_each(|router| {
                remote.remove(&router);
            }),
        }
        if self.remote.as_ref() != Some(&remote) {
            self.reports.push_back(Report::Serves(remote.iter().copied().collect()));
            self.remote = Some(remote);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Report;
    type InboundProtocol = Offers;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Question;

    fn listen_protocol(&self) -> SubstreamProtocol<Offers> {
        SubstreamProtocol::new(self.offers.clone(), ()).with_timeout(self.shared.limits.frame_timeout)
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Put(question) => self.questions.push_back(question),
            Order::Reply { slot, response } => {
                let Some(inbound) = self.unanswered.remove(&slot) else { return };
                if let Some(response) = response {
                    self.turns.push(inbound.turn(Some(response), self.shared.limits).boxed());
                }
            }
            Order::Serve(offers) => self.offers = Offers(offers),
            Order::Stop => {
                self.stopped = true;
                self.offers = Offers(Vec::new());
                self.questions.clear();
                self.outbound -= self.exchanges.len();
                self.exchanges = FuturesUnordered::new();
                self.turns = FuturesUnordered::new();
                self.unanswered.clear();
                self.reports.clear();
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offers, Self::OutboundProtocol, (), Question>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (router, stream), .. }) => {
                self.on_inbound(router, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.on_outbound(info, stream);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.outbound -= 1;
                let error = match error {
                    StreamUpgradeError::Timeout => RpcError::Timeout,
                    StreamUpgradeError::NegotiationFailed => RpcError::Unsupported,
                    StreamUpgradeError::Io(error) => io_error(&error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.reports.push_back(Report::Answer { id: info.id, result: Err(error) });
            }
            ConnectionEvent::RemoteProtocolsChange(change) => self.on_protocols(change),
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Question, Report>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        if let Poll::Ready(Some((id, result))) = self.exchanges.poll_next_unpin(cx) {
            self.outbound -= 1;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report::Answer { id, result }));
        }
        while let Poll::Ready(Some(turn)) = self.turns.poll_next_unpin(cx) {
            let Some((inbound, request)) = turn else { continue };
            let slot = Slot(self.next_slot);
            self.next_slot += 1;
            let router = inbound.router;
            self.unanswered.insert(slot, inbound);
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report::Request { slot, router, request }));
        }
        while self.outbound < self.shared.limits.outbound_streams
            && let Some(question) = self.questions.pop_front()
        {
            let left = question.deadline.saturating_duration_since(Instant::now());
            // The behaviour has told the node of the time-out already.
            if left.is_zero() {
                continue;
            }
            self.outbound += 1;
            let upgrade = ReadyUpgrade::new(question.protocol.clone());
            let protocol = SubstreamProtocol::new(upgrade, question).with_timeout(left);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }
}
