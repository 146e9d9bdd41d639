//! How an application talks to a node.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_channel::oneshot;
use futures_util::Stream;
use ipns_core::dht::{PeerInfo, TableEntry};
use ipns_core::engine::{
    Event, InboundId, OpId, Publication, Publish, PublishError, Put, Resolution, Resolve, ResolveError,
};
use ipns_core::key::Signer;
use ipns_core::routing::{Inquiry, RouterId};
use ipns_core::{Name, Value, Verified};
use thiserror::Error;

use crate::dht::{Answer, DhtHealth};
use crate::keeping::KeepCommand;
use crate::stats::{Counters, Stats};
use crate::work::Signers;

/// The node has been shut down, or its runtime has dropped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// A node, to talk to. Clones talk to the same node; it runs until [`shutdown`](Self::shutdown), or until the last
/// handle is dropped.
#[derive(Clone)]
pub struct Handle {
    pub(crate) commands: UnboundedSender<Command>,
    pub(crate) signers: Signers,
    pub(crate) counters: Arc<Counters>,
}

/// What a handle tells its node.
pub(crate) enum Command {
    Publish(Publish, UnboundedSender<OpId>, oneshot::Sender<Result<Publication, PublishError>>),
    Put(Put, UnboundedSender<OpId>, oneshot::Sender<Result<Publication, PublishError>>),
    Republish(Name, UnboundedSender<OpId>, oneshot::Sender<Result<Publication, PublishError>>),
    Resolve(Name, Resolve, UnboundedSender<OpId>, UnboundedSender<Result<Resolution, ResolveError>>),
    Watch(Name, UnboundedSender<OpId>, UnboundedSender<Verified>),
    Inquire(Option<RouterId>, Inquiry, UnboundedSender<OpId>, UnboundedSender<Answer>),
    Bootstrap(Vec<PeerInfo>),
    Health(oneshot::Sender<Vec<DhtHealth>>),
    Table(RouterId, oneshot::Sender<Vec<TableEntry>>),
    Cancel(OpId),
    Serve(http::Request<Bytes>, UnboundedSender<InboundId>, oneshot::Sender<http::Response<Bytes>>),
    Gone(InboundId),
    Keep(KeepCommand),
    Events(UnboundedSender<Event>),
    Shutdown(Duration, oneshot::Sender<()>),
}

/// Cancels an operation when whoever waits for it goes away.
struct Guard<I> {
    commands: UnboundedSender<Command>,
    id: UnboundedReceiver<I>,
    cancel: fn(I) -> Command,
}

impl<I> Drop for Guard<I> {
    fn drop(&mut self) {
        // The node sends the id once, before anything else can happen to the operation; an operation that has ended
        // is not there any more and nothing is cancelled.
        self.id.close();
        while let Ok(id) = self.id.try_recv() {
            let _ = self.commands.unbounded_send((self.cancel)(id));
        }
    }
}

impl Handle {
    /// Lets the node sign with a key, and publishes `value` under its name with the node's defaults. The first record of a
    /// key that was made just now need not wait for the network to be read if that is [said](Publish::new_key), with
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_value(&self, key: &Arc<dyn Signer>, value: Value) -> Result<Publication, PublishError> {
        self.add_signer(key.clone());
        self.publish(Publish::new(key.public_key(), value)).await
    }

    /// Publishes. The key must have been given to the node with [`add_signer`](Self::add_signer). When the future is
    /// dropped, the publish is cancelled; if it was stored already, its sequence is used up.
    ///
    /// # Errors
    /// See [`PublishError`]. A node that has stopped is `Cancelled`.
    pub async fn publish(&self, what: Publish) -> Result<Publication, PublishError> {
        let (done, result) = oneshot::channel();
        let _guard = self.op(|id| Command::Publish(what, id, done));
        result.await.unwrap_or(Err(PublishError::Cancelled))
    }

    /// Stores and sends a ready record.
    ///
    /// # Errors
    /// See [`PublishError`]. A node that has stopped is `Cancelled`.
    pub async fn put(&self, what: Put) -> Result<Publication, PublishError> {
        let (done, result) = oneshot::channel();
        let _guard = self.op(|id| Command::Put(what, id, done));
        result.await.unwrap_or(Err(PublishError::Cancelled))
    }

