//! What each router said, told truly.

use core::time::Duration;

use super::call::{CallEnd, Calls, PeerReceipt, RouteError, Tally};
use super::router::RouterId;

/// What one router said to one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The router.
    pub router: RouterId,
    /// Its label.
    pub label: String,
    /// How many peers answered or took the record, or why none did.
    pub outcome: Result<Tally, RouteError>,
    /// What each peer of a DHT said to a record, as far as it had answered, in the order of the answers.
    pub peers: Vec<PeerReceipt>,
    /// The sequence of the newest valid record it answered with, when it was asked for one.
    pub sequence: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// From the first attempt to the outcome.
    pub elapsed: Duration,
}

impl Receipt {
    pub(crate) fn new(now: Duration, end: CallEnd, calls: &Calls) -> Self {
        Self {
            router: end.router,
            label: calls.router(end.router).label.clone(),
            outcome: end.result,
            peers: end.peers,
            sequence: None,
            attempts: end.attempts,
            elapsed: now.saturating_sub(end.started),
        }
    }

    /// Whether the router did what it was asked.
    pub fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }
}
