//! What a router is to the engine: a place to ask for records and to send them to.

use core::fmt;
use core::time::Duration;

use super::http::client::Endpoint;
use crate::dht;

/// A router of one engine: its place in [`Config::routers`](crate::engine::Config::routers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub u16);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "router {}", self.0)
    }
}

/// Beyond what any operation of a node takes.
const DHT_TIMEOUT: Duration = Duration::from_secs(90);

/// How a router is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Transport {
    /// Delegated Routing V1 over HTTP.
    Http(Endpoint),
    /// A DHT, in which the engine has a node of its own: it emits [`Output::Net`](crate::engine::Output::Net).
    Dht(Box<dht::Config>),
    /// A router that the application brings: the engine emits [`Output::Route`](crate::engine::Output::Route).
    External,
}

/// A router and its part in the composition.
///
/// Routers of one tier are asked at once. A tier is asked as soon as all lower ones have answered without a record,
/// and in any case `hedge` after the beginning, so that results are compared even when the first is slow.
#[derive(Debug, Clone)]
pub struct Router {
    /// What receipts call it.
    pub label: String,
    /// How it is reached.
    pub transport: Transport,
    /// Its priority; lower is sooner. Tier 0 is the local store, so routers begin at 1.
    pub tier: u8,
    /// How many answers one of its answers counts for, where a caller asks for a number of them. At least 1.
    pub weight: u32,
    /// After what time it is asked although a lower tier has not answered yet.
    pub hedge: Duration,
    /// Whether it is asked for records.
    pub read: bool,
    /// Whether records are sent to it.
    pub write: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Router {
    /// An HTTP endpoint in the first tier.
    pub fn http(endpoint: Endpoint) -> Self {
        Self {
            label: endpoint.label(),
            read: endpoint.read,
            write: endpoint.write,
            timeout: endpoint.timeout,
            ..Self::external("", Transport::Http(endpoint))
        }
    }

    /// A node of a DHT in the first tier, asked and sent to. It bounds the time of its operations itself.
    pub fn dht(label: impl Into<String>, config: dht::Config) -> Self {
        Self { timeout: DHT_TIMEOUT, ..Self::external(label, Transport::Dht(Box::new(config))) }
    }

    /// A router that the application brings, in the first tier, asked and sent to, 10 s an attempt.
    pub fn custom(label: impl Into<String>) -> Self {
        Self::external(label, Transport::External)
    }

    fn external(label: impl Into<String>, transport: Transport) -> Self {
        Self {
            label: label.into(),
            transport,
            tier: 1,
            weight: 1,
            hedge: Duration::ZERO,
            read: true,
            write: true,
            timeout: Duration::from_secs(10),
        }
    }
}
