//! `/metrics` in OpenMetrics text.
//!
//! | metric | kind | says |
//! |---|---|---|
//! | `ipns_build_info{version}` | info | what runs |
//! | `ipns_start_time_seconds` | gauge | since when, in Unix time |
//! | `ipns_publishes_total{result}`, `ipns_resolves_total{result}` | counter | operations that ended, `ok` or `failed` |
//! | `ipns_kept_total{result}` | counter | turns of kept names, `ok` when a router took the record, or `failed` |
//! | `ipns_not_renewed_total` | counter | times that an own record was to be signed anew and was not |
//! | `ipns_expiring_total` | counter | kept records that were reported to end soon, or to have ended |
//! | `ipns_publish_seconds`, `ipns_resolve_seconds` | histogram, one bucket | how long the successful ones took |
//! | `ipns_router_requests_total` | counter | HTTP requests sent to routers |
//! | `ipns_routing_served_total` | counter | routing requests of others answered |
//! | `ipns_conflicts_total` | counter | foreign records of own names found in the network |
//! | `ipns_corrections_total` | counter | routers that were sent a newer record than they held |
//! | `ipns_store_commits_total`, `ipns_store_failures_total` | counter | durable commits; failures in the background |
//! | `ipns_operations` | gauge | operations and requests under way |
//! | `ipns_own_names`, `ipns_followed_names` | gauge | names that this node publishes; those of others that it keeps |
//! | `ipns_dht_asked_total` | counter | questions asked of peers in DHTs |
//! | `ipns_dht_answered_total{result}` | counter | questions of peers in DHTs, `served` or `refused` |
//! | `ipns_dht_joined` | gauge | DHTs in which the node is joined |
//! | `ipns_dht_live_peers`, `ipns_dht_known_peers` | gauge | live peers in the routing tables; servers remembered |
//! | `ipns_dht_records`, `ipns_dht_providers` | gauge | records and provider records kept for others |
//! | `ipns_http_requests_total{route,status}` | counter | HTTP requests answered |
//! | `ipns_http_request_seconds{route}` | histogram | time to the head of the response |
//! | `ipns_http_connections` | gauge | open connections |
//! | `ipns_http_connections_refused_total` | counter | connections turned away because there were too many |

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use ipns_core::Timestamp;
use ipns_driver::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The content type of OpenMetrics 1.0 text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From an answer out of memory to a resolve that uses up its time.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

/// What is counted here, and where it is written out.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge,
    pub(crate) refused: Counter,
}

impl Metrics {
    pub(crate) fn new(node: Handle, started: Timestamp) -> Self {
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            connections: Gauge::default(),
            refused: Counter::default(),
        };
        metrics.registered(node, started)
    }

    fn registered(mut self, node: Handle, started: Timestamp) -> Self {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("ipns_build", "What runs", build);
        let start = ConstGauge::new(started.as_unix_secs());
        registry.register_with_unit("ipns_start_time", "When the server started, in Unix time", Unit::Seconds, start);
        registry.register("ipns_http_requests", "HTTP requests answered", self.requests.clone());
        let help = "Time to the head of the response";
        registry.register_with_unit("ipns_http_request", help, Unit::Seconds, self.seconds.clone());
        registry.register("ipns_http_connections", "Open connections", self.connections.clone());
        let help = "Connections turned away because there were too many";
        registry.register("ipns_http_connections_refused", help, self.refused.clone());
        registry.register_collector(Box::new(Node(node)));
        self
    }

    /// A request has been answered.
    pub(crate) fn answered(&self, route: &'static str, status: StatusCode, elapsed: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status: status.as_u16() }).inc();
        self.seconds.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
    }

    /// All of it as text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reads the node's own counters whenever the metrics are.
struct Node(Handle);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.stats();
        let encoder = &mut encoder;
        let ended = |ok, failed| [("ok", ok), ("failed", failed)];
        let (published, resolved) = (stats.published, stats.resolved);
        results(encoder, "ipns_publishes", "Publishes that ended", ended(published, stats.publish_failed))?;
        results(encoder, "ipns_resolves", "Resolves that ended", ended(resolved, stats.resolve_failed))?;
        results(encoder, "ipns_kept", "Turns of kept names", ended(stats.kept, stats.keep_failed))?;
        let answered = [("served", stats.dht_served), ("refused", stats.dht_refused)];
        results(encoder, "ipns_dht_answered", "Questions of peers in DHTs", answered)?;
        let help = "How long successful publishes took";
        took(encoder, "ipns_publish", help, stats.published, stats.publish_micros)?;
        let help = "How long successful resolves took";
        took(encoder, "ipns_resolve", help, stats.resolved, stats.resolve_micros)?;
        for (name, help, count) in [
            ("ipns_router_requests", "HTTP requests sent to routers", stats.http_sent),
            ("ipns_routing_served", "Routing requests of others answered", stats.served),
            ("ipns_conflicts", "Foreign records of own names found in the network", stats.conflicts),
            ("ipns_corrections", "Routers that were sent a newer record than they held", stats.corrected),
            ("ipns_not_renewed", "Times that an own record was to be signed anew and was not", stats.not_renewed),
            ("ipns_expiring", "Kept records that were reported to end soon, or to have ended", stats.expiring),
            ("ipns_store_commits", "Commits that the store made durable", stats.commits),
            ("ipns_store_failures", "Failures of the store in the background", stats.store_failed),
            ("ipns_dht_asked", "Questions asked of peers in DHTs", stats.dht_asked),
        ] {
            ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, value) in [
            ("ipns_operations", "Operations and requests under way", stats.load),
            ("ipns_own_names", "Names that this node publishes", stats.own),
            ("ipns_followed_names", "Names of others that this node keeps alive", stats.followed),
            ("ipns_dht_joined", "DHTs in which the node is joined", stats.dht_joined),
            ("ipns_dht_live_peers", "Live peers in the routing tables", stats.dht_live),
            ("ipns_dht_known_peers", "Servers of DHTs remembered", stats.dht_known),
            ("ipns_dht_records", "Records kept for others in DHTs", stats.dht_records),
            ("ipns_dht_providers", "Provider records kept for others in DHTs", stats.dht_providers),
        ] {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

fn results(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: [(&'static str, u64); 2],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (result, count) in counts {
        ConstCounter::new(count).encode(metric.encode_family(&[("result", result)])?)?;
    }
    Ok(())
}

/// The library knows no summaries; a histogram of one bucket has the same sum and count.
fn took(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64, micros: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    let sum = Duration::from_micros(micros).as_secs_f64();
    metric.encode_histogram::<NoLabelSet>(sum, count, &[(f64::INFINITY, count)], None)
}