    /// Sends a name that is kept alive now, whatever its turn; an own one is signed anew when less than half of its
    /// lifetime is left. When the future is dropped, that is cancelled.
    ///
    /// # Errors
    /// See [`PublishError`]; `NotKept` for a name that is neither own nor followed. A node that has stopped is
    /// `Cancelled`.
    pub async fn republish(&self, name: Name) -> Result<Publication, PublishError> {
        let (done, result) = oneshot::channel();
        let _guard = self.op(|id| Command::Republish(name, id, done));
        result.await.unwrap_or(Err(PublishError::Cancelled))
    }

    /// Resolves a name.
    ///
    /// # Errors
    /// See [`ResolveError`]. A node that has stopped is `Cancelled`.
    pub async fn resolve(&self, name: Name, how: Resolve) -> Result<Resolution, ResolveError> {
        let mut updates = self.resolve_stream(name, Resolve { stream: false, ..how });
        std::future::poll_fn(|cx| Pin::new(&mut updates).poll_next(cx)).await.unwrap_or(Err(ResolveError::Cancelled))
    }

    /// Resolves a name and gives every improvement; the last item is the result. Dropping the stream cancels.
    pub fn resolve_stream(&self, name: Name, how: Resolve) -> Updates<Result<Resolution, ResolveError>> {
        self.updates(|id, updates| Command::Resolve(name, how, id, updates))
    }

    /// Watches a name: its first record and every newer one, until the stream is dropped.
    pub fn watch(&self, name: Name) -> Updates<Verified> {
        self.updates(|id, updates| Command::Watch(name, id, updates))
    }

    /// Lets the node sign with a key, which may be a hardware module or live elsewhere, and says its name.
    pub fn add_signer(&self, signer: Arc<dyn Signer>) -> Name {
        self.signers.add(signer)
    }

    /// Signs with the key of a name no more; says whether the node had it.
    pub fn remove_signer(&self, name: &Name) -> bool {
        self.signers.remove(name)
    }

    /// Answers an HTTP request for `/routing/v1`. The body must be whole, and was to be read only up to
    /// [`MAX_RECORD_BYTES`](ipns_core::record::MAX_RECORD_BYTES) + 1.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn serve(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Stopped> {
        let (done, response) = oneshot::channel();
        let _guard = self.guarded(Command::Gone, |id| Command::Serve(request, id, done));
        response.await.map_err(|_| Stopped)
    }

    /// Everything of note that the node reports, from now on.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        let (events, items) = unbounded();
        let _ = self.commands.unbounded_send(Command::Events(events));
        items
    }

    /// What the node has done so far.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Takes nothing new, lets what is under way end for at most `grace`, closes the store, and returns when all of
    /// it is done.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = self.ask(|done| Command::Shutdown(grace, done)).await;
    }

    pub(crate) fn updates<T>(
        &self,
        make: impl FnOnce(UnboundedSender<OpId>, UnboundedSender<T>) -> Command,
    ) -> Updates<T> {
        let (updates, items) = unbounded();
        Updates { _guard: self.op(|id| make(id, updates)), items }
    }

    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (sender, answer) = oneshot::channel();
        self.commands.unbounded_send(make(sender)).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    fn op(&self, make: impl FnOnce(UnboundedSender<OpId>) -> Command) -> Guard<OpId> {
        self.guarded(Command::Cancel, make)
    }

    fn guarded<I>(&self, cancel: fn(I) -> Command, make: impl FnOnce(UnboundedSender<I>) -> Command) -> Guard<I> {
        let (sender, id) = unbounded();
        // A node that has stopped drops the command, and with it the channel that the caller waits on.
        let _ = self.commands.unbounded_send(make(sender));
        Guard { commands: self.commands.clone(), id, cancel }
    }
}

/// What an operation reports as it goes on. Dropping it cancels the operation.
pub struct Updates<T> {
    _guard: Guard<OpId>,
    items: UnboundedReceiver<T>,
}

impl<T> Stream for Updates<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.items).poll_next(cx)
    }
}
