//! Routers that an application brings.

use bytes::Bytes;
use futures_channel::mpsc::UnboundedSender;
use ipns_core::engine::Input;
use ipns_core::routing::{RouteError, RouteId, RouteUpdate, Tally};
use ipns_core::{Name, Verified};

use crate::runtime::BoxFuture;

/// A place of the application's own where records are looked for and sent to.
///
/// What it finds is verified and compared like every router's answer, so it need not do either. A future that is
/// dropped must stop what it does.
pub trait Router: Send + Sync + 'static {
    /// Looks for records of `name` and hands each to `found`. Says how many peers answered, of how many asked; a
    /// router that is one peer and has nothing says [`Tally::ONE`] too, for it did answer.
    fn get(&self, name: Name, found: Found) -> BoxFuture<Result<Tally, RouteError>>;

    /// Takes a record.
    fn put(&self, record: Verified) -> BoxFuture<Result<Tally, RouteError>>;
}

/// Where a [`Router`] hands what it finds.
#[derive(Debug, Clone)]
pub struct Found {
    pub(crate) id: RouteId,
    pub(crate) inputs: UnboundedSender<Input>,
}

impl Found {
    /// Hands over bytes that claim to be a record.
    pub fn record(&self, bytes: impl Into<Bytes>) {
        // A node that is gone needs no records.
        let _ = self.inputs.unbounded_send(Input::Routed { id: self.id, update: RouteUpdate::Record(bytes.into()) });
    }
}
