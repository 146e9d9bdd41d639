//! What a daemon says of itself.

use std::collections::BTreeMap;

use ipns_driver::Stats;
use serde::{Deserialize, Serialize};

use crate::dht::HealthReport;

/// A running daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version of this crate.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has been serving, in seconds.
    pub uptime_s: u64,
    /// Names that it publishes.
    pub own: u64,
    /// Names of others that it keeps alive.
    #[serde(default)]
    pub followed: u64,
    /// Operations and requests under way.
    pub load: u64,
    /// How it stands in each DHT, by the DHT's label.
    #[serde(default)]
    pub dhts: BTreeMap<String, HealthReport>,
    /// What it has done.
    pub stats: StatsReport,
}

/// Counters since the start of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsReport {
    /// Publishes that met their policy.
    pub published: u64,
    /// Publishes that did not.
    pub publish_failed: u64,
    /// The time that successful publishes took, in microseconds.
    pub publish_us: u64,
    /// Resolves that found a record.
    pub resolved: u64,
    /// Resolves that did not.
    pub resolve_failed: u64,
    /// The time that successful resolves took, in microseconds.
    pub resolve_us: u64,
    /// Turns of kept names in which a router took the record.
    pub kept: u64,
    /// Turns of kept names in which none did.
    pub keep_failed: u64,
    /// Times that an own record was to be signed anew and was not.
    pub not_renewed: u64,
    /// Kept records that were reported to end soon, or to have ended.
    pub expiring: u64,
    /// HTTP requests sent to routers.
    pub http_sent: u64,
    /// Routing requests of others answered.
    pub served: u64,
    /// Foreign records of own names found in the network.
    pub conflicts: u64,
    /// Routers that were sent a newer record than they held.
    pub corrected: u64,
    /// Failures of the store in the background.
    pub store_failed: u64,
    /// Commits that the store made durable.
    pub commits: u64,
    /// Questions asked of peers in DHTs.
    pub dht_asked: u64,
    /// Questions of peers in DHTs answered.
    pub dht_served: u64,
    /// Questions of peers in DHTs refused.
    pub dht_refused: u64,
}

impl From<Stats> for StatsReport {
    fn from(stats: Stats) -> Self {
        Self {
            published: stats.published,
            publish_failed: stats.publish_failed,
            publish_us: stats.publish_micros,
            resolved: stats.resolved,
            resolve_failed: stats.resolve_failed,
            resolve_us: stats.resolve_micros,
            kept: stats.kept,
            keep_failed: stats.keep_failed,
            not_renewed: stats.not_renewed,
            expiring: stats.expiring,
            http_sent: stats.http_sent,
            served: stats.served,
            conflicts: stats.conflicts,
            corrected: stats.corrected,
            store_failed: stats.store_failed,
            commits: stats.commits,
            dht_asked: stats.dht_asked,
            dht_served: stats.dht_served,
            dht_refused: stats.dht_refused,
        }
    }
}
