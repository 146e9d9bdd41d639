//! How an engine is set up, and the limits that bound it.

use core::time::Duration;

use crate::record::{DEFAULT_LIFETIME, DEFAULT_TTL};
use crate::routing::Router;

use super::keep::Keeping;

/// The settings of an engine. [`Default`] is what most want, without any router.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where records are looked for and sent to.
    pub routers: Vec<Router>,
    /// How long a published record is valid, unless the publish says otherwise.
    pub lifetime: Duration,
    /// How long resolvers may keep a published record, unless the publish says otherwise.
    pub ttl: Duration,
    /// How long a resolve may take.
    pub resolve_timeout: Duration,
    /// How long a publish may take in all.
    pub publish_timeout: Duration,
    /// How long a publish looks for a newer record in the network before it goes on with what it knows.
    pub read_timeout: Duration,
    /// How long a router that has failed may still hold up an operation that every healthy one has answered.
    pub failing_grace: Duration,
    /// How many names a recursive resolve follows.
    pub max_depth: usize,
    /// How long after its end of life a record is still taken, for clocks that differ.
    pub tolerance: Duration,
    /// How far the wall clock may be from the routers' before that is reported.
    pub clock_drift: Duration,
    /// Whether routers that answer with an older record are sent the newer one.
    pub correct: bool,
    /// How own and followed names are kept alive; `None` for a node that lives only for a moment: it lists them, and sends
    /// none of its own accord.
    pub keep: Option<Keeping>,
    /// Records kept in memory.
    pub cache_entries: usize,
    /// Bytes of records kept in memory.
    pub cache_bytes: usize,
    /// Records kept in the store, beside the node's own.
    pub max_records: usize,
    /// Operations of the application under way at once.
    pub max_operations: usize,
    /// Requests of others being answered at once.
    pub max_requests: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routers: Vec::new(),
            lifetime: DEFAULT_LIFETIME,
            ttl: DEFAULT_TTL,
            resolve_timeout: Duration::from_secs(60),
            publish_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(15),
            failing_grace: Duration::from_millis(500),
            max_depth: 32,
            tolerance: Duration::ZERO,
            clock_drift: Duration::from_secs(120),
            correct: true,
            keep: Some(Keeping::default()),
            cache_entries: 4096,
            cache_bytes: 8 << 20,
            max_records: 100_000,
            max_operations: 10_000,
            max_requests: 1_024,
        }
    }
}
