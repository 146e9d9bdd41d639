//! A bare peer that asks single questions: what a node answers to exactly this.

use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use ipns_core::Name;
use ipns_core::dht::{PeerInfo, Request, Response, RpcError, RpcId, ValueRecord};
use ipns_core::routing::{NetCommand, NetEvent, RouterId};
use ipns_libp2p::{Node, NodeConfig};
use libp2p::StreamProtocol;
use libp2p_identity::Keypair;

use crate::on::On;

pub(crate) struct Asker {
    commands: UnboundedSender<NetCommand>,
    events: UnboundedReceiver<NetEvent>,
    next: u64,
    _network: Node,
}

impl Asker {
    pub(crate) async fn new(on: On, protocol: &str) -> Self {
        let (commands, from_node) = unbounded();
        let (to_node, events) = unbounded();
        let protocols = vec![(RouterId(0), StreamProtocol::try_from_owned(protocol.to_owned()).unwrap())];
        let config = NodeConfig { autonat: false, ..NodeConfig::default() };
        let key = Keypair::generate_ed25519();
        let (network, life) =
            ipns_libp2p::node(&on.platform(), config, key, protocols, from_node, to_node).await.unwrap();
        on.detach(life);
        Self { commands, events, next: 0, _network: network }
    }

    /// Sends a question without waiting for its answer.
    pub(crate) fn send(&mut self, to: &PeerInfo, request: Request) -> RpcId {
        self.next += 1;
        let id = RpcId(self.next);
        let PeerInfo { id: peer, addresses } = to.clone();
        let timeout = Duration::from_secs(10);
        let ask = NetCommand::Ask { router: RouterId(0), id, peer, addresses, request, timeout };
        self.commands.unbounded_send(ask).unwrap();
        id
    }

    /// The answer to a question that was sent; those to others are thrown away.
    pub(crate) async fn answer(&mut self, wanted: RpcId) -> Result<Response, RpcError> {
        loop {
            if let NetEvent::Response { id, result, .. } = self.events.next().await.unwrap()
                && id == wanted
            {
                return result;
            }
        }
    }

    pub(crate) async fn ask(&mut self, to: &PeerInfo, request: Request) -> Result<Response, RpcError> {
        let id = self.send(to, request);
        self.answer(id).await
    }

    /// What a node answers of a name: the bytes of the record that it keeps.
    pub(crate) async fn record(&mut self, of: &PeerInfo, name: &Name) -> Option<bytes::Bytes> {
        match self.ask(of, Request::GetValue { key: name.routing_key().into() }).await {
            Ok(Response::GetValue { record, .. }) => record.map(|record| record.value),
            other => panic!("{other:?}"),
        }
    }
}

/// The request that puts these bytes under a name.
pub(crate) fn put_bytes(name: &Name, value: bytes::Bytes) -> Request {
    Request::PutValue { record: ValueRecord { key: name.routing_key().into(), value, received: None } }
}
