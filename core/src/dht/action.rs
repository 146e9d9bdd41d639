//! What a query is told, and what it wants done.

use core::time::Duration;
use std::collections::BTreeSet;

use libp2p_identity::PeerId;

use super::address::Group;
use super::message::{PeerInfo, Request, Response};
use super::output::Event;
use super::peers::Lead;
use super::rpc::RpcError;
use crate::record::Checks;

/// Why a query asks a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A step of the walk.
    Walk,
    /// To hand over what is put or provided.
    Send,
    /// To replace an older record.
    Correct,
}

/// What a query wants done.
#[derive(Debug)]
pub(crate) enum Action {
    Ask(PeerInfo, Request, Role),
    /// The peer is about to be sent something.
    Connect(PeerInfo),
    /// Peers crowd about the target: all that are around it are to be found, by others than those.
    Explore,
    Tell(Event),
}

/// A question that a query asked, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) role: Role,
    pub(crate) peer: &'a PeerId,
    pub(crate) request: &'a Request,
    pub(crate) result: Result<&'a Response, RpcError>,
    /// The networks that the peer is in, where that matters.
    pub(crate) groups: &'a BTreeSet<Group>,
    /// The peers that the answer names, made fit for use.
    pub(crate) leads: &'a [Lead],
}

/// What a query needs to know beside its own state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) now: Duration,
    pub(crate) checks: Checks,
    pub(crate) k: usize,
    pub(crate) holders: usize,
}
