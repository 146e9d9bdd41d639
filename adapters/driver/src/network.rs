//! The link between a node and the network that carries the questions of its DHTs.

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use ipns_core::routing::{NetCommand, NetEvent};

/// A node's end of the link, for [`Builder::network`](crate::Builder::network).
///
/// What goes through it is bounded by the two ends: a node has only so many questions out, and a network takes only
/// so many requests of others before the node has answered.
#[derive(Debug)]
pub struct Network {
    pub(crate) commands: UnboundedSender<NetCommand>,
    pub(crate) events: UnboundedReceiver<NetEvent>,
}

/// The network's end of the link: what it is to do, and where to it tells what happens. When the commands end, the
/// node has stopped.
#[derive(Debug)]
pub struct NetworkEnd {
    /// What the network is to do.
    pub commands: UnboundedReceiver<NetCommand>,
    /// Where what happens goes.
    pub events: UnboundedSender<NetEvent>,
}

/// A new link.
pub fn link() -> (Network, NetworkEnd) {
    let (command_sender, commands) = unbounded();
    let (events, event_receiver) = unbounded();
    (Network { commands: command_sender, events: event_receiver }, NetworkEnd { commands, events })
}
