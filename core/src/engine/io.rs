//! What goes into an engine and what comes out of it.

use core::time::Duration;

use bytes::Bytes;

use crate::key::SignError;
use crate::name::Name;
use crate::routing::{HttpError, HttpId, NetCommand, NetEvent, Operation, RouteId, RouteUpdate, RouterId};
use crate::store::{Entries, StoreError, Table, Write};

use super::event::Event;
use super::ids::{InboundId, SignId, StoreId};

/// What a driver tells the engine.
#[derive(Debug)]
pub enum Input {
    /// Time has passed; to be given when [`Engine::next_timeout`](super::Engine::next_timeout) has come.
    Tick,
    /// The end of an exchange that [`Output::Http`] asked for.
    Http {
        /// Which.
        id: HttpId,
        /// The whole response, its body no longer than asked for.
        result: Result<http::Response<Bytes>, HttpError>,
    },
    /// News of the network of peers.
    Net(NetEvent),
    /// News of an operation that [`Output::Route`] asked for.
    Routed {
        /// Which.
        id: RouteId,
        /// What.
        update: RouteUpdate,
    },
    /// The answer to [`Output::Sign`].
    Signed {
        /// Which.
        id: SignId,
        /// The signature.
        result: Result<Vec<u8>, SignError>,
    },
    /// The answer to [`Output::Store`]; for a commit, after it is durable.
    Stored {
        /// Which.
        id: StoreId,
        /// What the store says.
        result: Result<StoreReply, StoreError>,
    },
    /// Someone asks this node over HTTP; answered by [`Output::Respond`].
    Request {
        /// Chosen by the driver.
        id: InboundId,
        /// The request with its whole body, which the driver has bounded.
        request: http::Request<Bytes>,
    },
    /// Someone who asked is gone.
    RequestGone {
        /// Which.
        id: InboundId,
    },
}

/// What the engine asks of its driver.
#[derive(Debug)]
pub enum Output {
    /// Send an HTTP request and bring its response as [`Input::Http`].
    Http {
        /// Which.
        id: HttpId,
        /// The request, with an absolute URI.
        request: http::Request<Bytes>,
        /// After what time the engine gives the exchange up.
        timeout: Duration,
        /// The largest body to read, in bytes; a larger one is [`HttpError::TooLarge`].
        max_body: usize,
    },
    /// Give an exchange up; no answer is expected.
    CancelHttp(HttpId),
    /// For the network of peers. Without DHT routers there is none.
    Net(NetCommand),
    /// Run an operation on a router that the application brought.
    Route {
        /// Which.
        id: RouteId,
        /// On which router.
        router: RouterId,
        /// What.
        operation: Operation,
    },
    /// Give an operation up; no answer is expected.
    CancelRoute(RouteId),
    /// Sign `message` with the key of `name`.
    Sign {
        /// Which.
        id: SignId,
        /// Whose key.
        name: Name,
        /// The bytes to sign.
        message: Vec<u8>,
    },
    /// A command to the store. Commands take effect in the order in which they come.
    Store(StoreCommand),
    /// Answer a request.
    Respond {
        /// Which.
        to: InboundId,
        /// The whole response.
        response: http::Response<Bytes>,
    },
    /// News for the application.
    Event(Event),
}

/// One command to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCommand {
    /// Which.
    pub id: StoreId,
    /// What.
    pub action: StoreAction,
}

/// What a store is to do; see [`Store`](crate::store::Store) for the meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAction {
    /// Read one entry.
    Get {
        /// Where.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// Read entries in order.
    Scan {
        /// Where.
        table: Table,
        /// After which key.
        after: Option<Vec<u8>>,
        /// How many at most.
        limit: usize,
    },
    /// Write durably, all or nothing.
    Commit(Vec<Write>),
}

/// What a store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    /// To a [`StoreAction::Get`].
    Value(Option<Vec<u8>>),
    /// To a [`StoreAction::Scan`].
    Entries(Entries),
    /// To a [`StoreAction::Commit`].
    Committed,
}
