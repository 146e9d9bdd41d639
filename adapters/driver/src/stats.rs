//! What a node has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipns_core::dht::{Health, Standing, Usage};
use ipns_core::engine::Event;
use ipns_core::routing::{NetCommand, RouterId};

/// Counters of one node since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Publishes that met their policy.
    pub published: u64,
    /// Publishes that did not.
    pub publish_failed: u64,
    /// The time that all publishes took, in microseconds.
    pub publish_micros: u64,
    /// Resolves that found a record.
    pub resolved: u64,
    /// Resolves that did not.
    pub resolve_failed: u64,
    /// The time that the successful resolves took, in microseconds.
    pub resolve_micros: u64,
    /// Turns of kept names in which a router took the record.
    pub kept: u64,
    /// Turns of kept names in which none did.
    pub keep_failed: u64,
    /// Times that an own record was to be signed anew and its signer did not.
    pub not_renewed: u64,
    /// Kept records that were reported to end soon, or to have ended.
    pub expiring: u64,
    /// HTTP requests sent to routers.
    pub http_sent: u64,
    /// HTTP requests of others answered.
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
    /// DHTs in which this node is joined.
    pub dht_joined: u64,
    /// Live peers in the routing tables.
    pub dht_live: u64,
    /// Servers of DHTs remembered.
    pub dht_known: u64,
    /// Records kept for others in DHTs.
    pub dht_records: u64,
    /// Provider records kept for others in DHTs.
    pub dht_providers: u64,
    /// Operations and requests under way.
    pub load: u64,
    /// Names that this node publishes.
    pub own: u64,
    /// Names of others that this node keeps alive.
    pub followed: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    pub(crate) publish_failed: AtomicU64,
    pub(crate) publish_micros: AtomicU64,
    pub(crate) resolved: AtomicU64,
    pub(crate) resolve_failed: AtomicU64,
    pub(crate) resolve_micros: AtomicU64,
    kept: AtomicU64,
    keep_failed: AtomicU64,
    not_renewed: AtomicU64,
    expiring: AtomicU64,
    pub(crate) http_sent: AtomicU64,
    pub(crate) served: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) corrected: AtomicU64,
    pub(crate) store_failed: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) dht_asked: AtomicU64,
    pub(crate) dht_served: AtomicU64,
    pub(crate) dht_refused: AtomicU64,
    dht_joined: AtomicU64,
    dht_live: AtomicU64,
    dht_known: AtomicU64,
    dht_records: AtomicU64,
    dht_providers: AtomicU64,
    pub(crate) load: AtomicU64,
    pub(crate) own: AtomicU64,
    pub(crate) followed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn event(&self, event: &Event) {
        let time = |counter: &AtomicU64, elapsed: Duration| {
            counter.fetch_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        match event {
            Event::Published { result: Ok(publication), .. } => {
                count(&self.published);
                time(&self.publish_micros, publication.elapsed);
            }
            Event::Published { result: Err(_), .. } => count(&self.publish_failed),
            Event::Resolved { result: Ok(resolution), .. } => {
                count(&self.resolved);
                time(&self.resolve_micros, resolution.elapsed);
            }
            Event::Resolved { result: Err(_), .. } => count(&self.resolve_failed),
            Event::Kept { result: Ok(_), .. } => count(&self.kept),
            Event::Kept { result: Err(_), .. } => count(&self.keep_failed),
            Event::NotRenewed { .. } => count(&self.not_renewed),
            Event::Expiring { .. } => count(&self.expiring),
            Event::Conflict { .. } => count(&self.conflicts),
            Event::Corrected { ok: true, .. } => count(&self.corrected),
            Event::StoreFailed { .. } => count(&self.store_failed),
            _ => {}
        }
    }

    pub(crate) fn net(&self, command: &NetCommand) {
        match command {
            NetCommand::Ask { .. } => count(&self.dht_asked),
            NetCommand::Reply { response: Ok(_), .. } => count(&self.dht_served),
            NetCommand::Reply { response: Err(_), .. } => count(&self.dht_refused),
            _ => {}
        }
    }

    /// How the node stands in its DHTs at present.
    pub(crate) fn dht(&self, all: impl Iterator<Item = (RouterId, Health, Usage)>) {
        let mut sums = [0; 5];
        for (_, health, usage) in all {
            let joined = usize::from(health.standing == Standing::Joined);
            let counts = [joined, health.live, health.known, usage.values, usage.providers];
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count as u64);
        }
        let gauges = [&self.dht_joined, &self.dht_live, &self.dht_known, &self.dht_records, &self.dht_providers];
        gauges.iter().zip(sums).for_each(|(gauge, sum)| gauge.store(sum, Ordering::Relaxed));
    }

    pub(crate) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            published: get(&self.published),
            publish_failed: get(&self.publish_failed),
            publish_micros: get(&self.publish_micros),
            resolved: get(&self.resolved),
            resolve_failed: get(&self.resolve_failed),
            resolve_micros: get(&self.resolve_micros),
            kept: get(&self.kept),
            keep_failed: get(&self.keep_failed),
            not_renewed: get(&self.not_renewed),
            expiring: get(&self.expiring),
            http_sent: get(&self.http_sent),
            served: get(&self.served),
            conflicts: get(&self.conflicts),
            corrected: get(&self.corrected),
            store_failed: get(&self.store_failed),
            commits: get(&self.commits),
            dht_asked: get(&self.dht_asked),
            dht_served: get(&self.dht_served),
            dht_refused: get(&self.dht_refused),
            dht_joined: get(&self.dht_joined),
            dht_live: get(&self.dht_live),
            dht_known: get(&self.dht_known),
            dht_records: get(&self.dht_records),
            dht_providers: get(&self.dht_providers),
            load: get(&self.load),
            own: get(&self.own),
            followed: get(&self.followed),
        }
    }
}
